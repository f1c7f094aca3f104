"""What is no whole GRD product in HH and HV is refused, in words that name the file, what was found, the way out."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from damage import MANIFEST, changed_xml, copied, edited, one, replaced, with_new_checksums, without_checksums
from lxml import etree
from typer.testing import CliRunner

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.errors import FloemapError, GridError, ProductError
from floemap.info import describe
from floemap.sentinel1.geolocation import GeoLocator
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.settings import PrepareSettings

ANNOTATION = "annotation/*-hh-*.xml"
CALIBRATION = "annotation/calibration/calibration-*-hh-*.xml"
NOISE = "annotation/calibration/noise-*-hh-*.xml"
MEASUREMENT = "measurement/*-hv-*.tiff"


@pytest.fixture
def product(small_product: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return copied(small_product, tmp_path)


def refused(path: Path, *words: str) -> str:
    """Open a product that must be refused, and return the message, which must name its path and hold the words."""
    with pytest.raises(ProductError) as e:
        open_scene(path)
    message = str(e.value)
    assert message.startswith(f"{path}: ")
    for word in words:
        assert word in message, (word, message)
    assert message.rstrip().endswith((".", "?")), message
    assert len(message) < 700, message
    return message


# --- another kind of product


@pytest.mark.parametrize("kind", ["SLC", "OCN"])
def test_other_product_types(product: Path, kind: str) -> None:
    edited(product / MANIFEST, "productType>GRD<", f"productType>{kind}<")
    refused(product, f"is a {kind} product", "ground-range detected", "EW_GRDM_1SDH")


def test_raw_products(product: Path) -> None:
    changed_xml(product / MANIFEST, lambda root: _remove(root, ".//{*}productType"))
    refused(product, "RAW or unknown", "EW_GRDM_1SDH")


def test_other_satellites(product: Path) -> None:
    edited(product / MANIFEST, "SENTINEL-1<", "SENTINEL-2<")
    refused(product, "SENTINEL-2", "SENTINEL-1", "Sentinel-1 product")


@pytest.mark.parametrize(
    ("polarisations", "found"), [(("HH",), "HH,"), (("VV",), "VV,"), (("VV", "VH"), "VV+VH,"), (("HV",), "HV,")]
)
def test_other_polarisations(
    write_small: Callable[..., Path], tmp_path: Path, polarisations: tuple[str, ...], found: str
) -> None:
    path = write_small(tmp_path, polarisations=polarisations, lines=64, samples=64, pixel_spacing_m=4000.0)
    refused(path, f"has the polarisations {found}", "HH+HV are needed", "1SDH")


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path / "S1A_nowhere.SAFE", "does not exist")
    refused(tmp_path / "S1A_nowhere.zip", "does not exist")
    (tmp_path / "empty.SAFE").mkdir()
    refused(tmp_path / "empty.SAFE", "holds no manifest.safe", "Give the folder")


def test_names_beyond_any_length(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300)
    with pytest.raises(ProductError, match="File name too long"):
        open_scene(path)
    with pytest.raises(FloemapError, match="File name too long"):
        describe(path)


def test_a_folder_above_the_product(product: Path) -> None:
    refused(product.parent, "holds no manifest.safe", "Give one of the")


def test_files_that_are_no_zip(tmp_path: Path) -> None:
    for name, content in (("scene.zip", b"not a zip\n" * 99), ("notes.txt", b"hello")):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "is not a readable zip", "folder or its zip")
    (tmp_path / "empty.zip").write_bytes(b"")
    refused(tmp_path / "empty.zip", "is empty", "Download the product again")
    (tmp_path / "page.zip").write_bytes(b"\n<!DOCTYPE html><html>Please log in.</html>")
    refused(tmp_path / "page.zip", "is a web page", "Log in")


# --- files of the product


@pytest.mark.parametrize("kind", [ANNOTATION, CALIBRATION, NOISE, MEASUREMENT])
def test_missing_and_empty_files(product: Path, kind: str) -> None:
    file = one(product, kind)
    name = file.relative_to(product).as_posix()
    replaced(file, b"")
    refused(product, f"{name} is empty", "Download")
    file.unlink()
    message = refused(product)
    if kind == ANNOTATION:
        assert "has the polarisations HV" in message
    else:
        assert re.search(r"has 0 (calibration|noise|measurement) file for H[HV]", message)
        assert "Check that the product is whole" in message


def test_two_files_of_one_polarisation(product: Path) -> None:
    file = one(product, ANNOTATION)
    shutil.copy(file, file.with_name(file.name.replace("-001.xml", "-003.xml")))
    refused(product, "has 2 product file for HH in annotation/")


def test_a_file_in_the_place_of_another(product: Path) -> None:
    """The manifest may have no checksums: then the files' own headers tell."""
    without_checksums(product)
    calibration = one(product, CALIBRATION)
    replaced(calibration, one(product, CALIBRATION.replace("-hh-", "-hv-")).read_bytes())
    refused(product, calibration.name, "GRD image in HV", "GRD in HH")


