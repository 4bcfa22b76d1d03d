"""What is measured against each other computes the same."""

import pytest
import torch

from benchmarks.reference.model import reference_towers
from zoo.model import SyncModel
from zoo.training.recipe import build_recipe

TINY = build_recipe(extractor="ast_motionformer", preset="tiny").model


@pytest.fixture(scope="module")
def model() -> SyncModel:
    torch.manual_seed(0)
    return SyncModel(TINY).eval()


@pytest.mark.parametrize("modality", ["audio", "vision"])
def test_the_reference_gives_the_same_tokens_and_gradients(model: SyncModel, modality: str) -> None:
    ours = getattr(model, modality)
    theirs = dict(zip(("audio", "vision"), reference_towers(model), strict=True))[modality]
    segments = torch.randn(3, *ours.frontend.segment_shape(ours.segment_s))
    gradients = []
    tokens = []
    for tower in (ours, theirs):
        model.zero_grad()
        tokens.append(tower(segments))
        tokens[-1].square().sum().backward()
        gradients.append({n: p.grad for n, p in ours.named_parameters() if p.grad is not None})
    assert torch.allclose(*tokens, atol=1e-4)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        scale = gradient.abs().max()
        assert torch.allclose(gradient, gradients[1][name], atol=1e-4 * float(scale) + 1e-6), name


def test_plain_bf16_attention_on_a_cpu_stays_near_fp32(model: SyncModel) -> None:
    tower = model.vision
    segments = torch.randn(2, *tower.frontend.segment_shape(tower.segment_s))
    with torch.no_grad():
        exact = tower(segments)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = tower(segments).float()
    assert torch.allclose(exact, rough, atol=0.05 * float(exact.abs().max()))
