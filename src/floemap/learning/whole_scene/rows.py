"""The rows of a scene on their way through a model's stages: read, computed in tiles, and let go of.

Everything goes from the top of the scene downwards. A stage is asked for rows, asks the one before it for what these
see, and so on up to the scene's file; what is needed no more is dropped.
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

from floemap.learning.whole_scene.stages import Network, Stage
from floemap.learning.whole_scene.workers import Workers
from floemap.sentinel1.encoding import BAND_NAMES, NODATA

#: Gives a window of a scene: first row, first column, rows, columns -> stored int16 (3, rows, columns).
Reader = Callable[[int, int, int, int], NDArray[np.int16]]

#: Top, bottom, left, right of a box of cells.
Box = tuple[int, int, int, int]

#: Cells that could be computed in the time that each tile takes besides.
_TILE_COST = 200
#: Cells along the side of what is worth a tile of its own.
_LEAST_TILE = 16


class ScenePixels:
    """A scene's rows, read ahead by a thread, kept as stored until they are given as the first stage's input."""

    def __init__(self, network: Network, read: Reader, shape: tuple[int, int], chunk_rows: int) -> None:
        self.device = network.device
        self._network = network
        self._read = read
        self._rows, self._cols = shape
        self._chunk_rows = chunk_rows
        a = self.alignment_px = network.alignment_px
        #: Rows and columns as the model sees them: rounded up to its alignment.
        self.shape = (-(-shape[0] // a) * a, -(-shape[1] // a) * a)
        self.done = 0
        #: Squares of `alignment_px` with any data; of rows that are read.
        self.has = np.zeros((self.shape[0] // a, self.shape[1] // a), np.bool_)
        #: Pixels with data in all bands, a bit each; of rows that are read.
        self.valid = np.zeros((shape[0], -(-shape[1] // 8)), np.uint8)
        self._chunks: list[tuple[int, NDArray[np.int16]]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="floemap-read")
        self._ahead: Future[NDArray[np.int16]] | None = None

    def ensure(self, last: int) -> None:
        """Read rows until those before `last` are there."""
        while self.done < min(last, self.shape[0]):
            stored = (self._ahead or self._submit(self.done)).result()
            first, self.done = self.done, min(self.done + self._chunk_rows, self.shape[0])
            self._ahead = self._submit(self.done) if self.done < self._rows else None
            self._note(first, stored)
            self._chunks.append((first, stored))

    def _submit(self, row: int) -> Future[NDArray[np.int16]]:
        return self._pool.submit(self._read, row, 0, min(self._chunk_rows, self._rows - row), self._cols)

    def _note(self, first: int, stored: NDArray[np.int16]) -> None:
        """Note where there are data."""
        there = stored != NODATA
        rows = there.shape[1]
        self.valid[first : first + rows] = np.packbits(there.all(axis=0), axis=1)
        a = self.alignment_px
        some = np.zeros((-(-rows // a) * a, self.shape[1]), np.bool_)
        there.any(axis=0, out=some[:rows, : self._cols])
        columns = some.reshape(-1, a, self.shape[1]).any(axis=1)  # (rows of squares, pixels)
        self.has[first // a : -(-(first + rows) // a)] = columns.reshape(-1, self.has.shape[1], a).any(axis=2)

    def window(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Return the first stage's input, (1, 3, rows, cols) in torch's channels_last, from inside of `shape`."""
        stored = np.full((len(BAND_NAMES), bottom - top, right - left), NODATA, np.int16)
        inner = min(right, self._cols)
        for first, chunk in self._chunks:
            a, b = max(top, first), min(bottom, first + chunk.shape[1])
            if a < b:
                stored[:, a - top : b - top, : inner - left] = chunk[:, a - first : b - first, left:inner]
        return self.of(torch.from_numpy(stored).to(self.device))

    def of(self, stored: Tensor) -> Tensor:
        """Return the first stage's input for stored values (3, rows, cols)."""
        index = stored.int() + (1 << 15)
        size = (*stored.shape[1:], len(stored))
        x = torch.empty(size, dtype=self._network.dtype, device=self.device)
        for band, table in enumerate(self._network.table):
            x[..., band] = table.index_select(0, index[band].flatten()).view(size[:2])
        return x.permute(2, 0, 1)[None]

    def forget(self, before: int) -> None:
        """Let go of rows before that one."""
        self._chunks = [(first, c) for first, c in self._chunks if first + c.shape[1] > before]

    def close(self) -> None:
        """Wait for the thread; what it was still to read is not read."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class StageRows:
    """The output of one stage, computed in bands from the top downwards; rows that are needed no more are dropped.

    Parameters
    ----------
    cell_px
        Pixels of the scene for each cell of the output.
    reach_px
        How far from pixels with data the cells lie that are computed. Beyond, they are as `fill` says, or never read.
    fill
        What the stage gives where there are no data; None where nobody reads it.
    tile
        Side of the tiles, cells of the output; other where that suits the stage.
    workers
        Work on a band's tiles at a time.
    tell
        Is called after each band.
    """

    def __init__(
        self,
        stage: Stage,
        source: StageRows | ScenePixels,
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
        self.stage, self.source, self.pixels = stage, source, pixels
        self.cell_px, self.reach_px, self.fill, self.dtype = cell_px, reach_px, fill, dtype
        self.shape = (pixels.shape[0] // cell_px, pixels.shape[1] // cell_px)
        self.halo = max(self.shape) if stage.halo is None else stage.halo
        self.tell, self.workers = tell, workers
        self.done = 0
        # With a halo that is computed, small tiles would be all halo; with one that is read only, they are better.
        tile = -(-tile // 2) if stage.inside else max(tile, 2 * self.halo)
        self._tile = max(self.shape) if stage.halo is None else -(-tile // stage.align) * stage.align
        self._chunks: deque[tuple[int, Tensor]] = deque()  # first row, (rows, cols, channels)
        self._spare: list[Tensor] = []  # asking for new memory for each chunk takes longer, and more of it

    def ensure(self, last: int) -> None:
        """Compute rows until those before `last` are there."""
        while self.done < min(last, self.shape[0]):
            self.advance()

    def advance(self) -> None:
        """Compute the next band."""
        first, last = self.done, min(self.done + self._tile, self.shape[0])
        self.source.ensure((last + self.halo) * self.stage.shrink)
        chunk = self._blank(first, last)

        def compute(box: Box) -> None:
            top, bottom, left, right = box
            with torch.inference_mode():
                chunk[top - first : bottom - first, left:right] = self._run(*box)

        self.workers.run(compute, sorted(self._tiles(first, last), key=self._work, reverse=True))
        self._chunks.append((first, chunk))
        self.done = last
        self.tell()
        self.source.forget((last - self.halo) * self.stage.shrink)

    def _blank(self, first: int, last: int) -> Tensor:
        """Return a chunk for rows [first, last) in memory that was let go of, if there is any, as without data."""
        size = (last - first, self.shape[1], self.stage.channels)
        chunk = self._spare.pop() if self._spare else torch.empty(0)
        if chunk.shape != size:
            chunk = torch.empty(size, dtype=self.dtype, device=self.pixels.device)
        return chunk.zero_() if self.fill is None else self.fill.rows(first, last, chunk)

    def _run(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Return a tile of the output, (rows, cols, channels)."""
        f, halo = self.stage.shrink, self.halo
        a, b, c, d = top - halo, bottom + halo, left - halo, right + halo
        if self.stage.inside:
            return self.stage.run(self.source.window(a * f, b * f, c * f, d * f))[0].permute(1, 2, 0)
        a, b, c, d = max(a, 0), min(b, self.shape[0]), max(c, 0), min(d, self.shape[1])
        out = self.stage.run(self.source.window(a * f, b * f, c * f, d * f))[0].permute(1, 2, 0)
        return out[top - a : bottom - a, left - c : right - c]

    def _tiles(self, first: int, last: int) -> Iterator[Box]:
        """Give the boxes of cells to compute in rows [first, last): as few as will do, none where nothing is needed."""
        if self.stage.halo is None:
            yield (0, *self.shape[:1], 0, *self.shape[1:])
            return
        band = self._needed((first, last, 0, self.shape[1]))
        if band is None:
            return
        left, right = band[2:]
        count, align = self._pieces(right - left), self.stage.align
        edges = [left + (right - left) * i // count // align * align for i in range(count)] + [right]
        for a, b in pairwise(edges):
            box = self._needed((first, last, a, b))
            if box is not None:
                yield from self._halved(box)

    def _pieces(self, width: int) -> int:
        """Return in how many pieces to cut so many cells: for all workers, if the pieces don't get too small."""
        halo = 0 if self.stage.inside else self.halo
        count = -(-width // self._tile)
        most = max(count, width // max(4 * halo, _LEAST_TILE))
        return min(most, -(-count // self.workers.count) * self.workers.count)

    def _halved(self, box: Box) -> list[Box]:
        """Halve a box where its halves, without what is not needed of them, are less work, halos counted."""
        top, bottom, left, right = box
        align = self.stage.align
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
        """Return the cells that are computed for a box, and what a tile costs by itself, as cells."""
        top, bottom, left, right = box
        halo = 0 if self.stage.inside else self.halo
        rows = min(bottom + halo, self.shape[0]) - max(top - halo, 0)
        return rows * (min(right + halo, self.shape[1]) - max(left - halo, 0)) + _TILE_COST

    def _needed(self, box: Box) -> Box | None:
        """Return the smallest box within `box` that holds all its cells that are near data; None without any."""
        if box[0] >= box[1] or box[2] >= box[3]:
            return None
        p, a, d = self.cell_px, self.pixels.alignment_px, self.reach_px
        top, bottom, left, right = box
        y, x = max(0, (top * p - d) // a), max(0, (left * p - d) // a)
        has = self.pixels.has[y : -(-(bottom * p + d) // a), x : -(-(right * p + d) // a)]
        rows, cols = np.flatnonzero(has.any(axis=1)), np.flatnonzero(has.any(axis=0))
        if not len(rows):
            return None
        align = self.stage.align
        unit = p * align

        def span(first: int, last: int, low: int, high: int) -> tuple[int, int]:
            """Cells within d of squares [first, last), on the tiles' corners, from `low` to `high`."""
            return max(low, (first * a - d) // unit * align), min(high, -(-(last * a + d) // unit) * align)

        vertical = span(y + int(rows[0]), y + int(rows[-1]) + 1, top, bottom)
        return *vertical, *span(x + int(cols[0]), x + int(cols[-1]) + 1, left, right)

    def window(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Return a copy of a window, (1, channels, rows, cols) in torch's channels_last; zeros outside of the scene."""
        size = (bottom - top, right - left, self.stage.channels)
        c, d = max(left, 0), min(right, self.shape[1])
        inside = top >= 0 and bottom <= self.shape[0] and (c, d) == (left, right)
        make = torch.empty if inside else torch.zeros
        out = make(size, dtype=self.dtype, device=self.pixels.device)
        for first, chunk in self._chunks:
            a, b = max(top, first), min(bottom, first + len(chunk))
            if a < b:
                out[a - top : b - top, c - left : d - left] = chunk[a - first : b - first, c:d]
        return out.permute(2, 0, 1)[None]

    def forget(self, before: int) -> None:
        """Let go of rows before that one."""
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][1]) <= before:
            self._spare.append(self._chunks.popleft()[1])

    def clear(self) -> None:
        """Let go of all rows, and of the memory."""
        self._chunks.clear()
        self._spare.clear()

    @property
    def kept_from(self) -> int:
        """The first row that is still there."""
        return self._chunks[0][0] if self._chunks else self.done


class Fill:
    """What a stage gives for a scene of a certain size without any data, from what it gives for a small one.

    Within a margin of the scene's border the network sees the border; inside, all squares of `alignment_px` are alike.
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
    """Return for each of `n` rows of cells which one of the `small` piece it is like."""
    i = np.arange(n)
    inner = margin + (i - margin) % period
    return np.where(i < margin, i, np.where(i >= n - margin, small - n + i, inner))
