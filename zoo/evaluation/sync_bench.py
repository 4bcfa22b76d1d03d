"""The protocol ``av-syncbench``: is the original sound scored above a copy that is moved a little?

Source: AV-SyncBench (arXiv:2607.00726), global offsets; its code's score of a classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.catalog.entries import resolve
from zoo.catalog.model_folder import load_model, read_description
from zoo.contracts import Modality
from zoo.data.clip_reader import whole_frames_s
from zoo.data.frontend import crop_square, cut_audio, cut_frames
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, ManifestError, MediaError
from zoo.evaluation.bootstrap import mean_intervals
from zoo.evaluation.evaluation_request import Request, refuse_sampling
from zoo.evaluation.members import reader_of
from zoo.evaluation.protocol import PAIRWISE, SHIFTS_MS, Protocol
from zoo.evaluation.sync_bench_view import PairwiseView
from zoo.evaluation.sync_pairs import DIRECTIONS, Film, Sound, pairs_of_clips, read_pairs
from zoo.evaluation.views import Evaluation
from zoo.files import sha256_of
from zoo.media import probe
from zoo.media.apart import reading_apart
from zoo.models.device import find_device
from zoo.models.model import Model, require_offsets
from zoo.models.segments import Segments, Tokens
from zoo.timeline import FIXED_CROP_S

Progress = Callable[[int, int], None]
STRIDE_S = 0.64  # from window to window
ROUNDED_S = 5.0  # to a multiple of which clips are filled up, with the last frame and silence
AT_ONCE = 16  # segments, or windows
OTHER = "audio of another clip"


def evaluate_pairs(
    request: Request, protocol: Protocol, progress: Progress | None = None
) -> Evaluation:
    """Compare the original sound of every clip with copies that are moved.

    Args:
        request: what and how; its data are the benchmark's own ``.jsonl``, or a manifest of clips
            in sync whose sound is then moved by the same amounts.
        protocol: the one of this name.
        progress: is told how many clips are done, and of how many.

    Raises:
        ZooError: if the model or the data cannot be used, or an option has no meaning here.
    """
    refuse_sampling(request, "AV-SyncBench has windows of its own")
    folder = resolve(request.model)
    scorer = PairScorer(load_model(folder).to(find_device(request.device)), request.model)
    split = request.split or protocol.split
    films, notes = _films(request, split)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    before: tuple[Film, list[Sound]] | None = None
    num_clips = 0
    with reading_apart():
        for done, film in enumerate(films, start=1):
            try:
                frames, sounds = scorer.read(film)
                zeros = scorer.zeros(frames, sounds)
                others = _others(scorer, frames, before) if request.with_controls else {}
                rows += _compare(film, zeros, others)
                before, num_clips = (film, sounds), num_clips + 1
            except MediaError as error:
                left_out[str(film.video)] = str(error)
            if progress is not None:
                progress(done, len(films))
    if not rows:
        raise ManifestError(
            f"not one clip can be compared; the first because: {next(iter(left_out.values()))}"
        )
    report = {
        "model": request.model,
        "protocol": request.protocol,
        "split": split if request.data.suffix != ".jsonl" else None,
        "seed": request.seed,
        "task": "offset",
        "rounds": None,
        "model_sha256": read_description(folder).get("sha256"),
        "manifest_sha256": sha256_of(request.data),
        "num_clips": num_clips,
        "num_clips_of_split": len(films),
        "window_s": scorer.window_s,
        **summarise(rows, request.seed),
        "pairs": rows,
        "notes": notes,
        "left_out": left_out,
    }
    return Evaluation(report, PairwiseView())


def _films(request: Request, split: Any) -> tuple[list[Film], list[str]]:
    if request.data.suffix != ".jsonl":
        return pairs_of_clips(list(Manifest.read(request.data).select(split).clips)), []
    films, num_others = read_pairs(request.data)
    notes = [f"{num_others} pairs of other kinds are passed over"] if num_others else []
    return films, notes


def _others(
    scorer: PairScorer, frames: np.ndarray, other: tuple[Film, list[Sound]] | None
) -> dict[tuple[int, str], bool]:
    """Say which pairs of another clip's sounds come out right beside a picture: a control."""
    if other is None:
        return {}
    film, sounds = other
    own, *moved = scorer.zeros(frames, sounds)
    return {
        (pair.shift_ms, pair.direction): own > zero
        for pair, zero in zip(film.moved, moved, strict=True)
    }


