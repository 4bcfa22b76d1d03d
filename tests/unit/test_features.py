"""Segment tokens with their times, as files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from golden import SALT, SYNC, assert_agrees, fill_encoder, needs_golden, recipe
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

from zoo.catalog.model_folder import save_model
from zoo.cli.app import build_app, run
from zoo.data.clip_reader import ClipReader
from zoo.data.frontend import crop_square, cut_audio, cut_frames
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, ManifestError, MediaError
from zoo.features import Result, extract
from zoo.features.feature_settings import build_settings, parse_which
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.models.model import Model, require_offsets
from zoo.models.segments import Tokens
from zoo.training.recipe_builder import build_recipe

STEP_S, SEGMENT_S = 0.32, 0.64
Run = Callable[..., Result]


@pytest.fixture
def clip(clips: Manifest) -> Path:
    """A clip of 9 s."""
    return clips.clips[0].path


@pytest.fixture
def features(model_folder: Path, tmp_path: Path) -> Run:
    """Extract with the small model."""

    def run(clips: object, **options: object) -> Result:
        return extract(model_folder, clips, tmp_path / "out", **options)  # type: ignore[arg-type]

    return run


def segments_of(model: Model, clip: Path, num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut segments out of one reading of a clip, as training does."""
    reader = ClipReader(model.vision_frontend, model.audio_frontend)
    starts = [round(i * STEP_S, 6) for i in range(num)]
    length_s = round(starts[-1] + SEGMENT_S, 6)
    frames = crop_square(reader.read_vision(clip, 0.0, length_s), reader.vision.size, None)
    audio = cut_audio(reader.read_audio(clip, 0.0, length_s), starts, SEGMENT_S, reader.audio)
    return audio, cut_frames(frames, starts, SEGMENT_S, reader.vision)


def test_tokens_and_features_equal_those_of_the_model(
    model: Model, clip: Path, features: Run
) -> None:
    (file,) = features(clip, which="all").files.values()
    written = load_file(file)
    audio, vision = segments_of(model, clip, 27)
    with torch.no_grad():
        for name, segments in (("audio", audio), ("vision", vision)):
            part = getattr(model.encoder, name)
            torch.testing.assert_close(written[f"{name}_tokens"], part.encode(segments))
            torch.testing.assert_close(written[f"{name}_features"], part.extractor(segments))


def test_the_head_answers_on_written_tokens_what_predict_answers(
    model: Model, clip: Path, features: Run
) -> None:
    (file,) = features(clip).files.values()
    written = load_file(file)
    num = model.config.layout.num_segments
    tokens = [
        Tokens.of_segments(written[f"{name}_tokens"][:num], num, getattr(model.io, name).tokens)
        for name in ("audio", "vision")
    ]
    with torch.no_grad():
        logits = model.answer(*tokens)
    first = OffsetPredictor(model, "small").predict(clip).windows[0]
    probabilities = logits.softmax(1)[0]
    assert float(probabilities.max()) == pytest.approx(first.probability, abs=1e-5)
    assert require_offsets(model, "small").offsets_s[int(probabilities.argmax())] == first.offset_s


def test_blocks_change_nothing(
    clip: Path, features: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = features(clip, which="all").files.values()
    whole = load_file(file)
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr("zoo.data.frontend.BLOCK_SEGMENTS", 5)
    told: list[tuple[int, int]] = []
    (file,) = features(clip, which="all", progress=lambda *done: told.append(done)).files.values()
    for name, tensor in load_file(file).items():
        torch.testing.assert_close(tensor, whole[name], atol=2e-5, rtol=1e-5)
    assert told == [(5, 27), (10, 27), (15, 27), (20, 27), (25, 27), (27, 27)]


def test_every_segment_and_token_has_its_time(model: Model, clip: Path, features: Run) -> None:
    (file,) = features(clip).files.values()
    written = load_file(file)
    starts = written["segment_start_s"]
    assert starts.tolist() == [round(i * STEP_S, 6) for i in range(27)]
    torch.testing.assert_close(written["segment_centre_s"], starts + SEGMENT_S / 2)
    for name, part in (("audio", model.io.audio), ("vision", model.io.vision)):
        times = starts[:, None] + torch.tensor(part.tokens.times_s, dtype=torch.float64)
        torch.testing.assert_close(written[f"{name}_times_s"], times)


def test_the_header_says_where_the_numbers_come_from(
    clip: Path, features: Run, model_folder: Path
) -> None:
    (file,) = features(clip, dtype="bf16").files.values()
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
        assert opened.get_tensor("audio_tokens").dtype == torch.bfloat16
    described = json.loads((model_folder / "model.json").read_text())
    assert metadata["model_sha256"] == described["sha256"]
    expected = {"clip": str(clip.resolve()), "fps": "25.0", "sample_rate_hz": "16000"}
    assert metadata.items() >= expected.items()
    assert json.loads(metadata["vision_frontend"])["kind"] == "frames"


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 2**-10), ("bf16", 2**-7)])
def test_short_numbers_are_the_long_ones_rounded(
    dtype: str, tolerance: float, clip: Path, model_folder: Path, tmp_path: Path
) -> None:
    parts = [
        load_file(*extract(model_folder, clip, tmp_path / name, dtype=name).files.values())
        for name in ("fp32", dtype)
    ]
    for name in ("audio_tokens", "vision_tokens"):
        torch.testing.assert_close(
            parts[1][name].float(), parts[0][name], rtol=tolerance, atol=1e-5
        )


