"""The evaluation protocol ``retrieval``: ranks, ties, subsets, reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ssl_golden import arrays, needs_ssl

from zoo.catalog.model_folder import save_model
from zoo.cli.app import run
from zoo.data.manifest import Clip, Manifest
from zoo.data.subset import choose_per_class, ids_of, match_ids, read_ids, write_ids
from zoo.errors import ConfigError, ManifestError
from zoo.evaluation.evaluation_request import Request
from zoo.evaluation.protocol import RETRIEVAL
from zoo.evaluation.report import evaluate
from zoo.evaluation.report_files import markdown, report_tables, write_report
from zoo.evaluation.retrieval import _by_clip, score_similarity
from zoo.models.model import Model
from zoo.retrieval.ranking import (
    chance_of,
    count_before,
    mean_ranks,
    published_scores,
    score_ranks,
)

NAMES = ("r1", "r5", "r10", "median")


@needs_ssl
@pytest.mark.parametrize("way", ["a2v", "v2a"])
def test_recall_and_median_rank_equal_the_published_ones(way: str) -> None:
    similarity = arrays("metrics")["ret_sim"]
    counts = count_before(similarity if way == "a2v" else similarity.T)
    found = score_ranks(*counts)
    np.testing.assert_allclose([found[n] for n in NAMES], arrays("metrics")[f"ret_{way}"])
    assert published_scores(*counts) == (found, 50)


@needs_ssl
def test_ties_can_be_counted_as_the_published_code_does() -> None:
    counts = count_before(np.round(arrays("metrics")["ret_sim"], 1))
    found, entries = published_scores(*counts)
    np.testing.assert_allclose([found[n] for n in NAMES], arrays("metrics")["ret_tie_a2v"])
    assert entries == int(arrays("metrics")["ret_tie_denominator"])


def test_a_model_that_tells_nothing_apart_scores_chance() -> None:
    counts = count_before(np.ones((20, 20)))
    assert score_ranks(*counts) == pytest.approx(chance_of(20))
    clips = [clip(f"{i}.mp4") for i in range(20)]
    assert _by_clip(clips, np.ones((20, 20)))["queries"][0]["audio_to_video"] == 10.5


def test_level_clips_share_their_ranks() -> None:
    similarity = np.array([[0.5, 0.5, 0.1], [0.9, 0.3, 0.2], [0.0, 0.1, 0.2]])
    before, level = count_before(similarity)
    assert (before.tolist(), level.tolist()) == ([0, 1, 0], [1, 0, 0])
    assert mean_ranks(before, level).tolist() == [1.5, 2.0, 1.0]
    assert score_ranks(before, level)["r1"] == pytest.approx(0.5)


def test_wrong_pairs_are_at_chance_where_right_ones_are_found() -> None:
    rng = np.random.default_rng(0)
    similarity = rng.normal(size=(60, 60)) + 4 * np.eye(60)
    found = score_similarity(similarity, 0)
    assert found["pooled"]["audio_to_video_r1"] > 0.8
    assert found["controls"]["wrong pairs"]["audio_to_video_r1"] < 0.1
    low, high = found["interval"]["audio_to_video_r1"]
    assert low < found["pooled"]["audio_to_video_r1"] < high
    assert found["chance"]["video_to_audio_median"] == 30.5
    assert not found["notes"]
    (note, _) = score_similarity(np.round(similarity), 0)["notes"]
    assert "have clips on a level with the right one" in note


# --- reports ---


def request(folder: Path, clips: Manifest, **options: Any) -> Request:
    data = clips.folder / "manifest.parquet"
    given: dict[str, Any] = {"protocol": "retrieval", "split": "train", **options}
    return Request(model=str(folder), data=data, **given)


@pytest.fixture(scope="module")
def bare(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stage I leaves: an encoder without a head."""
    folder = tmp_path_factory.mktemp("bare") / "run"
    head = Model(model.config.model_copy(update={"head": None}))
    head.encoder.load_state_dict(model.encoder.state_dict())
    save_model(folder, head)
    return folder


def test_a_model_that_is_only_pre_trained_has_a_report(
    bare: Path, model_folder: Path, clips: Manifest, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    evaluation = evaluate(request(bare, clips), lambda *done: told.append(done))
    report = evaluation.report
    num = len(clips.select("train").clips)
    assert told[-1] == (2 * num, 2 * num)
    assert report["num_clips"] == num
    assert set(report["pooled"]) == {score.name for score in RETRIEVAL.scores}
    assert len(report["similarity"]) == num
    page = markdown(evaluation, [])
    assert f"retrieval among {num} clips (train clips)" in page
    assert "control: wrong pairs" in page
    names = [file.name for file in write_report(evaluation, tmp_path)]
    assert names == ["report.json", "report.md", "retrieval.png"]
    assert json.loads((tmp_path / "report.json").read_text())["pooled"] == report["pooled"]
    with_head = evaluate(request(model_folder, clips)).report
    assert with_head["pooled"] == report["pooled"]


def test_a_subset_says_which_clips_and_which_are_missing(
    bare: Path, clips: Manifest, tmp_path: Path
) -> None:
    chosen = clips.select("train").clips[:2]
    write_ids(tmp_path / "two.json", [*(clip.path.stem for clip in chosen), "nowhere"])
    evaluation = evaluate(request(bare, clips, subset=tmp_path / "two.json", with_controls=False))
    assert evaluation.report["num_clips"] == 2
    assert "1 of 3 ids of two.json have no train clip" in evaluation.report["notes"][0]
    (table,) = report_tables(evaluation)
    assert "subset two.json" in table.title
    assert not any("control" in row[0] for row in table.rows)


def test_clips_that_cannot_be_read_are_left_out(
    bare: Path, clips: Manifest, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no clip")
    chosen = clips.select("train").clips
    manifest = Manifest((*chosen, replace(chosen[0], path=broken)), tmp_path)
    manifest.write(tmp_path / "manifest.parquet")
    asked = Request(
        model=str(bare), data=tmp_path / "manifest.parquet", protocol="retrieval", split="train"
    )
    report = evaluate(asked).report
    assert list(report["left_out"]) == [str(broken)]
    assert report["num_clips"] == len(chosen)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rounds": 5}, "rounds is for protocols that cut samples"),
        ({"as_published": True}, "as_published is for"),
        ({"features": "store"}, "features is for"),
        ({"frames": 10}, "frames is for"),
        ({"protocol": "random", "subset": Path("x.json")}, "subset is for protocol retrieval"),
    ],
)
def test_options_without_a_meaning_are_refused(
    options: dict[str, Any], words: str, bare: Path, clips: Manifest
) -> None:
    with pytest.raises(ConfigError, match=words):
        evaluate(request(bare, clips, **options))


