"""Expressions about polygons that QGIS and SQL both understand: classes, egg labels, and what codes must obey.

They follow from the fields that floemap reads, POLY_TYPE, CT and the types with their partial concentrations, so a
correction is visible at once. A program that reads the GeoPackage by SQL finds the same as QGIS shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from floemap.icechart.read.codes import (
    BERGY_WATER_CODE,
    FORMS,
    ICE_FREE_OR_UNKNOWN,
    NO_ICE,
    NO_TYPE,
    NOT_GIVEN,
    POLYGON_TYPES,
    TENTHS,
    UNKNOWN_CODES,
    WATER_CODES,
)
from floemap.legend import (
    LAND_RGB,
    NO_DATA_RGB,
    OPEN_WATER_RGB,
    RESIDUAL,
    RGB,
    STAGE_CODES,
    STAGE_RGB,
    STAGES,
    STAGES_BY_THICKNESS,
    Legend,
    stage_of,
)

_NONE: tuple[int | str, ...] = ("", NOT_GIVEN)
_LETTERS = "ABC"


@dataclass(frozen=True)
class Kind:
    """A kind of polygon that has one colour.

    Attributes
    ----------
    key, title, rgb
        Value of CLASS, title in a legend, and colour.
    condition
        Condition on the fields, an expression that both QGIS and SQL understand.
    """

    key: str
    title: str
    rgb: RGB
    condition: str


def kinds_of(legend: Legend) -> list[Kind]:
    """Return the kinds of polygon by codes, which exclude each other: the classes of a legend, and land."""
    table = legend.code_to_class
    kind, first, total = map(_text, ("POLY_TYPE", "SA", "CT"))
    names_ice = _among(first, [code for code in STAGE_CODES if code not in NO_ICE])
    ice_free = f"{_among(total, WATER_CODES)} OR ({_among(total, [ICE_FREE_OR_UNKNOWN])} AND NOT {names_ice})"
    bergy = _among(total, [BERGY_WATER_CODE])
    found = []
    for c in legend.classes:
        codes: list[int | str] = [code for code in STAGE_CODES if table.get(code) == c.id]
        codes += _NONE if c.id == legend.stageless else []
        neither = f"NOT ({ice_free}) AND NOT {bergy} AND NOT {_nothing()}"
        condition = f"{kind} IN ('I', '') AND {neither} AND {_among(_DOMINANT, codes)}"
        if c.id == legend.water:
            condition = f"{kind} = 'W' OR ({kind} IN ('I', '') AND ({ice_free})) OR ({condition})"
        found.append(Kind(c.key, c.title, c.rgb, condition))
    return [*found, Kind("land", "Land", LAND_RGB, f"{kind} = 'L'")]


def kinds_without_class() -> list[Kind]:
    """Return the kinds of polygon that have no class in any legend, but a name and a colour in charts."""
    kind = _text("POLY_TYPE")
    bergy = f"{_is_ice()} AND {_among(_text('CT'), [BERGY_WATER_CODE])}"
    return [
        Kind("bergy_water", "Bergy water", OPEN_WATER_RGB, bergy),
        Kind("ice_shelf", "Ice shelf", STAGE_RGB[98], f"{kind} = 'S'"),
        Kind("no_data", "No data", NO_DATA_RGB, f"{kind} = 'N' OR {_nothing()}"),
    ]


def _nothing() -> str:
    """Return the condition that a polygon has neither a type nor a code."""
    return f"({_text('POLY_TYPE')} = '' AND {_among(_text('CT'), _NONE)} AND {_among(_text('SA'), _NONE)})"


def _among(text: str, codes: Iterable[int | str]) -> str:
    """Return the condition that a text has one of some codes, padded or not."""
    spelled = {str(code) for code in codes} | {f"{code:02d}" for code in codes if isinstance(code, int)}
    return f"{text} IN ({', '.join(repr(s) for s in sorted(spelled) or ['none'])})"


def _dominant() -> str:
    """Return the expression of the stage of the type with the largest partial concentration, of equal ones the first.

    Types are in the order of thickness. A fourth type, CD, has what the others leave of the total. Codes are compared
    as numbers, in percent: right for whole tenths, and for ranges by their lower bounds. Without a part of the first
    type it is the first.
    """
    a, b, c = (f'(CASE WHEN "{f}" > \'0\' AND "{f}" <> \'99\' THEN "{f}" * 1 ELSE 0 END)' for f in ("CA", "CB", "CC"))
    total = '(CASE WHEN "CT" > \'90\' THEN 100 ELSE "CT" * 1 END)'
    d = f"(CASE WHEN \"CD\" > '0' AND \"CT\" > '0' THEN {total} - {a} - {b} - {c} ELSE 0 END)"
    sa, sb, sc, cd = (f"coalesce(\"{field}\", '')" for field in ("SA", "SB", "SC", "CD"))
    return (
        f"(CASE WHEN {a} = 0 OR {a} >= max({b}, {c}, {d}) THEN {sa} WHEN {b} >= max({c}, {d}) THEN {sb} "
        f"WHEN {c} >= {d} THEN {sc} ELSE {cd} END)"
    )


_DOMINANT = _dominant()


def class_expression(legend: Legend) -> str:
    """Return the expression, for QGIS and SQL, of a polygon's CLASS by its codes; empty for none."""
    return f"CASE {' '.join(f'WHEN {k.condition} THEN {k.key!r}' for k in kinds_of(legend))} ELSE '' END"


