"""Parts that the commands of many products share: bars, a line for each product, the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Protocol

import typer

from floemap.cli.app import fail, in_words, print_result, progress_wanted, stderr
from floemap.outcomes import HasFolder, Outcome
from floemap.progress import Progress

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder that gets one folder for each product.")]


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


def run_each(products: Sequence[Path], done: str, work: Work) -> None:
    """Do `work` on all products; print each result's folder or error; exit with code 1 if one failed.

    `done` is the participle of the work, as in "3 of 5 products could not be {prepared}".
    """
    from floemap.cli.bars import Bars

    with Bars(len(products), "products") as bars:

        def finished(outcome: Outcome[InFolder]) -> None:
            bars.finish()
            if outcome.result is not None:
                print_result(outcome.result.folder, skipped=outcome.result.skipped)
                describe_made(outcome.result.folder, whole=len(products) == 1)
            elif outcome.error is not None:
                stderr.print(f"error: {in_words(outcome.error)}", style="bold red")

        outcomes = work(progress_of=lambda p: bars.begin(p.name), finished=finished)
    failed = [o.error for o in outcomes if o.error is not None]
    if failed and len(products) == 1:
        raise typer.Exit(1) from failed[0]
    if failed:
        fail(f"{len(failed)} of {len(products)} products could not be {done}.")


def describe_made(folder: Path, *, whole: bool = True) -> None:
    """Describe a result on stderr; if not `whole`, say only whether it is simulated. Its path alone goes to stdout."""
    whole = whole and not progress_wanted.quiet
    from floemap.own_results import describe_result

    described = describe_result(folder)
    if described is None:
        return
    facts, lines = described
    if facts["simulated"]:
        stderr.print("SIMULATED", style="bold yellow")
    if whole:
        stderr.print_facts([line for line in lines[1:] if line[0] != "Made by"])
