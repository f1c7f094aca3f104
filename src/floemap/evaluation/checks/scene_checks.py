"""Does the map make sense? All physical checks of a scene, from its rasters; scenes pooled.

The checks themselves are pure functions of arrays in :mod:`floemap.evaluation.checks`. The model is never called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from floemap.errors import MISSHAPEN, ConfigError, FloemapError
from floemap.evaluation.checks.amounts import Amounts, ByBlock
from floemap.evaluation.checks.confidence import ConfidenceAmounts, confidence
from floemap.evaluation.checks.fragmentation import FragmentationAmounts, fragmentation
from floemap.evaluation.checks.ice_edge import WINDOW_KM, EdgeAmounts, ice_edge
from floemap.evaluation.checks.neighbours import NeighbourAmounts, impossible_neighbours
from floemap.evaluation.checks.old_ice import OldIceAmounts, old_ice
from floemap.evaluation.checks.scene_files import SceneFiles, open_scene_files
from floemap.evaluation.checks.seam_zone import seam_zone
from floemap.evaluation.checks.season import SeasonAmounts, season
from floemap.evaluation.checks.sensor import AngleAmounts, SeamAmounts, angle, seams
from floemap.progress import Progress, silent
from floemap.results.stage import Stage, revisions_in

#: Raise the revision when a check's amounts or values change, whole or by blocks.
STAGE = Stage("floemap report", "checks.json", revision=2, files=("blocks.npz",))

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


#: By check: its amounts by block, or why it does not apply.
Found = Mapping[str, ByBlock[Any] | str]


def check_scene(
    prediction: str | Path,
    labels: str | Path,
    product: str | Path,
    *,
    truth: str | Path | None = None,
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
        Folder with labels.tif and label.json: the chart, which is the reference where there is no truth.
    product
        Prepared product: folder with product.tif and product.json.
    truth
        Of a simulated scene: truth.tif on the same grid. It is the reference, where the chart has a class.
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
        ``pixel_m``, ``reference`` (chart or truth), ``compared_km2``, and ``checks``: by key of :data:`CHECKS` whether
        it ``applies``, the ``reason`` if not, the ``amounts`` (which :func:`pool_checks` adds) and the ``values`` made
        of them.

    Raises
    ------
    GridError
        If the rasters lie on different grids.
    ConfigError
        If a raster holds a class that the legend lacks, or the truth has another legend.
    FloemapError
        If a file is absent or cannot be read, or prediction and labels have different classes.
    """
    files = open_scene_files(
        Path(prediction), Path(labels), Path(product), truth=None if truth is None else Path(truth)
    )
    air = None if air_temperature is None else Path(air_temperature)
    return scene_record(files, check_files(files, air_temperature=air, window_km=window_km, progress=progress))


def check_files(
    files: SceneFiles,
    *,
    air_temperature: Path | None = None,
    window_km: float = WINDOW_KM,
    progress: Progress = silent,
) -> Found:
    """Run all physical checks on a scene's files, shared out over its blocks; see :func:`check_scene`."""
    maps = files.maps
    work: dict[str, Callable[[], ByBlock[Any] | str]] = {
        "season": lambda: season(maps, files.melting(air_temperature)),
        "old_ice": lambda: old_ice(maps),
        "ice_edge": lambda: ice_edge(maps, window_km),
        "fragmentation": lambda: fragmentation(maps),
        "neighbours": lambda: impossible_neighbours(maps),
        "seams": lambda: seams(maps, None if files.seams is None else seam_zone(files.seams, files.geobox)),
        "angle": lambda: angle(maps, files.incidence_strips()),
        "confidence": lambda: _confidence(files),
    }
    found = {}
    for i, key in enumerate(CHECKS):
        progress(i, len(CHECKS), key.replace("_", " "))
        found[key] = work[key]()
    progress(1, 1, "done")
    return found


def scene_record(files: SceneFiles, found: Found) -> dict[str, Any]:
    """Return what :func:`check_scene` returns, from what :func:`check_files` found."""
    return {
        "revision": STAGE.revision,
        "scene": files.name,
        "start": files.start.isoformat(),
        "simulated": files.simulated,
        "legend": files.legend.name,
        "pixel_m": files.pixel_m,
        "reference": "chart" if files.truth is None else "truth",
        "compared_km2": math.fsum(files.maps.compared_km2),
        "checks": {key: entry(a if isinstance(a, str) else a.scene()) for key, a in found.items()},
    }


def _confidence(files: SceneFiles) -> ByBlock[ConfidenceAmounts] | str:
    if files.probabilities is None:
        return "a chart states no probabilities"
    if not files.probabilities.exists():
        return f"there is no {files.probabilities.name}"
    step = files.probability_step()
    with files.probability_reader() as read:
        return confidence(files.maps, read, step)


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
        ``scenes``, ``simulated`` (whether any is), ``reference``, ``compared_km2``, and ``checks`` as for a scene,
        with ``scenes`` beside: to how many the check applied.

    Raises
    ------
    ConfigError
        If scenes were measured with different legends or settings, against different kinds of reference, or by other
        revisions of the checks.
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
    references = sorted({str(s.get("reference", "chart")) for s in scenes})
    if len(references) > 1:
        raise ConfigError(
            f"some scenes were checked against the {references[0]}, some against the {references[1]}.",
            hint="Give the truth of all of them, or of none.",
        )
    checks: dict[str, Any] = {}
    for key, kind in CHECKS.items():
        try:
            each = [s["checks"][key] for s in scenes]
            parts = [kind.from_json(e["amounts"]) for e in each if e["applies"]]
            reasons = sorted({str(e["reason"]) for e in each if not e["applies"]})
        except MISSHAPEN as e:
            raise FloemapError(f"a scene's result holds no check {key!r}: {e!r}.") from e
        checks[key] = entry(kind.total(parts) if parts else "; ".join(reasons)) | {"scenes": len(parts)}
    return {
        "scenes": len(scenes),
        "simulated": any(s["simulated"] for s in scenes),
        "reference": references[0],
        "compared_km2": math.fsum(s["compared_km2"] for s in scenes),
        "checks": checks,
    }
