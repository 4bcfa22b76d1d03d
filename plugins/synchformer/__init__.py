"""The layouts in which Synchformer's authors publish whole models (arXiv 2401.16423)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import zoo

if TYPE_CHECKING:
    from torch import Tensor

    from plugins.synchformer.names import Kind
    from zoo.models.config import ModelConfig
    from zoo.models.model import Model

_ANSWER = "transformer.sync_head."
_S3D = "vfeat_extractor.base."  # of SparseSync, by the same authors


def _has(found: Collection[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in found)


def _is_sync(found: Collection[str]) -> bool:
    is_other = _has(found, _ANSWER) or _has(found, _S3D)
    return _has(found, "vfeat_extractor.") and not is_other


def _is_synchronizability(found: Collection[str]) -> bool:
    return _has(found, "vfeat_extractor.") and _has(found, _ANSWER)


def _is_avclip(found: Collection[str]) -> bool:
    return _has(found, "v_encoder.") and _has(found, "a_encoder.")


def _read(kind: Kind, tensors: Mapping[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    from plugins.synchformer.layout import read

    return read(kind, tensors)


def _write(kind: Kind, model: Model) -> dict[str, Any]:
    from plugins.synchformer.layout import write

    return write(kind, model)


@zoo.hookimpl
def register_formats() -> list[zoo.FormatSpec]:
    """Register ``synchformer``, ``synchformer-synchronizability`` and ``synchformer-avclip``."""
    source = "arXiv:2401.16423; github.com/v-iashin/Synchformer"
    return [
        zoo.FormatSpec(
            name="synchformer",
            summary="Synchformer, stage II: AST, Motionformer and the sync head",
            task="offset",
            recognises=_is_sync,
            read=partial(_read, "sync"),
            write=partial(_write, "sync"),
            source=source,
            license="MIT",
        ),
        zoo.FormatSpec(
            name="synchformer-synchronizability",
            summary="Synchformer, fine-tuned to say whether a clip can be synchronized",
            recognises=_is_synchronizability,
            read=partial(_read, "synchronizability"),
            write=partial(_write, "synchronizability"),
            task="synchronizability",
            source=source,
            license="MIT",
        ),
        zoo.FormatSpec(
            name="synchformer-avclip",
            summary="Synchformer, stage I: AST and Motionformer after Segment AVCLIP",
            recognises=_is_avclip,
            read=partial(_read, "avclip"),
            write=partial(_write, "avclip"),
            task=None,
            source=source,
            license="MIT",
        ),
    ]
