"""Thousands of clips to one table, by several processes; an interrupted run goes on."""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from zoo.catalog.entries import BY_CATALOG, judge_of, resolve
from zoo.contracts import Precision
from zoo.errors import ConfigError, ZooError

FIELDS = (
    "path",
    "offset_s",
    "refined_s",
    "probability",
    "confidence",
    "meaning",
    "over_time",
    "synchronizability",
    "duration_s",
    "notes",
    "error",
    "model",
    "sha256",
    "options",
)
Row = dict[str, str]


@dataclass(frozen=True)
class Options:
    """How every clip is looked at; see `zoo.inference.predictor.Predictor.predict`."""

    step_s: float | None = None
    audio_track: int | None = None
    every_s: float | None = None
    max_offset_s: float | None = None
    trust: str = BY_CATALOG
    precision: Precision = "fp32"

    def __str__(self) -> str:
        """Write what differs from the defaults: ``step_s=0.04 every_s=10``."""
        defaults = {field.name: field.default for field in fields(self)}
        given = {name: v for name, v in vars(self).items() if v != defaults[name]}
        return " ".join(f"{name}={value}" for name, value in given.items()) or "default"


class Table:
    """A CSV file that grows as ``FILE.part`` and takes its name when it is complete.

    Args:
        path: the file.
        model: the model's name.
        sha256: of its weights.
        options: with which all rows are made.
        overwrite: begin anew, whatever is there.

    Raises:
        ConfigError: if there is another file, or rows of another model or other options.
    """

    def __init__(
        self, path: Path, model: str, sha256: str, options: Options, *, overwrite: bool
    ) -> None:
        if not path.parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent} to write {path.name} to")
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; give a file for the table")
        self.path, self.part = path, path.with_name(f"{path.name}.part")
        self._made_with = {"model": model, "sha256": sha256, "options": str(options)}
        self.rows: dict[str, Row] = {}
        self._has_more = False
        if not overwrite:
            for file in (self.path, self.part):
                self.rows |= {row["path"]: row for row in self._read(file)}
        try:
            self._write(self.part, self.rows.values())
        except OSError as error:
            raise ConfigError(f"cannot write {self.part}: {error.strerror}") from None

    def _read(self, file: Path) -> Iterator[Row]:
        """Yield the whole rows; a process that was killed may leave half a row."""
        if not file.exists():
            return
        text = file.read_bytes().decode("utf-8", errors="surrogateescape")
        if file == self.part:
            text = text[: text.rfind("\r\n") + 2]
        with io.StringIO(text, newline="") as lines:
            reader = csv.DictReader(lines, strict=False)
            if tuple(reader.fieldnames or ()) != FIELDS:
                raise ConfigError(
                    f"{file} is no table of zoo predict; choose another file, or replace it with "
                    "--overwrite"
                )
            for row in reader:
                if None in row.values() or None in row or not row["options"]:
                    continue
                for name, value in self._made_with.items():
                    if row[name] != value:
                        raise ConfigError(
                            f"{file} holds rows of {name} '{row[name]}', not '{value}'; choose "
                            "another file, or replace it with --overwrite"
                        )
                yield row

    def add(self, row: Row) -> None:
        """Append a row, at once on disk."""
        row = {**dict.fromkeys(FIELDS, ""), **row, **self._made_with}
        self.rows[row["path"]], self._has_more = row, True
        with self.part.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
            file.write(_to_csv([row]))

    def finish(self, order: Sequence[str]) -> None:
        """Write all rows in the order of the clips, rows of other clips first."""
        wanted = set(order)
        others = [row for path, row in self.rows.items() if path not in wanted]
        self._write(self.part, [*others, *(self.rows[path] for path in order)])
        self.part.replace(self.path)

    def give_up(self) -> None:
        """Leave nothing behind if no row came."""
        if not self._has_more:
            self.part.unlink(missing_ok=True)

    def _write(self, file: Path, rows: Any) -> None:
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        text = ",".join(FIELDS) + "\r\n" + _to_csv(rows)
        temporary.write_text(text, newline="", encoding="utf-8", errors="surrogateescape")
        temporary.replace(file)


def _to_csv(rows: Any) -> str:
    text = io.StringIO(newline="")
    csv.DictWriter(text, FIELDS).writerows(rows)
    return text.getvalue()


