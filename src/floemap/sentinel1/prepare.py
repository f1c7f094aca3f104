"""Preparing a product: bands on a map grid in ``product.tif``, ``product.json``, ``item.json``, ``quicklook.png``.

The bands of ``product.tif`` are int16 with a scale of 0.01: HH and HV sigma nought in dB, incidence angle in degrees,
and the mask. Steps of 0.01 dB are a hundredth of the speckle at 80 m, and the file is half as large and written twice
as fast as in float32 (``docs/benchmarks.md``). Values at or below the noise floor are stored as the
floor's -45 dB and flagged in the mask.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import STRIP_ROWS, CogWriter, read_geobox
from floemap.errors import ConfigError, GridError, ProductError
from floemap.grid import crs_of, describe_grid
from floemap.progress import Progress, silent
from floemap.qgis_raster import SHOWN_HH_DB, grey_style, write_style
from floemap.results.folders import made_of, stage_folder, told_sources
from floemap.results.names import place_in
from floemap.results.stage import Stage, is_finished, provenance, sha256, write_json
from floemap.sentinel1.bands import BANDS
from floemap.sentinel1.describe import identity
from floemap.sentinel1.encoding import MASK_HH_BELOW_FLOOR, MASK_HV_BELOW_FLOOR, NODATA, POLARISATIONS, SCALE
from floemap.sentinel1.geolocation import GeoLocator, InverseMap, default_crs, inverse_map, metric_crs, target_grid
from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.multilook import CellImage, calibrate, looks_for
from floemap.sentinel1.noise_residual import measure
from floemap.sentinel1.radiometry import FLOOR_DB, to_db
from floemap.sentinel1.safe.reader import open_scene, verify
from floemap.sentinel1.seams import seam_lines
from floemap.sentinel1.settings import PrepareSettings
from floemap.sentinel1.stac import write_item

logger = logging.getLogger(__name__)

#: Raise the revision if pixels change: calibration, noise, location, resampling, storage.
STAGE = Stage(
    "floemap prepare",
    "product.json",
    revision=1,
    files=("product.tif", "product.qml", "item.json", "quicklook.png"),
    kept=("layers", "floemap layer"),
)

_MAX_REMAP = 32_766  # OpenCV's limit on an image's side


@dataclass(frozen=True)
class PreparedProduct:
    """The folder of a prepared product; `skipped` if it was finished before."""

    folder: Path
    skipped: bool = False

    @property
    def raster(self) -> Path:
        """Path of the bands."""
        return self.folder / "product.tif"

    @property
    def record(self) -> Path:
        """Path of the record."""
        return self.folder / "product.json"


def prepare(
    product: str | Path,
    out: str | Path,
    settings: PrepareSettings | None = None,
    *,
    like: str | Path | None = None,
    overwrite: bool = False,
    made: Collection[Path] = (),
    quicklook: bool = True,
    progress: Progress = silent,
) -> PreparedProduct:
    """Turn a Sentinel-1 GRD product in HH and HV into calibrated, noise-free bands on a map grid.

    Parameters
    ----------
    product
        Folder or zip of the product.
    out
        Folder in which a folder with the product's name is made, with product.tif, product.json, item.json,
        quicklook.png.
    settings
        Settings; see :class:`floemap.sentinel1.settings.PrepareSettings`.
    like
        Raster whose grid is used instead of one made from `settings`, whose resolution and CRS then are the defaults.
    overwrite
        Replace a finished result of the same inputs and settings, and the result of another product of this name.
    made
        Folders that the same call has made; `overwrite` does not replace them.
    quicklook
        Whether to draw a picture.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ProductError
        If the product cannot be read or is of another kind.
    GridError
        If the grid does not fit the scene.
    OutputError
        If the results cannot be written, or would replace something else.
    """
    settings = settings or PrepareSettings()
    if settings.grid == "image":
        hint = "Products as delivered are put on the map."
        raise ConfigError(f"the grid image is for files of AI4Arctic, and {Path(product).name} is not one.", hint=hint)
    scene = open_scene(product, POLARISATIONS)
    folder = place_in(Path(out), scene.name, "the product", path=scene.container.path, kind=ProductError)
    inputs = {"product": product_identity(scene, verified=settings.verify)}
    sources = {"product": scene.container.path} | ({} if like is None else {"like": Path(like)})
    configuration = _configuration(settings, like)
    if not overwrite and (done := finished_product(folder, inputs, settings, like, quicklook=quicklook)) is not None:
        return done
    locator = GeoLocator(scene, settings.surface, settings.sea_level_m)
    geobox = _grid(locator, settings, like)
    resolution_m = float(abs(geobox.resolution.x))
    replace = overwrite and folder not in made
    if quicklook:
        Thread(target=_import_for_pictures).start()
    with stage_folder(folder, STAGE, sources=sources, inputs=inputs, replace_others=replace) as partial:
        with _verifying(scene, settings.verify):
            cells = calibrate(scene, looks=looks_for(scene, resolution_m), noise=settings.noise, progress=progress)
        record = provenance(STAGE, inputs=inputs, configuration=configuration)
        record["sources"] = told_sources(folder, sources)
        record |= _about(scene, cells, geobox) | {"geometry": locator.record()}
        record["corners_lonlat_deg"] = locator.corners()
        record["seams"] = seam_lines(scene, locator)
        gather = Gather(cells.power, cells.looks, inverse_map(locator, geobox), geobox.shape[1])
        del cells  # the largest array by far; `gather` alone keeps it, and frees it when all strips are resampled
        record["pixels"] = write_bands(partial / "product.tif", gather, geobox, _tags(scene), progress)
        write_style(partial / "product.tif", grey_style(*SHOWN_HH_DB))
        if not record["pixels"]["valid"]:
            raise GridError(
                "no pixel of the grid is in the scene, or the scene has no data.",
                path=scene.container.path if like is None else like,
                hint="Check the product's pixels, or choose another --like or --crs.",
            )
        if quicklook:
            from floemap.sentinel1.quicklook import draw_quicklook

            progress(0, 1, "drawing")
            draw_quicklook(partial / "product.tif", partial / "quicklook.png", title=scene.title)
        further = {"floemap:settings": settings.model_dump(), "floemap:geometry": locator.record()}
        write_item(partial / "item.json", scene, locator.footprint(12), geobox, further)
        write_json(partial / "product.json", record | {"bytes": made_of(partial)})
    progress(1, 1, "done")
    return PreparedProduct(folder)


def _import_for_pictures() -> None:
    """Import, while pixels are read, what draws the picture: by itself that takes most of a second."""
    with suppress(ImportError):  # it will be raised where it is needed
        for name in ("matplotlib.figure", "matplotlib.backends.backend_agg", "floemap.cartography"):
            import_module(name)


def finished_product(
    folder: Path,
    inputs: Mapping[str, Any],
    settings: PrepareSettings,
    like: str | Path | None = None,
    *,
    quicklook: bool = True,
) -> PreparedProduct | None:
    """Return the prepared product in a folder if it is finished, made of these inputs with these settings; else None.

    `inputs` has the :func:`product_identity` of the product as ``product``.
    """
    files = ("product.tif", "item.json", *(["quicklook.png"] if quicklook else []))
    if not is_finished(folder, STAGE, files, inputs=inputs, configuration=_configuration(settings, like)):
        return None
    logger.info("%s is finished already", folder)
    return PreparedProduct(folder, skipped=True)


def _configuration(settings: PrepareSettings, like: str | Path | None) -> dict[str, Any]:
    return settings.model_dump() | {"like": None if like is None else sha256(Path(like))}


def product_identity(scene: Scene, *, verified: bool) -> dict[str, str]:
    """Return checksums that identify a product among others of its name: the SHA-256 of its metadata.

    The manifest contains the checksums of verified pixel files; if they are not verified, their MD5 sums are added.
    """
    read = {name: scene.container.read(name) for name in sorted(scene.container.sizes) if _is_metadata(name)}
    digest = hashlib.sha256()
    for name, content in read.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    pixels = {} if verified else {name: scene.container.md5(name) for name in sorted(scene.measurements.values())}
    return {"metadata_sha256": digest.hexdigest()} | pixels


def _is_metadata(name: str) -> bool:
    return name == "manifest.safe" or (name.startswith("annotation/") and name.lower().endswith(".xml"))


def _grid(locator: GeoLocator, settings: PrepareSettings, like: str | Path | None) -> GeoBox:
    if like is None:
        return target_grid(locator, settings.crs or default_crs(locator), settings.resolution_m)
    refuse_two_grids(settings)
    geobox = read_geobox(Path(like))
    metric_crs(crs_of(geobox).proj, Path(like))
    return geobox


def refuse_two_grids(settings: PrepareSettings) -> None:
    """Refuse settings of the grid beside a raster whose grid is used, which would take no effect.

    Raises
    ------
    ConfigError
        If one differs from its default.
    """
    words = {"crs": "a CRS", "resolution_m": "a resolution", "grid": "the grid image"}
    own = PrepareSettings()
    if given := [w for name, w in words.items() if getattr(settings, name) != getattr(own, name)]:
        raise ConfigError(f"{given[0]} and a raster whose grid to use were both given.", hint="Give one of the two.")


@contextmanager
def _verifying(scene: Scene, wanted: bool) -> Iterator[None]:
    """Verify the pixel files' checksums in parallel with the block; raise at its end if they are wrong."""
    if not wanted:
        yield
        return
    with ThreadPoolExecutor(1) as pool:
        checks: list[Future[None]] = [pool.submit(verify, scene, p) for p in scene.polarisations]
        yield
        for check in checks:
            check.result()


