"""Simulated AI4Arctic files: their form against print-outs of real files, their making, and what they show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import pytest
from real_files import AI4ARCTIC_LISTS

from floemap.datasets.ai4arctic.codes import polygon_classes
from floemap.datasets.ai4arctic.convert import half_max, half_mean, scaled
from floemap.datasets.ai4arctic.files import open_scene_file, undo_scaling
from floemap.datasets.ai4arctic.form import NO_CLASS, SCALING
from floemap.datasets.ai4arctic.scenes import by_name, parse_name
from floemap.errors import ConfigError, OutputError
from floemap.simulation.ai4arctic import choose, make_ai4arctic
from floemap.simulation.ai4arctic_scene import SimulatedScene, world_number
from floemap.simulation.world.surface import Surface

SIZE = 120


@pytest.fixture
def made(ai4arctic_set: tuple[SimulatedScene, ...]) -> tuple[SimulatedScene, ...]:
    return ai4arctic_set


def printed(kind: str) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return variables (dimensions, dtype, attributes as text) and global attributes of xarray's print-out."""
    text = re.sub(r"\s+", " ", (AI4ARCTIC_LISTS / f"{kind}_structure.txt").read_text())
    body = text.partition("Data variables:")[2].partition(" Indexes:")[0]
    found = {}
    for match in re.finditer(r"(\S+) \(([^()]+)\) (\w+) \.\.\. (.*?)\[\d+ values with dtype=\w+\]", body):
        name, dimensions, dtype, rest = match.groups()
        found[name] = {"dimensions": tuple(dimensions.split(", ")), "dtype": dtype, "attributes": attributes(rest)}
    said = re.search(r" Attributes: \(\d+\) (.*?)( --- markdown.*)?$", text.partition(" Indexes:")[2])
    return found, attributes(said[1])


def attributes(text: str) -> dict[str, str]:
    """Return attributes of a line such as "units : K long_name : air"."""
    parts = re.split(r"(?:^| )(\w+) : ", text)
    return {name: value.strip() for name, value in zip(parts[1::2], parts[2::2], strict=True)}


def flat(value: Any) -> str:
    return re.sub(r"\s+", " ", str(value)).strip()


#: Attributes whose values are those of a scene.
OWN = {"upstream_id", "min", "max", "AMSR2_swaths", "AMSR2_S1_delays", "icechart_id"}
OWN_GLOBAL = {"scene_id", "original_id", "ice_service", "flip", "pixel_spacing"}


@pytest.mark.skipif(not AI4ARCTIC_LISTS.is_dir(), reason="needs the print-outs of real files")
@pytest.mark.parametrize(("kind", "name"), [("ready_to_train", "ready"), ("raw", "raw")])
def test_form_is_that_of_the_print_out(made: tuple[SimulatedScene, ...], kind: str, name: str) -> None:
    wanted, wanted_globals = printed(kind)
    assert len(wanted) == (29 if name == "ready" else 32)
    with h5netcdf.File(getattr(made[0], name), "r") as file:
        assert list(file.variables) == [*(["polygon_codes"] if name == "raw" else []), *wanted]
        for variable, about in wanted.items():
            found = file.variables[variable]
            assert found.dimensions == about["dimensions"], variable
            assert found.dtype.name == about["dtype"], variable
            assert list(found.attrs) == list(about["attributes"]), variable
            for key, value in about["attributes"].items():
                assert key in OWN or flat(found.attrs[key]) == value, (variable, key)
        assert list(file.attrs) == [*wanted_globals, "simulated"]
        for key, value in wanted_globals.items():
            assert key in OWN_GLOBAL or flat(file.attrs[key]) == value, key
        if name == "raw":
            assert file.variables["polygon_codes"].dimensions == ("polygon_codes",)
            assert list(file.variables["polygon_codes"].attrs) == ["icechart_id"]


def test_names_and_marks_say_simulated(made: tuple[SimulatedScene, ...]) -> None:
    for one in made:
        assert one.scene.name in by_name()
        for path in (one.raw, one.ready, one.reference):
            assert parse_name(path.name).simulated
            assert path.name.removeprefix("SIMULATED_") in (one.scene.raw, one.scene.ready, one.scene.reference)
            with open_scene_file(path) as file:
                assert file.simulated
                assert file.scene == one.scene
    assert "simulated" in (made[0].folder.parent / "SIMULATED.txt").read_text()
    assert [one.test for one in made] == [False, False, True]


def test_test_scenes_have_their_charts_apart(made: tuple[SimulatedScene, ...]) -> None:
    with open_scene_file(made[-1].ready) as questions, open_scene_file(made[-1].reference) as answers:
        assert questions.charts == ()
        assert answers.charts == ("SIC", "SOD", "FLOE")
        assert answers.shape == questions.shape


