"""The extractor pair of Synchformer."""

import zoo
from plugins.ast_motionformer.recipes import RECIPES


@zoo.hookimpl
def register_encoders() -> list[zoo.EncoderSpec | zoo.PairSpec]:
    """Register ``ast_motionformer``."""
    return [
        zoo.PairSpec(
            name="ast_motionformer",
            summary="AST for audio, Motionformer for video: Synchformer's own pair",
            audio="ast",
            vision="motionformer",
            recipes=RECIPES,
            source="arXiv:2401.16423 section 3.1",
        )
    ]
