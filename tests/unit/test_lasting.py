"""Clips of lasting events: what is heard and seen, only heard, only seen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from plugins.synthetic import clip, lasting
from plugins.synthetic.clip_folder import SyntheticFolder, render_folder
from plugins.synthetic.command import parse_split
from plugins.synthetic.config import FPS, SAMPLE_RATE_HZ, SyntheticConfig
from zoo.cli.app import run
from zoo.data.manifest import Manifest, build_manifest

SMALL = SyntheticConfig(kind="events", size=32, seconds=10.0, seed=4, difficulty="easy")


@pytest.fixture(scope="module")
def plans() -> list[lasting.Lasting]:
    return [lasting.plan_of(SMALL, index) for index in range(1500)]


def test_events_last_whole_seconds_inside_the_clip() -> None:
    for index in range(60):
        truth = clip.describe(SMALL, index)
        for event in (*(truth.events or ()), *sum((truth.decoys or {}).values(), ())):
            assert 0 <= event.start_s < event.end_s <= 10
            assert event.start_s.is_integer()
            assert event.end_s.is_integer()
        assert truth.events_s == [event.start_s for event in truth.events or ()]
        assert set(truth.labels or ()) == {event.label for event in truth.events or ()}


def test_one_stream_alone_is_well_below_both_and_above_chance(
    plans: list[lasting.Lasting],
) -> None:
    found = lasting.ceilings(plans)
    assert found.both == 1.0
    assert found.audio == pytest.approx(0.773, abs=0.015)
    assert found.vision == pytest.approx(0.773, abs=0.015)
    assert found.chance == pytest.approx(0.545, abs=0.015)


def test_things_are_equally_frequent_and_so_are_both_decoys(plans: list[lasting.Lasting]) -> None:
    runs = [run for plan in plans for run in plan.runs]
    things = Counter(run.thing.name for run in runs)
    assert len(things) == 6
    assert max(things.values()) < 1.15 * min(things.values())
    kinds = Counter(run.kind for run in runs)
    assert kinds["event"] / len(runs) == pytest.approx(lasting.EVENT, abs=0.02)
    assert kinds["heard"] / len(runs) == pytest.approx(lasting.DECOY, abs=0.02)


def test_no_second_of_a_clip_is_special(plans: list[lasting.Lasting]) -> None:
    shares = np.mean([[x != "background" for x in p.per_second("event")] for p in plans], axis=0)
    assert np.ptp(shares) < 0.08


def test_what_surrounds_a_sound_does_not_tell_whether_it_is_seen(
    plans: list[lasting.Lasting],
) -> None:
    """The share of events among sounds, by what is heard a second before and after."""
    counts: dict[tuple[bool, bool], list[bool]] = {}
    for plan in plans:
        heard, event = plan.per_second("event", "heard"), plan.per_second("event")
        for at in range(1, 9):
            if heard[at] != "background":
                around = (heard[at - 1] == heard[at], heard[at + 1] == "background")
                counts.setdefault(around, []).append(event[at] != "background")
    for seconds in counts.values():
        assert np.mean(seconds) == pytest.approx(2 / 3, abs=0.05)


def test_a_thing_is_in_the_frames_while_it_is_seen_and_in_the_audio_while_it_is_heard() -> None:
    loud: dict[bool, list[float]] = {True: [], False: []}
    bright: dict[bool, list[float]] = {True: [], False: []}
    for index in range(12):
        frames, samples, _ = clip.render(SMALL, index)
        plan = lasting.plan_of(SMALL, index)
        heard, seen = plan.per_second("event", "heard"), plan.per_second("event", "seen")
        empty = [i for i in range(250) if seen[i // FPS] == "background"]
        if not empty:
            continue
        still = np.median(frames[empty], axis=0)
        for second in range(10):
            sound = samples[second * SAMPLE_RATE_HZ : (second + 1) * SAMPLE_RATE_HZ]
            loud[heard[second] != "background"].append(float(np.mean(sound**2)))
            part = frames[second * FPS : (second + 1) * FPS]
            bright[seen[second] != "background"].append(float(np.abs(part - still).max(-1).mean()))
    assert np.mean(loud[True]) > 20 * np.mean(loud[False])
    assert np.mean(bright[True]) > 3 * np.mean(bright[False])


def test_sound_and_look_are_independent_of_whether_the_other_is_there() -> None:
    """The same clip with every event only heard has the same audio; only seen, the same frames."""
    planned = lasting.plan_of(SMALL, 3)
    frames, samples = planned.render(np.random.default_rng(1))

    def with_events_as(kind: lasting.Kind) -> lasting.Lasting:
        runs = (
            lasting.Run(r.thing, kind if r.kind == "event" else r.kind, r.start_s, r.end_s)
            for r in planned.runs
        )
        return lasting.Lasting(tuple(runs), SMALL)

    _, only_heard = with_events_as("heard").render(np.random.default_rng(1))
    only_seen, _ = with_events_as("seen").render(np.random.default_rng(1))
    np.testing.assert_array_equal(only_heard, samples)
    np.testing.assert_array_equal(only_seen, frames)


def test_a_folder_of_events_reads_back_and_says_its_ceilings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    made = ["--kind", "events", "--clips", "6", "--size", "32", "--seconds", "4", "--workers", "1"]
    split = ["--split", "train=0.5,valid=0.25,test=0.25"]
    assert run(["data", "synth", str(out), *made, *split]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "train: seconds of 6 events and background told from audio alone at most" in said
    assert "from both 100 %" in said
    manifest = Manifest.read(out / "manifest.parquet")
    adapter = SyntheticFolder()
    records = list(adapter.scan(out))
    assert adapter.classes() == manifest.classes == lasting.CLASSES
    assert [r.events for r in records] == [c.events for c in manifest.clips]
    again, rejected = build_manifest(records, tmp_path / "again.parquet")
    assert not rejected
    assert [c.events for c in again.clips] == [c.events for c in manifest.clips]
    assert all(c.label is None and c.duration_s == 4 for c in again.clips)
    config = SyntheticConfig(kind="events", size=32, seconds=4.0)
    assert render_folder(out, config, 6, parse_split(split[1]), workers=1) == manifest
