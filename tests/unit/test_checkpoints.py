"""Reading checkpoints of others without running what is in them."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from zoo.checkpoints.reader import read_checkpoint
from zoo.errors import ModelError


class Runs:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


@pytest.fixture
def trained() -> dict[str, Any]:
    """A checkpoint as trainers write it: weights among all sorts of things."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return {
        "model": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [1]).state_dict(),
        "parameter": nn.Parameter(torch.randn(2, 3).t()),
        "column": torch.randn(4, 2)[:, 1],
        "half": torch.randn(3).half(),
        "none": torch.empty(0),
        "scalar": torch.tensor(0.07),
        "flags": torch.tensor([True, False]),
        "numpy": {"loss": np.float64(1.5), "dtype": np.dtype("f4"), "array": np.arange(3)},
        "args": argparse.Namespace(lr=1e-4),
        "time": datetime.datetime.now(),
        "path": Path("here"),
        "default": collections.defaultdict(list, {"a": [1]}),
        "set": {1, 2},
        "version": torch.__version__,
        "epoch": 3,
    }


def equal(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, torch.Tensor):
        is_same = torch.equal(ours, theirs) and ours.dtype == theirs.dtype
        return is_same and not ours.requires_grad
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[k], v) for k, v in theirs.items())
    return bool(ours == theirs)


@pytest.mark.parametrize("is_zip", [True, False])
def test_tensors_are_read_bit_for_bit(
    tmp_path: Path, trained: dict[str, Any], is_zip: bool
) -> None:
    torch.save(trained, tmp_path / "a.pt", _use_new_zipfile_serialization=is_zip)
    found = read_checkpoint(tmp_path / "a.pt")
    assert found.keys() == trained.keys()
    foreign = {"lr_scheduler", "numpy", "args", "time", "path", "set", "version"}
    for name in trained.keys() - foreign:
        assert equal(found[name], trained[name]), name


def test_safetensors_are_read(tmp_path: Path, trained: dict[str, Any]) -> None:
    tensors = {name: value.contiguous() for name, value in trained["model"].items()}
    save_file(tensors, tmp_path / "a.bin")  # the content decides, not the name
    assert equal(read_checkpoint(tmp_path / "a.bin"), tensors)


def test_safetensors_whose_first_byte_is_that_of_a_pickle_are_read(tmp_path: Path) -> None:
    tensors, path = {"weight": torch.randn(3)}, tmp_path / "model.safetensors"
    for length in range(256):  # the file begins with the length of its header
        save_file(tensors, path, metadata={"note": "x" * length})
        if path.read_bytes().startswith(b"\x80"):
            break
    assert path.read_bytes().startswith(b"\x80")
    assert torch.equal(read_checkpoint(path)["weight"], tensors["weight"])


def test_a_checkpoint_is_not_changed_through_its_tensors(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(4)}, tmp_path / "a.pt")
    before = (tmp_path / "a.pt").read_bytes()
    read_checkpoint(tmp_path / "a.pt")["a"].zero_()
    assert (tmp_path / "a.pt").read_bytes() == before


def test_a_checkpoint_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(4)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_checkpoint(tmp_path / "a.pt")["a"], torch.ones(4))


def test_a_configuration_of_omegaconf_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("omegaconf.dictconfig")
    loaded = []

    class DictConfig(dict):  # type: ignore[type-arg]
        def __setstate__(self, state: Any) -> None:
            loaded.append(state)

    DictConfig.__module__, DictConfig.__qualname__ = module.__name__, "DictConfig"
    module.DictConfig = DictConfig  # type: ignore[attr-defined]
    config = DictConfig(a=1)
    config.ref_type, config.element_type = Any, int
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        patch.setitem(sys.modules, module.__name__, module)
        torch.save({"args": config, "model": {"a": torch.ones(2)}}, tmp_path / "a.pt")
    assert torch.equal(read_checkpoint(tmp_path / "a.pt")["model"]["a"], torch.ones(2))
    assert not loaded
    assert "omegaconf" not in sys.modules


# --- files that would run something ---


def write_zip(path: Path, pickled: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (print, "print"),
        (eval, "eval"),
        (getattr, "getattr"),
        (__import__, "__import__"),
        (torch.load, "torch.serialization.load"),
        (pickle.loads, "pickle.loads"),
        (np.load, "numpy.load"),
    ],
)
def test_what_a_pickle_asks_to_run_is_named_and_not_run(
    tmp_path: Path, function: Callable[..., Any], name: str, is_zip: bool, protocol: int
) -> None:
    content = {"model": {"a": 1}, "args": Runs(function, str(tmp_path / "trace"))}
    pickled = pickle.dumps(content, protocol)
    path = tmp_path / "a.pt"
    write_zip(path, pickled) if is_zip else path.write_bytes(pickled)
    with pytest.raises(ModelError, match="was not run; do not trust this file") as error:
        read_checkpoint(path)
    assert name in str(error.value)
    assert len(str(error.value).splitlines()) == 1


