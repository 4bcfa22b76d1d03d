"""The published extractors on the weights of ours: unfused attention over explicit groups."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from plugins.aggregators.model import TransformerAggregator
from plugins.ast.model import Ast
from plugins.motionformer.model import DividedAttention, Motionformer
from zoo.models.model import Model
from zoo.models.modules import emphasise_change
from zoo.models.two_tower import ExtractorEncoder, TwoTower


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with the weights written out: q ``(M, L, d)`` scaled, k and v ``(M, L', d)``."""
    weights = torch.einsum("mid,mjd->mij", q, k).softmax(dim=-1)
    return torch.einsum("mij,mjd->mid", weights, v)


def split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(2, (heads, -1)).transpose(1, 2).flatten(0, 1)  # (N*h, L, d)


def merge_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)  # (N, L, h*d)


def divided_attention(layer: DividedAttention, x: Tensor, steps: int, over: str) -> Tensor:
    """CLS looks at everything; a patch looks at CLS and its own group (Source: Motionformer)."""
    heads = layer.heads
    q, k, v = (split_heads(part, heads) for part in layer.qkv(x).chunk(3, dim=2))
    q = q * q.shape[-1] ** -0.5
    cls = attend(q[:, :1], k, v)
    q, grouped_k, grouped_v = (to_groups(part[:, 1:], steps, over) for part in (q, k, v))
    times = len(q) // len(k)
    keys, values = (
        torch.cat([part[:, :1].repeat_interleave(times, dim=0), grouped], dim=1)
        for part, grouped in ((k, grouped_k), (v, grouped_v))
    )
    out = from_groups(attend(q, keys, values), len(k), over)
    return layer.proj(merge_heads(torch.cat([cls, out], dim=1), heads))


def to_groups(x: Tensor, steps: int, over: str) -> Tensor:
    x = x.unflatten(1, (steps, -1))  # (M, t, p, d)
    return (x.transpose(1, 2) if over == "time" else x).flatten(0, 1)  # (M*G, L', d)


def from_groups(x: Tensor, num: int, over: str) -> Tensor:
    x = x.unflatten(0, (num, -1))  # (M, G, L', d)
    return (x.transpose(1, 2) if over == "time" else x).flatten(1, 2)  # (M, L, d)


def motionformer(model: Motionformer, segments: Tensor) -> Tensor:
    """Return features ``(N, T, P, D)`` of video segments ``(N, C, Tv, H, W)``."""
    steps, positions = model.map.steps, model.map.positions
    x = model.patch_embed_3d(emphasise_change(segments, model.change_gain))
    x = x.flatten(2).transpose(1, 2)  # (N, T*P, D)
    cls = model.cls_token.expand(len(x), -1, -1)
    places = model.pos_embed[:, 1:].repeat(1, steps, 1)
    times = model.temp_embed.repeat_interleave(positions, dim=1)
    table = torch.cat([model.pos_embed[:, :1], places + times], dim=1)
    x = torch.cat([cls, x], dim=1) + table
    for block in model.blocks:
        x = x + divided_attention(block.timeattn, block.norm3(x), steps, "time")
        x = x + block.drop_path(divided_attention(block.attn, block.norm1(x), steps, "space"))
        x = x + block.drop_path(block.mlp(block.norm2(x)))
    return model.norm(x[:, 1:]).unflatten(1, (steps, positions))


def ast(model: Ast, mel: Tensor) -> Tensor:
    """Return features ``(N, T, P, D)`` of log-mel segments ``(N, F, Ta)``."""
    vit, (bands, steps) = model.vit, (model.map.positions, model.map.steps)
    x = vit.patch_embed(emphasise_change(mel, model.change_gain).unsqueeze(1))
    tokens = [token.expand(len(x), -1, -1) for token in (vit.cls_token, vit.dist_token)]
    x = torch.cat([*tokens, x], dim=1) + vit.pos_embed
    for block in vit.blocks:
        x = x + self_attention(block.attn, block.norm1(x))
        x = x + block.mlp(block.norm2(x))
    return vit.norm(x)[:, 2:].unflatten(1, (bands, steps)).transpose(1, 2)


def self_attention(layer: nn.Module, x: Tensor) -> Tensor:
    """Separate projections to queries, keys and values, as in the transformers library."""
    parts = zip(layer.qkv.weight.chunk(3), layer.qkv.bias.chunk(3), strict=True)
    q, k, v = (split_heads(linear(x, *part), layer.num_heads) for part in parts)
    return layer.proj(merge_heads(attend(q * q.shape[-1] ** -0.5, k, v), layer.num_heads))


def aggregate(aggregator: TransformerAggregator, features: Tensor) -> Tensor:
    """Run the stock encoder layer over all positions and keep the token."""
    num = len(features)
    x = features.flatten(0, 1)
    x = torch.cat([aggregator.cls_token.expand(len(x), -1, -1), x], dim=1)
    return aggregator.layer(x)[:, 0].unflatten(0, (num, -1))


class ReferenceEncoder(nn.Module):
    """One modality, computed as published on the weights of ours."""

    def __init__(self, ours: ExtractorEncoder) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, segments: Tensor) -> Tensor:
        extract = ast if isinstance(self.ours.extractor, Ast) else motionformer
        features = extract(self.ours.extractor, segments)
        return self.ours.projection(aggregate(self.ours.aggregator, features))


def reference_encoders(model: Model) -> tuple[ReferenceEncoder, ReferenceEncoder]:
    """Return both modalities of a model's encoder, audio first, computed the published way."""
    audio, vision = (ReferenceEncoder(part) for part in parts_of(model))
    return audio, vision


def parts_of(model: Model) -> tuple[ExtractorEncoder, ExtractorEncoder]:
    """Return both modalities of a model's encoder, audio first."""
    encoder = model.encoder
    assert isinstance(encoder, TwoTower)
    return encoder.audio, encoder.vision
