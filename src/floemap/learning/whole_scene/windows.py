"""The output of a network whose receptive field is unlimited: from overlapping windows, blended.

Such a network, with attention or pooling over the image, has no tiles that give what one pass over a scene would give,
and one pass would show it an image many times larger than those that it was trained on. So it is run on windows of the
size of its training's crops, which overlap by half. A cell's logits are the mean over the windows that contain it. The
weight of a window falls to its edges as sin^2 of the distance, in rows and in columns, so that no seam appears. At the
borders of the scene a cell may lie in one window only, near the window's edge.
"""

from __future__ import annotations

import torch
from torch import Tensor

from floemap.learning.whole_scene.rows import Box, PieceRows


class WindowRows(PieceRows):
    """Rows from windows: computed a row of windows at a time, each of which completes the rows above the next one.

    Memory for one row of windows is needed: `piece.window` rows of the output over the width of the scene.
    """

    _total: Tensor | None = None  # weighted sums of the rows from `done` downwards, (rows, cols, channels)
    _weight: Tensor  # sums of the weights, (rows, cols, 1)

    def advance(self) -> None:
        """Compute the next row of windows."""
        tops, lefts = (window_starts(n, self._window) for n in self.shape)
        top = self.done
        bottom = min(top + self._window, self.shape[0])
        self.source.ensure(bottom * self.piece.shrink)
        total, weight = self._sums(bottom - top)
        boxes = [(top, bottom, left, min(left + self._window, self.shape[1])) for left in lefts]
        boxes = [b for b in boxes if self._needed(b) is not None]
        for first in range(0, len(boxes), self.workers.count):
            some = boxes[first : first + self.workers.count]
            found: dict[Box, Tensor] = {}

            def compute(box: Box, found: dict[Box, Tensor] = found) -> None:
                with torch.inference_mode():
                    found[box] = self._window_output(box)

            self.workers.run(compute, some)
            for box in some:  # in order: sums of floating-point numbers depend on it
                self._add(found[box], box, total, weight)
        last = min((t for t in tops if t > top), default=self.shape[0])
        done = last - top
        chunk = torch.where(weight[:done] > 0, total[:done] / weight[:done], 0.0).to(self.dtype)
        self._chunks.append((top, chunk))
        self._total, self._weight = total[done:].clone(), weight[done:].clone()
        self.done = last
        self.tell()
        self.source.forget(last * self.piece.shrink)

    def forget(self, before: int) -> None:
        """Free the rows before `before`, as far as whole chunks lie before it."""
        super().forget(before)
        self._spare.clear()

    @property
    def _window(self) -> int:
        assert self.piece.window is not None
        return self.piece.window

    def _sums(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return the sums and weights of `rows` rows: those that earlier windows have begun, and zeros below."""
        channels, device = self.piece.channels, self.pixels.device
        total, weight = (torch.zeros(rows, self.shape[1], c, device=device) for c in (channels, 1))
        if self._total is not None:
            total[: len(self._total)] = self._total
            weight[: len(self._weight)] = self._weight
        return total, weight

    def _window_output(self, box: Box) -> Tensor:
        """Return the output in a window, (rows, cols, channels)."""
        y, x, b, r = (v * self.piece.shrink for v in (box[0], box[2], box[1], box[3]))
        return self.piece.run(self.source.window(y, b, x, r))[0].permute(1, 2, 0).float()

    def _add(self, found: Tensor, box: Box, total: Tensor, weight: Tensor) -> None:
        """Add a window's output, with its weights, to the sums."""
        rows, cols, _ = found.shape
        one = window_weight(rows).to(found.device)[:, None, None] * window_weight(cols).to(found.device)[None, :, None]
        total[:rows, box[2] : box[3]] += one * found
        weight[:rows, box[2] : box[3]] += one


def window_starts(size: int, window: int) -> list[int]:
    """Return where windows begin along an axis of `size` cells: from border to border, each half over the one before.

    Example: ``window_starts(10, 4) == [0, 2, 4, 6]``.
    """
    if size <= window:
        return [0]
    steps = -(-2 * (size - window) // window)
    return [(size - window) * i // steps for i in range(steps + 1)]


def window_weight(cells: int) -> Tensor:
    """Return the weight along one axis of a window, (cells,): sin^2, positive at the centre of every cell."""
    return torch.sin((torch.arange(cells) + 0.5) * (torch.pi / cells)).square()
