"""Names of the published tensors, as PyTorch would write them: dots, ``weight``."""

from __future__ import annotations

import re

from zoo.checkpoints.flax_names import BLOCK_LAYERS
from zoo.checkpoints.names import Names, Rules, rename

MODALITY = {"vision": "rgb", "audio": "spectrogram"}


def _stack(ours: str, theirs: str, suffix: str = "") -> Rules:
    """Return the rules of a stack of blocks; their blocks may end with a suffix."""
    return [
        (
            rf"{ours}\.(\d+)\.{re.escape(layer)}\.(weight|bias)",
            tuple(rf"{theirs}.encoderblock_\1{suffix}.{name}.\2" for name in names),
        )
        for layer, names in BLOCK_LAYERS.items()
    ]


def _normed(ours: str, theirs: str) -> Rules:
    return [
        *_stack(rf"{ours}\.blocks", theirs),
        (rf"{ours}\.norm\.(.+)", (rf"{theirs}.encoder_norm.\1",)),
    ]


def _pretrained(joint: str) -> Names:
    rules: list[tuple[str, tuple[str, ...]]] = list(_normed(r"encoder\.joint", joint))
    decoder = r"objective\.decoder"
    rules += _normed(rf"{decoder}\.stacks\.both", "Decoder")
    for ours, theirs in MODALITY.items():
        rules += [
            (rf"encoder\.embed\.{ours}\.proj\.(.+)", (rf"embedding_{theirs}.\1",)),
            (rf"encoder\.modality_tokens\.{ours}", (f"Encoder_modality_token_{theirs}",)),
            (rf"{decoder}\.embed\.{ours}\.(.+)", (rf"decoder_projection_{theirs}.\1",)),
            (rf"{decoder}\.mask_token\.{ours}", (f"mask_token_{theirs}",)),
            (rf"{decoder}\.modality_tokens\.{ours}", (f"Decoder_modality_token_{theirs}",)),
            (rf"{decoder}\.predict\.{ours}\.(.+)", (rf"output_projection_{theirs}.\1",)),
            *_normed(rf"encoder\.own\.{ours}", f"Transformer_{theirs}"),
            *_normed(rf"{decoder}\.stacks\.{ours}", f"Decoder_{theirs}"),
        ]
    return lambda name: rename(name, rules)


def _mbt() -> Names:
    rules: list[tuple[str, tuple[str, ...]]] = [
        (r"encoder\.bottleneck", ("bottleneck",)),
        (r"encoder\.norm\.(.+)", (r"Transformer.encoder_norm.\1",)),
        (r"head\.classifier\.(.+)", (r"ProjectionHeadAndClassifier_0.output_projection.\1",)),
        (r"encoder\.embed\.vision\.proj\.(.+)", (r"embedding.\1",)),
        (r"encoder\.embed\.audio\.proj\.(.+)", (r"embedding_spectrogram.\1",)),
        *_stack(r"encoder\.blocks\.vision", "Transformer"),
        *_stack(r"encoder\.blocks\.audio", "Transformer", "_spec"),
    ]
    return lambda name: rename(name, rules)


def _one_modality(name: str) -> tuple[str, ...]:
    """Return their names of the tensors of an MBT of one modality: without a suffix."""
    return MBT(name.replace("encoder.blocks.audio.", "encoder.blocks.vision."))


SEPARATE_OR_MID = _pretrained("Transformer_concat")
TOGETHER = _pretrained("Transformer")
MBT = _mbt()
ONE_MODALITY: Names = _one_modality
