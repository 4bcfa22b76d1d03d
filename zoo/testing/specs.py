"""What holds for every component: presets, JSON, words, a light import."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.metadata import entry_points

from zoo.contracts import ComponentConfig, Spec
from zoo.errors import PluginError
from zoo.hooks import GROUP, plugin_files, registry

HEAVY = ("torch", "torchaudio", "torchvision", "timm", "av", "ray", "gradio", "matplotlib")
PRESETS = ("paper", "tiny")


def check_spec(kind: str, spec: Spec) -> None:
    """Check what holds for every component: presets, JSON, words, a light import.

    Args:
        kind: ``extractors``, ``heads``, ...
        spec: the component.
    """
    for word in ("summary", "source", "license"):
        assert getattr(spec, word), f"'{spec.name}' has no {word}"
    missing = set(PRESETS) - set(spec.presets)
    assert not missing, f"'{spec.name}' lacks the presets {sorted(missing)}"
    for preset, config in spec.presets.items():
        assert isinstance(config, spec.config_class), f"preset '{preset}' is a {type(config)}"
        again = spec.config_class.model_validate_json(config.model_dump_json())
        assert again == config, f"preset '{preset}' of '{spec.name}' does not survive JSON"
    for key, field in spec.config_class.model_fields.items():
        is_nested = isinstance(field.annotation, type) and issubclass(
            field.annotation, ComponentConfig
        )
        assert field.description or is_nested or key == "frontend", (
            f"'{spec.name}': field '{key}' has no description"
        )
    heavy = heavy_imports(registry().plugins[f"{kind} {spec.name}"])
    assert not heavy, f"the plugin of '{spec.name}' imports {', '.join(heavy)} at its top level"


@cache
def heavy_imports(plugin: str) -> list[str]:
    """Return the heavy libraries that a plugin's top level imports, found in a fresh process."""
    points = {point.name: point.value for point in entry_points(group=GROUP)}
    if plugin in points:
        load = f"importlib.import_module({points[plugin].partition(':')[0]!r})"
    else:
        file = next((f for f in plugin_files() if f.stem == plugin), None)
        if file is None:
            raise PluginError(f"no plugin '{plugin}' is installed or named in ZOO_PLUGINS")
        load = f"runpy.run_path({str(file)!r})"
    code = f"import importlib, runpy, sys; {load}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    return [library for library in HEAVY if library in loaded]
