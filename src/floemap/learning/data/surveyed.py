"""Surveys kept in files, so that the trainings of a study survey each part once.

A file is named by a digest of all that its survey follows from: the content of the part's files, its window and bands,
and the size of crops. So a survey of other content is another file, and none is ever out of date.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from floemap.errors import MISSHAPEN, OutputError
from floemap.files import parsed
from floemap.learning.data.identities import identity
from floemap.learning.data.parts import PartArrays, ScenePart
from floemap.learning.data.polygons import PolygonShares, read_shares
from floemap.learning.data.survey import Places, Survey, survey_part
from floemap.results.stage import write_whole

#: Raise it when the same part gives another survey.
_REVISION = 0
_DAMAGED = (*MISSHAPEN, OSError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Wanted:
    """What a survey counts.

    Attributes
    ----------
    size_px, min_valid
        Side of a crop, None for no places of crops, and smallest share of its pixels with a label.
    values
        Values of polygons whose known pixels are counted.
    folder
        Folder of the surveys' files; None surveys anew.
    """

    size_px: int | None
    min_valid: float
    values: tuple[str, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True)
class Surveyed:
    """The survey of a part, and its table of polygons."""

    survey: Survey
    polygons: PolygonShares | None


def surveyed(part: ScenePart | PartArrays, wanted: Wanted, load: Callable[[], PartArrays]) -> Surveyed:
    """Return the survey of a part, from its file if there is one; else `load` gives the arrays to survey.

    Raises
    ------
    TrainingError
        As :func:`floemap.learning.data.survey.survey_part` does.
    GridError, FloemapError
        If the part cannot be read.
    """
    path = _path_of(part, wanted)
    survey = None if path is None else _read(path, part.name)
    if survey is not None and isinstance(part, ScenePart):
        return Surveyed(survey, None if part.polygons is None else read_shares(part.polygons))
    arrays = load()
    survey = survey_part(arrays, wanted.size_px, wanted.min_valid, wanted.values)
    if path is not None:
        with suppress(OutputError):  # then it is surveyed again the next time
            write_whole(path, _packed(survey))
    return Surveyed(survey, arrays.polygons)


def _path_of(part: ScenePart | PartArrays, wanted: Wanted) -> Path | None:
    """Return the file of a part's survey; None if it has none."""
    if wanted.folder is None or isinstance(part, PartArrays):
        return None
    told = [_REVISION, identity(part), part.bands.record(), wanted.size_px, wanted.min_valid, list(wanted.values)]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return wanted.folder / f"{part.name}-{digest}.npz"


def _packed(survey: Survey) -> bytes:
    # The sums have more digits than any type of numpy.
    about = {"shape": survey.shape, "known": dict(survey.known), "sums": survey.sums.tolist()}
    arrays: dict[str, Any] = {"about": np.array(json.dumps(about)), "pixels": survey.pixels}
    if (places := survey.places) is not None:
        arrays |= {"row": places.row, "col": places.col, "before": places.before, "best": places.best_share}
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    return held.getvalue()


def _read(path: Path, name: str) -> Survey | None:
    """Read a survey; None if there is none, or the file is damaged."""
    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
            arrays = {key: held[key] for key in held.files}
        about = parsed(json.loads, str(arrays["about"]))
        places = None
        if "row" in arrays:
            places = Places(arrays["row"], arrays["col"], arrays["before"], float(arrays["best"]))
        rows, cols = map(int, about["shape"])
        known: dict[str, int] = about["known"]
        return Survey(name, (rows, cols), arrays["pixels"], np.array(about["sums"], np.object_), places, known)
    except _DAMAGED:
        return None


def values_of(targets: Sequence[str]) -> tuple[str, ...]:
    """Return the targets that are values of polygons, in a fixed order."""
    return tuple(sorted({t for t in targets if t != "class"}))
