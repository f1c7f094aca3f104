"""``floemap info`` tells what lies in whatever a command makes, and in what belongs to it: SIMULATED, if it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import rasterio
from chart_maker import write_chart
from run_maker import make_run
from workshop import COMMANDS, Inputs, run

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "prepare": "Prepared product",
    "label": "Labels",
    "predict": "Prediction",
    "chart": "Draft chart",
    "evaluate": "Scores",
}


def told(path: Path) -> tuple[dict[str, object], str]:
    """What ``info`` says of something, to programs and to people."""
    for_programs, for_people = run("info", path, "--json"), run("info", path)
    assert for_programs.exit_code == for_people.exit_code == 0, (path, for_people.output)
    return json.loads(for_programs.stdout), for_people.stdout


@pytest.mark.parametrize("name", KINDS)
def test_all_that_a_command_makes_is_known(name: str, workshop: Inputs, tmp_path: Path) -> None:
    words = COMMANDS[name].words(workshop)
    if name == "chart":  # all its files
        words = ["chart", workshop.prepared, "--model", workshop.model, "--min-area", "100"]
    done = run(*words, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "SIMULATED" in done.output, "the terminal says it where it is made"
    folder = tmp_path / "out" / COMMANDS[name].result(workshop)
    for path in (folder, *sorted(folder.rglob("*"))):
        facts, text = told(path)
        assert "SIMULATED" in text and facts["simulated"] is True, path
        assert KINDS[name] in text or "Ice chart" in text, path
        if path.is_file() and path.suffix != ".json" and "Ice chart" not in text and path.name != "product.tif":
            assert path.name in text, "and which file of it was asked for"
    facts, text = told(folder.parent)
    assert facts["holds"] == [{"kind": f"{KINDS[name]}, SIMULATED", "name": folder.name}]


def test_a_comparison_is_known_while_it_runs_and_after(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", losses=("cross_entropy", "focal"), repeats=1, scenes=("01",))
    _, text = told(folder)
    assert text.startswith("Comparison") and "focal" in text and "SIMULATED" in text
    cells = sorted(p.parent for p in folder.rglob("cell.json"))
    assert len(cells) == 2
    assert told(folder / "plan.json")[1] == text, "of the whole, which is finished"
    assert "Loss" in told(cells[0])[1] and "Folder" in told(folder / "data")[1]
    for path in (folder / "results.json", *cells, *(c / "model" for c in cells)):
        told(path)


def test_files_of_a_product_or_shapefile_are_told_of_with_the_whole(workshop: Inputs, tmp_path: Path) -> None:
    for path in (p for p in workshop.product.rglob("*") if p.is_file()):
        assert workshop.name in told(path)[1]
    chart = write_chart(tmp_path / "ice.shp")
    for path in tmp_path.iterdir():
        assert "ice.shp" in told(path)[1] or path == chart


def test_what_lies_beside_a_damaged_record_is_told_of_by_itself(tmp_path: Path) -> None:
    chart = write_chart(tmp_path / "charts" / "ice.gpkg")
    for record in (tmp_path / "twin.json", tmp_path / "charts" / "chart.json"):
        record.write_text("no JSON")
    assert "Ice chart" in told(chart)[1]
    assert run("info", tmp_path / "charts").exit_code == 1, "but not the folder whose record it is"


@pytest.mark.parametrize(
    ("crs", "words"),
    [("+proj=stere +lat_0=90 +lon_0=0", "polar stereographic"), ("EPSG:3413", "WGS 84 / NSIDC Sea Ice")],
)
def test_a_crs_without_a_name_is_known_by_its_projection(crs: str, words: str, tmp_path: Path) -> None:
    assert str(told(write_chart(tmp_path / "c.shp", crs=crs))[0]["crs"]).startswith(words)


def test_settings_say_what_they_are_for(tmp_path: Path) -> None:
    _, text = told(ROOT / "configs" / "demo.toml")
    assert "floemap compare" in text and "training.batch" in text
    assert told(ROOT / "configs" / "prepare.toml")[0]["for"] == "floemap prepare --config"
    wrong = tmp_path / "study.toml"
    wrong.write_text('name = "a"\n[trainig]\nbatch = 3\n')
    done = run("info", wrong)
    assert done.exit_code == 1 and "did you mean 'training'?" in done.stderr
    wrong.write_text("colour = 3\n")
    assert "none of the keys that floemap knows: colour" in run("info", wrong).stderr


def test_what_nobody_knows_is_refused_with_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    for path in (tmp_path / "notes.md", tmp_path):
        done = run("info", path)
        assert done.exit_code == 1 and "manifest.safe" in done.stderr and ".gpkg" in done.stderr


def test_lines_in_a_pipe_are_whole(workshop: Inputs) -> None:
    """Names and paths can be searched and copied: nothing is broken at some column."""
    _, text = told(workshop.prepared)
    assert workshop.name in text
    done = run("evaluate", workshop.prediction, "--labels", workshop.labels, "--out", workshop.folder.parent / "piped")
    assert "away_from_borders" in done.stdout and "…" not in done.stdout
    assert "loss" not in done.stdout and "repeat" not in done.stdout, "one map has neither"


def _changed(raster: Path, change: str) -> None:
    """Write a raster with fewer bands, a smaller size, another place or another CRS, in place of another."""
    if change == "missing":
        return raster.unlink()
    with rasterio.open(raster) as d:
        values, profile, names = d.read(), {**d.profile, "driver": "GTiff"}, list(d.descriptions)
    if change == "bands":
        values, names = values[:-1], names[:-1]
    if change == "names":
        names = names[::-1]
    if change == "size":
        values = values[:, :-1]
    if change == "place":
        profile["transform"] *= profile["transform"].translation(1, 0)
    if change == "crs":
        profile["crs"] = "EPSG:3031"
    if change == "shorter":
        raster.write_bytes(raster.read_bytes()[:1000])
        return None
    profile |= {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(raster, "w", **profile) as d:
        d.write(values)
        d.descriptions = names
    with raster.open("ab") as f:
        f.write(bytes(10_000_000))  # not shorter than before
    return None


CHANGES = ("size", "place", "crs", "shorter", "missing")


@pytest.mark.parametrize(
    ("result", "change"),
    [("product.tif", change) for change in ("bands", "names", *CHANGES)] + [("labels.tif", c) for c in CHANGES],
)
def test_a_raster_that_its_record_does_not_describe_is_a_problem(
    result: str, change: str, workshop: Inputs, tmp_path: Path
) -> None:
    folder = shutil.copytree({"product.tif": workshop.prepared, "labels.tif": workshop.labels}[result], tmp_path / "r")
    assert run("info", folder).exit_code == 0
    _changed(folder / result, change)
    for path in (folder, folder / result.replace(".tif", ".json").replace("labels", "label")):
        done = run("info", path)
        assert done.exit_code == 1 and done.stderr.count("problem: ") == 1, done.stderr
        assert f"problem: {folder / result}: " in done.stderr
        assert "ake both again." in done.stderr
