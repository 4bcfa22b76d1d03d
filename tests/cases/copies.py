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

from tests.cases.comparison import differences
from tests.cases.dressed import make_dressed
from tests.cases.generated import Cases, make_cases
from tests.cases.plain import read_content
from zoo.errors import ZooError
from zoo.media import shift_audio

SUFFIXES = (".mp4", ".mkv", ".mov", ".ts")
DELAYS_S = (0.2, -0.2)
FAR_S = -1.5  # of some
FAR = ("twin", "a1", "b2", "b3", "b5", "b11")
LEFT_OUT = {"a12"}  # videos without sound, and sound without video
LONG_S = 60.0

# What a refusal may say, and of which files it is true.
REASONS = {
    "jump from": ("joined_at", "wild"),
    "changes at": ("joined_at",),
    "cuts parts out": ("edits",),
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


def summary_of(rows: Sequence[Row]) -> str:
    """Count the files by container: kept with every delay, refused, or wrong."""
    lines = ["| container | files | kept | refused | wrong |", "|---|---|---|---|---|"]
    for suffix in ("own", *SUFFIXES):
        worst: dict[str, str] = {}
        for row in rows:
            if row.suffix == suffix or (suffix == "own" and row.suffix == Path(row.case).suffix):
                worst[row.case] = max(worst.get(row.case, "kept"), row.outcome)  # as they sort
        counts = Counter(worst.values())
        cells = [len(worst), *(counts[outcome] for outcome in ("kept", "refused", "wrong"))]
        lines.append(f"| {suffix} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


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
    text = f"{len(rows)} copies: {counted}.\n\n{summary_of(rows)}\n\n{table}\n"
    (given.out / "copies.md").write_text(text)
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
