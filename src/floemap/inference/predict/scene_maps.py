"""The prediction of a scene in memory: class, probabilities and uncertainty of every pixel, and land."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from floemap.cog import Band
from floemap.icechart.label.polygon_values import CATEGORIES, VALUES
from floemap.learning.calibration.out_of_distribution import BEYOND, CELL_PX, SceneScore
from floemap.learning.targets import Head
from floemap.legend import IGNORE, Legend
from floemap.results.stage import Stage

logger = logging.getLogger(__name__)

#: Raise the revision when classes or probabilities of the same model change: tiles, arithmetic, storage.
PREDICT = Stage(
    "floemap predict",
    "prediction.json",
    revision=1,
    files=("classes.tif", "classes.qml", "probabilities.tif", "out_of_distribution.tif"),
)

#: Number of steps of stored probabilities and uncertainties: 200 of half a percent.
STEPS = 200
#: Value of one step.
STEP = 1 / STEPS
#: No-data value of stored probabilities and uncertainties.
NO_VALUE = IGNORE
#: Value of one step of the out-of-distribution score of pixels; higher scores than 12.7 are cut.
SCORE_STEP = 0.05
#: Rows counted at a time.
_STRIP_ROWS = 128


@dataclass(frozen=True)
class SceneMaps:
    """Rasters on one grid.

    Attributes
    ----------
    geobox, legend
        Grid and legend of the classes.
    classes
        (rows, cols) uint8: the most probable class, :data:`floemap.legend.IGNORE` on land and without data.
    probabilities
        (classes, rows, cols) uint8, in steps of :data:`STEP`, :data:`NO_VALUE` where there is no class. Of several
        models: their mean.
    entropy
        (rows, cols) uint8, in the same steps; see :mod:`floemap.inference.predict.uncertainty`.
    mutual_information
        (rows, cols) uint8, in the same steps; None for a single model.
    values
        What models with further heads predict, by target: (rows, cols) uint8 in steps of the value, from
        :data:`floemap.icechart.label.polygon_values.VALUES`, :data:`NO_VALUE` where there is no class.
    shares
        (classes, rows, cols) uint8: shares of the classes that a head of the target ``fractions`` predicts, in steps of
        :data:`STEP`, :data:`NO_VALUE` where there is no class; None without such a head.
    land
        (rows, cols) bool: where the scene has data and the land mask has land; None without a mask.
    out_of_distribution
        How unlike the model's training scenes the scene is, or why that is unknown.
    """

    geobox: GeoBox
    legend: Legend
    classes: NDArray[np.uint8]
    probabilities: NDArray[np.uint8]
    entropy: NDArray[np.uint8]
    mutual_information: NDArray[np.uint8] | None = None
    land: NDArray[np.bool_] | None = None
    out_of_distribution: SceneScore | str = "it was not measured"
    values: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    shares: NDArray[np.uint8] | None = None

    @property
    def uncertainty(self) -> dict[str, NDArray[np.uint8]]:
        """The available measures of uncertainty, by name."""
        both = {"entropy": self.entropy, "mutual_information": self.mutual_information}
        return {name: values for name, values in both.items() if values is not None}

    def score_steps(self) -> NDArray[np.uint8] | None:
        """Return the out-of-distribution score of each pixel, that of its square, (rows, cols), as stored in steps.

        None where the score is unknown.
        """
        score = self.out_of_distribution
        if isinstance(score, str):
            return None
        steps = np.nan_to_num(np.rint(score.ratio / SCORE_STEP).clip(0, NO_VALUE - 1), nan=NO_VALUE).astype(np.uint8)
        rows, cols = self.classes.shape
        return np.asarray(steps.repeat(CELL_PX, axis=0)[:rows].repeat(CELL_PX, axis=1)[:, :cols])

    def pixels(self) -> dict[str, int]:
        """Return the number of pixels of each class by its key, of land and of no data."""
        counts = np.zeros(256, np.int64)
        for row in range(0, len(self.classes), _STRIP_ROWS):  # counting makes 64-bit copies
            counts += np.bincount(self.classes[row : row + _STRIP_ROWS].ravel(), minlength=256)
        land = 0 if self.land is None else int(np.count_nonzero(self.land))
        by_class = {c.key: int(counts[c.id]) for c in self.legend.classes}
        return by_class | {"land": land, "no_data": int(counts[IGNORE]) - land}


def class_band(legend: Legend) -> Band:
    """Describe the band of classes.tif."""
    return Band(
        "ice_type",
        description=f"Most probable class, legend {legend.name}",
        overview="mode",
        categories=legend.titles | {IGNORE: "no data"},
        colours=legend.colours,
    )


def probability_bands(legend: Legend) -> list[Band]:
    """Describe the bands of probabilities.tif."""
    # Overviews of the nearest pixel: probabilities vary over many pixels, and averaging six bands takes a second.
    return [
        Band(c.key, "1", f"Probability of {c.title.lower()}", scale=STEP, overview="nearest") for c in legend.classes
    ]


def head_bands(head: Head, legend: Legend) -> list[Band]:
    """Describe the bands of the raster of a further head."""
    if head.kind == "value":
        value = VALUES[head.target]
        description = f"{value.title}, predicted"
        return [Band(head.name, value.unit, description, scale=value.step, offset=value.low, overview="nearest")]
    if head.kind == "category":
        category = CATEGORIES[head.target]
        classes = dict(enumerate(category.classes)) | {IGNORE: "no data"}
        return [Band(head.name, description=f"{category.title}, predicted", overview="mode", categories=classes)]
    return [
        Band(c.key, "1", f"Share of {c.title.lower()}, predicted", scale=STEP, overview="nearest")
        for c in legend.classes
    ]


def score_grid(geobox: GeoBox) -> GeoBox:
    """Return the grid of squares of the out-of-distribution score, for a scene's grid of pixels."""
    rows, cols = (-(-n // CELL_PX) for n in geobox.shape)
    return GeoBox((rows, cols), geobox.affine * Affine.scale(CELL_PX), geobox.crs)


#: The band of out_of_distribution.tif.
SCORE_BAND = Band(
    "score",
    "1",
    "Distance from the model's training scenes, in medians of its validation scenes: 1 is usual",
)


def described_score(score: SceneScore | str) -> dict[str, Any]:
    """Return the entry of a record about the out-of-distribution score."""
    return {"reason": score} if isinstance(score, str) else score.to_json()


def warn_if_unlike(score: SceneScore | str, product: str) -> None:
    """Warn of a scene that is unlike those that the model learnt from."""
    if not isinstance(score, str) and score.unlike:
        logger.warning(
            "%s is unlike the model's training scenes: its out-of-distribution score is %.2f (1 is usual), at "
            "percentile %.0f of the validation scenes, and %.0f %% of it is unusual (%d %% is usual). Classes and "
            "probabilities may be wrong",
            product,
            score.median,
            score.percentile,
            100 * score.unusual,
            100 - BEYOND,
        )


def without_land(maps: SceneMaps, land: NDArray[np.bool_]) -> SceneMaps:
    """Return the maps without values on land; the arrays are changed in place.

    Parameters
    ----------
    land
        (rows, cols) bool: where the land mask has land.
    """
    there = land & (maps.classes != IGNORE)
    further = (*maps.values.values(), *(() if maps.shares is None else maps.shares))
    for raster in (maps.classes, *maps.probabilities, *maps.uncertainty.values(), *further):
        np.copyto(raster, np.uint8(IGNORE), where=there)
    score = maps.out_of_distribution
    score = score if isinstance(score, str) else score.without(land)
    return replace(maps, land=there, out_of_distribution=score)
