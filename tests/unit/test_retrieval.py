"""Embeddings of clips by one modality, the index of a folder, and searching it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from threading import Event
from typing import Any, cast

import numpy as np
import pytest
import torch
from golden import unit

from plugins.cavmae.config import CavMaeConfig
from zoo.catalog.model_folder import save_model
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, ManifestError, MediaError
from zoo.media import decode
from zoo.media.encode import encode
from zoo.models.config import Component, ModelConfig
from zoo.models.model import Model
from zoo.models.segments import Segments
from zoo.registry.manager import add_plugin_file, registry
from zoo.retrieval import embedding
from zoo.retrieval.embedding import (
    ClipEmbedder,
    MissingStreamError,
    embed_clips,
    require_alone,
)
from zoo.retrieval.index import Index, default_home
from zoo.retrieval.search import retrieve
from zoo.timeline import SegmentLayout

JOINT = Path(__file__).parents[1] / "event_rate.py"
SEGMENT_S = 0.64


@pytest.fixture
def embedder(model: Model) -> ClipEmbedder:
    return ClipEmbedder(model, "small")


@pytest.fixture(scope="module")
def one_frame() -> Model:
    """An encoder of 10.24 s of audio beside one frame, as published but small."""
    config = CavMaeConfig(width=16, heads=2, depth=1)
    layout = SegmentLayout(num_segments=1, segment_s=10.24, step_s=10.24)
    torch.manual_seed(0)
    encoder = Component(name="cavmae", config=config.model_dump(mode="json"))
    return Model(ModelConfig(encoder=encoder, layout=layout)).eval()


@pytest.fixture
def folder(clips: Manifest, tmp_path: Path) -> Path:
    """Three clips, one of them in a folder of its own, and a file of audio alone."""
    folder = tmp_path / "clips"
    (folder / "more").mkdir(parents=True)
    for name, clip in zip(("a", "b", "more/c"), clips.clips, strict=False):
        shutil.copy(clip.path, folder / f"{name}.mp4")
    samples = decode(clips.clips[3].path, video=False).samples
    encode(folder / "d.wav", None, samples, audio_codec="pcm_s16le")
    return folder


class Fake:
    """Embeds a file by its name, and notes what it has read."""

    def __init__(self, refuses: tuple[str, ...] = (), stops_at: str = "") -> None:
        self.refuses, self.stops_at = refuses, stops_at
        self.read: list[str] = []
        self.stop = Event()

    def embed(self, clip: Path, modality: str) -> np.ndarray:
        if clip.name == self.stops_at:
            raise KeyboardInterrupt
        self.read.append(clip.name)
        if clip.name in self.refuses:
            raise MediaError(f"{clip.name} is damaged")
        return unit(torch.tensor([float(len(clip.name)), float(ord(clip.name[0]))])).numpy()


def update(home: Path, folder: Path, fake: Fake, **given: Any) -> tuple[Index, tuple[int, int]]:
    index = Index(home, "vision", folder, "m", given.get("fingerprint", "f"))
    files = sorted(folder.resolve().glob("*.mp4"))
    done = index.update(files, cast(ClipEmbedder, fake), workers=1)
    return index, (done.num_new, done.num_gone)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("a", "bb", "ccc"):
        (folder / f"{name}.mp4").write_text(name)
    return folder


# --- embeddings ---


def test_a_clip_is_the_mean_of_its_segments_as_stage_1_compares_them(
    model: Model, embedder: ClipEmbedder, clips: Manifest
) -> None:
    clip = clips.clips[0].path  # 9 s
    starts = [round(i * SEGMENT_S, 6) for i in range(14)]
    assert model.objective is not None
    for modality in ("audio", "vision"):
        segments = embedder.reader.read_segments(modality, clip, starts, SEGMENT_S)
        tokens = model.separable.modality(modality).encode(segments)
        expected = unit(model.objective.embed(modality, tokens).mean(0))
        found = torch.from_numpy(embedder.embed(clip, modality))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_each_modality_is_embedded_without_the_other(
    embedder: ClipEmbedder, clips: Manifest, tmp_path: Path
) -> None:
    whole = decode(clips.clips[0].path, fps=25.0)
    encode(tmp_path / "sound.wav", None, whole.samples, audio_codec="pcm_s16le")
    found = embedder.embed(tmp_path / "sound.wav", "audio")
    assert found @ embedder.embed(clips.clips[0].path, "audio") > 0.999
    with pytest.raises(MissingStreamError, match=r"sound\.wav has no video stream"):
        embedder.embed(tmp_path / "sound.wav", "vision")


def tiny_cavmae(**changes: Any) -> Model:
    preset = registry().encoder("cavmae").presets["tiny"].model_copy(update=changes)
    torch.manual_seed(0)
    encoder = Component(name="cavmae", config=preset.model_dump(mode="json"))
    return Model(ModelConfig(encoder=encoder)).eval()


@pytest.mark.parametrize("mode", ["joint", "other_missing"])
def test_a_joint_encoder_is_asked_for_what_its_contrast_compares(mode: str) -> None:
    model, apart = tiny_cavmae(mode=mode), tiny_cavmae(mode="apart", pool_positions=False)
    audio, vision = (
        torch.randn(2, 1, *io.segment_shape) for io in (model.io.audio, model.io.vision)
    )
    with torch.no_grad():
        tokens = model.encoder.encode_alone("audio", audio[:, 0])
        expected, _ = apart.encoder.encode(Segments(audio, vision))
    torch.testing.assert_close(tokens.mean(1), expected.flat.mean(1), atol=1e-5, rtol=1e-4)


def test_the_single_frame_is_the_middle_one_of_a_clip_shorter_than_a_segment(
    one_frame: Model, clips: Manifest
) -> None:
    """Of a clip of 10 s that is the frame at 4.96 s, as published; these have 9 s."""
    embedder = ClipEmbedder(one_frame, "m")
    clip = clips.clips[0].path
    (start_s,), _ = embedder._starts(clip, "vision")
    assert start_s + one_frame.io.vision.lead_s(10.24) == pytest.approx(4.48)
    assert embedder._starts(clip, "audio")[0] == [0.0]
    assert np.linalg.norm(embedder.embed(clip, "vision")) == pytest.approx(1.0, abs=1e-5)


def test_an_encoder_that_needs_both_modalities_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_PLUGINS", "")
    add_plugin_file(JOINT)
    model = Model(ModelConfig(encoder=Component(name="joint")))
    with pytest.raises(ConfigError, match="'joint' of 'theirs' always needs audio and video"):
        require_alone(model, "theirs")
    with pytest.raises(ConfigError, match="always needs audio and video together"):
        model.encoder.encode_alone("audio", torch.zeros(1))
    registry.cache_clear()


def test_tokens_of_different_widths_are_refused(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = Model(model.config.model_copy(update={"objective": None})).eval()
    assert ClipEmbedder(bare, "bare").note is not None
    tokens = bare.io.audio.tokens.model_copy(update={"dim": 7})
    audio = bare.io.audio.model_copy(update={"tokens": tokens})
    monkeypatch.setattr(bare, "io", bare.io.model_copy(update={"audio": audio}))
    with pytest.raises(ConfigError, match="7 wide for audio and 128 for video"):
        ClipEmbedder(bare, "bare")


def test_a_model_is_known_by_its_weights_and_its_encoder(
    model: Model, embedder: ClipEmbedder, one_frame: Model
) -> None:
    first, second = {"sha256": "aa"}, {"sha256": "bb"}
    learnt = {**first, "beside": {"objective": "cc"}}
    mine = embedder.fingerprint(first)
    assert mine == ClipEmbedder(model, "another name").fingerprint(first)
    others = [embedder.fingerprint(given) for given in (second, learnt)]
    assert len({mine, *others, ClipEmbedder(one_frame, "").fingerprint(first)}) == 4


def test_audio_is_embedded_to_its_own_end(
    one_frame: Model, clips: Manifest, tmp_path: Path
) -> None:
    """Beside a video that ends early, as by itself."""
    embedder = ClipEmbedder(one_frame, "m")
    whole = decode(clips.clips[0].path, fps=25, short_side=64)
    assert whole.frames is not None
    assert whole.samples is not None
    encode(tmp_path / "alone.mov", None, whole.samples, audio_codec="pcm_s16le")
    early = tmp_path / "early.mov"
    encode(early, whole.frames[:50], whole.samples, audio_codec="pcm_s16le")
    vectors = [embedder.embed(path, "audio") for path in (tmp_path / "alone.mov", early)]
    np.testing.assert_allclose(*vectors, atol=1e-5)


def test_what_fails_in_the_encoder_is_no_fault_of_the_clip(
    embedder: ClipEmbedder, clips: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(embedding, "embed_segments", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        embedder.embed(clips.clips[0].path, "audio")


# --- the index ---


def test_files_are_read_once_and_again_only_when_they_change(files: Path, tmp_path: Path) -> None:
    home, fake = tmp_path / "index", Fake()
    _, changes = update(home, files, fake)
    assert changes == (3, 0)
    _, changes = update(home, files, fake)
    assert changes == (0, 0)
    (files / "a.mp4").write_text("longer")
    (files / "bb.mp4").unlink()
    (files / "dddd.mp4").write_text("new")
    index, changes = update(home, files, fake)
    assert changes == (2, 1)
    assert fake.read == ["a.mp4", "bb.mp4", "ccc.mp4", "a.mp4", "dddd.mp4"]
    assert sorted(index.entries) == ["a.mp4", "ccc.mp4", "dddd.mp4"]


def test_embeddings_come_back_as_they_were(files: Path, tmp_path: Path) -> None:
    first, _ = update(tmp_path / "index", files, Fake(refuses=("bb.mp4",)))
    second, _ = update(tmp_path / "index", files, Fake())
    assert second.entries["bb.mp4"].problem == "bb.mp4 is damaged"
    for name in ("a.mp4", "ccc.mp4"):
        mine, theirs = first.entries[name].vector, second.entries[name].vector
        assert mine is not None
        np.testing.assert_array_equal(mine, theirs)


def test_an_interrupted_index_goes_on(files: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        update(tmp_path / "index", files, Fake(stops_at="bb.mp4"))
    fake = Fake()
    index, changes = update(tmp_path / "index", files, fake)
    assert "a.mp4" not in fake.read
    assert changes == (2, 0)
    assert len(index.entries) == 3


def test_an_index_of_something_else_is_left_as_it_is(files: Path, tmp_path: Path) -> None:
    home = tmp_path / "index"
    update(home, files, Fake())
    before = (home / "video.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"another model \('m'\)"):
        update(home, files, Fake(), fingerprint="g")
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ConfigError, match="another folder"):
        update(home, other, Fake())
    assert (home / "video.safetensors").read_bytes() == before
    moved = files.rename(tmp_path / "moved")
    assert update(home, moved, Fake())[1] == (0, 0)


def test_a_damaged_index_is_named(files: Path, tmp_path: Path) -> None:
    home = tmp_path / "index"
    home.mkdir()
    (home / "video.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError, match=r"video\.safetensors is damaged, or no index"):
        update(home, files, Fake())
    with pytest.raises(ConfigError, match="is a file; index takes a folder"):
        Index(home / "video.safetensors", "vision", files, "m", "f")


def test_folders_and_models_have_an_index_each(files: Path, tmp_path: Path) -> None:
    homes = {default_home(f, m) for f in (files, tmp_path) for m in ("1" * 64, "2" * 64)}
    assert len(homes) == 4


def test_other_clips_go_on_when_one_cannot_be_read(files: Path) -> None:
    jobs = [(file, "vision") for file in sorted(files.iterdir())]
    found = embed_clips(cast(ClipEmbedder, Fake(refuses=("a.mp4",))), cast(Any, jobs), workers=2)
    problems = {clip.name: given for clip, _, given in found if isinstance(given, MediaError)}
    assert list(problems) == ["a.mp4"]


# --- searching ---


def test_the_video_of_a_sound_is_found_among_others(
    model_folder: Path, folder: Path, embedder: ClipEmbedder, tmp_path: Path
) -> None:
    query = folder / "d.wav"
    (folder / "broken.mp4").write_bytes(b"no clip")
    frames = decode(folder / "a.mp4", fps=25.0, duration_s=2.0, audio=False).frames
    encode(folder / "silent.mp4", frames, None)
    found = retrieve(model_folder, query, folder, top=10, index=tmp_path / "index")
    assert {hit.path.name for hit in found.hits} == {"a.mp4", "b.mp4", "c.mp4", "silent.mp4"}
    assert (found.num_searched, found.num_new, found.own_rank) == (4, 5, None)
    assert [path.name for path in found.failed] == ["broken.mp4"]
    best = found.hits[0]
    expected = embedder.embed(query, "audio") @ embedder.embed(best.path, "vision")
    assert best.similarity == pytest.approx(float(expected), abs=1e-5)
    assert [hit.similarity for hit in found.hits] == sorted(
        (hit.similarity for hit in found.hits), reverse=True
    )
    sounds = retrieve(model_folder, folder / "silent.mp4", folder, find="audio", top=2)
    assert len(sounds.hits) == 2
    assert sounds.num_searched == 4
    assert [path.name for path in sounds.without_stream] == ["silent.mp4"]
    again = retrieve(model_folder, folder / "a.mp4", folder, index=tmp_path / "index")
    assert again.num_new == 0
    assert again.own_rank is not None
    assert folder / "a.mp4" not in [hit.path for hit in again.hits]


def test_a_query_without_its_stream_is_refused(model_folder: Path, folder: Path) -> None:
    with pytest.raises(MediaError, match=r"d\.wav has no video stream.* find video"):
        retrieve(model_folder, folder / "d.wav", folder, find="audio")
    with pytest.raises(MediaError, match=r"nowhere\.wav"):
        retrieve(model_folder, folder / "nowhere.wav", folder)


def test_a_folder_without_a_usable_clip_is_refused(
    model_folder: Path, folder: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    with pytest.raises(ManifestError, match="holds no video"):
        retrieve(model_folder, folder / "d.wav", bad)
    (bad / "x.mp4").write_bytes(b"no clip")
    with pytest.raises(ManifestError, match="not one of 1 files"):
        retrieve(model_folder, folder / "d.wav", bad)


def test_the_command_prints_and_draws_its_hits(
    model_folder: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "hits.png"
    words = ["retrieve", str(model_folder), str(folder / "a.mp4"), "--in", str(folder)]
    assert run([*words, "--top", "1", "-o", str(plot)]) == 0
    out = capsys.readouterr().out
    assert "the video of the query itself would be number" in out
    assert "3 files in" in out
    assert plot.stat().st_size > 10_000
    assert run([*words, "--json", "--find", "audio"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    assert answer["num_searched"] == 4
    assert run([*words, "-o", str(plot)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_model_without_a_head_searches(one_frame: Model, folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "bare", one_frame)
    found = retrieve(tmp_path / "bare", folder / "d.wav", folder, top=1)
    assert (len(found.hits), found.num_searched) == (1, 3)
