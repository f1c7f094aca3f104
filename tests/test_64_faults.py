"""The argument for the checks: each fault makes exactly the right one react, while weighted F1 hardly moves."""

from __future__ import annotations

import numpy as np
import pytest
from check_maps import FIRST, LEGEND, OLD, WATER, YOUNG, blobs, incidence_deg
from checks_lab import faults
from checks_lab.grounds import Ground, TwinGround
from checks_lab.reactions import FAULTS, NO_FAULT, SIGNS, Fault, react, reaction_table

from floemap.errors import ConfigError
from floemap.evaluation.checks.scene_checks import CHECKS
from floemap.legend import ICE_WATER, IGNORE


@pytest.fixture(scope="module")
def grounds(twin_grounds: tuple[TwinGround, TwinGround]) -> tuple[Ground, Ground]:
    """January's south-eastern part, where old ice is rare, and July: charts of the twin."""
    winter, summer = (t.ground for t in twin_grounds)
    return winter.window(*(slice(int(0.4 * n), None) for n in winter.reference.shape)), summer


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.check)
def test_each_fault_makes_the_right_check_react_and_no_other(fault: Fault, grounds: tuple[Ground, Ground]) -> None:
    """Weighted F1 hardly moves; the check that is there for the fault goes beyond its limit, all others stay within."""
    winter, summer = grounds
    ground = summer if fault.check == "season" else winter
    found = react(ground, fault)
    assert found.reacting == {fault.check}
    assert found.weighted_f1 > 0.94
    if fault.check != "confidence":  # which changes no class
        assert found.weighted_f1 < 1
    limits = {s.check: s.limit for s in SIGNS}
    assert found.numbers[fault.check] > 1.15 * limits[fault.check], "well beyond"


def test_without_a_fault_no_check_reacts(grounds: tuple[Ground, Ground]) -> None:
    for ground in grounds:
        found = react(ground, NO_FAULT)
        assert found.reacting == set() and found.weighted_f1 == 1
    assert {f.check for f in FAULTS} == {s.check for s in SIGNS} == set(CHECKS) - {"polygons"}, "which are no map's"


def test_the_table_marks_what_reacts(grounds: tuple[Ground, Ground]) -> None:
    rows = [react(grounds[0], f) for f in (NO_FAULT, FAULTS[1])]
    lines = reaction_table(rows).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert [line.count("**") for line in lines] == [0, 0, 0, 0, 2]
    assert "| **1.000** |" in lines[-1] and lines[-1].startswith("| all old ice called first-year |")


def test_faults_change_what_they_say_and_nothing_else() -> None:
    classes = blobs(3, shape=(200, 240), none=0.1)
    water = classes == WATER
    lost = faults.lose_old_ice(classes, LEGEND)
    assert not (lost == OLD).any() and (lost[classes != OLD] == classes[classes != OLD]).all()
    painted = faults.paint_new_ice(classes, LEGEND, 500.0, seed=1)
    assert (classes[painted != classes] == FIRST).all() and (painted != classes).any()
    peppered = faults.salt_and_pepper(classes, LEGEND, share=0.1)
    changed = peppered != classes
    ice = (classes != IGNORE) & ~water
    assert not changed[~ice].any() and not (peppered[ice] == WATER).any()
    assert changed[ice].mean() == pytest.approx(0.1, abs=0.01)
    sown = faults.sow_old_ice(classes, LEGEND, 500.0, border_km=60)
    assert (classes[sown != classes] == WATER).all() and (sown[sown != classes] == OLD).all()
    assert (sown != classes).sum() == 30
    strips = np.indices(classes.shape)[1] % 50 < 5
    seamed = faults.copy_seams(classes, LEGEND, strips)
    assert ((seamed != classes) == (strips & (classes == FIRST))).all()
    far = faults.call_young_far_off(classes, LEGEND, incidence_deg(classes.shape), share=0.25)
    assert (far != classes)[classes == FIRST].mean() == pytest.approx(0.25, abs=0.02)
    assert (far[far != classes] == YOUNG).all()
    for faulty in (lost, painted, peppered, sown, seamed, far):
        assert ((faulty == IGNORE) == (classes == IGNORE)).all()


def test_an_edge_is_moved_by_what_was_asked_for() -> None:
    classes = np.full((200, 300), WATER, np.uint8)
    classes[:, :100] = FIRST
    classes[:, :3] = IGNORE
    moved = faults.move_edge(classes, LEGEND, 500.0, km=5.0)
    expected = classes.copy()
    expected[:, 100:110] = FIRST
    assert (moved == expected).all()


def test_faults_that_find_nothing_to_spoil() -> None:
    water = np.full((20, 20), WATER, np.uint8)
    for fault in (
        lambda: faults.paint_new_ice(water, LEGEND, 500.0),
        lambda: faults.move_edge(water, LEGEND, 500.0),
        lambda: faults.call_young_far_off(water, LEGEND, incidence_deg((20, 20))),
        lambda: faults.lose_old_ice(water, ICE_WATER),
        lambda: faults.sow_old_ice(water, LEGEND, 500.0),
    ):
        with pytest.raises(ConfigError):
            fault()
