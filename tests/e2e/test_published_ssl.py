"""CAV-MAE and AVSiam as published, small: pulled, named, fine-tuned, evaluated, written back."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
import yaml
from published_weights import published_avsiam, published_cavmae
from served import Answer, serve
from torch import Tensor

from plugins.avsiam import layout as avsiam_layout
from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from plugins.synthetic.labelled import CLASSES
from zoo.catalog.entries import read_catalog, read_description, resolve, user_catalog
from zoo.catalog.model_folder import load_model
from zoo.cli.app import run
from zoo.training.start import describe_start

NAMES = {
    "cavmae": "cavmae-scale++",
    "cavmae-finetuned": "cavmae-audioset-audio",
    "avsiam": "avsiam-base+",
}
PUBLISHED_HEAD = ("--set", "head.pool=tokens", "--set", "head.norm=layer")
ONE_STEP = ("--features", "online", "--set", "stage2.encoder=trained", "--set", "stage2.steps=1")
SMALL_BATCH = ("--set", "stage2.batch=4", "--set", "stage2.valid_rounds=1")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of each of the eight classes, in both splits."""
    folder = tmp_path_factory.mktemp("labelled")
    config = SyntheticConfig(kind="labelled", seed=5, seconds=3.0)
    render_folder(folder, config, 16, {"train": 0.5, "valid": 0.5}, workers=1)
    return folder / "manifest.parquet"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """The classes as AudioSet lists its own, not in the order of their numbers."""
    rows = [f'{i},/m/{i},"{species.name}"' for i, species in enumerate(CLASSES)]
    file = tmp_path / "class_labels_indices.csv"
    file.write_text("\n".join(["index,mid,display_name", *reversed(rows)]) + "\n")
    return file


def stand_in(layout: str) -> dict[str, Tensor]:
    """Return a small checkpoint in a published layout, for the classes of the manifest."""
    if layout == "avsiam":
        return published_avsiam()
    kind = "pretrained" if layout == "cavmae" else "finetuned"
    return published_cavmae(kind, num_classes=len(CLASSES))  # type: ignore[arg-type]


def pull(name: str, theirs: dict[str, Tensor], *options: str) -> None:
    """Pull a stand-in from where the catalog says that the published file is, by a redirect."""
    content = io.BytesIO()
    torch.save(theirs, content)
    entry, _ = read_catalog()[name]
    assert entry.download is not None
    path = "/" + entry.download.url.split("/", 3)[3]
    with serve({"/elsewhere": content.getvalue()}) as server:
        server.answers = [Answer(status=302, headers={"Location": "/elsewhere"}, body=b"")]
        assert run(["pull", name, "--mirror", server.address, *options]) == 0
    assert server.requests[0]["path"] == path


def check_same(file: Path, theirs: dict[str, Tensor]) -> None:
    ours = torch.load(file, weights_only=True)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("layout", NAMES)
