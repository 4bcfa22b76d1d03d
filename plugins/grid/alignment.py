"""Reading an alignment of GRID: who says which word from when to when."""

from __future__ import annotations

from pathlib import Path

from zoo.data.listed import read_lines
from zoo.errors import ManifestError

SUFFIX = ".align"
UNITS_PER_S = 25_000  # samples of the 25 kHz recordings; 1000 are a frame
SILENCES = ("sil", "sp")

Word = tuple[float, float, str]
"""Start and end, seconds, and what is said."""


def read_words(path: Path) -> tuple[Word, ...]:
    """Return the words of a sentence, without the silence around and between them.

    Raises:
        ManifestError: if a line is not ``start end word``, or the words are not in order.
    """
    words: list[Word] = []
    end_s = 0.0
    for line in read_lines(path, once=False):
        try:
            start, end, word = line.split()
            start_s, until_s = int(start) / UNITS_PER_S, int(end) / UNITS_PER_S
        except ValueError:
            raise ManifestError(
                f"not an alignment: it has the line '{line}', expected: start end word"
            ) from None
        if word.lower() in SILENCES:
            continue
        if not end_s <= start_s < until_s:
            raise ManifestError(f"a damaged alignment: in '{line}' the times are not in order")
        words.append((start_s, until_s, word.lower()))
        end_s = until_s
    if not words:
        raise ManifestError("a damaged alignment: it holds no word")
    return tuple(words)
