"""S3D: separable convolutions in space and time (arXiv 1712.04851), one segment at a time."""

import zoo
from plugins.s3d import weights
from plugins.s3d.config import S3dConfig


def _build(config: S3dConfig) -> "zoo.Extractor":
    from plugins.s3d.model import S3d

    return S3d(config)


_FORMATS = (
    zoo.WeightsFormat(
        name="s3d-torchvision",
        recognises=weights.recognises,
        read=weights.read,
        names=weights.names,
    ),
)
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@zoo.hookimpl
def register_extractors() -> list[zoo.ExtractorSpec]:
    """Register ``s3d`` and ``s3d_crop``."""
    return [
        zoo.ExtractorSpec(
            name="s3d",
            modality="vision",
            summary="S3D, inception blocks with convolutions separated in space and time",
            config_class=S3dConfig,
            build=_build,
            presets={
                "paper": S3dConfig(),
                "tiny": S3dConfig(
                    frontend=zoo.Frames(size=64, short_side=64),
                    width=16,
                    norm_momentum=0.1,
                    motion_gain=6.4,
                ),
            },
            search={"width": zoo.Choice(values=(16, 32, 64))},
            formats=_FORMATS,
            source="arXiv:1712.04851; as used by arXiv:2401.16423, table 4",
            license="MIT",
        ),
        zoo.ExtractorSpec(
            name="s3d_crop",
            modality="vision",
            summary="S3D over a whole crop of 5 s, bridged to the width of the audio",
            config_class=S3dConfig,
            build=_build,
            presets={
                "paper": S3dConfig(segment_s=5.0, frontend=zoo.Frames(**_IMAGENET), bridge=512),
                "tiny": S3dConfig(
                    segment_s=5.0,
                    frontend=zoo.Frames(size=64, short_side=64, **_IMAGENET),
                    width=16,
                    bridge=128,
                    norm_momentum=0.1,
                    motion_gain=3.0,
                ),
            },
            search={"width": zoo.Choice(values=(16, 32, 64))},
            formats=_FORMATS,
            source="arXiv:1712.04851; as used by arXiv:2210.07055",
            license="MIT",
        ),
    ]
