"""Places of an AI4Arctic image's pixels on a grid, and pixels of places.

A grid is one of two. On a map, places follow from 21 x 21 tie points (:class:`TieLocator`). In image geometry, they are
the image's own lines and samples (:class:`ImageLocator`), and no pixel is resampled.

Between the tie points, map coordinates are cubic splines of line and sample; beyond them, they go on straight. The tie
points are those of the product's annotation, some 20 km apart. They hold at the annotated terrain's height, so pixels
beside mountains are displaced, which `floemap prepare` avoids on products as delivered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.interpolate import RectBivariateSpline

from floemap.datasets.ai4arctic.files import SceneFile, TiePoints
from floemap.errors import GridError
from floemap.grid import crs_of, image_crs, in_image_geometry, same_crs
from floemap.sentinel1.geolocation import InverseMap, metric_crs

Floats = NDArray[np.float64]

#: Distance between nodes of the lattice of image positions, metres.
_LATTICE_M = 2_560.0
_IMAGE_NODES_PX = 64
_STEPS, _PRECISION_PX = 20, 1e-3
#: Largest difference between a resolution and a multiple of the pixel spacing, as a share of the resolution.
_SAME_SPACING = 1e-3


class Locator(ABC):
    """Positions of an image's pixels on a grid.

    Attributes
    ----------
    shape
        Lines and samples of the image.
    tie
        Its tie points.
    crs
        CRS of the grid.
    """

    shape: tuple[int, int]
    tie: TiePoints
    crs: pyproj.CRS

    @abstractmethod
    def to_image(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return line and sample of coordinates of the grid's CRS, any shape."""

    @abstractmethod
    def grid(self, resolution_m: float) -> GeoBox:
        """Return the grid over the image."""

    def inverse_map(self, geobox: GeoBox, incidence_of_sample: Floats) -> InverseMap:
        """Return the image positions of a grid's pixels; incidence angles from those of the image's samples."""
        if crs_of(geobox).proj != self.crs:
            raise GridError(f"the grid's CRS is {crs_of(geobox)}, and not {self.crs.name}.")
        spacing = self._nodes_px(geobox)
        rows, cols = (np.arange(0, n + spacing, spacing, dtype=float) for n in geobox.shape)
        col, row = np.meshgrid(cols + 0.5, rows + 0.5)
        t = geobox.transform
        line, sample = self.to_image(t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f)
        at = np.arange(len(incidence_of_sample), dtype=float)
        incidence = np.interp(sample.ravel(), at, incidence_of_sample).reshape(sample.shape)
        return InverseMap(rows, cols, line, sample, incidence)

    def _nodes_px(self, geobox: GeoBox) -> int:
        """Return the distance between nodes of the lattice, pixels of the grid."""
        return max(1, round(_LATTICE_M / abs(geobox.resolution.x)))

    def corners_lonlat_deg(self) -> list[list[float]]:
        """Return longitude and latitude of the four corners, in order along the edge."""
        t = self.tie
        return [
            [float(t.longitude_deg[i, j]), float(t.latitude_deg[i, j])] for i, j in ((0, 0), (0, -1), (-1, -1), (-1, 0))
        ]


