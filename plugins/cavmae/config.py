"""Configuration of the encoder ``cavmae``: sizes, and what is read of both modalities."""

from typing import Literal

from pydantic import Field, model_validator

import zoo
from zoo.errors import ConfigError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class CavMaeConfig(zoo.EncoderConfig):
    """A transformer for each modality, and a shared one on top (arXiv 2210.07839 section 3)."""

    width: int = Field(768, gt=0, multiple_of=4, description="D, channels")
    heads: int = Field(12, gt=0, description="attention heads")
    depth: int = Field(11, ge=0, description="blocks of either modality by itself")
    shared_depth: int = Field(1, gt=0, description="blocks of both modalities")
    patch: int = Field(16, gt=0, description="height and width of a patch, pixels or mel bins")
    audio_frontend: zoo.KaldiFbank = zoo.KaldiFbank()
    audio_s: float = Field(10.24, gt=0, description="audio of a segment, seconds")
    vision_frontend: zoo.Frames = zoo.Frames(
        fps=25.0, size=224, short_side=224, mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    vision_s: float = Field(0.04, gt=0, description="video of a segment, seconds: one frame")
    mode: Literal["joint", "apart", "other_missing"] = Field(
        "joint",
        description="whether the shared blocks see both modalities together, each by itself, or, "
        "where the other is missing, each by itself in both ways",
    )
    pool_positions: bool = Field(
        True,
        description="give the mean over positions: one token per time step, as heads for "
        "offsets want; else a token for every patch",
    )
    idle_norms: bool = Field(
        False, description="keep the norms of published files that no pass uses"
    )

    @model_validator(mode="after")
    def _whole_heads(self) -> "CavMaeConfig":
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}")
        return self

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Rows (frequency) and columns (time) of audio patches: 8 x 64.

        Raises:
            ConfigError: if patches do not cover the spectrogram exactly.
        """
        bins, frames = self.audio_frontend.segment_shape(self.audio_s)
        return self._whole(bins, "mel bins"), self._whole(frames, "mel frames")

    @property
    def vision_grid(self) -> tuple[int, int, int]:
        """Frames, rows and columns of video patches: 1 x 14 x 14."""
        side = self._whole(self.vision_frontend.size, "pixels")
        return self.vision_frontend.num_frames(self.vision_s), side, side

    def _whole(self, size: int, unit: str) -> int:
        if size % self.patch:
            raise ConfigError(
                f"cavmae: {size} {unit} are no whole number of patches of {self.patch}"
            )
        return size // self.patch

    def io(self) -> zoo.EncoderIO:
        """Return what is read, and a token for every patch or time step."""
        rows, columns = self.audio_grid
        frames, height, width = self.vision_grid
        passes = 2 if self.mode == "other_missing" else 1
        column_s, frame_s = self.audio_s / columns, self.vision_s / frames
        audio = zoo.ModalityIO(
            frontend=self.audio_frontend,
            segment_s=self.audio_s,
            tokens=zoo.FeatureMap(
                times_s=tuple(round((i + 0.5) * column_s, 9) for i in range(columns)),
                positions=1 if self.pool_positions else rows * passes,
                dim=self.width,
            ),
        )
        vision = zoo.ModalityIO(
            frontend=self.vision_frontend,
            segment_s=self.vision_s,
            tokens=zoo.FeatureMap(
                times_s=tuple(round((i + 0.5) * frame_s, 9) for i in range(frames)),
                positions=1 if self.pool_positions else height * width * passes,
                dim=self.width,
            ),
        )
        segment_s = max(self.audio_s, self.vision_s)
        return zoo.EncoderIO(audio=audio.within(segment_s), vision=vision.within(segment_s))
