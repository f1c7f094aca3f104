"""The record of a chart is one that lists its files, for bundles, routes and labels alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from chart_maker import ice, other, write_chart

from floemap.bundle.settings import BundleSettings
from floemap.bundle.source import find_chart
from floemap.errors import ConfigError
from floemap.icechart.label.origin import origin_of
from floemap.icechart.read.corrections import OwnRecord, own_record
from floemap.icechart.read.sigrid3 import read_chart
from floemap.results.stage import sha256
from floemap.routes.chart_risk import chart_risk

ROWS = (ice("50", SA="86"), other("W"))
HOW = BundleSettings.checked(area="77N,8W,200nm")


def made_by(command: str, folder: Path, *charts: str) -> Path:
    """A folder with charts and a record that lists them."""
    files = [f for chart in charts for f in write_chart(folder / chart, ROWS).parent.iterdir() if f.suffix != ".json"]
    listed = {f.relative_to(folder).as_posix(): {"sha256": sha256(f)} for f in files}
    record: dict[str, Any] = {"made_by": f"floemap {command}", "files": listed, "status": f"of {command}"}
    if command == "chart":
        record |= {"scene": {"start": "2018-01-16T07:54:30"}, "models": [{"name": "m", "sha256": "1"}]}
    else:
        record |= {"valid": "2018-01-16T07:54:30+00:00", "published": "2018-01-16T09:00:00+00:00", "analyst": "A"}
        record |= {"correction_of": {"model": "m"}}
    (folder / f"{'chart' if command == 'chart' else 'publication'}.json").write_text(json.dumps(record))
    return folder


def as_bundle_route_and_labels_see(chart: Path) -> tuple[str, str, str]:
    """Status of a chart by each of them."""
    try:
        bundled = str(find_chart(chart, HOW)[1].kind)
    except ConfigError as e:
        assert "no record of floemap that lists it" in str(e)
        bundled = "unknown"
    risk = chart_risk(chart, "PC7")
    assert (risk.valid is None) == (risk.own is None)
    origin = origin_of(read_chart(chart).files)
    return bundled, risk.status, "unknown" if origin is None else str(origin["kind"])


DRAFT, CORRECTION = ("draft", "of chart", "draft"), "a correction, not published, not for navigation"


@pytest.mark.parametrize("name", ["chart.gpkg", "chart.geojson", "x_pl_a.shp", "S411_X/S411/chart.gpkg"])
def test_a_chart_that_its_record_lists_is_as_the_record_says_wherever_it_lies(name: str, tmp_path: Path) -> None:
    draft = made_by("chart", tmp_path / "draft", name)
    assert as_bundle_route_and_labels_see(draft / name) == DRAFT
    assert chart_risk(draft / name, "PC7").name == "draft"
    published = made_by("publish", tmp_path / "published", name)
    assert as_bundle_route_and_labels_see(published / name) == ("published", "of publish", "published")


@pytest.mark.parametrize("part", [".shp", ".dbf"])
def test_a_change_in_any_file_of_a_chart_makes_it_a_correction(part: str, tmp_path: Path) -> None:
    chart = made_by("chart", tmp_path / "draft", "x_pl_a.shp") / "x_pl_a.shp"
    assert chart_risk(chart, "PC7").by_model.all()
    with chart.with_suffix(part).open("ab") as file:
        file.write(b"\0")
    assert as_bundle_route_and_labels_see(chart) == ("correction", CORRECTION, "correction")
    assert not chart_risk(chart, "PC7").by_model.any()


@pytest.mark.parametrize("command", ["chart", "publish"])
def test_the_record_of_other_charts_says_nothing_of_a_chart_beside_them(command: str, tmp_path: Path) -> None:
    folder = made_by(command, tmp_path / "made", "chart.gpkg")
    beside = folder / "of_another_service.gpkg"
    shutil.copy(folder / "chart.gpkg", beside)
    # A chart in a draft's folder may be its correction under another name, whose labels are compared with it.
    labels = "correction" if command == "chart" else "unknown"
    assert as_bundle_route_and_labels_see(beside) == ("unknown", "of unknown status", labels)
    assert chart_risk(beside, "PC7").name == beside.name


def test_a_record_above_the_folders_of_an_exchange_set_is_not_a_charts(tmp_path: Path) -> None:
    folder = made_by("chart", tmp_path, "a/b/chart.gpkg", "a/b/c/chart.gpkg")
    found = own_record([folder / "a" / "b" / "chart.gpkg"])
    assert isinstance(found, OwnRecord) and found.folder == folder and found.as_made
    assert own_record([folder / "a" / "b" / "c" / "chart.gpkg"]) is None and own_record([]) is None
