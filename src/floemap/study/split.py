"""Splitting scenes into parts for training, validation and test, before any training.

A part is a scene or one half of it, with a name such as ``03``, ``02-SW``, ``02-NE``. Parts with different uses must
not show the same ice, that is, the same ground within about a day.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from floemap.cog import Band, open_raster, read_geobox, write_cog
from floemap.datasets.ai4arctic.scenes import by_name, held_orbits
from floemap.datasets.base import Role
from floemap.datasets.extremeearth.scenes import Half
from floemap.datasets.extremeearth.split_halves import Cut, half_mask, halves
from floemap.datasets.registry import DATASETS
from floemap.errors import ConfigError, TrainingError
from floemap.learning.data.parts import ScenePart, Window
from floemap.legend import IGNORE, Legend
from floemap.results.folders import made_of, stage_folder
from floemap.results.seen import found_out
from floemap.results.stage import Stage, is_finished, provenance, write_json
from floemap.study.scene import StudyScene
from floemap.study.settings import SplitSettings

logger = logging.getLogger(__name__)

#: Raise the revision when the halves of scenes change.
STAGE = Stage("floemap split", "part.json", revision=0, files=("mask.tif",))

ROLES: tuple[Role, ...] = ("train", "validation", "test")
#: Tolerated overlap: the outlines of parts have a finite number of points.
_TOUCHING_KM2 = 1.0


@dataclass(frozen=True)
class Share:
    """A part and its use."""

    scene: StudyScene
    half: Half | None
    role: Role

    @property
    def name(self) -> str:
        """Name of the part, such as ``02-NE`` or ``07``."""
        return self.scene.name + (f"-{self.half}" if self.half else "")


def published_roles(names: Sequence[str]) -> dict[str, Role]:
    """Return the use of each part in the published protocol, for the scenes in `names`."""
    return DATASETS["extremeearth"].roles(names)


def share_out(
    settings: SplitSettings, scenes: Sequence[StudyScene], needed: Sequence[Role] = ROLES
) -> tuple[Share, ...]:
    """Assign a use to each part.

    Parameters
    ----------
    settings
        Settings of the split. "leave_one_out" needs the name of a scene in `held_out`.
    scenes
        All scenes of the study.
    needed
        Uses that must have a part.

    Returns
    -------
    The parts, in order of use and name. Scenes that the settings leave out have no part.

    Raises
    ------
    ConfigError
        If a name is unknown or used twice, a needed use has no part, or parts with different uses overlap.
    """
    by_name = {s.name: s for s in scenes}
    shares = []
    for part, role in checked_roles(settings, tuple(by_name), needed).items():
        name, half = _scene_and_half(part, by_name)
        shares.append(Share(by_name[name], half, role))
    _refuse_same_product([s for s in shares if s.role == "test"])
    if settings.kind == "official":  # the lists are what others are compared by
        for name, others in shared_orbits(shares).items():
            logger.warning("test scene %s shares its orbit with %s, which is learnt from", name, ", ".join(others))
    else:
        refuse_overlap(shares, settings)
    return tuple(sorted(shares, key=lambda s: (ROLES.index(s.role), s.name)))


def shared_orbits(shares: Sequence[Share]) -> dict[str, list[str]]:
    """Return the test scenes of AI4Arctic that lie on one track with scenes for training or validation, and these."""
    tests, others = ([s.scene.name for s in shares if (s.role == "test") == test] for test in (True, False))
    return DATASETS["ai4arctic"].neighbours(tests, others)


def roles_of(settings: SplitSettings, names: tuple[str, ...]) -> dict[str, Role]:
    """Return the use of each part, by its name, without reading any scene.

    Raises
    ------
    ConfigError
        If a part is named twice, or the held-out scene is unknown.
    """
    if settings.kind == "published":
        return published_roles(names)
    if settings.kind == "official":
        return DATASETS["ai4arctic"].roles(names, settings.validation)
    if settings.kind == "leave_one_out":
        return _leave_one_out(settings, names) if settings.by == "scene" else _leave_one_group_out(settings, names)
    roles: dict[str, Role] = {}
    for role, parts in zip(ROLES, (settings.training, settings.validation, settings.test), strict=True):
        for part in parts:
            if part in roles:
                raise ConfigError(f"the split names {part} twice.")
            roles[part] = role
    return roles


def checked_roles(settings: SplitSettings, names: tuple[str, ...], needed: Sequence[Role] = ROLES) -> dict[str, Role]:
    """Return the use of each part, by its name, without reading any scene; see :func:`share_out`.

    Raises
    ------
    ConfigError
        As :func:`roles_of` does, if a part is neither a scene nor half of one, or if a needed use has no part.
    """
    roles = roles_of(settings, names)
    for part in roles:
        _scene_and_half(part, names)
    for role in needed:
        if role not in roles.values():
            raise ConfigError(
                f"the split leaves no scene for {role}; the scenes are {', '.join(names)}.",
                hint="Add scenes, or choose another [split].",
            )
    return roles


def _leave_one_out(settings: SplitSettings, names: tuple[str, ...]) -> dict[str, Role]:
    if settings.held_out not in names:
        raise ConfigError(f"the split holds out {settings.held_out!r}; the scenes are {', '.join(names)}.")
    given = settings.validation or [p for p, role in published_roles(names).items() if role == "validation"]
    validation = [p for p in given if p.rpartition("-")[0] != settings.held_out and p != settings.held_out]
    roles: dict[str, Role] = {settings.held_out: "test"}
    roles.update(dict.fromkeys(validation, "validation"))
    for name in names:
        if name == settings.held_out or name in validation:
            continue
        used = [half for half in ("SW", "NE") if f"{name}-{half}" in validation]
        if len(used) == 1:
            roles[f"{name}-{'SW' if used == ['NE'] else 'NE'}"] = "train"
        elif not used:
            roles[name] = "train"
    return roles


def held_out(settings: SplitSettings, names: Sequence[str]) -> tuple[str, ...]:
    """Return what leave_one_out holds out, one after the other: the scenes, or groups of them.

    Raises
    ------
    ConfigError
        If the scenes have no such groups, or all are in one.
    """
    return tuple(names) if settings.by == "scene" else tuple(_groups(settings, names))


def _groups(settings: SplitSettings, names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    if settings.by == "groups":
        return _folds(settings)
    groups = DATASETS["ai4arctic"].groups(settings.by, names)
    if len(groups) < 2:
        raise ConfigError(
            f"[split] by is {settings.by!r}, and the scenes at hand are of {len(groups) or 'no'} such group.",
            hint='Groups are known of the scenes of AI4Arctic; by = "scene" works for all.',
        )
    return groups


def _folds(settings: SplitSettings) -> Mapping[str, tuple[str, ...]]:
    """Return the groups of the settings, or the folds that they are dealt into."""
    groups = settings.groups
    if len(groups) < (settings.folds or 2):
        raise ConfigError(
            f"[split] has {len(groups)} groups for {settings.folds or 2} folds.",
            hint="Give more groups, or fewer folds.",
        )
    if settings.folds is None:
        return groups
    dealt = [[groups[g] for g in list(groups)[i :: settings.folds]] for i in range(settings.folds)]
    return {f"fold{i}": tuple(name for group in fold for name in group) for i, fold in enumerate(dealt, 1)}


def _every_eighth_group(settings: SplitSettings, learnt: Sequence[str]) -> set[str]:
    """Return the scenes of every eighth group of those that are left, the first one included."""
    left = [group for group in settings.groups.values() if set(group) & set(learnt)]
    if len(left) < 2:
        raise ConfigError(
            f"{settings.held_out}: the split leaves {len(left)} groups for training and validation.",
            hint="Give [split] validation, or more groups.",
        )
    return {name for group in left[::8] for name in group}


def _leave_one_group_out(settings: SplitSettings, names: Sequence[str]) -> dict[str, Role]:
    """Return the roles for a held-out group: scenes that share an orbit with its scenes are left out of the others."""
    groups = _groups(settings, names)
    if settings.held_out not in groups:
        raise ConfigError(f"the split holds out {settings.held_out!r}; the groups are {', '.join(groups)}.")
    tests = groups[settings.held_out]
    if odd := [n for n in tests if n not in names]:
        raise ConfigError(f"[split.groups] {settings.held_out} names {odd[0]}, which is not a scene of the study.")
    rest = [n for n in names if n not in tests]
    beside = DATASETS["ai4arctic"].neighbours(rest, tests)
    learnt = [n for n in rest if n not in beside]
    if beside:
        logger.info("%s: left out beside its orbits: %s", settings.held_out, ", ".join(beside))
    if odd := [n for n in settings.validation if n not in learnt]:
        raise ConfigError(f"[split] validation names {odd[0]}, which is not among the scenes to learn from.")
    if settings.by == "groups":
        held = set(settings.validation) or _every_eighth_group(settings, learnt)
    else:
        held = set(settings.validation) or held_orbits([by_name()[n][0] for n in learnt if n in by_name()])
    roles: dict[str, Role] = dict.fromkeys(tests, "test")
    return roles | {n: "validation" if n in held else "train" for n in learnt}


def _scene_and_half(part: str, scenes: Collection[str]) -> tuple[str, Half | None]:
    """Return the scene of a part, and its half."""
    if part in scenes:
        return part, None
    name, _, half = part.rpartition("-")
    if name in scenes and half in ("SW", "NE"):
        return name, half  # type: ignore[return-value]
    raise ConfigError(
        f"the split names {part!r}, which is neither a scene nor half of one.",
        hint=f"Scenes: {', '.join(scenes)}; halves: NAME-SW and NAME-NE.",
    )


def _refuse_same_product(tests: Sequence[Share]) -> None:
    """Refuse to test one product under two names, as with charts of two analysts: results are stored by product."""
    by_product: dict[str, Share] = {}
    for share in tests:
        other = by_product.setdefault(share.scene.product.name, share)
        if other.scene.name != share.scene.name:
            raise ConfigError(
                f"the test scenes {other.name} and {share.name} are the same product, {share.scene.product.name}.",
                hint="Make a study for each chart.",
            )


def refuse_overlap(shares: Sequence[Share], settings: SplitSettings) -> None:
    """Raise :class:`ConfigError` if two parts with different uses show the same ice."""
    outlines = functools.cache(lambda i: _outline(shares[i], settings.cut))
    for i, j in sorted(_near_in_time(shares, settings.same_ice_hours)):
        a, b = shares[i], shares[j]
        if outlines(i)["northern"] != outlines(j)["northern"]:
            continue
        shared_km2 = shapely.intersection(outlines(i)["polygon"], outlines(j)["polygon"]).area / 1e6
        if shared_km2 > _TOUCHING_KM2:
            hours = abs((a.scene.start - b.scene.start).total_seconds()) / 3600
            raise ConfigError(
                f"{a.name} ({a.role}) and {b.name} ({b.role}) share {shared_km2:,.0f} km2 of the same ice, "
                f"seen within {hours:.1f} hours.",
                hint="Give them the same use, or use one half of each (NAME-SW, NAME-NE).",
            )


def _near_in_time(shares: Sequence[Share], hours: float) -> Iterator[tuple[int, int]]:
    """Give the indices of each two parts with different uses that were seen within so many hours of each other."""
    order = sorted(range(len(shares)), key=lambda i: shares[i].scene.start)
    for at, i in enumerate(order):
        for j in order[at + 1 :]:
            if (shares[j].scene.start - shares[i].scene.start).total_seconds() > hours * 3600:
                break
            if shares[i].role != shares[j].role:
                yield min(i, j), max(i, j)


def _outline(share: Share, cut: Cut) -> dict[str, Any]:
    footprint = share.scene.footprint
    northern = bool(footprint.edge_lonlat_deg[:, 1].mean() > 0)
    pole = 90 if northern else -90
    parts = halves(footprint, f"+proj=laea +lat_0={pole} +lon_0=0 +datum=WGS84 +units=m", cut=cut)
    polygon = shapely.union_all(list(parts.values())) if share.half is None else parts[share.half]
    return {"polygon": polygon, "northern": northern}


def make_part(share: Share, out: Path, cut: Cut) -> ScenePart:
    """Return a part for training. For half a scene, write its mask to ``out/<name>/mask.tif`` first.

    Raises
    ------
    GridError
        If the footprint cannot be halved on the product's grid.
    OutputError
        If the mask cannot be written.
    """
    scene = share.scene
    if share.half is None:
        return ScenePart(share.name, scene.raster, scene.label_raster, bands=scene.bands)
    folder = out / (share.name if cut == "sides" else f"{share.name}-{cut}")
    inputs = {"product": scene.product.name, "sha256": scene.hashes["product.tif"]}
    configuration = {"half": share.half, "cut": cut}
    if not is_finished(folder, STAGE, ("mask.tif",), inputs=inputs, configuration=configuration):
        geobox = read_geobox(scene.raster)
        mask = half_mask(geobox, scene.footprint, share.half, cut=cut)
        with stage_folder(folder, STAGE) as partial:
            band = Band("inside", description=f"1 in the {share.half} half of the scene", overview="nearest")
            write_cog(partial / "mask.tif", geobox, mask.astype(np.uint8), [band], nodata=None)
            record = provenance(STAGE, inputs=inputs, configuration=configuration)
            write_json(partial / STAGE.record, record | {"window": _window(mask), "bytes": made_of(partial)})
    made = folder / "mask.tif"
    row, col, rows, cols = found_out("window", [made], lambda: list(_window(_read(made) > 0)))
    return ScenePart(share.name, scene.raster, scene.label_raster, made, (row, col, rows, cols), bands=scene.bands)


def _read(raster: Path) -> NDArray[Any]:
    with open_raster(raster) as d:
        return np.asarray(d.read(1))


def _window(inside: NDArray[np.bool_]) -> Window:
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        raise TrainingError("half of the scene lies outside the grid of the product.")
    return int(rows[0]), int(cols[0]), int(rows[-1] - rows[0] + 1), int(cols[-1] - cols[0] + 1)


def label_counts(part: ScenePart, legend: Legend) -> dict[str, int]:
    """Return the number of labelled pixels of each class in a part, by class key.

    Raises
    ------
    TrainingError
        If the part has no labelled pixel.
    """
    files = [part.labels, *([] if part.mask is None else [part.mask])]
    counts = found_out("label counts", files, lambda: _counts(part))
    if not any(counts[: len(legend)]):
        raise TrainingError(
            f"part {part.name} has no labelled pixel.", path=part.labels, hint="Leave it out of the split."
        )
    return {c.key: int(counts[c.id]) for c in legend.classes}


def _counts(part: ScenePart) -> list[int]:
    """Return the number of pixels of each label value, 256 of them."""
    labels = _read(part.labels)
    if part.mask is not None:
        labels[_read(part.mask) == 0] = IGNORE
    return [int(n) for n in np.bincount(labels.ravel(), minlength=256)]


@dataclass(frozen=True)
class Split:
    """A split with its parts on disk.

    Attributes
    ----------
    shares, parts
        The parts, with their use and as files, in the same order.
    record
        Description of the split, which is written to ``split.json``.
    """

    shares: tuple[Share, ...]
    parts: tuple[ScenePart, ...]
    record: dict[str, Any]

    def of(self, role: Literal["train", "validation", "test"]) -> tuple[ScenePart, ...]:
        """Return the parts with a use."""
        return tuple(p for p, s in zip(self.parts, self.shares, strict=True) if s.role == role)

    @property
    def tests(self) -> tuple[tuple[Share, ScenePart], ...]:
        """The test parts."""
        return tuple((s, p) for s, p in zip(self.shares, self.parts, strict=True) if s.role == "test")


def make_split(
    settings: SplitSettings,
    scenes: Sequence[StudyScene],
    legend: Legend,
    out: Path,
    needed: Sequence[Role] = ROLES,
) -> Split:
    """Split the scenes, write the masks of halves into `out`, and count the labels of each part.

    Raises
    ------
    ConfigError, TrainingError
        See :func:`share_out` and :func:`label_counts`.
    """
    shares = share_out(settings, scenes, needed)
    parts = tuple(make_part(s, out, settings.cut) for s in shares)
    listed = [
        {"name": s.name, "role": s.role, "half": s.half, "labels": label_counts(p, legend)} | {"scene": s.scene.about()}
        for s, p in zip(shares, parts, strict=True)
    ]
    record: dict[str, Any] = {"settings": settings.model_dump(mode="json"), "parts": listed}
    if settings.kind == "official" or settings.by != "scene":
        record["shared_orbits"] = shared_orbits(shares)
    return Split(shares, parts, record)
