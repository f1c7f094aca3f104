"""``floemap train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, stdout
from floemap.cli.out_option import out_option
from floemap.cli.study_options import Config, Data, SceneJobs, Verify, read_study


@command("train", resumes=True)
def train(
    config: Config,
    out: Annotated[Path, out_option("Folder for data, split and model.")],
    data: Data = None,
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss", help="In place of [loss] name; also a variant of [compare], or module:Class of your own."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="In place of [training] seed.")] = None,
    jobs: SceneJobs = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again, even if finished or begun.")] = False,
    verify: Verify = False,
) -> None:
    """Train one model on scenes and charts.

    First, bands of the products and labels of the charts are made in DIR/data, and the split is written to
    DIR/split.json. DIR/model gets model.safetensors, the weights with the lowest validation loss and all that a
    prediction needs, and metrics.jsonl, a line for each epoch. To resume an interrupted run, even a killed one, repeat
    the command: it resumes at the last finished epoch.

    Paths in CONFIG are relative to the current folder.

        floemap train configs/demo.toml --data twin --loss focal --out run
    """
    from floemap.cli.bars import bar
    from floemap.study.compare import train_model

    study = read_study(config, data, {"loss.name": loss, "training.seed": seed})
    with bar(study.name) as progress:
        checkpoint = train_model(study, out, jobs=jobs, overwrite=overwrite, verify=verify, progress=progress)
    stdout.print(f"{checkpoint}")
