"""Calibration and out-of-distribution scores on held-out scenes, by season: the tables of docs/calibration.md.

    floemap simulate twin --size small --out twin
    floemap compare configs/labels.toml --out run                    # or another run of the small twin
    floemap simulate twin --size small --seed 4711 --out other
    python benchmarks/calibration.py run/cells/cross_entropy_r0/model/model.safetensors other OUT [--refit run/data]

Every scene of the twin `other` is prepared and labelled as the model's were, predicted, and checked against its chart.
`--refit` first measures temperature and statistics of the scenes of a model that has none, on the parts that its header
names, whose products and labels are in the folder given. `--by-season TWIN ...` first calibrates the model by season on
all scenes of these twins, which are neither its own nor `other`. `--also TWIN ...` are further twins to test on; the
seasons are those of all.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from floemap.evaluation.checks.scene_checks import check_scene, pool_checks
from floemap.inference.predict.predict import predict
from floemap.learning.data.parts import ScenePart
from floemap.learning.models.checkpoint import load_checkpoint, save_checkpoint
from floemap.learning.models.checkpoint_header import SCENES
from floemap.learning.training.calibrate import calibrate, describe_scenes
from floemap.learning.training.distributed import make_fabric
from floemap.results.stage import read_json
from floemap.sentinel1.settings import PrepareSettings
from floemap.study.data import make_data
from floemap.study.scene import StudyScene
from floemap.study.settings import DataSettings

SEASONS = {"Dec-Feb": (12, 1, 2), "Mar-May": (3, 4, 5), "Jun-Aug": (6, 7, 8), "Sep-Nov": (9, 10, 11)}
KEYS = ("ece_uncalibrated", "ece", "ece_equal_mass", "ece_by_polygon", "accuracy")


def parts_of(about: Mapping[str, Any], data: Path) -> dict[str, list[ScenePart]]:
    """Return the training and validation parts that a header names, whose products and labels are in a folder."""
    parts: dict[str, list[ScenePart]] = {"train": [], "validation": []}
    for entry in about["data"]:
        name = entry["part"]
        mask = data / "parts" / name / "mask.tif"
        parts[entry["role"]].append(
            ScenePart(
                name,
                data / "prepared" / entry["product"] / "product.tif",
                data / "labels" / name[:2] / entry["chart"] / "labels.tif",
                mask if mask.is_file() else None,
            )
        )
    return parts


def refitted(path: Path, data: Path, out: Path) -> Path:
    """Write a copy of a model with temperature and statistics of its scenes."""
    found = load_checkpoint(path)
    parts = parts_of(found.about, data)
    began = time.perf_counter()
    about = dict(found.about) | {"calibration": calibrate(found.model, parts["validation"], make_fabric("cpu", "fp32"))}
    middle = time.perf_counter()
    about[SCENES] = describe_scenes(parts["train"], parts["validation"], seed=0)
    print(f"temperature {middle - began:.1f} s, statistics of scenes {time.perf_counter() - middle:.1f} s")
    print(json.dumps(about["calibration"]))
    save_checkpoint(out / "refitted.safetensors", found.model, about)
    return out / "refitted.safetensors"


def scenes_of(twin: Path, about: Mapping[str, Any], out: Path) -> list[StudyScene]:
    """Return the scenes of a twin, prepared and labelled as a model's were."""
    prepare = PrepareSettings(resolution_m=about["resolution_m"], crs=about["crs"])
    return list(make_data(DataSettings(folder=twin, legend=about["legend"]["name"], prepare=prepare), out))


def calibrated_by_season(path: Path, twins: Sequence[Path], out: Path) -> Path:
    """Write a copy of a model that is calibrated by season on the scenes of twins."""
    found = load_checkpoint(path)
    parts = [
        ScenePart(f"{twin.name} {scene.name}", scene.raster, scene.label_raster)
        for twin in twins
        for scene in scenes_of(twin, found.about, out / f"data-{twin.name}")
    ]
    began = time.perf_counter()
    made = calibrate(found.model, parts, make_fabric("cpu", "fp32"), by_season=True)
    print(f"calibrated by season on {len(parts)} scenes, {time.perf_counter() - began:.1f} s")
    for season in made["seasons"]:
        print(json.dumps(season))
    save_checkpoint(out / "seasonal.safetensors", found.model, dict(found.about) | {"calibration": made})
    return out / "seasonal.safetensors"


def main() -> None:
    """Predict and check all scenes of a twin; print one line for each scene and season."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "twin", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--refit", type=Path)
    parser.add_argument("--also", type=Path, nargs="+", metavar="TWIN", default=[])
    parser.add_argument("--by-season", type=Path, nargs="+", metavar="TWIN")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    model = refitted(given.model, given.refit, given.out) if given.refit else given.model
    model = calibrated_by_season(model, given.by_season, given.out) if given.by_season else model
    about = load_checkpoint(model).about
    checks: dict[int, list[dict[str, Any]]] = {}
    print(f"{'':10}", *KEYS, "score percentile unusual")
    for twin in (given.twin, *given.also):
        for scene in scenes_of(twin, about, given.out / f"data-{twin.name}"):
            made = predict(scene.product, model, given.out / "predictions" / twin.name)
            checked = check_scene(made.folder, scene.labels, scene.product)
            checks.setdefault(scene.start.month, []).append(checked)
            unlike = read_json(made.record)["out_of_distribution"]
            line(scene.name, checked, *(unlike.get(k) for k in ("score", "percentile", "unusual_share")))
    for season, months in (SEASONS | {"all": tuple(checks)}).items():
        line(season, pool_checks([c for m in months for c in checks.get(m, ())]))


def line(name: str, checked: dict[str, Any], *more: Any) -> None:
    """Print the numbers of the check of confidence."""
    values = checked["checks"]["confidence"]["values"]
    print(f"{name:10}", *(f"{values[k]:.3f}" for k in KEYS), *more, flush=True)


if __name__ == "__main__":
    main()
