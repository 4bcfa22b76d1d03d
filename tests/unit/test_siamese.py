"""Pairs of extractors whose transformer blocks have the same attention and MLPs."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from early_stop import StopsEarly
from pydantic import JsonValue
from safetensors.torch import load_file

from plugins.synchformer.layout import Sizes, build_config, write
from zoo.catalog.model_folder import load_model, read_description, save_model
from zoo.cli.app import run
from zoo.data.manifest import Manifest
from zoo.data.store import store_config, store_key
from zoo.errors import ConfigError, ModelError
from zoo.models.model import Model, count_parameters
from zoo.models.segments import Segments
from zoo.models.two_tower import TwoTower
from zoo.registry.manager import registry
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, run_job
from zoo.training.recipe import Recipe
from zoo.training.recipe_builder import build_recipe
from zoo.training.rehearsal import check_fit

SIAMESE = "encoder.siamese=true"
PAIRS = sorted(
    f"{audio.name}+{vision.name}"
    for audio in registry().extractors.values()
    for vision in registry().extractors.values()
    if audio.modality == "audio" and vision.modality == "vision"
)
MATRICES = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def recipe_of(*overrides: str, extractor: str = "ast_motionformer") -> Recipe:
    return build_recipe(extractor=extractor, preset="tiny", overrides=[SIAMESE, *overrides])


def build(*overrides: str) -> tuple[Model, TwoTower]:
    torch.manual_seed(0)
    model = Model(recipe_of(*overrides).model)
    assert isinstance(model.encoder, TwoTower)
    return model, model.encoder


def try_to_build(extractor: str) -> Model | str:
    """Build a siamese pair, or return why it cannot be one."""
    torch.manual_seed(0)
    try:
        return Model(recipe_of(extractor=extractor).model)
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize("pair", PAIRS)
def test_every_pair_shares_blocks_or_says_why_not(pair: str) -> None:
    """A pair with convolutions has none; what is shared is the same tensor, what is not works."""
    model = try_to_build(pair)
    if isinstance(model, str):
        assert model.startswith("encoder.siamese=true shares the transformer blocks of both")
        return
    encoder = model.encoder
    assert isinstance(encoder, TwoTower)
    audio, vision = (
        part.extractor.transformer_blocks() for part in (encoder.audio, encoder.vision)
    )
    assert len(audio) == len(vision) > 0
    mine = {id(p) for block in audio for p in block.parameters()}
    assert any(id(p) in mine for block in vision for p in block.parameters())
    everything = sum(p.numel() for _, p in model.named_parameters(remove_duplicate=False))
    assert count_parameters(model) < everything


def test_attention_and_mlps_are_shared_and_norms_are_not() -> None:
    model, encoder = build()
    audio = dict(encoder.audio.extractor.transformer_blocks()[1].named_parameters())
    vision = dict(encoder.vision.extractor.transformer_blocks()[1].named_parameters())
    shared = {name for name in audio if name in vision and audio[name] is vision[name]}
    assert shared == {f"{layer}.{kind}" for layer in MATRICES for kind in ("weight", "bias")}
    assert {"norm1.weight", "norm2.weight"} <= (audio.keys() & vision.keys()) - shared
    assert "timeattn.qkv.weight" in vision  # which the audio extractor lacks
    apart = Model(build_recipe(extractor="ast_motionformer", preset="tiny").model)
    blocks = 2 * sum(audio[name].numel() for name in shared)
    assert count_parameters(model) == count_parameters(apart) - blocks


def test_gradients_of_both_modalities_reach_what_they_share() -> None:
    _, encoder = build()
    shapes = (encoder.io.audio.segment_shape, encoder.io.vision.segment_shape)
    segments = Segments(*(torch.randn(1, 2, *shape) for shape in shapes))
    weight = encoder.audio.extractor.transformer_blocks()[0].get_parameter("attn.qkv.weight")
    found = []
    for number in range(2):
        encoder.zero_grad()
        encoder(segments)[number].values.square().sum().backward()
        assert weight.grad is not None
        found.append(weight.grad.clone())
    encoder.zero_grad()
    sum(tokens.values.square().sum() for tokens in encoder(segments)).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(weight.grad, found[0] + found[1])
    assert all(bool(gradient.any()) for gradient in found)


@pytest.mark.parametrize(
    ("extractor", "override", "said"),
    [
        ("resnet18_s3d", "seed=1", "'resnet18' has none"),
        ("ast+s3d", "seed=1", "'s3d' has none"),
        ("ast_motionformer", "audio.depth=3", "'ast' has 3 and 'motionformer' has 2"),
        ("ast_motionformer", "audio.dim=32", "attn.qkv.weight is 96 x 32 in 'ast' and 192 x 64"),
    ],
)
def test_blocks_that_differ_are_refused(extractor: str, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_fit(recipe_of(override, extractor=extractor), (1, 2))


def test_a_folder_holds_what_is_shared_once(tmp_path: Path) -> None:
    model, encoder = build()
    save_model(tmp_path, model)
    held = load_file(tmp_path / "model.safetensors")
    assert "encoder.audio.extractor.vit.blocks.0.mlp.fc1.weight" in held
    assert "encoder.vision.extractor.blocks.0.mlp.fc1.weight" not in held
    assert read_description(tmp_path)["parameters"] == count_parameters(model)
    again = load_model(tmp_path)
    assert again.has_same_encoder(model)
    assert isinstance(again.encoder, TwoTower)
    parts = (again.encoder.audio.extractor, again.encoder.vision.extractor)
    one, other = (part.transformer_blocks()[0].get_parameter("mlp.fc1.weight") for part in parts)
    assert one is other
    moved = copy.deepcopy(encoder).to(torch.float64)
    assert moved.state_dict().keys() == encoder.state_dict().keys()


def test_only_a_pair_that_shares_nothing_is_written_as_published() -> None:
    """A folder of an earlier version does not say that it shares nothing."""
    sizes = Sizes(audio_dim=64, audio_depth=1, vision_dim=64, vision_depth=1, pixels=48)
    model = Model(build_config("avclip", sizes))
    encoder = model.config.encoder

    def with_settings(settings: dict[str, JsonValue]) -> Model:
        component = encoder.model_copy(update={"config": settings})
        model.config = model.config.model_copy(update={"encoder": component})
        return model

    earlier = {name: value for name, value in encoder.config.items() if name != "siamese"}
    assert write("avclip", with_settings(earlier))
    with pytest.raises(ModelError, match="siamese' is True, not False"):
        write("avclip", with_settings({**earlier, "siamese": True}))


def test_weights_of_separate_extractors_are_not_taken_for_shared_ones() -> None:
    _, encoder = build()
    apart = Model(build_recipe(extractor="ast_motionformer", preset="tiny").model).encoder
    with pytest.raises(RuntimeError, match="a siamese encoder has one tensor for both"):
        encoder.load_state_dict(apart.state_dict())
    state = encoder.state_dict()
    apart.load_state_dict({**apart.state_dict(), **state})  # as far as names are the same
    state["vision.extractor.blocks.0.mlp.fc1.weight"] = state[
        "audio.extractor.vit.blocks.0.mlp.fc1.weight"
    ].clone()
    encoder.load_state_dict(state)


def test_a_feature_store_is_known_by_the_weights_of_both_sides() -> None:
    """What is shared counts for either modality; the same features have the same key."""
    model, encoder = build()
    apart = Model(build_recipe(extractor="ast_motionformer", preset="tiny").model)
    for name in ("audio", "vision"):
        getattr(apart.encoder, name).load_state_dict(getattr(encoder, name).state_dict())

    def key(of: Model) -> str:
        return store_key(of, store_config(of, "float16"), [])

    before = key(model)
    assert key(apart) == before
    with torch.no_grad():
        encoder.vision.extractor.transformer_blocks()[0].get_parameter("mlp.fc1.bias").add_(1)
    assert key(model) != before


def test_starting_from_extractors_that_share_nothing_is_one_sentence(
    model_folder: Path, clips: Manifest, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = str(clips.folder / "manifest.parquet")
    given = ["--init", str(model_folder), "--set", SIAMESE, "--data", data]
    assert run(["train", *given, "--stage", "2", "--out", str(tmp_path / "run")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "encoder.siamese=true does not fit --init" in said
    assert "blocks of their own" in said


SMALL = (
    "stage1.steps=4 stage1.clips=2 stage1.num_segments=4 stage1.checkpoint_every=2 "
    "stage1.valid_clips=1 stage2.steps=4 stage2.batch=4 stage2.checkpoint_every=2 "
    "stage2.valid_every=2 stage2.valid_rounds=1"
)


def test_a_siamese_pair_trains_both_stages_and_resumes_exactly(
    clips: Manifest, tmp_path: Path
) -> None:
    recipe, data = recipe_of(*SMALL.split()), clips.folder / "manifest.parquet"
    runs = [Job(recipe, data, tmp_path / name, (1, 2)) for name in ("whole", "broken")]
    for job in runs:
        job.run.mkdir()
    with pytest.raises(KeyboardInterrupt):
        run_job(StopsEarly(tmp_path / "broken-checkpoints"), runs[1])
    for job in runs:
        run_job(LocalEngine(tmp_path / f"{job.run.name}-checkpoints"), job)
    whole, broken = (load_file(job.run / "model.safetensors") for job in runs)
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
