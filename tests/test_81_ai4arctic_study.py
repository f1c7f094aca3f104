"""AI4Arctic as a dataset of a study: its three charts as tasks, and the challenge's scores."""

from __future__ import annotations

import dataclasses
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import real_files
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import f1_score
from tiny_model import ABOUT, scene, tiny_settings

from floemap.cog import open_raster
from floemap.config import config_text
from floemap.datasets.ai4arctic.class_areas import class_areas, combined, separated
from floemap.datasets.ai4arctic.codes import TITLES
from floemap.datasets.ai4arctic.form import AMSR2, ERA5
from floemap.datasets.ai4arctic.prepare import label_scene, prepare_scene
from floemap.datasets.ai4arctic.published import PUBLISHED
from floemap.datasets.ai4arctic.scenes import SIMULATED, official
from floemap.errors import ConfigError, TrainingError
from floemap.evaluation.scoring.categories import CategoryCounts
from floemap.evaluation.scoring.confusion import Confusion
from floemap.evaluation.scoring.leaderboard import leaderboard
from floemap.evaluation.scoring.named_scores import PRIMARY
from floemap.evaluation.statistics.challenge import facets, summarise_challenge
from floemap.icechart.label.polygon_table import PolygonTable, read_ids, read_polygons
from floemap.icechart.label.polygon_values import CATEGORIES, VALUES, column_of, values_of
from floemap.layers.of_ai4arctic import BANDS
from floemap.learning.data.polygons import Polygons, PolygonShares
from floemap.learning.losses.tasks import task_losses
from floemap.learning.models.checkpoint_header import read_about
from floemap.learning.settings import LearningSettings
from floemap.learning.training.loop import train
from floemap.legend import AI4ARCTIC, IGNORE, SIX_CLASSES
from floemap.results.stage import read_json
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.ai4arctic_scene import SimulatedScene
from floemap.study.cells import with_changes, with_loss
from floemap.study.compare import compare
from floemap.study.data import make_data
from floemap.study.settings import SplitSettings, Study
from floemap.study.split import held_out, roles_of

Classes = NDArray[np.uint8]
SETTINGS = PrepareSettings(resolution_m=4000)


# Areas of equal classes


def drawn_charts(rng: np.random.Generator, shape: tuple[int, int]) -> list[Classes]:
    """Three charts of coarse patches with gaps, as SIC, SOD and FLOE are numbered."""
    charts = []
    for classes in (11, 6, 7):
        patches = np.kron(rng.integers(0, classes + 1, (6, 7)), np.ones((8, 8), int))[: shape[0], : shape[1]]
        charts.append(np.where(patches == classes, IGNORE, patches).astype(np.uint8))
    return charts


def check_areas(charts: list[Classes]) -> PolygonTable:
    """Each pixel finds its classes in the table, and areas are the connected ones of equal classes."""
    sic, sod, floe = charts
    numbers, table = class_areas(combined(sic, sod, floe))
    np.testing.assert_array_equal(table.dominant[numbers], sod)
    assert table.floe is not None
    np.testing.assert_array_equal(table.floe[numbers], floe)
    tenths = np.rint(10 * table.concentration[numbers])
    np.testing.assert_array_equal(np.where(np.isnan(tenths), IGNORE, tenths), sic)
    areas = 0
    for kind in np.unique(combined(sic, sod, floe)):
        classes = np.stack(charts)[:, combined(sic, sod, floe) == kind][:, 0]
        if (classes != IGNORE).any():
            areas += ndimage.label(combined(sic, sod, floe) == kind)[1]
    assert len(table) == numbers.max() == areas
    return table


def test_areas_of_equal_classes_are_connected_and_keep_all_three_classes() -> None:
    table = check_areas(drawn_charts(np.random.default_rng(1), (43, 50)))
    assert (table.unknown == 1).all()  # nothing is known of partial concentrations
    assert not table.candidates.any()


def test_every_class_of_each_chart_is_kept() -> None:
    every = np.stack(np.meshgrid(*([*TITLES[c], IGNORE] for c in ("SIC", "SOD", "FLOE")))).astype(np.uint8)
    charts = every.reshape(3, -1)
    np.testing.assert_array_equal(separated(combined(*charts)), charts)


