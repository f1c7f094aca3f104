"""Reading AI4Arctic's files: simulated ones of the real form, their traps, and what is damaged or foreign."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyproj
import pytest
from typer.testing import CliRunner

from floemap.cog import open_raster, read_geobox
from floemap.datasets.ai4arctic.codes import polygon_classes
from floemap.datasets.ai4arctic.files import SceneFile, open_scene_file
from floemap.datasets.ai4arctic.find import find_ai4arctic
from floemap.datasets.ai4arctic.form import NO_CLASS
from floemap.datasets.ai4arctic.inventory import check_ai4arctic
from floemap.datasets.ai4arctic.prepare import label_scene, prepare_scene
from floemap.datasets.ai4arctic.scenes import by_name, official, official_roles
from floemap.datasets.ai4arctic.tie_locator import TieLocator
from floemap.errors import ConfigError, FloemapError, ProductError
from floemap.icechart.label.polygon_table import read_ids, read_polygons
from floemap.legend import IGNORE
from floemap.results.stage import read_json
from floemap.sentinel1.bands import open_product
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.ai4arctic_scene import SimulatedScene, _Maker
from floemap.study.data import make_data
from floemap.study.settings import DataSettings, SplitSettings
from floemap.study.split import make_split

SETTINGS = PrepareSettings(resolution_m=4000)
Made = tuple[SimulatedScene, ...]


@pytest.fixture(scope="module")
def prepared(ai4arctic_set: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Prepared folders of the first scene, from its ready-to-train and from its raw file."""
    out = tmp_path_factory.mktemp("prepared")
    one = ai4arctic_set[0]
    return prepare_scene(one.ready, out / "a", SETTINGS).folder, prepare_scene(one.raw, out / "b", SETTINGS).folder


def test_standard_scores_are_undone_to_db(ai4arctic_set: Made) -> None:
    """Ready-to-train values are means of 2 x 2 raw values in dB; 0 is a gap."""
    one = ai4arctic_set[0]
    with open_scene_file(one.ready) as ready, h5py.File(one.raw) as raw:
        lines, samples = ready.shape
        found = ready.band_db("hv", 10, 14)
        stored = raw["nersc_sar_secondary"][20:28].reshape(4, 2, samples, 2).astype(float)
        gap = np.isnan(stored).all(axis=(1, 3))
        np.testing.assert_array_equal(np.isnan(found), gap)
        assert gap.any()
        wanted = np.nanmean(np.where(gap[:, None, :, None], 0, stored), axis=(1, 3))
        np.testing.assert_allclose(found[~gap], wanted[~gap], atol=2e-5)
        assert 15 < np.nanmin(ready.incidence_deg(0, lines)) < 25
        assert 40 < np.nanmax(ready.incidence_deg(0, lines)) < 50


def test_each_line_is_read_once_and_in_strips(
    ai4arctic_set: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, list[tuple[int, int | None]]] = defaultdict(list)
    plain = SceneFile.stored

    def counted(self: SceneFile, name: str, first: int = 0, stop: int | None = None) -> Any:
        read[name].append((first, stop))
        return plain(self, name, first, stop)

    monkeypatch.setattr(SceneFile, "stored", counted)
    monkeypatch.setattr("floemap.datasets.ai4arctic.files._STRIP_LINES", 32)
    path = tmp_path / ai4arctic_set[0].ready.name
    shutil.copy(ai4arctic_set[0].ready, path)
    with h5py.File(path, "r+") as f:
        for name in ("nersc_sar_primary", "nersc_sar_secondary", "sar_incidenceangle"):
            values, attributes = f[name][:], dict(f[name].attrs)
            del f[name]
            f.create_dataset(name, data=values, chunks=(24, 50), compression="gzip")
            f[name].attrs["upstream_id"] = attributes.get("upstream_id", "")
        lines = values.shape[0]
    prepare_scene(path, tmp_path / "out", SETTINGS)
    for name in ("nersc_sar_primary", "nersc_sar_secondary", "sar_incidenceangle"):
        starts = [first for first, _ in read[name]]
        assert all(first % 24 == 0 for first in starts)
        assert all(stop - first <= 48 for first, stop in read[name])
        covered = np.concatenate([np.arange(first, stop) for first, stop in read[name]])
        np.testing.assert_array_equal(covered, np.arange(lines))
    assert not {n for n in read if n.startswith("btemp")}


def geometry_of(one: SimulatedScene) -> Any:
    record = read_json(one.folder / "scene.json")["configuration"]
    return _Maker(one.scene, record["size"], record["seed"]).geometry


