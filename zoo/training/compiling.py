"""torch.compile for the extractors, on request."""

from __future__ import annotations

import os
import shutil

import torch

from zoo.errors import TrainingError
from zoo.models.model import Model
from zoo.models.stream_block import StreamBlock
from zoo.models.two_tower import TwoTower

COMPILERS = ("g++", "clang++", "c++")


def compile_extractors(model: Model) -> None:
    """Compile both extractors, or the encoder and its blocks, in place.

    Objectives that hide patches run an encoder step by step, and so only what its blocks are.

    Names of weights stay, so checkpoints do not change.

    Raises:
        TrainingError: if this machine has no C++ compiler, without which nothing can be compiled.
    """
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else list(COMPILERS)
    if not any(shutil.which(name) for name in wanted):
        raise TrainingError(
            f"compile=true needs a C++ compiler, and this machine has none ({', '.join(wanted)}): "
            "install one, or leave compile out"
        )
    encoder = model.encoder
    if isinstance(encoder, TwoTower):
        encoder.audio.extractor.compile()
        encoder.vision.extractor.compile()
    else:
        encoder.compile()
        for block in encoder.modules():
            if isinstance(block, StreamBlock):
                block.packed = torch.compile(block.packed)  # type: ignore[method-assign]
