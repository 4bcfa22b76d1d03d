"""Reports: scores, trust, and what is written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.catalog.model_folder import save_model
from zoo.cli.app import run
from zoo.contracts import ComponentConfig
from zoo.data.manifest import Clip, Manifest
from zoo.evaluation.evaluation_request import Request
from zoo.evaluation.report import evaluate_manifest
from zoo.evaluation.report_files import markdown, write_report
from zoo.evaluation.rounds import Outcome
from zoo.evaluation.sample_sources import Draws
from zoo.evaluation.scoring import offset_scores, synchronizability_scores, tiers
from zoo.models.config import Component
from zoo.models.model import Model
from zoo.registry.manager import registry
from zoo.timeline import OffsetGrid, Sample, SegmentLayout
from zoo.training.recipe import Recipe

GRID = OffsetGrid()
APART_S = 4.8


class Listed(Draws):
    """Clips with known events, nothing to read."""

    def __init__(self, num: int) -> None:
        row = {"split": "test", "duration_s": 10.0, "video_fps": 25.0, "width": 8, "height": 8}
        sound = {"sample_rate_hz": 16_000, "channels": 1}
        self.clips = [
            Clip(path=Path(f"{i}.mp4"), events_s=(3.0,), **row, **sound)  # type: ignore[arg-type]
            for i in range(num)
        ]
        self.layout, self.usable, self.left_out = SegmentLayout(), list(range(num)), {}

    def sample(self, clip: int, number: int) -> tuple[Sample, None]:
        raise NotImplementedError


def draw(clip: int, target: int, offset_s: float | None = None) -> Sample:
    offset_s = GRID.offsets_s[target] if offset_s is None else offset_s
    start_s = max(0.0, -offset_s)
    return Draw(clip=clip, vision_start_s=start_s, audio_start_s=start_s + offset_s, target=target)


def sure_of(classes: list[int], num: int = 21) -> torch.Tensor:
    return 8.0 * torch.nn.functional.one_hot(torch.tensor(classes), num).float()


def test_offset_scores_are_per_round_and_pooled() -> None:
    classes = [0, 5, 10, 20]
    outcome = Outcome(
        [draw(i, k) for _ in range(2) for i, k in enumerate(classes)],
        [0] * 4 + [1] * 4,
        {"": [sure_of(classes), sure_of([0, 6, 10, 10])], "audio blanked": [sure_of([3] * 8)]},
    )
    scores = offset_scores(outcome, Listed(4), GRID, seed=0)
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
    outcome = Outcome([draw(i, t, 0.0) for i, t in enumerate(targets)], [0, 0, 1, 1])
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 1.0], [0.0, 3.0]])
    scores = synchronizability_scores(logits, outcome, seed=0)
    assert scores["pooled"] == {"accuracy": 0.75, "roc_auc": 1.0, "num": 4}
    assert [one["accuracy"] for one in scores["per_round"]] == [1.0, 0.5]
    assert scores["confusion"] == [[1, 1], [0, 2]]
    curve = scores["roc"]
    assert curve["false_positive_rate"][0] == curve["true_positive_rate"][0] == 0
    assert curve["false_positive_rate"][-1] == curve["true_positive_rate"][-1] == 1


def test_trusted_draws_that_share_nothing_count_as_wrong() -> None:
    draws = [draw(0, 1, 0.0), draw(1, 1, 0.4), draw(2, 0, APART_S), draw(3, 0, -APART_S)]
    outcome = Outcome(draws, [0] * 4)
    offsets = sure_of([10, 13, 20, 0])  # right, one class off, and the nearest class of the rest
    trust = torch.tensor([0.98, 0.75, 0.85, 0.2])
    logits = torch.stack([torch.log(1 - trust), torch.log(trust)], dim=1)
    by_threshold = {tier["threshold"]: tier for tier in tiers(offsets, logits, outcome, GRID, 0)}
    assert by_threshold[0.5]["num"] == 3
    assert by_threshold[0.5]["num_unsynchronizable"] == 1
    assert by_threshold[0.5]["accuracy"] == pytest.approx(1 / 3)
    assert by_threshold[0.5]["within_one"] == pytest.approx(2 / 3)
    assert by_threshold[0.8]["accuracy"] == pytest.approx(1 / 2)
    assert by_threshold[0.95]["accuracy"] == 1.0
    assert by_threshold[0.99]["num"] == 0
    assert by_threshold[0.99]["accuracy"] is None
    kept = outcome.synchronizable(GRID)
    assert [one.target for one in kept.draws] == [10, 12]


@pytest.fixture(scope="module")
def pair(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An offset model of 6 segments and a synchronizability model of 5, with the same towers."""
    folder = tmp_path_factory.mktemp("pair")
    torch.manual_seed(1)
    layout = recipe.model.layout
    offset = Model(_with(recipe, layout, 6)).eval()
    spec = registry().head("synchronizability")
    preset: ComponentConfig = spec.presets["tiny"]
    head = Component(name="synchronizability", config=preset.model_dump(mode="json"))
    config = _with(recipe, layout, 5).model_copy(update={"head": head})
    judge = Model(config).eval()
    judge.audio.load_state_dict(offset.audio.state_dict())
    judge.vision.load_state_dict(offset.vision.state_dict())
    for name, model in (("offset", offset), ("judge", judge)):
        save_model(folder / name, model)
    return folder / "offset", folder / "judge"


