"""Evaluating what a third party brings: a task of its own, and an encoder of both modalities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.catalog.model_folder import save_model
from zoo.cli.app import run
from zoo.data.manifest import Clip, Manifest
from zoo.errors import ConfigError, ManifestError
from zoo.evaluation.evaluation_request import Request
from zoo.evaluation.report import evaluate
from zoo.evaluation.report_files import report_tables, write_report
from zoo.models.config import Component, ModelConfig
from zoo.models.model import Model
from zoo.registry.manager import add_plugin_file, registry
from zoo.timeline import SegmentLayout

PLUGIN = Path(__file__).parents[1] / "event_rate.py"


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    """Bring the plugin, and leave none of it to other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_PLUGINS", "")
        add_plugin_file(PLUGIN)
        yield
    registry.cache_clear()


@pytest.fixture(scope="module")
def folder(plugin: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of nothing but parts of a third party."""
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
