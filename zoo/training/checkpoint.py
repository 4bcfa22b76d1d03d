"""Checkpoints as safetensors and JSON: nothing is pickled, damage is noticed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn, optim

from zoo.errors import TrainingError
from zoo.files import save_tensors, sha256_of
from zoo.models.upgrade import upgrade_names
from zoo.training.engine import unwrap

WEIGHTS, META = "state.safetensors", "state.json"


def save_checkpoint(
    folder: Path,
    module: nn.Module,
    optimizers: Sequence[optim.Optimizer],
    meta: dict[str, Any],
    best: dict[str, Tensor] | None = None,
) -> None:
    """Write module, best weights so far, optimisers, and whatever JSON the stage needs."""
    module = unwrap(module)
    tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in (best or {}).items()}
    for number, optimizer in enumerate(optimizers):
        tensors |= _optimizer_tensors(module, optimizer, _prefix(number))
    save_tensors(tensors, folder / WEIGHTS)
    meta = {**meta, "sha256": sha256_of(folder / WEIGHTS)}
    (folder / META).write_text(json.dumps(meta))


def read_meta(folder: Path) -> dict[str, Any]:
    """Read the JSON part of a checkpoint."""
    return json.loads((folder / META).read_text())


def find_whole(folders: Iterable[Path]) -> tuple[Path | None, int]:
    """Return the first checkpoint that is as it was written, and how many before it are not.

    A full disk or a lost machine may leave half of one.
    """
    num_damaged = 0
    for folder in folders:
        if _is_whole(folder):
            return folder, num_damaged
        num_damaged += 1
    return None, num_damaged


def _is_whole(folder: Path) -> bool:
    try:
        return sha256_of(folder / WEIGHTS) == read_meta(folder)["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def load_checkpoint(
    folder: Path, module: nn.Module, optimizers: Sequence[optim.Optimizer]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Restore module and optimisers; return the JSON part and the best weights so far.

    Raises:
        TrainingError: if the checkpoint is damaged or belongs to another recipe.
    """
    meta = read_meta(folder)
    if sha256_of(folder / WEIGHTS) != meta["sha256"]:
        raise TrainingError(f"checkpoint {folder} is damaged: its hash does not match; remove it")
    module = unwrap(module)
    try:
        tensors = _upgrade(load_file(folder / WEIGHTS), list(module.state_dict()))
        module.load_state_dict(_part(tensors, "module."))
    except (SafetensorError, RuntimeError) as error:
        raise TrainingError(f"checkpoint {folder} does not fit this recipe: {error}") from None
    for number, optimizer in enumerate(optimizers):
        _restore_optimizer(module, optimizer, _part(tensors, _prefix(number)))
    return meta, _part(tensors, "best.")


def _upgrade(tensors: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Bring the names of a checkpoint of an earlier version to those of this one."""
    upgraded: dict[str, Tensor] = {}
    for part in sorted({f"{name.partition('.')[0]}." for name in tensors}):
        mine = _part(tensors, part)
        kinds = {key.split("|")[1] for key in mine if "|" in key}
        keys = [f"{n}|{kind}" for n in names for kind in kinds] or names
        upgraded |= {f"{part}{k}": v for k, v in upgrade_names(mine, keys).items()}
    return upgraded


def _prefix(number: int) -> str:
    """Return what the tensors of an optimiser are called; the first one is as it always was."""
    return f"optimizer{number + 1 if number else ''}."


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _optimizer_tensors(
    module: nn.Module, optimizer: optim.Optimizer, prefix: str
) -> dict[str, Tensor]:
    return {
        f"{prefix}{name}|{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore_optimizer(
    module: nn.Module, optimizer: optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    parameters = dict(module.named_parameters())
    for entry, value in tensors.items():
        name, key = entry.split("|")
        parameter = parameters[name]
        # Fused optimisers keep all of it beside the parameter, the step count, too.
        optimizer.state[parameter][key] = value.to(parameter.device)
