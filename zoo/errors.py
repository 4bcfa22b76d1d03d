"""What can go wrong because of what the user gave us; the CLI prints one line and exits 2."""

import difflib
from collections.abc import Iterable


class ZooError(Exception):
    """A mistake in the input: one clear sentence that says what is wrong and what to do."""


class MediaError(ZooError):
    """A clip that cannot be read or written."""


class RepairError(ZooError):
    """A clip that is left as it is, because nobody can be sure how to repair it."""


class ExistsError(ZooError):
    """A file that is there already; whoever offers to replace it says how."""


class ManifestError(ZooError):
    """A manifest, or a folder of clips, that cannot be used."""


class ConfigError(ZooError):
    """A recipe, preset or ``--set`` value that does not fit."""


class PluginError(ZooError):
    """An unknown, duplicate or broken plugin component."""


class ModelError(ZooError):
    """A model folder or catalog entry that cannot be loaded."""


class TrainingError(ZooError):
    """A run that cannot start or go on."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
