"""A result is known by all that it is made from: one of another source of the same name is kept apart or refused."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from chart_maker import ice, write_chart
from chart_maker import other as other_of
from chart_models import write_model
from typer.testing import Result
from workshop import COMMANDS, Inputs, contents, copied, run

from floemap.cog import read_geobox
from floemap.results.stage import read_json

Write = Callable[..., Path]


@pytest.fixture
def two(write_small: Write, tmp_path: Path) -> list[Path]:
    """Two products whose folders have one name, as services and buckets call them."""
    size = {"lines": 64, "samples": 64, "pixel_spacing_m": 4000.0}
    made = [write_small(tmp_path / "in", orbit=20177 + i, **size) for i in range(2)]
    there = [tmp_path / place / "product.SAFE" for place in ("a", "b")]
    for product, new in zip(made, there, strict=True):
        new.parent.mkdir()
        product.rename(new)
    return there


@pytest.mark.parametrize("command", ["prepare", "chart"])
def test_two_products_of_one_name(command: str, two: list[Path], workshop: Inputs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more: list[str | Path] = ["--resolution", "8000"]
    if command == "chart":
        run("prepare", two[0], "--out", tmp_path / "for-model", *more)
        model = write_model(
            tmp_path / "m.safetensors", tmp_path / "for-model" / "product" / "product.tif", resolution_m=8000.0
        )
        more = ["--model", model, "--only", "classes"]
    together = run(command, *two, "--out", out / "together", *more)
    assert together.exit_code == 1 and "another product of the same name" in together.stderr.replace("\n", " ")
    alone = run(command, two[0], "--out", out / "alone", *more)
    assert alone.exit_code == 0
    size = "product.tif" if command == "prepare" else "classes.tif"
    first = (out / "alone" / "product" / size).read_bytes()
    assert len((out / "together" / "product" / size).read_bytes()) == len(first)
    before = contents(out / "alone")
    assert run(command, two[1], "--out", out / "alone", *more).exit_code == 1
    assert contents(out / "alone") == before
    # Who asks for it gets it; but not within one call, whose first result nobody has seen yet.
    assert run(command, two[1], "--out", out / "alone", *more, "--overwrite").exit_code == 0
    assert contents(out / "alone") != before
    assert run(command, *two, "--out", out / "both", *more, "--overwrite").exit_code == 1


def test_a_product_that_has_moved_or_was_made_anew_is_the_same(two: list[Path], tmp_path: Path) -> None:
    """By what it holds, or else by where it lies."""
    more: list[str | Path] = ["--out", tmp_path / "out", "--resolution", "8000"]
    assert run("prepare", two[0], *more).exit_code == 0
    moved = tmp_path / "c" / "product.SAFE"
    moved.parent.mkdir()
    two[0].rename(moved)
    assert "(finished before)" in run("prepare", moved, *more).stdout
    assert run("prepare", moved, *more, "--noise", "none").exit_code == 0
    shutil.rmtree(moved)
    two[1].rename(moved)
    assert run("prepare", moved, *more).exit_code == 0


@pytest.mark.parametrize("command", ["label", "predict", "evaluate"])
def test_other_sources_of_one_name(command: str, workshop: Inputs, tmp_path: Path) -> None:
    """Two years' ice.gpkg; one product prepared in two ways; one product predicted by two models."""
    inputs, other = (copied(workshop, tmp_path / place) for place in ("one", "two"))
    write_chart(other.chart, [ice(SA="83")], [read_geobox(inputs.prepared / "product.tif").extent.geom])
    run("prepare", other.product, "--out", other.prepared.parent, "--resolution", "2000", "--noise", "none")
    run("predict", other.prepared, "--model", other.model, "--no-probabilities", "--out", other.prediction.parent)
    calls: dict[str, Callable[[Inputs], list[str | Path]]] = {
        "label": lambda i: ["label", i.chart, "--like", inputs.prepared],
        "predict": lambda i: ["predict", i.prepared, "--model", i.model, "--no-probabilities"],
        "evaluate": lambda i: ["evaluate", i.prediction, "--labels", inputs.labels],
    }
    out: list[str | Path] = ["--out", tmp_path / "out"]
    assert run(*calls[command](inputs), *out).exit_code == 0
    before = contents(tmp_path / "out")
    refused = run(*calls[command](other), *out)
    assert refused.exit_code == 1 and "of the same name" in refused.stderr.replace("\n", " ")
    assert contents(tmp_path / "out") == before
    assert run(*calls[command](other), *out, "--overwrite").exit_code == 0
    assert contents(tmp_path / "out") != before


