"""Patches: which ones an epoch has, where they come from, and the normalisation that is pooled over their parts."""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scene_files import on_disk

from floemap.errors import ConfigError, FloemapError, GridError, TrainingError
from floemap.learning.data.crops import (
    Crop,
    ResidentCrops,
    StreamedCrops,
    deal,
    draw_epoch,
    draw_fixed,
    physical,
    read_crop,
)
from floemap.learning.data.normalisation import band_sums, pooled_statistics
from floemap.learning.data.parts import PartArrays, load_part, part_window
from floemap.learning.data.streams import first_integers
from floemap.learning.data.survey import Survey, count_classes, find_places, survey_part
from floemap.learning.settings import CropSettings
from floemap.legend import IGNORE, SIX_CLASSES
from floemap.sentinel1.encoding import NODATA

SMALL = CropSettings(size_px=32, per_scene=12, min_valid=0.5)


def some_part(name: str, shape: tuple[int, int], seed: int, share_without: float = 0.1) -> PartArrays:
    """Noise in the bands, labels in two blocks, a corner without data."""
    rng = np.random.default_rng(seed)
    stored = rng.normal([[[-1500]], [[-2500]], [[3000]]], 300, (3, *shape)).astype(np.int16)
    labels = np.zeros(shape, np.uint8)
    labels[:, shape[1] // 2 :] = 4
    edge = int(shape[0] * share_without)
    stored[:, :edge] = NODATA
    labels[:edge] = IGNORE
    return PartArrays(name, stored, labels)


@pytest.fixture(scope="module")
def parts() -> list[PartArrays]:
    return [some_part("a", (90, 110), 1), some_part("b", (70, 64), 2, 0.3)]


@pytest.fixture(scope="module")
def surveys(parts: list[PartArrays]) -> list[Survey]:
    return [survey_part(p, 32, 0.5) for p in parts]


# Where patches may lie


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(4, 20), st.integers(4, 20)),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.07, 0.3, 0.5, 0.9, 1.0]),
)
def test_places_are_all_those_with_enough_labels(seed: int, shape: tuple[int, int], size: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    labelled = rng.random(shape) < rng.random()
    places = find_places(labelled, size, share)
    windows = np.lib.stride_tricks.sliding_window_view(labelled, (size, size)).sum(axis=(2, 3))
    assert places.at(np.arange(len(places))).tolist() == [
        [r, c] for r, c in np.ndindex(windows.shape) if round(windows[r, c] / size**2, 9) >= share
    ]
    assert places.best_share == windows.max() / size**2
    for number in (-1, len(places)):
        with pytest.raises(IndexError):
            places.at(np.array([number]))


def test_patches_have_enough_labels_and_reach_every_place() -> None:
    part = some_part("a", (40, 44), 0, 0.55)
    survey = survey_part(part, 32, 0.5)
    assert survey.places is not None
    drawn = draw_epoch([survey], CropSettings(size_px=32, per_scene=3000, min_valid=0.5), 0, 0)
    for crop in drawn:
        _, labels, _ = read_crop(part, crop)
        assert (labels != IGNORE).float().mean() >= 0.5
    counts = np.unique([(c.row, c.col) for c in drawn], axis=0, return_counts=True)[1]
    assert len(counts) == len(survey.places) < (40 - 31) * (44 - 31)
    expected = len(drawn) / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < 2 * len(counts)  # chi squared: uniform over places


def test_part_without_a_good_place_says_how_good_the_best_is() -> None:
    part = some_part("07-SW", (64, 64), 0, 0.8)
    with pytest.raises(TrainingError, match=r"07-SW: no crop of 32 x 32 px has a label on 90% .* on 40\.6%") as e:
        survey_part(part, 32, 0.9)
    assert "min_valid" in str(e.value)


def test_part_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"tiny has 40 x 31 px, smaller than a crop of 32 x 32") as e:
        survey_part(some_part("tiny", (40, 31), 0), 32, 0.5)
    assert "crops.size_px" in str(e.value)


# Which patches an epoch has


def test_an_epoch_depends_on_seed_and_number_alone(surveys: list[Survey]) -> None:
    again = list(draw_epoch(surveys, SMALL, 5, 3))
    assert list(draw_epoch(surveys, SMALL, 5, 3)) == again
    assert list(draw_epoch(surveys, SMALL, 5, 4)) != again
    assert list(draw_epoch(surveys, SMALL, 6, 3)) != again
    assert [sum(c.part == i for c in again) for i in range(2)] == [12, 12]


def test_a_part_more_changes_no_place_of_the_others(surveys: list[Survey]) -> None:
    alone = {(c.row, c.col) for c in draw_epoch(surveys[:1], SMALL, 0, 0)}
    assert alone == {(c.row, c.col) for c in draw_epoch(surveys, SMALL, 0, 0) if c.part == 0}


