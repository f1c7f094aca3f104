"""Writes a layer of a prepared product: the part that all commands that make layers share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.bands import NODATA, InputBand
from floemap.cog import Band, open_raster, read_geobox, write_cog
from floemap.errors import FloemapError, ProductError
from floemap.grid import describe_grid
from floemap.layers.coarse import coarse_grid
from floemap.layers.stored import RASTER, RECORD, check_layer_name, layer_folder
from floemap.results.folders import made_of, refuse_replacing, stage_folder
from floemap.results.names import place_in
from floemap.results.stage import Stage, is_finished, provenance, sha256, write_json
from floemap.sentinel1.bands import raster_of
from floemap.sentinel1.encoding import MASK_VALID

logger = logging.getLogger(__name__)

#: Tags of a product that its layers inherit.
_INHERITED = ("product", "start", "simulated")


@dataclass(frozen=True)
class MadeLayer:
    """The folder of a layer; `skipped` if it was finished before."""

    folder: Path
    skipped: bool = False

    @property
    def raster(self) -> Path:
        """Path of layer.tif, the values on the product's grid."""
        return self.folder / RASTER

    @property
    def record(self) -> Path:
        """Path of layer.json, the record of how the layer was made."""
        return self.folder / RECORD


@dataclass(frozen=True)
class Values:
    """What a command computes for a layer.

    Attributes
    ----------
    band
        The band.
    array
        (rows, cols) float32 on the layer's grid, in the band's unit; NaN where there is no value.
    description
        Description of the band in the file.
    facts
        What the record says of how they were made.
    """

    band: InputBand
    array: NDArray[np.float32]
    description: str
    facts: Mapping[str, Any]


class KnownProduct:
    """What layers need to know of a prepared product; each is read once, when it is first asked for.

    Parameters
    ----------
    raster
        Path of product.tif.
    """

    def __init__(self, raster: Path) -> None:
        self._raster = raster

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of product.tif."""
        return sha256(self._raster)

    @cached_property
    def tags(self) -> dict[str, str]:
        """The tags that layers inherit."""
        with open_raster(self._raster) as d:
            return {k: v for k, v in d.tags().items() if k in _INHERITED}

    @cached_property
    def _valid(self) -> NDArray[np.bool_]:
        with open_raster(self._raster) as d:
            return np.asarray(d.read(d.count) & MASK_VALID, np.bool_)

    def inside(self, factor: int = 1) -> NDArray[np.bool_]:
        """Return whether cells of `factor` x `factor` pixels have any with data, (rows, cols)."""
        if factor == 1:
            return self._valid
        found = self._valid
        for axis, n in enumerate(found.shape):
            found = np.asarray(np.logical_or.reduceat(found, np.arange(0, n, factor), axis=axis), np.bool_)
        return found


def make_layer(
    product: str | Path,
    name: str,
    stage: Stage,
    sources: Mapping[str, Mapping[str, str]],
    configuration: Mapping[str, Any],
    compute: Callable[[GeoBox], Values],
    *,
    factor: int = 1,
    known: KnownProduct | None = None,
    out: str | Path | None = None,
    overwrite: bool,
) -> MadeLayer:
    """Make a layer of a prepared product, unless it is finished.

    Parameters
    ----------
    product
        A prepared folder or its product.tif.
    name, stage, configuration
        Name of the layer, the stage that makes it, and its settings.
    sources
        SHA-256 of the files that it is made from, by name, by role.
    compute
        Function that returns the values on the grid of the layer.
    factor
        Pixels of the product along a side of the layer's cells; see :mod:`floemap.layers.coarse`.
    known
        What is known of the product, if several layers are made of it.
    out
        Folder that gets the layer, in a folder for each product, instead of the folder of the product. Models read
        layers from the folders of products only.
    overwrite
        Make it again even where a layer with the same inputs and settings is finished. A layer of this name that was
        made from other inputs or settings is replaced in any case.

    Raises
    ------
    ConfigError
        If a layer cannot have this name.
    ProductError
        If the product is not a prepared one, or no pixel of the scene gets a value.
    FloemapError
        If values do not fit into the steps.
    OutputError
        If the layer cannot be written.
    """
    check_layer_name(name)
    raster = raster_of(product)
    geobox = read_geobox(raster)
    if raster.name != "product.tif" or not (raster.parent / "product.json").is_file():
        raise ProductError(
            "is not in the folder of a prepared product, where its layers are kept.",
            path=raster,
            hint="Give a folder that `floemap prepare` made.",
        )
    folder = layer_folder(raster, name)
    if out is not None:
        owner = raster.absolute().parent.name
        folder = place_in(Path(out), owner, "the product", path=raster, kind=ProductError) / name
    known = known or KnownProduct(raster)
    inputs = {"product": {"product.tif": known.sha256}} | {role: dict(files) for role, files in sources.items()}
    if not overwrite and is_finished(folder, stage, [RASTER], inputs=inputs, configuration=configuration):
        logger.info("%s is finished already", folder)
        return MadeLayer(folder, skipped=True)
    refuse_replacing(folder, stage)  # before the work
    geobox = coarse_grid(geobox, factor) if factor > 1 else geobox
    values = compute(geobox)
    try:
        stored = values.band.encode(values.array)
    except FloemapError as e:
        e.path = e.path or raster.parent
        raise
    tags, inside = known.tags, known.inside(factor)
    pixels = {"scene": int(inside.sum()), "with_value": int((inside & (stored != NODATA)).sum())}
    if not pixels["with_value"]:
        raise ProductError(f"gets no value of the layer {name} on any pixel of the scene.", path=raster.parent)
    share = 1 - pixels["with_value"] / pixels["scene"]
    if share > 0:
        meaning = "count as without data" if values.band.missing == "scene" else "are gaps"
        logger.warning("%s: %.1f %% of the scene's pixels have no value, and %s", folder, 100 * share, meaning)
    band = Band(name, values.band.unit, values.description, values.band.step, values.band.offset)
    here = stored[inside & (stored != NODATA)]
    smallest, largest = (round(int(n) * band.scale + band.offset, 6) for n in (here.min(), here.max()))
    with stage_folder(folder, stage) as partial:
        write_cog(partial / RASTER, geobox, stored, [band], nodata=NODATA, tags=tags | {"AREA_OR_POINT": "Area"})
        record = provenance(stage, inputs=inputs, configuration=configuration)
        record |= {
            "simulated": tags.get("simulated") == "yes",
            "layer": asdict(values.band),
            "product": tags.get("product", raster.parent.name),
            "grid": describe_grid(geobox),
            "pixels": pixels,
            **({"cell_px": factor} if factor > 1 else {}),
            "smallest": smallest,
            "largest": largest,
            **values.facts,
        }
        write_json(partial / RECORD, record | {"bytes": made_of(partial)})
    return MadeLayer(folder)
