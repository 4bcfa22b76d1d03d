"""What varies between two readings of a clip, and how labels are mixed, in training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zoo.contracts import ComponentConfig


class Augment(ComponentConfig):
    """What varies between two readings of a clip; nothing does when validating."""

    jitter_s: float = Field(0.0, ge=0, description="largest audio jitter, sampled per clip")
    flip: float = Field(0.0, ge=0, le=1, description="probability of a horizontal flip, per clip")
    gain_db: float = Field(0.0, ge=0, description="largest random audio gain, either way")
    random_crop: bool = Field(
        False, description="crop frames at random rather than in the middle, per clip"
    )
    mask_bins: int = Field(
        0, ge=0, description="SpecAugment: rows of a spectrogram to hide, fewer than so many"
    )
    mask_frames: int = Field(
        0, ge=0, description="SpecAugment: columns of a spectrogram to hide, fewer than so many"
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


class Softening(ComponentConfig):
    """How labels are spread over classes, and clips mixed."""

    mixup: float = Field(
        0.0, ge=0, le=1, description="share of the samples that a second clip is mixed into"
    )
    mixup_alpha: float = Field(
        10.0, gt=0, description="the first clip's share is sampled from Beta(alpha, alpha)"
    )
    mixup_frames: Literal["same", "own"] = Field(
        "same", description="whether frames are mixed with the audio's share, or a uniform one"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of a label that is spread over all classes"
    )

    @property
    def softens(self) -> bool:
        """Whether labels are spread over classes."""
        return bool(self.mixup or self.label_smoothing)
