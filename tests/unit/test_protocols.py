"""Protocols: which samples they make, read right and as published."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from zoo.cli.app import run
from zoo.data.clip_reader import ClipReader
from zoo.data.fixed_offsets import FixedOffset
from zoo.data.manifest import Clip, Manifest
from zoo.errors import ConfigError, ManifestError, MediaError
from zoo.evaluation.evaluation_request import Request
from zoo.evaluation.protocol import PROTOCOLS, find_protocol
from zoo.evaluation.report import evaluate_manifest
from zoo.evaluation.sample_sources import FixedSamples, PublishedSamples, find_fixed
from zoo.media import encode
from zoo.models.config import Component
from zoo.models.model import Model, build_task
from zoo.models.task import Task
from zoo.timeline import OffsetGrid, SegmentLayout

GRID, LAYOUT = OffsetGrid(), SegmentLayout()


@pytest.fixture(scope="module")
def chosen(clips: Manifest) -> list[Clip]:
    return list(clips.select("train").clips)


def published_samples(
    clips: list[Clip], model: Model, task: Task | None = None, **options: object
) -> PublishedSamples:
    fronts = (model.vision_frontend, model.audio_frontend)
    task = task or build_task(Component(name="offset"))
    return PublishedSamples(clips, LAYOUT, task, *fronts, **options)  # type: ignore[arg-type]


def write_offsets(path: Path, rows: list[tuple[str, float, float]]) -> Path:
    lines = [f"{name},{offset_s},{start_s}" for name, offset_s, start_s in rows]
    path.write_text("\n".join(["path,offset_sec,vstart_sec", *lines, ""]))
    return path


def test_protocols_sample_as_often_as_published() -> None:
    assert {name: protocol.rounds for name, protocol in PROTOCOLS.items()} == {
        "random": 25,
        "fixed": 1,
        "vggsound-sparse": 25,
        "vggsound-sparse-clean": 1,
        "lrs3-fs": 2,
        "av-syncbench": 1,
        "retrieval": 1,
    }
    assert PROTOCOLS["vggsound-sparse-clean"].is_fixed
    assert find_protocol("lrs3-fs").end_s == 11.0
    with pytest.raises(ConfigError, match="did you mean 'lrs3-fs'"):
        find_protocol("lrs3fs")


def test_fixed_offsets_come_from_the_manifest_or_from_a_list(chosen: list[Clip]) -> None:
    named = [
        dataclasses.replace(chosen[0], fixed_offset_s=0.4, fixed_start_s=1.0),
        dataclasses.replace(chosen[1], fixed_offset_s=0.4),
        chosen[2],
    ]
    found, left_out = find_fixed(named, None, "the manifest")
    assert found == {0: FixedOffset(0.4, 1.0)}
    assert left_out == dict.fromkeys((1, 2), "no fixed offset in the manifest")
    names = [clip.path.stem for clip in chosen]
    listed = {names[1]: FixedOffset(-0.2, 2.0, True), names[2]: FixedOffset(0.0, 0.0, False)}
    found, left_out = find_fixed(named, listed, "x.csv")
    assert list(found) == [1]
    assert left_out == {0: "no fixed offset in x.csv", 2: "not in sync according to x.csv"}
    with pytest.raises(ManifestError, match="the manifest gives no fixed offset for any of 1"):
        find_fixed(named[2:], None, "the manifest")
    with pytest.raises(ManifestError, match=r"x\.csv fits none of 1 clips.*look like"):
        find_fixed(named[:1], listed, "x.csv")


def test_both_readings_of_a_fixed_offset_differ_by_the_truncated_frame(
    chosen: list[Clip], reader: ClipReader, model: Model
) -> None:
    fixed = {0: FixedOffset(0.6, 1.16)}
    right, _ = FixedSamples(chosen, reader, LAYOUT, GRID, fixed).sample(0, 0)
    published, segments = published_samples(chosen, model, fixed=fixed).sample(0, 0)
    assert right.target == published.target == 13
    assert (right.vision_start_s, right.offset_s) == (1.24, 0.6)
    assert published.vision_start_s == 1.2  # int(1.16 * 25) is 28; its audio starts in time
    assert published.offset_s == pytest.approx(0.64, abs=1e-4)
    assert segments is not None
    assert segments.audio.shape[:2] == segments.vision.shape[:2] == (1, 14)


def test_both_readings_see_the_same_where_nothing_is_truncated(
    chosen: list[Clip], reader: ClipReader, model: Model
) -> None:
    fixed = {0: FixedOffset(0.0, 1.0)}
    _, right = FixedSamples(chosen, reader, LAYOUT, GRID, fixed).sample(0, 0)
    same_size = dataclasses.replace(
        reader, vision=reader.vision.model_copy(update={"short_side": chosen[0].height})
    )
    _, right = FixedSamples(chosen, same_size, LAYOUT, GRID, fixed).sample(0, 0)
    _, published = published_samples(chosen, model, fixed=fixed).sample(0, 0)
    assert right is not None
    assert published is not None
    assert float((right.audio - published.audio).abs().max()) < 1e-3
    assert float((right.vision - published.vision).abs().max()) < 2e-3  # float16


def test_published_random_samples_can_be_made_again(chosen: list[Clip], model: Model) -> None:
    again = [published_samples(chosen, model, seed=3).sample(1, n)[0] for n in (0, 1, 0)]
    assert again[0] == again[2] != again[1]
    task = build_task(Component(name="synchronizability"))
    source = published_samples(chosen, model, task, seed=3)
    source.layout = SegmentLayout(num_segments=13)
    samples = [source.sample(0, number)[0] for number in range(12)]
    assert {sample.target for sample in samples} == {0, 1}
    for sample in samples:
        assert abs(sample.offset_s) == pytest.approx(4.48, abs=2e-4) or sample.target == 1
    source.layout = LAYOUT
    with pytest.raises(MediaError, match=r"too short: 9\.00 s, crop and offsets need 9\.6 s"):
        source.sample(0, 0)


def test_the_audio_shift_moves_the_audio_alone(chosen: list[Clip], model: Model) -> None:
    fixed = {0: FixedOffset(0.0, 1.0)}
    _, plain = published_samples(chosen, model, fixed=fixed).sample(0, 0)
    _, moved = published_samples(chosen, model, fixed=fixed, audio_shift_s=0.32).sample(0, 0)
    assert plain is not None
    assert moved is not None
    assert float((plain.vision - moved.vision).abs().max()) == 0
    before, after = plain.audio[0], moved.audio[0]
    assert float((before[:-1] - after[1:]).abs().max()) < 1e-5  # by one step of 0.32 s


def test_the_published_reading_converts_no_rates(
    chosen: list[Clip], model: Model, tmp_path: Path
) -> None:
    frames = np.zeros((300, 64, 64, 3), np.uint8)
    encode(tmp_path / "fast.mp4", frames, np.zeros(160_000, np.float32), fps=30.0)
    clip = dataclasses.replace(chosen[0], path=tmp_path / "fast.mp4")
    with pytest.raises(MediaError, match=r"fast\.mp4 has 30 frames and 16000 samples"):
        published_samples([clip], model).sample(0, 0)


@pytest.mark.parametrize("as_published", [False, True])
def test_evaluating_a_list_reports_who_was_left_out(
    model_folder: Path,
    clips: Manifest,
    chosen: list[Clip],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    as_published: bool,
) -> None:
    names = [clip.path.stem for clip in chosen]
    rows = [(names[0], 0.6, 1.0), (names[1], 2.0, 3.9), ("elsewhere", 0.0, 0.0)]
    offsets = write_offsets(tmp_path / "list.csv", rows)
    words = ["evaluate", str(model_folder), "--data", str(clips.folder / "manifest.parquet")]
    words += ["--split", "train", "--protocol", "vggsound-sparse-clean", "--json"]
    words += ["--offsets", str(offsets), *(["--as-published"] if as_published else [])]
    assert run(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["protocol"] == "vggsound-sparse-clean"
    assert report["reading"] == ("published" if as_published else "default")
    assert (report["rounds"], report["num_clips"], report["features"]) == (1, 1, "online")
    assert report["offsets"] == "list.csv"
    assert np.argwhere(report["confusion"])[0][0] == 13
    reasons = {Path(path).stem: why for path, why in report["left_out"].items()}
    assert set(reasons) == set(names[1:])
    assert "too short" in reasons[names[1]]
    assert reasons[names[2]] == "no fixed offset in list.csv"


def test_a_clip_that_breaks_is_left_out_and_the_rest_goes_on(
    model_folder: Path, chosen: list[Clip], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no clip")
    rows = (dataclasses.replace(chosen[0], path=broken, split="test"), *chosen[1:])
    manifest = tmp_path / "m.parquet"
    tests = [dataclasses.replace(clip, split="test") for clip in rows]
    Manifest(tuple(tests), tmp_path).write(manifest)
    request = Request(
        model=str(model_folder),
        data=manifest,
        rounds=2,
        features="online",
        with_controls=False,
    )
    report = evaluate_manifest(request)
    assert list(report["left_out"]) == [str(broken)]
    assert report["num_clips"] == len(chosen) - 1
    assert report["pooled"]["num"] == 2 * (len(chosen) - 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "sparse"}, "unknown protocol 'sparse'"),
        ({"audio_shift_s": 0.1}, "add as_published"),
        ({"protocol": "fixed", "rounds": 3}, "the same samples in every round"),
        ({"as_published": True, "features": "store"}, "leave out features store"),
        ({"protocol": "fixed", "features": "store"}, "leave out features store"),
        ({"device": "gpu"}, "gpu cannot be used"),
        ({"protocol": "fixed"}, "the manifest gives no fixed offset"),
        ({"offsets": Path("nowhere.csv")}, "cannot read the fixed offsets"),
        ({"synchronizability": "tiny-synthetic"}, "which 'tiny-synthetic' does not"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(
    model_folder: Path, clips: Manifest, options: dict[str, object], words: str
) -> None:
    data = clips.folder / "manifest.parquet"
    request = Request(model=str(model_folder), data=data, split="train", **options)  # type: ignore[arg-type]
    with pytest.raises((ConfigError, ManifestError), match=words):
        evaluate_manifest(request)
