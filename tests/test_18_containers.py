"""Products as tools and services hand them over: other member names, links, capitals, archives in archives."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import copied
from typer.testing import CliRunner

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.errors import ProductError
from floemap.info import describe
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.safe.reader import open_measurement, open_scene, verify
from floemap.sentinel1.settings import PrepareSettings
from floemap.zips import clean_name

CASES = Path(__file__).resolve().parents[2] / "shared/cases"


def rezipped(product: Path, archive: Path, rename: Callable[[str], str], extra: tuple[str, ...] = ()) -> Path:
    """Zip a product's folder with every member's name changed, and folders of these names besides."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        for name in extra:
            z.writestr(zipfile.ZipInfo(name), b"")
        for file in sorted(f for f in product.rglob("*") if f.is_file()):
            z.writestr(
                zipfile.ZipInfo(rename(f"{product.name}/{file.relative_to(product).as_posix()}")), file.read_bytes()
            )
    return archive


NAMES: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "a dot before": (lambda n: f"./{n}", ("./",)),
    "backslashes": (lambda n: n.replace("/", "\\"), ("X.SAFE\\",)),
    "a dot inside": (lambda n: n.replace("/", "/./", 1), ()),
    "some with backslashes": (lambda n: n.replace("/", "\\") if "calibration" in n else n, ()),
    "deep in other folders": (lambda n: f"data/2018/01/{n}", ("data/", "data/2018/")),
    "at the top": (lambda n: n.partition("/")[2], ()),
    "capitals": (lambda n: n.replace("manifest.safe", "MANIFEST.SAFE").replace("/annotation/", "/ANNOTATION/"), ()),
    "capitals throughout": (lambda n: n.upper(), ()),
    "a colon in a name": (lambda n: f"S1A 07:54 {n}", ()),
    "notes of another system": (lambda n: n, ("__MACOSX/", "__MACOSX/._manifest.safe", "thumbs.db")),
}


@pytest.mark.parametrize("name", NAMES)
def test_zips_of_other_tools_hold_the_same_product(small_product: Path, tmp_path: Path, name: str) -> None:
    path = rezipped(small_product, tmp_path / "a.zip", *NAMES[name])
    scene, reference = open_scene(path), open_scene(small_product)
    assert scene.start == reference.start
    for p in scene.polarisations:
        assert scene.checksums[scene.measurements[p]]
        verify(scene, p)
        with open_measurement(scene, p) as ours, open_measurement(reference, p) as theirs:
            np.testing.assert_array_equal(ours.read(5, 60), theirs.read(5, 60))
    assert describe(path).facts["kind"] == "Sentinel-1 product"


@pytest.mark.parametrize(
    "rename", [lambda n: n.replace("/", "//"), lambda n: ".//" + n, lambda n: ".\\" + n.replace("/", "\\")]
)
def test_names_that_gdal_does_not_find(small_product: Path, tmp_path: Path, rename: Callable[[str], str]) -> None:
    """They are refused in plain words; the metadata can be read."""
    path = rezipped(small_product, tmp_path / "a.zip", rename)
    with pytest.raises(ProductError, match=r"a name that GDAL cannot open: .* Unpack the zip and give the folder"):
        open_scene(path)
    assert open_scene(path, pixels=False).shape == (300, 280)


@pytest.mark.parametrize(
    ("given", "clean"),
    [("a/b", "a/b"), ("./a//b/./c", "a/b/c"), ("a\\b\\", "a/b"), ("/a", "/a"), ("..\\a", "../a"), ("./", ""), ("", "")],
)
def test_clean_names(given: str, clean: str) -> None:
    assert clean_name(given) == clean


@pytest.mark.parametrize("root", [".SAFE", "..SAFE", "...SAFE", ".zip.SAFE", ".safe.zip", " .SAFE"])
def test_roots_that_give_no_name(
    small_product: Path, tmp_path: Path, root: str, small_settings: PrepareSettings
) -> None:
    path = rezipped(small_product, tmp_path / "a.zip", lambda n: f"{root}/{n.partition('/')[2]}")
    out = tmp_path / "out"
    out.mkdir()
    (out / "earlier.txt").write_text("kept")
    with pytest.raises(ProductError, match="which is not a product's name"):
        prepare(path, out, small_settings, quicklook=False)
    assert [p.name for p in out.iterdir()] == ["earlier.txt"]


