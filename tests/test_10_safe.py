"""Reading products: every form gives one and the same scene; the real product's figures come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import etree

from floemap.sentinel1.describe import describe_scene, nesz_db, scene_lines
from floemap.sentinel1.metadata import Scene
from floemap.sentinel1.radiometry import CalibrationTable, NoiseTable, azimuth_factor
from floemap.sentinel1.safe.reader import open_measurement, open_scene, verify
from floemap.sentinel1.safe.xml import XmlTree

REAL = Path(__file__).resolve().parents[2] / "shared/data"
REAL_NAME = "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15"


@pytest.fixture(scope="module")
def real() -> Scene:
    if not (REAL / REAL_NAME).is_dir():
        pytest.skip("the real product's metadata is not here")
    return open_scene(REAL / REAL_NAME, pixels=False)


@pytest.mark.parametrize("zone", ["", "Z", "+00:00", "+02:00", "-03:30"])
def test_a_zone_of_a_time_counts(zone: str, small_product: Path) -> None:
    """Times are UTC without a zone, and the same moments with one."""
    moment = datetime(2018, 7, 17, 7, 38, 9, 250_000, UTC)
    given = moment.astimezone(datetime.fromisoformat(f"2018-07-17T00:00:00{zone}").tzinfo or UTC)
    element = etree.fromstring(f"<a><t>{given:%Y-%m-%dT%H:%M:%S.%f}{zone}</t></a>")
    assert XmlTree(element, open_scene(small_product).container, "a.xml").time("t") == moment


FORMS: dict[str, dict[str, Any]] = {
    "cloud names": {"naming": "cloud"},
    "zip": {"container": "zip"},
    "zip with cloud names": {"container": "zip", "naming": "cloud"},
    "COG": {"cog": True},
    "COG in a zip": {"cog": True, "container": "zip"},
}


@pytest.fixture(scope="module")
def forms(
    tmp_path_factory: pytest.TempPathFactory, write_small: Callable[..., Path], small_product: Path
) -> dict[str, Path]:
    made = {name: write_small(tmp_path_factory.mktemp("form"), **changes) for name, changes in FORMS.items()}
    return made | {"folder": small_product}


@pytest.mark.parametrize("form", [*FORMS])
def test_forms_hold_the_same_scene(forms: dict[str, Path], form: str) -> None:
    scene, reference = open_scene(forms[form]), open_scene(forms["folder"])
    ours, theirs = asdict(scene), asdict(reference)
    for name in ("container", "name", "measurements", "checksums"):
        del ours[name], theirs[name]
    np.testing.assert_equal(ours, theirs)
    for p in scene.polarisations:
        verify(scene, p)
        with open_measurement(scene, p) as one, open_measurement(reference, p) as other:
            assert (one.read(7, 90) == other.read(7, 90)).all()


@pytest.mark.parametrize("mission", ["S1A", "S1B", "S1C", "S1D"])
def test_missions(tmp_path: Path, write_small: Callable[..., Path], mission: str) -> None:
    assert open_scene(write_small(tmp_path, mission=mission)).mission == mission


def test_manifest_itself_may_be_named(small_product: Path) -> None:
    assert open_scene(small_product / "manifest.safe").name == open_scene(small_product).name


def test_folder_without_the_suffix(tmp_path: Path, small_product: Path) -> None:
    (tmp_path / "plain").symlink_to(small_product)
    assert open_scene(tmp_path / "plain").name == "plain"


def test_polarisations_come_in_the_order_asked_for(small_product: Path) -> None:
    assert open_scene(small_product, ("HV", "HH")).polarisations == ("HV", "HH")
    assert open_scene(small_product, ("HV",)).polarisations == ("HV",)


def test_simulated_products_are_known_as_such(small_product: Path) -> None:
    scene = open_scene(small_product)
    assert scene.simulated
    assert ("Kind", "S1A EW GRD, HH+HV, folder, SIMULATED") in scene_lines(describe_scene(scene))


def test_both_noise_forms_are_read(tmp_path: Path, write_small: Callable[..., Path]) -> None:
    old = open_scene(write_small(tmp_path, noise_format="vectors", ipf_version="002.82"))
    assert {n.form for n in old.noise.values()} == {"vectors"}
    assert old.ipf_version == (2, 82)
    assert not any(n.azimuth_blocks for n in old.noise.values())


# --- the real product -------------------------------------------------------------------------------------------------


def test_real_fields(real: Scene) -> None:
    assert real.name == REAL_NAME
    assert (real.mission, real.mode, real.product_type) == ("S1A", "EW", "GRD")
    assert real.polarisations == ("HH", "HV")
    assert real.start.isoformat() == "2022-11-30T01:43:42.546629+00:00"
    assert real.stop.isoformat() == "2022-11-30T01:44:46.839082+00:00"
    assert (real.absolute_orbit, real.relative_orbit, real.datatake) == (46117, 20, 361801)
    assert real.pass_direction == "DESCENDING"
    assert real.ipf_version == (3, 52)
    assert real.shape == (10708, 10487)
    assert real.pixel_spacing_m == (40, 40)
    assert not real.simulated
    assert not any(real.noise_subtracted.values())
    grid = real.geolocation
    assert grid.incidence_deg.shape == (23, 21)
    assert grid.incidence_deg.min() == pytest.approx(18.9, abs=0.05)
    assert grid.incidence_deg.max() == pytest.approx(46.4, abs=0.05)
    assert len(real.orbit.time_s) == 20
    assert real.swath_names == ("EW1", "EW2", "EW3", "EW4", "EW5")
    assert len(real.swaths) == 17
    for p, mean, std in (("HH", 364.6, 257.9), ("HV", 105.8, 102.9)):
        assert real.dn_mean[p] == pytest.approx(mean, abs=0.05)
        assert real.dn_std[p] == pytest.approx(std, abs=0.05)
        assert real.calibration[p].sigma_nought.min() == pytest.approx(1277, abs=1)
        assert real.calibration[p].sigma_nought.max() == pytest.approx(1909, abs=1)
        assert len(real.noise[p].range_vectors) == 67
        assert {len(v.pixels) for v in real.noise[p].range_vectors} == {268, 269, 270}


@pytest.mark.parametrize(("p", "low", "high"), [("HH", -32.8, -20.0), ("HV", -34.2, -20.7)])
def test_real_noise_floor_of_range_noise_alone(real: Scene, p: str, low: float, high: float) -> None:
    """The figures of the annotation itself: range noise of line 5344 over A^2, without the vector's empty tail."""
    vector = next(v for v in real.noise[p].range_vectors if v.line == 5344)
    a = np.interp(vector.pixels, real.calibration[p].pixels, real.calibration[p].sigma_nought[33])
    some = vector.power > 0
    nesz = 10 * np.log10(vector.power[some] / a[some] ** 2)
    assert nesz.min() == pytest.approx(low, abs=0.05)
    assert nesz.max() == pytest.approx(high, abs=0.05)


