"""``zoo ablate`` with faked jobs: table, plan, scheduling, failures, resuming, files."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, TrainingError, ZooError
from zoo.experiments.ablation import (
    TABLE,
    Options,
    open_ablation,
    outcome,
    refuse_difference,
)
from zoo.experiments.ablation_jobs import JobResult, Schedule, collect, evaluate_words, failed
from zoo.experiments.ablation_page import ResultTable
from zoo.experiments.ablation_plan import Job, Key, choose, plan, share_out
from zoo.experiments.ablation_table import Table, read_table
from zoo.experiments.lock import locked
from zoo.experiments.overview import Watcher
from zoo.experiments.process import reason_in, spawn, stop
from zoo.experiments.results import read_result, write_result
from zoo.experiments.run_cost import Cost, Start, count_costs
from zoo.experiments.training_runs import training_words
from zoo.registry.manager import add_plugin_file, registry
from zoo.training.resources import Resources
from zoo.training.runlog import METRICS

FIRST, SECOND = "AVCLIP + correlation", "AVCLIP + sync"


def given(**changes: Any) -> dict[str, Any]:
    """Two variants that share an encoder, on two data sets, with two seeds."""
    table = {
        "title": "Heads",
        "seeds": [1, 2],
        "data": {name: {"manifest": f"{name}.parquet", "make": "no"} for name in ("few", "many")},
        "base": {"extractor": "ast_motionformer", "set": {"stage1.steps": 6, "stage2.steps": 4}},
        "evaluate": {"rounds": 3},
        "variants": {
            SECOND: {"head": "sync", "encoder": FIRST, "set": {"stage2.steps": 9}, "note": "Slow."},
            FIRST: {"paper": {"accuracy": 0.437}},
        },
    }
    return {**table, **changes}


def write(tmp_path: Path, table: dict[str, Any], name: str = "table.yaml") -> Path:
    path = tmp_path / name
    path.write_text(yaml.safe_dump(table, sort_keys=False))
    return path


def read(tmp_path: Path, **changes: Any) -> Table:
    return read_table(write(tmp_path, given(**changes)))


def jobs_of(tmp_path: Path, **changes: Any) -> list[Job]:
    return plan(read(tmp_path, **changes), tmp_path / "out", Resources())


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, list[Job]]:
    """The table of `given` and its jobs."""
    folder = tmp_path_factory.mktemp("planned")
    table = read(folder)
    return table, plan(table, folder / "out", Resources())


@pytest.fixture
def jobs(planned: tuple[Table, list[Job]]) -> list[Job]:
    return planned[1]


def result_of(job: Job, accuracy: float = 0.5) -> JobResult:
    given = {
        "accuracy": accuracy,
        "within_one": accuracy + 0.1,
        "mean_abs_error_s": 0.3,
        "cross_entropy": 0.6,
        "squared_error": 0.25,
    }
    known = {score.name for score in job.recipe.task.scores}
    return JobResult(
        **job.key._asdict(),
        status="done",
        scores={name: value for name, value in given.items() if name in known},
        num_clips=10,
        rounds=3,
        stage1=Cost(wall_s=60, cpu_s=90) if 1 in job.stages else Cost(),
        stage2=Cost(wall_s=30, cpu_s=30),
        parameters=job.parameters,
    )


@dataclass
class Fake:
    """A job at work that ends when it is polled for the third time."""

    job: Job
    outcome: Callable[[Job], JobResult]
    polls: int = 0
    told: list[str] = field(default_factory=list)
    is_alive: bool = True
    heeds: bool = True

    def poll(self) -> JobResult | None:
        self.polls += 1
        return self.outcome(self.job) if self.polls >= 3 else None

    def interrupt(self) -> None:
        self.told.append("interrupt")
        self.is_alive = not self.heeds

    def kill(self) -> None:
        self.told.append("kill")
        self.is_alive = False


# --- the table ---


def test_a_variant_is_put_over_the_base_and_settings_merge_key_by_key(tmp_path: Path) -> None:
    table = read(tmp_path)
    options = table.options_of(SECOND)
    assert options.set == {"stage1.steps": 6, "stage2.steps": 9}
    assert (options.extractor, options.head, options.stage) == ("ast_motionformer", "sync", "2")
    assert table.options_of(FIRST).stage is None


def test_a_variant_takes_over_the_extractor_of_its_source(tmp_path: Path) -> None:
    variants = {
        "a": {"extractor": "resnet18_s3d", "preset": "paper"},
        "b": {"encoder": "a", "head": "sync"},
        "c": {"encoder": {"variant": "b", "data": "many"}, "stage": "all", "data": ["few"]},
    }
    table = read(tmp_path, variants=variants)
    for name in "bc":
        options = table.options_of(name)
        assert (options.extractor, options.preset) == ("resnet18_s3d", "paper"), name
    assert table.options_of("c").stage == "all"


def test_an_encoder_may_come_from_another_data_set(tmp_path: Path) -> None:
    from_many = {"encoder": {"variant": "a", "data": "many"}, "stage": "all", "data": ["few"]}
    jobs = {job.key: job for job in jobs_of(tmp_path, variants={"a": {}, "b": from_many})}
    assert jobs[Key("few", "b", 1)].source == Key("many", "a", 1)
    assert jobs[Key("few", "b", 1)].stages == (1, 2)
    assert Key("many", "b", 1) not in jobs


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds": []}, "'seeds' is empty"),
        ({"seeds": [1, 1]}, "'seeds' must differ"),
        ({"sedes": [1]}, "unknown key 'sedes'; did you mean 'seeds'"),
        ({"data": {}}, "'data' is empty"),
        ({"variants": {"a": {"haed": "sync"}}}, "'variants.a.haed'; did you mean 'head'"),
        ({"variants": {"a": {"data": ["feww"]}}}, "no data set 'feww'; did you mean 'few'"),
        ({"variants": {"a": {"encoder": "b"}, "c": {}}}, "there is no variant 'b'"),
        ({"variants": {"a": {"encoder": "b"}, "b": {"encoder": "a"}}}, "circle: a -> b -> a"),
        ({"variants": {"a": {"data": ["few"]}, "b": {"encoder": "a"}}}, "'a' is not trained on"),
        ({"variants": {"a b": {}, "A-B": {}}}, "would share the folder 'a-b'"),
        ({"variants": {"a": {"stage": 1}}}, "variant 'a': stage 1 alone has no head"),
        ({"variants": {"a": {"stage": 2}}}, "variant 'a': stage 2 needs the encoder"),
        ({"base": {}}, "say which 'extractor', here or in the base"),
        ({"variants": {"a": {"head": "snyc"}}}, "variant 'a': .*did you mean 'sync'"),
        ({"variants": {"a": {"set": {"stage2.lrr": 1}}}}, "variant 'a': .*'stage2.lrr'"),
        ({"variants": {"a": {"paper": {"exact": 43.7}}}}, "'variants.a.paper.exact'"),
        (
            {"variants": {"a": {"paper": {"acuracy": 0.4}}}},
            "unknown key 'variants.a.paper.acuracy'; did you mean 'accuracy'",
        ),
        ({"variants": {"a": {"data": "few"}}}, "'variants.a.data'"),
        ({"base": {"seed": 3}}, "unknown key 'base.seed'"),
        ({"variants": {"a": {"seed": 3}}}, "unknown key 'variants.a.seed'"),
        (
            {"variants": {"a": {}, "b": {"encoder": "a", "extractor": "resnet18_s3d"}}},
            "variant 'b': .* does not fit the encoder of 'a'",
        ),
        ({"evaluate": {"rounds": 0}}, "'evaluate.rounds'"),
    ],
)
def test_a_table_that_cannot_be_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ZooError, match=sentence) as error:
        jobs_of(tmp_path, **changes)
    assert str(tmp_path / "table.yaml") in str(error.value)


def test_a_variant_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("seeds: [1]\ndata: {}\nvariants:\n  a: {}\n  a: {head: sync}\n")
    with pytest.raises(ConfigError, match=r"'a' is given twice \(line 5\)"):
        read_table(path)
    path.write_text("a: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_table(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_table(tmp_path / "none.yaml")


def test_a_missing_manifest_without_a_way_to_make_it_is_named(
    tmp_path: Path, clips: Manifest
) -> None:
    missing = write(tmp_path, given(data={"few": {"manifest": "none.parquet"}}))
    with pytest.raises(ZooError, match=r"'data.few': .*none\.parquet.*say with 'make'"):
        open_ablation(missing, tmp_path / "out", Options(), resume=False)
    there = str(clips.folder / "manifest.parquet")
    table = write(tmp_path, given(data={"few": {"manifest": there}}))
    assert len(open_ablation(table, tmp_path / "out", Options(), resume=False).jobs) == 4
    assert not (tmp_path / "out").exists()


# --- the plan ---


def test_jobs_come_seed_by_seed_and_after_their_source(jobs: list[Job]) -> None:
    assert [job.key.seed for job in jobs] == [1] * 4 + [2] * 4
    place = {job.key: number for number, job in enumerate(jobs)}
    for job in jobs:
        assert job.recipe.seed == job.request.seed == job.key.seed
        assert job.source is None or place[job.source] < place[job.key]
    second = next(job for job in jobs if job.key.variant == SECOND)
    assert second.stages == (2,)
    assert second.request.init == (str(jobs[0].run),)
    assert second.parameters > 100_000


def test_an_encoder_that_stage_2_trained_is_taken_as_stage_1_left_them(tmp_path: Path) -> None:
    trained = {"set": {"stage2.encoder": "trained"}, "features": "online", "stage": "all"}
    jobs = jobs_of(tmp_path, variants={"a": trained, "b": {"encoder": "a"}})
    start = next(job for job in jobs if job.key.variant == "b").request.init
    assert start is not None
    assert start[0].endswith("/few/a/seed-1/run/stage1")


def test_only_some_variants_and_seeds_bring_what_they_start_from(
    planned: tuple[Table, list[Job]],
) -> None:
    table, jobs = planned
    chosen = choose(jobs, table, 1, (SECOND,))
    assert chosen == {Key(data, name, 1) for data in ("few", "many") for name in (FIRST, SECOND)}
    assert len(choose(jobs, table, None, (FIRST,))) == 4
    with pytest.raises(ConfigError, match="no such variant; there are 'AVCLIP"):
        choose(jobs, table, None, ("none",))
    with pytest.raises(ConfigError, match="has only 2 seeds"):
        choose(jobs, table, 3, ())


def test_jobs_share_out_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("experiments.ablation_plan", "training.resources"):
        monkeypatch.setattr(f"zoo.{module}.count_cpus", lambda: 8)
    assert share_out(Resources(), 1) == Resources()
    assert share_out(Resources(workers=2), 2).cpus_per_worker == 2
    with pytest.raises(TrainingError, match=r"jobs 9 .* this machine has 8"):
        share_out(Resources(), 9)
    with pytest.raises(TrainingError, match="start a cluster"):
        share_out(Resources(gpus_per_worker=1), 2)
    assert share_out(Resources(gpus_per_worker=1, address="auto"), 2).cpus_per_worker == 0


def test_a_job_is_typed_as_one_would(tmp_path: Path) -> None:
    job = jobs_of(tmp_path)[0]
    words = " ".join(training_words(job.request, job.run, Resources(workers=2)))
    assert "--set stage1.steps=6 --set stage2.steps=4" in words
    assert "--extractor ast_motionformer" in words
    assert "--seed 1" in words
    job.run.mkdir(parents=True)
    (job.run / "recipe.json").write_text("{")  # broken off while it was written
    assert "--resume" not in training_words(job.request, job.run, Resources())
    job.run.mkdir()
    for name in ("recipe.json", "request.json"):
        (job.run / name).write_text("{}")
    words = " ".join(training_words(job.request, job.run, Resources()))
    assert "--resume" in words
    assert "--extractor" not in words


# --- at work ---


def drive(schedule: Schedule) -> list[Key]:
    """Step a schedule to its end; return what was begun, in order."""
    begun: list[Key] = []
    while not schedule.is_over:
        schedule.step()
        assert len(schedule.at_work) <= schedule.limit
        begun += [key for key in schedule.at_work if key not in begun]
    return begun


def test_a_job_waits_for_its_encoder_and_others_do_not(jobs: list[Job]) -> None:
    sources: dict[Key, JobResult | None] = {}

    def start(job: Job, source: JobResult | None) -> Fake:
        sources[job.key] = source
        return Fake(job, result_of)

    schedule = Schedule(jobs, start, limit=3)
    begun = drive(schedule)
    assert len(begun) == len(jobs)
    assert {key.variant for key in begun[:2]} == {FIRST}
    for job in jobs:
        found = sources[job.key]
        assert (None if found is None else found.key) == job.source


def test_a_failure_takes_only_what_starts_from_it_along(jobs: list[Job]) -> None:
    bad = Key("few", FIRST, 1)
    schedule = Schedule(
        jobs, lambda job, _: Fake(job, lambda j: failed(j, "x") if j.key == bad else result_of(j))
    )
    begun = drive(schedule)
    lost = {key for key, result in schedule.results.items() if not result.is_done}
    assert lost == {bad, Key("few", SECOND, 1)}
    assert Key("few", SECOND, 1) not in begun
    assert str(bad) in (schedule.results[Key("few", SECOND, 1)].reason or "")


def test_features_are_needed_while_a_job_that_starts_from_them_has_not_ended(
    jobs: list[Job],
) -> None:
    schedule = Schedule(jobs, lambda job, _: Fake(job, result_of))
    source = Key("few", FIRST, 1)
    assert schedule.is_needed(source)
    drive(schedule)
    assert not schedule.is_needed(source)


def test_what_does_not_heed_ctrl_c_is_killed(jobs: list[Job]) -> None:
    job = jobs[0]
    meek, deaf = Fake(job, result_of), Fake(job, result_of, heeds=False)
    stop([meek, deaf], patience_s=0.2)
    assert deaf.told == ["interrupt", "kill"]
    assert not deaf.is_alive
    assert not meek.is_alive


def test_only_one_ablation_works_in_a_folder(tmp_path: Path) -> None:
    refused = pytest.raises(TrainingError, match="another zoo command is at work")
    with locked(tmp_path), refused, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_command_leaves_its_words_and_its_end_in_a_log(tmp_path: Path) -> None:
    working = spawn(["evaluate", "no-such-model"], tmp_path / "log.txt", None, folder=tmp_path)
    assert working.popen.wait() == 2
    assert "Missing option '--data'" in (tmp_path / "log.txt").read_text()
    assert working.reason() == f"zoo evaluate ended with exit code 2; see {tmp_path / 'log.txt'}"
    working = spawn(["info", "no-such-model"], tmp_path / "log.txt", None)
    assert working.popen.wait() == 2
    assert "no-such-model" in working.reason()


# --- its end ---


def run_with(
    monkeypatch: pytest.MonkeyPatch,
    path: Path | None,
    out: Path,
    outcome: Callable[[Job], JobResult] = result_of,
    **options: Any,
) -> list[Key]:
    """Run a table with faked jobs; return those that were begun."""
    begun: list[Key] = []

    def start(_shop: object, job: Job, _source: JobResult | None) -> Fake:
        begun.append(job.key)
        job.folder.mkdir(parents=True, exist_ok=True)

        def end(job: Job) -> JobResult:
            result = outcome(job)
            write_result(job.folder, result)
            return result

        return Fake(job, end)

    monkeypatch.setattr("zoo.experiments.ablation_jobs.JobStarter.start", start)
    monkeypatch.setattr("zoo.experiments.ablation._make_data", lambda *_: False)
    monkeypatch.setattr(ResultTable, "plot", lambda *_: out / "table.png")
    monkeypatch.setattr("zoo.experiments.ablation.REFRESH_S", 0.0)
    ablation = open_ablation(path, out, Options(**options), resume=(out / TABLE).exists())
    ablation.run(Watcher())
    return begun


def test_a_resumed_table_repeats_nothing_but_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, bad = tmp_path / "out", Key("few", FIRST, 2)

    def outcome(job: Job) -> JobResult:
        return failed(job, "no memory") if job.key == bad else result_of(job)

    path = write(tmp_path, given())
    assert len(run_with(monkeypatch, path, out, outcome)) == 7
    page = (out / "table.md").read_text()
    assert "- few, AVCLIP + correlation, seed 2: no memory" in page
    assert "| 50.0 (1 of 2, failed) | 60.0 (1 of 2, failed) |" in page
    before = (out / "runs/few/avclip-sync/seed-1/result.json").read_bytes()
    assert run_with(monkeypatch, None, out) == [bad, Key("few", SECOND, 2)]
    assert (out / "runs/few/avclip-sync/seed-1/result.json").read_bytes() == before
    assert "failed" not in (out / "table.md").read_text()
    assert run_with(monkeypatch, None, out) == []


def test_variants_seeds_and_data_sets_may_be_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    begun = run_with(monkeypatch, write(tmp_path, given()), out, seeds=1)
    assert {key.seed for key in begun} == {1}
    assert "| 50.0 (1 of 2) |" in (out / "table.md").read_text()
    more = given(seeds=[1, 2, 3])
    more["variants"]["mean"] = {"aggregator": "mean"}
    more["data"]["third"] = {"manifest": "third.parquet", "make": "no"}
    more["title"] = "Heads and more"
    added = run_with(monkeypatch, write(tmp_path, more), out)
    assert len(added) == 3 * 3 * 3 - len(begun)
    assert not {*added} & {*begun}
    assert len(list(csv.DictReader((out / "table.csv").open()))) == 27


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t["base"]["set"].update({"stage2.steps": 5}), r"stage2\.steps is 4 there, 5"),
        (lambda t: t["variants"].pop(SECOND), f"variant {SECOND!r} is there".replace("+", r"\+")),
        (lambda t: t["variants"][SECOND].pop("encoder"), "encoder"),
        (lambda t: t.update(seeds=[2]), "seed 1 is there, and not here"),
        (lambda t: t["evaluate"].update(rounds=9), "evaluate.rounds is 3 there, 9 here"),
        (lambda t: t["data"]["few"].update(make="other"), "data.few.make is no there, other here"),
    ],
)
def test_a_table_that_changes_what_was_begun_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    old, changed = read(tmp_path), given()
    change(changed)
    new = read_table(write(tmp_path, changed, "new.yaml"))
    with pytest.raises(ConfigError, match=sentence):
        refuse_difference(old, new, tmp_path / "out")


def test_the_same_table_written_otherwise_is_the_same(tmp_path: Path) -> None:
    changed = given()
    del changed["base"]["set"]
    changed["variants"][FIRST]["set"] = {"stage1.steps": 6, "stage2.steps": 4}
    changed["variants"][SECOND]["set"] = {"stage2.steps": 9, "stage1.steps": 6}
    changed["variants"][SECOND]["note"] = "Slower."
    new = read_table(write(tmp_path, changed, "new.yaml"))
    refuse_difference(read(tmp_path), new, tmp_path / "out")


def test_the_page_shows_mean_and_spread_and_what_is_missing(
    planned: tuple[Table, list[Job]],
) -> None:
    table, jobs = planned
    results = {
        job.key: result_of(job, 0.4 if job.key.seed == 1 else 0.5)
        for job in jobs
        if job.key.data == "few"
    }
    lost = next(job for job in jobs if job.key == Key("many", FIRST, 1))
    results[lost.key] = failed(lost, "no memory")
    page = ResultTable(table, jobs, results).markdown()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    cells = [cell.strip() for cell in rows[2].split("|")[1:-1]]
    assert cells[:3] == ["AVCLIP + sync¹", "45.0 ± 7.1", "55.0 ± 7.1"]
    assert cells[3:6] == ["..", "..", "† + 9"]
    first = [cell.strip() for cell in rows[3].split("|")[1:-1]]
    assert first[3:7] == ["failed", "failed", "6 + 4", "1.5"]
    assert first[-2:] == ["43.7", "–"]
    assert rows[-1].startswith("| chance | 4.8 | 13.8 | 4.8 | 13.8 |")
    assert "¹ Slow." in page
    assert "few: 10 clips x 3 samples" in page


def test_a_single_seed_says_that_it_knows_no_spread(tmp_path: Path) -> None:
    table, jobs = read(tmp_path, seeds=[3]), jobs_of(tmp_path, seeds=[3])
    results = {job.key: result_of(job) for job in jobs}
    page = ResultTable(table, jobs, results).markdown()
    assert "One seed" in page
    assert "±" not in page.split("| --- |")[1].split("chance")[0]


def test_all_files_are_written_and_agree(planned: tuple[Table, list[Job]], tmp_path: Path) -> None:
    table, jobs = planned
    results = {job.key: result_of(job, job.key.seed / 4) for job in jobs}
    files = ResultTable(table, jobs, results).write(tmp_path)
    assert [file.name for file in files] == ["table.md", "table.csv", "table.json", "table.png"]
    assert files[3].stat().st_size > 10_000
    data = json.loads(files[2].read_text())
    few = data["variants"][SECOND]["data"]["few"]
    assert few["mean"]["accuracy"] == pytest.approx(0.375)
    assert few["std"]["accuracy"] == pytest.approx(0.1767767)
    assert len(data["results"]) == len(list(csv.DictReader(files[1].open()))) == 8
    row = ResultTable(table, jobs, results).rows[1]
    assert row.training == Cost(wall_s=90, cpu_s=120)


# --- what is read from runs ---


def test_stage_1_is_drawn_as_curves_where_it_was_validated_more_than_once(tmp_path: Path) -> None:
    variants = {
        "slow": {"group": "low"},
        "fast": {"group": "low", "set": {"stage1.lr": 1e-2}},
        "other": {"extractor": "cavmae", "objective": "cav"},
        "twice": {"encoder": "slow", "head": "sync"},
    }
    table, jobs = read(tmp_path, variants=variants), jobs_of(tmp_path, variants=variants)
    ended = [job for job in jobs if job.key.data == "few"]
    results = {job.key: result_of(job) for job in ended}
    assert ResultTable(table, jobs, results).curves() == []
    for job in ended:
        steps = (10, 20) if (job.key.variant, job.key.seed) != ("fast", 2) else (10,)
        job.run.mkdir(parents=True)
        for step in steps:
            score = "found" if job.key.variant == "other" else "precision"
            record = {"stage": 1, "step": step, "kind": "valid", score: step / 100}
            with (job.run / METRICS).open("a") as stream:
                stream.write(json.dumps(record) + "\n")
    known = ResultTable(table, jobs, results)
    panels = {panel.title: panel for panel in known.curves()}
    assert {title: list(panel.lines) for title, panel in panels.items()} == {
        "few low": ["slow", "fast"],
        "few": ["other"],
    }
    low = panels["few low"]
    assert low.lines == {"slow": [{10: 0.1, 20: 0.2}] * 2, "fast": [{10: 0.1, 20: 0.2}]}
    assert known.write(tmp_path)[-1] == tmp_path / "stage1.png"
    assert (tmp_path / "stage1.png").stat().st_size > 10_000


def test_time_between_a_break_and_its_resumption_does_not_count() -> None:
    def record(stage: int, time_s: float, cpu_s: float, kind: str = "train") -> dict[str, Any]:
        return {"stage": stage, "time": time_s, "cpu_s": cpu_s, "kind": kind}

    whole = [record(1, 110, 5), record(1, 130, 25), record(2, 140, 33), record(2, 199, 9, "done")]
    costs = count_costs(whole, [Start(100, 1)])
    assert costs == {1: Cost(wall_s=30, cpu_s=25), 2: Cost(wall_s=10, cpu_s=8)}
    broken = [record(1, 110, 5), record(1, 1010, 30), record(2, 1030, 45)]
    costs = count_costs(broken, [Start(100, 2), Start(1000, 2)])
    assert costs == {1: Cost(wall_s=20, cpu_s=70), 2: Cost(wall_s=20, cpu_s=30)}
    assert count_costs([], []) == {1: Cost(), 2: Cost()}


def test_the_reason_of_a_failure_is_the_last_error_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("error: of the last time\n")
    start = log.stat().st_size
    with log.open("a") as stream:
        stream.write("$ zoo train\nTraceback\nValueError: first\nerror: too short\nmore\n")
    assert reason_in(log, start) == "too short"
    assert reason_in(log, log.stat().st_size) == ""


# --- the command ---


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def test_a_dry_run_lists_the_jobs_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write(tmp_path, given()), tmp_path / "out"
    assert run(["ablate", str(path), "--out", str(out), "--dry-run"]) == 0
    shown = said(capsys)
    assert f"encoder of {FIRST}" in shown
    assert "8 jobs, 8 to do" in shown
    assert run(["ablate", str(path), "--out", str(out), "--dry-run", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["steps"] == {"stage1": 6, "stage2": 4}
    assert not out.exists()


def test_folders_and_tables_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, given())
    for arguments, sentence in (
        ([str(path), "--out", str(tmp_path)], "is not empty; take another --out, or go on with"),
        (["--out", str(tmp_path / "new")], "say which table"),
        (["--out", str(tmp_path / "new"), "--resume"], "there is no ablation to resume"),
        ([str(tmp_path), "--out", str(tmp_path / "new")], "cannot read"),
    ):
        assert run(["ablate", *arguments]) == 2
        assert sentence in said(capsys)


# --- any task ---

EVENT_RATE = Path(__file__).parents[1] / "event_rate.py"
QUESTIONS = {
    "offset": {},
    "whether": {"encoder": "offset", "task": "synchronizability"},
    "how often": {"extractor": "joint", "task": "event_rate"},
}


@pytest.fixture
def event_rate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plugin with a task and an encoder that the zoo has never heard of."""
    monkeypatch.setenv("ZOO_PLUGINS", "")
    add_plugin_file(EVENT_RATE)
    yield
    registry.cache_clear()


