"""The form by which QGIS edits a chart: value lists in words, constraints, defaults of new polygons, and what follows.

A new polygon is ice of unknown concentration, and the form asks for its type. On every change QGIS derives
CLASS and the areas anew, and ESTIMATED becomes no: an analyst has seen the polygon.
"""

from __future__ import annotations

from collections.abc import Mapping

from lxml import etree

from floemap.icechart.read.codes import FORMS, NOT_GIVEN, POLYGON_TYPES, TENTHS
from floemap.icechart.write.qgis_expressions import class_expression, constraints
from floemap.icechart.write.table import FIELDS
from floemap.legend import BRASH, RESIDUAL, STAGES, STAGES_BY_THICKNESS, Legend, stage_in_words

#: Fields that only the model or QGIS fills in.
_READ_ONLY = (
    *("AREA", "PERIMETER", "AREA_KM2", "CLASS", "CONFIDENCE", "SECOND", "SECOND_P", "REVIEW", "OOD", "CONC"),
    *("CONF_A", "CONF_B", "CONF_C", "STATUS", "SIMULATED"),
)
_ALIASES = {
    "POLY_TYPE": "Type of polygon",
    "CT": "Total concentration, CT",
    **{f"C{x}": f"Partial concentration, C{x}" for x in "ABC"},
    **{f"S{x}": f"Stage of development, S{x}" for x in "ABC"},
    **{f"F{x}": f"Form, F{x}" for x in "ABC"},
    "CN": "Trace of thicker ice, CN",
    "CD": "Further, thinner type, CD",
    "CF": "Predominant and secondary form, CF",
    "CLASS": "Class of the dominant type",
    "CONFIDENCE": "Confidence of its pixels, 0 to 1",
    "AREA_KM2": "Area, km²",
    "SECOND": "Most likely class besides it",
    "SECOND_P": "Its probability",
    "REVIEW": "Order of review",
    "OOD": "Out-of-distribution score",
    "ESTIMATED": "Estimated, nobody has checked it",
    "CONC": "Total concentration as estimated, 0 to 1",
    **{f"CONF_{x}": f"Confidence of type {x}" for x in "ABC"},
}
#: Tabs of the form, and in them the titles of boxes with their fields, in columns.
_TABS: Mapping[str, Mapping[str, tuple[int, tuple[str, ...]]]] = {
    "Egg": {
        "Polygon": (2, ("POLY_TYPE", "CT")),
        "Types, the thickest first": (3, ("CA", "SA", "FA", "CB", "SB", "FB", "CC", "SC", "FC")),
        "Further types": (3, ("CN", "CD", "CF")),
    },
    "Model": {
        "Estimates": (2, ("CLASS", "CONFIDENCE", "SECOND", "SECOND_P", "CONC", "CONF_A", "CONF_B", "CONF_C")),
        "Review": (3, ("REVIEW", "OOD", "ESTIMATED")),
    },
    "Chart": {"About": (2, ("AREA_KM2", "AREA", "PERIMETER", "STATUS", "SIMULATED"))},
}
_NONE = f"{NOT_GIVEN:d}"
#: Defaults of new polygons, expressions; the status and whether it is simulated are those of the other polygons.
_NEW = {
    "POLY_TYPE": "'I'",
    "CT": "'99'",
    "FA": "'99'",
    **dict.fromkeys(("CA", "SA", "CB", "SB", "FB", "CC", "SC", "FC", "CN", "CD"), f"'{_NONE}'"),
    "CF": f"'99{_NONE}'",
    "STATUS": 'maximum("STATUS")',
    "SIMULATED": 'maximum("SIMULATED")',
}


def add_form(root: etree._Element, legend: Legend) -> None:
    """Add the form to a style: widgets, names, defaults, constraints, layout."""
    widgets = etree.SubElement(root, "fieldConfiguration")
    lists = _value_lists()
    for field in FIELDS:
        widget = etree.SubElement(etree.SubElement(widgets, "field", name=field), "editWidget")
        widget.set("type", "ValueMap" if field in lists else "TextEdit")
        if field in lists:
            options = etree.SubElement(etree.SubElement(widget, "config"), "Option", type="Map")
            entries = etree.SubElement(options, "Option", type="List", name="map")
            for words, value in lists[field].items():
                entry = etree.SubElement(entries, "Option", type="Map")
                etree.SubElement(entry, "Option", type="QString", name=words, value=value)
    aliases = etree.SubElement(root, "aliases")
    for number, field in enumerate(FIELDS, 1):
        etree.SubElement(aliases, "alias", field=field, name=_ALIASES.get(field, ""), index=str(number))
    defaults = etree.SubElement(root, "defaults")
    for field, expression in _NEW.items():
        etree.SubElement(defaults, "default", field=field, expression=expression, applyOnUpdate="0")
    for field, expression in _derived(legend).items():
        etree.SubElement(defaults, "default", field=field, expression=expression, applyOnUpdate="1")
    _add_constraints(root)
    _add_layout(root)


