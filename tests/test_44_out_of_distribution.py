"""The out-of-distribution score: its numbers by hand, another library's neighbours, what raises it, damaged files."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sklearn.neighbors import NearestNeighbors
from tiny_model import ABOUT

from floemap.errors import ModelError
from floemap.inference.predict.predictors import make_predictor
from floemap.inference.predict.scene_maps import described_score, warn_if_unlike
from floemap.learning.calibration.out_of_distribution import (
    FEWEST_CELLS,
    MOST_CELLS,
    NEAREST,
    Known,
    SceneScore,
    SquareStatistics,
    labelled_squares,
    learn_known,
)
from floemap.learning.data.parts import PartArrays
from floemap.learning.models.checkpoint import save_checkpoint
from floemap.learning.models.checkpoint_header import METADATA_KEY, SCENES, describe_checkpoint, read_about
from floemap.learning.models.registry import build_model
from floemap.learning.settings import ModelSettings
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.sentinel1.encoding import BAND_NAMES, NODATA, PRODUCT_BANDS

NAMES = SquareStatistics(PRODUCT_BANDS).names


def bands(
    seed: int, shape: tuple[int, int] = (160, 208), hh_db: float = -18.0, spread: float = 2.0
) -> NDArray[np.int16]:
    """Stored bands of noise: HH, HV 8 dB below, and an angle that rises along the rows."""
    rng = np.random.default_rng(seed)
    hh = rng.normal(hh_db, spread, shape) + 3 * np.sin(np.arange(shape[0]) / 30)[:, None]
    hv = rng.normal(hh_db - 8, spread, shape)
    return (np.stack([hh, hv, np.broadcast_to(np.linspace(20, 45, shape[1]), shape)]) * 100).astype(np.int16)


def part(seed: int, **more: Any) -> PartArrays:
    stored = bands(seed, **more)
    return PartArrays(f"p{seed}", stored, np.zeros(stored.shape[1:], np.uint8))


def squares(stored: NDArray[np.int16]) -> NDArray[np.float32]:
    statistics = SquareStatistics(PRODUCT_BANDS)
    statistics.add(stored)
    return statistics.squares()


@pytest.fixture(scope="module")
def known() -> Known:
    found = learn_known(
        [labelled_squares(part(i)) for i in range(3)],
        [labelled_squares(part(i)) for i in (7, 8)],
        NAMES,
        seed=0,
    )
    assert isinstance(found, Known)
    return found


def test_the_numbers_of_a_square_are_means_and_spreads_of_every_second_pixel() -> None:
    stored = bands(1, (40, 50))
    stored[0, :10, :16] = NODATA  # more than half of the first square
    stored[2, 20:24, 20:30] = NODATA
    found = squares(stored)
    assert found.shape == (3, 4, 5) and [*BAND_NAMES, "hh_db spread", "hv_db spread"] == NAMES
    assert np.isnan(found[0, 0]).all()
    assert np.isnan(found[:, 3]).all()  # two columns of sixteen
    for row, col in ((0, 1), (1, 1), (1, 2), (2, 0)):
        at = (slice(None), slice(row * 16, row * 16 + 16, 2), slice(col * 16, col * 16 + 16, 2))
        seen = stored[at].astype(np.float64)
        valid = (seen != NODATA).all(axis=0)
        values = seen[:, valid] / 100
        expected = [*values.mean(axis=1), *np.log(values[:2].std(axis=1) + 0.1)]
        if valid.sum() * 2 >= 64:
            assert found[row, col] == pytest.approx(expected, abs=2e-3)
        else:
            assert np.isnan(found[row, col]).all()


@pytest.mark.parametrize("heights", [[160], [16, 144], [1, 30, 17, 112], [7] * 22 + [6]])
def test_the_numbers_do_not_depend_on_how_rows_are_read(heights: list[int]) -> None:
    stored = bands(2)
    statistics = SquareStatistics(PRODUCT_BANDS)
    read = statistics.watch(lambda row, col, rows, cols: stored[:, row : row + rows, col : col + cols])
    for first, rows in zip(np.cumsum([0, *heights[:-1]]), heights, strict=True):
        assert np.array_equal(read(int(first), 0, rows, 208), stored[:, first : first + rows])
    assert np.array_equal(statistics.squares(), squares(stored))


def test_distances_are_those_of_another_library(known: Known) -> None:
    found = squares(bands(11))
    near = NearestNeighbors(n_neighbors=NEAREST, algorithm="brute").fit(known.squares)
    expected = near.kneighbors((found / known.scale).reshape(-1, len(NAMES)))[0].mean(axis=1)
    assert known.distances(found).ravel() == pytest.approx(expected, rel=1e-5)
    held = np.concatenate([labelled_squares(part(i)) for i in (7, 8)])
    assert known.percentiles == pytest.approx(np.percentile(known.distances(held), range(101)))


def test_a_scene_like_the_training_scores_one_and_other_scenes_more(known: Known) -> None:
    usual = known.score(squares(bands(20)))
    assert usual.to_json()["score"] == pytest.approx(1, abs=0.1)
    assert usual.to_json()["percentile"] == pytest.approx(50, abs=12) and usual.unusual < 0.12
    before = usual.to_json()["score"]
    for off in (2.0, 4.0, 8.0):  # brighter and brighter
        now = known.score(squares(bands(20, hh_db=-18 + off))).to_json()
        assert now["score"] > before
        before = now["score"]
    assert now["unusual_share"] == 1 and now["percentile"] == 100
    assert known.score(squares(bands(20, spread=6.0))).to_json()["score"] > 3  # rougher


def test_squares_of_land_are_left_out_and_no_square_is_said(known: Known) -> None:
    stored = bands(20)
    stored[0, :80] += 2000
    land = np.zeros((160, 208), np.bool_)
    land[:80] = True
    whole = known.score(squares(stored))
    sea = whole.without(land)
    assert whole.unusual > 0.45 and sea.unusual < 0.12
    assert np.isnan(sea.ratio[:5]).all() and np.array_equal(sea.ratio[5:], whole.ratio[5:])
    assert described_score(sea.without(~land)) == {"reason": "no square of the scene has data"}
    assert sea.without(~land).unusual == 0.0


def test_the_warning_names_scene_and_shares(known: Known, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_if_unlike(known.score(squares(bands(20))), "S1A_USUAL")
        warn_if_unlike("it is not known", "S1A_UNKNOWN")
        assert not caplog.records
        warn_if_unlike(known.score(squares(bands(20, hh_db=-10))), "S1A_OTHER")
    assert "S1A_OTHER is unlike" in caplog.text and "100 % of it is unusual (5 % is usual)" in caplog.text


def test_a_scene_is_unlike_by_its_median_or_by_many_unusual_squares(known: Known) -> None:
    """By hand, of a validation whose distances are 1 to 2: median 1.5, percentile 95 at 1.95."""
    held = Known(known.names, known.scale, known.squares, np.linspace(1, 2, 101))

    def score(*ratios: float) -> SceneScore:
        return SceneScore(np.array([ratios], np.float32), held)

    usual = score(*[1.0] * 9, 1.4)
    assert (usual.median, usual.unusual, usual.unlike) == (1.0, 0.1, False)
    assert usual.percentile == pytest.approx(50)
    assert score(*[1.0] * 7, *[1.4] * 3).unlike  # three of ten are unusual
    further = score(*[1.15] * 10)  # 1.725 of 1 to 2
    assert further.percentile == pytest.approx(72.5) and further.unusual == 0 and further.unlike


# What a checkpoint keeps


def test_what_is_stored_is_read_again(known: Known) -> None:
    content = json.loads(json.dumps(known.to_json()))
    again = Known.from_json(content, NAMES, Path("m"))
    assert np.array_equal(again.squares, known.squares) and np.array_equal(again.percentiles, known.percentiles)
    assert again.to_json() == known.to_json()
    assert len(json.dumps(content)) < 40_000 and len(known.squares) <= MOST_CELLS


def test_too_few_squares_or_the_same_ones_are_not_kept() -> None:
    one = labelled_squares(part(1))
    few = one[: FEWEST_CELLS - 1]
    assert f"training parts have {FEWEST_CELLS - 1} labelled" in str(learn_known([few], [one], NAMES, 0))
    assert f"validation parts have {FEWEST_CELLS - 1} labelled" in str(learn_known([one], [few], NAMES, 0))
    same = np.full((40, len(NAMES)), 0.5, np.float32)
    assert "are those of the training" in str(learn_known([same], [same], NAMES, 0))


def test_a_band_with_one_value_is_no_division_by_zero() -> None:
    flat = labelled_squares(part(1))
    flat[:, 2] = 30
    other = flat.copy()
    other[:, 0] += 0.1
    found = learn_known([flat], [other], NAMES, 0)
    assert isinstance(found, Known) and np.isfinite(found.distances(other)).all()


def test_squares_without_labels_are_not_learnt() -> None:
    arrays = part(1)
    arrays.labels[:, :104] = IGNORE
    arrays.stored[:, :64] = NODATA
    assert len(labelled_squares(arrays)) == 6 * 7  # the square that is half labelled counts


def _model(path: Path, content: Any) -> Path:
    save_checkpoint(path, build_model(ModelSettings(name="tiny"), 6), dict(ABOUT) | {"legend": SIX_CLASSES.name})
    if content is not None:
        about = read_about(path) | {SCENES: content}
        save_file(load_file(path), path, {METADATA_KEY: json.dumps(about)})
    return path


DAMAGES: dict[str, Any] = {
    "all": "gone",
    "missing": {"squares": None},
    "not base64": {"squares": "%%%"},
    "cut off": {"squares": base64.b64encode(b"1234567").decode()},
    "no squares": {"squares": ""},
    "not a number": {"squares": base64.b64encode(np.full(50, np.nan, "<f2").tobytes()).decode()},
    "scale of 0": {"scale": [1.0, 0.0, 1.0, 1.0, 1.0]},
    "negative scale": {"scale": [1.0, -1.0, 1.0, 1.0, 1.0]},
    "too few scales": {"scale": [1.0]},
    "words": {"scale": "one"},
    "percentiles fall": {"percentiles": list(range(101))[::-1]},
    "percentiles of 0": {"percentiles": [0.0] * 101},
    "too few percentiles": {"percentiles": [1.0, 2.0]},
    "other numbers": {"numbers": ["temperature"]},
    "other squares": {"cell_px": 64},
}


@pytest.mark.usefixtures("tiny_is_a_model")
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_statistics_are_refused(damage: str, known: Known, tmp_path: Path) -> None:
    content = DAMAGES[damage] if damage == "all" else known.to_json() | DAMAGES[damage]
    path = _model(tmp_path / "m.safetensors", content)
    with pytest.raises(ModelError, match=r"m\.safetensors.*damaged statistics") as caught:
        make_predictor(path, engine="torch", precision="fp32", device="cpu")
    assert caught.value.hint


@pytest.mark.usefixtures("tiny_is_a_model")
def test_a_model_without_statistics_predicts_and_says_so(tmp_path: Path, known: Known) -> None:
    for content, words in ((None, "has no statistics"), ({"reason": "too few squares"}, "too few squares")):
        path = _model(tmp_path / "m.safetensors", content)
        assert words in str(make_predictor(path, engine="torch", precision="fp32", device="cpu").known)
    with_them = _model(tmp_path / "m.safetensors", known.to_json())
    assert isinstance(make_predictor(with_them, engine="torch", precision="fp32", device="cpu").known, Known)
    assert SCENES not in describe_checkpoint(with_them)[0]  # only programs can read it
