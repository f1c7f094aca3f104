"""Entropy and disagreement of probabilities, beside scipy's entropy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from floemap.inference.predict.uncertainty import disagreement, entropy


@pytest.mark.parametrize("classes", [2, 3, 6, 20])
def test_entropy_is_scipys_in_units_of_the_largest(classes: int) -> None:
    rng = np.random.default_rng(classes)
    p = rng.dirichlet(np.full(classes, 0.3), (30, 40)).transpose(2, 0, 1).astype(np.float32)
    np.testing.assert_allclose(entropy(p), scipy.stats.entropy(p, axis=0, base=classes), atol=2e-6)


def test_entropy_does_not_leave_0_to_1_by_rounding() -> None:
    even = [entropy(np.full((k, 1, 1), 1 / k, np.float32)).item() for k in range(2, 60)]
    assert max(even) <= 1 and min(even) > 1 - 1e-6
    sure = np.zeros((6, 2, 2), np.float32)
    sure[3] = 1
    assert (entropy(sure) == 0).all()


def test_models_that_agree_do_not_disagree_however_unsure_they_are() -> None:
    """The two parts of the uncertainty: all of it within the models, and all of it between two sure ones."""
    even = np.full((4, 1, 1), 0.25, np.float32)
    assert disagreement([even, even], even).item() == pytest.approx(0, abs=1e-6)
    one, other = np.zeros((2, 4, 1, 1), np.float32)
    one[0] = other[1] = 1
    assert disagreement([one, other], np.mean([one, other], axis=0)).item() == pytest.approx(0.5)  # log 2 / log 4
