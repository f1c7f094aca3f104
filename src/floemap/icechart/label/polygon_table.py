"""The table of a chart's polygons, ``polygons.csv``, and what is looked up in it by the ids of ``polygons.tif``.

``polygons.tif`` gives each pixel an id: 0 where no polygon of the chart lies or the product has no data, else the
number of a row of the table. What a chart says of pixels is a look-up by id, such as ``table.shares[ids]`` or
``table.dominant[ids]``. All arrays have P + 1 rows. Row 0 stands for pixels without a polygon: no class has a share,
and all is unknown.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.errors import FloemapError
from floemap.files import regular_file
from floemap.icechart.read.codes import NOT_GIVEN
from floemap.icechart.read.columns import CODE_COLUMNS
from floemap.legend import IGNORE
from floemap.results.stage import as_written, read_json

#: First row, first column, number of rows and of columns.
Window = tuple[int, int, int, int]
#: Names of the files in a label folder.
RASTER, TABLE = "polygons.tif", "polygons.csv"
#: Largest id that the raster's type, uint16, can hold.
MAX_POLYGONS = 65_535
#: Highest class of floe size.
_MOST_FLOE = 6
#: Stored in percentages where the polygon holds no sea.
NO_PERCENT = 255

_CODES = tuple(c.upper() for c in CODE_COLUMNS)
_KINDS = {"C": "Partial concentration", "S": "Stage of development", "F": "Form"}
_MEANINGS = {f"{kind}{t}": f"{what} of type {t}" for kind, what in _KINDS.items() for t in "ABC"} | {
    "CT": "Total concentration",
    "CN": "Stage of development of a trace of thicker ice",
    "CD": "Stage of development of what remains besides the three types",
}
#: Columns of ``polygons.csv`` with their meaning, before and after the share of each class.
FIELDS_BEFORE: Mapping[str, str] = MappingProxyType(
    {
        "id": "Value of the polygon's pixels in `polygons.tif`, from 1",
        "feature": "Id of the polygon's feature in the chart's file",
        "POLY_TYPE": "Type of polygon as the chart gives it: I ice, W water, L land, N no data, S ice shelf, or empty",
        **{c: f"{_MEANINGS[c]}: SIGRID-3 code of two digits; empty where the chart gives none" for c in _CODES},
        "rule": "How the dominant type was decided, as counted under `decisions` in `label.json`",
        "class": "Class id of the dominant ice type, as in `labels.tif`; empty where the polygon has no label",
        "purity": "Share of the polygon's area that the class of the dominant type has; empty without a class",
    }
)
FIELDS_AFTER: Mapping[str, str] = MappingProxyType(
    {
        "unknown_share": "Share of the polygon's area that is unknown or has no class; all shares sum to 1",
        "candidates": "Keys of the classes that the polygon may hold, separated by spaces: those of all named types,"
        " with and without concentration, and of open water where the total concentration leaves some",
        "concentration": "Total concentration of ice, 0 to 1; empty where it is not known",
        "pixels": "Number of the polygon's pixels in `polygons.tif`",
        "area_km2": "Area of these pixels on the map, square kilometres",
    }
)
#: The last column, which tables have whose chart gives classes of floe size, as AI4Arctic's do.
FLOE_FIELD: Mapping[str, str] = MappingProxyType(
    {"floe_size": "Only for charts of AI4Arctic: class of the dominant floe size, 0 for water to 6; empty without one"}
)
#: The column of each class between them.
CLASS_FIELD = (
    "Share of the polygon's area that the class of this key has, 0 to 1; one column for each class of the legend"
)

#: Rules of polygons that hold no sea.
_NO_SEA = ("land", "ice_shelf", "no_data")
_TOLERANCE = 1e-6
_AGAIN = "Make it again with `floemap label --overwrite`."


@dataclass(frozen=True)
class PolygonTable:
    """What a chart says of each polygon that has pixels on a grid. Row 0 stands for pixels without a polygon.

    Attributes
    ----------
    classes
        Keys of the legend's K classes, in the order of their ids.
    features
        Id of the polygon's feature in the chart's file, (P + 1,) int64; -1 in row 0.
    poly_types
        POLY_TYPE as given, P + 1 texts.
    codes
        SIGRID-3 codes by their names in upper case, each (P + 1,) int16, -9 where the chart gives none.
    rules
        How the dominant type was decided, P + 1 values of :class:`floemap.icechart.dominant_type.Rule`; "" in row 0.
    fractions
        Share of the polygon's area that each class has, the last column unknown, (P + 1, K + 1) float64. Rows sum to 1.
        Polygons of land, ice shelf, bergy water and no data are all unknown, as is row 0.
    dominant
        Class of the dominant ice type, (P + 1,) uint8; 255 where the polygon has no label.
    candidates
        Classes that the polygon may hold by its codes, (P + 1, K) bool.
    concentration
        Total concentration of ice, 0 to 1, (P + 1,) float32; not-a-number where it is not known.
    pixels
        Number of pixels with data, (P + 1,) int64; 0 in row 0.
    area_km2
        Area of these pixels on the map, (P + 1,) float64.
    floe
        Class of the dominant floe size, (P + 1,) uint8, an index of
        :data:`floemap.icechart.label.polygon_values.FLOE_SIZES`; 255 where it is not known. None if the chart gives no
        classes of floe size.
    """

    classes: tuple[str, ...]
    features: NDArray[np.int64]
    poly_types: tuple[str, ...]
    codes: Mapping[str, NDArray[np.int16]]
    rules: tuple[str, ...]
    fractions: NDArray[np.float64]
    dominant: NDArray[np.uint8]
    candidates: NDArray[np.bool_]
    concentration: NDArray[np.float32]
    pixels: NDArray[np.int64]
    area_km2: NDArray[np.float64]
    floe: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        """Return the number of polygons, P."""
        return len(self.rules) - 1

    @cached_property
    def shares(self) -> NDArray[np.float32]:
        """Share of each class, (P + 1, K)."""
        return self.fractions[:, :-1].astype(np.float32)

    @cached_property
    def unknown(self) -> NDArray[np.float32]:
        """Share that is unknown or has no class, (P + 1,)."""
        return self.fractions[:, -1].astype(np.float32)

    @cached_property
    def purity(self) -> NDArray[np.float32]:
        """Share of the class of the dominant type, (P + 1,); 0 where the polygon has no label."""
        padded = np.pad(self.shares, ((0, 0), (0, 1)))
        return padded[np.arange(len(padded)), np.minimum(self.dominant, len(self.classes))]

    @cached_property
    def second(self) -> NDArray[np.uint8]:
        """Class with the largest share besides that of the dominant type, (P + 1,).

        255 where no other class has a share, or the polygon has no label. Of equal shares the higher id counts, as the
        dominant type is the thicker of two: legends list ice from thin to thick.
        """
        others = self.shares.copy()  # in float32: shares that differ by rounding only are equal
        labelled = self.dominant != IGNORE
        others[labelled, self.dominant[labelled]] = 0
        highest = len(self.classes) - 1 - others[:, ::-1].argmax(axis=1)
        return np.where(labelled & (others.max(axis=1) > 0), highest, IGNORE).astype(np.uint8)

    @cached_property
    def at_sea(self) -> NDArray[np.bool_]:
        """Whether the polygon lies at sea, (P + 1,): false for land, ice shelf and no data, and in row 0."""
        return np.array([bool(rule) and rule not in _NO_SEA for rule in self.rules])

    @cached_property
    def percent(self) -> NDArray[np.uint8]:
        """Shares in percent as in ``fractions.tif``, the last column unknown, (P + 1, K + 1).

        Rows sum to 100, rounded such that the largest remainders go up; 255 where the polygon does not lie at sea.
        """
        percent = 100 * self.fractions
        stored = np.floor(percent + 1e-9).astype(np.int64)
        left = 100 - stored.sum(axis=1)
        by_remainder = np.argsort(stored - percent, axis=1, kind="stable")
        rank = np.argsort(by_remainder, axis=1, kind="stable")
        stored += rank < left[:, None]
        stored[~self.at_sea] = NO_PERCENT
        return stored.astype(np.uint8)

    def check(self, ids: NDArray[np.uint16], path: Path) -> None:
        """Check that every id in a raster, or a window of it, (rows, cols), is a row of the table.

        Raises
        ------
        FloemapError
            If one is not, naming `path`.
        """
        if ids.size and (highest := int(ids.max())) > len(self):
            raise FloemapError(
                f"has the id {highest}, and {TABLE} beside it ends at {len(self)}.", path=path, hint=_AGAIN
            )

    def rows(self) -> Iterator[list[Any]]:
        """Give the cells of each polygon, row by row, as ``polygons.csv`` has them."""
        for i in range(1, len(self) + 1):
            labelled = self.dominant[i] != IGNORE
            concentration = float(self.concentration[i])
            yield [
                i,
                int(self.features[i]),
                self.poly_types[i],
                *("" if (code := self.codes[name][i]) == NOT_GIVEN else f"{code:02d}" for name in _CODES),
                self.rules[i],
                int(self.dominant[i]) if labelled else "",
                repr(float(self.fractions[i, self.dominant[i]])) if labelled else "",
                *map(repr, self.fractions[i].tolist()),
                " ".join(key for key, may in zip(self.classes, self.candidates[i], strict=True) if may),
                "" if math.isnan(concentration) else f"{concentration:.6g}",
                int(self.pixels[i]),
                repr(float(self.area_km2[i])),
                *([] if self.floe is None else ["" if self.floe[i] == IGNORE else int(self.floe[i])]),
            ]


def columns(classes: Sequence[str], *, floe: bool = False) -> list[str]:
    """Return the columns of ``polygons.csv`` for a legend with classes of these keys, with or without floe size."""
    return [*FIELDS_BEFORE, *classes, *FIELDS_AFTER, *(FLOE_FIELD if floe else ())]


def write_polygons(folder: Path, table: PolygonTable) -> None:
    """Write ``polygons.csv`` into a folder, UTF-8, separated by commas, with a header.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns(table.classes, floe=table.floe is not None))
        writer.writerows(table.rows())


