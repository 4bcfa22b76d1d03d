"""The encoders and objectives of CAV-MAE and AVSiam, apart from what the published code says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plugins.cavmae.config import CavMaeConfig
from plugins.contrast_mae.config import RATIOS, ContrastMaeConfig
from plugins.contrast_mae.model import ContrastMae
from zoo.catalog.model_folder import save_model
from zoo.contracts import Frames, KaldiFbank, LogMel, Modality
from zoo.data.clip_reader import ClipReader
from zoo.data.frontend import without_filling
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError
from zoo.media.encode import encode
from zoo.models.masks import STRIP, choose, masking_noise
from zoo.models.model import Model, build_objective
from zoo.models.patches import MODALITIES, MaskableEncoder, PatchGrid
from zoo.models.segments import Segments
from zoo.timeline import Placement, SegmentLayout, place_crops
from zoo.training.optimise import learning_rate
from zoo.training.recipe_builder import build_recipe
from zoo.training.rehearsal import check_fit
from zoo.training.request import TrainRequest, recipe_of


def encoder_of(name: str, *overrides: str) -> MaskableEncoder:
    torch.manual_seed(0)
    recipe = build_recipe(extractor=name, preset="tiny", overrides=list(overrides))
    encoder = Model(recipe.model).encoder
    assert isinstance(encoder, MaskableEncoder)
    return encoder.eval()


def segments_of(encoder: MaskableEncoder, clips: int = 2, num: int = 3) -> Segments:
    io = encoder.io
    shapes = (io.audio.segment_shape, io.vision.segment_shape)
    return Segments(*(torch.randn(clips, num, *shape) for shape in shapes))


def test_an_objective_that_would_read_the_answer_off_the_tokens_is_refused() -> None:
    with pytest.raises(ConfigError, match="lets each see the other"):
        check_fit(build_recipe(extractor="cavmae", objective="segment_avclip", preset="tiny"), (1,))


def test_extractors_that_are_a_pair_are_refused() -> None:
    with pytest.raises(ConfigError, match="hides patches of both modalities"):
        check_fit(build_recipe(extractor="ast_motionformer", objective="cav", preset="tiny"), (1,))


@pytest.mark.parametrize("name", ["cavmae", "avsiam"])
@pytest.mark.parametrize("mode", ["apart", "other_missing"])
def test_a_modality_by_itself_does_not_see_the_other(name: str, mode: str) -> None:
    encoder = encoder_of(name, f"encoder.mode={mode}")
    segments = segments_of(encoder)
    other = Segments(segments.audio, torch.randn_like(segments.vision))
    with torch.no_grad():
        before, after = encoder(segments)[0], encoder(other)[0]
    assert torch.equal(before.values, after.values)
    joint = encoder_of(name)
    with torch.no_grad():
        assert not torch.equal(joint(segments)[0].values, joint(other)[0].values)


@pytest.mark.parametrize("modality", MODALITIES)
def test_patches_come_together_again(modality: str) -> None:
    encoder = encoder_of(
        "cavmae", "encoder.audio_change_gain=null", "encoder.vision_change_gain=null"
    )
    given = getattr(segments_of(encoder), modality).flatten(0, 1)
    grid = encoder.grids[modality]  # type: ignore[index]
    joined = grid.join(encoder.targets(modality, given))  # type: ignore[arg-type]
    if modality == "audio":
        assert torch.equal(joined[:, 0, 0], given)
    else:
        assert torch.equal(joined, given)


def test_tokens_are_in_the_order_of_time() -> None:
    encoder = encoder_of("cavmae")
    grid = encoder.grids["audio"]
    values = torch.arange(grid.num_patches, dtype=torch.float32).view(1, -1, 1)
    in_time = encoder._in_time("audio", values, 1)  # (B, S, T, P, D)
    assert in_time.shape == (1, 1, grid.columns, grid.rows, 1)
    assert in_time[0, 0, 1, :, 0].tolist() == [1 + grid.columns * row for row in range(grid.rows)]


@pytest.mark.parametrize("mode", ["unstructured", "time", "frequency", "both"])
def test_as_many_patches_are_hidden_whatever_the_mask(mode: str) -> None:
    grid = PatchGrid(8, 64, 16, 16)
    noise = masking_noise(3, grid, 0.75, mode, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    keep, hidden = choose(noise, 0.75)
    assert (keep.shape, hidden.shape) == ((3, 128), (3, 384))
    assert torch.equal(torch.cat([keep, hidden], 1).sort(1).values[0], torch.arange(512))
    assert (mode == "unstructured") == (not bool((noise == STRIP).any()))


def test_one_patch_is_kept_whatever_the_ratio() -> None:
    keep, hidden = choose(torch.rand(3, 9), 0.99)
    assert (keep.shape, hidden.shape) == ((3, 1), (3, 8))


@pytest.mark.parametrize(
    ("objective", "ratios", "losses"),
    [
        ("cav", "[]", {"contrast"}),
        ("cav", "[0,0.2,0.4,0.6,0.8]", {"contrast"}),
        ("cavmae", "[]", {"contrast", "audio", "vision"}),
        ("cavmae", "[0,0.2,0.4,0.6,0.8]", {"contrast", "audio", "vision"}),
    ],
)
def test_cavmae_takes_several_mask_ratios(
    objective: str, ratios: str, losses: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of table 3 of AVSiam's supplement."""
    overrides = [f"objective.contrast_ratios={ratios}", "objective.decoder_depth=1"]
    recipe = build_recipe(
        extractor="cavmae", objective=objective, preset="tiny", overrides=overrides
    )
    check_fit(recipe, (1,))
    encoder = encoder_of("cavmae").train()
    kept: dict[str, list[int]] = {m: [] for m in MODALITIES}
    patchify = encoder.patchify

    def count(modality: Modality, segments: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        kept[modality].append(keep.shape[1])
        return patchify(modality, segments, keep)

    monkeypatch.setattr(encoder, "patchify", count)
    found = build_objective(recipe.objective, encoder)(
        encoder, segments_of(encoder, clips=5, num=1), lambda tensor: tensor
    )
    assert {f"{name}_loss" for name in losses} < found.keys()
    found["loss"].backward()
    num = encoder.grids["audio"].num_patches
    quarter = [] if objective == "cav" and ratios != "[]" else [num // 4]
    several = [] if ratios == "[]" else [int(num * (1 - ratio)) for ratio in RATIOS]
    assert kept["audio"] == quarter + several


@pytest.mark.parametrize("ratios", ["[1.0]", "[-0.2]", "0.5", "many"])
def test_ratios_that_are_none_are_one_sentence(ratios: str) -> None:
    with pytest.raises(ConfigError, match="contrast_ratios"):
        build_recipe(
            extractor="cavmae",
            objective="cav",
            preset="tiny",
            overrides=[f"objective.contrast_ratios={ratios}"],
        )


def test_a_stop_gradient_leaves_the_blocks_to_the_contrast() -> None:
    encoder = encoder_of("avsiam").train()
    config = ContrastMaeConfig(
        contrast_weight=0, stop_gradient=True, decoder_width=32, decoder_depth=1, decoder_heads=2
    )
    objective = ContrastMae(config, encoder)
    objective(encoder, segments_of(encoder), lambda tensor: tensor)["loss"].backward()
    reached = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert reached
    assert all(name.startswith("joint.") for name in reached)


def test_a_crop_of_one_segment_may_reach_beyond_the_end() -> None:
    rng = np.random.default_rng(0)
    whole = SegmentLayout(num_segments=1, segment_s=10.24, step_s=10.24)
    sample = place_crops(rng, 0, 9.9, Placement(whole, 0.04, 0.04), 0.0, 0)
    assert (sample.vision_start_s, sample.audio_start_s) == (0.0, 0.0)
    for layout, duration_s, offset_s in (
        (whole, 0.5, 0.0),
        (whole, 9.9, 0.2),
        (SegmentLayout(), 4.0, 0.0),
    ):
        with pytest.raises(ConfigError, match="too short"):
            place_crops(rng, 0, duration_s, Placement(layout, 0.04, 0.04), offset_s, 0)
    silence = np.zeros(100, np.float32)
    assert len(without_filling(silence, LogMel(), 0.001)) == 100


def test_of_a_whole_clip_one_frame_is_read() -> None:
    config = build_recipe(extractor="cavmae", preset="paper").model
    io = config.encoder_config().io()
    assert isinstance(io.audio.frontend, KaldiFbank)
    assert isinstance(io.vision.frontend, Frames)
    reader = ClipReader(io.vision.frontend, io.audio.frontend, io=io)
    part = reader.read_part("vision", config.layout)
    assert (part.start_s, part.length_s, part.starts_s) == (5.08, 0.04, [0.0])
    assert reader.read_part("audio", config.layout).length_s == 10.24


def test_the_cache_keeps_only_the_frames_that_are_read(clips: Manifest, tmp_path: Path) -> None:
    path, io = clips.clips[0].path, CavMaeConfig().io()
    reader = ClipReader(io.vision.frontend, io.audio.frontend, io=io)
    cached = replace(reader, cache=tmp_path)
    for start_s in (0.0, 1.2, 0.0):
        frame = cached.read_vision(path, start_s, 0.04)
        assert np.array_equal(frame, reader.read_vision(path, start_s, 0.04))
    samples = cached.read_audio(path, 0.0, 1.6)
    assert np.array_equal(samples, reader.read_audio(path, 0.0, 1.6))
    kinds = sorted(file.name.split(".", 1)[1] for file in tmp_path.iterdir())
    assert kinds == ["frame0.npy", "frame30.npy", "samples.npy"]
    several = cached.read_vision(path, 0.4, 0.8)
    assert np.array_equal(several, reader.read_vision(path, 0.4, 0.8))


def test_the_cache_keeps_audio_to_its_end(tmp_path: Path) -> None:
    """Which need not be that of a frame: 1.95 s."""
    rng = np.random.default_rng(0)
    path, frames = tmp_path / "a.mov", np.zeros((50, 64, 64, 3), np.uint8)
    encode(path, frames, rng.normal(0, 0.1, 31_200).astype(np.float32), audio_codec="pcm_s16le")
    io = build_recipe(extractor="cavmae", preset="tiny").model.encoder_config().io()
    reader = ClipReader(io.vision.frontend, io.audio.frontend, io=io)  # type: ignore[arg-type]
    cached = replace(reader, cache=tmp_path / "cache")
    last = [one.read_audio(path, 1.0, 0.95) for one in (reader, cached)]
    np.testing.assert_array_equal(*last)
    assert np.abs(last[0][-160:]).max() > 0.01


def test_the_rate_falls_step_by_step() -> None:
    recipe = build_recipe(
        extractor="cavmae",
        preset="tiny",
        overrides=["stage1.schedule=step", "stage1.decay_from=100", "stage1.decay_every=50"],
    )
    config = recipe.stage1
    rates = [learning_rate(step, config) / config.lr for step in (99, 100, 149, 150, 200)]
    assert rates == [1, 0.5, 0.5, 0.25, 0.125]


@pytest.mark.parametrize("name", ["cavmae", "avsiam"])
def test_positions_are_resampled_for_other_lengths(name: str) -> None:
    """A table that rises steadily with time goes on doing so."""
    short = encoder_of(name)
    longer = encoder_of(name, "layout.segment_s=1.28", "encoder.audio_s=1.28")
    table = short.get_parameter("pos_embed_a")
    rows, columns = short.grids["audio"].rows, short.grids["audio"].columns
    with torch.no_grad():
        table.copy_(torch.arange(columns).repeat(rows)[None, :, None].expand_as(table).float())
    longer.take(short)
    times = longer.get_parameter("pos_embed_a").detach().unflatten(1, (rows, 2 * columns))
    assert torch.equal(times[0, 0], times[0, -1])
    inner = times[0, 0, 1:-1, 0]  # beyond the outermost patches nothing is known
    assert torch.allclose(inner.diff(), torch.full_like(inner[1:], 0.5))
    assert times.shape[2] == 2 * columns


def test_one_frame_is_a_table_of_positions_too() -> None:
    several, one = encoder_of("cavmae"), encoder_of("cavmae", "encoder.vision_s=0.08")
    before = several.get_parameter("time_embed_v").detach().clone()
    one.take(several)
    several.take(one)
    assert torch.equal(several.get_parameter("time_embed_v"), before)


def test_an_encoder_of_another_width_is_refused_before_anything_starts(tmp_path: Path) -> None:
    recipe = build_recipe(extractor="cavmae", preset="tiny")
    save_model(tmp_path / "start", Model(recipe.model.model_copy(update={"head": None})))
    asked = TrainRequest(init=(str(tmp_path / "start"),), set={"encoder.width": 128})
    with pytest.raises(ConfigError, match=r"to start from has '\S+' of the shape .*leave out"):
        recipe_of(asked, 0)
    longer = {"encoder.audio_s": 1.28, "layout.segment_s": 1.28}
    recipe_of(asked.model_copy(update={"set": longer}), 0)


def test_an_objective_that_compares_modalities_takes_an_encoder_that_keeps_them_apart() -> None:
    apart = ["encoder.mode=apart"]
    recipe = build_recipe(
        extractor="cavmae", objective="segment_avclip", preset="tiny", overrides=apart
    )
    check_fit(recipe, (1,))
