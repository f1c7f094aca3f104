"""A whole comparison: data, every cell, results. Started again, it goes on where it was stopped.

What lies where in its folder, :mod:`floemap.run_paths` says.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from floemap.errors import ConfigError, FloemapError
from floemap.evaluation.summary import summarise
from floemap.evaluation.tables import markdown
from floemap.folders import refuse_foreign_files
from floemap.learning.launched import place, tasks
from floemap.progress import Progress, milestones, part_of, silent
from floemap.report.report import Report, make_report
from floemap.run_paths import DataPaths, RunPaths
from floemap.stage import Stage, one_at_a_time, provenance, read_json, write_json, write_whole
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
        See :func:`floemap.evaluation.summary.summarise`.
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
    """
    if tasks() > 1:
        raise ConfigError(
            "a comparison shares its cells out among GPUs by itself.",
            hint="Start it without torchrun, with srun as one task (--ntasks=1); several are for `floemap train`.",
        )
    out = Path(out)
    cells = check_cells(study, [s.name for s in find_scenes(study.data)])  # what is wrong is said before any work
    paths = RunPaths(out)
    refuse_foreign_files(out, STAGE, [p.name for p in (paths.plan, paths.results, paths.tables)])
    record = provenance(STAGE, inputs={}, configuration=study.model_dump(mode="json"))
    write_json(paths.plan, record | {"cells": [c.about() for c in cells]})
    data = data_folder(study, out)
    with one_at_a_time(data):
        scenes = make_data(study.data, data, progress=part_of(progress, 0, 20, "data"))

    def told(done: float, total: float, what: str) -> None:
        progress(1 + 18 * done / total, 20, what)

    gpus = _gpus()
    jobs = jobs if jobs is not None else max(1, len(gpus))
    if jobs > 1:
        outcomes = _run_beside(cells, out, jobs, gpus, overwrite, told)
    else:
        outcomes = _run_in_turn(cells, scenes, study, out, overwrite, told)
    records, failed = [], {}
    for cell, outcome in outcomes:
        if isinstance(outcome, FloemapError):
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


Outcome = dict[str, Any] | FloemapError


def _run_in_turn(
    cells: Sequence[Cell], scenes: Sequence[StudyScene], study: Study, out: Path, overwrite: bool, progress: Progress
) -> Iterator[tuple[Cell, Outcome]]:
    masks = DataPaths(data_folder(study, out)).parts
    for i, cell in enumerate(cells):
        told = part_of(progress, i, len(cells), cell.name)
        try:
            milestones.info("cell %d of %d: %s", i + 1, len(cells), cell.name)
            folder = RunPaths(out).cell(cell.name).folder
            yield cell, run_cell(cell, scenes, folder, masks, overwrite=overwrite, progress=told)
        except FloemapError as e:
            logger.error("%s: %s", cell.name, e)
            yield cell, e


def _run_beside(
    cells: Sequence[Cell], out: Path, jobs: int, gpus: Sequence[str], overwrite: bool, progress: Progress
) -> Iterator[tuple[Cell, Outcome]]:
    """Run each cell in a process of its own, on a GPU of its own where there are enough."""
    free: SimpleQueue[str | None] = SimpleQueue()
    for i in range(jobs):
        free.put(gpus[i % len(gpus)] if gpus else None)

    def run(cell: Cell) -> Outcome:
        gpu = free.get()
        try:
            return _run_process(cell, out, gpu, overwrite)
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run, cell): cell for cell in cells}
        try:
            for done, future in enumerate(as_completed(running), 1):
                outcome = future.result()
                if isinstance(outcome, FloemapError):
                    logger.error("%s: %s", running[future].name, outcome)
                progress(done, len(cells), running[future].name)
                yield running[future], outcome
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run_process(cell: Cell, out: Path, gpu: str | None, overwrite: bool) -> Outcome:
    environment = os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
    call = [sys.executable, "-m", "floemap.study.worker", str(out), cell.name, *(["--overwrite"] if overwrite else [])]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines()
        return FloemapError(words[-1] if words else f"its process ended with {done.returncode}.")
    try:
        return read_json(RunPaths(out).cell(cell.name).record)
    except FloemapError as e:
        return e


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
