"""Small simulated products, written once and shared: 300 x 280 px of 1 km, to be prepared on a grid of 2 km."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray
from once import made_once
from slow_files import slow_files

if TYPE_CHECKING:  # so that tests of the network run where there is no geospatial library
    from checks_lab.grounds import TwinGround
    from loopback import Loopback
    from workshop import Inputs

    from floemap.datasets.download.http import Web
    from floemap.report.report import Report
    from floemap.sentinel1.prepare import PreparedProduct
    from floemap.sentinel1.settings import PrepareSettings
    from floemap.simulation.ai4arctic_scene import SimulatedScene
    from floemap.simulation.safe.spec import ProductSpec

# Small tensors on several threads, beside other tests, wait more than they work. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test is timed: how long an example takes tells how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

SpecFactory = Callable[..., "ProductSpec"]
Sigma0Factory = Callable[["ProductSpec"], dict[str, NDArray[np.float32]]]
ProductWriter = Callable[..., Path]

#: Files that take long, the longest first. They begin before the others; `make quick` leaves them out.
SLOW = slow_files()


#: Fixtures that take long: whatever needs them is slow.
SLOW_FIXTURES = {"ai4arctic_set", "twin_grounds"}


def _place(item: pytest.Item) -> int:
    name = item.path.stem.removeprefix("test_")
    return SLOW.index(name) if name in SLOW else len(SLOW)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)
    for item in items:
        if item.path.stem.removeprefix("test_") in SLOW or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def logging_untouched() -> None:
    """A test finds the library's logger untouched, though a command, of a test or a shared fixture, has set it up."""
    logger = logging.getLogger("floemap")
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def tiny_is_a_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets settings name the tiny model; one thread is faster for what is so small."""
    import torch
    from tiny_model import WITH_TINY

    monkeypatch.setattr("floemap.learning.models.registry.MODELS", WITH_TINY)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _spec(**changes: Any) -> ProductSpec:
    from floemap.simulation.safe.spec import ProductSpec

    usual: dict[str, Any] = {
        "start": datetime(2018, 1, 16, 7, 54, 30, 123456, tzinfo=UTC),
        "lines": 300,
        "samples": 280,
        "pixel_spacing_m": 1000.0,
        "centre_lon": -8.0,
        "centre_lat": 77.0,
        "heading_deg": -150.0,
    }
    return ProductSpec(**(usual | changes))


def _sigma0(spec: ProductSpec) -> dict[str, NDArray[np.float32]]:
    y = np.linspace(0, 1, spec.lines)[:, None]
    x = np.linspace(0, 1, spec.samples)[None, :]
    co = (0.06 * np.exp(0.8 * np.sin(5 * x + 3 * y) - 1.5 * x)).astype(np.float32)
    cross = (0.008 * np.exp(0.8 * np.cos(4 * x - 2 * y))).astype(np.float32)
    return {p: co if p[0] == p[1] else cross for p in spec.polarisations}


@pytest.fixture(scope="session")
def small_spec() -> SpecFactory:
    """Makes the specification of a small product; keywords change fields of it."""
    return _spec


@pytest.fixture(scope="session")
def small_sigma0() -> Sigma0Factory:
    """Smooth backscatter, linear power, for a specification."""
    return _sigma0


@pytest.fixture(scope="session")
def write_small() -> ProductWriter:
    """Writes a small product into a folder, speckle of 10 looks on smooth backscatter; keywords change the spec."""

    from floemap.simulation.safe.writer import write_safe

    def write(out: Path, **changes: Any) -> Path:
        spec = _spec(**changes)
        return write_safe(out, spec, _sigma0(spec), looks=10)

    return write


@pytest.fixture(scope="session")
def small_product(tmp_path_factory: pytest.TempPathFactory, write_small: ProductWriter) -> Path:
    """A folder with ESA's file names. Shared: read it, copy it, don't change it."""
    return write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def small_zip(tmp_path_factory: pytest.TempPathFactory, write_small: ProductWriter, small_product: Path) -> Path:
    """The same product under the same name as a zip. Shared: read it, copy it, don't change it."""
    suffix = small_product.stem.rpartition("_")[2]
    return write_small(tmp_path_factory.mktemp("small_zip"), container="zip", suffix=suffix)


@pytest.fixture(scope="session")
def small_settings() -> PrepareSettings:
    """Settings that suit the small products: two pixels a cell."""
    from floemap.sentinel1.settings import PrepareSettings

    return PrepareSettings(resolution_m=2000)


@pytest.fixture(scope="session")
def prepared(
    tmp_path_factory: pytest.TempPathFactory, small_product: Path, small_settings: PrepareSettings
) -> PreparedProduct:
    """The product, prepared, without a picture. Shared: read it, copy it, don't change it."""
    from floemap.sentinel1.prepare import prepare

    return prepare(small_product, tmp_path_factory.mktemp("prepared"), small_settings, quicklook=False)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, small_product: Path) -> Inputs:
    """Inputs of every command. Shared: read them, copy them, don't change them."""
    from workshop import make_inputs

    made: Inputs = made_once(tmp_path_factory, "workshop", lambda folder: make_inputs(folder, small_product))
    return made


