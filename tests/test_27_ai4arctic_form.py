"""AI4Arctic's form, scenes and rule, against print-outs of real files, the official lists and hand calculations."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime

import pytest
from real_files import AI4ARCTIC_LISTS, COUNTS

from floemap.datasets.ai4arctic.codes import PolygonCodes, Rule, parse_polygon_codes, polygon_classes
from floemap.datasets.ai4arctic.form import CODES_HEADER, NO_CLASS, SCALING, ZONES_KM
from floemap.datasets.ai4arctic.scenes import Use, charted_twice, official, parse_name, sharing_orbits
from floemap.errors import ChartError

needs_lists = pytest.mark.skipif(not AI4ARCTIC_LISTS.is_dir(), reason="needs the print-outs of real files")


def test_zones_are_those_of_the_attribute() -> None:
    assert len(ZONES_KM) == 41
    assert (ZONES_KM[0], ZONES_KM[2], ZONES_KM[20], ZONES_KM[21]) == ((0, 0.5), (1, 2), (19, 20), (20, 25))
    assert (ZONES_KM[31], ZONES_KM[32], ZONES_KM[40]) == ((90, 100), (100, 125), (300, float("inf")))


@needs_lists
def test_scaling_is_the_published_one() -> None:
    published = json.loads((AI4ARCTIC_LISTS / "mean_std.json").read_text())
    assert {n: {"mean": s.mean, "std": s.std} for n, s in SCALING.items()} == published


@needs_lists
@pytest.mark.parametrize("use", ["train", "test"])
def test_lists_are_the_official_ones(use: Use) -> None:
    published = json.loads((AI4ARCTIC_LISTS / f"scenes_{use}.json").read_text())
    assert [s.raw for s in official()[use]] == published


def test_facts_of_the_lists() -> None:
    """Counted by hand from the starter's lists, in the notes on the dataset."""
    train, test = official()["train"], official()["test"]
    assert (len(train), len(test)) == (512, 20)
    assert Counter(s.mission for s in train) == {"S1A": 233, "S1B": 279}
    assert Counter(s.start.year for s in train) == {2018: 88, 2019: 128, 2020: 117, 2021: 179}
    months = Counter(s.start.month for s in train)
    assert [months[m] for m in range(1, 13)] == [35, 31, 31, 39, 41, 33, 41, 65, 71, 51, 37, 37]
    regions = Counter(s.region for s in (*train, *test))
    assert (regions["SGRDIEA"], regions["CapeFarewell"], regions["NorthAndCentralEast"]) == (48, 41, 3)
    assert Counter(s.service for s in (*train, *test)) == {"cis": 209, "dmi": 323}
    assert all(s.group in (1, 2, 3, 4) for s in (*train, *test))
    twice = charted_twice((*train, *test))
    assert [(a.region, b.region) for a, b in twice] == [("SGRDIEA", "Qaanaaq"), ("SGRDIHA", "Qaanaaq")]
    leaking = {s.name for s in sharing_orbits(test, train)}
    assert leaking == {"20201013T080448_dmi", "20200319T101935_cis"}
    assert len({s.name for s in (*train, *test)}) == 532


