"""Writes parts of scenes in memory as files, in the form that `floemap prepare` and `floemap label` give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from floemap.cog import Band, write_cog
from floemap.learning.data.parts import PartArrays, ScenePart
from floemap.legend import IGNORE
from floemap.sentinel1.bands import BANDS
from floemap.sentinel1.encoding import NODATA


def on_disk(part: PartArrays, folder: Path, origin: tuple[int, int] = (0, 0), *, mask: bool = False) -> ScenePart:
    """Write a part as prepare and label would, at `origin` in a scene that is 20 pixels larger on each side."""
    rows, cols = part.labels.shape
    shape = (rows + 40, cols + 40)
    row, col = origin
    inside = (..., slice(row, row + rows), slice(col, col + cols))
    stored = np.full((4, *shape), 777, np.int16)
    labels = np.full(shape, 2, np.uint8)
    inner = np.zeros(shape, np.uint8)
    stored[:3][inside], labels[inside], inner[inside] = part.stored, part.labels, 1
    geobox = GeoBox(shape, GeoBox.from_bbox((0, 0, 800, 800), "EPSG:3413", resolution=80).affine, "EPSG:3413")
    write_cog(folder / f"{part.name}_product.tif", geobox, stored, BANDS, nodata=NODATA)
    write_cog(folder / f"{part.name}_labels.tif", geobox, labels, [Band("ice_type")], nodata=IGNORE)
    write_cog(folder / f"{part.name}_mask.tif", geobox, inner, [Band("inside")], nodata=None)
    return ScenePart(
        part.name,
        folder / f"{part.name}_product.tif",
        folder / f"{part.name}_labels.tif",
        folder / f"{part.name}_mask.tif" if mask else None,
        None if mask else (row, col, rows, cols),
    )
