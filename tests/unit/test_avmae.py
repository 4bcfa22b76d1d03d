"""Audiovisual MAE and MBT: what goes from one to the other, what is hidden, what is refused."""

from __future__ import annotations

import csv
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import REFERENCE
from torch import Tensor, nn

from plugins.avmae.config import AvmaeConfig, MbtConfig
from plugins.avmae.mbt import Mbt
from plugins.avmae.model import Avmae
from plugins.avmae.names import MBT, ONE_MODALITY, SEPARATE_OR_MID, TOGETHER
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.catalog.model_folder import load_model, save_model
from zoo.checkpoints.names import Names
from zoo.cli.app import run
from zoo.contracts import Frames
from zoo.errors import ConfigError
from zoo.models.model import Model, build_objective
from zoo.models.modules import initialise_linears
from zoo.models.patches import MODALITIES
from zoo.models.reconstruction import Hiding
from zoo.models.segments import Segments
from zoo.models.without_values import without_values
from zoo.testing.fakes import fake_clip_segments
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, run_job
from zoo.training.optimise import layer_factors
from zoo.training.recipe_builder import build_recipe
from zoo.training.request import TrainRequest, draft_recipe, recipe_of

SMALL: dict[str, Any] = {
    "width": 16,
    "heads": 2,
    "depth": 4,
    "vision_frontend": Frames(fps=12.5, size=32, short_side=32),
    "vision_s": 0.32,
    "audio_s": 0.32,
}
needs_tables = pytest.mark.skipif(
    not (REFERENCE / "mbt_init_map.csv").exists(),
    reason="the facts about MBT are not beside this checkout",
)


def rows(name: str) -> list[dict[str, str]]:
    with (REFERENCE / name).open(newline="") as file:
        return list(csv.DictReader(file))


def by_module(state: dict[str, Tensor], names: Names) -> dict[str, list[Tensor]]:
    """Return the tensors of every module of Flax: ``Transformer/encoderblock_0``."""
    found: dict[str, list[Tensor]] = {}
    for name, tensor in state.items():
        first, second = ("/".join(names(f"encoder.{name}")[0].split(".")[:n]) for n in (1, 2))
        found.setdefault(second if first.startswith("Transformer") else first, []).append(tensor)
    return found


@needs_tables
@pytest.mark.parametrize("which", ["av", "a", "v"])
@pytest.mark.parametrize("fusion", ["early", "shared", "separate", "mid"])
def test_an_mbt_starts_from_every_fusion(fusion: str, which: str) -> None:
    torch.manual_seed(0)
    modalities = {"av": "both", "a": "audio", "v": "vision"}[which]
    start = Avmae(AvmaeConfig(**SMALL, fusion=fusion))  # type: ignore[arg-type]
    for parameter in start.parameters():
        nn.init.normal_(parameter)
    mbt = Mbt(MbtConfig(**SMALL, fusion_layer=2, modalities=modalities))  # type: ignore[arg-type]
    before = {name: x.clone() for name, x in mbt.state_dict().items()}
    mbt.take(start)
    names = SEPARATE_OR_MID if fusion in {"separate", "mid"} else TOGETHER
    theirs = by_module(dict(start.state_dict()), names)
    own = MBT if which == "av" else ONE_MODALITY
    after, old = by_module(dict(mbt.state_dict()), own), by_module(before, own)
    checked = 0
    for row in rows("mbt_init_map.csv"):
        if (row["pretraining_encoder"], row["finetune"]) != (fusion, which):
            continue
        target, source = row["target_module"], row["source_module"]
        if target not in after:  # the head, and bottlenecks of one modality
            assert source == "(new)", target
            continue
        wanted = old[target] if source == "(new)" else theirs[source]
        assert len(after[target]) == len(wanted), target
        assert all(torch.equal(x, y) for x, y in zip(after[target], wanted, strict=True)), target
        checked += 1
    assert checked >= 6


