"""AVSiam and its objective against arrays made with the published code."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from golden import REFERENCE, SALT, features, recipe, unit
from ssl_golden import arrays, check, needs_ssl, tokens_of
from torch import Tensor

from plugins.avsiam import layout
from plugins.avsiam.config import AvsiamConfig
from plugins.avsiam.model import AudioBlocks, Avsiam
from plugins.contrast_mae.config import RATIOS, ContrastMaeConfig
from plugins.contrast_mae.model import ContrastMae
from zoo.contracts import Modality
from zoo.models.masks import masking_noise
from zoo.models.modules import take_patches
from zoo.models.patches import MODALITIES
from zoo.models.segments import Segments
from zoo.retrieval.embedding import embed_segments

pytestmark = needs_ssl
PRETRAIN = "avsiam_pretrain"
Both = dict[Modality, Tensor]
SUFFIX: dict[Modality, str] = {"audio": "a", "vision": "v"}


def fake(name: str) -> Tensor:
    shapes = {
        key: shape
        for key, shape, *_ in recipe().read_inventory(REFERENCE / "avsiam_pretrain_keys.csv")
    }
    return torch.from_numpy(recipe().fake_tensor(SALT, name, shapes[name]))


def published(name: str) -> Tensor:
    """Return the tensor that theirs have in the place of one of ours."""
    if name == "pos_embed":
        return fake("vit_base.pos_embed")[:, 1:]
    if name.startswith("joint."):
        _, number, rest = name.split(".", 2)
        return fake(f"mm_layer_{int(number) + 1}.{rest}")
    return fake(f"vit_base.{name}")


@pytest.fixture(scope="module")
def encoder() -> Avsiam:
    module = Avsiam(AvsiamConfig(doubled=True))
    module.load_state_dict({name: published(name) for name in module.state_dict()})
    return module.eval()


@pytest.fixture(scope="module")
def own_audio(encoder: Avsiam) -> ContrastMae:
    """The objective as published: audio is rebuilt from tokens of a second transformer."""
    config = layout.build_config(AvsiamConfig())
    assert config.objective is not None
    module = ContrastMae(ContrastMaeConfig.model_validate(config.objective.config), encoder)
    names = {name: layout.NAMES(f"objective.{name}")[0] for name in module.state_dict()}
    module.load_state_dict({name: fake(theirs) for name, theirs in names.items()})
    return module.eval()


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def given() -> Both:
    audio = features("cav_a", 2, 1024, 128).transpose(1, 2)
    return {"audio": audio, "vision": features("cav_v", 2, 3, 224, 224).unsqueeze(2)}


def test_tokens_and_features_equal_the_published_code(encoder: Avsiam, given: Both) -> None:
    for modality in MODALITIES:
        s = SUFFIX[modality]
        x = encoder.patchify(modality, given[modality])
        check(f"{PRETRAIN}/emb_{s}_single", tokens_of(x), 2e-5)
        check(f"{PRETRAIN}/emb_{s}", tokens_of(2 * x), 2e-5)
        check(f"{PRETRAIN}/blk_{s}0", tokens_of(encoder.blocks[0](2 * x, s)), 2e-5)
        x = encoder.compare(modality, encoder.encode_modality(modality, x))
        check(f"{PRETRAIN}/feat_{s}", tokens_of(x), 2e-5)
        check(f"{PRETRAIN}/feat_{s}_mean", x.mean(1), 2e-5)


def test_similarities_of_retrieval_equal_the_published_ones(encoder: Avsiam, given: Both) -> None:
    audio, vision = (unit(embed_segments(encoder, m, given[m])) for m in MODALITIES)
    check(f"{PRETRAIN}/retrieval_sim", audio @ vision.T, 2e-5)


def test_tokens_of_the_published_retrieval_mode_are_compared(encoder: Avsiam, given: Both) -> None:
    """It takes frame 5 of the ten."""
    frame = features("avs_v10", 2, 10, 3, 224, 224)[:, 5].unsqueeze(2)
    for name, modality, segments in (
        ("retr_a", "audio", given["audio"]),
        ("retr_v5", "vision", frame),
    ):
        x = encoder.encode_alone(modality, segments)
        check(f"avsiam_finetune/{name}", tokens_of(x), 2e-5)
        mean = embed_segments(encoder, modality, segments)
        check(f"avsiam_finetune/{name}_mean", mean, 2e-5)


@pytest.fixture(scope="module")
def kept() -> tuple[Both, Both]:
    """Patches that the published masks keep, and those they hide."""
    keep: Both = {}
    hidden: Both = {}
    for modality, num in (("audio", 128), ("vision", 49)):
        noise = torch.from_numpy(arrays("cavmae_pretrain")[f"noise_{SUFFIX[modality]}"])
        order = noise.argsort(dim=1)
        keep[modality], hidden[modality] = order[:, :num], order[:, num:]
    return keep, hidden


@pytest.mark.parametrize("num", [5, pytest.param(6, marks=pytest.mark.slow), 2])
def test_the_contrast_at_several_ratios_equals_the_published_code(
    encoder: Avsiam, num: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published permutations and kept patches are fed in place of random ones."""
    theirs, name = arrays(PRETRAIN), f"mix{num}"
    objective = ContrastMae(
        ContrastMaeConfig(mae_weight=0, symmetric=True, contrast_ratios=RATIOS), encoder
    )
    pooled: Both = {}
    for modality in MODALITIES:
        s, calls = SUFFIX[modality], iter(range(num))
        audio = features(f"mix_a{num}", num, 1024, 128).transpose(1, 2)
        segments = audio
        if modality == "vision":
            segments = features(f"mix_v{num}", num, 3, 224, 224).unsqueeze(2)
        order = torch.from_numpy(theirs[f"{name}_perm_{s}"].astype(np.int64))
        rows = theirs[f"{name}_ids_keep_{s}"].astype(np.int64)

        def chosen(noise: Tensor, ratio: float, rows=rows, calls=calls) -> tuple[Tensor, Tensor]:
            kept = [rows[next(calls)] for _ in noise]
            keep = torch.from_numpy(np.stack([row[row >= 0] for row in kept]))
            assert keep.shape[1] == int(noise.shape[1] * (1 - ratio))
            return keep, keep

        monkeypatch.setattr(torch, "randperm", lambda *_a, order=order, **_k: order)
        monkeypatch.setattr("plugins.contrast_mae.model.choose", chosen)
        monkeypatch.setattr(
            "plugins.contrast_mae.model.masking_noise",
            lambda num, grid, *_: torch.zeros(num, grid.num_patches),
        )
        pooled[modality] = objective.multi_ratio(encoder, modality, segments)
        check(f"{PRETRAIN}/{name}_c{s}", pooled[modality], 2e-5)
    found = objective.contrast(pooled["audio"], pooled["vision"])
    check(f"{PRETRAIN}/{name}_loss", found["contrast_loss"], 1e-5)
    check(f"{PRETRAIN}/{name}_acc", found["contrast_accuracy"], 1e-5)


