"""Descriptions of the folders that floemap makes, from their records: labels, predictions, charts, trainings, others.

Each command leaves a JSON record in the folder of its result. Records may be edited or of other versions: a field that
is missing or of another type is left out of the description, and never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from floemap.errors import FloemapError
from floemap.grid import degrees
from floemap.results.stage import read_json

Lines = list[tuple[str, str]]
#: Fields of a training's best epoch that are shown.
_SHOWN = ("validation_loss", "weighted_f1", "macro_f1")
#: Files of results that their records do not list.
_BESIDE = ("SIMULATED.txt", "results.md", "split.json", "state.pt")
#: Kinds of results that are always simulated.
_SIMULATED = ("Simulated dataset", "Truth of a simulated scene")
#: A draft chart's spots to review first: polygons, but not an ice chart.
_SPOTS = "review.gpkg"


def describe_result(path: Path) -> tuple[dict[str, Any], Lines] | None:
    """Describe a folder that a command has made, or a file in one.

    Returns
    -------
    Facts, JSON-ready, and lines for people, (name, words); None if no command has made it.

    Raises
    ------
    FloemapError
        If the record cannot be read.
    """
    nearest = path if path.is_dir() else path.parent
    for folder in (nearest, nearest.parent):
        name = next((n for n in _KINDS if (folder / n).is_file()), None)
        if name is None:
            continue
        try:
            record = read_json(folder / name)
        except FloemapError:
            if path in (folder, folder / name):
                raise
            continue  # a file beside a damaged record is described by itself
        if path != folder and not _is_part(path.relative_to(folder).as_posix(), record):
            continue
        kind, lines_of = _KINDS[name]
        simulated = kind in _SIMULATED or _simulated(record)
        lines = [(kind, f"{folder.resolve().name}{', SIMULATED' if simulated else ''}")]
        made = [str(record[key]) for key in ("made_by", "software", "created") if key in record]
        lines += [("Made by", ", ".join(made))] if made else []
        try:
            lines += [line for line in lines_of(record) if line[1]]
        except ArithmeticError:  # from numbers too large to compute with
            lines.append(("Record", "contains numbers out of range"))
        return {"kind": kind.lower(), "path": str(folder), "simulated": simulated, "record": record}, lines
    return None


def _is_part(inside: str, record: Mapping[str, Any]) -> bool:
    """Whether a file or folder within a result belongs to it and is not a chart, which is described by itself."""
    chart = inside.lower().endswith((".gpkg", ".shp", ".geojson")) and inside != _SPOTS
    own = (*_KINDS, *_BESIDE, *_mapping(record.get("bytes")))
    return not chart and any(name == inside or str(name).startswith(f"{inside}/") for name in own)


def _simulated(record: Mapping[str, Any]) -> bool:
    summary, chart = _mapping(record.get("summary")), _mapping(record.get("chart"))
    return any(value in (True, "yes") for value in (record.get("simulated"), chart.get("simulated"))) or bool(
        summary.get("simulated")
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _pixels(record: Mapping[str, Any]) -> Lines:
    """Return the legend, and the share of each class and of pixels without one."""
    pixels = {k: n for k, n in _mapping(record.get("pixels")).items() if isinstance(n, int) and n >= 0}
    total = sum(pixels.values())
    shares = [f"{name.replace('_', ' ')} {n / total:.1%}" for name, n in pixels.items() if total]
    legend = _mapping(record.get("legend")).get("name", "")
    return [("Legend", str(legend)), ("Pixels", ", ".join(shares))]


def _names(value: Any) -> str:
    """Return the names of files from a record's mapping or list of them."""
    if isinstance(value, Mapping):
        return ", ".join(str(name) for name in value)
    return ", ".join(str(_mapping(entry).get("file", "")) for entry in value) if isinstance(value, list) else ""


def _grid(record: Mapping[str, Any]) -> str:
    """Return shape, pixel size and CRS of a grid, in words."""
    grid = _mapping(record.get("grid"))
    shape, transform = grid.get("shape"), grid.get("transform")
    if not (isinstance(shape, list) and len(shape) == 2 and isinstance(transform, list) and transform):
        return "not recorded"
    return f"{shape[0]} x {shape[1]} px of {transform[0]} m in {grid.get('crs')}"


def _labels(record: Mapping[str, Any]) -> Lines:
    chart, inputs = _mapping(record.get("chart")), _mapping(record.get("inputs"))
    decided = _mapping(record.get("decisions"))
    return [
        ("Chart", f"{chart.get('file', '')}, {chart.get('polygons', '?')} polygons"),
        ("Grid of", f"{_names(inputs.get('like'))}, {_grid(record)}"),
        *_pixels(record),
        ("Decided by", ", ".join(f"{str(rule).replace('_', ' ')} {n}" for rule, n in decided.items())),
    ]


def _prediction(record: Mapping[str, Any]) -> Lines:
    product, model = _mapping(record.get("product")), _mapping(record.get("model"))
    return [("Product", str(product.get("name", ""))), ("Model", str(model.get("file", ""))), *_pixels(record)]


