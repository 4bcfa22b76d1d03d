"""Buttons that start work, and give way meanwhile to buttons that end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import gradio as gr

from demo.jobs import COMPUTE
from demo.page import Work
from demo.pieces import STOPPED, WORKING, problem

# Of events that only change what is shown.
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
Update = Any


def busy(
    buttons: Work,
    work: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    limit: int,
    concurrency_id: str = COMPUTE,
    shows_start: Callable[..., bool] = lambda: True,
    asks: Sequence[Any] = (),
) -> None:
    """Let a button start work, and give way to a button that ends it meanwhile.

    Args:
        buttons: both, and where the answer appears.
        work: the event.
        inputs: of the event.
        outputs: of the event.
        limit: how many such events may run at a time.
        concurrency_id: with which others they share this limit.
        shows_start: says of the values of ``asks`` whether the work can be started again.
        asks: components.
    """
    swap = [buttons.start, buttons.cancel]

    def begin() -> tuple[Update, ...]:
        return gr.update(visible=False), gr.update(visible=True), WORKING

    def idle(*asked: Any) -> tuple[Update, ...]:
        return gr.update(visible=shows_start(*asked)), gr.update(visible=False)

    def stopped(*asked: Any) -> tuple[Update, ...]:
        return *idle(*asked), STOPPED

    waiting = buttons.start.click(begin, None, [*swap, buttons.answer], **QUIET)
    running = waiting.then(
        _told(work, len(outputs)),
        [*inputs],
        [*outputs],
        concurrency_limit=limit,
        concurrency_id=concurrency_id,
        show_progress="full",
        show_progress_on=buttons.answer,
        api_visibility="private",
    )
    running.success(idle, [*asks], swap, **QUIET)
    running.failure(idle, [*asks], swap, **QUIET)  # such as a full queue
    buttons.cancel.click(stopped, [*asks], [*swap, buttons.answer], cancels=[running], **QUIET)


def _told(work: Callable[..., Any], num_outputs: int) -> Callable[..., Any]:
    """Let an event show what is wrong with its input where its answer would be."""

    @wraps(work)
    async def run(*given: Any, **more: Any) -> Any:
        try:
            return await work(*given, **more)
        except gr.Error as error:
            shown = problem(error.message)
            return (shown, *[gr.skip()] * (num_outputs - 1)) if num_outputs > 1 else shown

    return run