CALLS_A_STAND_IN = b"cargparse\nNamespace\n(S'x'\ntR(dS'__class__'\nS'y'\nsbS'z'\n\x86."
BUILDS_ON_A_FUNCTION = b"ctorch._utils\n_rebuild_tensor_v2\n(N}S'__defaults__'\n(I1\ntst\x86b."
DOTTED = b"\x80\x04\x8c\x0bcollections\x8c\x1fOrderedDict.__init__.__globals__\x93."
EXTENSION = b"\x80\x02\x82\x01."


@pytest.mark.parametrize(
    "program", [CALLS_A_STAND_IN, BUILDS_ON_A_FUNCTION, DOTTED, EXTENSION, b"\x80\x02", b""]
)
def test_a_crooked_pickle_is_a_damaged_one(tmp_path: Path, program: bytes) -> None:
    from zoo.checkpoints.unpickler import _rebuild_tensor

    before = _rebuild_tensor.__defaults__
    write_zip(tmp_path / "a.pt", program)
    with pytest.raises(ModelError):
        read_checkpoint(tmp_path / "a.pt")
    assert _rebuild_tensor.__defaults__ == before


def test_a_pickle_cannot_fill_the_memory_with_memos(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.pt", b"\x80\x02}r\xff\xff\xff\x7f.")
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(tmp_path / "a.pt")


def test_lists_in_themselves_end(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"a": torch.ones(2)}
    loop["self"] = [loop, (loop,)]
    torch.save(loop, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    assert found["self"][0] is found
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    torch.save({"deep": deep}, tmp_path / "b.pt")
    with pytest.raises(ModelError, match="nested too deeply"):
        read_checkpoint(tmp_path / "b.pt")


def forge(path: Path, **changes: Any) -> None:
    """Write a checkpoint of one tensor of four numbers whose description lies."""
    described = {"offset": 0, "size": (4,), "stride": (1,), "numel": 4, "dtype": torch.FloatStorage}
    described |= changes

    class Forger(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, Pointer):
                return "storage", described["dtype"], "0", "cpu", described["numel"]
            return None

    class Pointer:
        pass

    rebuild = torch._utils._rebuild_tensor_v2
    place = (described["offset"], described["size"], described["stride"])
    stream = io.BytesIO()
    tensor = Runs(rebuild, Pointer(), *place, False, collections.OrderedDict())
    Forger(stream, 2).dump({"a": tensor})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())


def test_a_forged_description_that_is_true_is_read(tmp_path: Path) -> None:
    forge(tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt")["a"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "lie",
    [
        {"size": (5,)},
        {"offset": 1},
        {"offset": -1},
        {"stride": (2,)},
        {"stride": (-1,)},
        {"size": (2, 2), "stride": (4, 1)},
        {"size": (4,), "stride": ()},
        {"size": (0, 2**70), "stride": (1, 1)},
        {"size": ("4",)},
        {"numel": 5},
        {"numel": 8, "size": (8,)},
        {"numel": -4},
        {"dtype": torch.DoubleStorage},
    ],
)
def test_tensors_stay_inside_their_storage(tmp_path: Path, lie: dict[str, Any]) -> None:
    forge(tmp_path / "a.pt", **lie)
    with pytest.raises(ModelError, match="damaged"):
        read_checkpoint(tmp_path / "a.pt")


# --- files that are broken, or something else ---


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.9999])
def test_a_file_cut_short_is_damaged(
    tmp_path: Path, trained: dict[str, Any], share: float, is_zip: bool
) -> None:
    torch.save(trained, tmp_path / "a.pt", _use_new_zipfile_serialization=is_zip)
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match="damaged or cut short"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_missing_byte_of_an_empty_tensor_is_noticed(tmp_path: Path) -> None:
    """In the older format the length of the last storage may be the end of the file."""
    torch.save({"a": torch.empty(0)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "a.pt").read_bytes()
    assert read_checkpoint(tmp_path / "a.pt")["a"].numel() == 0
    (tmp_path / "a.pt").write_bytes(whole[:-1])
    with pytest.raises(ModelError, match="damaged or cut short"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pt")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[content.index(bytes(4000)) + 2000] ^= 4
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ModelError, match="does not have its checksum"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\x00\x00\x00\x18ftypmp42", "is not a checkpoint"),
        (pickle.dumps([1, 2]), "is a pickle, but not one of torch.save"),
        (b"PK\x03\x04 and then nothing", "damaged or cut short"),
        ((1 << 40).to_bytes(8, "little") + b'{"a":', "damaged or cut short"),
    ],
)
def test_what_is_no_checkpoint_is_said(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ModelError, match=sentence):
        read_checkpoint(tmp_path / "a.pt")


def test_other_archives_are_no_checkpoints(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ModelError, match=r"not one of torch\.save"):
        read_checkpoint(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}, 2))
    with pytest.raises(ModelError, match="compressed"):
        read_checkpoint(tmp_path / "b.pt")
    torch.save([torch.ones(2)], tmp_path / "c.pt")
    with pytest.raises(ModelError, match="no dictionary"):
        read_checkpoint(tmp_path / "c.pt")
    with pytest.raises(ModelError, match="cannot read"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(ModelError, match="cannot read"):
        read_checkpoint(tmp_path)
