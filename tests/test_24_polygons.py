"""Polygon ids and their table: numbering, what the table says of known eggs, look-ups, damaged tables."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from chart_maker import BOTTOM, LEFT, POLAR, SIDE_M, grid, ice, other, squares, write_chart
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from scipy.ndimage import distance_transform_edt

from floemap.cog import Band, read_geobox, write_cog
from floemap.errors import ChartError, FloemapError, GridError
from floemap.icechart.dominant_type import Rule, ice_types
from floemap.icechart.label.borders import MAX_DISTANCE_PX, border_distance_px
from floemap.icechart.label.label import label_chart
from floemap.icechart.label.polygon_table import MAX_POLYGONS, PolygonTable, columns, read_ids, read_polygons
from floemap.icechart.label.polygons import number_polygons, table_of_chart
from floemap.icechart.label.settings import LabelSettings
from floemap.icechart.read.sigrid3 import read_chart
from floemap.info import describe
from floemap.legend import EXTREMEEARTH, ICE_WATER, IGNORE, SIX_CLASSES, STAGES, Legend
from floemap.sentinel1.bands import BANDS
from floemap.sentinel1.encoding import NODATA

NEW, NILAS, YOUNG, FIRST_YEAR, OLD, WATER = range(6)
REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "charts" / "cis_SGRDREA_20201102T.gpkg"
DANISH = sorted((REAL.parents[1] / "real" / "charts_2013_2014").glob("*.shp"))


def write_product(path: Path, box: GeoBox, valid: np.ndarray | None = None) -> Path:
    """A prepared product, with data everywhere or where `valid` is true."""
    stored = np.full((4, *box.shape), -1500, np.int16)
    stored[3] = 1
    if valid is not None:
        stored[:3, ~valid], stored[3, ~valid] = NODATA, 0
    write_cog(path, box, stored, BANDS, nodata=NODATA, tags={"simulated": "yes"})
    return path


def pixels_of(folder: Path, name: str) -> np.ndarray:
    with rasterio.open(folder / name) as d:
        return d.read() if d.count > 1 else d.read(1)


def egg(tmp_path: Path, *rows: dict[str, Any], legend: Legend = SIX_CLASSES, **options: Any) -> PolygonTable:
    """The table of polygons of these codes."""
    chart = read_chart(write_chart(tmp_path / "eggs.geojson", rows, squares(len(rows), 1000.0)))
    return table_of_chart(chart, ice_types(chart, **options), legend, unmapped=options.get("unmapped", "error"))


def shares_of(table: PolygonTable, i: int) -> dict[str, float]:
    """The shares of a polygon that are not nothing, by name."""
    values = zip((*table.classes, "unknown"), [*table.shares[i], table.unknown[i]], strict=True)
    return {name: round(float(v), 6) for name, v in values if v}


def candidates_of(table: PolygonTable, i: int) -> set[str]:
    return {key for key, may in zip(table.classes, table.candidates[i], strict=True) if may}


# Numbers -------------------------------------------------------------------------------------------------------------


def test_pixels_have_the_id_of_the_smallest_polygon_that_holds_their_centre(tmp_path: Path) -> None:
    box = grid(64, 96, 1000.0)

    def rect(x: float, y: float, width: float, height: float) -> Any:
        return shapely.box(LEFT + x, BOTTOM + y, LEFT + x + width, BOTTOM + y + height)

    shapes = {
        "wide": (rect(0, 0, 64_000, 64_000), ice(SA="95")),
        "on another": (shapely.Point(LEFT + 20_000, BOTTOM + 30_000).buffer(9_700), ice("50", SA="86")),
        "half over both": (rect(15_000, 30_000, 20_000, 3_000), ice("92", SA="81")),
        "under another": (rect(15_900, 30_900, 1_000, 1_000), ice("92", SA="82")),  # hidden: one of 1000 m is smaller
        "its cover": (rect(16_000, 31_000, 900, 900), ice("92", SA="84")),
        "between centres": (rect(40_600, 10_600, 300, 300), ice("92", SA="85")),
        "outside": (rect(200_000, 0, 5_000, 5_000), ice("92", SA="87")),
        "without data": (rect(70_000, 50_000, 5_000, 5_000), ice("92", SA="91")),
        "land": (rect(64_000, 0, 10_000, 20_000), other("L")),
    }
    valid = np.ones(box.shape, bool)
    valid[:20, 64:] = False
    like = write_product(tmp_path / "like.tif", box, valid)
    names = random.Random(4).sample(list(shapes), len(shapes))
    chart = write_chart(tmp_path / "c.gpkg", [shapes[n][1] for n in names], [shapes[n][0] for n in names])
    folder = label_chart(chart, like, tmp_path / "out").folder

    # By shapely, centre by centre: of the polygons that hold it the smallest, and none without data.
    cols, rows = np.meshgrid(np.arange(96), np.arange(64))
    x, y = box.transform * (cols + 0.5, rows + 0.5)
    owner = np.full(box.shape, "", object)
    for name in sorted(names, key=lambda n: -shapes[n][0].area):
        owner[shapely.contains_xy(shapes[name][0], x, y)] = name
    owner[~valid] = ""
    expected = [n for n in names if (owner == n).any()]
    assert set(names) - set(expected) == {"under another", "between centres", "outside", "without data"}

    ids, table = pixels_of(folder, "polygons.tif"), read_polygons(folder)
    by_feature = dict(zip(read_chart(chart).polygons.index, names, strict=True))
    assert [by_feature[f] for f in table.features[1:]] == expected
    drawn = np.array(["", *expected], object)[ids]
    assert (drawn == owner).all()
    assert table.pixels.tolist() == [0, *((owner == n).sum() for n in expected)]
    assert table.area_km2[1:].tolist() == pytest.approx([(owner == n).sum() for n in expected])  # pixels of 1 km2
    record = json.loads((folder / "label.json").read_text())
    assert (record["chart"]["polygons"], record["polygons_in_table"]) == (9, len(expected))
    assert record["polygons_drawn"] == len(expected) + 1  # without data


def test_the_raster_is_a_cog_on_the_same_grid(tmp_path: Path) -> None:
    box = grid(700, 1300, 200.0)
    chart = write_chart(tmp_path / "c.gpkg")
    folder = label_chart(chart, write_product(tmp_path / "like.tif", box), tmp_path / "out").folder
    with rasterio.open(folder / "polygons.tif") as d:
        assert d.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (d.dtypes, d.nodata, d.descriptions, d.block_shapes) == (("uint16",), 0, ("polygon",), [(512, 512)])
        assert (d.tags()["chart"], d.tags()["legend"], d.tags()["simulated"]) == ("c.gpkg", "six_classes", "yes")
        assert set(np.unique(d.read(1, out_shape=(350, 650)))) <= {0, 1, 2, 3, 4}, "an overview mixes no ids"
    assert read_geobox(folder / "polygons.tif") == box


def many(count: int, tmp_path: Path) -> PolygonTable:
    """The table of `count` polygons that are alike."""
    one = egg(tmp_path, ice("92", SA="95"))
    again = np.r_[0, np.ones(count, int)]
    arrays = {f.name: getattr(one, f.name) for f in fields(one)}
    taken: dict[str, Any] = {n: v[again] for n, v in arrays.items() if isinstance(v, np.ndarray)}
    taken |= {n: (v[0], *[v[1]] * count) for n, v in arrays.items() if n in ("poly_types", "rules")}
    return replace(one, codes=MappingProxyType({n: c[again] for n, c in one.codes.items()}), **taken)


def test_so_many_polygons_can_be_numbered_and_no_more(tmp_path: Path) -> None:
    table = many(MAX_POLYGONS + 1, tmp_path)
    box = grid(256, 257)
    numbers = np.arange(256 * 257, dtype=np.uint32).reshape(256, 257).clip(max=MAX_POLYGONS + 1)
    valid = np.ones(box.shape, bool)
    with pytest.raises(ChartError, match=r"65,536 polygons .* at most 65,535 .* smaller grids"):
        number_polygons(numbers, valid, table, box)
    valid[numbers == 7] = False  # all others fit
    ids, kept = number_polygons(numbers, valid, table, box)
    assert (ids.dtype, ids.max(), len(kept)) == (np.uint16, MAX_POLYGONS, MAX_POLYGONS)
    assert (ids[numbers == 7] == 0).all() and (ids[numbers == 8] == 7).all()


def test_a_chart_of_too_many_polygons_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like = write_product(tmp_path / "like.tif", grid())
    chart = write_chart(tmp_path / "c.gpkg")
    monkeypatch.setattr("floemap.icechart.label.polygons.MAX_POLYGONS", 3)
    with pytest.raises(ChartError, match=r"c\.gpkg: has pixels of 4 polygons"):
        label_chart(chart, like, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# What the table says of known eggs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "shares", "dominant", "purity", "second", "candidates", "concentration"),
    [
        (ice("92", SA="95"), {"old_ice": 1}, OLD, 1, IGNORE, {"old_ice"}, 1),
        (ice("50", SA="81"), {"new_ice": 0.5, "open_water": 0.5}, NEW, 0.5, WATER, {"new_ice", "open_water"}, 0.5),
        (
            ice("90", CA="20", SA="95", CB="30", SB="86", CC="40", SC="81"),
            {"old_ice": 0.2, "first_year_ice": 0.3, "new_ice": 0.4, "open_water": 0.1},
            NEW,
            0.4,
            FIRST_YEAR,
            {"old_ice", "first_year_ice", "new_ice", "open_water"},
            0.9,
        ),
        # Dominant by type, purity by class: old ice is the most of all types, young ice of all classes.
        (
            ice("92", CA="40", SA="95", CB="30", SB="84", CC="30", SC="85"),
            {"old_ice": 0.4, "young_ice": 0.6},
            OLD,
            0.4,
            YOUNG,
            {"old_ice", "young_ice"},
            1,
        ),
        # Of equal shares the thicker is second; ice has lower ids than water here, so water is.
        (
            ice("92", CA="60", SA="95", CB="20", SB="86", CC="20", SC="81"),
            {"old_ice": 0.6, "first_year_ice": 0.2, "new_ice": 0.2},
            OLD,
            0.6,
            FIRST_YEAR,
            {"old_ice", "first_year_ice", "new_ice"},
            1,
        ),
        # Several types without partial concentrations: unknown, and all of them possible.
        (
            ice("90", SA="95", SB="81"),
            {"open_water": 0.1, "unknown": 0.9},
            IGNORE,
            0,
            IGNORE,
            {"old_ice", "new_ice", "open_water"},
            0.9,
        ),
        (ice("92", SA="95", CD="84"), {"unknown": 1}, IGNORE, 0, IGNORE, {"old_ice", "young_ice"}, 1),
        # The total is not known: neither is how much water there is.
        (
            ice("99", CA="30", SA="95", CB="20", SB="86"),
            None,
            OLD,
            0.3,
            FIRST_YEAR,
            {"old_ice", "first_year_ice"},
            None,
        ),
        # A remainder of unnamed type, and a trace, are no candidates.
        (
            ice("80", CA="40", SA="86", CB="20", SB="81", CN="97"),
            {"first_year_ice": 0.4, "new_ice": 0.2, "open_water": 0.2, "unknown": 0.2},
            FIRST_YEAR,
            0.4,
            WATER,
            {"first_year_ice", "new_ice", "open_water"},
            0.8,
        ),
        # Undetermined ice has a share and no class.
        (
            ice("92", CA="70", SA="86", CB="30", SB="99"),
            {"first_year_ice": 0.7, "unknown": 0.3},
            FIRST_YEAR,
            0.7,
            IGNORE,
            {"first_year_ice"},
            1,
        ),
        (ice("01"), {"open_water": 1}, WATER, 1, IGNORE, {"open_water"}, 0),
        (other("W"), {"open_water": 1}, WATER, 1, IGNORE, {"open_water"}, 0),
        # No sea, or nothing known of it.
        (other("L"), {"unknown": 1}, IGNORE, 0, IGNORE, set(), None),
        (other("S"), {"unknown": 1}, IGNORE, 0, IGNORE, set(), None),
        (other("N"), {"unknown": 1}, IGNORE, 0, IGNORE, set(), None),
        (ice("02"), {"unknown": 1}, IGNORE, 0, IGNORE, set(), None),
        (dict(ice(None), POLY_TYPE=None), {"unknown": 1}, IGNORE, 0, IGNORE, set(), None),
        # Land that carries codes all the same.
        (dict(ice("90", SA="95"), POLY_TYPE="L"), {"unknown": 1}, IGNORE, 0, IGNORE, set(), None),
    ],
)
def test_known_eggs(
    tmp_path: Path,
    codes: dict[str, Any],
    shares: dict[str, float] | None,
    dominant: int,
    purity: float,
    second: int,
    candidates: set[str],
    concentration: float | None,
) -> None:
    table = egg(tmp_path, ice("92", SA="82"), codes)
    if shares is not None:
        assert shares_of(table, 2) == shares
    assert (table.dominant[2], table.second[2]) == (dominant, second)
    assert table.purity[2] == pytest.approx(purity)
    assert candidates_of(table, 2) == candidates
    if concentration is None:
        assert np.isnan(table.concentration[2])
    else:
        assert table.concentration[2] == pytest.approx(concentration)


@pytest.mark.parametrize("row", [ice("92", SA="90"), ice("92", CA="70", SA="95", CB="30", SB="90")])
def test_a_stage_that_the_legend_lacks_is_refused_or_unknown(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(ChartError, match=r"polygon 1: stage of development 90 is not in .* --unmapped ignore"):
        egg(tmp_path, ice(SA="95"), row)
    table = egg(tmp_path, ice(SA="95"), row, unmapped="ignore")
    known = {"old_ice": 0.7} if row["SB"] == "90" else {}
    assert shares_of(table, 2) == known | {"unknown": pytest.approx(1 - sum(known.values()))}
    assert (candidates_of(table, 2), table.dominant[2]) == (set(known), OLD if known else IGNORE)


def test_the_first_of_several_types_may_be_taken(tmp_path: Path) -> None:
    table = egg(tmp_path, ice("90", SA="95", SB="81"), without_parts="first")
    assert shares_of(table, 1) == {"old_ice": 0.9, "open_water": 0.1}
    assert candidates_of(table, 1) == {"old_ice", "new_ice", "open_water"}


def test_a_legend_that_has_a_class_for_ice_without_a_stage(tmp_path: Path) -> None:
    table = egg(tmp_path, ice("70"), ice("90", SA="95", SB="81"), legend=ICE_WATER)
    assert shares_of(table, 1) == {"ice": 0.7, "open_water": 0.3}
    assert (candidates_of(table, 1), candidates_of(table, 2)) == ({"ice", "open_water"},) * 2
    assert table.dominant[1:].tolist() == [1, 1]


def test_the_codes_are_those_that_the_chart_gives(tmp_path: Path) -> None:
    table = egg(tmp_path, ice("91", CA="60", SA="95", FA="05", CB="40", SB="86", FB="99", CN="97"))
    given = {name: int(code[1]) for name, code in table.codes.items() if code[1] != -9}
    assert given == {"CT": 91, "CA": 60, "SA": 95, "FA": 5, "CB": 40, "SB": 86, "FB": 99, "CN": 97}
    assert all(code[0] == -9 for code in table.codes.values())
    assert (table.poly_types, table.rules) == (("", "I"), ("", "first_type_largest"))


def random_rows(count: int) -> list[dict[str, Any]]:
    """Polygons of any codes that SIGRID-3 has, sensible and not."""
    rng = random.Random(7)
    tenths = ["-9", "99", "91", "92", *(f"{10 * n}" for n in range(1, 10)), "13", "46", "79"]
    stages = ["-9", *map(str, STAGES)]
    letters = ["I"] * 12 + ["W", "L", "S", "N", None]

    def row() -> dict[str, Any]:
        codes = {c: rng.choice(tenths) for c in ("CA", "CB", "CC")} | {
            s: rng.choice(stages) for s in ("SA", "SB", "SC")
        }
        codes["CD"] = rng.choice(["-9", "-9", "-9", "84", "86"])
        return ice(rng.choice([*tenths, "00", "01", "02", "55", "98"]), **codes) | {"POLY_TYPE": rng.choice(letters)}

    return [row() for _ in range(count)]


@pytest.mark.parametrize("legend", [SIX_CLASSES, EXTREMEEARTH, ICE_WATER], ids=lambda x: x.name)
def test_laws_of_any_table(tmp_path: Path, legend: Legend) -> None:
    table = egg(tmp_path, *random_rows(600), legend=legend, unmapped="ignore")
    total = table.shares.sum(axis=1, dtype=np.float64) + table.unknown
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert ((table.shares >= 0) & (table.shares <= 1)).all() and (table.unknown >= 0).all()
    assert (table.candidates[table.shares > 0]).all(), "what has a share is possible"
    labelled = table.dominant != IGNORE
    assert table.candidates[labelled, table.dominant[labelled]].all()
    assert (table.second[labelled] != table.dominant[labelled]).all()
    known = ~np.isnan(table.concentration)
    water = table.shares[:, legend.water]
    assert (water[known] >= 1 - table.concentration[known] - 1e-6).all(), "what the total leaves is water"
    assert (table.percent[table.at_sea].astype(int).sum(axis=1) == 100).all()
    assert np.abs(table.percent[table.at_sea] / 100 - table.fractions[table.at_sea]).max() < 0.01
    assert (table.percent[~table.at_sea] == 255).all()
    no_sea = [rule in ("", Rule.LAND, Rule.ICE_SHELF, Rule.NO_DATA) for rule in table.rules]
    assert (table.at_sea == ~np.array(no_sea)).all()
    # Row 0 stands for nothing.
    assert (shares_of(table, 0), candidates_of(table, 0)) == ({"unknown": 1}, set())
    assert (table.dominant[0], table.second[0], table.purity[0], table.features[0]) == (IGNORE, IGNORE, 0, -1)


# From file to file ---------------------------------------------------------------------------------------------------


#: Codes that the legend lacks are among the random ones.
ANY = LabelSettings(fractions=True, unmapped="ignore")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    rows = [ice(SA="95"), *random_rows(60), ice("50", SA="86"), other("L"), ice("90", SA="95", SB="81")]
    chart = write_chart(place / "c.gpkg", rows, squares(len(rows), 4000.0))
    like = write_product(place / "like.tif", grid(8, 300, top=BOTTOM + 6000))
    label_chart(chart, like, place / "out", ANY)
    return place


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of the label folder, two below one with the chart and the raster of the grid."""
    return Path(shutil.copytree(made, tmp_path / "made")) / "out" / "c"


