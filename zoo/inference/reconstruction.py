"""What a pre-trained model puts where parts of a clip are hidden from it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from zoo.catalog.entries import read_description, resolve
from zoo.catalog.model_folder import load_model, read_config
from zoo.contracts import Frames, MaskMode
from zoo.data.clip_reader import ClipReader
from zoo.errors import ConfigError, MediaError, option
from zoo.inference.windows import Streams, find_streams
from zoo.models.device import find_device
from zoo.models.model import OBJECTIVE, Model
from zoo.models.patches import MODALITIES
from zoo.models.reconstruction import Hiding, Rebuilt
from zoo.models.segments import Segments
from zoo.models.without_values import without_values
from zoo.timeline import LATTICE_TOLERANCE, SegmentLayout, count_steps

WORDS = {"audio": "audio", "vision": "video"}


@dataclass(frozen=True)
class Reconstruction:
    """A stretch of a clip, what was hidden of it, and what a model puts there.

    Attributes:
        path: the clip.
        model: the model's name.
        objective: what it was pre-trained with, which rebuilds.
        start_s: start of the stretch, seconds.
        segment_s: length of a segment, seconds; the segments follow each other.
        num_segments: S.
        hiding: what was hidden.
        trained: what training hid.
        audio: spectrograms of all segments.
        vision: frames of all segments, after the front end.
        frontend: of the frames.
    """

    path: str
    model: str
    objective: str
    start_s: float
    segment_s: float
    num_segments: int
    hiding: Hiding
    trained: Hiding
    audio: Rebuilt
    vision: Rebuilt
    frontend: Frames

    @property
    def end_s(self) -> float:
        """End of the stretch, seconds."""
        return round(self.start_s + self.num_segments * self.segment_s, 6)

    def lines(self) -> list[str]:
        """Say in words how well hidden patches are rebuilt, a line per modality."""
        return [f"{WORDS[m]}: {_error_in_words(getattr(self, m))}" for m in MODALITIES]

    def notes(self) -> list[str]:
        """Return what one should know before one judges the plot."""
        notes = []
        if normalised := self._which("is_normalised"):
            notes.append(
                f"brightness and contrast (mean and spread) of every hidden patch of {normalised} "
                "are taken from the input: the model rebuilds the pattern within a patch"
            )
        if change := self._which("is_change"):
            notes.append(
                f"what a segment of {change} holds all along is taken from the input: the model "
                "sees and rebuilds changes only"
            )
        shares = [(getattr(self.hiding, m), getattr(self.trained, m), WORDS[m]) for m in MODALITIES]
        if any(asked > trained + 0.01 for asked, trained, _ in shares):
            hid = " and ".join(f"{trained:.0%} of the {word}" for _, trained, word in shares)
            notes.append(f"training hid {hid}: more is hidden here than the model has learnt from")
        return notes

    def _which(self, fact: str) -> str:
        parts = (m for m in MODALITIES if getattr(self, m).num_hidden)
        return " and ".join(WORDS[m] for m in parts if getattr(getattr(self, m), fact))

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the segments as JSON types."""
        facts = ("path", "model", "objective", "start_s", "end_s", "segment_s", "num_segments")
        parts = {m: getattr(self, m) for m in MODALITIES}
        numbers = ("num_patches", "num_hidden", "error", "unexplained", "is_normalised")
        return {
            **{name: getattr(self, name) for name in facts},
            "hiding": asdict(self.hiding),
            **{m: {name: getattr(part, name) for name in numbers} for m, part in parts.items()},
            "notes": self.notes(),
        }


def _error_in_words(rebuilt: Rebuilt) -> str:
    if rebuilt.unexplained is None:
        return "nothing hidden"
    every = "all patches"
    if rebuilt.num_hidden < rebuilt.num_patches:
        every = f"{rebuilt.num_hidden / rebuilt.num_patches:.0%} of the patches"
    return (
        f"{every} hidden; what is rebuilt leaves {rebuilt.unexplained:.1%} of their variance "
        "unexplained (chance 100.0%)"
    )


def choose_hiding(
    trained: Hiding,
    *,
    audio: float | None = None,
    vision: float | None = None,
    mask: MaskMode | None = None,
    seed: int = 0,
    source: str | None = None,
) -> Hiding:
    """Return what to hide; what is not given is as in training.

    Args:
        trained: what training hid.
        audio: share of the audio patches.
        vision: share of the video patches.
        mask: how audio patches are hidden.
        seed: of the choice.
        source: modality of which nothing is hidden, and all of the other one.

    Raises:
        ConfigError: if a share is none, or is given beside the source.
    """
    if source is not None:
        if audio is not None or vision is not None:
            raise ConfigError(
                f"{option('from')} {source} hides all of the other modality and nothing of this "
                f"one; leave out {option('hide_audio')} and {option('hide_vision')}"
            )
        audio, vision = (0.0, 1.0) if source == "audio" else (1.0, 0.0)
    given = {"audio": audio, "vision": vision, "mask": mask}
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(trained, seed=seed, **chosen)  # type: ignore[arg-type]