def test_one_chart_on_two_scenes(workshop: Inputs, tmp_path: Path) -> None:
    """A week's chart covers many."""
    run("prepare", workshop.product, "--out", tmp_path / "coarse", "--resolution", "4000")
    grids = [workshop.prepared, tmp_path / "coarse" / workshop.name]
    assert run("label", workshop.chart, "--like", grids[0], "--out", tmp_path / "out").exit_code == 0
    before = contents(tmp_path / "out")
    refused = run("label", workshop.chart, "--like", grids[1], "--out", tmp_path / "out")
    assert refused.exit_code == 1 and "another like" in refused.stderr.replace("\n", " ")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("archive", [True, False], ids=["files of an archive", "layers of a file"])
def test_two_charts_of_one_file(archive: bool, workshop: Inputs, tmp_path: Path) -> None:
    """The east's and the west's chart in one archive, or two layers."""
    extent = [read_geobox(workshop.prepared / "product.tif").extent.geom]
    names = ["east/ice.gpkg", "west/ice.gpkg"] if archive else ["east", "west"]
    both = tmp_path / ("both.zip" if archive else "both.gpkg")
    for name, stage in zip(names, ("95", "81"), strict=True):
        made = write_chart(tmp_path / "made" / name.split("/")[0] / "ice.gpkg", [ice(SA=stage)], extent)
        if archive:
            with zipfile.ZipFile(both, "a") as z:
                z.write(made, name)
        else:
            gpd.read_file(made).to_file(both, layer=name)
    call: list[str | Path] = ["label", both, "--like", workshop.prepared, "--out", tmp_path / "out", "--layer"]
    assert run(*call, names[0]).exit_code == 0
    before = contents(tmp_path / "out")
    assert "(finished before)" in run(*call, names[0]).stdout
    refused = run(*call, names[1])
    assert refused.exit_code == 1 and "another layer of the same name" in refused.stderr.replace("\n", " ")
    assert contents(tmp_path / "out") == before
    assert run(*call, names[1], "--overwrite").exit_code == 0
    assert contents(tmp_path / "out") != before


@pytest.mark.parametrize("command", ["predict", "chart", "chart of a product"])
def test_two_models_on_one_product(command: str, workshop: Inputs, tmp_path: Path) -> None:
    """By another model it is another map; by the same one at another place, or a newer one at its place, it is not."""
    raster = workshop.prepared / "product.tif"
    other = write_model(tmp_path / "other" / "model.safetensors", raster, simulated=True, seed=1)
    (tmp_path / "moved").mkdir()
    moved = shutil.copy(workshop.model, tmp_path / "moved")
    job, out = COMMANDS[command], tmp_path / "out"

    def by(model: Path) -> Result:
        return job.run(dataclasses.replace(workshop, model=model), out)

    assert by(Path(moved)).exit_code == 0
    before = contents(out)
    refused = by(other)
    assert refused.exit_code == 1 and "another model" in refused.stderr.replace("\n", " ")
    assert contents(out) == before
    assert by(workshop.model).exit_code == 0
    shutil.copy(other, moved)
    made = contents(out)
    if command == "predict":  # which skips what is of the same content, and keeps its record
        assert made == before and by(Path(moved)).exit_code == 0
        assert contents(out) != before


