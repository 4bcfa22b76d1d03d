"""Safetensors files that are written a few rows at a time, so that long clips need no memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64"}
LENGTH = struct.Struct("<Q")  # of the header, at the start of a file
LONGEST_HEADER = 1 << 24


class TensorFile:
    """A file of tensors whose shapes are known beforehand; whole under its name, or not there.

    Rows (along the first axis) may come in any portions, in order.  Leaving the ``with`` block
    without an error gives the file its name, anything else removes it.
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
        metadata: Mapping[str, str],
    ) -> None:
        header: dict[str, Any] = {"__metadata__": dict(metadata)}
        end = 0
        # The widest numbers come first, so that every tensor is aligned.
        for name in sorted(tensors, key=lambda name: -tensors[name][0].itemsize):
            dtype, shape = tensors[name]
            begin, end = end, end + dtype.itemsize * torch.Size(shape).numel()
            header[name] = {
                "dtype": NAMES[dtype],
                "shape": list(shape),
                "data_offsets": [begin, end],
            }
        text = json.dumps(header, ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        self.path, self.part = path, path.with_name(f".{path.name}.part")
        self._dtypes = {name: dtype for name, (dtype, _) in tensors.items()}
        start = LENGTH.size + len(text)
        self._next = {n: start + header[n]["data_offsets"][0] for n in tensors}
        self._end = {n: start + header[n]["data_offsets"][1] for n in tensors}
        self._file = self.part.open("wb")
        self._file.write(LENGTH.pack(len(text)) + text)

    def add(self, name: str, rows: Tensor) -> None:
        """Append rows to a tensor, in its own precision."""
        data = rows.to(self._dtypes[name]).contiguous().view(torch.uint8).numpy()
        self._file.seek(self._next[name])
        self._file.write(data.data)
        self._next[name] += data.nbytes

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is not None:
            self.part.unlink(missing_ok=True)
            return
        assert self._next == self._end
        self.part.replace(self.path)


def read_header(path: Path) -> dict[str, Any] | None:
    """Return what a file says about itself, or None if it is not a safetensors file."""
    try:
        with path.open("rb") as file:
            (length,) = LENGTH.unpack(file.read(LENGTH.size))
            header = json.loads(file.read(length)) if length <= LONGEST_HEADER else None
    except (OSError, struct.error, ValueError):
        return None
    return header if isinstance(header, dict) else None
