"""Ray: a cluster of any size runs what `zoo.training` describes. No tensor maths."""

from __future__ import annotations

import zoo
from orchestration.cli import train


@zoo.hookimpl
def register_commands() -> list[zoo.CommandSpec]:
    """Register ``zoo train``."""
    return [zoo.CommandSpec(name="train", function=train)]
