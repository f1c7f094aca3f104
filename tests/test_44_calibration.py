"""Temperature scaling: the fit against its definition, who counts how much, and what cannot be fitted."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tiny_model import ABOUT, scene, tiny_settings
from torch.nn import functional
from workshop import Inputs

from floemap.errors import ConfigError, ModelError
from floemap.learning.calibration.sample import PER_POLYGON, polygon_ids, sample_part
from floemap.learning.calibration.temperature import MOST, PolygonSample, fit_temperature
from floemap.learning.data.parts import PartArrays, ScenePart, load_part
from floemap.learning.data.resident import ResidentParts
from floemap.learning.losses.registry import make_loss
from floemap.learning.models.checkpoint import load_checkpoint, save_checkpoint
from floemap.learning.models.checkpoint_header import METADATA_KEY, calibration_of, describe_checkpoint, read_about
from floemap.learning.models.registry import build_model
from floemap.learning.settings import LossSettings, ModelSettings
from floemap.learning.training.calibrate import calibrate
from floemap.learning.training.distributed import make_fabric
from floemap.learning.training.loop import train
from floemap.learning.training.state import RECORD, STATE, WEIGHTS
from floemap.learning.whole_scene.logits import array_reader, scene_logits
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.results.stage import read_json

pytestmark = pytest.mark.usefixtures("tiny_is_a_model")


def drawn(temperature: float, n: int = 40_000, classes: int = 4, seed: int = 0) -> PolygonSample:
    """Labels drawn from softmax(logits / temperature), in polygons of as many pixels each."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 3, (n, classes)).astype(np.float32)
    p = np.exp(z / temperature)
    p /= p.sum(axis=1, keepdims=True)
    labels = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, classes - 1)
    polygon = np.arange(n) % 100
    return PolygonSample(z, labels.astype(np.uint8), polygon, np.bincount(polygon))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5, 8.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    found = fit_temperature(drawn(temperature))
    assert found.reason is None and found.value == pytest.approx(temperature, rel=0.03)
    assert found.log_loss is not None and found.log_loss[1] <= found.log_loss[0]
    assert found.counted == pytest.approx(100)


def test_no_other_temperature_has_a_lower_loss_of_torch() -> None:
    """The oracle: torch's cross-entropy, weighted by hand, on a fine grid of temperatures."""
    sample = drawn(1.6, n=3000)
    found = fit_temperature(sample)
    z, y = torch.from_numpy(sample.logits).double(), torch.from_numpy(sample.labels).long()

    def loss(t: float) -> float:
        return float(functional.cross_entropy(z / t, y))

    assert found.log_loss == pytest.approx((loss(1.0), loss(found.value)), rel=1e-9)
    assert all(loss(found.value) <= loss(t) + 1e-9 for t in np.geomspace(0.2, 20, 400))


def test_a_polygon_counts_by_its_pixels_but_not_for_more_than_its_limit() -> None:
    """By hand: one polygon of 900 pixels and 25 of 4 count as 50 and 4, MOST of all 1000 being 50."""
    assert MOST == 0.05
    pixels = np.array([900, *[4] * 25])
    polygon = np.concatenate([np.zeros(10, np.int64), np.repeat(np.arange(1, 26), 2)])
    sample = PolygonSample(np.zeros((60, 3), np.float32), np.zeros(60, np.uint8), polygon, pixels)
    assert sample.weights() == pytest.approx([5.0] * 10 + [2.0] * 50)
    counted = (50 + 25 * 4) ** 2 / (50**2 + 25 * 4**2)
    assert fit_temperature(sample).counted == pytest.approx(counted)


def test_polygons_of_several_parts_stay_apart() -> None:
    one = PolygonSample(np.ones((2, 3), np.float32), np.array([0, 1], np.uint8), np.array([0, 1]), np.array([5, 6]))
    both = PolygonSample.joined([one, one])
    assert both.polygon.tolist() == [0, 1, 2, 3] and both.pixels.tolist() == [5, 6, 5, 6]


