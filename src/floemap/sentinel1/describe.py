"""Descriptions of products, as JSON for programs and as lines for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from floemap.counts import counted
from floemap.grid import box_in_words, crs_in_words
from floemap.results.stage import read_json
from floemap.sentinel1.geolocation import GeoLocator
from floemap.sentinel1.metadata import Scene, SwathBounds, bounds_by_swath
from floemap.sentinel1.radiometry import CalibrationTable, NoiseTable
from floemap.sentinel1.range_doppler import residuals_m
from floemap.sentinel1.stac import footprint_geometry, geodesic_area_km2

#: Side in pixels of the cells over which the noise-equivalent sigma nought is summarised.
_SUMMARY_LOOKS = 8


def identity(scene: Scene) -> dict[str, Any]:
    """Return what identifies a scene, JSON-ready."""
    return {
        "name": scene.name,
        "mission": scene.mission,
        "mode": scene.mode,
        "polarisations": list(scene.polarisations),
        "start": scene.start.isoformat(),
        "stop": scene.stop.isoformat(),
        "pass_direction": scene.pass_direction,
        "absolute_orbit": scene.absolute_orbit,
        "relative_orbit": scene.relative_orbit,
        "ipf_version": f"{scene.ipf_version[0]}.{scene.ipf_version[1]:02d}",
    }


def describe_scene(scene: Scene) -> dict[str, Any]:
    """Return the facts of a product, JSON-ready: identity, image, geometry, noise, sub-swaths."""
    grid = scene.geolocation
    lon, lat = GeoLocator(scene).footprint(20)
    _, bbox = footprint_geometry(lon, lat)
    return identity(scene) | {
        "kind": "Sentinel-1 product",
        "path": str(scene.container.path),
        "form": "zip" if scene.container.is_zip else "folder",
        "simulated": scene.simulated,
        "product_type": scene.product_type,
        "datatake": scene.datatake,
        "heading_deg": scene.heading_deg,
        "lines": scene.shape[0],
        "samples": scene.shape[1],
        "pixel_spacing_m": {"azimuth": scene.pixel_spacing_m[0], "range": scene.pixel_spacing_m[1]},
        "area_km2": geodesic_area_km2(lon, lat),
        "bbox_lonlat_deg": bbox,
        "incidence_deg": [float(grid.incidence_deg.min()), float(grid.incidence_deg.max())],
        "geolocation_grid": list(grid.latitude_deg.shape),
        "height_m": [float(grid.height_m.min()), float(grid.height_m.max())],
        "geolocation_residual_m": float(residuals_m(grid, scene.orbit).max()),
        "orbit_state_vectors": len(scene.orbit.time_s),
        "sub_swaths": {name: _extent(bounds) for name, bounds in bounds_by_swath(scene.swaths).items()},
        "radiometry": {p: _radiometry(scene, p) for p in scene.polarisations},
    }


def scene_problems(scene: Scene) -> list[str]:
    """Return why a readable product cannot be prepared with the default settings; empty if it can."""
    return [
        f"the annotated noise of {p} cannot be used: {noise.unusable}"
        for p, noise in scene.noise.items()
        if noise.unusable is not None and scene.noise_units_known and not scene.noise_subtracted[p]
    ]


def _extent(bounds: Sequence[SwathBounds]) -> dict[str, Any]:
    last = max(bounds, key=lambda b: b.last_line)
    return {
        "first_line": min(b.first_line for b in bounds),
        "last_line": last.last_line,
        "first_pixel": last.first_pixel,
        "last_pixel": last.last_pixel,
        "bounds": len(bounds),
    }


def _radiometry(scene: Scene, p: str) -> dict[str, Any]:
    noise, calibration, nesz = scene.noise[p], scene.calibration[p], nesz_db(scene, p)
    return {
        "dn_mean": scene.dn_mean[p],
        "dn_std": scene.dn_std[p],
        "sigma_nought_lut": [float(calibration.sigma_nought.min()), float(calibration.sigma_nought.max())],
        "calibration_vectors": len(calibration.lines),
        "noise_form": noise.form,
        "noise_vectors": len(noise.range_vectors),
        "azimuth_noise_blocks": len(noise.azimuth_blocks),
        "noise_subtracted_by_processor": scene.noise_subtracted[p],
        "nesz_db": None if nesz is None else list(nesz),
        "noise_repairs": [asdict(r) for r in noise.repairs],
    }


def nesz_db(scene: Scene, polarisation: str) -> tuple[float, float] | None:
    """Return the least and largest noise-equivalent sigma nought in dB, from annotated noise and calibration.

    Return None if the annotated noise is zero everywhere.
    """
    n = min(_SUMMARY_LOOKS, *scene.shape)
    table = NoiseTable(scene.noise[polarisation], scene.swaths, scene.shape, n)
    rows = scene.shape[0] // n
    noise, inside = table.cells(0, rows)
    calibration = CalibrationTable(scene.calibration[polarisation], scene.shape[1], n)
    nesz = (noise * calibration.inverse_square(0, rows))[inside]
    nesz = nesz[nesz > 0]
    if not nesz.size:
        return None
    return float(10 * np.log10(nesz.min())), float(10 * np.log10(nesz.max()))


def scene_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of :func:`describe_scene` as lines of (name, text) for people."""
    spacing, orbit = facts["pixel_spacing_m"], facts["absolute_orbit"]
    low, high = facts["height_m"]
    rows, cols = facts["geolocation_grid"]
    kind = f"{facts['mission']} {facts['mode']} {facts['product_type']}, {'+'.join(facts['polarisations'])}"
    pixel = f"{spacing['azimuth']:g} x {spacing['range']:g} m"
    lines = [
        ("Product", facts["name"]),
        ("Kind", f"{kind}, {facts['form']}{', SIMULATED' if facts['simulated'] else ''}"),
        ("Time", f"{facts['start'][:19].replace('T', ' ')} to {facts['stop'][11:19]} UTC"),
        ("Orbit", f"{orbit} absolute, {facts['relative_orbit']} relative, {facts['pass_direction'].lower()}"),
        ("Processor", f"IPF {facts['ipf_version']}"),
        ("Image", f"{facts['lines']} lines x {facts['samples']} samples of {pixel}, {facts['area_km2']:,.0f} km²"),
        ("Place", box_in_words(*facts["bbox_lonlat_deg"])),
        ("Incidence angle", f"{facts['incidence_deg'][0]:.1f} to {facts['incidence_deg'][1]:.1f}°"),
        ("Geolocation grid", f"{rows} x {cols} points, heights {low:.0f} to {high:.0f} m"),
        ("Orbit state", f"{facts['orbit_state_vectors']} vectors, grid within {facts['geolocation_residual_m']:.2f} m"),
        ("Sub-swaths", ", ".join(f"{n} from pixel {s['first_pixel']}" for n, s in facts["sub_swaths"].items())),
    ]
    for p, r in facts["radiometry"].items():
        a, nesz = r["sigma_nought_lut"], r["nesz_db"]
        lines.append((f"{p} pixels", f"DN {r['dn_mean']:.1f} ± {r['dn_std']:.1f}; A {a[0]:.0f} to {a[1]:.0f}"))
        blocks = f", {counted(r['azimuth_noise_blocks'], 'azimuth block')}" if r["azimuth_noise_blocks"] else ""
        subtracted = "; subtracted by the processor" if r["noise_subtracted_by_processor"] else ""
        level = "none annotated" if nesz is None else f"{nesz[0]:.1f} to {nesz[1]:.1f} dB"
        repaired = f"; {counted(len(r['noise_repairs']), 'part')} replaced" if r["noise_repairs"] else ""
        lines.append(
            (f"{p} noise floor", f"{level} ({counted(r['noise_vectors'], 'vector')}{blocks}){subtracted}{repaired}")
        )
    return lines


