"""The check of objectives: what an encoder is pre-trained with."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from zoo.contracts import Chance, ObjectiveSpec
from zoo.errors import ConfigError
from zoo.models.modules import Encoder, Objective
from zoo.models.patches import MODALITIES
from zoo.models.reconstruction import Hiding, cut_like
from zoo.models.segments import Segments
from zoo.registry.manager import registry
from zoo.testing.fakes import fake_clip_segments, tiny_encoder
from zoo.testing.promises import about, check_gradients, check_saving, fresh
from zoo.testing.specs import PRESETS, check_spec, check_type
from zoo.training.recipe import Preset
from zoo.training.recipe_builder import stage1_of

NUM_CLIPS, NUM_SEGMENTS = 2, 3
STEPS, SEEDS, LOWERED = 15, 4, 1e-3  # of the check that the loss falls, by this share


def check_objective(name: str) -> None:
    """Check an objective on a small encoder: loss, gradients, validation, chance, files."""
    spec = registry().objective(name)
    with about(f"objective '{name}'"):
        check_spec("objectives", spec)
        for preset in PRESETS:
            with about(f"preset '{preset}'"):
                _check_numbers(spec, preset)
        with about("preset 'tiny'"):
            encoder, build = _some_encoder(spec)
            check_type(build(encoder), Objective)
            _check_objective(spec, encoder, build)


def _check_numbers(spec: ObjectiveSpec, preset: Preset) -> None:
    """Check what goes with a preset: the numbers of stage I, and what chance is."""
    try:
        numbers = stage1_of(spec, preset)
    except ConfigError as error:
        raise AssertionError(str(error)) from error
    chance = spec.chance(spec.presets[preset], numbers.clips, numbers.num_segments)
    assert isinstance(chance, Chance), f"chance gives a {type(chance).__name__}, not a zoo.Chance"
    if chance.loss is not None:
        assert math.isfinite(chance.loss), f"says that chance is {chance.loss}"
        assert chance.words, "says what chance is, but not how it comes about: Chance(words=...)"


def _some_encoder(spec: ObjectiveSpec) -> tuple[Encoder, Callable[[Encoder], nn.Module]]:
    """Return the first encoder that an objective takes, and what builds it for one."""
    refusals = []
    for encoder_spec in registry().encoders.values():
        if encoder_spec.end_to_end:
            continue
        torch.manual_seed(0)
        encoder = tiny_encoder(encoder_spec)
        build = partial(spec.build, spec.presets["tiny"])
        try:
            with about(f"build for the encoder '{encoder_spec.name}'"):
                build(encoder)
        except AssertionError as error:
            if not isinstance(error.__cause__, ConfigError):
                raise
            refusals.append(str(error))
            continue
        return encoder, build
    raise AssertionError(f"takes none of the encoders: {'; '.join(refusals)}")


def _check_objective(
    spec: ObjectiveSpec, encoder: Encoder, build: Callable[[Encoder], nn.Module]
) -> None:
    segments = fake_clip_segments(encoder.io, NUM_CLIPS, NUM_SEGMENTS)
    objective = fresh(lambda: build(encoder))
    assert isinstance(objective, Objective)
    with torch.no_grad():
        first = _scalars(objective, encoder, segments)["loss"]
    with about("prepare"):
        fresh_encoder = copy.deepcopy(encoder)
        again = build(fresh_encoder)
        again.prepare(fresh_encoder, segments)  # type: ignore[operator]
    scalars = _scalars(objective, encoder, segments)
    assert torch.equal(first, scalars["loss"]), "differs from run to run with the same seed"
    assert scalars["loss"].requires_grad, "the loss does not depend on the encoder"
    with about("backward"):
        scalars["loss"].backward()
    check_gradients(objective)
    _check_turns(objective, encoder, segments)
    assert any(p.grad is not None and bool(p.grad.any()) for p in encoder.parameters()), (
        "no gradient reaches the encoder"
    )
    check_saving(objective, lambda: build(encoder))
    _check_moves(encoder, build, segments)
    _check_validation(spec, objective, encoder, segments, set(scalars))
    _check_embed(objective, encoder)
    _check_reconstruction(objective, encoder, segments)
    _check_that_it_learns(encoder, build, segments)


def _check_turns(objective: Objective, encoder: Encoder, segments: Segments) -> None:
    for turn in objective.turns:
        with about(f"take_turn '{turn}'"), torch.no_grad():
            scalars = objective.take_turn(turn, encoder, segments, lambda tensor: tensor)
            assert "loss" in scalars, f"gives no 'loss', but {sorted(scalars)}"


def _scalars(objective: Objective, encoder: Encoder, segments: Segments) -> dict[str, Tensor]:
    with about("forward"):
        scalars = _run(objective, encoder, segments)
        assert isinstance(scalars, dict), f"gives a {type(scalars).__name__}, not a dictionary"
        assert "loss" in scalars, f"gives no 'loss', but {sorted(scalars)}"
        for key, value in scalars.items():
            assert isinstance(value, Tensor), f"'{key}' is a {type(value).__name__}, not a tensor"
            assert value.ndim == 0, f"'{key}' has the shape {tuple(value.shape)}, not ()"
            assert bool(value.isfinite()), f"'{key}' is {float(value)}"
    return scalars


def _run(
    objective: nn.Module, encoder: Encoder, segments: Segments, seed: int = 1
) -> dict[str, Tensor]:
    """Run an objective alone, with a seed: it may mask at random."""
    torch.manual_seed(seed)
    scalars: dict[str, Tensor] = objective(encoder, segments, lambda tensor: tensor)
    return scalars


def _check_moves(
    encoder: Encoder, build: Callable[[Encoder], nn.Module], segments: Segments
) -> None:
    for place in (torch.float64, torch.bfloat16, torch.device("meta")):
        with torch.no_grad(), about(f"moved to {str(place).removeprefix('torch.')}, forward"):
            moved = copy.deepcopy(encoder)
            objective = build(moved).to(place)
            inputs = Segments(segments.audio.to(place), segments.vision.to(place))
            _run(objective, moved.to(place), inputs)


def _check_validation(
    spec: ObjectiveSpec,
    objective: Objective,
    encoder: Encoder,
    segments: Segments,
    logged: set[str],
) -> None:
    """Check that validations are sums over clips, the same ones for the same clips."""
    objective.eval()
    encoder.eval()
    with about("validate"), torch.no_grad():
        sums = objective.validate(encoder, segments)
        again = objective.validate(encoder, segments)
        halves = [
            objective.validate(
                encoder, Segments(segments.audio[i : i + 1], segments.vision[i : i + 1])
            )
            for i in range(NUM_CLIPS)
        ]
    for found in (sums, *halves):
        assert len(found) == objective.num_sums, (
            f"num_sums is {objective.num_sums}, but validate gives {len(found)} numbers"
        )
        assert all(math.isfinite(value) for value in found), f"validate gives {found}"
    assert sums == again, "validate differs from run to run; fix the seed of what it masks"
    assert sums[-1] == NUM_CLIPS, f"the last sum of {NUM_CLIPS} clips is {sums[-1]}, their number"
    with about("scores"):
        scores = objective.scores([a + b for a, b in zip(*halves, strict=True)])
        objective.scores([0.0] * objective.num_sums)  # of a worker without clips
    assert scores, "scores gives nothing"
    for key, value in scores.items():
        assert math.isfinite(value), f"the score '{key}' is {value}"
    for curve in spec.curves:
        assert curve.name in logged | set(scores), (
            f"draws a curve of '{curve.name}', which neither forward nor scores gives"
        )
    with about("describe"):
        assert spec.describe(scores), "says nothing"


@torch.no_grad()
def _check_embed(objective: Objective, encoder: Encoder) -> None:
    widths = set()
    for modality in ("audio", "vision"):
        declared = getattr(encoder.io, modality).tokens
        tokens = torch.randn(4, declared.num_tokens, declared.dim)
        with about(f"embed {modality}"):
            try:
                vectors = objective.embed(modality, tokens)
            except ConfigError:
                assert not objective.can_compare, "refuses, although can_compare says that it can"
                return
            assert objective.can_compare, "gives vectors, although can_compare says that it cannot"
            assert vectors.ndim == 2, f"gives {tuple(vectors.shape)}, not (N, E)"
            assert torch.allclose(vectors, normalize(vectors, dim=-1), atol=1e-4), (
                "gives vectors that are not of unit length"
            )
            widths.add(vectors.shape[1])
    assert len(widths) == 1, f"embeds both modalities in different widths: {sorted(widths)}"


def _check_reconstruction(objective: Objective, encoder: Encoder, segments: Segments) -> None:
    """Check that what is rebuilt stands where patches are hidden, and depends on a seed."""
    hiding = objective.hiding
    if hiding is None:
        try:
            objective.reconstruct(encoder, segments, Hiding())
        except ConfigError:
            return
        raise AssertionError("reconstruct answers, although hiding says that nothing is hidden")
    with about("reconstruct"):
        first, again, other = (
            objective.reconstruct(encoder, segments, replace(hiding, seed=seed))
            for seed in (0, 0, 1)
        )
        assert set(first) == set(MODALITIES), f"gives {sorted(first)}, not audio and vision"
    for name in MODALITIES:
        rebuilt, asked = first[name], getattr(hiding, name)
        with about(f"reconstruct {name}"):
            assert rebuilt.given.shape == rebuilt.rebuilt.shape == rebuilt.hidden.shape, (
                "what is given, rebuilt and hidden have different shapes"
            )
            given = cut_like(getattr(segments, name).flatten(0, 1), rebuilt.given)
            assert torch.equal(rebuilt.given, given), "'given' is not what it was given"
            is_seen = ~rebuilt.hidden
            assert torch.equal(rebuilt.rebuilt[is_seen], given[is_seen]), (
                "changes what is not hidden"
            )
            share = rebuilt.num_hidden / rebuilt.num_patches
            assert abs(share - asked) <= 1 / rebuilt.num_patches, (
                f"hides {share:.2f} of the patches, not {asked:.2f}"
            )
            assert torch.equal(rebuilt.hidden, again[name].hidden), (
                "hides other patches with the same seed"
            )
            assert not torch.equal(rebuilt.hidden, other[name].hidden), (
                "hides the same patches whatever the seed"
            )


def _check_that_it_learns(
    encoder: Encoder, build: Callable[[Encoder], nn.Module], segments: Segments
) -> None:
    """Check that steps against the gradient lower the loss, whatever is random in it."""
    learner = copy.deepcopy(encoder).train()
    objective = build(learner).train()

    def mean() -> float:
        with torch.no_grad():
            losses = [float(_run(objective, learner, segments, s)["loss"]) for s in range(SEEDS)]
        return sum(losses) / SEEDS

    before = mean()
    parameters = [*learner.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=1e-3)
    for step in range(STEPS):
        optimizer.zero_grad()
        with about("training"):
            _run(objective, learner, segments, SEEDS + step)["loss"].backward()
        optimizer.step()
    after = mean()
    assert after < before - LOWERED * abs(before), (
        f"{STEPS} steps on one batch do not lower the loss: {before:.4g} before, {after:.4g} after"
    )
