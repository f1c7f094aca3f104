"""The picture of a prepared product: HH, HV and false colour, with graticule, scale bar and north arrow.

False colour is the one that ice analysts use: HV in red, HH in blue, their mean in green. Deformed and old ice, which
scatters in HV, appears in warm colours, and level ice and rough water appear bluish.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.cog import open_raster, read_geobox

_PIXELS = 900
#: Limits of the grey levels in dB for a scene without valid pixels.
_LIMITS_DB = {"HH": (-26.0, -6.0), "HV": (-34.0, -16.0)}


def read_small(raster: Path, pixels: int = _PIXELS) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return HH and HV in dB with NaN as no-data, from the overview with about `pixels` on the long side."""
    with open_raster(raster) as d:
        scale = max(1.0, max(d.shape) / pixels)
        shape = (2, max(1, round(d.height / scale)), max(1, round(d.width / scale)))
        stored = d.read([1, 2], out_shape=shape)
        db = stored.astype(np.float32) * np.float32(d.scales[0])
        db[stored == d.nodata] = np.nan
    return db[0], db[1]


def stretch(db: NDArray[np.float32], limits: tuple[float, float]) -> NDArray[np.float32]:
    """Scale dB between `limits` to 0..1, clipped; NaN is kept."""
    return np.asarray(np.clip((db - limits[0]) / (limits[1] - limits[0]), 0, 1), np.float32)


def limits_db(db: NDArray[np.float32], polarisation: str) -> tuple[float, float]:
    """Return limits for :func:`stretch`: the 1st and 99th percentile, at least 8 dB apart."""
    values = db[np.isfinite(db)]
    if not values.size:
        return _LIMITS_DB[polarisation]
    low, high = (float(v) for v in np.percentile(values, [1, 99]))
    middle = (low + high) / 2
    return min(low, middle - 4), max(high, middle + 4)


def false_colour(hh_db: NDArray[np.float32], hv_db: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return red HV, green mean and blue HH, stretched, (rows, cols, 3) in 0..1; no-data is white."""
    hh, hv = stretch(hh_db, limits_db(hh_db, "HH")), stretch(hv_db, limits_db(hv_db, "HV"))
    rgb = np.stack([hv, (hh + hv) / 2, hh], axis=-1)
    rgb[np.isnan(rgb).any(axis=-1)] = 1
    return rgb


def draw_quicklook(raster: Path, picture: Path, *, title: str) -> None:
    """Draw HH, HV and false colour of `raster` (a product.tif) side by side into the PNG `picture`."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    from floemap.cartography import furnish, show_raster, where_is

    geobox = read_geobox(raster)
    hh, hv = read_small(raster)
    aspect = geobox.shape[0] / geobox.shape[1]
    figure = Figure(figsize=(16, 5.2 * aspect + 0.9), dpi=110, layout="constrained")
    axes: Any = figure.subplots(1, 3)
    for ax, db, name in ((axes[0], hh, "HH"), (axes[1], hv, "HV")):
        low, high = limits_db(db, name)
        drawn = show_raster(ax, np.ma.masked_invalid(db), geobox, cmap="gray", vmin=low, vmax=high)
        figure.colorbar(drawn, ax=ax, shrink=0.6, pad=0.01, label=f"{name} sigma nought, dB")
        ax.set_title(name, fontsize=10)
    show_raster(axes[2], false_colour(hh, hv), geobox)
    axes[2].set_title("Red: HV, green: mean, blue: HH", fontsize=10)
    for ax, colour in zip(axes, ("gold", "gold", "black"), strict=True):
        furnish(ax, geobox, colour=colour)
    figure.suptitle(f"{title}\n{where_is(geobox)}", fontsize=11)
    figure.savefig(picture)
