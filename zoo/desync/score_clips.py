"""Scoring many clips: files are read ahead in threads, segments of several clips share a batch."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.catalog.entries import read_description, resolve
from zoo.catalog.model_folder import load_model
from zoo.data.frontend import normalise
from zoo.data.rule import av_align
from zoo.desync.pairs import Pair, pair_clips
from zoo.desync.reading import PairReader, Reading
from zoo.desync.score_folder import ResultFolder
from zoo.desync.score_settings import Mode, Settings, duration_of
from zoo.desync.scores import ClipScore, scored, skipped, summarise
from zoo.errors import ManifestError, MediaError
from zoo.media.apart import reading_apart
from zoo.models.device import find_device
from zoo.models.model import Model, require_offsets, require_separable
from zoo.models.segments import Tokens
from zoo.timeline import OffsetGrid

BATCH = 16  # segments that are encoded at once
MAX_WORKERS = 16
Progress = Callable[[int, int], None]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """Scores of all clips, and what they amount to (see `zoo.desync.scores.summarise`)."""

    clips: list[ClipScore]
    summary: dict[str, Any]

    @property
    def desync_s(self) -> float:
        """The score: mean of ``|offset|`` over clips, seconds, as the mode defines it."""
        return float(self.summary["desync_s"])


def score(
    model: str | Path,
    videos: str | Path,
    audios: str | Path | None = None,
    *,
    mode: Mode = "corrected",
    duration_s: float | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    batch: int = BATCH,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Score how far the audio of many clips is off (DeSync).

    ``score("tiny-synthetic", "videos", "generated").desync_s``

    Args:
        model: catalog name or model folder; its head must answer offsets.
        videos: folder of the videos.
        audios: folder of the audios, paired by name; by default the videos' own audio.
        mode: ``published`` equals the public scorer, ``corrected`` does without its mistakes,
            ``avgen-bench`` scores as that benchmark; docs/desync.md says how they differ.
        duration_s: how much of every clip is looked at, seconds; 8 by default, and always 5 for
            ``avgen-bench``.  ``corrected`` uses shorter clips as far as they go, others skip them.
        out: folder for ``clips.csv``, ``summary.json`` and ``offsets.png``; a run that was
            interrupted goes on there, and clips whose files have not changed are not read again.
        device: where to compute.
        batch: segments that are computed at once; changes speed and memory, not scores.
        workers: threads that read clips; by default one per processor.
        progress: is told the clips done and the clips in all.

    Raises:
        ModelError: if the model cannot be loaded.
        ConfigError: if it answers no offsets, its encoder looks at both modalities at once, a value
            is out of range, or ``out`` holds the scores of other settings.
        ManifestError: if a folder holds no clips, or not one could be scored.
    """
    folder = resolve(model)
    loaded, grid = _load(folder, str(model), device)
    duration_s = duration_of(mode, loaded.config.layout, duration_s)
    scorer = Scorer(loaded, grid, mode, duration_s, batch)
    videos, audios = Path(videos), None if audios is None else Path(audios)
    pairs = pair_clips(videos, audios)
    settings = Settings(
        mode=mode,
        duration_s=duration_s,
        model=str(model),
        sha256=read_description(folder)["sha256"],
        videos=str(videos.resolve()),
        audios=None if audios is None else str(audios.resolve()),
    )
    results = None if out is None else ResultFolder(Path(out), settings)
    clips = _score_all(scorer, pairs, results, workers, progress)
    summary = summarise(clips, settings, grid)
    if results is not None:
        results.finish(clips, summary)
    if not summary["scored"]:
        raise _nothing_scored(clips)
    return Result(clips, summary)


def _load(folder: Path, name: str, device: str) -> tuple[Model, OffsetGrid]:
    """Load a model that finds offsets and encodes each modality by itself."""
    model = load_model(folder).to(find_device(device))
    grid = require_offsets(model, name)
    require_separable(model.encoder, name)
    return model, grid


def _nothing_scored(clips: Sequence[ClipScore]) -> ManifestError:
    return ManifestError(
        f"not one of the {len(clips)} clips could be scored; the first, {clips[0].name}: "
        f"{clips[0].skipped}"
    )


def _score_all(
    scorer: Scorer,
    pairs: Sequence[Pair],
    results: ResultFolder | None,
    workers: int | None,
    progress: Progress | None,
) -> list[ClipScore]:
    """Score the pairs that have no row yet, and keep the rows as they come."""
    rows = _known_rows(pairs, results)
    for done in scorer.rows([pair for pair in pairs if pair.name not in rows], workers):
        rows |= {row.name: row for row in done}
        if results is not None:
            results.append(done)
        if progress is not None:
            progress(len(rows), len(pairs))
    return [rows[pair.name] for pair in pairs]


def _known_rows(pairs: Sequence[Pair], results: ResultFolder | None) -> dict[str, ClipScore]:
    """Return the rows that need no reading: no pair, or finished before and unchanged since."""
    rows = {pair.name: skipped(pair, pair.problem) for pair in pairs if pair.problem}
    if results is None:
        return rows
    for pair in pairs:
        before = results.finished.get(pair.name)
        if pair.name not in rows and before is not None and before.files == _version(pair):
            rows[pair.name] = before
    results.start(list(rows.values()))
    return rows


def _version(pair: Pair) -> str:
    """Return sizes and times of a pair's files, to know whether they have changed."""
    parts = []
    for path in (pair.video, pair.audio):
        try:
            stat = path.stat() if path is not None else None
        except OSError:
            stat = None
        parts.append(f"{stat.st_size}:{stat.st_mtime_ns}" if stat else "gone")
    return " ".join(parts)


