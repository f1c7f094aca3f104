"""The report says what the numbers say, shows all of it in one file, and is there whole or not at all."""

from __future__ import annotations

import csv
import html.parser
import math
import re
import shutil
from dataclasses import asdict, replace
from itertools import chain, pairwise, permutations
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from run_maker import FIRST_YEAR, OLD, WATER, make_run, make_scene, product_name, write_class_raster
from sklearn.metrics import mean_squared_error, r2_score
from typer.testing import CliRunner

from floemap.cli import report as report_command  # noqa: F401  registers the command
from floemap.cli.app import app
from floemap.cog import read_geobox
from floemap.errors import FloemapError, GridError, OutputError
from floemap.evaluation.checks.assess import assess_scene, read_assessment
from floemap.evaluation.checks.classes import MapPair, ice_groups
from floemap.evaluation.checks.scene_checks import CHECKS, MEASURES, check_files, check_scene, pool_checks
from floemap.evaluation.checks.scene_files import open_scene_files
from floemap.evaluation.risk.operations import areas_by_level, false_safe_km2, mean_understated
from floemap.evaluation.scoring.evaluate import STAGE
from floemap.evaluation.statistics.blocks import BlockGrid
from floemap.evaluation.statistics.bootstrap import FEW_SCENES
from floemap.evaluation.statistics.compare import Difference
from floemap.evaluation.statistics.spread import Spread
from floemap.icechart.label.polygon_table import read_polygons
from floemap.icechart.polaris import class_levels, risk_values
from floemap.legend import EXTREMEEARTH, ICE_WATER, IGNORE, LEGENDS
from floemap.report.figures.scene_views import (
    IS_RIGHT,
    IS_THICKER,
    IS_THINNER,
    error_kinds,
    label_places,
    read_view,
    worst_disagreement,
)
from floemap.report.findings import Finding, findings
from floemap.report.measures import UNDERSTATED_SHIP, Numbers, Row, measures, ships
from floemap.report.numbers import measure_all
from floemap.report.report import Report, assess_run, make_report
from floemap.report.run_folder import read_run
from floemap.results.run_paths import DataPaths, RunPaths
from floemap.results.stage import read_json, write_json
from floemap.version import __version__

TITLES = {"cross_entropy": "Cross-entropy", "dice": "Dice", "focal": "Focal"}


@pytest.fixture(scope="module")
def run(reported: tuple[Path, Report]) -> Path:
    """A comparison of three losses and two repeats on two scenes. Shared: copy it, don't change it."""
    return reported[0]


@pytest.fixture(scope="module")
def report(reported: tuple[Path, Report]) -> Report:
    return reported[1]


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return report.page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def numbers(report: Report) -> dict[str, Any]:
    return read_json(report.folder / "numbers.json")


