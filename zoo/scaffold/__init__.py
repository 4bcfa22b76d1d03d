"""``zoo plugin new``: writes an installable package with one small component that trains.

The files are in ``templates``, one folder per kind and one for what all kinds share; they are read
with `string.Template`, so that ``$name`` and a few more words are all that is put in.
"""

from __future__ import annotations

import importlib.util
import keyword
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from string import Template
from typing import Literal

from zoo.contracts import Modality, PairSpec
from zoo.errors import PluginError
from zoo.files import remove_quietly
from zoo.registry.hookspecs import GROUP
from zoo.registry.kinds import KINDS
from zoo.registry.manager import registry

Kind = Literal["extractor", "encoder", "aggregator", "head", "objective", "task", "dataset"]
TEMPLATES = Path(__file__).with_name("templates")
SUFFIX = ".tmpl"
MANIFEST = "clips/manifest.parquet"
SYNTH = "zoo data synth clips --clips 60 --seconds 8"
LABELLED = f"{SYNTH} --kind labelled"

_ABOUT = {
    "audio": "An audio extractor: a small convolutional network over the log-mel spectrogram of "
    "a segment.",
    "vision": "A video extractor: a small convolutional network over the frames of a segment.",
    "encoder": "An encoder of both modalities: one transformer over the patches of the spectrogram "
    "and of the frames, so that each modality sees the other.",
    "aggregator": "An aggregator: the mean and the maximum over the positions of a time step, "
    "mixed by a small network.",
    "head": "A head: the similarities of all video with all audio tokens, and a linear layer over "
    "them that starts from the diagonals.",
    "objective": "An objective of stage I: contrast between the audio and video of the same "
    "segment, with the positive left out of the denominator (arXiv:2110.06848).",
    "task": "A task, and a head for it: whether the audio and video of a crop are of the same "
    "moment.",
    "dataset": "A data set whose clips are listed in a CSV file with the columns path, split "
    "(train, valid or test) and label (may be empty).",
}
_HOLDS = {
    "__init__.py": "what `zoo` is told; imports nothing heavy",
    "config.py": "the settings, each with a description and a default",
    "model.py": "the code, loaded on first use",
    "task.py": "the task: samples, loss, scores, words",
}


@dataclass(frozen=True)
class Names:
    """What a component and its package are called."""

    name: str
    """Of the component, and of the entry point: ``my_net``."""

    @property
    def package(self) -> str:
        """The module: ``zoo_my_net``."""
        return f"zoo_{self.name}"

    @property
    def distribution(self) -> str:
        """What pip calls it: ``zoo-my-net``."""
        return self.package.replace("_", "-")

    @property
    def class_name(self) -> str:
        """The class: ``MyNet``."""
        return "".join(part[:1].upper() + part[1:] for part in self.name.split("_"))


def names_for(name: str) -> Names:
    """Check a name and return what follows from it.

    Raises:
        PluginError: if it cannot be the name of a plugin, or is taken.
    """
    names = Names(name.replace("-", "_"))
    if not names.name.isascii() or not names.name.isidentifier() or names.name[0] == "_":
        raise PluginError(
            f"'{name}' cannot be the name of a plugin: take lower-case letters, digits and '_', "
            "and begin with a letter, such as my_net"
        )
    if keyword.iskeyword(names.name) or names.name != names.name.lower():
        fitting = f"{names.name.lower()}_net" if keyword.iskeyword(names.name) else name.lower()
        raise PluginError(f"'{name}' cannot be the name of a plugin; try '{fitting}'")
    for owner, plugin in registry().plugins.items():
        if names.name == owner.split()[-1]:
            kind = KINDS[owner.split()[0]].noun
            raise PluginError(
                f"'{name}' is taken: the plugin '{plugin}' registers the {kind} '{names.name}'; "
                "choose another name"
            )
    if names.name in {point.name for point in entry_points(group=GROUP)}:
        raise PluginError(f"'{name}' is taken: a plugin of this name is installed")
    for module in (names.name, names.package):
        if module in sys.stdlib_module_names or _is_installed(module):
            raise PluginError(
                f"'{name}' is taken: there is a Python module '{module}' already; choose another "
                "name"
            )
    return names


