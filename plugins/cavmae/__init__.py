"""CAV-MAE (arXiv 2210.07839): both modalities by themselves, then together."""

import zoo
from plugins.cavmae.config import CavMaeConfig
from zoo.timeline import SegmentLayout

WHOLE_CLIP = SegmentLayout(num_segments=1, segment_s=10.24, step_s=10.24)


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
                ),
            },
            objective="cavmae",
            layouts={"paper": WHOLE_CLIP},
            search={"depth": zoo.Range(low=1, high=12)},
            source="arXiv:2210.07839",
            license="MIT",
        )
    ]
