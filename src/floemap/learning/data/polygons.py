"""What losses read of a chart's polygons: their shares of classes, looked up by the ids of pixels.

Ids are uint16 in files and arrays. In tensors they are int16 of the same bits, as torch cannot do much with uint16;
:meth:`Polygons.index` gives whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from floemap.errors import GridError
from floemap.icechart.label.polygon_values import CATEGORIES, VALUES, column_of, values_of
from floemap.legend import IGNORE


@dataclass(frozen=True)
class PolygonShares:
    """The polygons of a part, P of them; row 0 stands for pixels without a polygon.

    Attributes
    ----------
    shares
        Share of the polygon's area that each class has, (P + 1, K) float32. What is missing to 1 is unknown.
    candidates
        Classes that the polygon may hold, (P + 1, K) bool.
    pixels
        Number of pixels of the whole polygon, (P + 1,) int64.
    values
        Values and further classes of the polygon, (P + 1, V) float32, from
        :func:`floemap.icechart.label.polygon_values.values_of`; not-a-number where one is not known. None
        if no value is known.
    """

    shares: NDArray[np.float32]
    candidates: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    values: NDArray[np.float32] | None = None

    def known(self, ids: NDArray[np.uint16], target: str) -> int:
        """Return the number of pixels of a part, (rows, cols), whose polygon has a known value or share."""
        if target in VALUES or target in CATEGORIES:
            if self.values is None:
                return 0
            known = np.isfinite(self.values[:, column_of(target)])
        else:
            known = self.shares.sum(axis=1) > 0
        return sum(int(np.count_nonzero(known[row])) for row in ids)


def read_shares(raster: Path) -> PolygonShares:
    """Read the table beside a ``polygons.tif``.

    Raises
    ------
    FloemapError
        If there is none, or it is damaged.
    """
    from floemap.icechart.label.polygon_table import read_polygons

    table = read_polygons(raster.parent)
    return PolygonShares(table.shares, table.candidates, table.pixels, values_of(table))


def check_ids(ids: NDArray[np.uint16], polygons: PolygonShares, name: str) -> None:
    """Check that all ids of a part, (rows, cols), are rows of its table.

    Raises
    ------
    GridError
        If one is not.
    """
    if ids.size and int(ids.max()) >= len(polygons.shares):
        raise GridError(
            f"part {name} has the polygon id {int(ids.max())}; its table ends at {len(polygons.shares) - 1}.",
            hint="Label the chart again with `floemap label --overwrite`.",
        )


@dataclass(frozen=True)
class Polygons:
    """The polygons of a batch of N crops, or of one whole part.

    Attributes
    ----------
    ids
        (N, H, W) int16, the bits of uint16; 0 where there is no polygon.
    shares, candidates, pixels
        As in :class:`PolygonShares`, by crop: (N, P + 1, K) float32, (N, P + 1, K) bool, (N, P + 1) float32. P is the
        largest number of polygons of any part.
    values
        Likewise, (N, P + 1, V) float32; None if no value is known.
    """

    ids: Tensor
    shares: Tensor
    candidates: Tensor
    pixels: Tensor
    values: Tensor | None = None

    def to(self, device: torch.device) -> Polygons:
        """Return the same on a device."""
        return Polygons(*(None if x is None else x.to(device, non_blocking=True) for x in self.tensors))  # type: ignore[arg-type]

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All fields, in order."""
        return self.ids, self.shares, self.candidates, self.pixels, self.values

    def crops(self, first: int, last: int) -> Polygons:
        """Return the polygons of the crops from `first` to `last`, exclusive."""
        return Polygons(*(None if x is None else x[first:last] for x in self.tensors))  # type: ignore[arg-type]

    @property
    def index(self) -> Tensor:
        """Row of each pixel in the tables of all crops one after the other, (N, H, W) int32."""
        first = torch.arange(len(self.ids), dtype=torch.int32, device=self.ids.device) * self.shares.shape[1]
        return (self.ids.int() & 0xFFFF) + first[:, None, None]

    @staticmethod
    def of_labels(labels: Tensor, classes: int) -> Polygons:
        """Return polygons of one type: all pixels of a class in a crop, (N, H, W) uint8, are one pure polygon.

        No value of theirs is known.
        """
        ids = torch.where(labels == IGNORE, 0, labels.to(torch.int16) + 1)
        pure = functional.pad(torch.eye(classes, device=labels.device), (0, 0, 1, 0)).expand(len(labels), -1, -1)
        pixels = torch.stack([(ids == k).sum(dim=(1, 2)) for k in range(classes + 1)], dim=1).float()
        values = torch.full((len(labels), classes + 1, len(VALUES) + len(CATEGORIES)), torch.nan, device=labels.device)
        return Polygons(ids, pure, pure > 0, pixels, values)


class PolygonTables:
    """The tables of several parts on a device, with as many rows each.

    Parameters
    ----------
    parts
        The polygons of each part.
    device
        Device of the tables.
    """

    def __init__(self, parts: Sequence[PolygonShares], device: torch.device | str = "cpu") -> None:
        rows = max(len(p.shares) for p in parts)

        def padded(arrays: Sequence[NDArray[np.generic]]) -> Tensor:
            whole = np.zeros((len(arrays), rows, *arrays[0].shape[1:]), arrays[0].dtype)
            for into, array in zip(whole, arrays, strict=True):
                into[: len(array)] = array
            return torch.from_numpy(whole).to(device)

        self._shares = padded([p.shares for p in parts])
        self._candidates = padded([p.candidates for p in parts])
        self._pixels = padded([p.pixels.astype(np.float32) for p in parts])
        values = [p.values for p in parts if p.values is not None]
        self._values = padded(values) if len(values) == len(parts) else None

    def of(self, ids: Tensor, parts: Sequence[int]) -> Polygons:
        """Return the polygons of crops with these ids, (N, H, W) int16, each of the part with the index given."""
        chosen = torch.tensor(parts, device=self._shares.device)
        values = None if self._values is None else self._values[chosen]
        return Polygons(ids, self._shares[chosen], self._candidates[chosen], self._pixels[chosen], values)


def tables_of(polygons: Sequence[PolygonShares | None], device: torch.device | str = "cpu") -> PolygonTables | None:
    """Return the tables of the polygons of all parts; None if not all parts have polygons."""
    known = [p for p in polygons if p is not None]
    return PolygonTables(known, device) if known and len(known) == len(polygons) else None


def tensor_of_ids(ids: NDArray[np.uint16]) -> Tensor:
    """Return ids as int16 of the same bits, without copying."""
    return torch.from_numpy(ids.view(np.int16))
