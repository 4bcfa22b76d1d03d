"""Any audio with any video extractor, aggregator and head, or one sentence that says why not."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from zoo.contracts import FeatureMap, HeadInput, PairSpec
from zoo.data.manifest import Clip, Manifest
from zoo.errors import ConfigError, PluginError, TrainingError
from zoo.export.inputs import shapes_of
from zoo.models.config import build_component
from zoo.models.model import Model
from zoo.models.segments import Segments, Tokens
from zoo.registry.manager import registry
from zoo.timeline import OffsetGrid, SegmentLayout
from zoo.training.recipe import Recipe
from zoo.training.recipe_builder import build_recipe
from zoo.training.rehearsal import check_clips
from zoo.training.request import TrainRequest, read_settings, recipe_of

AUDIO, VISION = (
    [name for name, spec in registry().extractors.items() if spec.modality == modality]
    for modality in ("audio", "vision")
)
HEADS = [spec.name for spec in registry().heads_of("offset")]
PAIRS = [name for name, spec in registry().encoders.items() if isinstance(spec, PairSpec)]
ALL_HERE = [f"{audio}+{vision}" for audio, vision in product(AUDIO, VISION)]


def ask(extractor: str, *settings: str, **options: Any) -> TrainRequest:
    """Return a request with ``key=value`` settings."""
    return TrainRequest(extractor=extractor, set=read_settings(settings), **options)


def encode(model: Model) -> tuple[Tokens, Tokens]:
    """Return the tokens of two crops of random segments."""
    shapes = ((2, *shape) for shape in shapes_of(model).values())
    return model.encoder.eval().encode_many(Segments(*map(torch.randn, shapes)))


def assert_trains(model: Model, tokens: tuple[Tokens, Tokens]) -> None:
    """Take one step of stage II."""
    assert model.head is not None
    head = model.head.train()
    head.initialise(*tokens)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    logits = model.answer(*tokens)
    assert logits.shape == (2, 21)
    loss = cross_entropy(logits, torch.tensor([0, 20]))
    loss.backward()
    torch.optim.SGD(head.parameters(), lr=0.1).step()
    assert bool(loss.isfinite())
    assert any(not torch.equal(value, before[name]) for name, value in head.state_dict().items())


def resolve(request: TrainRequest) -> Recipe | str:
    """Return the recipe of a request, or the one sentence with which it is refused."""
    try:
        return recipe_of(request, 0)
    except ConfigError as error:
        (sentence,) = error.typed.splitlines()
        return sentence


def build(pair: str, aggregator: str, head: str, *settings: str) -> Model | str:
    """Return the model of a mix, or the one sentence with which it is refused."""
    try:
        recipe = build_recipe(
            extractor=pair,
            aggregator=aggregator,
            head=head,
            preset="tiny",
            overrides=list(settings),
        )
        return Model(recipe.model)
    except ConfigError as error:
        (sentence,) = error.typed.splitlines()
        return sentence


@pytest.mark.parametrize("pair", ALL_HERE)
def test_every_mix_trains_or_says_why_not(pair: str) -> None:
    torch.manual_seed(0)
    trained, tokens = [], {}
    settings = () if "crop" in pair else ("layout.num_segments=2",)
    for aggregator, head in product(registry().aggregators, HEADS):
        model = build(pair, aggregator, head, *settings)
        if isinstance(model, str):
            parts = (*pair.split("+"), aggregator, head)
            assert any(f"'{part}'" in model for part in parts), model
            continue
        if aggregator not in tokens:
            tokens[aggregator] = encode(model)
        assert_trains(model, tokens[aggregator])
        trained.append((aggregator, head))
    if pair in {"ast+s3d", "ast+motionformer", "resnet18+motionformer", "resnet18+s3d"}:
        assert set(product(("transformer", "mean"), HEADS)) <= set(trained)


@pytest.mark.parametrize("pair", [*PAIRS, "ast+s3d", "resnet18+motionformer"])
def test_mixes_of_published_sizes_fit_together(pair: str) -> None:
    """On the meta device: without weights or values, forward pass of both stages included."""
    assert isinstance(resolve(ask(pair, preset="paper")), Recipe)


MISFITS: dict[str, tuple[TrainRequest, str]] = {
    "length of tubelets": (
        ask("ast+motionformer", "layout.segment_s=0.52"),
        "motionformer cannot take segments of 0.52 s: 13 frames are not a multiple of its tubelet "
        "of 2; the settings are layout.segment_s and vision.frontend",
    ),
    "length in frames": (
        ask("ast+s3d", "layout.segment_s=0.5"),
        "extractor 's3d': 0.5 s is not a whole number of video frames at 25 per second; the "
        "nearest that is: 0.48 s; the settings are",
    ),
    "too short": (
        ask("resnet18+s3d", "layout.segment_s=0.08", "layout.step_s=0.08"),
        "s3d cannot take segments of 0.08 s (2 frames of 64 pixels): it needs 8 frames",
    ),
    "two lengths": (
        ask("ast+s3d", "audio.segment_s=1.28"),
        "the audio extractor 'ast' reads segments of 1.28 s, but the layout has 0.64 s; set one "
        "length for all: --set layout.segment_s=S",
    ),
    "frame rate": (
        ask("ast+motionformer", "vision.frontend.fps=24"),
        "0.64 s is not a whole number of video frames at 24 per second",
    ),
    "sample rate": (
        ask("ast+motionformer", "audio.frontend.sample_rate_hz=16001"),
        "extractor 'ast': 0.64 s is not a whole number of audio samples at 16001 per second",
    ),
    "gaps": (
        ask("ast+s3d", "layout.step_s=1.0"),
        "model.layout: step_s=1 leaves gaps between segments of 0.64 s",
    ),
    "step": (
        ask("ast+s3d", "layout.step_s=0.33"),
        "layout.step_s: 0.33 s is not a whole number of video frames",
    ),
    "classes of the store": (
        ask("ast+s3d", "grid.num_classes=41"),
        "grid, the class of -1.9 s: -1.9 s is not a whole number of video frames at 25 per second; "
        "the nearest that is: -1.92 s; choose other grid.min_s, grid.max_s and grid.num_classes, "
        "or take --features online",
    ),
    "heads of an extractor": (
        ask("ast+s3d", "audio.heads=3"),
        "ast: heads=3 does not divide dim=64",
    ),
    "heads of video": (
        ask("ast+motionformer", "vision.heads=5"),
        "motionformer: heads=5 does not divide dim=64",
    ),
    "heads of the head": (
        ask("ast+s3d", "head.heads=5", head="sync"),
        "sync: heads=5 does not divide dim=64",
    ),
    "heads of the aggregator": (
        ask("ast+s3d", "model.vision.aggregator.config.heads=3"),
        "aggregator 'transformer': heads=3 does not divide the 256 channels of the features; 2 wo",
    ),
    "bands": (
        ask("ast+s3d", "audio.frontend.n_mels=8"),
        "ast cannot take 8 mel bins: a patch spans 16",
    ),
    "patches": (
        ask("ast+motionformer", "vision.frontend.size=50"),
        "motionformer: frontend.size=50 is not a multiple of patch=16",
    ),
    "widths": (
        ask("ast+s3d", "model.audio.projection_dim=64"),
        "stage 1 compares tokens of both modalities, and theirs are 64 and 128 wide: set "
        "model.audio.projection_dim and model.vision.projection_dim to one width",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_misfit_is_one_sentence(misfit: str) -> None:
    request, words = MISFITS[misfit]
    assert words in str(resolve(request))


def test_one_setting_gives_all_parts_another_segment_length() -> None:
    settings = ("layout.segment_s=0.32", "layout.step_s=0.16")
    recipe = resolve(ask("ast+s3d", *settings))
    assert isinstance(recipe, Recipe)
    assert recipe.stage1_layout.segment_s == 0.32
    pair = recipe.model.two_tower()
    assert pair is not None
    for part in (pair.audio, pair.vision):
        assert part.extractor.config["segment_s"] == 0.32


def test_online_features_take_any_class_that_is_whole_samples() -> None:
    settings = ("grid.num_classes=41",)
    recipe = resolve(ask("ast+s3d", *settings, features="online"))
    assert isinstance(recipe, Recipe)
    assert recipe.model.task_config().grid.step_s == pytest.approx(0.1)


def test_stage_2_alone_needs_no_common_width() -> None:
    settings = ("model.audio.projection_dim=64",)
    assert isinstance(resolve(ask("ast+s3d", *settings, stage="2")), Recipe)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_takes_several_tokens_per_step_or_says_that_it_cannot(name: str) -> None:
    spec = registry().head(name)
    tokens = FeatureMap(times_s=(0.1, 0.3), positions=3, dim=32)
    layout = SegmentLayout(num_segments=2)
    given = HeadInput(audio=tokens, vision=tokens, layout=layout, num_outputs=21, grid=OffsetGrid())
    if name in {"sync", "correlation"}:
        with pytest.raises(ConfigError, match=rf"head '{name}' .*choose another aggregator"):
            build_component("head", spec, spec.presets["tiny"], given)
        return
    head = build_component("head", spec, spec.presets["tiny"], given)
    several = Tokens(torch.randn(2, 2, 2, 3, 32), tokens.times_s)
    assert head(several, several).shape == (2, 21)


def test_clips_that_are_too_short_are_refused_before_anything_starts(
    recipe: Recipe, clips: Manifest
) -> None:
    def lasting(*durations_s: float) -> list[Clip]:
        return [replace(clips.clips[0], duration_s=duration_s) for duration_s in durations_s]

    check_clips(recipe, (1, 2), "train", lasting(1.0, 8.0))
    with pytest.raises(TrainingError, match=r"not one train clip is long enough: the 12 segments"):
        check_clips(recipe, (1, 2), "train", lasting(1.0, 7.0))
    with pytest.raises(TrainingError, match=r"valid clip .* need 7\.12 s, the longest clip has 7"):
        check_clips(recipe, (2,), "valid", lasting(7.0))


def test_a_component_that_breaks_on_what_it_is_given_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lead(torch.nn.Module):
        def forward(self, segments: torch.Tensor) -> torch.Tensor:
            return segments.reshape(7, 11)

    spec = registry().extractor("ast")
    broken = type(spec)(**{**vars(spec), "build": lambda config: Lead()})
    monkeypatch.setitem(registry().extractors, "ast", broken)
    words = r"^extractor 'ast' fails on what it is given: RuntimeError: shape .* zoo plugin check a"
    with pytest.raises(PluginError, match=words):
        recipe_of(ask("ast+s3d"), 0)
