"""Getting the published models of the catalog: download, check, convert, all or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from zoo.catalog.download import PATIENCE, Patience, Progress, Tell, digest, fetch, mismatch
from zoo.catalog.entries import CatalogEntry, Download, file_name, find, zoo_home
from zoo.errors import ConfigError, ModelError

MIRROR_VARIABLE, OFFLINE_VARIABLE = "ZOO_MIRROR", "ZOO_OFFLINE"


@dataclass(frozen=True)
class Pulled:
    """A model that is here now.

    Attributes:
        name: in the catalog.
        path: its folder, or its file where it is the weights of an extractor.
        was_here: nothing had to be done.
    """

    name: str
    path: Path
    was_here: bool


def pull_model(
    name: str,
    *,
    mirror: str = "",
    is_offline: bool = False,
    keeps_file: bool = False,
    classes: Sequence[str] = (),
    patience: Patience = PATIENCE,
    progress: Progress = lambda _done, _total: None,
    tell: Tell = lambda _message: None,
) -> Pulled:
    """Get a model of the catalog, unless it is here and whole.

    The file goes to ``$ZOO_HOME/downloads``, the model to ``$ZOO_HOME/models``.

    Args:
        name: in the catalog.
        mirror: see `zoo.catalog.download.mirrored`; by default ``$ZOO_MIRROR``.
        is_offline: use only what is here; also where ``$ZOO_OFFLINE`` is 1.
        keeps_file: leave the downloaded file where it is.
        classes: names of the model's classes, which its checkpoint only numbers.
        patience: with the server.
        progress: told the bytes that are here, and the size where known.
        tell: told in words what goes wrong on the way.

    Raises:
        ModelError: if there is no such model, or it cannot be had, or read, or written.
        ConfigError: if the model has no classes, or another number of them.
    """
    entry, path = find(name)
    if entry.download is None or _is_whole(entry, path, tell):
        return _as_it_is(name, entry, path, classes)
    mirror = mirror or os.environ.get(MIRROR_VARIABLE, "")
    is_offline = is_offline or os.environ.get(OFFLINE_VARIABLE, "") not in ("", "0")
    store = zoo_home() / "downloads"
    file = store / (file_name(name) + PurePosixPath(urlsplit(entry.download.url).path).suffix)
    try:
        store.mkdir(parents=True, exist_ok=True)
        with _locked(store / f".{file_name(name)}.lock", tell):
            if _is_whole(entry, path, lambda _message: None):
                return _as_it_is(name, entry, path, classes)
            if file.exists():
                _check(file, entry.download)
            elif is_offline:
                raise ModelError(_how_without_net(name, entry.download, file))
            else:
                how = partial(fetch, patience=patience, progress=progress, tell=tell)
                how(entry.download, file, mirror=mirror)
            _install(file, path, entry, classes)
            if not keeps_file:
                file.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(
            f"cannot write {error.filename or zoo_home()}: {error.strerror or error}; make room "
            "there, or set ZOO_HOME to another folder"
        ) from None
    return Pulled(name, path, was_here=False)


def _is_whole(entry: CatalogEntry, path: Path, tell: Tell) -> bool:
    """Tell whether a model is here and undamaged."""
    if not path.exists():
        return False
    if entry.is_file:
        return True
    from zoo.catalog.model_folder import verify_folder

    try:
        verify_folder(path, beside=True)
    except ModelError as error:
        tell(f"{error}; pulling it again")
        return False
    return True


def _check(file: Path, download: Download) -> None:
    """Check a file that was here already: kept, or put there by hand."""
    if wrong := mismatch(file, download):
        raise ModelError(
            f"{file} is not the file that was published: {wrong}; remove it and pull again"
        )


def _how_without_net(name: str, download: Download, file: Path) -> str:
    return (
        f"'{name}' is not here, and being offline forbids downloads: put {download.url} at "
        f"{file} and pull again"
    )


def _as_it_is(name: str, entry: CatalogEntry, path: Path, classes: Sequence[str]) -> Pulled:
    """Leave a model that is here, but for the names of its classes."""
    if classes:
        if entry.download is None or entry.is_file:
            raise ConfigError(f"'{name}' has no classes to name")
        from zoo.catalog.model_folder import name_classes

        name_classes(path, classes)
    return Pulled(name, path, was_here=True)


def _install(file: Path, path: Path, entry: CatalogEntry, classes: Sequence[str]) -> None:
    """Put a checked file where its model belongs, in one step."""
    assert entry.download is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry.is_file:
        if classes:
            raise ConfigError(f"{path.name} has no classes to name")
        half = path.with_name(f".{path.name}.part")
        shutil.copy2(file, half)
        half.replace(path)
        return
    from zoo.catalog.convert import convert_checkpoint

    for left in path.parent.glob(f".{path.name}.part-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    origin = {"url": entry.download.url, "md5": digest(file, "md5")}
    try:
        convert_checkpoint(
            file,
            path,
            format=entry.download.format,
            settings=entry.settings,
            classes=classes,
            scores=entry.scores,
            pulled_from=origin,
        )
    except ModelError:
        if not (entry.download.md5 or entry.download.sha256):
            file.unlink(missing_ok=True)  # nothing says that it is the right one
        raise


@contextmanager
def _locked(file: Path, tell: Tell) -> Iterator[None]:
    """Let one process at a time pull a model."""
    import fcntl

    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another process is pulling this model; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            tell("this file system knows no locks: do not pull a model twice at the same time")
        yield
