"""floemap: ice-type charts from Sentinel-1 scenes, and which training loss makes charts one can trust.

The public API, each name loaded when it is first used. Functions with long work take ``progress=True``.

    open_scene(product)          what a Sentinel-1 product says of itself; pixels when asked for
    prepare(product, out)        product -> calibrated bands on a map grid (and prepare_all for many)
    open_product(folder)         prepared bands as an xarray.Dataset
    read_chart(chart)            a SIGRID-3 ice chart, checked
    layer_distance_to_land(folder, land)  a layer of a prepared product (and layer_distance_to_land_all for many)
    layer_from_raster(folder, raster, name)  a layer from any raster
    label_chart(chart, like, out)  chart -> class raster on a product's grid
    describe(path)               what is this, and what is wrong with it
    make_twin(out)               the simulated ExtremeEarth dataset
    make_ai4arctic(out)          simulated scenes in the form of the AI4Arctic dataset
    simulate_pixels(metadata, out)  simulated pixels for a real product's metadata
    train_model(study, out)      one model from a study's settings (Study.from_toml)
    compare(study, out)          losses x repeats: trained, predicted, scored
    plan_comparison(study, out)  the same in steps for many hosts: then run_cell(out, name) for each, then
    gather_comparison(out)       the summary and the report
    dry_run(study)               what that would do, checked, with time and disk space
    predict(product, checkpoint, out)   a class map of a prepared product (and predict_all for many)
    make_chart(product, models, out)  a draft ice chart of a product (and make_charts for many)
    chart_archive(scenes, models, out)  charts of thousands of products, on a cluster
    make_mosaic(charts, out)     the concentrations of several charts on one polar grid
    watch_folder(folder, models, out)  charts of products as they arrive
    publish_chart(chart, out, analyst)  a corrected chart, checked, in all formats
    assess_route(chart, route, ice_class, out)  the risk along a ship's route by POLARIS
    monitor_charts(published)    how much of their drafts was changed, over many published charts
    evaluate_scene(prediction, labels, out)  scores of a class map against a chart
    make_report(run)             the report of a comparison
    view(folders)                a map of any of these in the browser (make_view to have it at hand)
    config_text(name)            a configuration that comes with floemap, as TOML
    run_demo(out)                all of it at once, on simulated scenes
"""

from __future__ import annotations

from importlib import import_module
from inspect import isfunction, signature
from typing import TYPE_CHECKING, Any

from floemap.progress import with_bar

if TYPE_CHECKING:
    from floemap.archive.archive import chart_archive
    from floemap.archive.watch import watch_folder
    from floemap.bundle.bundle import make_bundle
    from floemap.bundle.settings import BundleSettings
    from floemap.config import config_text
    from floemap.demo import run_demo
    from floemap.errors import FloemapError
    from floemap.evaluation.scoring.evaluate import evaluate_scene
    from floemap.icechart.label.label import label_chart
    from floemap.icechart.label.settings import LabelSettings
    from floemap.icechart.read.sigrid3 import read_chart
    from floemap.inference.draftchart.chart import make_chart, make_charts
    from floemap.inference.draftchart.mosaic import make_mosaic
    from floemap.inference.draftchart.settings import ChartSettings
    from floemap.inference.predict.predict import predict, predict_all
    from floemap.info import describe
    from floemap.layers.distance_to_land import layer_distance_to_land, layer_distance_to_land_all
    from floemap.layers.from_raster import layer_from_raster
    from floemap.layers.settings import DistanceSettings, RasterSettings
    from floemap.learning.models.pretrained import fetch_weights
    from floemap.publishing.monitor import monitor_charts
    from floemap.publishing.publish import publish_chart
    from floemap.publishing.settings import PublishSettings
    from floemap.report.report import make_report
    from floemap.routes.route import assess_route
    from floemap.sentinel1.bands import open_product
    from floemap.sentinel1.batch import prepare_all
    from floemap.sentinel1.prepare import prepare
    from floemap.sentinel1.safe.reader import open_scene
    from floemap.sentinel1.settings import PrepareSettings
    from floemap.simulation.ai4arctic import make_ai4arctic
    from floemap.simulation.pixels import simulate_pixels
    from floemap.simulation.twin import make_twin
    from floemap.study.compare import compare, train_model
    from floemap.study.dry_run import dry_run
    from floemap.study.settings import Study
    from floemap.study.spread import gather_comparison, plan_comparison, run_cell
    from floemap.version import __version__
    from floemap.viewer.view import make_view, view

