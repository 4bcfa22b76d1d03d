"""The page as ``gradio demo/app.py`` and ``python demo/app.py`` start it."""

from __future__ import annotations

from demo.demo_settings import Settings
from demo.jobs import Jobs
from demo.server import build, launch_options

settings = Settings()
demo = build(settings, Jobs(settings.parallel))

if __name__ == "__main__":
    demo.launch(**{**launch_options(settings), "quiet": False})