def test_files_of_two_products(product: Path) -> None:
    noise = one(product, NOISE)
    edited(noise, "<missionDataTakeId>", "<missionDataTakeId>9")
    refused(without_checksums(product), noise.name, "data take 9", "the product belongs to")


def test_hidden_files_are_no_second_ones(product: Path) -> None:
    """Some systems keep notes on a file beside it, under its name with a dot before."""
    for kind in (ANNOTATION, CALIBRATION, NOISE, MEASUREMENT):
        file = one(product, kind)
        file.with_name(f"._{file.name}").write_bytes(b"notes")
    assert open_scene(product).shape == (300, 280)


REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
REAL /= "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real product's metadata is not here")
def test_a_changed_manifest_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The name of a real product ends in its manifest's checksum."""
    copy = Path(shutil.copytree(REAL, tmp_path / REAL.name))
    open_scene(copy, pixels=False)
    assert caplog.text == ""
    edited(copy / MANIFEST, 'version="003.52"', 'version="003.53"', 1)
    open_scene(copy, pixels=False)
    assert "where the product's name gives BB15" in caplog.text
    assert copy.name in caplog.text
    caplog.clear()
    open_scene(copy.rename(tmp_path / "renamed"), pixels=False)
    assert caplog.text == ""


def test_broken_xml(product: Path) -> None:
    file = one(product, NOISE)
    whole = file.read_bytes()
    for content in (whole[:-40], b"no xml at all", whole.replace(b"<noise", b"<<noise", 1), b"\x00" * 100):
        replaced(file, content)
        refused(product, f"{file.name} is broken XML", "Download")
    replaced(product / MANIFEST, b"   \n")
    refused(product, "manifest.safe is empty", "Download")


