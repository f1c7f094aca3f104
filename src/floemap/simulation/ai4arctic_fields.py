"""Fields beside the radar image in simulated AI4Arctic files: brightness temperatures, weather, distance to land.

Brightness temperatures follow the true surface: the mean of what is in the footprint of each channel, each surface with
a temperature for each channel, and noise. Temperatures of surfaces are typical values (water by Wentz's ocean model at
a calm, cold sea; ice types by the tie points of NASA Team and Bootstrap, north), not measurements. Weather is smooth
noise about the mean of the month. None of this is evidence about a sensor or the weather.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from floemap.datasets.ai4arctic.form import COARSE_M, FREQUENCIES, ZONES_KM
from floemap.simulation.world.surface import Surface

Floats = NDArray[np.floating[Any]]

#: Mean of the two diameters of the footprints of AMSR2, km, by frequency.
_FOOTPRINT_KM = dict(zip(FREQUENCIES, (48.0, 48.0, 33.0, 18.0, 20.0, 9.5, 4.0), strict=True))
_NOISE_K = 0.7
#: Brightness temperatures, K, of water, first-year ice, old ice, thin ice and land, each horizontal, then vertical.
_KELVIN: dict[str, tuple[tuple[float, float], ...]] = {
    "6.9": ((80, 160), (228, 252), (222, 248), (190, 235), (248, 262)),
    "7.3": ((81, 161), (228, 252), (222, 248), (190, 235), (248, 262)),
    "10.7": ((86, 168), (230, 252), (217, 242), (195, 237), (248, 262)),
    "18.7": ((105, 188), (234, 252), (200, 222), (202, 240), (246, 260)),
    "23.8": ((140, 208), (235, 251), (192, 212), (210, 241), (246, 259)),
    "36.5": ((142, 212), (233, 248), (172, 190), (212, 240), (244, 257)),
    "89.0": ((200, 240), (225, 236), (178, 190), (225, 240), (245, 254)),
}
_KINDS: tuple[tuple[Surface, ...], ...] = (
    (Surface.WATER,),
    (Surface.FIRST_YEAR, Surface.FIRST_YEAR_DEFORMED, Surface.FAST),
    (Surface.OLD,),
    (Surface.NEW, Surface.NILAS, Surface.YOUNG),
    (Surface.LAND,),
)
#: Mean air temperature near the surface by month, K, and column of water vapour, kg/m2.
_AIR_K = (250.0, 249.0, 250.0, 256.0, 266.0, 273.0, 275.5, 274.5, 269.5, 262.0, 256.0, 252.0)
_VAPOUR = (3.0, 3.0, 3.2, 4.5, 7.5, 11.5, 14.5, 13.5, 9.5, 6.0, 4.0, 3.3)


def shares_of_kinds(surface: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the share of water, first-year, old and thin ice, and land in the cells of a coarse grid, (5, rows, cols).

    The cells are equal parts of the raster of surfaces, (rows, cols) uint8.
    """
    edges = [np.linspace(0, n, m + 1).astype(int) for n, m in zip(surface.shape, shape, strict=True)]
    starts = [np.minimum(e[:-1], n - 1) for e, n in zip(edges, surface.shape, strict=True)]
    counts = [np.maximum(np.diff(e), 1) for e in edges]
    area = counts[0][:, None] * counts[1]
    found = []
    for members in _KINDS:
        is_kind = np.isin(surface, members).astype(np.float32)
        summed = np.add.reduceat(np.add.reduceat(is_kind, starts[0], axis=0), starts[1], axis=1)
        found.append(summed / area)
    return np.stack(found).astype(np.float32)


def brightness_k(shares: NDArray[np.float32], seed: tuple[int, ...]) -> dict[str, Floats]:
    """Return brightness temperatures, K, (rows, cols) float64, by variable name, from :func:`shares_of_kinds`."""
    found: dict[str, Floats] = {}
    for k, (ghz, table) in enumerate(_KELVIN.items()):
        rng = np.random.default_rng([*seed, 20, k])
        sigma = _FOOTPRINT_KM[ghz] * 1000 / COARSE_M / 2.355
        seen = np.stack([scipy.ndimage.gaussian_filter(s, sigma, mode="nearest") for s in shares])
        for p, letter in enumerate("hv"):
            kelvin = np.tensordot(np.array([row[p] for row in table]), seen, axes=1)
            name = f"btemp_{ghz.replace('.', '_')}{letter}"
            found[name] = kelvin + rng.normal(0, _NOISE_K, kelvin.shape)
    return found


def weather(shares: NDArray[np.float32], month: int, seed: tuple[int, ...]) -> dict[str, Floats]:
    """Return the six fields of weather, (rows, cols) float64, by variable name; air is colder over ice."""
    rng = np.random.default_rng([*seed, 21])
    shape = shares.shape[1:]

    def smooth(scale_km: float) -> Floats:
        sigma = scale_km * 1000 / COARSE_M
        field = scipy.ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="reflect")
        return np.asarray((field - field.mean()) / max(float(field.std()), 1e-9))

    ice = scipy.ndimage.gaussian_filter(shares[1:4].sum(axis=0), 15.0, mode="nearest")
    air = _AIR_K[month - 1] + (6.0 if month in (6, 7, 8) else 12.0) * (0.4 - ice) + 1.5 * smooth(60)
    skin = np.where(shares[0] > 0.5, np.maximum(air, 271.4), air - 0.5) + 0.3 * smooth(20)
    vapour = np.maximum(_VAPOUR[month - 1] * np.exp(0.25 * smooth(70)), 0.2)
    cloud = np.maximum(0.04 + 0.06 * smooth(40), 0.0)
    u, v = (rng.normal(0.6, 4.0) + 2.5 * smooth(80) for _ in range(2))
    return {"u10m_rotated": u, "v10m_rotated": v, "t2m": air, "skt": skin, "tcwv": vapour, "tclw": cloud}


def distance_zones(land: NDArray[np.bool_], pixel_m: float) -> NDArray[np.float32]:
    """Return zones of the distance to land, float32, from where land is; zone 41 where there is no land."""
    if not land.any():
        return np.full(land.shape, len(ZONES_KM), np.float32)
    km = scipy.ndimage.distance_transform_edt(~land) * pixel_m / 1000
    edges = [high for _, high in ZONES_KM[:-1]]
    return np.where(land, 0, 1 + np.digitize(km, edges)).astype(np.float32)
