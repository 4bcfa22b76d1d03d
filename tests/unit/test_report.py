"""Reports: scores, a second model, and what is written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.catalog.model_folder import save_model
from zoo.cli.app import run
from zoo.data.manifest import Clip, Manifest
from zoo.evaluation.evaluation_request import Request
from zoo.evaluation.report import evaluate, evaluate_manifest
from zoo.evaluation.report_files import markdown, report_tables, write_report
from zoo.evaluation.rounds import Outcome
from zoo.evaluation.sample_sources import Samples
from zoo.evaluation.scoring import score_task
from zoo.models.config import Component
from zoo.models.model import Model, build_task
from zoo.registry.manager import registry
from zoo.timeline import OffsetGrid, Sample, SegmentLayout
from zoo.training.recipe import Recipe

GRID = OffsetGrid()
APART_S = 4.8


class Listed(Samples):
    """Clips with known events, nothing to read."""

    def __init__(self, num: int) -> None:
        row = {"split": "test", "duration_s": 10.0, "video_fps": 25.0, "width": 8, "height": 8}
        audio = {"sample_rate_hz": 16_000, "channels": 1}
        self.clips = [
            Clip(path=Path(f"{i}.mp4"), events_s=(3.0,), **row, **audio)  # type: ignore[arg-type]
            for i in range(num)
        ]
        self.layout, self.usable, self.left_out = SegmentLayout(), list(range(num)), {}

    def sample(self, clip: int, number: int) -> tuple[Sample, None]:
        raise NotImplementedError


def sample(clip: int, target: int, offset_s: float | None = None) -> Sample:
    offset_s = GRID.offsets_s[target] if offset_s is None else offset_s
    start_s = max(0.0, -offset_s)
    return Sample(clip, start_s, start_s + offset_s, target)


def sure_of(classes: list[int], num: int = 21) -> torch.Tensor:
    return 8.0 * torch.nn.functional.one_hot(torch.tensor(classes), num).float()


def test_offset_scores_are_per_round_and_pooled() -> None:
    classes = [0, 5, 10, 20]
    outcome = Outcome(
        [sample(i, k) for _ in range(2) for i, k in enumerate(classes)],
        [0] * 4 + [1] * 4,
        {"": [sure_of(classes), sure_of([0, 6, 10, 10])], "audio blanked": [sure_of([3] * 8)]},
    )
    scores = score_task(build_task(Component(name="offset")), outcome, Listed(4), seed=0)
    assert [one["accuracy"] for one in scores["per_round"]] == [1.0, 0.5]
    assert scores["pooled"]["accuracy"] == 0.75
    assert scores["pooled"]["within_one"] == 0.875
    assert scores["spread"]["accuracy"] == 0.25
    low, high = scores["interval"]["accuracy"]
    assert 0.5 <= low < 0.75 < high <= 1.0
    assert np.array(scores["confusion"])[5].tolist() == [0] * 5 + [1, 1] + [0] * 14
    assert scores["controls"]["audio blanked"]["accuracy"] == 0.0
    assert scores["published_metrics"]["accuracy_1"] == 0.75
    assert 0 < scores["common_event_share"] <= 1


def test_synchronizability_is_accuracy_and_area() -> None:
    targets = [0, 1, 0, 1]
    outputs = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 1.0], [0.0, 3.0]])
    samples = [sample(i, t, 0.0) for i, t in enumerate(targets)]
    outcome = Outcome(samples, [0, 0, 1, 1], {"": [outputs]})
    task = build_task(Component(name="synchronizability"))
    scores = score_task(task, outcome, Listed(4), seed=0)
    assert scores["pooled"] == {"accuracy": 0.75, "roc_auc": 1.0, "num": 4}
    assert [one["accuracy"] for one in scores["per_round"]] == [1.0, 0.5]
    assert scores["confusion"] == [[1, 1], [0, 2]]
    curve = scores["roc"]
    assert curve["false_positive_rate"][0] == curve["true_positive_rate"][0] == 0
    assert curve["false_positive_rate"][-1] == curve["true_positive_rate"][-1] == 1


def test_kept_samples_that_share_nothing_count_as_wrong() -> None:
    samples = [sample(0, 1, 0.0), sample(1, 1, 0.4), sample(2, 0, APART_S), sample(3, 0, -APART_S)]
    offsets = sure_of([10, 13, 20, 0])  # right, one class off, and the nearest class of the rest
    yes = torch.tensor([0.98, 0.75, 0.85, 0.2])
    second = torch.stack([torch.log(1 - yes), torch.log(yes)], dim=1)
    outcome = Outcome(samples, [0] * 4, {"": [offsets]}, [second])
    first = build_task(Component(name="offset"))
    both = build_task(Component(name="synchronizability")).beside(first)
    report = both.report(outcome, Listed(4), seed=0)
    by_threshold = {tier["threshold"]: tier for tier in report["tiers"]}
    assert by_threshold[0.5]["num"] == 3
    assert by_threshold[0.5]["num_unsynchronizable"] == 1
    assert by_threshold[0.5]["accuracy"] == pytest.approx(1 / 3)
    assert by_threshold[0.5]["within_one"] == pytest.approx(2 / 3)
    assert by_threshold[0.8]["accuracy"] == pytest.approx(1 / 2)
    assert by_threshold[0.95]["accuracy"] == 1.0
    assert by_threshold[0.99]["num"] == 0
    assert by_threshold[0.99]["accuracy"] is None
    assert report["pooled"]["num"] == 2
    assert np.argwhere(report["confusion"]).tolist() == [[10, 10], [12, 13]]


@pytest.fixture(scope="module")
def pair(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An offset model of 6 segments, a synchronizability model of 5, and the same encoder."""
    folder = tmp_path_factory.mktemp("pair")
    torch.manual_seed(1)
    layout = recipe.model.layout
    offset = Model(_with(recipe, layout, 6)).eval()
    spec = registry().head("synchronizability")
    parts = {
        "head": Component.of(spec, spec.presets["tiny"]),
        "task": Component(name=spec.tasks[0]),
    }
    second = Model(_with(recipe, layout, 5).model_copy(update=parts)).eval()
    second.encoder.load_state_dict(offset.encoder.state_dict())
    for name, model in (("offset", offset), ("second", second)):
        save_model(folder / name, model)
    return folder / "offset", folder / "second"


