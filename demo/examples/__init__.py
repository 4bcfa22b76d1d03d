"""Three short clips to try the page with, and how they were made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Example:
    """A bundled clip: ``early_s`` is how much its audio was made early, None if it is foreign."""

    file: str
    label: str
    early_s: float | None

    @property
    def path(self) -> Path:
        """Where the clip is."""
        return FOLDER / self.file


EXAMPLES = (
    Example("in-sync.mp4", "In sync", 0.0),
    Example("early.mp4", "Out of sync", 0.6),
    Example("foreign-sound.mp4", "Foreign sound", None),
)
