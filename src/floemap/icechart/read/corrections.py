"""Where a chart comes from, by the records beside it: the draft that it corrects, or the publication it belongs to.

``floemap chart`` leaves chart.json in the folder of a draft, ``floemap publish`` publication.json in that of a
published chart; both hold the SHA-256 of the files. So a chart whose labels would be a model's own output can be told
from an analyst's correction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floemap.errors import MISSHAPEN, ChartError, FloemapError
from floemap.results.stage import read_json, sha256

#: Records of draft and of published charts.
DRAFT_RECORD, PUBLICATION_RECORD = "chart.json", "publication.json"
_DRAFT, _PUBLICATION = "floemap chart", "floemap publish"
#: Formats of a draft, the most exact first, and the files of each that hold its polygons.
_PARTS = ((".gpkg", (".gpkg",)), (".shp", (".shp", ".dbf")), (".geojson", (".geojson",)))
#: Levels of folders in which the record of a file may be: an exchange set has its chart two folders below its own.
_LEVELS = 3


@dataclass(frozen=True)
class OwnRecord:
    """The record that lists the files of a chart.

    Attributes
    ----------
    folder
        Folder of the record.
    record
        Its content.
    published
        Whether it is a publication's, not a draft's.
    as_made
        Whether all files that it lists are as they were made.
    """

    folder: Path
    record: Mapping[str, Any]
    published: bool
    as_made: bool


def own_record(files: Iterable[Path]) -> OwnRecord | None:
    """Return the record that lists a chart's files, None if there is none: a record of other files says nothing of it.

    Parameters
    ----------
    files
        The files that the chart was read from, :attr:`floemap.icechart.read.sigrid3.Chart.files`.
    """
    files = [f.absolute() for f in files]
    for folder in list(files[0].parents)[:_LEVELS] if files else []:
        for published, record in ((True, publication_record(folder)), (False, draft_record(folder))):
            listed = names_in(record or {})
            names = {f: f.relative_to(folder).as_posix() for f in files if f.is_relative_to(folder)}
            own = {f: name for f, name in names.items() if name in listed}
            if record is not None and own:
                as_made = all(is_as_made(f, record, name) for f, name in own.items())
                return OwnRecord(folder, record, published, as_made)
    return None


def drafts_near(chart: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give folder and record of the drafts that a chart may be a correction of, whatever its name: in its folder, in
    the one above."""
    own = chart.absolute().parent
    for folder in (own, own.parent):
        record = draft_record(folder)
        if record is not None:
            yield folder, record


def draft_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of the draft chart in a folder, None if there is none."""
    return _record(folder / DRAFT_RECORD, _DRAFT)


def publication_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of the published chart in a folder, None if there is none."""
    return _record(folder / PUBLICATION_RECORD, _PUBLICATION)


def _record(path: Path, command: str) -> dict[str, Any] | None:
    try:
        found = read_json(path) if path.is_file() else {}
    except (FloemapError, OSError):
        return None
    return found if found.get("made_by") == command else None


def draft_files(folder: Path, record: Mapping[str, Any]) -> list[Path]:
    """Return the files of polygons in a draft's folder that are as they were made, the most exact format first."""
    found = []
    for suffix, needed in _PARTS:
        for path in sorted(folder.glob(f"*{suffix}")):
            if _is_chart(path.name) and all(is_as_made(path.with_suffix(s), record) for s in needed):
                found.append(path)
    return found


def _is_chart(name: str) -> bool:
    """Return whether a file of a draft's folder has the chart's polygons, not the spots to review or the risk."""
    chart = name.endswith(tuple(suffix for suffix, _ in _PARTS))
    return chart and name != "review.gpkg" and not name.startswith("polaris_")


def chart_file_in(folder: Path) -> Path:
    """Return the file of polygons in the folder of a draft or a published chart.

    Raises
    ------
    ChartError
        If the folder is of another kind, or a file of the draft was changed since it was made: then it is not clear
        which one is meant.
    """
    record = publication_record(folder)
    if record is not None:
        return folder / f"{record.get('name', folder.name)}.gpkg"
    record = draft_record(folder)
    if record is None:
        message = f"is a folder without {DRAFT_RECORD} or {PUBLICATION_RECORD}, not a chart."
        hint = "Give a folder of `floemap chart` or of `floemap publish`, or a chart's file."
        raise ChartError(message, path=folder, hint=hint)
    files = draft_files(folder, record)
    drawn = [folder / name for name in names_in(record) if _is_chart(name)]
    changed = [f.name for f in drawn if f.is_file() and f not in files]
    if changed:
        message = f"contains {', '.join(changed)}, changed since the draft was made."
        hint = "Publish the correction with `floemap publish`, or give the file that you mean."
        raise ChartError(message, path=folder, hint=hint)
    if not files:
        hint = "Make the chart again with --only chart."
        raise ChartError(f"contains no polygons that are as {DRAFT_RECORD} says.", path=folder, hint=hint)
    return files[0]


def names_in(record: Mapping[str, Any]) -> list[str]:
    """Return the names of the files that a record lists."""
    files = record.get("files")
    return [str(name) for name in files] if isinstance(files, Mapping) else []


def is_as_made(path: Path, record: Mapping[str, Any], name: str | None = None) -> bool:
    """Return whether a file has the SHA-256 that a record gives for its name, and no log of changes beside it.

    `name` is its path in the record's folder, by default the file's name.
    """
    log = path.with_name(f"{path.name}-wal")
    try:
        if log.is_file() and log.stat().st_size:
            return False
        return bool(sha256(path) == record["files"][name or path.name]["sha256"])
    except (FloemapError, OSError, *MISSHAPEN):
        return False
