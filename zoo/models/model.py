"""The assembled model: an encoder of both modalities, and a head for a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.contracts import (
    AudioFrontend,
    EncoderIO,
    Frames,
    HeadInput,
    PairSpec,
    Precision,
)
from zoo.errors import ConfigError, PluginError, option
from zoo.models.calibration import Calibration, Familiarity
from zoo.models.config import Component, ModelConfig, TwoTowerConfig, build_component
from zoo.models.modules import Encoder, Head, Objective, SeparableEncoder
from zoo.models.segments import Segments, Tokens
from zoo.models.two_tower import TwoTower
from zoo.registry.manager import registry
from zoo.timeline import LATTICE_TOLERANCE, OffsetGrid, SegmentLayout, SlotGrid

if TYPE_CHECKING:
    from zoo.models.task import Task


OBJECTIVE, LEFTOVER, FAMILIAR = "objective", "leftover", "familiar"


class Model(nn.Module):
    """An encoder and a head: segments of a clip in, the outputs of a task out (paper section 3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config)
        self.io = self.encoder.io
        _check_lengths(self.io, config)
        self.task: Task | None = None if config.task is None else build_task(config.task)
        self.head: Head | None = None
        if config.head is not None:
            if self.task is None:
                raise ConfigError(f"the head '{config.head.name}' needs a task")
            self.head = build_head(config.head, self.io, config, self.task)
        self._objective: list[Objective] = []  # no child: its weights are not the model's
        self.beside: dict[str, Callable[[], Mapping[str, Tensor]]] = {}
        """Reads what is kept beside the weights: the objective's trained parameters (`OBJECTIVE`),
        tensors of a published file that have no use (`LEFTOVER`), and which tokens are usual
        (`FAMILIAR`)."""
        self.calibration: Calibration | None = None

    @property
    def objective(self) -> Objective | None:
        """What stage I trained the encoder with, to compare segments by; None if not known."""
        if self.config.objective is None:
            return None
        if not self._objective:
            objective = build_objective(self.config.objective, self.encoder)
            if OBJECTIVE in self.beside:
                objective.load_state_dict(self.beside[OBJECTIVE]())
            self._objective.append(objective)
        return self._objective[0].to(self.device).requires_grad_(False).eval()

    @property
    def familiarity(self) -> Familiarity | None:
        """Which tokens are usual; None if nobody knows."""
        return Familiarity(self.beside[FAMILIAR]()) if FAMILIAR in self.beside else None

    @property
    def can_compare(self) -> bool:
        """Whether segments of both modalities lie in one space."""
        objective = self.objective
        return objective is not None and objective.can_compare

    def has_same_encoder(self, other: Model) -> bool:
        """Say whether another model gives the same tokens for the same segments."""
        if self.config.encoder.name != other.config.encoder.name:
            return False
        if self.config.encoder_config() != other.config.encoder_config():
            return False
        mine, theirs = self.encoder.state_dict(), other.encoder.state_dict()
        return all(torch.equal(mine[name], theirs[name]) for name in mine)

    @property
    def separable(self) -> SeparableEncoder:
        """The encoder, one modality at a time.

        Raises:
            ConfigError: if its modalities see each other.
        """
        return require_separable(self.encoder, self.config.encoder_title)

    @property
    def precision(self) -> Precision:
        """How exactly many segments are encoded; the head computes in fp32."""
        return self.encoder.precision

    @precision.setter
    def precision(self, value: Precision) -> None:
        self.encoder.precision = value
        if isinstance(self.encoder, SeparableEncoder):
            self.encoder.audio.precision = self.encoder.vision.precision = value

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(
        self, audio: Tensor, vision: Tensor
    ) -> Float[Tensor, "B K"] | Float[Tensor, "B M K"]:
        """Answer for clips; while it trains perhaps for each modality, see `Head.forward`.

        Args:
            audio: front-end output ``(B, S, F, Ta)``.
            vision: front-end output ``(B, S, C, Tv, H, W)``.
        """
        return self.answer(*self.encoder(Segments(audio, vision)))

    def answer(
        self, audio: Tokens, vision: Tokens
    ) -> Float[Tensor, "B K"] | Float[Tensor, "B M K"]:
        """Run the head on tokens.

        Raises:
            ConfigError: if there is no head.
        """
        if self.head is None:
            raise ConfigError("this model has no head: train stage 2 first")
        return self.head(audio, vision)

    @property
    def audio_frontend(self) -> AudioFrontend:
        """What the encoder wants to hear."""
        assert not isinstance(self.io.audio.frontend, Frames)
        return self.io.audio.frontend

    @property
    def vision_frontend(self) -> Frames:
        """What the encoder wants to see."""
        assert isinstance(self.io.vision.frontend, Frames)
        return self.io.vision.frontend


