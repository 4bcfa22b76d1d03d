"""Checkpoints of others, of torch (two formats), safetensors and Flax. Nothing in them runs."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoo.checkpoints.flax_file import is_flax, read_flax
from zoo.checkpoints.unpickler import Storage, TensorRecord, unpickle
from zoo.errors import ModelError

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_LOCAL_HEADER, _LOCAL_HEADER_BYTES = "<26x2H", 30
_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the older format (Source: torch.serialization)
_MOST_MEMOS = 1 << 24
_DEEPEST = 64


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running anything that it holds.

    Tensors are views into the memory-mapped file, so that it is never held twice; objects of other
    libraries are stand-ins.

    Args:
        path: a ``.pt``, ``.pth``, ``.bin`` or ``.safetensors`` file, or one of Flax, which has no
            ending; its content decides.

    Raises:
        ModelError: if it is missing, damaged or no checkpoint, or asks to run something.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    if not head:
        raise ModelError(f"{path} is empty: it was not downloaded or copied whole")
    if head.startswith(_ZIP):
        found = _read_zip(path)
    elif size > 9 and head[8:9] == b"{" and not (any(head[4:8]) and is_flax(head)):
        found = _read_safetensors(path)  # its first byte may be any, that of a pickle too
    elif is_flax(head):
        found = read_flax(path)
    elif head.startswith(_PICKLE):
        found = _read_old(path)
    else:
        raise ModelError(_say_what(path, head))
    if not isinstance(found, dict):
        raise ModelError(f"{path} is no checkpoint: it holds no dictionary of tensors")
    return found


def _say_what(path: Path, head: bytes) -> str:
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"{path} is a web page, not a checkpoint: the download went wrong, repeat it"
    if head.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer, not the checkpoint itself: get it with git lfs pull"
    return f"{path} is not a checkpoint: neither of torch.save, nor safetensors, nor of Flax"


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path} is damaged or cut short: {reason}") from None


def _read_zip(path: Path) -> Any:
    data = np.memmap(path, np.uint8, mode="c")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise ModelError(f"{path} is damaged or cut short: get it again") from None
    if any(name.startswith("code/") for name in members):
        raise ModelError(f"{path} is a TorchScript program, not a checkpoint")
    if "data.pkl" not in members:
        raise ModelError(f"{path} is an archive, but not one of torch.save")
    if "byteorder" in members and _member(path, data, members["byteorder"]).tobytes() != b"little":
        raise ModelError(f"{path} was written on a big-endian machine, which is not supported")
    pickled = _member(path, data, members["data.pkl"]).tobytes()
    _check_memos(path, io.BytesIO(pickled))
    value, storages = unpickle(io.BytesIO(pickled), str(path))
    places = {}
    for key in storages:
        if f"data/{key}" not in members:
            raise ModelError(f"{path} is damaged: the storage {key!r} is missing")
        places[key] = _member(path, data, members[f"data/{key}"])
    return _Tensors(path, storages, places).build(value)


def _member(path: Path, data: np.ndarray, info: zipfile.ZipInfo) -> np.ndarray:
    """Return the bytes of a member as a view of the file; torch stores without compression."""
    damaged = ModelError(f"{path} is damaged: '{info.filename}' does not have its checksum")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ModelError(f"{path} is compressed, which torch.save never does")
    header = data[info.header_offset : info.header_offset + _LOCAL_HEADER_BYTES].tobytes()
    if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(_ZIP):
        raise damaged
    first = info.header_offset + _LOCAL_HEADER_BYTES + sum(struct.unpack(_LOCAL_HEADER, header))
    member = data[first : first + info.file_size]
    # torch can be told to leave checksums out; it then writes 0.
    if len(member) != info.file_size or (info.CRC and zlib.crc32(member.data) != info.CRC):
        raise damaged
    return member


def _read_old(path: Path) -> Any:
    """Read the format of torch before 1.6: five pickles, then the storages one after another."""
    data = np.memmap(path, np.uint8, mode="c")
    with path.open("rb") as file:
        if _next_pickle(path, file)[0] != _MAGIC:
            raise ModelError(f"{path} is a pickle, but not one of torch.save")
        _next_pickle(path, file)  # protocol version
        system = _next_pickle(path, file)[0]
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ModelError(f"{path} was written on a big-endian machine, which is not supported")
        value, storages = _next_pickle(path, file)
        keys = _next_pickle(path, file)[0]
        place = file.tell()
    if not isinstance(keys, list) or not set(storages) <= set(map(str, keys)):
        raise ModelError(f"{path} is damaged: it does not say where its storages are")
    places = {}
    for key in map(str, keys):
        count = data[place : place + 8].tobytes()
        numel = int.from_bytes(count, "little")
        place += 8
        if len(count) < 8 or key not in storages or numel != storages[key].numel:
            raise ModelError(f"{path} is damaged or cut short: the storage {key!r} does not fit")
        num_bytes = numel * _dtype(storages[key]).itemsize
        places[key] = data[place : place + num_bytes]
        place += num_bytes
    return _Tensors(path, storages, places).build(value)


def _next_pickle(path: Path, file: io.BufferedReader) -> tuple[Any, dict[str, Storage]]:
    first = file.tell()
    _check_memos(path, file)
    file.seek(first)
    return unpickle(file, str(path))


def _check_memos(path: Path, stream: IO[bytes]) -> None:
    """Refuse a pickle that numbers its memos so high that reading it would fill the memory."""
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name.endswith("PUT") and int(argument or 0) > _MOST_MEMOS:
                raise ValueError("memo")
    except Exception:  # a damaged pickle may raise anything
        raise ModelError(f"{path} is damaged or cut short: its pickle cannot be read") from None


def _dtype(storage: Storage) -> torch.dtype:
    return getattr(torch, storage.dtype)


class _Tensors:
    """Turns records into tensors, everywhere in nested dictionaries and lists."""

    def __init__(
        self, path: Path, storages: dict[str, Storage], places: dict[str, np.ndarray]
    ) -> None:
        self.flat: dict[str, Tensor] = {}
        self.built: dict[int, Any] = {}
        for key, storage in storages.items():
            dtype, place = _dtype(storage), places[key]
            if len(place) != storage.numel * dtype.itemsize:
                raise ModelError(f"{path} is damaged or cut short: the storage {key!r} is")
            if place.ctypes.data % dtype.itemsize:
                place = place.copy()
            whole = torch.from_numpy(place)
            self.flat[key] = whole.view(dtype) if len(place) else torch.empty(0, dtype=dtype)
        self.path = path

    def build(self, value: Any, depth: int = 0) -> Any:
        """Return a copy of a value with tensors in place of records."""
        if depth > _DEEPEST:
            raise ModelError(f"{self.path} is no checkpoint: it is nested too deeply")
        if id(value) in self.built:  # a pickle may hold one list many times, or inside itself
            return self.built[id(value)]
        if isinstance(value, TensorRecord):
            made: Any = self._view(value)
        elif isinstance(value, dict):
            made = self.built[id(value)] = {}
            made.update((key, self.build(item, depth + 1)) for key, item in value.items())
        elif isinstance(value, list):
            made = self.built[id(value)] = []
            made.extend(self.build(item, depth + 1) for item in value)
        elif isinstance(value, tuple):
            made = tuple(self.build(item, depth + 1) for item in value)
        else:
            return value
        self.built[id(value)] = made
        return made

    def _view(self, record: TensorRecord) -> Tensor:
        flat = self.flat[record.storage.key]
        try:
            return flat.as_strided(record.size, record.stride, record.offset)
        except (RuntimeError, TypeError, ValueError, OverflowError):
            raise ModelError(f"{self.path} is damaged: a tensor has no possible shape") from None
