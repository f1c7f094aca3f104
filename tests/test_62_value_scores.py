"""Scores of predicted values: by hand, summarised over cells, and from training to evaluation with two heads."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from test_62_polygon_scores import table
from test_63_summary import cell
from typer.testing import CliRunner
from workshop import Inputs

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.cli.tables import print_scores
from floemap.errors import FloemapError
from floemap.evaluation.scoring.evaluate import evaluate_scene
from floemap.evaluation.scoring.tables import markdown
from floemap.evaluation.scoring.values import ValueCounts
from floemap.evaluation.statistics.blocks import BlockGrid
from floemap.evaluation.statistics.summary import summarise
from floemap.icechart.label.polygon_table import read_polygons
from floemap.inference.predict.predict import predict
from floemap.learning.models.checkpoint import load_checkpoint
from floemap.legend import IGNORE
from floemap.moments import moments


def compared(reference: Any, predicted: Any) -> dict[str, float]:
    """The scores by scikit-learn."""
    return {
        "r2": r2_score(reference, predicted),
        "rmse": mean_squared_error(reference, predicted) ** 0.5,
        "mae": mean_absolute_error(reference, predicted),
        "bias": float(np.mean(predicted) - np.mean(reference)),
    }


# By hand


def test_pixels_have_the_value_of_their_polygon_and_blocks_add_up() -> None:
    polygons = dataclasses.replace(
        table([[1.0, 0.0, 0.0, 0.0], [0.6, 0.4, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]),
        concentration=np.array([np.nan, 0.9, 0.4, np.nan], np.float32),
    )
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, (50, 40)).astype(np.uint16)
    stored = rng.integers(0, 201, ids.shape).astype(np.uint8)
    stored[rng.random(ids.shape) < 0.1] = IGNORE
    true = rng.choice([0, 1, 5, IGNORE], ids.shape).astype(np.uint8)
    pixel_m = 64_000 / 20  # blocks of 20 x 20 px: 2 or 3 of 50 rows
    counts = ValueCounts("concentration", polygons, (50, 40), pixel_m, water=0)
    for rows in (slice(0, 23), slice(23, 50)):
        counts.add(rows.start, ids[rows], stored[rows], true[rows])
    found = counts.as_dict()
    assert (found["target"], found["unit"]) == ("concentration", "1")

    reference = np.array([np.nan, 0.9, 0.4, np.nan])[ids]
    both = np.isfinite(reference) & (stored != IGNORE)
    expected = compared(reference[both], stored[both] * 0.005)
    assert found["chart"]["scores"] == pytest.approx(expected, abs=1e-6)
    assert found["chart"]["pixels"] == both.sum()
    assert found["chart"]["without_prediction"] == (np.isfinite(reference) & (stored == IGNORE)).sum()
    # The blocks are those of the other scores: the same edges, in the same order.
    grid = BlockGrid.of(np.where(np.isfinite(reference), 0, IGNORE).astype(np.uint8), pixel_m)
    assert len(found["chart"]["blocks"]) == len(grid) >= 4
    by_block = np.zeros((len(grid), 7))
    for block, window in grid.pieces():
        inside = both[window]
        by_block[block] += moments(reference[window][inside], stored[window][inside] * 0.005)
    np.testing.assert_allclose(found["chart"]["blocks"], by_block, rtol=1e-6)

    of_truth = (true != IGNORE) & (ids > 0) & (stored != IGNORE)
    ice = (true[of_truth] != 0).astype(float)
    assert found["truth"]["scores"] == pytest.approx(compared(ice, stored[of_truth] * 0.005), abs=1e-6)
    json.dumps(found, allow_nan=False)


def test_without_a_pixel_size_the_scene_is_one_block_and_without_values_there_are_no_scores() -> None:
    polygons = dataclasses.replace(table([[1.0, 0.0, 0.0, 0.0]]), concentration=np.full(2, np.nan, np.float32))
    counts = ValueCounts("concentration", polygons, (3, 3), None)
    counts.add(0, np.ones((3, 3), np.uint16), np.zeros((3, 3), np.uint8))
    found = counts.as_dict()
    assert found["chart"]["scores"] == dict.fromkeys(("r2", "rmse", "mae", "bias")) and found["chart"]["blocks"] == []
    known = dataclasses.replace(polygons, concentration=np.array([np.nan, 0.5], np.float32))
    counts = ValueCounts("concentration", known, (3, 3), None)
    counts.add(0, np.ones((3, 3), np.uint16), np.full((3, 3), 120, np.uint8))
    assert counts.as_dict()["chart"]["blocks"] == [pytest.approx([9, 4.5, 5.4, 2.25, 3.24, 2.7, 0.9])]


# Summaries


def values(seed: int, error: float) -> dict[str, Any]:
    """Moments of 12 blocks with errors of this size."""
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(12):
        x = rng.random(300)
        blocks.append(moments(x, x + rng.normal(error / 2, error, 300)))
    return {"concentration": {"target": "concentration", "unit": "1", "chart": {"blocks": blocks}}}


def records(errors: dict[str, float]) -> list[dict[str, Any]]:
    found = []
    for loss, error in errors.items():
        for repeat in range(3):
            for scene in ("01", "07"):
                record = cell(loss, repeat, scene)
                record["evaluation"]["values"] = values(int(scene) + 10 * repeat, error * (1 + 0.01 * repeat))
                found.append(record)
    return found


def test_summaries_have_scores_with_intervals_and_differences_between_losses() -> None:
    given = records({"dice": 0.1, "focal": 0.3})
    summary = summarise(given)
    json.dumps(summary, allow_nan=False)
    found = summary["values"]["concentration"]["chart"]
    for loss, error in (("dice", 0.1), ("focal", 0.3)):
        scores = found["losses"][loss]
        # The mean over scenes and repeats of the scenes' scores, as for classes.
        own = [r["evaluation"]["values"]["concentration"]["chart"]["blocks"] for r in given if r["loss"] == loss]
        n, x, y, xx, yy, xy, _ = np.moveaxis(np.array(own).sum(axis=1), -1, 0)
        assert scores["rmse"]["value"] == pytest.approx(np.sqrt((xx - 2 * xy + yy) / n).mean())
        assert scores["bias"]["value"] == pytest.approx(((y - x) / n).mean())
        assert scores["rmse"]["low"] < scores["rmse"]["value"] < scores["rmse"]["high"]
        assert scores["bias"]["value"] == pytest.approx(error / 2, abs=0.02)
    (pair,) = found["differences"]["pairs"]
    assert (pair["a"], pair["b"]) == ("dice", "focal") and pair["p"] < 0.01
    text = markdown(summary)
    assert "## Values" in text and "| concentration | chart | dice |" in text
    assert "against the chart: the difference of dice, the lowest, and focal, the highest, is significant." in text
    alike = markdown(summarise(records({"dice": 0.1, "focal": 0.1001})))
    assert "the highest, may be chance." in alike and "is significant" not in alike
    for record in given:
        record["repeat"] *= 10
    once = markdown(summarise([r for r in given if not r["repeat"]]))
    assert "the highest, cannot be tested: a loss was trained once only" in once


def test_scores_of_one_map_name_what_they_are_of_and_leave_the_loss_out(capsys: pytest.CaptureFixture[str]) -> None:
    """The loss is not the first column of every table."""
    evaluation = records({"dice": 0.1})[0]["evaluation"]
    print_scores(evaluation, "01")
    said = capsys.readouterr().out
    assert re.search(r"value +reference +R2", said) and re.search(r"concentration +chart", said)
    assert "In brackets" in said and "loss" not in said


def test_only_losses_that_have_the_head_are_compared() -> None:
    given = records({"dice": 0.1, "focal": 0.3})
    for record in given:
        if record["loss"] == "focal":
            del record["evaluation"]["values"]
    found = summarise(given)["values"]["concentration"]["chart"]
    assert list(found["losses"]) == ["dice"] and found["differences"]["pairs"] == []
    assert "values" not in summarise([cell("dice", 0, "01")])


@pytest.mark.parametrize("blocks", [[[1.0, 2.0]], "seven", [[None] * 7], 3])
def test_damaged_moments_are_refused(blocks: Any) -> None:
    given = records({"dice": 0.1})
    given[0]["evaluation"]["values"]["concentration"]["chart"]["blocks"] = blocks
    with pytest.raises(FloemapError, match="an evaluation has no readable scores of values"):
        summarise(given)


# From training to scores


@pytest.fixture(scope="module")
def trained(workshop: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with two heads, trained by `floemap train` from labels' files."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "study.toml").write_text(
        f'[data]\nlegend = "six_classes"\n'
        f'[[data.scenes]]\nname = "a"\nproduct = "{workshop.prepared}"\nchart = "{workshop.labels}"\n'
        '[split]\nkind = "lists"\ntraining = ["a-SW"]\nvalidation = ["a-NE"]\n'
        '[tasks.concentration]\ntarget = "concentration"\nweight = 5\n'
        "[crops]\nsize_px = 64\nper_scene = 2\n"
        '[training]\nbatch = 2\nmax_epochs = 2\nprecision = "fp32"\nlearning_rate = 1e-3\n'
    )
    ran = CliRunner().invoke(app, ["train", str(folder / "study.toml"), "--out", str(folder / "run")])
    assert ran.exit_code == 0, ran.output
    return folder / "run" / "model" / "model.safetensors"


def test_train_predict_and_evaluate_with_two_heads(workshop: Inputs, trained: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (trained.parent / "metrics.jsonl").read_text().splitlines()]
    assert list(rows[0]["tasks"]) == ["ice_type", "concentration"]
    assert [h.name for h in load_checkpoint(trained).model.heads] == ["ice_type", "concentration"]
    predicted = predict(workshop.prepared, trained, tmp_path / "predictions", precision="fp32")
    found = evaluate_scene(predicted.folder, workshop.labels, tmp_path / "evaluation").read()
    with (
        rasterio.open(predicted.folder / "concentration.tif") as d,
        rasterio.open(workshop.labels / "polygons.tif") as p,
    ):
        stored, ids = d.read(1), p.read(1)
    chart = read_polygons(workshop.labels).concentration[ids]
    both = np.isfinite(chart) & (stored != IGNORE)
    assert both.any()
    scores = found["values"]["concentration"]["chart"]["scores"]
    expected = compared(chart[both].astype(np.float64), stored[both] * 0.005)
    for name in ("rmse", "mae", "bias"):
        assert scores[name] == pytest.approx(expected[name], abs=1e-6)
    assert "concentration.tif" in found["inputs"]["prediction"]


def test_a_value_raster_that_is_lost_or_of_another_kind_is_refused(
    workshop: Inputs, trained: Path, tmp_path: Path
) -> None:
    predicted = predict(workshop.prepared, trained, tmp_path / "predictions", precision="fp32")
    raster = predicted.folder / "concentration.tif"
    good = raster.read_bytes()
    raster.unlink()
    with pytest.raises(FloemapError, match=r"concentration\.tif"):
        evaluate_scene(predicted.folder, workshop.labels, tmp_path / "evaluation")
    raster.write_bytes(predicted.probabilities.read_bytes())
    with pytest.raises(FloemapError, match="a value is one band of uint8"):
        evaluate_scene(predicted.folder, workshop.labels, tmp_path / "evaluation")
    raster.write_bytes(good)
    record = json.loads(predicted.record.read_text())
    predicted.record.write_text(json.dumps(record | {"tasks": {"concentration": {"target": "concentration"}}}))
    with pytest.raises(FloemapError, match=r"prediction.json"):
        evaluate_scene(predicted.folder, workshop.labels, tmp_path / "evaluation")


def test_labels_without_polygons_say_why_there_are_no_scores(workshop: Inputs, trained: Path, tmp_path: Path) -> None:

    predicted = predict(workshop.prepared, trained, tmp_path / "predictions", precision="fp32")
    labels = tmp_path / "labels"
    shutil.copytree(workshop.labels, labels)
    for name in ("polygons.tif", "polygons.csv"):
        (labels / name).unlink()
    found = evaluate_scene(predicted.folder, labels, tmp_path / "evaluation").read()
    assert "values" not in found and "there is no polygons.tif" in found["absent"]["concentration"]


def test_labels_without_polygons_cannot_teach_a_concentration(workshop: Inputs, tmp_path: Path) -> None:

    labels = tmp_path / "labels"
    shutil.copytree(workshop.labels, labels)
    (labels / "polygons.tif").unlink()
    (tmp_path / "study.toml").write_text(
        f'[data]\nlegend = "six_classes"\n'
        f'[[data.scenes]]\nname = "a"\nproduct = "{workshop.prepared}"\nchart = "{labels}"\n'
        '[split]\nkind = "lists"\ntraining = ["a-SW"]\nvalidation = ["a-NE"]\n'
        '[tasks.concentration]\ntarget = "concentration"\n'
    )
    ran = CliRunner().invoke(app, ["train", str(tmp_path / "study.toml"), "--out", str(tmp_path / "run")])
    assert ran.exit_code == 1
    words = " ".join(ran.output.split())
    assert "the head concentration learns from polygons, but the labels of a-SW have no polygons.tif" in words
    assert "floemap label --overwrite" in words
