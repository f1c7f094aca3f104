"""Results appear whole or not at all: full disks, kills, interrupts, things in the way, products that fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import MANIFEST, copied, edited
from odc.geo.geobox import GeoBox
from typer.testing import CliRunner

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.cog import Band, write_cog
from floemap.errors import FloemapError, OutputError
from floemap.results.stage import write_json
from floemap.sentinel1.batch import prepare_all
from floemap.sentinel1.prepare import PreparedProduct, prepare
from floemap.sentinel1.settings import PrepareSettings

FILES = {"product.tif", "product.qml", "product.json", "item.json"}


@pytest.fixture(scope="module")
def intact(
    tmp_path_factory: pytest.TempPathFactory, small_product: Path, small_settings: PrepareSettings
) -> PreparedProduct:
    """The result of a run that nothing disturbs. Shared: only to compare with."""
    return prepare(small_product, tmp_path_factory.mktemp("intact"), small_settings, quicklook=False)


def contents(folder: Path) -> dict[str, Any]:
    """A result's files, without the time at which they were made."""
    found: dict[str, Any] = {f.name: f.read_bytes() for f in folder.iterdir()}
    found["product.json"] = json.loads(found["product.json"])
    for key in ("created", "sources"):  # when it was made, and from where
        del found["product.json"][key]
    return found


# --- no space


