"""The report's diagrams of training: losses and scores by epoch."""

from __future__ import annotations

from pathlib import Path

from matplotlib.ticker import MaxNLocator

from floemap.report.figures.style import (
    PALE_INK,
    Picture,
    diagram,
    level_lines,
    marks_of,
    small_multiples,
    styled,
)
from floemap.report.run_folder import RunFolder


def draw_training(run: RunFolder, folder: Path) -> Picture | None:
    """Draw loss by epoch for each contender, and weighted F1 of all; None if no training has a record of epochs."""
    contenders = [c for c in run.contenders if any(cell.epochs for cell in c.cells)]
    if not contenders:
        return None
    look = marks_of(c.key for c in run.contenders)
    caption = (
        "Loss by epoch: on the training crops (grey, dashed) and on the validation parts (coloured); the mark is the "
        "epoch whose weights are evaluated. Losses of different kinds have no common scale; weighted F1 has."
    )
    with styled():
        figure, axes, _ = small_multiples(len(contenders) + 1, 4, 2.75, 2.3, 0.2)
        for ax, contender in zip(axes, contenders, strict=False):
            for cell in contender.cells:
                epochs = [r["epoch"] for r in cell.epochs]
                checked = [r for r in cell.epochs if r.get("validation_loss") is not None]
                ax.plot(
                    epochs, [r["loss"] for r in cell.epochs], color=PALE_INK, linewidth=0.8, linestyle=(0, (2, 1.5))
                )
                ax.plot([r["epoch"] for r in checked], [r["validation_loss"] for r in checked],
                        color=look[contender.key].colour, linewidth=1.2)  # fmt: skip
                if checked:
                    best = min(checked, key=lambda r: r["validation_loss"])
                    ax.plot(best["epoch"], best["validation_loss"], look[contender.key].marker, markersize=5,
                            color=look[contender.key].colour, markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip
            ax.set_title(contender.title)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            ax.set_xlabel("epoch")
            ax.set_ylim(bottom=0)
            level_lines(ax)
        axes[0].set_ylabel("loss")
        ax = axes[-1]
        for contender in contenders:
            m = look[contender.key]
            for i, cell in enumerate(contender.cells):
                scored = [r for r in cell.epochs if r.get("weighted_f1") is not None]
                ax.plot([r["epoch"] for r in scored], [r["weighted_f1"] for r in scored], color=m.colour,
                        linestyle=m.line, linewidth=1.2, label=contender.title if i == 0 else None)  # fmt: skip
        ax.set_title("Weighted F1, validation")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.set_xlabel("epoch")
        ax.legend(loc="best", fontsize=7)
        level_lines(ax)
        return diagram(
            figure,
            folder,
            "training",
            "Loss and score by epoch",
            caption,
            _training_words(run),
            simulated=run.simulated,
        )


def _training_words(run: RunFolder) -> str:
    words = []
    for contender in run.contenders:
        lengths = [len(c.epochs) for c in contender.cells if c.epochs]
        if lengths:
            span = f"{min(lengths)}" if min(lengths) == max(lengths) else f"{min(lengths)} to {max(lengths)}"
            words.append(f"{contender.title} {span} epochs")
    return f"Training curves: {', '.join(words)}."
