"""Tensors of Flax to those of torch and back: their names and the order of their axes.

What torch calls ``encoderblock_0.LayerNorm_0.weight``, Flax calls
``encoderblock_0/LayerNorm_0/scale``.  `from_flax` turns all tensors of a file into torch's names
and axes, group by group as they are; which of ours they are is then for a table of names
(`zoo.checkpoints.names`), with `flax_block` for the tensors of a transformer block.

| of | Flax | torch |
|---|---|---|
| a norm | ``scale`` (D) | ``weight`` (D) |
| a dense layer | ``kernel`` (in, out) | ``weight`` (out, in) |
| a query, key, value | ``kernel`` (D, heads, channels), ``bias`` (heads, channels) | (D, D), (D) |
| what follows attention | ``out/kernel`` (heads, channels, D) | ``out.weight`` (D, D) |
| a convolution | ``kernel`` ([t,] h, w, in, out) | ``weight`` (out, in, [t,] h, w) |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from zoo.checkpoints.names import Rules, rename
from zoo.errors import ModelError

Tensors = Mapping[str, Tensor]
Heads = Callable[[str], int]
"""Name of an attention in torch's spelling (``Transformer.encoderblock_0.Multi...``) -> heads."""

ATTENTION = "MultiHeadDotProductAttention_0"
_INPUTS, _OUTPUT = ("query", "key", "value"), "out"
BLOCK_LAYERS: Mapping[str, tuple[str, ...]] = {
    "norm1": ("LayerNorm_0",),
    "attn.qkv": tuple(f"{ATTENTION}.{part}" for part in _INPUTS),
    "attn.proj": (f"{ATTENTION}.{_OUTPUT}",),
    "norm2": ("LayerNorm_1",),
    "mlp.fc1": ("MlpBlock_0.Dense_0",),
    "mlp.fc2": ("MlpBlock_0.Dense_1",),
}
"""Layers of a `zoo.models.stream_block.StreamBlock` of one stream, and what Flax calls them."""
_BLOCK: Rules = tuple(
    (rf"{re.escape(layer)}\.(.+)", tuple(rf"{name}.\1" for name in names))
    for layer, names in BLOCK_LAYERS.items()
)
BLOCK_TENSORS = tuple(f"{layer}.{kind}" for layer in BLOCK_LAYERS for kind in ("weight", "bias"))
"""Names of all tensors of such a block."""


def flax_block(name: str) -> tuple[str, ...]:
    """Return the names of a tensor of a transformer block, in torch's spelling of Flax's names.

    Those of ``attn.qkv`` are three, stacked along the first axis.

    Args:
        name: within the block: ``norm1.weight``.

    Raises:
        ModelError: if a block has no such tensor.
    """
    return rename(name, _BLOCK)


def from_flax(tensors: Tensors) -> dict[str, Tensor]:
    """Return tensors of Flax with torch's names and axes.

    Args:
        tensors: by names with slashes, ``embedding/kernel``.

    Raises:
        ModelError: if a tensor has as many axes as none of its name.
    """
    return dict(_one_from_flax(name, tensor) for name, tensor in tensors.items())


def to_flax(tensors: Tensors, heads: Heads | int) -> dict[str, Tensor]:
    """Return tensors with Flax's names and axes: the reverse of `from_flax`.

    Args:
        tensors: by torch's names, as `from_flax` gives them.
        heads: of every attention, or of the one of a name.

    Raises:
        ModelError: if a tensor has as many axes as none of its name, or heads do not fit a width.
    """
    of_all = (lambda _name: heads) if isinstance(heads, int) else heads
    return dict(_one_to_flax(name, tensor, of_all) for name, tensor in tensors.items())


def block_from_flax(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """Return the state dict of a transformer block.

    Args:
        tensors: of Flax.
        prefix: group of the block: ``Transformer/encoderblock_0``.

    Raises:
        ModelError: if a tensor is missing or has other axes.
    """
    inside = {
        name.removeprefix(f"{prefix}/"): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}/")
    }
    theirs = from_flax(inside)
    missing = [their for name in BLOCK_TENSORS for their in flax_block(name) if their not in theirs]
    if missing:
        raise ModelError(f"the block {prefix!r} lacks the tensor {missing[0]!r}")
    return {
        name: torch.cat([theirs[their] for their in flax_block(name)]) for name in BLOCK_TENSORS
    }


