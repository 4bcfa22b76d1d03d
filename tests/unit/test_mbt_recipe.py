"""What AV-MAE and MBT train with: SGD, rates by layer, schedules, mixing, masks, colours, views."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
import torch
from golden import REFERENCE, features
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from plugins.classification import ClassificationConfig
from plugins.classification.task import Classification
from zoo.contracts import EncoderIO, FeatureMap, Frames, LogMel, ModalityIO
from zoo.data.augment import Augment
from zoo.data.clip_reader import ClipReader
from zoo.data.clip_source import move_sample, read_cut
from zoo.data.manifest import Clip
from zoo.data.wrapped import read_around, same_share
from zoo.errors import ConfigError
from zoo.models.config import Component
from zoo.models.model import Model, build_encoder, build_task
from zoo.models.modules import Encoder
from zoo.models.segments import Segments, Tokens
from zoo.registry.manager import registry
from zoo.timeline import Sample, SegmentLayout, middle_start, view_starts
from zoo.training.mixing import draw_shares, mean_loss, mix_segments, require_answers, soften_batch
from zoo.training.optimise import build_optimizer, layer_factors, learning_rate, take_step
from zoo.training.recipe import Stage1Config, Stage2Config
from zoo.training.recipe_builder import build_recipe
from zoo.training.rehearsal import check_fit

FOLDER = "golden_avmae"
arrays = partial(golden.arrays, "recipe", FOLDER)
check = partial(golden.assert_agrees, folder=FOLDER)
needs_golden = pytest.mark.skipif(
    not (REFERENCE / FOLDER).is_dir(),
    reason="the golden vectors of Audiovisual MAE are not beside this checkout",
)
TOKENS = FeatureMap(times_s=(0.5,), positions=1, dim=8)


def stage2(**settings: Any) -> Stage2Config:
    return Stage2Config(**{"steps": 1, "lr": 1.0, "warmup_steps": 0, **settings})


def task_of(num: int, **settings: Any) -> Classification:
    classes = tuple(f"{k}" for k in range(num))
    config = ClassificationConfig(classes=classes, **{"multi_label": False, **settings})
    task = build_task(Component.of(registry().task("classification"), config))
    assert isinstance(task, Classification)
    return task


# --- optimiser ---


class Weights(nn.ParameterDict):
    """Parameters of the golden arrays; a matrix decays, a vector does not."""

    def __init__(self, **given: torch.Tensor) -> None:
        super().__init__({name: nn.Parameter(value.clone()) for name, value in given.items()})


def train(
    module: Weights, gradients: list[dict[str, torch.Tensor]], lrs: list[float], **settings: Any
) -> dict[str, np.ndarray]:
    """Return every parameter after each step."""
    first = stage2(schedule="constant", **settings)
    optimizer = build_optimizer(module, first)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in module}
    for given, lr in zip(gradients, lrs, strict=True):
        loss = sum((module[name] * value).sum() for name, value in given.items())
        take_step(module, optimizer, loss, 0, first.model_copy(update={"lr": lr}))  # type: ignore[arg-type]
        for name, value in module.items():
            seen[name].append(value.detach().flatten().numpy().copy())
    return {name: np.stack(values) for name, values in seen.items()}


@needs_golden
def test_sgd_with_momentum_clips_and_steps_as_published() -> None:
    module = Weights(a=features("opt_w", 6), b=features("opt_v", 4))
    gradients = [{"a": features(f"opt_g{i}", 6), "b": features(f"opt_h{i}", 4)} for i in range(3)]
    settings = {"optimizer": "sgd", "rates": {"a": 0.75**3}, "clip_norm": 1.0}
    seen = train(module, gradients, [0.8] * 3, **settings)
    check("recipe/sgd_a", seen["a"], 1e-6)
    check("recipe/sgd_b", seen["b"], 1e-6)


@needs_golden
def test_adamw_steps_as_pre_training_published_within_its_tolerance() -> None:
    """Theirs decays the weight after the step, ours before it: 5e-8 apart."""
    module = Weights(kernel=features("opt_w", 6)[:, None], bias=features("opt_w", 6))
    gradients = [
        {"kernel": (value := features(f"opt_g{i}", 6))[:, None], "bias": value} for i in range(3)
    ]
    settings = {"betas": (0.9, 0.95), "weight_decay": 0.05, "clip_norm": 1e9}
    seen = train(module, gradients, [1e-3, 2e-3, 1.5e-3], **settings)
    check("recipe/adam_kernel", seen["kernel"], 1e-6)
    check("recipe/adam_bias", seen["bias"], 1e-6)


# --- schedule ---


@needs_golden
@pytest.mark.parametrize(
    ("name", "lr"), [("pre_vgg", 3e-4), ("pre_as", 6e-4), ("ft_vgg", 0.8), ("ft_as", 1.6)]
)
def test_the_schedule_equals_the_published_one(name: str, lr: float) -> None:
    _, steps, warmup = arrays()[f"lr_{name}_meta"]
    config = stage2(lr=lr, steps=int(steps), warmup_steps=int(warmup), warmup_from="zero")
    ours = [learning_rate(int(step), config) for step in arrays()[f"lr_{name}_steps"]]
    # Theirs is computed in float32, in which the rate of the last step is 0: ours is 1e-10 of lr.
    np.testing.assert_allclose(ours, arrays()[f"lr_{name}"], rtol=1e-6, atol=2e-10 * lr)


def test_a_warm_up_from_the_first_share_is_as_it_was() -> None:
    config = stage2(lr=0.5, steps=10, warmup_steps=5)
    assert [learning_rate(step, config) for step in (0, 4, 5)] == [0.1, 0.5, 0.5]


# --- layers ---


class Deep(Encoder):
    """Two stacks of own blocks and a joint one."""

    embeddings = ("embed",)

    def __init__(self, own: int, joint: int) -> None:
        super().__init__()
        self.bottleneck = nn.Parameter(torch.zeros(1))
        self.embed_a, self.embed_v = nn.Linear(1, 1), nn.Linear(1, 1)
        self.a, self.v, self.joint = (
            nn.ModuleList(nn.Linear(1, 1) for _ in range(depth)) for depth in (own, own, joint)
        )
        self.norm = nn.LayerNorm(1)
        self.stacks = {"a": 0, "v": 0, "joint": own}

    def encode(self, segments: Segments) -> tuple[Tokens, Tokens]:
        raise NotImplementedError


@needs_golden
def test_layers_have_the_published_rates() -> None:
    encoder, found = Deep(12, 0), {}
    names = [f"encoder.{name}" for name, _ in encoder.named_parameters()] + ["head.weight"]
    for name, factor in zip(names, layer_factors(names, encoder, 0.75), strict=True):
        found[name.removesuffix(".weight").removesuffix(".bias")] = factor
    with (REFERENCE / "mbt_layer_lr.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "av"]
    assert len(rows) == 12 * 2 + 5
    for row in rows:
        assert found[ours(row["module"])] == pytest.approx(float(row["lr_scale"]), rel=1e-6)


def ours(module: str) -> str:
    """Return the name of the parameters here that stand for a published module."""
    last = module.rpartition("/")[2]
    if last.startswith("encoderblock_"):
        number, _, spec = last.removeprefix("encoderblock_").partition("_")
        return f"encoder.{'a' if spec else 'v'}.{number}"
    return {
        "output_projection": "head",
        "encoder_norm": "encoder.norm",
        "embedding": "encoder.embed_v",
        "embedding_spectrogram": "encoder.embed_a",
        "bottleneck": "encoder.bottleneck",
    }[last]


def test_joint_blocks_count_on_after_those_of_a_modality() -> None:
    encoder = Deep(4, 2)
    assert encoder.num_layers == 6
    layers = [encoder.layer_of(f"{name}.weight") for name in ("embed_a", "a.3", "joint.0", "norm")]
    assert layers == [0, 4, 5, None]


@pytest.mark.parametrize(
    ("extractor", "layers"),
    [
        (
            "cavmae",
            {
                "patch_embed_a.proj.weight": 0,
                "blocks_v.1": 2,
                "blocks_u.0": 3,
                "norm_a.weight": None,
            },
        ),
        ("avsiam", {"pos_embed": 0, "blocks.0": 1, "norm.weight": None}),
        (
            "ast+motionformer",
            {
                "audio.extractor.vit.pos_embed": 0,
                "audio.extractor.vit.blocks.0": 1,
                "audio.extractor.vit.norm.weight": None,
                "vision.extractor.patch_embed_3d.weight": 0,
                "vision.extractor.blocks.1": 2,
                "vision.projection.weight": None,
            },
        ),
    ],
)
def test_an_encoder_tells_the_layer_of_its_parameters(
    extractor: str, layers: dict[str, int | None]
) -> None:
    encoder = build_encoder(build_recipe(extractor=extractor, preset="tiny").model)
    names = [name for name, _ in encoder.named_parameters()]
    for begin, layer in layers.items():
        found = {encoder.layer_of(name) for name in names if name.startswith(begin)}
        assert found == {layer}, begin
    known = [layer for name in names if (layer := encoder.layer_of(name)) is not None]
    assert set(known) == set(range(encoder.num_layers + 1))


def test_the_shallower_extractor_of_a_pair_ends_with_the_same_layer() -> None:
    settings = ["audio.depth=1", "vision.depth=3"]
    recipe = build_recipe(extractor="ast+motionformer", preset="tiny", overrides=settings)
    encoder = build_encoder(recipe.model)
    assert encoder.num_layers == 3
    assert encoder.layer_of("audio.extractor.vit.blocks.0.norm1.weight") == 3
    assert encoder.layer_of("audio.extractor.vit.pos_embed") == 2
    assert encoder.layer_of("vision.extractor.blocks.0.norm1.weight") == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["stage2.layer_decay=0.75"], "stage2: layer_decay .* not trained"),
        (["stage1.layer_decay=0.75"], ""),
        (["stage2.encoder=trained", "stage2.layer_decay=0.75"], ""),
    ],
)
def test_rates_by_layer_need_an_encoder_that_is_trained(settings: list[str], sentence: str) -> None:
    recipe = build_recipe(
        extractor="cavmae", task="classification", preset="tiny", overrides=settings
    )
    if not sentence:
        check_fit(recipe, (1, 2))
        return
    with pytest.raises(ConfigError, match=sentence):
        check_fit(recipe, (1, 2))


def test_an_encoder_without_layers_is_refused_in_one_sentence() -> None:
    settings = ["stage1.layer_decay=0.75"]
    recipe = build_recipe(extractor="ast+s3d", preset="tiny", overrides=settings)
    with pytest.raises(ConfigError, match="'s3d' tells none"):
        check_fit(recipe, (1,))


def test_rates_by_name_and_by_layer_multiply() -> None:
    recipe = build_recipe(
        extractor="cavmae",
        task="classification",
        preset="tiny",
        overrides=["stage2.encoder=trained", "stage2.layer_decay=0.5", "stage2.rates={head: 10}"],
    )
    model = Model(recipe.model)
    optimizer = build_optimizer(model, recipe.stage2, encoder=model.encoder)
    factors = {id(p): g["factor"] for g in optimizer.param_groups for p in g["params"]}
    assert factors[id(model.head.classifier.weight)] == 10  # type: ignore[union-attr]
    depth = model.encoder.num_layers
    assert factors[id(model.encoder.get_parameter("patch_embed_a.proj.weight"))] == 0.5 ** (
        depth + 1
    )


def test_a_stage_one_of_an_earlier_version_has_the_same_optimiser() -> None:
    config = Stage1Config(steps=1, lr=1.0, warmup_steps=0)
    assert (config.optimizer, config.layer_decay, config.warmup_from) == ("adamw", 1.0, "first")


# --- mixing ---


@needs_golden
@pytest.mark.parametrize(("name", "frames"), [("mixmod", "own"), ("mixone", "same")])
def test_batches_are_mixed_as_published(name: str, frames: str) -> None:
    config = stage2(mixup=1.0, mixup_by="batch", mixup_frames=frames)
    of_video, of_audio = arrays()["mix_lambda"].tolist()  # theirs draws for RGB first
    shares = torch.tensor([of_audio if frames == "own" else of_video, of_video])
    rgb, spec = features("mix_rgb", 3, 2, 4, 4, 3), features("mix_spec", 3, 8, 4, 1)
    given = Segments(spec.permute(0, 3, 2, 1), rgb.permute(0, 4, 1, 2, 3)[:, None])
    mixed = mix_segments(given, shares)
    check(f"recipe/{name}_spec", mixed.audio.permute(0, 3, 2, 1), 1e-6)
    check(f"recipe/{name}_rgb", mixed.vision[:, 0].permute(0, 2, 3, 4, 1), 1e-6)
    task = task_of(5)
    labels = soften_batch(task, task.labels_of(torch.tensor([0, 3, 1])), shares, config)
    each = labels.unbind(1) if frames == "own" else (labels, labels)
    check(f"recipe/{name}_label_spec", each[0], 1e-6)
    check(f"recipe/{name}_label_rgb", each[1], 1e-6)
    if frames == "same":
        check("recipe/mixone_label_all", labels, 1e-6)


def test_labels_are_smoothed_after_they_are_mixed() -> None:
    config = stage2(mixup=1.0, mixup_by="batch", label_smoothing=0.3)
    task = task_of(4)
    labels = task.labels_of(torch.tensor([2, 0]))
    mixed = soften_batch(task, labels, torch.tensor([0.75, 0.75]), config)
    assert torch.allclose(mixed[0], 0.7 * torch.tensor([0.25, 0, 0.75, 0]) + 0.3 / 4)
    assert torch.allclose(mixed.sum(1), torch.ones(2))


def test_shares_follow_seed_step_and_worker_alone() -> None:
    config = stage2(mixup=0.5, mixup_by="batch", mixup_frames="own", mixup_alpha=0.5)
    drawn = {
        key: tuple(draw_shares(config, *key).tolist())
        for key in [(seed, step, rank) for seed in (1, 2) for step in range(40) for rank in (0, 1)]
    }
    assert drawn[1, 7, 1] == tuple(draw_shares(config, 1, 7, 1).tolist())
    mixed = [shares for shares in drawn.values() if shares != (1.0, 1.0)]
    assert 0.3 < len(mixed) / len(drawn) < 0.7
    assert len(set(mixed)) == len(mixed)
    assert all(audio != vision for audio, vision in mixed)
    same = draw_shares(config.model_copy(update={"mixup_frames": "same"}), 1, 0, 0)
    assert same[0] == same[1]


def test_answers_of_both_modalities_are_scored_against_their_own_labels() -> None:
    task = task_of(3)
    torch.manual_seed(0)
    outputs, targets = torch.randn(4, 2, 3), torch.rand(4, 2, 3).softmax(2)
    own = mean_loss(task, outputs, targets, 0.0, is_per_modality=True)
    each = [cross_entropy(outputs[:, m], targets[:, m]) for m in (0, 1)]
    assert torch.isclose(own, (each[0] + each[1]) / 2)
    same = mean_loss(task, outputs, targets[:, 0], 0.0)
    assert torch.isclose(same, sum(cross_entropy(outputs[:, m], targets[:, 0]) for m in (0, 1)) / 2)
    assert mean_loss(task, outputs[:, 0], targets[:, 0], 0.0) == each[0]


def test_a_head_that_answers_once_is_refused_where_each_modality_has_labels() -> None:
    require_answers((4, 2, 5), "each")
    recipe = build_recipe(
        extractor="cavmae",
        task="classification",
        preset="tiny",
        overrides=["stage2.mixup=1", "stage2.mixup_by=batch", "stage2.mixup_frames=own"],
    )
    with pytest.raises(ConfigError, match=r"'linear' does not answer for each.*mixup_frames=same"):
        check_fit(recipe, (2,))


def test_the_loss_may_be_the_sum_over_classes() -> None:
    task = task_of(5, multi_label=True, over_classes="sum")
    outputs, targets = torch.randn(3, 5), torch.rand(3, 5)
    each = binary_cross_entropy_with_logits(outputs, targets, reduction="none")
    assert torch.isclose(task.loss(outputs, targets, 0.0), each.sum(1).mean())
    plain = task_of(5, multi_label=True)
    assert task.chance["cross_entropy"] == pytest.approx(5 * plain.chance["cross_entropy"])
    with pytest.raises(ValueError, match="over_classes=sum is for loss=bce"):
        ClassificationConfig(over_classes="sum", loss="ce")


# --- views ---


@needs_golden
@pytest.mark.parametrize(("frames", "columns"), [(250, 1000), (240, 960), (60, 240)])
def test_views_start_where_the_published_ones_do(frames: int, columns: int) -> None:
    """32 frames with a stride of 2, and 8 s or 10 s of 100 columns a second."""
    check(f"recipe/views_spec_{columns}_first", view_starts(columns, 800, 4), 0)
    check(f"recipe/views_spec10_{columns}_first", view_starts(columns, 1000, 4), 0)
    first = np.array(view_starts(frames, 64, 4))
    shown = first[:, None] + 2 * np.array([0, 1, 31])
    check(f"recipe/views_rgb_{frames}", shown % frames, 0)


@needs_golden
@pytest.mark.parametrize("frames", [250, 240, 60])
def test_validation_looks_at_the_middle_as_published(frames: int) -> None:
    shown = (middle_start(frames, 64) + 2 * np.arange(32)) % frames
    check(f"recipe/mid_rgb_{frames}", shown, 0)


# --- linear probe ---


@pytest.mark.parametrize("pool", ["modalities", "tokens"])
def test_a_linear_probe_normalises_as_mae_does(pool: str) -> None:
    recipe = build_recipe(
        extractor="cavmae",
        task="classification",
        preset="tiny",
        overrides=["head.norm=batch", f"head.pool={pool}", "task.classes=[a,b,c]"],
    )
    model = Model(recipe.model)
    head = model.head
    assert head is not None
    assert {name for name, _ in head.named_parameters()} == {"classifier.weight", "classifier.bias"}
    torch.manual_seed(0)
    audio, vision = (
        Tokens(torch.randn(16, 1, part.steps, part.positions, part.dim), part.times_s)
        for part in (model.io.audio.tokens, model.io.vision.tokens)
    )
    pooled = head._pooled(audio, vision)
    parts = pooled.split(64, dim=1)
    for _ in range(200):
        head.train()(audio, vision)
    normalised = torch.cat(
        [(x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True) for x in parts], 1
    )
    normalised = (normalised - normalised.mean(0)) / normalised.std(0)
    ours = head.eval()(audio, vision)
    assert torch.allclose(ours, head.classifier(normalised), atol=0.03)
    one = [Tokens(x.values[:1], x.times_s) for x in (audio, vision)]
    with pytest.raises(ConfigError, match="compares the clips of a worker's batch, and it has one"):
        head.train()(*one)


# --- audio that wraps ---


@needs_golden
@pytest.mark.parametrize(("frames", "columns"), [(250, 1000), (240, 960), (60, 240)])
def test_audio_starts_at_the_same_share_as_published(frames: int, columns: int) -> None:
    offsets = arrays()[f"sync_off_{frames}"].tolist()
    first = np.array([same_share(offset, frames, columns) for offset in offsets])
    last = (first + 800 - 1) % columns
    check(f"recipe/sync_spec_{frames}_first_last", np.stack([first, last], 1), 0)


class Counting(ClipReader):
    """Reads a clip whose samples are numbered."""

    duration_s = 10.0

    def read_audio(self, path: Path, start_s: float, length_s: float) -> np.ndarray:
        first, num = (round(t * self.audio.sample_rate_hz) for t in (start_s, length_s))
        assert first + num <= self.duration_s * self.audio.sample_rate_hz
        return np.arange(first, first + num, dtype=np.float32)

    def read_vision(self, path: Path, start_s: float, length_s: float) -> np.ndarray:
        num = round(length_s * self.vision.fps)
        return np.full((num, 48, 48, 3), round(start_s * self.vision.fps), np.uint8)


@pytest.mark.parametrize("length_s", [8.0, 10.0, 24.0])
def test_audio_goes_on_at_the_start_of_a_clip(length_s: float) -> None:
    reader = Counting(Frames(fps=12.5, size=48, short_side=48), LogMel())
    samples = read_around(reader, Path("a.mp4"), 7.0, length_s, 10.0)
    wanted = np.arange(7 * 16_000, round((7 + length_s) * 16_000)) % 160_000
    assert np.array_equal(samples, wanted.astype(np.float32))


def reader_of_8_s() -> Counting:
    """Return a reader of 8 s of audio and 32 frames of 2.56 s."""
    io = EncoderIO(
        audio=ModalityIO(frontend=LogMel(), segment_s=8.0, tokens=TOKENS),
        vision=ModalityIO(
            frontend=Frames(fps=12.5, size=48, short_side=48), segment_s=2.56, tokens=TOKENS
        ),
    )
    return Counting(io.vision.frontend, io.audio.frontend, io=io)  # type: ignore[arg-type]


def test_validation_reads_the_middle_of_both() -> None:
    layout = SegmentLayout(num_segments=1, segment_s=8.0, step_s=8.0)
    clip = Clip(Path("a.mp4"), "valid", 10.0, 25, 64, 64, 16_000, 1)
    augment, rng, reader = stage2(sampling="wrapped").of_validation(), None, reader_of_8_s()
    given = (reader, layout, 10.0, augment, rng)
    sample = move_sample(Sample(0, 0.0, 0.0, 3), *given)  # type: ignore[arg-type]
    cut = read_cut(reader, clip, sample, layout, augment, np.random.default_rng(0))
    assert int(cut.frames[0, 0, 0, 0]) == (125 - 32) // 2
    assert cut.samples[0] == 100 * 160
    assert stage2().of_validation() == Augment()


def test_wrapped_samples_take_video_anywhere_and_audio_along() -> None:
    reader = reader_of_8_s()
    layout = SegmentLayout(num_segments=1, segment_s=8.0, step_s=8.0)
    clip = Clip(Path("a.mp4"), "train", 10.0, 25, 64, 64, 16_000, 1)
    augment, rng, firsts = Augment(sampling="wrapped"), np.random.default_rng(0), set()
    for _ in range(600):
        sample = move_sample(Sample(0, 0.0, 0.0, 3), reader, layout, 10.0, augment, rng)
        cut = read_cut(reader, clip, sample, layout, augment, rng)
        first = int(cut.frames[0, 0, 0, 0])
        firsts.add(first)
        assert cut.samples[0] == same_share(first, 125, 1000) * 160
        assert len(cut.samples) == 128_000
        assert (sample.clip, sample.target) == (0, 3)
    assert firsts == set(range(125 - 32 + 1))


def test_wrapped_samples_are_refused_where_the_answer_depends_on_the_time() -> None:
    settings = ["stage2.sampling=wrapped"]
    recipe = build_recipe(extractor="cavmae", task="offset", preset="tiny", overrides=settings)
    with pytest.raises(ConfigError, match="whose answer is the same all over a clip"):
        check_fit(recipe, (2,))
