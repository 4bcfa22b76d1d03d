"""The API: what the page does, for programs (docs/demo.md)."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demo.actions import Actions
from demo.available_models import available_models
from demo.clip_input import Clip
from demo.jobs import COMPUTE, SHOWN, Jobs, Steps

Answer = dict[str, Any]


class Endpoints:
    """What each endpoint answers; Gradio describes them by their signatures and docstrings."""

    def __init__(self, actions: Actions, jobs: Jobs) -> None:
        self._actions, self._jobs = actions, jobs

    def models(self) -> list[Answer]:
        """List the models that can be asked, with their cards."""
        return [model.card() for model in available_models().values()]

    async def predict(
        self, clip: str, model: str, request: gr.Request, progress: gr.Progress = SHOWN
    ) -> Answer:
        """Say what a model makes of a clip, such as how early its audio is: zoo predict --json."""
        done = await self._jobs.run(
            lambda s: self._actions.predict(clip, model, s), progress, request
        )
        return done.as_dict()

    async def compare(
        self,
        clip: str,
        model: str,
        other: str,
        request: gr.Request,
        progress: gr.Progress = SHOWN,
    ) -> list[Answer]:
        """Predict with two models."""
        names = [model, other]
        done = await self._jobs.run(
            lambda s: self._actions.compare(clip, names, s), progress, request
        )
        return [measured.as_dict() for measured in done]

    async def fix(
        self,
        clip: str,
        model: str,
        force: bool,
        request: gr.Request,
        progress: gr.Progress = SHOWN,
    ) -> tuple[str, Answer]:
        """Write a repaired copy of a clip; force repairs although something speaks against it."""

        def work(steps: Steps) -> Any:
            return self._actions.fix(clip, model, steps, force=force)

        done = await self._jobs.run(work, progress, request)
        return str(done.file), done.as_dict()

    async def evidence(
        self, clip: str, model: str, request: gr.Request, progress: gr.Progress = SHOWN
    ) -> tuple[str, Answer]:
        """Plot which moments of picture and sound a prediction rests on."""
        done = await self._jobs.run(
            lambda s: self._actions.evidence(clip, model, s), progress, request
        )
        return str(done.plot), done.facts

    async def reconstruct(
        self,
        clip: str,
        model: str,
        hide_audio: float,
        hide_vision: float,
        seed: float,
        request: gr.Request,
        progress: gr.Progress = SHOWN,
    ) -> tuple[str, Answer]:
        """Hide shares of a clip, 0 to 1, and plot what a model with a decoder puts there."""

        def work(steps: Steps) -> Any:
            return self._actions.reconstruct(
                clip, model, hide_audio, hide_vision, int(seed or 0), steps
            )

        done = await self._jobs.run(work, progress, request)
        return str(done.plot), done.facts

    async def desynchronize(
        self,
        clip: str,
        model: str,
        shift_s: float,
        request: gr.Request,
        progress: gr.Progress = SHOWN,
    ) -> tuple[str, Answer]:
        """Make the audio of a clip earlier by shift_s seconds, and see whether a model notices."""

        def work(steps: Steps) -> Any:
            return self._actions.desynchronize(clip, model, shift_s, steps)

        done = await self._jobs.run(work, progress, request)
        return str(done.file), done.as_dict()


def register_api(actions: Actions, jobs: Jobs) -> None:
    """Register the endpoints on the current Blocks; their components are not shown."""
    limit: dict[str, Any] = {
        "concurrency_limit": actions.settings.parallel,
        "concurrency_id": COMPUTE,
    }
    with gr.Column(visible=False):
        clip = Clip(label="clip")
        model = gr.Textbox(actions.settings.model, label="model")
        other = gr.Textbox("tiny-synthetic-sync", label="other")
        force = gr.Checkbox(False, label="force")
        shift_s = gr.Number(0.8, label="shift_s")
        hidden = [gr.Number(0.75, label=f"hide_{name}") for name in ("audio", "vision")]
        seed = gr.Number(0, label="seed")
        file, answer = gr.File(label="file"), gr.JSON(label="answer")
        button = gr.Button()

    ends = Endpoints(actions, jobs)
    button.click(ends.models, None, answer, api_name="models", queue=False)
    button.click(ends.predict, [clip, model], answer, api_name="predict", **limit)
    button.click(ends.compare, [clip, model, other], answer, api_name="compare", **limit)
    button.click(ends.fix, [clip, model, force], [file, answer], api_name="fix", **limit)
    button.click(ends.evidence, [clip, model], [file, answer], api_name="evidence", **limit)
    button.click(
        ends.reconstruct,
        [clip, model, *hidden, seed],
        [file, answer],
        api_name="reconstruct",
        **limit,
    )
    button.click(
        ends.desynchronize,
        [clip, model, shift_s],
        [file, answer],
        api_name="desynchronize",
        **limit,
    )
