"""What happens on the tab that hides parts of a clip and rebuilds them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demo.actions import Actions
from demo.available_models import models_with_decoder
from demo.busy import QUIET, busy
from demo.jobs import SHOWN, Jobs, refusal
from demo.page import HIDDEN, Page
from demo.pieces import rebuilt
from zoo.errors import ZooError

Update = Any


def wire_rebuild(page: Page, actions: Actions, jobs: Jobs, blocks: gr.Blocks) -> None:
    """Connect the tab, which is there only if a model of the catalog has a decoder."""
    rebuild = page.rebuild

    def refresh(chosen: str | None) -> tuple[Update, Update]:
        try:
            names = models_with_decoder()
        except ZooError as error:
            raise refusal(str(error)) from None
        value = chosen if chosen in names else next(iter(names), None)
        return gr.update(visible=bool(names)), gr.update(choices=names, value=value)

    def show_share(what: str) -> Update:
        return gr.update(visible=HIDDEN[what] is None)

    async def work(
        clip: str | None,
        model: str | None,
        what: str,
        share: float,
        request: gr.Request,
        progress: gr.Progress = SHOWN,
    ) -> tuple[Update, Update]:
        audio, vision = HIDDEN[what] or (share, share)
        done = await jobs.run(
            lambda steps: actions.reconstruct(clip, model, audio, vision, 0, steps),
            progress,
            request,
        )
        return rebuilt(done), gr.update(value=str(done.plot), visible=True)

    blocks.load(refresh, rebuild.model, [rebuild.tab, rebuild.model], **QUIET)
    rebuild.what.change(show_share, rebuild.what, rebuild.share, **QUIET)
    busy(
        rebuild.work,
        work,
        [page.given.clip, rebuild.model, rebuild.what, rebuild.share],
        [rebuild.work.answer, rebuild.plot],
        limit=actions.settings.parallel,
    )
