"""What a plugin registers: a name for a component, how to configure it and how to build it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from zoo.contracts.configs import (
    ComponentConfig,
    EncoderConfig,
    ExtractorConfig,
    FeatureMap,
    Modality,
    TaskConfig,
)
from zoo.errors import PluginError
from zoo.search_space import Choice, Range
from zoo.timeline import SegmentLayout

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data.manifest import Clip
    from zoo.models.config import ModelConfig
    from zoo.models.model import Model

Precision = Literal["fp32", "bf16"]  # of matrix products; weights and answers are fp32
Positions = Literal["prefix", "interpolate"]
"""How a longer position table is shortened: its first rows as published, or resampled."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A named component: how to configure it and how to build it.

    ``presets`` holds at least ``paper`` (published sizes) and ``tiny`` (trains on two CPU cores).
    """

    name: str
    summary: str
    config_class: type[ComponentConfig]
    build: Callable[..., Any]
    presets: Mapping[str, ComponentConfig] = field(default_factory=dict)
    source: str = ""
    license: str = ""
    search: Mapping[str, Choice | Range] = field(default_factory=dict)
    """What `zoo tune` may vary unless told otherwise: fields of the config and their values."""
    former: ClassVar[Mapping[str, str]] = {}
    """Arguments of earlier versions, and what to write instead."""

    def __new__(cls, **given: Any) -> Self:
        """Say what to change where a plugin was written for an earlier version.

        Raises:
            PluginError: naming the argument.
        """
        for argument in given:
            if argument in cls.former:
                what = f"{cls.__name__} '{given.get('name', '')}'"
                raise PluginError(f"{what} has no {argument} any more: {cls.former[argument]}")
        return super().__new__(cls)


@dataclass(frozen=True, kw_only=True)
class WeightsFormat:
    """A layout in which others publish the weights of one extractor.

    ``read(tensors, config, positions)`` returns the state dict of the extractor that ``config``
    builds, and raises ModelError if the tensors do not fit it.  ``names(tensor)`` says under which
    names the layout keeps a tensor of the extractor; several are stacked along the first axis, none
    is one that it lacks, which ``read`` fills in.
    """

    name: str
    recognises: Callable[[Collection[str]], bool]
    """Says from the names of its tensors whether a checkpoint is of this layout."""
    read: Callable[[Mapping[str, Tensor], Any, Positions], dict[str, Tensor]]
    names: Callable[[str], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """A layout of weights that an encoder of both modalities may start from: of an image model.

    ``read(tensors, config, positions)`` returns what they give of the state dict of the encoder
    that ``config`` builds, and raises ModelError if they do not fit it; what is left out starts as
    in a fresh run.  Names that begin with ``objective.`` are for the objective, if it has such
    parameters.
    """

    name: str
    recognises: Callable[[Collection[str]], bool]
    """Says from the names of its tensors whether a checkpoint is of this layout."""
    read: Callable[[Mapping[str, Tensor], Any, Positions], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class ExtractorSpec(Spec):
    """``build(config) -> Extractor``: segments of one modality to a feature map."""

    modality: Modality
    config_class: type[ExtractorConfig]
    presets: Mapping[str, ExtractorConfig] = field(default_factory=dict)
    formats: tuple[WeightsFormat, ...] = ()
    """Layouts of published weights to start stage I from."""


@dataclass(frozen=True, kw_only=True)
class NamedRecipe:
    """The numbers of a training on one data set, for ``zoo train --recipe``."""

    summary: str
    clips: int
    """How many the authors had, or the data set has, where nobody says which there are."""
    settings: Callable[[int], Mapping[str, Any]]
    """``settings(clips)`` as ``--set`` takes them: ``{"stage2.lr": 1e-4}``; epochs become steps."""
    preset: Literal["tiny", "paper"] = "paper"
    stage: Literal["1", "2", "all"] = "2"
    task: str | None = None
    """Of stage II; None is that of the head."""
    head: str | None = None
    """None is that of the task."""


@dataclass(frozen=True, kw_only=True)
class EncoderDefaults:
    """What an encoder is trained with unless something else is asked for."""

    head: str = ""
    """Head for the default task; empty is the default head of the task."""
    objective: str = ""
    """Of stage I; empty is the default objective."""
    layout: SegmentLayout = field(default_factory=SegmentLayout)
    layouts: Mapping[str, SegmentLayout] = field(default_factory=dict)
    """Per preset, where another layout is usual."""
    end_to_end: bool = False
    """Whether there is no stage I: the encoder is trained along with the head."""
    stage2: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per preset, what is different in stage II."""
    recipes: Mapping[str, NamedRecipe] = field(default_factory=dict)
    """Trainings of this encoder on one data set, published ones above all, by name."""


