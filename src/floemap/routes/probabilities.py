"""What the probabilities of a draft chart say of the risk along a line, pixel by pixel.

Each pixel has a probability for each class, and ten tenths of a class have an outcome. So each pixel has quantiles of
the outcome, and a mean. The quantiles' mean along a part of the line is the quantile of the part's outcome if the
model's errors are fully correlated along it, all to the same side. If they are independent they cancel out, and the
part's outcome is the mean's mean. That may lie outside of the quantiles: a class with less than 5 % at every position
is in the mean and in neither of them. The probability of no normal operation counts such classes, too.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from floemap.cog import open_raster
from floemap.errors import FloemapError
from floemap.icechart.polaris import TENTHS, Level, operation_levels, risk_values
from floemap.inference.predict.scene_maps import NO_VALUE, STEPS
from floemap.legend import Legend

Floats = NDArray[np.float64]

#: File of a draft chart, with one band for each class.
FILE = "probabilities.tif"
#: Quantiles of the outcome.
LOW, HIGH = 0.05, 0.95


class Probabilities:
    """The probabilities of a draft chart's folder; use as a context. It is false where the folder has none."""

    def __init__(self, folder: Path, legend: Legend | None, ship: str) -> None:
        self._path, self._legend, self._ship = folder / FILE, legend, ship
        self._raster: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> Probabilities:
        if self._legend is not None and self._path.is_file():
            raster = self._stack.enter_context(open_raster(self._path))
            if raster.count == len(self._legend) and raster.crs is not None and raster.dtypes[0] == "uint8":
                crs = pyproj.CRS.from_wkt(raster.crs.to_wkt())
                self._project = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
                outcomes = TENTHS * risk_values(self._legend, self._ship)
                self._order = np.argsort(outcomes, kind="stable")
                self._outcomes = outcomes[self._order].astype(np.float64)
                self._beyond = operation_levels(self._outcomes, self._ship) > Level.NORMAL
                self._raster = raster
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __bool__(self) -> bool:
        return self._raster is not None

    def at(self, lon: Floats, lat: Floats) -> tuple[float, float, float, float] | None:
        """Return means over positions: 5 % and 95 % quantile and mean of the outcome, chance of no normal operation.

        Parameters
        ----------
        lon, lat
            Positions, degrees, (n,).

        Returns
        -------
        Four numbers; None where no position has probabilities.

        Raises
        ------
        FloemapError
            If the raster is damaged.
        """
        if self._raster is None:
            return None
        x, y = self._project.transform(lon, lat)
        there = np.isfinite(x) & np.isfinite(y)
        places = np.column_stack([np.asarray(x)[there], np.asarray(y)[there]])
        try:
            steps = np.array(list(self._raster.sample(places)), np.float64).reshape(len(places), -1)
        except Exception as e:  # rasterio's own errors, which have no common base
            hint = "Make the draft chart again with `floemap chart --overwrite`."
            raise FloemapError(f"cannot be read: {e}.", path=self._path, hint=hint) from e
        steps = steps[(steps != NO_VALUE).all(axis=1) & (steps.sum(axis=1) > 0)]
        if not len(steps):
            return None
        share = steps[:, self._order] / steps.sum(axis=1, keepdims=True)
        up_to = np.cumsum(share, axis=1)
        low, high = (float(self._outcomes[(up_to >= q - 1 / (2 * STEPS)).argmax(axis=1)].mean()) for q in (LOW, HIGH))
        return low, high, float((share @ self._outcomes).mean()), float(share[:, self._beyond].sum(axis=1).mean())
