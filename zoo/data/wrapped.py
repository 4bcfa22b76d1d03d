"""Video anywhere in a clip, or in its middle, and audio that goes on at its start where it ends.

Source: the rules of AV-MAE and MBT for training and validation (dmvr:sampling), with two
differences.  Video starts on the frames that are read, not on all that the file has; and of video
that is too short the last frame is repeated, not all of it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from zoo.contracts import Modality
from zoo.data.clip_reader import ClipReader
from zoo.timeline import Sample, SegmentLayout, count_hops, middle_start


def place_wrapped(
    sample: Sample,
    reader: ClipReader,
    layout: SegmentLayout,
    duration_s: float,
    rng: np.random.Generator,
) -> Sample:
    """Choose where video starts among all its places, and audio at the same share of the clip.

    Args:
        sample: whose starts are replaced.
        reader: of the clip.
        layout: of the segments.
        duration_s: of the clip, seconds.
        rng: source of randomness.
    """
    seen, heard = (reader.read_part(modality, layout) for modality in ("vision", "audio"))
    frame_s, hop_s = 1 / reader.vision.fps, reader.audio.hop_s
    frames = count_hops(duration_s, frame_s)
    last = max(0, frames - round(seen.length_s / frame_s))
    first = int(rng.integers(last + 1))
    column = same_share(first, frames, count_hops(duration_s, hop_s))
    return replace(
        sample,
        vision_start_s=round(first * frame_s - seen.start_s, 6),
        audio_start_s=round(column * hop_s - heard.start_s, 6),
    )


def place_middle(
    sample: Sample, reader: ClipReader, layout: SegmentLayout, duration_s: float
) -> Sample:
    """Put video and audio each in the middle of the clip.

    Args:
        sample: whose starts are replaced.
        reader: of the clip.
        layout: of the segments.
        duration_s: of the clip, seconds.
    """

    def start_s(modality: Modality, hop_s: float) -> float:
        part = reader.read_part(modality, layout)
        first = middle_start(count_hops(duration_s, hop_s), round(part.length_s / hop_s))
        return round(first * hop_s - part.start_s, 6)

    return replace(
        sample,
        vision_start_s=start_s("vision", 1 / reader.vision.fps),
        audio_start_s=start_s("audio", reader.audio.hop_s),
    )


def same_share(first: int, frames: int, columns: int) -> int:
    """Return the column of a spectrogram that lies at the same share of a clip as a frame."""
    return round(first / frames * columns)


def read_around(
    reader: ClipReader, path: Path, start_s: float, length_s: float, duration_s: float
) -> np.ndarray:
    """Read audio that goes on at the start of the clip where it ends, as often as it must.

    Args:
        reader: of the clip.
        path: of the clip.
        start_s: within the clip, seconds.
        length_s: of what is read, seconds.
        duration_s: of the clip, seconds.

    Returns:
        Mono samples ``(N,)``.
    """
    rate = reader.audio.sample_rate_hz
    start, num, total = round(start_s * rate), round(length_s * rate), int(duration_s * rate)
    left = min(num, total - start)
    samples = reader.read_audio(path, start / rate, left / rate)
    if left == num:
        return samples
    again = reader.read_audio(path, 0.0, min(num - left, total) / rate)
    return np.concatenate([samples, np.resize(again, num - left)])
