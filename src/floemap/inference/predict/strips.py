"""From a scene's logits to classes, probabilities and their uncertainty, strip by strip.

Logits are interpolated to pixels, then softmax gives the probabilities, of logits divided by the temperature of a
calibrated model; the most probable class is the class. The
reverse order, softmax before interpolation, would be faster and give other probabilities. The probabilities of several
models are averaged, and the class is the most probable one of the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from floemap.cog import STRIP_ROWS
from floemap.icechart.label.polygon_values import VALUES
from floemap.inference.predict.memory import give_back_memory
from floemap.inference.predict.scene_maps import STEPS
from floemap.inference.predict.uncertainty import MEANINGS, Planes, mean_of, uncertainties
from floemap.learning.targets import Head, slices_of
from floemap.learning.whole_scene.logits import SceneLogits
from floemap.legend import IGNORE
from floemap.threads import in_order, usable_cores

#: Rows that are computed at a time: intermediate results stay in the processor's cache.
_BLOCK_ROWS = 64
#: Each thread holds a strip, some 25 MB of a usual scene.
_MOST_THREADS = 4


@dataclass(frozen=True)
class Strip:
    """Some rows of a predicted scene, over its whole width. Where the product has no data, all values are IGNORE.

    Attributes
    ----------
    first_row
        First row of the strip in the scene.
    classes
        (rows, cols) uint8: the most probable class.
    probabilities
        (K, rows, cols) uint8: probabilities of the classes, in steps of 1 / STEPS. Of several models: their mean.
    uncertainty
        (measures, rows, cols) uint8, in steps of 1 / STEPS: the entropy and, of several models, the mutual information;
        see :mod:`floemap.inference.predict.uncertainty`. No measures where none were requested.
    further
        The bands of each further head, (bands, rows, cols) uint8, by its name: shares in steps of 1 / STEPS, values in
        steps of their own, the most probable class of a category. Of several models: their mean.
    """

    first_row: int
    classes: NDArray[np.uint8]
    probabilities: NDArray[np.uint8]
    uncertainty: NDArray[np.uint8]
    further: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


def predicted_strips(
    scenes: Sequence[SceneLogits],
    *,
    rows: int = STRIP_ROWS,
    uncertainty: bool = False,
    temperatures: Sequence[float] | None = None,
    further: Sequence[Head] = (),
) -> Iterator[Strip]:
    """Yield the strips of a scene from the top.

    The networks run in the caller's thread, everything after them in other threads at the same time.

    Parameters
    ----------
    scenes
        Logits of the scene from each model.
    rows
        Number of rows of a strip; the last strip may have fewer.
    uncertainty
        Compute the uncertainty, too.
    temperatures
        Temperature of each model; by default 1.
    further
        The heads after that of classes, which all models have.
    """
    for scene in scenes:  # one after the other, where that is possible: each needs the memory for itself
        scene.finish()
        give_back_memory()
    height = scenes[0].shape[0]
    heats = tuple(temperatures or [1.0] * len(scenes))
    wanted = _Wanted(scenes[0].classes, uncertainty, tuple(further))
    work = (_work(scenes, heats, first, min(first + rows, height), wanted) for first in range(0, height, rows))
    yield from in_order(work, min(usable_cores(), _MOST_THREADS))


@dataclass(frozen=True)
class _Cells:
    """Logits of cells on the processor, (K, rows, cols); the strip begins `offset` pixels below the first cell's top.

    Pixels are counted from the strip's first row and the scene's first column.
    """

    logits: NDArray[np.float32]
    stride: int
    offset: int

    def to_pixels(self, rows: tuple[int, int], cols: tuple[int, int]) -> Planes:
        """Interpolate a box of pixels, a plane for each class."""
        rows = (rows[0] + self.offset, rows[1] + self.offset)
        return [_to_pixels(cells, self.stride, rows, cols) for cells in self.logits]


@dataclass(frozen=True)
class _Wanted:
    """What is computed from logits: the classes, their uncertainty if requested, and the further heads."""

    classes: int
    uncertainty: bool
    further: tuple[Head, ...]

    @property
    def channels_of(self) -> list[tuple[Head, slice]]:
        """The channels of each further head among the logits."""
        heads = (Head("", "class", self.classes), *self.further)
        return list(zip(heads, slices_of(heads), strict=True))[1:]


def _work(
    scenes: Sequence[SceneLogits], temperatures: Sequence[float], first: int, last: int, wanted: _Wanted
) -> Callable[[], Strip]:
    """Run the networks for the rows [first, last); return the function that does everything after them."""
    # Models may read different bands: a pixel needs the data of all.
    valid = np.logical_and.reduce([s.valid(first, last) for s in scenes])
    members = []
    for scene in scenes:
        above, below = scene.cells_for(first, last)
        cells = scene.cells(above, below)
        if cells.device.type != "cpu":
            pixels = [s.rows(first, last) for s in scenes]
            return partial(_strip, _fill_by_gpu, pixels, temperatures, first, valid, wanted)
        members.append(_Cells(cells.numpy(), scene.stride, first - above * scene.stride))
    return partial(_strip, _fill_by_processor, members, temperatures, first, valid, wanted)


def _strip(
    fill: Callable[[NDArray[np.uint8], Sequence[Any], Sequence[float], NDArray[np.bool_], _Wanted], None],
    members: Sequence[Any],
    temperatures: Sequence[float],
    first: int,
    valid: NDArray[np.bool_],
    wanted: _Wanted,
) -> Strip:
    measures = min(len(members), len(MEANINGS)) if wanted.uncertainty else 0
    sizes = [1, wanted.classes, measures, *(h.planes for h in wanted.further)]
    layers = np.full((sum(sizes), *valid.shape), IGNORE, np.uint8)
    fill(layers, members, temperatures, valid, wanted)
    classes, probabilities, uncertainty, *further = np.split(layers, np.cumsum(sizes)[:-1])
    names = (h.name for h in wanted.further)
    return Strip(first, classes[0], probabilities, uncertainty, dict(zip(names, further, strict=True)))


def _fill_by_gpu(
    layers: NDArray[np.uint8],
    members: Sequence[torch.Tensor],
    temperatures: Sequence[float],
    valid: NDArray[np.bool_],
    wanted: _Wanted,
) -> None:
    """Fill in the layers from each model's logits of pixels, (channels, rows, cols), on their device."""
    classes = [logits[: wanted.classes] for logits in members]
    likely = [torch.softmax(logits / t, dim=0) for logits, t in zip(classes, temperatures, strict=True)]
    mean = torch.stack(likely).mean(dim=0)
    ranked = classes[0] if len(members) == 1 else mean
    found = torch.cat([ranked.argmax(dim=0, keepdim=True), (mean * STEPS).round()]).to(torch.uint8).cpu().numpy()
    measured = uncertainties([p.cpu().numpy() for p in likely]) if wanted.uncertainty else []
    further = _further([logits.cpu().numpy() for logits in members], wanted) if wanted.further else []
    for layer, values in zip(layers, [*found, *(_rounded(m, STEPS) for m in measured), *further], strict=True):
        np.copyto(layer, values, where=valid)


