"""Rows of a scene and of the outputs of a model's pieces, read and computed on demand.

The computation proceeds from the top of the scene downwards. Each piece requests the input rows that it needs from the
piece before it, the first one from the file, and rows that no later piece will read are freed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from floemap.learning.whole_scene.pieces import Network, Piece
from floemap.learning.whole_scene.workers import Workers
from floemap.sentinel1.encoding import NODATA

#: Reads a window of a scene: first row, first column, rows, columns -> stored int16 (B, rows, columns).
Reader = Callable[[int, int, int, int], NDArray[np.int16]]

#: Top, bottom, left, right of a box of cells.
Box = tuple[int, int, int, int]

#: Overhead of a tile, as the number of cells that could be computed in the same time.
_TILE_COST = 200
#: Smallest width of a tile, cells.
_LEAST_TILE = 16


class ScenePixels:
    """The pixels of a scene: a thread reads rows ahead, and they are kept as stored until the first piece reads them.

    Attributes
    ----------
    shape
        Numbers of rows and columns as the model sees them: rounded up to its alignment.
    done
        Number of rows read so far.
    has
        Whether squares of `alignment_px` contain any data, for rows that are read.
    valid
        Pixels with data in all bands that a pixel needs, one bit each, for rows that are read.
    """

    def __init__(self, network: Network, read: Reader, shape: tuple[int, int], chunk_rows: int) -> None:
        self.device = network.device
        self._network = network
        self._read = read
        self._rows, self._cols = shape
        self._chunk_rows = chunk_rows
        a = self.alignment_px = network.alignment_px
        self.shape = (-(-shape[0] // a) * a, -(-shape[1] // a) * a)
        self.done = 0
        self.has = np.zeros((self.shape[0] // a, self.shape[1] // a), np.bool_)
        self.valid = np.zeros((shape[0], -(-shape[1] // 8)), np.uint8)
        self._chunks: list[tuple[int, NDArray[np.int16]]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="floemap-read")
        self._ahead: Future[NDArray[np.int16]] | None = None

    def ensure(self, last: int) -> None:
        """Read up to row `last`, exclusive."""
        while self.done < min(last, self.shape[0]):
            stored = (self._ahead or self._submit(self.done)).result()
            first, self.done = self.done, min(self.done + self._chunk_rows, self.shape[0])
            self._ahead = self._submit(self.done) if self.done < self._rows else None
            self._note(first, stored)
            self._chunks.append((first, stored))

    def valid_rows(self, first: int, last: int) -> NDArray[np.bool_]:
        """Return which pixels of rows [first, last) have data in all bands that a pixel needs, (rows, cols)."""
        self.ensure(last)
        return np.unpackbits(self.valid[first:last], axis=1, count=self._cols).view(np.bool_)

    def _submit(self, row: int) -> Future[NDArray[np.int16]]:
        return self._pool.submit(self._read, row, 0, min(self._chunk_rows, self._rows - row), self._cols)

    def _note(self, first: int, stored: NDArray[np.int16]) -> None:
        """Record where rows have data."""
        there = stored != NODATA
        rows = there.shape[1]
        needed = np.logical_and.reduce([there[i] for i in self._network.bands.of_scene])
        self.valid[first : first + rows] = np.packbits(needed, axis=1)
        a = self.alignment_px
        some = np.zeros((-(-rows // a) * a, self.shape[1]), np.bool_)
        there.any(axis=0, out=some[:rows, : self._cols])
        columns = some.reshape(-1, a, self.shape[1]).any(axis=1)  # (rows of squares, pixels)
        self.has[first // a : -(-(first + rows) // a)] = columns.reshape(-1, self.has.shape[1], a).any(axis=2)

    def window(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Return the input of the first piece for a window inside `shape`, (1, C, rows, cols) in channels_last."""
        stored = np.full((len(self._network.bands), bottom - top, right - left), NODATA, np.int16)
        inner = min(right, self._cols)
        for first, chunk in self._chunks:
            a, b = max(top, first), min(bottom, first + chunk.shape[1])
            if a < b:
                stored[:, a - top : b - top, : inner - left] = chunk[:, a - first : b - first, left:inner]
        return self.of(torch.from_numpy(stored).to(self.device))

    def of(self, stored: Tensor) -> Tensor:
        """Return the input of the first piece for stored values (B, rows, cols)."""
        index = stored.int() + (1 << 15)
        table, band_of = self._network.table, self._network.band_of
        size = (*stored.shape[1:], len(table))
        x = torch.empty(size, dtype=self._network.dtype, device=self.device)
        for channel, band in enumerate(band_of):
            x[..., channel] = table[channel].index_select(0, index[band].flatten()).view(size[:2])
        return x[None].permute(0, 3, 1, 2)

    def forget(self, before: int) -> None:
        """Free the rows before `before`, as far as whole chunks lie before it."""
        self._chunks = [(first, c) for first, c in self._chunks if first + c.shape[1] > before]

    def close(self) -> None:
        """Cancel reading ahead, and wait for the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class ResidentPixels(ScenePixels):
    """The pixels of a scene that is on the device as a whole, stored int16 (B, rows, cols): nothing is read."""

    def __init__(self, network: Network, stored: Tensor) -> None:
        super().__init__(network, _nothing, (stored.shape[1], stored.shape[2]), 1)
        self._stored = stored
        self.done = self.shape[0]
        a, (rows, cols) = self.alignment_px, self.shape
        some = (stored != NODATA).any(dim=0)
        some = functional.pad(some, (0, cols - self._cols, 0, rows - self._rows))
        self.has = some.view(rows // a, a, cols // a, a).any(dim=3).any(dim=1).cpu().numpy()

    def valid_rows(self, first: int, last: int) -> NDArray[np.bool_]:
        """As of a scene that is read."""
        there = self._stored[list(self._network.bands.of_scene), first:last] != NODATA
        return there.all(dim=0).cpu().numpy()

    def window(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """As of a scene that is read."""
        inner = self._stored[:, top : min(bottom, self._rows), left : min(right, self._cols)]
        beyond = (0, right - left - inner.shape[2], 0, bottom - top - inner.shape[1])
        return self.of(functional.pad(inner, beyond, value=NODATA) if any(beyond) else inner)

    def forget(self, before: int) -> None:
        """Nothing: the scene stays."""


def _nothing(row: int, col: int, rows: int, cols: int) -> NDArray[np.int16]:
    raise ValueError("a resident scene is not read")


class PieceRows:
    """The output of one piece, computed in bands from the top downwards; rows that are no longer needed are freed.

    Parameters
    ----------
    cell_px
        Side of a cell of the output, in pixels of the scene.
    reach_px
        Cells up to this distance from pixels with data are computed. Beyond it they are copied from `fill`.
    fill
        Output of the piece where there are no data; None if no later piece reads it.
    tile
        Side of the tiles in cells of the output; it is adjusted to the halo and alignment of the piece.
    workers
        Threads that compute the tiles of a band.
    tell
        Function called after each band.
    """

    def __init__(
        self,
        piece: Piece,
        source: PieceRows | ScenePixels,
        pixels: ScenePixels,
        *,
        cell_px: int,
        reach_px: int,
        fill: Fill | None,
        tile: int,
        workers: Workers,
        tell: Callable[[], None],
        dtype: torch.dtype,
    ) -> None:
        self.piece, self.source, self.pixels = piece, source, pixels
        self.cell_px, self.reach_px, self.fill, self.dtype = cell_px, reach_px, fill, dtype
        self.shape = (pixels.shape[0] // cell_px, pixels.shape[1] // cell_px)
        self.halo = max(self.shape) if piece.halo is None else piece.halo
        self.tell, self.workers = tell, workers
        self.done = 0
        # If the halo is computed, small tiles would be mostly halo; if it is only read, small tiles are faster.
        tile = -(-tile // 2) if piece.inside else max(tile, 2 * self.halo)
        self._tile = max(self.shape) if piece.halo is None else -(-tile // piece.align) * piece.align
        self._chunks: deque[tuple[int, Tensor]] = deque()  # first row, (rows, cols, channels)
        self._spare: list[Tensor] = []  # chunks are reused: allocating new ones takes more time and memory

    def ensure(self, last: int) -> None:
        """Compute up to row `last`, exclusive."""
        while self.done < min(last, self.shape[0]):
            self.advance()

    def advance(self) -> None:
        """Compute the next band."""
        first, last = self.done, min(self.done + self._tile, self.shape[0])
        self.source.ensure((last + self.halo) * self.piece.shrink)
        chunk = self._blank(first, last)

        def compute(box: Box) -> None:
            top, bottom, left, right = box
            with torch.inference_mode():
                chunk[top - first : bottom - first, left:right] = self._run(*box)

        self.workers.run(compute, sorted(self._tiles(first, last), key=self._work, reverse=True))
        self._chunks.append((first, chunk))
        self.done = last
        self.tell()
        self.source.forget((last - self.halo) * self.piece.shrink)

    def _blank(self, first: int, last: int) -> Tensor:
        """Return a chunk for rows [first, last), filled as for an area without data; memory is reused."""
        size = (last - first, self.shape[1], self.piece.channels)
        chunk = self._spare.pop() if self._spare else torch.empty(0)
        if chunk.shape != size:
            chunk = torch.empty(size, dtype=self.dtype, device=self.pixels.device)
        return chunk.zero_() if self.fill is None else self.fill.rows(first, last, chunk)

    def _run(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Compute a tile of the output, (rows, cols, channels)."""
        f, halo = self.piece.shrink, self.halo
        a, b, c, d = top - halo, bottom + halo, left - halo, right + halo
        if self.piece.inside:
            return self.piece.run(self.source.window(a * f, b * f, c * f, d * f))[0].permute(1, 2, 0)
        a, b, c, d = max(a, 0), min(b, self.shape[0]), max(c, 0), min(d, self.shape[1])
        out = self.piece.run(self.source.window(a * f, b * f, c * f, d * f))[0].permute(1, 2, 0)
        return out[top - a : bottom - a, left - c : right - c]

    def _tiles(self, first: int, last: int) -> Iterator[Box]:
        """Yield the tiles to compute in rows [first, last): as few as possible, none where nothing is needed."""
        if self.piece.halo is None:
            yield (0, *self.shape[:1], 0, *self.shape[1:])
            return
        band = self._needed((first, last, 0, self.shape[1]))
        if band is None:
            return
        left, right = band[2:]
        count, align = self._tile_count(right - left), self.piece.align
        edges = [left + (right - left) * i // count // align * align for i in range(count)] + [right]
        for a, b in pairwise(edges):
            box = self._needed((first, last, a, b))
            if box is not None:
                yield from self._halved(box)

    def _tile_count(self, width: int) -> int:
        """Return the number of tiles for `width` cells: enough for all workers, unless the tiles would be too small."""
        halo = 0 if self.piece.inside else self.halo
        count = -(-width // self._tile)
        most = max(count, width // max(4 * halo, _LEAST_TILE))
        return min(most, -(-count // self.workers.count) * self.workers.count)

    def _halved(self, box: Box) -> list[Box]:
        """Halve a box, repeatedly, if the needed parts of its halves are less work than the box, halos included."""
        top, bottom, left, right = box
        align = self.piece.align
        y, x = (top + bottom) // 2 // align * align, (left + right) // 2 // align * align
        for halves in (
            [(top, y, left, right), (y, bottom, left, right)],
            [(top, bottom, left, x), (top, bottom, x, right)],
        ):
            boxes = [b for half in halves if (b := self._needed(half)) is not None]
            if sum(map(self._work, boxes)) < self._work(box):
                return [b for half in boxes for b in self._halved(half)]
        return [box]

    def _work(self, box: Box) -> int:
        """Return the work for a box in cells: those computed, and the overhead of a tile."""
        top, bottom, left, right = box
        halo = 0 if self.piece.inside else self.halo
        rows = min(bottom + halo, self.shape[0]) - max(top - halo, 0)
        return rows * (min(right + halo, self.shape[1]) - max(left - halo, 0)) + _TILE_COST

    def _needed(self, box: Box) -> Box | None:
        """Return the bounding box of those cells of `box` that are near data; None if there are none."""
        if box[0] >= box[1] or box[2] >= box[3]:
            return None
        p, a, d = self.cell_px, self.pixels.alignment_px, self.reach_px
        top, bottom, left, right = box
        y, x = max(0, (top * p - d) // a), max(0, (left * p - d) // a)
        has = self.pixels.has[y : -(-(bottom * p + d) // a), x : -(-(right * p + d) // a)]
        rows, cols = np.flatnonzero(has.any(axis=1)), np.flatnonzero(has.any(axis=0))
        if not len(rows):
            return None
        align = self.piece.align
        unit = p * align

        def span(first: int, last: int, low: int, high: int) -> tuple[int, int]:
            """Return the cells within d of squares [first, last), rounded outwards to the alignment and clipped."""
            return max(low, (first * a - d) // unit * align), min(high, -(-(last * a + d) // unit) * align)

        vertical = span(y + int(rows[0]), y + int(rows[-1]) + 1, top, bottom)
        return *vertical, *span(x + int(cols[0]), x + int(cols[-1]) + 1, left, right)

    def window(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Return a copy of a window, (1, channels, rows, cols) in channels_last; zeros outside the scene.

        Its strides are as if there were several images: oneDNN is slow to add to others.
        """
        size = (bottom - top, right - left, self.piece.channels)
        c, d = max(left, 0), min(right, self.shape[1])
        inside = top >= 0 and bottom <= self.shape[0] and (c, d) == (left, right)
        make = torch.empty if inside else torch.zeros
        out = make(size, dtype=self.dtype, device=self.pixels.device)
        for first, chunk in self._chunks:
            a, b = max(top, first), min(bottom, first + len(chunk))
            if a < b:
                out[a - top : b - top, c - left : d - left] = chunk[a - first : b - first, c:d]
        return out[None].permute(0, 3, 1, 2)

    def forget(self, before: int) -> None:
        """Free the rows before `before`, as far as whole chunks lie before it."""
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][1]) <= before:
            self._spare.append(self._chunks.popleft()[1])

    def clear(self) -> None:
        """Free all rows and all memory."""
        self._chunks.clear()
        self._spare.clear()

    @property
    def kept_from(self) -> int:
        """First row that has not been freed."""
        return self._chunks[0][0] if self._chunks else self.done


class Fill:
    """Output of a piece for a scene without any data, copied from its output for a small scene.

    Within a margin of the scene's border the network sees the border; inside, the output repeats with a period of
    `alignment_px`.
    """

    def __init__(self, patch: Tensor, shape: tuple[int, int], margin: int, period: int) -> None:
        self._patch = patch  # (rows, cols, channels)
        self._at = [
            torch.from_numpy(_source_index(n, small, margin, period)).to(patch.device)
            for n, small in zip(shape, patch.shape[:2], strict=True)
        ]

    def rows(self, first: int, last: int, out: Tensor) -> Tensor:
        """Write rows [first, last) into `out`, (rows, cols, channels)."""
        rows, cols = self._at
        return torch.index_select(self._patch.index_select(0, rows[first:last]), 1, cols, out=out)


def _source_index(n: int, small: int, margin: int, period: int) -> NDArray[np.int64]:
    """Return for each of `n` rows of cells the equal one among the `small` rows of the small scene."""
    i = np.arange(n)
    inner = margin + (i - margin) % period
    return np.where(i < margin, i, np.where(i >= n - margin, small - n + i, inner))