def block_to_flax(state: Tensors, prefix: str, heads: int) -> dict[str, Tensor]:
    """Return the tensors of Flax for a transformer block: the reverse of `block_from_flax`.

    Args:
        state: of the block: ``norm1.weight`` and so on.
        prefix: group of the block, before the names.
        heads: of its attention.

    Raises:
        ModelError: if the block has a tensor that Flax's lacks, or heads do not fit its width.
    """
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        names = flax_block(name)
        theirs |= dict(zip(names, tensor.chunk(len(names)), strict=True))
    return {f"{prefix}/{name}": tensor for name, tensor in to_flax(theirs, heads).items()}


def _one_from_flax(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    *groups, last = name.split("/")
    parent = groups[-1] if groups else ""
    if last == "kernel":
        return ".".join([*groups, "weight"]), _kernel_from_flax(name, parent, tensor)
    if last == "scale":
        return ".".join([*groups, "weight"]), tensor
    if last == "bias" and parent in _INPUTS and tensor.ndim == 2:
        return ".".join([*groups, last]), tensor.flatten()  # (D,)
    return ".".join([*groups, last]), tensor


def _one_to_flax(name: str, tensor: Tensor, heads: Heads) -> tuple[str, Tensor]:
    *groups, last = name.split(".")
    parent = groups[-1] if groups else ""
    is_of_attention = parent in {*_INPUTS, _OUTPUT}
    num_heads = heads(".".join(groups[:-1])) if is_of_attention else 0
    if last == "weight" and tensor.ndim == 1:
        return "/".join([*groups, "scale"]), tensor
    if last == "weight":
        kernel = _kernel_to_flax(name, parent, tensor, num_heads)
        return "/".join([*groups, "kernel"]), kernel
    if last == "bias" and parent in _INPUTS:
        return "/".join([*groups, last]), _split(name, tensor, 0, num_heads)
    return "/".join([*groups, last]), tensor


def _kernel_from_flax(name: str, parent: str, kernel: Tensor) -> Tensor:
    match kernel.ndim:
        case 2:
            return kernel.t().contiguous()  # (out, in)
        case 3 if parent in _INPUTS:
            return kernel.flatten(1).t().contiguous()  # (heads*channels, D)
        case 3 if parent == _OUTPUT:
            return kernel.flatten(0, 1).t().contiguous()  # (D, heads*channels)
        case 4:
            return kernel.permute(3, 2, 0, 1).contiguous()  # (out, in, h, w)
        case 5:
            return kernel.permute(4, 3, 0, 1, 2).contiguous()  # (out, in, t, h, w)
    raise ModelError(f"the tensor {name!r} has {kernel.ndim} axes, which no kernel of its name has")


def _kernel_to_flax(name: str, parent: str, weight: Tensor, heads: int) -> Tensor:
    match weight.ndim:
        case 2 if parent in _INPUTS:
            return _split(name, weight.t(), 1, heads)  # (D, heads, channels)
        case 2 if parent == _OUTPUT:
            return _split(name, weight.t(), 0, heads)  # (heads, channels, D)
        case 2:
            return weight.t().contiguous()  # (in, out)
        case 4:
            return weight.permute(2, 3, 1, 0).contiguous()  # (h, w, in, out)
        case 5:
            return weight.permute(2, 3, 4, 1, 0).contiguous()  # (t, h, w, in, out)
    raise ModelError(f"the tensor {name!r} has {weight.ndim} axes, which no weight has in Flax")


def _split(name: str, tensor: Tensor, axis: int, heads: int) -> Tensor:
    """Split an axis of D into (heads, channels)."""
    width = tensor.shape[axis]
    if heads < 1 or width % heads:
        raise ModelError(f"the tensor {name!r} has {width} channels for {heads} heads")
    return tensor.unflatten(axis, (heads, width // heads)).contiguous()
