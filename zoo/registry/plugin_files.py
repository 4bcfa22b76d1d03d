"""Plugins that are not installed: single files and folders of packages, and what went wrong in one.

They come with ``--plugin PATH`` or the environment variable ``ZOO_PLUGINS``.  A run keeps copies of
them, which its workers load: they need neither the originals nor an installation.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import traceback
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from zoo.errors import MissingComponentError, PluginError, option
from zoo.registry.former import moved_module
from zoo.registry.hookspecs import GROUP

PLUGIN_FILES_VARIABLE = "ZOO_PLUGINS"
KEPT_FOLDER, RECIPE = "plugins", "recipe.json"


def plugin_files() -> list[Path]:
    """Return the plugins that ``ZOO_PLUGINS`` names: files, or folders with an ``__init__.py``."""
    files = os.environ.get(PLUGIN_FILES_VARIABLE, "").split(os.pathsep)
    return [Path(file) for file in files if file]


def load_file(path: Path) -> ModuleType:
    """Import a plugin from a file, or from the folder of a package under the package's own name.

    Raises:
        PluginError: if there is none.
    """
    is_package = path.is_dir()
    file = (path / "__init__.py" if is_package else path).resolve()
    if not file.is_file():
        raise PluginError(f"no plugin file at {path}")
    if not is_package:
        return _import(f"zoo_plugin_{path.stem}", file)
    name = file.parent.name
    loaded = sys.modules.get(name)
    if loaded is None or name in _from_folders:
        if loaded is None or loaded.__file__ != str(file):
            loaded = _import(name, file)
            _from_folders.add(name)
    elif loaded.__file__ != str(file):
        where = f"at {loaded.__file__}; uninstall it to use {path}"
        raise PluginError(f"the package '{name}' is installed too, {where}")
    return loaded


_from_folders: set[str] = set()


def _import(name: str, file: Path) -> ModuleType:
    for key in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        del sys.modules[key]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that the parts of a package find each other by its name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def copy_plugins(run: Path) -> list[Path]:
    """Keep a copy of every plugin of ``ZOO_PLUGINS`` in a run's folder; return the copies.

    A run's folder is on storage that all its workers share, and stays as the run was.
    """
    folder = run.resolve() / KEPT_FOLDER
    kept = []
    for given in plugin_files():
        source = given.resolve()
        target = folder / source.name
        if not source.exists():
            continue  # reported when it was to be loaded
        kept.append(target)
        if source == target:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
    return kept


def origin_of(plugin: str) -> str | None:
    """Say where a plugin comes from, in words; None for those of this distribution."""
    for path in plugin_files():
        if path.stem == plugin:
            return f"the plugin file '{path.name}'"
    own = _own_distribution()
    for point in entry_points(group=GROUP):
        if point.name == plugin and point.dist is not None and point.dist.name != own:
            return f"the package '{point.dist.name} {point.dist.version}'"
    return None


@cache
def _own_distribution() -> str | None:
    for point in entry_points(group="console_scripts"):
        if point.value == "zoo.cli:main" and point.dist is not None:
            return point.dist.name
    return None


def is_own(distribution: str | None) -> bool:
    """Say whether a distribution is the one that holds this library."""
    return distribution is not None and distribution == _own_distribution()


def missing_plugin(error: PluginError, folder: Path, origins: dict[str, str]) -> PluginError:
    """Say what to do about a component that a model or a run is made of and that is not here.

    Args:
        error: names the component.
        folder: of the model or run, which may hold copies of the plugins it was made with.
        origins: ``"extractor name" -> origin`` of what was not built in.
    """
    component = error.component if isinstance(error, MissingComponentError) else ""
    told = origins.get(component, "")
    made = f"; it was made with {told}" if told else ""
    for place in (folder, folder.parent):  # the encoder of stage I lies inside its run
        kept = sorted(path for path in (place / KEPT_FOLDER).glob("*") if path.name[0] not in "._")
        if kept and (place / RECIPE).exists():
            options = " ".join(f"{option('plugin')} {path}" for path in kept)
            return PluginError(
                f"{error}{made}", f"load the copy that the run kept: zoo {options} ..."
            )
    if told.startswith("the package"):
        return PluginError(f"{error}{made}", "install it")
    if told:
        return PluginError(f"{error}{made}", f"load it with: zoo {option('plugin')} FILE ...")
    return error


def reason_of(error: BaseException) -> str:
    """Say in one line what went wrong in a plugin, and in which of its lines."""
    if isinstance(error, PluginError):
        return str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        text = f"{error.title}: '{field}': {first['msg']}"
        if first["type"] == "extra_forbidden":
            text = f"{error.title} has no setting '{field}'"
    else:
        moved = moved_module(error)
        text = moved or f"{type(error).__name__}: {' '.join(str(error).split())}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_of_a_plugin(frame.filename)]
    if not own or isinstance(error, SyntaxError):
        return text
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})"


def _is_of_a_plugin(file: str) -> bool:
    parts = Path(file).parts
    library = Path(__file__).parents[1]  # the folder of `zoo`
    is_library = library in Path(file).parents or bool({"site-packages", "lib"} & set(parts))
    return not is_library and not file.startswith("<")
