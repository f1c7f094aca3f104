"""The list of what is mutated, and of the tests that judge it, follows the modules when they move."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = tomllib.loads((ROOT / "benchmarks" / "mutation" / "core.toml").read_text(encoding="utf-8"))["modules"]
#: Rooms all of whose modules are core.
WHOLE = ("evaluation/risk", "evaluation/statistics", "icechart/draw", "learning/losses", "results")


def test_what_is_named_is_there() -> None:
    assert [m for m in CORE if not (ROOT / "src" / "floemap" / m).is_file()] == []
    judges = {name for names in CORE.values() for name in names}
    assert [name for name in sorted(judges) if not (ROOT / "tests" / f"test_{name}.py").is_file()] == []
    assert all(CORE.values()), "each module has a judge"


def test_rooms_of_the_core_are_whole() -> None:
    source = ROOT / "src" / "floemap"
    there = [m.relative_to(source).as_posix() for room in WHOLE for m in sorted((source / room).glob("*.py"))]
    assert [m for m in there if not m.endswith("__init__.py") and m not in CORE] == []
