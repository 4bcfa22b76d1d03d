"""The encoder and the head."""

import torch
from torch import Tensor, nn

import zoo
from zoo_loudness.config import JointConfig, LoudnessHeadConfig


class Joint(zoo.Encoder):
    """Mel frames and frames go through one transformer, so that each token has seen both."""

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.declared = config.io()
        self.audio = nn.Linear(config.audio.n_mels, config.dim)
        self.vision = nn.Linear(3 * config.vision.size**2, config.dim)
        length = self.declared.audio.tokens.steps + self.declared.vision.tokens.steps
        self.positions = nn.Parameter(0.1 * torch.randn(length, config.dim))
        layer = nn.TransformerEncoderLayer(
            config.dim, config.heads, 2 * config.dim, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, config.depth, enable_nested_tensor=False)

    def encode(self, segments: zoo.Segments) -> tuple[zoo.Tokens, zoo.Tokens]:
        """Return the tokens of both modalities."""
        mel = segments.audio.flatten(0, 1).transpose(1, 2)[:, :-1]  # (N, Ta, F), the last is zeros
        audio = self.audio(mel[:, ::8])  # (N, T, D)
        frames = segments.vision.flatten(0, 1).transpose(1, 2).flatten(2)  # (N, Tv, C H W)
        x = self.blocks(torch.cat([audio, self.vision(frames)], dim=1) + self.positions)
        parts, num = x.split([audio.shape[1], frames.shape[1]], dim=1), segments.audio.shape[1]
        return (
            zoo.Tokens.of_segments(parts[0], num, self.declared.audio.tokens),
            zoo.Tokens.of_segments(parts[1], num, self.declared.vision.tokens),
        )


class LoudnessHead(zoo.Head):
    """One linear layer on the mean of all tokens."""

    def __init__(self, config: LoudnessHeadConfig, head_input: zoo.HeadInput) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        width = head_input.audio.dim + head_input.vision.dim
        self.linear = nn.Linear(width, head_input.num_outputs)

    def forward(self, audio: zoo.Tokens, vision: zoo.Tokens) -> Tensor:
        """Return (B, 1)."""
        pooled = torch.cat([audio.flat.mean(1), vision.flat.mean(1)], dim=1)
        return self.linear(self.dropout(pooled))
