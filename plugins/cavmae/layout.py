"""CAV-MAE's checkpoints read and written: sizes from the shapes, everything else as published."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from plugins.cavmae.config import CavMaeConfig
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

Kind = Literal["pretrained", "finetuned"]
RULES: Rules = (
    (r"encoder\.(.+)", (r"\1",)),
    (r"objective\.decoder\.(.+)", (r"\1",)),
    (r"head\.norm\.(.+)", (r"mlp_head.0.\1",)),
    (r"head\.classifier\.(.+)", (r"mlp_head.1.\1",)),
)
NAMES: Names = partial(rename, rules=RULES)


def read(kind: Kind, tensors: Mapping[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the config and our state dict of one of CAV-MAE's models.

    Raises:
        ModelError: if a tensor is missing, unknown, broken or of another shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    configs = [partial(_told, kind, shapes), partial(build_config, kind)]
    return read_best_fit(
        tensors,
        configs,
        NAMES,
        with_objective=kind == "pretrained",
        leftover=partial(_idle_norms, kind),
    )


def _idle_norms(kind: Kind, config: ModelConfig) -> Shapes:
    """Return the norms of their blocks that no pass uses: every block has three pairs."""
    encoder = config.encoder_config()
    assert isinstance(encoder, CavMaeConfig)
    stacks = {
        "blocks_a": (encoder.depth, encoder.width),
        "blocks_v": (encoder.depth, encoder.width),
    }
    if kind == "pretrained":
        assert config.objective is not None
        decoder = config.objective.parse(registry().objective(config.objective.name))
        stacks["decoder_blocks"] = (decoder.decoder_depth, decoder.decoder_width)
    return {
        f"{stack}.{number}.{norm}_{stream}.{kind}": (width,)
        for stack, (depth, width) in stacks.items()
        for number in range(depth)
        for norm in ("norm1", "norm2")
        for stream in ("a", "v")
        for kind in ("weight", "bias")
    }


def _told(kind: Kind, shapes: Shapes) -> ModelConfig:
    """Return the config that the shapes of tensors tell."""
    try:
        encoder = told_encoder(
            CavMaeConfig(),
            shapes["patch_embed_a.proj.weight"],
            shapes["pos_embed_a"][1],
            shapes["pos_embed_v"][1],
            depth=count_blocks(shapes, "blocks_a."),
            shared_depth=count_blocks(shapes, "blocks_u."),
        )
        if kind == "finetuned":
            return build_config(kind, encoder, num_classes=shapes["mlp_head.1.weight"][0])
        return build_config(kind, encoder, decoder=told_decoder(shapes))
    except (KeyError, IndexError, ValueError, ArithmeticError) as error:
        raise ModelError(
            f"a tensor that tells the sizes is missing or misshapen: {error}"
        ) from None


def build_config(
    kind: Kind,
    encoder: CavMaeConfig | None = None,
    *,
    decoder: Mapping[str, Any] | None = None,
    num_classes: int = 527,
) -> ModelConfig:
    """Return the config of one of CAV-MAE's models, by default of the published sizes."""
    config = (encoder or CavMaeConfig()).model_copy(update={"pool_positions": False})
    task = head = None
    if kind == "finetuned":
        classes = [f"class {number}" for number in range(num_classes)]
        task = Component(
            name="classification", config={"classes": classes, "multi_label": num_classes == 527}
        )
        head = Component(name="linear", config={"pool": "tokens", "norm": "layer"})
    return ModelConfig(
        encoder=Component(name="cavmae", config=config.model_dump(mode="json")),
        objective=paper_objective("cavmae", decoder) if kind == "pretrained" else None,
        task=task,
        head=head,
        layout=whole_clip(config),
    )


def write(kind: Kind, model: Model) -> dict[str, Any]:
    """Return what CAV-MAE's code loads: tensors by names that begin with ``module.``.

    Raises:
        ModelError: if the model is not one of this kind.
    """
    if kind == "finetuned" and model.head is None:
        raise ModelError("it has no head")
    state = dict(model.state_dict())
    if kind == "pretrained":
        if OBJECTIVE not in model.beside or model.head is not None:
            raise ModelError("it has no trained decoder, or a head")
        own = model.beside[OBJECTIVE]()
        state |= {f"{OBJECTIVE}.{name}": tensor for name, tensor in own.items()}
    made = to_published(state, NAMES)
    told = _told(kind, {name: tuple(tensor.shape) for name, tensor in made.items()})
    check_patch_encoder(model.config, told)
    read_leftover = model.beside.get(LEFTOVER)
    if read_leftover is not None:
        made |= read_leftover()
    else:
        for name, shape in _idle_norms(kind, model.config).items():
            made[name] = (torch.ones if name.endswith("weight") else torch.zeros)(shape)
    return {f"{WRAPPER}{name}": tensor for name, tensor in made.items()}
