"""Patches of both modalities: encoders that can leave some out, and which ones to hide."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.contracts import Modality, PatchEncoderConfig
from zoo.models.modules import Encoder, emphasise_change, take_patches
from zoo.models.segments import Segments, Tokens
from zoo.models.stream_block import PatchEmbed

MODALITIES: tuple[Modality, Modality] = ("audio", "vision")


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
    """

    rows: int
    columns: int
    height: int
    width: int
    channels: int = 1
    frames: int = 1

    @property
    def num_patches(self) -> int:
        """L."""
        return self.frames * self.rows * self.columns

    @property
    def values(self) -> int:
        """E, values of a patch."""
        return self.height * self.width * self.channels

    def cut(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N RxC CxHxW"]:
        """Cut images into patches, row by row; channels vary slowest, as convolutions want them."""
        x = images.unfold(2, self.height, self.height).unfold(3, self.width, self.width)
        return x.permute(0, 2, 3, 1, 4, 5).flatten(1, 2).flatten(2)  # (N, R*C, c*h*w)

    def channels_last(self, patches: Float[Tensor, "N L E"]) -> Float[Tensor, "N L E"]:
        """Return the values of patches with channels varying fastest, as decoders give them."""
        x = patches.unflatten(2, (self.channels, self.height * self.width))
        return x.transpose(2, 3).flatten(2)

    def join(self, patches: Float[Tensor, "N L E"]) -> Float[Tensor, "N F C H W"]:
        """Put patches whose channels vary fastest together to images; the reverse of both."""
        x = patches.unflatten(1, (self.frames, self.rows, self.columns))
        x = x.unflatten(4, (self.height, self.width, self.channels))  # (N, F, r, c, h, w, C)
        x = x.permute(0, 1, 6, 2, 4, 3, 5)  # (N, F, C, r, h, c, w)
        return x.flatten(5, 6).flatten(3, 4)


class MaskableEncoder(Encoder):
    """An encoder that can leave out patches, and encode either modality by itself.

    Objectives use it step by step; `encode` is all steps with all patches.
    """

    may_skip_parameters = True  # what only one of its passes needs
    grids: Mapping[Modality, PatchGrid]
    width: int
    """D, channels of what is encoded."""

    def set_up(self, config: PatchEncoderConfig) -> None:
        """Lay out the patches; the first thing that a constructor does."""
        (rows, columns), (frames, height, width) = config.audio_grid, config.vision_grid
        self.width, self.mode, patch = config.width, config.mode, config.patch
        self.gains = {"audio": config.audio_change_gain, "vision": config.vision_change_gain}
        self.grids = {
            "audio": PatchGrid(rows, columns, patch, patch),
            "vision": PatchGrid(height, width, patch, patch, channels=3, frames=frames),
        }

    @property
    def keeps_apart(self) -> bool:
        """Whether the mode is one in which the modalities do not meet."""
        return self.mode == "apart"

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

    def _cut(self, modality: Modality, segments: Tensor) -> Float[Tensor, "N L E"]:
        grid = self.grids[modality]
        segments = emphasise_change(segments, self.gains[modality])
        if modality == "audio":
            return grid.cut(segments.unsqueeze(1))
        frames = segments.transpose(1, 2)  # (N, Tv, C, H, W)
        return grid.cut(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).flatten(1, 2)

    @abstractmethod
    def encode_modality(
        self, modality: Modality, patches: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Run what only one modality passes through."""

    @abstractmethod
    def compare(
        self, modality: Modality, encoded: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Finish one modality by itself: tokens whose mean is compared between modalities."""

    @abstractmethod
    def fuse(
        self, audio: Float[Tensor, "N A D"], vision: Float[Tensor, "N V D"]
    ) -> tuple[Float[Tensor, "N A D"], Float[Tensor, "N V D"]]:
        """Let both modalities see each other, after `encode_modality`."""

    def alone(self, encoded: Float[Tensor, "N M D"]) -> Float[Tensor, "N M D"]:
        """Run the joint blocks on one modality, the other one missing."""
        return self.fuse(encoded, encoded[:, :0])[0]

    def passes(self, audio: Tensor, vision: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Run the passes that the mode asks for; tokens of several stand side by side."""
        if self.mode == "joint":
            return [self.fuse(audio, vision)]
        apart = self.compare("audio", audio), self.compare("vision", vision)
        if self.mode == "apart":
            return [apart]
        return [(self.alone(audio), self.alone(vision)), apart]

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
        """Pool positions if one token per time step is what the encoder declares."""
        declared = self.io.modality(modality).tokens
        is_pooled = declared.positions < values.shape[3]
        return Tokens(values.mean(3, keepdim=True) if is_pooled else values, declared.times_s)

    def _in_time(
        self, modality: Modality, values: Float[Tensor, "N L D"], num_segments: int
    ) -> Float[Tensor, "B S T P D"]:
        """Put the patches of segments in the order of time; N = B * S."""
        grid = self.grids[modality]
        x = values.unflatten(1, (grid.frames, grid.rows, grid.columns))
        x = x.unflatten(0, (-1, num_segments))  # (B, S, F, r, c, D)
        return x.transpose(3, 4).flatten(2, 3) if modality == "audio" else x.flatten(3, 4)


def normalise_patches(patches: Float[Tensor, "N H E"]) -> Float[Tensor, "N H E"]:
    """Take away every patch's mean and divide by its spread (Source: MAE, ``norm_pix_loss``)."""
    mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()
