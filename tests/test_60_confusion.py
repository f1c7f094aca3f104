"""Confusion matrices: every pixel is counted once, and adding is pooling."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import confusion_matrix

from floemap.errors import ConfigError, FloemapError, GridError
from floemap.evaluation.scoring.confusion import Confusion, PairCounts, confusion, pooled
from floemap.legend import IGNORE

CLASSES = 4
IDS = st.sampled_from([0, 1, 2, 3, IGNORE])
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    shape = draw(SHAPES)
    one, other = (draw(hnp.arrays(np.uint8, shape, elements=IDS)) for _ in range(2))
    return one, other


@given(pairs())
def test_equals_scikit_learn_where_both_have_a_class(rasters: tuple[Any, Any]) -> None:
    reference, prediction = rasters
    both = (reference != IGNORE) & (prediction != IGNORE)
    found = confusion(reference, prediction, CLASSES)
    if both.any():
        expected = confusion_matrix(reference[both], prediction[both], labels=range(CLASSES))
        assert (found.counts == expected).all()
    else:
        assert not found.counts.any()


@given(pairs())
def test_every_pixel_is_counted_once(rasters: tuple[Any, Any]) -> None:
    reference, prediction = rasters
    found = confusion(reference, prediction, CLASSES)
    neither = int(((reference == IGNORE) & (prediction == IGNORE)).sum())
    counted = found.counts.sum() + found.without_prediction.sum() + found.without_reference
    assert counted + neither == reference.size
    for k in range(CLASSES):
        assert found.without_prediction[k] == ((reference == k) & (prediction == IGNORE)).sum()
    # The reference's pixels do not depend on the prediction.
    nothing = confusion(reference, np.full_like(prediction, IGNORE), CLASSES)
    assert (nothing.reference_pixels == found.reference_pixels).all()
    assert not nothing.counts.any()


@given(pairs())
def test_swapping_the_rasters_turns_the_matrix(rasters: tuple[Any, Any]) -> None:
    reference, prediction = rasters
    there, back = confusion(reference, prediction, CLASSES), confusion(prediction, reference, CLASSES)
    assert (there.counts == back.counts.T).all()
    assert there.without_reference == back.without_prediction.sum()


@given(pairs(), st.integers(0, 12))
def test_parts_add_up_to_the_whole_in_any_order(rasters: tuple[Any, Any], cut: int) -> None:
    reference, prediction = rasters
    parts = [confusion(reference[rows], prediction[rows], CLASSES) for rows in (np.s_[:cut], np.s_[cut:])]
    whole = confusion(reference, prediction, CLASSES)
    assert pooled(parts) == pooled(parts[::-1]) == whole
    assert whole + Confusion.zero(CLASSES) == whole


def test_strips_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    reference, prediction = rng.choice([0, 1, 2, 3, IGNORE], (2, 1000, 37)).astype(np.uint8)
    by_rows = PairCounts()
    for row in range(1000):
        by_rows.add(reference[row : row + 1], prediction[row : row + 1])
    assert by_rows.confusion(CLASSES) == confusion(reference, prediction, CLASSES)
    # Windows that are not contiguous in memory count the same.
    assert confusion(reference.T, prediction.T, CLASSES) == confusion(reference, prediction, CLASSES)


@pytest.mark.parametrize("odd", [4, 254])
@pytest.mark.parametrize("beside", [0, IGNORE])
def test_an_id_outside_the_legend_is_named(odd: int, beside: int) -> None:
    good = np.full((3, 3), beside, np.uint8)
    bad = good.copy()
    bad[1, 1:] = odd
    with pytest.raises(ConfigError, match=rf"the prediction holds ids outside the legend: {odd} at 2 pixels.*0 to 3"):
        confusion(good, bad, CLASSES)
    with pytest.raises(ConfigError, match=rf"the reference holds ids outside the legend: {odd} at 2 pixels"):
        confusion(bad, good, CLASSES)


def test_many_odd_ids_are_named_shortly() -> None:
    bad = np.arange(100, 110, dtype=np.uint8)[None]
    with pytest.raises(ConfigError, match=r"100 at 1 pixel,.*104 at 1 pixel and 5 further ids"):
        confusion(bad, bad, CLASSES)


def test_what_is_no_class_raster_is_refused() -> None:
    one = np.zeros((2, 3), np.uint8)
    with pytest.raises(GridError, match=r"\(2, 3\) and \(3, 2\)"):
        confusion(one, one.T, CLASSES)
    with pytest.raises(ConfigError, match="int64"):
        confusion(one, one.astype(np.int64), CLASSES)


def test_records_come_back() -> None:
    found = confusion(np.array([[0, 1, 2, IGNORE]], np.uint8), np.array([[0, 2, IGNORE, 3]], np.uint8), CLASSES)
    record = json.loads(json.dumps(found.as_dict()))
    assert Confusion.from_dict(record) == found
    broken: list[dict[str, Any]] = [
        {},
        record | {"counts": [[1.5, 0], [0, 0]], "without_prediction": [0, 0]},
        record | {"counts": [[1, 2, 3]]},
        record | {"without_prediction": [0]},
        record | {"counts": np.full((4, 4), -1).tolist()},
        record | {"counts": "many"},
    ]
    for other in broken:
        with pytest.raises(FloemapError, match="not the record of a confusion matrix"):
            Confusion.from_dict(other)


def test_matrices_of_other_sizes_are_not_added() -> None:
    with pytest.raises(ConfigError, match="4 and 2 classes"):
        Confusion.zero(4) + Confusion.zero(2)
    with pytest.raises(ConfigError, match="no confusion matrix"):
        pooled([])


def test_counts_are_whole_frozen_and_own() -> None:
    counts = np.ones((2, 2), np.int64)
    found = Confusion(counts, np.zeros(2, np.int64))
    counts[0, 0] = 99
    assert found.counts.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(ValueError, match="read-only"):
        found.counts[0, 0] = 1


def test_pooling_is_independent_of_order() -> None:
    rng = np.random.default_rng(2)
    parts = [
        Confusion(rng.integers(0, 2**40, (3, 3)), rng.integers(0, 2**40, 3), int(rng.integers(0, 9))) for _ in range(4)
    ]
    sums = [pooled(order).as_dict() for order in itertools.permutations(parts)]
    assert all(s == sums[0] for s in sums)