def read_polygons(folder: str | Path) -> PolygonTable:
    """Read the table of polygons in a folder that `floemap label` made.

    Parameters
    ----------
    folder
        The label folder. Its label.json names the classes.

    Raises
    ------
    FloemapError
        If there is no table, or it is damaged: a column is missing, ids do not count from 1, a value is out of range,
        or the shares of a row do not sum to 1. The message names the line.
    """
    folder = Path(folder)
    record = folder / "label.json"
    said = read_json(record)
    with as_written(record, "floemap label"):
        classes = tuple(str(key) for key in said["legend"]["classes"].values())
        if not 0 < len(classes) < IGNORE:
            raise ValueError(f"its legend has {len(classes)} classes")
    path = folder / TABLE
    if folder.is_dir() and not path.exists():
        raise FloemapError(f"has no {TABLE}: an older floemap made it.", path=folder, hint=_AGAIN)
    rows: list[_Row] = []
    try:
        with regular_file(path).open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            wanted = columns(classes, floe=header[-1:] == [*FLOE_FIELD])
            _check_header(path, header, wanted)
            for line in lines:
                rows.append(_Row(path, lines.line_num, len(rows) + 1, line, classes, wanted))
                if len(rows) > MAX_POLYGONS:
                    raise FloemapError(f"has more than {MAX_POLYGONS:,} rows.", path=path, hint=_AGAIN)
    except (OSError, ValueError, csv.Error) as e:
        raise FloemapError(f"cannot be read as a table: {e}.", path=path, hint=_AGAIN) from e
    return _assembled(rows, classes, floe=wanted != columns(classes))


