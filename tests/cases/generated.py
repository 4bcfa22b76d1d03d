"""The hard files, made by the generator beside the checkout."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GENERATOR = Path(__file__).parents[3] / "shared" / "cases" / "make_cases.py"


@dataclass(frozen=True)
class Cases:
    """A folder of hard files.

    Attributes:
        folder: where they lie.
        truth: for each file, by its name in the folder: seconds, pictures, offset and events.
    """

    folder: Path
    truth: dict[str, dict[str, Any]]


def make_cases(
    folder: Path,
    salt: int | None = None,
    params: Path | None = None,
    only: str = "",
    base: Sequence[Path] = (),
) -> Cases:
    """Make the files, or take those that a run before has made.

    Args:
        folder: where they lie.
        salt: another number, other moments and pictures.
        params: numbers in place of the generator's own.
        only: cases, such as ``a1,b7``; all of them without it.
        base: clips in sync that take the place of flashes and clicks.

    Raises:
        SystemExit: there is no generator beside the checkout.
    """
    if not (folder / "truth.json").exists():
        if not GENERATOR.exists():
            sys.exit(f"The generator of the hard files is missing: put it at {GENERATOR}.")
        given: dict[str, object] = {"--salt": salt, "--params": params, "--only": only or None}
        words = [str(part) for name, value in given.items() if value is not None
                 for part in (name, value)]  # fmt: skip
        if base:
            words += ["--base", *map(str, base)]
        command = [sys.executable, str(GENERATOR), str(folder), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Cases(folder, json.loads((folder / "truth.json").read_text()))
