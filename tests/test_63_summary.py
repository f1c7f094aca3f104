"""Summaries of many cells: the published mean, nothing averaged away, nothing simulated passed off as real."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from floemap.datasets.extremeearth.scenes import PARTS
from floemap.errors import ConfigError, FloemapError
from floemap.evaluation.scoring.confusion import Confusion, pooled
from floemap.evaluation.scoring.published import CITATION, PUBLISHED
from floemap.evaluation.scoring.scores import mean_and_range, scores
from floemap.evaluation.scoring.tables import markdown, tables
from floemap.evaluation.statistics.summary import loss_title, summarise
from floemap.legend import EXTREMEEARTH, SIX_CLASSES
from floemap.results.stage import SCHEMA_VERSION

KEYS = {c.id: c.key for c in SIX_CLASSES.classes}
TOTALS = {"01": (400, 0, 900, 3000, 5000, 8000), "07": (0, 0, 0, 2000, 1000, 9000)}


def matrix(scene: str, seed: int) -> Confusion:
    """Counts with the scene's pixels of each class in the rows, whatever the seed."""
    rng = np.random.default_rng(seed)
    rows = np.stack(
        [rng.multinomial(n, rng.dirichlet(np.ones(7) + 8 * np.eye(7)[i])) for i, n in enumerate(TOTALS[scene])]
    )
    return Confusion(rows[:, :6], rows[:, 6])


def evaluation(scene: str, seed: int, *, simulated: bool = False, **more: Any) -> dict[str, Any]:
    """As evaluation.json comes back from disk, as far as summaries read it."""
    named = {"primary": matrix(scene, seed).as_dict(), "either": matrix(scene, seed + 1000).as_dict()}
    record = {
        "schema_version": SCHEMA_VERSION,
        "simulated": simulated,
        "legend": {"name": "six_classes", "classes": KEYS},
        "scores": named,
        "absent": {"truth": "no truth was given"},
    }
    return json.loads(json.dumps(record | more))


def cell(loss: str, repeat: int, scene: str, **more: Any) -> dict[str, Any]:
    seed = sum(map(ord, loss)) + 100 * repeat + int(scene)
    simulated = more.pop("simulated", False)
    record = {
        "loss": loss,
        "repeat": repeat,
        "scene": scene,
        "evaluation": evaluation(scene, seed, simulated=simulated),
    }
    return record | more


def comparison(losses: tuple[str, ...] = ("focal", "dice", "cross_entropy"), **more: Any) -> list[dict[str, Any]]:
    return [cell(*c, **more) for c in itertools.product(losses, range(3), TOTALS)]


def f1_of(record: dict[str, Any], name: str = "primary") -> float:
    value = scores(Confusion.from_dict(record["evaluation"]["scores"][name])).weighted_f1
    assert value is not None
    return value


def group_of(summary: dict[str, Any], loss: str) -> dict[str, Any]:
    (found,) = (g for g in summary["groups"] if g["loss"] == loss)
    return dict(found)


def test_the_published_mean() -> None:
    records = comparison()
    summary = summarise(records)
    json.dumps(summary, allow_nan=False)
    for loss in ("focal", "dice", "cross_entropy"):
        values = np.array([f1_of(r) for r in records if r["loss"] == loss]).reshape(3, 2)  # repeat, scene
        found = group_of(summary, loss)["scores"]["primary"]
        f1 = found["weighted_f1"]
        assert f1["mean"] == pytest.approx(values.mean())
        assert (f1["min"], f1["max"], f1["n"]) == (values.min(), values.max(), 6)
        repeats = values.mean(axis=1)
        assert f1["repeats"]["mean"] == pytest.approx(values.mean())
        assert (f1["repeats"]["min"], f1["repeats"]["max"]) == pytest.approx((repeats.min(), repeats.max()))
        assert f1["repeats"]["n"] == 3
        for i, scene in enumerate(TOTALS):
            by_scene = found["by_scene"][scene]["weighted_f1"]
            assert by_scene["mean"] == pytest.approx(values[:, i].mean())
            assert (by_scene["min"], by_scene["max"], by_scene["n"]) == (values[:, i].min(), values[:, i].max(), 3)