def _text(field: str) -> str:
    return f"coalesce(\"{field}\", '')"


def _is_ice() -> str:
    """Return the condition that a polygon is of ice: one without a type may be."""
    return f"{_text('POLY_TYPE')} IN ('I', '')"


# --- the label


def concentrations_by_colour() -> list[tuple[str, RGB, str]]:
    """Return title, colour by the WMO's standard for total concentration (JCOMM TR-24), and condition of its steps."""
    total, ice = _text("CT"), _is_ice()
    whole: dict[str, list[int]] = {}
    for code, (low, high) in TENTHS.items():
        if low >= 1:
            middle = (low + high) / 2
            step = "1-3" if middle < 4 else "4-6" if middle < 7 else "7-8" if middle < 9 else "9-10"
            whole.setdefault(step, []).append(code)
    free = [code for code in (*WATER_CODES, ICE_FREE_OR_UNKNOWN) if code != 1]
    steps = [
        ("Ice free", (0, 100, 255), f"{_text('POLY_TYPE')} <> 'L' AND {_among(total, free)}"),
        ("Less than one tenth", (150, 200, 255), _among(total, [1, BERGY_WATER_CODE])),
    ]
    colours: dict[str, RGB] = {
        "1-3": (140, 255, 160),
        "4-6": (255, 255, 0),
        "7-8": (255, 125, 7),
        "9-10": (255, 0, 0),
    }
    steps += [(f"{step} tenths", rgb, f"{ice} AND {_among(total, whole[step])}") for step, rgb in colours.items()]
    return [*steps, ("Land", LAND_RGB, f"{_text('POLY_TYPE')} = 'L'")]


def _concentration(field: str) -> str:
    """Return the expression of a concentration as eggs write it: 7, 9+, 10, 4-6, X for unknown."""
    first, second = f'substr("{field}", 1, 1)', f'substr("{field}", 2, 1)'
    return (
        f"CASE WHEN \"{field}\" = '92' THEN '10' WHEN \"{field}\" = '91' THEN '9+' WHEN \"{field}\" IN ('98', '99') "
        f"THEN 'X' WHEN length(\"{field}\") = 2 AND {second} = '0' THEN {first} WHEN length(\"{field}\") = 2 AND "
        f"{second} = '1' THEN {first} || '-10' WHEN length(\"{field}\") = 2 AND {first} <> '-' THEN "
        f"{first} || '-' || {second} ELSE {_text(field)} END"
    )


#: Symbols of stages in eggs (WMO No. 259) that are not the second digit of the code.
_STAGE_SYMBOLS = {91: "1•", 93: "4•", 94: "7•", 95: "7•", 96: "8•", 97: "9•", 98: "▲•", 79: "-", 99: "X"}


def _stage(field: str) -> str:
    """Return the expression of a stage of development as eggs write it."""
    special = " ".join(f"WHEN \"{field}\" = '{code}' THEN '{sign}'" for code, sign in _STAGE_SYMBOLS.items())
    return (
        f'CASE {special} WHEN "{field}" >= \'80\' AND length("{field}") = 2 '
        f'THEN substr("{field}", 2, 1) ELSE {_text(field)} END'
    )


