"""DeSync against a plain reference, and that no clip is ever lost without a word."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.nn.functional import pad
from torchaudio.transforms import MelSpectrogram, Resample
from torchvision.transforms import v2

from zoo.catalog.entries import resolve
from zoo.catalog.model_folder import load_model, save_model
from zoo.data.manifest import Manifest
from zoo.desync import Mode, Pair, pair_clips, score
from zoo.desync.reading import PairReader, Reading, resized_square
from zoo.desync.score_clips import Scorer
from zoo.desync.scores import ClipScore
from zoo.errors import ConfigError, ManifestError, ModelError
from zoo.media import decode, encode, shift_audio
from zoo.models.config import Component
from zoo.models.model import Model
from zoo.models.segments import Tokens
from zoo.training.recipe import Recipe

MODEL = "tiny-synthetic"


@pytest.fixture(scope="module")
def videos(clips: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips: square, wide at 30 fps with audio of 44.1 kHz, and tall."""
    folder = tmp_path_factory.mktemp("desync") / "videos"
    folder.mkdir()
    shutil.copy(clips.clips[0].path, folder / "square.mp4")
    window = decode(clips.clips[1].path, fps=30, sample_rate_hz=44_100)
    assert window.frames is not None
    assert window.samples is not None
    wide = np.repeat(np.pad(window.frames, ((0, 0), (0, 0), (7, 14), (0, 0))), 2, axis=2)
    stereo = np.stack([window.samples, 0.5 * window.samples], axis=1)
    encode(folder / "wide.mp4", wide, stereo, fps=30, sample_rate_hz=44_100)
    window = decode(clips.clips[2].path)
    assert window.frames is not None
    tall = np.pad(window.frames, ((0, 0), (9, 25), (0, 0), (0, 0)))
    encode(folder / "tall.mp4", tall, window.samples)
    return folder


def write_audio_of(path: Path, source: Path, *, seconds: float = 8.5, delay_s: float = 0.0) -> None:
    """Write the audio of a clip as an audio file, delayed by silence."""
    samples = decode(source, duration_s=seconds, video=False).samples
    assert samples is not None
    late = round(delay_s * 16_000)
    codec = {".wav": "pcm_s16le", ".flac": "flac"}[path.suffix]
    encode(path, None, np.pad(samples, (late, 0))[: len(samples)], audio_codec=codec)


# --- the published definition ---


