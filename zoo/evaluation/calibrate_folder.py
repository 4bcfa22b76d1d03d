"""Calibrating a model that is in a folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from zoo.catalog.model_folder import keep_calibration, load_model
from zoo.data.clip_source import ClipSource
from zoo.data.manifest import Manifest, Split
from zoo.data.samples import SampleSource
from zoo.errors import ConfigError
from zoo.evaluation.calibration import FEWEST, MOST, ask, learn, measure
from zoo.evaluation.members import reader_of
from zoo.evaluation.report import build_store_of
from zoo.evaluation.rounds import Progress
from zoo.models.device import find_device
from zoo.models.model import require_offsets


def calibrate_model(
    folder: Path,
    name: str,
    data: Path,
    split: Split,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Fit what a model's confidence is worth, and keep it in the model's folder.

    Returns:
        For each number of windows what `measure` finds on the same clips.

    Raises:
        ConfigError: if the model finds no offsets, or there are too few clips.
        ModelError: if it cannot be loaded.
        OSError: if its folder cannot be written.
    """
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{folder} cannot be written: copy the model, and calibrate the copy")
    model = load_model(folder).to(find_device(device))
    grid, task = require_offsets(model, name), model.task
    assert task is not None
    clips = list(Manifest.read(data).select(split).clips)
    order = np.random.default_rng(seed).permutation(len(clips))[:MOST]
    clips = [clips[i] for i in sorted(order.tolist())]
    with tempfile.TemporaryDirectory() as temporary:
        store = None
        if model.encoder.is_separable:
            store = build_store_of(Path(temporary), clips, model, progress)
        clip_source, layout = ClipSource(clips, reader_of(model)), model.config.layout
        source = SampleSource(clip_source, layout, task, seed, split, store)
        answers = ask(model, source, grid, seed)
    if answers is None:
        raise ConfigError(
            f"{data} has too few {split} clips to calibrate on: {FEWEST} or more are needed"
        )
    learn(model, answers, grid)
    keep_calibration(folder, model)
    rows = measure(answers.probabilities, answers.targets, grid, model.calibration)
    return [row for row in rows if row["is_calibrated"]]
