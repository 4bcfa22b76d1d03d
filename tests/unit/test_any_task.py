"""Prediction with tasks and encoders that the zoo has never heard of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.catalog.model_folder import save_model
from zoo.cli.app import run
from zoo.data.clip_reader import ClipReader
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError
from zoo.inference.crops import ClipEncoder, SlidingTokens, encode_crops
from zoo.inference.predictor import Predictor
from zoo.inference.windows import find_streams, plan_windows
from zoo.models.config import Component, ModelConfig
from zoo.models.model import Model
from zoo.registry.manager import add_plugin_file, registry

PLUGIN = '''
import torch
import zoo
from zoo.contracts import EncoderIO, ModalityIO

class JointConfig(zoo.EncoderConfig):
    def io(self):
        tokens = zoo.FeatureMap(times_s=(0.32,), positions=1, dim=1)
        frames = zoo.Frames(size=32, short_side=32)
        return EncoderIO(
            audio=ModalityIO(frontend=zoo.LogMel(), segment_s=0.64, tokens=tokens),
            vision=ModalityIO(frontend=frames, segment_s=0.16, tokens=tokens),
        )

def build_encoder(config):
    class Joint(zoo.Encoder):
        """Both tokens of a segment are the sum of its loudness and its brightness."""

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def encode(self, segments):
            both = segments.audio.mean((2, 3)) + segments.vision.mean((2, 3, 4, 5))  # (B, S)
            tokens = zoo.Tokens(self.scale * both[:, :, None, None, None], (0.32,))
            return tokens, tokens

    return Joint()

def build_head(config, given):
    class Last(zoo.Head):
        def forward(self, audio, vision):
            return torch.stack([audio.values.mean((1, 2, 3, 4)), audio.values[:, 0, 0, 0, 0]], 1)

    return Last()

def build_task(config):
    class Loudness(zoo.Task):
        says = "says how loud a clip is"
        num_outputs, num_sums, chance = 2, 1, {}
        need = sample = loss = sums = scores = None

    return Loudness()

class Config(zoo.ComponentConfig): ...
class TaskConfig(zoo.TaskConfig): ...

@zoo.hookimpl
def register_encoders():
    return [zoo.EncoderSpec(
        name="joint", summary="s", config_class=JointConfig, build=build_encoder)]

@zoo.hookimpl
def register_heads():
    return [zoo.HeadSpec(
        name="last", summary="s", config_class=Config, build=build_head, tasks=("loudness",))]

@zoo.hookimpl
def register_tasks():
    return [zoo.TaskSpec(
        name="loudness", summary="s", config_class=TaskConfig, build=build_task,
        scores=(zoo.Score(name="error", title="error"),), rank=("error",))]
'''


@pytest.fixture
def joint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """A model of a plugin: both modalities at once, segments of 0.64 s beside 0.16 s."""
    file = tmp_path / "loudness.py"
    file.write_text(PLUGIN)
    monkeypatch.setenv("ZOO_PLUGINS", "")
    add_plugin_file(file)
    assert not [failure for failure in registry().failures if failure.plugin == "loudness"]
    config = ModelConfig(
        encoder=Component(name="joint"),
        task=Component(name="loudness"),
        head=Component(name="last"),
        layout=zoo.SegmentLayout(num_segments=5),
    )
    yield Model(config).eval()
    registry.cache_clear()


@pytest.fixture
def folder(joint: Model, tmp_path: Path) -> Path:
    save_model(tmp_path / "model", joint)
    return tmp_path / "model"


def test_a_task_predicts_that_says_nothing_of_its_outputs(folder: Path, clips: Manifest) -> None:
    answer = zoo.load(folder).predict(clips.clips[0].path)
    assert answer.task == "loudness"
    assert len(answer.windows_s) > 5
    mean, _first = answer.as_dict()["outputs"]
    assert answer.lines()[0].startswith(f"outputs: {mean:.4g}, ")
    json.dumps(answer.as_dict())


def test_an_encoder_of_both_modalities_sees_every_crop_whole(joint: Model, clips: Manifest) -> None:
    streams = find_streams(clips.clips[0].path)
    plan = plan_windows(streams, joint, "joint")
    assert plan.firsts.step == 3  # half of 1.92 s, in steps of 0.32 s
    encoder = ClipEncoder(joint, streams)
    crops = list(encode_crops(encoder, plan))
    tokens = torch.cat([crop.audio.values for crop in crops])
    assert tokens.shape == (len(plan.firsts), 5, 1, 1, 1)
    first = plan.firsts[1]
    audio = encoder.read("audio", first, first + 5)
    vision = encoder.read("vision", first, first + 5)
    assert audio.shape[2] == 66
    assert vision.shape[2] == 4
    expected = audio.mean((1, 2)) + vision.mean((1, 2, 3, 4))
    assert torch.allclose(tokens[1].flatten(), expected, atol=1e-5)


def test_the_shorter_modality_is_read_in_the_middle(joint: Model, clips: Manifest) -> None:
    encoder = ClipEncoder(joint, find_streams(clips.clips[0].path))
    short = encoder.read("vision", 2, 3)[0]
    reader = ClipReader(joint.vision_frontend, joint.audio_frontend)
    long = reader.read_segments("vision", clips.clips[0].path, [0.64], 0.64)[0]
    np.testing.assert_array_equal(short, long[:, 6:10])


def test_search_needs_an_encoder_of_one_modality_at_a_time(joint: Model, clips: Manifest) -> None:
    encoder = ClipEncoder(joint, find_streams(clips.clips[0].path))
    with pytest.raises(ConfigError, match="looks at both modalities at once"):
        SlidingTokens(encoder, "audio")


def test_the_command_says_the_answer_in_words(
    folder: Path, clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = str(clips.clips[0].path)
    assert run(["predict", str(folder), clip]) == 0
    assert "outputs: " in capsys.readouterr().out
    assert run(["info", str(folder)]) == 0
    assert "loudness" in capsys.readouterr().out
    table = tmp_path / "table.csv"
    assert run(["predict", str(folder), clip, "--csv", str(table), "--workers", "1"]) == 0
    assert table.read_text().startswith("path,answer,facts,")
    assert "outputs: " in table.read_text()


@pytest.mark.parametrize(
    "options",
    [
        ["--step", "0.04"],
        ["--max-offset", "5"],
        ["--synchronizability", "tiny-synthetic-trust"],
        ["--plot", "a.png"],
        ["--explain"],
        ["--step", "0.04", "--csv", "a.csv"],
    ],
)
def test_options_for_offsets_are_refused_in_one_sentence(
    folder: Path, clips: Manifest, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(folder), str(clips.clips[0].path), *options]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"{options[0]} is for models that find offsets, and" in error
    assert "says how loud a clip is" in error


def test_a_repair_takes_a_model_that_finds_offsets(
    folder: Path, clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fixed.mp4"
    assert run(["fix", str(folder), str(clips.clips[0].path), "-o", str(out)]) == 2
    assert "says how loud a clip is, not by how much the audio is off" in " ".join(
        capsys.readouterr().err.split()
    )


def test_whether_a_clip_can_be_synchronized_is_an_answer_too(clips: Manifest) -> None:
    predictor = zoo.load("tiny-synthetic-trust")
    assert type(predictor) is Predictor
    answer = predictor.predict(clips.clips[0].path)
    assert answer.as_dict()["synchronizability"] > 0.5
    assert "can be synchronized (probability that they can: 0." in answer.lines()[0]
