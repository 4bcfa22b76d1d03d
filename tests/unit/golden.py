"""Golden vectors of the published code: fake weights and inputs, and our names for its keys."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
SALT = "public-v1"

needs_golden = pytest.mark.skipif(
    not (REFERENCE / "golden").is_dir(),
    reason="the golden vectors of the published code are not beside this checkout",
)


def arrays(name: str) -> dict[str, np.ndarray]:
    """Load ``golden/NAME.npz``."""
    with np.load(REFERENCE / "golden" / f"{name}.npz") as file:
        return dict(file)


@cache
def recipe() -> ModuleType:
    """Import ``fake_weights.py`` from where it lies."""
    spec = importlib.util.spec_from_file_location("fake_weights", REFERENCE / "fake_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def features(name: str, *shape: int) -> Tensor:
    """Return unit-normal fake features."""
    return torch.from_numpy(recipe().fake_features(SALT, name, shape))


def unit(x: Tensor) -> Tensor:
    """Scale to unit length along the last axis."""
    return nn.functional.normalize(x, dim=-1)


# Our key -> the published key; several published keys are concatenated (q, k, v).
_AST = [
    (r"vit\.cls_token", ["ast.embeddings.cls_token"]),
    (r"vit\.dist_token", ["ast.embeddings.distillation_token"]),
    (r"vit\.pos_embed", ["ast.embeddings.position_embeddings"]),
    (r"vit\.patch_embed\.proj\.(\w+)", [r"ast.embeddings.patch_embeddings.projection.\1"]),
    (r"vit\.norm\.(\w+)", [r"ast.layernorm.\1"]),
    (r"vit\.blocks\.(\d+)\.norm1\.(\w+)", [r"ast.encoder.layer.\1.layernorm_before.\2"]),
    (r"vit\.blocks\.(\d+)\.norm2\.(\w+)", [r"ast.encoder.layer.\1.layernorm_after.\2"]),
    (
        r"vit\.blocks\.(\d+)\.attn\.qkv\.(\w+)",
        [rf"ast.encoder.layer.\1.attention.attention.{n}.\2" for n in ("query", "key", "value")],
    ),
    (
        r"vit\.blocks\.(\d+)\.attn\.proj\.(\w+)",
        [r"ast.encoder.layer.\1.attention.output.dense.\2"],
    ),
    (r"vit\.blocks\.(\d+)\.mlp\.fc1\.(\w+)", [r"ast.encoder.layer.\1.intermediate.dense.\2"]),
    (r"vit\.blocks\.(\d+)\.mlp\.fc2\.(\w+)", [r"ast.encoder.layer.\1.output.dense.\2"]),
]
_MOTIONFORMER = [
    (r"patch_embed_3d\.(\w+)", [r"patch_embed_3d.proj.\1"]),
    (r"patch_embed\.(\w+)", [r"patch_embed.proj.\1"]),
    (r"(.+)", [r"\1"]),
]
_HEAD = [
    (r"vision_projection\.(\w+)", [r"vproj.\1"]),
    (r"audio_projection\.(\w+)", [r"aproj.\1"]),
    (r"transformer\.off_token", ["transformer.OFF_tok"]),
    (r"transformer\.mod_token", ["transformer.MOD_tok"]),
    (r"transformer\.positions", ["transformer.pos_emb_cfg.pos_emb"]),
    (r"transformer\.vision_norm\.(\w+)", [r"transformer.vis_in_lnorm.\1"]),
    (r"transformer\.audio_norm\.(\w+)", [r"transformer.aud_in_lnorm.\1"]),
    (r"transformer\.norm\.(\w+)", [r"transformer.ln_f.\1"]),
    (r"transformer\.classifier\.(\w+)", [r"transformer.off_head.\1"]),
    (r"transformer\.blocks\.(\d+)\.norm([12])\.(\w+)", [r"transformer.blocks.\1.ln\2.\3"]),
    (
        r"transformer\.blocks\.(\d+)\.attn\.qkv\.(\w+)",
        [rf"transformer.blocks.\1.attn.{name}.\2" for name in ("query", "key", "value")],
    ),
    (r"transformer\.blocks\.(\d+)\.attn\.proj\.(\w+)", [r"transformer.blocks.\1.attn.proj.\2"]),
    (r"transformer\.blocks\.(\d+)\.mlp\.fc1\.(\w+)", [r"transformer.blocks.\1.mlp.0.\2"]),
    (r"transformer\.blocks\.(\d+)\.mlp\.fc2\.(\w+)", [r"transformer.blocks.\1.mlp.2.\2"]),
]
_AGGREGATOR = [(r"cls_token", ["cls_token"]), (r"layer\.(.+)", [r"\1"])]

_TABLES = {
    "afeat_extractor.": _AST,
    "a_encoder.": _AST,
    "vfeat_extractor.": _MOTIONFORMER,
    "v_encoder.": _MOTIONFORMER,
    "": _HEAD,
}
_AGGREGATORS = {
    "afeat_extractor.": "freq_attn_agg.",
    "a_encoder.": "freq_attn_agg.",
    "vfeat_extractor.": "spatial_attn_agg.",
    "v_encoder.": "spatial_attn_agg.",
}


def fill(module: nn.Module, prefix: str, inventory: str, *, is_aggregator: bool = False) -> None:
    """Give a module the fake weights of its published counterpart; every key must be listed.

    Args:
        module: one of ours.
        prefix: of the published keys, such as ``afeat_extractor.``.
        inventory: name of the CSV that lists the published keys.
        is_aggregator: the module is the aggregator of that extractor.
    """
    table = _AGGREGATOR if is_aggregator else _TABLES[prefix]
    prefix += _AGGREGATORS[prefix] if is_aggregator else ""
    shapes = {key: shape for key, shape, *_ in recipe().read_inventory(REFERENCE / inventory)}

    def value(key: str) -> np.ndarray:
        return recipe().fake_tensor(SALT, key, shapes[key])

    state = {
        name: torch.from_numpy(np.concatenate([value(k) for k in _keys(name, prefix, table)]))
        for name in module.state_dict()
    }
    module.load_state_dict(state)
    module.eval()


def _keys(name: str, prefix: str, table: list[tuple[str, list[str]]]) -> list[str]:
    for pattern, keys in table:
        if re.fullmatch(pattern, name):
            return [prefix + re.sub(pattern, key, name) for key in keys]
    raise KeyError(f"no published key is known for {name}")


def record(modules: dict[str, nn.Module], run: Callable[[], object]) -> dict[str, Tensor]:
    """Run something and return what the named modules gave."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
        for name, module in modules.items()
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return seen
