"""A chart drawn for mixtures, by the command, read back by others and by the command that labels."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import rasterio
from workshop import Inputs, run


def test_a_chart_of_mixtures_is_drawn_read_and_labelled(workshop: Inputs, tmp_path: Path) -> None:
    words: list[str | Path] = ["--model", workshop.model, "--polygons", "mixtures", "--min-area", "100"]
    done = run("chart", workshop.prepared, *words, "--out", tmp_path / "charts")
    assert done.exit_code == 0, done.output
    (file,) = (tmp_path / "charts").rglob("chart.gpkg")
    table = gpd.read_file(file, layer="ice_chart")
    ice = table[table["POLY_TYPE"] == "I"]
    assert len(ice) and set(ice["ESTIMATED"]) == {"yes"}
    mixed = ice[ice["SB"].astype(str) != "-9"]
    parts = mixed[["CA", "CB", "CC"]].astype(int).clip(lower=0).sum(axis=1) // 10
    total = mixed["CT"].astype(int).map(lambda ct: 10 if ct > 90 else ct // 10)
    assert (parts[mixed["CD"].astype(str) == "-9"] == total[mixed["CD"].astype(str) == "-9"]).all()
    labelled = run("label", file, "--like", workshop.prepared, "--out", tmp_path / "labels")
    assert labelled.exit_code == 0, labelled.output
    assert "CLASS" not in labelled.output, "the table agrees with its codes"
    (labels,) = (tmp_path / "labels").rglob("labels.tif")
    with rasterio.open(labels) as d:
        assert (np.unique(d.read(1)) != 255).any()
