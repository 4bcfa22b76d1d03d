from pathlib import Path

import pytest

from zoo.contracts import Frames
from zoo.errors import ConfigError, PluginError
from zoo.models.model import Model
from zoo.training.overrides import override
from zoo.training.recipe import Recipe, parse_recipe, read_recipe
from zoo.training.recipe_builder import build_recipe


def paper(head: str = "sync") -> Recipe:
    return build_recipe(extractor="ast_motionformer", head=head, preset="paper")


def test_the_paper_preset_has_the_published_numbers() -> None:
    recipe = paper()
    assert (recipe.stage1.lr, recipe.stage1.clips, recipe.stage1.num_segments) == (1e-4, 2, 14)
    assert recipe.stage1.betas == (0.9, 0.999)
    assert recipe.stage1.warmup_steps == 1000
    assert (recipe.stage2.lr, recipe.stage2.batch) == (2e-6, 16)
    assert (recipe.stage2.schedule, recipe.stage2.clip_norm) == ("constant", 1.0)
    assert recipe.stage1.jitter_s == recipe.stage2.jitter_s == 0.05
    assert recipe.model.layout.covered_s == 4.8
    assert recipe.objective.config["compare"] == "mean"
    assert recipe.stage1_layout.covered_s == pytest.approx(8.96)
    assert recipe.seed == 1337


def test_another_value_may_be_set_and_nothing_else_changes(recipe: Recipe) -> None:
    changed = override(recipe, ["stage2.lr=1e-4", "stage2.batch=32"])
    assert (changed.stage2.lr, changed.stage2.batch) == (1e-4, 32)
    back = override(
        changed, [f"stage2.lr={recipe.stage2.lr}", f"stage2.batch={recipe.stage2.batch}"]
    )
    assert back == recipe


def test_short_names_reach_the_parts_people_set_most(recipe: Recipe) -> None:
    changed = override(recipe, ["head.width=32", "audio.depth=1", "layout.num_segments=7"])
    assert changed.model.head is not None
    assert changed.model.head.config["width"] == 32
    pair = changed.model.two_tower()
    assert pair is not None
    assert pair.audio.extractor.config["depth"] == 1
    assert changed.model.layout.num_segments == 7


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("stage2.lrr=1", r"unknown key 'stage2.lrr'; did you mean 'lr'\?"),
        ("stge2.lr=1", "did you mean 'stage2'"),
        ("head.widht=8", "did you mean 'width'"),
        ("stage2.batch=many", "'stage2.batch'"),
        ("stage2.batch=2.5", "'stage2.batch'"),
        ("stage2.lr=-1", "'stage2.lr'"),
        ("head.width=no", "width"),
        ("head.context=2", "must be odd"),
        ("layout.step_s=2", "leaves gaps"),
        ("audio.segment_s=0.1", "cannot take segments of 0.1 s"),
        ("stage2.lr", "takes key=value"),
        ("seed.deeper=1", "unknown key 'seed.deeper'"),
        ("precision=fp8", "'precision'"),
    ],
)
def test_a_setting_that_does_not_fit_is_one_sentence(
    recipe: Recipe, assignment: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        override(recipe, [assignment])
    assert "\n" not in str(caught.value)


def test_an_unknown_component_is_named_with_a_suggestion() -> None:
    with pytest.raises(PluginError, match="did you mean 'correlation'"):
        build_recipe(extractor="ast_motionformer", head="corelation", preset="tiny")
    with pytest.raises(PluginError, match="did you mean 'motionformer'"):
        build_recipe(extractor="ast+motionforme", head="sync", preset="tiny")


def test_a_recipe_survives_its_file(recipe: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(recipe.model_dump_json())
    assert read_recipe(file) == recipe
    file.write_text("{")
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        read_recipe(file)
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        read_recipe(tmp_path / "missing.json")


def test_a_recipe_needs_a_head_and_knows_no_other_keys(recipe: Recipe) -> None:
    data = recipe.model_dump(mode="json")
    with pytest.raises(ConfigError, match="unknown key 'stage3'; did you mean 'stage"):
        parse_recipe({**data, "stage3": {}})
    data["model"]["head"] = None
    with pytest.raises(ConfigError, match="needs a head"):
        parse_recipe(data)


def test_full_size_pairs_have_the_published_heads_and_projections() -> None:
    expected = {
        "ast_motionformer": ((12, None), (12, None)),
        "resnet18_s3d": ((8, 768), (8, 768)),
        "ast+s3d": ((12, 768), (8, 768)),
    }
    for extractor, parts in expected.items():
        pair = build_recipe(extractor=extractor, head="sync", preset="paper").model.two_tower()
        assert pair is not None
        found = tuple(
            (part.aggregator.config["heads"], part.projection_dim)
            for part in (pair.audio, pair.vision)
        )
        assert found == parts, extractor


def test_heads_that_do_not_divide_the_width_are_one_sentence() -> None:
    settings = ["model.audio.aggregator.config.heads=5"]
    recipe = build_recipe(
        extractor="ast_motionformer", head="sync", preset="tiny", overrides=settings
    )
    with pytest.raises(ConfigError, match=r"heads=5 does not divide the 64 channels .*; 4 would"):
        Model(recipe.model)


@pytest.mark.parametrize(
    ("encoder", "key"),
    [("cavmae", "encoder.vision_frontend"), ("ast_motionformer", "vision.frontend")],
)
def test_what_json_leaves_out_can_be_set(encoder: str, key: str) -> None:
    changed = build_recipe(
        extractor=encoder, preset="tiny", overrides=[f"{key}.resize=bicubic_uint8"]
    )
    frames = changed.model.encoder_config().io().vision.frontend
    assert isinstance(frames, Frames)
    assert frames.resize == "bicubic_uint8"
