"""Reading AI4Arctic's files: only what is asked for, in strips of lines, with the files' traps undone.

A file is opened by :func:`open_scene_file`, which reads its attributes and the shapes of its variables and refuses what
is not of the form. Lines are read in strips that end where the file's chunks end, so each chunk is decompressed once
and no more than a strip is in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
import pyproj
from numpy.typing import NDArray

from floemap.datasets.ai4arctic.codes import TITLES, PolygonCodes, parse_polygon_codes
from floemap.datasets.ai4arctic.form import (
    ASID2,
    CHARTS,
    COARSE,
    LINES,
    NO_CLASS,
    POLYGON_CODES,
    POLYGONS,
    SCALING,
    SPACING_M,
    TIE_POINTS,
    VARIABLES,
    Kind,
    Variable,
)
from floemap.datasets.ai4arctic.scenes import SIMULATED, Ai4Scene, FileName, by_name, parse_name
from floemap.errors import ProductError
from floemap.files import regular_file

Floats = NDArray[np.float32]

#: What h5py raises for damaged and foreign files.
UNREADABLE = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
#: Largest number of lines or samples, and of pixels, more than any Sentinel-1 image has: a scene of 10,000 x 10,500 raw
#: pixels is usual. A file may declare more than it stores.
_MOST_ON_A_SIDE: int = 40_000
_MOST_PIXELS: Mapping[Kind, int] = MappingProxyType({"raw": 160_000_000, "ready": 40_000_000})
#: Largest number of bytes in one chunk of a file.
_MOST_CHUNK_BYTES = 1 << 28
#: Lines of a strip, where the chunks of the file do not ask for more, and the most that they get.
_STRIP_LINES, _MOST_STRIP_LINES = 512, 2048
#: Largest magnitude of a band, dB.
_MOST_DB = 200.0
_AGAIN = "Download the file again."
#: Global attribute of simulated files.
SIMULATED_ATTRIBUTE = "simulated"
_ASID2_NAME = re.compile(
    rf"({SIMULATED})?(?P<start>\d{{8}}T\d{{6}})_(?P<mission>S1[AB])_AMSR2_Icechart-Greenland-(?P<region>[A-Za-z]+)\.nc"
)
#: Least number of tie points along a side that a cubic spline takes.
_LEAST_TIE_POINTS = 4
_BANDS = {"hh": "nersc_sar_primary", "hv": "nersc_sar_secondary"}


@dataclass(frozen=True)
class TiePoints:
    """Tie points of an image, (21, 21) float64 each, lines on the first axis.

    Attributes
    ----------
    line, sample
        Positions in the image of 80 or 40 m pixels, from 0 at the centre of the first pixel.
    latitude_deg, longitude_deg
        Their places.
    incidence_deg
        Incidence angles; None in ready-to-train files, which have the angle of every pixel.
    """

    line: NDArray[np.float64]
    sample: NDArray[np.float64]
    latitude_deg: NDArray[np.float64]
    longitude_deg: NDArray[np.float64]
    incidence_deg: NDArray[np.float64] | None = None


class SceneFile:
    """An open file of a scene; see :func:`open_scene_file`.

    Attributes
    ----------
    path, kind, shape
        The file, "ready" or "raw", and its lines and samples.
    file_name
        What the name of the file says; None for another name.
    product
        Name of the Sentinel-1 product.
    spacing_m
        Pixel spacing.
    simulated
        Whether the file says, by its attribute or its name, that it is simulated.
    """

    #: Whether it has bands in dB.
    has_bands = True
    #: Number of tie points along a side; None where it is not fixed.
    _tie_points: int | None = TIE_POINTS

    def __init__(self, path: Path, file: h5py.File, name: str) -> None:
        self.path, self._file = path, file
        self.file_name: FileName | None = parse_name(name)
        self.name = name
        self.kind: Kind = self._kind()
        self._check_variables()
        self.shape = self._shape()
        attributes = {str(k): _plain(v) for k, v in file.attrs.items()}
        self.simulated = SIMULATED_ATTRIBUTE in attributes or name.startswith(SIMULATED)
        self.flip = attributes.get("flip", 0)
        spacing = attributes["pixel_spacing"] if "pixel_spacing" in attributes else self._measured_spacing()
        if not isinstance(spacing, int | float) or not 0 < spacing < 1e5:
            raise self._error(f"has the pixel_spacing {spacing!r}", "It is 80 in ready-to-train files, in metres.")
        self.spacing_m = float(spacing)
        self._attributes = attributes

    @property
    def scene(self) -> Ai4Scene:
        """The scene: from the file's name, its attribute original_id, or the official list.

        Raises
        ------
        ProductError
            If none of them names it.
        """
        if self.file_name is not None and self.file_name.scene is not None:
            return self.file_name.scene
        inside = self.scene_by_attributes
        if inside is None:
            raise self._error("does not say which scene it is", "Give it the name that it was published with.")
        return inside

    @property
    def scene_by_attributes(self) -> Ai4Scene | None:
        """The scene that the attributes name, whatever the name of the file; None if they name none."""
        upstream, chart = self._attribute(_BANDS["hh"], "upstream_id"), self._attribute(POLYGONS, "icechart_id")
        for name in (str(self._attributes.get("original_id", "")), f"{upstream}_icechart_{chart}.nc"):
            if (named := parse_name(name)) is not None and named.scene is not None:
                return named.scene
        service = str(self._attributes.get("ice_service", ""))
        known = by_name().get("_".join((*upstream.split("_")[4:5], service)))
        return known[0] if known is not None else None

    def _attribute(self, variable: str, name: str) -> str:
        found = self._file.get(variable)
        return "" if found is None else str(_plain(found.attrs.get(name, "")))

    @property
    def start(self) -> datetime:
        """Start of the acquisition, UTC."""
        return self.scene.start

    @property
    def charts(self) -> tuple[str, ...]:
        """Names of the charts in a ready-to-train file; test scenes have theirs in the reference file."""
        return tuple(c for c in CHARTS if c in self._file)

    @property
    def has_polygons(self) -> bool:
        """Whether a raw file has the raster and the table of polygons; the first test files lack them."""
        return POLYGONS in self._file and POLYGON_CODES in self._file

    @property
    def has_tie_points(self) -> bool:
        """Whether the file has tie points; a reference file may lack them."""
        return f"sar_grid{'2d' if self.kind == 'ready' else ''}_latitude" in self._file

    def strips(self, multiple: int = 1) -> Iterator[tuple[int, int]]:
        """Give the first and the last line + 1 of strips that end where chunks end, and at multiples of `multiple`.

        If the chunks of charts and bands end together nowhere near, those of the bands count.
        """
        step = int(np.lcm.reduce([*self._chunk_lines.values(), multiple]))
        if step > _MOST_STRIP_LINES:
            step = int(np.lcm(self._chunk_lines.get(_BANDS["hh"], 1), multiple))
        step *= -(-_STRIP_LINES // step)
        for first in range(0, self.shape[0], step):
            yield first, min(first + step, self.shape[0])

    def band_db(self, band: str, first: int, stop: int) -> Floats:
        """Return sigma nought of "hh" or "hv" of lines [first, stop), (lines, samples), dB, NaN in gaps.

        In a ready-to-train file a pixel of exactly the global mean is stored as 0 and taken for a gap, too.

        Raises
        ------
        ProductError
            If it cannot be read, or a value is beyond any backscatter.
        """
        found = self.values(_BANDS[band], first, stop)
        with np.errstate(invalid="ignore"):
            if (odd := np.abs(found) > _MOST_DB).any():
                raise self._error(f"its variable {_BANDS[band]} has the value {found[odd][0]:g} dB", _AGAIN)
        return found

    def incidence_deg(self, first: int, stop: int) -> Floats:
        """Return the incidence angle of lines [first, stop), (lines, samples), degrees, NaN in gaps.

        In raw files it is interpolated between the tie points along the samples: it changes little along the lines.
        """
        if self.kind == "ready":
            return self.values("sar_incidenceangle", first, stop)
        tie = self.tie_points()
        assert tie.incidence_deg is not None
        from scipy.interpolate import RectBivariateSpline

        at = RectBivariateSpline(tie.line[:, 0], tie.sample[0], tie.incidence_deg, kx=1, ky=3)
        return np.asarray(at(np.arange(first, stop), np.arange(self.shape[1])), np.float32)

    def values(self, name: str, first: int = 0, stop: int | None = None) -> Floats:
        """Return a variable that is scaled in ready-to-train files, in its unit, lines [first, stop), NaN in gaps.

        Raises
        ------
        ProductError
            If the file has no such variable, or it cannot be read.
        """
        stored = np.asarray(self.stored(name, first, stop), np.float32)
        if self.kind == "raw":
            return stored
        return undo_scaling(name, stored)

    def stored(self, name: str, first: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return lines [first, stop) of a variable as the file has them, all by default.

        Raises
        ------
        ProductError
            If the file has no such variable, or it cannot be read.
        """
        try:
            return np.asarray(self._file[name][first:stop])
        except UNREADABLE as e:
            raise self._error(f"its variable {name} cannot be read: {_brief(e)}", _AGAIN) from e

    def chart(self, name: str, first: int, stop: int) -> NDArray[np.uint8]:
        """Return the classes SIC, SOD or FLOE of lines [first, stop), (lines, samples) uint8, 255 for none.

        Raises
        ------
        ProductError
            If the file has no such chart, or the chart has a class outside the table.
        """
        if name not in self.charts:
            hint = "The charts of the test scenes are in the files that end in _prep_reference.nc."
            raise self._error(f"has no chart {name}", hint)
        classes = self.stored(name, first, stop)
        found = np.flatnonzero(np.bincount(classes.ravel().astype(np.uint8), minlength=256))
        if other := [int(k) for k in found if k != NO_CLASS and k not in TITLES[name]]:
            last = max(TITLES[name])
            raise self._error(f"its chart {name} has the class {other[0]}", f"Classes are 0 to {last}, and {NO_CLASS}.")
        return classes.astype(np.uint8)

    def polygon_ids(self, first: int, stop: int) -> NDArray[np.int32]:
        """Return the ids of polygons of lines [first, stop) of a raw file, (lines, samples) int32, -1 for none."""
        stored = np.asarray(self.stored(POLYGONS, first, stop), np.float32)
        with np.errstate(invalid="ignore"):
            ids = np.where(np.isfinite(stored) & (np.abs(stored) < 2**30), stored, -1).astype(np.int32)
        return ids

    def polygon_codes(self) -> PolygonCodes:
        """Return the table of a raw file's polygons.

        Raises
        ------
        ProductError
            If the file has none.
        ChartError
            If the table is not of the form.
        """
        if not self.has_polygons:
            raise self._error("has no polygons", "The first files of the test scenes have none; get the later ones.")
        rows = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in self.stored(POLYGON_CODES)]
        return parse_polygon_codes(rows)

    def tie_points(self) -> TiePoints:
        """Return the tie points.

        Raises
        ------
        ProductError
            If they are not 21 x 21 finite places.
        """
        if self.kind == "raw":
            names = ("line", "sample", "latitude", "longitude", "incidenceangle")
            line, sample, lat, lon, incidence = (
                self.stored(f"sar_grid_{n}").astype(float).reshape(TIE_POINTS, TIE_POINTS) for n in names
            )
        else:
            lat, lon = (self.stored(f"sar_grid2d_{n}").astype(float) for n in ("latitude", "longitude"))
            # From the first to the last pixel of the raw image, two of whose pixels are one here.
            ends = [np.linspace(-0.25, n - 0.75, TIE_POINTS) for n in self.shape]
            (line, sample), incidence = np.meshgrid(*ends, indexing="ij"), None
        if not (np.isfinite(lat).all() and np.isfinite(lon).all() and (abs(lat) <= 90).all()):
            raise self._error("its tie points are not latitudes and longitudes", _AGAIN)
        if self.kind == "raw" and not (_rising(line[:, 0]) and _rising(sample[0])):
            raise self._error("its tie points do not follow the lines and samples", _AGAIN)
        return TiePoints(line, sample, lat, lon, incidence)

    def _measured_spacing(self) -> float:
        """Return the spacing of samples by the tie points in metres, or the published one if they are within a tenth.

        Simulated scenes of less than full size have larger pixels, and raw files have no attribute that says so.
        """
        published = SPACING_M[self.kind]
        try:
            tie = self.tie_points()
        except (*UNREADABLE, ProductError):  # who needs the tie points gets the error
            return published
        middle = len(tie.line) // 2
        lon, lat = (list(field[middle, [0, -1]]) for field in (tie.longitude_deg, tie.latitude_deg))
        samples = float(tie.sample[0, -1] - tie.sample[0, 0])
        measured = pyproj.Geod(ellps="WGS84").line_length(lon, lat) / samples
        return published if abs(measured - published) <= 0.1 * published else round(measured, 2)

    @property
    def _variables(self) -> tuple[Variable, ...]:
        """The variables that a file of its form has."""
        return VARIABLES[self.kind]

    def _kind(self) -> Kind:
        if "sar_grid2d_latitude" in self._file or any(c in self._file for c in CHARTS):
            return "ready"
        if "sar_grid_latitude" in self._file:
            return "raw"
        known = ", ".join(list(self._file)[:8])
        hint = "A raw file has sar_grid_latitude, a ready-to-train file sar_grid2d_latitude or SIC, SOD, FLOE."
        raise self._error(f"is not a file of AI4Arctic: it has {known or 'no variables'}", hint)

    def _check_variables(self) -> None:
        """Refuse variables that are missing, or lie in other files, or whose chunks would fill the memory."""
        charts_only = self.file_name is not None and self.file_name.reference
        test = {*CHARTS} if self.kind == "ready" else {POLYGONS, POLYGON_CODES} if self.has_bands else set()
        for variable in self._variables:
            if variable.name not in self._file:
                if variable.name in test or charts_only:
                    continue
                raise self._error(f"lacks the variable {variable.name}", _AGAIN)
            link = self._file.get(variable.name, getlink=True)
            found = self._file[variable.name]
            if not isinstance(link, h5py.HardLink) or not isinstance(found, h5py.Dataset):
                raise self._error(f"its variable {variable.name} is a link or a group", _AGAIN)
            if found.external or found.is_virtual:
                raise self._error(f"its variable {variable.name} lies in another file", _AGAIN)
            if found.ndim != len(variable.dimensions):
                shape = " x ".join(map(str, found.shape))
                wanted = f"It has the {len(variable.dimensions)} dimensions {', '.join(variable.dimensions)}."
                raise self._error(f"its variable {variable.name} has the shape {shape or '()'}", wanted)
            if (found.dtype.kind in "fiu") != (variable.dtype != "str"):
                raise self._error(f"its variable {variable.name} has the type {found.dtype}", _AGAIN)
            if found.chunks and np.prod(found.chunks, dtype=float) * found.dtype.itemsize > _MOST_CHUNK_BYTES:
                raise self._error(f"its variable {variable.name} has chunks of more than 256 MiB", _AGAIN)

    def _shape(self) -> tuple[int, int]:
        shapes: dict[tuple[str, ...], tuple[str, tuple[int, ...]]] = {}
        for variable in self._variables:
            if variable.name not in self._file:
                continue
            shape = tuple(self._file[variable.name].shape)
            first, other = shapes.setdefault(variable.dimensions, (variable.name, shape))
            if shape != other:
                raise self._error(f"{first} has the shape {other}, and {variable.name} {shape}", _AGAIN)
        for dimensions, (name, shape) in shapes.items():
            square = {POLYGON_CODES: None, LINES: None, COARSE[0]: None}.get(dimensions[0], self._tie_points)
            if square and int(np.prod(shape)) != square**2:
                raise self._error(f"{name} has the shape {shape}", f"There are {square} x {square} tie points.")
            much = max(shape, default=0) > _MOST_ON_A_SIDE or np.prod(shape, dtype=float) > _MOST_PIXELS[self.kind]
            if much or min(shape, default=0) < 1:
                raise self._error(f"{name} has the shape {shape}", _AGAIN)
        _, shape = next(v for d, v in shapes.items() if d[0] == LINES)
        images = [v.name for v in self._variables if v.dimensions[0] == LINES and v.name in self._file]
        chunks = {name: self._file[name].chunks for name in images}
        self._chunk_lines: dict[str, int] = {name: c[0] for name, c in chunks.items() if c}
        return shape[0], shape[1]

    def _error(self, what: str, hint: str) -> ProductError:
        return ProductError(f"{what}.", path=self.path, hint=hint)


