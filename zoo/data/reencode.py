"""Clips as the published models expect them: 25 fps, short side 256, 16 kHz mono, H.264 and AAC."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts import ClipRecord
from zoo.data.manifest import Progress
from zoo.data.row_rules import describe_length
from zoo.errors import ManifestError, MediaError, is_of_the_disk

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FPS = 25
SHORT_SIDE = 256
SAMPLE_RATE_HZ = 16_000
CRF = 10  # as the authors: nearly without loss
WINDOW_FRAMES = 8 * FPS  # read at a time, so that a long clip is never in memory whole
INTERRUPTED = "interrupted"
MAX_APART_S = 0.1  # a finished clip may be so much shorter or longer than it should be


@dataclass(frozen=True)
class Job:
    """One clip to write: the record of its source, and where it goes."""

    record: ClipRecord
    out: Path


def reencode_all(
    records: Sequence[ClipRecord],
    videos: Path,
    folder: Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[ClipRecord], dict[Path, str]]:
    """Re-encode clips in parallel; those that are finished already are kept.

    Args:
        records: the clips.
        videos: folder that holds them.
        folder: where they go, under the same names below it, as ``.mp4``.
        workers: processes; by default one per processor.
        progress: is told how far it is.

    Returns:
        Records of the new clips, and the reason for each source that was left out.

    Raises:
        ManifestError: if the folder lies within the videos, or cannot be made or written to.
    """
    if folder.resolve().is_relative_to(videos.resolve()):
        raise ManifestError(
            f"the new clips would lie within {videos}, in {folder}, and be found twice; give a "
            "folder outside it"
        )
    jobs = [Job(record, out) for record, out in _targets(records, videos, folder)]
    try:
        for parent in dict.fromkeys(job.out.parent for job in jobs):
            parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ManifestError(f"cannot write clips to {folder}: {error.strerror}") from error
    made: dict[Path, ClipRecord] = {}
    failed: dict[Path, str] = {}
    for done, (job, problem) in enumerate(run_jobs(jobs, workers, run_job), start=1):
        if problem is None:
            made[job.record.path] = job.record.model_copy(update={"path": job.out})
        else:
            failed[job.record.path] = problem
        if progress:
            progress(done, len(jobs))
    return [made[record.path] for record in records if record.path in made], failed


def reencode(path: Path, out: Path, duration_s: float) -> None:
    """Write a clip anew, in sync to the sample; it appears under its name once it is checked.

    Args:
        path: the clip.
        out: file to write, ``.mp4``.
        duration_s: how much of it, from time 0, seconds; whole frames at 25 fps are taken.

    Raises:
        MediaError: if the clip is damaged or too short, or the new one is not as it should be.
    """
    from zoo.media import encode
    from zoo.media.encode import replacing

    windows = _Windows(path, duration_s)
    with replacing(out) as temporary:
        encode(
            temporary,
            windows.frames(),
            windows.samples(),
            fps=FPS,
            sample_rate_hz=SAMPLE_RATE_HZ,
            crf=CRF,
        )
        problem = why_unfinished(temporary, windows.num_frames / FPS)
        if problem:
            raise MediaError(f"{path.name} was not written well: {problem}")


def why_unfinished(out: Path, duration_s: float) -> str | None:
    """Say what a re-encoded clip lacks; None if it is complete."""
    from zoo.media import probe, require_streams

    try:
        info = probe(out)
        require_streams(info)
    except MediaError as error:
        return str(error)
    assert info.video is not None
    assert info.audio is not None
    found = (
        info.video.codec,
        info.video.fps,
        min(info.video.width, info.video.height),
        info.audio.codec,
        info.audio.sample_rate_hz,
        info.audio.channels,
    )
    if found != ("h264", FPS, SHORT_SIDE, "aac", SAMPLE_RATE_HZ, 1):
        return f"it is {found}"
    if abs(info.common_s - duration_s) > MAX_APART_S:
        return f"it lasts {info.common_s:.2f} s instead of {duration_s:.2f} s"
    return None


class _Windows:
    """A clip read in pieces; the encoder takes the frames of one, then the samples beside them."""

    def __init__(self, path: Path, duration_s: float):
        from zoo.data.clip_reader import whole_frames_s
        from zoo.media import Decoder

        self._decoder = Decoder(path, fps=FPS, short_side=SHORT_SIDE, sample_rate_hz=SAMPLE_RATE_HZ)
        self.num_frames = round(whole_frames_s(duration_s, FPS) * FPS)
        if not self.num_frames:
            raise MediaError(f"{path.name} is shorter than one frame")
        self._samples: deque[npt.NDArray[np.float32]] = deque()

    def frames(self) -> Iterator[npt.NDArray[np.uint8]]:
        for first in range(0, self.num_frames, WINDOW_FRAMES):
            yield from self._read(first, min(WINDOW_FRAMES, self.num_frames - first))

    def samples(self) -> Iterator[npt.NDArray[np.float32]]:
        while self._samples:
            yield self._samples.popleft()

    def _read(self, first: int, num: int) -> npt.NDArray[np.uint8]:
        window = self._decoder.window(first / FPS, num / FPS)
        assert window.frames is not None
        assert window.samples is not None
        self._samples.append(window.samples)
        height, width = (side // 2 * 2 for side in window.frames.shape[1:3])
        return window.frames[:, :height, :width]


def run_job(job: Job) -> str | None:
    """Write one clip unless it is finished; return what went wrong, None if nothing."""
    from zoo.data.clip_reader import whole_frames_s
    from zoo.media import probe, require_streams

    source = job.record.path
    try:
        info = probe(source)
        require_streams(info)
        wrong_length = describe_length(info.common_s, job.record.length_s)
        if wrong_length:
            return wrong_length
        expected_s = whole_frames_s(info.common_s, FPS)
        is_newer = job.out.exists() and job.out.stat().st_mtime >= source.stat().st_mtime
        if not is_newer or why_unfinished(job.out, expected_s):
            reencode(source, job.out, info.common_s)
    except MediaError as error:
        if is_of_the_disk(error):  # the other clips would be rejected alike
            raise ManifestError(error.message, error.hint) from None
        return str(error)
    except Exception as error:  # whatever one clip does to a codec, the others go on
        return f"{source.name} cannot be re-encoded: {type(error).__name__}: {error}"
    return None


def run_jobs(
    jobs: Sequence[Job], workers: int | None, run: Callable[[Job], str | None]
) -> Iterator[tuple[Job, str | None]]:
    """Yield every job with its answer; a clip that kills its process is found and reported.

    The first jobs without an answer were running when a process died, so these are run once more,
    each in a process of its own.
    """
    workers = workers or os.cpu_count() or 1
    rest = list(jobs)
    while rest:
        num_answers = 0
        try:
            for job, answer in _in_pool(rest, workers, run):
                num_answers += 1
                yield job, answer
            return
        except BrokenProcessPool:
            rest = rest[num_answers:]
        suspects, rest = rest[: 2 * workers], rest[2 * workers :]
        for job in suspects:
            try:
                yield from _in_pool([job], 1, run)
            except BrokenProcessPool:
                yield job, f"{job.record.path.name} kills the process that reads it"


def _in_pool(
    jobs: Sequence[Job], workers: int, run: Callable[[Job], str | None]
) -> Iterator[tuple[Job, str | None]]:
    context = multiprocessing.get_context("forkserver")
    workers = min(workers, len(jobs))
    with ProcessPoolExecutor(workers, context, initializer=_listen_for_interrupt) as pool:
        try:
            yield from zip(jobs, pool.map(partial(_interruptible, run), jobs), strict=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Worker:
    """What a process of the pool knows of itself."""

    is_busy = False
    is_stopped = False


def _listen_for_interrupt() -> None:
    from zoo.media.apart import read_apart_from_now_on

    signal.signal(signal.SIGINT, _stop)
    read_apart_from_now_on()


def _stop(*_: object) -> None:
    """End the clip at hand, whose half-written file goes, and take no other."""
    _Worker.is_stopped = True
    if _Worker.is_busy:
        raise KeyboardInterrupt


def _interruptible(run: Callable[[Job], str | None], job: Job) -> str | None:
    if _Worker.is_stopped:
        return INTERRUPTED
    _Worker.is_busy = True
    try:
        return run(job)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        _Worker.is_busy = False


def _targets(
    records: Sequence[ClipRecord], videos: Path, folder: Path
) -> Iterator[tuple[ClipRecord, Path]]:
    """Yield where each clip goes; of two that differ in their suffix only, the second keeps it."""
    taken: set[Path] = set()
    for record in records:
        name = record.path.absolute().relative_to(videos.absolute())
        out = folder.absolute() / name.with_suffix(".mp4")
        if out in taken:
            out = out.with_name(f"{name.name}.mp4")
        taken.add(out)
        yield record, out
