"""The manifest of an archive: one table of all scenes, ``archive.csv``, and a STAC collection, ``collection.json``."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import pystac

from floemap.archive.rows import COLUMNS, UNREADABLE_ROW, Row
from floemap.inference.draftchart.folder import ITEM, RECORD
from floemap.results.stage import write_json, write_whole

logger = logging.getLogger(__name__)

TABLE, COLLECTION = "archive.csv", "collection.json"


class Manifest:
    """The rows of an archive's folder: those of this call, and those of earlier calls for other scenes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: dict[tuple[str, str], Row] = {}
        for row in _earlier(folder / TABLE):
            if row.state != "charted" or (folder / row.scene / RECORD).is_file():
                self._rows[row.scene, row.product] = row

    def expect(self, row: Row) -> None:
        """Note a product of this call, unless the table has it already."""
        self._rows.setdefault((row.scene, row.product), row)

    def put(self, row: Row, expected: Row) -> None:
        """Note what became of a product, in the place of the row by which it was expected.

        A chart's folder has the name that the product says of itself, which its file need not have.
        """
        if (row.scene, row.product) != (expected.scene, expected.product):
            self._rows.pop((expected.scene, expected.product), None)
        before = self._rows.get((row.scene, row.product))
        if before is not None and (before.state, before.ended) == ("charted", row.ended):
            row = row.tried(before.tries)  # it was finished before this call
        self._rows[row.scene, row.product] = row

    def write(self) -> None:
        """Write the table.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self._rows[key].cells() for key in sorted(self._rows))
        write_whole(self._folder / TABLE, text.getvalue().encode("utf-8", "backslashreplace"))

    def write_collection(self) -> None:
        """Write the STAC collection of the charts that are there; without one there is no collection.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        charted = [row for _, row in sorted(self._rows.items()) if row.state == "charted" and row.bbox is not None]
        if charted:
            collection = _collection(self._folder.resolve().name or "archive", charted)
            write_json(self._folder / COLLECTION, collection.to_dict(include_self_link=False))

    def counts(self) -> dict[str, int]:
        """Return the number of products by state."""
        states = [row.state for row in self._rows.values()]
        return {state: states.count(state) for state in ("charted", "failed", "waiting")}

    @property
    def simulated(self) -> bool:
        """Whether a chart is made from a simulated scene or by a model that was trained on one."""
        return any(row.simulated == "yes" for row in self._rows.values())

    def failed(self) -> list[str]:
        """Return the names of the products that failed."""
        return sorted(row.product for row in self._rows.values() if row.state == "failed")


def _earlier(table: Path) -> Iterable[Row]:
    """Return the rows of a table, without those that were cut off or that somebody has edited beyond recognition."""
    rows: list[Row] = []
    wrong = 0
    try:
        with table.open(encoding="utf-8", errors="replace", newline="") as file:
            for cells in csv.DictReader(file):
                try:
                    rows.append(Row.from_cells(cells))
                except UNREADABLE_ROW:
                    wrong += 1
    except FileNotFoundError:
        pass
    except (OSError, csv.Error) as e:
        logger.warning("%s cannot be read to its end (%s); rows of other calls may be lost", table.name, e)
    if wrong:
        logger.warning("%s has %d rows that cannot be read, and is written anew without them", table.name, wrong)
    return rows


def _collection(name: str, rows: list[Row]) -> pystac.Collection:
    boxes = [row.bbox for row in rows if row.bbox is not None]
    starts, stops = (
        [datetime.fromisoformat(getattr(row, key)) for row in rows] for key in ("sensing_start", "sensing_stop")
    )
    simulated = any(row.simulated == "yes" for row in rows)
    whole = [-180.0 if any(b[0] > b[2] for b in boxes) else min(b[0] for b in boxes), min(b[1] for b in boxes)]
    whole += [180.0 if whole[0] == -180.0 else max(b[2] for b in boxes), max(b[3] for b in boxes)]
    collection = pystac.Collection(
        id=f"{name}_ice_charts",
        title=f"Draft ice charts: {name}{', SIMULATED' if simulated else ''}",
        description=f"{len(rows)} draft ice charts from Sentinel-1 scenes, not for navigation."
        + (" Some or all are made from simulated scenes or by a model trained on them." if simulated else ""),
        license="other",
        extent=pystac.Extent(pystac.SpatialExtent([whole]), pystac.TemporalExtent([[min(starts), max(stops)]])),
        summaries=pystac.Summaries({"simulated": sorted({row.simulated == "yes" for row in rows})}),
    )
    for row in rows:
        href = f"./{row.scene}/{ITEM}"
        collection.add_link(pystac.Link(pystac.RelType.ITEM, href, pystac.MediaType.GEOJSON, title=row.scene))
    return collection
