"""What does a pre-training step of CAV-MAE and AVSiam cost, against the published way?

    python benchmarks/pretraining.py [--clips 5] [--threads 1] [--device cuda]

A step is forward, backward and optimiser, at the paper's size: of `cavmae`, of `avsiam` and of an
audio-visual MAE whose encoder sees all patches.  The published way computes the same losses from
the same weights and masks, which is checked before anything is timed.  AVSiam as published takes
two steps per batch, one per loss; its `source` has a second encoder for audio and sends gradients
of the reconstruction back to both.  Five clips are the fewest of which every mask ratio has one.
On a GPU the published way is also timed in bf16, as its source uses half precision.  Needs 13 GB
of memory with two clips, more with five, and writes its result at the end only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import results
from benchmarks.common.timing import Work, clock_of, interleave, prepare_device, ratio, seconds
from benchmarks.extractor import ceiling_flops
from benchmarks.reference.masked import avsiam_contrast, avsiam_rebuild, cavmae_loss
from zoo.contracts import Precision
from zoo.models.device import autocast
from zoo.models.model import Model, build_objective
from zoo.models.modules import Encoder, Objective
from zoo.models.patches import MODALITIES
from zoo.models.segments import Segments
from zoo.training.optimise import build_optimizer, take_step
from zoo.training.recipe import Recipe
from zoo.training.recipe_builder import build_recipe

CPU = torch.device("cpu")
TOLERANCE = 1e-4
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
ATTENTION = "attention"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
COMPARED = (
    *((f"{n}_published", f"{n}_{p}") for n in ("cavmae", "avsiam") for p in PRECISIONS),
    *(("avsiam_source", f"avsiam_{p}") for p in PRECISIONS),
    ("avsiam_fp32", "beside_cavmae"),
    ("beside_full", "beside_cavmae"),
    ("beside_full", "avsiam_fp32"),
    *((f"{n}_published_bf16", f"{n}_bf16") for n in ("cavmae", "avsiam")),
)
Losses = Sequence[Callable[[], Tensor]]


@dataclass
class Setting:
    """An encoder with its objective, and a batch."""

    recipe: Recipe
    encoder: Any
    objective: Any
    segments: Segments
    device: torch.device

    @cached_property
    def optimizer(self) -> optim.Optimizer:
        return build_optimizer(self.trained, self.recipe.stage1)

    @cached_property
    def trained(self) -> nn.ModuleList:
        return nn.ModuleList([self.encoder, self.objective])

    def loss(self, precision: Precision = "fp32") -> Tensor:
        with autocast(self.device, precision):
            return self.objective(self.encoder, self.segments, lambda tensor: tensor)["loss"]


def main() -> None:
    parser = results.parser(__doc__, "pretraining", rounds=3, on_gpu=True)
    parser.add_argument("--clips", type=int, default=5, help="of a batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="changes of the paper's settings")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = prepare_device(options.device)
    results.write(options.out, device, measure(options, device))


def measure(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Time the steps of CAV-MAE in turn, then all others beside it; memory holds no more."""
    cavmae, rounds, clock = prepare("cavmae", options, device), options.rounds, clock_of(device)
    ceiling = ceiling_flops(device, rounds)
    apart = interleave(optimisers(cavmae), rounds, clock)
    works = ways("cavmae", cavmae)
    times, parts = (
        interleave(works, rounds, clock),
        {n: shares(w, device) for n, w in works.items()},
    )
    works.clear()
    avsiam, full = prepare("avsiam", options, device), unmasked(cavmae)
    full.optimizer = cavmae.optimizer  # of the same parameters
    works = {
        **ways("avsiam", avsiam),
        "avsiam_source": source(avsiam),
        "beside_cavmae": ours(cavmae, "fp32"),
        "beside_full": ours(full, "fp32"),
    }
    times |= interleave(works, rounds, clock)
    parts |= {name: shares(work, device) for name, work in works.items()}
    settings = {"cavmae": cavmae, "avsiam": avsiam, "full": full}
    return {
        "clips": options.clips,
        "ceiling_flops": ceiling,
        "flops": {name: operations(setting) for name, setting in settings.items()},
        "seconds": seconds(times),
        "optimiser_seconds": seconds(apart),
        "shares": parts,
        "ratios": {
            f"{slow} : {fast}": ratio(times, slow, fast) for slow, fast in COMPARED if slow in times
        },
    }


def ways(name: str, setting: Setting) -> dict[str, Work]:
    """Return a step as published and ours; on a GPU also as published, in bf16."""
    losses = LOSSES[name](setting)
    works = {f"{name}_published": published(setting, losses)}
    if setting.device.type == "cuda":
        works[f"{name}_published_bf16"] = published(setting, losses, precision="bf16")
    return works | {f"{name}_{precision}": ours(setting, precision) for precision in PRECISIONS}


