"""Convolutions over changes of sound and picture: a small pair of extractors."""

import zoo
from plugins.onset_motion.config import MotionCnnConfig, OnsetCnnConfig
from plugins.onset_motion.recipes import RECIPES


def _build_onset(config: OnsetCnnConfig) -> "zoo.Extractor":
    from plugins.onset_motion.model import OnsetCnn

    return OnsetCnn(config)


def _build_motion(config: MotionCnnConfig) -> "zoo.Extractor":
    from plugins.onset_motion.model import MotionCnn

    return MotionCnn(config)


@zoo.hookimpl
def register_extractors() -> list[zoo.ExtractorSpec]:
    """Register ``onset_cnn`` and ``motion_cnn``."""
    return [
        zoo.ExtractorSpec(
            name="onset_cnn",
            modality="audio",
            summary="convolutions over a log-mel segment and its change, a step per 0.04 s",
            config_class=OnsetCnnConfig,
            build=_build_onset,
            presets={"paper": OnsetCnnConfig(width=48, dim=256), "tiny": OnsetCnnConfig()},
            search={"width": zoo.Choice(values=(8, 16, 32))},
            source="avsync-zoo, plugins/onset_motion/README.md",
            license="MIT",
        ),
        zoo.ExtractorSpec(
            name="motion_cnn",
            modality="vision",
            summary="convolutions over maps of how much moves and where to, a step per frame",
            config_class=MotionCnnConfig,
            build=_build_motion,
            presets={
                "paper": MotionCnnConfig(
                    frontend=zoo.Frames(size=128, short_side=144), width=64, dim=256
                ),
                "tiny": MotionCnnConfig(),
            },
            search={"width": zoo.Choice(values=(16, 24, 48)), "cell": zoo.Choice(values=(4, 8))},
            source="avsync-zoo, plugins/onset_motion/README.md",
            license="MIT",
        ),
    ]


@zoo.hookimpl
def register_encoders() -> list[zoo.EncoderSpec | zoo.PairSpec]:
    """Register ``onset_motion``."""
    return [
        zoo.PairSpec(
            name="onset_motion",
            summary="convolutions over changes of sound and picture, a token per frame",
            audio="onset_cnn",
            vision="motion_cnn",
            end_to_end=True,
            recipes=RECIPES,
            source="avsync-zoo, plugins/onset_motion/README.md",
        )
    ]
