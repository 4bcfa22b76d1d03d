"""What happens on the page. These events are no part of the API, which is in `demo.api`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from demo.actions import Actions, Measured, Said, save_json
from demo.available_models import AvailableModel, available_models
from demo.busy import QUIET, busy
from demo.examples import Example
from demo.jobs import PULL, SHOWN, Jobs, refusal
from demo.page import ASK, FIND, Page, Work
from demo.pieces import (
    EMPTY,
    answer,
    card,
    comparison,
    evidence,
    refused,
    repaired,
    said,
    tested,
)
from demo.rebuild_wiring import wire_rebuild
from zoo.errors import RepairError, ZooError

Update = Any


def wire(
    page: Page, actions: Actions, jobs: Jobs, blocks: gr.Blocks, examples: list[Example]
) -> None:
    """Connect everything on the page; the files of the examples may be shown."""
    _wire_examples(page, actions, examples)
    _wire_given(page, actions, jobs, blocks)
    _wire_predict(page, actions, jobs)
    _wire_repair(page, actions, jobs)
    _wire_evidence(page, actions, jobs)
    _wire_compare(page, actions, jobs)
    _wire_test(page, actions, jobs)
    wire_rebuild(page, actions, jobs, blocks)


def _wire_examples(page: Page, actions: Actions, examples: list[Example]) -> None:
    given, settings = page.given, actions.settings
    brought = {example.model for example in examples}
    outputs = [given.clip, given.model, *_about_model(page)]

    def taker(example: Example) -> Callable[[str | None], tuple[Update, ...]]:
        def take(chosen: str | None) -> tuple[Update, ...]:
            """Bring the model that an example needs, and take it away with the next example."""
            model = example.model or (settings.model if chosen in brought else chosen)
            shown = [gr.skip()] * (len(outputs) - 1)
            if model != chosen:
                shown = [model, *_shown(_models().get(str(model)), settings.allows_pull)]
            return str(example.path), *shown

        return take

    for button, example in zip(given.examples, examples, strict=True):
        button.click(taker(example), given.model, outputs, **QUIET)


def _about_model(page: Page) -> list[Any]:
    """List what `_shown` sets."""
    given = page.given
    return [given.card, given.pull, page.predict.find.start, page.compare.tab, page.test.tab]


def _wire_given(page: Page, actions: Actions, jobs: Jobs, blocks: gr.Blocks) -> None:
    given, settings = page.given, actions.settings
    shown = _about_model(page)

    def refresh(model: str | None, other: str | None) -> tuple[Update, ...]:
        """Read the catalog again, as a visitor opens the page."""
        models = _models()
        chosen = model if model in models else settings.model
        comparable = _comparable(models)
        rest = [name for name, m in comparable.items() if m.is_ready and name != chosen]
        second = other if other in rest else next(iter(rest), None)
        return (
            gr.update(choices=choices(models), value=chosen),
            gr.update(choices=choices(comparable), value=second),
            *_shown(models.get(chosen), settings.allows_pull),
        )

    def choose(model: str) -> tuple[Update, ...]:
        return _shown(_models().get(model), settings.allows_pull)

    async def pull(
        model: str, request: gr.Request, progress: gr.Progress = SHOWN
    ) -> tuple[Update, ...]:
        await jobs.run(lambda steps: actions.pull(model, steps), progress, request, PULL)
        models = _models()
        return (
            "",
            gr.update(choices=choices(models)),
            gr.update(choices=choices(_comparable(models))),
            _shown(models.get(model), settings.allows_pull)[0],
        )

    blocks.load(
        refresh,
        [given.model, page.compare.other],
        [given.model, page.compare.other, *shown],
        **QUIET,
    )
    given.model.input(choose, given.model, shown, **QUIET)
    busy(
        Work(given.pull, given.pull_cancel, given.pull_state),
        pull,
        [given.model],
        [given.pull_state, given.model, page.compare.other, given.card],
        limit=1,
        concurrency_id=PULL,
        shows_start=lambda model: _is_away(_models().get(model)),
        asks=[given.model],
    )


def _models() -> dict[str, AvailableModel]:
    try:
        return available_models()
    except ZooError as error:
        raise refusal(str(error)) from None


def _comparable(models: dict[str, AvailableModel]) -> dict[str, AvailableModel]:
    return {name: model for name, model in models.items() if model.finds_offsets}


def choices(models: dict[str, AvailableModel] | None = None) -> list[tuple[str, str]]:
    """Label the models that can be chosen, by default those of this moment."""
    found = []
    for name, model in (available_models() if models is None else models).items():
        away = " (cannot run here)" if model.problem else " (to download)"
        found.append((name + ("" if model.is_ready else away), name))
    return found


def _shown(model: AvailableModel | None, allows_pull: bool) -> tuple[Update, ...]:
    """Show the card of a model, and hide what it cannot do."""
    if model is None:
        return gr.update(value=""), gr.update(visible=False), *[gr.skip()] * 3
    tab = gr.update(visible=model.finds_offsets)
    return (
        card(model),
        gr.update(visible=_is_away(model) and allows_pull),
        gr.update(value=FIND if model.finds_offsets else ASK),
        tab,
        tab,
    )


def _is_away(model: AvailableModel | None) -> bool:
    return model is not None and not model.is_here and not model.problem


def _wire_predict(page: Page, actions: Actions, jobs: Jobs) -> None:
    given, predict = page.given, page.predict

    async def find(
        clip: str | None, model: str, request: gr.Request, progress: gr.Progress = SHOWN
    ) -> tuple[Update, ...]:
        def work(steps: Any) -> tuple[Measured | Said, Path]:
            found = actions.predict(clip, model, steps)
            return found, save_json(found.as_dict(), f"{Path(clip or '').stem}.prediction.json")

        found, file = await jobs.run(work, progress, request)
        return (
            answer(found) if isinstance(found, Measured) else said(found),
            gr.update(visible=True),
            gr.update(visible=isinstance(found, Measured)),
            found.as_dict(),
            gr.update(value=str(file)),
        )

    outputs = [
        predict.find.answer,
        predict.more,
        predict.repairs,
        predict.json,
        predict.json_file,
    ]
    busy(predict.find, find, [given.clip, given.model], outputs, limit=actions.settings.parallel)

    def forget() -> tuple[Update, ...]:
        """Show no answer to a clip or a model that was chosen before."""
        away = gr.update(visible=False)
        return EMPTY, away, "", away, away, away, "", away, away, "", "", away, "", away

    stale = [
        predict.find.answer,
        predict.more,
        predict.fix.answer,
        predict.force,
        predict.pair,
        predict.download,
        predict.evidence.answer,
        predict.plot,
        predict.evidence_file,
        page.compare.work.answer,
        page.test.work.answer,
        page.test.copy,
        page.rebuild.work.answer,
        page.rebuild.plot,
    ]
    taken = [button.click for button in given.examples]
    gr.on([given.clip.change, given.model.input, *taken], forget, None, stale, **QUIET)


def _wire_repair(page: Page, actions: Actions, jobs: Jobs) -> None:
    given, predict = page.given, page.predict
    outputs = [
        predict.fix.answer,
        predict.pair,
        predict.before,
        predict.after,
        predict.download,
        predict.force,
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
    busy(predict.fix, starter(False), inputs, outputs, limit=limit)
    forced = Work(predict.force, predict.force_cancel, predict.fix.answer)
    busy(forced, starter(True), inputs, outputs, limit=limit, shows_start=lambda: False)


def _wire_evidence(page: Page, actions: Actions, jobs: Jobs) -> None:
    given, predict = page.given, page.predict

    async def show(
        clip: str | None, model: str, request: gr.Request, progress: gr.Progress = SHOWN
    ) -> tuple[Update, ...]:
        def work(steps: Any) -> Any:
            found = actions.evidence(clip, model, steps)
            return found, save_json(found.facts, found.plot.with_suffix(".json").name)

        found, file = await jobs.run(work, progress, request)
        return (
            evidence(found),
            gr.update(value=str(found.plot), visible=True),
            gr.update(value=str(file), visible=True),
        )

    busy(
        predict.evidence,
        show,
        [given.clip, given.model],
        [predict.evidence.answer, predict.plot, predict.evidence_file],
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
        compare.work,
        work,
        [given.clip, given.model, compare.other],
        [compare.work.answer],
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
        test.work,
        work,
        [given.clip, given.model, test.shift_s],
        [test.work.answer, test.copy],
        limit=actions.settings.parallel,
    )
