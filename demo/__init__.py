"""A web page around `zoo`: upload a clip, see the offset, take the repaired file home."""

from __future__ import annotations

import zoo
from demo.cli import demo as run_demo


@zoo.hookimpl
def register_commands() -> list[zoo.CommandSpec]:
    """Register ``zoo demo``."""
    return [zoo.CommandSpec(name="demo", function=run_demo)]
