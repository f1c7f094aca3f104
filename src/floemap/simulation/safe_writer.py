"""Write simulated Sentinel-1 EW GRDM products in SAFE form, complete: what a strict reader of real ones reads.

    spec = ProductSpec(start=datetime(2018, 1, 16, 7, 54, 30), lines=1000, samples=1000, pixel_spacing_m=400,
                       centre_lon=-10, centre_lat=77, heading_deg=-150)
    write_safe(folder, spec, {"HH": hh, "HV": hv})

Same specification, same backscatter, same bytes. Every product says that it is simulated: in a file ``SIMULATED.txt``,
in the manifest's facility and in each TIFF's description.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint

from floemap.errors import ConfigError
from floemap.simulation.safe_luts import SimulatedLuts
from floemap.simulation.safe_manifest import FileEntry, file_entry, manifest_xml, overlay_kml
from floemap.simulation.safe_pixels import RowLuts, Sigma0, Written, write_measurement
from floemap.simulation.safe_spec import ProductSpec
from floemap.simulation.safe_xml import annotation_xml, calibration_xml, grid_positions, noise_xml
from floemap.stage import os_errors, stage_folder

__all__ = ["ProductSpec", "SimulatedLuts", "luts", "write_safe"]

NOTICE = """This product was simulated by floemap. It has the form of a Sentinel-1 product and shows nothing real:
no satellite took it, and it is no evidence about ice anywhere. Its name is that of a form, not of an observation.
"""


def luts(spec: ProductSpec) -> SimulatedLuts:
    """Look-up tables and exact geometry of the product that :func:`write_safe` makes of `spec`."""
    return SimulatedLuts(spec)


def write_safe(out_dir: Path, spec: ProductSpec, sigma0: Mapping[str, Sigma0], *, looks: float | None = 10.0) -> Path:
    """Write a product into `out_dir`, whole or not at all; one of the same name is replaced.

    Parameters
    ----------
    out_dir
        Folder in which the product's folder or archive appears.
    spec
        What to make.
    sigma0
        Backscatter by polarisation, linear power, float32: an array (lines, samples) or a function that gives the rows
        of a slice. Functions of different polarisations are called from different threads.
    looks
        Equivalent number of looks of the speckle; None for none.

    Returns
    -------
    Path of the product.

    Raises
    ------
    ConfigError
        If a polarisation of the specification has no backscatter.
    GridError
        If backscatter has another shape than the specification.
    OutputError
        If the product cannot be written.
    """
    missing = [p for p in spec.polarisations if p not in sigma0]
    if missing:
        raise ConfigError(f"no backscatter is given for {', '.join(missing)}.")
    out_dir = Path(out_dir)
    if spec.container == "folder":
        final = out_dir / spec.folder_name
        with stage_folder(final) as folder:
            _write_tree(folder, spec, sigma0, looks)
        return final
    final = out_dir / f"{spec.name}.zip"
    beside = out_dir / f".{final.name}.{os.getpid()}"
    try:
        with stage_folder(out_dir / f".{spec.name}.unpacked") as folder:
            _write_tree(folder, spec, sigma0, looks)
            with os_errors(final):
                _pack(folder, beside, spec)
        with os_errors(final):
            beside.replace(final)
    finally:
        beside.unlink(missing_ok=True)
        shutil.rmtree(out_dir / f".{spec.name}.unpacked", ignore_errors=True)
    return final


def _write_tree(folder: Path, spec: ProductSpec, sigma0: Mapping[str, Sigma0], looks: float | None) -> None:
    tables = SimulatedLuts(spec)
    for name in ("annotation/calibration", "measurement", "preview"):
        (folder / name).mkdir(parents=True)
    gcps = tie_points(tables)
    streams = np.random.SeedSequence([spec.seed, 2]).spawn(len(spec.polarisations))

    def band(index: int) -> Written:
        polarisation = spec.polarisations[index]
        return write_measurement(
            folder / "measurement" / f"{spec.file_stem(polarisation)}.tiff",
            (spec.lines, spec.samples),
            sigma0[polarisation],
            _Rows(tables, polarisation),
            rng=np.random.Generator(np.random.SFC64(streams[index])),
            looks=looks,
            gcps=gcps,
            cog=spec.cog,
        )

    with ThreadPoolExecutor(len(spec.polarisations)) as pool:
        written = list(pool.map(band, range(len(spec.polarisations))))
    for polarisation, w in zip(spec.polarisations, written, strict=True):
        stem = spec.file_stem(polarisation)
        annotation = folder / "annotation"
        (annotation / f"{stem}.xml").write_bytes(annotation_xml(tables, polarisation, w.statistics))
        (annotation / "calibration" / f"calibration-{stem}.xml").write_bytes(calibration_xml(tables, polarisation))
        (annotation / "calibration" / f"noise-{stem}.xml").write_bytes(noise_xml(tables, polarisation))
    write_quicklook(folder / "preview" / "quick-look.png", [w.picture for w in written])
    (folder / "preview" / "map-overlay.kml").write_bytes(overlay_kml(spec, tables.geometry))
    (folder / "SIMULATED.txt").write_text(NOTICE, encoding="utf-8")
    manifest = manifest_xml(spec, tables.geometry, _entries(folder, spec))
    (folder / "manifest.safe").write_bytes(manifest)


class _Rows:
    """Gain and noise of blocks of lines, for :func:`write_measurement`."""

    def __init__(self, tables: SimulatedLuts, polarisation: str) -> None:
        self._tables, self._polarisation = tables, polarisation
        self._pixels = np.arange(tables.spec.samples)
        self._gain = (tables.sigma_nought([0], self._pixels) ** 2).astype(np.float32)

    def __call__(self, first: int, stop: int) -> RowLuts:
        lines, t = np.arange(first, stop), self._tables
        true = t.noise_true(self._polarisation, lines, self._pixels)
        annotated = t.noise_annotated(self._polarisation, lines, self._pixels) if t.spec.denoised else None
        return RowLuts(self._gain, true, annotated)


def tie_points(tables: SimulatedLuts) -> list[GroundControlPoint]:
    """The geolocation grid as tie points for TIFFs, where a pixel's centre is half a pixel from its corner."""
    lines, pixels = grid_positions(tables.spec)
    lon, lat = tables.geometry.lonlat(lines[:, None], pixels[None, :])
    return [
        GroundControlPoint(row=float(y) + 0.5, col=float(x) + 0.5, x=float(lon[i, j]), y=float(lat[i, j]), z=0.0)
        for i, y in enumerate(lines)
        for j, x in enumerate(pixels)
    ]


