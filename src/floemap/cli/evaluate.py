"""``floemap evaluate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, stdout


class ScoreChoice(StrEnum):
    """See :class:`floemap.evaluation.scoring.settings.EvaluateSettings`."""

    either = "either"
    away_from_borders = "away_from_borders"
    truth = "truth"


@command("evaluate")
def evaluate(
    prediction: Annotated[
        Path,
        typer.Argument(metavar="PREDICTION", help="A folder made by `floemap predict`, or a raster of classes."),
    ],
    labels: Annotated[
        Path, typer.Option("--labels", metavar="LABELS", help="A folder made by `floemap label`, or its labels.tif.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that gets a folder named as the prediction.")],
    truth: Annotated[
        Path | None, typer.Option("--truth", help="Of a simulated scene: its truth.tif, on the same grid.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="A raster on the same grid, 0 where nothing shall be scored.")
    ] = None,
    away: Annotated[
        list[int] | None,
        typer.Option("--away-from-borders", metavar="PIXELS", help="Also score pixels farther from polygon borders."),
    ] = None,
    require: Annotated[
        list[ScoreChoice] | None,
        typer.Option("--require", help="A score that must be there, or it is an error."),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Make a finished evaluation again, also in place of another of the same name."
        ),
    ] = False,
) -> None:
    """Score a predicted class map against an ice chart, from rasters.

    DIR gets a folder named as the prediction with evaluation.json, counts and scores, and errors.tif, where the
    prediction is wrong. Scores against the chart's first type are always there; against its first or second type, away
    from polygon borders, and against the truth of a simulated scene, where the rasters for them are.

        floemap evaluate predictions/S1A_... --labels labels/seaice_s1_20180116t075430 --out evaluation
    """
    from floemap.cli.bars import bar
    from floemap.cli.tables import print_scores
    from floemap.evaluation.scoring.evaluate import evaluate_scene
    from floemap.evaluation.scoring.settings import EvaluateSettings
    from floemap.results.stage import as_written

    given = {
        "away_from_borders_px": None if away is None else tuple(away),
        "require": tuple(r.value for r in require or ()),
    }
    settings = EvaluateSettings.checked(**{k: v for k, v in given.items() if v is not None})
    with bar("evaluating") as progress:
        done = evaluate_scene(
            prediction, labels, out, settings, truth=truth, mask=mask, overwrite=overwrite, progress=progress
        )
    with as_written(done.record, "floemap evaluate"):
        print_scores(done.read(), done.folder.name)
    stdout.print(f"{done.folder}{'  (finished before)' if done.skipped else ''}")
