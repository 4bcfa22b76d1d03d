"""Golden vectors of Audiovisual MAE and MBT, and models that hold their stand-in weights."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import partial

import golden
import numpy as np
import pytest
import torch
from golden import REFERENCE, SALT, recipe
from torch import Tensor, nn

from plugins.avmae.names import SEPARATE_OR_MID, TOGETHER
from zoo.checkpoints.names import Names
from zoo.contracts import Modality

FOLDER = "golden_avmae"
arrays = partial(golden.arrays, folder=FOLDER)
check = partial(golden.assert_agrees, folder=FOLDER)
SHORT: dict[Modality, str] = {"audio": "spec", "vision": "rgb"}
CUT: dict[Modality, slice] = {"audio": slice(None, None, 8), "vision": slice(None, None, 32)}

needs_avmae = pytest.mark.skipif(
    not (REFERENCE / FOLDER).is_dir(),
    reason="the golden vectors of Audiovisual MAE are not beside this checkout",
)


def names_of(fusion: str) -> Names:
    """Return our names to the published ones, for an encoder of this fusion."""
    return SEPARATE_OR_MID if fusion in {"separate", "mid"} else TOGETHER


def fake_state(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Return stand-in weights for tensors of ours, by the names that the published code has."""
    made = {}
    for name, tensor in state.items():
        theirs, shape = names(name), tuple(tensor.shape)
        one = (shape[0] // len(theirs), *shape[1:])
        if "token" in name:  # theirs are (1, 1, D)
            one = (1, 1, *shape)
        parts = [recipe().fake_tensor(SALT, their, one) for their in theirs]
        made[name] = torch.from_numpy(np.concatenate(parts)).view(shape)
    return made


def fill(module: nn.Module, part: str, names: Names) -> None:
    """Give a module its stand-in weights; ``part`` is what its names begin with."""
    state = fake_state({f"{part}.{n}": x for n, x in module.state_dict().items()}, names)
    module.load_state_dict({n.removeprefix(f"{part}."): x for n, x in state.items()})
    module.eval()


def fake_given(
    suffixes: tuple[str, ...], frames: tuple[int, int, int], spec: tuple[int, int], name: str
) -> dict[Modality, Tensor]:
    """Return fake clips after the front ends: video ``(N, 3, T, H, W)``, audio ``(N, F, Ta)``."""
    audio, vision = [], []
    num, height, width = frames
    for suffix in suffixes:
        video = recipe().fake_video(SALT + suffix, frames=num, height=height, width=width)
        pixels = torch.from_numpy(video.astype(np.float32) * np.float32(2 / 255) - 1)
        vision.append(pixels.permute(3, 0, 1, 2))
        mel = recipe().fake_features(SALT + suffix, name, spec)
        audio.append(torch.from_numpy(np.float32(1.102) + np.float32(2.762) * mel).T)
    return {"audio": torch.stack(audio), "vision": torch.stack(vision)}


def check_gradients(array: str, parts: Mapping[str, nn.Module], names: Names) -> None:
    """Compare the norm of every tensor's gradient with ``FILE/MODEL.grad_norm``."""
    found: dict[str, float] = {}
    for part, module in parts.items():
        for ours, parameter in module.named_parameters():
            theirs = names(f"{part}.{ours}")
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for their, chunk in zip(theirs, grad.chunk(len(theirs)), strict=True):
                found[their] = float(chunk.double().norm())
    file, _, model = array.partition("/")
    with (REFERENCE / FOLDER / "tiny_keys.csv").open(newline="") as table:
        flax = {row["key"]: row["fake_key"] for row in csv.DictReader(table)}
    given = arrays(file)
    wanted = dict(zip(given[f"{model}.grad_keys"], given[f"{model}.grad_norm"], strict=True))
    assert {flax[key] for key in wanted} == set(found)
    for key, norm in wanted.items():
        # That of a key's bias is 0 but for rounding: the softmax does not see it.
        rounding = 1e-7 if key.endswith("key/bias") else 1e-9
        assert found[flax[key]] == pytest.approx(norm, rel=1e-4, abs=rounding), key
