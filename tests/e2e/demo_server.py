"""A demo of its own for tests: a process, with its own home, plugins and temporary folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from served import Server, serve

from plugins.synthetic.clip_folder import render_folder
from plugins.synthetic.config import SyntheticConfig
from zoo.catalog.entries import shipped_catalog
from zoo.catalog.model_folder import load_model, save_model
from zoo.models.model import Model
from zoo.training.job import without_head
from zoo.training.recipe_builder import build_recipe

ROOT = shipped_catalog().parent
TINY = shipped_catalog().parent / "zoo" / "shipped" / "tiny-synthetic"
PUBLISHED = "/models/published.pt"
EXAMPLES = shipped_catalog().parent / "demo" / "examples"
PLUGIN = '''
"""A head that takes its time, and a layout of published models, as a user would add them."""
import time
from pathlib import Path
import zoo

def build(config, head_input):
    from plugins.correlation.model import CorrelationHead

    class PatientHead(CorrelationHead):
        def logits_at(self, *given):
            time.sleep(1.0)
            return super().logits_at(*given)

    return PatientHead(config, head_input)

def read(tensors):
    from zoo.models.config import ModelConfig
    return ModelConfig.model_validate_json(Path(__file__).with_suffix(".json").read_text()), tensors

@zoo.hookimpl
def register_heads():
    from plugins.correlation import CorrelationConfig
    return [zoo.HeadSpec(name="patient", summary="slow", config_class=CorrelationConfig,
                         build=build, tasks=("offset",), source="a test", license="MIT")]

@zoo.hookimpl
def register_formats():
    return [zoo.FormatSpec(name="small", summary="", recognises=lambda names: True,
                           read=read, write=lambda model: model.state_dict(), task="offset")]
'''


@dataclass
class Demo:
    """A running demo: its address, process, and the folder that it may leave nothing in."""

    url: str
    process: subprocess.Popen[str]
    home: Path
    temp: Path
    origin: Server

    @property
    def memory_mb(self) -> float:
        """Resident memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def uploads(self) -> list[Path]:
        """List all files below the temporary folder, but for the bundled examples."""
        files = (path for path in self.temp.rglob("*") if path.is_file())
        return [path for path in files if path.parent.name != "examples"]


def make_home(home: Path, address: str) -> bytes:
    """Fill a user's catalog: a slow model of a plugin, one to pull, two that cannot run.

    Returns:
        The checkpoint that can be pulled.
    """
    home.mkdir(parents=True)
    model = load_model(TINY)
    (home / "own.py").write_text(PLUGIN)
    (home / "own.json").write_text(model.config.model_dump_json())
    description = (TINY / "model.json").read_text()
    for name, head in (("patient", "patient"), ("orphan", "gone")):
        folder = home / "models" / name
        shutil.copytree(TINY, folder)
        text = description.replace('"name": "correlation"', f'"name": "{head}"')
        (folder / "model.json").write_text(text)
    save_rebuilder(home / "models" / "rebuilder")
    torch.save(model.state_dict(), home / "published.pt")
    content = (home / "published.pt").read_bytes()
    download = {"url": address + PUBLISHED, "format": "small"}
    download["md5"] = hashlib.md5(content).hexdigest()
    models = {
        "patient": {"summary": "slow <b>model</b> of a plugin", "folder": "models/patient"},
        "orphan": {"summary": "its plugin is gone", "folder": "models/orphan"},
        "rebuilder": {"summary": "rebuilds what is hidden", "folder": "models/rebuilder"},
        "published": {"summary": "to download", "download": download, "license": "CC0"},
    }
    (home / "catalog.yaml").write_text(yaml.safe_dump({"models": models}))
    return content


def save_rebuilder(folder: Path) -> None:
    """Write a model with a decoder: that of ``$ZOO_REBUILDER``, or one that has learnt nothing."""
    given = os.environ.get("ZOO_REBUILDER")
    if given:
        folder.mkdir(parents=True)
        for file in Path(given).glob("*.*"):
            shutil.copy2(file, folder)
        return
    recipe = build_recipe(extractor="cavmae", preset="tiny")
    model = without_head(Model(recipe.model))
    assert model.objective is not None
    save_model(folder, model, model.objective.state_dict())


@contextmanager
def running(
    folder: Path, *options: str, has_plugin: bool = True, command: Sequence[str] = ()
) -> Iterator[Demo]:
    """Run `zoo demo`, or another command, on a free port, and end it."""
    home, temp = folder / "home", folder / "temp"
    temp.mkdir(parents=True)
    with serve({}) as origin:
        origin.files[PUBLISHED] = make_home(home, origin.address)
        environment = {
            **os.environ,
            "ZOO_HOME": str(home),
            "ZOO_PLUGINS": str(home / "own.py") if has_plugin else "",
            "TMPDIR": str(temp),
            "OMP_NUM_THREADS": "1",
        }
        command = command or [sys.executable, "-m", "zoo.cli", "demo", "--port", "0", *options]
        log = (folder / "log").open("w+")
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,  # Gradio's own command starts the server in one more process
        )
        try:
            url = _address(process, folder / "log")
            yield Demo(url, process, home, temp, origin)
        finally:
            process.terminate()
            process.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever it left behind
            log.close()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    for _ in range(600):
        found = re.search(r"(http://[^\s/]+)", log.read_text())
        if found:
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def long_clip(folder: Path, seconds: float = 40.0) -> Path:
    """Render a clip that takes several blocks of segments."""
    config = SyntheticConfig(seed=5, seconds=seconds)
    return Path(render_folder(folder, config, 1, {"test": 1.0}, workers=1).clips[0].path)
