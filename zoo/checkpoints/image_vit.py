"""Weights of an image transformer as timm and MAE name them: what other encoders start from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isqrt

from jaxtyping import Float
from torch import Tensor

from zoo.checkpoints.names import is_image_vit
from zoo.checkpoints.tensors import Shapes, check_tensors, resample
from zoo.checkpoints.whole import count_blocks
from zoo.contracts import PatchEncoderConfig, Positions
from zoo.errors import ModelError, option

PATCHES, POSITIONS = "patch_embed.proj", "pos_embed"
# What is made of the last tokens, or of the class token.
LEFT_OUT = ("cls_token", "head.", "fc_norm.", "pre_logits.")
DECODER = ("mask_token", "decoder_")  # of MAE, with its decoder
LAYERS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
PAIR = ("weight", "bias")


@dataclass(frozen=True)
class ImageVit:
    """An image transformer whose tensors were checked.

    Attributes:
        tensors: by timm's names, without classifier, class token and decoder.
        decoder: MAE's decoder, by its names; empty where the file has none.
    """

    tensors: Mapping[str, Tensor]
    decoder: Mapping[str, Tensor]

    def block(self, number: int, norms: Collection[str]) -> dict[str, Tensor]:
        """Return the tensors of a block; every stream gets a copy of the norms.

        Args:
            number: of the block.
            norms: suffixes of the streams, such as ``"_a"``, or ``""``.
        """
        made: dict[str, Tensor] = {}
        for layer in LAYERS:
            suffixes = norms if layer.startswith("norm") else ("",)
            for kind in PAIR:
                tensor = self.tensors[f"blocks.{number}.{layer}.{kind}"]
                made |= {f"{layer}{suffix}.{kind}": tensor for suffix in suffixes}
        return made

    def norm(self, *names: str) -> dict[str, Tensor]:
        """Return copies of the norm after the blocks."""
        return {f"{name}.{kind}": self.tensors[f"norm.{kind}"] for name in names for kind in PAIR}

    @property
    def patch_weight(self) -> Float[Tensor, "D 3 H W"]:
        """What embeds the patches of a frame."""
        return self.tensors[f"{PATCHES}.weight"]

    @property
    def patch_bias(self) -> Float[Tensor, " D"]:
        """Its bias."""
        return self.tensors[f"{PATCHES}.bias"]

    @property
    def positions(self) -> Float[Tensor, "1 L D"]:
        """The positions of a square of patches, without the class token's."""
        return without_class_token(self.tensors[POSITIONS])


def read_image_vit(
    tensors: Mapping[str, Tensor], config: PatchEncoderConfig, depth: int
) -> ImageVit:
    """Check that an image transformer has the sizes of an encoder.

    Args:
        tensors: of a file that is of this layout.
        config: of the encoder.
        depth: blocks of the image transformer that the encoder makes use of.

    Raises:
        ModelError: saying what does not fit, or naming the tensor that is missing, unknown or
            broken.
    """
    kept = {name: x for name, x in tensors.items() if not name.startswith((*LEFT_OUT, *DECODER))}
    if not is_image_vit(kept):
        raise ModelError("it is no image transformer: it lacks its blocks or positions")
    shape, found = kept[f"{PATCHES}.weight"].shape, count_blocks(_shapes(kept), "blocks.")
    theirs, ours = (found, shape[0], shape[-1]), (depth, config.width, config.patch)
    if theirs != ours:
        told = [f"{n} blocks of width {w} and patches of {p} pixels" for n, w, p in (theirs, ours)]
        raise ModelError(
            f"it has {told[0]}, and the encoder takes {told[1]}",
            f"choose its sizes ({option('set')} encoder.width={shape[0]}, encoder.depth and "
            f"encoder.heads), or {option('preset')} paper",
        )
    check_tensors(kept, _expected(config.width, config.patch, depth, kept[POSITIONS]))
    decoder = {name: x for name, x in tensors.items() if name.startswith(DECODER)}
    return ImageVit(kept, decoder)


def without_class_token(table: Float[Tensor, "1 K D"]) -> Float[Tensor, "1 L D"]:
    """Return a table of positions without its first row, if the others are a square."""
    num = table.shape[1]
    return table if isqrt(num) ** 2 == num else table[:, 1:]


def fit_positions(
    table: Float[Tensor, "1 L D"], grid: tuple[int, int, int], positions: Positions
) -> Float[Tensor, "1 M D"]:
    """Bring the positions of a square of patches to a grid (frames, rows, columns).

    All frames have the same ones.

    Args:
        table: without a row for the class token.
        grid: that is wanted.
        positions: ``interpolate`` resamples other squares, ``prefix`` refuses them.

    Raises:
        ModelError: if they cannot be brought there.
    """
    frames, *wanted = grid
    side = isqrt(table.shape[1])
    if positions == "prefix" and [side, side] != wanted:
        raise ModelError(
            f"its positions are those of {side} x {side} patches, and a frame has {wanted[0]} x "
            f"{wanted[1]}",
            f"take {option('init_positions')} interpolate",
        )
    return resample(table, (side, side), (wanted[0], wanted[1])).repeat(1, frames, 1)


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _expected(width: int, patch: int, depth: int, table: Tensor) -> Shapes:
    """Return the shapes of an image transformer; its table may be of any square."""
    num = table.shape[1] if table.ndim == 3 else 0
    side = isqrt(num)
    rows = num if side and num - side**2 in {0, 1} else 14 * 14 + 1
    outputs = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
    shapes: dict[str, tuple[int, ...]] = {
        POSITIONS: (1, rows, width),
        f"{PATCHES}.weight": (width, 3, patch, patch),
        f"{PATCHES}.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for number in range(depth):
        for layer in LAYERS:
            name, (rows_out, columns) = f"blocks.{number}.{layer}", outputs.get(layer, (1, 0))
            weight = (rows_out * width, columns * width) if columns else (width,)
            shapes |= {f"{name}.weight": weight, f"{name}.bias": weight[:1]}
    return shapes
