"""The STAC item of a prepared product, with SAR, projection, raster and satellite fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pystac
import shapely
import shapely.affinity
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import DataType, RasterBand, RasterExtension
from pystac.extensions.sar import FrequencyBand, Polarization, SarExtension
from pystac.extensions.sat import OrbitState, SatExtension

from floemap.grid import crs_of
from floemap.results.stage import write_json
from floemap.sentinel1.bands import BANDS
from floemap.sentinel1.encoding import NODATA
from floemap.sentinel1.metadata import Acquisition
from floemap.version import __version__


def write_item(
    path: Path,
    scene: Acquisition,
    footprint: tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]],
    geobox: GeoBox,
    further: Mapping[str, Any],
) -> None:
    """Write a STAC item for the product.tif beside `path`.

    Parameters
    ----------
    footprint
        Longitude and latitude, degrees, of the image's closed outline.
    further
        Further properties.
    """
    geometry, bbox = footprint_geometry(*footprint)
    item = pystac.Item(
        id=scene.name,
        geometry=geometry,
        bbox=bbox,
        datetime=None,
        start_datetime=scene.start,
        end_datetime=scene.stop,
        properties={
            "platform": f"sentinel-1{scene.mission[-1].lower()}",
            "constellation": "sentinel-1",
            "instruments": ["c-sar"],
            "simulated": scene.simulated,
            "processing:level": "L1",
            "processing:software": {"floemap": __version__},
        }
        | dict(further),
    )
    item.stac_extensions.append("https://stac-extensions.github.io/processing/v1.2.0/schema.json")
    item.add_asset(
        "product",
        pystac.Asset(
            "product.tif",
            title="HH, HV (dB), incidence angle (degrees), mask",
            media_type=pystac.MediaType.COG,
            roles=["data"],
        ),
    )
    if (path.parent / "quicklook.png").is_file():
        item.add_asset("quicklook", pystac.Asset("quicklook.png", media_type=pystac.MediaType.PNG, roles=["overview"]))
    _describe(item, scene, geobox)
    write_json(path, item.to_dict(include_self_link=False))


def _describe(item: pystac.Item, scene: Acquisition, geobox: GeoBox) -> None:
    crs = crs_of(geobox)
    projection = ProjectionExtension.ext(item, add_if_missing=True)
    projection.apply(
        code=f"EPSG:{crs.epsg}" if crs.epsg else None,
        wkt2=None if crs.epsg else crs.to_wkt(),
        shape=list(geobox.shape),
        transform=list(geobox.transform)[:6],
    )
    sar = SarExtension.ext(item, add_if_missing=True)
    sar.apply(
        instrument_mode=scene.mode,
        frequency_band=FrequencyBand.C,
        polarizations=[Polarization(p) for p in scene.polarisations],
        product_type=scene.product_type,
        center_frequency=scene.radar_frequency_hz / 1e9,
        pixel_spacing_range=scene.pixel_spacing_m[1],
        pixel_spacing_azimuth=scene.pixel_spacing_m[0],
    )
    sat = SatExtension.ext(item, add_if_missing=True)
    sat.apply(orbit_state=OrbitState(scene.pass_direction.lower()), relative_orbit=scene.relative_orbit)
    sat.absolute_orbit = scene.absolute_orbit
    raster = RasterExtension.ext(item.assets["product"], add_if_missing=True)
    raster.bands = [
        RasterBand.create(
            data_type=DataType.INT16,
            nodata=None if b.name == "mask" else NODATA,
            unit=b.units,
            scale=b.scale,
            offset=b.offset,
            spatial_resolution=float(abs(geobox.resolution.x)),
        )
        for b in BANDS
    ]


def footprint_geometry(lon: np.ndarray, lat: np.ndarray) -> tuple[dict[str, object], list[float]]:
    """Return GeoJSON geometry and bounding box of a closed outline in degrees, by RFC 7946.

    An outline across the dateline is cut in two, and the west of its bounding box is larger than the east. An outline
    around a pole is closed along the pole.
    """
    unwrapped = np.degrees(np.unwrap(np.radians(lon)))
    south, north = float(lat.min()), float(lat.max())
    if abs(unwrapped[-1] - unwrapped[0]) > 180:  # the outline encloses a pole
        pole = 90.0 if lat.mean() > 0 else -90.0
        order = np.argsort((lon + 180) % 360)
        ring = [[float((lon[i] + 180) % 360 - 180), float(lat[i])] for i in order]
        edge = float(np.interp(180, [ring[-1][0], ring[0][0] + 360], [ring[-1][1], ring[0][1]]))
        ring = [[-180.0, pole], [-180.0, edge], *ring, [180.0, edge], [180.0, pole], [-180.0, pole]]
        box = [-180.0, min(south, pole), 180.0, max(north, pole)]
        return _anticlockwise(shapely.Polygon(ring)), box
    unwrapped -= 360 * np.floor((unwrapped.min() + 180) / 360)
    west, east = float(unwrapped.min()), float(unwrapped.max())
    outline = shapely.Polygon(np.column_stack([unwrapped, lat]))
    if east <= 180:
        return _anticlockwise(outline), [west, south, east, north]
    here = outline.intersection(shapely.box(-180, -90, 180, 90))
    beyond = shapely.affinity.translate(outline.intersection(shapely.box(180, -90, 540, 90)), -360)
    halves = shapely.MultiPolygon([p for half in (here, beyond) for p in shapely.get_parts(half)])
    return _anticlockwise(halves), [west, south, east - 360, north]


def _anticlockwise(polygons: shapely.Geometry) -> dict[str, object]:
    """Return polygons as GeoJSON with anticlockwise rings, as RFC 7946 requires."""
    geometry: dict[str, object] = json.loads(shapely.to_geojson(shapely.orient_polygons(polygons)))
    return geometry


def geodesic_area_km2(lon: np.ndarray, lat: np.ndarray) -> float:
    """Return the area on WGS84 inside a closed outline in degrees, in square kilometres."""
    area_m2, _ = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)
    return abs(float(area_m2)) / 1e6
