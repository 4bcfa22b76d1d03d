"""Thousands of clips to one table, by several processes; an interrupted run goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalog.entries import fingerprint, read_description, resolve, second_model
from zoo.errors import ConfigError, ZooError, option
from zoo.inference.batch_table import ANSWER_FIELDS, OFFSET_FIELDS, Options, Row, Table

if TYPE_CHECKING:
    from zoo.inference.predictor import Predictor


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
    table = _open_table(model, out, options, overwrite)
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


def _open_table(model: str, out: Path, options: Options, overwrite: bool) -> Table:
    """Begin a table or go on with it, once all models that fill it are known to be here."""
    from zoo.inference.load import read_task  # slow to import

    is_offset = read_task(model).answers_offsets
    second = second_model(model, options.synchronizability) if is_offset else None
    if second is not None:
        resolve(second)
    return Table(
        out,
        OFFSET_FIELDS if is_offset else ANSWER_FIELDS,
        model=model,
        sha256=fingerprint(read_description(resolve(model))),
        options=options,
        overwrite=overwrite,
    )


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
                    f"{len(self._workers)} of them ({option('workers')})?"
                ) from None
            return {"path": clip, "error": f"reading it ended the process ({_how(worker.process)})"}
        if isinstance(message, ZooError):
            raise message
        return message


def _how(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _work(connection: Connection, model: str, device: str, options: Options, threads: int) -> None:
    """Load the model, then answer clips until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its processes itself
    import torch

    from zoo.inference.load import load
    from zoo.media.apart import read_apart_from_now_on

    torch.set_num_threads(threads)
    read_apart_from_now_on()
    with suppress(EOFError, OSError):
        try:
            predictor = load(model, device, options.synchronizability, options.precision)
            connection.send(None)
            while True:
                connection.send(_row(predictor, connection.recv(), options))
        except ZooError as error:
            connection.send(error)


def _row(predictor: Predictor, path: str, options: Options) -> Row:
    try:
        answer = predictor.predict(path, **options.arguments(predictor.task))
    except ConfigError:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
        return {"path": path, "error": " ".join(reason.split())}
    return {
        "path": path,
        "duration_s": f"{answer.duration_s:.3f}",
        "notes": "; ".join([*answer.notes, *filter(None, [answer.low_confidence])]),
        **answer.columns(),
    }