@pytest.mark.usefixtures("event_rate")
def test_variants_may_answer_different_questions(tmp_path: Path) -> None:
    variants = {**QUESTIONS, "how often": {**QUESTIONS["how often"], "paper": {"squared_error": 2}}}
    table = read(tmp_path, variants=variants, seeds=[1])
    jobs = plan(table, tmp_path / "out", Resources())
    by_name = {job.key.variant: job for job in jobs}
    assert by_name["whether"].stages == by_name["how often"].stages == (2,)
    head, layout = by_name["whether"].recipe.model.head, by_name["whether"].recipe.model.layout
    assert head is not None
    assert (head.name, layout.num_segments) == ("correlation_trust", 13)
    results = {job.key: result_of(job) for job in jobs if job.key.data == "few"}
    known = ResultTable(table, jobs, results)
    header, lines = known.cells()
    scores = ("accuracy", "within 1 class", "cross-entropy", "squared error")
    assert header[:5] == ["variant", *(f"few: {score}" for score in scores)]
    cells = {line[0]: line[1:5] for line in lines}
    assert cells["offset"] == ["50.0", "60.0", "–", "–"]
    assert cells["whether"] == ["50.0", "–", "0.600", "–"]
    assert cells["how often"] == ["–", "–", "–", "0.250"]
    assert cells["chance"] == ["4.8 / 50.0", "13.8", "0.693", "1.000"]
    assert lines[2][-4:] == ["–", "–", "–", "2.000"]
    found = known.as_json()["variants"]
    assert found["whether"]["data"]["few"]["mean"] == {"accuracy": 0.5, "cross_entropy": 0.6}
    assert found["how often"]["extractors"] == ["joint"]
    written = csv.DictReader(known.as_csv().splitlines())
    assert {line["variant"]: line["squared_error"] for line in written} == {
        "offset": "",
        "whether": "",
        "how often": "0.25",
    }
    assert known.plot(tmp_path / "plot.png").stat().st_size > 10_000


