"""All checks on a scene's files, scenes pooled, and the numbers for tables."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from check_maps import LEGEND, blobs, compared, in_one, incidence_deg, pair, probabilities
from odc.geo.geobox import GeoBox

from floemap.cog import Band, write_cog
from floemap.errors import ConfigError, FloemapError, GridError
from floemap.evaluation.checks.confidence import confidence
from floemap.evaluation.checks.ice_edge import ice_edge
from floemap.evaluation.checks.measures import Measure
from floemap.evaluation.checks.scene_checks import CHECKS, MEASURES, check_scene, pool_checks
from floemap.evaluation.checks.seam_zone import seam_zone
from floemap.evaluation.checks.season import in_melt_season, season
from floemap.evaluation.checks.sensor import angle, seams
from floemap.legend import IGNORE
from floemap.results.stage import write_json
from floemap.sentinel1.bands import BANDS
from floemap.sentinel1.encoding import NODATA

SHAPE = (90, 110)
#: Off East Greenland, from 74.8 degrees north; pixels of 500 m.
GRID = GeoBox(SHAPE, Affine(500, 0, 700_000, 0, -500, -1_500_000), "EPSG:3413")
SEAM = {"between": ["EW1", "EW2"], "incidence_deg": [30.0, 30.1]}


def lonlat(col: float) -> list[list[float]]:
    """A line down the grid at a column."""
    import pyproj

    to = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True)
    points = [GRID.transform * (col, row) for row in (0, 45, 90)]
    return [list(to.transform(*p)) for p in points]


def write_scene(folder: Path, seed: int = 0, start: str = "2018-07-17T07:38:09+00:00", **changes: Any) -> Path:
    """Write a prediction, labels and a prepared product; `changes` replace rasters or entries of the JSON files."""
    prediction, reference = pair(seed, shape=SHAPE)
    prediction, reference = changes.get("prediction", prediction), changes.get("reference", reference)
    grid = changes.get("grid", GRID)
    stored = np.full((4, *SHAPE), NODATA, np.int16)
    stored[2] = np.rint(incidence_deg(SHAPE) * 100)
    stored[2, :3], stored[3] = NODATA, 1
    write_cog(folder / "product" / "product.tif", GRID, stored, changes.get("bands", BANDS), nodata=NODATA)
    band = [Band("ice_type", overview="mode")]
    write_cog(folder / "labels" / "labels.tif", grid, reference, band, nodata=IGNORE)
    write_cog(folder / "prediction" / "classes.tif", GRID, prediction, band, nodata=IGNORE)
    bands = [Band(c.key, scale=changes.get("step", 1 / 250)) for c in LEGEND.classes]
    p = changes.get("probabilities", probabilities(prediction))
    write_cog(folder / "prediction" / "probabilities.tif", GRID, p, bands[: len(p)], nodata=IGNORE)
    legend = {"legend": {"name": LEGEND.name}}
    write_json(folder / "labels" / "label.json", changes.get("label.json", legend | {"simulated": False}))
    write_json(folder / "prediction" / "prediction.json", changes.get("prediction.json", legend))
    product = {"simulated": True, "scene": {"name": "S1A", "start": start}}
    product |= {"seams": [SEAM | {"lonlat_deg": lonlat(40)}]}
    write_json(folder / "product" / "product.json", changes.get("product.json", product))
    return folder


@pytest.fixture
def scene(tmp_path: Path) -> Callable[..., Path]:
    """Makes the folder of a scene; see :func:`write_scene`."""
    made = 0

    def make(*args: Any, **changes: Any) -> Path:
        nonlocal made
        made += 1
        folder = tmp_path / str(made)
        for name in ("product", "labels", "prediction"):
            (folder / name).mkdir(parents=True)
        return write_scene(folder, *args, **changes)

    return make


def checked(folder: Path, **options: Any) -> dict[str, Any]:
    return check_scene(folder / "prediction", folder / "labels", folder / "product", **options)


# --- files


def test_files_give_what_arrays_give(scene: Callable[..., Path]) -> None:
    """Every check, from rasters on disk: equal to the pure functions; JSON throughout."""
    steps: list[tuple[float, float, str]] = []
    found = checked(scene(), progress=lambda *a: steps.append(a))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found["checks"]) == list(CHECKS)
    assert {k for k, e in found["checks"].items() if not e["applies"]} == {"polygons"}, "the labels have none"
    prediction, reference = pair(0, shape=SHAPE)
    maps = compared(prediction, reference, 500.0)
    expected = {
        "season": season(maps, in_melt_season(date(2018, 7, 17), 75.0)),
        "ice_edge": ice_edge(maps),
        "seams": seams(maps, seam_zone([{"lonlat_deg": lonlat(40)}], GRID)),
    }
    incidence = (np.rint(incidence_deg(SHAPE) * 100) * np.float32(0.01)).astype(np.float32)
    incidence[:3] = np.nan
    expected["angle"] = angle(maps, in_one(incidence))  # type: ignore[assignment]
    for key, amounts in expected.items():
        assert found["checks"][key]["values"] == json.loads(json.dumps(amounts.values())), key
    both = (prediction != IGNORE) & (reference != IGNORE)
    assert found["compared_km2"] == both.sum() * 0.25
    assert found["checks"]["confidence"]["values"]["pixels"] == both.sum()
    assert found["simulated"] is True, "one of the three says so"
    assert (found["scene"], found["start"][:10]) == ("S1A", "2018-07-17")
    assert (found["legend"], found["pixel_m"]) == ("six_classes", 500)
    assert [s[2] for s in steps] == [*(k.replace("_", " ") for k in CHECKS), "done"]


def test_winter_has_no_season_and_other_things_may_lack(scene: Callable[..., Path]) -> None:
    record = {"simulated": False, "scene": {"name": "S1A", "start": "2018-01-16T07:54:30+00:00"}}
    folder = scene(**{"product.json": record})
    (folder / "prediction" / "probabilities.tif").unlink()
    found = checked(folder)
    reasons = {k: e["reason"] for k, e in found["checks"].items() if not e["applies"]}
    assert set(reasons) == {"season", "seams", "confidence", "polygons"}
    assert "melt season" in reasons["season"]
    assert "--overwrite" in reasons["seams"]
    assert reasons["confidence"] == "there is no probabilities.tif"
    assert found["simulated"] is False
    values = {h.key: h.of(found["checks"]) for h in MEASURES}
    assert values["out_of_season_km2"] is None and values["ece"] is None and values["seam_ratio"] is None
    assert values["old_ice_missed_km2"] > 0


def test_air_temperature_decides(scene: Callable[..., Path], tmp_path: Path) -> None:
    """In tenths of a degree, unknown in part: there the date decides."""
    air = np.full(SHAPE, 20, np.int16)
    air[:, :30], air[:, 30:50] = -100, -9999
    write_cog(tmp_path / "air.tif", GRID, air, [Band("t2m", "degree", scale=0.1, overview="nearest")], nodata=-9999)
    summer = checked(scene(), air_temperature=tmp_path / "air.tif")["checks"]["season"]["values"]
    winter = checked(scene(start="2018-01-16T07:54:30+00:00"), air_temperature=tmp_path / "air.tif")
    prediction, reference = pair(0, shape=SHAPE)
    both = (prediction != IGNORE) & (reference != IGNORE)
    assert summer["melting_km2"] == both[:, 30:].sum() * 0.25
    assert winter["checks"]["season"]["values"]["melting_km2"] == both[:, 50:].sum() * 0.25
    elsewhere = GeoBox(SHAPE, Affine(500, 0, 0, 0, -500, 0), "EPSG:3413")
    write_cog(tmp_path / "else.tif", elsewhere, air, [Band("t2m")], nodata=-9999)
    with pytest.raises(GridError):
        checked(scene(), air_temperature=tmp_path / "else.tif")


def test_latitude_decides_within_a_scene(scene: Callable[..., Path]) -> None:
    """On 5 September, melt is on south of 70 degrees and not north of it."""
    from floemap.evaluation.checks.scene_files import open_scene_files

    folder = scene(start="2018-09-05T07:38:09+00:00")
    files = open_scene_files(folder / "prediction", folder / "labels", folder / "product")
    assert not files.melting().any()
    south = GeoBox((200, 100), Affine(2000, 0, 700_000, 0, -2000, -2_000_000), "EPSG:3413")
    moved = type(files)(**(vars(files) | {"geobox": south}))
    melting = moved.melting()
    assert melting.shape == (200, 100)
    assert melting[-1].all() and not melting[0, :20].any()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"grid": GeoBox(SHAPE, Affine(500, 0, 0, 0, -500, 0), "EPSG:3413")}, GridError, "labels.tif"),
        ({"label.json": {"legend": {"name": "ai4arctic"}}}, FloemapError, "ai4arctic"),
        ({"label.json": {"legend": {"name": "nobody's"}}}, ConfigError, "nobody's"),
        ({"prediction.json": {}}, FloemapError, "names no legend"),
        ({"product.json": {"scene": {"name": "S1A"}}}, FloemapError, "start"),
        ({"product.json": {"scene": {"name": "S1A", "start": "soon"}}}, FloemapError, "start"),
        ({"prediction": np.full(SHAPE, 17, np.uint8)}, ConfigError, "class 17"),
        ({"probabilities": np.zeros((5, *SHAPE), np.uint8)}, FloemapError, "5 bands"),
        ({"probabilities": np.zeros((6, *SHAPE), np.int16)}, FloemapError, "int16"),
        ({"bands": BANDS[::-1]}, FloemapError, "floemap prepare"),
    ],
)
def test_files_that_do_not_go_together(
    changes: dict[str, Any], error: type[Exception], words: str, scene: Callable[..., Path]
) -> None:
    with pytest.raises(error, match=words):
        checked(scene(**changes))


def test_files_that_are_absent_or_broken(scene: Callable[..., Path]) -> None:
    for name in ("prediction/classes.tif", "labels/label.json", "product/product.tif", "prediction/prediction.json"):
        folder = scene()
        (folder / name).unlink()
        with pytest.raises(FloemapError, match=Path(name).name):
            checked(folder)
    folder = scene()
    path = folder / "prediction" / "probabilities.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FloemapError, match=r"probabilities\.tif"):
        checked(folder)


def test_float_probabilities_and_a_legend_by_name_alone(scene: Callable[..., Path]) -> None:
    prediction, _ = pair(0, shape=SHAPE)
    p = probabilities(prediction).astype(np.float32) / 250
    p[:, prediction == IGNORE] = np.nan
    about = {"legend": "six_classes"}
    folder = scene(step=1.0)
    bands = [Band(c.key) for c in LEGEND.classes]
    write_cog(folder / "prediction" / "probabilities.tif", GRID, p, bands, nodata=math.nan)
    write_json(folder / "prediction" / "prediction.json", about)
    floats, stored = (checked(f)["checks"]["confidence"]["values"] for f in (folder, scene()))
    for key in ("ece", "brier", "entropy_gap", "wrong_in_surer_half", "accuracy"):
        assert floats[key] == pytest.approx(stored[key], abs=1e-4)


def test_polygons_and_temperature_come_from_the_labels_and_the_predictions_record(scene: Callable[..., Path]) -> None:
    legend = {"legend": {"name": LEGEND.name}}
    plain = checked(scene())["checks"]["confidence"]["values"]
    assert plain["ece_by_polygon"] is None and plain["ece_uncalibrated"] == plain["ece"]
    folder = scene(**{"prediction.json": legend | {"model": {"temperature": 2.0}}})
    ids = (np.arange(SHAPE[0])[:, None] // 10 + np.zeros(SHAPE, int)).astype(np.uint16)
    write_cog(folder / "labels" / "polygons.tif", GRID, ids, [Band("polygon", overview="mode")], nodata=0)
    found = checked(folder)["checks"]["confidence"]["values"]
    assert found["ece"] == plain["ece"] and found["ece_by_polygon"] > 0
    prediction, reference = pair(0, shape=SHAPE)
    p = probabilities(prediction)
    maps = compared(prediction, reference, legend=LEGEND)
    hand = confidence(maps, lambda w: p[:, w[0], w[1]], 1 / 250, temperature=2.0, polygons=ids).values()
    for key in ("ece_by_polygon", "ece_uncalibrated", "ece_equal_mass"):
        assert found[key] == pytest.approx(hand[key], rel=1e-9)


@pytest.mark.parametrize("temperature", [0, -1, math.nan, "warm", None, True])
def test_a_damaged_temperature_of_a_prediction_is_refused(temperature: Any, scene: Callable[..., Path]) -> None:
    folder = scene()
    about = {"legend": {"name": LEGEND.name}, "model": {"temperature": temperature}}
    (folder / "prediction" / "prediction.json").write_text(json.dumps(about))
    with pytest.raises(FloemapError, match=r"prediction\.json"):
        checked(folder)


def test_damaged_polygons_are_refused(scene: Callable[..., Path]) -> None:
    band = [Band("polygon", overview="mode")]
    wrong_type, elsewhere, broken = scene(), scene(), scene()
    write_cog(wrong_type / "labels" / "polygons.tif", GRID, np.zeros(SHAPE, np.uint8), band, nodata=0)
    moved = GeoBox(SHAPE, GRID.affine * Affine.translation(5, 0), GRID.crs)
    write_cog(elsewhere / "labels" / "polygons.tif", moved, np.zeros(SHAPE, np.uint16), band, nodata=0)
    (broken / "labels" / "polygons.tif").write_bytes(b"II*")
    with pytest.raises(FloemapError, match="bands of uint8, not one of uint16"):
        checked(wrong_type)
    with pytest.raises(GridError):
        checked(elsewhere)
    with pytest.raises(FloemapError, match=r"polygons\.tif"):
        checked(broken)


def test_the_truth_is_the_reference_where_it_is_given(scene: Callable[..., Path], tmp_path: Path) -> None:
    """Where the chart has a class, as if the chart were the truth there; elsewhere nothing is compared."""
    _, chart = pair(0, shape=SHAPE)
    true = blobs(77, shape=SHAPE, none=0.0)
    surface = Band("surface"), Band("class")
    write_cog(tmp_path / "truth.tif", GRID, np.stack([true, true]), list(surface), nodata=IGNORE)
    found = checked(scene(), truth=tmp_path / "truth.tif")
    expected = checked(scene(reference=np.where(chart == IGNORE, chart, true)))
    assert (found["reference"], expected["reference"]) == ("truth", "chart")
    assert found["checks"] == expected["checks"] != checked(scene())["checks"]
    with pytest.raises(ConfigError, match="against the chart, some against the truth"):
        pool_checks([found, expected])
    assert pool_checks([found, found])["reference"] == "truth"
    write_cog(tmp_path / "other.tif", GRID, true, [Band("surface")], nodata=IGNORE)
    with pytest.raises(GridError, match=r"other\.tif"):
        checked(scene(), truth=tmp_path / "other.tif")
    elsewhere = GeoBox(SHAPE, Affine(500, 0, 0, 0, -500, 0), "EPSG:3413")
    write_cog(tmp_path / "else.tif", elsewhere, np.stack([true, true]), list(surface), nodata=IGNORE)
    with pytest.raises(GridError, match="grids differ"):
        checked(scene(), truth=tmp_path / "else.tif")
    folder = scene()
    for name in ("labels/label.json", "prediction/prediction.json"):
        write_json(folder / name, {"legend": {"name": "ai4arctic"}})
    with pytest.raises(ConfigError, match="six_classes"):
        checked(folder, truth=tmp_path / "truth.tif")


# --- pooled


def test_scenes_pool_in_any_order_from_json(scene: Callable[..., Path]) -> None:
    scenes = [checked(scene(s)) for s in (1, 2)] + [checked(scene(3, start="2018-01-16T07:54:30+00:00"))]
    pooled = pool_checks(scenes)
    assert json.dumps(pool_checks(json.loads(json.dumps(scenes[::-1])))) == json.dumps(pooled)
    assert pooled["scenes"] == 3 and pooled["simulated"] is True
    assert pooled["checks"]["season"]["scenes"] == 2, "January has none"
    assert pooled["checks"]["old_ice"]["scenes"] == 3
    each = [s["checks"]["old_ice"]["values"] for s in scenes]
    found = pooled["checks"]["old_ice"]["values"]
    assert found["omission_km2"] == pytest.approx(sum(v["omission_km2"] for v in each))
    by_sums = sum(v["omission_km2"] for v in each) / sum(v["reference_km2"] for v in each)
    assert found["omission_share"] == pytest.approx(by_sums)
    assert found["omission_share"] != pytest.approx(np.mean([v["omission_share"] for v in each]), rel=1e-4)
    winter = pool_checks(scenes[2:])
    assert winter["checks"]["season"]["applies"] is False and winter["checks"]["season"]["scenes"] == 0
    assert {k: v for k, v in winter["checks"]["angle"].items() if k != "scenes"} == scenes[2]["checks"]["angle"]


def test_what_cannot_be_pooled(scene: Callable[..., Path]) -> None:
    with pytest.raises(FloemapError, match="no checks"):
        pool_checks([])
    folder = scene()
    with pytest.raises(ConfigError, match="window_km"):
        pool_checks([checked(folder), checked(folder, window_km=10)])
    with pytest.raises(FloemapError, match="season"):
        pool_checks([{"checks": {}}])


# --- measures


def test_measures_find_their_numbers(scene: Callable[..., Path]) -> None:
    found = checked(scene())["checks"]
    values = {h.key: h.of(found) for h in MEASURES}
    assert len(values) == len(MEASURES)
    for h in (m for m in MEASURES if m.check != "polygons"):
        assert values[h.key] is not None and math.isfinite(values[h.key]), h.key
        assert h.check in CHECKS and h.question.endswith("?")
        assert h.text(values[h.key]).replace("\u2009", "").lstrip("\u2212").replace(".", "").isdigit()
        assert h.text(None) == "–"
    assert {h.check for h in MEASURES} == set(CHECKS), "every check has one"


def test_which_way_is_better() -> None:
    by_key = {h.key: h for h in MEASURES}
    patches, area = by_key["patches_per_1000_km2"], by_key["iiee_km2"]
    for own in (3.0, 40.0):
        bad = [patches.badness(own * by, own) for by in (1, 1.1, 0.5, 2, 0)]
        assert 0 == bad[0] < bad[1] < bad[2] < bad[4] < math.inf
        assert bad[2] == pytest.approx(bad[3], rel=0.01)
    assert patches.badness(0, 0) == 0, "also where the reference has none"
    assert math.isnan(patches.badness(3, None)), "no distance to what is not known"
    assert area.badness(0) < area.badness(5)
    assert patches.deviation(2, 4) == -patches.deviation(4, 2) < 0 < patches.badness(2, 4)
    share = Measure(key="", title="", unit="", better="higher", question="")
    assert share.deviation(0.5) < share.deviation(0.1)
    assert by_key["iiee_km2"].text(12345.6) == "12\u2009346"


def test_the_page_for_people_has_every_measure() -> None:
    page = (Path(__file__).parents[1] / "docs" / "physical-checks.md").read_text(encoding="utf-8")
    best = {"lower": "low", "higher": "high", "near reference": "the reference's"}
    for h in MEASURES:
        cells = " | ".join((h.title, h.unit, best[h.better], h.question)).replace("|  |", "| |")
        assert f"| {cells} |" in page, h.key
