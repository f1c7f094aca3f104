"""Checks of a polygon's egg code by SIGRID-3, and the repairs that lose nothing.

An egg has a total concentration CT, up to three types from the thickest to the thinnest (CA SA FA, CB SB FB, CC SC FC),
a trace CN of thicker ice, and a type CD that has what the three leave. The partial concentrations sum to the total, of
9+ (91) to nine or ten tenths; a single type has the total, and its CA may be empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

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
    tenths_in_words,
)
from floemap.legend import STAGE_CODES, STAGES_BY_THICKNESS, stage_in_words, stage_of

_UNDETERMINED = 99
_OPEN_WATER = 1
#: Total concentrations below one tenth, of which no types are given. POLY_TYPE I is ice of any concentration.
_BELOW_ONE_TENTH = (_OPEN_WATER, BERGY_WATER_CODE)
_LETTERS = ("a", "b", "c")
#: Lowest code of a partial concentration: one tenth.
_ONE_TENTH = 10
_NINE_PLUS = 91


@dataclass
class Egg:
    """The egg of a polygon: codes by column in small letters, NOT_GIVEN where empty; polygon type; CF.

    Attributes
    ----------
    faults
        Sentences on what cannot be repaired without an analyst.
    repairs
        Sentences on what is wrong and has been repaired in the other attributes.
    """

    codes: dict[str, int]
    kind: str
    form: str
    faults: list[str] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Find the faults, and repair what is safe."""
        _check_kind(self)
        if self.kind == "I":
            before = len(self.faults)
            _check_codes(self)
            if len(self.faults) == before and self.codes["ct"] not in _BELOW_ONE_TENTH:
                _check_types(self)
        elif self.kind:
            _check_without_ice(self)
        _check_form(self)


def _words(codes: Mapping[str, int], columns: Iterator[str] | tuple[str, ...]) -> str:
    return ", ".join(f"{c.upper()} {codes[c]:02d}" for c in columns if codes[c] != NOT_GIVEN)


def _check_kind(egg: Egg) -> None:
    """Give a polygon without POLY_TYPE the one that follows from its total concentration."""
    if egg.kind:
        return
    ct, sa = egg.codes["ct"], egg.codes["sa"]
    if ct in (*WATER_CODES, BERGY_WATER_CODE) and sa in NO_ICE:
        egg.kind = "W"
    elif ct in TENTHS and ct >= _ONE_TENTH and ct not in WATER_CODES:
        egg.kind = "I"
    elif ct == NOT_GIVEN and sa in NO_TYPE:
        egg.faults.append("POLY_TYPE, CT and SA are empty")
        return
    else:
        egg.faults.append(f"POLY_TYPE is empty, and does not follow from {_words(egg.codes, ('ct', 'sa'))}")
        return
    egg.repairs.append(f"POLY_TYPE is empty; by CT {ct:02d} it is {egg.kind}")


def _check_without_ice(egg: Egg) -> None:
    """Check a polygon of water, land, ice shelf or no data: it must not name ice."""
    name = POLYGON_TYPES[egg.kind]
    allowed = NO_ICE if egg.kind in "WS" else NO_TYPE
    stages = tuple(c for c in ("sa", "sb", "sc", "cn", "cd") if egg.codes[c] not in allowed)
    parts = tuple(c for c in ("ca", "cb", "cc") if egg.codes[c] not in (NOT_GIVEN, *UNKNOWN_CODES))
    ct = egg.codes["ct"]
    water = (*WATER_CODES, BERGY_WATER_CODE, ICE_FREE_OR_UNKNOWN)
    wrong_total = ct not in (NOT_GIVEN, *water) if egg.kind == "W" else ct not in (NOT_GIVEN, *UNKNOWN_CODES)
    found = _words(egg.codes, (*(("ct",) if wrong_total and egg.kind != "S" else ()), *parts, *stages))
    if found:
        egg.faults.append(f"POLY_TYPE is {egg.kind}, {name}, but the polygon has {found}")
    elif egg.kind == "W" and ct == NOT_GIVEN:
        egg.codes["ct"] = _OPEN_WATER
        egg.repairs.append("CT is empty in a polygon of water; it becomes 01, less than one tenth")


