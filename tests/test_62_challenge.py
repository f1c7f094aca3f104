"""The AI4Arctic challenge's scores, against their definitions written out on pixels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from workshop import run

from floemap.datasets.ai4arctic.scenes import charted_twice, official
from floemap.errors import ProductError
from floemap.evaluation.scoring.challenge import CLASSES, challenge_scores, service_agreement
from floemap.evaluation.scoring.confusion import confusion
from floemap.simulation.ai4arctic_scene import SimulatedScene

Classes = NDArray[np.uint8]


def drawn(rng: np.random.Generator, classes: int) -> tuple[Classes, Classes]:
    """A chart of unevenly frequent classes with gaps, and a prediction that is right in two thirds."""
    chart = np.minimum(rng.geometric(0.3, (40, 50)) - 1, classes - 1).astype(np.uint8)
    other = rng.integers(0, classes, chart.shape)
    predicted = np.where(rng.random(chart.shape) < 0.66, chart, other).astype(np.uint8)
    chart[rng.random(chart.shape) < 0.2] = 255
    return chart, predicted


def r2(reference: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
    return 1 - float(((reference - prediction) ** 2).sum() / ((reference - reference.mean()) ** 2).sum())


def weighted_f1(reference: Classes, prediction: Classes) -> float:
    total = 0.0
    for k in np.unique(reference):
        true = ((reference == k) & (prediction == k)).sum()
        precision, recall = true / max((prediction == k).sum(), 1), true / (reference == k).sum()
        total += (reference == k).sum() * (2 * precision * recall / (precision + recall) if true else 0)
    return float(total / reference.size)


def test_scores_are_those_of_pooled_pixels() -> None:
    rng = np.random.default_rng(11)
    pairs = {chart: [drawn(rng, n) for _ in range(3)] for chart, n in CLASSES.items()}
    found = challenge_scores({c: [confusion(a, b, CLASSES[c]) for a, b in scenes] for c, scenes in pairs.items()})
    flat = {}
    for chart, scenes in pairs.items():
        reference, prediction = (np.concatenate([s[k].ravel() for s in scenes]) for k in (0, 1))
        flat[chart] = reference[reference != 255], prediction[reference != 255]
    assert found.sic == pytest.approx(r2(*(v.astype(float) for v in flat["SIC"])), abs=1e-9)
    assert found.sod == pytest.approx(weighted_f1(*flat["SOD"]), abs=1e-9)
    assert found.floe == pytest.approx(weighted_f1(*flat["FLOE"]), abs=1e-9)
    assert found.combined == pytest.approx((2 * found.sic + 2 * found.sod + found.floe) / 5, abs=1e-12)
    assert found.pixels == {chart: reference.size for chart, (reference, _) in flat.items()}


def test_undefined_scores_are_none() -> None:
    water = np.zeros((4, 4), np.uint8)
    found = challenge_scores({"SIC": [confusion(water, water, 11)], "SOD": [confusion(water, water, 6)]})
    assert (found.sic, found.sod, found.floe, found.combined) == (None, 1.0, None, None)


def test_two_services_on_one_product(ai4arctic_set: tuple[SimulatedScene, ...], tmp_path: Path) -> None:
    """The second chart is the first with a block of water where the first has it otherwise; names tell the services."""
    pair = charted_twice((*official()["train"], *official()["test"]))[0]
    paths = [tmp_path / f"SIMULATED_{scene.ready}" for scene in pair]
    for path in paths:
        shutil.copy(ai4arctic_set[0].ready, path)
    with h5py.File(paths[1], "r+") as f:
        before = f["SOD"][:]
        f["SOD"][40:60, 30:80] = 0
        after = f["SOD"][:]
    found = service_agreement(*paths)
    both = before != 255, after != 255
    common = both[0] & both[1]
    assert found["CIS"]["SIC_r2"] == found["DMI"]["SIC_r2"] == 1
    assert found["CIS"]["SOD_weighted_f1"] == pytest.approx(weighted_f1(before[common], after[common]), abs=1e-9)
    assert found["DMI"]["SOD_weighted_f1"] == pytest.approx(weighted_f1(after[common], before[common]), abs=1e-9)
    assert found["CIS"]["SOD_weighted_f1"] < 1
    with pytest.raises(ProductError, match="two services on one product"):
        service_agreement(paths[0], paths[0])
    told = run("fetch", "ai4arctic", "--check", tmp_path, "--agreement", "--json")
    assert json.loads(told.stdout)["agreement"] == [found]
    said = run("fetch", "ai4arctic", "--check", tmp_path, "--agreement").stdout
    assert f"SOD_weighted_f1 {100 * found['CIS']['SOD_weighted_f1']:.1f} %" in " ".join(said.split())
    paths[1].unlink()
    assert "no two ready-to-train files" in run("fetch", "ai4arctic", "--check", tmp_path, "--agreement").output
