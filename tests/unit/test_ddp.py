"""Two workers get the gradients that one gets from the same global batch."""

from __future__ import annotations

import socket
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from zoo.models.model import Model, build_objective
from zoo.models.patches import PatchGrid
from zoo.models.segments import Segments, Tokens
from zoo.training.engine import mean_over_workers, sum_over_workers, unwrap
from zoo.training.pretraining import EncoderWithObjective
from zoo.training.recipe import Recipe
from zoo.training.recipe_builder import build_recipe

WORKERS, TOLERANCE = 2, 1e-5
HEADS = ("correlation", "sync")
CLIPS, SEGMENTS = 4, 2
SMALL = ("encoder.depth=1", "encoder.audio_change_gain=null", "encoder.vision_change_gain=null")
RATIOS = "objective.contrast_ratios=[0.2,0.6]"
OBJECTIVES = {
    "cav": ("cavmae", "cav"),
    "cav_ratios": ("cavmae", "cav", RATIOS),
    "cavmae": ("cavmae", "cavmae"),
    "cavmae_ratios": ("cavmae", "cavmae", RATIOS),
    "avsiam": ("avsiam", "avsiam", RATIOS),
    "avsiam_turns": (
        *("avsiam", "avsiam", RATIOS, "objective.alternating=true", "objective.audio_encoder=own"),
        "objective.stop_gradient=false",
    ),
}
"""Encoder, objective and settings."""


def recipe_of(head: str) -> Recipe:
    return build_recipe(extractor="ast_motionformer", head=head, preset="tiny")


def build(head: str) -> Model:
    torch.manual_seed(3)
    return Model(recipe_of(head).model).eval()  # no dropout


def gradients_of(module: nn.Module) -> dict[str, Tensor]:
    named = unwrap(module).named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def wrap(module: nn.Module) -> nn.Module:
    if not dist.is_initialized():
        return module
    skips = any(getattr(part, "may_skip_parameters", False) for part in module.modules())
    return DistributedDataParallel(module, find_unused_parameters=skips)


def share(tensor: Tensor) -> Tensor:
    return tensor.chunk(WORKERS)[dist.get_rank()] if dist.is_initialized() else tensor


def stage1_gradients() -> dict[str, Tensor]:
    model = build("correlation")
    assert model.config.objective is not None
    objective = build_objective(model.config.objective, model.encoder)
    stage = wrap(EncoderWithObjective(model.encoder, objective))
    shapes = (model.io.audio.segment_shape, model.io.vision.segment_shape)
    torch.manual_seed(4)
    mel, frames = (torch.randn(4, 3, *shape) for shape in shapes)
    stage(Segments(share(mel), share(frames)))["loss"].backward()
    return gradients_of(stage)


def stage2_gradients(head: str) -> dict[str, Tensor]:
    model = build(head)
    assert model.head is not None
    module = wrap(model.head)
    num = model.config.layout.num_segments
    torch.manual_seed(5)
    audio, vision = (
        Tokens(share(torch.randn(8, num, t.steps, t.positions, t.dim)), t.times_s)
        for t in (model.io.audio.tokens, model.io.vision.tokens)
    )
    targets = torch.arange(8) * 2
    cross_entropy(module(audio, vision), share(targets)).backward()
    return gradients_of(module)


def same_patches(num: int, grid: PatchGrid, *_: object) -> Tensor:
    """Return noise by which every clip keeps the same patches, on whichever worker it is."""
    return torch.linspace(1, 0, grid.num_patches).expand(num, -1)


def order_of(num: int, generator: object = None) -> Tensor:
    """Return the order in which a batch is divided among mask ratios: on each worker by halves."""
    del generator
    if dist.is_initialized():
        return torch.arange(num)
    return torch.arange(num).view(WORKERS, 2, -1).transpose(0, 1).flatten()


def objective_gradients(extractor: str, objective: str, *overrides: str) -> dict[str, Tensor]:
    """Return loss and gradients of stage I for the objectives that hide patches, of every turn."""
    recipe = build_recipe(
        extractor=extractor,
        objective=objective,
        preset="tiny",
        overrides=[*SMALL, "objective.decoder_depth=1", *overrides],
    )
    torch.manual_seed(6)
    model = Model(recipe.model).eval()
    objective = build_objective(recipe.objective, model.encoder)
    stage = wrap(EncoderWithObjective(model.encoder, objective))
    shapes = (model.io.audio.segment_shape, model.io.vision.segment_shape)
    segments = Segments(*(share(torch.randn(CLIPS, SEGMENTS, *shape)) for shape in shapes))
    found: dict[str, Tensor] = {}
    for turn in unwrap(stage).objective.turns or ("",):
        stage.zero_grad()
        scalars = stage(segments, turn)
        scalars["loss"].backward()
        found |= {f"{turn}.{name}": value for name, value in gradients_of(stage).items()}
        for name, value in scalars.items():
            mean = mean_over_workers({name: float(value.detach())}, value.device)[name]
            found[f"{turn}.scalar.{name}"] = torch.tensor(mean)
    return found


def all_gradients() -> dict[str, Tensor]:
    found = {f"stage1.{name}": value for name, value in stage1_gradients().items()}
    with (
        mock.patch("plugins.contrast_mae.model.masking_noise", same_patches),
        mock.patch("torch.randperm", order_of),
    ):
        for part, given in OBJECTIVES.items():
            gradients = objective_gradients(*given)
            found |= {f"{part}.{name}": value for name, value in gradients.items()}
    for head in HEADS:
        found |= {f"{head}.{name}": value for name, value in stage2_gradients(head).items()}
    return found


def worker(rank: int, port: int, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORKERS
    )
    found = all_gradients()
    found["sum"] = torch.tensor(sum_over_workers([1.0, float(rank)], torch.device("cpu")))
    if rank == 0:
        save_file(found, out)
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of one process and of two."""
    out = tmp_path_factory.mktemp("ddp") / "gradients.safetensors"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(worker, (port, out), nprocs=WORKERS)
    return all_gradients(), load_file(out)


@pytest.mark.parametrize("part", ["stage1", *HEADS, *OBJECTIVES])
def test_two_workers_get_the_gradients_of_one(
    both: tuple[dict[str, Tensor], dict[str, Tensor]], part: str
) -> None:
    one, two = ({k: v for k, v in found.items() if k.startswith(part + ".")} for found in both)
    assert one.keys() == two.keys()
    assert max(float(gradient.abs().max()) for gradient in one.values()) > 100 * TOLERANCE
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-4, atol=TOLERANCE, msg=name)


def test_numbers_are_added_up_over_workers(
    both: tuple[dict[str, Tensor], dict[str, Tensor]],
) -> None:
    assert both[1]["sum"].tolist() == [2.0, 1.0]
