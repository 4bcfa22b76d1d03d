"""Our own head: learnt weights along the diagonals of the audio-video similarity."""

from pydantic import Field, model_validator

import zoo


class CorrelationConfig(zoo.ComponentConfig):
    """Sizes of the correlation head."""

    width: int = Field(64, gt=0, description="channels the tokens are compared in")
    context: int = Field(
        3, ge=0, description="time steps of a segment that a token sees of its own; 0 is none, odd"
    )
    centred: bool = Field(
        False,
        description="subtract each crop's mean from its projected tokens: what lasts says no time",
    )
    reach_s: float = Field(1.2, gt=0, description="half width of the kernel, seconds")
    knots: int = Field(61, ge=3, description="points of the kernel, linear in between")
    sigma_s: float = Field(0.15, gt=0, description="spread of the Gaussian it starts as, seconds")

    @model_validator(mode="after")
    def _odd_context(self) -> "CorrelationConfig":
        if self.context and self.context % 2 == 0:
            raise ValueError(f"context={self.context} must be odd, or 0")
        return self


def _build(config: CorrelationConfig, head_input: zoo.HeadInput) -> "zoo.Head":
    from plugins.correlation.model import CorrelationHead

    head_input.require_one_position("correlation")
    return CorrelationHead(config, head_input)


def _build_synchronizability(config: CorrelationConfig, head_input: zoo.HeadInput) -> "zoo.Head":
    from plugins.correlation.model import SynchronizabilityHead

    head_input.require_one_position("correlation_trust")
    return SynchronizabilityHead(config, head_input)


PRESETS = {"paper": CorrelationConfig(width=256), "tiny": CorrelationConfig()}
SEARCH: dict[str, zoo.Choice | zoo.Range] = {
    "width": zoo.Choice(values=(32, 64, 128)),
    "sigma_s": zoo.Range(low=0.05, high=0.4),
}


@zoo.hookimpl
def register_heads() -> list[zoo.HeadSpec]:
    """Register ``correlation`` and ``correlation_trust``."""
    return [
        zoo.HeadSpec(
            name="correlation",
            summary="learnt kernel along the diagonals of the token similarity; learns in a minute",
            config_class=CorrelationConfig,
            build=_build,
            presets=PRESETS,
            search=SEARCH,
            tasks=("offset",),
            is_default=True,
            source="avsync-zoo, docs/heads.md",
            license="MIT",
        ),
        zoo.HeadSpec(
            name="correlation_trust",
            tasks=("synchronizability",),
            starts_from=("correlation", "correlation_trust"),
            summary="the same correlation, asked whether it has a peak: (no, yes)",
            config_class=CorrelationConfig,
            build=_build_synchronizability,
            presets=PRESETS,
            search=SEARCH,
            stage2={"tiny": {"steps": 400}},
            source="avsync-zoo, docs/heads.md",
            license="MIT",
        ),
    ]
