"""The style of the report's figures: sizes, colours and marks of contenders, and the writing of figures.

Nothing depends on colour alone: marks, line styles, letters or words carry the same information.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from floemap.legend import RGB

#: Colours of text, of weaker text, and of hair lines.
INK, PALE_INK, HAIR = "#1d2733", "#5d6874", "#d5dbe1"
SIMULATED_INK = "#8a3b00"
#: Colours of error maps. They differ in lightness, so they are distinct in grey.
RIGHT_RGB: RGB = (229, 233, 237)
THINNER_RGB: RGB = (178, 41, 22)
THICKER_RGB: RGB = (112, 170, 216)

DPI = 160
#: Factor by which a screen shows figures, drawn for paper, larger.
_ON_SCREEN = 1.25
_MARKS = ("o", "s", "^", "D", "v", "P")
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.2, 1.2)), (0, (8, 2)), (0, (3, 1, 1, 1)))
#: Colours for all kinds of colour vision after Okabe and Ito, dark enough for thin lines.
_COLOURS = ("#0067a5", "#c8500a", "#00795a", "#84418c", "#806000", "#4b5866")

_RC: Any = {
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.0,
    "axes.edgecolor": PALE_INK,
    "axes.linewidth": 0.6,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": PALE_INK,
    "ytick.color": PALE_INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.facecolor": "white",
    "svg.hashsalt": "floemap",
    "text.parse_math": False,  # titles come from users
}


@dataclass(frozen=True)
class Mark:
    """Colour, marker and line style of one contender, the same in all figures."""

    colour: str
    marker: str
    line: Any


def marks(n: int) -> tuple[Mark, ...]:
    """Return marks for `n` contenders; from the seventh on colours repeat with other lines and markers."""
    k = len(_COLOURS)
    return tuple(Mark(_COLOURS[i % k], _MARKS[(i + i // k) % k], _LINES[(i + i // k) % len(_LINES)]) for i in range(n))


def marks_of(keys: Iterable[str]) -> dict[str, Mark]:
    """Return the mark of each key, assigned in their order."""
    names = list(keys)
    return dict(zip(names, marks(len(names)), strict=True))


def level_lines(ax: Axes) -> None:
    """Draw hair lines at the ticks of the vertical axis, behind everything else."""
    ax.grid(axis="y", color=HAIR, linewidth=0.5)
    ax.set_axisbelow(True)


@dataclass(frozen=True)
class Panel:
    """One map cut out of a figure, so that the page can arrange the maps to its width."""

    title: str
    alt: str
    image: bytes
    media: str = "image/webp"


@dataclass(frozen=True)
class Picture:
    """A figure that was written.

    Attributes
    ----------
    name
        Name of its files, without suffix.
    title, caption
        Title and caption of the figure.
    alt
        Alternative text for screen readers.
    svg
        The figure as the page shows it; empty if it has panels.
    size
        Width and height of the SVG on the page, pixels.
    panels
        Its maps, each cut out, row by row.
    legend
        Titles and colours of the panels that the page's own legends lack.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: bytes = b""
    size: tuple[int, int] = (0, 0)
    panels: tuple[Panel, ...] = ()
    legend: tuple[tuple[str, RGB], ...] = ()


def styled() -> Any:
    """Return a context in which figures are drawn and saved in the report's style."""
    return matplotlib.rc_context(_RC)


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """Return an empty figure, sizes in inches, outside matplotlib's global state."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def legend_above(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Draw a legend above all axes, in as many columns as fit; its further lines make the figure higher."""
    widest = 0.062 * max(map(len, names)) + 0.55  # inches: a letter of 8 points, the line and the gap
    columns = max(1, min(len(names), int(figure.get_figwidth() / widest)))
    lines = -(-len(names) // columns)
    figure.set_figheight(figure.get_figheight() + 0.17 * (lines - 1))
    figure.legend(handles, names, loc="outside upper left", ncols=columns)


def say_simulated(figure: Figure, simulated: bool) -> None:
    """Write on the figure that scenes are simulated, if they are, because figures are used without their report."""
    if simulated:
        words = "SIMULATED scenes and charts: nothing here is about real ice"
        style: dict[str, Any] = {"fontsize": 7, "color": SIMULATED_INK, "fontweight": "bold"}
        if figure.get_layout_engine() is None:
            figure.text(0.08 / figure.get_figwidth(), 0.03 / figure.get_figheight(), words, va="bottom", **style)
        else:
            figure.supxlabel(words, x=0.005, ha="left", **style)


@dataclass(frozen=True)
class Drawn:
    """A written figure, as a PIL image; and as SVG with its text as paths, so that it looks the same with any fonts."""

    image: Any
    figure: Figure

    def svg(self) -> bytes:
        """Draw the figure as SVG for the page, which shows maps by their panels and needs none of them."""
        drawn = io.BytesIO()
        self.figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": "floemap"})
        return drawn.getvalue()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page, pixels of 1/96 inch, enlarged for reading on a screen."""
        width, height = (round(n / DPI * 96 * _ON_SCREEN) for n in self.image.size)
        return width, height


def save(figure: Figure, folder: Path, name: str) -> Drawn:
    """Write `figure` as PNG, and as SVG and PDF whose text is text. Equal figures give identical files."""
    import matplotlib as mpl
    from PIL import Image

    canvas: Any = figure.canvas
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.save(folder / f"{name}.png", dpi=(DPI, DPI), compress_level=6)
    figure.set_layout_engine("none")  # the layout is done and need not be repeated for the SVG
    with mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": "floemap"})
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None, "Creator": "floemap"})
    return Drawn(image, figure)


def small_multiples(
    n: int, most: int, width: float, height: float, room: float, **how: Any
) -> tuple[Figure, list[Axes], list[Axes]]:
    """Return a figure of `n` axes, at most `most` in a row, and those of the first column.

    Sizes are in inches: of one axes, and the height of the `room` around all. `how` is passed to matplotlib.
    """
    columns = min(most, n)
    lines = -(-n // columns)
    figure = new_figure(width * columns, height * lines + room)
    grid = figure.subplots(lines, columns, squeeze=False, **how)
    for ax in grid.flat[n:]:
        ax.set_axis_off()
    return figure, list(grid.flat[:n]), list(grid[:, 0])


def diagram(figure: Figure, folder: Path, name: str, title: str, caption: str, alt: str, *, simulated: bool) -> Picture:
    """Write a diagram, marked if scenes are simulated; see :class:`Picture` for the texts."""
    say_simulated(figure, simulated)
    drawn = save(figure, folder, name)
    return Picture(name, title, caption, alt, svg=drawn.svg(), size=drawn.size)


def cut_out(drawn: Drawn, axes: Sequence[Any], qualities: Sequence[int | None]) -> list[bytes]:
    """Return the content of each axes as WebP: lossless if its quality is None, or with a quality of 1 to 100."""
    images = []
    for ax, quality in zip(axes, qualities, strict=True):
        box = ax.get_window_extent()
        height = drawn.image.height
        part = drawn.image.crop(tuple(round(v) for v in (box.x0, height - box.y1, box.x1, height - box.y0)))
        made = io.BytesIO()
        if quality is None:
            part.save(made, "WEBP", lossless=True, quality=60, method=4)
        else:
            part.save(made, "WEBP", quality=quality, method=4)
        images.append(made.getvalue())
    return images