def test_ready_is_made_of_raw_by_the_datasets_steps(made: tuple[SimulatedScene, ...]) -> None:
    """Means and maxima of 2 x 2 pixels, standard scores, 0 and 255 in gaps, written out with numpy."""
    one = made[0]
    with open_scene_file(one.raw) as file:
        codes = file.polygon_codes()
    with h5netcdf.File(one.raw, "r") as raw, h5netcdf.File(one.ready, "r") as ready:
        hh = np.asarray(raw.variables["nersc_sar_primary"])
        lines, samples = (n // 2 for n in hh.shape)
        corners = np.stack([hh[i::2, j::2] for i in (0, 1) for j in (0, 1)])
        with np.errstate(invalid="ignore"):
            mean = np.nansum(corners, axis=0) / np.isfinite(corners).sum(axis=0)
        gap = np.isnan(corners).all(axis=0)
        assert gap.any()
        stored = np.asarray(ready.variables["nersc_sar_primary"])
        assert stored.shape == (lines, samples)
        assert (stored[gap] == 0).all()
        np.testing.assert_allclose(stored[~gap], (mean[~gap] + 14.5082551552228) / 5.6597459193818676, atol=2e-6)
        ids = np.asarray(raw.variables["polygon_icechart"])
        sod = np.full(ids.shape, NO_CLASS)
        for number, k in zip(codes.ids.tolist(), polygon_classes(codes, "starter").sod.tolist(), strict=True):
            sod[ids == number] = k
        highest = np.maximum.reduce([sod[i::2, j::2] for i in (0, 1) for j in (0, 1)])
        highest[gap] = NO_CLASS
        np.testing.assert_array_equal(np.asarray(ready.variables["SOD"]), highest)


def test_codes_are_in_the_services_manner(made: tuple[SimulatedScene, ...]) -> None:
    for one in made:
        with h5netcdf.File(one.raw, "r") as file:
            rows = [r.split(";") for r in np.asarray(file.variables["polygon_codes"]).astype(str)[1:]]
        water = [r for r in rows if r[-1] == "W"]
        if one.scene.service == "cis":
            assert all(r[1:5] == ["02", "-9", "98", "10"] and r[-2] == "10-9" for r in water)
            assert all(r[-2] == f"{r[4]}-9" for r in rows)
        singles = [r for r in rows if r[-1] == "I" and r[6] == "-9"]
        assert all(r[2] == "-9" for r in singles)
    assert {one.scene.service for one in made} == {"cis", "dmi"}


def test_fields_follow_the_ice(made: tuple[SimulatedScene, ...]) -> None:
    """Over ice the sea emits more at 6.9 GHz horizontal than water does, by some 140 K (Comiso's tie points)."""
    warmer = []
    for one in made:
        with h5netcdf.File(one.raw, "r") as raw, h5netcdf.File(one.truth, "r") as true:
            kelvin = np.asarray(raw.variables["btemp_6_9h"])
            surface = np.asarray(true.variables["surface"])
        rows, cols = (
            np.linspace(0, n - 1, m).round().astype(int) for n, m in zip(surface.shape, kelvin.shape, strict=True)
        )
        coarse = surface[rows][:, cols]
        water, ice = coarse == Surface.WATER, np.isin(coarse, (Surface.OLD, Surface.FIRST_YEAR))
        if water.sum() > 200 and ice.sum() > 200:
            warmer.append(np.median(kelvin[ice]) - np.median(kelvin[water]))
    assert warmer
    assert min(warmer) > 50


def test_an_interrupted_set_is_resumed_and_others_are_not_replaced(
    made: tuple[SimulatedScene, ...], tmp_path: Path
) -> None:
    out = made[0].folder.parent
    before = made[1].raw.stat().st_mtime_ns
    again = make_ai4arctic(out, 3, size=SIZE)
    assert all(one.skipped for one in again)
    assert made[1].raw.stat().st_mtime_ns == before
    foreign = tmp_path / choose(1)[0][0].name
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="did not make"):
        make_ai4arctic(tmp_path, 1, size=SIZE)
    assert (foreign / "notes.txt").read_text() == "mine"


def test_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    for scenes, size, seed in ((0, 400, 0), (533, 400, 0), (1, 20, 0), (1, 6000, 0), (1, 400, -1)):
        with pytest.raises(ConfigError, match="is "):
            make_ai4arctic(tmp_path, scenes, size=size, seed=seed)


def test_halves_by_hand() -> None:
    nan = np.nan
    values = np.array([[1, 3, nan, nan], [5, 7, nan, nan], [nan, 2, 1, 1], [nan, 4, 1, 3]], np.float32)
    np.testing.assert_array_equal(half_mean(values), np.array([[4, nan], [3, 1.5]], np.float32))
    classes = np.array([[0, 1, 5, 5], [0, 0, 5, 255]], np.uint8)
    np.testing.assert_array_equal(half_max(classes), [[1, 255]])


def test_scaling_there_and_back() -> None:
    values = np.array([-30.5, -14.0, np.nan, -2.25], np.float32)
    for name in SCALING:
        stored = scaled(name, values)
        assert stored[2] == 0
        back = undo_scaling(name, stored)
        assert np.isnan(back[2])
        np.testing.assert_allclose(back[[0, 1, 3]], values[[0, 1, 3]], atol=1e-4)


def test_each_product_shows_ice_of_its_own() -> None:
    """A pass is cut into several products, some for training and some for test: they must not show the same ice."""
    numbers = {(scene.product, world_number(scene)) for scene, _ in by_name().values()}
    products, worlds = zip(*numbers, strict=True)
    assert len(set(products)) == len(numbers) == len(set(worlds)) > 500
    assert max(worlds) < 2**31, "seeds of worlds are taken modulo this"
