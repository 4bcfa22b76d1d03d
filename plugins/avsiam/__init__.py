"""AVSiam (arXiv 2403.19638): one transformer for both modalities, and joint layers on top."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zoo
from plugins.avsiam import weights
from plugins.avsiam.config import AvsiamConfig
from zoo.checkpoints.names import IMAGE_VIT, is_image_vit
from zoo.contracts.finetuning import AS2M, AS20K, VGGSOUND, fine_tuning
from zoo.contracts.patch_config import WHOLE_CLIP

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.models.config import ModelConfig
    from zoo.models.model import Model


@dataclass(frozen=True)
class _Size:
    """Rows of the supplement's table: AudioSet-20K, AudioSet-2M, VGGSound."""

    lr: tuple[float, float, float]
    head: tuple[int, int, int]
    decay: tuple[float, float, float]
    decay_from: tuple[int, int, int]
    batch: tuple[int, int, int]


_SIZES = {
    "avsiam": _Size(
        (1e-4, 5e-6, 5e-5), (100, 50, 10), (0.75, 0.75, 0.75), (2, 5, 2), (32, 128, 128)
    ),
    "avsiam_large": _Size(
        (5e-5, 5e-6, 5e-6), (100, 50, 50), (0.75, 0.5, 0.5), (2, 2, 2), (32, 128, 128)
    ),
    "avsiam_huge": _Size(
        (1e-5, 5e-6, 5e-6), (100, 50, 50), (0.5, 0.5, 0.5), (5, 2, 2), (32, 32, 32)
    ),
}


def _recipes(size: _Size) -> dict[str, zoo.NamedRecipe]:
    """Return the recipes of a size; the joint blocks learn as fast as the head on AudioSet."""
    recipes = {}
    for number, (name, data) in enumerate(
        (("as20k", AS20K), ("as2m", AS2M), ("vggsound", VGGSOUND))
    ):
        joint = 1 if data is VGGSOUND else size.head[number]
        recipes[name] = fine_tuning(
            data,
            lr=size.lr[number],
            rates={"head": size.head[number], "encoder.joint": joint},
            batch=size.batch[number],
            epochs=15,
            decay=size.decay[number],
            decay_from=size.decay_from[number],
            balanced=data is not AS20K,
            head="linear_each",
            settings={
                "encoder.mode": "both",
                "stage2.mixup_frames": "own",
                "task.averaged": "sigmoid",
            },
        )
    return recipes


def _build(config: AvsiamConfig) -> "zoo.Encoder":
    from plugins.avsiam.model import Avsiam

    return Avsiam(config)


@zoo.hookimpl
def register_encoders() -> list[zoo.EncoderSpec]:
    """Register ``avsiam``, and its larger sizes."""
    tiny = AvsiamConfig(
        width=64,
        heads=2,
        depth=2,
        joint_depth=1,
        audio_s=0.64,
        vision_frontend=zoo.Frames(fps=12.5, size=48, short_side=56),
        vision_s=0.64,
        audio_change_gain=1.5,
        vision_change_gain=6.4,
    )
    sizes = {
        "avsiam": ("one siamese transformer for both modalities (ViT-B)", AvsiamConfig()),
        "avsiam_large": (
            "one siamese transformer for both modalities (ViT-L)",
            AvsiamConfig(width=1024, heads=16, depth=24),
        ),
        "avsiam_huge": (
            "one siamese transformer for both modalities (ViT-H, patches of 14 pixels)",
            AvsiamConfig(width=1280, heads=16, depth=32, patch=14),
        ),
    }
    return [
        zoo.EncoderSpec(
            name=name,
            summary=summary,
            config_class=AvsiamConfig,
            build=_build,
            presets={"paper": paper, "tiny": tiny},
            objective="avsiam",
            layouts={"paper": WHOLE_CLIP},
            recipes=_recipes(_SIZES[name]),
            formats=(
                zoo.InitialWeights(name=IMAGE_VIT, recognises=is_image_vit, read=weights.read),
            ),
            stage2={"tiny": {"batch": 16}},  # every step encodes its samples
            search={"depth": zoo.Range(low=1, high=12)},
            source="arXiv:2403.19638",
            license="MIT",
        )
        for name, (summary, paper) in sizes.items()
    ]


def _recognises(found: Collection[str]) -> bool:
    return "vit_base.pos_embed_a" in found and "decoder_pred_a.weight" in found


def _read(tensors: "Mapping[str, Tensor]") -> "tuple[ModelConfig, dict[str, Tensor]]":
    from plugins.avsiam.layout import read

    return read(tensors)


def _write(model: "Model") -> dict[str, Any]:
    from plugins.avsiam.layout import write

    return write(model)


@zoo.hookimpl
def register_formats() -> list[zoo.FormatSpec]:
    """Register ``avsiam``."""
    return [
        zoo.FormatSpec(
            name="avsiam",
            summary="AVSiam (Base) after pre-training: encoder and decoder",
            recognises=_recognises,
            read=_read,
            write=_write,
            task=None,
            source="arXiv:2403.19638; github.com/GenjiB/AVSiam",
            license="not stated for the weights",
        )
    ]
