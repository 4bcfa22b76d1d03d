"""Which audio belongs to which video, and what is left over."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from zoo.data.find import find_audios, find_videos


@dataclass(frozen=True)
class Pair:
    """A clip to score, or one that cannot be, with the reason.

    Attributes:
        name: path below the folder of the videos; without suffix where audios lie elsewhere.
        video: the video file; None if there is none, or more than one.
        audio: the audio file; the video itself where it brings its own.
        problem: why the two are no pair; empty if they are.
    """

    name: str
    video: Path | None
    audio: Path | None
    problem: str = ""


def pair_clips(videos: Path, audios: Path | None = None) -> list[Pair]:
    """Pair videos with audios, and list everything that has no partner.

    Files belong together if their paths below the two folders are equal up to the suffix.  What
    is left over then is paired by the bare file name, where that is unique on both sides.

    Args:
        videos: folder of the videos, searched recursively.
        audios: folder of the audios (or of videos whose audio is meant); by default every video
            brings its own audio.

    Raises:
        ManifestError: if a folder does not exist or holds no such file.
    """
    found = find_videos(videos)
    if audios is None:
        return [Pair(path.relative_to(videos).as_posix(), path, path) for path in found]
    by_name = {"video": _by_name(found, videos), "audio": _by_name(find_audios(audios), audios)}
    _prefer_audio_files(by_name["video"], by_name["audio"])
    partner = _partners(set(by_name["video"]), set(by_name["audio"]))
    pairs = []
    for name in by_name["video"]:
        audio_files = by_name["audio"].pop(partner[name], []) if name in partner else []
        pairs.append(_pair(name, by_name["video"][name], audio_files, videos, audios))
    pairs += [
        _pair(name, [], audio_files, videos, audios)
        for name, audio_files in by_name["audio"].items()
    ]
    return sorted(pairs, key=lambda pair: pair.name)


def _by_name(paths: list[Path], folder: Path) -> dict[str, list[Path]]:
    """Group files by their path below a folder, without suffix."""
    groups = defaultdict(list)
    for path in paths:
        groups[path.relative_to(folder).with_suffix("").as_posix()].append(path)
    return dict(groups)


def _prefer_audio_files(videos: dict[str, list[Path]], audios: dict[str, list[Path]]) -> None:
    """Where both lie in one folder, a video is its own audio only for want of another file."""
    for name, audio_files in audios.items():
        video_files = {path.resolve() for path in videos.get(name, [])}
        others = [path for path in audio_files if path.resolve() not in video_files]
        audios[name] = others or audio_files


def _partners(videos: set[str], audios: set[str]) -> dict[str, str]:
    """Map names of videos to names of audios."""
    both = videos & audios
    partner = {name: name for name in both}
    stems: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, names in enumerate((videos - both, audios - both)):
        for name in names:
            stems[Path(name).name][side].append(name)
    for video_files, audio_files in stems.values():
        if len(video_files) == len(audio_files) == 1:
            partner[video_files[0]] = audio_files[0]
    return partner


def _pair(
    name: str, video_files: list[Path], audio_files: list[Path], videos: Path, audios: Path
) -> Pair:
    problem = ""
    for what, files, folder in (("video", video_files, videos), ("audio", audio_files, audios)):
        if not files:
            problem = f"no {what} of this name in {folder}"
        elif len(files) > 1:
            names = ", ".join(file.name for file in files)
            problem = f"{len(files)} {what} files have this name ({names}); keep one"
            break
    video = video_files[0] if len(video_files) == 1 else None
    audio = audio_files[0] if len(audio_files) == 1 else None
    return Pair(name, video, audio, problem)
