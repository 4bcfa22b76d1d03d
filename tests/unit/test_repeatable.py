"""The same bits every time on a CPU, with the two threads that one worker has by default."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from zoo.data.manifest import Manifest
from zoo.files import sha256_of
from zoo.models.device import add_up_in_order, fork_safely
from zoo.models.model import Model
from zoo.models.segments import Tokens
from zoo.training.engine import LocalEngine
from zoo.training.job import Job, run_job
from zoo.training.overrides import override
from zoo.training.recipe import Recipe

GENEROUS_S = 60
SMALL = (
    "stage1.steps=4 stage1.clips=2 stage1.num_segments=8 stage2.steps=12 stage2.batch=4 "
    "stage2.valid_every=12 stage2.valid_rounds=1"
)


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


@pytest.mark.usefixtures("two_threads")
def test_a_training_ends_with_the_same_weights_every_time(
    clips: Manifest, recipe: Recipe, tmp_path: Path
) -> None:
    small, data = override(recipe, SMALL.split()), clips.folder / "manifest.parquet"
    weights = set()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        run_job(LocalEngine(tmp_path / f"{name}-ray"), Job(small, data, tmp_path / name, (1, 2)))
        weights.add(sha256_of(tmp_path / name / "model.safetensors"))
    assert len(weights) == 1


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