class Tags(html.parser.HTMLParser):
    """All tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == name]


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_everything_is_there(report: Report) -> None:
    names = {f"{kind}_{scene}" for kind in ("map", "closer", "edge", "incidence") for scene in ("01", "07")}
    names |= {"training", "confusion", "classes", "reliability"}
    figures = {p.name for p in (report.folder / "figures").iterdir()}
    assert figures == {f"{n}.{kind}" for n in names for kind in ("png", "svg", "pdf")}
    tables = {p.name for p in (report.folder / "tables").iterdir()}
    assert tables == {"measures.tex"} | {
        f"{n}.csv"
        for n in (
            "measures",
            "checks_by_scene",
            "classes",
            "confusion",
            "training",
            "reliability",
            "calibration",
            "incidence",
        )
    }
    assert read_json(report.folder / "report.json")["simulated"] is True
    assert len(report.findings) == 3
    assert not [p for p in report.folder.parent.iterdir() if p.name.startswith(".")]


def test_figures_for_a_paper_have_text_as_text_and_tables_are_latex(report: Report, page: str) -> None:
    """So that a journal's fonts can be set and words be searched; the page's own figures have theirs drawn."""
    for path in (report.folder / "figures").glob("*.svg"):
        assert "<text" in path.read_text(encoding="utf-8"), path.name
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF-")
    lines = (report.folder / "tables" / "measures.tex").read_text(encoding="utf-8").splitlines()
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    measured = {r["measure"] for r in read_csv(report.folder / "tables" / "measures.csv")}
    assert len(body) >= len(measured) and all(line.endswith(r" \\") for line in body)
    assert {line.count(" & ") for line in body} == {3}, "a column for each of the three losses"
    assert not [line for line in body if re.search(r"(?<!\\)[%#_]|[^\x00-\x7f]", line)], "no command by accident"
    assert any("SIMULATED" in line for line in lines[1:])
    assert "To cite: floemap" in page and "IGARSS 2023" in page


def test_the_page_needs_nothing_beside_it(page: str) -> None:
    tags = Tags(page)
    for name in ("img", "script", "link", "iframe", "source", "object"):
        for attrs in tags.of(name):
            for key in ("src", "href", "srcset", "data"):
                assert attrs.get(key, "data:").startswith("data:")
    assert "url(" not in page.split("</style>")[0]
    assert not re.search(r"@import|fetch\(|XMLHttpRequest", page)
    policy = next(a["content"] for a in tags.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert len(page) < 15e6


def test_the_page_can_be_read_without_seeing_it(page: str) -> None:
    tags = Tags(page)
    images = tags.of("img")
    assert len(images) > 20
    for image in images:
        assert image["alt"].strip() and image["width"] and image["height"]
    assert tags.of("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in tags.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert all("scope" in th for th in tags.of("th"))
    ids = [a["id"] for _, a in tags.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in tags.of("a") if a["href"].startswith("#")} <= set(ids)
    # Best and worst are words, not only colours.
    assert "▲" in page and " best</span>" in page and " worst</span>" in page


def test_simulated_is_said_everywhere(page: str, report: Report) -> None:
    assert "SIMULATED" in re.search("<title>(.*)</title>", page)[1]
    for heading in re.findall(r"<h2.*?</h2>", page, re.DOTALL):
        assert "SIMULATED" in heading
    assert "@top-center" in page
    for figure in (report.folder / "figures").glob("*.svg"):
        assert "SIMULATED" in figure.read_text(encoding="utf-8"), figure.name
    for table in (report.folder / "tables").glob("*.csv"):
        rows = read_csv(table)
        assert rows and {r["simulated"] for r in rows} == {"yes"}, table.name


def test_what_is_not_simulated_is_not_called_so(tmp_path: Path) -> None:
    real = make_run(tmp_path / "run", losses=("dice", "focal"), repeats=1, scenes=("01",), simulated=False)
    made = make_report(real, resamples=200)
    assert made.folder == real / "report" and not made.simulated
    assert "SIMULATED" not in made.page.read_text(encoding="utf-8")
    for figure in (made.folder / "figures").glob("*.svg"):
        assert "SIMULATED" not in figure.read_text(encoding="utf-8")
    assert "trained once" in made.page.read_text(encoding="utf-8")
    # The same seed makes the same files, to the bit; only times differ.
    again = make_report(real, tmp_path / "again", resamples=200)
    files = [p.relative_to(made.folder) for p in made.folder.rglob("*") if p.is_file()]
    for name in files:
        same = (again.folder / name).read_bytes() == (made.folder / name).read_bytes()
        assert same or name.name in ("report.html", "report.json"), name
    texts = [re.sub(r", \d{4}-\d\d-\d\d \d\d:\d\d UTC\.", "", r.page.read_text("utf-8")) for r in (made, again)]
    assert texts[0] == texts[1]


def test_numbers_are_those_of_the_stages(run: Path, numbers: dict[str, Any]) -> None:
    """Values are means over repeats of what scores and checks say of whole scenes."""
    found = {m["key"]: m["contenders"] for m in numbers["measures"]}
    summary = read_json(run / "results.json")["summary"]
    for group in summary["groups"]:
        f1 = group["scores"]["primary"]["weighted_f1"]
        assert found["weighted_f1"][group["loss"]]["value"] == pytest.approx(f1["mean"], rel=1e-9)
        pooled = np.array(group["scores"]["primary"]["pooled"]["counts"])
        assert numbers["confusion"][group["loss"]] == pooled.tolist()
    whole = read_run(run)
    for contender in whole.contenders:
        runs = contender.whole_repeats(whole.scene_names)
        checks = [
            pool_checks([check_scene(t.prediction, s.labels, s.product) for s in whole.scenes if (t := own[s.name])])
            for own in runs.values()
        ]
        for h in MEASURES:
            values = [v for c in checks if (v := h.of(c["checks"])) is not None]
            value = found[h.key].get(contender.key, {}).get("value")
            if values:
                assert value == pytest.approx(math.fsum(values) / len(values), rel=1e-9), h.key
            else:
                assert value is None


def test_calibration_is_reported_by_scene_and_season(run: Path, report: Report, page: str) -> None:
    """The scenes are of January and July, one of a season; errors of all pool the pixels of both and of all repeats."""
    rows = read_csv(report.folder / "tables" / "calibration.csv")
    whole = read_run(run)
    for contender in whole.contenders:
        own = [r for r in rows if r["contender"] == contender.key]
        seasons = ["December to February", "June to August"]
        assert [r["name"] for r in own if r["of"] == "season"] == seasons
        checks = [
            check_scene(repeat[s.name].prediction, s.labels, s.product)
            for repeat in contender.whole_repeats(whole.scene_names).values()
            for s in whole.scenes
        ]
        groups = {s: [c for c in checks if c["start"][5:7] == m] for s, m in zip(seasons, ("01", "07"), strict=True)}
        for name, of in (groups | {"all scenes": checks}).items():
            values = pool_checks(of)["checks"]["confidence"]["values"]
            (row,) = [r for r in own if r["name"] == name and r["of"] != "scene"]
            for key in ("ece", "ece_uncalibrated", "ece_equal_mass", "ece_by_polygon"):
                assert (float(row[key]) if row[key] else None) == pytest.approx(values[key])
            assert f">{values['ece']:.3f}</" in page[page.index("Calibration by season") :]
            (group,) = [g for g in read_json(run / "results.json")["summary"]["groups"] if g["loss"] == contender.key]
            stored = group["calibration"]["all"] if name == "all scenes" else group["calibration"]["seasons"][name]
            assert {key: stored[key] for key in ("ece", "ece_uncalibrated")} == pytest.approx(
                {key: values[key] for key in ("ece", "ece_uncalibrated")}
            )
            assert stored["pixels"] == values["pixels"] and group["calibration"]["reference"] == "chart"
            shown = f"| {contender.key} | {name} | {values['ece']:.3f} | {values['ece_uncalibrated']:.3f} |"
            assert shown in (run / "results.md").read_text()
        by_scene = [float(r["ece"]) for r in own if r["of"] == "scene"]
        assert by_scene == [float(r["ece"]) for r in own if r["of"] == "season"]


def test_of_half_a_scene_only_that_half_counts_in_the_calibration(tmp_path: Path) -> None:
    split = {"kind": "lists", "training": ["01"], "validation": ["07-SW"], "test": ["07-NE"]}
    run = make_run(tmp_path / "run", losses=("dice",), repeats=1, split=split)
    (group,) = read_json(run / "results.json")["summary"]["groups"]
    scored = group["scores"]["primary"]["pooled"]["scores"]["pixels"]
    assert group["calibration"]["all"]["pixels"] == scored > 0
    assert list(group["calibration"]["scenes"]) == ["07-NE"] and list(group["calibration"]["seasons"]) == [
        "June to August"
    ]


def test_made_mistakes_are_told(numbers: dict[str, Any], report: Report) -> None:
    """Each loss of the made-up run makes mistakes of its own, and the right measure is worst for it."""
    found = {m["key"]: m for m in numbers["measures"]}
    made = {"old_ice_as_first_year_km2": "dice", "patches_per_1000_km2": "cross_entropy", "iiee_km2": "focal"}
    assert {key: found[key]["worst"] for key in made} == made
    for key, loss in {"impossible_km": "cross_entropy", "ice_edge_km": "focal"}.items():
        values = {name: own["value"] for name, own in found[key]["contenders"].items()}
        assert max(values, key=values.get) == loss  # with two repeats, too little to be told apart
        assert found[key]["worst"] in (loss, None)
    assert any("Dice" in s for s in report.findings)


def test_tables_show_the_numbers(page: str, numbers: dict[str, Any], report: Report) -> None:
    for measure in numbers["measures"]:
        known = next(m for m in measures(EXTREMEEARTH) if m.key == measure["key"])
        for own in measure["contenders"].values():
            if own["value"] is not None and measure["reason"] is None:
                assert f'<span class="value">{known.text(own["value"])}</span>' in page
    rows = read_csv(report.folder / "tables" / "measures.csv")
    for row in rows:
        own = next(m for m in numbers["measures"] if m["key"] == row["measure"])["contenders"][row["contender"]]
        assert (float(row["value"]) if row["value"] else None) == own["value"]


def changed(path: Path, **values: Any) -> None:
    """Change values of a record."""
    write_json(path, read_json(path) | values)


def test_one_level_holds_for_all_rows(numbers: dict[str, Any]) -> None:
    """Adjusted by Holm's definition: the k-th smallest of m p-values times m - k + 1, and no less than those before."""
    compared = [m for m in numbers["measures"] if m["best_against_worst"] is not None]
    tested = [m for m in compared if m["best_against_worst"]["p"] is not None]
    assert len(tested) > 10
    assert {m["told_apart"] for m in compared if m not in tested} <= {None}
    alike = [m for m in numbers["measures"] if m["best"] is None and len(m["contenders"]) > 1]
    p_values = np.array([m["best_against_worst"]["p"] for m in tested])
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * (len(tested) + len(alike) - np.arange(len(tested)))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.maximum.accumulate(steps)
    assert [m["told_apart"] for m in tested] == (adjusted <= 0.1 + 1e-12).tolist()
    assert {m["told_apart"] for m in tested} == {True, False}
    for m in tested:
        for name in ("same_in_scenes", "same_in_repeats"):
            same, of = m["best_against_worst"][name]
            assert same == of or not m["told_apart"]


