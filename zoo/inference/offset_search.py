"""Offsets beyond a model's grid: try shifts of the sound, and keep the one that crops agree on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.inference.changepoints import OUTLIERS
from zoo.inference.windows import Progress, SegmentEncoder, classify
from zoo.timeline import search_shifts, shared_segments

MOST_WINDOWS = 24  # crops that are tried at every shift, spread over the clip
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """What the search found.

    Attributes:
        offset_s: the offset that most crops agree on, seconds, to within a class of the model.
        probability: of that offset against all others that were tried.
        reach_s: largest offset that the clip's length allowed to try, seconds.
    """

    offset_s: float
    probability: float
    reach_s: float


@torch.no_grad()
def search(
    encoder: SegmentEncoder, max_offset_s: float, progress: Progress | None = None
) -> Found | None:
    """Search for the offset of a clip between ``-max_offset_s`` and ``max_offset_s``.

    At every shift the model classifies what is left of the offset. Only at the right shift do crops
    from all over the clip agree, so the logarithms of their probabilities are added up; a share of
    the crops may be wrong.

    Args:
        encoder: of the clip.
        max_offset_s: largest offset to look for, seconds.
        progress: is told how many crops are done, and of how many.

    Returns:
        What was found; None if the clip is shorter than a crop.

    Raises:
        MediaError: if the clip is damaged.
    """
    layout, grid = encoder.layout, encoder.model.config.grid
    streams = encoder.streams.whole_frames(encoder.model.vision_frontend.fps)
    vision, audio = (
        shared_segments(span_s, span_s, layout)[: 1 - layout.num_segments or None]
        for span_s in (streams.video_s, streams.audio_s)
    )  # the first segments of crops
    if not vision or not audio:
        return None
    longest_s = max(streams.video_s[1], streams.audio_s[1])  # beyond it nothing is shared
    shifts = search_shifts(layout, grid, min(max_offset_s, longest_s))
    spread = np.linspace(vision[0], vision[-1], MOST_WINDOWS)
    firsts = np.unique(spread.round().astype(int)).tolist()
    scores = np.full((len(shifts), grid.num_classes), -np.inf)
    hop = (firsts[-1] - firsts[0] + 1) / len(firsts)
    weight = min(1.0, hop / layout.num_segments)  # crops that overlap see the same events
    sound = _SlidingSound(encoder)
    for done, first in enumerate(firsts):
        fits = [i for i, shift in enumerate(shifts) if first - shift in audio]
        if fits:
            p = _classify_at(encoder, sound, first, [first - shifts[i] for i in fits])  # (F, K)
            known = np.where(np.isfinite(scores[fits]), scores[fits], 0.0)
            scores[fits] = known + weight * np.log(OUTLIERS + (1 - OUTLIERS) * p.shape[1] * p)
        if progress is not None:
            progress(done + 1, len(firsts))
    total_s = np.asarray(shifts)[:, None] * layout.step_s + np.asarray(grid.offsets_s)  # (X, K)
    scores[np.abs(total_s) > max_offset_s + grid.step_s / 2] = -np.inf
    return _best(scores, total_s, grid.step_s)


def _classify_at(
    encoder: SegmentEncoder, sound: _SlidingSound, first: int, audio_firsts: list[int]
) -> Array:
    """Classify one crop of the picture against crops of the sound."""
    vision = encoder.vision(first, first + encoder.layout.num_segments).flatten(0, 1)  # (S*T, D)
    audio = sound.crops(audio_firsts)  # (F, S*T, D)
    model = encoder.model
    p = classify(
        model, audio, vision.expand(len(audio), *vision.shape), model.config.grid.offsets_s
    )
    return p.double().numpy()


class _SlidingSound:
    """Tokens of the sound around the crop at hand; what lies before it is let go."""

    def __init__(self, encoder: SegmentEncoder) -> None:
        self._encoder = encoder
        self._first = 0
        self._tokens: Float[Tensor, "M T D"] | None = None

    def crops(self, firsts: list[int]) -> Float[Tensor, "F SxT D"]:
        """Return the tokens of crops; their earliest segment must never go back."""
        num_segments = self._encoder.layout.num_segments
        begin, end = min(firsts), max(firsts) + num_segments
        if self._tokens is not None:
            self._tokens, self._first = self._tokens[begin - self._first :], begin
        if self._tokens is None or not len(self._tokens):
            self._tokens, self._first = self._encoder.audio(begin, end), begin
        known = self._first + len(self._tokens)
        if known < end:
            self._tokens = torch.cat([self._tokens, self._encoder.audio(known, end)])
        runs = np.asarray(firsts)[:, None] - begin + np.arange(num_segments)  # (F, S)
        return self._tokens[runs].flatten(1, 2)


def _best(scores: Array, total_s: Array, class_step_s: float) -> Found:
    """Pick the offset with the highest score."""
    best = np.unravel_index(int(scores.argmax()), scores.shape)
    offset_s = float(total_s[best])
    likelihood = np.exp(scores - scores[best])
    # Neighbouring shifts reach the same offset once more: they are no rivals.
    rivals = likelihood[np.abs(total_s - offset_s) > 2 * class_step_s].sum()
    return Found(
        offset_s=round(offset_s, 6),
        probability=float(1 / (1 + rivals)),
        reach_s=round(float(np.abs(total_s[np.isfinite(scores)]).max()), 6),
    )
