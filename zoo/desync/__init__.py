"""DeSync: how far generated sound is off, as video-to-audio work reports it.

>>> from zoo.desync import score
>>> result = score("tiny-synthetic", "videos", "generated", mode="published")
>>> result.desync_s, result.summary["scored"], result.summary["clips"]

What both modes do, and how they differ, is described in docs/desync.md.
"""

from zoo.desync.pairs import Pair, pair_clips
from zoo.desync.results import ClipScore
from zoo.desync.run import Result, score
from zoo.desync.settings import Mode, Settings

__all__ = ["ClipScore", "Mode", "Pair", "Result", "Settings", "pair_clips", "score"]
