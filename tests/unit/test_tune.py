"""``zoo tune`` with faked trainings: the space, points, sharing, failures, resuming, files."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestration.tune import point_work as work_module
from orchestration.tune import session as session_module
from orchestration.tune.point_work import (
    LostLeaseError,
    PointResult,
    PointWork,
    Report,
    collect,
    failed,
)
from orchestration.tune.points import Point, check_space, folder_of, name_of, resolve, slug_of
from orchestration.tune.ray_trials import LEASE_S, Leases
from orchestration.tune.search import Search, build_search, read_space, refuse_difference
from orchestration.tune.search_options import given_options
from orchestration.tune.search_rows import Rows, SearchTable, best_of, frontier
from orchestration.tune.session import (
    BEST,
    COMMAND,
    Options,
    Session,
    keep_best,
    mark_ended,
    open_session,
    train_command,
)
from orchestration.tune.study import distribution, open_study, read_progress
from zoo.cli.app import run
from zoo.contracts import Score
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, TrainingError, ZooError
from zoo.experiments.overview import Watcher
from zoo.experiments.results import read_result, write_result
from zoo.experiments.run_cost import Cost
from zoo.models.cost import model_cost
from zoo.registry.manager import add_plugin_file, registry
from zoo.search_space import Choice, Range
from zoo.training.recipe import Recipe
from zoo.training.request import recipe_of
from zoo.training.resources import Resources

ACCURACY = Score(name="accuracy", title="accuracy")
SHORT = {"stage1.steps": 4, "stage2.steps": 8}


def lengths_of(manifest: str = "clips.parquet", **changes: Any) -> Search:
    """Two lengths, half overlap and none, one seed."""
    given: dict[str, Any] = {
        "title": "Lengths",
        "data": manifest,
        "base": {"extractor": "ast_motionformer", "set": SHORT},
        "space": {
            "length": Choice(values=(0.32, 0.64)),
            "overlap": Choice(values=(0.0, 0.5)),
        },
        "input_s": 4.8,
    }
    return build_search({**given, **changes})


def settings_search(space: dict[str, Any], **changes: Any) -> Search:
    given: dict[str, Any] = {
        "data": "clips.parquet",
        "base": {"extractor": "ast_motionformer", "set": SHORT},
        "space": space,
    }
    return build_search({**given, **changes})


@pytest.fixture(scope="module")
def points() -> list[Point]:
    """The points of `lengths_of`."""
    return check_space(lengths_of(), 0)


@pytest.fixture
def manifest(clips: Manifest) -> Path:
    return clips.folder / "manifest.parquet"


# --- the space ---


def test_a_range_has_a_grid_only_with_a_step() -> None:
    assert Range(low=1, high=4, step=1).grid == (1, 2, 3, 4)
    assert Range(low=0.1, high=0.4, step=0.1).grid == (0.1, 0.2, 0.3, 0.4)
    assert Range(low=0.1, high=0.4).grid is None
    assert Range(low=1, high=4).is_whole
    assert not Range(low=1, high=4.5).is_whole


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 2, "high": 1}, "must be above"),
        ({"low": 0, "high": 1, "log": True}, "log needs low above 0"),
        ({"low": 0, "high": 1, "step": 1e-9}, "more than 1000"),
    ],
)
def test_a_range_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Range(**given)


def test_a_choice_names_every_value_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        Choice(values=(1, 2, 1))


def test_points_that_share_an_encoder_are_apart_in_a_grid() -> None:
    names = [name_of(params) for params in lengths_of().grid()]
    assert names == [
        "length 0.32 s, overlap 0",
        "length 0.64 s, overlap 0",
        "length 0.32 s, overlap 0.5",
        "length 0.64 s, overlap 0.5",
    ]


def test_optuna_is_told_the_same_space() -> None:
    assert distribution(Choice(values=("a", "b"))).choices == ("a", "b")  # type: ignore[attr-defined]
    whole = distribution(Range(low=1, high=8, log=True))
    assert type(whole).__name__ == "IntDistribution"
    real = distribution(Range(low=1e-4, high=1e-2, log=True))
    assert (type(real).__name__, real.log) == ("FloatDistribution", True)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: {stage2.lr: 3}", "'space.stage2.lr' must be a list of values or a range"),
        ("space: {stage2.lr: {low: 1}}", r"'space.stage2.lr.high': Field required"),
        ("spaces: {}", "unknown key 'spaces'; did you mean 'space'"),
        ("base: {haed: sync}", r"unknown key 'base.haed'; did you mean 'head'"),
        ("- 1", "is not a search"),
        ("space: {a: [1, 1]}", "twice"),
    ],
)
def test_a_file_of_settings_is_checked(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_space(path)
    assert str(path) in str(caught.value)


def test_numbers_of_a_file_may_be_written_with_an_exponent(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "data: clips.parquet\n"
        "space: {stage2.lr: {low: 1e-4, high: 1e-2, log: true}, stage1.lr: [1e-4, 1e-3]}\n"
    )
    found = read_space(path)
    assert found["space"]["stage2.lr"] == Range(low=1e-4, high=1e-2, log=True)
    assert found["space"]["stage1.lr"] == Choice(values=(1e-4, 1e-3))
    assert found["data"] == str(tmp_path / "clips.parquet")


def test_plugins_bring_a_space_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    kinds = ["audio", "vision", "aggregator", "head", "objective"]
    table = {
        "data": "clips.parquet",
        "base": {"extractor": "ast_motionformer", "head": "sync"},
        "defaults": kinds,
        "space": {"head.depth": [1, 2]},
    }
    path.write_text(yaml.safe_dump(table))
    given = _given(str(path))
    assert set(given["space"]) >= {
        "audio.depth",
        "vision.depth",
        "aggregator.heads",
        "head.pool",
        "stage1.objective.config.temperature",
    }
    assert given["space"]["head.depth"] == Choice(values=(1, 2))  # the file has the last word
    search = build_search({**given, "search": "optuna", "trials": 3})
    corner = check_space(search, 0)[0]
    pair = corner.recipe.model.two_tower()
    assert pair is not None
    heads = {pair.audio.aggregator.config["heads"]}
    assert heads == {pair.vision.aggregator.config["heads"]} == {1}


def test_a_space_of_several_heads_has_no_defaults_for_one(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("data: x\ndefaults: head\nspace: {head: [sync, correlation]}\n")
    with pytest.raises(ConfigError, match="needs one head, but the space has several"):
        _given(str(path))


def _given(what: str | None, **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "is_resumed": False,
        "data": None,
        "train": {},
        "settings": [],
        "space": {},
        "rest": {},
        "gpus_per_worker": 0,
    }
    return given_options(what, **{**usual, **changes})


# --- points ---


def test_length_and_overlap_decide_the_layout(points: list[Point]) -> None:
    layouts = {point.name: point.recipe.model.layout for point in points}
    half = layouts["length 0.64 s, overlap 0.5"]
    assert (half.num_segments, half.segment_s, half.step_s) == (14, 0.64, 0.32)
    assert layouts["length 0.64 s, overlap 0"].num_segments == 7
    assert layouts["length 0.32 s, overlap 0.5"].num_segments == 29
    for point in points:
        assert point.recipe.model.layout.covered_s <= 4.8
        contiguous = point.recipe.stage1_layout
        assert contiguous.covered_s == pytest.approx(7.68)  # as many seconds for every length


def test_overlaps_of_a_length_share_encoder_and_features(points: list[Point]) -> None:
    out = Path("out")
    by_length: dict[float, set[Path]] = {}
    for point in points:
        length = point.recipe.model.layout.segment_s
        by_length.setdefault(length, set()).add(point.encoder_folder(out, 1))
        assert point.recipe.vision_hop_s == length / 2
    assert [len(folders) for folders in by_length.values()] == [1, 1]
    assert len(set.union(*by_length.values())) == 2
    assert points[0].encoder_folder(out, 1) != points[0].encoder_folder(out, 2)


def test_what_stage_1_depends_on_has_stage1_of_its_own() -> None:
    space = {"stage1.lr": Choice(values=(1e-4, 1e-3)), "stage2.lr": Choice(values=(1e-4, 1e-3))}
    keys = [point.key for point in check_space(settings_search(space), 0)]
    assert keys[0] == keys[2] != keys[1] == keys[3]


def test_overlaps_that_do_not_divide_one_another_share_a_finer_lattice() -> None:
    overlaps = Choice(values=(0.0, 0.25))  # steps of 16 and 12 frames
    search = lengths_of(space={"length": Choice(values=(0.64,)), "overlap": overlaps})
    points = check_space(search, 0)
    assert [point.recipe.vision_hop_s for point in points] == [0.16, 0.16]
    assert len({point.key for point in points}) == 1


def test_a_single_segment_keeps_the_lattice_of_its_recipe() -> None:
    base = {"extractor": "sparsesync"}
    space = {"length": Choice(values=(5.0,)), "overlap": Choice(values=(0.0,))}
    (point,) = check_space(lengths_of(base=base, space=space, input_s=5.0), 0)
    assert point.stages == (2,)
    assert point.recipe.vision_hop_s == 0.2
    assert not point.has_stage1


@pytest.mark.parametrize(
    ("length", "nearest"), [(0.08, "0.16"), (0.7, "0.72"), (0.3, "0.32"), (6.0, "4.8")]
)
def test_a_length_that_cannot_be_names_the_nearest_that_can(length: float, nearest: str) -> None:
    space = {"length": Choice(values=(0.64, length)), "overlap": Choice(values=(0.5,))}
    with pytest.raises(ZooError, match=f"the nearest length that can be taken is {nearest} s"):
        check_space(lengths_of(space=space), 0)


def test_overlaps_that_are_the_same_in_frames_are_refused() -> None:
    space = {"length": Choice(values=(0.16,)), "overlap": Choice(values=(0.5, 0.52))}
    with pytest.raises(ConfigError, match="the same in whole frames"):
        check_space(lengths_of(space=space), 0)


def test_the_command_trains_the_point_alone(points: list[Point]) -> None:
    words = train_command(points[-1], 3, Resources(workers=2, gpus_per_worker=1))
    assert " ".join(words[-8:]) == ("--workers 2 --cpus-per-worker 1 --gpus-per-worker 1 --out RUN")
    assert words[:2] == ["zoo", "train"]
    assert recipe_of(points[-1].for_seed(3), 0) == points[-1].recipe.model_copy(update={"seed": 3})
    assert "layout.segment_s=0.64" in words
    assert words[words.index("--seed") + 1] == "3"


def test_encoder_and_head_are_trained_with_the_recipe_of_the_point(
    points: list[Point], tmp_path: Path
) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    config = points[-1].recipe.model.model_copy(update={"head": None}).model_dump(mode="json")
    (encoder / "model.json").write_text(json.dumps({"config": config}))
    head = recipe_of(points[-1].head_request(1, encoder), 0)
    assert head == points[-1].recipe.model_copy(update={"seed": 1})
    assert recipe_of(points[-1].encoder_request(1), 0).stage1 == points[-1].recipe.stage1


def test_names_of_folders_differ() -> None:
    found = {slug_of({"a": value}) for value in (1, 1.0, "1", True, None, "x" * 200, "x" * 201)}
    assert len(found) == 7
    assert max(map(len, found)) < 80


def test_the_cost_grows_with_segments_and_overlap(points: list[Point], recipe: Recipe) -> None:
    by_name = {point.name: point.cost for point in points}
    half, none = by_name["length 0.64 s, overlap 0.5"], by_name["length 0.64 s, overlap 0"]
    assert half.extractor_flops == 2 * none.extractor_flops
    assert half.tokens == 2 * none.tokens == 14 * (6 + 8)
    one = recipe.model.layout.model_copy(update={"num_segments": 1})
    alone = model_cost(recipe.model.model_copy(update={"layout": one}))
    assert half.extractor_flops == 14 * alone.extractor_flops


# --- leases ---


def test_a_lease_is_held_until_it_runs_out() -> None:
    now = [0.0]
    leases = Leases(lambda: now[0])
    assert leases.take("encoder", "a")
    assert not leases.take("encoder", "b")
    assert leases.take("others", "b")
    now[0] = LEASE_S - 1
    assert leases.take("encoder", "a")  # renewed
    now[0] += 2
    assert not leases.take("encoder", "b")
    now[0] += LEASE_S
    assert leases.take("encoder", "b")  # whoever held it is gone
    leases.drop("encoder", "a")  # comes back too late
    assert not leases.take("encoder", "a")
    leases.drop("encoder", "b")
    assert leases.take("encoder", "a")


# --- the work of a trial ---


@dataclass
class FakeLease:
    """A lease that others hold for some looks."""

    looks: int = 0
    calls: list[str] = field(default_factory=list)

    def take(self) -> bool:
        self.calls.append("take")
        self.looks -= 1
        return self.looks < 0

    def drop(self) -> None:
        self.calls.append("drop")


@dataclass
class FakeDesk:
    one: FakeLease = field(default_factory=FakeLease)

    def lease(self, name: str) -> FakeLease:
        return self.one


@dataclass
class FakeProcess:
    """A training that writes what a real one leaves, and ends as it is told to."""

    words: list[str]
    code_at_end: int = 0
    told: str = ""
    accuracy: float = 0.5
    is_interrupted: bool = False

    def __post_init__(self) -> None:
        self.run = Path(self.words[self.words.index("--out") + 1])
        self.stage = self.words[self.words.index("--stage") + 1] if "--stage" in self.words else "2"
        self.left = 2

    @property
    def is_alive(self) -> bool:
        self.left -= 1
        if self.left == 0 and not self.is_interrupted and self.code_at_end == 0:
            self._end()
        return self.left > 0

    @property
    def code(self) -> int | None:
        return self.code_at_end

    @property
    def broke_off(self) -> bool:
        return self.code_at_end < 0 or self.told.startswith("training broke off")

    def reason(self) -> str:
        return self.told

    def interrupt(self) -> None:
        self.is_interrupted = True

    def kill(self) -> None:
        self.left = 0

    def _end(self) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        scores = {"accuracy": self.accuracy, "within_one": 0.75, "mean_abs_error_s": 0.2, "num": 40}
        scores["cross_entropy"] = 0.69
        lines = [{"stage": 2, "step": 4, "kind": "valid", "time": 1.0, **scores}] * (
            self.stage == "2"
        )
        lines.append({"stage": int(self.stage), "step": 0, "kind": "done", "time": 2.0})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (self.run / "metrics.jsonl").write_text(text)
        description = {"scores": {"valid": scores}, "beside": {"familiar": "its hash"}}
        (self.run / "model.json").write_text(json.dumps(description))
        (self.run / "familiar.safetensors").write_bytes(b"tokens")
        (self.run / "model.safetensors").write_bytes(b"weights")
        (self.run / "recipe.json").write_text("{}")


@dataclass
class Trainings:
    """Starts fake trainings, and remembers them."""

    outcomes: list[dict[str, Any]] = field(default_factory=list)
    started: list[FakeProcess] = field(default_factory=list)

    def spawn(self, words: list[str], log: Path, lock: int | None) -> FakeProcess:
        outcome = self.outcomes.pop(0) if self.outcomes else {}
        self.started.append(FakeProcess(words, **outcome))
        return self.started[-1]

    @property
    def stages(self) -> list[str]:
        return [process.stage for process in self.started]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(work_module, "spawn", made.spawn)
    monkeypatch.setattr(work_module, "LOOK_S", 0.0)
    return made


def work(search: Search, params: dict[str, Any], out: Path, desk: FakeDesk | None = None) -> Any:
    return PointWork(search, params, out, Resources(), (desk or FakeDesk()).lease)


def reports(search: Search, params: dict[str, Any], out: Path) -> list[Report]:
    return list(work(search, params, out).run())


NONE, HALF = {"length": 0.64, "overlap": 0.0}, {"length": 0.64, "overlap": 0.5}


def test_an_encoder_is_trained_once_and_reused(tmp_path: Path, trainings: Trainings) -> None:
    search = lengths_of()
    told = reports(search, NONE, tmp_path)
    assert trainings.stages == ["1", "2"]
    assert told[-1] == {
        "accuracy": 0.5, "within_one": 0.75, "mean_abs_error_s": 0.2, "progress": 100,
        "gflops": told[-1]["gflops"], "failed": False, "done": True, "is_last": True,
    }  # fmt: skip
    assert [report["done"] for report in told] == [False, True]
    reports(search, HALF, tmp_path)
    assert trainings.stages == ["1", "2", "2"]
    starts = [p.words[p.words.index("--init") + 1] for p in trainings.started if p.stage == "2"]
    assert starts[0] == starts[1] == str(trainings.started[0].run)


def test_a_point_that_has_ended_is_not_trained_again(tmp_path: Path, trainings: Trainings) -> None:
    search = lengths_of()
    reports(search, NONE, tmp_path)
    before = len(trainings.started)
    assert reports(search, NONE, tmp_path)[-1]["accuracy"] == 0.5
    assert len(trainings.started) == before
    more = lengths_of(seeds=2)
    reports(more, NONE, tmp_path)
    assert trainings.stages[before:] == ["1", "2"]  # of the second seed


def test_a_trial_waits_for_what_another_trains(tmp_path: Path, trainings: Trainings) -> None:
    desk = FakeDesk(FakeLease(looks=3))
    list(work(lengths_of(), NONE, tmp_path, desk).run())
    assert desk.one.calls[:4] == ["take"] * 4
    assert desk.one.calls[-1] == "drop"
    assert trainings.stages == ["1", "2"]


def test_a_training_that_fails_ends_its_point_with_the_reason(
    tmp_path: Path, trainings: Trainings
) -> None:
    trainings.outcomes = [{}, {"code_at_end": 2, "told": "no clip is long enough"}]
    search = lengths_of(seeds=2)
    told = reports(search, NONE, tmp_path)
    (last,) = told
    assert (last["reason"], last["is_last"]) == ("no clip is long enough", True)
    result = read_result(folder_of(tmp_path, NONE, 1), PointResult)
    assert result is not None
    assert (result.status, result.reason) == ("failed", "no clip is long enough")
    reports(search, NONE, tmp_path)  # a failed one is tried again, its encoder is not
    assert trainings.stages == ["1", "2", "2", "1", "2"]


def test_a_training_that_broke_off_is_resumed_once(tmp_path: Path, trainings: Trainings) -> None:
    broke = {"code_at_end": 2, "told": "training broke off: a worker died"}
    trainings.outcomes = [{}, broke]
    assert reports(lengths_of(), NONE, tmp_path)[-1]["accuracy"] == 0.5
    assert trainings.stages == ["1", "2", "2"]
    trainings.outcomes = [broke, {"code_at_end": -9, "told": "killed"}]
    assert reports(lengths_of(), HALF, tmp_path)[-1]["reason"] == "killed"


def test_a_stage_1_that_failed_is_not_tried_by_every_overlap(
    tmp_path: Path, trainings: Trainings
) -> None:
    trainings.outcomes = [{"code_at_end": 2, "told": "no clip could be read"}]
    lease = FakeDesk().lease
    for params in (NONE, HALF):
        one = PointWork(lengths_of(), params, tmp_path, Resources(), lease, session="first")
        assert list(one.run())[-1]["reason"] == "no clip could be read"
    assert trainings.stages == ["1"]
    again = PointWork(lengths_of(), HALF, tmp_path, Resources(), FakeDesk().lease, session="second")
    assert not list(again.run())[-1]["failed"]


def test_a_trial_that_lost_its_lease_ends_its_process(
    tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "RENEW_S", 0.0)
    desk = FakeDesk(FakeLease(looks=0))
    one = work(lengths_of(), NONE, tmp_path, desk)
    desk.one.take = lambda: len(trainings.started) == 0  # type: ignore[method-assign]
    with pytest.raises(LostLeaseError):
        list(one.run())
    assert one.process is None


def test_a_failure_is_forgotten_when_it_is_tried_again(
    search: Search, manifest: Path, tmp_path: Path, trainings: Trainings
) -> None:
    session = session_of(search, manifest, tmp_path / "out", resume=False)
    write_result(folder_of(session.out, NONE, 1), failed(NONE, 1, "old"))
    told = work(session.search, NONE, session.out).run()
    next(told)  # a validation
    told.close()
    scores = {"accuracy": 0.2, "within_one": 0.3, "mean_abs_error_s": 0.9}
    mark_ended(session, NONE, "stopped", "stopped by ASHA", scores)
    assert session.rows.row_of(NONE).status == "stopped"


def test_seeds_follow_one_another_and_are_averaged(tmp_path: Path, trainings: Trainings) -> None:
    trainings.outcomes = [{}, {"accuracy": 0.4}, {}, {"accuracy": 0.6}]
    told = reports(lengths_of(seeds=2), NONE, tmp_path)
    assert [(r["progress"], r["accuracy"]) for r in told] == [(49.5, 0.4), (100, 0.4), (200, 0.5)]


def test_parts_that_do_not_fit_are_a_failed_point(tmp_path: Path, trainings: Trainings) -> None:
    search = settings_search({"layout.step_s": Choice(values=(0.32, 0.33))})
    told = reports(search, {"layout.step_s": 0.33}, tmp_path)
    assert told[0]["failed"]
    assert "not a whole number of video frames" in told[0]["reason"]
    result = read_result(folder_of(tmp_path, {"layout.step_s": 0.33}, 1), PointResult)
    assert result is not None
    assert not trainings.started


def test_a_stopped_trial_ends_its_process(tmp_path: Path, trainings: Trainings) -> None:
    one = work(lengths_of(), NONE, tmp_path)
    told = one.run()
    next(told)  # stage 2 has validated
    process = trainings.started[-1]
    process.left = 3
    one.stop()
    assert process.is_interrupted
    told.close()


# --- rows, files, the best ---


def result_of(params: dict[str, Any], seed: int, accuracy: float, **changes: Any) -> PointResult:
    given: dict[str, Any] = {
        "status": "done",
        "scores": {
            "accuracy": accuracy,
            "within_one": accuracy,
            "mean_abs_error_s": 1 - accuracy,
        },
        "num": 40,
        "encoder": Cost(wall_s=60, cpu_s=60),
        "head": Cost(wall_s=30, cpu_s=30),
    }
    return PointResult(params=params, seed=seed, **{**given, **changes})


def fill(out: Path, search: Search, scores: list[list[float]]) -> Rows:
    for params, values in zip(search.grid(), scores, strict=True):
        for seed, accuracy in zip(search.train_seeds, values, strict=False):
            write_result(folder_of(out, params, seed), result_of(params, seed, accuracy))
    return Rows(search, out)


def test_rows_know_mean_spread_and_what_is_open(tmp_path: Path) -> None:
    search = lengths_of(seeds=2)
    rows = fill(tmp_path, search, [[0.5, 0.7], [0.9, 0.9], [0.4], []]).read()
    assert [row.status for row in rows] == ["done", "done", "open", "open"]
    assert rows[0].mean("accuracy") == pytest.approx(0.6)
    assert rows[0].spread("accuracy") == pytest.approx(0.1414, abs=1e-4)
    best = best_of(rows, ACCURACY)
    assert best is not None
    assert best.params == {"length": 0.64, "overlap": 0.0}
    page = SearchTable(search, rows).markdown()
    assert "60.0 ± 14.1" in page
    assert "40.0 (1 of 2)" in page
    assert "**best**" in page.splitlines()[8]
    assert "2 of 4 points have ended" in page


def test_the_frontier_holds_what_nothing_beats(tmp_path: Path) -> None:
    search = lengths_of(goal="accuracy-cost")
    rows = fill(tmp_path, search, [[0.5], [0.4], [0.9], [0.8]]).read()
    costs = {name_of(row.params): row.cost.flops for row in rows if row.cost}
    assert costs["length 0.32 s, overlap 0"] < costs["length 0.64 s, overlap 0"]
    names = [name_of(row.params) for row in frontier(rows, ACCURACY)]
    assert names == ["length 0.32 s, overlap 0", "length 0.32 s, overlap 0.5"]
    assert "frontier" in SearchTable(search, rows).markdown()


def test_the_files_hold_every_training(tmp_path: Path) -> None:
    search = lengths_of(seeds=2)
    rows = fill(tmp_path, search, [[0.5, 0.7], [0.9, 0.9], [0.4, 0.4], [0.3, 0.3]])
    lost = {"length": 0.64, "overlap": 0.5}
    write_result(folder_of(tmp_path, lost, 2), failed(lost, 2, "a | worker died"))
    files = {path.name for path in SearchTable(search, rows.read()).write(tmp_path)}
    assert files == {"table.md", "table.csv", "table.json", "table.png"}
    lines = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert len(lines) == 8
    assert lines[0]["length"] == "0.32"
    assert lines[-1]["reason"] == "a | worker died"
    assert "a | worker died" in (tmp_path / "table.md").read_text()
    found = SearchTable(search, rows.read()).as_json()
    assert found["best"] == {"length": 0.64, "overlap": 0.0}
    assert found["rows"][0]["layout"]["num_segments"] == 15
    assert found["rows"][0]["training"]["encoder"]["cpu_s"] == 60
    assert SearchTable(search, []).as_csv().startswith("seed,")


def test_settings_have_a_plot_too(tmp_path: Path) -> None:
    space = {
        "stage2.lr": Range(low=1e-4, high=1e-3, log=True),
        "head": Choice(values=("sync", "correlation")),
    }
    search = settings_search(space, search="optuna", trials=2)
    for number, head in enumerate(("sync", "correlation")):
        params = {"stage2.lr": 3e-4, "head": head}
        write_result(folder_of(tmp_path, params, 1), result_of(params, 1, 0.5 + number / 10))
    rows = Rows(search, tmp_path).read()
    assert [row.params["head"] for row in rows] == ["sync", "correlation"]
    assert "table.png" in {path.name for path in SearchTable(search, rows).write(tmp_path)}


def test_a_damaged_result_counts_as_none(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, NONE, 1)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{")
    assert read_result(folder, PointResult) is None


def test_a_run_without_scores_cannot_be_collected(tmp_path: Path, points: list[Point]) -> None:
    with pytest.raises(TrainingError, match="its model folder cannot be read"):
        collect(points[0], 1, tmp_path / "gone", None)


# --- sessions ---


def session_of(search: Search, manifest: Path, out: Path, **changes: Any) -> Session:
    given = {name: getattr(search, name) for name in search.model_fields_set}
    return open_session({**given, "data": str(manifest)}, out, Options(), **changes)


@pytest.fixture
def search(manifest: Path) -> Search:
    """`lengths_of` for the clips of 9 s."""
    return lengths_of(str(manifest))


def test_a_search_is_kept_and_may_grow(search: Search, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    search.write(out)
    more = Choice(values=(0.32, 0.64, 0.16))
    session = open_session({"space": {"length": more}, "seeds": 2}, out, Options(), resume=True)
    assert session.search.seeds == 2
    assert len(session.points) == 6
    fewer = {"space": {"length": Choice(values=(0.32,))}}
    overlaps = {"space": {"overlap": Choice(values=(0.0, 0.5, 0.75))}}
    for changed, message in (
        (fewer, r"space\.length has 0\.64 there, and not here"),
        ({"input_s": 2.4}, r"input_s is 4\.8 there, 2\.4 here"),
        (overlaps, "overlaps is"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_session(changed, out, Options(), resume=True)


def test_what_is_typed_again_is_merged(search: Search, tmp_path: Path) -> None:
    search.write(tmp_path)
    given: dict[str, Any] = {"base": {"set": {"stage1.steps": 4}}}
    assert open_session(given, tmp_path, Options(), resume=True).search.base == search.base
    given = {"base": {"set": {"stage1.steps": 5}}}
    with pytest.raises(ConfigError, match=r"base\.set\.stage1\.steps is 4 there, 5 here"):
        open_session(given, tmp_path, Options(), resume=True)


def test_a_search_of_settings_is_not_one_of_lengths(manifest: Path, tmp_path: Path) -> None:
    settings_search({"stage2.lr": Choice(values=(1e-4, 1e-3))}, data=str(manifest)).write(tmp_path)
    with pytest.raises(ConfigError, match="holds a search of other settings"):
        open_session({"input_s": 5.0}, tmp_path, Options(), resume=True)


def test_more_seeds_need_a_grid() -> None:
    old, new = (lengths_of(search="optuna", trials=2, seeds=seeds) for seeds in (1, 2))
    with pytest.raises(ConfigError, match="which only a grid can add"):
        refuse_difference(old, new, Path("out"))


def test_seeds_cannot_become_fewer() -> None:
    with pytest.raises(ConfigError, match="seeds is 2 there, 1 here"):
        refuse_difference(lengths_of(seeds=2), lengths_of(), Path("out"))


def test_a_study_of_optuna_keeps_its_space() -> None:
    old, new = (
        settings_search({"stage2.lr": Range(low=1e-4, high=high)}, search="optuna", trials=3)
        for high in (1e-3, 1e-2)
    )
    with pytest.raises(ConfigError, match="a study of Optuna cannot"):
        refuse_difference(old, new, Path("out"))


def test_clips_must_be_long_enough_for_every_point(search: Search, manifest: Path) -> None:
    longer = search.model_copy(update={"input_s": 7.68})
    with pytest.raises(TrainingError, match=r"length 0\.32 s, overlap 0: not one train clip"):
        session_of(longer, manifest, Path("never"), resume=False)


class FakeTune:
    """Runs the points one after the other instead of Ray Tune; some are interrupted."""

    def __init__(self, interrupt_after: int = 100) -> None:
        self.tried: list[str] = []
        self.interrupt_after = interrupt_after

    def __call__(
        self, session: Session, watcher: Watcher, tries: int, points: list[dict[str, Any]]
    ) -> None:
        for params in points[:tries]:
            if len(self.tried) >= self.interrupt_after:
                return
            self.tried.append(name_of(params))
            list(work(session.search, params, session.out).run())


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(session_module, "connected", Nothing)


@pytest.mark.usefixtures("no_ray")
def test_an_interrupted_search_repeats_nothing(
    search: Search,
    manifest: Path,
    tmp_path: Path,
    trainings: Trainings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, first, second = tmp_path / "out", FakeTune(interrupt_after=2), FakeTune()
    monkeypatch.setattr(session_module, "_tune", first)
    assert not session_of(search, manifest, out, resume=False).run(Watcher())
    assert not (out / BEST).exists()
    before = (out / "table.csv").read_text().splitlines()
    monkeypatch.setattr(session_module, "_tune", second)
    assert open_session({}, out, Options(), resume=True).run(Watcher())
    assert first.tried == [name_of(params) for params in search.grid()[:2]]
    assert second.tried == [name_of(params) for params in search.grid()[2:]]
    after = (out / "table.csv").read_text().splitlines()
    assert set(before) <= set(after)
    assert len(after) == 5
    assert trainings.stages == ["1", "2", "1", "2", "2", "2"]
    command = (out / BEST / COMMAND).read_text()
    assert command.startswith("zoo train --extractor ast_motionformer")
    assert (out / BEST / "model.safetensors").read_bytes() == b"weights"
    assert (out / BEST / "familiar.safetensors").read_bytes() == b"tokens"


@pytest.mark.usefixtures("no_ray")
def test_a_search_goes_on_when_a_point_fails(
    search: Search,
    manifest: Path,
    tmp_path: Path,
    trainings: Trainings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainings.outcomes = [{}, {"code_at_end": 2, "told": "no luck"}]
    monkeypatch.setattr(session_module, "_tune", FakeTune())
    session = session_of(search, manifest, tmp_path / "out", resume=False)
    assert session.run(Watcher())
    assert list(session.failures.values()) == ["no luck"]
    assert sum(row.status == "done" for row in session.rows.read()) == 3
    assert (tmp_path / "out" / BEST).exists()
    assert "no luck" in (tmp_path / "out" / "table.md").read_text()


def test_what_is_stopped_keeps_its_scores(
    search: Search, manifest: Path, tmp_path: Path, trainings: Trainings
) -> None:
    session = session_of(search, manifest, tmp_path / "out", resume=False)
    last = {"accuracy": 0.2, "within_one": 0.3, "mean_abs_error_s": 0.9}
    mark_ended(session, NONE, "stopped", "stopped by ASHA at 50 %", last)
    row = session.rows.row_of(NONE)
    assert (row.status, row.mean("accuracy")) == ("stopped", 0.2)
    assert reports(session.search, NONE, session.out)[-1]["accuracy"] == 0.2  # and stays stopped
    assert not trainings.started
    assert keep_best(session) is None


# --- the study ---


def test_a_study_remembers_what_was_interrupted(tmp_path: Path) -> None:
    search = lengths_of(search="optuna", trials=4)
    study = open_study(search, ACCURACY, tmp_path, [NONE, HALF])
    assert study.suggest("a") == NONE
    assert study.suggest("b") == HALF
    study.on_trial_complete("a", {"accuracy": 0.5, "training_iteration": 1})
    study.on_trial_complete("b", {"failed": True})
    other = study.suggest("c")  # and is killed
    progress = read_progress(tmp_path)
    assert (progress.ended, progress.failed) == (1, 1)
    again = [params for params in (HALF, other) if params != NONE]
    assert [dict(params) for params in progress.again] == [
        params for number, params in enumerate(again) if params not in again[:number]
    ]
    resumed = open_study(search, ACCURACY, tmp_path, list(progress.again))
    assert resumed.suggest("d") == progress.again[0]
    assert read_progress(tmp_path).ended == 1


def test_two_goals_are_passed_on(tmp_path: Path) -> None:
    search = lengths_of(search="optuna", trials=2, goal="accuracy-cost")
    study = open_study(search, ACCURACY, tmp_path, [])
    study.suggest("a")
    study.on_trial_complete("a", {"accuracy": 0.5, "gflops": 0.9})
    assert read_progress(tmp_path).ended == 1


def test_a_study_that_is_opened_again_proposes_something_new(tmp_path: Path) -> None:
    space = {"stage2.lr": Range(low=1e-4, high=1e-2, log=True)}
    search, seen = settings_search(space, search="optuna", trials=8), []
    for start in range(2):
        study = open_study(search, ACCURACY, tmp_path, [])
        for number in range(3):
            seen.append(study.suggest(f"{start}-{number}")["stage2.lr"])
            study.on_trial_complete(f"{start}-{number}", {"accuracy": 0.5, "training_iteration": 1})
    assert len(set(seen)) == 6


def test_what_failed_more_than_once_counts_as_often_as_it_was_tried(
    tmp_path: Path, manifest: Path
) -> None:
    search = lengths_of(str(manifest), search="optuna", trials=2)
    study = open_study(search, ACCURACY, tmp_path, [NONE, NONE])
    for name in ("a", "b"):
        study.suggest(name)
        study.on_trial_complete(name, {"failed": True})
    session = Session(search, tmp_path, [], Options(), Rows(search, tmp_path))
    assert session_module._to_do(session, failed_again=False)[0] == 0
    assert session_module._to_do(session) == (2, [NONE])


def test_a_damaged_study_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("not a database")
    with pytest.raises(TrainingError, match=r"study\.db cannot be used"):
        open_study(lengths_of(), ACCURACY, tmp_path, [])
    with pytest.raises(TrainingError, match=r"study\.db cannot be used"):
        read_progress(tmp_path)


# --- bad input on the command line ---


@pytest.fixture
def typed(manifest: Path, tmp_path: Path) -> list[str]:
    return [
        "--data",
        str(manifest),
        "--extractor",
        "ast_motionformer",
        "--out",
        str(tmp_path / "o"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lengths", "0.05"], "nearest length that can be taken is 0.16 s"),
        (["--lengths", ""], "--lengths takes numbers separated by commas"),
        (["--lengths", "0.64,long"], "--lengths takes numbers separated by commas"),
        (["--lengths", "0.64,0.64"], "--lengths names 0.64 twice"),
        (["--lengths", "-1"], "--lengths are seconds above 0"),
        (["--overlaps", "1"], "--overlaps are shares of a segment"),
        (["--input-seconds", "0.1"], "--input-seconds 0.1 is shorter than one segment"),
        (["--lengths", "0.64", "--max-concurrent", "999"], "--max-concurrent 999 x 1 x 1 CPU is"),
        (["--lengths", "0.64", "--workers-per-trial", "999"], "this machine has"),
        (["--lengths", "0.64", "--trials", "3"], "--trials is for --search optuna"),
        (["--lengths", "0.64", "--search", "optuna"], "needs to know how many points"),
        (["--lengths", "0.64", "--set", "stage2.lrr=1"], "unknown key 'stage2.lrr'"),
        (["--lengths", "0.64", "--head", "snyc"], "did you mean 'sync'"),
        (["--lengths", "0.64", "--stage2"], "No such option"),
        (["--lengths", "nan"], "--lengths takes numbers of finite size"),
        (["--lengths", "0.64", "--input-seconds", "inf"], "must be above 0 and finite"),
        (["--lengths", "0.64", "--set", "seed=5"], "'seed' is not set or searched for"),
        (["--lengths", "0.64", "--set", "layout.step_s=0.32"], "--set layout.step_s is what"),
        (
            ["--lengths", "0.64", "--set", "stage2.batch=7", "--workers-per-trial", "2"],
            "or another --workers-per-trial",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    typed: list[str],
    tmp_path: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["tune", "segment-length", *typed, *words]) == 2
    captured = capsys.readouterr()
    assert message in " ".join((captured.out + captured.err).split())
    assert not (tmp_path / "o").exists()


def test_a_file_is_checked_before_anything_starts(
    typed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "space.yaml"
    cases = {
        "space: {}": "'space' is empty",
        "space: {stage2.lrr: [1, 2]}": "unknown key 'stage2.lrr'; did you mean 'lr'",
        "space: {stage2.lr: {low: 1e-4, high: 1e-2}}": "a grid cannot try all of 'stage2.lr'",
        "space: {head.depth: [1, 2]}": "unknown key 'head.depth'",
        "space: {a: {low: 1, high: 900, step: 1}, b: {low: 1, high: 900, step: 1}}": "a grid of",
        "space: {extractor: [1, 2]}": "'space.extractor': Input should be a valid string",
        "space: {preset: [tiny, big]}": "'space.preset'",
        "space: {seed: [1, 2]}": "'seed' is not set or searched for",
        "space: {a: [[1]]}": "values are numbers, words, true, false or null, not [1]",
        "space: {a: {low: x, high: 2}}": "must be a number, got 'x'",
        "space: {a: {low: 1, high: .inf}}": "finite",
        "base: {stage: 2}\nspace: {stage2.lr: [1.0e-4, 1.0e-3]}": "stage 2 needs an encoder",
        "defaults: 3\nspace: {}": "'defaults' must be a kind or a list of them, got 3",
        "defaults: tail\nspace: {}": "there is no 'tail'; there are audio",
        "seeds: 0\nspace: {a: [1]}": f"{path}: 'seeds'",
        "title: 3\nspace: {a: [1]}": f"{path}: 'title'",
        "space: 3": "'space' must hold names and values, got 3",
    }
    for text, message in cases.items():
        path.write_text(text)
        assert run(["tune", str(path), *typed]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert run(["tune", "segment-lenght", *typed]) == 2
    assert "did you mean 'segment-length'" in " ".join(capsys.readouterr().err.split())
    assert run(["tune", str(path), *typed, "--lengths", "0.64"]) == 2
    assert "--lengths is for zoo tune segment-length" in capsys.readouterr().err


def test_there_must_be_something_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["tune", "--out", str(tmp_path), "--resume"]) == 2
    assert "there is no search to resume" in " ".join(capsys.readouterr().err.split())
    assert run(["tune", "--out", str(tmp_path)]) == 2
    assert "say what to search for" in capsys.readouterr().err


def test_a_dry_run_lists_the_points(
    typed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*typed, "--lengths", "0.32,0.64", "--seeds", "2", "--dry-run"]
    assert run(["tune", "segment-length", *words]) == 0
    told = capsys.readouterr().out
    assert "4 points x 2 seeds = 8 trainings, stage I 4 times" in told
    assert run(["tune", "segment-length", *words, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4
    assert not (tmp_path / "o").exists()


def test_resolving_names_the_point() -> None:
    with pytest.raises(ConfigError, match=r"^length 0.64 s, overlap 0.5: .*shorter"):
        resolve(lengths_of(input_s=0.1), HALF, 0)


# --- any task ---

EVENT_RATE = Path(__file__).parents[1] / "event_rate.py"


@pytest.fixture
def event_rate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plugin with a task and an encoder that the zoo has never heard of."""
    monkeypatch.setenv("ZOO_PLUGINS", "")
    add_plugin_file(EVENT_RATE)
    yield
    registry.cache_clear()


