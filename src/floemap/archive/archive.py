"""Charting thousands of products on a cluster: what fails does not stop the rest, and the same call resumes.

Each product's chart is a folder that appears whole or not at all, so that workers may die at any moment. What is
finished is found by its own record, not by the manifest, which is written anew.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from floemap.archive.answers import final_answers
from floemap.archive.cluster import LOCAL, LOOPBACK, Cluster, check_cluster, connected
from floemap.archive.limit import TRACES, checked_minutes
from floemap.archive.manifest import COLLECTION, TABLE, Manifest
from floemap.archive.rows import waiting_row
from floemap.archive.scenes import find_scenes
from floemap.archive.work import Answer, Order, answer_of
from floemap.errors import FloemapError, OutputError, ProductError
from floemap.files import regular_file_or_folder
from floemap.icechart.land import describe_land
from floemap.inference.draftchart.chart import DraftChart, check_call
from floemap.inference.draftchart.settings import ChartSettings
from floemap.inference.predict.model_files import check_computation, find_models
from floemap.outcomes import Outcome
from floemap.progress import Progress, silent
from floemap.remote.address import Address, path_of
from floemap.results.folders import refuse_foreign_files
from floemap.results.stage import Stage, alone_in, provenance, write_json

if TYPE_CHECKING:
    from floemap.inference.predict.engines import Engine
    from floemap.learning.whole_scene.pieces import Precision

logger = logging.getLogger(__name__)

#: The revision never changes: the charts have their own.
STAGE = Stage("floemap archive", "archive.json", revision=0, files=(TABLE, COLLECTION))
#: Seconds between two writings of the table while the work runs.
_TABLE_EVERY_S = 10.0


@dataclass(frozen=True)
class Archive:
    """The outcome of a call: the archive's folder, and one outcome for each product, in order."""

    folder: Path
    outcomes: tuple[Outcome[DraftChart], ...]

    @property
    def failed(self) -> list[Path]:
        """Products that could not be charted."""
        return [o.product for o in self.outcomes if o.error is not None]

    @property
    def table(self) -> Path:
        """Path of the table of all scenes."""
        return self.folder / TABLE


