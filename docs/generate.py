"""Write the reference pages that come from the code: commands, settings, classes, fields, licences.

    python docs/generate.py

A test fails where a page is stale.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from floemap.bundle.settings import BundleSettings
from floemap.cli import main as _registers_the_commands  # noqa: F401
from floemap.cli.app import _SHARED, app
from floemap.config import Settings
from floemap.evaluation.scoring.settings import EvaluateSettings
from floemap.icechart.label.polygon_table import CLASS_FIELD, FIELDS_AFTER, FIELDS_BEFORE, FLOE_FIELD
from floemap.icechart.label.settings import LabelSettings
from floemap.icechart.write.table import FIELDS
from floemap.inference.draftchart.settings import ChartSettings
from floemap.learning.losses import LOSSES, ValueLoss
from floemap.learning.losses.base import BaseLoss
from floemap.learning.losses.values import VALUE_LOSSES
from floemap.learning.models.registry import MODELS
from floemap.learning.settings import CropSettings, LossSettings, ModelSettings, TaskSettings, TrainingSettings
from floemap.legend import IGNORE, LEGENDS, STAGES
from floemap.own_legends import LegendClass, LegendTable
from floemap.publishing.settings import PublishSettings
from floemap.sentinel1.settings import PrepareSettings
from floemap.study.settings import (
    CompareSettings,
    DataSettings,
    LayerSettings,
    PredictSettings,
    SceneSettings,
    SplitSettings,
    Study,
)

DOCS = Path(__file__).resolve().parent
NOTE = "<!-- Made by docs/generate.py. Do not edit: change the {source}, then run it again. -->\n"


def commands(command: Any, words: tuple[str, ...] = ("floemap",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give all commands below a click command, those of groups after the group, as (words, command)."""
    if len(words) > 1:
        yield words, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, (*words, name))


def cli_page() -> str:
    """Return the CLI reference as Markdown, in the order in which ``--help`` shows the commands."""
    root = typer.main.get_command(app)
    shared = [p for p in root.commands["info"].params if p.name in _SHARED]
    parts = [
        NOTE.format(source="command's docstring and options"),
        "# Command line\n",
        "What `floemap COMMAND --help` says, command by command. Results go to stdout, progress and errors to stderr."
        " The exit code is 0 if all went well, 1 if something failed, 2 if an option is wrong, 130 if it was stopped"
        " by ctrl-C, 141 if nobody reads its output any more.\n",
        "Every command also has\n",
        "\n".join(_option(p, bool) for p in shared) + "\n",
    ]
    for words, command in commands(root):
        parts += _group(words, command) if _is_group(command) else _command(words, command)
    return "\n".join(parts).rstrip() + "\n"


def _is_group(command: Any) -> bool:
    return hasattr(command, "commands")


def _group(words: tuple[str, ...], command: Any) -> list[str]:
    full = [(*words, n) for n in command.commands]
    names = ", ".join(f"[`{' '.join(w)}`](#{'-'.join(w)})" for w in full)
    return [f"## {' '.join(words)}\n", f"{command.help} {names}.\n"]


def _command(words: tuple[str, ...], command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name not in _SHARED]
    kinds = _kinds(command)
    usage = " ".join([*words, "[OPTIONS]", *(_in_usage(p) for p in arguments)])
    lines = [f"{'#' * len(words)} {' '.join(words)}\n", f"```\n{usage}\n```\n", inspect.cleandoc(command.help) + "\n"]
    if arguments:
        lines += ["**Arguments**\n", "\n".join(_argument(p) for p in arguments) + "\n"]
    if options:
        lines += ["**Options**\n", "\n".join(_option(p, kinds[p.name]) for p in options) + "\n"]
    return lines


def _argument(p: Any) -> str:
    return f"- `{_metavar(p, Path)}`: {_sentence(p.help)}"


