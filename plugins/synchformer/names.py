"""Our names of tensors and Synchformer's; within the extractors, their own plugins know them."""

from __future__ import annotations

from typing import Literal

from zoo.checkpoints.names import rename
from zoo.registry.manager import registry

Kind = Literal["sync", "synchronizability", "avclip"]
AUDIO, VISION, AGGREGATOR = "ast", "motionformer", "transformer"
OBJECTIVE = "segment_avclip"
LOGIT_SCALE = "logit_scale"  # the temperature itself, not its logarithm

# Where the two extractors are: by whether it is stage I.
PREFIXES = {
    True: {"audio": "a_encoder.", "vision": "v_encoder."},
    False: {"audio": "afeat_extractor.", "vision": "vfeat_extractor."},
}
_EXTRACTORS = {"audio": (AUDIO, "huggingface-ast"), "vision": (VISION, "motionformer")}
_INSIDE = {"audio": "ast.", "vision": ""}
_AGGREGATORS = {"audio": "freq_attn_agg.", "vision": "spatial_attn_agg."}
_AGGREGATOR_RULES = [(r"cls_token", ("cls_token",)), (r"layer\.(.+)", (r"\1",))]
_BLOCK = r"transformer\.blocks\.(\d+)\."
_HEAD_RULES = [
    (r"vision_projection\.(\w+)", (r"vproj.\1",)),
    (r"audio_projection\.(\w+)", (r"aproj.\1",)),
    (r"transformer\.off_token", ("transformer.OFF_tok",)),
    (r"transformer\.mod_token", ("transformer.MOD_tok",)),
    (r"transformer\.positions", ("transformer.pos_emb_cfg.pos_emb",)),
    (r"transformer\.vision_norm\.(\w+)", (r"transformer.vis_in_lnorm.\1",)),
    (r"transformer\.audio_norm\.(\w+)", (r"transformer.aud_in_lnorm.\1",)),
    (r"transformer\.norm\.(\w+)", (r"transformer.ln_f.\1",)),
    (_BLOCK + r"norm([12])\.(\w+)", (r"transformer.blocks.\1.ln\2.\3",)),
    (
        _BLOCK + r"attn\.qkv\.(\w+)",
        tuple(rf"transformer.blocks.\1.attn.{name}.\2" for name in ("query", "key", "value")),
    ),
    (_BLOCK + r"attn\.proj\.(\w+)", (r"transformer.blocks.\1.attn.proj.\2",)),
    (_BLOCK + r"mlp\.fc1\.(\w+)", (r"transformer.blocks.\1.mlp.0.\2",)),
    (_BLOCK + r"mlp\.fc2\.(\w+)", (r"transformer.blocks.\1.mlp.2.\2",)),
]
_CLASSIFIERS = {"sync": "off_head", "synchronizability": "sync_head"}


def names(kind: Kind, tensor: str) -> tuple[str, ...]:
    """Return Synchformer's names of a tensor of our model, such as ``encoder.audio.extractor...``.

    Args:
        kind: which of its models.
        tensor: a name in the state dict of a model.

    Raises:
        ModelError: if the layout has no place for it.
    """
    part, _, rest = tensor.removeprefix("encoder.").partition(".")
    if part == "head":
        classifier = (r"transformer\.classifier\.(\w+)", (rf"transformer.{_head(kind)}.\1",))
        return rename(rest, [*_HEAD_RULES, classifier])
    inside, _, rest = rest.partition(".")
    prefix = PREFIXES[kind == "avclip"][part]
    if inside == "aggregator":
        theirs = rename(rest, _AGGREGATOR_RULES)
        return tuple(prefix + _AGGREGATORS[part] + their for their in theirs)
    extractor, layout = _EXTRACTORS[part]
    formats = {found.name: found for found in registry().extractor(extractor).formats}
    return tuple(prefix + _INSIDE[part] + their for their in formats[layout].names(rest))


def _head(kind: Kind) -> str:
    return _CLASSIFIERS.get(kind, "off_head")
