"""The physical checks' amounts, block by block: what their intervals are made from.

A check's amounts add over strips and scenes; here they are shared out over the blocks of
:mod:`floemap.evaluation.blocks`, so that blocks can be drawn again and again and the check's number be made of each
draw. What belongs to a pixel (area, a side of its border, its distance to the other edge) goes to the block that the
pixel lies in, and the blocks' sum is the scene's amount. A patch counts in each block by its part in it.

A side between two pixels along a seam goes to the block of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import pairwise, product
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from floemap.errors import FloemapError
from floemap.evaluation.blocks import BLOCK_M, block_edges
from floemap.evaluation.checks.amounts import Amounts
from floemap.evaluation.checks.borders import neighbours
from floemap.evaluation.checks.classes import Bools, Classes, compared, ice_groups, only_compared, pixel_km2
from floemap.evaluation.checks.confidence import ConfidenceCounts
from floemap.evaluation.checks.fragmentation import SMALL_KM2, label_patches
from floemap.evaluation.checks.ice_edge import STEP_KM, WINDOW_KM, edge_pixels, generalise, window_px
from floemap.evaluation.checks.neighbours import NeighbourAmounts, contacts
from floemap.evaluation.checks.scene_files import SceneFiles
from floemap.evaluation.checks.season import season
from floemap.evaluation.checks.sensor import BINS, angle_counts
from floemap.evaluation.confusion import confusion
from floemap.legend import IGNORE

Floats = NDArray[np.float64]
#: By name of an amount: (blocks, ...).
Blocks = dict[str, Floats]


def additive_fields(kind: type[Amounts]) -> tuple[str, ...]:
    """Return the names of a check's amounts that add; the others say how they were measured."""
    return tuple(f.name for f in fields(kind) if f.name not in kind.SETTINGS)


class BlockGrid:
    """The blocks of a scene: windows, row by row, of those where the reference has a class.

    Parameters
    ----------
    reference
        (rows, cols) class ids, 255 where there is none.
    pixel_m, block_m
        Sides of a pixel and of a block.
    """

    def __init__(self, reference: Classes, pixel_m: float, block_m: float = BLOCK_M) -> None:
        rows, cols = (pairwise(block_edges(n, pixel_m, block_m).tolist()) for n in reference.shape)
        every = [(slice(*row), slice(*col)) for row, col in product(rows, cols)]
        #: Rows and columns of each.
        self.windows = [w for w in every if (reference[w] != IGNORE).any()]
        #: Number of each pixel's block, (rows, cols); as many as there are where it is in none that counts.
        self.number = np.full(reference.shape, len(self.windows), np.int32)
        for i, window in enumerate(self.windows):
            self.number[window] = i

    def __len__(self) -> int:
        return len(self.windows)

    def sums(self, where: Bools, *, by: Any = None, n: int = 1, weights: Any = None) -> Floats:
        """Add up pixels by block, and by the number of something else that each has.

        Parameters
        ----------
        where
            (rows, cols), which pixels.
        by
            Below `n`, of each of these pixels.
        n
            Of such numbers.
        weights
            Of each of these pixels; 1 by default.

        Returns
        -------
        numpy.ndarray
            (blocks, n), or (blocks,) without `by`.
        """
        return self.counts(self.number[where], by=by, n=n, weights=weights)

    def counts(self, blocks: NDArray[np.int32], *, by: Any = None, n: int = 1, weights: Any = None) -> Floats:
        """Add up, as :meth:`sums`, what has the numbers `blocks`; (blocks,), or (blocks, n) with `by`."""
        index = blocks if by is None else blocks.astype(np.int64) * n + by
        total = np.bincount(index, weights=weights, minlength=(len(self) + 1) * n)[: len(self) * n]
        shape = (-1,) if by is None else (-1, n)
        return np.asarray(total.reshape(shape), np.float64)


def block_amounts(
    files: SceneFiles, zone: Bools | None, checks: Mapping[str, Any], grid: BlockGrid
) -> dict[str, Blocks]:
    """Share the amounts of a scene's checks out over blocks.

    Parameters
    ----------
    files
        The scene.
    zone
        Along its seams, see :func:`floemap.evaluation.checks.seam_zone.seam_zone`.
    checks
        Entry "checks" of :func:`floemap.evaluation.consistency.check_scene` for the same files: only what applies there
        is shared out.
    grid
        The blocks.

    Returns
    -------
    dict
        By check, and by name of the amount: (blocks, ...).

    Raises
    ------
    FloemapError
        If probabilities cannot be read.
    """
    work: dict[str, Callable[[], Blocks]] = {
        "season": lambda: _season(files, grid),
        "old_ice": lambda: _old_ice(files, grid),
        "ice_edge": lambda: _ice_edge(files, grid, float(checks["ice_edge"]["amounts"]["window_km"])),
        "fragmentation": lambda: _fragmentation(files, grid),
        "neighbours": lambda: _neighbours(files, grid),
        "seams": lambda: _seams(files, grid, zone),
        "angle": lambda: _angle(files, grid),
        "confidence": lambda: _confidence(files, grid),
    }
    return {key: made() for key, made in work.items() if checks[key]["applies"]}


