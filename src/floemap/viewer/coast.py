"""The coastline of the map: the coarse one that comes with floemap, or a finer one that is given."""

from __future__ import annotations

import json
from pathlib import Path

from floemap.errors import ChartError

#: Address of the coastline.
COAST = "coast.geojson"


def shipped_coast(path: Path) -> dict[str, str]:
    """Return address and source of the coastline that comes with floemap."""
    return {"url": COAST, "source": str(json.loads(path.read_bytes())["source"])}


def given_coast(path: Path) -> tuple[bytes, dict[str, str]]:
    """Return a given coastline as GeoJSON of lines, and its address and source."""
    raise ChartError("later", path=path)