def test_the_video_to_audio_preset_needs_no_audio(
    model: Model, clip: Path, features: Run, tmp_path: Path
) -> None:
    silent = tmp_path / "silent.mp4"
    without_audio(clip, silent)
    (file,) = features(silent, preset="v2a").files.values()
    written = load_file(file)
    steps, dim = model.io.vision.tokens.steps, model.io.vision.tokens.dim
    assert set(written) == {
        "segment_start_s",
        "segment_centre_s",
        "vision_times_s",
        "vision_tokens",
    }
    assert written["vision_tokens"].dtype == torch.float16
    assert written["vision_tokens"].shape == (27, steps, dim)  # (225 frames - 16) // 8 + 1
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["short_side"] == model.vision_frontend.size


def without_audio(clip: Path, to: Path) -> None:
    with av.open(str(clip)) as source, av.open(str(to), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)


def test_audio_alone_needs_no_picture(clip: Path, features: Run, tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000 * 2).astype(np.float32)
    write_audio(sound, samples, "pcm_f32le")
    (file,) = features(sound, which="audio_tokens,audio_features").files.values()
    assert load_file(file)["audio_tokens"].shape[0] == 5


def write_audio(path: Path, samples: np.ndarray, codec: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=16_000, layout="mono")
        mux_samples(container, stream, samples)


def mux_samples(
    container: av.container.OutputContainer, stream: av.AudioStream, samples: np.ndarray
) -> None:
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
    for packet in [*stream.encode(frame), *stream.encode(None)]:
        container.mux(packet)


