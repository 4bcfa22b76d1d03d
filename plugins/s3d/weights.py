"""S3D weights as torchvision publishes them, trained on Kinetics-400."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from plugins.s3d.config import S3dConfig
    from zoo.contracts import Positions

FIRST, LAST = "features.0.0.0.weight", "features.15.branch3.1.0.weight"
CLASSIFIER = "classifier."
COUNTER = "num_batches_tracked"  # of the norms; their fixed momentum does not need it


def names(tensor: str) -> tuple[str, ...]:
    """Return their name of one of our tensors: it is the same; theirs has no bridge."""
    return () if tensor.startswith("bridge.") else (tensor,)


def recognises(found: Collection[str]) -> bool:
    """Say whether these are the tensors of torchvision's S3D."""
    return {FIRST, LAST} <= set(found)


def read(
    tensors: Mapping[str, Tensor], config: S3dConfig, positions: Positions
) -> dict[str, Tensor]:
    """Return the state dict of our S3D; the classifier is dropped, a bridge starts at random.

    Args:
        tensors: theirs.
        config: of the extractor to fill.
        positions: of no importance: there are none.

    Raises:
        ModelError: if a tensor is missing, unknown, broken or of another shape.
    """
    import torch

    from plugins.s3d.model import S3d, build_bridge
    from zoo.checkpoints.tensors import check_tensors, from_published, shapes_of
    from zoo.models.without_values import without_values

    with without_values():
        state = S3d(config).features.state_dict(prefix="features.")
    bridge = build_bridge(config).state_dict(prefix="bridge.")
    counters = {
        name: torch.zeros_like(x, device="cpu")
        for name, x in state.items()
        if name.endswith(COUNTER)
    }
    kept = {
        name: x
        for name, x in tensors.items()
        if not name.startswith(CLASSIFIER) and not name.endswith(COUNTER)
    }
    weights = {name: x for name, x in state.items() if name not in counters}
    check_tensors(kept, shapes_of(weights, names))
    return from_published(kept, weights, names) | counters | bridge
