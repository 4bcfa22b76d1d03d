"""Tensors of a published layout to ours and back, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.checkpoints.names import Names
from zoo.errors import ModelError
from zoo.models.patches import resample_grid

Shapes = Mapping[str, tuple[int, ...]]
COUNTER = "num_batches_tracked"  # of a batch norm


@dataclass(frozen=True)
class Misfit:
    """How many tensors do not fit, and a sentence about the first."""

    count: int
    sentence: str


def shapes_of(state: Mapping[str, Tensor], names: Names) -> Shapes:
    """Return the shapes of their tensors, given ours (on any device, meta too)."""
    shapes = {}
    for name, tensor in state.items():
        theirs = names(name)
        shape = tuple(tensor.shape)
        for their in theirs:
            shapes[their] = (shape[0] // len(theirs), *shape[1:]) if len(theirs) > 1 else shape
    return shapes


def find_misfit(tensors: Mapping[str, Tensor], shapes: Shapes) -> Misfit | None:
    """Compare names and shapes with those of a layout; None if all fit."""
    missing = [name for name in shapes if name not in tensors]
    unknown = [name for name in tensors if name not in shapes]
    differ = [n for n, shape in shapes.items() if n in tensors and tensors[n].shape != shape]
    if differ:
        name = differ[0]
        found, wanted = (_text(shape) for shape in (tensors[name].shape, shapes[name]))
        sentence = f"the tensor {name!r} is {found} and should be {wanted}{_and_more(differ)}"
    elif missing:
        sentence = f"it lacks the tensor {missing[0]!r}{_and_more(missing)}"
    elif unknown:
        sentence = f"it holds an unknown tensor {unknown[0][:80]!r}{_and_more(unknown)}"
    else:
        return None
    return Misfit(len(missing) + len(unknown) + len(differ), sentence)


def check_tensors(tensors: Mapping[str, Tensor], shapes: Shapes) -> None:
    """Check that tensors are exactly those of a layout, float32 (counters: int64) and finite.

    Raises:
        ModelError: naming the first that is missing, unknown, of another shape or type, or broken.
    """
    misfit = find_misfit(tensors, shapes)
    if misfit is not None:
        raise ModelError(misfit.sentence)
    for name, tensor in tensors.items():
        wanted = torch.int64 if name.endswith(COUNTER) else torch.float32
        if tensor.dtype != wanted:
            given, should = (str(kind).removeprefix("torch.") for kind in (tensor.dtype, wanted))
            raise ModelError(f"the tensor {name!r} is {given} and should be {should}")
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise ModelError(f"the tensor {broken[0]!r} holds NaN or infinity{_and_more(broken)}")


def _text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a scalar"


def _and_more(names: Sequence[str]) -> str:
    others = len(names) - 1
    return f" (and so {'is' if others == 1 else 'are'} {others} more)" if others else ""


def from_published(
    tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], names: Names
) -> dict[str, Tensor]:
    """Return our state dict, made of their tensors.

    Args:
        tensors: theirs, checked.
        state: ours, for its names.
        names: ours to theirs.
    """
    made = {}
    for name in state:
        parts = [tensors[their] for their in names(name)]
        made[name] = parts[0] if len(parts) == 1 else torch.cat(parts)
    return made


def to_published(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Return their tensors, made of our state dict: the reverse of ``from_published``."""
    made: dict[str, Tensor] = {}
    for name, tensor in state.items():
        theirs = names(name)
        whole = tensor.detach().cpu()
        if whole.untyped_storage().nbytes() != whole.nbytes:
            whole = whole.clone()  # torch.save writes all that a view looks into
        parts = whole.chunk(len(theirs)) if len(theirs) > 1 else [whole]
        made.update(zip(theirs, parts, strict=True))
    return made


def resample(
    table: Float[Tensor, "1 L D"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "1 M D"]:
    """Resample a table of positions over a grid (rows, columns), bilinearly.

    Args:
        table: one row per place of the old grid, columns varying fastest.
        old: the grid it was learnt on.
        new: the grid that is wanted.
    """
    return table if old == new else resample_grid(table, (1, *old), (1, *new))
