"""The distance to land of every pixel of a prepared product, as a layer."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyproj
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.bands import InputBand
from floemap.errors import GridError
from floemap.grid import map_crs_of
from floemap.icechart.land import describe_land, land_on
from floemap.layers.make import MadeLayer, Values, make_layer
from floemap.layers.settings import DistanceSettings
from floemap.layers.stored import DISTANCE, DISTANCE_COMMAND, RASTER, RECORD
from floemap.outcomes import Outcome, each_product
from floemap.progress import Progress, silent
from floemap.results.stage import Stage

logger = logging.getLogger(__name__)

#: Raise the revision if distances change.
STAGE = Stage(DISTANCE_COMMAND, RECORD, revision=0, files=(RASTER,))
#: Distances are stored in steps of 10 m.
_STEP_KM = 0.01
#: Pixels between the nodes at which the scale of the projection is computed.
_NODES_PX = 64


def layer_distance_to_land(
    product: str | Path,
    land: str | Path,
    settings: DistanceSettings | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> MadeLayer:
    """Make the layer ``distance_to_land_km`` of a prepared product; see :func:`distance_km`.

    Parameters
    ----------
    product
        A prepared folder or its product.tif.
    land
        Land polygons, or an ice chart, whose land polygons are used; see :func:`floemap.icechart.land.land_on`.
    settings
        See :class:`floemap.layers.settings.DistanceSettings`.
    out
        Folder that gets the layer, in a folder for each product, instead of the folder of the product. Models read
        layers from the folders of products only.
    overwrite
        Make it again even where a layer with the same inputs and settings is finished.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ProductError
        If the product is not a prepared one.
    ChartError
        If the land cannot be read.
    OutputError
        If the layer cannot be written.
    """
    return _make(product, land, describe_land(land), settings, out=out, overwrite=overwrite, progress=progress)


def _make(
    product: str | Path,
    land: str | Path,
    told: Mapping[str, Any],
    settings: DistanceSettings | None,
    *,
    out: str | Path | None,
    overwrite: bool,
    progress: Progress,
) -> MadeLayer:
    """Make the layer of a product; `told` describes the land, see :func:`floemap.icechart.land.describe_land`."""
    settings = settings or DistanceSettings()

    def compute(geobox: GeoBox) -> Values:
        progress(0, 2, "distances")
        array = distance_km(land, geobox, settings.cap_km)
        if array.min() >= settings.cap_km:
            logger.warning("%s has no land within %g km of %s. Is it the right file?", land, settings.cap_km, product)
        progress(1, 2, "writing")
        words = f"Distance to the nearest land on the ground, at most {settings.cap_km:g} km; 0 on land"
        return Values(InputBand(DISTANCE, "km", _STEP_KM), array, words, {"land": told})

    made = make_layer(
        product,
        DISTANCE,
        STAGE,
        {"land": told["land_mask_sha256"]},
        settings.model_dump(mode="json"),
        compute,
        out=out,
        overwrite=overwrite,
    )
    progress(2, 2, "done")
    return made


def layer_distance_to_land_all(
    products: Sequence[str | Path],
    land: str | Path,
    settings: DistanceSettings | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress_of: Callable[[Path], Progress] | None = None,
    finished: Callable[[Outcome[MadeLayer]], None] | None = None,
) -> list[Outcome[MadeLayer]]:
    """Make the layer of each product; see :func:`layer_distance_to_land`.

    Parameters
    ----------
    progress_of
        Function that returns the progress callback of a product.
    finished
        Callback, called with each outcome as soon as it is known.

    Returns
    -------
    One outcome for each product, in order, with its result or its error.

    Raises
    ------
    ChartError
        If the land cannot be read.
    """
    told = describe_land(land)  # reads the file whole, for its hash: once for all products

    def work(product: Path, made: object, progress: Progress) -> MadeLayer:
        return _make(product, land, told, settings, out=out, overwrite=overwrite, progress=progress)

    return each_product(products, work, progress_of=progress_of, finished=finished)


def distance_km(land: str | Path, geobox: GeoBox, cap_km: float) -> NDArray[np.float32]:
    """Return the distance of each pixel's centre to that of the nearest pixel of land, (rows, cols), km.

    Distances are Euclidean on the map, divided by the scale of the projection at the pixel. In polar stereographic
    projection the scale changes by 0.3 % in 100 km at a latitude of 70 degrees, so that a distance of 100 km is right
    within some 0.15 km, and short ones within a pixel. Land beyond the edge of the grid counts, as far as `cap_km`.

    Parameters
    ----------
    land
        See :func:`floemap.icechart.land.land_on`.
    geobox
        The grid, in a map projection in metres.
    cap_km
        Larger distances get this value.

    Raises
    ------
    GridError
        If the pixels are not squares.
    ChartError
        As :func:`floemap.icechart.land.land_on` does.
    """
    if not math.isclose(abs(geobox.resolution.x), abs(geobox.resolution.y), rel_tol=1e-6):
        raise GridError("the pixels of the grid are not squares.", hint="Prepare the product on another grid.")
    scale = _scale(geobox)
    pixel_km = float(abs(geobox.resolution.x)) / 1000
    margin = math.ceil(cap_km * float(scale.max()) / pixel_km) + 1
    there = land_on(land, geobox.pad(margin))
    if not there.any():
        return np.full(tuple(geobox.shape), cap_km, np.float32)
    # DIST_MASK_PRECISE is exact: P. Felzenszwalb, D. Huttenlocher, "Distance transforms of sampled functions", 2012.
    distance = cv2.distanceTransform((~there).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inner = distance[margin:-margin, margin:-margin]
    return np.asarray(np.minimum(inner * np.float32(pixel_km) / scale, np.float32(cap_km)), np.float32)


def _scale(geobox: GeoBox) -> NDArray[np.float32]:
    """Return the scale of the projection at each pixel: metres on the map for a metre on the ground.

    It is the root of the areal scale, which in conformal projections is the scale in every direction.
    """
    rows, cols = geobox.shape
    crs = map_crs_of(geobox).proj
    y, x = (np.linspace(0.5, n - 0.5, max(2, n // _NODES_PX + 2)) for n in (rows, cols))
    at_x, at_y = geobox.transform * tuple(np.meshgrid(x, y))
    lon, lat = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(at_x, at_y)
    nodes = np.sqrt(pyproj.Proj(crs).get_factors(lon, lat).areal_scale)
    along = np.stack([np.interp(np.arange(cols) + 0.5, x, row) for row in nodes])  # (nodes, cols)
    share = np.interp(np.arange(rows) + 0.5, y, np.arange(len(y)))
    above = np.minimum(share.astype(int), len(y) - 2)
    weight = (share - above).astype(np.float32)[:, None]
    along = along.astype(np.float32)
    return np.asarray(along[above] * (1 - weight) + along[above + 1] * weight, np.float32)
