"""What holds for every module: shapes, independence, determinism, gradients, files, moves."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo.models.without_values import without_values
from zoo.registry.plugin_files import reason_of

TOLERANCE = 1e-5
STRETCHES = 32  # of the input that are changed one by one, to see which time step reacts
LOCAL = 0.3  # how much less the least stretch must move a step than the most, to ask for its time
TIME_TOLERANCE = 0.55  # mean distance between declared and found times, in steps of equal length


@contextmanager
def about(what: str) -> Iterator[None]:
    """Put what is being checked in front of whatever goes wrong, as one sentence.

    Raises:
        AssertionError: for every failure inside, the plugin's own exceptions included.
    """
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{what} fails: {reason_of(error)}") from error


def build_on_meta(build: Callable[[], Any]) -> None:
    """Build the published size without memory; its parts must at least fit together."""
    with about("preset 'paper', build on the device 'meta'"), without_values():
        build()


def fresh(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Build, then move every parameter a little, so that none starts where its gradient is 0."""
    torch.manual_seed(seed)
    module = build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return module


def call(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Run a module on its inputs as they are."""
    output: Tensor = module(*inputs)
    return output


@dataclass(frozen=True)
class Trial:
    """A module and what it is tried on.

    Attributes:
        build: builds it anew.
        inputs: a batch; items lie along dim 0 of each.
        shape: of the output that is promised.
        run: runs the module on inputs, where it does not take tensors or give one.
        has_gradients: whether a gradient must reach every trainable parameter.
    """

    build: Callable[[], nn.Module]
    inputs: tuple[Tensor, ...]
    shape: tuple[int, ...]
    run: Callable[..., Tensor] = call
    has_gradients: bool = True


def check_module(trial: Trial) -> None:
    """Check a module's output on a batch, and everything its kind promises."""
    run, inputs = trial.run, trial.inputs
    with about("build"):
        module = fresh(trial.build).eval()
    with about("forward"):
        output = run(module, *inputs)
        check_output(output, trial.shape)
    with torch.no_grad():
        is_same = torch.equal(run(module, *inputs), run(module, *inputs))
        assert is_same, "eval mode differs from run to run"
    _check_alone(module, trial, output.detach())
    check_saving(module, trial.build, inputs, run)
    _check_moves(module, trial)
    with (
        about("forward under bf16 autocast, as with precision=bf16"),
        torch.no_grad(),
        torch.autocast("cpu", torch.bfloat16),
    ):
        check_output(run(module, *inputs), trial.shape)
    with about("forward in training mode"):
        trained = run(module.train(), *inputs)
    if any(parameter.requires_grad for parameter in module.parameters()):
        assert trained.requires_grad, "the output does not depend on any trainable parameter"
        with about("backward"):
            (trained * torch.randn_like(trained)).sum().backward()
        if trial.has_gradients:
            check_gradients(module)
    _check_checkpointing(module, trial)


@torch.no_grad()
def _check_alone(module: nn.Module, trial: Trial, output: Tensor) -> None:
    """Check that an item's output is the same without the others of its batch."""
    with about("forward on a batch of one"):
        parts = [tuple(x[i : i + 1] for x in trial.inputs) for i in range(len(output))]
        alone = torch.cat([trial.run(module, *part) for part in parts])
    difference = float((alone - output).abs().max())
    assert difference < TOLERANCE * max(1.0, float(output.abs().max())), (
        f"an item depends on the others of its batch: by {difference:.2g}"
    )


def check_output(output: Any, shape: tuple[int, ...]) -> None:
    """Check that an output is a finite tensor of the declared shape."""
    assert isinstance(output, Tensor), f"gives a {type(output).__name__}, not a tensor"
    assert output.shape == shape, f"declared {shape}, gives {tuple(output.shape)}"
    assert bool(output.isfinite().all()), "the output is not finite"


@torch.no_grad()
def check_times(
    run: Callable[[Tensor], Tensor], segments: Tensor, times_s: tuple[float, ...], step_s: float
) -> None:
    """Check that every time step of an output reacts most to what happens at its time.

    Stretches of the input are replaced, one at a time.  A step that reacts to all of them nearly
    alike is not asked for its time.

    Args:
        run: gives an output ``(N, T, ...)``.
        segments: input; time is dim 2 in both modalities.
        times_s: declared time of each of the T steps, seconds.
        step_s: time between two frames of the input, seconds.
    """
    num_frames = segments.shape[2]
    num = min(num_frames, STRETCHES)
    edges = [round(i * num_frames / num) for i in range(num + 1)]
    before, rows, centres_s = run(segments), [], []
    for first, last in pairwise(edges):
        changed = segments.clone()
        changed[:, :, first:last] = torch.randn_like(changed[:, :, first:last])
        change = (run(changed) - before).abs()
        rows.append(change.transpose(0, 1).flatten(1).mean(1))  # (T,)
        centres_s.append((first + last - 1) / 2 * step_s)
    reaction = torch.stack(rows)  # (stretches, T)
    least, most = reaction.amin(0), reaction.amax(0)
    is_local = (most - least) > LOCAL * most  # (T,)
    weights = (reaction - (least + most) / 2).clamp_min(0)  # of the stretches above half the height
    reacts_s = (weights * torch.tensor(centres_s)[:, None]).sum(0) / weights.sum(0)  # (T,)
    errors_s = (reacts_s - torch.tensor(times_s)).abs()[is_local]
    allowed_s = TIME_TOLERANCE * num_frames * step_s / len(times_s)
    if len(errors_s) and float(errors_s.mean()) > allowed_s:
        told = ", ".join(f"{t:.2f}" for t in times_s[:4])
        found = ", ".join(f"{float(t):.2f}" for t in reacts_s[:4])
        more = ", ..." if len(times_s) > 4 else ""
        raise AssertionError(
            f"time steps react to what happens at {found}{more} s, but times_s says {told}{more} s"
        )


@torch.no_grad()
def check_time_steps(aggregator: nn.Module, features: Tensor) -> None:
    """Check that a change of one time step changes the tokens of that step most."""
    aggregator.eval()
    steps = features.shape[1]
    for step in range(steps):
        changed = features.clone()
        changed[:, step] = torch.randn_like(changed[:, step])
        change = (aggregator(changed) - aggregator(features)).abs().unflatten(1, (steps, -1))
        most = int(change.mean(dim=(0, 2, 3)).argmax())
        assert most == step, (
            f"a change of time step {step} changes the tokens of step {most} most; give tokens in "
            "the order of time"
        )


def check_gradients(module: nn.Module) -> None:
    """Check that a backward pass has reached every trainable parameter."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            is_reached = parameter.grad is not None and bool(parameter.grad.any())
            assert is_reached, (
                f"no gradient reaches '{name}' of {type(module).__name__}; use it, or freeze it"
            )


def check_saving(
    module: nn.Module,
    build: Callable[[], nn.Module],
    inputs: tuple[Tensor, ...] = (),
    run: Callable[..., Tensor] = call,
) -> None:
    """Save as safetensors, load into a module made with another seed, compare."""
    state = {name: value.detach().contiguous() for name, value in module.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder, about("save and load"):
        file = Path(folder) / "weights.safetensors"
        save_file(state, file)
        again = fresh(build, seed=1)
        again.load_state_dict(load_file(file))
    for name, value in again.state_dict().items():
        assert torch.equal(value, state[name]), f"'{name}' changes when saved and loaded"
    if inputs:
        with torch.no_grad():
            same = torch.equal(run(again.eval(), *inputs), run(module, *inputs))
        assert same, "a loaded copy answers differently: something is not in its state dict"


def _check_moves(module: nn.Module, trial: Trial) -> None:
    """Move a module to other number types and devices, and see whether all of it comes along."""
    for dtype in (torch.float64, torch.bfloat16):
        with torch.no_grad(), about(f"moved to {str(dtype).removeprefix('torch.')}, forward"):
            output = _moved(module, trial, dtype)
            assert output.dtype == dtype, f"gives {output.dtype}; make new tensors like its input"
            check_output(output, trial.shape)
    for device in ("meta", *(["cuda"] if torch.cuda.is_available() else [])):
        with torch.no_grad(), about(f"moved to the device '{device}', forward"):
            output = _moved(module, trial, torch.device(device))
            assert output.device.type == device, f"gives a tensor on '{output.device.type}'"
            if device != "meta":
                check_output(output, trial.shape)


def _moved(module: nn.Module, trial: Trial, place: torch.dtype | torch.device) -> Tensor:
    copy = trial.build()
    copy.load_state_dict(module.state_dict())
    return trial.run(copy.eval().to(place), *(tensor.to(place) for tensor in trial.inputs))


def _check_checkpointing(module: nn.Module, trial: Trial) -> None:
    """Check that gradient checkpointing, where there is any, changes nothing."""
    enable = getattr(module, "enable_gradient_checkpointing", None)
    if enable is None:
        return
    expected = trial.run(module.eval(), *trial.inputs)
    with about("forward with gradient checkpointing"):
        enable()
        output = trial.run(module, *trial.inputs)
        assert torch.allclose(output, expected, atol=TOLERANCE), "changes the output"
