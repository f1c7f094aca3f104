"""Pixels for the metadata of a real product: its tables and geometry, with ice that is simulated or from a chart.

If the pixels of a product are not available, its annotation can still test the whole processing: real look-up tables,
real geolocation, real irregularities. The result has the name and form of the product; manifest, TIFFs and a file
``SIMULATED.txt`` declare its pixels as simulated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyogrio
import pyproj
from lxml import etree
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError

from floemap.errors import ConfigError, OutputError, ProductError
from floemap.icechart.read.sigrid3 import read_chart
from floemap.progress import Progress, silent
from floemap.results.folders import stage_folder
from floemap.results.locks import scratch
from floemap.results.names import place_in
from floemap.results.stage import made_folder, os_errors, refuse_within, sync
from floemap.sentinel1.geolocation import GeoLocator
from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.radiometry import CalibrationTable, NoiseAdjustment, NoiseTable
from floemap.sentinel1.safe.reader import open_scene
from floemap.simulation.safe.manifest import FACILITY, md5_of
from floemap.simulation.safe.pixels import RowLuts, Sigma0, Written, tie_points, write_measurements
from floemap.simulation.safe.speckle import EW_GRDM_LOOKS
from floemap.simulation.safe.writer import RECORD, simulated_product, write_quicklook
from floemap.simulation.world.chart_scenery import ChartScenery, Placement
from floemap.simulation.world.scenery import ImageLattice, Scenery, SceneryRows, patch_px
from floemap.simulation.world.surface import World
from floemap.simulation.world.zones import scene_centre_m

F64 = NDArray[np.float64]

NOTICE = """The pixels of this product were simulated by floemap, for the metadata of a real product.
Name, tables and geometry are the real product's; what the pixels show was never there.
"""


@dataclass(frozen=True)
class SimulatedPixels:
    """A finished product, and the placement of its chart, if any.

    Attributes
    ----------
    path
        Path of the product.
    placement
        How the chart was placed on the scene; None without a chart.
    chart
        Path of the chart of the scene: the given one, or a copy at the place to which it was moved.
    """

    path: Path
    placement: Placement | None
    chart: Path | None = None


def simulate_pixels(
    metadata: str | Path,
    out: str | Path,
    sigma0: Sigma0 | None = None,
    chart: str | Path | None = None,
    *,
    month: int | None = None,
    seed: int = 0,
    looks: float | None = EW_GRDM_LOOKS,
    noise_departure: float = 0.04,
    threads: int = 2,
    progress: Progress = silent,
) -> SimulatedPixels:
    """Give a real product's metadata simulated pixels.

    Parameters
    ----------
    metadata
        Folder or zip of a product. Its pixels may be missing, and are not read.
    out
        Folder in which a folder with the name of the product is made, replacing a simulated one, and ``charts/`` with a
        chart that was moved.
    sigma0
        Backscatter, as in :func:`~floemap.simulation.safe.writer.write_safe`. By default that of simulated ice.
    chart
        A SIGRID-3 chart whose polygons replace the simulated zones: at their own place if they cover the scene, else
        moved to the scene.
    month
        Month of the season. By default that of the product; south of the equator, half a year later.
    seed
        Seed of ice, speckle and noise.
    looks, threads
        See ``write_safe``.
    noise_departure
        Size of the departure of the noise from its annotation; 0 for none.

    Raises
    ------
    ProductError
        If the metadata cannot be read.
    ChartError
        If the chart cannot be read or placed.
    ConfigError
        If the result would replace the metadata, both `sigma0` and `chart` are given, the seed is negative, or the
        number of looks is below 1.
    OutputError
        If the product cannot be written, or it or the moved chart would replace something else.
    """
    if sigma0 is not None and chart is not None:
        raise ConfigError("both sigma0 and a chart are given.", hint="Give one of them.")
    if seed < 0:
        raise ConfigError(f"the seed is {seed}.", hint="It must be a whole number from 0.")
    scene = open_scene(metadata, pixels=False)
    source = scene.container.path.resolve()
    name = PurePosixPath(scene.container.root).name or source.name
    final = place_in(Path(out), name, "the product", path=source, kind=ProductError)
    if final.resolve() == source:
        raise ConfigError(
            f"the pixels would be written into the metadata's own folder {source}.", hint="Choose another --out."
        )
    refuse_within(final)  # before the work
    locator = GeoLocator(scene)
    laid = None
    if sigma0 is None:
        sigma0, laid = _scenery_rows(scene, locator, chart, month or _month(scene), seed)
    if chart is not None and laid is not None and not laid.placement.in_place:
        _write_moved(laid, Path(chart), Path(out) / "charts", only_check=True)  # before the work
    grid = scene.geolocation
    names = {p: _measurement_name(scene, p) for p in scene.polarisations}
    made = (*scene.container.sizes, *names.values(), RECORD, "preview/quick-look.png")
    with stage_folder(final, simulated_product(final, made), sources={"metadata": source}) as folder:
        _copy_metadata(scene, folder)
        (folder / "measurement").mkdir(exist_ok=True)
        written = write_measurements(
            {p: folder / name for p, name in names.items()},
            scene.shape,
            sigma0,
            _SceneRows(scene, seed, noise_departure),
            seed=seed,
            looks=looks,
            spacing_m=scene.pixel_spacing_m,
            gcps=tie_points(grid.lines, grid.pixels, grid.longitude_deg, grid.latitude_deg, grid.height_m),
            cog="_COG" in final.name,
            threads=threads,
            progress=progress,
        )
        (folder / "preview").mkdir(exist_ok=True)
        write_quicklook(folder / "preview" / "quick-look.png", [w.picture for w in written.values()])
        (folder / RECORD).write_text(NOTICE, encoding="utf-8")
        changed = {"s1Level1MeasurementSchema": {p: folder / name for p, name in names.items()}}
        changed["s1Level1ProductSchema"] = {p: _amend_annotation(folder, scene, p, w) for p, w in written.items()}
        _amend_manifest(folder, changed)
    if laid is None or chart is None:
        return SimulatedPixels(final, None)
    moved = Path(chart) if laid.placement.in_place else _write_moved(laid, Path(chart), Path(out) / "charts")
    return SimulatedPixels(final, laid.placement, moved)


def _write_moved(laid: ChartScenery, chart: Path, folder: Path, *, only_check: bool = False) -> Path:
    """Write a moved chart as a GeoPackage. An existing file is kept and must contain the same chart."""
    final = place_in(folder, f"{chart.stem}_moved.gpkg", "the chart", path=chart)
    if only_check and not final.exists():
        return final
    with os_errors(final), made_folder(folder, final), scratch(f".{final.name}.partial-", folder) as beside:
        written = beside / final.name
        pyogrio.write_dataframe(laid.polygons, written, driver="GPKG", layer=final.stem)
        if not final.exists():
            sync(written)
            written.replace(final)
            sync(folder)
        elif not _alike(final, written):
            raise OutputError("exists and contains another chart.", path=final, hint="Choose another --out.")
    return final


def _alike(a: Path, b: Path) -> bool:
    """Return whether two files contain the same polygons with the same codes."""
    try:
        return bool(pyogrio.read_dataframe(a).equals(pyogrio.read_dataframe(b)))
    except DataSourceError:
        return False


def _month(scene: Scene) -> int:
    south = scene.geolocation.latitude_deg.mean() < 0
    return (scene.start.month + (5 if south else -1)) % 12 + 1


def _scenery_rows(
    scene: Scene, locator: GeoLocator, chart: str | Path | None, month: int, seed: int
) -> tuple[SceneryRows, ChartScenery | None]:
    """Return the backscatter of a simulated world or of a chart, on a map projection centred on the scene."""
    lines, samples = scene.shape
    middle = np.array([(lines - 1) / 2]), np.array([(samples - 1) / 2])
    lon, lat = (float(a[0]) for a in locator.to_ground(*middle))
    plane = pyproj.CRS.from_proj4(f"+proj=stere +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m")
    to_plane = pyproj.Transformer.from_crs("EPSG:4326", plane, always_xy=True)
    # The ice of the simulated world is off East Greenland, so the scene is moved there. A chart has its own place.
    shift = (0.0, 0.0) if chart is not None else scene_centre_m(month, seed)

    def locate(at_lines: F64, at_pixels: F64) -> tuple[Any, Any, Any]:
        x, y = to_plane.transform(*locator.to_ground(at_lines, at_pixels))
        return x + shift[0], y + shift[1], locator.incidence_deg(at_lines, at_pixels)

    image = ImageLattice.over(scene.shape, locate)
    patch = patch_px(max(scene.pixel_spacing_m))
    if chart is None:
        world = World(month, seed, image.bounds_m, patch * max(scene.pixel_spacing_m))
        return SceneryRows(world, image, month, scene.polarisations, patch), None
    laid = ChartScenery(read_chart(chart), plane, image.bounds_m, seed)
    scenery: Scenery = laid
    return SceneryRows(scenery, image, month, scene.polarisations, patch), laid


class _SceneRows:
    """Gain and noise of blocks of lines from the annotation of a real product, for ``write_measurements``."""

    def __init__(self, scene: Scene, seed: int, departure: float) -> None:
        self.scene = scene
        self.calibration = {p: CalibrationTable(scene.calibration[p], scene.shape[1], 1) for p in scene.polarisations}
        self.noise = {p: NoiseTable(scene.noise[p], scene.swaths, scene.shape, 1) for p in scene.polarisations}
        rng = np.random.default_rng([seed, 4])
        self.adjust = {
            p: {
                s: NoiseAdjustment(1 + departure * rng.uniform(-1, 1), 1 + 4 * departure * rng.uniform(0.3, 1))
                for s in scene.swath_names
            }
            for p in scene.polarisations
        }

    def __call__(self, polarisation: str, first: int, stop: int) -> RowLuts:
        true, inside = self.noise[polarisation].cells(first, stop, self.adjust[polarisation])
        true[~inside] = np.nan
        gain = np.reciprocal(self.calibration[polarisation].inverse_square(first, stop))
        subtracted = None
        if self.scene.noise_subtracted[polarisation]:
            subtracted, _ = self.noise[polarisation].cells(first, stop)
        return RowLuts(gain, true, subtracted)


def _copy_metadata(scene: Scene, folder: Path) -> None:
    for inside in scene.container.sizes:
        if inside.startswith("measurement/"):
            continue
        target = folder / inside
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(scene.container.read(inside))


def _measurement_name(scene: Scene, polarisation: str) -> str:
    """Return the path of a band's TIFF: that in the source, even if it is empty, else one named as the annotation."""
    for folder, pattern in (("measurement", r".*\.tiff?"), ("annotation", r".*\.xml")):
        found = [f for f in scene.container.find(folder, pattern) if f"-{polarisation.lower()}" in f.rsplit("/")[-1]]
        if found:
            return str(PurePosixPath("measurement", PurePosixPath(found[0]).stem + ".tiff"))
    hint = "Download the product again."
    raise ProductError(f"has no annotation of {polarisation}.", path=scene.container.path, hint=hint)


