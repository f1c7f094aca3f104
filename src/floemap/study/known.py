"""Scenes that a study has prepared and labelled before, known by sizes and times of all files in question.

The stages find out by themselves whether their results are finished, but open the product, the chart and the layers for
it: for hundreds of scenes that takes minutes. A scene of which nothing has changed since needs none of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from floemap.bands import BandSet, band_of
from floemap.datasets.ai4arctic import prepare as of_ai4arctic
from floemap.datasets.base import SceneFiles
from floemap.datasets.extremeearth.split_halves import Footprint
from floemap.errors import MISSHAPEN, ConfigError, GridError
from floemap.icechart.label import label
from floemap.layers import distance_to_land, from_raster
from floemap.layers import of_ai4arctic as layers_of_ai4arctic
from floemap.layers.stored import RASTER, RECORD, layer_folder
from floemap.own_legends import chosen_legend, identity
from floemap.results.folders import is_note
from floemap.results.seen import found_out, recalled, stats_of
from floemap.sentinel1 import prepare
from floemap.sentinel1.encoding import PRODUCT_BANDS
from floemap.study.scene import StudyScene
from floemap.study.settings import DataSettings
from floemap.version import __version__

#: Settings that select scenes, or that have their own place in what identifies a scene.
_OF_THE_LIST = {"scenes", "table", "where", "folder", "months", "cache", "legend"}


class KnownScenes:
    """The scenes of a study that were made before; :mod:`floemap.results.seen` remembers them.

    Parameters
    ----------
    settings
        The scenes, and how they are prepared and labelled.
    out
        Folder for products and labels.
    """

    def __init__(self, settings: DataSettings, out: Path) -> None:
        self._out = out
        self._layers = [settings.layers[n] for n in settings.bands if n in settings.layers]
        rooms = (prepare, label, of_ai4arctic, distance_to_land, from_raster, layers_of_ai4arctic)
        self._told = {
            "software": __version__,
            "revisions": [room.STAGE.revisions for room in rooms],
            "legend": identity(chosen_legend(settings.legend)),
            "settings": settings.model_dump(
                mode="json", exclude={"scenes", "table", "where", "folder", "months", "cache", "legend"}
            ),
        }

    def known(self, scene: SceneFiles) -> StudyScene | None:
        """Return a scene as it was made before, if its files, settings and results are still the same; else None."""
        value = recalled(*self._question(scene))
        return None if value is None else self._from_value(value, scene)

    def remember(self, scene: SceneFiles, make: Callable[[], StudyScene]) -> StudyScene:
        """Return ``make()``, and remember it for :meth:`known`."""
        made: list[StudyScene] = []

        def find() -> dict[str, Any]:
            made.append(make())
            return self._as_value(made[0], scene)

        found_out(*self._question(scene), find, anew=True)
        return made[0]

    def _question(self, scene: SceneFiles) -> tuple[str, list[Path]]:
        """Return what a scene is made with, as text, and the files that it is made from, but for rasters of layers."""
        sources = [scene.product, scene.chart, *(how.land for how in self._layers if how.land is not None)]
        files = [file for source in sources for file in _files_of(source)]
        told = {"scene": scene.name, "layer": scene.layer, "truth": scene.truth is not None}
        return json.dumps(self._told | told, sort_keys=True), files + ([] if scene.truth is None else [scene.truth])

    def _as_value(self, made: StudyScene, scene: SceneFiles) -> dict[str, Any]:
        """Return a scene for JSON, with the state of all its results, and of rasters that layers are made from."""
        names = [n for n in made.bands.names if n not in PRODUCT_BANDS.names]
        results = [*_results_in(made.product), *_results_in(made.labels)]
        results += [layer_folder(made.raster, n) / file for n in names for file in (RASTER, RECORD)]
        results += [Path(how.raster_for(scene.name, made.product.name)) for how in self._layers if how.raster]
        return {
            "product": os.path.relpath(made.product, self._out),
            "labels": os.path.relpath(made.labels, self._out),
            "truth": made.truth is not None,
            "start": made.start.isoformat(),
            "corners": made.footprint.edge_lonlat_deg.tolist(),
            "simulated": made.simulated,
            "hashes": made.hashes,
            "bands": made.bands.record(),
            "results": [os.path.relpath(path, self._out) for path in results],
            "stats": stats_of(results),
        }

    def _from_value(self, value: Any, scene: SceneFiles) -> StudyScene | None:
        """Return the scene of :meth:`_as_value`; None if a result has changed or the value is of another form."""
        try:
            results = [self._path(name) for name in value["results"]]
            if value["stats"] != (stats_of(results) or "missing") or value["truth"] != (scene.truth is not None):
                return None
            return StudyScene(
                scene.name,
                _as_named(scene.product, self._path(value["product"])),
                _as_named(scene.chart, self._path(value["labels"])),
                scene.truth,
                datetime.fromisoformat(value["start"]),
                Footprint.from_corners(np.array(value["corners"])),
                bool(value["simulated"]),
                {str(k): str(v) for k, v in value["hashes"].items()},
                BandSet(tuple(band_of(b, b["name"]) for b in value["bands"])),
            )
        except (*MISSHAPEN, GridError, ConfigError):
            return None

    def _path(self, name: str) -> Path:
        return Path(os.path.normpath(self._out / name))


def _files_of(source: Path) -> list[Path]:
    """Return the files whose content determines a product, a chart or a raster."""
    if (source / "product.json").is_file() or (source / "label.json").is_file():
        return _results_in(source)
    if source.is_dir():
        return sorted(Path(base) / name for base, _, names in os.walk(source) for name in names)
    if source.suffix.lower() == ".shp":
        return sorted(p for p in source.parent.iterdir() if p.stem.casefold() == source.stem.casefold())
    log = source.with_name(f"{source.name}-wal")  # changes that a GeoPackage does not hold yet
    return [source, log] if log.exists() else [source]


def _results_in(folder: Path) -> list[Path]:
    """Return the files directly in a folder of results."""
    with os.scandir(folder) as entries:
        return sorted(
            Path(e.path) for e in entries if e.is_file() and not e.name.startswith(".") and not is_note(e.name)
        )


def _as_named(given: Path, found: Path) -> Path:
    """Return a path as the user gave it, if both are the same; else as it was found."""
    return given if given.absolute() == found.absolute() else found
