"""Ice classes: ids, SIGRID-3 codes, colours. This module alone defines class ids.

Stages of development and their codes follow SIGRID-3 (WMO/JCOMM TR-23, version 3.0, 2014), colours the WMO stage of
development colour standard (JCOMM TR-24). :mod:`floemap.own_legends` reads further legends from files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from floemap.errors import ConfigError, known_names

RGB = tuple[int, int, int]

#: Class id of pixels without a label: land, outside the chart, unknown. Never scored, never trained on.
IGNORE = 255
#: Class id of land polygons in draft charts with a land mask. In class rasters land is :data:`IGNORE`.
LAND = 254

#: SIGRID-3 stage of development codes in words.
STAGES: Mapping[int, str] = MappingProxyType(
    {
        80: "no stage of development",
        81: "new ice",
        82: "nilas, ice rind",
        83: "young ice",
        84: "grey ice",
        85: "grey-white ice",
        86: "first-year ice",
        87: "thin first-year ice",
        88: "thin first-year ice, first stage",
        89: "thin first-year ice, second stage",
        91: "medium first-year ice",
        93: "thick first-year ice",
        95: "old ice",
        96: "second-year ice",
        97: "multi-year ice",
        98: "glacier ice",
        99: "undetermined",
    }
)


def _thickness() -> dict[int, int]:
    """Return centimetres by code, from Table 2 of SIGRID-3: steps of 1, then of 5, 10, 50 and 100."""
    table = {code: code for code in range(2, 51)}
    table |= {code: 55 + 5 * (code - 51) for code in range(51, 60)}
    table |= {code: 100 + 10 * (code - 60) for code in range(60, 70)}
    table |= {code: 200 + 50 * (code - 70) for code in range(70, 74)}
    return table | {code: 400 + 100 * (code - 74) for code in range(74, 79)}


#: SIGRID-3's other codes in columns of stages: thickness of the ice, centimetres.
THICKNESS_CM: Mapping[int, int] = MappingProxyType(_thickness())
#: Three more codes that are neither a thickness nor in :data:`STAGES`. Residual ice is first-year ice that has survived
#: a summer, by WMO's nomenclature a kind of old ice.
ICE_FREE, BRASH, RESIDUAL = 1, 79, 94
#: All codes that SIGRID-3 allows in columns of stages.
STAGE_CODES = frozenset({*STAGES, *THICKNESS_CM, ICE_FREE, BRASH, RESIDUAL})

#: Upper limits of thickness, centimetres, and stages, from WMO's nomenclature; all thicker ice is thick first-year ice.
#: Below ten centimetres SIGRID-3 distinguishes dark and light nilas by thickness (note c of Table 2).
_STAGE_BELOW_CM = ((10, 82), (15, 84), (30, 85), (50, 88), (70, 89), (120, 91))
_THICKEST_FIRST_YEAR = 93


def stage_of(code: int) -> int:
    """Return the stage of development, one of :data:`STAGES`, that a code of :data:`STAGE_CODES` means.

    Codes that mean no stage, such as that of brash ice, are returned unchanged.
    """
    if code == RESIDUAL:
        return 95
    if code not in THICKNESS_CM:
        return code
    return next((stage for end, stage in _STAGE_BELOW_CM if THICKNESS_CM[code] < end), _THICKEST_FIRST_YEAR)


def stage_in_words(code: int) -> str:
    """Return the meaning of a code in a column of stages, in words."""
    other = {ICE_FREE: "ice free", BRASH: "brash ice", RESIDUAL: "residual ice"}
    if code in THICKNESS_CM:
        return f"ice of {THICKNESS_CM[code]} cm ({STAGES[stage_of(code)]})"
    return STAGES.get(code, other.get(code, "not a SIGRID-3 stage"))


#: Stages from the thinnest to the thickest, by the middle of their range in WMO nomenclature. 80 is no ice; 99 could be
#: any, and so comes before all known stages; glacier ice is the thickest.
STAGES_BY_THICKNESS = (80, 99, 81, 82, 84, 83, 85, 88, 87, 89, 91, 86, 93, 96, 95, 97, 98)

#: WMO colours by stage of development code.
STAGE_RGB: Mapping[int, RGB] = MappingProxyType(
    {
        80: (150, 200, 255),
        81: (240, 210, 250),
        82: (255, 100, 255),
        83: (170, 40, 240),
        84: (135, 60, 215),
        85: (220, 80, 235),
        86: (255, 255, 0),
        87: (155, 210, 0),
        88: (215, 250, 130),
        89: (175, 250, 0),
        91: (0, 200, 20),
        93: (0, 120, 0),
        95: (180, 100, 50),
        96: (255, 120, 10),
        97: (200, 0, 0),
        98: (210, 215, 255),
        99: (235, 235, 235),
    }
)
OPEN_WATER_RGB: RGB = (150, 200, 255)
ICE_FREE_RGB: RGB = (0, 100, 255)
FAST_ICE_RGB: RGB = (150, 150, 150)
LAND_RGB: RGB = (225, 215, 195)
NO_DATA_RGB: RGB = (255, 255, 255)


#: Letters of classes on maps and in their legend, for reading without colour, by key.
LETTERS: Mapping[str, str] = MappingProxyType(
    {
        "new_ice": "N",
        "nilas": "Ni",
        "young_ice": "Y",
        "first_year_ice": "FY",
        "thin_first_year_ice": "tFY",
        "thick_first_year_ice": "kFY",
        "old_ice": "O",
        "open_water": "W",
        "ice": "I",
    }
)


@dataclass(frozen=True)
class IceClass:
    """One class of a legend: its id in rasters, a key for files, a title for people, a colour, its stage codes.

    `written_as` is the stage of development that draft charts write for the class. It holds for the whole class and is
    read back as the same class; 99, undetermined, where there is none.
    """

    id: int
    key: str
    title: str
    rgb: RGB
    stages: frozenset[int]
    written_as: int = 99


@dataclass(frozen=True)
class Legend:
    """A table of classes.

    Attributes
    ----------
    name
        Key of the table in :data:`LEGENDS`.
    title
        Title for people.
    classes
        The classes in the order of their ids, which run from 0.
    water
        Id of the class for polygons of water (POLY_TYPE W, or total concentration 00, 01).
    ignored_stages
        Known stage codes without a class in this legend; they become :data:`IGNORE`.
    stageless
        Class of an ice polygon that gives no stage of development; :data:`IGNORE` in legends that distinguish stages.
    """

    name: str
    title: str
    classes: tuple[IceClass, ...]
    water: int
    ignored_stages: frozenset[int]
    stageless: int = IGNORE

    def __post_init__(self) -> None:
        if [c.id for c in self.classes] != list(range(len(self.classes))):
            raise ConfigError(f"legend {self.name}: class ids must run from 0 without gaps")
        seen: set[int] = set(self.ignored_stages)
        for c in self.classes:
            twice = seen & c.stages
            if twice:
                raise ConfigError(f"legend {self.name}: stage codes {sorted(twice)} belong to two classes")
            seen |= c.stages
            if c.id != self.water and c.written_as not in c.stages:
                raise ConfigError(f"legend {self.name}: {c.key} has written_as {c.written_as}, not one of its stages")

    @property
    def stage_to_class(self) -> dict[int, int]:
        """Class id by stage code, ignored stages included as :data:`IGNORE`; other codes are unmapped."""
        table = {code: c.id for c in self.classes for code in c.stages}
        return table | dict.fromkeys(self.ignored_stages, IGNORE)

    @property
    def code_to_class(self) -> dict[int, int]:
        """Class id by code, for each of :data:`STAGE_CODES` that this legend covers; :data:`IGNORE` for no class.

        An entry of the legend for a code itself precedes the entry for the stage that the code means. Brash ice may be
        of any thickness.
        """
        table = self.stage_to_class
        further = {code: table[stage_of(code)] for code in (*THICKNESS_CM, RESIDUAL) if stage_of(code) in table}
        return further | {ICE_FREE: self.water, BRASH: self.stageless} | table

    @property
    def letters(self) -> dict[int, str]:
        """One to three letters or digits by class id, each different, for reading maps without colour."""
        words = {c.id: LETTERS.get(c.key) or c.title[:2] for c in self.classes}
        given = list(words.values())
        return {i: word if given.count(word) == 1 else str(i) for i, word in words.items()}

    @property
    def titles(self) -> dict[int, str]:
        """Title by class id."""
        return {c.id: c.title for c in self.classes}

    @property
    def colours(self) -> dict[int, RGB]:
        """Colour by class id."""
        return {c.id: c.rgb for c in self.classes}

    @property
    def by_thickness(self) -> tuple[int, ...]:
        """Class ids from water to the thickest ice.

        Classes of ice are ordered by their thickest stage of development. Stages without a known thickness do not
        count, unless a class has no other.
        """

        def thickest(c: IceClass) -> int:
            stages = map(stage_of, c.stages)
            return max((STAGES_BY_THICKNESS.index(s) for s in stages if s in STAGES_BY_THICKNESS), default=-1)

        ice = sorted((c for c in self.classes if c.id != self.water), key=thickest)
        return (self.water, *(c.id for c in ice))

    def __len__(self) -> int:
        return len(self.classes)


def _six(name: str, title: str, water_stages: frozenset[int], ignored: frozenset[int]) -> Legend:
    return Legend(
        name=name,
        title=title,
        classes=(
            IceClass(0, "new_ice", "New ice", STAGE_RGB[81], frozenset({81}), 81),
            IceClass(1, "nilas", "Nilas", STAGE_RGB[82], frozenset({82}), 82),
            IceClass(2, "young_ice", "Young ice", STAGE_RGB[83], frozenset({83, 84, 85}), 83),
            IceClass(3, "first_year_ice", "First-year ice", STAGE_RGB[86], frozenset({86, 87, 88, 89, 91, 93}), 86),
            IceClass(4, "old_ice", "Old ice", STAGE_RGB[95], frozenset({95, 96, 97}), 95),
            IceClass(5, "open_water", "Open water", OPEN_WATER_RGB, water_stages),
        ),
        water=5,
        ignored_stages=ignored,
    )


#: The six classes of the study, for any chart. Water follows from the polygon type; an undetermined stage has no class.
SIX_CLASSES = _six("six_classes", "Six ice types", frozenset(), frozenset({98, 99}))

#: The same classes for ExtremeEarth's charts, where water polygons have stage 99 and a few have stray codes of other
#: columns (13, 45, 78). This is a property of the dataset, not of the codes.
EXTREMEEARTH = _six("extremeearth", "ExtremeEarth V2, six ice types", frozenset({99, 13, 45, 78}), frozenset({98}))

ICE_WATER = Legend(
    name="ice_water",
    title="Ice and water",
    classes=(
        IceClass(0, "open_water", "Open water", OPEN_WATER_RGB, frozenset()),
        IceClass(1, "ice", "Ice", STAGE_RGB[86], frozenset(set(STAGES) - {80, 98})),
    ),
    water=0,
    ignored_stages=frozenset({98}),
    stageless=1,
)

AI4ARCTIC = Legend(
    name="ai4arctic",
    title="AI4Arctic stage of development",
    classes=(
        IceClass(0, "open_water", "Open water", OPEN_WATER_RGB, frozenset({80})),
        IceClass(1, "new_ice", "New ice", STAGE_RGB[81], frozenset({81, 82}), 81),
        IceClass(2, "young_ice", "Young ice", STAGE_RGB[83], frozenset({83, 84, 85}), 83),
        IceClass(3, "thin_first_year_ice", "Thin first-year ice", STAGE_RGB[87], frozenset({87, 88, 89}), 87),
        IceClass(4, "thick_first_year_ice", "Thick first-year ice", STAGE_RGB[93], frozenset({86, 91, 93}), 86),
        IceClass(5, "old_ice", "Old ice", STAGE_RGB[95], frozenset({95, 96, 97}), 95),
    ),
    water=0,
    ignored_stages=frozenset({98, 99}),
)

LEGENDS: Mapping[str, Legend] = MappingProxyType({x.name: x for x in (SIX_CLASSES, EXTREMEEARTH, ICE_WATER, AI4ARCTIC)})


def legend(name: str) -> Legend:
    """Return the legend with a name.

    Raises
    ------
    ConfigError
        If no legend has that name; the hint lists the known ones.
    """
    try:
        return LEGENDS[name]
    except KeyError:
        raise ConfigError(f"no legend is called {name!r}.", hint=known_names(name, LEGENDS)) from None
