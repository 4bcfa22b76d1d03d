"""CAV-MAE and the objectives on it against arrays made with the published code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
import torch
from golden import REFERENCE, SALT, features, recipe, unit
from ssl_golden import arrays, check, frontend_items, needs_ssl, tokens_of
from torch import Tensor

from plugins.cavmae.config import CavMaeConfig
from plugins.cavmae.model import CavMae
from plugins.contrast_mae.config import ContrastMaeConfig
from plugins.contrast_mae.model import ContrastMae
from plugins.linear import LinearConfig
from plugins.linear.model import LinearHead
from zoo.contracts import HeadInput, Modality
from zoo.models.masks import STRIP, choose, masking_noise
from zoo.models.modules import take_patches
from zoo.models.patches import MODALITIES, normalise_patches
from zoo.models.segments import Segments
from zoo.models.stream_block import sine_cosine_grid
from zoo.retrieval.embedding import embed_segments
from zoo.timeline import SegmentLayout

pytestmark = needs_ssl
PRETRAIN, FINETUNE = "cavmae_pretrain", "cavmae_finetune"
Both = dict[Modality, Tensor]
Mode = Literal["joint", "apart", "other_missing"]


def filled(module: torch.nn.Module, inventory: str) -> torch.nn.Module:
    """Give a module the fake weights of the tensors of the same names."""
    shapes = {key: shape for key, shape, *_ in recipe().read_inventory(REFERENCE / inventory)}
    state = {
        name: torch.from_numpy(recipe().fake_tensor(SALT, name, shapes[name]))
        for name in module.state_dict()
    }
    module.load_state_dict(state)
    return module.eval()


@pytest.fixture(scope="module")
def encoder() -> CavMae:
    module = filled(CavMae(CavMaeConfig()), "cavmae_pretrain_keys.csv")
    assert isinstance(module, CavMae)
    return module


@pytest.fixture(scope="module")
def objective(encoder: CavMae) -> ContrastMae:
    module = ContrastMae(ContrastMaeConfig(), encoder)
    assert module.decoder is not None
    filled(module.decoder, "cavmae_pretrain_keys.csv")
    return module.eval()


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def given() -> Both:
    """Spectrograms ``(2, F, Ta)`` and single frames ``(2, C, 1, H, W)``."""
    audio = features("cav_a", 2, 1024, 128).transpose(1, 2)
    return {"audio": audio, "vision": features("cav_v", 2, 3, 224, 224).unsqueeze(2)}


@pytest.fixture(scope="module")
def items() -> Both:
    """The same of two clips, made by the front ends."""
    return frontend_items()


@pytest.fixture(scope="module")
def hidden(encoder: CavMae, given: Both) -> Both:
    """What the blocks of either modality give, of all patches."""
    with torch.no_grad():
        return {m: encoder.encode_modality(m, encoder.patchify(m, given[m])) for m in MODALITIES}


@pytest.fixture(scope="module")
def kept() -> tuple[Both, Both]:
    """Patches that the published masks keep, and those they hide."""
    keep: Both = {}
    hidden: Both = {}
    for modality, suffix, num in (("audio", "a", 128), ("vision", "v", 49)):
        order = torch.from_numpy(arrays(PRETRAIN)[f"ids_shuffle_{suffix}"].astype(np.int64))
        keep[modality], hidden[modality] = order[:, :num], order[:, num:]
    return keep, hidden


def test_positions_equal_the_published_ones() -> None:
    for name, width, rows, columns, every in (
        ("pos_embed_a", 768, 8, 64, 24),
        ("pos_embed_v", 768, 14, 14, 24),
        ("decoder_pos_embed_a", 512, 8, 64, 16),
        ("decoder_pos_embed_v", 512, 14, 14, 16),
    ):
        table = sine_cosine_grid(width, rows, columns)
        check(f"{PRETRAIN}/true_{name}", table[::37, ::every], 1e-6)


def test_tokens_and_features_equal_the_published_code(
    encoder: CavMae, given: Both, hidden: Both
) -> None:
    for modality, s in (("audio", "a"), ("vision", "v")):
        x = encoder.patchify(modality, given[modality])
        check(f"{PRETRAIN}/tok_{s}", tokens_of(x), 2e-5)
        stack = getattr(encoder, f"blocks_{s}")
        if modality == "audio":
            check(f"{PRETRAIN}/blk_a0", tokens_of(stack[0](x)), 2e-5)
        x = hidden[modality]
        check(f"{PRETRAIN}/blk_{s}10", tokens_of(x), 2e-5)
        x = encoder.compare(modality, x)
        check(f"{PRETRAIN}/feat_{s}", tokens_of(x), 2e-5)
        check(f"{PRETRAIN}/feat_{s}_mean", x.mean(1), 2e-5)


def test_similarities_of_retrieval_equal_the_published_ones(
    encoder: CavMae, given: Both, hidden: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "encode_modality", lambda modality, _: hidden[modality])
    audio, vision = (unit(embed_segments(encoder, m, given[m])) for m in MODALITIES)
    check(f"{PRETRAIN}/retrieval_sim", audio @ vision.T, 2e-5)


def test_the_masked_encoder_and_the_decoder_equal_the_published_code(
    encoder: CavMae, objective: ContrastMae, given: Both, kept: tuple[Both, Both]
) -> None:
    keep, hidden = kept
    encoded = {
        m: encoder.encode_modality(m, encoder.patchify(m, given[m], keep[m])) for m in MODALITIES
    }
    audio, vision = encoder.fuse(encoded["audio"], encoded["vision"])
    joint = torch.cat([audio, vision], 1)
    check(f"{PRETRAIN}/enc_joint", joint[:, ::13, ::48], 2e-5)
    check(f"{PRETRAIN}/enc_joint_mean", joint.mean(1), 2e-5)
    compared = {m: encoder.compare(m, encoded[m]) for m in MODALITIES}
    check(f"{PRETRAIN}/enc_a", compared["audio"][:, ::13, ::48], 2e-5)
    check(f"{PRETRAIN}/enc_v", compared["vision"][:, ::7, ::48], 2e-5)
    decoder = objective.decoder
    assert decoder is not None
    decoded = decoder({"audio": audio, "vision": vision}, keep)
    losses = {}
    for modality, s, every in (("audio", "a", 16), ("vision", "v", 48)):
        values = decoder.predict(modality, decoded[modality])
        check(f"{PRETRAIN}/pred_{s}", values[:, ::37, ::every], 2e-5)
        target = encoder.targets(modality, given[modality])
        check(f"{PRETRAIN}/target_{s}", target[:, ::37, ::every], 0)
        told, wanted = (take_patches(x, hidden[modality]) for x in (values, target))
        losses[s] = (told - normalise_patches(wanted)).square().mean()
        check(f"{PRETRAIN}/loss_mae_{s}", (told - wanted).square().mean(), 1e-5)
        check(f"{PRETRAIN}/loss_mae_{s}_norm", losses[s], 1e-5)
    pooled = compared["audio"].mean(1), compared["vision"].mean(1)
    for is_symmetric, name in ((False, "nce_oneway"), (True, "nce_sym")):
        config = ContrastMaeConfig(symmetric=is_symmetric, mae_weight=0)
        found = ContrastMae(config, encoder).contrast(*pooled)
        check(f"{PRETRAIN}/{name}", found["contrast_loss"], 1e-5)
        check(f"{PRETRAIN}/{name}_acc", found["contrast_accuracy"], 1e-5)


def test_the_whole_objective_equals_the_published_code(
    encoder: CavMae,
    objective: ContrastMae,
    given: Both,
    kept: tuple[Both, Both],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ContrastMae, "hide", lambda *_: kept)
    segments = Segments(given["audio"].unsqueeze(1), given["vision"].unsqueeze(1))
    with torch.enable_grad():
        found = objective(encoder, segments, lambda tensor: tensor)
        found["loss"].backward()
    weighted = 0.01 * found["contrast_loss"]
    mae = found["audio_loss"] + found["vision_loss"]
    parts = (found["loss"], mae, found["audio_loss"], found["vision_loss"], weighted)
    values = [float(value) for value in (*parts, found["contrast_accuracy"])]
    check(f"{PRETRAIN}/forward_losses", values, 1e-5)
    named = {**dict(encoder.named_parameters()), **dict(objective.decoder.named_parameters())}
    theirs = arrays(PRETRAIN)
    for key, norm in zip(theirs["grad_keys"], theirs["grad_norms"], strict=True):
        gradient = named[str(key)].grad
        assert gradient is not None
        assert float(gradient.norm()) == pytest.approx(float(norm), rel=1e-3), key
    for parameter in named.values():
        parameter.grad = None


def test_inpainting_equals_the_published_code(
    encoder: CavMae,
    objective: ContrastMae,
    items: Both,
    kept: tuple[Both, Both],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the prediction where patches were removed, the input elsewhere."""
    monkeypatch.setattr(objective, "config", ContrastMaeConfig(norm_targets=False))
    found = objective.inpaint(encoder, items, *kept)
    audio, vision = (found[m].rebuilt for m in MODALITIES)
    check(f"{PRETRAIN}/inpaint_paste_a", audio[:, ::9, ::31], 1e-3)
    check(f"{PRETRAIN}/inpaint_paste_v", vision[:, :, 0, ::25, ::25], 1e-3)
    check(f"{PRETRAIN}/inpaint_losses", [found[m].error for m in MODALITIES], 1e-3)