def read_ids(folder: str | Path, table: PolygonTable, window: Window | None = None) -> NDArray[np.uint16]:
    """Read the ids of pixels from ``polygons.tif``, all or a window of them.

    Parameters
    ----------
    folder
        The label folder.
    table
        The table of the same folder.
    window
        First row, first column, number of rows and of columns; None for the whole grid.

    Returns
    -------
    numpy.ndarray
        (rows, cols) uint16.

    Raises
    ------
    GridError
        If polygons.tif and labels.tif of the folder lie on different grids.
    FloemapError
        If the raster cannot be read, is of another kind, or holds an id beyond the table.
    """
    from rasterio.windows import Window as RasterWindow

    from floemap.cog import open_raster, read_geobox
    from floemap.grid import check_same_grid

    path, labels = Path(folder) / RASTER, Path(folder) / "labels.tif"
    check_same_grid(read_geobox(labels), read_geobox(path), f"{labels} and {path}")
    view = None if window is None else RasterWindow(window[1], window[0], window[3], window[2])
    with open_raster(path, hint=_AGAIN) as d:
        if d.count != 1 or d.dtypes[0] != "uint16" or d.nodata != 0:
            kind = f"has {d.count} bands of {d.dtypes[0]} with no-data {d.nodata}"
            raise FloemapError(f"{kind}; ids are one band of uint16 with no-data 0.", path=path, hint=_AGAIN)
        ids = np.asarray(d.read(1, window=view), np.uint16)
    table.check(ids, path)
    return ids


