"""A study's scenes are shared out before training, by name, and never so that two uses see the same ice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floemap.datasets.extremeearth.scenes import PARTS
from floemap.datasets.extremeearth.split_halves import Footprint
from floemap.errors import ConfigError
from floemap.study.cells import plan, with_changes
from floemap.study.data import find_scenes
from floemap.study.scene import StudyScene
from floemap.study.settings import DataSettings, SplitSettings, Study
from floemap.study.split import Share, published_roles, share_out

MONTHS = [f"{m:02d}" for m in range(1, 13)]
START = datetime(2018, 1, 16, 7, 54, 30, tzinfo=UTC)


def scene(name: str, start: datetime = START, lon: float = -8.0, lat: float = 77.0) -> StudyScene:
    """A scene of 6 by 3 degrees; nothing of it lies on disk."""
    corners = [(lon - 6, lat - 1.5), (lon + 6, lat - 1.5), (lon + 6, lat + 1.5), (lon - 6, lat + 1.5)]
    footprint = Footprint.from_corners(np.array(corners))
    return StudyScene(name, Path(name), Path(name), None, start, footprint, True, {})


def year() -> list[StudyScene]:
    return [scene(n, START + timedelta(days=30 * i)) for i, n in enumerate(MONTHS)]


def roles(shares: Sequence[Share]) -> dict[str, str]:
    return {s.name: s.role for s in shares}


def test_the_published_split() -> None:
    assert roles(share_out(SplitSettings(), year())) == {p.name: p.role for p in PARTS}


def test_a_published_split_of_some_months() -> None:
    kept = [s for s in year() if s.name in ("01", "02", "03")]
    assert roles(share_out(SplitSettings(), kept)) == {
        "01": "test",
        "02-SW": "train",
        "02-NE": "validation",
        "03": "train",
    }
    with pytest.raises(ConfigError, match="no scene for validation"):
        share_out(SplitSettings(), [s for s in year() if s.name in ("01", "03")])


@pytest.mark.parametrize("held_out", MONTHS)
def test_leaving_one_out_leaves_it_out(held_out: str) -> None:
    shares = share_out(SplitSettings(kind="leave_one_out", held_out=held_out), year())
    assert [s.name for s in shares if s.role == "test"] == [held_out]
    assert all(s.scene.name != held_out for s in shares if s.role != "test")
    # Everything else is used: each other scene whole, or both of its halves.
    learnt = [s for s in shares if s.role != "test"]
    assert {s.scene.name for s in learnt} == set(MONTHS) - {held_out}
    assert sum(0.5 if s.half else 1 for s in learnt) == 11
    with pytest.raises(ConfigError, match="holds out '13'"):
        share_out(SplitSettings(kind="leave_one_out", held_out="13"), year())


def lists(training: list[str], validation: list[str], test: list[str], **more: Any) -> SplitSettings:
    return SplitSettings(kind="lists", training=tuple(training), validation=tuple(validation), test=tuple(test), **more)


def test_lists() -> None:
    shares = share_out(lists(["03", "02-SW"], ["02-NE"], ["01"]), year())
    assert roles(shares) == {"03": "train", "02-SW": "train", "02-NE": "validation", "01": "test"}


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (lists(["03"], ["04"], ["03"]), "names 03 twice"),
        (lists(["03"], ["04"], ["13"]), "'13', which is neither a scene"),
        (lists(["03"], ["04-N"], ["05"]), "'04-N', which is neither a scene"),
        (lists(["03"], ["03-NE"], ["05"]), r"03 \(train\) and 03-NE \(validation\) share"),
    ],
)
def test_splits_that_cannot_be(split: SplitSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        share_out(split, year())


def test_one_product_is_tested_on_once() -> None:
    """Its predictions and scores lie in folders of its name."""
    one = scene("a")
    two = dataclasses.replace(one, name="b")
    three = scene("c", START + timedelta(days=9))
    settings = lists(["c-SW"], ["c-NE"], ["a", "b"])
    with pytest.raises(ConfigError, match="test scenes a and b are the same product"):
        share_out(settings, [one, two, three])
    assert share_out(lists(["a", "b"], ["c-NE"], ["c-SW"]), [one, two, three])


def test_two_scenes_of_the_same_ice() -> None:
    scenes = [scene("a"), scene("b", START + timedelta(hours=10)), scene("c", START + timedelta(days=40))]
    apart = lists(["a"], ["b"], ["c"])
    with pytest.raises(ConfigError, match="same ice"):
        share_out(apart, scenes)
    assert len(share_out(lists(["a"], ["b"], ["c"], same_ice_hours=5), scenes)) == 3
    elsewhere = [scenes[0], scene("b", START + timedelta(hours=10), lat=82.0), scenes[2]]
    assert len(share_out(apart, elsewhere)) == 3
    south = [scenes[0], scene("b", START, lat=-77.0), scenes[2]]
    assert len(share_out(apart, south)) == 3


def test_neighbours_that_touch_are_not_the_same_ice() -> None:
    scenes = [scene("a"), scene("b", lat=80.0), scene("c", START + timedelta(days=40))]
    assert len(share_out(lists(["a"], ["b"], ["c"]), scenes)) == 3


@given(st.sets(st.sampled_from(MONTHS)))
def test_published_roles_are_of_the_scenes_there_are(names: set[str]) -> None:
    assert {p[:2] for p in published_roles(sorted(names))} == names


def test_settings_that_contradict_each_other() -> None:
    for values in (
        {"kind": "lists", "training": ["01"]},
        {"kind": "published", "training": ["01"]},
        {"kind": "published", "validation": ["01"]},
    ):
        with pytest.raises(ConfigError):
            SplitSettings.checked(**values)
    twice = [{"name": "a", "product": "p", "chart": "c"}] * 2
    with pytest.raises(ConfigError, match="two scenes have the same name"):
        DataSettings.checked(scenes=twice)
    with pytest.raises(ConfigError, match="folder or scenes"):
        DataSettings.checked(folder="x", scenes=twice[:1])
    with pytest.raises(ConfigError, match="no scenes"):
        find_scenes(DataSettings())


def test_a_plan_has_every_cell_once_with_its_own_settings() -> None:
    study = Study.checked(
        compare={"losses": ["focal", "dice"], "repeats": 2, "axes": {"model.output_stride": [8, 16]}},
        training={"seed": 40},
    )
    cells = plan(study, MONTHS)
    assert len({c.name for c in cells}) == len(cells) == 8
    for c in cells:
        assert c.study.loss.name == c.loss
        assert c.study.training.seed == 40 + c.repeat
        assert c.study.model.output_stride == c.axes["model.output_stride"]
        json.dumps(c.about())
    assert [c.repeat for c in cells] == [0] * 4 + [1] * 4


def test_leaving_each_out_is_an_axis() -> None:
    study = Study.checked(split={"kind": "leave_one_out"}, compare={"losses": ["dice"], "repeats": 1})
    cells = plan(study, MONTHS)
    assert [c.study.split.held_out for c in cells] == MONTHS
    assert cells[2].name == "dice_held_out-03_r0"


@pytest.mark.parametrize(
    "axes",
    [
        {"data.legend": ["ice_water"]},
        {"loss.name": ["dice"]},
        {"training.seed": [1]},
        {"model.output_stride": []},
        {"model.output_stride": [8, 8]},
    ],
)
def test_axes_that_cannot_be(axes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Study.checked(compare={"axes": axes})


def test_changes_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"training\.bacth"):
        with_changes(Study(), {"training.bacth": 3})
    with pytest.raises(ConfigError, match=r"nothing\.of"):
        with_changes(Study(), {"nothing.of.this": 3})
    with pytest.raises(ConfigError, match="greater than or equal to 1"):
        with_changes(Study(), {"training.batch": 0})
    assert with_changes(Study(), {"training.batch": 3}).training.batch == 3
    assert Study().training.batch == 24


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "configs").glob("*.toml")), ids=lambda p: p.stem)
def test_a_shipped_study_is_understood(path: Path) -> None:
    if path.stem != "prepare":
        assert Study.from_toml(path).compare.losses
