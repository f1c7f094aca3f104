"""``floemap plan``, ``floemap cell`` and ``floemap gather``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from floemap.cli.app import command, stderr, stdout
from floemap.cli.out_option import out_option
from floemap.cli.study_options import Config, Data, SceneJobs, Verify, print_comparison, read_study
from floemap.counts import counted

Run = Annotated[Path, out_option("Folder of the comparison, from `floemap plan`.")]


@command("plan", resumes=True)
def plan(
    config: Config,
    out: Annotated[Path, out_option("Folder for all results, which all hosts can reach.")],
    data: Data = None,
    repeats: Annotated[
        int | None, typer.Option("--repeats", help="Trainings of each loss, in place of [compare] repeats.")
    ] = None,
    jobs: SceneJobs = None,
    verify: Verify = False,
) -> None:
    """Plan a comparison whose trainings run as jobs of a queue, or on several hosts.

    Checks all settings, writes DIR/plan.json, prepares and labels the scenes, and prints the name of each cell, one a
    line: a cell is one training with its predictions and scores. Then run each with `floemap cell`, in any order and
    place, and at last `floemap gather`. The results are those of `floemap compare`. docs/howto/slurm.md has scripts.

        floemap plan configs/paper.toml --data extremeearth --out paper
    """
    from floemap.cli.bars import bar
    from floemap.study.spread import plan_comparison

    study = read_study(config, data, {"compare.repeats": repeats})
    with bar(study.name) as progress:
        names = plan_comparison(study, out, jobs=jobs, verify=verify, progress=progress)
    for name in names:
        stdout.print(name)
    stderr.print(f"{counted(len(names), 'cell')}; run each with: floemap cell CELL --out {quote(str(out))}")


@command("cell", resumes=True)
def cell(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="Name of the cell, or its number in the plan, from 0.")],
    out: Run,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train, predict and score again.")] = False,
    verify: Verify = False,
) -> None:
    """Run one cell of a planned comparison: train, predict the test scenes, score them.

    The results are in DIR/cells/CELL. To resume an interrupted cell, repeat the command: finished steps are not run
    again. Cells may run at the same time, on any number of hosts that share DIR.

        floemap cell dice_r0 --out paper
        floemap cell $SLURM_ARRAY_TASK_ID --out paper
    """
    from floemap.cli.bars import bar
    from floemap.study.spread import run_cell

    with bar(cell) as progress:
        stdout.print(f"{run_cell(out, cell, overwrite=overwrite, verify=verify, progress=progress)}")


@command("gather", resumes=True)
def gather(
    out: Run,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Also make the report.")] = True,
) -> None:
    """Gather the finished cells of a planned comparison into results.json, results.md and the report.

    A cell that has not finished is named, and left out of tables and report; the exit code is then 1.

        floemap gather --out paper
    """
    from floemap.cli.bars import bar
    from floemap.study.spread import gather_comparison

    with bar(out.name) as progress:
        done = gather_comparison(out, report=report, progress=progress)
    print_comparison(done)
