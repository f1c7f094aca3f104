"""The demo: the whole job on simulated scenes, from products and charts to the comparison of losses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from floemap.datasets.extremeearth.scenes import ALL_MONTHS, CRS
from floemap.legend import EXTREMEEARTH
from floemap.progress import Progress, part_of, silent
from floemap.simulation.twin import Size, make_twin, resolution_m, twin_spec
from floemap.threads import usable_cores

if TYPE_CHECKING:
    from floemap.study.settings import Study

DemoSize = Literal["small", "smallest"]

#: Months and pixels along the side of a scene, by size.
_TWINS: dict[DemoSize, tuple[tuple[int, ...], Size]] = {"small": (ALL_MONTHS, "small"), "smallest": ((1, 2, 3, 7), 400)}


@dataclass(frozen=True)
class Demo:
    """Result of the demo.

    Attributes
    ----------
    folder
        Folder of the comparison: data, a folder for each training, results.json, results.md.
    summary
        Scores, as :func:`floemap.evaluation.statistics.summary.summarise` returns them.
    report
        Path of the report, an HTML page.
    findings
        The sentences at the top of the report.
    """

    folder: Path
    summary: dict[str, Any]
    report: Path
    findings: tuple[str, ...]


def demo_study(size: DemoSize, twin: Path) -> Study:
    """Return the study that the demo runs. That of the size "small" is ``configs/demo.toml``."""
    from floemap.study.settings import Study

    months, pixels = _TWINS[size]
    small = size == "small"
    return Study.checked(
        name="demo",
        data={
            "folder": twin,
            "months": months,
            "legend": EXTREMEEARTH.name,
            "prepare": {"resolution_m": resolution_m(twin_spec(1, pixels)), "crs": CRS},
        },
        crops={"size_px": 256 if small else 96, "per_scene": 8 if small else 4, "flips": True},
        training={
            "batch": 4,
            "learning_rate": 3e-4,
            "max_epochs": 8 if small else 1,
            "patience": 3,
            "stop_after": 6,
        },
        compare={"losses": ("cross_entropy", "dice", "focal"), "repeats": 1},
    )


def run_demo(
    out: str | Path,
    size: DemoSize = "small",
    *,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Demo:
    """Simulate scenes and charts, train with three losses, predict, score, and report.

    Parameters
    ----------
    out
        Folder for all results: ``twin-<size>/`` with scenes and charts, ``<size>/`` with the comparison and its report.
    size
        ``small``: twelve months, a few minutes on two processor cores. ``smallest``: four months at a quarter of the
        resolution and one epoch of training, to check that everything runs.
    seed
        Seed of the simulation.
    overwrite
        Whether to train again the models whose training is finished, or was begun with other settings.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    FloemapError
        If a step fails. Finished results stay, and the same call resumes from them.
    """
    from floemap.study.compare import compare

    out = Path(out)
    months, pixels = _TWINS[size]
    twin = out / f"twin-{size}"
    workers = 2 if usable_cores() > 1 and size == "small" else 1
    make_twin(twin, pixels, seed=seed, months=months, workers=workers, progress=part_of(progress, 0, 4, "simulating"))

    def three_quarters(done: float, total: float, what: str) -> None:
        progress(1 + 3 * done / total, 4, what)

    done = compare(demo_study(size, twin), out / size, overwrite=overwrite, progress=three_quarters)
    assert done.report is not None
    progress(4, 4, "done")
    return Demo(done.folder, done.summary, done.report.page, done.report.findings)
