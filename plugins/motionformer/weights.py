"""Motionformer weights as its authors publish them (``ssv2_divided_224_16x4.pyth``)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isqrt
from typing import TYPE_CHECKING

from zoo.checkpoints.names import rename
from zoo.errors import ModelError, option

if TYPE_CHECKING:
    from torch import Tensor

    from plugins.motionformer.config import MotionformerConfig
    from zoo.contracts import Positions

SPACE, TIME = "pos_embed", "temp_embed"
_RULES = [
    (r"patch_embed_3d\.(\w+)", (r"patch_embed_3d.proj.\1",)),
    (r"patch_embed\.(\w+)", (r"patch_embed.proj.\1",)),
    (r"(.+)", (r"\1",)),
]
_CLASSIFIER = ("pre_logits.", "head")
_DEAD = "patch_embed."  # 2-D, carried by every checkpoint and used by none


def names(tensor: str) -> tuple[str, ...]:
    """Return their name of one of our tensors."""
    return rename(tensor, _RULES)


def recognises(found: Collection[str]) -> bool:
    """Say whether these are the tensors of a Motionformer with separate time positions."""
    return {"cls_token", SPACE, TIME, "patch_embed_3d.proj.weight"} <= set(found)


def read(
    tensors: Mapping[str, Tensor], config: MotionformerConfig, positions: Positions
) -> dict[str, Tensor]:
    """Return the state dict of our Motionformer; pre-logits and classifier are dropped.

    Args:
        tensors: theirs, the ``model_state`` of a checkpoint.
        config: of the extractor to fill.
        positions: how their 8 time and 14 x 14 space positions fit other segments and sizes:
            ``prefix`` takes the first times, ``interpolate`` resamples both.

    Raises:
        ModelError: if a tensor is missing, unknown, broken or of another shape.
    """
    from plugins.motionformer.model import Motionformer
    from zoo.checkpoints.tensors import check_tensors, from_published, shapes_of
    from zoo.models.without_values import without_values

    with without_values():
        state = Motionformer(config).state_dict()
    dropped = _CLASSIFIER if config.dead_patch_embed else (*_CLASSIFIER, _DEAD)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(dropped)}
    if TIME in kept and kept[TIME].ndim == 3:
        kept[TIME] = _fit_time(kept[TIME], config.feature_map().steps, positions)
    if SPACE in kept and kept[SPACE].ndim == 3:
        kept[SPACE] = _fit_space(kept[SPACE], config.feature_map().positions, positions)
    check_tensors(kept, shapes_of(state, names))
    return from_published(kept, state, names)


def _fit_time(table: Tensor, steps: int, positions: Positions) -> Tensor:
    from zoo.checkpoints.tensors import resample

    available = table.shape[1]
    if positions == "interpolate" and available:
        return resample(table, (1, available), (1, steps))
    if available < steps:
        raise ModelError(
            f"its table of {available} time positions is shorter than the {steps} of these "
            "segments",
            f"take {option('init_positions')} interpolate",
        )
    return table[:, :steps].clone()


def _fit_space(table: Tensor, places: int, positions: Positions) -> Tensor:
    import torch

    from zoo.checkpoints.tensors import resample

    old, new = isqrt(max(0, table.shape[1] - 1)), isqrt(places)
    if old == new or not old or positions == "prefix":
        return table  # another size is then found out with the other shapes
    grid = resample(table[:, 1 : 1 + old * old], (old, old), (new, new))
    return torch.cat([table[:, :1], grid], dim=1)
