"""Motionformer with divided space-time attention (arXiv 2106.05392), one segment at a time."""

import zoo
from plugins.motionformer import weights
from plugins.motionformer.config import MotionformerConfig


def _build(config: MotionformerConfig) -> "zoo.Extractor":
    from plugins.motionformer.model import Motionformer

    return Motionformer(config)


@zoo.hookimpl
def register_extractors() -> list[zoo.ExtractorSpec]:
    """Register ``motionformer``."""
    return [
        zoo.ExtractorSpec(
            name="motionformer",
            modality="vision",
            summary="Motionformer, divided space-time attention over 2x16x16 tubelets",
            config_class=MotionformerConfig,
            build=_build,
            presets={
                "paper": MotionformerConfig(drop_path=0.2, dead_patch_embed=True),
                "tiny": MotionformerConfig(
                    frontend=zoo.Frames(size=48, short_side=56),
                    dim=64,
                    depth=2,
                    heads=2,
                    motion_gain=6.4,
                    position_std=0.3,
                ),
            },
            search={"depth": zoo.Range(low=1, high=12)},
            formats=(
                zoo.WeightsFormat(
                    name="motionformer",
                    recognises=weights.recognises,
                    read=weights.read,
                    names=weights.names,
                ),
            ),
            source="arXiv:2106.05392; as used by arXiv:2401.16423 section 3.1",
            license="MIT",
        )
    ]
