"""AVSiam's pre-trained checkpoints (Base) read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from plugins.avsiam.config import AvsiamConfig
from zoo.checkpoints.names import Names, Rules, rename
from zoo.checkpoints.tensors import Shapes, to_published
from zoo.checkpoints.whole import check_as_published, count_blocks, count_heads, read_best_fit
from zoo.errors import ModelError
from zoo.models.config import Component, ModelConfig
from zoo.models.model import LEFTOVER, OBJECTIVE, Model
from zoo.registry.manager import registry
from zoo.timeline import SegmentLayout

WRAPPER = "module."  # their code loads into a model that several GPUs share
VIT, ALIAS, SECOND = "vit_base", "my_blocks", "ast_base"
POSITIONS, CLASS_ROW = f"{VIT}.pos_embed", f"{VIT}.pos_embed (class token)"
MEL_BINS, MEL_FRAME_S, IMAGENET_CLASSES = 128, 0.01, 21_843
HEAD_CHANNELS, DECODER_HEAD_CHANNELS = 64, 32  # per attention head
JOINT = 2
RULES: Rules = (
    (r"encoder\.joint\.0\.(.+)", (r"mm_layer_1.\1",)),
    (r"encoder\.joint\.1\.(.+)", (r"mm_layer_2.\1",)),
    (r"encoder\.(.+)", (rf"{VIT}.\1",)),
    (r"objective\.decoder\.(.+)", (r"\1",)),
    (r"objective\.audio_encoder\.(.+)", (rf"{SECOND}.\1",)),
)
# What is done with a model, not what it is.
FREE = (
    *("mode", "pool_positions", "frontend", "short_side", "resize"),
    *("mae_weight", "contrast_weight", "audio_ratio", "vision_ratio", "audio_mask"),
    *("norm_targets", "stop_gradient", "temperature", "symmetric", "contrast_ratios"),
    *("contrast_audio_mask", "valid_clips", "decoder_positions"),
    *("alternating", "audio_encoder"),  # the second transformer is among what is kept, if unused
)
# How the published code trains it.
TRAINED: dict[str, Any] = {
    "norm_targets": False,
    "stop_gradient": False,
    "alternating": True,
    "audio_encoder": "own",
}
NAMES: Names = partial(rename, rules=RULES)
PAIR = ("weight", "bias")


def read(tensors: Mapping[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the config and our state dict of a pre-trained AVSiam.

    Their file holds the shared blocks twice, the classifier of ImageNet, and norms and embeddings
    that no pass uses: all but the second copy is kept beside the weights.  The blocks of the second
    transformer belong to the objective, as the decoder does.

    Raises:
        ModelError: if a tensor is missing, unknown, broken or of another shape.
    """
    found = _without_aliases(tensors)
    if POSITIONS in found:
        table = found[POSITIONS]
        if table.ndim == 3:
            found[POSITIONS], found[CLASS_ROW] = table[:, 1:], table[:, :1]
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    configs: list[Callable[[], ModelConfig]] = [partial(_told, shapes), build_config]
    return read_best_fit(found, configs, NAMES, with_objective=True, leftover=_unused)


def write(model: Model) -> dict[str, Any]:
    """Return what AVSiam's code loads: tensors by names that begin with ``module.``.

    Raises:
        ModelError: if the model did not come from such a file, or was changed since.
    """
    read_leftover, read_objective = (model.beside.get(name) for name in (LEFTOVER, OBJECTIVE))
    if read_leftover is None or read_objective is None or model.head is not None:
        raise ModelError("it was not read from a pre-trained AVSiam, or it has a head")
    own = {f"{OBJECTIVE}.{name}": tensor for name, tensor in read_objective().items()}
    made = to_published({**model.state_dict(), **own}, NAMES)
    told = _told({name: tuple(tensor.shape) for name, tensor in made.items()})
    check_as_published(model.config, told, FREE)
    made |= read_leftover()
    made[POSITIONS] = torch.cat([made.pop(CLASS_ROW), made[POSITIONS]], dim=1)
    blocks = f"{VIT}.blocks."
    aliases = {
        f"{ALIAS}.{name.removeprefix(blocks)}": tensor
        for name, tensor in made.items()
        if name.startswith(blocks)
    }
    return {f"{WRAPPER}{name}": tensor for name, tensor in {**made, **aliases}.items()}