def write_bands(path: Path, gather: Gather, geobox: GeoBox, tags: dict[str, str], progress: Progress) -> dict[str, int]:
    """Resample the cells to the grid and write the bands; return the number of pixels of each kind.

    This frees the cells: `gather` cannot be used again.
    """
    rows = geobox.shape[0]
    counts = np.zeros(4, np.int64)
    starts = range(0, rows, STRIP_ROWS)
    with CogWriter(path, geobox, BANDS, dtype="int16", nodata=NODATA, tags=tags) as cog, ThreadPoolExecutor(2) as pool:
        waiting: list[Future[tuple[NDArray[np.int16], NDArray[np.int64]]]] = []
        for i, row in enumerate(starts):
            waiting.append(pool.submit(gather.strip, row, min(row + STRIP_ROWS, rows)))
            if i >= 2:
                counts += _append(cog, waiting.pop(0))
            progress(i, len(starts) + 4, "geocoding")
        while waiting:
            counts += _append(cog, waiting.pop(0))
        # The cells are not needed while the file is compressed.
        del gather.power
        progress(len(starts), len(starts) + 4, "writing")
    names = ("valid", "hh_below_noise_floor", "hv_below_noise_floor", "no_data")
    return {n: int(c) for n, c in zip(names, counts, strict=True)}


