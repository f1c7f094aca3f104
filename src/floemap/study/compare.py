"""A whole comparison: data, all cells, results. Repeating an interrupted comparison resumes it.

:mod:`floemap.results.run_paths` describes its folder.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floemap.datasets.extremeearth.scenes import Role
from floemap.errors import ConfigError, FloemapError
from floemap.files import writable_name
from floemap.learning.training.launched import place, tasks
from floemap.progress import Progress, milestones, part_of, silent
from floemap.results.folders import refuse_foreign_files
from floemap.results.run_paths import DataPaths, RunPaths
from floemap.results.seen import remembering, save_seen
from floemap.results.stage import (
    Stage,
    alone_in,
    as_before,
    one_at_a_time,
    provenance,
    read_json,
    recorded,
    write_json,
    write_whole,
)
from floemap.study.beside import Outcome, run_beside
from floemap.study.cells import HELD_OUT, Cell, check_cell, check_cells
from floemap.study.data import check_files, check_layers, find_scenes, make_data
from floemap.study.run import run_cell, train_on
from floemap.study.scene import StudyScene
from floemap.study.settings import Study
from floemap.study.table import resolved

if TYPE_CHECKING:
    from floemap.report.report import Report

logger = logging.getLogger(__name__)

#: Raise the revision when the plan of the cells or the summary of their scores changes.
STAGE = Stage("floemap compare", "plan.json", revision=0)


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Attributes
    ----------
    folder
        Folder of the comparison.
    summary
        Summary of the scores; see :func:`floemap.evaluation.statistics.summary.summarise`.
    failed
        Error message of each failed cell, by the name of the cell.
    report
        The report, if one was made.
    """

    folder: Path
    summary: dict[str, Any]
    failed: dict[str, str]
    report: Report | None = None

    @property
    def results(self) -> Path:
        """Path of ``results.json``, which holds the summary."""
        return RunPaths(self.folder).results


