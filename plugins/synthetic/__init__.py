"""Synthetic clips: rendered scenes whose sounds and impacts share one clock."""

from __future__ import annotations

import zoo
from plugins.synthetic.command import synth
from plugins.synthetic.config import SyntheticConfig


def build(config: SyntheticConfig) -> zoo.DatasetAdapter:
    """Return the adapter that reads a rendered folder."""
    from plugins.synthetic.clip_folder import SyntheticFolder

    return SyntheticFolder()


@zoo.hookimpl
def register_datasets() -> list[zoo.DatasetSpec]:
    """Register the folder of rendered clips as a data set."""
    spec = zoo.DatasetSpec(
        name="synthetic",
        summary="rendered clips (zoo data synth): impacts, babble or classes, with known events",
        config_class=SyntheticConfig,
        build=build,
        presets={"paper": SyntheticConfig(size=256), "tiny": SyntheticConfig()},
        source="avsync-zoo",
        license="MIT",
    )
    return [spec]


@zoo.hookimpl
def register_commands() -> list[zoo.CommandSpec]:
    """Register ``zoo data synth``."""
    return [zoo.CommandSpec(name="synth", function=synth, group="data")]
