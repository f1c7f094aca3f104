"""Losses that read polygons: laws that each must keep, and what they are in the simplest cases."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from floemap.errors import ConfigError, TrainingError
from floemap.learning.data.polygons import Polygons, PolygonShares, PolygonTables, tensor_of_ids
from floemap.learning.losses import LOSSES, make_loss
from floemap.learning.losses.base import BaseLoss
from floemap.learning.settings import LossSettings
from floemap.legend import IGNORE

CASES: dict[str, dict[str, Any]] = {
    "soft_cross_entropy": {},
    "partial_label": {},
    "partial_label unrefined": {"name": "partial_label", "options": {"refine": False, "gamma": 0.5}},
    "region": {},
    "region earth_mover": {"name": "region", "options": {"distance": "earth_mover", "whole": False}},
    "region_pixel": {},
    "region_pixel mixed": {
        "name": "region_pixel",
        "options": {"curriculum": [0.9, 0.65], "entropy": 0.3, "mixed": True},
    },
}
K, P = 4, 5


def _loss(case: str, **options: Any) -> BaseLoss:
    given_here = {"name": case} | CASES[case]
    return make_loss(LossSettings(**(given_here | {"options": given_here.get("options", {}) | options})), K)


def _batch(seed: int = 0, n: int = 2, size: tuple[int, int] = (7, 9)) -> tuple[Tensor, Tensor, Polygons]:
    """Logits, labels of which none is needed, and polygons of one type, of several, partly and all unknown."""
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, K, *size, generator=g, dtype=torch.float64)
    ids = torch.randint(0, P + 1, (n, *size), generator=g).to(torch.int16)
    shares = torch.zeros(n, P + 1, K)
    shares[:, 1, 2] = 1
    shares[:, 2, :3] = torch.tensor([0.5, 0.3, 0.2])
    shares[:, 3, 1:] = torch.tensor([0.4, 0.0, 0.2])  # 0.4 is unknown
    shares[:, 4] = torch.tensor([0.1, 0.7, 0.1, 0.1])
    candidates = shares > 0
    candidates[:, 3, 2] = True  # named, without a concentration
    pixels = torch.full((n, P + 1), 40.0)
    return logits, torch.full((n, *size), IGNORE, dtype=torch.uint8), Polygons(ids, shares, candidates, pixels)


def _with(polygons: Polygons, **changes: Tensor) -> Polygons:
    return Polygons(**({k: getattr(polygons, k) for k in ("ids", "shares", "candidates", "pixels")} | changes))


def _part(polygons: Polygons, crops: slice = slice(None), rows: slice = slice(None)) -> Polygons:
    """Some crops, or the same tables with some rows of the ids."""
    tables = {k: getattr(polygons, k)[crops] for k in ("shares", "candidates", "pixels")}
    return Polygons(polygons.ids[crops, rows], **tables)


def _gradient(loss: BaseLoss, logits: Tensor, labels: Tensor, polygons: Polygons) -> Tensor:
    leaf = logits.clone().requires_grad_()
    loss(leaf, labels, polygons).backward()
    assert leaf.grad is not None
    return leaf.grad


def _single_types(seed: int) -> tuple[Tensor, Tensor, Polygons]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, K, (2, 7, 9), generator=g).to(torch.uint8)
    labels[torch.rand(labels.shape, generator=g) < 0.2] = IGNORE
    return 2 * torch.randn(2, K, 7, 9, generator=g, dtype=torch.float64), labels, Polygons.of_labels(labels, K)


def test_all_losses_that_read_polygons_are_tried() -> None:
    assert {case.split()[0] for case in CASES} == {name for name, cls in LOSSES.items() if cls.reads_polygons}


# Polygons of one type, or of one pixel


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_polygons_of_one_type_give_the_hard_loss(seed: int) -> None:
    logits, labels, polygons = _single_types(seed)
    hard = make_loss(LossSettings(name="cross_entropy"), K)
    focal = make_loss(LossSettings(name="focal", options={"alpha": 1.0, "gamma": 2.0}), K)
    for soft, known in (
        (_loss("soft_cross_entropy"), hard),
        (_loss("partial_label", gamma=0), hard),
        (_loss("partial_label"), focal),
        (_loss("partial_label unrefined", gamma=2.0), focal),
    ):
        torch.testing.assert_close(soft(logits, labels, polygons), known(logits, labels))
        leaf = logits.clone().requires_grad_()
        known(leaf, labels).backward()
        torch.testing.assert_close(_gradient(soft, logits, labels, polygons), leaf.grad)


def test_the_pixel_term_of_one_type_is_cross_entropy() -> None:
    """region_pixel less region; pixels of one type have no entropy term."""
    logits, labels, polygons = _single_types(1)
    both = _loss("region_pixel", pixel=3.0)(logits, labels, polygons)
    hard = make_loss(LossSettings(name="cross_entropy"), K)(logits, labels)
    torch.testing.assert_close(both, _loss("region")(logits, labels, polygons) + 3 * hard)


def test_polygons_of_one_pixel_give_the_soft_cross_entropy_less_the_entropy_of_the_shares() -> None:
    g = torch.Generator().manual_seed(3)
    n, side = 2, 4
    logits = torch.randn(n, K, side, side, generator=g, dtype=torch.float64)
    shares = torch.rand(n, side * side + 1, K, generator=g)
    shares = shares / shares.sum(dim=2, keepdim=True)
    ids = torch.arange(1, side * side + 1).reshape(1, side, side).expand(n, -1, -1).to(torch.int16)
    polygons = Polygons(ids, shares, shares > 0, torch.ones(n, side * side + 1))
    labels = torch.full((n, side, side), IGNORE, dtype=torch.uint8)
    exact = shares[:, 1:].double()
    entropy = -(exact * exact.log()).sum(dim=2).mean()
    soft = _loss("soft_cross_entropy")
    torch.testing.assert_close(
        _loss("region")(logits, labels, polygons), soft(logits, labels, polygons) - entropy, rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(
        _gradient(_loss("region"), logits, labels, polygons),
        _gradient(soft, logits, labels, polygons),
        rtol=1e-5,
        atol=1e-8,
    )


# What they are


def _softmax(logits: Tensor) -> Any:
    e = np.exp(logits.numpy() - logits.numpy().max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("distance", ["kl", "earth_mover"])
def test_region_is_its_formula(whole: bool, distance: str) -> None:
    logits, labels, polygons = _batch()
    p, order = _softmax(logits), (3, 0, 2, 1)
    total, weights = 0.0, 0.0
    for crop in range(2):
        for polygon in range(1, P + 1):
            inside = polygons.ids[crop].numpy() == polygon
            f = polygons.shares[crop, polygon].double().numpy()
            known = f.sum()
            if not known or not inside.any():
                continue
            weight = inside.sum() * known * (inside.sum() / 40 if whole else 1)
            m, g = p[crop][:, inside].mean(axis=1), f / known
            if distance == "kl":
                cost = sum(g[k] * np.log(g[k] / m[k]) for k in range(K) if g[k] > 0)
            else:
                cost = ((np.cumsum(m[list(order)]) - np.cumsum(g[list(order)])) ** 2).sum()
            total, weights = total + weight * cost, weights + weight
    options: dict[str, Any] = {"distance": distance, "whole": whole}
    loss = make_loss(LossSettings(name="region", options=options), K, order=order)
    assert float(loss(logits, labels, polygons)) == pytest.approx(total / weights, rel=1e-6)


@pytest.mark.parametrize("refine", [True, False])
def test_partial_label_is_its_formula(refine: bool) -> None:
    logits, labels, polygons = _batch()
    p = _softmax(logits)
    terms = []
    for (n, i, j), polygon in np.ndenumerate(polygons.ids.numpy()):
        f, may = polygons.shares[n, polygon].double().numpy(), polygons.candidates[n, polygon].numpy()
        if not may.any():
            continue
        w = np.where(may, f + (1 - f.sum()) / may.sum(), 0)
        if f.max() >= 0.65:
            w = (f == f.max()).astype(float)
        q = w * p[n, :, i, j] if refine else w
        q = q / q.sum()
        terms.append(-sum(q[k] * (1 - p[n, k, i, j]) ** 1.5 * np.log(p[n, k, i, j]) for k in range(K)))
    loss = make_loss(LossSettings(name="partial_label", options={"gamma": 1.5, "refine": refine}), K)
    assert float(loss(logits, labels, polygons)) == pytest.approx(np.mean(terms), rel=1e-6)


def test_the_entropy_term_is_that_of_pixels_in_polygons_of_several_types() -> None:
    logits, labels, polygons = _batch()
    p, ids = _softmax(logits), polygons.ids.numpy()
    mixed = np.isin(ids, [2, 3])  # the purest type of 4 has 0.7, 5 is all unknown
    entropy = -(p * np.log(p)).sum(axis=1)[mixed].mean()
    with_term, without = (_loss("region_pixel", entropy=e, pixel=0.0)(logits, labels, polygons) for e in (0.5, 0.0))
    assert float(with_term - without) == pytest.approx(0.5 * entropy, rel=1e-6)


def test_the_refined_target_follows_the_prediction_without_a_gradient() -> None:
    """At a pixel of 50 : 50, the gradient pulls to the class that the prediction prefers; unrefined, it pulls back."""
    shares = torch.tensor([[[0.0] * K, [0.5, 0.5, 0, 0]]])
    polygons = Polygons(torch.ones(1, 1, 1, dtype=torch.int16), shares, shares > 0, torch.ones(1, 2))
    logits = torch.tensor([1.0, 0.0, -9.0, -9.0]).reshape(1, K, 1, 1).double()
    labels = torch.full((1, 1, 1), IGNORE, dtype=torch.uint8)
    refined = _gradient(_loss("partial_label", gamma=0), logits, labels, polygons)
    assert refined.abs().max() < 1e-3  # the target is what is predicted already, but for the other classes
    back = _gradient(_loss("partial_label", gamma=0, refine=False), logits, labels, polygons)
    assert back[0, 0] > 0.2 and back[0, 1] < -0.2


def test_curriculum_begins_with_the_purest_and_ends_with_all() -> None:
    logits, labels, polygons = _batch()
    steps = {"curriculum": [0.9, 0.65], "curriculum_epochs": 2, "mixed": True}
    loss, every = _loss("region_pixel", **steps), _loss("region_pixel", mixed=True)
    pixels = []
    for epoch in (0, 1, 2, 3, 4, None):
        loss.epoch = epoch
        pixels.append(float(loss.sums(logits, labels, polygons)[1]))
    ids = polygons.ids
    counts = [float(torch.isin(ids, torch.tensor(kept, dtype=torch.int16)).sum()) for kept in ([1], [1, 4])]
    whole = float(every.sums(logits, labels, polygons)[1])
    assert pixels == pytest.approx([counts[0], counts[0], counts[1], counts[1], whole, whole])
    assert counts[0] < counts[1] < whole
    assert float(_loss("region_pixel").sums(logits, labels, polygons)[1]) == counts[1]  # from the share `pure` on


# What all of them keep


@pytest.mark.parametrize("case", CASES)
def test_what_is_unknown_changes_nothing(case: str) -> None:
    """Pixels without a polygon, and polygons of which nothing is known: no value and no gradient."""
    loss = _loss(case)
    logits, labels, polygons = _batch()
    value, gradient = loss(logits, labels, polygons), _gradient(loss, logits, labels, polygons)
    unknown = (polygons.ids == 0) | (polygons.ids == P)
    assert unknown.any() and (gradient[unknown[:, None].expand_as(gradient)] == 0).all()
    other = torch.where(unknown[:, None], 1e3 * torch.arange(K)[:, None, None].double(), logits)
    torch.testing.assert_close(loss(other, labels, polygons), value)
    torch.testing.assert_close(_gradient(loss, other, labels, polygons), gradient)


@pytest.mark.parametrize("case", ["soft_cross_entropy", "region", "region earth_mover"])
@pytest.mark.parametrize("known", [0.9, 0.3])
def test_an_unknown_share_lowers_the_weight_only(case: str, known: float) -> None:
    logits, labels, polygons = _batch()
    one = _with(polygons, ids=torch.where(polygons.ids == 2, 2, 0).to(torch.int16))
    less = _with(one, shares=one.shares * known)
    torch.testing.assert_close(_loss(case)(logits, labels, less), _loss(case)(logits, labels, one), rtol=1e-5, atol=0)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_polygons_is_only_names(case: str, seed: int) -> None:
    logits, labels, polygons = _batch(seed)
    order = [0, *(1 + np.random.default_rng(seed).permutation(P)).tolist()]
    to = torch.tensor(np.argsort(order), dtype=torch.int16)
    renamed = Polygons(
        to[polygons.ids.int()], polygons.shares[:, order], polygons.candidates[:, order], polygons.pixels[:, order]
    )
    torch.testing.assert_close(_loss(case)(logits, labels, renamed), _loss(case)(logits, labels, polygons))


@pytest.mark.parametrize("case", CASES)
def test_longer_tables_change_nothing(case: str) -> None:
    logits, labels, polygons = _batch()
    pad = torch.nn.functional.pad
    longer = Polygons(
        polygons.ids,
        pad(polygons.shares, (0, 0, 0, 3), value=0.25),
        pad(polygons.candidates, (0, 0, 0, 3), value=True),
        pad(polygons.pixels, (0, 3), value=9.0),
    )
    torch.testing.assert_close(_loss(case)(logits, labels, longer), _loss(case)(logits, labels, polygons))


@given(st.sampled_from(sorted(CASES)), st.integers(0, 2**32), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_tiles_add_up_to_the_whole(case: str, seed: int, cut: int) -> None:
    """Strips of a scene: their sums add up before they are condensed."""
    loss = _loss(case)
    logits, labels, polygons = _batch(seed, n=1)
    found = [
        loss.sums(logits[:, :, rows], labels[:, rows], _part(polygons, rows=rows))
        for rows in (slice(0, cut), slice(cut, None))
    ]
    value = loss.value(loss.condensed(found[0] + found[1], polygons))
    torch.testing.assert_close(value, loss(logits, labels, polygons), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_processes_that_share_a_batch_get_its_value_and_gradient(case: str) -> None:
    """Each adds the other's condensed sums before dividing."""
    loss = _loss(case)
    logits, labels, polygons = _batch()
    value, gradient = loss(logits, labels, polygons), _gradient(loss, logits, labels, polygons)
    for k, other in ((0, 1), (1, 0)):
        mine, theirs = (slice(i, i + 1) for i in (k, other))
        their = _part(polygons, theirs)
        sums = loss.condensed(loss.sums(logits[theirs], labels[theirs], their), their)
        leaf = logits[mine].clone().requires_grad_()
        here = loss(leaf, labels[mine], _part(polygons, mine), reduce=partial(torch.add, sums))
        here.backward()
        torch.testing.assert_close(here, value)
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, gradient[mine])


