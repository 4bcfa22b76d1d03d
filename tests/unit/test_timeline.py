import numpy as np
import pytest
from pydantic import ValidationError

from zoo.data.manifest import Manifest
from zoo.errors import ConfigError
from zoo.models.config import Component
from zoo.models.model import build_task
from zoo.timeline import (
    OffsetGrid,
    Placement,
    Sample,
    SegmentLayout,
    count_steps,
    describe_offset,
    feasible_starts,
    fixed_sample,
    place_crops,
    shortest_clip_s,
    to_frames,
    to_samples,
)

LAYOUT, GRID = SegmentLayout(), OffsetGrid()


def offset_sample(
    seed: int = 0, *, duration_s: float = 9.0, jitter_s: float = 0.0, target: int | None = None
) -> Sample:
    rng = np.random.default_rng(seed)
    if target is None:
        target = int(rng.integers(GRID.num_classes))
    place = Placement(LAYOUT, vision_hop_s=0.32, audio_hop_s=0.04, jitter_s=jitter_s)
    return place_crops(rng, 0, duration_s, place, GRID.offsets_s[target], target)


def test_positive_offset_means_audio_leads() -> None:
    """A crop whose audio is cut later in the clip hears now what is seen later."""
    target = GRID.class_of(0.6)
    sample = offset_sample(target=target)
    assert sample.audio_start_s == pytest.approx(sample.vision_start_s + 0.6)
    event_s = sample.vision_start_s + 2.0  # an event of the synchronous clip
    heard_s, seen_s = event_s - sample.audio_start_s, event_s - sample.vision_start_s
    assert heard_s == pytest.approx(seen_s - 0.6)
    assert "early" in describe_offset(0.6)


def test_the_published_layout_covers_four_point_eight_seconds() -> None:
    assert LAYOUT.covered_s == 4.8
    assert SegmentLayout(num_segments=13).covered_s == 4.48
    assert LAYOUT.starts_s[:3] == [0.0, 0.32, 0.64]
    assert len(LAYOUT.starts_s) == 14


def test_the_published_grid_has_twenty_one_classes() -> None:
    assert len(GRID.offsets_s) == 21
    assert (GRID.offsets_s[0], GRID.offsets_s[10], GRID.offsets_s[20]) == (-2.0, 0.0, 2.0)
    assert GRID.step_s == pytest.approx(0.2)
    assert [GRID.class_of(o) for o in GRID.offsets_s] == list(range(21))


def test_of_two_equally_near_classes_the_first_is_taken() -> None:
    assert GRID.class_of(-1.9) == 0
    assert GRID.class_of(0.3) == 11
    assert GRID.class_of(99.0) == 20


def test_conversions_are_exact_or_an_error() -> None:
    assert to_frames(0.64, 25) == 16
    assert to_samples(0.64, 16_000) == 10_240
    assert to_frames(4.6, 25) == 115  # int(4.6 * 25) would be 114
    with pytest.raises(
        ConfigError,
        match=r"0\.65 s is not a whole number of video frames.*: 0\.64 s",
    ):
        to_frames(0.65, 25)
    with pytest.raises(ConfigError, match="audio samples"):
        to_samples(0.00001, 16_000)


@pytest.mark.parametrize(("length_s", "count"), [(4.8, 14), (4.79, 13), (0.64, 1), (0.63, 0)])
def test_as_many_steps_are_counted_as_fit(length_s: float, count: int) -> None:
    assert count_steps(length_s, 0.64, 0.32) == count


def test_a_layout_has_no_gaps_and_a_grid_is_ordered() -> None:
    with pytest.raises(ValidationError, match="leaves gaps"):
        SegmentLayout(step_s=0.65)
    with pytest.raises(ValidationError, match="must be above"):
        OffsetGrid(min_s=1.0, max_s=-1.0)


