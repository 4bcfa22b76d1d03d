"""Copies with shifted audio of every hard file into every container, compared with the original.

    python -m tests.cases.copies --out FOLDER [--salt S] [--params FILE] [--only a1,b7]

Every copy is read with PyAV alone (`plain`).  The answer is a table; the exit code is 1 if a copy
lost, added or revealed something, or if a refusal does not give the true reason.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av.stream import Disposition

from tests.cases.dressed import make_dressed
from tests.cases.generated import Cases, make_cases
from tests.cases.plain import Content, Track, read_content
from zoo.errors import ZooError
from zoo.media import shift_audio

SUFFIXES = (".mp4", ".mkv", ".mov", ".ts")
DELAYS_S = (0.2, -0.2)
FAR_S = -1.5  # of some
FAR = ("twin", "a1", "b2", "b3", "b5", "b11")
LEFT_OUT = {"a12"}  # videos without sound, and sound without video
HIDES = {".mp4", ".m4v", ".mov"}  # what lies before time 0
SAYS_NO_LANGUAGE = {".mp4", ".mov", ".3gp"}  # as "und"
ROUNDED_S = 0.003
NOT_COMPARED = {"white", "frame", "profile"}
TRUE_S = 0.011  # between the truth and what decoders give
VAGUE_S = 0.04  # where a container does not say how long its decoder takes
LATER_S = 0.15
LONG_S = 60.0
PRIMING_S = 0.15  # of an encoder, which may be heard where the sound begins later
OWN_START = {".ts": 1.6, ".mpg": 0.6}  # containers that do not begin at 0

# What a refusal may say, and of which files it is true.
REASONS = {
    "jump from": ("joined_at", "wild"),
    "changes at": ("joined_at",),
    "joins several parts": ("edits",),
    "hides the beginning": ("hidden",),
    "has no audio stream": ("silent",),
    "is empty": ("empty",),
    "is cut short": ("no_index",),
    "does not say when its frames are shown": ("no_order",),
    "AVI keeps no times": ("avi",),
    "would begin": ("only_sound",),
}
DOES_NOT_FIT = ("does not take", "would be lost", "would lose", "cannot write")  # another container


@dataclass(frozen=True)
class Row:
    """What became of one copy."""

    case: str
    suffix: str
    delay_s: float
    outcome: str  # kept, refused or wrong
    said: str = ""


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect what the library warns of."""
    said: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler, logger = Handler(logging.WARNING), logging.getLogger("zoo")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def judge(path: Path, told: dict[str, Any], out: Path, delay_s: float, original: Any) -> Row:
    """Copy a file, and say what became of it."""
    out.unlink(missing_ok=True)
    case, own = path.name, out.suffix == path.suffix
    try:
        with heard() as said:
            shift_audio(path, out, delay_s)
    except ZooError as error:
        is_true = _is_true(str(error), told, own=own)
        return Row(
            case, out.suffix, delay_s, "refused" if is_true else "wrong", f"refused: {error}"
        )
    except Exception as error:
        return Row(case, out.suffix, delay_s, "wrong", f"{type(error).__name__}: {error}")
    problems = list(differences(original, read_content(out), told, delay_s, out.suffix, said))
    return Row(case, out.suffix, delay_s, "wrong" if problems else "kept", "; ".join(problems))


def _is_true(sentence: str, told: dict[str, Any], *, own: bool) -> bool:
    for words, facts in REASONS.items():
        if words in sentence:
            return any(fact in told for fact in facts)
    return not own and any(words in sentence for words in DOES_NOT_FIT)


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
    begins_s = copy.film.times_s[0] - original.film.times_s[0] if copy.film.times_s else 0.0
    moved_s = begins_s
    for one, other in zip(original.of("subtitle"), copy.of("subtitle"), strict=False):
        if one.digests != other.digests:
            yield f"subtitles {other.digests} instead of {one.digests}"
        elif _furthest(np.subtract(other.times_s, one.times_s) - moved_s) > ROUNDED_S:
            yield f"subtitles at {other.times_s}"
    titles = [[title for title, _ in content.chapters] for content in (original, copy)]
    if titles[0] != titles[1]:
        yield f"chapters {titles[1]} instead of {titles[0]}"
    else:
        times = [np.array([start for _, start in c.chapters]) for c in (original, copy)]
        if _furthest(times[1] - times[0] - moved_s) > PRIMING_S:  # which muxers add to all packets
            yield f"chapters at {times[1].tolist()}"
    for one, other in zip(original.of("audio"), copy.of("audio"), strict=False):
        wanted = _wanted_clicks(one, films[0], told)
        if not copy.film.times_s:
            return
        yield from _sound_that_differs(
            one, other, wanted, delay_s, suffix, copy.film, original.begin_s
        )
    ends_s = [t.end_s for t in copy.of("video") + copy.of("audio") if not t.is_cover]
    begin_s = min(t.times_s[0] for t in copy.of("video") + copy.of("audio") if t.times_s)
    length_s = max(ends_s) - (begin_s if suffix in OWN_START else 0.0)
    exact_s = 1.0 if suffix == ".mpg" else 0.3  # where FFmpeg guesses
    if copy.length_s is None or abs(copy.length_s - length_s) > exact_s:
        yield f"claims {copy.length_s} s and has {length_s:.2f} s"


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
    first_s = other.times_s[0]
    late_s = max(0.0, flashes[0] - told["flashes"][0]) if told.get("flashes") else 0.0
    waits_s = max(0.0, -delay_s) if suffix not in HIDES else 0.0
    wanted_s = 0.0
    if told.get("flashes") and len(other.starts_s) == len(flashes):
        wanted_s = other.starts_s[0] - first_s - (flashes[0] - _first_time(one, told)) + late_s
    if abs(wanted_s) > 0.021:
        yield f"first frame {wanted_s:+.3f} s off"
    muxer_s = OWN_START.get(suffix, 0.0)
    latest_s = _first_time(one, told) + waits_s + LATER_S + muxer_s
    if not -LATER_S < first_s <= latest_s:
        yield f"begins at {first_s:.2f} s"


