"""Files from the web: resumed where they broke off, checked, never half there.

Standard library only.  Proxies are taken from the environment (``https_proxy``, ``no_proxy``).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zoo.catalog.entries import Download
from zoo.errors import ModelError, option

Progress = Callable[[int, int | None], None]
Tell = Callable[[str], None]

BLOCK_BYTES, HEAD_BYTES = 1 << 18, 2048
MOST_BYTES = 1 << 34  # of a file whose size nobody knows: the largest published ones have 3 GB
LONGEST_WAIT_S = 60.0
REDIRECTS = (301, 302, 303, 307, 308)
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to ask again.

    Attributes:
        timeout_s: without a single byte, the connection counts as lost, seconds.
        retries: attempts in a row that bring nothing new before giving up.
        wait_s: pause before the first of them, doubled every time, seconds.
    """

    timeout_s: float = 30.0
    retries: int = 5
    wait_s: float = 1.0


PATIENCE = Patience()


class _LostError(Exception):
    """The connection broke; what has come so far stays."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass
class _Part:
    """What has come of a file so far, with a note of which file it is a part of."""

    target: Path
    is_spliced: bool = field(default=False, init=False)
    """Its bytes came in several answers."""

    @property
    def path(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def _note_path(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def note(self, url: str) -> dict[str, Any]:
        """Return what was noted if this is a part of that file; empty means start anew."""
        try:
            note = json.loads(self._note_path.read_text())
            return note if note["url"] == url and self.path.exists() else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def begin(self, url: str, validator: str, total: int | None) -> None:
        self.drop()
        self._note_path.write_text(json.dumps({"url": url, "validator": validator, "total": total}))
        self.path.touch()

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)
        self.is_spliced = False

    def finish(self) -> None:
        self.path.replace(self.target)
        self._note_path.unlink(missing_ok=True)


def mirrored(url: str, mirror: str) -> str:
    """Return the address of a file at a mirror: its scheme and host replaced, its path kept.

    Raises:
        ModelError: if the mirror is not an http address.
    """
    if not mirror:
        return url
    if not re.fullmatch(r"https?://[^\s/]+\S*", mirror):
        raise ModelError(f"the mirror '{mirror}' is not an address such as https://host/folder")
    address = urlsplit(url)
    return mirror.rstrip("/") + address.path + (f"?{address.query}" if address.query else "")


def fetch(
    download: Download,
    target: Path,
    *,
    mirror: str = "",
    patience: Patience = PATIENCE,
    progress: Progress = lambda _done, _total: None,
    tell: Tell = lambda _message: None,
) -> None:
    """Download a file, going on where an earlier attempt broke off, and check it.

    Until it is whole and right it is called ``TARGET.part``.

    Args:
        download: where it is, and what is known about it.
        target: where it goes.
        mirror: address that replaces the scheme and host of the file's own.
        patience: timeouts and retries.
        progress: told the bytes that are here, and the size where known.
        tell: told in words what goes wrong on the way.

    Raises:
        ModelError: if the file is not to be had, or is not the one that was asked for.
        OSError: if it cannot be written.
    """
    url = mirrored(download.url, mirror)
    part = _Part(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _persist(url, part, download, patience, progress, tell)
    wrong = mismatch(part.path, download)
    if wrong and part.is_spliced:
        tell(f"put together from several answers, the file is not right ({wrong}); starting over")
        part.drop()
        _persist(url, part, download, patience, progress, tell)
        wrong = mismatch(part.path, download)
    if wrong:
        part.drop()
        raise ModelError(
            f"{url} is not the file that was published: {wrong}; it was removed. Try again "
            f"later, or another {option('mirror')}"
        )
    part.finish()


def mismatch(file: Path, download: Download) -> str:
    """Say what is wrong with a file; nothing if it is the published one as far as is known."""
    with file.open("rb") as stream:
        if page := _page(stream.read(HEAD_BYTES)):
            return f"expected a checkpoint, found {page}"
    size = file.stat().st_size
    if download.num_bytes not in (None, size):
        return f"expected {download.num_bytes} bytes, found {size}"
    for name in ("md5", "sha256"):
        expected = getattr(download, name)
        if expected:
            found = digest(file, name)
            if not found.startswith(expected):
                return f"expected {name} {expected}..., found {found}"
    return ""


def digest(file: Path, name: str) -> str:
    """Return the md5 or sha256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, name).hexdigest()


def in_units(num_bytes: int) -> str:
    """Return a size in words: ``950 MB``."""
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes >= 1e7 else f"{num_bytes} bytes"


def _persist(
    url: str,
    part: _Part,
    download: Download,
    patience: Patience,
    progress: Progress,
    tell: Tell,
) -> None:
    """Ask until all of the file is here."""
    if part.note(url).get("total") == part.size > 0:
        return
    furthest, failures = part.size, 0
    while True:
        try:
            return _receive(url, part, download, patience.timeout_s, progress)
        except _LostError as lost:
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size) if part.size else 0
            if failures > patience.retries:
                kept = f"; {in_units(part.size)} are kept" if part.size else ""
                raise ModelError(
                    f"cannot get {url}: {lost}{kept}. Run the command again to go on, or use "
                    f"another {option('mirror')}"
                ) from None
            wait_s = min(max(lost.wait_s, patience.wait_s * 2 ** (failures - 1)), LONGEST_WAIT_S)
            tell(f"{lost}; trying again in {wait_s:g} s ({failures} of {patience.retries})")
            time.sleep(wait_s)


