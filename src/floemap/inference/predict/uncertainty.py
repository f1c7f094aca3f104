"""How uncertain a prediction is, from the probabilities of one model or of several that were trained separately.

Entropy measures how far the probabilities are spread over the classes: 0 if one class is certain, 1 if all are equally
likely. The entropy of several models is that of their mean probabilities, and it has two parts (Depeweg et al.,
"Decomposition of uncertainty in Bayesian deep learning", ICML 2018). In the first, the models agree that the radar
image does not distinguish the classes; in the second, they disagree, as they do where the scene is unlike their
training scenes. The mutual information between class and model is the second part: the entropy of the mean minus the
mean of the entropies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

#: Values of each class: (K, rows, cols) in one array, or K of (rows, cols).
Planes = Sequence[NDArray[np.float32]] | NDArray[np.float32]

#: Meaning of each measure, by the name of its band.
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "entropy": "Entropy of the classes' probabilities, 1 where all are equally likely",
        "mutual_information": "Mutual information between class and model: how far the models disagree",
    }
)
#: So close to 0 that p log p is negligible.
_TINY = 1e-30


def mean_of(members: Sequence[Planes]) -> Planes:
    """Return the mean of the probabilities of each model, (K, rows, cols)."""
    return members[0] if len(members) == 1 else np.asarray(np.mean(members, axis=0, dtype=np.float32))


def uncertainties(members: Sequence[Planes]) -> list[NDArray[np.float32]]:
    """Return the measures of :data:`MEANINGS` from the probabilities of each model; of one model, the entropy alone."""
    mean = mean_of(members)
    return [entropy(mean)] + ([disagreement(members, mean)] if len(members) > 1 else [])


def entropy(probabilities: Planes) -> NDArray[np.float32]:
    """Return -sum p log p / log K of probabilities (K, rows, cols): (rows, cols), from 0 to 1; NaN where they are."""
    total = np.zeros(probabilities[0].shape, np.float32)
    for p in probabilities:
        total -= p * np.asarray(cv2.log(np.maximum(p, np.float32(_TINY))), np.float32)
    total /= np.float32(np.log(len(probabilities)))
    return np.clip(total, 0, 1, out=total)


def disagreement(members: Sequence[Planes], mean: Planes) -> NDArray[np.float32]:
    """Return the mutual information between class and model, (rows, cols): from 0 to 1, in units of log K.

    Parameters
    ----------
    members
        Probabilities of each model, (K, rows, cols).
    mean
        Mean of the probabilities over the models.
    """
    within = sum(entropy(p) for p in members) / np.float32(len(members))
    return np.asarray(np.maximum(entropy(mean) - within, 0), np.float32)
