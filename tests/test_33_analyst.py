"""The chart drawn of the twin's truth: gap-free, in zones, with concentrations that the truth bears out."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from floemap.datasets.extremeearth.scenes import COLUMNS_V1
from floemap.errors import ChartError
from floemap.icechart.read.codes import tenths
from floemap.icechart.read.sigrid3 import read_chart
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.simulation.analyst import COLUMNS, OUTSIDE, draw_chart, extremeearth_columns
from floemap.simulation.world.surface import SURFACE_STAGE, Surface, classes, truth
from floemap.simulation.world.zones import WORLD_CRS, scene_centre_m

SEED, N, STEP_M = 0, 420, 950.0
#: Class shares of the dataset, percent (docs/simulation.md).
DATASET = {"new_ice": 3.9, "nilas": 0.6, "young_ice": 6.0, "first_year_ice": 18.3, "old_ice": 22.6, "open_water": 48.6}
THICKNESS = ["95", "86", "83", "82", "81"]


def grid(rows: int, cols: int, step_m: float, left: float = 0.0, top: float = 0.0) -> GeoBox:
    return GeoBox((rows, cols), Affine(step_m, 0, left, 0, -step_m, top), WORLD_CRS)


@pytest.fixture(scope="module")
def year() -> Year:
    """Truth and chart of the twelve months, at the extent of a scene."""
    months = {}
    for month in range(1, 13):
        x, y = scene_centre_m(month, SEED)
        box = grid(N, N, STEP_M, x - N * STEP_M / 2, y + N * STEP_M / 2)
        along = (np.arange(N) + 0.5 - N / 2) * STEP_M
        surface = truth(
            *np.meshgrid((x + along).astype(np.float32), (y - along).astype(np.float32)), month, SEED
        ).surface
        months[month] = surface, box, draw_chart(surface, box)
    return months


def types_of(row: gpd.GeoSeries) -> list[tuple[str, str]]:
    """(stage, concentration) of the types that a row gives."""
    return [(row[f"S{k}"], row[f"C{k}"]) for k in "ABC" if row[f"S{k}"] != "-9"]


def dominant_class(row: gpd.GeoSeries) -> int:
    if row["POLY_TYPE"] != "I":
        return IGNORE if row["POLY_TYPE"] == "L" else SIX_CLASSES.water
    stage = max(types_of(row), key=lambda t: int(t[1]))[0]
    return SIX_CLASSES.stage_to_class[int(stage)]


def burnt(chart: gpd.GeoDataFrame, values: list[int], box: GeoBox, fill: int) -> np.ndarray:
    return rasterize(zip(chart.geometry, values, strict=True), tuple(box.shape), fill=fill, transform=box.transform)


Year = dict[int, tuple[np.ndarray, GeoBox, gpd.GeoDataFrame]]


def shares(ids: np.ndarray) -> np.ndarray:
    count = np.bincount(ids[ids != IGNORE].ravel(), minlength=6).astype(float)
    return count / ids.size


def test_class_shares_over_the_year_are_near_the_datasets(year: Year) -> None:
    true = np.sum([shares(classes(surface)) for surface, _, _ in year.values()], axis=0)
    drawn = np.sum(
        [
            shares(burnt(chart, [dominant_class(r) for _, r in chart.iterrows()], box, IGNORE))
            for _, box, chart in year.values()
        ],
        axis=0,
    )
    for name, found in (("truth", true), ("chart", drawn)):
        percent = 100 * found / found.sum()
        for c in SIX_CLASSES.classes:
            ratio = percent[c.id] / DATASET[c.key]
            assert 1 / 1.5 < ratio < 1.5, (name, c.key, percent[c.id])


def test_charts_are_coverages_of_the_scene(year: Year) -> None:
    for _, _, chart in year.values():
        assert 8 < len(chart) < 150
        assert shapely.is_valid(chart.geometry.array).all()
        assert shapely.coverage_is_valid(chart.geometry.array)  # neither overlaps nor gaps along borders
        assert chart.geometry.area.sum() == pytest.approx((N * STEP_M) ** 2, rel=0.01)
        assert shapely.unary_union(chart.geometry.array).area == pytest.approx(chart.geometry.area.sum(), rel=1e-9)
        assert list(chart.columns) == [*COLUMNS, "geometry"] and chart.crs is not None


def test_no_polygon_is_small_but_islands(year: Year) -> None:
    for surface, box, _ in list(year.values())[:3]:
        for smallest in (80.0, 400.0):
            chart = draw_chart(surface, box, smallest_km2=smallest)
            sea = chart[chart["POLY_TYPE"] != "L"]
            assert sea.geometry.area.min() / 1e6 > 0.6 * smallest  # simplified outlines lose a little


def test_codes_follow_sigrid3(year: Year) -> None:
    for _, _, chart in year.values():
        assert set(chart["POLY_TYPE"]) <= {"I", "W", "L"} and "I" in set(chart["POLY_TYPE"])
        for _, row in chart.iterrows():
            types = types_of(row)
            if row["POLY_TYPE"] != "I":
                assert not types and row["CT"] in {"L": {"-9"}, "W": {"00", "01"}}[row["POLY_TYPE"]]
                continue
            assert types and [s for s, _ in types] == sorted((s for s, _ in types), key=THICKNESS.index)
            total = 10 if row["CT"] in ("91", "92") else int(row["CT"]) // 10
            assert 1 <= total <= 10
            if len(types) == 1:
                assert types[0][1] == "-9"
            else:
                assert sum(int(c) for _, c in types) == 10 * total
            assert all(row[f"F{k}"] != "-9" for k, _ in zip("ABC", types, strict=False))


def test_concentrations_are_those_of_the_truth_below(year: Year) -> None:
    for surface, box, chart in list(year.values())[::3]:
        number = burnt(chart, list(range(1, len(chart) + 1)), box, 0)
        for n, (_, row) in enumerate(chart.iterrows(), 1):
            below = surface[(number == n) & (surface != Surface.LAND)]
            if row["POLY_TYPE"] == "L" or below.size < 1500:
                continue
            for stage, code in types_of(row):
                said = tenths(np.array([int(code if code != "-9" else row["CT"])], np.int16))[1][0]
                members = [s for s, v in SURFACE_STAGE.items() if v == int(stage)]
                assert abs(10 * np.isin(below, members).mean() - said) < 1.6, (row.to_dict(), said)


def test_the_charts_labels_are_mostly_but_not_always_right(year: Year) -> None:
    right = []
    for surface, box, chart in year.values():
        label = burnt(chart, [dominant_class(r) for _, r in chart.iterrows()], box, IGNORE)
        known = (label != IGNORE) & (surface != Surface.LAND)
        right.append((label == classes(surface))[known].mean())
    assert min(right) > 0.6 and max(right) < 0.98


def test_fast_ice_is_told_by_its_form(year: Year) -> None:
    _, _, march = year[3]
    fast = march[march["FA"] == "08"]
    assert len(fast) and (fast["SA"] == "86").any()


def test_halves_make_two_plain_polygons() -> None:
    surface = np.full((100, 200), Surface.WATER, np.uint8)
    surface[:, :100] = Surface.OLD
    chart = draw_chart(surface, grid(100, 200, 500.0))
    assert sorted(chart["POLY_TYPE"]) == ["I", "W"]
    old = chart[chart["POLY_TYPE"] == "I"].iloc[0]
    assert (old["CT"], old["CA"], old["SA"], old["SB"]) == ("92", "-9", "95", "-9")
    assert chart.geometry.area.to_numpy() == pytest.approx([50e3 * 50e3] * 2, rel=0.03)


def test_mixture_is_counted_in_tenths() -> None:
    rng = np.random.default_rng(0)
    kinds = np.array([Surface.YOUNG, Surface.OLD, Surface.FIRST_YEAR_DEFORMED, Surface.WATER], np.uint8)
    surface = rng.choice(kinds, (160, 160), p=[0.2, 0.1, 0.5, 0.2]).astype(np.uint8)
    chart = draw_chart(surface, grid(160, 160, 500.0))
    assert len(chart) == 1
    row = chart.iloc[0]
    assert [row[k] for k in ("CT", "CA", "SA", "CB", "SB", "CC", "SC")] == ["80", "10", "95", "50", "86", "20", "83"]


def test_outside_the_scene_nothing_is_drawn() -> None:
    surface = np.full((120, 120), Surface.FIRST_YEAR, np.uint8)
    surface[:, 70:] = OUTSIDE
    chart = draw_chart(surface, grid(120, 120, 500.0))
    assert chart.total_bounds[2] == pytest.approx(70 * 500.0, abs=500)


def test_extremeearth_columns(year: Year) -> None:
    _, _, drawn = year[1]
    chart = extremeearth_columns(drawn)
    assert tuple(chart.columns) == (*COLUMNS_V1, "geometry") and chart.crs == drawn.crs
    water = chart["poly_type"] == "W"
    assert (chart.loc[water, "SA"] == "99").all() and (chart.loc[~water, "SA"] != "99").all()
    assert chart["id"].is_unique
    np.testing.assert_allclose(chart["area"], chart.geometry.area, atol=0.1)


def test_charts_can_be_read_without_remarks(year: Year, tmp_path: Path) -> None:
    _, _, drawn = year[6]
    drawn.to_file(tmp_path / "chart.gpkg")
    report = read_chart(tmp_path / "chart.gpkg").report
    assert (report.repaired, report.past_ten, report.past_total, dict(report.odd_codes)) == (0, 0, 0, {})


def test_bad_truth_is_refused() -> None:
    with pytest.raises(ChartError, match="no pixel inside"):
        draw_chart(np.full((9, 9), OUTSIDE, np.uint8), grid(9, 9, 500.0))
    with pytest.raises(ChartError, match="code 44"):
        draw_chart(np.full((9, 9), 44, np.uint8), grid(9, 9, 500.0))