def prepare(name: str, options: argparse.Namespace, device: torch.device = CPU) -> Setting:
    """Build an encoder and its objective, and check both ways to compute the losses."""
    torch.manual_seed(0)
    recipe = build_recipe(extractor=name, preset="paper", objective=name, overrides=options.set)
    model = Model(recipe.model.model_copy(update={"head": None})).to(device)
    encoder: Encoder = model.encoder
    objective: Objective = build_objective(recipe.objective, encoder).to(device)
    given = (
        torch.randn(options.clips, 1, *part.segment_shape).to(device)
        for part in (model.io.audio, model.io.vision)
    )
    setting = Setting(recipe, encoder.train(), objective.train(), Segments(*given), device)
    check(setting, LOSSES[name](setting))
    return setting


def cavmae_losses(setting: Setting) -> Losses:
    return [lambda: cavmae_loss(setting.encoder, setting.objective, setting.segments)]


def avsiam_losses(setting: Setting, second: Any = None) -> Losses:
    given = setting.encoder, setting.objective, setting.segments
    return [lambda: avsiam_rebuild(*given, second), lambda: avsiam_contrast(*given)]


LOSSES: dict[str, Callable[[Setting], Losses]] = {
    "cavmae": cavmae_losses,
    "avsiam": avsiam_losses,
}


def check(setting: Setting, losses: Losses) -> None:
    """Refuse to compare what does not compute the same."""
    with torch.no_grad():
        torch.manual_seed(1)
        expected = float(setting.loss())
        torch.manual_seed(1)
        found = sum(float(loss()) for loss in losses)
    if abs(found - expected) > TOLERANCE:
        raise SystemExit(f"the published way gives a loss of {found}, ours {expected}")


def ours(setting: Setting, precision: Precision) -> Work:
    given = setting.trained, setting.optimizer
    return lambda: take_step(*given, setting.loss(precision), 0, setting.recipe.stage1)


def published(
    setting: Setting,
    losses: Losses,
    second: nn.Module | None = None,
    precision: Precision = "fp32",
) -> Work:
    """Return a step per loss, with Adam as PyTorch builds it by default.

    Two losses have an Adam each; here they share one, which takes as long and less memory.
    """
    trained = [*setting.trained.parameters(), *(second.parameters() if second else [])]
    optimizer = adam([p for p in trained if p.requires_grad], setting)

    def step() -> None:
        for loss in losses:
            with autocast(setting.device, precision):
                value = loss()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

    return step


def source(setting: Setting) -> Work:
    second = deepcopy(setting.encoder)
    losses = avsiam_losses(setting, second)
    check(setting, losses)
    return published(setting, losses, second)


def adam(parameters: list[Tensor], setting: Setting) -> optim.Adam:
    config = setting.recipe.stage1
    return optim.Adam(
        parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
    )


def unmasked(setting: Setting) -> Setting:
    """Return the same with an encoder that sees all patches; the decoder rebuilds as many."""
    objective = copy(setting.objective)  # of the same weights
    hide = setting.objective.hide

    def keep_all(encoder: Any, given: Any, generator: Any = None) -> Any:
        keep, hidden = hide(encoder, given, generator)
        return {m: torch.cat([keep[m], hidden[m]], dim=1) for m in MODALITIES}, hidden

    objective.hide = keep_all
    return replace(setting, objective=objective)


def optimisers(setting: Setting) -> dict[str, Work]:
    """Return the optimisers alone, whose work does not grow with the batch."""
    setting.loss().backward()
    config, trained = setting.recipe.stage1, list(setting.trained.parameters())
    given = [p for p in trained if p.grad is not None]
    plain = adam(given, setting)

    def ours() -> None:
        nn.utils.clip_grad_norm_(given, config.clip_norm)
        setting.optimizer.step()

    return {"published": plain.step, "fp32": ours}


def operations(setting: Setting) -> int:
    """Count the operations of a step; plain attention, as in bf16, is what PyTorch can count."""
    with FlopCounterMode(display=False) as counter:
        setting.loss("bf16").backward()
    return int(counter.get_total_flops())


def shares(work: Work, device: torch.device) -> dict[str, float]:
    """Say which share of a step goes into products of matrices, and into fused attention."""
    activities = [ProfilerActivity.CPU]
    if is_on_gpu := device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as found:
        work()
    kind = "self_device_time_total" if is_on_gpu else "self_cpu_time_total"
    # Kernels are listed beside the operations that started them.
    events = [event for event in found.key_averages() if event.device_type == DeviceType.CPU]
    own = {event.key: getattr(event, kind) for event in events}
    total = sum(own.values())
    attention = sum(value for key, value in own.items() if ATTENTION in key)
    products = sum(own.get(key, 0) for key in PRODUCTS)
    return {
        "products": round(products / total, 3),
        "fused_attention": round(attention / total, 3),
    }


if __name__ == "__main__":
    main()
