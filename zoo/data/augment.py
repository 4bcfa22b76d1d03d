"""What varies between two readings of a clip, and how labels are mixed, in training."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from zoo.contracts import ComponentConfig


class Augment(ComponentConfig):
    """What varies between two readings of a clip; nothing does when validating."""

    jitter_s: float = Field(0.0, ge=0, description="largest audio jitter, sampled per clip")
    sampling: Literal["aligned", "wrapped", "middle"] = Field(
        "aligned",
        description="aligned: crops of both streams at one time; wrapped: video anywhere in the "
        "clip, and audio from the same share of it on, beyond the end from the start again, "
        "without jitter, as AV-MAE and MBT; middle: the middle of either, which is what they "
        "validate on",
    )
    flip: float = Field(0.0, ge=0, le=1, description="probability of a horizontal flip, per clip")
    gain_db: float = Field(0.0, ge=0, description="largest random audio gain, either way")
    reverb: float = Field(0.0, ge=0, le=1, description="probability of a room's echo, per clip")
    snr_db: float | None = Field(
        None,
        le=40,
        description="lowest ratio of sound to added noise, sampled per clip; None adds none",
    )
    shift_bins: int = Field(
        0, ge=0, description="most rows that spectrograms move up or down, per clip: other voices"
    )
    random_crop: bool = Field(
        False, description="crop frames at random rather than in the middle, per clip"
    )
    scale_jitter: tuple[PositiveFloat, PositiveFloat] = Field(
        (1.0, 1.0),
        description="smallest and largest factor of the height, and of the width, of frames before "
        "they are cropped, sampled per clip",
    )
    colour_jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability of another brightness, saturation, contrast and hue, per clip",
    )
    grey: float = Field(0.0, ge=0, le=1, description="probability of grey frames, per clip")
    mask_bins: int = Field(
        0, ge=0, description="SpecAugment: rows of a spectrogram to hide, fewer than so many"
    )
    mask_bins_times: int = Field(1, gt=0, description="bands of rows that are hidden")
    mask_frames: int = Field(
        0, ge=0, description="SpecAugment: columns of a spectrogram to hide, fewer than so many"
    )
    mask_frames_times: int = Field(1, gt=0, description="stretches of columns that are hidden")
    mask_fill: Literal["filling", "zero"] = Field(
        "filling",
        description="what hidden places hold: what the front end puts where nothing is, or 0 after "
        "it has normalised, as MBT has it",
    )
    noise: float = Field(
        0.0,
        ge=0,
        description="largest size of uniform noise on normalised spectrograms, sampled per clip",
    )
    roll: float = Field(
        0.0, ge=0, le=1, description="largest shift of spectrograms in a circle, share of a segment"
    )
    frame_choices: int = Field(
        1,
        gt=0,
        description="evenly spaced times of a segment at which video shorter than audio is read, "
        "one of them at random; 1 is the middle",
    )

    @property
    def scales(self) -> bool:
        """Whether the size of frames varies."""
        return self.scale_jitter != (1.0, 1.0)

    @model_validator(mode="after")
    def _one_time_of_the_video(self) -> Self:
        if self.sampling != "aligned" and self.frame_choices > 1:
            raise ValueError(
                f"sampling={self.sampling} and frame_choices both say when video is read"
            )
        return self

    @model_validator(mode="after")
    def _smallest_first(self) -> Self:
        if self.scale_jitter[0] > self.scale_jitter[1]:
            raise ValueError(f"scale_jitter={list(self.scale_jitter)}: the smallest comes first")
        return self


class Softening(ComponentConfig):
    """How labels are spread over classes, and clips mixed."""

    mixup: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the samples that a second clip is mixed into, or of the batches that "
        "are mixed",
    )
    mixup_by: Literal["clip", "batch"] = Field(
        "clip",
        description="clip: waveforms and frames of each sample with those of a random clip, as "
        "CAV-MAE; batch: spectrograms and frames of a worker's batch with those of the reversed "
        "batch, all with one share, and labels smoothed afterwards, as MBT",
    )
    mixup_alpha: float = Field(
        10.0, gt=0, description="the first clip's share is sampled from Beta(alpha, alpha)"
    )
    mixup_frames: Literal["same", "own"] = Field(
        "same",
        description="whether frames are mixed with the audio's share or one of their own: a "
        "uniform one by clip; by batch one of the same Beta, after which each modality has labels "
        "of its own",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of a label that is spread over all classes"
    )

    @property
    def softens(self) -> bool:
        """Whether labels are spread over classes."""
        return bool(self.mixup or self.label_smoothing)

    @property
    def softens_batches(self) -> bool:
        """Whether that happens to whole batches, after they were read."""
        return self.softens and self.mixup_by == "batch"

    @property
    def has_own_labels(self) -> bool:
        """Whether each modality is trained on labels of its own."""
        return bool(self.mixup) and self.softens_batches and self.mixup_frames == "own"
