"""What holds for every module: shapes, independence, determinism, gradients, files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo.modules import Extractor

TOLERANCE = 1e-5


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
    module = fresh(build).eval()
    output = module(*inputs)
    assert output.shape == shape, f"declared {shape}, gives {tuple(output.shape)}"
    assert bool(output.isfinite().all()), "the output is not finite"
    with torch.no_grad():
        assert torch.equal(module(*inputs), module(*inputs)), "eval mode differs from run to run"
        alone = torch.cat([module(*(x[i : i + 1] for x in inputs)) for i in range(len(output))])
    difference = float((alone - output).detach().abs().max())
    assert difference < TOLERANCE * max(1.0, float(output.detach().abs().max())), (
        f"an item depends on the others of its batch: by {difference:.2g}"
    )
    check_saving(module, build, inputs)
    trained = module.train()(*inputs)
    if trained.requires_grad:
        (trained * torch.randn_like(trained)).sum().backward()
        check_gradients(module)
    if isinstance(module, Extractor):
        _check_checkpointing(module, inputs)


def check_gradients(module: nn.Module) -> None:
    """Check that a backward pass has reached every trainable parameter."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            is_reached = parameter.grad is not None and bool(parameter.grad.any())
            assert is_reached, f"no gradient reaches '{name}' of {type(module).__name__}"


def check_saving(
    module: nn.Module, build: Callable[[], nn.Module], inputs: tuple[Tensor, ...] = ()
) -> None:
    """Save as safetensors, load into a module drawn with another seed, compare."""
    state = {name: value.detach().contiguous() for name, value in module.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
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


def _check_checkpointing(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Check that gradient checkpointing, where there is any, changes nothing."""
    enable = getattr(module, "enable_gradient_checkpointing", None)
    if enable is None:
        return
    expected = module.eval()(*inputs)
    enable()
    assert torch.allclose(module(*inputs), expected, atol=TOLERANCE), (
        "gradient checkpointing changes the output"
    )
