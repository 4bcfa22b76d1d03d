"""How well does the rule without learning find the offset of clips that are in sync?

    python benchmarks/rule.py [FOLDER...] [--reach 2] [--most 100]

Takes the clips of any folders; without one, it renders 100 sparse clips.  Every clip counts as it
is: the right answer is 0.  AV-Align is that of the clips, and of each with the sound of the one
before it.  Nothing is timed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import results
from zoo.data.content import BIN_S, Content
from zoo.data.find import find_videos
from zoo.data.rule import av_align, find_maxima, find_offset, find_onsets, peaks_met, read_content
from zoo.errors import MediaError, NothingToMeasureError

WITHIN_S = (BIN_S, 0.1, 0.2, 0.3)  # the first is a frame at 25 per second
SEED, NUM_RENDERED = 2026, 100


def measure(paths: list[Path], reach_s: float) -> dict[str, Any]:
    """Measure the clips of one folder."""
    contents, errors_s, unread = [], [], []
    for path in paths:
        try:
            contents.append(read_content(path))
        except MediaError as error:
            unread.append(f"{path.name}: {error}")
            continue
        try:
            errors_s.append(abs(find_offset(contents[-1], reach_s).offset_s))
        except NothingToMeasureError:
            errors_s.append(np.inf)
    off_s = np.asarray(errors_s)
    return {
        "clips": len(off_s),
        "without_answer": int(np.isinf(off_s).sum()),
        "within": {f"{limit_s:g}": float((off_s <= limit_s).mean()) for limit_s in WITHIN_S},
        "chance": {f"{limit_s:g}": limit_s / reach_s for limit_s in WITHIN_S},
        "av_align": _mean([av_align(content) for content in contents]),
        "av_align_of_other_sound": _mean(
            [_align(contents[i - 1], contents[i]) for i in range(len(contents))]
        ),
        "unread": unread,
    }


def _align(heard: Content, seen: Content) -> float | None:
    return peaks_met(find_onsets(heard.tracks().onset), find_maxima(seen.tracks().motion))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _render(folder: Path) -> Path:
    from plugins.synthetic.clip_folder import render_folder
    from plugins.synthetic.config import SyntheticConfig

    render_folder(folder, SyntheticConfig(seed=SEED), NUM_RENDERED, {"test": 1.0}, workers=1)
    return folder


def main() -> None:
    parser = results.parser(__doc__, "rule")
    parser.add_argument("folders", nargs="*", type=Path, help="of clips that are in sync")
    parser.add_argument("--reach", type=float, default=2.0, help="look so far either way, seconds")
    parser.add_argument("--most", type=int, default=100, help="clips of a folder, evenly chosen")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folders = options.folders or [_render(Path(temporary) / "sparse")]
        for folder in folders:
            paths = find_videos(folder)
            chosen = (
                np.linspace(0, len(paths) - 1, min(len(paths), options.most)).round().astype(int)
            )
            found[folder.name] = measure([paths[i] for i in chosen], options.reach)
    results.write(options.out, torch.device("cpu"), {"reach_s": options.reach, "folders": found})


if __name__ == "__main__":
    main()
