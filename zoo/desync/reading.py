"""From a pair of files to segments, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchaudio.transforms import Resample

from zoo.contracts import AudioFrontend, EncoderIO, Frames, Modality
from zoo.data.clip_reader import ClipReader, whole_frames_s
from zoo.data.content import Content
from zoo.data.frontend import crop_square, cut_audio
from zoo.data.published import place_segments
from zoo.desync.pairs import Pair
from zoo.desync.score_settings import Mode
from zoo.errors import MediaError
from zoo.media import probe
from zoo.media.in_order import pictures_in_order, samples_in_order
from zoo.timeline import SegmentLayout, count_steps, to_frames

MISSING_FRAMES = 3  # at the end of a video, which the public scorer fills with the last one
MARGIN_S = 0.5  # read beyond the end, more than the resampler's filter reaches


@dataclass(frozen=True)
class Reading:
    """The segments of one clip.

    Attributes:
        frames: uint8 ``(Tv, H, W, 3)``, cropped.
        frame_starts: first frame of every video segment.
        mel: front-end output of every audio segment ``(S, F, Ta)``.
        note: why the file's clock cannot be trusted, or empty.
        content: what there is to hear and to see in them.
    """

    frames: np.ndarray
    frame_starts: list[int]
    mel: Float[Tensor, "S F Ta"]
    note: str = ""
    content: Content = field(default_factory=Content)


@dataclass(frozen=True)
class PairReader:
    """Reads pairs of files as a model wants them."""

    vision: Frames
    audio: AudioFrontend
    io: EncoderIO
    layout: SegmentLayout
    duration_s: float

    def read(self, pair: Pair, mode: Mode) -> Reading:
        """Read the segments of a clip.

        Raises:
            MediaError: if a file cannot be read, lacks its stream, or is too short.
        """
        read: Callable[[Pair], Reading] = {
            "published": self._read_published,
            "corrected": self._read_corrected,
            "avgen-bench": self._read_avgen_bench,
        }[mode]
        return read(pair)

    def _read_published(self, pair: Pair) -> Reading:
        """Read both streams from their own first frame and sample, as the public scorer does."""
        frames = self._frames_in_order(pair, self.vision.size, MISSING_FRAMES)
        samples = self._samples_in_order(pair)
        return self._cut(
            frames,
            samples,
            self._num_segments(len(frames) / self.vision.fps),
            self._num_segments(len(samples) / self.audio.sample_rate_hz),
        )

    def _read_avgen_bench(self, pair: Pair) -> Reading:
        """Read the middle of the first 5 s of both streams, as AVGen-Bench does."""
        frames = self._frames_in_order(pair, self.vision.short_side, 0)
        samples = self._samples_in_order(pair)
        fps, rate_hz, num = self.vision.fps, self.audio.sample_rate_hz, self.layout.num_segments
        vision, audio = place_segments(
            self.layout, len(frames), len(samples), fps=fps, sample_rate_hz=rate_hz
        )
        return self._cut(frames[vision[0, 0] :], samples[audio[0, 0] :], num, num)

    def _frames_in_order(self, pair: Pair, short_side: int, most_missing: int) -> np.ndarray:
        assert pair.video is not None
        wanted = int(self.vision.fps * self.duration_s)  # truncated as published
        with closing(pictures_in_order(pair.video, self.vision.fps, wanted)) as found:
            squares = [resized_square(frame, self.vision.size, short_side) for frame in found]
        if len(squares) < max(1, wanted - most_missing):
            raise MediaError(
                f"too short: {pair.video.name} has {len(squares) / self.vision.fps:.2f} s of "
                f"video, {self.duration_s:g} s are wanted"
            )
        return np.stack(squares + squares[-1:] * (wanted - len(squares)))

    def _samples_in_order(self, pair: Pair) -> np.ndarray:
        assert pair.audio is not None
        wanted = int(self.audio.sample_rate_hz * self.duration_s)
        native, rate_hz = samples_in_order(pair.audio, self.duration_s + MARGIN_S)
        if rate_hz != self.audio.sample_rate_hz:
            resampler = _resampler(rate_hz, self.audio.sample_rate_hz)
            native = resampler(torch.from_numpy(native)).numpy()
        if len(native) < wanted:
            raise MediaError(
                f"too short: {pair.audio.name} has {len(native) / self.audio.sample_rate_hz:.3f} s "
                f"of audio, {self.duration_s:g} s are wanted"
            )
        return native[:wanted]

    def _read_corrected(self, pair: Pair) -> Reading:
        """Read both streams on their clock, as far as both go; time 0 is that of each file."""
        assert pair.video is not None
        assert pair.audio is not None
        infos = [probe(pair.video), probe(pair.audio)]
        video, audio = infos[0].video, infos[1].audio
        for stream, path, what in ((video, pair.video, "video"), (audio, pair.audio, "audio")):
            if stream is None:
                raise MediaError(f"{path.name} has no {what} stream")
        assert video is not None
        assert audio is not None
        common_s = min(video.end_s, audio.end_s)
        # A container that rounds times to 1 ms must not cost the last segment.
        usable_s = whole_frames_s(min(common_s + 0.001, self.duration_s), self.vision.fps)
        num_segments = self._num_segments(usable_s)
        if num_segments < self.layout.num_segments:
            raise MediaError(
                f"too short: audio and video share {common_s:.2f} s, "
                f"the model looks at {self.layout.covered_s:g} s at a time"
            )
        length_s = round((num_segments - 1) * self.layout.step_s + self.layout.segment_s, 6)
        reader = ClipReader(self.vision, self.audio)
        frames = crop_square(reader.read_vision(pair.video, 0.0, length_s), self.vision.size, None)
        samples = reader.read_audio(pair.audio, 0.0, length_s)
        clocks = [info.low_confidence for info in infos if info.low_confidence]
        note = "; ".join(dict.fromkeys([*clocks[:1], *infos[0].notes, *infos[1].notes]))
        return self._cut(
            np.ascontiguousarray(frames), samples, num_segments, num_segments, note, audio.start_s
        )

    def _num_segments(self, length_s: float) -> int:
        return count_steps(length_s, self.layout.segment_s, self.layout.step_s)

    def _cut(
        self,
        frames: np.ndarray,
        samples: np.ndarray,
        num_vision: int,
        num_audio: int,
        note: str = "",
        audio_start_s: float = 0.0,
    ) -> Reading:
        if not np.isfinite(samples).all():
            raise MediaError("the audio holds samples that are not numbers")
        content = Content(audio_start_s)
        content.see(0.0, frames, self.vision.fps)
        content.hear(0.0, samples, self.audio.sample_rate_hz)
        starts_s, _ = self._places("vision", num_vision)
        return Reading(
            frames=frames,
            frame_starts=[to_frames(t, self.vision.fps) for t in starts_s],
            mel=cut_audio(samples, *self._places("audio", num_audio), self.audio),
            note=note,
            content=content,
        )

    def _places(self, modality: Modality, num_segments: int) -> tuple[list[float], float]:
        """Return where what a modality reads starts, and how long it is, seconds."""
        layout = self.layout.model_copy(update={"num_segments": num_segments})
        return ClipReader(self.vision, self.audio, io=self.io).places(modality, layout)


def resized_square(frame: np.ndarray, size: int, short_side: int) -> np.ndarray:
    """Resize the short side (bicubic, antialiased) and crop the centre.

    Source: torchvision's ``Resize`` and ``CenterCrop`` on uint8, bit for bit.
    """
    height, width = frame.shape[:2]
    short = min(height, width)
    if short != short_side:
        target = [int(short_side * side / short) for side in (height, width)]
        tensor = torch.from_numpy(frame).permute(2, 0, 1)[None]
        resized = torch.nn.functional.interpolate(
            tensor, target, mode="bicubic", antialias=True, align_corners=False
        )
        frame = resized[0].permute(1, 2, 0).numpy()
    return crop_square(frame[None], size, None)[0]


@cache
def _resampler(rate_hz: int, wanted_hz: int) -> Resample:
    return Resample(rate_hz, wanted_hz)
