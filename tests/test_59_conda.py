"""The recipe for conda says what pyproject.toml says. No builder is at hand, so it is parsed and compared only."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Names of conda-forge that differ from PyPI's.
RENAMED = {"matplotlib": "matplotlib-base", "opencv-python-headless": "py-opencv", "torch": "pytorch"}
#: Extras of users; the others are those of developers.
EXTRAS = ("learn", "engine", "fetch", "archive")


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    found: dict[str, Any] = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    return found


def of_conda(requirements: list[str]) -> set[tuple[str, str]]:
    parts = [re.fullmatch(r"([A-Za-z0-9-]+)(.*)", r).groups() for r in requirements]
    return {(RENAMED.get(name, name), bounds) for name, bounds in parts}


def split(requirements: list[str]) -> set[tuple[str, str]]:
    return {(r.partition(" ")[0], r.partition(" ")[2]) for r in requirements}


def test_dependencies_are_those_of_the_project(recipe: dict[str, Any]) -> None:
    python, *run = recipe["requirements"]["run"]
    assert split(run) == of_conda(PROJECT["dependencies"])
    assert len(run) == len(PROJECT["dependencies"])
    lowest = recipe["context"]["python_min"]
    assert (python, PROJECT["requires-python"]) == ("python >=${{ python_min }}", f">={lowest}")
    extras = [r for name in EXTRAS for r in PROJECT["optional-dependencies"][name]]
    assert split(recipe["requirements"]["run_constraints"]) == of_conda(extras)


def test_it_describes_the_project(recipe: dict[str, Any]) -> None:
    assert recipe["schema_version"] == 1
    assert (recipe["package"]["name"], recipe["context"]["version"]) == (PROJECT["name"], PROJECT["version"])
    assert recipe["about"]["summary"] == PROJECT["description"]
    assert recipe["about"]["license"] == PROJECT["license"]
    entries = [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == entries
    assert (ROOT / "conda" / recipe["source"]["path"] / recipe["about"]["license_file"]).is_file()
    assert "setuptools >=77" in recipe["requirements"]["host"]
    assert not [key for key in recipe if key not in RECIPE_KEYS]


#: Keys of a recipe of one package in schema version 1 (https://github.com/prefix-dev/recipe-format).
RECIPE_KEYS = {"schema_version", "context", "package", "source", "build", "requirements", "tests", "about", "extra"}