def _all_right(n: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    labels = (np.arange(n) % 3).astype(np.uint8)
    return np.eye(3, dtype=np.float32)[labels], labels


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("empty", "no labelled pixel"),
        ("one class", "all of one class"),
        ("constant", "equal logits"),
        ("all right", "hardly any validation pixel that was drawn is wrong"),
        ("all wrong", "do not follow from the logits"),
        ("not finite", "not finite"),
    ],
)
def test_what_cannot_be_fitted_leaves_the_probabilities_and_says_why(what: str, words: str) -> None:
    logits, labels = _all_right(0 if what == "empty" else 60)
    if what == "one class":
        labels[:] = 1
    elif what == "constant":
        logits[:] = 2.5
    elif what == "all wrong":
        logits = -logits
    elif what == "not finite":
        logits[3, 1] = math.inf
    polygon = np.arange(len(labels)) // 6
    found = fit_temperature(PolygonSample(logits, labels, polygon, np.bincount(polygon)))
    assert found.value == 1.0 and found.reason is not None and words in found.reason
    assert found.to_json()["reason"] == found.reason and "log_loss" not in found.to_json()


# The sample


def test_a_sample_holds_few_pixels_of_each_polygon_with_the_logits_of_the_whole_scene() -> None:
    arrays = scene("a", 1, (300, 90))
    model = build_model(ModelSettings(name="tiny"), 6).eval()
    ids = polygon_ids(arrays, arrays)
    with torch.inference_mode(), scene_logits(model, array_reader(arrays.stored), ids.shape) as logits:
        sample = sample_part(logits, arrays, ids, seed=3)
        whole = logits.rows(0, 300).numpy()
    assert len(sample.pixels) == 3  # three classes in blocks
    assert sample.pixels.tolist() == [int((arrays.labels == k).sum()) for k in (0, 3, 5)]
    sampled = np.bincount(sample.polygon)
    assert (np.abs(sampled - PER_POLYGON) < 6 * math.sqrt(PER_POLYGON)).all()
    assert (np.array([0, 3, 5])[sample.polygon] == sample.labels).all()
    known = {tuple(z) for z in whole[:, arrays.labels != IGNORE].T.round(4).tolist()}
    assert {tuple(z) for z in sample.logits.round(4).tolist()} <= known


def test_polygons_are_the_charts_where_labels_have_them_else_areas_of_one_class(tmp_path: Path) -> None:
    labels = np.array([[0, 0, 1, IGNORE, 0]], np.uint8)
    arrays = PartArrays("p", np.zeros((3, 1, 5), np.int16), labels)
    areas = polygon_ids(arrays, arrays)
    assert areas[0, 3] == 0 and areas[0, 0] == areas[0, 1]
    assert len({areas[0, 0], areas[0, 2], areas[0, 4], 0}) == 4
    ids = np.array([[1, 2, 3, 3, 0]], np.uint16)
    with_ids = PartArrays("p", arrays.stored, labels, ids)
    found = polygon_ids(with_ids, with_ids)
    assert found[0, 3] == 0 and len(set(found[0].tolist())) == 5


