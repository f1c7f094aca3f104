"""Products that the simulator writes: their form, their tables, their pixels, that the reader finds what was put."""

from __future__ import annotations

import hashlib
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from lxml import etree
from pyproj import Geod

from floemap.errors import ConfigError, GridError
from floemap.sentinel1 import range_doppler as rangedoppler
from floemap.sentinel1.geolocation import GeoLocator
from floemap.sentinel1.multilook import calibrate
from floemap.sentinel1.radiometry import CalibrationTable, NoiseTable
from floemap.sentinel1.safe.reader import open_measurement, open_scene, verify
from floemap.simulation.safe.writer import ProductSpec, luts, write_safe

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
REAL = SHARED / "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15"
START = datetime(2018, 1, 16, 7, 54, 30, 123456, tzinfo=UTC)


def spec_of(**changes: Any) -> ProductSpec:
    spec: dict[str, Any] = {
        "start": START,
        "lines": 420,
        "samples": 400,
        "pixel_spacing_m": 1000.0,
        "centre_lon": -8.0,
        "centre_lat": 77.0,
        "heading_deg": -150.0,
    }
    return ProductSpec(**(spec | changes))


def uniform(spec: ProductSpec, hh: float = 0.03, hv: float = 0.004) -> dict[str, np.ndarray]:
    shape = (spec.lines, spec.samples)
    return {p: np.full(shape, hh if p[0] == p[1] else hv, np.float32) for p in spec.polarisations}


FORMS: dict[str, dict[str, Any]] = {
    "esa folder": {},
    "cloud folder": {"naming": "cloud"},
    "zip": {"container": "zip"},
    "cloud zip": {"naming": "cloud", "container": "zip"},
    "cog": {"cog": True},
    "cog zip": {"cog": True, "container": "zip"},
    "before 2.9": {"ipf_version": "002.82", "noise_format": "vectors"},
    "denoised": {"denoised": True},
    "S1B, south": {"mission": "S1B", "centre_lat": -72.0, "centre_lon": 170.0, "heading_deg": -30.0},
}


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> tuple[ProductSpec, Path]:
    spec = spec_of()
    return spec, write_safe(tmp_path_factory.mktemp("product"), spec, uniform(spec))


@pytest.mark.parametrize("form", ["esa folder", "zip"])
def test_gdal_finds_both_bands_by_the_manifest(form: str, tmp_path: Path) -> None:
    spec = spec_of(lines=100, samples=90, **FORMS[form])
    path = write_safe(tmp_path, spec, uniform(spec))
    manifest = f"/vsizip/{path}/{spec.folder_name}/manifest.safe" if path.is_file() else f"{path}/manifest.safe"
    with rasterio.open(manifest) as d:
        assert (d.driver, d.count, d.shape) == ("SAFE", 2, (100, 90))


@pytest.mark.parametrize("form", FORMS)
def test_the_reader_reads_every_form(form: str, tmp_path: Path) -> None:
    spec = spec_of(lines=300, samples=280, **FORMS[form])
    path = write_safe(tmp_path, spec, uniform(spec))
    scene = open_scene(path)
    assert scene.simulated
    assert scene.name == spec.name
    assert scene.shape == (300, 280)
    assert scene.mission == spec.mission
    assert scene.start == spec.start
    assert scene.ipf_version == tuple(int(x) for x in spec.ipf_version.split("."))
    assert scene.noise["HV"].form == spec.noise_format
    assert scene.noise_subtracted == {"HH": spec.denoised, "HV": spec.denoised}
    for polarisation in ("HH", "HV"):
        assert scene.checksums[scene.measurements[polarisation]]
        verify(scene, polarisation)


def test_every_file_is_listed_with_its_size_and_checksum(product: tuple[ProductSpec, Path]) -> None:
    _, path = product
    manifest = etree.parse(path / "manifest.safe")
    listed = {}
    for stream in manifest.iterfind("dataObjectSection/dataObject/byteStream"):
        href = stream.find("fileLocation").get("href").removeprefix("./")
        listed[href] = int(stream.get("size")), stream.findtext("checksum")
    files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
    assert set(files) - set(listed) == {"manifest.safe", "SIMULATED.txt"}
    for name, (size, md5) in listed.items():
        content = files[name].read_bytes()
        assert (len(content), hashlib.md5(content).hexdigest()) == (size, md5), name


def test_counts_are_what_is_counted(product: tuple[ProductSpec, Path]) -> None:
    counted = 0
    for file in product[1].rglob("*.xml"):
        for element in etree.parse(file).iter():
            if (count := element.get("count")) is not None:
                assert int(count) == (len(element) or len((element.text or "").split())), (file.name, element.tag)
                counted += 1
    assert counted > 100