def test_pooled_is_of_summed_counts_and_no_mean_of_scores() -> None:
    records = comparison(("focal",))
    found = group_of(summarise(records), "focal")["scores"]["primary"]
    total = pooled([Confusion.from_dict(r["evaluation"]["scores"]["primary"]) for r in records])
    assert Confusion.from_dict(found["pooled"]) == total
    assert found["pooled"]["scores"] == scores(total).as_dict(list(KEYS.values()))
    assert found["pooled"]["scores"]["weighted_f1"] != pytest.approx(found["weighted_f1"]["mean"], abs=1e-6)
    # Young ice is in one scene only, nilas is in none, though predicted.
    classes = found["pooled"]["scores"]["classes"]
    assert classes["young_ice"]["support"] < 3 * 900
    assert (classes["nilas"]["recall"], classes["nilas"]["f1"]) == (None, 0)


def test_the_order_of_cells_does_not_matter() -> None:
    records = [*comparison(), *comparison(("focal", "dice"), axes={"model.output_stride": 8})]
    records += [dict(r, axes={"model.output_stride": 16}) for r in comparison(("macro_dice",))]
    records.append({"loss": "focal", "repeat": 3, "scene": "01", "evaluation": None, "failed": "no memory"})
    expected = json.dumps(summarise(records))
    shuffled = random.Random(1)
    for _ in range(5):
        shuffled.shuffle(records)
        assert json.dumps(summarise(records)) == expected


def published_records(
    losses: tuple[str, ...] = ("cross_entropy", "dice", "macro_dice", "focal"),
) -> list[dict[str, Any]]:
    """Records as the published study would leave them."""
    parts = [
        {
            "name": p.name,
            "role": p.role,
            "half": p.half,
            "scene": {
                "name": f"{p.scene.month:02d}",
                "product": p.scene.product,
                "chart": p.scene.chart,
                "simulated": False,
            },
        }
        for p in PARTS
    ]
    split = {"settings": {"kind": "published", "cut": "sides"}, "parts": parts}
    records = comparison(losses)
    for record in records:
        record["evaluation"] |= {"legend": EXTREMEEARTH_LEGEND, "pixel_area_km2": 0.0064}
        record["split"] = split
    return json.loads(json.dumps(records))


EXTREMEEARTH_LEGEND = {"name": "extremeearth", "classes": {c.id: c.key for c in EXTREMEEARTH.classes}}


def test_published_numbers_stand_beside_the_losses_that_have_them() -> None:
    summary = summarise(published_records())
    assert [g["loss"] for g in summary["groups"]] == ["cross_entropy", "dice", "macro_dice", "focal"]
    assert group_of(summary, "dice")["published"] == PUBLISHED["generalized_dice"].as_dict()
    assert group_of(summary, "macro_dice")["published"] is None
    text = markdown(summary)
    assert "0.822 (0.810, 0.830)" in text
    assert CITATION in text
    assert "simulated" not in text.lower()


