"""Risk: the circular's values, risk index outcomes, areas by level of operation, distances between types."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from chart_maker import ice, write_chart
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from floemap.errors import ConfigError, GridError
from floemap.evaluation.risk.operations import (
    areas_by_level,
    false_safe_km2,
)
from floemap.evaluation.scoring.confusion import confusion
from floemap.evaluation.scoring.ordinal import (
    mean_ordinal_error,
    ordinal_positions,
)
from floemap.icechart.dominant_type import class_fractions, ice_types
from floemap.icechart.polaris import (
    REPORTED_SHIPS,
    SHIP_CLASSES,
    STAGE_TYPES,
    IceType,
    Level,
    class_ice_types,
    class_levels,
    operation_levels,
    risk_index_of_fractions,
    risk_values,
)
from floemap.icechart.read.sigrid3 import read_chart
from floemap.legend import AI4ARCTIC, EXTREMEEARTH, ICE_WATER, IGNORE, LEGENDS, SIX_CLASSES, STAGES, Legend

PAGE = Path(__file__).parent.parent / "docs" / "risk.md"
NEW, NILAS, YOUNG, FIRST_YEAR, OLD, WATER = range(6)

#: MSC.1/Circ.1519, Table 1.3, entered a second time and the other way round: by ice type, for the ice classes PC 1 to
#: PC 7, IA Super, IA, IB, IC, and none. A slip in one of the two tables is seen.
BY_ICE_TYPE = {
    "ice free": "3 3 3 3 3 3 3 3 3 3 3 3",
    "new": "3 3 3 3 3 2 2 2 2 2 2 1",
    "grey": "3 3 3 3 3 2 2 2 2 2 1 0",
    "grey-white": "3 3 3 3 3 2 2 2 2 1 0 -1",
    "thin first-year, stage 1": "2 2 2 2 2 2 1 2 1 0 -1 -2",
    "thin first-year, stage 2": "2 2 2 2 2 1 1 1 0 -1 -2 -3",
    "medium first-year under 1 m": "2 2 2 2 1 1 0 0 -1 -2 -3 -4",
    "medium first-year": "2 2 2 2 1 0 -1 -1 -2 -3 -4 -5",
    "thick first-year": "2 2 2 1 0 -1 -2 -2 -3 -4 -5 -6",
    "second-year": "2 1 1 0 -1 -2 -3 -3 -4 -5 -6 -7",
    "light multi-year": "1 1 0 -1 -2 -3 -3 -4 -5 -6 -7 -8",
    "heavy multi-year": "1 0 -1 -2 -2 -3 -3 -4 -5 -6 -8 -8",
}

rasters = hnp.arrays(np.uint8, (7, 9), elements=st.sampled_from([*range(6), IGNORE]))
matrices = hnp.arrays(np.int64, (6, 6), elements=st.integers(0, 1000))
ships = st.sampled_from(sorted(SHIP_CLASSES))


def test_the_ice_types_are_those_of_the_circular_in_its_order() -> None:
    """Two with one number would be one: a column less, and all risks right of it those of another type."""
    words = [name.replace("stage", "") for name in BY_ICE_TYPE]
    keys = ["".join(c for c in name if c.isalnum()) for name in words]
    assert [t.name.lower().replace("_", "") for t in IceType] == keys
    assert [int(t) for t in IceType] == list(range(len(BY_ICE_TYPE)))


def test_values_are_those_of_the_circular() -> None:
    expected = np.array([row.split() for row in BY_ICE_TYPE.values()], int)
    assert np.array_equal(np.array([ship.values for ship in SHIP_CLASSES.values()]).T, expected)
    assert [s.polar for s in SHIP_CLASSES.values()] == [True] * 7 + [False] * 5


def test_the_page_shows_the_values_that_are_used() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    shown = {row[0]: row[1:] for row in rows}
    for ship in SHIP_CLASSES.values():
        assert tuple(map(int, shown[ship.title if ship.key != "none" else "none"])) == ship.values
    for c in SIX_CLASSES.classes:
        levels = [Level(class_levels(SIX_CLASSES, ship)[c.id]).name.lower() for ship in REPORTED_SHIPS]
        assert shown[c.title.lower()][1:] == levels


def test_thicker_ice_and_weaker_ships_are_never_safer() -> None:
    table = np.array([ship.values for ship in SHIP_CLASSES.values()])
    assert (np.diff(table, axis=1) <= 0).all()
    assert (np.diff(table[:7], axis=0) <= 0).all()
    assert (np.diff(table[7:], axis=0) <= 0).all()


@pytest.mark.parametrize(
    ("outcome", "polar", "other"),
    [
        (30, Level.NORMAL, Level.NORMAL),
        (0, Level.NORMAL, Level.NORMAL),
        (-0.1, Level.ELEVATED, Level.SPECIAL),
        (-10, Level.ELEVATED, Level.SPECIAL),
        (-10.1, Level.SPECIAL, Level.SPECIAL),
        (-80, Level.SPECIAL, Level.SPECIAL),
        (np.nan, IGNORE, IGNORE),
    ],
)
def test_levels_of_operation(outcome: float, polar: Level, other: Level) -> None:
    for key, ship in SHIP_CLASSES.items():
        assert operation_levels(outcome, key) == (polar if ship.polar else other)


def test_every_stage_of_the_legends_has_ice_types() -> None:
    assert set(STAGES) - {98} == set(STAGE_TYPES)


@pytest.mark.parametrize("legend", LEGENDS.values(), ids=LEGENDS)
@pytest.mark.parametrize("ship", SHIP_CLASSES)
def test_a_class_counts_as_the_worst_of_its_types(legend: Legend, ship: str) -> None:
    values = risk_values(legend, ship)
    assert values[legend.water] == 3
    for c in legend.classes:
        if c.id != legend.water:
            possible = [SHIP_CLASSES[ship].values[t] for stage in c.stages - {80} for t in STAGE_TYPES[stage]]
            assert values[c.id] == min(possible)


def test_the_six_classes() -> None:
    kinds = class_ice_types(SIX_CLASSES)
    assert kinds == (
        IceType.NEW,
        IceType.NEW,
        IceType.GREY_WHITE,
        IceType.THICK_FIRST_YEAR,
        IceType.HEAVY_MULTI_YEAR,
        IceType.ICE_FREE,
    )
    assert class_ice_types(EXTREMEEARTH) == kinds
    levels = {ship: class_levels(SIX_CLASSES, ship) for ship in SHIP_CLASSES}
    allowed = {ship: np.flatnonzero(of_class == Level.NORMAL).tolist() for ship, of_class in levels.items()}
    assert allowed["PC1"] == [NEW, NILAS, YOUNG, FIRST_YEAR, OLD, WATER]
    assert allowed["PC5"] == [NEW, NILAS, YOUNG, FIRST_YEAR, WATER]
    assert allowed["PC7"] == allowed["IA"] == [NEW, NILAS, YOUNG, WATER]
    assert allowed["none"] == [NEW, NILAS, WATER]


def test_another_ice_type_may_be_taken() -> None:
    medium = class_ice_types(SIX_CLASSES, {"first_year_ice": IceType.MEDIUM_FIRST_YEAR})
    assert medium[FIRST_YEAR] == IceType.MEDIUM_FIRST_YEAR
    assert risk_values(SIX_CLASSES, "PC7", {"first_year_ice": IceType.MEDIUM_FIRST_YEAR})[FIRST_YEAR] == -1
    with pytest.raises(ConfigError, match=r"thin_ice.*Its classes: new_ice"):
        class_ice_types(SIX_CLASSES, {"thin_ice": IceType.NEW})
    with pytest.raises(ConfigError, match=r"first_year_ice.*holds no second-year ice.*It may be: thin first-year"):
        class_ice_types(SIX_CLASSES, {"first_year_ice": IceType.SECOND_YEAR})
    with pytest.raises(ConfigError, match=r"open_water.*holds no new ice"):
        class_ice_types(SIX_CLASSES, {"open_water": IceType.NEW})


def test_a_class_without_an_ice_type_is_refused() -> None:
    bergs = dataclasses.replace(SIX_CLASSES.classes[0], id=6, key="bergs", stages=frozenset({98}), written_as=98)
    legend = dataclasses.replace(SIX_CLASSES, classes=(*SIX_CLASSES.classes, bergs), ignored_stages=frozenset({99}))
    with pytest.raises(ConfigError, match=r"bergs.*no ice type"):
        class_ice_types(legend)


def test_an_unknown_ship_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'PC9'.*Known: PC1"):
        risk_values(SIX_CLASSES, "PC9")


def test_a_regime_sums_tenths_times_values() -> None:
    # 3 tenths thick first-year, 4 grey-white, 1 heavy multi-year, 2 open water.
    percent = np.array([[0], [0], [40], [30], [10], [20], [0]], np.uint8)
    expected = {"PC1": 25, "PC5": 16, "PC7": 5, "IA": 0, "none": -24}
    for ship, outcome in expected.items():
        lowest, highest = risk_index_of_fractions(percent, SIX_CLASSES, ship)
        assert lowest == highest == outcome


def test_a_charts_codes_become_an_outcome(tmp_path: Path) -> None:
    # 9 tenths of ice: 4 old, 3 first-year, 2 of a type not told; 1 tenth of water.
    row = ice("90", CA="40", SA="95", CB="30", SB="86", CC="20", SC="99")
    types = ice_types(read_chart(write_chart(tmp_path / "chart.gpkg", [row])))
    percent = np.rint(100 * class_fractions(types, SIX_CLASSES)).astype(np.uint8).T
    lowest, highest = risk_index_of_fractions(percent, SIX_CLASSES, "PC5")
    assert lowest == pytest.approx([4 * -2 + 3 * 0 + 2 * -2 + 1 * 3])
    assert highest == pytest.approx([4 * -2 + 3 * 0 + 2 * 3 + 1 * 3])


@given(hnp.arrays(np.uint8, (7, 4), elements=st.integers(0, 100)), ships)
def test_ice_of_unknown_type_only_widens(parts: NDArray[np.uint8], ship: str) -> None:
    parts = parts.astype(np.int64)
    parts[0] += 1
    percent = np.floor(100 * parts / parts.sum(axis=0)).astype(np.uint8)
    percent[0] += (100 - percent.sum(axis=0)).astype(np.uint8)
    lowest, highest = risk_index_of_fractions(percent, SIX_CLASSES, ship)
    assert (lowest <= highest).all()
    known = percent[6] == 0
    np.testing.assert_array_equal(lowest[known], highest[known])
    assert (lowest >= 10 * min(SHIP_CLASSES[ship].values)).all()
    assert (highest <= 30).all()


def test_a_whole_class_counts_ten_tenths() -> None:
    percent = 100 * np.eye(7, 6, dtype=np.uint8)  # new, nilas, young, first-year, old, water
    lowest, _ = risk_index_of_fractions(percent, SIX_CLASSES, "PC7")
    np.testing.assert_array_equal(lowest, [20, 20, 20, -20, -30, 30])


def test_where_there_are_no_fractions_there_is_no_outcome() -> None:
    lowest, highest = risk_index_of_fractions(np.full((7, 2, 2), 255, np.uint8), SIX_CLASSES, "PC7")
    assert np.isnan(lowest).all()
    assert np.isnan(highest).all()
    with pytest.raises(GridError, match="6 fractions"):
        risk_index_of_fractions(np.zeros((6, 2, 2), np.uint8), SIX_CLASSES, "PC7")


def test_old_ice_called_first_year_is_false_safe_for_pc5() -> None:
    reference = np.full((40, 50), WATER, np.uint8)
    reference[:20] = FIRST_YEAR
    reference[:10] = OLD
    prediction = np.where(reference == OLD, np.uint8(FIRST_YEAR), reference)
    counts = confusion(reference, prediction, 6).counts
    areas = {ship: areas_by_level(counts, class_levels(SIX_CLASSES, ship), 500) for ship in REPORTED_SHIPS}
    assert false_safe_km2(areas["PC5"]) == 10 * 50 * 0.25
    assert areas["PC5"][Level.NORMAL, Level.NORMAL + 1 :].sum() == 0
    # For the others both types are open, or both closed.
    assert all(false_safe_km2(areas[ship]) == 0 for ship in ("PC1", "PC7", "IA", "none"))


@given(rasters, rasters, ships)
def test_areas_are_those_of_the_pixels(reference: NDArray[np.uint8], prediction: NDArray[np.uint8], ship: str) -> None:
    matrix = confusion(reference, prediction, 6).counts
    by_matrix = areas_by_level(matrix, class_levels(SIX_CLASSES, ship), 80)
    values = risk_values(SIX_CLASSES, ship)
    both = (reference != IGNORE) & (prediction != IGNORE)
    of_reference, of_prediction = values[reference[both]], values[prediction[both]]
    assert false_safe_km2(by_matrix) == pytest.approx(0.0064 * ((of_reference < 0) & (of_prediction >= 0)).sum())
    stated = by_matrix[Level.NORMAL, Level.NORMAL + 1 :].sum()
    assert stated == pytest.approx(0.0064 * ((of_reference >= 0) & (of_prediction < 0)).sum())
    assert by_matrix.sum() == pytest.approx(0.0064 * both.sum())


@given(matrices, ships)
def test_to_swap_the_charts_swaps_the_areas(matrix: NDArray[np.int64], ship: str) -> None:
    levels = class_levels(SIX_CLASSES, ship)
    one, other = areas_by_level(matrix, levels, 100), areas_by_level(matrix.T, levels, 100)
    np.testing.assert_array_equal(one, other.T)
    assert false_safe_km2(areas_by_level(np.diag(np.diag(matrix)), levels, 100)) == 0


def test_areas_of_stacked_matrices_are_those_of_each() -> None:
    stack = np.random.default_rng(3).integers(0, 99, (4, 5, 6, 6))
    levels = class_levels(SIX_CLASSES, "PC7")
    together = areas_by_level(stack, levels, 80)
    assert together.shape == (4, 5, 3, 3)
    np.testing.assert_array_equal(together[2, 3], areas_by_level(stack[2, 3], levels, 80))
    assert false_safe_km2(together)[2, 3] == false_safe_km2(together[2, 3])


@pytest.mark.parametrize("legend", [ICE_WATER, AI4ARCTIC], ids=["ice_water", "ai4arctic"])
def test_other_legends(legend: Legend) -> None:
    old = len(legend) - 1
    reference = np.full((10, 10), old, np.uint8)
    prediction = np.full((10, 10), legend.water, np.uint8)
    counts = confusion(reference, prediction, len(legend)).counts
    levels = [class_levels(legend, ship) for ship in REPORTED_SHIPS]
    assert [false_safe_km2(areas_by_level(counts, of_ship, 1000)) for of_ship in levels] == [0, 100, 100, 100, 100]
    assert mean_ordinal_error(confusion(reference, prediction, len(legend)).counts, ordinal_positions(legend)) == old


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(GridError, match="6 classes"):
        areas_by_level(np.zeros((2, 2)), class_levels(SIX_CLASSES, "PC1"), 80)


def test_positions_run_from_water_to_the_thickest() -> None:
    assert ordinal_positions(SIX_CLASSES).tolist() == ordinal_positions(EXTREMEEARTH).tolist() == [1, 2, 3, 4, 5, 0]
    assert ordinal_positions(AI4ARCTIC).tolist() == [0, 1, 2, 3, 4, 5]
    assert ordinal_positions(ICE_WATER).tolist() == [0, 1]


@given(rasters, rasters)
def test_mean_distance_is_that_of_the_pixels(reference: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
    positions = ordinal_positions(SIX_CLASSES)
    both = (reference != IGNORE) & (prediction != IGNORE)
    mean = mean_ordinal_error(confusion(reference, prediction, 6).counts, positions)
    if not both.any():
        assert np.isnan(mean)
        return
    assert mean == pytest.approx(np.abs(positions[reference[both]] - positions[prediction[both]]).mean())


@given(matrices)
def test_to_swap_the_charts_keeps_the_distance(matrix: NDArray[np.int64]) -> None:
    matrix[0, 0] += 1
    positions = ordinal_positions(SIX_CLASSES)
    mean = mean_ordinal_error(matrix, positions)
    assert mean <= 5
    assert mean == mean_ordinal_error(matrix.T, positions)


def test_distances_refuse_what_does_not_fit() -> None:
    positions = ordinal_positions(SIX_CLASSES)
    with pytest.raises(GridError, match="6 classes"):
        mean_ordinal_error(np.zeros((2, 2)), positions)


def test_special_consideration_called_normal_is_false_safe() -> None:
    """Areas by level of reference and prediction: normal, elevated, special consideration."""
    areas = np.array([[1.0, 2, 4], [8, 16, 32], [64, 128, 256]])
    assert false_safe_km2(areas) == 8 + 64
    assert false_safe_km2(np.stack([areas, 2 * areas])).tolist() == [72, 144]
