"""Make src/floemap/viewer/site/coast.geojson, the coarse coastline of the map in the browser.

    npm pack world-atlas@2.0.2 && tar xf world-atlas-2.0.2.tgz
    python docs/coastline.py package/land-50m.json

Source: Natural Earth's land at 1:50 million, version 4.1, which is in the public domain (naturalearthdata.com), as the
npm package world-atlas 2.0.2 (ISC licence) has it in TopoJSON. The result has lines, not areas, since areas that reach
around a pole need edges that no coast has: edges along the 180th meridian and at the south pole are left out. It keeps
the coasts beyond 40 degrees north and south, which polar maps show, simplified by a kilometre.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

OUT = Path(__file__).parents[1] / "src" / "floemap" / "viewer" / "site" / "coast.geojson"
SOURCE = "Natural Earth, land 1:50 million (public domain), by world-atlas 2.0.2 (ISC)"
#: Coasts nearer to the equator are left out, degrees; simplification in metres.
_FROM_DEG, _TOLERANCE_M = 40.0, 1000.0
#: So close to the 180th meridian and to the pole are the edges that no coast has, degrees.
_EDGE_DEG = 0.01


def arcs(topology: dict[str, object]) -> Iterator[NDArray[np.float64]]:
    """Give the arcs of a TopoJSON, (n, 2) longitudes and latitudes: deltas of whole numbers, scaled and moved."""
    transform = topology["transform"]
    for arc in topology["arcs"]:  # type: ignore[attr-defined]
        yield np.cumsum(np.array(arc, float), axis=0) * transform["scale"] + transform["translate"]  # type: ignore[index]


def coasts(arc: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Give the parts of an arc that are coasts of polar maps."""
    lon, lat = arc.T
    at_edge = (np.abs(lon) > 180 - _EDGE_DEG) | (lat < -90 + _EDGE_DEG)
    drawn = ~(at_edge[1:] & at_edge[:-1]) & (np.abs(lat[1:]) >= _FROM_DEG) & (np.abs(np.diff(lon)) < 180)
    ends = np.flatnonzero(np.diff(np.concatenate([[0], drawn, [0]])))
    for start, stop in zip(ends[::2], ends[1::2], strict=True):
        yield arc[start : stop + 1]


def simplified(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a line without the points that are not needed to stay within the tolerance, on a polar map."""
    pole = 1 if line[:, 1].mean() > 0 else -1
    on_map = pyproj.Transformer.from_crs(4326, 3413 if pole > 0 else 3031, always_xy=True)
    xy = np.column_stack(on_map.transform(*line.T))
    kept = shapely.get_coordinates(shapely.simplify(shapely.linestrings(xy), _TOLERANCE_M))
    return np.column_stack(on_map.transform(*kept.T, direction="INVERSE"))


def main(path: Path) -> None:
    """Write the coastline from a TopoJSON."""
    lines = [simplified(part) for arc in arcs(json.loads(path.read_text())) for part in coasts(arc) if len(part) > 1]
    features = []
    for name, sign in (("north", 1), ("south", -1)):
        mine = [
            np.clip(line, (-180, -90), (180, 90)).round(2).tolist() for line in lines if line[:, 1].mean() * sign > 0
        ]
        geometry = {"type": "MultiLineString", "coordinates": [line for line in mine if len(line) > 1]}
        features.append({"type": "Feature", "properties": {"hemisphere": name}, "geometry": geometry})
    content = {"type": "FeatureCollection", "source": SOURCE, "features": features}
    OUT.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
