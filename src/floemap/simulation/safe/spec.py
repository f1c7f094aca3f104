"""Specification of a simulated Sentinel-1 EW GRDM product: size, place, time, kind, and the resulting names.

Lines are counted along the flight from the earliest one, pixels across it from near to far range, both from 0;
positions are those of pixel centres. Sub-swaths are numbered from 0 (EW1) to 4 (EW5).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError

SWATHS = ("EW1", "EW2", "EW3", "EW4", "EW5")
MISSIONS = ("S1A", "S1B", "S1C", "S1D")
MIN_SIZE_PX = 64
#: Size of a full scene; all spacings of look-up tables are proportional to it.
FULL_LINES, FULL_SAMPLES = 10708, 10487
#: Ground speed of the beam, from an orbital speed of 7.58 km/s; 5.8 ms a line of 40 m.
GROUND_SPEED_M_S = 6880.0

# Seams and first lines of sub-swaths in a full scene, as in a product of 2022: the bursts of EW1 begin first, those of
# the others follow, and after the first burst cycle the seams move a few samples towards near range.
_SEAMS_EARLY = (3118, 5021, 7092, 8966)
_SEAMS_LATE = (3112, 5013, 7084, 8959)
_OVERRUN = (12, 12, 14, 10)
_START_LINES = (0, 128, 226, 324, 422)
_SHIFT_LINE = 1345


@dataclass(frozen=True)
class Block:
    """A rectangle of one sub-swath in the image, including its last line and last sample."""

    swath: int
    first_line: int
    last_line: int
    first_sample: int
    last_sample: int


@dataclass(frozen=True)
class ProductSpec:
    """A product to simulate. Frozen: equal specifications give equal bytes.

    Attributes
    ----------
    start
        Time of the first line, UTC.
    lines, samples
        Size of the image.
    centre_lon, centre_lat
        Longitude and latitude of the middle of the image, degrees.
    heading_deg
        Direction in which lines follow each other on the ground at the centre, clockwise from north. The radar looks
        to the right of it.
    mission
        S1A to S1D.
    pixel_spacing_m
        Spacing of lines and of samples on the ground. A real scene has 40 m; a small scene with a larger spacing
        covers as much ground.
    stop
        Time of the last line; by default that of a real flight over the same distance.
    incidence_deg
        Incidence angle at the near and the far edge, whatever the size of the scene.
    ipf_version
        Version of the processor in the manifest.
    noise_format
        ``range_azimuth`` as from IPF 2.9 on, ``vectors`` as before.
    denoised
        Whether the annotated noise is subtracted from the pixels, as the annotation then states.
    naming
        ``esa`` long file names, or ``cloud`` short ones as in cloud buckets.
    container
        ``folder`` or ``zip``.
    cog
        Whether measurements are tiled and compressed and the name ends in ``_COG.SAFE``.
    seed
        Seed of speckle and of the noise's departure from its annotation.
    orbit, datatake, suffix
        Parts of the product's name: absolute orbit, data take as six and an identifier as four hexadecimal digits. If
        `suffix` is None, it is computed from the other fields.
    polarisations
        ``("HH", "HV")``; a single one, or VV and VH, for products that a reader should refuse or handle.
    noise_departure
        Size of the departure of the true noise from the annotated one, per sub-swath and in scalloping; 0 for none.
    """

    start: datetime
    lines: int
    samples: int
    centre_lon: float
    centre_lat: float
    heading_deg: float
    mission: str = "S1A"
    pixel_spacing_m: float = 40.0
    stop: datetime | None = None
    incidence_deg: tuple[float, float] = (18.9, 46.4)
    ipf_version: str = "003.52"
    noise_format: Literal["range_azimuth", "vectors"] = "range_azimuth"
    denoised: bool = False
    naming: Literal["esa", "cloud"] = "esa"
    container: Literal["folder", "zip"] = "folder"
    cog: bool = False
    seed: int = 0
    orbit: int = 20177
    datatake: str = "0226B9"
    suffix: str | None = None
    polarisations: tuple[str, ...] = ("HH", "HV")
    noise_departure: float = 0.04

    def __post_init__(self) -> None:
        near, far = self.incidence_deg
        # Each entry: condition, name of the field, its value, allowed values in words.
        checks = [
            (self.lines >= MIN_SIZE_PX, "lines", self.lines, f"at least {MIN_SIZE_PX}"),
            (self.samples >= MIN_SIZE_PX, "samples", self.samples, f"at least {MIN_SIZE_PX}"),
            (-90 <= self.centre_lat <= 90, "centre_lat", self.centre_lat, "between -90 and 90"),
            (np.isfinite(self.centre_lon), "centre_lon", self.centre_lon, "a finite number"),
            (np.isfinite(self.heading_deg), "heading_deg", self.heading_deg, "a finite number"),
            (self.mission in MISSIONS, "mission", self.mission, f"one of {', '.join(MISSIONS)}"),
            (0 < self.pixel_spacing_m * max(self.lines, self.samples) < 2e6, "pixel_spacing_m", self.pixel_spacing_m,
             "above 0, with the scene smaller than 2000 km"),
            (10 <= near < far <= 60, "incidence_deg", self.incidence_deg, "ascending, between 10 and 60"),
            (self.seed >= 0, "seed", self.seed, "0 or more"),
            (self.noise_departure >= 0, "noise_departure", self.noise_departure, "0 or more"),
            (re.fullmatch(r"[0-9A-F]{6}", self.datatake) is not None, "datatake", self.datatake, "six digits 0-F"),
            (self.suffix is None or re.fullmatch(r"[0-9A-F]{4}", self.suffix) is not None, "suffix", self.suffix,
             "four digits 0-F"),
            (self.stop is None or self.stop > self.start, "stop", self.stop, "after start"),
            (bool(self.polarisations) and set(self.polarisations) <= {"HH", "HV", "VV", "VH"}, "polarisations",
             self.polarisations, "of HH, HV, VV, VH"),
        ]  # fmt: skip
        for holds, name, value, allowed in checks:
            if not holds:
                raise ConfigError(f"a simulated product cannot have {name} = {value!r}; it must be {allowed}.")

    @property
    def line_interval_s(self) -> float:
        """Time from one line to the next, seconds."""
        if self.stop is None:
            return self.pixel_spacing_m / GROUND_SPEED_M_S
        return (self.stop - self.start).total_seconds() / (self.lines - 1)

    @property
    def stop_time(self) -> datetime:
        """Time of the last line."""
        return self.stop or self.time_of_line(self.lines - 1)

    def time_of_line(self, line: float) -> datetime:
        """Return the time at which a line was acquired, to the microsecond."""
        return self.start + timedelta(seconds=float(line) * self.line_interval_s)

    @property
    def relative_orbit(self) -> int:
        """Track of the 12-day cycle; later missions have the offset of S1A."""
        return (self.orbit - (27 if self.mission == "S1B" else 73)) % 175 + 1

    @property
    def polarisation_code(self) -> str:
        """``DH`` for HH and HV, ``DV`` for VV and VH, ``SH`` and ``SV`` for a single band."""
        return ("D" if len(self.polarisations) > 1 else "S") + self.polarisations[0][0]

    @property
    def name(self) -> str:
        """Name of the product without the suffix of a folder or archive."""
        begin, end = (f"{_utc(t):%Y%m%dT%H%M%S}" for t in (self.start, self.stop_time))
        head = f"{self.mission}_EW_GRDM_1S{self.polarisation_code}_{begin}_{end}_{self.orbit:06d}_{self.datatake}"
        suffix = self.suffix or f"{zlib.crc32(repr(self).encode()) & 0xFFFF:04X}"
        return f"{head}_{suffix}" + ("_COG" if self.cog else "")

    @property
    def folder_name(self) -> str:
        """Name of the product's folder; in cloud buckets without ``.SAFE``."""
        return self.name if self.naming == "cloud" and not self.cog else f"{self.name}.SAFE"

    def long_stem(self, polarisation: str) -> str:
        """Return ESA's file name of a band, without an extension, which manifests list in every form of the product."""
        begin, end = (f"{_utc(t):%Y%m%dt%H%M%S}" for t in (self.start, self.stop_time))
        number = self.polarisations.index(polarisation) + 1
        head = f"{self.mission}-ew-grd-{polarisation}-{begin}-{end}-{self.orbit:06d}-{self.datatake}".lower()
        return f"{head}-{number:03d}" + ("-cog" if self.cog else "")

    def file_stem(self, polarisation: str) -> str:
        """Return the name of a band's files on disk, without an extension."""
        return f"ew-{polarisation.lower()}" if self.naming == "cloud" else self.long_stem(polarisation)

    def blocks(self) -> list[Block]:
        """Return the blocks: a staircase at the first lines, then blocks before and after the shift of the seams."""
        rows = self.lines / FULL_LINES
        starts: list[int] = []
        for line in _START_LINES:
            starts.append(max(round(line * rows), starts[-1] + 1 if starts else 0))
        shift = max(round(_SHIFT_LINE * rows), starts[-1] + 1)
        early, late = self._seams(_SEAMS_EARLY), self._seams(_SEAMS_LATE)
        blocks = []
        for s, start in enumerate(starts):
            left, left_late = (early[s - 1], late[s - 1]) if s else (0, 0)
            if s < len(SWATHS) - 1:
                # Until the next sub-swath begins, this one extends past the seam, from a certain line by a sample less.
                over = max(2, round(_OVERRUN[s] * self.samples / FULL_SAMPLES))
                middle = start + (2 * (starts[s + 1] - start)) // 5
                cuts = [(start, middle, early[s] + over), (middle, starts[s + 1], early[s] + over - 1)]
                cuts.append((starts[s + 1], shift, early[s]))
                end = late[s]
            else:
                cuts, end = [(start, shift, self.samples)], self.samples
            blocks += [Block(s, a, b - 1, left, stop - 1) for a, b, stop in cuts if b > a]
            blocks.append(Block(s, shift, self.lines - 1, left_late, end - 1))
        return blocks

    def _seams(self, full: tuple[int, ...]) -> list[int]:
        return [round(x * self.samples / FULL_SAMPLES) for x in full]


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC) if time.tzinfo else time


def timestamp(time: datetime) -> str:
    """Return a time as in annotations: UTC, microseconds, no zone."""
    return f"{_utc(time):%Y-%m-%dT%H:%M:%S.%f}"


def steps(stop: int, step: int) -> NDArray[np.int64]:
    """Return the multiples of `step` below `stop`, and `stop` - 1."""
    return np.union1d(np.arange(0, stop, step), [stop - 1])
