"""What do predict and fix say of drawn clips whose offset is known, and of foreign sound?

    python benchmarks/answers.py [--model tiny-synthetic] [--clips 100]

Prints tables like those of docs/predict.md and docs/repair.md.  Every clip is shifted by a random
amount of up to 1.9 s, off the grid; the same clips then get the sound of the one before.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.common.markdown import table
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.errors import MediaError, RepairError
from zoo.inference.load import load_offsets
from zoo.inference.offset_predictor import FINE_STEP_S, OffsetPredictor
from zoo.inference.prediction import HOPELESS, SYNCHRONIZABLE, Prediction
from zoo.inference.repair import MIN_CONFIDENCE, doubts, repair
from zoo.media import shift_audio

SEED, REACH_S = 4242, 1.9
SURE = 0.8
STEPS_S = (None, FINE_STEP_S)


@dataclass(frozen=True)
class Shifted:
    """A clip whose audio was moved.

    Attributes:
        path: the clip.
        offset_s: how early its audio is, seconds.
        foreign: another clip, whose sound does not belong to it.
    """

    path: Path
    offset_s: float
    foreign: Path


def main() -> None:
    """Render, ask, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny-synthetic", help="name or folder of a model")
    parser.add_argument("--clips", type=int, default=100)
    options = parser.parse_args()
    predictor = load_offsets(options.model)
    with _clips(options.clips) as clips:
        print(table(["offset", "median", "90 % below", "worst", "off by more than 0.3 s"],
                    _offsets(predictor, clips)), end="\n\n")  # fmt: skip
        print(table(["refused by", "repaired", "audio of another clip, not refused"],
                    _refusals(predictor, clips)), end="\n\n")  # fmt: skip
        print(_repairs(predictor, clips))


@contextmanager
def _clips(num: int) -> Iterator[list[Shifted]]:
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as name:
        config = SyntheticConfig(seed=SEED)
        paths = [
            clip.path
            for clip in render_folder(Path(name) / "drawn", config, num, {"test": 1}).clips
        ]
        clips = []
        for number, path in enumerate(paths):
            offset_s = round(float(rng.uniform(-REACH_S, REACH_S)), 3)
            clips.append(Shifted(Path(name) / path.name, offset_s, paths[number - 1]))
            shift_audio(path, clips[-1].path, -offset_s)
        yield clips


def _offsets(predictor: OffsetPredictor, clips: list[Shifted]) -> Iterator[list[object]]:
    """Yield how far the answers are off, with classes and on a finer grid."""
    for step_s in STEPS_S if predictor.can_refine else STEPS_S[:1]:
        found = [_predict(predictor, clip.path, step_s) for clip in clips]
        for name in ("offset_s", "refined_s"):
            off_s = np.array([
                np.inf if one is None else abs(getattr(one, name) - clip.offset_s)
                for one, clip in zip(found, clips, strict=True)
            ])  # fmt: skip
            how = "classes" if step_s is None else f"`--step {step_s:g}`"
            middle_s, most_s = np.quantile(off_s, [0.5, 0.9])
            far = int((off_s > 0.3).sum())
            yield [
                f"{how}, `{name}`", f"{middle_s:.3f} s", f"{most_s:.3f} s", f"{off_s.max():.2f} s",
                f"{far} of {len(clips)}",
            ]  # fmt: skip


def _predict(
    predictor: OffsetPredictor, path: Path, step_s: float | None, audio: Path | None = None
) -> Prediction | None:
    try:
        return predictor.predict(path, step_s, audio=audio)
    except MediaError as error:  # nothing to measure
        print(error)
        return None


def _refusals(predictor: OffsetPredictor, clips: list[Shifted]) -> Iterator[list[object]]:
    """Yield how many clips are repaired, and how many with the sound of another one are."""
    step_s = FINE_STEP_S if predictor.can_refine else None
    own = [_predict(predictor, clip.path, step_s) for clip in clips]
    foreign = [_predict(predictor, clip.path, step_s, clip.foreign) for clip in clips]
    sure = np.array([one.confidence for one in foreign if one is not None])
    print(f"audio of another clip: confidence {np.median(sure):.2f} (median), "
          f"above {SURE:g} in {(sure > SURE).mean():.0%}\n")  # fmt: skip
    rules: list[tuple[str, float]] = [("confidence below 0.8 and notes alone", 0.0)]
    if predictor.synchronizability is not None:
        known = (HOPELESS, SYNCHRONIZABLE)
        rules += [(f"also a probability below {least:g}", least) for least in known]
    for words, least in rules:
        yield [words, *(sum(_passes(one, least) for one in each) for each in (own, foreign))]


def _passes(prediction: Prediction | None, least: float) -> bool:
    if prediction is None:
        return False
    probability = prediction.synchronizability
    if probability is not None and probability < least:
        return False
    return not doubts(replace(prediction, synchronizability=None), MIN_CONFIDENCE)


def _repairs(predictor: OffsetPredictor, clips: list[Shifted]) -> str:
    """Repair, and say what is left."""
    left_s, measured_s, refused = [], [], 0
    for clip in clips:
        out = clip.path.with_suffix(".fixed.mp4")
        try:
            done = repair(predictor, clip.path, out)
        except (RepairError, MediaError):
            refused += 1
            continue
        left_s.append(abs(done.delay_s - clip.offset_s))
        measured_s.append(abs(done.residue_s or 0.0))
    numbers = [f"{of(each):.3f} s" for each in (left_s, measured_s) for of in (np.median, max)]
    head = ["clips", "repaired", "refused", "true residue, median", "worst",
            "measured residue, median", "worst"]  # fmt: skip
    return table(head, [[len(clips), len(left_s), refused, *numbers]])


if __name__ == "__main__":
    main()
