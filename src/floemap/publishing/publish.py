"""From a corrected chart to a published one: checked, in every format, with a page for ships and a record.

The folder has the chart's standard name, `<service>_<region>_<date>T<time>Z_pl_<issue>`, and contains a GeoPackage,
GeoJSON, the SIGRID-3 shapefile with its metadata in a zip, an exchange set of S-411, a page, the report of changes, and
``publication.json``, the record. It appears whole or not at all, and replaces no other publication.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from floemap.errors import ChartError, ConfigError, FloemapError, OutputError
from floemap.grid import crs_name
from floemap.icechart.describe import areas_km2, kinds_in_words
from floemap.icechart.dominant_type import ice_types
from floemap.icechart.read.corrections import PUBLICATION_RECORD
from floemap.icechart.read.own_charts import class_keys
from floemap.icechart.read.sigrid3 import Chart
from floemap.icechart.write.s411 import s411_files, s411_names, write_s411
from floemap.icechart.write.sigrid3 import sigrid3_name, write_sigrid3
from floemap.icechart.write.table import FIELDS, ChartTable, Status
from floemap.icechart.write.times import in_utc
from floemap.icechart.write.vector import write_geojson, write_geopackage, write_style
from floemap.legend import SIX_CLASSES, Legend
from floemap.own_legends import in_record
from floemap.progress import Progress, silent
from floemap.publishing.change_page import change_page
from floemap.publishing.changes import compare_with_draft, nearly_the_draft
from floemap.publishing.checked import Checked, check_chart, codes_as_text, final_chart
from floemap.publishing.drafts import Draft, find_draft
from floemap.publishing.edited import EditedChart, read_edited
from floemap.publishing.eggs import default_form
from floemap.publishing.problems import ProblemsError
from floemap.publishing.settings import PublishSettings
from floemap.publishing.sheet import SheetWords, draw_sheet
from floemap.results.folders import made_of, refuse_replacing, stage_folder, told_sources
from floemap.results.stage import Stage, is_finished, os_errors, provenance, read_json, sha256, write_json
from floemap.zips import zipped

logger = logging.getLogger(__name__)

#: Raise the revision when published files change for the same corrected chart.
STAGE = Stage(
    "floemap publish",
    PUBLICATION_RECORD,
    revision=2,
    files=("*.gpkg", "*.qml", "*.geojson", "*.zip", "*.pdf", "*.jpg", "changes.*", "S411_*"),
)


@dataclass(frozen=True)
class Publication:
    """A published chart; `skipped` if it was finished before."""

    folder: Path
    skipped: bool = False

    @property
    def record(self) -> Path:
        """Path of publication.json."""
        return self.folder / PUBLICATION_RECORD

    @property
    def chart(self) -> Path:
        """Path of the GeoPackage."""
        return self.folder / f"{self.folder.name}.gpkg"


@dataclass(frozen=True)
class _Facts:
    """What is known of a publication before it is written."""

    name: str
    analyst: str
    valid: datetime
    legend: Legend
    simulated: bool
    published: datetime
    about: dict[str, Any]

    @property
    def status(self) -> Status:
        words = "published, SIMULATED, not for navigation" if self.simulated else "published"
        return Status(
            words=words,
            title="Ice chart",
            purpose="Ice information for navigation and research." if not self.simulated else "A trial: not for use.",
            history=f"corrected and published by {self.analyst}",
            progress="Complete",
            current="time of validity",
            published=self.published,
        )


def publish_chart(
    chart: str | Path,
    out: str | Path,
    analyst: str,
    settings: PublishSettings | None = None,
    *,
    draft: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Publication:
    """Publish a corrected chart: check it, and write it in every format.

    Parameters
    ----------
    chart
        A draft made by ``floemap chart``, or its correction: GeoPackage, SIGRID-3 shapefile or GeoJSON; see
        :func:`floemap.icechart.read.sigrid3.read_chart`. It is only read.
    out
        Folder that gets a folder with the chart's standard name.
    analyst
        Name of the analyst who is responsible for the chart.
    settings
        See :class:`floemap.publishing.settings.PublishSettings`.
    draft
        The draft that was corrected, a file or the folder of ``floemap chart``; by default it is looked for beside the
        chart.
    overwrite
        Make the publication again, and replace another one of the same name.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    ProblemsError
        If the chart has problems of topology or of eggs, a ChartError; it lists them all, and nothing is written.
    ChartError
        If the chart or the draft cannot be read.
    ConfigError
        If the time of validity is not known, or the analyst has no name.
    OutputError
        If the publication cannot be written, or another one of the same name is there.
    """
    settings, out = settings or PublishSettings(), Path(out)
    if not analyst.strip():
        raise ConfigError("a published chart needs the name of its analyst.", hint="Give it with --analyst.")
    progress(0, 5, "reading")
    edited, found = read_edited(chart, layer=settings.layer, crs=settings.crs)
    drafted = find_draft(edited.path, None if draft is None else Path(draft))
    facts = _facts(edited, drafted, analyst.strip(), settings)
    folder = out / facts.name
    inputs = {"chart": {p.name: sha256(p) for p in edited.files}}
    sources = {"chart": edited.path}
    if drafted is not None:
        inputs["draft"] = {p.name: sha256(p) for p in drafted.chart.files}
        sources["draft"] = drafted.chart.path
    configuration = settings.model_dump(mode="json") | {"analyst": facts.analyst}
    if not overwrite and _is_published(folder, inputs, configuration):
        logger.info("%s is published already", folder)
        return Publication(folder, skipped=True)
    refuse_replacing(folder, STAGE, sources=sources, inputs=inputs, replace_others=overwrite)  # before the work
    progress(1, 5, "checking")
    checked = check_chart(edited, found, drafted, repair=settings.repair, sliver_m=settings.sliver_m)
    if checked.problems or checked.chart is None:
        raise ProblemsError(edited.path, checked.problems, repaired=settings.repair)
    with stage_folder(folder, STAGE, sources=sources, inputs=inputs, replace_others=overwrite) as partial:
        final = final_chart(checked.chart, facts.simulated)
        progress(2, 5, "writing polygons")
        files, left_out = _write_formats(partial, checked.chart, final, facts, settings)
        progress(3, 5, "drawing the page")
        files["page"] = _draw_page(partial, final, facts, settings)
        progress(4, 5, "comparing with the draft")
        changes = None
        if drafted is not None:
            changes = compare_with_draft(final, drafted, settings.minutes)
            files["changes"] = _write_changes(partial, changes, final, drafted, facts)
        record = provenance(STAGE, inputs=inputs, configuration=configuration)
        record |= _about(edited, final, checked, facts, drafted, changes) | {"outputs": files, "left_out": left_out}
        record["warnings"] += [f"S-411 was left out: {reason}" for reason in left_out.values()]
        record["files"] = {n: {"bytes": size, "sha256": sha256(partial / n)} for n, size in made_of(partial).items()}
        record |= {"sources": told_sources(folder, sources), "bytes": made_of(partial)}
        write_json(partial / PUBLICATION_RECORD, record)
    progress(5, 5, "done")
    return Publication(folder)


def _is_published(folder: Path, inputs: Mapping[str, Any], configuration: Mapping[str, Any]) -> bool:
    """Return whether exactly this is published; refuse to replace what others may have read already."""
    if not folder.is_dir():
        return False
    try:
        record = read_json(folder / PUBLICATION_RECORD)
        files = list(record["bytes"])
    except (FloemapError, LookupError, TypeError):
        return False  # stage_folder decides
    if is_finished(folder, STAGE, files, inputs=inputs, configuration=configuration):
        return True
    raise OutputError(
        "contains another publication of this name.",
        path=folder,
        hint="Publish a correction as the next issue, as with --issue b; --overwrite replaces the publication.",
    )


def _facts(edited: EditedChart, draft: Draft | None, analyst: str, settings: PublishSettings) -> _Facts:
    valid = settings.valid_at or (None if draft is None else draft.start)
    if valid is None:
        raise ConfigError(
            "the time of validity is not known: no draft with its record was found.",
            path=edited.path,
            hint="Give it with --valid, or the draft with --draft.",
        )
    valid = valid.replace(microsecond=0)
    service = settings.service or (draft and draft.setting("service")) or "floemap"
    region = settings.region or (draft and draft.setting("region")) or "s1"
    contact = settings.contact or (draft and draft.setting("contact"))
    name = sigrid3_name(valid, service=service, region=region, version=settings.issue)
    simulated = edited.simulated or (draft is not None and (draft.chart.simulated or draft.simulated))
    published = datetime.now(UTC).replace(microsecond=0)
    about = {
        "simulated": simulated,
        "analyst": analyst,
        "valid": valid.isoformat(),
        "published": published.isoformat(),
        "service": service,
        "region": region,
        "issue": settings.issue,
        "created": published.isoformat(),
        "concentrations": "by the analyst",
    }
    if draft is not None:
        about |= draft.origin | {"concentrations": "estimated by a model, corrected by the analyst"}
    about |= {"contact": contact} if contact else {}
    legend = SIX_CLASSES if draft is None else draft.legend
    return _Facts(name, analyst, valid, legend, simulated, published, about)


def chart_table(edited: EditedChart, final: Chart, facts: _Facts) -> ChartTable:
    """Return the table of a published chart: SIGRID-3's fields, CLASS, area, status."""
    shapes = final.geometries
    forms = [form or default_form(kind) for form, kind in zip(edited.forms, edited.kinds, strict=True)]
    columns: dict[str, Any] = {
        "AREA": shapely.area(shapes).round().astype(np.int64),
        "PERIMETER": shapely.length(shapes).round().astype(np.int64),
        **codes_as_text(edited),
        "CF": forms,
        "POLY_TYPE": list(edited.kinds),
        "CLASS": class_keys(ice_types(final, unmapped="ignore"), facts.legend),
        "AREA_KM2": areas_km2(final).round(4),
        "STATUS": [facts.status.words] * len(final),
        "SIMULATED": ["yes" if facts.simulated else "no"] * len(final),
    }
    table = gpd.GeoDataFrame({n: columns[n] for n in FIELDS if n in columns}, geometry=list(shapes), crs=final.crs)
    return ChartTable(table, facts.legend, facts.status)


