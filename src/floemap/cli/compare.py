"""``floemap compare``."""

from __future__ import annotations

from typing import Annotated

import typer

from floemap.cli.app import command
from floemap.cli.out_option import OutForAll
from floemap.cli.study_options import Config, Data, Verify, print_comparison, read_study


@command("compare", resumes=True)
def compare(
    config: Config,
    out: OutForAll,
    data: Data = None,
    repeats: Annotated[
        int | None, typer.Option("--repeats", help="Trainings of each loss, in place of [compare] repeats.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            min=1,
            help="How many scenes are prepared at the same time, and then how many trainings run. (default: as many "
            "scenes as memory and cores allow, and one training for each GPU, else one)",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Make finished parts again, and those begun with other settings."),
    ] = False,
    verify: Verify = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Also make the report.")] = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, estimate time and disk space, and write nothing."),
    ] = False,
) -> None:
    """Compare losses: scenes, model and training are the same, only the loss differs.

    Trains a model with each loss and repeat, predicts the whole test scenes, scores them against the charts, and prints
    the scores, beside the published ones if scenes, legend and split are the same. DIR gets results.json, results.md,
    report/report.html with maps and physical checks, and a folder for each training with its split, model, predictions
    and scores. Finished parts are not made again: an interrupted comparison is resumed, and one with more repeats
    makes only those. A training that fails does not stop the others; the exit code is then 1.

    With --dry-run nothing is written: names, scenes and settings are checked, two training steps are timed on random
    crops, and the trainings are listed with the time and disk space that they will need.

    Paths in CONFIG are relative to the current folder.

        floemap compare configs/paper.toml --data extremeearth --out paper
    """
    from floemap.cli.bars import bar
    from floemap.study.compare import compare as run

    study = read_study(config, data, {"compare.repeats": repeats})
    if dry_run:
        from floemap.cli.tables import print_dry_run
        from floemap.study.dry_run import dry_run as estimate

        print_dry_run(estimate(study))
        return
    with bar(study.name) as progress:
        done = run(study, out, jobs=jobs, report=report, overwrite=overwrite, verify=verify, progress=progress)
    print_comparison(done)
