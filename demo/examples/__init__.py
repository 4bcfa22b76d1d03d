"""Short clips to try the page with, and how they were made."""

from __future__ import annotations

import shutil
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

FOLDER = Path(__file__).parent
GRID = """The face: sentence swwp3s of speaker 1 of the
<a href="https://doi.org/10.5281/zenodo.3625687" target="_blank" rel="noopener">GRID corpus</a>
by Cooke, Barker, Cunningham and Shao (2006),
<a href="https://creativecommons.org/licenses/by/4.0/" target="_blank" rel="noopener">CC BY 4.0</a>.
Cropped to the face, encoded again, audio moved."""


@dataclass(frozen=True)
class Example:
    """A bundled clip.

    Attributes:
        file: its name.
        label: of its button.
        early_s: by how many seconds its audio was made early; None if the audio is foreign.
        model: the model that is chosen with the clip; None if the chosen one may stay.
        credit: HTML that names the authors and the licence of a clip that is not ours.
        folder: where it lies.
    """

    file: str
    label: str
    early_s: float | None
    model: str | None = None
    credit: str = ""
    folder: Path = FOLDER

    @property
    def path(self) -> Path:
        """Where the clip is."""
        return self.folder / self.file


EXAMPLES = (
    Example("in-sync.mp4", "In sync", 0.0),
    Example("early.mp4", "Out of sync", 0.6),
    Example("foreign-sound.mp4", "Foreign sound", None),
    Example("talking.mp4", "Face, 0.2 s early", 0.2, "tiny-talking", GRID),
)


def copy_examples(folder: Path, models: Container[str]) -> list[Example]:
    """Copy the examples that can be offered, and return the copies.

    Args:
        folder: where they are copied to.
        models: names of those that can be used; an example that needs another one is left out.
    """
    copies = [
        replace(example, folder=folder)
        for example in EXAMPLES
        if example.model is None or example.model in models
    ]
    for copy in copies:
        shutil.copy2(FOLDER / copy.file, copy.path)
    return copies