@pytest.mark.parametrize(
    ("name", "kind", "reference", "simulated"),
    [
        ("20180607T184326_dmi_prep.nc", "ready", False, False),
        ("20180124T194759_dmi_prep_reference.nc", "ready", True, False),
        ("SIMULATED_20180607T184326_dmi_prep.nc", "ready", False, True),
        (
            "S1A_EW_GRDM_1SDH_20180721T120156_20180721T120256_022892_027B98_56D9_icechart_cis_SGRDIMID_20180721T1203Z_pl_a.nc",
            "raw",
            False,
            False,
        ),
        (
            "S1A_EW_GRDM_1SDH_20180124T194759_20180124T194859_020301_022AA4_1F75_icechart_dmi_201801241950_SouthEast_RIC_testdata.nc",
            "raw",
            False,
            False,
        ),
    ],
)
def test_names_of_files(name: str, kind: str, reference: bool, simulated: bool) -> None:
    said = parse_name(name)
    assert (said.kind, said.reference, said.simulated) == (kind, reference, simulated)
    assert said.scene is not None
    assert said.scene.start == datetime.strptime(said.name.split("_")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def test_other_names_are_not_the_datasets() -> None:
    for name in ("20180607T184326_dmi.nc", "prep.nc", "x20180607T184326_dmi_prep.nc", "20180607T184326_nsidc_prep.nc"):
        assert parse_name(name) is None


def codes_of(*rows: str) -> PolygonCodes:
    return parse_polygon_codes([CODES_HEADER, *rows])


@pytest.mark.parametrize(
    ("row", "classes"),
    [
        ("46;91;90;95;06;10;93;06;-9;-9;-9;-9;-9;06-9;I", (10, 5, 5)),  # 9 of 10 old; both vast
        ("47;80;20;95;06;60;93;06;-9;-9;-9;-9;-9;06-9;I", (8, 4, 5)),  # 6 of 8
        ("75;30;20;95;06;10;93;06;-9;-9;-9;-9;-9;06-9;I", (3, 5, 5)),  # 2 of 3 is 0.667
        ("29;92;30;95;05;70;93;08;-9;-9;-9;-9;-9;08-9;I", (10, 4, NO_CLASS)),  # fast ice has no floe size
        ("26;91;-9;93;08;-9;-9;-9;-9;-9;-9;-9;-9;08-9;I", (10, 4, NO_CLASS)),  # CA is CT
        ("69;10;-9;95;-9;-9;-9;-9;-9;-9;-9;-9;-9;20-9;I", (1, 5, NO_CLASS)),
        ("76;02;-9;98;10;-9;-9;-9;-9;-9;-9;-9;-9;10-9;W", (0, 0, 0)),
        ("90;80;40;95;06;40;93;05;-9;-9;-9;-9;-9;06-9;I", (8, NO_CLASS, NO_CLASS)),  # a half each
        ("91;99;-9;93;05;-9;-9;-9;-9;-9;-9;-9;-9;05-9;I", (NO_CLASS, NO_CLASS, NO_CLASS)),  # unknown concentration
        ("92;90;-9;99;99;-9;-9;-9;-9;-9;-9;-9;-9;99-9;I", (9, NO_CLASS, NO_CLASS)),
        ("93;90;80;93;05;10;87;99;-9;-9;-9;-9;-9;05-9;I", (9, 4, 4)),  # an undetermined trace takes no floe size away
    ],
)
@pytest.mark.parametrize("rule", ["starter", "correct"])
def test_classes_by_hand(row: str, classes: tuple[int, int, int], rule: Rule) -> None:
    found = polygon_classes(codes_of(row), rule)
    assert (int(found.sic[0]), int(found.sod[0]), int(found.floe[0])) == classes


def test_the_flaw_of_addition() -> None:
    """40 + 40 + 20 percent of thick first-year ice: the flaw leaves 40 + 20 and 40 + 20, below 65 percent."""
    row = codes_of("1;92;40;93;05;40;91;05;20;86;05;-9;-9;05-9;I")
    assert polygon_classes(row, "starter").sod[0] == NO_CLASS
    assert polygon_classes(row, "correct").sod[0] == 4
    assert polygon_classes(row, "starter").floe[0] == NO_CLASS
    assert polygon_classes(row, "correct").floe[0] == 4


def by_definition(total: int, parts: list[int], kinds: list[int], rule: Rule) -> int:
    """The class of one polygon from tenths and class ids, written out for a single polygon."""
    if rule == "correct":
        sums = {k: sum(p for p, q in zip(parts, kinds, strict=True) if q == k) for k in kinds}
        best = max(kinds, key=lambda k: sums[k])
        return best if sums[best] / total >= 0.65 else NO_CLASS
    a, b, c = parts
    first = a + (c if kinds[0] == kinds[2] else b if kinds[0] == kinds[1] else 0)
    second = b + (c if kinds[1] == kinds[2] else 0)
    most = max(first, second, c)
    return kinds[[first, second, c].index(most)] if most / total >= 0.65 else NO_CLASS


@pytest.mark.parametrize("rule", ["starter", "correct"])
def test_drawn_polygons_agree_with_the_definition(rule: Rule) -> None:
    rng = random.Random(16)
    stages = {81: 1, 85: 2, 88: 3, 93: 4, 91: 4, 96: 5}
    rows, expected = [], []
    for i in range(1, 400):
        total = rng.randint(3, 9)
        a = rng.randint(1, total - 2)
        b = rng.randint(1, total - a - 1)
        parts = [a, b, total - a - b]
        drawn = [rng.choice(list(stages)) for _ in range(3)]
        fields = [f"{10 * p};{s};05" for p, s in zip(parts, drawn, strict=True)]
        rows.append(f"{i};{10 * total};{';'.join(fields)};-9;-9;05-9;I")
        expected.append(by_definition(total, parts, [stages[s] for s in drawn], rule))
    found = polygon_classes(codes_of(*rows), rule)
    assert found.sod.tolist() == expected
    assert NO_CLASS in expected


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "begins with nothing"),
        (["id;CT"], "begins with 'id;CT'"),
        ([CODES_HEADER, "1;91;-9"], "row 1 of polygon_codes has 3 fields"),
        ([CODES_HEADER, "1;9x;-9;93;08;-9;-9;-9;-9;-9;-9;-9;-9;08-9;I"], "has CT '9x'"),
        ([CODES_HEADER, "1;910;-9;93;08;-9;-9;-9;-9;-9;-9;-9;-9;08-9;I"], "has CT '910'"),
        ([CODES_HEADER, *(["1;91;-9;93;08;-9;-9;-9;-9;-9;-9;-9;-9;08-9;I"] * 2)], "two rows of polygon 1"),
    ],
)
def test_odd_tables_are_refused(rows: list[str], words: str) -> None:
    with pytest.raises(ChartError, match="polygon_codes") as error:
        parse_polygon_codes(rows)
    assert words in str(error.value)


@pytest.mark.skipif(not COUNTS.is_dir(), reason="needs the class counts of the real scenes")
def test_counts_of_real_scenes_have_no_class_outside_the_tables() -> None:
    from floemap.datasets.ai4arctic.codes import TITLES

    scenes = json.loads(next(COUNTS.glob("*.json")).read_text())["scenes"]
    for counts in scenes.values():
        for chart, titles in TITLES.items():
            assert {int(k) for k in counts[chart]} <= {*titles, NO_CLASS}
    names = {name.removesuffix("_bins.npy") for name in scenes}
    assert len(names - {s.name for s in official()["train"]}) == 1  # the scene that was withdrawn later
