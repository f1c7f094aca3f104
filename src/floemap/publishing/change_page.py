"""The report of changes: one self-contained HTML page, in the style of floemap's other reports."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib.resources import files
from io import BytesIO
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from floemap.cartography import class_legend, furnish, show_raster
from floemap.counts import counted
from floemap.grid import degrees
from floemap.icechart.dominant_type import ice_types
from floemap.icechart.label.rasterize import rasterize_polygons
from floemap.icechart.preview import DOTTED, chart_image, grid_around, kinds_and_colours, legend_entries
from floemap.icechart.read.sigrid3 import Chart
from floemap.publishing.changes import NOWHERE
from floemap.version import __version__

_PIXELS = 700
_CHANGED_RGB = (20, 20, 20)
#: Most changed polygons that the page lists; the JSON lists all.
_LISTED = 200


def change_page(changes: Mapping[str, Any], facts: Mapping[str, Any], draft: Chart, corrected: Chart) -> str:
    """Return the report of changes as HTML, which needs no other file or address.

    Parameters
    ----------
    changes
        What was changed, from :func:`floemap.publishing.changes.compare_with_draft`.
    facts
        Facts about the publication, by name: `title`, `simulated`, and lines for the table of how it was made.
    draft, corrected
        Both charts, for the map.
    """
    folder, styles = files("floemap.publishing") / "templates", files("floemap.report") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    context = {
        "css": Markup((styles / "report.css").read_text(encoding="utf-8")),
        "software": f"floemap {__version__}",
        "title": facts["title"],
        "simulated": facts["simulated"],
        "made": [(k, v) for k, v in facts.items() if k not in ("title", "simulated")],
        "findings": _findings(changes),
        "tables": [_areas(changes), _confusion(changes), *_shares(changes), _polygons(changes), _left(changes)],
        "map": base64.b64encode(_map(draft, corrected)).decode(),
    }
    return environment.get_template("changes.html.jinja").render(context)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _km2(value: float) -> str:
    return f"{value:,.1f}"


def _findings(changes: Mapping[str, Any]) -> list[str]:
    total, polygons = changes["total"], changes["polygons"]
    moved = polygons["moved"] + polygons["moved, other egg"]
    found = [
        f"{_percent(total['other_type_share'])} of the draft's area at sea has another dominant type, "
        f"{_percent(total['other_egg_share'])} another egg.",
        f"Borders of {counted(moved, 'polygon')} moved; {counted(polygons['new'], 'polygon is|polygons are')} new, "
        f"{counted(polygons['removed'], 'polygon was|polygons were')} removed.",
    ]
    if changes["minutes"] is not None:
        found.append(f"The correction took {changes['minutes']:g} min.")
    if changes["left_as_drafted"]:
        found.append(f"Left as in the draft: {counted(len(changes['left_as_drafted']), 'place')} to review.")
    return found


def _table(title: str, header: list[str], rows: list[list[str]], *notes: str) -> dict[str, Any]:
    return {"title": title, "header": header, "rows": rows, "notes": list(notes)}


def _areas(changes: Mapping[str, Any]) -> dict[str, Any]:
    rows = [[a["type"], _km2(a["draft"]), _km2(a["correction"]), f"{a['change']:+,.1f}"] for a in changes["area_km2"]]
    return _table("Area by dominant type", ["Type", "Draft, km²", "Correction, km²", "Change, km²"], rows)


def _confusion(changes: Mapping[str, Any]) -> dict[str, Any]:
    table = changes["confusion_km2"]
    types = [a["type"] for a in changes["area_km2"]] + [NOWHERE]
    columns = [t for t in types if any(t in row for row in table.values())]
    rows = [[t, *(_km2(table[t].get(c, 0.0)) for c in columns)] for t in types if t in table]
    note = "Rows: type in the draft. Columns: type in the correction. Areas in km²."
    return _table("Draft against correction", ["In the draft", *columns], rows, note)


def _shares(changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    head = ["Area, km²", "Another type", "Another egg"]

    def cells(entry: Mapping[str, Any]) -> list[str]:
        return [_km2(entry["km2"]), _percent(entry["other_type_share"]), _percent(entry["other_egg_share"])]

    by_type = [[e["type"], *cells(e)] for e in changes["by_type"]]
    sure = [[_range(e), *cells(e)] for e in changes["by_confidence"]]
    return [
        _table("What was changed, by type of the draft", ["Type", *head], by_type),
        _table("What was changed, by confidence of the draft", ["Confidence", *head], sure),
    ]


def _range(entry: Mapping[str, Any]) -> str:
    return "unknown" if entry["from"] is None else f"{entry['from']:g} to {entry['to']:g}"


def _place(entry: Mapping[str, Any]) -> str:
    if entry["lat_deg"] is None:
        return ""
    return f"{degrees(round(entry['lat_deg'], 3), 'lat')} {degrees(round(entry['lon_deg'], 3), 'lon')}"


def _type_and_egg(side: Mapping[str, Any]) -> str:
    """Return a polygon's type, and its egg if it has one: water and land have none."""
    return f"{side['type']} {side['egg']}".rstrip()


def _polygons(changes: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for entry in changes["changed"][:_LISTED]:
        sides = [entry.get("draft"), entry.get("correction")]
        words = ["" if s is None else f"{_type_and_egg(s)}, {_km2(s['km2'])} km²" for s in sides]
        number = "" if entry["polygon"] is None else str(entry["polygon"])
        rows.append([number, entry["change"], _place(entry), *words])
    more = len(changes["changed"]) - len(rows)
    notes = [f"{more} more are in changes.json."] if more else []
    return _table("Changed polygons", ["Polygon", "Change", "Place", "Draft", "Correction"], rows, *notes)


def _left(changes: Mapping[str, Any]) -> dict[str, Any]:
    spots = changes["left_as_drafted"]
    rows = [[_place(s), *(str(s.get(k, "")).replace("_", " ") for k in ("class", "other"))] for s in spots]
    title = "Places that the draft gave for review and that are as in the draft"
    return _table(title, ["Place", "Class", "Or"], rows)


def _map(draft: Chart, corrected: Chart) -> bytes:
    """Draw the correction, with what has another dominant type than in the draft hatched, as PNG."""
    geobox = grid_around(corrected, _PIXELS)
    kinds, colours = kinds_and_colours(corrected, ice_types(corrected, unmapped="ignore"))
    image, numbers = chart_image(corrected, geobox, colours)
    before = np.array(["", *kinds_and_colours(draft, ice_types(draft, unmapped="ignore"))[0]], object)
    after = np.array(["", *kinds], object)
    other = before[rasterize_polygons(draft, geobox)] != after[numbers]
    stripes = (np.add.outer(np.arange(image.shape[0]), np.arange(image.shape[1])) // 3) % 2 == 0
    image[other & stripes] = _CHANGED_RGB
    aspect = geobox.shape[0] / geobox.shape[1]
    height = 6.0 * min(aspect, 1.0)
    figure = Figure(figsize=(height / aspect + 2.4, height + 0.2), dpi=100, layout="compressed")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    show_raster(ax, image, geobox, interpolation="nearest")
    furnish(ax, geobox, colour="0.15")
    entries = [*legend_entries(kinds, colours, numbers), ("Another type than in the draft", _CHANGED_RGB)]
    class_legend(ax, entries, title="Dominant ice type", dotted=DOTTED)
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