def test_every_file_says_that_it_is_simulated(product: tuple[ProductSpec, Path]) -> None:
    path = product[1]
    assert "simulated" in (path / "SIMULATED.txt").read_text().lower()
    assert 'name="floemap simulator"' in (path / "manifest.safe").read_text()
    for tiff in (path / "measurement").iterdir():
        with rasterio.open(tiff) as t:
            assert "SIMULATED" in t.tags()["TIFFTAG_IMAGEDESCRIPTION"]
            assert t.block_shapes == [(1, t.width)]


@pytest.mark.skipif(not REAL.exists(), reason="the real product's metadata is not here")
@pytest.mark.parametrize("kind", ["annotation/{}.xml", "annotation/calibration/calibration-{}.xml",
                                  "annotation/calibration/noise-{}.xml", "manifest.safe"])  # fmt: skip
def test_elements_are_those_of_a_real_product_and_in_its_order(kind: str, product: tuple[ProductSpec, Path]) -> None:
    """Every element that is written stands at the same place in the real product, and after the same siblings."""
    spec, path = product
    real, ours = etree.parse(REAL / kind.format("ew-hh")), etree.parse(path / kind.format(spec.file_stem("HH")))

    def children(root: Any) -> dict[str, list[list[str]]]:
        table: dict[str, list[list[str]]] = {}
        for element in root.iter(tag=etree.Element):
            names = list(dict.fromkeys(child.tag for child in element))
            trail = "/".join([*[a.tag for a in element.iterancestors()][::-1], element.tag])
            table.setdefault(trail, []).append(names)
        return table

    known = children(real)
    for trail, lists in children(ours).items():
        assert trail in known
        for names in lists:
            # some real element holds these children in this order, maybe with others between them
            assert any([n for n in other if n in names] == names for other in known[trail]), (trail, names)


def test_times_in_the_folder_name_are_those_of_the_annotation(product: tuple[ProductSpec, Path]) -> None:
    spec, path = product
    scene = open_scene(path)
    assert f"_{scene.start:%Y%m%dT%H%M%S}_{scene.stop:%Y%m%dT%H%M%S}_{spec.orbit:06d}_{spec.datatake}_" in path.name
    assert scene.datatake == int(spec.datatake, 16)


def test_a_full_scene_has_the_seams_of_a_real_one() -> None:
    blocks = spec_of(lines=10708, samples=10487, pixel_spacing_m=40.0).blocks()
    last = [b for b in blocks if b.last_line == 10707]
    assert [(b.first_sample, b.last_sample) for b in last] == [
        (0, 3111), (3112, 5012), (5013, 7083), (7084, 8958), (8959, 10486)]  # fmt: skip
    assert [min(b.first_line for b in blocks if b.swath == s) for s in range(5)] == [0, 128, 226, 324, 422]


@pytest.mark.parametrize("size", [(64, 64), (65, 300), (300, 65), (1000, 1000), (1700, 2000)])
def test_sub_swaths_fill_all_but_a_staircase_once(size: tuple[int, int]) -> None:
    spec = spec_of(lines=size[0], samples=size[1], pixel_spacing_m=100.0)
    covered = np.zeros(size, np.uint8)
    for b in spec.blocks():
        covered[b.first_line : b.last_line + 1, b.first_sample : b.last_sample + 1] += 1
    assert covered.max() == 1
    inside = covered > 0
    last_start = max(min(b.first_line for b in spec.blocks() if b.swath == k) for k in range(5))
    assert inside[last_start:].all()
    assert not inside[:last_start, -1].any()
    assert inside[0, 0]
    # Before that, each line has an image from the near edge on, without holes.
    assert (np.diff(inside.astype(int), axis=1) <= 0).all()
    index = luts(spec).swath_index(np.arange(size[0]), np.arange(size[1]))
    np.testing.assert_array_equal(index >= 0, inside)


@pytest.mark.parametrize(("noise_format", "ipf_version"), [("range_azimuth", "003.52"), ("vectors", "002.82")])
def test_the_reader_finds_the_same_noise_calibration_and_image(
    noise_format: Any, ipf_version: str, tmp_path: Path
) -> None:
    spec = spec_of(noise_format=noise_format, ipf_version=ipf_version)
    scene = open_scene(write_safe(tmp_path, spec, uniform(spec)))
    tables = luts(spec)
    lines, pixels = np.arange(spec.lines), np.arange(spec.samples)
    for polarisation in spec.polarisations:
        found, inside = NoiseTable(scene.noise[polarisation], scene.swaths, scene.shape, 1).cells(0, spec.lines)
        expected = tables.noise_annotated(polarisation, lines, pixels)
        np.testing.assert_array_equal(inside, ~np.isnan(expected))
        np.testing.assert_allclose(found[inside], expected[inside], rtol=2e-5)
        inverse = CalibrationTable(scene.calibration[polarisation], spec.samples, 1).inverse_square(0, spec.lines)
        np.testing.assert_allclose(inverse**-0.5, tables.sigma_nought(lines, pixels), rtol=1e-5)