def _option(p: Any, kind: Any) -> str:
    """Return a line on an option `p` whose values are of a type `kind`."""
    names = ", ".join(f"`{'/'.join(pair)}`" for pair in _spellings(p))
    value = "" if p.is_flag else f" `{_metavar(p, kind)}`"
    needed = " (needed)" if p.required else ""
    return f"- {names}{value}{needed}: {_sentence(p.help)}{_choices(kind)}{_default(p)}"


def _spellings(p: Any) -> list[list[str]]:
    """Return the option's names, each with that of its contrary, if it has one."""
    return [[name, *p.secondary_opts[i : i + 1]] for i, name in enumerate(p.opts)]


def _kinds(command: Any) -> dict[str, Any]:
    """Return the type of each parameter's values, by its name: ``float`` of ``Annotated[float | None, ...]``."""
    parameters = inspect.signature(command.callback).parameters
    return {name: _bare(p.annotation) for name, p in parameters.items()}


def _bare(annotation: Any) -> Any:
    if get_origin(annotation) in (Annotated, list):
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return _bare(next(a for a in get_args(annotation) if a is not NoneType))
    return annotation


def _in_usage(p: Any) -> str:
    """Return an argument as the line of usage has it: in brackets where it may be left out, with dots where several."""
    name = _metavar(p, Path) + ("..." if p.nargs == -1 else "")
    return name if p.required else f"[{name}]"


def _metavar(p: Any, kind: Any) -> str:
    if p.metavar:
        return str(p.metavar)
    if "--out" in p.opts:
        return "DIR"
    return {Path: "PATH", int: "N", float: "NUMBER", str: "TEXT"}.get(kind, "CHOICE")


def _choices(kind: Any) -> str:
    if get_origin(kind) is Literal:
        values = get_args(kind)
    elif issubclass(kind, Enum):
        values = tuple(c.value for c in kind)
    else:
        return ""
    return f" One of {', '.join(f'`{v}`' for v in values)}."


def _default(p: Any) -> str:
    value = getattr(p.default, "value", p.default)
    if p.required or "default:" in p.help or value is None or value is False:
        return ""
    return f" Default: `{p.opts[0] if value is True else value}`."


def _sentence(text: str) -> str:
    """Return a help text on one line, ending in a stop."""
    words = " ".join(text.split())
    return words if words.endswith((".", ")")) else f"{words}."


#: What each section describes, in order: heading, model, and where it is set.
TABLES: Mapping[str, tuple[type[Settings], str]] = {
    "The study": (Study, "Top of the file."),
    "[data]": (DataSettings, ""),
    "[data.legend]": (LegendTable, "A file with these keys can be named instead, also with `floemap label --legend`."),
    "[[data.legend.classes]]": (LegendClass, "One such table for each class."),
    "[[data.scenes]]": (SceneSettings, "One such table for each scene."),
    "[data.prepare]": (PrepareSettings, "Also what `floemap prepare --config` reads, without a table's head."),
    "[data.layers.NAME]": (
        LayerSettings,
        "One such table for each layer; options has the keys of `floemap layer from-raster`. "
        "[Learn from more than radar](howto/layers.md) has examples.",
    ),
    "[split]": (SplitSettings, ""),
    "[model]": (ModelSettings, f"Names: {', '.join(MODELS)}, or an [import string](tutorial-model.md)."),
    "[loss]": (LossSettings, "[Losses](losses.md) lists names and options."),
    "[tasks.NAME]": (TaskSettings, ""),
    "[crops]": (CropSettings, ""),
    "[training]": (TrainingSettings, ""),
    "[compare]": (CompareSettings, ""),
    "[predict]": (PredictSettings, ""),
    "[score]": (EvaluateSettings, ""),
    "Charts": (
        ChartSettings,
        "Of `floemap chart`, whose `--config` reads them from a file of their own, and `floemap.make_chart`."
        " `[prepare]` is as `[data.prepare]` above.",
    ),
    "Publications": (
        PublishSettings,
        "Of `floemap publish`, whose `--config` reads them from a file of their own, and `floemap.publish_chart`.",
    ),
    "Bundles": (
        BundleSettings,
        "Of `floemap bundle`, whose `--config` reads them from a file of their own, and `floemap.make_bundle`.",
    ),
    "Labels": (
        LabelSettings,
        "Of `floemap label` and `floemap.label_chart`. A study sets `legend` and `unmapped` in `[data]`.",
    ),
}


