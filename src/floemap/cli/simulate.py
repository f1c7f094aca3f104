"""``floemap simulate``: scenes and charts with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, group, stderr, stdout

simulate = group("simulate", "Scenes and charts with known truth. Never evidence about real ice.")

_Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
_Seed = Annotated[int, typer.Option("--seed", help="Another number, another ice. The same number, the same bytes.")]


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
            "--chart", help="Take the zones from this SIGRID-3 chart, moved onto the scene if it lies off it."
        ),
    ] = None,
    month: Annotated[
        int | None, typer.Option("--month", min=1, max=12, help="Whose season it is. (default: the product's)")
    ] = None,
    seed: _Seed = 0,
) -> None:
    """Give a real product's metadata simulated pixels.

    The product keeps its name, its look-up tables and its geometry; manifest, TIFFs and SIMULATED.txt say that its
    pixels are simulated.

        floemap simulate pixels S1A_EW_GRDM_1SDH_... --out simulated --chart chart.shp
    """
    from floemap.cli.bars import bar
    from floemap.simulation.pixels import simulate_pixels

    with bar(metadata.name) as progress:
        made = simulate_pixels(metadata, out, chart=chart, month=month, seed=seed, progress=progress)
    stdout.print(str(made.path), highlight=False, markup=False)
    if made.placement is not None and not made.placement.in_place:
        stderr.print(
            f"The chart lies off the scene: it was moved onto it, {made.placement.scale:.2g} times its size.",
            highlight=False,
        )
