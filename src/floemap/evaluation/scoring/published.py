"""The scores that the study behind this project published, and when they are comparable with a run's scores.

R. Pires de Lima, B. Vahedi, M. Karimzadeh, "Comparison of cross-entropy, Dice, and focal loss for sea ice type
segmentation", IGARSS 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from floemap.datasets.extremeearth.scenes import PARTS, scene_of_chart, scene_of_product
from floemap.legend import EXTREMEEARTH

CITATION = (
    "R. Pires de Lima, B. Vahedi, M. Karimzadeh, Comparison of cross-entropy, Dice, and focal loss for sea ice type "
    "segmentation, IGARSS 2023"
)
#: Description of the published numbers.
SETTING = (
    "weighted F1 against the charts of two real scenes of East Greenland (ExtremeEarth V2, January and July 2018), "
    "mean over both scenes and three repeats, with minimum and maximum"
)
_PIXEL_KM2 = 0.08**2


@dataclass(frozen=True)
class PublishedScore:
    """Weighted F1 of one loss: mean, minimum and maximum over two scenes and three repeats."""

    mean: float
    min: float
    max: float

    def as_dict(self) -> dict[str, Any]:
        """Return the score, JSON-ready."""
        return asdict(self)


#: Published scores by the name of the loss. The Dice loss cited there is the generalised one (Sudre et al. 2017).
PUBLISHED: Mapping[str, PublishedScore] = MappingProxyType(
    {
        "cross_entropy": PublishedScore(0.815, 0.805, 0.825),
        "generalized_dice": PublishedScore(0.810, 0.80, 0.82),
        "focal": PublishedScore(0.822, 0.81, 0.83),
    }
)
_ALIASES = {"dice": "generalized_dice"}


def published(loss: str) -> PublishedScore | None:
    """Return the published score of a loss by its name or alias; ``None`` for a loss that the study did not have."""
    return PUBLISHED.get(_ALIASES.get(loss, loss))


def why_not_comparable(evaluations: Iterable[Mapping[str, Any]], splits: Iterable[Mapping[str, Any] | None]) -> str:
    """Return why the published scores are not comparable with these evaluations; "" where they are.

    They are comparable where scenes and charts are the real ones of ExtremeEarth, at 80 m, the legend is
    :data:`floemap.legend.EXTREMEEARTH`, and every training split the scenes as the study did.

    Parameters
    ----------
    evaluations
        Content of evaluation.json for each test scene.
    splits
        Content of split.json for each training; None where it is unknown.
    """
    evaluation = None
    for evaluation in evaluations:
        if evaluation.get("simulated", True):
            return "the scenes are simulated"
        if evaluation["legend"]["name"] != EXTREMEEARTH.name:
            return f"the legend is {evaluation['legend']['name']}, the published one {EXTREMEEARTH.name}"
        if not math.isclose(evaluation.get("pixel_area_km2") or math.nan, _PIXEL_KM2, rel_tol=0.01):
            return "the published scores are of pixels of 80 m"
    if evaluation is None:
        return "a loss has no score"
    for split in splits:
        if split is None:
            return "it is not known which scenes each model learnt from"
        if why := _why_other_split(split):
            return why
    return ""


def _why_other_split(split: Mapping[str, Any]) -> str:
    found = {}
    for part in split["parts"]:
        about = part["scene"]
        scene = scene_of_product(str(about.get("product", "")))
        if about.get("simulated", True):
            return "the scenes are simulated"
        if scene is None or scene_of_chart(str(about.get("chart", ""))) != scene:
            return f"scene {about.get('name')} or its chart is not of the ExtremeEarth dataset"
        found[scene.product, part.get("half")] = part["role"]
    if found != {(p.scene.product, p.half): p.role for p in PARTS}:
        return "the scenes are shared out otherwise than in the published study"
    if split.get("settings", {}).get("cut") != "sides":
        return "scenes are halved otherwise than in the published study"
    return ""
