"""The folder of a draft chart: which outputs are missing, and which files somebody else has made or edited."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from floemap.errors import MISSHAPEN, FloemapError, OutputError
from floemap.icechart.polaris import SHIP_CLASSES
from floemap.inference.draftchart.files import files_of
from floemap.inference.draftchart.polaris_layer import polaris_names
from floemap.inference.draftchart.settings import OUTPUTS, ChartSettings, Output
from floemap.inference.draftchart.source import ChartSource
from floemap.inference.predict.scene_maps import PREDICT
from floemap.results.fields import at
from floemap.results.folders import is_note, told_sources
from floemap.results.stage import Stage, damaged, made_alike, read_json, sha256
from floemap.sentinel1.prepare import STAGE as PREPARE

RECORD, ITEM = "chart.json", "item.json"
#: Raise the revision when polygons, uncertainties or other files change that do not belong to the stages within.
STAGE = Stage("floemap chart", RECORD, revision=5, files=("*",), within=(PREPARE, PREDICT))


def missing_outputs(
    folder: Path, source: ChartSource, settings: ChartSettings, same: tuple[Mapping[str, Any], Mapping[str, Any]] | None
) -> list[Output]:
    """Return the outputs to make: none if all requested ones are there, made from the same inputs and configuration.

    If one is missing or was made differently, all outputs that are there are made again with it, so that all files of
    a folder fit together and no output is lost.

    Parameters
    ----------
    same
        Inputs and configuration that the chart must have been made from; None to make it in any case.
    """
    wanted = list(settings.outputs)
    try:
        record = read_json(folder / RECORD)
        known = {*record["outputs"], *record["left_out"]}
        as_made = same is not None and made_alike(record, STAGE, inputs=same[0], configuration=same[1])
        left_out = {*record["left_out"]}
    except (FloemapError, *MISSHAPEN):
        return wanted
    names = [n for o in wanted if o not in left_out for n in files_of(o, source.start, settings)]
    whole = not any(damaged(folder, record, (*names, ITEM)))
    if as_made and whole and known >= {*wanted}:
        return []
    return [o for o in OUTPUTS if o in {*wanted, *known}]


def with_made_classes(folder: Path, settings: ChartSettings) -> ChartSettings:
    """Return settings that also have the ice classes of a chart that is there, so that no layer of risk is lost."""
    try:
        names = {*at(read_json(folder / RECORD), "outputs.polaris", [])}
    except (FloemapError, *MISSHAPEN):
        return settings
    made = {ship for ship in SHIP_CLASSES if names & {*polaris_names(ship)}}
    return settings.model_copy(update={"ice_class": tuple(sorted({*settings.ice_class, *made}))})


def refuse_edited(
    folder: Path, source: ChartSource, read: Mapping[str, Path], inputs: Mapping[str, Any], *, replace_others: bool
) -> None:
    """Refuse to replace a chart whose files were changed since they were made: an analyst may have edited them.

    Unless `replace_others` is set, refuse also to replace the chart of another scene of the same name, or one made with
    another model or land mask.

    Parameters
    ----------
    read
        Paths that the chart is made from, by role; see :func:`floemap.results.folders.told_sources`.
    inputs
        Identities of these, as in the record.

    Raises
    ------
    OutputError
        If the chart must not be replaced, with the names of the files.
    """
    if not folder.is_dir():
        return
    try:
        record = read_json(folder / RECORD)
        made = {name: told["sha256"] for name, told in record["files"].items()}
    except (FloemapError, *MISSHAPEN):
        record, made = {}, {}
    there = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*"))}
    ours = {RECORD, ITEM, *(str(parent) for name in made for parent in PurePosixPath(name).parents)}
    others = {n: p for n, p in there.items() if not is_note(p.name) and (n not in ours or p.is_symlink())}
    edited = [n for n, p in others.items() if not p.is_file() or (p.stat().st_size and sha256(p) != made.get(n))]
    if edited:
        raise OutputError(
            f"contains files that floemap did not make or that were changed since: {', '.join(edited)}.",
            path=folder,
            hint="A new chart replaces the whole folder. Move these files elsewhere, or choose another --out;"
            " --overwrite does not replace them either.",
        )
    if record and not replace_others:
        another = "another product of the same name"
        other = another if _is_of_another(folder, record, source) else _by_other(folder, record, read, inputs)
        if other is not None:
            raise OutputError(
                f"contains the chart of {other}.",
                path=folder,
                hint=f"Choose another --out for {source.path}, or give --overwrite to replace the chart.",
            )


def _is_of_another(folder: Path, record: Mapping[str, Any], source: ChartSource) -> bool:
    """Return whether a chart is of another scene, or of another product of the scene in another place."""
    try:
        product, place = record["inputs"]["product"], record.get("sources", {}).get("scene")
        if datetime.fromisoformat(record["scene"]["start"]) != source.start:
            return True
    except MISSHAPEN:
        return False
    alike = isinstance(product, Mapping) and product.keys() == source.inputs["product"].keys()
    elsewhere = place is not None and place != told_sources(folder, {"scene": source.path})["scene"]
    return bool(alike and product != source.inputs["product"] and elsewhere)


def _by_other(
    folder: Path, record: Mapping[str, Any], read: Mapping[str, Path], inputs: Mapping[str, Any]
) -> str | None:
    """Return by which other model or land mask, in another place, a chart was made; None if by none."""
    told, before, now = record.get("sources"), record.get("inputs"), told_sources(folder, read)
    if not isinstance(told, Mapping) or not isinstance(before, Mapping):
        return None
    for key, role in (("models", "model"), ("land", "land mask")):
        theirs, ours = ({r: d for r, d in roles.items() if str(r).startswith(role)} for roles in (told, now))
        if theirs and ours and theirs != ours and before.get(key) != inputs.get(key):
            return f"the product made with another {role}"
    return None
