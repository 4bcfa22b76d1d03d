"""The same bits every time on a CPU, with the two threads that one worker has by default."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from zoo.models.device import add_up_in_order, fork_safely
from zoo.models.model import Model
from zoo.models.segments import Tokens

GENEROUS_S = 60


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


def gradients(model: Model) -> bytes:
    """Return the gradients of the head for a batch of samples."""
    generator = torch.Generator().manual_seed(3)

    def tokens(modality: str) -> Tokens:
        declared = getattr(model.io, modality).tokens
        shape = (4 * 14, declared.steps * declared.positions, declared.dim)
        return Tokens.of_segments(torch.randn(shape, generator=generator), 14, declared)

    assert model.head is not None
    model.head.zero_grad()
    scores: Tensor = model.head(tokens("audio"), tokens("vision"))
    scores.logsumexp(1).sum().backward()
    parts = [p.grad.numpy().tobytes() for p in model.head.parameters() if p.grad is not None]
    return b"".join(parts)


@pytest.mark.usefixtures("two_threads")
def test_the_gradients_of_the_default_head_are_the_same_every_time(model: Model) -> None:
    """Threads that add to one place in any order gave two or three different ones in 40."""
    add_up_in_order(torch.device("cpu"))
    assert len({gradients(model) for _ in range(15)}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("two_threads")
def test_a_fork_can_compute_after_its_parent_has() -> None:
    fork_safely()
    x = torch.randn(300, 300)
    (x @ x).relu().sum()  # starts the parent's threads, which no child has
    child = os.fork()
    if not child:
        (x @ x).relu().sum()
        os._exit(0)
    until = time.monotonic() + GENEROUS_S
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0
            return
        time.sleep(0.02)
    os.kill(child, 9)
    raise AssertionError("the child hangs")