def _derived(legend: Legend) -> dict[str, str]:
    """Return the expressions of fields that follow from the rest whenever a polygon changes."""
    # An equal-area projection of WGS84 around the nearer pole (EASE-Grid 2.0): the area on the ellipsoid, in any CRS of
    # the layer, without the project's settings. QGIS names no CRS that is in no registry: there the area stays.
    equal_area = "if(y(transform(centroid($geometry), @layer_crs, 'EPSG:4326')) < 0, 'EPSG:6932', 'EPSG:6931')"
    area = f"round(area(transform($geometry, @layer_crs, {equal_area})) / 1000000, 4)"
    return {
        "CLASS": class_expression(legend),
        "AREA": "round(area($geometry))",
        "PERIMETER": "round(perimeter($geometry))",
        "AREA_KM2": f"if(coalesce(@layer_crs, '') = '', \"AREA_KM2\", {area})",
        "ESTIMATED": "'no'",
    }


def _value_lists() -> dict[str, dict[str, str]]:
    """Return for each field with a list of values their words and codes."""
    whole = {f"{n} tenths" if n > 1 else "1 tenth": f"{n}0" for n in range(1, 10)}
    ranges = {
        f"{low:.0f} to {high:.0f} tenths": f"{code:02d}"
        for code, (low, high) in sorted(TENTHS.items())
        if low < high and low >= 1 and code != 91
    }
    total = {"ice free": "00", "open water, less than 1 tenth": "01", "bergy water": "02"}
    ice = whole | {"9+, more than 9 tenths": "91", "10 tenths": "92"}
    unknown, none = {"unknown": "99"}, {"none": _NONE}
    stages = {
        stage_in_words(code): f"{code:02d}"
        for code in sorted((*STAGES, RESIDUAL, BRASH), key=_thinnest_first)
        if code not in (80, 99)
    }
    parts = none | whole | {"10 tenths": "92"} | ranges | unknown
    types = stages | {"undetermined": "99"} | none
    forms = {words: f"{code:02d}" for code, words in FORMS.items()} | none
    return {
        "POLY_TYPE": {f"{words} ({code})": code for code, words in POLYGON_TYPES.items()},
        "CT": _with_codes(total | ice | ranges | unknown | none),
        **{f"C{x}": _with_codes(parts) for x in "ABC"},
        **{field: _with_codes(types) for field in ("SA", "SB", "SC", "CN", "CD")},
        **{f"F{x}": _with_codes(forms) for x in "ABC"},
        "ESTIMATED": {"yes": "yes", "no, an analyst has": "no"},
    }


def _thinnest_first(code: int) -> int:
    return STAGES_BY_THICKNESS.index(code) if code in STAGES_BY_THICKNESS else len(STAGES_BY_THICKNESS)


def _with_codes(values: Mapping[str, str]) -> dict[str, str]:
    return {f"{words} ({code})": code for words, code in values.items()}


def _add_constraints(root: etree._Element) -> None:
    strengths = etree.SubElement(root, "constraints")
    expressions = etree.SubElement(root, "constraintExpressions")
    for c in constraints():
        etree.SubElement(
            strengths,
            "constraint",
            field=c.field,
            constraints="4",  # an expression
            exp_strength="1" if c.hard else "2",
            notnull_strength="0",
            unique_strength="0",
        )
        etree.SubElement(expressions, "constraint", field=c.field, exp=c.condition, desc=c.words)


def _add_layout(root: etree._Element) -> None:
    editable = etree.SubElement(root, "editable")
    for field in _READ_ONLY:
        etree.SubElement(editable, "field", name=field, editable="0")
    etree.SubElement(root, "editorlayout").text = "tablayout"
    form = etree.SubElement(root, "attributeEditorForm")
    place = {field: str(number) for number, field in enumerate(FIELDS, 1)}
    for title, boxes in _TABS.items():
        tab = etree.SubElement(
            form, "attributeEditorContainer", name=title, groupBox="0", columnCount="1", showLabel="1"
        )
        for name, (columns, fields) in boxes.items():
            box = etree.SubElement(tab, "attributeEditorContainer", name=name, groupBox="1", showLabel="1")
            box.set("columnCount", str(columns))
            for field in fields:
                etree.SubElement(box, "attributeEditorField", name=field, index=place[field], showLabel="1")