def test_a_limit_on_files(small_product: Path, intact: PreparedProduct, tmp_path: Path) -> None:
    """A process may not write files beyond a limit, as on a full disk: an error says so, and nothing is left."""
    raster = intact.raster.stat().st_size
    limits = [0, 1, raster // 2, raster - 1, raster]  # the last is enough for all but the picture
    script = f"""
import resource, signal
from pathlib import Path
from floemap.sentinel1.settings import PrepareSettings
from floemap.errors import OutputError
from floemap.sentinel1.prepare import prepare

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
out = Path({str(tmp_path / "out")!r})
for limit in {limits!r}:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        prepare({str(small_product)!r}, out, PrepareSettings(resolution_m=2000), quicklook=limit == {raster})
    except OutputError as e:
        assert not out.exists(), list(out.iterdir())
        print(e)
    else:
        raise AssertionError(f"a limit of {{limit}} bytes did not matter")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
prepare({str(small_product)!r}, out, PrepareSettings(resolution_m=2000), quicklook=False)
"""
    run = run_python(script)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""  # GDAL has a voice of its own
    final = tmp_path / "out" / intact.folder.name
    words = "cannot be written: File too large."
    lines = run.stdout.splitlines()
    assert [line.split(words)[0] for line in lines] == [f"{final / 'product.tif'}: "] * 4 + [f"{final}: "]
    assert contents(final) == contents(intact.folder)


@pytest.mark.parametrize("file", ["item.json", "product.json"])
def test_a_disk_that_fills_up(
    file: str, small_product: Path, small_settings: PrepareSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.fsync

    def fsync(descriptor: int) -> None:
        if file in Path(f"/proc/self/fd/{descriptor}").readlink().name:
            os.ftruncate(descriptor, 1)
            raise OSError(28, "No space left on device")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    out = tmp_path / "out"
    with pytest.raises(OutputError, match=r"No space left on device\. Free some space") as e:
        prepare(small_product, out, small_settings, quicklook=False)
    assert e.value.path == out / small_product.stem / file
    assert not out.exists()


def test_rasters_beyond_a_limit(tmp_path: Path) -> None:
    """The writer of rasters alone, with many tiles and overviews; the file that stood there before stays."""
    script = f"""
import resource, signal, sys
import numpy as np
from pathlib import Path
from odc.geo.geobox import GeoBox
from floemap.cog import Band, write_cog
from floemap.errors import OutputError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
box = GeoBox.from_bbox((0, 0, 80 * 1500, 80 * 1500), "EPSG:3413", resolution=80)
array = np.random.default_rng(0).integers(0, 250, (2, 1500, 1500)).astype(np.uint8)
path = Path({str(tmp_path)!r}) / "a.tif"
write_cog(path, box, array, [Band("a"), Band("b")], nodata=255)
before = path.read_bytes()
for limit in (0, 100, 10_000, 500_000, 2_000_000, len(before) - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for target in (path, path.with_name("b.tif")):
        try:
            write_cog(target, box, array, [Band("a"), Band("b")], nodata=255)
        except OutputError as e:
            assert str(target) in str(e), e
        else:
            raise AssertionError(limit)
    assert [f.name for f in path.parent.iterdir()] == ["a.tif"], list(path.parent.iterdir())
    assert path.read_bytes() == before
"""
    run = run_python(script)
    assert (run.returncode, run.stderr) == (0, ""), run.stderr


def test_rasters_leave_no_files_beside_them(tmp_path: Path) -> None:
    """GDAL likes to keep statistics, masks and overviews in files of their own."""
    box = GeoBox.from_bbox((0, 0, 80 * 1100, 80 * 700), "EPSG:3413", resolution=80)
    bands = [
        Band("classes", categories={0: "ice", 1: "water"}, colours={0: (1, 2, 3), 1: (4, 5, 6)}, overview="mode"),
    ]
    array = np.indices(box.shape).sum(axis=0).astype(np.uint8)[None]
    write_cog(tmp_path / "a.tif", box, array, bands, nodata=255, tags={"k": "v"})
    write_cog(tmp_path / "b.tif", box, array.astype(np.float32), [Band("x", "1", "words", 0.5, 3.0)], nodata=None)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.tif", "b.tif"]


def test_json_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OutputError, match=r"a\.json"):
        write_json(tmp_path / "a.json", {})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert [f.name for f in tmp_path.iterdir()] == ["a.json"]


# --- things in the way


def test_files_in_the_way(small_product: Path, small_settings: PrepareSettings, tmp_path: Path) -> None:
    name = small_product.stem
    cases = {tmp_path / "a": tmp_path / "a", tmp_path / "b" / "deeper": tmp_path / "b", tmp_path / "c": None}
    for out, file in cases.items():
        if file is None:
            out.mkdir()
            file = out / name
        file.write_text("mine")
        with pytest.raises(OutputError, match="in the way"):
            prepare(small_product, out, small_settings, quicklook=False)
        assert file.read_text() == "mine"
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")} == {"a", "b", "c", f"c/{name}"}


def test_folders_that_refuse(small_product: Path, small_settings: PrepareSettings, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("nothing is refused to root")
        with pytest.raises(OutputError, match="may write to"):
            prepare(small_product, tmp_path / "out", small_settings, quicklook=False)
    finally:
        tmp_path.chmod(0o700)


def test_refused_permission(
    small_product: Path, small_settings: PrepareSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for root, by the error that the system would give."""
    original = Path.mkdir

    def mkdir(self: Path, *args: Any, **kwargs: Any) -> None:
        if ".partial-" in self.name:
            raise PermissionError(13, "Permission denied", str(self))
        original(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(OutputError, match=r"Permission denied\. Choose a folder that you may write to"):
        prepare(small_product, tmp_path / "out", small_settings, quicklook=False)


# --- kills and interrupts


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


#: Where a process kills itself: half-way through, before the last file, and between the two renames that replace a
#: result.
KILLS = {
    "while reading": "product.calibrate = die",
    "before the record": "product.write_json = die",
    "while replacing": """
rename = Path.rename
def maybe(self, target):
    rename(self, target)
    if target.name.endswith(".old"):
        die()
Path.rename = maybe
""",
}


@pytest.mark.parametrize("place", KILLS)
def test_a_killed_run_and_the_next(
    place: str, small_product: Path, small_settings: PrepareSettings, intact: PreparedProduct, tmp_path: Path
) -> None:
    replacing = place == "while replacing"
    out, name = tmp_path / "out", intact.folder.name
    if replacing:
        prepare(small_product, out, small_settings, quicklook=False)
    run = run_python(f"""
import os, signal
from pathlib import Path
from floemap.sentinel1.settings import PrepareSettings
from floemap.sentinel1 import prepare as product

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

{KILLS[place]}
product.prepare({str(small_product)!r}, {str(out)!r}, PrepareSettings(resolution_m=2000), quicklook=False,
                overwrite={replacing})
""")
    assert run.returncode == -signal.SIGKILL
    left = [p.name for p in out.iterdir()]
    assert left, "the kill came too early to test anything"
    assert all(n.startswith(f".{name}.partial-") for n in left)  # nothing has the final name
    again = prepare(small_product, out, small_settings, quicklook=False)
    assert [p.name for p in out.iterdir()] == [name]
    assert contents(again.folder) == contents(intact.folder)


def test_a_running_neighbour_is_left_alone(
    small_product: Path, small_settings: PrepareSettings, tmp_path: Path
) -> None:
    """Another process at the same product: its hidden folder is no leftover, until it is gone."""
    script = f"""
import time
from pathlib import Path
from floemap.results.folders import stage_folder
from floemap.sentinel1.prepare import STAGE

with stage_folder(Path({str(tmp_path / small_product.stem)!r}), STAGE) as folder:
    (folder / "product.tif").touch()
    print("begun", flush=True)
    time.sleep(600)
"""
    neighbour = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert neighbour.stdout is not None and neighbour.stdout.readline() == "begun\n"
        there = set(tmp_path.iterdir())
        assert len(there) == 2, "a folder and its lock"
        made = prepare(small_product, tmp_path, small_settings, quicklook=False)
        assert set(tmp_path.iterdir()) == {*there, made.folder}
    finally:
        neighbour.kill()
        neighbour.communicate()
    again = prepare(small_product, tmp_path, small_settings, quicklook=False, overwrite=True)
    assert list(tmp_path.iterdir()) == [again.folder]


@pytest.mark.parametrize("moment", ["calibrating", "geocoding", "writing"])
def test_interrupts_leave_nothing(
    moment: str, small_product: Path, small_settings: PrepareSettings, tmp_path: Path
) -> None:
    def interrupted(done: float, total: float, what: str) -> None:
        if what == moment:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        prepare(small_product, out, small_settings, quicklook=False, progress=interrupted)
    assert not out.exists()


def test_interrupts_keep_what_stood_there(
    small_product: Path, small_settings: PrepareSettings, intact: PreparedProduct, tmp_path: Path
) -> None:
    def interrupted(done: float, total: float, what: str) -> None:
        if what == "writing":
            raise KeyboardInterrupt

    made = prepare(small_product, tmp_path, small_settings, quicklook=False)
    with pytest.raises(KeyboardInterrupt):
        prepare(small_product, tmp_path, small_settings, quicklook=False, overwrite=True, progress=interrupted)
    assert list(tmp_path.iterdir()) == [made.folder]
    assert contents(made.folder) == contents(intact.folder)


def test_ctrl_c_on_the_command_line(small_product: Path, tmp_path: Path) -> None:
    """A real signal to a real process, as soon as it is at work."""
    out = tmp_path / "out"
    slow = f"""
import signal, sys, time
from floemap.cli import main
from floemap.sentinel1 import prepare as product
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
original = product.calibrate
product.calibrate = lambda *a, **k: (original(*a, **k), time.sleep(60))[0]
sys.argv = ["floemap", "prepare", {str(small_product)!r}, "--out", {str(out)!r}, "--resolution", "2000"]
main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", slow], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            until = time.monotonic() + 60
            while not (out.exists() and any(out.iterdir())):
                assert run.poll() is None, run.communicate()
                assert time.monotonic() < until, "never began"
                time.sleep(0.02)
            run.send_signal(signal.SIGINT)
            stdout, stderr = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130
    assert stdout == ""
    assert stderr.strip() == "stopped; finished results are kept, unfinished ones are removed"
    assert not out.exists()


# --- finished products, and products that fail


def test_finished_products_are_skipped_until_something_changes(
    small_product: Path, small_settings: PrepareSettings, intact: PreparedProduct, tmp_path: Path
) -> None:
    made = prepare(small_product, tmp_path, small_settings, quicklook=False)
    assert not made.skipped
    before = {f: f.stat().st_mtime_ns for f in made.folder.iterdir()}
    again = prepare(small_product, tmp_path, small_settings, quicklook=False)
    assert again.skipped
    assert {f: f.stat().st_mtime_ns for f in made.folder.iterdir()} == before
    assert not prepare(small_product, tmp_path, small_settings, quicklook=False, overwrite=True).skipped
    assert contents(made.folder) == contents(intact.folder)
    other = small_settings.model_copy(update={"noise": "none"})
    assert not prepare(small_product, tmp_path, other, quicklook=False).skipped
    made.raster.unlink()
    assert not prepare(small_product, tmp_path, other, quicklook=False).skipped
    assert made.raster.exists()
    made.record.write_text("{")
    assert not prepare(small_product, tmp_path, other, quicklook=False).skipped
    assert list(tmp_path.iterdir()) == [made.folder]


def test_a_failing_product_keeps_its_older_result(
    small_product: Path, small_settings: PrepareSettings, intact: PreparedProduct, tmp_path: Path
) -> None:
    product = copied(small_product, tmp_path)
    out = tmp_path / "out"
    made = prepare(product, out, small_settings, quicklook=False)
    (tiff,) = product.glob("measurement/*-hv-*")
    content = bytearray(tiff.read_bytes())
    content[-1000] ^= 1
    tiff.unlink()
    tiff.write_bytes(bytes(content))
    with pytest.raises(FloemapError, match="checksum"):
        prepare(product, out, small_settings, quicklook=False, overwrite=True)
    assert list(out.iterdir()) == [made.folder]
    assert contents(made.folder) == contents(intact.folder)


@pytest.fixture
def three(write_small: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """Three products, of which the second is none."""
    size = {"lines": 64, "samples": 64, "pixel_spacing_m": 4000.0}
    products = [write_small(tmp_path / "in", orbit=20177 + i, **size) for i in range(3)]
    edited(products[1] / MANIFEST, "productType>GRD<", "productType>SLC<")
    return products


def test_a_failing_product_does_not_stop_the_others(three: list[Path], tmp_path: Path) -> None:
    outcomes = prepare_all(three, tmp_path / "out", PrepareSettings(resolution_m=8000))
    assert [o.product for o in outcomes] == three
    assert [o.error is None for o in outcomes] == [True, False, True]
    assert [o.result is None for o in outcomes] == [False, True, False]
    assert {f.name for f in (tmp_path / "out").iterdir()} == {three[0].stem, three[2].stem}


def test_batches_on_the_command_line(three: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["prepare", *map(str, three), "--out", str(out), "--resolution", "8000"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [str(out / three[0].stem), str(out / three[2].stem)]
    assert f"{three[1]}: is a SLC product" in result.stderr
    assert "1 of 3 products could not be prepared." in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error:") == 2
    files = {f: f.stat().st_mtime_ns for f in out.rglob("*")}
    again = CliRunner().invoke(app, [*command, "--debug"])
    assert again.exit_code == 1
    assert again.stdout.count("(finished before)") == 2
    assert "Traceback" in again.stderr
    assert {f: f.stat().st_mtime_ns for f in out.rglob("*")} == files
    good = CliRunner().invoke(app, ["prepare", str(three[0]), "--out", str(out), "--resolution", "8000", "--overwrite"])
    assert good.exit_code == 0
    assert good.stderr == "SIMULATED\n", "and no warning"
    assert set(out.iterdir()) == {out / three[0].stem, out / three[2].stem}
    assert {f.name for f in (out / three[0].stem).iterdir()} == FILES | {"quicklook.png"}


def test_wrong_options_are_one_message(small_product: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out")]
    for options, words in (
        (["--resolution", "1"], "resolution_m is 1.0"),
        (["--crs", "EPSG:4326", "--resolution", "2000"], "not projected in metres"),
        (["--crs", "nonsense", "--resolution", "2000"], "'nonsense' is not a known CRS"),
        (["--like", str(tmp_path / "none.tif")], "none.tif: does not exist"),
        (["--like", str(small_product / "SIMULATED.txt")], "cannot be read as a raster"),
        (["--config", str(tmp_path / "none.toml")], "none.toml: does not exist"),
    ):
        result = CliRunner().invoke(app, ["prepare", str(small_product), *out, *options])
        assert result.exit_code == 1, options
        assert words in result.stderr, options
        assert "Traceback" not in result.stderr
        assert "unexpected" not in result.stderr
        assert not (tmp_path / "out").exists()
