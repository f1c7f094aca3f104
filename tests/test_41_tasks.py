"""Losses of values, and the total loss of several heads."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from floemap.errors import ConfigError, TrainingError
from floemap.icechart.label.polygon_values import VALUES, column_of
from floemap.learning.data.polygons import Polygons
from floemap.learning.losses import make_loss
from floemap.learning.losses.base import BaseLoss
from floemap.learning.losses.tasks import TaskLosses, task_losses
from floemap.learning.losses.values import VALUE_LOSSES, ValueLoss
from floemap.learning.settings import LearningSettings, LossSettings
from floemap.learning.targets import Head, heads_of
from floemap.moments import moments, value_scores, value_scores_by_name

K = 4


def _settings(**given: Any) -> LearningSettings:
    return LearningSettings.checked(**given)


BOTH = {"concentration": {"target": "concentration", "weight": 0.2}}
ALL = BOTH | {"shares": {"target": "fractions", "weight": 3.0, "loss": "region"}}


def _batch(seed: int = 0, n: int = 3, size: tuple[int, int] = (7, 9), channels: int = K + 1) -> Any:
    """Random logits, labels and polygons, some of unknown concentration, some pixels without a polygon."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, channels, *size, generator=g, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, K, (n, *size), generator=g).to(torch.uint8)
    labels[:, 0] = 255
    ids = torch.randint(0, 6, (n, *size), generator=g).to(torch.int16)
    shares = torch.rand(n, 6, K, generator=g, dtype=torch.float64)
    shares /= shares.sum(dim=2, keepdim=True)
    shares[:, 0] = 0
    values = torch.rand(n, 6, len(VALUES), generator=g, dtype=torch.float64)
    values[:, 0] = values[1, 3] = torch.nan
    return logits, labels, Polygons(ids, shares, shares > 0, torch.full((n, 6), 50.0), values)


def _wanted(polygons: Polygons) -> Tensor:
    """The concentration of each pixel, by plain indexing."""
    assert polygons.values is not None
    column = column_of("concentration")
    crops = [v[i.long(), column] for i, v in zip(polygons.ids, polygons.values, strict=True)]
    return torch.stack(crops)


# Losses of values


