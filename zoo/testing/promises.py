"""What holds for every module: shapes, independence, determinism, gradients, files, moves."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo.models.modules import Extractor
from zoo.registry.plugin_files import reason_of

TOLERANCE = 1e-5
BACKWARDS = 2.0  # how much more the wrong end of a segment may change


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
    """Build a component of any size without memory; published sizes must at least fit together."""
    with torch.device("meta"):
        build()


def fresh(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Build, then move every parameter a little, so that none starts where its gradient is 0."""
    torch.manual_seed(seed)
    module = build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return module


def check_module(
    build: Callable[[], nn.Module], inputs: tuple[Tensor, ...], shape: tuple[int, ...]
) -> None:
    """Check a module's output on a batch, and everything its kind promises."""
    with about("build"):
        module = fresh(build).eval()
    with about("forward"):
        output = module(*inputs)
        check_output(output, shape)
    with torch.no_grad():
        assert torch.equal(module(*inputs), module(*inputs)), "eval mode differs from run to run"
        with about("forward on a batch of one"):
            alone = torch.cat([module(*(x[i : i + 1] for x in inputs)) for i in range(len(output))])
    difference = float((alone - output).detach().abs().max())
    assert difference < TOLERANCE * max(1.0, float(output.detach().abs().max())), (
        f"an item depends on the others of its batch: by {difference:.2g}"
    )
    check_saving(module, build, inputs)
    check_moves(module, build, inputs)
    with (
        about("forward under bf16 autocast, as with precision=bf16"),
        torch.no_grad(),
        torch.autocast("cpu", torch.bfloat16),
    ):
        check_output(module(*inputs), shape)
    with about("forward in training mode"):
        trained = module.train()(*inputs)
    if any(parameter.requires_grad for parameter in module.parameters()):
        assert trained.requires_grad, "the output does not depend on any trainable parameter"
        with about("backward"):
            (trained * torch.randn_like(trained)).sum().backward()
        check_gradients(module)
    if isinstance(module, Extractor):
        _check_checkpointing(module, inputs)


def check_output(output: Any, shape: tuple[int, ...]) -> None:
    """Check that an output is a finite tensor of the declared shape."""
    assert isinstance(output, Tensor), f"gives a {type(output).__name__}, not a tensor"
    assert output.shape == shape, f"declared {shape}, gives {tuple(output.shape)}"
    assert bool(output.isfinite().all()), "the output is not finite"


@torch.no_grad()
def check_order(extractor: nn.Module, segments: Tensor, steps: int) -> None:
    """Check that time runs forward: the end of a segment must not change the first step most."""
    if steps == 1:
        return
    extractor.eval()
    late = max(1, segments.shape[2] // 4)
    changed = segments.clone()
    changed[:, :, -late:] = torch.randn_like(changed[:, :, -late:])  # time is dim 2 in both
    change = (extractor(changed) - extractor(segments)).abs().mean(dim=(0, 2, 3))  # (T,)
    assert float(change[0]) <= BACKWARDS * float(change[-1]), (
        "the end of a segment changes its first time step more than its last; give (N, T, P, D) "
        "in the order of times_s"
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
    module: nn.Module, build: Callable[[], nn.Module], inputs: tuple[Tensor, ...] = ()
) -> None:
    """Save as safetensors, load into a module drawn with another seed, compare."""
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
            same = torch.equal(again.eval()(*inputs), module(*inputs))
        assert same, "a loaded copy answers differently: something is not in its state dict"


def check_moves(
    module: nn.Module, build: Callable[[], nn.Module], inputs: tuple[Tensor, ...]
) -> None:
    """Move a module to other number types and devices, and see whether all of it comes along."""
    expected = module(*inputs).detach()
    for dtype in (torch.float64, torch.bfloat16):
        moved = _copy_of(module, build).to(dtype)
        with torch.no_grad(), about(f"moved to {str(dtype).removeprefix('torch.')}, forward"):
            output = moved(*(tensor.to(dtype) for tensor in inputs))
            assert output.dtype == dtype, f"gives {output.dtype}; make new tensors like its input"
            check_output(output, tuple(expected.shape))
    for device in ("meta", *(["cuda"] if torch.cuda.is_available() else [])):
        moved = _copy_of(module, build).to(device)
        with torch.no_grad(), about(f"moved to the device '{device}', forward"):
            output = moved(*(tensor.to(device) for tensor in inputs))
            assert output.device.type == device, f"gives a tensor on '{output.device.type}'"
            if device != "meta":
                check_output(output, tuple(expected.shape))


def _copy_of(module: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
    copy = build()
    copy.load_state_dict(module.state_dict())
    return copy.eval()


def _check_checkpointing(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Check that gradient checkpointing, where there is any, changes nothing."""
    enable = getattr(module, "enable_gradient_checkpointing", None)
    if enable is None:
        return
    expected = module.eval()(*inputs)
    with about("forward with gradient checkpointing"):
        enable()
        output = module(*inputs)
        assert torch.allclose(output, expected, atol=TOLERANCE), "changes the output"