def settings_page() -> str:
    """Return all settings as Markdown: key, what it may be, default, meaning."""
    parts = [
        NOTE.format(source="settings' own words"),
        "# Settings\n",
        "A study is one TOML file, read by `floemap train` and `floemap compare`. It holds what differs from the"
        " defaults; an unknown key or a value out of range is an error that names it. `configs/` has examples. From"
        ' Python: `floemap.Study.from_toml("study.toml")`, or `floemap.Study.checked(...)` with the same keys.\n',
    ]
    for title, (model, where) in TABLES.items():
        heading = title if title in ("The study", "Charts", "Publications", "Bundles", "Labels") else f"`{title}`"
        parts += [f"## {heading}\n", " ".join(filter(None, [inspect.cleandoc(model.__doc__ or ""), where])) + "\n"]
        parts += ["\n".join(_setting(name, f) for name, f in model.model_fields.items()) + "\n"]
    return "\n".join(parts).rstrip() + "\n"


def _setting(name: str, field: Any) -> str:
    nested = inspect.isclass(field.annotation) and issubclass(field.annotation, Settings)
    about = f"a table: {_sentence(field.description)}" if nested else _sentence(field.description)
    if nested or name in ("scenes", "classes", "tasks"):
        return f"- `{name}`: {about}"
    return f"- `{name}`: {about}{_range(field)}{_unless_given(field)}"


def _unless_given(field: Any) -> str:
    if field.is_required():
        return " Needed."
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "" if "default" in field.description.lower() else " Default: none."
    return f" Default: {_value(value)}."


def _value(value: Any) -> str:
    """Return a value as TOML has it."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        inside = [_value(v).strip("`") for v in value]
        return f"`[{', '.join(inside)}]`"
    if isinstance(value, dict):
        return "`{}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _range(field: Any) -> str:
    """Say what values are allowed: choices or limits."""
    if get_origin(field.annotation) is Literal:
        return f" One of {', '.join(_value(v) for v in get_args(field.annotation))}."
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    limits = [
        f"{word} {getattr(m, key):g}"
        for key, word in words.items()
        for m in field.metadata
        if getattr(m, key, None) is not None
    ]
    return f" {', '.join(limits).capitalize()}." if limits else ""


def legends_page() -> str:
    """Return all legends as Markdown: id, key, title, colour and SIGRID-3 codes of each class."""
    parts = [
        NOTE.format(source="tables in floemap/legend.py"),
        "# Classes\n",
        f"Class ids in rasters, by legend. {IGNORE} is no class in any of them. Stages are SIGRID-3 codes of stage of"
        " development, colours the WMO's. Polygons of water are water whatever their stage; which stage decides is"
        " in [charts](charts.md#which-class-a-polygon-gets). A file can give a"
        " [legend of your own](howto/own-data.md#classes-of-your-own).\n",
    ]
    for table in LEGENDS.values():
        rows = [
            f"| {c.id} | `{c.key}` | {c.title} | {_codes(c.stages)} | #{bytes(c.rgb).hex()} |" for c in table.classes
        ]
        parts += [
            f"## `{table.name}`\n",
            f"{table.title}. Water is {table.water}. Without a label: stages {_codes(table.ignored_stages)}.\n",
            "\n".join(["| id | key | title | stages | colour |", "| --- | --- | --- | --- | --- |", *rows]) + "\n",
        ]
    stages = "\n".join(f"| {code} | {words} |" for code, words in STAGES.items())
    parts += ["## Stages of development\n", f"| code | stage |\n| --- | --- |\n{stages}\n"]
    return "\n".join(parts).rstrip() + "\n"


def _codes(stages: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(stages))) or "–"


def fields_page() -> str:
    """Return the fields of a draft chart's polygons, and of those of labels, as Markdown."""
    labels = {f"`{name}`": what for name, what in FIELDS_BEFORE.items()}
    labels |= {"each class's key": CLASS_FIELD} | {
        f"`{name}`": what for name, what in (*FIELDS_AFTER.items(), *FLOE_FIELD.items())
    }
    return (
        NOTE.format(source="tables in floemap/icechart/write/table.py and floemap/icechart/label/polygon_table.py")
        + "# Fields of polygons\n\n## Draft charts\n\n"
        "Of the polygons in `chart.gpkg`, `chart.geojson` and the SIGRID-3 shapefile; what they mean together is in"
        f" [Draft charts](draft-charts.md).\n\n{_fields({f'`{name}`': what for name, what in FIELDS.items()})}\n"
        "## Labels\n\nOf `polygons.csv` beside `labels.tif`, a row for each polygon that has pixels in `polygons.tif`;"
        f" [Ice charts to labels](charts.md#polygons) says how shares are counted.\n\n{_fields(labels)}"
    )


