"""How a draft chart describes itself: facts in its files, notes on its picture, and its record, chart.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from floemap.grid import describe_grid
from floemap.icechart.write.table import STATUS
from floemap.inference.draftchart.egg_basis import NOT_ESTIMATED, egg_basis
from floemap.inference.draftchart.files import Written
from floemap.inference.draftchart.review_spots import tell_spots
from floemap.inference.draftchart.settings import ChartSettings
from floemap.inference.draftchart.source import ChartSource, PreparedScene
from floemap.inference.predict.model_files import ModelFile
from floemap.inference.predict.scene_maps import STEP, SceneMaps, described_score
from floemap.own_legends import in_record
from floemap.results.stage import sha256


def about_chart(
    record: Mapping[str, Any],
    source: ChartSource,
    scene: PreparedScene,
    models: Sequence[ModelFile],
    land: Mapping[str, Any],
    settings: ChartSettings,
) -> dict[str, Any]:
    """Return the facts, by name, that every file of the chart contains."""
    basis = egg_basis(models, settings)
    about: dict[str, Any] = {
        "status": STATUS,
        "simulated": scene.simulated or any(m.simulated for m in models),
        "product": source.name,
        "model": ", ".join(m.name for m in models),
        "software": record["software"],
        "created": record["created"],
        "land_mask": land["land_mask"],
        "min_area_km2": settings.min_area_km2,
        "tolerance_m": settings.tolerance_m,
        "smoothing_m": settings.smoothing_m,
        "polygons": settings.polygons,
        "concentrations": NOT_ESTIMATED if basis is None else basis.in_words(),
    }
    optional = {"contact": settings.contact, "attribution": scene.attribution}
    return about | {k: v for k, v in optional.items() if v}


def notes_on_chart(about: Mapping[str, Any], models: Sequence[ModelFile]) -> list[str]:
    """Return the lines of text below the maps of the picture."""
    words = {m.learnt_from for m in models}
    learnt = words.pop() if len(words) == 1 else "real and SIMULATED scenes"
    many = f"Mean of {len(models)} models: " if len(models) > 1 else "Model: "
    smoothing = f", smoothed over {about['smoothing_m']:g} m" if about["smoothing_m"] else ""
    kind = " with one mixture of types," if about["polygons"] == "mixtures" else ""
    drawn = (
        f"Polygons{kind} of {about['min_area_km2']:g} km² or more{smoothing}, borders within"
        f" {about['tolerance_m']:g} m of the pixels'. Land mask: {about['land_mask']}."
        f" Concentrations: {about['concentrations']}."
    )
    made = f"{about['software']}, {about['created']}."
    return [
        f"{many}{about['model']}, trained on {learnt}.",
        drawn,
        " ".join([made, about.get("attribution", "")]).strip(),
    ]


def describe_files(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return size in bytes and SHA-256 of files, by name."""
    return {n: {"bytes": (folder / n).stat().st_size, "sha256": sha256(folder / n)} for n in names}


def found_on_chart(
    source: ChartSource,
    scene: PreparedScene,
    models: Sequence[ModelFile],
    land: Mapping[str, Any],
    maps: SceneMaps,
    written: Written,
) -> dict[str, Any]:
    """Return what chart.json contains about product, models, pixels and polygons."""
    legend = maps.legend
    told: dict[str, Any] = {
        "simulated": scene.simulated or any(m.simulated for m in models),
        "status": STATUS,
        "scene": scene.record["scene"],
        "product": {
            "file": source.path.absolute().name,
            "simulated": scene.simulated,
            "prepared_by": scene.record["software"],
            "prepared_as": scene.record["configuration"],
            "attribution": scene.attribution,
        },
        "models": [m.facts(scene.start.month) for m in models],
        "land": dict(land),
        "grid": describe_grid(maps.geobox),
        "legend": in_record(legend),
        "probability_step": STEP,
        "pixels": maps.pixels(),
        "out_of_distribution": described_score(maps.out_of_distribution),
        "outputs": {o: list(names) for o, names in written.files.items()},
        "left_out": dict(written.left_out),
    }
    if written.spots is not None:
        told["review_spots"] = tell_spots(written.spots)
    if written.polygons is not None:
        rows = written.polygons.polygons
        told["polygons"] = {
            "count": len(rows),
            "area_km2": {str(k): round(float(v), 3) for k, v in rows.groupby("class_key")["area_km2"].sum().items()},
        } | asdict(written.polygons.report)
    return told
