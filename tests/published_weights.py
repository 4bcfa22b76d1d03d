"""Random weights of single extractors, in the layouts in which they are published."""

from __future__ import annotations

import torch
from torch import Tensor

from plugins.ast.config import AstConfig
from plugins.ast.model import Ast
from plugins.motionformer.config import MotionformerConfig
from plugins.motionformer.model import Motionformer
from zoo.checkpoints.tensors import to_published
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
