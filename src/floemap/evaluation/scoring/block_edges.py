"""Edges of the blocks into which scenes are cut for resampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError, GridError

#: Side of a block: a scene of 400 km has 36 to 60 blocks. With smaller blocks, intervals are clearly too narrow where
#: errors are correlated over 16 km or more; larger blocks are too few. docs/spread.md has the measurements.
BLOCK_M = 64_000.0


def block_edges(length_px: int, pixel_m: float, block_m: float = BLOCK_M) -> NDArray[np.int64]:
    """Return the edges of blocks along a side, (blocks + 1,), in pixels, from 0 to the length of the side.

    The number of blocks is the one whose size is nearest to `block_m`. All sizes are equal to within a pixel, so there
    are no slivers at the end.

    Raises
    ------
    ConfigError
        If pixel or block are not larger than 0, or a block is smaller than a pixel.
    GridError
        If there is no pixel.
    """
    if not (0 < pixel_m <= block_m < np.inf):
        raise ConfigError(f"blocks of {block_m:g} m from pixels of {pixel_m:g} m.", hint="A block holds pixels.")
    if length_px < 1:
        raise GridError("a raster without a pixel has no blocks.")
    n = max(1, round(length_px * pixel_m / block_m))
    return np.rint(np.linspace(0, length_px, n + 1)).astype(np.int64)
