"""The analysts' guide, docs/analysts.md, word by word from its draft on: every command does what the page says."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app

DOCS = Path(__file__).resolve().parents[1] / "docs"


def _guide() -> Any:
    spec = importlib.util.spec_from_file_location("guide", DOCS / "guide.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_guide_leads_from_a_draft_to_the_ship(draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = _guide()
    steps = list(guide.steps())
    commands = [words[0] for language, text in steps if language == "" and (words := guide.command_of(text))]
    assert commands == ["simulate", "chart", "view", "publish", "bundle", "route"]
    monkeypatch.chdir(tmp_path)
    shutil.copytree(draft, tmp_path / "charts" / draft.name)
    product = re.search(r"S1A_EW_\w+", guide.PAGE.read_text()).group()
    start, of_draft = (name[17:30] for name in (product, draft.name))
    for language, text in steps:
        # The page's scene is simulated and charted in full in a minute; this one is there already.
        text = text.replace(product, draft.name).replace(f"s1_{start}Z", f"s1_{of_draft}Z")
        if language == "python":
            exec(compile(text, str(guide.PAGE), "exec"), {})
        elif language == "json":
            guide.follow(tmp_path, language, text)
        elif (words := guide.command_of(text)) and words[0] not in ("simulate", "chart"):
            done = CliRunner().invoke(app, words)
            assert done.exit_code == 0, f"{text}\n{done.output}"
    assert (tmp_path / guide.MAP / "map.json").is_file()
    (sent,) = (p for p in tmp_path.glob("for_ship/*/*.zip") if p.stem == p.parent.name)
    assert sent.stat().st_size <= 60_000
    assert zipfile.ZipFile(sent).testzip() is None
    (legs,) = tmp_path.glob("route/*/legs.csv")
    assert [row.split(",")[0] for row in legs.read_text().splitlines()] == ["leg", "1", "2", "all"]
    if shutil.which("pdftoppm"):
        monkeypatch.setattr(guide, "photograph", lambda charts, picture: None)
        guide.draw(tmp_path, tmp_path / "images")
        assert {p.name for p in (tmp_path / "images").iterdir()} == {
            "guide_page.png",
            "guide_bundle.png",
            "guide_route.png",
        }