def test_the_contrast_of_sixteen_clips_equals_the_published_one(encoder: CavMae) -> None:
    vision = features("nce_v", 16, 768)
    audio = 0.08 * vision + features("nce_a", 16, 768)
    for is_symmetric, name in ((False, "nce16_oneway"), (True, "nce16_sym")):
        config = ContrastMaeConfig(symmetric=is_symmetric, mae_weight=0)
        found = ContrastMae(config, encoder).contrast(audio, vision)
        check(f"{PRETRAIN}/{name}", found["contrast_loss"], 1e-5)
    swapped = ContrastMae(ContrastMaeConfig(mae_weight=0), encoder).contrast(vision, audio)
    check(f"{PRETRAIN}/nce16_swapped", swapped["contrast_loss"], 1e-5)


@pytest.mark.parametrize("name", ["time", "freq", "tf"])
def test_strips_hide_what_the_published_ones_do(encoder: CavMae, name: str) -> None:
    """With ``tf`` the strips hold more than may be hidden, and ties are broken by chance."""
    theirs, grid = arrays(PRETRAIN), encoder.grids["audio"]
    noise = torch.from_numpy(theirs["noise_a"].copy()).unflatten(1, (grid.rows, grid.columns))
    for clip, columns, rows in zip(
        noise, theirs[f"struct_{name}_t"], theirs[f"struct_{name}_f"], strict=True
    ):
        clip[:, columns.astype(int)] = STRIP
        clip[rows.astype(int)] = STRIP
    _, hidden = choose(noise.flatten(1), 0.75)
    mask = torch.zeros(2, 512, dtype=torch.uint8).scatter(1, hidden, 1)
    assert mask.sum(1).tolist() == [384, 384]
    if name != "tf":
        check(f"{PRETRAIN}/struct_{name}_mask", mask, 0)
    mode = {"time": "time", "freq": "frequency", "tf": "both"}[name]
    ours = masking_noise(1, grid, 0.75, mode).unflatten(1, (grid.rows, grid.columns))[0]
    is_strip = ours == STRIP
    assert is_strip.all(0).sum() == theirs[f"struct_{name}_t"].shape[1]
    assert is_strip.all(1).sum() == theirs[f"struct_{name}_f"].shape[1]


