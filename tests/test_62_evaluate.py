"""Scoring rasters: each named score against a plain count, and everything that can be wrong with the files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from chart_maker import BOTTOM, SIDE_M, grid, ice, other, write_chart
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import Band, read_geobox, write_cog
from floemap.errors import ConfigError, FloemapError, GridError, OutputError
from floemap.evaluation.scoring.confusion import confusion
from floemap.evaluation.scoring.evaluate import evaluate_scene
from floemap.evaluation.scoring.named_scores import Tally, counted_as_either, reference_away
from floemap.evaluation.scoring.settings import EvaluateSettings
from floemap.icechart.label.label import label_chart
from floemap.icechart.label.settings import LabelSettings
from floemap.legend import IGNORE, LEGENDS, SIX_CLASSES
from floemap.results.stage import write_json
from floemap.simulation.twin_month import TRUTH_BANDS

#: More rows than a strip, an odd number of them, and a margin without a label.
GRID = grid(603, 240, pixel_m=1000, top=BOTTOM + SIDE_M + 8000)
#: Old ice; first-year ice half water; three types; land. Drawn 550 km high.
ROWS = (
    ice(SA="95"),
    ice("50", SA="86"),
    ice("92", CA="20", SA="95", CB="30", SB="86", CC="50", SC="81"),
    other("L"),
)
Raster = NDArray[np.uint8]


def write_classes(path: Path, array: Raster, box: GeoBox = GRID, *, nodata: int | None = IGNORE, **tags: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_cog(path, box, array, [Band("ice_type", overview="mode")], nodata=nodata, tags=tags)
    return path


def write_prediction(folder: Path, array: Raster, *, legend: str = "six_classes", simulated: bool = False) -> Path:
    """A folder as `floemap predict` leaves it."""
    write_classes(folder / "classes.tif", array)
    classes = {c.id: c.key for c in LEGENDS[legend].classes}
    record = {"simulated": simulated, "legend": {"name": legend, "classes": classes, "ignore": IGNORE}}
    write_json(folder / "prediction.json", record)
    return folder


def write_truth(path: Path, classes: Raster) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = np.stack([np.zeros_like(classes), classes])
    write_cog(path, GRID, bands, TRUTH_BANDS, nodata=255, tags={"simulated": "yes"})
    return path


def read(path: Path, band: int = 1) -> Raster:
    with rasterio.open(path) as d:
        return np.asarray(d.read(band))


@pytest.fixture(scope="module")
def label_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels with shares and distances, made by the label stage. Shared: read it, don't change it."""
    import shapely

    root = tmp_path_factory.mktemp("labels")
    boxes = [
        shapely.box(500_000 + i * SIDE_M, BOTTOM - 400_000, 500_000 + (i + 1) * SIDE_M, BOTTOM + SIDE_M)
        for i in range(4)
    ]
    like = write_classes(root / "like.tif", np.ones(GRID.shape, np.uint8), nodata=None)
    chart = write_chart(root / "seaice.gpkg", ROWS, boxes)
    return label_chart(chart, like, root, LabelSettings(fractions=True)).folder


@pytest.fixture(scope="module")
def predicted() -> Raster:
    """Noise over all classes, with holes where nothing is predicted."""
    rng = np.random.default_rng(3)
    found = rng.integers(0, 6, GRID.shape).astype(np.uint8)
    found[100:140, 30:90] = IGNORE
    found[:, 230:] = IGNORE
    return found


@pytest.fixture(scope="module")
def truth() -> Raster:
    rng = np.random.default_rng(4)
    found = rng.integers(0, 6, GRID.shape).astype(np.uint8)
    found[:, :10] = IGNORE
    return found


def counts(record: dict[str, Any], name: str) -> NDArray[np.int64]:
    return np.array(record["scores"][name]["counts"])


