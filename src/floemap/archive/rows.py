"""Rows of an archive's table: scene, times, state and error of each product.

A charted product's row follows from the record of its chart, so that it is the same whenever it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from floemap.archive.scenes import scene_name
from floemap.errors import MISSHAPEN, FloemapError
from floemap.inference.draftchart.folder import ITEM, RECORD
from floemap.results.fields import at
from floemap.results.stage import as_written, read_json

#: What became of a product.
State = Literal["waiting", "charted", "failed"]
#: A spreadsheet takes a text that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: Characters of an error in the table; it may quote what a damaged file or a library says.
_LONGEST = 2000


@dataclass(frozen=True)
class Row:
    """One product in the table.

    Attributes
    ----------
    scene
        Name of the product, and of the chart's folder.
    product
        Name of the product's file or folder.
    state
        `charted`, `failed`, or `waiting` as long as it was not tried.
    sensing_start, sensing_stop
        Times of the acquisition, ISO 8601; "" if not known.
    ended
        When the chart was finished, or the last try failed, ISO 8601 in UTC.
    seconds
        Time that the chart or the last try took.
    tries
        How often it was tried in the call that charted it or failed.
    simulated
        "yes" if the product or a model is simulated, else "no"; "" if not known.
    west, south, east, north
        Bounding box, degrees; west is larger than east across the date line.
    warnings
        Number of warnings in the chart's record.
    error
        Why it failed.
    """

    scene: str
    product: str
    state: State = "waiting"
    sensing_start: str = ""
    sensing_stop: str = ""
    ended: str = ""
    seconds: float | None = None
    tries: int = 0
    simulated: str = ""
    west: float | None = None
    south: float | None = None
    east: float | None = None
    north: float | None = None
    warnings: int | None = None
    error: str = ""

    @property
    def bbox(self) -> tuple[float, float, float, float] | None:
        """The bounding box in degrees, (west, south, east, north); None if it is not known."""
        sides = (self.west, self.south, self.east, self.north)
        return None if None in sides else sides  # type: ignore[return-value]

    def cells(self) -> list[str]:
        """Return the cells in the order of :data:`COLUMNS`, none of which a spreadsheet takes for a formula."""
        return [_cell(value) for value in asdict(self).values()]

    @classmethod
    def from_cells(cls, cells: Mapping[str, str]) -> Self:
        """Return the row of cells by column.

        Raises
        ------
        ValueError, KeyError
            If a cell is missing or is not of its column's kind.
        """
        values: dict[str, Any] = {}
        for field in fields(cls):
            text = cells[field.name]
            if field.name in _NUMBERS:
                kind = int if field.name in ("tries", "warnings") else float
                values[field.name] = kind(text) if text else None
            else:
                values[field.name] = text.removeprefix("'") if text[1:2] in _FORMULA else text
        if values["state"] not in ("waiting", "charted", "failed"):
            raise ValueError(f"{values['state']!r} is not a state")
        return cls(**values | {"tries": values["tries"] or 0})

    def tried(self, tries: int) -> Row:
        """Return the row with the number of tries."""
        return replace(self, tries=tries)


#: Columns of the table.
COLUMNS = tuple(field.name for field in fields(Row))
_NUMBERS = ("seconds", "tries", "west", "south", "east", "north", "warnings")


def _cell(value: object) -> str:
    if isinstance(value, str):
        text = " ".join(value.split())
        return f"'{text}" if text.startswith(_FORMULA) else text
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def row_of_chart(product: Path, folder: Path) -> Row:
    """Return the row of a finished chart, from the record and the STAC item in its folder.

    Raises
    ------
    FloemapError
        If one of them cannot be read.
    """
    record, item = read_json(folder / RECORD), read_json(folder / ITEM)
    with as_written(folder / RECORD, "floemap chart"):
        west, south, east, north = (float(side) for side in item["bbox"])
        return Row(
            scene=folder.name,
            product=_file_name(product),
            state="charted",
            sensing_start=datetime.fromisoformat(record["scene"]["start"]).isoformat(),
            sensing_stop=datetime.fromisoformat(record["scene"]["stop"]).isoformat(),
            ended=datetime.fromisoformat(record["created"]).isoformat(),
            seconds=round(sum(float(s) for s in at(record, "seconds", {}).values()), 3),
            simulated="yes" if record["simulated"] else "no",
            west=west,
            south=south,
            east=east,
            north=north,
            warnings=len(at(record, "warnings", [])),
        )


def failed_row(product: Path, error: FloemapError, ended: datetime, seconds: float) -> Row:
    """Return the row of a product that could not be charted. The error is given without the folders of its path."""
    hint = f" {error.hint}" if error.hint else ""
    where = f"{error.path.name}: " if error.path is not None else ""
    return Row(
        scene=scene_name(product),
        product=_file_name(product),
        state="failed",
        ended=ended.isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        error=f"{where}{error.message}{hint}"[:_LONGEST],
    )


def waiting_row(product: Path) -> Row:
    """Return the row of a product that was not tried yet."""
    return Row(scene_name(product), _file_name(product))


def _file_name(product: Path) -> str:
    return product.parent.name if product.name == "product.tif" else product.absolute().name


#: Errors from a table that somebody has edited.
UNREADABLE_ROW = MISSHAPEN
