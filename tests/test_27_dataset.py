"""Finding the dataset in folders of any layout, and telling what is missing and what is wrong."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import PASSWORD, USER, Loopback
from small_dataset import write_chart, write_product, zip_files
from typer.testing import CliRunner

import floemap.cli.fetch  # noqa: F401  (registers the command)
from floemap.cli.app import app
from floemap.datasets.download.copernicus import PASSWORD_VARIABLE, USER_VARIABLE
from floemap.datasets.download.http import Services
from floemap.datasets.extremeearth import fetch as fetch_module
from floemap.datasets.extremeearth.find import find_dataset
from floemap.datasets.extremeearth.inventory import Finding, check_dataset
from floemap.datasets.extremeearth.scenes import COLUMNS_V1, SCENES, scene_of
from floemap.errors import FloemapError
from floemap.sentinel1.safe.reader import open_scene

JAN = scene_of(1)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """January once in every form, to copy from."""
    folder = tmp_path_factory.mktemp("parts")
    write_product(folder / "safe", JAN)
    write_product(folder / "cloud", JAN, naming="cloud")
    write_product(folder / "zip", JAN, container="zip")
    write_chart(folder / "v1", JAN, columns="V1")
    write_chart(folder / "v2", JAN)
    zip_files(folder / "charts.zip", sorted((folder / "v2").iterdir()), "EE/Sea_Ice-labels/")
    return folder


def put_product(parts: Path, form: str, to: Path) -> Path:
    source = next((parts / form).iterdir())
    to.mkdir(parents=True, exist_ok=True)
    copy = shutil.copytree if source.is_dir() else shutil.copy
    return Path(copy(source, to / source.name))


def put_chart(parts: Path, form: str, to: Path) -> Path:
    to.mkdir(parents=True, exist_ok=True)
    if form == "zip":
        return Path(shutil.copy(parts / "charts.zip", to / "charts.zip"))
    for file in (parts / form).iterdir():
        shutil.copy(file, to)
    return to / f"{JAN.chart}.shp"


def look(root: Path, **options: Any) -> tuple[Finding, Finding]:
    month = check_dataset(root, [1], **options).months[0]
    return month.product, month.chart


folder_names = st.lists(st.sampled_from(["a", "EE", "2018", "S1 data", "Bänder", "deep.zip"]), max_size=4)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    product_at=folder_names,
    chart_at=folder_names,
    product=st.sampled_from(["safe", "cloud", "zip"]),
    chart=st.sampled_from(["v1", "v2", "zip"]),
)
def test_any_layout_is_found_and_right(
    parts: Path, tmp_path_factory: pytest.TempPathFactory, product_at: str, chart_at: str, product: str, chart: str
) -> None:
    root = tmp_path_factory.mktemp("layout")
    product_path = put_product(parts, product, root.joinpath(*product_at))
    chart_path = put_chart(parts, chart, root.joinpath(*chart_at))
    entry = find_dataset(root, months=[1]).entry(1)
    assert entry.product == product_path
    assert entry.chart is not None and entry.chart.path == chart_path
    assert (entry.chart.inside is not None) == (chart == "zip")
    found = check_dataset(root, [1], checksums=True)
    assert found.complete and found.simulated == 1
    assert not check_dataset(root).complete


def test_what_is_found_can_be_opened_and_read_alike_from_every_form(parts: Path, tmp_path: Path) -> None:
    charts = {}
    for form in ("v1", "v2", "zip"):
        put_chart(parts, form, tmp_path / form)
        charts[form] = find_dataset(tmp_path / form).entry(1).chart.read()
    assert charts["zip"].polygons.equals(charts["v2"].polygons)
    assert (
        charts["v1"]
        .polygons.drop(columns=["cc", "sc", "fc"])
        .equals(charts["v2"].polygons.drop(columns=["cc", "sc", "fc"]))
    )
    put_product(parts, "zip", tmp_path)
    assert open_scene(find_dataset(tmp_path).entry(1).product).name == JAN.product


def test_the_first_releases_columns_work_and_are_noted(parts: Path, tmp_path: Path) -> None:
    put_chart(parts, "v1", tmp_path / "first")
    _, chart = look(tmp_path)
    assert chart.state == "right" and "V1" in "".join(chart.notes)
    assert set(gpd.read_file(tmp_path / "first" / f"{JAN.chart}.shp").columns) == {*COLUMNS_V1, "geometry"}
    put_chart(parts, "v2", tmp_path / "second")
    assert find_dataset(tmp_path).entry(1).chart.path.parent.name == "first"  # by path alone they are alike
    (tmp_path / "first").rename(tmp_path / "EE_v-1-0-0")
    _, chart = look(tmp_path)
    assert "second" in chart.where and "V1" not in "".join(chart.notes)
    assert "EE_v-1-0-0" in "".join(chart.notes)


def test_an_empty_folder_lacks_everything_by_name(tmp_path: Path) -> None:
    found = check_dataset(tmp_path)
    assert found.count("missing") == 24 and not found.complete
    assert find_dataset(tmp_path).missing([3]) == [scene_of(3).product, scene_of(3).chart]
    with pytest.raises(FloemapError, match=JAN.chart):
        find_dataset(tmp_path, months=[1, 2])
    with pytest.raises(FloemapError, match="does not exist"):
        find_dataset(tmp_path / "none")


# What is wrong


def empty_measurement(path: Path) -> None:
    next((path / "measurement").glob("*-hv-*")).write_bytes(b"")


def no_measurement(path: Path) -> None:
    next((path / "measurement").glob("*-hv-*")).unlink()


def short_measurement(path: Path) -> None:
    file = next((path / "measurement").glob("*-hh-*"))
    file.write_bytes(file.read_bytes()[:-100])


def changed_annotation(path: Path) -> None:
    file = next((path / "annotation").glob("*-hh-*"))
    file.write_bytes(file.read_bytes() + b" ")


def no_manifest_content(path: Path) -> None:
    (path / "manifest.safe").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (empty_measurement, "empty"),
        (no_measurement, "0 measurement"),
        (short_measurement, "ends after"),
        (changed_annotation, "checksum"),
        (no_manifest_content, "empty"),
    ],
)
def test_a_damaged_product_is_told(parts: Path, tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    path = put_product(parts, "safe", tmp_path)
    damage(path)
    product, _ = look(tmp_path)
    assert (product.state, product.where) == ("wrong", str(path))
    assert said in product.problems[0] and str(path) in product.problems[0]


def test_changed_pixels_are_told_when_checksums_are_asked_for(parts: Path, tmp_path: Path) -> None:
    file = next((put_product(parts, "safe", tmp_path) / "measurement").glob("*-hv-*"))
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)
    assert look(tmp_path)[0].state == "right"
    product, _ = look(tmp_path, checksums=True)
    assert product.state == "wrong" and "checksum" in product.problems[0]


def test_a_truncated_zip_is_told(parts: Path, tmp_path: Path) -> None:
    product_path, chart_path = put_product(parts, "zip", tmp_path), put_chart(parts, "zip", tmp_path)
    for path in (product_path, chart_path):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = check_dataset(tmp_path, [1])
    assert found.months[0].product.state == "wrong" and "zip" in found.months[0].product.problems[0]
    # Nothing says that this zip held charts, so it is told of on its own.
    assert found.months[0].chart.state == "missing"
    assert len(found.unreadable) == 1 and str(chart_path) in found.unreadable[0]


@pytest.mark.parametrize("suffix", [".dbf", ".shx", ".prj"])
def test_a_shapefile_that_is_not_whole_is_told(parts: Path, tmp_path: Path, suffix: str) -> None:
    path = put_chart(parts, "v2", tmp_path)
    path.with_suffix(suffix).unlink()
    _, chart = look(tmp_path)
    assert chart.state == "wrong"
    assert (".dbf" if suffix == ".dbf" else ".shx" if suffix == ".shx" else "CRS") in chart.problems[0]
    zip_files(tmp_path / "all.zip", sorted(tmp_path.glob(f"{JAN.chart}.*")))
    for file in tmp_path.glob(f"{JAN.chart}.*"):
        file.unlink()
    assert look(tmp_path)[1].state == "wrong"


def test_a_right_copy_is_used_and_the_wrong_one_told(parts: Path, tmp_path: Path) -> None:
    good, bad = put_product(parts, "safe", tmp_path / "b"), put_product(parts, "safe", tmp_path / "a")
    short_measurement(bad)
    put_chart(parts, "v2", tmp_path / "b")
    put_chart(parts, "v2", tmp_path / "a").with_suffix(".dbf").unlink()
    product, chart = look(tmp_path)
    assert (product.state, product.where) == ("right", str(good))
    assert str(bad) in "".join(product.notes) and "ends after" in "".join(product.notes)
    assert chart.state == "right" and Path(chart.where).parent == tmp_path / "b"
    # Without looking inside, what is plainly broken is already put last.
    for file in (bad / "measurement").iterdir():
        file.write_bytes(b"")
    entry = find_dataset(tmp_path).entry(1)
    assert entry.product == good and entry.chart.path.parent.name == "b"


def test_something_else_under_the_right_name_is_wrong(parts: Path, tmp_path: Path) -> None:
    for other in (2, 3):  # of another mission, of another time
        put_product(parts, "safe", tmp_path).rename(tmp_path / f"{scene_of(other).product}.SAFE")
        found = check_dataset(tmp_path, [other]).months[0].product
        assert found.state == "wrong" and "is a scene of S1A from 2018-01-16" in found.problems[0]
    far = tmp_path / "far"
    put_product(parts, "safe", far)
    write_chart(far, JAN, east_deg=180.0)
    _, chart = look(far)
    assert chart.state == "wrong" and "does not overlap the product" in chart.problems[0]


def test_a_chart_that_covers_little_is_noted(parts: Path, tmp_path: Path) -> None:
    put_product(parts, "safe", tmp_path)
    write_chart(tmp_path, JAN, north_deg=3.5)
    _, chart = look(tmp_path)
    assert chart.state == "right" and "covers" in "".join(chart.notes)


def test_a_renamed_folder_is_told_by_its_files(parts: Path, tmp_path: Path) -> None:
    put_product(parts, "safe", tmp_path).rename(tmp_path / "january")
    product, _ = look(tmp_path)
    assert product.state == "right" and "january" in product.where


def test_another_processing_is_the_same_scene(tmp_path: Path) -> None:
    write_product(tmp_path, JAN, suffix="ABCD", cog=True)
    product, _ = look(tmp_path)
    assert product.state == "right" and "another processing" in "".join(product.notes)


def test_what_cannot_be_looked_into_is_told(parts: Path, tmp_path: Path) -> None:
    inner = put_product(parts, "zip", tmp_path / "x")
    zip_files(tmp_path / "outer.zip", [inner])
    inner.unlink()
    (tmp_path / "charts.7z").write_bytes(b"7z")
    (tmp_path / "empty.zip").write_bytes(b"")
    found = check_dataset(tmp_path, [1])
    assert sorted(Path(u.split(" ")[0]).name for u in found.unreadable) == ["charts.7z", "empty.zip", "outer.zip"]
    assert found.months[0].product.state == "missing"


def test_loops_hidden_folders_and_halves_made_by_others_are_passed_by(parts: Path, tmp_path: Path) -> None:
    put_chart(parts, "v2", tmp_path / "charts")
    put_product(parts, "safe", tmp_path / ".trash")
    (tmp_path / "charts" / "loop").symlink_to(tmp_path, target_is_directory=True)
    shutil.copy(tmp_path / "charts" / f"{JAN.chart}.shp", tmp_path / f"{JAN.chart}-NE.shp")
    entry = find_dataset(tmp_path).entry(1)
    assert len(entry.charts) == 1 and not entry.products


def test_a_linked_folder_counts(parts: Path, tmp_path: Path) -> None:
    put_product(parts, "safe", tmp_path / "elsewhere")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert look(tmp_path / "dataset")[0].state == "right"


def test_a_hostile_zip_is_wrong_and_nothing_is_unpacked(parts: Path, tmp_path: Path) -> None:
    path = put_product(parts, "zip", tmp_path)
    with zipfile.ZipFile(path, "a") as z:
        z.writestr("../../escaped.txt", "x")
    before = sorted(tmp_path.parent.rglob("*"))
    product, _ = look(tmp_path)
    assert product.state == "wrong" and "leaves the archive" in product.problems[0]
    assert sorted(tmp_path.parent.rglob("*")) == before


# Simulated or real


def test_simulated_sets_pass_and_are_told(parts: Path, tmp_path: Path) -> None:
    put_product(parts, "safe", tmp_path)
    put_chart(parts, "v2", tmp_path)
    assert not find_dataset(tmp_path).simulated
    (tmp_path / "SIMULATED.txt").write_text("")
    assert find_dataset(tmp_path).simulated
    found = check_dataset(tmp_path, [1])
    assert found.complete and found.simulated == 1


def seem_real(product: Path) -> None:
    """Take away both marks of a simulated product; neither is in a checksum."""
    (product / "SIMULATED.txt").unlink()
    manifest = product / "manifest.safe"
    text = manifest.read_text()
    assert 'name="floemap simulator"' in text
    manifest.write_text(text.replace('name="floemap simulator"', 'name="Copernicus Ground Segment"'))


def test_simulated_and_real_scenes_are_not_mixed_in_silence(tmp_path: Path) -> None:
    for month in (1, 2):
        write_product(tmp_path, scene_of(month))
        write_chart(tmp_path, scene_of(month))
    seem_real(tmp_path / f"{JAN.product}.SAFE")
    found = check_dataset(tmp_path, [1, 2])
    assert found.count("right") == 4 and not found.complete and "apart" in found.problems[0]
    assert check_dataset(tmp_path, [1]).complete
    (tmp_path / "SIMULATED.txt").write_text("")
    found = check_dataset(tmp_path, [1])
    assert not found.complete and "marked as simulated" in found.problems[0]


# The command


@pytest.fixture
def run() -> Iterator[Callable[..., tuple[int, str]]]:
    runner = CliRunner()

    def call(*words: str) -> tuple[int, str]:
        result = runner.invoke(app, ["fetch", "extremeearth", *words])
        return result.exit_code, result.output

    yield call


def test_check_says_what_is_there_and_exits_accordingly(
    parts: Path, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    put_product(parts, "safe", tmp_path)
    put_chart(parts, "v1", tmp_path)
    code, said = run("--check", str(tmp_path), "--months", "1")
    assert code == 0 and "2 right, 0 missing, 0 wrong" in said and "Simulated products: 1" in said and "V1" in said
    code, said = run("--check", str(tmp_path))
    assert code == 1 and "2 right, 22 missing, 0 wrong" in said
    assert all(s.product in said and s.chart in said and s.title in said for s in SCENES)
    code, said = run("--check", str(tmp_path), "--months", "1", "--json")
    assert code == 0 and json.loads(said)["months"][0]["product"]["state"] == "right"
    shutil.rmtree(tmp_path / f"{JAN.product}.SAFE" / "measurement")
    code, said = run("--check", str(tmp_path), "--months", "1")
    assert code == 1 and "1 right, 0 missing, 1 wrong" in said and "measurement" in said
    assert run("--check", str(tmp_path), "--months", "1", "--only", "charts")[0] == 0


def test_the_command_fetches(
    tmp_path: Path, run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_product(tmp_path / "remote", JAN, container="zip")
    write_chart(tmp_path / "remote" / "charts", JAN)
    archive = zip_files(tmp_path / "remote" / "a.zip", sorted((tmp_path / "remote" / "charts").iterdir()))
    monkeypatch.setenv(USER_VARIABLE, USER)
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with Loopback() as server:
        server.files = {"a.zip": archive.read_bytes()}
        server.products = {JAN.product: (tmp_path / "remote" / f"{JAN.product}.zip").read_bytes()}
        monkeypatch.setattr(fetch_module, "SERVICES", Services.at(server.url))
        code, said = run("--out", str(tmp_path / "out"), "--months", "1")
        assert code == 0 and "2 files to download: up to" in said and "2 right" in said
        assert PASSWORD not in said
        # The archive holds January's chart only, so February's stays missing: the exit code says so.
        code, said = run("--out", str(tmp_path / "out"), "--months", "1,2", "--only", "charts")
        assert code == 1 and "1 right, 1 missing" in said


def test_what_makes_no_sense_is_refused(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    for words in ([], ["--out", str(tmp_path), "--check", str(tmp_path)], ["--out", str(tmp_path), "--checksums"]):
        code, said = run(*words)
        assert code == 1 and "--check" in said and "Traceback" not in said
    assert run("--check", str(tmp_path), "--months", "13")[0] == 1
    assert run("--check", str(tmp_path / "none"))[0] == 1
    assert not list(tmp_path.iterdir())