def test_areas_of_a_real_chart_keep_its_classes() -> None:
    """Scene 20180607T184326_dmi at 1.2 km: a human chart as AI4Arctic codes it."""
    if not real_files.AI4ARCTIC.is_dir():
        pytest.skip("the real scene is not here")
    found = real_files.ai4arctic_scene()
    charts = [found[c].astype(np.uint8) for c in ("SIC", "SOD", "FLOE")]
    table = check_areas(charts)
    assert 5 < len(table) < 5000


def test_labels_of_both_kinds_of_files_say_the_same_away_from_borders(
    ai4arctic_set: tuple[SimulatedScene, ...], tmp_path: Path
) -> None:
    """Ready-to-train charts are maxima of 2 x 2 pixels of the raw ones: only near borders may they differ."""
    one = ai4arctic_set[0]
    product = prepare_scene(one.ready, tmp_path, SETTINGS).folder
    found: dict[str, Any] = {}
    for what, path in (("raw", one.raw), ("ready", one.ready)):
        made = label_scene(path, product, tmp_path / what)
        table = read_polygons(made.folder)
        ids = read_ids(made.folder, table)
        with open_raster(made.folder / "border_distance.tif") as d:
            inner = d.read(1) * d.scales[0] > 2
        assert table.floe is not None
        found[what] = inner, table.dominant[ids], table.floe[ids], np.nan_to_num(table.concentration[ids], nan=9)
        with open_raster(made.raster) as d:
            np.testing.assert_array_equal(np.where(ids > 0, d.read(1), IGNORE), table.dominant[ids])
    both = found["raw"][0] & found["ready"][0]
    assert both.mean() > 0.3
    for raw, ready in zip(found["raw"][1:], found["ready"][1:], strict=True):
        assert len(np.unique(raw[both])) > 2
        np.testing.assert_allclose(raw[both], ready[both], atol=1e-6)


# The head of floe size


def batch(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, Polygons]:
    """Labels of six classes, ids of four polygons and their floe sizes, of which one is not known."""
    labels = torch.from_numpy(rng.integers(0, 6, (2, 8, 9)).astype(np.uint8))
    ids = torch.from_numpy(rng.integers(0, 5, (2, 8, 9)).astype(np.int16))
    values = torch.full((2, 5, len(VALUES) + len(CATEGORIES)), torch.nan)
    values[:, 1:4, column_of("floe_size")] = torch.tensor([0.0, 3.0, 6.0])
    shares = torch.zeros(2, 5, 6)
    return labels, ids, Polygons(ids, shares, shares > 0, torch.ones(2, 5), values)


def test_floe_size_is_learnt_as_classes_of_the_polygons() -> None:
    """Against torch's cross-entropy on the classes that the ids of the pixels look up."""
    rng = np.random.default_rng(2)
    labels, ids, polygons = batch(rng)
    losses = task_losses(LearningSettings.checked(tasks={"floe": {"target": "floe_size"}}), 6)
    logits = torch.from_numpy(rng.normal(size=(2, 6 + 7, 8, 9)).astype(np.float32))
    wanted = torch.tensor([-1, 0, 3, 6, -1])[ids.long()]
    expected = torch.nn.functional.cross_entropy(logits[:, 6:], wanted, ignore_index=-1)
    torch.testing.assert_close(losses(logits, labels, polygons)[1], expected)


def test_the_loss_of_floe_size_is_one_of_classes() -> None:
    for loss, why in (("region", "reads"), ("huber", "loss of values"), ("dyce", "dice")):
        tasks = {"floe": {"target": "floe_size", "loss": loss}}
        with pytest.raises(ConfigError, match=why):
            task_losses(LearningSettings.checked(tasks=tasks), 6, [1] * 6)
    dice = LearningSettings.checked(tasks={"floe": {"target": "floe_size", "loss": "dice"}})
    assert task_losses(dice, 6, [1] * 6).tasks[1].loss.classes == 7  # type: ignore[union-attr]


