"""Codes of S-411 and those of SIGRID-3: tables both ways, and eggs in the order of either.

S-411 (JCOMM, edition 1.1.0, 2014; its feature catalogue of 2023; edition 1.2.1 has the same codes) numbers water
otherwise than SIGRID-3: 01 is ice free, 02 open water, 03 bergy water. Forms are shifted by one. An egg is three lists:
partial concentrations (ICEAPC), stages of development (ICESOD) and forms (ICEFLZ). The catalogue allows three, five
and three values, and gives the stages in the order So Sa Sb Sc Sd, where So is a trace of thicker ice and Sd the
remainder. The converter of the WMO, and so the Canadian Ice Service, writes a list of as many concentrations as stages:
Ca Cb Cc, 04 for a trace, and the remainder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from floemap.icechart.read.codes import NOT_GIVEN, TENTHS
from floemap.legend import BRASH, ICE_FREE, STAGES, STAGES_BY_THICKNESS, THICKNESS_CM, stage_of

#: Codes of S-411 for "undetermined or unknown", in every attribute of the egg.
UNKNOWN = 99
#: The code of concentrations with which the WMO's converter marks a trace; the catalogue lacks it.
TRACE = 4
#: Concentrations that both standards have, and those of water by the codes of S-411.
_WATER: Mapping[int, int] = MappingProxyType({1: 0, 2: 1, 3: 2})
CONCENTRATIONS = frozenset(
    {*_WATER, *range(10, 100, 10), 12, 13, 23, 24, 34, 35, 45, 46, 56, 57, 67, 68, 78, 79, 81, 89, 91, 92, UNKNOWN}
)
#: Stages of development, and SIGRID-3's code for those that have another there.
SEA_STAGES = frozenset({1, 70, *range(80, 100)})
_SEA_STAGES: Mapping[int, int] = MappingProxyType({1: ICE_FREE, 70: BRASH})
#: Stages of lake ice, and the codes of the same thickness by which the ice services of the Great Lakes chart them in
#: SIGRID-3 (MANICE, Canadian Ice Service): new, thin, medium, thick, very thick.
_LAKE_STAGES: Mapping[int, int] = MappingProxyType({1: 81, 2: 84, 3: 85, 4: 87, 5: 91, 70: BRASH, UNKNOWN: UNKNOWN})
LAKE_STAGES = frozenset(_LAKE_STAGES)
#: Forms: pancake ice, then those of SIGRID-3 plus one.
_FORMS: Mapping[int, int] = MappingProxyType({1: 22, **{code: code - 1 for code in range(2, 12)}, UNKNOWN: UNKNOWN})
FORMS = frozenset(_FORMS)

#: Codes of a polygon that an egg of S-411 gives, in SIGRID-3's names.
EGG = ("CT", "CA", "SA", "FA", "CB", "SB", "FB", "CC", "SC", "FC", "CN", "CD")
_SLOTS = "ABC"
#: Tenths that partial concentrations may leave of the total without a further type: half a step of the codes.
_NO_REST = 0.5


def sigrid3_egg(
    act: Sequence[int], apc: Sequence[int], sod: Sequence[int], flz: Sequence[int], *, lake: bool = False
) -> tuple[dict[str, int], list[str]]:
    """Return SIGRID-3's codes of an egg of S-411, :data:`EGG`, and remarks on codes that S-411 does not have.

    Parameters
    ----------
    act, apc, sod, flz
        Values of ICEACT, ICEAPC, ICESOD (ICELSO for lake ice) and ICEFLZ, each empty if it is not given.
    lake
        Whether the stages are those of lake ice.

    Raises
    ------
    ValueError
        If the lists do not fit each other, or a stage has no meaning; the message is a clause about the polygon.
    """
    if len(act) > 1:
        raise ValueError(f"iceact has {len(act)} values, where one is allowed")
    remarks: list[str] = []
    egg = dict.fromkeys(EGG, NOT_GIVEN)
    if act:
        egg["CT"] = _concentration(act[0], "iceact", remarks)
    apc, sod, flz = _without_blanks(apc, sod, flz)
    parts: list[int | None] = [None if p == TRACE else _concentration(p, "iceapc", remarks) for p in apc]
    stages = [_stage(s, lake, remarks) for s in sod]
    if len(parts) == len(stages):
        types, trace, rest = _parallel(parts, stages)
    else:
        types, trace, rest = _in_catalogue_order(parts, stages, egg["CT"])
    egg["CN"], egg["CD"] = trace, rest
    forms = _forms_of_types(flz, len(sod), types, remarks)
    for slot, (place, part, stage) in zip(_SLOTS, types, strict=False):
        egg[f"C{slot}"], egg[f"S{slot}"] = part, stage
        egg[f"F{slot}"] = forms.get(place, NOT_GIVEN)
    if len(types) == 1 and rest == NOT_GIVEN and egg["CA"] == egg["CT"]:
        egg["CA"] = NOT_GIVEN  # SIGRID-3 leaves the concentration of a single type to CT
    return egg, remarks


#: A type of an egg: its place in the list of stages, its partial concentration, its stage.
_Type = tuple[int, int, int]


def _without_blanks(
    apc: Sequence[int], sod: Sequence[int], flz: Sequence[int]
) -> tuple[list[int], list[int], list[int]]:
    """Return the lists without types at their end of which nothing is known, with which some writers fill them up."""
    apc, sod, flz = list(apc), list(sod), list(flz)
    while len(apc) == len(sod) > 1 and apc[-1] == sod[-1] == UNKNOWN:
        if len(flz) == len(sod):
            flz.pop()
        apc.pop()
        sod.pop()
    return apc, sod, flz


def _parallel(parts: Sequence[int | None], stages: Sequence[int]) -> tuple[list[_Type], int, int]:
    """Return types, trace and remainder of lists with a concentration for each stage."""
    types = [(i, p, s) for i, (p, s) in enumerate(zip(parts, stages, strict=True)) if p is not None]
    traces = [s for p, s in zip(parts, stages, strict=True) if p is None]
    if len(types) > len(_SLOTS) + 1:
        raise ValueError(f"has {len(types)} types of ice, where an egg has four")
    types, fourth = types[:3], [s for _, _, s in types[3:]]
    thickest = types[0][2] if types else UNKNOWN
    thicker = [s for s in traces if s == UNKNOWN or _rank(s) > _rank(thickest)]
    thinner = [s for s in traces if s not in thicker] + fourth
    if len(thicker) > 1 or len(thinner) > 1:
        raise ValueError("has more traces of ice than an egg has places for")
    return types, thicker[0] if thicker else NOT_GIVEN, thinner[0] if thinner else NOT_GIVEN


def _in_catalogue_order(parts: Sequence[int | None], stages: Sequence[int], total: int) -> tuple[list[_Type], int, int]:
    """Return types, trace and remainder of lists with more stages than concentrations: So Sa Sb Sc Sd.

    Without concentrations, up to three stages are those of the types. With one stage too many, what the concentrations
    leave of the total decides whether the last is the remainder.
    """
    known = [NOT_GIVEN if p is None else p for p in parts] or [NOT_GIVEN] * min(len(stages), 3)
    extra = len(stages) - len(known)
    if extra < 0 or extra > 2 or len(known) > 3:
        raise ValueError(f"iceapc has {len(parts)} values and icesod {len(stages)}, which do not belong together")
    if not parts:
        has_trace, has_rest = extra == 2, extra > 0
    else:
        has_rest = extra == 2 or (extra == 1 and _left(known, total) > _NO_REST)
        has_trace = extra == 2 or (extra == 1 and not has_rest)
    first = int(has_trace)
    types = [(first + i, p, stages[first + i]) for i, p in enumerate(known)]
    trace, rest = stages[0] if has_trace else NOT_GIVEN, stages[-1] if has_rest else NOT_GIVEN
    if extra == 2:  # one of them may only hold the place of the other
        trace, rest = (NOT_GIVEN if s == UNKNOWN else s for s in (trace, rest))
    return types, trace, rest


def _left(parts: Sequence[int], total: int) -> float:
    """Return the tenths that partial concentrations leave of the total; none if any of them is unknown."""
    middles = [sum(TENTHS[c]) / 2 for c in (*parts, total) if c in TENTHS]
    if len(middles) <= len(parts):
        return 0.0
    full = 10.0 if middles[-1] >= 9.5 else middles[-1]  # the parts of 9+ sum to ten
    return full - sum(middles[:-1])


def _forms_of_types(flz: Sequence[int], stages: int, types: Sequence[_Type], remarks: list[str]) -> dict[int, int]:
    """Return the form of each type by its place in the list of stages: one for each stage, or for each type."""
    if len(flz) > max(stages, len(types), len(_SLOTS)):
        raise ValueError(f"iceflz has {len(flz)} values for {stages} of icesod")
    remarks += [f"iceflz is {f:02d}, which S-411 does not have" for f in flz if f not in _FORMS]
    forms = [_FORMS.get(f, UNKNOWN) for f in flz]
    places = range(len(flz)) if len(flz) == stages else [place for place, _, _ in types]
    return dict(zip(places, forms, strict=False))


def _concentration(code: int, name: str, remarks: list[str]) -> int:
    if code not in CONCENTRATIONS:
        remarks.append(f"{name} is {code:02d}, which S-411 does not have")
    return _WATER.get(code, code)


def _stage(code: int, lake: bool, remarks: list[str]) -> int:
    name, known = ("icelso", LAKE_STAGES) if lake else ("icesod", SEA_STAGES)
    if code not in known:
        if lake or code in THICKNESS_CM:  # SIGRID-3 gives another meaning to the number
            raise ValueError(f"{name} is {code:02d}, which S-411 does not have")
        remarks.append(f"{name} is {code:02d}, which S-411 does not have")
    return _LAKE_STAGES[code] if lake else _SEA_STAGES.get(code, code)


def _rank(stage: int) -> int:
    """Return the place of a stage of SIGRID-3 in the order of thickness."""
    meant = stage_of(stage)
    return STAGES_BY_THICKNESS.index(meant) if meant in STAGES_BY_THICKNESS else -1


def s411_egg(egg: Mapping[str, int], *, lake: bool = False) -> dict[str, list[int]]:
    """Return the values of S-411's attributes for an egg of SIGRID-3, by attribute, in the order of the catalogue.

    A single type has the total as its partial concentration; water has nothing but a total. Where one stage more than
    concentrations could be either a trace or a remainder, 99 holds the place of the other.

    Parameters
    ----------
    egg
        Codes by the names of :data:`EGG`.
    lake
        Whether to give the stages of lake ice.

    Raises
    ------
    ValueError
        If S-411 has no code for one; the message is a clause about the polygon.
    """
    total = _expressed("CT", egg["CT"], s411_concentration(egg["CT"]))
    if total in _WATER:
        return {"iceact": [total]}
    types = [slot for slot in _SLOTS if egg[f"S{slot}"] != NOT_GIVEN]
    single = len(types) == 1 and egg["CD"] == NOT_GIVEN
    parts = [egg["CT"] if single and egg[f"C{slot}"] == NOT_GIVEN else egg[f"C{slot}"] for slot in types]
    ends = [egg["CN"], egg["CD"]]
    if types and (ends[0] == NOT_GIVEN) != (ends[1] == NOT_GIVEN):
        as_rest = _left(parts, egg["CT"]) > _NO_REST
        ends = [UNKNOWN if s == NOT_GIVEN and as_rest == (ends[1] == NOT_GIVEN) else s for s in ends]
    named = {"CN": ends[0], **{f"S{slot}": egg[f"S{slot}"] for slot in types}, "CD": ends[1]}
    stages = [_expressed(n, s, s411_stage(s, lake=lake)) for n, s in named.items() if s != NOT_GIVEN]
    return {
        "iceact": [total],
        "iceapc": [_expressed(f"C{s}", p, s411_concentration(p)) for s, p in zip(types, parts, strict=True)],
        "icelso" if lake else "icesod": stages,
        "iceflz": [s411_form(egg[f"F{slot}"]) for slot in types],
    }


def _expressed(name: str, code: int, found: int | None) -> int:
    if found is None:
        raise ValueError(f"{name} is {code:02d}, for which S-411 has no code")
    return found


def s411_concentration(code: int) -> int | None:
    """Return S-411's code of a concentration in SIGRID-3's; None if S-411 has none.

    Concentrations that are not given or not known are 99.
    """
    other = {ours: theirs for theirs, ours in _WATER.items()} | {55: 1, 98: UNKNOWN, NOT_GIVEN: UNKNOWN}
    code = other.get(code, code if code > max(_WATER) else -1)
    return code if code in CONCENTRATIONS else None


def s411_stage(code: int, *, lake: bool = False) -> int | None:
    """Return S-411's code of a stage of development in SIGRID-3's; None if S-411 has none.

    A thickness becomes the stage of that thickness. Stages of the sea that span several of lake ice are 99.
    """
    if code == BRASH:
        return 70
    stage = stage_of(code)
    if not lake:
        return stage if stage in SEA_STAGES - {70} else None
    spans = {ours: theirs for theirs, ours in _LAKE_STAGES.items()} | {88: 4, 89: 4, 93: 5, 95: 5, 96: 5, 97: 5}
    return spans.get(stage, UNKNOWN) if stage in STAGES else None


def s411_form(code: int) -> int:
    """Return S-411's code of a form in SIGRID-3's; 99 where S-411 has none, such as for strips."""
    return {ours: theirs for theirs, ours in _FORMS.items()}.get(code, 1 if code == 0 else UNKNOWN)
