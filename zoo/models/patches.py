"""Patches of both modalities: encoders that can leave some out, and which ones to hide."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate

from zoo.contracts import Modality, PatchEncoderConfig
from zoo.errors import ConfigError
from zoo.models.modules import (
    Encoder,
    emphasise_change,
    take_patches,
)
from zoo.models.reconstruction import Rebuilt, cut_like, restore_change
from zoo.models.segments import Segments, Tokens
from zoo.models.stream_block import PatchEmbed

MODALITIES: tuple[Modality, Modality] = ("audio", "vision")
OTHER: Mapping[Modality, Modality] = {"audio": "vision", "vision": "audio"}
SMALLEST_VARIANCE = 1e-6  # silence and black frames have none


@dataclass(frozen=True)
class PatchGrid:
    """Where the patches of a segment lie, row by row.

    Attributes:
        rows: of patches, the frequency of audio.
        columns: of patches, the time of audio.
        height: of a patch, pixels or mel bins.
        width: of a patch, pixels or mel frames.
        channels: values per pixel.
        frames: such grids one after the other, of a segment of several frames.
        depth: frames that a patch covers.
        is_time_first: of audio whose rows are the time, and columns the frequency.
    """

    rows: int
    columns: int
    height: int
    width: int
    channels: int = 1
    frames: int = 1
    depth: int = 1
    is_time_first: bool = False

    @property
    def num_patches(self) -> int:
        """L."""
        return self.frames * self.rows * self.columns

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        return self.frames, self.rows, self.columns

    @property
    def values(self) -> int:
        """E, values of a patch."""
        return self.depth * self.height * self.width * self.channels

    def cut(self, images: Float[Tensor, "N C T H W"]) -> Float[Tensor, "N L E"]:
        """Cut images into patches, row by row; channels vary slowest, as convolutions want them."""
        if self.is_time_first:
            images = images.transpose(3, 4)
        x = images
        for dim, size in ((2, self.depth), (3, self.height), (4, self.width)):
            x = x.unfold(dim, size, size)  # (N, C, F, R, c, d, h, w)
        return x.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(1, 3)

    def channels_last(self, patches: Float[Tensor, "N L E"]) -> Float[Tensor, "N L E"]:
        """Return the values of patches with channels varying fastest, as decoders give them."""
        return patches.unflatten(2, (self.channels, -1)).transpose(2, 3).flatten(2)

    def join(self, patches: Float[Tensor, "N L E"]) -> Float[Tensor, "N C T H W"]:
        """Put patches whose channels vary fastest together to images; the reverse of both."""
        x = patches.unflatten(1, self.shape)
        x = x.unflatten(4, (self.depth, self.height, self.width, self.channels))
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)  # (N, C, F, d, R, h, C, w)
        x = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return x.transpose(3, 4) if self.is_time_first else x


class MaskableEncoder(Encoder):
    """An encoder that can leave out patches, and encode either modality by itself.

    Objectives use it step by step; `encode` is all steps with all patches.
    """

    encodes_alone = True
    may_skip_parameters = True  # what only one of its passes needs
    grids: Mapping[Modality, PatchGrid]
    width: int
    """D, channels of what is encoded."""
    tables: ClassVar[Mapping[str, Modality]] = {}
    """Learnt parameters that are tables of positions ``(1, L, D)`` or of frames ``(F, 1, D)``."""

    def __init__(self, config: PatchEncoderConfig) -> None:
        super().__init__()
        (rows, columns), (frames, height, width) = config.audio_grid, config.vision_grid
        self.width, self.mode, patch = config.width, config.mode, config.patch
        self.gains = {"audio": config.audio_change_gain, "vision": config.vision_change_gain}
        audio = (columns, rows) if config.time_first else (rows, columns)
        self.grids = {
            "audio": PatchGrid(*audio, patch, patch, is_time_first=config.time_first),
            "vision": PatchGrid(
                height, width, patch, patch, channels=3, frames=frames, depth=config.patch_frames
            ),
        }

    def fitted(self, other: Encoder) -> dict[str, Tensor]:
        """Return the weights of another encoder, its tables of positions resampled to this grid.

        What lies between two patches or frames of the other is interpolated (`resample_grid`).
        """
        weights = super().fitted(other)
        if not isinstance(other, MaskableEncoder):
            return weights
        own = self.state_dict()
        for name, modality in self.tables.items():
            mine, theirs = self.grids[modality].shape, other.grids[modality].shape
            if name not in own or name not in weights:  # no table of frames for a single one
                weights.pop(name, None)
                weights |= {name: own[name]} if name in own else {}
            elif mine != theirs:
                is_of_frames = len(own[name]) > 1
                sizes = [(grid[0], 1, 1) if is_of_frames else grid for grid in (theirs, mine)]
                weights[name] = resample_grid(weights[name], *sizes)
        return weights

    @property
    def keeps_apart(self) -> bool:
        """Whether the mode is one in which the modalities do not meet."""
        return self.mode in {"apart", "other_missing"}

    @abstractmethod
    def embedding(self, modality: Modality) -> tuple[PatchEmbed, Float[Tensor, "1 L D"]]:
        """Return what embeds the patches of a modality, and all that is added to them."""

    def patchify(
        self, modality: Modality, segments: Tensor, keep: Int[Tensor, "N M"] | None = None
    ) -> Float[Tensor, "N M D"]:
        """Embed patches and add their positions; nothing is computed for those left out.

        Args:
            modality: of the segments.
            segments: what the front end gives, ``(N, F, Ta)`` or ``(N, C, Tv, H, W)``.
            keep: numbers of the patches to embed, as many of every segment; None is all.
        """
        embed, positions = self.embedding(modality)
        patches = self._cut(modality, segments)  # (N, L, E)
        if keep is not None:
            patches = take_patches(patches, keep)
            positions = take_patches(positions.expand(len(patches), -1, -1), keep)
        return embed(patches) + positions

    def targets(self, modality: Modality, segments: Tensor) -> Float[Tensor, "N L E"]:
        """Return the values of every patch, channels fastest: what a decoder must rebuild."""
        return self.grids[modality].channels_last(self._cut(modality, segments))

    @torch.no_grad()
    def wanted(
        self,
        modality: Modality,
        segments: Tensor,
        numbers: Int[Tensor, "N H"],
        is_normalised: bool,
    ) -> Float[Tensor, "N H E"]:
        """Return the targets of the patches of these numbers, in fp32.

        Args:
            modality: of the segments.
            segments: what the front end gives.
            numbers: of the patches that are hidden.
            is_normalised: whether every patch is `normalise_patches`.
        """
        found = take_patches(self.targets(modality, segments).float(), numbers)
        return normalise_patches(found) if is_normalised else found

    def put_back(
        self,
        modality: Modality,
        segments: Tensor,
        told: Float[Tensor, "N H E"],
        numbers: Int[Tensor, "N H"],
        is_normalised: bool,
    ) -> Rebuilt:
        """Put what a decoder makes of hidden patches back into segments: see `put_back`."""
        return put_back(
            segments,
            self.targets(modality, segments),
            told,
            numbers,
            partial(self.join, modality),
            gain=self.gains[modality],
            is_normalised=is_normalised,
        )

    def join(self, modality: Modality, patches: Float[Tensor, "N L E"]) -> Tensor:
        """Put patches whose channels vary fastest where they were cut out of segments."""
        joined = self.grids[modality].join(patches)  # (N, C, T, H, W)
        return joined[:, 0, 0] if modality == "audio" else joined

    def _cut(self, modality: Modality, segments: Tensor) -> Float[Tensor, "N L E"]:
        segments = emphasise_change(segments, self.gains[modality])
        images = segments[:, None, None] if modality == "audio" else segments  # (N, C, T, H, W)
        return self.grids[modality].cut(images)

    @abstractmethod
    def encode_modality(
        self, modality: Modality, patches: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Run what only one modality passes through."""

    def own_audio_blocks(self) -> nn.Module:
        """Return a copy of what `encode_modality` runs for audio, with weights of its own.

        Raises:
            ConfigError: if audio shares nothing with video, so that there is no use for a copy.
        """
        raise ConfigError(
            f"a {type(self).__name__} encodes audio by blocks of its own already: leave out "
            "audio_encoder=own, which is for encoders whose modalities share their blocks"
        )

    @abstractmethod
    def compare(
        self, modality: Modality, encoded: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Finish one modality by itself: tokens whose mean is compared between modalities."""

    def compare_parts(
        self, modality: Modality, parts: Sequence[Float[Tensor, "N M D"]]
    ) -> list[Float[Tensor, "N M D"]]:
        """Run `encode_modality` and `compare` on parts of a batch that keep different numbers.

        Encoders do better than one part after the other: see `zoo.models.stream_block.Stack`.
        """
        return [self.compare(modality, self.encode_modality(modality, part)) for part in parts]

    @abstractmethod
    def fuse(
        self, audio: Float[Tensor, "N A D"], vision: Float[Tensor, "N V D"]
    ) -> tuple[Float[Tensor, "N A D"], Float[Tensor, "N V D"]]:
        """Let both modalities see each other, after `encode_modality`."""

    def encode_alone(self, modality: Modality, segments: Tensor) -> Float[Tensor, "N L D"]:
        """Return all tokens of one modality as the contrast compares them, whatever the mode."""
        return self.compare(
            modality, self.encode_modality(modality, self.patchify(modality, segments))
        )

    def alone(self, modality: Modality, encoded: Float[Tensor, "N M D"]) -> Float[Tensor, "N M D"]:
        """Run what sees both modalities on one of them, the other one missing."""
        nothing = encoded[:, :0]
        if modality == "audio":
            return self.fuse(encoded, nothing)[0]
        return self.fuse(nothing, encoded)[1]

    def passes(self, audio: Tensor, vision: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Run the passes that the mode asks for; tokens of several stand side by side."""
        if self.mode == "joint":
            return [self.fuse(audio, vision)]
        apart = self.compare("audio", audio), self.compare("vision", vision)
        if self.mode == "apart":
            return [apart]
        if self.mode == "both":
            return [self.fuse(audio, vision), apart]
        return [(self.alone("audio", audio), self.alone("vision", vision)), apart]

    def encode(self, segments: Segments) -> tuple[Tokens, Tokens]:
        """Encode all patches of both modalities."""
        num = segments.audio.shape[1]
        hidden = [
            self.encode_modality(m, self.patchify(m, getattr(segments, m).flatten(0, 1)))
            for m in MODALITIES
        ]
        passes = self.passes(*hidden)
        audio = torch.cat([self._in_time("audio", audio, num) for audio, _ in passes], dim=3)
        vision = torch.cat([self._in_time("vision", vision, num) for _, vision in passes], dim=3)
        return self._tokens("audio", audio), self._tokens("vision", vision)

    def _tokens(self, modality: Modality, values: Float[Tensor, "B S T P D"]) -> Tokens:
        """Pool positions to as many tokens per time step as the encoder declares."""
        declared = self.io.modality(modality).tokens
        pooled = values.unflatten(3, (declared.positions, -1)).mean(4)
        return Tokens(pooled, declared.times_s)

    def _in_time(
        self, modality: Modality, values: Float[Tensor, "N L D"], num_segments: int
    ) -> Float[Tensor, "B S T P D"]:
        """Put the patches of segments in the order of time; N = B * S."""
        grid = self.grids[modality]
        x = values.unflatten(1, grid.shape).unflatten(0, (-1, num_segments))  # (B, S, F, R, C, D)
        if modality == "vision":
            return x.flatten(3, 4)
        return (x if grid.is_time_first else x.transpose(3, 4)).flatten(2, 3)


def resample_grid(
    table: Float[Tensor, "A B D"], old: tuple[int, int, int], new: tuple[int, int, int]
) -> Float[Tensor, "E F D"]:
    """Interpolate a table of positions linearly over frames, rows and columns.

    Args:
        table: one vector per place of the old grid, in either of its first two dimensions.
        old: frames, rows and columns that it is for.
        new: those that are wanted.
    """
    grid = table.reshape(*old, -1).permute(3, 0, 1, 2)[None]  # (1, D, F, r, c)
    resized = interpolate(grid.float(), new, mode="trilinear", align_corners=False)
    rows = resized[0].permute(1, 2, 3, 0).flatten(0, 2).to(table.dtype)  # (L, D)
    return rows[None] if len(table) == 1 else rows[:, None]


def normalise_patches(patches: Float[Tensor, "N H E"]) -> Float[Tensor, "N H E"]:
    """Take away every patch's mean and divide by its spread (Source: MAE, ``norm_pix_loss``)."""
    mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
    return (patches - mean) / (variance + SMALLEST_VARIANCE).sqrt()


def restore_patches(
    normalised: Float[Tensor, "N H E"], patches: Float[Tensor, "N H E"]
) -> Float[Tensor, "N H E"]:
    """Undo `normalise_patches`, with mean and spread of other patches."""
    mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
    return normalised * (variance + SMALLEST_VARIANCE).sqrt() + mean


def put_back(
    segments: Tensor,
    targets: Float[Tensor, "N L E"],
    told: Float[Tensor, "N H E"],
    hidden: Int[Tensor, "N H"],
    join: Callable[[Tensor], Tensor],
    *,
    gain: float | None = None,
    is_normalised: bool = False,
) -> Rebuilt:
    """Put what a decoder makes of hidden patches back into the segments, and count its error.

    Args:
        segments: after the front end.
        targets: the values of all their patches.
        told: what the decoder says of the hidden ones.
        hidden: their numbers.
        join: puts values of patches where they were cut out; the mean where patches overlap.
        gain: of `emphasise_change`, which the patches were cut after.
        is_normalised: what is told, and what its error is counted on, are `normalise_patches`.
    """
    true = wanted = take_patches(targets, hidden)
    values = told
    if is_normalised and hidden.numel():
        wanted, values = normalise_patches(true), restore_patches(told, true)
    places = hidden.unsqueeze(2).expand_as(values)
    is_hidden = join(torch.zeros_like(targets).scatter(1, places, 1.0)) > 1 - 1e-6
    joined = restore_change(join(targets.scatter(1, places, values)), segments, gain)
    given = cut_like(segments, joined)
    error = unexplained = None
    if hidden.numel():
        error = float((told - wanted).square().mean())
        unexplained = error / max(SMALLEST_VARIANCE, float(wanted.var(correction=0)))
    return Rebuilt(
        given=given,
        rebuilt=torch.where(is_hidden, joined, given),
        hidden=is_hidden,
        num_patches=targets.shape[1],
        num_hidden=hidden.shape[1],
        error=error,
        unexplained=unexplained,
        is_normalised=is_normalised,
        is_change=gain is not None,
    )


def require_maskable(encoder: Encoder) -> MaskableEncoder:
    """Return an encoder whose patches can be hidden.

    Raises:
        ConfigError: if they cannot.
    """
    if not isinstance(encoder, MaskableEncoder):
        raise ConfigError(
            "this objective hides patches of both modalities, which this encoder cannot do; "
            "choose one such as cavmae, avsiam or avmae"
        )
    return encoder