def test_finished_clips_are_skipped_and_changed_ones_done_again(
    clips: Manifest, features: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, clip in zip(("a.mp4", "b.mp4"), clips.clips, strict=False):
        shutil.copy(clip.path, folder / name)
    first = features(folder, dtype="fp16")
    before = {file: file.stat().st_mtime_ns for file in first.files.values()}
    assert features(folder, dtype="fp16").finished_before == 2
    assert {file: file.stat().st_mtime_ns for file in before} == before
    shutil.copy(clips.clips[2].path, folder / "b.mp4")
    assert features(folder, dtype="fp16").finished_before == 1
    index = json.loads(first.index.read_text())
    assert [entry["file"] for entry in index["clips"]] == ["a.safetensors", "b.safetensors"]
    assert [entry["num_segments"] for entry in index["clips"]] == [27, 27]


def test_broken_clips_are_listed_and_the_others_go_on(
    clip: Path, features: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(clip, folder / "good.mp4")
    (folder / "text.mp4").write_text("not a clip")
    (folder / "half.mp4").write_bytes(clip.read_bytes()[:5000])
    result = features(folder)
    assert [path.name for path in result.files] == ["good.mp4"]
    assert sorted(path.name for path in result.failed) == ["half.mp4", "text.mp4"]
    rows = (tmp_path / "out" / "quarantine.csv").read_text().splitlines()
    assert rows[0] == "path,reason"
    assert len(rows) == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "good.safetensors",
        "index.json",
        "quarantine.csv",
        "settings.json",
    ]
    shutil.copy(clip, folder / "text.mp4")
    (folder / "half.mp4").unlink()
    features([folder, folder / "half.mp4"])
    assert "half.mp4" in (tmp_path / "out" / "quarantine.csv").read_text()
    assert "text.mp4" not in (tmp_path / "out" / "quarantine.csv").read_text()


def test_a_clip_that_breaks_midway_leaves_no_file(
    clip: Path, features: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.data.frontend.BLOCK_SEGMENTS", 5)
    read = ClipReader.read_audio

    def fail(self: ClipReader, path: Path, start_s: float, length_s: float) -> object:
        if start_s > 3:
            raise MediaError(f"{path.name} is damaged")
        return read(self, path, start_s, length_s)

    monkeypatch.setattr(ClipReader, "read_audio", fail)
    with pytest.raises(ManifestError, match="is damaged"):
        features(clip)
    assert not (tmp_path / "out").exists()


def test_clips_of_one_name_get_files_of_their_own(
    clips: Manifest, features: Run, tmp_path: Path
) -> None:
    paths = [tmp_path / "a" / "x.mp4", tmp_path / "b" / "x.mp4"]
    for path, clip in zip(paths, clips.clips, strict=False):
        path.parent.mkdir()
        shutil.copy(clip.path, path)
    alone = features(paths[0])
    both = features([str(tmp_path / "*" / "x.mp4")])
    assert both.finished_before == 1
    assert both.files[paths[0]] == alone.files[paths[0]]
    assert both.files[paths[1]].name.startswith("x-")
    assert features([*paths, paths[0].parent / "." / ".." / "a" / "x.mp4"]).finished_before == 2


def test_lists_are_relative_to_themselves(clip: Path, features: Run, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "a.mp4")
    (tmp_path / "list.csv").write_text("label,path\nx,a.mp4\n")
    assert [path.name for path in features([], lists=[tmp_path / "list.csv"]).files] == ["a.mp4"]
    (tmp_path / "other.csv").write_text("file\na.mp4\n")
    with pytest.raises(ManifestError, match="has no column 'path'"):
        features([], lists=[tmp_path / "other.csv"])


def test_other_settings_need_another_folder(clip: Path, features: Run, tmp_path: Path) -> None:
    features(clip)
    with pytest.raises(ConfigError, match="dtype fp32 there, fp16 here"):
        features(clip, dtype="fp16")
    (tmp_path / "out" / "settings.json").unlink()
    with pytest.raises(ConfigError, match="files of another program"):
        features(clip)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"which": "token"}, "which 'token' is not one of .*did you mean 'tokens'"),
        ({"dtype": "fp8"}, "dtype 'fp8' is not one of fp16, bf16, fp32"),
        ({"preset": "v2b"}, "preset 'v2b' is not one of v2a"),
        ({"step_s": 0.33}, "0.33 s is not a whole number of video frames"),
        ({"step_s": 2.0}, "leaves gaps between segments"),
        ({"step_s": -1.0}, "step_s"),
        ({"short_side": 8}, "short_side 8 is smaller than the crop"),
    ],
)
def test_what_does_not_fit_is_refused(
    options: dict[str, object], sentence: str, clip: Path, features: Run, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        features(clip, **options)
    assert not (tmp_path / "out").exists()


def test_the_preset_refuses_segments_of_another_length() -> None:
    short = build_recipe(
        extractor="ast_motionformer",
        head="correlation",
        preset="tiny",
        overrides=["layout.segment_s=0.32", "layout.step_s=0.16"],
    )
    with pytest.raises(ConfigError, match="reads segments of 8 frames at 25"):
        build_settings(Model(short.model), "short", "", preset="v2a")


def test_names_of_tensors_come_in_one_order() -> None:
    assert parse_which("vision_features, tokens") == (
        "audio_tokens",
        "vision_tokens",
        "vision_features",
    )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("missing.mp4", "there is no file"),
        ("nothing/*.mp4", "no file matches"),
        ("x.safetensors", "not a clip but a file of tensors"),
    ],
)
def test_clips_that_are_not_there_are_one_sentence(
    given: str, sentence: str, features: Run, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match=sentence):
        features(tmp_path / given)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_what_it_did(
    clip: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["features", str(model_folder), str(clip), "-o", str(tmp_path / "out"), "--json"]
    answer = CliRunner().invoke(build_app(), arguments)
    assert json.loads(answer.stdout)["files"] == {
        str(clip): str(tmp_path / "out" / f"{clip.stem}.safetensors")
    }
    assert run([*arguments[:-1], "--dtype", "fp16"]) == 2
    error = capsys.readouterr().err
    assert error.strip().startswith("error: ")
    assert error.strip().count("\n") == 0


@needs_golden
@pytest.mark.slow
def test_a_clip_in_a_file_gives_the_features_of_the_published_code(tmp_path: Path) -> None:
    config = build_recipe(extractor="ast_motionformer", head="sync", preset="paper").model
    model = Model(config.model_copy(update={"head": None}))
    fill_encoder(model, SYNC)
    save_model(tmp_path / "model", model)
    write_lossless(tmp_path / "clip.mkv", recipe().fake_video(SALT)[32:48])  # its first segment
    samples = recipe().fake_audio(SALT)[30_079 : 30_079 + 15_360]  # of the first two
    write_audio(tmp_path / "clip.wav", samples, "pcm_f32le")
    written = {}
    for name, which in (("clip.mkv", "vision_tokens"), ("clip.wav", "audio_tokens")):
        done = extract(tmp_path / "model", tmp_path / name, tmp_path / which, which=which)
        written |= load_file(*done.files.values())
    assert_agrees("features/ast_feat", written["audio_tokens"], 1e-4)
    assert_agrees("features/mf_feat", written["vision_tokens"][0], 3e-3)  # theirs reads float16


def write_lossless(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25, pix_fmt="bgr0")
        stream.height, stream.width = frames.shape[1:3]
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
