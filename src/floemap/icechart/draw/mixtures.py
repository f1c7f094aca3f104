"""Areas to draw for eggs: each has one mixture of classes, as an analyst draws it, in place of regions of one class.

A pack of floes and leads, or a place where the model wavers between two classes, is a hundred regions of one class, and
one area of a mixture. Areas are found in the field of shares on cells of some hundred metres:

1. Cells are grouped into compact superpixels of like shares (R. Achanta et al., "SLIC superpixels compared to
   state-of-the-art superpixel methods", PAMI 2012, with the Hellinger distance of shares in place of colours). Their
   borders follow the field.
2. Superpixels are merged (:mod:`floemap.icechart.draw.mixture_merging`).
3. The borders of the merged areas are interpolated to pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from floemap.icechart.draw.eggs import EggSource
from floemap.icechart.draw.mixture_merging import merge_areas, neighbours
from floemap.icechart.draw.regions import Ints, sum_contacts
from floemap.legend import IGNORE

Planes = NDArray[np.float32]

#: Side of a cell, metres; at least a pixel.
CELL_M = 800.0
#: Information, in nats times km2, that a kilometre of border must keep: on simulated scenes about as many areas come
#: out as the simulated analyst draws, tens in a scene (benchmarks/mixtures.py).
WORTH_KM = 3.0
#: Largest number of areas of a scene: they are drawn from a raster of bytes.
MOST = 250
#: Smoothing of shares before superpixels are found, cells: floes and leads of a pack are not areas.
_SMOOTHING = 1.0
#: Largest number of superpixels, and side of the squares that they begin as, at least, cells.
_MOST_SUPERPIXELS, _LEAST_SIDE = 5000, 4
#: Weight of the distance from a superpixel's middle, in sides of the squares, against that of shares.
_COMPACTNESS = 0.01
_ROUNDS = 5
#: Blur of the areas' borders on their way to pixels, cells.
_ROUNDING = 0.8
_TINY = 1e-9


def mixture_areas(
    classes: NDArray[np.uint8], source: EggSource, water: int, *, pixel_m: float, smallest_km2: float
) -> NDArray[np.uint8]:
    """Find the areas of a scene that have one mixture of classes.

    Parameters
    ----------
    classes
        (rows, cols) uint8, IGNORE on land and without data.
    source
        Shares of the classes, and the concentration if one is predicted.
    water
        Id of the class of water.
    pixel_m
        Side of a pixel, metres.
    smallest_km2
        Smallest area on the map.

    Returns
    -------
    numpy.ndarray
        (rows, cols) uint8: the area of each pixel with a class, numbered from 0, and IGNORE elsewhere. An area may
        consist of several parts. Equal rasters give equal areas.
    """
    side = max(1, round(CELL_M / pixel_m))
    weight, shares = _cells(classes, source, water, side)
    parts = _connected(_superpixels(_smoothed(shares, weight), weight))
    side_km = side * pixel_m / 1000
    inside = parts >= 0
    count = int(parts.max(initial=-1)) + 1
    held = weight[inside] * side_km**2
    amounts = np.stack([np.bincount(parts[inside], p[inside] * held, count).astype(float) for p in shares], axis=1)
    met = sum_contacts(count, *neighbours(parts), np.ones(len(neighbours(parts)[0]), np.int64))
    merged = merge_areas(amounts, met, side_km, worth_km=WORTH_KM, smallest_km2=smallest_km2, most=MOST // 2)
    areas = np.where(inside, merged[parts], -1)
    return _to_pixels(_numbered(areas, weight), classes, side)


def _cells(classes: NDArray[np.uint8], source: EggSource, water: int, side: int) -> tuple[Planes, list[Planes]]:
    """Return the part of each cell that has a class, (rows, cols), and the classes' shares there, summing to 1."""
    known = classes != IGNORE
    weight = _reduced(known.view(np.uint8) * np.uint8(255), side) / np.float32(255)
    bands = (
        list(source.shares)
        if source.shares is not None
        else [np.uint8(200) * (classes == k) for k in _ids(classes, water)]
    )
    shares = [_reduced(np.where(known, band, np.uint8(0)), side) for band in bands]
    if source.concentration is not None:
        step = source.concentration_step
        told = _reduced(np.where(known, source.concentration, np.uint8(0)), side) * np.float32(step)
        total = (told / np.maximum(weight, _TINY)).clip(0, 1)
        ice = np.maximum(sum(shares) - shares[water], _TINY)
        shares = [1 - total if k == water else s / ice * total for k, s in enumerate(shares)]
    whole = np.maximum(sum(shares), _TINY)
    return weight, [np.where(weight > 0, s / whole, 0).astype(np.float32) for s in shares]


def _ids(classes: NDArray[np.uint8], water: int) -> range:
    found = classes[classes != IGNORE]
    return range(max(int(found.max(initial=0)), water) + 1)


