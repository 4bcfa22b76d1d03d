"""Ray: a cluster of any size runs what `zoo.training` describes. No tensor maths."""

from __future__ import annotations

import zoo
from orchestration.train_command import train
from orchestration.tune.tune_command import tune as run_tune
from zoo.experiments.ablate_command import ablate


@zoo.hookimpl
def register_commands() -> list[zoo.CommandSpec]:
    """Register ``zoo train``, ``zoo ablate`` and ``zoo tune``."""
    return [
        zoo.CommandSpec(name="train", function=train),
        zoo.CommandSpec(name="ablate", function=ablate),
        zoo.CommandSpec(name="tune", function=run_tune),
    ]
