"""``floemap simulate``: scenes and charts with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, group, print_result, stderr, stdout
from floemap.cli.out_option import out_option

simulate = group("simulate", "Simulate scenes and charts with known truth. They are no evidence about real ice.")

_Out = Annotated[Path, out_option("Folder for the results.")]
_Seed = Annotated[
    int, typer.Option("--seed", help="Seed: another one gives another ice, the same one gives identical files.")
]


@command("pixels", simulate)
def pixels(
    metadata: Annotated[
        Path,
        typer.Argument(metavar="METADATA_DIR", help="A real product's folder or zip, with or without its pixels."),
    ],
    out: _Out,
    chart: Annotated[
        Path | None,
        typer.Option(
            "--chart", help="Take the ice zones from this SIGRID-3 chart, moved onto the scene if it lies elsewhere."
        ),
    ] = None,
    month: Annotated[
        int | None,
        typer.Option("--month", min=1, max=12, help="Month of the simulated season. (default: the product's)"),
    ] = None,
    seed: _Seed = 0,
) -> None:
    """Add simulated pixels to a real product's metadata.

    The product keeps its name, its look-up tables and its geometry; manifest, TIFFs and SIMULATED.txt say that its
    pixels are simulated.

        floemap simulate pixels S1A_EW_GRDM_1SDH_... --out simulated --chart chart.shp
    """
    from floemap.cli.bars import bar
    from floemap.simulation.pixels import simulate_pixels

    with bar(metadata.name) as progress:
        made = simulate_pixels(metadata, out, chart=chart, month=month, seed=seed, progress=progress)
    stdout.print(str(made.path))
    if made.placement is not None and not made.placement.in_place:
        grown = f" and made {made.placement.scale:.1f} times as large" if made.placement.scale > 1 else ""
        stderr.print(f"The chart lies elsewhere: it was moved onto the scene{grown}.")
    if made.chart is not None:
        stdout.print(f"chart  {made.chart}")


@command("twin", simulate)
def twin(
    out: _Out,
    size: Annotated[
        str,
        typer.Option(
            "--size",
            metavar="full|small|PX",
            help="full: 10487 pixels of 40 m across, 440 MB a month; small: 1000 pixels of 400 m; or a number"
            " of pixels across. All cover some 400 km.",
        ),
    ] = "small",
    months: Annotated[str, typer.Option("--months", help='Months, as in "1,7" or "2-4,12".')] = "all",
    workers: Annotated[int, typer.Option("--workers", min=1, help="How many months to make at the same time.")] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make finished months again.")] = False,
    seed: _Seed = 0,
) -> None:
    """Make a simulated twin of the ExtremeEarth dataset: products, charts, and the true ice classes.

    Names, columns and codes are the real dataset's, so everything that runs on the real one runs on the twin. An
    interrupted run is resumed.

        floemap simulate twin --out twin --months 1,7
    """
    from floemap.cli.bars import bar
    from floemap.datasets.extremeearth.scenes import months_from_text
    from floemap.errors import ConfigError
    from floemap.simulation.twin import Size, make_twin

    chosen: Size = "full" if size == "full" else "small"
    if size not in ("full", "small"):
        if not size.isdigit():
            raise ConfigError(f"--size is {size!r}.", hint="Give full, small, or a number of pixels.")
        chosen = int(size)
    with bar("twin") as progress:
        made = make_twin(
            out, chosen, seed=seed, months=months_from_text(months), workers=workers, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
    for m in made:
        print_result(m.product, skipped=m.skipped)


@command("ai4arctic", simulate)
def ai4arctic(
    out: _Out,
    scenes: Annotated[int, typer.Option("--scenes", metavar="N", help="Number of scenes, 1 to 532.")] = 10,
    size: Annotated[
        int,
        typer.Option(
            "--size",
            metavar="PX",
            help="Samples of the ready-to-train files: 5213 of 80 m as in real ones, or fewer and larger"
            " ones, from 100. All cover some 400 km.",
        ),
    ] = 400,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make finished scenes again.")] = False,
    seed: _Seed = 0,
) -> None:
    """Make simulated files in the form of the AI4Arctic sea ice challenge dataset, raw and ready to train.

    Variables, types and attributes are those of real files, and scenes have names of the official lists with SIMULATED_
    before them. A fifth of the scenes are test scenes. The true surface lies beside. An interrupted run is resumed.

        floemap simulate ai4arctic --out ai4arctic --scenes 10
    """
    from floemap.cli.bars import bar
    from floemap.simulation.ai4arctic import make_ai4arctic

    with bar("ai4arctic") as progress:
        made = make_ai4arctic(out, scenes, size=size, seed=seed, overwrite=overwrite, progress=progress)
    for one in made:
        print_result(one.folder, skipped=one.skipped)
