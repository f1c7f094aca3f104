"""``floemap evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, print_result
from floemap.cli.out_option import folder_named
from floemap.cli.settings_options import FromOptions
from floemap.evaluation.scoring.settings import EvaluateSettings


@command("evaluate")
def evaluate(
    prediction: Annotated[
        Path,
        typer.Argument(metavar="PREDICTION", help="A folder made by `floemap predict`, or a raster of classes."),
    ],
    labels: Annotated[
        Path, typer.Option("--labels", metavar="LABELS", help="A folder made by `floemap label`, or its labels.tif.")
    ],
    out: Annotated[Path, folder_named("of the prediction")],
    *,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="The truth.tif of a simulated scene, on the same grid.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="A raster on the same grid, 0 in pixels that are not scored.")
    ] = None,
    settings: Annotated[
        EvaluateSettings,
        FromOptions({"away_from_borders_px": "--away-from-borders PIXELS", "require": "--require"}),
    ],
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Make a finished evaluation again; also replace another of the same name."),
    ] = False,
) -> None:
    """Score a predicted class map against an ice chart.

    DIR gets a folder of the prediction's name with evaluation.json, counts and scores, and errors.tif, a raster of the
    wrong pixels. The prediction is scored against the chart's dominant type, and, if the files for it exist, against
    the dominant or second type, away from polygon borders, by polygon against the partial concentrations, and against
    the truth of a simulated scene.

        floemap evaluate predictions/S1A_... --labels labels/seaice_s1_20180116t075430 --out evaluation
    """
    from floemap.cli.bars import bar
    from floemap.cli.tables import print_scores
    from floemap.evaluation.scoring.evaluate import evaluate_scene
    from floemap.results.stage import as_written

    with bar("evaluating") as progress:
        done = evaluate_scene(
            prediction, labels, out, settings, truth=truth, mask=mask, overwrite=overwrite, progress=progress
        )
    with as_written(done.record, "floemap evaluate"):
        print_scores(done.read(), done.folder.name)
    print_result(done.folder, skipped=done.skipped)
