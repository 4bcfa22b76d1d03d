"""Checkpoints of Flax, read and written without Flax: MessagePack of nested maps and arrays.

Source: google/flax, `flax/serialization.py`.  An array is the extension 1, which holds, packed
again, its shape, the name of its dtype and its bytes in C order; 2 is a complex number and 3 a
NumPy scalar.  Arrays beyond 1 GiB are maps of chunks.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgpack
import numpy as np
import torch
from torch import Tensor

from zoo.errors import ModelError

PARAMS = "params"
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CHUNKED, _SHAPE, _CHUNKS = "__msgpack_chunked_array__", "shape", "chunks"
_MOST_BYTES = 1 << 30  # of a chunk
_DTYPES = {
    name: getattr(torch, name)
    for name in (
        *("float16", "bfloat16", "float32", "float64", "complex64", "complex128", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# States of optimisers repeat the names of the parameters: they must not be taken for weights.
_STATES = (("optimizer", "state"), ("opt_state",))
_DEEPEST, _MOST_VALUES, _MOST_AXES = 64, 1 << 20, 32
_SHORTEST_HEAD = 3

# First byte of a value -> struct format of the number that follows (Source: MessagePack).
_NUMBERS = {0xCA + i: f">{letter}" for i, letter in enumerate("fdBHIQbhiq")}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
# First byte -> kind, and how many bytes tell its length.
_SIZED = {
    **{0xC4 + i: ("bytes", 1 << i) for i in range(3)},
    **{0xC7 + i: ("extension", 1 << i) for i in range(3)},
    **{0xD9 + i: ("text", 1 << i) for i in range(3)},
    **{0xDC + i: ("list", 2 << i) for i in range(2)},
    **{0xDE + i: ("map", 2 << i) for i in range(2)},
}
_FIXED_EXTENSIONS = {0xD4 + i: 1 << i for i in range(5)}


@dataclass(frozen=True)
class _Place:
    """Bytes of the file."""

    start: int
    stop: int


@dataclass(frozen=True)
class _Array:
    """An array as the file describes it, checked to have as many bytes as its shape needs."""

    place: _Place
    dtype: torch.dtype
    shape: tuple[int, ...]


def is_flax(head: bytes) -> bool:
    """Say whether a file may be of Flax from its first bytes: a map whose first key is text."""
    if len(head) < _SHORTEST_HEAD:
        return False
    first = head[0]
    skipped = 1 if 0x81 <= first <= 0x8F else {0xDE: 3, 0xDF: 5}.get(first, len(head))
    kind = head[skipped : skipped + 1]
    if not kind:
        return False
    if 0xA1 <= kind[0] <= 0xBF:
        key = head[skipped + 1 : skipped + 1 + (kind[0] & 0x1F)]
    else:
        key = head[skipped + 2 : skipped + 2 + head[skipped + 1]] if kind[0] == 0xD9 else b""
    return key != b"" and min(key) >= ord(" ")


def read_flax(path: Path) -> dict[str, Any]:
    """Read a checkpoint of Flax as nested dictionaries of tensors.

    Tensors are views into the memory-mapped file where its alignment allows that, else copies.
    States of optimisers are left out.

    Args:
        path: what `flax.serialization` or `flax.training.checkpoints` has written.

    Raises:
        ModelError: if it is damaged, cut short or holds anything but plain values and arrays.
    """
    data = np.memmap(path, np.uint8, mode="c")
    decoder = _Decoder(path, data)
    tree = decoder.value(0)
    if decoder.at != len(data):
        decoder.refuse("is damaged: there are bytes behind its end")
    if not isinstance(tree, dict):
        decoder.refuse("is no checkpoint: it holds no dictionary of tensors")
    for *above, last in _STATES:
        group: Any = tree
        for name in above:
            group = group.get(name) if isinstance(group, dict) else None
        if isinstance(group, dict):
            group.pop(last, None)
    built = _Builder(path, data).build(tree)
    assert isinstance(built, dict)
    return built


class _Decoder:
    """Reads MessagePack from memory; arrays stay where they are.

    The lengths that a file tells are never trusted: nothing is allocated before it was read, and
    values, their depth and their number are bounded.
    """

    def __init__(self, path: Path, data: np.ndarray) -> None:
        self.path, self.view = path, data.data
        self.at, self.end, self.count = 0, len(data), 0

    def refuse(self, what: str) -> NoReturn:
        """Raise a ModelError that begins with the name of the file."""
        raise ModelError(f"{self.path} {what}")

    def value(self, depth: int) -> Any:
        """Read one value."""
        self.count += 1
        if depth > _DEEPEST or self.count > _MOST_VALUES:
            self.refuse("is no checkpoint: it is nested too deeply or holds too many values")
        first = self._take(1)[0]
        if first <= 0x7F or first >= 0xE0:
            return first if first <= 0x7F else first - 0x100
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if first in _NUMBERS:
            layout = _NUMBERS[first]
            return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]
        if first in _FIXED_EXTENSIONS:
            return self._extension(_FIXED_EXTENSIONS[first], depth)
        kind, length = self._length(first)
        read: dict[str, Callable[[int, int], Any]] = {
            "map": self._map,
            "list": lambda n, d: [self.value(d + 1) for _ in range(n)],
            "text": self._text,
            "bytes": lambda n, _: self._skip(n),
            "extension": self._extension,
        }
        return read[kind](length, depth)

    def _length(self, first: int) -> tuple[str, int]:
        if first <= 0xBF:
            kind = "map" if first <= 0x8F else "list" if first <= 0x9F else "text"
            return kind, first & (0x1F if kind == "text" else 0x0F)
        if first not in _SIZED:
            self.refuse(f"is damaged: no value begins with the byte {first:#x}")
        kind, num_bytes = _SIZED[first]
        return kind, int.from_bytes(self._take(num_bytes), "big")

    def _skip(self, num_bytes: int) -> _Place:
        start, self.at = self.at, self.at + num_bytes
        if self.at > self.end:
            self.refuse("is damaged or cut short: a value reaches beyond its end")
        return _Place(start, self.at)

    def _take(self, num_bytes: int) -> memoryview:
        place = self._skip(num_bytes)
        return self.view[place.start : place.stop]

    def _text(self, length: int, _depth: int) -> str:
        try:
            return bytes(self._take(length)).decode()
        except UnicodeDecodeError:
            self.refuse("is damaged: a text is not UTF-8")

    def _map(self, length: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(length):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in found:
                self.refuse("is damaged: a map has a key twice, or one that is no text")
            found[key] = self.value(depth + 1)
        return found

    def _extension(self, num_bytes: int, depth: int) -> Any:
        (code,) = struct.unpack("b", self._take(1))
        if code not in {_ARRAY, _COMPLEX, _SCALAR}:
            self.refuse(f"holds an extension of type {code}, which Flax does not write")
        inside = self._skip(num_bytes)
        end, self.at, self.end = self.end, inside.start, inside.stop
        content = self.value(depth + 1)
        if self.at != inside.stop:
            self.refuse("is damaged: an array has bytes behind its end")
        self.end = end
        if code == _COMPLEX:
            return self._complex(content)
        return self._array(content)

    def _complex(self, content: Any) -> complex:
        match content:
            case [float(real), float(imaginary)]:
                return complex(real, imaginary)
        self.refuse("is damaged: a complex number is not two numbers")

    def _array(self, content: Any) -> _Array:
        match content:
            case [list(shape), str(name), _Place() as place] if _is_shape(shape):
                if name not in _DTYPES:
                    self.refuse(f"holds an array of the type {name[:40]!r}, which is not supported")
                needed = math.prod(shape) * _DTYPES[name].itemsize
                if place.stop - place.start != needed:
                    wanted = " x ".join(map(str, shape)) or "a scalar"
                    self.refuse(
                        f"is damaged: an array ({wanted}, {name}) has "
                        f"{place.stop - place.start} bytes and should have {needed}"
                    )
                return _Array(place, _DTYPES[name], tuple(shape))
        self.refuse("is damaged: an array is not a shape, a type and bytes")


def _is_shape(numbers: Sequence[Any]) -> bool:
    return len(numbers) <= _MOST_AXES and all(type(n) is int and n >= 0 for n in numbers)


class _Builder:
    """Turns arrays, and maps of their chunks, into tensors."""

    def __init__(self, path: Path, data: np.ndarray) -> None:
        self.path, self.data = path, data

    def build(self, value: Any) -> Any:
        """Return a copy of a value with tensors in place of arrays."""
        if isinstance(value, _Array):
            return self._tensor([value], value.shape)
        if isinstance(value, _Place):
            return self.data[value.start : value.stop].tobytes()
        if isinstance(value, list):
            return [self.build(item) for item in value]
        if not isinstance(value, dict):
            return value
        if _CHUNKED in value:
            return self._joined(value)
        return {key: self.build(item) for key, item in value.items()}

    def _joined(self, value: Mapping[str, Any]) -> Tensor:
        shape, chunks = (_in_order(value.get(name)) for name in (_SHAPE, _CHUNKS))
        if shape is None or not chunks or not _is_shape(shape):
            raise self._damaged("an array in chunks has no shape or no chunks")
        if not all(isinstance(c, _Array) and c.dtype == chunks[0].dtype for c in chunks):
            raise self._damaged("the chunks of an array are not arrays of one type")
        if math.prod(shape) != sum(math.prod(chunk.shape) for chunk in chunks):
            raise self._damaged("the chunks of an array do not add up to its shape")
        return self._tensor(chunks, tuple(shape))

    def _tensor(self, arrays: Sequence[_Array], shape: tuple[int, ...]) -> Tensor:
        dtype = arrays[0].dtype
        places = [self.data[a.place.start : a.place.stop] for a in arrays]
        flat = np.concatenate(places) if len(places) > 1 else places[0]
        if flat.ctypes.data % dtype.itemsize:
            flat = flat.copy()
        try:
            if not len(flat):
                return torch.empty(shape, dtype=dtype)
            return torch.from_numpy(flat).view(dtype).reshape(shape)
        except (RuntimeError, OverflowError, TypeError, ValueError):
            raise self._damaged("an array has no possible shape") from None

    def _damaged(self, what: str) -> ModelError:
        return ModelError(f"{self.path} is damaged: {what}")


def _in_order(value: Any) -> list[Any] | None:
    """Return the values of ``{"0": a, "1": b}`` in order."""
    if not isinstance(value, dict) or set(value) != {str(i) for i in range(len(value))}:
        return None
    return [value[str(i)] for i in range(len(value))]


def write_flax(path: Path, content: Mapping[str, Any], chunk_bytes: int = _MOST_BYTES) -> None:
    """Write a checkpoint that `flax.serialization.msgpack_restore` reads.

    Args:
        path: file to write.
        content: tensors by names such as ``embedding/kernel``, which are written below ``params``;
            or a dictionary that holds such dictionaries.
        chunk_bytes: larger arrays are written in chunks.

    Raises:
        ModelError: if a name is that of a tensor and of a group of tensors, or a tensor is of a
            type that Flax lacks.
    """
    only_tensors = all(isinstance(value, Tensor) for value in content.values())
    tree = nested({PARAMS: content} if only_tensors else content)
    with path.open("wb") as file:
        file.writelines(_packed(tree, chunk_bytes))


def nested(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return dictionaries in place of names with slashes: ``{"a/b": x}`` is ``{"a": {"b": x}}``.

    Raises:
        ModelError: if a name is that of a value and of a group.
    """
    tree: dict[str, Any] = {}
    for name, value in content.items():
        *groups, last = name.split("/")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise ModelError(f"the tensor {name!r} would lie inside the tensor {group!r}")
        if last in place:
            raise ModelError(f"the name {name!r} stands for a tensor and for a group of tensors")
        place[last] = nested(value) if isinstance(value, Mapping) else value
    return tree


