"""Calibration by quarter of the year: the fit, the header, and what it changes in a prediction."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from scipy.optimize import check_grad
from scipy.special import softmax
from workshop import Inputs

from floemap.errors import ModelError
from floemap.inference.predict.predictors import make_predictor, predict_maps
from floemap.learning.calibration import seasons
from floemap.learning.calibration.seasons import QUARTERS, fit_seasons, month_of
from floemap.learning.calibration.temperature import PolygonSample
from floemap.learning.data.parts import ScenePart
from floemap.learning.models.checkpoint import load_checkpoint, save_checkpoint
from floemap.learning.models.checkpoint_header import Calibration, calibration_of, describe_checkpoint
from floemap.learning.training.calibrate import calibrate
from floemap.learning.training.distributed import make_fabric
from floemap.legend import IGNORE
from floemap.results.stage import read_json


def drawn(temperature: float, offsets: tuple[float, ...], seed: int, n: int = 20_000) -> PolygonSample:
    """Labels drawn from softmax((logits + offsets) / temperature), in 400 polygons of as many pixels each."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 3, (n, len(offsets))).astype(np.float32)
    p = softmax((z + np.array(offsets)) / temperature, axis=1)
    labels = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, len(offsets) - 1)
    polygon = np.arange(n) % 400
    return PolygonSample(z, labels.astype(np.uint8), polygon, np.bincount(polygon))


WINTER, SUMMER = (1.5, (0.0, 1.0, -1.0)), (0.8, (2.0, 0.0, -2.0))


def test_what_labels_were_drawn_with_is_found_for_each_quarter() -> None:
    found = fit_seasons([drawn(*WINTER, seed=1), drawn(*SUMMER, seed=2)], [1, 7])
    assert [tuple(season["months"]) for season in found] == list(QUARTERS)
    for season, (t, b) in ((found[0], WINTER), (found[2], SUMMER)):
        assert season["temperature"] == pytest.approx(t, rel=0.05)
        offsets = np.array(season["offsets"])
        assert offsets - offsets.mean() == pytest.approx(np.array(b) - np.mean(b), abs=0.12)
        assert season["polygons"] == 400 and season["log_loss"][1] < season["log_loss"][0]


def test_a_quarter_without_a_polygon_is_as_the_year_and_one_polygon_changes_it_little() -> None:
    winter = [drawn(*WINTER, seed=1)]
    spring, autumn = (fit_seasons(winter, [1])[k] for k in (1, 3))
    unknown = fit_seasons(winter, [None])
    of_year = {"temperature", "offsets"}
    for season in (spring, autumn, *unknown):
        assert season["polygons"] == 0 and season["log_loss"] is None
        assert {k: season[k] for k in of_year} == {k: spring[k] for k in of_year}
    s = drawn(*SUMMER, seed=2, n=400)
    one = PolygonSample(s.logits, s.labels, np.zeros_like(s.polygon), np.array([400]))
    both = fit_seasons([*winter, one], [1, 7])
    year, summer = (np.array(both[k]["offsets"]) for k in (1, 2))
    moved = np.abs((summer - summer.mean()) - (year - year.mean())).max()
    assert 0 < moved < 0.8 * np.abs(np.array(SUMMER[1]) - np.array(WINTER[1])).max()


