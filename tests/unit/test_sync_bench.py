"""AV-SyncBench: pairs of an original sound and a moved one, its manifest, windows and scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.catalog.entries import resolve
from zoo.catalog.model_folder import load_model, save_model
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, ManifestError
from zoo.evaluation.evaluation_request import Request
from zoo.evaluation.report import evaluate
from zoo.evaluation.sync_bench import PairScorer, summarise
from zoo.evaluation.sync_pairs import Film, Moved, pairs_of_clips, read_pairs
from zoo.media import decode, encode
from zoo.models.model import Model
from zoo.training.recipe import Recipe

MODEL = "tiny-synthetic"


@pytest.fixture(scope="module")
def manifest(clips: Manifest) -> Path:
    return clips.clips[0].path.parents[1] / "manifest.parquet"


def test_a_delay_puts_silence_before_the_sound_and_an_advance_behind_it() -> None:
    sound = np.arange(1.0, 1001.0, dtype=np.float32)
    late = Moved("a", 100, "delay").apply(sound, 1000)
    early = Moved("b", 100, "advance").apply(sound, 1000)
    assert len(late) == len(early) == 1000
    assert not late[:100].any()
    assert late[100] == 1
    assert early[0] == 101
    assert not early[-100:].any()


def test_every_clip_is_moved_by_five_amounts_either_way(clips: Manifest) -> None:
    films = pairs_of_clips(clips.clips)
    assert len(films) == 6
    pairs = [(moved.shift_ms, moved.direction) for moved in films[0].moved]
    assert len(set(pairs)) == 10
    assert {ms for ms, _ in pairs} == {50, 100, 200, 300, 500}


# --- windows ---


@pytest.mark.parametrize(("length_s", "num"), [(5.0, 8), (5.04, 16), (9.0, 16), (10.0, 16)])
def test_windows_are_those_of_the_published_code(length_s: float, num: int) -> None:
    scorer = PairScorer(load_model(resolve(MODEL)), MODEL)
    starts_s = scorer._starts_s(length_s)
    assert len(starts_s) == num
    assert starts_s[1] == 0.64
    assert (scorer.window_s, scorer.lead_s) == (5.0, 0.08)


def test_a_window_is_scored_as_a_plain_forward_pass_does(clips: Manifest) -> None:
    model = load_model(resolve(MODEL))
    scorer = PairScorer(model, MODEL)
    film = Film(clips.clips[0].path, None, ())
    frames, sounds = scorer.read(film)
    assert frames.shape[0] == 225
    zero = scorer.zeros(frames[:125], [sounds[0][: 5 * 16_000]])[0]
    frames = np.pad(frames[:125], ((0, 200), (0, 0), (0, 0), (0, 0)), "edge")
    samples = np.pad(sounds[0][: 5 * 16_000], (0, 8 * 16_000))
    from zoo.data.frontend import cut_audio, cut_frames

    found = []
    for k in range(8):
        first_s = 0.64 * k + 0.08
        first, at = round(first_s * 25), round(first_s * 16_000)
        starts_s = model.config.layout.starts_s
        with torch.no_grad():
            logits = model(
                cut_audio(samples[at:], starts_s, 0.64, model.audio_frontend)[None],
                cut_frames(frames[first:], starts_s, 0.64, model.vision_frontend)[None],
            )
        found.append(float(logits.softmax(1)[0, 10]))
    assert zero == pytest.approx(np.mean(found), abs=1e-5)


def test_models_that_look_at_less_get_windows_of_their_own_length(recipe: Recipe) -> None:
    layout = recipe.model.layout.model_copy(update={"num_segments": 4})
    model = Model(recipe.model.model_copy(update={"layout": layout}))
    scorer = PairScorer(model, "short")
    assert (scorer.window_s, scorer.lead_s) == (1.6, 0.0)
    assert scorer._starts_s(3.0) == [0.0, 0.64, 1.28]
    assert scorer._starts_s(1.0) == [0.0]


# --- scores ---


def test_ties_are_wrong_and_shifts_are_counted_apart() -> None:
    def row(clip: str, ms: int, way: str, original: float, moved: float) -> dict[str, object]:
        return {
            "clip": clip,
            "shift_ms": ms,
            "direction": way,
            "original": original,
            "moved": moved,
            "is_right": original > moved,
        }

    rows = [
        row("a", 50, "delay", 0.5, 0.5),
        row("a", 50, "advance", 0.5, 0.4),
        row("b", 500, "delay", 0.5, 0.1),
        row("b", 500, "advance", 0.5, 0.1),
    ]
    found = summarise(rows, seed=0)
    assert found["pooled"] == {"shift_50": 0.5, "shift_500": 1.0, "overall": 0.75}
    assert found["by_direction"]["delay"] == {"shift_50": 0.0, "shift_500": 1.0, "overall": 0.5}
    assert found["ties"] == 1
    assert found["controls"] == {}


def test_the_shipped_model_prefers_the_original(manifest: Path, tmp_path: Path) -> None:
    words = ["evaluate", MODEL, "--data", str(manifest), "--protocol", "av-syncbench"]
    assert run([*words, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["pooled"]["shift_500"] == 1.0
    assert report["pooled"]["shift_200"] >= 0.9
    assert report["chance"]["overall"] == 0.5
    assert len(report["pairs"]) == 10 * report["num_clips"]
    assert (tmp_path / "pairs.png").stat().st_size > 5000
    assert "moved copy" in (tmp_path / "report.md").read_text()


# --- the benchmark's own manifest ---


@pytest.fixture
def benchmark(clips: Manifest, tmp_path: Path) -> Path:
    """A folder as the benchmark has it: videos, moved sounds, ``metadata.jsonl``."""
    root = tmp_path / "bench"
    (root / "video").mkdir(parents=True)
    (root / "audio").mkdir()
    lines = []
    for number in range(2):
        video = root / "video" / f"{number}.mp4"
        shutil.copy(clips.clips[number].path, video)
        samples = decode(video, video=False).samples
        assert samples is not None
        for direction in ("advance", "delay"):
            audio = root / "audio" / f"{number}_{direction}.wav"
            moved = Moved("", 500, direction).apply(samples, 16_000)
            encode(audio, None, moved, audio_codec="pcm_s16le")
            lines.append(
                {
                    "sample_id": f"{number}-{direction}",
                    "original_video": f"video/{number}.mp4",
                    "edited_audio": f"audio/{audio.name}",
                    "task_type": "temporal_alignment",
                    "edit_type": "time_shifted",
                    "offset_ms": 500,
                    "direction": direction,
                }
            )
    lines.append({"sample_id": "x", "edit_type": "semantic_swap"})
    path = root / "metadata.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    return path


def test_its_own_data_are_evaluated_as_they_are(benchmark: Path) -> None:
    films, num_others = read_pairs(benchmark)
    assert (len(films), num_others) == (2, 1)
    report = evaluate(Request(model=MODEL, data=benchmark, protocol="av-syncbench")).report
    assert report["pooled"] == {"shift_500": 1.0, "overall": 1.0}
    assert report["notes"] == ["1 pairs of other kinds are passed over"]
    assert report["split"] is None


def test_a_missing_file_is_left_out_by_name(benchmark: Path) -> None:
    (benchmark.parent / "video" / "0.mp4").unlink()
    report = evaluate(Request(model=MODEL, data=benchmark, protocol="av-syncbench")).report
    assert [Path(path).name for path in report["left_out"]] == ["0.mp4"]
    assert report["num_clips"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"original_video": "../secret.mp4"}, "lies outside the folder of the manifest"),
        ({"original_video": "/etc/passwd"}, "lies outside the folder of the manifest"),
        ({"direction": "sideways"}, "neither advance nor delay"),
        ({"offset_ms": "half a second"}, "is no number"),
        ({"offset_ms": "inf"}, "is no number"),
        ({"offset_ms": [50]}, "is no number"),
        ({"edited_audio": ""}, "it has no edited_audio"),
        ({"sample_id": "0-delay"}, "has the sample_id '0-delay' twice"),
    ],
)
def test_a_damaged_line_is_named(benchmark: Path, change: dict[str, object], message: str) -> None:
    lines = benchmark.read_text().splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), **change})
    benchmark.write_text("\n".join(lines))
    with pytest.raises(ManifestError, match=message):
        read_pairs(benchmark)


def test_what_is_no_manifest_is_said(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("hello")
    with pytest.raises(ManifestError, match=r"line 1: not a JSON object"):
        read_pairs(file)
    file.write_text('{"edit_type": "semantic_swap"}')
    with pytest.raises(ManifestError, match="holds no pair"):
        read_pairs(file)


def test_options_of_samples_and_models_without_a_zero_are_refused(
    manifest: Path, recipe: Recipe, tmp_path: Path
) -> None:
    given = {"model": MODEL, "data": manifest, "protocol": "av-syncbench"}
    with pytest.raises(ConfigError, match="rounds is for protocols that cut samples"):
        evaluate(Request(**given, rounds=3))  # type: ignore[arg-type]
    task = recipe.model.task
    assert task is not None
    grid = {"grid": {"min_s": -0.3, "max_s": 0.3, "num_classes": 2}}
    changed = task.model_copy(update={"config": {**task.config, **grid}})
    save_model(tmp_path / "m", Model(recipe.model.model_copy(update={"task": changed})))
    with pytest.raises(ConfigError, match="no class for offset 0"):
        evaluate(Request(model=str(tmp_path / "m"), data=manifest, protocol="av-syncbench"))