class ImageLocator(Locator):
    """The image's own lines and samples as a grid, in metres: x along the samples, y against the lines.

    Parameters
    ----------
    tie, shape
        The tie points, and lines and samples of the image.
    spacing_m
        Pixel spacing of the image.
    product
        Name of the product, which names the CRS.
    """

    def __init__(self, tie: TiePoints, shape: tuple[int, int], spacing_m: float, product: str) -> None:
        self.shape, self.tie, self.spacing_m = shape, tie, spacing_m
        self._crs = image_crs(product)
        self.crs = self._crs.proj

    def to_image(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return line and sample of coordinates of the image's plane, any shape."""
        return -np.asarray(y) / self.spacing_m - 0.5, np.asarray(x) / self.spacing_m - 0.5

    def grid(self, resolution_m: float) -> GeoBox:
        """Return the grid of whole blocks of pixels whose size is the resolution.

        Raises
        ------
        GridError
            If the resolution is not a multiple of the pixel spacing, or larger than the image.
        """
        n = round(resolution_m / self.spacing_m)
        if n < 1 or abs(resolution_m - n * self.spacing_m) > _SAME_SPACING * resolution_m:
            own = f"{self.spacing_m:g}"
            message = f"the resolution {resolution_m:g} m is not a multiple of the image's pixels of {own} m."
            raise GridError(message, hint=f"In image geometry give {own}, {2 * self.spacing_m:g} and so on.")
        rows, cols = (size // n for size in self.shape)
        if not rows or not cols:
            raise GridError(f"the image has {self.shape[0]} x {self.shape[1]} pixels only.")
        side = n * self.spacing_m
        return GeoBox((rows, cols), Affine(side, 0, 0, 0, -side, 0), self._crs)

    def _nodes_px(self, geobox: GeoBox) -> int:
        """Return a power of two, by which float32 divides whole and half positions without an error."""
        return _IMAGE_NODES_PX

    def tie_record(self, geobox: GeoBox) -> dict[str, Any]:
        """Return the tie points as entry of product.json; see :mod:`floemap.sentinel1.places`."""
        n, tie = abs(geobox.resolution.x) / self.spacing_m, self.tie
        return {
            "row": ((tie.line[:, 0] + 0.5) / n - 0.5).tolist(),
            "col": ((tie.sample[0] + 0.5) / n - 0.5).tolist(),
            "longitude_deg": tie.longitude_deg.tolist(),
            "latitude_deg": tie.latitude_deg.tolist(),
        }


class TieLocator(Locator):
    """Map coordinates of image positions and back.

    Parameters
    ----------
    tie
        The tie points.
    shape
        Lines and samples of the image.
    crs
        A CRS in metres; None for polar stereographic: EPSG:3413 in the north, EPSG:3031 in the south.

    Raises
    ------
    GridError
        If the CRS is not in metres, or does not cover the image.
    """

    def __init__(self, tie: TiePoints, shape: tuple[int, int], crs: str | None = None) -> None:
        self.shape, self.tie = shape, tie
        self.crs = metric_crs(crs or ("EPSG:3413" if tie.latitude_deg.mean() >= 0 else "EPSG:3031"))
        to_map = pyproj.Transformer.from_crs("EPSG:4326", self.crs, always_xy=True)
        x, y = to_map.transform(tie.longitude_deg, tie.latitude_deg)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise GridError(f"{self.crs.name} does not cover the whole image.", hint="Choose another CRS.")
        lines, samples = tie.line[:, 0], tie.sample[0]
        self._ends = ((lines[0], lines[-1]), (samples[0], samples[-1]))
        self._splines = tuple(RectBivariateSpline(lines, samples, field) for field in (x, y))
        ones = np.stack([np.ones_like(x), x, y], axis=-1).reshape(-1, 3)
        image = np.stack([tie.line, tie.sample], axis=-1).reshape(-1, 2)
        self._start, *_ = np.linalg.lstsq(ones, image, rcond=None)  # a plane through the tie points

    def to_map(self, line: Floats, sample: Floats) -> tuple[Floats, Floats]:
        """Return x and y, metres, of image positions, any shape."""
        x, y = (field[0] for field in self._with_slopes(line, sample))
        return x, y

    def to_image(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return line and sample of map coordinates, any shape, by Newton's method.

        Raises
        ------
        GridError
            If it does not converge: the tie points are not those of an image.
        """
        start = np.stack([np.ones_like(x), x, y], axis=-1) @ self._start
        line, sample = start[..., 0], start[..., 1]
        for _ in range(_STEPS):
            (at_x, x_line, x_sample), (at_y, y_line, y_sample) = self._with_slopes(line, sample)
            scale = x_line * y_sample - x_sample * y_line
            with np.errstate(divide="ignore", invalid="ignore"):
                down = ((x - at_x) * y_sample - (y - at_y) * x_sample) / scale
                along = ((y - at_y) * x_line - (x - at_x) * y_line) / scale
            line, sample = line + down, sample + along
            if not (np.isfinite(line).all() and np.isfinite(sample).all()):
                break
            if max(abs(down).max(), abs(along).max()) < _PRECISION_PX:
                return line, sample
        raise GridError("the tie points do not lie as those of an image.", hint="Download the file again.")

    def _with_slopes(self, line: Floats, sample: Floats) -> tuple[tuple[Floats, Floats, Floats], ...]:
        """Return each map coordinate and its slopes along lines and samples."""
        near_line, near_sample = np.clip(line, *self._ends[0]), np.clip(sample, *self._ends[1])
        found = []
        for spline in self._splines:
            down = spline.ev(near_line, near_sample, dx=1)
            along = spline.ev(near_line, near_sample, dy=1)
            value = spline.ev(near_line, near_sample)
            found.append((value + down * (line - near_line) + along * (sample - near_sample), down, along))
        return tuple(found)

    def grid(self, resolution_m: float) -> GeoBox:
        """Return the smallest grid over the image whose edges are multiples of the resolution."""
        lines, samples = (np.linspace(-0.5, n - 0.5, 60) for n in self.shape)
        x, y = self.to_map(*np.meshgrid(lines, samples, indexing="ij"))
        bounds = float(x.min()), float(y.min()), float(x.max()), float(y.max())
        return GeoBox.from_bbox(bounds, crs=self.crs, resolution=resolution_m)


def locator_on(file: SceneFile, geobox: GeoBox) -> Locator:
    """Return the places of a file's pixels on a grid, on a map or in the image geometry of the file's product.

    Raises
    ------
    GridError
        If the grid is in the image geometry of another product, or the tie points do not lie as those of an image.
    ProductError
        If the tie points cannot be read.
    """
    tie, crs = file.tie_points(), crs_of(geobox)
    if not in_image_geometry(geobox):
        return TieLocator(tie, file.shape, crs.to_wkt())
    if not same_crs(crs, image_crs(file.scene.product)):
        message = f"is a file of {file.scene.product}, and the grid is in image geometry: {crs.proj.name}."
        raise GridError(message, path=file.path, hint="Give the grid of the same product, or one on a map.")
    # Pixels of the grid are whole numbers of the file's pixels, or the other way round.
    pixel_m = float(abs(geobox.resolution.x))
    ratio = pixel_m / file.spacing_m
    n = round(ratio) if ratio > 0.75 else 1 / round(1 / ratio)
    return ImageLocator(tie, file.shape, pixel_m / n, file.scene.product)
