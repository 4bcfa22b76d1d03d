"""Random weights in the layouts in which they are published: of extractors, and of small models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from plugins.ast.config import AstConfig
from plugins.ast.model import Ast
from plugins.avsiam import layout as avsiam_layout
from plugins.avsiam.config import AvsiamConfig
from plugins.cavmae import layout as cavmae_layout
from plugins.cavmae.config import CavMaeConfig
from plugins.motionformer.config import MotionformerConfig
from plugins.motionformer.model import Motionformer
from zoo.checkpoints.tensors import to_published
from zoo.models.model import LEFTOVER, OBJECTIVE, Model
from zoo.registry.manager import registry

(HUGGING_FACE,) = registry().extractor("ast").formats
(MODEL_STATE,) = registry().extractor("motionformer").formats
POSITIONS = "embeddings.position_embeddings"


def published_ast(config: AstConfig, rows: int = 1214, prefix: str = "") -> dict[str, Tensor]:
    """Return weights as Hugging Face names them, for clips of 10 s."""
    torch.manual_seed(1)
    made = to_published(Ast(config).state_dict(), HUGGING_FACE.names)
    made[POSITIONS] = torch.randn(1, rows, config.dim)
    made = {prefix + name: tensor for name, tensor in made.items()}
    if prefix:
        made |= {"classifier.layernorm.weight": torch.ones(config.dim)}
        made |= {"classifier.dense.weight": torch.randn(527, config.dim)}
    return made


def published_motionformer(config: MotionformerConfig) -> dict[str, Tensor]:
    """Return a ``model_state``: with the dead patch embedding, pre-logits and a classifier."""
    torch.manual_seed(2)
    full = config.model_copy(update={"dead_patch_embed": True})
    made = to_published(Motionformer(full).state_dict(), MODEL_STATE.names)
    linear = torch.randn(config.dim, config.dim)
    return made | {"pre_logits.fc.weight": linear, "head.weight": linear, "head.bias": linear[0]}


DECODER = {"decoder_width": 64, "decoder_depth": 1, "decoder_heads": 2}
_FRAMES = CavMaeConfig().vision_frontend.model_copy(update={"size": 48, "short_side": 48})
_SMALL: dict[str, Any] = {"width": 128, "heads": 2, "audio_s": 0.64, "vision_frontend": _FRAMES}


def published_cavmae(kind: cavmae_layout.Kind, num_classes: int = 5) -> dict[str, Tensor]:
    """Return a small CAV-MAE, as its authors save it."""
    torch.manual_seed(3)
    small = CavMaeConfig(**_SMALL, depth=1)
    model = Model(cavmae_layout.build_config(kind, small, decoder=DECODER, num_classes=num_classes))
    if kind == "pretrained":
        objective = model.objective
        assert objective is not None
        model.beside[OBJECTIVE] = objective.state_dict
    return cavmae_layout.write(kind, model)


def published_avsiam() -> dict[str, Tensor]:
    """Return a small AVSiam, as its authors save it; set ``IMAGENET_CLASSES`` to few before."""
    torch.manual_seed(4)
    model = Model(avsiam_layout.build_config(AvsiamConfig(**_SMALL, depth=1), DECODER))
    objective = model.objective
    assert objective is not None
    shapes = avsiam_layout._unused(model.config)
    leftover = {name: torch.randn(shape) for name, shape in shapes.items()}
    model.beside = {OBJECTIVE: objective.state_dict, LEFTOVER: lambda: leftover}
    return avsiam_layout.write(model)
