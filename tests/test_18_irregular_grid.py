"""Geolocation grids with missing points, or rows of pixels of their own, put everything where a full one does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyproj
import pytest
from damage import changed_xml, copied, with_new_checksums
from lxml import etree

from floemap.errors import ProductError
from floemap.sentinel1.geolocation import GeoLocator
from floemap.sentinel1.irregular_grid import GeolocationPoints, full_grid, regular_grid
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.range_doppler import residuals_m
from floemap.sentinel1.safe.annotation import geolocation_grid, orbit
from floemap.sentinel1.safe.container import open_container
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.safe.xml import XmlTree
from floemap.sentinel1.settings import PrepareSettings

SHARED = Path(__file__).resolve().parents[2] / "shared"
REAL = SHARED / "data/S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15"
CASES = SHARED / "cases/02-irregular-geolocation-grid"
POINTS = "geolocationGrid/geolocationGridPointList"
GEOD = pyproj.Geod(ellps="WGS84")

Rows = list[list[etree._Element]]


def rows_of(root: etree._Element) -> Rows:
    rows: dict[str, list[etree._Element]] = {}
    for point in root.find(POINTS):
        rows.setdefault(point.findtext("line"), []).append(point)
    return list(rows.values())


def without(root: etree._Element, *points: etree._Element) -> None:
    for point in points:
        point.getparent().remove(point)
    root.find(POINTS).set("count", str(len(root.find(POINTS))))


def twice_in_other_digits(root: etree._Element) -> None:
    again = etree.fromstring(etree.tostring(root.find(POINTS)[9]))
    digits = {"latitude": 7, "longitude": 7, "height": 3, "incidenceAngle": 6, "elevationAngle": 6}
    for name, number in digits.items():
        again.find(name).text = f"{float(again.findtext(name)):.{number}f}"
    root.find(POINTS).append(again)
    without(root)


def moved(root: etree._Element, rows: Rows, shift: float) -> None:
    """Move the inner points of rows by pixels, and interpolate each point's fields along its row."""
    for row in rows:
        pixel = np.array([float(p.findtext("pixel")) for p in row])
        new = pixel.copy()
        new[1:-1] += shift
        for name in ("latitude", "longitude", "height", "incidenceAngle", "elevationAngle", "slantRangeTime"):
            values = np.array([float(p.findtext(name)) for p in row])
            fit = np.polynomial.Polynomial.fit(pixel, values, 12)
            for p, x in zip(row, new, strict=True):
                p.find(name).text = repr(float(fit(x)))
        for p, x in zip(row, new, strict=True):
            p.find("pixel").text = str(int(x))


IRREGULAR: dict[str, Callable[[etree._Element], object]] = {
    "one point missing": lambda r: without(r, rows_of(r)[3][7]),
    "a corner missing": lambda r: without(r, rows_of(r)[0][0]),
    "the last of a row missing": lambda r: without(r, rows_of(r)[5][-1]),
    "points missing in every row": lambda r: without(r, *(row[2 + i % 9] for i, row in enumerate(rows_of(r)))),
    "a row missing": lambda r: without(r, *rows_of(r)[4]),
    "half of a row missing": lambda r: without(r, *rows_of(r)[4][::2]),
    "most of a row missing": lambda r: without(r, *rows_of(r)[4][2:]),
    "a column missing": lambda r: without(r, *(row[6] for row in rows_of(r))),
    "the first row missing": lambda r: without(r, *rows_of(r)[0]),
    "the last row missing": lambda r: without(r, *rows_of(r)[-1]),
    "the first column missing": lambda r: without(r, *(row[0] for row in rows_of(r))),
    "the last column missing": lambda r: without(r, *(row[-1] for row in rows_of(r))),
    "rows of other pixels": lambda r: moved(r, rows_of(r)[10:], 3),
    "every second row of other pixels": lambda r: moved(r, rows_of(r)[::2], -2),
    "out of order": lambda r: r.find(POINTS).append(r.find(POINTS)[0]),
    "a point twice, in other digits": lambda r: twice_in_other_digits(r),
    "a point twice": lambda r: (r.find(POINTS).append(etree.fromstring(etree.tostring(r.find(POINTS)[9]))), without(r)),
}


@pytest.mark.parametrize("which", ["hh+hv", "hh", "hv"])
@pytest.mark.parametrize("name", IRREGULAR)
def test_places_are_those_of_the_full_grid(small_product: Path, tmp_path: Path, name: str, which: str) -> None:
    product = copied(small_product, tmp_path)
    for p in which.split("+"):
        (file,) = product.glob(f"annotation/*-{p}-*.xml")
        changed_xml(file, IRREGULAR[name])
    scene, full = open_scene(with_new_checksums(product)), open_scene(small_product)
    line, pixel = np.meshgrid(np.linspace(0, 299, 23), np.linspace(0, 279, 21), indexing="ij")
    outer = name in ("the first column missing", "the last column missing")  # what is left is continued
    for surface, limit_m in (("sea", 0.1 if outer else 0.01), ("annotated", 1.0)):
        ours, theirs = GeoLocator(scene, surface), GeoLocator(full, surface)  # type: ignore[arg-type]
        off_m = GEOD.inv(*ours.to_ground(line, pixel), *theirs.to_ground(line, pixel))[2]
        assert abs(off_m).max() < limit_m, surface
        assert abs(ours.incidence_deg(line, pixel) - theirs.incidence_deg(line, pixel)).max() < (
            0.02 if outer else 1e-3
        )
    assert residuals_m(scene.geolocation, scene.orbit).max() < 1


