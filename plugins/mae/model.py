"""Masked reconstruction of the patches of both modalities, each by a decoder of its own."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from plugins.mae.config import DecoderConfig, MaeConfig
from plugins.mae.reconstruction import VALID_SEED, Reconstruction
from zoo.contracts import Modality
from zoo.errors import ConfigError, option
from zoo.models.device import autocast
from zoo.models.model import require_separable
from zoo.models.modules import (
    Encoder,
    Gather,
    MaskableExtractor,
    initialise_linears,
    take_patches,
)
from zoo.models.patches import (
    MODALITIES,
    SMALLEST_VARIANCE,
    normalise_patches,
    put_back,
)
from zoo.models.reconstruction import Hiding, Rebuilt
from zoo.models.segments import Segments
from zoo.models.two_tower import ExtractorEncoder

SHARPNESS = 4.0  # of a decoder's attention before it has learnt anything


class Mae(Reconstruction):
    """Masked reconstruction (arXiv 2203.12602, arXiv 2212.05922).

    An extractor sees few patches of every segment; the loss is the squared error of the others as
    a share of their variance.  1 is what predicting their mean scores, in any unit.

    Only extractors and decoders are trained.  What follows an extractor (aggregator, projection)
    is never run, so it is frozen here: neither the optimiser nor other workers wait for a gradient
    of it, and it stays as it was initialised.
    """

    config: MaeConfig

    def __init__(self, config: MaeConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.decoders = nn.ModuleDict()
        for modality in MODALITIES:
            part, extractor = maskable(encoder, modality)
            segment = torch.zeros(1, *getattr(encoder.io, modality).segment_shape)
            size = extractor.targets(segment).shape[2]
            self.decoders[modality] = Decoder(self._of(modality, "decoder"), part.declared, size)
            part.aggregator.requires_grad_(False)
            part.projection.requires_grad_(False)

    def forward(self, encoder: Encoder, segments: Segments, gather: Gather) -> dict[str, Tensor]:
        """Return the loss, and that of each modality."""
        losses = {}
        for modality in MODALITIES:
            rebuilt, wanted = self.rebuild(encoder, segments, modality)
            variance = wanted.var(correction=0).clamp(min=SMALLEST_VARIANCE)
            losses[modality] = (rebuilt - wanted).square().mean() / variance
        loss = self._weigh(losses["audio"], losses["vision"])
        return {"loss": loss, "audio_loss": losses["audio"], "vision_loss": losses["vision"]}

    def rebuild(
        self,
        encoder: Encoder,
        segments: Segments,
        modality: Modality,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "N H E"], Float[Tensor, "N H E"]]:
        """Hide patches of one modality; return what the decoder makes of them, and the truth."""
        _, extractor = maskable(encoder, modality)
        given = getattr(segments, modality).flatten(0, 1)  # (N, ...)
        with torch.no_grad():
            targets = extractor.targets(given).float()  # (N, L, E)
        ratio = self._of(modality, "ratio")
        keep, hidden = choose(len(targets), targets.shape[1], ratio, given.device, generator)
        wanted = take_patches(targets, hidden)
        if self.config.norm_targets:
            wanted = normalise_patches(wanted)
        return self._told(modality, extractor, given, keep, hidden).float(), wanted

    def _told(
        self,
        modality: Modality,
        extractor: MaskableExtractor,
        given: Tensor,
        keep: Int[Tensor, "N M"],
        hidden: Int[Tensor, "N H"],
    ) -> Float[Tensor, "N H E"]:
        """Return what the decoder says of hidden patches, from those that are kept."""
        kept = extractor.encode(extractor.patchify(given), keep)
        told: Tensor = self.decoders[modality](kept, keep, hidden)
        return told

    @torch.no_grad()
    def validate(self, encoder: Encoder, segments: Segments) -> list[float]:
        """Sum up the error, and the mean and mean square of what was hidden, over clips."""
        sums: list[float] = []
        generator = torch.Generator().manual_seed(VALID_SEED)
        for modality in MODALITIES:
            with autocast(segments.audio.device, encoder.precision):
                rebuilt, wanted = self.rebuild(encoder, segments, modality, generator)
            sums += self.sums_of(rebuilt, wanted)
        return [value * len(segments) for value in (*sums, 1.0)]

    @torch.no_grad()
    def reconstruct(
        self, encoder: Encoder, segments: Segments, hiding: Hiding
    ) -> dict[Modality, Rebuilt]:
        """Hide patches of both modalities and rebuild them, each from what is left of itself.

        Raises:
            ConfigError: if all of a modality is hidden, or strips are.
        """
        if hiding.mask != "unstructured":
            raise ConfigError(
                f"the objective 'mae' hides patches one by one, not {option('mask')} {hiding.mask}"
            )
        generator = torch.Generator().manual_seed(hiding.seed)
        return {
            m: self._reconstruct(encoder, segments, m, getattr(hiding, m), generator)
            for m in MODALITIES
        }

    def _reconstruct(
        self,
        encoder: Encoder,
        segments: Segments,
        modality: Modality,
        ratio: float,
        generator: torch.Generator,
    ) -> Rebuilt:
        _, extractor = maskable(encoder, modality)
        given = getattr(segments, modality).flatten(0, 1)
        targets = extractor.targets(given)
        kept = round(targets.shape[1] * (1 - ratio))
        if not kept:
            raise ConfigError(
                f"the objective 'mae' rebuilds either modality from itself, so that not all of its "
                f"{modality} can be hidden",
                "an objective with a decoder of both modalities, such as cavmae, can do that",
            )
        keep, hidden = part_patches(len(targets), targets.shape[1], kept, given.device, generator)
        told = self._told(modality, extractor, given, keep, hidden)
        gain, is_normalised = extractor.change_gain, self.config.norm_targets
        return put_back(
            given, targets, told, hidden, extractor.join, gain=gain, is_normalised=is_normalised
        )

    def _weigh(self, audio: Tensor, vision: Tensor) -> Tensor:
        weights = self.config.audio_weight, self.config.vision_weight
        return (weights[0] * audio + weights[1] * vision) / sum(weights)

    def _of(self, modality: Modality, name: str) -> Any:
        return getattr(self.config, f"{modality}_{name}")


class Decoder(nn.Module):
    """Rebuilds hidden patches, which look at the kept ones only (arXiv 2401.14391).

    Args:
        config: its sizes.
        features: (T, P, D) of the feature map that the patches lie on.
        size: E, values per patch.
    """

    positions: Tensor

    def __init__(self, config: DecoderConfig, features: tuple[int, int, int], size: int) -> None:
        super().__init__()
        steps, positions, dim = features
        width = config.width
        self.embed = nn.Linear(dim, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        table = grid_positions(steps, positions, width)
        self.register_buffer("positions", table, persistent=False)
        self.blocks = nn.ModuleList(CrossBlock(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, size)
        initialise_linears(self)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        nn.init.trunc_normal_(self.predict.weight, std=0.02)  # begins near the mean of all
        for block in self.blocks:
            cast(CrossBlock, block).look_around()

    def forward(
        self,
        kept: Float[Tensor, "N M D"],
        keep: Int[Tensor, "N M"],
        hidden: Int[Tensor, "N H"],
    ) -> Float[Tensor, "N H E"]:
        """Rebuild the hidden patches."""
        kept = self.embed(kept) + self.positions[keep]  # (N, M, W)
        x = self.mask_token + self.positions[hidden]  # (N, H, W)
        for block in self.blocks:
            x = block(x, kept)
        return self.predict(self.norm(x))


class CrossBlock(nn.Module):
    """Attention of hidden patches to kept ones, and an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_x, self.norm_kept, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.mlp = Mlp(width, 4 * width)

    @torch.no_grad()
    def look_around(self) -> None:
        """Let attention begin at the nearest kept patches: equal places make equal query and key.

        Small models stay long on the plateau otherwise (docs/training.md).
        """
        self.query.weight.mul_(SHARPNESS)
        self.key_value.weight[: len(self.query.weight)] = self.query.weight

    def forward(
        self, x: Float[Tensor, "N H W"], kept: Float[Tensor, "N M W"]
    ) -> Float[Tensor, "N H W"]:
        """Apply the block to what stands for hidden patches."""
        q = self.query(self.norm_x(x)).unflatten(2, (self.heads, -1))  # (N, H, h, d)
        k, v = self.key_value(self.norm_kept(kept)).unflatten(2, (2, self.heads, -1)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (N, h, ., d)
        out = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (N, H, W)
        x = x + self.proj(out)
        return x + self.mlp(self.norm_mlp(x))


def maskable(encoder: Encoder, modality: Modality) -> tuple[ExtractorEncoder, MaskableExtractor]:
    """Return a modality of an encoder, and its extractor.

    Raises:
        ConfigError: if it is no extractor that can leave patches out.
    """
    part = require_separable(encoder, type(encoder).__name__).modality(modality)
    if not isinstance(part, ExtractorEncoder):
        raise ConfigError("the objective 'mae' takes an encoder of two extractors")
    if not isinstance(part.extractor, MaskableExtractor):
        raise ConfigError(
            f"the objective 'mae' hides patches, and the {modality} extractor "
            f"'{part.config.extractor.name}' has none to hide; choose maskable ones, such as ast "
            "and motionformer"
        )
    return part, part.extractor


def choose(
    num: int,
    patches: int,
    ratio: float,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "N M"], Int[Tensor, "N H"]]:
    """Choose at random which patches of every segment to keep, and which to hide, rising.

    At least one is kept and one is hidden.
    """
    kept = min(patches - 1, max(1, round(patches * (1 - ratio))))
    return part_patches(num, patches, kept, device, generator)


def part_patches(
    num: int,
    patches: int,
    kept: int,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, "N M"], Int[Tensor, "N H"]]:
    """Keep so many patches of every segment at random, and hide the others; both rising."""
    order = torch.rand(num, patches, generator=generator).argsort(dim=1).to(device)
    keep, hidden = order.split([kept, patches - kept], dim=1)
    return keep.sort(dim=1).values, hidden.sort(dim=1).values


def grid_positions(steps: int, positions: int, width: int) -> Float[Tensor, "L W"]:
    """Return fixed embeddings: half of the channels for the time step, half for the position."""
    time, place = (waves(num, width // 2) for num in (steps, positions))
    return torch.cat([time.repeat_interleave(positions, 0), place.repeat(steps, 1)], dim=1)


def waves(num: int, width: int) -> Float[Tensor, "M W"]:
    """Return sines and cosines of ``num`` numbers at rates from a quarter of a turn down.

    (Source: arXiv 1706.03762 section 3.5, with the slowest wave as long as the grid.)
    """
    rates = float(max(2, num)) ** (-torch.arange(0, width, 2) / width) * torch.pi / 2
    angles = torch.arange(num)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
