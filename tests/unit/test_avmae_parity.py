"""Audiovisual MAE against arrays that the published modules made."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from avmae_golden import (
    CUT,
    SHORT,
    arrays,
    check,
    check_gradients,
    fake_given,
    fill,
    names_of,
    needs_avmae,
)
from golden import SALT, recipe
from torch import Tensor

from plugins.avmae.config import AvmaeConfig
from plugins.avmae.model import Avmae
from plugins.mae.both import MaeOfBoth
from plugins.mae.config import DecoderConfig, MaeOfBothConfig
from zoo.contracts import Frames, MelAmplitude, Modality
from zoo.data.frontend import _mel_triangles, log_mel_amplitude
from zoo.models.patches import MODALITIES
from zoo.models.segments import Segments
from zoo.models.stream_block import sine_cosine_row

pytestmark = needs_avmae

TINY = ["separate_same", "shared_same", "early_same", "mid_same", "early_separate", "early_concat"]
TINY += ["separate_same_inpaint", "mid_same_inpaint", "early_same_modtok"]
BASE = [name for name in TINY if name not in {"mid_same_inpaint", "early_same_modtok"}]
IN_SUITE = {"mid_same"}  # the others of base size take half a minute each
DECODERS = {"same": "shared", "separate": "separate", "concat": "concat"}
CHANNELS = {"enc": 48, "dec": 24}  # every 48th or 24th is held of the base size


class WideConfig(AvmaeConfig):
    """Frames of 48 x 64 pixels, as the small arrays were made with."""

    @property
    def vision_grid(self) -> tuple[int, int, int]:
        return 2, 3, 4


def build(name: str, size: str) -> tuple[Avmae, MaeOfBoth]:
    """Return encoder and objective of a golden model, with its stand-in weights."""
    fusion, decoders, *rest = name.split("_")
    has_vectors = "modtok" in rest
    given: dict[str, Any] = {"fusion": fusion, "modality_tokens": has_vectors}
    if size == "tiny":
        small = Frames(fps=25.0, size=48, short_side=48)
        mel = MelAmplitude(n_mels=48)
        encoder = Avmae(
            WideConfig(
                width=48,
                heads=3,
                depth=4,
                vision_frontend=small,
                vision_s=0.16,
                audio_frontend=mel,
                audio_s=0.72,
                **given,
            )
        )
        decoder, ratios = DecoderConfig(width=24, depth=2, heads=2), (0.55, 0.8)
    else:
        encoder = Avmae(AvmaeConfig(**given))
        decoder, ratios = DecoderConfig(), (0.5, 0.9)
    config = MaeOfBothConfig(
        decoders=DECODERS[decoders],
        decoder=decoder,
        audio_ratio=ratios[0],
        vision_ratio=ratios[1],
        inpainting="by_place" if "inpaint" in rest else "none",
        modality_tokens=has_vectors,
    )
    objective = MaeOfBoth(config, encoder)
    fill(encoder, "encoder", names_of(fusion))
    fill(objective, "objective", names_of(fusion))
    return encoder, objective


@cache
def given_clips(size: str) -> dict[Modality, Tensor]:
    if size == "tiny":
        return fake_given(("", "/b"), (4, 48, 64), (72, 48), "tiny_spec")
    return fake_given(("",), (16, 224, 224), (800, 128), "base_spec")


def stored_masks(size: str) -> tuple[dict[Modality, Tensor], dict[Modality, Tensor]]:
    """Return the patches that are kept and those that are hidden, as the arrays say."""
    kept, hidden = (
        {
            m: torch.from_numpy(arrays(f"{size}_pretrain")[f"mask_{SHORT[m]}_{kind}"]).long()
            for m in MODALITIES
        }
        for kind in ("unmasked", "masked")
    )
    return kept, hidden


def held(size: str, kind: str, modality: Modality, x: Tensor) -> Tensor:
    """Return what the arrays hold of a tensor."""
    values = (
        CUT[modality] if size == "tiny" else slice(None, None, 64 if modality == "vision" else 16)
    )
    tokens = (
        slice(None) if size == "tiny" else slice(None, None, 97 if modality == "vision" else 25)
    )
    if kind in {"pred", "target"}:
        return x[:, tokens, values]
    return x if size == "tiny" else x[:, ::13, :: CHANNELS.get(kind, 48)]


@torch.no_grad()
def run(encoder: Avmae, objective: MaeOfBoth, size: str) -> dict[Modality, dict[str, Tensor]]:
    """Return what a golden model gives, in full."""
    given, (keep, _) = given_clips(size), stored_masks(size)
    decoder = objective.decoder
    encoded = objective.encode(encoder, given, keep)
    if objective.config.inpainting == "none":
        decoded = decoder.decode(encoded, keep)
    else:
        decoded = {m: decoder.decode_in_places(m, encoded) for m in MODALITIES}
    return {
        m: {"enc": encoded[m], "dec": decoded[m], "pred": decoder.predict[m](decoded[m])}
        for m in MODALITIES
    }


CASES = [pytest.param(name, "tiny", id=f"{name}-tiny") for name in TINY]
CASES += [
    pytest.param(
        name, "base", id=f"{name}-base", marks=() if name in IN_SUITE else (pytest.mark.slow,)
    )
    for name in BASE
]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_encoder_decoder_and_loss(name: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tolerance = 1e-5 if size == "tiny" else 5e-5
    file = f"{size}_pretrain"
    encoder, objective = build(name, size)
    for modality, found in run(encoder, objective, size).items():
        for kind, tensor in found.items():
            array = f"{file}/{name}.{kind}_{SHORT[modality]}"
            check(array, held(size, kind, modality, tensor), tolerance)
    monkeypatch.setattr(objective, "hide", lambda *_: stored_masks(size))
    given = given_clips(size)
    segments = Segments(given["audio"].unsqueeze(1), given["vision"].unsqueeze(1))
    has_gradients = f"{name}.grad_keys" in arrays(file)
    with torch.set_grad_enabled(has_gradients):
        losses = objective(encoder, segments, lambda x: x)
    ours = [losses["vision_loss"], losses["audio_loss"], losses["loss"]]
    check(f"{file}/{name}.loss", [float(x.detach()) for x in ours], 2e-5)
    if has_gradients:
        losses["loss"].backward()
        parts = {"encoder": encoder, "objective": objective}
        check_gradients(f"{file}/{name}", parts, names_of(name.partition("_")[0]))


@pytest.mark.parametrize("name", [n for n in TINY if n.endswith("_same")])
def test_encoder_without_masks(name: str) -> None:
    encoder, _ = build(name, "tiny")
    given = given_clips("tiny")
    with torch.no_grad():
        hidden = {m: encoder.encode_modality(m, encoder.patchify(m, given[m])) for m in MODALITIES}
        fused = encoder.fuse(hidden["audio"], hidden["vision"])
    for modality, tokens in zip(MODALITIES, fused, strict=True):
        check(f"tiny_pretrain/{name}.encfull_{SHORT[modality]}", tokens, 1e-5)


@pytest.mark.parametrize("size", ["tiny", "base"])
def test_tokens_and_targets(size: str) -> None:
    encoder, _ = build("early_same", size)
    given, file = given_clips(size), f"{size}_pretrain"
    for modality in MODALITIES:
        embed, _ = encoder.embedding(modality)
        with torch.no_grad():
            tokens = embed(encoder._cut(modality, given[modality]))
        check(f"{file}/tokens_{SHORT[modality]}", held(size, "tokens", modality, tokens), 5e-5)
        targets = encoder.targets(modality, given[modality])
        check(f"{file}/target_{SHORT[modality]}", held(size, "target", modality, targets), 0)


@pytest.mark.parametrize("name", ["separate_same_inpaint", "mid_same_inpaint"])
def test_places_that_inpainting_predicts(name: str) -> None:
    encoder, objective = build(name, "tiny")
    keep, hidden = stored_masks("tiny")
    with torch.no_grad():
        _, places = objective.rebuild(encoder, given_clips("tiny"), keep, hidden)
    for modality, numbers in places.items():
        array = f"tiny_pretrain/{name}.tokenmask_{SHORT[modality]}_sum"
        check(array, [numbers.shape[1]] * len(numbers), 0)


@pytest.mark.parametrize(
    ("name", "frontend"),
    [
        ("rec", MelAmplitude()),
        ("dmvr", MelAmplitude(n_fft=400, low_hz=80.0, high_hz=7600.0, floor=1e-6)),
    ],
)
def test_front_end(name: str, frontend: MelAmplitude) -> None:
    wave = torch.from_numpy(recipe().fake_audio(SALT, samples=128_000))
    mel = log_mel_amplitude(wave[None], frontend)[0].T  # (Ta, F)
    check(f"frontend/{name}_logmel", mel[::8, ::4], 1e-3)
    check(f"frontend/{name}_full_frame", mel[[0, 1, 400, -2, -1]], 1e-3)
    check(f"frontend/{name}_mean_std", [mel.mean(), mel.std(correction=0)], 1e-3)
    sums = _mel_triangles(frontend).sum(0)
    check(f"frontend/{name}_mel_colsum", sums, 1e-5)
    check(f"frontend/{name}_empty_mels", int((sums == 0).sum()), 0)


def test_positions_are_sines_and_cosines_in_turn() -> None:
    table = sine_cosine_row(8, 50).numpy()
    rates = np.exp(-np.arange(0, 8, 2) * np.log(10_000) / 8)
    assert np.allclose(table[7, 0::2], np.sin(7 * rates), atol=1e-6)
    assert np.allclose(table[7, 1::2], np.cos(7 * rates), atol=1e-6)
