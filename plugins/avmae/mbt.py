"""The encoder ``mbt``: modalities that exchange bottlenecks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plugins.avmae.config import MbtConfig
from plugins.avmae.model import TubeletEncoder
from zoo.contracts import Modality
from zoo.errors import ConfigError
from zoo.models.modules import Encoder
from zoo.models.patches import MODALITIES
from zoo.models.segments import Segments, Tokens
from zoo.models.stream_block import (
    JAX_EPS,
    Stack,
    StreamBlock,
    initialise_jax_vit,
    jax_blocks,
)


class Mbt(TubeletEncoder):
    """A multimodal bottleneck transformer as Audiovisual MAE has it (facts: arXiv 2212.05922).

    Each modality has blocks of its own.  From ``fusion_layer`` on the tokens of a modality also
    attend to a few bottlenecks; both modalities read the same ones, and what both make of them is
    averaged.  One norm ends all.
    """

    def __init__(self, config: MbtConfig) -> None:
        if config.modalities != "both":
            self.modalities = (config.modalities,)
        super().__init__(config)
        self.config = config
        sizes = config.depth, config.width, config.heads, config.stochastic_depth
        self.blocks = nn.ModuleDict({m: Stack(jax_blocks(*sizes)) for m in self.modalities})
        self.stacks = {f"blocks.{modality}": 0 for modality in self.modalities}
        self.bottleneck: nn.Parameter | None = None
        if config.modalities == "both" and config.fusion_layer < config.depth:
            self.bottleneck = nn.Parameter(torch.empty(1, config.bottlenecks, config.width))
            nn.init.normal_(self.bottleneck, std=0.02)
        self.norm = nn.LayerNorm(config.width, eps=JAX_EPS)
        initialise_jax_vit(self)

    def _run(
        self, modality: Modality, parts: Sequence[Tensor], first: int, last: int
    ) -> list[Tensor]:
        """Run some of the blocks of a modality on parts of several lengths."""
        blocks = self.blocks[modality]
        assert isinstance(blocks, Stack)
        return blocks.together(parts, first=first, last=last)

    def encode_modality(
        self, modality: Modality, patches: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Run the blocks before the first exchange."""
        return self._run(modality, [patches], 0, self.config.fusion_layer)[0]

    def compare(
        self, modality: Modality, encoded: Float[Tensor, "N M D"]
    ) -> Float[Tensor, "N M D"]:
        """Run the other blocks without bottlenecks, and the norm."""
        done: Tensor = self.norm(
            self._run(modality, [encoded], self.config.fusion_layer, self.config.depth)[0]
        )
        return done

    def compare_parts(
        self, modality: Modality, parts: Sequence[Float[Tensor, "N M D"]]
    ) -> list[Float[Tensor, "N M D"]]:
        """Run all blocks on all parts at once."""
        return [self.norm(part) for part in self._run(modality, parts, 0, self.config.depth)]

    def alone(self, modality: Modality, encoded: Float[Tensor, "N M D"]) -> Float[Tensor, "N M D"]:
        """Run the blocks of a modality that has nothing to exchange with."""
        return self.compare(modality, encoded)

    def fuse(
        self, audio: Float[Tensor, "N A D"], vision: Float[Tensor, "N V D"]
    ) -> tuple[Float[Tensor, "N A D"], Float[Tensor, "N V D"]]:
        """Run the blocks that exchange bottlenecks, and the norm; a missing modality says nothing.

        The bottlenecks stand behind the tokens, without positions.
        """
        given: dict[Modality, Tensor] = {"audio": audio, "vision": vision}
        if self.bottleneck is None or not all(x.shape[1] for x in given.values()):
            done = {m: self.compare(m, x) if x.shape[1] else x for m, x in given.items()}
        else:
            done = {m: self.norm(x) for m, x in self.exchange(given)[0].items()}
        return done["audio"], done["vision"]

    def exchange(
        self, given: dict[Modality, Tensor]
    ) -> tuple[dict[Modality, Tensor], Float[Tensor, "N B D"]]:
        """Return the tokens of both modalities after the last block, and the bottlenecks."""
        assert self.bottleneck is not None
        shared = self.bottleneck.expand(len(given["audio"]), -1, -1)
        for number in range(self.config.fusion_layer, self.config.depth):
            made = {
                m: self._run(m, [torch.cat([x, shared.to(x.dtype)], 1)], number, number + 1)[0]
                for m, x in given.items()
            }
            num = self.config.bottlenecks
            given = {m: x[:, :-num] for m, x in made.items()}
            shared = torch.stack([x[:, -num:] for x in made.values()]).mean(0)
        return given, shared

    def encode(self, segments: Segments) -> tuple[Tokens, Tokens]:
        """Encode all patches; a modality without weights gives zeros."""
        if len(self.modalities) == len(MODALITIES):
            return super().encode(segments)
        mine = self.modalities[0]
        given = getattr(segments, mine)
        tokens = self._in_time(mine, self.encode_alone(mine, given.flatten(0, 1)), given.shape[1])
        made = {mine: self._tokens(mine, tokens)}
        for modality in MODALITIES:
            declared = self.io.modality(modality).tokens
            shape = (*given.shape[:2], declared.steps, declared.positions, declared.dim)
            if modality not in made:
                made[modality] = Tokens(tokens.new_zeros(shape), declared.times_s)
        return made["audio"], made["vision"]

    def blocks_of(self, modality: Modality) -> tuple[list[StreamBlock], nn.LayerNorm | None]:
        """Return the blocks of a modality, and the norm that both share."""
        blocks = self.blocks[modality]
        assert isinstance(blocks, Stack)
        return [block for block in blocks if isinstance(block, StreamBlock)], self.norm

    def fitted(self, other: Encoder) -> dict[str, Tensor]:
        """Return the weights for an MBT that starts from another one, or from ``avmae``.

        Blocks of both modalities together are copied to both.  The norm of another encoder is taken
        where the modalities share it; bottlenecks start anew.  (Source: the published code, with
        the embedding of audio that it fails to find.)
        """
        if isinstance(other, Mbt) or not isinstance(other, TubeletEncoder):
            return super().fitted(other)
        made = self.state_dict()
        for modality in self.modalities:
            blocks, norm = other.blocks_of(modality)
            if len(blocks) != self.config.depth:
                raise ConfigError(
                    f"the encoder to start from has {len(blocks)} blocks for {modality}, and this "
                    f"one {self.config.depth}: set encoder.depth={len(blocks)}"
                )
            parts: dict[str, nn.Module] = {f"embed.{modality}": other.embed[modality]}
            parts |= {f"blocks.{modality}.{n}": block for n, block in enumerate(blocks)}
            parts |= {} if norm is None else {"norm": norm}
            for place, part in parts.items():
                made |= {f"{place}.{name}": x for name, x in part.state_dict().items()}
        self._repeat_channels(made)
        return made

    def _repeat_channels(self, made: dict[str, Tensor]) -> None:
        """Repeat an embedding of one channel where this one takes three, unscaled as published."""
        name = "embed.audio.proj.weight"
        if name in made:
            copies = self.config.audio_channels // made[name].shape[1]
            made[name] = made[name].repeat(1, copies, 1, 1)
