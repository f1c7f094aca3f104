"""Parts that the commands of many products share: bars, a line for each product, the exit code."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from floemap.cli.app import fail, in_words, print_result, progress_wanted, stderr
from floemap.cli.terminal import json_text
from floemap.outcomes import HasFolder, Outcome
from floemap.progress import Progress
from floemap.remote.address import as_address

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs, and nothing else.")]


class InFolder(HasFolder, Protocol):
    """A result that is a folder."""

    @property
    def skipped(self) -> bool:
        """Whether the result was finished before this call."""


class Work(Protocol):
    """A call of the library on all products."""

    def __call__(
        self, *, progress_of: Callable[[Path], Progress], finished: Callable[[Outcome[InFolder]], None]
    ) -> Sequence[Outcome[InFolder]]:
        """Do the work on all products."""


def run_each(products: Sequence[str | Path], done: str, work: Work, *, charts_as_json: bool = False) -> None:
    """Do `work` on all products; print each result's folder or error; exit with code 1 if one failed.

    `done` is the participle of the work, as in "3 of 5 products could not be {prepared}". With `charts_as_json` the
    results are charts, and stdout gets one JSON document with all of them, also if one failed.
    """
    from floemap.cli.bars import Bars

    with Bars(len(products), "products") as bars:

        def finished(outcome: Outcome[InFolder]) -> None:
            bars.finish()
            if outcome.result is not None and not charts_as_json:
                print_result(outcome.result.folder, skipped=outcome.result.skipped)
                describe_made(outcome.result.folder, whole=len(products) == 1)
            elif outcome.error is not None:
                stderr.print(f"error: {in_words(outcome.error)}", style="bold red")

        outcomes = work(progress_of=lambda p: bars.begin(p.name), finished=finished)
    if charts_as_json:
        charts = [chart_document(o.result.folder, skipped=o.result.skipped) for o in outcomes if o.result is not None]
        errors = [
            {"product": as_address(o.product), "error": in_words(o.error)} for o in outcomes if o.error is not None
        ]
        print(json_text({"charts": charts, "failed": errors}))  # noqa: T201  plain, for pipes
    _name_the_map([o.result.folder for o in outcomes if o.result is not None])
    failed = [o.error for o in outcomes if o.error is not None]
    if failed and len(products) == 1:
        raise typer.Exit(1) from failed[0]
    if failed:
        fail(f"{len(failed)} of {len(products)} products could not be {done}.")


def _name_the_map(folders: Sequence[Path]) -> None:
    """Say on stderr how to look at finished charts."""
    charts = list(dict.fromkeys(folder.parent for folder in folders if (folder / "chart.json").is_file()))
    if charts and not progress_wanted.quiet:
        stderr.print(f"On a map in the browser: floemap view {' '.join(shlex.quote(str(c)) for c in charts)}")


def chart_document(folder: Path, *, skipped: bool) -> dict[str, Any]:
    """Return what a finished chart shows at a glance, for JSON, from the record in its folder."""
    from floemap.chart_summary import chart_summary
    from floemap.own_results import describe_result

    described = describe_result(folder)
    found = {"folder": str(folder), "finished_before": skipped}
    return found | ({} if described is None else chart_summary(described[0]["record"]))


def describe_made(folder: Path, *, whole: bool = True) -> None:
    """Describe a result on stderr; if not `whole`, in a line at most. Its path alone goes to stdout."""
    from floemap.chart_summary import chart_summary, summary_line
    from floemap.own_results import describe_result

    described = describe_result(folder)
    if described is None:
        return
    facts, lines = described
    if facts["simulated"]:
        stderr.print("SIMULATED", style="bold yellow")
    if progress_wanted.quiet:
        return
    if whole:
        stderr.print_facts([line for line in lines[1:] if line[0] != "Made by"])
    elif line := summary_line(chart_summary(facts["record"])):
        stderr.print(line)
