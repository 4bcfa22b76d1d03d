"""Files that are read through before they can be used say how far that is."""

from pathlib import Path

import pytest
from rich.console import Console

from zoo.cli import output
from zoo.data.manifest import Manifest
from zoo.media import decode, encode, probe
from zoo.media.apart import reading_apart
from zoo.media.through import reading_through, tell_share, told_of_reading


@pytest.fixture(scope="module")
def written(clips: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same clip in an mp4, and in containers that do not say how long they last."""
    window, folder = decode(clips.clips[0].path), tmp_path_factory.mktemp("through")
    for suffix, options in ((".mp4", {}), (".ts", {}), (".flv", {}), (".mkv", {"live": "1"})):
        path = folder / f"clip{suffix}"
        encode(path, window.frames, window.samples, container_options=options)
    return {path.suffix: path for path in folder.iterdir()}


def shares_of(path: Path) -> list[float]:
    told: list[tuple[Path, float]] = []
    with told_of_reading(lambda *share: told.append(share)):
        probe(path)
    assert {path} >= {named for named, _ in told}
    return [share for _, share in told]


@pytest.mark.parametrize("suffix", [".ts", ".flv", ".mkv"])
def test_a_file_without_length_says_from_its_first_packet_on_how_far_it_is_read(
    written: dict[str, Path], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.media.through.EVERY_S", 0.0)
    shares = shares_of(written[suffix])
    assert len(shares) > 100
    assert shares[0] < 0.1
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert shares_of(written[suffix]) == []  # what was learnt is kept


def test_a_file_with_an_index_is_not_read_through(written: dict[str, Path]) -> None:
    assert shares_of(written[".mp4"]) == []


def test_what_another_process_reads_is_told_too(written: dict[str, Path], tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.ts"
    fresh.write_bytes(written[".ts"].read_bytes())
    with reading_apart():
        shares = shares_of(fresh)
    assert 0 <= shares[0] < 0.1
    assert shares[-1] == 1


def test_it_is_told_now_and_then() -> None:
    told: list[float] = []
    with (
        told_of_reading(lambda _, share: told.append(share)),
        reading_through(Path("clip.ts"), 100) as reach,
    ):
        for place in (None, *range(100)):
            reach(place)
    assert told[0] == 0.0
    assert told[-1] == 1.0
    assert len(told) < 20
    tell_share(Path("clip.ts"), 0.5)  # nobody listens any more
    assert told[-1] == 1.0


def test_the_bar_of_a_command_shows_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w+") as file:
        terminal = Console(file=file, force_terminal=True, width=100)
        monkeypatch.setattr(output, "Console", lambda **_: terminal)
        with output.progress_bar("crops"):
            tell_share(tmp_path / "an [odd] name.ts", 0.37)
        file.seek(0)
        shown = file.read()
    assert "reading an [odd] name.ts" in shown
    assert "37/100" in shown
