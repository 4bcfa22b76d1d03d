"""The check of extractors, of maskable ones, and of the layouts in which others publish them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from zoo.contracts import ExtractorConfig, ExtractorSpec
from zoo.errors import ConfigError
from zoo.models.modules import Extractor, MaskableExtractor
from zoo.models.reconstruction import cut_like, restore_change
from zoo.registry.manager import registry
from zoo.testing.fakes import fake_segments, map_shape
from zoo.testing.formats import check_weights_format
from zoo.testing.frontends import (
    blank_segments,
    check_clock,
    check_frontend,
    frame_s,
    whole_lengths_s,
)
from zoo.testing.promises import (
    TOLERANCE,
    Trial,
    about,
    build_on_meta,
    check_module,
    check_output,
    check_times,
    fresh,
)
from zoo.testing.specs import PRESETS, check_spec, check_type

OTHER_SEGMENTS_S = (0.16, 0.32, 0.48, 1.28)
MASKED_COST = 0.75  # of a quarter of the patches, beside all of them


def check_extractor(name: str) -> None:
    """Check an extractor's shapes, clock, independence of segments, gradients, presets, files."""
    spec = registry().extractor(name)
    with about(f"extractor '{name}'"):
        check_spec("extractors", spec)
        for preset in PRESETS:
            with about(f"preset '{preset}'"):
                config = spec.presets[preset]
                check_frontend(spec.modality, config.frontend, config.segment_s)
                check_clock(config.feature_map(), config.segment_s)
        build_on_meta(lambda: spec.build(spec.presets["paper"]))
        with about("preset 'tiny'"):
            _check_tiny(spec, spec.presets["tiny"])
            for layout in spec.formats:
                check_weights_format(layout, spec, spec.presets["tiny"])


def _check_tiny(spec: ExtractorSpec, config: ExtractorConfig) -> None:
    build = partial(spec.build, config)
    check_type(build(), Extractor)
    segments, shape = fake_segments(config, 3), map_shape(config.feature_map())
    check_module(Trial(build, (segments,), (3, *shape)))
    extractor = fresh(build).eval()
    assert isinstance(extractor, Extractor)
    parts = {id(module) for module in extractor.modules()}
    assert all(id(block) in parts for block in extractor.transformer_blocks()), (
        "transformer_blocks gives a module that is no part of it"
    )
    what = "silence" if spec.modality == "audio" else "black frames"
    with torch.no_grad(), about(f"on {what}"):
        blank = blank_segments(config.frontend, config.segment_s, 2)
        check_output(extractor(blank), (2, *shape))
    check_times(extractor, segments[:1], config.feature_map().times_s, frame_s(config.frontend))
    _check_other_lengths(spec, config)
    if isinstance(extractor, MaskableExtractor):
        with about("masked"):
            _check_maskable(extractor, segments, config)


def _check_other_lengths(spec: ExtractorSpec, config: ExtractorConfig) -> None:
    """A refusal in one sentence is as good as an answer, but not for all lengths."""
    accepted = 0
    lengths_s = whole_lengths_s(config.frontend, OTHER_SEGMENTS_S)
    for segment_s in lengths_s:
        other = type(config).model_validate(config.model_dump() | {"segment_s": segment_s})
        with about(f"rebuilt for segments of {segment_s:g} s"):
            try:
                declared = other.feature_map()
                segments = fake_segments(other, 2)
            except ConfigError:
                continue
            accepted += 1
            check_clock(declared, segment_s)
            output = fresh(partial(spec.build, other))(segments)
            check_output(output, (2, *map_shape(declared)))
    assert accepted, f"takes none of the segment lengths {', '.join(f'{s:g}' for s in lengths_s)} s"


@torch.no_grad()
def _check_maskable(
    extractor: MaskableExtractor, segments: Tensor, config: ExtractorConfig
) -> None:
    """Check that patches can be left out: nothing of them is used, and nothing is computed."""
    steps, positions, dim = map_shape(config.feature_map())
    num, length = len(segments), steps * positions
    with about("patchify"):
        patches = extractor.patchify(segments)
        check_output(patches, (num, length, patches.shape[-1]))
    with about("targets"):
        targets = extractor.targets(segments)
        check_output(targets, (num, length, targets.shape[-1]))
    for part in (extractor.patchify, extractor.targets):
        with about(part.__name__):

            def by_step(given: Tensor, part: object = part) -> Tensor:
                return part(given).unflatten(1, (steps, positions))  # type: ignore[operator]

            check_times(
                by_step, segments[:1], config.feature_map().times_s, frame_s(config.frontend)
            )
    check_join(extractor.join, targets, segments, extractor.change_gain)
    everything = torch.arange(length).expand(num, -1)
    with about("encode of all patches"):
        whole = extractor.encode(patches, everything).unflatten(1, (steps, positions))
        check_output(whole, (num, steps, positions, dim))
        assert torch.allclose(whole, extractor(segments), atol=TOLERANCE), "differs from forward"
    few = max(1, length // 4)
    keep = torch.stack([torch.randperm(length)[:few].sort().values for _ in range(num)])  # (N, M)
    with about(f"encode of {few} of {length} patches"):
        holes = torch.full_like(patches, float("nan"))
        rows = torch.arange(num)[:, None]
        holes[rows, keep] = patches[rows, keep]
        kept = extractor.encode(patches, keep)
        check_output(kept, (num, few, dim))
        assert torch.equal(kept, extractor.encode(holes, keep)), (
            "depends on patches that are not kept"
        )
        share = _flops(extractor, patches, keep) / max(1, _flops(extractor, patches, everything))
        assert length < 4 or share < MASKED_COST, (
            f"costs {share:.0%} of all patches; compute only those that are kept"
        )


def check_join(
    join: Callable[[Tensor], Tensor], targets: Tensor, segments: Tensor, gain: float | None
) -> None:
    """Check that patches that can be put together are the segments again.

    Args:
        join: puts them together, or refuses.
        targets: values of all patches.
        segments: that they were cut out of.
        gain: of `emphasise_change`, if that came first.
    """
    with about("join"):
        try:
            joined = join(targets)
        except ConfigError:
            return
        joined = restore_change(joined, segments, gain)
        given = cut_like(segments, joined)
        assert joined.shape == given.shape, (
            f"gives {tuple(joined.shape)} of {tuple(segments.shape)}"
        )
        assert torch.allclose(joined, given, atol=TOLERANCE), (
            "does not give the segments back from their targets; is change_gain what it multiplies "
            "them by?"
        )


def _flops(extractor: MaskableExtractor, patches: Tensor, keep: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        extractor.encode(patches, keep)
    return int(counter.get_total_flops())
