"""Losses that take turns, each with an optimiser of its own; a second stack of blocks for audio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from early_stop import StopsEarly
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from plugins.contrast_mae.config import ContrastMaeConfig
from plugins.contrast_mae.model import ContrastMae
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError
from zoo.models.model import Model, build_objective
from zoo.models.patches import MODALITIES, MaskableEncoder
from zoo.models.segments import Segments
from zoo.registry.manager import registry
from zoo.training.engine import LocalEngine
from zoo.training.fit import Stage, fit
from zoo.training.job import Job, run_job
from zoo.training.recipe import OptimiserConfig, Recipe
from zoo.training.recipe_builder import build_recipe
from zoo.training.rehearsal import check_fit
from zoo.training.runlog import RunLog, read_metrics

PUBLISHED = [
    "objective.alternating=true",
    "objective.audio_encoder=own",
    "objective.stop_gradient=false",
    "objective.norm_targets=false",
]
SMALL = [
    *("objective.decoder_depth=1", "encoder.depth=1", "stage1.clips=2", "stage1.num_segments=2"),
    *("stage1.steps=4", "stage1.checkpoint_every=2", "stage1.log_every=1", "stage1.valid_clips=1"),
]


def recipe_of(*overrides: str, extractor: str = "avsiam") -> Recipe:
    return build_recipe(extractor=extractor, preset="tiny", overrides=[*SMALL, *overrides])


def build(*overrides: str) -> tuple[MaskableEncoder, ContrastMae, Segments]:
    torch.manual_seed(0)
    recipe = recipe_of(*overrides)
    encoder = Model(recipe.model).encoder.train()
    objective = build_objective(recipe.objective, encoder)
    assert isinstance(encoder, MaskableEncoder)
    assert isinstance(objective, ContrastMae)
    shapes = (encoder.io.audio.segment_shape, encoder.io.vision.segment_shape)
    return encoder, objective, Segments(*(torch.randn(2, 3, *shape) for shape in shapes))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"alternating": True, "contrast_weight": 0}, "may be 0"),
        ({"audio_encoder": "own", "stop_gradient": True}, "never be trained with stop_gradient"),
        ({"audio_encoder": "own", "mae_weight": 0}, "never be trained with mae_weight=0"),
        ({"audio_encoder": "own"}, "set contrast_ratios"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        ContrastMaeConfig(**settings)


def test_an_encoder_that_shares_nothing_needs_no_second_stack() -> None:
    own = ["objective.audio_encoder=own", "objective.contrast_ratios=[0]"]
    with pytest.raises(ConfigError, match="blocks of its own already"):
        check_fit(recipe_of(*own, extractor="cavmae"), (1,))


def test_the_second_stack_begins_as_a_copy_and_learns_by_itself() -> None:
    encoder, objective, segments = build(*PUBLISHED)
    given = {m: getattr(segments, m).flatten(0, 1) for m in MODALITIES}
    keep, _ = objective.hide(encoder, given)
    with torch.no_grad():
        mine = objective.encode_kept(encoder, given, keep)["audio"]
        shared = encoder.encode_modality(
            "audio", encoder.patchify("audio", given["audio"], keep["audio"])
        )
    assert torch.equal(mine, shared)
    objective.take_turn("reconstruction", encoder, segments, lambda x: x)["loss"].backward()
    assert objective.audio_encoder is not None
    assert all(p.grad is not None for p in objective.audio_encoder.parameters())
    without = {name for name, p in encoder.named_parameters() if p.grad is None}
    assert "blocks.0.norm1_a.weight" in without  # audio no longer passes here
    assert "blocks.0.norm1_v.weight" not in without


def test_each_turn_is_one_loss_of_weight_one() -> None:
    encoder, objective, segments = build(
        "objective.alternating=true", "objective.mae_weight=3", "objective.contrast_weight=0.1"
    )

    def gather(tensor: Tensor) -> Tensor:
        return tensor

    with torch.no_grad():
        contrast = objective.take_turn("contrast", encoder, segments, gather)
        rebuilt = objective.take_turn("reconstruction", encoder, segments, gather)
    assert contrast.keys() == {"loss", "contrast_loss", "contrast_accuracy"}
    assert rebuilt.keys() == {"loss", "audio_loss", "vision_loss"}
    assert torch.equal(contrast["loss"], contrast["contrast_loss"])
    assert torch.equal(rebuilt["loss"], rebuilt["audio_loss"] + rebuilt["vision_loss"])
    chance = registry().objective("avsiam").chance(objective.config, 4, 12)
    assert chance.words == "1 ln 48 + 2 x the variance of the hidden patches = 5.87"


class TwoLosses(Stage[Any, Any]):
    """A number that two losses push up, and what the second one sees of it."""

    number, seed, num_losses = 1, 0, 2
    config = OptimiserConfig(steps=2, lr=0.1, warmup_steps=0, schedule="constant", log_every=1)

    def __init__(self) -> None:
        self.module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.module.weight)
        self.seen: list[float] = []

    def dataset(self, rank: int, world_size: int) -> Dataset[Any]:
        return TensorDataset(torch.zeros(2, 1))

    def feed(self, read: Any) -> Any:
        return read

    def loss(self, module: nn.Module, batch: Any, step: int) -> Any:
        raise AssertionError("has two")

    def losses(
        self, module: nn.Module, batch: Any, step: int
    ) -> Iterator[tuple[Tensor, Callable[[], dict[str, float]]]]:
        for name in ("first", "second"):
            loss = -self.module.weight.sum()
            self.seen.append(round(-float(loss.detach()), 4))
            yield loss, lambda name=name: {"loss": 1.0, name: 2.0}

    def validate(self) -> dict[str, float]:
        return {}


def test_the_second_loss_sees_what_the_first_step_left(tmp_path: Path) -> None:
    stage, log = TwoLosses(), RunLog(tmp_path, 0)
    fit(LocalEngine(tmp_path / "checkpoints"), stage, log, None)
    log.close()
    assert stage.seen == [0.0, 0.1, 0.2, 0.3]  # Adam's steps are as long as the rate
    first = read_metrics(tmp_path)[0]
    assert (first["loss"], first["first"], first["second"]) == (2.0, 2.0, 2.0)


def test_a_run_of_two_optimisers_that_was_interrupted_ends_as_one_that_was_not(
    clips: Manifest, tmp_path: Path
) -> None:
    recipe, data = recipe_of(*PUBLISHED), clips.folder / "manifest.parquet"
    runs = [Job(recipe, data, tmp_path / name, (1,)) for name in ("whole", "broken")]
    for job in runs:
        job.run.mkdir()
    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(KeyboardInterrupt):
        run_job(StopsEarly(checkpoints), runs[1])
    held = load_file(checkpoints / "latest" / "state.safetensors")
    moments = {
        n: {k.removeprefix(n) for k in held if k.startswith(n)}
        for n in ("optimizer.", "optimizer2.")
    }
    decoder, block = (
        "objective.decoder.mask_token|exp_avg",
        "encoder.blocks.0.attn.qkv.weight|exp_avg",
    )
    assert {decoder, block} <= moments["optimizer2."]
    assert block in moments["optimizer."]
    assert decoder not in moments["optimizer."]  # the contrast needs no decoder
    assert not torch.equal(held[f"optimizer.{block}"], held[f"optimizer2.{block}"])
    run_job(LocalEngine(checkpoints), runs[1])
    run_job(LocalEngine(tmp_path / "others"), runs[0])
    for name in ("model.safetensors", "objective.safetensors"):
        whole, broken = (load_file(job.run / "stage1" / name) for job in runs)
        assert all(torch.equal(whole[key], broken[key]) for key in whole)
    losses = [[r.get("loss") for r in read_metrics(job.run)] for job in runs]
    assert losses[0] == losses[1]
