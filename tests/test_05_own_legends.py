"""A legend of the user's: from a file or a table, checked, and whole in every record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from floemap.errors import ConfigError, FloemapError, ModelError
from floemap.evaluation.checks.classes import ice_groups
from floemap.evaluation.scoring.sources import ClassTable, truth_ids
from floemap.icechart.label.polygon_table import FIELDS_AFTER, FIELDS_BEFORE
from floemap.icechart.label.settings import LabelSettings
from floemap.icechart.polaris import IceType, class_ice_types
from floemap.icechart.write.qgis_style import qgis_style
from floemap.legend import AI4ARCTIC, EXTREMEEARTH, ICE_WATER, IGNORE, LEGENDS, SIX_CLASSES, Legend
from floemap.own_legends import (
    TAKEN_KEYS,
    LegendTable,
    chosen_legend,
    from_record,
    from_tags,
    identity,
    in_record,
    read_legend,
    same_classes,
    tags_of,
)
from floemap.qgis_raster import classes_style
from floemap.study.settings import DataSettings, Study

FOUR = """\
name = "four_kinds"
title = "Four kinds"
water = "water"
ignored_stages = [98, 99]

[[classes]]
key = "thin"
title = "Thin ice"
colour = "#aa28f0"
stages = [83, 81, 82, 84, 85]

[[classes]]
key = "first_year"
title = "First-year ice"
colour = "#ffff00"
stages = [86, 87, 88, 89, 91, 93]

[[classes]]
key = "old"
title = "Old ice"
colour = "#b46432"
stages = [95, 96, 97]