def test_what_numbers_are_not_about_stands_first(page: str, numbers: dict[str, Any]) -> None:
    top = page[page.index('id="answer"') : page.index("<table")]
    assert len(numbers["cautions"]) == 2
    for caution in numbers["cautions"]:
        assert caution in top
    assert "2 test scenes" in top and "2 trainings of each loss" in top


def test_one_training_marks_no_winner(tmp_path: Path, undrawn: None) -> None:
    made = make_report(make_run(tmp_path / "run", repeats=1), resamples=200)
    page = made.page.read_text(encoding="utf-8")
    assert " best</span>" not in page and " worst</span>" not in page
    assert "One training of each loss: differences between losses cannot be separated" in made.findings[0]
    measured = read_json(made.folder / "numbers.json")["measures"]
    assert {m["told_apart"] for m in measured} == {None}
    assert any("trained once" in (m["best_against_worst"] or {}).get("reason", "") for m in measured)


def test_published_scores_stand_on_the_page_where_they_are_of_the_same(
    run: Path, tmp_path: Path, undrawn: None, page: str
) -> None:
    assert "0.810 to 0.830" not in page and "Published: " not in page
    other = tmp_path / "other"
    shutil.copytree(run, other)
    results = read_json(other / "results.json")
    results["summary"]["published"]["comparable"] = True  # as if the scenes were those
    for group in results["summary"]["groups"]:
        group["published"] = {"mean": 0.822, "min": 0.81, "max": 0.83} if group["loss"] == "focal" else None
    write_json(other / "results.json", results)
    shown = make_report(other, resamples=200).page.read_text(encoding="utf-8")
    assert "Published: Focal 0.822 (0.810 to 0.830)" in shown


@pytest.mark.parametrize("way", ["copied", "moved"])
def test_a_run_that_was_copied_or_moved_is_reported(way: str, tmp_path: Path, undrawn: None) -> None:
    """From its own files, not from those that it was copied from; its records name no place outside of it."""
    made = make_run(tmp_path / "made" / "run", losses=("dice", "focal"), repeats=1, scenes=("01",))
    before = make_report(made, resamples=200)
    there = tmp_path / "elsewhere" / "deep" / "run"
    shutil.copytree(made, there)
    if way == "moved":
        shutil.rmtree(made)
    scene = read_run(there).scenes[0]
    assert scene.product.is_relative_to(there) and scene.labels.is_relative_to(there)
    after = make_report(there, resamples=200, overwrite=True)
    same = [read_json(r.folder / "numbers.json") for r in (before, after) if r.folder.exists()]
    assert all(numbers == same[0] for numbers in same)
    shutil.rmtree(scene.labels)
    if way == "moved":
        with pytest.raises(FloemapError, match="the labels folder of scene 01 is missing"):
            read_run(there)


def test_where_a_run_was_made_is_told_only_where_that_is_needed(run: Path, tmp_path: Path) -> None:
    """To find what lies beside it, once it is moved: one that holds all that it needs names no folder of its maker."""
    for made, beside in ((run, False), (make_run(tmp_path / "run", losses=("focal",), repeats=1, truth=True), True)):
        cells = [read_json(path) for path in (made / "cells").glob("*/cell.json")]
        assert cells and all(("made_in" in cell) is beside for cell in cells)


@pytest.mark.parametrize("together", [True, False])
def test_scenes_beside_a_run_are_found_whether_moved_with_it_or_not(together: bool, run: Path, tmp_path: Path) -> None:
    """A study may keep prepared products elsewhere, for several runs."""
    beside = tmp_path / "beside"
    shutil.copytree(run, beside / "run")
    shutil.move(beside / "run" / "data", beside / "data")
    for path in (beside / "run" / "cells").glob("*/cell.json"):
        tested = read_json(path)["tested"]
        for t in tested:
            t |= {what: f"../{t[what]}" for what in ("product", "labels")}
        changed(path, tested=tested, made_in=str(path.parent))
    there = tmp_path / "there"
    shutil.move(beside if together else beside / "run", there)
    assert len(read_run(there / "run" if together else there).scenes) == 2


def test_records_of_older_software_name_whole_paths(run: Path, tmp_path: Path) -> None:
    """What they name is taken; where it is gone, what lies in the run in its usual place."""
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    for there, named in ((run, run), (moved, Path("/nowhere/run"))):
        data = RunPaths(named).data
        for path in (moved / "cells").glob("*/cell.json"):
            tested = read_json(path)["tested"]
            for t in tested:
                t["product"] = str(data.prepared / Path(t["product"]).name)
                t["labels"] = str(data.labels(t["scene"]) / Path(t["labels"]).name)
            record = {k: v for k, v in read_json(path).items() if k not in ("made_in", "revision")}
            write_json(path, record | {"tested": tested})
        for scene in read_run(moved).scenes:
            assert scene.product.is_relative_to(there) and scene.labels.is_relative_to(there)