def test_places_follow_from_the_tie_points(ai4arctic_set: Made) -> None:
    """Against the simulator's closed-form geometry: lines run along the first axis of the tie points."""
    one = ai4arctic_set[0]
    geometry = geometry_of(one)
    with open_scene_file(one.raw) as file:
        locator = TieLocator(file.tie_points(), file.shape)
        lines, samples = file.shape
    rng = np.random.default_rng(3)
    line, sample = rng.uniform(0, lines - 1, 400), rng.uniform(0, samples - 1, 400)
    lon, lat = geometry.lonlat(line, sample)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3413", always_xy=True).transform(lon, lat)
    at_x, at_y = locator.to_map(line, sample)
    assert max(abs(at_x - x).max(), abs(at_y - y).max()) < 5  # metres
    back_line, back_sample = locator.to_image(x, y)
    assert max(abs(back_line - line).max(), abs(back_sample - sample).max()) < 0.02


def test_prepared_products_are_as_other_prepared_products(ai4arctic_set: Made, prepared: tuple[Path, Path]) -> None:
    ready, raw = (open_product(folder) for folder in prepared)
    assert ready.hh_db.shape == raw.hh_db.shape
    both = np.isfinite(ready.hh_db) & np.isfinite(raw.hh_db)
    assert float(both.mean()) > 0.3
    # Raw pixels are averaged in power, ready-to-train ones were averaged in dB, which is never more (Jensen).
    a, b = (product.hh_db.to_numpy()[both.to_numpy()] for product in (raw, ready))
    assert np.median(a - b) >= 0
    assert np.corrcoef(a, b)[0, 1] > 0.7
    record = read_json(prepared[0] / "product.json")
    assert record["simulated"] is True
    assert record["scene"]["name"] == ai4arctic_set[0].scene.product
    assert record["scene"]["flip"] == 0


def test_labels_are_those_of_the_polygons(ai4arctic_set: Made, prepared: tuple[Path, Path], tmp_path: Path) -> None:
    """At random pixels of the map: place, position by the simulator's geometry, polygon, class by the rule."""
    one = ai4arctic_set[0]
    made = label_scene(one.raw, prepared[0], tmp_path)
    with open_raster(made.raster) as d:
        labels = d.read(1)
    table, geobox = read_polygons(made.folder), read_geobox(made.raster)
    ids = read_ids(made.folder, table)
    rng = np.random.default_rng(5)
    row, col = (rng.integers(0, n, 3000) for n in labels.shape)
    x, y = geobox.transform * (col + 0.5, row + 0.5)
    lon, lat = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(x, y)
    line, sample = (np.rint(p).astype(int) for p in geometry_of(one).line_pixel(lon, lat))
    with open_scene_file(one.raw) as file:
        lines, samples = file.shape
        polygons, codes = file.polygon_ids(0, lines), file.polygon_codes()
    classes = dict(zip(codes.ids.tolist(), polygon_classes(codes).sod.tolist(), strict=True)) | {-1: NO_CLASS}
    inside = (line >= 2) & (line < lines - 2) & (sample >= 3) & (sample < samples - 3)
    known = inside & (labels[row, col] != IGNORE)
    assert known.sum() > 500
    wanted = np.array([classes[polygons[a, b]] for a, b in zip(line[known], sample[known], strict=True)])
    assert (labels[row, col][known] == wanted).mean() > 0.98  # but for pixels between two
    np.testing.assert_array_equal(labels[ids > 0], table.dominant[ids[ids > 0]])
    parts = dict(zip(codes.ids.tolist(), codes.codes["CA"].tolist(), strict=True))
    assert table.codes["CA"][1:].tolist() == [parts[f] for f in table.features[1:].tolist()]