def _without_aliases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the blocks that stand in the file under a second name.

    Raises:
        ModelError: if both differ.
    """
    kept = {name: x for name, x in tensors.items() if not name.startswith(f"{ALIAS}.")}
    for name, tensor in tensors.items():
        if name in kept:
            continue
        twin = f"{VIT}.blocks.{name.removeprefix(f'{ALIAS}.')}"
        if twin not in kept or not torch.equal(kept[twin], tensor):
            raise ModelError(f"the tensor {name!r} is not equal to {twin!r}, which it stands for")
    return kept


def _told(shapes: Shapes) -> ModelConfig:
    """Return the config that the shapes of tensors tell."""
    try:
        width, patch = shapes[POSITIONS][2], shapes[f"{VIT}.patch_embed_a.proj.weight"][2]
        columns = shapes[f"{VIT}.pos_embed_a"][1] // (MEL_BINS // patch)
        size = isqrt(shapes[POSITIONS][1]) * patch
        dim = shapes["decoder_pos_embed_a"][2]
    except (KeyError, IndexError) as error:
        raise ModelError(f"it lacks a tensor that tells the sizes: {error}") from None
    frames = AvsiamConfig().vision_frontend.model_copy(update={"size": size, "short_side": size})
    encoder = AvsiamConfig(
        width=width,
        heads=count_heads(width, HEAD_CHANNELS),
        depth=count_blocks(shapes, f"{VIT}.blocks."),
        patch=patch,
        audio_s=round(columns * patch * MEL_FRAME_S, 6),
        vision_frontend=frames,
    )
    decoder = {
        "decoder_width": dim,
        "decoder_depth": count_blocks(shapes, "decoder_blocks."),
        "decoder_heads": count_heads(dim, DECODER_HEAD_CHANNELS),
    }
    return build_config(encoder, decoder)


def build_config(
    encoder: AvsiamConfig | None = None, decoder: Mapping[str, Any] | None = None
) -> ModelConfig:
    """Return the config of a pre-trained AVSiam, by default of the published sizes."""
    wanted = {"doubled": True, "pool_positions": False, "joint_depth": JOINT}
    config = (encoder or AvsiamConfig()).model_copy(update=wanted)
    objective = registry().objective("avsiam").presets["paper"].model_dump(mode="json")
    return ModelConfig(
        encoder=Component(name="avsiam", config=config.model_dump(mode="json")),
        objective=Component(name="avsiam", config={**objective, **TRAINED, **(decoder or {})}),
        layout=SegmentLayout(num_segments=1, segment_s=config.audio_s, step_s=config.audio_s),
    )


def _unused(config: ModelConfig) -> Shapes:
    """Return the tensors of their file that nothing here needs."""
    encoder = config.encoder_config()
    assert isinstance(encoder, AvsiamConfig)
    assert config.objective is not None
    decoder = config.objective.parse(registry().objective(config.objective.name))
    width, patch = encoder.width, encoder.patch
    (rows, columns), (_, height, side) = encoder.audio_grid, encoder.vision_grid
    patches = {
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "patch_embed_a.proj.weight": (width, 1, patch, patch),
        "patch_embed_a.proj.bias": (width,),
    }
    shapes: dict[str, tuple[int, ...]] = {f"my_{name}": shape for name, shape in patches.items()}
    shapes[CLASS_ROW] = (1, 1, width)
    for vit in (VIT, SECOND):
        shapes[f"{vit}.cls_token"] = (1, 1, width)
        shapes[f"{vit}.head.weight"] = (IMAGENET_CLASSES, width)
        shapes[f"{vit}.head.bias"] = (IMAGENET_CLASSES,)
    shapes |= {f"{SECOND}.{name}": shape for name, shape in patches.items()}
    shapes[f"{SECOND}.pos_embed"] = (1, 1 + height * side, width)
    shapes[f"{SECOND}.pos_embed_a"] = (1, rows * columns, width)
    shapes |= {f"{SECOND}.norm.{kind}": (width,) for kind in PAIR}
    for number in range(encoder.depth):
        shapes |= _norms(f"{VIT}.blocks.{number}", width, ("",))
        shapes |= _norms(f"{SECOND}.blocks.{number}", width, ("_a", "_v"))
    for number in range(1, JOINT + 1):
        shapes |= _norms(f"mm_layer_{number}", width, ("", "_v"))
    for number in range(decoder.decoder_depth):
        shapes |= _norms(f"decoder_blocks.{number}", decoder.decoder_width, ("_a", "_v"))
    return shapes


def _norms(block: str, width: int, streams: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    return {
        f"{block}.norm{number}{stream}.{kind}": (width,)
        for number in (1, 2)
        for stream in streams
        for kind in PAIR
    }