def test_a_report_lists_versions_and_refuses_to_mix_revisions(run: Path, tmp_path: Path, undrawn: None) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(run, mixed)
    scored = mixed / "cells" / "dice_r0" / "evaluation" / product_name("01") / "evaluation.json"
    changed(scored, software="floemap 0.0.1")
    made = make_report(mixed, resamples=200)
    assert read_json(made.folder / "report.json")["versions"]["scores"] == [
        {"software": f"floemap {version}", "revision": str(STAGE.revision)} for version in ("0.0.1", __version__)
    ]
    text = made.page.read_text(encoding="utf-8")
    assert "floemap 0.0.1" in text and "floemap evaluate" in text
    for named in (7, None):  # None: of older software, which is not this one's
        record = read_json(scored) | {"revision": named}
        write_json(scored, {k: v for k, v in record.items() if v is not None})
        other = 0 if named is None else named
        words = r"scores of revisions {} and {} of `floemap evaluate`".format(*sorted((other, STAGE.revision)))
        with pytest.raises(FloemapError, match=words):
            make_report(mixed, resamples=200)


def test_a_training_that_is_missing_is_named(run: Path, tmp_path: Path, undrawn: None) -> None:
    partly = tmp_path / "partly"
    shutil.copytree(run, partly)
    shutil.rmtree(partly / "cells" / "focal_r1")
    shutil.rmtree(partly / "cells" / "dice_r0")
    shutil.rmtree(partly / "cells" / "dice_r1")
    results = read_json(partly / "results.json")
    write_json(partly / "results.json", results | {"failed": {"focal_r1": "the loss is no number <b>at</b> epoch 3"}})
    made = make_report(partly, resamples=200)
    page = made.page.read_text(encoding="utf-8")
    assert "focal_r1 (the loss is no number &lt;b&gt;at&lt;/b&gt; epoch 3)" in page
    assert "dice_r0 (not run to its end)" in page
    numbers = read_json(made.folder / "numbers.json")
    assert set(numbers["contenders"]) == {"cross_entropy", "focal"}


def test_no_comparison_no_report(tmp_path: Path, run: Path) -> None:
    with pytest.raises(FloemapError, match=r"holds no results\.json"):
        make_report(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("plan.json", "results.json"):
        shutil.copy(run / name, empty / name)
    with pytest.raises(FloemapError, match="no finished cell"):
        make_report(empty)
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    (broken / "cells" / "dice_r0" / "cell.json").write_text('{"cell": "dice_r0"}', encoding="utf-8")
    with pytest.raises(FloemapError, match=r"tested|has missing or wrong values") as caught:
        make_report(broken)
    assert caught.value.path == broken / "cells" / "dice_r0" / "cell.json"


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="in the way"):
        make_report(run, in_the_way)
    old = make_report(run, tmp_path / "report", resamples=200).folder
    before = {p.name: p.stat().st_mtime_ns for p in old.iterdir()}

    def full(*_: Any, **__: Any) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("floemap.report.report.write_tables", full)
    with pytest.raises(OutputError, match="No space left"):
        make_report(run, old, resamples=200, overwrite=True)
    assert {p.name: p.stat().st_mtime_ns for p in old.iterdir()} == before
    assert in_the_way.read_text(encoding="utf-8") == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "report"]


def test_a_prediction_on_another_grid_is_refused(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    product = other / "cells" / "dice_r0" / "predictions" / product_name("01")
    shutil.copy(other / "cells" / "dice_r0" / "predictions" / product_name("07") / "classes.tif", product)
    with pytest.raises(FloemapError, match="grids differ"):
        make_report(other)


def test_the_command(run: Path, tmp_path: Path, undrawn: None) -> None:
    done = CliRunner().invoke(app, ["report", str(run), "--out", str(tmp_path / "out"), "--quiet"])
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "out" / "report.html") in done.output.replace("\n", "")
    assert "simulated" in done.output
    missing = CliRunner().invoke(app, ["report", str(tmp_path / "nothing")])
    assert missing.exit_code == 1 and "does not exist" in missing.output


# Checks by blocks


@pytest.mark.parametrize("block_m", [7_000, 20_000, 60_000])
def test_blocks_add_up_to_the_scene(run: Path, block_m: int) -> None:
    """However a scene is cut: each block's amounts are shared out of the scene's, which are measured in one."""
    whole = read_run(run)
    for scene in whole.scenes:
        tested = whole.contenders[0].of(scene.name)[0]
        files = open_scene_files(tested.prediction, scene.labels, scene.product)
        grids = BlockGrid.of(files.chart, files.pixel_m, block_m), BlockGrid.whole(files.chart.shape)
        assert len(grids[0]) > len(grids[1]) or block_m == 60_000
        found = []
        for grid in grids:
            maps = MapPair(files.prediction, files.reference, files.pixel_m, files.legend, grid)
            cut = open_scene_files(tested.prediction, scene.labels, scene.product)
            vars(cut)["maps"] = maps  # in place of the blocks of 64 km
            found.append(check_files(cut))
        for key, amounts in found[0].items():
            one: Any = found[1][key]
            if isinstance(amounts, str):
                assert amounts == one
                continue
            assert set(amounts.amounts) == set(CHECKS[key].additive())
            for name, values in amounts.amounts.items():
                assert len(values) == len(grids[0])
                assert values.sum(axis=0) == pytest.approx(one.amounts[name][0], rel=1e-9), (key, name)


