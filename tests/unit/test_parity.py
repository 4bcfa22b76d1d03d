"""Our re-implementation against arrays made with the published code."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import torch
from golden import (
    AVCLIP,
    SALT,
    SYNC,
    SYNCHRONIZABILITY,
    arrays,
    assert_agrees,
    fake_checkpoint,
    features,
    fill,
    fill_encoder,
    largest,
    needs_golden,
    recipe,
    record,
    unit,
)
from torch import Tensor, nn

from plugins.segment_avclip.model import shifted_window_precision
from zoo.contracts import Frames, HeadInput, LogMel, Modality
from zoo.data.frontend import crop_square, cut_audio, cut_frames
from zoo.data.published import RawClip, crop_s, cut_segments, fixed_crop, trim
from zoo.evaluation.offset_metrics import score_logits
from zoo.evaluation.ranking import published_metrics
from zoo.models.config import TwoTowerConfig
from zoo.models.model import Model
from zoo.models.modules import Head, ModalityEncoder
from zoo.models.segments import Tokens
from zoo.models.two_tower import ExtractorEncoder, TwoTower
from zoo.registry.manager import registry
from zoo.timeline import OffsetGrid, SegmentLayout, count_steps, fixed_sample
from zoo.training.recipe_builder import build_recipe

pytestmark = needs_golden

VISION_START_S, OFFSET_S = 1.2, 0.6


@pytest.fixture(autouse=True)
def _all_cores() -> Iterator[None]:
    """These models are large: let them have the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> Model:
    """The published sizes with fake weights."""
    config = build_recipe(extractor="ast_motionformer", head="sync", preset="paper").model
    with torch.device("meta"):
        model = Model(config)
    model = model.to_empty(device="cpu")
    fill_encoder(model, SYNC)
    assert model.head is not None
    fill(model.head, "head", SYNC)
    return model.eval()


@cache
def published_input(salt: str = SALT) -> RawClip:
    """The fake clip, trimmed as published."""
    return trim(RawClip(recipe().fake_video(salt), recipe().fake_audio(salt), 25.0, 16_000))


@cache
def stage_two_input(offset_s: float) -> tuple[Tensor, Tensor]:
    """Segments of the fixed sample of the golden arrays, mel ``(S, F, Ta)`` and frames."""
    clip, layout = published_input(), SegmentLayout()
    crop = fixed_crop(clip, OffsetGrid(), crop_s(layout), offset_s, VISION_START_S)
    return cut_segments(clip, crop, layout, Frames(), LogMel())


def stage_one_input(num_segments: int, salt: str = SALT) -> tuple[Tensor, Tensor]:
    """Segments in the middle of the whole clip."""
    layout = SegmentLayout(num_segments=num_segments, step_s=0.64)
    clip = published_input(salt)
    return cut_segments(clip, None, layout, Frames(), LogMel(), in_float16=False)


def test_mel_segments_equal_the_published_transform() -> None:
    mel, _ = stage_two_input(OFFSET_S)
    for segment in (0, 6, 13):
        assert_agrees(f"preprocess/mel_seg{segment}", mel[segment : segment + 1], 1e-4)
    assert_agrees("preprocess/mel_mean", mel.double().mean((1, 2)), 1e-4)
    assert_agrees("preprocess/mel_std", mel.double().flatten(1).std(1), 1e-4)
    assert_agrees("preprocess/mel_lastcol", mel[:, :, -1], 1e-6)


def test_frames_equal_the_published_transform() -> None:
    _, rgb = stage_two_input(OFFSET_S)
    ours = rgb[[0, 13]][:, :, [0, 15]][:, :, :, [0, 111, 223], ::7].transpose(1, 2)
    assert_agrees("preprocess/rgb_slice", ours, 0)
    assert_agrees("preprocess/rgb_mean", rgb.double().mean((2, 3, 4)), 1e-6)
    assert_agrees("preprocess/rgb_std", rgb.double().flatten(2).std(2), 1e-6)


def test_the_fixed_sample_is_labelled_as_published() -> None:
    crop = fixed_crop(published_input(), OffsetGrid(), 5.0, OFFSET_S, VISION_START_S)
    assert_agrees("preprocess/offset_target", crop.target, 0)
    assert_agrees("preprocess/offset_label", np.float32(crop.offset_s), 0)


