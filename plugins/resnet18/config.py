"""Configuration of the ResNet-18 extractor; the defaults are the published sizes."""

from pydantic import Field

import zoo

STRIDE = 32  # of the last feature map, in both axes


class ResNet18Config(zoo.ExtractorConfig):
    """A ResNet-18 without its pooling and classifier."""

    frontend: zoo.LogMel | zoo.Spectrogram = zoo.LogMel()
    width: int = Field(64, gt=0, description="channels of the first stage; the last has 8 times")
    change_gain: float | None = Field(
        None,
        gt=0,
        description="subtract each segment's mean spectrum and multiply by this; None leaves it",
    )

    def feature_map(self) -> zoo.FeatureMap:
        """Return (T=3, P=4, D=512) for log-mels of 0.64 s, (20, 9, 512) for spectrograms of 5 s."""
        columns = self.frontend.num_frames(self.segment_s)
        # All strides are padded: output i is centred on column 32 i, which is at 32 i hops.
        steps = range(-(-columns // STRIDE))
        times_s = (round(i * STRIDE * self.frontend.hop_s, 6) for i in steps)
        return zoo.FeatureMap(
            times_s=tuple(times_s),
            positions=-(-self.frontend.num_bins // STRIDE),
            dim=8 * self.width,
        )
