"""Charts as NetCDF: by the CF conventions, equal to the rasters, on the same grid."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import pyproj
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from floemap.errors import OutputError
from floemap.inference.draftchart.cf_files import CONVENTIONS
from floemap.inference.draftchart.netcdf import LAND_FLAG, write_netcdf
from floemap.inference.predict.scene_maps import STEPS, SceneMaps, without_land
from floemap.legend import IGNORE, LEGENDS, SIX_CLASSES, Legend

START = datetime(2018, 1, 16, 7, 54, 30, tzinfo=UTC)
STOP = START + timedelta(seconds=60)
ATTRIBUTES = {
    "title": "Draft ice chart",
    "institution": "none",
    "source": "drawn",
    "history": "now",
    "references": "none",
    "comment": "draft, not for navigation",
    "simulated": "yes",
}


def draw_maps(crs: str = "EPSG:3413", legend: Legend = SIX_CLASSES, models: int = 2) -> SceneMaps:
    """Maps of numbers; their first rows have no data."""
    rng = np.random.default_rng(1)
    shape = (61, 83)
    classes = rng.integers(0, len(legend), shape).astype(np.uint8)
    shares = rng.integers(0, STEPS + 1, (len(legend) + 2, *shape)).astype(np.uint8)
    classes[:5] = shares[:, :5] = IGNORE
    box = GeoBox(shape, Affine(80, 0, 400_000, 0, -80, -900_000), crs)
    return SceneMaps(box, legend, classes, shares[:-2], shares[-2], shares[-1] if models > 1 else None)


def write(path: Path, maps: SceneMaps, **kwargs: Any) -> Path:
    write_netcdf(path, maps, start=START, stop=STOP, attributes=ATTRIBUTES, **kwargs)
    return path


@contextmanager
def opened(path: Path) -> Iterator[xr.Dataset]:
    with xr.open_dataset(path, engine="h5netcdf") as d:
        yield d


def test_classes_are_flags(tmp_path: Path) -> None:
    maps = draw_maps()
    with opened(write(tmp_path / "chart.nc", maps)) as d:
        flags = d["ice_class"].attrs
        assert flags["standard_name"] == "sea_ice_classification"
        named = dict(zip(flags["flag_meanings"].split(), flags["flag_values"].tolist(), strict=True))
        assert named == {c.key: c.id for c in SIX_CLASSES.classes}
        values = d["ice_class"].values[0]
        assert (np.isnan(values) == (maps.classes == IGNORE)).all()
        known = maps.classes != IGNORE
        assert (values[known] == maps.classes[known]).all()
        assert d.attrs["Conventions"] == CONVENTIONS
        assert d.attrs | ATTRIBUTES == d.attrs
        assert set(flags["ancillary_variables"].split()) == {"class_probability", "entropy", "mutual_information"}


def test_shares_are_percents(tmp_path: Path) -> None:
    maps = draw_maps()
    known = maps.classes != IGNORE
    with opened(write(tmp_path / "chart.nc", maps, probabilities=True)) as d:
        expected = {"entropy": maps.entropy, "mutual_information": maps.mutual_information}
        expected |= {f"probability_{c.key}": maps.probabilities[c.id] for c in SIX_CLASSES.classes}
        index = np.where(known, maps.classes, 0)[None]
        expected["class_probability"] = np.take_along_axis(maps.probabilities, index, axis=0)[0]
        assert set(d.data_vars) - {"ice_class", "time_bounds"} == set(expected)
        for name, stored in expected.items():
            assert d[name].attrs["units"] == "%"
            values = d[name].values[0]
            assert np.isnan(values[~known]).all()
            np.testing.assert_allclose(values[known], stored[known] * (100 / STEPS), atol=0.5)
            assert d[name].dtype.kind == "f" and values[known].min() >= 0 and values[known].max() <= 100
    with opened(write(tmp_path / "one.nc", draw_maps(models=1))) as d:
        assert set(d.data_vars) == {"ice_class", "class_probability", "entropy", "time_bounds"}


def test_land_is_a_flag_of_its_own(tmp_path: Path) -> None:
    mask = np.zeros((61, 83), np.bool_)
    mask[:20, :30] = True
    maps = without_land(draw_maps(), mask)
    with opened(write(tmp_path / "chart.nc", maps)) as d:
        assert d["ice_class"].attrs["flag_meanings"].split()[-1] == "land"
        values = d["ice_class"].values[0]
        assert ((values == LAND_FLAG) == maps.land).all()
        assert (values == LAND_FLAG)[5:20, :30].all() and not (values == LAND_FLAG)[:5].any(), "no data is no land"
        assert np.isnan(d["class_probability"].values[0][mask]).all()


def test_time_is_that_of_the_scene(tmp_path: Path) -> None:
    with opened(write(tmp_path / "chart.nc", draw_maps())) as d:
        assert d["time"].values == np.datetime64("2018-01-16T07:55:00")
        assert d["time_bounds"].values.ravel().tolist() == [
            np.datetime64(t.replace(tzinfo=None), "ns").item() for t in (START, STOP)
        ]


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031", "EPSG:32633", "EPSG:6931", "EPSG:5938"])
def test_the_grid_is_the_rasters(crs: str, tmp_path: Path) -> None:
    import rioxarray  # noqa: F401  gives datasets .rio

    maps = draw_maps(crs)
    with opened(write(tmp_path / "chart.nc", maps)) as d:
        one = d["ice_class"]
        assert one.rio.crs.to_epsg() == int(crs.split(":")[1])
        np.testing.assert_allclose(tuple(one.rio.transform()), tuple(maps.geobox.transform), atol=1e-6)
        mapping = d["spatial_ref"].attrs
        # By the conventions' own parameters alone, without the WKT, it is the same projection.
        own = {k: v for k, v in mapping.items() if k != "crs_wkt"}
        to_wgs = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(500_000, -1_000_000)
        again = pyproj.Transformer.from_crs(pyproj.CRS.from_cf(own), 4326, always_xy=True)
        np.testing.assert_allclose(again.transform(500_000, -1_000_000), to_wgs, atol=1e-7)
        if mapping["grid_mapping_name"] == "polar_stereographic":
            south = crs == "EPSG:3031"
            assert mapping["latitude_of_projection_origin"] == (-90 if south else 90)


def test_types_are_those_of_every_version(tmp_path: Path) -> None:
    """Unsigned bytes and 64-bit whole numbers came with CF-1.9."""
    with h5netcdf.File(write(tmp_path / "chart.nc", draw_maps(), probabilities=True)) as f:
        kinds = {name: v.dtype.name for name, v in f.variables.items()}
        assert set(kinds.values()) <= {"int8", "int32", "float64"}
        for name, v in f.variables.items():
            if name in ("x", "y", "time", "time_bounds"):
                assert "_FillValue" not in v.attrs
            elif v.ndim == 3:
                assert v.attrs["_FillValue"] == -1
                assert (v.compression, v.chunks) == ("gzip", (1, 61, 83))


@pytest.mark.skipif(
    importlib.util.find_spec("compliance_checker") is None, reason="compliance-checker is not installed"
)
@pytest.mark.parametrize(
    ("crs", "legend"),
    [*(("EPSG:3413", x) for x in LEGENDS), *((crs, "six_classes") for crs in ("EPSG:3031", "EPSG:32633", "EPSG:6931"))],
)
def test_a_checker_finds_nothing(crs: str, legend: str, tmp_path: Path) -> None:
    """IOOS's compliance-checker, with the tables that come with it. In a process of its own: it loads another HDF5."""
    maps = without_land(draw_maps(crs, LEGENDS[legend]), np.tri(61, 83, dtype=np.bool_))
    path = write(tmp_path / "chart.nc", maps, probabilities=True)
    version = re.match(r"CF-([0-9.]+)", CONVENTIONS)
    assert version is not None
    script = f"""
from compliance_checker.runner import CheckSuite, ComplianceChecker
CheckSuite.load_all_available_checkers()
passed, errors = ComplianceChecker.run_checker({str(path)!r}, ["cf:{version[1]}"], 2, "strict", output_filename="-")
raise SystemExit(0 if passed and not errors else 1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All tests passed!" in done.stdout


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"chart\.nc: cannot be written: No space left on device"):
        write(tmp_path / "chart.nc", draw_maps())
    assert not any(tmp_path.iterdir())


def test_several_charts_go_together(tmp_path: Path) -> None:
    """On one grid, they are put one behind the other."""
    maps = draw_maps()
    later = replace(maps, classes=maps.classes[:, ::-1].copy())
    first, second = write(tmp_path / "a.nc", maps), tmp_path / "b.nc"
    day = timedelta(days=1)
    write_netcdf(second, later, start=START + day, stop=STOP + day, attributes=ATTRIBUTES)
    with opened(first) as a, opened(second) as b:
        both = xr.concat([a, b], "time", data_vars="minimal", coords="minimal", compat="equals", join="exact")
        assert both["ice_class"].shape == (2, 61, 83)
        assert (both["time"].diff("time").values == np.timedelta64(1, "D")).all()
