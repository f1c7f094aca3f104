"""S-411 as a chart: foreign files, both axis orders, the pole and the dateline, eggs, and bad or hostile files."""

from __future__ import annotations

import logging
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from s411_maker import FOREIGN, HEAD, LATLON, LONLAT, area, egg, square, write

from floemap.errors import ChartError
from floemap.icechart.describe import areas_km2
from floemap.icechart.dominant_type import ice_types
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.info import describe

GEOD = pyproj.Geod(ellps="WGS84")
foreign = pytest.mark.parametrize("path", FOREIGN, ids=lambda p: p.stem)


def read_egg(tmp_path: Path, **lists: str) -> dict[str, int]:
    """Codes of one polygon in SIGRID-3, without those that are not given."""
    chart = read_chart(write(tmp_path / "egg.gml", area(egg(**lists))))
    codes = {
        c: int(chart.codes(c)[0]) for c in ("ct", "ca", "sa", "fa", "cb", "sb", "fb", "cc", "sc", "fc", "cn", "cd")
    }
    return {name: code for name, code in codes.items() if code != NOT_GIVEN}


def geodesic_km2(path: Path, layers: tuple[str, ...]) -> tuple[int, float]:
    """Number and area of the polygons by GDAL's GML driver, edges straight in degrees."""
    count, area_m2 = 0, 0.0
    for layer in layers:
        for polygon in pyogrio.read_dataframe(path, layer=layer).geometry:
            dense = shapely.segmentize(polygon, 0.01)
            count, area_m2 = count + 1, area_m2 + abs(GEOD.geometry_area_perimeter(dense)[0])
    return count, area_m2 / 1e6


# --- Foreign files


@foreign
def test_foreign_files_have_the_polygons_and_areas_that_gdal_finds(path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(path, tmp_path))  # GDAL writes a schema beside
    layers = tuple(n for n in pyogrio.list_layers(copy)[:, 0] if n.lower() in ("seaice", "lacice", "lakeice"))
    count, km2 = geodesic_km2(copy, layers)
    chart = read_chart(path)
    assert len(chart) == count > 0
    assert areas_km2(chart).sum() == pytest.approx(km2, rel=1e-4)
    assert chart.format == "S-411"


@foreign
def test_info_describes_foreign_files(path: Path) -> None:
    found = describe(path)
    assert found.facts["format"] == "S-411"
    assert found.facts["polygons"] == len(read_chart(path))


@pytest.mark.skipif(not FOREIGN, reason="no foreign S-411 here")
def test_the_eggs_of_the_canadian_form_are_those_of_the_file() -> None:
    # iceapc [20, 30, 20, 4, '23'], icesod [87, 85, 84, 99, 81], iceflz [7, 6, 5, 6, 5]: three types, a trace of
    # undetermined ice, and the remainder of 9+ tenths; forms are one more than in SIGRID-3.
    chart = read_chart(next(p for p in FOREIGN if p.stem == "cis_seaice_synthetic"))
    first = {c: int(chart.codes(c)[0]) for c in chart.polygons.columns if c not in ("poly_type", "geometry")}
    assert first == {
        **{"ct": 91, "ca": 20, "sa": 87, "fa": 6, "cb": 30, "sb": 85, "fb": 5},
        **{"cc": 20, "sc": 84, "fc": 4, "cn": 99, "cd": 81},
    }
    shares = ice_types(chart, unmapped="ignore").shares[0]  # nine and a half tenths, of which the parts are ten
    np.testing.assert_allclose(shares, np.array([2, 3, 2, 3]) * 0.095)


# --- Axis order, pole, dateline

AREA_KM2 = (
    abs(GEOD.geometry_area_perimeter(shapely.segmentize(shapely.Polygon(square(-60, 70, -58, 71)), 0.01))[0]) / 1e6
)


def place(chart: Chart) -> tuple[float, float]:
    """Longitude and latitude of the middle of the first polygon."""
    middle = chart.geometries[0].centroid
    lon, lat = pyproj.Transformer.from_crs(chart.crs, "EPSG:4326", always_xy=True).transform(middle.x, middle.y)
    return float(lon), float(lat)