def test_checks_are_kept_and_made_again_when_files_change(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", losses=("dice",), repeats=1, scenes=("01",))
    scene = read_run(run).scenes[0]
    tested = read_run(run).contenders[0].of("01")[0]
    arguments = tested.prediction, scene.labels, scene.product, tmp_path / "checks"
    first = assess_scene(*arguments)
    assert not first.skipped
    again = assess_scene(*arguments)
    assert again.skipped and again.checks == first.checks
    assert (again.confusion == first.confusion).all()
    with rasterio.open(tested.classes) as d:
        classes = d.read(1)
    classes[classes == OLD] = WATER
    write_class_raster(tested.classes, read_geobox(tested.classes), classes)
    changed = assess_scene(*arguments)
    assert not changed.skipped
    assert changed.confusion[:, :, OLD].sum() == 0 < first.confusion[:, :, OLD].sum()
    blocks = changed.folder / "blocks.npz"
    whole = blocks.read_bytes()
    for content in (
        b"",
        b"damaged",
        whole[:-100],
        b"PK" + b"x" * (len(whole) - 2),
        whole[:200] + bytes(len(whole) - 200),
    ):
        blocks.write_bytes(content)  # it is kept to save time: whatever is wrong with it, it is made again
        again = assess_scene(*arguments)
        assert not again.skipped and (again.confusion == changed.confusion).all()
        assert assess_scene(*arguments).skipped
    with np.load(blocks) as stored:
        arrays = {key: stored[key] for key in stored.files}
    for key, held in arrays.items():
        for other in (np.zeros(0), np.zeros((3, 3)), np.array("x"), held[..., None], held[1:]):
            np.savez(blocks, **(arrays | {key: other}))
            with pytest.raises(FloemapError, match="cannot be read"):
                read_assessment(changed.folder)
    blocks.write_bytes(whole)
    assert read_assessment(changed.folder).amounts.keys() == changed.amounts.keys()


def test_only_a_part_of_a_scene_is_checked(run: Path, tmp_path: Path) -> None:
    """What lies outside of the part counts for nothing, and the map shows no chart there."""
    whole = read_run(run)
    scene, tested = whole.scenes[0], whole.contenders[0].of("01")[0]
    with rasterio.open(tested.scored / "errors.tif") as d:
        profile, errors = d.profile, d.read(1)
    errors[:, : errors.shape[1] // 2] = IGNORE
    part = tmp_path / "part.tif"
    with rasterio.open(part, "w", **profile) as d:
        d.write(errors, 1)
    own = assess_scene(tested.prediction, scene.labels, scene.product, tmp_path / "checks", within=part)
    assert own.confusion.sum() == np.count_nonzero(errors != IGNORE)
    right = np.count_nonzero(errors == 0)
    assert np.trace(own.confusion.sum(axis=0)) == right
    view = read_view(scene.raster, scene.label_raster, {"a": tested.classes}, 500, within=part)
    assert (view.chart[errors == IGNORE] == IGNORE).all()
    assert (view.chart[errors != IGNORE] != IGNORE).all()


# Views


def test_errors_are_thinner_or_thicker() -> None:
    rng = np.random.default_rng(1)
    chart, prediction = rng.choice([*range(6), IGNORE], (2, 40, 40)).astype(np.uint8)
    kinds = error_kinds(chart, prediction, EXTREMEEARTH)
    assert ((kinds == IGNORE) == ((chart == IGNORE) | (prediction == IGNORE))).all()
    assert ((kinds == IS_RIGHT) == ((chart == prediction) & (chart != IGNORE))).all()
    turned = error_kinds(prediction, chart, EXTREMEEARTH)
    assert ((kinds == IS_THINNER) == (turned == IS_THICKER)).all()
    old, first_year = np.array([[OLD]], np.uint8), np.array([[FIRST_YEAR]], np.uint8)
    assert error_kinds(old, first_year, EXTREMEEARTH) == IS_THINNER
    assert error_kinds(np.array([[0]], np.uint8), np.array([[1]], np.uint8), ICE_WATER) == IS_THICKER


@pytest.mark.parametrize("at", [(0, 0), (30, 77), (100, 100)])
def test_the_worst_disagreement_is_found(run: Path, at: tuple[int, int]) -> None:
    whole = read_run(run)
    scene = whole.scenes[0]
    view = read_view(scene.raster, scene.label_raster, {}, 120)
    chart = np.full(view.chart.shape, WATER, np.uint8)
    other = chart.copy()
    side = 20  # a sixth of the view
    other[at[0] : at[0] + side, at[1] : at[1] + side] = OLD
    made = replace(view, chart=chart, predictions={"a": chart, "b": other})
    row, col, height, width = worst_disagreement(made, EXTREMEEARTH)
    assert (round(row * 120), round(col * 120), round(height * 120), round(width * 120)) == (*at, side, side)
    assert worst_disagreement(replace(made, predictions={"a": chart, "b": chart}), EXTREMEEARTH) is None
    # Where the chart has no class, nothing is compared.
    assert worst_disagreement(replace(made, chart=np.full_like(chart, IGNORE)), EXTREMEEARTH) is None


def test_letters_stand_in_their_own_class() -> None:
    classes = np.full((200, 300), WATER, np.uint8)
    classes[20:90, 30:200] = OLD
    classes[40:60, 60:90] = FIRST_YEAR
    classes[150, :] = FIRST_YEAR  # a thread gets no letter
    places = label_places(classes, EXTREMEEARTH, min_share=0.005)
    assert {k for k, *_ in places} == {OLD, FIRST_YEAR, WATER}
    for k, row, col in places:
        assert classes[round(row), round(col)] == k
    assert not [p for p in places if p[1] == 150]
    assert label_places(np.full((20, 20), IGNORE, np.uint8), EXTREMEEARTH) == []


def test_a_decimated_view_lies_where_the_whole_does(run: Path) -> None:
    scene = read_run(run).scenes[0]
    whole = read_geobox(scene.raster)
    for pixels in (40, 100, 1000):
        view = read_view(scene.raster, scene.label_raster, {}, pixels)
        assert view.geobox.boundingbox.bbox == pytest.approx(whole.boundingbox.bbox)
        assert max(view.geobox.shape) == min(pixels, 200)
    part = read_view(scene.raster, scene.label_raster, {}, 1000, part=(20, 30, 50, 60))
    with rasterio.open(scene.label_raster) as d:
        assert (part.chart == d.read(1)[20:70, 30:90]).all()
    left, _, _, top = part.geobox.boundingbox.bbox
    assert (left, top) == pytest.approx(whole.transform * (30, 20))


# Findings


ABOUT: dict[str, Any] = {
    "level": 0.9,
    "by_scene": {},
    "scenes": 2,
    "blocks": 40,
    "drawn": "blocks",
    "reason": None,
    "cautions": (),
}


def row(key: str, values: dict[str, float], *, apart: bool | None, why: str | None = None) -> Row:
    """A row of a measure with values by contender, best and worst by its own rule."""
    measure = next(m for m in measures(EXTREMEEARTH) if m.key == key)
    badness = {k: measure.badness(v) for k, v in values.items()}
    order = sorted(values, key=lambda k: badness[k])
    p = {True: 0.001, False: 0.5, None: None}[apart]
    by_scene = {"01": 1.0, "07": 1.0}
    between = Difference(a=order[0], b=order[-1], value=1.0, points=(1.0,) * 3, by_scene=by_scene, p=p, reason=why)
    spreads = {k: Spread(value=v, low=v - 0.01, high=v + 0.01, points=(v,), **ABOUT) for k, v in values.items()}
    return Row(measure, spreads, badness, order[0], order[-1], apart, between)


def told(*rows: Row, titles: dict[str, str] = TITLES, repeats: int = 3, reference: Any = "chart") -> list[Finding]:
    numbers = Numbers(tuple(rows), {}, {}, {}, {}, dict.fromkeys(titles, repeats), reference=reference)
    return findings(numbers, titles)


def texts(*rows: Row, **how: Any) -> list[str]:
    return [f.text for f in told(*rows, **how)]


SCORE = {"cross_entropy": 0.815, "dice": 0.81, "focal": 0.822}
MISSED = {"cross_entropy": 900.0, "dice": 5000.0, "focal": 1200.0}


def test_findings_say_when_losses_cannot_be_told_apart() -> None:
    sentences = texts(row("weighted_f1", SCORE, apart=False), row("old_ice_missed_km2", MISSED, apart=False))
    assert "Focal comes first with 0.822" in sentences[0] and "Dice last with 0.810" in sentences[0]
    assert "the difference is not significant" in sentences[0]
    assert sentences[1].replace("\u2009", "").replace("\u00a0", " ") == (
        "No physical check and no measure of risk shows a significant difference of losses. Old ice missed is between "
        "900 km² (Cross-entropy) and 5000 km² (Dice), which may be chance."
    )
    assert sentences[2].startswith("Neither the score nor a check")
    few = texts(row("weighted_f1", SCORE, apart=None, why="4 blocks are too few, 10 are needed"))
    assert few[0].endswith("cannot be said: 4 blocks are too few, 10 are needed.")
    only = texts(row("weighted_f1", SCORE, apart=True), row("old_ice_missed_km2", MISSED, apart=False))
    assert only[2].startswith("Only the score shows a significant difference")
    other = texts(row("weighted_f1", SCORE, apart=False), row("old_ice_missed_km2", MISSED, apart=True))
    assert other[2].startswith("The score shows no significant difference")


def test_findings_claim_no_more_than_scenes_and_trainings() -> None:
    for sentence in texts(row("weighted_f1", SCORE, apart=True), row("old_ice_missed_km2", MISSED, apart=True))[:2]:
        assert "on these two scenes and for trainings like these three of each loss" in sentence


def _sides(key: str, values: dict[str, float], p: float | None) -> Row:
    """A row of losses of which "dice" learns from partial concentrations."""
    plain = row(key, values, apart=False)
    a, b = sorted(("dice", "focal"), key=lambda k: plain.badness[k])
    assert plain.between is not None
    return replace(plain, sides=replace(plain.between, a=a, b=b, p=p))


def test_the_first_finding_says_whether_partial_concentrations_help() -> None:
    shares = {"cross_entropy": 0.2, "dice": 0.1, "focal": 0.15}
    rows = (
        _sides("share_error", shares, 0.01),
        _sides("weighted_f1", SCORE, 0.01),
        _sides("truth_in_mixed", SCORE, 0.04),
    )
    numbers = Numbers(rows, {}, {}, {}, {}, dict.fromkeys(TITLES, 3))
    first, *_ = (f.text for f in findings(numbers, TITLES, frozenset({"dice"})))
    assert first.startswith("Does learning from partial concentrations make better charts")
    assert "Error of shares: yes (Dice 0.100 against Focal 0.150)" in first
    assert "Weighted F1: no (Focal 0.822 against Dice 0.810)" in first
    assert "Right inside mixed polygons: cannot be said (" in first, "0.04 is more than 0.1 divided by three rows"
    assert not any(t.startswith("Does learning") for t in texts(*(replace(r, sides=None) for r in rows)))


def test_labels_without_polygons_have_no_scores_by_polygon(tmp_path: Path, undrawn: None) -> None:
    made = make_report(make_run(tmp_path / "run", losses=("dice",), repeats=1, scenes=("01",)), resamples=200)
    page = made.page.read_text()
    assert "the labels have no polygons.tif and polygons.csv" in page and 'id="values"' not in page


LOSSES = ("cross_entropy", "dice", "focal", "tversky", "region")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report on five losses and two scenes, with a truth, polygons, and a head of concentration; without maps."""
    folder = tmp_path_factory.mktemp("many") / "run"
    run = make_run(folder, losses=LOSSES, repeats=1, truth=True, polygons=True, values=True)
    with pytest.MonkeyPatch.context() as m:
        m.setattr("floemap.report.report.draw_maps", lambda *_: [])
        return make_report(run, resamples=200)


def test_values_are_on_the_page_with_intervals_and_a_figure_for_each_reference(many: Report) -> None:
    """Against scikit-learn on the rasters: the chart gives each polygon's concentration, the truth ice or water."""
    run, page = many.folder.parent, many.page.read_text()
    summary = read_json(run / "results.json")["summary"]["values"]["concentration"]
    section = page.partition('<section id="values"')[2].partition("</section>")[0]
    rows = read_csv(many.folder / "tables" / "values.csv")
    for loss in LOSSES:
        found: dict[str, list[tuple[float, ...]]] = {"chart": [], "truth": []}
        for scene in ("01", "07"):
            (labels,) = (run / "data" / "labels" / scene).iterdir()
            rasters = labels / "polygons.tif", run.parent / "truth" / f"{scene}.tif"
            with rasterio.open(rasters[0]) as p, rasterio.open(rasters[1]) as t:
                ids, true = p.read(1), t.read(2)
            with rasterio.open(
                run / "cells" / f"{loss}_r0" / "predictions" / product_name(scene) / "concentration.tif"
            ) as d:
                stored = d.read(1)
            known = (ids > 0) & (true != IGNORE) & (stored != IGNORE)
            y = stored[known] * 0.005
            references = {"chart": read_polygons(labels).concentration[ids][known], "truth": true[known] != WATER}
            for reference, x in references.items():
                scores = r2_score(x, y), mean_squared_error(x, y) ** 0.5, float((y - x).mean())
                found[reference].append(scores)
        for reference, scores_of in found.items():
            for score, value in zip(("r2", "rmse", "bias"), np.mean(scores_of, axis=0), strict=True):
                (row,) = [r for r in rows if (r["contender"], r["reference"], r["score"]) == (loss, reference, score)]
                assert float(row["value"]) == pytest.approx(value, abs=1e-6)
                assert summary[reference]["losses"][loss][score]["value"] == pytest.approx(value, abs=1e-6)
                assert float(row["low"]) < value < float(row["high"]) and row["simulated"] == "yes"
                assert f">{value:.3f} ({float(row['low']):.3f}, {float(row['high']):.3f})<" in section
    for reference in ("chart", "truth"):
        assert (many.folder / "figures" / f"concentration_{reference}.svg").is_file()
        assert f'id="concentration_{reference}"' in section
        assert f"RMSE of concentration against the {reference}: the difference of" in section
    assert page.count("<td>RMSE") == 0 and page.count(">RMSE</th>") == 1, "the table is there once"


def test_many_losses_have_a_row_each_and_scores_by_polygon(many: Report) -> None:
    made, page = many, many.page.read_text()
    assert made.findings[0].startswith("Does learning from partial concentrations make better charts")
    assert page.count('class="answer losses"') >= 4 and '<table class="answer" ' not in page
    table = page.partition("<h3>Partial concentrations, by polygon</h3>")[2].partition("</table>")[0]
    for title in ("Cross-entropy", "Dice", "Focal", "Tversky", "Region", "The chart", "The truth"):
        assert f"{title}</th>" in table
    rows = {m["key"] for m in read_json(made.folder / "numbers.json")["measures"]}
    assert {"share_error", "share_r2", "dominant_50", "dominant_65", "pure_weighted_f1", "truth_in_mixed"} <= rows
    assert (made.folder / "figures" / "shares.svg").is_file()


def test_one_training_shows_values_and_no_winner() -> None:
    rows = row("weighted_f1", SCORE, apart=None), row("old_ice_missed_km2", MISSED, apart=None)
    sentences = texts(*rows, repeats=1)
    assert sentences == [
        "One training of each loss: differences between losses cannot be separated from differences between trainings, "
        "so this report shows values and no winner.",
        "Weighted F1: Cross-entropy 0.815, Dice 0.810, Focal 0.822.",
        "Old ice missed: Cross-entropy 900\u00a0km², Dice 5\u2009000\u00a0km², Focal 1\u2009200\u00a0km².",
    ]


def test_findings_lead_with_old_ice_missed_and_what_belongs_to_it() -> None:
    part = row("old_ice_as_first_year_km2", {"cross_entropy": 300.0, "dice": 4000.0, "focal": 1000.0}, apart=True)
    invented = row("old_ice_invented_km2", {"cross_entropy": 70.0, "dice": 10.0, "focal": 5.0}, apart=True)
    edge = row("ice_edge_km", {"cross_entropy": 3.0, "dice": 2.0, "focal": 9.0}, apart=True)
    missed = row("old_ice_missed_km2", MISSED, apart=True)
    sentences = texts(edge, invented, row("weighted_f1", SCORE, apart=True), part, missed)
    plain = sentences[1].replace("\u2009", "").replace("\u00a0", " ")
    assert plain.startswith(
        "Dice misses 5000 km² of the charts’ old ice, 4000 km² of it as first-year ice, and invents 10"
    )
    assert (
        "; Cross-entropy misses 900 km² of the charts’ old ice, 300 km² of it as first-year ice, and invents 70"
        in plain
    )
    assert sentences[2].startswith(
        "Of the 3 checks and risks that show a significant difference, Focal, first by score, is best in 1"
    )
    assert "worst in 1 (ice edge off): the score alone" in sentences[2]


def test_what_is_better_in_a_part_and_worse_in_the_whole_is_not_praised() -> None:
    """The loss that calls old ice nilas has less old ice called first-year, and misses more of it."""
    part = row("old_ice_missed_km2", {"cross_entropy": 38_810.0, "dice": 11_374.0}, apart=True)
    whole = row("risk_understated", {"cross_entropy": 3.0, "dice": 9.0}, apart=False)
    titles = {k: TITLES[k] for k in ("cross_entropy", "dice")}
    score = row("weighted_f1", {"cross_entropy": 0.7, "dice": 0.8}, apart=True)
    assert not any(
        f.praised == "dice" and "old_ice_missed_km2" in f.measures for f in told(score, part, whole, titles=titles)
    )
    assert any("misses" in f.text for f in told(score, part, titles=titles))


BY_HARM = [m.key for m in sorted(measures(EXTREMEEARTH), key=lambda m: m.harm) if m.harm]
CONTAINED_IN = {m.key: m.within for legend in LEGENDS.values() for m in measures(legend) if m.within}
NUMBERS = st.floats(0.001, 1e5)


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from([m.key for m in measures(EXTREMEEARTH)]),
        st.tuples(st.lists(NUMBERS, min_size=3, max_size=3), st.sampled_from([True, True, False, None])),
        min_size=1,
    )
)
def test_no_loss_is_praised_that_is_worse_in_what_contains_it(drawn: dict[str, Any]) -> None:
    drawn.setdefault("weighted_f1", ([0.5, 0.6, 0.7], True))
    rows = {
        key: row(key, dict(zip(TITLES, numbers, strict=True)), apart=apart) for key, (numbers, apart) in drawn.items()
    }
    for finding in told(*rows.values()):
        for key in finding.measures:
            assert rows[key].told_apart
            assert rows[key].best == finding.praised
            for whole in CONTAINED_IN.get(key, ()):
                if whole in rows:
                    assert rows[whole].badness[finding.praised] <= rows[whole].badness[rows[key].worst]


