"""Evaluating what a third party brings: a task of its own, and an encoder of both modalities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from zoo.catalog.model_folder import save_model
from zoo.cli.app import run
from zoo.data.manifest import Clip, Manifest
from zoo.errors import ConfigError, ManifestError
from zoo.evaluation.evaluation_request import Request
from zoo.evaluation.report import evaluate
from zoo.evaluation.report_files import report_tables, write_report
from zoo.models.config import Component, ModelConfig
from zoo.models.model import Model
from zoo.models.modules import Encoder, Head
from zoo.models.segments import Segments, Tokens
from zoo.models.task import Need, Task
from zoo.registry.manager import registry
from zoo.timeline import Placement, Sample, SegmentLayout, place_crops

TOKENS = zoo.FeatureMap(times_s=(0.1, 0.3), positions=1, dim=8)


class JointConfig(zoo.EncoderConfig):
    """Audio of 0.64 s beside a single frame."""

    def io(self) -> zoo.EncoderIO:
        """Say what is read."""
        audio = zoo.ModalityIO(frontend=zoo.LogMel(), segment_s=0.64, tokens=TOKENS)
        frames = zoo.Frames(size=32, short_side=32)
        vision = zoo.ModalityIO(frontend=frames, segment_s=0.04, tokens=TOKENS)
        return zoo.EncoderIO(audio=audio, vision=vision)


class Joint(Encoder):
    """Every token sees both modalities."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.vision = torch.nn.Linear(128, 16), torch.nn.Linear(3, 16)

    def encode(self, segments: Segments) -> tuple[Tokens, Tokens]:
        """Mix the means of both."""
        assert segments.vision.shape[3] == 1
        mixed = self.audio(segments.audio.mean(-1)) * self.vision(segments.vision.mean((3, 4, 5)))
        values = mixed.unflatten(-1, (2, 1, 8))  # (B, S, T, P, D)
        return Tokens(values, TOKENS.times_s), Tokens(values, TOKENS.times_s)


class EventRateConfig(zoo.TaskConfig):
    """Nothing to set."""


class EventRate(Task):
    """Regression: how many events a clip has per second, with nothing but what must be said."""

    num_sums = 2
    loss_name = "squared_error"

    @property
    def num_outputs(self) -> int:
        """One number."""
        return 1

    def need(self, layout: SegmentLayout, hop_s: float) -> Need:
        """The crop alone."""
        return Need(layout.covered_s, "nothing else")

    def sample(
        self, rng: np.random.Generator, index: int, clip: Clip, duration_s: float, place: Placement
    ) -> Sample:
        """Cut both at one place."""
        rate = len(clip.events_s or ()) / clip.duration_s
        return place_crops(rng, index, duration_s, place, 0.0, rate)

    def loss(self, outputs: Tensor, targets: Tensor, sigma: float) -> Tensor:
        """Return the squared error."""
        return (outputs[:, 0] - targets).square().mean()

    def sums(self, outputs: Tensor, targets: Tensor) -> list[float]:
        """Add up squared errors."""
        return [float((outputs[:, 0] - targets).square().sum()), float(len(targets))]

    def scores(self, sums: Sequence[float]) -> dict[str, float]:
        """Divide."""
        return {"squared_error": sums[0] / max(1.0, sums[1]), "num": int(sums[1])}

    @property
    def chance(self) -> dict[str, float]:
        """Say what a constant scores."""
        return {"squared_error": 1.0}