def test_drawn_once_means_the_same_places_in_another_order(surveys: list[Survey]) -> None:
    once = SMALL.model_copy(update={"redraw": False})
    first, later = (list(draw_epoch(surveys, once, 0, epoch)) for epoch in (0, 7))
    assert first != later
    assert set(first) == set(later)
    assert set(draw_epoch(surveys, SMALL, 0, 0)) != set(draw_epoch(surveys, SMALL, 0, 7))


def test_fixed_patches_are_never_turned_and_unlike_the_training_ones(surveys: list[Survey]) -> None:
    fixed, again = (list(draw_fixed(surveys, SMALL)[0]) for _ in range(2))
    assert fixed == again and len(fixed) == SMALL.validation_per_scene
    assert {c.turn for c in fixed} == {0}
    assert {(c.row, c.col) for c in fixed} != {(c.row, c.col) for c in draw_epoch(surveys[:1], SMALL, 0, 0)}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
def test_processes_share_each_batch_of_one_process(count: int, batch: int, ranks: int) -> None:
    crops = [Crop(0, i, 0, 32) for i in range(count)]
    if batch > count or batch < ranks:
        with pytest.raises(ConfigError, match=f"training.batch is {batch}"):
            deal(crops, batch, 0, ranks)
        return
    alone = deal(crops, batch)
    assert [len(b) for b in alone] == [batch] * (count // batch)
    assert list(chain(*alone)) == crops[: count // batch * batch]
    shared = [deal(crops, batch, r, ranks) for r in range(ranks)]
    for b, whole in enumerate(alone):
        assert list(chain(*(s[b] for s in shared))) == whole
        assert min(len(s[b]) for s in shared) > 0


def test_batch_larger_than_the_patches_is_refused(surveys: list[Survey]) -> None:
    with pytest.raises(ConfigError, match=r"training\.batch is 25, but an epoch has 24 crops"):
        deal(draw_epoch(surveys, SMALL, 0, 0), 25)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**140),
    st.lists(st.integers(0, 2**70), max_size=3),
    st.lists(st.integers(1, 2**32) | st.just(2**32) | st.integers(2**31, 2**31 + 9), min_size=1, max_size=4),
    st.integers(1, 5),
)
def test_first_numbers_of_many_streams_are_numpys(seed: int, key: list[int], limits: list[int], each: int) -> None:
    """Half of the numbers below a limit just above 2^31 are drawn again."""
    drawn = first_integers(seed, tuple(key), np.array(limits), each)
    for (i, j), number in np.ndenumerate(drawn):
        bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(*key, i, j)))
        assert number == np.random.Generator(bits).integers(limits[i])


def test_streams_are_those_of_their_place_in_long_epochs() -> None:
    drawn = first_integers(3, (0, 1), np.full(2000, 10**6), 9)  # more than are computed at a time
    for i in (0, 1819, 1820, 1821, 1999):
        assert drawn[i, 7] == np.random.Generator(
            np.random.Philox(np.random.SeedSequence(3, spawn_key=(0, 1, i, 7)))
        ).integers(10**6)


def test_an_epoch_is_the_one_of_the_first_release(surveys: list[Survey]) -> None:
    """Trainings that were begun before resume with the crops that they would have had."""
    flipped = SMALL.model_copy(update={"flips": True})
    for i, crop in enumerate(draw_epoch(surveys, flipped, 7, 2)):
        number = np.random.Generator(np.random.Philox(np.random.SeedSequence(7, spawn_key=(2, 2)))).permutation(24)[i]
        part, index = divmod(int(number), 12)
        place, turn = (
            np.random.Generator(np.random.Philox(np.random.SeedSequence(7, spawn_key=(what, 2, part, index))))
            for what in (0, 1)
        )
        places = surveys[part].places
        assert places is not None
        row, col = places.at(place.integers(len(places), size=1))[0]
        assert crop == Crop(part, row, col, 32, int(turn.integers(8)))


def test_crops_are_a_sequence(surveys: list[Survey]) -> None:
    drawn = draw_epoch(surveys, SMALL, 0, 0)
    assert [drawn[i] for i in range(-24, 24)] == [*drawn, *drawn]
    assert list(drawn[5:9][1:]) == list(drawn)[6:9]
    with pytest.raises(IndexError):
        drawn[24]


# Turns