@pytest.mark.parametrize("srs", [LATLON, "urn:ogc:def:crs:EPSG::4326", "urn:ogc:def:crs:EPSG:6.9:4326"])
def test_a_name_by_the_registry_puts_latitude_first(srs: str, tmp_path: Path) -> None:
    text = area().replace(LATLON, srs)
    assert place(read_chart(write(tmp_path / "a.gml", text))) == pytest.approx((-59, 70.5), abs=0.02)


@pytest.mark.parametrize("srs", [LONLAT, "EPSG:4326", "http://www.opengis.net/def/crs/OGC/1.3/CRS84", None])
def test_older_names_and_none_put_longitude_first(srs: str | None, tmp_path: Path) -> None:
    assert place(read_chart(write(tmp_path / "a.gml", area(srs=srs)))) == pytest.approx((-59, 70.5), abs=0.02)


@pytest.mark.parametrize("srs", [LATLON, LONLAT])
def test_an_order_without_latitudes_is_corrected_and_said(
    srs: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = LONLAT if srs == LATLON else LATLON
    text = area(ring=square(-170, 70, -168, 71), srs=other).replace(other, srs)
    assert place(read_chart(write(tmp_path / "a.gml", text))) == pytest.approx((-169, 70.5), abs=0.02)
    assert "a latitude would be -170" in caplog.text


@pytest.mark.parametrize("srs", [LATLON, LONLAT])
def test_one_vertex_beyond_the_pole_is_an_error_of_its_polygon(srs: str, tmp_path: Path) -> None:
    ring = [(-60.0, 70.0), (-58.0, 70.0), (-58.0, 95.0), (-60.0, 71.0), (-60.0, 70.0)]
    with pytest.raises(ChartError, match=r"polygon 1 .*longitude -58 and latitude 95"):
        read_chart(write(tmp_path / "a.gml", area(srs=srs), area(ring=ring, srs=srs)))


@pytest.mark.parametrize(
    ("ring", "rings"),
    [
        (square(179, 70, 181, 71), [square(179, 70, 180, 71), square(-180, 70, -179, 71)]),
        ([(lon, 89.0) for lon in range(-180, 181, 5)] + [(180, 90), (-180, 90), (-180, 89)], None),
    ],
    ids=["dateline", "pole"],
)
def test_the_dateline_and_the_pole_keep_the_area(ring: Any, rings: Any, tmp_path: Path) -> None:
    chart = read_chart(write(tmp_path / "a.gml", area(ring=ring)))
    if rings is None:  # a cap of one degree: an ellipsoid's zone, by the geodesic area of its rim
        expected = abs(GEOD.polygon_area_perimeter([x / 10 for x in range(-1800, 1800)], [89.0] * 3600)[0]) / 1e6
    else:
        cut = read_chart(write(tmp_path / "b.gml", *(area(ring=r, name=f"s.{i}") for i, r in enumerate(rings))))
        expected = float(areas_km2(cut).sum())
    assert areas_km2(chart).sum() == pytest.approx(expected, rel=1e-3)


def test_a_polar_projection_is_taken_from_its_name(tmp_path: Path) -> None:
    ring = [(0.0, 0.0), (1e5, 0.0), (1e5, 1e5), (0.0, 1e5), (0.0, 0.0)]
    chart = read_chart(write(tmp_path / "a.gml", area(ring=ring, srs="http://www.opengis.net/gml/srs/epsg.xml#3995")))
    assert chart.source_crs == pyproj.CRS(3995)
    assert chart.geometries[0].area == pytest.approx(1e10)


# --- Eggs


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({"iceact": "1"}, {"ct": 0}),  # ice free: 01 in S-411, 00 in SIGRID-3
        ({"iceact": "02"}, {"ct": 1}),  # open water
        ({"iceact": "03"}, {"ct": 2}),  # bergy water
        ({"iceact": "92", "icesod": "70"}, {"ct": 92, "sa": 79}),  # brash ice, not 200 cm
        ({"iceact": "92", "iceapc": "92", "icesod": "95"}, {"ct": 92, "sa": 95}),
        (
            {"iceact": "90", "iceapc": "30|60", "icesod": "95|86", "iceflz": "01|09"},
            {"ct": 90, "ca": 30, "sa": 95, "fa": 22, "cb": 60, "sb": 86, "fb": 8},
        ),
        ({"iceact": "50", "iceapc": "2030", "icesod": "9586"}, {"ct": 50, "ca": 20, "sa": 95, "cb": 30, "sb": 86}),
        # One stage more than concentrations: what these leave says whether it is the remainder or a trace.
        (
            {"iceact": "90", "iceapc": "30 30", "icesod": "95 86 81"},
            {"ct": 90, "ca": 30, "sa": 95, "cb": 30, "sb": 86, "cd": 81},
        ),
        (
            {"iceact": "60", "iceapc": "30 30", "icesod": "95 86 81"},
            {"ct": 60, "ca": 30, "sa": 86, "cb": 30, "sb": 81, "cn": 95},
        ),
        (
            {"iceact": "90", "iceapc": "40, 20", "icesod": "97, 95, 86, 81"},
            {"ct": 90, "ca": 40, "sa": 95, "cb": 20, "sb": 86, "cn": 97, "cd": 81},
        ),
        ({"iceact": "90", "iceapc": "[90, 99]", "icesod": "['86', '99']"}, {"ct": 90, "sa": 86}),
    ],
)
def test_eggs_are_read_as_the_standard_orders_them(lists: Any, expected: Any, tmp_path: Path) -> None:
    assert read_egg(tmp_path, **lists) == expected


