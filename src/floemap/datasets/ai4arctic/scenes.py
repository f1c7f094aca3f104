"""The scenes of AI4Arctic: their names, their official use, and what follows from the names.

Each is a chart of an ice service on a Sentinel-1 product. Two products were charted by both services, and so are two
scenes each.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Literal

from floemap.datasets.ai4arctic.form import Kind
from floemap.errors import ConfigError

Service = Literal["dmi", "cis"]
Use = Literal["train", "test"]

_PRODUCT = r"S1[AB]_EW_GRDM_1SDH_(?P<start>\d{8}T\d{6})_\d{8}T\d{6}_(?P<orbit>\d{6})_[0-9A-F]{6}_[0-9A-F]{4}"
_CHART = r"cis_(?P<cis>[A-Z]+)_\d{8}T\d{4}Z_pl_a|dmi_\d{12}_(?P<dmi>[A-Za-z]+)_RIC"
_RAW = re.compile(rf"(?P<product>{_PRODUCT})_icechart_(?P<chart>{_CHART})(?:_testdata)?")
_READY = re.compile(r"(?P<start>\d{8}T\d{6})_(?P<service>dmi|cis)_prep(?P<reference>_reference)?")
#: Begins the names of simulated files, so that none has the name of a real one.
SIMULATED = "SIMULATED_"

#: Groups of charted regions that neighbour each other (IceBench's), by the region's name in charts.
GROUPS: Mapping[str, int] = {
    **dict.fromkeys(("CapeFarewell", "CentralEast", "NorthAndCentralEast", "NorthEast", "SouthEast", "SGRDIWA"), 1),
    **dict.fromkeys(("CentralWest", "NorthWest", "Qaanaaq", "SGRDIFOXE", "SouthWest"), 2),
    **dict.fromkeys(("SGRDIEA", "SGRDIHA", "SGRDIMID", "SGRDINFLD"), 3),
    "North": 4,
}


@dataclass(frozen=True)
class Ai4Scene:
    """A scene of the dataset.

    Attributes
    ----------
    product
        Name of the Sentinel-1 product, without suffix.
    chart
        Name of the ice chart, such as ``dmi_201806071840_CentralEast_RIC``.
    """

    product: str
    chart: str

    @property
    def service(self) -> Service:
        """The ice service that drew the chart: dmi or cis."""
        return "cis" if self.chart.startswith("cis") else "dmi"

    @property
    def region(self) -> str:
        """The charted region, by the ice service's name for it."""
        return self.chart.split("_")[1 if self.service == "cis" else 2]

    @property
    def group(self) -> int | None:
        """Number of the group of neighbouring regions, 1 to 4; None for other regions."""
        return GROUPS.get(self.region)

    @property
    def mission(self) -> str:
        """S1A or S1B."""
        return self.product[:3]

    @property
    def start(self) -> datetime:
        """Start of the acquisition, UTC."""
        return datetime.strptime(self.product.split("_")[4], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)

    @property
    def season(self) -> str:
        """The season of the northern hemisphere by months: winter is December to February."""
        return ("winter", "spring", "summer", "autumn")[self.start.month % 12 // 3]

    @property
    def stop(self) -> datetime:
        """End of the acquisition, UTC."""
        return datetime.strptime(self.product.split("_")[5], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)

    @property
    def orbit(self) -> tuple[str, int]:
        """Mission and absolute orbit: scenes that share them are neighbours along one track."""
        return self.mission, int(self.product.split("_")[6])

    @property
    def name(self) -> str:
        """Name of the scene: start and ice service, as in the names of ready-to-train files."""
        return f"{self.product.split('_')[4]}_{self.service}"

    @property
    def raw(self) -> str:
        """Name of the raw file."""
        return f"{self.product}_icechart_{self.chart}.nc"

    @property
    def ready(self) -> str:
        """Name of the ready-to-train file."""
        return f"{self.name}_prep.nc"

    @property
    def reference(self) -> str:
        """Name of the file with the charts of a test scene, whose ready-to-train file has none."""
        return f"{self.name}_prep_reference.nc"


@dataclass(frozen=True)
class FileName:
    """What the name of a file says.

    Attributes
    ----------
    kind
        "ready" or "raw".
    name
        Name of the scene, as :attr:`Ai4Scene.name`.
    scene
        The scene, if the name gives all of it or it is one of the dataset's.
    reference
        Whether the file has the charts of a test scene.
    simulated
        Whether the name is that of a simulated file.
    """

    kind: Kind
    name: str
    scene: Ai4Scene | None
    reference: bool = False
    simulated: bool = False


@cache
def official() -> Mapping[Use, tuple[Ai4Scene, ...]]:
    """Return the scenes of the official lists, 512 for training and 20 for test, by use."""
    lists: dict[Use, list[Ai4Scene]] = {"train": [], "test": []}
    use: Use = "test"
    for line in files(__package__).joinpath("scenes.txt").read_text(encoding="ascii").splitlines():
        if line in ("train", "test"):
            use = "train" if line == "train" else "test"
        elif not line.startswith("#"):
            lists[use].append(Ai4Scene(*line.split()))
    return {key: tuple(scenes) for key, scenes in lists.items()}


@cache
def by_name() -> Mapping[str, tuple[Ai4Scene, Use]]:
    """Return the scenes of the official lists and their use, by name."""
    return {s.name: (s, use) for use, scenes in official().items() for s in scenes}


def parse_name(file: str) -> FileName | None:
    """Return what the name of a file says; None if it is not that of a file of the dataset, real or simulated."""
    stem = file.removesuffix(".nc")
    simulated = stem.startswith(SIMULATED)
    stem = stem.removeprefix(SIMULATED)
    if match := _RAW.fullmatch(stem):
        scene = Ai4Scene(match["product"], match["chart"])
        return FileName("raw", scene.name, scene, simulated=simulated)
    if match := _READY.fullmatch(stem):
        name = f"{match['start']}_{match['service']}"
        known = by_name().get(name)
        return FileName("ready", name, known[0] if known else None, bool(match["reference"]), simulated)
    return None


def charted_twice(scenes: Iterable[Ai4Scene]) -> tuple[tuple[Ai4Scene, Ai4Scene], ...]:
    """Return the pairs of scenes of one product, which two ice services have charted, in order of the products."""
    products: dict[str, list[Ai4Scene]] = defaultdict(list)
    for scene in scenes:
        products[scene.product].append(scene)
    pairs = [sorted(s, key=lambda x: x.service) for _, s in sorted(products.items()) if len(s) == 2]
    return tuple((a, b) for a, b in pairs)


def sharing_orbits(some: Iterable[Ai4Scene], others: Iterable[Ai4Scene]) -> tuple[Ai4Scene, ...]:
    """Return the scenes among `some` that share an orbit with one of the `others`, and so show neighbouring ice."""
    orbits = {s.orbit for s in others}
    return tuple(s for s in some if s.orbit in orbits)


#: Numbers of parts that all orbits are divided into, to hold out one after the other.
ORBIT_FOLDS = 5
#: Parts of validation scenes: every eighth orbit.
_EVERY = 8


def groups_by(by: str, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return scenes of the dataset by groups that a split may hold out whole; {} for other kinds of groups.

    Parameters
    ----------
    by
        "orbit": fold1 to fold5, of every fifth orbit in order of time. "region": region1 to region4, groups of
        neighbouring regions (:data:`GROUPS`). "season": winter, spring, summer, autumn.
    names
        Names of the scenes at hand. Others than the dataset's are in no group.
    """
    known = [by_name()[n][0] for n in names if n in by_name()]
    orbits = sorted({s.orbit: s.start for s in known}.items(), key=lambda o: (o[1], o[0]))
    fold = {orbit: f"fold{1 + i % ORBIT_FOLDS}" for i, (orbit, _) in enumerate(orbits)}
    groups: dict[str, list[str]] = defaultdict(list)
    for scene in known:
        group = {
            "orbit": fold[scene.orbit],
            "region": "" if scene.group is None else f"region{scene.group}",
            "season": scene.season,
        }.get(by, "")
        if group:
            groups[group].append(scene.name)
    return {group: tuple(groups[group]) for group in sorted(groups)}


def held_orbits(scenes: Sequence[Ai4Scene]) -> set[str]:
    """Return the names of the scenes on every eighth orbit, in order of the month: for validation.

    No scene is so validated beside one of the same orbit that is learnt from.
    """
    orbits = sorted({s.orbit: s.start.month for s in reversed(scenes)}.items(), key=lambda o: (o[1], o[0]))
    chosen = {orbit for orbit, _ in orbits[len(orbits) % _EVERY // 2 :: _EVERY]} if len(orbits) > 1 else set()
    return {s.name for s in scenes if s.orbit in chosen}


def official_roles(
    names: Sequence[str], validation: Sequence[str] = ()
) -> dict[str, Literal["train", "validation", "test"]]:
    """Return the use of scenes by the official lists, of which a part of the training list is for validation.

    Parameters
    ----------
    names
        Names of the scenes at hand.
    validation
        Names of the scenes for validation. By default every eighth orbit of the training scenes, in order of the month,
        so that no scene is validated beside one of the same orbit that is learnt from.

    Raises
    ------
    ConfigError
        If a name is not that of a scene of the dataset, or a scene for validation is not one for training.
    """
    known = by_name()
    if other := [n for n in names if n not in known]:
        hint = "Choose another kind of [split] for other scenes."
        raise ConfigError(f"{other[0]} is not a scene of the lists of AI4Arctic.", hint=hint)
    training = [known[n][0] for n in names if known[n][1] == "train"]
    if odd := [n for n in validation if n not in {s.name for s in training}]:
        raise ConfigError(f"[split] validation names {odd[0]}, which is not a scene of the training list at hand.")
    held = set(validation) or held_orbits(training)
    return {n: "validation" if n in held else known[n][1] for n in names}
