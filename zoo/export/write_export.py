"""Writing a model in another format, and comparing what was written with the model."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

import zoo
from zoo.catalog.entries import read_description, resolve
from zoo.catalog.model_folder import load_model
from zoo.errors import ConfigError, ModelError, option, suggest
from zoo.export.formats import load_onnx, load_torch, save_onnx, save_torch, trace
from zoo.export.inputs import Inputs, crop_of_clip, made_up_crop, random_crops, shapes_of
from zoo.models.model import Model
from zoo.models.task import Task

Format = Literal["torch", "onnx"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {"torch": ".pt2", "onnx": ".onnx"}
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: the file; weights beyond 2 GB of an ONNX file lie beside it.
        format: ``torch`` or ``onnx``.
        num_bytes: its size.
        batch: whether any number of crops can be given at a time, else one.
        differences: largest absolute difference of the logits from the eager model, by input.
        largest_logit: of the eager model, to compare them with.
        metadata: what the file says about itself.
    """

    path: Path
    format: Format
    num_bytes: int
    batch: bool
    differences: dict[str, float]
    largest_logit: float
    metadata: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON types."""
        return asdict(self) | {"path": str(self.path)}


def export(
    model: str | Path,
    out: str | Path,
    *,
    format: str = "torch",
    clip: str | Path | None = None,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a model as a torch.export program or as ONNX, if it answers as the model does.

    The inputs are segments after the front ends: ``audio`` ``(B, S, F, Ta)`` and ``vision``
    ``(B, S, C, Tv, H, W)``; the output is ``logits`` ``(B, K)``.

    Args:
        model: catalog name or model folder; it must have a head.
        out: file to write; must not exist.
        format: ``torch`` or ``onnx``.
        clip: a clip to compare on, by default a made-up flash with a click.
        tolerance: largest difference of the logits, as a share of the largest logit where that is
            above 1.

    Raises:
        ModelError: if the model cannot be loaded, or what was written answers otherwise.
        ConfigError: if there is no such format, a package is missing, the model has no head or
            cannot be traced, or ``out`` exists or cannot be written.
        MediaError: if the clip cannot be read.
    """
    out = Path(out)
    kind = _check_request(format, out)
    folder = resolve(model)
    loaded = load_model(folder)
    if loaded.head is None or loaded.task is None:
        raise ConfigError(
            f"'{model}' has no head yet, so it has no logits to export", "train stage 2 first"
        )
    real = made_up_crop(loaded) if clip is None else crop_of_clip(loaded, Path(clip))
    program, is_dynamic = trace(loaded, str(model))
    metadata = _describe(loaded, str(model), read_description(folder)["sha256"], is_dynamic)
    num = 1 + is_dynamic  # another number than the real input has
    inputs = {
        "a made-up flash and click" if clip is None else str(clip): real,
        f"random, batch of {num}": random_crops(loaded, num),
    }
    with _part_folder(out) as part:
        written = part / out.name
        if kind == "onnx":
            save_onnx(program, written, metadata, is_dynamic=is_dynamic)
        else:
            save_torch(program, written, metadata)
        answer = load_onnx(written) if kind == "onnx" else load_torch(written)
        differences, largest_logit = _compare(loaded, answer, inputs)
        _require_agreement(differences, largest_logit, tolerance, kind)
        num_bytes = sum(file.stat().st_size for file in part.iterdir())
        _move(part, out)
    return Exported(out, kind, num_bytes, is_dynamic, differences, largest_logit, metadata)


def _check_request(name: str, out: Path) -> Format:
    known = next((known for known in FORMATS if known == name), None)
    if known is None:
        raise ConfigError(
            f"{option('format')} '{name}' is not one of {', '.join(FORMATS)}"
            f"{suggest(name, FORMATS)}"
        )
    if out.suffix != SUFFIXES[known]:
        raise ConfigError(
            f"{option('format')} {known} writes {SUFFIXES[known]} files, not {out.name}"
        )
    missing = [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
    if known == "onnx" and missing:
        raise ConfigError(
            f"{option('format')} onnx needs {', '.join(missing)}; install with: "
            "pip install 'avsync-zoo[export]'"
        )
    if out.exists() or _weights_beside(out).exists():
        raise ConfigError(f"{out} exists already; choose another file")
    if not out.parent.is_dir():
        raise ConfigError(f"there is no folder {out.parent} to write {out.name} to")
    return known


def _weights_beside(out: Path) -> Path:
    """Return where an ONNX file keeps weights that do not fit into it."""
    return out.with_name(f"{out.name}.data")


def _describe(model: Model, name: str, sha256: str, is_dynamic: bool) -> dict[str, Any]:
    """Return what somebody needs who has the file alone."""
    batch: str | int = "batch" if is_dynamic else 1
    assert model.task is not None
    assert model.config.task is not None
    return {
        "model": name,
        "model_sha256": sha256,
        "zoo_version": zoo.__version__,
        "task": model.config.task.name,
        "inputs": {key: [batch, *shape] for key, shape in shapes_of(model).items()},
        "input_axes": {
            "audio": "crop, segment, frequency, time",
            "vision": "crop, segment, RGB, frame, row, column",
        },
        "output": "logits",
        **_describe_outputs(model.task),
        "layout": model.config.layout.model_dump(mode="json"),
        "audio_frontend": model.audio_frontend.model_dump(mode="json"),
        "vision_frontend": model.vision_frontend.model_dump(mode="json"),
    }


def _describe_outputs(task: Task) -> dict[str, Any]:
    if task.answers_offsets and task.grid is not None:
        sign = "offset in seconds; above 0 the audio is early"
        return {"classes": task.grid.offsets_s, "classes_are": sign}
    if task.output_names is None:
        return {"num_outputs": task.num_outputs}
    return {"classes": list(task.output_names), "classes_are": "words"}


@torch.no_grad()
def _compare(
    model: Model, answer: Callable[[Inputs], Tensor], inputs: dict[str, Inputs]
) -> tuple[dict[str, float], float]:
    """Return the largest absolute difference by input, and the largest logit."""
    differences, largest_logit = {}, 0.0
    for name, given in inputs.items():
        expected: Float[Tensor, "B K"] = model(*given)
        differences[name] = float((answer(given) - expected).abs().max())
        largest_logit = max(largest_logit, float(expected.abs().max()))
    return differences, largest_logit


def _require_agreement(
    differences: dict[str, float], largest_logit: float, tolerance: float, kind: Format
) -> None:
    name, worst = max(differences.items(), key=lambda item: item[1])
    allowed = tolerance * max(1.0, largest_logit)
    if not worst <= allowed:  # NaN is no agreement
        raise ModelError(
            f"the {kind} file answers otherwise than the model: logits differ by {worst:.2g} on "
            f"{name}, {allowed:.2g} is allowed; nothing was written (see {option('tolerance')})"
        )


@contextmanager
def _part_folder(out: Path) -> Iterator[Path]:
    """Yield a folder beside a file to write it in, removed in any case."""
    part = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir()
        yield part
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _move(part: Path, out: Path) -> None:
    """Give what was written its name, the file that needs the others last."""
    files: Sequence[Path] = sorted(part.iterdir(), key=lambda file: file.name == out.name)
    for file in files:
        file.replace(out.with_name(file.name))
