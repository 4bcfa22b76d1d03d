"""Encoders of both modalities that start from an image transformer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from served import serve
from ssl_golden import arrays, needs_ssl
from torch import Tensor, nn

from plugins.avmae.config import AvmaeConfig, MbtConfig
from plugins.avmae.mbt import Mbt
from plugins.avmae.model import Avmae
from plugins.avsiam.config import AvsiamConfig
from plugins.avsiam.model import Avsiam
from plugins.cavmae.config import CavMaeConfig
from plugins.cavmae.model import CavMae
from plugins.contrast_mae.config import ContrastMaeConfig
from plugins.contrast_mae.model import ContrastMae
from zoo.catalog.entries import lookup, zoo_home
from zoo.catalog.model_folder import load_model
from zoo.checkpoints.names import IMAGE_VIT
from zoo.cli.app import run
from zoo.contracts import InitialWeights, Positions
from zoo.data.manifest import Manifest
from zoo.errors import ConfigError, ModelError
from zoo.models.model import OBJECTIVE
from zoo.models.patches import MODALITIES
from zoo.registry.manager import registry
from zoo.training.request import TrainRequest, recipe_of
from zoo.training.run_folder import open_run
from zoo.training.start import describe_start

WIDTH, DEPTH, HEADS, PIXELS = 64, 3, 2, 48
SIZES: dict[str, Any] = {"width": WIDTH, "heads": HEADS, "audio_s": 0.64}
FRAMES = CavMaeConfig().vision_frontend.model_copy(update={"size": PIXELS, "short_side": PIXELS})


def image_vit(*, size: int = PIXELS, classes: int = 7, width: int = WIDTH) -> dict[str, Tensor]:
    """Return random weights of a small ViT of timm, with a classifier."""
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=classes,
        img_size=size,
        embed_dim=width,
        depth=DEPTH,
        num_heads=HEADS,
    )
    for parameter in model.parameters():  # norms and biases are constant otherwise
        nn.init.normal_(parameter)
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def with_decoder(vit: dict[str, Tensor], width: int = 32, depth: int = 2) -> dict[str, Tensor]:
    """Add a decoder as the authors of MAE name it."""
    blocks = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, embed_dim=width, depth=depth, num_heads=2
    ).blocks.state_dict(prefix="decoder_blocks.")
    values = 16 * 16 * 3
    shapes = {
        "mask_token": (1, 1, width),
        "decoder_pos_embed": (1, vit["pos_embed"].shape[1], width),
        "decoder_embed.weight": (width, WIDTH),
        "decoder_embed.bias": (width,),
        "decoder_norm.weight": (width,),
        "decoder_norm.bias": (width,),
        "decoder_pred.weight": (values, width),
        "decoder_pred.bias": (values,),
    }
    made = {name: torch.randn(shape) for name, shape in shapes.items()}
    return {**vit, **made, **{name: torch.randn_like(x) for name, x in blocks.items()}}


def layout_of(name: str) -> InitialWeights:
    """Return the layout that an encoder starts from."""
    spec = registry().encoder(name)
    (layout,) = spec.formats
    return layout


def cavmae(positions: Positions = "interpolate", **given: Any) -> tuple[CavMae, dict[str, Tensor]]:
    """Return a CAV-MAE that starts from a small ViT, and the ViT."""
    config = CavMaeConfig(**{**SIZES, "depth": 2, "vision_frontend": FRAMES, **given})
    theirs, encoder = image_vit(), CavMae(config)
    made = layout_of("cavmae").read(theirs, config, positions)
    encoder.load_state_dict({**encoder.state_dict(), **made})
    return encoder, theirs


# --- which tensor goes where ---


def test_the_layout_is_recognised_by_its_names() -> None:
    for name in ("cavmae", "avsiam", "avsiam_large", "avmae", "mbt"):
        layout = layout_of(name)
        assert layout.name == IMAGE_VIT
        assert layout.recognises(image_vit())
        assert not layout.recognises(("pos_embed", "blocks.0.attn.qkv.weight"))


def test_cavmae_takes_the_first_blocks_twice_and_the_last_one_once() -> None:
    encoder, theirs = cavmae()
    for number in range(2):
        for stack in (encoder.blocks_a, encoder.blocks_v):
            for name, tensor in stack[number].state_dict().items():
                assert torch.equal(tensor, theirs[f"blocks.{number}.{name}"]), name
    shared = encoder.blocks_u[0].state_dict()
    assert torch.equal(shared["mlp.fc1.weight"], theirs["blocks.2.mlp.fc1.weight"])
    for stream in ("", "_a", "_v"):
        assert torch.equal(shared[f"norm2{stream}.bias"], theirs["blocks.2.norm2.bias"])
        norm = getattr(encoder, f"norm{stream}")
        assert torch.equal(norm.weight, theirs["norm.weight"])


def test_cavmae_embeds_audio_by_the_sum_over_the_colours() -> None:
    encoder, theirs = cavmae()
    weight = theirs["patch_embed.proj.weight"]
    assert torch.equal(encoder.patch_embed_v.proj.weight, weight)
    assert torch.equal(encoder.patch_embed_a.proj.weight, weight.sum(1, keepdim=True))
    assert torch.equal(encoder.patch_embed_a.proj.bias, theirs["patch_embed.proj.bias"])
    assert torch.equal(encoder.pos_embed_v, theirs["pos_embed"][:, 1:])
    fresh = CavMae(CavMaeConfig(**SIZES, depth=2, vision_frontend=FRAMES))
    assert torch.equal(encoder.pos_embed_a, fresh.pos_embed_a)


def test_cavmae_sees_a_frame_as_the_image_model_did() -> None:
    """All blocks in a row are the ViT again, but for the class token and the vector of video."""
    encoder, theirs = cavmae()
    frame = torch.randn(2, 3, 1, PIXELS, PIXELS)
    vit = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=False,
        num_classes=0,
        img_size=PIXELS,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        class_token=False,
        global_pool="avg",
        fc_norm=False,
        norm_layer=nn.LayerNorm,
    )
    kept = {name: theirs[name] for name in vit.state_dict() if name != "pos_embed"}
    vit.load_state_dict({**kept, "pos_embed": theirs["pos_embed"][:, 1:]})
    with torch.no_grad():
        encoder.modality_v.zero_()
        patches = encoder.patchify("vision", frame)
        ours = encoder.compare("vision", encoder.encode_modality("vision", patches))
        assert torch.allclose(ours, vit.eval().forward_features(frame[:, :, 0]), atol=1e-4)


def test_the_decoder_of_mae_fills_that_of_the_objective() -> None:
    config = CavMaeConfig(**SIZES, depth=2, vision_frontend=FRAMES)
    theirs = with_decoder(image_vit())
    made = layout_of("cavmae").read(theirs, config, "interpolate")
    sizes = {"decoder_width": 32, "decoder_depth": 2, "decoder_heads": 2}
    objective = ContrastMae(ContrastMaeConfig(**sizes), CavMae(config))
    own = objective.state_dict()
    given = {n.removeprefix("objective."): x for n, x in made.items() if n.startswith("objective.")}
    left = {"decoder.decoder_pos_embed_a", "decoder.decoder_modality_a"}
    assert own.keys() - given.keys() == left | {"decoder.decoder_modality_v"}
    objective.load_state_dict({**own, **given})
    head = theirs["decoder_pred.weight"]
    assert torch.equal(given["decoder.decoder_pred_v.weight"], head)
    assert torch.equal(given["decoder.decoder_pred_a.weight"], head[:256])
    table = theirs["decoder_pos_embed"]
    assert torch.equal(given["decoder.decoder_pos_embed_v"], table[:, 1:])


@pytest.mark.parametrize(("depth", "sources"), [(DEPTH, [2, 2]), (14, [12, 13])])
def test_avsiam_copies_norms_and_its_last_blocks(depth: int, sources: list[int]) -> None:
    """Base takes the last block twice, larger sizes the last two."""
    config = AvsiamConfig(**SIZES, depth=depth, vision_frontend=FRAMES)
    theirs = image_vit()
    for number in range(DEPTH, depth):
        block = {n: x for n, x in theirs.items() if n.startswith("blocks.0.")}
        theirs |= {f"blocks.{number}.{n[9:]}": torch.randn_like(x) for n, x in block.items()}
    made = layout_of("avsiam").read(theirs, config, "interpolate")
    Avsiam(config).load_state_dict(made)  # all of it
    for stream in ("_a", "_v"):
        assert torch.equal(made[f"blocks.1.norm1{stream}.weight"], theirs["blocks.1.norm1.weight"])
    assert torch.equal(made["norm_a.bias"], theirs["norm.bias"])
    for number, source in enumerate(sources):
        found = made[f"joint.{number}.attn.proj.weight"]
        assert torch.equal(found, theirs[f"blocks.{source}.attn.proj.weight"])
    mean = theirs["patch_embed.proj.weight"].mean(1, keepdim=True)
    assert torch.equal(made["patch_embed_a.proj.weight"], mean)


@needs_ssl
def test_avsiam_stretches_positions_as_published() -> None:
    theirs = image_vit(size=224)
    config = AvsiamConfig(width=WIDTH, heads=HEADS, depth=DEPTH)
    made = layout_of("avsiam").read(theirs, config, "interpolate")
    index = arrays("avsiam_pretrain")["pos_interp_index"].astype(np.int64)
    assert torch.equal(made["pos_embed_a"], theirs["pos_embed"][:, 1:][:, torch.from_numpy(index)])
    assert torch.equal(made["pos_embed"], theirs["pos_embed"][:, 1:])


# --- other sizes ---


@pytest.mark.parametrize("fusion", ["early", "separate", "mid"])
def test_avmae_takes_every_block_for_either_modality(fusion: str) -> None:
    frames = {"vision_frontend": FRAMES.model_copy(update={"fps": 12.5}), "vision_s": 0.64}
    given = {**SIZES, **frames, "depth": DEPTH, "joint_layers": 1}
    config = AvmaeConfig(**given, fusion=fusion)  # type: ignore[arg-type]
    theirs, encoder = image_vit(), Avmae(config)
    encoder.load_state_dict(layout_of("avmae").read(theirs, config, "interpolate"))
    for modality in MODALITIES:
        blocks, norm = encoder.blocks_of(modality)
        for number, block in enumerate(blocks):
            for name, tensor in block.state_dict().items():
                assert torch.equal(tensor, theirs[f"blocks.{number}.{name}"]), name
        assert (norm is None) == (fusion == "separate")
    weight = encoder.embed["vision"].proj.weight  # type: ignore[union-attr]
    assert torch.equal(weight[:, :, 1], theirs["patch_embed.proj.weight"])
    assert not weight[:, :, 0].any()


def test_an_mbt_of_three_channels_sees_the_colours_as_copies_of_the_spectrogram() -> None:
    frames = {"vision_frontend": FRAMES.model_copy(update={"fps": 12.5}), "vision_s": 0.64}
    theirs, found = image_vit(), []
    for channels in (1, 3):
        config = MbtConfig(
            **{**SIZES, **frames},
            depth=DEPTH,
            fusion_layer=1,
            audio_channels=channels,  # type: ignore[arg-type]
        )
        encoder = Mbt(config)
        made = layout_of("mbt").read(theirs, config, "interpolate")
        encoder.load_state_dict({**encoder.state_dict(), **made})
        torch.manual_seed(0)
        with torch.no_grad():
            found.append(encoder.patchify("audio", torch.randn(2, 128, 64)))
    assert torch.allclose(found[0], found[1], atol=1e-4)


def test_positions_fit_other_frames_and_every_frame_has_the_same() -> None:
    frames = FRAMES.model_copy(update={"fps": 12.5})
    config = CavMaeConfig(**SIZES, depth=2, vision_frontend=frames, vision_s=0.16)
    theirs = image_vit(size=64)
    table = layout_of("cavmae").read(theirs, config, "interpolate")["pos_embed_v"]
    assert table.shape == (1, 2 * 9, WIDTH)
    assert torch.equal(table[:, :9], table[:, 9:])
    with pytest.raises(ModelError, match="positions are those of 4 x 4 patches, and a frame has 3"):
        layout_of("cavmae").read(theirs, config, "prefix")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"depth": 5}, "it has 3 blocks of width 64 .*, and the encoder takes 6 blocks"),
        ({"width": 128}, "and the encoder takes 3 blocks of width 128 and patches of 16 pixels"),
        ({"patch": 8}, "patches of 16 pixels, and the encoder takes .* patches of 8 pixels"),
    ],
)
def test_other_sizes_are_one_sentence(change: dict[str, int], sentence: str) -> None:
    config = CavMaeConfig(**{**SIZES, "depth": 2, "vision_frontend": FRAMES, **change})
    with pytest.raises(ModelError, match=sentence):
        layout_of("cavmae").read(image_vit(), config, "interpolate")


def test_what_our_blocks_do_not_have_is_refused() -> None:
    config = CavMaeConfig(**SIZES, depth=2, vision_frontend=FRAMES)
    grey = image_vit()  # as an audio MAE has it
    grey["patch_embed.proj.weight"] = grey["patch_embed.proj.weight"][:, :1].clone()
    with pytest.raises(ModelError, match=r"'patch_embed\.proj\.weight'.*1 x 16 x 16"):
        layout_of("cavmae").read(grey, config, "interpolate")
    theirs = image_vit() | {"blocks.0.ls1.gamma": torch.ones(WIDTH)}
    with pytest.raises(ModelError, match=r"holds an unknown tensor 'blocks\.0\.ls1\.gamma'"):
        layout_of("cavmae").read(theirs, config, "interpolate")
    broken = image_vit()
    broken["norm.bias"][3] = torch.nan
    with pytest.raises(ModelError, match=r"'norm\.bias' holds NaN"):
        layout_of("cavmae").read(broken, config, "interpolate")


# --- a run that starts from it ---

SETTINGS = {"encoder.width": WIDTH, "encoder.heads": HEADS, "encoder.depth": 2}


def prepared(out: Path, clips: Manifest, *init: str, **settings: Any) -> Path:
    """Open a run of the encoder ``cavmae`` as ``zoo train`` does; return what it starts from."""
    data = str(clips.folder / "manifest.parquet")
    request = TrainRequest(
        extractor="cavmae", preset="tiny", init=init, data=data, set={**SETTINGS, **settings}
    )
    opened = open_run(request, out, 0, resume=False)
    opened.write()
    assert opened.job.init is not None
    return opened.job.init


def test_a_run_starts_from_a_file(tmp_path: Path, clips: Manifest) -> None:
    theirs = image_vit()
    save_file(theirs, tmp_path / "vit.safetensors")
    folder = prepared(tmp_path / "run", clips, str(tmp_path / "vit.safetensors"))
    started = load_model(folder)
    assert torch.equal(started.encoder.norm_v.weight, theirs["norm.weight"])
    (line,) = describe_start(folder)
    assert line.startswith("the encoder cavmae from ")
    assert "(timm-vit, sha256" in line
    assert OBJECTIVE not in started.beside


def test_a_decoder_goes_to_the_objective_if_it_fits(tmp_path: Path, clips: Manifest) -> None:
    torch.save({"model": with_decoder(image_vit())}, tmp_path / "mae_full.pth")
    mae = str(tmp_path / "mae_full.pth")
    folder = prepared(tmp_path / "other", clips, mae)
    assert "objective" not in describe_start(folder)[0]  # whose decoder is wider
    sizes = {"objective.decoder_width": 32, "objective.decoder_heads": 2}
    folder = prepared(tmp_path / "run", clips, mae, **sizes)
    assert describe_start(folder)[0].startswith("the encoder cavmae and the objective from ")
    assert load_model(folder).beside[OBJECTIVE]()["decoder.mask_token"].shape == (1, 1, 32)


@pytest.mark.parametrize(
    ("extractor", "sentence"),
    [
        ("cavmae", "choose its sizes (--set encoder.width=128, encoder.depth and encoder.heads)"),
        ("ast_motionformer", "but the extractors of this run are 'ast' and 'motionformer'"),
    ],
)
def test_what_does_not_fit_a_run_is_one_sentence(
    tmp_path: Path,
    clips: Manifest,
    capsys: pytest.CaptureFixture[str],
    extractor: str,
    sentence: str,
) -> None:
    save_file(image_vit(width=128), tmp_path / "vit.safetensors")
    options = ["--extractor", extractor, "--init", str(tmp_path / "vit.safetensors")]
    data = ["--data", str(clips.folder / "manifest.parquet"), "--out", str(tmp_path / "run")]
    assert run(["train", *options, *data]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert run(["convert", options[3], "-o", str(tmp_path / "model")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "holds the weights of an image model only; start a training from it with" in said


def test_an_encoder_is_filled_once(tmp_path: Path, clips: Manifest) -> None:
    save_file(image_vit(), tmp_path / "vit.safetensors")
    given = str(tmp_path / "vit.safetensors")
    first = prepared(tmp_path / "run", clips, given)
    with pytest.raises(ConfigError, match="both fill the encoder"):
        prepared(tmp_path / "again", clips, str(first), given)


# --- timm's names ---


def test_timm_names_are_pulled_and_started_from(
    tmp_path: Path, clips: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "timm:vit_base_patch16_224.mae"
    save_file(image_vit(), tmp_path / "vit.safetensors")
    path = f"/timm/{name.removeprefix('timm:')}/resolve/main/model.safetensors"
    with serve({path: (tmp_path / "vit.safetensors").read_bytes()}) as server:
        assert run(["pull", name, "--mirror", server.address, "--json"]) == 0
    (pulled,) = json.loads(capsys.readouterr().out)
    assert Path(pulled["path"]).is_relative_to(zoo_home() / "models")
    folder = prepared(tmp_path / "run", clips, name)
    assert describe_start(folder)[0].startswith("the encoder cavmae from ")
    assert run(["info", name]) == 0
    assert "cc-by-nc-4.0" in capsys.readouterr().out


def test_a_name_without_a_tag_is_that_of_its_first_weights() -> None:
    found = lookup("timm:vit_large_patch16_224")
    assert found is not None
    assert found[0].download is not None
    assert "vit_large_patch16_224.augreg_in21k_ft_in1k" in found[0].download.url


@pytest.mark.parametrize("name", ["vit_base_patch16_22.mae", "vit_base_patch16_224.maee"])
def test_a_name_that_timm_does_not_know_is_one_sentence(name: str) -> None:
    with pytest.raises(ModelError, match=r"did you mean 'vit_base_patch16_224\.mae'\?"):
        lookup(f"timm:{name}")


def test_a_name_that_is_not_here_yet_says_how_to_get_it() -> None:
    request = TrainRequest(extractor="cavmae", init=("timm:vit_base_patch16_224.mae",))
    with pytest.raises(ModelError, match=r"zoo pull timm:vit_base_patch16_224\.mae"):
        recipe_of(request, 0)
