"""The sync transformer: projections, learned positions, three blocks, a linear head."""

import torch
from jaxtyping import Float
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from plugins.sync import SyncConfig
from zoo.contracts import FeatureMap, HeadInput
from zoo.models.modules import Head, initialise_linears
from zoo.models.segments import Tokens

SINCOS_AMPLITUDE = 0.5


class SyncTransformer(nn.Module):
    """Reads [OFF, video tokens, MOD, audio tokens] and classifies OFF (paper section 3.3)."""

    def __init__(self, config: SyncConfig, num_vision: int, num_audio: int, classes: int) -> None:
        super().__init__()
        dim = config.dim
        self.off_token = nn.Parameter(torch.randn(1, 1, dim))
        self.mod_token = nn.Parameter(torch.randn(1, 1, dim))
        self.vision_norm = nn.LayerNorm(dim)
        self.audio_norm = nn.LayerNorm(dim)
        self.positions = nn.Parameter(torch.randn(1, 2 + num_vision + num_audio, dim))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(
            *(
                Block(
                    dim,
                    config.heads,
                    qkv_bias=True,
                    proj_drop=config.dropout,
                    attn_drop=config.dropout,
                    norm_layer=nn.LayerNorm,
                )
                for _ in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, classes)
        initialise_linears(self)

    def forward(
        self, audio: Float[Tensor, "B La D"], vision: Float[Tensor, "B Lv D"]
    ) -> Float[Tensor, "B K"]:
        """Classify from projected tokens."""
        off, mod = (t.expand(audio.shape[0], -1, -1) for t in (self.off_token, self.mod_token))
        tokens = [off, self.vision_norm(vision), mod, self.audio_norm(audio)]
        x = self.dropout(torch.cat(tokens, dim=1) + self.positions)  # (B, 2 + Lv + La, D)
        return self.classifier(self.norm(self.blocks(x))[:, 0])


class SyncHead(Head):
    """Projects both modalities' tokens to one width and runs the sync transformer."""

    def __init__(self, config: SyncConfig, head_input: HeadInput) -> None:
        super().__init__()
        self.pool = config.pool
        audio, vision = head_input.audio, head_input.vision
        self.audio_projection = nn.Linear(audio.dim, config.dim)
        self.vision_projection = nn.Linear(vision.dim, config.dim)
        if config.pool != "none" and audio.dim == vision.dim:
            # Stage I has brought both modalities into one space: keep them in one.
            self.audio_projection.load_state_dict(self.vision_projection.state_dict())
        vision_s, audio_s = (self._token_times(head_input, tokens) for tokens in (vision, audio))
        self.num_tokens = {"vision": len(vision_s), "audio": len(audio_s)}
        self.transformer = SyncTransformer(
            config, len(vision_s), len(audio_s), head_input.num_outputs
        )
        if config.position_init == "sincos":
            with torch.no_grad():
                table = self.transformer.positions[0]
                table[1 : 1 + len(vision_s)] = _sincos(vision_s, config.dim)
                table[2 + len(vision_s) :] = _sincos(audio_s, config.dim)
                table[[0, 1 + len(vision_s)]] = 0.0

    def _token_times(self, head_input: HeadInput, tokens: FeatureMap) -> list[float]:
        within = tokens.times_s
        if self.pool != "none":
            within = (head_input.layout.segment_s / 2,)
        return [start + t for start in head_input.layout.starts_s for t in within]

    @torch.no_grad()
    def initialise(self, audio: Tokens, vision: Tokens) -> None:
        """Start from centred tokens of unit spread.

        Most of a token is what all tokens share; the LayerNorms behind the projections would keep
        that and drown what differs.
        """
        if self.pool == "none":
            return
        for projection, tokens in (
            (self.audio_projection, audio),
            (self.vision_projection, vision),
        ):
            projected = projection(self._pooled(tokens))  # (B, S, D)
            projection.bias.sub_(projected.mean(dim=(0, 1)))
            scale = 1 / projected.std(dim=(0, 1)).mean().clamp_min(1e-6)
            projection.weight.mul_(scale)
            projection.bias.mul_(scale)

    @torch.no_grad()
    def start_from(self, other: Head) -> None:
        """Take over all but the classes; of longer position tables the first of each modality.

        The published code cuts the whole table, so that audio tokens get positions of video ones.
        """
        super().start_from(other)
        if not isinstance(other, SyncHead):
            return
        mine, theirs = self.transformer.positions[0], other.transformer.positions[0]
        if mine.shape[1] != theirs.shape[1]:
            return
        mod, its_mod = (1 + head.num_tokens["vision"] for head in (self, other))
        for first, its_first, length in (
            (0, 0, min(mod, its_mod)),  # OFF and video
            (mod, its_mod, min(len(mine) - mod, len(theirs) - its_mod)),  # MOD and audio
        ):
            mine[first : first + length] = theirs[its_first : its_first + length]

    def forward(self, audio: Tokens, vision: Tokens) -> Float[Tensor, "B K"]:
        """Classify a crop of exactly the layout's segments."""
        a, v = self._pooled(audio), self._pooled(vision)
        return self.transformer(self.audio_projection(a), self.vision_projection(v))

    def _pooled(self, tokens: Tokens) -> Float[Tensor, "B L D"]:
        if self.pool == "none":
            return tokens.flat
        return tokens.values.flatten(2, 3).mean(2)  # (B, S, D)


def _sincos(times_s: list[float], dim: int) -> Float[Tensor, "L D"]:
    """Encode times as sines and cosines with periods from 0.5 s to 20 s."""
    periods = torch.logspace(-0.3, 1.3, dim // 2)
    phase = 2 * torch.pi * torch.tensor(times_s)[:, None] / periods
    return SINCOS_AMPLITUDE * torch.cat([phase.sin(), phase.cos()], dim=1)