@pytest.mark.usefixtures("tiny_is_a_model")
def test_a_loss_of_shares_is_refused_where_no_chart_has_any(tmp_path: Path) -> None:
    """Ready-to-train files give no partial concentrations."""
    part = scene("a", 1)
    ids, table = class_areas(combined(part.labels, part.labels, part.labels))
    nothing = np.zeros((len(table) + 1, 6), np.float32)
    shares = PolygonShares(nothing, nothing > 0, np.bincount(ids.ravel()), values_of(table))
    charted = dataclasses.replace(part, ids=ids.astype(np.uint16), polygons=shares)
    settings = LearningSettings.checked(**tiny_settings().model_dump() | {"loss": {"name": "region_pixel"}})
    held = dataclasses.replace(charted, name="v")
    with pytest.raises(TrainingError, match=r"partial concentrations.*region_pixel"):
        train([charted], [held], settings, SIX_CLASSES, tmp_path / "out", about=ABOUT, device="cpu")


# Scores


def table_of(sic: Classes, floe: Classes) -> PolygonTable:
    """A table of polygons with these classes."""
    _, table = class_areas(combined(sic[None], np.zeros_like(sic)[None], floe[None]))
    return table


def test_predictions_are_counted_by_the_charts_classes() -> None:
    table = table_of(np.array([0, 5, 10], np.uint8), np.array([0, 4, IGNORE], np.uint8))
    ids = np.array([[0, 1, 1, 2, 3, 3]], np.uint16)
    floe = CategoryCounts("floe_size", table)
    floe.add(ids, np.array([[6, 0, 3, 4, 2, IGNORE]], np.uint8))
    wanted = np.zeros((7, 7), int)
    wanted[0, 0] = wanted[0, 3] = wanted[4, 4] = 1
    np.testing.assert_array_equal(floe.as_dict()["counts"], wanted)
    sic = CategoryCounts("concentration", table)  # stored in steps of 0.005
    sic.add(ids, np.array([[200, 9, 11, 109, 189, IGNORE]], np.uint8))
    wanted = np.zeros((11, 11), int)
    wanted[0, 0] = wanted[0, 1] = wanted[5, 5] = wanted[10, 9] = 1
    np.testing.assert_array_equal(sic.as_dict()["counts"], wanted)
    assert sic.as_dict()["without_prediction"][10] == 1


def evaluation(rng: np.random.Generator, *, simulated: bool = False) -> dict[str, object]:
    """What evaluation.json holds of a scene with all three heads."""

    def counts(n: int) -> dict[str, object]:
        return Confusion(rng.integers(0, 50, (n, n)) + 40 * np.eye(n, dtype=int), np.zeros(n, int)).as_dict()

    categories = {"a": {"target": "floe_size"} | counts(7), "b": {"target": "concentration"} | counts(11)}
    return {
        "simulated": simulated,
        "legend": {"name": AI4ARCTIC.name},
        "scores": {PRIMARY: counts(6)},
        "categories": categories,
    }


def test_published_scores_are_beside_those_of_the_real_official_scenes_only() -> None:
    rng = np.random.default_rng(3)
    tests = [s.name for s in official()["test"]]
    learnt = {"parts": [{"role": "train", "scene": {"name": official()["train"][0].name}}]}
    other = {"parts": [{"role": "train", "scene": {"name": "mine"}}]}

    def rows(scenes: list[str], split: Any, *, simulated: bool = False) -> list[tuple[str, ...]]:
        runs = {0: {s: evaluation(rng, simulated=simulated) for s in scenes}}
        found = summarise_challenge([("focal", runs)], scenes, [split])
        return list(leaderboard({"challenge": found, "simulated": simulated})[0].rows)

    assert [r[0] for r in rows(tests, learnt)] == ["focal", *(m.title for m in PUBLISHED)]
    for scenes, split, simulated in (
        (tests, learnt, True), (tests[1:], learnt, False), (tests, other, False), (tests, None, False)
    ):  # fmt: skip
        assert [r[0] for r in rows(scenes, split, simulated=simulated)] == ["focal"]


def test_every_official_scene_is_in_one_group_of_each_kind() -> None:
    names = [s.name for use in official().values() for s in use]
    for kind, groups in facets(names).items():
        assert sorted(n for members in groups.values() for n in members) == sorted(names), kind
    months = {n: int(n[4:6]) for n in names}
    seasons = facets(names)["season"]
    assert {months[n] for n in seasons["winter"]} == {12, 1, 2}
    assert {months[n] for n in seasons["summer"]} == {6, 7, 8}
    assert {g: len(m) for g, m in facets(names)["satellite"].items()}.keys() == {"S1A", "S1B"}


