"""Configuration of the S3D extractor; the defaults are the published sizes."""

from pydantic import Field

import zoo
from zoo.errors import ConfigError

SHORTEST_FRAMES, SMALLEST_PIXELS = 8, 32


class S3dConfig(zoo.ExtractorConfig):
    """An S3D without its pooling and classifier."""

    frontend: zoo.Frames = zoo.Frames()
    width: int = Field(
        64, gt=0, multiple_of=4, description="channels of the stem; the last block has 16 times"
    )
    norm_momentum: float = Field(
        0.001,
        gt=0,
        le=1,
        description="of the batch norms' averages; the published one is too slow without weights",
    )
    bridge: int | None = Field(
        None, gt=0, description="channels to reduce the features to, through a GELU; None is all"
    )
    motion_gain: float | None = Field(
        None,
        gt=0,
        description="subtract each segment's mean frame and multiply by this; None leaves it",
    )

    def feature_map(self) -> zoo.FeatureMap:
        """Return (T=2, P=49, D=1024) for 0.64 s, (16, 49, 512) for 5 s bridged to 512."""
        frames, size = self.frontend.num_frames(self.segment_s), self.frontend.size
        if frames < SHORTEST_FRAMES or size < SMALLEST_PIXELS:
            raise ConfigError(
                f"s3d cannot take segments of {self.segment_s:g} s ({frames} frames of {size} "
                f"pixels): it needs {SHORTEST_FRAMES} frames of {SMALLEST_PIXELS} pixels"
            )
        # Two padded strides centre step i on frame 4 i; the last pooling joins two such steps.
        steps = range(-(-frames // 4) // 2)
        times_s = (round((8 * i + 2) / self.frontend.fps, 6) for i in steps)
        side = -(-size // 16) // 2
        dim = self.bridge or 16 * self.width
        return zoo.FeatureMap(times_s=tuple(times_s), positions=side * side, dim=dim)
