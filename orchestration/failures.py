"""What went wrong in a worker, told apart from what is retried.

A mistake in the input is final, and so is a disk that is full or cannot be written to.
"""

from __future__ import annotations

from typing import Any

from ray.train import ControllerError, UserCallback, WorkerGroupError

from zoo.errors import ZooError, from_system, is_of_the_disk

LOW_MEMORY = "killed due to the node running low on memory"


class StopOnInputError(UserCallback):  # type: ignore[misc]
    """Ends a run at once when a worker finds a mistake in the input.

    Ray would start the workers again as often as it does for a crash, to the same end.
    """

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise the mistake in the controller, whose errors are not retried."""
        found = _first_input_error(list(worker_exceptions.values()))
        if found is not None:
            raise found


def input_error(error: BaseException) -> ZooError | None:
    """Return the mistake in the input that ended a run, if it was one."""
    return _first_input_error(_causes(error))


def explain_failure(error: BaseException) -> tuple[str, str]:
    """Return one sentence, and the worker's traceback, of what was no mistake in the input."""
    causes = _causes(error)
    text = "\n\n".join(str(cause) for cause in causes)
    if LOW_MEMORY in text:  # Ray's own words are a page
        return (
            "a machine ran out of memory, and Ray stopped the workers on it; resume with a smaller "
            "batch, fewer workers on a machine, or less running beside it",
            text,
        )
    deepest = causes[-1]
    lines = [line for line in str(deepest).strip().splitlines() if line.strip()]
    last = lines[-1].strip() if lines else type(deepest).__name__
    return last.rstrip("."), text


def _first_input_error(errors: list[BaseException] | list[Exception]) -> ZooError | None:
    for error in errors:
        for cause in _causes(error):
            if isinstance(cause, ZooError):
                return cause
            if isinstance(cause, OSError) and is_of_the_disk(cause):
                return from_system(cause)
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """Unwrap what Ray wraps around the exception of a worker, outermost first."""
    if isinstance(error, WorkerGroupError):
        inner = list(error.worker_failures.values())
    elif isinstance(error, ControllerError):
        inner = [error.controller_failure]
    else:
        base = getattr(error, "_base_exc", None) or error.__cause__
        inner = [] if base is None else [base]
    return [error, *(cause for one in inner for cause in _causes(one))]
