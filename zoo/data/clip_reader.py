"""Reading what training and prediction need of a clip, with an optional cache of decoded clips."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from zoo.contracts import AudioFrontend, EncoderIO, Frames, KaldiFbank, Modality
from zoo.data.content import Content
from zoo.data.frontend import crop_square, cut_audio, cut_frames, without_filling
from zoo.data.growing_array import GrowingArray
from zoo.errors import MediaError
from zoo.files import remove_quietly
from zoo.media import Decoder, Window, decode, probe
from zoo.media.resize import fit_around
from zoo.timeline import LATTICE_TOLERANCE, SegmentLayout, to_frames, to_samples

CACHED_AT_ONCE_S = 20.0  # of a clip that goes into the cache: memory stays flat on long ones


@dataclass(frozen=True)
class Part:
    """A part of a crop, and the segments in it, seconds.

    Attributes:
        start_s: from the start of the crop.
        length_s: of the part.
        starts_s: of every segment from the start of the part.
        segment_s: length of a segment.
    """

    start_s: float
    length_s: float
    starts_s: list[float]
    segment_s: float

    @property
    def places(self) -> tuple[list[float], float]:
        """Where segments start, and how long they are."""
        return self.starts_s, self.segment_s


@dataclass(frozen=True)
class ClipReader:
    """Reads stretches of clips at the extractors' rates and size.

    With a cache folder every clip is decoded whole once, and stretches are slices of memory-mapped
    arrays; worth it for small frames that are read over and over.  An encoder that looks at single
    frames has those kept one by one, as it asks for them.

    Attributes:
        vision: rate and size of the frames.
        audio: rate of the sound.
        cache: folder of decoded clips.
        audio_track: which track is read, from 1; None is the first, which alone is cached.
        io: of the encoder, where its modalities read segments of different lengths.
        content: is told what is read in segments, to say what is in it.
        video_track: which track is looked at, from 1; None is the film.
        opened: clips that stay open between windows; None opens them for each.
    """

    vision: Frames
    audio: AudioFrontend
    cache: Path | None = None
    audio_track: int | None = None
    io: EncoderIO | None = None
    content: Content | None = None
    video_track: int | None = None
    opened: dict[Path, Decoder] | None = field(default=None, compare=False)

    def going_on(self) -> ClipReader:
        """Return a reader for one thread that goes on where the last window of a clip ended.

        Reading a clip window by window then takes time in proportion to its length, whatever its
        key frames and index.  Its clips are closed once it is forgotten.
        """
        return replace(self, opened={})

    @property
    def notes(self) -> list[str]:
        """What was assumed or left out in reading clips that are still open."""
        decoders = (self.opened or {}).values()
        return list(dict.fromkeys(note for decoder in decoders for note in decoder.notes))

    def _window(
        self, path: Path, start_s: float, length_s: float, *, video: bool = True, audio: bool = True
    ) -> Window:
        given: dict[str, Any] = {
            "fps": self.vision.fps,
            "short_side": self.vision.short_side,
            "sample_rate_hz": self.audio.sample_rate_hz,
            "resize": self.vision.resize,
            "audio_track": self.audio_track,
            "video_track": self.video_track,
        }
        if self.opened is None:
            return decode(
                path, start_s=start_s, duration_s=length_s, video=video, audio=audio, **given
            )
        if path not in self.opened:
            self.opened[path] = Decoder(path, **given)
        return self.opened[path].window(start_s, length_s, video=video, audio=audio)

    def places(self, modality: Modality, layout: SegmentLayout) -> tuple[list[float], float]:
        """Return where what a modality reads starts within a crop, and how long it is, seconds."""
        lead_s, segment_s = self.reads(modality, layout.segment_s)
        return [round(start_s + lead_s, 6) for start_s in layout.starts_s], segment_s

    def read_part(self, modality: Modality, layout: SegmentLayout) -> Part:
        """Return which part of a crop holds all that a modality reads of it.

        A single frame beside 10 s of audio is all that is decoded of the video.
        """
        return self._part(modality, layout.starts_s, layout.segment_s)

    def _part(self, modality: Modality, starts_s: list[float], segment_s: float) -> Part:
        """Return the same for segments that start anywhere, the first one first."""
        lead_s, own_s = self.reads(modality, segment_s)
        relative_s = [round(start_s - starts_s[0], 6) for start_s in starts_s]
        length_s = round(relative_s[-1] + own_s, 6)
        return Part(round(starts_s[0] + lead_s, 6), length_s, relative_s, own_s)

    def reads(self, modality: Modality, segment_s: float) -> tuple[float, float]:
        """Return how far within a segment of the layout reading begins, and its length, seconds."""
        if self.io is None:
            return 0.0, segment_s
        own = self.io.modality(modality)
        return own.lead_s(segment_s), own.segment_s

    def frame_start_s(self, layout: SegmentLayout, place: float, left_s: float) -> float:
        """Return how far from its usual time video shorter than the audio is read, seconds.

        (Source: CAV-MAE's preparation, which keeps ten frames of the first 10 s of a clip.)

        Args:
            layout: of the segments.
            place: 0 is the start of a segment, 1 its end, or that of the clip if that is earlier.
            left_s: of the clip, from the start of the crop, seconds.
        """
        lead_s, own_s = self.reads("vision", layout.segment_s)
        room_s = max(0.0, layout.segment_s - own_s)
        start_s = min(room_s, place * min(left_s, layout.segment_s))
        return whole_frames_s(start_s, self.vision.fps) - lead_s if room_s else 0.0

    def read_vision(self, path: Path, start_s: float, length_s: float) -> np.ndarray:
        """Return frames ``(Tv, H, W, 3)`` as `decode` does, short side ``vision.short_side``."""
        if self.cache is not None:
            first = to_frames(start_s, self.vision.fps)
            num = to_frames(length_s, self.vision.fps)
            if num == 1 and self._looks_at_one_frame:
                return self._stored(
                    path,
                    f"frame{first}",
                    lambda plain: [plain.read_vision(path, start_s, length_s)],
                )
            return _cut(self._cached("vision", path), first, num, path, fill="edge")
        window = self._window(path, start_s, length_s, audio=False)
        assert window.frames is not None
        return window.frames

    def read_audio(self, path: Path, start_s: float, length_s: float) -> np.ndarray:
        """Return float32 mono samples ``(N,)`` at ``audio.sample_rate_hz``."""
        if self.cache is not None:
            first = to_samples(start_s, self.audio.sample_rate_hz)
            num = to_samples(length_s, self.audio.sample_rate_hz)
            return _cut(self._cached("audio", path), first, num, path, fill="constant")
        window = self._window(path, start_s, length_s, video=False)
        assert window.samples is not None
        return window.samples

    def read_segments(
        self,
        modality: Modality,
        path: Path,
        starts_s: list[float],
        segment_s: float,
        end_s: float | None = None,
    ) -> Tensor:
        """Read segments of one modality as its extractor wants them.

        Args:
            modality: of the extractor.
            path: the clip.
            starts_s: start of each segment of the layout, the first one first, seconds.
            segment_s: length of a segment of the layout, seconds.
            end_s: of what counts as the clip, seconds; by default of what both streams cover.

        Returns:
            Frames cropped to the middle ``(S, C, Tv, H, W)``, or spectrograms ``(S, F, Ta)``.
        """
        part = self._part(modality, starts_s, segment_s)
        if modality == "audio":
            samples = self.read_audio(path, part.start_s, part.length_s)
            if self.content is not None:
                self.content.hear(part.start_s, samples, self.audio.sample_rate_hz)
            if isinstance(self.audio, KaldiFbank) and len(starts_s) == 1:
                if end_s is None:
                    end_s = probe(path, self.audio_track, self.video_track).common_s
                samples = without_filling(samples, self.audio, end_s - part.start_s)
            return cut_audio(samples, *part.places, self.audio)
        frames = crop_square(
            self.read_vision(path, part.start_s, part.length_s), self.vision.size, None
        )
        if self.content is not None:
            self.content.see(part.start_s, frames, self.vision.fps)
        return cut_frames(frames, *part.places, self.vision)

    @property
    def _looks_at_one_frame(self) -> bool:
        return self.io is not None and self.vision.num_frames(self.io.vision.segment_s) == 1

    def _cached(self, modality: Modality, path: Path) -> np.ndarray:
        """Return all whole frames, or all samples, of the stretch that both streams cover."""
        is_audio = modality == "audio"
        rate = self.audio.sample_rate_hz if is_audio else self.vision.fps

        def read(plain: ClipReader) -> Iterator[np.ndarray]:
            read_part = plain.read_audio if is_audio else plain.read_vision
            total = max(1, round(whole_frames_s(probe(path).common_s, rate) * rate))
            at_once = round(CACHED_AT_ONCE_S * rate)
            for first in range(0, total, at_once):
                yield read_part(path, first / rate, min(at_once, total - first) / rate)

        return self._stored(path, "samples" if is_audio else "frames", read)

    def _stored(
        self, path: Path, name: str, read: Callable[[ClipReader], Iterable[np.ndarray]]
    ) -> np.ndarray:
        """Return an array of the cache, which is read without the cache the first time."""
        assert self.cache is not None
        file = self.cache / f"{self._key(path)}.{name}.npy"
        if not file.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            _save_atomically(file, read(ClipReader(self.vision, self.audio).going_on()))
        array: np.ndarray = np.load(file, mmap_mode="r")
        return array

    def _key(self, path: Path) -> str:
        try:
            stat = path.stat()
        except OSError:
            raise MediaError(f"no such clip: {path}") from None
        identity = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        front = f"{self.vision.fps}|{self.vision.short_side}|{self.audio.sample_rate_hz}"
        if self.vision.resize != "ffmpeg":
            front += f"|{self.vision.resize}"
        return hashlib.sha256(f"{identity}|{front}".encode(errors="surrogateescape")).hexdigest()[
            :24
        ]


def whole_frames_s(duration_s: float, fps: float) -> float:
    """Round a duration down to whole frames, seconds."""
    return math.floor(duration_s * fps + LATTICE_TOLERANCE) / fps


def _cut(
    array: np.ndarray, first: int, num: int, path: Path, fill: Literal["edge", "constant"]
) -> np.ndarray:
    """Cut a stretch out; behind the end the last frame is repeated, or there is silence."""
    if not 0 <= first < len(array):
        raise MediaError(f"{path} ends before the stretch that was asked for")
    part = array[first : first + num]
    missing = [(0, num - len(part)), *[(0, 0)] * (array.ndim - 1)]
    return np.ascontiguousarray(np.pad(part, missing, fill) if len(part) < num else part)


def _save_atomically(file: Path, parts: Iterable[np.ndarray]) -> None:
    """Write an array part by part; where the size of a film changes, it keeps the first one."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.npy")
    try:
        with closing(GrowingArray(temporary)) as array:
            size: tuple[int, ...] = ()
            for part in parts:
                size = size or part.shape[1:3]
                array.append(fit_around(part, *size) if len(size) == 2 else part)
            array.finish()
        os.replace(temporary, file)
    finally:
        remove_quietly(temporary)