@pytest.mark.parametrize("p", ["HH", "HV"])
def test_real_noise_uses_all_17_azimuth_blocks(real: Scene, p: str) -> None:
    """Double one block's factor: the noise must change in that block, and nowhere else."""
    lut = real.noise[p]
    assert len(lut.azimuth_blocks) == 17
    looks = 6
    rows = real.shape[0] // looks
    reference, inside = NoiseTable(lut, real.swaths, real.shape, looks).cells(0, rows)
    assert inside.mean() > 0.97
    assert (reference[inside] > 0).all(), "no pixel of the image is without noise"
    for i, block in enumerate(lut.azimuth_blocks):
        blocks = list(lut.azimuth_blocks)
        blocks[i] = replace(block, factor=2 * block.factor)
        table = NoiseTable(replace(lut, azimuth_blocks=tuple(blocks)), real.swaths, real.shape, looks)
        first, last = block.first_line // looks, min(block.last_line // looks + 1, rows)
        changed = (table.cells(first, last)[0] / np.maximum(reference[first:last], 1e-9)) > 1.5
        cols = np.flatnonzero(changed.mean(axis=0) > 0.5)
        assert abs(cols[0] - block.first_pixel / looks) < 2, block.swath
        assert abs(cols[-1] - block.last_pixel / looks) < 2, block.swath


def test_real_azimuth_blocks_join_smoothly(real: Scene) -> None:
    """Where a block ends and the next of its sub-swath begins, the burst pattern goes on."""
    for swath in real.swath_names:
        mine = sorted((b for b in real.noise["HV"].azimuth_blocks if b.swath == swath), key=lambda b: b.first_line)
        lines = np.arange(mine[0].first_line, mine[-1].last_line + 1.0)
        factor = azimuth_factor(real.noise["HV"].azimuth_blocks, swath, lines)
        assert factor.min() > 0.99
        assert factor.max() < 1.35
        joints = [b.first_line - mine[0].first_line for b in mine[1:]]
        assert max((abs(factor[j] - factor[j - 1]) for j in joints), default=0) < 0.02


def test_real_noise_floor_of_the_whole_scene(real: Scene) -> None:
    for p, low, high in (("HH", -32.9, -18.5), ("HV", -34.5, -19.0)):
        least, most = nesz_db(real, p)
        assert low < least < most < high


def test_real_calibration_is_bilinear(real: Scene) -> None:
    lut = real.calibration["HH"]
    table = CalibrationTable(lut, real.shape[1], 1)
    line = int(lut.lines[10])
    row = table.inverse_square(line, line + 1)[0]
    pixels = lut.pixels.astype(int)
    assert row[pixels] == pytest.approx(1 / lut.sigma_nought[10] ** 2, rel=1e-5)


def test_real_product_without_pixels_is_refused_and_described(real: Scene) -> None:
    from floemap.errors import ProductError
    from floemap.info import describe

    with pytest.raises(ProductError, match=r"measurement/ew-hh\.tiff is empty"):
        open_scene(REAL / REAL_NAME)
    description = describe(REAL / REAL_NAME)
    assert len(description.problems) == 1
    assert dict(description.lines)["Processor"] == "IPF 3.52"
