"""The two-tower encoder: any audio extractor beside any video extractor."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from zoo.contracts import Modality
from zoo.errors import ConfigError, PluginError
from zoo.models.config import ModalityConfig, TwoTowerConfig, build_component
from zoo.models.modules import Aggregator, Extractor, ModalityEncoder, SeparableEncoder
from zoo.models.siamese import keep_once, share_blocks
from zoo.registry.manager import registry


class ExtractorEncoder(ModalityEncoder):
    """One modality from segments to tokens: extractor, aggregator, projection."""

    def __init__(self, config: ModalityConfig, modality: Modality) -> None:
        super().__init__()
        extractor_spec = registry().extractor(config.extractor.name)
        if extractor_spec.modality != modality:
            raise ConfigError(
                f"extractor '{extractor_spec.name}' reads {extractor_spec.modality}, not {modality}"
            )
        aggregator_spec = registry().aggregator(config.aggregator.name)
        features, io = config.features(), config.io()
        self.config, self.modality = config, modality
        self.frontend, self.segment_s, self.tokens = io.frontend, io.segment_s, io.tokens
        self.extractor: Extractor = build_component(
            "extractor", extractor_spec, config.extractor_config()
        )
        self.aggregator: Aggregator = build_component(
            "aggregator", aggregator_spec, config.aggregator.parse(aggregator_spec), features
        )
        self.declared = (features.steps, features.positions, features.dim)
        is_projected = config.projection_dim is not None
        self.projection = nn.Linear(features.dim, io.tokens.dim) if is_projected else nn.Identity()

    def forward(self, segments: Tensor) -> Float[Tensor, "N TxP D"]:
        """Encode segments after the front end into tokens: one per time step, or T*P.

        Raises:
            PluginError: if a plugin gives something of another shape than it declares.
        """
        return self.tokens_from(self.extractor(segments))

    def tokens_from(self, features: Float[Tensor, "N T P D"]) -> Float[Tensor, "N TxP W"]:
        """Aggregate what the extractor gives."""
        self._check("extractor", features, self.declared)
        tokens = self.aggregator(features)  # (N, T*P, D), P mostly 1
        dim = self.declared[2]
        self._check("aggregator", tokens, (self.tokens.num_tokens, dim))
        return self.projection(tokens)

    def _check(self, kind: str, given: Tensor, declared: tuple[int, ...]) -> None:
        shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        if shape[1:] != declared:
            name = getattr(self.config, kind).name
            raise PluginError(
                f"{kind} '{name}' declares {('N', *declared)} and gives {shape}; "
                f"see: zoo plugin check {name}"
            )


class TwoTower(SeparableEncoder):
    """A pair of extractors with their aggregators (paper section 3.1)."""

    audio: ExtractorEncoder
    vision: ExtractorEncoder

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        self.audio = ExtractorEncoder(config.audio, "audio")
        self.vision = ExtractorEncoder(config.vision, "vision")
        io = config.io()
        self.audio.tokens, self.vision.tokens = io.audio.tokens, io.vision.tokens
        if config.siamese:
            names = config.audio.extractor.name, config.vision.extractor.name
            shared = share_blocks(self.audio.extractor, self.vision.extractor, names)
            twins = {f"vision.extractor.{v}": f"audio.extractor.{a}" for v, a in shared.items()}
            keep_once(self, twins)

    @property
    def num_layers(self) -> int:
        """L, blocks of the deeper extractor.

        Raises:
            ConfigError: if one of them has no blocks.
        """
        return max(len(self._places(part)) for part in (self.audio, self.vision))

    def layer_of(self, name: str) -> int | None:
        """Return the layer of a parameter; both extractors end with layer L, whatever their depth.

        What an extractor registers before its first block is embedding, the rest comes last.
        """
        modality, _, own = name.partition(".")
        part = self.audio if modality == "audio" else self.vision
        places = self._places(part)
        before = self.num_layers - len(places)
        for number, place in enumerate(places):
            if own.startswith(f"{place}."):
                return before + number + 1
        names = [given for given, _ in part.extractor.named_parameters(prefix="extractor")]
        first = next(i for i, given in enumerate(names) if given.startswith(f"{places[0]}."))
        return before if own in names[:first] else None

    @staticmethod
    def _places(part: ExtractorEncoder) -> list[str]:
        """Return the names of the transformer blocks of an extractor, in order."""
        names = {id(module): n for n, module in part.named_modules()}
        places = [names[id(block)] for block in part.extractor.transformer_blocks()]
        if not places:
            raise ConfigError(
                "layer_decay needs extractors that tell their transformer blocks, and "
                f"'{part.config.extractor.name}' tells none",
                "leave layer_decay out",
            )
        return places
