"""``floemap archive``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from floemap.cli.app import command, fail, in_words, print_result, progress_wanted, stderr
from floemap.cli.chart import ChartOptions, LandMask, Model, Overwrite, Prepared, ProductMinutes
from floemap.cli.out_option import OutForEach
from floemap.cli.predict import Device, Engine, Precision
from floemap.progress import Progress, milestones

if TYPE_CHECKING:
    from floemap.archive.cluster import Cluster
    from floemap.inference.draftchart.chart import DraftChart
    from floemap.outcomes import Outcome

#: Seconds between two lines of progress in a log.
_LINE_EVERY_S = 30.0
#: Number of failed products that the last message names.
_NAMED = 10


@command("archive", resumes=True)
def archive(
    scenes: Annotated[
        list[str],
        typer.Argument(
            metavar="SCENES",
            help="Products as `floemap chart` takes them; folders of products, also in object stores; "
            "patterns in quotes, as '2018/*.zip'; text files (.txt) with one of these a line.",
        ),
    ],
    out: OutForEach,
    *,
    model: Model = None,
    cluster: Annotated[
        str,
        typer.Option(
            "--cluster",
            metavar="local|ADDRESS|FILE",
            help="Machines that do the work: processes on this one (local), or the scheduler of dask.distributed at an "
            "address such as tcp://host:8786, or of a scheduler file.",
        ),
    ] = "local",
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, metavar="N", help="Processes of a local cluster. (default: one for two cores)"),
    ] = None,
    retries: Annotated[
        int,
        typer.Option(
            "--retries",
            min=0,
            metavar="N",
            help="How often to try a product again after an error of the system or the end of its process.",
        ),
    ] = 2,
    product_minutes: ProductMinutes = None,
    dashboard: Annotated[
        str,
        typer.Option(
            "--dashboard",
            metavar="HOST:PORT",
            help="Address of a local cluster's dashboard. The default, with any free port, can be reached from this "
            "machine only. Whoever can reach it sees the names of the products.",
        ),
    ] = "127.0.0.1:0",
    settings: ChartOptions,
    land_mask: LandMask = None,
    prepared: Prepared = None,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Chart thousands of products on several processes or machines.

    DIR gets one folder for each chart, the same as from `floemap chart`, and:

    - archive.csv: a table of all products with scene, times, state (charted, failed, waiting) and error;

    - collection.json: a STAC collection of the charts; archive.json: how they were made.

    A product that cannot be charted does not stop the others, nor does a process that dies: its product is tried again.
    Repeat the command to resume or to try failed products again; finished charts are skipped. The exit code is 1 if
    products failed, and the last message names them.

        floemap archive products --model model.safetensors --out charts --jobs 4

        floemap archive '2018/*.zip' --model model.safetensors --out charts --cluster scheduler.json

    `--cluster` needs the extra "archive": pip install -e '.[archive]'.
    """
    from floemap.archive.archive import chart_archive
    from floemap.cli.bars import bar

    with bar("products") as shown:
        done = chart_archive(
            scenes,
            model,
            out,
            settings,
            cluster=cluster,
            jobs=jobs,
            retries=retries,
            product_minutes=product_minutes,
            dashboard=dashboard,
            land_mask=land_mask,
            prepared=prepared,
            engine=engine,
            precision=precision,
            device=device,
            overwrite=overwrite,
            announce=_announce,
            finished=_finished,
            progress=_in_lines(shown),
        )
    if failed := done.failed:
        named = ", ".join(path.name for path in failed[:_NAMED])
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        fail(f"{len(failed)} of {len(done.outcomes)} products could not be charted: {named}{more}. See {done.table}.")


def _announce(cluster: Cluster) -> None:
    if not progress_wanted.quiet:
        where = f"dashboard at {cluster.dashboard}" if cluster.dashboard else "without a dashboard"
        stderr.print(f"workers: {cluster.workers}, {where}")


def _finished(outcome: Outcome[DraftChart]) -> None:
    if outcome.result is not None:
        print_result(outcome.result.folder, skipped=outcome.result.skipped)
    elif outcome.error is not None:
        stderr.print(f"error: {in_words(outcome.error)}", style="bold red")


def _in_lines(bar: Progress) -> Progress:
    """Return a progress callback that moves the bar, and writes a line into the log now and then."""
    begun = last = time.monotonic()

    def tell(done: float, total: float, what: str) -> None:
        nonlocal last
        bar(done, total, f"{done:g} of {total:g}{what and f', {what}'}")
        now = time.monotonic()
        if now - last >= _LINE_EVERY_S or done >= total:
            last = now
            rate = 60 * done / max(now - begun, 1e-9)
            milestones.info("%g of %g products, %s%.3g a minute", done, total, what and f"{what}, ", rate)

    return tell