@needs_tables
@pytest.mark.parametrize("which", ["av", "a", "v"])
def test_learning_rates_by_layer(which: str) -> None:
    modalities = {"av": "both", "a": "audio", "v": "vision"}[which]
    with without_values():
        mbt = Mbt(MbtConfig(modalities=modalities))  # type: ignore[arg-type]
    ours = [f"encoder.{name}" for name, _ in mbt.named_parameters()]
    factors = dict(zip(ours, layer_factors(ours, mbt, 0.75), strict=True))
    wanted = {
        r["module"]: float(r["lr_scale"]) for r in rows("mbt_layer_lr.csv") if r["model"] == which
    }
    names = MBT if which == "av" else ONE_MODALITY
    for name, factor in factors.items():
        theirs = names(name)[0].replace(".", "/")
        module = max((m for m in wanted if theirs.startswith(f"{m}/") or theirs == m), key=len)
        assert factor == pytest.approx(wanted[module], rel=1e-6), name


def trained_like(
    *settings: str, objective: str = "avmae", extractor: str = "avmae"
) -> tuple[Model, Any]:
    """Return a tiny model and its objective, whose decoder says something."""
    torch.manual_seed(0)
    recipe = build_recipe(
        extractor="avmae", preset="tiny", objective="avmae", overrides=list(settings)
    )
    model = Model(recipe.model.model_copy(update={"head": None})).eval()
    made = build_objective(recipe.objective, model.encoder).eval()
    initialise_linears(made)
    return model, made


def given_to(model: Model, change: str | None = None) -> Segments:
    torch.manual_seed(1)
    segments = fake_clip_segments(model.io, 2, 1)
    if change is None:
        return segments
    other = {change: torch.randn_like(getattr(segments, change))}
    return Segments(**{m: other.get(m, getattr(segments, m)) for m in MODALITIES})


@pytest.mark.parametrize(
    ("settings", "sees"),
    [
        (["encoder.fusion=separate"], False),
        (["encoder.fusion=shared"], False),
        (["encoder.fusion=separate", "objective.decoders=concat"], True),
        (["encoder.fusion=early"], True),
        (["encoder.fusion=mid"], True),
    ],
)
def test_whether_a_modality_is_rebuilt_from_the_other_one(settings: list[str], sees: bool) -> None:
    model, objective = trained_like(*settings)
    told = [
        objective.reconstruct(model.encoder, given_to(model, change), Hiding(0.5, 0.5))["audio"]
        for change in (None, "vision")
    ]
    assert torch.equal(told[0].rebuilt, told[1].rebuilt) == (not sees)


@pytest.mark.parametrize("kind", ["by_index", "by_place"])
def test_inpainting_looks_at_the_other_modality_alone(kind: str) -> None:
    model, objective = trained_like("encoder.fusion=separate", f"objective.inpainting={kind}")
    encoder, segments = model.encoder, given_to(model)
    given = objective.given(segments)
    keep, hidden = objective.hide(encoder, given, torch.Generator().manual_seed(0))
    with torch.no_grad():
        told, places = objective.rebuild(encoder, given, keep, hidden)
        changed = objective.given(given_to(model, "audio"))
        again, _ = objective.rebuild(encoder, changed, keep, hidden)
    assert torch.equal(told["audio"], again["audio"])  # audio says nothing of itself
    assert not torch.equal(told["vision"], again["vision"])
    if kind == "by_index":
        assert torch.equal(places["audio"], hidden["audio"])
    else:
        taken = keep["vision"].shape[1]
        assert places["audio"][0].tolist() == list(range(taken, encoder.grids["audio"].num_patches))


def test_a_modality_without_weight_is_not_looked_at() -> None:
    model, objective = trained_like("objective.vision_weight=0")
    losses = [
        objective.validate(model.encoder, given_to(model, change)) for change in (None, "vision")
    ]
    assert losses[0] == losses[1]
    assert set(objective.scores(losses[0])) == {"unexplained", "audio_unexplained"}
    loss = objective(model.encoder, given_to(model), lambda x: x)
    assert set(loss) == {"loss", "audio_loss"}


