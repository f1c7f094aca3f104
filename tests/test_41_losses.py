"""Losses: laws that each must keep, whatever the numbers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from floemap.errors import ConfigError, TrainingError
from floemap.learning.losses import LOSSES, make_loss
from floemap.learning.losses.base import BaseLoss, check_labels
from floemap.learning.losses.class_weights import class_weights
from floemap.learning.settings import LossSettings
from floemap.legend import IGNORE

#: Each loss once, and those with numbers by class.
CASES: dict[str, dict[str, Any]] = {
    "cross_entropy": {},
    "cross_entropy weighted": {"name": "cross_entropy", "class_weights": "inverse"},
    "generalized_dice": {},
    "macro_dice": {},
    "pooled_dice": {},
    "focal": {},
    "focal by class": {"name": "focal", "options": {"alpha": [0.1, 0.9, 0.5, 0.3], "gamma": 0.5}},
    "focal weighted": {"name": "focal", "class_weights": "effective_number"},
    "label_smoothing": {},
    "label_smoothing weighted": {"name": "label_smoothing", "class_weights": "inverse"},
    "cross_entropy_dice": {},
    "cross_entropy_dice weighted": {
        "name": "cross_entropy_dice",
        "class_weights": "inverse",
        "options": {"dice": 3.0},
    },
    "tversky": {},
    "focal_tversky": {},
    "lovasz_softmax": {},
    "earth_mover": {},
    "earth_mover weighted": {"name": "earth_mover", "class_weights": "inverse"},
}
#: Losses whose value has a bound.
BOUNDED = ("generalized_dice", "macro_dice", "pooled_dice", "tversky", "lovasz", "earth_mover")
DICE = ("generalized_dice", "macro_dice", "pooled_dice")
K = 4


def _loss(case: str, pixels: Sequence[int] = (10, 20, 5, 40)) -> BaseLoss:
    return make_loss(LossSettings(**({"name": case} | CASES[case])), K, pixels)


def _batch(
    seed: int = 0, n: int = 2, size: tuple[int, int] = (7, 9), ignored: float = 0.2, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Logits and labels; a share of the pixels has no class."""
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, K, *size, generator=g, dtype=torch.float64)
    labels = torch.randint(0, K, (n, *size), generator=g).to(torch.uint8)
    labels[torch.rand(labels.shape, generator=g) < ignored] = IGNORE
    return logits.to(dtype), labels


def _sure(labels: Tensor, by: float = 1000.0) -> Tensor:
    """Logits that are sure of the labels, and of class 0 where there is none."""
    ids = torch.where(labels == IGNORE, 0, labels.long())
    return by * functional.one_hot(ids, K).movedim(-1, 1).double()


def _gradient(loss: BaseLoss, logits: Tensor, labels: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    loss(leaf, labels).backward()
    assert leaf.grad is not None
    return leaf.grad


# What they are


@given(st.integers(0, 2**32), st.floats(0, 0.9))
@settings(max_examples=25, deadline=None)
def test_focal_with_gamma_0_and_alpha_1_is_cross_entropy(seed: int, ignored: float) -> None:
    logits, labels = _batch(seed, ignored=ignored, dtype=torch.float32)
    focal = make_loss(LossSettings(name="focal", options={"gamma": 0, "alpha": 1.0}), K)
    torch.testing.assert_close(focal(logits, labels), _loss("cross_entropy")(logits, labels))
    torch.testing.assert_close(_gradient(focal, logits, labels), _gradient(_loss("cross_entropy"), logits, labels))


def test_cross_entropy_is_torchs() -> None:
    logits, labels = _batch()
    weights = class_weights((10, 20, 5, 40), "inverse")
    for case, weight in (("cross_entropy", None), ("cross_entropy weighted", weights)):
        expected = functional.cross_entropy(logits, labels.long(), weight, ignore_index=IGNORE)
        torch.testing.assert_close(_loss(case)(logits, labels), expected)


def test_focal_is_its_formula() -> None:
    """Lin et al. 2017, equation 5, pixel by pixel in numpy."""
    logits, labels = _batch()
    p = _softmax(logits.numpy())
    alpha = (0.1, 0.9, 0.5, 0.3)
    terms = [
        -alpha[k] * (1 - p[n, k, i, j]) ** 0.5 * np.log(p[n, k, i, j])
        for (n, i, j), k in np.ndenumerate(labels.numpy())
        if k != IGNORE
    ]
    assert float(_loss("focal by class")(logits, labels)) == pytest.approx(np.mean(terms), rel=1e-12)


def test_one_alpha_scales_and_is_a_vector_of_its_own() -> None:
    logits, labels = _batch()
    one, quarter, vector = (
        make_loss(LossSettings(name="focal", options={"alpha": a}), K)(logits, labels)
        for a in list[Any]((1.0, 0.25, [0.25] * K))
    )
    torch.testing.assert_close(quarter, one / 4)
    torch.testing.assert_close(vector, quarter)


def test_class_weights_multiply_alpha() -> None:
    logits, labels = _batch()
    pixels = (10, 20, 5, 40)
    alpha = (0.25 * class_weights(pixels, "inverse")).tolist()
    weighted = make_loss(LossSettings(name="focal", class_weights="inverse"), K, pixels)
    by_hand = make_loss(LossSettings(name="focal", options={"alpha": alpha}), K)
    torch.testing.assert_close(weighted(logits, labels), by_hand(logits, labels))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True), np.float64)


