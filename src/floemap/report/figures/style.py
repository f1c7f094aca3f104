"""How the report's figures look: sizes, colours and marks of what is compared, and how a figure is written.

Everything that is told by colour is told by something else too: a mark, a kind of line, letters, or words.
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

#: Ink, weaker ink, hair lines.
INK, PALE_INK, HAIR = "#1d2733", "#5d6874", "#d5dbe1"
SIMULATED_INK = "#8a3b00"
#: Error maps. They differ in lightness, so that they can be told apart in grey.
RIGHT_RGB: RGB = (229, 233, 237)
THINNER_RGB: RGB = (178, 41, 22)
THICKER_RGB: RGB = (112, 170, 216)

DPI = 160
#: Figures are drawn for paper; on a screen they are shown larger by this.
_ON_SCREEN = 1.25
_MARKS = ("o", "s", "^", "D", "v", "P")
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.2, 1.2)), (0, (8, 2)), (0, (3, 1, 1, 1)))
#: Okabe and Ito's colours for all kinds of colour vision, those that are dark enough for thin lines.
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
}


@dataclass(frozen=True)
class Mark:
    """How one of the compared losses is drawn, the same in all figures."""

    colour: str
    marker: str
    line: Any


def marks(n: int) -> tuple[Mark, ...]:
    """Return marks for `n` things; from the seventh on colours come again with other lines and markers."""
    k = len(_COLOURS)
    return tuple(Mark(_COLOURS[i % k], _MARKS[(i + i // k) % k], _LINES[(i + i // k) % len(_LINES)]) for i in range(n))


def marks_of(keys: Iterable[str]) -> dict[str, Mark]:
    """Return the mark of each of these, in their order."""
    names = list(keys)
    return dict(zip(names, marks(len(names)), strict=True))


def level_lines(ax: Axes) -> None:
    """Draw hair lines at the ticks of the upright axis, behind everything."""
    ax.grid(axis="y", color=HAIR, linewidth=0.5)
    ax.set_axisbelow(True)


@dataclass(frozen=True)
class Panel:
    """One map of a figure, cut out, so that a page can arrange the maps to its width."""

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
        Of its files, without suffix.
    title, caption
        Of the figure: what it is, and what one sees.
    alt
        For those who do not see it.
    svg
        The figure, for the page; empty where it has panels.
    size
        Of the SVG as a page shows it, pixels.
    panels
        Its maps, each cut out, row by row.
    legend
        Colours of the panels that the page does not know.
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
    """Return an empty figure of so many inches, no part of it in matplotlib's global state."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def say_simulated(figure: Figure, simulated: bool) -> None:
    """Say on the figure itself that scenes are simulated, if they are: a figure travels without its report."""
    if simulated:
        words = "SIMULATED scenes and charts: nothing here is about real ice"
        style: dict[str, Any] = {"fontsize": 7, "color": SIMULATED_INK, "fontweight": "bold"}
        if figure.get_layout_engine() is None:
            figure.text(0.08 / figure.get_figwidth(), 0.03 / figure.get_figheight(), words, va="bottom", **style)
        else:
            figure.supxlabel(words, x=0.005, ha="left", **style)


@dataclass(frozen=True)
class Drawn:
    """A figure as it was written: as a picture of PIL's, and as SVG."""

    image: Any
    svg: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as a page shows it, pixels of 1/96 inch, somewhat enlarged for reading on a screen."""
        width, height = (round(n / DPI * 96 * _ON_SCREEN) for n in self.image.size)
        return width, height


def save(figure: Figure, folder: Path, name: str) -> Drawn:
    """Write `figure` as PNG, and as SVG and PDF whose text is text. The same figure makes the same files.

    The SVG of the page has its text drawn instead: a page looks the same whichever fonts its reader has.
    """
    import matplotlib as mpl
    from PIL import Image

    canvas: Any = figure.canvas
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.save(folder / f"{name}.png", dpi=(DPI, DPI), compress_level=6)
    figure.set_layout_engine("none")  # it is laid out: the SVG need not be again
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": "floemap"})
    with mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": "floemap"})
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None, "Creator": "floemap"})
    return Drawn(image, drawn.getvalue())


def cut_out(drawn: Drawn, axes: Sequence[Any], qualities: Sequence[int | None]) -> list[bytes]:
    """Return what is drawn inside of each axes as WebP: lossless, or with a quality of 1 to 100."""
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
