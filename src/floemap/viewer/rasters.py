"""Rasters that a browser can show: cloud-optimised GeoTIFFs on a map projection, as floemap writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox

from floemap.cog import geobox_of, open_raster
from floemap.errors import FloemapError, GridError
from floemap.grid import crs_of, in_image_geometry
from floemap.legend import RGB

#: Compressions that geotiff.js, by which the page reads rasters, can undo. floemap writes DEFLATE.
_COMPRESSIONS = (None, "deflate", "lzw", "packbits")
#: Types of pixels that it reads.
_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
#: Longest side of a raster that is shown without tiles and overviews: it is read whole, and takes 16 MB in the browser.
_SMALL_PX = 2048


@dataclass(frozen=True)
class BandFacts:
    """What a raster says of one band: physical value = stored value x scale + offset."""

    name: str
    description: str
    unit: str
    scale: float
    offset: float
    categories: dict[int, str]
    colours: dict[int, RGB]


@dataclass(frozen=True)
class Raster:
    """A raster that a browser can read.

    Attributes
    ----------
    path
        Real path of the file.
    geobox
        Its grid.
    nodata
        Stored value of pixels without data, or None. NaN is given as None: the page leaves it out by itself.
    bands
        Its bands in order.
    tags
        Metadata of the file.
    """

    path: Path
    geobox: GeoBox
    nodata: float | None
    bands: tuple[BandFacts, ...]
    tags: dict[str, str]

    def number_of(self, band: str) -> int:
        """Return the number of a band, from 1.

        Raises
        ------
        FloemapError
            If the raster has no band of that name.
        """
        names = [b.name for b in self.bands]
        if band not in names:
            raise FloemapError(f"has no band {band!r}, but {', '.join(names)}", path=self.path)
        return names.index(band) + 1


def read_raster(path: Path) -> Raster:
    """Read the header of a raster, and check that a browser can show it. No pixel is read.

    Raises
    ------
    FloemapError
        If the file cannot be read, or a browser cannot show it, with the reason and the way out.
    """
    with open_raster(path) as d:
        geobox = geobox_of(d, path)
        if in_image_geometry(geobox):
            raise GridError("is in image geometry, which has no place on the map", path=path)
        numbers = [*geobox.boundingbox.bbox, *d.scales, *d.offsets]
        if not crs_of(geobox).projected or not all(map(math.isfinite, numbers)) or 0 in d.scales:
            raise GridError("has no grid in metres on a map projection, or a scale that is not a number", path=path)
        compression = None if d.compression is None else d.compression.value.lower()
        if compression not in _COMPRESSIONS or any(t not in _TYPES for t in d.dtypes):
            kind = f"compression {compression}, pixels of type {d.dtypes[0]}"
            raise FloemapError(f"cannot be shown in a browser ({kind}). {_AS_COG}", path=path)
        if max(d.shape) > _SMALL_PX and not (d.profile.get("tiled") and d.overviews(1)):
            raise FloemapError(f"has no tiles or no overviews, and is too large without. {_AS_COG}", path=path)
        bands = tuple(_band(d, i) for i in d.indexes)
        nodata = float(d.nodata) if d.nodata is not None and math.isfinite(d.nodata) else None
        return Raster(path, geobox, nodata, bands, dict(d.tags()))


_AS_COG = "`gdal_translate -of COG -co COMPRESS=DEFLATE` makes a copy that can be shown"


def _band(d: Any, number: int) -> BandFacts:
    tags = {k: v for k, v in d.tags(number).items() if isinstance(v, str)}
    named = {k.removeprefix("class_"): v for k, v in tags.items() if k.startswith("class_")}
    colours: dict[int, RGB] = {}
    if named and d.dtypes[number - 1] == "uint8":
        try:
            colours = {k: (r, g, b) for k, (r, g, b, _) in d.colormap(number).items()}
        except ValueError:  # there is none
            colours = {}
    return BandFacts(
        name=d.descriptions[number - 1] or f"band {number}",
        description=tags.get("description", ""),
        unit=d.units[number - 1] or "",
        scale=float(d.scales[number - 1]),
        offset=float(d.offsets[number - 1]),
        categories={int(k): v for k, v in named.items() if k.isdecimal()},
        colours=colours,
    )
