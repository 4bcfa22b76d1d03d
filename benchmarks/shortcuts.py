"""Can synthetic clips be solved without comparing audio and video?  Prints JSON.

    zoo data synth clips --clips 600 --seed 77
    python benchmarks/shortcuts.py clips/manifest.parquet

Needs a manifest with events; renders 200 clips if there is none.  A 600-clip folder takes 40 s.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import chisquare

from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.data.manifest import Clip, Manifest
from zoo.media import decode
from zoo.timeline import OffsetGrid, Placement, Sample, SegmentLayout, place_crops

FPS = 25
SAMPLE_RATE_HZ = 16_000
HOP_S = 1 / FPS
LAYOUT, GRID = SegmentLayout(), OffsetGrid()
CROP_FRAMES = round(LAYOUT.covered_s * FPS)
BANDS_HZ = (0, 300, 900, 2500, 8000)
SAMPLES = {"train": 24, "test": 40}
PRODUCTS = {  # columns of Curves.vision and Curves.audio
    "brightness_times_loudness": (0, 4),
    "brightness_change_times_rise": (1, 5),
    "motion_times_rise": (2, 5),
}
POOL = 5  # frames per feature: 24 bins of 0.2 s in a crop

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """What simple measurements see in one clip, one row per video frame."""

    clip: Clip
    vision: Array
    """Mean brightness, its change, mean absolute change of the pixels, sharpness, colours."""
    audio: Array
    """Log energy in four bands, loudness, rise of the loudness."""


def measure(clip: Clip) -> Curves:
    window = decode(clip.path)
    assert window.frames is not None
    assert window.samples is not None
    pixels = window.frames.astype(np.float32)
    luma = pixels.mean(axis=(1, 2, 3))
    flicker = np.abs(np.diff(luma, prepend=luma[:1]))
    motion = np.abs(np.diff(pixels, axis=0, prepend=pixels[:1])).mean(axis=(1, 2, 3))
    sharpness = np.abs(np.diff(pixels, axis=2)).mean(axis=(1, 2, 3))
    colours = pixels.mean(axis=(1, 2))
    vision = np.column_stack([luma, flicker, motion, sharpness, colours])
    blocks = window.samples[: len(pixels) * SAMPLE_RATE_HZ // FPS].reshape(len(pixels), -1)
    power = np.abs(np.fft.rfft(blocks * np.hanning(blocks.shape[1]), axis=1)) ** 2
    hz = np.fft.rfftfreq(blocks.shape[1], 1 / SAMPLE_RATE_HZ)
    edges = np.searchsorted(hz, BANDS_HZ)
    bands = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-9)
    loudness = np.log((blocks**2).mean(axis=1) + 1e-9)
    rise = np.maximum(0, np.diff(loudness, prepend=loudness[:1]))
    return Curves(clip, vision, np.column_stack([bands, loudness, rise]))


def event_frames(clip: Clip, num_frames: int) -> NDArray[np.bool_]:
    """Mark the last frame before each event and the first after it."""
    marks = np.zeros(num_frames, bool)
    for event_s in clip.events_s or ():
        first = int(event_s * FPS)
        marks[first : first + 2] = True
    return marks


def auc(scores: Array, marks: NDArray[np.bool_]) -> float:
    """Probability that a marked frame scores higher than another one: 0.5 says nothing."""
    ranks = np.empty(scores.size)
    ranks[np.argsort(scores)] = np.arange(scores.size)
    marked = int(marks.sum())
    best = ranks[marks].sum() - marked * (marked - 1) / 2
    return float(best / marked / (scores.size - marked))


def read_events(all_curves: list[Curves]) -> dict[str, float]:
    """How well single numbers per frame give the events away, on average over clips."""
    answers: dict[str, list[float]] = {}
    for curves in all_curves:
        marks = event_frames(curves.clip, len(curves.vision))
        luma, flicker, motion = (curves.vision[1:, i] for i in range(3))
        marks = marks[1:]
        if not marks.any():
            continue  # all its events lie beside it
        for name, value in {
            "corr_brightness": np.corrcoef(luma, marks)[0, 1],
            "corr_brightness_change": np.corrcoef(flicker, marks)[0, 1],
            "brightness_change_at_events": flicker[marks].mean(),
            "brightness_change_elsewhere": flicker[~marks].mean(),
            "auc_brightness_change": auc(flicker, marks),
            "auc_motion": auc(motion, marks),
            "auc_loudness_rise": auc(curves.audio[1:, 5], marks),
        }.items():
            answers.setdefault(name, []).append(float(value))
    return {name: round(float(np.mean(values)), 3) for name, values in answers.items()}


def describe_events(clips: tuple[Clip, ...]) -> dict[str, object]:
    times_s = np.concatenate([clip.events_s or () for clip in clips])
    counts, _ = np.histogram(times_s, bins=9, range=(0, clips[0].duration_s))
    return {
        "per_clip": round(len(times_s) / len(clips), 2),
        "histogram_over_mean": [round(float(c), 3) for c in counts / counts.mean()],
        "chi2_p": round(float(chisquare(counts).pvalue), 3),
    }


def crop(curve: Array, start_s: float) -> Array:
    first = round(start_s * FPS)
    return curve[first : first + CROP_FRAMES]


def pooled(curve: Array) -> Array:
    return curve.reshape(CROP_FRAMES // POOL, POOL, -1).mean(axis=1).ravel()


def sample(all_curves: list[Curves], num: int, seed: int) -> list[Sample]:
    rng, place = np.random.default_rng(seed), Placement(LAYOUT, HOP_S, HOP_S)
    return [
        place_crops(rng, index, curves.clip.duration_s, place, GRID.offsets_s[target], target)
        for index, curves in enumerate(all_curves)
        for _ in range(num)
        for target in [int(rng.integers(GRID.num_classes))]
    ]


def features(all_curves: list[Curves], samples: list[Sample], modality: str) -> torch.Tensor:
    rows = [
        pooled(crop(all_curves[d.clip].vision, d.vision_start_s))
        if modality == "vision"
        else pooled(crop(all_curves[d.clip].audio, d.audio_start_s))
        for d in samples
    ]
    return torch.tensor(np.array(rows), dtype=torch.float32)


def classify(x: torch.Tensor, y: torch.Tensor, test: torch.Tensor, hidden: int) -> torch.Tensor:
    """Fit a (for hidden=0, logistic) classifier and return its classes for the test crops."""
    torch.manual_seed(0)
    layers = (
        [torch.nn.Linear(x.shape[1], hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, y.max() + 1)]
        if hidden
        else [torch.nn.Linear(x.shape[1], int(y.max()) + 1)]
    )
    model = torch.nn.Sequential(*layers)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    mean, std = x.mean(0), x.std(0) + 1e-6
    x, test = (x - mean) / std, (test - mean) / std
    for _ in range(200):
        rows = torch.randint(len(x), (2048,))
        loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model(test).argmax(dim=1)


def read_offset(train: list[Curves], test: list[Curves]) -> dict[str, object]:
    """Predict offset class, and place of the crop in its clip, from one stream alone."""
    samples = {
        "train": sample(train, SAMPLES["train"], 1),
        "test": sample(test, SAMPLES["test"], 2),
    }
    target = {k: torch.tensor([d.target for d in v]) for k, v in samples.items()}
    answers: dict[str, object] = {}
    for modality in ("audio", "vision"):
        x = {k: features(c, samples[k], modality) for k, c in (("train", train), ("test", test))}
        starts = {k: [getattr(d, f"{modality}_start_s") for d in v] for k, v in samples.items()}
        late = {k: (torch.tensor(v) > np.median(starts["train"])).long() for k, v in starts.items()}
        for name, hidden in (("logistic", 0), ("mlp", 64)):
            predicted = classify(x["train"], target["train"], x["test"], hidden)
            place = classify(x["train"], late["train"], x["test"], hidden)
            answers[f"{modality}_{name}"] = {
                "offset_top1": percent(predicted == target["test"]),
                "offset_within_1": percent((predicted - target["test"]).abs() <= 1),
                "late_half_of_clip": percent(place == late["test"]),
            }
    for name, (vision, audio) in PRODUCTS.items():
        predicted = torch.tensor([correlate(test, d, vision, audio) for d in samples["test"]])
        answers[name] = {
            "offset_top1": percent(predicted == target["test"]),
            "offset_within_1": percent((predicted - target["test"]).abs() <= 1),
        }
    answers["samples_without_common_event"] = percent(
        torch.tensor([not shares_event(test, d) for d in samples["test"]])
    )
    answers["chance"] = {
        "offset_top1": round(100 / GRID.num_classes, 1),
        "offset_within_1": round(100 * (3 * GRID.num_classes - 2) / GRID.num_classes**2, 1),
        "late_half_of_clip": 50.0,
        "standard_error_top1": round(100 * (0.0476 * 0.9524 / len(samples["test"])) ** 0.5, 1),
    }
    return answers


def shares_event(all_curves: list[Curves], d: Sample) -> bool:
    first_s = max(d.vision_start_s, d.audio_start_s)
    last_s = min(d.vision_start_s, d.audio_start_s) + LAYOUT.covered_s
    return any(first_s <= event_s < last_s for event_s in all_curves[d.clip].clip.events_s or ())


def correlate(all_curves: list[Curves], d: Sample, vision: int, audio: int) -> int:
    """Compare two curves for every offset, without any training; the sign of the match is free."""
    seen = crop(all_curves[d.clip].vision[:, vision], d.vision_start_s)
    heard = crop(all_curves[d.clip].audio[:, audio], d.audio_start_s)
    seen, heard = seen - seen.mean(), heard - heard.mean()
    scores = []
    for offset_s in GRID.offsets_s:
        lag = round(offset_s * FPS)
        a = seen[max(0, lag) : CROP_FRAMES + min(0, lag)]
        b = heard[max(0, -lag) : CROP_FRAMES - max(0, lag)]
        scores.append(abs(float(a @ b)))
    return int(np.argmax(scores))


def percent(hits: torch.Tensor) -> float:
    return round(100 * float(hits.float().mean()), 1)


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        manifest = Manifest.read(Path(sys.argv[1]))
        print(json.dumps(examine(manifest), indent=2))
        return
    with tempfile.TemporaryDirectory() as folder:
        config = SyntheticConfig(seed=77)
        manifest = render_folder(Path(folder) / "clips", config, 200, {"test": 1})
        print(json.dumps(examine(manifest), indent=2))


def examine(manifest: Manifest) -> dict[str, Any]:
    curves = [measure(clip) for clip in manifest.clips]
    half = len(curves) // 2
    return {
        "clips": len(curves),
        "events": describe_events(manifest.clips),
        "events_from_one_number_per_frame": read_events(curves),
        "offset_from_one_stream": read_offset(curves[:half], curves[half:]),
    }


if __name__ == "__main__":
    main()