def _fields(fields: Mapping[str, str]) -> str:
    rows = "\n".join(f"| {name} | {what} |" for name, what in fields.items())
    return f"| field | what |\n| --- | --- |\n{rows}\n"


def losses_page() -> str:
    """Return all losses as Markdown: name, formula, source, options."""
    parts = [
        NOTE.format(source="docstrings in floemap/learning/losses"),
        "# Losses\n",
        "The names for `[loss] name` and `[compare] losses`, with the options for `[loss.options]`. Class weights are"
        " `[loss] class_weights`, for the losses that take them. p is the softmax probability. Pixels without a label"
        " never count. Sums are over the whole batch, over all GPUs. A loss of your own is named by import string:"
        " [tutorial](tutorial-research.md#a-loss-of-your-own).\n",
    ]
    names: dict[type[BaseLoss], list[str]] = {}
    for name, cls in LOSSES.items():
        names.setdefault(cls, []).append(name)
    for cls, known in names.items():
        parts += _loss("##", known, cls, f"Class weights: {'yes' if cls.takes_weights else 'no'}.\n")
    parts += [
        "## Losses of values\n",
        "The names for `[tasks.NAME] loss` of heads that learn a value, such as the concentration of ice"
        " ([several tasks](howto/several-tasks.md)). All are means over the pixels where the value is known.\n",
    ]
    for name, value_loss in VALUE_LOSSES.items():
        parts += _loss("###", [name], value_loss)
    return "\n".join(parts).rstrip() + "\n"


def _loss(level: str, names: Sequence[str], cls: type[BaseLoss] | type[ValueLoss], *further: str) -> list[str]:
    """Return a loss as Markdown: its names, what it says of itself, and its options."""
    words = inspect.cleandoc(cls.__doc__ or "").split("\nRaises\n")[0].strip()
    parts = [f"{level} {', '.join(f'`{name}`' for name in names)}\n", words + "\n", *further]
    if cls.Options.model_fields:
        parts += ["\n".join(_setting(name, f) for name, f in cls.Options.model_fields.items()) + "\n"]
    return parts


