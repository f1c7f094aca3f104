"""Where a product's files hold several of a thing, the right one counts, or the product is refused: never the first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damage import MANIFEST, changed_xml, copied, edited, one, with_new_checksums, without_checksums
from lxml import etree

from floemap.errors import ProductError
from floemap.sentinel1.bands import open_product
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.safe.reader import open_scene, verify
from floemap.sentinel1.settings import PrepareSettings

SAFE = "{http://www.esa.int/safe/sentinel-1.0}"
CASES = Path(__file__).resolve().parents[2] / "shared/cases/01-cog-safe"


@pytest.fixture
def product(small_product: Path, tmp_path: Path) -> Path:
    return copied(small_product, tmp_path)


def _step(name: str, version: str) -> etree._Element:
    """A processing step of another facility, as a converter adds it."""
    step = etree.Element(f"{SAFE}processing", name="COG Conversion", start="2023-06-02T00:00:00", stop="2023-06-02")
    facility = etree.SubElement(
        step, f"{SAFE}facility", country="Poland", name="A data space", organisation="A", site="B"
    )
    etree.SubElement(facility, f"{SAFE}software", name=name, version=version)
    return step


def _around(root: etree._Element, name: str, version: str) -> None:
    """The converter's step around the processor's, as its resource."""
    ours = root.find(f".//{SAFE}processing")
    step = _step(name, version)
    ours.getparent().replace(ours, step)
    etree.SubElement(step, f"{SAFE}resource", name="X.SAFE", role="Level-1 GRD Product").append(ours)


def _before(root: etree._Element, name: str, version: str) -> None:
    ours = root.find(f".//{SAFE}processing")
    ours.addprevious(_step(name, version))


def _after(root: etree._Element, name: str, version: str) -> None:
    root.find(f".//{SAFE}processing").addnext(_step(name, version))


def _inside(root: etree._Element, name: str, version: str) -> None:
    """What the image was made from has a history of its own."""
    resource = etree.SubElement(root.find(f".//{SAFE}processing"), f"{SAFE}resource", name="Y.SAFE", role="SLC")
    resource.append(_step(name, version))


def _same_facility(root: etree._Element, name: str, version: str) -> None:
    root.find(f".//{SAFE}facility").insert(0, etree.Element(f"{SAFE}software", name=name, version=version))


def _own_object_before(root: etree._Element, name: str, version: str) -> None:
    section = root.find("metadataSection")
    thing = etree.Element("metadataObject", ID="cogProcessing", classification="PROVENANCE", category="PDI")
    section.insert(0, thing)
    etree.SubElement(etree.SubElement(thing, "metadataWrap"), "xmlData").append(_step(name, version))


PLACES = [_around, _before, _after, _inside, _same_facility, _own_object_before]


@pytest.mark.parametrize("place", PLACES, ids=lambda f: f.__name__.strip("_"))
@pytest.mark.parametrize("name", ["Sentinel-1 COGifier", "GDAL", "", "IPF to COG"])
def test_only_the_processor_says_its_version(product: Path, place: Callable[..., None], name: str) -> None:
    changed_xml(product / MANIFEST, lambda root: place(root, name, "001.00"))
    scene = open_scene(product)
    assert scene.ipf_version == (3, 52)
    assert scene.simulated, "another facility's name before does not hide the simulator's"


def test_the_outermost_of_the_processors_steps_made_the_image(product: Path) -> None:
    changed_xml(product / MANIFEST, lambda root: _inside(root, "Sentinel-1 IPF", "002.84"))
    assert open_scene(product).ipf_version == (3, 52)
    changed_xml(product / MANIFEST, lambda root: _around(root, "Sentinel-1 COGifier", "001.00"))
    assert open_scene(product).ipf_version == (3, 52)


def test_without_the_processor_the_product_is_refused(product: Path) -> None:
    edited(product / MANIFEST, 'name="Sentinel-1 IPF"', 'name="Mystery"')
    with pytest.raises(ProductError, match="names 'Mystery', but not the processor 'Sentinel-1 IPF'"):
        open_scene(product)
    changed_xml(product / MANIFEST, lambda root: root.find(f".//{SAFE}software").set("name", "Sentinel-1 IPF"))
    changed_xml(product / MANIFEST, lambda root: _before(root, "Sentinel-1 IPF", "002.84"))
    with pytest.raises(ProductError, match=r"version as '002\.84' and '003\.52'"):
        open_scene(product)


def test_a_converted_product_gives_the_originals_bands(
    small_product: Path, write_small: Callable[..., Path], tmp_path: Path, small_settings: PrepareSettings
) -> None:
    """For the three kinds of processor whose noise is treated differently."""
    for version, form in (("002.90", "range_azimuth"), ("002.84", "vectors"), ("002.36", "vectors")):
        spec = {"noise_format": form, "ipf_version": version, "suffix": "9FE3"}
        original = write_small(tmp_path / version / "in", **spec)
        cog = write_small(tmp_path / version / "cog", cog=True, **spec)
        changed_xml(cog / MANIFEST, lambda root: _around(root, "Sentinel-1 COGifier", "001.00"))
        ours, theirs = (
            open_product(prepare(p, tmp_path / version / "out", small_settings, quicklook=False).folder)
            for p in (original, cog)
        )
        for band in ("hh_db", "hv_db", "mask"):
            np.testing.assert_array_equal(ours[band].values, theirs[band].values, err_msg=f"{version} {band}")


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize(("folder", "version"), [("v352", "3.52"), ("v284", "2.84")])
def test_products_of_the_data_spaces_converter(tmp_path: Path, folder: str, version: str) -> None:
    (product,) = (CASES / folder).glob("*.zip")
    result = prepare(product, tmp_path, PrepareSettings(resolution_m=800), quicklook=False)
    record = json.loads(result.record.read_text())
    assert record["scene"]["ipf_version"] == version
    assert record["thermal_noise"]["HV"]["done"] == "annotated noise subtracted"


# --- the same element twice


@pytest.mark.parametrize(
    ("file", "path", "other"),
    [
        ("annotation/*-hh-*.xml", ".//rangePixelSpacing", "999.0"),
        ("annotation/*-hh-*.xml", ".//pass", "Ascending"),
        ("annotation/*-hv-*.xml", ".//thermalNoiseCorrectionPerformed", "true"),
        ("annotation/*-hh-*.xml", "geolocationGrid/geolocationGridPointList/*[5]/height", "900"),
        ("annotation/calibration/noise-*-hh-*.xml", "noiseRangeVectorList/*[3]/line", "61"),
        ("annotation/calibration/calibration-*-hh-*.xml", ".//absoluteCalibrationConstant", "2.0"),
    ],
)
def test_two_values_where_one_is_needed(product: Path, file: str, path: str, other: str) -> None:
    """The same twice is one; two that differ are refused, in whichever order they stand."""
    annotation = one(without_checksums(product), file)

    def double(root: etree._Element, text: str | None, at: int) -> None:
        element = root.find(path)
        twin = etree.fromstring(etree.tostring(element, with_tail=False))
        twin.text = element.text if text is None else text
        element.getparent().insert(element.getparent().index(element) + at, twin)

    changed_xml(annotation, lambda root: double(root, None, 1))
    open_scene(product)
    for at in (0, 1):
        intact = annotation.read_bytes()
        changed_xml(annotation, lambda root, at=at: double(root, other, at))  # type: ignore[misc]
        with pytest.raises(ProductError, match="different <"):
            open_scene(product)
        annotation.write_bytes(intact)


# --- polarisations: what they share is read from both


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<pass>Descending", "<pass>Ascending", "another pass direction"),
        ("<azimuthPixelSpacing>1.000000e+03", "<azimuthPixelSpacing>1.010000e+03", "another pixel spacing"),
        ("<absoluteOrbitNumber>2", "<absoluteOrbitNumber>3", "another absolute orbit"),
    ],
)
@pytest.mark.parametrize("p", ["hh", "hv"])
def test_polarisations_that_contradict_each_other(product: Path, old: str, new: str, words: str, p: str) -> None:
    edited(one(product, f"annotation/*-{p}-*.xml"), old, new)
    with pytest.raises(ProductError, match=f"has {words}"):
        open_scene(with_new_checksums(product))


@pytest.mark.parametrize("p", ["hh", "hv"])
def test_sub_swaths_that_differ(product: Path, p: str) -> None:
    def shift(root: etree._Element) -> None:
        for n in root.findall("swathMerging/swathMergeList/*[2]/swathBoundsList/*/firstRangeSample"):
            n.text = str(int(n.text) + 17)

    changed_xml(one(product, f"annotation/*-{p}-*.xml"), shift)
    with pytest.raises(ProductError, match="has another division into sub-swaths"):
        open_scene(with_new_checksums(product))


def test_the_geometry_of_the_second_polarisation_is_checked_too(product: Path) -> None:
    def shift(root: etree._Element) -> None:
        for n in root.iter("longitude"):
            n.text = str(float(n.text) + 1)

    changed_xml(one(product, "annotation/*-hv-*.xml"), shift)
    with pytest.raises(ProductError, match="contradicts the orbit by"):
        open_scene(with_new_checksums(product))


# --- the manifest's list of files


def test_a_checksum_of_another_kind_beside_the_md5(product: Path) -> None:
    def add(root: etree._Element) -> None:
        for checksum in list(root.iter("checksum")):
            other = etree.Element("checksum", checksumName="SHA-256")
            other.text = "0" * 64
            checksum.addprevious(other)

    changed_xml(product / MANIFEST, add)
    scene = open_scene(product)
    for p in scene.polarisations:
        verify(scene, p)
    assert len(scene.checksums) >= 8


def test_a_list_of_the_originals_beside_the_converted_files(write_small: Callable[..., Path], tmp_path: Path) -> None:
    """Two entries of one kind and polarisation: each file is compared with its own, the original is not there."""
    product = write_small(tmp_path, cog=True)

    def add(root: etree._Element) -> None:
        for entry in list(root.iter("dataObject")):
            twin = etree.fromstring(etree.tostring(entry))
            location = twin.find("byteStream/fileLocation")
            location.set("href", location.get("href").replace("-cog.", "."))
            twin.find("byteStream/checksum").text = "0" * 32
            entry.addnext(twin)

    changed_xml(product / MANIFEST, add)
    scene = open_scene(product)
    for p in scene.polarisations:
        verify(scene, p)


def test_renamed_files_are_compared_with_all_that_may_be(write_small: Callable[..., Path], tmp_path: Path) -> None:
    product = write_small(tmp_path, naming="cloud")

    def add(root: etree._Element) -> None:
        for entry in list(root.iter("dataObject")):
            twin = etree.fromstring(etree.tostring(entry))
            twin.find("byteStream/checksum").text = "0" * 32
            entry.addnext(twin)

    changed_xml(product / MANIFEST, add)
    scene = open_scene(product)
    verify(scene, "HV")
    tiff = one(product, "measurement/*hv*.tiff")
    content = bytearray(tiff.read_bytes())
    content[len(content) // 2] ^= 1
    tiff.write_bytes(bytes(content))
    with pytest.raises(ProductError, match="damaged or changed"):
        verify(scene, "HV")


def test_calibration_vectors_of_different_lengths_keep_all_their_points(product: Path) -> None:
    """The first vector has the fewest points; the others' are used all the same."""
    calibration = one(product, "annotation/calibration/calibration-*-hh-*.xml")

    def thin(root: etree._Element) -> None:
        first = root.find("calibrationVectorList/calibrationVector")
        for tag in ("pixel", "sigmaNought", "betaNought", "gamma", "dn"):
            element = first.find(tag)
            values = element.text.split()
            kept = values[::4] if (len(values) - 1) % 4 == 0 else [*values[::4], values[-1]]
            element.text = " ".join(kept)
            element.set("count", str(len(kept)))

    before = open_scene(product).calibration["HH"]
    changed_xml(calibration, thin)
    after = open_scene(with_new_checksums(product)).calibration["HH"]
    np.testing.assert_allclose(
        [np.interp(before.pixels, after.pixels, row) for row in after.sigma_nought[1:]], before.sigma_nought[1:]
    )


def test_the_relative_orbit_is_that_of_the_start(product: Path) -> None:
    expected = open_scene(product).relative_orbit

    def swap(root: etree._Element) -> None:
        start, stop = root.findall(f".//{SAFE}relativeOrbitNumber")
        stop.text = str(expected + 1)
        start.addprevious(stop)

    changed_xml(product / MANIFEST, swap)
    assert open_scene(product).relative_orbit == expected


def test_a_second_file_of_a_kind_is_refused(product: Path) -> None:
    file = one(product, "annotation/calibration/noise-*-hv-*.xml")
    shutil.copy(file, file.with_name("noise-0-hv-0.xml"))
    with pytest.raises(ProductError, match="has 2 noise file for HV"):
        open_scene(product)
