"""Making a file that breaks something smaller."""

from __future__ import annotations

import time
from collections.abc import Callable


def minimised(data: bytes, is_same: Callable[[bytes], bool], seconds: float = 60.0) -> bytes:
    """Take out pieces, large ones first, then blank what cannot go, as long as it breaks the same.

    Args:
        data: of the file.
        is_same: whether content breaks in the same way.
        seconds: after which what was reached is returned.
    """
    until_s = time.monotonic() + seconds
    for blank in (0, 1):
        size = max(1, len(data) // 2)
        while size and time.monotonic() < until_s:
            at = 0
            while at < len(data) and time.monotonic() < until_s:
                piece = data[at : at + size]
                smaller = data[:at] + bytes(blank * len(piece)) + data[at + size :]
                if smaller == data or not is_same(smaller):
                    at += size
                    continue
                data = smaller
                at += blank * size
            size //= 2
    return data
