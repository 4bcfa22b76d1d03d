"""Reads, measures and checks every hard file, and judges what is said of each.

``python -m tests.cases.reading --out OUT [--salt S] [--params FILE] [--only a1,b7]``
Flashes and clicks are looked for in one set of files; a model measures another, the same tricks
around rendered clips. What is right is in `tests.cases.expected`.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import torch

import zoo
from tests.cases.answers import Answer, predict, read
from tests.cases.expected import Rule, rule_for
from tests.cases.generated import GENERATOR, Cases, make_cases
from tests.cases.scoring import score_sets
from zoo.cli.app import run as run_zoo
from zoo.inference.offset_predictor import OffsetPredictor

MODEL = "tiny-synthetic"
SEED = 19  # of the rendered clips; a salt is added
MOST_TIMES, MOST_GROWTH = 3.0, 2.5  # processor time beside the twin's, and for twice the length


def make_both(
    out: Path, salt: int | None = None, params: Path | None = None, only: str = ""
) -> tuple[Cases, Cases]:
    """Make the files with flashes and clicks, and those around two rendered clips."""
    clips = out / "clips"
    if not clips.exists():
        seed, split = str(SEED + (salt or 0)), "test=1"
        with redirect_stdout(io.StringIO()):
            run_zoo(["data", "synth", str(clips), "--clips", "2", "--seed", seed,
                     "--split", split, "--workers", "1"])  # fmt: skip
    rendered = sorted(clips.rglob("*.mp4"))
    flashes = make_cases(out / "flashes", salt, params, only)
    base = make_cases(out / "base", salt, params, only, rendered)
    numbers = json.loads(GENERATOR.with_name("params.json").read_text())["a11"]
    numbers |= json.loads(params.read_text()).get("a11", {}) if params else {}
    for truth in base.truth.values():
        truth["beat_s"] = -numbers["late"]  # which the generator does not say
    return flashes, base


def answers(flashes: Cases, base: Cases, scratch: Path, only: str = "") -> Iterator[Answer]:
    """Yield what is said of every file, and what is wrong with that.

    Args:
        flashes: files of flashes and clicks.
        base: files that a model can measure.
        scratch: folder for the clips that are scored.
        only: cases, such as ``a1,b7``, though there may be files of others; all without it.
    """

    def is_wanted(name: str) -> bool:
        return not only or name[:3].rstrip("_/,") in ("twi", *only.split(","))

    torch.set_num_threads(1)
    predictor = zoo.load(MODEL)
    seconds: dict[str, float] = {}
    confidence: dict[str, float] = {}
    for name in dict.fromkeys([*flashes.truth, *base.truth]):  # long files have other lengths
        if not is_wanted(name):
            continue
        answer = Answer(name, rule_for(name))
        if name in flashes.truth:
            read(answer, flashes.folder / name, flashes.truth[name])
        if name in base.truth and answer.rule.is_predicted:
            begin_s = time.process_time()
            confidence[name] = _predict(answer, base, predictor)
            seconds[name] = time.process_time() - begin_s
        if name.startswith("a3_") and "opposite" not in name:
            apart = abs(confidence[name] - confidence["twin.mp4"])
            answer.faults += [f"confidence {apart:.2f} from the twin's"] * (apart > 0.1)
        if name == "a11_periodic_long.mp4" and confidence[name] > confidence["a11_periodic.mp4"]:
            answer.faults.append("the longer film is more confident")
        yield answer
    if is_wanted("b13"):
        yield from _names(base)
    yield from _lengths(seconds)
    yield from score_sets(base, MODEL, scratch, is_wanted)


def _predict(answer: Answer, base: Cases, predictor: OffsetPredictor) -> float:
    """Return the confidence; NaN without a number."""
    path, truth, options = base.folder / answer.name, base.truth[answer.name], {}
    if "apac" in truth:
        _refuses_track(answer, path, truth["apac"], predictor)
    if re.fullmatch(r"a10_\w+\.mp4", answer.name):
        audio = next(path.parent.glob(f"{path.stem}.[wf]*"))
        options["audio"], truth = audio, base.truth[audio.name]
    found = predict(answer, path, truth, predictor, **options)
    return float("nan") if found is None else found.confidence


def _refuses_track(answer: Answer, path: Path, track: int, predictor: OffsetPredictor) -> None:
    asked = Answer(answer.name, Rule("*", "", refused="cannot be decoded"))
    if asked.ask(path, lambda: predictor.predict(path, audio_track=track)) is not None:
        answer.faults.append(f"audio track {track} is said to be read")
    elif not re.match(f"audio track {track} .*cannot be decoded", asked.words):
        answer.faults.append(f"of audio track {track}: {asked.words}")
    answer.faults += asked.faults


def _names(base: Cases) -> Iterator[Answer]:
    """Ask the command line about strange names: each is printed, on one line."""
    files = [base.folder / name for name in base.truth if name.startswith("b13/")]
    if not files:
        return
    answer = Answer("b13, printed", rule_for("b13/a"))
    printed = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with redirect_stdout(printed):
        code = run_zoo(["predict", MODEL, *map(str, files)])
    lines = printed.buffer.getvalue().decode().splitlines()
    missing = [file.name for file in files if _printable(str(file)) not in lines]
    answer.words = f"{len(files) - len(missing)} of {len(files)} names as they are"
    answer.faults += [f"exit code {code}"] * bool(code)
    answer.faults += [f"{name!r} is not printed on a line" for name in missing]
    yield answer


def _lengths(seconds: dict[str, float]) -> Iterator[Answer]:
    """Compare the processor time of long files."""
    times: dict[str, dict[float, float]] = defaultdict(dict)
    for name, spent in seconds.items():
        if found := re.fullmatch(r"a7_(\w+)_([\d.]+)\.\w+", name):
            times[found[1]][float(found[2])] = spent
    for kind, by_length in times.items():
        answer = Answer(f"a7_{kind}, processor time", rule_for(f"a7_{kind}_"))
        answer.words = ", ".join(f"{by_length[s]:.1f} s for {s:g} s" for s in sorted(by_length))
        for length, spent in by_length.items():
            if spent > MOST_TIMES * times["gop25"][length]:
                answer.faults.append(f"{length:g} s take too long")
            if spent > MOST_GROWTH * by_length.get(length / 2, spent):
                answer.faults.append(f"{length:g} s take too much more than half of it")
        yield answer


def table(found: Iterable[Answer]) -> Iterator[str]:
    """Yield a table in Markdown: files that follow one rule and get one answer share a row."""
    rows: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for answer in found:
        verdict = "wrong: " + "; ".join(answer.faults) if answer.faults else "right"
        rows[answer.rule.special, answer.words, verdict].append(answer.name)
    yield "| files | what is special | answer | |"
    yield "|---|---|---|---|"
    for (special, words, verdict), names in rows.items():
        cells = (", ".join(f"`{_printable(name)}`" for name in names), special, words, verdict)
        yield f"| {' | '.join(_printable(cell).replace('|', '/') for cell in cells)} |"


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\n", " ")


def main() -> int:
    """Run the program; the exit code says whether anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--salt", type=int)
    parser.add_argument("--params", type=Path, help="JSON with other numbers")
    parser.add_argument("--only", default="", help="cases, such as a1,b7")
    given = parser.parse_args()
    logging.getLogger("zoo").setLevel(logging.ERROR)
    flashes, base = make_both(given.out, given.salt, given.params, given.only)
    found = []
    for answer in answers(flashes, base, given.out / "desync", given.only):
        found.append(answer)
        sys.stderr.write(f"{_printable(answer.name)}: {'; '.join(answer.faults) or 'right'}\n")
    sys.stdout.write("\n".join(table(found)) + "\n")
    return int(any(answer.faults for answer in found))


if __name__ == "__main__":
    sys.exit(main())
