"""ResNet-18 over spectrograms (arXiv 1512.03385), one segment at a time."""

import zoo
from plugins.resnet18.config import ResNet18Config


def _build(config: ResNet18Config) -> "zoo.Extractor":
    from plugins.resnet18.model import ResNet18

    return ResNet18(config)


@zoo.hookimpl
def register_extractors() -> list[zoo.ExtractorSpec]:
    """Register ``resnet18`` and ``resnet18_spectrogram``."""
    return [
        zoo.ExtractorSpec(
            name="resnet18",
            modality="audio",
            summary="ResNet-18 over log-mel segments, one input channel",
            config_class=ResNet18Config,
            build=_build,
            presets={
                "paper": ResNet18Config(),
                "tiny": ResNet18Config(width=16, change_gain=3.0),
            },
            search={"width": zoo.Choice(values=(16, 32, 64))},
            source="arXiv:1512.03385; as used by arXiv:2401.16423, table 4",
            license="MIT",
        ),
        zoo.ExtractorSpec(
            name="resnet18_spectrogram",
            modality="audio",
            summary="ResNet-18 over the spectrogram of a whole crop of 5 s",
            config_class=ResNet18Config,
            build=_build,
            presets={
                "paper": ResNet18Config(segment_s=5.0, frontend=zoo.Spectrogram()),
                "tiny": ResNet18Config(segment_s=5.0, frontend=zoo.Spectrogram(), width=16),
            },
            search={"width": zoo.Choice(values=(16, 32, 64))},
            source="arXiv:1512.03385; as used by arXiv:2210.07055",
            license="MIT",
        ),
    ]
