"""A whole comparison: data, every cell, results. Started again, it goes on where it was stopped.

What lies where in its folder, :mod:`floemap.results.run_paths` says.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floemap.errors import ConfigError, FloemapError
from floemap.evaluation.scoring.tables import markdown
from floemap.evaluation.statistics.summary import summarise
from floemap.learning.training.launched import place, tasks
from floemap.progress import Progress, milestones, part_of, silent
from floemap.report.report import Report, make_report
from floemap.results.folders import refuse_foreign_files
from floemap.results.run_paths import DataPaths, RunPaths
from floemap.results.stage import Stage, alone_in, one_at_a_time, provenance, read_json, write_json, write_whole
from floemap.study.beside import Outcome, run_beside
from floemap.study.cells import HELD_OUT, Cell, check_cell, check_cells
from floemap.study.data import StudyScene, find_scenes, make_data
from floemap.study.run import run_cell, train_on
from floemap.study.settings import Study

logger = logging.getLogger(__name__)

#: Raise the revision when the plan of cells changes, or the summary of their scores.
STAGE = Stage("floemap compare", "plan.json", revision=0)


@dataclass(frozen=True)
class Comparison:
    """A comparison as far as it came.

    Attributes
    ----------
    folder
        With everything.
    summary
        See :func:`floemap.evaluation.statistics.summary.summarise`.
    failed
        What went wrong, by the cell's name.
    report
        Its report, if one was made.
    """

    folder: Path
    summary: dict[str, Any]
    failed: dict[str, str]
    report: Report | None = None

    @property
    def results(self) -> Path:
        """The numbers."""
        return RunPaths(self.folder).results


def compare(
    study: Study,
    out: str | Path,
    *,
    jobs: int | None = None,
    report: bool = True,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Train a model with each loss and repeat, predict the test scenes, score them, and say how they compare.

    Parameters
    ----------
    study
        What, from :meth:`Study.from_toml`.
    out
        Folder. What is finished there with the same settings is not made again.
    jobs
        Cells to run at once, each in a process of its own. Default: one for each GPU where there are several, else one
        at a time.
    report
        Also make the report.
    overwrite
        Train, predict and score again what is finished. Prepared products and labels are kept.
    progress
        Is told of scenes, cells and the report.

    Raises
    ------
    FloemapError
        If scenes cannot be made ready, or all cells fail. A cell that fails does not stop the others.
    ConfigError
        If nothing is to be tested on, or several processes were started: it gives each GPU a cell of its own.
    OutputError
        If another run compares in the folder, or it holds files of somebody else's.
    """
    if tasks() > 1:
        raise ConfigError(
            "a comparison shares its cells out among GPUs by itself.",
            hint="Start it without torchrun, with `srun --ntasks=1` as one task; several are for `floemap train`.",
        )
    out = Path(out)
    cells = check_cells(study, [s.name for s in find_scenes(study.data)])  # what is wrong is said before any work
    paths = RunPaths(out)
    refuse_foreign_files(out, STAGE, [p.name for p in (paths.plan, paths.results, paths.tables)])
    with alone_in(out, "compares in"):
        return _compare(study, cells, out, jobs, report, overwrite, progress)


def _compare(
    study: Study,
    cells: Sequence[Cell],
    out: Path,
    jobs: int | None,
    report: bool,
    overwrite: bool,
    progress: Progress,
) -> Comparison:
    """Run all cells, in a folder that is held; parameters as of :func:`compare`."""
    record = provenance(STAGE, inputs={}, configuration=study.model_dump(mode="json"))
    write_json(RunPaths(out).plan, record | {"cells": [c.about() for c in cells]})
    data = data_folder(study, out)
    with one_at_a_time(data):
        scenes = make_data(study.data, data, progress=part_of(progress, 0, 20, "data"))

    def told(done: float, total: float, what: str) -> None:
        progress(1 + 18 * done / total, 20, what)

    gpus = _gpus()
    jobs = jobs if jobs is not None else max(1, len(gpus))
    if jobs > 1:
        outcomes = run_beside(cells, out, jobs, gpus, overwrite, told)
    else:
        outcomes = _run_in_turn(cells, scenes, study, out, overwrite, told)
    records, failed = [], {}
    with closing(outcomes):  # however this ends, no process is left
        for cell, outcome in outcomes:
            if isinstance(outcome, FloemapError):
                logger.error("%s: %s", cell.name, outcome)
                failed[cell.name] = str(outcome)
            else:
                records.append(outcome)
    if not records:
        name, words = next(iter(failed.items()))
        raise FloemapError(f"no cell could be run; {name}: {words}", path=out)
    summary = write_results(study, out, cells, records, failed)
    made = make_report(out, progress=part_of(progress, 19, 20, "report")) if report else None
    progress(20, 20, "done")
    return Comparison(out, summary, failed, made)


