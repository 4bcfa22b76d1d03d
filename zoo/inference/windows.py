"""The crops of a clip one after another, scored in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from zoo.data.clip_reader import ClipReader, whole_frames_s
from zoo.data.frontend import block_segments
from zoo.errors import MediaError
from zoo.media import probe
from zoo.models.model import Model
from zoo.models.two_tower import ExtractorEncoder
from zoo.timeline import shared_segments

SHORTEST_S = 3.0  # a clip from here up to a crop's length is filled up with a still and silence
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Streams:
    """The picture of a file and the sound of the same or another file, on one clock.

    Attributes:
        video: file of the picture.
        audio: file of the sound.
        audio_track: which of its tracks, from 1; None is the first.
        video_s: start and end of the picture, seconds.
        audio_s: start and end of the sound, seconds.
        low_confidence: why a file's own clock cannot be trusted, or None.
    """

    video: Path
    audio: Path
    audio_track: int | None
    video_s: tuple[float, float]
    audio_s: tuple[float, float]
    low_confidence: str | None

    @property
    def common_s(self) -> float:
        """End of the stretch, from time 0, that both cover, seconds."""
        return min(self.video_s[1], self.audio_s[1])

    def shared_s(self, shift_s: float = 0.0) -> tuple[float, float]:
        """Return start and end of what both cover when the sound is read ``shift_s`` earlier."""
        start_s = max(0.0, self.video_s[0], self.audio_s[0] + shift_s)
        end_s = min(self.video_s[1], self.audio_s[1] + shift_s)
        return round(start_s, 6), round(max(start_s, end_s), 6)

    def whole_frames(self, fps: float) -> Streams:
        """Return the same streams, ending with a whole frame."""
        video_s, audio_s = (
            (start_s, whole_frames_s(end_s, fps)) for start_s, end_s in (self.video_s, self.audio_s)
        )
        return replace(self, video_s=video_s, audio_s=audio_s)


def find_streams(video: Path, audio: Path | None = None, audio_track: int | None = None) -> Streams:
    """Probe a clip, or a picture and a sound in two files whose times 0 are the same moment.

    Raises:
        MediaError: if a file cannot be read or lacks its stream.
    """
    infos = [probe(video, None if audio else audio_track)]
    infos.append(probe(audio, audio_track) if audio else infos[0])
    picture, sound = infos[0].video, infos[1].audio
    for stream, info, name in ((picture, infos[0], "video"), (sound, infos[1], "audio")):
        if stream is None:
            raise MediaError(f"{info.path.name} has no {name} stream")
    assert picture is not None
    assert sound is not None
    return Streams(
        video=video,
        audio=audio or video,
        audio_track=audio_track,
        video_s=(picture.start_s, picture.end_s),
        audio_s=(sound.start_s, sound.end_s),
        low_confidence=infos[0].low_confidence or infos[1].low_confidence,
    )


@dataclass(frozen=True)
class Plan:
    """Which crops of a clip are looked at.

    Attributes:
        firsts: number of the first segment of every crop.
        shift_s: how much earlier than the picture the sound is read, seconds.
        padded_s: how much of the only crop lies beyond the end of the clip, seconds.
    """

    firsts: range
    shift_s: float = 0.0
    padded_s: float = 0.0


def plan_windows(
    streams: Streams, model: Model, name: str, every_s: float | None = None, shift_s: float = 0
) -> Plan:
    """Place the crops: one every ``every_s`` (by default every segment), rounded to segments.

    Raises:
        MediaError: if sound and picture share less than a crop, and less than 3 s.
    """
    layout, whole = model.config.layout, streams.whole_frames(model.vision_frontend.fps)
    segments = shared_segments(whole.video_s, whole.audio_s, layout, shift_s)
    stride = max(1, round((every_s or layout.step_s) / layout.step_s))
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


class SegmentEncoder:
    """Reads segments of a clip and encodes them to tokens, a block of them at a time."""

    def __init__(self, model: Model, streams: Streams) -> None:
        self.model, self.streams = model, streams
        self.layout = model.config.layout
        self.reader = ClipReader(
            model.vision_frontend, model.audio_frontend, audio_track=streams.audio_track
        )
        self.block = block_segments(model.vision_frontend, self.layout.segment_s)

    def vision(self, first: int, last: int) -> Float[Tensor, "M Tv Dv"]:
        """Encode the picture of segments ``first`` to ``last - 1``."""
        return self._encode(self.model.vision, self.streams.video, first, last)

    def audio(self, first: int, last: int, shift_s: float = 0.0) -> Float[Tensor, "M Ta Da"]:
        """Encode the sound ``shift_s`` before these segments."""
        return self._encode(self.model.audio, self.streams.audio, first, last, shift_s)

    def _encode(
        self, tower: ExtractorEncoder, path: Path, first: int, last: int, shift_s: float = 0.0
    ) -> Tensor:
        starts_s = [round(i * self.layout.step_s - shift_s, 6) for i in range(first, last)]
        parts = []
        for i in range(0, len(starts_s), self.block):
            block_s = starts_s[i : i + self.block]
            segments = self.reader.read_segments(
                tower.modality, path, block_s, self.layout.segment_s
            )
            parts.append(tower.encode(segments.to(self.model.device)).cpu())
        return torch.cat(parts)


@dataclass(frozen=True)
class Crops:
    """Some crops of a clip.

    Attributes:
        starts_s: where they begin, seconds.
        audio: tokens of their sound, on the CPU.
        vision: tokens of their picture, on the CPU.
    """

    starts_s: list[float]
    audio: Float[Tensor, "W La Da"]
    vision: Float[Tensor, "W Lv Dv"]


@torch.no_grad()
def encode_crops(
    encoder: SegmentEncoder, plan: Plan, progress: Progress | None = None
) -> Iterator[Crops]:
    """Yield all crops, a block at a time.

    Segments that neighbouring crops share are encoded once; only a block of them is held.

    Raises:
        MediaError: if the clip is damaged.
    """
    num_segments, step_s = encoder.layout.num_segments, encoder.layout.step_s
    per_block = max(1, encoder.block // plan.firsts.step)
    held: tuple[int, Tensor, Tensor] | None = None  # first segment, and tokens of both
    for done in range(0, len(plan.firsts), per_block):
        firsts = plan.firsts[done : done + per_block]
        held = _advance(encoder, plan, held, firsts[0], firsts[-1] + num_segments)
        runs = np.asarray(firsts)[:, None] - held[0] + np.arange(num_segments)  # (W, S)
        yield Crops(
            starts_s=[round(first * step_s, 6) for first in firsts],
            audio=held[1][runs].flatten(1, 2),
            vision=held[2][runs].flatten(1, 2),
        )
        if progress is not None:
            progress(done + len(firsts), len(plan.firsts))


def _advance(
    encoder: SegmentEncoder,
    plan: Plan,
    held: tuple[int, Tensor, Tensor] | None,
    first: int,
    last: int,
) -> tuple[int, Tensor, Tensor]:
    """Return the tokens of segments ``first`` to ``last - 1``, keeping those already encoded."""
    known = first if held is None else max(first, held[0] + len(held[1]))
    audio = encoder.audio(known, last, plan.shift_s)
    vision = encoder.vision(known, last)
    if held is None or known == first:
        return first, audio, vision
    kept = first - held[0]
    return first, torch.cat([held[1][kept:], audio]), torch.cat([held[2][kept:], vision])


@torch.no_grad()
def classify(
    model: Model,
    audio: Float[Tensor, "W La Da"],
    vision: Float[Tensor, "W Lv Dv"],
    offsets_s: tuple[float, ...],
) -> Float[Tensor, "W O"]:
    """Return the head's distribution over any offsets, on the CPU."""
    a, v = audio.to(model.device), vision.to(model.device)
    if offsets_s == model.config.grid.offsets_s or model.head is None:
        logits = model.classify(a, v)
    else:
        logits = model.head.logits_at(a, v, torch.tensor(offsets_s, device=model.device))
    return logits.float().softmax(1).cpu()