def test_the_record_says_that_the_grid_was_irregular(
    small_product: Path, tmp_path: Path, small_settings: PrepareSettings
) -> None:
    product = copied(small_product, tmp_path)
    for file in product.glob("annotation/*.xml"):
        changed_xml(file, IRREGULAR["one point missing"])
    result = prepare(with_new_checksums(product), tmp_path / "out", small_settings, quicklook=False)
    assert (
        json.loads(result.record.read_text())["geometry"]["irregular_points"]
        == open_scene(small_product).geolocation.latitude_deg.size - 1
    )
    intact = prepare(small_product, tmp_path / "intact", small_settings, quicklook=False)
    assert json.loads(intact.record.read_text())["geometry"]["irregular_points"] is None


REFUSED: dict[str, tuple[Callable[[etree._Element], object], str]] = {
    "too few rows": (lambda r: without(r, *(p for row in rows_of(r)[3:] for p in row)), "in 3 rows"),
    "half of all rows": (lambda r: without(r, *(p for row in rows_of(r)[2:] for p in row[9:])), "2 span the image"),
    "a wrong point": (
        lambda r: (without(r, rows_of(r)[3][7]), setattr(rows_of(r)[9][9].find("latitude"), "text", "70.0")),
        "contradicts the orbit",
    ),
    "two opinions": (
        lambda r: (
            r.find(POINTS).append(etree.fromstring(etree.tostring(r.find(POINTS)[9]))),
            setattr(r.find(POINTS)[9].find("height"), "text", "500.0"),
            without(r),
        ),
        "two different points",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_points_of_which_no_grid_can_be_made(small_product: Path, tmp_path: Path, name: str) -> None:
    product = copied(small_product, tmp_path)
    change, words = REFUSED[name]
    for file in product.glob("annotation/*.xml"):
        changed_xml(file, change)
    with pytest.raises(ProductError, match=words):
        open_scene(with_new_checksums(product))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real product's metadata is not here")
def test_real_points_over_land_are_found_again() -> None:
    """Every point of the real grid that is left out is found again by the others, to within what terrain allows."""
    container = open_container(REAL)
    tree = XmlTree.parse(container, "annotation/ew-hh.xml")
    start = tree.time("imageAnnotation/imageInformation/productFirstLineUtcTime")
    states = orbit(tree, start)
    grid = geolocation_grid(tree, start, states)
    mesh = np.meshgrid(grid.lines, grid.pixels, indexing="ij")
    fields = (
        grid.latitude_deg, grid.longitude_deg, grid.height_m, grid.incidence_deg, grid.elevation_deg,
        grid.azimuth_time_s, grid.slant_range_time_s,
    )  # fmt: skip
    flat = [f.ravel() for f in (*mesh, *fields)]
    assert full_grid(GeolocationPoints(*flat)) is not None
    rng = np.random.default_rng(1)
    for _ in range(20):
        row, col = int(rng.integers(0, 23)), int(rng.integers(1, 20))
        keep = np.arange(flat[0].size) != row * 21 + col
        points = GeolocationPoints(*(f[keep] for f in flat))
        assert full_grid(points) is None
        found = regular_grid(points, states)
        assert residuals_m(found, states).max() < 0.05
        assert abs(found.slant_range_time_s - grid.slant_range_time_s).max() * 1.5e8 < 1.0
        assert abs(found.incidence_deg - grid.incidence_deg).max() < 0.1
        off_m = GEOD.inv(
            found.longitude_deg.ravel(), found.latitude_deg.ravel(),
            grid.longitude_deg.ravel(), grid.latitude_deg.ravel(),
        )[2]  # fmt: skip
        lost_m = abs(found.height_m[row, col] - grid.height_m[row, col])
        assert np.delete(off_m, row * 21 + col).max() < 0.1
        assert off_m[row * 21 + col] < 3.5 * lost_m + 1


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize("case", ["shifted", "missing-point"])
def test_the_cases(tmp_path: Path, case: str) -> None:
    (product,) = (CASES / case).glob("*.zip")
    result = prepare(product, tmp_path, PrepareSettings(resolution_m=800), quicklook=False)
    assert json.loads(result.record.read_text())["geometry"]["irregular_points"] in (482, 483)