def data_folder(study: Study, out: Path) -> Path:
    """Return where the study's prepared products and labels lie."""
    return study.data.cache or RunPaths(out).data.folder


def write_results(
    study: Study,
    out: Path,
    cells: Sequence[Cell],
    records: Sequence[dict[str, Any]],
    failed: dict[str, str],
) -> dict[str, Any]:
    """Summarise the records of finished cells; write ``results.json`` and ``results.md``; return the summary."""
    paths = RunPaths(out)
    evaluated: list[dict[str, Any]] = []
    finished = {r["cell"]: r for r in records}
    for cell in cells:
        record = finished.get(cell.name)
        if record is None:
            scene = cell.axes.get(HELD_OUT)  # None: of any other kind of split the cell would have had all scenes
            evaluated.append(cell.about() | {"scene": scene, "evaluation": None, "failed": failed.get(cell.name)})
            continue
        split = read_json(paths.cell(cell.name).split)
        for test in record["tested"]:
            where = paths.cell(cell.name).evaluation / test["evaluation"] / "evaluation.json"
            about = {"scene": test["scene"], "evaluation": read_json(where), "split": split}
            evaluated.append(cell.about() | about)
    summary = summarise(evaluated)
    made = provenance(STAGE, inputs={}, configuration=study.model_dump(mode="json"))
    write_json(paths.results, made | {"study": study.name, "failed": failed, "summary": summary})
    write_whole(paths.tables, markdown(summary).encode())
    return summary


def _run_in_turn(
    cells: Sequence[Cell], scenes: Sequence[StudyScene], study: Study, out: Path, overwrite: bool, progress: Progress
) -> Generator[tuple[Cell, Outcome]]:
    masks = DataPaths(data_folder(study, out)).parts
    for i, cell in enumerate(cells):
        told = part_of(progress, i, len(cells), cell.name)
        try:
            milestones.info("cell %d of %d: %s", i + 1, len(cells), cell.name)
            folder = RunPaths(out).cell(cell.name).folder
            yield cell, run_cell(cell, scenes, folder, masks, overwrite=overwrite, progress=told)
        except FloemapError as e:
            yield cell, e


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them; none where one is enough."""
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",") if visible else [str(i) for i in range(count)]


def train_model(study: Study, out: str | Path, *, overwrite: bool = False, progress: Progress = silent) -> Path:
    """Train one model with the study's [loss]; return its checkpoint, ``model/model.safetensors`` below `out`.

    Raises
    ------
    FloemapError
        If scenes cannot be made ready, the split cannot be made, or training cannot go on. A run that was stopped is
        gone on with.
    """
    check_cell(study)  # what is wrong is said before any work
    place()  # and processes that do not know of each other are refused
    out = Path(out)
    data = data_folder(study, out)
    with one_at_a_time(data):  # of several processes, the first makes them, and the others find them
        scenes = make_data(study.data, data, progress=part_of(progress, 0, 2, "data"))
    checkpoint, _ = train_on(
        study,
        scenes,
        out,
        DataPaths(data).parts,
        needed=("train", "validation"),
        overwrite=overwrite,
        progress=part_of(progress, 1, 2, "training"),
    )
    return checkpoint