def test_labels_and_fractions_are_look_ups(folder: Path) -> None:
    ids, table = pixels_of(folder, "polygons.tif"), read_polygons(folder)
    table.check(ids, folder / "polygons.tif")
    assert (table.dominant[ids] == pixels_of(folder, "labels.tif")).all()
    assert (np.moveaxis(table.percent[ids], 2, 0) == pixels_of(folder, "fractions.tif")).all()
    assert np.bincount(ids.ravel(), minlength=65)[1:].tolist() == table.pixels[1:].tolist()


def test_the_table_is_read_as_it_was_made(folder: Path) -> None:
    chart = read_chart(folder.parents[1] / "c.gpkg")
    whole = table_of_chart(chart, ice_types(chart, unmapped="ignore"), SIX_CLASSES, unmapped="ignore")
    read = read_polygons(folder)
    made = number_polygons(
        rasterize_oracle(chart, grid(8, 300, top=BOTTOM + 6000)), np.ones((8, 300), bool), whole, grid()
    )
    for f in fields(PolygonTable):
        ours, theirs = getattr(made[1], f.name), getattr(read, f.name)
        if f.name == "codes":
            assert {n: c.tolist() for n, c in ours.items()} == {n: c.tolist() for n, c in theirs.items()}
        elif isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs, err_msg=f.name)
        else:
            assert ours == theirs


