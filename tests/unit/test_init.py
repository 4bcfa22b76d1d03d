"""Starting from published weights: of single extractors, and of whole models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from published_weights import (
    HUGGING_FACE,
    MODEL_STATE,
    POSITIONS,
    published_ast,
    published_motionformer,
)
from safetensors.torch import load_file, save_file
from torch.nn.functional import interpolate

from plugins.ast.config import AstConfig
from plugins.ast.model import Ast
from plugins.motionformer.config import MotionformerConfig
from plugins.motionformer.model import Motionformer
from plugins.synchformer.layout import Sizes, build_config, write
from zoo.catalog.model_folder import load_model
from zoo.checkpoints.tensors import resample
from zoo.cli.app import run
from zoo.contracts import Positions
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, ModelError
from zoo.models.model import Model
from zoo.registry.manager import registry
from zoo.training.request import TrainRequest, recipe_of
from zoo.training.run_folder import open_run
from zoo.training.start import describe_start

AST = AstConfig(dim=64, depth=2, heads=2)
MOTIONFORMER = MotionformerConfig(
    frontend=MotionformerConfig().frontend.model_copy(update={"size": 48, "short_side": 56}),
    dim=64,
    depth=2,
    heads=2,
)
TINY = TrainRequest(extractor="ast_motionformer", preset="tiny")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


# --- siamese pairs ---


def test_a_siamese_pair_takes_its_blocks_from_one_file(tmp_path: Path) -> None:
    audio, vision = tmp_path / "ast.safetensors", tmp_path / "motionformer.pyth"
    save_file(published_ast(AST), audio)
    torch.save({"model_state": published_motionformer(MOTIONFORMER)}, vision)
    siamese = TINY.model_copy(update={"set": {"encoder.siamese": True}})
    recipe_of(siamese.model_copy(update={"init": (str(audio),)}), 0)
    with pytest.raises(ConfigError, match="has one set of blocks, which is taken from"):
        recipe_of(siamese.model_copy(update={"init": (str(audio), str(vision))}), 0)


# --- tables of positions ---


def test_a_linear_table_stays_linear_when_resampled() -> None:
    bands, times = torch.meshgrid(torch.arange(12.0), torch.arange(101.0), indexing="ij")
    table = torch.stack([bands, times], dim=-1).flatten(0, 1)[None]
    made = resample(table, (12, 101), (6, 5))[0].unflatten(0, (6, 5))
    assert torch.allclose(made[:, 0, 0], (torch.arange(6) + 0.5) * 2 - 0.5, atol=1e-4)
    assert torch.allclose(made[0, :, 1], (torch.arange(5) + 0.5) * 20.2 - 0.5, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "audio_spectrogram_transformer."])
def test_ast_weights_fill_ours_and_the_classifier_is_dropped(prefix: str) -> None:
    theirs = published_ast(AST, prefix=prefix)
    assert HUGGING_FACE.recognises(theirs)
    ours = HUGGING_FACE.read(theirs, AST, "prefix")
    model = Ast(AST)
    model.load_state_dict(ours)
    assert torch.equal(ours["vit.pos_embed"], theirs[prefix + POSITIONS][:, :74])
    qkv = [
        theirs[f"{prefix}encoder.layer.1.attention.attention.{name}.weight"]
        for name in ("query", "key", "value")
    ]
    assert torch.equal(model.vit.blocks[1].attn.qkv.weight, torch.cat(qkv))


def test_ast_positions_are_resampled_over_bands_and_time() -> None:
    theirs = published_ast(AST)
    ours = HUGGING_FACE.read(theirs, AST, "interpolate")["vit.pos_embed"]
    table = theirs[POSITIONS]
    assert torch.equal(ours[:, :2], table[:, :2])
    grid = table[0, 2:].reshape(12, 101, 64).permute(2, 0, 1)[None]
    wanted = interpolate(grid, (12, 6), mode="bilinear")[0].permute(1, 2, 0).reshape(72, 64)
    assert torch.allclose(ours[0, 2:], wanted)
    shorter = published_ast(AST, rows=74)
    for positions in ("prefix", "interpolate"):
        found = HUGGING_FACE.read(shorter, AST, positions)["vit.pos_embed"]
        assert torch.equal(found, shorter[POSITIONS])


def test_a_table_too_short_or_odd_is_said() -> None:
    with pytest.raises(ModelError, match="shorter than the 74"):
        HUGGING_FACE.read(published_ast(AST, rows=38), AST, "prefix")
    with pytest.raises(ModelError, match="not 2 tokens and a grid of 12 bands"):
        HUGGING_FACE.read(published_ast(AST, rows=100), AST, "interpolate")
    broken = published_ast(AST)
    broken[POSITIONS][0, 700] = torch.nan
    with pytest.raises(ModelError, match=r"position_embeddings' holds NaN"):
        HUGGING_FACE.read(broken, AST, "interpolate")


def test_motionformer_weights_fill_ours_and_the_classifier_is_dropped() -> None:
    theirs = published_motionformer(MOTIONFORMER)
    assert MODEL_STATE.recognises(theirs)
    assert not MODEL_STATE.recognises(published_ast(AST))
    for is_dead in (False, True):
        config = MOTIONFORMER.model_copy(update={"dead_patch_embed": is_dead})
        ours = MODEL_STATE.read(theirs, config, "interpolate")
        Motionformer(config).load_state_dict(ours)
        assert torch.equal(ours["patch_embed_3d.weight"], theirs["patch_embed_3d.proj.weight"])
        assert torch.equal(ours["pos_embed"], theirs["pos_embed"])


@pytest.mark.parametrize("segment_s", [0.32, 1.28])
def test_motionformer_times_fit_other_segments(segment_s: float) -> None:
    theirs = published_motionformer(MOTIONFORMER)
    config = MOTIONFORMER.model_copy(update={"segment_s": segment_s})
    steps = config.feature_map().steps
    ours = MODEL_STATE.read(theirs, config, "interpolate")["temp_embed"]
    wanted = interpolate(theirs["temp_embed"].transpose(1, 2), steps, mode="linear")
    assert torch.allclose(ours, wanted.transpose(1, 2), atol=1e-6)
    if segment_s < 0.64:
        ours = MODEL_STATE.read(theirs, config, "prefix")["temp_embed"]
        assert torch.equal(ours, theirs["temp_embed"][:, :steps])
    else:
        with pytest.raises(ModelError, match="shorter than the 16"):
            MODEL_STATE.read(theirs, config, "prefix")


def test_motionformer_places_fit_other_sizes() -> None:
    larger = MOTIONFORMER.frontend.model_copy(update={"size": 64})
    config = MOTIONFORMER.model_copy(update={"frontend": larger})
    theirs = published_motionformer(MOTIONFORMER)
    ours = MODEL_STATE.read(theirs, config, "interpolate")["pos_embed"]
    assert ours.shape == (1, 17, 64)
    assert torch.equal(ours[:, 0], theirs["pos_embed"][:, 0])
    with pytest.raises(ModelError, match="'pos_embed' is 1 x 10 x 64 and should be 1 x 17 x 64"):
        MODEL_STATE.read(theirs, config, "prefix")


# --- what --init names ---


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Files as they are published, of the tiny preset's sizes."""
    specs = registry().extractors
    ast, motionformer = specs["ast"].presets["tiny"], specs["motionformer"].presets["tiny"]
    found = {name: tmp_path / f"{name}.pt" for name in ("audio", "vision", "avclip", "paper")}
    save_file(published_ast(ast, prefix="audio_spectrogram_transformer."), found["audio"])
    state = published_motionformer(motionformer)
    torch.save({"model_state": state, "cfg": "TRAIN:", "epoch": 1}, found["vision"])
    sizes = Sizes(audio_dim=64, audio_depth=1, vision_dim=64, vision_depth=1, pixels=48)
    torch.manual_seed(3)
    torch.save(write("avclip", Model(build_config("avclip", sizes))), found["avclip"])
    torch.save(published_ast(AST.model_copy(update={"dim": 192})), found["paper"])
    return found