# Splits by groups


@pytest.mark.parametrize(("by", "groups"), [("orbit", 5), ("region", 4), ("season", 4)])
def test_no_orbit_is_on_two_sides_of_a_split_by_groups(by: str, groups: int) -> None:
    """Over all groups each scene is tested once; scenes beside the held-out ones, and only these, are left out."""
    scenes = {s.name: s for use in official().values() for s in use}
    found = held_out(SplitSettings.checked(kind="leave_one_out", by=by), tuple(scenes))
    assert len(found) == groups
    tested: list[str] = []
    for group in found:
        roles = roles_of(SplitSettings.checked(kind="leave_one_out", by=by, held_out=group), tuple(scenes))
        orbits = {role: {scenes[n].orbit for n, r in roles.items() if r == role} for role in set(roles.values())}
        assert set(orbits) == {"train", "validation", "test"}
        assert not orbits["test"] & (orbits["train"] | orbits["validation"])
        assert not orbits["train"] & orbits["validation"]
        left_out = scenes.keys() - roles.keys()
        assert all(scenes[n].orbit in orbits["test"] for n in left_out)
        tested += [n for n, role in roles.items() if role == "test"]
    assert sorted(tested) == sorted(scenes)


def test_groups_are_of_ai4arctics_scenes() -> None:
    with pytest.raises(ConfigError, match="Groups are known of the scenes of AI4Arctic"):
        held_out(SplitSettings.checked(kind="leave_one_out", by="region"), ("01", "02"))
    one = official()["train"][0].name
    with pytest.raises(ConfigError, match="such group"):
        held_out(SplitSettings.checked(kind="leave_one_out", by="season"), (one,))
    with pytest.raises(ConfigError, match="region1, region2"):
        names = tuple(s.name for s in official()["train"])
        roles_of(SplitSettings.checked(kind="leave_one_out", by="region", held_out="east"), names)
    with pytest.raises(ConfigError, match="by is for leave_one_out"):
        SplitSettings.checked(kind="official", by="region")


# Whole studies


