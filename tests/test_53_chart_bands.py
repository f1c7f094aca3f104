"""Draft charts with models that read layers: what is refused before any work, and what makes another chart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from test_27_layers import write_raster
from workshop import Inputs, copied

from floemap import ChartSettings, make_chart
from floemap.bands import BandSet, InputBand
from floemap.errors import ProductError
from floemap.info import describe
from floemap.layers.from_raster import layer_from_raster
from floemap.layers.settings import RasterSettings
from floemap.learning.models.checkpoint import save_checkpoint
from floemap.learning.models.registry import build_model
from floemap.learning.settings import ModelSettings
from floemap.sentinel1.encoding import PRODUCT_BANDS

ONLY = ChartSettings(min_area_km2=100.0, only=("classes",))


@pytest.fixture
def inputs(workshop: Inputs, tmp_path: Path) -> Inputs:
    return copied(workshop, tmp_path / "inputs")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of HH and a temperature, whose gaps are flagged."""
    torch.manual_seed(0)
    made = build_model(
        ModelSettings(name="unet"), 6, BandSet((PRODUCT_BANDS["hh_db"], InputBand("t_k", "K", 0.1, 0.0, "flag")))
    )
    made.set_normalisation([-15.0, 260.0], [5.0, 10.0])
    path = tmp_path / "layered.safetensors"
    save_checkpoint(path, made.eval(), {"legend": "six_classes", "resolution_m": 2000.0, "simulated": True})
    return path


def add_layer(inputs: Inputs, seed: int) -> None:
    """A temperature in finer steps than the model's, with a gap."""
    with rasterio.open(inputs.prepared / "product.tif") as d:
        values = np.random.default_rng(seed).normal(260, 10, d.shape).astype(np.float32)
        values[: d.height // 2, : d.width // 2] = np.nan
        path = write_raster(inputs.folder / f"t{seed}.tif", values, d.transform, d.crs.to_wkt())
    how = RasterSettings(unit="K", step=0.01, missing="flag", resampling="nearest")
    layer_from_raster(inputs.prepared, path, "t_k", how)


def test_a_chart_of_a_model_that_reads_a_layer(inputs: Inputs, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "charts"
    with pytest.raises(ProductError, match="is not prepared, and so lacks the layer t_k"):
        make_chart(inputs.product, [model], out, ONLY)
    with pytest.raises(ProductError, match="lacks the layer t_k") as e:
        make_chart(inputs.prepared, [model], out, ONLY)
    assert f"from-raster {inputs.prepared} FILE --name t_k --unit K --missing flag" in str(e.value)
    assert not out.exists()
    add_layer(inputs, 1)
    assert ("Layers", "t_k") in describe(inputs.prepared).lines
    made = make_chart(inputs.prepared, [model, inputs.model], out, ONLY)
    record = json.loads(made.record.read_text())
    assert record["inputs"]["layers"].keys() == {"t_k"}
    assert [m["bands"] for m in record["models"]] == [["hh_db", "t_k"], list(PRODUCT_BANDS.names)]
    with rasterio.open(made.folder / "classes.tif") as d, rasterio.open(inputs.prepared / "product.tif") as p:
        assert np.array_equal(d.read(1) != 255, p.read(4) > 0), "a flagged gap leaves no hole"
    item = json.loads((made.folder / "item.json").read_text())
    taken = {b["name"]: b.get("unit") for b in item["assets"]["model_1"]["raster:bands"]}
    assert taken == {"hh_db": "dB", "t_k": "K"}
    assert make_chart(inputs.prepared, [model, inputs.model], out, ONLY).skipped
    add_layer(inputs, 2)
    assert not make_chart(inputs.prepared, [model, inputs.model], out, ONLY, overwrite=True).skipped
    now = json.loads(made.record.read_text())["inputs"]["layers"]
    assert now != record["inputs"]["layers"]