def _check_codes(egg: Egg) -> None:
    """Check that each code of an ice polygon is in the table of its column."""
    codes = egg.codes
    ct = codes["ct"]
    if ct == NOT_GIVEN:
        egg.faults.append("CT is empty in a polygon of ice")
    elif ct in WATER_CODES - {_OPEN_WATER}:
        egg.faults.append(f"POLY_TYPE is I, ice, but CT is {ct:02d}, ice free")
    elif ct in _BELOW_ONE_TENTH:
        named = _words(codes, tuple(c for c in ("sa", "sb", "sc") if codes[c] not in NO_ICE))
        if named:
            egg.faults.append(f"CT is {ct:02d}, less than one tenth, but the polygon names {named}")
    elif ct not in TENTHS and ct not in UNKNOWN_CODES:
        egg.faults.append(f"CT is {ct:02d}, which is not a code of a total concentration")
    for column in ("ca", "cb", "cc"):
        code = codes[column]
        fits = code in UNKNOWN_CODES or (code in TENTHS and code >= _ONE_TENTH and code not in WATER_CODES)
        if code != NOT_GIVEN and not fits:
            egg.faults.append(f"{column.upper()} is {code:02d}, which is not a code of a partial concentration")
    for column in ("sa", "sb", "sc", "cn", "cd"):
        if codes[column] != NOT_GIVEN and codes[column] not in STAGE_CODES:
            egg.faults.append(f"{column.upper()} is {codes[column]:02d}, which is not a stage of development")
    for column in ("fa", "fb", "fc"):
        if codes[column] != NOT_GIVEN and codes[column] not in FORMS:
            egg.faults.append(f"{column.upper()} is {codes[column]:02d}, which is not a form of ice")


def _check_types(egg: Egg) -> None:
    """Check types, sums and order of an ice polygon whose codes are all in their tables."""
    codes = egg.codes
    for letter in _LETTERS:
        stage, part = codes[f"s{letter}"], codes[f"c{letter}"]
        if stage in NO_TYPE and part != NOT_GIVEN:
            egg.faults.append(f"C{letter.upper()} is {part:02d}, but S{letter.upper()} names no type")
    types = [x for x in _LETTERS if codes[f"s{x}"] not in NO_TYPE]
    if not types:
        egg.faults.append("SA is empty in a polygon of ice")
    if egg.faults:
        return
    _close_gaps(egg, types)
    _order(egg)
    types = list(_LETTERS[: len(types)])
    _check_parts(egg, types)
    for letter in types:
        if codes[f"f{letter}"] == NOT_GIVEN:
            codes[f"f{letter}"] = _UNDETERMINED
            egg.repairs.append(f"F{letter.upper()} is empty; it becomes 99, undetermined")
    _check_trace(egg, types[-1])


def _close_gaps(egg: Egg, types: list[str]) -> None:
    """Move types to the first places, and clear what belongs to no type."""
    if types != list(_LETTERS[: len(types)]):
        first = next(x for x in _LETTERS if x not in types)
        egg.repairs.append(f"S{types[-1].upper()} is given, but S{first.upper()} is empty; the types move up")
    triplets = [tuple(egg.codes[f"{c}{x}"] for c in "csf") for x in types]
    extra = [f"F{x.upper()}" for x in _LETTERS if x not in types and egg.codes[f"f{x}"] != NOT_GIVEN]
    if extra:
        egg.repairs.append(f"{', '.join(extra)} belongs to no type; it becomes empty")
    _put(egg, triplets)


def _put(egg: Egg, triplets: list[tuple[int, ...]]) -> None:
    triplets = triplets + [(NOT_GIVEN,) * 3] * (len(_LETTERS) - len(triplets))
    for letter, triplet in zip(_LETTERS, triplets, strict=True):
        egg.codes |= {f"{c}{letter}": code for c, code in zip("csf", triplet, strict=True)}


def _rank(stage: int) -> int | None:
    """Return the rank of a stage by thickness; None if its thickness is not known."""
    known = stage_of(stage)
    return STAGES_BY_THICKNESS.index(known) if known in STAGES_BY_THICKNESS and known not in (80, 99) else None


