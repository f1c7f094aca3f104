"""Records that lack a field: every reader of them says which file, which field and the way out, or does without."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from run_maker import make_run
from safetensors.torch import save_file
from workshop import Inputs, copied

from floemap.archive.rows import row_of_chart
from floemap.bundle.settings import BundleSettings
from floemap.bundle.source import find_chart
from floemap.errors import FloemapError
from floemap.evaluation.checks.scene_files import open_scene_files
from floemap.evaluation.scoring.settings import EvaluateSettings
from floemap.evaluation.scoring.sources import find_sources
from floemap.icechart.label.polygon_table import read_polygons
from floemap.inference.draftchart.source import find_product
from floemap.inference.predict.model_files import find_models
from floemap.info import describe
from floemap.learning.models.checkpoint import load_checkpoint
from floemap.learning.models.checkpoint_header import METADATA_KEY, read_about
from floemap.publishing.drafts import find_draft
from floemap.report.report import check_records
from floemap.report.run_folder import read_run
from floemap.results.fields import MissingFieldError, Record
from floemap.results.stage import read_json
from floemap.routes.chart_risk import chart_risk
from floemap.viewer.view import make_view


def without_each(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """A record without each of its fields in turn, at any depth up to three, with the field's dotted name."""
    if isinstance(value, dict):
        for key in value:
            yield f"{place}{key}", {k: v for k, v in value.items() if k != key}
            if place.count(".") < 2:
                for name, less in without_each(value[key], f"{place}{key}."):
                    yield name, value | {key: less}
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for name, less in without_each(value[0], f"{place[:-1]}[0]."):
            yield name, [less, *value[1:]]


Use = Callable[[Inputs], object]


def drawn(inputs: Inputs) -> Path:
    return inputs.folder / "drawn" / inputs.name / "chart.gpkg"


def facts(found: Any, *names: str) -> None:
    """Ask for all that is read of a record when it is asked for; None where it is nobody's any more."""
    for name in names if found is not None else ():
        getattr(found, name)


def viewed(inputs: Inputs) -> None:
    """All that the map in the browser shows of the results."""
    made = make_view(inputs.folder)
    for scene in json.loads(made.page("map.json"))["scenes"]:
        made.scene(scene["id"])


#: Readers of each record, beside ``info``, the map in the browser, and those that lay out all results.
READERS: dict[str, tuple[Use, ...]] = {
    "prepared/{name}/product.json": (
        lambda i: find_product(i.prepared),
        lambda i: open_scene_files(i.prediction, i.labels, i.prepared),
        lambda i: find_sources(i.prediction, i.labels, EvaluateSettings()),
    ),
    "labels/ice/label.json": (
        lambda i: open_scene_files(i.prediction, i.labels, i.prepared),
        lambda i: find_sources(i.prediction, i.labels, EvaluateSettings()),
        lambda i: read_polygons(i.labels),
    ),
    "predictions/{name}/prediction.json": (
        lambda i: open_scene_files(i.prediction, i.labels, i.prepared),
        lambda i: find_sources(i.prediction, i.labels, EvaluateSettings()),
    ),
    "scores/{name}/evaluation.json": (),
    "drawn/{name}/chart.json": (
        lambda i: facts(chart_risk(drawn(i), "PC7"), "simulated", "status", "valid", "name", "legend"),
        lambda i: facts(find_chart(drawn(i), BundleSettings.checked(area="77N,8W,200nm"))[1], "status"),
        lambda i: facts(find_draft(drawn(i), None), "start", "legend", "simulated", "origin", "footprint"),
        lambda i: row_of_chart(i.prepared, drawn(i).parent),
    ),
}


