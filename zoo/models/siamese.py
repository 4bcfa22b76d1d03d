"""A siamese pair: the transformer blocks of both extractors have the same attention and MLPs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from zoo.errors import ConfigError
from zoo.models.modules import Extractor

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)
_SHARING = "encoder.siamese=true shares the transformer blocks of both extractors"


def share_blocks(audio: Extractor, vision: Extractor, names: tuple[str, str]) -> dict[str, str]:
    """Let the blocks of the video extractor use the parameters of those of the audio extractor.

    Shared is what bears the same name in a block.  Norms stay apart, as in AVSiam (arXiv 2403.19638
    section 3.1), and so does what only one of the blocks has, such as attention over time.

    Args:
        audio: whose parameters are used.
        vision: whose parameters are replaced.
        names: of both extractors, for messages.

    Returns:
        Names within the video extractor of what is shared, and within the audio extractor.

    Raises:
        ConfigError: if the blocks differ.
    """
    blocks = [_blocks(part) for part in (audio, vision)]
    for name, found in zip(names, blocks, strict=True):
        if not found:
            raise ConfigError(f"{_SHARING}, and '{name}' has none; leave it out")
    depths = [len(found) for found in blocks]
    if depths[0] != depths[1]:
        counts = " and ".join(f"'{n}' has {d}" for n, d in zip(names, depths, strict=True))
        raise ConfigError(f"{_SHARING}, but {counts} of them; give both the same number")
    shared = {}
    for (place, block), (other_place, other) in zip(*(b.items() for b in blocks), strict=True):
        for name in _share(block, other, names):
            shared[f"{other_place}.{name}"] = f"{place}.{name}"
    return shared


def _blocks(extractor: Extractor) -> dict[str, nn.Module]:
    """Return the blocks of an extractor by their place in it."""
    places = {id(module): name for name, module in extractor.named_modules()}
    return {places[id(block)]: block for block in extractor.transformer_blocks()}


def _share(block: nn.Module, other: nn.Module, names: tuple[str, str]) -> list[str]:
    """Put the parameters of one block into another; return their names."""
    mine, theirs = _parameters(block), _parameters(other)
    common = [name for name in theirs if name in mine]
    if not common:
        raise ConfigError(f"{_SHARING}, but theirs have nothing in common: no name is the same")
    for name in common:
        shapes = [tuple(found[name].shape) for found in (mine, theirs)]
        if shapes[0] != shapes[1]:
            told = " and ".join(
                f"{' x '.join(map(str, shape))} in '{part}'"
                for shape, part in zip(shapes, names, strict=True)
            )
            raise ConfigError(f"{_SHARING}, but {name} is {told}; give both the same width")
        module, _, leaf = name.rpartition(".")
        setattr(other.get_submodule(module), leaf, mine[name])
    return common


def _parameters(block: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of a block, without those of norms."""
    return {
        f"{place}.{leaf}".lstrip("."): parameter
        for place, module in block.named_modules()
        if not isinstance(module, _NORMS)
        for leaf, parameter in module.named_parameters(recurse=False)
    }


def keep_once(module: nn.Module, twins: dict[str, str]) -> None:
    """Let the state dict of a module hold what it shares under one name.

    Files then hold it once; safetensors would refuse one tensor under two names.

    Args:
        module: that shares parameters.
        twins: the names to leave out, and the name that stands for each.
    """

    def leave_out(_module: nn.Module, state: dict[str, Any], prefix: str, _meta: Any) -> None:
        for twin in twins:
            state.pop(prefix + twin, None)

    def fill_in(_module: nn.Module, state: dict[str, Tensor], prefix: str, *given: Any) -> None:
        errors: list[str] = given[-1]
        for twin, name in twins.items():
            tensor = state.get(prefix + name)
            if tensor is None:
                continue
            if not state.setdefault(prefix + twin, tensor).equal(tensor):
                errors.append(
                    f"{prefix}{twin} differs from {prefix}{name}, and a siamese encoder has one "
                    "tensor for both"
                )

    module.register_state_dict_post_hook(leave_out)
    module.register_load_state_dict_pre_hook(fill_in)
