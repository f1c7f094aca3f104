"""What the eggs of a draft chart are estimated from: it depends on the heads and on the calibration of the models.

Shares of ice types come from a head of the target ``fractions``. Without one, they are the means of the probabilities.
Those of a model that is not calibrated may be biased, and all files say so; on simulated scenes they are still nearer
to the truth than counts of the pixels' classes (docs/draft-charts.md). The total concentration comes from a head of the
target ``concentration``, or is what the share of water leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from floemap.icechart.draw.eggs import EggSource
from floemap.icechart.label.polygon_values import VALUES
from floemap.inference.draftchart.settings import ChartSettings
from floemap.inference.predict.model_files import ModelFile
from floemap.inference.predict.scene_maps import STEP, SceneMaps

#: Target of the head whose values are total concentrations.
CONCENTRATION = "concentration"
_WORDS = {
    "shares": "predicted shares of the types",
    "probabilities": "calibrated probabilities of the classes",
    "uncalibrated": "probabilities of the classes, which are not calibrated",
}


@dataclass(frozen=True)
class EggBasis:
    """What eggs are estimated from.

    Attributes
    ----------
    shares
        Source of the shares of types.
    concentration
        Whether a head predicts the total concentration.
    """

    shares: Literal["shares", "probabilities", "uncalibrated"]
    concentration: bool

    def in_words(self) -> str:
        """Return the sentence about concentrations that all files of a chart hold."""
        total = "predicted concentration and " if self.concentration else ""
        return f"estimated from {total}{_WORDS[self.shares]}, not checked by anyone"

    def source(self, maps: SceneMaps) -> EggSource:
        """Return the rasters that :func:`floemap.icechart.draw.polygonize.vectorize` makes eggs from."""
        shares = maps.probabilities if maps.shares is None else maps.shares
        concentration, step = maps.values.get(CONCENTRATION), VALUES[CONCENTRATION].step
        return EggSource(list(shares), STEP, concentration, step, doubt=maps.shares is None)


#: The words where no eggs are estimated.
NOT_ESTIMATED = "not estimated"


def egg_basis(models: Sequence[ModelFile], settings: ChartSettings) -> EggBasis | None:
    """Return what the eggs of a chart by models with the same heads are estimated from; None if they are not."""
    if not settings.eggs:
        return None
    targets = {head.target for head in models[0].heads[1:]}
    if "fractions" in targets:
        return EggBasis("shares", CONCENTRATION in targets)
    calibrated = all(m.calibrated for m in models)
    return EggBasis("probabilities" if calibrated else "uncalibrated", CONCENTRATION in targets)