def _fill_by_processor(
    layers: NDArray[np.uint8],
    members: Sequence[_Cells],
    temperatures: Sequence[float],
    valid: NDArray[np.bool_],
    wanted: _Wanted,
) -> None:
    """Fill in the layers from each model's logits of cells, in blocks."""
    for row in range(0, len(valid), _BLOCK_ROWS):
        inside = valid[row : row + _BLOCK_ROWS]
        cols = np.flatnonzero(inside.any(axis=0))
        if not len(cols):
            continue
        left, right = int(cols[0]), int(cols[-1]) + 1
        outside = np.where(inside[:, left:right], np.uint8(0), np.uint8(IGNORE))
        logits = [m.to_pixels((row, row + len(inside)), (left, right)) for m in members]
        for layer, values in zip(layers, _layers(logits, temperatures, wanted), strict=True):
            cv2.bitwise_or(values, outside, dst=layer[row : row + len(inside), left:right])


def _layers(logits: Sequence[Planes], temperatures: Sequence[float], wanted: _Wanted) -> Iterator[NDArray[np.uint8]]:
    """Yield class, probabilities, measures of uncertainty and further heads as stored, from the logits of pixels.

    `logits` has those of each model, for the same pixels. The class of one model is that of the logits themselves:
    divided by the temperature they could be rounded alike.
    """
    members, uncertainty = [planes[: wanted.classes] for planes in logits], wanted.uncertainty
    ranked = [_most_probable(logits) for logits in members]
    likely: list[Planes] = []
    if uncertainty or len(members) > 1:
        each = zip(members, ranked, temperatures, strict=True)
        likely = [_softmax(logits, best, t) for logits, (_, best), t in each]
    if len(members) == 1:
        ((classes, best),) = ranked
        yield classes
        yield from map(_rounded, _softmax(members[0], best, temperatures[0], STEPS))
    else:
        mean = mean_of(likely)
        yield _most_probable(mean)[0]
        yield from (_rounded(plane, STEPS) for plane in mean)
    if uncertainty:
        yield from (_rounded(measure, STEPS) for measure in uncertainties(likely))
    yield from _further(logits, wanted)


