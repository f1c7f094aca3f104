"""Descriptions of any file or folder that floemap reads, and of what is wrong with it (``floemap info``)."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floemap.datasets.ai4arctic.scenes import parse_name
from floemap.errors import MISSHAPEN, PACKAGES_OF_LEARNING, ConfigError, FloemapError, OutputError, ProductError
from floemap.files import regular_file_or_folder
from floemap.icechart.read.sources import datasets_of
from floemap.own_rasters import raster_problems
from floemap.own_results import RECORDS, describe_result
from floemap.results.folders import told_sources
from floemap.results.stage import recorded, refuse_within, write_json
from floemap.sentinel1.safe.container import MANIFEST, holds_manifest
from floemap.zips import UNREADABLE

if TYPE_CHECKING:
    from floemap.icechart.read.sigrid3 import Chart
    from floemap.study.settings import Study

#: Kinds of files in folders by suffix, and the further files of a shapefile.
_BY_SUFFIX: Mapping[str, str] = {
    **dict.fromkeys((".shp", ".gpkg", ".geojson", ".fgb", ".gml"), "Polygons"),
    ".safetensors": "Model",
    ".toml": "Settings",
    ".nc": "NetCDF",
    ".tif": "Raster",
    ".tiff": "Raster",
}
_OF_SHAPEFILES = (".shx", ".dbf", ".prj", ".cpg", ".qml", ".xml")
_KNOWN = (
    "floemap knows Sentinel-1 products (a folder with manifest.safe, a zip), ice charts (.shp, .gpkg, .geojson, .fgb, "
    ".gml), models (.safetensors), settings (.toml), rasters (.tif), AI4Arctic's files (.nc), and the results of its "
    "own commands."
)
#: How many entries of a folder are read, and how many are shown.
_MOST, _SHOWN = 1000, 20
#: Maker and name of the file of a description.
COMMAND, RECORD = "floemap info", "info.json"


@dataclass(frozen=True)
class Description:
    """Description of a file or folder.

    Attributes
    ----------
    facts
        The description as JSON has it, with None for NaN and infinity.
    lines
        The description for people, as (name, words).
    problems
        What is wrong with it. If there is a problem, it cannot be used as it is.
    chart
        The chart, if it is one, for :func:`floemap.icechart.preview.draw_chart_map`.
    """

    facts: dict[str, Any]
    lines: list[tuple[str, str]]
    problems: tuple[str, ...] = ()
    chart: Chart | None = None


def describe(path: str | Path, *, layer: str | None = None, crs: str | None = None) -> Description:
    """Describe what is at `path`: a Sentinel-1 product, an ice chart, a trained model, or the result of a command.

    Parameters
    ----------
    layer, crs
        Layer and CRS of an ice chart; see :func:`floemap.icechart.read.sigrid3.read_chart`.

    Raises
    ------
    FloemapError
        If it does not exist, is not of a kind that floemap knows, or is not a chart and a layer or a CRS is given.
    """
    found = _describe(Path(path), layer, crs)
    if found.chart is None and (given := [n for n, v in (("layer", layer), ("crs", crs)) if v is not None]):
        hint = "Leave it out: it is for ice charts."
        raise ConfigError(f"is not an ice chart, and takes no {' or '.join(given)}.", path=path, hint=hint)
    return replace(found, facts=_without_nan(found.facts))


def _without_nan(value: Any) -> Any:
    """Return a JSON-ready value with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _describe(path: Path, layer: str | None, crs: str | None) -> Description:
    regular_file_or_folder(path)
    if path.is_dir():
        return _folder(path)
    suffix = path.suffix.lower()
    if path.name in ("product.tif", "product.json"):
        return _prepared(path.parent)
    if suffix == ".safetensors":
        return _checkpoint(path)
    product = next((p for p in list(path.resolve().parents)[:3] if holds_manifest(p)), None)
    if product is not None:
        return _part_of(_product(product), path, product)
    if suffix == ".nc" and parse_name(path.name) is not None:
        return _scene_file(path)
    result = describe_result(path)
    if result is not None:
        folder = Path(result[0]["path"])
        whole = _prepared(folder) if result[0]["kind"] == "prepared product" else _result(*result)
        return whole if path.name in RECORDS else _part_of(whole, path, Path(result[0]["path"]).resolve())
    if suffix in (".tif", ".tiff"):
        return _raster(path)
    if suffix == ".toml":
        return _settings(path)
    if suffix == ".nc":
        return _scene_file(path)
    if _is_product(path):
        return _product(path)
    shape = path.with_name(path.name.removesuffix(".xml")).with_suffix(".shp")
    if suffix in _OF_SHAPEFILES and shape.is_file():
        return _part_of(_chart(shape, layer, crs), path, shape)
    return _chart(path, layer, crs)


