"""Masked reconstruction of both modalities by an encoder that may see both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from plugins.mae.config import MaeOfBothConfig
from plugins.mae.decoder import PatchDecoder
from plugins.mae.reconstruction import VALID_SEED, Reconstruction
from zoo.contracts import Modality
from zoo.errors import ConfigError, option
from zoo.models.device import autocast
from zoo.models.masks import keep_first, masking_noise
from zoo.models.modules import Encoder, Gather
from zoo.models.patches import MODALITIES, OTHER, MaskableEncoder, require_maskable
from zoo.models.reconstruction import Hiding, Rebuilt
from zoo.models.segments import Segments

Both = dict[Modality, Tensor]


class MaeOfBoth(Reconstruction):
    """Reconstruction of hidden patches (arXiv 2212.05922 section 3.2).

    The loss is the squared error of hidden patches, the weighted mean over the modalities.  A
    modality of weight 0 is not even looked at, unless the other one is rebuilt from it.
    """

    config: MaeOfBothConfig

    def __init__(self, config: MaeOfBothConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        encoder = require_maskable(encoder)
        self.decoder = PatchDecoder(config, encoder.grids, encoder.width)
        weights = {m: getattr(config, f"{m}_weight") for m in MODALITIES}
        total = sum(weights.values())
        self.weights = {m: weight / total for m, weight in weights.items() if weight}
        self.looks_at = tuple(self.weights) if config.inpainting == "none" else MODALITIES
        if config.inpainting == "by_place":
            self._check_places(encoder)

    def _check_places(self, encoder: MaskableEncoder) -> None:
        for modality, other in OTHER.items():
            num = encoder.grids[modality].num_patches
            taken = encoder.grids[other].num_patches
            taken -= int(self._ratio(other) * taken)
            if taken >= num and modality in self.weights:
                raise ConfigError(
                    f"inpainting=by_place puts {taken} tokens of {other} into the {num} places of "
                    f"{modality}, which leaves nothing to rebuild; raise objective.{other}_ratio"
                )

    def _ratio(self, modality: Modality) -> float:
        return float(getattr(self.config, f"{modality}_ratio"))

    def forward(self, encoder: Encoder, segments: Segments, gather: Gather) -> dict[str, Tensor]:
        """Return the loss, and that of each modality."""
        found = self.told_and_wanted(require_maskable(encoder), self.given(segments))
        losses = {m: (told - wanted).square().mean() for m, (told, wanted) in found.items()}
        loss = torch.stack([self.weights[m] * x for m, x in losses.items()]).sum()
        return {"loss": loss, **{f"{m}_loss": x for m, x in losses.items()}}

    def given(self, segments: Segments) -> Both:
        """Return the segments of the modalities that are looked at, in a row."""
        return {m: getattr(segments, m).flatten(0, 1) for m in self.looks_at}

    def told_and_wanted(
        self,
        encoder: MaskableEncoder,
        given: Both,
        generator: torch.Generator | None = None,
    ) -> dict[Modality, tuple[Tensor, Tensor]]:
        """Hide patches; return what the decoder makes of them ``(N, H, E)``, and the truth."""
        keep, hidden = self.hide(encoder, given, generator)
        told, places = self.rebuild(encoder, given, keep, hidden)
        return {
            m: (x.float(), encoder.wanted(m, given[m], places[m], self.config.norm_targets))
            for m, x in told.items()
        }

    def hide(
        self,
        encoder: MaskableEncoder,
        given: Both,
        generator: torch.Generator | None = None,
        hiding: Hiding | None = None,
    ) -> tuple[Both, Both]:
        """Choose the patches to keep and those to hide, in a random order; by default as set."""
        hiding = hiding or self.hiding
        keep: Both = {}
        hidden: Both = {}
        for modality, segments in given.items():
            grid, ratio = encoder.grids[modality], float(getattr(hiding, modality))
            mode = hiding.mask if modality == "audio" else "unstructured"
            noise = masking_noise(len(segments), grid, ratio, mode, generator)
            kept = grid.num_patches - int(ratio * grid.num_patches + 1e-9)
            keep[modality], hidden[modality] = keep_first(noise.to(segments.device), kept)
        return keep, hidden

    def encode(self, encoder: MaskableEncoder, given: Both, keep: Both) -> Both:
        """Encode the patches that are kept; a modality that is not looked at has none."""
        encoded = {
            m: encoder.encode_modality(m, encoder.patchify(m, x, keep[m])) for m, x in given.items()
        }
        if len(encoded) == len(MODALITIES):
            fused = encoder.fuse(encoded["audio"], encoded["vision"])
            return dict(zip(MODALITIES, fused, strict=True))
        return {m: encoder.alone(m, x) for m, x in encoded.items()}

    def rebuild(
        self, encoder: MaskableEncoder, given: Both, keep: Both, hidden: Both
    ) -> tuple[Both, Both]:
        """Return what the decoder makes of patches ``(N, H, E)``, and their numbers ``(N, H)``."""
        encoded = self.encode(encoder, given, keep)
        if self.config.inpainting == "none":
            return self.decoder(encoded, keep, hidden), hidden
        if self.config.inpainting == "by_index":
            told = {m: self.decoder.inpaint(m, encoded, keep, hidden[m]) for m in self.weights}
            return told, hidden
        told, places = {}, {}
        for modality in self.weights:
            decoded = self.decoder.decode_in_places(modality, encoded)
            taken = encoded[OTHER[modality]].shape[1]
            told[modality] = self.decoder.predict[modality](decoded[:, taken:])
            places[modality] = self._behind(decoded, taken)
        return told, places

    @staticmethod
    def _behind(decoded: Tensor, taken: int) -> Int[Tensor, "N H"]:
        numbers = torch.arange(taken, decoded.shape[1], device=decoded.device)
        return numbers.expand(len(decoded), -1)

    @torch.no_grad()
    def validate(self, encoder: Encoder, segments: Segments) -> list[float]:
        """Sum up the error, and the mean and mean square of what was hidden, over clips."""
        generator = torch.Generator().manual_seed(VALID_SEED)
        with autocast(segments.audio.device, encoder.precision):
            found = self.told_and_wanted(require_maskable(encoder), self.given(segments), generator)
        sums: list[float] = []
        for modality in MODALITIES:
            sums += self.sums_of(*found[modality]) if modality in found else [0.0] * 3
        return [value * len(segments) for value in (*sums, 1.0)]

    @torch.no_grad()
    def reconstruct(
        self, encoder: Encoder, segments: Segments, hiding: Hiding
    ) -> dict[Modality, Rebuilt]:
        """Hide patches and rebuild them, from what is left of both modalities or of the other one.

        Raises:
            ConfigError: if a modality that is all hidden could not be rebuilt from the other one.
        """
        maskable, given = require_maskable(encoder), self.given(segments)
        self._check_hiding(maskable, hiding)
        generator = torch.Generator().manual_seed(hiding.seed)
        keep, hidden = self.hide(maskable, given, generator, hiding)
        told, places = self.rebuild(maskable, given, keep, hidden)
        return {
            m: maskable.put_back(m, given[m], x, places[m], self.config.norm_targets)
            for m, x in told.items()
        }

    def _check_hiding(self, encoder: MaskableEncoder, hiding: Hiding) -> None:
        gone: Sequence[Modality] = [m for m in self.looks_at if getattr(hiding, m) == 1]
        if len(gone) == len(self.looks_at):
            raise ConfigError("all that there is is hidden, so there is nothing to rebuild from")
        is_shut = encoder.keeps_apart and self.config.decoders != "concat"
        if gone and is_shut and self.config.inpainting == "none":
            raise ConfigError(
                f"this encoder and its decoder never bring the modalities together, so not all of "
                f"the {gone[0]} can be hidden",
                f"hide less ({option(f'hide_{gone[0]}')}), or choose a model with "
                "encoder.fusion=mid or early",
            )
        if self.config.inpainting != "none" and gone:
            raise ConfigError(
                f"the objective rebuilds the other modality from {gone[0]}, so not all of it can "
                "be hidden"
            )
