"""Layouts of encoders of patches: what the shapes of tensors tell, and what may differ."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any, TypeVar

from zoo.checkpoints.tensors import Shapes
from zoo.checkpoints.whole import check_as_published, count_blocks, count_heads
from zoo.contracts import PatchEncoderConfig
from zoo.errors import ModelError
from zoo.models.config import Component, ModelConfig
from zoo.registry.manager import registry
from zoo.timeline import SegmentLayout

WRAPPER = "module."  # their code loads into a model that several GPUs share
HEAD_CHANNELS, DECODER_HEAD_CHANNELS = 64, 32  # per attention head
# What is done with a model, not what it is.
FREE = (
    *("mode", "pool_positions", "streams", "short_side", "resize"),
    *("classes", "shares", "multi_label", "loss", "averaged"),
)
C = TypeVar("C", bound=PatchEncoderConfig)


def told_encoder(
    usual: C, patch_weight: tuple[int, ...], num_audio: int, num_vision: int, **given: Any
) -> C:
    """Return the config of an encoder of 10 s of audio and one frame that the shapes tell.

    Args:
        usual: config of the published sizes.
        patch_weight: shape (D, C, patch, patch) of a patch embedding.
        num_audio: positions of audio.
        num_vision: positions of the frame.
        given: what else is told, such as the depth.
    """
    width, _, patch, _ = patch_weight
    audio, size = usual.audio_frontend, isqrt(num_vision) * patch
    columns = num_audio // (audio.num_bins // patch)
    frames = usual.vision_frontend.model_copy(update={"size": size, "short_side": size})
    told = {
        "width": width,
        "heads": count_heads(width, HEAD_CHANNELS),
        "patch": patch,
        "audio_s": round(columns * patch * audio.hop_s, 6),
        "vision_frontend": frames,
    }
    settings = usual.model_dump(exclude={*told, *given})
    return type(usual)(**settings, **told, **given)


def told_decoder(shapes: Shapes) -> dict[str, int]:
    """Return the sizes of the decoder of an objective."""
    width = shapes["decoder_pos_embed_a"][2]
    return {
        "decoder_width": width,
        "decoder_depth": count_blocks(shapes, "decoder_blocks."),
        "decoder_heads": count_heads(width, DECODER_HEAD_CHANNELS),
    }


def paper_objective(name: str, decoder: Mapping[str, Any] | None) -> Component:
    """Return an objective as published, with a decoder of other sizes if they are given."""
    settings = registry().objective(name).presets["paper"].model_dump(mode="json")
    return Component(name=name, config={**settings, **(decoder or {})})


def whole_clip(encoder: PatchEncoderConfig) -> SegmentLayout:
    """Return the layout of clips that are one segment."""
    return SegmentLayout(num_segments=1, segment_s=encoder.audio_s, step_s=encoder.audio_s)


def check_patch_encoder(config: ModelConfig, published: ModelConfig) -> None:
    """Check that the code of its authors would compute the same with a model's weights.

    What the objective does is about training only; its decoder is not, and all but the number of
    attention heads is told by the shapes.

    Raises:
        ModelError: naming the first thing that differs.
    """
    if config.head is None:  # what stage II would be about
        config = config.model_copy(update={"task": None})
    check_as_published(config, published, (*FREE, "objective"))
    ours, theirs = (
        None if c.objective is None else c.objective.config.get("decoder_heads")
        for c in (config, published)
    )
    if published.objective is not None and ours != theirs:
        raise ModelError(f"its 'objective.decoder_heads' is {ours!r}, not {theirs!r}")