@pytest.mark.parametrize("case", CASES)
def test_gradcheck(case: str) -> None:
    """No gradient flows through a target that follows the prediction: here it does not."""
    unrefined = {"refine": False} if case.startswith("partial") else {"pixel": 0.0} if "pixel" in case else {}
    loss = _loss(case, **unrefined)
    logits, labels, polygons = _batch(n=1, size=(3, 4))
    polygons = _with(polygons, shares=polygons.shares.double(), pixels=polygons.pixels.double())
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, polygons), logits.requires_grad_())


@pytest.mark.parametrize("case", CASES)
def test_half_precision_agrees(case: str) -> None:
    logits, labels, polygons = _batch(size=(64, 64))
    logits = logits.bfloat16()
    half, single, double = (_loss(case)(x, labels, polygons) for x in (logits, logits.float(), logits.double()))
    assert (half.dtype, single.dtype, double.dtype) == (torch.float32, torch.float32, torch.float64)
    assert torch.equal(half, single)
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-6)
    gradient = _gradient(_loss(case), logits, labels, polygons)
    expected = _gradient(_loss(case), logits.double(), labels, polygons)
    torch.testing.assert_close(gradient.double(), expected, rtol=2**-6, atol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_nothing_to_learn_from_is_0_with_a_gradient_of_0(case: str) -> None:
    logits, labels, polygons = _batch()
    nothing = _with(polygons, ids=torch.zeros_like(polygons.ids))
    assert float(_loss(case)(logits, labels, nothing)) == 0
    assert (_gradient(_loss(case), logits, labels, nothing) == 0).all()


@pytest.mark.parametrize("case", CASES)
def test_sure_and_wrong_costs_much_and_is_finite(case: str) -> None:
    logits, labels, polygons = _batch()
    wrong = torch.full_like(logits, 0.0).float()
    wrong[:, 3] = 1000.0
    polygons = _with(polygons, ids=torch.where(polygons.ids == 1, 1, 0).to(torch.int16))
    cost = _loss(case)(wrong, labels, polygons)
    assert cost.isfinite() and _gradient(_loss(case), wrong, labels, polygons).isfinite().all()
    assert float(cost) > (0.5 if "earth_mover" in case else 20)


@pytest.mark.parametrize("case", CASES)
def test_not_a_number_stays_one(case: str) -> None:
    logits, labels, polygons = _batch()
    ids = polygons.ids.clone()
    ids[0, 0, 0] = 2
    logits[0, :, 0, 0] = float("nan")
    assert _loss(case)(logits, labels, _with(polygons, ids=ids)).isnan()


@pytest.mark.parametrize("case", CASES)
def test_descent_reaches_the_shares(case: str) -> None:
    """Following the gradient, the mean prediction of each polygon comes near its known shares."""
    _, labels, polygons = _batch(n=1)
    polygons = _with(polygons, ids=torch.where(polygons.ids == 2, 2, 1).to(torch.int16))
    g = torch.Generator().manual_seed(5)
    logits = (0.1 * torch.randn(1, K, 7, 9, generator=g)).requires_grad_()
    optimiser = torch.optim.Adam([logits], 0.1)
    loss = _loss(case)
    for _ in range(150):
        optimiser.zero_grad()
        loss(logits, labels, polygons).backward()
        optimiser.step()
    p = logits.detach().softmax(dim=1)[0]
    assert p[:, polygons.ids[0] == 1].mean(dim=1)[2] > 0.9
    mixed = p[:, polygons.ids[0] == 2].mean(dim=1)
    assert mixed[3] < 0.05
    if case == "region_pixel mixed":  # the refined target favours the most common type
        assert mixed[0] > 0.65
    elif case.startswith(("soft", "region")):
        assert mixed[:3].tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.15)


