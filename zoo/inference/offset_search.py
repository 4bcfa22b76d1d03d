"""Offsets beyond a model's grid: try shifts of the audio, and keep the one that crops agree on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from zoo.inference.changepoints import OUTLIERS
from zoo.inference.crops import ClipEncoder, Crops, SlidingTokens, classify
from zoo.inference.windows import Progress
from zoo.models.model import Model
from zoo.models.segments import Tokens
from zoo.timeline import OffsetGrid, search_shifts, shared_segments

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
    encoder: ClipEncoder, grid: OffsetGrid, max_offset_s: float, progress: Progress | None = None
) -> Found | None:
    """Search for the offset of a clip between ``-max_offset_s`` and ``max_offset_s``.

    At every shift the model classifies what is left of the offset. Only at the right shift do crops
    from all over the clip agree, so the logarithms of their probabilities are added up; a share of
    the crops may be wrong.

    Args:
        encoder: of the clip; its modalities must not see each other.
        grid: the offsets that the model knows.
        max_offset_s: largest offset to look for, seconds.
        progress: is told how many crops are done, and of how many.

    Returns:
        What was found; None if the clip is shorter than a crop.

    Raises:
        MediaError: if the clip is damaged.
        NothingToMeasureError: if no crop has anything to hear and to see.
        ConfigError: if the encoder looks at both modalities at once.
    """
    layout, sliding = encoder.layout, SlidingTokens(encoder, "audio")
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
    num_counted = 0
    for done, first in enumerate(firsts):
        fits = [i for i, shift in enumerate(shifts) if first - shift in audio]
        if fits:
            vision_at = SlidingTokens(encoder, "vision")
            sliding.read([first - shifts[i] for i in fits])
            vision_at.read([first])
            scores[fits] = np.where(np.isfinite(scores[fits]), scores[fits], 0.0)
            counted = [i for i in fits if encoder.has_events(first, shifts[i] * layout.step_s)]
            if counted:
                audio_at = sliding.crops([first - shifts[i] for i in counted])
                p = _classify(encoder.model, vision_at.crops([first]), audio_at)  # (F, K)
                scores[counted] += weight * np.log(OUTLIERS + (1 - OUTLIERS) * p.shape[1] * p)
            num_counted += len(counted)
        if progress is not None:
            progress(done + 1, len(firsts))
    if not num_counted:
        raise encoder.nothing_to_measure()
    total_s = np.asarray(shifts)[:, None] * layout.step_s + np.asarray(grid.offsets_s)  # (X, K)
    scores[np.abs(total_s) > max_offset_s + grid.step_s / 2] = -np.inf
    return _best(scores, total_s, grid.step_s)


def _classify(model: Model, vision: Tokens, audio: Tokens) -> Array:
    """Classify one crop of the video against crops of the audio."""
    same = vision.with_values(vision.values.expand(len(audio), -1, -1, -1, -1))
    return classify(model, Crops([], audio, same)).double().numpy()


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
