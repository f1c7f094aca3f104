"""The chart of a bundle: found from a folder or a file, with what its record says of time, origin and status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from floemap.bundle.settings import BundleSettings
from floemap.errors import MISSHAPEN, ChartError, ConfigError
from floemap.icechart.read.corrections import DRAFT_RECORD, PUBLICATION_RECORD, chart_file_in, own_record
from floemap.icechart.read.sigrid3 import Chart, read_chart
from floemap.icechart.read.sources import datasets_of
from floemap.icechart.write.table import Status
from floemap.icechart.write.times import in_utc
from floemap.legend import SIX_CLASSES, Legend
from floemap.own_legends import from_record
from floemap.publishing.drafts import Draft

#: How far a chart has come, by its record.
Kind = Literal["draft", "correction", "published", "other"]
#: Names of the statuses. A crop that was simplified is for information, whatever the chart is.
_STATUS: Mapping[Kind, str] = {
    "draft": "draft, not for navigation",
    "correction": "corrected draft, not published, not for navigation",
    "published": "published, here cropped and simplified, not for navigation",
    "other": "of unknown status, not for navigation",
}
_HISTORY: Mapping[Kind, str] = {
    "draft": "no analyst has seen them",
    "correction": "changed since the draft was made",
    "published": "published by an analyst",
    "other": "read from a chart that floemap did not make",
}


@dataclass(frozen=True)
class ChartFacts:
    """What is known of a chart.

    Attributes
    ----------
    kind
        How far it has come.
    valid
        Time of validity, UTC; of a draft, the start of the acquisition.
    simulated
        Whether it is marked as simulated.
    source
        Name of the product, or of the chart's file.
    made_by
        Models, analyst, or "" if not known.
    service, region
        Parts of its name.
    legend
        Legend of its classes.
    published
        Time of publication; None if it is not published.
    attribution
        Whom to name as the source of the data, or "".
    """

    kind: Kind
    valid: datetime
    simulated: bool
    source: str
    made_by: str
    service: str
    region: str
    legend: Legend
    published: datetime | None = None
    attribution: str = ""

    @property
    def status(self) -> Status:
        """What the files say of the chart's status."""
        words = ("SIMULATED, " if self.simulated else "") + _STATUS[self.kind]
        return Status(
            words=words,
            title="Ice chart, part for a ship" if self.kind == "published" else "Part of a draft ice chart for a ship",
            purpose="Information on ice in an area, for a connection of little bandwidth; not for navigation.",
            history=_HISTORY[self.kind],
            progress="Complete" if self.kind == "published" else "In work",
            current="time of validity",
            published=self.published,
        )


def find_chart(path: Path, settings: BundleSettings) -> tuple[Chart, ChartFacts]:
    """Read a chart, and what its record says.

    Parameters
    ----------
    path
        Folder of `floemap chart` or of `floemap publish`, or a chart's file or exchange set.

    Raises
    ------
    ChartError
        If the chart cannot be read, or the folder holds none that is as its record says.
    ConfigError
        If the time of validity is not known.
    """
    if path.is_dir() and not datasets_of(path):
        path = chart_file_in(path)
    chart = read_chart(path, layer=settings.layer, crs=settings.crs)
    found = own_record(chart.files)
    if found is not None:
        if found.published and not found.as_made:
            raise ChartError(
                f"was changed since it was published, as {PUBLICATION_RECORD} shows.",
                path=chart.path,
                hint="Publish the correction with `floemap publish`, or give the chart as it was published.",
            )
        kind: Kind = "published" if found.published else "draft" if found.as_made else "correction"
        return chart, _facts_of(chart, found.record, kind, found.folder)
    if settings.valid_at is None:
        message = "has no record of floemap that lists it, so its time of validity is not known."
        raise ConfigError(message, path=chart.path, hint="Give it with --valid, as in --valid 2018-01-16T07:54Z.")
    source = chart.path.name
    return chart, ChartFacts("other", settings.valid_at, chart.simulated, source, "", "floemap", "ship", SIX_CLASSES)


def _facts_of(chart: Chart, record: Mapping[str, Any], kind: Kind, folder: Path) -> ChartFacts:
    draft = Draft(chart, record)
    corrected = record.get("correction_of")
    origin = draft.origin if kind != "published" else corrected if isinstance(corrected, Mapping) else {}
    published = None
    valid = draft.start
    if kind == "published":
        try:
            valid, published = (in_utc(datetime.fromisoformat(record[k])) for k in ("valid", "published"))
        except MISSHAPEN as e:
            hint = "Publish the chart again."
            raise ChartError(
                f"{PUBLICATION_RECORD} has no times of validity and publication.", path=folder, hint=hint
            ) from e
    if valid is None:
        raise ChartError(f"{DRAFT_RECORD} has no time of acquisition.", path=folder, hint="Make the chart again.")
    by = [f"analyst {record['analyst']}"] if kind == "published" and "analyst" in record else []
    by += [f"model {origin['model']}"] if "model" in origin else []
    named = record if kind == "published" else {k: draft.setting(k) for k in ("service", "region")}
    return ChartFacts(
        kind,
        valid.replace(microsecond=0),
        chart.simulated or draft.simulated,
        str(origin.get("product", chart.path.name)),
        ", ".join(by),
        _name(named.get("service"), "floemap"),
        _name(named.get("region"), "s1"),
        SIX_CLASSES if "legend" not in record else from_record(record["legend"], folder, ChartError),
        published,
        str(origin.get("attribution", "")),
    )


def _name(value: Any, otherwise: str) -> str:
    """Return a part of a chart's name: letters and digits, or what else to use."""
    return value if isinstance(value, str) and value.isascii() and value.isalnum() else otherwise