# Tables and refusals


def test_ids_of_16_bits_reach_their_rows() -> None:
    """Also beyond 32,767, where int16 of the same bits is negative."""
    ids = np.array([[0, 1, 40_000, 65_535]], np.uint16)
    shares = np.zeros((65_536, 2), np.float32)
    shares[40_000, 1] = shares[65_535, 0] = 1
    table = PolygonShares(shares, shares > 0, np.ones(65_536, np.int64))
    short = PolygonShares(shares[:1], shares[:1] > 0, np.ones(1, np.int64))
    polygons = PolygonTables([short, table]).of(tensor_of_ids(ids).expand(2, -1, -1), [0, 1])
    rows = polygons.shares.flatten(0, 1)[polygons.index]
    assert rows[1, 0].tolist() == [[0, 0], [0, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize("case", CASES)
def test_missing_or_other_polygons_are_refused(case: str) -> None:
    logits, labels, polygons = _batch()
    with pytest.raises(TrainingError, match="there are none"):
        _loss(case)(logits, labels)
    with pytest.raises(TrainingError, match="they have ids of"):
        _loss(case)(logits[..., :5], labels[..., :5], polygons)
    with pytest.raises(TrainingError, match="4 classes"):
        _loss(case)(logits, labels, _with(polygons, shares=polygons.shares[..., :2]))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("region", {"distance": "l1"}),
        ("partial_label", {"pure": 0.4}),
        ("partial_label", {"gamma": -1}),
        ("region_pixel", {"curriculum": [0.5, 0.9]}),
        ("region_pixel", {"curriculum": [1.5]}),
        ("region_pixel", {"entropy": -0.1}),
        ("soft_cross_entropy", {"gamma": 1}),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make_loss(LossSettings(name=name, options=options), K)


@pytest.mark.parametrize("case", CASES)
def test_many_equal_pixels_give_the_value_of_one_in_float32(case: str) -> None:
    """No sum is built pixel by pixel in float32, where what is added to a large sum is rounded to its last digit."""
    side, p = 640, torch.tensor([0.62, 0.021, 0.2, 0.159])
    shares = torch.tensor([[[0.0] * K, [0.5, 0.1, 0.3, 0.1]]])
    values = []
    for size, dtype in ((1, torch.float64), (side, torch.float32)):
        ids = torch.ones((1, size, size), dtype=torch.int16)
        polygons = Polygons(ids, shares, shares > 0, torch.tensor([[0.0, size**2]]))
        logits = p.log().to(dtype)[None, :, None, None].expand(1, K, size, size)
        values.append(_loss(case)(logits, torch.zeros((1, size, size), dtype=torch.uint8), polygons).double())
    torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=1e-7)
