"""The Sentinel-1 acquisition of an AI4Arctic scene: from the product's name, the tie points and the mission."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.datasets.ai4arctic.files import SceneFile, TiePoints
from floemap.sentinel1.metadata import Acquisition

#: Absolute orbit of each satellite that had the relative orbit 1, and orbits of a cycle (Sentinel-1 product
#: specification: relative = (absolute - 73) mod 175 + 1 for A, (absolute - 27) mod 175 + 1 for B).
_FIRST_ORBIT, _CYCLE = {"S1A": 73, "S1B": 27}, 175
_RADAR_HZ = 5.405e9


def acquisition_of(file: SceneFile) -> Acquisition:
    """Return the acquisition of a file with tie points.

    Raises
    ------
    ProductError
        If the file does not say which scene it is, or its tie points are not places.
    """
    scene, tie = file.scene, file.tie_points()
    orbit = scene.orbit[1]
    return Acquisition(
        name=scene.product,
        mission=scene.mission,
        mode="EW",
        product_type="GRD",
        polarisations=("HH", "HV"),
        start=scene.start,
        stop=scene.stop,
        pass_direction=pass_direction(tie.latitude_deg),
        absolute_orbit=orbit,
        relative_orbit=relative_orbit(scene.mission, orbit),
        pixel_spacing_m=(file.spacing_m, file.spacing_m),
        radar_frequency_hz=_RADAR_HZ,
        simulated=file.simulated,
    )


def pass_direction(latitude_deg: NDArray[np.floating[Any]]) -> str:
    """Return ``ASCENDING`` or ``DESCENDING`` from latitudes, (lines, samples), whose lines come in order of time."""
    middle = latitude_deg[:, latitude_deg.shape[1] // 2]
    return "ASCENDING" if middle[-1] > middle[0] else "DESCENDING"


def relative_orbit(mission: str, absolute: int) -> int:
    """Return the number of an orbit in the 12 days' cycle of S1A or S1B, 1 to 175."""
    return (absolute - _FIRST_ORBIT[mission]) % _CYCLE + 1


def footprint(tie: TiePoints) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return longitude and latitude, degrees, of the image's outline, closed: (81,) each."""
    return _outline(tie.longitude_deg), _outline(tie.latitude_deg)


def _outline(field: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([field[0, :-1], field[:-1, -1], field[-1, :0:-1], field[:0:-1, 0], field[:1, 0]])
