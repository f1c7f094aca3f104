"""How far from the truth floemap and GDAL place the pixels of an EW scene.

    python benchmarks/geolocation.py [--product FOLDER] [--step 4000]

Each method is asked which image position shows a place on the ground, as warping an image asks, for places all over
the scene. The error is the distance, on the ground, from the place to what that image position truly shows.

The truth is independent of the geolocation grid that all methods start from:

- for a real product's metadata, the range-Doppler equations solved at height 0 for the position's zero-Doppler time and
  its slant range, from the annotation's ground range polynomials. Between two polynomials, some 170 lines apart, the
  specification leaves open whether to interpolate or to take the nearest, so both are printed;
- for a simulated product, the simulator's closed form.

Only what stands between the outermost 2 % of the image is counted. Real metadata: --product, or ../shared/data.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyproj
from lxml import etree
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer

from floemap.errors import FloemapError
from floemap.sentinel1 import range_doppler as rd
from floemap.sentinel1.geolocation import LATTICE_M, GeoLocator, inverse_map, target_grid
from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.safe.reader import open_scene
from floemap.simulation.safe.writer import ProductSpec, luts, write_safe

Floats = NDArray[np.float64]
#: (line, pixel) to longitude and latitude, degrees.
Truth = Callable[[Floats, Floats], tuple[Floats, Floats]]
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CRS = "EPSG:3413"
MARGIN = 0.02


@dataclass(frozen=True)
class Places:
    """Places on a coarse map grid that lie inside the image, (n,)."""

    lon: Floats
    lat: Floats

    @classmethod
    def over(cls, locator: GeoLocator, step_m: float) -> Places:
        """Lay a grid of `step_m` over the scene."""
        lon, lat = locator.footprint(100)
        x, y = pyproj.Transformer.from_crs("EPSG:4326", CRS, always_xy=True).transform(lon, lat)
        rows, cols = int(np.ptp(y) / step_m), int(np.ptp(x) / step_m)
        col, row = np.meshgrid(np.arange(cols) + 0.5, np.arange(rows) + 0.5)
        x, y = x.min() + step_m * col, y.max() - step_m * row
        lon, lat = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(x, y)
        line, pixel = locator.to_image(lon, lat)
        lines, pixels = locator.shape
        inside = (abs(line / lines - 0.5) < 0.5 - MARGIN) & (abs(pixel / pixels - 0.5) < 0.5 - MARGIN)
        return cls(lon[inside], lat[inside])


def error_m(places: Places, truth: Truth, line: Floats, pixel: Floats) -> Floats:
    """Distance from the places to what the image positions truly show."""
    lon, lat = truth(line, pixel)
    return np.linalg.norm(rd.ecef(lon, lat) - rd.ecef(places.lon, places.lat), axis=-1)


def by_gdal(scene: Scene, places: Places, *, spline: bool, projected: bool = False) -> tuple[Floats, Floats]:
    """Image positions of the places by GDAL's transform from the geolocation grid: its default polynomial or spline.

    From the grid's longitudes and latitudes, as in the TIFFs, or `projected` to the map first.
    """
    g = scene.geolocation
    to_map = pyproj.Transformer.from_crs("EPSG:4326", CRS, always_xy=True).transform
    x, y = to_map(g.longitude_deg, g.latitude_deg) if projected else (g.longitude_deg, g.latitude_deg)
    gcps = [
        GroundControlPoint(line + 0.5, pixel + 0.5, x[i, j], y[i, j])
        for i, line in enumerate(g.lines)
        for j, pixel in enumerate(g.pixels)
    ]
    at = to_map(places.lon, places.lat) if projected else (places.lon, places.lat)
    with GCPTransformer(gcps, tps=spline) as transformer:
        row, col = transformer.rowcol(*at, op=lambda x: x)
    return np.asarray(row) - 0.5, np.asarray(col) - 0.5


def by_polynomial(scene: Scene, places: Places, order: int) -> tuple[Floats, Floats]:
    """The same by a least-squares polynomial, as GDAL fits it: rasterio lets one choose no order but the default, 2."""
    g = scene.geolocation
    middle, half = g.longitude_deg.mean(), np.ptp(g.longitude_deg) / 2
    middle_lat, half_lat = g.latitude_deg.mean(), np.ptp(g.latitude_deg) / 2

    def terms(lon: Floats, lat: Floats) -> Floats:
        x, y = (lon - middle) / half, (lat - middle_lat) / half_lat
        return np.stack([x**i * y**j for i in range(order + 1) for j in range(order + 1 - i)], axis=-1)

    design = terms(g.longitude_deg, g.latitude_deg).reshape(g.longitude_deg.size, -1)
    position = np.stack(np.broadcast_arrays(g.lines[:, None], g.pixels), axis=-1).reshape(-1, 2)
    coefficients = np.linalg.lstsq(design, position, rcond=None)[0]
    found = terms(places.lon, places.lat) @ coefficients
    return found[..., 0], found[..., 1]


def real_truth(scene: Scene, annotation: Path, *, nearest: bool) -> Truth:
    """Range-Doppler positions at height 0 from the ground range polynomials and the orbit, any line and pixel."""
    root = etree.parse(str(annotation)).getroot()
    records = root.findall(".//coordinateConversionList/coordinateConversion")
    times = np.array([_seconds(r.findtext("azimuthTime"), scene.start) for r in records])
    origins = np.array([float(r.findtext("gr0")) for r in records])
    coefficients = [np.array(r.findtext("grsrCoefficients").split(), float) for r in records]
    interval_s = float(root.findtext(".//imageInformation/azimuthTimeInterval"))
    g = scene.geolocation
    # The annotated times run ahead of the line's by up to 0.4 ms from near to far range: the pulse's travel.
    lead_s = np.mean(g.azimuth_time_s - g.lines[:, None] * interval_s, axis=0)

    def at(line: Floats, pixel: Floats) -> tuple[Floats, Floats]:
        time_s = line * interval_s + np.interp(pixel, g.pixels, lead_s)
        before = np.clip(np.searchsorted(times, time_s, side="right") - 1, 0, len(times) - 2)
        share = np.clip((time_s - times[before]) / (times[before + 1] - times[before]), 0, 1)
        share = np.round(share) if nearest else share
        ground_m = pixel * scene.pixel_spacing_m[1]
        slant_m = np.zeros_like(ground_m)
        for record, weight in ((before, 1 - share), (before + 1, share)):
            for r in np.unique(record):
                here = record == r
                polynomial = np.polynomial.polynomial.polyval(ground_m[here] - origins[r], coefficients[r])
                slant_m[here] += weight[here] * polynomial
        guess = GeoLocator(scene, "annotated").to_ground(line, pixel)
        point = rd.locate(scene.orbit, time_s, slant_m, 0.0, rd.ecef(*guess))
        return rd.geodetic(point)[:2]

    return at


def _seconds(text: str, start: datetime) -> float:
    return (datetime.fromisoformat(text).replace(tzinfo=start.tzinfo) - start).total_seconds()


METHODS: dict[str, Callable[[Scene, Places], tuple[Floats, Floats]]] = {
    "floemap, sea level": lambda s, p: GeoLocator(s, "sea").to_image(p.lon, p.lat),
    "floemap, annotated heights": lambda s, p: GeoLocator(s, "annotated").to_image(p.lon, p.lat),
    "GDAL's default polynomial": lambda s, p: by_gdal(s, p, spline=False),
    "polynomial of order 1": lambda s, p: by_polynomial(s, p, 1),
    "polynomial of order 2": lambda s, p: by_polynomial(s, p, 2),
    "polynomial of order 3": lambda s, p: by_polynomial(s, p, 3),
    "GDAL's thin-plate spline": lambda s, p: by_gdal(s, p, spline=True),
    "the same, projected first": lambda s, p: by_gdal(s, p, spline=True, projected=True),
}


def report(title: str, scene: Scene, truths: dict[str, Truth], step_m: float) -> None:
    """Print the table of one scene."""
    places = Places.over(GeoLocator(scene), step_m)
    far_from_land = _far_from_land(scene, places)
    parts = {"whole image": np.ones(len(places.lon), bool)}
    if not far_from_land.all():
        parts["no land within two nodes"] = far_from_land
    print(f"\n{title}: {len(places.lon)} places, {step_m / 1000:g} km apart")
    positions = {name: method(scene, places) for name, method in METHODS.items()}
    for truth_name, truth in truths.items():
        for part, mask in parts.items():
            print(f"  against {truth_name}, {part} ({mask.mean():.0%})")
            print(f"  {'':28} {'median m':>9} {'95 % m':>9} {'max m':>9} {'over 80 m':>10}")
            for name, (line, pixel) in positions.items():
                e = error_m(places, truth, line, pixel)[mask]
                middle, most = np.percentile(e, [50, 95])
                print(f"  {name:28} {middle:9.2f} {most:9.2f} {e.max():9.2f} {(e > 80).mean():10.2%}")
    _print_surfaces(scene)
    _print_lattice(scene)


def _far_from_land(scene: Scene, places: Places) -> NDArray[np.bool_]:
    """Which places have only nodes at sea level around them, two on each side."""
    g = scene.geolocation
    line, pixel = GeoLocator(scene).to_image(places.lon, places.lat)
    i, j = np.searchsorted(g.lines, line), np.searchsorted(g.pixels, pixel)
    high = np.pad(abs(g.height_m) > 1, 2)
    return np.array([not high[a : a + 4, b : b + 4].any() for a, b in zip(i, j, strict=True)])


def _print_surfaces(scene: Scene) -> None:
    """How far apart sea level and annotated heights place the same pixel."""
    line, pixel = np.meshgrid(np.arange(0, scene.shape[0], 20.0), np.arange(0, scene.shape[1], 20.0), indexing="ij")
    sea, annotated = (rd.ecef(*GeoLocator(scene, s).to_ground(line, pixel)) for s in ("sea", "annotated"))
    apart = np.linalg.norm(sea - annotated, axis=-1)
    print(
        f"  sea level and annotated heights ({scene.geolocation.height_m.max():.0f} m at most) place a pixel up to"
        f" {apart.max():.0f} m apart, {(apart > 80).mean():.1%} of the pixels more than 80 m"
    )


def _print_lattice(scene: Scene) -> None:
    """What prepare adds: it solves for every 32nd pixel of the map and goes linearly in between."""
    locator = GeoLocator(scene)
    geobox = target_grid(locator, CRS, 80.0)
    lattice = inverse_map(locator, geobox)
    worst = 0.0
    for row in range(16, geobox.shape[0], 997):
        col = np.arange(16, geobox.shape[1], 7)
        x, y = geobox.transform.c + 80 * (col + 0.5), geobox.transform.f - 80 * (row + 0.5) * np.ones(col.size)
        lon, lat = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(x, y)
        exact = locator.to_image(lon, lat)
        inside = [(p > 0) & (p < n - 1) for p, n in zip(exact, scene.shape, strict=True)]
        line, pixel = (lattice.expand(f, row, row + 1, geobox.shape[1])[0, col] for f in (lattice.line, lattice.pixel))
        off = np.hypot(line - exact[0], pixel - exact[1])[inside[0] & inside[1]]
        worst = max(worst, float(off.max(initial=0)) * max(scene.pixel_spacing_m))
    print(f"  between the {LATTICE_M:g} m nodes of prepare's lattice at 80 m, up to {worst:.2f} m are added")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--product", type=Path, help="folder of a product; its pixels are not needed")
    parser.add_argument("--step", type=float, default=4000.0, help="metres from place to place")
    options = parser.parse_args()
    found = [options.product] if options.product else sorted(SHARED.glob("S1?_EW_GRDM_1SDH_*"))
    for path in found:
        try:
            scene = open_scene(path, pixels=False)
        except FloemapError as e:
            raise SystemExit(f"error: {e}") from e
        annotation = next(f for f in sorted((path / "annotation").glob("*.xml")) if "-hh" in f.name.lower())
        truths = {
            f"{word} ground range polynomials": real_truth(scene, annotation, nearest=word == "nearest")
            for word in ("nearest", "interpolated")
        }
        report(f"Real metadata, {scene.name}", scene, truths, options.step)
    if not found:
        print("no real metadata found in ../shared/data: skipped; --product names some")
    if not options.product:
        simulated(options.step)


def simulated(step_m: float) -> None:
    """The same on simulated products, full extent; few pixels are enough, as geometry does not depend on them."""
    import tempfile

    for name, centre in {"Fram Strait": (-10, 77), "across the dateline": (180, 75), "at the pole": (0, 89)}.items():
        spec = ProductSpec(
            start=datetime(2018, 3, 13, 18, 12, 25), lines=1071, samples=1049, pixel_spacing_m=400,
            centre_lon=centre[0], centre_lat=centre[1], heading_deg=-150, seed=1,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            flat = np.full((spec.lines, spec.samples), 0.01, np.float32)
            scene = open_scene(write_safe(Path(folder), spec, {"HH": flat, "HV": flat}, looks=None))
            report(f"Simulated, {name}", scene, {"the closed form": luts(spec).geometry.lonlat}, step_m)


if __name__ == "__main__":
    main()
