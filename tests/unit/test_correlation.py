import pytest
import torch
from pydantic import JsonValue

from zoo.contracts import FeatureMap, HeadInput
from zoo.models.modules import Head
from zoo.models.segments import Tokens
from zoo.registry.manager import registry
from zoo.timeline import OffsetGrid, SegmentLayout

DIM = 32
AUDIO = FeatureMap(times_s=tuple(0.075 + 0.1 * i for i in range(6)), positions=1, dim=DIM)
VISION = FeatureMap(times_s=tuple(0.02 + 0.08 * i for i in range(8)), positions=1, dim=DIM)


def build(num_segments: int = 14, **config: JsonValue) -> Head:
    """Build the head as it is before training, with projections that change nothing."""
    spec = registry().head("correlation")
    sizes = spec.config_class.model_validate({"width": DIM, "sigma_s": 0.08, **config})
    layout = SegmentLayout(num_segments=num_segments)
    head = spec.build(
        sizes,
        HeadInput(audio=AUDIO, vision=VISION, layout=layout, num_outputs=21, grid=OffsetGrid()),
    )
    for projection in (head.audio_projection, head.vision_projection):
        torch.nn.init.eye_(projection.linear.weight)
    return head.eval()


def tokens(feature_map: FeatureMap, start_s: float, layout: SegmentLayout) -> Tokens:
    """Sample a random but smooth signal over time at the times of a crop's tokens."""
    times = [start_s + s + t for s in layout.starts_s for t in feature_map.times_s]
    generator = torch.Generator().manual_seed(0)
    frequency = torch.rand(DIM, generator=generator) * 2 + 0.3
    phase = torch.rand(DIM, generator=generator) * 6.28
    values = torch.sin(6.28 * torch.tensor(times)[:, None] * frequency + phase)  # (S*T, D)
    by_segment = values.unflatten(0, (layout.num_segments, -1))
    return Tokens.of_segments(by_segment, layout.num_segments, feature_map)


def crop(offset_s: float, layout: SegmentLayout) -> tuple[Tokens, Tokens]:
    """Cut audio ``offset_s`` later in the clip than video: the audio leads."""
    return tokens(AUDIO, 3.0 + offset_s, layout), tokens(VISION, 3.0, layout)


@pytest.mark.parametrize("target", [0, 4, 9, 10, 13, 20])
def test_a_shifted_pattern_gives_its_offset(target: int) -> None:
    grid, layout = OffsetGrid(), SegmentLayout()
    with torch.no_grad():
        logits = build()(*crop(grid.offsets_s[target], layout))
    assert int(logits.argmax()) == target


@pytest.mark.parametrize("num_segments", [6, 14, 30])
def test_the_crop_may_have_any_number_of_segments(num_segments: int) -> None:
    layout = SegmentLayout(num_segments=num_segments)
    with torch.no_grad():
        logits = build()(*crop(0.4, layout))
    assert OffsetGrid().offsets_s[int(logits.argmax())] == pytest.approx(0.4)


def test_the_curve_is_finer_than_the_grid() -> None:
    fine = torch.arange(-1.0, 1.0, 0.02)
    with torch.no_grad():
        curve = build().curve(*crop(0.3, SegmentLayout()), fine)  # between two classes
    assert curve.shape == (1, len(fine))
    assert float(fine[curve.argmax()]) == pytest.approx(0.3, abs=0.041)


def test_the_curve_at_the_classes_gives_the_logits() -> None:
    head = build()
    audio, vision = crop(-0.8, SegmentLayout())
    with torch.no_grad():
        offsets = torch.tensor(OffsetGrid().offsets_s)
        logits = head.gain * head.curve(audio, vision, offsets) + head.bias
        assert torch.allclose(head(audio, vision), logits, atol=1e-6)


def test_loudness_and_contrast_do_not_matter() -> None:
    head = build()
    audio, vision = crop(0.6, SegmentLayout())
    with torch.no_grad():
        scaled = audio.with_values(5 * audio.values), vision.with_values(0.1 * vision.values)
        assert torch.allclose(head(*scaled), head(audio, vision), atol=1e-4)


def test_a_centred_head_leaves_out_what_lasts() -> None:
    parts = crop(0.6, SegmentLayout())
    lasting = [part.with_values(part.values + 0.5) for part in parts]
    with torch.no_grad():
        for centred in (True, False):
            head = build(centred=centred, context=0)
            same = torch.allclose(head(*lasting), head(*parts), atol=1e-3)
            assert same == centred


def test_silence_gives_finite_logits() -> None:
    silent = [part.with_values(0 * part.values) for part in crop(0.0, SegmentLayout())]
    with torch.no_grad():
        logits = build()(*silent)
    assert bool(logits.isfinite().all())
