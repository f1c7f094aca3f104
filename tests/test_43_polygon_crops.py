"""Polygons reach the loss: from the files of `floemap label` through crops, turns, halves and borders to a training."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from scipy.ndimage import distance_transform_edt
from typer.testing import CliRunner
from workshop import Inputs

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.errors import ConfigError, GridError
from floemap.learning.data.crops import ResidentCrops, StreamedCrops, deal, draw_epoch
from floemap.learning.data.parts import PartArrays, ScenePart, load_part, read_window
from floemap.learning.data.polygons import PolygonShares, tables_of
from floemap.learning.data.survey import survey_part
from floemap.learning.data.training_data import check_parts
from floemap.learning.losses import make_loss
from floemap.learning.losses.tasks import reads_polygons
from floemap.learning.settings import CropSettings, LearningSettings, LossSettings
from floemap.legend import IGNORE


@pytest.fixture(scope="module")
def part(workshop: Inputs) -> ScenePart:
    return ScenePart(
        "a",
        workshop.prepared / "product.tif",
        workshop.labels / "labels.tif",
        polygons=workshop.labels / "polygons.tif",
    )


def test_a_part_has_the_polygons_of_the_chart(part: ScenePart) -> None:
    loaded = load_part(part)
    assert loaded.ids is not None and loaded.polygons is not None
    with rasterio.open(str(part.polygons)) as d:
        np.testing.assert_array_equal(loaded.ids, d.read(1))
    # The label of a pixel is a type that its polygon may hold; where it has no polygon it has no label.
    labelled = loaded.labels != IGNORE
    assert labelled.any() and (loaded.ids[labelled] > 0).all()
    assert loaded.polygons.candidates[loaded.ids[labelled], loaded.labels[labelled]].all()
    np.testing.assert_array_equal(np.bincount(loaded.ids[loaded.ids > 0])[1:], loaded.polygons.pixels[1:])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("border_px", [0, 3])
def test_resident_and_streamed_give_the_same_polygons(part: ScenePart, workers: int, border_px: int) -> None:
    whole = load_part(part).labels.shape
    window = (3, 5, whole[0] - 10, whole[1] - 8)
    part = dataclasses.replace(part, border_px=border_px, window=window)
    loaded = load_part(part)
    settings = CropSettings(size_px=32, per_scene=8, min_valid=0.2, flips=True, context_px=4, border_px=border_px)
    wanted = deal(draw_epoch([survey_part(loaded, 32, 0.2)], settings, 0, 0), 4)
    tables = tables_of([loaded.polygons])
    streamed = StreamedCrops([part], workers, tables=tables)
    pairs = list(zip(ResidentCrops([loaded], tables=tables).batches(wanted), streamed.batches(wanted), strict=True))
    assert len(pairs) == 2
    for one, other in pairs:
        assert one.polygons is not None and other.polygons is not None
        assert torch.equal(one.polygons.ids, other.polygons.ids) and one.polygons.ids.shape == (4, 40, 40)
        assert torch.equal(one.polygons.shares, other.polygons.shares)
        assert torch.equal(one.labels, other.labels)
        # Ids lie where labels do: turned and padded alike.
        labelled = one.labels != IGNORE
        assert labelled.any() and (one.polygons.ids[labelled] > 0).all()


def test_borders_are_left_out_as_far_as_asked_and_no_farther(part: ScenePart) -> None:
    """Against the distance to the nearest pixel of another polygon, by scipy."""
    plain, without = load_part(part), load_part(dataclasses.replace(part, border_px=3))
    assert plain.ids is not None and without.ids is not None
    expected = np.zeros(plain.ids.shape, bool)
    for i in np.unique(plain.ids[plain.ids > 0]):
        inside = plain.ids == i
        others = (plain.ids != i) & (plain.ids > 0)
        expected |= inside & (distance_transform_edt(~others) - 0.5 < 3)
    assert 0 < expected.sum() < (plain.ids > 0).sum()
    np.testing.assert_array_equal(without.ids, np.where(expected, 0, plain.ids))
    np.testing.assert_array_equal(without.labels, np.where(expected, IGNORE, plain.labels))
    # A window sees the borders that lie around it.
    window = (10, 12, 40, 30)
    cut = read_window(dataclasses.replace(part, border_px=3), window)
    np.testing.assert_array_equal(cut.ids, without.ids[10:50, 12:42])


def test_a_mask_takes_polygons_away_too(part: ScenePart, tmp_path: Path) -> None:
    with rasterio.open(part.labels) as d:
        profile, shape = d.profile | {"nodata": None}, d.shape
    mask = np.zeros(shape, np.uint8)
    mask[: shape[0] // 2] = 1
    with rasterio.open(tmp_path / "mask.tif", "w", **profile) as d:
        d.write(mask, 1)
    half = load_part(dataclasses.replace(part, mask=tmp_path / "mask.tif"))
    assert half.ids is not None and (half.ids[shape[0] // 2 :] == 0).all() and half.ids.any()


# Refusals


def test_ids_beyond_the_table_are_refused(part: ScenePart) -> None:
    loaded = load_part(part)
    assert loaded.polygons is not None
    short = PolygonShares(*(getattr(loaded.polygons, k)[:2] for k in ("shares", "candidates", "pixels")))
    with pytest.raises(GridError, match="part a has the polygon id"):
        dataclasses.replace(loaded, polygons=short)


def test_parts_without_polygons_are_refused_for_losses_that_read_them(part: ScenePart) -> None:
    loaded = load_part(part)
    bare = PartArrays("b", loaded.stored, loaded.labels)
    settings = LearningSettings(loss=LossSettings(name="region"))
    about = {"resolution_m": 80.0, "simulated": True}
    with pytest.raises(ConfigError, match="the loss region reads the charts' polygons, which b"):
        check_parts([loaded], [bare], settings, about, reads_polygons(settings))
    with pytest.raises(ConfigError, match=r"crops.border_px is 3, but parts are given without it"):
        check_parts([loaded], [bare], LearningSettings(crops=CropSettings(border_px=3)), about)


# A training


def study(workshop: Inputs, labels: Path, folder: Path, name: str) -> Path:
    path = folder / "study.toml"
    path.write_text(
        f'[data]\nlegend = "six_classes"\n'
        f'[[data.scenes]]\nname = "a"\nproduct = "{workshop.prepared}"\nchart = "{labels}"\n'
        '[split]\nkind = "lists"\ntraining = ["a-SW"]\nvalidation = ["a-NE"]\n'
        f'[loss]\nname = "{name}"\n'
        "[crops]\nsize_px = 64\nper_scene = 2\nborder_px = 1\n"
        '[training]\nbatch = 2\nmax_epochs = 1\nprecision = "fp32"\n'
    )
    return path


@pytest.mark.parametrize("source", ["resident", "streamed"])
def test_a_study_learns_from_polygons(source: str, workshop: Inputs, tmp_path: Path) -> None:
    config = study(workshop, workshop.labels, tmp_path, "region_pixel")
    config.write_text(config.read_text().replace("border_px", f'source = "{source}"\nworkers = 0\nborder_px'))
    done = CliRunner().invoke(app, ["train", str(config), "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "run/model/training.json").read_text())
    for parts in ("training", "validation"):
        (about,) = record["inputs"][parts].values()
        assert about["border_px"] == 1 and len(about["polygons"]) == len(about["table"]) == 64
    row = json.loads((tmp_path / "run/model/metrics.jsonl").read_text().splitlines()[0])
    assert np.isfinite(row["loss"]) and np.isfinite(row["validation_loss"])


def test_labels_without_polygons_say_how_to_get_them(workshop: Inputs, tmp_path: Path) -> None:
    labels = tmp_path / "ice"
    shutil.copytree(workshop.labels, labels)
    (labels / "polygons.tif").unlink()
    config = study(workshop, labels, tmp_path, "region")
    done = CliRunner().invoke(app, ["train", str(config), "--out", str(tmp_path / "run")])
    words = " ".join(done.output.split())
    assert done.exit_code == 1 and "have no polygons.tif beside them" in words and "floemap label" in words


def test_the_validation_of_a_whole_part_is_one_region_for_each_polygon(part: ScenePart) -> None:
    """Strips of a scene add up: the value is that of all its pixels at once, as if it were one crop."""
    loaded = load_part(part)
    tables = tables_of([loaded.polygons])
    assert tables is not None and loaded.ids is not None
    from floemap.learning.data.polygons import tensor_of_ids

    ids, labels = tensor_of_ids(loaded.ids)[None], torch.from_numpy(loaded.labels)[None]
    logits = torch.randn(1, 6, *loaded.labels.shape, generator=torch.Generator().manual_seed(0))
    loss = make_loss(LossSettings(name="region"), 6)
    whole = tables.of(ids, [0])
    strips = [slice(r, r + 50) for r in range(0, labels.shape[1], 50)]
    sums = torch.stack([loss.sums(logits[:, :, s], labels[:, s], tables.of(ids[:, s], [0])) for s in strips]).sum(dim=0)
    torch.testing.assert_close(loss.value(loss.condensed(sums, whole)), loss(logits, labels, whole))