def _append(cog: CogWriter, strip: Future[tuple[NDArray[np.int16], NDArray[np.int64]]]) -> NDArray[np.int64]:
    stored, counts = strip.result()
    cog.write(stored)
    return counts


class Gather:
    """Resampling of valid cells to strips of the grid, bilinear in linear power.

    Parameters
    ----------
    power
        (rows, cols, 3) float32: power of HH and of HV, 0 where the cell is not valid, and 1 where it is valid.
    looks
        Pixels of the image along each side of a cell.
    positions
        Positions of the grid in the image.
    cols
        Columns of the grid.

    Raises
    ------
    GridError
        If there are more cells on a side than OpenCV can resample.
    """

    def __init__(self, power: NDArray[np.float32], looks: int, positions: InverseMap, cols: int) -> None:
        shape = power.shape[:2]
        if max(shape) > _MAX_REMAP:
            message = f"{shape[0]} x {shape[1]} cells are more than {_MAX_REMAP} on a side."
            raise GridError(message, hint="Choose a larger pixel size.")
        self.power = power
        self.cols = cols
        self.positions = positions
        n = looks
        # Pixel centres are whole numbers; the centre of a cell is (n - 1) / 2 after that of its first pixel.
        self.line = (positions.line - (n - 1) / 2) / n
        self.pixel = (positions.pixel - (n - 1) / 2) / n

    def strip(self, first_row: int, last_row: int) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Return the stored bands of rows [first_row, last_row), (4, rows, cols), and their counts."""
        expand = self.positions.expand
        x = expand(self.pixel, first_row, last_row, self.cols)
        y = expand(self.line, first_row, last_row, self.cols)
        gathered = cv2.remap(self.power, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        weight = gathered[:, :, 2]
        valid = weight > 0.5
        stored = np.full((4, *weight.shape), NODATA, np.int16)
        mask = valid.astype(np.int16)
        if valid.any():
            np.maximum(weight, np.float32(1e-6), out=weight)
            for i, bit in enumerate((MASK_HH_BELOW_FLOOR, MASK_HV_BELOW_FLOOR)):
                db, below = to_db(np.asarray(gathered[:, :, i] / weight, np.float32))
                stored[i] = _encode(db, valid)
                mask |= np.where(below & valid, bit, 0).astype(np.int16)
            stored[2] = _encode(expand(self.positions.incidence_deg, first_row, last_row, self.cols), valid)
        stored[3] = mask
        n_valid = int(valid.sum())
        below_counts = [int(((mask & b) > 0).sum()) for b in (MASK_HH_BELOW_FLOOR, MASK_HV_BELOW_FLOOR)]
        return stored, np.array([n_valid, *below_counts, mask.size - n_valid])


def _encode(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.int16]:
    scaled = values * np.float32(1 / SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -32_000, 32_000, out=scaled)
    return np.where(valid, scaled, NODATA).astype(np.int16)


def _about(scene: Scene, cells: CellImage, geobox: GeoBox) -> dict[str, Any]:
    """Return the parts of product.json about scene, noise and grid."""
    residual: dict[str, Any] = {}
    for p in scene.polarisations:
        blocks = scene.noise[p].azimuth_blocks
        ways: dict[str, Any] = {"none": None, "annotated": {}}
        if cells.adjustments[p]:
            ways["scaled"] = cells.adjustments[p]
        residual[p] = {
            "done": cells.subtracted[p],
            "repairs": [asdict(r) for r in scene.noise[p].repairs],
            "too_high_share": round(cells.noise_too_high[p], 6),
            "adjustments": {s: asdict(a) for s, a in cells.adjustments[p].items()},
            "residual": {w: asdict(measure(cells.coarse[p], scene.swaths, blocks, a)) for w, a in ways.items()},
        }
    return {
        "simulated": scene.simulated,
        "scene": identity(scene),
        "looks": cells.looks,
        "thermal_noise": residual,
        "grid": describe_grid(geobox),
        "floor_db": FLOOR_DB,
    }


def _tags(scene: Scene) -> dict[str, str]:
    return {
        "product": scene.name,
        "start": scene.start.isoformat(),
        "simulated": "yes" if scene.simulated else "no",
        "AREA_OR_POINT": "Area",
    } | ({} if scene.simulated else {"attribution": f"Contains modified Copernicus Sentinel data {scene.start.year}"})
