"""How alike two tracks are when one is moved against the other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BLUR = np.asarray([1, 2, 3, 2, 1]) / 9  # so that half a bin more or less is no difference


def correlate(one: Array, other: Array, longest: int) -> tuple[Array, Array]:
    """Correlate two tracks, slightly blurred, at every lag, over what was read of both.

    Args:
        one: a value in every bin ``(T,)``, NaN where nothing was read.
        other: likewise, as many bins.
        longest: lag to look at, bins, below T.

    Returns:
        For lags from ``-longest`` to ``longest``, at which bin t of the first track meets bin t +
        lag of the other: the correlation, -1 to 1, and how many bins meet.
    """
    size = 2 * len(one)
    (first, first_power, is_first), (second, second_power, is_second) = (
        [np.fft.rfft(x, size) for x in (values, values**2, is_read)]
        for values, is_read in (_centred(one), _centred(other))
    )
    lags = np.arange(-longest, longest + 1)
    products, before, after, meet = (
        np.fft.irfft(a.conj() * b, size)[lags]
        for a, b in (
            (first, second),
            (first_power, is_second),
            (is_first, second_power),
            (is_first, is_second),
        )
    )
    power = (before.clip(0.0) * after.clip(0.0)) ** 0.5
    meet = np.rint(meet)
    is_known = (power > 1e-6 * power.max(initial=0.0)) & (meet > 0)
    return np.where(is_known, products / power.clip(1e-12), 0.0), meet


def refine(values: Array, peak: int) -> float:
    """Place a peak between the bins, by a parabola through it and its neighbours."""
    if not 0 < peak < len(values) - 1:
        return float(peak)
    left, middle, right = values[peak - 1 : peak + 2]
    bend = left - 2 * middle + right
    return peak + (0.5 * float((left - right) / bend) if bend < 0 else 0.0)


def _centred(track: Array) -> tuple[Array, Array]:
    """Return a track without its mean, 0 where nothing was read, and 1 where something was."""
    is_read = np.isfinite(track)
    mean = track[is_read].mean() if is_read.any() else 0.0
    return np.convolve(np.where(is_read, track - mean, 0.0), BLUR, "same"), is_read.astype(float)