def _is_installed(module: str) -> bool:
    found = importlib.util.find_spec(module)
    return found is not None and found.origin is not None  # not just any folder of that name


def write_plugin(name: str, kind: Kind, modality: Modality | None, out: Path) -> list[Path]:
    """Write a package with one component of a kind; return its files.

    Args:
        name: of the component; ``-`` becomes ``_``.
        kind: what to write.
        modality: what an extractor reads; None for the other kinds.
        out: folder of the package; made if missing.

    Raises:
        PluginError: if the name cannot be used, or the folder holds something.
    """
    if (modality is None) == (kind == "extractor"):
        wanted = "needs --modality audio or vision" if modality is None else "takes no --modality"
        raise PluginError(f"--kind {kind} {wanted}")
    names = names_for(name)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PluginError(f"{out} exists and is not an empty folder; choose another with -o")
    files = _files(names, modality or kind)
    words = _words(names, kind, modality, files)
    written: list[Path] = []
    for target, template in files.items():
        text = Template(template.read_text()).substitute(words)
        file = out / target
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        except OSError as error:
            for half in (*written, file):
                remove_quietly(half)
            raise PluginError(f"cannot write {file}: {error.strerror or error}") from None
        written.append(file)
    return written


def _files(names: Names, folder: str) -> dict[str, Path]:
    """Return which template becomes which file."""
    common, own = TEMPLATES / "common", TEMPLATES / folder
    test = own / f"test.py{SUFFIX}"
    modules = sorted(path for path in own.glob(f"*{SUFFIX}") if path != test)
    return {
        "pyproject.toml": common / f"pyproject.toml{SUFFIX}",
        "README.md": common / f"README.md{SUFFIX}",
        ".gitignore": common / f"gitignore{SUFFIX}",
        **{f"src/{names.package}/{path.name.removesuffix(SUFFIX)}": path for path in modules},
        f"tests/test_{names.name}.py": test if test.exists() else common / test.name,
    }


def _words(
    names: Names, kind: Kind, modality: Modality | None, files: Iterable[str]
) -> dict[str, str]:
    rows = [f"| `{file}` | {_HOLDS[Path(file).name]} |" for file in files if "/src/" in f"/{file}"]
    options, data, manifest = _training(names.name, kind, modality)
    return {
        "name": names.name,
        "package": names.package,
        "distribution": names.distribution,
        "class_name": names.class_name,
        "kind": kind,
        "about": _ABOUT[modality or kind],
        "files": "\n".join(rows),
        "options": options,
        "data": data,
        "manifest": manifest,
    }


def _training(name: str, kind: Kind, modality: Modality | None) -> tuple[str, str, str]:
    """Return the options of ``zoo train``, what makes its clips, and their manifest."""
    pair = next(spec for spec in registry().encoders.values() if isinstance(spec, PairSpec))
    steps = "--set stage1.steps=150 --set stage2.steps=150"
    if kind == "encoder":  # which is tried on clips whose label needs both modalities
        task = next(spec for spec in registry().tasks.values() if "labels" in spec.columns)
        options = f"--extractor {name} --task {task.name} --set stage2.steps=200"
        return options, LABELLED, MANIFEST
    if modality is not None:
        audio, vision = (name, pair.vision) if modality == "audio" else (pair.audio, name)
        return f"--extractor {audio}+{vision} {steps}", SYNTH, MANIFEST
    if kind != "dataset":
        return f"--extractor {pair.name} --{kind} {name} {steps}", SYNTH, MANIFEST
    listing = 'NR % 5 == 1 ? ",valid," : NR % 5 == 2 ? ",test," : ",train,"'
    lines = [
        SYNTH,
        "(cd clips; echo path,split,label; ls clips/*.mp4 | "
        f"awk '{{print $0 ({listing})}}') > clips/clips.csv",
        f"zoo data prepare {name} --videos clips -o {name}.parquet",
    ]
    return f"--extractor {pair.name} {steps}", "\n".join(lines), f"{name}.parquet"