def test_the_gradient_is_that_of_the_loss() -> None:
    sample = drawn(*WINTER, seed=3, n=300)
    at = np.array([0.3, 0.1, -0.2, 0.4])

    def value(x: NDArray[np.float64]) -> float:
        return seasons._loss(x, sample)[0]

    def slope(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return seasons._loss(x, sample)[1]

    assert check_grad(value, slope, at) < 1e-6


def test_polygons_in_another_order_and_split_among_parts_give_the_same() -> None:
    a, b = drawn(*WINTER, seed=1, n=4000), drawn(*WINTER, seed=2, n=4000)
    one, other = (fit_seasons(parts, [1, 1])[0] for parts in ((a, b), (b, a)))
    assert one["temperature"] == pytest.approx(other["temperature"], rel=1e-3)
    assert one["offsets"] == pytest.approx(other["offsets"], abs=2e-3)


@pytest.mark.parametrize(
    ("start", "month"), [("2018-07-16T07:54:30+00:00", 7), ("2018-12-01T00:00:00Z", 12), ("summer", None), (None, None)]
)
def test_the_month_is_that_of_the_start(start: str | None, month: int | None) -> None:
    assert month_of(start) == month


# Files


@pytest.fixture(scope="module")
def seasonal(workshop: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workshop's model with a calibration of which every quarter favours another class."""
    found = load_checkpoint(workshop.model)
    about = copy.deepcopy(found.about)
    k = len(found.legend)
    quarters = [
        {"months": list(months), "temperature": 1.5, "offsets": [3.0 * (i == n) for i in range(k)]}
        for n, months in enumerate(QUARTERS)
    ]
    about["calibration"] = {"temperature": 1.2, "polygons": 9, "seasons": quarters}
    path = tmp_path_factory.mktemp("seasonal") / "model.safetensors"
    save_checkpoint(path, found.model, about)
    return path


def test_the_calibration_of_the_scenes_month_is_taken_and_without_one_that_of_the_year(seasonal: Path) -> None:
    about = load_checkpoint(seasonal).about
    for n, months in enumerate(QUARTERS):
        for month in months:
            own = calibration_of(about, seasonal, month)
            assert own.temperature == 1.5 and own.offsets is not None and own.offsets.index(3.0) == n
    assert calibration_of(about, seasonal) == Calibration(1.2)
    assert "offsets" not in Calibration(1.2).to_json()
    words = dict(describe_checkpoint(seasonal)[1])["probabilities"]
    assert words == "temperature 1.2, and by season, fitted on 9 validation polygons"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"seasons": 7}, "its seasons cannot be read"),
        ({"seasons": [{"months": [1]}]}, "its seasons cannot be read"),
        ({"seasons": [{"months": [1], "temperature": -1, "offsets": [0.0] * 6}]}, "its temperature is -1"),
        ({"seasons": [{"months": [1], "temperature": 1.0, "offsets": [0.0]}]}, "it has 1 offsets for"),
        ({"seasons": [{"months": [1], "temperature": 1.0, "offsets": [float("inf")] * 6}]}, "not a finite number"),
        ({"seasons": [{"months": [1], "temperature": 1.0, "offsets": ["x"]}]}, "its seasons cannot be read"),
    ],
)
def test_a_damaged_calibration_is_refused(damage: dict[str, Any], words: str, seasonal: Path) -> None:
    about = load_checkpoint(seasonal).about
    with pytest.raises(ModelError, match=words) as e:
        calibration_of({**about, "calibration": {"temperature": 1.0} | damage}, seasonal, 7)
    assert e.value.path == seasonal


def test_a_prediction_is_that_of_logits_with_the_months_offsets(
    seasonal: Path, workshop: Inputs, tmp_path: Path
) -> None:
    """Against a model whose last layer has the offsets in its bias, and the temperature in the header."""
    from floemap.inference.predict.predict import predict

    with rasterio.open(workshop.prepared / "product.tif") as d:
        month = month_of(d.tags()["start"])
    assert month is not None
    own = load_checkpoint(seasonal)
    calibration = own.calibration(month)
    assert calibration.offsets is not None
    last = [m for m in own.model.modules() if isinstance(m, torch.nn.Conv2d) and m.bias is not None][-1]
    assert last.bias is not None and last.out_channels == len(calibration.offsets)
    with torch.no_grad():
        last.bias += torch.tensor(calibration.offsets)
    by_bias = tmp_path / "bias.safetensors"
    save_checkpoint(
        by_bias, own.model, own.about | {"calibration": {"temperature": calibration.temperature, "polygons": 9}}
    )
    one, other = (
        predict_maps(workshop.prepared, [make_predictor(path, engine="torch", precision="fp32", device="cpu")])
        for path in (seasonal, by_bias)
    )
    assert (np.abs(one.probabilities.astype(int) - other.probabilities) <= 1).all()
    assert (one.classes == other.classes).mean() > 0.999
    plain = predict_maps(
        workshop.prepared, [make_predictor(workshop.model, engine="torch", precision="fp32", device="cpu")]
    )
    assert (one.classes != plain.classes).any()
    record = read_json(predict(workshop.prepared, seasonal, tmp_path / "out").folder / "prediction.json")
    assert record["model"]["temperature"] == 1.5 and record["model"]["offsets"] == list(calibration.offsets)


def test_a_training_by_season_reads_the_months_of_its_parts(workshop: Inputs, tmp_path: Path) -> None:
    """The labels are what the model says, but in every fourth row."""
    labels = Path(shutil.copy(workshop.labels / "labels.tif", tmp_path))
    said = predict_maps(
        workshop.prepared, [make_predictor(workshop.model, engine="torch", precision="fp32", device="cpu")]
    )
    with rasterio.open(labels, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as d:
        given = d.read(1)
        classes = np.where(np.arange(len(given))[:, None] % 4 == 0, (said.classes + 1) % 6, said.classes)
        d.write(np.where((given == IGNORE) | (said.classes == IGNORE), IGNORE, classes).astype(np.uint8), 1)
    part = ScenePart("a", workshop.prepared / "product.tif", labels)
    with rasterio.open(part.product) as d:
        month = month_of(d.tags()["start"])
    model, fabric = load_checkpoint(workshop.model).model, make_fabric("cpu", "fp32")
    plain, found = (calibrate(model, [part], fabric, by_season=by_season) for by_season in (False, True))
    assert {k: v for k, v in found.items() if k != "seasons"} == plain and "seasons" not in plain
    assert [s["months"] for s in found["seasons"] if s["polygons"]] == [list(q) for q in QUARTERS if month in q]
