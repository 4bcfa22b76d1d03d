"""Evidence attribution by random masks.

A crop is cut into chunks of 0.1 s. K random masks take chunks out of one modality; where the model
still gives the reference offset, the mask is recorded. A chunk that more of the recorded masks keep
holds more of the evidence (paper section 4.1)::

    A_i = 1/K sum_k right_k kept_ki                   over all masks
    A_i = sum_k right_k kept_ki / sum_k right_k       over the recorded ones
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float

from zoo.attribution.crops import Crop, choose_other, read_crop
from zoo.attribution.evidence import Attribution, Evidence
from zoo.attribution.masking import Masked, MaskedContent, MaskedTokens, Masks, encode_crop
from zoo.contracts import Modality
from zoo.errors import ConfigError, option
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.models.model import Model, require_separable
from zoo.models.segments import Tokens
from zoo.timeline import LATTICE_TOLERANCE, OffsetGrid, count_chunks

HEAD_BATCH = 64  # masked crops that pass through the head at a time
PILOTS, HALVINGS = 64, 6  # masks tried at a share of kept chunks; shares tried
LEAST_KEPT, MOST_KEPT = 0.05, 0.95
AIM = 0.5  # of the masks to be recorded: there a mask tells most
Progress = Callable[[int, int], None]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


@dataclass(frozen=True)
class Options:
    """How evidence is looked for.

    Attributes:
        replace: ``tokens`` of masked chunks, after the extractor, or their ``content`` before it.
        masks: K, random masks per modality.
        keep: probability that a chunk is kept; None finds, for each modality, the one at which the
            model is right about half of the masks.
        chunk_s: length of a chunk, seconds.
        tolerance_s: how far from the reference an offset still is right, seconds.
        seed: of the masks and of the choice of the other clip.
    """

    replace: Literal["tokens", "content"] = "tokens"
    masks: int = 1000
    keep: float | None = None
    chunk_s: float = 0.1
    tolerance_s: float = 0.2
    seed: int = 0


def attribute(
    predictor: OffsetPredictor,
    path: Path,
    *,
    against: Path | None = None,
    start_s: float | None = None,
    reference_s: float | None = None,
    audio_track: int | None = None,
    video_track: int | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Attribution:
    """Find the evidence for the offset of a clip, in one crop of it.

    Args:
        predictor: a model that finds offsets.
        path: the clip.
        against: a clip, or a folder to choose one from, that stands in for what is masked; by
            default the mean: the mean token, or the mean frame and silence.
        start_s: start of the crop, seconds; by default that of the crop of whose offset the model
            is most sure.
        reference_s: the offset that counts as right, seconds; by default what the model says
            without a mask.
        audio_track: which audio track, from 1; by default the first.
        video_track: which video track, from 1; by default the film.
        options: masks and chunks.
        progress: is told how many masked crops are classified, and of how many.

    Raises:
        MediaError: if a clip cannot be read or is too short.
        ConfigError: if the encoder looks at both modalities at once, or an option does not fit.
    """
    options, model = options or Options(), predictor.model
    grid = predictor.grid
    require_separable(model.encoder, predictor.name)
    _check(options, grid, model.config.layout.segment_s, reference_s)
    if start_s is None:
        windows = predictor.predict(path, audio_track=audio_track, video_track=video_track).windows
        start_s = max(windows, key=lambda window: window.probability).start_s
    crop = read_crop(model, path, start_s, audio_track, video_track)
    stand_in = None if against is None else choose_other(against, path, model, options.seed)
    other = None if stand_in is None else read_crop(model, stand_in, 0.0)
    trial = Trial(model, grid, crop, other, options, reference_s)
    evidence = {modality: trial.gather(modality, progress) for modality in MODALITIES}
    return Attribution(
        path=str(path),
        model=predictor.name,
        replaced=options.replace,
        against=None if stand_in is None else str(stand_in),
        start_s=start_s,
        end_s=round(start_s + model.config.layout.covered_s, 6),
        chunk_s=options.chunk_s,
        chunks_s=[round(start_s + i * options.chunk_s, 6) for i in range(trial.num_chunks)],
        reference_s=trial.reference_s,
        tolerance_s=options.tolerance_s,
        offset_s=trial.offset_s,
        probability=trial.probability,
        masks=options.masks,
        seed=options.seed,
        audio_track=audio_track,
        video_track=video_track,
        audio=evidence["audio"],
        vision=evidence["vision"],
    )


class Trial:
    """One crop, classified under many masks.

    Attributes:
        offset_s: what the model says without a mask, seconds.
        probability: of that.
        reference_s: the offset that counts as right, seconds.
        num_chunks: C.
    """

    def __init__(
        self,
        model: Model,
        grid: OffsetGrid,
        crop: Crop,
        other: Crop | None,
        options: Options,
        reference_s: float | None,
    ) -> None:
        self._model, self._crop, self._other, self._options = model, crop, other, options
        self._whole = {modality: encode_crop(model, modality, crop) for modality in MODALITIES}
        self._offsets_s = np.asarray(grid.offsets_s)
        probabilities = self._classify(self._whole)[0]  # (K,)
        best = int(probabilities.argmax())
        self.offset_s, self.probability = float(self._offsets_s[best]), float(probabilities[best])
        self.reference_s = self.offset_s if reference_s is None else reference_s
        self.num_chunks = count_chunks(model.config.layout.covered_s, options.chunk_s)
        self._done = 0

    def gather(self, modality: Modality, progress: Progress | None = None) -> Evidence:
        """Mask one modality, and see which chunks the right answers keep."""
        options = self._options
        way = MaskedTokens if options.replace == "tokens" else MaskedContent
        masked = way(
            self._model, modality, self._crop, self._other, options.chunk_s, self.num_chunks
        )
        rng = np.random.default_rng((options.seed, MODALITIES.index(modality)))

        def sample(num: int, keep: float) -> tuple[Masks, Bool[np.ndarray, " B"]]:
            masks = rng.random((num, self.num_chunks)) < keep
            return masks, self._is_right(masked, modality, masks, progress)

        keep = options.keep or _find_keep(lambda keep: float(sample(PILOTS, keep)[1].mean()))
        masks, right = sample(options.masks, keep)
        recorded = masks[right].sum(0, dtype=np.float64)  # (C,)
        num_right = max(1, int(right.sum()))
        return Evidence(
            all_masks=(recorded / len(masks)).round(6).tolist(),
            recorded=(recorded / num_right).round(6).tolist(),
            right=float(right.mean()),
            keep=keep,
            noise=round(math.sqrt(keep * (1 - keep) / num_right), 6),
        )

    def _is_right(
        self, masked: Masked, modality: Modality, masks: Masks, progress: Progress | None
    ) -> Bool[np.ndarray, " B"]:
        """Say under which masks the model's offset is that of reference, or near enough."""
        (fixed,) = (m for m in MODALITIES if m != modality)
        furthest_s = self._options.tolerance_s + LATTICE_TOLERANCE
        right = []
        for i in range(0, len(masks), HEAD_BATCH):
            tokens = masked.tokens(masks[i : i + HEAD_BATCH])
            whole = self._whole[fixed]
            repeated = whole.with_values(whole.values.expand(len(tokens), -1, -1, -1, -1))
            chosen = self._classify({modality: tokens, fixed: repeated}).argmax(1)
            right.append(np.abs(self._offsets_s[chosen] - self.reference_s) <= furthest_s)
            self._done += len(tokens)
            if progress is not None:
                progress(self._done, self._total)
        return np.concatenate(right)

    @property
    def _total(self) -> int:
        pilots = 0 if self._options.keep else PILOTS * HALVINGS
        return len(MODALITIES) * (pilots + self._options.masks)

    @torch.no_grad()
    def _classify(self, tokens: dict[Modality, Tokens]) -> Float[np.ndarray, "B K"]:
        logits = self._model.answer(tokens["audio"], tokens["vision"])
        return logits.float().softmax(1).cpu().numpy()


def _find_keep(share_right: Callable[[float], float]) -> float:
    """Find the share of kept chunks at which the model is right about half of the masks."""
    low, high = LEAST_KEPT, MOST_KEPT
    for _ in range(HALVINGS):
        keep = (low + high) / 2
        if share_right(keep) < AIM:
            low = keep
        else:
            high = keep
    return round((low + high) / 2, 3)


def _check(options: Options, grid: OffsetGrid, segment_s: float, reference_s: float | None) -> None:
    if reference_s is not None and not grid.min_s <= reference_s <= grid.max_s:
        raise ConfigError(
            f"an offset of {reference_s:g} s lies outside what the model tells apart: "
            f"{grid.min_s:g} to {grid.max_s:g} s"
        )
    if options.keep is not None and not 0 < options.keep < 1:
        raise ConfigError(f"{option('keep')} must lie between 0 and 1, got {options.keep:g}")
    if not 0 < options.chunk_s <= segment_s:
        raise ConfigError(
            f"a chunk must lie between 0 and {segment_s:g} s, the length of a segment, got "
            f"{options.chunk_s:g}"
        )
    if options.masks < 1:
        raise ConfigError(f"{option('masks')} must be 1 or more, got {options.masks}")
