"""The first part of docs/plugins.md, typed in an empty directory as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"
BLOCK = re.compile(r"^<!-- run -->\n```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Return the marked blocks of the page, in order."""
    return BLOCK.findall(PAGE.read_text())


def type_in(folder: Path, blocks: list[str]) -> str:
    """Run commands in a directory, and return all that was printed."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("ZOO_PLUGINS", None)
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", "\n".join(blocks)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run all of the page's commands in an empty directory."""
    folder = tmp_path_factory.mktemp("reader")
    return folder, type_in(folder, commands())


def test_the_page_leads_from_new_to_predict() -> None:
    typed = "\n".join(commands())
    steps = ["plugin new", "plugin check", "data synth", "zoo train", "zoo evaluate", "zoo predict"]
    places = [typed.index(step) for step in steps]
    assert places == sorted(places)


def test_what_the_page_writes_is_checked(tmp_path: Path) -> None:
    """The blocks before the training, which the slow tests run."""
    blocks = commands()
    training = next(i for i, block in enumerate(blocks) if "zoo train" in block)
    said = type_in(tmp_path, blocks[:training])
    assert said.count("passed: extractor 'clapnet'") == training - 1
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.timeout(900)  # 1 to 2 minutes on two idle cores
def test_the_commands_of_the_page_run_in_order(reader: tuple[Path, str]) -> None:
    folder, said = reader
    assert "passed: extractor 'clapnet'" in said
    assert (folder / "run" / "model.safetensors").exists()
    assert (folder / "run" / "plugins" / "zoo_clapnet" / "model.py").exists()
    assert re.search(r"late\.mp4\n +offset [+-][\d.]+ s \(probability", said)
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_model_of_the_page_learns(reader: tuple[Path, str]) -> None:
    """So few steps find segments that belong together far more often than by chance."""
    _, said = reader
    (accuracy,) = re.findall(r"sliding check of the features, no head: accuracy ([\d.]+)%", said)
    assert float(accuracy) > 15  # chance: 4.8