@pytest.mark.usefixtures("event_rate")
def test_a_search_may_look_for_the_lowest_score(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = {
        "data": str(manifest),
        "base": {"extractor": "joint", "task": "event_rate", "set": {"stage2.steps": 8}},
        "space": {"encoder.gain": Choice(values=(0.5, 1.0, 2.0))},
    }
    session = open_session(given, out, Options(), resume=False)
    assert (session.search.metric, session.points[0].stages) == ("squared_error", (2,))
    for params, error in zip(session.search.grid(), (0.5, 0.3, 0.4), strict=True):
        result = result_of(params, 1, 0, scores={"squared_error": error})
        write_result(folder_of(out, params, 1), result)
    table = session.known
    header, lines = table.cells()
    assert header[3] == "squared error"
    assert [line[3] for line in lines] == ["0.300", "0.400", "0.500", "1.000"]
    assert lines[0][-1] == "**best**"
    assert table.as_json()["chance"] == {"squared_error": 1.0}
    assert [row.params["encoder.gain"] for row in table.frontier] == [1.0]
    assert table.plot(tmp_path / "plot.png").stat().st_size > 10_000
    study = open_study(session.search, session.metric, tmp_path, [])
    study.suggest("a")
    assert study._ot_study.direction.name == "MINIMIZE"


@pytest.mark.usefixtures("event_rate")
def test_plugins_of_any_kind_bring_a_space(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("data: x\nbase: {extractor: joint}\ndefaults: encoder\nspace: {}\n")
    assert _given(str(path))["space"] == {"encoder.gain": Choice(values=(0.5, 1.0))}


@pytest.mark.usefixtures("event_rate")
def test_a_joint_encoder_has_no_segment_length_to_search_for() -> None:
    with pytest.raises(ConfigError, match="'joint' has no extractors whose segments could have"):
        check_space(lengths_of(base={"extractor": "joint"}), 0)


def test_a_search_of_lengths_may_ask_whether_clips_can_be_synchronized(
    manifest: Path, tmp_path: Path, trainings: Trainings
) -> None:
    base = {
        "extractor": "ast_motionformer",
        "head": "correlation_trust",
        "task": "synchronizability",
        "set": {**SHORT, "stage1.num_segments": 3},
    }
    space = {"length": Choice(values=(0.64,)), "overlap": Choice(values=(0.0, 0.5))}
    given = {"data": str(manifest), "base": base, "space": space, "input_s": 3.2}
    session = open_session(given, tmp_path / "out", Options(), resume=False)
    assert session.search.metric == "accuracy"
    assert {point.recipe.task.name for point in session.points} == {"synchronizability"}
    assert len({point.key for point in session.points}) == 1
    told = list(work(session.search, HALF, session.out).run())
    assert trainings.stages == ["1", "2"]
    assert {"accuracy", "cross_entropy"} <= set(told[-1])
    assert "within_one" not in told[-1]
    row = session.rows.row_of(HALF)
    assert row.outcome() == "accuracy 50.0 %, cross-entropy 0.690"
    assert session.known.cells()[1][-1][4:6] == ["50.0", "0.693"]


def test_points_must_answer_the_same_question() -> None:
    space = {"head": Choice(values=("correlation", "correlation_trust"))}
    with pytest.raises(ConfigError, match="offset, synchronizability cannot be compared"):
        check_space(settings_search(space), 0)


def test_the_score_that_counts_is_one_of_the_task(search: Search, manifest: Path) -> None:
    session = session_of(search, manifest, Path("never"), resume=False)
    assert session.metric.name == "accuracy"  # the first score of the task
    exact = search.model_copy(update={"metric": "exact"})
    assert session_of(exact, manifest, Path("never"), resume=False).metric.name == "accuracy"
    other = search.model_copy(update={"metric": "acuracy"})
    with pytest.raises(ConfigError, match=r"no such score; did you mean 'accuracy'.; there are"):
        session_of(other, manifest, Path("never"), resume=False)


# --- what earlier versions wrote ---


def test_a_search_of_an_earlier_version_goes_on(
    search: Search, manifest: Path, tmp_path: Path, trainings: Trainings
) -> None:
    """Its stage I lies in another folder, its results call scores otherwise."""
    out = tmp_path / "out"
    session = session_of(search, manifest, out, resume=False)
    point = next(point for point in session.points if point.params == HALF)
    former = out / "towers" / "0.64s-12345678" / "seed-1"
    former.mkdir(parents=True)
    (former / "recipe.json").write_text(json.dumps(_as_before(point.recipe)))
    request = point.encoder_request(1).model_dump(mode="json", exclude={"set"})
    settings = point.request.assignments
    (former / "request.json").write_text(json.dumps({**request, "settings": settings}))
    (former / "metrics.jsonl").write_text(json.dumps({"kind": "done", "stage": 1, "time": 1.0}))
    assert point.encoder_folder(out, 1) == former
    kept = {**search.model_dump(mode="json"), "metric": "exact"}
    (out / "search.json").write_text(json.dumps(kept))
    old = {
        "params": NONE, "seed": 1, "status": "done", "reason": None, "exact": 0.4,
        "within_one": 0.5, "mean_abs_error_s": 0.3, "num": 12,
        "towers": {"wall_s": 60, "cpu_s": 50}, "head": {"wall_s": 30, "cpu_s": 20},
    }  # fmt: skip
    folder = folder_of(out, NONE, 1)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(old))
    resumed = open_session({}, out, Options(), resume=True)
    assert resumed.metric.name == "accuracy"
    row = resumed.rows.row_of(NONE)
    assert (row.status, row.mean("accuracy"), row.mean("within_one")) == ("done", 0.4, 0.5)
    assert row.training("encoder") == Cost(wall_s=60, cpu_s=50)
    list(work(resumed.search, HALF, out).run())
    assert trainings.stages == ["2"]


def _as_before(recipe: Recipe) -> dict[str, Any]:
    """Write a recipe as versions did that knew pairs of extractors and offsets only."""
    data = recipe.model_dump(mode="json")
    model, objective = data["model"], data["model"].pop("objective")
    task, encoder = model.pop("task"), model.pop("encoder")
    encoder["config"].pop("siamese")
    model |= {**encoder["config"], "grid": task["config"]["grid"]}
    model["compare"] = objective["config"].pop("compare")
    data["stage1"]["objective"] = objective
    data["stage2"]["towers"] = data["stage2"].pop("encoder")
    return data
