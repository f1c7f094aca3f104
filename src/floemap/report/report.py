"""The report of a comparison: one HTML page, figures, and every number, in ``<run>/report``.

report.html                  the page with all figures and tables
figures/*.png, .svg, .pdf    each figure
tables/*.csv, numbers.json   all numbers
tables/measures.tex          the table of measures, for a paper
report.json                  the provenance, written last
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from floemap.errors import FloemapError, GridError
from floemap.evaluation.checks.assess import Assessment, assess_scene
from floemap.evaluation.checks.scene_checks import CHECKS
from floemap.evaluation.checks.scene_checks import STAGE as CHECKS_STAGE
from floemap.evaluation.scoring.tables import markdown
from floemap.evaluation.statistics.bootstrap import FEW_SCENES
from floemap.progress import Progress, part_of, silent
from floemap.report.figures.check_plots import draw_incidence, draw_reliability
from floemap.report.figures.dot_plots import draw_shares, draw_values
from floemap.report.figures.maps import draw_maps
from floemap.report.figures.score_plots import draw_classes, draw_confusion
from floemap.report.figures.style import Picture
from floemap.report.figures.training_plots import draw_training
from floemap.report.findings import findings
from floemap.report.measures import Numbers
from floemap.report.numbers import Assessed, measure_all, scenes_of
from floemap.report.page import Pictures, render_page
from floemap.report.provenance import configuration_text, made_tables, trainings_table
from floemap.report.run_folder import RunFolder, Scene, read_run, whole_records
from floemap.report.tables import write_tables
from floemap.report.values import value_scores_of
from floemap.report.versions import refuse_mixed, versions
from floemap.results.folders import made_of, refuse_replacing, stage_folder
from floemap.results.run_paths import RunPaths, told_from
from floemap.results.seen import remembering
from floemap.results.stage import (
    Stage,
    as_written,
    is_finished,
    os_errors,
    provenance,
    read_json,
    sha256,
    write_json,
)
from floemap.viewer.found import EXPORTED

#: Most scenes with pictures on the page.
MOST_PICTURED = 12
logger = logging.getLogger(__name__)

PAGE, RECORD = "report.html", "report.json"
#: Name of the folder beside a report where it looks for an exported map.
MAP = "map"
#: Formats of the figures.
_KINDS = ("png", "svg", "pdf")
#: Raise the revision when the report's own numbers change: intervals, ranks, findings.
STAGE = Stage(
    "floemap report",
    RECORD,
    revision=3,
    files=(PAGE, "numbers.json", *(f"figures/*.{kind}" for kind in _KINDS), "tables/*.csv", "tables/measures.tex"),
)


@dataclass(frozen=True)
class Report:
    """A finished report.

    Attributes
    ----------
    folder
        Folder of the report.
    findings
        The findings, sentences at the top of the page.
    simulated
        Whether any of the scenes is simulated.
    skipped
        Whether it was finished before the call.
    """

    folder: Path
    findings: tuple[str, ...]
    simulated: bool
    skipped: bool = False

    @property
    def page(self) -> Path:
        """Path of the page."""
        return self.folder / PAGE


def make_report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Report:
    """Make the report of a comparison, unless it is there and made of the same files with the same settings.

    Missing physical checks are computed and kept in ``cells/<cell>/checks`` of the run, those of the charts themselves
    in ``checks``. If all test scenes are simulated and have a truth, the checks compare with the truth.

    Parameters
    ----------
    run
        Folder of :func:`floemap.study.compare.compare`.
    out
        Folder to write, which replaces nothing but an earlier report; by default ``report`` in the run.
    seed
        Seed of the intervals. The same seed gives the same numbers.
    resamples
        Number of resamples for the intervals, at least 200.
    overwrite
        Whether to make the report again in any case.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    FloemapError
        If the run is not finished, no loss has a whole repeat, files are missing or do not belong together, or results
        of one stage are of two revisions.
    OutputError
        If the report cannot be written, or would replace something else. An earlier report then remains.
    """
    found = read_run(run)
    folder = Path(out) if out is not None else RunPaths(found.folder).report
    refuse_replacing(folder, STAGE, sources={"run": found.folder})  # before anything is written, also into the run
    seen = RunPaths(found.folder).data.seen
    # What was found out about files is kept in the run, but not where a link leads out of it.
    with remembering(seen, keep=seen.resolve().is_relative_to(found.folder.resolve())):
        # The revision of the checks is a setting because both stages are of one command.
        settings = {"seed": seed, "resamples": resamples, "checks_revision": CHECKS_STAGE.revision}
        if not overwrite and is_finished(folder, STAGE, inputs=_inputs(found, folder), configuration=settings):
            logger.info("%s is finished already", folder)
            with as_written(folder / RECORD, STAGE.command):
                record = read_json(folder / RECORD)
                return Report(folder, tuple(record["findings"]), record["simulated"], skipped=True)
        return _make(found, folder, settings, progress)


def _inputs(run: RunFolder, folder: Path) -> dict[str, Any]:
    """Return what a report is made from: one hash for all files; and names that the page shows."""
    digest = hashlib.sha256()
    for path in run.files():
        if path.is_file():
            digest.update(f"{os.path.relpath(path, run.folder)}\0{sha256(path)}\0".encode(errors="surrogateescape"))
    inputs = {"run": told_from(folder, run.folder), "name": run.folder.absolute().name, "map": _map_beside(folder)}
    return inputs | {"files": digest.hexdigest()}


def _make(found: RunFolder, folder: Path, settings: Mapping[str, int], progress: Progress) -> Report:
    """Make the report. The parameters are those of :func:`make_report`."""
    began = time.monotonic()
    check_records(found)
    assessed = assess_run(found, progress=part_of(progress, 0, 3, "checks"))
    progress(1, 3, "intervals")
    readers = frozenset(c.key for c in found.contenders if c.reads_shares)
    charts = assess_charts(found)
    inputs = _inputs(found, folder)  # with the checks, which are all there now
    seed, resamples = settings["seed"], settings["resamples"]
    numbers = measure_all(assessed, found.legend, charts, resamples=resamples, seed=seed, readers=readers)
    titles = {c.key: c.title for c in found.contenders if c.key in assessed}
    sentences = [f.text for f in findings(numbers, titles, readers)]
    with stage_folder(folder, STAGE, sources={"run": found.folder}) as partial, os_errors(folder):
        pictures = _draw(found, numbers, partial / "figures", part_of(progress, 2, 3, "figures"))
        write_tables(found, numbers, assessed, sentences, partial)
        page = render_page(found, numbers, sentences, pictures, datetime.now(UTC), _map_beside(folder))
        (partial / PAGE).write_text(page, encoding="utf-8")
        record = provenance(STAGE, inputs=inputs, configuration=settings)
        record |= {"simulated": found.simulated, "findings": sentences, "versions": versions(found)}
        record |= {"seconds": round(time.monotonic() - began, 1)}
        write_json(partial / RECORD, record | {"bytes": made_of(partial)})
    progress(3, 3, "done")
    return Report(folder, tuple(sentences), found.simulated)


def _map_beside(folder: Path) -> str | None:
    """Return the address of the map that `floemap view --export` wrote beside a report; None without one."""
    exported = folder.absolute().parent / MAP
    return f"../{MAP}/index.html" if (exported / EXPORTED).is_file() else None


def check_records(run: RunFolder) -> None:
    """Build all tables of a run's records, so that faults in the records raise an error before the checks run.

    Raises
    ------
    FloemapError
        If a record has missing or wrong values, or results of a stage are of two revisions.
    """
    with whole_records(run.folder, "holds records with"):
        refuse_mixed(run)
        markdown(run.results["summary"])
        value_scores_of(run)
        trainings_table(run)
        made_tables(run)
        configuration_text(run.configuration)


def assess_run(run: RunFolder, *, progress: Progress = silent) -> Assessed:
    """Return the checks of all whole repeats, by contender's key, repeat and scene. Missing checks are computed.

    From :data:`floemap.evaluation.statistics.bootstrap.FEW_SCENES` scenes on, each is in one block, but for checks that
    apply to fewer.

    Raises
    ------
    FloemapError
        If no contender has a whole repeat, or the files of a check are missing.
    GridError
        If maps of a scene have different blocks.
    """
    scenes = {s.name: s for s in run.scenes}
    whole = {c.key: c.whole_repeats(run.scene_names) for c in run.contenders}
    whole = {key: runs for key, runs in whole.items() if runs}
    if not whole:
        raise FloemapError(
            f"no loss has a repeat with all {len(scenes)} test scenes.",
            path=run.folder,
            hint="Run `floemap compare` again: it resumes where it stopped.",
        )
    total = sum(len(own) for runs in whole.values() for own in runs.values())
    blocks: dict[str, int] = {}
    assessed: dict[str, list[Mapping[str, Assessment]]] = {}
    done = 0
    for key, runs in whole.items():
        assessed[key] = []
        for own in runs.values():
            results = {}
            for name, tested in sorted(own.items()):
                told = part_of(progress, done, total, f"{tested.cell}, {scenes[name].short}")
                found = assess_scene(
                    tested.prediction,
                    scenes[name].labels,
                    scenes[name].product,
                    _inside(run, tested.checks.parent),
                    name=tested.checks.name,
                    truth=run.truths.get(name),
                    within=tested.within,
                    # Of many scenes whole ones are resampled, and all blocks of all maps would take gigabytes.
                    by_block=len(scenes) < FEW_SCENES,
                    progress=told,
                )
                if found.blocks != blocks.setdefault(name, found.blocks):
                    raise GridError(
                        f"has {found.blocks} blocks, where other maps of {name} have {blocks[name]}.",
                        path=found.folder,
                        hint="Losses are compared on the same scenes and blocks.",
                    )
                results[name] = found
                done += 1
            assessed[key].append(results)
    return assessed if len(scenes) < FEW_SCENES else _with_blocks_of_few(assessed)


def _with_blocks_of_few(assessed: Assessed) -> Assessed:
    """Return assessments with the blocks of checks that apply to few scenes: of these, blocks are resampled."""
    for check in CHECKS:
        few = scenes_of(check, assessed)
        if len(few) < FEW_SCENES:
            assessed = {
                key: [dict(run) | {name: run[name].with_blocks_of(check) for name in few} for run in runs]
                for key, runs in assessed.items()
            }
    return assessed


def assess_charts(run: RunFolder) -> dict[str, Assessment]:
    """Return the checks of each scene's chart as if it were a map, by scene. Missing checks are computed.

    Raises
    ------
    FloemapError
        If files are missing or do not belong together.
    """
    found = {}
    for scene in run.scenes:
        within = next((t.within for c in run.contenders for t in c.of(scene.name)), None)
        found[scene.name] = assess_scene(
            None,
            scene.labels,
            scene.product,
            _inside(run, RunPaths(run.folder).chart_checks(scene.name)),
            truth=run.truths.get(scene.name),
            within=within,
            by_block=len(run.scenes) < FEW_SCENES,
        )
    return found


def _inside(run: RunFolder, folder: Path) -> Path:
    """Return a folder into which the report writes. Raise an error if a link leads out of the run."""
    if not folder.resolve().is_relative_to(run.folder.resolve()):
        raise FloemapError(
            f"leads out of the run, to {folder.resolve()}, and the report would write into it.",
            path=folder,
            hint="Replace the link by the folder itself.",
        )
    return folder


def _draw(run: RunFolder, numbers: Numbers, folder: Path, progress: Progress) -> Pictures:
    folder.mkdir()
    shown = pictured_scenes(run)
    steps = len(shown) + 1
    maps, diagrams = {}, {}
    for i, scene in enumerate(shown):
        progress(i, steps, scene.short)
        maps[scene.name] = draw_maps(run, scene, folder)
        diagrams[scene.name] = _there(draw_incidence(run, numbers, scene, folder))
    progress(len(shown), steps, "diagrams")
    types = _there(
        draw_shares(run, numbers, folder),
        draw_classes(run, numbers, folder),
        draw_confusion(run, numbers, folder),
        draw_reliability(run, numbers, folder),
    )
    values = [draw_values(run, scores, folder) for scores in value_scores_of(run)]
    return Pictures(maps, diagrams, types, _there(draw_training(run, folder)), values)


def pictured_scenes(run: RunFolder) -> tuple[Scene, ...]:
    """Return the scenes whose maps are drawn: all, or of many the worst, the best, and others at equal steps between.

    They are ordered by the mean of the contenders' weighted F1: the pictures of hundreds of scenes would make a page of
    gigabytes.
    """
    if len(run.scenes) <= MOST_PICTURED:
        return tuple(run.scenes)

    def f1(scene: Scene) -> tuple[float, str]:
        scores = [t.weighted_f1 for c in run.contenders if (t := c.best(scene.name)) is not None]
        return (sum(scores) / len(scores) if scores else 0.0), scene.name

    ranked = sorted(run.scenes, key=f1)
    chosen = {ranked[round(i * (len(ranked) - 1) / (MOST_PICTURED - 1))].name for i in range(MOST_PICTURED)}
    return tuple(s for s in run.scenes if s.name in chosen)


def _there(*pictures: Picture | None) -> list[Picture]:
    return [p for p in pictures if p is not None]
