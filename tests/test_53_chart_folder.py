"""What a chart's folder keeps, what is made again, and what in it is somebody else's work."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from chart_models import write_model

from floemap.errors import ConfigError, FloemapError, OutputError
from floemap.inference.draftchart import chart as chart_module
from floemap.inference.draftchart.chart import DraftChart, make_chart, make_charts
from floemap.inference.draftchart.settings import ChartSettings
from floemap.inference.predict.model_files import default_model, find_models
from floemap.learning.models.checkpoint_header import learnt_from, read_about
from floemap.outcomes import each_product
from floemap.progress import Progress
from floemap.sentinel1.prepare import PreparedProduct
from floemap.sentinel1.settings import PrepareSettings

SETTINGS = ChartSettings(min_area_km2=100, only=("classes", "chart"))
FILES = {"classes.tif", "classes.qml", "chart.gpkg", "chart.qml", "item.json", "chart.json"}
PICTURE = SETTINGS.model_copy(update={"only": ("quicklook",)})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, prepared: PreparedProduct) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [write_model(folder / f"m{i}.safetensors", prepared.raster, seed=i) for i in range(2)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, prepared: PreparedProduct, models: list[Path]) -> DraftChart:
    """Shared: only to copy."""
    return make_chart(prepared.folder, models[:1], tmp_path_factory.mktemp("made"), SETTINGS)


@pytest.fixture
def chart(made: DraftChart, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "out" / made.folder.name))


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_one_output_made_again_leaves_the_others(chart: Path, prepared: PreparedProduct, models: list[Path]) -> None:
    make_chart(prepared.folder, models[:1], chart.parent, PICTURE, overwrite=True)
    assert names(chart) == FILES | {"quicklook.png"}


def test_other_settings_make_all_of_it_again(chart: Path, prepared: PreparedProduct, models: list[Path]) -> None:
    smooth = PICTURE.model_copy(update={"smoothing_m": 5000.0})
    make_chart(prepared.folder, models[:1], chart.parent, smooth)
    assert names(chart) == FILES | {"quicklook.png"}
    assert json.loads((chart / "chart.json").read_text())["configuration"]["smoothing_m"] == 5000


def test_an_analysts_work_is_not_lost(chart: Path, prepared: PreparedProduct, models: list[Path]) -> None:
    """A file of hers beside the chart, or the chart itself, corrected in place."""
    (chart / "corrected.gpkg").write_text("hours of work")
    (chart / "classes.tif.aux.xml").write_text("GDAL's notes are nobody's work")
    before = (chart / "chart.gpkg").read_bytes()
    (chart / "chart.gpkg").write_bytes(before + b"corrected")
    assert make_chart(prepared.folder, models[:1], chart.parent, SETTINGS).skipped, "nothing is to be made"
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"changed since: chart\.gpkg, corrected\.gpkg\..*--overwrite") as e:
            make_chart(prepared.folder, models[1:], chart.parent, SETTINGS, overwrite=overwrite)
        assert e.value.path == chart
        assert (chart / "corrected.gpkg").read_text() == "hours of work"
        assert (chart / "chart.gpkg").read_bytes() == before + b"corrected"
    (chart / "corrected.gpkg").rename(chart.parent / "corrected.gpkg")
    (chart / "chart.gpkg").rename(chart.parent / "chart.gpkg")
    assert not make_chart(prepared.folder, models[1:], chart.parent, SETTINGS, overwrite=True).skipped
    assert names(chart) == FILES


def test_without_eggs_there_is_no_grid(prepared: PreparedProduct, models: list[Path], tmp_path: Path) -> None:
    plain = SETTINGS.model_copy(update={"only": ("classes", "grid"), "eggs": False})
    made = make_chart(prepared.folder, models[:1], tmp_path, plain)
    assert names(made.folder) == {"classes.tif", "classes.qml", "item.json", "chart.json"}
    assert json.loads(made.record.read_text())["left_out"] == {"grid": "concentrations were not estimated"}
    assert make_chart(prepared.folder, models[:1], tmp_path, plain).skipped


def test_work_in_the_exchange_set_is_not_lost(
    chart: Path, prepared: PreparedProduct, models: list[Path], tmp_path: Path
) -> None:
    only = SETTINGS.model_copy(update={"only": ("s411",)})
    make_chart(prepared.folder, models[:1], chart.parent, only)
    (dataset,) = chart.glob("S411_floemap_*/data/*.gml")
    before = dataset.read_bytes()
    again = make_chart(prepared.folder, models[:1], chart.parent, only, overwrite=True)
    assert not again.skipped
    assert dataset.read_bytes() == before
    dataset.write_bytes(before + b"<!-- corrected -->")
    (dataset.parent / "mine.txt").write_text("a note")
    changed = rf"changed since: {dataset.parent.parent.name}/data/mine\.txt, {dataset.relative_to(chart)}"
    with pytest.raises(OutputError, match=changed):
        make_chart(prepared.folder, models[1:], chart.parent, only, overwrite=True)
    assert (dataset.parent / "mine.txt").read_text() == "a note"


def test_a_folder_that_is_no_charts_is_not_replaced(
    prepared: PreparedProduct, models: list[Path], tmp_path: Path
) -> None:
    """A chart for a prepared product into the folder of prepared products would take its place."""
    folder = tmp_path / prepared.folder.name
    shutil.copytree(prepared.folder, folder)
    with pytest.raises(OutputError, match=r"product\.tif"):
        make_chart(folder, models[:1], tmp_path, SETTINGS)
    assert (folder / "product.tif").is_file()


def test_an_empty_file_is_made_again(chart: Path, prepared: PreparedProduct, models: list[Path]) -> None:
    """As a power cut leaves it."""
    (chart / "classes.tif").write_bytes(b"")
    assert not make_chart(prepared.folder, models[:1], chart.parent, SETTINGS).skipped
    assert (chart / "classes.tif").stat().st_size > 0


def test_what_is_prepared_cannot_be_prepared_otherwise(
    prepared: PreparedProduct, models: list[Path], tmp_path: Path
) -> None:
    otherwise = SETTINGS.model_copy(update={"prepare": PrepareSettings(noise="none", resolution_m=2000)})
    with pytest.raises(ConfigError, match="is prepared already, so noise, resolution_m cannot be set"):
        make_chart(prepared.folder, models[:1], tmp_path, otherwise)
    made = make_chart(prepared.folder, models[:1], tmp_path, SETTINGS)
    record = json.loads(made.record.read_text())
    assert "prepare" not in record["configuration"]
    assert record["product"]["prepared_as"]["resolution_m"] == 2000


def test_the_prepared_product_is_kept_though_the_chart_is_finished(
    small_product: Path, models: list[Path], tmp_path: Path
) -> None:
    out, keep = tmp_path / "out", tmp_path / "keep"
    make_chart(small_product, models[:1], out, SETTINGS)
    again = make_chart(small_product, models[:1], out, SETTINGS, prepared=keep)
    assert again.skipped
    assert (keep / again.folder.name / "product.tif").is_file()


def test_a_mask_without_land_on_the_scene_is_said(
    prepared: PreparedProduct, models: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpd.GeoDataFrame(geometry=[shapely.box(-10, -80, 10, -74)], crs=4326).to_file(tmp_path / "south.gpkg")
    with caplog.at_level(logging.WARNING, logger="floemap"):
        make_chart(prepared.folder, models[:1], tmp_path / "out", SETTINGS, land_mask=tmp_path / "south.gpkg")
    assert "south.gpkg has no land on" in caplog.text


def test_an_error_that_nobody_thought_of_does_not_stop_the_rest(
    prepared: PreparedProduct, models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Path(shutil.copytree(prepared.folder, tmp_path / "S1_first"))
    real = vars(chart_module)["find_product"]

    def find(product: Path) -> object:
        if product == first:
            raise ZeroDivisionError("nobody thought of it")
        return real(product)

    monkeypatch.setattr(chart_module, "find_product", find)
    one, two = make_charts([first, prepared.folder], models[:1], tmp_path / "out", SETTINGS)
    assert isinstance(one.error, FloemapError) and one.error.path == first
    assert "unexpected ZeroDivisionError: nobody thought of it" in str(one.error)
    assert isinstance(one.error.__cause__, ZeroDivisionError)
    assert two.error is None


def test_what_nothing_can_be_made_with_stops_at_once(tmp_path: Path) -> None:
    def work(product: Path, made: object, progress: Progress) -> None:
        raise ValueError("the model")

    with pytest.raises(ValueError, match="the model"):
        each_product([tmp_path, tmp_path], work, hopeless=lambda: True)


# --- the model that comes along


def test_a_model_comes_along_and_says_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    path = default_model()
    assert path.stat().st_size < 10_000_000
    (model,) = find_models(None)
    assert model.simulated and model.learnt_from == "SIMULATED scenes only"
    assert (model.resolution_m, model.legend.name) == (80, "extremeearth")
    assert model.about["dtype"] == "float16"
    assert not caplog.text  # it warns once there is something to chart
    model.warn_if_simulated()
    assert "SIMULATED SCENES ONLY" in caplog.text and "unfit for any use" in caplog.text
    # Nothing of the machine that it was made on.
    assert not [place for place in ("/tmp", "/home", "/root") if place in json.dumps(model.about)]


def test_the_card_tells_of_this_file() -> None:
    card = Path(__file__).parents[1] / "docs" / "model-card.md"
    if not card.is_file():
        pytest.skip("no docs here")
    text, about = card.read_text(), read_about(default_model())
    assert default_model().name in text
    assert f"epoch {about['best']['epoch']}," in text
    assert f"weighted F1 {about['best']['weighted_f1']:.3f}" in text
    assert f"({about['best']['validation_loss']:.3f}, " in text
    assert f"{default_model().stat().st_size / 1e6:.1f} MB" in text


@pytest.mark.parametrize(
    ("simulated", "parts", "started", "words"),
    [
        (True, [], None, "SIMULATED scenes only"),
        (False, [], None, "real scenes"),
        (True, [True, True], None, "SIMULATED scenes only"),
        (True, [True, False], None, "real and SIMULATED scenes"),
        (True, [False], "SIMULATED scenes only", "real and SIMULATED scenes"),
        (False, [False], "real scenes", "real scenes"),
    ],
)
def test_what_a_model_learnt_from(simulated: bool, parts: list[bool], started: str | None, words: str) -> None:
    about: dict[str, object] = {"simulated": simulated, "data": [{"simulated": p} for p in parts]}
    if started is not None:
        about["started_from"] = {"learnt_from": started}
    assert learnt_from(about) == words
