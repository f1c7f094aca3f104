"""Records, settings, states and metrics of any content: read, or refused with a clear error, and soon."""

from __future__ import annotations

import csv
import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from run_maker import make_run
from tiny_model import ABOUT, WITH_TINY, scene, tiny_settings
from workshop import COMMANDS, Inputs, copied

from floemap.errors import ConfigError, FloemapError, ModelError, TrainingError
from floemap.evaluation.scoring.settings import EvaluateSettings
from floemap.evaluation.scoring.sources import find_sources
from floemap.inference.draftchart.source import find_product
from floemap.info import describe
from floemap.learning.models.checkpoint_header import METADATA_KEY, read_about
from floemap.learning.training.loop import train
from floemap.learning.training.state import read_metrics
from floemap.legend import SIX_CLASSES
from floemap.report.report import check_records
from floemap.report.run_folder import read_run
from floemap.report.tables import _csv
from floemap.results.stage import parse_json, read_json
from floemap.study.settings import Study

ODD_JSON: dict[str, Any] = {
    "deep lists": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 3000 + "1" + "}" * 3000,
    "just too deep": '{"a":' * 60 + "1" + "}" * 60,
    "a long number": '{"a": ' + "9" * 5000 + "}",
    "cut off": '{"a": ',
    "empty": "",
    "zeros": "\x00" * 100,
    "no UTF-8": b'{"a": "\xff"}',
    "a null": "null",
    "a list": "[1]",
    "a number": "7",
}


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("kind", ODD_JSON)
def test_json_of_any_content(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", ODD_JSON[kind])
    with pytest.raises(FloemapError) as e:
        read_json(path)
    assert e.value.path == path
    if ODD_JSON[kind]:  # no lines are no epochs
        with pytest.raises(TrainingError):
            read_metrics(path)


def test_what_is_not_too_deep_is_read(tmp_path: Path) -> None:
    text = '{"a":' * 40 + "1" + "}" * 40
    assert parse_json(text, tmp_path) == json.loads(text)


def test_a_models_header_of_any_content(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    for kind, content in ODD_JSON.items():
        if isinstance(content, bytes) or kind == "zeros":
            continue  # the format itself holds text
        path = tmp_path / "m.safetensors"
        save_file({"x": torch.zeros(1)}, path, {METADATA_KEY: content})
        with pytest.raises(ModelError):
            read_about(path)


ODD_TOML: dict[str, Any] = {
    "a deep key": "a." * 20_000 + "a = 1",
    "a deep key in quotes": '"a" . ' * 20_000 + "a = 1",
    "a deep table": "[" + "a." * 20_000 + "a]",
    "a deep key in a table": "x = {" + "a." * 20_000 + "a = 1}",
    "deep lists": "a = " + "[" * 50_000 + "]" * 50_000,
    "a long number": "a = " + "9" * 5000,
    "a long number in hexadecimal": "a = 0x" + "f" * 100_000,
    "a long word": "a" * 500_000,
    "a long file": "# " + "x" * (2 << 20),
    "no text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("kind", ODD_TOML)
def test_settings_of_any_content(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.toml", ODD_TOML[kind])
    began = time.process_time()
    with pytest.raises(ConfigError) as e:
        Study.from_toml(path)
    assert e.value.path == path and len(str(e.value)) < 2000
    assert time.process_time() - began < 20  # seconds of this process; the deep key took six, and two gigabytes


# The folder of a run


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run", losses=("dice",), repeats=1, scenes=("01",))


def use(run: Path) -> None:
    """All that a report does with a run's records before the work begins, and some of what it does later."""
    found = read_run(run)
    check_records(found)
    assert [t.weighted_f1 for c in found.contenders for t in c.of(found.scenes[0].name)]
    assert found.simulated in (True, False)


def changes(value: Any) -> Iterator[Any]:
    """A value with something taken away or of another kind, at any depth up to three."""
    yield from ({}, [], None, "text", 7)
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            for odd in list[Any]((None, [], "text", {})):
                yield value | {key: odd}
            if isinstance(value[key], dict):
                yield from (value | {key: changed} for changed in list(changes(value[key]))[5:60])
            if isinstance(value[key], list) and value[key]:
                yield from (value | {key: [changed]} for changed in list(changes(value[key][0]))[:40])


RECORDS = [
    "results.json", "plan.json", "cells/dice_r0/cell.json", "cells/dice_r0/split.json",
    "cells/dice_r0/model/training.json", "cells/dice_r0/evaluation/*/evaluation.json",
    "cells/dice_r0/predictions/*/prediction.json", "data/prepared/*/product.json", "data/labels/*/*/label.json",
]  # fmt: skip


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_of_a_run_of_any_content(record: str, a_run: Path, tmp_path: Path) -> None:
    shutil.copytree(a_run, tmp_path / "run")
    use(tmp_path / "run")
    (path,) = (tmp_path / "run").glob(record)
    whole = json.loads(path.read_text())
    refused = 0
    cases = list(changes(whole))
    for changed in random.Random(0).sample(cases, min(60, len(cases))):
        path.write_text(json.dumps(changed))
        try:
            use(tmp_path / "run")
        except FloemapError:
            refused += 1
    for content in ODD_JSON.values():
        written(path, content)
        with pytest.raises(FloemapError):
            use(tmp_path / "run")
    assert refused  # by what is read of the record, much or little


#: The record of each command's own result, and what of it the command gives on finding it finished.
OWN = {
    "prepared/{name}/product.json": "prepare", "labels/ice/label.json": "label",
    "predictions/{name}/prediction.json": "predict", "scores/{name}/evaluation.json": "evaluate",
    "drawn/{name}/chart.json": "chart",
}  # fmt: skip


@pytest.mark.parametrize("place", OWN)
def test_a_record_of_any_content_is_described_or_refused(place: str, all_results: Inputs, tmp_path: Path) -> None:
    """By ``info``, of the folder and of a file in it, and by those who read the folder."""
    inputs = copied(all_results, tmp_path / "inputs")
    record = inputs.folder / place.format(name=inputs.name)
    whole = json.loads(record.read_text())
    raster = next(p for p in record.parent.iterdir() if p.suffix == ".tif")
    uses: list[Callable[[], object]] = [lambda: describe(record.parent), lambda: describe(raster)]
    uses += [lambda: find_product(inputs.prepared)] if "product" in place else []
    if "label" in place or "prediction" in place:
        uses += [lambda: find_sources(inputs.prediction, inputs.labels, EvaluateSettings())]
    draw = random.Random(0)
    cases = list(changes(whole)) + list(past_all_bounds(whole))
    for changed in draw.sample(cases, min(100, len(cases))):
        record.write_text(json.dumps(changed))
        for use_it in uses:
            with suppress(FloemapError):
                use_it()
    for content in ODD_JSON.values():
        written(record, content)
        with pytest.raises(FloemapError):
            describe(record.parent)


@pytest.mark.parametrize("place", OWN)
def test_a_finished_result_of_an_odd_record_is_told_of_or_made_again(
    place: str, all_results: Inputs, tmp_path: Path
) -> None:
    inputs = copied(all_results, tmp_path / "inputs")
    record = inputs.folder / place.format(name=inputs.name)
    whole, job = json.loads(record.read_text()), COMMANDS[OWN[place]]
    needed = ("inputs", "configuration", "revision", "within", "made_by", "bytes")
    for key in [k for k in whole if k not in needed][:8]:
        for odd in list[Any]((None, {"x": [7]})):
            record.write_text(json.dumps(whole | {key: odd}))
            done = job.run(inputs, record.parent.parent)
            assert "unexpected" not in done.stderr, (key, odd)


def past_all_bounds(value: Any) -> Iterator[Any]:
    """A record with a number, a word or a list in it that is far larger than any."""
    for key in value:
        for odd in list[Any]((10**400, 1e308, -1, "x" * 5000, "\x1b[2J", [[]] * 50)):
            yield value | {key: odd}
        if isinstance(value[key], dict):
            yield from (value | {key: changed} for changed in past_all_bounds(value[key]))


def beyond(value: Any) -> Iterator[Any]:
    """A value with one number, at any depth, past all bounds, or one text longer than any name."""
    if isinstance(value, dict):
        yield from (value | {key: changed} for key in value for changed in beyond(value[key]))
    elif isinstance(value, list):
        yield from ([*value[:i], changed, *value[i + 1 :]] for i, old in enumerate(value) for changed in beyond(old))
    else:
        yield from ("x" * 5000,) if isinstance(value, str) else (10**400, float("inf"), -float("inf"))


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_of_a_run_with_values_past_all_bounds(record: str, a_run: Path, tmp_path: Path) -> None:
    shutil.copytree(a_run, tmp_path / "run")
    (path,) = (tmp_path / "run").glob(record)
    cases = list(beyond(json.loads(path.read_text())))
    assert cases
    for changed in random.Random(0).sample(cases, min(60, len(cases))):
        path.write_text(json.dumps(changed))
        with suppress(FloemapError):
            use(tmp_path / "run")


@pytest.mark.parametrize("line", ["null", "[]", "{}", "7", '{"epoch": 1}', '{"epoch": "x", "loss": 1}', "[" * 5000])
def test_metrics_of_any_content(line: str, a_run: Path, tmp_path: Path) -> None:
    shutil.copytree(a_run, tmp_path / "run")
    path = tmp_path / "run" / "cells" / "dice_r0" / "model" / "metrics.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(FloemapError) as e:
        read_run(tmp_path / "run")
    assert e.value.path == path


def test_no_cell_of_a_table_begins_a_formula(tmp_path: Path) -> None:
    odd = ["=cmd|' /C calc'!A0", "+1+2", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "-", "=1"]
    plain = ["dice", "-0.5", "-1e-05", "+3", "-0.25 0.5 -1.0", "", "a=b"]
    _csv(tmp_path / "a.csv", ("x",), [(v,) for v in (*odd, *plain, -0.5, None)])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as f:
        read = [row[0] if row else "" for row in csv.reader(f)][1:]
    assert read[: len(odd)] == [f"'{v}" for v in odd]
    assert read[len(odd) :] == [*plain, "-0.5", ""]


# A training's state


def spoiled(state: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A state with right keys, and in one of them something else."""
    some = next(iter(state["weights"]))
    for key in state:
        for odd in list[Any]((None, [], {}, "text", [{}], {"x": 1})):
            if type(odd) is not type(state[key]) or not odd:
                yield f"{key} is {odd!r}", state | {key: odd}
    yield "a part of another name", {k if k != "scheduler" else "scheduled": v for k, v in state.items()}
    yield "a part less", {k: v for k, v in state.items() if k != "inputs"}
    yield "a weight of another shape", state | {"weights": state["weights"] | {some: torch.zeros(99)}}
    yield "a best weight of another shape", state | {"best": state["best"] | {some: torch.zeros(99)}}
    yield "a weight that is none", state | {"weights": state["weights"] | {some: 1.0}}
    yield "a weight less", state | {"weights": {k: v for k, v in state["weights"].items() if k != some}}
    yield "an epoch that is none", state | {"history": [*state["history"], {"epoch": 2}]}
    moments = state["optimizer"]["state"]
    first = next(iter(moments))
    other = {**moments, first: moments[first] | {"exp_avg": torch.zeros(99)}}
    yield "moments of another shape", state | {"optimizer": state["optimizer"] | {"state": other}}
    yield "no groups", state | {"optimizer": state["optimizer"] | {"param_groups": []}}
    yield "a schedule of words", state | {"scheduler": state["scheduler"] | {"best": "text"}}


#: Without these a state, of older software or between two epochs, is a state still.
MAY_BE_EMPTY = ("arithmetic is {}", "arithmetic is {'x': 1}", "within is {}")


def test_a_state_of_any_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("floemap.learning.models.registry.MODELS", WITH_TINY)
    settings = tiny_settings(max_epochs=2)

    def go(out: Path) -> None:
        train([scene("a", 1)], [scene("v", 3)], settings, SIX_CLASSES, out, about=ABOUT, device="cpu")

    def broken(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr("floemap.learning.training.record.write_json", broken)
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path / "begun")
    state = torch.load(tmp_path / "begun" / "state.pt", weights_only=True)
    cases: list[tuple[str, dict[str, Any]]] = list(spoiled(state))
    assert len(cases) > 30
    for what, content in cases:
        out = tmp_path / "run"
        shutil.copytree(tmp_path / "begun", out)
        torch.save(content, out / "state.pt")
        before = {p: p.read_bytes() for p in out.iterdir()}
        if what in MAY_BE_EMPTY:
            go(out)
        else:
            with pytest.raises((TrainingError, ConfigError)):
                go(out)
            assert {p: p.read_bytes() for p in out.iterdir()} == before, f"{what}: nothing was touched"
        shutil.rmtree(out)
