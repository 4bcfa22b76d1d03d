"""CAV-MAE (arXiv 2210.07839): both modalities by themselves, then together."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import zoo
from plugins.cavmae import weights
from plugins.cavmae.config import CavMaeConfig
from zoo.checkpoints.names import IMAGE_VIT, is_image_vit
from zoo.contracts.finetuning import AS2M, AS20K, VGGSOUND, fine_tuning
from zoo.contracts.patch_config import WHOLE_CLIP

if TYPE_CHECKING:
    from torch import Tensor

    from plugins.cavmae.layout import Kind
    from zoo.models.config import ModelConfig
    from zoo.models.model import Model

_tuned = partial(fine_tuning, decay=0.5, settings={"head.pool": "tokens", "head.norm": "layer"})
_often = partial(_tuned, batch=48, epochs=10, decay_from=2, balanced=True)
RECIPES = {
    "as20k": _tuned(
        AS20K,
        lr=5e-5,
        rates={"head": 100},
        batch=36,
        epochs=15,
        decay_from=5,
        balanced=False,
        average_from=3,
    ),
    "as2m": _often(AS2M, lr=1e-5, rates={"head": 50}, average_from=1),
    "vggsound": _often(VGGSOUND, lr=1e-4, rates={"head": 10}, average_from=3),
}


def _build(config: CavMaeConfig) -> "zoo.Encoder":
    from plugins.cavmae.model import CavMae

    return CavMae(config)


@zoo.hookimpl
def register_encoders() -> list[zoo.EncoderSpec]:
    """Register ``cavmae``."""
    return [
        zoo.EncoderSpec(
            name="cavmae",
            summary="CAV-MAE: a transformer for each modality and a shared one on top",
            config_class=CavMaeConfig,
            build=_build,
            presets={
                "paper": CavMaeConfig(),
                "tiny": CavMaeConfig(
                    width=64,
                    heads=2,
                    depth=2,
                    audio_s=0.64,
                    vision_frontend=zoo.Frames(fps=12.5, size=48, short_side=56),
                    vision_s=0.64,
                    audio_change_gain=1.5,
                    vision_change_gain=6.4,
                ),
            },
            stage2={"tiny": {"batch": 16}},  # every step encodes its samples
            objective="cavmae",
            layouts={"paper": WHOLE_CLIP},
            recipes=RECIPES,
            formats=(
                zoo.InitialWeights(name=IMAGE_VIT, recognises=is_image_vit, read=weights.read),
            ),
            search={"depth": zoo.Range(low=1, high=12)},
            source="arXiv:2210.07839",
            license="MIT",
        )
    ]


_SHARED = "blocks_u.0.norm1_a.weight"


def _is_pretrained(found: Collection[str]) -> bool:
    return _SHARED in found and "decoder_pred_a.weight" in found


def _is_finetuned(found: Collection[str]) -> bool:
    return _SHARED in found and "mlp_head.1.weight" in found


def _read(kind: "Kind", tensors: "Mapping[str, Tensor]") -> "tuple[ModelConfig, dict[str, Tensor]]":
    from plugins.cavmae.layout import read

    return read(kind, tensors)


def _write(kind: "Kind", model: "Model") -> dict[str, Any]:
    from plugins.cavmae.layout import write

    return write(kind, model)


@zoo.hookimpl
def register_formats() -> list[zoo.FormatSpec]:
    """Register ``cavmae`` and ``cavmae-finetuned``."""
    source = "arXiv:2210.07839; github.com/YuanGongND/cav-mae"
    return [
        zoo.FormatSpec(
            name="cavmae",
            summary="CAV-MAE after pre-training: encoder and decoder",
            recognises=_is_pretrained,
            read=partial(_read, "pretrained"),
            write=partial(_write, "pretrained"),
            task=None,
            source=source,
            license="code BSD-2-Clause; not stated for the weights",
        ),
        zoo.FormatSpec(
            name="cavmae-finetuned",
            summary="CAV-MAE fine-tuned for AudioSet or VGGSound",
            recognises=_is_finetuned,
            read=partial(_read, "finetuned"),
            write=partial(_write, "finetuned"),
            task="classification",
            source=source,
            license="code BSD-2-Clause; not stated for the weights",
        ),
    ]
