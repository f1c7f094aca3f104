"""The stage that runs all physical checks of one prediction: ``checks.json``, and ``blocks.npz`` for intervals.

``checks.json`` holds the result of :func:`floemap.evaluation.checks.scene_checks.check_scene`. ``blocks.npz`` holds,
for each block of the scene, the confusion matrix with the chart, the one with the truth where it is known, and the
amounts of each check that applies, in arrays named ``<check>.<amount>``, (blocks, ...).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.errors import FloemapError
from floemap.evaluation.checks.amounts import Blocks
from floemap.evaluation.checks.ice_edge import WINDOW_KM
from floemap.evaluation.checks.neighbours import WIDE_M
from floemap.evaluation.checks.scene_checks import CHECKS, STAGE, check_files, scene_record
from floemap.evaluation.checks.scene_files import open_scene_files
from floemap.evaluation.scoring.block_edges import BLOCK_M
from floemap.files import regular_file
from floemap.icechart.label.polygon_table import RASTER, TABLE
from floemap.progress import Progress, part_of, silent
from floemap.results.folders import made_of, stage_folder, told_sources
from floemap.results.names import place_in
from floemap.results.stage import is_finished, provenance, read_json, sha256, write_json
from floemap.zips import UNREADABLE

logger = logging.getLogger(__name__)

RECORD, BLOCKS = STAGE.record, "blocks.npz"
_CONFUSION, _TRUE_CONFUSION = "confusion", "true_confusion"
#: Settings of the checks. Results with other settings are made again.
_CONFIGURATION = {"block_m": BLOCK_M, "window_km": WINDOW_KM, "wide_m": WIDE_M}


@dataclass(frozen=True, eq=False)
class Assessment:
    """The checks of one prediction, or of a chart.

    Attributes
    ----------
    folder
        Folder with the results.
    checks
        The result of :func:`floemap.evaluation.checks.scene_checks.check_scene`, with its provenance.
    confusion
        Confusion matrices by block, (blocks, classes, classes), rows chart, columns prediction.
    true_confusion
        The same with the truth in rows; None where the truth is unknown.
    amounts
        Amounts by the key of each check that applies and by name, each (blocks, ...).
    skipped
        Whether the folder was finished before the call.
    summed
        Number of blocks whose sums are the only block; None if each block is there.
    """

    folder: Path
    checks: Mapping[str, Any]
    confusion: NDArray[np.int64]
    true_confusion: NDArray[np.int64] | None
    amounts: Mapping[str, Blocks]
    skipped: bool = False
    summed: int | None = None

    @property
    def blocks(self) -> int:
        """Number of blocks of the scene."""
        return len(self.confusion) if self.summed is None else self.summed

    @property
    def reference_confusion(self) -> NDArray[np.int64]:
        """Confusion matrices with the reference of the checks in rows: the truth where it is known, else the chart."""
        return self.confusion if self.true_confusion is None else self.true_confusion

    def in_one_block(self) -> Assessment:
        """Return the same with the sums over all blocks in place of the blocks, which take megabytes."""
        true = self.true_confusion
        return replace(
            self,
            confusion=self.confusion.sum(axis=0, keepdims=True),
            true_confusion=None if true is None else true.sum(axis=0, keepdims=True),
            amounts={
                check: {
                    name: np.sum(blocks, axis=0, keepdims=True, dtype=np.float64) for name, blocks in by_name.items()
                }
                for check, by_name in self.amounts.items()
            },
            summed=self.blocks,
        )

    def with_blocks_of(self, check: str) -> Assessment:
        """Return the same with the amounts of a check by block, which are read again.

        Raises
        ------
        FloemapError
            If the file is missing or damaged.
        """
        return replace(self, amounts={**self.amounts, check: read_assessment(self.folder).amounts[check]})


def assess_scene(
    prediction: str | Path | None,
    labels: str | Path,
    product: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    truth: str | Path | None = None,
    within: str | Path | None = None,
    by_block: bool = True,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Assessment:
    """Run all physical checks on a prediction or a chart, for the scene and by block.

    Parameters
    ----------
    prediction
        Folder with classes.tif, prediction.json and, for the check of confidence, probabilities.tif. None checks the
        chart as if it were a prediction: against the truth, or against itself.
    labels
        Folder with labels.tif and label.json.
    product
        Folder with product.tif and product.json.
    out
        Folder in which the folder with the results is written.
    name
        Name of the written folder; by default the prediction's, or the labels' for a chart. Each part of a scene needs
        its own.
    truth
        The truth of a simulated scene: truth.tif on the same grid. It is the checks' reference where the chart has a
        class.
    within
        Raster on the same grid that is 255 outside the part to check, such as errors.tif of an evaluation.
    by_block
        Whether to return what is counted by block, or else its sums in one block, which are read in half of the time.
    overwrite
        Whether to replace results that are finished with the same inputs.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    FloemapError
        For the same reasons as :func:`floemap.evaluation.checks.scene_checks.check_scene`.
    OutputError
        If the results cannot be written.
    """
    files = _Files(Path(labels), Path(product), _path(prediction), _path(truth), _path(within))
    named = files.labels if files.prediction is None else files.prediction
    what = "the labels" if files.prediction is None else "the prediction"
    folder = place_in(Path(out), name or named.resolve().name, what, path=named)
    return _assess(files, folder, by_block, overwrite, progress)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


@dataclass(frozen=True)
class _Files:
    labels: Path
    product: Path
    prediction: Path | None
    truth: Path | None
    within: Path | None

    def hashes(self) -> dict[str, dict[str, str]]:
        """Return the SHA-256 of every file that the checks depend on, by use and name.

        The product's record stands for its bands.
        """
        names = ("classes.tif", "probabilities.tif", "prediction.json")
        uses = {
            "prediction": [] if self.prediction is None else [self.prediction / n for n in names],
            "labels": [self.labels / n for n in ("labels.tif", "label.json", RASTER, TABLE)],
            "product": [self.product / "product.json"],
            "truth": [] if self.truth is None else [self.truth],
            "within": [] if self.within is None else [self.within],
        }
        return {use: {p.name: sha256(p) for p in files if p.is_file()} for use, files in uses.items() if files}

    def known(self) -> dict[str, Path]:
        """Return the sources by which results are recognised as those of this prediction and these labels."""
        return {"labels": self.labels} | ({} if self.prediction is None else {"prediction": self.prediction})


def _assess(sources: _Files, folder: Path, by_block: bool, overwrite: bool, progress: Progress) -> Assessment:
    inputs = sources.hashes()
    if not overwrite and is_finished(folder, STAGE, [BLOCKS], inputs=inputs, configuration=_CONFIGURATION):
        try:
            kept = read_assessment(folder, skipped=True, by_block=by_block)
        except FloemapError as e:
            logger.warning("%s: made again", e)
        else:
            logger.info("%s is finished already", folder)
            return kept
    known = sources.known()
    with stage_folder(folder, STAGE, sources=known, inputs=inputs, replace_others=overwrite) as partial:
        progress(0, 1, "opening")
        files = open_scene_files(
            sources.prediction, sources.labels, sources.product, truth=sources.truth, within=sources.within
        )
        found = check_files(files, progress=part_of(progress, 0, 1, "checks"))
        grid, n = files.maps.grid, len(files.legend)
        arrays: dict[str, NDArray[Any]] = {_CONFUSION: grid.confusions(files.chart, files.prediction, n)}
        if files.truth is not None:
            arrays[_TRUE_CONFUSION] = grid.confusions(files.truth, files.prediction, n)
        for check, amounts in found.items():
            if not isinstance(amounts, str):
                arrays |= {f"{check}.{name}": value for name, value in amounts.amounts.items()}
        np.savez_compressed(partial / BLOCKS, **arrays)  # type: ignore[arg-type]
        record = provenance(STAGE, inputs=inputs, configuration=_CONFIGURATION)
        record |= scene_record(files, found) | {"sources": told_sources(folder, known)}
        write_json(partial / RECORD, record | {"bytes": made_of(partial)})
    progress(1, 1, "done")
    return read_assessment(folder, by_block=by_block)


def read_assessment(folder: Path, *, skipped: bool = False, by_block: bool = True) -> Assessment:
    """Read the results that :func:`assess_scene` wrote; see there for `by_block`.

    Raises
    ------
    FloemapError
        If a file is missing or damaged.
    """
    checks = read_json(folder / RECORD)
    amounts: dict[str, Blocks] = {}
    try:
        # The file is opened here because np.load does not close a damaged file that it opened itself.
        with regular_file(folder / BLOCKS).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            confusion = stored[_CONFUSION]
            true = stored[_TRUE_CONFUSION] if _TRUE_CONFUSION in stored.files else None
            for key in stored.files if by_block else ():
                check, parted, name = key.partition(".")
                if parted:
                    amounts.setdefault(check, {})[name] = stored[key]
        if not by_block:
            amounts = _sums(checks)
        for counts in (confusion, *(() if true is None else (true,))):
            if counts.ndim != 3 or counts.dtype.kind not in "iu":
                raise ValueError(f"{counts.dtype} counts of {counts.ndim} dimensions")
        _check_amounts(amounts, checks, len(confusion) if by_block else 1)
    except (*UNREADABLE, KeyError, TypeError, AttributeError, MemoryError) as e:
        raise FloemapError(
            f"cannot be read: {e}.", path=folder / BLOCKS, hint="Remove the folder; it is made again."
        ) from e
    found = Assessment(folder, checks, confusion, true, amounts, skipped)
    return found if by_block else found.in_one_block()


def _sums(checks: Mapping[str, Any]) -> dict[str, Blocks]:
    """Return the amounts of a record, those of the whole scene, in one block."""
    return {
        check: {name: np.asarray([said["amounts"][name]], np.float64) for name in CHECKS[check].additive()}
        for check, said in checks["checks"].items()
        if said["amounts"] is not None
    }


def _check_amounts(amounts: Mapping[str, Blocks], checks: Mapping[str, Any], blocks: int) -> None:
    """Raise ValueError, KeyError or TypeError unless amounts of blocks are those that the record has sums of."""
    for check, said in checks["checks"].items():
        summed = said["amounts"]
        for name in () if summed is None else CHECKS[check].additive():
            found = amounts[check][name]
            if found.dtype.kind not in "iuf" or len(found) != blocks or found.ndim != 1 + np.ndim(summed[name]):
                raise ValueError(f"{check}.{name} is of other blocks")