def test_noise_floor_and_calibration_resemble_a_real_product() -> None:
    """Ranges of the real product of 2022, range noise only, middle line."""
    spec = spec_of(lines=10708, samples=10487, pixel_spacing_m=40.0)
    tables = luts(spec)
    vectors = {p: min(tables.range_vectors(p), key=lambda v: abs(v.line - 5344)) for p in spec.polarisations}
    for polarisation, low, high in (("HH", -32.8, -20.0), ("HV", -34.2, -20.7)):
        v = vectors[polarisation]
        nesz_db = 10 * np.log10(v.value / tables.sigma_nought([0], v.pixel)[0] ** 2)
        assert nesz_db.min() == pytest.approx(low, abs=0.2)
        assert nesz_db.max() == pytest.approx(high, abs=0.2)
    a = tables.sigma_nought_vector
    assert (a[0], a[-1]) == pytest.approx((1909, 1277), abs=3)
    assert (np.diff(a) < 0).all()


def test_true_noise_departs_from_the_annotated_by_a_few_percent_or_not_at_all() -> None:
    lines, pixels = np.arange(0, 420, 3), np.arange(0, 400, 3)
    exact = luts(spec_of(noise_departure=0.0))
    np.testing.assert_array_equal(exact.noise_true("HV", lines, pixels), exact.noise_annotated("HV", lines, pixels))
    off = luts(spec_of(noise_departure=0.04))
    ratio = off.noise_true("HV", lines, pixels) / off.noise_annotated("HV", lines, pixels)
    swath = off.swath_index(lines, pixels)
    steps = [np.nanmean(ratio[swath == s]) for s in range(5)]
    assert 0.01 < np.ptp(steps) < 0.12  # seams remain after subtraction
    rows = np.nanmean(np.where(swath == 1, ratio, np.nan)[60:], axis=1)
    assert np.ptp(rows) > 0.01  # and scalloping
    assert np.nanmax(abs(ratio - 1)) < 0.2


def test_pixels_carry_the_backscatter_that_was_asked_for(tmp_path: Path) -> None:
    spec = spec_of(lines=600, samples=500, noise_departure=0.0)
    hh = np.linspace(0.01, 0.2, 500, dtype=np.float32) * np.linspace(1, 2, 600, dtype=np.float32)[:, None]
    sigma0: dict[str, Any] = {"HH": hh, "HV": lambda lines: hh[lines] / 8}
    still = calibrate(open_scene(write_safe(tmp_path / "still", spec, sigma0, looks=None)), looks=1)
    valid = still.power[..., 2] > 0
    assert valid.mean() > 0.9
    # DN is rounded to whole numbers: half a unit in some 100 to 700
    np.testing.assert_allclose(still.power[valid, 0], hh[valid], rtol=0.02)
    np.testing.assert_allclose(still.power[valid, 1], hh[valid] / 8, atol=1.5e-4, rtol=0.03)
    spotty = calibrate(open_scene(write_safe(tmp_path / "spotty", spec, sigma0, looks=10.0)), looks=1)
    for band, part in ((0, 1.0), (1, 0.125)):
        off = spotty.power[valid, band] - hh[valid] * part
        spread = np.sqrt(valid.sum())
        assert abs(off.mean()) < 5 * off.std() / spread


@pytest.mark.parametrize("looks", [3.0, 10.0])
def test_speckle_has_the_looks_asked_for(looks: float, tmp_path: Path) -> None:
    """Of DN^2, mean squared over variance is the equivalent number of looks, and pixels of 1 km are independent."""
    spec = spec_of(noise_departure=0.0)
    scene = open_scene(write_safe(tmp_path, spec, uniform(spec), looks=looks))
    with open_measurement(scene, "HH") as m:
        power = m.read(100, 420).astype(float) ** 2
    lines, pixels = np.arange(100, 420), np.arange(spec.samples)
    tables = luts(spec)
    relative = power / (0.03 * tables.sigma_nought(lines, pixels) ** 2 + tables.noise_true("HH", lines, pixels))
    assert relative.mean() == pytest.approx(1, abs=0.01)
    assert 1 / relative.var() == pytest.approx(looks, rel=0.03)
    assert abs(np.corrcoef(relative[:, 1:].ravel(), relative[:, :-1].ravel())[0, 1]) < 0.02


