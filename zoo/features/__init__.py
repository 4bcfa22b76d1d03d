"""Segment tokens of clips, before and after the aggregators, with the time of each.

>>> from zoo.features import extract
>>> extract("tiny-synthetic", "clips", "tokens", preset="v2a").index

What is in the files is described in docs/features.md.
"""

from zoo.features.feature_settings import Settings
from zoo.features.many_clips import Result, extract

__all__ = ["Result", "Settings", "extract"]