def _by_window(grid: BlockGrid, check: Callable[[tuple[slice, slice]], Amounts | str]) -> Blocks:
    """Run a check on the window of each block; where it does not apply there, its amounts are 0."""
    found: Blocks = {}
    for n, window in enumerate(grid.windows):
        amounts = check(window)
        if isinstance(amounts, str):
            continue
        for name in additive_fields(type(amounts)):
            value = np.asarray(getattr(amounts, name), np.float64)
            found.setdefault(name, np.zeros((len(grid), *value.shape)))[n] = value
    return found


def _season(files: SceneFiles, grid: BlockGrid) -> Blocks:
    melting = files.melting()

    def check(window: tuple[slice, slice]) -> Amounts | str:
        maps = files.prediction[window], files.reference[window]
        return season(*maps, files.pixel_m, files.legend, melting[window])

    return _by_window(grid, check)


def _neighbours(files: SceneFiles, grid: BlockGrid) -> Blocks:
    old, km, km2 = ice_groups(files.legend).old, files.pixel_m / 1000, pixel_km2(files.pixel_m)
    assert old is not None  # or the check would not apply
    maps = only_compared(files.prediction, files.reference)
    found = {name: np.zeros((len(grid), 2)) for name in additive_fields(NeighbourAmounts)}
    for i, classes in enumerate(maps):
        touching = contacts(classes, old, files.legend.water, km2)
        if touching is None:
            continue
        blocks = grid.number.ravel()[touching.pixels]
        found["old_water_km"][:, i] = grid.counts(blocks) * km
        found["speck_km"][:, i] = grid.counts(blocks[touching.of_speck]) * km
        found["ring_km"][:, i] = grid.counts(blocks[touching.of_ring]) * km
        own = np.flatnonzero(touching.patches)
        own = own[touching.speck[touching.patches.ravel()[own]]]
        blocks, sizes = grid.number.ravel()[own], touching.sizes[touching.patches.ravel()[own]]
        found["specks"][:, i] = grid.counts(blocks, weights=1 / sizes)
        found["speck_km2"][:, i] = grid.counts(blocks) * km2
    return found | {"compared_km2": grid.sums(maps[0] != IGNORE) * km2}


def _seams(files: SceneFiles, grid: BlockGrid, zone: Bools | None) -> Blocks:
    assert zone is not None  # or the check would not apply
    maps = only_compared(files.prediction, files.reference)
    here = maps[0] != IGNORE
    sides = np.zeros((len(grid), 2, 2))
    changes = np.zeros((len(grid), 2, 2, 2))
    for i, (first, second) in enumerate(neighbours(len(here))):
        known = here[first] & here[second]
        blocks = grid.number[first]
        for place, there in enumerate((zone[first] & zone[second], ~(zone[first] | zone[second]))):
            sides[:, place, i % 2] += grid.counts(blocks[known & there])
            for which, classes in enumerate(maps):
                changed = known & there & (classes[first] != classes[second])
                changes[:, which, place, i % 2] += grid.counts(blocks[changed])
    km = files.pixel_m / 1000
    return {"sides_km": sides * km, "changes_km": changes * km}


def _old_ice(files: SceneFiles, grid: BlockGrid) -> Blocks:
    old = ice_groups(files.legend).old
    assert old is not None  # or the check would not apply
    counts = [confusion(files.reference[w], files.prediction[w], len(files.legend)).counts for w in grid.windows]
    km2 = np.stack(counts) * pixel_km2(files.pixel_m)
    return {
        "compared_km2": km2.sum(axis=(1, 2)),
        "reference_old_as_km2": km2[:, old],
        "predicted_old_was_km2": km2[:, :, old],
    }


