"""All physical checks of one prediction as a stage: ``checks.json``, and ``blocks.npz`` for their intervals.

``checks.json`` holds what :func:`floemap.evaluation.consistency.check_scene` returns. ``blocks.npz`` holds, for each
block of the scene, the confusion matrix and the amounts of each check that applies: arrays named
``<check>.<amount>``, (blocks, ...).
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from floemap.cog import Band, open_raster, read_geobox, write_cog
from floemap.errors import FloemapError
from floemap.evaluation.block_amounts import BlockGrid, Blocks, block_amounts
from floemap.evaluation.blocks import BLOCK_M, block_confusions
from floemap.evaluation.checks.ice_edge import WINDOW_KM
from floemap.evaluation.checks.scene_files import open_scene_files
from floemap.evaluation.checks.seam_zone import seam_zone
from floemap.evaluation.consistency import STAGE, check_scene
from floemap.files import regular_file
from floemap.grid import check_same_grid
from floemap.legend import IGNORE
from floemap.progress import Progress, part_of, silent
from floemap.stage import is_finished, provenance, read_json, sha256, stage_folder, write_json

logger = logging.getLogger(__name__)

RECORD, BLOCKS = STAGE.record, "blocks.npz"
_CONFUSION = "confusion"


@dataclass(frozen=True, eq=False)
class Assessment:
    """The checks of one prediction.

    Attributes
    ----------
    folder
        Where they lie.
    checks
        As :func:`floemap.evaluation.consistency.check_scene` returns them, and how they were made.
    confusion
        (blocks, classes, classes), rows reference, columns prediction.
    amounts
        By check that applies and by name of the amount: (blocks, ...).
    skipped
        Whether the folder was finished before.
    """

    folder: Path
    checks: Mapping[str, Any]
    confusion: NDArray[np.int64]
    amounts: Mapping[str, Blocks]
    skipped: bool = False


def assess_scene(
    prediction: str | Path,
    labels: str | Path,
    product: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    within: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Assessment:
    """Run all physical checks on a prediction, whole and by blocks.

    Parameters
    ----------
    prediction
        Folder with classes.tif, prediction.json and, for the check of confidence, probabilities.tif.
    labels
        Folder with labels.tif and label.json.
    product
        Folder with product.tif and product.json.
    out
        Folder that gets a folder named as the prediction's.
    name
        Of the folder, if not the prediction's: of parts of a scene each has its own.
    within
        Raster on the same grid, 255 outside of the part that is checked, as errors.tif of an evaluation is.
    overwrite
        Make it again even where it is finished with the same inputs.
    progress
        Is told how far it is.

    Raises
    ------
    FloemapError
        As :func:`floemap.evaluation.consistency.check_scene`.
    OutputError
        If the results cannot be written.
    """
    prediction, labels, product = Path(prediction), Path(labels), Path(product)
    folder = Path(out) / (name or prediction.resolve().name)
    inputs = _hashes(prediction, labels, product, None if within is None else Path(within))
    configuration = {"block_m": BLOCK_M, "window_km": WINDOW_KM}
    if not overwrite and is_finished(folder, STAGE, [BLOCKS], inputs=inputs, configuration=configuration):
        logger.info("%s is finished already", folder)
        return read_assessment(folder, skipped=True)
    with (
        stage_folder(folder) as partial,
        nullcontext(labels) if within is None else _part(labels, Path(within)) as used,
    ):
        checks = check_scene(prediction, used, product, progress=part_of(progress, 0, 2, "checks"))
        progress(1, 2, "blocks")
        files = open_scene_files(prediction, used, product)
        zone = None if files.seams is None else seam_zone(files.seams, files.geobox)
        confusion = block_confusions(files.reference, files.prediction, len(files.legend), files.pixel_m)
        amounts = block_amounts(files, zone, checks["checks"], BlockGrid(files.reference, files.pixel_m))
        arrays = {f"{check}.{name}": value for check, own in amounts.items() for name, value in own.items()}
        np.savez_compressed(partial / BLOCKS, **{_CONFUSION: confusion}, **arrays)  # type: ignore[arg-type]
        record = provenance(STAGE, inputs=inputs, configuration=configuration)
        write_json(partial / RECORD, record | checks)
    progress(2, 2, "done")
    return read_assessment(folder)


@contextmanager
def _part(labels: Path, within: Path) -> Iterator[Path]:
    """Give a folder of labels that have no class outside of a part of the scene, for as long as it is needed."""
    check_same_grid(read_geobox(labels / "labels.tif"), read_geobox(within), f"{labels} and {within}")
    try:
        with tempfile.TemporaryDirectory(prefix="floemap-") as folder:
            shutil.copy(labels / "label.json", folder)
            with (
                open_raster(labels / "labels.tif") as source,
                open_raster(within) as part,
            ):
                classes = np.where(part.read(1) == IGNORE, np.uint8(IGNORE), source.read(1))
                geobox = read_geobox(labels / "labels.tif")
            write_cog(Path(folder) / "labels.tif", geobox, classes, [Band("class", overview="mode")], nodata=IGNORE)
            yield Path(folder)
    except RasterioError as e:
        raise FloemapError(f"cannot be read: {e}.", path=within) from e


def read_assessment(folder: Path, *, skipped: bool = False) -> Assessment:
    """Read what :func:`assess_scene` wrote.

    Raises
    ------
    FloemapError
        If it is not there or not whole.
    """
    checks = read_json(folder / RECORD)
    amounts: dict[str, Blocks] = {}
    try:
        with np.load(regular_file(folder / BLOCKS), allow_pickle=False) as stored:
            confusion = stored[_CONFUSION]
            for key in stored.files:
                if key != _CONFUSION:
                    check, _, name = key.partition(".")
                    amounts.setdefault(check, {})[name] = stored[key]
    except (OSError, ValueError, KeyError) as e:
        raise FloemapError(
            f"cannot be read: {e}.", path=folder / BLOCKS, hint="Remove the folder; it is made again."
        ) from e
    return Assessment(folder, checks, confusion, amounts, skipped)


def _hashes(prediction: Path, labels: Path, product: Path, within: Path | None) -> dict[str, dict[str, str]]:
    """SHA-256 of every file that the checks depend on, by its use. Of the bands the record of the product answers."""
    uses = {
        "prediction": [prediction / n for n in ("classes.tif", "probabilities.tif", "prediction.json")],
        "labels": [labels / "labels.tif", labels / "label.json"],
        "product": [product / "product.json"],
        "within": [] if within is None else [within],
    }
    return {use: {p.name: sha256(p) for p in files if p.is_file()} for use, files in uses.items() if files}