def _form(field: str) -> str:
    """Return the expression of a form as eggs write it: 0 pancake ice to 8 fast ice, 9 icebergs, X undetermined.

    A form that is not given is an empty text.
    """
    return (
        f"CASE WHEN {_among(_text(field), _NONE)} THEN '' "
        f"WHEN \"{field}\" = '99' THEN 'X' WHEN \"{field}\" = '22' THEN '0' WHEN \"{field}\" = '10' THEN '9' WHEN "
        f'length("{field}") = 2 AND substr("{field}", 1, 1) = \'0\' THEN substr("{field}", 2, 1) '
        f"ELSE {_text(field)} END"
    )


def egg_label() -> str:
    """Return the expression of a polygon's egg: lines of CT, of partial concentrations, of stages and of forms.

    Stages have the symbols of the egg code, as in 7• for old ice. A trace, So, is in parentheses before them, and a
    type that has what the others leave, Sd, after them, as both are outside the oval. A single type has no partial
    concentration. Water and land have no egg.
    """

    def row(kind: str, sign: str) -> str:
        parts = [sign_of[kind](f"{sign}A")]
        parts += [f"CASE WHEN {_given('S' + x)} THEN ' ' || {sign_of[kind](sign + x)} ELSE '' END" for x in "BC"]
        return " || ".join(f"({part})" for part in parts)

    sign_of = {"C": _concentration, "S": _stage, "F": _form}
    several = f"{_given('SB')} OR {_given('CD')}"
    before = f"CASE WHEN {_given('CN')} THEN '(' || {_stage('CN')} || ') ' ELSE '' END"
    after = f"CASE WHEN {_given('CD')} THEN ' (' || {_stage('CD')} || ')' ELSE '' END"
    shown = f"{_is_ice()} AND {_given('SA')} AND NOT {_among(_text('CT'), [*_NONE, *WATER_CODES, BERGY_WATER_CODE])}"
    return (
        f"CASE WHEN {shown} THEN ({_concentration('CT')}) || char(10) || "
        f"(CASE WHEN {several} THEN {row('C', 'C')} || char(10) ELSE '' END) || "
        f"({before}) || {row('S', 'S')} || ({after}) || char(10) || {row('F', 'F')} ELSE '' END"
    )


def _given(field: str) -> str:
    """Return the condition that a type has a stage."""
    return f"NOT {_among(_text(field), [*_NONE, *NO_TYPE])}"


# --- what codes must obey


@dataclass(frozen=True)
class Constraint:
    """What a field must obey: an expression that is true, words for people, and whether it stops saving."""

    field: str
    condition: str
    words: str
    hard: bool = True


def constraints() -> list[Constraint]:
    """Return what the codes of a polygon must obey, by SIGRID-3."""
    kind, total = _text("POLY_TYPE"), _text("CT")
    water = [*WATER_CODES, BERGY_WATER_CODE, ICE_FREE_OR_UNKNOWN, *_NONE]
    ice = [1, BERGY_WATER_CODE, *UNKNOWN_CODES, *(code for code, (low, _) in TENTHS.items() if low >= 1)]
    fits = (
        f"CASE WHEN {kind} = 'W' THEN {_among(total, water)} WHEN {kind} IN ('I', '') THEN {_among(total, ice)} "
        f"ELSE {_among(total, [*_NONE, *UNKNOWN_CODES])} END"
    )
    named = (
        f"CASE WHEN {kind} IN ('W', 'S') OR ({_is_ice()} AND {_among(total, [1, BERGY_WATER_CODE])}) "
        f"THEN {_among(_text('SA'), [*_NONE, *NO_ICE])} WHEN {kind} = 'I' THEN {_given('SA')} "
        f"WHEN {kind} = '' THEN 1 = 1 ELSE NOT {_given('SA')} END"
    )
    found = [
        Constraint("POLY_TYPE", f"{kind} IN ({', '.join(map(repr, POLYGON_TYPES))})", "One of I, W, L, N and S."),
        Constraint(
            "CT",
            fits,
            "A SIGRID-3 code: of ice one tenth or more or 99 (unknown), of water less than one tenth, of land none.",
        ),
        Constraint(
            "CA",
            _sums(),
            "The partial concentrations must sum to the total (9+: to 9 or 10 tenths), less where CD is given. A "
            "single type has none (-9) or the total.",
        ),
        Constraint(
            "SA",
            f"{_is_stage('SA')} AND ({named})",
            "A stage of development. Ice of one tenth or more must have one; water and land must not.",
        ),
    ]
    for thicker, x in pairwise(_LETTERS):
        part = _among(_text("C" + x), _NONE)
        found.append(
            Constraint(
                f"C{x}",
                f"{part} OR ({_is_concentration('C' + x)} AND {_given('S' + x)})",
                f"A concentration of one tenth or more, and only with S{x}.",
            )
        )
        found.append(
            Constraint(
                f"S{x}",
                f"{_is_stage('S' + x)} AND {_in_order('S' + thicker, 'S' + x)}",
                f"A stage of development that is not thicker than S{thicker}: the thickest type comes first.",
                hard=False,
            )
        )
    trace = f"{_is_stage('CN')} AND {_only_in_ice('CN')} AND {_in_order('CN', 'SA', apart=True)}"
    found.append(Constraint("CN", trace, "A stage of development that is thicker than SA."))
    last = (
        f"CASE WHEN {_given('SC')} THEN {_in_order('SC', 'CD')} WHEN {_given('SB')} THEN {_in_order('SB', 'CD')} "
        f"ELSE {_in_order('SA', 'CD')} END"
    )
    fourth = "A stage of development that is not thicker than those of the types."
    found.append(Constraint("CD", f"{_is_stage('CD')} AND {_only_in_ice('CD')} AND {last}", fourth))
    forms = [*_NONE, *FORMS]
    found += [Constraint(f"F{x}", _among(_text(f"F{x}"), forms), "A SIGRID-3 code of form.") for x in _LETTERS]
    return found