def test_the_record_and_the_map(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    result = evaluate_scene(write_prediction(tmp_path / "S1X", predicted), label_folder, tmp_path / "out")
    assert result.folder == tmp_path / "out" / "S1X"
    assert sorted(p.name for p in result.folder.iterdir()) == ["errors.qml", "errors.tif", "evaluation.json"]
    record, labels = result.read(), read(label_folder / "labels.tif")
    assert record["scene"] == "S1X"
    assert record["simulated"] is False
    assert record["pixel_area_km2"] == 1
    assert record["legend"]["classes"]["4"] == "old_ice"
    files = {"labels.tif", "fractions.tif", "border_distance.tif", "polygons.tif", "polygons.csv"}
    assert set(record["inputs"]["labels"]) == files
    assert set(record["inputs"]["records"]) == {"label.json", "prediction.json"}
    expected = confusion(labels, predicted, 6)
    primary = record["scores"]["primary"]
    assert (counts(record, "primary") == expected.counts).all()
    assert primary["without_prediction"] == expected.without_prediction.tolist()
    assert primary["without_reference"] == expected.without_reference > 0
    assert primary["scores"]["without_prediction"] == (labels[100:140, 30:90] != IGNORE).sum() > 0
    assert primary["scores"]["classes"]["old_ice"]["support"] == expected.counts[4].sum() > 0

    errors, both = read(result.errors), (labels != IGNORE) & (predicted != IGNORE)
    assert read_geobox(result.errors) == GRID
    assert ((errors == 255) == ~both).all()
    assert (errors[both] == (labels != predicted)[both]).all()
    assert (errors == 1).sum() == counts(record, "primary").sum() - np.trace(counts(record, "primary"))


def test_either_is_right_for_the_second_largest_share(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    prediction = write_prediction(tmp_path / "S1X", predicted)
    record = evaluate_scene(prediction, label_folder, tmp_path / "out").read()
    primary, either = counts(record, "primary"), counts(record, "either")
    labels = read(label_folder / "labels.tif")
    # Half water is the second of first-year ice; first-year ice that of new ice; old ice has none beside it.
    expected = primary.copy()
    for first, second in ((3, 5), (0, 3)):
        moved = ((labels == first) & (predicted == second)).sum()
        expected[first, second] -= moved
        expected[first, first] += moved
    assert (either == expected).all()
    assert (either.sum(axis=1) == primary.sum(axis=1)).all()
    assert not (either == primary).all()
    # A share must be large enough to make a type.
    strict = EvaluateSettings(either_min_percent=40)
    again = counts(evaluate_scene(prediction, label_folder, tmp_path / "strict", strict).read(), "either")
    assert again[0, 3] == primary[0, 3]
    assert again[3, 5] == 0


def test_the_water_that_nine_plus_tenths_leave_is_no_second_type(tmp_path: Path) -> None:
    like = write_classes(tmp_path / "like.tif", np.ones(GRID.shape, np.uint8), nodata=None)
    rows = [ice("91", SA="95"), ice("91", CA="90", SA="95", CB="10", SB="81")]
    folder = label_chart(write_chart(tmp_path / "c.gpkg", rows), like, tmp_path, LabelSettings(fractions=True)).folder
    labels = read(folder / "labels.tif")
    for predicted, polygons in ((5, ()), (0, (1,))):
        prediction = write_prediction(tmp_path / f"all_{predicted}", np.full(GRID.shape, predicted, np.uint8))
        found = counts(evaluate_scene(prediction, folder, tmp_path / "out").read(), "either")
        right = sum((labels[:, 64 * i : 64 * (i + 1)] == 4).sum() for i in polygons)
        assert found[4, 4] == right
        assert found[4, predicted] == (labels == 4).sum() - right


@given(st.data())
def test_either_against_a_count_pixel_by_pixel(data: st.DataObject) -> None:
    shape = (3, 4)
    ids = st.sampled_from([0, 1, 2, IGNORE])
    reference, prediction = (data.draw(hnp.arrays(np.uint8, shape, elements=ids)) for _ in range(2))
    shares = data.draw(hnp.arrays(np.uint8, (3, *shape), elements=st.sampled_from([0, 5, 10, 30, 60, 255])))
    least = data.draw(st.integers(1, 40))
    before = reference.copy(), prediction.copy(), shares.copy()
    found = counted_as_either(reference, prediction, shares, least)
    for (i, j), r in np.ndenumerate(reference):
        p = prediction[i, j]
        expected = p
        if r != IGNORE and p not in (IGNORE, r):
            of = {k: int(shares[k, i, j]) for k in range(3) if shares[k, i, j] != 255 and k != r}
            if p in of and of[p] >= least and of[p] == max(of.values()):  # type: ignore[index]
                expected = r
        assert found[i, j] == expected
    for was, now in zip(before, (reference, prediction, shares), strict=True):
        assert (was == now).all()


def test_away_from_borders(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    prediction = write_prediction(tmp_path / "S1X", predicted)
    settings = EvaluateSettings(away_from_borders_px=(0, 3, 20, 63))
    record = evaluate_scene(prediction, label_folder, tmp_path / "out", settings).read()
    labels = read(label_folder / "labels.tif")
    distance = read(label_folder / "border_distance.tif") / 4
    previous = counts(record, "primary").sum() + 1
    for k in settings.away_from_borders_px:
        far = np.where(distance > k, labels, IGNORE).astype(np.uint8)
        found = counts(record, f"away_from_borders_{k}")
        assert (found == confusion(far, predicted, 6).counts).all()
        assert found.sum() < previous
        previous = found.sum()
    # The polygons are 64 px wide: half of that from their sides nothing is left.
    assert previous == 0
    assert record["scores"]["away_from_borders_63"]["scores"]["weighted_f1"] is None


def test_far_is_farther_and_nowhere_outside_the_chart() -> None:
    distance = np.array([[0, 12, 13, 254, 255]], np.uint8)
    labels = np.full((1, 5), 2, np.uint8)
    assert reference_away(labels, distance, 3).tolist() == [[IGNORE, IGNORE, 2, 2, IGNORE]]
    with pytest.raises(ConfigError, match="away_from_borders_px"):
        EvaluateSettings.checked(away_from_borders_px=(64,))


def test_truth_and_chart_on_the_same_pixels(
    tmp_path: Path, label_folder: Path, predicted: Raster, truth: Raster
) -> None:
    prediction = write_prediction(tmp_path / "S1X", predicted)
    path = write_truth(tmp_path / "truth" / "truth.tif", truth)
    record = evaluate_scene(prediction, label_folder, tmp_path / "out", truth=path.parent).read()
    labels = read(label_folder / "labels.tif")
    labelled = np.where(labels == IGNORE, IGNORE, truth).astype(np.uint8)
    expected = confusion(labelled, predicted, 6)
    assert (counts(record, "truth") == expected.counts).all()
    assert record["scores"]["truth"]["without_prediction"] == expected.without_prediction.tolist()
    # Both have the truth as reference and the same pixels: so the same rows.
    chart = counts(record, "chart_vs_truth")
    assert (chart.sum(axis=1) == expected.counts.sum(axis=1)).all()
    scored = (labels != IGNORE) & (predicted != IGNORE) & (truth != IGNORE)
    assert (chart == confusion(truth[scored][None], labels[scored][None], 6).counts).all()
    assert record["simulated"] is True
    assert record["absent"] == {}
    with rasterio.open(tmp_path / "out" / "S1X" / "errors.tif") as d:
        assert d.tags()["simulated"] == "yes"

    a = record["agreement"]
    assert a["pixels"] == scored.sum() == sum(v for k, v in a.items() if k != "pixels")
    wrong = scored & (predicted != labels)
    assert a["wrong_by_chart_right_by_truth"] == (wrong & (predicted == truth)).sum() > 0
    assert a["wrong_by_both_chart_true"] == (wrong & (labels == truth)).sum() > 0
    assert a["right_by_chart_and_truth"] + a["right_by_chart_wrong_by_truth"] == (scored & ~wrong).sum()


def test_the_chart_itself_is_the_perfect_prediction_and_its_errors_are_the_chart_s(
    tmp_path: Path, label_folder: Path, truth: Raster
) -> None:
    labels = read(label_folder / "labels.tif")
    path = write_truth(tmp_path / "truth.tif", truth)
    record = evaluate_scene(
        write_prediction(tmp_path / "chart", labels), label_folder, tmp_path / "out", truth=path
    ).read()
    assert record["scores"]["primary"]["scores"]["weighted_f1"] == 1
    assert record["scores"]["truth"]["scores"] == record["scores"]["chart_vs_truth"]["scores"]
    named = evaluate_scene(
        write_prediction(tmp_path / "true", truth), label_folder, tmp_path / "o", truth=path, name="scene"
    )
    assert named.folder.name == "scene"
    found = named.read()
    assert found["scores"]["truth"]["scores"]["weighted_f1"] == 1
    assert found["agreement"]["wrong_by_both_chart_true"] == found["agreement"]["wrong_by_both_chart_wrong"] == 0


def test_strips_and_whole_count_the_same(label_folder: Path, predicted: Raster, truth: Raster) -> None:
    labels, distance = read(label_folder / "labels.tif"), read(label_folder / "border_distance.tif")
    with rasterio.open(label_folder / "fractions.tif") as d:
        fractions = d.read(range(1, 7))
    whole, parts = Tally((3,)), Tally((3,))
    whole.add(labels, predicted, fractions=fractions, distance=distance, truth=truth)
    for row in reversed(range(0, len(labels), 100)):
        r = np.s_[row : row + 100]
        parts.add(labels[r], predicted[r], fractions=fractions[:, r], distance=distance[r], truth=truth[r])
    assert parts.as_dict(6) == whole.as_dict(6)
    assert parts.agreement == whole.agreement


def test_only_the_part_within_the_mask(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    part = np.zeros(GRID.shape, np.uint8)
    part[:300] = 1
    mask = write_classes(tmp_path / "mask.tif", part, nodata=None)
    prediction = write_prediction(tmp_path / "S1X", predicted)
    record = evaluate_scene(prediction, label_folder, tmp_path / "out", mask=mask).read()
    expected = confusion(read(label_folder / "labels.tif")[:300], predicted[:300], 6)
    assert (counts(record, "primary") == expected.counts).all()
    assert (read(tmp_path / "out" / "S1X" / "errors.tif")[300:] == 255).all()


@pytest.mark.parametrize("how", ["0", "no-data value", "NaN", "internal mask"])
def test_pixels_without_data_are_not_scored(tmp_path: Path, label_folder: Path, predicted: Raster, how: str) -> None:
    """However a mask, or a raster of classes, says where it has none."""
    part = np.zeros(GRID.shape, np.float32)
    part[:300] = 1
    profile: dict[str, Any] = {"driver": "GTiff", "height": GRID.shape[0], "width": GRID.shape[1], "count": 1}
    profile |= {"crs": GRID.crs.to_wkt(), "transform": GRID.transform}
    empty, nodata = {"no-data value": (9, 9), "NaN": (np.nan, None)}.get(how, (0, None))
    mask, classes = tmp_path / "mask.tif", tmp_path / "classes.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(mask, "w", dtype="float32", nodata=nodata, **profile) as d:
            d.write(np.where(part == 1, 1, np.float32(empty)), 1)
        with rasterio.open(classes, "w", dtype="uint8", **profile) as d:
            d.write(predicted, 1)
            if how == "internal mask":
                d.write_mask(part == 1)
    given_mask = None if how == "internal mask" else mask
    record = evaluate_scene(classes, label_folder, tmp_path / "out", mask=given_mask).read()
    expected = confusion(read(label_folder / "labels.tif")[:300], predicted[:300], 6)
    assert (counts(record, "primary") == expected.counts).all()


@pytest.mark.parametrize("which", ["mask", "prediction"])
def test_a_mask_beside_a_raster_is_not_overlooked(
    tmp_path: Path, label_folder: Path, predicted: Raster, which: str
) -> None:
    mask = write_classes(tmp_path / "mask.tif", np.ones(GRID.shape, np.uint8), nodata=None)
    prediction = write_classes(tmp_path / "prediction.tif", predicted)
    (tmp_path / f"{which}.tif.msk").write_bytes(b"")
    with pytest.raises(GridError, match=rf"a mask in {which}\.tif\.msk"):
        evaluate_scene(prediction, label_folder, tmp_path / "out", mask=mask)


def bare_labels(label_folder: Path, folder: Path, *names: str) -> Path:
    """A copy of the labels with only some of what lies beside them."""
    folder.mkdir()
    for name in ("labels.tif", *names):
        (folder / name).write_bytes((label_folder / name).read_bytes())
    return folder / "labels.tif"


def test_what_is_not_there_is_said_or_refused(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    labels = bare_labels(label_folder, tmp_path / "bare", "label.json")
    prediction = write_prediction(tmp_path / "S1X", predicted)
    record = evaluate_scene(prediction, labels, tmp_path / "out").read()
    assert list(record["scores"]) == ["primary"]
    assert sorted(record["absent"]) == ["away_from_borders", "chart_vs_truth", "either", "truth"]
    assert "fractions.tif" in record["absent"]["either"]
    for score, hint in (("either", "--fractions"), ("away_from_borders", "distances"), ("truth", "truth.tif")):
        with pytest.raises(FloemapError, match=rf"{score} is required, but .*{hint}"):
            evaluate_scene(prediction, labels, tmp_path / "no", EvaluateSettings(require=(score,)))  # type: ignore[arg-type]
    with pytest.raises(FloemapError, match="no distance was asked for"):
        settings = EvaluateSettings(require=("away_from_borders",), away_from_borders_px=())
        evaluate_scene(prediction, label_folder, tmp_path / "no", settings)
    assert not (tmp_path / "no").exists()


def test_finished_work_is_not_done_again(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    prediction, out = write_prediction(tmp_path / "S1X", predicted), tmp_path / "out"
    first = evaluate_scene(prediction, label_folder, out)
    made = first.record.stat().st_ino
    again = evaluate_scene(prediction, label_folder, out)
    assert (again.skipped, again.record.stat().st_ino) == (True, made)
    assert not evaluate_scene(prediction, label_folder, out, overwrite=True).skipped
    assert not evaluate_scene(prediction, label_folder, out, EvaluateSettings(away_from_borders_px=(5,))).skipped
    changed = predicted.copy()
    changed[50, 50] = (changed[50, 50] + 1) % 6
    write_prediction(tmp_path / "S1X", changed)
    assert not evaluate_scene(prediction, label_folder, out, EvaluateSettings(away_from_borders_px=(5,))).skipped


def test_simulated_is_carried_from_either_side(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    prediction = write_prediction(tmp_path / "said", predicted, simulated=True)
    assert evaluate_scene(prediction, label_folder, tmp_path / "out").read()["simulated"] is True
    raster = write_classes(tmp_path / "tagged.tif", predicted, simulated="yes")
    assert evaluate_scene(raster, label_folder, tmp_path / "out").read()["simulated"] is True
    real = write_prediction(tmp_path / "real", predicted)
    assert evaluate_scene(real, label_folder, tmp_path / "out").read()["simulated"] is False
    labels = bare_labels(label_folder, tmp_path / "labels", "label.json")
    record = json.loads(labels.with_name("label.json").read_text())
    write_json(labels.with_name("label.json"), record | {"simulated": True})
    assert evaluate_scene(real, labels, tmp_path / "other").read()["simulated"] is True


def test_bare_rasters(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    labels = bare_labels(label_folder, tmp_path / "bare")  # the tag says the legend
    raster = write_classes(tmp_path / "mine.tif", predicted)
    result = evaluate_scene(raster, labels, tmp_path / "out")
    assert result.folder.name == "mine"
    assert result.read()["prediction"]["legend_said"] is False
    untold = write_classes(tmp_path / "untold.tif", np.zeros(GRID.shape, np.uint8))
    with pytest.raises(ConfigError, match=r"untold.tif: does not state its legend.*floemap label"):
        evaluate_scene(raster, untold, tmp_path / "out")


def test_other_classes_are_refused(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    # The same classes under another legend's name are the same classes.
    same = write_prediction(tmp_path / "same", predicted, legend="extremeearth")
    assert evaluate_scene(same, label_folder, tmp_path / "out").read()["prediction"]["legend_said"] is True
    listed = [{"id": c.id, "key": c.key, "title": c.title} for c in SIX_CLASSES.classes]
    write_json(same / "prediction.json", {"legend": {"name": "six_classes", "classes": listed}})
    assert evaluate_scene(same, label_folder, tmp_path / "out").read()["prediction"]["legend_said"] is True
    write_json(same / "prediction.json", {"legend": {"name": "fewer", "classes": listed[:-1]}})
    with pytest.raises(ConfigError, match="legend fewer"):
        evaluate_scene(same, label_folder, tmp_path / "out")
    for name in ("ai4arctic", "ice_water"):
        prediction = write_prediction(tmp_path / name, np.zeros(GRID.shape, np.uint8), legend=name)
        with pytest.raises(ConfigError, match=rf"legend {name}.*legend six_classes.*trained on"):
            evaluate_scene(prediction, label_folder, tmp_path / "out")
    tagged = write_classes(tmp_path / "tagged.tif", predicted, legend="ai4arctic")
    with pytest.raises(ConfigError, match="legend ai4arctic"):
        evaluate_scene(tagged, label_folder, tmp_path / "out")
    with pytest.raises(ConfigError, match="no legend is called 'seven'"):
        evaluate_scene(write_classes(tmp_path / "t.tif", predicted, legend="seven"), label_folder, tmp_path / "out")
    broken = write_prediction(tmp_path / "broken", predicted)
    for legend in (None, {"name": "x"}, {"name": "x", "classes": {"1": "a"}}, {"name": "x", "classes": ["a"]}):
        write_json(broken / "prediction.json", {"legend": legend})
        with pytest.raises(FloemapError, match=r"prediction.json: has no readable legend"):
            evaluate_scene(broken, label_folder, tmp_path / "out")


def test_truth_of_other_classes_is_refused(tmp_path: Path, predicted: Raster) -> None:
    zeros = np.zeros(GRID.shape, np.uint8)
    labels = write_classes(tmp_path / "labels.tif", zeros, legend="ai4arctic")
    prediction = write_classes(tmp_path / "p.tif", zeros)
    path = write_truth(tmp_path / "truth.tif", predicted)
    with pytest.raises(ConfigError, match="from which the classes of the legend ai4arctic do not follow"):
        evaluate_scene(prediction, labels, tmp_path / "out", truth=path)


def test_ids_outside_the_legend_are_named(tmp_path: Path, label_folder: Path, predicted: Raster, truth: Raster) -> None:
    bad = predicted.copy()
    bad[-1, 0] = 17  # where there is no label: it counts all the same
    with pytest.raises(ConfigError, match=r"classes.tif: holds ids outside the legend: 17 at 1 pixel\b.*0 to 5"):
        evaluate_scene(write_prediction(tmp_path / "bad", bad), label_folder, tmp_path / "out")
    good = write_prediction(tmp_path / "good", predicted)
    labels = bare_labels(label_folder, tmp_path / "labels")
    with rasterio.open(labels) as d:
        array = d.read(1)
    array[50, 50] = 9
    write_classes(labels, array, legend="six_classes")
    with pytest.raises(ConfigError, match=r"labels.tif: holds ids outside the legend: 9 at 1 pixel\b"):
        evaluate_scene(good, labels, tmp_path / "out")
    odd = truth.copy()
    odd[50, 50] = 6
    with pytest.raises(ConfigError, match=r"truth.tif: holds ids outside the legend: 6 at 1 pixel\b"):
        evaluate_scene(good, label_folder, tmp_path / "out", truth=write_truth(tmp_path / "truth.tif", odd))
    assert not (tmp_path / "out" / "good").exists()


def test_other_grids_are_refused(tmp_path: Path, label_folder: Path, predicted: Raster, truth: Raster) -> None:
    good = write_prediction(tmp_path / "good", predicted)
    shifted = GeoBox(GRID.shape, GRID.transform * GRID.transform.translation(1, 0), GRID.crs)
    for name, box, array in (("shifted", shifted, predicted), ("smaller", grid(64, 240), predicted[:64])):
        with pytest.raises(GridError, match=rf"{name}.tif: the grids differ"):
            evaluate_scene(write_classes(tmp_path / f"{name}.tif", array, box), label_folder, tmp_path / "out")
    moved = tmp_path / "moved.tif"
    write_cog(moved, shifted, np.stack([truth, truth]), TRUTH_BANDS, nodata=255)
    with pytest.raises(GridError, match=r"moved.tif: the grids differ"):
        evaluate_scene(good, label_folder, tmp_path / "out", truth=moved)
    with pytest.raises(GridError, match="a band called class"):
        evaluate_scene(good, label_folder, tmp_path / "out", truth=good / "classes.tif")
    with pytest.raises(GridError, match="the grids differ"):
        mask = write_classes(tmp_path / "mask.tif", predicted, shifted)
        evaluate_scene(good, label_folder, tmp_path / "out", mask=mask)


def test_what_is_no_prediction_is_refused(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    with pytest.raises(FloemapError, match=r"holds no classes.tif.*floemap predict"):
        evaluate_scene(tmp_path / "empty", label_folder, out)
    with pytest.raises(FloemapError, match=r"nowhere.tif: does not exist"):
        evaluate_scene(tmp_path / "nowhere.tif", label_folder, out)
    with pytest.raises(FloemapError, match=r"nowhere.tif: does not exist"):
        evaluate_scene(write_prediction(tmp_path / "p", predicted), label_folder, out, truth=tmp_path / "nowhere.tif")
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(FloemapError, match=r"text.tif: cannot be read as a raster"):
        evaluate_scene(tmp_path / "text.tif", label_folder, out)
    write_cog(tmp_path / "float.tif", GRID, predicted.astype(np.float32), [Band("p")], nodata=-1)
    with pytest.raises(ConfigError, match="1 bands of float32 with no-data -1"):
        evaluate_scene(tmp_path / "float.tif", label_folder, out)
    with pytest.raises(ConfigError, match="with no-data 0"):
        evaluate_scene(write_classes(tmp_path / "zero.tif", predicted, nodata=0), label_folder, out)
    with pytest.raises(FloemapError, match=r"no pixel where the labels .* have a class"):
        evaluate_scene(write_prediction(tmp_path / "e", np.full(GRID.shape, IGNORE, np.uint8)), label_folder, out)
    cut = tmp_path / "cut.tif"
    whole = write_classes(tmp_path / "whole.tif", predicted).read_bytes()
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(FloemapError, match=r"cut.tif: cannot be read"):
        evaluate_scene(cut, label_folder, out)


def test_rasters_of_another_chart_are_refused(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    prediction = write_prediction(tmp_path / "S1X", predicted)
    for name, bands in (("border_distance.tif", 1), ("fractions.tif", 7)):
        labels = bare_labels(label_folder, tmp_path / name.partition(".")[0], "label.json")
        keys = [c.key for c in SIX_CLASSES.classes] + ["unknown"]
        described = [Band(k, overview="nearest") for k in (keys if bands == 7 else ["border_distance"])]
        array = np.full((bands, *GRID.shape), 255, np.uint8)
        write_cog(labels.with_name(name), GRID, array, described, nodata=255)
        with pytest.raises(FloemapError, match=rf"{name}: has no value at pixels that have a label"):
            evaluate_scene(prediction, labels, tmp_path / "out")
    labels = bare_labels(label_folder, tmp_path / "fewer", "label.json")
    write_cog(labels.with_name("fractions.tif"), GRID, array[:2], [Band("a"), Band("b")], nodata=255)
    with pytest.raises(ConfigError, match=r"fractions.tif: has the bands \('a', 'b'\)"):
        evaluate_scene(prediction, labels, tmp_path / "out")


def test_failure_leaves_nothing_new_and_the_old(tmp_path: Path, label_folder: Path, predicted: Raster) -> None:
    prediction, out = write_prediction(tmp_path / "S1X", predicted), tmp_path / "out"
    old = evaluate_scene(prediction, label_folder, out).record.read_text()
    bad = predicted.copy()
    bad[0, 0] = 99
    write_prediction(tmp_path / "S1X", bad)
    with pytest.raises(ConfigError):
        evaluate_scene(prediction, label_folder, out)
    assert [p.name for p in out.iterdir()] == ["S1X"]
    assert (out / "S1X" / "evaluation.json").read_text() == old
    (tmp_path / "file").write_text("in the way")
    write_prediction(tmp_path / "S1X", predicted)
    with pytest.raises(OutputError, match="cannot be written"):
        evaluate_scene(prediction, label_folder, tmp_path / "file")


def test_no_model_and_no_torch() -> None:
    code = (
        "import sys, floemap.evaluation.scoring.evaluate, floemap.evaluation.scoring.tables;"
        "import floemap.evaluation.statistics.summary;"
        "rooms = ('floemap.learning', 'floemap.inference');"
        "print([m for m in sys.modules if m.split('.')[0] == 'torch' or m.startswith(rooms)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