def test_a_published_model_is_pulled_fine_tuned_evaluated_and_written_back(
    layout: str, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(avsiam_layout, "IMAGENET_CLASSES", 7)
    name, theirs = NAMES[layout], stand_in(layout)
    pull(name, theirs)
    assert run(["convert", name, "--to", "published", "-o", str(tmp_path / "back.pth")]) == 0
    check_same(tmp_path / "back.pth", theirs)

    tuned, report = tmp_path / "tuned", tmp_path / "report.json"
    data = ("--data", str(manifest))
    options = ("--task", "classification", *data, *PUBLISHED_HEAD, *ONE_STEP, *SMALL_BATCH)
    assert run(["train", "--init", name, *options, "--out", str(tuned)]) == 0
    model = load_model(tuned)
    assert any(
        not torch.equal(tensor, load_model(resolve(name)).encoder.state_dict()[key])
        for key, tensor in model.encoder.state_dict().items()
    )
    rounds = ("--split", "valid", "--rounds", "1", "--no-controls", "--out", str(report))
    assert run(["evaluate", str(tuned), *data, *rounds]) == 0
    assert json.loads(report.read_text())["num_clips"] == len(CLASSES)

    if layout == "avsiam":  # there is no published layout of a fine-tuned one
        return
    written, again = tmp_path / "tuned.pth", tmp_path / "again"
    assert run(["convert", str(tuned), "--to", "cavmae-finetuned", "-o", str(written)]) == 0
    assert torch.load(written, weights_only=True).keys() == stand_in("cavmae-finetuned").keys()
    assert run(["convert", str(written), "-o", str(again)]) == 0
    for key, tensor in load_model(again).state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key


def test_classes_of_a_published_model_are_named(
    manifest: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, theirs = NAMES["cavmae-finetuned"], stand_in("cavmae-finetuned")
    pull(name, theirs)
    config = load_model(resolve(name)).config
    assert config.encoder.config["mode"] == "apart"  # what the catalog knows of this file
    assert config.head is not None
    assert config.head.config["streams"] == "audio"
    data = ("--data", str(manifest), "--split", "valid", "--rounds", "1", "--no-controls")
    report = tmp_path / "report.json"
    assert run(["evaluate", name, *data, "--out", str(report)]) == 2  # 'class 0' is no label here
    before = (resolve(name) / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert run(["pull", name, "--classes", str(labels)]) == 0
    assert "is already here" in capsys.readouterr().out
    named = load_model(resolve(name)).config.task
    assert named is not None
    assert named.config["classes"] == [species.name for species in CLASSES]
    assert (resolve(name) / "model.safetensors").read_bytes() == before
    assert read_description(resolve(name))["pulled_from"]
    assert run(["evaluate", name, *data, "--out", str(report)]) == 0
    assert run(["convert", name, "--to", "published", "-o", str(tmp_path / "back.pth")]) == 0
    check_same(tmp_path / "back.pth", theirs)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("index,mid,display_name\n0,/m/0,a\n", "the model has 8 classes, and 1 names are given"),
        ("a\nb\na\n", "names the class 'a' 2 times"),
        ("", "names no class"),
        ("index,display_name\n0,a\n2,b\n", "does not number its 2 classes from 0 without a gap"),
        ("index,display_name\nzero,a\n", "has a row whose 'index' is no number"),
        ("index,mid,display_name\n0,/m/a,Rain, x\n1,/m/b,c\n", "a name with a comma must stand in"),
        ("index,mid,display_name\n0,/m/a,a\n1,/m/b\n", "of more or fewer columns"),
        ("index,display_name\n0,a\n1,\n", "has a row without display_name"),
    ],
)
def test_classes_that_do_not_fit_are_one_sentence(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, names = tmp_path / "theirs.pth", tmp_path / "names.csv"
    torch.save(stand_in("cavmae-finetuned"), theirs)
    names.write_text(text)
    out = tmp_path / "model"
    assert run(["convert", str(theirs), "-o", str(out), "--classes", str(names)]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--set", "encoder.mod=apart"], "unknown key 'encoder.mod'; did you mean 'mode'?"),
        (["--set", "encoder.mode=alone"], "'encoder.mode': Input should be 'joint'"),
        (["--set", "encoder.width=64"], "does not fit the settings that were changed"),
        (["--set", "objective.norm_targets=false"], "unknown key 'objective.norm_targets'"),
        (["--set", "encoder.mode"], "--set takes key=value"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(stand_in("cavmae-finetuned"), tmp_path / "theirs.pth")
    out = tmp_path / "model"
    assert run(["convert", str(tmp_path / "theirs.pth"), "-o", str(out), *options]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


@pytest.mark.usefixtures("in_process")
def test_pre_training_goes_on_with_its_decoder(manifest: Path, tmp_path: Path) -> None:
    """Stage I from a published model, and from the outcome of stage I, keeps what was learnt."""
    name = NAMES["cavmae"]
    pull(name, stand_in("cavmae"))
    decoder = load_model(resolve(name)).beside["objective"]()
    steps = ["--set", "stage1.steps=1", "--set", "stage1.lr=1e-9", "--set", "stage1.clips=2"]
    data = ["--data", str(manifest), "--stage", "1", "--set", "stage1.num_segments=1"]
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert run(["train", "--init", name, *data, *steps, "--out", first]) == 0
    assert run(["train", "--init", first, *data, *steps, "--out", second]) == 0
    for folder in (first, second):
        found = load_model(Path(folder)).beside["objective"]()
        assert found.keys() == decoder.keys()
        for key, tensor in decoder.items():
            assert torch.allclose(found[key], tensor, atol=1e-6), key
    assert describe_start(Path(first)) == [f"starts from the encoder of {first}"]
    assert run(["convert", second, "--to", "cavmae", "-o", str(tmp_path / "back.pth")]) == 0


def test_the_settings_of_an_entry_of_ones_own_are_used(tmp_path: Path) -> None:
    entry, _ = read_catalog()["cavmae-audioset"]
    mine = {**entry.model_dump(exclude_defaults=True), "settings": {"task.multi_label": True}}
    user_catalog().parent.mkdir(parents=True, exist_ok=True)
    user_catalog().write_text(yaml.safe_dump({"models": {"cavmae-audioset": mine}}))
    pull("cavmae-audioset", stand_in("cavmae-finetuned"))
    task = load_model(resolve("cavmae-audioset")).config.task
    assert task is not None
    assert task.config["multi_label"] is True