class Asid2File(SceneFile):
    """An open file of ASID-v2, the dataset of 2020 (DOI 10.11583/DTU.13011134): its chart, on 40 m pixels.

    Charts have the form of raw files, with 0 where there is no polygon, and tie points that need not be 21 x 21. The
    backscatter is scaled to -1 to 1 by numbers that are not in the file, so bands are not read: the chart goes on the
    product as delivered. What the files have besides is known from programs that read them, and from no file.
    """

    has_bands = False
    _tie_points = None

    @property
    def _variables(self) -> tuple[Variable, ...]:
        return ASID2

    def _kind(self) -> Kind:
        return "raw"

    @property
    def scene(self) -> Ai4Scene:
        """The scene, of whose product only satellite and start are known."""
        match = _ASID2_NAME.fullmatch(self.name)
        if match is None:
            hint = "Give it the name that it was published with: START_S1A_AMSR2_Icechart-Greenland-REGION.nc."
            raise self._error("does not say which scene it is", hint)
        product = f"{match['mission']}_EW_GRDM_1SDH_{match['start']}"
        return Ai4Scene(product, f"dmi_{match['start'][:8]}_{match['region']}_RIC")

    def polygon_ids(self, first: int, stop: int) -> NDArray[np.int32]:
        """Return the ids of polygons of lines [first, stop), (lines, samples) int32, -1 for none."""
        ids = super().polygon_ids(first, stop)
        return np.where(ids == 0, -1, ids).astype(np.int32)

    def tie_points(self) -> TiePoints:
        """Return the tie points.

        Raises
        ------
        ProductError
            If they are not finite places on a grid of lines and samples.
        """
        line, sample, lat, lon = (
            self.stored(f"sar_grid_{n}").astype(float) for n in ("line", "sample", "latitude", "longitude")
        )
        order = np.lexsort((sample, line))
        rows, cols = len(np.unique(line)), len(np.unique(sample))
        if rows * cols != len(line) or min(rows, cols) < _LEAST_TIE_POINTS:
            raise self._error(f"its {len(line)} tie points are not on a grid of lines and samples", _AGAIN)
        line, sample, lat, lon = (field[order].reshape(rows, cols) for field in (line, sample, lat, lon))
        places = np.isfinite(lat).all() and np.isfinite(lon).all() and (abs(lat) <= 90).all()
        if not (places and (line == line[:, :1]).all() and (sample == sample[:1]).all()):
            raise self._error("its tie points are not places on a grid of lines and samples", _AGAIN)
        return TiePoints(line, sample, lat, lon)


