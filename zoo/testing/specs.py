"""What holds for every component: presets, JSON, words, a light import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from zoo.contracts import ComponentConfig, Spec
from zoo.errors import PluginError
from zoo.registry.hookspecs import GROUP
from zoo.registry.manager import registry
from zoo.registry.plugin_files import plugin_files
from zoo.training.recipe import Preset, Stage2Config

HEAVY = ("torch", "torchaudio", "torchvision", "timm", "av", "ray", "gradio", "matplotlib")
PRESETS: tuple[Preset, ...] = ("paper", "tiny")


def check_spec(kind: str, spec: Spec) -> None:
    """Check what holds for every component: presets, JSON, words, a light import.

    Args:
        kind: ``extractors``, ``heads``, ...
        spec: the component.
    """
    for word in ("summary", "source", "license"):
        assert getattr(spec, word), f"has no {word}; say it in its spec"
    assert issubclass(spec.config_class, ComponentConfig), (
        f"config_class {spec.config_class.__name__} must inherit zoo.ComponentConfig"
    )
    missing = sorted(set(PRESETS) - set(spec.presets))
    assert not missing, f"lacks the preset{'s' * (len(missing) > 1)} {', '.join(missing)}"
    for preset, config in spec.presets.items():
        assert isinstance(config, spec.config_class), (
            f"preset '{preset}' is a {type(config).__name__}, not a {spec.config_class.__name__}"
        )
        try:
            again = spec.config_class.model_validate_json(config.model_dump_json())
        except ValueError as error:
            raise AssertionError(f"preset '{preset}' does not survive JSON: {error}") from error
        assert again == config, f"preset '{preset}' does not survive JSON"
    for key, field in spec.config_class.model_fields.items():
        is_nested = isinstance(field.annotation, type) and issubclass(
            field.annotation, ComponentConfig
        )
        assert field.description or is_nested or key == "frontend", (
            f"field '{key}' of {spec.config_class.__name__} has no description"
        )
    check_search(spec)
    check_light_import(kind, spec.name)


def check_type(built: object, wanted: type) -> None:
    """Check that ``build`` gives what the spec's kind asks for."""
    assert isinstance(built, wanted), (
        f"build gives a {type(built).__name__}; it must inherit zoo.{wanted.__name__}"
    )


def check_named(kind: str, name: str) -> None:
    """Check that a component that a spec names is registered."""
    try:
        registry().find(kind, name)
    except PluginError as error:
        raise AssertionError(f"names what is not here: {error}") from error


def check_stage2(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the settings of stage II that a spec asks for, per preset."""
    unknown = sorted(set(settings) - set(PRESETS))
    assert not unknown, f"has stage 2 settings for presets there are not: {unknown}"
    for preset, chosen in settings.items():
        names = sorted(set(chosen) - set(Stage2Config.model_fields))
        assert not names, f"preset '{preset}': there is no stage 2 setting '{names[0]}'"


def check_search(spec: Spec) -> None:
    """Check that the presets take all that the component offers to a search."""
    for name, dimension in spec.search.items():
        assert name in spec.config_class.model_fields, (
            f"offers '{name}' to a search, which is no field of {spec.config_class.__name__}"
        )
        for preset, config in spec.presets.items():
            for value in dimension.extremes:
                try:
                    spec.config_class.model_validate({**config.model_dump(), name: value})
                except ValidationError as error:
                    raise AssertionError(
                        f"offers '{name}' to a search, but preset '{preset}' cannot take "
                        f"{value!r}: {error.errors()[0]['msg']}"
                    ) from error


def check_light_import(kind: str, name: str) -> None:
    """Check that the plugin of a component imports nothing heavy at its top level."""
    heavy = heavy_imports(registry().plugins[f"{kind} {name}"])
    assert not heavy, (
        f"its plugin imports {', '.join(heavy)} at the top level; move that into build(), and put "
        "annotations such as 'zoo.Extractor', which load torch, into quotes"
    )


@cache
def heavy_imports(plugin: str) -> list[str]:
    """Return the heavy libraries that a plugin's top level imports, found in a fresh process."""
    files = {file.stem: file.resolve() for file in plugin_files()}
    for name in (plugin, f"zoo_plugin_{plugin}"):  # loaded from a file, whatever is set by now
        if file := getattr(sys.modules.get(name), "__file__", None):
            path = Path(file)
            files.setdefault(plugin, path.parent if path.stem == "__init__" else path)
    points = {point.name: point.value for point in entry_points(group=GROUP)}
    if plugin in files and plugin not in points:
        load = f"load_file(Path({str(files[plugin])!r}))"
    elif plugin in points:
        load = f"importlib.import_module({points[plugin].partition(':')[0]!r})"
    else:
        raise PluginError(f"no plugin '{plugin}' is installed or named in ZOO_PLUGINS")
    start = "import importlib, sys; from pathlib import Path"
    loader = "from zoo.registry.plugin_files import load_file"
    code = f"{start}; {loader}; {load}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PluginError(f"'{plugin}' fails on its own: {done.stderr.strip().splitlines()[-1]}")
    loaded = set(done.stdout.split())
    return [library for library in HEAVY if library in loaded]
