"""Masked reconstruction of the patches of both modalities, each by a decoder of its own."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from plugins.mae import DecoderConfig, MaeConfig
from zoo.contracts import Modality
from zoo.errors import ConfigError
from zoo.models.device import autocast
from zoo.models.model import require_separable
from zoo.models.modules import (
    Encoder,
    Gather,
    MaskableExtractor,
    Objective,
    initialise_linears,
    take_patches,
)
from zoo.models.segments import Segments
from zoo.models.two_tower import ExtractorEncoder

MODALITIES: tuple[Modality, Modality] = ("audio", "vision")
VALID_SEED = 0  # every validation hides the same patches
SMALLEST_VARIANCE = 1e-6  # silence and black frames have none

Number = TypeVar("Number", float, Tensor)


class Mae(Objective):
    """Masked reconstruction (arXiv 2203.12602, arXiv 2212.05922).

    An extractor sees few patches of every segment; the loss is the squared error of the others as
    a share of their variance.  1 is what predicting their mean scores, in any unit.

    Only extractors and decoders are trained.  What follows an extractor (aggregator, projection)
    is never run, so it is frozen here: neither the optimiser nor other workers wait for a gradient
    of it, and it stays as it was initialised.
    """

    num_sums = 3 * len(MODALITIES) + 1

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
            wanted = normalise(wanted)
        kept = extractor.encode(extractor.patchify(given), keep)
        return self.decoders[modality](kept, keep, hidden).float(), wanted

    @torch.no_grad()
    def validate(self, encoder: Encoder, segments: Segments) -> list[float]:
        """Sum up the error, and the mean and mean square of what was hidden, over clips."""
        sums: list[float] = []
        generator = torch.Generator().manual_seed(VALID_SEED)
        for modality in MODALITIES:
            with autocast(segments.audio.device, encoder.precision):
                rebuilt, wanted = self.rebuild(encoder, segments, modality, generator)
            of_hidden = ((rebuilt - wanted).square(), wanted, wanted.square())
            sums += [float(values.mean(dtype=torch.float64)) for values in of_hidden]
        return [value * len(segments) for value in (*sums, 1.0)]

    def scores(self, sums: list[float]) -> dict[str, float]:
        """Return the error as a share of the variance of all hidden patches; chance is 1."""
        *values, count = sums
        shares = []
        for first in range(0, len(values), 3):
            error, mean, square = (value / max(1.0, count) for value in values[first : first + 3])
            shares.append(error / max(SMALLEST_VARIANCE, square - mean**2))
        names = ("audio_unexplained", "vision_unexplained")
        return {"unexplained": self._weigh(*shares), **dict(zip(names, shares, strict=True))}

    def _weigh(self, audio: Number, vision: Number) -> Number:
        weights = self.config.audio_weight, self.config.vision_weight
        return (weights[0] * audio + weights[1] * vision) / sum(weights)

    def _of(self, modality: Modality, name: str) -> Any:
        return getattr(self.config, f"{modality}_{name}")


class Decoder(nn.Module):
    """Rebuilds hidden patches from encoded ones (MAE's decoder; its positions are fixed).

    Args:
        config: its sizes.
        features: (T, P, D) of the feature map that the patches lie on.
        size: E, values per patch.
    """

    positions: Tensor

    def __init__(self, config: DecoderConfig, features: tuple[int, int, int], size: int) -> None:
        super().__init__()
        steps, positions, dim = features
        self.embed = nn.Linear(dim, config.width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, config.width))
        table = grid_positions(steps, positions, config.width)
        self.register_buffer("positions", table, persistent=False)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, qkv_bias=True) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        self.predict = nn.Linear(config.width, size)
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        initialise_linears(self)

    def forward(
        self,
        kept: Float[Tensor, "N M D"],
        keep: Int[Tensor, "N M"],
        hidden: Int[Tensor, "N H"],
    ) -> Float[Tensor, "N H E"]:
        """Rebuild the hidden patches."""
        asked = self.mask_token.expand(*hidden.shape, -1)  # (N, H, W)
        x = torch.cat([self.embed(kept), asked], dim=1)  # (N, M + H, W)
        x = x + self.positions[torch.cat([keep, hidden], dim=1)]
        for block in self.blocks:
            x = block(x)
        return self.predict(self.norm(x[:, keep.shape[1] :]))


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
    order = torch.rand(num, patches, generator=generator).argsort(dim=1).to(device)
    keep, hidden = order.split([kept, patches - kept], dim=1)
    return keep.sort(dim=1).values, hidden.sort(dim=1).values


def normalise(patches: Float[Tensor, "N H E"]) -> Float[Tensor, "N H E"]:
    """Take away every patch's mean and divide by its spread (Source: MAE, ``norm_pix_loss``)."""
    mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def grid_positions(steps: int, positions: int, width: int) -> Float[Tensor, "L W"]:
    """Return fixed embeddings: half of the channels for the time step, half for the position."""
    time, place = (waves(num, width // 2) for num in (steps, positions))
    return torch.cat([time.repeat_interleave(positions, 0), place.repeat(steps, 1)], dim=1)


def waves(num: int, width: int) -> Float[Tensor, "M W"]:
    """Return sines and cosines of a number at many rates (arXiv 1706.03762 section 3.5)."""
    rates = 10_000 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(num)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