def test_changed_files(product: Path, tmp_path: Path, small_settings: PrepareSettings) -> None:
    calibration = one(product, CALIBRATION)
    intact = calibration.read_bytes()
    edited(calibration, " ", "  ", 1)  # harmless in itself, but not what was delivered
    refused(product, calibration.name, "checksum", "Download")
    replaced(calibration, intact)
    tiff = one(product, MEASUREMENT)
    content = bytearray(tiff.read_bytes())
    content[len(content) // 2] ^= 1  # one grey value
    replaced(tiff, bytes(content))
    out = tmp_path / "out"
    with pytest.raises(ProductError, match="checksum") as e:
        prepare(product, out, small_settings, quicklook=False)
    assert tiff.name in str(e.value)
    assert not out.exists()
    not_verified = small_settings.model_copy(update={"verify": False})
    assert prepare(product, out, not_verified, quicklook=False).raster.exists()


# --- hostile XML


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha" * 10}">' for i in range(12))
DOCTYPES = {
    "billion laughs": (f"<!DOCTYPE x [{LAUGHS}]>", "&l11;"),
    "external entity": ('<!DOCTYPE x [<!ENTITY e SYSTEM "file://SECRET">]>', "&e;"),
    "parameter entity": ('<!DOCTYPE x [<!ENTITY % p SYSTEM "file://SECRET"> %p;]>', ""),
    "external subset": ('<!DOCTYPE x SYSTEM "file://SECRET">', ""),
    "public subset": ('<!DOCTYPE x PUBLIC "-//A//B" "file://SECRET">', ""),
    "no entity": ("<!DOCTYPE x>", ""),
}


@pytest.mark.parametrize("name", DOCTYPES)
@pytest.mark.parametrize("kind", [MANIFEST, ANNOTATION])
def test_document_types(product: Path, tmp_path: Path, name: str, kind: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("TOKEN-8731")
    doctype, use = (part.replace("SECRET", str(secret)) for part in DOCTYPES[name])
    file = one(without_checksums(product), kind)
    text = file.read_text()
    head = text.index("<", text.index("?>"))
    text = text[:head] + doctype + text[head:]
    text = text.replace("<missionId>S1A", f"<missionId>{use}").replace("productType>GRD", f"productType>{use}")
    replaced(file, text.encode())
    assert "TOKEN" not in refused(product, file.name)


def test_entities_show_no_file(product: Path, tmp_path: Path) -> None:
    """Not through a sub-document either: nothing but the product's own files is read."""
    secret = tmp_path / "secret.xml"
    secret.write_text("<a>TOKEN-8731</a>")
    file = one(without_checksums(product), ANNOTATION)
    include = f'<missionId><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{secret}" parse="text"/>'
    edited(file, "<missionId>S1A", include)
    assert "TOKEN" not in refused(product, file.name, "missionId")


# --- pixels


def test_a_cut_tiff(product: Path) -> None:
    tiff = one(product, MEASUREMENT)
    whole = tiff.read_bytes()
    for length in (len(whole) - 100, len(whole) // 2):
        replaced(tiff, whole[:length])
        refused(product, tiff.name, f"ends after {length} bytes", "Download")
    for length in (100, 3):
        replaced(tiff, whole[:length])
        refused(product, tiff.name, "cannot be read as a GeoTIFF", "Download")


def _tiff(file: Path, array: np.ndarray, **options: object) -> None:
    file.unlink()
    bands = array if array.ndim == 3 else array[None]
    with rasterio.open(
        file, "w", driver="GTiff", height=bands.shape[1], width=bands.shape[2], count=len(bands), dtype=array.dtype,
        transform=rasterio.Affine(2, 0, 0, 0, -2, 0), **options,
    ) as d:  # fmt: skip
        d.write(bands)


@pytest.mark.parametrize(
    ("shape", "dtype", "found"),
    [
        ((299, 280), "uint16", "1 x (299, 280) of uint16"),
        ((280, 300), "uint16", "1 x (280, 300) of uint16"),
        ((300, 280), "float32", "1 x (300, 280) of float32"),
        ((300, 280), "int16", "1 x (300, 280) of int16"),
        ((300, 280), "uint8", "1 x (300, 280) of uint8"),
        ((2, 300, 280), "uint16", "2 x (300, 280) of uint16"),
    ],
)
def test_tiffs_other_than_annotated(product: Path, shape: tuple[int, ...], dtype: str, found: str) -> None:
    tiff = one(product, MEASUREMENT)
    _tiff(tiff, np.ones(shape, dtype))
    refused(product, tiff.name, found, "1 x (300, 280) of uint16 is annotated", "Download")


def test_other_formats_under_a_tiffs_name(product: Path, tmp_path: Path) -> None:
    """A virtual raster would read any file that its text names."""
    _tiff(Path(shutil.copy(one(product, MEASUREMENT), tmp_path / "elsewhere.tiff")), np.ones((300, 280), "uint16"))
    virtual = f"""<VRTDataset rasterXSize="280" rasterYSize="300"><VRTRasterBand dataType="UInt16" band="1">
        <SimpleSource><SourceFilename>{tmp_path / "elsewhere.tiff"}</SourceFilename><SourceBand>1</SourceBand>
        </SimpleSource></VRTRasterBand></VRTDataset>"""
    tiff = one(product, MEASUREMENT)
    picture = one(product, "preview/quick-look.png").read_bytes()
    pointing = Path(shutil.copy(tiff, tmp_path / "pointing.tiff"))
    with rasterio.open(pointing, "r+") as d:
        d.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(tmp_path / "elsewhere.tiff"))
    for content in (virtual.encode(), picture, b"GIF89a" + bytes(50), pointing.read_bytes()):
        replaced(tiff, content)
        refused(product, tiff.name, "cannot be read as a GeoTIFF")


# --- values that contradict each other; checksums renewed, as a forger would


def _remove(root: etree._Element, path: str, which: slice = slice(None)) -> None:
    for element in root.findall(path)[which]:
        element.getparent().remove(element)


def _recount(root: etree._Element) -> None:
    for element in root.iter(etree.Element):
        if element.get("count") is not None:
            element.set("count", str(len(element) or len((element.text or "").split())))


POINTS = "geolocationGrid/geolocationGridPointList"
ORBITS = "generalAnnotation/orbitList"
RECORDS = "coordinateConversion/coordinateConversionList"


def _set(path: str, change: Callable[[float], float], which: slice = slice(None)) -> Callable[[etree._Element], object]:
    def apply(root: etree._Element) -> None:
        found = root.findall(path)[which]
        assert found, path
        for element in found:
            element.text = " ".join(_plain(change(float(x))) for x in (element.text or "").split())

    return apply


def _plain(x: float) -> str:
    return str(int(x)) if x == int(x) else repr(x)


def _both_noises(root: etree._Element) -> None:
    first = root.find("noiseRangeVectorList/noiseRangeVector")
    old = etree.SubElement(etree.SubElement(root, "noiseVectorList", count="1"), "noiseVector")
    for tag, source in (("azimuthTime",) * 2, ("line",) * 2, ("pixel",) * 2, ("noiseLut", "noiseRangeLut")):
        etree.SubElement(old, tag).text = first.findtext(source)


#: Kind of file, what is done to it, words of the message.
CONTRADICTIONS: dict[str, tuple[str, Callable[[etree._Element], object], str]] = {
    "grid of three rows": (ANNOTATION, lambda r: _remove(r, f"{POINTS}/*", slice(63, None)), "points in 3 rows"),
    "no grid": (ANNOTATION, lambda r: _remove(r, f"{POINTS}/*"), "has no geolocation grid"),
    "grid elsewhere": (ANNOTATION, _set(f"{POINTS}/*/longitude", lambda x: x + 1), "contradicts the orbit by"),
    "one node elsewhere": (
        ANNOTATION,
        _set(f"{POINTS}/*/latitude", lambda x: x - 0.1, slice(99, 100)),
        "contradicts the orbit by",
    ),
    "impossible latitude": (ANNOTATION, _set(f"{POINTS}/*/latitude", lambda x: x + 90), "impossible angles"),
    "impossible height": (ANNOTATION, _set(f"{POINTS}/*/height", lambda x: 2e4), "impossible heights"),
    "incidence upside down": (ANNOTATION, _set(f"{POINTS}/*/incidenceAngle", lambda x: 60 - x), "incidence angles"),
    "one incidence wrong": (
        ANNOTATION,
        _set(f"{POINTS}/*/incidenceAngle", lambda x: x + 5, slice(99, 100)),
        "incidence angles",
    ),
    "grid of half of the image": (
        ANNOTATION,
        lambda r: [p.getparent().remove(p) for p in r.findall(f"{POINTS}/*") if int(p.findtext("pixel")) > 140],
        "a geolocation grid at pixels 0 to 140",
    ),
    "two state vectors": (ANNOTATION, lambda r: _remove(r, f"{ORBITS}/orbit", slice(2, None)), "has 2 orbit state"),
    "orbit too short": (ANNOTATION, lambda r: _remove(r, f"{ORBITS}/orbit", slice(8, None)), "too short"),
    "orbit begins late": (ANNOTATION, lambda r: _remove(r, f"{ORBITS}/orbit", slice(0, 8)), "too short"),
    "satellite in the ground": (ANNOTATION, _set(f"{ORBITS}/*/position/z", lambda x: x / 2), "an orbit at a distance"),
    "satellite at rest": (ANNOTATION, _set(f"{ORBITS}/*/velocity/*", lambda x: x / 9), "an orbit at a speed of"),
    "velocity elsewhere": (ANNOTATION, _set(f"{ORBITS}/*/velocity/x", lambda x: -x), "velocities that contradict"),
    "inertial orbit": (
        ANNOTATION,
        lambda r: [setattr(f, "text", "Undefined") for f in r.findall(f"{ORBITS}/*/frame")],
        "frame 'Undefined', where Earth Fixed",
    ),
    "no conversion": (ANNOTATION, lambda r: _remove(r, f"{RECORDS}/*"), "has no ground range conversion"),
    "conversion wrong": (
        ANNOTATION,
        _set(f"{RECORDS}/*/grsrCoefficients", lambda x: x * 1.01, slice(3, 4)),
        "conversions that contradict",
    ),
    "conversion of another day": (
        ANNOTATION,
        lambda r: setattr(r.findall(f"{RECORDS}/*/azimuthTime")[-1], "text", "9999-12-31T23:59:59"),
        "ground range conversions from 0.0 s to 2",
    ),
    "conversion cut": (ANNOTATION, lambda r: _remove(r, f"{RECORDS}/*", slice(9, None)), "ground range conversions"),
    "line interval": (ANNOTATION, _set(".//azimuthTimeInterval", lambda x: 2 * x), "300 lines, one every"),
    "spacing": (ANNOTATION, _set(".//azimuthPixelSpacing", lambda x: x / 2), "azimuthPixelSpacing> 500"),
    "image too large": (ANNOTATION, _set(".//numberOfLines", lambda x: 10**9), "different sizes"),
    "swath outside": (
        ANNOTATION,
        _set(".//swathBounds/firstRangeSample", lambda x: x + 1000, slice(0, 1)),
        "sub-swath bounds outside",
    ),
    "no swaths": (ANNOTATION, lambda r: _remove(r, "swathMerging/swathMergeList/*"), "no sub-swath bounds"),
    "no such pass": (
        ANNOTATION,
        lambda r: setattr(r.find(".//pass"), "text", "Sideways"),
        "'Sideways', where Ascending or Descending",
    ),
    "no such mission": (ANNOTATION, lambda r: setattr(r.find(".//missionId"), "text", "S2A"), "'S2A', where S1A or"),
    "no such time": (
        ANNOTATION,
        lambda r: setattr(r.find(".//productFirstLineUtcTime"), "text", "yesterday"),
        "'yesterday'",
    ),
    "no calibration": (CALIBRATION, lambda r: _remove(r, "*/calibrationVector"), "no calibration vectors"),
    "calibration out of order": (
        CALIBRATION,
        _set("*/calibrationVector/line", lambda x: 1e3 - x),
        "calibration vectors out of order",
    ),
    "calibration of half of the image": (
        CALIBRATION,
        lambda r: _remove(r, "*/calibrationVector", slice(4, None)),
        "calibration vectors at lines 0 to 111",
    ),
    "gain of zero": (CALIBRATION, _set("*/*/sigmaNought", lambda x: 0.0, slice(0, 1)), "with values from 0 to 0"),
    "gain in decibels": (CALIBRATION, _set("*/*/sigmaNought", lambda x: 1e-3 * x), "with values from 1.2"),
    "one gain wrong": (CALIBRATION, _set("*/*/sigmaNought", lambda x: 2 * x, slice(3, 4)), "2 times along azimuth"),
    "other lengths": (
        CALIBRATION,
        lambda r: setattr(r.find("*/*/sigmaNought"), "text", "1300 1400"),
        "pixels, 2 values",
    ),
    "no noise": (NOISE, lambda r: _remove(r, "noiseRangeVectorList/*"), "0 noise range vectors and 0 older"),
    "both noises": (NOISE, _both_noises, "noise range vectors and 1 older"),
    "blocks of another sub-swath": (
        NOISE,
        lambda r: [setattr(s, "text", "EW1") for s in r.findall("noiseAzimuthVectorList/*/swath")],
        "an azimuth noise block of EW1 at pixels",
    ),
    "block outside of its lines": (
        NOISE,
        _set("noiseAzimuthVectorList/*/line", lambda x: x + 1000),
        "an azimuth noise block of lines",
    ),
    "noise for half of the image": (
        NOISE,
        lambda r: _remove(r, "noiseRangeVectorList/*", slice(4, None)),
        "noise vectors at lines 0",
    ),
    "another processor": (MANIFEST, lambda r: _version(r, "002.82"), "by the processor 2.82"),
    "no processor": (MANIFEST, lambda r: _version(r, "unknown"), "version as 'unknown'"),
}


def _version(root: etree._Element, version: str) -> None:
    for software in root.iterfind(".//{*}software"):
        software.set("version", version)


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions(product: Path, name: str) -> None:
    kind, change, words = CONTRADICTIONS[name]

    def and_count(root: etree._Element) -> None:
        change(root)
        _recount(root)

    changed_xml(one(product, kind), and_count)
    refused(with_new_checksums(product), words)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (ANNOTATION, f"{POINTS}/*"),
        (ANNOTATION, f"{ORBITS}/*"),
        (ANNOTATION, f"{RECORDS}/*"),
        (ANNOTATION, "swathMerging/swathMergeList/*/swathBoundsList/*"),
        (CALIBRATION, "calibrationVectorList/*"),
        (NOISE, "noiseRangeVectorList/*"),
        (NOISE, "noiseAzimuthVectorList/*"),
    ],
)
def test_lists_that_lost_their_last_entry(product: Path, kind: str, path: str) -> None:
    file = one(product, kind)
    changed_xml(file, lambda root: _remove(root, path, slice(-1, None)))
    refused(without_checksums(product), file.name, "whose count is")


