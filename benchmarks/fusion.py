"""What does hiding patches save, what does a second modality cost, and what do bottlenecks save?

    python benchmarks/fusion.py [--clips 1] [--threads 1] [--device cuda]

A step is forward, backward and optimiser, at the paper's base size.  Pre-training of Audiovisual
MAE: as published (90 % of the video hidden), with an encoder that sees all patches, of audio alone
and of video alone (table A12 of the supplement).  Fine-tuning: MBT, and one transformer that
attends to all tokens of both modalities.  Memory is the most that a process of its own held for
a step, less what it held before.  On a GPU everything is in bf16, as training is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import results
from benchmarks.common.predict_once import peak_bytes
from benchmarks.common.timing import Work, clock_of, interleave, prepare_device, ratio, seconds
from zoo.models.device import autocast
from zoo.models.model import Model, build_objective
from zoo.models.segments import Segments
from zoo.training.mixing import mean_loss
from zoo.training.optimise import build_optimizer, take_step
from zoo.training.recipe_builder import build_recipe

CLASSES = 309
Loss = Callable[[], torch.Tensor]
PRETRAINED = {
    "masked": [],
    "everything": [],
    "audio": ["objective.vision_weight=0"],
    "video": ["objective.audio_weight=0"],
}
DENSE = ["encoder.vision_frontend.fps=12.5", "encoder.fusion=early"]
TUNED = {"mbt": ("mbt", []), "full": ("avmae", DENSE)}
COMPARED = (("everything", "masked"), ("audio_and_video", "masked"), ("full", "mbt"))


def main() -> None:
    parser = results.parser(__doc__, "fusion", rounds=3, on_gpu=True)
    parser.add_argument("--clips", type=int, default=1, help="of a batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", help="take one step of this and print its memory, bytes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = prepare_device(options.device)
    if options.one:
        work = step_of(options.one, options.clips, device)
        before = most_bytes(device)
        work()
        print(json.dumps({"weights": before, "step": most_bytes(device) - before}))
        return
    results.write(options.out, device, measure(options, device))


def most_bytes(device: torch.device) -> int:
    return peak_bytes() if device.type == "cpu" else torch.cuda.max_memory_allocated(device)


def measure(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Time the steps of pre-training in turn, then those of fine-tuning; memory holds no more."""
    times: dict[str, list[float]] = {}
    flops: dict[str, int] = {}
    for group in (PRETRAINED, TUNED):
        works = {name: step_of(name, options.clips, device) for name in group}
        flops |= {name: operations(name, options.clips, device) for name in group}
        times |= interleave(works, options.rounds, clock_of(device))
        works.clear()
    times["audio_and_video"] = [a + v for a, v in zip(times["audio"], times["video"], strict=True)]
    return {
        "clips": options.clips,
        "seconds": seconds(times),
        "flops": flops,
        "memory_bytes": {name: memory(name, options) for name in (*PRETRAINED, *TUNED)},
        "ratios": {f"{slow} : {fast}": ratio(times, slow, fast) for slow, fast in COMPARED},
    }


def step_of(name: str, clips: int, device: torch.device) -> Work:
    """Return a step of pre-training or of fine-tuning."""
    trained, loss, config = built(name, clips, device)
    optimizer = build_optimizer(trained, config)
    return lambda: take_step(trained, optimizer, loss(), 0, config)


def built(name: str, clips: int, device: torch.device) -> tuple[nn.Module, Loss, Any]:
    torch.manual_seed(0)
    make = pretraining if name in PRETRAINED else fine_tuning
    trained, loss, config = make(name, clips, device)
    precision = "bf16" if device.type == "cuda" else "fp32"

    def compute() -> torch.Tensor:
        with autocast(device, precision):
            return loss()

    return trained, compute, config


def pretraining(name: str, clips: int, device: torch.device) -> tuple[nn.Module, Loss, Any]:
    recipe = build_recipe(extractor="avmae", preset="paper", overrides=PRETRAINED[name])
    model = Model(recipe.model.model_copy(update={"head": None})).to(device)
    objective: Any = build_objective(recipe.objective, model.encoder).to(device)
    segments = given(model, clips, device)
    trained = nn.ModuleList([model.encoder, objective]).train()
    if name == "everything":
        objective = sees_all(objective)
    return trained, lambda: objective(model.encoder, segments, lambda x: x)["loss"], recipe.stage1


def sees_all(objective: Any) -> Any:
    """Return the same with an encoder that sees all patches; the decoder rebuilds as many."""
    made, hide = copy(objective), objective.hide

    def keep_all(*arguments: Any) -> Any:
        keep, hidden = hide(*arguments)
        return {m: torch.cat([keep[m], hidden[m]], dim=1) for m in keep}, hidden

    made.hide = keep_all
    return made


def fine_tuning(name: str, clips: int, device: torch.device) -> tuple[nn.Module, Loss, Any]:
    extractor, overrides = TUNED[name]
    recipe = build_recipe(
        extractor=extractor,
        preset="paper",
        task="classification",
        head="linear_shared",
        overrides=[*overrides, f"task.classes={[str(k) for k in range(CLASSES)]}"],
    )
    model = Model(recipe.model).to(device).train()
    targets = torch.zeros(clips, dtype=torch.long, device=device)
    segments = given(model, clips, device)
    assert model.task is not None
    task = model.task

    def loss() -> torch.Tensor:
        return mean_loss(task, model(segments.audio, segments.vision), targets, 0.0)

    return model, loss, recipe.stage2


def given(model: Model, clips: int, device: torch.device) -> Segments:
    parts = (model.io.audio, model.io.vision)
    return Segments(*(torch.randn(clips, 1, *part.segment_shape, device=device) for part in parts))


def operations(name: str, clips: int, device: torch.device) -> int:
    """Count the operations of a step, those of fused attention as far as PyTorch counts them."""
    _, loss, _ = built(name, clips, device)
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    return int(counter.get_total_flops())


def memory(name: str, options: argparse.Namespace) -> dict[str, int]:
    """Return the most memory of a step in a process of its own."""
    words = ["--one", name, "--clips", str(options.clips), "--threads", str(options.threads)]
    words += ["--device", options.device]
    command = [sys.executable, "-m", "benchmarks.fusion", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