_WHERE = {
    "BundleSettings": "floemap.bundle.settings",
    "ChartSettings": "floemap.inference.draftchart.settings",
    "DistanceSettings": "floemap.layers.settings",
    "FloemapError": "floemap.errors",
    "LabelSettings": "floemap.icechart.label.settings",
    "PrepareSettings": "floemap.sentinel1.settings",
    "PublishSettings": "floemap.publishing.settings",
    "RasterSettings": "floemap.layers.settings",
    "Study": "floemap.study.settings",
    "__version__": "floemap.version",
    "assess_route": "floemap.routes.route",
    "chart_archive": "floemap.archive.archive",
    "compare": "floemap.study.compare",
    "config_text": "floemap.config",
    "describe": "floemap.info",
    "dry_run": "floemap.study.dry_run",
    "evaluate_scene": "floemap.evaluation.scoring.evaluate",
    "fetch_weights": "floemap.learning.models.pretrained",
    "gather_comparison": "floemap.study.spread",
    "label_chart": "floemap.icechart.label.label",
    "layer_distance_to_land": "floemap.layers.distance_to_land",
    "layer_distance_to_land_all": "floemap.layers.distance_to_land",
    "layer_from_raster": "floemap.layers.from_raster",
    "make_ai4arctic": "floemap.simulation.ai4arctic",
    "make_bundle": "floemap.bundle.bundle",
    "make_chart": "floemap.inference.draftchart.chart",
    "make_charts": "floemap.inference.draftchart.chart",
    "make_mosaic": "floemap.inference.draftchart.mosaic",
    "make_report": "floemap.report.report",
    "make_twin": "floemap.simulation.twin",
    "make_view": "floemap.viewer.view",
    "monitor_charts": "floemap.publishing.monitor",
    "open_product": "floemap.sentinel1.bands",
    "open_scene": "floemap.sentinel1.safe.reader",
    "plan_comparison": "floemap.study.spread",
    "predict": "floemap.inference.predict.predict",
    "predict_all": "floemap.inference.predict.predict",
    "prepare": "floemap.sentinel1.prepare",
    "prepare_all": "floemap.sentinel1.batch",
    "publish_chart": "floemap.publishing.publish",
    "read_chart": "floemap.icechart.read.sigrid3",
    "run_cell": "floemap.study.spread",
    "run_demo": "floemap.demo",
    "simulate_pixels": "floemap.simulation.pixels",
    "train_model": "floemap.study.compare",
    "view": "floemap.viewer.view",
    "watch_folder": "floemap.archive.watch",
}

__all__ = [
    "BundleSettings",
    "ChartSettings",
    "DistanceSettings",
    "FloemapError",
    "LabelSettings",
    "PrepareSettings",
    "PublishSettings",
    "RasterSettings",
    "Study",
    "__version__",
    "assess_route",
    "chart_archive",
    "compare",
    "config_text",
    "describe",
    "dry_run",
    "evaluate_scene",
    "fetch_weights",
    "gather_comparison",
    "label_chart",
    "layer_distance_to_land",
    "layer_distance_to_land_all",
    "layer_from_raster",
    "make_ai4arctic",
    "make_bundle",
    "make_chart",
    "make_charts",
    "make_mosaic",
    "make_report",
    "make_twin",
    "make_view",
    "monitor_charts",
    "open_product",
    "open_scene",
    "plan_comparison",
    "predict",
    "predict_all",
    "prepare",
    "prepare_all",
    "publish_chart",
    "read_chart",
    "run_cell",
    "run_demo",
    "simulate_pixels",
    "train_model",
    "view",
    "watch_folder",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import floemap`` itself costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module 'floemap' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    if isfunction(value) and "progress" in signature(value).parameters:
        value = with_bar(value)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, which are not there before they are used."""
    return sorted(__all__)
