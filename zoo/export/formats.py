"""Tracing a model, and writing and running what comes of it as torch.export program or ONNX."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from zoo.errors import ConfigError
from zoo.export.inputs import Inputs, random_crops
from zoo.files import written_by_torch
from zoo.models.model import Model

ONNX_OPSET = 20
BATCH = Dim("batch", min=1, max=4096)
BATCHES = {"audio": {0: BATCH}, "vision": {0: BATCH}}
METADATA = "avsync-zoo.json"  # where a .pt2 file keeps what is known about it
log = logging.getLogger(__name__)


def trace(model: Model, name: str) -> tuple[ExportedProgram, bool]:
    """Return the program, and whether it takes any number of crops.

    Raises:
        ConfigError: if it cannot be traced even for one crop.
    """
    try:
        return _export(model, random_crops(model, 2), BATCHES), True
    except Exception as error:  # torch.export has no error class of its own
        log.warning("the batch size is fixed to 1: %s", _first_line(error))
    try:
        return _export(model, random_crops(model, 1), None), False
    except Exception as error:
        raise ConfigError(f"'{name}' cannot be traced: {_first_line(error)}") from error


def _export(model: Model, inputs: Inputs, dynamic_shapes: Any) -> ExportedProgram:
    with torch.no_grad(), _quiet():
        program = torch.export.export(model, inputs, dynamic_shapes=dynamic_shapes, strict=False)
    program.example_inputs = None  # they would be written along, larger than the weights
    return program


def save_torch(program: ExportedProgram, file: Path, metadata: dict[str, Any]) -> None:
    """Write a torch.export program with what is known about it."""
    with _quiet(), written_by_torch(file) as stream:
        torch.export.save(program, stream, extra_files={METADATA: json.dumps(metadata)})


def save_onnx(
    program: ExportedProgram, file: Path, metadata: dict[str, Any], *, is_dynamic: bool
) -> None:
    """Write an ONNX file with what is known about it.

    Raises:
        ConfigError: if the model has operations that ONNX lacks.
    """
    # ONNX's attention takes four dimensions, divided attention has five.
    attention = torch.ops.aten.scaled_dot_product_attention.default
    with _quiet():
        try:
            written = torch.onnx.export(
                program.run_decompositions({attention: _plain_attention}),
                dynamo=True,
                input_names=["audio", "vision"],
                output_names=["logits"],
                dynamic_shapes=BATCHES if is_dynamic else None,
                opset_version=ONNX_OPSET,
                verbose=False,
            )
        except Exception as error:
            raise ConfigError(f"this model has no ONNX form: {_first_line(error)}") from error
        assert written is not None
        written.model.metadata_props.update(
            {key: v if isinstance(v, str) else json.dumps(v) for key, v in metadata.items()}
        )
        written.save(file)


def _plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attend with products and a softmax where there are not four dimensions, else do not."""
    is_plain = attn_mask is None and not dropout_p and not is_causal and not enable_gqa
    if query.dim() == 4 or not is_plain:
        return NotImplemented
    scores = query @ key.transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
    return scores.softmax(-1) @ value


def load_torch(file: Path) -> Callable[[Inputs], Tensor]:
    """Return what runs a torch.export program."""
    with _quiet():
        program = torch.export.load(file).module()
    return lambda inputs: program(*inputs)


def load_onnx(file: Path) -> Callable[[Inputs], Tensor]:
    """Return what runs an ONNX file on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> Tensor:
        given = dict(zip(("audio", "vision"), (x.numpy() for x in inputs), strict=True))
        return torch.from_numpy(session.run(["logits"], given)[0])

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch.export and its converters from telling users about themselves."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
