"""Concentrations and ice types of draft charts' polygons: tenths that sum, types by thickness, read back by others."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.errors import ConfigError, GridError
from floemap.icechart.dominant_type import class_fractions, class_ids, ice_types
from floemap.icechart.draw.eggs import Eggs, EggSource, make_eggs
from floemap.icechart.draw.mixture_merging import merge_areas
from floemap.icechart.draw.mixtures import mixture_areas
from floemap.icechart.draw.polygonize import ChartPolygons, vectorize
from floemap.icechart.draw.regions import sum_contacts
from floemap.icechart.read.own_charts import other_classes
from floemap.icechart.read.sigrid3 import read_chart
from floemap.icechart.write.sigrid3 import write_sigrid3
from floemap.icechart.write.table import FIELDS, codes_of_egg
from floemap.icechart.write.vector import LAYER, write_geojson, write_geopackage
from floemap.inference.draftchart.settings import ChartSettings
from floemap.legend import AI4ARCTIC, EXTREMEEARTH, ICE_WATER, IGNORE, LAND, LEGENDS, SIX_CLASSES, Legend
from floemap.own_legends import LegendTable

START = datetime(2018, 1, 16, 7, 54, 30, tzinfo=UTC)
#: An own legend with a class of brash ice, whose thickness nobody knows, and one whose code names no stage.
OWN = LegendTable.checked(
    name="own",
    water="sea",
    classes=[
        {"key": "thick", "title": "Thick", "colour": "#101010", "stages": [93]},
        {"key": "thin", "title": "Thin", "colour": "#202020", "stages": [81, 82]},
        {"key": "brash", "title": "Brash", "colour": "#303030", "stages": [79]},
        {"key": "no_stage", "title": "No stage", "colour": "#404040", "stages": [80]},
        {"key": "any", "title": "Any", "colour": "#505050", "stages": [99]},
        {"key": "sea", "title": "Sea", "colour": "#606060"},
    ],
).legend()
Field = tuple[Legend, NDArray[np.float64], NDArray[np.float64]]
every_legend = pytest.mark.parametrize("legend", [*LEGENDS.values(), OWN], ids=lambda x: x.name)


def lay(shares: Any, legend: Legend = SIX_CLASSES, concentration: Any = None, seen: Any = None) -> Eggs:
    """Eggs of polygons with these shares of classes; the total is what the share of water leaves, unless given."""
    shares = np.atleast_2d(np.asarray(shares, float))
    total = 1 - shares[:, legend.water] if concentration is None else np.atleast_1d(np.asarray(concentration, float))
    seen = shares if seen is None else np.atleast_2d(np.asarray(seen, float))
    return make_eggs(shares, total, seen, np.full(shares.shape, 0.8), legend)


def codes(*shares: Any, **more: Any) -> dict[str, str]:
    """The codes of one polygon that are not empty; shares are of new, nilas, young, first-year, old ice and water."""
    found = codes_of_egg(lay(*shares, **more), 0, SIX_CLASSES)
    return {k: v for k, v in found.items() if v != "-9" and k not in ("FA", "FB", "FC", "CF")}


# --- by hand


def test_one_type_has_the_total_and_no_part_of_its_own() -> None:
    assert codes([0, 0, 0, 1, 0, 0]) == {"CT": "92", "SA": "86", "POLY_TYPE": "I"}
    assert codes([0, 0.01, 0, 0.69, 0, 0.3]) == {"CT": "70", "SA": "86", "POLY_TYPE": "I"}


def test_types_come_thickest_first_with_tenths() -> None:
    found = codes([0.28, 0, 0, 0.2, 0.12, 0.4])
    assert found == {
        "CT": "60", "CA": "10", "SA": "95", "CB": "20", "SB": "86", "CC": "30", "SC": "81", "POLY_TYPE": "I",
    }  # fmt: skip


def test_the_largest_remainders_go_up() -> None:
    """3.4 + 3.4 + 3.2 are ten tenths: 3 each, and the tenth that is left goes to the thicker of the two 3.4."""
    found = codes([0.32, 0, 0.34, 0.34, 0, 0])
    assert [found[k] for k in ("CT", "CA", "CB", "CC")] == ["92", "40", "30", "30"]
    assert [found[k] for k in ("SA", "SB", "SC")] == ["86", "83", "81"]


def test_a_fourth_type_has_the_rest_and_a_fifth_is_shared_out() -> None:
    found = codes([0.5, 0.02, 0.18, 0.2, 0.1, 0])
    assert found == {
        "CT": "92", "CA": "10", "SA": "95", "CB": "20", "SB": "86", "CC": "20", "SC": "83", "CD": "81",
        "POLY_TYPE": "I",
    }  # fmt: skip


def test_a_trace_is_thicker_than_all_types_and_seen() -> None:
    shares = [0, 0, 0, 0.97, 0.03, 0]
    assert codes(shares)["CN"] == "95"
    assert "CN" not in codes(shares, seen=[0, 0, 0, 1, 0, 0]), "no pixel has it as its most probable class"
    assert "CN" not in codes([0.03, 0, 0, 0.97, 0, 0]), "thinner than the type"


@pytest.mark.parametrize(
    ("share", "code"),
    [(0.0, "01"), (0.09, "01"), (0.1, "10"), (0.14, "10"), (0.15, "20"), (0.449, "40"), (0.45, "50"), (0.9, "90"),
     (0.92, "90"), (0.93, "91"), (0.95, "91"), (0.97, "91"), (0.98, "92"), (1.0, "92")],
)  # fmt: skip
def test_the_total_is_the_nearest_code(share: float, code: str) -> None:
    """Readers count 91 as 9.5 tenths and 92 as ten; open water is less than a tenth (WMO)."""
    found = codes([0, 0, 0, share, 0, 1 - share])
    assert found["CT"] == code
    assert found["POLY_TYPE"] == ("W" if code == "01" else "I")


def test_a_predicted_concentration_is_the_total_and_shares_only_divide_it() -> None:
    found = codes([0.1, 0, 0, 0.1, 0, 0.8], concentration=0.6)
    assert [found[k] for k in ("CT", "CA", "SA", "CB", "SB")] == ["60", "30", "86", "30", "81"]
    assert codes([0, 0, 0, 0, 0, 1], concentration=0.6) == {"CT": "60", "SA": "99", "POLY_TYPE": "I"}
    assert codes([0, 0, 0, 1, 0, 0], concentration=0.02) == {"CT": "01", "POLY_TYPE": "W"}


def test_classes_without_a_stage_are_undetermined_ice() -> None:
    """Shares are of thick, thin, brash, no stage, any, sea. Codes 80 and 99 name no type, brash ice has its code."""
    found = codes_of_egg(lay([0.2, 0.1, 0.1, 0.2, 0.1, 0.3], OWN), 0, OWN)
    assert [found[k] for k in ("CT", "CA", "SA", "CB", "SB", "CC", "SC", "CD")] == [
        "70", "20", "93", "10", "81", "30", "99", "79",
    ]  # fmt: skip


def test_the_legend_of_ice_and_water_has_concentrations_of_undetermined_ice() -> None:
    found = codes_of_egg(lay([0.35, 0.65], ICE_WATER), 0, ICE_WATER)
    assert [found[k] for k in ("CT", "CA", "SA", "CB")] == ["70", "-9", "99", "-9"]


# --- laws


@st.composite
def fields(draw: st.DrawFn) -> Field:
    """Shares of polygons, some of them zero, equal or all of one class, with and without a total of their own."""
    legend = draw(st.sampled_from([*LEGENDS.values(), OWN]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shares = rng.dirichlet(np.full(len(legend), draw(st.sampled_from([0.1, 0.5, 5.0]))), 50)
    shares = np.where(shares < draw(st.sampled_from([0.0, 0.1])), 0, shares)
    shares = np.round(shares, draw(st.sampled_from([1, 2, 12])))
    shares[shares.sum(axis=1) == 0, legend.water] = 1
    shares /= shares.sum(axis=1, keepdims=True)
    total = rng.uniform(0, 1, 50) if draw(st.booleans()) else 1 - shares[:, legend.water]
    total[:3] = 0, 1, np.nan
    return legend, shares, total


@given(fields())
@settings(max_examples=60, deadline=None)
def test_partial_concentrations_sum_to_the_total(
    field: tuple[Legend, NDArray[np.float64], NDArray[np.float64]],
) -> None:
    legend, shares, total = field
    eggs = lay(shares, legend, total)
    for row in np.flatnonzero(~np.isnan(total)):
        found = codes_of_egg(eggs, int(row), legend)
        if total[row] < 0.1 - 1e-9:
            assert (found["POLY_TYPE"], found["CT"], found["SA"]) == ("W", "01", "-9")
            continue
        value = {"91": 9.5, "92": 10}.get(found["CT"], int(found["CT"]) / 10)
        assert abs(value - 10 * total[row]) <= 0.5 + 1e-6
        parts = [int(found[c]) // 10 for c in ("CA", "CB", "CC") if found[c] != "-9"]
        full = 10 if value > 9 else value
        if found["CD"] != "-9":
            assert len(parts) == 3 and sum(parts) < full
        elif parts:
            assert sum(parts) == full and min(parts) >= 1 and len(parts) > 1
        else:
            assert found["SB"] == "-9" and found["SA"] != "-9"


@given(fields())
@settings(max_examples=40, deadline=None)
def test_each_type_is_within_a_tenth_of_its_share(field: Field) -> None:
    """Of polygons with at most four types: its tenths are its part of the total, up to one (Hamilton's method)."""
    legend, shares, total = field
    if legend is OWN:
        return
    eggs = lay(shares, legend, total)
    ice = np.delete(np.arange(len(legend)), legend.water)
    for row in np.flatnonzero(~np.isnan(total) & (eggs.total > 0)):
        part = shares[row, ice] / max(shares[row, ice].sum(), 1e-12)
        if (part > 0).sum() > 4 or shares[row, ice].sum() < 1e-6:
            continue
        given = dict(zip(eggs.types[row].tolist(), eggs.tenths[row].tolist(), strict=True))
        for k, p in zip(ice.tolist(), part.tolist(), strict=True):
            assert abs(given.get(k, 0) - p * eggs.total[row]) < 1 + 1e-6


# --- drawn, written, and read back by others


BOX = GeoBox((60, 90), Affine(1000, 0, 500_000, 0, -1000, -1_000_000), "EPSG:3413")


def mixed(legend: Legend, **more: Any) -> tuple[ChartPolygons, NDArray[np.float64]]:
    """Nine squares of drawn mixtures, each pixel surely of one class; and the true shares in each square."""
    rng = np.random.default_rng(3)
    k = len(legend)
    squares = np.repeat(np.repeat(np.arange(6).reshape(2, 3), 30, axis=0), 30, axis=1)
    true = rng.dirichlet(np.full(k, 0.5), 6)
    classes = np.empty(squares.shape, np.uint8)
    for i, share in enumerate(true):
        inside = squares == i
        count = rng.multinomial(int(inside.sum()), share)
        classes[inside] = rng.permutation(np.repeat(np.arange(k), count))
    probabilities = [np.where(classes == i, 200, 0).astype(np.uint8) for i in range(k)]
    land = np.zeros(squares.shape, bool)
    land[:5, :5] = True
    chart = vectorize(
        classes, BOX, legend, min_area_km2=100.0, tolerance_m=0.0, probabilities=probabilities,
        eggs=EggSource(probabilities), areas=squares.astype(np.uint8), land=land, **more,
    )  # fmt: skip
    counted = [np.bincount(classes[(squares == i) & ~land], minlength=k) for i in range(6)]
    return chart, np.array([c / c.sum() for c in counted])


@every_legend
def test_eggs_come_back_from_files_as_shares_of_the_truth(legend: Legend, tmp_path: Path) -> None:
    chart, true = mixed(legend)
    sea = chart.polygons["class_id"].to_numpy() != LAND
    assert sea.sum() == 6 and len(chart) == 7
    about = {"simulated": True, "created": "2026-11-26T12:00:00+00:00"}
    files = [
        write_geopackage(chart, tmp_path / "chart.gpkg", start=START, about=about),
        write_sigrid3(chart, tmp_path, start=START, about=about),
        write_geojson(chart, tmp_path / "chart.geojson", start=START, about=about),
    ]
    expected = [codes_of_egg(chart.eggs, int(i), legend) for i in np.flatnonzero(sea)]
    for path in files:
        table = pyogrio.read_dataframe(path, read_geometry=False, layer=LAYER if path.suffix == ".gpkg" else 0)
        assert [c for c in table.columns if c != "id"] == list(FIELDS)
        told = table[table["POLY_TYPE"] != "L"]
        assert told[list(expected[0])].to_dict("records") == expected, "GDAL reads the codes as they were written"
        assert set(told["ESTIMATED"]) == {"yes"} and set(table[table["POLY_TYPE"] == "L"]["ESTIMATED"]) == {"no"}
        read = read_chart(path)
        types = ice_types(read)
        assert other_classes(read, types) == [] or legend is OWN
        if legend is OWN or legend is EXTREMEEARTH:
            continue
        shares = class_fractions(types, legend, unmapped="ignore")[np.asarray(sea)]
        # The codes are whole tenths, and of five types of ice four are told.
        assert np.abs(shares[:, :-1] - true).max() < 0.11
        np.testing.assert_array_equal(class_ids(types, legend)[sea], chart.polygons["class_id"][sea])


def test_the_class_of_a_polygon_is_the_dominant_type_of_its_egg() -> None:
    chart, true = mixed(AI4ARCTIC)
    rows = chart.polygons[chart.polygons["class_id"] != LAND]
    assert chart.eggs is not None
    for row, share in zip(rows.itertuples(), true, strict=True):
        ice = share.copy()
        ice[AI4ARCTIC.water] = 0
        if ice.sum() < 0.1:
            assert row.class_id == AI4ARCTIC.water
        else:  # equal tenths go to the thicker type
            assert ice[row.class_id] > ice.max() - 0.1
        assert row.confidence == pytest.approx(1.0), "each pixel is sure of its class"
    drawn = {int(v) for v in np.unique(chart.classes)}
    assert drawn == {int(v) for v in rows["class_id"]} | {IGNORE}


@pytest.mark.parametrize(
    ("water", "doubt", "total"), [(0.87, True, "01"), (0.87, False, "10"), (0.75, True, "30"), (0.95, False, "01")]
)
def test_doubt_of_every_pixel_is_not_ice(water: float, doubt: bool, total: str) -> None:
    """Where all pixels are most probably water, 0.13 of ice is a tenth of floes only if it is a share, not a chance."""
    shares = np.zeros((6, 60, 90), np.uint8)
    shares[SIX_CLASSES.water], shares[0] = round(200 * water), round(200 * (1 - water))
    classes = np.full((60, 90), SIX_CLASSES.water, np.uint8)
    chart = vectorize(
        classes, BOX, SIX_CLASSES, min_area_km2=0, tolerance_m=0, eggs=EggSource(list(shares), doubt=doubt)
    )
    (row,) = chart.polygons.itertuples()
    assert chart.eggs is not None
    assert codes_of_egg(chart.eggs, 0, SIX_CLASSES)["CT"] == total
    assert row.class_key == ("open_water" if total == "01" else "new_ice")
    assert chart.eggs.concentration[0] == pytest.approx(1 - water, abs=0.005), "what was estimated is told"


def test_confidence_is_of_the_pixels_and_the_second_class_is_besides_the_polygons() -> None:
    """Pixels that are most probably water, and a few of young ice: the egg's dominant type is not what is likeliest."""
    young, water = 2, SIX_CLASSES.water
    shares = np.zeros((6, 60, 90), np.uint8)
    classes = np.full((60, 90), water, np.uint8)
    classes[:, :18] = young  # a fifth
    for k, of_water, of_young in ((young, 60, 180), (water, 140, 20)):  # 0.3 and 0.9; 0.7 and 0.1
        shares[k] = np.where(classes == young, of_young, of_water)
    usual: dict[str, Any] = {"min_area_km2": 0, "tolerance_m": 0, "probabilities": list(shares)}
    one = np.ones((60, 90), np.uint8)
    chart = vectorize(classes, BOX, SIX_CLASSES, eggs=EggSource(list(shares), doubt=True), areas=one, **usual)
    (row,) = chart.polygons.itertuples()
    assert row.class_id == young
    assert row.confidence == pytest.approx(0.8 * 0.7 + 0.2 * 0.9)
    assert row.second_id == water and row.second_share == pytest.approx(0.8 * 0.7 + 0.2 * 0.1)
    assert row.second_share > (0.8 * 0.3 + 0.2 * 0.9), "water is more probable than the polygon's class"
    plain = vectorize(classes, BOX, SIX_CLASSES, **usual).polygons.set_index("class_id")
    assert plain["confidence"].to_dict() == {young: pytest.approx(0.9), water: pytest.approx(0.7)}


def test_what_is_not_estimated_is_not_told() -> None:
    chart = vectorize(np.full((60, 90), 3, np.uint8), BOX, SIX_CLASSES, min_area_km2=0, tolerance_m=0)
    assert chart.eggs is None


def test_rasters_that_do_not_fit_are_refused() -> None:
    classes = np.full((60, 90), 3, np.uint8)
    usual: dict[str, Any] = {"min_area_km2": 0, "tolerance_m": 0}
    with pytest.raises(GridError, match="2 rasters of shares do not fit the 6 classes"):
        vectorize(classes, BOX, SIX_CLASSES, eggs=EggSource([classes, classes]), **usual)
    with pytest.raises(GridError, match="areas, int64 of"):
        vectorize(classes, BOX, SIX_CLASSES, eggs=EggSource(), areas=np.zeros((3, 4), np.int64), **usual)


# --- areas of one mixture


def pack(rows: int = 240, cols: int = 360, seed: int = 0) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """Left of column 200 a pack, specks of old and first-year ice and water; to the right water. Pixels of 400 m."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(np.array([3, 4, 5], np.uint8), (rows, cols), p=[0.5, 0.3, 0.2])
    classes[:, 200:] = 5
    return classes, [np.where(classes == k, 160, 8).astype(np.uint8) for k in range(6)]


def areas_of(classes: NDArray[np.uint8], shares: list[NDArray[np.uint8]], **more: Any) -> NDArray[np.uint8]:
    given: dict[str, Any] = {"pixel_m": 400.0, "smallest_km2": 50.0} | more
    return mixture_areas(classes, EggSource(shares), SIX_CLASSES.water, **given)


def test_a_pack_of_specks_is_one_area_up_to_its_edge() -> None:
    classes, shares = pack()
    areas = areas_of(classes, shares)
    assert len(np.unique(areas)) == 2
    left, right = areas[0, 0], areas[0, -1]
    # The edge is where it is, within a cell of 800 m.
    assert (areas[:, :198] == left).all() and (areas[:, 202:] == right).all()
    box = GeoBox(classes.shape, Affine(400, 0, 500_000, 0, -400, -1_000_000), "EPSG:3413")
    usual: dict[str, Any] = {"min_area_km2": 50.0, "tolerance_m": 800.0, "eggs": EggSource(shares)}
    chart = vectorize(classes, box, SIX_CLASSES, probabilities=shares, areas=areas, **usual)
    assert len(chart) == 2 and shapely.coverage_is_valid(np.asarray(chart.polygons.geometry))
    assert chart.eggs is not None
    assert chart.polygons["class_key"].tolist() == ["first_year_ice", "open_water"] or chart.eggs.total[1] > 0


def test_equal_rasters_give_equal_areas_and_nothing_is_drawn_without_data() -> None:
    classes, shares = pack()
    classes[50:90, 100:300] = IGNORE
    shares = [np.where(classes == IGNORE, 255, s).astype(np.uint8) for s in shares]
    areas = areas_of(classes, shares)
    np.testing.assert_array_equal(areas == IGNORE, classes == IGNORE)
    np.testing.assert_array_equal(areas, areas_of(classes.copy(), [s.copy() for s in shares]))


def test_a_predicted_concentration_divides_areas_of_one_type() -> None:
    ice = np.full((120, 240), 3, np.uint8)
    shares = [np.where(ice == k, 200, 0).astype(np.uint8) for k in range(6)]
    concentration = np.where(np.arange(240) < 120, 200, 60).astype(np.uint8)[None].repeat(120, axis=0)
    source = EggSource(shares, concentration=concentration)
    areas = mixture_areas(ice, source, SIX_CLASSES.water, pixel_m=400.0, smallest_km2=50.0)
    assert len(np.unique(areas)) == 2 and (areas[:, :118] != areas[0, -1]).all()


@pytest.mark.parametrize("scene", ["water", "islands", "one pixel", "noise"])
def test_areas_of_odd_scenes(scene: str) -> None:
    rng = np.random.default_rng(1)
    classes = np.full((90, 130), 5, np.uint8)
    if scene == "islands":  # more parts than numbers of areas, apart from each other
        classes[:] = IGNORE
        classes[::6, ::6] = rng.integers(0, 6, classes[::6, ::6].shape)
    elif scene == "one pixel":
        classes[:] = IGNORE
        classes[40, 70] = 3
    elif scene == "noise":
        classes = rng.integers(0, 6, classes.shape).astype(np.uint8)
    shares = [np.where(classes == IGNORE, 255, 190 * (classes == k)).astype(np.uint8) for k in range(6)]
    areas = areas_of(classes, shares, pixel_m=900.0)
    np.testing.assert_array_equal(areas == IGNORE, classes == IGNORE)
    assert areas[areas != IGNORE].max() <= 250
    if scene in ("water", "one pixel"):
        assert len(np.unique(areas[areas != IGNORE])) == 1


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 3.0]), st.sampled_from([0.0, 4.0]), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_merging_keeps_what_there_is_and_ends_as_it_should(seed: int, worth: float, least: float, most: int) -> None:
    """Areas in a row of squares, drawn mixtures: sizes are kept, parts hang together, limits hold."""
    rng = np.random.default_rng(seed)
    n = 12
    amounts = rng.dirichlet([0.3] * 3, n) * rng.uniform(0.5, 3, (n, 1))
    met = sum_contacts(n, np.arange(n - 1), np.arange(1, n), np.ones(n - 1, np.int64))
    merged = merge_areas(amounts, met, 1.0, worth_km=worth, smallest_km2=least, most=most)
    assert (np.diff(merged) >= 0).all() and (np.diff(merged) <= 1).all(), "neighbours only, numbered in their order"
    count = int(merged[-1]) + 1
    assert count <= most
    sums = np.zeros((count, 3))
    np.add.at(sums, merged, amounts)
    assert count == 1 or sums.sum(axis=1).min() >= least


def test_settings_that_contradict_are_refused() -> None:
    with pytest.raises(ConfigError, match="need the shares of types"):
        ChartSettings.checked(polygons="mixtures", eggs=False)
    with pytest.raises(ConfigError, match="smoothing_m smooths the classes"):
        ChartSettings.checked(polygons="mixtures", smoothing_m=200)