def rasterize_oracle(chart: Any, box: GeoBox) -> np.ndarray:
    """Numbers of a chart's polygons, which do not overlap, by rasterio alone."""
    shapes = [(g, i + 1) for i, g in enumerate(chart.geometries)]
    return rasterize(shapes, out_shape=tuple(box.shape), transform=box.transform, dtype="uint16")


def test_spreadsheets_and_pandas_can_read_it(folder: Path) -> None:
    import pandas as pd

    frame = pd.read_csv(folder / "polygons.csv", dtype={"CT": str})
    assert list(frame.columns) == columns(tuple(c.key for c in SIX_CLASSES.classes))
    keys = [c.key for c in SIX_CLASSES.classes]
    np.testing.assert_allclose(frame[[*keys, "unknown_share"]].sum(axis=1), 1, atol=1e-6)
    labelled = frame["class"].notna()
    assert frame.loc[labelled, "purity"].tolist() == [
        row[keys[int(row["class"])]] for _, row in frame[labelled].iterrows()
    ]
    assert frame["CT"].iloc[0] == "92"


def test_a_folder_without_them_is_made_again(folder: Path) -> None:
    parent = folder.parents[1]
    for name in ("polygons.tif", "polygons.csv"):
        (folder / name).unlink()
        again = label_chart(parent / "c.gpkg", parent / "like.tif", parent / "out", ANY)
        assert not again.skipped and (folder / name).is_file()
    record = json.loads((folder / "label.json").read_text())
    assert {"polygons.tif", "polygons.csv"} <= set(record["bytes"])


