"""From a world to the backscatter of an image's lines: positions of pixels, their surface, its brightness.

Positions of pixels are computed on a lattice over the image and interpolated linearly; between nodes 32 pixels of 40 m
apart, the error is a few centimetres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyproj
from numpy.typing import NDArray

from floemap.simulation.safe.geometry import Geometry
from floemap.simulation.world.backscatter import Pol, sigma0
from floemap.simulation.world.surface import Truth
from floemap.simulation.world.texture import Bytes

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LATTICE_PX = 32
#: Largest patch of pixels with one surface: a pixel of prepared products.
PATCH_M = 80.0


class Scenery(Protocol):
    """A surface on a plane, such as :class:`floemap.simulation.world.surface.World`."""

    def truth(self, x_m: F32, y_m: F32) -> Truth:
        """Return the truth at positions, (rows, cols) each, metres."""


@dataclass(frozen=True)
class ImageLattice:
    """Positions of the pixels of an image on a plane, and their incidence angles.

    Attributes
    ----------
    shape
        Lines and samples of the image.
    x_m, y_m, incidence_deg
        Values at every 32nd line and pixel and one beyond, (nodes along lines, nodes along pixels).
    """

    shape: tuple[int, int]
    x_m: F64
    y_m: F64
    incidence_deg: F64

    @classmethod
    def over(cls, shape: tuple[int, int], locate: Callable[[F64, F64], tuple[Any, Any, Any]]) -> ImageLattice:
        """Return the lattice of an image; `locate` returns x, y and incidence at arrays of lines and pixels."""
        lines, pixels = (np.arange(0.0, n + LATTICE_PX, LATTICE_PX) for n in shape)
        x, y, incidence = locate(*np.meshgrid(lines, pixels, indexing="ij"))
        return cls(shape, *(np.asarray(a, float) for a in (x, y, incidence)))

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of the lattice, which extends somewhat beyond the image."""
        return float(self.x_m.min()), float(self.y_m.min()), float(self.x_m.max()), float(self.y_m.max())

    def at(self, lines: NDArray[Any], pixels: NDArray[Any]) -> tuple[F32, F32, F32]:
        """Return x, y and incidence at the grid of 1-D lines and pixels, (lines, pixels) each."""
        down, along = _hat(lines, self.x_m.shape[0]), _hat(pixels, self.x_m.shape[1])

        def interpolated(field: F64) -> F32:
            middle = float(field.mean())  # the digits of float32 suffice for differences from it
            return np.asarray(down @ (field - middle).astype(np.float32) @ along.T + np.float32(middle), np.float32)

        return interpolated(self.x_m), interpolated(self.y_m), interpolated(self.incidence_deg)


def _hat(positions: NDArray[Any], nodes: int) -> F32:
    """Return the weights of linear interpolation from the lattice, (positions, nodes)."""
    return np.maximum(0, 1 - abs(positions[:, None] / LATTICE_PX - np.arange(nodes))).astype(np.float32)


def image_of(geometry: Geometry, crs: str) -> ImageLattice:
    """Return the lattice of a simulated product on a map."""
    spec = geometry.spec
    to_map = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)

    def locate(lines: F64, pixels: F64) -> tuple[Any, Any, Any]:
        return *to_map.transform(*geometry.lonlat(lines, pixels)), geometry.incidence_deg(pixels)

    return ImageLattice.over((spec.lines, spec.samples), locate)


class SceneryRows:
    """sigma0 of blocks of lines, all polarisations at once, for :func:`floemap.simulation.safe.writer.write_safe`.

    `surface` keeps the surface of all lines computed so far, one code for each patch of pixels.

    Parameters
    ----------
    scenery
        The surface on the plane of `image`.
    image
        Positions of the pixels.
    month
        1 to 12, the month in the northern hemisphere with this season.
    polarisations
        Polarisations of HH and HV to return.
    patch_px
        Side of the square patches of pixels with one surface.
    """

    def __init__(
        self, scenery: Scenery, image: ImageLattice, month: int, polarisations: Sequence[str], patch_px: int = 1
    ) -> None:
        self.scenery, self.image, self.month = scenery, image, month
        self.polarisations, self.patch_px = tuple(polarisations), patch_px
        lines, samples = image.shape
        self.surface: Bytes = np.zeros((-(-lines // patch_px), -(-samples // patch_px)), np.uint8)

    def __call__(self, lines: slice) -> dict[str, F32]:
        """Return sigma0 of the lines [start, stop), linear power, (lines, samples) by polarisation."""
        n = self.patch_px
        first, last = lines.start // n, -(-lines.stop // n)
        middle = (n - 1) / 2
        rows = np.arange(first, last) * float(n) + middle
        x, y, incidence = self.image.at(rows, np.arange(self.surface.shape[1]) * float(n) + middle)
        truth = self.scenery.truth(x, y)
        self.surface[first:last] = truth.surface
        cut = slice(lines.start - first * n, lines.stop - first * n)
        shown = {}
        for p in self.polarisations:
            band: Pol = "HH" if p == "HH" else "HV"
            texture = truth.texture_hh if p == "HH" else truth.texture_hv
            power = sigma0(truth.surface, incidence, self.month, band, truth.wind_m_s, texture)
            if n > 1:
                power = np.repeat(np.repeat(power, n, axis=0)[cut], n, axis=1)[:, : self.image.shape[1]]
            shown[p] = power
        return shown


def patch_px(pixel_spacing_m: float) -> int:
    """Return the side of a patch in pixels: as many as fit into :data:`PATCH_M`, at least one."""
    return max(1, int(PATCH_M / pixel_spacing_m + 1e-6))
