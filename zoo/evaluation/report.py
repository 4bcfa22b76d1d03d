"""Evaluating a model on a manifest: the whole report."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch

from zoo.catalog import resolve
from zoo.data.clips import ClipReader
from zoo.data.draws import DrawSource
from zoo.data.manifest import Manifest
from zoo.data.source import ClipSource
from zoo.data.store import FeatureStore, build_store, store_config
from zoo.errors import ConfigError
from zoo.evaluation.protocol import Progress, evaluate_rounds
from zoo.evaluation.sliding import sliding_check
from zoo.folder import load_model


def evaluate_manifest(
    name: str,
    data: Path,
    *,
    split: Literal["train", "valid", "test"] = "test",
    rounds: int = 25,
    seed: int = 0,
    features: Literal["store", "online"] = "store",
    with_controls: bool = True,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a model on a split of a manifest at random offsets.

    Args:
        name: catalog name or model folder.
        data: manifest.
        split: which clips.
        rounds: draws per clip.
        seed: of the draws.
        features: ``store`` encodes every clip once on the lattice of offsets, ``online`` decodes
            and encodes every draw; both see the same draws.
        with_controls: also score with the audio of another clip, and with either stream blank.
        device: where to compute.
        progress: is told what is done and what there is in all.

    Raises:
        ZooError: if the model or the manifest cannot be used.
    """
    model = load_model(resolve(name)).to(device)
    if model.head is None:
        raise ConfigError(f"'{name}' has no head yet: train stage 2 before evaluating")
    clips = list(Manifest.read(data).select(split).clips)
    reader = ClipReader(model.vision_frontend, model.audio_frontend)
    left_out: dict[str, str] = {}
    source = ClipSource(clips, reader, lambda path, why: left_out.update({str(path): why}))
    layout, grid = model.config.layout, model.config.grid
    with tempfile.TemporaryDirectory() as folder:
        store = None
        if features == "store":
            config = store_config(model, "float16")
            where = torch.device(device)
            for done in build_store(Path(folder), model, reader, clips, config, where):
                if progress is not None:
                    progress(done, len(clips))
            store = FeatureStore(Path(folder), clips, config)
            left_out |= {str(clips[i].path): why for i, why in store.skipped.items()}
        draws = DrawSource(source, layout, grid, seed, split, store)
        report = evaluate_rounds(
            model, draws, rounds, with_controls=with_controls, progress=progress
        )
        if store is not None:
            report["sliding"] = sliding_check(model, store)
    return {"model": name, "split": split, "seed": seed, **report, "left_out": left_out}


def check_writable(path: Path) -> None:
    """Find out before a long evaluation whether its report can be written.

    Raises:
        ConfigError: if it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write a report as JSON."""
    path.write_text(json.dumps(report, indent=2) + "\n")
