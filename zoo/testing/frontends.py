"""Checks of what an extractor or an encoder says about its input and its clock."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zoo.contracts import (
    AudioFrontend,
    FeatureMap,
    Frames,
    KaldiFbank,
    LogMel,
    MelAmplitude,
    Modality,
    Spectrogram,
)
from zoo.data.frontend import cut_audio, cut_frames
from zoo.timeline import LATTICE_TOLERANCE, to_frames, to_samples

LONGEST_SEGMENT_S = 60.0
WHITE_TO_BLACK = (0.1, 1000.0)  # after the front end: as pixels in 0..10 or in 0..0.001, or 0..255
FRONTENDS: dict[str, tuple[type, ...]] = {
    "audio": (LogMel, Spectrogram, KaldiFbank, MelAmplitude),
    "vision": (Frames,),
}


def check_frontend(modality: Modality, frontend: AudioFrontend | Frames, segment_s: float) -> None:
    """Check that a front end belongs to a modality, and that its numbers can be meant."""
    assert modality in FRONTENDS, f"reads '{modality}'; the modalities are audio and vision"
    classes = FRONTENDS[modality]
    names = " or ".join(f"zoo.{one.__name__}" for one in classes)
    assert isinstance(frontend, classes), (
        f"reads {modality} and has the front end {type(frontend).__name__}, not {names}"
    )
    assert segment_s <= LONGEST_SEGMENT_S, (
        f"reads segments of {segment_s:g} s; segment_s is in seconds, at most {LONGEST_SEGMENT_S:g}"
    )
    if isinstance(frontend, Frames):
        _check_pixels(frontend)


def _check_pixels(frontend: Frames) -> None:
    for name in ("mean", "std"):
        given = getattr(frontend, name)
        for value in given if isinstance(given, tuple) else (given,):
            if name == "mean":
                assert 0 <= value <= 1, f"subtracts mean={value:g} from pixels in 0..1"
                continue
            spread = 1 / value
            assert WHITE_TO_BLACK[0] <= spread <= WHITE_TO_BLACK[1], (
                f"divides pixels in 0..1 by std={value:g}, which leaves {spread:.2g} between white "
                "and black"
            )


def check_clock(tokens: FeatureMap, segment_s: float) -> None:
    """Check that the times of steps rise and lie inside the segment."""
    times_s = tokens.times_s
    assert times_s, "declares no time step"
    assert list(times_s) == sorted(set(times_s)), f"time steps do not rise: {times_s}"
    assert times_s[0] >= 0, f"a time step lies before the segment: {times_s}"
    assert times_s[-1] <= segment_s + LATTICE_TOLERANCE, (
        f"a time step lies after the segment: {times_s}"
    )


def blank_segments(frontend: AudioFrontend | Frames, segment_s: float, num: int) -> Tensor:
    """Return what the front end gives for silence, or for black frames."""
    if isinstance(frontend, Frames):
        length = to_frames(segment_s, frontend.fps)
        frames = np.zeros((length, frontend.size, frontend.size, 3), np.uint8)
        return torch.cat([cut_frames(frames, [0.0], segment_s, frontend)] * num)
    samples = np.zeros(to_samples(segment_s, frontend.sample_rate_hz), np.float32)
    return torch.cat([cut_audio(samples, [0.0], segment_s, frontend)] * num)


def frame_s(frontend: AudioFrontend | Frames) -> float:
    """Return the time between two frames of a segment, seconds."""
    return 1 / frontend.fps if isinstance(frontend, Frames) else frontend.hop_s


def whole_lengths_s(
    frontend: AudioFrontend | Frames, wanted_s: tuple[float, ...]
) -> tuple[float, ...]:
    """Return lengths of whole frames or samples near the wanted ones, seconds.

    Of video they are multiples of four frames, which more extractors take than odd numbers.
    """
    if isinstance(frontend, Frames):
        return tuple(
            round(4 * max(1, round(s * frontend.fps / 4)) / frontend.fps, 9) for s in wanted_s
        )
    rate = frontend.sample_rate_hz
    return tuple(round(round(s * rate) / rate, 9) for s in wanted_s)
