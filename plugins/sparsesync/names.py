"""Our names of tensors and SparseSync's."""

from __future__ import annotations

from typing import Literal

from zoo.checkpoints.names import rename

Kind = Literal["sparsesync", "avst"]
Rule = tuple[str, tuple[str, ...]]

_AUDIO_RULES = [(r"resnet\.(.+)", (r"afeat_extractor.\1",))]


def _vision_rules() -> list[Rule]:
    """They say ``conv_s`` and ``bn_t`` where torchvision, and so we, count layers."""
    separated = {r"0\.0": "conv_s", r"0\.1": "bn_s", r"1\.0": "conv_t", r"1\.1": "bn_t"}
    rules: list[Rule] = [(r"bridge\.0\.(\w+)", (r"v_bridge.bridge.0.\1",))]
    for ours, theirs in separated.items():
        place = r"features\.(0|3|\d+\.branch[12]\.1)\."
        rules.append((rf"{place}{ours}\.(\w+)", (rf"vfeat_extractor.base.\1.{theirs}.\2",)))
    for ours, theirs in {"0": "conv", "1": "bn"}.items():
        place = r"features\.(2|\d+\.branch[12]\.0|\d+\.branch3\.1)\."
        rules.append((rf"{place}{ours}\.(\w+)", (rf"vfeat_extractor.base.\1.{theirs}.\2",)))
        place = r"features\.(\d+\.branch0)\."
        rules.append((rf"{place}{ours}\.(\w+)", (rf"vfeat_extractor.base.\1.0.{theirs}.\2",)))
    return rules


def _block_rules(ours: str, theirs: str) -> list[Rule]:
    """Rename the blocks of a transformer, those of a selector too."""
    inner = {r"linear1\.": "mlp.0", r"linear2\.": "mlp.2"}
    inner |= {rf"norm{i}\.": f"ln{i}" for i in (1, 2, 3)}
    rules: list[Rule] = []
    for attention, their in {"self_attn": "attn", "multihead_attn": "xattn"}.items():
        inner[rf"{attention}\.out_proj\."] = f"{their}.proj"
        parts = tuple(rf"{theirs}blocks.\1.{their}.{part}.\2" for part in ("query", "key", "value"))
        rules.append((rf"{ours}blocks\.(\d+)\.{attention}\.in_proj_(\w+)", parts))
    for mine, their in inner.items():
        rules.append((rf"{ours}blocks\.(\d+)\.{mine}(\w+)", (rf"{theirs}blocks.\1.{their}.\2",)))
    return rules


def _head_rules(whole: str) -> list[Rule]:
    """Rename the tensors of a head, whose global transformer they keep under ``whole``."""
    rules: list[Rule] = [
        (r"classifier\.weight", ("transformer.off_head.weight",)),
        (r"transformer\.off_token", (f"{whole}OFF_tok",)),
        (r"transformer\.mod_token", (f"{whole}MOD_tok",)),
        (r"transformer\.norm\.(\w+)", (rf"{whole}ln_f.\1",)),
        *_block_rules(r"transformer\.", whole),
    ]
    tables = {"time": "time", "width": "width", "height": "height", "frequency": "freq"}
    for ours, short in (("audio", "aud"), ("vision", "vis")):
        selector = f"transformer.{short[0]}_selector."
        rules += [
            (rf"{ours}\.norm\.(\w+)", (rf"transformer.pre_lnorm_{short}.\1",)),
            (rf"transformer\.{ours}_norm\.(\w+)", (rf"{whole}{short}_in_lnorm.\1",)),
            (rf"{ours}_selector\.queries", (f"{selector}selectors",)),
            (
                rf"{ours}_selector\.positions",
                (f"{selector}selectors_pos_emb.time_embed.weight",),
            ),
            *_block_rules(rf"{ours}_selector\.", selector),
        ]
        for table, their in tables.items():
            theirs = f"transformer.{short}_pos_emb.{their}_embed.weight"
            rules.append((rf"{ours}\.positions\.tables\.{table}", (theirs,)))
    return rules


_HEAD_RULES: dict[Kind, list[Rule]] = {
    "sparsesync": _head_rules("transformer.global_transformer."),
    "avst": _head_rules("transformer."),
}
_VISION_RULES = _vision_rules()


def names(kind: Kind, tensor: str) -> tuple[str, ...]:
    """Return SparseSync's names of a tensor of our model, such as ``encoder.audio.extractor...``.

    Args:
        kind: which of its models.
        tensor: a name in the state dict of a model.

    Raises:
        ModelError: if the layout has no place for it.
    """
    part, _, rest = tensor.removeprefix("encoder.").partition(".")
    if part == "head":
        return rename(rest, _HEAD_RULES[kind])
    rules = _AUDIO_RULES if part == "audio" else _VISION_RULES
    return rename(rest.removeprefix("extractor."), rules)