@pytest.mark.parametrize("offset_s", [-2.0, -0.2, 0.0, 0.2, 2.0])
def test_feasible_starts_keep_both_crops_inside(offset_s: float) -> None:
    starts = feasible_starts(9.0, LAYOUT, offset_s, 0.04)
    assert starts
    for start_s in starts:
        for crop_s in (start_s, start_s + offset_s):
            assert crop_s >= -1e-9
            assert crop_s + LAYOUT.covered_s <= 9.0 + 1e-9
    beyond = (starts[0] - 0.04, starts[-1] + 0.04)
    assert all(
        min(s, s + offset_s) < 0 or max(s, s + offset_s) + LAYOUT.covered_s > 9.0 for s in beyond
    )


def test_a_clip_too_short_for_a_class_is_a_clear_error() -> None:
    assert shortest_clip_s(LAYOUT, GRID) == 6.8
    with pytest.raises(
        ConfigError, match=r"6\.00 s is too short for a crop of 4\.8 s at offset \+2"
    ):
        offset_sample(duration_s=6.0, target=20)


def test_jitter_stays_on_the_lattice_inside_the_clip_and_keeps_the_label() -> None:
    moved = set()
    for seed in range(200):
        sample = offset_sample(seed, jitter_s=0.09)
        shift_s = sample.audio_start_s - sample.vision_start_s - GRID.offsets_s[sample.target]
        moved.add(round(shift_s / 0.04))
        assert 0 <= sample.audio_start_s <= 9.0 - LAYOUT.covered_s + 1e-6
        assert round(sample.audio_start_s / 0.04, 4).is_integer()
    assert moved == {-2, -1, 0, 1, 2}


def test_half_of_the_samples_of_synchronizability_share_no_content(clips: Manifest) -> None:
    layout = SegmentLayout(num_segments=13)
    task = build_task(Component(name="synchronizability"))
    place = Placement(layout, vision_hop_s=0.32, audio_hop_s=0.04)
    samples = [
        task.sample(np.random.default_rng(seed), 0, clips.clips[0], 9.0, place)
        for seed in range(400)
    ]
    apart = [s for s in samples if s.target == 0]
    assert 150 < len(apart) < 250
    assert {s.offset_s for s in apart} == {-layout.covered_s, layout.covered_s}
    assert {s.offset_s for s in samples if s.target == 1} == set(GRID.offsets_s)
    for sample in samples:
        for start_s in (sample.vision_start_s, sample.audio_start_s):
            assert 0 <= start_s <= 9.0 - layout.covered_s + 1e-6
    assert task.need(layout, 0.32).seconds == 8.96
    assert task.need(LAYOUT, 0.32).seconds == 9.6


def test_a_fixed_sample_lies_in_the_middle_of_the_published_crop() -> None:
    sample = fixed_sample(3, 10.0, LAYOUT, GRID, 1.4, 1.16, 25.0)
    assert sample.vision_start_s == 1.24  # frame 29 and two more; truncating would give 28
    assert sample.offset_s == 1.4
    assert (sample.clip, sample.target) == (3, 17)


@pytest.mark.parametrize(("offset_s", "start_s"), [(-1.0, 0.4), (1.0, 4.4), (0.0, 6.0)])
def test_a_fixed_sample_beyond_the_clip_is_a_clear_error(offset_s: float, start_s: float) -> None:
    with pytest.raises(ConfigError, match=r"does not fit into a clip of 10\.00 s"):
        fixed_sample(0, 10.0, LAYOUT, GRID, offset_s, start_s, 25.0)


def test_every_class_is_sampled_alike() -> None:
    counts = np.bincount([offset_sample(seed).target for seed in range(4200)], minlength=21)
    assert counts.min() > 140
    assert counts.max() < 260


def test_samples_depend_on_the_generator_only() -> None:
    assert offset_sample(5, jitter_s=0.05) == offset_sample(5, jitter_s=0.05)
    assert offset_sample(5) != offset_sample(6)


@pytest.mark.parametrize(
    ("offset_s", "words"),
    [
        (0.4, "the audio is 0.4 s early; to repair, delay it by 0.4 s"),
        (-1.25, "the audio is 1.25 s late; to repair, advance it by 1.25 s"),
        (0.0, "audio and video are in sync"),
    ],
)
def test_an_offset_is_said_in_words(offset_s: float, words: str) -> None:
    assert describe_offset(offset_s) == words
