"""The baselines: SparseSync (arXiv 2210.07055), and AVST as it was trained again there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import zoo
from plugins.sparsesync.config import AvstConfig, SelectorConfig

if TYPE_CHECKING:
    from torch import Tensor

    from plugins.sparsesync.names import Kind
    from zoo.models.config import ModelConfig
    from zoo.models.model import Model

_S3D, _SELECTOR = "vfeat_extractor.base.", "transformer.v_selector."
_BRIDGE = "v_bridge."


def _build_selector(config: SelectorConfig, head_input: zoo.HeadInput) -> zoo.Head:
    from plugins.sparsesync.model import SparseSelectorHead

    return SparseSelectorHead(config, head_input)


def _build_avst(config: AvstConfig, head_input: zoo.HeadInput) -> zoo.Head:
    from plugins.sparsesync.model import AvstHead

    return AvstHead(config, head_input)


def _has(found: Collection[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in found)


def _is_sparsesync(found: Collection[str]) -> bool:
    return _has(found, _S3D) and _has(found, _SELECTOR)


def _is_avst(found: Collection[str]) -> bool:
    return _has(found, _S3D) and _has(found, _BRIDGE) and not _has(found, _SELECTOR)


def _read(kind: Kind, tensors: Mapping[str, Tensor]) -> tuple[ModelConfig, dict[str, Tensor]]:
    from plugins.sparsesync.layout import read

    return read(kind, tensors)


def _write(kind: Kind, model: Model) -> dict[str, Any]:
    from plugins.sparsesync.layout import write

    return write(kind, model)


_TINY_STAGE2 = {"steps": 4800, "soft_sigma": 5.0, "soft_until": 0.4}
_SEARCH: dict[str, zoo.Choice | zoo.Range] = {
    "depth": zoo.Range(low=1, high=6),
    "dropout": zoo.Choice(values=(0.0, 0.1, 0.2)),
}


@zoo.hookimpl
def register_heads() -> list[zoo.HeadSpec]:
    """Register ``sparse_selector`` and ``avst``."""
    return [
        zoo.HeadSpec(
            name="sparse_selector",
            summary="SparseSync: learned queries select from each stream, a transformer compares",
            config_class=SelectorConfig,
            build=_build_selector,
            presets={
                "paper": SelectorConfig(),
                "tiny": SelectorConfig(dim=64, heads=2, dropout=0.0),
            },
            search={**_SEARCH, "selectors": zoo.Choice(values=(4, 8, 16, 32))},
            tasks=("offset",),
            stage2={"tiny": _TINY_STAGE2},
            source="arXiv:2210.07055",
            license="MIT",
        ),
        zoo.HeadSpec(
            name="avst",
            summary="AVST: one transformer over all tokens of both streams",
            config_class=AvstConfig,
            build=_build_avst,
            presets={"paper": AvstConfig(), "tiny": AvstConfig(dim=64, heads=2, dropout=0.0)},
            search=_SEARCH,
            tasks=("offset",),
            stage2={"tiny": _TINY_STAGE2},
            source="arXiv:2112.04432, as trained again in arXiv:2210.07055",
            license="MIT",
        ),
    ]


@zoo.hookimpl
def register_encoders() -> list[zoo.EncoderSpec | zoo.PairSpec]:
    """Register ``sparsesync``."""
    return [
        zoo.PairSpec(
            name="sparsesync",
            summary="ResNet-18 and S3D over whole crops of 5 s, trained along with the head",
            audio="resnet18_spectrogram",
            vision="s3d_crop",
            aggregator="none",
            head="sparse_selector",
            # One segment, so that its step is only how finely crops are placed.
            layout=zoo.SegmentLayout(num_segments=1, segment_s=5.0, step_s=0.2),
            end_to_end=True,
            stage2={
                "paper": {"lr": 5e-6, "batch": 10, "patience": 140},
                "tiny": {
                    "steps": 2000,
                    "lr": 1e-3,
                    "batch": 16,
                    "valid_every": 500,
                    "valid_rounds": 1,
                },
            },
            source="arXiv:2210.07055",
        )
    ]


@zoo.hookimpl
def register_formats() -> list[zoo.FormatSpec]:
    """Register ``sparsesync`` and ``avst``."""
    source = "arXiv:2210.07055; github.com/v-iashin/SparseSync"
    return [
        zoo.FormatSpec(
            name="sparsesync",
            summary="SparseSync: ResNet-18, S3D and the sparse_selector head",
            task="offset",
            recognises=_is_sparsesync,
            read=partial(_read, "sparsesync"),
            write=partial(_write, "sparsesync"),
            source=source,
            license="MIT",
        ),
        zoo.FormatSpec(
            name="avst",
            summary="AVST as SparseSync trained it again: ResNet-18, S3D and the avst head",
            task="offset",
            recognises=_is_avst,
            read=partial(_read, "avst"),
            write=partial(_write, "avst"),
            source=source,
            license="MIT",
        ),
    ]
