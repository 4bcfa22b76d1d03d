"""The checks of data set adapters and of commands."""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from zoo.contracts import ClipRecord, DatasetAdapter, LeftOut
from zoo.data.manifest import SPLITS, Event, require_listed_once
from zoo.data.row_rules import close_events, describe_classes
from zoo.errors import ManifestError, MediaError
from zoo.registry.manager import registry
from zoo.testing.promises import about
from zoo.testing.specs import check_light_import, check_spec, check_type

MADE_UP = ("a.mp4", "b.mp4", "c/d.mp4", "c/e.mkv")


def check_dataset(
    name: str, folder: Path | None = None, options: dict[str, Any] | None = None
) -> None:
    """Check that a dataset adapter refuses what is not its own, and reads what is.

    Args:
        name: of the adapter.
        folder: a small example of the data set, where there is one.  Events are compared with the
            length of clips that can be read.
        options: what the adapter must be told to read it, such as where its lists are.
    """
    spec = registry().dataset(name)
    with about(f"dataset '{name}'"):
        check_spec("datasets", spec)
        with about("build"):
            adapter = spec.build(spec.presets["tiny"].model_copy(update=options or {}))
        check_type(adapter, DatasetAdapter)
        with tempfile.TemporaryDirectory() as empty:
            for wrong in (Path(empty), Path(empty) / "missing"):
                _check_refusal(adapter, wrong)
            _check_made_up(adapter, Path(empty))
        if folder is not None:
            with about(f"scan of {folder}"):
                _check_records(adapter, folder)


def _check_refusal(adapter: DatasetAdapter, wrong: Path) -> None:
    try:
        found = _scan(adapter, wrong)
    except ManifestError:
        return
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(
            f"raises {type(error).__name__} for {wrong}, which has no clip; raise a ManifestError"
        ) from error
    raise AssertionError(f"finds {len(found)} clips in {wrong}, which has none")


def _check_made_up(adapter: DatasetAdapter, folder: Path) -> None:
    """Check the records of a few empty files; most adapters know that these are not theirs."""
    for name in MADE_UP:
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    with about("scan of a folder of clips with made-up names"):
        try:
            _check_records(adapter, folder)
        except (ManifestError, MediaError):
            return


def _check_records(adapter: DatasetAdapter, folder: Path) -> None:
    records = _scan(adapter, folder)
    assert records, "finds no clip"
    for record in records:
        _check_record(record)
    try:
        require_listed_once(records)
    except ManifestError as error:
        raise AssertionError(str(error)) from error
    assert records == _scan(adapter, folder), "finds another order every time"
    _check_classes(adapter.classes(), records)
    left_out = adapter.left_out()
    for one in left_out or ():
        assert isinstance(one, LeftOut), f"left_out gives a {type(one).__name__}, no zoo.LeftOut"


def _check_classes(classes: Any, records: list[Any]) -> None:
    is_names = isinstance(classes, tuple) and all(isinstance(name, str) for name in classes)
    assert is_names, f"classes gives {classes!r}; it must be a tuple of names"
    assert len(set(classes)) == len(classes), "classes gives a name twice"
    for record in records if classes else ():
        unknown = set(record.labels or filter(None, [record.label])) - set(classes)
        assert not unknown, f"labels {record.path} '{min(unknown)}', which is not in its classes"


def _scan(adapter: DatasetAdapter, folder: Path) -> list[Any]:
    found = adapter.scan(folder)
    is_many = isinstance(found, Iterable) and not isinstance(found, BaseModel | str | dict)
    assert is_many, f"scan gives a {type(found).__name__}; it must yield a zoo.ClipRecord per clip"
    return list(found)


def _check_record(record: Any) -> None:
    assert isinstance(record, ClipRecord), (
        f"yields a {type(record).__name__}; it must yield a zoo.ClipRecord per clip"
    )
    assert isinstance(record.path, Path), f"yields a path that is a {type(record.path).__name__}"
    assert record.path.exists(), f"yields {record.path}, which does not exist"
    assert record.split in SPLITS, (
        f"puts {record.path} into the split '{record.split}'; the splits are {', '.join(SPLITS)}"
    )
    ClipRecord.model_validate(record.model_dump())  # what was built without being validated
    length_s = _length_s(record.path) if record.events or record.events_s else math.inf
    given = (Event(*event) for event in record.events or ())
    events = close_events(given, length_s) if math.isfinite(length_s) else tuple(given)
    onsets = [
        Event(at_s, math.nextafter(at_s, math.inf), "onset") for at_s in record.events_s or ()
    ]
    for what in (events, onsets):
        wrong = describe_classes(record.labels, what, length_s)
        assert wrong is None, f"{record.path} {wrong}"


def _length_s(clip: Path) -> float:
    """Return the length of a clip, as long as can be where it cannot be read."""
    from zoo.media import probe

    try:
        return probe(clip).common_s
    except MediaError:
        return math.inf


def check_command(name: str) -> None:
    """Check that a command of the command line is documented and light.

    Args:
        name: with its group: ``data synth``.
    """
    spec = registry().commands[name]
    with about(f"command '{name}'"):
        assert callable(spec.function), f"its function is a {type(spec.function).__name__}"
        assert inspect.getdoc(spec.function), "has no docstring, which --help shows"
        check_light_import("commands", name)
