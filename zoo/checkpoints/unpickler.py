"""An unpickler that builds tensors and plain data, and runs nothing.

A pickle is a program: it names functions and has them called. Here every name is answered by an
object of ours, made anew each time, so a file can neither call nor change anything of this
process. Names that checkpoints of others are known to hold are answered by a stand-in that takes
whatever is done to it and does nothing; any other name ends the reading.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from zoo.errors import ModelError

# Storage class -> name of its dtype (Source: torch.storage).
STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")

# Found beside the weights: configurations, versions, numbers of NumPy. Nobody needs them here.
_INERT_MODULES = ("omegaconf", "argparse", "typing", "pathlib", "datetime", "enum", "numpy.dtypes")
_INERT_NAMES = {
    "torch": {"Size", "device", "dtype", "Tensor", *STORAGES.values()},
    "torch.torch_version": {"TorchVersion"},
    "torch.nn.parameter": {"Parameter"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy._core.multiarray": {"scalar", "_reconstruct"},
    "collections": {"Counter"},
    "_codecs": {"encode"},
    "copy_reg": {"_reconstructor"},
    "copyreg": {"_reconstructor"},
    "operator": {"getitem"},
    "_operator": {"getitem"},
}
_INERT_BUILTINS = {
    *("object", "type", "dict", "list", "tuple", "set", "frozenset", "slice", "range"),
    *("int", "float", "complex", "bool", "str", "bytes", "bytearray", "NoneType"),
    *("long", "unicode", "basestring", "xrange"),  # as protocol 2 spells them
}
_LONGEST_NAME = 80


class _Fixed:
    """An object whose state a pickle cannot set."""

    __slots__ = ()

    @staticmethod
    def __setstate__(*_: Any) -> None:
        """Take no state."""


@dataclass(frozen=True, eq=False)
class Storage(_Fixed):
    """Bytes in the file that tensors look into."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True, eq=False)
class TensorRecord(_Fixed):
    """A tensor as the pickle describes it, checked to lie inside its storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Inert(_Fixed):
    """Stands in for an object of another library: takes all that a pickle does to it."""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return super().__new__(cls)

    def __call__(self, *_: Any, **__: Any) -> _Inert:
        return self

    def __setitem__(self, *_: Any) -> None:
        pass

    def append(self, *_: Any) -> None:
        """Take an item."""

    extend = add = append


class _Callable(_Fixed):
    """A function of ours that a pickle may call."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


@dataclass(frozen=True, eq=False)
class _StorageType(_Fixed):
    dtype: str


class RestrictedUnpickler(pickle.Unpickler):
    """Reads one pickle of a checkpoint.

    Args:
        stream: where the pickle begins.
        source: name of the file, for messages.
    """

    def __init__(self, stream: IO[bytes], source: str) -> None:
        super().__init__(stream, encoding="utf-8")
        self.source = source
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Answer a name with an object of ours.

        Raises:
            ModelError: if the name has no place in a checkpoint.
        """
        if module in _STORAGE_MODULES and name in STORAGES:
            return _StorageType(STORAGES[name])
        if module in {"torch._utils", "torch._tensor"} and name in _REBUILD:
            return _Callable(_REBUILD[name])
        if module == "collections" and name == "OrderedDict":
            return _Callable(OrderedDict)
        if module == "collections" and name == "defaultdict":
            return _Callable(lambda *_: OrderedDict())
        if _is_harmless(module, name):
            return type("Foreign", (_Inert,), {})
        asked = repr(f"{module}.{name}"[:_LONGEST_NAME])[1:-1]
        raise ModelError(
            f"{self.source} asks to run {asked}; it was not run; do not trust this file"
        )

    def persistent_load(self, pid: Any) -> Storage:
        """Answer a reference to a storage.

        Raises:
            ModelError: if it is not one.
        """
        match pid:
            case ("storage", _StorageType(dtype=dtype), str(key), _, int(numel), *rest) if (
                numel >= 0 and all(part is None for part in rest)
            ):
                found = self.storages.setdefault(key, Storage(key, dtype, numel))
                if (found.dtype, found.numel) == (dtype, numel):
                    return found
        raise ModelError(f"{self.source} is damaged: it refers to a storage that makes no sense")


def unpickle(stream: IO[bytes], source: str) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle; return what it holds, with tensors as records, and their storages.

    Raises:
        ModelError: if it asks for anything but tensors and plain data, or is damaged.
    """
    unpickler = RestrictedUnpickler(stream, source)
    try:
        return unpickler.load(), unpickler.storages
    except ModelError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        reason = type(error).__name__
        raise ModelError(
            f"{source} is damaged or cut short: its pickle cannot be read ({reason})"
        ) from None


def _is_harmless(module: str, name: str) -> bool:
    if module in {"builtins", "__builtin__"}:
        return name in _INERT_BUILTINS
    if name in _INERT_NAMES.get(module, ()):
        return True
    return any(module == known or module.startswith(f"{known}.") for known in _INERT_MODULES)


def _rebuild_tensor(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> TensorRecord:
    """Check a tensor against its storage (Source: torch._utils._rebuild_tensor_v2)."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("not a tensor")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.numel:
        raise ValueError("a tensor reaches beyond its storage")
    return TensorRecord(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(data: TensorRecord, *_: Any) -> TensorRecord:
    if not isinstance(data, TensorRecord):
        raise ValueError("not a parameter")
    return data


def _rebuild_from_type(function: _Callable, _type: Any, args: tuple[Any, ...], *_: Any) -> Any:
    if not isinstance(function, _Callable):
        raise ValueError("not a tensor")
    return function(*args)


_REBUILD: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": _rebuild_tensor,
    "_rebuild_tensor_v2": _rebuild_tensor,
    "_rebuild_parameter": _rebuild_parameter,
    "_rebuild_parameter_with_state": _rebuild_parameter,
    "_rebuild_from_type_v2": _rebuild_from_type,
}