def _generalized_dice(logits: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    """Sudre et al. 2017, section 2: GDL = 1 - 2 sum_l w_l sum_n r p / sum_l w_l sum_n (r + p), w_l = 1/(sum_n r)^2."""
    valid = labels.ravel() != IGNORE
    p = np.moveaxis(_softmax(logits), 1, -1).reshape(-1, K)[valid]  # (pixels, classes)
    r = np.eye(K)[labels.ravel()[valid]]
    volume = r.sum(axis=0)
    there = volume > 0
    w = 1 / volume[there] ** 2
    numerator = (w * (r * p).sum(axis=0)[there]).sum()
    denominator = (w * (r + p).sum(axis=0)[there]).sum()
    return float(1 - 2 * numerator / denominator)


@given(st.integers(0, 2**32), st.sets(st.integers(0, K - 1), max_size=K - 1), st.floats(0, 0.9))
@settings(max_examples=40, deadline=None)
def test_generalized_dice_is_the_papers(seed: int, absent: set[int], ignored: float) -> None:
    logits, labels = _batch(seed, ignored=ignored)
    for k in absent:
        labels[labels == k] = IGNORE
    if (labels == IGNORE).all():
        labels[0, 0, 0] = min(set(range(K)) - absent)
    expected = _generalized_dice(logits.numpy(), labels.numpy())
    assert float(_loss("generalized_dice")(logits, labels)) == pytest.approx(expected, rel=1e-10)
    single = _loss("generalized_dice")(logits.float(), labels)
    assert float(single) == pytest.approx(expected, abs=1e-5)


def test_dice_is_generalized_dice() -> None:
    logits, labels = _batch()
    named = [make_loss(LossSettings(name=name), K)(logits, labels) for name in ("dice", "generalized_dice")]
    assert torch.equal(*named)


def test_macro_and_pooled_dice_are_their_formulas() -> None:
    logits, labels = _batch(ignored=0)
    p = np.moveaxis(_softmax(logits.numpy()), 1, -1).reshape(-1, K)
    r = np.eye(K)[labels.numpy().ravel()]
    macro = np.mean([1 - 2 * (r * p)[:, k].sum() / (r + p)[:, k].sum() for k in range(K)])
    assert float(_loss("macro_dice")(logits, labels)) == pytest.approx(macro, rel=1e-12)
    pooled = 1 - 2 * (r * p).sum() / (r + p).sum()
    assert float(_loss("pooled_dice")(logits, labels)) == pytest.approx(pooled, rel=1e-12)
    assert float(_loss("pooled_dice")(logits, labels)) == pytest.approx(1 - (r * p).sum(axis=1).mean(), rel=1e-12)


@given(st.integers(0, 2**32), st.floats(0, 0.9), st.floats(0, 2), st.floats(0.1, 2))
@settings(max_examples=25, deadline=None)
def test_tversky_is_its_formula(seed: int, ignored: float, alpha: float, beta: float) -> None:
    """Salehi et al. 2017, equation 3, by class, with sums over labelled pixels; Abraham and Khan 2019, equation 4."""
    logits, labels = _batch(seed, ignored=ignored)
    labels[0, 0, 0] = 1
    valid = labels.numpy().ravel() != IGNORE
    p = np.moveaxis(_softmax(logits.numpy()), 1, -1).reshape(-1, K)[valid]
    r = np.eye(K)[labels.numpy().ravel()[valid]]
    tp, fp, fn = (p * r).sum(axis=0), (p * (1 - r)).sum(axis=0), ((1 - p) * r).sum(axis=0)
    index = (tp / (tp + alpha * fp + beta * fn))[r.sum(axis=0) > 0]
    tversky, focal = (
        make_loss(LossSettings(name=name, options={"alpha": alpha, "beta": beta}), K)
        for name in ("tversky", "focal_tversky")
    )
    assert float(tversky(logits, labels)) == pytest.approx(np.mean(1 - index), rel=1e-9)
    assert float(focal(logits, labels)) == pytest.approx(np.mean((1 - index) ** 0.75), rel=1e-9)


@pytest.mark.parametrize("options", [{"alpha": -0.1}, {"beta": 0.0}, {"beta": -1.0}])
@pytest.mark.parametrize("name", ["tversky", "focal_tversky"])
def test_tverskys_weights_are_positive(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make_loss(LossSettings(name=name, options=options), K)


def test_the_exponent_of_focal_tversky_is_positive() -> None:
    for gamma in (0.0, -0.5):
        with pytest.raises(ConfigError, match="gamma"):
            make_loss(LossSettings(name="focal_tversky", options={"gamma": gamma}), K)


def test_tversky_of_halves_is_macro_dice() -> None:
    logits, labels = _batch()
    halves = make_loss(LossSettings(name="tversky", options={"alpha": 0.5, "beta": 0.5}), K)
    torch.testing.assert_close(halves(logits, labels), _loss("macro_dice")(logits, labels))


def _lovasz(p: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    """Berman et al. 2018, equations 8 and 9 and algorithm 1, by class, for p and labels of all pixels in a row."""
    losses = []
    for k in np.unique(labels):
        there = labels == k
        errors = np.where(there, 1 - p[:, k], p[:, k])
        order = np.argsort(-errors)
        set_values = []  # the Jaccard loss if the first pixels in this order are wrong
        for count in range(len(order) + 1):
            wrong = set(order[:count])
            missed = sum(there[i] for i in wrong)
            set_values.append(1 - (there.sum() - missed) / (there.sum() + len(wrong) - missed))
        losses.append((np.diff(set_values) * errors[order]).sum())
    return float(np.mean(losses))


@given(st.integers(0, 2**32), st.floats(0, 0.9))
@settings(max_examples=25, deadline=None)
def test_lovasz_softmax_is_the_papers(seed: int, ignored: float) -> None:
    logits, labels = _batch(seed, ignored=ignored)
    labels[0, 0, 0] = 1
    valid = labels.numpy().ravel() != IGNORE
    p = np.moveaxis(_softmax(logits.numpy()), 1, -1).reshape(-1, K)[valid]
    expected = _lovasz(p, labels.numpy().ravel()[valid])
    assert float(_loss("lovasz_softmax")(logits, labels)) == pytest.approx(expected, abs=1e-3)


def test_lovasz_softmax_of_a_sure_prediction_is_the_jaccard_loss() -> None:
    _, labels = _batch(ignored=0)
    guess = _batch(seed=1, ignored=0)[1]
    there, said = (np.eye(K)[x.numpy().ravel()] for x in (labels, guess))
    jaccard = (there * said).sum(axis=0) / np.maximum(there, said).sum(axis=0)
    assert float(_loss("lovasz_softmax")(_sure(guess), labels)) == pytest.approx(1 - jaccard.mean(), rel=1e-9)


def test_label_smoothing_is_torchs() -> None:
    logits, labels = _batch()
    for s in (0.0, 0.1, 0.4):
        loss = make_loss(LossSettings(name="label_smoothing", options={"smoothing": s}), K)
        expected = functional.cross_entropy(logits, labels.long(), ignore_index=IGNORE, label_smoothing=s)
        torch.testing.assert_close(loss(logits, labels), expected)


def test_label_smoothing_weights_whole_pixels() -> None:
    """Each pixel's term, by hand, times the weight of its class."""
    logits, labels = _batch()
    weights = class_weights((10, 20, 5, 40), "inverse").numpy()
    log_p = np.log(_softmax(logits.numpy()))
    terms, total = 0.0, 0.0
    for (n, i, j), k in np.ndenumerate(labels.numpy()):
        if k != IGNORE:
            target = np.full(K, 0.1 / K) + 0.9 * np.eye(K)[k]
            terms -= weights[k] * (target * log_p[n, :, i, j]).sum()
            total += weights[k]
    assert float(_loss("label_smoothing weighted")(logits, labels)) == pytest.approx(terms / total, rel=1e-12)


def test_cross_entropy_dice_is_the_sum_of_both() -> None:
    logits, labels = _batch()
    ce, dice = (_loss(name)(logits, labels) for name in ("cross_entropy weighted", "macro_dice"))
    torch.testing.assert_close(_loss("cross_entropy_dice weighted")(logits, labels), ce + 3 * dice)


def test_earth_mover_is_its_formula() -> None:
    """Hou et al. 2016, equation 3, with the classes in an order that is not that of their ids."""
    logits, labels = _batch()
    order = (3, 0, 2, 1)
    p = _softmax(logits.numpy())
    terms = []
    for (n, i, j), k in np.ndenumerate(labels.numpy()):
        if k != IGNORE:
            predicted = np.cumsum(p[n, order, i, j])
            terms.append(((predicted - np.cumsum(np.eye(K)[k, list(order)])) ** 2).sum())
    loss = make_loss(LossSettings(name="earth_mover"), K, order=order)
    assert float(loss(logits, labels)) == pytest.approx(np.mean(terms), rel=1e-12)


def test_earth_mover_costs_more_the_farther_a_type_is() -> None:
    """Sure of another class: as many as the steps along the order."""
    labels = torch.zeros(1, 2, 2, dtype=torch.uint8)
    costs = [float(_loss("earth_mover")(_sure(torch.full_like(labels, k)), labels)) for k in range(K)]
    assert costs == pytest.approx([0, 1, 2, 3])


def test_dice_losses_differ() -> None:
    logits, labels = _batch()
    labels[0] = 1  # unequal classes
    assert len({round(float(_loss(name)(logits, labels)), 6) for name in DICE}) == 3


# What all of them keep


@pytest.mark.parametrize("case", [case for case in CASES if "smoothing" not in case])
def test_perfect_prediction_costs_nothing(case: str) -> None:
    _, labels = _batch()
    costs = [float(_loss(case)(_sure(labels, by), labels)) for by in (1.0, 5.0, 20.0, 1000.0)]
    assert costs[0] > costs[1] > costs[2] >= costs[3]
    assert costs[-1] == pytest.approx(0, abs=1e-9)
    gradient = _gradient(_loss(case), _sure(labels), labels)
    assert gradient.abs().max() < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_wrong_and_sure_costs_much_and_is_finite(case: str) -> None:
    _, labels = _batch()
    wrong = _sure(torch.where(labels == IGNORE, labels, (labels + 1) % K)).float()
    cost, gradient = _loss(case)(wrong, labels), _gradient(_loss(case), wrong, labels)
    assert cost.isfinite() and gradient.isfinite().all()
    assert float(cost) > (0.99 if case.startswith(BOUNDED) or case == "focal_tversky" else 50)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_to_learn_from_is_0_with_a_gradient_of_0(case: str, dtype: torch.dtype) -> None:
    logits, labels = _batch(dtype=dtype)
    labels[:] = IGNORE
    assert float(_loss(case)(logits, labels)) == 0
    gradient = _gradient(_loss(case), logits, labels)
    assert gradient.shape == logits.shape and (gradient == 0).all()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("garbage", [1e30, -1e30, 0.0])
def test_ignored_pixels_change_nothing(case: str, garbage: float) -> None:
    loss = _loss(case)
    logits, labels = _batch(dtype=torch.float32)
    value, gradient = loss(logits, labels), _gradient(loss, logits, labels)
    ignored = (labels == IGNORE)[:, None].expand_as(logits)
    other = torch.where(ignored, garbage * torch.arange(K)[:, None, None], logits)
    assert torch.equal(loss(other, labels), value)
    assert torch.equal(_gradient(loss, other, labels), gradient)
    assert (gradient[ignored] == 0).all()
    # nor does it matter how many there are
    wider = functional.pad(logits, (3, 0, 0, 5), value=garbage)
    torch.testing.assert_close(loss(wider, functional.pad(labels, (3, 0, 0, 5), value=IGNORE)), value)


@pytest.mark.parametrize("case", CASES)
def test_not_a_number_stays_one(case: str) -> None:
    """Training stops at it; a loss of 0 would hide it."""
    logits, labels = _batch()
    labels[0, 0, 0] = 1
    logits[0, :, 0, 0] = float("nan")
    assert _loss(case)(logits, labels).isnan()


@pytest.mark.parametrize("case", CASES)
def test_gradcheck(case: str) -> None:
    logits, labels = _batch(n=1, size=(3, 4))
    labels[labels == 3] = 0  # a class is absent
    loss = _loss(case)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), logits.requires_grad_())


@pytest.mark.parametrize("case", CASES)
def test_half_precision_agrees(case: str) -> None:
    """Logits rounded to bf16 give what they give in float32: no step of the loss is in bf16."""
    logits, labels = _batch(size=(64, 64), dtype=torch.bfloat16)
    half, single, double = (_loss(case)(x, labels) for x in (logits, logits.float(), logits.double()))
    assert (half.dtype, single.dtype, double.dtype) == (torch.float32, torch.float32, torch.float64)
    assert torch.equal(half, single)
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0)
    exact = _batch(size=(64, 64))[0]
    torch.testing.assert_close(double, _loss(case)(exact, labels), rtol=2**-8, atol=0)
    gradient = _gradient(_loss(case), logits, labels)
    assert gradient.dtype == torch.bfloat16
    if case == "lovasz_softmax":  # an error near the border of two bins falls into one or the other
        return
    expected = _gradient(_loss(case), logits.double(), labels)
    torch.testing.assert_close(gradient.double(), expected, rtol=2**-7, atol=1e-8)


