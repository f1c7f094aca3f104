"""A chart drawn for mixtures, by the command, and read back by others and by `floemap label`; what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely import Point
from workshop import Inputs, run

from floemap.chart_summary import chart_summary, summary_lines


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
    again = run("chart", workshop.prepared, *words, "--out", tmp_path / "charts", "--json")
    assert again.exit_code == 0, again.output
    (told,) = json.loads(again.stdout)["charts"]
    assert told["folder"] == str(file.parent) and told["finished_before"] and told["simulated"]
    assert told["polygons"] == len(table)
    areas = table.groupby("CLASS")["AREA_KM2"].sum()
    assert {t["class"]: t["area_km2"] for t in told["types"]} == pytest.approx(areas.to_dict(), abs=0.1)
    assert {t["class"]: t["percent"] for t in told["types"]} == pytest.approx(
        (100 * areas / areas.sum()).to_dict(), abs=0.1
    )
    spots = gpd.read_file(file.with_name("review.gpkg"), layer="review_spots").to_crs(4326).geometry
    assert [s["spot"] for s in told["review"]] == [*range(1, len(spots) + 1)] and len(spots)
    places = [Point(s["lon_deg"], s["lat_deg"]) for s in told["review"]]
    assert all(spot.distance(place) < 1e-3 for spot, place in zip(spots, places, strict=True))
    assert any("no land mask" in words for words in told["warnings"])
    largest = areas.idxmax().replace("_", " ")
    for line in (
        f"Polygons {len(table)}",
        f"{largest} {areas.max():,.0f} km²",
        "Review first 1. ",
        "Warning no land mask",
    ):
        assert line in " ".join(done.stderr.split()), line


def test_a_failed_product_is_in_the_document_too(workshop: Inputs, tmp_path: Path) -> None:
    done = run("chart", tmp_path / "none", "--model", workshop.model, "--out", tmp_path / "charts", "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["charts"] == [] and "does not exist" in told["failed"][0]["error"]
    assert "does not exist" in done.stderr


def test_a_record_of_another_form_is_summed_up_as_far_as_it_goes() -> None:
    areas = {"ice": 30.0, "open_water": 10.0, "land": 60.0, "odd": "much", "none": float("nan")}
    spot = {"lat_deg": -70.25, "lon_deg": 181.0}
    record = {"polygons": {"area_km2": areas, "count": "3"}, "review_spots": [spot, {"lat_deg": None}, 5]}
    found = chart_summary(record)
    assert found["polygons"] is None and found["warnings"] == [] and found["review"] == [spot]
    assert [(t["class"], t["percent"]) for t in found["types"]] == [("ice", 75), ("open_water", 25), ("land", None)]
    assert [words for _, words in summary_lines(found)] == [
        "30 km², 75.0 %", "10 km², 25.0 %", "60 km²", "1. 70.25°S 179°W",
    ]  # fmt: skip
    assert summary_lines(chart_summary({})) == []
