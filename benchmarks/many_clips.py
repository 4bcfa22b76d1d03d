"""Does a batch of thousands of clips keep its memory and its open files?

    python benchmarks/many_clips.py [--clips 3000]

``zoo features`` and ``zoo predict --csv`` over hard links of one small clip of 3.2 s: resident
memory and open files of the process and of all that it starts, and by how much memory grows with
every clip after the first 200.
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
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig

EVERY = 20  # clips between two looks
MODEL, CLIP_S = "tiny-synthetic", 3.2
COMMANDS = {"features": "zoo features", "csv": "zoo predict --csv"}


def main() -> None:
    parser = results.parser(__doc__, "many_clips", rounds=1)
    parser.add_argument("--clips", type=int, default=3000, help="how many")
    parser.add_argument("--settled", type=int, default=200, help="clips before memory counts")
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
        rows = [_measure(kind, folder, options.settled) for kind in COMMANDS]
    result = {"clips": options.clips, "settled": options.settled, "rows": rows}
    results.write(options.out, torch.device("cpu"), result)


def _link_clips(folder: Path, num: int) -> None:
    config = SyntheticConfig(seed=3, size=32, seconds=CLIP_S)
    first = render_folder(folder.with_name("first"), config, 1, {"train": 1}, workers=1).clips[0]
    folder.mkdir()
    for number in range(num):
        (folder / f"{number:06}.mp4").hardlink_to(first.path)


def _measure(kind: str, folder: Path, num_settled: int) -> dict[str, Any]:
    """Let a process work through the clips; return its looks at itself, and their slope."""
    command = [sys.executable, "-m", "benchmarks.many_clips", "--work", kind, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return _row(kind, json.loads(done.stdout.splitlines()[-1]), num_settled)


def _row(kind: str, looks: list[list[int]], num_settled: int) -> dict[str, Any]:
    clips, kb, files = np.array([look for look in looks if look[0] >= num_settled]).T
    return {
        "command": COMMANDS[kind],
        "clips": int(clips[-1]),
        "looks": looks,
        "mb": [round(int(kb[at]) / 1000) for at in (0, -1)],
        "kb_per_clip": round(_slope(clips, kb), 1),
        "open_files": [int(files.min()), int(files.max())],
    }


def _slope(clips: np.ndarray, kb: np.ndarray) -> float:
    """Return the median over all pairs of looks: some fall on a clip that is just being read."""
    first, second = np.triu_indices(len(clips), 1)
    return float(np.median((kb[second] - kb[first]) / (clips[second] - clips[first])))


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

    done = extract(MODEL, folder / "clips", folder / "tokens", workers=1, progress=look)
    assert not done.failed, done.failed


def _csv(folder: Path, look: Callable[[int, int], None]) -> None:
    from zoo.data.find import find_videos
    from zoo.inference.batch import predict_to_csv
    from zoo.inference.batch_table import Options

    clips, table = find_videos(folder / "clips"), folder / "table.csv"
    done = predict_to_csv(MODEL, clips, table, Options(), workers=os.cpu_count(), progress=look)
    assert not done["failed"], table.read_text()[:1000]


def _use() -> tuple[int, int]:
    """Return resident kB and open files of this process and of all below it."""
    kb = num_files = 0
    below = [str(os.getpid())]
    while below:
        process = Path("/proc") / below.pop()
        for task in (process / "task").iterdir():
            below += (task / "children").read_text().split()
        pages = int((process / "statm").read_text().split()[1])
        kb += pages * os.sysconf("SC_PAGE_SIZE") // 1024
        num_files += len(list((process / "fd").iterdir()))
    return kb, num_files


if __name__ == "__main__":
    main()