@pytest.fixture(scope="session")
def all_results(tmp_path_factory: pytest.TempPathFactory, workshop: Inputs) -> Inputs:
    """The workshop with the results of `evaluate`, in scores, and of `chart`, in drawn. Shared: don't change it."""
    from workshop import COMMANDS, copied

    def make(folder: Path) -> Inputs:
        inputs = copied(workshop, folder / "inputs")
        for command, out in (("evaluate", "scores"), ("chart", "drawn")):
            assert COMMANDS[command].run(inputs, inputs.folder / out).exit_code == 0
        return inputs

    made: Inputs = made_once(tmp_path_factory, "all_results", make)
    return made


@pytest.fixture(scope="session")
def draft(tmp_path_factory: pytest.TempPathFactory, workshop: Inputs) -> Path:
    """The folder of a draft, as `floemap chart` makes it. Shared: copy it, don't change it."""
    from workshop import run

    def make(out: Path) -> Path:
        words = ("chart", workshop.prepared, "--model", workshop.model, "--only", "chart,sigrid3,geojson,review")
        assert run(*words, "--min-area", "500", "--out", out).exit_code == 0
        return out / workshop.name

    made: Path = made_once(tmp_path_factory, "draft", make)
    return made


@pytest.fixture
def server() -> Iterator[Loopback]:
    """A stand-in for the data services, with nothing in it."""
    from loopback import Loopback

    with Loopback() as loopback:
        yield loopback


@pytest.fixture
def sleeps() -> list[float]:
    """Seconds that the client `web` would have waited."""
    return []


@pytest.fixture
def web(sleeps: list[float]) -> Iterator[Web]:
    """A client that does not wait."""
    from floemap.datasets.download.http import Web

    with Web(sleep=sleeps.append) as client:
        yield client


@pytest.fixture(scope="session")
def remote(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Charts as one archive, products as zips, of January and February. Shared: don't change it."""
    from small_dataset import write_chart, write_product, zip_files

    from floemap.datasets.extremeearth.scenes import scene_of

    folder = tmp_path_factory.mktemp("remote")
    for month in (1, 2):
        write_product(folder, scene_of(month), container="zip")
        write_chart(folder / "charts", scene_of(month))
    archive = zip_files(folder / "EE_v-2-0-0.zip", sorted((folder / "charts").iterdir()), "EE/Sea_Ice-labels/")
    products = {scene_of(m).product: (folder / f"{scene_of(m).product}.zip").read_bytes() for m in (1, 2)}
    return {"EE_v-2-0-0.zip": archive.read_bytes(), "README.txt": b"words"}, products


@pytest.fixture
def dataset(server: Loopback, remote: tuple[dict[str, bytes], dict[str, bytes]]) -> Loopback:
    """The services with the dataset of two months."""
    server.files, server.products = dict(remote[0]), dict(remote[1])
    return server


@pytest.fixture(scope="session")
def twin_grounds(tmp_path_factory: pytest.TempPathFactory) -> tuple[TwinGround, TwinGround]:
    """The twin's January and July on pixels of 800 m: chart, truth, and what the physical checks need. Shared."""
    from checks_lab.grounds import twin_ground

    from floemap.simulation.twin import make_twin

    def make(folder: Path) -> tuple[TwinGround, ...]:
        return tuple(twin_ground(m, folder) for m in make_twin(folder / "twin", "small", months=(1, 7)))

    january, july = made_once(tmp_path_factory, "grounds", make)
    return january, july


@pytest.fixture(scope="session")
def ai4arctic_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedScene, ...]:
    """Three small simulated scenes in AI4Arctic's form, the last a test scene. Shared: read them, don't change them."""
    from floemap.simulation.ai4arctic import make_ai4arctic

    made: tuple[SimulatedScene, ...] = made_once(
        tmp_path_factory, "ai4arctic", lambda folder: make_ai4arctic(folder, 3, size=120)
    )
    return made


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, for what is not about them: they take most of a report's time."""
    from floemap.report.page import Pictures

    monkeypatch.setattr("floemap.report.report._draw", lambda *_: Pictures({}, {}, [], []))


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports with figures drawn, and written as PNG alone: SVG and PDF take two thirds of a report's time."""
    from matplotlib.figure import Figure

    real = Figure.savefig

    def savefig(figure: Figure, file: Any, **how: Any) -> None:
        if how.get("format") == "svg":
            file.write(b"<svg/>")
        elif str(file).endswith((".svg", ".pdf")):
            Path(file).write_bytes(b"<svg/>")
        else:
            real(figure, file, **how)

    monkeypatch.setattr(Figure, "savefig", savefig)


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A comparison of three losses and two repeats on two scenes, and its report. Shared: copy it, don't change it."""
    from run_maker import make_run

    from floemap.report.report import make_report

    def make(folder: Path) -> tuple[Path, Report]:
        run = make_run(folder / "run")
        return run, make_report(run, folder / "report" / "report", resamples=200)

    made: tuple[Path, Report] = made_once(tmp_path_factory, "reported", make)
    return made