def test_info_counts_polygons(folder: Path) -> None:
    lines = dict(describe(folder).lines)
    assert lines["Polygons on the grid"] == f"{len(read_polygons(folder))}, in polygons.csv"


def change(column: str, text: str, line: int = 5) -> Callable[[list[list[str]]], None]:
    def changed(rows: list[list[str]]) -> None:
        rows[line - 1][rows[0].index(column)] = text

    return changed


def drop(column: str) -> Callable[[list[list[str]]], None]:
    def changed(rows: list[list[str]]) -> None:
        at = rows[0].index(column)
        for row in rows:
            del row[at]

    return changed


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop("old_ice"), "lacks the column old_ice"),
        (drop("unknown_share"), "lacks the column unknown_share"),
        (drop("CT"), "lacks the column CT"),
        (lambda rows: rows[0].__setitem__(0, "number"), "lacks the column id and has the unknown column 'number'"),
        (lambda rows: [r.insert(0, r.pop(1)) for r in rows], "columns in another order"),
        (lambda rows: rows.clear(), "lacks the column id"),
        (lambda rows: rows.pop(2), "line 3 has the id 3, and 2 comes next"),
        (lambda rows: rows.insert(2, rows[1]), "line 3 has the id 1, and 2 comes next"),
        (lambda rows: rows[4].pop(), "line 5 has .* cells"),
        (change("old_ice", "0.123"), "line 5 has shares that sum to .*, and not to 1"),
        (change("old_ice", "nan"), "line 5 has old_ice 'nan', where a number from 0 to 1"),
        (change("old_ice", ""), "line 5 has old_ice '', where a number from 0 to 1"),
        (change("old_ice", "-0.1"), "line 5 has old_ice '-0.1'"),
        (change("old_ice", "1e3"), "line 5 has old_ice '1e3'"),
        (change("old_ice", "0_1"), "line 5 has old_ice '0_1'"),
        (change("unknown_share", "inf"), "line 5 has unknown_share 'inf'"),
        (change("class", "6"), "line 5 has class '6', where a whole number from 0 to 5"),
        (change("class", "255"), "line 5 has class '255'"),
        (change("class", "1.0"), "line 5 has class '1.0'"),
        (change("class", "-1"), "line 5 has class '-1'"),
        (change("CT", "100"), "line 5 has CT '100'"),
        (change("CT", "9+"), r"line 5 has CT '9\+'"),
        (change("candidates", "old_ice slush"), "line 5 has the candidate 'slush'"),
        (change("concentration", "1.5"), "line 5 has concentration '1.5'"),
        (change("pixels", "0"), "line 5 has pixels '0'"),
        (change("pixels", "9" * 30), "line 5 has pixels '99"),
        (change("area_km2", "inf"), "line 5 has area_km2 'inf'"),
        (change("feature", ""), "line 5 has feature ''"),
        (change("rule", ""), "line 5 has no rule"),
    ],
)
def test_a_damaged_table_is_refused(folder: Path, damage: Callable[[list[list[str]]], Any], words: str) -> None:
    path = folder / "polygons.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    damage(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(FloemapError, match=rf"polygons\.csv: .*{words}.*floemap label --overwrite"):
        read_polygons(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"id\x00,feature", b'id,"fea', b"id," + b"x" * 200_000])
