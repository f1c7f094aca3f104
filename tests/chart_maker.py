"""Small ice charts for tests, written in any format that charts come in."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

#: Codes as strings, the way the Canadian Ice Service writes them.
COLUMNS = ("CT", "CA", "SA", "FA", "CB", "SB", "FB", "CC", "SC", "FC", "CN", "CD", "POLY_TYPE")
POLAR = "EPSG:3413"
#: A quarter of a million square kilometres off East Greenland.
LEFT, BOTTOM, SIDE_M = 500_000.0, -1_500_000.0, 64_000.0


def ice(ct: Any = "92", **codes: Any) -> dict[str, Any]:
    """One row of ice; what is not said is "-9"."""
    return dict.fromkeys(COLUMNS, "-9") | {"CT": ct, "POLY_TYPE": "I"} | codes


def other(letter: str) -> dict[str, Any]:
    """One row of land, water, no data or ice shelf, without codes."""
    return dict.fromkeys(COLUMNS) | {"POLY_TYPE": letter}


#: Old, first-year with water, several types with the third largest, land.
FOUR: tuple[dict[str, Any], ...] = (
    ice(SA="95"),
    ice("50", SA="86"),
    ice("90", CA="20", SA="95", CB="30", SB="86", CC="40", SC="81"),
    other("L"),
)


def squares(n: int, side_m: float = SIDE_M, left: float = LEFT, bottom: float = BOTTOM) -> list[Any]:
    """`n` squares in a row from west to east, side by side."""
    return [shapely.box(left + i * side_m, bottom, left + (i + 1) * side_m, bottom + side_m) for i in range(n)]


def grid(
    rows: int = 64, cols: int = 256, pixel_m: float = 1000.0, left: float = LEFT, top: float = BOTTOM + SIDE_M
) -> GeoBox:
    """The grid of :func:`squares`: four of them in 64 x 256 px."""
    return GeoBox((rows, cols), Affine(pixel_m, 0, left, 0, -pixel_m, top), POLAR)


def write_chart(
    path: Path,
    rows: Sequence[Mapping[str, Any]] = FOUR,
    geometries: Sequence[Any] | None = None,
    *,
    crs: str | None = POLAR,
    **options: Any,
) -> Path:
    """Write a chart: shapefile, GeoPackage, GeoJSON by the suffix; ``.zip`` is a shapefile in a folder in a zip."""
    geometries = squares(len(rows)) if geometries is None else geometries
    columns = {name: [row.get(name) for row in rows] for row in rows[:1] for name in row}
    frame = gpd.GeoDataFrame(columns, geometry=list(geometries), crs=crs)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a missing CRS and of long column names: meant here
        if path.suffix == ".zip":
            inside = path.parent / f"{path.stem}_unzipped" / f"{path.stem}.shp"
            write_chart(inside, rows, geometries, crs=crs, **options)
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
                for part in sorted(inside.parent.iterdir()):
                    z.write(part, f"folder/{part.name}")
        else:
            frame.to_file(path, **options)
    return path
