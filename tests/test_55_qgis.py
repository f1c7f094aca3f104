"""What QGIS itself shows of our files, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from lxml import etree
from odc.geo.geobox import GeoBox
from real_qgis import needs_qgis, run_in_qgis
from workshop import COMMANDS, Inputs

from floemap.cog import Band, write_cog
from floemap.legend import EXTREMEEARTH, IGNORE
from floemap.qgis_raster import classes_style, grey_style, heat_style, palette_style

GEOBOX = GeoBox((40, 50), Affine(80, 0, 100_000, 0, -80, -900_000), "EPSG:3413")


def in_qgis(*files: Path, home: Path) -> dict[str, Any]:
    """Return what QGIS says of files, by name."""
    found = run_in_qgis(Path(__file__).with_name("in_qgis.py"), *files, home=home)
    return {Path(path).name: told for path, told in found.items()}


def raster(path: Path, values: Any, band: Band, style: str) -> Path:
    write_cog(path, GEOBOX, values, [band], nodata=IGNORE if values.dtype == np.uint8 else -32768)
    path.with_suffix(".qml").write_text(style, encoding="utf-8")
    return path


@pytest.fixture
def rasters(tmp_path: Path) -> list[Path]:
    classes = (np.indices(GEOBOX.shape).sum(axis=0) % 6).astype(np.uint8)
    kind = Band("ice_type", overview="mode", colours=EXTREMEEARTH.colours)
    return [
        raster(tmp_path / "classes.tif", classes, kind, classes_style(EXTREMEEARTH)),
        raster(tmp_path / "uncertainty.tif", classes, Band("entropy", "1", scale=0.005), heat_style(0, 1)),
        raster(
            tmp_path / "product.tif", np.full(GEOBOX.shape, -1500, np.int16), Band("hh_db", "dB", scale=0.01),
            grey_style(-28, -5),
        ),
    ]  # fmt: skip


@needs_qgis
def test_qgis_shows_classes_by_name_and_bands_in_their_units(rasters: list[Path], tmp_path: Path) -> None:
    found = in_qgis(*rasters, home=tmp_path / "home")
    assert all(told["valid"] for told in found.values())
    wanted = [[c.title, "#{:02x}{:02x}{:02x}".format(*c.rgb)] for c in EXTREMEEARTH.classes]
    assert found["classes.tif"]["renderer"] == "paletted" and found["classes.tif"]["legend"] == wanted
    assert found["uncertainty.tif"]["renderer"] == "singlebandpseudocolor"
    labels = [label for label, _ in found["uncertainty.tif"]["legend"]]
    assert labels[0] == "0" and labels[-1] == "1"
    assert found["product.tif"]["renderer"] == "singlebandgray"


@needs_qgis
def test_every_raster_of_whole_numbers_that_is_made_has_its_names_in_qgis(workshop: Inputs, tmp_path: Path) -> None:
    """None is shown as 256 numbers: with the style beside it, and only there, QGIS has names."""
    evaluated = COMMANDS["evaluate"].run(workshop, tmp_path)
    assert evaluated.exit_code == 0, evaluated.output
    names = (workshop.labels / "labels.tif", workshop.prediction / "classes.tif")
    made = [*names, tmp_path / workshop.name / "errors.tif"]
    for name, told in in_qgis(*made, home=tmp_path / "home").items():
        assert told["renderer"] == "paletted" and 2 <= len(told["legend"]) <= 6, name
        assert not [label for label, _ in told["legend"] if label.isdigit()], name


def test_styles_are_xml_with_each_class_once() -> None:
    for style, titles in (
        (classes_style(EXTREMEEARTH), {str(c.id): c.title for c in EXTREMEEARTH.classes}),
        (palette_style([(IGNORE, "a < b & c", (1, 2, 3))]), {str(IGNORE): "a < b & c"}),
    ):
        tree = etree.fromstring(style.encode())
        assert {e.get("value"): e.get("label") for e in tree.iter("paletteEntry")} == titles