def test_a_report_of_any_task_is_collected(tmp_path: Path) -> None:
    variants = {"a": {"task": "synchronizability", "head": "correlation_trust"}}
    job = jobs_of(tmp_path, variants=variants)[0]
    report = {"pooled": {"accuracy": 0.75, "roc_auc": 0.8}, "chance": {"accuracy": 0.5}}
    job.folder.mkdir(parents=True)
    path = job.folder / "report.json"
    path.write_text(json.dumps({**report, "num_clips": 3, "rounds": 2}))
    result = collect(job, None)
    assert (result.scores, result.chance) == ({"accuracy": 0.75}, {"accuracy": 0.5})
    assert outcome(job, result) == "accuracy 75.0% (0.0 min of training)"
    path.write_text(json.dumps({"pooled": {}, "chance": {}, "num_clips": 3, "rounds": 2}))
    with pytest.raises(TrainingError, match="holds no score of the task 'synchronizability'"):
        collect(job, None)


def test_retrieval_needs_no_head_and_has_scores_of_its_own(tmp_path: Path) -> None:
    variants = {"alone": {"stage": 1}, "with head": {"encoder": "alone"}}
    evaluate = {"protocol": "retrieval"}
    table = read(tmp_path, variants=variants, evaluate=evaluate, seeds=[1])
    jobs = plan(table, tmp_path / "out", Resources())
    assert {(job.key.variant, job.stages, job.head) for job in jobs} == {
        ("alone", (1,), None),
        ("with head", (2,), "correlation"),
    }
    assert jobs[0].parameters < jobs[-1].parameters
    assert evaluate_words(jobs[0], table.evaluate, Resources())[-3:] == [
        "--protocol", "retrieval", "--no-controls"
    ]  # fmt: skip
    names = ("audio_to_video_r1", "video_to_audio_r1", "video_to_audio_median")
    report = {
        "pooled": dict(zip(names, (0.3, 0.2, 4.5), strict=True)),
        "chance": dict(zip(names, (0.05, 0.05, 10.5), strict=True)),
        **{"num_clips": 20, "rounds": None},
    }
    jobs[0].folder.mkdir(parents=True)
    (jobs[0].folder / "report.json").write_text(json.dumps(report))
    result = collect(jobs[0], None)
    assert outcome(jobs[0], result).startswith("A→V R@1 30.0%, V→A R@1 20.0% (")
    known = ResultTable(table, jobs, {jobs[0].key: result})
    header, lines = known.cells()
    assert header[1:3] == ["few: A→V R@1", "few: V→A R@1"]
    assert lines[0][1:3] == ["30.0", "20.0"]
    assert lines[-1][1:3] == ["5.0", "5.0"]
    assert "few: 20 clips." in known.markdown()
    assert known.plot(tmp_path / "plot.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("evaluate", "words"),
    [
        ({"protocol": "retrieval", "rounds": 2}, "'evaluate.rounds' does not go with"),
        ({"subset": "five.json"}, "cannot read the subset"),
        ({"protocol": "retrieva"}, "'evaluate': unknown protocol 'retrieva'; did you mean"),
        ({"rounds": 2}, "stage 1 alone has no head to evaluate.*protocol: retrieval"),
    ],
)
def test_evaluations_that_cannot_be_are_refused_before_training(
    evaluate: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ZooError, match=words):
        jobs_of(tmp_path, variants={"a": {"stage": 1}}, evaluate=evaluate)


