"""What is said to people can be followed: configurations are TOML, hints install what is ours."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

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