def _ice_edge(files: SceneFiles, grid: BlockGrid, window_km: float = WINDOW_KM) -> Blocks:
    here = compared(files.prediction, files.reference)
    km, size = files.pixel_m / 1000, window_px(window_km, files.pixel_m)
    water = files.legend.water
    ices = [generalise((c != water) & here, here, size) for c in (files.prediction, files.reference)]
    edges = [edge_pixels(ice, here) for ice in ices]
    found: Blocks = {
        "compared_km2": grid.sums(here) * km**2,
        "over_km2": grid.sums(ices[0] & ~ices[1]) * km**2,
        "under_km2": grid.sums(ices[1] & ~ices[0]) * km**2,
        "predicted_edge_km": grid.sums(edges[0]) * km,
        "reference_edge_km": grid.sums(edges[1]) * km,
        "scenes": np.zeros((len(grid), 4)),
    }
    both = bool(edges[0].any() and edges[1].any())
    # One scene, of this kind: each block has its part in it.
    kind = 0 if both else 1 if edges[0].any() else 2 if edges[1].any() else 3
    found["scenes"][:, kind] = 1 / len(grid)
    for i, name in enumerate(("to_reference", "to_prediction")):
        if not both:
            found[f"{name}_km"], found[f"{name}_moment"] = np.zeros((len(grid), 1)), np.zeros(len(grid))
            continue
        away_px = cv2.distanceTransform((~edges[1 - i]).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        # Squares of distances between pixel centres are whole numbers: so rounded, as the check does.
        away_km = np.sqrt(np.rint(np.asarray(away_px[edges[i]], np.float64) ** 2)) * km
        step = np.rint(away_km / STEP_KM).astype(np.int64)
        found[f"{name}_km"] = grid.sums(edges[i], by=step, n=int(step.max()) + 1) * km
        found[f"{name}_moment"] = grid.sums(edges[i], weights=away_km) * km
    return found


def _fragmentation(files: SceneFiles, grid: BlockGrid) -> Blocks:
    k, km2 = len(files.legend), pixel_km2(files.pixel_m)
    names = ("patches", "area_km2", "small_km2", "perimeter_km")
    found = {name: np.zeros((len(grid), 2, k)) for name in names}
    for i, classes in enumerate(only_compared(files.prediction, files.reference)):
        number, sizes, class_of = _patches(classes, k)
        small = sizes * km2 < SMALL_KM2
        for block, window in enumerate(grid.windows):
            pixels = np.bincount(number[window].ravel(), minlength=len(sizes))[: len(sizes)]
            for name, weights in (
                ("patches", pixels / np.maximum(sizes, 1)),
                ("area_km2", pixels * km2),
                ("small_km2", pixels * small * km2),
            ):
                found[name][block, i] = np.bincount(class_of, weights=weights, minlength=k + 1)[:k]
        found["perimeter_km"][:, i] = _sides(classes, grid, k) * (files.pixel_m / 1000)
    return found


def _patches(classes: Classes, k: int) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Number all patches of all classes from 1: (rows, cols), and by number their pixels and their class; k for 0."""
    number = np.zeros(classes.shape, np.int32)
    sizes, class_of = [np.zeros(1, np.int64)], [np.full(1, k)]
    for c in range(k):
        mask = classes == c
        if mask.any():
            patch, own = label_patches(mask)
            np.add(patch, sum(map(len, sizes)) - 1, out=number, where=mask)
            sizes.append(own[1:])
            class_of.append(np.full(len(own) - 1, c))
    return number, np.concatenate(sizes), np.concatenate(class_of)


def _sides(classes: Classes, grid: BlockGrid, k: int) -> Floats:
    """Sides of each class's pixels to other classes, by the block of the pixel, (blocks, classes)."""
    total = np.zeros((len(grid), k))
    for first, second in neighbours(len(classes)):
        a, b = classes[first], classes[second]
        changes = (a != b) & (a != IGNORE) & (b != IGNORE)
        for c, place in ((a, first), (b, second)):
            total += grid.counts(grid.number[place][changes], by=c[changes], n=k)
    return total


def _angle(files: SceneFiles, grid: BlockGrid) -> Blocks:
    n = len(files.legend)
    counts = np.zeros((len(grid), BINS, n, n), np.int64)
    for rows, incidence_deg in files.incidence_strips():
        for block, (own_rows, cols) in enumerate(grid.windows):
            first, last = max(rows.start, own_rows.start), min(rows.stop, own_rows.stop)
            if first >= last:
                continue
            part = slice(first, last), cols
            degrees = incidence_deg[first - rows.start : last - rows.start, cols]
            counts[block] += angle_counts(files.prediction[part], files.reference[part], degrees, n)
    return {"km2": np.asarray(counts * pixel_km2(files.pixel_m), np.float64)}


def _confidence(files: SceneFiles, grid: BlockGrid) -> Blocks:
    step = files.probability_step()
    try:
        with rasterio.open(files.probabilities, driver="GTiff") as d:

            def check(window: tuple[slice, slice]) -> Amounts | str:
                rows, cols = window
                stored = d.read(window=((rows.start, rows.stop), (cols.start, cols.stop)))
                counts = ConfidenceCounts(files.legend, step)
                counts.add(stored, files.prediction[window], files.reference[window])
                return counts.amounts()

            return _by_window(grid, check)
    except RasterioError as e:
        raise FloemapError(f"cannot be read: {e}.", path=files.probabilities) from e
