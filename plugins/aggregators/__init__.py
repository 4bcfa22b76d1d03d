"""Aggregators: tokens from a feature map, mostly one per time step."""

from pydantic import Field

import zoo
from zoo.errors import ConfigError


class TransformerConfig(zoo.ComponentConfig):
    """One pre-norm encoder layer with a learnable AGG token."""

    heads: int | None = Field(
        None,
        gt=0,
        description="attention heads; a recipe fills in 12 where they divide the width, else at "
        "most 8",
    )


class MeanConfig(zoo.ComponentConfig):
    """The mean over positions has nothing to set."""


class NoneConfig(zoo.ComponentConfig):
    """Handing all positions on has nothing to set."""


def _build_transformer(config: TransformerConfig, feature_map: zoo.FeatureMap) -> "zoo.Aggregator":
    from plugins.aggregators.model import TransformerAggregator

    heads = config.heads or _fit_transformer(config, feature_map).heads
    assert heads is not None
    if feature_map.dim % heads:
        raise ConfigError(
            f"aggregator 'transformer': heads={heads} does not divide the {feature_map.dim} "
            f"channels of the features; {_most_heads(feature_map.dim, heads)} would"
        )
    return TransformerAggregator(feature_map.dim, heads)


def _fit_transformer(config: TransformerConfig, feature_map: zoo.FeatureMap) -> TransformerConfig:
    """Choose the heads as published, 12 for 768 channels, 8 for 512 and for 1,024, or fewer."""
    dim = feature_map.dim
    heads = 12 if config.heads is None and dim % 12 == 0 else _most_heads(dim, config.heads or 8)
    return config.model_copy(update={"heads": heads})


def _most_heads(dim: int, limit: int) -> int:
    return next(heads for heads in range(limit, 0, -1) if dim % heads == 0)


def _build_mean(config: MeanConfig, feature_map: zoo.FeatureMap) -> "zoo.Aggregator":
    from plugins.aggregators.model import MeanAggregator

    return MeanAggregator()


def _build_none(config: NoneConfig, feature_map: zoo.FeatureMap) -> "zoo.Aggregator":
    from plugins.aggregators.model import NoAggregator

    return NoAggregator()


@zoo.hookimpl
def register_aggregators() -> list[zoo.AggregatorSpec]:
    """Register ``transformer``, ``mean`` and ``none``."""
    return [
        zoo.AggregatorSpec(
            name="transformer",
            summary="one encoder layer with a learnable AGG token",
            config_class=TransformerConfig,
            build=_build_transformer,
            fit=_fit_transformer,
            presets={"paper": TransformerConfig(), "tiny": TransformerConfig(heads=2)},
            is_default=True,
            search={"heads": zoo.Choice(values=(1, 2, 4))},
            source="arXiv:2401.16423 section 3.1",
            license="MIT",
        ),
        zoo.AggregatorSpec(
            name="mean",
            summary="mean over positions, no weights",
            config_class=MeanConfig,
            build=_build_mean,
            presets={"paper": MeanConfig(), "tiny": MeanConfig()},
            source="arXiv:2401.16423 section 3.1",
            license="MIT",
        ),
        zoo.AggregatorSpec(
            name="none",
            summary="every position stays a token of its own, no weights",
            config_class=NoneConfig,
            build=_build_none,
            positions=lambda _config, feature_map: feature_map.positions,
            presets={"paper": NoneConfig(), "tiny": NoneConfig()},
            source="arXiv:2210.07055",
            license="MIT",
        ),
    ]
