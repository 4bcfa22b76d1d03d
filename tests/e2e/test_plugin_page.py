"""The first part of docs/plugins.md, typed in an empty directory as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"
BLOCK = re.compile(r"^<!-- run -->\n```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands() -> str:
    """Return the marked blocks of the page, in order."""
    return "\n".join(BLOCK.findall(PAGE.read_text()))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the page's commands in an empty directory; return it and all that was printed."""
    folder = tmp_path_factory.mktemp("reader")
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("ZOO_PLUGINS", None)
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", commands()],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return folder, done.stdout


def test_the_page_leads_from_new_to_predict() -> None:
    typed = commands()
    steps = ["plugin new", "plugin check", "data synth", "zoo train", "zoo evaluate", "zoo predict"]
    places = [typed.index(step) for step in steps]
    assert places == sorted(places)


@pytest.mark.timeout(900)  # 1 to 2 minutes on two idle cores
def test_the_commands_of_the_page_run_in_order(reader: tuple[Path, str]) -> None:
    folder, said = reader
    assert "passed: extractor 'clapnet'" in said
    assert (folder / "run" / "model.safetensors").exists()
    assert (folder / "run" / "plugins" / "zoo_clapnet" / "model.py").exists()
    assert re.search(r"late\.mp4\n +offset [+-][\d.]+ s \(probability", said)
    assert "Traceback" not in said


def test_the_model_of_the_page_learns(reader: tuple[Path, str]) -> None:
    """So few steps find segments that belong together far more often than by chance."""
    _, said = reader
    (accuracy,) = re.findall(r"sliding check of the features, no head: accuracy ([\d.]+)%", said)
    assert float(accuracy) > 15  # chance: 4.8
