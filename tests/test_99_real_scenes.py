"""Real pixels through the whole way, and under the model that comes along. What each proves: docs/real-data.md.

Labels are automatic everywhere here: a score says how well a rule is learnt, not how well ice is charted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from real_files import (
    EDGE,
    GLIA,
    GLIA_CLASSES,
    GliaScene,
    Quarter,
    glia_rule,
    glia_scene,
    quarters,
    seam_column,
    stored,
    write_product,
    write_quarter,
)
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from floemap.errors import ModelError
from floemap.inference.predict.predict import predict
from floemap.learning.data.crops import physical
from floemap.learning.models.checkpoint import Checkpoint, load_checkpoint
from floemap.learning.whole_scene.logits import array_reader, scene_logits
from floemap.legend import IGNORE
from floemap.results.stage import read_json
from floemap.sentinel1.bands import open_product
from floemap.study.compare import compare
from floemap.study.settings import Study

SHIPPED = Path(__file__).resolve().parents[1] / "src/floemap/models/floemap-simulated.safetensors"
LOSSES = ("cross_entropy", "dice", "focal")


@dataclass(frozen=True)
class Compared:
    """A short comparison on the two quarters, and what it was made from."""

    run: Path
    product: Path
    lower: Quarter

    def cell(self, loss: str) -> Path:
        return self.run / "cells" / f"{loss}_r0"


@pytest.fixture(scope="module")
def pair() -> tuple[Quarter, Quarter]:
    if not EDGE.is_dir():
        pytest.skip("no real quarters of a scene here")
    upper, lower, ties = quarters()
    assert ties["hh"].r > 0.99
    assert ties["hv"].r > 0.95
    return upper, lower


@pytest.fixture(scope="module")
def compared(pair: tuple[Quarter, Quarter], tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("edge")
    scenes = [write_quarter(folder, q) for q in pair]
    study = Study.checked(
        name="edge",
        data={"scenes": scenes, "legend": "ice_water"},
        split={"kind": "lists", "training": ["upper-SW"], "validation": ["upper-NE"], "test": ["lower"]},
        crops={"size_px": 96, "per_scene": 64, "flips": True},
        training={"batch": 8, "learning_rate": 1e-3, "max_epochs": 3},
        compare={"losses": LOSSES, "repeats": 1},
    )
    done = compare(study, folder / "run", report=False)
    assert done.failed == {}
    assert done.summary["simulated"] is False
    return Compared(folder / "run", scenes[1]["product"], pair[1])


def test_the_seam_lies_where_the_first_sub_swath_ends(pair: tuple[Quarter, Quarter]) -> None:
    # In the annotation of another product of the mode EW1 ends after 3112 to 3129 samples of 40 m.
    for quarter in pair:
        assert abs(seam_column(quarter) * 160 - 3120 * 40) < 1000


def test_bands_are_read_back(compared: Compared) -> None:
    dataset = open_product(compared.product)
    valid = compared.lower.valid
    assert (np.isfinite(dataset["hh_db"].to_numpy()) == valid).all()
    # The pictures' grey levels are 0.1 dB each here.
    levels = (dataset["hv_db"].to_numpy()[valid] + 40) / 0.1
    np.testing.assert_allclose(levels, compared.lower.hv[valid], atol=0.051)
    assert dataset.attrs["attribution"] == "Contains modified Copernicus Sentinel data 2020"


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_learns_ice_and_water(compared: Compared, loss: str) -> None:
    with rasterio.open(compared.cell(loss) / "predictions/EBD1_lower/classes.tif") as d:
        classes = d.read(1)
    assert ((classes != IGNORE) == compared.lower.valid).all()
    truth = compared.lower.labels()
    scored = truth != IGNORE
    # 24 steps; a threshold of HV alone would do well, too: this is the way from pixels to a score, not a benchmark.
    kappa = cohen_kappa_score(truth[scored], classes[scored])
    assert kappa > 0.5
    record = read_json(compared.cell(loss) / "evaluation/EBD1_lower/evaluation.json")
    assert record["simulated"] is False
    assert record["legend"]["name"] == "ice_water"
    primary = record["scores"]["primary"]
    assert primary["counts"] == confusion_matrix(truth[scored], classes[scored]).tolist()
    assert primary["scores"]["kappa"] == pytest.approx(kappa)


def test_checks_of_ice_types_do_not_apply_to_ice_and_water(compared: Compared) -> None:
    checks = read_json(compared.cell("dice") / "checks/EBD1_lower/checks.json")["checks"]
    assert {k for k, c in checks.items() if not c["applies"]} >= {"season", "old_ice", "neighbours"}
    assert {k for k, c in checks.items() if c["applies"]} >= {"ice_edge", "fragmentation", "seams", "angle"}


@pytest.fixture(scope="module")
def glia() -> GliaScene:
    if not GLIA.is_dir():
        pytest.skip("no real scene with ice classes here")
    return glia_scene()


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    return load_checkpoint(SHIPPED)


def test_its_labels_are_a_rule_of_the_two_bands_and_the_angle(glia: GliaScene) -> None:
    labelled = glia.labels > 0
    assert np.mean(glia_rule().classify(glia)[labelled] == glia.labels[labelled]) > 0.9999


def test_the_shipped_model_refuses_its_pixel_size(glia: GliaScene, tmp_path: Path) -> None:
    box = GeoBox(glia.labels.shape, Affine(560, 0, 400_000, 0, -560, -1_000_000), "EPSG:3413")
    bands = (glia.hh_db, glia.hv_db, glia.incidence_deg)
    write_product(tmp_path / "AF89", box, bands, glia.valid, "2022-05-03T08:26:21+00:00")
    with pytest.raises(ModelError, match="560"):
        predict(tmp_path / "AF89", SHIPPED, tmp_path / "predictions")
    assert not (tmp_path / "predictions").exists()


def test_tiles_of_a_real_scene_are_one_pass(glia: GliaScene, shipped: Checkpoint) -> None:
    # With land, an edge of no data in steps, and pixels at the noise floor, as no simulated scene has them.
    part = np.s_[:, :320, 380:700]
    bands = stored((glia.hh_db, glia.hv_db, glia.incidence_deg), glia.valid)[part]
    valid = glia.valid[part[1:]]
    assert 0.7 < valid.mean() < 0.99
    with torch.inference_mode(), scene_logits(shipped.model, array_reader(bands), valid.shape, tile=8) as logits:
        tiled = logits.rows(0, len(valid)).numpy()
        once = shipped.model.eval()(physical(torch.from_numpy(bands)[None]))[0].numpy()
    assert np.isfinite(once[:, valid]).all()
    np.testing.assert_allclose(tiled[:, valid], once[:, valid], atol=2e-3)


def test_the_shipped_model_tells_level_from_deformed_ice(glia: GliaScene, shipped: Checkpoint) -> None:
    # It is unfit for real ice, as its card says. What it learnt of simulated ice holds in one respect: it calls level
    # ice first-year ice more often than deformed ice, and deformed ice old more often than level ice.
    bands = stored((glia.hh_db, glia.hv_db, glia.incidence_deg), glia.valid)
    with scene_logits(shipped.model, array_reader(bands), glia.labels.shape) as logits:
        classes = logits.rows(0, len(glia.labels)).argmax(dim=0).numpy()
    keys = [c["key"] for c in shipped.about["legend"]["classes"]]
    level, deformed = (
        np.bincount(classes[glia.labels == 1 + GLIA_CLASSES.index(name)], minlength=len(keys))
        for name in ("level ice", "deformed ice")
    )
    level, deformed = level / level.sum(), deformed / deformed.sum()
    first_year, old = keys.index("first_year_ice"), keys.index("old_ice")
    assert level[first_year] > deformed[first_year]
    assert deformed[old] > level[old]
