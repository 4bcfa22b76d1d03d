"""What a copy with shifted sound has lost, gained or moved."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from av.stream import Disposition

from tests.cases.plain import Content, Track

HIDES = {".mp4", ".m4v", ".mov"}  # what lies before time 0
SAYS_NO_LANGUAGE = {".mp4", ".mov", ".3gp"}  # as "und"
ROUNDED_S = 0.003
NOT_COMPARED = {"white", "frame", "profile"}
TRUE_S = 0.011  # between the truth and what decoders give
VAGUE_S = 0.04  # where a container does not say how long its decoder takes
LATER_S = 0.15
FAR_START_S = 10.0
PRIMING_S = 0.15  # of an encoder, which may be heard where the sound begins later
OWN_START = {".ts": 1.6, ".mpg": 0.6}  # containers that do not begin at 0


def differences(
    original: Content, copy: Content, told: dict[str, Any], delay_s: float, suffix: str,
    said: list[str],
) -> Iterator[str]:  # fmt: skip
    """Name what a copy has lost, gained or moved."""
    yield from _tracks_that_differ(original, copy, suffix, said)
    yield from _tags_that_differ(original, copy, said)
    has_film = any(not track.is_cover for track in original.of("video"))
    if len(copy.of("video")) != len(original.of("video")) or not has_film:
        return
    films = original.film, copy.film
    yield from _pictures_that_differ(films, told, delay_s, suffix)
    if not copy.film.times_s:
        return
    yield from _texts_that_differ(original, copy, copy.film.times_s[0] - original.film.times_s[0])
    for one, other in zip(original.of("audio"), copy.of("audio"), strict=False):
        wanted = _wanted_clicks(one, films[0], told)
        yield from _sound_that_differs(
            one, other, wanted, delay_s, suffix, copy.film, original.begin_s
        )
    shown = [t for t in copy.of("video") + copy.of("audio") if t.times_s and not t.is_cover]
    begin_s, end_s = min(t.times_s[0] for t in shown), max(t.end_s for t in shown)
    exact_s = 1.0 if suffix == ".mpg" else 0.3  # where FFmpeg guesses
    claimed_s = copy.length_s or 0.0
    if not end_s - max(begin_s, 0.0) - exact_s < claimed_s < end_s + exact_s:
        yield f"claims {claimed_s:.2f} s, and is shown from {begin_s:.2f} to {end_s:.2f} s"


def _texts_that_differ(original: Content, copy: Content, moved_s: float) -> Iterator[str]:
    """Compare subtitles and chapters, which move with the picture."""
    for one, other in zip(original.of("subtitle"), copy.of("subtitle"), strict=False):
        if one.digests != other.digests:
            yield f"subtitles {other.digests} instead of {one.digests}"
        elif _furthest(np.subtract(other.times_s, one.times_s) - moved_s) > ROUNDED_S:
            yield f"subtitles at {other.times_s}"
    titles = [[title for title, _ in content.chapters] for content in (original, copy)]
    if titles[0] != titles[1]:
        yield f"chapters {titles[1]} instead of {titles[0]}"
        return
    times = [np.array([start for _, start in c.chapters]) for c in (original, copy)]
    if _furthest(times[1] - times[0] - moved_s) > PRIMING_S:  # which muxers add to all packets
        yield f"chapters at {times[1].tolist()}"


def _furthest(values: Any) -> float:
    return float(np.abs(values).max()) if np.size(values) else 0.0


def _tracks_that_differ(
    original: Content, copy: Content, suffix: str, said: list[str]
) -> Iterator[str]:
    for kind in ("video", "audio", "subtitle", "attachment"):
        ours, theirs = original.of(kind), copy.of(kind)
        if len(ours) != len(theirs):
            yield f"{len(theirs)} instead of {len(ours)} {kind} tracks"
            continue
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True), 1):
            has_default = len(ours) > 1 and any(t.marks & Disposition.default for t in ours)
            for difference in _track_differences(one, other, suffix, has_default=has_default):
                yield f"{kind} {number}: {difference}"
    with_chapters = suffix in HIDES and bool(copy.chapters)
    nameless = [
        t for t in copy.tracks if t.kind not in {"video", "audio", "subtitle", "attachment"}
    ]
    if len(nameless) > max(int(with_chapters), len(original.of("data"))):
        yield f"{len(nameless)} nameless streams"
    lost = [t for t in original.tracks if t.kind in {"audio", "video"} and t.codec is None]
    if lost and not any("left out" in sentence for sentence in said):
        yield "a track is missing without a word"


def _track_differences(
    one: Track, other: Track, suffix: str, *, has_default: bool
) -> Iterator[str]:
    if one.codec != other.codec:
        yield f"codec {other.codec} instead of {one.codec}"
    languages = [
        None if track.language == "und" and suffix in SAYS_NO_LANGUAGE else track.language
        for track in (one, other)
    ]
    if "und" in (one.language, other.language) and languages[0] in {None, "und"}:
        languages = [None, "und" if languages[1] == "und" and one.language != "und" else None]
    if languages[0] != languages[1]:
        yield f"language {other.language} instead of {one.language}"
    if one.title != other.title:
        yield f"title {other.title} instead of {one.title}"
    mask = ~Disposition(0) if has_default else ~Disposition.default
    if (one.marks ^ other.marks) & mask:
        yield f"marks {other.marks!r} instead of {one.marks!r}"
    for name in sorted((one.facts.keys() | other.facts.keys()) - NOT_COMPARED):
        if name in {"sample_rate", "layout"} and suffix == ".ts" and one.codec == "aac":
            continue  # ADTS leaves it to the decoder to find out about HE-AAC
        if name == "codec_tag" and {one.facts[name], other.facts[name]} != {"hvc1", "hev1"}:
            continue
        if one.facts.get(name) != other.facts.get(name):
            yield f"{name} {other.facts.get(name)} instead of {one.facts.get(name)}"
    if one.kind == "attachment" and one.digests != other.digests:
        yield "content of the attachment"


def _tags_that_differ(original: Content, copy: Content, said: list[str]) -> Iterator[str]:
    for key, value in original.tags.items():
        is_said = any(key in sentence for sentence in said)
        if copy.tags.get(key) != value and not is_said:
            yield f"tag {key} {copy.tags.get(key)!r} instead of {value!r}"
    for key in copy.tags.keys() - original.tags.keys():
        yield f"tag {key} {copy.tags[key]!r} was added"


def _pictures_that_differ(
    films: tuple[Track, Track], told: dict[str, Any], delay_s: float, suffix: str
) -> Iterator[str]:
    one, other = films
    if sorted(one.digests) != sorted(other.digests):
        yield f"{len(other.digests)} other frames than the {len(one.digests)}"
        return
    flashes = told.get("flashes") or one.starts_s
    if len(other.starts_s) != len(flashes):
        yield f"{len(other.starts_s)} of {len(flashes)} flashes"
    elif flashes and _furthest(np.diff(other.starts_s) - np.diff(flashes)) > 0.021:
        yield f"flashes {_furthest(np.diff(other.starts_s) - np.diff(flashes)):.3f} s apart"
    leads_s = [track.starts_s[0] - track.times_s[0] for track in films if track.starts_s]
    if _furthest(np.diff(leads_s)) > 0.021:
        yield f"first frame {leads_s[1] - leads_s[0]:+.3f} s off"
    first_s, begins_s = other.times_s[0], one.times_s[0]
    if begins_s > FAR_START_S:  # a broadcast counts from anywhere
        begins_s = 0.0
    waits_s = max(0.0, -delay_s) if suffix not in HIDES else 0.0
    if first_s > max(0.0, begins_s) + waits_s + LATER_S + OWN_START.get(suffix, 0.0):
        yield f"begins at {first_s:.2f} s"


def _wanted_clicks(sound: Track, film: Track, told: dict[str, Any]) -> tuple[list[float], float]:
    """Return when clicks begin beside the first flash, and how exactly that is known."""
    if len(sound.starts_s) == len(told.get("clicks") or sound.starts_s) and film.starts_s:
        is_wild = told.get("wild") or told.get("joined_at")
        if not is_wild:
            exact_s = VAGUE_S if told.get("vague") else ROUNDED_S
            return [t - film.starts_s[0] for t in sound.starts_s], exact_s
    if not told.get("flashes"):
        return [t - film.times_s[0] for t in sound.starts_s], ROUNDED_S
    return [t - told["flashes"][0] for t in told["clicks"]], TRUE_S


def _sound_that_differs(
    one: Track, other: Track, wanted: tuple[list[float], float], delay_s: float, suffix: str,
    film: Track, origin_s: float,
) -> Iterator[str]:  # fmt: skip
    clicks, exact_s = wanted
    zero_s = film.starts_s[0] if film.starts_s else film.times_s[0]
    expected = [zero_s + t + delay_s for t in clicks]
    hidden = [t for t in expected if t < 0.03] if suffix in HIDES else []
    found = other.starts_s[len(other.starts_s) - len(expected) + len(hidden) :]
    expected = expected[len(hidden) :]
    if len(found) != len(expected):
        yield f"{len(other.starts_s)} of {len(expected)} clicks"
    elif _furthest(np.subtract(found, expected)) > exact_s:
        yield f"clicks {_furthest(np.subtract(found, expected)):.3f} s off"
    begins_s = (one.times_s[0] - origin_s if one.times_s else 0.0) + delay_s
    cut_s = max(0.0, -begins_s) if suffix in HIDES else 0.0
    if not -0.05 - cut_s < other.shown_s - one.shown_s < PRIMING_S:
        yield f"{other.shown_s:.2f} of {one.shown_s:.2f} s of sound"
