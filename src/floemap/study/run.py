"""One cell of a study: train, predict the test scenes, score them. Each step is a stage; finished stages are kept.

:class:`floemap.results.run_paths.CellPaths` describes its folder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from floemap.bands import BandSet
from floemap.cog import read_geobox
from floemap.datasets.extremeearth.scenes import Role
from floemap.errors import ConfigError, GridError, OutputError
from floemap.grid import crs_of
from floemap.icechart.label.polygon_table import RASTER
from floemap.learning.data.parts import ScenePart
from floemap.learning.models.checkpoint_header import RESOLUTION_TOLERANCE, read_about, refuse_known
from floemap.learning.settings import LearningSettings
from floemap.own_legends import chosen_legend
from floemap.progress import Progress, part_of, silent
from floemap.results.folders import refuse_foreign_files
from floemap.results.run_paths import CellPaths, DataPaths, told_from
from floemap.results.seen import found_out
from floemap.results.stage import (
    Stage,
    as_before,
    make_folder,
    one_at_a_time,
    os_errors,
    provenance,
    read_json,
    recorded,
    write_json,
    write_whole,
)
from floemap.study.cells import Cell
from floemap.study.scene import StudyScene
from floemap.study.settings import Study
from floemap.study.split import ROLES, Split, make_split

#: Each step of a cell is a stage with its own revision. Raise this one when the steps are combined in another way.
STAGE = Stage("floemap compare", "cell.json", revision=0)
#: How paths begin that lead from a cell's folder, ``cells/NAME`` in the run, out of the run.
_BESIDE = "../../../"


def train_on(
    study: Study,
    scenes: Sequence[StudyScene],
    out: Path,
    data: DataPaths,
    *,
    needed: Sequence[Role] = ROLES,
    overwrite: bool = False,
    progress: Progress = silent,
) -> tuple[Path, Split]:
    """Split the scenes, write ``split.json`` and train one model; return its checkpoint and the split.

    Raises
    ------
    ConfigError, TrainingError, ModelError
        See :func:`floemap.study.split.make_split` and :func:`floemap.learning.training.loop.train`.
    """
    from floemap.learning.models.start import read_start
    from floemap.learning.training.loop import train

    classes = chosen_legend(study.data.legend)
    with one_at_a_time(data.parts):
        split = make_split(study.split, scenes, classes, data.parts, needed)
    about = about_data(split)
    paths = CellPaths(out)
    learnt, held = (with_bands(split.of(role), study.data.bands) for role in ("train", "validation"))
    start = read_start(study.learning().model, classes, about["resolution_m"], learnt[0].bands)
    if start is not None:
        refuse_known(start.about, start.path, (share.scene.product.name for share, _ in split.tests))
    _refuse_foreign_split(paths.split)
    with os_errors(out):
        make_folder(out)
    with _kept_where_refused(paths.split):
        learnt, held = (with_polygons(parts, study.learning()) for parts in (learnt, held))
        write_json(paths.split, split.record)
        trained = train(
            learnt,
            held,
            study.learning(),
            classes,
            paths.model,
            about=about,
            overwrite=overwrite,
            surveys_in=data.surveys,
            progress=progress,
        )
    return trained.checkpoint, split


def with_bands(parts: Sequence[ScenePart], names: Sequence[str]) -> tuple[ScenePart, ...]:
    """Return parts that give the named ones of their bands."""
    return tuple(replace(p, bands=BandSet(tuple(p.bands[n] for n in names))) for p in parts)


def with_polygons(parts: Sequence[ScenePart], settings: LearningSettings) -> tuple[ScenePart, ...]:
    """Return parts with the charts' polygons, if losses read them or borders are left out; else as they are.

    Raises
    ------
    ConfigError
        If labels have no polygons beside them.
    """
    from floemap.learning.losses.tasks import reads_polygons

    border, reader = settings.crops.border_px, reads_polygons(settings)
    if not border and not reader:
        return tuple(parts)
    found = tuple(replace(p, polygons=p.labels.with_name(RASTER), border_px=border) for p in parts)
    missing = [p.name for p in found if p.polygons is None or not p.polygons.is_file()]
    if missing:
        why = f"crops.border_px is {border}" if border else f"{reader} polygons"
        raise ConfigError(
            f"{why}, but the labels of {', '.join(missing)} have no {RASTER} beside them.",
            hint="Label the charts again with `floemap label --overwrite`, which writes it.",
        )
    return found


def _refuse_foreign_split(path: Path) -> None:
    """Refuse to overwrite a file that is not a split."""
    if path.is_file() and path.stat().st_size and not read_json(path).keys() >= {"settings", "parts"}:
        raise OutputError("exists already, and is not a split.", path=path, hint="Move it, or choose another --out.")


@contextmanager
def _kept_where_refused(path: Path) -> Iterator[None]:
    """Restore a file if the block raises ConfigError: the file belongs to the training that is in the folder."""
    before = path.read_bytes() if path.is_file() else None
    try:
        yield
    except ConfigError:
        if before is not None:
            write_whole(path, before)
        raise


def about_data(split: Split) -> dict[str, Any]:
    """Return the entries of a checkpoint's header that describe its scenes.

    Raises
    ------
    GridError
        If the scenes do not all have the same pixel size.
    """
    learnt = [s for s in split.shares if s.role != "test"]
    first = learnt[0].scene
    geobox = read_geobox(first.raster)
    for scene in {s.scene.name: s.scene for s in split.shares}.values():
        size = found_out("pixel size", [scene.raster], partial(_pixel_m, scene.raster))
        if not math.isclose(size, abs(geobox.resolution.x), rel_tol=RESOLUTION_TOLERANCE):
            raise GridError(
                f"has pixels of {size:g} m; those of {first.name} have {abs(geobox.resolution.x):g} m.",
                path=scene.raster,
                hint="A model is trained on one pixel size: prepare all scenes with the same resolution.",
            )
    crs = crs_of(geobox)
    return {
        "resolution_m": float(abs(geobox.resolution.x)),
        "crs": f"EPSG:{crs.epsg}" if crs.epsg else crs.to_wkt(),
        "simulated": any(s.scene.simulated for s in learnt),
        "data": [{"part": s.name, "role": s.role} | s.scene.about() for s in learnt],
    }


def _pixel_m(raster: Path) -> float:
    return float(abs(read_geobox(raster).resolution.x))


def run_cell(
    cell: Cell,
    scenes: Sequence[StudyScene],
    out: Path,
    data: DataPaths,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run a cell in the folder `out`, or resume it; return its record, ``cell.json``.

    Raises
    ------
    FloemapError
        As its steps do. Finished steps are kept.
    """
    from floemap.evaluation.checks.assess import assess_scene
    from floemap.evaluation.scoring.evaluate import evaluate_scene
    from floemap.inference.predict.predict import predict

    began = time.monotonic()
    paths = CellPaths(out)
    refuse_foreign_files(out, STAGE, [paths.record.name])
    before = recorded(paths.record)
    with os_errors(out):
        paths.record.unlink(missing_ok=True)  # it exists only while all results are there, made with the same settings
    study = cell.study
    checkpoint, split = train_on(
        study, scenes, out, data, overwrite=overwrite, progress=part_of(progress, 0, 2, "training")
    )
    tested = []
    for i, (share, part) in enumerate(split.tests):
        steps = part_of(part_of(progress, 1, 2, "testing"), i, len(split.tests), share.name)
        scene = share.scene
        prediction = predict(
            scene.product,
            checkpoint,
            paths.predictions,
            engine=study.predict.engine,
            precision=study.predict.precision,
            overwrite=overwrite,
            progress=steps,
        )
        evaluation = evaluate_scene(
            prediction.folder,
            scene.labels,
            paths.evaluation,
            study.score,
            name=scene.product.name + (f"-{share.half}" if share.half else ""),
            truth=scene.truth,
            mask=part.mask,
            overwrite=overwrite,
        )
        assess_scene(
            prediction.folder,
            scene.labels,
            scene.product,
            paths.checks,
            name=evaluation.folder.name,
            truth=scene.truth,
            within=None if part.mask is None else evaluation.errors,
            overwrite=overwrite,
        )
        if not (prediction.skipped and evaluation.skipped):
            before = {}
        tested.append(
            {
                "scene": share.name,
                "product": told_from(out, scene.product),
                "labels": told_from(out, scene.labels),
                "truth": None if scene.truth is None else told_from(out, scene.truth),
                "prediction": prediction.folder.name,
                "evaluation": evaluation.folder.name,
            }
        )
    record = provenance(
        STAGE,
        inputs={"checkpoint": checkpoint.name, "scenes": [s.about() for s in scenes]},
        configuration=study.model_dump(mode="json"),
    )
    record |= cell.about() | {
        "simulated": bool(read_about(checkpoint)["simulated"]) or any(s.simulated for s in scenes),
        "seconds": round(time.monotonic() - began, 1),
        "tested": tested,
    }
    # By where it was made, what lies beside the run is found once the run is moved; else nobody needs to know.
    if any(str(t[what]).startswith(_BESIDE) for t in tested for what in ("product", "labels", "truth")):
        record["made_in"] = str(out.resolve())
    record = as_before(record, before, "created", "seconds")
    write_json(paths.record, record)
    return record
