"""Noise annotation that cannot be true is replaced from what is good, and told; what is true is left alone.

The expected noise is that of the undamaged annotation, to within what noise drifts between vectors: 3 %.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import changed_xml, copied, one, with_new_checksums
from lxml import etree
from typer.testing import CliRunner

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.errors import ProductError
from floemap.info import describe
from floemap.sentinel1.bands import open_product
from floemap.sentinel1.metadata import NoiseLut, Scene
from floemap.sentinel1.noise_check import _implausible, _zeros, with_good_noise
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.radiometry import azimuth_factor
from floemap.sentinel1.safe.reader import open_scene
from floemap.sentinel1.settings import PrepareSettings
from floemap.simulation.safe.spec import ProductSpec
from floemap.simulation.safe.writer import write_safe

SHARED = Path(__file__).resolve().parents[2] / "shared"
REAL = SHARED / "data/S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15"
CASES = SHARED / "cases"

Values = np.ndarray


def _spiked(x: Values) -> Values:
    y = x.copy()
    y[len(y) // 3] *= 50
    return y


def _notched(x: Values) -> Values:
    y = x.copy()
    y[len(y) // 2] = 0
    return y


def _half_lost(x: Values) -> Values:
    return np.where(np.arange(len(x)) < len(x) // 2, x, 0)


#: What becomes of a vector's values.
DAMAGE: dict[str, Callable[[Values], Values]] = {
    "ten times": lambda x: 10 * x,
    "a thousand times": lambda x: 1000 * x,
    "twice": lambda x: 2 * x,
    "half": lambda x: x / 2,
    "a tenth": lambda x: x / 10,
    "zeros": lambda x: 0 * x,
    "not a number": lambda x: x + np.nan,
    "infinite": lambda x: x + np.inf,
    "negative": lambda x: -x,
    "beyond any signal": lambda x: x + 1e12,
    "one not a number": lambda x: np.where(np.arange(len(x)) == 7, np.nan, x),
    "one negative": lambda x: np.where(np.arange(len(x)) == 11, -1.0, x),
    "a spike": _spiked,
    "a zero inside": _notched,
    "zeros over half of the range": _half_lost,
    "constant": lambda x: np.full_like(x, np.median(x)),
    "mirrored": lambda x: x[::-1],
    "raised by a constant": lambda x: x + 2 * np.median(x),
}
#: Which of n vectors.
PLACES: dict[str, Callable[[int], range | list[int]]] = {
    "one": lambda n: [n // 2],
    "first": lambda n: [0],
    "last": lambda n: [n - 1],
    "a run of a quarter": lambda n: range(n // 3, n // 3 + n // 4),
    "every fourth": lambda n: range(1, n, 4),
}


@pytest.fixture(scope="module", params=["simulated", "simulated, before IPF 2.90", "real"])
def sound(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, write_small: Callable[..., Path]
) -> Scene:
    if request.param == "real":
        if not REAL.is_dir():
            pytest.skip("the real product's metadata is not here")
        return open_scene(REAL, pixels=False)
    old = {"noise_format": "vectors", "ipf_version": "002.82"} if "before" in request.param else {}
    return open_scene(write_small(tmp_path_factory.mktemp("sound"), lines=600, **old), pixels=False)


def damaged(scene: Scene, polarisations: str, places: range | list[int], change: Callable[[Values], Values]) -> Scene:
    luts = dict(scene.noise)
    for p in polarisations.split("+"):
        vectors = list(luts[p].range_vectors)
        for i in places:
            vectors[i] = replace(vectors[i], power=change(vectors[i].power))
        luts[p] = replace(luts[p], range_vectors=tuple(vectors))
    return replace(scene, noise=luts)


def error(lut: NoiseLut, expected: NoiseLut, scene: Scene) -> float:
    """Largest relative error of the noise at the vectors' own points inside the image, azimuth noise included."""
    worst = 0.0
    same_blocks = [*map(id, lut.azimuth_blocks)] == [*map(id, expected.azimuth_blocks)]  # whose factors cancel out
    for found, right in zip(lut.range_vectors, expected.range_vectors, strict=True):
        for b in scene.swaths:
            inside = (found.pixels >= b.first_pixel) & (found.pixels <= b.last_pixel) & (right.power > 0)
            if b.first_line <= found.line <= b.last_line and inside.any():
                ratio = found.power[inside] / right.power[inside]
                if not same_blocks:
                    lines = np.array([found.line])
                    factor = [float(azimuth_factor(x.azimuth_blocks, b.swath, lines)[0]) for x in (lut, expected)]
                    ratio *= factor[0] / factor[1]
                worst = max(worst, *np.nan_to_num(abs(ratio - 1), nan=np.inf).tolist())
    return worst


