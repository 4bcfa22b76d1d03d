"""The paper's heads: a small transformer over the tokens of all segments."""

from typing import Literal

from pydantic import Field, model_validator

import zoo


class SyncConfig(zoo.ComponentConfig):
    """Sizes of the transformer; the defaults are the published ones."""

    dim: int = Field(768, gt=0, description="width")
    depth: int = Field(3, gt=0, description="blocks")
    heads: int = Field(8, gt=0, description="attention heads")
    dropout: float = Field(0.1, ge=0, lt=1, description="embedding, attention and residual dropout")
    pool: Literal["none", "mean"] = Field(
        "none", description="'mean' makes one token of all tokens of a segment"
    )
    position_init: Literal["normal", "sincos"] = Field(
        "normal", description="'sincos' starts tokens of the same time with the same position"
    )

    @model_validator(mode="after")
    def _whole_heads(self) -> "SyncConfig":
        if self.dim % self.heads:
            raise ValueError(f"heads={self.heads} does not divide dim={self.dim}")
        if self.position_init == "sincos" and self.dim % 2:
            raise ValueError(f"dim={self.dim} must be even for position_init=sincos")
        return self


PRESETS = {
    "paper": SyncConfig(),
    "tiny": SyncConfig(dim=64, heads=2, dropout=0.0, pool="mean", position_init="sincos"),
}
SEARCH: dict[str, zoo.Choice | zoo.Range] = {
    "depth": zoo.Range(low=1, high=6),
    "dropout": zoo.Choice(values=(0.0, 0.1, 0.2)),
    "pool": zoo.Choice(values=("none", "mean")),
}


def _build(config: SyncConfig, head_input: zoo.HeadInput) -> "zoo.Head":
    from plugins.sync.model import SyncHead

    head_input.require_one_position("sync")
    return SyncHead(config, head_input)


@zoo.hookimpl
def register_heads() -> list[zoo.HeadSpec]:
    """Register ``sync`` and ``synchronizability``."""
    return [
        zoo.HeadSpec(
            name="sync",
            summary="the paper's transformer over OFF, video, MOD, audio tokens",
            config_class=SyncConfig,
            build=_build,
            presets=PRESETS,
            search=SEARCH,
            tasks=("offset",),
            stage2={"tiny": {"steps": 4800, "soft_sigma": 5.0, "soft_until": 0.4}},
            source="arXiv:2401.16423 section 3.3",
            license="MIT",
        ),
        zoo.HeadSpec(
            name="synchronizability",
            tasks=("synchronizability",),
            starts_from=("sync", "synchronizability"),
            summary="the same transformer, asked whether there is an offset to find: (no, yes)",
            config_class=SyncConfig,
            build=_build,
            presets=PRESETS,
            search=SEARCH,
            stage2={"tiny": {"steps": 1200}},
            source="arXiv:2401.16423 section 4.2",
            license="MIT",
        ),
    ]