def _reduced(band: NDArray[np.uint8], side: int) -> Planes:
    """Return means over cells of `side` x `side` pixels, zero beyond the edges."""
    rows, cols = (-(-n // side) for n in band.shape)
    below, right = rows * side - band.shape[0], cols * side - band.shape[1]
    padded = cv2.copyMakeBorder(band, 0, below, 0, right, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.resize(padded, (cols, rows), interpolation=cv2.INTER_AREA), np.float32)


def _smoothed(shares: list[Planes], weight: Planes) -> Planes:
    """Return the square roots of smoothed shares, (K, rows, cols): their distances are Hellinger distances."""
    around = np.maximum(cv2.GaussianBlur(weight, (0, 0), _SMOOTHING), _TINY)
    blurred = [cv2.GaussianBlur(np.asarray(s * weight), (0, 0), _SMOOTHING) / around for s in shares]
    return np.sqrt(np.maximum(np.stack(blurred), 0)).astype(np.float32)


def _superpixels(field: Planes, weight: Planes) -> Ints:
    """Group cells into superpixels: each joins the nearest of the nine around it; -1 outside, (rows, cols)."""
    _, rows, cols = field.shape
    inside = weight > 0
    side = max(_LEAST_SIDE, int(np.ceil(np.sqrt(inside.sum() / _MOST_SUPERPIXELS))))
    down, across = -(-rows // side), -(-cols // side)
    y, x = (np.arange(n, dtype=np.float32) for n in (rows, cols))
    at_row, at_col = np.arange(rows) // side, np.arange(cols) // side
    scale = np.float32(np.sqrt(_COMPACTNESS) / side)
    place = np.broadcast_arrays(y[:, None] * scale, x * scale)
    features = np.concatenate([field, np.stack(place)]).astype(np.float32)
    label = (at_row[:, None] * across + at_col).astype(np.int64)
    for _ in range(_ROUNDS):
        middles = _means(features, np.where(inside, label, -1), down * across)
        best = np.full((rows, cols), np.inf, np.float32)
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                row, col = (at_row + i).clip(0, down - 1), (at_col + j).clip(0, across - 1)
                candidate = row[:, None] * across + col
                distance = np.zeros((rows, cols), np.float32)
                for plane, middle in zip(features, middles, strict=True):
                    distance += (plane - middle[candidate]) ** 2
                nearer = distance < best
                best[nearer], label[nearer] = distance[nearer], candidate[nearer]
    return np.where(inside, label, -1)


def _means(features: Planes, label: Ints, count: int) -> Planes:
    """Return the mean of each feature over each superpixel, (features, superpixels); infinite for empty ones."""
    inside = label >= 0
    of = label[inside]
    size = np.bincount(of, minlength=count)
    means = [np.bincount(of, plane[inside], count) / np.maximum(size, 1) for plane in features]
    return np.where(size > 0, np.stack(means), np.float32(1e6)).astype(np.float32)


def _connected(label: Ints) -> Ints:
    """Number the connected parts of equal labels from 0 in the order of their first cells; -1 stays, (rows, cols)."""
    number = np.arange(label.size).reshape(label.shape)
    pairs = []
    for one, two in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1),), (slice(1, None),)),
    ):
        same = label[one] == label[two]
        pairs.append((number[one][same], number[two][same]))
    a, b = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(label.size, label.size)).tocsr()
    part = np.asarray(connected_components(graph, directed=False)[1], np.int64).reshape(label.shape)
    out = np.full(label.shape, -1, np.int64)
    inside = label >= 0
    found, first, place = np.unique(part[inside], return_index=True, return_inverse=True)
    rank = np.empty(len(found), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(found))
    out[inside] = rank[place]
    return out


def _numbered(areas: Ints, weight: Planes) -> NDArray[np.uint8]:
    """Return areas as bytes: the largest get a number each; the rest, which have no neighbour, share the last one."""
    inside = areas >= 0
    size = np.bincount(areas[inside], weight[inside])
    rank = np.empty(len(size), np.int64)
    rank[np.argsort(-size, kind="stable")] = np.arange(len(size))
    out = np.full(areas.shape, IGNORE, np.uint8)
    out[inside] = np.minimum(rank[areas[inside]], MOST)
    return out


def _to_pixels(areas: NDArray[np.uint8], classes: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Interpolate areas of cells to pixels: each pixel takes the area with the most weight around it."""
    rows, cols = classes.shape
    out = np.full(classes.shape, IGNORE, np.uint8)
    best = np.zeros(classes.shape, np.uint8)
    reach = int(np.ceil(3 * _ROUNDING)) + 1
    for k in np.unique(areas[areas != IGNORE]):
        there = areas == k
        spans = [np.flatnonzero(there.any(axis=axis)) for axis in (1, 0)]
        (top, bottom), (left, right) = ((max(0, s[0] - reach), s[-1] + 1 + reach) for s in spans)
        cells = there[top:bottom, left:right].astype(np.uint8) * np.uint8(255)
        cells = cv2.GaussianBlur(cells, (0, 0), _ROUNDING)
        window = slice(top * side, min(rows, bottom * side)), slice(left * side, min(cols, right * side))
        size = (cells.shape[1] * side, cells.shape[0] * side)
        weight = cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR)[: out[window].shape[0], : out[window].shape[1]]
        better = weight > best[window]
        out[window][better], best[window][better] = k, weight[better]
    return np.where(classes == IGNORE, np.uint8(IGNORE), out)