def test_batches_are_shared_out_as_published(encoder: Avsiam) -> None:
    theirs = arrays(PRETRAIN)
    for num, *sizes in theirs["chunk_table"].tolist():
        parts = [len(part) for part in torch.arange(num).chunk(len(RATIOS))]
        assert parts == [size for size in sizes if size > 0]
    audio, vision = (encoder.grids[m] for m in MODALITIES)
    for number, (ratio, kept_a, kept_v, columns, rows) in enumerate(theirs["keep_table"].tolist()):
        assert RATIOS[number] == pytest.approx(ratio)
        assert int(audio.num_patches * (1 - RATIOS[number])) == kept_a
        assert int(vision.num_patches * (1 - RATIOS[number])) == kept_v
        noise = masking_noise(1, audio, RATIOS[number], "both").unflatten(1, (8, 64))[0]
        assert ((noise > 1).all(0).sum(), (noise > 1).all(1).sum()) == (columns, rows)


def test_reconstruction_equals_the_published_code_with_the_shared_encoder(
    encoder: Avsiam, given: Both, kept: tuple[Both, Both]
) -> None:
    objective = ContrastMae(
        ContrastMaeConfig(decoder_positions="learnt", norm_targets=False), encoder
    )
    decoder = objective.decoder
    assert decoder is not None
    decoder.load_state_dict({name: fake(name) for name in decoder.state_dict()})
    decoder.eval()
    keep, hidden = kept
    encoded = objective.encode_kept(encoder, given, keep)
    check(f"{PRETRAIN}/mae_enc_a_shared_mean", encoded["audio"].mean(1), 2e-5)
    check(f"{PRETRAIN}/mae_enc_v_mean", encoded["vision"].mean(1), 2e-5)
    rebuilt = objective.rebuild(encoder, encoded, keep, hidden)
    for modality in MODALITIES:
        wanted = take_patches(encoder.targets(modality, given[modality]), hidden[modality])
        loss = (rebuilt[modality] - wanted).square().mean()
        check(f"{PRETRAIN}/loss_mae_{SUFFIX[modality]}_shared", loss, 1e-5)


