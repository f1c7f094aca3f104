"""Opening Sentinel-1 products: folder or zip, ESA's file names or those of cloud buckets, S1A to S1D.

Opening reads metadata only, and raises an error for every product that cannot be used.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from floemap.cog import GDAL_CACHE_BYTES, deepest_reason, only_itself
from floemap.errors import ProductError
from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.noise_check import with_good_noise
from floemap.sentinel1.safe import annotation as read
from floemap.sentinel1.safe.consistency import joined, refuse_contradictions
from floemap.sentinel1.safe.container import Container, open_container
from floemap.sentinel1.safe.manifest import (
    ipf_version,
    is_simulated,
    md5_checksums,
    refuse_other_kinds,
    relative_orbit,
    warn_of_changed_manifest,
)
from floemap.sentinel1.safe.xml import XmlTree

_POLARISATIONS = ("HH", "HV", "VV", "VH")
_MISSIONS = ("S1A", "S1B", "S1C", "S1D")
_MODES = ("EW", "IW", "SM")
_KINDS = {
    "s1Level1ProductSchema": ("annotation", r".*\.xml"),
    "s1Level1CalibrationSchema": ("annotation/calibration", r"calibration-.*\.xml"),
    "s1Level1NoiseSchema": ("annotation/calibration", r"noise-.*\.xml"),
    "s1Level1MeasurementSchema": ("measurement", r".*\.tiff?"),
}
_IMAGE = "imageAnnotation/imageInformation"


def open_scene(path: str | Path, polarisations: Sequence[str] = ("HH", "HV"), *, pixels: bool = True) -> Scene:
    """Open a ground-range detected product.

    Parameters
    ----------
    path
        A ``.SAFE`` folder, a folder without the suffix, its ``manifest.safe``, or a zip of either.
    polarisations
        Polarisations to read; the product must have all of them.
    pixels
        Whether the pixel files must exist and be whole. False opens the metadata alone.

    Raises
    ------
    ProductError
        If this is not a Sentinel-1 GRD product with those polarisations, or one of its files is missing, empty or
        damaged, or differs from the manifest's checksum.
    """
    container = open_container(Path(path))
    manifest = XmlTree.parse(container, "manifest.safe")
    refuse_other_kinds(manifest)
    found = _polarisations(container)
    missing = [p for p in polarisations if p not in found]
    if missing:
        raise ProductError(
            f"has the polarisations {'+'.join(found) or 'none'}, where {'+'.join(polarisations)} are needed.",
            path=container.path,
            hint="Give a dual-polarised product in HH and HV (1SDH in its name).",
        )
    checksums = md5_checksums(manifest, container, functools.partial(_renamed, container))
    files = {
        p: {kind: _one_file(container, kind, p) for kind in _KINDS if pixels or "Measurement" not in kind}
        for p in polarisations
    }
    try:
        scene = _assemble(container, manifest, files, checksums)
    except (ValueError, OverflowError, ArithmeticError, LookupError) as e:
        message = f"its annotation cannot be understood: {type(e).__name__}: {e}."
        raise ProductError(message, path=container.path, hint="A new download may help; if not, report this.") from e
    if not scene.simulated:
        warn_of_changed_manifest(container)
    if pixels:
        for p in polarisations:
            _check_pixels(scene, p)
    return scene


def _polarisation_of(name: str) -> str | None:
    """Return the polarisation in a file's name: ``s1a-ew-grd-hh-...-001.xml`` and ``ew-hh.xml`` are both HH."""
    match = re.search(r"-(hh|hv|vv|vh)(?=[-.])", name.rsplit("/", 1)[-1].lower())
    return match.group(1).upper() if match else None


def _polarisations(container: Container) -> list[str]:
    found = {_polarisation_of(f) for f in container.find("annotation", r".*\.xml")}
    return [p for p in _POLARISATIONS if p in found]


def _one_file(container: Container, kind: str, polarisation: str) -> str:
    folder, pattern = _KINDS[kind]
    files = [f for f in container.find(folder, pattern) if _polarisation_of(f) == polarisation]
    what = f"{kind.removeprefix('s1Level1').removesuffix('Schema').lower()} file for {polarisation} in {folder}/"
    if len(files) != 1:
        raise ProductError(
            f"has {len(files)} {what}, where one is needed.",
            path=container.path,
            hint="Check that the product is whole.",
        )
    if container.sizes[files[0]] == 0:
        raise ProductError(f"{files[0]} is empty.", path=container.path, hint="Download the product again.")
    return files[0]