def test_no_table_at_all_is_refused(folder: Path, content: bytes) -> None:
    (folder / "polygons.csv").write_bytes(content)
    with pytest.raises(FloemapError, match=r"polygons\.csv: .*floemap label --overwrite"):
        read_polygons(folder)


def test_a_folder_without_a_table_says_what_to_do(folder: Path) -> None:
    (folder / "polygons.csv").unlink()
    with pytest.raises(FloemapError, match=r"has no polygons\.csv: an older floemap made it.*--overwrite"):
        read_polygons(folder)
    (folder / "label.json").write_text("{}")
    with pytest.raises(FloemapError, match=r"label\.json: is not as `floemap label` writes it"):
        read_polygons(folder)
    with pytest.raises(FloemapError, match="does not exist"):
        read_polygons(folder / "nowhere")


def test_ids_beyond_the_table_are_refused(folder: Path) -> None:
    table = read_polygons(folder)
    ids = np.array([[0, len(table)]], np.uint16)
    table.check(ids, folder / "polygons.tif")
    with pytest.raises(
        FloemapError, match=rf"has the id {len(table) + 1}, and polygons.csv beside it ends at {len(table)}"
    ):
        table.check(ids + np.uint16(1), folder / "polygons.tif")


def test_ids_are_read_whole_or_by_window(folder: Path) -> None:
    table, ids = read_polygons(folder), pixels_of(folder, "polygons.tif")
    assert (read_ids(folder, table) == ids).all()
    assert (read_ids(folder, table, (2, 30, 4, 100)) == ids[2:6, 30:130]).all()


