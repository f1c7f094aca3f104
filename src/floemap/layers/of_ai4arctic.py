"""The fields beside the radar image in AI4Arctic's files as layers: AMSR2, ERA5, distance to land, month and place.

AMSR2 and ERA5 are on cells of 2 km in the files, and so are they in the layers, on the map (see
:mod:`floemap.layers.coarse`); latitude, longitude and month are stored in such cells, too. The distance to land has the
product's pixels: it is the file's zones in km, the middle of each zone, 0 on land and 300 km beyond. It so can be
compared with the layer of :mod:`floemap.layers.distance_to_land`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.bands import InputBand
from floemap.cog import read_geobox
from floemap.datasets.ai4arctic.files import SceneFile, open_scene_file
from floemap.datasets.ai4arctic.form import AMSR2, COARSE_M, ERA5, READY, ZONES_KM
from floemap.datasets.ai4arctic.on_map import CoarseGrid, nearest
from floemap.errors import ConfigError, ProductError, known_names
from floemap.layers.make import KnownProduct, MadeLayer, Values, make_layer
from floemap.layers.stored import DISTANCE, RASTER, RECORD
from floemap.progress import Progress, silent
from floemap.results.stage import Stage, read_json, sha256
from floemap.sentinel1.bands import raster_of
from floemap.sentinel1.places import lonlat_deg

#: Raise the revision if values change.
STAGE = Stage("floemap layer from-ai4arctic", RECORD, revision=0, files=(RASTER,))
MONTH, LATITUDE, LONGITUDE = "month", "latitude_deg", "longitude_deg"
#: Distances of the file's zones, km: 0 on land, then the middle of each zone; 300 in the last, which has no end.
_ZONE_KM = np.array([0.0, *((low + high) / 2 for low, high in ZONES_KM[:-1]), ZONES_KM[-1][0]])


def _bands() -> Mapping[str, InputBand]:
    units = {v.name: str(v.attributes.get("units", "K")) for v in READY}
    steps = {"tclw": 1e-4}
    found = [InputBand(n, units[n], steps.get(n, 0.01), missing="mean") for n in (*AMSR2, *ERA5)]
    found.append(InputBand(DISTANCE, "km", 0.01, missing="mean"))
    found += [InputBand(MONTH, "1", 1.0), InputBand(LATITUDE, "degree", 0.01), InputBand(LONGITUDE, "degree", 0.01)]
    return MappingProxyType({b.name: b for b in found})


#: The bands by name: 14 of AMSR2, 6 of ERA5, distance to land, month, latitude and longitude.
BANDS = _bands()


def layers_of_ai4arctic(
    product: str | Path,
    file: str | Path,
    names: Sequence[str] = tuple(BANDS),
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> list[MadeLayer]:
    """Make layers of a prepared product from the AI4Arctic file of its scene. Finished ones are kept.

    Parameters
    ----------
    product
        The prepared folder, from the same scene.
    file
        A ready-to-train or a raw file.
    names
        Names in :data:`BANDS`; all by default.
    out
        Folder for the layers; by default ``layers`` in that of the product, from which models read.
    overwrite
        Make them again even where they are finished from the same files.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ConfigError
        If a name is not that of a band.
    ProductError
        If a file cannot be read, they are not of one scene, or a field has no value on the scene.
    GridError
        If the tie points do not lie as those of an image.
    OutputError
        If a layer cannot be written.
    """
    if other := [n for n in names if n not in BANDS]:
        raise ConfigError(f"{other[0]} is not a band of AI4Arctic's files.", hint=known_names(other[0], BANDS))
    raster, made = raster_of(product), []
    sources = {"file": {Path(file).name: sha256(Path(file))}}
    with ExitStack() as stack:
        opened = stack.enter_context(open_scene_file(file))
        known, fields = KnownProduct(raster), _Fields(opened, raster)
        for i, name in enumerate(names):
            progress(i, len(names), name)
            factor = 1 if name == DISTANCE else fields.factor
            made.append(
                make_layer(
                    product,
                    name,
                    STAGE,
                    sources,
                    {},
                    fields.of(name),
                    factor=factor,
                    known=known,
                    out=out,
                    overwrite=overwrite,
                )
            )
    progress(len(names), len(names), "done")
    return made


class _Fields:
    """The fields of a file on the grid of its prepared product.

    Raises
    ------
    ProductError
        If file and product are not of one scene.
    """

    def __init__(self, file: SceneFile, raster: Path) -> None:
        self._file, self._raster, self._geobox = file, raster, read_geobox(raster)
        about = read_json(raster.with_name("product.json")).get("scene")
        name = about.get("name") if isinstance(about, Mapping) else None
        if name != file.scene.product:
            raise ProductError(
                f"is a file of {file.scene.product}, and {raster.parent} was made of {name}.",
                path=file.path,
                hint="Give the file of the same scene.",
            )

    @property
    def factor(self) -> int:
        """Pixels of the product along a side of a cell of 2 km."""
        return max(1, round(COARSE_M / abs(self._geobox.resolution.x)))

    def of(self, name: str) -> Callable[[GeoBox], Values]:
        """Return the function that computes a band on the grid of its layer."""

        def compute(geobox: GeoBox) -> Values:
            field = {DISTANCE: self._distance, MONTH: self._month, LATITUDE: self._place, LONGITUDE: self._place}
            values = field.get(name, self._coarse)(name, geobox)
            words = {
                DISTANCE: "Distance to the nearest land by zones, the middle of each; 0 on land, 300 beyond",
                MONTH: "Month of the acquisition",
                LATITUDE: "Latitude",
                LONGITUDE: "Longitude",
            }
            facts = {"dataset": "AI4Arctic", "variable": "distance_map" if name == DISTANCE else name}
            return Values(BANDS[name], values, words.get(name, f"{name} of AI4Arctic's file"), facts)

        return compute

    @cached_property
    def _cells(self) -> dict[tuple[int, int], CoarseGrid]:
        return {}

    def _coarse(self, name: str, geobox: GeoBox) -> NDArray[np.float32]:
        shape = (int(geobox.shape[0]), int(geobox.shape[1]))
        if shape not in self._cells:  # positions are the same for all fields
            self._cells[shape] = CoarseGrid(self._file, geobox)
        return self._cells[shape].interpolated(self._file.values(name))

    def _distance(self, name: str, geobox: GeoBox) -> NDArray[np.float32]:
        stored = np.full(self._file.shape, -1, np.int16)
        for first, stop in self._file.strips():
            zones = self._file.values("distance_map", first, stop)
            known = np.isfinite(zones)
            km = np.interp(np.where(known, zones, 0), np.arange(len(_ZONE_KM)), _ZONE_KM)
            stored[first:stop] = np.where(known, np.rint(km / BANDS[name].step), -1)
        drawn = nearest(self._file, geobox, stored, -1)
        return np.where(drawn < 0, np.nan, drawn * BANDS[name].step).astype(np.float32)

    def _month(self, name: str, geobox: GeoBox) -> NDArray[np.float32]:
        return np.full(tuple(geobox.shape), self._file.start.month, np.float32)

    def _place(self, name: str, geobox: GeoBox) -> NDArray[np.float32]:
        rows, cols = geobox.shape
        x, y = geobox.affine * tuple(np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5))
        col, row = ~self._geobox.affine * (x, y)
        lon, lat = lonlat_deg(self._raster, self._geobox, row - 0.5, col - 0.5)
        return np.asarray(lat if name == LATITUDE else lon, np.float32)