def _part_of(whole: Description, part: Path, of: Path) -> Description:
    """Return the description of a whole as that of a file that belongs to it."""
    lines = [("File", f"{part.name}, which belongs to {of.name}"), *whole.lines]
    return replace(whole, facts=whole.facts | {"file": str(part)}, lines=lines)


def write_description(description: Description, out: str | Path) -> None:
    """Write ``info.json`` into the folder `out`, and for a chart ``map.png``.

    Raises
    ------
    OutputError
        If they cannot be written, or would replace other files, or those of another description.
    """
    out = Path(out)
    record, picture = out / RECORD, out / "map.png"
    refuse_within(out, into=True)
    before = recorded(record)
    made = {"described_by": COMMAND} | told_sources(out, {"described": Path(description.facts["path"])})
    ours = all(before.get(key) == value for key, value in made.items())
    for path in (record, picture):
        if os.path.lexists(path) and not (ours and path.is_file() and not path.is_symlink()):
            raise OutputError(
                "already exists and is not the description of the same thing.",
                path=path,
                hint="Move it, or choose another --out.",
            )
    write_json(record, description.facts | made)  # first: it tells the next run what a killed one left
    if description.chart is not None:
        from floemap.icechart.preview import draw_chart_map

        draw_chart_map(description.chart, picture)


def _folder(path: Path) -> Description:
    """Describe a folder: the result that it is, or else the things in it."""
    if holds_manifest(path) or path.suffix.lower() == ".safe":
        return _product(path)
    if (path / "product.json").is_file():
        return _prepared(path)
    result = describe_result(path)
    if result is not None:
        return _result(*result)
    if datasets_of(path):
        return _chart(path, None, None)
    held = [(kind, p.name) for p in sorted(path.iterdir())[:_MOST] if (kind := _kind_of(p)) is not None]
    if not held:
        raise FloemapError("is a folder that contains nothing that floemap knows.", path=path, hint=_KNOWN)
    counts = Counter(kind for kind, _ in held)
    words = ", ".join(f"{kind} ({n})" for kind, n in counts.items())
    facts = {"kind": "folder", "path": str(path), "holds": [{"kind": kind, "name": name} for kind, name in held]}
    return Description(facts, [("Folder", path.resolve().name), ("Contains", words), *held[:_SHOWN]])


def _kind_of(path: Path, *, deep: bool = True) -> str | None:
    """Return the kind of something in a folder, from its name and the names in it; None if floemap does not know it."""
    if path.is_dir():
        if holds_manifest(path):
            return "Sentinel-1 product"
        if datasets_of(path):
            return "Ice chart, S-411"
        result = describe_result(path)
        if result is not None:
            return f"{result[1][0][0]}{', SIMULATED' if result[0]['simulated'] else ''}"
        within = sorted(path.iterdir())[:_MOST] if deep else []
        return "Folder" if any(_kind_of(p, deep=False) for p in within) else None
    if path.suffix.lower() == ".zip":
        return "Sentinel-1 product" if _is_product(path) else "archive"
    return _BY_SUFFIX.get(path.suffix.lower())


def _settings(path: Path) -> Description:
    """Describe a file of settings: the command that reads it, found by its keys, and what it sets."""
    from floemap.config import Settings, read_toml
    from floemap.inference.draftchart.settings import ChartSettings
    from floemap.sentinel1.settings import PrepareSettings
    from floemap.study.settings import Study

    keys = read_toml(path).keys()
    kinds: tuple[tuple[str, type[Settings]], ...] = (
        ("floemap compare and floemap train, a study", Study),
        ("floemap chart --config", ChartSettings),
        ("floemap prepare --config", PrepareSettings),
    )
    use, kind = max(kinds, key=lambda k: len(keys & k[1].model_fields.keys()))
    facts: dict[str, Any] = {"kind": "settings", "path": str(path), "for": use}
    lines = [("Settings", path.name), ("For", use)]
    if not keys & kind.model_fields.keys():
        raise FloemapError(
            f"is TOML, but has none of the keys that floemap knows: {', '.join(keys) or 'it is empty'}.", path=path
        )
    try:
        read = kind.from_toml(path)
        unchecked = _checked(read) if isinstance(read, Study) else None
    except FloemapError as e:
        return Description(facts, lines, (str(e if e.path else ConfigError(e.message, path=path, hint=e.hint)),))
    found = read.model_dump(mode="json", exclude_unset=True)
    lines += [("Not checked", unchecked)] if unchecked else []
    return Description(facts | {"settings": found}, [*lines, *_set(found)])


