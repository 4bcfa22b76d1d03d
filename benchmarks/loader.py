"""How many training samples a second does one core read?

    python benchmarks/loader.py [--clips 8] [--real FOLDER]

Random crops of 10 s clips (H.264 of 256 pixels, AAC), read with the loader, which decodes the
window it needs, and the published way, which decodes the clip.  The same samples of the same files,
in turn.  Ours hands over bytes, which are cut into segments and normalised where they are used:
*window* is with that, *bytes* without, as when a GPU does it.  Also decoding alone, and the cache
of decoded clips (tiny size).  Real clips are by default those beside the project, if any.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import results
from benchmarks.common.timing import interleave, ratio, seconds
from benchmarks.reference.reader import read_sample as published_sample
from benchmarks.reference.reader import read_whole_clip
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.contracts import Frames, LogMel
from zoo.data.augment import Augment
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import read_sample
from zoo.data.frontend import cut_crops
from zoo.data.manifest import Clip
from zoo.media import probe
from zoo.timeline import OffsetGrid, Placement, Sample, SegmentLayout, place_crops

SIZES = {"paper": Frames(), "tiny": Frames(size=48, short_side=56)}
LAYOUT = SegmentLayout()
LONGEST_S = 10.5
REAL = Path(__file__).parents[2] / "shared" / "clips"


def main() -> None:
    parser = results.parser(__doc__, "loader")
    parser.add_argument("--clips", type=int, default=8, help="synthetic clips to render")
    parser.add_argument(
        "--real", type=Path, default=REAL, help="a folder of clips of 10 s and 256 pixels"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = SyntheticConfig(seed=11, size=256, seconds=10.0)
        manifest = render_folder(folder / "clips", config, options.clips, {"train": 1}, workers=1)
        sets = {"synthetic": list(manifest.clips)}
        real = {path: probe(path).common_s for path in sorted(options.real.rglob("*.mp4"))}
        sets["real"] = [  # longer ones would flatter: the published way decodes all of them
            replace(manifest.clips[0], path=path, duration_s=length_s)
            for path, length_s in real.items()
            if length_s <= LONGEST_S
        ]
        rows = [
            measure(name, clips, size, options.rounds, folder / "cache")
            for name, clips in sets.items()
            for size in SIZES
            if clips
        ]
    results.write(options.out, torch.device("cpu"), {"rows": rows})


def measure(name: str, clips: list[Clip], size: str, rounds: int, cache: Path) -> dict[str, Any]:
    """Measure one size on one set of clips: a round reads every clip once."""
    reader = ClipReader(SIZES[size], LogMel())
    works = {
        "published": lambda clip, sample: _published(clip, sample, reader),
        "window": lambda clip, sample: _ours(clip, sample, reader),
        "bytes": lambda clip, sample: _bytes(clip, sample, reader),
        "published_decoding": lambda clip, sample: read_whole_clip(clip.path),
        "window_decoding": lambda clip, sample: _decode(clip, sample, reader),
    }
    if size == "tiny":
        cached = ClipReader(SIZES[size], LogMel(), cache)
        works["cache"] = lambda clip, sample: _ours(clip, sample, cached)
    samples = _samples(clips, rounds + 1)
    times = interleave({n: _turns(work, clips, samples) for n, work in works.items()}, rounds)
    per_sample = {n: [value / len(clips) for value in values] for n, values in times.items()}
    row = {
        "clips": name,
        "size": size,
        "seconds_of_a_sample": seconds(per_sample),
        "clips_per_s_and_core": {n: round(1 / s, 2) for n, s in seconds(per_sample).items()},
        "window_against_published": ratio(times, "published", "window"),
        "bytes_against_published": ratio(times, "published", "bytes"),
        "decoding_against_published": ratio(times, "published_decoding", "window_decoding"),
    }
    if size == "tiny":
        row["cache_against_published"] = ratio(times, "published", "cache")
    return row


def _samples(clips: list[Clip], rounds: int) -> list[list[Sample]]:
    """Sample offsets and crops as stage II does, anew for every round, the same for all works."""
    rng, place = np.random.default_rng(0), Placement(LAYOUT, vision_hop_s=0.32, audio_hop_s=0.04)
    offsets_s = OffsetGrid().offsets_s
    return [
        [
            place_crops(rng, index, min(10.0, clip.duration_s), place, offsets_s[target], target)
            for index, clip in enumerate(clips)
            for target in [int(rng.integers(len(offsets_s)))]
        ]
        for _ in range(rounds)
    ]


def _turns(
    work: Callable[[Clip, Sample], object], clips: list[Clip], samples: list[list[Sample]]
) -> Callable[[], None]:
    rounds = cycle(samples)

    def turn() -> None:
        for clip, sample in zip(clips, next(rounds), strict=True):
            work(clip, sample)

    return turn


def _published(clip: Clip, sample: Sample, reader: ClipReader) -> object:
    assert isinstance(reader.audio, LogMel)
    return published_sample(clip.path, sample, LAYOUT, reader.vision, reader.audio)


def _bytes(clip: Clip, sample: Sample, reader: ClipReader) -> tuple[Tensor, Tensor]:
    return read_sample(reader, clip, sample, LAYOUT, Augment(), np.random.default_rng(0))


def _ours(clip: Clip, sample: Sample, reader: ClipReader) -> object:
    audio, frames = _bytes(clip, sample, reader)
    vision = cut_crops(frames[None], *reader.places("vision", LAYOUT), reader.vision)
    return audio, vision.contiguous()  # as extractors do


def _decode(clip: Clip, sample: Sample, reader: ClipReader) -> object:
    frames = reader.read_vision(clip.path, sample.vision_start_s, LAYOUT.covered_s)
    return frames, reader.read_audio(clip.path, sample.audio_start_s, LAYOUT.covered_s)


if __name__ == "__main__":
    main()
