"""What a row of a manifest may say of a clip: its length, labels and events."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.data.manifest import Event

LENGTH_TOLERANCE_S = 0.04  # a frame at 25 fps


def describe_length(duration_s: float, length_s: tuple[float, float] | None) -> str | None:
    """Say why a clip is too short or too long for its data set; None where it is neither."""
    shortest_s, longest_s = length_s or (0.0, math.inf)
    if duration_s < shortest_s - LENGTH_TOLERANCE_S:
        return f"too short: {duration_s:.2f} s, the data set has clips of {shortest_s:g} s and more"
    if duration_s > longest_s + LENGTH_TOLERANCE_S:
        return f"too long: {duration_s:.2f} s, expected at most {longest_s:g} s; cut the clip first"
    return None


def describe_classes(
    labels: Iterable[str] | None, events: Iterable[Event] | None, duration_s: float
) -> str | None:
    """Say which label or event of a clip of this length cannot be; None where all can."""
    if any(not label.strip() for label in labels or ()):
        return "has an empty label"
    for event in events or ():
        what = f"has a wrong event: '{event.label}' from {event.start_s:g} to {event.end_s:g} s"
        if not event.label.strip():
            return f"{what} has no label"
        if event.start_s > duration_s + LENGTH_TOLERANCE_S:
            start = f"'{event.label}' starts at {event.start_s:g} s"
            return f"has a wrong event: {start}, after the clip ({duration_s:.2f} s)"
        if not 0 <= event.start_s < event.end_s:  # false for NaN too
            return f"{what} must start at 0 or later and end after its start"
        if event.end_s > duration_s + LENGTH_TOLERANCE_S:
            return f"{what} ends after the clip ({duration_s:.2f} s)"
    return None


def close_events(events: Iterable[Event], duration_s: float) -> tuple[Event, ...]:
    """Let events that last to the end of a clip end with it."""
    return tuple(e._replace(end_s=duration_s) if math.isinf(e.end_s) else e for e in events)


def describe_onsets(events_s: Iterable[float] | None, duration_s: float) -> str | None:
    """Say which onset lies outside a clip of this length; None where none does."""
    for at_s in events_s or ():
        if not 0 <= at_s <= duration_s + LENGTH_TOLERANCE_S:
            return f"has a wrong event: {at_s:g} s is outside the clip ({duration_s:.2f} s)"
    return None


def describe_name(stored_path: str) -> str | None:
    """Say why a path cannot be written into a manifest; None if it can."""
    try:
        stored_path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8, as all text of a manifest is; rename it"
    return None
