"""The ExtremeEarth V2 dataset: its twelve scenes, their file names, their roles, and its columns.

N. Hughes and F. Amdal, ExtremeEarth Polar Use Case Training Data, 2021, DOI 10.5281/zenodo.4683174: ice charts drawn by
the Norwegian Ice Service for twelve Sentinel-1 EW scenes off East Greenland, one a month, 2018. The role of each scene
follows R. Pires de Lima, B. Vahedi, M. Karimzadeh, "Comparison of cross-entropy, Dice, and focal loss for sea ice
type segmentation", IGARSS 2023. The codes' classes are in :data:`floemap.legend.EXTREMEEARTH`.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from floemap.errors import ConfigError

Role = Literal["train", "validation", "test"]
Half = Literal["SW", "NE"]
What = Literal["products", "charts"]
EVERYTHING: tuple[What, ...] = ("products", "charts")

#: DOI of the charts.
DOI = "10.5281/zenodo.4683174"

#: The charts' CRS: polar stereographic, true at the pole, along the Greenwich meridian, WGS84.
CRS = "+proj=stere +lat_0=90 +lon_0=0 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"

#: Columns of the first release: two ice types per polygon; the column of the polygon type is in lower case.
COLUMNS_V1 = ("id", "CT", "CA", "SA", "FA", "CB", "SB", "FB", "poly_type", "area", "perimeter")

ALL_MONTHS = tuple(range(1, 13))
_TEST = (1, 7)
_SPLIT = (2, 6, 8, 12)


@dataclass(frozen=True)
class DatasetScene:
    """One of the twelve scenes: the radar product and the chart that was drawn on it.

    Attributes
    ----------
    month
        Month of 2018, 1 to 12; the scene's key within the dataset.
    product
        Name of the Sentinel-1 product, without suffix.
    """

    month: int
    product: str

    @property
    def mission(self) -> str:
        """S1A or S1B."""
        return self.product[:3]

    @property
    def start(self) -> str:
        """Start of the acquisition, UTC, in the format of the charts' names: 20180116t075430."""
        return self.product.split("_")[4].lower()

    @property
    def chart(self) -> str:
        """The chart's name, without suffix."""
        return f"seaice_s1_{self.start}"

    @property
    def title(self) -> str:
        """The month's name."""
        return calendar.month_name[self.month]


SCENES: tuple[DatasetScene, ...] = (
    DatasetScene(1, "S1A_EW_GRDM_1SDH_20180116T075430_20180116T075530_020177_0226B9_9FE3"),
    DatasetScene(2, "S1B_EW_GRDM_1SDH_20180213T175444_20180213T175544_009608_011511_8266"),
    DatasetScene(3, "S1A_EW_GRDM_1SDH_20180313T181225_20180313T181325_021000_0240E1_8163"),
    DatasetScene(4, "S1A_EW_GRDM_1SDH_20180417T074606_20180417T074706_021504_0250C3_D211"),
    DatasetScene(5, "S1B_EW_GRDM_1SDH_20180515T174633_20180515T174733_010935_01403A_A84D"),
    DatasetScene(6, "S1A_EW_GRDM_1SDH_20180612T180423_20180612T180523_022327_026AB3_AC33"),
    DatasetScene(7, "S1A_EW_GRDM_1SDH_20180717T073809_20180717T073909_022831_0279B9_EBF1"),
    DatasetScene(8, "S1B_EW_GRDM_1SDH_20180814T075344_20180814T075444_012256_016952_B1DC"),
    DatasetScene(9, "S1A_EW_GRDM_1SDH_20180911T175548_20180911T175652_023654_0293F5_7CA2"),
    DatasetScene(10, "S1A_EW_GRDM_1SDH_20181016T072958_20181016T073058_024158_02A460_DA8F"),
    DatasetScene(11, "S1B_EW_GRDM_1SDH_20181113T074529_20181113T074629_013583_019254_D382"),
    DatasetScene(12, "S1A_EW_GRDM_1SDH_20181218T075437_20181218T075537_025077_02C472_1DB2"),
)


@dataclass(frozen=True)
class Part:
    """A scene, or one half of it, and its role.

    Attributes
    ----------
    scene
        The scene.
    half
        SW or NE (:mod:`floemap.datasets.extremeearth.split_halves`), or None for the whole scene.
    role
        Whether models are trained, validated or tested on it.
    """

    scene: DatasetScene
    half: Half | None
    role: Role

    @property
    def name(self) -> str:
        """Name of the part, such as ``02-NE`` or ``07``; unique."""
        return f"{self.scene.month:02d}" + (f"-{self.half}" if self.half else "")


def _parts() -> tuple[Part, ...]:
    parts: list[Part] = []
    for scene in SCENES:
        if scene.month in _SPLIT:
            parts += [Part(scene, "SW", "train"), Part(scene, "NE", "validation")]
        else:
            parts.append(Part(scene, None, "test" if scene.month in _TEST else "train"))
    return tuple(parts)


#: The published protocol: January and July whole for testing, the north-eastern halves of February, June, August and
#: December for validation, everything else for training.
PARTS: tuple[Part, ...] = _parts()


def scene_of(month: int) -> DatasetScene:
    """Return the scene of a month.

    Raises
    ------
    ConfigError
        If `month` is not 1 to 12.
    """
    check_months([month])
    return SCENES[month - 1]


def check_months(months: Iterable[int]) -> tuple[int, ...]:
    """Return `months` in order, each once.

    Raises
    ------
    ConfigError
        If `months` is empty, or one is not 1 to 12.
    """
    chosen = tuple(sorted(set(months)))
    wrong = [m for m in chosen if m not in ALL_MONTHS]
    if wrong or not chosen:
        raise ConfigError(f"months are {list(wrong or chosen)}.", hint="Months are numbers from 1 to 12, at least one.")
    return chosen


def months_from_text(text: str) -> tuple[int, ...]:
    """Read months from text such as ``1,7`` or ``2-4,12`` or ``all``.

    Raises
    ------
    ConfigError
        If the text is in another form, or a month is not 1 to 12.
    """
    if text.strip().lower() == "all":
        return ALL_MONTHS
    months: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,2})\s*(?:-\s*(\d{1,2})\s*)?", word)
        if match is None:
            raise ConfigError(f"months are {text!r}.", hint='Write them as in "1,7" or "2-4,12" or "all".')
        first, last = int(match[1]), int(match[2] or match[1])
        months += range(first, last + 1)
        if last < first:
            raise ConfigError(f"months are {text!r}, where {last} is before {first}.")
    return check_months(months)


def scene_of_product(name: str) -> DatasetScene | None:
    """Return the scene that a product's name belongs to, by mission and start; None for any other product.

    A product of the same acquisition may have another ending, if it was reprocessed or is a COG. It is the same scene.
    """
    match = re.match(r"(S1[A-D])_EW_GRDM_1SDH_(\d{8}T\d{6})_", name, re.IGNORECASE)
    if match is None:
        return None
    key = match[1].upper(), match[2].lower()
    return next((s for s in SCENES if (s.mission, s.start) == key), None)


def scene_of_chart(name: str) -> DatasetScene | None:
    """Return the scene that a chart's file name belongs to, with or without suffix; None for any other file."""
    stem = name.lower().rsplit(".", 1)[0] if "." in name else name.lower()
    return next((s for s in SCENES if s.chart == stem), None)
