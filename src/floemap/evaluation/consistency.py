"""Does the map make sense? All physical checks of a scene, from its rasters; scenes pooled.

The checks themselves are pure functions of arrays in :mod:`floemap.evaluation.checks`. The model is never called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from floemap.errors import ConfigError, FloemapError
from floemap.evaluation.checks.amounts import Amounts
from floemap.evaluation.checks.classes import compared, pixel_km2
from floemap.evaluation.checks.confidence import ConfidenceAmounts, ConfidenceCounts
from floemap.evaluation.checks.fragmentation import FragmentationAmounts, fragmentation
from floemap.evaluation.checks.ice_edge import WINDOW_KM, EdgeAmounts, ice_edge
from floemap.evaluation.checks.neighbours import NeighbourAmounts, impossible_neighbours
from floemap.evaluation.checks.old_ice import OldIceAmounts, old_ice
from floemap.evaluation.checks.scene_files import SceneFiles, open_scene_files
from floemap.evaluation.checks.seam_zone import seam_zone
from floemap.evaluation.checks.season import SeasonAmounts, season
from floemap.evaluation.checks.sensor import BINS, AngleAmounts, SeamAmounts, angle_amounts, angle_counts, seams
from floemap.progress import Progress, silent
from floemap.stage import Stage, revisions_in

#: Raise the revision when a check's amounts or values change, whole or by blocks.
STAGE = Stage("floemap report", "checks.json", revision=1)

#: The checks by key, in the order of the page that explains them, and what they measure.
CHECKS: Mapping[str, type[Amounts]] = MappingProxyType(
    {
        "season": SeasonAmounts,
        "old_ice": OldIceAmounts,
        "ice_edge": EdgeAmounts,
        "fragmentation": FragmentationAmounts,
        "neighbours": NeighbourAmounts,
        "seams": SeamAmounts,
        "angle": AngleAmounts,
        "confidence": ConfidenceAmounts,
    }
)


def check_scene(
    prediction: str | Path,
    labels: str | Path,
    product: str | Path,
    *,
    air_temperature: str | Path | None = None,
    window_km: float = WINDOW_KM,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run all physical checks on a scene.

    Parameters
    ----------
    prediction
        Folder with classes.tif, prediction.json and, for the check of confidence, probabilities.tif.
    labels
        Folder with labels.tif and label.json: the reference.
    product
        Prepared product: folder with product.tif and product.json.
    air_temperature
        A raster on the same grid, degrees Celsius, the mean of the weeks before the scene: decides where melt is on.
    window_km
        Side of the window in which maps are generalised before ice edges are compared.
    progress
        Is told how far it is.

    Returns
    -------
    result
        JSON-ready, without not-a-number: ``revision`` of the checks, ``scene``, ``start``, ``simulated``, ``legend``,
        ``pixel_m``, ``compared_km2``, and ``checks``: by key of :data:`CHECKS` whether it ``applies``, the ``reason``
        if not, the ``amounts`` (which :func:`pool_checks` adds) and the ``values`` made of them.

    Raises
    ------
    GridError
        If the rasters lie on different grids.
    FloemapError
        If a file is absent or cannot be read, or prediction and labels have different classes.
    """
    files = open_scene_files(Path(prediction), Path(labels), Path(product))
    maps = files.prediction, files.reference, files.pixel_m, files.legend
    temperature = None if air_temperature is None else Path(air_temperature)
    work: dict[str, Callable[[], Amounts | str]] = {
        "season": lambda: season(*maps, files.melting(temperature)),
        "old_ice": lambda: old_ice(*maps),
        "ice_edge": lambda: ice_edge(*maps, window_km),
        "fragmentation": lambda: fragmentation(*maps),
        "neighbours": lambda: impossible_neighbours(*maps),
        "seams": lambda: seams(*maps, None if files.seams is None else seam_zone(files.seams, files.geobox)),
        "angle": lambda: _angle(files),
        "confidence": lambda: _confidence(files),
    }
    checks = {}
    for i, key in enumerate(CHECKS):
        progress(i, len(CHECKS), key.replace("_", " "))
        checks[key] = entry(work[key]())
    progress(1, 1, "done")
    here = np.count_nonzero(compared(files.prediction, files.reference))
    return {
        "revision": STAGE.revision,
        "scene": files.name,
        "start": files.start.isoformat(),
        "simulated": files.simulated,
        "legend": files.legend.name,
        "pixel_m": files.pixel_m,
        "compared_km2": float(here * pixel_km2(files.pixel_m)),
        "checks": checks,
    }


def _angle(files: SceneFiles) -> AngleAmounts | str:
    n = len(files.legend)
    counts = np.zeros((BINS, n, n), np.int64)
    for rows, incidence_deg in files.incidence_strips():
        counts += angle_counts(files.prediction[rows], files.reference[rows], incidence_deg, n)
    return angle_amounts(counts, files.pixel_m, files.legend)


def _confidence(files: SceneFiles) -> ConfidenceAmounts | str:
    if not files.probabilities.exists():
        return f"there is no {files.probabilities.name}"
    counts = ConfidenceCounts(files.legend, files.probability_step())
    for rows, probabilities in files.probability_strips():
        counts.add(probabilities, files.prediction[rows], files.reference[rows])
    return counts.amounts()


def entry(found: Amounts | str) -> dict[str, Any]:
    """Return what results hold of a check, JSON-ready: its amounts and values, or why it does not apply."""
    if isinstance(found, str):
        return {"applies": False, "reason": found, "amounts": None, "values": None}
    return {"applies": True, "reason": None, "amounts": found.to_json(), "values": found.values()}


def pool_checks(scenes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Bring the results of several scenes together: amounts are added, then divided. Their order makes no difference.

    Parameters
    ----------
    scenes
        What :func:`check_scene` gave, or the same read back from JSON.

    Returns
    -------
    result
        ``scenes``, ``simulated`` (whether any is), ``compared_km2``, and ``checks`` as for a scene, with
        ``scenes`` beside: to how many the check applied.

    Raises
    ------
    ConfigError
        If scenes were measured with different legends or settings, or by other revisions of the checks.
    FloemapError
        If there is no scene, or one is no such result.
    """
    if not scenes:
        raise FloemapError("there are no checks to pool.")
    revisions = sorted({str(revisions_in(s, STAGE)[STAGE.command]) for s in scenes})
    if len(revisions) > 1:
        raise ConfigError(
            f"the scenes were checked by revisions {' and '.join(revisions)} of the checks, whose numbers differ.",
            hint="Check all of them with one version of floemap.",
        )
    checks: dict[str, Any] = {}
    for key, kind in CHECKS.items():
        try:
            each = [s["checks"][key] for s in scenes]
            parts = [kind.from_json(e["amounts"]) for e in each if e["applies"]]
            reasons = sorted({str(e["reason"]) for e in each if not e["applies"]})
        except (KeyError, TypeError, ValueError) as e:
            raise FloemapError(f"a scene's result holds no check {key!r}: {e!r}.") from e
        checks[key] = entry(kind.total(parts) if parts else "; ".join(reasons)) | {"scenes": len(parts)}
    return {
        "scenes": len(scenes),
        "simulated": any(s["simulated"] for s in scenes),
        "compared_km2": math.fsum(s["compared_km2"] for s in scenes),
        "checks": checks,
    }