def compare(
    study: Study,
    out: str | Path,
    *,
    jobs: int | None = None,
    report: bool = True,
    overwrite: bool = False,
    verify: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Train a model for each loss and repeat, predict and score the test scenes, and summarise the scores.

    Parameters
    ----------
    study
        The study, for example from :meth:`Study.from_toml`.
    out
        Folder of the comparison. Results that are finished there with the same settings are kept.
    jobs
        Number of scenes to prepare at a time, and of cells to run at a time, each in its own process. By default as
        many scenes as memory and cores allow (see :func:`floemap.study.preparing.scene_jobs`), and as many cells as
        there are GPUs, or one.
    report
        Whether to make the report too.
    overwrite
        Whether to repeat finished trainings, predictions, scores and reports. Prepared products and labels are kept.
    verify
        Whether to read all files again, instead of trusting their sizes and times; see :mod:`floemap.results.seen`.
        The report is then made again, too.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    FloemapError
        If scenes cannot be prepared, or all cells fail. If a cell fails, the others still run.
    ConfigError
        If the split has no scene for test, or several processes were launched: a comparison starts its own.
    OutputError
        If another run compares in the folder, or the folder holds files that floemap did not make.
    """
    out = Path(out)
    study, cells = checked_plan(study, out)
    seen = DataPaths(data_folder(study, out)).seen
    with alone_in(out, "compares in"), remembering(seen, verify=verify):
        return _compare(study, cells, out, jobs, report, overwrite, verify, progress)


def checked_plan(study: Study, out: Path) -> tuple[Study, tuple[Cell, ...]]:
    """Check a comparison before any work; return the study with its scenes listed, and its cells.

    Raises
    ------
    FloemapError
        As :func:`compare` does before it starts.
    """
    refuse_several_tasks()
    study = resolved(study)
    writable_name(out)
    found = find_scenes(study.data)
    cells = check_cells(study, [s.name for s in found])
    check_files(found)
    check_layers(study.all_data(), data_folder(study, out))
    paths = RunPaths(out)
    refuse_foreign_files(out, STAGE, [p.name for p in (paths.plan, paths.results, paths.tables, paths.leaderboard)])
    return study, cells


def refuse_several_tasks() -> None:
    """Refuse to be one of several processes of torchrun or srun."""
    if tasks() > 1:
        raise ConfigError(
            "a comparison distributes its cells over GPUs by itself.",
            hint="Start it without torchrun, or as a single task (`srun --ntasks=1`). Several are for `floemap train`.",
        )


def write_plan(study: Study, cells: Sequence[Cell], out: Path) -> None:
    """Write ``plan.json``: the configuration and the list of cells."""
    path = RunPaths(out).plan
    record = provenance(STAGE, inputs={}, configuration=study.model_dump(mode="json"))
    write_json(path, as_before(record | {"cells": [c.about() for c in cells]}, recorded(path), "created"))


def _compare(
    study: Study,
    cells: Sequence[Cell],
    out: Path,
    jobs: int | None,
    report: bool,
    overwrite: bool,
    verify: bool,
    progress: Progress,
) -> Comparison:
    """Run all cells in a locked folder. The parameters are those of :func:`compare`."""
    write_plan(study, cells, out)
    data = data_folder(study, out)
    with one_at_a_time(data):
        scenes = make_data(study.all_data(), data, jobs=jobs, progress=part_of(progress, 0, 20, "data"))
    save_seen()  # for the processes of the cells

    def cell_progress(done: float, total: float, what: str) -> None:
        progress(1 + 18 * done / total, 20, what)

    gpus = _gpus()
    jobs = jobs if jobs is not None else max(1, len(gpus))
    if jobs > 1:
        outcomes = run_beside(cells, out, jobs, gpus, overwrite, cell_progress)
    else:
        outcomes = _run_in_turn(cells, scenes, study, out, overwrite, cell_progress)
    records, failed = [], {}
    with closing(outcomes):  # ends all processes, also after an error
        for cell, outcome in outcomes:
            if isinstance(outcome, FloemapError):
                logger.error("%s: %s", cell.name, outcome)
                failed[cell.name] = str(outcome)
            else:
                records.append(outcome)
    return finish(study, cells, out, records, failed, report, progress, anew=overwrite or verify)


def finish(
    study: Study,
    cells: Sequence[Cell],
    out: Path,
    records: Sequence[dict[str, Any]],
    failed: dict[str, str],
    report: bool,
    progress: Progress,
    *,
    anew: bool = False,
) -> Comparison:
    """Write the results of the finished cells, whose records are given, and the report if it is wanted.

    A report of the same results and files is kept, unless it is wanted `anew`.

    Raises
    ------
    FloemapError
        If every cell has failed.
    """
    if not records:
        name, words = next(iter(failed.items()))
        raise FloemapError(f"all cells failed; {name}: {words}", path=out)
    summary = write_results(study, out, cells, records, failed)
    made = _report(out, anew, part_of(progress, 19, 20, "report")) if report else None
    progress(20, 20, "done")
    return Comparison(out, summary, failed, made)


def _report(out: Path, anew: bool, progress: Progress) -> Report:
    from floemap.report.report import make_report  # its figures need much that a training does not

    return make_report(out, overwrite=anew, progress=progress)


def data_folder(study: Study, out: Path) -> Path:
    """Return the folder of the study's prepared products and labels."""
    return study.data.cache or RunPaths(out).data.folder


def write_results(
    study: Study,
    out: Path,
    cells: Sequence[Cell],
    records: Sequence[dict[str, Any]],
    failed: dict[str, str],
) -> dict[str, Any]:
    """Summarise the records of finished cells, write the results, and return the summary.

    The results are ``results.json``, ``results.md`` and, on scenes of AI4Arctic, ``leaderboard.md``.
    """
    # A training by itself needs none of this, which takes a second to load.
    from floemap.evaluation.checks.assess import RECORD as CHECKS
    from floemap.evaluation.checks.calibration import add_calibration
    from floemap.evaluation.scoring.leaderboard import leaderboard
    from floemap.evaluation.scoring.table import in_markdown
    from floemap.evaluation.scoring.tables import markdown
    from floemap.evaluation.statistics.summary import summarise

    paths = RunPaths(out)
    evaluated: list[dict[str, Any]] = []
    finished = {r["cell"]: r for r in records}
    for cell in cells:
        record = finished.get(cell.name)
        if record is None:
            # None where a cell tests several scenes, which other kinds of split do, and groups.
            scene = cell.axes.get(HELD_OUT) if study.split.by == "scene" else None
            evaluated.append(cell.about() | {"scene": scene, "evaluation": None, "failed": failed.get(cell.name)})
            continue
        split = read_json(paths.cell(cell.name).split)
        for test in record["tested"]:
            within = paths.cell(cell.name)
            where = within.evaluation / test["evaluation"] / "evaluation.json"
            checks = read_json(within.checks / test["evaluation"] / CHECKS)
            about = {"scene": test["scene"], "evaluation": read_json(where), "checks": checks, "split": split}
            evaluated.append(cell.about() | about)
    summary = summarise(evaluated)
    add_calibration(summary, evaluated)
    made = provenance(STAGE, inputs={}, configuration=study.model_dump(mode="json"))
    made |= {"study": study.name, "failed": failed, "summary": summary}
    write_json(paths.results, as_before(made, recorded(paths.results), "created"))
    write_whole(paths.tables, markdown(summary).encode())
    if challenge := leaderboard(summary):
        write_whole(paths.leaderboard, in_markdown(study.name, summary["note"], challenge).encode())
    return summary


def _run_in_turn(
    cells: Sequence[Cell], scenes: Sequence[StudyScene], study: Study, out: Path, overwrite: bool, progress: Progress
) -> Generator[tuple[Cell, Outcome]]:
    data = DataPaths(data_folder(study, out))
    for i, cell in enumerate(cells):
        steps = part_of(progress, i, len(cells), cell.name)
        try:
            milestones.info("cell %d of %d: %s", i + 1, len(cells), cell.name)
            folder = RunPaths(out).cell(cell.name).folder
            yield cell, run_cell(cell, scenes, folder, data, overwrite=overwrite, progress=steps)
        except FloemapError as e:
            yield cell, e


def _gpus() -> list[str]:
    """Return the visible GPUs, as in CUDA_VISIBLE_DEVICES, or none if there are fewer than two."""
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",") if visible else [str(i) for i in range(count)]


