"""Which clips cannot be read, or can teach nothing, and why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.data.content import Content
from zoo.data.manifest import Progress
from zoo.errors import MediaError
from zoo.media import ClipInfo, Decoder, probe
from zoo.media.apart import reading_apart
from zoo.timeline import OffsetGrid, SegmentLayout, shortest_clip_s

MIN_SECONDS = shortest_clip_s(SegmentLayout(), OffsetGrid())  # 4.8 s crop + 2 s reach = 6.8 s
MAX_APART_S = 0.04  # one frame at 25 fps
MAX_UNEVEN = 0.1  # of the longer stream
MAX_DEAD = 0.95  # of a clip may be silent, or still

SILENCE = 1e-3  # RMS of a block, -60 dB of full scale
BLOCK_S = 0.1  # over which loudness is measured
STEP_FRAMES = 5  # frames that are compared: 0.2 s at 25 fps
STILL = 1.5  # levels of 255 by which some part of the frame must change to count as motion
PART_PX = 8  # side of such a part, where the short side of the frame is SHORT_SIDE
SHORT_SIDE = 64
FPS = 25.0
SAMPLE_RATE_HZ = 16_000
WINDOW_S = 20.0  # long clips are read in windows of this length


@dataclass(frozen=True)
class ClipReport:
    """What is wrong with one clip.

    Attributes:
        path: the clip.
        duration_s: what both streams cover, where it could be read.
        problems: why it cannot be used; empty for a usable clip.
        notes: what deserves a look but stops nothing.
    """

    path: Path
    duration_s: float | None
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether a model can learn from the clip."""
        return not self.problems


def check_clips(
    paths: Sequence[Path],
    *,
    min_seconds: float = MIN_SECONDS,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[ClipReport]:
    """Probe and decode clips.

    Args:
        paths: the clips.
        min_seconds: shortest clip that can be learnt from; by default the published crop plus the
            largest offset, so that every offset can be sampled.
        workers: threads; by default one per processor.
        progress: is told how far it is.
    """
    reports = []
    with reading_apart(), ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for report in pool.map(lambda path: check_clip(path, min_seconds), paths):
            reports.append(report)
            if progress:
                progress(len(reports), len(paths))
    return reports


def check_clip(path: Path, min_seconds: float = MIN_SECONDS) -> ClipReport:
    """Probe and decode one clip."""
    try:
        info = probe(path)
    except MediaError as error:
        return ClipReport(path, None, (str(error),))
    if info.video is None or info.audio is None:
        missing = "no audio stream" if info.audio is None else "no video stream"
        return ClipReport(path, info.common_s, (missing,))
    problems, notes = _check_times(info, min_seconds)
    try:
        found, num_errors, others = _Found.of(path, info)
    except MediaError as error:
        return ClipReport(path, info.common_s, (*problems, str(error)), tuple(notes))
    notes += [note for note in others if note not in notes]
    if num_errors:
        what = "1 packet" if num_errors == 1 else f"{num_errors} packets"
        notes.append(f"{what} could not be decoded")
    if found.silent > MAX_DEAD:
        problems.append(f"silent for {found.silent:.0%} of its length")
    if found.still > MAX_DEAD:
        problems.append(f"the video stands still for {found.still:.0%} of its length")
    if max(found.silent, found.still) <= MAX_DEAD:
        notes += _check_offset(found, info.common_s)
    return ClipReport(path, info.common_s, tuple(problems), tuple(notes))


def _check_times(info: ClipInfo, min_seconds: float) -> tuple[list[str], list[str]]:
    assert info.video is not None
    assert info.audio is not None
    problems, notes = [], list(info.notes)
    if info.common_s < min_seconds:
        problems.append(f"too short: {info.common_s:.2f} s, at least {min_seconds:g} s are needed")
    apart_s = info.audio.start_s - info.video.start_s
    if abs(apart_s) > MAX_APART_S:
        order = "after" if apart_s > 0 else "before"
        problems.append(
            f"the streams start apart: audio {abs(apart_s):.2f} s {order} video, so it may have "
            "been shifted"
        )
    uneven_s = abs(info.audio.end_s - info.video.end_s)
    if uneven_s > MAX_UNEVEN * info.duration_s:
        shorter = "audio" if info.audio.end_s < info.video.end_s else "video"
        notes.append(f"{shorter} ends {uneven_s:.2f} s before the other stream")
    if info.low_confidence:
        notes.append(f"clock of low confidence: {info.low_confidence}")
    return problems, notes


def _check_offset(found: _Found, duration_s: float) -> list[str]:
    """Say why no offset can be found in a clip, or why several fit."""
    crop_s = SegmentLayout().covered_s
    starts_s = np.arange(0, max(duration_s - crop_s, 0) + 1e-6, crop_s / 4).tolist()
    if not found.content.counted([(start_s, start_s) for start_s in starts_s], crop_s):
        return [f"no offset to find: {found.content.lack()}"]
    repeating = found.content.repeating(2 * OffsetGrid().reach_s)
    if repeating is None:
        return []
    return [f"sound and picture repeat every {repeating.period_s:.2f} s: several offsets fit"]


@dataclass(frozen=True)
class _Found:
    """Shares of a clip in which nothing is to be heard, or to be seen moving; what is in it."""

    silent: float
    still: float
    content: Content

    @classmethod
    def of(cls, path: Path, info: ClipInfo) -> tuple[_Found, int, list[str]]:
        assert info.audio is not None
        is_silent: list[npt.NDArray[np.bool_]] = []
        is_still: list[npt.NDArray[np.bool_]] = []
        num_errors = 0
        num_windows = max(1, round(info.common_s / WINDOW_S))
        window_s = info.common_s / num_windows
        content = Content(info.audio.start_s)
        decoder = Decoder(path, fps=FPS, short_side=SHORT_SIDE, sample_rate_hz=SAMPLE_RATE_HZ)
        for index in range(num_windows):
            window = decoder.window(index * window_s, window_s)
            assert window.frames is not None
            assert window.samples is not None
            content.see(index * window_s, window.frames, FPS)
            content.hear(index * window_s, window.samples, SAMPLE_RATE_HZ)
            is_silent.append(_find_silence(window.samples))
            is_still.append(_find_stillness(window.frames))
            num_errors += window.num_errors
        return cls(_share(is_silent), _share(is_still), content), num_errors, decoder.notes


def _share(parts: list[npt.NDArray[np.bool_]]) -> float:
    joined = np.concatenate(parts)
    return float(joined.mean()) if joined.size else 1.0


def _find_silence(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    block = round(BLOCK_S * SAMPLE_RATE_HZ)
    blocks = samples[: len(samples) // block * block].reshape(-1, block)
    return np.asarray(np.sqrt(np.mean(blocks**2, axis=1)) < SILENCE)


def _find_stillness(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Say for every frame whether no part of it has changed 0.2 s later.

    Parts are averaged first, so that grain and compression do not pass for motion, and one part
    is enough, so that a small mouth in a large still frame does.
    """
    frames = frames[
        :, : frames.shape[1] // PART_PX * PART_PX, : frames.shape[2] // PART_PX * PART_PX
    ]
    rows, columns = (side // PART_PX for side in frames.shape[1:3])
    parts = frames.reshape(len(frames), rows, PART_PX, columns, PART_PX * 3)
    means = parts.mean(axis=(2, 4), dtype=np.float32)  # (Tv, rows, columns)
    change = np.abs(means[STEP_FRAMES:] - means[:-STEP_FRAMES])
    return np.asarray(change.max(axis=(1, 2), initial=0) < STILL)
