"""AVSiam's three heads, losses and averages over frames against the published code's arrays."""

from __future__ import annotations

import pytest
import torch
from golden import SALT, features, recipe
from ssl_golden import arrays, check, needs_ssl
from test_avsiam_parity import Both, published
from torch import Tensor

from plugins.linear.model import LinearEachHead
from zoo.models.config import Component
from zoo.models.model import Model, build_task
from zoo.models.segments import Segments
from zoo.training.recipe_builder import build_recipe

pytestmark = needs_ssl


@pytest.fixture(scope="module")
def given() -> Both:
    audio = features("cav_a", 2, 1024, 128).transpose(1, 2)
    return {"audio": audio, "vision": features("cav_v", 2, 3, 224, 224).unsqueeze(2)}


@pytest.fixture(scope="module")
def finetuned() -> Model:
    """A model with the three published heads."""
    recipe_ = build_recipe(
        extractor="avsiam",
        head="linear_each",
        preset="paper",
        overrides=[
            "encoder.mode=both",
            "encoder.doubled=true",
            f"task.classes={[f'{k}' for k in range(527)]}",
            "task.multi_label=true",
            "task.averaged=sigmoid",
        ],
    )
    model = Model(recipe_.model)
    encoder = model.encoder
    encoder.load_state_dict({name: published(name) for name in encoder.state_dict()})
    assert model.head is not None
    names = {"both": "mlp_head_mm", "audio": "mlp_head_a", "vision": "mlp_head"}
    for name, layer in model.head.classifiers.named_children():  # type: ignore[union-attr]
        state = {
            key: head_tensor(f"{names[name]}.{key}", *value.shape)
            for key, value in layer.state_dict().items()
        }
        layer.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def test_fine_tuned_logits_equal_the_published_code(finetuned: Model, given: Both) -> None:
    """Each modality by itself, and both with a mean of each."""
    head = finetuned.head
    assert isinstance(head, LinearEachHead)
    tokens = finetuned.encoder(Segments(given["audio"][:, None], given["vision"][:, None]))
    for streams, names in {
        "both": ("train_av",),
        "audio": ("train_a", "audioonly"),
        "vision": ("train_v", "videoonly_t1"),
    }.items():
        head.config = head.config.model_copy(update={"streams": streams})
        for name in names:
            check(f"avsiam_finetune/{name}", head(*tokens), 2e-5)


@torch.no_grad()
def test_norms_of_the_heads_have_the_published_epsilon(finetuned: Model) -> None:
    head = finetuned.head
    assert isinstance(head, LinearEachHead)
    for streams, name, given, dim in (
        ("audio", "mlp_head_a", "eps_x", 768),
        ("both", "mlp_head_mm", "eps_x2", 1536),
    ):
        outputs = head.classifiers[streams](1e-3 * features(given, 1, 8, dim))
        check(f"avsiam_pretrain/eps_{name}", outputs[..., ::8], 2e-5)


@torch.no_grad()
def test_losses_equal_the_published_ones() -> None:
    labels = torch.from_numpy(arrays("cavmae_finetune")["labels"])
    outputs = [torch.from_numpy(arrays("avsiam_finetune")[f"train_{x}"]) for x in ("av", "a", "v")]
    for loss in ("bce", "ce"):
        task = build_task(
            Component(
                name="classification",
                config={"classes": [f"{k}" for k in range(527)], "loss": loss, "multi_label": True},
            )
        )
        check(f"avsiam_finetune/{loss}", [float(task.loss(x, labels, 0.0)) for x in outputs], 1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_answers_over_ten_frames_equal_the_published_code(finetuned: Model, given: Both) -> None:
    """Sigmoids are averaged: of both modalities, and of the frames alone."""
    head, task = finetuned.head, finetuned.task
    assert isinstance(head, LinearEachHead)
    assert task is not None
    frames = features("avs_v10", 2, 10, 3, 224, 224).transpose(0, 1)  # (R, B, C, H, W)
    frames = frames[:, :, None, :, None]  # (R, B, S, C, Tv, H, W)
    tokens = [finetuned.encoder(Segments(given["audio"][:, None], one)) for one in frames]
    for streams, name, every in (("both", "av", 4), ("vision", "v", 16)):
        head.config = head.config.model_copy(update={"streams": streams})
        outputs = torch.stack([head(*pair) for pair in tokens])  # (R, B, K)
        check(f"avsiam_finetune/eval_{name}10", outputs.transpose(0, 1)[..., ::every], 2e-5)
        mean = task.average(outputs).sigmoid()
        check(f"avsiam_finetune/eval_{name}_prob", mean, 2e-6)


def head_tensor(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(recipe().fake_tensor(SALT, name, shape))
