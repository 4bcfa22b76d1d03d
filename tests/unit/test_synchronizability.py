"""Training a head to say whether a crop can be synchronized at all (paper section 4.2)."""

import json
import math
from pathlib import Path

import pytest
import torch

from plugins.correlation.model import CorrelationHead, SynchronizabilityHead
from plugins.sync.model import SyncHead
from zoo.catalog.model_folder import load_model, save_model
from zoo.contracts import HeadInput
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, TrainingError
from zoo.evaluation.evaluation_request import Request as EvaluationRequest
from zoo.evaluation.report import evaluate_manifest
from zoo.models.config import Component
from zoo.models.model import Model, build_task
from zoo.models.segments import Tokens
from zoo.models.task import Task
from zoo.registry.manager import registry
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, run_job
from zoo.training.recipe import Recipe
from zoo.training.recipe_builder import build_recipe
from zoo.training.rehearsal import check_clips
from zoo.training.request import TrainRequest, recipe_of
from zoo.training.run_plots import plot_run
from zoo.training.runlog import read_metrics
from zoo.training.start import START_FOLDER, prepare_start
from zoo.training.watch import RunState

SMALL = {
    "stage2.steps": 4, "stage2.batch": 4, "stage2.valid_every": 2, "stage2.log_every": 1,
    "stage2.checkpoint_every": 2, "stage2.valid_rounds": 2,
}  # fmt: skip


def tuned(folder: Path, settings: dict[str, float] | None = None, **changes: object) -> Recipe:
    given = {"init": (str(folder),), "task": "synchronizability", "set": SMALL | (settings or {})}
    return recipe_of(TrainRequest(**{**given, **changes}), 0)


def task_named(name: str) -> Task:
    return build_task(Component(name=name))


@pytest.fixture(scope="module")
def sync_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model with the paper's head."""
    folder = tmp_path_factory.mktemp("models") / "sync"
    torch.manual_seed(1)
    recipe = build_recipe(extractor="ast_motionformer", head="sync", preset="tiny")
    save_model(folder, Model(recipe.model))
    return folder


def test_right_answers_and_entropy_are_added_up() -> None:
    task = task_named("synchronizability")
    outputs = torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]])
    targets = torch.tensor([1, 1, 0])
    parts = task.sums(outputs[:1], targets[:1]), task.sums(outputs[1:], targets[1:])
    scores = task.scores([a + b for a, b in zip(*parts, strict=True)])
    assert scores["accuracy"] == pytest.approx(2 / 3)
    entropy = torch.nn.functional.cross_entropy(outputs, targets)
    assert scores["cross_entropy"] == pytest.approx(float(entropy))
    assert task.chance["cross_entropy"] == math.log(2)
    assert not task.has_left_chance({**task.chance, "num": 100})
    assert task.spec.rank_of({"accuracy": 0.7, "cross_entropy": 0.5}) > task.spec.rank_of(
        {"accuracy": 0.7, "cross_entropy": 0.6}
    )
    assert len(parts[0]) == task.num_sums


def test_the_task_decides_what_counts() -> None:
    offset = task_named("offset")
    assert len(offset.sums(torch.zeros(2, 21), torch.zeros(2).long())) == offset.num_sums == 5
    told = task_named("synchronizability").spec.describe({"accuracy": 0.75, "cross_entropy": 0.5})
    assert told == "accuracy 75.0%, cross-entropy 0.500"


def test_the_paper_s_head_starts_from_its_positions_modality_by_modality(
    sync_folder: Path,
) -> None:
    recipe = tuned(sync_folder)
    assert recipe.model.head is not None
    assert recipe.model.head.name == "synchronizability"
    assert recipe.model.layout.num_segments == 13
    head, start = Model(recipe.model).head, load_model(sync_folder).head
    assert isinstance(head, SyncHead)
    assert isinstance(start, SyncHead)
    classes = head.transformer.classifier.weight.clone()
    head.start_from(start)
    mine, theirs = head.transformer.positions[0], start.transformer.positions[0]
    assert torch.equal(mine[:14], theirs[:14])  # OFF and 13 of the video
    assert torch.equal(mine[14:28], theirs[15:29])  # MOD and 13 of the audio
    assert torch.equal(head.transformer.classifier.weight, classes)
    assert torch.equal(head.audio_projection.weight, start.audio_projection.weight)


def test_a_head_of_another_size_cannot_be_started_from(sync_folder: Path, recipe: Recipe) -> None:
    other = load_model(sync_folder).head
    assert other is not None
    head = Model(tuned(sync_folder, head="correlation_trust").model).head
    assert head is not None
    with pytest.raises(ConfigError, match="no weight of a SyncHead fits a SynchronizabilityHead"):
        head.start_from(other)


