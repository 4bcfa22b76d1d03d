"""Audio Spectrogram Transformer (arXiv 2104.01778), run on one segment at a time."""

import zoo
from plugins.ast import weights
from plugins.ast.config import AstConfig


def _build(config: AstConfig) -> "zoo.Extractor":
    from plugins.ast.model import Ast

    return Ast(config)


@zoo.hookimpl
def register_extractors() -> list[zoo.ExtractorSpec]:
    """Register ``ast``."""
    return [
        zoo.ExtractorSpec(
            name="ast",
            modality="audio",
            summary="Audio Spectrogram Transformer over log-mel segments",
            config_class=AstConfig,
            build=_build,
            presets={
                "paper": AstConfig(),
                "tiny": AstConfig(
                    dim=64, depth=2, heads=2, stride=(16, 10), change_gain=3.0, norm_eps=1e-6
                ),
            },
            search={"depth": zoo.Range(low=1, high=12)},
            formats=(
                zoo.WeightsFormat(
                    name="huggingface-ast",
                    recognises=weights.recognises,
                    read=weights.read,
                    names=weights.names,
                ),
            ),
            source="arXiv:2104.01778; as used by arXiv:2401.16423 section 3.1",
            license="MIT",
        )
    ]
