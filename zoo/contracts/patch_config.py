"""Configuration that encoders of patches share: what is read, where patches lie, what is given."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from zoo.contracts.configs import (
    AudioFrontend,
    EncoderConfig,
    EncoderIO,
    FeatureMap,
    Frames,
    KaldiFbank,
    ModalityIO,
)
from zoo.errors import ConfigError
from zoo.timeline import SegmentLayout

WHOLE_CLIP = SegmentLayout(num_segments=1, segment_s=10.24, step_s=10.24)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET_FRAMES = Frames(fps=25.0, size=224, short_side=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)


class PatchEncoderConfig(EncoderConfig):
    """Square patches of spectrograms and frames, through transformer blocks of one width.

    The defaults read 10.24 s of audio beside one frame.
    """

    width: int = Field(768, gt=0, multiple_of=4, description="D, channels")
    heads: int = Field(12, gt=0, description="attention heads")
    patch: int = Field(16, gt=0, description="height and width of a patch, pixels or mel bins")
    time_first: ClassVar[bool] = False
    """Whether the patches of audio are counted time by time, else bin by bin."""
    audio_frontend: AudioFrontend = Field(KaldiFbank(), description="the spectrogram of audio")
    audio_s: float = Field(10.24, gt=0, description="audio of a segment, seconds")
    vision_frontend: Frames = IMAGENET_FRAMES
    vision_s: float = Field(0.04, gt=0, description="video of a segment, seconds: one frame")
    audio_change_gain: float | None = Field(
        None,
        gt=0,
        description="subtract a segment's mean spectrum and multiply what remains; None leaves it",
    )
    vision_change_gain: float | None = Field(
        None, gt=0, description="the same with a segment's mean frame, where it has several"
    )
    mode: Literal["joint", "apart", "other_missing", "both"] = Field(
        "joint",
        description="whether the joint blocks see both modalities together, each modality goes by "
        "itself, or, where the other is missing, each by itself in both ways; both gives the "
        "tokens of joint and apart side by side, as the head linear_each takes them",
    )
    pool_positions: bool = Field(
        True,
        description="give the mean over positions: one token per time step, as heads for offsets "
        "want; else a token for every patch",
    )

    @model_validator(mode="after")
    def _whole_heads(self) -> PatchEncoderConfig:
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}")
        return self

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Rows (frequency) and columns (time) of audio patches: 8 x 64; a rest is cut off."""
        bins, frames = self.audio_frontend.segment_shape(self.audio_s)
        return self._count(bins, "mel bins"), self._count(frames, "mel frames")

    @property
    def vision_grid(self) -> tuple[int, int, int]:
        """Frames, rows and columns of video patches: 1 x 14 x 14; a rest is cut off."""
        side = self._count(self.vision_frontend.size, "pixels")
        frames, depth = self.vision_frontend.num_frames(self.vision_s), self.patch_frames
        if frames < depth:
            raise ConfigError(f"{frames} frames are fewer than a patch of {depth} has")
        return frames // depth, side, side

    @property
    def patch_frames(self) -> int:
        """Frames that a patch of video covers."""
        return 1

    def _count(self, size: int, unit: str) -> int:
        if size < self.patch:
            raise ConfigError(f"{size} {unit} are fewer than a patch of {self.patch} has")
        return size // self.patch

    def io(self) -> EncoderIO:
        """Return what is read, and a token for every patch or time step."""
        rows, columns = self.audio_grid
        frames, height, width = self.vision_grid
        passes = 2 if self.mode in {"other_missing", "both"} else 1
        means = 2 if self.mode == "both" else 1
        column_s = self.patch * self.audio_frontend.hop_s
        frame_s = self.patch_frames / self.vision_frontend.fps

        def tokens(steps: int, step_s: float, positions: int) -> FeatureMap:
            return FeatureMap(
                times_s=tuple(round((i + 0.5) * step_s, 9) for i in range(steps)),
                positions=means if self.pool_positions else positions * passes,
                passes=means,
                dim=self.width,
            )

        audio = ModalityIO(
            frontend=self.audio_frontend,
            segment_s=self.audio_s,
            tokens=tokens(columns, column_s, rows),
        )
        vision = ModalityIO(
            frontend=self.vision_frontend,
            segment_s=self.vision_s,
            tokens=tokens(frames, frame_s, height * width),
        )
        segment_s = max(self.audio_s, self.vision_s)
        return EncoderIO(audio=audio.within(segment_s), vision=vision.within(segment_s))
