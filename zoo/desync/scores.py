"""The scores of single clips and what they amount to."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from zoo.desync.pairs import Pair
from zoo.desync.score_settings import Mode, Settings
from zoo.evaluation.bootstrap import mean_intervals
from zoo.timeline import OffsetGrid


@dataclass(frozen=True)
class ClipScore:
    """One row of ``clips.csv``.

    Attributes:
        name: of the pair.
        video: the video file.
        audio: the audio file.
        desync_s: mean of ``|offset|`` over the windows, the offset being the most probable one, or
            with ``avgen-bench`` the mean of the distribution; None if the clip was skipped.
        signed_s: mean offset over the windows, positive where the audio is early.
        expected_s: mean over the windows of ``|offset|`` as the model's distribution expects it.
        probability: mean over the windows of the most probable offset's probability.
        av_align: how many onsets of the sound and peaks of the motion meet, 0 to 1, without the
            model (`zoo.data.rule.av_align`); None if there are none.
        offsets_s: most probable offset of every window.
        probabilities: of these offsets.
        skipped: why the clip has no score; empty if it has.
        note: why its clock cannot be trusted; empty if it can.
        files: sizes and times of both files when they were read.
    """

    name: str
    video: str
    audio: str
    desync_s: float | None = None
    signed_s: float | None = None
    expected_s: float | None = None
    probability: float | None = None
    av_align: float | None = None
    offsets_s: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    skipped: str = ""
    note: str = ""
    files: str = ""

    def cells(self) -> list[str]:
        """Return the row as text, to the last bit."""
        return [_cell(getattr(self, name)) for name in COLUMNS]

    @classmethod
    def parse(cls, row: dict[str, str]) -> ClipScore:
        """Read a row of text.

        Raises:
            ValueError: if the row is not whole.
        """
        if list(row) != COLUMNS or None in row.values():
            raise ValueError("columns are missing")
        values: dict[str, Any] = dict(row)
        for name in ("desync_s", "signed_s", "expected_s", "probability", "av_align"):
            values[name] = float(row[name]) if row[name] else None
        for name in ("offsets_s", "probabilities"):
            values[name] = tuple(float(part) for part in row[name].split())
        if (values["desync_s"] is None) != bool(row["skipped"]):
            raise ValueError("the row has neither a score nor a reason")
        return cls(**values)


COLUMNS = [field.name for field in fields(ClipScore)]


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(repr(part) for part in value)
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def skipped(pair: Pair, reason: str, files: str = "") -> ClipScore:
    """Return the row of a clip without a score."""
    video, audio = (str(path or "") for path in (pair.video, pair.audio))
    return ClipScore(pair.name, video, audio, skipped=" ".join(reason.split()), files=files)


def scored(
    pair: Pair,
    logits: Float[Tensor, "W K"],
    grid: OffsetGrid,
    mode: Mode,
    note: str,
    files: str,
    av_align: float | None = None,
) -> ClipScore:
    """Return the row of a clip from the logits of its windows."""
    if not bool(logits.isfinite().all()):
        return skipped(pair, "the model's answer is not a number", files)
    grid_s = np.asarray(grid.offsets_s)
    best = logits.argmax(1).numpy()
    probabilities = logits.double().softmax(1).numpy()
    of_best = probabilities[np.arange(len(best)), best]
    chosen_s = probabilities @ grid_s if mode == "avgen-bench" else grid_s[best]
    return ClipScore(
        pair.name,
        str(pair.video),
        str(pair.audio),
        desync_s=float(np.abs(chosen_s).mean()),
        signed_s=float(grid_s[best].mean()),
        expected_s=float((probabilities @ np.abs(grid_s)).mean()),
        probability=float(of_best.mean()),
        av_align=av_align,
        offsets_s=tuple(grid_s[best].tolist()),
        probabilities=tuple(np.round(of_best, 6).tolist()),
        note=note,
        files=files,
    )


def summarise(clips: Sequence[ClipScore], settings: Settings, grid: OffsetGrid) -> dict[str, Any]:
    """Sum up the scores of all clips; every clip counts once, however many windows it has.

    Returns:
        ``desync_s`` (the score), its 95 % ``interval_s`` over clips, ``median_s``,
        ``signed_mean_s``, ``expected_s``, ``most_probable_s`` (the mean of ``|offset|`` of the most
        probable offsets, whatever the mode), ``probability``, ``av_align``, what chance and the
        worst score are, how many of how many clips were ``scored``, which were ``skipped`` and why,
        the ``histogram`` of the predictions.
    """
    good = [clip for clip in clips if clip.desync_s is not None]
    offsets_s = np.asarray([offset for clip in good for offset in clip.offsets_s])
    per_clip_s = np.asarray([clip.desync_s for clip in good], dtype=float)
    intervals = mean_intervals({"desync_s": per_clip_s}, np.arange(len(good)), seed=0)
    return {
        "desync_s": _mean(per_clip_s),
        "interval_s": list(intervals["desync_s"]) if intervals else None,
        "median_s": float(np.median(per_clip_s)) if good else None,
        "signed_mean_s": _mean([clip.signed_s for clip in good]),
        "expected_s": _mean([clip.expected_s for clip in good]),
        "most_probable_s": _mean([np.abs(clip.offsets_s).mean() for clip in good]),
        "probability": _mean([clip.probability for clip in good]),
        "av_align": _mean([clip.av_align for clip in good if clip.av_align is not None]),
        "uniform_guessing_s": _uniform_guessing_s(settings.mode, grid),
        "maximum_s": grid.reach_s,
        "clips": len(clips),
        "scored": len(good),
        "predictions": len(offsets_s),
        **settings.model_dump(mode="json"),
        "notes": [{"name": clip.name, "note": clip.note} for clip in good if clip.note],
        "skipped": [{"name": c.name, "reason": c.skipped} for c in clips if c.skipped],
        "histogram": [
            {"offset_s": offset, "count": int(np.isclose(offsets_s, offset).sum())}
            for offset in grid.offsets_s
        ],
    }


def _uniform_guessing_s(mode: Mode, grid: OffsetGrid) -> float:
    """Return the score of a model that finds all offsets equally probable."""
    offsets_s = np.asarray(grid.offsets_s)
    return float(abs(offsets_s.mean()) if mode == "avgen-bench" else np.abs(offsets_s).mean())


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None


def to_csv(clips: Sequence[ClipScore], *, header: bool) -> str:
    """Return rows as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    writer.writerows(clip.cells() for clip in clips)
    return text.getvalue()
