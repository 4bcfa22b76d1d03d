"""What a model costs per clip: segments, tokens, floating-point operations.

Counted on torch's meta device, where nothing is computed: it takes a second, whatever the size.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from pydantic import Field
from torch.utils.flop_counter import FlopCounterMode

from zoo.contracts import ComponentConfig
from zoo.models.config import ModelConfig
from zoo.models.model import Model, count_parameters
from zoo.models.segments import Segments
from zoo.models.without_values import without_values
from zoo.registry.manager import Registry, registry

REMEMBERED = 256  # models whose cost is known


class ModelCost(ComponentConfig):
    """What one crop of one clip costs; a multiply-add is two operations."""

    segments: int = Field(description="S, segments of either modality")
    tokens: int = Field(description="tokens of both modalities that reach the head")
    extractor_flops: int = Field(description="operations of the encoder, forward")
    head_flops: int = Field(description="operations of the head, forward")
    parameters: int = Field(description="of the whole model")
    covered_s: float = Field(description="length of the crop, seconds")

    @property
    def flops(self) -> int:
        """Operations of a prediction."""
        return self.extractor_flops + self.head_flops


def model_cost(config: ModelConfig) -> ModelCost:
    """Count what a prediction for one crop takes.

    Matrix products and convolutions are counted.

    Raises:
        NotImplementedError: or RuntimeError, if a component looks at the values of its input: there
            are none on the meta device.
    """
    return _cost_of(config.model_dump_json(), registry())


@lru_cache(maxsize=REMEMBERED)
def _cost_of(model_json: str, _registry: Registry) -> ModelCost:
    """Count once what the points of a search have in common."""
    config = ModelConfig.model_validate_json(model_json)
    with without_values():
        model = Model(config).eval()
        num = config.layout.num_segments
        parts = (model.io.audio, model.io.vision)
        segments = Segments(*(torch.empty(1, num, *part.segment_shape) for part in parts))
        with FlopCounterMode(display=False) as encoder:
            tokens = model.encoder(segments)
        with FlopCounterMode(display=False) as head:
            if model.head is not None:
                model.head(*tokens)
    return ModelCost(
        segments=num,
        tokens=sum(part.flat.shape[1] for part in tokens),
        extractor_flops=encoder.get_total_flops(),
        head_flops=head.get_total_flops(),
        parameters=count_parameters(model),
        covered_s=config.layout.covered_s,
    )