@pytest.mark.parametrize(
    ("name", "torchs"),
    [
        ("mse", functional.mse_loss),
        ("mae", functional.l1_loss),
        ("huber", lambda a, b: functional.huber_loss(a, b, delta=0.1)),
    ],
)
def test_a_loss_of_values_is_torchs_over_the_known_pixels(name: str, torchs: Any) -> None:
    logits, _, polygons = _batch()
    wanted = _wanted(polygons)
    known = wanted.isfinite()
    assert 0 < known.sum() < known.numel()
    loss = VALUE_LOSSES[name]()
    value = loss.value(loss.sums(logits[:, 0], wanted))
    expected = torchs(logits[:, 0][known], wanted[known])
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    for one, other in zip(*(torch.autograd.grad(v, logits) for v in (value, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_all_losses_of_values_are_tried() -> None:
    assert set(VALUE_LOSSES) == {"huber", "mse", "mae"}


@pytest.mark.parametrize("name", VALUE_LOSSES)
def test_without_a_known_value_loss_and_gradient_are_0(name: str) -> None:
    predicted = torch.randn(2, 3, 3, requires_grad=True)
    loss = VALUE_LOSSES[name]()
    value = loss.value(loss.sums(predicted, torch.full((2, 3, 3), torch.nan)))
    (gradient,) = torch.autograd.grad(value, predicted)
    assert float(value.detach()) == 0 and not gradient.any()


def test_values_of_another_shape_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"values of \(2, 3, 3\) are predicted, and \(2, 3, 4\) wanted"):
        VALUE_LOSSES["mse"]().sums(torch.zeros(2, 3, 3), torch.zeros(2, 3, 4))


# The total


def test_one_head_gives_its_loss_to_the_bit() -> None:
    logits, labels, _ = _batch(channels=K)
    logits = logits.float().detach().requires_grad_()
    plain = make_loss(LossSettings(), K)(logits, labels)
    losses = task_losses(_settings(), K)
    each = losses(logits, labels)
    assert each.shape == (1,) and torch.equal(losses.total(each), plain)
    one, other = (torch.autograd.grad(v, logits)[0] for v in (plain, losses.total(each)))
    assert torch.equal(one, other)


def test_the_total_is_the_weighted_sum_of_the_losses_of_each_head() -> None:
    logits, labels, polygons = _batch(channels=2 * K + 1)
    losses = task_losses(_settings(tasks=ALL), K)
    assert losses.names == ["ice_type", "concentration", "shares"]
    each = losses(logits, labels, polygons)
    known = _wanted(polygons).isfinite()
    by_hand = [
        make_loss(LossSettings(), K)(logits[:, :K], labels),
        functional.huber_loss(logits[:, K][known], _wanted(polygons)[known], delta=0.1),
        make_loss(LossSettings(name="region"), K)(logits[:, K + 1 :], labels, polygons),
    ]
    for one, other in zip(each, by_hand, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(losses.total(each), by_hand[0] + 0.2 * by_hand[1] + 3.0 * by_hand[2])


def test_sums_add_up_over_tiles_and_processes() -> None:
    logits, labels, polygons = _batch(channels=2 * K + 1)
    losses = task_losses(_settings(tasks=ALL), K)
    whole = losses(logits, labels, polygons)

    def part(crops: slice, rows: slice = slice(None)) -> Any:
        tables = (x[crops] for x in (polygons.shares, polygons.candidates, polygons.pixels, polygons.values))
        return logits[crops][:, :, rows], labels[crops][:, rows], Polygons(polygons.ids[crops][:, rows], *tables)

    tiles = [losses.sums(*part(slice(None), rows)) for rows in (slice(0, 3), slice(3, 7))]
    together = losses.condensed([a + b for a, b in zip(*tiles, strict=True)], polygons)
    torch.testing.assert_close(losses.values(together), whole)
    # Two processes: each is given the sums of both.
    shares = [part(slice(0, 1)), part(slice(1, 3))]
    others = [torch.cat(losses.condensed(losses.sums(*s), s[2])) for s in shares]
    for mine, other in zip(shares, reversed(others), strict=True):
        torch.testing.assert_close(losses(mine[0], mine[1], mine[2], partial(torch.add, other)), whole)


def test_the_gradient_of_a_head_is_that_of_its_loss_alone() -> None:
    logits, labels, polygons = _batch()
    losses = task_losses(_settings(tasks=BOTH), K)
    (together,) = torch.autograd.grad(losses.total(losses(logits, labels, polygons)), logits)
    (alone,) = torch.autograd.grad(make_loss(LossSettings(), K)(logits[:, :K], labels), logits)
    torch.testing.assert_close(together[:, :K], alone[:, :K])
    unknown = ~_wanted(polygons).isfinite()
    assert together[:, K][unknown].abs().max() == 0 and together[:, K][~unknown].abs().max() > 0


def test_a_model_of_too_few_channels_is_refused() -> None:
    logits, labels, polygons = _batch(channels=K)
    with pytest.raises(TrainingError, match=r"heads \(ice_type, concentration\) need \(N, 5, H, W\)"):
        task_losses(_settings(tasks=BOTH), K)(logits, labels, polygons)


def test_heads_without_polygons_are_refused() -> None:
    logits, labels, polygons = _batch()
    losses = task_losses(_settings(tasks=BOTH), K)
    for given in (None, Polygons(polygons.ids, polygons.shares, polygons.candidates, polygons.pixels)):
        with pytest.raises(TrainingError, match="the head concentration learns concentration from"):
            losses(logits, labels, given)


def test_losses_that_change_with_the_epoch_are_told_it() -> None:
    losses = task_losses(_settings(tasks=ALL), K)
    for epoch in (3, None):
        losses.set_epoch(epoch)
        assert {t.loss.epoch for t in losses.tasks if isinstance(t.loss, BaseLoss)} == {epoch}


# Heads and settings


def test_heads_begin_with_the_classes() -> None:
    head = Head("ice_type", "class", K)
    assert heads_of({}, K) == (head,)
    settings = _settings(tasks=ALL | {"kind_of_ice": {"target": "class", "weight": 0.5}})
    heads = heads_of(settings.tasks, K)
    assert [(h.name, h.kind, h.channels) for h in heads] == [
        ("kind_of_ice", "class", K),
        ("concentration", "value", 1),
        ("shares", "fractions", K),
    ]
    assert [t.weight for t in task_losses(settings, K).tasks] == [0.5, 0.2, 3.0]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"ice": {"target": "klass"}}, r"tasks.ice.target is 'klass', which is not known \(did you mean 'class'\?\)"),
        ({"a": {"target": "class"}, "b": {"target": "class"}}, "a and b both have the target class"),
        ({"c": {"target": "concentration", "weight": 0}}, "tasks.c.weight is 0: it must be greater than 0"),
        ({"c": {"target": "concentration", "weight": -1.5}}, "tasks.c.weight is -1.5: it must be greater than 0"),
        ({"c": {"target": "concentration", "weight": math.nan}}, "tasks.c.weight is nan"),
        ({"c": {"target": "concentration", "weight": math.inf}}, "tasks.c.weight is inf"),
        ({"ice": {"target": "class", "loss": "focal"}}, r"the loss of the target class is that of \[loss\]"),
        ({"ice": {"target": "class", "options": {"gamma": 1}}}, r"the loss of the target class is that of \[loss\]"),
        ({"classes": {"target": "concentration"}}, "'classes' is already the name of another result"),
        ({"../c": {"target": "concentration"}}, "'../c' is not a valid name"),
        ({"C": {"target": "concentration"}}, "'C' is not a valid name"),
        ({"ice_type": {"target": "concentration"}}, "ice_type is the name of the head of the target class"),
        ({"c": {"weight": 1}}, "tasks.c.target' is missing"),
        ({"c": {"target": "concentration", "wait": 1}}, "'tasks.c.wait' is unknown"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(tasks: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _settings(tasks=tasks)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": {"name": "huber"}}, "huber is a loss of values"),
        (
            {"tasks": {"c": {"target": "concentration", "loss": "focal"}}},
            "tasks.c.loss: focal is a loss of classes, not of values",
        ),
        ({"tasks": {"c": {"target": "concentration", "loss": "huberr"}}}, "huberr is not the name of a loss of values"),
        (
            {"tasks": {"c": {"target": "concentration", "options": {"delta": 0}}}},
            r"\[tasks.c.options\] for huber: delta is 0",
        ),
        (
            {"tasks": {"c": {"target": "concentration", "loss": "mse", "options": {"delta": 1}}}},
            r"\[tasks.c.options\] for mse: the key 'delta' is unknown",
        ),
        ({"tasks": {"f": {"target": "fractions", "loss": "mae"}}}, "mae is a loss of values"),
        (
            {"tasks": {"f": {"target": "fractions", "loss": "dice"}}},
            "tasks.f.loss is dice, which does not read shares",
        ),
        ({"tasks": {"f": {"target": "fractions", "loss": "none:Such"}}}, "tasks.f.loss: there is no module none"),
        ({"tasks": {"c": {"target": "concentration", "loss": "none:Such"}}}, "tasks.c.loss: there is no module none"),
        ({"training": {"monitor": "concentration"}}, "training.monitor is 'concentration', which is not a head"),
    ],
)
def test_losses_that_do_not_fit_their_target_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        task_losses(_settings(**given), K)


def test_a_loss_of_ones_own_for_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_values.py").write_text(
        "from floemap.learning.losses import ValueLoss\n\n\n"
        "class Fourth(ValueLoss):\n    def terms(self, predicted, wanted):\n        return (predicted - wanted) ** 4\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = _settings(tasks={"c": {"target": "concentration", "loss": "own_values:Fourth"}})
    logits, labels, polygons = _batch()
    losses = task_losses(settings, K)
    known = _wanted(polygons).isfinite()
    expected = ((logits[:, K] - _wanted(polygons))[known] ** 4).mean()
    torch.testing.assert_close(losses(logits, labels, polygons)[1], expected)
    assert isinstance(losses.tasks[1].loss, ValueLoss)


# Scores of values


def test_scores_from_moments_are_those_of_the_pixels() -> None:
    rng = np.random.default_rng(3)
    x = rng.random(500)
    y = x + rng.normal(0.05, 0.1, 500)
    halves = [np.array(moments(x[s], y[s])) for s in (slice(0, 123), slice(123, 500))]
    found = value_scores_by_name(halves[0] + halves[1])
    assert found["r2"] == pytest.approx(1 - ((y - x) ** 2).sum() / ((x - x.mean()) ** 2).sum())
    assert found["rmse"] == pytest.approx(np.sqrt(((y - x) ** 2).mean()))
    assert found["mae"] == pytest.approx(np.abs(y - x).mean())
    assert found["bias"] == pytest.approx((y - x).mean())
    np.testing.assert_allclose(value_scores(np.stack(halves))[1], value_scores(halves[1]))


def test_scores_are_undefined_where_there_is_nothing_or_no_spread() -> None:
    assert value_scores_by_name(np.zeros(7)) == dict.fromkeys(("r2", "rmse", "mae", "bias"))
    same = value_scores_by_name(np.array(moments(np.full(9, 0.1), np.full(9, 0.3))))
    assert same["r2"] is None and same["bias"] == pytest.approx(0.2) and same["rmse"] == pytest.approx(0.2)


def test_losses_of_a_plain_loss() -> None:
    loss = make_loss(LossSettings(name="dice"), K)
    losses = TaskLosses.of(loss)
    assert losses.classes == K and losses.names == ["ice_type"] and losses.tasks[0].loss is loss
