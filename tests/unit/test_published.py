"""The published reading against tables made with the published code."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from golden import arrays, assert_agrees, needs_golden

from plugins.synchronizability.published import synchronizability_crop, synchronizability_crop_s
from zoo.data.manifest import Manifest
from zoo.data.published import (
    JITTER_S,
    Crop,
    RawClip,
    class_grid,
    class_of,
    crop_s,
    fixed_crop,
    place_segments,
    random_crop,
    read_clip,
    trim,
)
from zoo.errors import MediaError
from zoo.media import decode, shift_audio
from zoo.timeline import OffsetGrid, SegmentLayout

GRID, LAYOUT = OffsetGrid(), SegmentLayout()
CLIPS = Path(__file__).parents[3] / "shared" / "clips"
needs_clips = pytest.mark.skipif(not CLIPS.exists(), reason="../shared/clips is not here")


def blank(num_frames: int = 250, num_samples: int = 160_000) -> RawClip:
    return RawClip(
        np.zeros((num_frames, 1, 1, 3), np.uint8), np.zeros(num_samples, np.float32), 25.0, 16_000
    )


@needs_golden
def test_classes_are_the_published_ones_ties_included() -> None:
    assert_agrees("indices/class_grid", class_grid(GRID), 0)
    assert_agrees("indices/class_grid_extreme", np.append(class_grid(GRID), np.float32(4.48)), 0)
    ours = [class_of(offset_s, GRID) for offset_s in arrays("indices")["quant_in"]]
    assert_agrees("indices/quant_idx", ours, 0)


@needs_golden
def test_segments_lie_where_the_published_code_puts_them() -> None:
    for row, (segments, step, frames, samples) in enumerate(arrays("indices")["seg_settings"]):
        layout = SegmentLayout(num_segments=int(segments), step_s=round(0.64 * step, 6))
        vision, audio = place_segments(layout, int(frames), int(samples))
        assert_agrees(f"indices/seg{row:02d}_v", vision, 0)
        assert_agrees(f"indices/seg{row:02d}_a", audio, 0)


@needs_golden
def test_fixed_crops_start_where_the_published_ones_do() -> None:
    offsets_s = [float(offset_s) for offset_s in class_grid(GRID)]
    ours = [[first_sample(offset_s, k / 25) for offset_s in offsets_s] for k in range(126)]
    assert_agrees("indices/crop_audio_start", ours, 0)
    starts = [
        fixed_crop(blank(), GRID, 5.0, 0.0, round(0.04 * k, 2)).first_frame for k in range(126)
    ]
    assert_agrees("indices/crop_video_start", starts, 0)
    assert sum(start != k for k, start in enumerate(starts)) == 7


def first_sample(offset_s: float, start_s: float) -> int:
    try:
        return fixed_crop(blank(), GRID, 5.0, offset_s, start_s).first_sample
    except MediaError:
        return -1


@needs_golden
def test_random_crops_follow_the_published_stream_of_random_numbers() -> None:
    rng, rows = random.Random(1337), []
    for _ in range(24):
        before = rng.getstate()
        plain = random_crop(blank(), GRID, crop_s(LAYOUT), rng)
        rng.setstate(before)
        crop = random_crop(blank(), GRID, crop_s(LAYOUT), rng, JITTER_S)
        jitter = crop.first_sample - plain.first_sample
        start = crop.offset_s, crop.start_s, crop.first_frame, crop.first_sample
        rows.append((*start, jitter, crop.target))
    assert_agrees("indices/train_crop_draws", rows, 0)


@needs_golden
def test_random_segments_follow_the_published_stream_of_random_numbers() -> None:
    rng, layout = random.Random(1337), SegmentLayout(step_s=0.64)
    rows = []
    for _ in range(16):
        vision, audio = place_segments(layout, 250, 160_000, rng=rng, jitter_s=JITTER_S)
        rows.append((vision[0, 0], audio[0, 0]))
    assert_agrees("indices/train_seg_draws", rows, 0)


@needs_golden
def test_synchronizability_crops_follow_the_published_stream_of_random_numbers() -> None:
    rng, layout = random.Random(1337), SegmentLayout(num_segments=13)
    assert synchronizability_crop_s(layout) == 4.48
    assert synchronizability_crop_s(LAYOUT) == 4.8
    crops = [synchronizability_crop(blank(), GRID, 4.48, rng, JITTER_S) for _ in range(24)]
    assert_agrees("indices/train_sync_draws", [_columns(*crop) for crop in crops], 0)


def _columns(crop: Crop, is_synchronizable: bool) -> tuple[float, ...]:
    return (
        crop.offset_s,
        crop.start_s,
        crop.first_frame,
        crop.first_sample,
        is_synchronizable,
        crop.target,
        crop.num_frames,
        crop.num_samples,
    )


@needs_clips
@pytest.mark.parametrize(
    ("name", "end_s", "num_frames", "num_samples", "size"),
    [
        ("3qesirWAGt4_20000_30000.mp4", None, 250, 160_768, (256, 454)),
        ("ZYc410CE4Rg_0_10000.mp4", None, 250, 160_768, (256, 340)),
        ("00018.mp4", None, 393, 251_904, (256, 454)),
        ("00018.mp4", 11.0, 276, 176_128, (256, 454)),
    ],
)
def test_real_clips_are_read_whole(
    name: str, end_s: float | None, num_frames: int, num_samples: int, size: tuple[int, int]
) -> None:
    clip = read_clip(next(CLIPS.rglob(name)), end_s=end_s)
    assert clip.frames.shape == (num_frames, *size, 3)
    assert clip.samples.shape == (num_samples,)
    assert (clip.samples.dtype, clip.fps, clip.sample_rate_hz) == (np.float32, 25.0, 16_000)
    kept = trim(clip)
    assert (len(kept.frames), len(kept.samples)) == (250, 160_000)


@needs_clips
def test_the_audio_can_be_shifted() -> None:
    path = next(CLIPS.rglob("ZYc410CE4Rg_0_10000.mp4"))
    plain, late, early = (read_clip(path, audio_shift_s=s).samples for s in (0.0, 0.064, -0.064))
    assert not late[:1024].any()
    assert np.array_equal(late[1024:], plain)
    assert np.array_equal(early, plain[1024:])


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"gone\.mp4 cannot be read"):
        read_clip(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(MediaError, match=r"text\.mp4 is not a media file"):
        read_clip(tmp_path / "text.mp4")


def test_a_clip_no_longer_than_the_crop_is_refused() -> None:
    with pytest.raises(MediaError, match="too short"):
        random_crop(blank(125, 80_000), GRID, 5.0, random.Random(0))
    with pytest.raises(MediaError, match="too short"):
        synchronizability_crop(blank(200, 128_000), GRID, 4.48, _always_apart())
    with pytest.raises(MediaError, match="14 segments do not fit into 100 frames"):
        place_segments(LAYOUT, 100, 64_000)


def _always_apart() -> random.Random:
    rng = random.Random(0)
    rng.random = lambda: 0.9  # type: ignore[method-assign]
    return rng


@needs_clips
def test_both_readers_agree_on_prepared_clips() -> None:
    path = next(CLIPS.rglob("ZYc410CE4Rg_0_10000.mp4"))
    published, ours = trim(read_clip(path)), decode(path, duration_s=10.0)
    assert np.array_equal(published.frames, ours.frames)
    assert np.array_equal(published.samples, ours.samples)


def test_the_published_reader_has_no_clock(clips: Manifest, tmp_path: Path) -> None:
    path = clips.clips[0].path
    shift_audio(path, tmp_path / "late.mp4", 0.5)
    plain, late = read_clip(path), read_clip(tmp_path / "late.mp4")
    # The delay is lost; the 64 ms that an AAC encoder puts in front are not: nothing marks them.
    assert np.array_equal(plain.samples, late.samples[1024:])
    ours = decode(tmp_path / "late.mp4", duration_s=8.0).samples
    assert np.abs(ours[8000 + 2000 : 60_000] - plain.samples[2000:52_000]).max() < 1e-3