def test_a_whole_counts_every_mistake_of_its_parts() -> None:
    """Put one pixel of each class where another is: wherever a part counts it, what contains it does."""
    for legend in LEGENDS.values():
        n = len(legend)
        matrices = np.eye(n * n, dtype=int).reshape(n, n, n, n)
        values = risk_values(legend, UNDERSTATED_SHIP)
        counted = {"risk_understated": lambda c, v=values: mean_understated(c, v)}
        for ship in chain(*ships(legend)):
            levels = class_levels(legend, ship)
            counted[f"false_safe_{ship}_km2"] = lambda c, x=levels: false_safe_km2(areas_by_level(c, x, 1000))
        if (old := ice_groups(legend).old) is not None:
            first = list(ice_groups(legend).first_year)
            counted["old_ice_missed_km2"] = lambda c, o=old: c[..., o, :].sum(-1) - c[..., o, o]
            counted["old_ice_as_first_year_km2"] = lambda c, o=old, f=first: c[..., o, f].sum(-1)  # type: ignore[misc]
        seen = {key: count(matrices) > 0 for key, count in counted.items()}
        for part, wholes in CONTAINED_IN.items():
            for whole in wholes:
                if part in seen:
                    assert not (seen[part] & ~seen[whole]).any(), (legend.name, part, whole)
        # And for what is told of these are all there are, but for those that count the very same.
        for part, whole in permutations(seen, 2):
            if part in BY_HARM and (seen[part] < seen[whole]).any() and not (seen[part] > seen[whole]).any():
                assert not seen[part].any() or whole in CONTAINED_IN[part], (legend.name, part, whole)


