"""What confidence is worth: temperatures, how it is measured, and clips that a model knows not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from zoo.catalog.entries import resolve
from zoo.catalog.model_folder import CONFIG, load_model
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.errors import ModelError, RepairError
from zoo.evaluation import calibration
from zoo.evaluation.calibration import WINDOWS, Answers, fit, measure, reliability
from zoo.inference.load import load_offsets
from zoo.inference.repair import repair
from zoo.media import encode
from zoo.models.calibration import Calibration, Familiarity, tempered, unfamiliarity
from zoo.models.segments import Tokens
from zoo.timeline import OffsetGrid

MODEL = "tiny-synthetic"
GRID = OffsetGrid()


def tokens(values: torch.Tensor) -> Tokens:
    """Windows of two segments of one token of 4 channels."""
    return Tokens(values.reshape(-1, 2, 1, 1, 4), (0.32,))


def answers(sharpness: float, num: int = 400) -> Answers:
    """Answers whose logits are ``sharpness`` times those of a model that is worth what it says."""
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.gumbel(size=(num, GRID.num_classes))).cumsum(1) * 0.3
    right = torch.distributions.Categorical(logits=scores)
    torch.manual_seed(0)
    probabilities = (sharpness * scores).softmax(1)[:, None].expand(-1, max(WINDOWS), -1)
    nothing = tokens(torch.zeros(num, 8))
    return Answers(probabilities.float(), right.sample(), torch.arange(num), nothing, nothing)


def test_a_distribution_becomes_flatter_or_steeper() -> None:
    p = torch.tensor([0.7, 0.2, 0.1])
    assert tempered(p, 1.0) is p
    assert tempered(p, 2.0)[0] < 0.7 < tempered(p, 0.5)[0]
    assert torch.allclose(tempered(p, 2.0), p.sqrt() / p.sqrt().sum())


def test_between_numbers_of_windows_the_temperature_is_interpolated() -> None:
    known = Calibration(windows=(1, 4), temperatures=(1.0, 4.0), clips=50)
    assert known.temperature(2) == pytest.approx(2.0)
    assert known.temperature(400) == pytest.approx(4.0)
    with pytest.raises(ValidationError, match="one temperature for each"):
        Calibration(windows=(1, 4), temperatures=(1.0,), clips=50)


@pytest.mark.parametrize("sharpness", [0.5, 2.0, 3.0])
def test_what_is_too_sure_or_not_sure_enough_is_mended(sharpness: float) -> None:
    given = answers(sharpness)
    known = fit(given, GRID)
    assert known.temperature(1) == pytest.approx(sharpness, rel=0.2)
    rows = measure(given.probabilities, given.targets, GRID, known)
    assert [(row["windows"], row["is_calibrated"]) for row in rows] == [
        (num, kind) for num in WINDOWS for kind in (False, True)
    ]
    before, after = rows[0], rows[1]
    assert after["ece"] < 0.06
    assert before["ece"] > 0.1
    assert after["confidence"] == pytest.approx(after["right"], abs=0.02)


def test_few_clips_without_a_mistake_make_no_model_infallible() -> None:
    given = answers(1.0, num=30)
    perfect = torch.nn.functional.one_hot(given.targets, GRID.num_classes).float()
    sure = 0.9 * perfect + 0.1 / GRID.num_classes
    always = replace(given, probabilities=sure[:, None].expand(-1, 8, -1))
    rows = measure(always.probabilities, always.targets, GRID, fit(always, GRID))
    assert rows[1]["right"] == 1
    assert rows[1]["confidence"] == pytest.approx(31 / 32, abs=0.003)


def test_the_calibration_error_is_how_far_bins_are_from_what_they_say() -> None:
    found = reliability(np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, True, True, False]))
    assert found["ece"] == pytest.approx(0.05)
    assert [b["count"] for b in found["bins"]] == [2, 2]
    assert (found["confidence"], found["right"]) == (pytest.approx(0.75), 0.75)


def test_tokens_far_from_all_known_ones_are_unfamiliar() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([1.0, 1.0, 0.1, 0.1] * 2)

    def two_kinds(num: int) -> Tokens:
        middles = rng.choice([-8.0, 8.0], (num, 1)) * (spread == 1)
        return tokens(torch.from_numpy(middles + rng.normal(size=(num, 8)) * spread))

    known = two_kinds(300)
    familiarity = Familiarity.fit(known, known, torch.arange(300))
    new, between = two_kinds(50), tokens(torch.from_numpy(rng.normal(size=(50, 8)) * spread))
    assert unfamiliarity(familiarity.distance(new, new)) < 1
    assert unfamiliarity(familiarity.distance(between, between)) > 1.5
    assert unfamiliarity(familiarity.distance(new, between)) > 1.5


# --- a model ---


def file_of(clips: Manifest) -> Path:
    return clips.clips[0].path.parents[1] / "manifest.parquet"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be content with a few clips."""
    monkeypatch.setattr(calibration, "FEWEST", 1)
    monkeypatch.setattr(calibration, "MOST", 24)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a shipped model."""
    return Path(shutil.copytree(resolve(MODEL), tmp_path / "model"))


def edit(folder: Path, **changes: object) -> None:
    description = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**description, **changes}))


def test_predictions_follow_the_temperature(clips: Manifest, folder: Path) -> None:
    clip = clips.clips[0].path
    before = load_offsets(folder).predict(clip)
    edit(folder, calibration={"windows": [1], "temperatures": [4.0], "clips": 50})
    after = load_offsets(folder).predict(clip)
    assert after.offset_s == before.offset_s
    assert after.confidence < before.confidence - 0.1
    assert after.probability == max(after.distribution.values())
    assert before.unfamiliarity is not None
    assert before.unfamiliarity < 1


def test_clips_like_no_other_are_named_and_not_repaired(folder: Path, tmp_path: Path) -> None:
    frames = np.full((230, 64, 64, 3), 20, np.uint8)
    samples = np.zeros(9 * 16_000, np.float32)
    for at in (10, 41, 90, 118, 171, 205):
        frames[at : at + 2] = 250
        samples[640 * at : 640 * at + 800] = 0.7 * np.sin(np.arange(800))
    encode(tmp_path / "flash.mp4", frames[:225], samples)
    predictor = load_offsets(folder)
    found = predictor.predict(tmp_path / "flash.mp4")
    assert found.unfamiliarity is not None
    assert found.unfamiliarity > 1
    assert float(found.columns()["unfamiliarity"]) == pytest.approx(found.unfamiliarity, abs=1e-4)
    assert any("unlike all that" in note for note in found.notes)
    with pytest.raises(RepairError, match="not repaired: its sound or picture is unlike all"):
        repair(predictor, tmp_path / "flash.mp4", tmp_path / "out.mp4", min_confidence=0)


def test_a_damaged_calibration_is_refused(folder: Path) -> None:
    edit(folder, calibration={"windows": [1, 2], "temperatures": [1.0], "clips": 5})
    with pytest.raises(ModelError, match=r"damaged 'calibration': .*one temperature for each"):
        load_model(folder)


def test_a_model_is_calibrated_in_its_folder(
    clips: Manifest, folder: Path, few: None, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(folder, calibration={"windows": [1], "temperatures": [9.0], "clips": 0}, beside={})
    (folder / "familiar.safetensors").unlink()
    assert run(["calibrate", str(folder), "--data", str(file_of(clips)), "--split", "valid"]) == 0
    assert "kept in" in capsys.readouterr().out
    model = load_model(folder)
    assert model.calibration is not None
    assert model.calibration.windows == WINDOWS
    assert model.calibration.temperature(1) < 9
    assert 1 <= model.calibration.clips < 6
    assert model.familiarity is not None


def test_nothing_is_found_out_from_too_little(
    clips: Manifest, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = run(["calibrate", str(folder), "--data", str(file_of(clips)), "--split", "test"])
    assert none == 2
    assert "too few test clips" in " ".join(capsys.readouterr().err.split())


def test_a_report_compares_confidence_with_what_was_right(
    clips: Manifest, tmp_path: Path, few: None
) -> None:
    words = ["evaluate", MODEL, "--data", str(file_of(clips)), "--split", "valid", "--rounds", "2"]
    assert run([*words, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    rows = report["confidence"]
    assert {row["windows"] for row in rows} == set(WINDOWS)
    assert all(0 <= row["ece"] <= 1 for row in rows)
    assert "## Confidence" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "reliability.png").stat().st_size > 10_000