class Mean(Head):
    """The mean of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 1)

    def forward(self, audio: Tokens, vision: Tokens) -> Tensor:
        """Average."""
        return self.linear((audio.flat + vision.flat).mean(1))


class Plugin:
    """What a package would register."""

    @zoo.hookimpl
    def register_encoders(self) -> list[zoo.EncoderSpec]:
        """Register ``joint``."""
        config = JointConfig()
        return [
            zoo.EncoderSpec(
                name="joint",
                summary="both at once",
                config_class=JointConfig,
                build=lambda _: Joint(),
                presets={"tiny": config, "paper": config},
            )
        ]

    @zoo.hookimpl
    def register_tasks(self) -> list[zoo.TaskSpec]:
        """Register ``event_rate``."""
        return [
            zoo.TaskSpec(
                name="event_rate",
                summary="events per second",
                config_class=EventRateConfig,
                build=lambda _: EventRate(),
                scores=(
                    zoo.Score(
                        name="squared_error",
                        title="squared error",
                        unit="number",
                        is_higher_better=False,
                    ),
                ),
                rank=("squared_error",),
                columns=("events_s",),
            )
        ]

    @zoo.hookimpl
    def register_heads(self) -> list[zoo.HeadSpec]:
        """Register ``mean_of_all``."""
        return [
            zoo.HeadSpec(
                name="mean_of_all",
                summary="a mean",
                config_class=zoo.ComponentConfig,
                build=lambda *_: Mean(),
                tasks=("event_rate",),
            )
        ]


def bring_plugin() -> None:
    found, plugin = registry(), Plugin()
    found.encoders.update({spec.name: spec for spec in plugin.register_encoders()})
    found.tasks.update({spec.name: spec for spec in plugin.register_tasks()})
    found.heads.update({spec.name: spec for spec in plugin.register_heads()})
    parts = ("encoders joint", "tasks event_rate", "heads mean_of_all")
    found.plugins.update(dict.fromkeys(parts, "theirs"))


@pytest.fixture(autouse=True)
def _their_plugin() -> Iterator[None]:
    """Bring the plugin, and leave none of it to other tests."""
    bring_plugin()
    yield
    registry.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of nothing but parts of a third party."""
    bring_plugin()
    torch.manual_seed(0)
    config = ModelConfig(
        encoder=Component(name="joint"),
        task=Component(name="event_rate"),
        head=Component(name="mean_of_all"),
        layout=SegmentLayout(num_segments=4),
    )
    folder = tmp_path_factory.mktemp("theirs") / "model"
    save_model(folder, Model(config).eval())
    return folder


def request(folder: Path, clips: Manifest, **options: Any) -> Request:
    manifest = clips.folder / "manifest.parquet"
    return Request(model=str(folder), data=manifest, split="train", rounds=2, **options)


def test_a_regression_on_a_joint_encoder_has_a_report(
    folder: Path, clips: Manifest, tmp_path: Path
) -> None:
    evaluation = evaluate(request(folder, clips))
    report = evaluation.report
    assert (report["task"], report["features"]) == ("event_rate", "online")
    assert "offset_classes_s" not in report
    assert report["pooled"]["num"] == 2 * report["num_clips"] == 8
    assert len(report["per_round"]) == 2
    assert report["spread"]["squared_error"] >= 0
    assert report["interval"] is None
    own = report["pooled"]["squared_error"]
    assert set(report["controls"]) == {"audio of another clip", "audio blanked", "video blanked"}
    assert all(scores["squared_error"] != own for scores in report["controls"].values())
    (table,) = report_tables(evaluation)
    assert table.header == ["", "squared error"]
    assert [row[0] for row in table.rows][-1] == "chance"
    (tmp_path / "out").mkdir()
    files = write_report(evaluation, tmp_path / "out")
    assert [file.name for file in files] == ["report.json", "report.md"]


def test_the_table_of_another_task_is_printed(
    folder: Path, clips: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(folder), "--data", str(clips.folder / "manifest.parquet")]
    assert run([*words, "--split", "train", "--rounds", "1"]) == 0
    assert "squared error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": "store"}, "looks at both modalities at once"),
        ({"as_published": True}, "the published code does not know the task 'event_rate'"),
        ({"synchronizability": "tiny-synthetic-trust"}, "goes with a model that predicts offsets"),
    ],
)
def test_what_another_task_cannot_do_is_one_sentence(
    folder: Path, clips: Manifest, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        evaluate(request(folder, clips, **options))
    with pytest.raises(ConfigError, match="fixed offsets are for models that predict offsets"):
        evaluate(Request(model=str(folder), data=Path("m.parquet"), protocol="fixed"))


def test_a_manifest_without_the_task_s_column_is_one_sentence(
    folder: Path, clips: Manifest, tmp_path: Path
) -> None:
    bare = [Clip(**{**vars(clip), "events_s": None}) for clip in clips.clips]
    Manifest(tuple(bare), tmp_path).write(tmp_path / "m.parquet")
    asked = Request(model=str(folder), data=tmp_path / "m.parquet", split="train")
    with pytest.raises(ManifestError, match="needs the column 'events_s' of the manifest"):
        evaluate(asked)
