"""Repairing a clip: predict, shift the audio without re-encoding, measure again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.errors import MediaError, RepairError, option
from zoo.files import part_beside
from zoo.inference.offset_predictor import FINE_STEP_S, OffsetPredictor
from zoo.inference.prediction import Prediction, unlike
from zoo.inference.windows import Progress
from zoo.media import shift_audio
from zoo.media.encode import cannot_write
from zoo.media.remux import require_writable
from zoo.timeline import describe_offset

MIN_CONFIDENCE = 0.8  # of a model that knows such clips; see docs/repair.md for what it costs
SMALL_S = 0.1  # a residue up to here is no sign of a mistake, even if the clip was better before


@dataclass(frozen=True)
class Repair:
    """What was done to a clip.

    Attributes:
        path: the clip, which stays as it was.
        out: the repaired copy.
        model: the model's name.
        offset_s: how early the audio was, seconds.
        meaning: the same in words.
        confidence: probability that this is right to within one class of the model.
        delay_s: how much later the audio is presented in the copy, seconds.
        residue_s: the offset of the copy, measured again; None if that was not possible.
        residue_confidence: of that measurement.
        warnings: what spoke against the repair and was overruled, or could not be measured.
    """

    path: str
    out: str
    model: str
    offset_s: float
    meaning: str
    confidence: float
    delay_s: float
    residue_s: float | None
    residue_confidence: float | None
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the repair as JSON types."""
        return asdict(self)


def repair(
    predictor: OffsetPredictor,
    path: str | Path,
    out: str | Path,
    *,
    min_confidence: float = MIN_CONFIDENCE,
    max_offset_s: float | None = None,
    audio_track: int | None = None,
    video_track: int | None = None,
    force: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Repair:
    """Write a copy of a clip whose audio is delayed by the predicted offset.

    No stream is re-encoded.  The copy is measured before it gets its name, so that ``out`` is
    either a finished repair or not there.

    Args:
        predictor: the model at work.
        path: the clip, which is never touched.
        out: the copy to write; its suffix chooses the container.
        min_confidence: refuse a prediction that is less sure than this, 0 to 1.
        max_offset_s: look for offsets so far either way, seconds; by default the model's own.
        audio_track: which track to listen to, from 1; all audio tracks are shifted alike.
        video_track: which track to look at, from 1; by default the film.
        force: repair although the model is not sure, or although the copy measures worse or cannot
            be measured.
        overwrite: replace ``out`` if it exists.
        progress: is told how many crops are done, and of how many; begins again for the copy.

    Raises:
        RepairError: if the model is not sure enough, or the copy is worse than the clip or cannot
            be measured.
        MediaError: if the clip cannot be read, or ``out`` cannot be written.
    """
    path, out = Path(path), Path(out)
    require_writable(path, out, overwrite=overwrite)
    tracks = audio_track, video_track
    before = measure(predictor, path, tracks, max_offset_s, progress)
    warnings = doubts(before, min_confidence)
    if warnings and not force:
        raise _not_repaired(path, warnings[0])
    warnings += [] if before.low_confidence is None else [before.low_confidence]
    warnings += [note for note in before.notes if note not in warnings]
    try:
        with part_beside(out, is_folder=True) as folder:
            copy = folder / out.name  # so that messages name the copy as it will be
            after, problem = _write(predictor, path, copy, before, tracks, progress)
            if problem and not force:
                raise _not_repaired(path, problem)
            warnings += [problem] if problem else []
            copy.replace(out)
    except OSError as error:
        raise cannot_write(out, error) from error
    return Repair(
        path=str(path),
        out=str(out),
        model=predictor.name,
        offset_s=before.refined_s,
        meaning=describe_offset(before.refined_s),
        confidence=before.confidence,
        delay_s=before.refined_s,
        residue_s=None if after is None else after.refined_s,
        residue_confidence=None if after is None else after.confidence,
        warnings=warnings,
    )


def _not_repaired(path: Path, reason: str) -> RepairError:
    return RepairError(
        f"{path} is not repaired: {reason}", f"{option('force')} repairs it all the same"
    )


def measure(
    predictor: OffsetPredictor,
    path: Path,
    tracks: tuple[int | None, int | None] = (None, None),
    max_offset_s: float | None = None,
    progress: Progress | None = None,
    every_s: float | None = None,
) -> Prediction:
    """Predict as finely as the model can; see `OffsetPredictor.predict`.

    ``tracks`` are those of audio and video.
    """
    step_s = FINE_STEP_S if predictor.can_refine else None
    return predictor.predict(
        path,
        step_s,
        audio_track=tracks[0],
        video_track=tracks[1],
        every_s=every_s,
        max_offset_s=max_offset_s,
        progress=progress,
    )


def doubts(prediction: Prediction, min_confidence: float) -> list[str]:
    """Say what speaks against moving the audio by the predicted offset."""
    found = []
    if prediction.confidence < min_confidence:
        found.append(
            f"{prediction.model} is only {prediction.confidence:.0%} sure of an offset of "
            f"{prediction.refined_s:+.2f} s, and {min_confidence:.0%} are asked for"
        )
    if not prediction.can_be_synchronized:
        found.insert(
            0,
            f"its sound and picture cannot be synchronized (probability that they can: "
            f"{prediction.synchronizability:.2f})",
        )
    found += unlike(prediction.model, prediction.unfamiliarity)
    if prediction.repeats is not None:
        found.insert(0, prediction.meaning)
    if len(prediction.over_time.stretches) > 1 or prediction.over_time.drift is not None:
        found.insert(
            0, f"no single shift can repair an offset that changes: {prediction.over_time.meaning}"
        )
    return found


def is_worse(before: Prediction, after: Prediction, class_step_s: float) -> bool:
    """Say whether the copy is further off than the clip was, or than a class of the model."""
    return abs(after.refined_s) > max(SMALL_S, min(abs(before.refined_s), class_step_s))


def _write(
    predictor: OffsetPredictor,
    path: Path,
    copy: Path,
    before: Prediction,
    tracks: tuple[int | None, int | None],
    progress: Progress | None,
) -> tuple[Prediction | None, str]:
    """Write the copy and measure it; say what is wrong with it, if anything."""
    shift_audio(path, copy, before.refined_s)
    try:
        after = measure(predictor, copy, tracks, progress=progress)
    except MediaError as error:
        return None, f"the copy could not be measured: {error}"
    if is_worse(before, after, predictor.grid.step_s):
        return after, (
            f"with the audio shifted by {before.refined_s:+.3f} s the model sees an offset of "
            f"{after.refined_s:+.3f} s"
        )
    return after, ""
