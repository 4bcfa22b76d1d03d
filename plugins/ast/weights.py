"""AST weights as Hugging Face publishes them (MIT/ast-finetuned-audioset-10-10-0.4593)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from zoo.checkpoints.names import rename
from zoo.errors import ModelError, option

if TYPE_CHECKING:
    from torch import Tensor

    from plugins.ast.config import AstConfig
    from zoo.contracts import Positions

PREFIX, CLASSIFIER = "audio_spectrogram_transformer.", "classifier."
POSITIONS = "embeddings.position_embeddings"
BANDS = 12  # rows of the published table: 2 tokens + 12 bands x 101 time steps (10.24 s)
SPECIAL_TOKENS = 2

# Source: transformers, modeling_audio_spectrogram_transformer.
_RULES = [
    (r"vit\.cls_token", ("embeddings.cls_token",)),
    (r"vit\.dist_token", ("embeddings.distillation_token",)),
    (r"vit\.pos_embed", (POSITIONS,)),
    (r"vit\.patch_embed\.proj\.(\w+)", (r"embeddings.patch_embeddings.projection.\1",)),
    (r"vit\.norm\.(\w+)", (r"layernorm.\1",)),
    (r"vit\.blocks\.(\d+)\.norm1\.(\w+)", (r"encoder.layer.\1.layernorm_before.\2",)),
    (r"vit\.blocks\.(\d+)\.norm2\.(\w+)", (r"encoder.layer.\1.layernorm_after.\2",)),
    (
        r"vit\.blocks\.(\d+)\.attn\.qkv\.(\w+)",
        tuple(rf"encoder.layer.\1.attention.attention.{n}.\2" for n in ("query", "key", "value")),
    ),
    (
        r"vit\.blocks\.(\d+)\.attn\.proj\.(\w+)",
        (r"encoder.layer.\1.attention.output.dense.\2",),
    ),
    (r"vit\.blocks\.(\d+)\.mlp\.fc1\.(\w+)", (r"encoder.layer.\1.intermediate.dense.\2",)),
    (r"vit\.blocks\.(\d+)\.mlp\.fc2\.(\w+)", (r"encoder.layer.\1.output.dense.\2",)),
]


def names(tensor: str) -> tuple[str, ...]:
    """Return their names of one of our tensors, without the prefix of the classifying model."""
    return rename(tensor, _RULES)


def recognises(found: Collection[str]) -> bool:
    """Say whether these are the tensors of an AST, with or without a classifier."""
    token = "embeddings.distillation_token"
    return token in found or PREFIX + token in found


def read(
    tensors: Mapping[str, Tensor], config: AstConfig, positions: Positions
) -> dict[str, Tensor]:
    """Return the state dict of our AST; the classifier is dropped.

    Args:
        tensors: theirs.
        config: of the extractor to fill.
        positions: how to shorten their table of 1214 positions: ``prefix`` takes its first rows,
            as Synchformer does (all from the lowest band); ``interpolate`` resamples the grid of
            12 bands x 101 time steps.

    Raises:
        ModelError: if a tensor is missing, unknown, broken or of another shape.
    """
    from plugins.ast.model import Ast
    from zoo.checkpoints.tensors import check_tensors, from_published, shapes_of
    from zoo.models.without_values import without_values

    with without_values():
        state = Ast(config).state_dict()
    bare = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in tensors.items()
        if not name.startswith(CLASSIFIER)
    }
    shapes = shapes_of(state, names)
    if POSITIONS in bare:
        table = bare[POSITIONS]
        if table.ndim == 3 and table.shape[1] > SPECIAL_TOKENS:
            bare[POSITIONS] = _fit(table, config, positions)
    check_tensors(bare, shapes)
    return from_published(bare, state, names)


def _fit(table: Tensor, config: AstConfig, positions: Positions) -> Tensor:
    """Bring a table of positions to the grid of a config."""
    import torch

    from zoo.checkpoints.tensors import resample

    wanted = config.feature_map()
    length, available = SPECIAL_TOKENS + wanted.positions * wanted.steps, table.shape[1]
    if available == length:
        return table
    if positions == "prefix":
        if available < length:
            raise ModelError(
                f"its table of {available} positions is shorter than the {length} of these "
                "segments",
                f"take {option('init_positions')} interpolate",
            )
        return table[:, :length].clone()
    steps, rest = divmod(available - SPECIAL_TOKENS, BANDS)
    if rest:
        raise ModelError(
            f"its table of {available} positions is not 2 tokens and a grid of {BANDS} bands",
            f"take {option('init_positions')} prefix",
        )
    special, grid = table[:, :SPECIAL_TOKENS], table[:, SPECIAL_TOKENS:]
    grid = resample(grid, (BANDS, steps), (wanted.positions, wanted.steps))
    return torch.cat([special, grid], dim=1)