@pytest.mark.parametrize("name", ["", "\0", "\0x", "./.", "a\x1b[2Jb", "a\nb", "a\x9bb"])
def test_members_that_have_no_proper_name(small_product: Path, tmp_path: Path, name: str) -> None:
    path = rezipped(small_product, tmp_path / "a.zip", lambda n: n)
    with zipfile.ZipFile(path, "a") as z:
        info = zipfile.ZipInfo("x")
        info.filename = name
        z.writestr(info, b"x")
    with pytest.raises(ProductError, match=r"without a name|control characters"):
        open_scene(path)
    result = CliRunner().invoke(app, ["info", str(path)])
    assert result.exit_code == 1
    assert "unexpected" not in result.output
    assert "\x1b[2J" not in result.output


# --- archives


def _tar(product: Path, into: Path, mode: Any, name: str) -> Path:
    with tarfile.open(into / name, mode) as t:
        t.add(product, product.name)
    return into / name


@pytest.mark.parametrize(
    ("mode", "name", "words"),
    [
        ("w", "a.tar", "a tar archive"),
        ("w", "a.zip", "a tar archive"),
        ("w:gz", "a.tar.gz", "a gzip file"),
        ("w:gz", "a.SAFE.zip", "a gzip file"),
        ("w:bz2", "a.tbz2", "a bzip2 file"),
        ("w:xz", "a.tar.xz", "an xz file"),
    ],
)
def test_other_archives_are_to_be_unpacked(
    small_product: Path, tmp_path: Path, mode: str, name: str, words: str
) -> None:
    with pytest.raises(ProductError, match=rf"is {words}.*\. Unpack it and give"):
        open_scene(_tar(small_product, tmp_path, mode, name))


def test_archives_in_archives_are_to_be_unpacked(small_product: Path, small_zip: Path, tmp_path: Path) -> None:
    inner = {
        "a.zip": small_zip.read_bytes(),
        "A.ZIP": small_zip.read_bytes(),
        "b.SAFE.tar": _tar(small_product, tmp_path, "w", "b.tar").read_bytes(),
        "c.tar.gz": gzip.compress(b"anything"),
    }
    for name, content in inner.items():
        path = tmp_path / "outer.zip"
        with zipfile.ZipFile(path, "w") as z:
            z.writestr(f"folder/{name}", content)
        with pytest.raises(ProductError, match=rf"holds another archive, 'folder/{name}'\. Unpack the outer zip"):
            open_scene(path)


def test_a_product_with_an_archive_beside_it_is_read(small_product: Path, tmp_path: Path) -> None:
    path = rezipped(small_product, tmp_path / "a.zip", lambda n: n)
    with zipfile.ZipFile(path, "a") as z:
        z.writestr("support/notes.tar.gz", b"x")
    assert open_scene(path).shape == (300, 280)


@pytest.mark.parametrize("suffix", [".zip", ".ZIP", ".Zip", ".SAFE.zip", ".Safe.Zip", ""])
def test_suffixes_of_zips(small_zip: Path, tmp_path: Path, suffix: str) -> None:
    path = Path(shutil.copy(small_zip, tmp_path / f"product{suffix}"))
    assert open_scene(path).shape == (300, 280)
    assert describe(path).facts["form"] == "zip"


@pytest.mark.parametrize("suffix", [".SAFE", ".safe", ".Safe", ""])
def test_suffixes_of_folders(small_product: Path, tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"product{suffix}").symlink_to(small_product)
    assert open_scene(tmp_path / f"product{suffix}").name == "product"


# --- folders


def test_links_to_folders_inside_a_product(small_product: Path, tmp_path: Path) -> None:
    """As on a file server, where the large files lie on other disks."""
    product = copied(small_product, tmp_path)
    store = tmp_path / "store"
    store.mkdir()
    for name in ("measurement", "annotation/calibration", "annotation"):
        target = store / name.replace("/", "-")
        shutil.move(product / name, target)
        (product / name).symlink_to(target, target_is_directory=True)
    scene = open_scene(product)
    verify(scene, "HV")
    assert describe(product).problems == ()