def _with(recipe: Recipe, layout: SegmentLayout, num: int):  # type: ignore[no-untyped-def]
    return recipe.model.model_copy(
        update={"layout": layout.model_copy(update={"num_segments": num})}
    )


def _request(model: Path, clips: Manifest, **options: object) -> Request:
    data = clips.folder / "manifest.parquet"
    return Request(model=str(model), data=data, split="train", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"features": "online"}, {"as_published": True}])
def test_two_models_judge_the_same_draws(
    pair: tuple[Path, Path], clips: Manifest, options: dict[str, object]
) -> None:
    model, judge = pair
    report = evaluate_manifest(_request(model, clips, trust=str(judge), rounds=4, **options))
    judged = report["synchronizability"]
    assert report["task"] == "synchronizability"
    assert judged["pooled"]["num"] == 4 * report["num_clips"]
    apart, shared = (sum(row) for row in judged["confusion"])
    assert report["pooled"]["num"] == shared > 0
    assert apart > 0
    assert [tier["threshold"] for tier in report["tiers"]] == [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    assert report["left_out"] == {}


def test_a_synchronizability_model_is_scored_by_itself(
    pair: tuple[Path, Path], clips: Manifest, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, judge = pair
    words = ["evaluate", str(judge), "--data", str(clips.folder / "manifest.parquet")]
    words += ["--split", "train"]
    assert run([*words, "--rounds", "2", "-o", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "ROC AUC" in shown
    assert "95 % over clips" in shown
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"report.json", "report.md", "roc.png"}
    assert run([*words, "--protocol", "fixed"]) == 2
    assert "synchronizability needs draws" in capsys.readouterr().err
    assert run([*words, "--trust", str(judge)]) == 2
    assert "goes with a model that predicts offsets" in capsys.readouterr().err


def test_a_folder_holds_the_whole_report(
    pair: tuple[Path, Path], clips: Manifest, tmp_path: Path
) -> None:
    model, judge = pair
    report = evaluate_manifest(_request(model, clips, trust=str(judge), rounds=4))
    files = write_report(report, _made(tmp_path / "out"))
    assert [file.name for file in files] == [
        "report.json",
        "report.md",
        "confusion.png",
        "offsets.png",
        "roc.png",
        "tiers.png",
    ]
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(report))
    for picture in files[2:]:
        assert picture.read_bytes().startswith(b"\x89PNG")
    page = files[1].read_text()
    for word in ("Offsets trusted by", "published metrics".capitalize(), "manifest sha256", "seed"):
        assert word in page
    assert all(f"({file.name})" in page for file in files[2:])
    assert write_report(report, tmp_path / "one.json") == [tmp_path / "one.json"]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_report_tells_how_it_was_made_and_who_was_left_out(
    model_folder: Path, clips: Manifest
) -> None:
    report = evaluate_manifest(_request(model_folder, clips, rounds=1, seed=5))
    assert report["manifest_sha256"] == Manifest.read(clips.folder / "manifest.parquet").sha256
    description = json.loads((model_folder / "model.json").read_text())
    assert report["model_sha256"] == description["sha256"]
    assert (report["protocol"], report["reading"], report["seed"]) == ("random", "default", 5)
    assert report["audio_shift_s"] == 0.0
    assert "±" not in markdown(report, []).split("| all draws |")[1].splitlines()[0]
    report["left_out"] = {f"{i}.mp4": "too short" for i in range(30)}
    page = markdown(report, [])
    assert "- `0.mp4`: too short" in page
    assert "and 10 more" in page


def test_models_with_the_same_towers_share_what_is_encoded(
    pair: tuple[Path, Path], clips: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, judge = pair
    request = _request(model, clips, trust=str(judge), features="online", with_controls=False)
    request = dataclasses.replace(request, rounds=2)
    shared = evaluate_manifest(request)
    monkeypatch.setattr("zoo.models.model.Model.has_same_towers", lambda *_: False)
    assert evaluate_manifest(request) == shared
