import hashlib
import json
import multiprocessing
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Answer, Server, serve

from zoo.catalog.download import Patience, _Part, fetch, mirrored
from zoo.catalog.entries import Download
from zoo.errors import ModelError

FILE = random.Random(0).randbytes(3_000_000)
OTHER = random.Random(1).randbytes(3_000_000)
PATH = "/swift/models/run.pt"
HTML = b"<!DOCTYPE html>\n<html><head><title>Down for\n maintenance</title></head></html>"
QUICK = Patience(timeout_s=0.5, retries=3, wait_s=0.001)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve({PATH: FILE}) as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "run.pt"


def published(**facts: object) -> Download:
    usual = {"url": f"https://a.host{PATH}", "md5": hashlib.md5(FILE).hexdigest()[:7]}
    return Download(format="synchformer", **{**usual, **facts})  # type: ignore[arg-type]


def get(server: Server, target: Path, download: Download | None = None) -> list[str]:
    """Fetch from the local server; return what was told on the way."""
    told: list[str] = []
    fetch(
        download or published(),
        target,
        mirror=server.address,
        patience=QUICK,
        tell=told.append,
    )
    assert [file.name for file in target.parent.iterdir()] == [target.name]
    return told


def refuses(server: Server, target: Path, words: str, download: Download | None = None) -> str:
    """Fetch in vain: one sentence, and no file that looks finished."""
    with pytest.raises(ModelError, match=words) as caught:
        fetch(download or published(), target, mirror=server.address, patience=QUICK)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    return str(caught.value)


