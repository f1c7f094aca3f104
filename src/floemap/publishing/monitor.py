"""How much analysts change the drafts: over many published charts, by type, month, confidence and model.

Areas are summed over charts before shares are taken, so that a large chart counts more than a small one. Of several
issues of one chart only the last counts, as each is compared with the same draft.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from floemap.counts import counted
from floemap.errors import MISSHAPEN, FloemapError
from floemap.files import existing_folder
from floemap.icechart.read.corrections import PUBLICATION_RECORD, publication_record
from floemap.publishing.monitor_picture import draw_monitor
from floemap.results.fields import at
from floemap.results.folders import made_of, refuse_replacing, stage_folder
from floemap.results.stage import Stage, provenance, read_json, write_json, write_whole

logger = logging.getLogger(__name__)

RECORD = "monitor.json"
#: Raise the revision when the numbers of the same publications change.
STAGE = Stage("floemap monitor", RECORD, revision=1, files=("*.csv", "monitor.png"))
_AREAS = ("km2", "other_type_km2", "other_egg_km2")
_CHANGES = "changes.json"
#: Folders are not searched more deeply.
_DEEPEST = 6


@dataclass(frozen=True)
class Monitoring:
    """What became of drafts.

    Attributes
    ----------
    facts
        All numbers, JSON-ready: `charts`, one entry for each published chart with a draft, by time of validity;
        `total`, `by_type`, `by_month`, `by_confidence`, `by_model`, areas in km2 and their shares; `without_draft`,
        `earlier_issues`, names of charts that are not counted; `unreadable`, folders and reasons; `simulated`, whether
        any of the charts is.
    folder
        Folder with the files; None if none were written.
    """

    facts: dict[str, Any]
    folder: Path | None = None


def monitor_charts(published: str | Path, out: str | Path | None = None) -> Monitoring:
    """Follow how much of the drafts was changed over published charts.

    Parameters
    ----------
    published
        Folder with folders that :func:`floemap.publishing.publish.publish_chart` made, at any depth up to six.
    out
        Folder to write: ``monitor.json``, a CSV for each table, ``monitor.png``. Only an earlier result is replaced.

    Raises
    ------
    FloemapError
        If the folder does not exist or contains no published chart.
    OutputError
        If the files cannot be written, or would replace something else.
    """
    published = existing_folder(published, "Give the --out of `floemap publish`.")
    if out is not None:
        refuse_replacing(Path(out), STAGE, sources={"published charts": published})  # before the work
    facts = _facts(list(_publications(published)), published)
    if out is None:
        return Monitoring(facts)
    out = Path(out)
    with stage_folder(out, STAGE, sources={"published charts": published}) as partial:
        for name, rows in _tables(facts).items():
            write_whole(partial / f"{name}.csv", _csv(rows))
        draw_monitor(facts, partial / "monitor.png")
        names = sorted(chart["name"] for chart in facts["charts"])
        record = provenance(STAGE, inputs={"charts": names}, configuration={})
        write_json(partial / RECORD, record | facts | {"bytes": made_of(partial)})
    return Monitoring(facts, out)


def _publications(folder: Path) -> Iterator[Path]:
    """Give the folders below a folder, itself included, that contain a record of a publication, in order."""
    deepest = len(folder.parts) + _DEEPEST
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and len(Path(base).parts) < deepest)
        if PUBLICATION_RECORD in files:
            yield Path(base)


def _facts(folders: Sequence[Path], within: Path) -> dict[str, Any]:
    charts: list[dict[str, Any]] = []
    without, unreadable = [], []
    for folder in folders:
        name = folder.relative_to(within).as_posix() if folder != within else folder.name
        record = publication_record(folder)
        if record is None:
            unreadable.append({"folder": name, "reason": f"its {PUBLICATION_RECORD} is damaged"})
        elif not at(record, "correction_of", {}):
            without.append(str(at(record, "name", name)))
        else:
            try:
                charts.append(_chart(record, read_json(folder / _CHANGES)))
            except (FloemapError, *MISSHAPEN) as e:
                reason = e.message if isinstance(e, FloemapError) else f"{type(e).__name__}: {e}"
                unreadable.append({"folder": name, "reason": f"its {_CHANGES} is damaged: {reason}"})
    if not (charts or without or unreadable):
        raise FloemapError("contains no published chart.", path=within, hint="Give the --out of `floemap publish`.")
    last: dict[tuple[str, ...], dict[str, Any]] = {}
    for chart in sorted(charts, key=lambda c: c["published"]):
        last[tuple(str(chart[k]) for k in ("service", "region", "valid", "product"))] = chart
    kept = sorted(last.values(), key=lambda c: (c["valid"], c["name"]))
    earlier = sorted(c["name"] for c in charts if not any(c is k for k in kept))
    for words, names in (("without a draft to compare with", without), ("of earlier issues", earlier)):
        if names:
            which = counted(len(names), "published chart")
            logger.warning("not counted: %s %s: %s", which, words, ", ".join(names[:10]))
    for entry in unreadable:
        logger.warning("%s is not counted: %s", entry["folder"], entry["reason"])
    return {
        "simulated": any(chart["simulated"] for chart in kept),
        "charts": [{k: v for k, v in chart.items() if not k.startswith("_")} for chart in kept],
        "total": _pooled([chart["_total"] for chart in kept]),
        "by_type": _by(kept, "_by_type", ("type",)),
        "by_month": _by_value(kept, "month"),
        "by_confidence": sorted(
            _by(kept, "_by_confidence", ("from", "to")), key=lambda e: (e["from"] is None, e["from"])
        ),
        "by_model": _by_value(kept, "model"),
        "without_draft": sorted(without),
        "earlier_issues": earlier,
        "unreadable": unreadable,
    }


def _chart(record: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a chart, with its tables under names that begin with an underscore."""
    total = _areas(changes["total"])
    polygons = {str(k): int(n) for k, n in changes["polygons"].items()}
    valid = datetime.fromisoformat(record["valid"])
    minutes = changes.get("minutes")
    return {
        "name": str(record["name"]),
        "valid": valid.isoformat(),
        "month": valid.month,
        **{k: str(record[k]) for k in ("service", "region", "issue", "analyst", "published")},
        "product": str(at(record, "correction_of.product", "")),
        "model": str(at(record, "correction_of.model", "unknown")),
        "simulated": record.get("simulated") is True,
        **_with_shares(total),
        "minutes": float(minutes) if isinstance(minutes, int | float) else None,
        "polygons": sum(n for name, n in polygons.items() if name != "removed"),
        "moved": sum(n for name, n in polygons.items() if name.startswith("moved")),
        "new": polygons.get("new", 0),
        "removed": polygons.get("removed", 0),
        "_total": total,
        "_by_type": [(entry, _areas(entry)) for entry in changes["by_type"]],
        "_by_confidence": [(entry, _areas(entry)) for entry in changes["by_confidence"]],
    }


