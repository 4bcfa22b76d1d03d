"""ResNet-18 and S3D: their clocks, and torchvision's weights."""

from pathlib import Path

import pytest
import torch
from torchvision.models.video import s3d as torchvision_s3d

from plugins.resnet18.config import ResNet18Config
from plugins.s3d.config import S3dConfig
from zoo.checkpoints.layouts import find_extractors, read_tensors
from zoo.errors import ConfigError, ModelError


def test_steps_are_where_the_strides_put_them() -> None:
    assert ResNet18Config().feature_map().times_s == (0.0, 0.32, 0.64)
    assert S3dConfig().feature_map().times_s == (0.08, 0.4)
    assert S3dConfig(segment_s=1.28).feature_map().times_s == (0.08, 0.4, 0.72, 1.04)
    with pytest.raises(ConfigError, match=r"s3d cannot take segments of 0\.16 s \(4 frames"):
        S3dConfig(segment_s=0.16).feature_map()


def test_torchvisions_s3d_is_read_without_its_classifier(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision_s3d().eval()
    torch.save(theirs.state_dict(), tmp_path / "s3d.pth")
    (spec, layout, tensors), of_crops = find_extractors(read_tensors(tmp_path / "s3d.pth"))
    assert (spec.name, of_crops[0].name) == ("s3d", "s3d_crop")
    assert layout.name == of_crops[1].name == "s3d-torchvision"
    config = S3dConfig()
    ours = spec.build(config)
    ours.load_state_dict(layout.read(tensors, config, "interpolate"))
    video = torch.randn(1, 3, 16, 64, 64)
    with torch.no_grad():
        features = ours.eval()(video)  # (N, T, P, D)
        layout_of_ours = video.to(memory_format=torch.channels_last_3d)  # other layouts round
        expected = theirs.features(layout_of_ours)  # (N, D, T, H, W)
    assert torch.equal(features.permute(0, 3, 1, 2), expected.flatten(3))
    with pytest.raises(ModelError, match=r"features\.0\.0\.0\.weight' is 64 x 3 x 1 x 7 x 7"):
        layout.read(tensors, S3dConfig(width=16), "interpolate")