def test_ready_charts_and_polygons_agree_but_at_borders(
    ai4arctic_set: Made, prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    one = ai4arctic_set[0]
    rasters = []
    for k, path in enumerate((one.raw, one.ready)):
        with open_raster(label_scene(path, prepared[0], tmp_path / str(k)).raster) as d:
            rasters.append(d.read(1))
    both = (rasters[0] != IGNORE) & (rasters[1] != IGNORE)
    assert (rasters[0] == rasters[1])[both].mean() > 0.93


def test_test_scenes_take_their_charts_from_the_reference_file(ai4arctic_set: Made, tmp_path: Path) -> None:
    one = ai4arctic_set[-1]
    product = prepare_scene(one.ready, tmp_path, SETTINGS).folder
    assert label_scene(one.reference, product, tmp_path / "labels").raster.is_file()
    with pytest.raises(ProductError, match="has no chart SOD"):
        label_scene(one.ready, product, tmp_path / "other")
    with pytest.raises(ProductError, match="charts of a test scene"):
        prepare_scene(one.reference, tmp_path / "third", SETTINGS)


def test_a_study_runs_on_the_official_lists(ai4arctic_set: Made, tmp_path: Path) -> None:
    from floemap.legend import AI4ARCTIC

    settings = DataSettings(
        dataset="ai4arctic", folder=ai4arctic_set[0].folder.parent, legend="ai4arctic", prepare=SETTINGS
    )
    scenes = make_data(settings, tmp_path)
    assert [s.name for s in scenes] == sorted(one.scene.name for one in ai4arctic_set)
    split = make_split(SplitSettings(kind="official"), scenes, AI4ARCTIC, tmp_path / "parts")
    roles = {s.name: s.role for s in split.shares}
    assert roles[ai4arctic_set[-1].scene.name] == "test"
    assert sorted(roles.values()) == ["test", "train", "validation"]
    assert split.record["shared_orbits"] == {}
    with pytest.raises(ValueError, match="legend ai4arctic"):
        DataSettings(dataset="ai4arctic", folder=tmp_path)


def test_official_roles_keep_orbits_whole() -> None:
    names = tuple(by_name())
    roles = official_roles(names)
    orbits: dict[tuple[str, int], set[str]] = defaultdict(set)
    for scene in official()["train"]:
        orbits[scene.orbit].add(roles[scene.name])
    assert all(len(uses) == 1 for uses in orbits.values())
    assert 40 < sum(r == "validation" for r in roles.values()) < 90
    assert sum(r == "test" for r in roles.values()) == 20
    with pytest.raises(ConfigError, match="not a scene of the training list"):
        official_roles(names, ["20180124T194759_dmi"])
    with pytest.raises(ConfigError, match="not a scene of the lists"):
        official_roles(["01"])


def test_folders_with_doubled_or_mixed_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "a" / "20180607T184326_dmi_prep.nc").touch()
    assert [e.name for e in find_ai4arctic(tmp_path)] == ["20180607T184326_dmi"]
    (tmp_path / "20180607T184326_cis_prep.nc").touch()  # another service's chart of the same product is another scene
    assert len(find_ai4arctic(tmp_path)) == 2
    (tmp_path / "20180607T184326_dmi_prep.nc").touch()
    with pytest.raises(FloemapError, match="same file of scene 20180607T184326_dmi"):
        find_ai4arctic(tmp_path)
    (tmp_path / "20180607T184326_dmi_prep.nc").rename(tmp_path / "SIMULATED_20180608T184326_dmi_prep.nc")
    with pytest.raises(FloemapError, match="real and simulated"):
        find_ai4arctic(tmp_path)
    with pytest.raises(FloemapError, match="no file of AI4Arctic"):
        find_ai4arctic(empty)


def swapped(f: h5py.File, name: str, values: Any) -> None:
    del f[name]
    f.create_dataset(name, data=values)


BAD_ROW = "1;9x;-9;93;08;-9;-9;-9;-9;-9;-9;-9;-9;08-9;I"


def fewer_tie_points(f: h5py.File) -> None:
    for name in ("sar_grid2d_latitude", "sar_grid2d_longitude"):
        swapped(f, name, f[name][:20])


def put(name: str, at: Any, value: Any) -> Any:
    return lambda f: f[name].__setitem__(at, value)


EVERYWHERE = slice(None)
#: Name of a damage, kind of file, what does it, and words of the error.
DAMAGES: list[tuple[str, str, Any, str]] = [
    ("missing band", "ready", lambda f: f.__delitem__("nersc_sar_secondary"), "lacks the variable nersc_sar_secondary"),
    ("missing tie points", "raw", lambda f: f.__delitem__("sar_grid_latitude"), "is not a file of AI4Arctic"),
    ("fewer lines", "ready", lambda f: swapped(f, "SOD", f["SOD"][:-1]), "has the shape"),
    ("one dimension", "ready", lambda f: swapped(f, "SIC", f["SIC"][0]), "has the shape"),
    ("text for numbers", "ready", lambda f: swapped(f, "t2m", np.full(f["t2m"].shape, b"x")), "has the type"),
    ("20 tie points", "ready", fewer_tie_points, "tie points"),
    ("nan in tie points", "ready", put("sar_grid2d_latitude", (0, 0), np.nan), "not latitudes"),
    ("equal tie points", "ready", put("sar_grid2d_latitude", EVERYWHERE, 80.0), "tie points"),
    ("class out of the table", "ready", put("SOD", (9, 9), 77), "has the class 77"),
    ("codes of text", "raw", put("polygon_codes", 1, BAD_ROW), "has CT '9x'"),
    ("polygon without codes", "raw", put("polygon_icechart", (50, 50), 4321), "polygon 4321 has pixels"),
    ("no values", "ready", put("nersc_sar_primary", EVERYWHERE, 0), "no pixel with data"),
]


