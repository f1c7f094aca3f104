"""The report of a comparison: one HTML page, figures, and every number, in ``<run>/report``.

report.html          everything in one file
figures/*.png, .svg, .pdf  each figure by itself
tables/*.csv, numbers.json
tables/measures.tex        the table of measures, for a paper
report.json          how it was made, written last
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from floemap.errors import FloemapError
from floemap.evaluation.checks.assess import Assessment, assess_chart, assess_scene
from floemap.evaluation.scoring.tables import markdown
from floemap.progress import Progress, part_of, silent
from floemap.report.figures.check_plots import draw_incidence, draw_reliability
from floemap.report.figures.maps import draw_maps
from floemap.report.figures.style import Picture
from floemap.report.figures.training_plots import draw_classes, draw_confusion, draw_training
from floemap.report.findings import findings
from floemap.report.measures import Numbers
from floemap.report.numbers import Assessed, measure_all
from floemap.report.page import Pictures, render_page
from floemap.report.provenance import configuration_text, made_tables, trainings_table
from floemap.report.run_folder import RunFolder, read_run
from floemap.report.tables import write_tables
from floemap.report.versions import refuse_mixed, versions
from floemap.results.folders import made_of, refuse_replacing, stage_folder
from floemap.results.run_paths import RunPaths, told_from
from floemap.results.stage import Stage, os_errors, provenance, sha256, write_json

logger = logging.getLogger(__name__)

PAGE, RECORD = "report.html", "report.json"
#: Formats of the figures.
_KINDS = ("png", "svg", "pdf")
#: Raise the revision when numbers of the report change that are not another stage's: intervals, ranks, findings.
STAGE = Stage(
    "floemap report",
    RECORD,
    revision=1,
    files=(PAGE, "numbers.json", *(f"figures/*.{kind}" for kind in _KINDS), "tables/*.csv", "tables/measures.tex"),
)


@dataclass(frozen=True)
class Report:
    """A finished report.

    Attributes
    ----------
    folder
        With everything.
    findings
        The sentences that stand first.
    simulated
        Whether any of the scenes is.
    """

    folder: Path
    findings: tuple[str, ...]
    simulated: bool

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / PAGE


def make_report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
    progress: Progress = silent,
) -> Report:
    """Make the report of a comparison, new each time.

    Physical checks that are not there yet are made and kept in ``cells/<cell>/checks`` of the run, those of the charts
    themselves in ``checks``. Where all test scenes are simulated and have a truth, checks compare with that.

    Parameters
    ----------
    run
        Folder of :func:`floemap.study.compare.compare`.
    out
        Folder to make, in the place of nothing but a report; by default ``report`` in the run.
    seed
        Of the intervals: the same seed gives the same numbers.
    resamples
        From which intervals are made, at least 200.
    progress
        Is told how far it is.

    Raises
    ------
    FloemapError
        If the run is not finished, no loss has a whole repeat, files of it are gone or do not fit each other, or
        results of one stage are of two revisions.
    OutputError
        If the report cannot be written, or would take the place of something else. What stood there before stays.
    """
    began = time.monotonic()
    found = read_run(run)
    check_records(found)
    folder = Path(out) if out is not None else RunPaths(found.folder).report
    sources = {"run": found.folder}
    refuse_replacing(folder, STAGE, sources=sources)  # before the work
    assessed = assess_run(found, progress=part_of(progress, 0, 3, "checks"))
    progress(1, 3, "intervals")
    numbers = measure_all(assessed, found.legend, assess_charts(found), resamples=resamples, seed=seed)
    titles = {c.key: c.title for c in found.contenders if c.key in assessed}
    sentences = [f.text for f in findings(numbers, titles)]
    with stage_folder(folder, STAGE, sources=sources) as partial, os_errors(folder):
        pictures = _draw(found, numbers, partial / "figures", part_of(progress, 2, 3, "figures"))
        write_tables(found, numbers, assessed, sentences, partial)
        page = render_page(found, numbers, sentences, pictures, datetime.now(UTC))
        (partial / PAGE).write_text(page, encoding="utf-8")
        results = RunPaths(found.folder).results
        inputs = {"run": told_from(folder, found.folder), results.name: sha256(results)}
        record = provenance(STAGE, inputs=inputs, configuration={"seed": seed, "resamples": resamples})
        record |= {"simulated": found.simulated, "findings": sentences, "versions": versions(found)}
        record |= {"seconds": round(time.monotonic() - began, 1)}
        write_json(partial / RECORD, record | {"bytes": made_of(partial)})
    progress(3, 3, "done")
    return Report(folder, tuple(sentences), found.simulated)


def check_records(run: RunFolder) -> None:
    """Put together all that the page tells of a run's records, so that what is wrong in them is said before any work.

    Raises
    ------
    FloemapError
        If something lacks or is of another kind, or results of a stage are of two revisions.
    """
    try:
        refuse_mixed(run)
        markdown(run.results["summary"])
        trainings_table(run)
        made_tables(run)
        configuration_text(run.configuration)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, IndexError) as e:
        hint = "Run `floemap compare` again: it writes them anew."
        raise FloemapError(f"holds records that lack or have wrong: {e!r}.", path=run.folder, hint=hint) from e


def assess_run(run: RunFolder, *, progress: Progress = silent) -> Assessed:
    """Return the checks of all whole repeats: by contender's key, for each repeat, by scene. What is missing is made.

    Raises
    ------
    FloemapError
        If a contender has no whole repeat, or a check's files are gone.
    """
    scenes = {s.name: s for s in run.scenes}
    whole = {c.key: c.whole_repeats(run.scene_names) for c in run.contenders}
    whole = {key: runs for key, runs in whole.items() if runs}
    if not whole:
        raise FloemapError(
            f"no loss has a repeat with all {len(scenes)} test scenes.",
            path=run.folder,
            hint="Run `floemap compare` again: it goes on where it stopped.",
        )
    total = sum(len(own) for runs in whole.values() for own in runs.values())
    assessed: dict[str, list[Mapping[str, Assessment]]] = {}
    done = 0
    for key, runs in whole.items():
        assessed[key] = []
        for own in runs.values():
            results = {}
            for name, tested in sorted(own.items()):
                told = part_of(progress, done, total, f"{tested.cell}, {scenes[name].short}")
                results[name] = assess_scene(
                    tested.prediction,
                    scenes[name].labels,
                    scenes[name].product,
                    _inside(run, tested.checks.parent),
                    name=tested.checks.name,
                    truth=run.truths.get(name),
                    within=tested.within,
                    progress=told,
                )
                done += 1
            assessed[key].append(results)
    return assessed


def assess_charts(run: RunFolder) -> dict[str, Assessment]:
    """Return the checks of each scene's chart as if it were a map, by scene. What is missing is made.

    Raises
    ------
    FloemapError
        If files are gone or do not fit each other.
    """
    found = {}
    for scene in run.scenes:
        within = next((t.within for c in run.contenders for t in c.of(scene.name)), None)
        found[scene.name] = assess_chart(
            scene.labels,
            scene.product,
            _inside(run, RunPaths(run.folder).chart_checks(scene.name)),
            truth=run.truths.get(scene.name),
            within=within,
        )
    return found


def _inside(run: RunFolder, folder: Path) -> Path:
    """Return a folder of the run that is to be written into, if it is one: links in a run lead nowhere else."""
    if not folder.resolve().is_relative_to(run.folder.resolve()):
        raise FloemapError(
            f"leads out of the run, to {folder.resolve()}, and would be written into.",
            path=folder,
            hint="Put the folder itself there, in place of the link.",
        )
    return folder


def _draw(run: RunFolder, numbers: Numbers, folder: Path, progress: Progress) -> Pictures:
    folder.mkdir()
    steps = len(run.scenes) + 1
    maps, diagrams = {}, {}
    for i, scene in enumerate(run.scenes):
        progress(i, steps, scene.short)
        maps[scene.name] = draw_maps(run, scene, folder)
        diagrams[scene.name] = _there(draw_incidence(run, numbers, scene, folder))
    progress(len(run.scenes), steps, "diagrams")
    types = _there(
        draw_classes(run, numbers, folder), draw_confusion(run, numbers, folder), draw_reliability(run, numbers, folder)
    )
    return Pictures(maps, diagrams, types, _there(draw_training(run, folder)))


def _there(*pictures: Picture | None) -> list[Picture]:
    return [p for p in pictures if p is not None]
