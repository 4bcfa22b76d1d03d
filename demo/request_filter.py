"""Keeps requests out that Gradio would serve: fetching from elsewhere, filling the disk."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ELSEWHERE = re.compile(r"/(file|proxy)=\s*https?:", re.IGNORECASE)


KEEP_FREE = 1_000_000_000  # bytes of disk that uploads never take


class RequestFilter:
    """Refuses requests for what lies elsewhere, and uploads when the disk is nearly full.

    Args:
        app: what answers the other requests.
        folder: where uploads go.
        keep_free: bytes of its disk that stay free.
    """

    def __init__(self, app: ASGIApp, folder: Path, keep_free: int = KEEP_FREE) -> None:
        self.app, self.folder, self.keep_free = app, folder, keep_free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or 507 to those, and let everything else through."""
        path = scope["path"] if scope["type"] == "http" else ""
        answer: ASGIApp = self.app
        if ELSEWHERE.search(path):
            answer = PlainTextResponse("this server fetches nothing from elsewhere", 403)
        elif path.endswith("/upload") and shutil.disk_usage(self.folder).free < self.keep_free:
            answer = PlainTextResponse("the disk of this server is full; try again later", 507)
        await answer(scope, receive, send)
