"""Scenes of a table are those of a list; queries and columns choose the parts that a person would choose by hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from floemap.errors import ConfigError
from floemap.study.cells import plan
from floemap.study.data import find_scenes
from floemap.study.settings import DataSettings, SplitSettings, Study
from floemap.study.split import held_out, roles_of
from floemap.study.table import read_table, resolved

LINES = [
    ["name", "product", "chart", "truth", "region", "year", "orbit"],
    ["01", "p/a.SAFE", "c/a.shp", "", "NA", "2019", "7"],
    ["02", "p/b.SAFE", "c/b.shp", "", "kara", "2019", "7"],
    ["03", "p/c.SAFE", "c/c.shp", "t/c.tif", "kara", "2020", "8"],
    ["04", "p/d.SAFE", "c/d.shp", "", "NA", "2021", "9"],
    ["05", "p/e.SAFE", "c/e.shp", "", "fram", "2021", "10"],
    ["06", "p/f.SAFE", "c/f.shp", "", "fram", "2022", ""],
]


def table(folder: Path, separator: str = ",", encoding: str = "utf-8", lines: list[list[str]] = LINES) -> Path:
    path = folder / "scenes.csv"
    path.write_bytes("".join(separator.join(line) + "\r\n" for line in lines).encode(encoding))
    return path


def study_of(path: Path, split: dict[str, Any], **data: Any) -> Study:
    return resolved(Study.checked(data={"table": path, **data}, split=split))


@pytest.mark.parametrize(("separator", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16")])
def test_a_table_is_a_list_of_scenes(separator: str, encoding: str, tmp_path: Path) -> None:
    path = table(tmp_path, separator, encoding)
    listed = [{"name": n, "product": p, "chart": c} | ({"truth": t} if t else {}) for n, p, c, t, *_ in LINES[1:]]
    assert find_scenes(DataSettings.checked(table=path)) == find_scenes(DataSettings.checked(scenes=listed))
    assert [row["region"] for row in read_table(path)] == ["NA", "kara", "kara", "NA", "fram", "fram"]
    assert [row["orbit"] for row in read_table(path)] == [7, 7, 8, 9, 10, None]


def test_queries_choose_scenes(tmp_path: Path) -> None:
    where = {"training": "year < 2021 AND region = 'NA'", "validation": "orbit IS NULL", "test": "name IN ('02', '03')"}
    study = study_of(table(tmp_path), {"kind": "lists", "where": where})
    assert (study.split.training, study.split.validation, study.split.test) == (("01",), ("06",), ("02", "03"))
    assert [s.name for s in study.data.scenes] == ["01", "02", "03", "04", "05", "06"]
    some = study_of(table(tmp_path), {"kind": "lists", "where": where}, where="region <> 'fram' OR year = 2022")
    assert [s.name for s in some.data.scenes] == ["01", "02", "03", "04", "06"]
    both = study_of(table(tmp_path), {"kind": "lists", "training": ["04-SW"], "where": where})
    assert both.split.training == ("04-SW", "01")
    twice = study_of(table(tmp_path), {"kind": "lists", "where": where | {"test": "name = '01'"}})
    with pytest.raises(ConfigError, match="names 01 twice"):
        roles_of(twice.split, tuple(s.name for s in twice.data.scenes))


@pytest.mark.parametrize(
    "query",
    [
        "region ==",
        "regoin = 1",
        "1) ; DROP TABLE scenes; --",
        "load_extension('x')",
        "(SELECT name FROM sqlite_master) = 'x",
        "year = 1999",
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT max(i) FROM n)",
        "writefile('x', 'y')",
        "\0",
        "",
    ],
)
def test_queries_that_cannot_be(query: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[data\] where") as error:
        find_scenes(DataSettings.checked(table=table(tmp_path), where=query))
    assert "scenes.csv" in str(error.value)


@pytest.mark.parametrize("folds", [None, 2, 3])
def test_groups_of_a_column_are_held_out_whole(folds: int | None, tmp_path: Path) -> None:
    split = {"kind": "leave_one_out", "by": "region"} | ({} if folds is None else {"folds": folds})
    study = study_of(table(tmp_path), split)
    names = tuple(s.name for s in study.data.scenes)
    region = {line[0]: line[4] for line in LINES[1:]}
    tested = []
    for group in held_out(study.split, names):
        try:
            roles = roles_of(study.split.model_copy(update={"held_out": group}), names)
        except ConfigError as e:  # two folds of three regions leave one region at most
            assert folds == 2 and "leaves 1 groups" in str(e)
            tested += [n for g in list(study.split.groups)[::2] for n in study.split.groups[g]]
            continue
        assert set(roles) == set(names) and set(roles.values()) == {"train", "validation", "test"}
        uses = {r: {roles[n] for n in names if region[n] == r} for r in set(region.values())}
        assert all(len(use) == 1 for use in uses.values()), "a region has one use"
        tested += [n for n, role in roles.items() if role == "test"]
    assert sorted(tested) == sorted(names)


def test_orbits_are_ordered_as_numbers_and_a_plan_has_a_cell_for_each(tmp_path: Path) -> None:
    path = table(tmp_path, lines=LINES[:-1])
    study = study_of(path, {"kind": "leave_one_out", "by": "orbit"})
    assert list(study.split.groups) == ["7", "8", "9", "10"]
    cells = plan(study, [s.name for s in study.data.scenes])
    assert [c.study.split.held_out for c in cells[:12:3]] == ["7", "8", "9", "10"] and len(cells) == 4 * 3 * 3
    with pytest.raises(ConfigError, match="scene '06' has no orbit"):
        study_of(table(tmp_path), {"kind": "leave_one_out", "by": "orbit"})
    with pytest.raises(ConfigError, match=r"'regoin'.*did you mean 'region'|D?id you mean 'region'"):
        study_of(path, {"kind": "leave_one_out", "by": "regoin"})


def test_groups_without_a_table() -> None:
    groups = {"a": ["1", "2"], "b": ["3"], "c": ["4", "5"]}
    split = SplitSettings.checked(kind="leave_one_out", by="groups", groups=groups, held_out="b")
    assert roles_of(split, tuple("12345")) == {"3": "test"} | dict.fromkeys("12", "validation") | dict.fromkeys(
        "45", "train"
    )
    with pytest.raises(ConfigError, match="names 5, which is not a scene"):
        roles_of(split.model_copy(update={"held_out": "c"}), tuple("1234"))
    for wrong in ({"by": "groups"}, {"groups": groups}, {"by": "groups", "groups": groups | {"d": ["1"]}}):
        with pytest.raises(ConfigError):
            SplitSettings.checked(kind="leave_one_out", **wrong)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([["name", "product"], ["a", "p"]], "lacks the column chart"),
        (LINES[:1], "has no scene"),
        ([*LINES, LINES[1]], "two scenes have the same name"),
        ([*LINES, ["x/y", "p", "c", "", "", "", ""]], "row 7, scene 'x/y'"),
        ([*LINES, ["a", "", "c", "", "", "", ""]], "row 7, scene 'a'"),
        ([["name", "product", "chart"], ["a", '"p', "c"]], "cannot be read as a table"),
    ],
)
def test_tables_that_cannot_be(lines: list[list[str]], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        find_scenes(DataSettings.checked(table=table(tmp_path, lines=lines)))
    assert "scenes.csv" in str(error.value)


def test_what_needs_a_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        find_scenes(DataSettings.checked(table=tmp_path / "missing.csv"))
    with pytest.raises(ConfigError, match="folder and table"):
        DataSettings.checked(table="a.csv", folder="b")
    with pytest.raises(ConfigError, match="give table"):
        DataSettings.checked(where="1")
    for split in ({"kind": "leave_one_out", "by": "coast"}, {"kind": "leave_one_out", "by": "orbit", "folds": 3}):
        with pytest.raises(ConfigError, match="needs a table"):
            resolved(Study.checked(split=split))


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_parquet_without_pyarrow(tmp_path: Path) -> None:
    (tmp_path / "scenes.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match="needs the package pyarrow"):
        find_scenes(DataSettings.checked(table=tmp_path / "scenes.parquet"))