@dataclass(frozen=True, kw_only=True)
class EncoderSpec(Spec, EncoderDefaults):
    """``build(config) -> Encoder``: segments of both modalities to tokens of both."""

    config_class: type[EncoderConfig]
    presets: Mapping[str, EncoderConfig] = field(default_factory=dict)
    formats: tuple[InitialWeights, ...] = ()
    """Layouts of published weights to start stage I from."""
    starts_from: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)
    """Other encoders whose weights it can take over (`Encoder.fitted`), by name;
    ``starts_from[name](config, theirs) -> config`` takes over the sizes that this needs."""


@dataclass(frozen=True, kw_only=True)
class PairSpec(EncoderDefaults):
    """An encoder of two extractors that never see each other's modality: a two-tower encoder.

    A pair is a name for two extractors; ``audio+vision`` puts any two together without one.
    """

    name: str
    summary: str
    audio: str
    vision: str
    aggregator: str = ""
    """Of both modalities; empty is the default aggregator."""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class AggregatorSpec(Spec):
    """``build(config, feature_map) -> Aggregator``: a feature map to fewer tokens per time step."""

    positions: Callable[[Any, FeatureMap], int] = lambda _config, _feature_map: 1
    """``positions(config, feature_map) -> P'``: tokens per time step that it gives."""

    fit: Callable[[Any, FeatureMap], Any] = lambda config, _feature_map: config
    """``fit(config, feature_map) -> config``: fills in what a recipe leaves to the features."""
    is_default: bool = False
    """Whether it is taken where nobody names one."""
    former: ClassVar[Mapping[str, str]] = {
        "keeps_positions": "say how many tokens a time step gets, all of them with "
        "positions=lambda config, feature_map: feature_map.positions",
    }


@dataclass(frozen=True, kw_only=True)
class HeadSpec(Spec):
    """``build(config, head_input) -> Head``: tokens of both modalities to the outputs of a task.

    ``stage2`` holds, per preset, what this head wants different in stage II.
    """

    tasks: tuple[str, ...]
    """Names of the tasks whose outputs it gives; the first one is its own, where nobody says."""
    stage2: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    starts_from: tuple[str, ...] = ()
    """Heads whose trained weights it can start from; see `Head.start_from`."""
    passes: int = 1
    """Passes of an encoder whose tokens it wants side by side; see `FeatureMap.passes`."""
    is_default: bool = False
    """Whether it is taken where nobody names one; for its first task before others that do it."""
    former: ClassVar[Mapping[str, str]] = {
        "task": "name the tasks whose outputs it gives, such as tasks=('offset',)",
        "synchronizability": "register the head that starts from this one as a head of its own, "
        "with tasks=('synchronizability',) and starts_from=(NAME,)",
    }

    def __new__(cls, **given: Any) -> Self:
        """Ask for the tasks, which heads of earlier versions did not name.

        Raises:
            PluginError: if there is none.
        """
        spec = super().__new__(cls, **given)
        if given and not given.get("tasks"):  # nothing is given to a copy
            raise PluginError(
                f"HeadSpec '{given.get('name', '')}' names no task: say whose outputs it gives, "
                "such as tasks=('offset',)"
            )
        return spec


