"""Configurations of the two extractors."""

from pydantic import Field

import zoo
from zoo.errors import ConfigError

COLUMNS = 4  # of the log-mel per time step: two strides of 2
SMALLEST_CELLS = 4  # across: two strides of 2 leave one position


class OnsetCnnConfig(zoo.ExtractorConfig):
    """Three convolutions over log-mels and their change from column to column."""

    frontend: zoo.LogMel = zoo.LogMel(n_mels=64)
    width: int = Field(16, gt=0, description="channels of the first convolution; the last has 3x")
    dim: int = Field(64, gt=0, description="D, channels of a token")

    def feature_map(self) -> zoo.FeatureMap:
        """Return (T=16, P=1, D=64) for 0.64 s."""
        steps = self.frontend.num_frames(self.segment_s) // COLUMNS
        if steps < 1:
            raise ConfigError(
                f"onset_cnn cannot take segments of {self.segment_s:g} s: a time step spans "
                f"{COLUMNS * self.frontend.hop_s:g} s"
            )
        step_s, centre_s = (n * self.frontend.hop_s for n in (COLUMNS, (COLUMNS - 1) / 2))
        times_s = tuple(round(i * step_s + centre_s, 6) for i in range(steps))
        return zoo.FeatureMap(times_s=times_s, positions=1, dim=self.dim)


class MotionCnnConfig(zoo.ExtractorConfig):
    """Maps of the motion in square cells, then three convolutions in space and one in time."""

    frontend: zoo.Frames = zoo.Frames(size=64, short_side=72)
    cell: int = Field(4, gt=0, description="side of a cell of the maps, pixels")
    width: int = Field(24, gt=0, description="channels of the first convolution; the second has 2x")
    dim: int = Field(64, gt=0, description="D, channels of the last convolutions")

    def feature_map(self) -> zoo.FeatureMap:
        """Return (T=16, P=16, D=64) for 0.64 s of 64 pixels."""
        cells = self.frontend.size // self.cell
        if self.frontend.size % self.cell or cells < SMALLEST_CELLS:
            raise ConfigError(
                f"motion_cnn cannot cut {self.frontend.size} pixels into cells of {self.cell}: it "
                f"needs {SMALLEST_CELLS} whole ones across"
            )
        frames = self.frontend.num_frames(self.segment_s)
        if frames < 2:
            raise ConfigError(
                f"motion_cnn cannot take segments of {self.segment_s:g} s: one frame does not move"
            )
        times_s = tuple(round(i / self.frontend.fps, 6) for i in range(frames))
        side = -(-cells // 4)  # two strides of 2
        return zoo.FeatureMap(times_s=times_s, positions=side * side, dim=self.dim)
