import pytest
import torch

from zoo.contracts import Modality
from zoo.errors import ConfigError
from zoo.models.config import Component, ModelConfig, TwoTowerConfig
from zoo.models.model import Model, count_parameters
from zoo.models.segments import Segments
from zoo.training.overrides import override
from zoo.training.recipe import Recipe
from zoo.training.recipe_builder import build_recipe

MODALITIES: tuple[Modality, ...] = ("audio", "vision")


@pytest.fixture(scope="module")
def paper() -> Model:
    """The published sizes, without memory."""
    config = build_recipe(extractor="ast_motionformer", head="sync", preset="paper").model
    with torch.device("meta"):
        return Model(config)


def test_the_published_parameter_counts(paper: Model) -> None:
    assert count_parameters(paper.separable.audio) == 92_400_384
    assert count_parameters(paper.separable.vision) == 122_440_704
    assert paper.head is not None
    assert count_parameters(paper.head.transformer) == 21_437_973
    assert count_parameters(paper) == 237_460_245


def test_the_dead_patch_embedding_is_counted_and_frozen(paper: Model) -> None:
    frozen = {n: p for n, p in paper.named_parameters() if not p.requires_grad}
    assert set(frozen) == {
        "encoder.vision.extractor.patch_embed.weight",
        "encoder.vision.extractor.patch_embed.bias",
    }
    assert sum(p.numel() for p in frozen.values()) == 590_592


def test_published_sizes_have_the_published_token_counts(paper: Model) -> None:
    assert (paper.io.audio.tokens.steps, paper.io.audio.tokens.dim) == (6, 768)
    assert (paper.io.vision.tokens.steps, paper.io.vision.tokens.dim) == (8, 768)
    assert paper.head is not None
    assert paper.head.transformer.positions.shape == (1, 198, 768)


def test_crops_go_in_and_logits_come_out(model: Model, recipe: Recipe) -> None:
    num = recipe.model.layout.num_segments
    audio = torch.randn(2, num, 128, 66)
    vision = torch.randn(2, num, 3, 16, 48, 48)
    with torch.no_grad():
        logits = model(audio, vision)
        assert torch.equal(model.answer(*model.encoder(Segments(audio, vision))), logits)
    assert logits.shape == (2, 21)


def test_segments_never_see_one_another(model: Model) -> None:
    audio, segments = model.separable.audio, torch.randn(4, 128, 66)
    changed = segments.clone()
    changed[0] = 0.0
    whole, other = audio.encode(segments), audio.encode(changed, chunk=3)
    assert torch.allclose(whole[1:], other[1:], atol=1e-5)
    assert not torch.allclose(whole[0], other[0], atol=1e-2)


def test_embeddings_have_unit_length(model: Model) -> None:
    objective = model.objective
    assert objective is not None
    for modality in MODALITIES:
        declared = model.io.modality(modality).tokens
        tokens = torch.randn(3, declared.steps, declared.dim)
        norms = objective.embed(modality, tokens).norm(dim=1)
        assert torch.allclose(norms, torch.ones(3), atol=1e-5)


def test_aligned_modalities_are_compared_at_the_same_times(recipe: Recipe) -> None:
    """A ramp over time reads the same in both modalities, whatever their time steps."""
    model = Model(override(recipe, ["objective.compare=aligned"]).model)
    ramps = []
    for modality in MODALITIES:
        times = torch.tensor(model.io.modality(modality).tokens.times_s)
        ramps.append(getattr(model.objective, f"{modality}_at") @ times)
    audio_s, vision_s = (model.io.modality(name).tokens.times_s for name in MODALITIES)
    inside = ramps[0] > max(vision_s[0], audio_s[0])
    inside &= ramps[0] < min(vision_s[-1], audio_s[-1])
    assert inside.sum() >= 4
    assert torch.allclose(ramps[0][inside], ramps[1][inside], atol=1e-6)


def test_a_layout_of_other_segments_is_refused(recipe: Recipe) -> None:
    settings = ["layout.segment_s=0.32", "layout.step_s=0.16"]
    lengths = ["audio.segment_s=0.64", "vision.segment_s=0.64"]
    config = override(recipe, [*settings, *lengths]).model
    with pytest.raises(ConfigError, match=r"reads segments of 0\.64 s, but the layout has 0\.32 s"):
        Model(config)


def test_a_model_of_shorter_segments_can_be_built(recipe: Recipe) -> None:
    layout = ["layout.segment_s=0.32", "layout.step_s=0.16"]
    extractors = ["audio.segment_s=0.32", "vision.segment_s=0.32"]
    model = Model(override(recipe, layout + extractors).model)
    assert model.io.vision.tokens.steps == 4


def test_extractors_of_the_wrong_modality_are_refused(recipe: Recipe) -> None:
    pair = recipe.model.two_tower()
    assert pair is not None
    config = TwoTowerConfig(audio=pair.vision, vision=pair.vision).model_dump(mode="json")
    encoder = recipe.model.encoder.model_copy(update={"config": config})
    swapped = recipe.model.model_copy(update={"encoder": encoder})
    with pytest.raises(ConfigError, match="'motionformer' reads vision, not audio"):
        Model(swapped)


def test_a_model_without_a_head_says_so(recipe: Recipe) -> None:
    headless = Model(recipe.model.model_copy(update={"head": None}))
    with pytest.raises(ConfigError, match="train stage 2 first"):
        headless(torch.zeros(1, 14, 128, 66), torch.zeros(1, 14, 3, 16, 48, 48))


def test_a_config_survives_json(recipe: Recipe) -> None:
    again = ModelConfig.model_validate_json(recipe.model.model_dump_json())
    assert again == recipe.model
    assert Component(name="x").config == {}
