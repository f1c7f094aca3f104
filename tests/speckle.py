"""How strong speckle is, and how far it reaches, in detected power: one measure for real and for simulated pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Measured(NamedTuple):
    """Of a window of power: number of looks, as it is and after averaging 2 x 2; correlation of pixels; skewness."""

    looks: float
    looks_2x2: float
    azimuth: float
    range: float
    two_apart: float
    skewness: float


def measure(power: np.ndarray) -> Measured:
    rows, cols = (n // 2 * 2 for n in power.shape)
    relative = power[:rows, :cols].astype(float) / power[:rows, :cols].mean() - 1
    variance = relative.var()

    def correlation(down: int, along: int) -> float:
        return float((relative[: rows - down, : cols - along] * relative[down:, along:]).mean() / variance)

    averaged = relative.reshape(rows // 2, 2, cols // 2, 2).mean(axis=(1, 3))
    return Measured(
        1 / variance, 1 / averaged.var(), correlation(1, 0), correlation(0, 1),
        (correlation(2, 0) + correlation(0, 2)) / 2, float((relative**3).mean() / variance**1.5),
    )  # fmt: skip


def evenest(image: np.ndarray, side: int = 20, share: float = 0.02) -> Measured:
    """Medians over the windows whose eight neighbours all vary little: in real images those with little texture.

    A window is not chosen by its own variance, which would prefer those whose speckle happens to be even.
    """
    rows, cols = (n // side for n in image.shape)
    each = [[measure(image[i : i + side, j : j + side]) for j in range(0, cols * side, side)]
            for i in range(0, rows * side, side)]  # fmt: skip
    found = np.array(each)
    variance = 1 / found[..., 0]
    around = [variance[i : rows - 2 + i, j : cols - 2 + j] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    inner = found[1:-1, 1:-1].reshape(-1, found.shape[-1])
    order = np.argsort(np.max(around, axis=0).ravel())
    return Measured(*np.median(inner[order[: round(share * order.size)]], axis=0).tolist())
