"""What a plugin answers: frozen configs and specs.  Light on purpose: `zoo list` imports only this.

The modules a spec builds are the abstract classes of `zoo.models.modules`, which load torch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from zoo.errors import ConfigError, PluginError, option
from zoo.search_space import Choice, Range
from zoo.timeline import LATTICE_TOLERANCE, OffsetGrid, SegmentLayout, to_frames, to_samples

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data.manifest import Clip
    from zoo.models.config import ModelConfig
    from zoo.models.model import Model

Modality = Literal["audio", "vision"]
Precision = Literal["fp32", "bf16"]  # of matrix products; weights and answers are fp32
Positions = Literal["prefix", "interpolate"]
"""How a longer position table is shortened: its first rows as published, or resampled."""


class ComponentConfig(BaseModel):
    """Base of every configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- front ends: what an extractor wants to see ---


class LogMel(ComponentConfig):
    """Audio front end: a log-mel spectrogram of each segment by itself (paper section 3.1)."""

    kind: Literal["log_mel"] = "log_mel"
    sample_rate_hz: int = Field(16_000, gt=0, description="audio samples per second")
    n_mels: int = Field(128, gt=0, description="F, mel bins")
    n_fft: int = Field(1024, gt=0, description="FFT length, samples")
    win_length: int = Field(400, gt=0, description="window length, samples")
    hop_length: int = Field(160, gt=0, description="hop, samples")
    mean: float = Field(-4.2677393, description="mean of log-mel over AudioSet")
    std: float = Field(4.5689974, gt=0, description="standard deviation over AudioSet")

    @property
    def hop_s(self) -> float:
        """Time between two mel frames, seconds."""
        return self.hop_length / self.sample_rate_hz

    @property
    def num_bins(self) -> int:
        """F, rows of the spectrogram."""
        return self.n_mels

    def num_frames(self, segment_s: float) -> int:
        """Return Ta: 66 mel frames for 0.64 s (one more than the transform gives, zero-padded)."""
        return to_samples(segment_s, self.sample_rate_hz) // self.hop_length + 2

    def segment_shape(self, segment_s: float) -> tuple[int, ...]:
        """Return (F, Ta) of a segment."""
        return self.num_bins, self.num_frames(segment_s)


class Spectrogram(ComponentConfig):
    """Audio front end: a log power spectrogram, each row standardised over the segment.

    (Source: SparseSync, arXiv 2210.07055.)
    """

    kind: Literal["spectrogram"] = "spectrogram"
    sample_rate_hz: int = Field(16_000, gt=0, description="audio samples per second")
    n_fft: int = Field(512, gt=0, description="FFT and window length, samples")
    hop_length: int = Field(128, gt=0, description="hop, samples")

    @property
    def hop_s(self) -> float:
        """Time between two columns, seconds."""
        return self.hop_length / self.sample_rate_hz

    @property
    def num_bins(self) -> int:
        """F, rows of the spectrogram: 257."""
        return self.n_fft // 2 + 1

    def num_frames(self, segment_s: float) -> int:
        """Return Ta: 626 columns for 5 s."""
        return to_samples(segment_s, self.sample_rate_hz) // self.hop_length + 1

    def segment_shape(self, segment_s: float) -> tuple[int, ...]:
        """Return (F, Ta) of a segment."""
        return self.num_bins, self.num_frames(segment_s)


class Frames(ComponentConfig):
    """Video front end: RGB frames, short side resized, cropped to a square, normalised."""

    kind: Literal["frames"] = "frames"
    fps: float = Field(25.0, gt=0, description="video frames per second")
    size: int = Field(224, gt=0, description="H = W of the crop, pixels")
    short_side: int = Field(256, gt=0, description="short side before the crop, pixels")
    mean: float | tuple[float, float, float] = Field(
        0.5, description="subtracted from RGB in 0..1, one number or one per channel"
    )
    std: PositiveFloat | tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(
        0.5, description="divides RGB in 0..1, one number or one per channel"
    )

    def num_frames(self, segment_s: float) -> int:
        """Return Tv: 16 frames for 0.64 s at 25 fps."""
        return to_frames(segment_s, self.fps)

    def segment_shape(self, segment_s: float) -> tuple[int, ...]:
        """Return (C, Tv, H, W) of a segment."""
        return 3, self.num_frames(segment_s), self.size, self.size


AudioFrontend = LogMel | Spectrogram


