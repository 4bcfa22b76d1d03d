"""Frozen configurations: front ends, what an encoder reads and gives, and what a head is given."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from zoo.errors import ConfigError, option
from zoo.timeline import (
    LATTICE_TOLERANCE,
    OffsetGrid,
    SegmentLayout,
    SlotGrid,
    to_frames,
    to_samples,
    to_units,
)

Modality = Literal["audio", "vision"]
MaskMode = Literal["unstructured", "time", "frequency", "both"]
Resize = Literal["ffmpeg", "bicubic_uint8", "bicubic_square"]


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
    def filling(self) -> float:
        """What stands where nothing is, or where something was hidden: a 0 before normalising."""
        return -self.mean / (2 * self.std)

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
    def filling(self) -> float:
        """What stands where something was hidden: the mean of a row."""
        return 0.0

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


class KaldiFbank(ComponentConfig):
    """Audio front end: Kaldi's log-mel filter bank of each segment, less its mean.

    What a segment lacks of its frames, at least the last two, is 0 before it is normalised: above
    silence.  (Source: AST and CAV-MAE, arXiv 2210.07839 section 4.1.)
    """

    kind: Literal["kaldi_fbank"] = "kaldi_fbank"
    sample_rate_hz: int = Field(16_000, gt=0, description="audio samples per second")
    n_mels: int = Field(128, gt=0, description="F, mel bins")
    win_s: float = Field(0.025, gt=0, description="window length, seconds")
    hop_s: float = Field(0.010, gt=0, description="time between two mel frames, seconds")
    mean: float = Field(-5.081, description="mean over AudioSet")
    std: float = Field(4.4849, gt=0, description="standard deviation over AudioSet")

    @property
    def filling(self) -> float:
        """What stands where nothing is, or where something was hidden: a 0 before normalising."""
        return -self.mean / self.std

    @property
    def hop_length(self) -> int:
        """Time between two mel frames, samples."""
        return to_samples(self.hop_s, self.sample_rate_hz)

    @property
    def num_bins(self) -> int:
        """F, rows of the spectrogram."""
        return self.n_mels

    def num_frames(self, segment_s: float) -> int:
        """Return Ta: 1024 mel frames for 10.24 s, 64 for 0.64 s."""
        return to_units(segment_s, 1 / self.hop_s, "mel frames")

    def segment_shape(self, segment_s: float) -> tuple[int, ...]:
        """Return (F, Ta) of a segment."""
        return self.num_bins, self.num_frames(segment_s)


class MelAmplitude(ComponentConfig):
    """Audio front end: log of the mel-weighted amplitude spectrum, a frame per hop.

    Frame i begins at sample ``i * hop_length``; behind the end there are zeros.  The triangles are
    HTK's, built on the mel scale.  The front end of Audiovisual MAE and MBT is not published: its
    window (Hamming), hop and number of bins are known, the rest is a proposal of this project.
    """

    kind: Literal["mel_amplitude"] = "mel_amplitude"
    sample_rate_hz: int = Field(16_000, gt=0, description="audio samples per second")
    n_mels: int = Field(128, gt=0, description="F, mel bins")
    n_fft: int = Field(1024, gt=0, description="FFT length, samples")
    win_length: int = Field(400, gt=0, description="length of the Hamming window, samples")
    hop_length: int = Field(160, gt=0, description="hop, samples")
    low_hz: float = Field(60.0, ge=0, description="lower end of the first bin")
    high_hz: float = Field(7800.0, gt=0, description="upper end of the last bin")
    floor: float = Field(1e-3, gt=0, description="added before the log")
    mean: float = Field(0.0, description="subtracted; nothing by default, as published")
    std: float = Field(1.0, gt=0, description="divides")

    @model_validator(mode="after")
    def _fits(self) -> MelAmplitude:
        if self.win_length > self.n_fft:
            raise ValueError(f"n_fft={self.n_fft} is shorter than win_length={self.win_length}")
        if not self.low_hz < self.high_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"low_hz={self.low_hz:g} and high_hz={self.high_hz:g} are no band below half of "
                f"sample_rate_hz={self.sample_rate_hz}"
            )
        return self

    @property
    def filling(self) -> float:
        """What stands where something was hidden: silence."""
        return (math.log(self.floor) - self.mean) / self.std

    @property
    def hop_s(self) -> float:
        """Time between two mel frames, seconds."""
        return self.hop_length / self.sample_rate_hz

    @property
    def num_bins(self) -> int:
        """F, rows of the spectrogram."""
        return self.n_mels

    def num_frames(self, segment_s: float) -> int:
        """Return Ta: 800 mel frames for 8 s."""
        return -(-to_samples(segment_s, self.sample_rate_hz) // self.hop_length)

    def segment_shape(self, segment_s: float) -> tuple[int, ...]:
        """Return (F, Ta) of a segment."""
        return self.num_bins, self.num_frames(segment_s)


class Frames(ComponentConfig):
    """Video front end: RGB frames, short side resized, cropped to a square, normalised.

    ``resize`` says how, where weights expect what their authors' code reads (`zoo.media.resize`).
    """

    kind: Literal["frames"] = "frames"
    fps: float = Field(25.0, gt=0, description="video frames per second")
    size: int = Field(224, gt=0, description="H = W of the crop, pixels")
    short_side: int = Field(256, gt=0, description="short side before the crop, pixels")
    resize: Resize = Field(
        "ffmpeg",
        description="FFmpeg's bicubic scaling; bicubic_uint8: Pillow's, as CAV-MAE reads; "
        "bicubic_square: both sides to short_side, the aspect lost, unclipped, as AVSiam reads",
        exclude_if=lambda how: how == "ffmpeg",  # so that what earlier versions wrote stays equal
    )
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


AudioFrontend = LogMel | Spectrogram | KaldiFbank | MelAmplitude


class FeatureMap(ComponentConfig):
    """Shape and clock of an extractor's output ``(N, T, P, D)``, or of tokens ``(N, T*P, D)``.

    The tokens of most aggregators have P = 1.
    """

    times_s: tuple[float, ...] = Field(
        description="centre of each time step from the start of the segment, seconds"
    )
    positions: int = Field(gt=0, description="P, mel bands or image patches per time step")
    dim: int = Field(gt=0, description="D, channels")
    passes: int = Field(
        1, gt=0, description="answers of different passes among the positions, side by side"
    )

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


class HeadInput(ComponentConfig):
    """What a head is given: tokens of both modalities, where they lie in time, and the outputs."""

    audio: FeatureMap
    vision: FeatureMap
    layout: SegmentLayout
    num_outputs: int = Field(gt=0, description="K, outputs per clip that the task asks for")
    grid: OffsetGrid | None = Field(None, description="offset classes, where the task has some")
    slots: SlotGrid | None = Field(
        None,
        description="slots of a crop that the task asks about one by one, where it does: outputs "
        "are those of the first slot, then of the next",
    )

    def require_grid(self, head: str) -> OffsetGrid:
        """Return the offset classes, for a head that looks for offsets.

        Raises:
            ConfigError: if the task has none.
        """
        if self.grid is None:
            raise ConfigError(f"head '{head}' looks for offsets, and the task has no offset grid")
        return self.grid

    def require_slots(self, head: str) -> SlotGrid:
        """Return the slots, for a head that answers for each of them.

        Raises:
            ConfigError: if the task has none.
        """
        if self.slots is None:
            raise ConfigError(f"head '{head}' answers slot by slot, and the task has no slots")
        return self.slots

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
