"""S3D: separable convolutions in space and time (arXiv 1712.04851), one segment at a time."""

import zoo
from plugins.s3d import weights
from plugins.s3d.config import S3dConfig


def _build(config: S3dConfig) -> "zoo.Extractor":
    from plugins.s3d.model import S3d

    return S3d(config)


@zoo.hookimpl
def register_extractors() -> list[zoo.ExtractorSpec]:
    """Register ``s3d``."""
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
            formats=(
                zoo.WeightsFormat(
                    name="s3d-torchvision",
                    recognises=weights.recognises,
                    read=weights.read,
                    names=weights.names,
                ),
            ),
            source="arXiv:1712.04851; as used by arXiv:2401.16423, table 4",
            license="MIT",
        )
    ]
