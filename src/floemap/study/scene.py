"""A scene of a study: its prepared product and its labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from floemap.bands import BandSet
from floemap.datasets.extremeearth.split_halves import Footprint
from floemap.errors import MISSHAPEN, ConfigError, FloemapError
from floemap.icechart.label.origin import notes_of_origin
from floemap.layers.stored import hashes_of, scene_bands
from floemap.legend import Legend
from floemap.own_legends import from_record, same_classes
from floemap.results.stage import read_json, sha256
from floemap.sentinel1.encoding import PRODUCT_BANDS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyScene:
    """A scene that is prepared and labelled.

    Attributes
    ----------
    name
        Name of the scene in the study: ``01`` to ``12`` in the ExtremeEarth dataset.
    product, labels
        Folders made by `floemap prepare` and `floemap label`, on the same grid.
    truth
        Raster of the true classes of a simulated scene, or None.
    start
        Start of the acquisition.
    footprint
        Outline of the scene on the ground.
    simulated
        Whether the product or the chart is simulated.
    hashes
        SHA-256 of product.tif and labels.tif, and of the layers that models learn from.
    bands
        Bands of the product and layers that models learn from.
    origin
        Where the chart comes from, if a draft is behind it; see :func:`floemap.icechart.label.origin.origin_of`.
    """

    name: str
    product: Path
    labels: Path
    truth: Path | None
    start: datetime
    footprint: Footprint
    simulated: bool
    hashes: dict[str, str]
    bands: BandSet = PRODUCT_BANDS
    origin: Mapping[str, Any] | None = None

    @property
    def raster(self) -> Path:
        """Path of the raster of bands."""
        return self.product / "product.tif"

    @property
    def label_raster(self) -> Path:
        """Path of the raster of classes."""
        return self.labels / "labels.tif"

    def about(self) -> dict[str, Any]:
        """Return a description of the scene for records, ready for JSON."""
        about: dict[str, Any] = {
            "name": self.name,
            "product": self.product.name,
            "chart": self.labels.name,
            "start": self.start.isoformat(),
            "simulated": self.simulated,
            "sha256": self.hashes,
        }
        return about | ({} if self.origin is None else {"labels_from": dict(self.origin)})


def open_study_scene(
    name: str,
    product: Path,
    labels: Path,
    truth: Path | None,
    *,
    legend: Legend,
    bands: Sequence[str] = PRODUCT_BANDS.names,
) -> StudyScene:
    """Return a study scene from the records of a prepared product and its labels, with the named bands.

    Raises
    ------
    ConfigError
        If the labels were made with another legend.
    ProductError, GridError
        If a layer is missing or cannot be used.
    FloemapError
        If one of them is not finished, or is of another kind.
    """
    about, label = read_json(product / "product.json"), read_json(labels / "label.json")
    used = from_record(label.get("legend"), labels / "label.json")
    if not same_classes(used, legend):
        raise ConfigError(
            f"the labels {labels} have the legend {used.name!r}, and the study's legend {legend.name!r} has other "
            "classes or codes.",
            hint="Label the chart again, with `floemap label --legend`, or change [data] legend.",
        )
    try:
        start = datetime.fromisoformat(about["scene"]["start"])
        footprint = Footprint.from_corners(np.array(about["corners_lonlat_deg"]))
        simulated = bool(about["simulated"]) or bool(label.get("simulated", False))
    except MISSHAPEN as e:
        raise FloemapError(
            f"is not the record of a prepared product: {e!r}.",
            path=product / "product.json",
            hint="Make it again with `floemap prepare --overwrite`.",
        ) from e
    rasters: Sequence[Path] = (product / "product.tif", labels / "labels.tif")
    hashes = {path.name: sha256(path) for path in rasters}
    found = scene_bands(product, bands, product_sha256=hashes["product.tif"])
    hashes |= hashes_of(product / "product.tif", found)
    origin = label["origin"] if isinstance(label.get("origin"), Mapping) else None
    for words in notes_of_origin(origin):
        logger.warning("scene %s: %s", name, words)
    return StudyScene(name, product, labels, truth, start, footprint, simulated, hashes, found, origin)