def test_a_denoised_product_is_the_raw_one_less_its_annotated_noise(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"noise_departure": 0.04, "suffix": "0001"}
    raw_spec, done_spec = spec_of(**changes), spec_of(denoised=True, **changes)
    power = {}
    for name, spec in (("raw", raw_spec), ("done", done_spec)):
        scene = open_scene(write_safe(tmp_path / name, spec, uniform(spec, hv=1e-4)))
        with open_measurement(scene, "HV") as m:
            power[name] = m.read(0, spec.lines).astype(float) ** 2
    noise = luts(raw_spec).noise_annotated("HV", np.arange(420), np.arange(400))
    inside = ~np.isnan(noise)
    # Both are rounded to whole DN, so their squares are known to within about one DN times its value.
    slack = 1 + np.sqrt(power["raw"]) + np.sqrt(power["done"])
    assert (abs(power["done"] - np.maximum(power["raw"] - noise, 0)) <= slack)[inside].all()
    assert (power["done"][inside] == 0).any()
    assert (power["raw"][inside] > 0).all()
    assert not power["raw"][~inside].any()
    assert not power["done"][~inside].any()


def test_the_fringe_of_some_lines_is_that_of_all() -> None:
    tables = luts(spec_of(lines=4000, samples=4000, pixel_spacing_m=100.0, **FORMS["before 2.9"]))
    whole = tables.fringe_px(np.arange(4000))
    for first in range(0, 4000, 256):
        lines = np.arange(first, min(first + 256, 4000))
        for side, of_all in zip(tables.fringe_px(lines), whole, strict=True):
            np.testing.assert_array_equal(side, of_all[lines])


def test_early_processors_leave_a_dim_fringe(tmp_path: Path) -> None:
    spec = spec_of(samples=2000, pixel_spacing_m=200.0, noise_format="vectors", ipf_version="002.82")
    scene = open_scene(write_safe(tmp_path, spec, uniform(spec)))
    tables = luts(spec)
    near, far = tables.fringe_px(np.arange(spec.lines))
    assert near.min() > 0
    assert far.min() > 0
    with open_measurement(scene, "HH") as m:
        dn = m.read(0, spec.lines).astype(float)
    row = 300
    assert 0 < dn[row, : near[row]].mean() < 15 < 100 < dn[row, near[row] :].mean()
    assert dn[row, -far[row] :].mean() < 15


PLACES = {
    "Fram Strait": (-8.0, 77.0, -150.0),
    "the pole inside": (20.0, 89.4, 10.0),
    "across the dateline": (179.6, 74.0, 165.0),
    "south": (-30.0, -75.0, -40.0),
    "equator": (10.0, 0.0, -12.0),
}


@pytest.mark.parametrize("place", PLACES)
def test_geometry_inverts_and_is_to_scale(place: str) -> None:
    lon, lat, heading = PLACES[place]
    spec = spec_of(
        lines=10000, samples=10487, pixel_spacing_m=40.0, centre_lon=lon, centre_lat=lat, heading_deg=heading
    )
    geometry = luts(spec).geometry
    lines, pixels = np.meshgrid(np.linspace(-5, 10004, 23), np.linspace(-5, 10491, 21), indexing="ij")
    x, y = geometry.lonlat(lines, pixels)
    back_line, back_pixel = geometry.line_pixel(x, y)
    np.testing.assert_allclose(back_line, lines, atol=1e-6)
    np.testing.assert_allclose(back_pixel, pixels, atol=1e-6)
    middle = [float(x) for x in geometry.lonlat(4999.5, 5243.0)]
    assert Geod(ellps="WGS84").inv(middle[0], middle[1], lon, lat)[2] < 1e-3
    geod = Geod(ellps="WGS84")
    to = {"line": geometry.lonlat(5099.5, 5243.0), "pixel": geometry.lonlat(4999.5, 5343.0)}
    for name, turn in (("line", 0), ("pixel", 90)):
        azimuth, _, distance = geod.inv(middle[0], middle[1], float(to[name][0]), float(to[name][1]))
        assert distance == pytest.approx(4000, rel=0.005)
        assert np.cos(np.radians(azimuth - heading - turn)) == pytest.approx(1, abs=1e-4)  # right-looking


