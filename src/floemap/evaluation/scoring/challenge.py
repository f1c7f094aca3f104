"""Scores of the AI4Arctic challenge: R2 of concentration, weighted F1 of type and floe size, and their combination.

The pixels of all test scenes are pooled; where the chart has no class (255) a pixel does not count. R2 is that of the
classes of concentration, tenths from 0 to 10:

    R2 = 1 - sum (reference - prediction)^2 / sum (reference - mean of references)^2

The combined score is (2 SIC + 2 SOD + FLOE) / 5, as the challenge's leaderboard has it. All are from 0 to 1 here, R2
also below 0; the leaderboard has percent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.datasets.ai4arctic.codes import TITLES
from floemap.datasets.ai4arctic.files import open_scene_file
from floemap.datasets.ai4arctic.form import CHARTS
from floemap.errors import ProductError
from floemap.evaluation.scoring.confusion import Confusion, confusion, pooled
from floemap.evaluation.scoring.named_scores import PRIMARY
from floemap.evaluation.scoring.scores import Score, scores
from floemap.legend import AI4ARCTIC
from floemap.moments import moments_of_counts, value_scores_by_name

Classes = NDArray[np.uint8]

#: Weights of the charts in the combined score.
WEIGHTS: Mapping[str, int] = MappingProxyType({"SIC": 2, "SOD": 2, "FLOE": 1})
#: The chart of a further head's target.
_CHART_OF = {"concentration": "SIC", "floe_size": "FLOE"}
#: Number of classes of each chart.
CLASSES: Mapping[str, int] = MappingProxyType({chart: len(titles) for chart, titles in TITLES.items()})


@dataclass(frozen=True)
class ChallengeScores:
    """The challenge's scores; ``None`` where one is undefined.

    Attributes
    ----------
    sic, sod, floe
        R2 of concentration, weighted F1 of stage of development and of floe size.
    combined
        Their weighted mean; ``None`` unless all three are defined.
    pixels
        Number of pixels that count, by chart.
    """

    sic: Score
    sod: Score
    floe: Score
    combined: Score
    pixels: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores, JSON-ready."""
        return {
            "SIC_r2": self.sic,
            "SOD_weighted_f1": self.sod,
            "FLOE_weighted_f1": self.floe,
            "combined": self.combined,
            "pixels": dict(self.pixels),
        }


def challenge_scores(counted: Mapping[str, Iterable[Confusion]]) -> ChallengeScores:
    """Return the scores of pooled test scenes.

    Parameters
    ----------
    counted
        Confusion matrices of the scenes by chart, SIC, SOD and FLOE; a chart may be missing.

    Raises
    ------
    ConfigError
        If a matrix has another number of classes than its chart.
    """
    found: dict[str, Score] = dict.fromkeys(CHARTS)
    pixels = dict.fromkeys(CHARTS, 0)
    for chart, matrices in counted.items():
        whole = pooled([Confusion.zero(CLASSES[chart]), *matrices])
        pixels[chart] = int(whole.counts.sum())
        found[chart] = r2_of_classes(whole) if chart == "SIC" else scores(whole).weighted_f1
    values = [(found[chart], weight) for chart, weight in WEIGHTS.items()]
    combined = None
    if all(v is not None for v, _ in values):
        combined = sum(v * w for v, w in values if v is not None) / sum(WEIGHTS.values())
    return ChallengeScores(found["SIC"], found["SOD"], found["FLOE"], combined, MappingProxyType(pixels))


def counts_of(evaluation: Mapping[str, Any]) -> dict[str, Confusion] | None:
    """Return the counts of the charts that an evaluation has, by chart; None if its legend is not AI4Arctic's.

    SOD is counted by the classes of the prediction, SIC by a head of concentration, in tenths, and FLOE by a head of
    floe size. Pixels are those of the map.

    Parameters
    ----------
    evaluation
        Content of evaluation.json.

    Raises
    ------
    FloemapError
        If the counts cannot be read.
    """
    if evaluation["legend"]["name"] != AI4ARCTIC.name:
        return None
    counted = {"SOD": Confusion.from_dict(evaluation["scores"][PRIMARY])}
    for found in evaluation.get("categories", {}).values():
        if (chart := _CHART_OF.get(found["target"])) is not None:
            counted.setdefault(chart, Confusion.from_dict(found))
    return counted


def r2_of_classes(matrix: Confusion) -> Score:
    """Return R2 of class ids taken as numbers; ``None`` where the reference has fewer than two different ones."""
    return value_scores_by_name(moments_of_counts(matrix.counts))["r2"]


def service_agreement(a: str | Path, b: str | Path) -> dict[str, Any]:
    """Compare the charts that two ice services drew on one product: how well experts agree.

    No prediction can be expected to agree with a chart better than another expert's chart does. The dataset has two
    such products; :func:`floemap.datasets.ai4arctic.scenes.charted_twice` finds them.

    Parameters
    ----------
    a, b
        Ready-to-train files of the two scenes, or their reference files.

    Returns
    -------
    dict
        The challenge's scores of each chart against the other, under the names of the services "DMI" and "CIS" as the
        reference, and the counts by chart, rows `a`.

    Raises
    ------
    ProductError
        If a file cannot be read or has no charts, or the two are not of one product and two services.
    """
    with open_scene_file(a) as first, open_scene_file(b) as second:
        one, other = first.scene, second.scene
        if one.product != other.product or one.service == other.service or first.shape != second.shape:
            raise ProductError(
                f"and {second.path} are not charts of two services on one product.",
                path=first.path,
                hint="Give the files of one start time that end in _dmi_prep.nc and _cis_prep.nc.",
            )
        counted = {}
        for chart in CHARTS:
            strips = [
                confusion(first.chart(chart, *lines), second.chart(chart, *lines), CLASSES[chart])
                for lines in first.strips()
            ]
            counted[chart] = pooled(strips)
    turned = {
        chart: Confusion(m.counts.T, np.zeros(len(m), np.int64), int(m.without_prediction.sum()))
        for chart, m in counted.items()
    }
    return {
        "product": one.product,
        one.service.upper(): challenge_scores({c: [m] for c, m in counted.items()}).as_dict(),
        other.service.upper(): challenge_scores({c: [m] for c, m in turned.items()}).as_dict(),
        "counts": {chart: m.as_dict() for chart, m in counted.items()},
    }
