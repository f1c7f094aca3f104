"""The twin of the ExtremeEarth dataset: twelve months of scenes and charts in its form, and their truth.

    products/<product name>.SAFE    input of `floemap prepare`
    charts/seaice_s1_<start>.shp    chart as an analyst would draw it, with the columns of the dataset
    truth/<product name>/truth.tif  true surface, on the grid of the prepared product
    SIMULATED.txt, twin.json

Names, times, orbits and processor versions are those of the real scenes; everything else is simulated and marked so.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from floemap.datasets.extremeearth.find import SIMULATED_MARK
from floemap.datasets.extremeearth.scenes import ALL_MONTHS, check_months, scene_of
from floemap.errors import ConfigError, FloemapError
from floemap.progress import Progress, part_of, silent
from floemap.results.stage import make_folder, os_errors, provenance, read_json, refuse_within, write_json, write_whole
from floemap.simulation.twin_month import (
    STAGE,
    Size,
    TwinMonth,
    finished_month,
    image_size,
    make_month,
    resolution_m,
    twin_spec,
)
from floemap.stopping import spared_from_ctrl_c
from floemap.threads import usable_cores
from floemap.version import __version__

__all__ = ["Size", "TwinMonth", "make_twin", "resolution_m", "twin_spec"]

NOTICE = f"""Everything below this folder was simulated by floemap {__version__}. It has the form of the ExtremeEarth
dataset and its scenes' names and times, and shows nothing real: it is no evidence about ice anywhere.
"""


def make_twin(
    out: str | Path,
    size: Size = "small",
    *,
    seed: int = 0,
    months: Iterable[int] = ALL_MONTHS,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress = silent,
) -> tuple[TwinMonth, ...]:
    """Make scenes, charts and truth in the form of the ExtremeEarth dataset. Finished months are skipped.

    Parameters
    ----------
    out
        Folder of the twin.
    size
        See :func:`twin_spec`.
    seed
        Seed of the ice. Equal seeds give products, charts and truth rasters with equal bytes.
    months
        Months to make, 1 to 12.
    workers
        Number of processes that make months. With more than one, a script needs a main guard.
    overwrite
        Make finished months again.
    progress
        Progress callback, called for each month, and for parts of a month if there is only one month or worker.

    Returns
    -------
    The months, in order.

    Raises
    ------
    ConfigError
        If a month or the size does not exist, the seed is negative, or the folder contains a twin of another size or
        seed.
    OutputError
        If the twin cannot be written.
    """
    out, chosen = Path(out), check_months(months)
    image_size(size)
    if seed < 0:
        raise ConfigError(f"the seed is {seed}.", hint="It must be a whole number from 0.")
    _mark(out, size, seed)
    todo = [m for m in chosen if overwrite or finished_month(out, m, size, seed) is None]
    cores = usable_cores()
    workers = max(1, min(workers, len(todo)))
    if workers == 1:
        for i, month in enumerate(todo):
            part = part_of(progress, i, len(todo), scene_of(month).title)
            make_month(out, month, size, seed, threads=min(2, cores), progress=part)
    else:
        _share(out, todo, size, seed, workers, max(1, cores // workers), progress)
    made = [finished_month(out, m, size, seed, skipped=m not in todo) for m in chosen]
    whole = tuple(m for m in made if m is not None)
    if len(whole) != len(chosen):
        raise FloemapError(
            "months were removed or changed while others were made.", path=out, hint="Run the same command again."
        )
    progress(1, 1, "done")
    return whole


def _share(out: Path, todo: list[int], size: Size, seed: int, workers: int, threads: int, progress: Progress) -> None:
    # Not fork: threads of the libraries may hold locks at that moment.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_leave_with, initargs=(os.getpid(),)) as pool:
        progress(0, len(todo), "starting")
        with spared_from_ctrl_c():
            running = {pool.submit(_month, out, m, size, seed, threads): m for m in todo}
        try:
            for done, finished in enumerate(as_completed(running), 1):
                finished.result()
                progress(done, len(todo), scene_of(running[finished]).title)
        except BrokenProcessPool as e:
            hint = "If it ran out of memory, use fewer --workers."
            raise FloemapError("a worker process was killed.", path=out, hint=hint) from e
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _month(out: Path, month: int, size: Size, seed: int, threads: int) -> None:
    """Make a month in a worker. At ctrl-C, what is unfinished is removed, and the worker ends."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        make_month(out, month, size, seed, threads=threads)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    except KeyboardInterrupt:
        os._exit(130)


def _leave_with(parent: int) -> None:
    """End this worker when the process that started it has ended, since nobody would use its results."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _mark(out: Path, size: Size, seed: int) -> None:
    """Mark the folder as simulated before anything is written into it; refuse to mix two twins."""
    record = out / "twin.json"
    refuse_within(out, into=True)
    if record.exists():
        before = read_json(record).get("configuration")
        before = before if isinstance(before, dict) else {}
        if (before.get("size"), before.get("seed")) != (size, seed):
            raise ConfigError(
                f"{out} contains a twin of size {before.get('size')} and seed {before.get('seed')}.",
                hint="Choose another --out, or the same size and seed.",
            )
        return
    with os_errors(out):
        make_folder(out)
        if any(p for p in out.iterdir() if not p.name.startswith(".") and p.name != SIMULATED_MARK):
            raise ConfigError(f"{out} contains other files than a twin.", hint="Choose a new or empty --out.")
        write_whole(out / SIMULATED_MARK, NOTICE.encode())
    write_json(record, provenance(STAGE, inputs={}, configuration={"size": size, "seed": seed}))
