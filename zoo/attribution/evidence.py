"""What attribution finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

CLEAR = 3.0  # standard deviations above chance from which a chunk counts as evidence


@dataclass(frozen=True)
class Evidence:
    """Attribution of one modality (paper section 4.1).

    Of K random masks, those under which the model still gives the reference offset are recorded.

    Attributes:
        all_masks: of every chunk, the recorded masks that keep it, divided by K.
        recorded: the same, divided by the number of recorded masks.
        right: share of the masks that are recorded.
        keep: probability with which the masks keep a chunk: ``recorded`` of a chunk that does not
            matter.
        noise: standard deviation of ``recorded`` of a chunk that does not matter.
    """

    all_masks: list[float]
    recorded: list[float]
    right: float
    keep: float
    noise: float

    @property
    def excess(self) -> Float[np.ndarray, " C"]:
        """How far ``recorded`` lies above chance, in standard deviations."""
        return (np.asarray(self.recorded) - self.keep) / max(self.noise, 1e-9)


@dataclass(frozen=True)
class Attribution:
    """Where in a crop the evidence lies.

    Attributes:
        path: the clip.
        model: the model's name.
        replaced: ``tokens`` or ``content``.
        against: the clip that stands in for what is masked; None is the mean.
        start_s: start of the crop in the clip, seconds.
        end_s: its end, seconds.
        chunk_s: length of a chunk, seconds.
        chunks_s: start of every chunk in the clip, seconds.
        reference_s: the offset that counts as right, seconds.
        tolerance_s: how far from it an offset still is right, seconds.
        offset_s: what the model says of the crop without a mask, seconds.
        probability: of that.
        masks: K, masks per modality.
        seed: of the masks.
        audio_track: which audio track, from 1; None is the first.
        audio: evidence in the audio, with the video as it is.
        vision: evidence in the video, with the audio as it is.
        video_track: which video track, from 1; None is the film.
    """

    path: str
    model: str
    replaced: str
    against: str | None
    start_s: float
    end_s: float
    chunk_s: float
    chunks_s: list[float]
    reference_s: float
    tolerance_s: float
    offset_s: float
    probability: float
    masks: int
    seed: int
    audio_track: int | None
    audio: Evidence
    vision: Evidence
    video_track: int | None = None

    def moments_s(self, evidence: Evidence) -> list[tuple[float, float]]:
        """Return the moments that clearly hold evidence, the strongest first, seconds."""
        is_clear = np.concatenate([[False], evidence.excess > CLEAR, [False]])
        turns = np.flatnonzero(np.diff(is_clear.astype(int)))  # beginning and end of each moment
        moments = sorted(
            zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True),
            key=lambda turn: -evidence.excess[turn[0] : turn[1]].max(),
        )
        edges_s = [*self.chunks_s, self.end_s]
        return [(edges_s[first], edges_s[last]) for first, last in moments]

    def as_dict(self) -> dict[str, Any]:
        """Return the attribution as JSON types, with the moments of both."""
        answer = asdict(self)
        for modality, evidence in (("audio", self.audio), ("vision", self.vision)):
            answer[modality]["moments_s"] = [list(moment) for moment in self.moments_s(evidence)]
        return answer
