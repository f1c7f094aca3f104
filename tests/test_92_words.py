"""What is said to people can be followed: configurations are TOML, hints install what is ours."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from floemap.counts import counted, millions
from floemap.demo import demo_study
from floemap.report.provenance import configuration_text
from floemap.study.settings import Study

ROOT = Path(__file__).resolve().parents[1]
STUDIES = [p for p in sorted((ROOT / "configs").glob("*.toml")) if "[split]" in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_the_configuration_in_a_report_makes_the_same_study(path: Path, tmp_path: Path) -> None:
    study = Study.from_toml(path)
    copied = tmp_path / "from_report.toml"
    copied.write_text(configuration_text(study.model_dump(mode="json")), encoding="utf-8")
    assert Study.from_toml(copied) == study


def test_a_configuration_with_axes_and_odd_names_is_toml() -> None:
    study = demo_study("small", Path('a "quoted" \\ folder'))
    values = study.model_dump(mode="json")
    values["compare"]["axes"] = {"model.output_stride": [8, 16], "loss.class_weights": ["none", "inverse"]}
    study = Study.checked(**values)
    assert Study.checked(**tomllib.loads(configuration_text(study.model_dump(mode="json")))) == study


def test_nobody_is_told_to_install_a_package_name_that_is_not_ours() -> None:
    """floemap is on no index: `pip install floemap` would fetch whatever a stranger puts there under the name."""
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    told = re.compile(r"pip install (?:-U |--upgrade )?['\"]?floemap")
    assert [p.name for p in files if told.search(p.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "number, words", [(0, "0 polygons"), (1, "1 polygon"), (2, "2 polygons"), (1234, "1,234 polygons")]
)
def test_a_number_stands_before_the_form_that_it_takes(number: int, words: str) -> None:
    assert counted(number, "polygon") == words
    both = counted(number, "vertex is|vertices are")
    assert both.endswith("vertex is" if number == 1 else "vertices are")


@pytest.mark.parametrize(
    "number, words", [(2474, "2,474"), (99_999, "99,999"), (100_000, "0.10 M"), (4_040_006, "4.04 M")]
)
def test_a_small_model_has_a_number_of_parameters(number: int, words: str) -> None:
    assert millions(number) == words


def test_no_message_has_a_number_before_a_plural_that_may_be_one() -> None:
    """Of one polygon, a message says "1 polygon has": such numbers go through `counted`."""
    things = r"polygons|features|vertices|gaps|pairs|drafts|(published )?charts|(validation )?polygons|weights|"
    things += r"(more|further|shorter) [a-z]+s|azimuth blocks|parts of the annotation"
    # "3 of 5 polygons" is right for any number, and an exchange set or an archive is named so if it has several charts.
    told = re.compile(rf"(?<!of )(?<!holds )(?:\0|%d) (?:{things})\b")
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if re.search(rf"(?:}}|%d) (?:{things})\b", source) else ():
            if isinstance(node, ast.JoinedStr):
                names = [
                    v.value.id
                    for v in node.values
                    if isinstance(v, ast.FormattedValue) and isinstance(v.value, ast.Name)
                ]
                text = "".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names, text = [], node.value
            else:
                continue
            if told.search(text) and names != ["reader"]:  # who reads polygons, not how many
                found.append(f"{path.name}:{node.lineno}: {text[:60]!r}")
    assert found == []
