"""CAV-MAE from the weights of an image transformer, with MAE's decoder where the file has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from plugins.cavmae.config import CavMaeConfig
    from zoo.checkpoints.image_vit import ImageVit
    from zoo.contracts import Positions


def read(
    tensors: Mapping[str, Tensor], config: CavMaeConfig, positions: Positions
) -> dict[str, Tensor]:
    """Return what an image transformer gives: all but what tells the modalities apart.

    The first blocks go to both modalities, those after them to the shared ones with a copy of
    their norms for every stream; audio patches are embedded by the sum over the colours.  Positions
    of audio are computed.  (Source: the published ``ori_mae_11`` weights.)

    Raises:
        ModelError: if the sizes differ, or a tensor is missing, unknown or broken.
    """
    from zoo.checkpoints.image_vit import fit_positions, read_image_vit

    vit = read_image_vit(tensors, config, config.depth + config.shared_depth)
    made = {
        "patch_embed_v.proj.weight": vit.patch_weight,
        "patch_embed_v.proj.bias": vit.patch_bias,
        "patch_embed_a.proj.weight": vit.patch_weight.sum(dim=1, keepdim=True),
        "patch_embed_a.proj.bias": vit.patch_bias,
        "pos_embed_v": fit_positions(vit.positions, config.vision_grid, positions),
        **vit.norm("norm", "norm_a", "norm_v"),
    }
    for number in range(config.depth):
        for stack in ("blocks_a", "blocks_v"):
            block = vit.block(number, norms=("",))
            made |= {f"{stack}.{number}.{name}": tensor for name, tensor in block.items()}
    for number in range(config.shared_depth):
        block = vit.block(config.depth + number, norms=("", "_a", "_v"))
        made |= {f"blocks_u.{number}.{name}": tensor for name, tensor in block.items()}
    return made | _decoder(vit, config, positions)


def _decoder(vit: ImageVit, config: CavMaeConfig, positions: Positions) -> dict[str, Tensor]:
    """Return the decoder for the objective; the audio head is the first rows of the other one."""
    from zoo.checkpoints.image_vit import fit_positions, without_class_token

    theirs = dict(vit.decoder)
    made = {}
    table, values = theirs.pop("decoder_pos_embed", None), config.patch**2
    if table is not None:
        table = without_class_token(table)
        made["decoder_pos_embed_v"] = fit_positions(table, config.vision_grid, positions)
    for kind in ("weight", "bias"):
        head = theirs.pop(f"decoder_pred.{kind}", None)
        if head is not None:
            made |= {f"decoder_pred_v.{kind}": head, f"decoder_pred_a.{kind}": head[:values]}
    return {f"objective.decoder.{name}": tensor for name, tensor in {**theirs, **made}.items()}