def prepared(request: TrainRequest, out: Path, manifest: Path) -> Path:
    """Open a run as ``zoo train`` does before Ray starts; return what it starts from."""
    asked = request.model_copy(update={"data": str(manifest)})
    opened = open_run(asked, out, 0, resume=False)
    opened.write()
    assert opened.job.init is not None
    return opened.job.init


@pytest.fixture
def manifest(clips: Manifest) -> Path:
    return clips.folder / "manifest.parquet"


@pytest.mark.parametrize("positions", ["prefix", "interpolate"])
def test_extractors_are_filled_and_the_rest_is_fresh(
    tmp_path: Path, files: dict[str, Path], manifest: Path, positions: Positions
) -> None:
    given = (str(files["audio"]), str(files["vision"]))
    asked = TINY.model_copy(update={"init": given, "init_positions": positions})
    folder = prepared(asked, tmp_path / "run", manifest)
    assert folder == tmp_path / "run" / "init"
    started = load_model(folder)
    recipe = recipe_of(asked, 0)
    torch.manual_seed(recipe.seed)
    fresh = Model(recipe.model)
    for modality, layout in (("audio", HUGGING_FACE), ("vision", MODEL_STATE)):
        mine, untouched = getattr(started.encoder, modality), getattr(fresh.encoder, modality)
        config = mine.config.extractor_config()
        theirs = load_file(files["audio"]) if modality == "audio" else torch.load(files["vision"])
        wanted = layout.read(theirs.get("model_state", theirs), config, positions)
        for name, tensor in mine.extractor.state_dict().items():
            assert torch.equal(tensor, wanted[name]), name
        for name, tensor in mine.aggregator.state_dict().items():
            assert torch.equal(tensor, untouched.aggregator.state_dict()[name]), name
    lines = describe_start(folder)
    assert lines[0].startswith(f"the audio extractor ast from {files['audio']} (huggingface-ast, ")
    assert lines[0].endswith(f"positions: {positions})")
    assert lines[1].startswith(f"the vision extractor motionformer from {files['vision']}")
    taken = json.loads((folder / "model.json").read_text())["started_from"]
    assert [len(part["sha256"]) for part in taken] == [64, 64]


