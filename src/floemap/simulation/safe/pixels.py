"""Pixels of a simulated product: backscatter to DN with noise and speckle, block by block into measurement files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.errors import RasterioError
from rasterio.windows import Window

from floemap.cog import deepest_reason
from floemap.errors import GridError, OutputError
from floemap.progress import Progress, silent
from floemap.simulation.safe.annotation import Statistics
from floemap.simulation.safe.speckle import Speckle
from floemap.threads import in_order
from floemap.version import __version__

F32 = NDArray[np.float32]
U16 = NDArray[np.uint16]

#: sigma0 of one band, linear power: the whole array (lines, samples), or a function of a slice of lines.
Band = Callable[[slice], F32] | F32
#: sigma0 of all bands by polarisation: band by band, or a function of a slice of lines that gives all at once.
Sigma0 = Mapping[str, Band] | Callable[[slice], Mapping[str, F32]]

#: Lines worked on at once: half a row of tiles of a COG.
BLOCK_LINES = 256
QUICKLOOK_PX = 520
DESCRIPTION = "SIMULATED by floemap; not an observation of the earth"


@dataclass(frozen=True)
class RowLuts:
    """Look-up tables of a block of lines, (lines, samples), or (1, samples) if all lines are equal.

    Attributes
    ----------
    gain
        A^2, the factor from sigma0 to DN^2.
    noise
        True noise in DN^2; NaN outside the image.
    subtracted
        Noise in DN^2 that the processor has subtracted; None if it subtracts none.
    """

    gain: F32
    noise: F32
    subtracted: F32 | None = None


class RowTables(Protocol):
    """A function of a polarisation and the lines [first, stop) that returns their look-up tables."""

    def __call__(self, polarisation: str, first: int, stop: int) -> RowLuts:
        """Return the tables."""


@dataclass
class Written:
    """Sums over the pixels of a band inside the image, and a small picture of mean DN."""

    picture: F32
    step: int
    total: float = 0.0
    squares: float = 0.0
    count: int = 0

    @property
    def statistics(self) -> Statistics:
        """Mean and standard deviation of DN inside the image."""
        mean = self.total / max(self.count, 1)
        return Statistics(mean, float(np.sqrt(max(self.squares / max(self.count, 1) - mean**2, 0.0))))

    def add(self, dn: U16, first: int) -> None:
        """Add a block of lines; the picture omits a border that is narrower than one of its pixels."""
        inside = dn[dn > 0].astype(np.float64)
        self.total += float(inside.sum())
        self.squares += float(np.dot(inside, inside))
        self.count += inside.size
        rows, cols = self.picture.shape
        row = (first + np.arange(dn.shape[0])) // self.step
        whole = row < rows
        sums = dn[whole, : cols * self.step].reshape(-1, cols, self.step).sum(axis=2, dtype=np.float32)
        np.add.at(self.picture, row[whole], sums / np.float32(self.step**2))


def digital_numbers(sigma0: F32, luts: RowLuts, speckle: F32 | None) -> U16:
    """Return the DN of a block of lines.

    DN^2 = (sigma0 A^2 + noise) x speckle - subtracted noise, at least 0; DN are rounded to whole numbers. Pixels
    outside the image are 0. Pixels inside are at least 1, unless noise was subtracted: then a real processor leaves
    zeros, too.

    Parameters
    ----------
    sigma0
        Linear power, (lines, samples).
    luts
        Look-up tables of the same lines.
    speckle
        Factors with mean 1, (lines, samples), of echo and noise; None for no speckle.
    """
    power = np.multiply(sigma0, luts.gain, dtype=np.float32)
    power += luts.noise
    if speckle is not None:
        power *= speckle
    outside = np.isnan(power)
    power[outside] = 0
    if luts.subtracted is not None:
        power -= np.where(outside, np.float32(0), luts.subtracted)
    np.maximum(power, 0, out=power)
    np.sqrt(power, out=power)
    np.rint(power, out=power)
    np.clip(power, 0 if luts.subtracted is not None else 1, 65535, out=power)
    power[outside] = 0
    return power.astype(np.uint16)


def tie_points(
    lines: NDArray[Any], pixels: NDArray[Any], lon_deg: NDArray[Any], lat_deg: NDArray[Any], height_m: NDArray[Any]
) -> list[GroundControlPoint]:
    """Return a geolocation grid as tie points for TIFFs, where the centre of a pixel is half a pixel from its corner.

    `lines` and `pixels` are 1-D, the others (lines, pixels).
    """
    return [
        GroundControlPoint(
            row=float(line) + 0.5, col=float(pixel) + 0.5, x=float(lon_deg[i, j]), y=float(lat_deg[i, j]),
            z=float(height_m[i, j]),
        )
        for i, line in enumerate(lines)
        for j, pixel in enumerate(pixels)
    ]  # fmt: skip


def write_measurements(
    paths: Mapping[str, Path],
    shape: tuple[int, int],
    sigma0: Sigma0,
    tables: RowTables,
    *,
    seed: int,
    looks: float | None,
    spacing_m: tuple[float, float],
    gcps: Sequence[GroundControlPoint],
    cog: bool = False,
    threads: int = 2,
    progress: Progress = silent,
) -> dict[str, Written]:
    """Write the measurements of all bands: strips of one line like ESA's, or compressed tiles with `cog`.

    Parameters
    ----------
    paths
        TIFF by polarisation.
    shape
        Lines, samples.
    sigma0
        Linear power. Several threads call the functions, each in the order of lines.
    tables
        Look-up tables of blocks of lines.
    seed, looks, spacing_m
        Seed of the speckle, its equivalent number of looks (None for no speckle), and the distances of lines and of
        samples; see :class:`~floemap.simulation.safe.speckle.Speckle`. The result does not depend on `threads`.
    gcps
        Tie points in WGS84 longitude and latitude.
    cog
        Write compressed tiles.
    threads
        Number of blocks of lines computed at the same time.

    Raises
    ------
    GridError
        If `sigma0` has another shape.
    ConfigError
        If the number of looks is below 1.
    OutputError
        If a file cannot be written whole.
    """
    lines, samples = shape
    step = -(-max(shape) // QUICKLOOK_PX)
    written = {p: Written(np.zeros((lines // step, samples // step), np.float32), step) for p in paths}
    layout: dict[str, Any] = {"blockysize": 1}
    if cog:
        layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}

    def block(first: int) -> tuple[int, dict[str, U16]]:
        stop = min(lines, first + BLOCK_LINES)
        power = _rows(sigma0, slice(first, stop), paths)
        made = {}
        for index, p in enumerate(paths):
            if power[p].shape != (stop - first, samples):
                raise GridError(
                    f"sigma0 of {p}, lines {first} to {stop - 1}, has shape {power[p].shape}, "
                    f"not {(stop - first, samples)}."
                )
            speckle = None
            if looks is not None:
                speckle = Speckle(looks, spacing_m, samples, key=(seed, 2, index)).rows(first, stop)
            made[p] = digital_numbers(power[p], tables(p, first, stop), speckle)
        return first, made

    with _gdal_errors(next(iter(paths.values()))), ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=64 << 20))
        tiffs = {}
        for p, path in paths.items():
            tiffs[p] = stack.enter_context(
                rasterio.open(
                    path, "w", driver="GTiff", height=lines, width=samples, count=1, dtype="uint16",
                    gcps=list(gcps), crs="EPSG:4326", **layout,
                )
            )  # fmt: skip
            tiffs[p].update_tags(TIFFTAG_IMAGEDESCRIPTION=DESCRIPTION, TIFFTAG_SOFTWARE=f"floemap {__version__}")
        for first, made in in_order((partial(block, f) for f in range(0, lines, BLOCK_LINES)), threads):
            for p, dn in made.items():
                tiffs[p].write(dn, 1, window=Window(0, first, samples, dn.shape[0]))
                written[p].add(dn, first)
            progress(min(first + BLOCK_LINES, lines), lines, "pixels")
    for path in paths.values():
        with (
            _gdal_errors(path),
            rasterio.open(path, driver="GTiff") as tiff,
        ):  # the writer does not report every full disk
            tiff.read(1, window=Window(0, lines - 1, samples, 1))
    return written


@contextmanager
def _gdal_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except RasterioError as e:
        hint = "Is there space and permission?"
        raise OutputError(f"cannot be written: {deepest_reason(e)}.", path=path, hint=hint) from e


def _rows(sigma0: Sigma0, lines: slice, polarisations: Mapping[str, Any]) -> Mapping[str, F32]:
    if callable(sigma0):
        return sigma0(lines)
    bands = {p: sigma0[p] for p in polarisations}
    return {p: b(lines) if callable(b) else b[lines] for p, b in bands.items()}