def test_links_to_files_and_loops(small_product: Path, tmp_path: Path) -> None:
    product = copied(small_product, tmp_path)
    for file in list(product.glob("measurement/*")):
        moved = shutil.move(file, tmp_path / file.name)
        file.symlink_to(moved)
    (product / "annotation" / "loop").symlink_to(product, target_is_directory=True)
    (product / "measurement" / "gone.tiff").symlink_to(tmp_path / "nowhere")
    (product / "self").symlink_to(product / "self")
    verify(open_scene(product), "HH")


def test_folders_in_capitals(small_product: Path, tmp_path: Path) -> None:
    product = copied(small_product, tmp_path)
    (product / "manifest.safe").rename(product / "MANIFEST.SAFE")
    (product / "annotation" / "calibration").rename(product / "annotation" / "Calibration")
    (product / "annotation").rename(product / "ANNOTATION")
    (product / "measurement").rename(product / "Measurement")
    scene = open_scene(product)
    verify(scene, "HH")
    assert describe(product).facts["kind"] == "Sentinel-1 product"
    (product / "annotation").mkdir()
    with pytest.raises(ProductError, match="holds annotation twice"):
        open_scene(product)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_pipes_and_devices_are_no_products(tmp_path: Path, small_product: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    for path in (tmp_path / "pipe.zip", Path("/dev/null")):
        with pytest.raises(ProductError, match=r"is a (pipe|device), not a regular file"):
            open_scene(path)
    product = copied(small_product, tmp_path)
    (tiff,) = product.glob("measurement/*-hv-*")
    tiff.unlink()
    os.mkfifo(tiff)
    with pytest.raises(ProductError, match="has 0 measurement file for HV"):
        open_scene(product)


def test_a_file_of_a_product_in_the_place_of_the_product(small_product: Path) -> None:
    (tiff,) = small_product.glob("measurement/*-hv-*")
    with pytest.raises(ProductError, match=r"is a TIFF image.*give the product's folder, which holds manifest.safe"):
        open_scene(tiff)
    (xml,) = small_product.glob("annotation/*-hv-*")
    with pytest.raises(ProductError, match="is an XML file"):
        open_scene(xml)


def test_a_folder_of_products(small_product: Path, small_zip: Path, tmp_path: Path) -> None:
    copied(small_product, tmp_path)
    shutil.copy(small_zip, tmp_path)
    with pytest.raises(ProductError, match=r"no manifest\.safe.*Give one of the 2 products that the folder may hold"):
        open_scene(tmp_path)


def test_the_folder_itself_from_inside(small_product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_product)
    for path in (".", "manifest.safe", "../" + small_product.name, "annotation/.."):
        assert open_scene(path, pixels=False).name == small_product.stem


def test_a_product_beside_a_zip_bomb_is_not_called_hostile(small_product: Path, tmp_path: Path) -> None:
    """A measurement without any data compresses by more than any limit: that may be, so nothing is said of trust."""
    path = rezipped(small_product, tmp_path / "a.zip", lambda n: n)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as z:
        z.writestr(f"{small_product.name}/measurement/empty.tiff", bytes(32 << 20))
    with pytest.raises(ProductError, match=r"would grow to .* Unpack it yourself, if you trust its source") as e:
        open_scene(path)
    assert "Don't trust" not in str(e.value)


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize("name", ["dot.zip", "d.zip"])
def test_the_cases_of_member_names(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(app, ["info", str(CASES / "07-zip-member-names" / name)])
    assert result.exit_code == 0, result.output
    scene = open_scene(CASES / "07-zip-member-names" / name)
    with open_measurement(scene, "HH") as m:
        assert m.read(0, 600).any()


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize("name", ["empty.zip", "dot.zip", "noname.zip", "esc.zip"])
def test_the_cases_of_roots(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(app, ["prepare", str(CASES / "23-zip-roots" / name), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "unexpected" not in result.output
    assert "\x1b[2J" not in result.output
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