def _renamed(container: Container, kind: str, listed: str) -> list[str]:
    """Return the files of a kind and polarisation that replace a listed file, under another name.

    The converted pixels of a COG_SAFE product have another checksum than the original ones, so they do not match.
    """
    polarisation = _polarisation_of(listed)
    if kind not in _KINDS or polarisation is None:
        return []
    files = container.find(*_KINDS[kind])
    return [f for f in files if _polarisation_of(f) == polarisation and ("-cog." in f) == ("-cog." in listed)]


def verify(scene: Scene, polarisation: str) -> None:
    """Compare the pixel file with the manifest's checksum, if it has one.

    Raises
    ------
    ProductError
        If they differ, because the download was cut or damaged.
    """
    _verify_file(scene.container, scene.checksums, scene.measurements[polarisation])


def _verify_file(container: Container, checksums: Mapping[str, frozenset[str]], file: str) -> bool:
    """Return True if a file has a checksum of the manifest, False if there is none; raise if the checksums differ."""
    if file not in checksums:
        return False
    if container.md5(file) not in checksums[file]:
        raise ProductError(
            f"{file} does not have the manifest's checksum: it was damaged or changed.",
            path=container.path,
            hint="Download the product again.",
        )
    return True


def _assemble(
    container: Container,
    manifest: XmlTree,
    files: dict[str, dict[str, str]],
    checksums: Mapping[str, frozenset[str]],
) -> Scene:
    """Read each polarisation as a separate scene, and join them."""
    trees: dict[str, dict[str, XmlTree]] = {}
    for p, by_kind in files.items():
        trees[p] = {}
        for kind, file in by_kind.items():
            if not kind.endswith("MeasurementSchema"):
                trees[p][kind] = tree = XmlTree.parse(container, file)
                tree.verified = _verify_file(container, checksums, file)
                _check_header(tree, p)
    annotations = {p: t["s1Level1ProductSchema"] for p, t in trees.items()}
    shapes = {_shape(t) for t in annotations.values()}
    if len(shapes) != 1:
        raise ProductError(f"its polarisations have different sizes: {sorted(shapes)}.", path=container.path)
    scenes = {p: _of_polarisation(manifest, p, t, files[p].get("s1Level1MeasurementSchema")) for p, t in trees.items()}
    for p, scene in scenes.items():
        refuse_contradictions(annotations[p], scene)
    scene = joined(list(scenes.values()), annotations)
    return with_good_noise(replace(scene, checksums=dict(checksums)))


def _shape(annotation: XmlTree) -> tuple[int, int]:
    return annotation.count(f"{_IMAGE}/numberOfLines", 2), annotation.count(f"{_IMAGE}/numberOfSamples", 2)


def _of_polarisation(manifest: XmlTree, p: str, trees: dict[str, XmlTree], measurement: str | None) -> Scene:
    """Read a scene of one polarisation, without the manifest's checksums."""
    tree = trees["s1Level1ProductSchema"]
    container = tree.container
    datatake = tree.count("adsHeader/missionDataTakeId")
    for other in trees.values():
        if other.count("adsHeader/missionDataTakeId") != datatake:
            found = other.text("adsHeader/missionDataTakeId")
            raise other.error(f"belongs to the data take {found}, where the product belongs to {datatake}")
    shape = _shape(tree)
    start = tree.time(f"{_IMAGE}/productFirstLineUtcTime")
    swaths = read.swath_bounds(tree, shape)
    orbit = read.orbit(tree, start)
    return Scene(
        container=container,
        name=container.name,
        mission=tree.one_of("adsHeader/missionId", _MISSIONS),
        mode=tree.one_of("adsHeader/mode", _MODES),
        product_type="GRD",
        polarisations=(p,),
        start=start,
        stop=tree.time(f"{_IMAGE}/productLastLineUtcTime"),
        pass_direction=tree.one_of("generalAnnotation/productInformation/pass", ("Ascending", "Descending")).upper(),
        absolute_orbit=tree.count("adsHeader/absoluteOrbitNumber"),
        relative_orbit=relative_orbit(manifest),
        datatake=datatake,
        ipf_version=ipf_version(manifest),
        shape=shape,
        pixel_spacing_m=(
            _positive(tree, f"{_IMAGE}/azimuthPixelSpacing"),
            _positive(tree, f"{_IMAGE}/rangePixelSpacing"),
        ),
        radar_frequency_hz=_positive(tree, "generalAnnotation/productInformation/radarFrequency"),
        heading_deg=tree.number("generalAnnotation/productInformation/platformHeading"),
        geolocation=read.geolocation_grid(tree, start, orbit),
        orbit=orbit,
        ground_range=read.ground_range(tree, start),
        line_interval_s=_positive(tree, f"{_IMAGE}/azimuthTimeInterval"),
        swaths=swaths,
        calibration={p: read.calibration_lut(trees["s1Level1CalibrationSchema"], shape)},
        noise={p: read.noise_lut(trees["s1Level1NoiseSchema"], shape, swaths)},
        noise_subtracted={p: tree.flag("imageAnnotation/processingInformation/thermalNoiseCorrectionPerformed")},
        dn_mean={p: tree.number(f"{_IMAGE}/imageStatistics/outputDataMean/re")},
        dn_std={p: tree.number(f"{_IMAGE}/imageStatistics/outputDataStdDev/re")},
        measurements={} if measurement is None else {p: measurement},
        checksums={},
        simulated=is_simulated(manifest) or "SIMULATED.txt" in container.sizes,
    )


