"""Golden vectors of CAV-MAE and AVSiam."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from golden import DIFFERENCES, REFERENCE, largest
from torch import Tensor

FOLDER = REFERENCE / "golden_ssl"

needs_ssl = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the golden vectors of CAV-MAE are not beside this checkout"
)


@cache
def arrays(name: str) -> dict[str, np.ndarray]:
    """Load ``golden_ssl/NAME.npz``."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def tokens_of(x: Tensor) -> Tensor:
    """Return every 37th token and every 48th channel, as the arrays hold them."""
    return x[:, ::37, ::48]


def check(name: str, ours: object, tolerance: float) -> None:
    """Compare with the golden array ``FILE/ARRAY`` and note the largest absolute difference."""
    file, _, array = name.partition("/")
    theirs, mine = arrays(file)[array], np.asarray(ours, np.float64)
    assert mine.shape == theirs.shape, f"{name}: {mine.shape} and not {theirs.shape}"
    difference = largest(mine, theirs)
    DIFFERENCES[name] = (max(difference, DIFFERENCES.get(name, (0.0, 0.0))[0]), tolerance)
    assert difference <= tolerance, f"{name} differs by {difference:.2g}"