def test_numbers_that_were_lost(product: Path) -> None:
    file = one(product, CALIBRATION)
    for tag in ("pixel", "sigmaNought"):
        text = file.read_text()
        values = re.search(rf"<{tag} [^>]*>([^<]*)<", text)
        assert values
        replaced(file, text.replace(values[1], values[1].rsplit(maxsplit=1)[0], 1).encode())
    refused(without_checksums(product), file.name, "numbers, and its count is")


# --- zips


@pytest.fixture
def members(small_product: Path) -> list[tuple[zipfile.ZipInfo, bytes]]:
    files = sorted(f for f in small_product.rglob("*") if f.is_file())
    names = [f"{small_product.name}/{f.relative_to(small_product).as_posix()}" for f in files]
    return [(zipfile.ZipInfo(n), f.read_bytes()) for n, f in zip(names, files, strict=True)]


def _zip(path: Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w") as z:
        for info, content in members:
            z.writestr(info, content, info.compress_type)
    return path


def test_an_ordinary_zip_is_read(tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    assert open_scene(_zip(tmp_path / "a.zip", members)).shape == (300, 280)


@pytest.mark.parametrize(
    "name", ["../manifest.safe", "/etc/passwd", "a/../../b", "C:/Windows/x", "..\\x", "\\x", "a\\..\\b", "x/.."]
)
def test_members_that_point_outside(tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]], name: str) -> None:
    path = _zip(tmp_path / "a.zip", [*members, (zipfile.ZipInfo(name), b"x")])
    refused(path, "whose path leaves the archive", repr(name), "if you trust its source")