def _check_header(tree: XmlTree, polarisation: str) -> None:
    """Check that a file is of the kind and polarisation that its name gives."""
    found = tree.text("adsHeader/productType"), tree.text("adsHeader/polarisation")
    if found != ("GRD", polarisation):
        raise tree.error(f"describes a {found[0]} image in {found[1]}, where GRD in {polarisation} is needed")


def _positive(tree: XmlTree, path: str) -> float:
    value = tree.number(path)
    if value <= 0:
        raise tree.error(f"<{path}> is {value}")
    return value


class Measurement:
    """The pixels of one polarisation: detected amplitude as digital numbers, uint16; no-data is 0."""

    def __init__(self, scene: Scene, polarisation: str, dataset: Any) -> None:
        self.scene = scene
        self.file = scene.measurements[polarisation]
        self._dataset = dataset

    def read(self, first_line: int, last_line: int) -> NDArray[np.uint16]:
        """Return lines [first_line, last_line), (lines, samples).

        Raises
        ------
        ProductError
            If the file ends early or is damaged.
        """
        window = ((first_line, last_line), (0, self.scene.shape[1]))
        try:
            dn: NDArray[np.uint16] = self._dataset.read(1, window=window)
        except RasterioError as e:
            raise _damaged(self.scene, self.file, e) from e
        return dn


@contextmanager
def open_measurement(scene: Scene, polarisation: str) -> Iterator[Measurement]:
    """Open the pixels of one polarisation for reading by lines."""
    file = scene.measurements[polarisation]
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES), ExitStack() as stack:
        try:
            # The annotation locates the pixels, so the file's tie points may be missing.
            dataset = stack.enter_context(only_itself(scene.container.gdal_name(file)))
        except (RasterioError, OSError, UnicodeDecodeError) as e:
            raise _damaged(scene, file, e) from e
        yield Measurement(scene, polarisation, dataset)


def _damaged(scene: Scene, file: str, error: BaseException) -> ProductError:
    message = f"{file} cannot be read as a GeoTIFF: {deepest_reason(error)}."
    return ProductError(message, path=scene.container.path, hint="Download the product again.")


def _check_pixels(scene: Scene, polarisation: str) -> None:
    """Check that a pixel file has the annotated size and type, and is complete up to its last block."""
    file = scene.measurements[polarisation]
    with open_measurement(scene, polarisation) as m:
        d = m._dataset
        if d.shape != scene.shape or d.dtypes[0] != "uint16" or d.count != 1:
            found = f"{d.count} x {d.shape} of {d.dtypes[0]}"
            raise ProductError(
                f"{file} is {found}, where 1 x {scene.shape} of uint16 is annotated.",
                path=scene.container.path,
                hint="Download the product again.",
            )
        height, width = d.block_shapes[0]
        last_row, last_col = (scene.shape[0] - 1) // height, (scene.shape[1] - 1) // width
        size = scene.container.sizes[file]
        for row, col in {(0, 0), (last_row, 0), (0, last_col), (last_row, last_col)}:
            offset = d.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1)
            length = d.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=1)
            if offset is None or length is None or int(offset) + int(length) > size:
                raise ProductError(
                    f"{file} ends after {size} bytes, before the last of its {scene.shape[0]} lines.",
                    path=scene.container.path,
                    hint="Download the product again.",
                )