def part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def test_a_file_is_fetched_and_progress_is_told(server: Server, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    fetch(
        published(sha256=hashlib.sha256(FILE).hexdigest(), num_bytes=len(FILE)),
        target,
        mirror=server.address + "/",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert target.read_bytes() == FILE
    assert seen == sorted(seen)
    assert seen[-1] == (len(FILE), len(FILE))


def test_a_dropped_connection_is_resumed_where_it_broke(server: Server, target: Path) -> None:
    server.answers = [Answer(stops_after=1_000_000), Answer(stops_after=500_000)]
    told = get(server, target)
    assert target.read_bytes() == FILE
    assert server.ranges == ["", "bytes=1000000-", "bytes=1500000-"]
    assert sum(server.sent) == len(FILE)
    assert "trying again" in told[0]


def test_drops_that_bring_something_never_end_a_download(server: Server, target: Path) -> None:
    server.answers = [Answer(stops_after=200_000) for _ in range(4 * QUICK.retries)]
    get(server, target)
    assert target.read_bytes() == FILE


def test_another_call_goes_on_where_the_first_gave_up(server: Server, target: Path) -> None:
    server.answers = [Answer(stops_after=1_000_000), *[Answer(status=503)] * 3]
    sentence = refuses(server, target, "answers 503")
    assert "1000000 bytes are kept" in sentence
    get(server, target)
    assert target.read_bytes() == FILE
    assert server.ranges[-1] == "bytes=1000000-"


def _fetch_in_process(address: str, target: Path) -> None:
    fetch(published(), target, mirror=address, patience=Patience(timeout_s=60))


def test_another_process_goes_on_where_a_killed_one_was(server: Server, target: Path) -> None:
    server.answers = [Answer(stops_after=1_000_000, stalls_s=1.0)]
    process = multiprocessing.get_context("fork").Process(
        target=_fetch_in_process, args=(server.address, target)
    )
    process.start()
    while not part(target).exists() or part(target).stat().st_size < 500_000:
        assert process.is_alive()
    process.kill()
    process.join()
    get(server, target)
    assert target.read_bytes() == FILE
    assert int(server.ranges[-1].removeprefix("bytes=").removesuffix("-")) >= 500_000


def test_a_server_without_ranges_starts_over_cleanly(server: Server, target: Path) -> None:
    server.answers = [Answer(stops_after=1_000_000), Answer(knows_ranges=False)]
    get(server, target)
    assert target.read_bytes() == FILE
    assert server.sent == [1_000_000, len(FILE)]


def test_a_server_without_ranges_that_always_breaks_is_given_up(
    server: Server, target: Path
) -> None:
    server.answers = [Answer(stops_after=1_000_000, knows_ranges=False)] * 99
    refuses(server, target, "the connection broke")
    assert len(server.requests) == 1 + QUICK.retries


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_is_not_spliced(
    server: Server, target: Path, heeds_if_range: bool
) -> None:
    server.answers = [
        Answer(stops_after=1_000_000, body=OTHER),
        Answer(heeds_if_range=heeds_if_range),
    ]
    get(server, target, published(md5=""))
    assert target.read_bytes() == FILE


def test_a_file_that_got_shorter_is_fetched_anew(server: Server, target: Path) -> None:
    longer = Answer(stops_after=len(FILE) + 5, body=OTHER + OTHER)
    server.answers = [longer, Answer(heeds_if_range=False)]
    get(server, target, published(md5=""))
    assert target.read_bytes() == FILE


def test_without_a_validator_a_checksum_finds_the_splice(server: Server, target: Path) -> None:
    server.answers = [
        Answer(stops_after=1_000_000, body=OTHER, has_validator=False),
        Answer(has_validator=False),
    ]
    told = get(server, target)
    assert target.read_bytes() == FILE
    assert "starting over" in told[-1]


def test_without_validator_and_checksum_nothing_is_resumed(server: Server, target: Path) -> None:
    server.answers = [Answer(stops_after=1_000_000, has_validator=False)]
    get(server, target, published(md5=""))
    assert server.ranges == ["", ""]


def test_a_part_of_unknown_origin_is_not_resumed(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part(target).write_bytes(b"something else")
    get(server, target)
    assert server.ranges == [""]


def test_a_part_from_another_address_is_not_resumed(server: Server, target: Path) -> None:
    server.answers = [Answer(stops_after=1_000_000), *[Answer(status=500)] * 3]
    refuses(server, target, "500")
    with serve({PATH: FILE}) as other:
        get(other, target)
        assert other.ranges == [""]


def test_a_damaged_part_is_found_and_fetched_anew(server: Server, target: Path) -> None:
    server.answers = [Answer(stops_after=1_000_000), *[Answer(status=500)] * 3]
    refuses(server, target, "500")
    with part(target).open("r+b") as file:
        file.write(bytes(1000))
    get(server, target)
    assert target.read_bytes() == FILE


def test_a_part_that_was_whole_is_not_asked_for_again(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part(target).write_bytes(FILE)
    note = {"url": server.address + PATH, "validator": "", "total": len(FILE)}
    part(target).with_name(part(target).name + ".json").write_text(json.dumps(note))
    get(server, target)
    assert server.requests == []


def test_a_wrong_file_is_refused_and_removed(server: Server, target: Path) -> None:
    server.files[PATH] = OTHER
    expected, found = hashlib.md5(FILE).hexdigest()[:7], hashlib.md5(OTHER).hexdigest()
    refuses(server, target, rf"expected md5 {expected}\.\.\., found {found}; it was removed")
    assert list(target.parent.iterdir()) == []


def test_a_wrong_size_is_refused_before_the_download(server: Server, target: Path) -> None:
    refuses(server, target, "expected 5 bytes, the server has 3000000", published(num_bytes=5))
    assert list(target.parent.iterdir()) == []


def test_a_wrong_size_is_found_without_a_content_length(server: Server, target: Path) -> None:
    server.answers = [Answer(has_length=False)]
    refuses(server, target, "it goes on after 5 bytes; it was removed", published(num_bytes=5))
    assert list(target.parent.iterdir()) == []


def test_a_file_of_untold_length_is_fetched(server: Server, target: Path) -> None:
    server.answers = [Answer(has_length=False)]
    get(server, target)
    assert target.read_bytes() == FILE


def test_a_body_that_does_not_end_is_bounded(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.catalog.download.MOST_BYTES", 1_000_000)
    server.answers = [Answer(has_length=False)]
    refuses(server, target, "it goes on after 1000000 bytes; it was removed")
    assert list(target.parent.iterdir()) == []


def test_a_part_that_nobody_asked_for_is_not_taken(server: Server, target: Path) -> None:
    server.answers = [Answer(starts_at=10)]
    assert "sends a part that was not asked for" in get(server, target)[0]
    assert target.read_bytes() == FILE


def test_words_of_a_server_do_not_steer_the_terminal(server: Server, target: Path) -> None:
    page = HTML.replace(b"Down", b"\x1b[2JDown\x07")
    server.answers = [Answer(body=page, knows_ranges=False)]
    said = refuses(server, target, r"found a web page \('\[2JDown for maintenance'\)")
    assert said.isprintable()


def test_a_web_page_is_refused_and_what_has_come_stays(server: Server, target: Path) -> None:
    server.answers = [Answer(stops_after=1_000_000), Answer(body=HTML, knows_ranges=False)]
    refuses(server, target, r"expected a checkpoint, found a web page \('Down for maintenance'\)")
    assert part(target).stat().st_size == 1_000_000
    get(server, target)
    assert target.read_bytes() == FILE


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_missing_or_forbidden_file_is_not_asked_for_twice(
    server: Server, target: Path, status: int
) -> None:
    server.answers = [Answer(status=status)]
    refuses(server, target, f"answers {status} .* put the file at {target} and pull again")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(server: Server, target: Path, status: int) -> None:
    server.answers = [Answer(status=status, headers={"Retry-After": "0"})] * QUICK.retries
    get(server, target)
    assert len(server.requests) == 1 + QUICK.retries


def test_a_server_in_trouble_for_long_is_given_up(server: Server, target: Path) -> None:
    server.answers = [Answer(status=500)] * 99
    refuses(server, target, "answers 500")
    assert len(server.requests) == 1 + QUICK.retries


def test_a_redirected_download_is_resumed_too(server: Server, target: Path) -> None:
    server.files["/elsewhere"] = server.files.pop(PATH)
    moved = Answer(status=302, headers={"Location": "/elsewhere"}, body=b"")
    server.answers = [moved, Answer(stops_after=1_000_000), moved]
    get(server, target)
    assert target.read_bytes() == FILE
    assert server.ranges == ["", "", "bytes=1000000-", "bytes=1000000-"]


def test_a_share_link_leads_to_a_file_on_another_path(server: Server, target: Path) -> None:
    """As Dropbox does it: the query asks for the file itself, and the answer is elsewhere."""
    link = published(url=f"https://a.host{PATH}?dl=1")
    server.files["/elsewhere?token=1"] = FILE
    moved = Answer(status=302, headers={"Location": "/elsewhere?token=1"}, body=b"")
    server.answers = [moved]
    get(server, target, link)
    assert target.read_bytes() == FILE
    assert [r["path"] for r in server.requests] == [f"{PATH}?dl=1", "/elsewhere?token=1"]


def test_a_share_link_that_leads_to_a_page_is_one_sentence(server: Server, target: Path) -> None:
    moved = Answer(status=302, headers={"Location": "/page"}, body=b"")
    server.files["/page"] = HTML
    server.answers = [moved]
    refuses(server, target, r"found a web page \('Down for maintenance'\)")


def test_redirects_in_circles_are_one_sentence(server: Server, target: Path) -> None:
    server.answers = [Answer(status=302, headers={"Location": PATH}, body=b"")] * 99
    refuses(server, target, "redirects in circles, or to nowhere")


def test_a_stalled_connection_is_resumed(server: Server, target: Path) -> None:
    server.answers = [Answer(stops_after=1_000_000, stalls_s=2 * QUICK.timeout_s)]
    told = get(server, target)
    assert target.read_bytes() == FILE
    assert server.ranges[1] == "bytes=1000000-"
    assert "nothing came for too long" in told[0]


def test_a_closed_port_is_one_sentence(target: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    refuses(Server(address=address), target, "cannot be reached")


def test_a_full_disk_is_not_taken_for_a_broken_connection(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = _Part.begin

    def begin_on_a_full_disk(self: _Part, *arguments: Any) -> None:
        begin(self, *arguments)
        self.path.unlink()
        self.path.symlink_to("/dev/full")

    monkeypatch.setattr(_Part, "begin", begin_on_a_full_disk)
    with pytest.raises(OSError, match="No space left"):
        fetch(published(), target, mirror=server.address, patience=QUICK)
    assert len(server.requests) == 1


def test_too_little_room_is_found_before_the_download(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: type("Usage", (), {"free": 1000})())
    refuses(server, target, "1000 bytes free and needs 3000000 bytes; .* ZOO_HOME")
    assert part(target).stat().st_size == 0


@pytest.mark.parametrize(
    ("mirror", "address"),
    [
        ("", "https://a.host/swift/models/run.pt?v=1"),
        ("http://b.host:81", "http://b.host:81/swift/models/run.pt?v=1"),
        ("http://b.host/zoo/", "http://b.host/zoo/swift/models/run.pt?v=1"),
    ],
)
def test_a_mirror_replaces_scheme_and_host(mirror: str, address: str) -> None:
    assert mirrored("https://a.host/swift/models/run.pt?v=1", mirror) == address


@pytest.mark.parametrize("mirror", ["b.host", "ftp://b.host", "/srv/mirror", "http://"])
def test_a_mirror_that_is_no_address_is_refused(mirror: str) -> None:
    with pytest.raises(ModelError, match="is not an address such as"):
        mirrored("https://a.host/run.pt", mirror)
