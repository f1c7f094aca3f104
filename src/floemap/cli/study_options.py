"""Parts that the commands of a study share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from floemap.cli.app import fail, stdout
from floemap.counts import counted

if TYPE_CHECKING:
    from pydantic import JsonValue

    from floemap.study.compare import Comparison
    from floemap.study.settings import Study

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A study's settings, a TOML file.")]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="FOLDER", help="Products and charts, in place of [data] folder.")
]
Verify = Annotated[
    bool,
    typer.Option("--verify", help="Read all files again, even if their sizes and times are those of the last run."),
]
SceneJobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", min=1, help="How many scenes are prepared at the same time. (default: as memory and cores allow)"
    ),
]


def read_study(config: Path, data: Path | None, changes: Mapping[str, bool | int | float | str | None]) -> Study:
    """Read a study's settings; apply the folder of scenes and the changes that are not None.

    Raises
    ------
    ConfigError
        If the file or a change is wrong.
    """
    from floemap.study.cells import with_changes, with_loss
    from floemap.study.settings import Study

    study = Study.from_toml(config)
    given: dict[str, JsonValue] = {k: v for k, v in changes.items() if v is not None}
    if "loss.name" in given:
        given |= with_loss(study, str(given.pop("loss.name")))
    if data is not None:
        given["data.folder"] = str(data)
    return with_changes(study, given)


def print_comparison(done: Comparison) -> None:
    """Print the scores of a comparison and where its results are; exit with code 1 if cells have failed."""
    from floemap.cli.tables import print_summary

    print_summary(done.summary, whole=False)
    stdout.print(f"results  {done.results}, tables in {done.folder / 'results.md'}")
    if done.report is not None:
        for sentence in done.report.findings:
            stdout.print(f"- {sentence}", soft_wrap=False)
        stdout.print(f"report   {done.report.page}")
    if done.failed:
        words = "; ".join(f"{name}: {why.rstrip('.')}" for name, why in done.failed.items())
        fail(f"{counted(len(done.failed), 'training')} failed. {words}.")
