"""Settings."""

from __future__ import annotations

from pydantic import Field

import zoo


class JointConfig(zoo.EncoderConfig):
    """Sizes of the encoder."""

    audio: zoo.LogMel = Field(zoo.LogMel(n_mels=32), description="front end of the audio")
    vision: zoo.Frames = Field(
        zoo.Frames(size=32, short_side=36), description="front end of the video"
    )
    segment_s: float = Field(0.64, gt=0, description="segment length of both, seconds")
    dim: int = Field(32, gt=0, description="D, channels")
    depth: int = Field(1, gt=0, description="transformer layers")
    heads: int = Field(2, gt=0, description="attention heads")

    def io(self) -> zoo.EncoderIO:
        """Return a token per eighth mel frame and per frame."""
        mel_s = [k * self.audio.hop_s for k in range(self.audio.num_frames(self.segment_s) - 1)]
        frame_s = [k / self.vision.fps for k in range(self.vision.num_frames(self.segment_s))]
        return zoo.EncoderIO(
            audio=self.modality(self.audio, mel_s[::8]), vision=self.modality(self.vision, frame_s)
        )

    def modality(self, frontend: zoo.LogMel | zoo.Frames, times_s: list[float]) -> zoo.ModalityIO:
        """Return what is read and given of one modality."""
        times = tuple(round(time_s, 6) for time_s in times_s)
        tokens = zoo.FeatureMap(times_s=times, positions=1, dim=self.dim)
        return zoo.ModalityIO(frontend=frontend, segment_s=self.segment_s, tokens=tokens)


class LoudnessConfig(zoo.TaskConfig):
    """What the output means: how many spreads above the mean a clip is."""

    mean_db: float = Field(-20.0, description="mean level of the training clips, dB")
    spread_db: float = Field(10.0, gt=0, description="standard deviation of their levels, dB")


class LoudnessHeadConfig(zoo.ComponentConfig):
    """Settings of the head."""

    dropout: float = Field(0.0, ge=0, lt=1, description="share of channels dropped in training")


class ClipsConfig(zoo.ComponentConfig):
    """Settings of the data set."""

    every: int = Field(
        4, gt=1, description="of so many clips one is for validation and one for testing"
    )
