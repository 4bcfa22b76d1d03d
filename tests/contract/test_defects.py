"""A plugin with a defect is reported by name with what to do, and everything else goes on."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from zoo.cli.app import run
from zoo.registry.manager import registry

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


@dataclass(frozen=True)
class Defect:
    """What is changed in a working plugin, and what is said about it."""

    whole: str
    broken: str
    listed: str
    """What ``zoo list`` warns of; nothing if the defect is not met on import."""
    trained: str


DEFECTS = {
    "raises on import": Defect(
        "import zoo\nfrom zoo",
        "import flux\nimport zoo\nfrom zoo",
        "plugin 'broken' was skipped: ModuleNotFoundError: No module named 'flux' (broken.py, line",
        "unknown extractor 'melcnn'. See: zoo list extractors; plugin 'broken' was skipped: Module",
    ),
    "exits on import": Defect(
        "@zoo.hookimpl",
        "raise SystemExit('usage: melcnn')\n\n\n@zoo.hookimpl",
        "plugin 'broken' was skipped: SystemExit: usage: melcnn",
        "plugin 'broken' was skipped: SystemExit",
    ),
    "is no Python": Defect(
        "def build(",
        "def build((",
        "plugin 'broken' was skipped: SyntaxError: ",
        "plugin 'broken' was skipped: SyntaxError",
    ),
    "takes a name": Defect(
        'name="melcnn"',
        'name="ast"',
        "plugins 'ast' and 'broken' both register extractor 'ast'; uninstall or rename one",
        "unknown extractor 'melcnn'. See: zoo list extractors; plugin 'broken' was skipped: plugin",
    ),
    "misspells a setting": Defect(
        '"tiny": MelCnnConfig(dim=64)',
        '"tiny": MelCnnConfig(dimm=64)',
        "plugin 'broken' was skipped: MelCnnConfig has no setting 'dimm' (broken.py, line",
        "MelCnnConfig has no setting 'dimm'",
    ),
    "misspells a hook": Defect(
        "def register_extractors",
        "def register_extractor",
        "there is no hook 'register_extractor'; did you mean 'register_extractors'?",
        "there is no hook 'register_extractor'; did you mean 'register_extractors'?",
    ),
    "forgets the mark": Defect(
        "@zoo.hookimpl\n",
        "",
        "register_extractors is not marked as a hook; put @zoo.hookimpl above it",
        "register_extractors is not marked as a hook",
    ),
    "gives another shape": Defect(
        "return x.permute(0, 3, 2, 1)",
        "return x.permute(0, 2, 3, 1)",
        "",
        "extractor 'melcnn' declares ('N', 8, 16, 64) and gives (28, 16, 8, 64); see: zoo plugin c",
    ),
    "breaks inside": Defect(
        "segments.unsqueeze(1)",
        "segments.flatten(1)",
        "",
        "extractor 'melcnn' fails on what it is given: RuntimeError: ",
    ),
    "lacks its weights": Defect(
        "super().__init__()",
        "super().__init__(); open('melcnn.pt')",
        "",
        "extractor 'melcnn' cannot be built: FileNotFoundError: [Errno 2] No such file or directory"
        ": 'melcnn.pt' (broken.py, line",
    ),
    "lacks a preset": Defect(
        ', "tiny": MelCnnConfig(dim=64)',
        "",
        "",
        "'melcnn' has no preset 'tiny' (it has: paper)",
    ),
    "cannot say its shape": Defect(
        "positions=self.frontend.n_mels // 8",
        "positions=self.frontend.n_mels // 800",
        "",
        "extractor 'melcnn' cannot say what it gives with these settings: FeatureMap: 'positions'",
    ),
}


@pytest.fixture
def melcnn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Write the plugin of the docs with a change; forget it afterwards."""
    monkeypatch.setenv("ZOO_PLUGINS", "")
    monkeypatch.chdir(tmp_path)
    (whole,) = re.findall(r"```python\n(\"\"\"A small log-mel.*?)```", PAGE.read_text(), re.DOTALL)

    def write(old: str, new: str) -> Path:
        assert whole.count(old) == 1
        file = tmp_path / "broken.py"
        file.write_text(whole.replace(old, new))
        return file

    yield write
    monkeypatch.undo()
    registry.cache_clear()


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_reported_by_name_and_the_rest_goes_on(
    melcnn: Callable[..., Path],
    name: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    defect = DEFECTS[name]
    plugin = ["--plugin", str(melcnn(defect.whole, defect.broken))]
    registry.cache_clear()
    assert run(["list", "extractors", *plugin]) == 0
    assert "motionformer" in capsys.readouterr().out
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == bool(defect.listed)
    assert defect.listed in " ".join(warnings)
    options = ["--extractor", "melcnn+motionformer", "--data", "none.parquet", "--out", "run"]
    assert run(["train", *options, *plugin]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("error:") == 1
    assert defect.trained in said, said
    assert run(["info", "tiny-synthetic", *plugin]) == 0


def test_a_misspelt_setting_on_the_command_line_is_one_sentence(
    melcnn: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = melcnn("dim=64", "dim=32")
    options = ["--extractor", "melcnn+motionformer", "--data", "none.parquet", "--out", "run"]
    assert run(["train", *options, "--plugin", str(file), "--set", "audio.dimm=3"]) == 2
    assert "--set: unknown key 'audio.dimm'; did you mean 'dim'?" in capsys.readouterr().err


def test_check_says_what_a_plugin_lacks_that_was_skipped(
    melcnn: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = melcnn("def build(", "def build((")
    registry.cache_clear()
    for name in ("broken", "melcnn"):
        assert run(["plugin", "check", name, "--plugin", str(file)]) == 2
        assert "plugin 'broken' was skipped: SyntaxError" in capsys.readouterr().err
