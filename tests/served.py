"""A real HTTP server on this machine that fails as it is told."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """How to answer one request."""

    status: int = 200
    stops_after: int | None = None  # bytes of the body; then the connection closes
    stalls_s: float = 0.0  # after the bytes of stops_after, instead of closing at once
    knows_ranges: bool = True
    starts_at: int = 0  # sends a part, whether it was asked for or not
    heeds_if_range: bool = True
    has_validator: bool = True
    has_length: bool = True
    body: bytes | None = None  # something else than the file
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """What is served, how, and what was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)  # one per request; then all goes well
    requests: list[dict[str, str]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    address: str = ""

    @property
    def ranges(self) -> list[str]:
        return [request.get("Range", "") for request in self.requests]


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append({"path": self.path, **dict(self.headers.items())})
            answer = server.answers.pop(0) if server.answers else Answer()
            body = server.files.get(self.path) if answer.body is None else answer.body
            if body is None:
                answer = Answer(status=404)
            if answer.status >= 300:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            assert body is not None
            self._send(answer, body)

        def _send(self, answer: Answer, body: bytes) -> None:
            start, total = self._start(answer, body), len(body)
            if start >= total:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            if answer.has_length:
                self.send_header("Content-Length", str(total - start))
            if answer.has_validator:
                self.send_header("ETag", _etag(body))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            rest = memoryview(body)[start:]
            part = rest if answer.stops_after is None else rest[: answer.stops_after]
            try:
                self.wfile.write(part)
                self.wfile.flush()
            except OSError:
                pass  # the other side has gone
            server.sent.append(len(part))
            time.sleep(answer.stalls_s)
            self.close_connection = True

        def _start(self, answer: Answer, body: bytes) -> int:
            if answer.starts_at:
                return answer.starts_at
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if asked is None or not answer.knows_ranges:
                return 0
            condition = self.headers.get("If-Range")
            if condition and answer.heeds_if_range and condition != _etag(body):
                return 0
            return int(asked[1])

        def log_message(self, *_arguments: object) -> None:
            pass

    return Handler


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Server]:
    """Serve some files by path on a free port of this machine."""
    server = Server(files)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
