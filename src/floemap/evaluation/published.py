"""What the study that this project starts from published, to stand beside our scores.

R. Pires de Lima, B. Vahedi, M. Karimzadeh, "Comparison of cross-entropy, Dice, and focal loss for sea ice type
segmentation", IGARSS 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

CITATION = (
    "R. Pires de Lima, B. Vahedi, M. Karimzadeh, Comparison of cross-entropy, Dice, and focal loss for sea ice type "
    "segmentation, IGARSS 2023"
)
#: What the published numbers are of.
SETTING = (
    "weighted F1 against the charts of two real scenes of East Greenland (ExtremeEarth V2, January and July 2018), "
    "mean over both scenes and three repeats, with minimum and maximum"
)


@dataclass(frozen=True)
class PublishedScore:
    """Weighted F1 of one loss: mean, minimum and maximum over two scenes and three repeats."""

    mean: float
    min: float
    max: float

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return asdict(self)


#: By the name of the loss. Dice, as cited there, is the generalised one (Sudre et al. 2017).
PUBLISHED: Mapping[str, PublishedScore] = MappingProxyType(
    {
        "cross_entropy": PublishedScore(0.815, 0.805, 0.825),
        "generalized_dice": PublishedScore(0.810, 0.80, 0.82),
        "focal": PublishedScore(0.822, 0.81, 0.83),
    }
)
_ALIASES = {"dice": "generalized_dice"}


def published(loss: str) -> PublishedScore | None:
    """Return what was published for a loss, by its name or alias; ``None`` for one that the study did not have."""
    return PUBLISHED.get(_ALIASES.get(loss, loss))