def _areas(entry: Mapping[str, Any]) -> dict[str, float]:
    areas = {name: float(entry[name]) for name in _AREAS}
    if not all(math.isfinite(v) and v >= 0 for v in areas.values()):
        raise ValueError(f"an area is {areas}")
    return areas


def _with_shares(areas: Mapping[str, float]) -> dict[str, Any]:
    shares = {
        f"other_{what}_share": round(areas[f"other_{what}_km2"] / areas["km2"], 6) if areas["km2"] else None
        for what in ("type", "egg")
    }
    return {k: round(v, 3) for k, v in areas.items()} | shares


def _pooled(entries: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return _with_shares({name: sum(e[name] for e in entries) for name in _AREAS}) | {"charts": len(entries)}


def _by(charts: Sequence[Mapping[str, Any]], table: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return a table of all charts, pooled by some of its columns; the largest areas first."""
    found: dict[tuple[Any, ...], list[Mapping[str, float]]] = {}
    for chart in charts:
        for entry, areas in chart[table]:
            found.setdefault(tuple(entry[k] for k in keys), []).append(areas)
    pooled = [dict(zip(keys, values, strict=True)) | _pooled(entries) for values, entries in found.items()]
    return sorted(pooled, key=lambda e: (-e["km2"], str(e)))


def _by_value(charts: Sequence[Mapping[str, Any]], key: str) -> list[dict[str, Any]]:
    """Return the totals of charts, pooled by a value of each, in its order."""
    values = sorted({chart[key] for chart in charts})
    return [{key: value} | _pooled([c["_total"] for c in charts if c[key] == value]) for value in values]


def _tables(facts: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    names = ("charts", "by_type", "by_month", "by_confidence", "by_model")
    missing = [{"name": name, "reason": "no draft"} for name in facts["without_draft"]]
    missing += [{"name": name, "reason": "an earlier issue"} for name in facts["earlier_issues"]]
    missing += [{"name": e["folder"], "reason": e["reason"]} for e in facts["unreadable"]]
    return {name: facts[name] for name in names if facts[name]} | ({"not_counted": missing} if missing else {})


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a table as CSV. Text that a spreadsheet would take for a formula gets an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"'{v}" if isinstance(v, str) and v[:1] in "=+-@\t\r" and v else v for k, v in row.items()})
    return text.getvalue().encode()