def put(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what puts a value into a record, at a place such as ``split/parts/0/role``."""

    def change(record: dict[str, Any]) -> None:
        *names, last = place.split("/")
        found: Any = record
        for name in names:
            found = found[int(name) if isinstance(found, list) else name]
        found[int(last) if isinstance(found, list) else last] = value

    return change


def without_a_part(record: dict[str, Any]) -> None:
    record["split"]["parts"].pop()


def other_product(record: dict[str, Any]) -> None:
    for part in record["split"]["parts"]:
        part["scene"]["product"] = part["scene"]["product"].replace("_2018", "_2019")


def other_test_months(record: dict[str, Any]) -> None:
    for part in record["split"]["parts"]:
        part["role"] = {"01": "train", "03": "test"}.get(part["name"], part["role"])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (put("evaluation/simulated", True), "simulated"),
        (put("split/parts/3/scene/simulated", True), "simulated"),
        (put("evaluation/legend/name", "six_classes"), "legend"),
        (put("evaluation/pixel_area_km2", 0.16), "80 m"),
        (put("evaluation/pixel_area_km2", None), "80 m"),
        (put("split", None), "not known"),
        (put("split/settings/cut", "corners"), "halved"),
        (put("split/parts/0/scene/chart", "another_analyst"), "not of the ExtremeEarth dataset"),
        (put("split/parts/0/scene/product", "S1A_EW_GRDM_1SDH_20200101T000000_20200101T000100_1_2_3"), "not of the"),
        (put("split/parts/1/half", "NE"), "otherwise"),
        (put("split/parts/0/role", "validation"), "otherwise"),
        (without_a_part, "otherwise"),
        (other_test_months, "otherwise"),
        (other_product, "not of the"),
    ],
)
def test_published_numbers_stand_beside_nothing_else(change: Callable[[dict[str, Any]], None], why: str) -> None:
    """Other scenes, charts, legend, pixels or split, in as few as one of the trainings."""
    for changed in (slice(None), slice(-1, None)):
        records = published_records(("cross_entropy", "focal"))
        for record in [r for r in records if r["loss"] == "focal"][changed]:
            change(record)
        summary = summarise(records)
        assert group_of(summary, "focal")["published"] is None
        assert why in summary["published"]["why_not"][0]
        text = markdown(summary)
        assert "0.822 (0.810" not in text
        assert "Published scores are not comparable with" in text
        # The other loss's trainings are as published.
        assert group_of(summary, "cross_entropy")["published"] == PUBLISHED["cross_entropy"].as_dict()
    records = published_records(("cross_entropy", "focal"))
    for record in records:
        change(record)
    text = markdown(summarise(records))
    assert "0.815 (0.805" not in text and CITATION not in text


@pytest.mark.parametrize("simulated", [True, False])
def test_published_numbers_stand_beside_no_loss_without_a_score(simulated: bool) -> None:
    """Nothing is known of a loss whose cells have all failed or not begun."""
    records = comparison(("cross_entropy",), simulated=simulated)
    records.append({"loss": "focal", "repeat": 0, "scene": "01", "evaluation": None, "failed": "not begun"})
    summary = summarise(records)
    assert group_of(summary, "focal")["published"] is None and not summary["published"]["comparable"]
    assert "0.822 (0.810" not in markdown(summary)


@pytest.mark.parametrize("which", [(True, True), (True, False)])
def test_simulated_is_said_everywhere(which: tuple[bool, bool]) -> None:
    simulated = dict(zip(TOTALS, which, strict=True))
    records = [cell(*c, simulated=simulated[c[2]]) for c in itertools.product(("focal",), range(2), TOTALS)]
    records.append({"loss": "focal", "repeat": 2, "scene": "01", "evaluation": None, "failed": "killed"})
    for r in records[:4]:
        r["evaluation"]["agreement"] = AGREEMENT
    summary = summarise(records)
    assert summary["simulated"] is True
    assert summary["simulated_scenes"] == [s for s, yes in simulated.items() if yes]
    text = markdown(summary)
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert len(titles) == 6
    assert all("SIMULATED" in t for t in titles)
    assert "not comparable" in text
    assert CITATION not in text and "0.822 (0.810" not in text
    assert all("SIMULATED" in t.title for t in tables(summary))


AGREEMENT = {
    "pixels": 100,
    "right_by_chart_and_truth": 60,
    "right_by_chart_wrong_by_truth": 10,
    "wrong_by_chart_right_by_truth": 15,
    "wrong_by_both_chart_true": 12,
    "wrong_by_both_chart_wrong": 3,
}


def test_whose_errors_they_are() -> None:
    records = comparison(("focal",))
    for i, r in enumerate(records, 1):
        r["evaluation"]["agreement"] = {k: i * v for k, v in AGREEMENT.items()}
    summary = summarise(records)
    assert group_of(summary, "focal")["agreement"] == {k: 21 * v for k, v in AGREEMENT.items()}
    (table,) = (t for t in tables(summary) if t.title.startswith("Origin"))
    assert table.rows == (("focal", "30.0 %", "50.0 %", "40.0 %", "10.0 %", "10.0 %"),)
    del records[0]["evaluation"]["agreement"]
    assert "agreement" not in group_of(summarise(records), "focal")


def test_one_repeat_of_one_scene() -> None:
    record = cell("focal", 0, "01")
    summary = summarise([record])
    f1 = group_of(summary, "focal")["scores"]["primary"]["weighted_f1"]
    assert f1["mean"] == f1["min"] == f1["max"] == f1_of(record)
    assert (f1["n"], f1["repeats"]["n"]) == (1, 1)
    losses = tables(summary)[0]
    assert losses.rows[0][losses.header.index("cells")] == "1 of 1"
    assert f"{f1_of(record):.3f} ({f1_of(record):.3f}, {f1_of(record):.3f})" in losses.rows[0]
    assert summary["missing"] == []


def test_a_missing_cell_is_named_and_its_repeat_not_averaged() -> None:
    records = comparison(("cross_entropy", "focal"))
    lost = next(r for r in records if (r["loss"], r["repeat"], r["scene"]) == ("focal", 1, "07"))
    records.remove(lost)
    why = "TrainingError: the loss is not a number | epoch 3\nat step 4"
    records.append({"loss": "focal", "repeat": 1, "scene": "07", "cell": "focal_r1", "evaluation": None, "failed": why})
    summary = summarise(records)
    assert summary["missing"] == [
        {"cell": "focal_r1", "loss": "focal", "axes": {}, "repeat": 1, "scene": "07", "why": why}
    ]
    found = group_of(summary, "focal")
    assert found["cells"] == {"expected": 6, "scored": 5, "averaged": 4}
    assert found["whole_repeats"] == [0, 2]
    whole = [r for r in records if r["loss"] == "focal" and r["repeat"] != 1]
    f1 = found["scores"]["primary"]["weighted_f1"]
    assert f1["mean"] == pytest.approx(np.mean([f1_of(r) for r in whole]))
    assert found["scores"]["primary"]["by_scene"]["01"]["weighted_f1"]["n"] == 3
    total = pooled([Confusion.from_dict(r["evaluation"]["scores"]["primary"]) for r in whole])
    assert Confusion.from_dict(found["scores"]["primary"]["pooled"]) == total
    # The other loss is whole.
    assert group_of(summary, "cross_entropy")["cells"]["averaged"] == 6
    rows = {row[0]: row for row in tables(summary)[0].rows}
    assert rows["focal"][1:3] == ("4 of 6*", f"{f1['mean']:.3f} ({f1['min']:.3f}, {f1['max']:.3f})*")
    assert "*" not in "".join(rows["cross_entropy"])
    text = markdown(summary)
    assert "| focal_r1 | 07 | TrainingError: the loss is not a number \\| epoch 3 at step 4 |" in text
    assert "5 of 6 cells are scored" in text


def test_cells_that_nobody_mentions_are_missing_too() -> None:
    records = [r for r in comparison(("dice", "focal")) if not (r["loss"] == "dice" and r["repeat"] == 2)]
    summary = summarise(records)
    assert [(m["loss"], m["repeat"], m["scene"]) for m in summary["missing"]] == [("dice", 2, "01"), ("dice", 2, "07")]
    assert all("was not run" in m["why"] for m in summary["missing"])
    # A training that failed before any scene misses all of them.
    records.append({"loss": "dice", "repeat": 2, "scene": None, "evaluation": None, "failed": "disk full"})
    again = summarise(records)
    assert [(m["scene"], m["why"]) for m in again["missing"]] == [("01", "disk full"), ("07", "disk full")]


def test_nothing_but_failures() -> None:
    records: list[dict[str, Any]] = [
        {"loss": loss, "repeat": 0, "scene": None, "evaluation": None, "failed": "no scene"}
        for loss in ("dice", "focal")
    ]
    summary = summarise(records)
    json.dumps(summary, allow_nan=False)
    assert [m["why"] for m in summary["missing"]] == ["no scene", "no scene"]
    assert [m["scene"] for m in summary["missing"]] == [None, None]
    assert tables(summary)[0].rows[0][1:3] == ("0 of 0", "–")
    for r in records:
        r["scene"] = "01"
    assert [m["scene"] for m in summarise(records)["missing"]] == ["01", "01"]
    assert tables(summarise(records))[0].rows[0][1:3] == ("0 of 1*", "–*")
    assert "| dice, repeat 0 | 01 | no scene |" in markdown(summarise(records))


def test_axes_part_the_cells_and_held_out_scenes_do_not() -> None:
    records = [
        cell(loss, repeat, scene, axes={"model.output_stride": stride, "split.held_out": scene})
        for loss, repeat, stride, scene in itertools.product(("dice", "focal"), range(2), (16, 8), TOTALS)
    ]
    summary = summarise(records)
    assert summary["axes"] == ["model.output_stride"]
    assert [(g["loss"], g["axes"]["model.output_stride"]) for g in summary["groups"]] == [
        ("dice", 8), ("dice", 16), ("focal", 8), ("focal", 16),
    ]  # fmt: skip
    assert all(g["cells"]["averaged"] == 4 for g in summary["groups"])
    losses = tables(summary)[0]
    assert losses.header[:2] == ("loss", "model.output_stride")
    assert losses.rows[1][:2] == ("dice", "16")
    assert summary["missing"] == []


def test_rows_by_score_put_the_best_first_and_the_unknown_last() -> None:
    records = comparison(("cross_entropy", "dice", "focal"))
    records.append({"loss": "macro_dice", "repeat": 0, "scene": None, "evaluation": None, "failed": "x"})
    for metric in ("weighted_f1", "kappa"):
        groups = summarise(records, order_by=metric)["groups"]
        means = [g["scores"]["primary"][metric]["mean"] for g in groups[:3]]
        assert means == sorted(means, reverse=True)
        assert groups[3]["loss"] == "macro_dice"
    with pytest.raises(ConfigError, match="ordered by 'beauty'"):
        summarise(records, order_by="beauty")


def test_scores_that_some_scenes_lack_are_left_out_and_named() -> None:
    records = comparison(("focal",))
    assert set(summarise(records)["groups"][0]["scores"]) == {"primary", "either"}
    del records[0]["evaluation"]["scores"]["either"]
    summary = summarise(records)
    assert set(summary["groups"][0]["scores"]) == {"primary"}
    assert summary["scores_left_out"] == {"either": "some scenes lack it", "truth": "no truth was given"}
    assert "Missing: either (some scenes lack it)." in markdown(summary)


def test_a_score_that_is_undefined_in_a_scene_has_no_mean() -> None:
    records = comparison(("focal",))
    for r in records:
        if r["scene"] == "07":
            r["evaluation"]["scores"]["either"] = Confusion.zero(6).as_dict()
    found = summarise(records)["groups"][0]["scores"]["either"]
    assert found["weighted_f1"] is None
    assert found["by_scene"]["07"]["weighted_f1"] is None
    assert found["by_scene"]["01"]["weighted_f1"]["n"] == 3
    assert mean_and_range([None, None]) is None
    assert mean_and_range([0.5, None]) == {"mean": 0.5, "min": 0.5, "max": 0.5, "n": 1}


def test_tables_are_whole() -> None:
    records = comparison(axes={"model.name": "unet"}, simulated=True)
    summary = json.loads(json.dumps(summarise(records)))  # as it comes back from results.json
    made = tables(summarise(records))
    for table in made:
        assert all(len(row) == len(table.header) for row in table.rows)
        assert all(isinstance(text, str) and text for row in table.rows for text in row)
    classes = made[1]
    assert [row[2] for row in classes.rows[:6]] == [c.title for c in SIX_CLASSES.classes]
    assert len(classes.rows) == 18
    assert [[t.header, t.rows] for t in tables(summary)] == [[t.header, t.rows] for t in made]
    assert markdown(summary) == markdown(summarise(records))
    lines = [line.replace("\\|", "") for line in markdown(summary).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {len(t.header) + 1 for t in made}


def test_a_legend_of_others_is_shown_by_its_keys() -> None:
    record = cell("focal", 0, "01")
    record["evaluation"]["legend"]["classes"]["0"] = "frazil"
    assert tables(summarise([record]))[1].rows[0][1] == "frazil"


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="no evaluation to summarise"):
        summarise([])
    with pytest.raises(ConfigError, match="lacks loss, repeat, scene or evaluation"):
        summarise([{"loss": "dice"}])
    records = comparison()
    with pytest.raises(ConfigError, match="scene 01 of focal, repeat 0 occurs twice"):
        summarise([*records, records[0]])
    other = cell("dice", 9, "01")
    other["evaluation"]["legend"]["classes"]["0"] = "frazil"
    with pytest.raises(ConfigError, match="different classes"):
        summarise([*records, other])
    for more in (1, -1):
        other = cell("dice", 9, "01")
        other["evaluation"]["scores"]["primary"]["counts"][5][5] += more
        with pytest.raises(ConfigError, match=r"scene 01 of .* other labels"):
            summarise([*records, other])
    other = cell("dice", 9, "01")
    other["evaluation"]["schema_version"] = SCHEMA_VERSION + 1
    with pytest.raises(FloemapError, match="newer floemap"):
        summarise([*records, other])
    other = cell("dice", 9, "01")
    del other["evaluation"]["scores"]["primary"]
    with pytest.raises(FloemapError, match="no counts of the score primary"):
        summarise([*records, other])
    with pytest.raises(ConfigError, match="an evaluation of no scene"):
        summarise([cell("dice", 9, "01") | {"scene": None}])


def _by_polygon(error: float, right: float | None) -> dict[str, Any]:
    shares = {key: {"mean_absolute_error": error, "bias": -error, "r2": None} for key in KEYS.values()}
    truth = None if right is None else {"pixels": 10, "right": 10 * right, "accuracy": right}
    dominant = {percent: {"polygons": 4, "right": 2, "right_by_area": 0.5} for percent in ("50", "65")}
    return {"error_of_shares": error, "shares": shares, "dominant": dominant, "truth_in_mixed": truth}


def test_scores_by_polygon_are_averaged_over_whole_repeats_and_absent_where_an_evaluation_has_none() -> None:
    records = comparison(("focal", "dice"))
    for r in records:
        if r["loss"] == "focal":
            r["evaluation"]["polygons"] = _by_polygon(0.1 + 0.1 * r["repeat"], 0.5 if r["scene"] == "01" else None)
    summary = summarise(records)
    found = group_of(summary, "focal")["polygons"]
    assert found["error_of_shares"] == pytest.approx({"mean": 0.2, "min": 0.1, "max": 0.3, "n": 6})
    assert found["shares"]["old_ice"]["bias"]["mean"] == pytest.approx(-0.2)
    assert found["shares"]["old_ice"]["r2"] is None
    assert found["truth_in_mixed"] == {"mean": 0.5, "min": 0.5, "max": 0.5, "n": 3}, "scene 07 has no truth"
    assert "polygons" not in group_of(summary, "dice")
    words = markdown(summary)
    assert "| focal | 0.200 (0.100, 0.300) | 0.500 (0.500, 0.500) |" in words
    assert "## Polygons" in words and "## Shares by class" in words
    assert "## Polygons" not in markdown(summarise(comparison(("dice",))))


@pytest.mark.parametrize(
    ("variant", "title"),
    [
        ({"loss.name": "cross_entropy", "loss.class_weights": "inverse"}, "Cross-entropy, classes weighted: inverse"),
        ({"loss.class_weights": "effective_number"}, "Focal, classes weighted: effective number"),
        ({"loss.options.gamma": 5}, "Focal, gamma 5"),
        ({"loss.name": "dice", "crops.flips": True, "crops.redraw": False}, "Dice, flips, no redraw"),
        ({"loss.name": "dice", "title": "Dice <at last>"}, "Dice <at last>"),
    ],
)
def test_a_variant_has_a_title_of_its_own_or_of_what_it_changes(variant: dict[str, Any], title: str) -> None:
    configuration = {"loss": {"name": "focal"}, "compare": {"variants": {"mine": variant}}}
    assert loss_title("mine", configuration) == title
    assert (loss_title("focal", configuration), loss_title("my_losses:Mine", {})) == ("Focal", "my losses:Mine")
