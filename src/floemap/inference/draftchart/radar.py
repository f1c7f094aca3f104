"""The radar image of a draft chart as analysts look at it: false colour, a cloud-optimised GeoTIFF.

It is the image of the picture, in pixels of 160 m at least: HV in red, the mean of both in green, HH in blue, each
stretched between the 1st and the 99th percentile of the scene. It is for looking only; decibels are in the prepared
product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from floemap.cog import Band, open_raster, read_geobox, write_cog
from floemap.sentinel1.quicklook import false_colour

#: Pixel size, metres. In pixels of 80 m the image would take four times the space, most of it for speckle.
_PIXEL_M = 160.0
_NO_DATA = 0
_BANDS = (
    Band("red", description="HV, stretched to 1 to 255"),
    Band("green", description="mean of HV and HH, stretched to 1 to 255"),
    Band("blue", description="HH, stretched to 1 to 255"),
)


def write_radar(path: Path, product: Path, tags: Mapping[str, str]) -> None:
    """Write the false colour of a prepared product.tif: uint8, (3, rows, cols), 0 for no-data.

    Raises
    ------
    FloemapError
        If the product cannot be read, or the file cannot be written.
    """
    fine = read_geobox(product)
    factor = 2 ** max(0, round(math.log2(_PIXEL_M / abs(fine.resolution.x))))
    rows, cols = (-(-n // factor) for n in fine.shape)
    with open_raster(product) as d:
        stored = d.read([1, 2], out_shape=(2, rows, cols))  # overviews, which are means of power
        db = stored.astype(np.float32) * np.float32(d.scales[0])
        db[stored == d.nodata] = np.nan
    levels = np.rint(1 + 254 * false_colour(db[0], db[1])).astype(np.uint8)
    levels[np.isnan(db).any(axis=0)] = _NO_DATA
    geobox = GeoBox((rows, cols), fine.affine * Affine.scale(factor), fine.crs)
    write_cog(path, geobox, np.moveaxis(levels, -1, 0), _BANDS, nodata=_NO_DATA, tags=tags)