def _first_time(film: Track, told: dict[str, Any]) -> float:
    """Return when the first frame is to be shown, on the clock of the truth."""
    if told.get("flashes") and film.starts_s:
        return film.times_s[0] - film.starts_s[0] + told["flashes"][0]
    return film.times_s[0]


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


def rows_of(
    cases: Cases,
    folder: Path,
    suffixes: Sequence[str] = SUFFIXES,
    delays_s: Sequence[float] = DELAYS_S,
) -> Iterator[Row]:
    """Copy every file of a folder into every container; long ones into their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, known in cases.truth.items():
        path, told = cases.folder / name, _facts(name, known)
        original = None if told.keys() & {"empty", "no_index"} else read_content(path)
        is_short = not name.startswith("b13") and told["seconds"] < LONG_S
        far = (FAR_S,) if delays_s is DELAYS_S and name.startswith(FAR) else ()
        for suffix in dict.fromkeys([path.suffix, *suffixes]) if is_short else [path.suffix]:
            for delay_s in [*delays_s, *far] if is_short else delays_s[:1]:
                yield judge(path, told, folder / f"copy{suffix}", delay_s, original)


def _facts(name: str, told: dict[str, Any]) -> dict[str, Any]:
    """Add to the truth what the name says."""
    facts = {
        "silent": name.startswith("a10") and name.endswith(".mp4"),
        "only_sound": name.endswith((".flac", ".wav", "only_sound.mp4")),
        "empty": name == "b12_empty.mp4",
        "no_index": name == "b12_no_index.mp4",
        "avi": name.endswith(".avi"),
        "vague": name.endswith(".avi") or name == "b5_he_aac.mp4",
        "no_order": name == "c_h264.avi",  # where B-frames have no times
    }
    if told.get("kept", 1) < 1:  # the rest is not there
        told = {key: value for key, value in told.items() if key not in {"flashes", "clicks"}}
    return told | {fact: True for fact, is_so in facts.items() if is_so}


def table_of(rows: Iterable[Row]) -> str:
    """Write a line per file: what became of it in every container."""
    rows = list(rows)
    suffixes = list(dict.fromkeys(["own", *SUFFIXES]))
    lines = ["| file | " + " | ".join(suffixes) + " | said |", "|" + "---|" * (len(suffixes) + 2)]
    for case in dict.fromkeys(row.case for row in rows):
        cells = []
        for suffix in suffixes:
            wanted = Path(case).suffix if suffix == "own" else suffix
            outcomes = [r.outcome for r in rows if (r.case, r.suffix) == (case, wanted)]
            cells.append(", ".join(dict.fromkeys(outcomes)))
        said = dict.fromkeys(
            f"{r.suffix} {r.delay_s:+g}: {r.said}" if r.outcome == "wrong" else r.said
            for r in rows if r.case == case and r.said
        )  # fmt: skip
        name = case.encode(errors="backslashreplace").decode().replace("\n", "\\n")
        words = "; ".join(said).replace("|", "\\|").replace("\n", "\\n")
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {words} |")
    return "\n".join(lines)


def main() -> None:
    """Make the files, copy them, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for files and table")
    parser.add_argument("--salt", type=int, default=0, help="other moments, same cases")
    parser.add_argument("--params", type=Path, help="JSON with other numbers")
    parser.add_argument("--only", default="", help="cases, such as a1,b7,c,d")
    given = parser.parse_args()
    logging.getLogger("zoo").propagate = False
    rows = []
    for cases in chosen(given.out, given.salt, given.params, given.only):
        for row in rows_of(cases, given.out / "copies"):
            rows.append(row)
            if row.outcome == "wrong":
                line = f"{row.case} {row.suffix} {row.delay_s:+g} s: {row.said}\n"
                sys.stderr.write(line.encode(errors="backslashreplace").decode())
    table, counts = table_of(rows), Counter(row.outcome for row in rows)
    counted = ", ".join(f"{counts[kind]} {kind}" for kind in ("kept", "refused", "wrong"))
    (given.out / "copies.md").write_text(f"{len(rows)} copies: {counted}.\n\n{table}\n")
    sys.stdout.write(f"{len(rows)} copies: {counted}. See {given.out / 'copies.md'}.\n")
    sys.exit(counts["wrong"] > 0)


def _is_wanted(name: str, only: list[str]) -> bool:
    case = Path(name).stem if name.startswith("twin") else name[:3].rstrip("_/")
    return case not in LEFT_OUT and (not only or case in only)


def chosen(out: Path, salt: int, params: Path | None, only: str) -> Iterator[Cases]:
    """Make the files of the generator, and those that it does not make."""
    names = only.split(",") if only else []
    ours = [name for name in names if name.startswith(("c", "d"))]
    theirs = [name for name in names if name not in ours]
    if theirs or not names:
        made = make_cases(out / "cases", salt, params, ",".join(theirs))
        wanted = {name: told for name, told in made.truth.items() if _is_wanted(name, theirs)}
        yield Cases(made.folder, wanted)
    if ours or not names:
        yield make_dressed(out / "dressed", salt, ",".join(ours))


if __name__ == "__main__":
    main()