def _packed(value: Any, chunk_bytes: int) -> Iterator[bytes]:
    """Yield what a value is written as, one array at a time."""
    packer = msgpack.Packer()
    if isinstance(value, Tensor):
        yield from _packed_tensor(value.detach().cpu().contiguous(), chunk_bytes)
    elif isinstance(value, Mapping):
        yield packer.pack_map_header(len(value))
        for key, item in value.items():
            yield packer.pack(key)
            yield from _packed(item, chunk_bytes)
    else:
        yield packer.pack(value)


def _packed_tensor(tensor: Tensor, chunk_bytes: int) -> Iterator[bytes]:
    step = max(1, chunk_bytes // tensor.itemsize)
    if tensor.numel() > step:
        chunks = {str(i): part for i, part in enumerate(tensor.flatten().split(step))}
        shape = {str(i): size for i, size in enumerate(tensor.shape)}
        yield from _packed({_CHUNKED: True, _SHAPE: shape, _CHUNKS: chunks}, chunk_bytes)
        return
    if tensor.dtype not in _NAMES:
        raise ModelError(f"Flax has no place for tensors of the type {tensor.dtype}")
    content = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
    inside = msgpack.packb((list(tensor.shape), _NAMES[tensor.dtype], content))
    yield msgpack.packb(msgpack.ExtType(_ARRAY, inside))
