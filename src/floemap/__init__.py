"""floemap: ice-type charts from Sentinel-1 scenes, and which training loss makes charts one can trust.

The public API, each name loaded when it is first used:

    open_scene(product)          what a Sentinel-1 product says of itself; pixels when asked for
    prepare(product, out)        product -> calibrated bands on a map grid (and prepare_all for many)
    open_product(folder)         prepared bands as an xarray.Dataset
    read_chart(chart)            a SIGRID-3 ice chart, checked
    label_chart(chart, like, out)  chart -> class raster on a product's grid
    describe(path)               what is this, and what is wrong with it
    make_twin(out)               the simulated ExtremeEarth dataset
    simulate_pixels(metadata, out)  simulated pixels for a real product's metadata
    run_demo(out)                all of it at once, on simulated scenes
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from floemap.charts.label import label_chart
    from floemap.charts.sigrid3 import read_chart
    from floemap.config import LabelSettings, PrepareSettings
    from floemap.demo import run_demo
    from floemap.errors import FloemapError
    from floemap.info import describe
    from floemap.sentinel1.bands import open_product
    from floemap.sentinel1.batch import prepare_all
    from floemap.sentinel1.product import prepare
    from floemap.sentinel1.safe import open_scene
    from floemap.simulation.pixels import simulate_pixels
    from floemap.simulation.twin import make_twin
    from floemap.version import __version__

_WHERE = {
    "FloemapError": "floemap.errors",
    "LabelSettings": "floemap.config",
    "PrepareSettings": "floemap.config",
    "__version__": "floemap.version",
    "describe": "floemap.info",
    "label_chart": "floemap.charts.label",
    "make_twin": "floemap.simulation.twin",
    "open_product": "floemap.sentinel1.bands",
    "open_scene": "floemap.sentinel1.safe",
    "prepare": "floemap.sentinel1.product",
    "prepare_all": "floemap.sentinel1.batch",
    "read_chart": "floemap.charts.sigrid3",
    "run_demo": "floemap.demo",
    "simulate_pixels": "floemap.simulation.pixels",
}

__all__ = [
    "FloemapError",
    "LabelSettings",
    "PrepareSettings",
    "__version__",
    "describe",
    "label_chart",
    "make_twin",
    "open_product",
    "open_scene",
    "prepare",
    "prepare_all",
    "read_chart",
    "run_demo",
    "simulate_pixels",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import floemap`` itself costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module 'floemap' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value
