"""The heads of SparseSync and of AVST: learned positions, selectors, a transformer over both."""

from collections.abc import Mapping
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plugins.sparsesync.config import AvstConfig, SelectorConfig
from zoo.contracts import FeatureMap, HeadInput
from zoo.models.modules import Head, initialise_linears
from zoo.models.segments import Tokens


class Positions(nn.Module):
    """Learned positions with a table per axis, side by side along the channels."""

    def __init__(self, shape: tuple[int, ...], tables: Mapping[str, tuple[int, int]]) -> None:
        """Start the tables at random.

        Args:
            shape: of the tokens, the last axis varying fastest.
            tables: name -> (axis, channels), in the order of the channels.
        """
        super().__init__()
        self.shape, self.axes = shape, {name: axis for name, (axis, _) in tables.items()}
        self.tables = nn.ParameterDict(
            {name: torch.randn(shape[axis], width) for name, (axis, width) in tables.items()}
        )

    def forward(self) -> Float[Tensor, "L D"]:
        """Return the position of every token."""
        parts = []
        for name, axis in self.axes.items():
            table = self.tables[name]
            along = [table.shape[0] if i == axis else 1 for i in range(len(self.shape))]
            parts.append(table.view(*along, -1).expand(*self.shape, -1))
        return torch.cat(parts, dim=-1).flatten(0, -2)


def vision_positions(tokens: FeatureMap, num_segments: int, dim: int) -> Positions:
    """Return positions over time and, where places are kept, over the columns and rows of them."""
    steps, places = num_segments * tokens.steps, tokens.positions
    if places == 1:
        return Positions((steps,), {"time": (0, dim)})
    side = isqrt(places)
    rows, columns = (side, side) if side * side == places else (places, 1)
    third = dim // 3
    tables = {"time": (0, dim - 2 * third), "width": (2, third), "height": (1, third)}
    return Positions((steps, rows, columns), tables)


def audio_positions(tokens: FeatureMap, num_segments: int, dim: int) -> Positions:
    """Return positions over time and, where bands are kept, over frequency."""
    steps, bands = num_segments * tokens.steps, tokens.positions
    if bands == 1:
        return Positions((steps,), {"time": (0, dim)})
    tables = {"frequency": (1, dim // 2), "time": (0, dim - dim // 2)}
    return Positions((steps, bands), tables)


class Stream(nn.Module):
    """Tokens of one modality: projected if they are of another width, normalised, placed."""

    def __init__(self, tokens: FeatureMap, dim: int, positions: Positions) -> None:
        super().__init__()
        self.projection = nn.Identity() if tokens.dim == dim else nn.Linear(tokens.dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.positions = positions

    def forward(self, tokens: Float[Tensor, "B L Di"]) -> Float[Tensor, "B L D"]:
        """Prepare tokens, time-major."""
        return self.norm(self.projection(tokens)) + self.positions()


class Selector(nn.Module):
    """Learned queries that read a stream (SparseSync section 3.2).

    Every block is self-attention among the queries, attention to the stream, which is not
    normalised again, and an MLP.
    """

    def __init__(self, config: SelectorConfig) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.selectors, config.dim))
        self.positions = nn.Parameter(torch.randn(config.selectors, config.dim))
        self.blocks = nn.ModuleList(
            nn.TransformerDecoderLayer(
                config.dim,
                config.heads,
                dim_feedforward=4 * config.dim,
                dropout=config.dropout,
                activation=nn.functional.gelu,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.selector_depth)
        )

    def forward(self, stream: Float[Tensor, "B L D"]) -> Float[Tensor, "B Q D"]:
        """Select from a stream."""
        x = (self.queries + self.positions).expand(stream.shape[0], -1, -1)  # (B, Q, D)
        for block in self.blocks:
            x = block(x, stream)
        return x


class GlobalTransformer(nn.Module):
    """Reads [OFF, video, MOD, audio] without further positions and gives OFF."""

    def __init__(self, config: AvstConfig, *, is_normed: bool) -> None:
        """Build it.

        Args:
            config: its sizes.
            is_normed: whether what comes in is normalised, each modality by itself.
        """
        super().__init__()
        dim = config.dim
        self.off_token = nn.Parameter(torch.randn(1, 1, dim))
        self.mod_token = nn.Parameter(torch.randn(1, 1, dim))
        self.vision_norm, self.audio_norm = (
            nn.LayerNorm(dim) if is_normed else nn.Identity() for _ in range(2)
        )
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    dim,
                    config.heads,
                    dim_feedforward=4 * dim,
                    dropout=config.dropout,
                    activation=nn.functional.gelu,
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, audio: Float[Tensor, "B La D"], vision: Float[Tensor, "B Lv D"]
    ) -> Float[Tensor, "B D"]:
        """Return what OFF has read."""
        off, mod = (t.expand(audio.shape[0], -1, -1) for t in (self.off_token, self.mod_token))
        x = torch.cat([off, self.vision_norm(vision), mod, self.audio_norm(audio)], dim=1)
        return self.norm(self.blocks(x)[:, 0])


class _CropHead(Head):
    """What both heads share: the streams at one end, the linear layer without bias at the other."""

    def __init__(self, config: AvstConfig, head_input: HeadInput) -> None:
        super().__init__()
        num, dim = head_input.layout.num_segments, config.dim
        audio, vision = head_input.audio, head_input.vision
        self.audio = Stream(audio, dim, audio_positions(audio, num, dim))
        self.vision = Stream(vision, dim, vision_positions(vision, num, dim))
        self.classifier = nn.Linear(dim, head_input.num_outputs, bias=False)


class AvstHead(_CropHead):
    """All tokens of both streams in one transformer (AVST, as trained again in SparseSync)."""

    def __init__(self, config: AvstConfig, head_input: HeadInput) -> None:
        super().__init__(config, head_input)
        self.transformer = GlobalTransformer(config, is_normed=False)
        initialise_linears(self)

    def forward(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B K"]:
        """Classify a crop of exactly the layout's segments."""
        return self.classifier(self.transformer(self.audio(audio.flat), self.vision(vision.flat)))


class SparseSelectorHead(_CropHead):
    """A few selected tokens of each stream in one transformer (SparseSync section 3)."""

    def __init__(self, config: SelectorConfig, head_input: HeadInput) -> None:
        super().__init__(config, head_input)
        self.audio_selector, self.vision_selector = Selector(config), Selector(config)
        self.transformer = GlobalTransformer(config, is_normed=True)
        initialise_linears(self)

    def forward(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B K"]:
        """Classify a crop of exactly the layout's segments."""
        a = self.audio_selector(self.audio(audio.flat))
        v = self.vision_selector(self.vision(vision.flat))
        return self.classifier(self.transformer(a, v))
