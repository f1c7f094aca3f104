"""Whether the rasters in folders that floemap made are still those that the record beside them describes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from odc.geo import CRSError
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from floemap.cog import geobox_of, open_raster
from floemap.errors import FloemapError
from floemap.grid import brief, crs_in_words, crs_of, same_crs
from floemap.results.fields import at
from floemap.results.stage import damaged

#: Transforms whose numbers differ by less than this share are the same.
_SAME = 1e-9


def raster_problems(
    record: Path, told: Mapping[str, Any], bands: Mapping[str, Sequence[str]] | None = None
) -> Iterator[str]:
    """Give a sentence for each raster beside a record that is missing or shorter, or has another grid or other bands.

    Parameters
    ----------
    record, told
        Path and content of the record. The rasters are those that it lists.
    bands
        Names of the bands of some rasters, by file name. These are checked even if the record does not list them.
    """
    wanted = dict(bands or {})
    listed = [name for name in at(told, "bytes", {}) if str(name).lower().endswith((".tif", ".tiff"))]
    for name in dict.fromkeys([*listed, *wanted]):
        try:
            _check(record.with_name(name), record, told, wanted.get(name))
        except FloemapError as e:
            yield str(e)


def _check(path: Path, record: Path, told: Mapping[str, Any], bands: Sequence[str] | None) -> None:
    """Raise FloemapError if a raster is not as its record says."""
    hint = f"It was changed after {record.name} was written: make both again."
    if not path.is_file():
        raise FloemapError(f"is missing, although {record.name} describes it.", path=path, hint="Make both again.")
    if any(damaged(record.parent, told, [path.name])):
        raise FloemapError(f"is shorter than {record.name} says.", path=path, hint=hint)
    with open_raster(path) as d:
        geobox, found = geobox_of(d, path), [str(name or "without a name") for name in d.descriptions]
    shape, transform = at(told, "grid.shape", []), at(told, "grid.transform", [])
    crs = at(told, "grid.crs", "")
    if shape and transform and not _is_grid(geobox, shape, transform, crs):
        words = f"{' x '.join(map(str, shape))} px, {', '.join(map(str, transform))} in {crs_in_words(crs)}"
        raise FloemapError(f"is on the grid {brief(geobox)}, but {record.name} says {words}.", path=path, hint=hint)
    if bands is not None and found != list(bands):
        raise FloemapError(f"has the bands {', '.join(found)}, not {', '.join(bands)}.", path=path, hint=hint)


def _is_grid(geobox: GeoBox, shape: Sequence[Any], transform: Sequence[Any], crs: str) -> bool:
    """Return whether a grid is that of a record."""
    try:
        near = all(math.isclose(a, b, rel_tol=_SAME) for a, b in zip(geobox.transform[:6], transform, strict=True))
        return list(geobox.shape) == list(shape) and near and same_crs(crs_of(geobox), CRS(crs))
    except (ValueError, TypeError, CRSError):
        return False
