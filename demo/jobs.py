"""Work beside the server: with progress, and with an end when nobody waits any more."""

from __future__ import annotations

import asyncio
import contextvars
import html
import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import gradio as gr

from zoo.errors import ZooError

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

FOLDERS = re.compile(r"(?<![\w/:.])/(?:[^\s/'\"]+/)*(?=[^\s/])")
COMPUTE, PULL = "compute", "pull"  # kinds of work with limits of their own
SHOWN = gr.Progress()  # as a default, Gradio puts the event's own in its place
FAILED = "something went wrong on this server; its log says what"


class StoppedError(Exception):
    """Nobody waits for this work any more."""


class Steps:
    """Tells how far a piece of work is; raises `StoppedError` inside it once it is not wanted."""

    def __init__(
        self, show: Callable[[float | tuple[int, int], str, str], object] | None = None
    ) -> None:
        self._show, self._phase, self._unit = show, "", ""
        self.is_unwanted = threading.Event()

    def phase(self, name: str, unit: str = "crops") -> None:
        """Begin the next part of the work, which is counted in this unit."""
        self._phase, self._unit = name, unit
        self._tell(0.0)

    def __call__(self, done: int, total: int | None) -> None:
        """Tell that so much of so much is done."""
        self._tell((done, total) if total else 0.0)

    def _tell(self, share: float | tuple[int, int]) -> None:
        if self.is_unwanted.is_set():
            raise StoppedError
        if self._show is not None:
            self._show(share, self._phase, self._unit)


class Jobs:
    """The work in progress of every visitor.

    Args:
        parallel: how much is computed at a time; a download does not count.
    """

    def __init__(self, parallel: int = 1) -> None:
        self._running: dict[str, set[Steps]] = {}
        self._threads = {  # always the same ones: memory that many threads share falls to pieces
            COMPUTE: ThreadPoolExecutor(parallel, COMPUTE),
            PULL: ThreadPoolExecutor(1, PULL),
        }

    async def run(
        self,
        work: Callable[[Steps], Answer],
        progress: gr.Progress,
        request: gr.Request | None = None,
        kind: str = COMPUTE,
    ) -> Answer:
        """Work in a thread; end it when the event is cancelled or its visitor has left.

        A cancelled event ends at once, its thread at the next step; only then the next one works.

        Raises:
            gr.Error: one sentence that says what is wrong with the input.
        """
        steps = Steps(lambda share, phase, unit: progress(share, desc=phase, unit=unit))
        session = (request.session_hash if request is not None else None) or ""
        self._running.setdefault(session, set()).add(steps)
        context = contextvars.copy_context()  # by which Gradio knows whose progress it is
        thread = asyncio.get_running_loop().run_in_executor(
            self._threads[kind], context.run, _friendly, work, steps
        )
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            steps.is_unwanted.set()
            thread.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # seen
            raise
        finally:
            self._running[session].discard(steps)
            if not self._running[session]:
                del self._running[session]

    def stop(self) -> None:
        """End everything, because the server ends."""
        for steps in [each for running in self._running.values() for each in running]:
            steps.is_unwanted.set()

    def leave(self, request: gr.Request) -> None:
        """End what is still worked on for a visitor who has closed the page."""
        for steps in list(self._running.get(request.session_hash or "", ())):
            steps.is_unwanted.set()


def _friendly(work: Callable[[Steps], Answer], steps: Steps) -> Answer:
    try:
        steps.phase("starting")
        return work(steps)
    except ZooError as error:
        raise refusal(str(error)) from None
    except StoppedError:
        raise refusal("stopped") from None
    except gr.Error:
        raise
    except Exception:
        logger.exception("a request failed")
        raise refusal(FAILED) from None


def refusal(message: str) -> gr.Error:
    """Make an error for the page, which shows it as HTML, and for the API."""
    return gr.Error(html.escape(without_folders(message), quote=False), print_exception=False)


def without_folders(message: str) -> str:
    """Leave of every path on this server only the last part."""
    return FOLDERS.sub("", message)
