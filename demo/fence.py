"""Keeps the server from fetching anything from elsewhere for its visitors."""

from __future__ import annotations

import re

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ELSEWHERE = re.compile(r"/(file|proxy)=\s*https?:", re.IGNORECASE)


class Fence:
    """Refuses requests that Gradio would pass on to another address."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to those, and let everything else through."""
        if scope["type"] == "http" and ELSEWHERE.search(scope["path"]):
            refused = PlainTextResponse("this server fetches nothing from elsewhere", 403)
            await refused(scope, receive, send)
            return
        await self.app(scope, receive, send)
