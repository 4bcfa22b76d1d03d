"""The baselines: SparseSync and AVST, their sizes, published layouts, and training end to end."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
import yaml
from early_stop import StopsEarly
from golden import REFERENCE, fake_checkpoint, needs_golden
from safetensors.torch import load_file
from served import serve
from torch import Tensor

from plugins.s3d.config import S3dConfig
from plugins.s3d.model import S3d
from plugins.sparsesync.layout import Sizes, build_config, write
from plugins.sparsesync.model import Positions, audio_positions, vision_positions
from plugins.sparsesync.names import Kind, names
from zoo.catalog.convert import convert_checkpoint, export_checkpoint
from zoo.catalog.entries import read_catalog, read_description, resolve, user_catalog
from zoo.catalog.model_folder import load_model
from zoo.checkpoints.layouts import build_around
from zoo.cli.app import run
from zoo.contracts import FeatureMap
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, ModelError
from zoo.evaluation.evaluation_request import Request, choose_features
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.models.model import Model, count_parameters
from zoo.models.segments import Tokens
from zoo.registry.manager import registry
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, run_job
from zoo.training.overrides import override
from zoo.training.recipe import Recipe
from zoo.training.recipe_builder import build_recipe
from zoo.training.runlog import read_metrics

KINDS: tuple[Kind, ...] = ("sparsesync", "avst")
SMALL = Sizes(dim=64, vision_width=16, pixels=64, depth=2, selectors=4, selector_depth=1)
QUICK = (
    "stage2.steps=3 stage2.batch=2 stage2.checkpoint_every=1 stage2.log_every=1 "
    "stage2.valid_every=2 stage2.valid_rounds=1 vision.width=4 vision.bridge=16 audio.width=4 "
    "vision.frontend.size=32 vision.frontend.short_side=32 head.dim=16"
)


def quick(head: str, *more: str) -> Recipe:
    recipe = build_recipe(extractor="sparsesync", head=head, preset="tiny")
    return override(recipe, [*QUICK.split(), *more])


@pytest.fixture(scope="module")
def trained(clips: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps, interrupted nowhere."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(quick("sparse_selector"), clips, run)
    return run


def train(recipe: Recipe, clips: Manifest, run: Path, **job: Any) -> None:
    run.mkdir(exist_ok=True)
    data = clips.folder / "manifest.parquet"
    run_job(LocalEngine(run / "checkpoints"), Job(recipe, data, run, (2,), **job))


def inventory(kind: Kind) -> list[dict[str, str]]:
    with (REFERENCE / f"{kind}_keys.csv").open() as file:
        return list(csv.DictReader(file))


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == tensor.dtype and torch.equal(ours[name], tensor)
        for name, tensor in theirs.items()
    )


# --- sizes ---


@pytest.mark.parametrize(("head", "num"), [("sparse_selector", 54_348_652), ("avst", 29_089_644)])
def test_published_models_have_the_published_number_of_parameters(head: str, num: int) -> None:
    recipe = build_recipe(extractor="sparsesync", head=head, preset="paper")
    with torch.device("meta"):
        model = Model(recipe.model)
    assert count_parameters(model) == num
    assert (model.io.audio.tokens.steps, model.io.audio.tokens.positions) == (20, 9)
    assert (model.io.vision.tokens.steps, model.io.vision.tokens.positions) == (16, 49)
    assert recipe.stage2.encoder == "trained"
    assert recipe.data.features == "online"


def test_a_whole_crop_gives_the_published_feature_maps() -> None:
    config = S3dConfig(segment_s=5.0, bridge=24, width=4, frontend={"size": 224, "short_side": 256})
    with torch.device("meta"):
        features = S3d(config)(torch.empty(2, 3, 125, 224, 224))
    assert features.shape == (2, 16, 49, 24)
    times_s = config.feature_map().times_s
    assert (times_s[0], times_s[-1]) == (0.08, 4.88)
    audio = registry().extractor("resnet18_spectrogram")
    with torch.device("meta"):
        features = audio.build(audio.presets["paper"])(torch.empty(2, 257, 626))
    assert features.shape == (2, 20, 9, 512)


# --- positions ---


def test_positions_of_axes_lie_side_by_side() -> None:
    positions = Positions((2, 3), {"frequency": (1, 2), "time": (0, 4)})
    table = positions().view(2, 3, 6)
    for step in range(2):
        for band in range(3):
            assert torch.equal(table[step, band, :2], positions.tables["frequency"][band])
            assert torch.equal(table[step, band, 2:], positions.tables["time"][step])


def test_video_positions_are_time_then_column_then_row() -> None:
    tokens = FeatureMap(times_s=(0.1, 0.2), positions=4, dim=8)
    positions = vision_positions(tokens, 3, 512)
    assert {k: tuple(v.shape) for k, v in positions.tables.items()} == {
        "time": (6, 172),
        "width": (2, 170),
        "height": (2, 170),
    }
    table = positions().view(6, 2, 2, 512)  # (time, row, column, D)
    assert torch.equal(table[0, 0, 1, :172], table[0, 1, 0, :172])
    assert torch.equal(table[0, 0, 1, 172:342], table[5, 1, 1, 172:342])
    assert torch.equal(table[0, 1, 0, 342:], table[5, 1, 1, 342:])


def test_tokens_without_places_have_positions_in_time_only() -> None:
    tokens = FeatureMap(times_s=(0.1, 0.2), positions=1, dim=8)
    for made in (vision_positions(tokens, 14, 64), audio_positions(tokens, 14, 64)):
        assert made().shape == (28, 64)
        assert list(made.tables) == ["time"]


@pytest.mark.parametrize("head", ["sparse_selector", "avst"])
def test_the_heads_take_tokens_of_segments_too(head: str) -> None:
    recipe = build_recipe(extractor="ast_motionformer", head=head, preset="tiny")
    assert recipe.stage2.encoder == "frozen"
    model = Model(recipe.model).eval()
    assert model.answer(*random_tokens(model, 2, 14)).shape == (2, 21)


def random_tokens(model: Model, batch: int, num_segments: int) -> list[Tokens]:
    """Return tokens as the encoder gives them; gradients reach them."""
    return [
        Tokens(
            torch.randn(batch, num_segments, t.steps, t.positions, t.dim, requires_grad=True),
            t.times_s,
        )
        for t in (model.io.audio.tokens, model.io.vision.tokens)
    ]


def test_other_heads_refuse_tokens_of_many_places() -> None:
    recipe = build_recipe(extractor="sparsesync", head="sync", preset="tiny")
    with torch.device("meta"), pytest.raises(ConfigError, match="one token per time step"):
        Model(recipe.model)


@pytest.mark.parametrize("head", ["sparse_selector", "avst"])
def test_every_token_reaches_the_answer(head: str) -> None:
    torch.manual_seed(0)
    model = Model(quick(head).model).eval()
    tokens = random_tokens(model, 1, 1)
    model.answer(*tokens).logsumexp(1).sum().backward()
    for part in tokens:
        assert part.values.grad is not None
        assert bool(part.values.grad.abs().sum(4).all())


# --- published layouts ---


@needs_golden
@pytest.mark.parametrize("kind", KINDS)
def test_every_published_tensor_has_its_place_and_shape(kind: Kind) -> None:
    with torch.device("meta"):
        state = Model(build_config(kind, Sizes())).state_dict()
    ours: dict[str, tuple[int, ...]] = {}
    for name, tensor in state.items():
        theirs = names(kind, name)
        first, *rest = tensor.shape or (None,)
        for their in theirs:
            ours[their] = () if first is None else (first // len(theirs), *rest)
    scalar = "scalar"
    assert ours == {
        row["key"]: ()
        if row["shape"] == scalar
        else tuple(int(side) for side in row["shape"].split("x"))
        for row in inventory(kind)
    }


@needs_golden
@pytest.mark.parametrize("kind", KINDS)
def test_published_weights_come_back_bit_for_bit(kind: Kind) -> None:
    theirs = fake_checkpoint(f"{kind}_keys.csv")
    assert [f.name for f in registry().formats.values() if f.recognises(theirs)] == [kind]
    spec = registry().format(kind)
    config, state = spec.read(theirs)
    assert config == build_config(kind, Sizes())
    back = spec.write(build_around(config, state))["model"]
    assert same(back, theirs)
    assert back["vfeat_extractor.base.0.bn_s.num_batches_tracked"].dtype == torch.int64


def stand_in(kind: Kind) -> Model:
    torch.manual_seed(0)
    model = Model(build_config(kind, SMALL))
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_model_answers_as_the_one_it_was_written_from(
    tmp_path: Path, kind: Kind
) -> None:
    model = stand_in(kind)
    theirs = write(kind, model)["model"]
    wrapped = {f"module.{name}": tensor for name, tensor in theirs.items()}
    torch.save({"epoch": 3, "args": None, "model": wrapped}, tmp_path / "a.pt")
    assert convert_checkpoint(tmp_path / "a.pt", tmp_path / "model") == kind
    assert read_description(tmp_path / "model")["converted_from"]["format"] == kind
    again = load_model(tmp_path / "model").eval()
    audio, vision = torch.randn(1, 1, 257, 626), torch.randn(1, 1, 3, 125, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(audio, vision), model(audio, vision))
    assert export_checkpoint(tmp_path / "model", tmp_path / "back.pt") == kind
    assert same(torch.load(tmp_path / "back.pt", weights_only=True)["model"], theirs)


def drop(state: dict[str, Tensor]) -> None:
    del state["transformer.off_head.weight"]


def reshape(state: dict[str, Tensor]) -> None:
    state["vfeat_extractor.base.0.conv_s.weight"] = torch.ones(16, 3, 1, 7, 5)


def count(state: dict[str, Tensor]) -> None:
    state["afeat_extractor.bn1.num_batches_tracked"] = torch.tensor(1.0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (drop, "it lacks the tensor 'transformer.off_head.weight'"),
        (reshape, "'vfeat_extractor.base.0.conv_s.weight' is 16 x 3 x 1 x 7 x 5 and should be 16"),
        (count, "'afeat_extractor.bn1.num_batches_tracked' is float32 and should be int64"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(change: Any, sentence: str) -> None:
    theirs = write("sparsesync", stand_in("sparsesync"))["model"]
    change(theirs)
    with pytest.raises(ModelError, match=sentence):
        registry().format("sparsesync").read(theirs)


def test_only_what_computes_the_same_is_written() -> None:
    config = build_config("sparsesync", SMALL)
    config.encoder.config["vision"]["extractor"]["config"]["motion_gain"] = 2.0
    with pytest.raises(ModelError, match=r"motion_gain' is 2\.0, not None"):
        write("sparsesync", Model(config))
    with pytest.raises(ModelError, match="its head is 'sparse_selector', not 'avst'"):
        write("avst", stand_in("sparsesync"))


def test_the_catalog_knows_the_published_models() -> None:
    found = {k: entry for k, (entry, _) in read_catalog().items() if k.startswith("sparsesync-")}
    assert len(found) == 4
    for entry in found.values():
        assert entry.download is not None
        assert entry.download.format == "sparsesync"
        assert len(entry.download.md5) == 7


def test_a_published_model_is_pulled_and_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(write("sparsesync", stand_in("sparsesync")), tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    entry, _ = read_catalog()["sparsesync-lrs3"]
    assert entry.download is not None
    download = entry.download.model_copy(update={"md5": hashlib.md5(content).hexdigest()[:7]})
    mine = entry.model_copy(update={"download": download}).model_dump(exclude_defaults=True)
    user_catalog().parent.mkdir(parents=True, exist_ok=True)
    user_catalog().write_text(yaml.safe_dump({"models": {"sparsesync-lrs3": mine}}))
    with serve({urlsplit(entry.download.url).path: content}) as server:
        monkeypatch.setenv("ZOO_MIRROR", server.address)
        assert run(["pull", "sparsesync-lrs3"]) == 0
    assert load_model(resolve("sparsesync-lrs3")).config == build_config("sparsesync", SMALL)


def test_a_bridge_starts_fresh_on_published_weights() -> None:
    (layout,) = registry().extractor("s3d_crop").formats
    config = S3dConfig(width=4, segment_s=5.0, bridge=8)
    theirs = S3d(config.model_copy(update={"bridge": None})).state_dict()
    read = layout.read(theirs, config, "prefix")
    S3d(config).load_state_dict(read)
    assert {k for k in read if k not in theirs} == {"bridge.0.weight", "bridge.0.bias"}


# --- training end to end ---


def test_the_encoder_is_trained_along_with_the_head(clips: Manifest, trained: Path) -> None:
    torch.manual_seed(quick("sparse_selector").seed)
    before = Model(quick("sparse_selector").model).state_dict()
    after = load_file(trained / "model.safetensors")
    assert before.keys() == after.keys()
    assert [name for name, tensor in before.items() if torch.equal(tensor, after[name])] == []
    assert {r["stage"] for r in read_metrics(trained)} == {2}


def test_counters_of_batch_norms_are_those_of_the_best_validation(trained: Path) -> None:
    after = load_file(trained / "model.safetensors")
    assert int(after["encoder.vision.extractor.features.2.1.num_batches_tracked"]) in {2, 3}
    assert not torch.equal(
        after["encoder.audio.extractor.resnet.bn1.running_mean"],
        torch.zeros_like(after["encoder.audio.extractor.resnet.bn1.running_mean"]),
    )


def test_an_interrupted_run_ends_where_the_whole_one_does(
    clips: Manifest, trained: Path, tmp_path: Path
) -> None:
    recipe, run = quick("sparse_selector"), tmp_path / "broken"
    run.mkdir()
    job = Job(recipe, clips.folder / "manifest.parquet", run, (2,))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_job(StopsEarly(run / "checkpoints"), job)
    train(recipe, clips, run)
    whole, broken = (load_file(folder / "model.safetensors") for folder in (trained, run))
    assert same(whole, broken)
    losses = [
        [(r["step"], r["kind"], r.get("loss"), r.get("accuracy")) for r in read_metrics(folder)]
        for folder in (trained, run)
    ]
    assert losses[0] == losses[1]


def test_a_run_may_start_from_the_encoder_of_another(
    clips: Manifest, trained: Path, tmp_path: Path
) -> None:
    train(quick("avst", "stage2.steps=1", "stage2.lr=1e-9"), clips, tmp_path, init=trained)
    start, ours = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path))
    weight = "encoder.vision.extractor.features.0.0.0.weight"
    assert torch.allclose(ours[weight], start[weight], atol=1e-6)
    assert any(name.startswith("head.transformer.blocks") for name in ours)


def test_features_of_an_encoder_in_training_cannot_come_from_a_store() -> None:
    with pytest.raises(ConfigError, match="cannot come from a store: add features online"):
        quick("avst", "data.features=store")


# --- at work ---


def test_crops_of_one_segment_are_evaluated_online(trained: Path, model: Model) -> None:
    request = Request(model=str(trained), data=Path("m.parquet"))
    assert choose_features(request, [load_model(trained)], False) == "online"
    assert choose_features(request, [model], False) == "store"


def test_a_clip_is_looked_at_a_few_crops_at_a_time(
    clips: Manifest, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = OffsetPredictor(load_model(trained), "small")
    whole = predictor.predict(clips.clips[0].path)
    assert [w.start_s for w in whole.windows] == [round(0.2 * i, 6) for i in range(21)]
    monkeypatch.setattr("zoo.data.frontend.MOST_NUMBERS", 3 * 3 * 125 * 32 * 32)
    assert predictor.predict(clips.clips[0].path).distribution == pytest.approx(whole.distribution)
