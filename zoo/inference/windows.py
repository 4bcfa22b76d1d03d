"""Which stretches of a clip a model looks at: the streams they share, and where crops start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.data.clip_reader import whole_frames_s
from zoo.errors import MediaError
from zoo.media import probe
from zoo.models.model import Model
from zoo.timeline import SegmentLayout, hops_to_end, shared_segments

SHORTEST_S = 3.0  # a clip from here up to a crop's length is filled up with a still and silence
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Streams:
    """The video of a file and the audio of the same or another file, on one clock.

    Attributes:
        video: file of the video.
        audio: file of the audio.
        audio_track: which of its tracks, from 1; None is the first.
        video_track: which track of the video, from 1; None is the film.
        video_s: start and end of the video, seconds.
        audio_s: start and end of the audio, seconds.
        low_confidence: why a file's own clock cannot be trusted, or None.
        notes: what was assumed in reading the files, or left out.
    """

    video: Path
    audio: Path
    audio_track: int | None
    video_s: tuple[float, float]
    audio_s: tuple[float, float]
    low_confidence: str | None
    video_track: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def common_s(self) -> float:
        """End of the stretch, from time 0, that both cover, seconds."""
        return min(self.video_s[1], self.audio_s[1])

    def shared_s(self, shift_s: float = 0.0) -> tuple[float, float]:
        """Return start and end of what both cover when the audio is read ``shift_s`` earlier."""
        start_s = max(0.0, self.video_s[0], self.audio_s[0] + shift_s)
        end_s = min(self.video_s[1], self.audio_s[1] + shift_s)
        return round(start_s, 6), round(max(start_s, end_s), 6)

    def whole_frames(self, fps: float) -> Streams:
        """Return the same streams, ending with a whole frame."""
        video_s, audio_s = (
            (start_s, whole_frames_s(end_s, fps)) for start_s, end_s in (self.video_s, self.audio_s)
        )
        return replace(self, video_s=video_s, audio_s=audio_s)


def find_streams(
    video: Path,
    audio: Path | None = None,
    audio_track: int | None = None,
    video_track: int | None = None,
) -> Streams:
    """Probe a clip, or video and audio in two files whose times 0 are the same moment.

    Raises:
        MediaError: if a file cannot be read or lacks its stream.
    """
    infos = [probe(video, None if audio else audio_track, video_track)]
    infos += [probe(audio, audio_track)] if audio else []
    seen, heard = infos[0].video, infos[-1].audio
    for stream, info, name in ((seen, infos[0], "video"), (heard, infos[-1], "audio")):
        if stream is None:
            raise MediaError(f"{info.path.name} has no {name} stream")
    assert seen is not None
    assert heard is not None
    return Streams(
        video=video,
        audio=audio or video,
        audio_track=audio_track,
        video_s=(seen.start_s, seen.end_s),
        audio_s=(heard.start_s, heard.end_s),
        low_confidence=infos[0].low_confidence or infos[-1].low_confidence,
        video_track=video_track,
        notes=tuple(note for info in infos for note in info.notes),
    )


@dataclass(frozen=True)
class Plan:
    """Which crops of a clip are looked at.

    Attributes:
        firsts: number of the first segment of every crop, rising.
        shift_s: how much earlier than the video the audio is read, seconds.
        padded_s: how much of the only crop lies beyond the end of the clip, seconds.
    """

    firsts: Sequence[int]
    shift_s: float = 0.0
    padded_s: float = 0.0

    @property
    def step(self) -> int:
        """From one crop's first segment to the next one's."""
        return max(1, self.firsts[1] - self.firsts[0]) if len(self.firsts) > 1 else 1

    def to_end(self, streams: Streams, layout: SegmentLayout) -> Plan:
        """Return it with a last crop that reaches the end of the clip, or a little beyond.

        What lies beyond is filled up with the last frame and silence.
        """
        end_s = streams.shared_s(self.shift_s)[1]
        last = hops_to_end(end_s, layout.covered_s, layout.step_s)
        if last <= self.firsts[-1]:
            return self
        return replace(self, firsts=(*self.firsts, last))


def plan_windows(
    streams: Streams, model: Model, name: str, every_s: float | None = None, shift_s: float = 0
) -> Plan:
    """Place the crops: one every ``every_s``, rounded to segments.

    By default one starts with every segment.  An encoder that looks at both modalities at once
    encodes every crop anew: its crops overlap by half.

    Raises:
        MediaError: if audio and video share less than a crop, and less than 3 s.
    """
    layout, whole = model.config.layout, streams.whole_frames(model.vision_frontend.fps)
    segments = shared_segments(whole.video_s, whole.audio_s, layout, shift_s)
    default_s = layout.step_s if model.encoder.is_separable else layout.covered_s / 2
    stride = max(1, round((every_s or default_s) / layout.step_s))
    firsts = range(segments.start, segments.stop - layout.num_segments + 1, stride)
    if firsts:
        return Plan(firsts, shift_s)
    late_s = max(streams.video_s[0], streams.audio_s[0])
    shared_s = streams.common_s - (late_s if late_s > layout.segment_s else 0.0)
    if shift_s or shared_s < min(SHORTEST_S, layout.covered_s):
        shared_s = max(0.0, shared_s - abs(shift_s))
        raise MediaError(
            f"{streams.video} is too short: sound and picture share {shared_s:.2f} s, "
            f"and {name} looks at {layout.covered_s:g} s at a time"
        )
    first = segments.start
    missing_s = first * layout.step_s + layout.covered_s - streams.common_s
    return Plan(range(first, first + 1), padded_s=round(max(0.0, missing_s), 6))