def train_model(
    study: Study,
    out: str | Path,
    *,
    jobs: int | None = None,
    overwrite: bool = False,
    verify: bool = False,
    progress: Progress = silent,
) -> Path:
    """Train one model with the study's [loss], or resume; return its checkpoint, ``model/model.safetensors`` in `out`.

    The parameters are those of :func:`compare`; `jobs` is the number of scenes to prepare at a time.

    Raises
    ------
    FloemapError
        If scenes or the split cannot be prepared, or training fails.
    """
    study = resolved(study)
    place()  # refuses processes without ranks
    out = Path(out)
    writable_name(out)
    # Errors are reported before any work.
    needed: tuple[Role, ...] = ("train", "validation")
    found = find_scenes(study.data)
    check_cell(study, [s.name for s in found], needed)
    data = data_folder(study, out)
    check_files(found)
    check_layers(study.data, data)
    with remembering(DataPaths(data).seen, verify=verify):
        with one_at_a_time(data):  # the first of several processes makes them; the others wait and find them
            scenes = make_data(study.data, data, jobs=jobs, progress=part_of(progress, 0, 2, "data"))
        checkpoint, _ = train_on(
            study,
            scenes,
            out,
            DataPaths(data),
            needed=needed,
            overwrite=overwrite,
            progress=part_of(progress, 1, 2, "training"),
        )
    return checkpoint
