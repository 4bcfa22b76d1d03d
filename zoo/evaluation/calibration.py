"""How often a model that finds offsets is right when it says so, and how to mend what it says."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoo.data.clip_source import read_segments
from zoo.data.samples import SampleSource
from zoo.data.sampling import slot_rng
from zoo.errors import MediaError
from zoo.inference.estimate import average, conclude
from zoo.models.calibration import Calibration, Familiarity, tempered
from zoo.models.model import FAMILIAR, Model
from zoo.models.segments import Tokens
from zoo.timeline import OffsetGrid, Sample, place_crops

log = logging.getLogger(__name__)
WINDOWS = (1, 2, 4, 8)  # that are averaged
MOST, MOST_ONLINE = 256, 32  # offsets to tell; files take longer to read than a store
FEWEST = 20  # clips; fewer say nothing
BINS = 10
CALIBRATION = 5  # the "stage" of the random numbers
LOWEST, HIGHEST, HALVINGS = 0.05, 20.0, 12  # temperatures, to half a percent


@dataclass(frozen=True)
class Answers:
    """What a model says of clips whose offset is known.

    Attributes:
        probabilities: of the classes, for W windows of each of N clips ``(N, W, K)``.
        targets: right classes ``(N,)``.
        clips: which clip each is ``(N,)``; several offsets of one may be asked for.
        audio: tokens of the first window of each.
        vision: the same.
    """

    probabilities: Float[Tensor, "N W K"]
    targets: Int[Tensor, N]
    clips: Int[Tensor, N]
    audio: Tokens
    vision: Tokens


@torch.no_grad()
def ask(model: Model, source: SampleSource, grid: OffsetGrid, seed: int) -> Answers | None:
    """Ask a model about windows of clips, each clip at one random offset of the grid.

    Args:
        model: in eval mode.
        source: of the clips, which are in sync.
        grid: of the offsets.
        seed: of offsets and windows.

    Returns:
        The answers, or None if there are too few clips to say anything.
    """
    if len(source.usable) < FEWEST:
        return None
    most = MOST if source.store is not None else MOST_ONLINE
    order = slot_rng(seed, CALIBRATION, 0, len(source.usable)).permutation(source.usable)
    rounds = -(-most // len(order))
    wanted = [(number, int(clip)) for number in range(rounds) for clip in order][:most]
    found, targets, clips = [], [], []
    for number, clip in wanted:
        rng = slot_rng(seed, CALIBRATION, number, clip)
        target = int(rng.integers(grid.num_classes))
        length_s, offset_s = source.durations_s[clip], grid.offsets_s[target]
        samples = [
            place_crops(rng, clip, length_s, source.place, offset_s, target)
            for _ in range(max(WINDOWS))
        ]
        try:
            sides = zip(*_tokens(model, source, samples), strict=True)
            tokens = [Tokens.stack(parts) for parts in sides]
        except MediaError as error:
            log.warning("%s is left out: %s", source.clips.clips[clip].path.name, error)
            continue
        audio, vision = (part.to(model.device) for part in tokens)
        outputs = model.answer(audio, vision).float().cpu()
        found.append((outputs.softmax(1), *(part.with_values(part.values[:1]) for part in tokens)))
        targets.append(target)
        clips.append(clip)
    if len(set(clips)) < FEWEST:
        return None
    probabilities, audios, visions = zip(*found, strict=True)
    return Answers(
        torch.stack(probabilities),
        torch.tensor(targets),
        torch.tensor(clips),
        Tokens.stack(audios),
        Tokens.stack(visions),
    )


def _tokens(
    model: Model, source: SampleSource, samples: Sequence[Sample]
) -> Iterator[tuple[Tokens, Tokens]]:
    """Yield the tokens of windows, on the CPU."""
    for sample in samples:
        if source.store is not None:
            audio, vision = source.store.tokens(sample, source.layout)
            yield (
                Tokens.of_segments(audio, len(audio), model.io.audio.tokens).float(),
                Tokens.of_segments(vision, len(vision), model.io.vision.tokens).float(),
            )
        else:
            clip = source.clips.clips[sample.clip]
            segments = read_segments(source.clips.reader, clip, sample, source.layout)
            pair = model.encoder.encode_many(segments.to(model.device))
            yield pair[0].float().to("cpu"), pair[1].float().to("cpu")


def fit(answers: Answers, grid: OffsetGrid) -> Calibration:
    """Find the temperature for each number of windows at which confidence is as high as accuracy.

    Both on average over all answers.  One clip more on either side, right and wrong, counts as well
    (Laplace's rule of succession): a few clips without a mistake do not make a model infallible.
    More windows never get a lower temperature than fewer: a model that is wrong about a clip, or
    hears the sound of another one, is often wrong in all of its windows, and must not be surer of
    it because the clip is longer.

    Source: expectation consistency, Clarté et al. (2023), section 2, with our confidence.
    """
    temperatures: list[float] = []
    num_clips = len(answers.clips.unique())
    for num in WINDOWS:
        means = _averages(answers.probabilities, num)
        is_right = _judge(means, answers.targets, grid, 1.0)[1]
        wanted = (is_right.mean() * num_clips + 1) / (num_clips + 2)
        low, high = LOWEST, HIGHEST
        for _ in range(HALVINGS):
            middle = math.sqrt(low * high)
            is_too_sure = _judge(means, answers.targets, grid, middle)[0].mean() > wanted
            low, high = (middle, high) if is_too_sure else (low, middle)
        temperatures.append(round(max([math.sqrt(low * high), *temperatures[-1:]]), 4))
    return Calibration(windows=WINDOWS, temperatures=tuple(temperatures), clips=num_clips)


def calibrate(model: Model, source: SampleSource, grid: OffsetGrid) -> bool:
    """Find out what a model's probabilities are worth, and which tokens are usual; False if not.

    Args:
        model: in eval mode; keeps what is found.
        source: clips in sync that it was not trained on, more than a few.
        grid: of the offsets.
    """
    answers = ask(model, source, grid, source.seed)
    if answers is None:
        return False
    learn(model, answers, grid)
    return True


def learn(model: Model, answers: Answers, grid: OffsetGrid) -> None:
    """Let a model keep its temperatures, and which tokens are usual."""
    model.calibration = fit(answers, grid)
    tensors = Familiarity.fit(answers.audio, answers.vision, answers.clips).tensors
    model.beside[FAMILIAR] = lambda: tensors


def _averages(probabilities: Float[Tensor, "N W K"], num_windows: int) -> Float[Tensor, "N K"]:
    return torch.stack([average(p[:num_windows]) for p in probabilities])


def _judge(
    means: Float[Tensor, "N K"], targets: Int[Tensor, N], grid: OffsetGrid, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return how sure a model is of every clip, and whether it is right to within a class."""
    distributions = tempered(means, temperature)
    best, _, confidence = conclude(distributions, grid.offsets_s, grid.step_s)
    return confidence.numpy(), ((best - targets).abs() <= 1).numpy()


def measure(
    probabilities: Float[Tensor, "N W K"],
    targets: Int[Tensor, N],
    grid: OffsetGrid,
    calibration: Calibration | None,
) -> list[dict[str, Any]]:
    """Measure confidence against how often the offset lies within a class of what was said.

    Args:
        probabilities: of the classes, for W windows of each of N clips.
        targets: right classes.
        grid: of the offsets.
        calibration: of the model, if it has one.

    Returns:
        For each number of windows, without temperatures and, where there are some, with them:
        ``windows``, ``is_calibrated``, ``temperature``, and what `reliability` finds.
    """
    rows = []
    for num in [num for num in WINDOWS if num <= probabilities.shape[1]]:
        means = _averages(probabilities, num)
        for given in (None, calibration) if calibration is not None else (None,):
            temperature = 1.0 if given is None else given.temperature(num)
            about = {
                "windows": num,
                "is_calibrated": given is not None,
                "temperature": temperature,
            }
            rows.append(about | reliability(*_judge(means, targets, grid, temperature)))
    return rows


def reliability(confidences: np.ndarray, is_right: np.ndarray) -> dict[str, Any]:
    """Compare confidences ``(N,)`` with whether each answer was right ``(N,)``.

    Returns:
        ``ece`` (expected calibration error, Guo et al. 2017, section 2), the means ``confidence``
        and ``right``, ``count``, and ``bins`` of confidence with these three each.
    """
    places = np.minimum((confidences * BINS).astype(int), BINS - 1)
    bins = [
        {
            "confidence": float(confidences[places == place].mean()),
            "right": float(is_right[places == place].mean()),
            "count": int((places == place).sum()),
        }
        for place in range(BINS)
        if (places == place).any()
    ]
    gaps = [part["count"] * abs(part["confidence"] - part["right"]) for part in bins]
    return {
        "ece": float(sum(gaps) / len(confidences)),
        "confidence": float(confidences.mean()),
        "right": float(is_right.mean()),
        "count": len(confidences),
        "bins": bins,
    }
