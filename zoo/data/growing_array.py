"""A ``.npy`` file that is written a few rows at a time: its length is known at its end only."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format
from numpy.typing import DTypeLike


class GrowingArray:
    """Rows along the first axis, all of one shape; `finish` makes the file valid.

    Args:
        path: of the file, which appears with the first rows.
        dtype: in which to keep them; by default their own.

    Attributes:
        num_rows: that are part of the array.  Rows written behind them are not yet.
    """

    def __init__(self, path: Path, dtype: DTypeLike | None = None) -> None:
        self.num_rows = 0
        self._path = path
        self._dtype = None if dtype is None else np.dtype(dtype)
        self._shape: tuple[int, ...] = ()
        self._file: BinaryIO | None = None

    def append(self, rows: np.ndarray) -> None:
        """Add rows."""
        self.write(0, rows)
        self.num_rows += len(rows)

    def write(self, first: int, rows: np.ndarray) -> None:
        """Write rows, the first of them ``first`` rows behind the array's end."""
        if self._file is None:
            self._file, self._shape = self._path.open("wb"), rows.shape[1:]
            self._dtype = self._dtype or rows.dtype
        assert rows.shape[1:] == self._shape
        self._file.seek(self._place(self.num_rows + first))
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)

    def _place(self, row: int) -> int:
        assert self._dtype is not None
        return len(self._header()) + row * math.prod(self._shape) * self._dtype.itemsize

    def _header(self) -> bytes:
        """Return the header, which NumPy makes equally long for any number of rows."""
        assert self._dtype is not None
        header = io.BytesIO()
        descr, shape = format.dtype_to_descr(self._dtype), (self.num_rows, *self._shape)
        facts = {"descr": descr, "fortran_order": False, "shape": shape}
        format.write_array_header_1_0(header, facts)
        return header.getvalue()

    def finish(self) -> None:
        """Cut off what is not part of the array; without rows there is no file."""
        if self._file is None:
            return
        self._file.truncate(self._place(self.num_rows))
        self._file.seek(0)
        self._file.write(self._header())
        self.close()
        if not self.num_rows:
            self._path.unlink()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
