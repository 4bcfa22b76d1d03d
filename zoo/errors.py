"""What can go wrong because of what the user gave us; the command line prints one line, exits 2.

An error holds what is wrong (``message``) and what to do (``hint``).  Where a text speaks of an
option, it names the Python argument with `option`; the command line writes it as a flag.
"""

import difflib
import errno
import os
import re
from collections.abc import Iterable
from typing import Self

_OTHER_PLACE = "write to another place, or change who may write there"
_WHAT_TO_DO = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some of your quota, or write to another disk",
    errno.EROFS: "write to another place",
    errno.EACCES: _OTHER_PLACE,
    errno.EPERM: _OTHER_PLACE,
    errno.EMFILE: "allow more open files (ulimit -n)",
}
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_OPTION = re.compile(r"⟨(\w+)⟩")


def option(name: str) -> str:
    """Name an option within the text of an error: ``overwrite``, or ``--overwrite`` when typed."""
    return f"⟨{name}⟩"


class ZooError(Exception):
    """A mistake in the input.

    Args:
        message: what is wrong, with which file or option.
        hint: what to do about it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message, self.hint = message, hint

    def __str__(self) -> str:
        """Say all of it in one sentence, options by their Python names."""
        return _OPTION.sub(r"\1", self._sentence)

    @property
    def typed(self) -> str:
        """The same sentence for somebody at a command line, options as flags."""
        return _OPTION.sub(lambda found: "--" + found[1].replace("_", "-"), self._sentence)

    @property
    def _sentence(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def within(self, place: str) -> Self:
        """Return the same error, said of a place: ``PLACE: MESSAGE``."""
        return type(self)(f"{place}: {self.message}", self.hint)


class MediaError(ZooError):
    """A clip that cannot be read or written."""


class NothingToMeasureError(MediaError):
    """A clip that can be read, but in which there is nothing to hear, or nothing to see.

    Args:
        message: which clip, and why it has no answer.
        hint: what to do about it.
        reason: why, without the name of the clip: ``the sound is silent``.
    """

    def __init__(self, message: str, hint: str = "", reason: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason


class RepairError(ZooError):
    """A clip that is left as it is, because nobody can be sure how to repair it."""


class ManifestError(ZooError):
    """A manifest, or a folder of clips, that cannot be used."""


class ConfigError(ZooError):
    """A recipe, preset or ``--set`` value that does not fit."""


class PluginError(ZooError):
    """An unknown, duplicate or broken plugin component."""


class MissingComponentError(PluginError):
    """A component that no plugin registers; ``component`` is its kind and name."""

    component = ""


class ModelError(ZooError):
    """A model folder or catalog entry that cannot be loaded."""


class TrainingError(ZooError):
    """A run that cannot start or go on."""


def from_system(error: OSError) -> ZooError:
    """Say in one sentence what the operating system refused: a full disk, a read-only folder."""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    given = (error.filename, error.filename2)
    names = [os.fsdecode(name) for name in given if isinstance(name, str | bytes)]
    where = " and ".join(dict.fromkeys(names))
    hint = _WHAT_TO_DO.get(error.errno or 0, "")
    if "AF_UNIX" in reason:  # a socket between processes, in the folder of temporary files
        hint = "set TMPDIR to a shorter path"
    return ZooError(f"{where}: {reason}" if where else reason, hint)


def is_of_the_disk(error: BaseException | None) -> bool:
    """Say whether a disk is full or cannot be written to, so that all other files fail alike."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error is not None and error.errno in _OF_THE_DISK


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
