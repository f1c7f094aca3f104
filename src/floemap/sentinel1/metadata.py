"""The metadata of a Sentinel-1 GRD product as typed values; :mod:`floemap.sentinel1.safe.reader` reads them.

Lines count along azimuth (time), pixels along ground range, both from 0; a whole number is the centre of a pixel.
Arrays are (lines, pixels) or (rows, cols). Angles are in degrees, lengths in metres, heights above WGS84.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        Number of annotated points if they were not a full grid and this grid was interpolated from them; else None.
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
    """A part of the noise annotation that was replaced because it cannot be true.

    Attributes
    ----------
    part
        Kind of the part.
    line
        Line of the vector, or the first line of the block.
    swaths
        Sub-swaths in which it was replaced.
    found, used
        The fault, and the replacement.
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
        `range_azimuth` from IPF 2.90 on; `vectors` in older products, which have no azimuth blocks.
    range_vectors, azimuth_blocks
        Noise vectors in the order of lines, and azimuth blocks.
    repairs
        Replaced parts.
    unusable
        Why the annotation cannot be the noise of the scene, or None.
    """

    form: Literal["range_azimuth", "vectors"]
    range_vectors: tuple[RangeNoise, ...]
    azimuth_blocks: tuple[AzimuthNoise, ...]
    repairs: tuple[NoiseRepair, ...] = ()
    unusable: str | None = None


@dataclass(frozen=True)
class SwathBounds:
    """Part of the image that one sub-swath fills; bounds inclusive. Pixels outside all bounds are not in the image."""

    swath: str
    first_line: int
    last_line: int
    first_pixel: int
    last_pixel: int


def bounds_by_swath(swaths: Sequence[SwathBounds]) -> dict[str, list[SwathBounds]]:
    """Return the bounds of each sub-swath by its name, from near to far range."""
    found: dict[str, list[SwathBounds]] = {}
    for b in swaths:
        found.setdefault(b.swath, []).append(b)
    return dict(sorted(found.items(), key=lambda item: item[1][0].first_pixel))


@dataclass(frozen=True)
class Orbit:
    """State vectors, earth-fixed: seconds after the scene's `start`, (n,); position_m and velocity_m_s, (n, 3)."""

    time_s: Floats
    position_m: Floats
    velocity_m_s: Floats


@dataclass(frozen=True)
class GroundRange:
    """Polynomials from ground range to slant range, one record after the other along azimuth.

    Attributes
    ----------
    time_s
        Times of the records, seconds after the scene's `start`, (n,).
    origin_m
        Ground range at which the polynomials' argument is 0, (n,).
    coefficients
        Slant range in metres = sum of c_i (ground range - origin)^i, (n, degree + 1). The ground range of a pixel is
        its index times the range spacing.
    """

    time_s: Floats
    origin_m: Floats
    coefficients: tuple[Floats, ...]

    def slant_range_m(self, ground_range_m: Floats) -> Floats:
        """Return the slant range at ground ranges (m,) by each record, (n, m), both in metres."""
        offsets = ground_range_m[None, :] - self.origin_m[:, None]
        rows = [np.polynomial.polynomial.polyval(x, c) for x, c in zip(offsets, self.coefficients, strict=True)]
        return np.array(rows)


@dataclass(frozen=True)
class Acquisition:
    """What is known of an acquisition, whatever files it came in.

    Attributes
    ----------
    name
        The product's name, without ``.SAFE``.
    mission, mode, product_type
        For example ``S1A``, ``EW``, ``GRD``.
    polarisations
        Polarisations that were read, in the requested order.
    start, stop
        Times of the first and last line, UTC.
    pass_direction
        ``ASCENDING`` or ``DESCENDING``.
    absolute_orbit, relative_orbit
        Numbers as annotated; relative_orbit may be absent.
    pixel_spacing_m
        (azimuth, range).
    radar_frequency_hz
        Centre frequency.
    simulated
        Whether a simulator made it: for products, by their manifest or their file ``SIMULATED.txt``.
    """

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
    pixel_spacing_m: tuple[float, float]
    radar_frequency_hz: float
    simulated: bool

    @property
    def title(self) -> str:
        """Title of the product's picture."""
        prefix = "SIMULATED  " if self.simulated else ""
        return f"{prefix}{self.mission} {self.mode}  {self.start:%Y-%m-%d %H:%M} UTC  {self.pass_direction.lower()}"


@dataclass(frozen=True)
class Scene(Acquisition):
    """The metadata of an opened Sentinel-1 ground-range detected product, besides those of its acquisition.

    Attributes
    ----------
    datatake
        Number as annotated.
    ipf_version
        Version of the processor as (major, minor): IPF 2.90 is (2, 90).
    shape
        (lines, samples) of the image.
    line_interval_s
        Time from line to line.
    calibration, noise
        Annotated tables by polarisation.
    noise_subtracted
        Whether the processor has subtracted thermal noise, by polarisation.
    dn_mean, dn_std
        Annotated image statistics by polarisation.
    measurements
        Path of the pixel file inside the product, by polarisation.
    checksums
        MD5 sums in the manifest by path inside the product; a file may have any of its sums.
    """

    container: Container
    datatake: int
    ipf_version: tuple[int, int]
    shape: tuple[int, int]
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

    @property
    def noise_units_known(self) -> bool:
        """Whether noise is annotated in DN^2; processors before IPF 2.43 annotate it in unknown units."""
        return self.ipf_version >= (2, 43)

    @property
    def swath_names(self) -> tuple[str, ...]:
        """Sub-swaths from near to far range."""
        return tuple(bounds_by_swath(self.swaths))
