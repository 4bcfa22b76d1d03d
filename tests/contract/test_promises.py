"""What the project promises as a whole: light commands, documented hooks, a sound catalog."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

from zoo.catalog.entries import read_catalog, shipped_catalog
from zoo.catalog.model_folder import load_model, read_description
from zoo.registry.kinds import KINDS
from zoo.registry.manager import add_plugin_file, registry
from zoo.testing import CHECKS, check_extractor

ROOT = Path(__file__).parents[2]
TOO_HEAVY = ("torch", "ray", "av", "timm", "gradio", "matplotlib", "pyarrow")


@pytest.mark.parametrize(
    "words",
    [
        "list",
        "list heads --json",
        "info synchformer-lrs3",
        "--help",
        "train --help",
        "predict --help",
        "data --help",
    ],
)
def test_light_commands_import_nothing_heavy(words: str) -> None:
    code = (
        "import sys; from zoo.cli.app import run; code = run(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split()], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert [name for name in TOO_HEAVY if name in loaded] == []


@pytest.mark.parametrize("hook", [kind.hook for kind in KINDS.values()])
def test_every_hook_has_a_heading_in_the_docs(hook: str) -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert any(f"`{hook}`" in line for line in headings), f"docs/plugins.md: no heading for {hook}"


def test_the_worked_example_of_the_docs_passes_its_own_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    (example,) = re.findall(r"```python\n(\"\"\"A small log-mel.*?)```", page, re.DOTALL)
    file = tmp_path / "melcnn.py"
    file.write_text(example)
    monkeypatch.setenv("ZOO_PLUGINS", "")
    add_plugin_file(file)
    try:
        check_extractor("melcnn")
        assert registry().encoder("melcnn+motionformer").audio == "melcnn"
    finally:
        monkeypatch.undo()
        registry.cache_clear()


def test_the_page_gets_tokens_and_outputs_from_arrays() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    (snippet,) = re.findall(r"```python\n(import numpy as np.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {}
    exec(snippet, found)  # what a reader would paste
    assert found["outputs"].shape == (1, 21)
    assert found["audio_tokens"].values.shape == (1, 14, 6, 1, 128)
    assert torch.allclose(found["embeddings"].norm(dim=1), torch.ones(14))


def test_the_page_about_the_architecture_names_what_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    files = re.findall(r"\b(zoo/[\w/.]+\.py)\b", page)
    steps = re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+)`", page)
    assert files
    assert steps
    for file in files:
        assert (ROOT / file).exists(), file
    for step in steps:
        if step.split(".")[0] in {"model", "task"} or step.endswith((".py", ".json")):
            continue  # methods of what is at hand, files
        names = step.split(".")
        names = names if names[0] in {"orchestration", "zoo"} else ["zoo", *names]
        places = (ROOT.joinpath(*names[:last]) for last in (len(names), len(names) - 1))
        assert any(place.with_suffix(".py").exists() for place in places), step


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_brought_by_a_built_in_plugin_and_checked(kind: str) -> None:
    assert registry().of_kind(KINDS[kind]), f"no built-in plugin implements {KINDS[kind].hook}"
    assert kind in CHECKS


@pytest.mark.parametrize("name", [*read_catalog(), None])
def test_catalog_entries_are_whole(name: str | None) -> None:
    if name is None:
        assert shipped_catalog().exists()
        return
    entry, folder = read_catalog()[name]
    for word in ("summary", "trained_on", "recipe", "license", "source"):
        assert getattr(entry, word), f"catalog entry '{name}' has no {word}"
    if entry.download is not None:
        known = set(registry().formats)
        for spec in (*registry().extractors.values(), *registry().encoders.values()):
            known |= {layout.name for layout in getattr(spec, "formats", ())}  # pairs have none
        assert entry.download.format in known
        return
    assert entry.scores, f"catalog entry '{name}' has no scores"
    assert read_description(folder)["sha256"]
    model = load_model(folder)  # checks the hash and that the weights fit the config
    assert model.head is not None


def test_every_plugin_folder_has_a_readme() -> None:
    folders = [file.parent for file in (ROOT / "plugins").glob("*/__init__.py")]
    assert folders
    for folder in folders:
        text = (folder / "README.md").read_text()
        for word in ("Source", "Licence", "Known gaps"):
            assert word in text, f"{folder.name}/README.md does not say: {word}"


def test_shapes_are_checked_at_run_time_in_tests() -> None:
    spec = registry().aggregator("mean")
    mean = spec.build(spec.presets["tiny"], None)
    with pytest.raises(TypeCheckError):
        mean(torch.zeros(2, 3, 4))  # (N, T, P, D) lacks a dimension
