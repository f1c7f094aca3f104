"""Charts, masks and grids from strangers: no other file is read, no network is asked, and all comes to an end."""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import sqlite3
import struct
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from chart_maker import BOTTOM, FOUR, LEFT, POLAR, SIDE_M, grid, ice, squares, write_chart
from listener import Listener
from odc.geo.geobox import GeoBox
from shapefile_maker import square, write_rings

import floemap
from floemap.cog import Band, open_raster, read_geobox, write_cog
from floemap.datasets.extremeearth.find import ChartFile
from floemap.datasets.extremeearth.inventory import check_dataset
from floemap.datasets.extremeearth.scenes import scene_of
from floemap.errors import ChartError, FloemapError, GridError
from floemap.icechart.describe import chart_facts
from floemap.icechart.label.label import label_chart
from floemap.icechart.label.rasterize import rasterize_polygons
from floemap.icechart.land import land_on
from floemap.icechart.read.overlaps import measure_coverage
from floemap.icechart.read.sigrid3 import read_chart
from floemap.info import describe

SOURCES = Path(floemap.__file__).parent
#: Reads vector files by GDAL's own choice of reader.
VECTOR_READERS = {"read_dataframe", "read_file", "read_info", "list_layers", "read_bounds", "read_arrow", "open_arrow"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, by its dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_one_module_reads_vector_files() -> None:
    found = {
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*.py")
        for name, _ in calls(path)
        if name.startswith(("pyogrio", "gpd", "geopandas")) and name.rpartition(".")[2] in {*VECTOR_READERS, "read"}
    }
    # The others count, or compare, what they have just written.
    assert found <= {"icechart/read/vector_files.py", "icechart/write/sigrid3.py", "simulation/pixels.py"}


def test_three_modules_read_rasters() -> None:
    """Measurement files of products, rasters for layers, and all others; what a writer reads again is its own."""
    found = {
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*.py")
        for name, call in calls(path)
        if name == "rasterio.open" and not (len(call.args) > 1 and ast.literal_eval(call.args[1]) in ("w", "w+"))
    }
    assert found <= {"cog.py", "sentinel1/safe/reader.py", "layers/from_raster.py", "simulation/safe/pixels.py"}


# --- whatever is in a file, nobody is asked


def program(url: str) -> str:
    """GDAL's name for a program of its own."""
    return json.dumps({"type": "gdal_streamed_alg", "command_line": f"gdal vector pipeline ! read {url}x.geojson"})


def collection(**more: Any) -> str:
    geometry = shapely.geometry.mapping(shapely.box(-10, 78, -8, 79))
    feature = {"type": "Feature", "properties": ice(SA="95"), "geometry": geometry}
    return json.dumps({"type": "FeatureCollection", **more, "features": [feature]})


def hostile_charts(folder: Path, url: str) -> list[Path]:
    """Files that make GDAL, asked without a name for the format, read other files or the network; and their like."""
    link = {"type": "link", "properties": {"href": f"{url}crs", "type": "proj4"}}
    layer = f"<OGRVRTLayer name='a'><SrcDataSource>/vsicurl/{url}a.gpkg</SrcDataSource></OGRVRTLayer>"
    virtual = f"<OGRVRTDataSource>{layer}</OGRVRTDataSource>"
    texts = {
        "program.geojson": program(url),
        "program.json": program(url),
        "bom.geojson": "\ufeff  \n" + program(url),
        "wrapped.geojson": f'{{"a": {program(url)}, "type": "FeatureCollection", "features": []}}',
        "both.geojson": collection(command_line=f"gdal vector pipeline ! read {url}x", kind="gdal_streamed_alg"),
        "link.geojson": collection(crs=link),
        "name.geojson": collection(crs={"type": "name", "properties": {"name": f"{url}crs"}}),
        "init.geojson": collection(crs={"type": "name", "properties": {"name": "+init=/dev/stdin:1"}}),
        "next.geojson": collection(links=[{"rel": "next", "href": f"{url}next"}], next=f"{url}next"),
        "topology.json": json.dumps({"type": "Topology", "objects": {}, "url": url}),
        "stac.json": json.dumps(
            {"type": "Collection", "stac_version": "1.0.0", "links": [{"rel": "item", "href": url}]}
        ),
        "features.json": json.dumps({"type": "FeatureCollection", "features": url}),
        "vrt.geojson": virtual,
        "vrt.gpkg": virtual,
        "wfs.fgb": f"<OGRWFSDataSource><URL>{url}</URL></OGRWFSDataSource>",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    # A shapefile and a database with the marks of other formats in them, and with a CRS that is an address.
    shape = write_rings(folder / "marks.shp", [[square(5e5, -1.5e6, 1e4, clockwise=True)]] * 20)
    content = bytearray(shape.read_bytes())
    marks = (
        program(url) + "<OGRVRTDataSource> <OGRWFSDataSource> Product_Observational LBLSIZE=1024 <VRTDataset>"
    ).encode()
    content[4:24], content[200 : 200 + len(marks)] = marks[:20], marks
    shape.write_bytes(content)
    for i, crs in enumerate(
        (url, f"+init={url}", f'GEOGCS["a",EXTENSION["PROJ4","+proj=longlat +nadgrids={url}g.tif"]]')
    ):
        write_chart(folder / f"crs{i}.shp").with_suffix(".prj").write_text(crs)
        path = write_chart(folder / f"crs{i}.gpkg")
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(
                "UPDATE gpkg_spatial_ref_sys SET definition = ?, organization = 'NONE' WHERE srs_id = 3413", (crs,)
            )
    made = sorted(p for p in folder.iterdir() if p.suffix in (".geojson", ".json", ".gpkg", ".fgb", ".shp"))
    for path in list(made):
        made.append(path.with_name(f"{path.stem}_{path.suffix[1:]}.zip"))
        with zipfile.ZipFile(made[-1], "w") as z:
            for part in folder.glob(f"{path.stem}.*"):
                if part.suffix != ".zip" and (path.suffix == ".shp") == (
                    part.suffix in (".shp", ".shx", ".dbf", ".prj")
                ):
                    z.write(part, part.name)
    return made


def test_no_chart_makes_anybody_ask_a_server(tmp_path: Path) -> None:
    geobox, folder = grid(), tmp_path / "charts"
    folder.mkdir()
    like = tmp_path / "like.tif"
    write_cog(like, geobox, np.ones(geobox.shape, np.uint8), [Band("any")], nodata=0)
    with Listener(tmp_path) as server:
        charts = hostile_charts(folder, server.url)
        with pytest.raises(pyogrio.errors.DataSourceError):
            pyogrio.read_info(folder / "program.geojson")
        assert server.requests(), "what GDAL would have done"
        other = tmp_path / "other.gpkg"
        write_chart(other)
        refused = 0
        for path in charts:
            for read in (
                lambda p=path: chart_facts(read_chart(p)),
                lambda p=path: label_chart(p, like, tmp_path / f"out_{p.name}"),
                lambda p=path: land_on(p, geobox),
                lambda p=path: ChartFile(p).read(),
            ):
                try:
                    read()
                except FloemapError:
                    refused += 1
            assert server.requests() == [], path.name
        assert refused > len(charts)
        named = folder / scene_of(1).chart
        shutil.copy(folder / "program.geojson", named.with_suffix(".geojson"))
        (month,) = check_dataset(folder, [1], ["charts"]).months
        assert month.chart.state == "wrong" and "not GeoJSON with features" in month.chart.problems[0]
        assert server.requests() == []


@pytest.mark.parametrize("beside", ["aux.xml", "ovr", "msk"])
def test_no_grid_makes_anybody_ask_a_server(tmp_path: Path, beside: str) -> None:
    geobox = grid(600, 1200)
    like = tmp_path / "like.tif"
    with rasterio.open(
        like, "w", driver="GTiff", count=1, height=600, width=1200, dtype="uint8", crs=POLAR, transform=geobox.transform
    ) as d:
        d.write(np.ones((1, 600, 1200), np.uint8))
    with Listener(tmp_path) as server:
        source = f"<SourceFilename>/vsicurl/{server.url}v.tif</SourceFilename><SourceBand>1</SourceBand>"
        vrt = (
            '<VRTDataset rasterXSize="600" rasterYSize="300"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
            f"{source}</SimpleSource></VRTRasterBand></VRTDataset>"
        )
        item = f'<MDI key="OVERVIEW_FILE">/vsicurl/{server.url}o.tif</MDI>'
        pam = f'<PAMDataset><Metadata domain="OVERVIEWS">{item}</Metadata></PAMDataset>'
        like.with_name(f"like.tif.{beside}").write_text(pam if beside == "aux.xml" else vrt)
        if beside != "msk":
            with pytest.MonkeyPatch.context() as m, rasterio.open(like, driver="GTiff") as d:
                m.setenv("GDAL_HTTP_MAX_RETRY", "0")
                d.overviews(1)
                with suppress(rasterio.errors.RasterioError):
                    d.read(1, out_shape=(30, 60))
            assert server.requests(), "what GDAL would have done"
        assert read_geobox(like) == geobox
        with pytest.raises(GridError, match=r"a mask in like\.tif\.msk") if beside == "msk" else nullcontext():
            label_chart(write_chart(tmp_path / "c.gpkg"), like, tmp_path / "out")
        with open_raster(like) as d:
            assert d.files == [str(like)]
            d.read(1, out_shape=(30, 60))
            d.overviews(1)
        assert server.requests() == []


@pytest.mark.parametrize("domain", ["OVERVIEWS", "overviews"])
def test_no_metadata_of_a_grid_make_anybody_ask_a_server(tmp_path: Path, domain: str) -> None:
    """A TIFF may say in itself that its overviews lie elsewhere."""

    def pointing(name: str, url: str) -> Path:
        shape = {"height": 600, "width": 1200}
        place = {"crs": POLAR, "transform": grid(600, 1200).transform}
        with rasterio.open(tmp_path / name, "w", driver="GTiff", count=1, dtype="uint8", **shape, **place) as d:
            d.write(np.ones((1, 600, 1200), np.uint8))
            d.update_tags(ns=domain, OVERVIEW_FILE=f"/vsicurl/{url}{name}")
        return tmp_path / name

    def shrunk(d: Any) -> None:
        d.overviews(1)
        d.read(1, out_shape=(30, 60))

    with Listener(tmp_path) as server:
        with rasterio.open(pointing("gdal.tif", server.url)) as d:
            shrunk(d)
        asked = server.requests()
        if domain == "OVERVIEWS":
            assert "/gdal.tif" in asked, "what GDAL would have done"
        like = pointing("like.tif", server.url)
        for read in (
            lambda: read_geobox(like),
            lambda: label_chart(write_chart(tmp_path / "c.gpkg"), like, tmp_path / "out"),
            lambda: describe(like),
        ):
            with pytest.raises(FloemapError, match="refer to overviews in another file"):
                read()
        with pytest.raises(FloemapError), open_raster(like) as d:
            shrunk(d)
        assert server.requests() == []


def test_a_raster_that_points_to_another_is_refused(tmp_path: Path) -> None:
    write_cog(tmp_path / "a.tif", grid(), np.ones(grid().shape, np.uint8), [Band("any")], nodata=0)
    (tmp_path / "p.tif").write_text(
        '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{tmp_path}/a.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(FloemapError, match="cannot be read as a raster"):
        label_chart(write_chart(tmp_path / "c.gpkg"), tmp_path / "p.tif", tmp_path / "out")
    # A georeference beside the file is not used, and that is said.
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        d = rasterio.open(tmp_path / "b.tif", "w", driver="GTiff", count=1, height=8, width=8, dtype="uint8")
    d.close()
    (tmp_path / "b.tfw").write_text("1000\n0\n0\n-1000\n0\n0\n")
    with pytest.raises(FloemapError, match=r"no georeference.*b\.tfw, which floemap does not read"):
        read_geobox(tmp_path / "b.tif")


def test_rasters_that_are_odd_are_refused_in_plain_words(tmp_path: Path) -> None:
    chart = write_chart(tmp_path / "c.gpkg")
    write_cog(tmp_path / "m.tif", grid(), np.ones(grid().shape, np.float32), [Band("mask")], nodata=None)
    with pytest.raises(FloemapError, match="its mask holds float32, no whole numbers"):
        label_chart(chart, tmp_path / "m.tif", tmp_path / "out")
    write_cog(tmp_path / "t.tif", grid(), np.ones(grid().shape, np.uint8), [Band("anything")], nodata=0)
    (tmp_path / "t.tif").write_bytes((tmp_path / "t.tif").read_bytes().replace(b"anything", b"\x8enything"))
    with pytest.raises(FloemapError, match="cannot be read as a raster"):
        label_chart(chart, tmp_path / "t.tif", tmp_path / "out")


# --- databases


def changed(path: Path, *statements: str) -> Path:
    """Write a GeoPackage and change it by SQL; triggers that need functions of GDAL's own go first."""
    write_chart(path)
    with closing(sqlite3.connect(path)) as db, db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        for statement in statements:
            db.execute(statement)
    return path


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
VIEW = (
    "ALTER TABLE c RENAME TO hidden",
    f"CREATE VIEW c AS {ENDLESS} SELECT i AS fid, geom, 'a' AS CT, 'b' AS SA, 'I' AS POLY_TYPE FROM n, hidden",
)


@pytest.mark.parametrize(
    ("statements", "match"),
    [
        (VIEW, "'c' is a query, not a table"),
        (
            (
                "ALTER TABLE c RENAME TO h",
                "CREATE VIEW c AS SELECT fid, geom, hex(zeroblob(900000000)) AS CT, SA, POLY_TYPE FROM h",
            ),
            "'c' is a query",
        ),
        (
            ("ALTER TABLE gpkg_contents RENAME TO h", f"CREATE VIEW gpkg_contents AS {ENDLESS} SELECT h.* FROM h, n"),
            "'gpkg_contents' is a query",
        ),
        (
            (
                "ALTER TABLE gpkg_spatial_ref_sys RENAME TO h",
                f"CREATE VIEW gpkg_spatial_ref_sys AS {ENDLESS} SELECT h.* FROM h, n",
            ),
            "'gpkg_spatial_ref_sys' is a query",
        ),
        (("DROP TABLE gpkg_contents",), "not a GeoPackage: it has no table 'gpkg_contents'"),
        (("ALTER TABLE c DROP COLUMN CT", "ALTER TABLE c ADD COLUMN CT AS (hex(zeroblob(400000000)))"), "lacks CT"),
        (("DROP TABLE c", "CREATE VIRTUAL TABLE c USING fts5(geom, CT, SA, POLY_TYPE)"), "'c' is a query"),
        (("UPDATE c SET geom = x'00'",), "polygon 1: its geometry does not have a GeoPackage header"),
        (("UPDATE c SET geom = x'4750000100000000010300000001000000'",), "1, 2, 3, 4: their geometries are damaged"),
        (("UPDATE c SET geom = 'text'",), "polygon 1: its geometry does not have"),
        (("UPDATE c SET CT = x'ff00'",), "polygon 1: CT is b"),
        (tuple(f"ALTER TABLE c ADD COLUMN {n} TEXT" for n in ("_rowid_", "ROWID", "oid")), "hides the numbers"),
    ],
)
def test_databases_that_are_none_are_refused(tmp_path: Path, statements: tuple[str, ...], match: str) -> None:
    with pytest.raises(ChartError, match=match):
        read_chart(changed(tmp_path / "c.gpkg", *statements))


NO_CRS = {
    "bytes": "zeroblob(50000000)",
    "long": "printf('%.*c', 50000000, 'x')",
    "deep": """replace(hex(zeroblob(9000)), '00', '{"a":')""",
}


@pytest.mark.parametrize("crs", NO_CRS.values(), ids=NO_CRS)
def test_a_crs_that_is_none_is_not_pondered(tmp_path: Path, crs: str) -> None:
    made = f"UPDATE gpkg_spatial_ref_sys SET organization = 'NONE', definition = {crs} WHERE srs_id = 3413"
    path = changed(tmp_path / "c.gpkg", made)
    with pytest.raises(ChartError, match=r"has no CRS|its CRS is not one that PROJ knows") as e:
        read_chart(path)
    assert len(str(e.value)) < 400
    assert len(read_chart(path, crs="EPSG:3413")) == 4


def test_a_database_of_damaged_bytes_is_refused_or_read(tmp_path: Path) -> None:
    """Of many, some make SQLite say what is no text."""
    whole = write_chart(tmp_path / "c.gpkg").read_bytes()
    refused = 0
    for seed in range(60):
        draw, content = random.Random(seed), bytearray(whole)
        for _ in range(60):
            content[draw.randrange(100, len(content))] = draw.randrange(256)
        (tmp_path / "damaged.gpkg").write_bytes(content)
        try:
            read_chart(tmp_path / "damaged.gpkg")
        except ChartError:
            refused += 1
    assert refused > 30


def test_what_is_no_text_is_refused_in_text(tmp_path: Path) -> None:
    database = write_chart(tmp_path / "c.gpkg")
    made, other = b"CREATE TABLE gpkg_contents", b"CREATE TABLE gpkg con\xa1ents"
    database.write_bytes(database.read_bytes().replace(made, other, 1))
    flat = write_chart(tmp_path / "c.fgb", crs="+proj=stere +lat_0=90 +lat_ts=71 +lon_0=-45 +datum=WGS84")
    flat.write_bytes(flat.read_bytes().replace(b'"unknown"', b'"unkn\xe1wn"', 1))
    for path, words in ((database, "it holds text that is not UTF-8"), (flat, "its CRS is not text")):
        with pytest.raises(ChartError, match=f"cannot be read: {words}") as e:
            read_chart(path)
        assert e.value.path == path and str(e.value).isprintable()


def test_a_database_is_read_by_its_rows(tmp_path: Path) -> None:
    """Counts and indexes that are not true lose no polygon; what else lies in it is left alone."""
    path = changed(
        tmp_path / "c.gpkg",
        "UPDATE gpkg_ogr_contents SET feature_count = 1",
        "DELETE FROM rtree_c_geom",
        f"CREATE VIEW other AS {ENDLESS} SELECT i FROM n",
        "ALTER TABLE c ADD COLUMN _RowId_ TEXT DEFAULT 'x'",
        "CREATE TRIGGER t AFTER INSERT ON c BEGIN SELECT load_extension('x'); END",
        "UPDATE c SET CT = CAST(x'3932' AS TEXT) WHERE fid = 1",
    )
    before = path.read_bytes()
    assert len(read_chart(path)) == 4
    land = changed(tmp_path / "l" / "c.gpkg", "DELETE FROM rtree_c_geom", "UPDATE c SET POLY_TYPE = 'L'")
    assert land_on(land, grid()).all()
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.gpkg", "l"]


# --- polygons


def test_thousands_of_polygons_on_one_another(tmp_path: Path) -> None:
    shapes = [shapely.affinity.translate(s, i, i) for i, s in enumerate(squares(1) * 6000)]
    chart = read_chart(write_chart(tmp_path / "c.gpkg", [ice(SA="95")] * 6000, shapes))
    assert len(chart) == 6000
    assert measure_coverage(chart.geometries).measured is False
    assert rasterize_polygons(chart, grid()).max() == 6000
    fine = grid(6400, 25_600, 10)  # there, drawing would take minutes
    rows, cols = fine.shape
    south_up = GeoBox(fine.shape, fine.transform * Affine.translation(0, rows) * Affine.scale(1, -1), fine.crs)
    from_east = GeoBox(fine.shape, fine.transform * Affine.translation(cols, 0) * Affine.scale(-1, 1), fine.crs)
    for turned in (fine, south_up, from_east):
        with pytest.raises(ChartError, match=r"lie on one another: they would have to be drawn [\d,]+ times"):
            rasterize_polygons(chart, turned)
    chart.polygons.assign(POLY_TYPE="L").rename(columns={"poly_type": "old"}).to_file(tmp_path / "l.gpkg")
    with pytest.raises(ChartError, match="lie on one another"):
        land_on(tmp_path / "l.gpkg", fine)


def test_coverage_is_measured_where_charts_are_charts() -> None:
    assert measure_coverage(np.array(squares(300), object)).measured
    comb = [shapely.box(i, 0, i + 0.5, 4000) for i in range(3000)] + [
        shapely.box(0, i, 3000, i + 0.5) for i in range(3000)
    ]
    assert not measure_coverage(np.array(comb, object)).measured


# --- codes, archives, pipes


@pytest.mark.parametrize("value", [[86], {"a": 1}, True, 10**400, 1e308, "8" * 5000, [[[]]]])
def test_values_that_are_no_codes(tmp_path: Path, value: Any) -> None:
    content = json.loads(collection())
    for column in ("SA", "POLY_TYPE"):
        content["features"][0]["properties"][column] = value
        (tmp_path / "c.geojson").write_text(json.dumps(content))
        with pytest.raises(ChartError, match=rf"polygon 0: {column} is") as e:
            read_chart(tmp_path / "c.geojson")
        assert len(str(e.value)) < 400
        content["features"][0]["properties"]["SA"] = "95"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"a":' + "[" * 100_000, "cannot be read"),
        ('{"type":"FeatureCollection","features":[' + '{"a":' * 50_000, "cannot be read"),
        ('{"type":"FeatureCollection","features":[1]}', "not GeoJSON with features"),
        (
            '{"type":"FeatureCollection","features":[{"type":"Feature","properties":[1],"geometry":null}]}',
            "properties are not a JSON object",
        ),
        ('{"a":' + "9" * 5000 + "}", "cannot be read"),
        (collection().replace("[-10.0", '["a"'), "polygon 0: its geometry is not valid GeoJSON"),
        (collection().replace("[-10.0", "[1" + "0" * 400), "polygon 0: its geometry is not valid GeoJSON"),
        (collection().replace('"type": "Polygon", ', ""), "polygon 0: its geometry"),
        (
            collection().replace('"coordinates": [[[', '"coordinates": [[1, [['),
            "polygon 0: its geometry|cannot be read",
        ),
        ('{"type":"Polygon","coordinates":[]}', "its type is 'Polygon'"),
    ],
)
def test_json_that_is_no_chart(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "c.geojson").write_text(text)
    with pytest.raises(ChartError, match=match):
        read_chart(tmp_path / "c.geojson")


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.write(write_chart(tmp_path / "c.gpkg"), "c.gpkg")
        for name in ("", "\0x"):
            member = zipfile.ZipInfo("x")
            member.filename = name
            z.writestr(member, b"nothing")
    with pytest.raises(ChartError, match="holds a member without a name"):
        read_chart(path)


@pytest.mark.parametrize("name", ["c.shp", "c.gpkg", "c.geojson", "c.fgb", "c.zip", "c.tar"])
def test_pipes_and_devices_are_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / f"link_{name}").symlink_to("/dev/zero")
    (tmp_path / f"to_pipe_{name}").symlink_to(tmp_path / name)
    write_cog(tmp_path / "like.tif", grid(), np.ones(grid().shape, np.uint8), [Band("any")], nodata=0)
    for path in (tmp_path / name, tmp_path / f"link_{name}", tmp_path / f"to_pipe_{name}"):
        for read in (
            read_chart,
            lambda p: land_on(p, grid()),
            lambda p: label_chart(p, tmp_path / "like.tif", tmp_path),
        ):
            with pytest.raises(ChartError, match=r"is a (pipe|device), not a regular file"):
                read(path)
    with pytest.raises(FloemapError, match="is a pipe, not a regular file"):
        read_geobox(tmp_path / name)