@pytest.mark.parametrize(
    ("settings", "hiding", "sentence"),
    [
        (["encoder.fusion=separate"], Hiding(1.0, 0.5), "never bring the modalities together"),
        (["encoder.fusion=mid"], Hiding(1.0, 1.0), "nothing to rebuild from"),
        (["objective.inpainting=by_index"], Hiding(0.5, 1.0), "from vision, so not all of it"),
    ],
)
def test_what_cannot_be_rebuilt(settings: list[str], hiding: Hiding, sentence: str) -> None:
    model, objective = trained_like(*settings)
    with pytest.raises(ConfigError, match=sentence):
        objective.reconstruct(model.encoder, given_to(model), hiding)


def test_all_of_a_modality_is_rebuilt_where_they_meet() -> None:
    model, objective = trained_like("encoder.fusion=mid")
    rebuilt = objective.reconstruct(model.encoder, given_to(model), Hiding(1.0, 0.5))
    assert rebuilt["audio"].num_hidden == rebuilt["audio"].num_patches


def test_places_that_leave_nothing_to_rebuild_are_refused() -> None:
    model, _ = trained_like()
    build = partial(trained_like, "objective.inpainting=by_place", "objective.vision_ratio=0.05")
    num = model.encoder.grids["vision"].num_patches - int(0.05 * 36)
    assert num >= model.encoder.grids["audio"].num_patches
    with pytest.raises(ConfigError, match=r"raise objective\.vision_ratio"):
        build()


@pytest.mark.parametrize(
    ("extractor", "objective", "settings"),
    [
        ("avmae", "cav", []),
        ("avmae", "cavmae", []),
        ("avmae", "avsiam", []),
        ("avmae", "segment_avclip", ["encoder.mode=apart"]),
        ("mbt", "avmae", []),
        ("cavmae", "avmae", []),
        ("avsiam", "inpainting", []),
    ],
)
def test_encoders_and_objectives_of_other_families_go_together(
    extractor: str, objective: str, settings: list[str]
) -> None:
    torch.manual_seed(0)
    recipe = build_recipe(
        extractor=extractor, objective=objective, preset="tiny", overrides=settings
    )
    model = Model(recipe.model.model_copy(update={"head": None})).train()
    made = build_objective(recipe.objective, model.encoder).train()
    segments = fake_clip_segments(model.io, 2, 8)
    made.prepare(model.encoder, segments)
    made(model.encoder, segments, lambda x: x)["loss"].backward()
    block = next(p for n, p in model.encoder.named_parameters() if n.endswith("mlp.fc1.weight"))
    assert block.grad is not None
    assert math.isfinite(sum(made.scores(made.validate(model.encoder.eval(), segments)).values()))


def test_stochastic_depth_drops_branches_of_some_clips_unscaled() -> None:
    encoder = Mbt(MbtConfig(**SMALL, fusion_layer=2, stochastic_depth=0.9))
    patches = torch.randn(64, 6, 16)
    block = encoder.blocks["audio"][3].train()  # type: ignore[index]
    torch.manual_seed(0)
    out = block(patches)
    is_kept = [torch.equal(x, y) for x, y in zip(out, patches, strict=True)]
    assert 35 < sum(is_kept) < 64  # both branches: 0.81 of the clips
    block.drop = 0.5
    out, whole = block(patches), block.eval()(patches)
    survived = [torch.allclose(x, y, atol=1e-6) for x, y in zip(out, whole, strict=True)]
    assert 5 < sum(survived) < 30  # a quarter of the clips, as large as without dropping
    assert encoder.blocks["audio"][0].drop == 0  # type: ignore[union-attr]