def test_every_measure_that_is_told_of_has_its_words() -> None:
    ranks = [m.harm for m in measures(EXTREMEEARTH) if m.harm]
    assert sorted(ranks) == list(range(1, len(ranks) + 1)), "no two are equally harmful"
    for key in BY_HARM:
        found = told(row("weighted_f1", SCORE, apart=True), row(key, MISSED, apart=True))
        assert found[1].measures == (key,)
        assert "{" not in found[1].text
        # What is compared with the truth is not said to be compared with charts.
        truth = told(row("weighted_f1", SCORE, apart=True), row(key, MISSED, apart=True), reference="truth")
        assert "chart" not in truth[1].text and "{" not in truth[1].text


def test_findings_say_what_a_number_is_best_near_to() -> None:
    """Fewer pieces are no praise by themselves: the reference's own number stands beside."""
    pieces = replace(row("patches_per_1000_km2", {"dice": 2.0, "focal": 30.0}, apart=True), chart=0.5, truth=41.8)
    for reference, words in (("chart", "the charts have 0.5"), ("truth", "the truth has 41.8")):
        found = told(row("weighted_f1", SCORE, apart=True), pieces, reference=reference)
        assert f"; {words}\u00a0per 1000 km²: on these" in found[1].text


def test_findings_say_when_score_and_sense_agree() -> None:
    lost = {"cross_entropy": 900.0, "dice": 5000.0, "focal": 20.0}
    sentences = texts(row("weighted_f1", SCORE, apart=True), row("old_ice_missed_km2", lost, apart=True))
    assert sentences[2].endswith("score and sense agree.")
    assert len(told(row("weighted_f1", {"focal": 0.8}, apart=None), titles={"focal": "Focal"})) == 1