def build_encoder(config: ModelConfig) -> Encoder:
    """Build the encoder of a model.

    Raises:
        ZooError: naming the component that does not fit.
    """
    spec, settings = registry().encoder(config.encoder.name), config.encoder_config()
    io = settings.io()
    if isinstance(spec, PairSpec):
        assert isinstance(settings, TwoTowerConfig)
        encoder: Encoder = TwoTower(settings)
    else:
        encoder = build_component("encoder", spec, settings)
    if not isinstance(encoder, Encoder):
        raise PluginError(
            f"encoder '{spec.name}' builds a {type(encoder).__name__}; it must inherit zoo.Encoder"
        )
    encoder.io = io
    return encoder


def build_task(task: Component) -> Task:
    """Build the task of a model."""
    spec = registry().task(task.name)
    built: Task = build_component("task", spec, task.parse(spec))
    built.spec = spec
    return built


def build_objective(objective: Component, encoder: Encoder) -> Objective:
    """Build the objective of stage I for an encoder."""
    spec = registry().objective(objective.name)
    built: Objective = build_component("objective", spec, objective.parse(spec), encoder)
    return built


def build_head(head: Component, io: EncoderIO, config: ModelConfig, task: Task) -> Head:
    """Build the head of a model.

    Raises:
        ConfigError: if it does not give the outputs of the task.
    """
    spec = registry().head(head.name)
    if task.spec.name not in spec.tasks:
        raise ConfigError(
            f"head '{spec.name}' answers {' and '.join(map(repr, spec.tasks))}, not "
            f"'{task.spec.name}'"
        )
    if task.slots is not None:
        _check_slots(task.slots, config.layout)
    head_input = HeadInput(
        audio=io.audio.tokens,
        vision=io.vision.tokens,
        layout=config.layout,
        num_outputs=task.num_outputs,
        grid=task.grid,
        slots=task.slots,
    )
    built: Head = build_component("head", spec, head.parse(spec), head_input)
    return built


def _check_slots(slots: SlotGrid, layout: SegmentLayout) -> None:
    """Check that a crop holds the slots that a task asks about."""
    most = SlotGrid.within(layout.covered_s, slots.slot_s).num_slots
    if slots.num_slots > most:
        raise ConfigError(
            f"the task asks about {slots.num_slots} slots of {slots.slot_s:g} s, and a crop of "
            f"{layout.covered_s:g} s holds {most}",
            f"{option('set')} task.num_slots={most}, or more layout.num_segments",
        )


def require_separable(encoder: Encoder, name: str) -> SeparableEncoder:
    """Return an encoder that encodes each modality by itself.

    Raises:
        ConfigError: if it does not.
    """
    if not isinstance(encoder, SeparableEncoder):
        raise ConfigError(
            f"the encoder '{name}' looks at both modalities at once, and this takes one that "
            "encodes each by itself (a pair of extractors, for example)"
        )
    return encoder


def require_offsets(model: Model, name: str) -> OffsetGrid:
    """Return the offset classes of a model that answers how far the audio is off.

    Raises:
        ConfigError: if the model has no head, or a head that answers something else.
    """
    if model.head is None or model.task is None:
        raise ConfigError(f"'{name}' has no head yet", f"train it: {option('stage')} 2")
    if not model.task.answers_offsets:
        raise ConfigError(
            f"'{name}' {model.task.says}, not by how much the audio is off",
            "choose a model that predicts offsets (see: zoo list models)",
        )
    assert model.task.grid is not None
    return model.task.grid


def _check_lengths(io: EncoderIO, config: ModelConfig) -> None:
    """Check that the encoder reads segments as long as the layout has them."""
    segment_s = config.layout.segment_s
    if abs(io.segment_s - segment_s) > LATTICE_TOLERANCE:
        longest = "audio" if io.audio.segment_s >= io.vision.segment_s else "vision"
        pair = config.two_tower()
        what = f"{longest} side of the encoder '{config.encoder.name}'"
        if pair is not None:
            what = f"{longest} extractor '{getattr(pair, longest).extractor.name}'"
        raise ConfigError(
            f"the {what} reads segments of {io.segment_s:g} s, but the layout has {segment_s:g} s; "
            f"set one length for all: {option('set')} layout.segment_s=S"
        )


def count_parameters(module: nn.Module) -> int:
    """Count all parameters, frozen ones included."""
    return sum(p.numel() for p in module.parameters())
