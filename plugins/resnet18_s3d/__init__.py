"""The second extractor pair of Synchformer's paper."""

import zoo


@zoo.hookimpl
def register_encoders() -> list[zoo.EncoderSpec | zoo.PairSpec]:
    """Register ``resnet18_s3d``."""
    return [
        zoo.PairSpec(
            name="resnet18_s3d",
            summary="ResNet-18 for audio, S3D for video: convolutions instead of transformers",
            audio="resnet18",
            vision="s3d",
            source="arXiv:2401.16423, table 4",
        )
    ]
