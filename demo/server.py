"""A server of the demo: the page, the API, the models, the folder of uploads."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

# Before Gradio is imported: no news from, and none to, anywhere.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
from starlette.middleware import Middleware

from demo.actions import Actions
from demo.api import register_api
from demo.available_models import available_models
from demo.blocks import Blocks
from demo.demo_settings import SWEEP_S, Settings
from demo.examples import copy_examples
from demo.jobs import Jobs
from demo.model_cache import ModelCache
from demo.page import lay_out
from demo.request_filter import RequestFilter
from demo.style import CSS, HEAD, theme
from demo.upload_folder import EXAMPLES, keep_sweeping, make_folder
from demo.wiring import choices, wire
from zoo.media.apart import read_apart_from_now_on

SESSIONS = 200  # visitors whose page Gradio remembers


def build(settings: Settings, jobs: Jobs) -> gr.Blocks:
    """Build the page and the API, whose work is done by ``jobs``."""
    folder = make_folder()
    models = available_models()
    ready = {name for name, model in models.items() if model.is_ready}
    examples = copy_examples(folder / EXAMPLES, ready)
    gr.set_static_paths([example.path for example in examples])
    keep_s = settings.keep_minutes * 60
    every_s = min(SWEEP_S, keep_s)
    actions = Actions(settings, ModelCache(settings.device))
    with Blocks(
        title="avsync-zoo",
        analytics_enabled=False,
        delete_cache=(max(1, int(every_s)), max(1, int(keep_s))),
    ) as blocks:
        register_api(
            actions, jobs
        )  # first, so that its names are not taken by functions of the page
        page = lay_out(choices(models), settings.model, examples)
        wire(page, actions, jobs, blocks, examples)
        blocks.unload(jobs.leave)
    blocks.queue(max_size=settings.max_waiting)
    # Gradio removes the files that it knows; this also removes their folders, and what is left.
    keep_sweeping(folder, keep_s + 2 * every_s, every_s)
    return blocks


def launch_options(settings: Settings) -> dict[str, Any]:
    """Return what every way to launch the page has in common."""
    return {
        "theme": theme(),
        "css": CSS,
        "head": HEAD,
        "max_file_size": settings.max_mb * 1_000_000,
        "show_error": False,  # but for errors that are meant for visitors (gr.Error)
        "footer_links": ["api"],
        "run_history": False,
        "state_session_capacity": SESSIONS,
        "enable_monitoring": False,
        "ssr_mode": False,
        "quiet": True,
        "app_kwargs": {"middleware": [_filter(settings)]},
    }


def _filter(settings: Settings) -> Middleware:
    largest = settings.max_mb * 1_000_000
    return Middleware(RequestFilter, folder=make_folder(), max_bytes=largest)


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    share: bool = False,
    auth: tuple[str, str] | None = None,
    opens_browser: bool = False,
) -> None:
    """Serve until Ctrl-C.

    Args:
        settings: bounds of the server.
        host: address to listen on.
        port: a free one.
        share: ask Gradio's servers for a public address.
        auth: user and password.
        opens_browser: open the page here.
    """
    read_apart_from_now_on()
    jobs = Jobs(settings.parallel)
    blocks = build(settings, jobs)
    _, local, public = blocks.launch(
        server_name=host,
        server_port=port,
        share=share,
        auth=auth,
        inbrowser=opens_browser,
        prevent_thread_lock=True,
        **launch_options(settings),
    )
    from rich.console import Console

    Console().print(f"{public or local}  (Ctrl-C ends it)", soft_wrap=True, highlight=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # or files would be left behind
    try:
        blocks.block_thread()
    finally:
        jobs.stop()
        blocks.close(verbose=False)