#: What each group of dependencies in pyproject.toml is for.
GROUPS = {
    "": "Always needed",
    "learn": "Training and prediction",
    "engine": "Another engine for prediction",
    "fetch": "Downloads",
    "archive": "Many scenes on several processes or machines",
    "test": "Tests and checks of the code",
    "docs": "The documentation site",
    "peers": "Software to compare with, in benchmarks and tests",
}
#: Data files in the package that come from others: file, what it is, licence.
SHIPPED = (
    ("`sentinel1/egm2008.npz`", "Heights of the geoid EGM2008, every degree ([source](sentinel1.md))", "public domain"),
    (
        "`viewer/site/coast.geojson`",
        "Coasts beyond 40 degrees, from [Natural Earth](https://www.naturalearthdata.com) 4.1 at 1:50 million by the"
        " npm package world-atlas 2.0.2, made by `docs/coastline.py`",
        "public domain; world-atlas ISC",
    ),
    ("`viewer/site/vendor/ol.js`, `ol.css`", "[OpenLayers](https://openlayers.org) 10.11.0: maps", "BSD-2-Clause"),
    ("`viewer/site/vendor/geotiff.js`", "[geotiff.js](https://geotiffjs.github.io) 3.1.0-beta.0: rasters", "MIT"),
    ("`viewer/site/vendor/proj4.js`", "[proj4js](https://proj4js.org) 2.22.0: projections", "MIT"),
)


def dependencies() -> dict[str, list[str]]:
    """Return the names of the direct dependencies in pyproject.toml, by extra; those always needed under ""."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        extra: [found[0] for text in listed if (found := re.match(r"[A-Za-z0-9._-]+", text))]
        for extra, listed in groups.items()
    }


def licence_of(package: str) -> str | None:
    """Return the licence that an installed package states; None if the package is not installed."""
    try:
        about = metadata(package)
    except PackageNotFoundError:
        return None
    expression, text = about.get("License-Expression"), about.get("License") or ""
    if expression or 0 < len(text) <= 40:  # some packages have the whole text of their licence in this field
        return expression or text
    return ", ".join(c.rpartition(" :: ")[2] for c in about.get_all("Classifier", []) if c.startswith("License ::"))


def licences_page() -> str:
    """Return the licences of all direct dependencies, and of files from others, as Markdown.

    A package that is not installed keeps the licence that the page has.
    """
    path = DOCS / "licences.md"
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    known = dict(re.findall(r"^\| `(\S+)` \| (.+) \|$", before, re.MULTILINE))
    parts = [
        NOTE.format(source="dependencies in pyproject.toml"),
        "# Licences\n",
        "floemap is under the [Apache License 2.0](https://www.apache.org/licenses/LICENSE-2.0). This page lists its"
        " direct dependencies with the licences that their installed packages state. None of them is part of floemap:"
        " pip installs them. Packages with compiled code contain further libraries, such as GDAL, GEOS, PROJ and HDF5,"
        " whose licences are in those packages.\n",
    ]
    for extra, names in dependencies().items():
        rows = [f"| `{name}` | {licence_of(name) or known.get(name, 'not known')} |" for name in names]
        of_extra = f" (extra `{extra}`)" if extra else ""
        table = "\n".join(["| package | licence |", "| --- | --- |", *rows])
        parts += [f"## {GROUPS[extra]}{of_extra}\n", table + "\n"]
    rows = [f"| {' | '.join(row)} |" for row in SHIPPED]
    parts += [
        "## Files from others in the package\n",
        "\n".join(["| file | what | licence |", "| --- | --- | --- |", *rows]) + "\n",
        "`viewer/site/vendor/LICENCES.txt` has the whole texts, and those of the libraries that these contain.\n",
        "The model `models/floemap-simulated.safetensors` is floemap's, trained on simulated scenes only"
        " ([model card](model-card.md)). ImageNet weights and the ExtremeEarth dataset are not part of the package;"
        " `floemap fetch` downloads them from their publishers.\n",
        "The pages of the documentation contain the script `assets/iframe-worker/shim.js` by Martin Donath, under the"
        " MIT licence, so that their search works without a server.",
    ]
    return "\n".join(parts).rstrip() + "\n"


PAGES = {
    "losses.md": losses_page,
    "cli.md": cli_page,
    "settings.md": settings_page,
    "legends.md": legends_page,
    "fields.md": fields_page,
    "licences.md": licences_page,
}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