def test_reading_right_differs_from_the_published_reading_by_its_quirks() -> None:
    mel, rgb = stage_two_input(OFFSET_S)
    samples, clip = recipe().fake_audio(SALT), published_input()
    sample = fixed_sample(0, 10.0, SegmentLayout(), OffsetGrid(), OFFSET_S, VISION_START_S, 25.0)
    audio_starts = [round(sample.audio_start_s + t, 6) for t in SegmentLayout().starts_s]
    right = cut_audio(samples, audio_starts, 0.64, LogMel())
    early = cut_audio(np.roll(samples, 1), audio_starts, 0.64, LogMel())
    assert largest(mel, early.numpy()) < 1e-4  # int(28799.99...) is one sample early
    assert largest(mel, right.numpy()) > 1e-2
    vision_starts = [round(sample.vision_start_s + t, 6) for t in SegmentLayout().starts_s[:1]]
    exact = cut_frames(crop_square(clip.frames, 224, None), vision_starts, 0.64, Frames())
    assert 0 < largest(rgb[:1], exact.numpy()) < 2e-3  # what float16 costs the published loader


def test_stage_one_transform_is_equal_in_full_precision() -> None:
    mel, rgb = stage_one_input(14)
    assert_agrees("preprocess_stage1/mel_seg0", mel[0].T, 1e-4)
    assert_agrees("preprocess_stage1/mel_seg13", mel[13].T, 1e-4)
    assert_agrees("preprocess_stage1/mel_mean", mel.double().mean((1, 2)), 1e-4)
    ours = rgb[[0, 13]][:, :, [0, 15]][:, :, :, [0, 111, 223], ::7]
    assert_agrees("preprocess_stage1/rgb_slice", ours, 1e-5)
    assert_agrees("preprocess_stage1/rgb_mean", rgb.double().mean((2, 3, 4)), 1e-5)


def test_ast_equals_the_published_code(model: Model) -> None:
    audio = model.encoder.audio
    vit = audio.extractor.vit
    mel = stage_two_input(OFFSET_S)[0][:2]
    seen = record(
        {"embed": vit.norm_pre, "block0": vit.blocks[0], "last": vit.norm, "feat": audio},
        lambda: audio(mel),
    )
    for name in ("embed", "block0", "last"):
        assert_agrees(f"features/ast_{name}", seen[name][0, :, ::48], 1e-4)
    assert_agrees("features/ast_feat", seen["feat"], 1e-4)


def test_motionformer_equals_the_published_code(model: Model) -> None:
    vision = model.encoder.vision
    extractor = vision.extractor
    block = extractor.blocks[0]
    rgb = stage_two_input(OFFSET_S)[1][:1]
    tokens: list[Tensor] = []
    hook = block.register_forward_pre_hook(lambda _m, inputs: tokens.append(inputs[0]))
    seen = record(
        {"time0": block.timeattn, "block0": block, "norm": extractor.norm, "feat": vision},
        lambda: vision(rgb),
    )
    hook.remove()
    assert_agrees("features/mf_tokens", tokens[0][0, ::13, ::48], 1e-4)
    for name in ("time0", "block0", "norm"):
        assert_agrees(f"features/mf_{name}", seen[name][0, ::13, ::48], 1e-4)
    assert_agrees("features/mf_feat", seen["feat"][0], 1e-4)


def published_head(name: str, num_segments: int) -> Head:
    """Build a head of the published sizes."""
    spec = registry().head(name)
    io = published_encoder().io()
    head_input = HeadInput(
        audio=io.audio.tokens,
        vision=io.vision.tokens,
        layout=SegmentLayout(num_segments=num_segments),
        num_outputs=21 if spec.tasks == ("offset",) else 2,
        grid=OffsetGrid(),
    )
    return spec.build(spec.presets["paper"], head_input)


def published_encoder(extractor: str = "ast_motionformer") -> TwoTowerConfig:
    """Return the config of a pair of the published sizes."""
    pair = build_recipe(extractor=extractor, head="sync", preset="paper").model.two_tower()
    assert pair is not None
    return pair


def as_tokens(flat: Tensor, modality: Modality, num_segments: int) -> Tokens:
    """Return tokens ``(B, S*T, D)`` in the order that heads take."""
    declared = published_encoder().io().modality(modality).tokens
    by_segment = flat.unflatten(1, (num_segments, -1)).flatten(0, 1)
    return Tokens.of_segments(by_segment, num_segments, declared)


def test_sync_head_equals_the_published_transformer() -> None:
    head = published_head("sync", 14)
    fill(head, "head", SYNC)
    vision, audio = features("glob_v", 2, 112, 768), features("glob_a", 2, 84, 768)
    with torch.no_grad():
        ours = head(as_tokens(audio, "audio", 14), as_tokens(vision, "vision", 14))
        assert_agrees("global/sync_logits_after_proj", ours, 1e-4)
        seen = record({"norm": head.transformer.norm}, lambda: head.transformer(audio, vision))
        assert_agrees("global/sync_logits", head.transformer(audio, vision), 1e-4)
    assert_agrees("global/cls_hidden", seen["norm"][:, 0], 1e-4)