def test_lake_ice_has_the_codes_of_its_thickness(tmp_path: Path) -> None:
    text = area(egg(iceact="80", iceapc="50|30", icelso="04|01"), kind="lacice")
    chart = read_chart(write(tmp_path / "lake.gml", text))
    assert [int(chart.codes(c)[0]) for c in ("ct", "ca", "sa", "cb", "sb")] == [80, 50, 87, 30, 81]


def test_sums_and_unknown_codes_are_told_by_polygon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sums = egg(iceact="50", iceapc="50|40", icesod="95|86")
    path = write(tmp_path / "a.gml", area(), area(sums, square(-50, 70, -49, 71)), area(egg(iceact="74", icesod="92")))
    chart = read_chart(path)
    assert (chart.report.past_total, chart.report.past_total_ids) == (1, (1,))
    assert "sum to more than the total: 1" in caplog.text
    assert "polygon 2: iceact is 74, which S-411 does not have" in caplog.text
    assert "polygon 2: icesod is 92" not in caplog.text  # it has the code, without a meaning
    with pytest.raises(ChartError, match="polygon 2: CT is 74"):
        ice_types(chart)


# --- Archives and exchange sets


def test_an_exchange_set_is_read_as_folder_and_as_zip(tmp_path: Path) -> None:
    folder = tmp_path / "S411_XX_baltic"
    (folder / "data").mkdir(parents=True)
    write(folder / "data" / "baltic.gml", area())
    (folder / "catalogue.xml").write_text("<catalogue/>")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as z:
        for file in folder.rglob("*.*"):
            z.write(file, file.relative_to(tmp_path))
    for path in (folder, tmp_path / "set.zip"):
        assert areas_km2(read_chart(path)).sum() == pytest.approx(AREA_KM2, rel=1e-3)
        assert describe(path).facts["format"] == "S-411"


def test_an_exchange_set_of_s100_is_read_and_one_of_several_charts_is_not(tmp_path: Path) -> None:
    files = tmp_path / "S100_ROOT" / "S-411" / "DATASET_FILES"
    files.mkdir(parents=True)
    (tmp_path / "S100_ROOT" / "CATALOG.XML").write_text("<catalogue/>")
    write(files / "411XX00A.GML", area())
    assert len(read_chart(tmp_path)) == 1
    write(files / "411XX00B.GML", area())
    with pytest.raises(ChartError, match="exchange set of 2 charts"):
        read_chart(tmp_path)


# --- Bad and hostile files

LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
RING = "<gml:posList>70 -60 70 -58 71 -58 71 -60 70 -60</gml:posList>"