def test_a_published_model_gives_its_encoder_and_an_extractor_may_follow(
    tmp_path: Path, files: dict[str, Path], manifest: Path
) -> None:
    theirs = torch.load(files["avclip"])["state_dict"]
    only = TrainRequest(init=(str(files["avclip"]),))
    started = load_model(prepared(only, tmp_path / "one", manifest))
    pair = started.config.two_tower()
    assert pair is not None
    assert pair.audio.extractor.config["depth"] == 1
    token = "ast.embeddings.cls_token"
    assert torch.equal(started.encoder.audio.extractor.vit.cls_token, theirs[f"a_encoder.{token}"])
    agg = theirs["v_encoder.spatial_attn_agg.cls_token"]
    assert torch.equal(started.encoder.vision.aggregator.cls_token, agg)
    torch.save(published_ast(AST.model_copy(update={"depth": 1})), tmp_path / "one.bin")
    both = TrainRequest(init=(str(files["avclip"]), str(tmp_path / "one.bin")))
    started = load_model(prepared(both, tmp_path / "two", manifest))
    own = torch.load(tmp_path / "one.bin")["embeddings.cls_token"]
    assert torch.equal(started.encoder.audio.extractor.vit.cls_token, own)
    assert torch.equal(started.encoder.vision.aggregator.cls_token, agg)


def test_a_catalog_name_and_a_folder_are_taken_as_they_are(
    tmp_path: Path, manifest: Path, model_folder: Path
) -> None:
    by_name = prepared(TrainRequest(init=("tiny-synthetic",)), tmp_path / "a", manifest)
    assert by_name.name == "tiny-synthetic"
    assert (
        prepared(TrainRequest(init=(str(model_folder),)), tmp_path / "b", manifest) == model_folder
    )
    assert describe_start(model_folder) == [f"starts from the encoder of {model_folder}"]
    assert not (tmp_path / "b" / "init").exists()


def test_a_resumed_run_starts_from_the_same_weights(
    tmp_path: Path, files: dict[str, Path], manifest: Path
) -> None:
    out = tmp_path / "run"
    asked = TINY.model_copy(update={"init": (str(files["audio"]),)})
    folder = prepared(asked, out, manifest)
    before = (folder / "model.safetensors").read_bytes()
    files["audio"].unlink()  # what was taken is with the run
    again = open_run(TrainRequest(), out, 0, resume=True)
    assert again.job.init == folder
    again.write()
    assert (folder / "model.safetensors").read_bytes() == before
    for other in ({"init": (str(files["vision"]),)}, {"init_positions": "prefix"}):
        with pytest.raises((ConfigError, ModelError)):
            open_run(TrainRequest(**other), out, 0, resume=True)


def test_a_request_saved_by_an_older_version_is_read(tmp_path: Path) -> None:
    TINY.write(tmp_path / "request.json")
    data: dict[str, Any] = json.loads((tmp_path / "request.json").read_text())
    del data["init_positions"]
    (tmp_path / "request.json").write_text(json.dumps({**data, "init": "somewhere"}))
    assert TrainRequest.read(tmp_path / "request.json").init == ("somewhere",)


@pytest.mark.parametrize(
    ("given", "more", "sentence"),
    [
        (["paper"], ["--extractor", "ast_motionformer"], "published sizes need --preset paper"),
        (["audio"], [], "say what to train: --extractor"),
        (["audio", "audio"], ["--extractor", "ast_motionformer"], "are taken from"),
        (["audio", "avclip"], ["--extractor", "ast_motionformer"], "name it first, and only one"),
        (["avclip", "avclip"], [], "name it first, and only one"),
        (
            ["audio"],
            ["--extractor", "ast_motionformer", "--stage", "2"],
            "weights that stage 1 starts from only",
        ),
        (["avclip"], ["--aggregator", "mean"], "does not fit --init"),
        ([], ["--extractor", "ast_motionformer", "--init-positions", "prefix"], "needs --init"),
    ],
)
def test_what_does_not_fit_together_is_one_sentence(
    tmp_path: Path,
    files: dict[str, Path],
    manifest: Path,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    more: list[str],
    sentence: str,
) -> None:
    starts = [part for name in given for part in ("--init", str(files[name]))]
    out = tmp_path / "run"
    assert run(["train", *starts, *more, "--data", str(manifest), "--out", str(out)]) == 2
    shown = said(capsys)
    assert sentence in shown
    assert shown.startswith("error: ")
    assert not (out / "recipe.json").exists()


def test_an_extractor_is_no_model_to_convert(
    tmp_path: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(files["vision"]), "-o", str(tmp_path / "model")]) == 2
    assert "weights of the extractor 'motionformer' only; start a training from it" in said(capsys)
