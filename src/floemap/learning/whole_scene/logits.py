"""Logits of whole scenes: what one pass over the scene gives, at a small part of its memory.

The stages of a model (:mod:`floemap.learning.whole_scene.stages`) run one behind the other over the scene, from the top
downwards, in bands of tiles; each keeps the rows that the next one still reads. Rows and columns without data are
skipped: what a stage gives there does not depend on the scene, and is known from a small piece without data. It differs
along the scene's border, where the network sees that the scene ends; so the piece has its own border, and stands for
both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from floemap.learning.whole_scene.rows import Fill, Reader, ScenePixels, StageRows
from floemap.learning.whole_scene.stages import Network, Precision, prepare_network
from floemap.learning.whole_scene.workers import Workers
from floemap.progress import Progress, silent
from floemap.sentinel1.encoding import BAND_NAMES, NODATA

#: Sides of tiles, cells of each stage's output. Larger ones overlap less, but what a stage makes of them leaves the
#: processor's cache; a GPU wants more work at a time.
TILE = 128
GPU_TILE = 512
#: Rows that are read at a time, pixels.
_CHUNK_PX = 512

#: More pixels than any scene has along a side.
_EVERYWHERE = 1 << 30


def array_reader(stored: NDArray[np.int16]) -> Reader:
    """Return a reader of a scene in memory, stored int16 (3, rows, cols)."""
    return lambda row, col, rows, cols: stored[:, row : row + rows, col : col + cols]


def scene_logits(
    model: SegmentationModel,
    read: Reader,
    shape: tuple[int, int],
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    tile: int | None = None,
    progress: Progress = silent,
) -> SceneLogits:
    """Predict a whole scene, equal to one pass of the model over it; computed as rows are asked for.

    Parameters
    ----------
    model
        Is copied, and used in evaluation mode.
    read
        Gives windows of the scene; windows lie inside of it, span all columns, and come from the top downwards without
        overlap, from another thread.
    shape
        Rows and columns of the scene.
    device, precision
        Where and in what to compute.
    tile
        Side of the tiles, in cells of each stage's output. It changes time and memory only.
    progress
        Is told how far it is, from the thread that asks for rows.
    """
    network = prepare_network(model, device, precision)
    return SceneLogits(network, read, shape, tile=tile, progress=progress)


class SceneLogits:
    """Logits of one scene. Rows must be asked for from the top downwards where the model's stride is 1.

    A context: closing waits for threads that still read, or compute, what nobody will ask for.

    Attributes
    ----------
    shape
        Rows and columns of the scene.
    classes, stride
        The model's.
    """

    def __init__(
        self,
        network: Network,
        read: Reader,
        shape: tuple[int, int],
        *,
        tile: int | None = None,
        progress: Progress = silent,
    ) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        self.classes, self.stride = network.classes, network.stride
        tile = tile or (GPU_TILE if network.device.type == "cuda" else TILE)
        chunk_px = -(-_CHUNK_PX // network.alignment_px) * network.alignment_px
        self._pixels = ScenePixels(network, read, self.shape, chunk_px)
        self._workers = Workers(network.workers)
        self._progress = progress
        self._exact = network.dtype == torch.float32
        with self._true_fp32():
            self._stages = list(_chain(network, self._pixels, tile, self._workers, self._tell))

    def rows(self, first: int, last: int) -> Tensor:
        """Return the logits of the pixels' rows [first, last), (K, rows, cols) float32, on the network's device.

        Where the scene has no data they mean nothing.
        """
        if self.stride == 1:
            return self.cells(first, last)[..., : self.shape[1]]
        above, below = self.cells_for(first, last)
        cells = self.cells(above, below)[None]  # (1, K, h, w)
        size = (cells.shape[2] * self.stride, cells.shape[3] * self.stride)
        upsampled = functional.interpolate(cells, size=size, mode="bilinear", align_corners=False)[0]
        offset = above * self.stride
        return upsampled[:, first - offset : last - offset, : self.shape[1]]

    def cells_for(self, first: int, last: int) -> tuple[int, int]:
        """Return which rows of cells, from and to, the pixels' rows [first, last) are interpolated from."""
        s = self.stride
        if s == 1:
            return first, last
        return max(0, first // s - 1), min(self._stages[-1].shape[0], -(-last // s) + 1)

    def cells(self, first: int, last: int) -> Tensor:
        """Return the logits of rows [first, last) of the model's cells, (K, rows, cols / stride rounded up) float32."""
        final = self._stages[-1]
        if first < final.kept_from:
            raise ValueError(f"rows from {first} were asked for, but those before {final.kept_from} are gone")
        with torch.inference_mode(), self._true_fp32():
            while final.done < last:
                final.advance()
            if final.done == final.shape[0]:
                self._pixels.forget(self._pixels.shape[0])
                for stage in self._stages[:-1]:
                    stage.clear()
        found = final.window(first, last, 0, final.shape[1])[0].float().contiguous()
        if self.stride == 1:
            final.forget(first)
        return found

    def valid(self, first: int, last: int) -> NDArray[np.bool_]:
        """Return which pixels of rows [first, last) have data in all bands, (rows, cols)."""
        self._pixels.ensure(last)
        packed = self._pixels.valid[first:last]
        return np.unpackbits(packed, axis=1, count=self.shape[1]).view(np.bool_)

    def finish(self) -> None:
        """Compute all rows now; not for models of stride 1, whose logits are too many to keep."""
        if self.stride > 1:
            rows = self._stages[-1].shape[0]
            self.cells(rows - 1, rows)

    def close(self) -> None:
        """Wait for the threads, and end them."""
        self._pixels.close()
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tell(self) -> None:
        done = sum(s.done / s.shape[0] for s in self._stages)
        self._progress(done, len(self._stages), "predicting")

    def _true_fp32(self) -> AbstractContextManager[None]:
        """On a GPU, convolutions in float32 are otherwise rounded to ten bits."""
        on_gpu = self._pixels.device.type == "cuda"
        return cudnn.flags(enabled=True, allow_tf32=False) if on_gpu and self._exact else nullcontext()


def _chain(
    network: Network, pixels: ScenePixels, tile: int, workers: Workers, tell: Callable[[], None]
) -> Iterator[StageRows]:
    """Put the stages one behind the other over a scene."""
    sizes = list(accumulate((s.shrink for s in network.stages), mul))  # pixels to each stage's cell
    steps = [_EVERYWHERE if s.halo is None else s.halo * p for s, p in zip(network.stages, sizes, strict=True)]
    forward = list(accumulate(steps))  # how far each stage's cells see, pixels
    interpolation = network.stride if network.stride > 1 else 0
    backward = [interpolation + sum(steps[k + 1 :]) for k in range(len(steps))]  # from how far they are seen
    filled = sum(f < b for f, b in zip(forward, backward, strict=True))  # forward rises, backward falls
    fills: list[Fill | None] = [*_fills(network, pixels, sizes[:filled], forward[:filled])]
    fills += [None] * (len(steps) - filled)
    source: StageRows | ScenePixels = pixels
    for k, stage in enumerate(network.stages):
        source = StageRows(
            stage,
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
    """Run the first stages over a small scene without data."""
    if not sizes:
        return
    a = network.alignment_px
    margin = -(-max(forward) // a) * a
    side = 2 * margin + a
    small = (min(side, pixels.shape[0]), min(side, pixels.shape[1]))
    x = pixels.of(torch.full((len(BAND_NAMES), *small), NODATA, dtype=torch.int16, device=network.device))
    for stage, p in zip(network.stages, sizes, strict=False):
        if stage.inside:
            x = functional.pad(x, [(stage.halo or 0) * stage.shrink] * 4)
        x = stage.run(x)
        shape = (pixels.shape[0] // p, pixels.shape[1] // p)
        yield Fill(x[0].permute(1, 2, 0).contiguous(), shape, margin // p, a // p)
