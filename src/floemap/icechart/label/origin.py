"""Whose opinion labels are: an analyst's chart, an analyst's correction of a model's draft, or a draft as it is.

A model that learns from drafts that nobody has corrected learns what the drafts' model knows already, with its errors.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.errors import FloemapError
from floemap.icechart.dominant_type import class_ids, ice_types
from floemap.icechart.label.rasterize import look_up, rasterize_polygons
from floemap.icechart.read.corrections import draft_files, drafts_near, own_record
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.legend import IGNORE, Legend
from floemap.results.fields import at

logger = logging.getLogger(__name__)

#: Share of another opinion than the draft's below which a correction is taken for the draft itself.
NEARLY_THE_DRAFT = 0.005


def origin_of(files: Sequence[Path]) -> dict[str, Any] | None:
    """Return where a chart comes from by the records that list its files, or by the draft in its folder or in the one
    above, which it is a correction of; JSON-ready, None if no model's draft is behind it.

    Returns
    -------
    `kind`: "draft" for a draft as it was made, "correction" for one that was changed, "published" for a publication;
    `product`, `model` and `model_sha256` of the draft; of a publication also `analyst`, and `other_egg_share`, the
    share of the draft's area that got another egg.
    """
    own = own_record(files)
    if own is None:
        near = next(drafts_near(files[0]), None)
        return None if near is None else {"kind": "correction"} | _of_draft(near[1])
    if not own.published:
        return {"kind": "draft" if own.as_made else "correction"} | _of_draft(own.record)
    of = at(own.record, "correction_of", {})
    if not of:
        return None
    told = {k: of[k] for k in ("product", "model", "model_sha256") if k in of}
    share = at(own.record, "changes.total.other_egg_share")
    told |= {"analyst": at(own.record, "analyst"), "other_egg_share": share}
    return {"kind": "published" if own.as_made else "correction"} | told


def origin_in_record(chart: Chart, labels: NDArray[np.uint8], geobox: GeoBox, legend: Legend) -> dict[str, Any]:
    """Return the entry `origin` of label.json, empty if no draft is behind a chart; warn if labels are a model's.

    Parameters
    ----------
    chart
        The chart.
    labels
        (rows, cols): its class ids.
    """
    origin = origin_of(chart.files)
    if origin is None:
        return {}
    origin = _compared_with_draft(origin, chart.path, labels, geobox, legend)
    for words in notes_of_origin(origin):
        logger.warning("%s: %s", chart.path, words)
    return {"origin": origin}


def _of_draft(record: Mapping[str, Any]) -> dict[str, Any]:
    models = [m for m in at(record, "models", []) if isinstance(m, Mapping)]
    return {
        "product": at(record, "product.file"),
        "model": ", ".join(str(m.get("name", "unknown")) for m in models),
        "model_sha256": ", ".join(str(m.get("sha256", "unknown")) for m in models),
    }


def _compared_with_draft(
    origin: Mapping[str, Any], chart: Path, labels: NDArray[np.uint8], geobox: GeoBox, legend: Legend
) -> dict[str, Any]:
    """Add to a correction that is not published the share of pixels with another class; None without its draft."""
    if origin["kind"] != "correction" or "analyst" in origin:
        return dict(origin)
    share = None
    for place, record in drafts_near(chart):
        files = draft_files(place, record)
        if files:
            share = _other_class_share(files[0], labels, geobox, legend)
            break
    return dict(origin) | {"other_class_share": share}


def _other_class_share(draft: Path, labels: NDArray[np.uint8], geobox: GeoBox, legend: Legend) -> float | None:
    try:
        chart = read_chart(draft)
        ids = class_ids(ice_types(chart, unmapped="ignore"), legend, unmapped="ignore")
        drafted = look_up(rasterize_polygons(chart, geobox), ids, IGNORE)
    except FloemapError:  # the draft is only compared with
        return None
    both = (drafted != IGNORE) & (labels != IGNORE)
    return round(float((drafted[both] != labels[both]).mean()), 6) if both.any() else None


def notes_of_origin(origin: Mapping[str, Any] | None) -> list[str]:
    """Return the warnings that the origin of a chart calls for."""
    kind = at(origin, "kind")
    model = at(origin, "model", "") or "a model"
    if kind == "draft":
        return [f"this is a draft by {model} as it was made, which no analyst has corrected: its labels are a model's"]
    shares = [at(origin, key) for key in ("other_egg_share", "other_class_share")]
    share = next((s for s in shares if isinstance(s, float)), None)
    if kind in ("correction", "published") and share is not None and share < NEARLY_THE_DRAFT:
        return [f"the correction is the draft by {model} on {1 - share:.2%} of its area: its labels are a model's"]
    return []
