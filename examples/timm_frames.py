"""A video extractor made of any image model of timm, applied to one frame at a time.

zoo train --plugin examples/timm_frames.py --extractor ast+timm_frames --data MANIFEST --out RUN
"""

from functools import cache

from pydantic import Field

import zoo
from zoo.errors import ConfigError


class TimmFramesConfig(zoo.ExtractorConfig):
    """Which model, and which frames: ``--set vision.model=convnext_atto``."""

    frontend: zoo.Frames = zoo.Frames()
    model: str = Field("vit_tiny_patch16_224", description="a name of timm.list_models()")
    pretrained: bool = Field(False, description="load its published weights, which timm fetches")
    every: int = Field(2, gt=0, description="frames from one that is seen to the next")
    gain: float | None = Field(None, gt=0, description="of what differs from the mean frame")

    def feature_map(self) -> zoo.FeatureMap:
        """Return (T=8, P=196, D=192) for vit_tiny_patch16_224 and segments of 0.64 s."""
        dim, positions = measure(self.model, self.frontend.size)
        seen = range(0, self.frontend.num_frames(self.segment_s), self.every)
        times_s = tuple(round(frame / self.frontend.fps, 6) for frame in seen)
        return zoo.FeatureMap(times_s=times_s, positions=positions, dim=dim)


def create(name, size, pretrained=False):
    import timm

    how = {"features_only": True, "feature_cls": "getter", "out_indices": (-1,)}
    how |= {"img_size": size} if "vit" in name else {}  # whose table of positions depends on it
    return timm.create_model(name, pretrained, **how)  # (M, C, H, W) to a list of (M, D, h, w)


@cache
def measure(name, size):
    import torch

    try:
        with torch.device("meta"):  # computes nothing
            return create(name, size)(torch.empty(1, 3, size, size))[0].flatten(2).shape[1:]
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"'{name}' cannot read frames of {size} pixels: {error}") from None


def build(config):
    from zoo.models.modules import Extractor, emphasise_change

    class TimmFrames(Extractor):
        def __init__(self):
            super().__init__()
            self.net = create(config.model, config.frontend.size, config.pretrained)

        def forward(self, segments):  # (N, C, Tv, H, W)
            frames = emphasise_change(segments, config.gain)[:, :, :: config.every].transpose(1, 2)
            x = self.net(frames.flatten(0, 1))[0]  # (N*T, D, h, w)
            return x.flatten(2).mT.unflatten(0, frames.shape[:2])  # (N, T, P, D)

    return TimmFrames()


@zoo.hookimpl
def register_extractors() -> list[zoo.ExtractorSpec]:
    tiny = TimmFramesConfig(frontend=zoo.Frames(size=48, short_side=56), model="test_vit", gain=6.4)
    spec = zoo.ExtractorSpec(
        name="timm_frames",
        modality="vision",
        summary="any image model of timm, frame by frame",
        config_class=TimmFramesConfig,
        build=build,
        presets={"paper": TimmFramesConfig(), "tiny": tiny},
        source="timm.list_models()",
        license="MIT; weights have their own",
    )
    return [spec]