def test_parts_that_the_source_does_not_have_are_named(tmp_path: Path) -> None:
    for own in ({"extractor": "resnet18_s3d"}, {"aggregator": "mean"}):
        with pytest.raises(ConfigError, match="does not fit the encoder of 'a', ast \\+ motion"):
            jobs_of(tmp_path, variants={"a": {}, "b": {"encoder": "a", **own}})


# --- what earlier versions wrote ---


def test_a_result_of_an_earlier_version_is_read(jobs: list[Job], tmp_path: Path) -> None:
    old = {
        "data": "few", "variant": SECOND, "seed": 1, "status": "done", "reason": None,
        "exact": 0.4, "within_one": 0.5, "mean_abs_error_s": 0.3, "chance_exact": 1 / 21,
        "chance_within_one": 0.138, "num_clips": 10, "rounds": 3,
        "stage1": {"wall_s": 0, "cpu_s": 0}, "stage2": {"wall_s": 30, "cpu_s": 20},
        "towers": {"wall_s": 60, "cpu_s": 50}, "stage1_steps": 0, "stage2_steps": 9,
        "parameters": 7,
    }  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps(old))
    found = read_result(tmp_path, JobResult)
    assert found is not None
    assert found.scores == {"accuracy": 0.4, "within_one": 0.5, "mean_abs_error_s": 0.3}
    assert found.chance == {"accuracy": 1 / 21, "within_one": 0.138}
    assert found.training == Cost(wall_s=90, cpu_s=70)
    lost = {**old, "status": "failed", "exact": None, "within_one": None, "mean_abs_error_s": None}
    (tmp_path / "result.json").write_text(json.dumps(lost))
    found = read_result(tmp_path, JobResult)
    assert found is not None
    assert found.scores == {}


def test_an_ablation_of_an_earlier_version_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its table calls things otherwise; nothing that has ended is repeated."""
    out = tmp_path / "out"
    run_with(monkeypatch, write(tmp_path, given()), out, seeds=1)
    text = (out / TABLE).read_text().replace("encoder:", "towers:").replace("accuracy:", "exact:")
    assert "towers:" in text
    assert "exact: 0.437" in text
    (out / TABLE).write_text(text)
    assert {key.seed for key in run_with(monkeypatch, None, out)} == {2}
    assert "| 43.7 |" in (out / "table.md").read_text()
    assert "exact: 0.437" in (out / TABLE).read_text()
