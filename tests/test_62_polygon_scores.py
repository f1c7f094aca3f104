"""Scores by polygon: by hand on a few pixels, and from the files of `floemap label` and `floemap predict`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import rasterio
from sklearn.metrics import r2_score
from typer.testing import CliRunner
from workshop import Inputs, copied

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.evaluation.checks.scene_checks import check_scene
from floemap.evaluation.scoring.evaluate import evaluate_scene
from floemap.evaluation.scoring.polygons import PolygonCounts
from floemap.icechart.label.polygon_table import PolygonTable, read_polygons
from floemap.legend import IGNORE


def table(fractions: list[list[float]]) -> PolygonTable:
    """Polygons with these shares of three classes, and the unknown share last."""
    rows = np.array([[0.0, 0.0, 0.0, 1.0], *fractions])
    known = rows[:, :-1]
    dominant = np.where(known.max(axis=1) > 0, known.argmax(axis=1), IGNORE).astype(np.uint8)
    number = len(rows)
    return PolygonTable(
        classes=("a", "b", "c"),
        features=np.arange(-1, number - 1),
        poly_types=("",) * number,
        codes=MappingProxyType({}),
        rules=("", *["largest"] * (number - 1)),
        fractions=rows,
        dominant=dominant,
        candidates=known > 0,
        concentration=np.ones(number, np.float32),
        pixels=np.full(number, 10),
        area_km2=np.full(number, 1.0),
    )


def test_by_hand() -> None:
    """Three polygons that count, one of which is mixed; one that is half unknown; one without a prediction."""
    polygons = table(
        [
            [1.0, 0.0, 0.0, 0.0],
            [0.6, 0.4, 0.0, 0.0],
            [0.1, 0.2, 0.7, 0.0],
            [0.5, 0.0, 0.0, 0.5],
            [0.0, 1.0, 0.0, 0.0],
        ]
    )
    counts = PolygonCounts(polygons)
    #              polygon 1     polygon 2        3      4     5      none  land within 2, on which the map has a class
    ids = np.array([1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 4, 4, 5, 5, 0, 0, 2], np.uint16)
    said = np.array([0, 0, 0, 1, 1, 1, 1, 1, 0, 255, 2, 0, 0, 0, 255, 255, 1, 1, 2], np.uint8)
    true = np.array([0, 0, 0, 0, 1, 1, 0, 255, 0, 1, 2, 2, 0, 0, 1, 1, 1, 1, 2], np.uint8)
    drawn = np.where(np.arange(len(ids)) < 18, polygons.dominant[ids], np.uint8(IGNORE))
    for strip in (slice(0, 7), slice(7, None)):
        counts.add(ids[None, strip], said[None, strip], drawn[None, strip], true[None, strip])
    found = counts.as_dict(with_truth=True)
    weights = [4, 5, 2]
    chart = np.array([[1, 0, 0], [0.6, 0.4, 0], [0.1, 0.2, 0.7]])
    predicted = np.array([[0.75, 0.25, 0], [0.2, 0.8, 0], [0.5, 0, 0.5]])
    assert (found["polygons"], found["pixels"]) == (3, 11)
    for k, key in enumerate("abc"):
        scores = found["shares"][key]
        errors = predicted[:, k] - chart[:, k]
        assert scores["mean_absolute_error"] == pytest.approx(np.average(np.abs(errors), weights=weights))
        assert scores["bias"] == pytest.approx(np.average(errors, weights=weights))
        assert scores["r2"] == pytest.approx(r2_score(chart[:, k], predicted[:, k], sample_weight=weights))
    # Half the summed differences: 0.25, 0.4, 0.4.
    assert found["error_of_shares"] == pytest.approx((4 * 0.25 + 5 * 0.4 + 2 * 0.4) / 11)
    # All have a majority; polygon 2 is predicted as b, polygon 3 as both a and c, of which the first counts.
    assert found["dominant"]["50"] == {"polygons": 3, "right": 1, "right_by_area": pytest.approx(4 / 11)}
    assert found["dominant"]["65"] == {"polygons": 2, "right": 1, "right_by_area": pytest.approx(4 / 6)}
    # Inside polygon 2: five pixels are predicted, four of these have a truth, three are right.
    mixed = found["truth_in_mixed"]
    assert (mixed["pixels"], mixed["right"], mixed["accuracy"]) == (4, 3, 0.75)


def test_what_is_undefined_is_null() -> None:
    """No polygon counts, or the chart has the same share everywhere."""
    empty = PolygonCounts(table([[0.5, 0.0, 0.0, 0.5]]))
    some = np.zeros((1, 3), np.uint8)
    empty.add(np.ones((1, 3), np.uint16), some, some)
    found = empty.as_dict(with_truth=False)
    assert (found["polygons"], found["error_of_shares"], found["shares"], found["truth_in_mixed"]) == (
        0,
        None,
        {},
        None,
    )
    assert found["dominant"]["50"] == {"polygons": 0, "right": 0, "right_by_area": None}
    same = PolygonCounts(table([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]))
    same.add(np.array([[1, 2, 2]], np.uint16), np.array([[0, 0, 1]], np.uint8), some, np.full((1, 3), IGNORE, np.uint8))
    found = same.as_dict(with_truth=True)
    assert found["shares"]["a"]["r2"] is None and found["truth_in_mixed"]["accuracy"] is None
    json.dumps(found, allow_nan=False)


def test_from_files(workshop: Inputs, tmp_path: Path) -> None:
    """Predicted shares of each polygon, counted here pixel by pixel; land within a polygon counts nowhere."""
    own = copied(workshop, tmp_path / "inputs")
    with rasterio.open(own.labels / "labels.tif") as d:
        drawn, profile = d.read(1), d.profile
    drawn[: len(drawn) // 2, ::3] = IGNORE
    with rasterio.open(own.labels / "labels.tif", "w", **profile) as d:
        d.write(drawn, 1)
    done = evaluate_scene(own.prediction, own.labels, tmp_path)
    found = done.read()["polygons"]
    checked = check_scene(own.prediction, own.labels, own.prepared)["checks"]["polygons"]["values"]
    assert checked["polygons"] == found["polygons"]
    assert checked["share_error"] == pytest.approx(found["error_of_shares"], rel=1e-12)
    table = read_polygons(own.labels)
    with rasterio.open(own.labels / "polygons.tif") as d:
        ids = d.read(1)
    ids[drawn == IGNORE] = 0
    with rasterio.open(own.prediction / "classes.tif") as d:
        said = d.read(1)
    errors, weights = [], []
    for i in range(1, len(table) + 1):
        inside = said[(ids == i) & (said != IGNORE)]
        if len(inside) and table.unknown[i] <= 0.01:
            shares = np.array([(inside == k).mean() for k in range(len(table.classes))])
            errors.append(np.abs(shares - table.shares[i]).sum() / 2)
            weights.append(len(inside))
    assert found["polygons"] == len(weights) > 0
    assert found["error_of_shares"] == pytest.approx(np.average(errors, weights=weights), rel=1e-6)


def test_without_polygons_there_are_no_such_scores(workshop: Inputs, tmp_path: Path) -> None:
    labels = tmp_path / "ice"
    shutil.copytree(workshop.labels, labels)
    (labels / "polygons.csv").unlink()
    assert evaluate_scene(workshop.prediction, labels, tmp_path / "out").read()["polygons"] is None


def test_a_damaged_table_is_named(workshop: Inputs, tmp_path: Path) -> None:
    labels = tmp_path / "ice"
    shutil.copytree(workshop.labels, labels)
    lines = (labels / "polygons.csv").read_text().splitlines()
    (labels / "polygons.csv").write_text("\n".join(lines[:2]) + "\n")
    words = ["evaluate", str(workshop.prediction), "--labels", str(labels), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and "polygons" in done.output and "Traceback" not in done.output
    assert not list((tmp_path / "out").glob("*"))