def test_the_command_shows_both_ways(
    bare: Path, clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(clips.folder / "manifest.parquet")
    words = ["evaluate", str(bare), "--data", data, "--protocol", "retrieval", "--split", "train"]
    assert run([*words, "-o", str(tmp_path / "report")]) == 0
    out = capsys.readouterr().out
    assert "protocol retrieval, seed 0" in out
    assert "R@10" in out
    assert run([*words, "--subset", str(tmp_path / "none.json")]) == 2
    assert "cannot read the subset" in capsys.readouterr().err


# --- subsets ---


def clip(path: str, *labels: str) -> Clip:
    return Clip(Path("/data") / path, "test", 10.0, 25.0, 64, 64, 16_000, 1, labels=labels)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.json", '["a", "b"]'),
        ("cavmae.json", '{"data": [{"video_id": "a", "labels": "/m/1"}, {"video_id": "b"}]}'),
        ("list.txt", "# two\na\nb # the second\n\na\n"),
        ("list.csv", "label,video_id\ndog,a\ncat,b\n"),
    ],
)
def test_lists_of_ids_are_read_in_every_published_form(
    name: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    assert read_ids(tmp_path / name) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not valid JSON"), ('{"a": 1}', "not a list"), ("[1]", "without an id"), ("[]", "no")],
)
def test_a_list_that_is_none_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ManifestError, match=words):
        read_ids(tmp_path / "list.json")


def test_ids_are_names_ends_of_paths_or_videos_of_one_clip() -> None:
    clips = [
        clip("eval/abcdefghijk_30000_40000.mp4"),
        clip("x/00001.mp4"),
        clip("y/00001.mp4"),
        clip("a.b.mp4"),
    ]
    ids = ["abcdefghijk_000030", "y/00001.mp4", "a.b", "-----------"]
    assert match_ids(clips, ids, "list") == ([0, 2, 3], ["-----------"])
    twice = ["abcdefghijk_000030", "abcdefghijk_000050", "a.b"]
    assert match_ids(clips, twice, "list")[1] == twice[:2]  # nobody can say which is meant
    same = [clip("x/00001.mp4"), clip("y/00001.mp4")]
    assert match_ids(same, ["00001", "y/00001"], "list") == ([1], ["00001"])
    with pytest.raises(ManifestError, match="list names none of 4 clips"):
        match_ids(clips, ["z"], "list")


def test_about_so_many_clips_of_every_class_are_chosen() -> None:
    classes = ["dog"] * 20 + ["cat"] * 9 + ["cow"] * 2
    clips = [clip(f"{i}.mp4", label) for i, label in enumerate(classes)]
    chosen = choose_per_class(clips, 5, seed=0)
    counts = {name: sum(classes[i] == name for i in chosen) for name in ("dog", "cat", "cow")}
    assert counts == {"dog": 5, "cat": 5, "cow": 2}
    assert chosen == choose_per_class(clips, 5, seed=0) != choose_per_class(clips, 5, seed=1)
    several = [clip(f"{i}.mp4", "speech", name) for i, name in enumerate(classes)]
    assert len(choose_per_class(several, 5, seed=0)) == 12  # speech has enough by then
    with pytest.raises(ManifestError, match="no clip has a class"):
        choose_per_class([clip("a.mp4")], 5, 0)
    same = [clip("x/1.mp4"), clip("y/1.mp4"), clip("2.mp4")]
    assert ids_of(same, [0, 2]) == ["x/1", "2"]


def test_the_command_writes_a_subset_that_can_be_read(
    clips: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled = tuple(replace(c, labels=("hit",)) for c in clips.select("train").clips)
    Manifest(labelled, tmp_path).write(tmp_path / "m.parquet")
    words = ["data", "subset", str(tmp_path / "m.parquet"), "-o", str(tmp_path / "five.json")]
    assert run([*words, "--split", "train", "--per-class", "2"]) == 0
    assert "2 of" in capsys.readouterr().out
    assert len(match_ids(labelled, read_ids(tmp_path / "five.json"), "five")[0]) == 2