def test_a_peak_can_be_synchronized_and_a_flat_curve_cannot(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = registry().head("correlation_trust")
    task = task_named("synchronizability")
    given = HeadInput(
        audio=model.io.audio.tokens,
        vision=model.io.vision.tokens,
        layout=model.config.layout,
        num_outputs=task.num_outputs,
        grid=task.grid,
    )
    head = spec.build(spec.presets["tiny"], given)
    assert isinstance(head, SynchronizabilityHead)
    logits = torch.zeros(2, 21)
    logits[0, 4] = 9.0

    monkeypatch.setattr(CorrelationHead, "forward", lambda *_: logits)
    none = Tokens(torch.zeros(2, 1, 1, 1, 1), (0.0,))
    peak, flat = head(none, none).softmax(1)[:, 1].detach()
    assert peak > 0.9
    assert flat == pytest.approx(1 / (1 + math.exp(2.0)))


@pytest.mark.parametrize("name", ["correlation", "sync"])
def test_fine_tuning_leaves_a_model_that_can_be_evaluated(
    clips: Manifest, model_folder: Path, sync_folder: Path, tmp_path: Path, name: str
) -> None:
    start = model_folder if name == "correlation" else sync_folder
    recipe, manifest = tuned(start), clips.folder / "manifest.parquet"
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text(recipe.model_dump_json())
    run_job(LocalEngine(tmp_path / "checkpoints"), Job(recipe, manifest, run, (2,), init=start))
    model, before = load_model(run), load_model(start)
    assert model.task is not None
    assert model.task.tells_synchronizable
    assert model.has_same_encoder(before)
    valid = [r for r in read_metrics(run) if r["kind"] == "valid"]
    assert {r["step"] for r in valid} == {2, 4}
    assert "within_one" not in valid[0]
    findings = json.loads((run / "findings.json").read_text())
    assert sum(map(sum, findings["confusion"])) == findings["pooled"]["num"] > 0
    assert {path.name for path in plot_run(run)} == {"curves.png", "roc.png"}
    state = RunState(recipe, run, (2,))
    assert state.at_chance(2).startswith("; still at chance (loss ~ ln 2 = 0.69")
    asked = EvaluationRequest(model=str(run), data=manifest, rounds=2, split="valid")
    report = evaluate_manifest(asked)
    assert 0 <= report["pooled"]["roc_auc"] <= 1


def test_weights_are_taken_over_before_the_first_step(
    clips: Manifest, sync_folder: Path, tmp_path: Path
) -> None:
    recipe = tuned(sync_folder, {"stage2.lr": 1e-12, "stage2.weight_decay": 0})
    job = Job(recipe, clips.folder / "manifest.parquet", tmp_path, (2,), init=sync_folder)
    run_job(LocalEngine(tmp_path / "checkpoints"), job)
    before, after = (load_model(folder).head for folder in (sync_folder, tmp_path))
    assert isinstance(before, SyncHead)
    assert isinstance(after, SyncHead)
    for name in ("audio_projection.weight", "transformer.norm.weight", "transformer.off_token"):
        assert torch.allclose(before.state_dict()[name], after.state_dict()[name], atol=1e-6), name


def test_a_prepared_start_keeps_the_head(sync_folder: Path, tmp_path: Path) -> None:
    prepare_start((str(sync_folder),), "interpolate", tuned(sync_folder), tmp_path / START_FOLDER)
    kept, original = load_model(tmp_path / START_FOLDER), load_model(sync_folder)
    assert kept.config.layout.num_segments == 14
    assert kept.head is not None
    assert original.head is not None
    states = kept.head.state_dict(), original.head.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


def test_a_model_fine_tuned_once_more_keeps_its_segments(sync_folder: Path, tmp_path: Path) -> None:
    recipe = tuned(sync_folder)
    save_model(tmp_path / "again", Model(recipe.model))
    assert tuned(tmp_path / "again").model == recipe.model
    assert recipe.task.name == "synchronizability"


def test_clips_must_hold_two_crops(clips: Manifest, sync_folder: Path) -> None:
    recipe = tuned(sync_folder, {"layout.num_segments": 14})
    with pytest.raises(
        TrainingError, match=r"a crop of 4\.8 s and one as long beside it need 9\.6"
    ):
        check_clips(recipe, (2,), "train", list(clips.clips))
    check_clips(tuned(sync_folder), (2,), "train", list(clips.clips))


def test_an_encoder_without_a_head_needs_one_from_scratch(model: Model, tmp_path: Path) -> None:
    bare = Model(model.config.model_copy(update={"head": None}))
    save_model(tmp_path / "encoder", bare)
    with pytest.raises(ConfigError, match="no head to train from scratch"):
        tuned(tmp_path / "encoder")
    recipe = tuned(tmp_path / "encoder", head="correlation_trust")
    assert recipe.task.name == "synchronizability"
