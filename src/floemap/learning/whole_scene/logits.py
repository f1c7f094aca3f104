"""Logits of whole scenes, equal to those of one pass over the scene, with a small part of its memory.

Of a model whose receptive field is unlimited they are an approximation instead, from overlapping windows
(:mod:`floemap.learning.whole_scene.windows`).

The pieces of a model (:mod:`floemap.learning.whole_scene.pieces`) form a chain. Each computes its output from the top
of the scene downwards, in bands of tiles, and keeps the rows that the next piece will still read. Areas without data
are skipped: there the output of a piece does not depend on the scene, and is copied from its output for a small area
without data. This area has borders too, since the output differs along the borders of the scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from operator import mul
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.backends import cudnn
from torch.nn import functional

from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.upsampling import by_kernel
from floemap.learning.whole_scene.pieces import Network, Precision, prepare_network
from floemap.learning.whole_scene.rows import Fill, PieceRows, Reader, ResidentPixels, ScenePixels
from floemap.learning.whole_scene.windows import WindowRows
from floemap.learning.whole_scene.workers import Workers
from floemap.progress import Progress, silent
from floemap.sentinel1.encoding import NODATA

#: Side of a tile in cells of each piece's output. Larger tiles overlap less, but their intermediate results do not fit
#: into the processor's cache. A GPU needs larger tiles to be busy.
TILE = 128
GPU_TILE = 512
#: Rows of pixels read at a time.
_CHUNK_PX = 512

#: More pixels than the side of any scene.
_EVERYWHERE = 1 << 30


def array_reader(stored: NDArray[np.int16]) -> Reader:
    """Return a reader for a scene in memory, stored int16 (B, rows, cols), with the model's bands in their steps."""
    return lambda row, col, rows, cols: stored[:, row : row + rows, col : col + cols]


def scene_logits(
    model: SegmentationModel,
    read: Reader | Tensor,
    shape: tuple[int, int],
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    tile: int | None = None,
    progress: Progress = silent,
) -> SceneLogits:
    """Return the logits of a whole scene, equal to one pass of the model over it; they are computed on demand.

    Parameters
    ----------
    model
        The model. A copy of it is used, in evaluation mode.
    read
        Reader of windows of the scene. It is called from another thread, for windows inside the scene that span all
        columns and follow each other downwards without overlap. Or the scene itself on the device, stored int16
        (B, rows, cols).
    shape
        Numbers of rows and columns of the scene.
    device, precision
        Device and floating-point precision of the computation.
    tile
        Side of the tiles, in cells of each piece's output. It affects time and memory only.
    progress
        Progress callback, called as progress(done, total, message) from the thread that requests rows.
    """
    network = prepare_network(model, device, precision)
    return SceneLogits(network, read, shape, tile=tile, progress=progress)


