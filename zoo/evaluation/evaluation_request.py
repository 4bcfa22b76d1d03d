"""What to evaluate and how, and whether that makes sense."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.contracts import Task
from zoo.data.fixed_offsets import FixedOffset, read_fixed_offsets
from zoo.data.manifest import Clip, Split
from zoo.errors import ConfigError
from zoo.evaluation.sample_sources import find_fixed
from zoo.models.model import Model


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to evaluate, and how.

    Attributes:
        model: catalog name or model folder.
        data: manifest.
        protocol: name of a protocol.
        split: which clips, by default the protocol's.
        rounds: passes over the clips, by default the protocol's.
        seed: of the draws and of the intervals.
        offsets: list of fixed offsets, in either published format; makes any protocol fixed.
        as_published: read, cut, draw and normalise as the published code does.
        audio_shift_s: shift of the audio in the published reader, seconds.
        trust: a synchronizability model that says which draws to trust.
        features: ``store`` encodes every clip once on the lattice of offsets, ``online`` decodes
            and encodes every draw, ``auto`` takes the store for random draws whose crops have
            several segments.
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
    trust: str | None = None
    features: Literal["auto", "store", "online"] = "auto"
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
        """Find the fixed draw of every clip, and why there is none, by index.

        Raises:
            ManifestError: if the list cannot be read or knows none of the clips.
        """
        offsets = None if self.offsets is None else read_fixed_offsets(self.offsets)
        return find_fixed(clips, offsets, self.offsets_name)


def choose_features(request: Request, model: Model, is_fixed: bool) -> Literal["store", "online"]:
    """Choose how clips are encoded.

    A store pays where crops share segments; a crop that is one segment shares nothing.

    Raises:
        ConfigError: if the options contradict each other.
    """
    if request.audio_shift_s and not request.as_published:
        raise ConfigError(
            "--audio-shift shifts the audio in the published reader: add --as-published"
        )
    if is_fixed and (request.rounds or 1) > 1:
        raise ConfigError(
            "fixed offsets give the same draws in every round: leave out --rounds, or use "
            "--protocol random without --offsets"
        )
    reason = "the published reading" if request.as_published else "a list of fixed offsets"
    if request.features == "auto":
        is_shared = model.config.layout.num_segments > 1
        return "online" if is_fixed or request.as_published or not is_shared else "store"
    if request.features == "store" and (is_fixed or request.as_published):
        raise ConfigError(
            f"{reason} cuts off the lattice of the feature store: leave out --features store"
        )
    return request.features


def check_task(request: Request, model: Model, trusted: Model | None, is_fixed: bool) -> Task:
    """Find out what the draws must answer.

    Raises:
        ConfigError: if the models or the protocol do not fit together.
    """
    if trusted is not None:
        _check_trust(request, model, trusted)
    if trusted is None and model.task == "offset":
        return "offset"
    if is_fixed:
        raise ConfigError(
            "synchronizability needs draws that cannot be synchronized, and fixed offsets have "
            "none: use a protocol with random offsets, without --offsets"
        )
    return "synchronizability"


def _check_trust(request: Request, model: Model, trusted: Model) -> None:
    if model.task != "offset":
        raise ConfigError(
            f"--trust goes with a model that predicts offsets; '{request.model}' does not"
        )
    if trusted.head is None or trusted.task != "synchronizability":
        raise ConfigError(
            f"--trust {request.trust}: this model does not say whether a clip can be synchronized"
        )
    a, b = model.config.layout, trusted.config.layout
    fronts = [(m.audio_frontend, m.vision_frontend) for m in (model, trusted)]
    if (a.segment_s, a.step_s) != (b.segment_s, b.step_s) or fronts[0] != fronts[1]:
        raise ConfigError(
            f"'{request.model}' and '{request.trust}' do not read the same segments, so they "
            "cannot judge the same draws"
        )
