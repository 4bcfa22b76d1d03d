import pytest

from zoo.data.sampling import ClipOrder, share_of_rank, slot_rng, spread_share


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_any_number_of_workers_sees_the_same_global_batch(world_size: int) -> None:
    batch = ClipOrder(20, seed=7).of_step(3, 8)
    shares = [share_of_rank(batch, rank, world_size) for rank in range(world_size)]
    assert [item for share in shares for item in share] == list(enumerate(batch))
    assert len({len(share) for share in shares}) == 1


def test_every_epoch_visits_every_clip_once() -> None:
    clips = [clip for step in range(10) for clip in ClipOrder(20, seed=7).of_step(step, 4)]
    assert sorted(clips[:20]) == sorted(clips[20:]) == list(range(20))
    assert clips[:20] != clips[20:]


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert sorted(ClipOrder(5, seed=1).of_step(0, 10)) == sorted([*range(5), *range(5)])


def test_a_step_needs_no_history() -> None:
    forwards = [ClipOrder(7, seed=2).of_step(step, 3) for step in range(20)]
    assert [ClipOrder(7, seed=2).of_step(step, 3) for step in reversed(range(20))] == forwards[::-1]
    assert forwards != [ClipOrder(7, seed=3).of_step(step, 3) for step in range(20)]


def test_the_randomness_of_a_slot_is_its_own() -> None:
    drawn = {
        slot_rng(*key).random() for key in [(1, 2, 3, 4), (1, 2, 4, 3), (1, 1, 3, 4), (2, 2, 3, 4)]
    }
    assert len(drawn) == 4
    assert slot_rng(1, 2, 3, 4).random() == slot_rng(1, 2, 3, 4).random()


def test_a_share_of_the_clips_has_as_many_of_every_label_as_there_are() -> None:
    kinds = ["a"] * 50 + ["b"] * 5 + ["c"] * 45
    chosen = spread_share(kinds, 0.12, seed=1)
    assert sorted(kinds[i] for i in chosen) == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    assert chosen != spread_share(kinds, 0.12, seed=2)
    assert len(spread_share(kinds, 0.5, seed=1)) == 50
    assert [kinds[i] for i in spread_share(kinds, 0.5, seed=1)].count("b") == 5