def describe_prepared(folder: Path) -> dict[str, Any]:
    """Return the facts of a prepared product's folder: its product.json."""
    return read_json(folder / "product.json") | {"kind": "prepared product", "path": str(folder)}


def _surface(geometry: dict[str, Any]) -> str:
    low, high = geometry["height_m"]
    if geometry["surface"] == "sea":
        return f"sea level, {geometry['sea_level']}: {low:g} to {high:g} m above WGS84"
    why = f", since {geometry['instead_of_sea']}" if geometry["instead_of_sea"] else ""
    return f"annotated terrain, {low:g} to {high:g} m above WGS84{why}"


def prepared_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of :func:`describe_prepared` as lines of (name, text) for people."""
    scene, grid, pixels = facts["scene"], facts["grid"], facts["pixels"]
    total = pixels["valid"] + pixels["no_data"]
    crs = crs_in_words(grid["crs"])
    lines = [
        ("Prepared product", f"{scene['name']}{', SIMULATED' if facts['simulated'] else ''}"),
        ("Time", f"{scene['start'][:19].replace('T', ' ')} UTC"),
        ("Grid", f"{grid['shape'][0]} x {grid['shape'][1]} px of {grid['transform'][0]:g} m in {crs}"),
        ("Valid", f"{pixels['valid']:,} px, {pixels['valid'] / total:.1%} of the grid"),
        ("Below noise floor", f"HH {pixels['hh_below_noise_floor'] / pixels['valid']:.2%}, "
                              f"HV {pixels['hv_below_noise_floor'] / pixels['valid']:.2%} of the valid"),
        ("Made by", f"{facts['software']}, {facts['created']}"),
    ]  # fmt: skip
    if "geometry" in facts:  # records of older versions lack it
        lines.insert(3, ("Surface", _surface(facts["geometry"])))
    for p, noise in facts["thermal_noise"].items():
        repaired = noise.get("repairs", [])
        words = f"; {counted(len(repaired), 'part')} of the annotation replaced" if repaired else ""
        lines.append((f"{p} thermal noise", noise["done"] + words))
        for way, left in noise["residual"].items():
            seams = ", ".join(f"{k} {v:+.2f}" for k, v in left["seam_step_db"].items()) or "none measured"
            stripes = ", ".join(f"{k} {v:.2f}" for k, v in left["scalloping_db"].items()) or "none measured"
            lines.append((f"{p} left after {way}", f"steps at seams, dB: {seams}; scalloping, dB: {stripes}"))
    return lines
