"""Charts as inline SVG: they follow the page's colours, dark or light, and its width."""

from __future__ import annotations

import math
from html import escape

from demo.sentences import offset_words
from zoo.inference.prediction import Prediction
from zoo.timeline import clock_time

Mark = tuple[float, str]  # where on an axis, 0 to 1, and what is written there
TIME_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, math.inf)
MOST_TICKS = 6
NEAR_END = 0.98  # a label centred from there on would stick out
SHADES = 5  # how sure a crop is, in steps of opacity


def distribution_chart(prediction: Prediction) -> str:
    """Draw the probability of every offset."""
    offsets_s = list(prediction.distribution)
    probabilities = list(prediction.distribution.values())
    low_s, high_s = offsets_s[0], offsets_s[-1]
    top = max(probabilities)
    xs = [(offset_s - low_s) / (high_s - low_s) for offset_s in offsets_s]
    ys = [p / top for p in probabilities]
    line = " ".join(f"{1000 * x:.1f},{100 - 92 * y:.1f}" for x, y in zip(xs, ys, strict=True))
    best = min(1.0, max(0.0, (prediction.refined_s - low_s) / (high_s - low_s)))
    drawing = (
        _line(1000 * -low_s / (high_s - low_s), "zero")
        + f'<polygon class="area" points="0,100 {line} 1000,100"/>'
        + f'<polyline class="curve" points="{line}"/>'
        + _line(1000 * best, "answer-line")
    )
    ticks = [(x, f"{_signed(offset_s)} s") for x, offset_s in _spread(xs, offsets_s, 5)]
    words = offset_words(prediction.refined_s)
    return _chart(
        "How probable every offset is",
        f"Probability of offsets from {low_s:g} to {high_s:g} s; highest near: {words}",
        drawing,
        ticks,
        ends=("audio late", "audio early"),
        flag=(best, words),
    )


def over_time_chart(prediction: Prediction, window_s: float) -> str:
    """Draw the offset of every crop at the crop's middle, and the stretches or the drift."""
    end_s = max(prediction.duration_s, window_s)
    drift = prediction.over_time.drift
    values_s = [w.offset_s for w in prediction.windows]
    values_s += [] if drift is None else [drift.start_offset_s, drift.end_offset_s]
    low_s, high_s = min(*values_s, -0.5), max(*values_s, 0.5)
    margin_s = 0.1 * (high_s - low_s)
    low_s, high_s = low_s - margin_s, high_s + margin_s

    def x(time_s: float) -> float:
        return 1000 * time_s / end_s

    def y(offset_s: float) -> float:
        return 100 * (high_s - offset_s) / (high_s - low_s)

    drawing = f'<path class="zero" d="M0 {y(0):.1f}H1000"/>'
    if drift is not None:
        drawing += f'<path class="stretch" d="M0 {y(drift.start_offset_s):.1f}'
        drawing += f'L1000 {y(drift.end_offset_s):.1f}"/>'
    else:
        for s in prediction.over_time.stretches:
            drawing += f'<path class="stretch" d="M{x(s.start_s):.1f} {y(s.offset_s):.1f}'
            drawing += f'H{x(s.end_s):.1f}"/>'
    shades: dict[int, list[str]] = {}
    for window in prediction.windows:
        shade = 1 + min(SHADES - 1, int(SHADES * window.probability))
        dot = f"M{x(window.start_s + window_s / 2):.1f} {y(window.offset_s):.1f}h.01"
        shades.setdefault(shade, []).append(dot)
    drawing += "".join(
        f'<path class="dots shade{shade}" d="{"".join(dots)}"/>'
        for shade, dots in sorted(shades.items())
    )
    step_s = next(s for s in TIME_STEPS_S if end_s / s <= MOST_TICKS)
    times = [(i * step_s / end_s, clock_time(i * step_s)) for i in range(int(end_s / step_s) + 1)]
    levels = [(y(v) / 100, _signed(v)) for v in _round_levels(low_s, high_s)]
    return _chart(
        "The offset along the clip, s",
        f"Offset over time: {prediction.over_time.meaning}",
        drawing,
        times,
        levels=levels,
        ends=("", ""),
        legend=True,
    )


def _chart(
    title: str,
    description: str,
    drawing: str,
    ticks: list[Mark],
    *,
    ends: tuple[str, str],
    levels: list[Mark] | None = None,
    flag: Mark | None = None,
    legend: bool = False,
) -> str:
    """Put axes in HTML around a drawing of 1000 by 100, which is stretched to the page."""
    below = "".join(_tick(at, text) for at, text in ticks)
    left = "".join(
        f'<span style="top:{100 * at:.1f}%">{escape(text)}</span>' for at, text in levels or []
    )
    flagged = ""
    if flag is not None:
        side = "left" if flag[0] > 0.5 else "right"
        flagged = f'<b class="{side}" style="left:{100 * flag[0]:.1f}%">{escape(flag[1])}</b>'
    key = (
        '<p class="key"><span class="key-dot"></span>one crop; pale: unsure '
        '<span class="key-line"></span>all crops together</p>'
        if legend
        else ""
    )
    names = f"<p class='ends'><span>{ends[0]}</span><span>{ends[1]}</span></p>" if ends[0] else ""
    return (
        f'<figure class="chart{" has-levels" if levels else ""}"><figcaption>{escape(title)}'
        f'</figcaption><div class="levels">{left}</div><div class="plot">'
        f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(description)}">{drawing}</svg>{flagged}</div>'
        f'<div class="ticks">{below}</div>{names}{key}</figure>'
    )


def _tick(at: float, text: str) -> str:
    edge = "first" if at == 0 else "last" if at > NEAR_END else ""
    return f'<span class="{edge}" style="left:{100 * at:.1f}%">{escape(text)}</span>'


def _line(x: float, name: str) -> str:
    return f'<path class="{name}" d="M{x:.1f} 0V100"/>'


def _spread(xs: list[float], values: list[float], count: int) -> list[tuple[float, float]]:
    """Choose values at equal distances, both ends among them."""
    indices = [round(i * (len(values) - 1) / (count - 1)) for i in range(count)]
    return [(xs[i], values[i]) for i in indices]


def _round_levels(low: float, high: float) -> list[float]:
    """Return few round values between two limits."""
    step = next(
        s for s in (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0) if (high - low) / s <= 6 or s == 30
    )
    first = int(low / step) - 1
    values = [round((first + i) * step, 6) for i in range(12)]
    return [v for v in values if low <= v <= high]


def _signed(value: float) -> str:
    return f"{value:+g}".replace("-", "−") if value else "0"
