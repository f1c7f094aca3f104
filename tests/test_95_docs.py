"""The documents say what the program does: no stale page, no command, option, setting or name that is not there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement

import floemap
from floemap.bundle.settings import BundleSettings
from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.errors import ConfigError
from floemap.own_legends import LegendTable
from floemap.study.settings import Study

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))
DOCUMENTS = [f"docs/{p}" for p in PAGES] + ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GENERATED = _generator().PAGES
#: The page of licences depends on the versions of the installed packages.
REPEATABLE = [name for name in GENERATED if name != "licences.md"]


def _text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def _blocks(document: str, language: str) -> list[str]:
    """Fenced code blocks of a language; "" for those that name none."""
    fences = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", _text(document), re.S | re.M)
    return [body for name, body in fences if name == language]


def _headings(text: str) -> set[str]:
    """Anchors of a page, as the site makes them."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    words = [re.sub(r"[^\w\s-]", "", h).strip().lower() for h in re.findall(r"^#+ (.*)$", outside, re.M)]
    return {re.sub(r"[-\s]+", "-", w) for w in words}


@pytest.mark.parametrize("name", REPEATABLE)
def test_no_generated_page_is_stale(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == GENERATED[name](), "run: python docs/generate.py"


def test_the_page_of_licences_lists_every_dependency_and_every_binary_file() -> None:
    project = tomllib.loads(_text("pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    page = _text("docs/licences.md")
    rows = re.findall(r"^\| `([\w.-]+)` \| (.*) \|$", page, re.M)
    assert sorted(name for name, _ in rows) == sorted(Requirement(text).name for text in wanted)
    assert [name for name, licence in rows if not licence.strip() or licence == "not known"] == []
    about = dict(rows)
    assert "BSD" in about["numpy"] and "Apache" in about["xarray"] and "MIT" in about["pydantic"]
    for path in (ROOT / "src" / "floemap").rglob("*"):
        if path.suffix in (".npz", ".safetensors"):
            assert f"`{path.relative_to(ROOT / 'src' / 'floemap').as_posix()}`" in page


@pytest.mark.parametrize("name", floemap.__all__)
def test_every_public_name_is_described(name: str) -> None:
    page = _text("docs/api.md")
    if name == "__version__":
        assert "floemap.__version__" in page
        return
    assert re.search(rf"^::: floemap\.{name}$", page, re.M), "it has its place in docs/api.md"
    value = getattr(floemap, name)
    own = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__
    assert own, "and says what it does"


def test_the_python_page_names_nothing_that_is_not_there() -> None:
    for path in re.findall(r"^::: (\S+)$", _text("docs/api.md"), re.M):
        module, _, name = path.rpartition(".")
        try:
            importlib.import_module(path)
        except ModuleNotFoundError:
            owner = floemap if module == "floemap" else _imported(module)
            assert hasattr(owner, name), path


def _imported(path: str) -> Any:
    """Return a module, or a class of one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def test_the_table_of_changes_names_files_that_are_there() -> None:
    section = _text("docs/design.md").partition("## Where to change what\n")[2].partition("\n## ")[0]
    changes = re.findall(r"^\| (.*) \| (.*) \|$", section, re.M)[2:]
    assert len(changes) >= 20
    for change, where in changes:
        paths = [p for p in re.findall(r"`([^` ]+)`", where) if "/" in p or p.endswith((".py", ".toml"))]
        assert paths or "pyproject" in where, change
        for path in paths:
            root = ROOT if path == "pyproject.toml" else ROOT / "src" / "floemap"
            assert (root / path).exists(), (change, path)


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"^ +- .*: (\S+\.md)$", _text("mkdocs.yml"), re.M)
    assert sorted(listed) == PAGES, "nav in mkdocs.yml lists every page of docs/, once"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    text = re.sub(r"^```.*?^```", "", _text(document), flags=re.S | re.M)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in _headings(target.read_text(encoding="utf-8")), link
        if document.startswith("docs/"):
            assert target.resolve().is_relative_to(DOCS), f"{link}: the site holds docs/ only"


def _commands() -> dict[tuple[str, ...], set[str]]:
    def walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], set[str]]]:
        if hasattr(command, "commands"):
            for name, sub in command.commands.items():
                yield from walk(sub, (*words, name))
        else:
            options = {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("-")}
            yield words, options | {"--help"}

    return dict(walk(typer.main.get_command(app), ()))


COMMANDS = _commands()


def _calls(document: str) -> Iterator[tuple[str, list[str]]]:
    """Shell commands with floemap in a document: (line, words after floemap)."""
    for body in _blocks(document, ""):
        for line in body.replace("\\\n", " ").splitlines():
            match = re.search(r"(?:^|\s|/)floemap (\w.*)$", line)
            if match and not line.lstrip().startswith("#"):
                yield line, shlex.split(match.group(1), comments=True)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d != "docs/cli.md"])
def test_commands_in_documents_exist(document: str) -> None:
    for line, words in _calls(document):
        name = tuple(words[:2]) if tuple(words[:2]) in COMMANDS else tuple(words[:1])
        assert name in COMMANDS, line
        given = {w.partition("=")[0].strip("[]") for w in words if w.lstrip("[").startswith("--")}
        assert given <= COMMANDS[name], line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_of_trainings_in_documents_lie_where_train_puts_them(document: str) -> None:
    """Documents write `run` for the folder of a training; its model lies one folder down."""
    for named in re.findall(r"\brun(?:-\d)?/([\w.]+)", (ROOT / document).read_text(encoding="utf-8")):
        assert named in ("data", "model", "split.json"), named


@pytest.mark.parametrize("document", DOCUMENTS)
def test_settings_in_documents_exist(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are settings of a study, of a bundle, or a legend, which settings after it name as a file."""
    monkeypatch.chdir(tmp_path)
    for body in _blocks(document, "toml"):
        values = tomllib.loads(body)
        try:
            if "classes" in values:
                assert len(LegendTable.checked(**values).legend()) == len(values["classes"])
                Path("my_legend.toml").write_text(body, encoding="utf-8")
            elif "area" in values:
                BundleSettings.checked(**values)
            else:
                Study.checked(**values)
        except ConfigError as e:
            pytest.fail(f"{e}\n{body}")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_in_documents_names_what_exists(document: str) -> None:
    for body in _blocks(document, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "floemap":
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "floemap":
                assert node.attr in floemap.__all__, f"floemap.{node.attr}"


def _house() -> dict[str, set[str]]:
    """Modules by room, as the map of the house in docs/design.md has them."""
    found: dict[str, set[str]] = {}
    for room, modules in re.findall(r"^\| `([\w./]+)` \| [^|]+ \| ([\w ]*)\|$", _text("docs/design.md"), re.M):
        found.setdefault(room, set()).update(modules.split())
    return found


def test_the_map_of_the_house_is_the_tree() -> None:
    root = ROOT / "src" / "floemap"
    packages = [root, *sorted(p.parent for p in root.rglob("*/__init__.py"))]
    tree = {p.relative_to(root).as_posix(): {m.stem for m in p.glob("*.py") if m.stem != "__init__"} for p in packages}
    assert _house() == tree


def test_slow_files_of_tests_exist() -> None:
    """A file that is renamed would come back into `make quick` unseen."""
    from slow_files import slow_files

    names = {p.stem.removeprefix("test_") for p in (ROOT / "tests").glob("test_*.py")}
    assert not (set(slow_files()) - names)
