"""What happens on the page. These events are no part of the API, which is in `demo.api`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from demo.actions import Actions, Measured, save_json
from demo.available_models import Offer, read_offers
from demo.busy import QUIET, busy
from demo.jobs import PULL, SHOWN, Jobs, refusal
from demo.page import Page, Task
from demo.pieces import (
    EMPTY,
    answer,
    card,
    comparison,
    evidence,
    refused,
    repaired,
    tested,
)
from zoo.errors import RepairError, ZooError

Update = Any


def wire(page: Page, actions: Actions, jobs: Jobs, blocks: gr.Blocks, examples: list[Path]) -> None:
    """Connect everything on the page; the examples are files that may be shown."""
    for button, path in zip(page.given.examples, examples, strict=True):
        button.click(lambda path=path: str(path), None, page.given.clip, **QUIET)
    _wire_given(page, actions, jobs, blocks)
    _wire_offset(page, actions, jobs)
    _wire_repair(page, actions, jobs)
    _wire_evidence(page, actions, jobs)
    _wire_compare(page, actions, jobs)
    _wire_test(page, actions, jobs)


def _wire_given(page: Page, actions: Actions, jobs: Jobs, blocks: gr.Blocks) -> None:
    given, settings = page.given, actions.settings

    def refresh(model: str | None, other: str | None) -> tuple[Update, Update, Update, Update]:
        """Read the catalog again, as a visitor opens the page."""
        offers = _offers()
        chosen = model if model in offers else settings.model
        rest = [name for name, offer in offers.items() if offer.is_ready and name != chosen]
        second = other if other in rest else next(iter(rest), None)
        return (
            gr.update(choices=choices(offers), value=chosen),
            gr.update(choices=choices(offers), value=second),
            *_shown(offers.get(chosen), settings.allows_pull),
        )

    def choose(model: str) -> tuple[Update, Update]:
        return _shown(_offers().get(model), settings.allows_pull)

    async def pull(
        model: str, request: gr.Request, progress: gr.Progress = SHOWN
    ) -> tuple[Update, Update, Update, Update]:
        await jobs.run(lambda steps: actions.pull(model, steps), progress, request, PULL)
        offers = _offers()
        return (
            "",
            gr.update(choices=choices(offers)),
            gr.update(choices=choices(offers)),
            _shown(offers.get(model), settings.allows_pull)[0],
        )

    both = [given.card, given.pull]
    blocks.load(
        refresh,
        [given.model, page.compare.other],
        [given.model, page.compare.other, *both],
        **QUIET,
    )
    given.model.input(choose, given.model, both, **QUIET)
    busy(
        Task(given.pull, given.pull_cancel, given.pull_state),
        pull,
        [given.model],
        [given.pull_state, given.model, page.compare.other, given.card],
        limit=1,
        concurrency_id=PULL,
        shows_start=lambda model: _is_away(_offers().get(model)),
        asks=[given.model],
    )


def _offers() -> dict[str, Offer]:
    try:
        return read_offers()
    except ZooError as error:
        raise refusal(str(error)) from None


def choices(offers: dict[str, Offer] | None = None) -> list[tuple[str, str]]:
    """Label the models that are offered, by default those of this moment."""
    found = []
    for name, offer in (read_offers() if offers is None else offers).items():
        away = " (cannot run here)" if offer.problem else " (to download)"
        found.append((name + ("" if offer.is_ready else away), name))
    return found


def _shown(offer: Offer | None, allows_pull: bool) -> tuple[Update, Update]:
    if offer is None:
        return gr.update(value=""), gr.update(visible=False)
    return card(offer), gr.update(visible=_is_away(offer) and allows_pull)


def _is_away(offer: Offer | None) -> bool:
    return offer is not None and not offer.is_here and not offer.problem


def _wire_offset(page: Page, actions: Actions, jobs: Jobs) -> None:
    given, offset = page.given, page.offset

    async def find(
        clip: str | None, model: str, request: gr.Request, progress: gr.Progress = SHOWN
    ) -> tuple[Update, ...]:
        def work(steps: Any) -> tuple[Measured, Path]:
            measured = actions.predict(clip, model, steps)
            name = f"{Path(measured.prediction.path).stem}.offset.json"
            return measured, save_json(measured.as_dict(), name)

        measured, file = await jobs.run(work, progress, request)
        return (
            answer(measured),
            gr.update(visible=True),
            measured.as_dict(),
            gr.update(value=str(file)),
        )

    outputs = [offset.find.answer, offset.more, offset.json, offset.json_file]
    busy(offset.find, find, [given.clip, given.model], outputs, limit=actions.settings.parallel)

    def forget() -> tuple[Update, ...]:
        """Show no answer to a clip or a model that was chosen before."""
        away = gr.update(visible=False)
        return EMPTY, away, "", away, away, away, "", away, away, "", "", away

    stale = [
        offset.find.answer,
        offset.more,
        offset.fix.answer,
        offset.force,
        offset.pair,
        offset.download,
        offset.evidence.answer,
        offset.picture,
        offset.evidence_file,
        page.compare.task.answer,
        page.test.task.answer,
        page.test.copy,
    ]
    given.clip.change(forget, None, stale, **QUIET)
    given.model.input(forget, None, stale, **QUIET)


def _wire_repair(page: Page, actions: Actions, jobs: Jobs) -> None:
    given, offset = page.given, page.offset
    outputs = [
        offset.fix.answer,
        offset.pair,
        offset.before,
        offset.after,
        offset.download,
        offset.force,
    ]
    away = gr.update(visible=False)

    def starter(force: bool) -> Callable[..., Any]:
        async def fix(
            clip: str | None, model: str, request: gr.Request, progress: gr.Progress = SHOWN
        ) -> tuple[Update, ...]:
            def work(steps: Any) -> Any:
                try:
                    return actions.fix(clip, model, steps, force=force)
                except RepairError as error:
                    return str(error)

            done = await jobs.run(work, progress, request)
            if isinstance(done, str):
                return refused(done), away, None, None, away, gr.update(visible=True)
            file = str(done.file)
            return (
                repaired(done),
                gr.update(visible=True),
                clip,
                file,
                gr.update(value=file, visible=True),
                away,
            )

        return fix

    limit = actions.settings.parallel
    inputs = [given.clip, given.model]
    busy(offset.fix, starter(False), inputs, outputs, limit=limit)
    forced = Task(offset.force, offset.force_cancel, offset.fix.answer)
    busy(forced, starter(True), inputs, outputs, limit=limit, shows_start=lambda: False)


def _wire_evidence(page: Page, actions: Actions, jobs: Jobs) -> None:
    given, offset = page.given, page.offset

    async def show(
        clip: str | None, model: str, request: gr.Request, progress: gr.Progress = SHOWN
    ) -> tuple[Update, ...]:
        def work(steps: Any) -> Any:
            found = actions.evidence(clip, model, steps)
            return found, save_json(found.facts, found.picture.with_suffix(".json").name)

        found, file = await jobs.run(work, progress, request)
        return (
            evidence(found),
            gr.update(value=str(found.picture), visible=True),
            gr.update(value=str(file), visible=True),
        )

    busy(
        offset.evidence,
        show,
        [given.clip, given.model],
        [offset.evidence.answer, offset.picture, offset.evidence_file],
        limit=actions.settings.parallel,
    )


def _wire_compare(page: Page, actions: Actions, jobs: Jobs) -> None:
    given, compare = page.given, page.compare

    async def work(
        clip: str | None,
        model: str,
        other: str,
        request: gr.Request,
        progress: gr.Progress = SHOWN,
    ) -> Update:
        answers = await jobs.run(
            lambda steps: actions.compare(clip, [model, other], steps), progress, request
        )
        return comparison(answers)

    busy(
        compare.task,
        work,
        [given.clip, given.model, compare.other],
        [compare.task.answer],
        limit=actions.settings.parallel,
    )


def _wire_test(page: Page, actions: Actions, jobs: Jobs) -> None:
    given, test = page.given, page.test

    async def work(
        clip: str | None,
        model: str,
        shift_s: float,
        request: gr.Request,
        progress: gr.Progress = SHOWN,
    ) -> tuple[Update, Update]:
        done = await jobs.run(
            lambda steps: actions.desynchronize(clip, model, shift_s, steps), progress, request
        )
        return tested(done), gr.update(value=str(done.file), visible=True)

    busy(
        test.task,
        work,
        [given.clip, given.model, test.shift_s],
        [test.task.answer, test.copy],
        limit=actions.settings.parallel,
    )
