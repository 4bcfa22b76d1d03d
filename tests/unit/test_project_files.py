"""What stands in the root of the repository for others agrees with the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import zoo

ROOT = Path(__file__).parents[2]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == zoo.__version__
    for reference in [citation, *citation["references"]]:
        assert reference["title"]
        assert reference["authors"]


@pytest.mark.parametrize(("name", "package"), [("PyTorch", "torch"), ("Gradio", "gradio")])
def test_what_is_asked_for_is_above_the_floor_for_safety(name: str, package: str) -> None:
    row = re.search(rf"^\| {name} \| ([\d.]+) \|", (ROOT / "SECURITY.md").read_text(), re.M)
    assert row is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    [wanted] = [one for one in map(Requirement, asked) if one.name == package]
    major, minor = map(int, row[1].split("."))
    assert f"{major}.{minor - 1}.99" not in wanted.specifier
