"""Clips that tell the time: every picture carries its index, flashes and clicks mark known moments.

The lower half of picture i shows i as ten black or white bars; the upper half is white in the
pictures of a flash. A click is a 20 ms chirp that starts at the time of the first picture of its
flash, to the sample.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from zoo.media import Window, encode, probe

HEIGHT, WIDTH = 48, 80
NUM_BITS, BIT_WIDTH = 10, 8
DURATION_S = 6
FLASHES_S = (0.6, 1.4, 2.2, 3.12, 4.04, 5.16)  # on the 25 fps lattice
FLASH_LENGTH = 4  # pictures
CLICK_S = 0.020
SPEED = {
    "libsvtav1": {"preset": "12"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libx265": {"preset": "veryfast"},
}


def chirp(rate_hz: int) -> np.ndarray:
    t = np.arange(round(CLICK_S * rate_hz)) / rate_hz
    sweep = 400 * t + (3000 - 400) / (2 * CLICK_S) * t**2
    return 0.8 * np.sin(np.pi * t / CLICK_S) * np.sin(2 * np.pi * sweep)


@dataclass(frozen=True)
class Clip:
    """What was written: times are on the writer's clock, whose zero is the first picture."""

    path: Path
    times_s: list[Fraction]
    flashes: list[int]
    sample_rate_hz: int

    @property
    def clicks_s(self) -> np.ndarray:
        """Clicks fall on whole samples."""
        first_s = np.array([float(self.times_s[index]) for index in self.flashes])
        return np.round(first_s * self.sample_rate_hz) / self.sample_rate_hz

    @property
    def flash_centres_s(self) -> np.ndarray:
        """Mean presentation time of the white pictures of each flash."""
        shown = [self.times_s[index : index + FLASH_LENGTH] for index in self.flashes]
        return np.array([float(sum(times)) / FLASH_LENGTH for times in shown])


def pictures(num_frames: int, flashes: list[int]) -> np.ndarray:
    frames = np.full((num_frames, HEIGHT, WIDTH, 3), 40, np.uint8)
    bits = np.arange(num_frames)[:, None] >> np.arange(NUM_BITS) & 1
    frames[:, HEIGHT // 2 :] = np.repeat(bits * 215 + 20, BIT_WIDTH, axis=1)[:, None, :, None]
    for index in flashes:
        frames[index : index + FLASH_LENGTH, : HEIGHT // 2] = 235
    return frames


def sound(clicks_s: np.ndarray, rate_hz: int, channels: int) -> np.ndarray:
    samples = np.zeros((DURATION_S * rate_hz, channels), np.float32)
    for time_s in clicks_s:
        begin = round(time_s * rate_hz)
        samples[begin : begin + round(CLICK_S * rate_hz)] += chirp(rate_hz)[:, None]
    return samples


@dataclass(frozen=True)
class Recipe:
    """One way of writing a clip."""

    suffix: str = "mp4"
    video_codec: str = "libx264"
    audio_codec: str = "aac"
    fps: Fraction = Fraction(25)
    rate_hz: int = 16_000
    channels: int = 1
    audio_delay_s: float = 0.0
    container_options: dict[str, str] = field(default_factory=dict)
    gop: int | None = 30

    def write(self, folder: Path) -> Clip:
        path = folder / f"clip.{self.suffix}"
        times_s = [index / self.fps for index in range(int(DURATION_S * self.fps))]
        # one picture later each time, so that flashes meet the 25 fps lattice in every phase
        flashes = [round(time_s * self.fps) + i for i, time_s in enumerate(FLASHES_S)]
        clip = Clip(path, times_s, flashes, self.rate_hz)
        encode(
            path,
            pictures(len(times_s), flashes),
            sound(clip.clicks_s, self.rate_hz, self.channels),
            fps=self.fps,
            sample_rate_hz=self.rate_hz,
            video_codec=self.video_codec,
            audio_codec=self.audio_codec,
            crf=None if self.video_codec == "mpeg4" else 20,
            gop=self.gop,
            audio_delay_s=self.audio_delay_s,
            video_options=SPEED.get(self.video_codec),
            container_options=self.container_options,
        )
        return clip


def write_irregular(path: Path) -> Clip:
    """Write H.264 and AAC with pictures 10 to 90 ms apart, on whole milliseconds."""
    rng = np.random.default_rng(0)
    steps_ms = rng.integers(10, 91, 110)
    times_ms = np.concatenate([[0], np.cumsum(steps_ms)])
    times_ms = [int(t) for t in times_ms if t < 1000 * (DURATION_S - 0.2)]
    times_s = [Fraction(t, 1000) for t in times_ms]
    flashes = [int(np.searchsorted(times_ms, 1000 * time_s)) for time_s in FLASHES_S]
    clip = Clip(path, times_s, flashes, 16_000)
    frames = pictures(len(times_s), flashes)
    samples = sound(clip.clicks_s, 16_000, 1)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=1000, options={"crf": "20", "g": "30"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        audio = out.add_stream("aac", rate=16_000, layout="mono")
        for time_ms, picture in zip(times_ms, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(samples.T.copy(), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
        out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    return clip


def read_indices(frames: np.ndarray) -> np.ndarray:
    """Read from every picture which one of the source it is."""
    _, height, width, _ = frames.shape
    rows = frames[:, height * 5 // 8 : height * 7 // 8].mean((1, 3))
    columns = (np.arange(NUM_BITS) + 0.5) * width / NUM_BITS
    return (rows[:, columns.astype(int)] > 128) @ (1 << np.arange(NUM_BITS))


def nearest_indices(clip: Clip, start_s: float, num_frames: int, fps: float = 25) -> np.ndarray:
    """Say which picture of the source lies nearest to each frame of a window."""
    source_s = np.array([float(time_s) for time_s in clip.times_s])
    wanted_s = start_s + np.arange(num_frames) / fps
    return np.abs(source_s[None] - wanted_s[:, None] + 1e-9).argmin(1)


def measured_flashes_s(window: Window) -> np.ndarray:
    """Mean time of the white frames of each flash, on the clock of the window."""
    assert window.frames is not None
    is_white = window.frames[:, 2 : HEIGHT // 2 - 4].mean((1, 2, 3)) > 128
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_white, [False]]).astype(int)))
    begins, ends = edges[::2], edges[1::2]
    return window.start_s + (begins + ends - 1) / 2 / window.fps


def measured_clicks_s(window: Window, count: int = len(FLASHES_S)) -> np.ndarray:
    """Starts of the clicks by matched filter, each the best within half a second."""
    assert window.samples is not None
    score = np.abs(np.correlate(window.samples, chirp(window.sample_rate_hz), "valid"))
    found = []
    while len(found) < count:
        best = int(score.argmax())
        found.append(best)
        score[max(0, best - 4000) : best + 4000] = 0
    return window.start_s + np.sort(found) / window.sample_rate_hz


def measured_errors_s(clip: Clip, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Return how late flashes and clicks are seen, each on the clock of the file."""
    zero_s = probe(clip.path).video.start_s
    return (
        measured_flashes_s(window) - zero_s - clip.flash_centres_s,
        measured_clicks_s(window) - zero_s - clip.clicks_s,
    )
