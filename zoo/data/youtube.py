"""Names of clips cut from YouTube videos: an id of 11 characters, and when the clip starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from zoo.data.listed import NotListedError

ID_LENGTH = 11
ID = re.compile(r"[0-9A-Za-z_-]{11}")
LISTED = re.compile(r"(?:.*/)?([0-9A-Za-z_-]{11})_(\d+)_(\d+)")
NUMBER = r"(\d+(?:\.\d+)?)"
TIMES = re.compile(rf"[_-]{NUMBER}(?:[_-]{NUMBER})?")
MS_PER_S = 1000


def clip_id(video: str, start_s: float, end_s: float) -> str:
    """Return the official name of a clip: ``<id>_<start>_<end>`` in milliseconds."""
    return f"{video}_{round(start_s * MS_PER_S)}_{round(end_s * MS_PER_S)}"


def seconds_of(listed_id: str) -> tuple[float, float]:
    """Return start and end that an official name states, seconds.

    Raises:
        ValueError: if it is no official name.
    """
    found = LISTED.fullmatch(listed_id)
    if found is None:
        raise ValueError(f"'{listed_id}' is not <id>_<start ms>_<end ms>")
    return int(found[2]) / MS_PER_S, int(found[3]) / MS_PER_S


def video_of(name: str) -> str:
    """Return the id of the video that a clip is of; its name where it states none."""
    stem = name.rpartition("/")[2]
    return stem[:ID_LENGTH] if _is_named(stem) else name


class YouTubeNames:
    """Says which listed clip a file is.

    Files are named in many ways: ``<id>_30000_40000`` (milliseconds), ``<id>_30_40``,
    ``<id>_30.000_40.000``, ``<id>_30``, ``<id>_000030`` (seconds), ``<id>``, each also with a Y in
    front.  The list says which reading is meant.
    """

    def __init__(self, listed_ids: Iterable[str]):
        self._by_video: dict[str, list[str]] = {}
        for listed_id in listed_ids:
            found = LISTED.fullmatch(listed_id)
            if found:
                self._by_video.setdefault(found[1], []).append(listed_id)

    def __call__(self, path: Path) -> str:
        """Return the listed clip that a file is by its name.

        Raises:
            NotListedError: if it is none of them.
        """
        readings = [stem for stem in (path.stem, path.stem.removeprefix("Y")) if _is_named(stem)]
        if not readings:
            raise NotListedError("not named like a clip: 11 characters of a video, then its times")
        known = [stem for stem in readings if stem[:ID_LENGTH] in self._by_video]
        if not known:
            raise NotListedError("a video that is in none of the lists")
        clips = self._by_video[known[0][:ID_LENGTH]]
        times = known[0][ID_LENGTH:]
        fitting = [clip for clip in clips if not times or _fits(times, *seconds_of(clip))]
        if not fitting:
            raise NotListedError("another part of a listed video")
        if len(fitting) > 1:
            raise NotListedError("several clips of this video are listed: name the file with times")
        return fitting[0]


class FreeNames:
    """Says which listed clip a file is, where a list calls clips what it likes.

    A file is called as in the list.  Where all names of the list begin with the id of a video,
    a file may have times or a Y where the list has none, and the other way round.
    """

    def __init__(self, names: Mapping[str, str]):
        self._id_of = names  # listed id by every name that the list has for a clip
        is_youtube = all(_is_named(listed_id) for listed_id in names.values())
        self._by_video: dict[str, list[str]] = {}
        for name in filter(_is_named, names if is_youtube else ()):
            self._by_video.setdefault(name[:ID_LENGTH], []).append(name)

    def __call__(self, path: Path) -> str:
        """Return the listed clip that a file is by its name.

        Raises:
            NotListedError: if it is none of them.
        """
        readings = (path.stem, path.stem.removeprefix("Y"))
        for stem in readings:
            if stem in self._id_of:
                return self._id_of[stem]
        known = [s for s in readings if _is_named(s) and s[:ID_LENGTH] in self._by_video]
        if not known:
            raise NotListedError("in none of the lists")
        names = self._by_video[known[0][:ID_LENGTH]]
        found = {self._id_of[n] for n in names if _may_be(known[0][ID_LENGTH:], n[ID_LENGTH:])}
        if not found:
            raise NotListedError("another part of a listed video")
        if len(found) > 1:
            raise NotListedError("several clips of this video are listed: name the file with times")
        return found.pop()


def _may_be(times: str, listed: str) -> bool:
    """Say whether two ways to write times can mean the same, in seconds or milliseconds."""
    pairs = list(zip(_numbers(times), _numbers(listed), strict=False))
    units = (1, MS_PER_S, 1 / MS_PER_S)
    return any(all(abs(a - b * unit) < 0.5 / MS_PER_S for a, b in pairs) for unit in units)


def _numbers(times: str) -> list[float]:
    found = TIMES.fullmatch(times)
    return [float(number) for number in found.groups() if number is not None] if found else []


def _is_named(stem: str) -> bool:
    times = stem[ID_LENGTH:]
    return bool(ID.fullmatch(stem[:ID_LENGTH]) and (not times or TIMES.fullmatch(times)))


def _fits(times: str, start_s: float, end_s: float) -> bool:
    given = _numbers(times)
    meant = (start_s, end_s)[: len(given)]
    return any(
        all(abs(a / unit - b) < 0.5 / MS_PER_S for a, b in zip(given, meant, strict=True))
        for unit in (1, MS_PER_S)
    )
