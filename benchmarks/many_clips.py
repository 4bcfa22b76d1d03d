"""Does a batch of thousands of clips keep its memory and its open files?

    python benchmarks/many_clips.py [--clips 3000]

``zoo features`` and ``zoo predict --csv`` over hard links of one small clip of 3.2 s, each in a
process of its own with one thread: resident memory and open files of the process and of those that
it starts, and the slope of both after the first 200 clips.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import results
from zoo.media import encode

SETTLED, EVERY = 200, 50  # clips before memory counts, and between two looks
MODEL = "tiny-synthetic"
KINDS = ("features", "csv")


def main() -> None:
    parser = results.parser(__doc__, "many_clips", rounds=1)
    parser.add_argument("--clips", type=int, default=3000, help="how many")
    parser.add_argument("--work", nargs=2, metavar=("KIND", "FOLDER"), help="one of the processes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.work:
        kind, folder = options.work
        print(json.dumps(_work(kind, Path(folder))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _link_clips(folder / "clips", options.clips)
        rows = [{"kind": kind, **_measure(kind, folder)} for kind in KINDS]
    result = {"clips": options.clips, "settled": SETTLED, "rows": rows}
    results.write(options.out, torch.device("cpu"), result)


def _link_clips(folder: Path, num: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    first = folder / "000000.mp4"
    frames = rng.integers(0, 255, (80, 32, 32, 3), np.uint8)
    encode(first, frames, rng.normal(0, 0.1, 51_200).astype(np.float32))
    for number in range(1, num):
        (folder / f"{number:06}.mp4").hardlink_to(first)


def _measure(kind: str, folder: Path) -> dict[str, Any]:
    """Let a process work through the clips; return its looks at itself, and their slopes."""
    command = [sys.executable, "-m", "benchmarks.many_clips", "--work", kind, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    looks = json.loads(done.stdout.splitlines()[-1])
    settled = np.array([look for look in looks if look[0] >= SETTLED], float)
    slope_kb = np.polyfit(settled[:, 0], settled[:, 1], 1)[0] if len(settled) > 1 else float("nan")
    files = settled[:, 2]
    return {
        "looks": looks,
        "kb_per_clip": round(float(slope_kb), 3),
        "open_files": [int(files.min()), int(files.max())],
    }


def _work(kind: str, folder: Path) -> list[tuple[int, int, int]]:
    looks: list[tuple[int, int, int]] = []

    def look(done: int, _total: int) -> None:
        if done % EVERY == 0:
            looks.append((done, *_use()))

    run: dict[str, Callable[[], object]] = {
        "features": lambda: _features(folder, look),
        "csv": lambda: _csv(folder, look),
    }
    run[kind]()
    return looks


def _features(folder: Path, look: Callable[[int, int], None]) -> None:
    from zoo.features import extract

    extract(MODEL, folder / "clips", folder / "tokens", workers=2, progress=look)


def _csv(folder: Path, look: Callable[[int, int], None]) -> None:
    from zoo.data.find import find_videos
    from zoo.inference.batch import predict_to_csv
    from zoo.inference.batch_table import Options

    clips, table = find_videos(folder / "clips"), folder / "table.csv"
    predict_to_csv(MODEL, clips, table, Options(), workers=1, progress=look)


def _use() -> tuple[int, int]:
    """Return resident kB and open files of this process and of its children."""
    own = os.getpid()
    tasks = Path(f"/proc/{own}/task").iterdir()
    children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    kb = num_files = 0
    for pid in (str(own), *children):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        kb += pages * os.sysconf("SC_PAGE_SIZE") // 1024
        num_files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return kb, num_files


if __name__ == "__main__":
    main()
