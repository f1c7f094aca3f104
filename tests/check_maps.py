"""Small class maps for tests of the physical checks, and all checks by name with one signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from floemap.evaluation.checks.amounts import Amounts, ByBlock
from floemap.evaluation.checks.classes import MapPair
from floemap.evaluation.checks.confidence import confidence
from floemap.evaluation.checks.fragmentation import fragmentation
from floemap.evaluation.checks.ice_edge import ice_edge
from floemap.evaluation.checks.neighbours import impossible_neighbours
from floemap.evaluation.checks.old_ice import old_ice
from floemap.evaluation.checks.season import season
from floemap.evaluation.checks.sensor import angle, seams
from floemap.evaluation.statistics.blocks import BlockGrid
from floemap.legend import IGNORE, SIX_CLASSES, Legend

Classes = NDArray[np.uint8]

NEW, NILAS, YOUNG, FIRST, OLD, WATER = range(6)
LEGEND = SIX_CLASSES
PIXEL_M = 500.0


def blobs(seed: int, shape: tuple[int, int] = (90, 110), smooth_px: float = 4.0, none: float = 0.1) -> Classes:
    """A map of all six classes in ragged areas, with a share of it without a class."""
    rng = np.random.default_rng(seed)
    field: NDArray[Any] = gaussian_filter(rng.normal(size=shape), smooth_px)
    order = np.argsort(np.argsort(field.ravel())).reshape(shape) / field.size
    classes = np.array([WATER, NEW, NILAS, YOUNG, FIRST, OLD], np.uint8)
    found = classes[np.minimum((order * 6).astype(int), 5)]
    # Some pixels of other classes, so that small patches and odd neighbours occur.
    odd = rng.random(shape) < 0.02
    found[odd] = rng.integers(0, 6, int(odd.sum()))
    hole: NDArray[Any] = gaussian_filter(rng.normal(size=shape), smooth_px)
    found[hole < np.quantile(hole, none)] = IGNORE
    return found


def pair(seed: int = 0, **options: Any) -> tuple[Classes, Classes]:
    """A prediction and a reference that agree in part."""
    reference, other = blobs(seed, **options), blobs(seed + 1000, **options)
    rng = np.random.default_rng(seed)
    take = gaussian_filter(rng.normal(size=reference.shape), 6) > 0
    return np.where(take, other, reference), reference


def incidence_deg(shape: tuple[int, int]) -> NDArray[np.float32]:
    """From 20 to 46 degrees over the columns, a little different from row to row."""
    rows, cols = np.indices(shape, np.float32)
    return (20 + 26 * cols / shape[1] + 0.01 * rows).astype(np.float32)


def seam_columns(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Two seams along columns, five pixels wide."""
    zone = np.zeros(shape, bool)
    for col in (shape[1] // 3, 2 * shape[1] // 3):
        zone[:, col - 2 : col + 3] = True
    return zone


def probabilities(prediction: Classes, seed: int = 0) -> NDArray[np.uint8]:
    """Steps of 1/250 whose largest is the prediction's; 255 where it has no class."""
    rng = np.random.default_rng(seed)
    p = rng.random((6, *prediction.shape))
    ids = np.where(prediction < 6, prediction, 0)
    np.put_along_axis(p, ids[None], 1 + 3 * rng.random((1, *prediction.shape)), axis=0)
    stored = np.rint(250 * p / p.sum(axis=0)).astype(np.uint8)
    stored[:, prediction == IGNORE] = IGNORE
    return stored


def _confidence(maps: MapPair) -> ByBlock[Any] | str:
    p = probabilities(maps.prediction)
    return confidence(maps, lambda window: p[:, *window], step=1 / 250)


def in_one(array: NDArray[Any]) -> list[tuple[slice, NDArray[Any]]]:
    """A raster as one strip."""
    return [(slice(0, len(array)), array)]


Check = Callable[[MapPair], ByBlock[Any] | str]

#: By key of CHECKS: maps -> amounts by block.
CHECK_MAPS: dict[str, Check] = {
    "season": lambda maps: season(maps, True),
    "old_ice": old_ice,
    "ice_edge": ice_edge,
    "fragmentation": fragmentation,
    "neighbours": impossible_neighbours,
    "seams": lambda maps: seams(maps, seam_columns(maps.here.shape)),
    "angle": lambda maps: angle(maps, in_one(incidence_deg(maps.here.shape))),
    "confidence": _confidence,
}


def compared(
    prediction: Classes,
    reference: Classes,
    pixel_m: float = PIXEL_M,
    legend: Legend = LEGEND,
    grid: BlockGrid | None = None,
) -> MapPair:
    """Two maps to compare."""
    return MapPair(prediction, reference, pixel_m, legend, grid)


def by_block(check: str, *args: Any, **options: Any) -> ByBlock[Any]:
    """What a check measures, which must apply; arguments as for :func:`compared`."""
    found = CHECK_MAPS[check](compared(*args, **options))
    assert not isinstance(found, str), found
    return found


def amounts(check: str, prediction: Classes, reference: Classes, pixel_m: float = PIXEL_M) -> Amounts:
    """What a check measures in a whole scene, which must apply."""
    return by_block(check, prediction, reference, pixel_m).scene()


def values(check: str, prediction: Classes, reference: Classes, pixel_m: float = PIXEL_M) -> dict[str, Any]:
    """The values of what a check measures."""
    return amounts(check, prediction, reference, pixel_m).values()


def leaves(content: Any, path: str = "") -> dict[str, Any]:
    """All numbers of nested dicts and lists by their path."""
    if isinstance(content, dict):
        return {k: v for key, c in content.items() for k, v in leaves(c, f"{path}/{key}").items()}
    if isinstance(content, list):
        return {k: v for i, c in enumerate(content) for k, v in leaves(c, f"{path}/{i}").items()}
    return {path: content}
