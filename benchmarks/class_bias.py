"""Calibration by more than a temperature, on held-out scenes by season: the second table of docs/calibration.md.

    floemap simulate twin --size small --seed 4711 --out other
    python benchmarks/class_bias.py other OUT DATA model.safetensors ...

DATA holds the prepared products, labels and parts that the models learnt from. For each model the validation parts give
a temperature, from 64 and from 1024 pixels a polygon; a temperature and a bias for each class (vector scaling); and the
same with a normal prior of standard deviation 1 on the biases, which adds sum of b^2 / (2 n) to the mean log loss, n
being the number of polygons that count. Printed are the calibration errors of the twin's scenes by season, the share of
pixels that are right, and of those whose class changes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from calibration import SEASONS, parts_of
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from floemap.evaluation.checks.confidence import BINS
from floemap.learning.calibration import sample
from floemap.learning.calibration.temperature import PolygonSample, fit_temperature
from floemap.learning.data.parts import ScenePart, load_part
from floemap.learning.models.checkpoint import Checkpoint, load_checkpoint
from floemap.learning.whole_scene.logits import array_reader, scene_logits
from floemap.legend import IGNORE
from floemap.sentinel1.settings import PrepareSettings
from floemap.study.data import make_data
from floemap.study.settings import DataSettings

Floats = NDArray[np.float64]
#: A factor for the logits, and a bias for each class.
Scaling = tuple[float, Floats | float]


def sampled(found: Checkpoint, parts: list[ScenePart], per_polygon: int) -> PolygonSample:
    """Draw so many pixels of each polygon of the parts, with their logits."""
    sample.PER_POLYGON = per_polygon
    samples = []
    for i, part in enumerate(parts):
        arrays = load_part(part)
        ids = sample.polygon_ids(part, arrays)
        with scene_logits(found.model, array_reader(arrays.stored), ids.shape, precision="fp32") as scene:
            samples.append(sample.sample_part(scene, arrays, ids, seed=i))
    return PolygonSample.joined(samples)


def vector_scaling(s: PolygonSample, ridge: float) -> Scaling:
    """Fit a factor and a bias for each class; `ridge` times the sum of the squared biases is added to the loss."""
    z, y = s.logits.astype(np.float64), s.labels.astype(np.int64)
    w, rows = s.weights() / s.weights().sum(), np.arange(len(s.labels))

    def loss(v: Floats) -> tuple[float, Floats]:
        factor, bias = np.exp(v[0]), v[1:]
        likelihood = log_softmax(z * factor + bias, axis=1)
        slope = np.exp(likelihood)
        slope[rows, y] -= 1
        slope *= w[:, None]
        value = float(-w @ likelihood[rows, y] + ridge * bias @ bias)
        return value, np.concatenate([[factor * (slope * z).sum()], slope.sum(axis=0) + 2 * ridge * bias])

    found = minimize(loss, np.zeros(z.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return float(np.exp(found[0])), found[1:]


def candidates(found: Checkpoint, parts: list[ScenePart]) -> dict[str, Scaling]:
    """Return the scalings by name."""
    few, many = (sampled(found, parts, n) for n in (64, 1024))
    fitted = fit_temperature(few)
    return {
        "none": (1.0, 0.0),
        "temperature": (1 / fitted.value, 0.0),
        "temperature, 1024 px": (1 / fit_temperature(many).value, 0.0),
        "vector": vector_scaling(few, 0.0),
        "vector, prior": vector_scaling(few, 1 / (2 * fitted.counted)),
    }


def gaps(p: Floats, labels: NDArray[np.uint8]) -> Floats:
    """Return right pixels minus sum of probability in each bin of the chosen class's probability."""
    chosen = p.max(axis=1)
    index = np.minimum((chosen * BINS).astype(int), BINS - 1)
    return np.bincount(index, (p.argmax(axis=1) == labels) - chosen, BINS)


def main() -> None:
    """Print a line for each model and scaling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("twin", "out", "data"):
        parser.add_argument(name, type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    given = parser.parse_args()
    for path in given.models:
        found = load_checkpoint(path)
        prepare = PrepareSettings(resolution_m=found.resolution_m, crs=found.about["crs"])
        settings = DataSettings(folder=given.twin, legend=found.legend.name, prepare=prepare)
        scalings = candidates(found, parts_of(found.about, given.data)["validation"])
        counted: dict[str, dict[int, Floats]] = {name: {} for name in scalings}
        changed, right, pixels = dict.fromkeys(scalings, 0), dict.fromkeys(scalings, 0), dict[int, int]()
        for scene in make_data(settings, given.out / "data"):
            arrays = load_part(ScenePart(scene.name, scene.raster, scene.labels / "labels.tif"))
            rows = len(arrays.labels)
            with scene_logits(
                found.model, array_reader(arrays.stored), arrays.labels.shape, precision="fp32"
            ) as logits:
                here = logits.valid(0, rows) & (arrays.labels != IGNORE)
                strips = [logits.rows(r, min(r + 256, rows)).numpy() for r in range(0, rows, 256)]
            z, labels = (
                np.concatenate(strips, axis=1)[: len(found.legend), here].T.astype(np.float64),
                arrays.labels[here],
            )
            pixels[scene.start.month] = len(labels)
            for name, (factor, bias) in scalings.items():
                scaled = z * factor + bias
                counted[name][scene.start.month] = gaps(softmax(scaled, axis=1), labels)
                changed[name] += int((scaled.argmax(axis=1) != z.argmax(axis=1)).sum())
                right[name] += int((scaled.argmax(axis=1) == labels).sum())
        for name, by_month in counted.items():
            errors = [
                np.abs(sum(by_month[m] for m in months)).sum() / sum(pixels[m] for m in months)
                for months in (*SEASONS.values(), tuple(pixels))
            ]
            shares = (f"{n[name] / sum(pixels.values()):.4f}" for n in (right, changed))
            print(path.parts[-3], f"{name:20}", *(f"{e:.3f}" for e in errors), *shares, flush=True)


if __name__ == "__main__":
    main()