def _check_header(path: Path, found: list[str], wanted: list[str]) -> None:
    if found == wanted:
        return
    missing, other = [c for c in wanted if c not in found], [c for c in found if c not in wanted]
    reasons = [f"lacks the column {', '.join(missing)}"] if missing else []
    reasons += [f"has the unknown column {', '.join(map(repr, other[:10]))}"] if other else []
    raise FloemapError(f"{' and '.join(reasons) or 'has its columns in another order'}.", path=path, hint=_AGAIN)


class _Row:
    """A line of the table with its cells checked."""

    def __init__(
        self, path: Path, line: int, number: int, cells: list[str], classes: tuple[str, ...], names: Sequence[str]
    ) -> None:
        self._path, self._line = path, line
        if len(cells) != len(names):
            raise self._error(f"has {len(cells)} cells, and the header {len(names)}")
        self._cells = dict(zip(names, cells, strict=True))
        if self._whole("id", 1, MAX_POLYGONS) != number:
            raise self._error(f"has the id {cells[0]}, and {number} comes next")
        self.feature = self._whole("feature", -(2**63), 2**63 - 1)
        self.poly_type, self.rule = self._cells["POLY_TYPE"], self._cells["rule"]
        if not self.rule:
            raise self._error("has no rule")
        self.codes = [self._whole(name, 0, 99, empty=NOT_GIVEN) for name in _CODES]
        self.dominant = self._whole("class", 0, len(classes) - 1, empty=IGNORE)
        self.fractions = [self._real(name, 1) for name in (*classes, "unknown_share")]
        if abs(sum(self.fractions) - 1) > _TOLERANCE:
            raise self._error(f"has shares that sum to {sum(self.fractions):.6g}, and not to 1")
        named = self._cells["candidates"].split()
        if other := [key for key in named if key not in classes]:
            raise self._error(f"has the candidate {other[0]!r}, which is not a class of the legend")
        self.candidates = [key in named for key in classes]
        self.concentration = self._real("concentration", 1, empty=math.nan)
        self.pixels = self._whole("pixels", 1, 2**62)
        self.area_km2 = self._real("area_km2", math.inf)
        self.floe = IGNORE if "floe_size" not in names else self._whole("floe_size", 0, _MOST_FLOE, empty=IGNORE)

    def _error(self, what: str) -> FloemapError:
        return FloemapError(f"line {self._line} {what}.", path=self._path, hint=_AGAIN)

    def _whole(self, name: str, low: int, high: int, *, empty: int | None = None) -> int:
        text = self._cells[name]
        if not text and empty is not None:
            return empty
        digits = text[1:] if text.startswith("-") else text
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and low <= int(text) <= high):
            raise self._error(f"has {name} {text!r}, where a whole number from {low} to {high} is needed")
        return int(text)

    def _real(self, name: str, high: float, *, empty: float | None = None) -> float:
        text = self._cells[name]
        if not text and empty is not None:
            return empty
        try:
            value = math.nan if "_" in text else float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= high or math.isinf(value):
            raise self._error(f"has {name} {text!r}, where a number from 0 to {high:g} is needed")
        return value


def _assembled(rows: Sequence[_Row], classes: tuple[str, ...], *, floe: bool) -> PolygonTable:
    nothing = [0.0] * len(classes)
    codes = np.array([[NOT_GIVEN] * len(_CODES), *(r.codes for r in rows)], np.int16)
    return PolygonTable(
        classes=classes,
        features=np.array([-1, *(r.feature for r in rows)], np.int64),
        poly_types=("", *(r.poly_type for r in rows)),
        codes=MappingProxyType(dict(zip(_CODES, codes.T, strict=True))),
        rules=("", *(r.rule for r in rows)),
        fractions=np.array([[*nothing, 1.0], *(r.fractions for r in rows)]),
        dominant=np.array([IGNORE, *(r.dominant for r in rows)], np.uint8),
        candidates=np.array([[False] * len(classes), *(r.candidates for r in rows)], np.bool_),
        concentration=np.array([math.nan, *(r.concentration for r in rows)], np.float32),
        pixels=np.array([0, *(r.pixels for r in rows)], np.int64),
        area_km2=np.array([0.0, *(r.area_km2 for r in rows)]),
        floe=np.array([IGNORE, *(r.floe for r in rows)], np.uint8) if floe else None,
    )