def test_norms_have_the_published_epsilon(encoder: CavMae, objective: ContrastMae) -> None:
    x, xd = (1e-3 * features(name, 1, 8, dim) for name, dim in (("eps_x", 768), ("eps_xd", 512)))
    decoder = objective.decoder
    assert decoder is not None
    found = {
        "block_a0": encoder.blocks_a[0](x),
        "block_u0": encoder.blocks_u[0](x),
        "block_u0_a": encoder.blocks_u[0](x, "a"),
        "block_u0_v": encoder.blocks_u[0](x, "v"),
        "norm": encoder.norm(x),
        "norm_a": encoder.norm_a(x),
        "norm_v": encoder.norm_v(x),
        "decoder_block0": decoder.decoder_blocks[0](xd),
        "decoder_norm": decoder.decoder_norm(xd),
    }
    for name, values in found.items():
        check(f"{PRETRAIN}/eps_{name}", values[..., ::8], 2e-5)


MODES: list[tuple[str, Mode, str]] = [
    ("multimodal", "joint", "both"),
    ("audioonly", "apart", "audio"),
    ("videoonly", "apart", "vision"),
    ("missingaudioonly", "other_missing", "audio"),
    ("missingvideoonly", "other_missing", "vision"),
]


@pytest.mark.parametrize(("name", "mode", "streams"), MODES)
def test_logits_equal_the_published_code(
    encoder: CavMae,
    given: Both,
    hidden: Both,
    name: str,
    mode: Mode,
    streams: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With every mode of fine-tuning, and either modality missing."""
    logits = logits_of(encoder, given, hidden, mode, streams, monkeypatch)
    check(f"{FINETUNE}/logits_{name}", logits, 2e-5)
    if name == "multimodal":
        labels = torch.full((2, 527), 0.1 / 527)
        labels[0, [5, 77]] = labels[1, 300] = 0.9
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        check(f"{FINETUNE}/bce_loss", bce, 1e-5)
        check(f"{FINETUNE}/ce_loss", torch.nn.functional.cross_entropy(logits, labels), 1e-5)


def test_features_and_logits_of_clips_equal_the_published_code(
    encoder: CavMae, items: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the waveform and the frame on: front ends, encoder, head."""
    hidden = {m: encoder.encode_modality(m, encoder.patchify(m, items[m])) for m in MODALITIES}
    for modality, s in (("audio", "a"), ("vision", "v")):
        mean = encoder.compare(modality, hidden[modality]).mean(1)
        check(f"{PRETRAIN}/e2e_feat_{s}_mean", mean, 1e-3)
    for name, mode, streams in MODES[:3]:
        logits = logits_of(encoder, items, hidden, mode, streams, monkeypatch)
        check(f"{FINETUNE}/e2e_logits_{name}", logits, 1e-3)


def logits_of(
    encoder: CavMae,
    given: Both,
    hidden: Both,
    mode: Mode,
    streams: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Tensor:
    """Return the logits of the published head; what the blocks of a modality give is known."""
    config = CavMaeConfig(mode=mode, pool_positions=False)
    monkeypatch.setattr(encoder, "mode", mode)
    monkeypatch.setattr(encoder, "io", config.io(), raising=False)
    monkeypatch.setattr(encoder, "encode_modality", lambda modality, _: hidden[modality])
    layout = SegmentLayout(num_segments=1, segment_s=10.24, step_s=10.24)
    io = config.io()
    head_input = HeadInput(
        audio=io.audio.tokens, vision=io.vision.tokens, layout=layout, num_outputs=527
    )
    head = LinearHead(LinearConfig(streams=streams, pool="tokens", norm="layer"), head_input)
    theirs = {"norm": "mlp_head.0", "classifier": "mlp_head.1"}
    state = head.state_dict()
    for key, tensor in state.items():
        part, kind = key.split(".")
        fake = recipe().fake_tensor(SALT, f"{theirs[part]}.{kind}", tensor.shape)
        state[key] = torch.from_numpy(fake)
    head.load_state_dict(state)
    segments = Segments(given["audio"].unsqueeze(1), given["vision"].unsqueeze(1))
    return head(*encoder.encode(segments))