def test_links(tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    link = zipfile.ZipInfo("link.tiff")
    link.external_attr = 0o120777 << 16
    refused(
        _zip(tmp_path / "a.zip", [*members, (link, b"/etc/passwd")]), "holds a link: 'link.tiff'", "Unpack it yourself"
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_twins(tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    twin = zipfile.ZipInfo(members[0][0].filename)
    refused(_zip(tmp_path / "a.zip", [*members, (twin, b"x")]), "two members named", "Make the zip again")


def _with_central_field(path: Path, offset: int, value: int, size: str = "<H") -> Path:
    """Set a field in the central directory entry of a zip's last member."""
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    struct.pack_into(size, content, entry + offset, value)
    path.write_bytes(content)
    return path


def test_encrypted_members(tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    path = _with_central_field(_zip(tmp_path / "a.zip", members), 8, 1)
    refused(path, "encrypted", repr(members[-1][0].filename), "Unpack it yourself")


@pytest.mark.parametrize("method", [1, 12, 14, 93, 97])
def test_unusual_compression(tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]], method: int) -> None:
    path = _with_central_field(_zip(tmp_path / "a.zip", members), 10, method)
    refused(path, f"compression method {method}", "Unpack it yourself")


def test_bombs(tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    bomb = zipfile.ZipInfo("annotation/bomb.xml")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    path = _zip(tmp_path / "a.zip", [*members, (bomb, bytes(32 << 20))])
    refused(path, "annotation/bomb.xml would grow to 1", "times", "Unpack it yourself")


def test_many_bombs(tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    path = _with_central_field(_zip(tmp_path / "a.zip", members), 24, 0xFFFFFFF0, "<L")
    refused(path, "would grow to", "Unpack it yourself")


def test_two_products_in_a_zip(tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    path = _zip(tmp_path / "a.zip", [*members, (zipfile.ZipInfo("other.SAFE/manifest.safe"), b"<x/>")])
    refused(path, "holds 2 files named manifest.safe", "one Sentinel-1 product")


def test_a_zip_in_a_zip(tmp_path: Path, small_zip: Path) -> None:
    path = _zip(tmp_path / "a.zip", [(zipfile.ZipInfo(small_zip.name), small_zip.read_bytes())])
    refused(path, "holds another archive", small_zip.name, "Unpack the outer zip")


def test_a_manifest_beside_the_product(tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    for info, _ in members:
        if info.filename.endswith(MANIFEST):
            info.filename = f"elsewhere/{MANIFEST}"
    refused(_zip(tmp_path / "a.zip", members), "has the polarisations none", "1SDH")


def test_metadata_beyond_any_size(tmp_path: Path, members: list[tuple[zipfile.ZipInfo, bytes]]) -> None:
    """Noise that does not compress passes for pixels by its ratio, but not for a manifest by its size."""
    path = _zip(tmp_path / "a.zip", members)
    manifest = next(i for i, (info, _) in enumerate(members) if info.filename.endswith(MANIFEST))
    content = bytearray(path.read_bytes())
    entry = -1
    for _ in range(manifest + 1):
        entry = content.index(b"PK\x01\x02", entry + 1)
    struct.pack_into("<LL", content, entry + 20, 200 << 20, 200 << 20)
    path.write_bytes(content)
    refused(path, "manifest.safe has 209715200 bytes", "too large for metadata")


def test_names_that_are_hard_on_tools(tmp_path: Path, small_zip: Path, small_settings: PrepareSettings) -> None:
    """Braces, percent signs, spaces and other scripts in a path mean nothing."""
    for i, name in enumerate(["a b.zip", "50%20.zip", "{curly.zip", "cur}ly{}.zip", "морской лёд.zip", "a'b\".zip"]):
        path = Path(shutil.copy(small_zip, tmp_path / name))
        assert prepare(path, tmp_path / str(i), small_settings, quicklook=False).raster.exists()


# --- grids that do not fit


def _raster(path: Path, crs: str, transform: rasterio.Affine, shape: tuple[int, int] = (30, 30)) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", height=shape[0], width=shape[1], count=1, dtype="uint8", crs=crs, transform=transform
    ):
        return path


@pytest.mark.parametrize(
    ("crs", "transform", "words"),
    [
        ("EPSG:4326", (0.05, 0, -10, 0, -0.05, 78), "WGS 84 is not projected in metres"),
        ("EPSG:2222", (80, 0, 0, 0, -80, 0), "not projected in metres"),
        ('LOCAL_CS["deck",UNIT["metre",1]]', (80, 0, 0, 0, -80, 0), "not projected in metres"),
        ("EPSG:3031", (80, 0, 0, 0, -80, 0), "no pixel of the grid is in the scene"),
        ("EPSG:3413", (1e6, 0, -3e6, 0, -1e6, 3e6), "pixels of 1e+06 m are larger than the scene"),
    ],
)
def test_grids_that_do_not_fit(
    small_product: Path, tmp_path: Path, crs: str, transform: tuple[float, ...], words: str
) -> None:
    like = _raster(tmp_path / "like.tif", crs, rasterio.Affine(*transform))
    with pytest.raises(GridError, match=re.escape(words)):
        prepare(small_product, tmp_path / "out", like=like, quicklook=False)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_grid_around_the_pole_and_one_inside_it_agree(
    small_product: Path, tmp_path: Path, small_settings: PrepareSettings
) -> None:
    """However far the grid reaches, the scene is where it is, and only there."""
    whole = rasterio.Affine(20_000, 0, -6e6, 0, -20_000, 6e6)
    row, col, rows, cols = 330, 310, 60, 60
    part = whole * rasterio.Affine.translation(col, row)
    bands = []
    for name, transform, shape in (("whole", whole, (600, 600)), ("part", part, (rows, cols))):
        like = _raster(tmp_path / f"{name}.tif", "EPSG:3413", transform, shape)
        with rasterio.open(prepare(small_product, tmp_path / name, like=like, quicklook=False).raster) as d:
            bands.append(d.read())
    outside = bands[0][3].copy()
    outside[row : row + rows, col : col + cols] = 0
    assert not outside.any()
    assert (bands[1][3] > 0).sum() > 150
    np.testing.assert_array_equal(bands[0][:, row : row + rows, col : col + cols], bands[1])


def test_the_other_side_of_the_earth(small_product: Path, tmp_path: Path) -> None:
    """The way from there to the scene's middle runs along its normal, and so has no part in its tangent plane."""
    lon, lat = (np.mean(c) for c in GeoLocator(open_scene(small_product)).footprint())
    x, y = pyproj.Transformer.from_crs(4326, 3031, always_xy=True).transform(lon + 180, -lat)
    like = _raster(tmp_path / "like.tif", "EPSG:3031", rasterio.Affine(5000, 0, x - 75_000, 0, -5000, y + 75_000))
    with pytest.raises(GridError, match="no pixel of the grid is in the scene"):
        prepare(small_product, tmp_path / "out", like=like, quicklook=False)


def test_a_scene_of_a_few_kilometres(write_small: Callable[..., Path], tmp_path: Path) -> None:
    path = write_small(tmp_path, lines=64, samples=64, pixel_spacing_m=40.0)
    result = prepare(path, tmp_path / "out", PrepareSettings(resolution_m=400), quicklook=False)
    with rasterio.open(result.raster) as d:
        assert (d.read(4) > 0).sum() >= 20
    with pytest.raises(GridError, match="larger than the scene"):
        prepare(path, tmp_path / "out", PrepareSettings(resolution_m=10_000), quicklook=False)


# --- what the command line makes of it


def test_errors_on_the_command_line_are_one_message(product: Path, tmp_path: Path) -> None:
    edited(product / MANIFEST, "productType>GRD<", "productType>SLC<")
    for command in (["prepare", str(product), "--out", str(tmp_path / "out")], ["info", str(product)]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "is a SLC product" in result.stderr
        assert "EW_GRDM_1SDH" in result.stderr
        assert str(product) in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stderr.count("error:") == 1
        assert result.stderr.count("\n") == 1
        debug = CliRunner().invoke(app, [*command, "--debug"])
        assert debug.exit_code == 1
        assert "Traceback" in debug.stderr
        assert "ProductError" in debug.stderr
        assert "is a SLC product" in debug.stderr


def test_square_brackets_in_names_are_shown(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["info", str(tmp_path / "[red]scene[/red].zip")])
    assert "[red]scene[/red].zip: does not exist." in result.stderr


def test_the_program_itself(tmp_path: Path) -> None:
    """Once in a process of its own, with everything that only shows there."""
    run = subprocess.run(
        [sys.executable, "-c", "from floemap.cli import main; main()", "prepare", str(tmp_path / "no.zip"),
         "--out", str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == f"error: {tmp_path / 'no.zip'}: does not exist. There is no 'no.zip' in {tmp_path}.\n"
    assert not (tmp_path / "out").exists()


def test_info_shows_what_can_be_read_and_what_is_wrong(product: Path) -> None:
    one(product, MEASUREMENT).unlink()
    result = CliRunner().invoke(app, ["info", str(product)])
    assert result.exit_code == 1
    assert "EW" in result.stdout
    assert "has 0 measurement file for HV" in result.stderr
