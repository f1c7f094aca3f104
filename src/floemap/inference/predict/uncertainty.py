"""How uncertain a prediction is: from the probabilities of one model, or of several trained apart.

Entropy says how far the probabilities are spread over the classes: 0 is one class for certain, 1 all equally likely.
Of several models, it is that of their mean probabilities, and two causes can be told apart (Depeweg et al.,
"Decomposition of uncertainty in Bayesian deep learning", ICML 2018): the models agree that the classes cannot be told
from what the radar saw; or they disagree, as where the scene is unlike what they learnt from. The mutual information
between class and model is the second part: entropy of the mean less mean of the entropies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: What each band says, by name.
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "entropy": "Entropy of the classes' probabilities, 1 where all are equally likely",
        "mutual_information": "Mutual information between class and model: how far the models disagree",
    }
)
#: So near to 0 that p log p is nothing.
_TINY = 1e-30


def entropy(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    """Return -sum p log p / log K of probabilities (K, rows, cols): (rows, cols), from 0 to 1; NaN where they are."""
    total = np.zeros(probabilities.shape[1:], np.float32)
    for p in probabilities:
        logarithm: NDArray[Any] = cv2.log(np.maximum(p, np.float32(_TINY)))
        total -= p * logarithm
    total /= np.float32(np.log(len(probabilities)))
    return np.clip(total, 0, 1, out=total)


def disagreement(members: Sequence[NDArray[np.float32]], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mutual information between class and model, (rows, cols): from 0 to 1, in units of log K.

    Parameters
    ----------
    members
        Probabilities of each model, (K, rows, cols).
    mean
        Their mean.
    """
    within = sum(entropy(p) for p in members) / np.float32(len(members))
    between = entropy(mean) - within
    return np.asarray(np.maximum(between, 0), np.float32)
