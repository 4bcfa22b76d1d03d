"""Hidden patches rebuilt: which ones, what is put there, what is said and drawn of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoo.catalog.entries import HOME_VARIABLE
from zoo.catalog.model_folder import add_model, load_model, save_model, verify_folder
from zoo.cli.app import run
from zoo.contracts import Modality
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, MediaError, ModelError
from zoo.inference.reconstruction import Rebuilder, choose_hiding, place_segments
from zoo.inference.reconstruction_plot import draw, frames_of, spectrograms_of
from zoo.inference.windows import Streams
from zoo.media import encode
from zoo.models.model import OBJECTIVE, Model
from zoo.models.modules import emphasise_change
from zoo.models.patches import MODALITIES, normalise_patches, put_back, restore_patches
from zoo.models.reconstruction import Hiding, Rebuilt, restore_change
from zoo.models.segments import Segments
from zoo.registry.manager import registry
from zoo.timeline import SegmentLayout
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, run_job, take_encoder, without_head
from zoo.training.recipe_builder import build_recipe

PAIR, HALF = "ast_motionformer", Hiding(0.5, 0.5)
PLAIN = (  # what is rebuilt are values as they are
    "objective.norm_targets=false",
    "encoder.audio_change_gain=null",
    "encoder.vision_change_gain=null",
)


def untrained(extractor: str = "cavmae", objective: str | None = None, *given: str) -> Model:
    """A tiny model with a decoder that has learnt nothing, and no head."""
    torch.manual_seed(0)
    recipe = build_recipe(
        extractor=extractor, objective=objective, preset="tiny", overrides=list(given)
    )
    model = without_head(Model(recipe.model)).eval()
    assert model.objective is not None
    model.beside[OBJECTIVE] = model.objective.state_dict
    return model


def segments_of(model: Model, num: int = 2) -> Segments:
    generator = torch.Generator().manual_seed(1)
    shapes = (model.io.audio.segment_shape, model.io.vision.segment_shape)
    return Segments(*(torch.randn(1, num, *shape, generator=generator) for shape in shapes))


def rebuilt_by(model: Model, segments: Segments, hiding: Hiding) -> dict[Modality, Rebuilt]:
    assert model.objective is not None
    return model.objective.reconstruct(model.encoder, segments, hiding)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "cavmae"
    save_model(path, untrained())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("clips") / "a $b$.mp4"
    frames = rng.integers(0, 255, (75, 64, 80, 3), np.uint8)
    encode(path, frames, rng.normal(0, 0.1, 48_000).astype(np.float32))
    return path


@pytest.mark.parametrize(
    ("extractor", "objective"), [("cavmae", "cavmae"), ("avsiam", "avsiam"), (PAIR, "mae")]
)
def test_only_what_is_hidden_changes(extractor: str, objective: str) -> None:
    model = untrained(extractor, objective)
    for modality, part in rebuilt_by(model, segments_of(model), HALF).items():
        seen = ~part.hidden
        assert 0.2 < float(part.hidden.float().mean()) < 0.8, modality
        assert torch.equal(part.rebuilt[seen], part.given[seen])
        assert not torch.equal(part.rebuilt, part.given)
        assert part.error is not None
        assert part.unexplained is not None
        assert part.unexplained > 0.5  # it has learnt nothing


@pytest.mark.parametrize("modality", MODALITIES)
def test_hidden_values_have_no_influence_on_what_is_put_there(modality: Modality) -> None:
    model = untrained("cavmae", None, *PLAIN)
    segments = segments_of(model)
    first = rebuilt_by(model, segments, HALF)
    given: dict[str, Any] = {m: getattr(segments, m).clone() for m in MODALITIES}
    given[modality][first[modality].hidden[None]] = 9.0
    other = rebuilt_by(model, Segments(**given), HALF)
    for m in MODALITIES:
        torch.testing.assert_close(other[m].rebuilt, first[m].rebuilt)


@pytest.mark.parametrize("extractor", ["cavmae", "avsiam"])
@pytest.mark.parametrize(("audio", "vision"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_all_or_nothing_of_a_modality_can_be_hidden(
    extractor: str, audio: float, vision: float
) -> None:
    model = untrained(extractor)
    found = rebuilt_by(model, segments_of(model), Hiding(audio, vision))
    for modality, share in (("audio", audio), ("vision", vision)):
        part = found[modality]  # type: ignore[index]
        assert bool(part.hidden.all()) == (share == 1)
        assert bool(part.hidden.any()) == (share > 0)
        assert (part.error is None) == (part.unexplained is None) == (share == 0)
        assert bool(part.rebuilt.isfinite().all())


def test_audio_that_is_all_hidden_is_rebuilt_from_the_video() -> None:
    model = untrained("cavmae", None, *PLAIN)
    segments, hiding = segments_of(model), Hiding(1.0, 0.0)
    other = Segments(segments.audio, segments.vision + 1)
    first, second = (rebuilt_by(model, given, hiding)["audio"] for given in (segments, other))
    assert not torch.allclose(first.rebuilt, second.rebuilt)


@pytest.mark.parametrize("mask", ["time", "frequency"])
def test_strips_of_the_spectrogram_are_hidden(mask: Any) -> None:
    model = untrained()
    hidden = rebuilt_by(model, segments_of(model), Hiding(0.5, 0.5, mask))["audio"].hidden[0]
    whole = hidden.all(0) if mask == "time" else hidden.all(1)
    assert 0.4 < float(whole.float().mean()) < 0.6


@pytest.mark.parametrize(
    ("hiding", "said"),
    [
        (Hiding(0.5, 0.5, "time"), "one by one"),
        (Hiding(1.0, 0.5), "not all of its audio can be hidden"),
    ],
)
def test_what_a_decoder_of_each_modality_cannot_do_is_said(hiding: Hiding, said: str) -> None:
    model = untrained(PAIR, "mae")
    with pytest.raises(ConfigError, match=said):
        rebuilt_by(model, segments_of(model, 1), hiding)


def test_all_of_both_modalities_is_refused() -> None:
    model = untrained()
    with pytest.raises(ConfigError, match="nothing to rebuild from"):
        rebuilt_by(model, segments_of(model, 1), Hiding(1.0, 1.0))


def test_a_perfect_answer_gives_the_input_back_and_the_mean_scores_chance() -> None:
    """Of normalised patches too, and of segments less their mean."""
    model = untrained()
    encoder: Any = model.encoder
    segments = segments_of(model).audio.flatten(0, 1)
    targets = encoder.targets("audio", segments)
    hidden = torch.arange(targets.shape[1])[None].expand(len(targets), -1)
    gain, join = encoder.gains["audio"], lambda x: encoder.join("audio", x)
    told = normalise_patches(targets)
    best = put_back(segments, targets, told, hidden, join, gain=gain, is_normalised=True)
    torch.testing.assert_close(best.rebuilt, best.given, rtol=1e-4, atol=1e-4)
    assert best.unexplained == pytest.approx(0, abs=1e-6)
    mean = put_back(segments, targets, 0 * told, hidden, join, gain=gain, is_normalised=True)
    assert mean.unexplained == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", ["ast", "motionformer"])
def test_patches_of_a_maskable_extractor_come_together_again(name: str) -> None:
    """Overlapping ones by their mean."""
    spec = registry().extractor(name)
    config = spec.presets["tiny"]
    extractor = spec.build(config).eval()
    shape = config.frontend.segment_shape(config.segment_s)
    segments = torch.randn(2, *shape)
    joined = restore_change(
        extractor.join(extractor.targets(segments)), segments, extractor.change_gain
    )
    given = segments[tuple(slice(size) for size in joined.shape)]
    assert joined.shape[2] >= 0.9 * segments.shape[2]
    torch.testing.assert_close(joined, given, rtol=1e-4, atol=1e-4)


def test_a_change_and_a_normalisation_can_be_undone() -> None:
    segments = torch.randn(2, 8, 12)
    changed = emphasise_change(segments, 1.5)
    torch.testing.assert_close(restore_change(changed, segments, 1.5), segments)
    torch.testing.assert_close(restore_patches(normalise_patches(segments), segments), segments)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Hiding(0.75, 0.9, "time")),
        ({"audio": 0.5, "mask": "both", "seed": 3}, Hiding(0.5, 0.9, "both", 3)),
        ({"source": "vision"}, Hiding(1.0, 0.0, "time")),
        ({"source": "audio", "seed": 1}, Hiding(0.0, 1.0, "time", 1)),
    ],
)
def test_what_is_not_given_is_hidden_as_in_training(given: Any, wanted: Hiding) -> None:
    assert choose_hiding(Hiding(0.75, 0.9, "time"), **given) == wanted


def test_segments_follow_each_other_as_long_as_a_crop() -> None:
    def streams(end_s: float, start_s: float = 0.0) -> Streams:
        path = Path("a.mp4")
        return Streams(path, path, None, (start_s, end_s), (0.0, end_s), None)

    layout = SegmentLayout(num_segments=14, segment_s=0.64, step_s=0.32)  # 4.8 s
    assert place_segments(streams(9), layout, 25) == [round(0.64 * i, 6) for i in range(7)]
    assert place_segments(streams(2), layout, 25, 0.5) == [0.5, 1.14]
    assert place_segments(streams(2, 0.05), layout, 25)[0] == 0.08
    whole = SegmentLayout(num_segments=1, segment_s=10.24, step_s=10.24)
    assert place_segments(streams(3), whole, 25) == [0.0]
    for end_s, start_s in ((0.5, None), (3.0, 2.8), (3.0, -1.0), (3.0, 99.0)):
        with pytest.raises(MediaError, match="no segment of"):
            place_segments(streams(end_s), layout, 25, start_s)


def test_a_clip_is_rebuilt_and_drawn(folder: Path, clip: Path, tmp_path: Path) -> None:
    found = Rebuilder(str(folder)).reconstruct(clip, HALF)
    assert (found.start_s, found.num_segments, found.end_s) == (0.0, 4, 2.56)
    frames, spectrograms = frames_of(found), spectrograms_of(found)
    assert {x.shape for x in frames.values()} == {(8, 48, 48, 3)}
    assert {x.shape for x in spectrograms.values()} == {(128, 256)}
    assert np.array_equal(spectrograms["hidden"].mask.mean(), 0.5)
    assert draw(found, tmp_path / "a.png").stat().st_size > 10_000


def test_a_single_frame_is_drawn_beside_the_spectrogram(clip: Path, tmp_path: Path) -> None:
    model = untrained(
        "cavmae", None, "layout.segment_s=2.56", "layout.num_segments=1", "encoder.vision_s=0.08"
    )
    save_model(tmp_path / "model", model)
    found = Rebuilder(str(tmp_path / "model")).reconstruct(clip)
    assert frames_of(found)["input"].shape == (1, 48, 48, 3)
    draw(found, tmp_path / "a.svg")


def test_the_command_says_how_well_and_draws(
    folder: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rebuilt.png"
    asked = ["reconstruct", str(folder), str(clip), "--hide-audio", "0.9", "-o", str(out)]
    assert run(asked) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "audio: 91% of the patches hidden; what is rebuilt leaves" in said
    assert "(mean and spread) of every hidden patch of audio and video are taken" in said
    assert "training hid 75% of the audio and 75% of the video" in said
    assert out.exists()
    assert run(asked) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*asked[:3], "--from", "vision", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["hiding"] == {"audio": 1.0, "vision": 0.0, "mask": "unstructured", "seed": 0}
    assert answer["vision"]["unexplained"] is None
    assert answer["audio"]["num_hidden"] == answer["audio"]["num_patches"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--hide-audio", "1.5"], "--hide-audio 1.5 is no share"),
        (["--hide-audio", "nan"], "--hide-audio nan is no share"),
        (["--from", "audio", "--hide-vision", "0.5"], "leave out --hide-audio and --hide-vision"),
        (["--hide-audio", "1", "--hide-vision", "1"], "nothing to rebuild from"),
        (["--start", "9"], "no segment of 0.64 s from 9 s on"),
        (["-o", "nowhere/a.png"], "there is no folder nowhere"),
        (["-o", "a.txt"], "a.txt is no plot"),
    ],
)
def test_bad_input_is_one_sentence(
    folder: Path, clip: Path, given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["reconstruct", str(folder), str(clip), *given]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("tiny-synthetic", "'segment_avclip', which rebuilds nothing"),
        ("no-such-model", "no-such-model"),
    ],
)
def test_a_model_without_a_decoder_is_refused(
    model: str, said: str, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["reconstruct", model, str(clip)]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_model_of_contrast_alone_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "cav", untrained("cavmae", "cav"))
    with pytest.raises(ConfigError, match="'cav', which rebuilds nothing"):
        Rebuilder(str(tmp_path / "cav"))
    model = untrained("cavmae", "cav")
    with pytest.raises(ConfigError, match="mae_weight is 0"):
        rebuilt_by(model, segments_of(model, 1), HALF)


def test_a_decoder_that_was_left_behind_is_looked_for_in_stage_1(tmp_path: Path) -> None:
    model = untrained()
    save_model(tmp_path / "run" / "stage1", model)
    model.beside.clear()
    save_model(tmp_path / "run", model)
    with pytest.raises(ConfigError, match=r"no decoder beside its weights.*run/stage1"):
        Rebuilder(str(tmp_path / "run"))


def test_a_decoder_goes_with_its_encoder() -> None:
    """From run to run, unless its objective is another one."""
    model = untrained()
    assert OBJECTIVE in without_head(model).beside
    for objective, is_kept in (("cavmae", True), ("avsiam", False)):
        other = untrained("cavmae", objective)
        other.beside.clear()
        take_encoder(other, model)
        assert (OBJECTIVE in other.beside) == is_kept


def test_a_model_that_is_added_to_the_catalog_keeps_its_decoder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    add_model(folder, "mine", "a decoder")
    kept, given = (
        load_model(path).beside[OBJECTIVE]() for path in (tmp_path / "models/mine", folder)
    )
    assert all(torch.equal(kept[name], given[name]) for name in given)
    assert Rebuilder("mine").trained == Hiding(0.75, 0.75)
    lost = tmp_path / "lost"
    shutil.copytree(folder, lost)
    (lost / "objective.safetensors").unlink()
    verify_folder(lost)  # which can be used as long as nobody asks for the decoder
    with pytest.raises(ModelError, match=r"objective\.safetensors is missing or damaged"):
        verify_folder(lost, beside=True)
    with pytest.raises(ModelError, match=r"objective\.safetensors is missing or damaged"):
        add_model(lost, "again", "")


@pytest.mark.parametrize(("encoder", "is_kept"), [("frozen", True), ("trained", False)])
def test_both_stages_keep_the_decoder_unless_the_encoder_moves(
    encoder: str, is_kept: bool, clips: Manifest, tmp_path: Path
) -> None:
    small = (
        "stage1.steps=2 stage1.clips=2 stage1.num_segments=2 stage1.valid_clips=2 stage2.steps=2 "
        "stage2.batch=2 stage2.valid_every=2 stage2.valid_rounds=1 data.features=online"
    )
    overrides = [*small.split(), f"stage2.encoder={encoder}"]
    recipe = build_recipe(extractor="cavmae", preset="tiny", overrides=overrides)
    run_job(LocalEngine(tmp_path), Job(recipe, clips.folder / "manifest.parquet", tmp_path, (1, 2)))
    assert load_model(tmp_path / "stage1").beside[OBJECTIVE]()
    assert (OBJECTIVE in load_model(tmp_path).beside) == is_kept
    if is_kept:
        assert Rebuilder(str(tmp_path)).reconstruct(clips.clips[0].path).num_segments == 7
    else:
        with pytest.raises(ConfigError, match=f"choose the model of its stage 1: {tmp_path}"):
            Rebuilder(str(tmp_path))