class FeatureMap(ComponentConfig):
    """Shape and clock of an extractor's output ``(N, T, P, D)``, or of tokens ``(N, T*P, D)``.

    The tokens of most aggregators have P = 1.
    """

    times_s: tuple[float, ...] = Field(
        description="centre of each time step from the start of the segment, seconds"
    )
    positions: int = Field(gt=0, description="P, mel bands or image patches per time step")
    dim: int = Field(gt=0, description="D, channels")

    @property
    def steps(self) -> int:
        """T, time steps per segment."""
        return len(self.times_s)

    @property
    def num_tokens(self) -> int:
        """T*P, tokens per segment."""
        return self.steps * self.positions


class ExtractorConfig(ComponentConfig, ABC):
    """Configuration of an extractor: its physics follow from it.

    Another segment length is another config: ``config.model_copy(update={"segment_s": 0.32})``.
    """

    segment_s: float = Field(0.64, gt=0, description="segment length, seconds")
    frontend: AudioFrontend | Frames

    @abstractmethod
    def feature_map(self) -> FeatureMap:
        """Return the shape of the output for this segment length.

        Raises:
            ConfigError: if the extractor cannot take segments of this length.
        """


class ModalityIO(ComponentConfig):
    """What an encoder reads of one modality, and which tokens it gives for a segment of it."""

    frontend: AudioFrontend | Frames
    segment_s: float = Field(gt=0, description="length of what is read for a segment, seconds")
    tokens: FeatureMap

    @property
    def segment_shape(self) -> tuple[int, ...]:
        """(F, Ta) of an audio segment, (C, Tv, H, W) of a video segment."""
        return self.frontend.segment_shape(self.segment_s)

    def lead_s(self, segment_s: float) -> float:
        """Return how long after the start of a segment of the layout reading begins, seconds.

        What is read lies in the middle, rounded down to whole frames or samples.
        """
        frontend = self.frontend
        rate = frontend.fps if isinstance(frontend, Frames) else frontend.sample_rate_hz
        return math.floor((segment_s - self.segment_s) / 2 * rate + LATTICE_TOLERANCE) / rate

    def within(self, segment_s: float) -> ModalityIO:
        """Return it with the times of its tokens from the start of a segment of the layout."""
        lead_s = self.lead_s(segment_s)
        if not lead_s:
            return self
        times_s = tuple(round(time_s + lead_s, 9) for time_s in self.tokens.times_s)
        tokens = self.tokens.model_copy(update={"times_s": times_s})
        return self.model_copy(update={"tokens": tokens})


class EncoderIO(ComponentConfig):
    """What an encoder reads and gives.

    The two modalities may read segments of different lengths, such as 10 s of audio and one frame:
    the shorter one then lies in the middle of the longer one.  The times of all tokens count from
    the start of the longer one.
    """

    audio: ModalityIO
    vision: ModalityIO

    def modality(self, name: Modality) -> ModalityIO:
        """Return what is read of one modality."""
        return self.audio if name == "audio" else self.vision

    @property
    def segment_s(self) -> float:
        """Length of a segment of the longer modality, seconds."""
        return max(self.audio.segment_s, self.vision.segment_s)


class EncoderConfig(ComponentConfig, ABC):
    """Configuration of an encoder: what it reads and gives follows from it."""

    @abstractmethod
    def io(self) -> EncoderIO:
        """Return the front ends, segment lengths and tokens of both modalities.

        Raises:
            ConfigError: if the settings do not fit together.
        """


class TaskConfig(ComponentConfig):
    """Configuration of a task; everything that decides what the outputs mean."""


# --- specs: what a plugin registers ---


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
class ExtractorSpec(Spec):
    """``build(config) -> Extractor``: segments of one modality to a feature map."""

    modality: Modality
    config_class: type[ExtractorConfig]
    presets: Mapping[str, ExtractorConfig] = field(default_factory=dict)
    formats: tuple[WeightsFormat, ...] = ()
    """Layouts of published weights to start stage I from."""


