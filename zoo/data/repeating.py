"""Sound and picture that repeat with one period: after which time, and which offset fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zoo.data.lags import correlate

Array = npt.NDArray[np.float64]

SAME = 0.75  # correlation of what repeats with itself, one period later
SHORTEST_PERIOD_S, FEWEST_PERIODS = 0.2, 3
IN_PARTS = 0.65  # of the power of both in the harmonics of a part of a period: product of shares
PHASE_STEP_S = 0.01
SMOOTH_S = 0.04  # of onsets and changes, before they are compared


@dataclass(frozen=True)
class Repeating:
    """How sound and picture repeat.

    Attributes:
        period_s: after which both do, seconds.
        offset_s: the offset from 0 up to a period at which onsets of the sound fall on changes of
            the picture, seconds; so do all others that differ from it by whole periods.
    """

    period_s: float
    offset_s: float


def find_repeating(
    sound: Array, picture: Array, bin_s: float, longest_s: float
) -> Repeating | None:
    """Return the shortest period of two tracks; None if they have none in common.

    Args:
        sound: onset strength in every bin, NaN where nothing was read.
        picture: change between frames, likewise.
        bin_s: length of a bin, seconds.
        longest_s: look for no longer period, seconds.
    """
    num = min(len(sound), len(picture))
    if not num:
        return None
    sound, picture = sound[:num], picture[:num]
    likeness = np.minimum(
        *(correlate(track, track, num - 1)[0][num - 1 :] for track in (sound, picture))
    )
    first = round(SHORTEST_PERIOD_S / bin_s)
    last = min(round(longest_s / bin_s), len(likeness) // FEWEST_PERIODS)
    for lag in range(first, last + 1):
        nearby = likeness[lag - 1 : lag + 2]
        if likeness[lag] >= SAME and likeness[lag] == nearby.max():
            return _placed(sound, picture, _refined(likeness, lag), bin_s)
    return None


def _placed(sound: Array, picture: Array, period: float, bin_s: float) -> Repeating:
    """Return the shortest part of a period (in bins) that is one, and the offset that fits.

    A period that is no multiple of a bin is found first where a multiple of it is nearly one.
    """
    numbers = np.arange(1, 1 + int(period / 2))  # of the harmonics
    waves = [np.exp(-2j * np.pi * n / period * np.arange(len(sound))) for n in numbers]
    smooth = np.exp(-0.5 * (2 * np.pi * numbers * SMOOTH_S / (period * bin_s)) ** 2)
    a, v = (
        smooth * np.asarray([np.nan_to_num(track - np.nanmean(track)) @ wave for wave in waves])
        for track in (sound, picture)
    )
    power = np.abs(np.stack([a, v])) ** 2  # (2, numbers)
    parts = 1
    for count in range(2, 1 + int(period * bin_s / SHORTEST_PERIOD_S)):
        share = power[:, count - 1 :: count].sum(axis=1) / power.sum(axis=1)
        if share.prod() >= IN_PARTS:
            parts = count
    period_s = float(period * bin_s / parts)
    offsets_s = np.arange(0, period_s, PHASE_STEP_S)
    turns = np.exp(2j * np.pi * numbers[:, None] * offsets_s / (period * bin_s))
    fit = ((v * a.conj())[:, None] * turns).real.sum(axis=0)
    return Repeating(period_s, float(offsets_s[fit.argmax()]))


def _refined(likeness: Array, lag: int) -> float:
    """Place a period between the bins, by the last of its multiples that still stands out."""
    period = float(lag)
    for number in range(1, len(likeness) // FEWEST_PERIODS // lag + 1):
        nearest = round(number * period)
        around = np.arange(max(1, nearest - 1), min(nearest + 2, len(likeness) - 1))
        peak = int(around[likeness[around].argmax()])
        left, middle, right = likeness[peak - 1 : peak + 2]
        bend = left - 2 * middle + right
        if middle < SAME or bend >= 0:
            break
        period = (peak + 0.5 * (left - right) / bend) / number
    return period
