"""Worker process for one cell of a comparison: ``python -m floemap.study.worker FOLDER CELL [--overwrite]``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from floemap.errors import FloemapError
from floemap.progress import Progress, part_of, silent
from floemap.results.run_paths import DataPaths, RunPaths
from floemap.results.seen import remembering
from floemap.results.stage import one_at_a_time, read_json
from floemap.study.cells import plan
from floemap.study.compare import data_folder
from floemap.study.data import find_scenes, make_data
from floemap.study.processes import end_with_parent, tell_parent
from floemap.study.run import run_cell
from floemap.study.settings import Study


def work(out: Path, name: str, *, overwrite: bool = False, progress: Progress = silent) -> None:
    """Run the named cell of the comparison in `out`, whose ``plan.json`` holds the configuration."""
    paths = RunPaths(out)
    study = Study.checked(**read_json(paths.plan)["configuration"])
    cells = {c.name: c for c in plan(study, [s.name for s in find_scenes(study.data)])}
    data = data_folder(study, out)

    def cell_progress(done: float, total: float, what: str) -> None:
        progress(1 + 19 * done / total if total else 1, 20, what)

    with remembering(DataPaths(data).seen):
        with one_at_a_time(data):
            scenes = make_data(study.all_data(), data, jobs=1, progress=part_of(progress, 0, 20, "data"))
        folder = paths.cell(name).folder
        run_cell(cells[name], scenes, folder, DataPaths(data), overwrite=overwrite, progress=cell_progress)


if __name__ == "__main__":
    end_with_parent()
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("floemap").setLevel(logging.INFO)
    try:
        work(Path(sys.argv[1]), sys.argv[2], overwrite=sys.argv[3:] == ["--overwrite"], progress=tell_parent())
    except FloemapError as e:
        sys.exit(str(e).replace("\n", " "))
