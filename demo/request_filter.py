"""Keeps out what Gradio would serve: fetching from elsewhere, filling memory or the disk."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo.jobs import FAILED

logger = logging.getLogger(__name__)
ELSEWHERE = re.compile(r"/(file|proxy)=\s*https?:", re.IGNORECASE)
TAKES_FILES = re.compile(r"/(upload|process_recording|component_server)/?$")
KEEP_FREE = 1_000_000_000  # bytes of disk that uploads never take
MOST_JSON = 1_000_000  # bytes of a request that brings no file
MOST_DISCARDED = 500_000_000  # bytes that are read, and not kept, before a refusal
AROUND_FILE = 100_000  # bytes of an upload beside the file itself
DISGUISES = {b"x-gradio-server"}  # headers by which Gradio would call itself something else


class RequestFilter:
    """Refuses requests for what lies elsewhere, and those that are too large.

    Args:
        app: what answers the other requests.
        folder: where uploads go.
        max_bytes: of the files of one request together.
        keep_free: bytes of its disk that stay free.
    """

    def __init__(
        self, app: ASGIApp, folder: Path, max_bytes: int, keep_free: int = KEEP_FREE
    ) -> None:
        self.app, self.folder, self.keep_free = app, folder, keep_free
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, 413 or 507 to those, and let everything else through."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"]
        takes_files = TAKES_FILES.search(path) is not None
        body = _Body(receive, self.max_bytes + AROUND_FILE if takes_files else MOST_JSON)
        if ELSEWHERE.search(path):
            answer: ASGIApp = PlainTextResponse("this server fetches nothing from elsewhere", 403)
        elif takes_files and shutil.disk_usage(self.folder).free < self.keep_free:
            answer = PlainTextResponse("the disk of this server is full; try again later", 507)
        elif body.is_declared_too_large(scope) or not (takes_files or await body.fits()):
            await body.discard()
            answer = PlainTextResponse(body.refusal, 413)
        else:
            kept = [header for header in scope["headers"] if header[0] not in DISGUISES]
            return await self._answer({**scope, "headers": kept}, body, send)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, body: _Body, send: Send) -> None:
        """Let Gradio answer; what it cannot cope with is one sentence."""
        has_begun = False

        async def note(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, body.receive, note)
        except Exception:
            logger.exception("a request failed")
            if has_begun:
                raise
            said, code = FAILED, 500
            if TAKES_FILES.search(scope["path"]):
                said, code = "this upload cannot be read: send a file with a name", 400
            await JSONResponse({"detail": said}, code)(scope, body.receive, send)


class _Body:
    """The body of a request, of which no more is kept or passed on than it may be long."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most = receive, most
        self._num_bytes, self._has_ended = 0, False
        self._read: list[Message] = []
        self.refusal = f"a request may have {most:,} bytes; this one is larger"

    def is_declared_too_large(self, scope: Scope) -> bool:
        """Say whether it would be too long by its own word."""
        declared = Headers(scope=scope).get("content-length", "0")
        return declared.isdecimal() and int(declared) > self._most

    async def fits(self) -> bool:
        """Read it whole, to be given out later; say if it is short enough."""
        while not self._has_ended and self._num_bytes <= self._most:
            self._read.append(await self._next())
        return self._num_bytes <= self._most

    async def discard(self) -> None:
        """Read on and keep nothing: a client that still sends would not see the answer."""
        self._read.clear()
        while not self._has_ended and self._num_bytes < MOST_DISCARDED:
            await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._num_bytes += len(message.get("body", b""))
        self._has_ended = not message.get("more_body", False)
        return message

    async def receive(self) -> Message:
        """Give out the next part, first what was read already.

        Raises:
            MultiPartException: if it is too long; Gradio then removes what it has written of it.
        """
        if self._read:
            return self._read.pop(0)
        message = await self._next()
        if self._num_bytes > self._most:
            await self.discard()
            raise MultiPartException(f"{self.refusal} than the maximum allowed size")
        return message
