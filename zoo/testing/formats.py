"""The check of layouts in which others publish whole models, or the weights of one extractor."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.checkpoints.flax_file import write_flax
from zoo.checkpoints.layouts import give, read_tensors, unwrapped
from zoo.checkpoints.tensors import to_published
from zoo.contracts import (
    EncoderConfig,
    ExtractorConfig,
    ExtractorSpec,
    FormatSpec,
    InitialWeights,
    WeightsFormat,
)
from zoo.errors import ModelError
from zoo.models.config import ModelConfig
from zoo.models.model import Model
from zoo.registry.manager import registry
from zoo.testing.promises import about, fresh
from zoo.testing.specs import check_light_import, check_named

FOREIGN = {"nothing.weight": torch.zeros(2)}


def check_weights_format(
    layout: WeightsFormat, spec: ExtractorSpec, config: ExtractorConfig
) -> None:
    """Check that weights of an extractor come back from a layout bit for bit."""
    with about(f"weights in the layout '{layout.name}'"):
        state = fresh(lambda: spec.build(config)).state_dict()
        with about("names"):
            kept = {key: tensor for key, tensor in state.items() if layout.names(key)}
            theirs = to_published(kept, layout.names)
        _check_recognition(layout, theirs)
        with about("read"):
            again = layout.read(theirs, config, "interpolate")
            filled_in = {key: again.get(key, state[key]) for key in state if key not in kept}
            _check_same(again, kept | filled_in)
        _check_refusals(lambda tensors: layout.read(tensors, config, "interpolate"), theirs)


def check_initial_weights(layout: InitialWeights, config: EncoderConfig) -> None:
    """Check that an encoder refuses to start from weights that are not of a layout."""
    with about(f"initial weights in the layout '{layout.name}'"):
        _check_recognition(layout, None)
        _check_refusals(lambda tensors: layout.read(tensors, config, "interpolate"), None)


def check_format(name: str, tensors: Mapping[str, Tensor] | None = None) -> None:
    """Check a layout of whole models: what it takes for its own, refuses, and gives back.

    Args:
        name: of the format.
        tensors: of a small checkpoint in this layout, to read, and to write again.
    """
    spec = registry().format(name)
    with about(f"format '{name}'"):
        for word in ("summary", "source", "license"):
            assert getattr(spec, word), f"has no {word}; say it in its spec"
        check_light_import("formats", name)
        if spec.task is not None:
            check_named("tasks", spec.task)
        _check_recognition(spec, tensors)
        _check_refusals(spec.read, tensors)
        if tensors is not None:
            _check_round_trip(spec, tensors)


def _check_recognition(
    layout: WeightsFormat | InitialWeights | FormatSpec, tensors: Mapping[str, Tensor] | None
) -> None:
    for foreign in ((), tuple(FOREIGN)):
        assert not layout.recognises(foreign), (
            f"takes tensors named {list(foreign)} for its own; look for names that no other "
            "layout has"
        )
    if tensors is None:
        return
    assert layout.recognises(tensors), "does not recognise a checkpoint of its own"
    others = [
        f"format '{other.name}'"
        for other in registry().formats.values()
        if other is not layout and other.recognises(tensors)
    ]
    assert not others, f"its checkpoints are also recognised by {', '.join(others)}"


def _check_refusals(read: Any, tensors: Mapping[str, Tensor] | None) -> None:
    """Whatever does not fit must be a ModelError, which the command line shows as one line."""
    wrong: dict[str, Mapping[str, Tensor]] = {"no tensor": {}, "tensors of something else": FOREIGN}
    if tensors:
        first = next(iter(tensors))
        wrong[f"a checkpoint without '{first}'"] = {
            key: tensor for key, tensor in tensors.items() if key != first
        }
    for what, given in wrong.items():
        try:
            read(dict(given))
        except ModelError:
            continue
        except Exception as error:
            raise AssertionError(
                f"raises {type(error).__name__} for {what}; raise a ModelError"
            ) from error
        raise AssertionError(f"reads {what} as if it were whole; raise a ModelError")


def _check_round_trip(spec: FormatSpec, tensors: Mapping[str, Tensor]) -> None:
    with about("read"):
        config, state = spec.read(dict(tensors))
        assert isinstance(config, ModelConfig), f"gives a {type(config).__name__}, no ModelConfig"
    with about("a model of what was read"):
        model = Model(config)
        give(model, state)
    with about("write"):
        written = spec.write(model)
        parts = [written, *(part for part in written.values() if isinstance(part, Mapping))]
        named = [part for part in map(unwrapped, parts) if set(tensors) <= set(part)]
        assert named, f"lacks '{next(iter(set(tensors) - set(parts[-1])))}'"
        _check_same(named[0], tensors)
    if spec.container == "flax":
        with about("a file of Flax"), tempfile.TemporaryDirectory() as folder:
            write_flax(Path(folder) / "checkpoint", written)
            read = read_tensors(Path(folder) / "checkpoint")
            own = [part for part in read if spec.recognises(part)]
            assert own, "is not recognised when it is read again"
            _check_same(own[0], tensors)


def _check_same(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert isinstance(given, Mapping), f"gives a {type(given).__name__}, not a dictionary"
    missing, unknown = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    assert not missing, f"lacks the tensor '{missing[0]}'"
    assert not unknown, f"has the unknown tensor '{unknown[0]}'"
    for name, tensor in wanted.items():
        assert torch.equal(given[name], tensor), f"'{name}' does not come back bit for bit"
