"""Names of tensors, ours and theirs: a table of patterns per layout. Light: no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from zoo.errors import ModelError

Names = Callable[[str], tuple[str, ...]]
"""Our name of a tensor to theirs; several are stacked along the first axis."""
Rules = Sequence[tuple[str, tuple[str, ...]]]
"""Pattern of our names -> their names, with ``\\1`` for what a group has matched."""

IMAGE_VIT = "timm-vit"
"""What the layout of image transformers (ViT) is called, of timm and of MAE."""
_IMAGE_VIT = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight")
_NO_IMAGE_VIT = ("temp_embed",)  # Motionformer has all these too, and times


def is_image_vit(found: Collection[str]) -> bool:
    """Say whether these are the tensors of an image transformer (`zoo.checkpoints.image_vit`)."""
    names = set(found)
    return names.issuperset(_IMAGE_VIT) and names.isdisjoint(_NO_IMAGE_VIT)


def rename(name: str, rules: Rules) -> tuple[str, ...]:
    """Return their names of one of our tensors: by the first rule that matches it.

    Raises:
        ModelError: if no rule does.
    """
    for pattern, theirs in rules:
        if match := re.fullmatch(pattern, name):
            return tuple(match.expand(their) for their in theirs)
    raise ModelError(f"the layout has no place for the tensor '{name}'")
