"""Published checkpoints of Audiovisual MAE and MBT read and written, by the names of Flax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from plugins.avmae.config import LARGE, AvmaeConfig, MbtConfig
from plugins.avmae.names import MBT, ONE_MODALITY, SEPARATE_OR_MID, TOGETHER
from zoo.checkpoints.flax_names import ATTENTION, from_flax, to_flax
from zoo.checkpoints.names import Names
from zoo.checkpoints.patch_encoders import check_patch_encoder, paper_objective, whole_clip
from zoo.checkpoints.tensors import Shapes, to_published
from zoo.checkpoints.whole import count_blocks, read_best_fit
from zoo.contracts import MelAmplitude
from zoo.errors import ModelError
from zoo.models.config import Component, ModelConfig
from zoo.models.model import LEFTOVER, OBJECTIVE, Model
from zoo.registry.manager import registry

Kind = Literal["pretrained", "finetuned"]
TRANSFORMER, CONCAT, RGB = "Transformer", "Transformer_concat", "Transformer_rgb"
CLASSIFIER, BOTTLENECK = "ProjectionHeadAndClassifier_0.output_projection", "bottleneck"
AUDIO, RENAMED = "embedding_spectrogram", "embedding_spec"
VECTORS = ("mask_token_", "Encoder_modality_token_", "Decoder_modality_token_")  # (1, 1, D)
AUDIOSET_CLASSES, VGGSOUND_CLASSES = 527, 309
# First block that exchanges bottlenecks: which one it is no shape tells.
FUSION_LAYERS = {(24, AUDIOSET_CLASSES): 18, (24, VGGSOUND_CLASSES): 16}
AUDIOSET_SPECTROGRAM = MelAmplitude(mean=1.102, std=2.762)


def read(kind: Kind, tensors: Mapping[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the config and our state dict of a published model.

    Raises:
        ModelError: if a tensor is missing, unknown, broken or of another shape.
    """
    heads = _heads_of(tensors)
    named = {
        name.replace(f"{RENAMED}/", f"{AUDIO}/", 1): tensor for name, tensor in tensors.items()
    }
    theirs = {
        name: x.flatten() if name.startswith(VECTORS) else x for name, x in from_flax(named).items()
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
    try:
        told = _told(kind, shapes, heads)
    except (KeyError, IndexError, ValueError, ArithmeticError) as error:
        raise ModelError(
            f"a tensor that tells the sizes is missing or misshapen: {error}"
        ) from None
    tried: list[dict[str, Any]] = [{}, LARGE]
    configs = [partial(_published, kind, told, sizes) for sizes in tried]
    is_first = kind == "pretrained"
    return read_best_fit(theirs, configs, _names(told), with_objective=is_first, leftover=_idle)


def _published(kind: Kind, told: ModelConfig, sizes: Mapping[str, Any]) -> ModelConfig:
    """Return a config with the published sizes: a wrong shape must not make all seem wrong."""
    if not sizes:
        return told
    if kind == "finetuned":
        sizes = {**sizes, "fusion_layer": FUSION_LAYERS[24, VGGSOUND_CLASSES]}
    settings = told.encoder_config().model_copy(update=sizes)
    encoder = told.encoder.model_copy(update={"config": settings.model_dump(mode="json")})
    return told.model_copy(update={"encoder": encoder})


def write(kind: Kind, model: Model) -> dict[str, Any]:
    """Return tensors by the names of Flax.

    Raises:
        ModelError: if the model is not one of this kind.
    """
    state = dict(model.state_dict())
    if kind == "pretrained":
        if OBJECTIVE not in model.beside or model.head is not None:
            raise ModelError("it has no trained decoder, or a head")
        own = model.beside[OBJECTIVE]()
        state |= {f"{OBJECTIVE}.{name}": tensor for name, tensor in own.items()}
    elif model.head is None:
        raise ModelError("it has no head")
    config = model.config.encoder_config()
    if not isinstance(config, AvmaeConfig if kind == "pretrained" else MbtConfig):
        raise ModelError("its encoder is another one")
    made = to_published(state, _names(model.config))
    heads: dict[str, int] = {"": config.heads}
    if model.config.objective is not None and kind == "pretrained":
        spec = registry().objective(model.config.objective.name)
        heads["Decoder"] = model.config.objective.parse(spec).decoder.heads
    shapes = {name: tuple(tensor.shape) for name, tensor in made.items()}
    told = _told(kind, shapes, heads, like=config)
    check_patch_encoder(model.config, told)
    made |= {name: torch.zeros(shape) for name, shape in _idle(model.config).items()}
    if LEFTOVER in model.beside:
        made |= model.beside[LEFTOVER]()
    return to_flax(
        {n: x.view(1, 1, -1) if n.startswith(VECTORS) else x for n, x in made.items()},
        lambda name: heads["Decoder" if name.startswith("Decoder") else ""],
    )


def _names(config: ModelConfig) -> Names:
    encoder = config.encoder_config()
    if isinstance(encoder, MbtConfig):
        return MBT if encoder.modalities == "both" else ONE_MODALITY
    assert isinstance(encoder, AvmaeConfig)
    return SEPARATE_OR_MID if encoder.fusion in {"separate", "mid"} else TOGETHER


def _heads_of(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the attention heads of encoder and decoder, which only Flax's axes tell."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(f"{ATTENTION}/query/kernel") and tensor.ndim == 3:
            found["Decoder" if name.startswith("Decoder") else ""] = tensor.shape[1]
    return found


def _idle(config: ModelConfig) -> Shapes:
    """Return what their file holds and no pass uses: bottlenecks that nobody exchanges."""
    encoder = config.encoder_config()
    if not isinstance(encoder, MbtConfig):
        return {}
    if encoder.modalities == "both" and encoder.fusion_layer < encoder.depth:
        return {}
    return {BOTTLENECK: (1, encoder.bottlenecks, encoder.width)}


def _told(
    kind: Kind,
    shapes: Shapes,
    heads: Mapping[str, int],
    like: AvmaeConfig | MbtConfig | None = None,
) -> ModelConfig:
    """Return the config that shapes and heads tell; what they do not is as published, or given."""
    make: Callable[..., ModelConfig] = _pretrained if kind == "pretrained" else _finetuned
    return make(shapes, heads, like)


def _sizes(shapes: Shapes, heads: Mapping[str, int]) -> dict[str, Any]:
    audio, vision = (shapes.get(f"{name}.weight") for name in (AUDIO, "embedding_rgb"))
    vision = vision or shapes.get("embedding.weight")
    known = audio or vision
    if known is None:
        raise KeyError(AUDIO)
    sizes: dict[str, Any] = {"width": known[0], "patch": known[-1], "heads": heads.get("", 1)}
    if audio is not None:
        sizes["audio_channels"] = audio[1]
    if vision is not None:
        sizes["tubelet"] = vision[2]
    return sizes


def _pretrained(shapes: Shapes, heads: Mapping[str, int], like: AvmaeConfig | None) -> ModelConfig:
    joint = count_blocks(shapes, f"{CONCAT}.encoderblock_")
    apart = count_blocks(shapes, f"{RGB}.encoderblock_")
    told = _sizes(shapes, heads)
    if joint or apart:
        told |= {"fusion": "mid" if joint else "separate", "depth": joint + apart}
        told |= {"joint_layers": joint} if joint else {}
    else:
        told["depth"] = count_blocks(shapes, f"{TRANSFORMER}.encoderblock_")
        told["fusion"] = like.fusion if like is not None else "early"  # shared has the same names
    told["modality_tokens"] = any(name.startswith(VECTORS[1]) for name in shapes)
    settings = (like or AvmaeConfig()).model_dump(exclude={*told})
    encoder = AvmaeConfig(**settings, **told)
    has_two = "Decoder_rgb.encoder_norm.weight" in shapes
    stack = "Decoder_rgb" if has_two else "Decoder"
    decoder = {
        "decoders": "separate" if has_two else "shared",
        "modality_tokens": any(name.startswith(VECTORS[2]) for name in shapes),
        "decoder": {
            "width": shapes[f"{stack}.encoder_norm.weight"][0],
            "depth": count_blocks(shapes, f"{stack}.encoderblock_"),
            "heads": heads.get("Decoder", 1),
        },
    }
    return ModelConfig(
        encoder=Component(name="avmae", config=encoder.model_dump(mode="json")),
        objective=paper_objective("avmae", decoder),
        layout=whole_clip(encoder),
    )


def _finetuned(shapes: Shapes, heads: Mapping[str, int], like: MbtConfig | None) -> ModelConfig:
    (classes,) = shapes[f"{CLASSIFIER}.bias"]
    depth = count_blocks(shapes, f"{TRANSFORMER}.encoderblock_")
    told = _sizes(shapes, heads)
    has = {"audio": f"{AUDIO}.weight" in shapes, "vision": "embedding.weight" in shapes}
    told["modalities"] = "both" if all(has.values()) else next(m for m in has if has[m])
    if told["modalities"] == "both":
        depth //= 2  # every block stands there twice, one of them with a suffix
    told["depth"] = depth
    if BOTTLENECK in shapes:
        told["bottlenecks"] = shapes[BOTTLENECK][1]
    is_audioset = classes == AUDIOSET_CLASSES
    if like is None:
        told["fusion_layer"] = FUSION_LAYERS.get((depth, classes), 2 * depth // 3)
        if is_audioset:
            told |= {"audio_s": 10.0, "audio_frontend": AUDIOSET_SPECTROGRAM}
    settings = (like or MbtConfig()).model_dump(exclude={*told})
    encoder = MbtConfig(**settings, **told)
    names = [f"class {number}" for number in range(classes)]
    return ModelConfig(
        encoder=Component(name="mbt", config=encoder.model_dump(mode="json")),
        task=Component(
            name="classification", config={"classes": names, "multi_label": is_audioset}
        ),
        head=Component(name="linear_shared", config={"streams": told["modalities"]}),
        layout=whole_clip(encoder),
    )
