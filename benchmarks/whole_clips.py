"""How many clips a second does one core read for CAV-MAE: 10.24 s of audio and one frame?

    python benchmarks/whole_clips.py [--real FOLDER] [--sizes 640x360 1280x720]

Straight from mp4 (H.264 and AAC as on video sites: 25 fps, stereo of 44.1 kHz, a key frame every 2
or 5 s at most), from the cache that training may keep (`data.cache=true`, from the second reading
on), and from files extracted beforehand, as the published code wants them: ten JPEGs and a WAV per
clip.  The frames are those of every second.  Clips are real ones where there are any, scaled to the
size; else rendered.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.common import results
from benchmarks.common.timing import cpu_seconds, interleave, ratio, seconds
from benchmarks.loader import LONGEST_S, REAL
from benchmarks.reference.extracted import (
    CLIP_S,
    NUM_FRAMES,
    extract,
    read_frame,
    read_spectrogram,
)
from plugins.cavmae.config import CavMaeConfig
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.contracts import EncoderIO, Frames, KaldiFbank
from zoo.data.clip_reader import ClipReader
from zoo.data.frontend import crop_square, cut_audio, cut_frames, without_filling
from zoo.media import decode, encode, probe
from zoo.media.audio import resample

FPS, RATE_HZ = 25, 44_100
KEY_FRAME_S = (2, 5)
FRAME_S = 1 / FPS


def main() -> None:
    parser = results.parser(__doc__, "whole_clips", rounds=10)
    parser.add_argument("--clips", type=int, default=3, help="to render where none are real")
    parser.add_argument("--real", type=Path, default=REAL, help="a folder of clips of 10 s")
    parser.add_argument("--folder", type=Path, help="where to keep the clips for the next time")
    parser.add_argument("--sizes", nargs="+", default=["640x360", "1280x720"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        given, kind = sources(options, Path(name))
        written = options.folder or Path(name)
        rows = [
            measure(
                write_clips(given, size, key_frame_s, written),
                Path(name) / f"{size}-{key_frame_s}",
                options.rounds,
            )
            | {"size": size, "key_frame_s": key_frame_s}
            for size, key_frame_s in product(options.sizes, KEY_FRAME_S)
        ]
    results.write(options.out, torch.device("cpu"), {"clips": kind, "rows": rows})


def sources(options: argparse.Namespace, folder: Path) -> tuple[list[Path], str]:
    """Return clips to write anew, and what they are."""
    real = [p for p in sorted(options.real.rglob("*.mp4")) if probe(p).common_s <= LONGEST_S]
    if real:
        return real, "real"
    config = SyntheticConfig(seed=11, size=256, seconds=10.0)
    manifest = render_folder(folder / "rendered", config, options.clips, {"train": 1}, workers=1)
    return [clip.path for clip in manifest.clips], "rendered"


def write_clips(given: list[Path], size: str, key_frame_s: int, folder: Path) -> list[Path]:
    """Scale clips and write them with few key frames."""
    target = folder / f"{size}-{key_frame_s}"
    target.mkdir(parents=True, exist_ok=True)
    width, height = (int(side) for side in size.split("x"))
    for path in given:
        if (target / path.name).exists():
            continue
        window = decode(path)
        assert window.frames is not None
        assert window.samples is not None
        frames = (
            np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
            for frame in window.frames
        )
        mono = resample(window.samples, window.sample_rate_hz, RATE_HZ)
        encode(
            target / path.name,
            frames,
            np.stack([mono, mono], axis=1),
            fps=FPS,
            sample_rate_hz=RATE_HZ,
            crf=23,
            gop=key_frame_s * FPS,
        )
    return [target / path.name for path in given]


def measure(clips: list[Path], folder: Path, rounds: int) -> dict[str, Any]:
    """Read all clips every which way; a round takes the next frame of each."""
    io = CavMaeConfig().io()
    vision, audio = io.vision.frontend, io.audio.frontend
    assert isinstance(vision, Frames)
    assert isinstance(audio, KaldiFbank)
    extracted_s, extracted = timed(
        lambda: [
            extract(clip, folder / "extracted", vision.size, audio.sample_rate_hz) for clip in clips
        ]
    )
    direct = ClipReader(vision, audio, io=io)
    cached = replace(direct, cache=folder / "cache")
    ways: dict[str, Callable[[int], object]] = {
        "extracted": lambda k: [
            (read_spectrogram(f, audio, io.audio.segment_s), read_frame(f, k, vision))
            for f in extracted
        ],
        "direct": lambda k: [read(direct, io, clip, k) for clip in clips],
        "cache": lambda k: [read(cached, io, clip, k) for clip in clips],
        "frame": lambda k: [read_vision(direct, clip, k) for clip in clips],
        "sound": lambda k: [direct.read_audio(c, 0.0, io.audio.segment_s) for c in clips],
    }
    for number in range(NUM_FRAMES):
        ways["cache"](number)
    times = interleave({n: turns(way) for n, way in ways.items()}, rounds)
    each = {n: [value / len(clips) for value in values] for n, values in times.items()}
    return {
        "kilobits_per_s": round(size_of(clips) * 8 / len(clips) / CLIP_S / 1000),
        "kilobytes_of_a_clip": {
            "mp4": round(size_of(clips) / len(clips) / 1000),
            "extracted": round(size_of(folder.glob("extracted/*/*")) / len(clips) / 1000),
            "cache": round(size_of(folder.glob("cache/*")) / len(clips) / 1000),
        },
        "extracting_s": round(extracted_s / len(clips), 3),
        "seconds_of_a_clip": seconds(each),
        "clips_per_s_and_core": {n: round(1 / s, 1) for n, s in seconds(each).items()},
        "direct_against_extracted": ratio(times, "extracted", "direct"),
        "cache_against_extracted": ratio(times, "extracted", "cache"),
    }


def read(reader: ClipReader, io: EncoderIO, clip: Path, second: int) -> tuple[Tensor, Tensor]:
    """Read the spectrogram of a clip and the frame at a second, as training does."""
    assert isinstance(reader.audio, KaldiFbank)
    samples = reader.read_audio(clip, 0.0, io.audio.segment_s)
    samples = without_filling(samples, reader.audio, CLIP_S)
    audio = cut_audio(samples, [0.0], io.audio.segment_s, reader.audio)
    frames = crop_square(read_vision(reader, clip, second), reader.vision.size, None)
    return audio, cut_frames(frames, [0.0], FRAME_S, reader.vision)


def read_vision(reader: ClipReader, clip: Path, second: int) -> np.ndarray:
    return reader.read_vision(clip, float(second), FRAME_S)


def turns(way: Callable[[int], object]) -> Callable[[], object]:
    numbers = iter(range(1_000_000))
    return lambda: way(next(numbers) % NUM_FRAMES)


def timed(work: Callable[[], list[Path]]) -> tuple[float, list[Path]]:
    started = cpu_seconds()
    made = work()
    return cpu_seconds() - started, made


def size_of(files: Any) -> int:
    return sum(file.stat().st_size for file in files)


if __name__ == "__main__":
    main()