def test_one_contender_and_one_axis(tmp_path: Path, undrawn: None) -> None:
    """A single loss is reported too, and trainings that leave each scene out in turn are one contender."""
    run = make_run(tmp_path / "run", losses=("focal",), repeats=1, scenes=("01", "07"))
    cells = run / "cells"
    plan = read_json(run / "plan.json")
    whole = read_json(cells / "focal_r0" / "cell.json")
    for scene in ("01", "07"):
        name = f"focal_held_out-{scene}_r0"
        shutil.copytree(cells / "focal_r0", cells / name)
        about = {"cell": name, "axes": {"split.held_out": scene}}
        tested = [t for t in whole["tested"] if t["scene"] == scene]
        write_json(cells / name / "cell.json", whole | about | {"tested": tested})
    shutil.rmtree(cells / "focal_r0")
    names = [p.name for p in sorted(cells.iterdir())]
    write_json(run / "plan.json", plan | {"cells": [{"cell": n} for n in names]})
    found = read_run(run)
    assert [c.key for c in found.contenders] == ["focal"]
    assert set(found.contenders[0].whole_repeats(found.scene_names)) == {0}
    made = make_report(run, resamples=200)
    page = made.page.read_text(encoding="utf-8")
    assert "Does the ice chart make sense?" in page
    assert " best</span>" not in page
    assert made.findings and "weighted F1" in made.findings[0]


def test_scenes_are_made_alike(tmp_path: Path) -> None:
    """The maker of these runs writes what the checks read: seams, melt season, labels on the product's grid."""
    product, labels = make_scene(DataPaths(tmp_path), "07")
    assert read_geobox(product / "product.tif") == read_geobox(labels / "labels.tif")
    assert len(read_json(product / "product.json")["seams"]) == 2


def test_many_scenes_have_the_numbers_of_all_their_blocks(run: Path) -> None:
    """In one block each, they take a fraction of the memory; rounding of sums is all that differs."""
    found = read_run(run)
    key, (first, *_) = next(iter(assess_run(found).items()))
    sums = {name: read_assessment(a.folder, by_block=False) for name, a in first.items()}
    whole, one = (
        measure_all({key: [{f"{name}-{i}": a for i in range(FEW_SCENES) for name, a in of.items()}]}, found.legend,
                    resamples=200)
        for of in (first, sums)
    )  # fmt: skip
    assert len(whole.rows) == len(one.rows)
    for a, b in zip(whole.rows, one.rows, strict=True):
        assert (a.measure, a.reason) == (b.measure, b.reason)
        for key in a.spreads:
            expected, got = asdict(a.spreads[key]), asdict(b.spreads[key])
            for part in ("value", "low", "high"):
                assert got.pop(part) == pytest.approx(expected.pop(part), rel=1e-9), (a.measure.key, part)
            for part in ("points", "by_scene"):
                got.pop(part), expected.pop(part)
            assert got == expected and FEW_SCENES <= got["scenes"] < got["blocks"]
    assert all(np.array_equal(whole.confusion[k], one.confusion[k]) for k in whole.confusion)


def test_a_check_of_few_among_many_scenes_has_the_spread_of_its_blocks(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where scenes are in one block each, the check of the season applies to one of them, and draws its blocks."""
    found = read_run(run)
    whole = assess_run(found)
    for module in ("report.report", "report.numbers", "evaluation.statistics.bootstrap"):
        monkeypatch.setattr(f"floemap.{module}.FEW_SCENES", 2)
    monkeypatch.setattr("floemap.evaluation.statistics.bootstrap.MIN_BLOCKS", 2)  # the scenes are small
    one = assess_run(found)
    assert all(len(a.confusion) == 1 for runs in one.values() for by_scene in runs for a in by_scene.values())
    key = found.contenders[0].key
    expected, got = (measure_all({key: a[key]}, found.legend, resamples=200) for a in (whole, one))
    drawn = set()
    for a, b in zip(expected.rows, got.rows, strict=True):
        for name, spread in a.spreads.items():
            other = b.spreads[name]
            assert (other.drawn, other.reason) == (spread.drawn, spread.reason)
            if spread.low is not None and spread.high is not None:
                assert (other.low, other.high) == pytest.approx((spread.low, spread.high), rel=1e-9)
                drawn |= {spread.drawn} if spread.low < spread.high else set()
    assert drawn == {"blocks", "scenes"}


def test_maps_of_other_blocks_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))

    def odd(*args: Any, **more: Any) -> Any:
        made = assess_scene(*args, **more)
        return replace(made, confusion=made.confusion[: len(made.confusion) - next(numbers)])

    monkeypatch.setattr("floemap.report.report.assess_scene", odd)
    with pytest.raises(GridError, match="blocks, where other maps of"):
        assess_run(read_run(run))