@contextmanager
def open_scene_file(path: str | Path, name: str | None = None) -> Iterator[SceneFile]:
    """Open a raw, a ready-to-train or a reference file of a scene, or one of ASID-v2, while the block runs.

    Parameters
    ----------
    path
        The file.
    name
        Its published name; by default that of the path.

    Raises
    ------
    ProductError
        If it is truncated, not NetCDF-4, or not of the form of AI4Arctic's files; the message names the variable.
    """
    path = Path(path)
    regular_file(path, ProductError)
    try:
        file = h5py.File(path, "r", locking=False)
    except UNREADABLE as e:
        raise ProductError(
            f"cannot be read as NetCDF-4: {_brief(e)}.", path=path, hint=f"If it is truncated, {_AGAIN.lower()}"
        ) from e
    with file:
        try:
            form = Asid2File if "sar_primary" in file and POLYGONS in file else SceneFile
            opened = form(path, file, name or path.name)
        except UNREADABLE as e:
            raise ProductError(f"is damaged: {_brief(e)}.", path=path, hint=_AGAIN) from e
        yield opened


def undo_scaling(name: str, stored: Floats) -> Floats:
    """Return values in their unit from standard scores, with NaN where the score is 0: a gap."""
    scaling = SCALING[name]
    values = stored * np.float32(scaling.std) + np.float32(scaling.mean)
    values[(stored == 0) | ~np.isfinite(stored)] = np.nan
    return values


def _rising(values: NDArray[np.float64]) -> bool:
    return bool((np.diff(values) > 0).all())


def _plain(value: Any) -> Any:
    """Return an attribute as text, number, or list of them."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        plain = [_plain(v) for v in value.tolist()] if value.ndim else _plain(value.item())
        return plain[0] if isinstance(plain, list) and len(plain) == 1 else plain
    return value.item() if isinstance(value, np.generic) else value


def _brief(error: BaseException) -> str:
    """Return an error's message in one line, cut."""
    return re.sub(r"\s+", " ", str(error))[:200].rstrip(".") or type(error).__name__