[[classes]]
key = "water"
title = "Water"
colour = "#96c8ff"
"""


def written(folder: Path, text: str = FOUR) -> Path:
    path = folder / "my_legend.toml"
    path.write_text(text)
    return path


def test_a_file_becomes_the_legend_that_it_describes(tmp_path: Path) -> None:
    legend = read_legend(written(tmp_path)).legend()
    assert next((c.id, c.key, c.rgb) for c in legend.classes) == (0, "thin", (170, 40, 240))
    assert (legend.water, legend.stageless, legend.titles[2]) == (3, IGNORE, "Old ice")
    assert [c.written_as for c in legend.classes[:3]] == [83, 86, 95], "the first of the stages"
    assert legend.code_to_class[84] == 0 and legend.code_to_class[98] == IGNORE
    assert legend.code_to_class[25] == 0, "25 cm are grey-white ice"
    assert legend.by_thickness == (3, 0, 1, 2)


def test_a_file_and_a_table_are_the_same_setting_and_no_file_is_needed_later(tmp_path: Path) -> None:
    path = written(tmp_path)
    by_file = DataSettings.checked(legend=str(path))
    path.unlink()
    again = DataSettings.checked(**json.loads(json.dumps(by_file.model_dump(mode="json"))))
    assert again == by_file
    assert again.label_settings().legend == by_file.legend
    inline = "\n".join(["[data.legend]", FOUR.replace("[[classes]]", "[[data.legend.classes]]")])
    (tmp_path / "study.toml").write_text(inline)
    assert Study.from_toml(tmp_path / "study.toml").data == by_file
    assert chosen_legend(LabelSettings().legend) is SIX_CLASSES
    assert LabelSettings.checked(legend="ice_water").model_dump()["legend"] == "ice_water"


WRONG: dict[str, tuple[Callable[[str], str], str]] = {
    "a key twice": (lambda t: t.replace('"old"', '"thin"'), "the key 'thin' occurs twice"),
    "a title twice": (lambda t: t.replace('"Old ice"', '"thin ICE"'), "the title 'thin ice' occurs twice"),
    "a colour twice": (lambda t: t.replace("#b46432", "#AA28F0"), "the colour '#aa28f0' occurs twice"),
    "a code in two classes": (lambda t: t.replace("[95,", "[86,"), r"stage 86 \(first-year ice\) is in first_year and"),
    "a code ignored": (lambda t: t.replace("[98,", "[86,"), "is in ignored_stages and in first_year"),
    "a code twice": (lambda t: t.replace("[95,", "[96,"), "the code 96 occurs twice"),
    "no code of SIGRID-3": (lambda t: t.replace("[95,", "[92,"), "92 is not a stage of development of SIGRID-3"),
    "a colour by name": (lambda t: t.replace("#b46432", "brown"), "classes.2.colour is 'brown': write it as"),
    "a key for no file": (lambda t: t.replace('"old"', '"../old"'), r"classes.2.key is '../old'"),
    "a long key": (lambda t: t.replace('"old"', f'"{"o" * 31}"'), "classes.2.key is 'ooo"),
    "a key that files use": (lambda t: t.replace('"old"', '"unknown"'), "cannot have the keys unknown"),
    "a name that is taken": (lambda t: t.replace("four_kinds", "six_classes"), "name is 'six_classes'.*choose another"),
    "water of no class": (lambda t: t.replace('water = "water"', 'water = "sea"'), "water is 'sea', which is not"),
    "ice without stages": (lambda t: t.replace("stages = [95, 96, 97]", ""), "class old has no stages"),
    "a stageless class of water": (lambda t: 'stageless = "water"\n' + t, "stageless is the class of water"),
    "one class": (lambda t: t.split("[[classes]]")[0] + "[[classes]]" + t.split("[[classes]]")[4], "at least 2"),
    "a title of two lines": (lambda t: t.replace('"Old ice"', '"Old\\nice"'), "title is 'Old.*on one line"),
    "a title that turns text": (lambda t: t.replace('"Old ice"', '"\\u202eecI"'), "without control characters"),
    "no title": (lambda t: t.replace('"Old ice"', '""'), "classes.2.title is ''"),
    "an unknown key": (lambda t: t.replace("colour", "color"), "the key 'classes.0.color' is unknown"),
    "no legend": (lambda t: "losses = 3", "the key 'name' is missing"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_legend_is_refused_by_file_key_and_value(what: str, tmp_path: Path) -> None:
    change, words = WRONG[what]
    path = written(tmp_path, change(FOUR))
    with pytest.raises(ConfigError, match=words) as e:
        LabelSettings.checked(legend=str(path))
    assert e.value.path == path
    study = tmp_path / "study.toml"
    study.write_text("[data.legend]\n" + change(FOUR).replace("[[classes]]", "[[data.legend.classes]]"))
    with pytest.raises(ConfigError, match=words) as e:
        Study.from_toml(study)
    assert e.value.path == study and "legend: " in e.value.message


def test_a_file_that_is_absent_and_a_name_that_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"my_legend\.toml: does not exist.*current folder"):
        LabelSettings.checked(legend=str(tmp_path / "my_legend.toml"))
    with pytest.raises(ConfigError, match="no legend is called 'four'"):
        chosen_legend(LabelSettings.checked(legend="four").legend)
    with pytest.raises(ConfigError, match="legend is 5: give the name"):
        LabelSettings.checked(legend=5)


def test_no_class_takes_the_name_of_a_column_beside_it() -> None:
    columns = {name.lower() for name in (*FIELDS_BEFORE, *FIELDS_AFTER) if name == name.lower()}
    assert columns <= TAKEN_KEYS


def test_records_and_tags_hold_an_own_legend_whole_and_a_known_one_by_name(tmp_path: Path) -> None:
    own = read_legend(written(tmp_path)).legend()
    said = json.loads(json.dumps(in_record(own)))
    assert from_record(said, tmp_path) == own == from_tags(tags_of(own), tmp_path)
    assert said["classes"] == {"0": "thin", "1": "first_year", "2": "old", "3": "water"}
    for known in LEGENDS.values():
        assert "table" not in in_record(known) and identity(known) == known.name
        assert from_record(json.loads(json.dumps(in_record(known))), tmp_path) is known
    for damage in ({"name": "x"}, [1], "text", {**said["table"], "water": "sea"}):
        with pytest.raises(ModelError, match="holds a damaged legend"):
            from_record(said | {"table": damage}, tmp_path, ModelError)
    with pytest.raises(FloemapError, match="damaged legend in its tag"):
        from_tags({"legend": "x", "legend_table": "{"}, tmp_path)


def test_legends_are_compared_by_content(tmp_path: Path) -> None:
    own = read_legend(written(tmp_path)).legend()
    renamed = read_legend(written(tmp_path, FOUR.replace("four_kinds", "vier").replace("Old ice", "Alteis"))).legend()
    other = read_legend(written(tmp_path, FOUR.replace("[95, 96, 97]", "[95, 96]"))).legend()
    assert same_classes(own, renamed) and not same_classes(own, other)
    assert not same_classes(SIX_CLASSES, EXTREMEEARTH)


def _six(**changes: Any) -> Legend:
    """Return the six classes as a legend of the user's, with other keys."""
    classes = [
        {"key": f"my_{c.key}", "title": c.title, "colour": f"#{bytes((*c.rgb[:2], c.id)).hex()}", "stages": c.stages}
        for c in SIX_CLASSES.classes
    ]
    table = {"name": "mine", "water": "my_open_water", "classes": classes} | changes
    return LegendTable.checked(**table).legend()