@pytest.mark.parametrize(("what", "kind", "damage", "words"), DAMAGES, ids=[d[0] for d in DAMAGES])
def test_damaged_files_are_named(
    ai4arctic_set: Made, tmp_path: Path, what: str, kind: str, damage: Any, words: str
) -> None:
    path = tmp_path / getattr(ai4arctic_set[0], kind).name
    shutil.copy(getattr(ai4arctic_set[0], kind), path)
    with h5py.File(path, "r+") as f:
        damage(f)
    with pytest.raises(FloemapError, match=re.escape(words)):
        label_scene(path, prepare_scene(path, tmp_path / "out", SETTINGS).folder, tmp_path / "labels")


def test_nan_where_zero_is_meant_is_a_gap(ai4arctic_set: Made, tmp_path: Path) -> None:
    path = tmp_path / ai4arctic_set[0].ready.name
    shutil.copy(ai4arctic_set[0].ready, path)
    with h5py.File(path, "r+") as f:
        f["nersc_sar_primary"][30:40, 30:40] = np.nan
    with open_scene_file(path) as file:
        assert np.isnan(file.band_db("hh", 30, 40)[:, 30:40]).all()


def test_files_that_refer_to_others_are_refused(ai4arctic_set: Made, tmp_path: Path) -> None:
    path = tmp_path / ai4arctic_set[0].ready.name
    shutil.copy(ai4arctic_set[0].ready, path)
    shutil.copy(path, tmp_path / "other.nc")
    with h5py.File(path, "r+") as f:
        del f["SOD"]
        f["SOD"] = h5py.ExternalLink("other.nc", "SOD")
    with pytest.raises(ProductError, match="is a link"):
        prepare_scene(path, tmp_path / "out", SETTINGS)


def test_a_file_under_another_scenes_name_is_found(ai4arctic_set: Made, tmp_path: Path) -> None:
    one, other = ai4arctic_set[:2]
    shutil.copy(one.ready, tmp_path / other.ready.name)
    (problem,) = check_ai4arctic(tmp_path).problems
    assert f"its attributes say that it is of scene {one.scene.name}" in problem
    shutil.copy(one.raw, tmp_path / other.raw.name)
    assert len(check_ai4arctic(tmp_path).problems) == 2


def test_the_commands(ai4arctic_set: Made, tmp_path: Path) -> None:
    from floemap.cli.app import app
    from floemap.info import describe

    found = describe(ai4arctic_set[0].raw)
    assert found.facts["simulated"] is True
    assert found.facts["region"] == ai4arctic_set[0].scene.region
    said = CliRunner().invoke(app, ["info", str(ai4arctic_set[0].ready), "--json"])
    assert json.loads(said.stdout)["kind"] == "AI4Arctic scene"


def test_a_folder_is_checked(ai4arctic_set: Made, tmp_path: Path) -> None:
    from floemap.cli.app import app

    root = ai4arctic_set[0].folder.parent
    said = CliRunner().invoke(app, ["fetch", "ai4arctic", "--check", str(root), "--json"])
    assert said.exit_code == 0, said.output
    facts = json.loads(said.stdout)
    assert (facts["official"], facts["simulated"]) == ({"train": 2, "test": 1}, True)
    assert facts["missing"] == {"train": 510, "test": 19}
    (tmp_path / ai4arctic_set[0].ready.name).write_bytes(ai4arctic_set[0].ready.read_bytes()[:100_000])
    said = CliRunner().invoke(app, ["fetch", "ai4arctic", "--check", str(tmp_path), "--out", str(tmp_path / "out")])
    assert said.exit_code == 1
    assert len(json.loads((tmp_path / "out" / "check.json").read_text())["problems"]) == 1
    assert said.output.replace("\n", " ").rstrip().endswith("1 problem")
