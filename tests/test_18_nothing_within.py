"""No command makes anything within a finished result or a delivered product: these stay as they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer
from workshop import Inputs, contents, copied, run, study_file

import floemap
from floemap.cli.app import app
from floemap.errors import OutputError
from floemap.results.folders import stage_folder
from floemap.results.stage import WHOLE, Stage, refuse_within, write_json

#: A call of each command that makes something, without its --out.
CALLS = {
    "prepare": "PRODUCT --resolution 2000",
    "label": "CHART --like PREPARED",
    "predict": "PREPARED --model MODEL",
    "chart": "PREPARED --model MODEL --only classes",
    "evaluate": "PREDICTION --labels LABELS",
    "mosaic": "DRAFT",
    "publish": "DRAFT/chart.gpkg --analyst A",
    "monitor": "DRAFT",
    "bundle": "DRAFT --area 77N,8W,60nm",
    "route": "DRAFT ROUTE --ice-class PC7",
    "view": "DRAFT",
    "info": "CHART",
    "config": "paper",
    "layer distance-to-land": "PREPARED --land CHART",
    "layer from-raster": "PREPARED PREPARED/product.tif --band 1 --name again",
    "archive": "PREPARED --model MODEL",
    "watch": "PREPARED --once --settle 0 --model MODEL",
    "train": "STUDY --loss dice",
    "compare": "STUDY",
    "plan": "STUDY",
    "demo": "--size smallest",
    "simulate twin": "",
    "simulate ai4arctic": "--scenes 1",
    "simulate pixels": "PRODUCT",
    "fetch extremeearth": "",
    "fetch ai4arctic": "",
    "fetch weights": "",
}
#: cell and gather go on with the run that --out names; test_18_nothing_lost has the report, which needs a run; layers
#: of AI4Arctic are written as those of rasters are.
ELSEWHERE = {"cell", "gather", "report", "layer from-ai4arctic"}


def names() -> Iterator[str]:
    def walk(command: object, words: str) -> Iterator[str]:
        for name, sub in getattr(command, "commands", {}).items():
            yield from walk(sub, f"{words} {name}".strip())
        if any("--out" in p.opts for p in getattr(command, "params", [])):
            yield words

    yield from walk(typer.main.get_command(app), "")


def test_every_command_that_writes_is_tried() -> None:
    assert set(CALLS) | ELSEWHERE == set(names())


@pytest.fixture
def made(workshop: Inputs, draft: Path, tmp_path: Path) -> dict[str, Path]:
    """One of each input, by the words of the calls."""
    inputs = copied(workshop, tmp_path / "inputs")
    shutil.copytree(draft, tmp_path / "drafts" / draft.name)
    (tmp_path / "drafts" / draft.name / "grid.nc").write_bytes(b"a mosaic reads it after it has looked at --out")
    route = tmp_path / "route.geojson"
    route.write_text('{"type": "LineString", "coordinates": [[-4, 77], [-9, 77.9]]}')
    found = {"PRODUCT": inputs.product, "PREPARED": inputs.prepared, "CHART": inputs.chart, "LABELS": inputs.labels}
    found |= {"PREDICTION": inputs.prediction, "MODEL": inputs.model, "ROUTE": route}
    found |= {"DRAFT": tmp_path / "drafts" / draft.name, "STUDY": study_file(inputs, tmp_path, "")}
    return found


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_made_within_a_result(name: str, made: dict[str, Path], tmp_path: Path) -> None:
    words = CALLS[name].split()
    for word, path in made.items():
        words = [w.replace(word, str(path)) for w in words]
    before = contents(tmp_path)
    outside = "which must stay as it is. Choose an --out outside of it"
    places = {made["DRAFT"] / "mine": outside}
    if name in ("bundle", "route", "publish", "view"):
        places |= dict.fromkeys((made["PREPARED"] / "deep" / "mine", made["PRODUCT"] / "mine"), outside)
        places[made["ROUTE"] / "mine"] = "A file is in the way: choose another --out"
    for place, reason in places.items():
        done = run(*name.split(), *words, "--out", place)
        assert done.exit_code == 1 and reason in done.stderr
        assert contents(tmp_path) == before


def test_the_results_that_are_made_whole_are_known() -> None:
    """Those of all stages whose folders the command builds beside their place; others are folders of many results."""
    many = {"archive.json", "plan.json", "cell.json", "training.json", "fetch.json", "SIMULATED.txt"}
    top = Path(floemap.__file__).parent
    found: set[str] = set()
    for path in top.rglob("*.py"):
        if "= Stage(" in path.read_text(encoding="utf-8"):
            module = import_module(".".join(("floemap", *path.relative_to(top).with_suffix("").parts)))
            found |= {value.record for value in vars(module).values() if isinstance(value, Stage)}
    assert found - many == set(WHOLE)


def test_folders_of_many_results_and_kept_layers_stay_open(tmp_path: Path) -> None:
    for record in ("training.json", "results.json", "archive.json", "twin.json"):
        write_json(tmp_path / record, {"made_by": "floemap x"})
    write_json(tmp_path / "p" / "product.json", {"made_by": "floemap prepare"})
    write_json(tmp_path / "others" / "chart.json", {"made_by": "somebody"})
    for place in ("new", "p/layers/new", "others/new", "p"):
        refuse_within(tmp_path / place)
    refuse_within(tmp_path / "others", into=True)
    for place, into in (("p/new", False), ("p/layers.old/new", False), ("p", True)):
        with pytest.raises(OutputError, match="of `floemap prepare`"):
            refuse_within(tmp_path / place, into=into)


def test_a_link_hides_no_result(tmp_path: Path) -> None:
    write_json(tmp_path / "drafts" / "x" / "chart.json", {"made_by": "floemap chart"})
    (tmp_path / "linked").symlink_to(tmp_path / "drafts" / "x")
    with (
        pytest.raises(OutputError, match="of `floemap chart`"),
        stage_folder(tmp_path / "linked" / "new", Stage("floemap a", "a.json", 0)),
    ):
        pass
    assert [p.name for p in (tmp_path / "drafts" / "x").iterdir()] == ["chart.json"]