def test_two_land_masks_of_one_product(workshop: Inputs, tmp_path: Path) -> None:
    extent = read_geobox(workshop.prepared / "product.tif").extent.geom
    masks = [tmp_path / place / "land.gpkg" for place in ("one", "other")]
    for mask, part in zip(masks, (0.3, 0.5), strict=True):
        write_chart(mask, [other_of("L")], [shapely.affinity.scale(extent, part, part)])
    call: list[str | Path] = [
        "chart",
        workshop.prepared,
        "--model",
        workshop.model,
        "--only",
        "classes",
        "--out",
        tmp_path / "out",
    ]
    assert run(*call, "--land-mask", masks[0]).exit_code == 0
    before = contents(tmp_path / "out")
    refused = run(*call, "--land-mask", masks[1])
    assert refused.exit_code == 1 and "another land mask" in refused.stderr.replace("\n", " ")
    assert contents(tmp_path / "out") == before
    assert run(*call, "--land-mask", masks[1], "--overwrite").exit_code == 0


# Identity by all that is read


@pytest.mark.parametrize("linked", [False, True])
def test_an_edit_in_the_log_of_a_geopackage_is_seen(linked: bool, workshop: Inputs, tmp_path: Path) -> None:
    """As it lies there while the chart is open in QGIS; the chart's own files are left as they are."""
    chart = shutil.copy(workshop.chart, tmp_path / "ice.gpkg")
    if linked:  # to where the program has opened it
        (tmp_path / "link").mkdir()
        (tmp_path / "link" / "ice.gpkg").symlink_to(chart)
    given = tmp_path / "link" / "ice.gpkg" if linked else chart
    call: list[str | Path] = ["label", given, "--like", workshop.prepared, "--out", tmp_path / "out"]
    assert run(*call).exit_code == 0
    with closing(sqlite3.connect(chart)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
            db.create_function(name, 1, lambda _: 0)
        db.execute("UPDATE ice SET SA = '81' WHERE fid = 1")
        db.commit()
        files = {p: p.read_bytes() for p in tmp_path.glob("ice.gpkg*") if not p.name.endswith("-shm")}
        assert len(files) == 2
        again = run(*call)
        assert again.exit_code == 0 and "(finished before)" not in again.stdout
        assert {p: p.read_bytes() for p in files} == files
    pixels = read_json(tmp_path / "out" / "ice" / "label.json")["pixels"]
    assert pixels["old_ice"] == 0


def test_pixels_that_are_not_verified_are_known_by_themselves(small_product: Path, tmp_path: Path) -> None:
    """A damaged product, prepared without a look at its checksums, is not taken for the whole one that replaces it."""
    product = tmp_path / small_product.name
    shutil.copytree(small_product, product)
    (tiff,) = product.glob("measurement/*-hv-*")
    content = tiff.read_bytes()
    tiff.write_bytes(content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:])
    call: list[str | Path] = ["prepare", product, "--out", tmp_path / "out", "--resolution", "2000", "--no-verify"]
    assert run(*call).exit_code == 0
    assert "(finished before)" in run(*call).stdout
    tiff.write_bytes(content)
    assert "(finished before)" not in run(*call).stdout


@pytest.mark.parametrize("part", ["annotation/*-hh-*.xml", "annotation/calibration/noise-*-hv-*.xml"])
def test_metadata_that_changed_is_seen(part: str, small_product: Path, tmp_path: Path) -> None:
    product = tmp_path / small_product.name
    shutil.copytree(small_product, product)
    call: list[str | Path] = ["prepare", product, "--out", tmp_path / "out", "--resolution", "2000"]
    assert run(*call).exit_code == 0
    file = next(product.glob(part))
    file.write_bytes(file.read_bytes() + b"\n")
    assert "(finished before)" not in run(*call).stdout
