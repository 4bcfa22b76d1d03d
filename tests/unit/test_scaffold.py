"""``zoo plugin new``: what it writes passes its own test, and what it cannot write it refuses."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import zoo
from zoo.cli.app import run
from zoo.errors import PluginError
from zoo.registry.manager import add_plugin_file, registry
from zoo.scaffold import TEMPLATES, _files, names_for, write_plugin
from zoo.training.request import TrainRequest, recipe_of

KINDS = [
    ("extractor", "audio"),
    ("extractor", "vision"),
    ("encoder", None),
    ("aggregator", None),
    ("head", None),
    ("objective", None),
    ("task", None),
    ("dataset", None),
]
CHOICES = ("extractor", "aggregator", "head", "objective", "task")
Fails = Callable[..., None]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run ``zoo plugin new``, which must end with code 2 and one sentence holding some words."""

    def check(*arguments: object, words: str) -> None:
        assert run(["plugin", "new", *map(str, arguments)]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert error.count("error:") == 1
        assert words in error, error

    return check


def test_every_kind_passes_the_test_it_is_written_with(tmp_path: Path) -> None:
    """All packages in one process, found through ``ZOO_PLUGINS`` and not installed."""
    folders = []
    for kind, modality in KINDS:
        name = f"fresh_{modality or kind}"
        out = tmp_path / name
        files = write_plugin(name, kind, modality, out)  # type: ignore[arg-type]
        assert {file.name for file in files} >= {"README.md", "pyproject.toml", "model.py"}
        folders.append(out)
    packages = os.pathsep.join(str(next((out / "src").iterdir())) for out in folders)
    tests = [str(out / "tests") for out in folders]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tmp_path,
        env={**os.environ, "ZOO_PLUGINS": packages},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed" in done.stdout


@pytest.mark.parametrize(("kind", "modality"), KINDS)
def test_a_package_is_whole(tmp_path: Path, kind: str, modality: str | None) -> None:
    write_plugin("my-net", kind, modality, tmp_path)  # type: ignore[arg-type]
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())
    assert project["project"]["name"] == "zoo-my-net"
    assert project["project"]["license"]
    assert project["project"]["entry-points"]["zoo"] == {"my_net": "zoo_my_net"}
    for file in tmp_path.rglob("*.py"):
        compile(file.read_text(), str(file), "exec")
        assert max(map(len, file.read_text().splitlines())) <= 100
    text = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert "$name" not in text
    assert "${" not in text
    readme = (tmp_path / "README.md").read_text()
    for words in ('pip install -e ".[dev]"', "zoo list", "zoo plugin check my_net", "zoo train"):
        assert words in readme
    assert "zoo predict run clips/clips/000000.mp4" in readme


def test_what_is_written_is_formatted(tmp_path: Path) -> None:
    for kind, modality in KINDS:
        write_plugin(f"a_{modality or kind}", kind, modality, tmp_path / (modality or kind))  # type: ignore[arg-type]
    ruff = [sys.executable, "-m", "ruff", "check", "--select", "E,F,W,D", "--ignore", "D105,D107"]
    convention = ["--config", "lint.pydocstyle.convention='google'", "--line-length", "100"]
    done = subprocess.run(
        [*ruff, *convention, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("2nd", "cannot be the name of a plugin: take lower-case letters"),
        ("my net", "cannot be the name of a plugin"),
        ("_net", "cannot be the name of a plugin"),
        ("né", "cannot be the name of a plugin"),
        ("", "cannot be the name of a plugin"),
        ("class", "try 'class_net'"),
        ("MyNet", "try 'mynet'"),
        ("correlation", "'correlation' is taken: the plugin 'correlation' registers the head"),
        ("aggregators", "a plugin of this name is installed"),
        ("json", "there is a Python module 'json' already"),
        ("torch", "there is a Python module 'torch' already"),
    ],
)
def test_a_name_that_cannot_be_used_is_one_sentence(name: str, words: str) -> None:
    with pytest.raises(PluginError, match=r"^[^\n]*$") as caught:
        names_for(name)
    assert words in str(caught.value)


def test_a_folder_that_holds_something_is_refused(tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "mine.txt").touch()
    head = ["my_net", "--kind", "head", "-o"]
    fails(*head, tmp_path, words="exists and is not an empty folder")
    fails(*head, tmp_path / "mine.txt", words="exists and is not an empty folder")
    fails(*head, tmp_path / "mine.txt" / "below", words="cannot write")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_only_an_extractor_has_a_modality(tmp_path: Path, fails: Fails) -> None:
    out = ["-o", tmp_path / "out"]
    fails("my_net", "--kind", "extractor", *out, words="needs --modality audio or vision")
    fails("my_net", "--kind", "head", "--modality", "audio", *out, words="takes no --modality")


def test_the_command_says_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["plugin", "new", "my-net", "--kind", "head"]) == 0
    said = capsys.readouterr().out
    for words in ("pip install -e zoo-my-net", "ZOO_PLUGINS=", "zoo plugin check my_net"):
        assert words in said
    assert (tmp_path / "zoo-my-net" / "src" / "zoo_my_net" / "__init__.py").exists()


def test_check_names_what_fails_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plugin("sloppy", "aggregator", None, tmp_path / "sloppy")
    package = tmp_path / "sloppy" / "src" / "zoo_sloppy"
    model = package / "model.py"
    model.write_text(model.read_text().replace("features.mean(2)", "features.mean(1)"))
    monkeypatch.setenv("ZOO_PLUGINS", "")
    try:
        assert run(["plugin", "check", "sloppy", "mean", "--plugin", str(package)]) == 2
        captured = capsys.readouterr()
        said = " ".join((captured.out + captured.err).split())
        assert "failed: aggregator 'sloppy': preset 'tiny' for a feature map of T=6, P=12" in said
        assert "passed: aggregator 'mean'" in said
        assert "error: 1 failed: aggregator 'sloppy'" in said
        assert run(["plugin", "check", "slopy"]) == 2
        assert "no component or plugin is named 'slopy'; did you mean" in capsys.readouterr().err
    finally:
        monkeypatch.undo()
        registry.cache_clear()


def test_the_templates_are_part_of_the_package() -> None:
    """They lie below ``zoo``, all of which goes into the wheel, and none is left unused."""
    used = {
        template
        for kind, modality in KINDS
        for template in _files(names_for("my_net"), modality or kind).values()
    }
    assert used == set(TEMPLATES.rglob("*.tmpl"))
    assert TEMPLATES.is_relative_to(Path(zoo.__file__).parent)


def test_the_training_command_of_a_readme_takes_the_new_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_PLUGINS", "")
    try:
        for kind, modality in KINDS[:-1]:
            name = f"trained_{modality or kind}"
            write_plugin(name, kind, modality, tmp_path / name)  # type: ignore[arg-type]
            add_plugin_file(tmp_path / name / "src" / f"zoo_{name}")
            readme = (tmp_path / name / "README.md").read_text()
            words = next(line for line in readme.splitlines() if line.startswith("zoo train"))
            given = dict(pairwise(words.split()))
            options = {key[2:]: value for key, value in given.items() if key[2:] in CHOICES}
            recipe = recipe_of(TrainRequest(**options), 0)  # type: ignore[arg-type]
            assert f'"name":"{name}"' in recipe.model_dump_json()
    finally:
        monkeypatch.undo()
        registry.cache_clear()