def test_roles_follow_from_stages_not_from_keys() -> None:
    mine = _six()
    assert ice_groups(mine) == ice_groups(SIX_CLASSES)
    assert (ice_groups(mine).forming, ice_groups(mine).first_year, ice_groups(mine).old) == ((0, 1, 2), (3,), 4)
    assert ice_groups(AI4ARCTIC).first_year == (3, 4)
    assert class_ice_types(mine) == class_ice_types(SIX_CLASSES)
    assert class_ice_types(mine)[4] == IceType.HEAVY_MULTI_YEAR
    assert ice_groups(ICE_WATER).old is None and ice_groups(ICE_WATER).forming == ()


def test_the_truth_is_known_where_it_decides_the_classes(tmp_path: Path) -> None:
    own = read_legend(written(tmp_path)).legend()
    ids = truth_ids(ClassTable.of(own))
    assert ids is not None
    assert ids[[0, 1, 2, 3, 4, 5, 255]].tolist() == [0, 0, 0, 1, 2, 3, 255]
    assert ids[6] not in range(4), "a value that the truth cannot have must not become a class"
    assert truth_ids(ClassTable.of(AI4ARCTIC)) is None, "first-year ice is of two classes there"
    two = truth_ids(ClassTable.of(ICE_WATER))
    assert two is not None and two[:6].tolist() == [1, 1, 1, 1, 1, 0]


HOSTILE = """<script>alert(1)</script> & "$\\\\frac$" [red]x[/] | 'y'"""


def test_hostile_titles_are_text_in_styles(tmp_path: Path) -> None:
    own = read_legend(written(tmp_path, FOUR.replace('"Old ice"', f"'''{HOSTILE[:40]}'''"))).legend()
    title = own.titles[2]
    assert "<script>" in title
    palette = etree.fromstring(classes_style(own).encode())
    assert title in [e.get("label") for e in palette.iter("paletteEntry")]
    rules = etree.fromstring(qgis_style(own).encode())
    assert title in [e.get("label") for e in rules.iter("rule")]
    assert not list(palette.iter("script")) and not list(rules.iter("script"))


def test_letters_on_maps_are_different(tmp_path: Path) -> None:
    own = read_legend(written(tmp_path, FOUR.replace('"First-year ice"', '"Thick ice"'))).legend()
    assert sorted(own.letters.values()) == ["0", "1", "Ol", "Wa"]
    assert list(SIX_CLASSES.letters.values()) == ["N", "Ni", "Y", "FY", "O", "W"]
    assert re.fullmatch(r"(.{1,3}\n)+", "".join(f"{w}\n" for x in LEGENDS.values() for w in x.letters.values()))