def _further(logits: Sequence[Planes], wanted: _Wanted) -> Iterator[NDArray[np.uint8]]:
    """Yield the bands of further heads as stored: values in their range, classes, or shares, which are a softmax."""
    for head, channels in wanted.channels_of:
        outputs = [planes[channels] for planes in logits]
        if head.kind == "value":
            value = VALUES[head.target]
            mean = np.clip(mean_of(outputs)[0], value.low, value.high)
            yield _rounded(np.asarray(mean - np.float32(value.low), np.float32), 1 / value.step)
        else:
            shares = [_softmax(planes, _most_probable(planes)[1], 1.0) for planes in outputs]
            if head.kind == "category":
                yield _most_probable(outputs[0] if len(outputs) == 1 else mean_of(shares))[0]
            else:
                yield from (_rounded(plane, STEPS) for plane in mean_of(shares))


def _softmax(logits: Planes, best: NDArray[np.float32], temperature: float, total: float = 1.0) -> Planes:
    """Return the softmax of logits / temperature, times `total`; `best` is the greatest logit of each pixel."""
    below = [np.asarray(cv2.subtract(one, best), np.float32) for one in logits]
    if temperature != 1:
        for one in below:
            one *= np.float32(1 / temperature)
    powers = [np.asarray(cv2.exp(one), np.float32) for one in below]
    share = powers[0].copy()
    for power in powers[1:]:
        cv2.add(share, power, dst=share)
    cv2.divide(total, share, dst=share)
    for power in powers:
        cv2.multiply(power, share, dst=power)
    return powers


def _most_probable(planes: Planes) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return which plane has the greatest value, the first of equal ones, and that value."""
    best, found = planes[0].copy(), np.zeros(planes[0].shape, np.uint8)
    for k, one in enumerate(planes[1:], 1):
        # 255 where it is greater; ids rise, so the greatest so far is the latest
        greater = np.asarray(cv2.compare(one, best, cv2.CMP_GT))
        cv2.max(found, greater.astype(np.uint8, copy=False) & np.uint8(k), dst=found)
        cv2.max(one, best, dst=best)
    return found, best


def _rounded(plane: NDArray[np.float32], factor: float = 1.0) -> NDArray[np.uint8]:
    """Return values from 0 to 255 / `factor`, times `factor`, as whole numbers."""
    return np.asarray(cv2.convertScaleAbs(plane, alpha=factor), np.uint8)


def _to_pixels(
    cells: NDArray[np.float32], stride: int, rows: tuple[int, int], cols: tuple[int, int]
) -> NDArray[np.float32]:
    """Interpolate the cells of one class to a box of pixels, counted from the first cell's corner.

    One more cell on each side is used where there is one; where there is none, the outermost cell is repeated.
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
