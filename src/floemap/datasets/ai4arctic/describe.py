"""Descriptions of AI4Arctic's files (``floemap info``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from floemap.datasets.ai4arctic.codes import TITLES
from floemap.datasets.ai4arctic.files import open_scene_file
from floemap.datasets.ai4arctic.form import NO_CLASS
from floemap.datasets.ai4arctic.scenes import by_name
from floemap.errors import FloemapError
from floemap.grid import box_in_words

Lines = list[tuple[str, str]]
_KINDS = {"ready": "ready to train", "raw": "raw", "ASID-v2": "ASID-v2"}


def describe_scene_file(path: Path) -> tuple[dict[str, Any], Lines, tuple[str, ...]]:
    """Return facts, JSON-ready, lines for people, and problems of a file of a scene.

    Raises
    ------
    FloemapError
        If it is not one, or cannot be opened.
    """
    with open_scene_file(path) as file:
        scene = file.scene
        use = by_name()[scene.name][1] if file.has_bands and scene.name in by_name() else None
        facts: dict[str, Any] = {
            "kind": "AI4Arctic scene",
            "path": str(path),
            "form": file.kind if file.has_bands else "ASID-v2",
            "simulated": file.simulated,
            "scene": scene.name,
            "product": scene.product,
            "service": scene.service,
            "region": scene.region,
            "official_use": use,
            "shape": list(file.shape),
            "pixel_spacing_m": file.spacing_m,
            "flip": file.flip,
        }
        problems = []
        try:
            if file.has_tie_points:
                tie = file.tie_points()
                west, east = float(tie.longitude_deg.min()), float(tie.longitude_deg.max())
                facts["bbox_lonlat_deg"] = [west, float(tie.latitude_deg.min()), east, float(tie.latitude_deg.max())]
            if file.kind == "raw":
                facts["polygons"] = len(file.polygon_codes()) if file.has_polygons else None
            else:
                facts["classes"] = {chart: _counts(file, chart) for chart in file.charts}
        except FloemapError as e:
            problems.append(str(e))
    return facts | {"problems": problems}, _lines(facts), tuple(problems)


def _counts(file: Any, chart: str) -> dict[str, int]:
    counts = np.zeros(256, np.int64)
    for lines in file.strips():
        counts += np.bincount(file.chart(chart, *lines).ravel(), minlength=256)
    named = {title: int(counts[k]) for k, title in TITLES[chart].items() if counts[k]}
    return named | {"no class": int(counts[NO_CLASS])}


def _lines(facts: dict[str, Any]) -> Lines:
    lines, samples = facts["shape"]
    found = [
        ("AI4Arctic scene", f"{facts['scene']}{', SIMULATED' if facts['simulated'] else ''}"),
        ("Form", f"{_KINDS[facts['form']]}, {lines} lines x {samples} samples of {facts['pixel_spacing_m']:g} m"),
        ("Product", facts["product"]),
        ("Chart", f"{facts['service'].upper()}, {facts['region']}"),
        ("Official use", {"train": "training", "test": "test"}.get(facts["official_use"], "not in the lists")),
    ]
    if "bbox_lonlat_deg" in facts:
        found.append(("Place", box_in_words(*facts["bbox_lonlat_deg"])))
    if "polygons" in facts:
        polygons = facts.get("polygons")
        found.append(("Polygons", "none" if polygons is None else str(polygons)))
    for chart, counts in facts.get("classes", {}).items():
        total = max(sum(counts.values()), 1)
        found.append((chart, ", ".join(f"{title.lower()} {n / total:.1%}" for title, n in counts.items())))
    return found