def _compare(
    film: Film, zeros: list[float], others: dict[tuple[int, str], bool]
) -> list[dict[str, Any]]:
    """Return a row for every pair: right if the original is strictly better; ties are wrong."""
    own, *moved = zeros
    rows = []
    for pair, zero in zip(film.moved, moved, strict=True):
        row = {
            "id": pair.id,
            "clip": str(film.video),
            "shift_ms": pair.shift_ms,
            "direction": pair.direction,
            "original": own,
            "moved": zero,
            "is_right": own > zero,
        }
        control = others.get((pair.shift_ms, pair.direction))
        rows.append(row if control is None else row | {"control": control})
    return rows


def summarise(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Return shares of right pairs by shift and in all, intervals over clips, a control, chance."""
    clips = np.unique([row["clip"] for row in rows], return_inverse=True)[1]
    shifts = np.asarray([row["shift_ms"] for row in rows])
    directions = np.asarray([row["direction"] for row in rows])
    is_right = np.asarray([row["is_right"] for row in rows], float)
    groups = {f"shift_{ms}": shifts == ms for ms in SHIFTS_MS} | {"overall": shifts >= 0}
    groups = {name: chosen for name, chosen in groups.items() if chosen.any()}
    pooled = {name: float(is_right[chosen].mean()) for name, chosen in groups.items()}
    ends = {
        name: (mean_intervals({name: is_right[chosen]}, clips[chosen], seed) or {}).get(name)
        for name, chosen in groups.items()
    }
    controls = np.asarray([row.get("control", np.nan) for row in rows], float)
    of_control = {
        name: float(np.nanmean(controls[chosen]))
        for name, chosen in groups.items()
        if np.isfinite(controls[chosen]).any()
    }
    by_direction = {
        way: {
            name: float(is_right[chosen & (directions == way)].mean())
            for name, chosen in groups.items()
            if (chosen & (directions == way)).any()
        }
        for way in DIRECTIONS
    }
    return {
        "pooled": pooled,
        "interval": ends,
        "controls": {OTHER: of_control} if of_control else {},
        "by_direction": by_direction,
        "ties": sum(row["original"] == row["moved"] for row in rows),
        "chance": {score.name: 0.5 for score in PAIRWISE.scores},
    }


class PairScorer:
    """Scores how well a sound fits a picture: the mean probability of offset 0 over windows.

    Windows of 5 s start every 0.64 s, and the model's crop lies in the middle of each; clips are
    filled up to a multiple of 5 s with the last frame and silence, as in the published code.
    Models that look at much less get windows of their own length, which lie inside the clip.

    Args:
        model: finds offsets.
        name: what to call it.

    Raises:
        ConfigError: if it finds none, or has no class for offset 0.
    """

    def __init__(self, model: Model, name: str) -> None:
        grid = require_offsets(model, name)
        at_zero = [i for i, offset_s in enumerate(grid.offsets_s) if abs(offset_s) < 1e-6]
        if not at_zero:
            raise ConfigError(f"'{name}' has no class for offset 0, which AV-SyncBench asks for")
        self.model, self.zero = model.eval(), at_zero[0]
        self.reader, self.layout = reader_of(model), model.config.layout
        self.fps, self.rate_hz = self.reader.vision.fps, self.reader.audio.sample_rate_hz
        covered_s = self.layout.covered_s
        self.is_published = covered_s > FIXED_CROP_S - STRIDE_S
        self.window_s = max(FIXED_CROP_S, covered_s) if self.is_published else covered_s
        self.lead_s = whole_frames_s((self.window_s - covered_s) / 2, self.fps)

    def read(self, film: Film) -> tuple[np.ndarray, list[Sound]]:
        """Read the picture, and the original sound before those that are moved.

        Raises:
            MediaError: if a file cannot be read.
        """
        own = film.audio or film.video
        heard = [own, *(moved.audio for moved in film.moved if moved.audio is not None)]
        ends_s = [self._end_s(film.video, "vision"), *(self._end_s(p, "audio") for p in heard)]
        length_s = whole_frames_s(min(ends_s), self.fps)
        if not length_s > 0:
            raise MediaError(f"{film.video.name} and its sounds share nothing")
        frames = self.reader.read_vision(film.video, 0.0, length_s)
        original = self.reader.read_audio(own, 0.0, length_s)
        sounds = [
            moved.apply(original, self.rate_hz)
            if moved.audio is None
            else self.reader.read_audio(moved.audio, 0.0, length_s)
            for moved in film.moved
        ]
        return crop_square(frames, self.reader.vision.size, None), [original, *sounds]

    def _end_s(self, path: Path, modality: Modality) -> float:
        info = probe(path)
        stream = info.video if modality == "vision" else info.audio
        if stream is None:
            kind = "video" if modality == "vision" else "audio"
            raise MediaError(f"{path.name} has no {kind} stream")
        return stream.end_s

    @torch.inference_mode()
    def zeros(self, frames: np.ndarray, sounds: Sequence[Sound]) -> list[float]:
        """Return how probable the model finds offset 0, for each sound, averaged over windows."""
        starts_s = self._starts_s(len(frames) / self.fps)
        total_s = starts_s[-1] + self.window_s
        missing = max(0, round(total_s * self.fps) - len(frames))
        padded = np.pad(frames, ((0, missing), (0, 0), (0, 0), (0, 0)), "edge")
        vision = _Side(self, "vision", padded, starts_s)
        found = []
        for sound in sounds:
            missing = max(0, round(total_s * self.rate_hz) - len(sound))
            audio = _Side(self, "audio", np.pad(sound, (0, missing)), starts_s)
            found.append(self._zero(audio, vision, len(starts_s)))
        return found

    def _starts_s(self, length_s: float) -> list[float]:
        """Return where windows start; the published ones go on to the end that is filled up."""
        if self.is_published:
            end_s = max(ROUNDED_S, -(-(length_s - 1e-6) // ROUNDED_S) * ROUNDED_S)
        else:
            end_s = max(length_s - self.window_s, 0.0) + 1e-6
        num = int(-(-end_s // STRIDE_S))
        return [round(round(k * STRIDE_S * self.fps) / self.fps, 6) for k in range(num)]

    def _zero(self, audio: _Side, vision: _Side, num_windows: int) -> float:
        model, num, found = self.model, self.layout.num_segments, []
        for first in range(0, num_windows, AT_ONCE):
            a, v = (side.windows(slice(first, first + AT_ONCE)) for side in (audio, vision))
            if model.encoder.is_separable:
                pair = (
                    Tokens.of_segments(values.flatten(0, 1), num, declared.tokens)
                    for values, declared in ((a, model.io.audio), (v, model.io.vision))
                )
                logits = model.answer(*pair)
            else:
                segments = Segments(a, v).to(model.device)
                logits = model.answer(*model.encoder.encode_many(segments))
            found.append(logits.float().cpu().softmax(1)[:, self.zero])
        return float(torch.cat(found).double().mean())


class _Side:
    """The segments of all windows of one modality; a separable encoder encodes each once."""

    def __init__(
        self, scorer: PairScorer, modality: Modality, read: np.ndarray, starts_s: Sequence[float]
    ) -> None:
        self.scorer, self.modality, self.read = scorer, modality, read
        within_s, self.segment_s = scorer.reader.places(modality, scorer.layout)
        self.places_s = np.round(
            np.asarray(starts_s)[:, None] + scorer.lead_s + within_s, 6
        )  # (W, S)
        self.tokens: Tensor | None = None
        if scorer.model.encoder.is_separable:
            part, device = scorer.model.separable.modality(modality), scorer.model.device
            unique_s, index = np.unique(self.places_s, return_inverse=True)
            blocks = np.split(unique_s, range(AT_ONCE, len(unique_s), AT_ONCE))
            encoded = [part.encode(self._cut(block).to(device)) for block in blocks]
            self.tokens = torch.cat(encoded)
            self.index = torch.from_numpy(index.reshape(self.places_s.shape))

    def windows(self, chosen: slice) -> Float[Tensor, "W S ..."]:
        """Return tokens, or segments, of some windows."""
        if self.tokens is not None:
            return self.tokens[self.index[chosen]]
        return torch.stack([self._cut(places_s) for places_s in self.places_s[chosen]])

    def _cut(self, places_s: np.ndarray) -> Tensor:
        reader, starts_s = self.scorer.reader, places_s.tolist()
        if self.modality == "audio":
            return cut_audio(self.read, starts_s, self.segment_s, reader.audio)
        return cut_frames(self.read, starts_s, self.segment_s, reader.vision)