class SceneLogits:
    """Logits of one scene. If the stride of the model is 1, rows must be requested from the top downwards.

    A context manager: closing waits for the threads that still read or compute.

    Attributes
    ----------
    shape
        Numbers of rows and columns of the scene.
    classes, stride
        Number of classes and stride of the model.

    Parameters
    ----------
    network, read, shape, tile, progress
        As of :func:`scene_logits`.
    offsets
        Numbers that are added to the logits of the classes; None for none.
    """

    def __init__(
        self,
        network: Network,
        read: Reader | Tensor,
        shape: tuple[int, int],
        *,
        tile: int | None = None,
        offsets: Sequence[float] | None = None,
        progress: Progress = silent,
    ) -> None:
        self._offsets = None if offsets is None else torch.tensor(offsets, device=network.device)[:, None, None]
        self.shape = (int(shape[0]), int(shape[1]))
        self.classes, self.stride = network.classes, network.stride
        tile = tile or (GPU_TILE if network.device.type == "cuda" else TILE)
        chunk_px = -(-_CHUNK_PX // network.alignment_px) * network.alignment_px
        if isinstance(read, Tensor):
            self._pixels: ScenePixels = ResidentPixels(network, read)
        else:
            self._pixels = ScenePixels(network, read, self.shape, chunk_px)
        self._workers = Workers(network.workers)
        self._progress = progress
        self._exact = network.dtype == torch.float32
        with self._true_fp32():
            self._pieces = list(_chain(network, self._pixels, tile, self._workers, self._tell))

    def rows(self, first: int, last: int) -> Tensor:
        """Return the logits of the rows of pixels [first, last), (K, rows, cols) float32, on the network's device.

        Where the scene has no data they are meaningless.
        """
        if self.stride == 1:
            return self.cells(first, last)[..., : self.shape[1]]
        above, below = self.cells_for(first, last)
        cells = self.cells(above, below)[None]  # (1, K, h, w)
        pixels = by_kernel(cells, self.stride)[0]
        offset = above * self.stride
        return pixels[:, first - offset : last - offset, : self.shape[1]]

    def cells_for(self, first: int, last: int) -> tuple[int, int]:
        """Return the range of rows of cells from which the rows of pixels [first, last) are interpolated."""
        s = self.stride
        if s == 1:
            return first, last
        return max(0, first // s - 1), min(self._pieces[-1].shape[0], -(-last // s) + 1)

    def cells(self, first: int, last: int) -> Tensor:
        """Return the logits of the rows of cells [first, last), (K, rows, cols / stride rounded up) float32."""
        final = self._pieces[-1]
        if first < final.kept_from:
            raise ValueError(f"rows from {first} were requested, but those before {final.kept_from} have been freed")
        with torch.inference_mode(), self._true_fp32():
            while final.done < last:
                final.advance()
            if final.done == final.shape[0]:
                self._pixels.forget(self._pixels.shape[0])
                for piece in self._pieces[:-1]:
                    piece.clear()
        found = final.window(first, last, 0, final.shape[1])[0].float().contiguous()
        if self.stride == 1:
            final.forget(first)
        if self._offsets is not None:  # interpolating keeps a number that is added to all cells
            found = found.clone()
            found[: len(self._offsets)] += self._offsets
        return found

    def valid(self, first: int, last: int) -> NDArray[np.bool_]:
        """Return which pixels of rows [first, last) have data in all bands that a pixel needs, (rows, cols)."""
        return self._pixels.valid_rows(first, last)

    def finish(self) -> None:
        """Compute all rows now, except for models of stride 1, whose logits are too large to keep."""
        if self.stride > 1:
            rows = self._pieces[-1].shape[0]
            self.cells(rows - 1, rows)

    def close(self) -> None:
        """Wait for the threads and end them."""
        self._pixels.close()
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tell(self) -> None:
        done = sum(s.done / s.shape[0] for s in self._pieces)
        self._progress(done, len(self._pieces), "predicting")

    def _true_fp32(self) -> AbstractContextManager[None]:
        """Return a context without TF32, which on a GPU would round the factors of float32 convolutions to ten bits."""
        on_gpu = self._pixels.device.type == "cuda"
        return cudnn.flags(enabled=True, allow_tf32=False) if on_gpu and self._exact else nullcontext()


def _chain(
    network: Network, pixels: ScenePixels, tile: int, workers: Workers, tell: Callable[[], None]
) -> Iterator[PieceRows]:
    """Yield the rows of each piece; each reads those of the piece before it."""
    sizes = list(accumulate((s.shrink for s in network.pieces), mul))  # pixels of a cell of each piece
    steps = [_EVERYWHERE if s.halo is None else s.halo * p for s, p in zip(network.pieces, sizes, strict=True)]
    forward = list(accumulate(steps))  # receptive field beyond a cell of each piece, pixels
    interpolation = network.stride if network.stride > 1 else 0
    backward = [interpolation + sum(steps[k + 1 :]) for k in range(len(steps))]  # how far the pieces after it see
    filled = sum(f < b for f, b in zip(forward, backward, strict=True))  # forward rises, backward falls
    fills: list[Fill | None] = [*_fills(network, pixels, sizes[:filled], forward[:filled])]
    fills += [None] * (len(steps) - filled)
    source: PieceRows | ScenePixels = pixels
    for k, piece in enumerate(network.pieces):
        kind = PieceRows if piece.window is None else WindowRows
        source = kind(
            piece,
            source,
            pixels,
            cell_px=sizes[k],
            reach_px=min(forward[k], backward[k]),
            fill=fills[k],
            tile=tile,
            workers=workers,
            tell=tell,
            dtype=torch.float32 if k == len(steps) - 1 else network.dtype,
        )
        yield source


@torch.inference_mode()
def _fills(network: Network, pixels: ScenePixels, sizes: list[int], forward: list[int]) -> Iterator[Fill]:
    """Yield the fills of the first pieces, from their output for a small scene without data."""
    if not sizes:
        return
    a = network.alignment_px
    margin = -(-max(forward) // a) * a
    side = 2 * margin + a
    small = (min(side, pixels.shape[0]), min(side, pixels.shape[1]))
    x = pixels.of(torch.full((len(network.bands), *small), NODATA, dtype=torch.int16, device=network.device))
    for piece, p in zip(network.pieces, sizes, strict=False):
        if piece.inside:
            x = functional.pad(x, [(piece.halo or 0) * piece.shrink] * 4)
        x = piece.run(x)
        shape = (pixels.shape[0] // p, pixels.shape[1] // p)
        patch = x[0].permute(1, 2, 0).clone(memory_format=torch.contiguous_format)  # the next piece may overwrite x
        yield Fill(patch, shape, margin // p, a // p)