def test_the_temperature_is_the_same_whether_parts_are_read_from_files_or_kept_in_memory(
    workshop: Inputs, tmp_path: Path
) -> None:
    labels = Path(shutil.copy(workshop.labels / "labels.tif", tmp_path))
    with rasterio.open(workshop.labels / "polygons.tif") as d:
        ids, profile = d.read(1), d.profile
    ids[: len(ids) // 2] += ids.max() * (ids[: len(ids) // 2] > 0)  # every polygon is two that touch
    with rasterio.open(tmp_path / "polygons.tif", "w", **profile) as d:
        d.write(ids, 1)
    part = ScenePart("a", workshop.prepared / "product.tif", labels)
    model, fabric = build_model(ModelSettings(name="tiny"), 6).eval(), make_fabric("cpu", "fp32")
    by_files, in_memory = (calibrate(model, parts, fabric) for parts in ([part], ResidentParts([part])))
    assert by_files == in_memory
    assert by_files["polygons"] == len(np.unique(ids[load_part(part).labels != IGNORE]))


# Training


def trained(out: Path, loss: str = "cross_entropy", **training: Any) -> dict[str, Any]:
    settings = tiny_settings(**training).model_copy(update={"loss": LossSettings(name=loss)})
    train([scene("a", 1), scene("b", 2)], [scene("v", 3, (61, 70))], settings, SIX_CLASSES, out, about=ABOUT)
    return read_about(out / WEIGHTS)


def test_training_calibrates_on_its_validation_parts_unless_told_not_to(tmp_path: Path) -> None:
    with_it, without = trained(tmp_path / "yes"), trained(tmp_path / "no", calibrate=False)
    found = with_it["calibration"]
    assert found["parts"] == ["v"] and found["polygons"] == 3 and found["log_loss"][1] <= found["log_loss"][0]
    assert read_json(tmp_path / "yes" / RECORD)["calibration"] == found
    assert "calibration" not in without and calibration_of(without).temperature == 1.0
    a, b = (load_file(tmp_path / folder / WEIGHTS) for folder in ("yes", "no"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    words = dict(describe_checkpoint(tmp_path / "yes" / WEIGHTS)[1])["probabilities"]
    assert words == f"temperature {found['temperature']:g}, fitted on 3 validation polygons"
    assert dict(describe_checkpoint(tmp_path / "no" / WEIGHTS)[1])["probabilities"] == "not calibrated"


def test_a_training_calibrates_by_season_if_it_is_told_to(tmp_path: Path) -> None:
    """The month of a part in memory is not known: each quarter has the values of the year."""
    plain, by_season = trained(tmp_path / "plain"), trained(tmp_path / "season", calibrate="season")
    found = dict(by_season["calibration"])
    seasons = found.pop("seasons")
    assert found == plain["calibration"] and len(seasons) == 4
    assert [s["polygons"] for s in seasons] == [0] * 4 and all(s["offsets"] == seasons[0]["offsets"] for s in seasons)
    a, b = (load_file(tmp_path / folder / WEIGHTS) for folder in ("plain", "season"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert (
        ", and by season, fitted on 3" in dict(describe_checkpoint(tmp_path / "season" / WEIGHTS)[1])["probabilities"]
    )
    with pytest.raises(ConfigError, match=r"calibrate is .seasons.: season, or true or false is needed"):
        tiny_settings(calibrate="seasons")


def test_a_training_stopped_before_its_record_is_calibrated_alike_when_resumed(tmp_path: Path) -> None:
    before = trained(tmp_path)["calibration"]
    (tmp_path / RECORD).unlink()
    assert (tmp_path / STATE).is_file() and trained(tmp_path)["calibration"] == before


def test_training_refits_the_temperature_of_the_checkpoint_that_it_starts_from(tmp_path: Path) -> None:
    trained(tmp_path / "first")
    model = {"start_from": str(tmp_path / "first" / WEIGHTS)}
    settings = tiny_settings(model, calibrate=False)
    train([scene("c", 5)], [scene("d", 6)], settings, SIX_CLASSES, tmp_path / "second", about=ABOUT)
    assert "calibration" not in read_about(tmp_path / "second" / WEIGHTS)


def test_the_temperature_is_the_one_of_the_validation_logits(tmp_path: Path) -> None:
    """The oracle: all pixels of the part, weighted by hand, torch's loss, on a grid of temperatures."""
    part = scene("v", 3, (61, 70))
    trained(tmp_path, max_epochs=1)
    model = load_checkpoint(tmp_path / WEIGHTS).model
    found = calibrate(model, [part], make_fabric("cpu", "fp32"))
    x = torch.from_numpy(part.stored).float() * 0.01
    x[torch.from_numpy(part.stored) == np.iinfo(np.int16).min] = math.nan
    with torch.inference_mode():
        z = model(x[None])[0]
    counts = [(part.labels == k).sum() for k in (0, 3, 5)]
    limit = MOST * sum(counts)

    def loss(t: float) -> float:
        labels = torch.from_numpy(part.labels).long()[None]
        each = functional.cross_entropy(z[None] / t, labels, reduction="none", ignore_index=IGNORE)[0]
        means = [float(each[torch.from_numpy(part.labels == k)].mean()) for k in (0, 3, 5)]
        shares = [min(n, limit) for n in counts]
        return float(np.average(means, weights=shares))

    grid = np.geomspace(0.02, 50, 300)
    best = grid[int(np.argmin([loss(t) for t in grid]))]
    if "reason" in found:
        assert best in (grid[0], grid[-1])
    else:
        assert found["temperature"] == pytest.approx(best, rel=0.25)  # of a sample of 64 pixels a polygon
        assert loss(found["temperature"]) < loss(1.0) + 1e-3


# Damaged checkpoints


@pytest.mark.parametrize("value", [0, 0.0, -1.5, math.nan, math.inf, "1.2", None, True, [1.0]])
def test_a_damaged_temperature_is_refused_by_whoever_reads_the_model(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, build_model(ModelSettings(name="tiny"), 6), dict(ABOUT) | {"legend": SIX_CLASSES.name})
    about = read_about(path) | {"calibration": {"temperature": value}}
    save_file(load_file(path), path, {METADATA_KEY: json.dumps(about)})
    for read in (read_about, load_checkpoint, describe_checkpoint):
        with pytest.raises(ModelError, match=r"m\.safetensors.*temperature is") as caught:
            read(path)
        assert caught.value.hint


@pytest.mark.parametrize("value", [None, 3, [], "warm", {}])
def test_a_damaged_calibration_is_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, build_model(ModelSettings(name="tiny"), 6), dict(ABOUT) | {"legend": SIX_CLASSES.name})
    save_file(load_file(path), path, {METADATA_KEY: json.dumps(read_about(path) | {"calibration": value})})
    with pytest.raises(ModelError, match="damaged calibration"):
        read_about(path)


# Losses


def overconfidence(loss: str) -> tuple[float, tuple[float, float]]:
    """Fit a slope and biases to labels drawn by chance; return temperature and log losses on labels drawn anew.

    The labels are of two classes whose true logits are 0 and 2 x. Cross-entropy finds the slope of 2; what overlap
    losses gain by being surer than that has no end.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.from_numpy(rng.normal(0, 1, (1, 1, 60, 60))).float()
        y = torch.from_numpy(rng.random((1, 60, 60))) < torch.sigmoid(2 * x[:, 0])
        return x, y.to(torch.uint8)

    x, y = draw()
    network = torch.nn.Conv2d(1, 2, 1)
    made = make_loss(LossSettings(name=loss), 2, [int((y == k).sum()) for k in (0, 1)])
    adam = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(400):
        adam.zero_grad()
        made(network(x), y).backward()
        adam.step()
    x, y = draw()
    with torch.no_grad():
        z = network(x)[0].flatten(1).T.numpy()
    polygon = np.arange(len(z)) % 50
    found = fit_temperature(PolygonSample(z, y.flatten().numpy(), polygon, np.bincount(polygon)))
    assert found.log_loss is not None
    return found.value, found.log_loss


def test_losses_whose_logits_are_not_likelihoods_gain_most() -> None:
    plain, losses = overconfidence("cross_entropy")
    assert plain == pytest.approx(1, abs=0.12) and losses[0] - losses[1] < 0.01
    for name in ("dice", "lovasz_softmax"):
        temperature, (before, after) = overconfidence(name)
        assert temperature > 2 and before - after > 0.1, name
        assert after == pytest.approx(losses[1], abs=0.02)  # all that was wrong with them was the slope
