"""Checkpoints of Flax: read and written without Flax."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from published_weights import published_avsiam
from torch import Tensor, nn

from plugins.avsiam import layout as avsiam
from zoo.catalog.convert import convert_checkpoint, export_checkpoint
from zoo.checkpoints.flax_file import nested, write_flax
from zoo.checkpoints.layouts import read_tensors, unwrapped
from zoo.checkpoints.reader import read_checkpoint
from zoo.errors import ModelError
from zoo.registry.manager import registry
from zoo.testing import check_format


def pack(tree: Any) -> bytes:
    """Pack a tree as `flax.serialization.msgpack_serialize` does."""

    def extension(value: Any) -> msgpack.ExtType:
        if isinstance(value, complex):
            return msgpack.ExtType(2, msgpack.packb((value.real, value.imag)))
        code = 1 if isinstance(value, np.ndarray) else 3
        array = np.asarray(value)
        inside = msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True)
        return msgpack.ExtType(code, inside)

    return bytes(msgpack.packb(tree, default=extension, strict_types=True))


def array(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def params(width: int = 4) -> dict[str, Any]:
    return {
        "Transformer": {
            "encoderblock_0": {
                "LayerNorm_0": {"scale": array(width), "bias": array(width, seed=1)},
                "MlpBlock_0": {"Dense_0": {"kernel": array(width, 3 * width, seed=2)}},
            },
            "encoder_norm": {"scale": array(width, seed=3)},
        },
        "bottleneck": array(1, 4, width, seed=4),
    }


FLAT = {
    "Transformer/encoderblock_0/LayerNorm_0/scale",
    "Transformer/encoderblock_0/LayerNorm_0/bias",
    "Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel",
    "Transformer/encoder_norm/scale",
    "bottleneck",
}


def save(path: Path, tree: Any) -> Path:
    path.write_bytes(pack(tree))
    return path


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int64", "uint32", "bool", "complex64"]
)
@pytest.mark.parametrize("name", ["a", "ab", "abc", "abcd"])  # moves the array by a byte
def test_arrays_are_read_bit_for_bit(tmp_path: Path, dtype: str, name: str) -> None:
    wanted = array(3, 5, dtype=dtype)
    found = read_checkpoint(save(tmp_path / "checkpoint_7", {name: wanted}))[name]
    assert found.numpy().dtype == wanted.dtype
    assert np.array_equal(found.numpy(), wanted)


def test_bfloat16_is_read_through_torch(tmp_path: Path) -> None:
    wanted = torch.randn(2, 3).bfloat16()
    inside = msgpack.packb(((2, 3), "bfloat16", wanted.view(torch.uint8).numpy().tobytes()))
    (tmp_path / "a").write_bytes(msgpack.packb({"a": msgpack.ExtType(1, inside)}))
    found = read_checkpoint(tmp_path / "a")["a"]
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, wanted)


def test_whatever_else_a_train_state_holds_is_read(tmp_path: Path) -> None:
    tree = {
        "global_step": 7,
        "rng": np.array([1, 2], np.uint32),
        "loss": np.float32(1.5),
        "z": 1 - 2j,
        "metadata": {"epoch": -3, "name": "mid", "rate": 1e-4, "none": None, "flag": True},
        "list": [1, 70_000, -70_000, 2**40],
        "empty": array(0, 3),
        "scalar": array(),
        "raw": b"abc",
        "model_state": {},
    }
    found = read_checkpoint(save(tmp_path / "a", tree))
    assert found["metadata"] == tree["metadata"]
    assert (found["global_step"], found["z"], found["list"]) == (7, 1 - 2j, tree["list"])
    assert (found["raw"], found["model_state"]) == (b"abc", {})
    assert found["loss"] == torch.tensor(1.5)
    assert found["loss"].shape == found["scalar"].shape == ()
    assert found["empty"].shape == (0, 3)
    assert found["rng"].tolist() == [1, 2]


def test_lists_that_flax_writes_as_maps_stay_maps(tmp_path: Path) -> None:
    found = read_checkpoint(save(tmp_path / "a", {"layers": {"0": array(2), "1": array(2)}}))
    assert list(found["layers"]) == ["0", "1"]


def test_arrays_in_chunks_are_put_together(tmp_path: Path) -> None:
    wanted = array(3, 5)
    chunks = {"0": wanted.reshape(-1)[:7], "1": wanted.reshape(-1)[7:]}
    tree = {"__msgpack_chunked_array__": True, "shape": {"0": 3, "1": 5}, "chunks": chunks}
    found = read_checkpoint(save(tmp_path / "a", {"a": tree}))["a"]
    assert np.array_equal(found.numpy(), wanted)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": {"0": 3, "1": 6}},
        {"shape": {"0": 15, "2": 1}},
        {"shape": {"0": -3, "1": -5}},
        {"shape": 15},
        {"chunks": {}},
        {"chunks": {"0": array(7), "1": array(8, dtype="float64")}},
        {"chunks": {"0": array(15).tolist()}},
    ],
)
def test_chunks_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    chunks = {"0": array(7), "1": array(8)}
    tree = {"__msgpack_chunked_array__": True, "shape": {"0": 3, "1": 5}, "chunks": chunks}
    save(tmp_path / "a", {"a": {**tree, **change}})
    with pytest.raises(ModelError, match="is damaged: "):
        read_checkpoint(tmp_path / "a")


def adam(tree: Any) -> Any:
    """The state of an optimiser: it repeats the names of all parameters."""
    return {"step": 3, "0": {"mu": tree, "nu": tree}}


LAYOUTS = {
    "fine-tuned": lambda p: {"global_step": 3, "opt_state": adam(p), "params": p, "rng": array(2)},
    "pre-trained": lambda p: {"optimizer": {"state": adam(p), "target": p}, "model_state": {}},
    "pre-trained, params below": lambda p: {"optimizer": {"target": {"params": p}}},
    "bare": lambda p: p,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_parameters_are_found_in_every_layout(tmp_path: Path, layout: str) -> None:
    """And not those of an optimiser, which have the same names."""
    path = save(tmp_path / "checkpoint", LAYOUTS[layout](params()))
    found = [tensors for tensors in read_tensors(path) if set(tensors) == FLAT]
    assert len(found) == 1
    assert np.array_equal(found[0]["bottleneck"].numpy(), params()["bottleneck"])


def test_files_of_torch_give_the_same_parts_as_ever(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(1, 2)).sum().backward()
    optimizer.step()
    content = {"model": module.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(content, tmp_path / "a.pt")
    assert [list(part) for part in read_tensors(tmp_path / "a.pt")] == [["weight", "bias"]]


def test_a_group_that_holds_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {"a": {"b": {"c": torch.ones(1)}}}
    content["a"]["b"]["self"] = content["a"]["also"] = content["a"]
    torch.save(content, tmp_path / "a.pt")
    assert [list(part) for part in read_tensors(tmp_path / "a.pt")] == [["a/b/c"], ["b/c"]]


def test_tensors_are_written_and_read_bit_for_bit(tmp_path: Path) -> None:
    tensors = {
        "embedding/kernel": torch.randn(2, 3, 4).permute(2, 0, 1),
        "embedding/bias": torch.randn(6)[::2],
        "half": torch.randn(3).half(),
        "brain": torch.randn(3).bfloat16(),
        "flags": torch.tensor([True, False]),
        "complex": torch.randn(2, dtype=torch.complex64),
        "scalar": torch.tensor(0.07),
        "none": torch.empty(0, 3),
        "count": torch.tensor(3),
    }
    write_flax(tmp_path / "a", tensors)
    found = read_checkpoint(tmp_path / "a")["params"]
    assert list(found) == ["embedding", *list(tensors)[2:]]
    for name, tensor in tensors.items():
        group, _, last = name.rpartition("/")
        ours = found[group][last] if group else found[last]
        assert ours.dtype == tensor.dtype
        assert torch.equal(ours, tensor)


def test_the_library_msgpack_reads_what_is_written(tmp_path: Path) -> None:
    """As Flax does: extension 1 is (shape, dtype, bytes)."""
    write_flax(tmp_path / "a", {"params": {"a/b": torch.arange(6.0).view(2, 3)}, "global_step": 3})
    found = msgpack.unpackb((tmp_path / "a").read_bytes())
    assert found["global_step"] == 3
    leaf = found["params"]["a"]["b"]
    assert leaf.code == 1
    shape, dtype, content = msgpack.unpackb(leaf.data, raw=True)
    assert (shape, dtype) == ([2, 3], b"float32")
    assert np.frombuffer(content, np.float32).tolist() == [0, 1, 2, 3, 4, 5]


def test_large_arrays_are_written_in_chunks(tmp_path: Path) -> None:
    tensor = torch.randn(5, 5)
    write_flax(tmp_path / "a", {"a": tensor}, chunk_bytes=40)
    leaf = msgpack.unpackb((tmp_path / "a").read_bytes())["params"]["a"]
    assert leaf["shape"] == {"0": 5, "1": 5}
    assert list(leaf["chunks"]) == ["0", "1", "2"]
    assert torch.equal(read_checkpoint(tmp_path / "a")["params"]["a"], tensor)


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_tensor_is_no_group(names: tuple[str, str]) -> None:
    with pytest.raises(ModelError, match=r"a group of tensors|inside the tensor"):
        nested(dict.fromkeys(names, torch.ones(1)))


def test_a_type_that_flax_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="float8"):
        write_flax(tmp_path / "a", {"a": torch.ones(1).to(torch.float8_e4m3fn)})


def extension(code: int, content: Any, after: bytes = b"") -> bytes:
    return bytes(msgpack.packb({"a": msgpack.ExtType(code, msgpack.packb(content) + after)}))


DAMAGED = {
    "unknown extension": (extension(7, 1), "an extension of type 7, which Flax does not write"),
    "a time": (b"\x81\xa1a\xd6\xff\0\0\0\0", "an extension of type -1"),
    "too few bytes": (
        extension(1, ([3, 4], "float32", b"1" * 47)),
        r"\(3 x 4, float32\) has 47 bytes and should have 48",
    ),
    "too many bytes": (extension(1, ([], "float32", b"1" * 5)), r"\(a scalar, float32\) has 5"),
    "huge": (extension(1, ([2**40, 2**40], "float32", b"")), "should have"),
    "negative": (extension(1, ([-1, -1], "float32", b"1234")), "is not a shape, a type and bytes"),
    "no shape": (extension(1, (3, "float32", b"1" * 12)), "is not a shape, a type and bytes"),
    "bool shape": (extension(1, ([True], "int8", b"1")), "is not a shape, a type and bytes"),
    "other type": (extension(1, ([1], "object", b"12345678")), "the type 'object', which is not"),
    "bytes behind": (extension(1, ([1], "int8", b"1"), b"\0"), "has bytes behind its end"),
    "half a number": (extension(2, [1.0]), "a complex number is not two numbers"),
    "empty but huge": (extension(1, ([0, 2**62, 2**62], "int8", b"")), "no possible shape"),
    "twice": (b"\x82\xa1a\x01\xa1a\x02", "a key twice"),
    "no text as a key": (b"\x82\xa1a\x01\x01\x02", "one that is no text"),
    "no UTF-8": (b"\x81\xa1a\xa1\xff", "is not UTF-8"),
    "behind": (pack({"a": 1}) + b"\0", "bytes behind its end"),
    "no such byte": (b"\x81\xa1a\xc1", "no value begins with the byte 0xc1"),
    "deep": (b"\x81\xa1a" * 500 + b"\xc0", "nested too deeply"),
    "deep lists": (b"\x81\xa1a" + b"\x91" * 10_000 + b"\xc0", "nested too deeply"),
    "many": (b"\x81\xa1a\xdd\x00\x20\x00\x00" + b"\xc0" * (1 << 21), "too many values"),
    "claims many": (b"\x81\xa1a" + b"\xdd\xff\xff\xff\xff" * 3, "reaches beyond its end"),
    "claims many keys": (b"\x81\xa1a\xdf\xff\xff\xff\xff\xa1b", "reaches beyond its end"),
    "claims a long text": (b"\x81\xa1a\xdb\xff\xff\xff\xff", "reaches beyond its end"),
    "claims long bytes": (b"\x81\xa1a\xc6\xff\xff\xff\xff", "reaches beyond its end"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    content, reason = DAMAGED[case]
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ModelError, match=reason) as raised:
        read_checkpoint(tmp_path / "a")
    assert str(raised.value).startswith(str(tmp_path / "a"))
    assert len(str(raised.value).splitlines()) == 1


def test_a_file_that_is_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = pack(LAYOUTS["fine-tuned"](params(2)))
    for length in range(0, len(whole), 7):
        (tmp_path / "a").write_bytes(whole[:length])
        with pytest.raises(ModelError):
            read_checkpoint(tmp_path / "a")


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    whole = pack(LAYOUTS["fine-tuned"](params(2)))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        mutated = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(mutated), size=rng.integers(1, 6))
        mutated[places] = rng.integers(0, 256, size=len(places))
        (tmp_path / "a").write_bytes(mutated.tobytes())
        try:
            read_tensors(tmp_path / "a")
        except ModelError:
            refused += 1
    assert refused > 100


def test_safetensors_is_not_taken_for_flax(tmp_path: Path) -> None:
    """Its first bytes are the length of its header, which may begin as a map does."""
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    length = 0x61A181
    content = struct.pack("<Q", length) + header.ljust(length) + b"\7"
    (tmp_path / "a.safetensors").write_bytes(content)
    assert content[:3] == b"\x81\xa1a"
    assert read_checkpoint(tmp_path / "a.safetensors")["a"].tolist() == [7]


def test_flax_is_not_taken_for_safetensors(tmp_path: Path) -> None:
    save(tmp_path / "a", {"abcdef": 0x7B, "b": array(2)})
    assert (tmp_path / "a").read_bytes()[8:9] == b"{"
    assert read_checkpoint(tmp_path / "a")["abcdef"] == 0x7B


def test_a_tree_of_no_layout_says_what_it_holds(tmp_path: Path) -> None:
    path = save(tmp_path / "a", {"params": params()})
    with pytest.raises(ModelError, match=r"5 tensors, the first is 'params/Transformer/encoderb"):
        convert_checkpoint(path, tmp_path / "model")


def test_tensors_can_be_changed_without_changing_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a", {"abc": array(2), "b": array(2)})
    before = path.read_bytes()
    for tensor in read_checkpoint(path).values():
        assert isinstance(tensor, Tensor)
        tensor.zero_()
    assert path.read_bytes() == before


def test_a_model_is_written_for_flax_where_its_layout_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avsiam, "IMAGENET_CLASSES", 7)
    formats = registry().formats
    monkeypatch.setitem(formats, "avsiam", replace(formats["avsiam"], container="flax"))
    check_format("avsiam", unwrapped(published_avsiam()))
    torch.save(published_avsiam(), tmp_path / "theirs.pth")
    convert_checkpoint(tmp_path / "theirs.pth", tmp_path / "model")
    assert export_checkpoint(tmp_path / "model", tmp_path / "checkpoint") == "avsiam"
    found = read_checkpoint(tmp_path / "checkpoint")["params"]
    wanted = published_avsiam()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert convert_checkpoint(tmp_path / "checkpoint", tmp_path / "again") == "avsiam"