def _is_stage(field: str) -> str:
    return _among(_text(field), [*_NONE, *STAGE_CODES])


def _sums() -> str:
    """Return the condition that partial concentrations, or their ranges, fit the total; unknown ones fit anything."""
    none = {x: _among(_text(f"C{x}"), _NONE) for x in _LETTERS}
    open_ = [_among(_text(field), UNKNOWN_CODES) for field in ("CT", "CA", "CB", "CC")]
    empty = " OR ".join(f"({_given('S' + x)} AND {none[x]})" for x in _LETTERS)
    low, high = (" + ".join(_tenths(f"C{x}", i) for x in _LETTERS) for i in (0, 1))
    total_low, total_high = (_tenths("CT", i) for i in (0, 1))
    return (
        f"CASE WHEN NOT {_is_ice()} OR NOT {_given('SA')} THEN {' AND '.join(none.values())} "
        f"WHEN {' AND '.join(none.values())} AND NOT ({_given('SB')} OR {_given('SC')} OR {_given('CD')}) THEN 1 = 1 "
        f"WHEN {none['A']} AND NOT ({_given('SB')} OR {_given('SC')}) THEN 1 = 0 "
        f"WHEN {' OR '.join(open_)} THEN 1 = 1 WHEN {empty} THEN 1 = 0 "
        f"WHEN {_given('CD')} THEN {low} < {total_high} ELSE {low} <= {total_high} AND {high} >= {total_low} END"
    )


def _tenths(field: str, which: int) -> str:
    """Return the expression of the lowest (0) or highest (1) tenths of a concentration; 0 for none."""
    values: dict[float, list[int]] = {}
    for code, tenths in TENTHS.items():
        values.setdefault(tenths[which], []).append(code)
    cases = " ".join(f"WHEN {_among(_text(field), codes)} THEN {n:g}" for n, codes in sorted(values.items()) if n)
    return f"(CASE {cases} ELSE 0 END)"


def _only_in_ice(field: str) -> str:
    return f"({_is_ice()} OR {_among(_text(field), [*_NONE, *NO_ICE])})"


def _is_concentration(field: str) -> str:
    codes = [code for code, (low, _) in TENTHS.items() if low >= 1]
    return _among(_text(field), [*_NONE, *codes, *UNKNOWN_CODES])


def _in_order(thicker: str, thinner: str, *, apart: bool = False) -> str:
    """Return the condition that one stage is not thinner than another; those of unknown thickness fit anywhere.

    With `apart` it must be thicker.
    """
    known = {code: STAGES_BY_THICKNESS.index(stage_of(code)) for code in (*STAGES, RESIDUAL) if code not in (80, 99)}

    def rank(field: str) -> str:
        ranks = " ".join(f"WHEN \"{field}\" = '{code}' THEN {r}" for code, r in known.items())
        return f"(CASE {ranks} ELSE -1 END)"

    return f"({rank(thicker)} = -1 OR {rank(thinner)} {'<' if apart else '<='} {rank(thicker)})"
