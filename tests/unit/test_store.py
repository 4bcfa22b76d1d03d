import dataclasses
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.contracts import Modality
from zoo.data import frontend
from zoo.data import store as store_module
from zoo.data.augment import Augment
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import ClipSource
from zoo.data.frontend import crop_square, cut_audio, cut_crops, cut_frames
from zoo.data.manifest import Clip, Manifest
from zoo.data.samples import SampleSource
from zoo.data.sampling import slot_rng
from zoo.data.store import FeatureStore, is_sealed, seal, store_config, store_key
from zoo.data.store_blocks import BlockPlan, DecodedBlocks
from zoo.data.store_build import build_store
from zoo.errors import ConfigError, MediaError, TrainingError
from zoo.media import decode, encode, probe
from zoo.models.model import Model, build_task
from zoo.models.segments import Segments, Tokens
from zoo.timeline import SegmentLayout
from zoo.training.engine import LocalEngine
from zoo.training.overrides import override
from zoo.training.recipe import Recipe
from zoo.training.rehearsal import check_fit

CPU = torch.device("cpu")
AUGMENT = Augment(jitter_s=0.05)


@pytest.fixture(scope="module")
def chosen(clips: Manifest) -> list[Clip]:
    return list(clips.clips[:2])


def build(
    folder: Path, model: Model, reader: ClipReader, clips: list[Clip], dtype: str = "float32"
) -> FeatureStore:
    config = store_config(model, dtype)  # type: ignore[arg-type]
    for _ in build_store(folder, model, reader, clips, config, CPU):
        pass
    return FeatureStore(folder, clips, config)


@pytest.fixture(scope="module")
def stored(
    tmp_path_factory: pytest.TempPathFactory,
    model: Model,
    reader: ClipReader,
    chosen: list[Clip],
) -> FeatureStore:
    return build(tmp_path_factory.mktemp("store"), model, reader, chosen)


def samples_of(
    clips: list[Clip],
    reader: ClipReader,
    recipe: Recipe,
    store: FeatureStore | None,
    layout: SegmentLayout | None = None,
    hop_s: float | None = None,
) -> SampleSource:
    assert recipe.model.task is not None
    task, layout = build_task(recipe.model.task), layout or recipe.model.layout
    return SampleSource(ClipSource(clips, reader), layout, task, 7, "train", store, hop_s)


@torch.no_grad()
def tokens_of(
    model: Model, source: SampleSource, clip: int, step: int
) -> tuple[Tokens, Tokens, int]:
    audio, vision, sample = source.item(clip, (2, step, 0), AUGMENT)
    if source.store is not None:
        num = source.layout.num_segments
        tokens = (
            Tokens.of_segments(audio, num, model.io.audio.tokens),
            Tokens.of_segments(vision, num, model.io.vision.tokens),
        )
    else:
        reader = source.clips.reader
        places = reader.places("vision", source.layout)
        segments = cut_crops(vision[None], *places, reader.vision)
        tokens = model.encoder(Segments(audio[None], segments))
    return *tokens, sample.target


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-2)])
def test_store_and_files_give_the_same_logits(
    stored: FeatureStore,
    model: Model,
    reader: ClipReader,
    chosen: list[Clip],
    recipe: Recipe,
    dtype: str,
    tolerance: float,
    tmp_path: Path,
) -> None:
    store = stored if dtype == "float32" else build(tmp_path, model, reader, chosen, dtype)
    online, from_store = (samples_of(chosen, reader, recipe, s) for s in (None, store))
    for clip in (0, 1):
        for step in (0, 1):
            *read, target = tokens_of(model, online, clip, step)
            *stored_tokens, again = tokens_of(model, from_store, clip, step)
            assert target == again
            with torch.no_grad():
                difference = model.answer(*stored_tokens) - model.answer(*read)
            assert float(difference.abs().max()) < tolerance