def _checked(study: Study) -> str | None:
    """Check all trainings of a study, without their files; return what was not checked."""
    from floemap.study.cells import check_without_files

    try:
        return check_without_files(study)
    except ModuleNotFoundError as e:
        if e.name not in PACKAGES_OF_LEARNING:
            raise
        return f"losses and models, which need the package {e.name}"


def _set(values: Mapping[str, Any], table: str = "") -> Iterator[tuple[str, str]]:
    """Yield settings, those of tables by dotted keys."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _set(value, f"{table}{key}.")
        else:
            yield f"{table}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_product(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as z:
            return any(n.lower().endswith(MANIFEST) for n in z.namelist())
    except UNREADABLE:
        return True  # the reader's error says what is wrong with it


def _raster(path: Path) -> Description:
    """Describe a raster without a record beside it: its grid, bands and tags."""
    from floemap.cog import open_raster, read_geobox
    from floemap.grid import brief

    grid = brief(read_geobox(path))
    with open_raster(path) as d:
        bands = [str(name or number) for number, name in enumerate(d.descriptions, 1)]
        tags = {str(k): str(v) for k, v in d.tags().items() if k != "AREA_OR_POINT"}
    simulated = tags.get("simulated") == "yes"
    facts = {"kind": "raster", "path": str(path), "simulated": simulated, "grid": grid, "bands": bands, "tags": tags}
    lines = [
        ("Raster", f"{path.name}{', SIMULATED' if simulated else ''}"),
        ("Grid", grid),
        ("Bands", ", ".join(bands)),
    ]
    return Description(facts, lines + [(name.capitalize(), value) for name, value in tags.items()])


def _scene_file(path: Path) -> Description:
    from floemap.datasets.ai4arctic.describe import describe_scene_file

    return Description(*describe_scene_file(path))


def _prepared(folder: Path) -> Description:
    from floemap.sentinel1.bands import BANDS
    from floemap.sentinel1.describe import describe_prepared, prepared_lines

    facts = describe_prepared(folder)
    try:
        lines = prepared_lines(facts)
    except MISSHAPEN as e:
        raise FloemapError(f"lacks a field or has a wrong value: {e}.", path=folder / "product.json") from e
    problems = list(raster_problems(folder / "product.json", facts, {"product.tif": [b.name for b in BANDS]}))
    layers = sorted((folder / "layers").glob("*/layer.json"))
    if layers:
        names = [path.parent.name for path in layers]
        facts, lines = {**facts, "layers": names}, [*lines, ("Layers", ", ".join(names))]
        problems += [problem for path in layers for problem in raster_problems(path, recorded(path))]
    return Description(facts | {"problems": problems}, lines, tuple(problems))


def _result(facts: dict[str, Any], lines: list[tuple[str, str]]) -> Description:
    """Return the description of the result of a command, with what is wrong with its rasters."""
    folder = Path(facts["path"])
    record = next(folder / name for name in RECORDS if (folder / name).is_file())
    problems = tuple(raster_problems(record, facts["record"]))
    return Description(facts | {"problems": list(problems)}, lines, problems)


def _checkpoint(path: Path) -> Description:
    from floemap.learning.models.checkpoint_header import describe_checkpoint, find_legend

    facts, lines = describe_checkpoint(path)
    problems = []
    try:
        find_legend(facts["legend"], path)
    except FloemapError as e:
        problems.append(str(e))
    return Description(facts | {"problems": problems}, lines, tuple(problems))


def _product(path: Path) -> Description:
    from floemap.sentinel1.describe import describe_scene, scene_lines, scene_problems
    from floemap.sentinel1.safe.reader import open_scene

    problems: tuple[str, ...] = ()
    try:
        scene = open_scene(path)
    except ProductError as whole:
        try:
            scene = open_scene(path, pixels=False)
        except ProductError:
            raise whole from None
        problems = (str(whole),)
    facts = describe_scene(scene)
    problems = (*problems, *scene_problems(scene))
    return Description(facts | {"problems": list(problems)}, scene_lines(facts), problems)


def _chart(path: Path, layer: str | None, crs: str | None) -> Description:
    from floemap.icechart.describe import chart_facts, chart_lines, chart_problems
    from floemap.icechart.read.archives import OTHERS, SUFFIXES
    from floemap.icechart.read.sigrid3 import read_chart
    from floemap.icechart.read.sources import FORMATS

    suffix = path.suffix.lower()
    if suffix not in (*FORMATS, *SUFFIXES, *OTHERS) and not path.is_dir():
        raise FloemapError(
            f"has a format that floemap does not know ({suffix or 'no suffix'}).", path=path, hint=_KNOWN
        )
    chart = read_chart(path, layer=layer, crs=crs)
    facts = chart_facts(chart)
    problems = tuple(chart_problems(facts))
    return Description(facts | {"problems": list(problems)}, chart_lines(facts), problems, chart)
