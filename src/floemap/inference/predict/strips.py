"""From a scene's logits to classes and probabilities, strip by strip.

Logits are interpolated to pixels, then become probabilities by softmax; the most probable class is the class. Doing it
the other way round would be quicker and is something else.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from floemap.cog import STRIP_ROWS
from floemap.inference.predict.scene_maps import STEPS
from floemap.learning.whole_scene.logits import SceneLogits
from floemap.legend import IGNORE

#: Rows worked on at a time: what is between logits and results stays in the processor's cache.
_BLOCK_ROWS = 64
#: Each holds a strip, some 25 MB of a usual scene.
_MOST_THREADS = 4


@dataclass(frozen=True)
class Strip:
    """Some rows of a predicted scene, over its whole width.

    Attributes
    ----------
    first_row
        First row of the strip in the scene.
    classes
        (rows, cols) uint8: the most probable class, IGNORE where the product has no data.
    probabilities
        (K, rows, cols): float32, which sum to 1, NaN where the product has no data; or uint8 as stored in files, in
        steps of 1 / STEPS, IGNORE where it has none.
    """

    first_row: int
    classes: NDArray[np.uint8]
    probabilities: NDArray[Any]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(rows, cols): where the product has data."""
        return np.asarray(self.classes != IGNORE)


def predicted_strips(scene: SceneLogits, *, rows: int = STRIP_ROWS, stored: bool = False) -> Iterator[Strip]:
    """Give the scene's strips from the top.

    The network runs in the caller's thread, all that follows in others beside it.

    Parameters
    ----------
    rows
        Number of rows of a strip; the last strip may have fewer.
    stored
        Give probabilities as they are stored in files.
    """
    scene.finish()
    height = scene.shape[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(cores, _MOST_THREADS)
    with ThreadPoolExecutor(threads, thread_name_prefix="floemap-strips") as pool:
        waiting: deque[Future[Strip]] = deque()
        for first in range(0, height, rows):
            waiting.append(_submit(pool, scene, first, min(first + rows, height), stored))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _submit(pool: ThreadPoolExecutor, scene: SceneLogits, first: int, last: int, stored: bool) -> Future[Strip]:
    valid = scene.valid(first, last)
    above, below = scene.cells_for(first, last)
    cells = scene.cells(above, below)
    if cells.device.type == "cpu":
        offset = first - above * scene.stride
        return pool.submit(_by_processor, cells.numpy(), scene.stride, offset, first, valid, stored)
    return pool.submit(_by_gpu, scene.rows(first, last), first, valid, stored)


def _blank(classes: int, shape: tuple[int, ...], stored: bool) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return classes and probabilities without data."""
    kind, empty = (np.uint8, IGNORE) if stored else (np.float32, np.nan)
    return np.full(shape, IGNORE, np.uint8), np.full((classes, *shape), empty, kind)


def _by_gpu(logits: torch.Tensor, first: int, valid: NDArray[np.bool_], stored: bool) -> Strip:
    """Work on logits of pixels, (K, rows, cols), where they are."""
    classes, probabilities = _blank(len(logits), valid.shape, stored)
    likely = torch.softmax(logits, dim=0)
    found = (likely * STEPS).round().to(torch.uint8) if stored else likely
    np.copyto(classes, logits.argmax(dim=0).to(torch.uint8).cpu().numpy(), where=valid)
    np.copyto(probabilities, found.cpu().numpy(), where=valid)
    return Strip(first, classes, probabilities)


def _by_processor(
    cells: NDArray[np.float32], stride: int, offset: int, first: int, valid: NDArray[np.bool_], stored: bool
) -> Strip:
    """Work on logits of cells, (K, h, w), in blocks; the strip begins `offset` pixels below the first cell's top."""
    classes, probabilities = _blank(len(cells), valid.shape, stored)
    for row in range(0, len(valid), _BLOCK_ROWS):
        inside = valid[row : row + _BLOCK_ROWS]
        cols = np.flatnonzero(inside.any(axis=0))
        if not len(cols):
            continue
        left, right = int(cols[0]), int(cols[-1]) + 1
        box = np.s_[row : row + len(inside), left:right]
        logits = [_to_pixels(c, stride, (row + offset, row + offset + len(inside)), (left, right)) for c in cells]
        outside = np.where(inside[:, left:right], np.uint8(0), np.uint8(IGNORE))
        best = logits[0].copy()
        found = np.zeros(best.shape, np.uint8)
        for k, one in enumerate(logits[1:], 1):
            # 255 where it is greater; ids rise, so the greatest so far is the latest
            greater = np.asarray(cv2.compare(one, best, cv2.CMP_GT))
            cv2.max(found, greater.astype(np.uint8, copy=False) & np.uint8(k), dst=found)
            cv2.max(one, best, dst=best)
        cv2.bitwise_or(found, outside, dst=classes[box])
        powers = [cv2.exp(cv2.subtract(one, best)) for one in logits]
        total = powers[0].copy()
        for power in powers[1:]:
            cv2.add(total, power, dst=total)
        share = cv2.divide(float(STEPS if stored else 1), total)
        for k, power in enumerate(powers):
            if stored:
                steps = cv2.multiply(power, share, dtype=cv2.CV_8U)  # rounds
                cv2.bitwise_or(steps, outside, dst=probabilities[k][box])
            else:
                np.copyto(probabilities[k][box], cv2.multiply(power, share), where=outside == 0)
    return Strip(first, classes, probabilities)


def _to_pixels(
    cells: NDArray[np.float32], stride: int, rows: tuple[int, int], cols: tuple[int, int]
) -> NDArray[np.float32]:
    """Interpolate the cells of one class to a box of pixels, counted from the first cell's corner.

    One cell more on each side is taken where there is one; where there is none, both repeat the outermost cell.
    """
    if stride == 1:
        return cells[rows[0] : rows[1], cols[0] : cols[1]]
    spans = []
    for (low, high), n in zip((rows, cols), cells.shape, strict=True):
        spans.append((max(0, low // stride - 1), min(n, -(-high // stride) + 1)))
    (top, bottom), (left, right) = spans
    size = ((right - left) * stride, (bottom - top) * stride)
    pixels = np.asarray(cv2.resize(cells[top:bottom, left:right], size, interpolation=cv2.INTER_LINEAR), np.float32)
    y, x = top * stride, left * stride
    return pixels[rows[0] - y : rows[1] - y, cols[0] - x : cols[1] - x]
