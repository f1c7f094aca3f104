"""How QGIS labels a chart with eggs, and what it demands of corrections: the same expressions, as SQL."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from itertools import product
from typing import Any

import pytest
from lxml import etree

from floemap.icechart.read.codes import FORMS
from floemap.icechart.write.qgis_expressions import concentrations_by_colour, constraints, egg_label
from floemap.icechart.write.qgis_style import BY_CONFIDENCE, BY_TYPE, qgis_styles, spots_style
from floemap.icechart.write.table import FIELDS
from floemap.legend import EXTREMEEARTH, STAGES
from floemap.publishing.eggs import Egg

EMPTY = dict.fromkeys(("CT", "CA", "SA", "FA", "CB", "SB", "FB", "CC", "SC", "FC", "CN", "CD"), "-9")


def ask(expression: str, polygon: dict[str, str | None]) -> object:
    """Return the value of an expression for a polygon, by SQLite."""
    row = EMPTY | {"POLY_TYPE": "I"} | polygon
    columns = ", ".join(f'? AS "{name}"' for name in row)
    with closing(sqlite3.connect(":memory:")) as db:
        (value,) = db.execute(f"SELECT {expression} FROM (SELECT {columns})", list(row.values())).fetchone()
    return value


def broken(polygon: dict[str, str | None]) -> set[str]:
    """Return the fields whose constraints a polygon breaks."""
    found = {c.field: ask(c.condition, polygon) for c in constraints()}
    assert None not in found.values(), "QGIS takes no answer for a break"
    return {field for field, answer in found.items() if not answer}


@pytest.mark.parametrize(
    ("polygon", "lines"),
    [
        # MANICE (Canadian Ice Service) writes old ice 7., first-year ice 6, young ice 3, nilas 2, new ice 1.
        ({"CT": "92", "SA": "95", "FA": "99"}, ["10", "7•", "X"]),
        (
            {"CT": "91", "CA": "30", "SA": "93", "FA": "06", "CB": "70", "SB": "84", "FB": "03"},
            ["9+", "3 7", "4• 4", "6 3"],
        ),
        (
            {"CT": "80", "CA": "20", "SA": "91", "FA": "05", "CB": "30", "SB": "85", "FB": "22", "CC": "20", "SC": "82"}
            | {"FC": "99", "CN": "96", "CD": "81"},
            ["8", "2 3 2", "(8•) 1• 5 2 (1)", "5 0 X"],
        ),
        ({"CT": "46", "SA": "87", "FA": "08"}, ["4-6", "7", "8"]),
        ({"CT": "81", "SA": "97", "FA": "10"}, ["8-10", "9•", "9"]),
        ({"CT": "99", "CA": "99", "SA": "86", "FA": "99"}, ["X", "6", "X"]),
        ({"CT": "01", "POLY_TYPE": "W"}, []),
        ({"POLY_TYPE": "L"}, []),
        ({"CT": "99", "SA": "-9"}, []),
    ],
)
def test_eggs_are_written_as_in_the_egg_code(polygon: dict[str, str | None], lines: list[str]) -> None:
    assert ask(egg_label(), polygon) == "\n".join(lines)


@pytest.mark.parametrize("total", [*(f"{n}0" for n in range(1, 10)), "91", "92"])
def test_partial_concentrations_must_sum_to_the_total(total: str) -> None:
    """Every way to give one to four types their tenths: right are those that SIGRID-3 allows, counted by hand."""
    whole = {"91": {9, 10}, "92": {10}}.get(total, {int(total) // 10})
    expression = next(c.condition for c in constraints() if c.field == "CA")
    rows, right = [], []
    for count in (2, 3):
        for parts in product(range(1, 10), repeat=count):
            stages = dict(zip(("SA", "SB", "SC"), ("95", "86", "83")[:count], strict=False))
            codes = {f"C{x}": f"{n}0" for x, n in zip("ABC", parts, strict=False)}
            rows.append(EMPTY | {"POLY_TYPE": "I", "CT": total} | stages | codes)
            right.append(sum(parts) in whole)
            rows.append(rows[-1] | {"CD": "81"})
            right.append(sum(parts) < max(whole))
    columns = ", ".join(f'"{name}"' for name in rows[0])
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(f"CREATE TABLE c ({columns})")
        db.executemany(f"INSERT INTO c VALUES ({', '.join('?' * len(rows[0]))})", [list(r.values()) for r in rows])
        answers = [bool(answer) for (answer,) in db.execute(f"SELECT {expression} FROM c ORDER BY rowid")]
    assert answers == right and any(right) == (total != "10")


@pytest.mark.parametrize(
    ("polygon", "fields"),
    [
        ({"CT": "92", "SA": "95"}, set()),
        ({"CT": "92", "CA": "92", "SA": "95"}, set()),
        ({"CT": "92", "CA": "90", "SA": "95"}, {"CA"}),
        ({"CT": "99", "CA": "99", "SA": "86"}, set()),
        ({"CT": "99", "SA": "-9"}, {"SA"}),
        ({"CT": "99", "SA": None}, {"SA"}),
        ({"CT": None, "SA": "95"}, {"CT"}),
        ({"CT": "93", "SA": "95"}, {"CT"}),
        ({"CT": "00", "SA": "95"}, {"CT"}),
        ({"CT": "46", "CA": "20", "SA": "95", "CB": "30", "SB": "86"}, set()),
        ({"CT": "80", "CA": "20", "SA": "95", "CB": "60", "SB": "86", "FB": "23"}, {"FB"}),
        ({"CT": "80", "CA": "20", "SA": "86", "CB": "60", "SB": "95"}, {"SB"}),
        ({"CT": "80", "CA": "20", "SA": "99", "CB": "60", "SB": "95"}, set()),
        ({"CT": "80", "CA": "20", "SA": "95", "CB": "-9", "SB": "86"}, {"CA"}),
        ({"CT": "80", "CA": "20", "SA": "95", "CB": "60", "SB": "-9"}, {"CB"}),
        ({"CT": "80", "CA": "-9", "SA": "95", "CB": "80", "SB": "86"}, {"CA"}),
        ({"CT": "80", "SA": "86", "CN": "81"}, {"CN"}),
        ({"CT": "80", "SA": "86", "CN": "95"}, set()),
        ({"CT": "01", "POLY_TYPE": "W"}, set()),
        ({"CT": "01", "SA": "-9"}, set()),
        ({"CT": "92", "POLY_TYPE": "W"}, {"CT"}),
        ({"CT": "01", "POLY_TYPE": "W", "CA": "20"}, {"CA"}),
        ({"POLY_TYPE": "L"}, set()),
        ({"POLY_TYPE": "L", "CT": "92"}, {"CT"}),
        ({"POLY_TYPE": "X", "CT": "99"}, {"POLY_TYPE"}),
    ],
)
def test_what_a_polygon_must_obey(polygon: dict[str, str | None], fields: set[str]) -> None:
    assert broken(polygon) == fields


def test_what_qgis_lets_pass_can_be_published(seed: int = 1) -> None:
    """QGIS and `floemap publish` check eggs apart: what one finds in drawn polygons the other does not overlook."""
    draw = random.Random(seed)
    rows = [drawn_polygon(draw) for _ in range(1500)]
    rules = constraints()
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(f"CREATE TABLE c ({', '.join(rows[0])})")
        db.executemany(f"INSERT INTO c VALUES ({', '.join('?' * len(rows[0]))})", [list(r.values()) for r in rows])
        answers = db.execute(f"SELECT {', '.join(f'({r.condition})' for r in rules)} FROM c ORDER BY rowid").fetchall()
    seen = set()
    for row, answer in zip(rows, answers, strict=True):
        egg = Egg({name.lower(): int(row[name]) for name in EMPTY}, row["POLY_TYPE"], "99-9")
        egg.check()
        lets_pass = all(answer)
        seen.add((lets_pass, bool(egg.faults)))
        assert not (lets_pass and egg.faults), (row, egg.faults)
        assert lets_pass or egg.faults or egg.repairs, row
    assert seen == {(True, False), (False, True), (False, False)}


def drawn_polygon(draw: random.Random) -> dict[str, str]:
    """A polygon of up to three types whose codes are right as often as not."""
    row = EMPTY | {"POLY_TYPE": draw.choice("IIIIIWL")}
    tenths = [f"{n}0" for n in range(1, 10)]
    row["CT"] = draw.choice([*tenths, "91", "92", "99", "01", "00", "46", "81", "-9"])
    stages = sorted(draw.choices(["81", "82", "83", "86", "91", "95"], k=draw.choice([0, 1, 1, 2, 2, 3])), reverse=True)
    if draw.random() < 0.1:
        draw.shuffle(stages)
    for x, stage in zip("ABC", stages, strict=False):
        row |= {f"S{x}": stage, f"F{x}": "99", f"C{x}": draw.choice([*tenths, *tenths[:4], "-9", "99", "46"])}
    if len(stages) == 1 and draw.random() < 0.7:
        row["CA"] = draw.choice(["-9", row["CT"]])
    for field, codes in (("CN", ["97", "81"]), ("CD", ["81", "93"])):
        row[field] = draw.choice(codes) if draw.random() < 0.1 else "-9"
    return row


@pytest.mark.parametrize(
    ("polygon", "step"),
    [
        ({"CT": "10", "SA": "81"}, "1-3 tenths"),
        ({"CT": "46", "SA": "81"}, "4-6 tenths"),
        ({"CT": "80", "SA": "81"}, "7-8 tenths"),
        ({"CT": "91", "SA": "81"}, "9-10 tenths"),
        ({"CT": "92", "SA": "81"}, "9-10 tenths"),
        ({"CT": "01", "POLY_TYPE": "W"}, "Less than one tenth"),
        ({"CT": "00", "POLY_TYPE": "W"}, "Ice free"),
        ({"POLY_TYPE": "L"}, "Land"),
        ({"CT": "99", "SA": "81"}, None),
    ],
)
def test_every_total_concentration_has_one_colour(polygon: dict[str, str | None], step: str | None) -> None:
    assert [title for title, _, condition in concentrations_by_colour() if ask(condition, polygon)] == (
        [step] if step else []
    )


def test_the_form_has_every_field_once_and_its_codes_in_words() -> None:
    styles: dict[str, Any] = {name: etree.fromstring(text.encode()) for name, text in qgis_styles(EXTREMEEARTH).items()}
    assert next(iter(styles)) == BY_TYPE
    form = styles[BY_TYPE]
    assert sorted(form.xpath("//attributeEditorField/@name")) == sorted(FIELDS)
    stages = form.xpath("fieldConfiguration/field[@name='SB']//Option[@type='QString']")
    told = {o.get("value"): o.get("name") for o in stages}
    for code, words in STAGES.items():
        assert code == 80 or told[str(code)] == f"{words} ({code})"
    forms = {o.get("value") for o in form.xpath("fieldConfiguration/field[@name='FA']//Option[@type='QString']")}
    assert forms == {f"{code:02d}" for code in FORMS} | {"-9"}
    assert not set(form.xpath("defaults/default/@field")) - set(FIELDS)
    for name, root in styles.items():
        assert root.xpath("labeling//text-style/@fieldName") == [egg_label()], name
    assert styles[BY_CONFIDENCE].find("fieldConfiguration") is None, "changing colours does not change the form"
    assert etree.fromstring(spots_style().encode()).get("styleCategories") == "Symbology|Labeling"
