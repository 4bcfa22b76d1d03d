"""The bottleneck transformer against arrays that the published modules made."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from avmae_golden import SHORT, arrays, check, check_gradients, fake_given, fill, needs_avmae
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from plugins.avmae.config import MbtConfig
from plugins.avmae.mbt import Mbt
from plugins.avmae.names import MBT, ONE_MODALITY
from plugins.linear import LinearSharedConfig
from plugins.linear.model import LinearSharedHead
from zoo.checkpoints.names import Names
from zoo.contracts import Frames, HeadInput, MelAmplitude, Modality
from zoo.models.patches import MODALITIES
from zoo.models.segments import Segments
from zoo.timeline import SegmentLayout

pytestmark = needs_avmae

TINY = {"av": 2, "av_early": 0, "av_late": 4, "a": 2, "v": 2}
BASE = {"vgg_av": 8, "vgg_a": 8, "vgg_v": 8, "as_a": 8}
STRIDES = {"audio": 29, "vision": 131}


class WideConfig(MbtConfig):
    """Frames of 48 x 64 pixels, as the small arrays were made with."""

    @property
    def vision_grid(self) -> tuple[int, int, int]:
        return 3, 3, 4


def build(name: str) -> tuple[Mbt, LinearSharedHead, Names]:
    """Return encoder and head of a golden model, with its stand-in weights."""
    is_tiny, last = name in TINY, name.rpartition("_")[2]
    which = {"a": "audio", "v": "vision"}.get(last, "both")
    given: dict[str, Any] = {"modalities": which, "fusion_layer": {**TINY, **BASE}[name]}
    if is_tiny:
        config: MbtConfig = WideConfig(
            width=48,
            heads=3,
            depth=4,
            vision_frontend=Frames(fps=25.0, size=48, short_side=48),
            vision_s=0.24,
            audio_frontend=MelAmplitude(n_mels=48),
            audio_s=0.72,
            **given,
        )
    else:
        config = MbtConfig(audio_s=10.0 if name.startswith("as") else 8.0, **given)
    encoder = Mbt(config)
    encoder.io = io = config.io()
    classes = 11 if is_tiny else 527 if name.startswith("as") else 309
    layout = SegmentLayout(num_segments=1, segment_s=io.segment_s, step_s=io.segment_s)
    head = LinearSharedHead(
        LinearSharedConfig(streams=which),  # type: ignore[arg-type]
        HeadInput(
            audio=io.audio.tokens, vision=io.vision.tokens, layout=layout, num_outputs=classes
        ),
    )
    names = MBT if which == "both" else ONE_MODALITY
    fill(encoder, "encoder", names)
    fill(head, "head", names)
    return encoder, head, names


def clips_of(name: str) -> dict[Modality, Tensor]:
    if name in TINY:
        return fake_given(("", "/b"), (6, 48, 64), (72, 48), "tiny_mbt_spec")
    mel = (1000, 128) if name.startswith("as") else (800, 128)
    return fake_given(("",), (32, 224, 224), mel, "base_mbt_spec")


def tokens_of(encoder: Mbt, given: dict[Modality, Tensor]) -> dict[Modality, Tensor]:
    """Return all tokens of the modalities that there are, after the norm."""
    if len(encoder.modalities) == 1:
        return {m: encoder.encode_alone(m, given[m]) for m in encoder.modalities}
    hidden = {m: encoder.encode_modality(m, encoder.patchify(m, given[m])) for m in MODALITIES}
    return dict(zip(MODALITIES, encoder.fuse(hidden["audio"], hidden["vision"]), strict=True))


def test_bottlenecks() -> None:
    encoder, _, _ = build("av")
    given = clips_of("av")
    with torch.no_grad():
        hidden = {m: encoder.encode_modality(m, encoder.patchify(m, given[m])) for m in MODALITIES}
        _, bottlenecks = encoder.exchange(hidden)  # type: ignore[arg-type]
    check("tiny_mbt/av.bottleneck", bottlenecks, 1e-5)


@pytest.mark.parametrize("name", TINY)
def test_tiny(name: str) -> None:
    encoder, head, names = build(name)
    given, file = clips_of(name), f"tiny_mbt/{name}"
    segments = Segments(given["audio"].unsqueeze(1), given["vision"].unsqueeze(1))
    with torch.no_grad():
        for modality, tokens in tokens_of(encoder, given).items():
            array = f"{name}.tokens_{SHORT[modality]}"
            if array in arrays("tiny_mbt"):
                check(f"tiny_mbt/{array}", tokens, 1e-5)
        check(f"{file}.logits", head(*encoder(segments)), 1e-5)
    head.train()
    outputs = head(*encoder(segments))
    answers = dict(zip(encoder.modalities, outputs.view(2, -1, 11).unbind(1), strict=True))
    for modality, answer in answers.items():
        check(f"{file}.train_logits_{SHORT[modality]}", answer.detach(), 1e-5)
    losses = {kind: loss_of(kind, answers) for kind in ("softmax", "sigmoid")}
    for kind, loss in losses.items():
        check(f"{file}.loss_{kind}", float(loss.detach()), 2e-5)
    if f"{name}.grad_keys" in arrays("tiny_mbt"):
        losses["softmax"].backward()
        parts: dict[str, nn.Module] = {"encoder": encoder, "head": head}
        check_gradients(file, parts, names)


def loss_of(kind: str, answers: dict[Modality, Tensor]) -> Tensor:
    """Return the mean over modalities, each against labels that are mixed its own way."""
    if kind == "softmax":
        labels = one_hot(torch.tensor([3, 7]), 11).float()
        loss = cross_entropy
    else:
        labels = torch.zeros(2, 11)
        labels[0, [1, 3, 8]] = labels[1, [0, 7]] = 1.0
        loss = partial(binary_cross_entropy_with_logits, reduction="sum")  # type: ignore[assignment]
    found = []
    for modality, answer in answers.items():
        share = {"vision": 0.8, "audio": 0.35}[modality]
        mixed = share * labels + (1 - share) * labels.flip(0)
        found.append(loss(answer, mixed * 0.7 + 0.3 / 11) / (1 if kind == "softmax" else 2))
    return torch.stack(found).mean()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "vgg_a" else pytest.mark.slow) for n in BASE]
)
def test_base(name: str) -> None:
    encoder, head, _ = build(name)
    given = clips_of(name)
    with torch.no_grad():
        found = tokens_of(encoder, given)
        answers = []
        for modality, tokens in found.items():
            held = tokens[:, :: STRIDES[modality], ::48]
            check(f"base_mbt/{name}.tokens_{SHORT[modality]}", held, 5e-5)
            answers.append(head.classifier(tokens.mean(1)))
            array = f"{name}.head_{SHORT[modality]}"
            if array in arrays("base_mbt"):
                check(f"base_mbt/{array}", answers[-1], 5e-5)
        check(f"base_mbt/{name}.logits", torch.stack(answers).mean(0), 5e-5)