def predict_to_csv(
    model: str,
    clips: Sequence[Path],
    out: Path,
    options: Options,
    *,
    device: str = "cpu",
    workers: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Predict clips into a table; a clip that cannot be read becomes a row with the reason.

    Rows that are already there are kept, so that an interrupted run goes on.

    Args:
        model: catalog name or model folder.
        clips: files.
        out: table to write or to go on with.
        options: how every clip is looked at.
        device: of the model.
        workers: processes; by default one per processor, one on an accelerator.
        overwrite: begin anew instead of going on.
        progress: is told how many clips are done, and of how many.

    Returns:
        Number of ``clips``, and of those that were ``predicted``, ``failed`` and already ``there``.

    Raises:
        ZooError: if the model cannot be loaded or the table cannot be written.
    """
    from zoo.catalog.model_folder import read_description  # slow to import

    judge = judge_of(model, options.trust)
    if judge is not None:
        resolve(judge)
    sha256 = read_description(resolve(model))["sha256"]
    table = Table(out, model, sha256, options, overwrite=overwrite)
    paths = list(dict.fromkeys(str(clip) for clip in clips))
    missing = [path for path in paths if path not in table.rows]
    there = len(paths) - len(missing)
    if workers is None:
        workers = (os.cpu_count() or 1) if device == "cpu" else 1
    if missing:
        pool = _Pool(model, device, options, min(workers, len(missing)))
        try:
            for done, row in enumerate(pool.run(missing)):
                table.add(row)
                if progress is not None:
                    progress(there + done + 1, len(paths))
        except ZooError:
            table.give_up()
            raise
    table.finish(paths)
    failed = sum(bool(table.rows[path]["error"]) for path in paths)
    return {
        "clips": len(paths),
        "predicted": len(paths) - failed,
        "failed": failed,
        "there": there,
    }


@dataclass
class _Worker:
    """A process with a model, and the clip it has at hand."""

    process: BaseProcess
    connection: Connection
    clip: str | None = None


class _Pool:
    """Processes that each hold the model. One that dies takes its own clip along, nothing else."""

    def __init__(self, model: str, device: str, options: Options, num_workers: int) -> None:
        self._arguments = (model, device, options, max(1, (os.cpu_count() or 1) // num_workers))
        self._workers = [self._start() for _ in range(num_workers)]

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        return _Worker(process, ours)

    def run(self, clips: Sequence[str]) -> Iterator[Row]:
        """Yield the row of every clip, in the order in which they are done."""
        waiting, num_open = deque(clips), len(clips)
        try:
            while num_open:
                ready = wait([worker.connection for worker in self._workers])
                for worker in [w for w in self._workers if w.connection in ready]:
                    row = self._receive(worker)
                    if row is not None:
                        num_open -= 1
                        yield row
                    if worker.connection.closed:
                        self._workers.remove(worker)
                        self._workers += [self._start()] if waiting else []
                    elif waiting:
                        worker.clip = waiting.popleft()
                        with suppress(OSError):  # if it died meanwhile, the next read says so
                            worker.connection.send(worker.clip)
        finally:
            for worker in self._workers:
                worker.process.terminate()
                worker.process.join()

    def _receive(self, worker: _Worker) -> Row | None:
        """Take a message: a row, that the model is loaded, or the end of the process."""
        clip, worker.clip = worker.clip, None
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            worker.connection.close()
            worker.process.join()
            if clip is None:
                raise ZooError(
                    "a process ended while it loaded the model; is there enough memory for "
                    f"{len(self._workers)} of them (--workers)?"
                ) from None
            return {"path": clip, "error": f"reading it ended the process ({_how(worker.process)})"}
        if isinstance(message, str):
            raise ConfigError(message)
        return message


def _how(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _work(connection: Connection, model: str, device: str, options: Options, threads: int) -> None:
    """Load the model, then answer clips until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes itself
    import torch

    from zoo.inference.predictor import load

    torch.set_num_threads(threads)
    with suppress(EOFError, OSError):
        try:
            predictor = load(model, device, options.trust, options.precision)
            connection.send(None)
            while True:
                connection.send(_row(predictor, connection.recv(), options))
        except ZooError as error:
            connection.send(str(error))


def _row(predictor: Any, path: str, options: Options) -> Row:
    try:
        p = predictor.predict(
            path,
            options.step_s,
            audio_track=options.audio_track,
            every_s=options.every_s,
            max_offset_s=options.max_offset_s,
        )
    except ConfigError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
        return {"path": path, "error": " ".join(reason.split())}
    trust = p.synchronizability
    return {
        "path": path,
        "offset_s": f"{p.offset_s:g}",
        "refined_s": f"{round(p.refined_s, 4) + 0.0:.4f}",
        "probability": f"{p.probability:.4f}",
        "confidence": f"{p.confidence:.4f}",
        "meaning": p.meaning,
        "over_time": p.over_time.meaning,
        "synchronizability": "" if trust is None else f"{trust:.4f}",
        "duration_s": f"{p.duration_s:.3f}",
        "notes": "; ".join([*p.notes, *([p.low_confidence] if p.low_confidence else [])]),
    }
