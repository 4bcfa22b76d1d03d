"""Contrast of the two modalities, reconstruction of hidden patches, or both at once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from plugins.contrast_mae.config import ContrastMaeConfig
from plugins.contrast_mae.decoder import JointDecoder
from plugins.contrast_mae.masks import choose, masking_noise
from zoo.contracts import Modality
from zoo.errors import ConfigError
from zoo.models.device import autocast
from zoo.models.modules import Encoder, Gather, Objective, take_patches
from zoo.models.patches import MODALITIES, MaskableEncoder, normalise_patches
from zoo.models.segments import Segments

VALID_SEED = 0  # every validation hides the same patches
SCORES = ("audio_loss", "vision_loss", "contrast_loss", "contrast_accuracy")
Both = dict[Modality, Tensor]
Kept = dict[Modality, Int[Tensor, "N M"]]


class ContrastMae(Objective):
    """Contrastive audio-visual masked autoencoding (arXiv 2210.07839 section 3.3).

    The loss is ``mae_weight * (L_a + L_v) + contrast_weight * L_c``; a part of weight 0 is not
    computed.  With ``contrast_ratios`` the contrast has a pass of its own, in which every share of
    the batch hides another share of its patches (arXiv 2403.19638 section 3.2).
    """

    num_sums = len(SCORES) + 1

    def __init__(self, config: ContrastMaeConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.clips_per_validation = config, config.valid_clips
        maskable = require_maskable(encoder)
        self.decoder: JointDecoder | None = None
        if config.mae_weight:
            self.decoder = JointDecoder(config, maskable.grids, maskable.width)

    def forward(self, encoder: Encoder, segments: Segments, gather: Gather) -> dict[str, Tensor]:
        """Return the loss, and what it is made of."""
        scalars = self._parts(require_maskable(encoder), segments, gather)
        config = self.config
        loss = torch.zeros((), device=segments.audio.device)
        if config.mae_weight:
            loss = loss + config.mae_weight * (scalars["audio_loss"] + scalars["vision_loss"])
        if config.contrast_weight:
            loss = loss + config.contrast_weight * scalars["contrast_loss"]
        return {"loss": loss, **scalars}

    def _parts(
        self,
        encoder: MaskableEncoder,
        segments: Segments,
        gather: Gather,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Return both losses, as far as they count; with a generator, of masks that it decides."""
        config = self.config
        scalars: dict[str, Tensor] = {}
        given: Both = {m: getattr(segments, m).flatten(0, 1) for m in MODALITIES}
        encoded: Both = {}
        if config.mae_weight or not config.contrast_ratios:
            keep, hidden = self.hide(encoder, given, generator)
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_fixed):
                encoded = {
                    m: encoder.encode_modality(m, encoder.patchify(m, given[m], keep[m]))
                    for m in MODALITIES
                }
            if config.mae_weight:
                scalars |= self._rebuild(encoder, given, encoded, keep, hidden)
        if config.contrast_weight:
            if config.contrast_ratios:
                audio, vision = (
                    self.multi_ratio(encoder, m, given[m], generator) for m in MODALITIES
                )
            else:
                audio, vision = (encoder.compare(m, encoded[m]).mean(1) for m in MODALITIES)
            scalars |= self.contrast(gather(audio), gather(vision))
        return scalars

    @property
    def _is_fixed(self) -> bool:
        """Whether nothing asks for gradients of what the reconstruction keeps."""
        contrasts = bool(self.config.contrast_weight) and not self.config.contrast_ratios
        return self.config.stop_gradient and not contrasts

    @torch.no_grad()
    def validate(self, encoder: Encoder, segments: Segments) -> list[float]:
        """Sum both losses over clips, with masks that are the same every time."""
        generator = torch.Generator().manual_seed(VALID_SEED)
        with autocast(segments.audio.device, encoder.precision):
            found = self._parts(
                require_maskable(encoder), segments, lambda tensor: tensor, generator
            )
        values = [float(found[name]) if name in found else 0.0 for name in SCORES]
        return [value * len(segments) for value in (*values, 1.0)]

    def scores(self, sums: list[float]) -> dict[str, float]:
        """Return the mean losses, as far as they count, and the accuracy of the contrast."""
        *values, count = sums
        means = dict(zip(SCORES, (value / max(1.0, count) for value in values), strict=True))
        counts = {"audio": self.config.mae_weight, "vision": self.config.mae_weight}
        counts["contrast"] = self.config.contrast_weight
        return {name: value for name, value in means.items() if counts[name.split("_")[0]]}

    def hide(
        self,
        encoder: MaskableEncoder,
        given: Both,
        generator: torch.Generator | None = None,
    ) -> tuple[Kept, Kept]:
        """Choose the patches to keep and those to hide, in a random order."""
        config = self.config
        keep: Kept = {}
        hidden: Kept = {}
        for modality in MODALITIES:
            is_audio = modality == "audio"
            ratio = config.audio_ratio if is_audio else config.vision_ratio
            mode = config.audio_mask if is_audio else "unstructured"
            noise = masking_noise(
                len(given[modality]), encoder.grids[modality], ratio, mode, generator
            )
            keep[modality], hidden[modality] = choose(noise.to(given[modality].device), ratio)
        return keep, hidden

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
        wanted = self.wanted(encoder, given, hidden)
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

    @torch.no_grad()
    def wanted(
        self, encoder: MaskableEncoder, given: Both, hidden: Kept
    ) -> dict[Modality, Float[Tensor, "N H E"]]:
        """Return the hidden patches as the decoder must rebuild them."""
        found = {
            m: take_patches(encoder.targets(m, given[m]).float(), hidden[m]) for m in MODALITIES
        }
        return (
            {m: normalise_patches(x) for m, x in found.items()}
            if self.config.norm_targets
            else found
        )

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


def require_maskable(encoder: Encoder) -> MaskableEncoder:
    """Return an encoder whose patches can be hidden.

    Raises:
        ConfigError: if they cannot.
    """
    if not isinstance(encoder, MaskableEncoder):
        raise ConfigError(
            "this objective hides patches of both modalities and compares the modalities, which "
            f"a {type(encoder).__name__} cannot; choose an encoder such as cavmae or avsiam"
        )
    return encoder
