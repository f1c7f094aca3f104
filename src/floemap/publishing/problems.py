"""Problems of a chart that prevent its publication: each names its polygons and its place on the earth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely

from floemap.counts import counted
from floemap.errors import ChartError
from floemap.grid import degrees

#: Most problems that the message of an error lists; all of them are in :attr:`ProblemsError.problems`.
_LISTED = 12


@dataclass(frozen=True)
class Problem:
    """A problem of a chart.

    Attributes
    ----------
    kind
        Kind of the problem, such as "gap".
    words
        What is wrong, without the polygons' ids, as in "overlap by 3.1 km²".
    polygons
        Ids of the polygons in the file, in ascending order; none for a gap at the edge of the chart.
    at
        Longitude and latitude, degrees; None where the polygon has no geometry.
    safe
        Whether the repair loses nothing that an analyst has drawn or entered.
    """

    kind: str
    words: str
    polygons: tuple[int, ...]
    at: tuple[float, float] | None
    safe: bool

    def in_words(self) -> str:
        """Return the problem as a sentence, with polygons and place."""
        ids = ", ".join(map(str, self.polygons))
        who = f"polygon{'s' if len(self.polygons) > 1 else ''} {ids}" if self.polygons else "the chart"
        return f"{who}{self.where()}: {self.words}."

    def where(self) -> str:
        """Return the place in words, in brackets; "" if there is none."""
        if self.at is None:
            return ""
        return f" ({degrees(round(self.at[1], 3), 'lat')} {degrees(round(self.at[0], 3), 'lon')})"

    def facts(self) -> dict[str, Any]:
        """Return the problem as JSON has it."""
        lon, lat = self.at or (None, None)
        return {
            "kind": self.kind,
            "polygons": list(self.polygons),
            "lat_deg": None if lat is None else round(lat, 5),
            "lon_deg": None if lon is None else round(lon, 5),
            "words": self.words,
            "repairable": self.safe,
        }


class ProblemsError(ChartError):
    """A chart cannot be published as it is.

    Attributes
    ----------
    problems
        All problems, in the order of the polygons.
    """

    def __init__(self, path: Path, problems: Sequence[Problem], *, repaired: bool) -> None:
        self.problems = tuple(problems)
        lines = [p.in_words() for p in self.problems[:_LISTED]]
        more = len(self.problems) - len(lines)
        shown = " ".join(lines) + (f" And {more} more." if more else "")
        safe = sum(p.safe for p in self.problems)
        hint = f"--repair repairs {safe} of them, which loses nothing; " if safe and not repaired else ""
        self._whole = shown
        count = counted(len(self.problems), "problem")
        rest = "Correct them in the chart's file." if not hint else f"{hint}correct the others in the chart's file."
        super().__init__(f"has {count} and is not published. {shown}", path=path, hint=rest)

    def in_short(self) -> ChartError:
        """Return the error without the list of problems."""
        return ChartError(self.message.removesuffix(f" {self._whole}"), path=self.path, hint=self.hint)


class Places:
    """Positions of geometries of a map on the earth."""

    def __init__(self, crs: pyproj.CRS) -> None:
        self._to_earth = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)

    def of(self, geometry: Any) -> tuple[float, float] | None:
        """Return longitude and latitude of a point in a geometry, degrees; None if it is empty or not on the earth."""
        if geometry is None or shapely.is_empty(geometry):
            return None
        sound = shapely.is_valid(geometry) and shapely.area(geometry) > 0
        point = shapely.point_on_surface(geometry) if sound else shapely.centroid(geometry)
        return self.at(*shapely.get_coordinates(point)[0])

    def at(self, x: float, y: float) -> tuple[float, float] | None:
        """Return longitude and latitude of a position on the map, degrees; None if it is not on the earth."""
        lon, lat = self._to_earth.transform(x, y)
        return (float(lon), float(lat)) if np.isfinite(lon) and np.isfinite(lat) else None


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Return problems in the order of their polygons; those of the whole chart come last."""
    return sorted(problems, key=lambda p: (not p.polygons, p.polygons, p.kind, p.words))
