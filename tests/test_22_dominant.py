"""From codes to classes: dominant types, shares, legends."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chart_maker import ice, other, squares, write_chart
from hypothesis import given, settings
from hypothesis import strategies as st

from floemap.errors import ChartError
from floemap.icechart.dominant_type import IceTypes, Rule, class_fractions, class_ids, ice_types, unmapped_stages
from floemap.icechart.read.codes import TENTHS
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.legend import (
    AI4ARCTIC,
    EXTREMEEARTH,
    ICE_WATER,
    IGNORE,
    LEGENDS,
    SIX_CLASSES,
    STAGE_CODES,
    STAGES,
    STAGES_BY_THICKNESS,
    THICKNESS_CM,
    stage_in_words,
    stage_of,
)

NEW, NILAS, YOUNG, FIRST_YEAR, OLD, WATER, UNKNOWN = range(7)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, number = tmp_path_factory.mktemp("charts"), itertools.count()

    def make(*rows: Mapping[str, Any]) -> Chart:
        return read_chart(write_chart(folder / f"{next(number)}.geojson", rows, squares(len(rows), 1000.0)))

    return make


def one(read: Any, row: Mapping[str, Any], **options: Any) -> tuple[Rule, int, list[float]]:
    """Rule, class among the six and fractions of one polygon."""
    types = ice_types(read(row), **options)
    classes = class_ids(types, SIX_CLASSES, **options)
    return types.rule[0], int(classes[0]), class_fractions(types, SIX_CLASSES, **options)[0].round(6).tolist()


def shares(**by_class: float) -> list[float]:
    names = ("new", "nilas", "young", "first_year", "old", "water", "unknown")
    return [by_class.get(n, 0.0) for n in names]


@pytest.mark.parametrize(
    ("row", "rule", "label", "fractions"),
    [
        # One type: it has the total.
        (ice("92", SA="95"), Rule.SINGLE, OLD, shares(old=1)),
        (ice("50", SA="81"), Rule.SINGLE, NEW, shares(new=0.5, water=0.5)),
        (ice("91", SA="82"), Rule.SINGLE, NILAS, shares(nilas=0.95, water=0.05)),
        (ice("79", SA="84"), Rule.SINGLE, YOUNG, shares(young=0.8, water=0.2)),
        (ice("10", CA="10", SA="86"), Rule.FIRST, FIRST_YEAR, shares(first_year=0.1, water=0.9)),
        # The largest decides, not the first.
        (
            ice("90", CA="50", SA="95", CB="40", SB="84"),
            Rule.FIRST,
            OLD,
            shares(old=0.5, young=0.4, water=0.1),
        ),
        (
            ice("92", CA="20", SA="95", CB="50", SB="86", CC="30", SC="81"),
            Rule.SECOND,
            FIRST_YEAR,
            shares(old=0.2, first_year=0.5, new=0.3),
        ),
        (
            ice("92", CA="20", SA="95", CB="30", SB="86", CC="50", SC="81"),
            Rule.THIRD,
            NEW,
            shares(old=0.2, first_year=0.3, new=0.5),
        ),
        # Ties go to the thicker, wherever it stands.
        (ice("92", CA="50", SA="95", CB="50", SB="86"), Rule.TIE, OLD, shares(old=0.5, first_year=0.5)),
        (ice("92", CA="50", SA="81", CB="50", SB="86"), Rule.TIE, FIRST_YEAR, shares(new=0.5, first_year=0.5)),
        (
            ice("90", CA="30", SA="81", CB="30", SB="82", CC="30", SC="84"),
            Rule.TIE,
            YOUNG,
            shares(new=0.3, nilas=0.3, young=0.3, water=0.1),
        ),
        # The same stage twice is no tie.
        (ice("80", CA="40", SA="84", CB="40", SB="84"), Rule.FIRST, YOUNG, shares(young=0.8, water=0.2)),
        # What remains is of type CD, and may be the most.
        (
            ice("92", CA="10", SA="97", CB="10", SB="96", CC="20", SC="87", CD="85"),
            Rule.REMAINDER,
            YOUNG,
            shares(old=0.2, first_year=0.2, young=0.6),
        ),
        # A trace of thicker ice decides nothing and has no share.
        (ice("92", SA="87", CN="97"), Rule.SINGLE, FIRST_YEAR, shares(first_year=1)),
        # Without CD, what remains is unknown.
        (ice("80", CA="40", SA="95", CB="20", SB="86"), Rule.FIRST, OLD, shares(old=0.4, first_year=0.2, water=0.2)),
        # Parts of 9+ sum to ten: they are shares of it.
        (
            ice("91", CA="60", SA="95", CB="40", SB="86"),
            Rule.FIRST,
            OLD,
            shares(old=0.57, first_year=0.38, water=0.05),
        ),
        # Parts past the total are scaled down to it.
        (ice("60", CA="60", SA="95", CB="60", SB="81"), Rule.TIE, OLD, shares(old=0.3, new=0.3, water=0.4)),
        # CA empty among several: the first has what the others leave.
        (ice("90", SA="95", CB="20", SB="81"), Rule.FIRST, OLD, shares(old=0.7, new=0.2, water=0.1)),
        (ice("90", SA="95", CB="70", SB="81"), Rule.SECOND, NEW, shares(old=0.2, new=0.7, water=0.1)),
        # Several without their parts: what the others leave is of unknown type, and decides nothing unless it is more.
        (ice("90", SA="95", SB="81"), Rule.UNKNOWN_PARTS, IGNORE, shares(water=0.1)),
        (ice("60", SA="95", SB="86", SC="81"), Rule.UNKNOWN_PARTS, IGNORE, shares(water=0.4)),
        (ice("92", SA="95", CD="85"), Rule.UNKNOWN_PARTS, IGNORE, shares()),
        (ice("99", SA="95", SB="81"), Rule.UNKNOWN_PARTS, IGNORE, shares()),
        (ice("90", SA="95", CB="20", SB="81", SC="84"), Rule.UNKNOWN_PARTS, IGNORE, shares(new=0.2, water=0.1)),
        (ice("90", SA="95", CB="50", SB="81", SC="84"), Rule.SECOND, NEW, shares(new=0.5, water=0.1)),
        (ice("90", SA="95", CB="20", SB="81", CD="84"), Rule.UNKNOWN_PARTS, IGNORE, shares(new=0.2, water=0.1)),
        # One without has what the others leave, whichever it is.
        (ice("90", CA="30", SA="95", SB="81"), Rule.SECOND, NEW, shares(old=0.3, new=0.6, water=0.1)),
        (
            ice("90", CA="60", SA="95", CB="10", SB="81", SC="84"),
            Rule.FIRST,
            OLD,
            shares(old=0.6, new=0.1, young=0.2, water=0.1),
        ),
        (ice("90", SB="81"), Rule.SINGLE, NEW, shares(new=0.9, water=0.1)),
        # Codes that name no type of ice are none, and a trace is none that has a share.
        (ice("90", SA="95", SB="80", SC="01"), Rule.SINGLE, OLD, shares(old=0.9, water=0.1)),
        (ice("90", SA="95", CN="97"), Rule.SINGLE, OLD, shares(old=0.9, water=0.1)),
        # Glacier ice and undetermined ice have no class here, but a share.
        (ice("90", CA="60", SA="98", CB="30", SB="81"), Rule.FIRST, IGNORE, shares(new=0.3, water=0.1)),
        (ice("80", CA="40", SA="99", CB="40", SB="81"), Rule.TIE, NEW, shares(new=0.4, water=0.2)),
        # What is not known stays unknown.
        (ice("99", SA="95"), Rule.SINGLE, OLD, shares()),
        (ice("98", SA="95"), Rule.SINGLE, OLD, shares()),
        (ice("92"), Rule.NO_STAGE, IGNORE, shares()),
        (ice("92", CA="60", SA="-9", CB="40", SB="81"), Rule.NO_STAGE, IGNORE, shares(new=0.4)),
        (ice("92", CA="99", SA="95", CB="40", SB="81"), Rule.UNKNOWN_PARTS, IGNORE, shares(new=0.4)),
        (ice("-9", CA="40", SA="95", CB="30", SB="81"), Rule.FIRST, OLD, shares(old=0.4, new=0.3)),
        # Water by concentration or by type; the type goes first.
        (ice("00"), Rule.WATER, WATER, shares(water=1)),
        (ice("55"), Rule.WATER, WATER, shares(water=1)),
        (ice("01", SA="99"), Rule.WATER, WATER, shares(water=1)),
        (ice("92", SA="99") | {"POLY_TYPE": "W"}, Rule.WATER, WATER, shares(water=1)),
        (ice("02", SA="98") | {"POLY_TYPE": "W"}, Rule.WATER, WATER, shares(water=1)),
        (ice("02", SA="98"), Rule.BERGY_WATER, IGNORE, shares()),
        (other("L"), Rule.LAND, IGNORE, shares()),
        (ice("92", SA="95") | {"POLY_TYPE": "L"}, Rule.LAND, IGNORE, shares()),
        (other("S"), Rule.ICE_SHELF, IGNORE, shares()),
        (other("N"), Rule.NO_DATA, IGNORE, shares()),
        (other(""), Rule.NO_DATA, IGNORE, shares()),
        (ice("92", SA="95") | {"POLY_TYPE": ""}, Rule.SINGLE, OLD, shares(old=1)),
    ],
)
def test_decisions(read: Any, row: dict[str, Any], rule: Rule, label: int, fractions: list[float]) -> None:
    fractions[UNKNOWN] = round(1 - sum(fractions), 6)
    assert one(read, row) == (rule, label, fractions)


#: Of CT and the parts of A and B: the shares of A and B, and the unknown rest, by hand. 9+ is 9.5 tenths.
NEARLY_FULL: dict[tuple[str, str, str | None], tuple[float, float, float]] = {
    ("90", "90", None): (0.9, 0, 0),
    ("90", "91", None): (0.9, 0, 0),  # never more than the total
    ("90", "92", None): (0.9, 0, 0),
    ("91", "90", None): (0.855, 0, 0.095),  # parts of 9+ are shares of ten
    ("91", "91", None): (0.95, 0, 0),  # unless one is 9+: it is all of the ice
    ("91", "92", None): (0.95, 0, 0),
    ("92", "90", None): (0.9, 0, 0.1),
    ("92", "91", None): (0.95, 0, 0.05),
    ("92", "92", None): (1, 0, 0),
    ("90", "80", "10"): (0.8, 0.1, 0),
    ("91", "80", "10"): (0.76, 0.095, 0.095),
    ("91", "90", "10"): (0.855, 0.095, 0),
    ("91", "91", "10"): (0.95 * 9.5 / 10.5, 0.95 / 10.5, 0),
    ("91", "10", "91"): (0.95 / 10.5, 0.95 * 9.5 / 10.5, 0),
    ("91", "91", "91"): (0.475, 0.475, 0),
    ("91", "92", "10"): (0.95 * 10 / 11, 0.95 / 11, 0),
    ("92", "90", "10"): (0.9, 0.1, 0),
    ("92", "91", "10"): (9.5 / 10.5, 1 / 10.5, 0),
    ("92", "92", "92"): (0.5, 0.5, 0),
    # A type without a part has what 9+ leaves of ten.
    ("91", "91", "-9"): (0.9025, 0.0475, 0),
    ("91", "90", "-9"): (0.855, 0.095, 0),
    ("92", "91", "-9"): (0.95, 0.05, 0),
}


@pytest.mark.parametrize("codes", NEARLY_FULL, ids=str)
def test_parts_of_nearly_full_ice_leave_unknown_only_what_no_code_gives(
    read: Any, codes: tuple[str, str, str | None]
) -> None:
    total, a, b = codes
    row = ice(total, CA=a, SA="95") | ({"CB": b, "SB": "81"} if b else {})
    old, new, unknown = NEARLY_FULL[codes]
    water = {"90": 0.1, "91": 0.05, "92": 0}[total]
    expected = shares(old=old, new=new, water=water, unknown=unknown)
    np.testing.assert_allclose(one(read, row)[2], expected, atol=1e-6)
    assert sum(expected) == pytest.approx(1)


@pytest.mark.parametrize("code", [c for c in TENTHS if c >= 10 and c != 55])
def test_a_type_with_the_code_of_the_total_is_all_of_the_ice(read: Any, code: int) -> None:
    """As if its partial concentration were empty."""
    given, empty = (one(read, ice(str(code), CA=part, SA="95"))[2] for part in (str(code), "-9"))
    assert given == empty and given[UNKNOWN] == 0


PARTS = st.lists(st.sampled_from(range(10, 100, 10)), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(PARTS, st.permutations([81, 82, 84, 86, 95, 97]), st.sampled_from([10, 30, 50, 79, 90, 91, 92, 98]))
def test_laws_of_any_polygon(read: Any, parts: list[int], stages: list[int], total: int) -> None:
    slots = list(zip("ABC", parts, stages, strict=False))
    row = ice(str(total)) | {f"C{s}": str(c) for s, c, _ in slots} | {f"S{s}": str(stage) for s, _, stage in slots}
    reverse = [*zip("ABC", reversed(slots), strict=False)]
    turned = ice(str(total)) | {f"C{s}": str(c) for s, (_, c, _) in reverse}
    turned |= {f"S{s}": str(stage) for s, (_, _, stage) in reverse}
    types = ice_types(read(row, turned))
    # The order of the columns does not matter.
    assert types.stage[0] == types.stage[1]
    fractions = class_fractions(types, SIX_CLASSES)
    np.testing.assert_allclose(fractions[0], fractions[1], atol=1e-12)
    # The dominant stage is among those with the largest part, and no thicker one is.
    largest = [stage for _, c, stage in slots if c == max(parts)]
    assert types.stage[0] == max(largest, key=STAGES_BY_THICKNESS.index)
    # Shares are shares.
    assert (fractions >= 0).all()
    np.testing.assert_allclose(fractions.sum(axis=1), 1)
    assert types.shares.sum(axis=1).max() <= 1 + 1e-12


def test_every_decision_is_counted(read: Any) -> None:
    rows = [ice(SA="95"), ice(SA="84"), other("L"), ice(CA="50", SA="95", CB="50", SB="84"), ice("00")]
    types = ice_types(read(*rows))
    assert types.counts == {"land": 1, "single_type": 2, "tie_to_thicker": 1, "water": 1}
    assert sum(types.counts.values()) == len(rows)


def test_the_first_of_several_without_parts_has_it_all_where_asked(read: Any) -> None:
    """As in the labels of AI4Arctic, whose rule is that an empty CA is CT."""
    rows = [ice("90", SA="95", SB="81"), ice("90", SA="95", SC="84"), ice("90", CA="30", SA="95", SB="81", SC="84")]
    types = ice_types(read(*rows, ice("90", SA="95")), without_parts="first")
    assert types.rule.tolist() == [Rule.SINGLE, Rule.SINGLE, Rule.SECOND, Rule.SINGLE]
    assert types.stage.tolist() == [95, 95, 81, 95]
    np.testing.assert_allclose(types.shares[:3], [[0.9, 0, 0, 0], [0.9, 0, 0, 0], [0.3, 0.6, 0, 0]])
    assert types.without_parts == (0, 1, 2)


def test_an_unnamed_remainder_that_is_larger_is_counted(read: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "floemap"):
        types = ice_types(read(ice("92", CA="20", SA="95", CB="10", SB="86"), ice("92", CA="50", SA="95")))
    assert types.remainder_larger == 1
    assert "in 1 polygon more ice is of unnamed type" in caplog.text


def test_an_unmapped_stage_is_refused_or_counted_and_never_a_class(read: Any) -> None:
    chart = read(ice(SA="95"), ice(SA="90"), ice(SA="90"), ice("80", CA="60", SA="95", CB="20", SB="92"))
    types = ice_types(chart)
    with pytest.raises(ChartError, match=r"polygon 1: stage of development 90 is not in legend six_classes.*ignore"):
        class_ids(types, SIX_CLASSES)
    assert class_ids(types, SIX_CLASSES, unmapped="ignore").tolist() == [OLD, IGNORE, IGNORE, OLD]
    assert unmapped_stages(types, SIX_CLASSES) == {90: 2}
    with pytest.raises(ChartError, match="polygon 1: stage of development 90"):
        class_fractions(types, SIX_CLASSES)
    ignored = class_fractions(types, SIX_CLASSES, unmapped="ignore")
    np.testing.assert_allclose(ignored[1], shares(unknown=1))
    np.testing.assert_allclose(ignored[3], shares(old=0.6, water=0.2, unknown=0.2))
    # ExtremeEarth's own table knows strays of its own, which are thicknesses elsewhere.
    types = ice_types(read(ice(SA="95"), ice(SA="13"), ice(SA="45"), ice(SA="78")))
    assert class_ids(types, EXTREMEEARTH).tolist() == [OLD, WATER, WATER, WATER]
    assert unmapped_stages(types, EXTREMEEARTH) == {}


def test_a_concentration_that_is_none_is_refused_or_counted(read: Any) -> None:
    chart = read(ice("92", CA="60", SA="95", CB="05", SB="84"), ice("54", SA="84"), other("L") | {"CT": "54"})
    with pytest.raises(ChartError, match=r"polygon 0: CB is 05, which is not a code .*--unmapped ignore") as e:
        ice_types(chart)
    assert e.value.path == chart.path
    types = ice_types(chart, unmapped="ignore")
    assert types.rule.tolist() == [Rule.UNKNOWN_PARTS, Rule.SINGLE, Rule.LAND]
    assert types.odd_concentrations == {5: 1, 54: 1}


def test_legends_of_the_same_chart(read: Any) -> None:
    rows = [ice(SA="81"), ice(SA="84"), ice(SA="87"), ice(SA="93"), ice(SA="97"), ice(SA="99"), ice(), ice("00")]
    types = ice_types(read(*rows))
    assert class_ids(types, SIX_CLASSES).tolist() == [0, 2, 3, 3, 4, IGNORE, IGNORE, 5]
    # Stage 99 is water in ExtremeEarth, ice of some kind elsewhere; no stage at all is never water.
    assert class_ids(types, EXTREMEEARTH).tolist() == [0, 2, 3, 3, 4, 5, IGNORE, 5]
    assert class_ids(types, ICE_WATER).tolist() == [1, 1, 1, 1, 1, 1, 1, 0]
    assert class_ids(types, AI4ARCTIC).tolist() == [1, 2, 3, 4, 5, IGNORE, IGNORE, 0]


@pytest.mark.parametrize("legend", LEGENDS.values(), ids=list(LEGENDS))
def test_every_legend_takes_every_stage_of_ice(read: Any, legend: Any) -> None:
    stages = [s for s in STAGES if s != 80]
    types: IceTypes = ice_types(read(*(ice(SA=str(s)) for s in stages)))
    classes = class_ids(types, legend)
    assert set(classes.tolist()) <= {*range(len(legend)), IGNORE}
    # Fractions and labels agree where there is one type.
    fractions = class_fractions(types, legend)
    labelled = classes != IGNORE
    assert (fractions.argmax(axis=1)[labelled] == classes[labelled]).all()
    assert (fractions[~labelled, -1] == 1).all()


#: Table 2 of SIGRID-3, version 3.0: the rows of thickness, as code and centimetres, and WMO's stage of that thickness.
THICKNESS_ROWS = [
    *((2, 2, 82), (3, 3, 82), (4, 4, 82), (7, 7, 82), (9, 9, 82), (10, 10, 84), (13, 13, 84), (14, 14, 84)),
    *((15, 15, 85), (29, 29, 85), (30, 30, 88), (45, 45, 88), (49, 49, 88), (50, 50, 89), (51, 55, 89), (52, 60, 89)),
    *((53, 65, 89), (54, 70, 91), (59, 95, 91), (60, 100, 91), (61, 110, 91), (62, 120, 93), (69, 190, 93)),
    *((70, 200, 93), (71, 250, 93), (73, 350, 93), (74, 400, 93), (75, 500, 93), (78, 800, 93)),
]


@pytest.mark.parametrize(("code", "cm", "stage"), THICKNESS_ROWS)
def test_stages_may_be_given_as_thickness(code: int, cm: int, stage: int) -> None:
    assert (THICKNESS_CM[code], stage_of(code)) == (cm, stage)
    assert f"ice of {cm} cm" in stage_in_words(code)


def test_thickness_covers_its_codes_and_grows() -> None:
    assert list(THICKNESS_CM) == list(range(2, 79))
    assert np.diff(list(THICKNESS_CM.values())).min() > 0
    ranks = [STAGES_BY_THICKNESS.index(stage_of(c)) for c in THICKNESS_CM]
    assert ranks == sorted(ranks)
    assert all(stage_of(c) == c for c in STAGES)


@pytest.mark.parametrize("legend", LEGENDS.values(), ids=list(LEGENDS))
def test_every_code_of_the_standards_table_is_taken(read: Any, legend: Any) -> None:
    """Version 3.0 has 01, 02 to 78, 79, 80 to 89, 91, 93 to 99; 90 and 92 are for later use."""
    table = {*range(1, 90), 91, *range(93, 100)}
    assert table == STAGE_CODES
    types = ice_types(read(*(ice(SA=f"{code:02d}") for code in sorted(table - {80}))))
    classes = dict(zip(sorted(table - {80}), class_ids(types, legend).tolist(), strict=True))
    assert classes[1] == legend.water
    assert classes[79] == (1 if legend is ICE_WATER else IGNORE)
    assert classes[94] == classes[95]
    strays = {13, 45, 78} if legend is EXTREMEEARTH else set()
    assert all(classes[c] == classes[stage_of(c)] for c in THICKNESS_CM if c not in strays)
    assert all(classes[c] == WATER for c in strays)


def test_the_thicker_counts_however_it_is_given(read: Any) -> None:
    types = ice_types(
        read(
            ice("90", CA="30", SA="13", CB="30", SB="45", CC="30", SC="81"),
            ice("80", CA="40", SA="13", CB="40", SB="84"),  # both grey: no tie of two kinds
            ice("80", CA="40", SA="95", CB="40", SB="78"),
        )
    )
    assert types.stage.tolist() == [45, 13, 95]
    assert types.rule.tolist() == [Rule.TIE, Rule.FIRST, Rule.TIE]


@pytest.mark.parametrize("poly_type", ["W", "I", ""])
@pytest.mark.parametrize("stage", ["-9", "99", "98", "01"])
def test_98_is_ice_free_where_no_ice_is_named(read: Any, poly_type: str, stage: str) -> None:
    types = ice_types(read(ice("98", SA=stage) | {"POLY_TYPE": poly_type}))
    assert types.rule.tolist() == [Rule.WATER]
    for legend in LEGENDS.values():
        assert class_ids(types, legend).tolist() == [legend.water]
        assert class_fractions(types, legend)[0, legend.water] == 1


def test_98_is_unknown_where_ice_is_named(read: Any) -> None:
    types = ice_types(read(ice("98", SA="95"), ice("98", CA="50", SA="95", CB="30", SB="81")))
    assert class_ids(types, ICE_WATER).tolist() == [1, 1]
    assert types.stage.tolist() == [95, 95]


def test_thickness_order_is_complete() -> None:
    assert sorted(STAGES_BY_THICKNESS) == sorted(STAGES)


REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "charts" / "cis_SGRDREA_20201102T.gpkg"


@pytest.mark.skipif(not REAL.exists(), reason="no real chart here")
def test_types_of_the_real_chart() -> None:
    chart = read_chart(REAL)
    assert len(chart) == 432
    assert (chart.report.repaired, chart.report.odd_codes, chart.report.past_ten) == (0, {}, 0)
    types = ice_types(chart)
    amount = np.stack([np.where(chart.codes(c) < 0, 0, chart.codes(c)) for c in ("ca", "cb", "cc")], axis=1)
    a, b, c = amount.T
    assert (np.count_nonzero(b > a), np.count_nonzero(c > a)) == (36, 25)
    # "Dominant" is SA in none of the 25.
    assert (types.stage[c > a] != chart.codes("sa")[c > a]).all()
    # In 18 of the 25 the third is larger than the second too. In 3 of those the three sum to four to seven tenths of
    # 9+, and CD says what the rest is: more than the third. The other 15 are labelled by the third.
    third = c > np.maximum(a, b)
    rest = 100 - amount.sum(axis=1)
    fourth = third & (chart.codes("cd") > 0) & (rest > c)
    assert (np.count_nonzero(third), np.count_nonzero(fourth)) == (18, 3)
    assert (types.stage[third & ~fourth] == chart.codes("sc")[third & ~fourth]).all()
    assert (types.rule[third & ~fourth] == Rule.THIRD).all()
    assert (types.stage[fourth] == chart.codes("cd")[fourth]).all()
    # In the other 7 the second is as large as the third, or larger; it is the thicker of the two.
    seven = (c > a) & ~third
    assert np.count_nonzero(seven) == 7
    assert (types.stage[seven] == chart.codes("sb")[seven]).all()
    assert types.counts["single_type"] == 186  # 191 with CA empty, less 5 of water and bergy water