def test_synchronizability_head_equals_the_published_transformer() -> None:
    head, longer = published_head("synchronizability", 13), published_head("sync", 14)
    fill(head, "head", SYNCHRONIZABILITY)
    fill(longer, "head", SYNC)
    vision, audio = features("glob13_v", 2, 104, 768), features("glob13_a", 2, 78, 768)
    with torch.no_grad():
        assert_agrees("global/syncability_logits", head.transformer(audio, vision), 1e-4)
        # Its authors start it from a stage II model, whose table they cut to its first rows.
        head.transformer.positions.copy_(longer.transformer.positions[:, :184])
        ours = head.transformer(audio, vision)
        assert_agrees("global/syncability_logits_trimmed_pe", ours, 1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whole_models_equal_the_published_code(model: Model) -> None:
    binary = published_head("synchronizability", 13)
    fill(binary, "head", SYNCHRONIZABILITY)
    vision = tokens_of(model.separable.vision, stage_two_input(OFFSET_S)[1])
    for name, offset_s in (("off1", 0.6), ("off2", -1.0)):
        audio = tokens_of(model.separable.audio, stage_two_input(offset_s)[0])
        with torch.no_grad():
            assert_agrees(f"e2e/logits_{name}", model.answer(audio, vision), 5e-4)
            assert_agrees(
                f"e2e/syncability_{name}", binary(audio.first(13), vision.first(13)), 5e-4
            )
        if name == "off1":
            assert_agrees("e2e/afeat_seg13", audio.flat[0, -6:, ::16], 1e-4)
    assert_agrees("e2e/vfeat_seg13", vision.flat[0, -8:, ::16], 1e-4)
    per_segment = vision.values.mean((0, 2, 3, 4))
    assert_agrees("e2e/vfeat_seg_mean", per_segment, 1e-4)


def tokens_of(part: ModalityEncoder, segments: Tensor) -> Tokens:
    return Tokens.of_segments(part.encode(segments, chunk=2), len(segments), part.tokens)


@pytest.mark.slow  # half a minute of two cores
def test_stage_one_embeddings_equal_the_published_code() -> None:
    config = build_recipe(extractor="ast_motionformer", head="sync", preset="paper").model
    model = Model(config.model_copy(update={"head": None}))
    fill_encoder(model, AVCLIP)
    encoder, objective = model.separable, model.objective
    assert objective is not None
    inputs = [stage_one_input(2, salt) for salt in (SALT, f"{SALT}/b")]
    mel, rgb = (torch.cat(parts) for parts in zip(*inputs, strict=True))
    audio = objective.embed("audio", encoder.audio.encode(mel))
    vision = objective.embed("vision", encoder.vision.encode(rgb, chunk=1))
    assert_agrees("stage1/afeat", audio, 2e-5)
    assert_agrees("stage1/vfeat", vision, 2e-5)
    assert_agrees("stage1/sim_v2a", vision @ audio.T / 0.07, 1e-3)
    assert_agrees("stage1/loss", avclip_loss(audio, vision), 1e-4)


def test_the_stage_one_loss_equals_the_published_one() -> None:
    vision = unit(features("loss_v", 28, 768))
    audio = unit(features("loss_a", 28, 768) + 0.2 * (27.7 * vision))
    assert_agrees("stage1/loss_b2s14", avclip_loss(audio, vision), 1e-4)


def avclip_loss(audio: Tensor, vision: Tensor) -> float:
    with torch.device("meta"):
        encoder = TwoTower(published_encoder())
    encoder.io = published_encoder().io()
    spec = registry().objective("segment_avclip")
    objective: nn.Module = spec.build(spec.presets["paper"], encoder)
    return float(objective.contrast(audio, vision, lambda x: x)["loss"].detach())  # type: ignore[operator]


@pytest.mark.parametrize(
    ("prefix", "num", "num_classes", "top"), [("m21", 210, 21, 5), ("m2", 100, 2, 2)]
)
def test_metrics_equal_the_published_ones(
    prefix: str, num: int, num_classes: int, top: int
) -> None:
    row, targets = torch.arange(num), torch.arange(num) % num_classes
    if num_classes == 21:
        logits, raised = features("metric_logits", 210, 21), 2.0
        near = (targets + (row // 21) % 3 - 1).clamp(0, 20)
    else:
        logits, raised, near = features("metric_logits2", 100, 2), 0.8, targets
    logits[row, near] += raised
    ours = published_metrics(logits, targets)
    names = {
        "accuracy_1": "accuracy_1",
        f"accuracy_{top}": f"accuracy_{top}",
        "within_one_1": "accuracy_1_tol1",
        f"within_one_{top}": f"accuracy_{top}_tol1",
        "mean_average_precision": "mAP",
        "roc_auc": "mROCAUC",
        "d_prime": "dprime",
    }
    for name, theirs in names.items():
        if f"{prefix}_{theirs}" in arrays("metrics"):
            assert_agrees(f"metrics/{prefix}_{theirs}", ours[name], 1e-6)
    if num_classes == 21:
        scores = score_logits(logits, targets, OffsetGrid())
        assert_agrees("metrics/m21_accuracy_1", scores.accuracy, 1e-6)
        assert_agrees("metrics/m21_accuracy_1_tol1", scores.within_one, 1e-6)


def test_shifted_windows_equal_the_published_validation() -> None:
    audio = features("win_a", 3, 14, 32)
    vision = unit(0.06 * audio + features("win_v", 3, 14, 32))
    pairs = zip(unit(audio), vision, strict=True)
    ours = [shifted_window_precision(*pair) for pair in pairs]
    assert_agrees("metrics/win_precision", ours, 1e-6)


def test_classes_equal_the_published_ones_except_for_exact_ties() -> None:
    golden = arrays("indices")
    grid = OffsetGrid()
    for offset_s, theirs in zip(golden["quant_in"], golden["quant_idx"], strict=True):
        # The published float32 grid breaks ties by rounding noise; ours takes the first, always.
        is_tie = abs(round(float(offset_s) * 10) - float(offset_s) * 10) < 1e-9 and (
            round(float(offset_s) * 10) % 2 == 1
        )
        assert grid.class_of(float(offset_s)) in ({theirs, theirs - 1} if is_tie else {theirs})


def test_segments_lie_where_the_published_code_cuts_them() -> None:
    golden = arrays("indices")
    for row, (segments, step, frames, samples) in enumerate(golden["seg_settings"]):
        layout = SegmentLayout(num_segments=int(segments), step_s=round(0.64 * step, 6))
        length_s = min(frames / 25, samples / 16_000)
        assert count_steps(length_s, layout.segment_s, layout.step_s) >= segments
        starts_s = np.array(layout.starts_s)
        for stream, per_second in (("v", 25), ("a", 16_000)):
            firsts = golden[f"seg{row:02d}_{stream}"][:, 0]
            assert largest(starts_s * per_second, firsts - firsts[0]) < 1e-3


def test_resnet18_and_s3d_equal_the_published_code() -> None:
    mel, rgb = stage_two_input(OFFSET_S)
    config = published_encoder("resnet18_s3d")
    audio, vision = (
        ExtractorEncoder(config.audio, "audio"),
        ExtractorEncoder(config.vision, "vision"),
    )
    fill_convolutions(audio, "resnet18_audio_keys.csv", "freq_attn_agg.", resnet_key)
    fill_convolutions(vision, "s3d_visual_keys.csv", "spatial_attn_agg.", s3d_key)
    with torch.no_grad():
        resnet = audio.extractor(mel[:2])  # (N, T, P, D)
        assert_agrees("resnet_s3d/resnet_map", resnet[0].permute(2, 1, 0), 1e-3)
        assert_agrees("resnet_s3d/resnet_feat", audio.aggregator(resnet), 1e-3)
        s3d = vision.extractor(rgb[:1])
        assert_agrees("resnet_s3d/s3d_feat", vision.aggregator(s3d)[0], 1e-3)
    channels_first = s3d[0].permute(2, 0, 1).unflatten(2, (7, 7))  # (D, T, H, W)
    assert_agrees("resnet_s3d/s3d_map", channels_first[::4], 1e-3)


def fill_convolutions(
    part: ExtractorEncoder, inventory: str, aggregator: str, key_of: Callable[[str], str]
) -> None:
    """Give extractor and aggregator the fake weights of their published counterparts."""
    fake = fake_checkpoint(inventory)
    own = {name: fake.pop(key_of(name)) for name in part.extractor.state_dict()}
    part.extractor.load_state_dict(own)
    rest = {key.removeprefix(aggregator): value for key, value in fake.items()}
    names = {name: name.removeprefix("layer.") for name in part.aggregator.state_dict()}
    assert sorted(names.values()) == sorted(rest), "every published tensor has its place"
    part.aggregator.load_state_dict({name: rest[key] for name, key in names.items()})
    part.eval()


def resnet_key(name: str) -> str:
    return name.removeprefix("resnet.")


def s3d_key(name: str) -> str:
    """Their names say ``conv_s`` and ``bn_t`` where torchvision counts layers."""
    name = name.replace("features.", "base.")
    parts = {"0": "conv", "1": "bn"}
    separable = re.fullmatch(r"(base\.[03]|.*\.branch[12]\.1)\.([01])\.([01])\.(\w+)", name)
    if separable:
        stem, which, part, rest = separable.groups()
        return f"{stem}.{parts[part]}_{'st'[int(which)]}.{rest}"
    stem, part, rest = re.fullmatch(r"(.*)\.([01])\.(\w+)", name).groups()  # type: ignore[union-attr]
    stem = stem if not stem.endswith("branch0") else f"{stem}.0"
    return f"{stem}.{parts[part]}.{rest}"
