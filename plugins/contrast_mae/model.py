"""Contrast of the two modalities, reconstruction of hidden patches, or both at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from plugins.contrast_mae.config import ContrastMaeConfig
from plugins.contrast_mae.decoder import JointDecoder
from zoo.contracts import Modality
from zoo.errors import ConfigError
from zoo.models.device import autocast
from zoo.models.masks import choose, masking_noise
from zoo.models.modules import Encoder, Gather, Objective, take_patches
from zoo.models.patches import MODALITIES, MaskableEncoder, require_maskable
from zoo.models.reconstruction import Hiding, Rebuilt
from zoo.models.segments import Segments

VALID_SEED = 0  # every validation hides the same patches
TURNS = ("contrast", "reconstruction")  # in the published order
# What a validation gives, and the loss that it is about.
SCORES = {
    "audio_loss": "reconstruction",
    "vision_loss": "reconstruction",
    "contrast_loss": "contrast",
    "found": "contrast",
    "chance": "contrast",
}
Both = dict[Modality, Tensor]
Kept = dict[Modality, Int[Tensor, "N M"]]


class ContrastMae(Objective):
    """Contrastive audio-visual masked autoencoding (arXiv 2210.07839 section 3.3).

    The loss is ``mae_weight * (L_a + L_v) + contrast_weight * L_c``; a part of weight 0 is not
    computed.  With ``contrast_ratios`` the contrast has a pass of its own, in which every share of
    the batch hides another share of its patches (arXiv 2403.19638 section 3.2).  With
    ``alternating`` both are losses of their own, stepped in turn.
    """

    num_sums = len(SCORES) + 1

    def __init__(self, config: ContrastMaeConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.clips_per_validation = config, config.valid_clips
        maskable = require_maskable(encoder)
        self.decoder: JointDecoder | None = None
        if config.mae_weight:
            self.decoder = JointDecoder(config, maskable.grids, maskable.width)
        self.audio_encoder: nn.Module | None = None
        if config.audio_encoder == "own":
            self.audio_encoder = maskable.own_audio_blocks()
        counts = dict(zip(TURNS, (config.contrast_weight, config.mae_weight), strict=True))
        self.losses = tuple(name for name in TURNS if counts[name])
        self.turns = TURNS if config.alternating else ()

    def forward(self, encoder: Encoder, segments: Segments, gather: Gather) -> dict[str, Tensor]:
        """Return the loss, and what it is made of."""
        return self._weigh(self._parts(encoder, segments, gather, self.losses))

    def take_turn(
        self, turn: str, encoder: Encoder, segments: Segments, gather: Gather
    ) -> dict[str, Tensor]:
        """Return the loss of the contrast, or of the reconstruction."""
        return self._weigh(self._parts(encoder, segments, gather, (turn,)))

    def _weigh(self, scalars: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add up the losses that were computed, by their weights."""
        mae_weight, contrast_weight = self.config.weights
        weights = {"audio": mae_weight, "vision": mae_weight, "contrast": contrast_weight}
        parts = [w * scalars[f"{m}_loss"] for m, w in weights.items() if f"{m}_loss" in scalars]
        return {"loss": torch.stack(parts).sum(), **scalars}

    def _parts(
        self,
        encoder: Encoder,
        segments: Segments,
        gather: Gather,
        losses: Sequence[str],
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Return what some losses are made of; with a generator, of masks that it decides."""
        encoder, config = require_maskable(encoder), self.config
        scalars: dict[str, Tensor] = {}
        given: Both = {m: getattr(segments, m).flatten(0, 1) for m in MODALITIES}
        encoded: Both = {}
        if "reconstruction" in losses or not config.contrast_ratios:
            keep, hidden = self.hide(encoder, given, generator)
            is_compared = "contrast" in losses and not config.contrast_ratios
            learns = torch.is_grad_enabled() and (is_compared or not config.stop_gradient)
            with torch.set_grad_enabled(learns):
                encoded = self.encode_kept(encoder, given, keep)
            if "reconstruction" in losses:
                scalars |= self._rebuild(encoder, given, encoded, keep, hidden)
        if "contrast" in losses:
            if config.contrast_ratios:
                audio, vision = (
                    self.multi_ratio(encoder, m, given[m], generator) for m in MODALITIES
                )
            else:
                audio, vision = (encoder.compare(m, encoded[m]).mean(1) for m in MODALITIES)
            scalars |= self.contrast(gather(audio), gather(vision))
        return scalars

    @torch.no_grad()
    def validate(self, encoder: Encoder, segments: Segments) -> list[float]:
        """Sum both losses over clips, with masks that are the same every time."""
        generator = torch.Generator().manual_seed(VALID_SEED)
        with autocast(segments.audio.device, encoder.precision):
            found = self._parts(encoder, segments, lambda tensor: tensor, self.losses, generator)
        found["chance"] = torch.tensor(1 / segments.audio.shape[:2].numel())
        found["found"] = found.pop("contrast_accuracy", found["chance"])
        values = [float(found[name]) if name in found else 0.0 for name in SCORES]
        return [value * len(segments) for value in (*values, 1.0)]

    def scores(self, sums: list[float]) -> dict[str, float]:
        """Return the mean losses that count, how often an audio is found, and by chance."""
        *values, count = sums
        return {
            name: value / max(1.0, count)
            for (name, loss), value in zip(SCORES.items(), values, strict=True)
            if loss in self.losses
        }

    def hide(
        self,
        encoder: MaskableEncoder,
        given: Both,
        generator: torch.Generator | None = None,
        hiding: Hiding | None = None,
    ) -> tuple[Kept, Kept]:
        """Choose the patches to keep and those to hide, in a random order; by default as set."""
        config = self.config
        hiding = hiding or Hiding(config.audio_ratio, config.vision_ratio, config.audio_mask)
        keep: Kept = {}
        hidden: Kept = {}
        for modality in MODALITIES:
            ratio: float = getattr(hiding, modality)
            mode = hiding.mask if modality == "audio" else "unstructured"
            noise = masking_noise(
                len(given[modality]), encoder.grids[modality], ratio, mode, generator
            )
            keep[modality], hidden[modality] = choose(noise.to(given[modality].device), ratio)
        return keep, hidden

    @property
    def hiding(self) -> Hiding | None:
        """What training hides; None if there is no decoder."""
        config = self.config
        if not config.mae_weight:
            return None
        return Hiding(config.audio_ratio, config.vision_ratio, config.audio_mask)

    @torch.no_grad()
    def reconstruct(
        self, encoder: Encoder, segments: Segments, hiding: Hiding
    ) -> dict[Modality, Rebuilt]:
        """Hide patches and rebuild them, from what is left of both modalities.

        Raises:
            ConfigError: if there is no decoder, or all of both modalities is hidden.
        """
        if self.decoder is None:
            raise ConfigError("the objective has no decoder: its mae_weight is 0")
        if hiding.audio == hiding.vision == 1:
            raise ConfigError(
                "all of both modalities is hidden, so there is nothing to rebuild from"
            )
        maskable = require_maskable(encoder)
        given: Both = {m: getattr(segments, m).flatten(0, 1) for m in MODALITIES}
        generator = torch.Generator().manual_seed(hiding.seed)
        return self.inpaint(maskable, given, *self.hide(maskable, given, generator, hiding))

    @torch.no_grad()
    def inpaint(
        self, encoder: MaskableEncoder, given: Both, keep: Kept, hidden: Kept
    ) -> dict[Modality, Rebuilt]:
        """Rebuild these patches of segments from those that are kept.

        (Source: CAV-MAE's inpainting, which pastes the prediction where patches were removed.)
        """
        encoded = self.encode_kept(encoder, given, keep)
        told = self.rebuild(encoder, encoded, keep, hidden)
        is_normalised = self.config.norm_targets
        return {
            m: encoder.put_back(m, given[m], told[m], hidden[m], is_normalised) for m in MODALITIES
        }

    def encode_kept(self, encoder: MaskableEncoder, given: Both, keep: Kept) -> Both:
        """Encode the patches that the reconstruction keeps, each modality by itself."""
        encoded: Both = {}
        for modality in MODALITIES:
            patches = encoder.patchify(modality, given[modality], keep[modality])
            if modality == "audio" and self.audio_encoder is not None:
                encoded[modality] = self.audio_encoder(patches)
            else:
                encoded[modality] = encoder.encode_modality(modality, patches)
        return encoded

    def _rebuild(
        self,
        encoder: MaskableEncoder,
        given: Both,
        encoded: Both,
        keep: Kept,
        hidden: Kept,
    ) -> dict[str, Tensor]:
        if self.config.stop_gradient:
            encoded = {m: x.detach() for m, x in encoded.items()}
        rebuilt = self.rebuild(encoder, encoded, keep, hidden)
        is_normalised = self.config.norm_targets
        wanted = {m: encoder.wanted(m, given[m], hidden[m], is_normalised) for m in MODALITIES}
        return {f"{m}_loss": (rebuilt[m].float() - wanted[m]).square().mean() for m in MODALITIES}

    def rebuild(
        self,
        encoder: MaskableEncoder,
        encoded: Both,
        keep: Kept,
        hidden: Kept,
    ) -> dict[Modality, Float[Tensor, "N H E"]]:
        """Return what the decoder makes of the hidden patches."""
        assert self.decoder is not None
        fused = encoder.fuse(encoded["audio"], encoded["vision"])
        decoded = self.decoder(dict(zip(MODALITIES, fused, strict=True)), keep)
        return {m: self.decoder.predict(m, take_patches(decoded[m], hidden[m])) for m in MODALITIES}

    def multi_ratio(
        self,
        encoder: MaskableEncoder,
        modality: Modality,
        segments: Tensor,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "N D"]:
        """Pool segments of which every share hides another share of its patches.

        The shares are those of ``torch.chunk``, of a random order that differs between modalities.
        """
        config, grid = self.config, encoder.grids[modality]
        mode = config.contrast_audio_mask if modality == "audio" else "unstructured"
        order = torch.randperm(len(segments), generator=generator).to(segments.device)
        patches = []
        parts = order.chunk(len(config.contrast_ratios))  # fewer of a small batch
        for part, ratio in zip(parts, config.contrast_ratios, strict=False):
            noise = masking_noise(len(part), grid, ratio, mode, generator).to(segments.device)
            keep, _ = choose(noise, ratio)
            patches.append(encoder.patchify(modality, segments[part], keep))
        pooled = [part.mean(1) for part in encoder.compare_parts(modality, patches)]
        return torch.cat(pooled)[order.argsort()]

    def contrast(
        self, audio: Float[Tensor, "N D"], vision: Float[Tensor, "N D"]
    ) -> dict[str, Tensor]:
        """Return the contrastive loss, and how often the right one of all N is the nearest.

        One way, as published, every video looks for its audio.
        """
        similarity = normalize(vision) @ normalize(audio).T / self.config.temperature
        ways = [similarity, similarity.T] if self.config.symmetric else [similarity]
        own = torch.arange(len(audio), device=audio.device)
        losses = torch.stack([cross_entropy(way.float(), own) for way in ways])
        hits = torch.stack([(way.argmax(1) == own).float().mean() for way in ways])
        return {"contrast_loss": losses.mean(), "contrast_accuracy": hits.mean()}