@pytest.mark.parametrize("place", PLACES)
def test_the_reader_locates_pixels_where_they_were_put(place: str, tmp_path: Path) -> None:
    lon, lat, heading = PLACES[place]
    spec = spec_of(centre_lon=lon, centre_lat=lat, heading_deg=heading)
    scene = open_scene(write_safe(tmp_path, spec, uniform(spec)))
    locator, geometry = GeoLocator(scene), luts(spec).geometry
    lines, pixels = np.meshgrid(np.linspace(0, 419, 40), np.linspace(0, 399, 37), indexing="ij")
    found, put = locator.to_ground(lines, pixels), geometry.lonlat(lines, pixels)
    assert Geod(ellps="WGS84").inv(*found, *put)[2].max() < 1.0  # metres, at a spacing of 1 km
    back = locator.to_image(*put)
    assert abs(np.stack(back) - np.stack([lines, pixels])).max() < 2e-3
    np.testing.assert_allclose(locator.incidence_deg(lines, pixels), geometry.incidence_deg(pixels), atol=1e-3)
    assert scene.geolocation.incidence_deg[:, [0, -1]] == pytest.approx(
        np.tile([18.9, 46.4], (len(scene.geolocation.lines), 1))
    )
    assert rangedoppler.residuals_m(scene.geolocation, scene.orbit).max() < 0.1


def test_the_orbit_is_that_of_a_satellite() -> None:
    geometry = luts(spec_of(lines=10708, samples=10487, pixel_spacing_m=40.0)).geometry
    seconds = np.linspace(-60, 120, 181)
    position, velocity = geometry.orbit(seconds)
    assert np.linalg.norm(position, axis=1) == pytest.approx(np.full(181, 7.07e6), rel=0.002)
    assert np.linalg.norm(velocity, axis=1) == pytest.approx(np.full(181, 7.6e3), rel=0.01)
    np.testing.assert_allclose(np.gradient(position, seconds, axis=0)[1:-1], velocity[1:-1], rtol=0, atol=0.01)
    slant = geometry.slant_range_m(5000, [0, 10486]) * 2 / 299792458
    assert slant == pytest.approx([4.96e-3, 6.51e-3], rel=0.005)


@pytest.mark.parametrize("form", ["esa folder", "zip", "cog", "before 2.9"])
def test_the_same_specification_gives_the_same_bytes(form: str, tmp_path: Path) -> None:
    spec = spec_of(lines=600, **FORMS[form])
    once = write_safe(tmp_path / "a", spec, uniform(spec), threads=1)
    again = write_safe(tmp_path / "b", spec, uniform(spec), threads=3)
    assert _content(once) == _content(again)
    suffix = spec.name.removesuffix("_COG")[-4:]
    other = write_safe(tmp_path / "c", spec_of(lines=600, seed=1, suffix=suffix, **FORMS[form]), uniform(spec))
    assert other.name == once.name
    assert _content(once) != _content(other)


def _content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in files}


def test_zip_holds_the_folder(tmp_path: Path) -> None:
    spec = spec_of(lines=100, samples=100, container="zip")
    with zipfile.ZipFile(write_safe(tmp_path, spec, uniform(spec))) as z:
        assert all(n.startswith(f"{spec.name}.SAFE/") for n in z.namelist())
        assert z.testzip() is None
    assert [p.name for p in tmp_path.iterdir()] == [f"{spec.name}.zip"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    spec = spec_of(lines=100, samples=100)
    with pytest.raises(ConfigError, match="HV"):
        write_safe(tmp_path, spec, {"HH": np.zeros((100, 100), np.float32)})
    wrong = {"HH": np.ones((100, 100), np.float32), "HV": np.ones((100, 99), np.float32)}
    for container in ("folder", "zip"):
        with pytest.raises(GridError, match="HV"):
            write_safe(tmp_path, spec_of(lines=100, samples=100, container=container), wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", -1), ("lines", 10), ("centre_lat", 91.0), ("mission", "S2A"),
     ("incidence_deg", (46.0, 19.0)), ("datatake", "xyz"),
     ("stop", datetime(2017, 1, 1, tzinfo=UTC)), ("polarisations", ("HX",)), ("pixel_spacing_m", 0.0)],
)  # fmt: skip
def test_impossible_specifications_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        spec_of(**{name: value})


def test_a_single_or_other_polarisation_is_refused_by_the_reader(tmp_path: Path) -> None:
    from floemap.errors import ProductError

    for polarisations in (("HH",), ("VV", "VH")):
        spec = spec_of(lines=80, samples=80, polarisations=polarisations)
        path = write_safe(tmp_path, spec, uniform(spec))
        with pytest.raises(ProductError, match=polarisations[0]):
            open_scene(path)
        assert open_scene(path, polarisations).polarisations == polarisations