def test_durations_agree_with_the_files(
    stored: FeatureStore, reader: ClipReader, chosen: list[Clip], recipe: Recipe
) -> None:
    online, from_store = (samples_of(chosen, reader, recipe, s) for s in (None, stored))
    assert from_store.durations_s == pytest.approx(online.durations_s)
    assert from_store.usable == online.usable


def test_a_start_off_the_lattice_is_an_error(stored: FeatureStore) -> None:
    assert stored.segments(0, "audio", [0.0, 0.04]).shape[0] == 2
    with pytest.raises(ConfigError, match="audio lattice"):
        stored.segments(0, "audio", [0.01])
    with pytest.raises(ConfigError, match="vision lattice"):
        stored.segments(0, "vision", [0.04])


def test_a_corrupt_clip_is_left_out_and_named(
    tmp_path: Path, model: Model, reader: ClipReader, chosen: list[Clip], recipe: Recipe
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    clips = [dataclasses.replace(chosen[0], path=bad), chosen[1]]
    store = build(tmp_path / "store", model, reader, clips)
    assert list(store.skipped) == [0]
    assert "bad.mp4" in store.skipped[0]
    assert samples_of(clips, reader, recipe, store).usable == [1]


def test_all_clips_corrupt_is_an_error_with_the_reason(
    tmp_path: Path, model: Model, reader: ClipReader, chosen: list[Clip]
) -> None:
    missing = dataclasses.replace(chosen[0], path=tmp_path / "gone.mp4")
    with pytest.raises(TrainingError, match=r"not one clip could be read.*gone\.mp4"):
        build(tmp_path / "store", model, reader, [missing])


def test_an_interrupted_build_goes_on(
    tmp_path: Path,
    model: Model,
    reader: ClipReader,
    chosen: list[Clip],
    stored: FeatureStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = [stored.segments(clip, "audio", [1.0]) for clip in (0, 1)]
    monkeypatch.setattr(store_module, "CLIPS_PER_SHARD", 1)
    config = store_config(model, "float32")

    def start() -> Iterator[int]:
        return build_store(tmp_path, model, reader, chosen, config, CPU)

    running = start()
    assert next(running) == 1
    running.close()  # killed before the first shard was finished
    with pytest.raises(TrainingError, match="lacks shard 0"):
        FeatureStore(tmp_path, chosen, config)
    running = start()
    assert [next(running), next(running)] == [1, 2]  # the first shard is finished now
    running.close()
    first = tmp_path / "shard-00000" / "audio.npy"
    written = first.stat().st_mtime_ns
    assert list(start()) == [1, 2]
    assert first.stat().st_mtime_ns == written
    again = FeatureStore(tmp_path, chosen, config)
    for clip in (0, 1):
        assert torch.equal(again.segments(clip, "audio", [1.0]), expected[clip])


def test_a_store_in_bf16_is_another_store_with_nearly_the_same_tokens(
    tmp_path: Path, recipe: Recipe, reader: ClipReader, chosen: list[Clip], model: Model
) -> None:
    rough = Model(recipe.model)
    rough.load_state_dict(model.state_dict())
    rough.precision = "bf16"
    configs = [store_config(each, "float32") for each in (model, rough)]
    keys = {store_key(model, config, chosen) for config in configs}
    assert len(keys) == 2
    stores = [build(tmp_path / each.precision, each, reader, chosen) for each in (model, rough)]
    exact, near = (store.segments(0, "vision", [0.0, 0.32]) for store in stores)
    assert not torch.equal(near, exact)
    assert torch.allclose(near, exact, atol=0.05 * float(exact.abs().max()))


def test_two_workers_build_what_one_builds(
    tmp_path: Path,
    model: Model,
    reader: ClipReader,
    chosen: list[Clip],
    stored: FeatureStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = stored.segments(1, "vision", [0.32])
    monkeypatch.setattr(store_module, "CLIPS_PER_SHARD", 1)
    config = store_config(model, "float32")
    for rank in (0, 1):
        list(build_store(tmp_path, model, reader, chosen, config, CPU, rank=rank, world_size=2))
    both = FeatureStore(tmp_path, chosen, config)
    assert torch.equal(both.segments(1, "vision", [0.32]), expected)


def test_a_finer_lattice_serves_layouts_of_several_steps(
    tmp_path: Path,
    model: Model,
    reader: ClipReader,
    chosen: list[Clip],
    recipe: Recipe,
    stored: FeatureStore,
) -> None:
    config = store_config(model, "float32", 0.16)
    list(build_store(tmp_path, model, reader, chosen, config, CPU))
    finer = FeatureStore(tmp_path, chosen, config)
    assert torch.equal(
        finer.segments(0, "vision", [0.32, 0.64]), stored.segments(0, "vision", [0.32, 0.64])
    )
    for layout in (SegmentLayout(), SegmentLayout(num_segments=7, step_s=0.64)):
        starts = set()
        for step in range(12):
            pair = [samples_of(chosen, reader, recipe, s, layout, 0.16) for s in (None, finer)]
            online, stored_one = (s.sample(0, slot_rng(7, 2, step, 0), AUGMENT) for s in pair)
            assert online == stored_one
            assert finer.tokens(stored_one, layout)[1].shape[:2] == (layout.num_segments, 8)
            starts.add(round(online.vision_start_s / 0.16) % 2)
        assert starts == {0, 1}  # every multiple of 0.16 s, not of the step


def test_a_lattice_must_divide_the_step(recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match=r"data.vision_hop_s=0.24 does not divide"):
        override(recipe, ["data.vision_hop_s=0.24"])
    assert override(recipe, ["data.vision_hop_s=0.16"]).vision_hop_s == 0.16
    with pytest.raises(ConfigError, match=r"data.vision_hop_s: 0.02 s is not a whole number"):
        check_fit(override(recipe, ["data.vision_hop_s=0.02"]), (1, 2))


def test_the_key_changes_with_weights_lattice_and_clips(
    model: Model, recipe: Recipe, chosen: list[Clip], tmp_path: Path
) -> None:
    config = store_config(model, "float16")
    key = store_key(model, config, chosen)
    assert store_key(model, config, chosen) == key
    assert store_key(model, config, chosen[:1]) != key
    assert store_key(model, config.model_copy(update={"audio_hop_s": 0.08}), chosen) != key
    other = Model(recipe.model)
    other.load_state_dict(model.state_dict())
    assert store_key(other, config, chosen) == key
    with torch.no_grad():
        next(other.separable.vision.parameters()).add_(1e-3)
    assert store_key(other, config, chosen) != key
    copy = tmp_path / "copy.mp4"
    shutil.copy(chosen[0].path, copy)
    moved = [dataclasses.replace(chosen[0], path=copy), chosen[1]]
    before = store_key(model, config, moved)
    with copy.open("ab") as stream:
        stream.write(b"more")
    assert store_key(model, config, moved) != before


def test_a_store_refuses_crops_beyond_the_clip(stored: FeatureStore) -> None:
    starts = [round(t + 8.0, 6) for t in SegmentLayout().starts_s]
    with pytest.raises(IndexError):
        stored.segments(0, "vision", starts)
    assert np.isclose(stored.duration_s(0), 9.0, atol=0.05)


def test_augmented_copies_are_there_to_be_sampled(
    tmp_path: Path,
    model: Model,
    reader: ClipReader,
    chosen: list[Clip],
    recipe: Recipe,
    stored: FeatureStore,
) -> None:
    config = store_config(model, "float32", copies=2, flip=1.0)
    list(build_store(tmp_path, model, reader, chosen, config, CPU))
    store = FeatureStore(tmp_path, chosen, config)
    starts_s = [0.32, 0.64]
    plain = stored.segments(1, "vision", starts_s)
    copies = [store.segments(1, "vision", starts_s, copy) for copy in range(3)]
    assert torch.equal(copies[0], plain)
    assert not torch.allclose(copies[1], plain, atol=1e-2)
    assert torch.equal(
        store.segments(1, "audio", starts_s, 2), stored.segments(1, "audio", starts_s)
    )
    assert store.duration_s(1) == stored.duration_s(1)
    source, plain_source = (samples_of(chosen, reader, recipe, s) for s in (store, stored))
    seen = set()
    for slot in range(20):
        key = (2, 0, slot)
        audio, vision, sample = source.item(1, key, Augment(random_crop=True))
        still, as_is, same = plain_source.item(1, key, Augment(random_crop=True))
        assert sample == same
        assert torch.equal(audio, still)
        seen.add(torch.equal(vision, as_is))
        assert torch.equal(source.item(1, key, Augment())[1], as_is)
    assert seen == {True, False}


def test_an_augmented_copy_is_the_mirrored_clip(
    tmp_path: Path, model: Model, reader: ClipReader, chosen: list[Clip]
) -> None:
    snug = reader.vision.model_copy(update={"short_side": reader.vision.size})
    small = ClipReader(snug, reader.audio)  # nothing to crop at random
    size = reader.vision.size
    plan = BlockPlan(model, small, store_config(model, "float32", copies=1, flip=1.0))
    block = plan.blocks(0, chosen[0])[1]
    decoded = DecodedBlocks(chosen, reader, [block])[0]
    assert not isinstance(decoded, str)
    cut = decoded[0].numpy()[:, :size, :size]
    both = dict(plan.encode(block, chosen[0], cut, CPU))
    other = dict(plan.encode(block, chosen[0], cut[:, :, ::-1], CPU))
    torch.testing.assert_close(both[block.num], other[0])


def written(chosen: list[Clip], folder: Path, kind: str) -> Clip:
    """Write a clip anew, with one key frame or in a container without an index."""
    window = decode(chosen[0].path)
    path = folder / kind
    encode(path, window.frames, window.samples, sample_rate_hz=16_000, gop=1000)
    return dataclasses.replace(chosen[0], path=path, duration_s=probe(path).common_s)


@torch.no_grad()
def in_one_go(
    model: Model, reader: ClipReader, clip: Clip, plan: BlockPlan
) -> dict[Modality, torch.Tensor]:
    """Return the tokens of a clip that is decoded whole, encoded in the same blocks."""
    window = decode(
        clip.path, fps=reader.vision.fps, short_side=reader.vision.short_side, sample_rate_hz=16_000
    )
    assert window.frames is not None
    assert window.samples is not None
    frames = crop_square(window.frames, reader.vision.size, None)
    rows: dict[Modality, list[torch.Tensor]] = {"audio": [], "vision": []}
    for block in plan.blocks(0, clip):
        hop_s = 0.04 if block.modality == "audio" else 0.32
        numbers = range(block.first, block.first + block.num)
        starts_s = [round(number * hop_s, 6) for number in numbers]
        if block.modality == "audio":
            segments = cut_audio(window.samples, starts_s, 0.64, reader.audio)
        else:
            segments = cut_frames(frames, starts_s, 0.64, reader.vision)
        rows[block.modality].append(model.separable.modality(block.modality).encode(segments))
    return {modality: torch.cat(some) for modality, some in rows.items()}


@pytest.mark.parametrize("kind", ["one_key_frame.mp4", "no_index.ts"])
def test_a_long_clip_is_stored_in_blocks_as_if_it_were_decoded_whole(
    tmp_path: Path,
    model: Model,
    reader: ClipReader,
    chosen: list[Clip],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frontend, "MOST_NUMBERS", 1 << 20)
    clip = written(chosen, tmp_path, kind)
    plan = BlockPlan(model, reader, store_config(model, "float32"))
    blocks = plan.blocks(0, clip)
    assert len(blocks) > 4
    assert max(block.length_s for block in blocks if block.modality == "vision") < 4
    expected = in_one_go(model, reader, clip, plan)
    folder = tmp_path / "store"
    told = list(build_store(folder, model, reader, [clip, *chosen[:1]], plan.config, CPU))
    assert told == sorted(told)
    assert 0 < told[0] < 1  # as it goes on
    assert {1.0, 2.0} <= set(told)
    store = FeatureStore(folder, [clip, *chosen[:1]], plan.config)
    for modality, rows in expected.items():
        hop_s = 0.04 if modality == "audio" else 0.32
        starts_s = [round(number * hop_s, 6) for number in range(len(rows))]
        assert torch.equal(store.segments(0, modality, starts_s), rows.float())
        assert store.entries[0][f"{modality}_rows"] == len(rows)


def test_a_clip_that_is_damaged_near_its_end_leaves_no_rows(
    tmp_path: Path,
    model: Model,
    reader: ClipReader,
    chosen: list[Clip],
    stored: FeatureStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frontend, "MOST_NUMBERS", 1 << 20)
    read = ClipReader.read_vision

    def damaged(self: ClipReader, path: Path, start_s: float, length_s: float) -> np.ndarray:
        if path == chosen[0].path and start_s > 4:
            raise MediaError("damaged here")
        return read(self, path, start_s, length_s)

    monkeypatch.setattr(ClipReader, "read_vision", damaged)
    store = build(tmp_path, model, reader, chosen)
    assert store.skipped == {0: "damaged here"}
    assert store.entries[1]["audio_first"] == 0
    for modality in ("audio", "vision"):
        rows = np.load(tmp_path / "shard-00000" / f"{modality}.npy")
        assert len(rows) == store.entries[1][f"{modality}_rows"]
    tokens = [some.segments(1, "vision", [0.32, 6.4]) for some in (store, stored)]
    torch.testing.assert_close(*tokens, atol=1e-5, rtol=1e-4)


def test_a_sealed_store_is_used_and_another_or_a_damaged_one_refused(
    tmp_path: Path, model: Model, reader: ClipReader, chosen: list[Clip]
) -> None:
    config = store_config(model, "float32")
    key = store_key(model, config, chosen)
    list(build_store(tmp_path, model, reader, chosen, config, CPU))
    assert not is_sealed(tmp_path, key)
    seal(tmp_path, key)
    assert is_sealed(tmp_path, key)
    with pytest.raises(TrainingError, match="was made from other weights, settings or clips"):
        is_sealed(tmp_path, "another key")
    rows = tmp_path / "shard-00000" / "audio.npy"
    rows.write_bytes(rows.read_bytes()[:-100])
    with pytest.raises(TrainingError, match="is damaged; delete it to compute it again"):
        is_sealed(tmp_path, key)
    (tmp_path / "complete").write_text("{")
    with pytest.raises(TrainingError, match="is damaged"):
        is_sealed(tmp_path, key)


def test_a_store_built_by_loader_processes_is_the_same(
    tmp_path: Path,
    model: Model,
    reader: ClipReader,
    chosen: list[Clip],
    stored: FeatureStore,
) -> None:
    broken = dataclasses.replace(chosen[0], path=tmp_path / "missing.mp4")
    clips, config = [*chosen, broken], store_config(model, "float32")
    engine = LocalEngine(tmp_path / "checkpoints")
    load = partial(engine.load, workers=1)
    list(build_store(tmp_path, model, reader, clips, config, CPU, load=load))
    store = FeatureStore(tmp_path, clips, config)
    assert torch.equal(store.segments(1, "vision", [0.32]), stored.segments(1, "vision", [0.32]))
    assert list(store.skipped) == [2]
    assert "missing.mp4" in store.skipped[2]
