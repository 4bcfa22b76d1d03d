"""Golden vectors of the published code, and the fake weights and inputs they were made with."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from plugins.synchformer.names import Kind, names
from zoo.models.model import Model

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
SALT = "public-v1"

needs_golden = pytest.mark.skipif(
    not (REFERENCE / "golden").is_dir(),
    reason="the golden vectors of the published code are not beside this checkout",
)


@cache
def arrays(name: str, folder: str = "golden") -> dict[str, np.ndarray]:
    """Load ``FOLDER/NAME.npz``."""
    with np.load(REFERENCE / folder / f"{name}.npz") as file:
        return dict(file)


DIFFERENCES: dict[str, tuple[float, float]] = {}
"""Golden array -> (largest absolute difference, tolerance), as far as tests have compared."""


def assert_agrees(name: str, ours: object, tolerance: float, folder: str = "golden") -> None:
    """Compare with the golden array ``FILE/ARRAY`` and note the largest absolute difference.

    Args:
        name: of the array.
        ours: what this project computes; a tolerance of 0 asks for equality.
        tolerance: see the README beside the arrays.
        folder: of the file.
    """
    file, _, array = name.partition("/")
    theirs = arrays(file, folder)[array]
    mine = np.asarray(ours, np.float64)
    assert mine.shape == theirs.shape, f"{name}: {mine.shape} and not {theirs.shape}"
    difference = largest(mine, theirs)
    DIFFERENCES[name] = (max(difference, DIFFERENCES.get(name, (0.0, 0.0))[0]), tolerance)
    assert difference <= tolerance, f"{name} differs by {difference:.2g}"


def largest(ours: Tensor | np.ndarray, theirs: Tensor | np.ndarray) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max())


@cache
def recipe() -> ModuleType:
    """Import ``fake_weights.py`` from where it lies."""
    spec = importlib.util.spec_from_file_location("fake_weights", REFERENCE / "fake_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def features(name: str, *shape: int) -> Tensor:
    """Return unit-normal fake features."""
    return torch.from_numpy(recipe().fake_features(SALT, name, shape))


def unit(x: Tensor) -> Tensor:
    """Scale to unit length along the last axis."""
    return nn.functional.normalize(x, dim=-1)


SYNC, SYNCHRONIZABILITY = "sync_model_keys.csv", "synchronizability_model_keys.csv"
AVCLIP = "avclip_stage1_keys.csv"
_KINDS: dict[str, Kind] = {
    SYNC: "sync",
    SYNCHRONIZABILITY: "synchronizability",
    AVCLIP: "avclip",
}


def fake_checkpoint(inventory: str) -> dict[str, Tensor]:
    """Return fake weights in the published layout."""
    made = recipe().fake_state_dict(REFERENCE / inventory, SALT)
    return {key: torch.from_numpy(value) for key, value in made.items()}


def fill(module: nn.Module, part: str, inventory: str) -> None:
    """Give a module the fake weights of its published counterpart; every key must be listed.

    Args:
        module: one of ours.
        part: where it is: ``audio.extractor``, ``vision.aggregator``, ``head``.
        inventory: name of the CSV that lists the published keys.
    """
    shapes = {key: shape for key, shape, *_ in recipe().read_inventory(REFERENCE / inventory)}

    def value(name: str) -> Tensor:
        keys = names(_KINDS[inventory], f"{part}.{name}")
        parts = [recipe().fake_tensor(SALT, key, shapes[key]) for key in keys]
        return torch.from_numpy(np.concatenate(parts))

    module.load_state_dict({name: value(name) for name in module.state_dict()})
    module.eval()


def fill_encoder(model: Model, inventory: str) -> None:
    """Give a pair of extractors and their aggregators the fake weights of the published ones."""
    for part in (model.separable.audio, model.separable.vision):
        for name in ("extractor", "aggregator"):
            fill(getattr(part, name), f"{part.modality}.{name}", inventory)


def record(modules: dict[str, nn.Module], run: Callable[[], object]) -> dict[str, Tensor]:
    """Run something and return what the named modules gave."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
        for name, module in modules.items()
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return seen
