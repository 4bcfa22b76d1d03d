"""Audiovisual MAE and MBT from the weights of an image transformer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from plugins.avmae.config import AvmaeConfig, MbtConfig
from zoo.checkpoints.image_vit import ImageVit, read_image_vit
from zoo.contracts import Positions


def read(
    tensors: Mapping[str, Tensor], config: AvmaeConfig | MbtConfig, _positions: Positions
) -> dict[str, Tensor]:
    """Return what an image transformer gives: embeddings, blocks and norms.

    Its blocks go to both modalities.  Of a tubelet's frames the middle one is embedded at first
    (Source: ViViT's central frame), and patches of audio by the sum over the colours.  Positions
    are computed, so those of the image are left out.

    Raises:
        ModelError: if the sizes differ, or a tensor is missing, unknown or broken.
    """
    vit = read_image_vit(tensors, config, config.depth)
    weight = vit.patch_weight
    tubelet = weight.new_zeros(*weight.shape[:2], config.tubelet, *weight.shape[2:])
    tubelet[:, :, config.tubelet // 2] = weight
    audio = weight if config.audio_channels > 1 else weight.sum(dim=1, keepdim=True)
    embeds = {"vision": tubelet, "audio": audio}
    made: dict[str, Tensor] = {}
    for modality in _modalities(config):
        made[f"embed.{modality}.proj.weight"] = embeds[modality].contiguous()
        made[f"embed.{modality}.proj.bias"] = vit.patch_bias
    return made | _blocks(vit, config)


def _modalities(config: AvmaeConfig | MbtConfig) -> tuple[str, ...]:
    if isinstance(config, MbtConfig) and config.modalities != "both":
        return (config.modalities,)
    return ("audio", "vision")


def _blocks(vit: ImageVit, config: AvmaeConfig | MbtConfig) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}

    def put(place: str, first: int, last: int) -> None:
        for number in range(first, last):
            block = vit.block(number, norms=("",))
            made.update({f"{place}.{number - first}.{name}": x for name, x in block.items()})

    if isinstance(config, MbtConfig):
        for modality in _modalities(config):
            put(f"blocks.{modality}", 0, config.depth)
        return made | vit.norm("norm")
    joint = {"early": config.depth, "shared": config.depth, "separate": 0}
    split = config.depth - joint.get(config.fusion, config.joint_layers)
    stacks = {"own.audio": (0, split), "own.vision": (0, split)} if split else {}
    if split < config.depth:
        stacks["joint"] = (split, config.depth)
    for place, (first, last) in stacks.items():
        put(f"{place}.blocks", first, last)
        made |= vit.norm(f"{place}.norm")
    return made
