"""Short cuts of the reader change nothing: skipped pictures, pictures that segments share."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from zoo.contracts import Frames
from zoo.data import reencode
from zoo.data.frontend import cut_crops, cut_frames, normalise
from zoo.media import audio, decode, encode, video
from zoo.timeline import SegmentLayout

RNG = np.random.default_rng(0)
FPS = 25


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with one key frame and pictures that nothing refers to."""
    path = tmp_path_factory.mktemp("performance") / "clip.mp4"
    noise = RNG.integers(0, 256, (100, 16, 24, 3), np.uint8)
    encode(path, noise.repeat(4, 1).repeat(4, 2), np.zeros(64_000, np.float32), gop=250)
    return path


def counting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the times of all pictures that are decoded."""
    seen: list[float] = []
    set_last = video._Film._set_last

    def counted(self, time_s, frame):
        seen.append(time_s)
        set_last(self, time_s, frame)

    monkeypatch.setattr(video._Film, "_set_last", counted)
    return seen


@pytest.mark.parametrize("start_s", [0.32, 1.0, 1.52, 2.6])
def test_skipping_on_the_way_to_a_window_changes_no_picture(clip, start_s, monkeypatch) -> None:
    fast = decode(clip, start_s=start_s, duration_s=1.0, audio=False).frames
    monkeypatch.setattr(video, "ATTEMPTS", video.ATTEMPTS[1:])
    assert np.array_equal(fast, decode(clip, start_s=start_s, duration_s=1.0, audio=False).frames)


def test_pictures_that_nothing_refers_to_are_skipped_on_the_way(clip, monkeypatch) -> None:
    seen = counting(monkeypatch)
    decode(clip, start_s=3.0, duration_s=0.4, audio=False)
    early = [time_s for time_s in seen if time_s < 3.0 - video.LEAD_S]
    assert 0 < len(early) < 60  # of 68


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("codec", ["aac", "pcm_s16le", "pcm_u8"])
def test_audio_mixed_together_is_the_same_as_frame_by_frame(
    tmp_path: Path, channels: int, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mkv"
    samples = 0.1 * RNG.standard_normal((132_300, channels)).astype(np.float32)
    encode(path, None, samples, sample_rate_hz=44_100, audio_codec=codec)
    windows = [(0.0, 2.9), (1.2, 1.0)]
    together = [decode(path, start_s=s, duration_s=d, video=False).samples for s, d in windows]
    monkeypatch.setattr(audio, "MOST_FRAMES", 1)
    for (start_s, length_s), samples in zip(windows, together, strict=True):
        window = decode(path, start_s=start_s, duration_s=length_s, video=False)
        assert samples.any()
        assert np.array_equal(samples, window.samples)


def test_a_read_without_skipping_follows_one_with(clip, monkeypatch) -> None:
    expected = decode(clip, start_s=3.0, duration_s=0.4, audio=False).frames
    skips_too_much = ((0.0, True), (0.0, False))
    monkeypatch.setattr(video, "ATTEMPTS", skips_too_much)
    show = video._Film.show
    monkeypatch.setattr(
        video._Film,
        "show",
        lambda film, times_s: show(film, times_s) if film._source.skip_until_s == -np.inf else None,
    )
    frames = decode(clip, start_s=3.0, duration_s=0.4, audio=False).frames
    assert np.array_equal(frames, expected)


def test_pictures_far_apart_are_read_without_skipping(tmp_path) -> None:
    path = tmp_path / "slides.mkv"
    times_s = [0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 3.0, 3.04]
    with av.open(str(path), "w") as out:
        # The sixth picture is one that nothing refers to.
        options = {"x264-params": "b-adapt=0:bframes=3:b-pyramid=none:scenecut=0"}
        stream = out.add_stream("libx264", rate=1000, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, time_s in enumerate(times_s):
            picture = np.full((48, 64, 3), 30 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    shown = decode(path, start_s=1.0, duration_s=0.4, audio=False).frames
    assert np.all(np.abs(shown.mean((1, 2, 3)) - 150) < 5)  # the sixth, up to half way to 3 s


@pytest.mark.parametrize(
    "starts_s", [[0.0], [0.0, 0.32, 0.64], [0.2, 0.84], [0.0, 0.04], [0.0, 1.0], [0.4, 0.0, 0.6]]
)
@pytest.mark.parametrize("std", [0.5, (0.229, 0.224, 0.225)])
def test_segments_that_share_frames_are_those_cut_one_by_one(starts_s, std) -> None:
    frontend = Frames(size=16, short_side=16, std=std)
    frames = RNG.integers(0, 256, (60, 16, 16, 3), np.uint8)[:, :, ::-1]
    firsts = [round(t * FPS) for t in starts_s]
    each = torch.from_numpy(np.stack([frames[i : i + 16] for i in firsts]))
    assert torch.equal(cut_frames(frames, starts_s, 0.64, frontend), normalise(each, frontend))


@pytest.mark.parametrize("step_s", [0.32, 0.64])
def test_crops_that_travelled_as_bytes_are_cut_alike(step_s) -> None:
    frontend, layout = Frames(size=16, short_side=16), SegmentLayout(num_segments=3, step_s=step_s)
    crops = RNG.integers(0, 256, (2, round(layout.covered_s * FPS), 16, 16, 3), np.uint8)
    places = layout.starts_s, layout.segment_s
    cut = cut_crops(torch.from_numpy(crops), *places, frontend)
    for crop, segments in zip(crops, cut, strict=True):
        assert torch.equal(segments, cut_frames(crop, layout.starts_s, 0.64, frontend))
    elsewhere = torch.from_numpy(crops).to("meta")  # takes the way of GPUs, without values
    assert cut_crops(elsewhere, *places, frontend).shape == cut.shape


def test_a_clip_with_one_key_frame_is_reencoded_in_one_pass(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reencode, "WINDOW_FRAMES", 20)
    seen = counting(monkeypatch)
    windows = reencode._Windows(clip, 4.0)
    frames = np.stack(list(windows.frames()))
    assert len(seen) == 100
    whole = decode(clip, short_side=reencode.SHORT_SIDE)
    assert np.array_equal(frames, whole.frames)
    assert np.array_equal(np.concatenate(list(windows.samples())), whole.samples)
