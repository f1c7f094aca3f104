"""Write simulated Sentinel-1 EW GRDM products in SAFE form, complete enough for a strict reader of real products.

    spec = ProductSpec(start=datetime(2018, 1, 16, 7, 54, 30), lines=1000, samples=1000, pixel_spacing_m=400,
                       centre_lon=-10, centre_lat=77, heading_deg=-150)
    write_safe(folder, spec, {"HH": hh, "HV": hv})

Equal specification and backscatter give equal bytes. Every product is marked as simulated: in a file ``SIMULATED.txt``,
in the facility of the manifest and in the description of each TIFF.
"""

from __future__ import annotations

import glob
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError, OutputError
from floemap.progress import Progress, silent
from floemap.results.folders import stage_folder
from floemap.results.names import place_in
from floemap.results.stage import Stage, made_folder
from floemap.results.whole_files import whole_files
from floemap.simulation.safe.annotation import annotation_xml, grid_positions
from floemap.simulation.safe.lut_files import calibration_xml, noise_xml
from floemap.simulation.safe.luts import SimulatedLuts
from floemap.simulation.safe.manifest import file_entry, manifest_xml, overlay_kml
from floemap.simulation.safe.pixels import RowLuts, Sigma0, tie_points, write_measurements
from floemap.simulation.safe.spec import ProductSpec
from floemap.simulation.safe.speckle import EW_GRDM_LOOKS
from floemap.zips import UNREADABLE

__all__ = ["ProductSpec", "SimulatedLuts", "luts", "write_safe"]

#: DN^2 in the fringe that early processors left at the sides of the image.
FRINGE_POWER = 40.0

NOTICE = """This product was simulated by floemap. It has the form of a Sentinel-1 product and shows nothing real:
no satellite took it, and it is no evidence about ice anywhere. Its name is that of a form, not of an observation.
"""


#: Words in the notice of every simulated product, and the file of the notice, which is its record.
MARK, RECORD = "simulated by floemap", "SIMULATED.txt"


def simulated_product(final: Path, names: Iterable[str]) -> Stage:
    """Return the stage of a simulated product with files of these names; refuse to replace one that is not simulated.

    A product in SAFE form has no record in JSON: its notice and the names of its files identify it.

    Raises
    ------
    OutputError
        If there is a product at `final` that is not simulated.
    """
    record = final / RECORD if final.is_dir() else None
    if record is not None and record.is_file() and MARK not in record.read_text(encoding="utf-8", errors="replace"):
        raise OutputError("contains a product that floemap did not simulate.", path=final, hint="Choose another --out.")
    return Stage("floemap simulate", RECORD, revision=1, files=tuple(map(glob.escape, names)))


def luts(spec: ProductSpec) -> SimulatedLuts:
    """Return look-up tables and exact geometry of the product that :func:`write_safe` makes of `spec`."""
    return SimulatedLuts(spec)


def write_safe(
    out_dir: Path,
    spec: ProductSpec,
    sigma0: Sigma0,
    *,
    looks: float | None = EW_GRDM_LOOKS,
    threads: int = 2,
    progress: Progress = silent,
) -> Path:
    """Write a product into `out_dir`, whole or not at all; a simulated one of the same name is replaced.

    Parameters
    ----------
    out_dir
        Folder in which the product's folder or archive appears.
    spec
        Specification of the product.
    sigma0
        Backscatter, linear power, float32, by polarisation: arrays (lines, samples) or functions that return the rows
        of a slice of lines; or one function that returns the rows of all polarisations. `threads` threads call the
        functions.
    looks
        Equivalent number of looks of the speckle, at least 1; None for no speckle. The speckle of neighbouring pixels
        closer than some 150 m is correlated; see :class:`~floemap.simulation.safe.speckle.Speckle`.
    threads
        Number of blocks of lines computed at the same time; the result does not depend on it.

    Returns
    -------
    Path of the product.

    Raises
    ------
    ConfigError
        If a polarisation of the specification has no backscatter, or the number of looks is below 1.
    GridError
        If the backscatter has another shape than the specification.
    OutputError
        If the product cannot be written, or would replace one that is not simulated.
    """
    if not callable(sigma0):
        missing = [p for p in spec.polarisations if p not in sigma0]
        if missing:
            hint = f"Give it for {', '.join(spec.polarisations)}."
            raise ConfigError(f"sigma0 lacks the polarisations {', '.join(missing)}.", hint=hint)

    def write(folder: Path) -> None:
        _write_tree(folder, spec, sigma0, looks, threads, progress)

    out_dir = Path(out_dir)
    if spec.container == "folder":
        final = place_in(out_dir, spec.folder_name, "the product")
        with stage_folder(
            final, simulated_product(final, ["manifest.safe", RECORD, *(path for *_, path, _ in _listed(spec))])
        ) as folder:
            write(folder)
        return final
    final = place_in(out_dir, f"{spec.name}.zip", "the product")
    _refuse_real_zip(final)
    with made_folder(out_dir, final), whole_files(out_dir, [final.name]) as beside:
        tree = beside / "tree"
        tree.mkdir()
        write(tree)
        _pack(tree, beside / final.name, spec)
    return final


