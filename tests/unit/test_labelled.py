from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from plugins.synthetic import clip, labelled
from plugins.synthetic.clip_folder import SyntheticFolder, render_folder
from plugins.synthetic.command import parse_split
from plugins.synthetic.config import SyntheticConfig
from zoo.data.manifest import Event, Manifest, build_manifest

SMALL = SyntheticConfig(kind="labelled", size=32, seconds=2.0, seed=4)
LONGER = SMALL.model_copy(update={"seconds": 5.0})
MULTI = SMALL.model_copy(update={"kind": "multilabel"})


def labels_of(config: SyntheticConfig, num_clips: int) -> list[str]:
    return [clip.describe(config, index).label for index in range(num_clips)]


def test_eight_classes_pair_every_look_with_two_timbres_and_back() -> None:
    names = [species.name for species in labelled.CLASSES]
    looks, timbres = zip(*map(labelled.parts, names), strict=True)
    assert len(set(names)) == 8
    assert set(Counter(looks).values()) == set(Counter(timbres).values()) == {2}
    assert len(set(looks)) == len(set(timbres)) == 4


@pytest.mark.parametrize("seed", [0, 1])
def test_any_eight_consecutive_clips_of_a_round_hold_every_class_in_random_order(seed: int) -> None:
    labels = labels_of(SMALL.model_copy(update={"seed": seed}), 80)
    rounds = [tuple(labels[start : start + 8]) for start in range(0, 80, 8)]
    assert all(len(set(each)) == 8 for each in rounds)
    assert len(set(rounds)) == 10


def test_generator_parameters_give_the_class_together_and_half_of_it_alone() -> None:
    """A table from kinds to classes, learnt on one set of clips and tested on another."""
    learnt, tested = (labels_of(SMALL.model_copy(update={"seed": s}), 800) for s in (5, 6))
    views = {"vision": lambda x: x[:1], "audio": lambda x: x[1:], "both": lambda x: x}
    accuracy = {}
    for name, view in views.items():
        table: dict[tuple[str, ...], Counter[str]] = {}
        for label in learnt:
            table.setdefault(view(labelled.parts(label)), Counter())[label] += 1
        hits = [table[view(labelled.parts(x))].most_common(1)[0][0] == x for x in tested]
        accuracy[name] = float(np.mean(hits))
    assert accuracy == {"vision": 0.5, "audio": 0.5, "both": 1.0}
    assert labelled.single_stream_ceilings(tested) == (0.5, 0.5)
    assert labelled.ceiling(tested, tested) == 1.0


def test_the_timbre_leaves_the_frames_as_they_are_and_the_look_the_audio() -> None:
    """Nothing but the kind tells the class: the other stream's kind changes no pixel, no sample."""
    hard = SMALL.model_copy(update={"difficulty": "hard"})
    planned = labelled.plan(np.random.default_rng(0), hard, 0)
    frames, samples = planned.render(np.random.default_rng(1))
    species = planned.scene.species
    other = next(
        each
        for each in labelled.CLASSES
        if not set(labelled.parts(each.name)) & set(labelled.parts(species.name))
    )
    other_timbre = replace(planned.scene, species=replace(species, timbre=other.timbre))
    other_look = replace(planned.scene, species=replace(other, timbre=species.timbre))
    for scene, same_frames, same_samples in (
        (other_timbre, True, False),
        (other_look, False, True),
    ):
        found_frames, found_samples = scene.render(np.random.default_rng(1))
        assert np.array_equal(found_frames, frames) == same_frames
        assert np.array_equal(found_samples, samples) == same_samples


def test_events_begin_at_the_hits_and_end_before_the_next() -> None:
    for index in range(40):
        truth = clip.describe(LONGER, index)
        assert truth.events is not None
        assert [event.start_s for event in truth.events] == truth.events_s
        assert {event.label for event in truth.events} == {truth.label}
        for event, then in zip(truth.events, [*truth.events_s[1:], 5.0], strict=True):
            assert 0 < event.end_s - event.start_s < 0.6
            assert event.end_s <= then


def test_the_sound_of_an_event_has_faded_at_its_end() -> None:
    easy = LONGER.model_copy(update={"difficulty": "easy"})
    loud, quiet = [], []
    for index in range(16):
        _, samples, truth = clip.render(easy, index)
        for event in truth.events or ():
            start, stop = (round(t * 16_000) for t in (event.start_s, event.end_s))
            loud.append(np.mean(samples[start : start + 800] ** 2))
            if stop + 800 < samples.size:
                quiet.append(np.mean(samples[stop : stop + 800] ** 2))
    assert np.mean(loud) > 20 * np.mean(quiet)