def bad(text: str, wrong: str, right: str) -> str:
    assert wrong in text
    return text.replace(wrong, right)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (HEAD + area(), "is broken XML"),
        (LAUGHS + HEAD[39:] + area(egg(iceact="&c;")) + "</ice:IceDataSet>", "document type"),
        ('<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">' + HEAD[39:] + area() + "</ice:IceDataSet>", "document type"),
        ("<Dataset xmlns:S100='s'><S100:DatasetIdentificationInformation><S100:productIdentifier>S-101"
         "</S100:productIdentifier></S100:DatasetIdentificationInformation></Dataset>", "is S-101"),
        ("<html><body/></html>", "root element <html>"),
        (HEAD + "</ice:IceDataSet>", "holds no areas of ice"),
        (HEAD + area(kind="icelne") + "</ice:IceDataSet>", "it holds 1 icelne"),
    ],
)  # fmt: skip
def test_files_that_are_not_sound_s411_are_refused(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gml"
    path.write_text(content)
    with pytest.raises(ChartError, match=words) as e:
        read_chart(path)
    assert e.value.path == path


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        ("70 -60 ", "70 -60 x ", "coordinate 'x'"),
        ("70 -60 ", "70 -60 71 ", "11 coordinates"),
        ("<gml:exterior>", "<gml:interior>", "0 exterior rings"),
        ("<gml:LinearRing>", "<gml:Circle>", "kind 'Circle'"),
        (f"<gml:LinearRing>{RING}</gml:LinearRing>", f"<gml:LinearRing>{RING}{RING}</gml:LinearRing>", "several lists"),
        ("<ice:iceact>92</ice:iceact>", "<ice:iceact>much</ice:iceact>", "iceact is 'much'"),
        ("<ice:iceact>92</ice:iceact>", "<ice:iceact>123</ice:iceact>", "iceact is '123'"),
        ("<ice:iceact>92</ice:iceact>", egg(iceact="92|91"), "iceact has 2 values"),
        ("<ice:iceact>92</ice:iceact>", egg(iceact="92", icesod="50"), "icesod is 50"),
        ("<ice:iceact>92</ice:iceact>", egg(iceact="92", iceapc="40 30 20", icesod="95"), "do not belong together"),
        ("<ice:iceact>92</ice:iceact>", egg(iceact="92", iceapc="10 " * 5, icesod="95 93 86 82 81"), "5 types"),
        ("<ice:iceact>92</ice:iceact>", egg(iceact="92", icesod="95", iceflz="1 2 3 4"), "iceflz has 4 values"),
        ("<ice:iceact>92</ice:iceact>", egg(iceact="1 " * 30), "more than 20 values"),
    ],
)
def test_errors_name_the_polygon(wrong: str, right: str, words: str, tmp_path: Path) -> None:
    text = area(name="seaice.7")
    made = bad(text, wrong, right)
    if "interior" in right or "Circle" in right:
        made = bad(made, wrong.replace("<", "</"), right.replace("<", "</"))
    with pytest.raises(ChartError, match=words) as e:
        read_chart(write(tmp_path / "a.gml", area(), made))
    assert "polygon 1 (gml:id 'seaice.7')" in e.value.message


def test_two_crs_in_a_chart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ChartError, match=r"polygon 1 .*a chart has one CRS"):
        read_chart(write(tmp_path / "a.gml", area(), area(srs=LONLAT)))


def test_an_unknown_crs_needs_that_of_the_user(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gml", area(srs="urn:x:secret"))
    with pytest.raises(ChartError, match="not one that PROJ knows: urn:x:secret"):
        read_chart(path)
    assert place(read_chart(path, crs="EPSG:4326")) == pytest.approx((-59, 70.5), abs=0.02)


def test_a_geometry_elsewhere_in_the_file_is_found_and_one_outside_is_not(tmp_path: Path) -> None:
    head = HEAD.replace("<ice:IceDataSet", '<ice:IceDataSet xmlns:xlink="http://www.w3.org/1999/xlink"')
    away = area(egg(iceact="90")).partition("<gml:Polygon")[0]
    for target, found in (("#seaice.1g", True), ("http://127.0.0.1:1/x#seaice.1g", False), ("#nowhere", False)):
        refers = f'{away}<gml:surfaceProperty xlink:href="{target}"/></ice:seaice></ice:IceFeatureMember>'
        path = write(tmp_path / "a.gml", area(), refers, head=head)
        if found:
            assert len(read_chart(path)) == 2
        else:
            with pytest.raises(ChartError, match=r"polygon 1 .*not in the file"):
                read_chart(path)


def test_other_editions_are_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path = write(tmp_path / "a.gml", area(), head=HEAD.replace("www.jcomm.info/ice", "example.org/ice/3"))
    assert len(read_chart(path)) == 1
    assert "http://example.org/ice/3" in caplog.text
    odd = area().replace("ice:seaice", "ice:icefog")
    read_chart(write(tmp_path / "b.gml", area(), odd))
    assert "kinds that S-411 does not have: 1 icefog" in caplog.text
