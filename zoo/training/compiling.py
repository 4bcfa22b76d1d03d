"""torch.compile for the extractors, on request."""

from __future__ import annotations

import os
import shutil

from zoo.errors import TrainingError
from zoo.models.model import Model
from zoo.models.two_tower import TwoTower

COMPILERS = ("g++", "clang++", "c++")


def compile_extractors(model: Model) -> None:
    """Compile both extractors, or the whole encoder, in place.

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
