"""The check of encoders: pairs of extractors, and encoders of their own."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from zoo.contracts import EncoderIO, EncoderSpec, PairSpec
from zoo.models.config import Component, ModelConfig
from zoo.models.model import build_encoder
from zoo.models.modules import Encoder, SeparableEncoder, take_patches
from zoo.models.patches import MODALITIES, MaskableEncoder
from zoo.models.segments import Segments, Tokens
from zoo.registry.manager import registry
from zoo.testing.extractors import check_join
from zoo.testing.fakes import fake_clip_segments, map_shape, tiny_encoder
from zoo.testing.formats import check_initial_weights
from zoo.testing.frontends import blank_segments, check_clock, check_frontend
from zoo.testing.promises import (
    Trial,
    about,
    build_on_meta,
    check_gradients,
    check_module,
    check_output,
    fresh,
)
from zoo.testing.specs import PRESETS, check_light_import, check_named, check_spec, check_stage2
from zoo.training.recipe_builder import build_recipe
from zoo.training.rehearsal import check_fit
from zoo.training.request import TrainRequest, draft_recipe

NUM_CLIPS, NUM_SEGMENTS = 3, 2


def check_encoder(name: str) -> None:
    """Check an encoder: a pair and its defaults, or tokens, gradients and files of another one."""
    found = registry()
    spec = found.encoder(name)
    with about(f"encoder '{name}'"):
        if isinstance(spec, PairSpec):
            assert spec.summary, "has no summary; say it in its spec"
            check_light_import("encoders", name)
            for modality in MODALITIES:
                check_named("extractors", getattr(spec, modality))
                part = found.extractor(getattr(spec, modality))
                assert part.modality == modality, (
                    f"its {modality} extractor '{part.name}' reads {part.modality}"
                )
        else:
            check_spec("encoders", spec)
            _check_own(spec)
        _check_defaults(spec)


def _check_defaults(spec: EncoderSpec | PairSpec) -> None:
    """Check that an encoder fits what it is trained with unless something else is asked for."""
    check_stage2(spec.stage2)
    for kind, named in (("heads", spec.head), ("objectives", spec.objective)):
        if named:
            check_named(kind, named)
    for preset in PRESETS:
        with about(f"preset '{preset}', on the device 'meta'"):
            recipe = build_recipe(extractor=spec.name, preset=preset)
            check_fit(recipe, (2,) if spec.end_to_end else (1, 2))
    for name in spec.recipes:
        with about(f"recipe '{name}', on the device 'meta'"):
            request = TrainRequest(extractor=spec.name, recipe=name)
            recipe = draft_recipe(request, 0)
            check_fit(recipe, request.stages(recipe))


def _check_own(spec: EncoderSpec) -> None:
    for preset in PRESETS:
        with about(f"preset '{preset}'"):
            io = spec.presets[preset].io()
            assert isinstance(io, EncoderIO), f"io gives a {type(io).__name__}, not a zoo.EncoderIO"
            for modality in MODALITIES:
                part = getattr(io, modality)
                with about(modality):
                    check_frontend(modality, part.frontend, part.segment_s)
                    check_clock(part.tokens, io.segment_s)
    paper = ModelConfig(encoder=Component.of(spec, spec.presets["paper"]), layout=spec.layout)
    build_on_meta(lambda: build_encoder(paper))
    for layout in spec.formats:
        check_initial_weights(layout, spec.presets["tiny"])
    with about("preset 'tiny'"):
        _check_tiny(spec, spec.presets["tiny"].io())


def _check_tiny(spec: EncoderSpec, io: EncoderIO) -> None:
    with about("build"):
        encoder = fresh(lambda: tiny_encoder(spec)).eval()
    assert isinstance(encoder, Encoder)
    segments = fake_clip_segments(io, NUM_CLIPS, NUM_SEGMENTS)
    with about("encode"), torch.no_grad():
        _check_tokens(encoder.encode(segments), io)
        _check_tokens(encoder.encode_many(segments), io)
    with about("on silence and black frames"), torch.no_grad():
        blank = (
            blank_segments(part.frontend, part.segment_s, NUM_CLIPS * NUM_SEGMENTS)
            for part in (io.audio, io.vision)
        )
        _check_tokens(
            encoder.encode(Segments(*(x.unflatten(0, (NUM_CLIPS, -1)) for x in blank))), io
        )
    numbers = NUM_SEGMENTS * sum(
        part.tokens.num_tokens * part.tokens.dim for part in (io.audio, io.vision)
    )
    inputs = (segments.audio, segments.vision)
    is_maskable = isinstance(encoder, MaskableEncoder)
    shape = (NUM_CLIPS, numbers)
    check_module(
        Trial(lambda: tiny_encoder(spec), inputs, shape, _run, has_gradients=not is_maskable)
    )
    if isinstance(encoder, MaskableEncoder):
        _check_patches(encoder, segments)
    _check_alone(encoder, segments)
    _check_separable(encoder, segments)


def _run(encoder: nn.Module, audio: Tensor, vision: Tensor) -> Tensor:
    """Return all tokens of both modalities, a row per clip."""
    pair = encoder(Segments(audio, vision))
    return torch.cat([tokens.values.flatten(1) for tokens in pair], dim=1)


def _check_tokens(given: tuple[Tokens, Tokens], io: EncoderIO) -> None:
    assert isinstance(given, tuple), f"gives a {type(given).__name__}, not a pair of zoo.Tokens"
    for modality, tokens in zip(MODALITIES, given, strict=True):
        with about(modality):
            assert isinstance(tokens, Tokens), f"gives a {type(tokens).__name__}, not zoo.Tokens"
            declared = getattr(io, modality).tokens
            check_output(tokens.values, (NUM_CLIPS, NUM_SEGMENTS, *map_shape(declared)))
            assert tokens.times_s == declared.times_s, (
                f"tokens lie at {tokens.times_s}, but io() says {declared.times_s}"
            )


def _check_patches(encoder: MaskableEncoder, segments: Segments) -> None:
    """Check what objectives need that hide patches and compare the modalities."""
    encoder.zero_grad()
    encoded: list[Tensor] = []
    for modality in MODALITIES:
        given, grid = getattr(segments, modality).flatten(0, 1), encoder.grids[modality]
        num = grid.num_patches
        with about(f"patchify {modality}"):
            patches = encoder.patchify(modality, given)
            check_output(patches, (len(given), num, encoder.width))
            keep = torch.stack([torch.randperm(num)[: max(1, num // 4)] for _ in given])
            kept = encoder.patchify(modality, given, keep)
            assert torch.allclose(kept, take_patches(patches, keep), atol=1e-5), (
                "the patches that are kept differ from those of all"
            )
        with about(f"targets of {modality}"):
            targets = encoder.targets(modality, given)
            check_output(targets, (len(given), num, grid.values))
            check_join(partial(encoder.join, modality), targets, given, encoder.gains[modality])
        with about(f"compare {modality}"):
            encoded.append(encoder.encode_modality(modality, patches))
            check_output(encoder.compare(modality, encoded[-1]), tuple(patches.shape))
    with about("backward"):
        outputs = [*encoder.fuse(*encoded)]
        outputs += [encoder.compare(m, x) for m, x in zip(MODALITIES, encoded, strict=True)]
        sum((x * torch.randn_like(x)).sum() for x in outputs).backward()  # type: ignore[union-attr]
    check_gradients(encoder)


@torch.no_grad()
def _check_alone(encoder: Encoder, segments: Segments) -> None:
    """Check what retrieval needs of an encoder that says it can encode one modality alone."""
    if not encoder.encodes_alone:
        return
    for modality in MODALITIES:
        given = getattr(segments, modality).flatten(0, 1)
        with about(f"encode_alone {modality}"):
            tokens = encoder.encode_alone(modality, given)
            assert tokens.ndim == 3, f"gives {tuple(tokens.shape)}, not (N, L, D)"
            check_output(tokens, (len(given), *tokens.shape[1:]))


@torch.no_grad()
def _check_separable(encoder: Encoder, segments: Segments) -> None:
    """Check that modalities, and segments of a clip, do not see each other, if it says so."""
    is_one = isinstance(encoder, SeparableEncoder)
    assert encoder.is_separable == is_one, (
        f"is_separable is {encoder.is_separable}; only what inherits zoo.SeparableEncoder is "
        "separable, and all of that is"
    )
    if not is_one:
        return
    before = encoder.encode(segments)
    audio, vision = (torch.randn_like(x) for x in (segments.audio, segments.vision))
    for number, other in enumerate(
        (Segments(segments.audio, vision), Segments(audio, segments.vision))
    ):
        mine, theirs = MODALITIES[number], MODALITIES[1 - number]
        assert torch.equal(encoder.encode(other)[number].values, before[number].values), (
            f"says that it is separable, but a change of {theirs} changes the tokens of {mine}"
        )
