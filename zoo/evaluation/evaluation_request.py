"""What to evaluate and how, and whether that makes sense."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.data.fixed_offsets import FixedOffset, read_fixed_offsets
from zoo.data.manifest import Clip, Split
from zoo.errors import ConfigError, ManifestError, option
from zoo.evaluation.sample_sources import find_fixed
from zoo.models.model import Model
from zoo.models.task import Task


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to evaluate, and how.

    Attributes:
        model: catalog name or model folder.
        data: manifest.
        protocol: name of a protocol.
        split: which clips, by default the protocol's.
        rounds: passes over the clips, by default the protocol's.
        seed: of the samples and of the intervals.
        offsets: list of fixed offsets, in either published format; makes any protocol fixed.
        as_published: read, cut, sample and normalise as the published code does.
        audio_shift_s: shift of the audio in the published reader, seconds.
        synchronizability: a second model, which says whether a sample can be synchronized.
        features: ``store`` encodes every clip once on the lattice of offsets, ``online`` decodes
            and encodes every sample, ``auto`` takes the store for random samples whose crops have
            several segments.
        frames: average over so many frames of a sample, for models that read less video than audio.
        views: average the outputs over so many evenly spaced stretches of a clip, from its start to
            its end, instead of random samples; for tasks whose answer is the same all over a clip.
        subset: list of the ids of the clips to take (`zoo.data.subset`), for retrieval.
        with_controls: also score with the audio of another clip, and with either stream blank.
        device: where to compute.
    """

    model: str
    data: Path
    protocol: str = "random"
    split: Split | None = None
    rounds: int | None = None
    seed: int = 0
    offsets: Path | None = None
    as_published: bool = False
    audio_shift_s: float = 0.0
    synchronizability: str | None = None
    features: Literal["auto", "store", "online"] = "auto"
    frames: int = 1
    views: int = 1
    subset: Path | None = None
    with_controls: bool = True
    device: str = "cpu"

    @property
    def offsets_name(self) -> str:
        """What to call the list of fixed offsets."""
        return "the manifest" if self.offsets is None else self.offsets.name

    @property
    def offsets_sha256(self) -> str | None:
        """Hash of the list of fixed offsets, where it is a file."""
        if self.offsets is None:
            return None
        return hashlib.sha256(self.offsets.read_bytes()).hexdigest()

    def find_fixed(self, clips: list[Clip]) -> tuple[dict[int, FixedOffset], dict[int, str]]:
        """Find the fixed offset of every clip, and why there is none, by index.

        Raises:
            ManifestError: if the list cannot be read or knows none of the clips.
        """
        offsets = None if self.offsets is None else read_fixed_offsets(self.offsets)
        return find_fixed(clips, offsets, self.offsets_name)


def refuse_sampling(request: Request, reason: str) -> None:
    """Refuse options that only samples of tasks have.

    Args:
        request: what is asked for.
        reason: why this protocol has none.

    Raises:
        ConfigError: naming the option.
    """
    given = {
        "offsets": request.offsets,
        "rounds": request.rounds,
        "as_published": request.as_published,
        "audio_shift": request.audio_shift_s,
        "synchronizability": request.synchronizability,
        "features": None if request.features == "auto" else request.features,
        "frames": request.frames > 1,
        "views": request.views > 1,
    }
    for name, value in given.items():
        if value:
            raise ConfigError(
                f"{option(name)} is for protocols that cut samples, and {reason}",
                "leave it out",
            )


def choose_features(
    request: Request, models: list[Model], is_fixed: bool
) -> Literal["store", "online"]:
    """Choose how clips are encoded.

    A store pays where crops share segments; a crop that is one segment shares nothing.

    Args:
        request: what is asked for.
        models: the model, and the second one where there is one.
        is_fixed: whether offsets come from a list.

    Raises:
        ConfigError: if the options contradict each other, or a model has no use for a store.
    """
    if request.audio_shift_s and not request.as_published:
        raise ConfigError(
            f"{option('audio_shift')} shifts the audio in the published reader",
            f"add {option('as_published')}",
        )
    if is_fixed and (request.rounds or 1) > 1:
        raise ConfigError(
            "fixed offsets give the same samples in every round",
            f"leave out {option('rounds')}, or use {option('protocol')} random without "
            f"{option('offsets')}",
        )
    if request.views > 1:
        _check_views(request, models, is_fixed)
        return "online"
    if request.frames > 1:
        _check_frames(request, models, is_fixed)
        return "online"
    reason = "the published reading" if request.as_published else "a list of fixed offsets"
    is_off_lattice = is_fixed or request.as_published
    if request.features == "auto":
        is_shared = models[0].config.layout.num_segments > 1
        is_separable = all(model.encoder.is_separable for model in models)
        return "store" if is_shared and is_separable and not is_off_lattice else "online"
    if request.features == "store":
        if is_off_lattice:
            raise ConfigError(
                f"{reason} cuts off the lattice of the feature store",
                f"leave out {option('features')} store",
            )
        for model in models:
            _ = model.separable
    return request.features


