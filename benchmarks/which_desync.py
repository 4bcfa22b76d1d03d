"""Which DeSync?  The same ten clips scored by each of the numbers in use.

    python benchmarks/which_desync.py [--model tiny-synthetic]

Prints the table of docs/desync.md.  The clips are drawn; what is wrong with each is known.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.common.markdown import table
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.desync import ClipScore, score
from zoo.media import decode, encode, shift_audio

RATE_HZ, FPS, SECONDS = 16_000, 25, 9.0
Sound = npt.NDArray[np.float32]
COLUMNS = ("published", "published, expected", "AVGen-Bench", "AVGen-Bench, argmax", "corrected")


@dataclass(frozen=True)
class Case:
    """A clip in which something is wrong."""

    words: str
    change: Callable[[Sound, Sound], Sound] = lambda own, _: own
    seconds: float = SECONDS
    clock_s: float = 0.0


def _moved(by_s: float, from_s: float = 0.0) -> Callable[[Sound, Sound], Sound]:
    """Return what moves the sound later, or with a negative number earlier, from a time on."""

    def change(own: Sound, _: Sound) -> Sound:
        first = round(from_s * RATE_HZ)
        return np.concatenate([own[:first], np.roll(own, round(by_s * RATE_HZ))[first:]])

    return change


CASES = (
    Case("in sync"),
    Case("0.1 s late", _moved(0.1)),
    Case("0.2 s late", _moved(0.2)),
    Case("0.4 s early", _moved(-0.4)),
    Case("1 s late", _moved(1.0)),
    Case("0.4 s late by its timestamps only", clock_s=0.4),
    Case("0.4 s late from 5 s on", _moved(0.4, from_s=5.0)),
    Case("in sync, 7 s long", seconds=7.0),
    Case("the sound of another clip", lambda _, other: other),
    Case("silent from 3 s on", lambda own, _: own * (np.arange(len(own)) < 3 * RATE_HZ)),
)


def main() -> None:
    """Score and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny-synthetic", help="name or folder of a model")
    model = parser.parse_args().model
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "clips"
        _render(Path(name) / "drawn", folder)
        published, avgen, corrected = (
            score(model, folder, mode=mode) for mode in ("published", "avgen-bench", "corrected")
        )
    rows = [
        [case.words, *_cells(one, two, three)]
        for case, one, two, three in zip(
            CASES, published.clips, avgen.clips, corrected.clips, strict=True
        )
    ]
    means = (
        published.desync_s,
        published.summary["expected_s"],
        avgen.desync_s,
        avgen.summary["most_probable_s"],
        corrected.desync_s,
    )
    rows.append(["**score**", *(f"**{mean_s:.3f}**" for mean_s in means)])
    print(table(["clip", *COLUMNS], rows))


def _render(drawn: Path, folder: Path) -> None:
    config = SyntheticConfig(seed=9, seconds=SECONDS)
    clips = render_folder(drawn, config, len(CASES) + 1, {"test": 1}, workers=1).clips
    windows = [decode(clip.path, fps=FPS, sample_rate_hz=RATE_HZ) for clip in clips]
    folder.mkdir()
    for number, (case, own, other) in enumerate(zip(CASES, windows, windows[1:], strict=False)):
        assert own.frames is not None
        assert own.samples is not None
        assert other.samples is not None
        sound = case.change(own.samples, other.samples)[: round(case.seconds * RATE_HZ)]
        path = folder / f"{number}.mp4"
        whole = path if not case.clock_s else drawn / path.name
        encode(whole, own.frames[: round(case.seconds * FPS)], sound.astype(np.float32))
        if case.clock_s:
            shift_audio(whole, path, case.clock_s)


def _cells(published: ClipScore, avgen: ClipScore, corrected: ClipScore) -> list[str]:
    argmax_s = abs(avgen.offsets_s[0]) if avgen.offsets_s else None
    values = (
        published.desync_s, published.expected_s, avgen.desync_s, argmax_s, corrected.desync_s
    )  # fmt: skip
    return ["skipped" if value is None else f"{value:.3f}" for value in values]


if __name__ == "__main__":
    main()
