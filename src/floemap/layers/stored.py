"""The layers of a prepared product: ``layers/NAME`` in its folder, with ``layer.tif`` and ``layer.json``.

Each is the result of a stage. It belongs to one product.tif, which its record names by hash.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from floemap.bands import NODATA, BandSet, InputBand, band_of, check_name
from floemap.cog import open_raster, read_geobox
from floemap.errors import ConfigError, FloemapError, ProductError
from floemap.grid import check_same_grid, crs_of, same_crs
from floemap.layers.coarse import factor_between
from floemap.results.stage import as_written, damaged, is_newer, read_json, sha256
from floemap.sentinel1.bands import BANDS, raster_of
from floemap.sentinel1.encoding import PRODUCT_BANDS

LAYERS, RASTER, RECORD = "layers", "layer.tif", "layer.json"
#: Commands that make layers, as in their records.
DISTANCE_COMMAND, RASTER_COMMAND = "floemap layer distance-to-land", "floemap layer from-raster"
#: Name of the layer of distances to land, km.
DISTANCE = "distance_to_land_km"
#: Names that a layer may not have.
_TAKEN = tuple(b.name for b in BANDS)


@dataclass(frozen=True)
class Layer:
    """A finished layer.

    Attributes
    ----------
    band
        The band, with the steps in which it is stored.
    folder
        Folder of the layer.
    """

    band: InputBand
    folder: Path

    @property
    def raster(self) -> Path:
        """Path of the raster."""
        return self.folder / RASTER


def check_layer_name(name: str) -> None:
    """Refuse a name that a layer may not have: one of the product's bands, or one that is not a plain word.

    Raises
    ------
    ConfigError
        With the name.
    """
    check_name(name, _TAKEN)


def check_bands(names: Sequence[str]) -> None:
    """Refuse names of bands that a model cannot learn from.

    Raises
    ------
    ConfigError
        If a name is given twice or is not allowed, or none is a band of the product: these say where a scene has data.
    """
    own = PRODUCT_BANDS.names
    for name in names:
        if name not in own:
            check_layer_name(name)
        if names.count(name) > 1:
            raise ConfigError(f"the band {name} is named twice.", hint="Name each band once.")
    if not set(own) & set(names):
        raise ConfigError(
            f"the bands are {', '.join(names) or 'none'}, without a band of the product.",
            hint=f"Name at least one of {', '.join(own)}: they show where a scene has data.",
        )


def layer_folder(product: Path, name: str) -> Path:
    """Return the folder of a layer of a product, given the path of product.tif."""
    return product.parent / LAYERS / name


def how_to_make(product: Path, name: str, band: InputBand | None = None) -> str:
    """Return the hint for a layer that is missing or cannot be used: the command that makes it."""
    folder = shlex.quote(str(product.parent))
    if name == DISTANCE:
        return f"Make it with `{DISTANCE_COMMAND} {folder} --land FILE`."
    words = f"--name {name}"
    if band is not None:
        words += f" --unit {shlex.quote(band.unit)} --missing {band.missing}"
    return f"Make it with `{RASTER_COMMAND} {folder} FILE {words}`."


def find_layer(product: Path, name: str, *, band: InputBand | None = None, product_sha256: str | None = None) -> Layer:
    """Find a layer of a product, and check that it is whole and belongs to it.

    Parameters
    ----------
    product
        Path of product.tif.
    name
        Name of the layer.
    band
        The band that is wanted, for the hint of errors.
    product_sha256
        SHA-256 of product.tif, if the caller knows it.

    Raises
    ------
    ConfigError
        If a layer cannot have this name.
    ProductError
        If the layer is missing or damaged, or was made for another product.tif; with the command that makes it.
    GridError
        If its grid is not that of the product, nor one of whole cells of it.
    """
    check_layer_name(name)
    folder, hint = layer_folder(product, name), how_to_make(product, name, band)
    again = hint.replace("`.", " --overwrite`.").replace("Make it", "Make it again")
    if not (folder / RECORD).is_file():
        raise ProductError(f"lacks the layer {name}.", path=product.parent, hint=hint)
    try:
        record = read_json(folder / RECORD)
        if is_newer(record):
            raise ProductError("was made by a newer floemap.", path=folder, hint="Update floemap.")
        with as_written(folder / RECORD, str(record.get("made_by"))):
            stored, of = band_of(record["layer"], name), record["inputs"]["product"]["product.tif"]
    except FloemapError as e:
        raise ProductError(f"is not the record of a layer: {e.message}", path=folder / RECORD, hint=again) from e
    if lost := list(damaged(folder, record, [RASTER])):
        raise ProductError(f"is damaged: {lost[0]} is missing or too short.", path=folder, hint=again)
    if of != (product_sha256 or sha256(product)):
        raise ProductError(
            f"was made for another product.tif than {product}, or for an earlier version of it.",
            path=folder,
            hint=again,
        )
    grid, own = read_geobox(product), read_geobox(folder / RASTER)
    if not same_crs(crs_of(grid), crs_of(own)) or factor_between(
        tuple(grid.shape), grid.affine, tuple(own.shape), own.affine
    ) in (None, 1):
        check_same_grid(grid, own, f"{product} and {folder / RASTER}")
    with open_raster(folder / RASTER, ProductError, again) as d:
        held = (d.count, d.dtypes[0], d.nodata, float(d.scales[0]), float(d.offsets[0]))
    if held != (1, "int16", NODATA, float(stored.step), float(stored.offset)):
        raise ProductError(f"is not stored as {RECORD} says: {held}.", path=folder / RASTER, hint=again)
    return Layer(stored, folder)


def scene_bands(
    product: str | Path, names: Sequence[str], *, wanted: BandSet | None = None, product_sha256: str | None = None
) -> BandSet:
    """Return the bands of a prepared product that have these names, in the steps in which they are stored.

    Parameters
    ----------
    product
        A prepared folder or its product.tif.
    names
        Names of bands of the product and of layers.
    wanted
        The bands that are wanted, for the hints of errors.
    product_sha256
        SHA-256 of product.tif, if the caller knows it.

    Raises
    ------
    ConfigError, ProductError, GridError
        As :func:`check_bands` and :func:`find_layer` do.
    """
    check_bands(names)
    raster = raster_of(product)
    if product_sha256 is None and set(names) - set(PRODUCT_BANDS.names):
        product_sha256 = sha256(raster)
    bands = []
    for name in names:
        if name in PRODUCT_BANDS.names:
            bands.append(PRODUCT_BANDS[name])
        else:
            band = wanted[name] if wanted is not None else None
            bands.append(find_layer(raster, name, band=band, product_sha256=product_sha256).band)
    return BandSet(tuple(bands))


def hashes_of(product: Path, bands: BandSet) -> dict[str, str]:
    """Return the SHA-256 of the raster of each layer among the bands, by name, given the path of product.tif."""
    return {n: sha256(layer_folder(product, n) / RASTER) for n in bands.names if n not in PRODUCT_BANDS.names}
