"""What is real here goes the whole way: a real product's metadata, a real ice chart; only the pixels are simulated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rasterio

from floemap.evaluation.scoring.evaluate import evaluate_scene
from floemap.inference.predict.predict import predict
from floemap.legend import IGNORE
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.pixels import simulate_pixels
from floemap.study.compare import train_model
from floemap.study.data import make_data
from floemap.study.settings import Study

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
METADATA = SHARED / "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15"
CHART = SHARED / "charts" / "cis_SGRDREA_20201102T.gpkg"


@pytest.mark.skipif(not (METADATA.exists() and CHART.exists()), reason="the real product and chart are not here")
def test_from_a_real_product_and_chart_to_a_score(tmp_path: Path) -> None:
    made = simulate_pixels(METADATA, tmp_path / "scene", chart=CHART)
    study = Study.checked(
        data={
            "scenes": [{"name": "real", "product": made.path, "chart": made.chart}],
            "legend": "six_classes",
            "prepare": PrepareSettings(resolution_m=400).model_dump(),
        },
        split={"kind": "lists", "training": ["real-SW"], "validation": ["real-NE"]},
        crops={"size_px": 128, "per_scene": 24, "min_valid": 0.3},
        training={"batch": 4, "learning_rate": 1e-3, "max_epochs": 3},
    )
    checkpoint = train_model(study, tmp_path / "run")
    (scene,) = make_data(study.data, tmp_path / "run" / "data")
    prediction = predict(scene.product, checkpoint, tmp_path / "predictions")
    with rasterio.open(prediction.folder / "classes.tif") as d, rasterio.open(scene.raster) as bands:
        classes, valid = d.read(1), bands.read(4) > 0
        assert d.crs == bands.crs
        assert d.transform == bands.transform
    assert ((classes != IGNORE) == valid).all(), "a class wherever the product has data, and nowhere else"
    mask = tmp_path / "run" / "data" / "parts" / "real-NE" / "mask.tif"
    evaluation = evaluate_scene(prediction.folder, scene.labels, tmp_path / "evaluation", mask=mask).read()
    assert evaluation["simulated"] is True
    assert json.loads((prediction.folder / "prediction.json").read_text())["simulated"] is True
    # Three epochs are no training, and the chart's labels are of two classes here; but it is no chance either.
    assert evaluation["scores"]["primary"]["scores"]["kappa"] > 0.1