def _refuse_real_zip(path: Path) -> None:
    """Refuse to replace a zip that does not contain a simulated product."""
    if not path.exists():
        return
    try:
        with zipfile.ZipFile(path) as z:
            notices = [z.read(m) for m in z.namelist() if m.rpartition("/")[2] == RECORD]
    except UNREADABLE:
        notices = []
    if not any(MARK.encode() in notice for notice in notices):
        raise OutputError("does not contain a product that floemap simulated.", path=path, hint="Choose another --out.")


def _listed(spec: ProductSpec) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the files that the manifest lists, in its order: identity, schema, MIME type, path, path as listed."""
    stems = [(spec.long_stem(p), spec.file_stem(p)) for p in spec.polarisations]
    xml, binary = "text/xml", "application/octet-stream"
    for long, stem in stems:
        for kind, place in (
            ("product", "annotation/"),
            ("noise", "annotation/calibration/noise-"),
            ("calibration", "annotation/calibration/calibration-"),
        ):
            yield f"{kind}{_identity(long)}", kind.capitalize(), xml, f"{place}{stem}.xml", f"{place}{long}.xml"
    yield "mapoverlay", "MapOverlay", xml, "preview/map-overlay.kml", "preview/map-overlay.kml"
    for long, stem in stems:
        yield _identity(long), "Measurement", binary, f"measurement/{stem}.tiff", f"measurement/{long}.tiff"
    yield "quicklook", "QuickLook", binary, "preview/quick-look.png", "preview/quick-look.png"


def _identity(long_stem: str) -> str:
    return long_stem.removesuffix("-cog").replace("-", "")


def _write_tree(
    folder: Path, spec: ProductSpec, sigma0: Sigma0, looks: float | None, threads: int, progress: Progress
) -> None:
    tables = SimulatedLuts(spec)
    annotation, measurement, preview = folder / "annotation", folder / "measurement", folder / "preview"
    for name in (annotation / "calibration", measurement, preview):
        name.mkdir(parents=True)
    lines, pixels = grid_positions(spec)
    lon, lat = tables.geometry.lonlat(lines[:, None], pixels[None, :])
    written = write_measurements(
        {p: measurement / f"{spec.file_stem(p)}.tiff" for p in spec.polarisations},
        (spec.lines, spec.samples),
        sigma0,
        _Rows(tables),
        seed=spec.seed,
        looks=looks,
        spacing_m=(spec.pixel_spacing_m, spec.pixel_spacing_m),
        gcps=tie_points(lines, pixels, lon, lat, np.zeros_like(lon)),
        cog=spec.cog,
        threads=threads,
        progress=progress,
    )
    for p in spec.polarisations:
        stem = spec.file_stem(p)
        (annotation / f"{stem}.xml").write_bytes(annotation_xml(tables, p, written[p].statistics))
        (annotation / "calibration" / f"calibration-{stem}.xml").write_bytes(calibration_xml(tables, p))
        (annotation / "calibration" / f"noise-{stem}.xml").write_bytes(noise_xml(tables, p))
    write_quicklook(preview / "quick-look.png", [w.picture for w in written.values()])
    (preview / "map-overlay.kml").write_bytes(overlay_kml(spec, tables.geometry))
    (folder / RECORD).write_text(NOTICE, encoding="utf-8")
    files = [
        file_entry(folder / path, identity=identity, schema=f"s1Level1{schema}Schema", mime=mime, href=f"./{listed}")
        for identity, schema, mime, path, listed in _listed(spec)
    ]
    manifest = manifest_xml(spec, tables.geometry, files)
    (folder / "manifest.safe").write_bytes(manifest)


class _Rows:
    """Gain and noise of blocks of lines, for :func:`write_measurements`."""

    def __init__(self, tables: SimulatedLuts) -> None:
        self._tables = tables
        self._pixels = np.arange(tables.spec.samples)
        self._gain = (tables.sigma_nought([0], self._pixels) ** 2).astype(np.float32)

    def __call__(self, polarisation: str, first: int, stop: int) -> RowLuts:
        lines, t = np.arange(first, stop), self._tables
        true = t.noise_true(polarisation, lines, self._pixels)
        annotated = t.noise_annotated(polarisation, lines, self._pixels) if t.spec.denoised else None
        gain = self._gain
        near, far = t.fringe_px(lines)
        if near.any() or far.any():
            dim = (self._pixels < near[:, None]) | (self._pixels >= t.spec.samples - far[:, None])
            gain = np.where(dim, np.float32(0), gain)
            true[dim & ~np.isnan(true)] = FRINGE_POWER
        return RowLuts(gain, true, annotated)


def write_quicklook(path: Path, pictures: Sequence[NDArray[np.float32]]) -> None:
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


def _pack(folder: Path, archive: Path, spec: ProductSpec) -> None:
    """Zip the folder of a product. Members have the time of the product, so that equal content gives equal bytes."""
    time = spec.start.timetuple()[:6]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            member = zipfile.ZipInfo(f"{spec.folder_name}/{path.relative_to(folder).as_posix()}", time)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            with path.open("rb") as source, z.open(member, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
