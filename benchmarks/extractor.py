"""How fast are both extractors, and how much of the machine do they use?

    python benchmarks/extractor.py [--presets tiny paper] [--device cuda]

Forward passes and training steps (encoder, contrast, backward, optimiser) in fp32 and bf16, against
the published method on the same weights, as a share of the matrix products this machine can do in
the same minute.  With --device cuda also memory, and the GPU-hours of the paper's two stages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, get_args

import torch
from torch import Tensor

from benchmarks.common import results
from benchmarks.common.timing import (
    Times,
    Work,
    clock_of,
    interleave,
    prepare_device,
    ratio,
    seconds,
)
from benchmarks.reference.model import parts_of, reference_encoders
from zoo.contracts import Modality, Precision
from zoo.models.cost import model_cost
from zoo.models.device import autocast
from zoo.models.model import Model, build_objective
from zoo.models.segments import Segments
from zoo.timeline import SegmentLayout
from zoo.training.compiling import compile_extractors
from zoo.training.optimise import build_optimizer, take_step
from zoo.training.recipe import Recipe
from zoo.training.recipe_builder import build_recipe

MODALITIES: tuple[Modality, ...] = get_args(Modality)
CEILING_SIDE = {"cpu": 2048, "cuda": 8192}
PRECISIONS: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Segments of either modality at a time: enough to fill the caches, few enough to repeat.
SEGMENTS = {("cpu", "tiny"): 48, ("cpu", "paper"): 1, ("cuda", "tiny"): 448, ("cuda", "paper"): 28}
VGGSOUND_CLIPS, STAGE1_EPOCHS, STAGE2_EPOCHS = 186_000, 20, 326
SEGMENTS_OF_A_CLIP = 14
TRAINING = 3  # a training step is three forward passes in operations


def main() -> None:
    parser = results.parser(__doc__, "extractor", rounds=3, on_gpu=True)
    parser.add_argument("--presets", nargs="+", default=["tiny", "paper"])
    parser.add_argument("--segments", type=int, help="of either modality at a time")
    parser.add_argument(
        "--compile", nargs="*", default=["tiny"], help="presets to measure with torch.compile, too"
    )
    options = parser.parse_args()
    device = prepare_device(options.device)
    torch.set_num_threads(1)
    ceiling = ceiling_flops(device, options.rounds)
    rows = [
        measure(preset, device, options.rounds, ceiling, options.segments)
        for preset in options.presets
    ]
    for row in rows:
        if row["preset"] in options.compile:
            row["compiled"] = compiled(row["preset"], device, options.rounds, row["segments"])
    result = {"device": device.type, "ceiling_flops": ceiling, "rows": rows}
    results.write(options.out, device, result)


def ceiling_flops(device: torch.device, rounds: int) -> dict[str, float]:
    """Measure the largest matrix product's operations per second."""
    side = CEILING_SIDE[device.type]
    pairs = {
        name: [torch.randn(side, side, device=device).to(dtype) for _ in range(2)]
        for name, dtype in PRECISIONS.items()
    }
    works = {name: (lambda pair=pair: pair[0] @ pair[1]) for name, pair in pairs.items()}
    times = interleave(works, 3 * rounds, clock_of(device))
    return {name: round(2 * side**3 / median(values)) for name, values in times.items()}