def test_reconstruction_equals_the_published_code_with_a_second_transformer(
    encoder: Avsiam, own_audio: ContrastMae, given: Both, kept: tuple[Both, Both]
) -> None:
    keep, decoder = kept[0], own_audio.decoder
    assert decoder is not None
    encoded = own_audio.encode_kept(encoder, given, keep)
    for modality in MODALITIES:
        check(f"{PRETRAIN}/mae_enc_{SUFFIX[modality]}_mean", encoded[modality].mean(1), 2e-5)
    check(f"{PRETRAIN}/mae_enc", torch.cat([*encoded.values()], 1)[:, ::13, ::48], 2e-5)
    fused = dict(zip(MODALITIES, encoder.fuse(encoded["audio"], encoded["vision"]), strict=True))
    check(f"{PRETRAIN}/mm_out", torch.cat([*fused.values()], 1)[:, ::13, ::48], 2e-5)
    decoded = decoder(fused, keep)
    for modality, every in (("audio", 16), ("vision", 48)):
        values = decoder.predict(modality, decoded[modality])
        check(f"{PRETRAIN}/pred_{SUFFIX[modality]}", values[:, ::37, ::every], 2e-5)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_the_turn_of_the_reconstruction_equals_the_published_code(
    encoder: Avsiam,
    own_audio: ContrastMae,
    given: Both,
    kept: tuple[Both, Both],
    weight: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its weight says only whether it is there; gradients reach all that they do in theirs."""
    monkeypatch.setattr(ContrastMae, "hide", lambda *_: kept)
    config = own_audio.config.model_copy(update={"mae_weight": weight})
    monkeypatch.setattr(own_audio, "config", config)
    segments = Segments(given["audio"].unsqueeze(1), given["vision"].unsqueeze(1))
    with torch.set_grad_enabled(weight == 1):
        found = own_audio.take_turn("reconstruction", encoder, segments, lambda tensor: tensor)
    parts = [found["loss"], found["loss"], found["audio_loss"], found["vision_loss"], 0, 0]
    name = "forward_mae" if weight == 1 else f"forward_mae_w{weight:g}"
    check(f"{PRETRAIN}/{name}", [float(value) for value in parts], 1e-5)
    for modality in MODALITIES:
        s = SUFFIX[modality]
        check(f"{PRETRAIN}/loss_mae_{s}", found[f"{modality}_loss"].detach(), 1e-5)
    if weight == 1:
        found["loss"].backward()
        check_gradients(encoder, own_audio)


def check_gradients(encoder: Avsiam, objective: ContrastMae) -> None:
    """Compare norms of gradients with the published ones, and what has none; clear them."""
    named: dict[str, torch.nn.Parameter] = {}
    for prefix, module in (("encoder", encoder), ("objective", objective)):
        for name, parameter in module.named_parameters():
            named[layout.NAMES(f"{prefix}.{name}")[0]] = parameter
    theirs = arrays(PRETRAIN)
    for key, norm in zip(theirs["grad_keys"], theirs["grad_norms"], strict=True):
        gradient = named[str(key)].grad
        found = -1.0 if gradient is None else float(gradient.norm())
        assert found == pytest.approx(float(norm), rel=1e-3), key
    without = {name for name, parameter in named.items() if parameter.grad is None}
    unused = set(layout._unused(layout.build_config(AvsiamConfig()))) - {layout.CLASS_ROW}
    assert len(without | unused) == int(theirs["no_grad_count"])
    for parameter in named.values():
        parameter.grad = None


def test_norms_have_the_published_epsilon(encoder: Avsiam, own_audio: ContrastMae) -> None:
    second = own_audio.audio_encoder
    assert isinstance(second, AudioBlocks)
    decoder = own_audio.decoder
    assert decoder is not None
    x, xd = (1e-3 * features(name, 1, 8, dim) for name, dim in (("eps_x", 768), ("eps_xd", 512)))
    found = {
        "block0_a": encoder.blocks[0](x, "a"),
        "block0_v": encoder.blocks[0](x, "v"),
        "norm": encoder.norm(x),
        "norm_a": encoder.norm_a(x),
        "mm_layer_1": encoder.joint[0](x, "a"),
        "ast_block0": second.blocks[0](x),
        "ast_norm_a": second.norm_a(x),
        "decoder_block0": decoder.decoder_blocks[0](xd),
        "decoder_norm": decoder.decoder_norm(xd),
    }
    for name, values in found.items():
        check(f"{PRETRAIN}/eps_{name}", values[..., ::8], 2e-5)