def reference(
    model: Model,
    video: Path,
    audio: Path,
    duration_s: float,
    short_side: int | None = None,
    first: tuple[int, int] = (0, 0),
) -> list[torch.Tensor]:
    """The distributions of the public scorer's two windows, step by step, nothing shared.

    With the short side of the frames, and the first frame and sample, of AVGen-Bench, the first
    window is that benchmark's.
    """
    size = model.vision_frontend.size
    transform = v2.Compose(
        [
            v2.Resize(short_side or size, interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean=[0.5] * 3, std=[0.5] * 3),
        ]
    )
    with av.open(str(video)) as container:
        rate = container.streams.video[0].average_rate
        decoded = [
            f.to_rgb(interpolation="BICUBIC").to_ndarray() for f in container.decode(video=0)
        ]
    assert rate is not None
    nearest = [math.ceil(k * rate / 25 - 0.5) for k in range(int(25 * duration_s))]
    stacked = torch.from_numpy(np.stack([decoded[i] for i in nearest])).permute(0, 3, 1, 2)
    frames = transform(stacked)[first[0] :]  # (Tv, C, H, W)
    with av.open(str(audio)) as container:
        parts = [f.to_ndarray() for f in container.decode(audio=0)]
        rate_hz = container.streams.audio[0].rate
        channels = container.streams.audio[0].channels
    waveform = torch.from_numpy(np.concatenate(parts, axis=1))
    if waveform.dtype == torch.int16:
        waveform = waveform.reshape(-1, channels).T / 32768
    samples = waveform.float().mean(0)
    if rate_hz != 16_000:
        samples = Resample(rate_hz, 16_000)(samples)
    samples = samples[: int(16_000 * duration_s)]
    assert len(samples) == int(16_000 * duration_s)
    samples = samples[first[1] :]
    mel = MelSpectrogram(16_000, n_fft=1024, win_length=400, hop_length=160, n_mels=128)
    vision, audio_tokens, encoder = [], [], model.separable
    for i in range((len(frames) - 16) // 8 + 1):
        segment = frames[i * 8 : i * 8 + 16].transpose(0, 1)  # (C, Tv, H, W)
        vision.append(encoder.vision(segment[None])[0])
    for i in range((len(samples) - 10_240) // 5_120 + 1):
        log = torch.log(mel(samples[i * 5_120 : i * 5_120 + 10_240]) + 1e-6)
        log = (pad(log, (0, 66 - log.shape[1])) + 4.2677393) / (2 * 4.5689974)
        audio_tokens.append(encoder.audio(log[None])[0])
    answers: list[torch.Tensor] = []
    for part in (slice(None, 14), slice(-14, None)):
        tokens = (
            Tokens(torch.stack(parts[part])[None, :, :, None], side.tokens.times_s)
            for parts, side in ((audio_tokens, encoder.audio), (vision, encoder.vision))
        )
        answers.append(model.answer(*tokens)[0].softmax(0))
    return answers


GRID_S = torch.linspace(-2, 2, 21)


@torch.no_grad()
@pytest.mark.parametrize("duration_s", [8.0, 5.175])
def test_published_equals_a_plain_reference(
    videos: Path, tmp_path: Path, duration_s: float
) -> None:
    model = load_model(resolve(MODEL))
    write_audio_of(tmp_path / "square.wav", videos / "square.mp4", delay_s=0.63)
    write_audio_of(tmp_path / "tall.flac", videos / "square.mp4", delay_s=0.2)
    shutil.copy(videos / "wide.mp4", tmp_path / "wide.mp4")
    result = score(MODEL, videos, tmp_path, mode="published", duration_s=duration_s)
    files = [("square.mp4", "square.wav"), ("tall.mp4", "tall.flac"), ("wide.mp4", "wide.mp4")]
    offsets_s = []
    for clip, (video, audio) in zip(result.clips, files, strict=True):
        answers = reference(model, videos / video, tmp_path / audio, duration_s)
        most_probable_s = [float(GRID_S[p.argmax()]) for p in answers]
        offsets_s += most_probable_s
        assert clip.offsets_s == pytest.approx(most_probable_s, abs=1e-6)
        assert clip.probabilities == pytest.approx([float(p.max()) for p in answers], abs=1e-4)
    assert result.desync_s == pytest.approx(np.abs(offsets_s).mean(), abs=1e-6)
    assert result.summary["predictions"] == 6
    assert len(set(offsets_s)) > 1


@torch.no_grad()
def test_avgen_bench_equals_a_plain_reference(videos: Path, tmp_path: Path) -> None:
    model = load_model(resolve(MODEL))
    audio = tmp_path / "square.wav"
    write_audio_of(audio, videos / "square.mp4", delay_s=0.3)
    shutil.copy(videos / "wide.mp4", tmp_path / "wide.mp4")
    result = score(MODEL, videos, tmp_path, mode="avgen-bench")
    expected_s = []
    for clip in (result.clips[0], result.clips[2]):
        short_side, first = model.vision_frontend.short_side, (2, 1280)  # of 125 frames, 120 count
        p = reference(model, Path(clip.video), Path(clip.audio), 5.0, short_side, first)[0]
        expected_s.append(abs(float(p @ GRID_S)))
        assert clip.desync_s == pytest.approx(expected_s[-1], abs=1e-4)
        assert clip.offsets_s == pytest.approx([float(GRID_S[p.argmax()])], abs=1e-6)
    assert result.desync_s == pytest.approx(np.mean(expected_s), abs=1e-4)
    assert result.summary["uniform_guessing_s"] == pytest.approx(0)
    assert (result.summary["duration_s"], result.summary["predictions"]) == (5.0, 2)
    assert result.summary["most_probable_s"] != result.desync_s
    with pytest.raises(ConfigError, match=r"looks at the first 5 s, not 8 s: leave duration out"):
        score(MODEL, videos, mode="avgen-bench", duration_s=8.0)


@pytest.mark.parametrize("shape", [(64, 64), (48, 48), (90, 121), (333, 160), (30, 41)])
def test_frames_are_resized_as_torchvision_does(shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    tensor = torch.from_numpy(frame).permute(2, 0, 1)
    wanted = v2.CenterCrop(48)(v2.Resize(48, interpolation=v2.InterpolationMode.BICUBIC)(tensor))
    assert np.array_equal(resized_square(frame, 48, 48), wanted.permute(1, 2, 0).numpy())


def test_published_skips_what_is_shorter_and_says_so(videos: Path, tmp_path: Path) -> None:
    write_audio_of(tmp_path / "square.wav", videos / "square.mp4", seconds=7.9)
    write_audio_of(tmp_path / "tall.wav", videos / "tall.mp4", seconds=8.0)
    result = score(MODEL, videos, tmp_path, mode="published")
    assert result.summary["scored"] == 1
    reasons = {clip.name: clip.skipped for clip in result.clips}
    assert "square.wav has 7.900 s of audio, 8 s are wanted" in reasons["square"]
    assert "no audio of this name" in reasons["wide"]
    corrected = score(MODEL, videos, tmp_path)
    assert [len(clip.offsets_s) for clip in corrected.clips] == [10, 11, 0]


def test_a_video_may_lack_three_frames_when_published(clips: Manifest, tmp_path: Path) -> None:
    window = decode(clips.clips[0].path)
    assert window.frames is not None
    for num in (197, 196):
        encode(tmp_path / f"{num}.mp4", window.frames[:num], window.samples)
    result = score(MODEL, tmp_path, mode="published")
    assert [bool(clip.skipped) for clip in result.clips] == [True, False]
    assert "196.mp4 has 7.84 s of video" in result.clips[0].skipped


# --- what the score says ---


def test_scores_follow_what_was_done_to_the_clips(clips: Manifest, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("right", "late", "other")}
    for folder in folders.values():
        folder.mkdir()
    paths = [clip.path for clip in clips.clips]
    for path, other in zip(paths, [*paths[1:], paths[0]], strict=True):
        shutil.copy(path, folders["right"])
        shift_audio(path, folders["late"] / path.name, 0.4)
        write_audio_of((folders["other"] / path.name).with_suffix(".wav"), other)
    in_sync = score(MODEL, folders["right"])
    assert in_sync.desync_s < 0.05
    late = score(MODEL, folders["late"])
    assert late.desync_s == pytest.approx(0.4, abs=0.05)
    assert late.summary["signed_mean_s"] == pytest.approx(-0.4, abs=0.05)
    assert late.summary["expected_s"] == pytest.approx(0.4, abs=0.1)
    assert score(MODEL, folders["right"], folders["other"]).desync_s > 0.4
    # The public scorer does not look at the clock: a delay that is written there is not heard.
    assert score(MODEL, folders["late"], mode="published").summary["median_s"] == 0


def test_windows_with_nothing_to_hear_or_see_do_not_count(clips: Manifest, tmp_path: Path) -> None:
    paths = [clip.path for clip in clips.clips[:2]]
    windows = [decode(path, duration_s=8.96) for path in paths]
    frames = np.concatenate([w.frames for w in windows if w.frames is not None])
    samples = np.concatenate([w.samples for w in windows if w.samples is not None])
    samples[len(samples) // 2 :] = 0
    late = np.roll(samples, 6_400)
    encode(tmp_path / "tail.mp4", frames, late)
    encode(tmp_path / "silence.mp4", frames, 0 * late)
    encode(tmp_path / "still.mp4", np.repeat(frames[:1], len(frames), axis=0), late)
    tone = np.sin(np.arange(len(late)) / 5)
    encode(tmp_path / "tone.mp4", frames, (0.3 * tone).astype(np.float32))
    modes: dict[Mode, float | None] = {"published": 17.0, "corrected": 17.0, "avgen-bench": None}
    for mode, duration_s in modes.items():
        result = score(MODEL, tmp_path, mode=mode, duration_s=duration_s)
        assert result.desync_s == pytest.approx(0.4, abs=0.05)
        assert {clip.name: clip.skipped for clip in result.clips} == {
            "silence.mp4": "the sound is silent",
            "still.mp4": "the picture does not change",
            "tail.mp4": "",
            "tone.mp4": "the sound has no events",
        }


def test_chance_and_the_worst_follow_from_the_grid(videos: Path) -> None:
    summary = score(MODEL, videos).summary
    assert summary["uniform_guessing_s"] == pytest.approx(22 / 21)
    assert summary["maximum_s"] == 2.0
    assert sum(bar["count"] for bar in summary["histogram"]) == summary["predictions"] == 33


def test_batch_and_workers_change_nothing(videos: Path) -> None:
    one = score(MODEL, videos, batch=1, workers=1)
    many = score(MODEL, videos, batch=200, workers=3)
    for a, b in zip(one.clips, many.clips, strict=True):
        assert a.offsets_s == b.offsets_s
        assert a.probabilities == pytest.approx(b.probabilities, abs=1e-5)
        assert a.expected_s == pytest.approx(b.expected_s, abs=1e-5)


def test_clips_in_which_a_stream_is_alone_are_paired(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "a").mkdir()
    window = decode(videos / "square.mp4")
    encode(tmp_path / "v" / "x.mkv", window.frames, None)
    write_audio_of(tmp_path / "a" / "x.flac", videos / "square.mp4")
    for mode in ("published", "corrected"):
        result = score(MODEL, tmp_path / "v", tmp_path / "a", mode=mode)
        assert result.desync_s < 0.1
    with pytest.raises(ManifestError, match=r"not one of the 1 clips .* x.mkv has no audio stream"):
        score(MODEL, tmp_path / "v")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".m4a", ".opus", ".mka", ".mp4"])
def test_audio_files_of_every_kind_are_on_time(
    suffix: str, clips: Manifest, tmp_path: Path
) -> None:
    codec = {".wav": "pcm_s16le", ".flac": "flac", ".mp3": "libmp3lame"}.get(suffix, "aac")
    codec = "libopus" if suffix in (".opus", ".mka") else codec
    samples = np.random.default_rng(0).normal(0, 0.05, 9 * 48_000)
    samples = np.convolve(samples, np.ones(16) / 4, "same").astype(np.float32)
    encode(tmp_path / f"x{suffix}", None, samples, sample_rate_hz=48_000, audio_codec=codec)
    heard = decode(
        tmp_path / f"x{suffix}", duration_s=8, sample_rate_hz=48_000, video=False
    ).samples
    assert heard is not None
    match = np.correlate(samples[12_000:108_000], heard[14_400:105_600])
    assert abs(int(match.argmax()) - 2_400) <= 48


def test_every_clip_counts_once_however_long_it_is(clips: Manifest, tmp_path: Path) -> None:
    for number, (clip, seconds) in enumerate(zip(clips.clips, (5, 7, 9), strict=False)):
        window = decode(clip.path, duration_s=seconds)
        encode(tmp_path / f"{number}.mp4", window.frames, window.samples)
    shift_audio(tmp_path / "2.mp4", tmp_path / "3.mp4", 0.6)
    result = score(MODEL, tmp_path, duration_s=30)
    assert [len(clip.offsets_s) for clip in result.clips] == [1, 7, 14, 14]
    per_clip = [clip.desync_s or 0.0 for clip in result.clips]
    assert result.desync_s == pytest.approx(np.mean(per_clip))
    assert result.summary["median_s"] == pytest.approx(np.median(per_clip))
    low, high = result.summary["interval_s"]
    assert low < result.desync_s < high


# --- pairing ---


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_pairs_are_found_by_path_and_then_by_name(tmp_path: Path) -> None:
    videos = touch(tmp_path / "v", "a/1.mp4", "b/1.mp4", "b/2.mkv", "c/3.x.mp4")
    audios = touch(tmp_path / "a", "a/1.wav", "b/1.OPUS", "2.m4a", "deep/er/3.x.mp4", "notes.txt")
    pairs = {pair.name: pair for pair in pair_clips(videos, audios)}
    assert not any(pair.problem for pair in pairs.values())
    assert {name: pair.audio and pair.audio.name for name, pair in pairs.items()} == {
        "a/1": "1.wav",
        "b/1": "1.OPUS",
        "b/2": "2.m4a",
        "c/3.x": "3.x.mp4",
    }


def test_nothing_without_a_partner_is_lost(tmp_path: Path) -> None:
    videos = touch(tmp_path / "v", "1.mp4", "2.mp4", "2.mkv", "3.mp4", "x/5.mp4", "y/5.mp4")
    audios = touch(tmp_path / "a", "1.wav", "1.flac", "2.wav", "4.wav", "5.wav")
    problems = {pair.name: pair.problem for pair in pair_clips(videos, audios)}
    assert list(problems) == ["1", "2", "3", "4", "5", "x/5", "y/5"]
    assert "2 audio files have this name (1.flac, 1.wav)" in problems["1"]
    assert "2 video files have this name (2.mkv, 2.mp4)" in problems["2"]
    assert problems["3"] == f"no audio of this name in {audios}"
    assert problems["4"] == f"no video of this name in {videos}"
    assert all(problems[name] for name in ("5", "x/5", "y/5"))


def test_videos_and_audios_may_share_a_folder(tmp_path: Path) -> None:
    folder = touch(tmp_path, "1.mp4", "1.wav", "2.mp4")
    pairs = pair_clips(folder, folder)
    assert [pair.audio and pair.audio.name for pair in pairs] == ["1.wav", "2.mp4"]
    own = pair_clips(folder)
    assert [(pair.name, pair.video == pair.audio) for pair in own] == [
        ("1.mp4", True),
        ("2.mp4", True),
    ]


# --- results ---


def test_rows_survive_the_file_to_the_last_bit(tmp_path: Path, videos: Path) -> None:
    result = score(MODEL, videos, out=tmp_path)
    again = score(MODEL, videos, out=tmp_path)
    assert again.clips == result.clips
    assert again.summary == result.summary == json.loads((tmp_path / "summary.json").read_text())
    assert (tmp_path / "offsets.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="columns"):
        ClipScore.parse({"name": "x"})


def test_rows_without_a_newer_column_are_scored_again(videos: Path, tmp_path: Path) -> None:
    whole = score(MODEL, videos, out=tmp_path)
    file = tmp_path / "clips.csv"
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    older = [name for name in rows[0] if name != "av_align"]
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, older, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    assert score(MODEL, videos, out=tmp_path).clips == whole.clips


def test_an_interrupted_run_goes_on_and_repeats_nothing(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score(MODEL, videos, out=tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        assert total == 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(MODEL, videos, out=tmp_path / "cut", progress=stop)
    rows = tmp_path / "cut" / "clips.csv"
    assert len(rows.read_text().splitlines()) == 2
    rows.write_text(rows.read_text() + "tall.mp4,half a")  # as a killed process leaves it
    read: list[str] = []
    plain = Scorer._read

    def watched(self: Scorer, pair: object) -> object:
        read.append(pair.name)  # type: ignore[attr-defined]
        return plain(self, pair)  # type: ignore[arg-type]

    monkeypatch.setattr(Scorer, "_read", watched)
    again = score(MODEL, videos, out=tmp_path / "cut")
    assert sorted(read) == ["tall.mp4", "wide.mp4"]
    assert again.clips == whole.clips
    for name in ("clips.csv", "summary.json"):
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_a_clip_that_has_changed_is_scored_again(videos: Path, tmp_path: Path) -> None:
    audios = tmp_path / "audios"
    audios.mkdir()
    write_audio_of(audios / "square.wav", videos / "square.mp4")
    (audios / "tall.wav").write_text("not audio")
    before = score(MODEL, videos, audios, out=tmp_path / "out")
    assert "not a media file" in before.clips[1].skipped
    write_audio_of(audios / "square.wav", videos / "square.mp4", delay_s=0.8)
    write_audio_of(audios / "tall.wav", videos / "tall.mp4")
    after = score(MODEL, videos, audios, out=tmp_path / "out")
    assert after.summary["scored"] == 2
    assert after.clips[0].desync_s == pytest.approx(0.8, abs=0.05)
    assert len((tmp_path / "out" / "clips.csv").read_text().splitlines()) == 4


def test_a_folder_of_other_settings_is_refused(videos: Path, tmp_path: Path) -> None:
    score(MODEL, videos, out=tmp_path)
    with pytest.raises(
        ConfigError, match=r"mode corrected there, published here.*choose another folder"
    ):
        score(MODEL, videos, out=tmp_path, mode="published")
    with pytest.raises(ConfigError, match=r"duration 8\.0 there, 6\.0 here"):
        score(MODEL, videos, out=tmp_path, duration_s=6)
    with pytest.raises(ConfigError, match="sha256"):
        score("tiny-synthetic-sync", videos, out=tmp_path)
    with pytest.raises(ConfigError, match="audios"):
        score(MODEL, videos, videos, out=tmp_path)
    score(resolve(MODEL), videos, out=tmp_path)  # the same model by another name
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ConfigError, match="damaged"):
        score(MODEL, videos, out=tmp_path)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ConfigError, match="another program"):
        score(MODEL, videos, out=tmp_path)


# --- bad input ---


def test_models_that_answer_no_offsets_are_refused(
    recipe: Recipe, videos: Path, tmp_path: Path
) -> None:
    headless = recipe.model.model_copy(update={"head": None})
    save_model(tmp_path / "headless", Model(headless))
    with pytest.raises(ConfigError, match="no head yet"):
        score(tmp_path / "headless", videos)
    head = Component(name="synchronizability", config={"depth": 1, "heads": 2, "dim": 32})
    task = Component(name="synchronizability")
    yes_no = recipe.model.model_copy(update={"task": task, "head": head})
    save_model(tmp_path / "yesno", Model(yes_no).eval())
    with pytest.raises(ConfigError, match="not by how much"):
        score(tmp_path / "yesno", videos)
    with pytest.raises(ModelError, match="no model 'nothing'"):
        score("nothing", videos)
    with pytest.raises(ConfigError, match="cuda:99 cannot be used"):
        score(MODEL, videos, device="cuda:99")


def test_bad_clips_are_listed_and_the_others_scored(videos: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (200, 64, 64, 3), np.uint8)
    noise = np.random.default_rng(0).normal(0, 0.1, 128_000).astype(np.float32)
    shutil.copy(videos / "square.mp4", tmp_path / "good.mp4")
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").touch()
    whole = (videos / "square.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    encode(tmp_path / "mute.mp4", frames, None)
    encode(tmp_path / "blind.mp4", None, noise)
    encode(tmp_path / "short.mp4", frames[:100], noise)
    broken = np.where(np.arange(128_000) == 5_000, np.nan, noise).astype(np.float32)
    encode(tmp_path / "nan.mkv", frames, broken, audio_codec="pcm_f32le")
    for mode in ("published", "corrected", "avgen-bench"):
        result = score(MODEL, tmp_path, mode=mode, out=tmp_path / mode)
        reasons = {clip.name: clip.skipped for clip in result.clips}
        assert [name for name, reason in reasons.items() if not reason] == ["good.mp4"]
        assert (result.summary["scored"], result.summary["clips"]) == (1, 8)
        assert "no audio stream" in reasons["mute.mp4"]
        assert "no video stream" in reasons["blind.mp4"]
        assert "too short" in reasons["short.mp4"]
        assert "not numbers" in reasons["nan.mkv"]
        assert result.summary["interval_s"] is None
        assert len(result.summary["skipped"]) == 7


def test_a_reader_that_fails_in_a_new_way_stops_nothing(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = PairReader.read

    def strange(self: PairReader, pair: Pair, mode: Mode) -> Reading:
        if pair.name == "tall.mp4":
            raise IndexError("out of frames")
        return plain(self, pair, mode)

    monkeypatch.setattr(PairReader, "read", strange)
    result = score(MODEL, videos)
    assert [bool(clip.skipped) for clip in result.clips] == [False, True, False]
    assert result.clips[1].skipped == "cannot be read: IndexError: out of frames"


def test_values_out_of_range_are_one_sentence(videos: Path, tmp_path: Path) -> None:
    for duration_s in (4.0, -1.0, math.nan):
        with pytest.raises(ConfigError, match=r"too short: the model looks at 4.8 s"):
            score(MODEL, videos, duration_s=duration_s)
    with pytest.raises(ManifestError, match="does not exist"):
        score(MODEL, tmp_path / "none")
    with pytest.raises(ManifestError, match="holds no video"):
        score(MODEL, tmp_path)
    with pytest.raises(ManifestError, match="holds no audio"):
        score(MODEL, videos, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write"):
        score(MODEL, videos, out=tmp_path / "file" / "x")