def _order(egg: Egg) -> None:
    """Put types in the order of thickness. Types of unknown thickness stay where they are."""
    triplets = [tuple(egg.codes[f"{c}{x}"] for c in "csf") for x in _LETTERS]
    places = [i for i, (_, stage, _) in enumerate(triplets) if stage != NOT_GIVEN and _rank(stage) is not None]
    ordered = sorted((triplets[i] for i in places), key=lambda t: -(_rank(t[1]) or 0))
    if ordered == [triplets[i] for i in places]:
        return
    stages = ", ".join(f"S{_LETTERS[i].upper()} {triplets[i][1]:02d}" for i in places)
    egg.repairs.append(f"types are not in the order of thickness, thickest first: {stages}")
    for i, triplet in zip(places, ordered, strict=True):
        triplets[i] = triplet
    _put(egg, list(triplets))


def _check_parts(egg: Egg, types: list[str]) -> None:
    """Check the partial concentrations of types in their final places against the total."""
    codes = egg.codes
    ct, cd = codes["ct"], codes["cd"] not in NO_TYPE
    parts = {x: codes[f"c{x}"] for x in types}
    if len(types) == 1 and parts["a"] == NOT_GIVEN:
        if cd:
            egg.faults.append(f"CD is {codes['cd']:02d}, but CA is empty, so that nothing is left for it")
        return
    if ct in UNKNOWN_CODES or any(code in UNKNOWN_CODES for code in parts.values()):
        return
    low, high = TENTHS[ct]
    empty = [x for x, code in parts.items() if code == NOT_GIVEN]
    sums = [sum(TENTHS[code][i] for code in parts.values() if code != NOT_GIVEN) for i in (0, 1)]
    left = high - sums[0]
    one_total = low == high or ct == _NINE_PLUS  # a range leaves any of several
    if len(empty) == 1 and not cd and one_total and sums[0] == sums[1] and left >= 1:
        codes[f"c{empty[0]}"] = int(10 * left)
        egg.repairs.append(f"C{empty[0].upper()} is empty; the others leave {left:g} of {_tenths(ct)}")
        return
    if empty:
        names = " and ".join(f"C{x.upper()}" for x in empty)
        verb = "is" if len(empty) == 1 else "are"
        egg.faults.append(f"{names} {verb} empty, but the polygon names {len(types)} types")
        return
    told = _words(codes, tuple(f"c{x}" for x in types))
    total = tenths_in_words(sums[0]) if sums[0] == sums[1] else f"{sums[0]:g} to {sums[1]:g} tenths"
    if cd and sums[0] >= high:
        egg.faults.append(f"{told} sum to {total} of {_tenths(ct)}, which leaves nothing for CD")
    elif not cd and (sums[0] > high or sums[1] < low):
        verb = "sum to" if len(types) > 1 else "is"
        egg.faults.append(f"{told} {verb} {total}, but CT is {ct:02d}, {_tenths(ct)}")


def _tenths(code: int) -> str:
    low, high = TENTHS[code]
    return tenths_in_words(low) if low == high else "9+ tenths" if code == 91 else f"{low:g} to {high:g} tenths"


def _check_trace(egg: Egg, last: str) -> None:
    """Check that the trace CN is thicker than the first type, and the remainder CD is not thicker than the last."""
    codes = egg.codes
    for column, other, right in (("cn", "sa", 1), ("cd", f"s{last}", -1)):
        stage, beside = _rank(codes[column]), _rank(codes[other])
        if codes[column] in NO_TYPE or stage is None or beside is None:
            continue
        if right * (stage - beside) < (1 if column == "cn" else 0):
            what = "a trace of thicker ice" if column == "cn" else "a thinner type"
            egg.faults.append(
                f"{column.upper()}, {what}, is {codes[column]:02d} ({stage_in_words(codes[column])}), but "
                f"{other.upper()} is {codes[other]:02d} ({stage_in_words(codes[other])})"
            )


def _check_form(egg: Egg) -> None:
    """Check CF: the predominant and the secondary form, two characters each."""
    if egg.form:
        halves = [half for half in (egg.form[:2].strip(), egg.form[2:].strip()) if half]
        right = all(h == "-9" or (h.isdigit() and int(h) in FORMS) for h in halves)
        if not right or len(egg.form) > 4:
            egg.faults.append(f"CF is {egg.form[:20]!r}, which is not two forms of ice, such as 0499 or 08-9")
    elif egg.kind == "I" and not egg.faults:
        egg.form = "".join(f"{egg.codes[f'f{x}']:02d}" for x in "ab")


def default_form(kind: str) -> str:
    """Return the CF of a polygon that gives none."""
    return "99-9" if kind == "I" else "-9-9"
