"""DeSync: how far generated audio is off, as video-to-audio work reports it.

>>> from zoo.desync import score
>>> result = score("tiny-synthetic", "videos", "generated", mode="published")
>>> result.desync_s, result.summary["scored"], result.summary["clips"]

What the modes do, and how they differ, is described in docs/desync.md.
"""

from zoo.desync.pairs import Pair, pair_clips
from zoo.desync.score_clips import Result, score
from zoo.desync.score_settings import Mode, Settings
from zoo.desync.scores import ClipScore

__all__ = ["ClipScore", "Mode", "Pair", "Result", "Settings", "pair_clips", "score"]