def test_an_archive_is_whole_or_refused(tmp_path: Path) -> None:
    chart = write_chart(tmp_path / "c.gpkg")
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        tar.add(chart, "../c.gpkg")
    with pytest.raises(ChartError, match="whose path leaves the archive"):
        read_chart(tmp_path / "c.tar")
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        tar.add(chart, "c.gpkg")
        link = tarfile.TarInfo("d.gpkg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert len(read_chart(tmp_path / "c.tar")) == 4, "links in it are not followed, nor named"
    content = (tmp_path / "c.tar").read_bytes()
    (tmp_path / "c.tar").write_bytes(content[:3000])
    with pytest.raises(ChartError, match="not a readable tar"):
        read_chart(tmp_path / "c.tar")
    (tmp_path / "z.tar").write_bytes(b"\0" * 100)
    with pytest.raises(ChartError, match=r"not a readable tar|holds 0 charts"):
        read_chart(tmp_path / "z.tar")


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_an_archive_of_very_many_files_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"c{suffix}"
    with zipfile.ZipFile(path, "w") if suffix == ".zip" else tarfile.open(path, "w") as archive:
        for i in range(20_001):
            if isinstance(archive, zipfile.ZipFile):
                archive.writestr(f"{i}.txt", b"")
            else:
                archive.addfile(tarfile.TarInfo(f"{i}.txt"))
    with pytest.raises(ChartError, match="holds more than 20,000 files"):
        read_chart(path)


# --- a folder with one that is wrong


def test_one_bad_chart_hides_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for month in (1, 2, 3):
        write_chart((tmp_path / scene_of(month).chart).with_suffix(".gpkg"))
    first = ChartFile(tmp_path / f"{scene_of(1).chart}.gpkg")
    read = ChartFile.read

    def fails(file: ChartFile) -> Any:
        if file.path.stem == first.path.stem:
            raise RuntimeError("nobody thought of this")
        return read(file)

    monkeypatch.setattr(ChartFile, "read", fails)
    months = check_dataset(tmp_path, [1, 2, 3], ["charts"]).months
    assert [m.chart.state for m in months] == ["wrong", "right", "right"]
    assert "unexpected RuntimeError: nobody thought of this" in months[0].chart.problems[0]


def test_readers_do_not_disturb_each_other(tmp_path: Path) -> None:
    path, found = write_chart(tmp_path / "c.zip"), []
    threads = [threading.Thread(target=lambda: found.append(len(read_chart(path)))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [4] * 4


def test_curved_edges_are_named(tmp_path: Path) -> None:
    arc = "CURVEPOLYGON(COMPOUNDCURVE(CIRCULARSTRING(0 0,1 1,2 0),(2 0,0 0)))"
    path = write_chart(tmp_path / "c.gpkg", FOUR[:1])
    blob = b"GP\0\1" + bytes(4) + curve_polygon()
    with closing(sqlite3.connect(path)) as db, db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        db.execute("UPDATE c SET geom = ?", (blob,))
    with pytest.raises(ChartError, match="polygon 1: has edges that are arcs"):
        read_chart(path)
    assert arc.startswith("CURVEPOLYGON")


def curve_polygon() -> bytes:
    """A half disc in Well-Known Binary: a curve polygon of one compound curve of an arc and a line."""
    import struct

    arc = struct.pack("<BII6d", 1, 8, 3, 0, 0, 1, 1, 2, 0)
    line = struct.pack("<BII4d", 1, 2, 2, 2, 0, 0, 0)
    return struct.pack("<BII", 1, 10, 1) + struct.pack("<BII", 1, 9, 2) + arc + line


def test_the_readers_own_form_is_geopandas(tmp_path: Path) -> None:
    """Whole and well-made files read as GDAL reads them."""
    for name in ("c.shp", "c.gpkg", "c.geojson"):
        path = write_chart(
            tmp_path / name, geometries=gpd.GeoSeries(squares(4), crs=POLAR).to_crs(4326), crs="EPSG:4326"
        )
        theirs, ours = gpd.read_file(path, fid_as_index=True), read_chart(path)
        assert ours.polygons.index.tolist() == theirs.index.tolist()
        assert ours.codes("sa").tolist() == [-9 if v in (None, "-9") or v != v else int(v) for v in theirs["SA"]]
        assert ours.source_crs == theirs.crs


def _wkb(kind: int, *parts: bytes, header: str = "<BII") -> bytes:
    return struct.pack(header, 1, kind, len(parts)) + b"".join(parts)


def _numbers(places: list[tuple[float, float]]) -> bytes:
    return b"".join(struct.pack("<2d", *place) for place in places)


SQUARE = [(LEFT, BOTTOM), (LEFT, BOTTOM + SIDE_M), (LEFT + SIDE_M, BOTTOM + SIDE_M), (LEFT + SIDE_M, BOTTOM)]
CLOSED = [*SQUARE, SQUARE[0]]
LINE = struct.pack("<BII", 1, 2, 5) + _numbers(CLOSED)
HALVES = [struct.pack("<BII", 1, 2, 3) + _numbers(CLOSED[i : i + 3]) for i in (0, 2)]
FACES = [[*SQUARE[:3], SQUARE[0]], [SQUARE[0], *SQUARE[2:], SQUARE[0]]]
TRIANGLES = [_wkb(17, struct.pack("<I", 4) + _numbers(face)) for face in FACES]


@pytest.mark.parametrize(
    "shape",
    [
        _wkb(10, LINE),
        _wkb(10, _wkb(9, *HALVES)),
        _wkb(12, _wkb(10, LINE)),
        _wkb(15, *(_wkb(3, struct.pack("<I", 4) + _numbers(face)) for face in FACES)),
        _wkb(16, *TRIANGLES),
    ],
    ids=["curve polygon", "of pieces", "surfaces", "polyhedral", "triangulated"],
)
def test_surfaces_with_straight_edges_are_polygons(tmp_path: Path, shape: bytes) -> None:
    """Types 10, 12, 15 and 16 of Well-Known Binary (OGC 06-103r4) have an area, and need no arcs."""
    path = write_chart(tmp_path / "c.gpkg", [ice(SA="95")])
    with closing(sqlite3.connect(path)) as db, db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        db.execute("UPDATE c SET geom = ?", (b"GP\0\1" + struct.pack("<i", 3413) + shape,))
    (polygon,) = read_chart(path).geometries
    assert polygon.symmetric_difference(shapely.Polygon(SQUARE)).area < 1e-6


def test_a_geopackage_may_name_its_crs_by_code_alone(tmp_path: Path) -> None:
    path = write_chart(tmp_path / "c.gpkg")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE gpkg_spatial_ref_sys SET definition = '' WHERE organization_coordsys_id = 3413")
    assert read_chart(path).crs.to_epsg() == 3413