def measure(
    preset: str,
    device: torch.device,
    rounds: int,
    ceiling: dict[str, float],
    segments: int | None = None,
) -> dict[str, Any]:
    """Measure both extractors of a preset, and the published method beside them."""
    torch.manual_seed(0)
    recipe = build_recipe(extractor="ast_motionformer", preset=preset)
    model = Model(recipe.model).to(device)
    num = segments or SEGMENTS[device.type, preset]
    flops = model_cost(_with_segments(recipe, num)).extractor_flops
    inputs = _inputs(model, num, device)
    row: dict[str, Any] = {"preset": preset, "segments": num, "flops_of_a_segment": flops // num}
    for name, works, factor in (
        ("forward", _forwards(model, inputs, device), 1),
        ("training", _steps(model, recipe, inputs, device), TRAINING),
    ):
        times = interleave(works, rounds, clock_of(device))
        row[name] = _summary(times, num, factor * flops, ceiling)
    if device.type == "cuda":
        row |= _on_gpu(model, recipe, inputs, device, row)
    return row


def compiled(preset: str, device: torch.device, rounds: int, num: int) -> dict[str, Any]:
    """Compare with extractors that went through torch.compile; say what compiling takes."""
    recipe = build_recipe(extractor="ast_motionformer", preset=preset)
    works: dict[str, Callable[[], object]] = {}
    for name in ("plain", "compiled"):
        torch.manual_seed(0)
        model = Model(recipe.model).to(device)
        if name == "compiled":
            compile_extractors(model)
        inputs = _inputs(model, num, device)
        for precision in PRECISIONS:
            step = _steps(model, recipe, inputs, device)[precision]
            works[f"{name}_{precision}"] = step
    started = time.perf_counter()
    for work in works.values():
        work()
    first_s = time.perf_counter() - started
    times = interleave(works, rounds, clock_of(device))
    return {
        "first_steps_s": round(first_s, 1),
        "training_seconds": seconds(times),
        "fp32_against_plain": ratio(times, "plain_fp32", "compiled_fp32"),
        "bf16_against_plain": ratio(times, "plain_bf16", "compiled_bf16"),
    }


def _with_segments(recipe: Recipe, num: int) -> Any:
    segment_s = recipe.model.layout.segment_s
    layout = SegmentLayout(num_segments=num, segment_s=segment_s, step_s=segment_s)
    return recipe.model.model_copy(update={"head": None, "layout": layout})


def _inputs(model: Model, num: int, device: torch.device) -> Segments:
    audio, vision = (
        torch.randn(1, num, *part.segment_shape, device=device)
        for part in (model.io.audio, model.io.vision)
    )
    return Segments(audio, vision)


def _forwards(
    model: Model, inputs: Segments, device: torch.device
) -> dict[str, Callable[[], object]]:
    model.eval()
    published, ours = reference_encoders(model), parts_of(model)

    def forward(parts: Any, precision: Precision) -> None:
        with torch.no_grad(), autocast(device, precision):
            for part, segments in zip(parts, (inputs.audio, inputs.vision), strict=True):
                part(segments[0])

    return _ways(device, forward, published, ours)


def _steps(
    model: Model, recipe: Recipe, inputs: Segments, device: torch.device
) -> dict[str, Callable[[], object]]:
    objective = build_objective(recipe.objective, model.encoder).to(device)
    optimizer = build_optimizer(model, recipe.stage1)

    def step(parts: Any, precision: Precision) -> None:
        model.train()
        with autocast(device, precision):
            given = zip(MODALITIES, parts, (inputs.audio, inputs.vision), strict=True)
            embedded = [objective.embed(name, part(segments[0])) for name, part, segments in given]
            loss = objective.contrast(*embedded, _alone)["loss"]
        take_step(model, optimizer, loss, 0, recipe.stage1)

    published, ours = reference_encoders(model), parts_of(model)
    return _ways(device, step, published, ours)


def _ways(
    device: torch.device, work: Callable[[Any, Precision], None], published: Any, ours: Any
) -> dict[str, Work]:
    """Name what is compared; on a GPU also the published way in bf16, as GPUs run it."""
    ways: dict[str, Work] = {"published": partial(work, published, "fp32")}
    if device.type == "cuda":
        ways["published_bf16"] = partial(work, published, "bf16")
    return ways | {precision: partial(work, ours, precision) for precision in PRECISIONS}


def _alone(tensor: Tensor) -> Tensor:
    return tensor


def _summary(times: Times, num: int, flops: int, ceiling: dict[str, float]) -> dict[str, Any]:
    rates = {name: flops / value for name, value in seconds(times).items()}
    summary = {
        "seconds": seconds(times),
        "segments_per_s": {name: round(num * rate / flops, 3) for name, rate in rates.items()},
        "share_of_ceiling": {
            name: round(rate / ceiling["bf16" if "bf16" in name else "fp32"], 3)
            for name, rate in rates.items()
        },
        "fp32_against_published": ratio(times, "published", "fp32"),
        "bf16_against_published": ratio(times, "published", "bf16"),
        "bf16_against_fp32": ratio(times, "fp32", "bf16"),
    }
    if "published_bf16" in times:
        summary["bf16_against_published_bf16"] = ratio(times, "published_bf16", "bf16")
    return summary


def _on_gpu(
    model: Model, recipe: Recipe, inputs: Segments, device: torch.device, row: Any
) -> dict[str, Any]:
    """Measure memory with and without gradient checkpointing, and project GPU-hours."""
    memory = {}
    for name in ("plain", "checkpointed"):
        if name == "checkpointed":
            model.encoder.enable_gradient_checkpointing()
        torch.cuda.reset_peak_memory_stats(device)
        _steps(model, recipe, inputs, device)["bf16"]()
        memory[name] = torch.cuda.max_memory_allocated(device)
    rates = {name: row[name]["segments_per_s"]["bf16"] for name in ("forward", "training")}
    return {"peak_training_bytes": memory, "gpu_hours": gpu_hours(rates)}


def gpu_hours(segments_per_s: dict[str, float]) -> dict[str, float]:
    """Project the extractors' share of the paper's two stages on VGGSound from measured rates.

    Decoding is not in it, nor is the head, which is small beside the extractors.  Stage I takes 14
    segments per clip and epoch.  Online, stage II encodes as many for every sample; the store
    encodes every clip once: 30 video segments every 0.32 s and 235 audio segments every 0.04 s of
    10 s, counted as 235 of both, which is an upper bound.
    """
    hours = {name: SEGMENTS_OF_A_CLIP / rate / 3600 for name, rate in segments_per_s.items()}
    store_segments = 235
    return {
        "stage1": round(VGGSOUND_CLIPS * STAGE1_EPOCHS * hours["training"], 1),
        "stage2_online": round(VGGSOUND_CLIPS * STAGE2_EPOCHS * hours["forward"], 1),
        "stage2_store_at_most": round(
            VGGSOUND_CLIPS * hours["forward"] * store_segments / SEGMENTS_OF_A_CLIP, 1
        ),
    }


if __name__ == "__main__":
    main()