@pytest.mark.parametrize("place", READERS)
def test_a_record_without_a_field_is_refused_by_name_or_done_without(
    place: str, all_results: Inputs, tmp_path: Path
) -> None:
    inputs = copied(all_results, tmp_path / "inputs")
    record = inputs.folder / place.format(name=inputs.name)
    whole = json.loads(record.read_text())
    for use in (viewed, *READERS[place]):
        use(inputs)
    tried = 0
    for name, less in without_each(whole):
        record.write_text(json.dumps(less))
        uses = (lambda i: describe(record.parent), *READERS[place])
        for use in uses if "." in name else (*uses, viewed):  # the map, which takes longest, without tables as a whole
            try:
                use(inputs)
            except MissingFieldError as e:
                assert e.path == record and name in e.message and e.hint, name
            except FloemapError as e:
                assert e.path is not None and "FieldError(" not in str(e), (name, str(e))
            tried += 1
    assert tried > 20


def test_a_model_without_a_field_of_its_description_is_refused_or_used_without(
    workshop: Inputs, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    refused = 0
    for name, less in without_each(dict(read_about(workshop.model))):
        save_file({"x": torch.zeros(1)}, path, {METADATA_KEY: json.dumps(less)})  # without the weights, for speed
        for use in (describe, lambda p: find_models([p]), load_checkpoint):
            try:
                use(path)
            except FloemapError as e:
                assert e.path == path, (name, str(e))
                refused += 1
    assert refused > 20


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run", losses=("dice",), repeats=1, scenes=("01",))


def test_a_record_of_a_comparison_without_a_field_is_refused_by_name_or_done_without(a_run: Path) -> None:
    for pattern in (
        "results.json", "plan.json", "cells/dice_r0/cell.json", "cells/dice_r0/split.json",
        "cells/dice_r0/model/training.json", "cells/dice_r0/evaluation/*/evaluation.json",
        "cells/dice_r0/predictions/*/prediction.json", "data/prepared/*/product.json",
    ):  # fmt: skip
        (record,) = a_run.glob(pattern)
        whole = record.read_text()
        for name, less in without_each(json.loads(whole)):
            record.write_text(json.dumps(less))
            try:
                found = read_run(a_run)
                check_records(found)
                if "product" in pattern:  # as a figure does
                    assert all(seam["incidence_deg"] for seam in found.scenes[0].about.get("seams", ()))
            except MissingFieldError as e:
                assert e.path == record and name in e.message and e.hint, (pattern, name)
            except FloemapError as e:
                assert e.path is not None and "FieldError(" not in str(e), (pattern, name, str(e))
        record.write_text(whole)


def pickled(value: Any) -> Any:
    """The value as another process gets it."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301  made here


def test_any_field_that_is_asked_for_and_missing_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.write_text('{"made_by": "floemap chart", "a": {"b": [{"c": 1}, {}], "d": {}}, "e": [[{"f": {}}]]}')
    record = read_json(path)
    asked: dict[str, Callable[[Any], object]] = {
        "x": lambda r: r["x"],
        "a.x": lambda r: r["a"]["x"],
        "a.d.x": lambda r: r["a"]["d"]["x"],
        "a.b[1].c": lambda r: [entry["c"] for entry in r["a"]["b"]],
        "e[0][0].f.g": lambda r: r["e"][0][0]["f"]["g"],
    }
    for of in (record, copy.deepcopy(record), pickled(record)):
        assert of == json.loads(path.read_text()) and json.loads(json.dumps(of)) == of
        for name, ask in asked.items():
            with pytest.raises(MissingFieldError) as e:
                ask(of)
            words = f"is not as `floemap chart` writes it: the field {name} is missing. Remove it, and make it "
            assert str(e.value) == f"{path}: {words}again with `floemap chart`."
            assert str(pickled(e.value)) == str(e.value)
    assert of.get("x") is None and "x" not in of and isinstance(record["a"], Record)
    path.write_text("{}")
    with pytest.raises(KeyError, match=r"is not whole: the field x is missing\. Make it again\."):
        read_json(path)["x"]


def test_the_error_comes_whole_from_another_process() -> None:
    error = MissingFieldError("scene.start", Path("a.json"), "floemap prepare")
    other = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(other) is MissingFieldError and str(other) == str(error) and other.path == error.path