class Rebuilder:
    """A model with the decoder that it was pre-trained with, ready for files.

    Args:
        name: catalog name or folder.
        device: where it computes.

    Raises:
        ModelError: if there is no such model or its files are damaged.
        ConfigError: if it has no decoder.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu") -> None:
        folder = resolve(name)
        self.name, self.model = name, load_model(folder).to(find_device(device))
        self.trained = require_decoder(self.model, name, folder)

    @torch.no_grad()
    def reconstruct(
        self,
        clip: Path,
        hiding: Hiding | None = None,
        *,
        start_s: float | None = None,
        audio_track: int | None = None,
        video_track: int | None = None,
    ) -> Reconstruction:
        """Hide parts of a stretch of a clip, as long as the model looks at, and rebuild them.

        Args:
            clip: the file.
            hiding: what to hide; by default as much as in training.
            start_s: of the stretch, seconds; by default where audio and video have begun.
            audio_track: which one, from 1; by default the first.
            video_track: which one, from 1; by default the film.

        Raises:
            MediaError: if the clip cannot be read, lacks a stream, or is too short.
            ConfigError: if the objective cannot hide so.
        """
        model, hiding = self.model, hiding or self.trained
        assert model.config.objective is not None
        assert model.objective is not None
        layout = model.config.layout
        streams = find_streams(clip, None, audio_track, video_track)
        starts_s = place_segments(streams, layout, model.vision_frontend.fps, start_s)
        segments = _read(model, streams, starts_s)
        rebuilt = model.objective.reconstruct(model.encoder, segments, hiding)
        return Reconstruction(
            path=str(clip),
            model=self.name,
            objective=model.config.objective.name,
            start_s=starts_s[0],
            segment_s=layout.segment_s,
            num_segments=len(starts_s),
            hiding=hiding,
            trained=self.trained,
            audio=rebuilt["audio"],
            vision=rebuilt["vision"],
            frontend=model.vision_frontend,
        )


def can_rebuild(folder: Path) -> bool:
    """Say whether a model folder holds a trained decoder; its weights are not read.

    Raises:
        ZooError: if the folder is damaged, or a plugin is not installed.
    """
    if OBJECTIVE not in read_description(folder).get("beside", {}):
        return False
    with without_values():
        objective = Model(read_config(folder)).objective
        return objective is not None and objective.hiding is not None


def require_decoder(model: Model, name: str, folder: Path) -> Hiding:
    """Return what training hid of clips.

    Args:
        model: whose objective must have a trained decoder.
        name: of the model, for messages.
        folder: where it lies.

    Raises:
        ConfigError: if it has none.
    """
    if model.config.objective is None or model.objective is None:
        raise ConfigError(
            f"'{name}' does not say what it was pre-trained with, so it has no decoder"
        )
    objective, hiding = model.config.objective.name, model.objective.hiding
    if hiding is None:
        raise ConfigError(
            f"'{name}' was pre-trained with '{objective}', which rebuilds nothing",
            "choose a model whose objective has a decoder, such as cavmae",
        )
    if OBJECTIVE not in model.beside:
        inner = next(folder.glob(f"*/{OBJECTIVE}.safetensors"), None)  # of stage 1, if it is a run
        raise ConfigError(
            f"'{name}' has no decoder beside its weights: its encoder was trained further in stage "
            "2, or it comes from an earlier version",
            f"choose the model of its stage 1: {inner.parent}"
            if inner is not None
            else "train its stage 1 again",
        )
    return hiding


def place_segments(
    streams: Streams, layout: SegmentLayout, fps: float, start_s: float | None = None
) -> list[float]:
    """Return where segments start that follow each other, as long as a crop, seconds.

    A crop of one segment may reach beyond the end of the clip.

    Raises:
        MediaError: if not one fits.
    """
    first_s, end_s = streams.whole_frames(fps).shared_s()
    first_s = round(math.ceil(first_s * fps - LATTICE_TOLERANCE) / fps, 6)
    start_s = first_s if start_s is None else start_s
    segment_s = layout.segment_s
    num = count_steps(min(layout.covered_s, end_s - start_s), segment_s, segment_s)
    if not num and layout.num_segments == 1 and end_s - start_s >= layout.shortest_s:
        num = 1
    if not num or start_s < first_s - LATTICE_TOLERANCE:
        raise MediaError(
            f"{streams.video} has no segment of {segment_s:g} s from {start_s:g} s on: audio and "
            f"video share {first_s:.2f} to {end_s:.2f} s"
        )
    return [round(start_s + i * segment_s, 6) for i in range(num)]


def _read(model: Model, streams: Streams, starts_s: list[float]) -> Segments:
    reader = ClipReader(
        model.vision_frontend,
        model.audio_frontend,
        audio_track=streams.audio_track,
        io=model.io,
        video_track=streams.video_track,
    )
    segment_s = model.config.layout.segment_s
    audio, vision = (
        reader.read_segments(modality, streams.video, starts_s, segment_s)[None]
        for modality in MODALITIES
    )
    return Segments(audio, vision).to(model.device)
