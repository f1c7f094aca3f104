"""All physical checks of a scene's rasters, and the pooling of scenes.

The checks are pure functions of arrays in :mod:`floemap.evaluation.checks`. The model is never called.
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
from floemap.evaluation.checks.measures import Measure
from floemap.evaluation.checks.neighbours import NeighbourAmounts, impossible_neighbours
from floemap.evaluation.checks.old_ice import OldIceAmounts, old_ice
from floemap.evaluation.checks.polygon_shares import PolygonAmounts, polygon_shares
from floemap.evaluation.checks.scene_files import SceneFiles, open_scene_files
from floemap.evaluation.checks.seam_zone import seam_zone
from floemap.evaluation.checks.season import SeasonAmounts, season
from floemap.evaluation.checks.sensor import AngleAmounts, SeamAmounts, angle, seams
from floemap.own_legends import identity
from floemap.progress import Progress, silent
from floemap.results.stage import Stage, revisions_in

#: Raise the revision when a check's amounts or values change, for the scene or by block.
STAGE = Stage("floemap report", "checks.json", revision=6, files=("blocks.npz",))

#: The checks by key, in the order of the page that explains them, with the classes of their amounts.
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
        "polygons": PolygonAmounts,
    }
)
#: All numbers of the checks that tables show, in the order of the checks.
MEASURES: tuple[Measure, ...] = tuple(m for kind in CHECKS.values() for m in kind.MEASURES)

#: By check: its amounts by block, or the reason why it does not apply.
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
        Folder of the prepared product, with product.tif and product.json.
    truth
        The truth of a simulated scene: truth.tif on the same grid. It is the reference where the chart has a class.
    air_temperature
        Raster on the same grid with the mean air temperature of the weeks before the scene, degrees Celsius. It decides
        where ice melts.
    window_km
        Side of the window in which maps are generalised before ice edges are compared.
    progress
        Progress callback, called as progress(done, total, message).

    Returns
    -------
    result
        JSON-ready, without not-a-number: ``revision`` of the checks, ``scene``, ``start``, ``simulated``, ``legend``,
        ``pixel_m``, ``reference`` (chart or truth), ``compared_km2``, and ``checks``: by key of :data:`CHECKS` whether
        the check ``applies``, the ``reason`` if not, the ``amounts`` (which :func:`pool_checks` adds) and the
        ``values`` computed from them.

    Raises
    ------
    GridError
        If the rasters lie on different grids.
    ConfigError
        If a raster holds a class outside the legend, or the truth has another legend.
    FloemapError
        If a file is missing or cannot be read, or prediction and labels have different classes.
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
    """Run all physical checks on a scene's files, by block; see :func:`check_scene`."""
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
        "polygons": lambda: _polygon_shares(files),
    }
    found = {}
    for i, key in enumerate(CHECKS):
        progress(i, len(CHECKS), key.replace("_", " "))
        found[key] = work[key]()
    progress(1, 1, "done")
    return found


def scene_record(files: SceneFiles, found: Found) -> dict[str, Any]:
    """Return the result of :func:`check_scene`, from the amounts that :func:`check_files` returned."""
    return {
        "revision": STAGE.revision,
        "scene": files.name,
        "start": files.start.isoformat(),
        "simulated": files.simulated,
        "legend": identity(files.legend),
        "pixel_m": files.pixel_m,
        "reference": "chart" if files.truth is None else "truth",
        "compared_km2": math.fsum(files.maps.compared_km2),
        "checks": {key: entry(a if isinstance(a, str) else a.scene()) for key, a in found.items()},
    }


def _polygon_shares(files: SceneFiles) -> ByBlock[PolygonAmounts] | str:
    ids = files.polygons()
    return polygon_shares(files.maps, files.chart, files.truth, ids, files.polygon_table(ids))


def _confidence(files: SceneFiles) -> ByBlock[ConfidenceAmounts] | str:
    if files.probabilities is None:
        return "a chart states no probabilities"
    if not files.probabilities.exists():
        return f"there is no {files.probabilities.name}"
    with files.open_probabilities() as (read, step):
        heat, offsets = files.temperature, files.offsets
        return confidence(files.maps, read, step, temperature=heat, offsets=offsets, polygons=files.polygons())


def entry(found: Amounts | str) -> dict[str, Any]:
    """Return a check's entry in a result, JSON-ready: its amounts and values, or why it does not apply."""
    if isinstance(found, str):
        return {"applies": False, "reason": found, "amounts": None, "values": None}
    return {"applies": True, "reason": None, "amounts": found.to_json(), "values": found.values()}


def pool_checks(scenes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Pool the results of several scenes: amounts are added, then divided. The order of scenes does not matter.

    Parameters
    ----------
    scenes
        Results of :func:`check_scene`, or the same read from JSON.

    Returns
    -------
    result
        ``scenes`` (their number), ``simulated`` (whether any is), ``reference``, ``compared_km2``, and ``checks`` as
        for a scene, each with ``scenes``, the number of scenes to which the check applied.

    Raises
    ------
    ConfigError
        If scenes were measured with different legends or settings, against different kinds of reference, or by
        different revisions of the checks.
    FloemapError
        If `scenes` is empty, or one is not such a result.
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
            hint="Give the truth of all scenes, or of none.",
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