def _check_frames(request: Request, models: list[Model], is_fixed: bool) -> None:
    reads = models[0].io
    if reads.vision.segment_s >= reads.audio.segment_s:
        raise ConfigError(
            f"{option('frames')} averages over frames beside the same audio, and "
            f"'{request.model}' reads as much video as audio",
            "leave it out",
        )
    if is_fixed or request.as_published or len(models) > 1 or request.features == "store":
        raise ConfigError(
            f"{option('frames')} goes with random samples of one model, read from files",
            f"leave out {option('offsets')}, {option('as_published')}, "
            f"{option('synchronizability')} and {option('features')}",
        )


def _check_views(request: Request, models: list[Model], is_fixed: bool) -> None:
    task = models[0].task
    if task is not None and not task.answers_for_clip:
        raise ConfigError(
            f"{option('views')} is for models whose answer is the same all over a clip, and "
            f"'{request.model}' {task.says}",
            "leave it out",
        )
    others = is_fixed or request.as_published or len(models) > 1 or request.features == "store"
    if others or request.frames > 1 or (request.rounds or 1) > 1:
        raise ConfigError(
            f"{option('views')} gives the same stretches of a clip in every round, read from files",
            f"leave out {option('rounds')}, {option('frames')}, {option('offsets')}, "
            f"{option('as_published')}, {option('synchronizability')} and {option('features')}",
        )


def choose_task(request: Request, model: Model, second: Model | None, is_fixed: bool) -> Task:
    """Find out what the samples must answer.

    Raises:
        ConfigError: if the models or the protocol do not fit together.
    """
    if model.head is None or model.task is None:
        raise ConfigError(f"'{request.model}' has no head yet", "train stage 2 before evaluating")
    task = model.task
    if second is not None:
        task = _joint_task(request, model, second)
    if is_fixed and not task.answers_offsets:
        name = request.synchronizability or request.model
        raise ConfigError(
            f"fixed offsets are for models that predict offsets, and '{name}' {task.says}",
            f"use a protocol with random samples, without {option('offsets')}",
        )
    return task


def _joint_task(request: Request, model: Model, second: Model) -> Task:
    assert model.task is not None
    if not model.task.answers_offsets:
        raise ConfigError(
            f"{option('synchronizability')} goes with a model that predicts offsets, and "
            f"'{request.model}' {model.task.says}"
        )
    if second.head is None or second.task is None or not second.task.tells_synchronizable:
        raise ConfigError(
            f"{option('synchronizability')} takes a model that says whether a clip can be "
            f"synchronized, which '{request.synchronizability}' does not"
        )
    layouts = [(m.config.layout.segment_s, m.config.layout.step_s) for m in (model, second)]
    read = [
        [(io.frontend, io.segment_s) for io in (m.io.audio, m.io.vision)] for m in (model, second)
    ]
    if layouts[0] != layouts[1] or read[0] != read[1]:
        raise ConfigError(
            f"'{request.model}' and '{request.synchronizability}' do not read the same segments, "
            "so they cannot answer for the same samples"
        )
    return second.task.beside(model.task)


def check_columns(task: Task, clips: list[Clip], split: str) -> None:
    """Check that the manifest says what the task asks for.

    Raises:
        ManifestError: if not one clip has it.
    """
    for column in task.spec.columns:
        if not any(getattr(clip, column, None) for clip in clips):
            raise ManifestError(
                f"the task '{task.spec.name}' needs the column '{column}' of the manifest, and not "
                f"one {split} clip has it"
            )
