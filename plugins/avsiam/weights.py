"""AVSiam from the weights of an image transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from plugins.avsiam.config import AvsiamConfig
    from zoo.contracts import Positions

BASE_DEPTH = 12


def read(
    tensors: Mapping[str, Tensor], config: AvsiamConfig, positions: Positions
) -> dict[str, Tensor]:
    """Return what an image transformer gives: everything.

    Both modalities get a copy of its norms; audio patches are embedded by the mean over the
    colours, and their positions are the nearest along the table of the frame, row by row.  The
    joint blocks are copies of the last block (Base), or of the last blocks in their order (Large
    and Huge).  (Source: the published code; its compiled files for the larger sizes.)

    Raises:
        ModelError: if the sizes differ, or a tensor is missing, unknown or broken.
    """
    from zoo.checkpoints.image_vit import fit_positions, read_image_vit

    depth, joint_depth = config.depth, config.joint_depth
    vit = read_image_vit(tensors, config, depth)
    rows, columns = config.audio_grid
    made = {
        "patch_embed.proj.weight": vit.patch_weight,
        "patch_embed.proj.bias": vit.patch_bias,
        "patch_embed_a.proj.weight": vit.patch_weight.mean(dim=1, keepdim=True),
        "patch_embed_a.proj.bias": vit.patch_bias,
        "pos_embed": fit_positions(vit.positions, config.vision_grid, positions),
        "pos_embed_a": _stretch(vit.positions, rows * columns),
        **vit.norm("norm", "norm_a"),
    }
    for number in range(depth):
        block = vit.block(number, norms=("_a", "_v"))
        made |= {f"blocks.{number}.{name}": tensor for name, tensor in block.items()}
    for number in range(joint_depth):
        source = depth - 1 if depth <= BASE_DEPTH else max(0, depth - joint_depth + number)
        block = vit.block(source, norms=("_a",))
        made |= {f"joint.{number}.{name}": tensor for name, tensor in block.items()}
    return made


def _stretch(table: Tensor, length: int) -> Tensor:
    """Stretch a table (1, L, D) to another length: row ``i`` is row ``floor(i * L / length)``."""
    import torch

    return table[:, torch.arange(length) * table.shape[1] // length]