def _amend_annotation(folder: Path, scene: Scene, polarisation: str, written: Written) -> Path:
    """Replace the statistics of the real pixels by those of the simulated ones; all other bytes stay the same."""
    mark = f"-{polarisation.lower()}"
    path = folder / next(f for f in scene.container.find("annotation", r".*\.xml") if mark in f.rsplit("/")[-1])
    content = path.read_bytes()
    for tag, value in (("Mean", written.statistics.mean), ("StdDev", written.statistics.std)):
        pattern = rf"(<outputData{tag}>\s*<re>)[^<]*(</re>)".encode()
        content = re.sub(pattern, rf"\g<1>{value:.6e}\g<2>".encode(), content)
    path.write_bytes(content)
    return path


def _amend_manifest(folder: Path, changed: dict[str, dict[str, Path]]) -> None:
    """Set facility, sizes and checksums of the new files in the manifest; everything else stays the same.

    `changed` contains files by schema name of the manifest and polarisation.
    """
    path = folder / "manifest.safe"
    # The same parser settings as the reader's, which has already refused hostile files.
    tree = etree.fromstring(path.read_bytes(), etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
    facility = tree.find(".//{*}facility")
    if facility is None:
        raise ProductError("does not name a facility.", path=path, hint="Download the product again.")
    facility.set("name", FACILITY)
    for entry in tree.iterfind("dataObjectSection/dataObject"):
        stream, location = entry.find("byteStream"), entry.find("byteStream/fileLocation")
        checksum = entry.find("byteStream/checksum")
        if stream is None or location is None or checksum is None:
            continue
        # Cloud buckets rename files but not in the manifest, so files are identified by kind and polarisation.
        listed = (location.get("href") or "").rsplit("/")[-1].lower()
        files = changed.get(entry.get("repID", ""), {})
        file = next((f for p, f in files.items() if re.search(rf"-{p.lower()}[-.]", listed)), None)
        if entry.get("repID") == "s1Level1QuickLookSchema":
            file = folder / "preview" / "quick-look.png"
        if file is not None:
            stream.set("size", str(file.stat().st_size))
            checksum.text = md5_of(file)
    path.write_bytes(b'<?xml version="1.0" encoding="UTF-8"?>\n' + bytes(etree.tostring(tree, encoding="UTF-8")))
