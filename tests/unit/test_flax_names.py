"""Tensors of Flax to those of torch and back, against the inventories of published models."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from golden import REFERENCE, SALT, recipe
from torch import Tensor

from zoo.checkpoints.flax_names import (
    ATTENTION,
    BLOCK_TENSORS,
    block_from_flax,
    block_to_flax,
    flax_block,
    from_flax,
    to_flax,
)
from zoo.errors import ModelError
from zoo.models.stream_block import StreamBlock

TINY = "golden_avmae/tiny_keys.csv"
INVENTORIES = [
    *(f"avmae_{kind}_keys.csv" for kind in ("early", "early_sepdec", "mid", "separate", "shared")),
    *(f"mbt_{kind}_keys.csv" for kind in ("av", "a", "v")),
]
needs_avmae = pytest.mark.skipif(
    not (REFERENCE / TINY).is_file(),
    reason="the inventories of Audiovisual MAE are not beside this checkout",
)

# As the README beside the golden vectors spells the column `to_flax`: theirs from the stand-in.
TO_FLAX = {
    "same": lambda x, _shape: x,
    "T": lambda x, _shape: x.t(),
    "qkv": lambda x, shape: x.t().reshape(shape),
    "out": lambda x, shape: x.t().reshape(shape),
    "flat": lambda x, shape: x.reshape(shape),
    "conv2d": lambda x, _shape: x.permute(2, 3, 1, 0),
    "conv3d": lambda x, _shape: x.permute(2, 3, 4, 1, 0),
}


def sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))


def read(path: Path) -> dict[str, list[dict[str, str]]]:
    """Return the rows of an inventory by model."""
    models: dict[str, list[dict[str, str]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            models.setdefault(row.get("model", ""), []).append(row)
    return models


def trees(rows: list[dict[str, str]], *, fake: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the stand-ins of a model, by torch's names, and the same in Flax's names and axes.

    Args:
        rows: of its inventory.
        fake: the published stand-ins; else numbers that count up, which is faster.
    """
    theirs, flax = {}, {}
    for row in rows:
        shape = sizes(row["fake_shape"])
        if fake:
            made = torch.from_numpy(recipe().fake_tensor(SALT, row["fake_key"], shape))
        else:
            made = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)
        theirs[row["fake_key"]] = made
        flax[row["key"]] = TO_FLAX[row["to_flax"]](made, sizes(row["shape"])).contiguous()
        assert flax[row["key"]].shape == sizes(row["shape"])
    return theirs, flax


def heads_of(flax: dict[str, Tensor]) -> dict[str, int]:
    """Return the heads of every attention, as the shapes tell them."""
    return {
        name.removesuffix("/query/bias").replace("/", "."): x.shape[0]
        for name, x in flax.items()
        if name.endswith("/query/bias")
    }


def check_same(ours: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert ours.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(ours[name], tensor), name
        assert ours[name].is_contiguous()


@needs_avmae
@pytest.mark.parametrize("inventory", INVENTORIES)
def test_every_tensor_of_the_published_models_goes_both_ways(inventory: str) -> None:
    """Whose numbers count up: a wrong order of axes shows."""
    rows = read(REFERENCE / inventory)[""]
    rows = [row for row in rows if "encoderblock_" not in row["key"] or "block_0" in row["key"]]
    theirs, flax = trees(rows, fake=False)
    check_same(from_flax(flax), theirs)
    check_same(to_flax(theirs, heads_of(flax).__getitem__), flax)


@needs_avmae
def test_the_small_stand_ins_go_both_ways_bit_for_bit() -> None:
    for rows in read(REFERENCE / TINY).values():
        theirs, flax = trees(rows, fake=True)
        check_same(from_flax(flax), theirs)
        check_same(to_flax(theirs, heads_of(flax).__getitem__), flax)


@needs_avmae
def test_every_block_is_one_of_ours() -> None:
    """Query, key and value are stacked."""
    num_blocks = 0
    for rows in read(REFERENCE / TINY).values():
        theirs, flax = trees(rows, fake=True)
        for attention, heads in heads_of(flax).items():
            block = attention.removesuffix(f".{ATTENTION}")
            prefix, num_blocks = block.replace(".", "/"), num_blocks + 1
            ours = block_from_flax(flax, prefix)
            for name, tensor in ours.items():
                wanted = [theirs[f"{block}.{their}"] for their in flax_block(name)]
                assert torch.equal(tensor, torch.cat(wanted)), name
            back = block_to_flax(ours, prefix, heads)
            check_same(back, {n: x for n, x in flax.items() if n.startswith(f"{prefix}/")})
    assert num_blocks > 40


def test_the_names_are_those_of_a_block() -> None:
    block = StreamBlock(6, 2)
    assert set(BLOCK_TENSORS) == set(block.state_dict())
    there = block_to_flax(block.state_dict(), "a/encoderblock_0", 2)
    block.load_state_dict(block_from_flax(there, "a/encoderblock_0"))
    assert there[f"a/encoderblock_0/{ATTENTION}/key/kernel"].shape == (6, 2, 3)


def test_a_block_computes_what_flax_defines() -> None:
    """An attention by its kernels: softmax over (D, heads, channels) products."""
    torch.manual_seed(0)
    block, x = StreamBlock(6, 2), torch.randn(1, 5, 6)
    flax = block_to_flax({k: torch.randn_like(v) for k, v in block.state_dict().items()}, "b", 2)
    block.load_state_dict(block_from_flax(flax, "b"))
    at = f"b/{ATTENTION}"
    q, k, v = (
        torch.einsum("nmd,dhc->nmhc", x, flax[f"{at}/{part}/kernel"]) + flax[f"{at}/{part}/bias"]
        for part in ("query", "key", "value")
    )
    weights = torch.einsum("nmhc,nlhc->nhml", q, k).div(3**0.5).softmax(-1)
    mixed = torch.einsum("nhml,nlhc->nmhc", weights, v)
    wanted = torch.einsum("nmhc,hcd->nmd", mixed, flax[f"{at}/out/kernel"]) + flax[f"{at}/out/bias"]
    assert torch.allclose(block.attn(x), wanted, atol=1e-5)


def test_what_does_not_fit_is_named() -> None:
    flax = block_to_flax(StreamBlock(6, 2).state_dict(), "b", 2)
    with pytest.raises(ModelError, match=r"the block 'c' lacks the tensor 'LayerNorm_0.weight'"):
        block_from_flax(flax, "c")
    with pytest.raises(ModelError, match=r"'a/kernel' has 3 axes"):
        from_flax({"a/kernel": torch.ones(1, 1, 1)})
    with pytest.raises(ModelError, match=r"'a.weight' has 3 axes"):
        to_flax({"a.weight": torch.ones(1, 1, 1)}, 1)
    for heads in (0, 4):
        with pytest.raises(ModelError, match=f"has 6 channels for {heads} heads"):
            block_to_flax(StreamBlock(6, 2).state_dict(), "b", heads)
    with pytest.raises(ModelError, match=r"no place for the tensor 'norm3.weight'"):
        block_to_flax({"norm3.weight": torch.ones(1)}, "b", 1)