@given(st.sampled_from(sorted(CASES)), st.integers(0, 2**32), st.integers(1, 6), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_sums_add_up(case: str, seed: int, cut: int, ignored: float) -> None:
    """Over crops, and over tiles of one: what several processes hold need not be the same."""
    loss = _loss(case)
    logits, labels = _batch(seed, n=3, ignored=ignored)
    whole = loss.sums(logits, labels)
    assert whole.ndim == 1
    tiles = [(logits[..., :cut, :], labels[:, :cut]), (logits[..., cut:, :], labels[:, cut:])]
    for parts in (tiles, list(zip(logits.split(1), labels.split(1), strict=True))):
        added = torch.stack([loss.sums(*part) for part in parts]).sum(dim=0)
        torch.testing.assert_close(added, whole, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(loss.value(added), loss(logits, labels), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_reduced_sums_give_the_whole_batchs_value_and_gradient(case: str) -> None:
    """Two processes with unequal numbers of labelled pixels: each adds the other's sums before dividing."""
    loss = _loss(case)
    logits, labels = _batch(n=2)
    labels[0, :5] = IGNORE
    value, gradient = loss(logits, labels), _gradient(loss, logits, labels)
    for k, other in ((0, 1), (1, 0)):
        theirs = loss.sums(logits[other : other + 1], labels[other : other + 1])
        leaf = logits[k : k + 1].clone().requires_grad_()
        mine = loss(leaf, labels[k : k + 1], reduce=lambda sums, theirs=theirs: sums + theirs)  # type: ignore[misc]
        mine.backward()
        torch.testing.assert_close(mine, value)
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, gradient[k : k + 1])


@given(st.sampled_from(sorted(CASES)), st.permutations(range(K)), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_class_ids_are_only_names(case: str, order: list[int], seed: int) -> None:
    """Renumbering the classes renumbers the gradient and changes nothing else."""
    logits, labels = _batch(seed)
    pixels = [10, 20, 5, 40]
    given_here = {"name": case} | CASES[case]
    renamed = dict(given_here)
    if "alpha" in given_here.get("options", {}):
        renamed["options"] = given_here["options"] | {"alpha": [given_here["options"]["alpha"][k] for k in order]}
    to = torch.full((256,), IGNORE, dtype=torch.uint8)
    to[torch.tensor(order)] = torch.arange(K, dtype=torch.uint8)  # the class `order[k]` is now called k
    loss = _loss(case, pixels)
    thickness = [order.index(k) for k in range(K)]
    other = make_loss(LossSettings(**renamed), K, [pixels[k] for k in order], order=thickness)
    moved = to[labels.int()]
    torch.testing.assert_close(other(logits[:, order], moved), loss(logits, labels))
    torch.testing.assert_close(_gradient(other, logits[:, order], moved), _gradient(loss, logits, labels)[:, order])


@pytest.mark.parametrize("case", CASES)
def test_memory_format_changes_nothing(case: str) -> None:
    logits, labels = _batch()
    last = logits.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(_loss(case)(last, labels), _loss(case)(logits, labels))


@pytest.mark.parametrize("case", CASES)
def test_descent_learns(case: str) -> None:
    """Following the gradient of the logits reaches the labels."""
    _, labels = _batch()
    logits = torch.zeros(2, K, 7, 9, requires_grad=True)
    optimiser = torch.optim.Adam([logits], 0.3)
    for _ in range(40):
        optimiser.zero_grad()
        _loss(case)(logits, labels).backward()
        optimiser.step()
    valid = labels != IGNORE
    assert (logits.argmax(dim=1)[valid] == labels[valid]).all()


# Classes that are not there


@given(st.integers(0, 2**32), st.integers(0, K - 1))
@settings(max_examples=25, deadline=None)
def test_absent_classes_neither_help_nor_hurt_macro_dice(seed: int, absent: int) -> None:
    """A class that neither labels nor prediction hold: the loss is that of the other classes alone."""
    logits, labels = _batch(seed)
    labels[labels == absent] = IGNORE
    logits[:, absent] = -1e4
    rest = [k for k in range(K) if k != absent]
    to = torch.full((256,), IGNORE, dtype=torch.uint8)
    to[torch.tensor(rest)] = torch.arange(K - 1, dtype=torch.uint8)
    alone = make_loss(LossSettings(name="macro_dice"), K - 1)(logits[:, rest], to[labels.int()])
    torch.testing.assert_close(_loss("macro_dice")(logits, labels), alone)
    alone = make_loss(LossSettings(name="generalized_dice"), K - 1)(logits[:, rest], to[labels.int()])
    torch.testing.assert_close(_loss("generalized_dice")(logits, labels), alone)


@pytest.mark.parametrize("name", DICE)
def test_predicting_an_absent_class_costs(name: str) -> None:
    _, labels = _batch()
    labels[labels == 2] = IGNORE
    right = _sure(labels)
    wrong = right.clone()
    wrong[:, 2, :2] = 2000
    assert float(_loss(name)(wrong, labels)) > float(_loss(name)(right, labels)) + 0.01
    assert _gradient(_loss(name), 0.01 * right, labels)[:, 2].sum() > 0  # descent takes probability from it


# Weights of the classes


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=9).filter(any), st.floats(0, 0.99999999))
@settings(max_examples=60, deadline=None)
def test_weights_have_mean_1_and_favour_the_rare(pixels: list[int], beta: float) -> None:
    n = np.array(pixels)
    present = n > 0
    order = np.argsort(n[present])
    for scheme in ("inverse", "effective_number"):
        w = class_weights(pixels, scheme, beta).numpy()
        assert np.isfinite(w).all()
        assert w[present].mean() == pytest.approx(1)
        assert (w[~present] == 0).all() and (w[present] > 0).all()
        assert (np.diff(w[present][order]) <= 1e-12).all()
    assert class_weights(pixels, "none").tolist() == [1] * len(pixels)


def test_weights_are_their_formulas() -> None:
    n = np.array([100, 1000, 50])
    inverse = 1 / n
    np.testing.assert_allclose(class_weights(list(n), "inverse"), inverse / inverse.mean())
    effective = (1 - 0.99) / (1 - 0.99 ** n.astype(float))  # Cui et al. 2019, equation 2
    np.testing.assert_allclose(class_weights(list(n), "effective_number", 0.99), effective / effective.mean())


def test_effective_number_goes_from_equal_to_inverse() -> None:
    n = (100, 1000, 50)
    np.testing.assert_allclose(class_weights(n, "effective_number", 0.0), [1, 1, 1])
    nearly = class_weights(n, "effective_number", 1 - 1e-9)
    np.testing.assert_allclose(nearly, class_weights(n, "inverse"), rtol=1e-5)


def test_a_class_absent_from_training_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        weights = class_weights((10, 0, 5, 0), "inverse")
    assert (weights[[1, 3]] == 0).all()
    assert "no training pixel has class 1, 3" in caplog.text


# Refusals


def test_refuses_an_unknown_loss() -> None:
    with pytest.raises(ConfigError, match="no loss is called 'tverski'") as e:
        make_loss(LossSettings(name="tverski"), K)
    assert all(name in str(e.value) for name in LOSSES)


@pytest.mark.parametrize(
    ("given_here", "message"),
    [
        ({"name": "focal", "options": {"alpha": [0.1, 0.2]}}, "alpha of the focal loss has 2 numbers for 4 classes"),
        ({"name": "focal", "options": {"alpha": -1.0}}, "alpha of the focal loss is -1.0"),
        ({"name": "focal", "options": {"alpha": float("nan")}}, "alpha of the focal loss is nan"),
        ({"name": "focal", "options": {"alpha": [0.0] * 4}}, "not all 0"),
        ({"name": "focal", "options": {"gama": 1}}, r"'gama' is unknown \(did you mean 'gamma'\?\)"),
        ({"name": "focal", "options": {"gamma": "two"}}, "gamma"),
        ({"name": "focal", "options": {"gamma": -1}}, "gamma"),
        ({"name": "cross_entropy", "options": {"gamma": 1}}, "for cross_entropy: the key 'gamma' is unknown"),
        ({"name": "dice", "class_weights": "inverse"}, "dice takes no class weights, but class_weights is 'inverse'"),
        (
            {"name": "cross_entropy", "class_weights": "inverse"},
            "need the number of training pixels of each of the 4 classes",
        ),
    ],
)
def test_refuses_settings_that_do_not_fit(given_here: dict[str, Any], message: str) -> None:
    pixels = (1, 1, 1, 1) if "dice" in given_here["name"] else (1, 1, 1)
    with pytest.raises(ConfigError, match=message):
        make_loss(LossSettings(**given_here), K, pixels)


def test_options_of_the_focal_loss_at_their_old_place_are_refused_with_the_new_one() -> None:
    with pytest.raises(ConfigError, match=r"options = \{ gamma = ... \}"):
        LossSettings.checked(name="focal", gamma=2.0)


def test_refuses_weights_of_nothing() -> None:
    with pytest.raises(TrainingError, match="no pixel of the training parts has a class"):
        class_weights((0, 0), "inverse")
    with pytest.raises(ConfigError, match=r"'sqrt'.*none, inverse, effective_number"):
        class_weights((1, 2), "sqrt")
    with pytest.raises(ConfigError, match=r"beta of the effective number is 1\.0"):
        class_weights((1, 2), "effective_number", 1.0)


@pytest.mark.parametrize("case", CASES)
def test_refuses_a_label_that_is_no_class(case: str) -> None:
    logits, labels = _batch()
    labels[0, 0, :3] = K
    with pytest.raises(TrainingError, match="3 pixels have labels up to 4; the 4 classes end at 3"):
        _loss(case)(logits, labels)
    with pytest.raises(TrainingError, match="3 pixels"):
        check_labels(labels.numpy(), K)
    check_labels(np.array([[0, K - 1, IGNORE]], np.uint8), K)


@pytest.mark.parametrize("shape", [(2, K + 1, 7, 9), (2, K, 7, 8), (1, K, 7, 9), (2, K, 63)])
def test_refuses_shapes_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(TrainingError, match="do not fit 4 classes"):
        _loss("cross_entropy")(torch.zeros(shape), _batch()[1])


def test_a_class_of_a_single_pixel_counts_in_dice() -> None:
    """By hand: two pixels of 1/K each; of either class one, so r p is 1/K, r is 1 and p is 2/K."""
    labels = torch.tensor([[[0, 1, IGNORE]]], dtype=torch.uint8)
    each = 1 - 2 / K / (1 + 2 / K)
    for name in ("macro_dice", "generalized_dice"):
        assert float(_loss(name)(torch.zeros(1, K, 1, 3), labels)) == pytest.approx(each)


@pytest.mark.parametrize("case", CASES)
def test_many_equal_pixels_give_the_value_of_one_in_float32(case: str) -> None:
    """No sum is built pixel by pixel in float32, where what is added to a large sum is rounded to its last digit."""
    logits = torch.linspace(-0.1, 0.2, K)[None, :, None, None]
    labels = torch.tensor([0, 0, 0, 2], dtype=torch.uint8).view(1, 2, 2)
    small = _loss(case)(logits.expand(1, K, 2, 2).double(), labels)
    large = _loss(case)(logits.expand(1, K, 640, 640), labels.repeat(1, 320, 320))
    torch.testing.assert_close(large.double(), small, rtol=1e-5, atol=0)
