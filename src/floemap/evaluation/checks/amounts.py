"""Amounts: areas, lengths and counts that add over blocks and scenes. Ratios are computed from their sums only.

Sums over scenes do not depend on the order of the scenes: integers add exactly, and other numbers are summed without
intermediate rounding (Shewchuk's algorithm, ``math.fsum``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError, FloemapError
from floemap.evaluation.checks.measures import Measure

#: Amounts by name, each (blocks, ...).
Blocks = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Amounts:
    """Base class of each check's amounts: numbers and arrays that add, and settings that must be equal.

    One-dimensional arrays are histograms. They may differ in length; missing bins count as 0.
    """

    #: Fields that record how the amounts were measured. Only amounts with equal settings can be added.
    SETTINGS: ClassVar[tuple[str, ...]] = ()
    #: Fields that are integers for a scene, though a block may hold a fraction.
    WHOLE: ClassVar[tuple[str, ...]] = ()
    #: Numbers of the check that tables show.
    MEASURES: ClassVar[tuple[Measure, ...]] = ()

    @classmethod
    def additive(cls) -> tuple[str, ...]:
        """Return the names of the fields that add, which are all but the settings."""
        return tuple(f.name for f in fields(cls) if f.name not in cls.SETTINGS)

    @classmethod
    def total(cls, parts: Sequence[Self]) -> Self:
        """Return the sum of one or more amounts.

        Raises
        ------
        ConfigError
            If `parts` is empty, or the amounts were measured with different settings.
        """
        if not parts:
            raise ConfigError(f"there are no {cls.__name__} to add.")
        added: dict[str, Any] = {}
        for f in fields(cls):
            values = [getattr(p, f.name) for p in parts]
            if f.name in cls.SETTINGS:
                if any(v != values[0] for v in values):
                    found = ", ".join(sorted({repr(v) for v in values}))
                    raise ConfigError(f"{cls.__name__} of different {f.name} cannot be added: {found}.")
                added[f.name] = values[0]
            elif isinstance(values[0], np.ndarray):
                added[f.name] = _array_sum(values)
            else:
                added[f.name] = _sum(values)
        return cls(**added)

    def __add__(self, other: Self) -> Self:
        return self.total([self, other])

    def to_json(self) -> dict[str, Any]:
        """Return all fields, JSON-ready; :meth:`from_json` reads them."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Read the record that :meth:`to_json` returns.

        Raises
        ------
        FloemapError
            If fields are missing or unknown.
        """
        names = {f.name for f in fields(cls)}
        if set(content) != names:
            wrong = ", ".join(sorted(names ^ set(content)))
            raise FloemapError(f"is not a record of {cls.__name__}: fields missing or unknown: {wrong}.")
        read: dict[str, Any] = {}
        for f in fields(cls):
            value = content[f.name]
            if isinstance(value, list):
                value = tuple(value) if f.name in cls.SETTINGS else np.array(value)
            read[f.name] = value
        return cls(**read)

    def values(self) -> dict[str, Any]:
        """Return the areas, lengths, shares and ratios that people read, JSON-ready; None where one is undefined."""
        raise NotImplementedError


A = TypeVar("A", bound=Amounts)


@dataclass(frozen=True, eq=False)
class ByBlock(Generic[A]):
    """A scene's amounts by block. The amount of a pixel belongs to the block that contains the pixel.

    Attributes
    ----------
    kind
        Class of the amounts.
    settings
        The fields of `kind` that do not add: how the amounts were measured.
    amounts
        Amounts by the name of the field, each (blocks, ...). Their sum over blocks is the scene's amount.
    """

    kind: type[A]
    settings: Mapping[str, Any]
    amounts: Blocks

    def scene(self) -> A:
        """Return the whole scene's amounts."""
        totals: dict[str, Any] = {}
        for name, values in self.amounts.items():
            total = values.sum(axis=0)
            if name in self.kind.WHOLE:
                total = np.rint(total).astype(np.int64)
            totals[name] = total if total.ndim else total.item()
        return self.kind(**self.settings, **totals)

    def values(self) -> dict[str, Any]:
        """Return the scene's values, as :meth:`Amounts.values`."""
        return self.scene().values()

    def to_json(self) -> dict[str, Any]:
        """Return the scene's amounts, as :meth:`Amounts.to_json`."""
        return self.scene().to_json()


def _sum(values: Sequence[Any]) -> int | float:
    return sum(values) if all(isinstance(v, int) for v in values) else math.fsum(values)


def _array_sum(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    longest = max(arrays, key=lambda a: a.size)
    if longest.ndim == 1:
        arrays = [np.pad(a, (0, len(longest) - len(a))) for a in arrays]
    if all(a.dtype.kind in "iu" for a in arrays):
        return np.asarray(np.sum(arrays, axis=0, dtype=np.int64))
    columns = np.stack([a.ravel() for a in arrays], axis=1)
    return np.array([math.fsum(c) for c in columns]).reshape(longest.shape)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def ratio(part: float, whole: float) -> float | None:
    """Return part / whole; None if the whole is 0."""
    return float(part / whole) if whole else None


def difference(a: float | None, b: float | None) -> float | None:
    """Return a - b; None if one of them is undefined."""
    return None if a is None or b is None else a - b