@pytest.fixture(scope="module")
def full_run(ai4arctic_set: tuple[SimulatedScene, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """configs/ai4arctic-full.toml at the smallest size, in image geometry, from ready-to-train files."""
    out = tmp_path_factory.mktemp("full") / "run"
    study = smallest("ai4arctic-full", files_of_two_months(ai4arctic_set, out.parent / "set"), ["cross_entropy"])
    assert not compare(study, out, report=False).failed
    return out


def files_of_two_months(scenes: Sequence[SimulatedScene], folder: Path) -> Path:
    """The ready-to-train files of the set, and one of them once more under a name of another month.

    A model cannot learn from the month of a single training scene, and floemap refuses it.
    """
    folder.mkdir()
    for path in {p for one in scenes for p in (one.ready, one.reference)}:
        shutil.copy(path, folder)
    months = {one.scene.start.month for one in scenes}
    other = next(s for s in official()["train"] if s.start.month not in months)
    shutil.copy(scenes[0].ready, folder / f"{SIMULATED}{other.ready}")
    return folder


def smallest(name: str, folder: Path, losses: list[str]) -> Study:
    """A shipped configuration with coarse pixels, few crops and one epoch; everything else as shipped."""
    values = Study.checked(**tomllib.loads(config_text(name))).model_dump()
    values["data"]["folder"] = folder
    values["data"]["prepare"] |= {"resolution_m": 3475}  # the pixels of the set's files
    values["model"] |= {"encoder_weights": None, "rates": None}
    values["crops"] |= {"size_px": 64, "per_scene": 2, "workers": 0, "validation_per_scene": 1}
    values["training"] |= {"batch": 2, "max_epochs": 1, "precision": "fp32"}
    values["compare"] |= {"losses": losses, "repeats": 1}
    values["predict"] |= {"precision": "fp32"}
    return Study.checked(**values)


def test_all_inputs_and_three_heads_give_the_challenges_scores(
    full_run: Path, ai4arctic_set: tuple[SimulatedScene, ...]
) -> None:
    """The scores in results.json are those of the starter: of the file's own charts, pixel by pixel of the image."""
    (folder,) = (full_run / "cells" / "cross_entropy_r0" / "predictions").iterdir()
    header = read_about(full_run / "cells" / "cross_entropy_r0" / "model" / "model.safetensors")
    assert len(header["bands"]) == 27
    with h5py.File(ai4arctic_set[2].reference) as f:
        charts = {chart: f[chart][:] for chart in ("SIC", "SOD", "FLOE")}
    sic, sod, floe = (raster_of(folder / f"{n}.tif") for n in ("sic", "classes", "floe"))

    reference = charts["SIC"].astype(np.float64)
    both = (charts["SIC"] != IGNORE) & (sic != IGNORE)
    tenths = np.round(sic[both] * 0.05 + 1e-9)  # steps of 0.005
    off, spread = (reference[both] - tenths, reference[both] - reference[both].mean())
    expected = {"SIC": 1 - (off**2).sum() / (spread**2).sum()}
    for chart, found in (("SOD", sod), ("FLOE", floe)):
        wanted = charts[chart]
        known = wanted != IGNORE
        assert (found[known] != IGNORE).mean() > 0.99  # all but pixels of exactly the global mean
        known &= found != IGNORE
        expected[chart] = f1_score(wanted[known], found[known], average="weighted", zero_division=0)
    expected["combined"] = (2 * expected["SIC"] + 2 * expected["SOD"] + expected["FLOE"]) / 5
    scores = read_json(full_run / "results.json")["summary"]["challenge"]["losses"]["cross_entropy"]["all"]
    for chart, value in expected.items():
        assert scores[chart]["mean"] == pytest.approx(value, abs=2e-3 if chart in ("SIC", "combined") else 1e-9), chart
    assert raster_of(folder / "floe.tif")[floe != IGNORE].max() < 7


def raster_of(path: Path) -> Classes:
    with open_raster(path) as d:
        return np.asarray(d.read(1), np.uint8)


def test_the_leaderboard_says_that_scenes_are_simulated_and_has_no_published_score(full_run: Path) -> None:
    text = (full_run / "leaderboard.md").read_text()
    assert "| model | SIC R2 | SOD F1 | FLOE F1 | combined | from |" in text
    assert "SIMULATED" in text.splitlines()[2]
    assert not any(m.title in text for m in PUBLISHED)
    assert "AI4Arctic challenge (SIMULATED scenes)" in (full_run / "results.md").read_text()


def test_layers_are_stored_in_cells_of_2_km_or_pixels_and_made_once(
    full_run: Path, ai4arctic_set: tuple[SimulatedScene, ...]
) -> None:
    prepared = full_run / "data" / "prepared" / ai4arctic_set[0].scene.name
    made = {p.name: (p / "layer.json").stat().st_mtime_ns for p in (prepared / "layers").iterdir()}
    assert set(made) == set(BANDS)
    make_data(smallest("ai4arctic-full", full_run.parent / "set", ["focal"]).all_data(), full_run / "data")
    assert made == {p.name: (p / "layer.json").stat().st_mtime_ns for p in (prepared / "layers").iterdir()}


def test_radar_only_runs_as_shipped_with_the_loss_from_partial_concentrations(
    ai4arctic_set: tuple[SimulatedScene, ...], tmp_path: Path
) -> None:
    study = smallest("ai4arctic", ai4arctic_set[0].folder.parent, ["region_pixel"])
    assert not compare(study, tmp_path / "run", report=False).failed
    row = (tmp_path / "run" / "leaderboard.md").read_text().splitlines()[8].split("|")
    assert row[1].strip() == "region_pixel"
    assert [row[k].strip() == "–" for k in (2, 3, 4, 5)] == [True, False, True, True]


def test_every_input_can_be_left_out_by_a_variant() -> None:
    study = Study.checked(**tomllib.loads(config_text("ai4arctic-full")))
    assert len(study.data.bands) == 27
    left_out = {}
    for name in study.compare.variants:
        cell = with_changes(study, with_loss(study, name))
        left_out[name] = set(study.data.bands) - set(cell.data.bands)
        assert cell.loss == study.loss
    assert left_out["without_amsr2"] == set(AMSR2)
    assert left_out["without_era5"] == set(ERA5)
    assert left_out["sar_only"] == set(BANDS)
    assert set().union(*(v for k, v in left_out.items() if k != "sar_only")) == set(BANDS)
    assert study.all_data().bands == study.data.bands
