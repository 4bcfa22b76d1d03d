"""AVSiam's pre-trained checkpoints (Base) read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from plugins.avsiam.config import AvsiamConfig
from zoo.checkpoints.names import Names, Rules, rename
from zoo.checkpoints.patch_encoders import (
    WRAPPER,
    check_patch_encoder,
    paper_objective,
    told_decoder,
    told_encoder,
    whole_clip,
)
from zoo.checkpoints.tensors import Shapes, to_published
from zoo.checkpoints.whole import count_blocks, read_best_fit
from zoo.errors import ModelError
from zoo.models.config import Component, ModelConfig
from zoo.models.model import LEFTOVER, OBJECTIVE, Model
from zoo.registry.manager import registry

VIT, ALIAS, SECOND = "vit_base", "my_blocks", "ast_base"
POSITIONS, CLASS_ROW = f"{VIT}.pos_embed", f"{VIT}.pos_embed (class token)"
IMAGENET_CLASSES = 21_843
JOINT = 2
RULES: Rules = (
    (r"encoder\.joint\.0\.(.+)", (r"mm_layer_1.\1",)),
    (r"encoder\.joint\.1\.(.+)", (r"mm_layer_2.\1",)),
    (r"encoder\.(.+)", (rf"{VIT}.\1",)),
    (r"objective\.decoder\.(.+)", (r"\1",)),
    (r"objective\.audio_encoder\.(.+)", (rf"{SECOND}.\1",)),
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
    check_patch_encoder(model.config, told)
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
        encoder = told_encoder(
            AvsiamConfig(),
            shapes[f"{VIT}.patch_embed_a.proj.weight"],
            shapes[f"{VIT}.pos_embed_a"][1],
            shapes[POSITIONS][1],
            depth=count_blocks(shapes, f"{VIT}.blocks."),
        )
        return build_config(encoder, told_decoder(shapes))
    except (KeyError, IndexError, ValueError, ArithmeticError) as error:
        raise ModelError(
            f"a tensor that tells the sizes is missing or misshapen: {error}"
        ) from None


def build_config(
    encoder: AvsiamConfig | None = None, decoder: Mapping[str, Any] | None = None
) -> ModelConfig:
    """Return the config of a pre-trained AVSiam, by default of the published sizes."""
    wanted = {"doubled": True, "pool_positions": False, "joint_depth": JOINT}
    config = (encoder or AvsiamConfig()).model_copy(update=wanted)
    return ModelConfig(
        encoder=Component(name="avsiam", config=config.model_dump(mode="json")),
        objective=paper_objective("avsiam", {**TRAINED, **(decoder or {})}),
        layout=whole_clip(config),
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