def chart_archive(
    scenes: str | Path | Sequence[str | Path],
    models: Sequence[str | Path] | None,
    out: str | Path,
    settings: ChartSettings | None = None,
    *,
    cluster: str = LOCAL,
    jobs: int | None = None,
    retries: int = 2,
    product_minutes: float | None = None,
    dashboard: str = LOOPBACK,
    land_mask: str | Path | None = None,
    prepared: str | Path | None = None,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: str = "auto",
    overwrite: bool = False,
    announce: Callable[[Cluster], None] = lambda cluster: None,
    finished: Callable[[Outcome[DraftChart]], None] = lambda outcome: None,
    progress: Progress = silent,
) -> Archive:
    """Prepare and chart many products on a cluster.

    Charts are the same as those of :func:`floemap.make_charts`. A product that fails, or kills its worker again and
    again, does not stop the others. An interrupted call is resumed by the same call; finished charts are skipped.
    A script that calls this with a local cluster needs ``if __name__ == "__main__":``, because its processes import it.

    Parameters
    ----------
    scenes
        See :func:`floemap.archive.scenes.find_scenes`: products, folders, patterns, and files that list them.
    models
        Checkpoints; see :func:`floemap.make_chart`.
    out
        Folder that gets one folder for each chart; ``archive.csv``, a table with a row for each product (see
        :class:`floemap.archive.rows.Row`); ``collection.json``, a STAC collection of the charts; and ``archive.json``,
        the record.
    settings, land_mask, prepared, engine, precision, device, overwrite
        See :func:`floemap.make_chart`.
    cluster
        "local" for processes on this machine, the address of a scheduler of dask.distributed, or the path of its
        scheduler file. Its workers need floemap, and the same paths.
    jobs
        Number of processes of a local cluster. The default is one for two cores.
    retries
        How often a product is tried again after an error of the system, the death of its worker, or the time limit.
    product_minutes
        Time limit of a product; by default there is none. A worker that reaches it is ended, and needs another process
        that starts it anew: those of a local cluster have one, and those of ``dask worker`` unless it is switched off.
    dashboard
        Host and port of the dashboard of a local cluster. The default can be reached from this machine only.
    announce
        Called with the cluster once it answers.
    finished
        Called with each outcome as soon as it is known.
    progress
        Progress callback, called as progress(done, total, message) with numbers of products.

    Raises
    ------
    ConfigError
        If a folder or pattern has no product, or an option is wrong.
    ModelError
        If a model cannot be used.
    FloemapError
        If dask.distributed is not installed, no scheduler answers, or the scheduler is lost.
    OutputError
        If the folder cannot be written, or another call works there.
    """
    given = [scenes] if isinstance(scenes, str | os.PathLike) else scenes
    scenes_found = [p if isinstance(p, Address) else Path(os.path.abspath(p)) for p in find_scenes(given)]  # noqa: PTH100
    products = [path_of(p) for p in scenes_found]
    folder, files = Path(out), find_models(models)
    order = Order(
        models=tuple(m.path.absolute() for m in files) if models else None,
        digests=tuple(m.sha256 for m in files),
        out=folder.absolute(),
        settings=settings or ChartSettings(),
        land_mask=None if land_mask is None else Path(land_mask).absolute(),
        prepared=None if prepared is None else Path(prepared).absolute(),
        engine=engine,
        precision=precision,
        device=device,
        overwrite=overwrite,
        minutes=checked_minutes(product_minutes),
        most_tries=retries + 1,
    )
    check_call(files, order.settings, order.land_mask)
    check_cluster(cluster, jobs, dashboard)
    if cluster == LOCAL:
        check_computation(engine, precision, device)
    land = describe_land(order.land_mask)

    def answers() -> Generator[tuple[Answer, int]]:
        refused = _refused(scenes_found) if cluster == LOCAL else {}  # other machines may see other files
        for product, error in refused.items():
            yield answer_of(Outcome(product, None, error), 0.0), 1
        if rest := [p for p in scenes_found if p not in refused]:
            with connected(cluster, jobs=jobs, retries=retries, dashboard=dashboard) as there:
                announce(there)
                yield from final_answers(there, order, rest, retries)

    with alone_in(folder, "charts an archive in"):
        refuse_foreign_files(folder, STAGE, (TABLE, COLLECTION))
        shutil.rmtree(folder / TRACES, ignore_errors=True)  # of an earlier call
        manifest = Manifest(folder)
        for product in products:
            manifest.expect(waiting_row(product))
        configuration = order.settings.model_dump(mode="json", exclude_unset=True)
        record = provenance(STAGE, inputs={"models": list(order.digests), "land": land}, configuration=configuration)

        def write_all() -> None:
            manifest.write()
            manifest.write_collection()
            told = {"simulated": manifest.simulated, "scenes": manifest.counts(), "failed": manifest.failed()}
            write_json(folder / STAGE.record, record | told)

        write_json(folder / STAGE.record, record)  # so that the table is known as this stage's
        try:
            with closing(answers()) as arriving:
                found = _collect(arriving, products, manifest, finished, progress)
        finally:
            write_all()
            shutil.rmtree(folder / TRACES, ignore_errors=True)
    return Archive(folder, tuple(found[product] for product in products))


def _refused(products: Sequence[Path | Address]) -> dict[Path, FloemapError]:
    """Return the products that need no worker to fail, each with its error: paths that lead to nothing to be read."""
    found: dict[Path, FloemapError] = {}
    for product in products:
        if isinstance(product, Path):
            try:
                regular_file_or_folder(product, ProductError)
            except ProductError as e:
                found[product] = e
    return found


def _collect(
    answers: Iterator[tuple[Answer, int]],
    products: Sequence[Path],
    manifest: Manifest,
    finished: Callable[[Outcome[DraftChart]], None],
    progress: Progress,
) -> dict[Path, Outcome[DraftChart]]:
    """Note each answer in the manifest as it arrives; return the outcomes by product."""
    found: dict[Path, Outcome[DraftChart]] = {}
    written, failed = time.monotonic(), 0
    for answer, tries in answers:
        found[answer.outcome.product] = answer.outcome
        manifest.put(answer.row.tried(tries), waiting_row(answer.outcome.product))
        if answer.outcome.error is not None:
            failed += 1
            logger.debug("%s failed\n%s", answer.outcome.product, answer.trace)
        finished(answer.outcome)
        progress(len(found), len(products), f"{failed} failed" if failed else "")
        if time.monotonic() - written > _TABLE_EVERY_S:
            try:
                manifest.write()
            except OutputError as e:  # it is written at the end, when the disk may have room again
                logger.warning("%s The work continues.", e)
            written = time.monotonic()
    return found
