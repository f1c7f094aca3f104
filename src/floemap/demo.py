"""The demo: simulated scenes and charts, prepared, labelled and shown. The whole job, as far as it goes, at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray

from floemap.cartography import class_legend, furnish, show_raster
from floemap.charts.label import label_chart
from floemap.cog import read_geobox
from floemap.config import LabelSettings
from floemap.legend import EXTREMEEARTH, IGNORE, LAND_RGB, Legend
from floemap.progress import Progress, silent
from floemap.sentinel1.product import prepare
from floemap.sentinel1.quicklook import false_colour, read_small
from floemap.simulation.twin import TwinMonth, make_twin

DemoSize = Literal["small", "smallest"]

#: Months and pixels along the side of a scene, by size.
_SIZES: dict[DemoSize, tuple[tuple[int, ...], int]] = {"small": ((1, 7), 1600), "smallest": ((1,), 400)}
_MONTHS = {1: "January", 7: "July"}


@dataclass(frozen=True)
class Demo:
    """What the demo made: its picture, and the folders with everything else."""

    picture: Path
    products: tuple[Path, ...]
    labels: tuple[Path, ...]


def run_demo(out: str | Path, size: DemoSize = "small", *, seed: int = 0, progress: Progress = silent) -> Demo:
    """Simulate scenes and charts, prepare and label them, and draw what came out.

    Parameters
    ----------
    out
        Folder for all of it: ``twin/``, ``prepared/``, ``labels/``, ``demo.png``.
    size
        ``small``: January and July. ``smallest``: a quarter of January's resolution, for a quick check.
    seed
        Of the simulation.
    progress
        Is told how far it is.

    Raises
    ------
    FloemapError
        If anything cannot be made.
    """
    out = Path(out)
    months, pixels = _SIZES[size]
    progress(0, 3, "simulating")
    twin = make_twin(out / "twin" / size, pixels, seed=seed, months=months)
    rows: list[tuple[TwinMonth, Path, Path]] = []
    for i, month in enumerate(twin):
        progress(1 + i / len(twin), 3, f"{_MONTHS[month.month]}: preparing and labelling")
        # On the truth's own grid, so that they can be compared pixel by pixel.
        product = prepare(month.product, out / "prepared" / size, like=month.truth / "truth.tif")
        label = label_chart(month.chart, product.raster, out / "labels" / size, LabelSettings(legend=EXTREMEEARTH.name))
        rows.append((month, product.raster, label.raster))
    progress(2.5, 3, "drawing")
    picture = out / "demo.png"
    _draw(rows, picture)
    progress(3, 3, "done")
    return Demo(picture, tuple(r.parent for _, r, _ in rows), tuple(r.parent for _, _, r in rows))


def _draw(rows: list[tuple[TwinMonth, Path, Path]], picture: Path) -> None:
    """One row a month: the scene, the chart's labels, the truth under them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.9 * len(rows) + 0.6), dpi=110, layout="constrained")
    axes: Any = figure.subplots(len(rows), 3, squeeze=False)
    for line, (month, product, label) in zip(axes, rows, strict=True):
        geobox = read_geobox(product)
        show_raster(line[0], false_colour(*read_small(product)), geobox)
        furnish(line[0], geobox, colour="black")
        line[0].set_ylabel(_MONTHS[month.month], fontsize=11)
        chart, truth = _classes(label, 1), _classes(month.truth / "truth.tif", 2)
        truth[chart == IGNORE] = IGNORE
        for ax, classes in ((line[1], chart), (line[2], truth)):
            show_raster(ax, coloured(classes, EXTREMEEARTH), geobox, interpolation="nearest")
            furnish(ax, geobox, colour="black")
    for ax, title in zip(
        axes[0], ("SAR (red: HV, blue: HH)", "The analyst's chart", "The truth under it"), strict=True
    ):
        ax.set_title(title, fontsize=11)
    entries = [(c.title, c.rgb) for c in EXTREMEEARTH.classes]
    class_legend(axes[0, 2], [*entries, ("Land, no label", LAND_RGB)])
    figure.suptitle("SIMULATED scenes and charts: nothing real", fontsize=12)
    figure.savefig(picture)


def _classes(raster: Path, band: int) -> NDArray[np.uint8]:
    with rasterio.open(raster) as d:
        return np.asarray(d.read(band), np.uint8)


def coloured(classes: NDArray[np.uint8], legend: Legend) -> NDArray[np.uint8]:
    """Return (rows, cols, 3) of a class raster in the legend's colours; land's where there is no class."""
    table = np.full((256, 3), LAND_RGB, np.uint8)
    for k, rgb in legend.colours.items():
        table[k] = rgb
    return np.asarray(table[classes], np.uint8)
