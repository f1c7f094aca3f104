"""The bands of a prepared product: storage in ``product.tif``, and reading them in physical units."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from floemap.cog import Band, open_raster, read_geobox
from floemap.errors import FloemapError, ProductError
from floemap.grid import xarray_coords
from floemap.sentinel1.encoding import NODATA, SCALE
from floemap.sentinel1.safe.container import holds_manifest

if TYPE_CHECKING:
    import xarray as xr

BANDS = (
    Band("hh_db", "dB", "HH sigma nought, thermal noise subtracted", SCALE, overview="power"),
    Band("hv_db", "dB", "HV sigma nought, thermal noise subtracted", SCALE, overview="power"),
    Band("incidence_deg", "degree", "Incidence angle at the ground", SCALE),
    Band(
        "mask",
        "1",
        "Sum of 1: valid, 2: HH at or below the noise floor, 4: HV at or below the noise floor; 0: no data",
        overview="nearest",
    ),
)


def raster_of(product: str | Path) -> Path:
    """Return the path of product.tif for a prepared folder; the path of a raster is returned unchanged.

    Raises
    ------
    ProductError
        If `product` is a Sentinel-1 product that was not prepared, or a folder without product.tif.
    """
    path = Path(product)
    if not path.is_dir():
        if path.suffix.lower() == ".zip" and path.is_file():
            raise _not_prepared(path)
        return path
    raster = path / "product.tif"
    if not raster.is_file():
        if holds_manifest(path):
            raise _not_prepared(path)
        within = sorted(p.parent.name for p in path.glob("*/product.tif"))
        hint = f"Give one of its {len(within)} prepared products, such as {within[0]!r}." if within else None
        raise ProductError("holds no product.tif, so it is not a prepared product.", path=path, hint=hint)
    return raster


def _not_prepared(path: Path) -> ProductError:
    message = "is a Sentinel-1 product as delivered, where a prepared one is needed."
    return ProductError(message, path=path, hint="Prepare it first, with `floemap prepare`.")


def open_product(path: str | Path) -> xr.Dataset:
    """Open a prepared product as an xarray.Dataset in physical units.

    Parameters
    ----------
    path
        A prepared folder or its product.tif.

    Returns
    -------
    Dataset
        ``hh_db``, ``hv_db`` (dB), ``incidence_deg`` (degrees), float32 with NaN as no-data, and ``mask`` (uint8), with
        dimensions (y, x), coordinates in metres of pixel centres, and ``spatial_ref`` by CF conventions, as rioxarray
        reads it.

    Raises
    ------
    FloemapError
        If `path` is not a prepared product.
    """
    import xarray as xr

    raster = raster_of(path)
    geobox = read_geobox(raster)
    with open_raster(raster) as d:
        if d.descriptions != tuple(b.name for b in BANDS):
            raise FloemapError(f"has the bands {d.descriptions}.", path=raster, hint="Make it with `floemap prepare`.")
        stored, tags = d.read(), d.tags()
    coords = xarray_coords(geobox)
    variables = {}
    for band, values in zip(BANDS, stored, strict=True):
        attrs = {"units": band.units, "long_name": band.description, "grid_mapping": "spatial_ref"}
        if band.name == "mask":
            variables[band.name] = (("y", "x"), values.astype(np.uint8), attrs)
        else:
            physical = values.astype(np.float32) * np.float32(band.scale)
            physical[values == NODATA] = np.nan
            variables[band.name] = (("y", "x"), physical, attrs)
    return xr.Dataset(variables, coords=coords, attrs={k: v for k, v in tags.items() if k != "AREA_OR_POINT"})