def test_a_run_of_mbt_starts_from_a_pretrained_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = trained_like("encoder.fusion=early", "encoder.width=32")
    save_model(tmp_path / "avmae", model)
    init = str(tmp_path / "avmae")
    request = TrainRequest(extractor="mbt", task="classification", init=(init,), stage="2")
    recipe = draft_recipe(request, 0)
    assert recipe.model.encoder.name == "mbt"
    assert recipe.model.encoder_config().width == 32  # type: ignore[attr-defined]
    mbt = Model(recipe.model.model_copy(update={"head": None}))
    mbt.encoder.take(load_model(tmp_path / "avmae").encoder)
    given = mbt.encoder.state_dict()["blocks.audio.0.attn.qkv.weight"]
    assert torch.equal(given, model.encoder.state_dict()["joint.blocks.0.attn.qkv.weight"])
    assert run(["train", "--extractor", "cavmae", "--init", init, "--data", "x", "-o", "x"]) == 2
    assert "whose encoder is 'avmae'" in " ".join(capsys.readouterr().err.split())


def test_one_modality_alone_gives_zeros_for_the_other_one() -> None:
    torch.manual_seed(0)
    recipe = build_recipe(extractor="mbt", preset="tiny", overrides=["encoder.modalities=audio"])
    model = Model(recipe.model.model_copy(update={"head": None})).eval()
    with torch.no_grad():
        audio, vision = model.encoder(given_to(model))
    assert audio.values.abs().sum() > 0
    assert vision.values.abs().sum() == 0
    assert not any("vision" in name for name, _ in model.encoder.named_parameters())
    with pytest.raises(ConfigError, match=r"no weights for vision.*head.streams=audio"):
        model.encoder.encode_alone("vision", given_to(model).vision.flatten(0, 1))


def test_a_run_pretrains_and_fine_tunes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From files to a picture of what is rebuilt, and to an MBT with the published recipe."""
    data = render_folder(
        tmp_path / "clips",
        SyntheticConfig(kind="labelled", seed=5, seconds=5.0),
        16,
        {"train": 0.5, "valid": 0.5},
        workers=1,
    )
    manifest = tmp_path / "clips" / "manifest.parquet"
    quick = ["stage1.steps=2", "stage1.valid_every=2", "stage1.clips=2", "stage1.num_segments=2"]
    recipe = build_recipe(extractor="avmae", preset="tiny", overrides=quick)
    run_job(LocalEngine(tmp_path / "c1"), Job(recipe, manifest, tmp_path / "avmae", (1,)))
    clip = str(data.clips[0].path)
    picture = tmp_path / "rebuilt.png"
    assert run(["reconstruct", str(tmp_path / "avmae"), clip, "-o", str(picture)]) == 0
    assert picture.stat().st_size > 1000
    short = ["stage2.steps=2", "stage2.warmup_steps=1", "stage2.batch=2", "stage2.valid_every=2"]
    request = TrainRequest(
        extractor="mbt",
        recipe="vggsound",
        preset="tiny",
        init=(str(tmp_path / "avmae"),),
        data=str(manifest),
        set={key: float(value) for key, value in (s.split("=") for s in short)},
    )
    tuned = recipe_of(request, 0)
    start = tmp_path / "avmae"
    assert request.stages(tuned) == (2,)
    run_job(LocalEngine(tmp_path / "c2"), Job(tuned, manifest, tmp_path / "mbt", (2,), start))
    report = tmp_path / "report"
    words = ["--data", str(manifest), "--split", "valid", "--views", "2", "-o", str(report)]
    assert run(["evaluate", str(tmp_path / "mbt"), *words]) == 0
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extractor", "setting", "sentence"),
    [
        ("avmae", "joint_layers=99", "joint_layers=99 is more than there are blocks: depth=3"),
        ("mbt", "fusion_layer=99", "fusion_layer=99 is more than there are blocks: depth=3"),
    ],
)
def test_more_blocks_than_there_are(extractor: str, setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_recipe(extractor=extractor, preset="tiny", overrides=[f"encoder.{setting}"])
