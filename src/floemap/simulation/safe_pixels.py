"""Pixels of a simulated product: backscatter to DN with noise and speckle, block by block into a measurement file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.windows import Window

from floemap.errors import GridError
from floemap.simulation.safe_xml import Statistics
from floemap.version import __version__

F32 = NDArray[np.float32]
U16 = NDArray[np.uint16]

#: sigma0 of a block of lines, linear power: a function of a slice of lines, or the whole array (lines, samples).
Sigma0 = Callable[[slice], F32] | F32

#: Lines worked on at once.
BLOCK_LINES = 256
QUICKLOOK_PX = 520
DESCRIPTION = "SIMULATED by floemap; not an observation of the earth"


class NoiseRows(Protocol):
    """Gives, for the lines [first, stop), the arrays that turn sigma0 into DN."""

    def __call__(self, first: int, stop: int) -> RowLuts:
        """Return them."""


@dataclass(frozen=True)
class RowLuts:
    """What a block of lines needs. All (lines, samples), or (1, samples) where lines do not differ.

    Attributes
    ----------
    gain
        A^2, which turns sigma0 into DN^2.
    noise
        True noise in DN^2; NaN outside the image.
    subtracted
        Noise that the processor has subtracted, or None.
    """

    gain: F32
    noise: F32
    subtracted: F32 | None = None


@dataclass(frozen=True)
class Written:
    """What is known of a band once its pixels are written: statistics of DN, and a small picture of mean DN."""

    statistics: Statistics
    picture: F32


def digital_numbers(sigma0: F32, luts: RowLuts, rng: np.random.Generator, looks: float | None) -> U16:
    """DN of a block of lines.

    DN^2 = (sigma0 A^2 + noise) x gamma(looks) / looks, less what the processor subtracted, not below 0; rounded to
    whole numbers. Pixels outside the image are 0; those inside are at least 1, unless noise was subtracted, where a
    processor too leaves zeros.

    Parameters
    ----------
    sigma0
        Linear power, (lines, samples).
    luts
        Of the same lines.
    rng
        Of the speckle.
    looks
        Equivalent number of looks; None for no speckle.
    """
    power = np.multiply(sigma0, luts.gain, dtype=np.float32)
    power += luts.noise
    if looks is not None:
        speckle = rng.standard_gamma(looks, size=power.shape, dtype=np.float32)
        speckle *= np.float32(1 / looks)
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


def write_measurement(
    path: Path,
    shape: tuple[int, int],
    sigma0: Sigma0,
    rows: NoiseRows,
    *,
    rng: np.random.Generator,
    looks: float | None,
    gcps: Sequence[GroundControlPoint],
    cog: bool = False,
) -> Written:
    """Write one band's measurement: strips of one line like ESA's, or compressed tiles with `cog`.

    Parameters
    ----------
    path
        Of the TIFF.
    shape
        Lines, samples.
    sigma0
        Linear power, whole or by a function.
    rows
        The tables by lines.
    rng, looks
        Of the speckle; see :func:`digital_numbers`.
    gcps
        Tie points in WGS84 longitude and latitude.
    cog
        Tiled and deflated.

    Raises
    ------
    GridError
        If `sigma0` gives another shape.
    """
    lines, samples = shape
    step = -(-max(shape) // QUICKLOOK_PX)
    layout: dict[str, object] = {"blockysize": 1}
    if cog:
        layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    block_lines = 512 if cog else BLOCK_LINES  # whole rows of tiles
    total, squares, count = 0.0, 0.0, 0
    picture = np.zeros((lines // step, samples // step), np.float32)
    with (
        rasterio.Env(GDAL_CACHEMAX=64 << 20),
        rasterio.open(
            path, "w", driver="GTiff", height=lines, width=samples, count=1, dtype="uint16",
            gcps=list(gcps), crs="EPSG:4326", **layout,
        ) as tiff,
    ):  # fmt: skip
        tiff.update_tags(TIFFTAG_IMAGEDESCRIPTION=DESCRIPTION, TIFFTAG_SOFTWARE=f"floemap {__version__}")
        for first in range(0, lines, block_lines):
            stop = min(lines, first + block_lines)
            power = sigma0(slice(first, stop)) if callable(sigma0) else sigma0[first:stop]
            if power.shape != (stop - first, samples):
                raise GridError(
                    f"sigma0 of lines {first} to {stop - 1} has shape {power.shape}, not {(stop - first, samples)}."
                )
            dn = digital_numbers(power, rows(first, stop), rng, looks)
            tiff.write(dn, 1, window=Window(0, first, samples, stop - first))
            inside = dn[dn > 0].astype(np.float64)
            total, squares, count = total + inside.sum(), squares + np.dot(inside, inside), count + inside.size
            _add_to_picture(picture, dn, first, step)
    mean = total / max(count, 1)
    return Written(Statistics(mean, float(np.sqrt(max(squares / max(count, 1) - mean**2, 0)))), picture)


def _add_to_picture(picture: F32, dn: U16, first: int, step: int) -> None:
    """Add a block of lines to means of step x step pixels; a border narrower than a step is left out."""
    rows, cols = picture.shape
    row = (first + np.arange(dn.shape[0])) // step
    whole = row < rows
    sums = dn[whole, : cols * step].reshape(-1, cols, step).sum(axis=2, dtype=np.float32)
    np.add.at(picture, row[whole], sums / np.float32(step * step))
