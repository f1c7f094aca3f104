"""The risk index outcome of a chart's polygons: by hand from the circular's table, and its bounds by another solver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chart_maker import ice, other, write_chart
from scipy.optimize import linprog

from floemap.errors import ConfigError
from floemap.icechart.polaris import SHIP_CLASSES, ship_class
from floemap.icechart.read.sigrid3 import read_chart
from floemap.icechart.regimes import Regimes, regimes


def of(tmp_path: Path, *rows: dict[str, Any], ship: str = "PC7") -> Regimes:
    return regimes(read_chart(write_chart(tmp_path / "chart.gpkg", rows)), ship)


#: Eggs, and their outcome for PC 7 by Table 1.3: ice free 3; new, grey, grey-white 2; medium -1; thick -2; old -3.
BY_HAND = {
    "ten tenths of old ice": (ice(SA="95"), -30),
    "five of first-year ice, five of water": (ice("50", SA="86"), 5 * -2 + 5 * 3),
    "three types and a tenth of water": (
        ice("90", CA="20", SA="95", CB="30", SB="86", CC="40", SC="81"),
        2 * -3 + 3 * -2 + 4 * 2 + 3,
    ),
    "nine plus: parts are shares of 9.5": (
        ice("91", CA="60", SA="91", CB="40", SB="84"),
        5.7 * -1 + 3.8 * 2 + 0.5 * 3,
    ),
    "nine plus of one type is all of the ice": (ice("91", CA="91", SA="86"), 9.5 * -2 + 0.5 * 3),
    "a range by its middle": (ice("46", SA="85"), 5 * 2 + 5 * 3),
    "a fourth type in CD": (
        ice("90", CA="20", SA="95", CB="20", SB="93", CC="20", SC="85", CD="81"),
        -6 - 4 + 4 + 6 + 3,
    ),
    "a thickness is the type of its thickness": (ice("92", SA="25"), 20),
    "a trace has no share": (ice("60", SA="81", CN="96"), 6 * 2 + 4 * 3),
    "water": (other("W"), 30),
    "open water counts as ice free": (ice("01", POLY_TYPE="W"), 30),
    "undetermined ice is the worst": (ice("70", SA="99"), 7 * -3 + 3 * 3),
    "a remainder without a type is the worst": (ice("90", CA="50", SA="86"), 5 * -2 + 4 * -3 + 3),
    "types without shares: all of them the worst of the named": (ice("90", SA="86", SB="81"), 9 * -2 + 3),
    "unknown total of a known type: ten tenths of it": (ice("99", SA="86"), -20),
    "glacier ice has no value and is the worst": (
        ice("60", CA="40", SA="98", CB="20", SB="81"),
        4 * -3 + 2 * 2 + 4 * 3,
    ),
    "bergy water holds half a tenth of the worst": (ice("02"), 9.5 * 3 - 0.5 * 3),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_an_outcome_is_that_of_the_table(case: str, tmp_path: Path) -> None:
    row, expected = BY_HAND[case]
    found = of(tmp_path, row)
    assert found.outcome[0] == pytest.approx(expected, abs=1e-9)
    assert found.lowest[0] <= found.outcome[0] + 1e-9 and found.outcome[0] <= found.highest[0] + 1e-9


def test_land_ice_shelf_and_no_data_have_none(tmp_path: Path) -> None:
    found = of(tmp_path, other("L"), other("S"), other("N"), other("W"))
    assert np.isnan(found.outcome).tolist() == [True, True, True, False]
    assert np.isnan(found.lowest).tolist() == np.isnan(found.highest).tolist() == [True, True, True, False]


#: Eggs with the limits of their parts, tenths, and lowest and highest value of each part for PC 7.
LIMITS: dict[str, tuple[dict[str, Any], list[tuple[float, float]], list[int], list[int]]] = {
    "five tenths of first-year ice": (ice("50", SA="86"), [(0, 10), (4.5, 5.5)], [-2, 3], [1, 3]),
    "three types": (
        ice("90", CA="20", SA="95", CB="30", SB="86", CC="40", SC="81"),
        [(1.5, 2.5), (2.5, 3.5), (3.5, 4.5), (0.5, 1.5)],
        [-3, -2, 2, 3],
        [-3, 1, 2, 3],
    ),
    "ten tenths": (ice("92", SA="91"), [(0, 10), (0, 0.5)], [-1, 3], [0, 3]),
    "nine plus": (
        ice("91", CA="60", SA="91", CB="40", SB="84"),
        [(5.5, 6.5), (3.5, 4.5), (0, 1)],
        [-1, 2, 3],
        [0, 2, 3],
    ),
    "a trace": (ice("60", SA="81", CN="96"), [(0, 10), (0, 1), (3.5, 4.5)], [2, -3, 3], [2, -3, 3]),
    "a range": (ice("46", SA="85"), [(0, 10), (3.5, 6.5)], [2, 3], [2, 3]),
    "open water": (ice("01", POLY_TYPE="W"), [(0, 1), (9, 10)], [-3, 3], [2, 3]),
    "unknown total": (ice("99", SA="86"), [(0, 10), (0, 9.5)], [-2, 3], [1, 3]),
    "unknown shares": (ice("90", SA="86", SB="81"), [(0, 10), (0, 10), (0.5, 1.5)], [-2, 2, 3], [1, 2, 3]),
}


@pytest.mark.parametrize("case", LIMITS)
def test_bounds_are_those_that_linear_programming_finds(case: str, tmp_path: Path) -> None:
    row, limits, worst, best = LIMITS[case]
    found = of(tmp_path, row)
    ten: dict[str, Any] = {"A_eq": [[1] * len(limits)], "b_eq": [10], "bounds": limits}
    assert found.lowest[0] == pytest.approx(linprog(worst, **ten).fun)
    assert found.highest[0] == pytest.approx(-linprog([-v for v in best], **ten).fun)


@pytest.mark.parametrize("ship", SHIP_CLASSES)
def test_the_outcome_lies_within_its_bounds_for_every_ship_and_egg(ship: str, tmp_path: Path) -> None:
    rows = [row for row, _ in BY_HAND.values()] + [ice("40", CA="60", SA="95", CB="50", SB="86"), ice("99"), ice("-9")]
    found = of(tmp_path, *rows, ship=ship)
    assert (found.lowest <= found.outcome + 1e-9).all() and (found.outcome <= found.highest + 1e-9).all()
    assert (found.lowest >= -80).all() and (found.highest <= 30).all()


def test_unknown_ice_is_counted_and_glacier_ice_named(tmp_path: Path) -> None:
    rows = [ice("70", SA="99"), ice("90", CA="50", SA="86"), ice("99", SA="86"), ice("92", SA="86"), ice("02")]
    found = of(tmp_path, *rows, ice("60", CA="40", SA="98", CB="20", SB="81"), other("W"))
    assert found.unknown_tenths.tolist() == pytest.approx([7, 4, 10, 0, 0.5, 4, 0])
    assert found.unknown_total.tolist() == [False, False, True, False, False, False, False]
    assert found.glacier.tolist() == [False, False, False, False, True, True, False]


def test_a_class_is_found_as_people_write_it_and_an_unknown_one_refused_with_a_similar_one() -> None:
    assert {ship_class(name).key for name in ("PC7", "pc7", "PC 7", "pc_7")} == {"PC7"}
    assert ship_class("IA Super").key == "IA_super"
    with pytest.raises(ConfigError, match="Did you mean 'PC1'"):
        ship_class("PC11")