def _chart(record: Mapping[str, Any]) -> Lines:
    polygons, land = _mapping(record.get("polygons")), _mapping(record.get("land"))
    areas = {str(k): v for k, v in _mapping(polygons.get("area_km2")).items() if isinstance(v, int | float)}
    spots = record.get("review_spots")
    lines = [
        ("Status", str(record.get("status", ""))),
        ("Product", str(_mapping(record.get("product")).get("file", ""))),
        ("Models", _names(record.get("models"))),
        ("Land mask", str(land.get("land_mask", ""))),
        *_pixels(record),
        ("Polygons", str(polygons.get("count", ""))),
    ]
    for name, area in sorted(areas.items(), key=lambda pair: -pair[1]):
        lines.append((f"  {name.replace('_', ' ')}", f"{area:,.0f} km²"))
    for i, spot in enumerate(spots[:5] if isinstance(spots, list) else [], 1):
        place = [spot.get(k) for k in ("lat_deg", "lon_deg")] if isinstance(spot, Mapping) else []
        if len(place) == 2 and all(isinstance(v, int | float) for v in place):
            lat, lon = (round(float(v), 3) for v in place if v is not None)
            where = f"{degrees(lat, 'lat')} {degrees(lon, 'lon')}"
            lines.append(("Review first" if i == 1 else "", f"{i}. {where}"))
    return lines


def _scores(record: Mapping[str, Any]) -> Lines:
    lines = [("Scene", str(record.get("scene", "")))]
    for name, entry in _mapping(record.get("scores")).items():
        f1 = _mapping(_mapping(entry).get("scores")).get("weighted_f1")
        lines.append((f"  {name}", f"weighted F1 {f1:.3f}" if isinstance(f1, float) else ""))
    return lines


def _training(record: Mapping[str, Any]) -> Lines:
    best = _mapping(record.get("best"))
    scores = [f"{name.replace('_', ' ')} {best[name]:.4g}" for name in _SHOWN if isinstance(best.get(name), float)]
    return [
        ("Legend", str(record.get("legend", ""))),
        ("Epochs", f"{record.get('epochs', '?')}; reason for the end: {record.get('stopped', 'not recorded')}"),
        ("Kept", ", ".join([f"the weights of epoch {best['epoch']}", *scores]) if "epoch" in best else ""),
    ]


def _cell(record: Mapping[str, Any]) -> Lines:
    tested = record.get("tested")
    scenes = [str(_mapping(entry).get("scene", "")) for entry in tested] if isinstance(tested, list) else []
    loss = f"{record.get('loss', '?')}, training {record.get('repeat', '?')}"
    return [("Loss", loss), ("Test scenes", ", ".join(scenes))]


def _comparison(record: Mapping[str, Any]) -> Lines:
    cells = record.get("cells")
    names = [str(_mapping(c).get("cell", "")) for c in cells] if isinstance(cells, list) else []
    summary = _mapping(record.get("summary"))
    lines = [("Study", str(record.get("study", _mapping(record.get("configuration")).get("name", ""))))]
    lines += [("Cells", ", ".join(names))] if names else []
    for group in summary.get("groups", []) if isinstance(summary.get("groups"), list) else []:
        f1 = _mapping(_mapping(_mapping(_mapping(group).get("scores")).get("primary")).get("weighted_f1")).get("mean")
        words = f"weighted F1 {f1:.3f}" if isinstance(f1, float) else "scores in results.json"
        lines.append((f"  {_mapping(group).get('loss', 'loss')}", words))
    failed = _mapping(record.get("failed"))
    return [*lines, ("Failed", ", ".join(map(str, failed)))]


def _report(record: Mapping[str, Any]) -> Lines:
    findings = record.get("findings")
    return [("Finding", str(sentence)) for sentence in (findings if isinstance(findings, list) else [])]


def _twin(record: Mapping[str, Any]) -> Lines:
    made = _mapping(record.get("configuration"))
    return [("Size", f"{made.get('size', '?')}, seed {made.get('seed', '?')}")]


def _plain(record: Mapping[str, Any]) -> Lines:
    return [("Scene", str(record.get("scene", "")) if isinstance(record.get("scene"), str) else "")]


#: Kinds of result folders by the name of their record, each with the function that describes it. The first record that
#: a folder has decides.
_KINDS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Lines]]] = {
    "label.json": ("Labels", _labels),
    "chart.json": ("Draft chart", _chart),
    "prediction.json": ("Prediction", _prediction),
    "evaluation.json": ("Scores", _scores),
    "cell.json": ("Cell of a comparison", _cell),
    "results.json": ("Comparison", _comparison),
    "plan.json": ("Comparison that is not finished", _comparison),
    "training.json": ("Training", _training),
    "checks.json": ("Physical checks", _plain),
    "report.json": ("Report", _report),
    "part.json": ("Part of a scene", _plain),
    "twin.json": ("Simulated dataset", _twin),
    "truth.json": ("Truth of a simulated scene", _plain),
    "product.json": ("Prepared product", _plain),
    "fetch.json": ("Fetched dataset", _plain),
    "info.json": ("Description", _plain),
}
#: Names of the records.
RECORDS = tuple(_KINDS)