def visible(scene: Scene, p: str, places: list[int], change: Callable[[Values], Values]) -> list[float]:
    """Lines of those vectors of which something inside the image changes by more than noise may."""
    found = []
    for i in places:
        vector = scene.noise[p].range_vectors[i]
        ours, theirs = (replace(vector, power=x) for x in (change(vector.power), vector.power))
        mine, right = (replace(scene.noise[p], range_vectors=(v,)) for v in (ours, theirs))
        if error(mine, right, scene) > 0.1:
            found.append(vector.line)
    return found


@pytest.mark.parametrize("name", DAMAGE)
def test_bad_vectors_are_replaced(
    sound: Scene, name: str, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    """Every damage in every place: in the real noise, and in one of the two simulated ones."""
    count = len(sound.noise["HV"].range_vectors)
    kind = ["simulated", "simulated, before IPF 2.90", "real"].index(request.node.callspec.params["sound"])
    for k, place in enumerate(PLACES):
        if kind < 2 and (k + list(DAMAGE).index(name)) % 2 != kind:
            continue
        places, polarisations = list(PLACES[place](count)), ("HV", "HH+HV")[k % 2]
        caplog.clear()
        scene = with_good_noise(damaged(sound, polarisations, places, DAMAGE[name]))
        for p in scene.polarisations:
            lut = scene.noise[p]
            expected = visible(sound, p, places, DAMAGE[name]) if p in polarisations else []
            assert lut.unusable is None, (place, p, lut.unusable)
            assert error(lut, sound.noise[p], sound) < 0.05, (place, p)
            assert [r.line for r in lut.repairs] == expected, (place, p)
            words = rf"{len(expected)} of {count} noise vectors of {p} are wrong"
            assert bool(re.search(words, caplog.text)) == bool(expected), (place, p)


@pytest.mark.parametrize("factor", [3.0, 10.0, 1000.0, 0.3, 0.1])
def test_a_majority_that_cannot_be_noise(sound: Scene, factor: float) -> None:
    """As in ESA's products of March 2018, where only the first and the last vectors were right."""
    count = len(sound.noise["HV"].range_vectors)
    for share, polarisations in ((0.5, "HH"), (0.6, "HV"), (0.8, "HH+HV")):
        middle = range(round(count * (1 - share) / 2), round(count * (1 + share) / 2))
        scene = with_good_noise(damaged(sound, polarisations, middle, lambda x: factor * x))
        for p in scene.polarisations:
            assert scene.noise[p].unusable is None, (share, p, scene.noise[p].unusable)
            assert error(scene.noise[p], sound.noise[p], sound) < 0.1, (share, p)
            assert len(scene.noise[p].repairs) == (len(middle) if p in polarisations else 0)


def test_two_opinions_that_both_may_be_noise(sound: Scene) -> None:
    count = len(sound.noise["HV"].range_vectors)
    scene = with_good_noise(damaged(sound, "HV", range(count // 4, count // 4 + count // 2), lambda x: 1.4 * x))
    assert "too few agree" in (scene.noise["HV"].unusable or "")
    assert scene.noise["HH"].unusable is None


def test_noise_that_is_wrong_throughout_is_unusable(sound: Scene) -> None:
    every = range(len(sound.noise["HV"].range_vectors))
    for name in ("ten times", "a thousand times", "a tenth", "zeros", "not a number", "negative", "beyond any signal"):
        scene = with_good_noise(damaged(sound, "HV", every, DAMAGE[name]))
        assert scene.noise["HV"].unusable, name
        assert scene.noise["HH"].unusable is None
        for v in scene.noise["HV"].range_vectors:
            assert np.isfinite(v.power).all()
            assert (v.power >= 0).all()


def test_one_sub_swath_alone(sound: Scene) -> None:
    """Half of it wrong: the other half cannot be told from it. A third: replaced, there and only there."""
    swath = next(s for s in sound.swaths if s.swath == "EW3")
    margin = (swath.last_pixel - swath.first_pixel) // 20  # its bounds move a little

    def spoil(scene: Scene, places: range) -> Scene:
        vectors = list(scene.noise["HV"].range_vectors)
        for i in places:
            v = vectors[i]
            here = (v.pixels >= swath.first_pixel + margin) & (v.pixels <= swath.last_pixel - margin)
            vectors[i] = replace(v, power=np.where(here, 5 * v.power, v.power))
        lut = replace(scene.noise["HV"], range_vectors=tuple(vectors))
        return replace(scene, noise={**scene.noise, "HV": lut})

    count = len(sound.noise["HV"].range_vectors)
    lut = with_good_noise(spoil(sound, range(count // 3, count // 3 + count // 5))).noise["HV"]
    assert {r.swaths for r in lut.repairs} == {("EW3",)}
    assert error(lut, sound.noise["HV"], sound) < 0.05
    lut = with_good_noise(spoil(sound, range(count // 4, count // 4 + count // 2))).noise["HV"]
    assert lut.unusable
    assert "EW3" in lut.unusable


def test_sound_noise_is_left_alone(sound: Scene, caplog: pytest.LogCaptureFixture) -> None:
    again = with_good_noise(sound)
    assert caplog.text == ""
    for p in sound.polarisations:
        assert again.noise[p].repairs == ()
        assert again.noise[p].unusable is None
        for a, b in zip(again.noise[p].range_vectors, sound.noise[p].range_vectors, strict=True):
            np.testing.assert_array_equal(a.power, b.power)
        assert again.noise[p].azimuth_blocks == sound.noise[p].azimuth_blocks


@pytest.mark.parametrize("factor", [0.93, 1.07])
def test_what_noise_may_vary_by_is_no_fault(sound: Scene, factor: float) -> None:
    """Twice what the level of vectors of a real product varies by."""
    places = range(1, len(sound.noise["HH"].range_vectors), 2)
    scene = with_good_noise(damaged(sound, "HH+HV", places, lambda x: factor * x))
    assert not any(lut.repairs or lut.unusable for lut in scene.noise.values())


SPECS: dict[str, dict[str, Any]] = {
    "south": {"centre_lat": -72.0, "centre_lon": 170.0},
    "pole": {"centre_lat": 89.5},
    "S1B": {"mission": "S1B"},
    "S1D": {"mission": "S1D"},
    "denoised": {"denoised": True},
    "IPF 2.36": {"noise_format": "vectors", "ipf_version": "002.36"},
    "IPF 2.72": {"noise_format": "vectors", "ipf_version": "002.72"},
    "noise far from its annotation": {"noise_departure": 0.1},
    "narrow": {"samples": 90, "lines": 700},
    "short": {"lines": 64, "samples": 280},
    "40 m": {"lines": 400, "samples": 400, "pixel_spacing_m": 40.0},
}


@pytest.mark.parametrize("name", SPECS)
def test_no_false_alarm(
    name: str, write_small: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    product = write_small(tmp_path, **SPECS[name])
    scene = open_scene(product)
    for p in scene.polarisations:
        assert scene.noise[p].repairs == ()
        assert scene.noise[p].unusable is None
    settings = PrepareSettings(resolution_m=max(2 * scene.pixel_spacing_m[0], 80))
    record = json.loads(prepare(product, tmp_path / "out", settings, quicklook=False).record.read_text())
    for noise in record["thermal_noise"].values():
        assert noise["repairs"] == []
        assert noise["too_high_share"] == 0
    assert "wrong" not in caplog.text
    assert "azimuth" not in caplog.text


# --- azimuth noise


FACTORS: dict[str, Callable[[Values], Values]] = {
    "ten times": lambda x: 10 * x,
    "a tenth": lambda x: x / 10,
    "twice": lambda x: 2 * x,
    "zeros": lambda x: 0 * x,
    "not a number": lambda x: x + np.nan,
    "negative": lambda x: -x,
    "infinite": lambda x: x + np.inf,
    "enormous": lambda x: 1e4 * x,
}


@pytest.mark.parametrize("name", FACTORS)
def test_bad_azimuth_blocks_are_replaced(sound: Scene, name: str) -> None:
    """From the other polarisation, where that is good: there the factors differ by 0.02 in a real product."""
    blocks = sound.noise["HV"].azimuth_blocks
    if not blocks:
        pytest.skip("no azimuth noise before IPF 2.90")
    for i in range([*FACTORS].index(name) % 4, len(blocks), 4):  # every block by two of the eight factors
        block = blocks[i]
        changed = [*blocks[:i], replace(block, factor=FACTORS[name](block.factor)), *blocks[i + 1 :]]
        lut = replace(sound.noise["HV"], azimuth_blocks=tuple(changed))
        found = with_good_noise(replace(sound, noise={**sound.noise, "HV": lut})).noise
        assert found["HH"] is sound.noise["HH"] or found["HH"].repairs == ()
        assert [(r.part, r.line, r.swaths) for r in found["HV"].repairs] == [
            ("azimuth block", block.first_line, (block.swath,))
        ]
        assert error(found["HV"], sound.noise["HV"], sound) < 0.03
    # The same in both polarisations: the stripes cannot be known, the level is.
    both = {
        p: replace(
            lut,
            azimuth_blocks=tuple(replace(b, factor=FACTORS[name](b.factor)) for b in lut.azimuth_blocks),
        )
        for p, lut in sound.noise.items()
    }
    found = with_good_noise(replace(sound, noise=both)).noise
    for p in sound.polarisations:
        assert {r.used for r in found[p].repairs} == {"the factor 1"}
        assert error(found[p], sound.noise[p], sound) < 0.3


def test_spikes_in_azimuth_noise(sound: Scene) -> None:
    blocks = sound.noise["HV"].azimuth_blocks
    if not blocks:
        pytest.skip("no azimuth noise before IPF 2.90")
    longest = max(range(len(blocks)), key=lambda i: len(blocks[i].factor))
    for value in (np.nan, 0.0, -1.0, 9.0, 2.0):
        factor = blocks[longest].factor.copy()
        factor[[3, len(factor) // 2, -2]] = value
        changed = [*blocks]
        changed[longest] = replace(blocks[longest], factor=factor)
        lut = replace(sound.noise["HV"], azimuth_blocks=tuple(changed))
        found = with_good_noise(replace(sound, noise={**sound.noise, "HV": lut})).noise["HV"]
        (repair,) = found.repairs
        assert "3 of" in repair.found
        assert error(found, sound.noise["HV"], sound) < 0.1


# --- files


def _texts(change: Callable[[Values], Values], tag: str, which: slice) -> Callable[[etree._Element], None]:
    def apply(root: etree._Element) -> None:
        for element in list(root.iter(tag))[which]:
            values = np.array((element.text or "").split(), float)
            element.text = " ".join(f"{v:.6e}" for v in change(values))

    return apply


@pytest.mark.parametrize("p", ["hh", "hv"])
@pytest.mark.parametrize("name", ["ten times", "not a number", "negative", "zeros", "a spike"])
def test_a_product_with_bad_vectors_gives_the_right_bands(
    small_product: Path, tmp_path: Path, small_settings: PrepareSettings, name: str, p: str
) -> None:
    right = open_product(prepare(small_product, tmp_path / "right", small_settings, quicklook=False).folder)
    product = copied(small_product, tmp_path)
    changed_xml(
        one(product, f"annotation/calibration/noise-*-{p}-*.xml"), _texts(DAMAGE[name], "noiseRangeLut", slice(3, 6))
    )
    result = prepare(with_new_checksums(product), tmp_path / "out", small_settings, quicklook=False)
    found = open_product(result.folder)
    for band in ("hh_db", "hv_db"):
        off = abs(10 ** (found[band].values / 10) / 10 ** (right[band].values / 10) - 1)
        assert np.nanpercentile(off, 99) < 0.05
    record = json.loads(result.record.read_text())["thermal_noise"][p.upper()]
    assert len(record["repairs"]) == 3
    assert {r["used"] for r in record["repairs"]} == {"the others"}
    facts = describe(product).facts
    assert len(facts["radiometry"][p.upper()]["noise_repairs"]) == 3


def test_noise_that_is_wrong_throughout_is_refused_unless_left_in(
    small_product: Path, tmp_path: Path, small_settings: PrepareSettings
) -> None:
    product = copied(small_product, tmp_path)
    changed_xml(
        one(product, "annotation/calibration/noise-*-hv-*.xml"),
        _texts(DAMAGE["ten times"], "noiseRangeLut", slice(None)),
    )
    with_new_checksums(product)
    with pytest.raises(ProductError, match=r"annotated noise of HV cannot be right: its noise floor is at -2\d"):
        prepare(product, tmp_path / "out", small_settings, quicklook=False)
    assert any("annotated noise of HV cannot be used" in problem for problem in describe(product).problems)
    settings = small_settings.model_copy(update={"noise": "none"})
    result = prepare(product, tmp_path / "out", settings, quicklook=False)
    assert json.loads(result.record.read_text())["thermal_noise"]["HV"]["done"] == "nothing subtracted, as asked"


def test_info_of_noise_that_is_zero_is_json(small_product: Path, tmp_path: Path) -> None:
    product = copied(small_product, tmp_path)
    for file in product.glob("annotation/calibration/noise-*.xml"):
        changed_xml(file, _texts(DAMAGE["zeros"], "noiseRangeLut", slice(None)))
    result = CliRunner().invoke(
        app, ["info", str(with_new_checksums(product)), "--json", "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 1, "such a product cannot be prepared"
    for text in (result.stdout, (tmp_path / "out/info.json").read_text()):
        facts = json.loads(text, parse_constant=pytest.fail)
        assert facts["radiometry"]["HV"]["nesz_db"] is None
        assert "no noise vector has a positive power" in facts["problems"][0]


def test_noise_above_the_measured_power_is_refused(
    small_spec: Callable[..., ProductSpec], tmp_path: Path, small_settings: PrepareSettings
) -> None:
    """Three and a half times the truth is within what noise may be; only dark pixels tell."""
    spec = small_spec()
    dark = {p: np.full((spec.lines, spec.samples), 1e-5, np.float32) for p in ("HH", "HV")}
    product = write_safe(tmp_path / "in", spec, dark, looks=10)
    changed_xml(
        one(product, "annotation/calibration/noise-*-hv-*.xml"), _texts(lambda x: 3.5 * x, "noiseRangeLut", slice(None))
    )
    # The statistics would tell, too; they are the image's own, and so are taken away.
    changed_xml(one(product, "annotation/*-hv-*.xml"), _texts(lambda x: 0 * x, "re", slice(None)))
    assert open_scene(with_new_checksums(product)).noise["HV"].unusable is None
    with pytest.raises(ProductError, match=r"annotated noise of HV .* over twice the measured power"):
        prepare(product, tmp_path / "out", small_settings, quicklook=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["no list", "empty list", "one sub-swath without"])
def test_absent_azimuth_noise_is_the_factor_1(
    small_product: Path, tmp_path: Path, small_settings: PrepareSettings, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S1-RS-MDA-52-7441 lets the list be absent or empty."""

    def remove(root: etree._Element) -> None:
        blocks = root.find("noiseAzimuthVectorList")
        if how == "no list":
            root.remove(blocks)
            return
        for block in list(blocks):
            if how == "empty list" or block.findtext("swath") == "EW4":
                blocks.remove(block)
        blocks.set("count", str(len(blocks)))

    product = copied(small_product, tmp_path)
    changed_xml(one(product, "annotation/calibration/noise-*-hv-*.xml"), remove)
    scene = open_scene(with_new_checksums(product))
    ours = scene.noise["HV"]
    expected = open_scene(small_product).noise["HV"]
    absent = ("EW1", "EW2", "EW3", "EW4", "EW5") if how != "one sub-swath without" else ("EW4",)
    flat = tuple(replace(b, factor=np.ones_like(b.factor)) if b.swath in absent else b for b in expected.azimuth_blocks)
    assert error(ours, replace(expected, azimuth_blocks=flat), scene) < 1e-6
    assert "azimuth noise of HV" in caplog.text
    record = json.loads(prepare(product, tmp_path / "out", small_settings, quicklook=False).record.read_text())
    (repair,) = record["thermal_noise"]["HV"]["repairs"]
    assert repair["part"] == "azimuth list"
    assert tuple(repair["swaths"]) == absent
    assert record["thermal_noise"]["HV"]["done"] == "annotated noise subtracted"


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize("case", ["04-corrupt-noise-vectors/x10.0", "04-corrupt-noise-vectors/x1000.0"])
def test_the_case_of_march_2018(tmp_path: Path, case: str) -> None:
    """Its truth: -12 dB in HH, -25 dB in HV."""
    (product,) = (CASES / case).glob("*.zip")
    result = prepare(product, tmp_path, PrepareSettings(resolution_m=800), quicklook=False)
    found = open_product(result.folder)
    for band, truth in (("hh_db", -12.0), ("hv_db", -25.0)):
        values = found[band].values[np.isfinite(found[band].values)]
        assert abs(values - truth).max() < 1
        assert abs(values.mean() - truth) < 0.02


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize("case", ["empty", "no-list"])
def test_the_case_without_azimuth_noise(tmp_path: Path, case: str) -> None:
    (product,) = (CASES / "03-azimuth-noise-absent" / case).glob("*.zip")
    record = json.loads(
        prepare(product, tmp_path, PrepareSettings(resolution_m=800), quicklook=False).record.read_text()
    )
    assert record["thermal_noise"]["HV"]["repairs"][0]["part"] == "azimuth list"


def test_zeros_are_counted_inside_and_beyond_two_at_either_end() -> None:
    """One inside weighs as much as the two that are usual at an end and one more."""
    for values, zeros in (
        ([0, 0, 5, 5, 0, 0], 0),
        ([0, 0, 0, 5, 5, 0], 1),
        ([5, 5, 0, 0, 0, 0], 2),
        ([5, 0, 5], 3),
        ([0, 0, 0, 5, 0, 0, 5, 0, 0, 0], 8),
        ([0, 0, 0], 3),
    ):
        assert _zeros(np.array(values, float)) == zeros


def test_noise_is_not_judged_by_an_image_power_that_is_not_annotated(small_product: Path) -> None:
    scene = open_scene(small_product)
    vectors = scene.noise["HV"].range_vectors
    bright = dict.fromkeys(scene.polarisations, 1e6)
    dark = dict.fromkeys(bright, 1.0)
    none = dict.fromkeys(bright, 0.0)
    assert _implausible(replace(scene, dn_mean=bright, dn_std=none), "HV", vectors) is None
    assert "above the image's mean power, 2" in str(
        _implausible(replace(scene, dn_mean=dark, dn_std=dark), "HV", vectors)
    )
    assert _implausible(replace(scene, dn_mean=none, dn_std=none), "HV", vectors) is None
