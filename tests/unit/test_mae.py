"""Maskable extractors, and the objective that hides and rebuilds their patches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from plugins.mae import MaeConfig
from plugins.mae.model import Mae, choose, grid_positions
from plugins.motionformer.model import same_group
from zoo.contracts import ExtractorConfig
from zoo.errors import ConfigError
from zoo.models.model import Model
from zoo.models.modules import MaskableExtractor
from zoo.models.segments import Segments
from zoo.registry.manager import registry
from zoo.training.fit import build_optimizer
from zoo.training.recipe_builder import build_recipe

NAMES = ("ast", "motionformer")
CLIPS, SEGMENTS = 2, 3


def tiny(name: str, **settings: Any) -> tuple[MaskableExtractor, ExtractorConfig]:
    """An untrained extractor, without dropout."""
    spec = registry().extractor(name)
    config = spec.presets["tiny"].model_copy(update=settings)
    torch.manual_seed(0)
    return spec.build(config).eval(), config


def segments_of(config: ExtractorConfig, num: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num, *config.frontend.segment_shape(config.segment_s), generator=generator)


def every_patch(patches: Tensor) -> Tensor:
    return torch.arange(patches.shape[1]).expand(len(patches), -1)


@pytest.mark.parametrize("name", NAMES)
def test_encoding_all_patches_is_the_forward_pass(name: str) -> None:
    extractor, config = tiny(name)
    segments = segments_of(config)
    patches = extractor.patchify(segments)
    encoded = extractor.encode(patches, every_patch(patches))
    torch.testing.assert_close(encoded, extractor(segments).flatten(1, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_patches_that_are_not_kept_have_no_influence(name: str) -> None:
    extractor, config = tiny(name)
    patches = extractor.patchify(segments_of(config))
    keep, hidden = choose(2, patches.shape[1], 0.7, patches.device)
    other = patches.scatter(1, hidden[..., None].expand(-1, -1, patches.shape[2]), 1e3)
    assert not torch.equal(other, patches)
    assert torch.equal(extractor.encode(other, keep), extractor.encode(patches, keep))


@pytest.mark.parametrize("name", NAMES)
def test_kept_patches_come_in_their_order_and_from_their_own_segment(name: str) -> None:
    extractor, config = tiny(name)
    patches = extractor.patchify(segments_of(config))
    keep = torch.tensor([[0, 7, 20, 31], [3, 7, 8, 40]])
    encoded = extractor.encode(patches, keep)
    turned = extractor.encode(patches, keep.flip(1))
    torch.testing.assert_close(turned, encoded.flip(1), rtol=1e-5, atol=1e-5)
    alone = extractor.encode(patches[1:], keep[1:])
    torch.testing.assert_close(alone, encoded[1:], rtol=1e-5, atol=1e-5)


def test_a_kept_tubelet_sees_cls_and_its_own_group_only() -> None:
    sees = same_group(torch.tensor([[0, 0, 1, 0]]))[0, 0].int().tolist()
    assert sees == [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 0, 1],
        [1, 1, 1, 0, 1],
        [1, 0, 0, 1, 0],
        [1, 1, 1, 0, 1],
    ]


def test_patches_are_in_the_order_of_the_feature_map_and_hold_what_lies_there() -> None:
    extractor, config = tiny("ast", change_gain=None)
    mel = segments_of(config)
    targets = extractor.targets(mel)
    features = config.feature_map()
    assert targets.shape == (2, features.steps * features.positions, 16 * 16)
    patch = targets[1, 2 * features.positions + 3].unflatten(0, (16, 16))
    assert torch.equal(patch, mel[1, 3 * 16 : 4 * 16, 2 * 10 : 2 * 10 + 16])

    extractor, config = tiny("motionformer", motion_gain=None)
    frames = segments_of(config)
    targets = extractor.targets(frames)
    assert targets.shape == (2, 8 * 9, 2 * 16 * 16 * 3)
    tubelet = targets[1, 5 * 9 + 1 * 3 + 2].unflatten(0, (2, 16, 16, 3))
    assert torch.equal(tubelet.permute(3, 0, 1, 2), frames[1, :, 10:12, 16:32, 32:48])


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_what_the_extractor_reads(name: str) -> None:
    """What it subtracts itself, such as a steady hum, cannot be asked of a decoder."""
    extractor, config = tiny(name)
    segments = segments_of(config)
    torch.testing.assert_close(
        extractor.targets(segments + 5), extractor.targets(segments), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradient_checkpointing_changes_no_gradient(name: str) -> None:
    found = []
    for checkpoints in (False, True):
        extractor, config = tiny(name)
        if checkpoints:
            extractor.enable_gradient_checkpointing()
        patches = extractor.patchify(segments_of(config))
        extractor.encode(patches, every_patch(patches)[:, ::3]).square().sum().backward()
        found.append([p.grad for p in extractor.parameters()])
    for plain, checkpointed in zip(*found, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_masks_keep_as_many_patches_of_every_segment_and_lose_none() -> None:
    keep, hidden = choose(5, 72, 0.75, torch.device("cpu"))
    assert keep.shape == (5, 18)
    assert torch.equal(keep, keep.sort(1).values)
    both = torch.cat([keep, hidden], 1).sort(1).values
    assert torch.equal(both, torch.arange(72).expand(5, -1))
    assert len({tuple(row) for row in keep.tolist()}) == 5
    for ratio in (0.001, 0.999):
        assert all(part.shape[1] >= 1 for part in choose(1, 4, ratio, torch.device("cpu")))


def test_every_place_of_a_grid_has_an_embedding_of_its_own() -> None:
    table = grid_positions(8, 9, 64)
    assert table.shape == (72, 64)
    assert torch.cdist(table, table).add(torch.eye(72)).min() > 0.1


# --- the objective ---


@pytest.fixture
def model() -> Model:
    """A small untrained model of its own: the objective freezes parts of it."""
    torch.manual_seed(0)
    return Model(build_recipe(extractor="ast_motionformer", preset="tiny", objective="mae").model)


@pytest.fixture
def batch(model: Model) -> Segments:
    torch.manual_seed(1)
    shapes = (model.io.audio.segment_shape, model.io.vision.segment_shape)
    return Segments(*(torch.randn(CLIPS, SEGMENTS, *shape) for shape in shapes))


def build(model: Model, **settings: Any) -> Mae:
    config = registry().objective("mae").presets["tiny"]
    torch.manual_seed(2)
    return Mae(MaeConfig.model_validate({**config.model_dump(), **settings}), model.encoder)


def alone(tensor: Tensor) -> Tensor:
    return tensor


@pytest.mark.parametrize("norm_targets", [False, True])
def test_an_untrained_model_is_near_chance(
    model: Model, batch: Segments, norm_targets: bool
) -> None:
    scalars = build(model, norm_targets=norm_targets)(model.encoder, batch, alone)
    assert set(scalars) == {"loss", "audio_loss", "vision_loss"}
    assert scalars["loss"].item() == pytest.approx(
        (scalars["audio_loss"].item() + scalars["vision_loss"].item()) / 2
    )
    assert 0.9 < scalars["loss"].item() < 2.5


def test_gradients_reach_extractors_and_decoders_and_the_rest_is_frozen(
    model: Model, batch: Segments
) -> None:
    objective = build(model)
    objective(model.encoder, batch, alone)["loss"].backward()
    for name, parameter in (*objective.named_parameters(), *model.encoder.named_parameters()):
        is_trained = "aggregator" not in name and "projection" not in name
        assert parameter.requires_grad == is_trained, name
        assert (parameter.grad is not None and bool(parameter.grad.any())) == is_trained, name


def test_predicting_the_mean_scores_chance(
    model: Model, batch: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = build(model)
    rebuild = objective.rebuild

    def mean(*given: Any, **named: Any) -> tuple[Tensor, Tensor]:
        _, wanted = rebuild(*given, **named)
        return wanted.mean().expand_as(wanted), wanted

    monkeypatch.setattr(objective, "rebuild", mean)
    spec = registry().objective("mae")
    chance = spec.chance(objective.config, CLIPS, SEGMENTS).loss
    assert chance == 1.0
    for value in objective(model.encoder, batch, alone).values():
        assert value.item() == pytest.approx(chance, rel=1e-4)
    scores = objective.scores(objective.validate(model.encoder, batch))
    assert scores["unexplained"] == pytest.approx(chance, rel=1e-4)
    assert "100.0%" in spec.describe(scores)


def test_a_weight_of_0_leaves_a_modality_out(model: Model, batch: Segments) -> None:
    scalars = build(model, vision_weight=0.0)(model.encoder, batch, alone)
    assert scalars["loss"].item() == scalars["audio_loss"].item()
    with pytest.raises(ValueError, match="both 0"):
        MaeConfig(audio_weight=0, vision_weight=0)


def test_masks_follow_the_seed_of_the_step(model: Model, batch: Segments) -> None:
    objective = build(model).eval()
    losses = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        losses.append(objective(model.encoder, batch, alone)["loss"].item())
    assert losses[0] == losses[1] != losses[2]


def test_validations_hide_the_same_patches_and_touch_no_other_randomness(
    model: Model, batch: Segments
) -> None:
    objective = build(model)
    model.eval()
    state = torch.get_rng_state()
    first = objective.validate(model.encoder, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(first) == objective.num_sums
    torch.manual_seed(9)
    assert objective.validate(model.encoder, batch) == first
    scores = objective.scores(first)
    assert set(scores) == {"unexplained", "audio_unexplained", "vision_unexplained"}
    doubled = [2 * value for value in first]
    assert objective.scores(doubled) == pytest.approx(scores)


def test_a_few_steps_on_one_batch_explain_some_of_it(model: Model, batch: Segments) -> None:
    """Waves instead of noise, which nobody can rebuild."""
    waves = torch.linspace(0, 9, batch.audio.shape[-1]).sin()
    frames = torch.linspace(0, 9, batch.vision.shape[3]).sin()[:, None, None]
    batch = Segments(torch.zeros_like(batch.audio) + waves, torch.zeros_like(batch.vision) + frames)
    objective = build(model)
    trained = torch.nn.ModuleList([model.encoder, objective])
    recipe = build_recipe(extractor="ast_motionformer", preset="tiny", objective="mae")
    optimizer = build_optimizer(trained, recipe.stage1)
    torch.manual_seed(3)
    for _ in range(20):
        optimizer.zero_grad()
        loss = objective(model.encoder, batch, alone)["loss"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.6


def test_an_extractor_without_patches_is_refused_in_one_sentence() -> None:
    recipe = build_recipe(extractor="resnet18_s3d", preset="tiny")
    with pytest.raises(ConfigError, match="'resnet18' has none to hide; choose maskable ones"):
        Mae(MaeConfig(), Model(recipe.model).encoder)


def test_it_compares_no_segments(model: Model) -> None:
    assert not model.can_compare
    with pytest.raises(ConfigError, match="Mae does not compare"):
        build(model).embed("audio", torch.zeros(1, 6, 64))
