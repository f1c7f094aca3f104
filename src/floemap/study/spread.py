"""A comparison in steps that any number of processes and hosts may do, on a folder that they share.

:func:`plan_comparison` first, then :func:`run_cell` for each cell, in any order and number of times, then
:func:`gather_comparison`. Together they do what :func:`floemap.study.compare.compare` does, with the same results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from floemap.counts import counted
from floemap.errors import ConfigError, FloemapError, known_names
from floemap.progress import Progress, part_of, silent
from floemap.results.run_paths import DataPaths, RunPaths
from floemap.results.seen import remembering
from floemap.results.stage import alone_in, as_written, is_newer, one_at_a_time, read_json
from floemap.study.cells import Cell, plan
from floemap.study.compare import (
    STAGE,
    Comparison,
    checked_plan,
    data_folder,
    finish,
    refuse_several_tasks,
    write_plan,
)
from floemap.study.data import find_scenes, make_data
from floemap.study.run import run_cell as run_in_folder
from floemap.study.settings import Study

#: Cells that an error names of each kind.
_NAMED = 10


def plan_comparison(
    study: Study, out: str | Path, *, jobs: int | None = None, verify: bool = False, progress: Progress = silent
) -> tuple[str, ...]:
    """Check a comparison, write its ``plan.json``, prepare and label its scenes; return the names of its cells.

    Parameters
    ----------
    study, out, jobs, verify, progress
        See :func:`floemap.study.compare.compare`; `jobs` is the number of scenes to prepare at a time.

    Raises
    ------
    FloemapError
        As :func:`floemap.study.compare.compare` does before the first training.
    """
    out = Path(out)
    study, cells = checked_plan(study, out)
    data = data_folder(study, out)
    with alone_in(out, "compares in"), remembering(DataPaths(data).seen, verify=verify):
        write_plan(study, cells, out)
        with one_at_a_time(data):
            make_data(study.all_data(), data, jobs=jobs, progress=progress)
    return tuple(c.name for c in cells)


def run_cell(
    run: str | Path,
    cell: str | int,
    *,
    overwrite: bool = False,
    verify: bool = False,
    progress: Progress = silent,
) -> Path:
    """Train one model of a planned comparison, predict the test scenes and score them, or resume that.

    Parameters
    ----------
    run
        Folder of the comparison, from :func:`plan_comparison`.
    cell
        Name of the cell, or its number in the plan, from 0.
    overwrite, verify, progress
        See :func:`floemap.study.compare.compare`.

    Returns
    -------
    Path of the cell's record, ``cells/NAME/cell.json``.

    Raises
    ------
    ConfigError
        If the plan has no such cell, or this is one of several processes that were launched together.
    OutputError
        If another process runs the cell.
    FloemapError
        If the folder has no plan, or a step of the cell fails. Finished steps are kept.
    """
    refuse_several_tasks()
    run = Path(run)
    study, cells = read_plan(run)
    chosen = _chosen(cells, str(cell), run)
    data, paths = data_folder(study, run), RunPaths(run).cell(chosen.name)

    def cell_progress(done: float, total: float, what: str) -> None:
        progress(1 + 19 * done / total if total else 1, 20, what)

    with alone_in(paths.folder, "runs"), remembering(DataPaths(data).seen, verify=verify):
        with one_at_a_time(data):
            scenes = make_data(study.all_data(), data, jobs=1, progress=part_of(progress, 0, 20, "data"))
        run_in_folder(chosen, scenes, paths.folder, DataPaths(data), overwrite=overwrite, progress=cell_progress)
    return paths.record


def gather_comparison(run: str | Path, *, report: bool = True, progress: Progress = silent) -> Comparison:
    """Summarise the finished cells of a planned comparison, and write the results and the report.

    A cell that has not finished, or was run with other settings than those of the plan, counts as failed.

    Parameters
    ----------
    run, report, progress
        See :func:`run_cell` and :func:`floemap.study.compare.compare`.

    Raises
    ------
    FloemapError
        If the folder has no plan, or no cell has finished.
    OutputError
        If another run compares in the folder.
    """
    run = Path(run)
    study, cells = read_plan(run)
    with alone_in(run, "compares in"), remembering(DataPaths(data_folder(study, run)).seen):
        records, failed = [], {}
        for cell in cells:
            try:
                records.append(_finished(cell, run))
            except FloemapError as e:
                failed[cell.name] = str(e)
        if not records:
            raise _none_finished(cells, run)
        return finish(study, cells, run, records, failed, report, progress)


def _none_finished(cells: Sequence[Cell], run: Path) -> FloemapError:
    """Return the error of a comparison without a finished cell: what there is of each, and what makes them."""
    paths = [RunPaths(run).cell(c.name) for c in cells]
    ran = [p.folder.name for p in paths if p.record.exists()]
    begun = [p.folder.name for p in paths if p.folder.exists() and not p.record.exists()]
    others = [c.name for c in cells if c.name not in ran + begun]
    kinds = {"not begun": others, "begun": begun, "run with other settings than those of the plan, or damaged": ran}
    words = "; ".join(
        f"{kind}: {', '.join(names[:_NAMED])}{f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''}"
        for kind, names in kinds.items()
        if names
    )
    return FloemapError(
        f"none of the {counted(len(cells), 'cell')} of the plan is finished ({words}).",
        path=run,
        hint=f"Run each with `floemap cell NAME --out {quote(str(run))}`, then gather again.",
    )


def read_plan(run: Path) -> tuple[Study, tuple[Cell, ...]]:
    """Return the study and the cells of a planned comparison.

    Raises
    ------
    FloemapError
        If the folder has no plan, or not one of this version.
    """
    path = RunPaths(run).plan
    if not path.is_file():
        raise FloemapError(f"has no {path.name}.", path=run, hint="Make it with `floemap plan`.")
    record = read_json(path)
    if is_newer(record):
        raise FloemapError("was made by a newer floemap.", path=path, hint="Update floemap.")
    with as_written(path, STAGE.command):
        study = Study.checked(**record["configuration"])
    return study, plan(study, [s.name for s in find_scenes(study.data)])


def _chosen(cells: tuple[Cell, ...], wanted: str, run: Path) -> Cell:
    """Return the cell of a name or number."""
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 10:
        if int(wanted) < len(cells):
            return cells[int(wanted)]
        raise ConfigError(f"there is no cell {wanted}: the plan has {len(cells)}, from 0.", path=run)
    by_name = {c.name: c for c in cells}
    if wanted not in by_name:
        raise ConfigError(f"there is no cell {wanted!r}.", path=run, hint=known_names(wanted, by_name))
    return by_name[wanted]


def _finished(cell: Cell, run: Path) -> dict[str, Any]:
    """Return the record of a finished cell; raise FloemapError if it is not there, or of other settings."""
    path = RunPaths(run).cell(cell.name).record
    hint = f"Run it with `floemap cell {cell.name} --out {quote(str(run))}`."
    if not path.is_file():
        raise FloemapError("the cell has not finished.", path=path.parent, hint=hint)
    record = read_json(path)
    if record.get("configuration") != cell.study.model_dump(mode="json"):
        raise FloemapError("was run with other settings than those of the plan.", path=path, hint=hint)
    return record
