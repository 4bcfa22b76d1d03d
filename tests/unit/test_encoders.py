"""Encoders that are no plain pair: segments of two lengths, several positions, joint encoders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from jaxtyping import config as jaxtyping_config
from safetensors.torch import load_file
from torch import Tensor, nn

from zoo.attribution import attribute
from zoo.attribution.crops import Crop, read_crop
from zoo.attribution.masking import MaskedContent, encode_crop
from zoo.catalog.model_folder import load_model, save_model
from zoo.contracts import (
    AggregatorSpec,
    ComponentConfig,
    EncoderConfig,
    EncoderIO,
    EncoderSpec,
    FeatureMap,
    Frames,
    LogMel,
    ModalityIO,
)
from zoo.data.augment import Augment
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import ClipSource, read_segments
from zoo.data.frontend import crop_square, cut_frames
from zoo.data.manifest import Manifest
from zoo.data.samples import SampleSource
from zoo.data.sampling import slot_rng
from zoo.data.store import FeatureStore, store_config, store_key
from zoo.data.store_build import build_store
from zoo.desync import score
from zoo.errors import ConfigError
from zoo.export import export
from zoo.export.inputs import crop_of_clip, made_up_crop, shapes_of
from zoo.features import extract
from zoo.inference.offset_predictor import OffsetPredictor
from zoo.models.config import Component, ModelConfig
from zoo.models.cost import model_cost
from zoo.models.model import Model
from zoo.models.modules import Aggregator, Encoder
from zoo.models.segments import Segments, Tokens
from zoo.registry.manager import registry
from zoo.timeline import Sample, SegmentLayout, chunk_at
from zoo.training.overrides import override
from zoo.training.recipe_builder import build_recipe

SHORT_S, LEAD_S = 0.32, 0.16  # of the video, in the middle of 0.64 s of audio


def build(head: str, *settings: str, aggregator: str | None = None) -> Model:
    """Build a small untrained model."""
    recipe = build_recipe(
        extractor="ast_motionformer", head=head, preset="tiny", aggregator=aggregator
    )
    torch.manual_seed(0)
    return Model(override(recipe, list(settings)).model).eval()


def reader_of(model: Model) -> ClipReader:
    return ClipReader(model.vision_frontend, model.audio_frontend, io=model.io)


def store_of(model: Model, clips: Manifest, folder: Path) -> FeatureStore:
    """Store the features of one clip."""
    config = store_config(model, "float32")
    chosen = list(clips.clips[:1])
    for _ in build_store(folder, model, reader_of(model), chosen, config, torch.device("cpu")):
        pass
    return FeatureStore(folder, chosen, config)


# --- segments of two lengths ---


@pytest.fixture(scope="module")
def uneven() -> Model:
    """A model that reads 0.64 s of audio beside 0.32 s of video."""
    return build("correlation", f"vision.segment_s={SHORT_S}")


def test_the_shorter_segments_lie_in_the_middle_of_the_longer_ones(uneven: Model) -> None:
    io, layout = uneven.io, uneven.config.layout
    assert (io.audio.segment_s, io.vision.segment_s, layout.segment_s) == (0.64, SHORT_S, 0.64)
    starts_s, segment_s = reader_of(uneven).places("vision", layout)
    assert segment_s == SHORT_S
    assert starts_s == [round(t + LEAD_S, 6) for t in layout.starts_s]
    assert reader_of(uneven).places("audio", layout) == (layout.starts_s, 0.64)
    even = build("correlation", "layout.segment_s=0.32", "layout.step_s=0.16").io.vision.tokens
    assert io.vision.tokens.times_s == tuple(round(t + LEAD_S, 9) for t in even.times_s)
    tokens = uneven.encoder(Segments(*(torch.zeros(1, *s) for s in shapes_of(uneven).values())))
    assert [part.times_s for part in tokens] == [io.audio.tokens.times_s, io.vision.tokens.times_s]


def test_the_frames_in_the_middle_are_read(uneven: Model, clips: Manifest) -> None:
    clip, layout, reader = clips.clips[0], uneven.config.layout, reader_of(uneven)
    length_s = layout.covered_s
    frames = crop_square(reader.read_vision(clip.path, 1.28, length_s), reader.vision.size, None)
    first = frames[4:12]  # frames 4 to 11 of the 16 of a segment of 0.64 s
    expected = cut_frames(first, [0.0], SHORT_S, reader.vision)[0]
    sample = Sample(clip=0, vision_start_s=1.28, audio_start_s=1.28, target=10)
    assert torch.equal(read_segments(reader, clip, sample, layout).vision[0, 0], expected)
    read = reader.read_segments("vision", clip.path, [1.28, 1.6], 0.64)
    assert torch.equal(read[0], expected)


def test_what_is_stored_is_what_is_read(uneven: Model, clips: Manifest, tmp_path: Path) -> None:
    store = store_of(uneven, clips, tmp_path)
    layout = uneven.config.layout
    assert store.duration_s(0) == pytest.approx(9.0, abs=0.05)
    assert uneven.task is not None
    source = ClipSource(list(clips.clips[:1]), reader_of(uneven))
    samples = SampleSource(source, layout, uneven.task, 7, "train", store)
    for step in range(3):
        sample = samples.sample(0, slot_rng(7, 2, step, 0), Augment(jitter_s=0.05))
        with torch.no_grad():
            read = uneven.encoder(read_segments(source.reader, clips.clips[0], sample, layout))
        for online, stored in zip(read, store.tokens(sample, layout), strict=True):
            torch.testing.assert_close(online.per_segment, stored, atol=1e-5, rtol=1e-4)


def test_the_length_that_is_read_makes_another_store(uneven: Model, clips: Manifest) -> None:
    config, chosen = store_config(uneven, "float32"), list(clips.clips[:1])
    key = store_key(uneven, config, chosen)
    uneven.io, before = (
        uneven.io.model_copy(
            update={"vision": uneven.io.vision.model_copy(update={"segment_s": 0.16})}
        ),
        uneven.io,
    )
    assert store_key(uneven, config, chosen) != key
    uneven.io = before


def test_written_features_are_of_the_middle_too(
    uneven: Model, clips: Manifest, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", uneven)
    clip = clips.clips[0].path
    (file,) = extract(tmp_path / "model", clip, tmp_path / "out").files.values()
    written, reader = load_file(file), reader_of(uneven)
    segments = reader.read_segments("vision", clip, [0.0, 0.32, 0.64], 0.64)
    expected = uneven.separable.vision.encode(segments)
    torch.testing.assert_close(written["vision_tokens"][:3], expected, atol=1e-5, rtol=1e-4)
    times_s = torch.tensor(uneven.io.vision.tokens.times_s, dtype=torch.float64)
    torch.testing.assert_close(written["vision_times_s"][0], times_s)
    assert written["segment_centre_s"][0] == 0.32


def test_attribution_masks_what_is_read(uneven: Model, clips: Manifest) -> None:
    one, two = (read_crop(uneven, clip.path, 1.92) for clip in clips.clips[:2])
    mask = np.random.default_rng(3).random((1, 48)) < 0.5
    kept = mask[0, chunk_at((np.arange(120) + 0.5) / 25, 0.1, 48)]
    spliced = Crop(np.where(kept[:, None, None, None], one.frames, two.frames), one.samples)
    masked = MaskedContent(uneven, "vision", one, two, 0.1, 48).tokens(mask)
    whole = encode_crop(uneven, "vision", spliced)
    torch.testing.assert_close(masked.values, whole.values, atol=2e-3, rtol=1e-3)


def test_clips_are_scored_and_models_exported_with_uneven_segments(
    uneven: Model, clips: Manifest, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", uneven)
    result = score(tmp_path / "model", clips.clips[0].path.parent, mode="corrected")
    assert result.summary["scored"] == len(clips.clips)
    shapes = [x.shape[1:] for x in crop_of_clip(uneven, clips.clips[0].path)]
    assert shapes == [x.shape[1:] for x in made_up_crop(uneven)] == [*shapes_of(uneven).values()]
    assert shapes[1] == (14, 3, 8, 48, 48)


# --- several positions ---


class Halves(Aggregator):
    """The mean of either half of the positions."""

    def forward(self, features: Float[Tensor, "N T P D"]) -> Float[Tensor, "N TxP D"]:
        first, second = (half.mean(2) for half in features.tensor_split(2, dim=2))
        return torch.stack([first, second], dim=2).flatten(1, 2)


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model whose aggregators keep two positions of every time step."""
    spec = AggregatorSpec(
        name="halves",
        summary="two means",
        config_class=ComponentConfig,
        build=lambda _config, _feature_map: Halves(),
        positions=lambda _config, _feature_map: 2,
        presets={"paper": ComponentConfig(), "tiny": ComponentConfig()},
    )
    monkeypatch.setitem(registry().aggregators, "halves", spec)
    monkeypatch.setitem(registry().plugins, "aggregators halves", "avsync-zoo")
    return build("avst", "layout.num_segments=3", aggregator="halves")