def write_quicklook(path: Path, pictures: list[NDArray[np.float32]]) -> None:
    """Write the colour composite of real quick-looks: co-polarised red, cross-polarised green, their ratio blue."""
    co, cross = pictures[0], pictures[-1]

    def stretched(x: NDArray[np.float32]) -> NDArray[np.uint8]:
        seen = x[x > 0]
        top = float(np.percentile(seen, 99)) if seen.size else 1.0
        scaled: NDArray[np.uint8] = np.clip(x * (255 / top), 0, 255).astype(np.uint8)
        return scaled

    ratio = np.divide(co, cross, out=np.zeros_like(co), where=cross > 0)
    bgr = np.stack([stretched(ratio) // 3, stretched(cross), stretched(co)], axis=-1)
    _, png = cv2.imencode(".png", bgr)
    path.write_bytes(png.tobytes())


def _entries(folder: Path, spec: ProductSpec) -> list[FileEntry]:
    """All files that the manifest lists, in its order."""
    entries = []
    for p in spec.polarisations:
        long, stem = spec.long_stem(p), spec.file_stem(p)
        identity = long.removesuffix("-cog").replace("-", "")
        for kind, schema, place in (
            ("product", "s1Level1ProductSchema", "annotation/"),
            ("noise", "s1Level1NoiseSchema", "annotation/calibration/noise-"),
            ("calibration", "s1Level1CalibrationSchema", "annotation/calibration/calibration-"),
        ):
            entries.append(
                file_entry(
                    folder / f"{place}{stem}.xml", identity=kind + identity, schema=schema, mime="text/xml",
                    href=f"./{place}{long}.xml",
                )
            )  # fmt: skip
    overlay = folder / "preview" / "map-overlay.kml"
    entries.append(
        file_entry(
            overlay, identity="mapoverlay", schema="s1Level1MapOverlaySchema", mime="text/xml",
            href="./preview/map-overlay.kml",
        )
    )  # fmt: skip
    binary = "application/octet-stream"
    for p in spec.polarisations:
        long = spec.long_stem(p)
        entries.append(
            file_entry(
                folder / "measurement" / f"{spec.file_stem(p)}.tiff",
                identity=long.removesuffix("-cog").replace("-", ""),
                schema="s1Level1MeasurementSchema", mime=binary, href=f"./measurement/{long}.tiff",
            )
        )  # fmt: skip
    picture = folder / "preview" / "quick-look.png"
    entries.append(
        file_entry(
            picture, identity="quicklook", schema="s1Level1QuickLookSchema", mime=binary,
            href="./preview/quick-look.png",
        )
    )  # fmt: skip
    return entries


def _pack(folder: Path, archive: Path, spec: ProductSpec) -> None:
    """Zip a product's tree. Times of members are the product's, so that equal content gives equal bytes."""
    time = spec.start.timetuple()[:6]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            member = zipfile.ZipInfo(f"{spec.folder_name}/{path.relative_to(folder).as_posix()}", time)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            with path.open("rb") as source, z.open(member, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