def _receive(
    url: str, part: _Part, download: Download, timeout_s: float, progress: Progress
) -> None:
    """Ask once, for what is missing if that is safe, and append what comes."""
    note = part.note(url)
    # Without a validator only the final check can tell a splice of two versions.
    may_resume = part.size and (note.get("validator") or (note and _has_checksum(download)))
    headers = {"User-Agent": "avsync-zoo", "Accept-Encoding": "identity"}
    if may_resume:
        headers["Range"] = f"bytes={part.size}-"
        if note["validator"]:
            headers["If-Range"] = note["validator"]
    with closing(_open(url, part, headers, timeout_s)) as response:
        if response.status == http.client.PARTIAL_CONTENT:
            if not may_resume:
                raise _LostError(f"{urlsplit(url).netloc} sends a part that was not asked for")
            total = _continued(response, part, note)
            part.is_spliced = True
            block = _read(response, BLOCK_BYTES)
        else:  # the whole file, perhaps because it changed or the server knows no ranges
            block, total = _read(response, HEAD_BYTES, whole=True), _length(response)
            _refuse(url, block, total, download)
            part.begin(url, _validator(response), total)
        done = part.size
        _check_space(part.path.parent, (total or 0) - done)
        with part.path.open("ab") as file:
            while block:
                file.write(block)
                done += len(block)
                if done > (download.num_bytes or MOST_BYTES):
                    part.drop()
                    raise _endless(url, download)
                progress(done, total)
                block = _read(response, BLOCK_BYTES)
    if total is not None and done < total:
        raise _LostError(f"the connection broke at {in_units(done)} of {in_units(total)}")


def _open(url: str, part: _Part, headers: dict[str, str], timeout_s: float) -> Any:
    host = urlsplit(url).netloc
    try:
        request = urllib.request.Request(url, headers=headers)
        return urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"{host} answers {error.code} {_printable(error.reason)}".rstrip()
        if error.code in REDIRECTS:  # all that lead somewhere were followed
            answer = f"{host} redirects in circles, or to nowhere,"
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.drop()
            raise _LostError("the file at the server got shorter; starting over") from None
        if error.code in TRY_AGAIN:
            wait = error.headers.get("Retry-After", "")
            raise _LostError(answer, float(wait) if wait.isdecimal() else 0.0) from None
        raise ModelError(
            f"{answer} for {url}: the file is not there, or not for everybody",
            f"try a {option('mirror')}, or put the file at {part.target} and pull again",
        ) from None
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise ModelError(
                f"{host} cannot be trusted: {reason.verify_message}; check the clock and the "
                "certificates (SSL_CERT_FILE) of this machine"
            ) from None
        raise _LostError(f"{host} cannot be reached ({_words(reason)})") from None


def _read(response: Any, size: int, *, whole: bool = False) -> bytes:
    """Read what has come, at least a byte unless it is the end; ``whole``: all of the size."""
    try:
        return response.read(size) if whole else response.read1(size)
    except (OSError, http.client.HTTPException) as error:
        raise _LostError(f"the connection broke ({_words(error)})") from None


def _words(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came for too long"
    reason = getattr(error, "strerror", None) or error
    return _printable(reason) or type(error).__name__


def _printable(text: object) -> str:
    """Leave out what would steer a terminal: these are a server's words."""
    return "".join(letter for letter in str(text) if letter.isprintable())


def _continued(response: Any, part: _Part, note: dict[str, Any]) -> int | None:
    """Check that an answer goes on where the part ends, in the same file; return its size.

    Some servers send a range without heeding ``If-Range``.
    """
    given = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    total = int(given[2]) if given and given[2] != "*" else None
    is_same = given is not None and int(given[1]) == part.size
    is_same &= None in (total, note["total"]) or total == note["total"]
    is_same &= _validator(response) in ("", note["validator"])
    if not is_same:
        part.drop()
        raise _LostError("the file at the server changed; starting over")
    return total


def _length(response: Any) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _validator(response: Any) -> str:
    """Return what tells this version of the file from others: a strong ETag, or its date."""
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified", "")


def _endless(url: str, download: Download) -> ModelError:
    most = in_units(download.num_bytes or MOST_BYTES)
    return ModelError(
        f"{url} is not the file that was published: it goes on after {most}; it was removed",
        f"try another {option('mirror')}",
    )


def _has_checksum(download: Download) -> bool:
    return bool(download.md5 or download.sha256)


def _refuse(url: str, head: bytes, total: int | None, download: Download) -> None:
    """Find out before the download that it would be in vain.

    Raises:
        ModelError: saying what was expected and what is there.
    """
    if page := _page(head):
        raise ModelError(
            f"{url}: expected a checkpoint, found {page}; the server is in trouble or wants "
            f"something of you: open the address in a browser, or use another {option('mirror')}"
        )
    if None not in (total, download.num_bytes) and total != download.num_bytes:
        raise ModelError(
            f"{url}: expected {download.num_bytes} bytes, the server has {total}; "
            f"try another {option('mirror')}"
        )


def _page(head: bytes) -> str:
    """Name the web page that a file begins with; nothing if it is none."""
    text = head.decode("utf-8", errors="replace").lstrip("\ufeff \r\n\t")
    if not re.match(r"<(!doctype|html|head|\?xml|!--)", text, re.IGNORECASE):
        return ""
    title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    words = _printable(" ".join(title[1].split()))[:60] if title else ""
    return f"a web page ('{words}')" if words else "a web page"


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ModelError(
            f"{folder} has {in_units(free)} free and needs {in_units(needed)}; make room, or set "
            "ZOO_HOME to a folder on another disk"
        )