@dataclass(frozen=True, kw_only=True)
class Chance:
    """What a stage reaches without learning anything."""

    loss: float | None = None
    """None if nobody can say."""
    words: str = ""
    """How the loss comes about: ``ln 48 = 3.87``."""
    margin: float = 0.1
    """How far below, smoothed, the loss must fall to count as having left chance."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """What the curves of an objective show by chance, by name."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec(Spec):
    """``build(config, encoder) -> Objective``: a stage I loss over an encoder."""

    stage1: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per preset, the numbers of stage I that go with it."""
    chance: Callable[[Any, int, int], Chance] = lambda _config, _clips, _segments: Chance()
    """``chance(config, clips, num_segments)`` of a batch over all workers."""
    describe: Callable[[Mapping[str, float]], str] = lambda scores: ", ".join(
        f"{name} {value:.3g}" for name, value in scores.items()
    )
    """Says a validation in a few words."""
    curves: tuple[Score, ...] = ()
    """Scores that are drawn beside the loss: of training steps and of validations."""
    is_default: bool = False
    """Whether it is taken where nobody names one."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score of a task or an objective, as tables and plots show it."""

    name: str
    """Its key in logs and reports."""
    title: str
    """What a column is called."""
    unit: Literal["share", "seconds", "number"] = "share"
    """A share of 1 is shown in percent."""
    is_higher_better: bool = True

    def show(self, value: float) -> str:
        """Write a value: ``95.2%``, ``0.08 s``, ``0.123``."""
        if self.unit == "share":
            return f"{value:.1%}"
        return f"{value:.2f} s" if self.unit == "seconds" else f"{value:.3f}"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What is scored, and which of two results is better."""

    scores: tuple[Score, ...]
    """What a validation gives, as columns of tables; other keys of a validation are not shown."""
    rank: tuple[str, ...]
    """Names of the scores that decide which of two validations is better, the first one first."""

    def score(self, name: str) -> Score:
        """Return a score by name."""
        return next(score for score in self.scores if score.name == name)

    def rank_of(self, scores: Mapping[str, float]) -> tuple[float, ...]:
        """Return what makes one validation better than another: the higher, the better."""
        signs = [1 if self.score(name).is_higher_better else -1 for name in self.rank]
        return tuple(sign * scores[name] for sign, name in zip(signs, self.rank, strict=True))

    def describe(self, scores: Mapping[str, float]) -> str:
        """Say scores in a few words: ``accuracy 95.2%, within 1 class 96.6%``."""
        shown = [score for score in self.scores if score.name in scores]
        return ", ".join(f"{score.title} {score.show(scores[score.name])}" for score in shown)


@dataclass(frozen=True, kw_only=True)
class TaskSpec(Spec, Scored):
    """``build(config) -> Task``: what stage II is about."""

    config_class: type[TaskConfig]
    presets: Mapping[str, TaskConfig] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    """Columns of a manifest that must not be empty: ``labels``, ``events``."""
    fine_tunes: bool = False
    """Whether it starts from a trained head: stage I is then left out where a model is given."""
    fit: Callable[[Any, Sequence[Clip]], Any] | None = None
    """``fit(config, clips) -> config``: fills in what a recipe leaves to the training clips."""
    fit_layout: Callable[[Any, SegmentLayout], Any] | None = None
    """``fit_layout(config, layout) -> config``: fills in what a recipe leaves to the layout; before
    ``fit``."""
    class_field: str | None = None
    """Field of the config that takes the classes of a manifest, in their order, unless it is set;
    before ``fit``."""
    example_labels: tuple[tuple[str, ...], ...] = ()
    """Labels of some clips, where not any will do: what `zoo.testing` makes clips of."""
    is_default: bool = False
    """Whether it is taken where nobody names one."""


@dataclass(frozen=True, kw_only=True)
class FormatSpec:
    """A layout in which others publish whole models.

    ``read(tensors)`` returns a config and the state dict of the model it builds, and raises
    ModelError if a tensor is missing, unknown or of another shape; names that begin with
    ``objective.`` are parameters of the objective, and with ``leftover.`` what has no use here and
    is kept to be written again.  ``write(model)`` returns what their code expects to load.  Written
    and read again, every tensor is the same, bit for bit.

    Tensors of Flax have the names of their groups before their own, ``embedding/kernel``, below
    those that hold all parameters; ``write`` returns the same names.
    """

    name: str
    summary: str
    recognises: Callable[[Collection[str]], bool]
    """Says from the names of its tensors whether a checkpoint is of this layout."""
    read: Callable[[Mapping[str, Tensor]], tuple[ModelConfig, dict[str, Tensor]]]
    write: Callable[[Model], dict[str, Any]]
    task: str | None
    """Name of the task that these models answer; None without a head."""
    container: Literal["torch", "flax"] = "torch"
    """What a file is written with: ``torch.save``, or the MessagePack of Flax, where tensors go
    below ``params``."""
    caution: str = ""
    """What whoever uses these weights must know, on the card of every model that comes of them."""
    source: str = ""
    license: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(Spec):
    """``build(config) -> DatasetAdapter``."""


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """A verb of the command line: ``function`` is a Typer callback in a light module."""

    name: str
    function: Callable[..., None]
    group: Literal["", "data", "catalog"] = ""
