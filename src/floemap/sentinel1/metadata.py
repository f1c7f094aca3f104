"""What a Sentinel-1 GRD product says of itself, typed. Values only; reading is in :mod:`floemap.sentinel1.safe.reader`.

Lines count along azimuth (time), pixels along ground range, both from 0 at the first; a whole number is a pixel's
centre. Arrays are (lines, pixels) or (rows, cols). Angles are in degrees, lengths in metres, heights above WGS84.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from floemap.sentinel1.safe.container import Container


Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class GeolocationGrid:
    """The annotation's geolocation grid, (lines, pixels).

    Attributes
    ----------
    lines, pixels
        Positions of the grid's rows and columns in the image.
    latitude_deg, longitude_deg, height_m
        Position of the nodes on the ground; heights above WGS84 from the processor's terrain model, near 0 at sea.
    incidence_deg, elevation_deg
        Incidence angle at the ground, elevation angle at the antenna.
    azimuth_time_s
        Zero-Doppler time of the nodes, in seconds after the scene's `start`.
    slant_range_time_s
        Two-way travel time.
    irregular_points
        Number of annotated points, where they are no full grid and this one was interpolated from them; else None.
    """

    lines: Floats
    pixels: Floats
    latitude_deg: Floats
    longitude_deg: Floats
    height_m: Floats
    incidence_deg: Floats
    elevation_deg: Floats
    azimuth_time_s: Floats
    slant_range_time_s: Floats
    irregular_points: int | None = None


@dataclass(frozen=True)
class CalibrationLut:
    """Calibration vectors: A of sigma0 = (DN^2 - noise) / A^2, at `lines` x `pixels`, (vectors, pixels)."""

    lines: Floats
    pixels: Floats
    sigma_nought: Floats
    absolute_constant: float


@dataclass(frozen=True)
class RangeNoise:
    """One noise vector: thermal noise power in DN^2 at `pixels` of one line."""

    line: float
    pixels: Floats
    power: Floats


@dataclass(frozen=True)
class AzimuthNoise:
    """One azimuth noise block: factors at `lines`, for a swath's pixels and lines (bounds inclusive)."""

    swath: str
    first_line: int
    last_line: int
    first_pixel: int
    last_pixel: int
    lines: Floats
    factor: Floats


@dataclass(frozen=True)
class NoiseRepair:
    """A part of the noise annotation that could not be used as annotated.

    Attributes
    ----------
    part
        What it is.
    line
        Line of the vector, or the first line of the block.
    swaths
        The sub-swaths in which it was replaced.
    found, used
        What is wrong with it, and what stands in its place.
    """

    part: Literal["range vector", "azimuth block", "azimuth list"]
    line: float
    swaths: tuple[str, ...]
    found: str
    used: str


@dataclass(frozen=True)
class NoiseLut:
    """Thermal noise annotation of one polarisation.

    Attributes
    ----------
    form
        `range_azimuth` from IPF 2.90 on; `vectors` before, where there are no azimuth blocks.
    repairs
        What was replaced in it.
    unusable
        Why it cannot be the noise of the scene, or None.
    """

    form: Literal["range_azimuth", "vectors"]
    range_vectors: tuple[RangeNoise, ...]
    azimuth_blocks: tuple[AzimuthNoise, ...]
    repairs: tuple[NoiseRepair, ...] = ()
    unusable: str | None = None


@dataclass(frozen=True)
class SwathBounds:
    """Part of the image that one sub-swath fills; bounds inclusive. Outside all of them there is no image."""

    swath: str
    first_line: int
    last_line: int
    first_pixel: int
    last_pixel: int


@dataclass(frozen=True)
class Orbit:
    """State vectors, earth-fixed: seconds after the scene's `start`, (n,); position_m and velocity_m_s, (n, 3)."""

    time_s: Floats
    position_m: Floats
    velocity_m_s: Floats


@dataclass(frozen=True)
class GroundRange:
    """Ground range to slant range, record by record along azimuth.

    Attributes
    ----------
    time_s
        Times of the records, seconds after the scene's `start`, (n,).
    origin_m
        Ground range from which the polynomials count, (n,).
    coefficients
        Slant range in metres = sum of c_i (ground range - origin)^i, (n, degree + 1). The ground range of a pixel is
        its number times the range spacing.
    """

    time_s: Floats
    origin_m: Floats
    coefficients: tuple[Floats, ...]

    def slant_range_m(self, ground_range_m: Floats) -> Floats:
        """Slant range at ground ranges (m,), by record: (n, m)."""
        offsets = ground_range_m[None, :] - self.origin_m[:, None]
        rows = [np.polynomial.polynomial.polyval(x, c) for x, c in zip(offsets, self.coefficients, strict=True)]
        return np.array(rows)


@dataclass(frozen=True)
class Scene:
    """A Sentinel-1 ground-range detected product, opened: all metadata, no pixels yet.

    Attributes
    ----------
    name
        The product's name, without ``.SAFE``.
    mission, mode, product_type
        For example ``S1A``, ``EW``, ``GRD``.
    polarisations
        Those read, in the order asked for.
    start, stop
        Times of the first and last line, UTC.
    pass_direction
        ``ASCENDING`` or ``DESCENDING``.
    absolute_orbit, relative_orbit, datatake
        As annotated; relative_orbit may be absent.
    ipf_version
        The processor's, as (major, minor): IPF 2.90 is (2, 90).
    shape
        (lines, samples) of the image.
    pixel_spacing_m
        (azimuth, range).
    radar_frequency_hz
        Centre frequency.
    line_interval_s
        Time from line to line.
    calibration, noise
        By polarisation.
    noise_subtracted
        By polarisation: the processor has subtracted thermal noise already.
    dn_mean, dn_std
        By polarisation: image statistics as annotated.
    measurements
        By polarisation: the pixel file's path inside the product.
    checksums
        MD5 sums by path inside the product, from the manifest, where it gives them; any of them is right.
    simulated
        The product was made by a simulator, by its manifest's own words or its file ``SIMULATED.txt``.
    """

    container: Container
    name: str
    mission: str
    mode: str
    product_type: str
    polarisations: tuple[str, ...]
    start: datetime
    stop: datetime
    pass_direction: str
    absolute_orbit: int
    relative_orbit: int | None
    datatake: int
    ipf_version: tuple[int, int]
    shape: tuple[int, int]
    pixel_spacing_m: tuple[float, float]
    radar_frequency_hz: float
    heading_deg: float
    geolocation: GeolocationGrid
    orbit: Orbit
    ground_range: GroundRange
    line_interval_s: float
    swaths: tuple[SwathBounds, ...]
    calibration: dict[str, CalibrationLut]
    noise: dict[str, NoiseLut]
    noise_subtracted: dict[str, bool]
    dn_mean: dict[str, float]
    dn_std: dict[str, float]
    measurements: dict[str, str]
    checksums: dict[str, frozenset[str]] = field(repr=False)
    simulated: bool = False

    @property
    def noise_units_known(self) -> bool:
        """Whether noise is annotated in DN^2: processors before IPF 2.43 give it in unknown units."""
        return self.ipf_version >= (2, 43)

    @property
    def swath_names(self) -> tuple[str, ...]:
        """Sub-swaths from near to far range."""
        first = {s.swath: s.first_pixel for s in reversed(self.swaths)}
        return tuple(sorted(first, key=lambda name: first[name]))
