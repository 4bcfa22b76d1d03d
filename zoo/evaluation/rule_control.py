"""A control without a model: what a rule without learning scores on the same samples."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from zoo.data.content import Content
from zoo.data.rule import find_offset, read_content
from zoo.errors import MediaError, NothingToMeasureError
from zoo.evaluation.sample_sources import Samples
from zoo.media.apart import reading_apart
from zoo.timeline import OffsetGrid, Sample

log = logging.getLogger(__name__)


def score_rule(samples: Sequence[Sample], source: Samples, grid: OffsetGrid) -> dict[str, float]:
    """Score the rule on the same crops at the same offsets; every clip is read once.

    Args:
        samples: of the clips, in sync; their targets are classes of the grid.
        source: of the samples.
        grid: the offset classes, of which the nearest one is the rule's answer.

    Returns:
        ``accuracy``, ``within_one``, ``mean_abs_error_s``, ``num``, and ``num_guessed``: in how
        many samples there is nothing to hear or to see.  Their answer is 0 s.
    """
    of_clip = defaultdict(list)
    for sample in samples:
        of_clip[sample.clip].append(sample)
    answers: list[int] = []
    targets: list[int] = []
    num_guessed = 0
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        with reading_apart():
            contents = pool.map(_read, (source.clips[clip].path for clip in of_clip))
            for content, chosen in zip(contents, of_clip.values(), strict=True):
                for sample in chosen:
                    found_s = _answer(content, sample, source.layout.covered_s, grid.reach_s)
                    num_guessed += found_s is None
                    answers.append(grid.class_of(found_s or 0.0))
                    targets.append(sample.target)
    finally:
        pool.shutdown(cancel_futures=True)
    distance = np.abs(np.subtract(answers, targets))
    return {
        "accuracy": float((distance == 0).mean()),
        "within_one": float((distance <= 1).mean()),
        "mean_abs_error_s": float(distance.mean() * grid.step_s),
        "num": len(distance),
        "num_guessed": num_guessed,
    }


def _read(path: Path) -> Content | None:
    try:
        return read_content(path)
    except MediaError as error:  # though it was read for the model, in parts
        log.warning("the rule without learning guesses for %s: %s", path.name, error)
        return None


def _answer(
    content: Content | None, sample: Sample, length_s: float, reach_s: float
) -> float | None:
    if content is None:
        return None
    starts_s = {"audio_s": sample.audio_start_s, "video_s": sample.vision_start_s}
    try:
        return find_offset(content, reach_s, **starts_s, length_s=length_s).offset_s
    except NothingToMeasureError:
        return None