def test_a_multilabel_clip_is_the_same_clip_with_look_and_timbre_as_labels() -> None:
    for index in range(8):
        one, two = clip.describe(SMALL, index), clip.describe(MULTI, index)
        assert one.labels == (one.label,)
        assert two.labels == labelled.parts(two.label)
        assert two.label == one.label
        assert {event.label for event in two.events or ()} == set(two.labels)
    one_frames, one_samples, _ = clip.render(SMALL, 3)
    two_frames, two_samples, _ = clip.render(MULTI, 3)
    np.testing.assert_array_equal(one_frames, two_frames)
    np.testing.assert_array_equal(one_samples, two_samples)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the steps of precision over recall; equal scores are one step."""
    recall, total = 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        taken = scores >= threshold
        now = float((truth & taken).sum() / truth.sum())
        total += (now - recall) * float(truth[taken].mean())
        recall = now
    return total


def test_one_stream_alone_reaches_three_quarters_of_the_mean_average_precision() -> None:
    pairs = [labelled.parts(label) for label in labels_of(MULTI, 400)]
    found = []
    for stream in (0, 1):
        precisions = []
        for label in [*labelled.TIMBRES, *(look.name for look in labelled.LOOKS)]:
            truth = np.array([label in pair for pair in pairs])
            # The best score is the probability of the label given the kind in this stream.
            rate = {kind: np.mean([label in p for p in pairs if kind in p]) for kind, _ in pairs}
            rate |= {kind: np.mean([label in p for p in pairs if kind in p]) for _, kind in pairs}
            scores = np.array([rate[pair[stream]] for pair in pairs])
            precisions.append(average_precision(scores, truth))
        found.append(np.mean(precisions))
    assert found == [0.75, 0.75]


def test_a_labelled_folder_is_balanced_in_every_split_and_reads_back(tmp_path: Path) -> None:
    shares = parse_split("train=0.5,valid=0.25,test=0.25")
    manifest = render_folder(tmp_path / "set", SMALL, 40, shares, workers=1)
    assert Manifest.read(tmp_path / "set" / "manifest.parquet") == manifest
    for split in ("train", "valid", "test"):
        counts = Counter(each.label for each in manifest.select(split).clips)
        assert len(counts) == 8
        assert len(set(counts.values())) == 1
    first = manifest.clips[0]
    assert first.labels == first.all_labels == (first.label,)
    assert first.events
    assert isinstance(first.events[0], Event)
    records = list(SyntheticFolder().scan(tmp_path / "set"))
    assert [(r.labels, r.events) for r in records] == [(c.labels, c.events) for c in manifest.clips]
    again, rejected = build_manifest(records, tmp_path / "again.parquet")
    assert not rejected
    assert [c.events for c in again.clips] == [c.events for c in manifest.clips]


def test_looks_and_timbres_can_be_told_apart_by_one_measurement_each() -> None:
    """Colour at the brightest change and spectrum after the hits: nearest centroids suffice."""
    config = SMALL.model_copy(update={"seconds": 4.0, "difficulty": "easy", "seed": 9})
    features: dict[str, list[np.ndarray]] = {"vision": [], "audio": []}
    truths = []
    for index in range(64):
        frames, samples, truth = clip.render(config, index)
        truths.append(labelled.parts(truth.label))
        features["vision"].append(_colour(frames.astype(np.float32)))
        features["audio"].append(_spectrum(samples, truth.events_s))
    for column, (stream, floor) in enumerate((("vision", 0.9), ("audio", 0.8))):
        own = _accuracy(np.array(features[stream]), [truth[column] for truth in truths])
        other = _accuracy(np.array(features[stream]), [truth[1 - column] for truth in truths])
        assert own > floor
        assert other < 0.7  # 50 % is what the pairs allow


def _colour(frames: np.ndarray) -> np.ndarray:
    """Return the colour of the object: the pixels that differ most from the mean over time."""
    change = frames - np.median(frames, axis=0)
    strength = np.abs(change).sum(axis=-1)
    moved = frames[strength > 0.6 * strength.max()].mean(axis=0)
    return np.asarray(moved / np.linalg.norm(moved))


def _spectrum(samples: np.ndarray, events_s: list[float]) -> np.ndarray:
    """Return the log energy in 12 bands of 0.1 s after each hit, of unit norm."""
    padded = np.pad(samples, (0, 1600))
    cuts = np.array([padded[round(t * 16_000) :][:1600] for t in events_s])
    energy = (np.abs(np.fft.rfft(cuts * np.hanning(1600))) ** 2).sum(axis=0)
    edges = np.geomspace(8, 800, 13).astype(int)
    bands = np.log([energy[low:high].mean() + 1e-9 for low, high in pairwise(edges)])
    return np.asarray(bands - bands.mean())


def _accuracy(features: np.ndarray, kinds: list[str]) -> float:
    """Learn centroids on the first half of the clips, and test them on the other."""
    half, names = len(kinds) // 2, sorted(set(kinds))
    known = np.array(kinds)
    centres = np.array([features[:half][known[:half] == name].mean(axis=0) for name in names])
    distances = np.linalg.norm(features[half:, None] - centres, axis=-1)
    return float(np.mean(np.array(names)[distances.argmin(axis=1)] == known[half:]))
