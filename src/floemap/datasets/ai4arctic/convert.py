"""From a raw file to a ready-to-train file, by the steps by which the dataset's own were made.

Backscatter (in decibels), incidence angle and distances are means of 2 x 2 pixels of those that have a value; charts
are the maximum of 2 x 2 pixels, which moves borders towards the higher class and towards no class, 255. What has no
backscatter has no class. Then each variable becomes a standard score with one published mean and standard deviation,
and what has no value becomes 0. The variables on the grid of 2 km are scaled only.

How the dataset's makers treated an odd last line or sample is not published; here it is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
from numpy.typing import NDArray

from floemap.datasets.ai4arctic.codes import MOST_ID, PolygonClasses, Rule, polygon_classes
from floemap.datasets.ai4arctic.files import SIMULATED_ATTRIBUTE, Floats, SceneFile
from floemap.datasets.ai4arctic.form import (
    AMSR2,
    CHARTS,
    COARSE,
    ERA5,
    GLOBALS,
    LINES,
    NO_CLASS,
    NO_VALUE,
    SAMPLES,
    SCALING,
    TIE_POINTS,
    TIE_POINTS_RAW,
    TIE_POINTS_READY,
    VARIABLES,
    Kind,
    Variable,
)
from floemap.errors import ChartError

#: Sides of the chunks of written files.
_CHUNK = 256


class FormWriter:
    """Writes a file of the dataset's form.

    Parameters
    ----------
    path
        The file.
    kind
        "raw" or "ready".
    sizes
        Lengths of the dimensions, by name; those of tie points are added.
    filled
        Values of the attributes that differ between scenes: global ones by name, and a variable's under its name.
    only
        Names of the variables to write, all by default.
    """

    def __init__(
        self,
        path: Path,
        kind: Kind,
        sizes: Mapping[str, int],
        filled: Mapping[str, Any],
        *,
        only: tuple[str, ...] | None = None,
    ) -> None:
        self._file = h5netcdf.File(path, "w")
        tie = {TIE_POINTS_RAW: TIE_POINTS**2} if kind == "raw" else dict.fromkeys(TIE_POINTS_READY, TIE_POINTS)
        wanted = [v for v in VARIABLES[kind] if only is None or v.name in only]
        used = {d for v in wanted for d in v.dimensions}
        self._file.dimensions = {d: n for d, n in {**sizes, **tie}.items() if d in used}
        for name, value in GLOBALS[kind].items():
            self._file.attrs[name] = filled[name] if value is ... else value
        self._file.attrs[SIMULATED_ATTRIBUTE] = filled[SIMULATED_ATTRIBUTE]
        for variable in wanted:
            self._create(variable, filled.get(variable.name, {}))

    def _create(self, variable: Variable, filled: Mapping[str, Any]) -> None:
        shape = [self._file.dimensions[d].size for d in variable.dimensions]
        large = len(shape) == 2 and min(shape) > 4 * TIE_POINTS
        options = {"chunks": tuple(min(_CHUNK, n) for n in shape), "compression": "gzip", "compression_opts": 1}
        dtype = h5py.string_dtype() if variable.dtype == "str" else np.dtype(variable.dtype)
        made = self._file.create_variable(variable.name, variable.dimensions, dtype=dtype, **(options if large else {}))
        for name, value in variable.attributes.items():
            made.attrs[name] = filled[name] if value is ... else value

    def write(self, name: str, values: NDArray[Any], first: int = 0) -> None:
        """Write lines from `first` on of a variable."""
        variable = self._file.variables[name]
        variable[first : first + len(values)] = values

    def set_attributes(self, name: str, **attributes: Any) -> None:
        """Change attributes of a variable; their order stays."""
        kept = self._file.variables[name].attrs
        for key, value in (dict(kept) | attributes).items():  # each comes last when it is set again
            kept[key] = value

    def __enter__(self) -> FormWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def half_mean(values: Floats) -> Floats:
    """Return means of 2 x 2 pixels of those that are not NaN, from (2 n, 2 m) to (n, m); NaN where all four are."""
    blocks = values.reshape(len(values) // 2, 2, -1, 2)
    valid = np.isfinite(blocks)
    count = valid.sum(axis=(1, 3))
    total = np.where(valid, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
    mean: Floats = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0).astype(np.float32)
    return mean


def half_max(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the maximum of 2 x 2 pixels, from (2 n, 2 m) to (n, m)."""
    found: NDArray[np.uint8] = classes.reshape(len(classes) // 2, 2, -1, 2).max(axis=(1, 3))
    return found


def scaled(name: str, values: NDArray[Any]) -> Floats:
    """Return standard scores of a variable, float32, 0 where it has no value."""
    scaling = SCALING[name]
    scores = (np.asarray(values, np.float64) - scaling.mean) / scaling.std
    return np.where(np.isfinite(scores), scores, NO_VALUE).astype(np.float32)


def places_of_ids(ids: NDArray[np.int32], table: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the row in a table of ids for each pixel's id, -1 outside of polygons, same shape.

    Raises
    ------
    ChartError
        If a pixel has an id that is not in the table.
    """
    highest = int(ids.max(initial=-1))
    known = np.full(max(min(highest, MOST_ID), int(table.max(initial=0))) + 2, -2, np.int32)
    known[table] = np.arange(len(table))
    known[-1] = -1  # of the id -1
    found = known[np.minimum(ids, len(known) - 2)]
    if highest > MOST_ID or (found < -1).any():
        odd = highest if highest > MOST_ID else int(ids[found < -1][0])
        raise ChartError(f"polygon {odd} has pixels but no row in polygon_codes.", hint="Download the file again.")
    return found


def _raw_charts(
    raw: SceneFile, first: int, stop: int, table: NDArray[np.int32], classes: PolygonClasses
) -> dict[str, NDArray[np.uint8]]:
    """Return the charts of lines [first, stop) of a raw file at 40 m, by name."""
    places = places_of_ids(raw.polygon_ids(first, stop), table)
    return {name: np.append(classes.of(name), np.uint8(NO_CLASS))[places] for name in CHARTS}


def ready_strips(raw: SceneFile, rule: Rule = "starter") -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """Give the variables of a ready-to-train file on the SAR grid, strip by strip, from a raw file.

    Yields
    ------
    The first line of the strip at 80 m, and (lines, samples) arrays by name: standard scores, and the charts if the raw
    file has polygons.
    """
    codes = raw.polygon_codes() if raw.has_polygons else None
    classes = None if codes is None else polygon_classes(codes, rule)
    cols = raw.shape[1] // 2 * 2
    for first, end in raw.strips(2):
        stop = first + (end - first) // 2 * 2
        if stop == first:
            continue
        bands = {
            n: half_mean(raw.values(n, first, stop)[:, :cols]) for n in ("nersc_sar_primary", "nersc_sar_secondary")
        }
        bands["sar_incidenceangle"] = half_mean(raw.incidence_deg(first, stop)[:, :cols])
        bands["distance_map"] = half_mean(raw.values("distance_map", first, stop)[:, :cols])
        gap = ~np.isfinite(bands["nersc_sar_primary"])
        made: dict[str, NDArray[Any]] = {name: scaled(name, values) for name, values in bands.items()}
        if codes is not None and classes is not None:
            for name, chart in _raw_charts(raw, first, stop, codes.ids, classes).items():
                made[name] = half_max(chart[:, :cols])
                made[name][gap] = NO_CLASS
        yield first // 2, made


def ready_sizes(raw: SceneFile) -> dict[str, int]:
    """Return the lengths of the dimensions of the ready-to-train file of a raw file."""
    coarse = raw.stored(AMSR2[0]).shape
    return {LINES: raw.shape[0] // 2, SAMPLES: raw.shape[1] // 2, **dict(zip(COARSE, coarse, strict=True))}


def write_ready(
    raw: SceneFile, path: Path, filled: Mapping[str, Any], rule: Rule = "starter", *, reference: Path | None = None
) -> None:
    """Write the ready-to-train file of a raw file.

    Parameters
    ----------
    raw
        The raw file.
    path
        The file to write.
    filled
        Attributes, as :class:`FormWriter` takes them.
    rule
        How polygons become classes.
    reference
        For a test scene: the file that gets the charts, which are then left out of the other one.
    """
    sizes = ready_sizes(raw)
    names = tuple(v.name for v in VARIABLES["ready"] if reference is None or v.name not in CHARTS)
    with FormWriter(path, "ready", sizes, filled, only=names) as file:
        answers = None if reference is None else FormWriter(reference, "ready", sizes, filled, only=tuple(CHARTS))
        for first, strip in ready_strips(raw, rule):
            for name, values in strip.items():
                target = answers if answers is not None and name in CHARTS else file
                target.write(name, values, first)
        if answers is not None:
            answers.__exit__()
        tie = raw.tie_points()
        file.write("sar_grid2d_latitude", tie.latitude_deg)
        file.write("sar_grid2d_longitude", tie.longitude_deg)
        for name in (*AMSR2, *ERA5):
            file.write(name, scaled(name, raw.values(name)))
