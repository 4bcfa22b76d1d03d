"""Audiovisual MAE (arXiv 2212.05922), and the bottleneck transformer that it fine-tunes."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import zoo
from plugins.avmae.config import LARGE, AvmaeConfig, MbtConfig
from plugins.avmae.recipes import PRETRAINING, of_mbt
from zoo.checkpoints.names import IMAGE_VIT, is_image_vit
from zoo.contracts import Positions
from zoo.timeline import SegmentLayout

if TYPE_CHECKING:
    from torch import Tensor

    from plugins.avmae.layout import Kind
    from zoo.models.config import ModelConfig
    from zoo.models.model import Model

WHOLE_CLIP = SegmentLayout(num_segments=1, segment_s=8.0, step_s=8.0)
TINY: dict[str, Any] = {
    "width": 64,
    "heads": 2,
    "depth": 3,
    "audio_s": 0.64,
    "vision_frontend": zoo.Frames(fps=12.5, size=48, short_side=56),
    "vision_s": 0.64,
    "audio_change_gain": 1.0,
    "vision_change_gain": 6.4,
}


def _build(config: AvmaeConfig) -> "zoo.Encoder":
    from plugins.avmae.model import Avmae

    return Avmae(config)


def _build_mbt(config: MbtConfig) -> "zoo.Encoder":
    from plugins.avmae.mbt import Mbt

    return Mbt(config)


def _same(_config: AvmaeConfig | MbtConfig, theirs: Any) -> Any:
    """Take over everything from an encoder of another size."""
    return theirs


def _mbt_from(config: MbtConfig, theirs: AvmaeConfig) -> MbtConfig:
    """Take over sizes and audio front end; more frames of the same time are read, as published."""
    taken = ("width", "heads", "depth", "patch", "tubelet", "audio_frontend", "audio_s", "vision_s")
    gains = ("audio_change_gain", "vision_change_gain")
    size, short_side = theirs.vision_frontend.size, theirs.vision_frontend.short_side
    frames = config.vision_frontend.model_copy(update={"size": size, "short_side": short_side})
    update: dict[str, Any] = {name: getattr(theirs, name) for name in (*taken, *gains)}
    if theirs.depth != config.depth:
        update["fusion_layer"] = 2 * theirs.depth // 3
    return config.model_copy(update={**update, "vision_frontend": frames})


def _read_image_vit(
    tensors: "Mapping[str, Tensor]", config: Any, positions: Positions
) -> "dict[str, Tensor]":
    from plugins.avmae.weights import read

    return read(tensors, config, positions)


IMAGE_MODELS = zoo.InitialWeights(name=IMAGE_VIT, recognises=is_image_vit, read=_read_image_vit)


def _encoder(name: str, summary: str, **given: Any) -> zoo.EncoderSpec:
    return zoo.EncoderSpec(
        name=name,
        summary=summary,
        layouts={"paper": WHOLE_CLIP},
        stage2={"tiny": {"batch": 16}},  # every step encodes its samples
        formats=(IMAGE_MODELS,),
        source="arXiv:2212.05922",
        license="MIT",
        **given,
    )


@zoo.hookimpl
def register_encoders() -> list[zoo.EncoderSpec]:
    """Register ``avmae`` and ``mbt``, each in two sizes."""
    fusions = zoo.Choice(values=("early", "shared", "separate", "mid"))
    avmae: dict[str, Any] = {
        "config_class": AvmaeConfig,
        "build": _build,
        "objective": "avmae",
        "starts_from": {"avmae": _same, "avmae_large": _same},
        "recipes": PRETRAINING,
        "search": {"fusion": fusions},
    }
    mbt: dict[str, Any] = {
        "config_class": MbtConfig,
        "build": _build_mbt,
        "objective": "avmae",
        "starts_from": {
            "avmae": _mbt_from,
            "avmae_large": _mbt_from,
            "mbt": _same,
            "mbt_large": _same,
        },
        "search": {"fusion_layer": zoo.Choice(values=(0, 1, 2, 3))},
    }
    tiny = AvmaeConfig(**TINY, joint_layers=1)
    tiny_mbt = MbtConfig(**TINY, fusion_layer=2)
    large_mbt = MbtConfig(**LARGE, fusion_layer=16)
    return [
        _encoder(
            "avmae",
            "Audiovisual MAE: tubelets and patches, four ways to fuse the modalities (ViT-B)",
            presets={"paper": AvmaeConfig(), "tiny": tiny},
            **avmae,
        ),
        _encoder(
            "avmae_large",
            "Audiovisual MAE (ViT-L)",
            presets={"paper": AvmaeConfig(**LARGE), "tiny": tiny},
            **avmae,
        ),
        _encoder(
            "mbt",
            "bottleneck transformer: modalities that exchange a few tokens (ViT-B)",
            presets={"paper": MbtConfig(), "tiny": tiny_mbt},
            recipes=of_mbt({}),
            **mbt,
        ),
        _encoder(
            "mbt_large",
            "bottleneck transformer (ViT-L)",
            presets={"paper": large_mbt, "tiny": tiny_mbt},
            recipes=of_mbt({"encoder.fusion_layer": 18}),
            **mbt,
        ),
    ]


def _is_pretrained(found: Collection[str]) -> bool:
    return {"embedding_rgb/kernel", "decoder_projection_rgb/kernel"} <= set(found)


def _is_finetuned(found: Collection[str]) -> bool:
    names = {"bottleneck", "ProjectionHeadAndClassifier_0/output_projection/kernel"}
    return names <= set(found)


def _read(kind: "Kind", tensors: "Mapping[str, Tensor]") -> "tuple[ModelConfig, dict[str, Tensor]]":
    from plugins.avmae.layout import read

    return read(kind, tensors)


def _write(kind: "Kind", model: "Model") -> dict[str, Any]:
    from plugins.avmae.layout import write

    return write(kind, model)


@zoo.hookimpl
def register_formats() -> list[zoo.FormatSpec]:
    """Register ``avmae`` and ``mbt``."""
    common: dict[str, Any] = {
        "container": "flax",
        "caution": "how the authors made their spectrograms is not published; audio is read by "
        "the front end of this project, and answers from it are not those of the authors' model",
        "source": "arXiv:2212.05922; github.com/google-research/scenic, projects/av_mae",
        "license": "code Apache-2.0; not stated for the weights",
    }
    return [
        zoo.FormatSpec(
            name="avmae",
            summary="Audiovisual MAE after pre-training: encoder and decoder",
            recognises=_is_pretrained,
            read=partial(_read, "pretrained"),
            write=partial(_write, "pretrained"),
            task=None,
            **common,
        ),
        zoo.FormatSpec(
            name="mbt",
            summary="MBT fine-tuned from Audiovisual MAE for AudioSet or VGGSound",
            recognises=_is_finetuned,
            read=partial(_read, "finetuned"),
            write=partial(_write, "finetuned"),
            task="classification",
            **common,
        ),
    ]