def test_an_aggregator_may_keep_two_positions(halves: Model) -> None:
    audio, vision = halves.io.audio.tokens, halves.io.vision.tokens
    assert (audio.steps, audio.positions, vision.steps, vision.positions) == (6, 2, 8, 2)
    segments = Segments(*(torch.randn(2, *shape) for shape in shapes_of(halves).values()))
    tokens = halves.encoder(segments)
    assert [part.values.shape[1:4] for part in tokens] == [(3, 6, 2), (3, 8, 2)]
    first = halves.separable.audio.extractor(segments.audio[1])  # type: ignore[operator]
    second_half = first[:, 4, first.shape[2] // 2 :].mean(1)
    mean = halves.separable.audio.projection(second_half)  # type: ignore[operator]
    torch.testing.assert_close(tokens[0].values[1, :, 4, 1], mean)
    assert halves.answer(*tokens).shape == (2, 21)
    assert model_cost(halves.config).tokens == 3 * 2 * (6 + 8)
    objective = halves.objective
    assert objective is not None
    assert objective.embed("audio", tokens[0].per_segment).shape[0] == 6


def test_two_positions_are_stored_and_written(
    halves: Model, clips: Manifest, tmp_path: Path
) -> None:
    audio, vision = (
        store_of(halves, clips, tmp_path / "store").segments(0, m, [0.0, 0.32])
        for m in ("audio", "vision")
    )
    assert (audio.shape[1], vision.shape[1]) == (12, 16)
    save_model(tmp_path / "model", halves)
    (file,) = extract(tmp_path / "model", clips.clips[0].path, tmp_path / "out").files.values()
    written = load_file(file)["audio_tokens"]
    assert written.shape[1:3] == (6, 2)
    torch.testing.assert_close(written[:2].flatten(1, 2), audio, atol=1e-5, rtol=1e-4)


def test_heads_of_one_position_say_how_many_there_are(halves: Model) -> None:
    with pytest.raises(ConfigError, match="the audio aggregator keeps 2 positions of a step"):
        build("sync", aggregator="halves")


# --- both modalities at once ---


class JointConfig(EncoderConfig):
    """Nothing to set."""

    def io(self) -> EncoderIO:
        tokens = FeatureMap(times_s=(0.16, 0.48), positions=1, dim=8)
        frontends = LogMel(), Frames(size=16, short_side=20)
        parts = (ModalityIO(frontend=f, segment_s=0.64, tokens=tokens) for f in frontends)
        return EncoderIO(**dict(zip(("audio", "vision"), parts, strict=True)))


class Joint(Encoder):
    """Adds the mean of the video to what is heard, and the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.vision = nn.Linear(128, 16), nn.Linear(3, 16)

    def encode(self, segments: Segments) -> tuple[Tokens, Tokens]:
        heard = self.audio(segments.audio.mean(3))  # (B, S, 16)
        seen = self.vision(segments.vision.mean((3, 4, 5)))
        both = (heard + seen).unflatten(2, (2, 1, 8))  # (B, S, T, P, D)
        return Tokens(both, (0.16, 0.48)), Tokens(-both, (0.16, 0.48))


@pytest.fixture
def joint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a model whose encoder sees both modalities at once."""
    spec = EncoderSpec(
        name="joint",
        summary="for tests",
        config_class=JointConfig,
        build=lambda _config: Joint(),
        presets={"paper": JointConfig(), "tiny": JointConfig()},
    )
    monkeypatch.setitem(registry().encoders, "joint", spec)
    monkeypatch.setitem(registry().plugins, "encoders joint", "avsync-zoo")
    head = registry().head("sync")
    config = ModelConfig(
        encoder=Component(name="joint"),
        task=Component(name="offset"),
        head=Component.of(head, head.presets["tiny"]),
        layout=SegmentLayout(num_segments=3),
    )
    torch.manual_seed(0)
    save_model(tmp_path / "joint", Model(config))
    return tmp_path / "joint"


SENTENCE = "looks at both modalities at once"


def test_what_takes_one_modality_at_a_time_refuses_a_joint_encoder(
    joint: Path, clips: Manifest, tmp_path: Path
) -> None:
    model, clip = load_model(joint), clips.clips[0].path
    refusals = (
        lambda: extract(joint, clip, tmp_path / "out"),
        lambda: score(joint, clip.parent),
        lambda: attribute(OffsetPredictor(model, "joint"), clip, start_s=0.0),
        lambda: store_of(model, clips, tmp_path / "store"),
        lambda: store_key(model, store_config(model, "float32"), list(clips.clips)),
    )
    for refuse in refusals:
        with pytest.raises(ConfigError, match=SENTENCE) as caught:
            refuse()
        assert "\n" not in str(caught.value)


def test_a_joint_encoder_is_counted_and_encodes_many_clips(joint: Path) -> None:
    model = load_model(joint)
    assert model_cost(model.config).tokens == 2 * 3 * 2
    segments = Segments(*(torch.randn(5, *shape) for shape in shapes_of(model).values()))
    with torch.no_grad():
        for many, once in zip(
            model.encoder.encode_many(segments), model.encoder(segments), strict=True
        ):
            torch.testing.assert_close(many.values, once.values)


@pytest.fixture
def _no_shape_checks() -> Iterator[None]:
    """Shapes checked at run time would fix the batch size of what is traced."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_no_shape_checks")
def test_a_joint_encoder_is_exported(joint: Path, tmp_path: Path) -> None:
    done = export(joint, tmp_path / "joint.pt2")
    assert done.batch
    assert done.metadata["task"] == "offset"
    assert len(done.metadata["classes"]) == 21
    assert done.metadata["inputs"]["vision"] == ["batch", 3, 3, 16, 16, 16]


@pytest.mark.usefixtures("_no_shape_checks")
def test_outputs_are_described_by_the_task(joint: Path, tmp_path: Path) -> None:
    spec = registry().head("synchronizability")
    changes = {
        "task": Component(name="synchronizability"),
        "head": Component.of(spec, spec.presets["tiny"]),
    }
    save_model(tmp_path / "other", Model(load_model(joint).config.model_copy(update=changes)))
    metadata = export(tmp_path / "other", tmp_path / "other.pt2").metadata
    assert metadata["task"] == "synchronizability"
    assert metadata["classes"] == ["cannot be synchronized", "can be synchronized"]
    assert metadata["classes_are"] == "words"