def _write_formats(
    folder: Path, edited: EditedChart, final: Chart, facts: _Facts, settings: PublishSettings
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Write the polygons in all formats; return the names of the files, and the reasons of those left out, by format.

    S-411 has no codes for some that SIGRID-3 has, such as thicknesses.
    """
    table, name = chart_table(edited, final, facts), facts.name
    about = {k: v for k, v in facts.about.items() if k != "created"}
    write_geopackage(table, folder / f"{name}.gpkg", start=facts.valid, about=about)
    write_style(facts.legend, folder / f"{name}.qml")
    write_geojson(table, folder / f"{name}.geojson", start=facts.valid, about=about)
    within = folder / ".sigrid3"
    within.mkdir()
    write_sigrid3(table, within, start=facts.valid, about=facts.about, name=name)
    _zip(within, folder / f"{name}.zip", facts.valid)
    files = {"chart": [f"{name}.gpkg", f"{name}.qml"], "geojson": [f"{name}.geojson"], "sigrid3": [f"{name}.zip"]}
    producer, own = s411_names(facts.valid, service=facts.about["service"], region=facts.about["region"])
    how: dict[str, Any] = {"axes": settings.s411_axes, "lake": settings.s411_lake}
    try:
        write_s411(table, folder, start=facts.valid, about=about, producer=producer, name=own, **how)
    except ChartError as e:
        logger.warning("S-411 was left out: %s", e)
        return files, {"s411": str(e)}
    return files | {"s411": list(s411_files(producer, own))}, {}


def _zip(folder: Path, path: Path, when: datetime) -> None:
    """Move the files of a folder into a zip, dated `when`, and remove the folder."""
    with os_errors(path):
        path.write_bytes(zipped({part.name: part.read_bytes() for part in folder.iterdir()}, in_utc(when)))
        for part in folder.iterdir():
            part.unlink()
    folder.rmdir()


def _draw_page(folder: Path, final: Chart, facts: _Facts, settings: PublishSettings) -> list[str]:
    name = f"{facts.name}.{'pdf' if settings.page == 'pdf' else 'jpg'}"
    about = facts.about
    words = SheetWords(
        title=f"Ice chart {about['service']} {about['region']}, valid {facts.valid:%Y-%m-%d %H:%M} UTC",
        subtitle=f"Issue {about['issue']}, analyst {facts.analyst}, published {facts.published:%Y-%m-%d %H:%M} UTC.",
        notes=[
            "In polygons: total concentration, partial concentrations in tenths, stages of development (SIGRID-3).",
            " ".join(str(about[k]) for k in ("contact", "attribution") if k in about),
        ],
        warning="SIMULATED, NOT FOR NAVIGATION" if facts.simulated else "",
    )
    draw_sheet(final, folder / name, words, settings.page)
    return [name]


def _write_changes(folder: Path, changes: Mapping[str, Any], final: Chart, draft: Draft, facts: _Facts) -> list[str]:
    """Write the report of changes, as JSON and as HTML; return the names of the files."""
    about = {k: v for k, v in facts.about.items() if k not in ("simulated", "created")}
    told = {"simulated": facts.simulated, "chart": facts.name} | about
    write_json(folder / "changes.json", told | dict(changes))
    title = f"Changes from the draft to {facts.name}"
    page = change_page(changes, {"title": title} | told, draft.chart, final)
    with os_errors(folder):
        (folder / "changes.html").write_text(page, encoding="utf-8")
    return ["changes.html", "changes.json"]


def _about(
    edited: EditedChart,
    final: Chart,
    checked: Checked,
    facts: _Facts,
    draft: Draft | None,
    changes: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what publication.json contains about the chart."""
    kinds, areas = kinds_in_words(ice_types(final, unmapped="ignore")), areas_km2(final)
    by_kind = {kind: round(float(areas[kinds == kind].sum()), 3) for kind in set(kinds)}
    return {
        "simulated": facts.simulated,
        "status": facts.status.words,
        "name": facts.name,
        "analyst": facts.analyst,
        "valid": facts.valid.isoformat(),
        "published": facts.published.isoformat(),
        **{k: facts.about[k] for k in ("service", "region", "issue")},
        "chart": {"file": edited.path.name, "layer": edited.layer, "crs": crs_name(edited.source_crs)},
        "correction_of": None if draft is None else draft.origin,
        "legend": in_record(facts.legend),
        "polygons": {
            "count": len(final),
            "area_km2": dict(sorted(by_kind.items(), key=lambda pair: -pair[1])),
        },
        "repaired": [p.facts() for p in checked.repaired],
        "warnings": list(checked.notes) + ([] if changes is None else nearly_the_draft(changes)),
        "changes": None if changes is None else {k: changes[k] for k in ("minutes", "total", "polygons")},
        "review_spots": [] if changes is None else changes["left_as_drafted"],
    }