def test_turns_are_the_eight_of_a_square() -> None:
    part = some_part("a", (32, 32), 0)
    seen = set()
    for turn in range(8):
        stored, labels, _ = read_crop(part, Crop(0, 0, 0, 32, turn))
        mirrored = part.stored[..., ::-1] if turn >= 4 else part.stored
        assert np.array_equal(stored, np.rot90(mirrored, turn % 4, (-2, -1)))
        assert np.array_equal((labels == IGNORE), (stored[0] == NODATA))  # bands and labels turn alike
        seen.add(stored.numpy().tobytes())
    assert len(seen) == 8


def test_turns_are_drawn_only_if_asked_for(surveys: list[Survey]) -> None:
    assert {c.turn for c in draw_epoch(surveys, SMALL, 0, 0)} == {0}
    many = SMALL.model_copy(update={"flips": True, "per_scene": 200})
    turned = draw_epoch(surveys, many, 0, 0)
    assert {c.turn for c in turned} == set(range(8))
    plain = draw_epoch(surveys, many.model_copy(update={"flips": False}), 0, 0)
    assert [dataclasses.replace(c, turn=0) for c in turned] == list(plain)


# Context


@pytest.mark.parametrize("turn", [0, 5])
def test_context_is_the_scene_around_a_patch_and_no_data_beyond(turn: int) -> None:
    part = some_part("a", (90, 80), 0)
    context = 40
    around = np.pad(part.stored, ((0, 0), (context, context), (context, context)), constant_values=NODATA)
    for row, col in ((0, 0), (30, 20), (58, 48)):
        stored, labels, _ = read_crop(part, Crop(0, row, col, 32, turn, context))
        whole, inner, _ = read_crop(part, Crop(0, row, col, 32, turn))
        expected = around[:, row : row + 32 + 2 * context, col : col + 32 + 2 * context]
        mirrored = expected[..., ::-1] if turn >= 4 else expected
        assert np.array_equal(stored, np.rot90(mirrored, turn % 4, (-2, -1)))
        within = slice(context, context + 32)
        assert torch.equal(stored[:, within, within], whole) and torch.equal(labels[within, within], inner)
        assert int((labels != IGNORE).sum()) == int((inner != IGNORE).sum())  # the loss counts nothing around


def test_context_changes_no_place(surveys: list[Survey]) -> None:
    wide = SMALL.model_copy(update={"context_px": 16})
    plain = [dataclasses.replace(c, context_px=0) for c in draw_epoch(surveys, wide, 2, 1)]
    assert plain == list(draw_epoch(surveys, SMALL, 2, 1))
    assert {c.side_px for c in draw_fixed(surveys, wide)[0]} == {64}


# Sources


def batches_of(crops: Sequence[Crop]) -> list[Sequence[Crop]]:
    return deal(crops, 8)


@pytest.mark.parametrize(("workers", "mask", "context_px"), [(0, False, 0), (2, False, 0), (0, True, 0), (0, True, 24)])
def test_resident_and_streamed_give_the_same_bits(
    tmp_path: Path, parts: list[PartArrays], workers: int, mask: bool, context_px: int
) -> None:
    files = [on_disk(p, tmp_path, (7, 13), mask=mask) for p in parts]
    loaded = [load_part(p) for p in files]
    if not mask:
        assert all(np.array_equal(a.stored, b.stored) for a, b in zip(loaded, parts, strict=True))
    surveys = [survey_part(p, 32, 0.5) for p in loaded]
    many = SMALL.model_copy(update={"flips": True, "context_px": context_px})
    side = 32 + 2 * context_px
    resident, streamed = ResidentCrops(loaded), StreamedCrops(files, workers)
    for epoch in range(2):  # the second finds the processes at work
        wanted = batches_of(draw_epoch(surveys, many, 0, epoch))
        pairs = list(zip(resident.batches(wanted), streamed.batches(wanted), strict=True))
        assert len(pairs) == 3
        for (stored, labels, _), (stored_too, labels_too, _) in pairs:
            assert stored.dtype == torch.int16 and stored.shape == (8, 3, side, side)
            assert labels.dtype == torch.uint8 and labels.shape == (8, side, side)
            assert torch.equal(stored, stored_too) and torch.equal(labels, labels_too)


def test_nothing_outside_of_a_mask_is_learnt_from(tmp_path: Path, parts: list[PartArrays]) -> None:
    part = on_disk(parts[0], tmp_path, (7, 13), mask=True)
    assert part_window(part) == (0, 0, 130, 150)
    loaded = load_part(part)
    assert (loaded.labels != IGNORE).sum() == (parts[0].labels != IGNORE).sum()
    assert np.array_equal(band_sums(loaded.stored), band_sums(parts[0].stored))