@dataclass(frozen=True, kw_only=True)
class EncoderDefaults:
    """What an encoder is trained with unless something else is asked for."""

    head: str = ""
    """Head for the default task; empty is the default head of the task."""
    objective: str = ""
    """Of stage I; empty is the default objective."""
    layout: SegmentLayout = field(default_factory=SegmentLayout)
    end_to_end: bool = False
    """Whether there is no stage I: the encoder is trained along with the head."""
    stage2: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per preset, what is different in stage II."""


@dataclass(frozen=True, kw_only=True)
class EncoderSpec(Spec, EncoderDefaults):
    """``build(config) -> Encoder``: segments of both modalities to tokens of both."""

    config_class: type[EncoderConfig]
    presets: Mapping[str, EncoderConfig] = field(default_factory=dict)


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


class HeadInput(ComponentConfig):
    """What a head is given: tokens of both modalities, where they lie in time, and the outputs."""

    audio: FeatureMap
    vision: FeatureMap
    layout: SegmentLayout
    num_outputs: int = Field(gt=0, description="K, outputs per clip that the task asks for")
    grid: OffsetGrid | None = Field(None, description="offset classes, where the task has some")

    def require_grid(self, head: str) -> OffsetGrid:
        """Return the offset classes, for a head that looks for offsets.

        Raises:
            ConfigError: if the task has none.
        """
        if self.grid is None:
            raise ConfigError(f"head '{head}' looks for offsets, and the task has no offset grid")
        return self.grid

    def require_one_position(self, head: str) -> None:
        """Refuse several tokens per time step, for a head that knows tokens by their time only.

        Raises:
            ConfigError: if the aggregator keeps the positions of a time step.
        """
        for modality, tokens in (("audio", self.audio), ("vision", self.vision)):
            if tokens.positions > 1:
                raise ConfigError(
                    f"head '{head}' takes one token per time step, and the {modality} aggregator "
                    f"keeps {tokens.positions} positions of a step; choose another "
                    f"{option('aggregator')}, such as mean, or another {option('head')}"
                )


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
    is_default: bool = False
    """Whether it is taken for its first task where nobody names one."""
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
class TaskSpec(Spec):
    """``build(config) -> Task``: what stage II is about."""

    config_class: type[TaskConfig]
    presets: Mapping[str, TaskConfig] = field(default_factory=dict)
    scores: tuple[Score, ...]
    """What a validation gives, as columns of tables; other keys of a validation are not shown."""
    rank: tuple[str, ...]
    """Names of the scores that decide which of two validations is better, the first one first."""
    columns: tuple[str, ...] = ()
    """Columns of a manifest that must not be empty: ``labels``, ``events``."""
    fine_tunes: bool = False
    """Whether it starts from a trained head: stage I is then left out where a model is given."""
    fit: Callable[[Any, Sequence[Clip]], Any] | None = None
    """``fit(config, clips) -> config``: fills in what a recipe leaves to the training clips."""
    is_default: bool = False
    """Whether it is taken where nobody names one."""

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
class FormatSpec:
    """A layout in which others publish whole models.

    ``read(tensors)`` returns a config and the state dict of the model it builds, and raises
    ModelError if a tensor is missing, unknown or of another shape; ``write(model)`` returns what
    their code expects to load.  Written and read again, every tensor is the same, bit for bit.
    """

    name: str
    summary: str
    recognises: Callable[[Collection[str]], bool]
    """Says from the names of its tensors whether a checkpoint is of this layout."""
    read: Callable[[Mapping[str, Tensor]], tuple[ModelConfig, dict[str, Tensor]]]
    write: Callable[[Model], dict[str, Any]]
    task: str | None
    """Name of the task that these models answer; None without a head."""
    source: str = ""
    license: str = ""


class ClipRecord(ComponentConfig):
    """One row of a manifest as a dataset adapter knows it; probing fills in the rest."""

    path: Path = Field(description="the clip's file")
    split: Literal["train", "valid", "test"] = "train"
    label: str | None = Field(None, description="class of the clip, where known")
    labels: tuple[str, ...] | None = Field(None, description="all classes of the clip, where known")
    events_s: tuple[float, ...] | None = Field(
        None, description="onsets of the audible and visible events, seconds, where known"
    )
    events: tuple[tuple[float, float, str], ...] | None = Field(
        None, description="events as (start, end, label), seconds, where known"
    )
    fixed_offset_s: float | None = Field(
        None, description="offset at which a protocol evaluates the clip, seconds"
    )
    fixed_start_s: float | None = Field(
        None, ge=0, description="start of the video crop that goes with it, seconds"
    )
    length_s: tuple[float, float] | None = Field(
        None, description="shortest and longest length of the clip, seconds; others are rejected"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A listed clip without a file (``id``, ``split``), or a file that is not used (``path``)."""

    reason: str
    id: str | None = None
    split: Literal["train", "valid", "test"] | None = None
    path: Path | None = None


class DatasetAdapter(ABC):
    """Knows how one data set names, splits, filters and labels its clips."""

    @abstractmethod
    def scan(self, videos: Path) -> Iterator[ClipRecord]:
        """Yield a record for every clip under a folder.

        Raises:
            ManifestError: if the folder is not of this data set or holds no clip.
        """

    def left_out(self) -> list[LeftOut] | None:
        """Return what the last scan left out; None if the data set has no official list."""
        return None


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(Spec):
    """``build(config) -> DatasetAdapter``."""


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """A verb of the command line: ``function`` is a Typer callback in a light module."""

    name: str
    function: Callable[..., None]
    group: Literal["", "data", "catalog"] = ""
