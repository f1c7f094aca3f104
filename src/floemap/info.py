"""What is this, and what is wrong with it: any file or folder that floemap reads."""

from __future__ import annotations

import math
import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floemap.errors import MISSHAPEN, FloemapError, OutputError, ProductError
from floemap.files import regular_file
from floemap.folders import told_sources
from floemap.own_results import describe_result
from floemap.sentinel1.container import MANIFEST, holds_manifest
from floemap.stage import read_json, write_json
from floemap.zips import UNREADABLE

if TYPE_CHECKING:
    from floemap.charts.sigrid3 import Chart

#: What a description that is written says of itself, and its name.
COMMAND, RECORD = "floemap info", "info.json"


@dataclass(frozen=True)
class Description:
    """What something is.

    Attributes
    ----------
    facts
        JSON-ready: what is not a number is None.
    lines
        (name, words) for people.
    problems
        What is wrong with it, if anything; then it cannot be used as it is.
    chart
        The chart, where it is one, for :func:`floemap.charts.picture.draw_chart_map`.
    """

    facts: dict[str, Any]
    lines: list[tuple[str, str]]
    problems: tuple[str, ...] = ()
    chart: Chart | None = None


def describe(path: str | Path, *, layer: str | None = None, crs: str | None = None) -> Description:
    """Say what lies at `path`: a Sentinel-1 product, an ice chart, a trained model, or what a command has made.

    Parameters
    ----------
    layer, crs
        Of an ice chart; see :func:`floemap.charts.sigrid3.read_chart`.

    Raises
    ------
    FloemapError
        If there is nothing, or nothing that floemap knows.
    """
    found = _describe(Path(path), layer, crs)
    return replace(found, facts=_without_nan(found.facts))


def _without_nan(value: Any) -> Any:
    """Return a JSON-ready value with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _describe(path: Path, layer: str | None, crs: str | None) -> Description:
    if not os.path.isdir(path):  # noqa: PTH112  of a name that is too long, Path.is_dir raises an error
        regular_file(path)
    if (path / "product.json").is_file() or path.name in ("product.tif", "product.json"):
        return _prepared(path if path.is_dir() else path.parent)
    if path.suffix == ".safetensors":
        return _checkpoint(path)
    if not path.is_dir() or not holds_manifest(path):
        result = describe_result(path)
        if result is not None:
            return Description(*result)
    if path.suffix.lower() in (".tif", ".tiff") and path.is_file() and path.resolve().parent.name != "measurement":
        return _raster(path)
    if _is_product(path):
        return _product(path)
    if path.suffix.lower() == ".toml":
        raise FloemapError("is a file of settings.", path=path, hint="Give it to the command that takes it.")
    return _chart(path, layer, crs)


def write_description(description: Description, out: str | Path) -> None:
    """Write ``info.json`` into the folder `out`, and for a chart ``map.png``.

    Raises
    ------
    OutputError
        If they cannot be written, or would take the place of other files, or of those of another description.
    """
    out = Path(out)
    record, picture = out / RECORD, out / "map.png"
    try:
        before = read_json(record)
    except FloemapError:  # nothing, or nobody's record
        before = {}
    made = {"described_by": COMMAND} | told_sources(out, {"described": Path(description.facts["path"])})
    ours = all(before.get(key) == value for key, value in made.items())
    for path in (record, picture):
        if os.path.lexists(path) and not (ours and path.is_file() and not path.is_symlink()):
            raise OutputError("is there already.", path=path, hint="Move it, or choose another --out.")
    write_json(record, description.facts | made)  # first: by it the next run knows what a killed one left
    if description.chart is not None:
        from floemap.charts.picture import draw_chart_map

        draw_chart_map(description.chart, picture)


def _is_product(path: Path) -> bool:
    if path.is_dir():
        return holds_manifest(path) or not list(path.glob("*.shp"))
    if path.name.lower() == MANIFEST:
        return True
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as z:
            return any(n.lower().endswith(MANIFEST) for n in z.namelist())
    except UNREADABLE:
        return True  # the reader says what is wrong with it


def _raster(path: Path) -> Description:
    """Say what a raster is that lies without the record of who made it: its grid, bands, and what it says of itself."""
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


def _prepared(folder: Path) -> Description:
    from floemap.cog import read_geobox
    from floemap.sentinel1.describe import describe_prepared, prepared_lines

    facts = describe_prepared(folder)
    problems = []
    try:
        lines = prepared_lines(facts)
    except MISSHAPEN as e:
        raise FloemapError(f"lacks or has wrong: {e}.", path=folder / "product.json") from e
    try:
        read_geobox(folder / "product.tif")
    except FloemapError as e:
        problems.append(str(e))
    return Description(facts, lines, tuple(problems))


def _checkpoint(path: Path) -> Description:
    from floemap.learning.checkpoint_header import describe_checkpoint, find_legend

    facts, lines = describe_checkpoint(path)
    problems = []
    try:
        find_legend(facts["legend"], path)
    except FloemapError as e:
        problems.append(str(e))
    return Description(facts | {"problems": problems}, lines, tuple(problems))


def _product(path: Path) -> Description:
    from floemap.sentinel1.describe import describe_scene, scene_lines, scene_problems
    from floemap.sentinel1.safe import open_scene

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
    from floemap.charts.describe import chart_facts, chart_lines, chart_problems
    from floemap.charts.sigrid3 import read_chart

    chart = read_chart(path, layer=layer, crs=crs)
    facts = chart_facts(chart)
    problems = tuple(chart_problems(facts))
    return Description(facts | {"problems": list(problems)}, chart_lines(facts), problems, chart)
