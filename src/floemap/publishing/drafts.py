"""The draft of a corrected chart: found beside it, or given; its polygons, its model, its time, its legend."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from floemap.errors import MISSHAPEN, ChartError, FloemapError
from floemap.icechart.read.corrections import DRAFT_RECORD, draft_files, draft_record, drafts_near, own_record
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.icechart.read.sources import find_source
from floemap.icechart.read.vector_files import open_features
from floemap.icechart.write.times import in_utc
from floemap.legend import SIX_CLASSES, Legend
from floemap.own_legends import from_record

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draft:
    """A draft chart, as it was made.

    Attributes
    ----------
    chart
        Its polygons.
    record
        Content of its chart.json; empty if it has none.
    """

    chart: Chart
    record: Mapping[str, Any]

    @cached_property
    def footprint(self) -> Any:
        """Where the draft has polygons, in its CRS."""
        return shapely.union_all(self.chart.geometries)

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """The column CONFIDENCE, (n,), not-a-number where there is none."""
        values = column_of(self.chart, "confidence")
        return np.array([v if isinstance(v, int | float) else np.nan for v in values], np.float64)

    @property
    def start(self) -> datetime | None:
        """Start of the acquisition."""
        try:
            return in_utc(datetime.fromisoformat(self.record["scene"]["start"]))
        except MISSHAPEN:
            return None

    @property
    def legend(self) -> Legend:
        """Legend of its classes."""
        if "legend" not in self.record:
            return SIX_CLASSES
        return from_record(self.record["legend"], self.chart.path.parent / DRAFT_RECORD, ChartError)

    @property
    def simulated(self) -> bool:
        """Whether its record marks it as simulated."""
        return self.record.get("simulated") is True

    @property
    def origin(self) -> dict[str, Any]:
        """What files and records of a correction say of the draft: file, product, models and their SHA-256."""
        models = self.record.get("models")
        models = [m for m in models if isinstance(m, Mapping)] if isinstance(models, list) else []
        product = self.record.get("product")
        product = product if isinstance(product, Mapping) else {}
        found: dict[str, Any] = {"draft": self.chart.path.name}
        found |= {"product": str(product["file"])} if "file" in product else {}
        found |= {"attribution": str(product["attribution"])} if product.get("attribution") else {}
        if models:
            found["model"] = ", ".join(str(m.get("name", "unknown")) for m in models)
            found["model_sha256"] = ", ".join(str(m.get("sha256", "unknown")) for m in models)
        return found

    def setting(self, name: str) -> str | None:
        """Return a setting with which the draft was made, if it is a text."""
        configuration = self.record.get("configuration")
        value = configuration.get(name) if isinstance(configuration, Mapping) else None
        return value if isinstance(value, str) else None


def column_of(chart: Chart, name: str) -> list[Any]:
    """Return a column of a chart's file by its name in small letters, (n,); None where there is no such value."""
    own = next((f for f in chart.fields if f.strip().lower() == name), None)
    if own is None:
        return [None] * len(chart)
    with open_features(find_source(chart.path, chart.layer if chart.path.suffix == ".gpkg" else None)) as file:
        features = file.read([own])
    by_id = dict(zip(features.ids.tolist(), features.columns[own], strict=True))
    return [by_id.get(i) for i in chart.polygons.index]


def find_draft(chart: Path, given: Path | None) -> Draft | None:
    """Find the draft of a corrected chart.

    Parameters
    ----------
    chart
        The corrected chart. Its draft is looked for in its folder and in the one above: a file of a draft chart's
        folder that is as `floemap chart` made it.
    given
        The draft's file or folder; None to look for it.

    Returns
    -------
    The draft, None if none is found.

    Raises
    ------
    ChartError
        If the given draft cannot be read, or nothing in its folder is as it was made.
    """
    if given is not None:
        return _given(given)
    for folder, record in drafts_near(chart):
        files = draft_files(folder, record)
        if files:
            return Draft(_read(files[0]), record)
        logger.warning("%s: all files of this draft were changed since it was made, so nothing is compared", folder)
    return None


def _given(given: Path) -> Draft:
    if not given.is_dir():
        chart = _read(given)
        own = own_record(chart.files)
        return Draft(chart, {} if own is None or own.published else own.record)
    record = draft_record(given) or {}
    files = draft_files(given, record)
    if not files:
        hint = "Give the folder of `floemap chart`, or a file of the draft that is as it was made."
        raise ChartError(f"contains no draft chart that is as {DRAFT_RECORD} says.", path=given, hint=hint)
    return Draft(_read(files[0]), record)


def _read(path: Path) -> Chart:
    try:
        return read_chart(path)
    except FloemapError as e:
        raise ChartError(f"is not a draft that can be read: {e.message}", path=path, hint=e.hint) from e