class Scorer:
    """A model with the windows of a mode."""

    def __init__(
        self, model: Model, grid: OffsetGrid, mode: Mode, duration_s: float, batch: int
    ) -> None:
        self.model, self.grid, self.mode, self.batch = model, grid, mode, batch
        self.encoder = model.separable
        self.reader = PairReader(
            model.vision_frontend, model.audio_frontend, model.io, model.config.layout, duration_s
        )

    def rows(self, pairs: Sequence[Pair], workers: int | None) -> Iterator[list[ClipScore]]:
        """Yield the rows of all pairs in their order, a few at a time."""
        waiting: list[tuple[Pair, str, Reading | str]] = []
        num_segments = 0
        for item in self._read_ahead(pairs, workers or min(os.cpu_count() or 1, MAX_WORKERS)):
            waiting.append(item)
            if isinstance(item[2], Reading):
                num_segments += len(item[2].frame_starts)
            if num_segments >= self.batch:
                yield self._score(waiting)
                waiting, num_segments = [], 0
        if waiting:
            yield self._score(waiting)

    def _read_ahead(
        self, pairs: Sequence[Pair], workers: int
    ) -> Iterator[tuple[Pair, str, Reading | str]]:
        """Read clips in threads, never more than a few ahead, so that memory stays flat."""
        ahead: deque[Future[tuple[Pair, str, Reading | str]]] = deque()
        pool = ThreadPoolExecutor(workers)
        try:
            with reading_apart():
                for pair in pairs:
                    ahead.append(pool.submit(self._read, pair))
                    if len(ahead) > workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, pair: Pair) -> tuple[Pair, str, Reading | str]:
        version = _version(pair)
        try:
            return pair, version, self.reader.read(pair, self.mode)
        except (MediaError, av.FFmpegError, OSError) as error:
            return pair, version, str(error)
        except Exception as error:  # one strange file must not end a run over thousands
            log.debug("reading %s", pair.name, exc_info=True)
            return pair, version, f"cannot be read: {type(error).__name__}: {error}"

    @torch.inference_mode()
    def _score(self, items: Sequence[tuple[Pair, str, Reading | str]]) -> list[ClipScore]:
        readings = [reading for _, _, reading in items if isinstance(reading, Reading)]
        logits = iter(self.logits(readings))
        return [
            skipped(pair, reading, version)
            if isinstance(reading, str)
            else self._row(pair, reading, next(logits), version)
            for pair, version, reading in items
        ]

    def _row(
        self, pair: Pair, reading: Reading, logits: Float[Tensor, "W K"], version: str
    ) -> ClipScore:
        """Score a clip by its windows that hold anything to hear and to see."""
        layout = self.model.config.layout
        starts = self._window_starts(len(reading.frame_starts), len(reading.mel))
        windows_s = [(i * layout.step_s, j * layout.step_s) for i, j in starts]
        kept = reading.content.counted(windows_s, layout.covered_s)
        if not kept:
            return skipped(pair, reading.content.lack(), version)
        aligned, grid = av_align(reading.content), self.grid
        return scored(pair, logits[kept], grid, self.mode, reading.note, version, aligned)

    def logits(self, readings: Sequence[Reading]) -> list[Float[Tensor, "W K"]]:
        """Classify the windows of clips whose segments are in memory."""
        if not readings:
            return []
        vision = self._encode_vision(readings)
        audio = self._encode_audio(readings)
        num = self.model.config.layout.num_segments
        crops: list[tuple[Tensor, Tensor]] = []
        counts = []
        for a, v in zip(audio, vision, strict=True):
            starts = self._window_starts(len(v), len(a))
            counts.append(len(starts))
            crops += [(a[j : j + num], v[i : i + num]) for i, j in starts]
        encoders = self.encoder.audio, self.encoder.vision
        parts = []
        for first in range(0, len(crops), self.batch):
            sides = zip(*crops[first : first + self.batch], strict=True)
            audio_tokens, vision_tokens = (
                Tokens.of_segments(torch.cat(side), num, encoder.tokens)
                for side, encoder in zip(sides, encoders, strict=True)
            )
            parts.append(self.model.answer(audio_tokens, vision_tokens).float().cpu())
        return list(torch.cat(parts).split(counts))

    def _window_starts(self, num_vision: int, num_audio: int) -> list[tuple[int, int]]:
        """Return the first video and audio segment of every window."""
        num = self.model.config.layout.num_segments
        if self.mode == "published":
            return [(0, 0), (num_vision - num, num_audio - num)]
        return [(i, i) for i in range(min(num_vision, num_audio) - num + 1)]

    def _encode_vision(self, readings: Sequence[Reading]) -> list[Float[Tensor, "S TxP D"]]:
        frontend = self.model.vision_frontend
        num = frontend.num_frames(self.model.io.vision.segment_s)
        where = [(reading.frames, i) for reading in readings for i in reading.frame_starts]
        parts = []
        for first in range(0, len(where), self.batch):
            chosen = where[first : first + self.batch]
            segments = torch.from_numpy(np.stack([frames[i : i + num] for frames, i in chosen]))
            parts.append(self.encoder.vision(normalise(segments.to(self.model.device), frontend)))
        return list(torch.cat(parts).split([len(reading.frame_starts) for reading in readings]))

    def _encode_audio(self, readings: Sequence[Reading]) -> list[Float[Tensor, "S TxP D"]]:
        mel = torch.cat([reading.mel for reading in readings]).to(self.model.device)
        tokens = torch.cat([self.encoder.audio(part) for part in mel.split(self.batch)])
        return list(tokens.split([len(reading.mel) for reading in readings]))