@pytest.mark.parametrize("workers", [0, 1])
def test_file_that_is_gone_is_named_as_it_is_in_one_process(
    tmp_path: Path, parts: list[PartArrays], workers: int
) -> None:
    part = on_disk(parts[0], tmp_path)
    streamed = StreamedCrops([part], workers)
    part.labels.unlink()
    with pytest.raises(FloemapError, match="does not exist") as e:
        list(streamed.batches([[Crop(0, 0, 0, 32)]]))
    assert e.value.path == part.labels
    assert "Traceback" not in str(e.value)


def test_processes_that_still_start_end_quietly_with_crops_that_only_the_collector_finds(
    tmp_path: Path, parts: list[PartArrays], capfd: pytest.CaptureFixture[str]
) -> None:
    """As after an error, whose traceback refers to the frame that holds the error."""
    streamed = StreamedCrops([on_disk(parts[0], tmp_path)], 1)
    batches = streamed.batches([[Crop(0, 0, 0, 32)]] * 3)
    next(batches)
    cycle: list[object] = [streamed, batches]
    cycle.append(cycle)
    found: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, found.append
    try:
        del streamed, batches, cycle
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert not found
    assert "Error" not in capfd.readouterr().err


def test_rasters_on_different_grids_are_refused(tmp_path: Path, parts: list[PartArrays]) -> None:
    a, b = (on_disk(p, tmp_path) for p in parts)
    with pytest.raises(GridError, match="different grids"):
        load_part(dataclasses.replace(a, labels=b.labels))


def test_physical_values_are_exact_and_no_data_is_nan() -> None:
    stored = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16)
    values = physical(stored.expand(3, 1, -1))[0, 0]
    assert values.dtype == torch.float32
    assert torch.equal(values.isnan(), stored == NODATA)
    assert np.allclose(values[1:], stored[1:].double() / 100, rtol=1e-6, atol=0)


# Normalisation and counts


def test_statistics_are_those_of_all_pixels_in_one_list(parts: list[PartArrays]) -> None:
    brighter = parts[1].stored.copy()
    brighter[:, brighter[0] != NODATA] += 900
    both = [parts[0].stored, brighter]
    mean, std = pooled_statistics(band_sums(s) for s in both)
    for band in range(3):
        pooled = np.concatenate([s[band][s[band] != NODATA] for s in both]) / 100
        assert mean[band] == pytest.approx(pooled.mean(), rel=1e-12)
        assert std[band] == pytest.approx(pooled.std(), rel=1e-12)
        by_scene = np.mean([s[band][s[band] != NODATA].std() / 100 for s in both])
        assert std[band] > 1.2 * by_scene  # what differs between scenes is in it


def test_statistics_do_not_overflow_and_do_not_depend_on_order() -> None:
    largest = np.full((3, 600, 500), 32767, np.int16)
    smallest = np.full((3, 300, 500), -32767, np.int16)
    sums = [band_sums(largest), band_sums(smallest)]
    assert tuple(sums[0][2]) == (32767**2 * 300_000,) * 3
    assert pooled_statistics(sums) == pooled_statistics(sums[::-1])
    assert pooled_statistics(sums)[0] == pytest.approx((327.67 / 3,) * 3)


@pytest.mark.parametrize(("value", "found"), [(NODATA, "no data"), (-1250, "the value -12.50 everywhere")])
def test_band_that_says_nothing_is_refused(parts: list[PartArrays], value: int, found: str) -> None:
    stored = parts[0].stored.copy()
    stored[1] = value
    with pytest.raises(TrainingError, match=f"band hv_db has {found}"):
        pooled_statistics([band_sums(stored)])


def test_classes_are_counted_over_parts(parts: list[PartArrays], surveys: list[Survey]) -> None:
    both: NDArray[np.uint8] = np.concatenate([p.labels.ravel() for p in parts])
    assert count_classes(surveys, SIX_CLASSES, "training") == [int((both == k).sum()) for k in range(6)]


def test_split_without_any_label_is_refused_by_name() -> None:
    part = some_part("06-NE", (40, 40), 0)
    part.labels[:] = IGNORE
    with pytest.raises(TrainingError, match=r"no pixel of the validation parts \(06-NE\) has a label"):
        count_classes([survey_part(part)], SIX_CLASSES, "validation")


def test_label_that_the_legend_lacks_is_refused() -> None:
    part = some_part("06", (40, 40), 0)
    part.labels[20, 20] = 6
    with pytest.raises(TrainingError, match=r"06 hold the values \[6\], which the legend six_classes lacks"):
        count_classes([survey_part(part)], SIX_CLASSES, "training")


def test_drawn_once_means_the_places_of_the_first_epoch(surveys: list[Survey]) -> None:
    once = SMALL.model_copy(update={"redraw": False, "flips": False})
    redrawn = draw_epoch(surveys, once.model_copy(update={"redraw": True}), 0, 0)
    assert set(draw_epoch(surveys, once, 0, 7)) == set(redrawn)
