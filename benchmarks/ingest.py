"""Who decodes fastest: this process, a loader process, or Ray Data?

    python benchmarks/ingest.py [--clips 12] [--items 60]

Stage I's batches at the paper's sizes (224 pixels, 14 segments of 0.64 s, one clip each), from
rendered clips of 10 s and 256 pixels.  Every way reads the same items in the same order, and this
process cuts them into segments; start-up is timed apart.  Ray Data has one processor beside this
process, as the loader has.  Takes two minutes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.results import parser, write
from orchestration.cluster import connected
from orchestration.ingest import stream
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.contracts import Frames, LogMel
from zoo.data.augment import Augment
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import ClipSource
from zoo.data.frontend import cut_crops
from zoo.timeline import SegmentLayout
from zoo.training.loader import Stage1Batches, in_order
from zoo.training.resources import Resources

WARM_UP = 4
LAYOUT = SegmentLayout(step_s=0.64, num_segments=14)


def rate(samples: Iterator[Any], count: int) -> dict[str, float]:
    """Return the seconds to the first item, and items per second after the first few."""
    items = (cut_crops(frames, LAYOUT, Frames()).contiguous() for _, frames in samples)
    started = time.perf_counter()
    next(items)
    first_s = time.perf_counter() - started
    for _ in range(WARM_UP - 1):
        next(items)
    started = time.perf_counter()
    for _ in range(count - WARM_UP):
        next(items)
    return {
        "first_s": round(first_s, 2),
        "clips_per_s": round((count - WARM_UP) / (time.perf_counter() - started), 2),
    }


def main() -> None:
    """Time every way, twice in turn."""
    arguments = parser(__doc__, "ingest", rounds=2)
    arguments.add_argument("--clips", type=int, default=12)
    arguments.add_argument("--items", type=int, default=60)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        config = SyntheticConfig(seed=5, size=256, seconds=10.0)
        shares = {"train": 1.0}
        manifest = render_folder(Path(temporary) / "clips", config, chosen.clips, shares)
        source = ClipSource(list(manifest.clips), ClipReader(Frames(), LogMel()))
        dataset = Stage1Batches(source, LAYOUT, 1, Augment(), seed=0)
        items = range(chosen.items)
        ways: dict[str, Callable[[], Iterator[Any]]] = {
            "here": lambda: iter(in_order(dataset, items, 0)),
            "loader": lambda: iter(in_order(dataset, items, 1)),
            "ray": lambda: stream(dataset, items),
        }
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        with connected(Resources(ingest="ray")):
            for _ in range(chosen.rounds):
                for name, way in ways.items():
                    rows[name].append(rate(way(), chosen.items))
    write(chosen.out, torch.device("cpu"), {"items": chosen.items, "ways": rows})


if __name__ == "__main__":
    main()
