"""Amounts: areas, lengths and counts that add over blocks and scenes. Ratios are made of them at the end, never before.

Adding scenes is exact and does not depend on the order: whole numbers add as such, others are summed without rounding
in between (Shewchuk's algorithm, ``math.fsum``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError, FloemapError

#: By name of an amount: (blocks, ...).
Blocks = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Amounts:
    """Base of each check's amounts: numbers and arrays that add, and settings that must agree.

    One-dimensional arrays may differ in length: they are histograms, and what one lacks is 0.
    """

    #: Fields that say how the amounts were measured: they must be equal in all that are added.
    SETTINGS: ClassVar[tuple[str, ...]] = ()
    #: Fields that are whole numbers of a scene, though a block may have a part of one.
    WHOLE: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def additive(cls) -> tuple[str, ...]:
        """Return the names of the amounts that add; the other fields say how they were measured."""
        return tuple(f.name for f in fields(cls) if f.name not in cls.SETTINGS)

    @classmethod
    def total(cls, parts: Sequence[Self]) -> Self:
        """Return the sum of one or more.

        Raises
        ------
        ConfigError
            If there is none, or they were measured with different settings.
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
        """Read what :meth:`to_json` gave.

        Raises
        ------
        FloemapError
            If fields are missing or unknown.
        """
        names = {f.name for f in fields(cls)}
        if set(content) != names:
            wrong = ", ".join(sorted(names ^ set(content)))
            raise FloemapError(f"is no record of {cls.__name__}: fields missing or unknown: {wrong}.")
        read: dict[str, Any] = {}
        for f in fields(cls):
            value = content[f.name]
            if isinstance(value, list):
                value = tuple(value) if f.name in cls.SETTINGS else np.array(value)
            read[f.name] = value
        return cls(**read)

    def values(self) -> dict[str, Any]:
        """Return what people read: areas, lengths, shares and ratios, JSON-ready; None for what is not defined."""
        raise NotImplementedError


A = TypeVar("A", bound=Amounts)


@dataclass(frozen=True, eq=False)
class ByBlock(Generic[A]):
    """A scene's amounts shared out over its blocks: what belongs to a pixel goes to the block the pixel lies in.

    Attributes
    ----------
    kind
        Of the amounts.
    settings
        How they were measured: fields of `kind` that do not add.
    amounts
        By name of the field: (blocks, ...). The sum over blocks is the scene's.
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
    """Return part / whole; None where the whole is 0."""
    return float(part / whole) if whole else None


def difference(a: float | None, b: float | None) -> float | None:
    """Return a - b; None where one of them is not defined."""
    return None if a is None or b is None else a - b
