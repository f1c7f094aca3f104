"""``floemap watch``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from floemap.cli.app import command, fail, in_words, print_result, stderr
from floemap.cli.chart import ChartOptions, LandMask, Model, Prepared, ProductMinutes
from floemap.cli.many import describe_made
from floemap.cli.out_option import OutForEach
from floemap.cli.predict import Device, Engine, Precision
from floemap.errors import ConfigError
from floemap.stopping import Stopped

if TYPE_CHECKING:
    from floemap.inference.draftchart.chart import DraftChart
    from floemap.outcomes import Outcome


@command("watch", resumes=True)
def watch(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder in which products arrive, also in folders below it.")
    ],
    out: OutForEach,
    *,
    model: Model = None,
    once: Annotated[bool, typer.Option("--once", help="Chart what is there, and end.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, metavar="S", help="Seconds between two looks.")] = 60.0,
    settle: Annotated[
        float,
        typer.Option(
            "--settle", min=0, metavar="S", help="Seconds without a change after which a product counts as complete."
        ),
    ] = 10.0,
    area: Annotated[
        str | None,
        typer.Option(
            "--area",
            metavar="W,S,E,N",
            help="Also fetch into FOLDER what Copernicus Data Space publishes of this area, in degrees: EW GRDM "
            "products in HH+HV, with the account of `floemap fetch`. Across the date line W > E.",
        ),
    ] = None,
    mission: Annotated[
        str, typer.Option("--mission", metavar="S1A,...", help="With --area: satellites. (default: all)")
    ] = "",
    since: Annotated[
        datetime | None,
        typer.Option(help="With --area: time (UTC) from which published products count. (default: a day ago)"),
    ] = None,
    product_minutes: ProductMinutes = None,
    settings: ChartOptions,
    land_mask: LandMask = None,
    prepared: Prepared = None,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: Device = "auto",
) -> None:
    """Chart each product that arrives in FOLDER, once, until the command is stopped.

    Products may be copied into FOLDER under their own names: one is charted when it has not changed for some seconds
    and its zip is complete. One that fails is tried again when it is copied anew. DIR gets one folder for each chart,
    the same as from `floemap chart`, and watch.jsonl: a line of JSON for each event, with times of sensing, arrival and
    chart.

    The command may be stopped or killed at any moment; repeat it to resume. SIGTERM ends it with exit code 0, ctrl-C
    with 130. With `--once` the exit code is 1 if a product could not be charted.

        floemap watch incoming --model model.safetensors --out charts

        floemap watch incoming --model model.safetensors --out charts --once --settle 2

        floemap watch incoming --area=-25,76,10,83 --mission S1A,S1C --model model.safetensors --out charts
    """
    from floemap.archive.watch import watch_folder
    from floemap.cli.bars import Bars

    if area is None and (mission or since):
        raise ConfigError("--mission and --since need --area.", hint="Without it, nothing is fetched.")
    with ExitStack() as stack:
        stack.enter_context(_ended_by_signal())
        fetching: dict[str, Any] = {}
        if area is not None:
            from floemap.archive.catalogue import box_from_text, catalogue_of, missions_from_text

            missions, begin = missions_from_text(mission), None if since is None else since.replace(tzinfo=UTC)
            catalogue = stack.enter_context(catalogue_of(box_from_text(area), folder, missions=missions, since=begin))
            fetching = {"before_look": catalogue.fetch, "published": catalogue.published}
        bars = stack.enter_context(Bars(1, "products"))
        done = watch_folder(
            folder,
            model,
            out,
            settings,
            once=once,
            every_s=every,
            settle_s=settle,
            product_minutes=product_minutes,
            land_mask=land_mask,
            prepared=prepared,
            engine=engine,
            precision=precision,
            device=device,
            progress_of=lambda path: bars.begin(path.name),
            finished=_finished,
            **fetching,
        )
    if done.arriving:
        stderr.print(f"products that are still arriving: {done.arriving}")
    if failed := done.failed:
        fail(f"{len(failed)} of {len(done.outcomes)} products could not be charted.")


def _finished(outcome: Outcome[DraftChart]) -> None:
    if outcome.result is not None:
        print_result(outcome.result.folder, skipped=outcome.result.skipped)
        describe_made(outcome.result.folder, whole=False)
    elif outcome.error is not None:
        stderr.print(f"error: {in_words(outcome.error)}", style="bold red")


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """End the block at SIGTERM, unfinished results removed, with exit code 0: that is how services are stopped."""
    try:
        yield
    except Stopped as e:
        stderr.print(f"ended by {e}; finished charts are kept, repeat the command to resume")
        raise typer.Exit(0) from None