def _with(recipe: Recipe, layout: SegmentLayout, num: int):  # type: ignore[no-untyped-def]
    return recipe.model.model_copy(
        update={"layout": layout.model_copy(update={"num_segments": num})}
    )


def _request(model: Path, clips: Manifest, **options: object) -> Request:
    data = clips.folder / "manifest.parquet"
    return Request(model=str(model), data=data, split="train", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"features": "online"}, {"as_published": True}])
def test_two_models_answer_for_the_same_samples(
    pair: tuple[Path, Path], clips: Manifest, options: dict[str, object]
) -> None:
    model, second = pair
    report = evaluate_manifest(
        _request(model, clips, synchronizability=str(second), rounds=4, **options)
    )
    scored = report["synchronizability"]
    assert report["task"] == "synchronizability"
    assert scored["pooled"]["num"] == 4 * report["num_clips"]
    apart, shared = (sum(row) for row in scored["confusion"])
    assert report["pooled"]["num"] == shared > 0
    assert apart > 0
    assert [tier["threshold"] for tier in report["tiers"]] == [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    assert report["left_out"] == {}


def test_a_synchronizability_model_is_scored_by_itself(
    pair: tuple[Path, Path], clips: Manifest, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, second = pair
    words = ["evaluate", str(second), "--data", str(clips.folder / "manifest.parquet")]
    words += ["--split", "train"]
    assert run([*words, "--rounds", "2", "-o", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "ROC AUC" in shown
    assert "95 % over clips" in shown
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"report.json", "report.md", "roc.png"}
    assert run([*words, "--protocol", "fixed"]) == 2
    assert "fixed offsets are for models that predict offsets" in capsys.readouterr().err
    assert run([*words, "--trust", str(second)]) == 2
    assert "goes with a model that predicts offsets" in capsys.readouterr().err


def test_a_folder_holds_the_whole_report(
    pair: tuple[Path, Path], clips: Manifest, tmp_path: Path
) -> None:
    model, second = pair
    evaluation = evaluate(_request(model, clips, synchronizability=str(second), rounds=4))
    files = write_report(evaluation, _made(tmp_path / "out"))
    assert [file.name for file in files] == [
        "report.json",
        "report.md",
        "confusion.png",
        "offsets.png",
        "reliability.png",
        "roc.png",
        "tiers.png",
    ]
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(evaluation.report))
    for plot in files[2:]:
        assert plot.read_bytes().startswith(b"\x89PNG")
    page = files[1].read_text()
    for word in ("calls synchronizable", "Published metrics", "manifest sha256", "seed"):
        assert word in page
    assert all(f"({file.name})" in page for file in files[2:])
    assert write_report(evaluation, tmp_path / "one.json") == [tmp_path / "one.json"]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_report_tells_how_it_was_made_and_who_was_left_out(
    model_folder: Path, clips: Manifest
) -> None:
    evaluation = evaluate(_request(model_folder, clips, rounds=1, seed=5))
    report = evaluation.report
    assert report["manifest_sha256"] == Manifest.read(clips.folder / "manifest.parquet").sha256
    description = json.loads((model_folder / "model.json").read_text())
    assert report["model_sha256"] == description["sha256"]
    assert (report["protocol"], report["reading"], report["seed"]) == ("random", "default", 5)
    assert report["audio_shift_s"] == 0.0
    assert "±" not in report_tables(evaluation)[0].rows[0][1]
    report["left_out"] = {f"{i}.mp4": "too short" for i in range(30)}
    page = markdown(evaluation, [])
    assert "- `0.mp4`: too short" in page
    assert "and 10 more" in page


def test_models_with_the_same_encoder_share_what_is_encoded(
    pair: tuple[Path, Path], clips: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, second = pair
    request = _request(
        model, clips, synchronizability=str(second), features="online", with_controls=False
    )
    request = dataclasses.replace(request, rounds=2)
    shared = evaluate_manifest(request)
    monkeypatch.setattr("zoo.models.model.Model.has_same_encoder", lambda *_: False)
    assert evaluate_manifest(request) == shared