def test_other_rasters_are_no_ids(folder: Path) -> None:
    table, path = read_polygons(folder), folder / "polygons.tif"
    box = read_geobox(path)
    write_cog(path, grid(8, 300), np.ones((8, 300), np.uint16), [Band("polygon")], nodata=0)
    with pytest.raises(GridError, match=r"labels\.tif and .*polygons\.tif: the grids differ"):
        read_ids(folder, table)
    for dtype, nodata in ((np.uint8, 0), (np.uint16, 65535)):
        write_cog(path, box, np.ones(box.shape, dtype), [Band("polygon")], nodata=nodata)
        with pytest.raises(FloemapError, match=r"polygons\.tif: has 1 bands of .*--overwrite"):
            read_ids(folder, table)
    write_cog(path, box, np.full(box.shape, 60_000, np.uint16), [Band("polygon")], nodata=0)
    with pytest.raises(FloemapError, match=r"polygons\.tif: has the id 60000"):
        read_ids(folder, table)
    path.unlink()
    with pytest.raises(FloemapError, match=r"polygons\.tif: does not exist"):
        read_ids(folder, table)


def test_looking_up_imports_no_geospatial_library(folder: Path) -> None:
    geospatial = {"rasterio", "pandas", "geopandas", "odc", "shapely"}
    code = (
        "import sys; from floemap.icechart.label.polygon_table import read_polygons;"
        f" read_polygons({str(folder)!r}); sys.exit(bool({geospatial} & {{*sys.modules}}))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Distances -----------------------------------------------------------------------------------------------------------


def test_no_data_is_no_border() -> None:
    ids = np.ones((40, 60), np.uint16)
    ids[:, 40:] = 2
    ids[10:30, 5:15] = 0  # a hole without data
    ids[:, 58:] = 0
    distance = border_distance_px(ids, none_has_border=False)
    # The one border runs between columns 39 and 40: distances by hand.
    by_hand = np.minimum(np.abs(np.arange(60) + 0.5 - 40), MAX_DISTANCE_PX)
    np.testing.assert_allclose(distance, np.broadcast_to(by_hand, ids.shape), atol=1e-5)
    assert border_distance_px(ids)[20, 4] == 0.5, "for a chart as it is drawn, its edge is a border"


def test_distances_are_those_to_the_nearest_pixel_beside_another_polygon() -> None:
    rng = np.random.default_rng(3)
    ids = np.kron(rng.integers(0, 4, (9, 11)), np.ones((13, 17), int)).astype(np.uint16)
    beside = np.zeros(ids.shape, bool)
    for r, c in np.ndindex(*ids.shape):
        for q, d in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
            inside = 0 <= q < ids.shape[0] and 0 <= d < ids.shape[1]
            beside[r, c] |= inside and ids[r, c] != ids[q, d] and 0 not in (ids[r, c], ids[q, d])
    expected = np.minimum(distance_transform_edt(~beside) + 0.5, MAX_DISTANCE_PX)
    np.testing.assert_allclose(border_distance_px(ids, none_has_border=False), expected, atol=1e-3)


def test_without_gaps_distances_are_those_of_the_label_stage(tmp_path: Path) -> None:
    box = grid(64, 128)
    chart = write_chart(tmp_path / "c.gpkg", [ice(SA="95"), ice(SA="86"), ice(SA="81")], squares(3))
    folder = label_chart(chart, write_product(tmp_path / "like.tif", box), tmp_path / "out").folder
    stored = pixels_of(folder, "border_distance.tif") / 4
    distance = border_distance_px(pixels_of(folder, "polygons.tif"), none_has_border=False)
    # The middle of the grid: the chart's edges in the west, south and north are nearer to the rest.
    middle = np.s_[31:33, 40:88]
    assert np.abs(stored[middle] - distance[middle]).max() <= 0.125


# Real charts ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.exists(), reason="no real charts here")
@pytest.mark.parametrize("path", [REAL, *DANISH], ids=lambda p: p.stem)
def test_real_charts(tmp_path: Path, path: Path) -> None:
    crs = None if path == REAL else "EPSG:4326"
    chart = read_chart(path, crs=crs)
    left, bottom, right, top = chart.polygons.total_bounds
    step = max(right - left, top - bottom) / 600
    shape = (int((top - bottom) / step) + 2, int((right - left) / step) + 2)
    box = GeoBox(shape, Affine(step, 0, left - step, 0, -step, top + step), chart.crs.to_wkt())
    like = write_product(tmp_path / "like.tif", box)
    folder = label_chart(path, like, tmp_path / "out", LabelSettings(fractions=True, crs=crs)).folder
    ids, table = pixels_of(folder, "polygons.tif"), read_polygons(folder)
    assert (table.dominant[ids] == pixels_of(folder, "labels.tif")).all()
    assert (np.moveaxis(table.percent[ids], 2, 0) == pixels_of(folder, "fractions.tif")).all()
    # At random centres: shapely says which polygons hold them.
    rng = np.random.default_rng(1)
    rows, cols = rng.integers(0, shape[0], 3000), rng.integers(0, shape[1], 3000)
    x, y = box.transform * (cols + 0.5, rows + 0.5)
    holds, point = shapely.STRtree(chart.geometries).query(shapely.points(x, y), predicate="within")[::-1]
    area = shapely.area(chart.geometries)
    owner = np.full(3000, -1)
    for polygon, at in sorted(zip(holds, point, strict=True), key=lambda pair: -area[pair[0]]):
        owner[at] = chart.polygons.index[polygon]
    seen = table.features[ids[rows, cols]]
    assert (seen == owner).mean() > 0.999  # a centre within a hundredth of a pixel of a border may go either way
    # Areas by pixels are those of the geometry on the map.
    true = dict(zip(chart.polygons.index, area / 1e6, strict=True))
    large = table.pixels > 400
    assert large.any()
    ratio = table.area_km2[large] / [true[f] for f in table.features[large]]
    np.testing.assert_allclose(ratio, 1, atol=0.05)


def test_charts_in_the_south_or_anywhere_have_areas_of_their_pixels(tmp_path: Path) -> None:
    box = GeoBox((20, 30), Affine(250, 0, LEFT, 0, -500, BOTTOM + SIDE_M), POLAR)
    chart = write_chart(tmp_path / "c.gpkg", [ice(SA="95")])
    folder = label_chart(chart, write_product(tmp_path / "like.tif", box), tmp_path / "out").folder
    assert read_polygons(folder).area_km2.tolist() == [0, 20 * 30 * 0.125]
