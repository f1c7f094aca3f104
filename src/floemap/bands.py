"""The bands that a model reads: names, units, how they are stored, and what a gap in them means.

Bands are stored as int16 in steps of a physical unit, with one no-data value. :class:`floemap.cog.Band` describes a
band of any raster file; :class:`InputBand` describes one that a model learns from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from floemap.errors import ConfigError, FloemapError

#: Stored value of pixels without data.
NODATA = -32768
#: Largest stored value, and the smallest with the other sign.
MOST_STORED = 32767

Missing = Literal["scene", "mean", "flag"]
MISSING: tuple[Missing, ...] = get_args(Missing)

#: Names of bands that do not come from a product.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")


@dataclass(frozen=True)
class InputBand:
    """One band that a model reads. Physical value = stored value x step + offset.

    Attributes
    ----------
    name
        Name of the band, such as ``hh_db``.
    unit
        Unit of the physical values, such as ``dB``.
    step, offset
        Physical value of one stored step, and of a stored 0.
    missing
        Meaning of a gap. ``scene``: the pixel counts as one without data, in all bands. ``mean``: the model reads the
        band's training mean, 0 after normalisation. ``flag``: likewise, and a further channel is 1 there and 0
        elsewhere.
    """

    name: str
    unit: str
    step: float
    offset: float = 0.0
    missing: Missing = "scene"

    def __post_init__(self) -> None:
        numbers = (self.step, self.offset)
        if not all(isinstance(v, int | float) and np.isfinite(v) for v in numbers) or not self.step > 0:
            raise ConfigError(
                f"the band {self.name} is stored in steps of {self.step} from {self.offset}.",
                hint="Both must be finite numbers, and the step must be positive.",
            )
        if self.missing not in MISSING:
            raise ConfigError(f"the band {self.name} has the gaps {self.missing!r}.", hint=f"Use {', '.join(MISSING)}.")

    def encode(self, values: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
        """Return physical values as stored; NaN becomes NODATA.

        Raises
        ------
        FloemapError
            If a value does not fit into int16, with the step that would do.
        """
        with np.errstate(invalid="ignore"):
            steps = np.rint((values.astype(np.float64) - self.offset) / self.step)
            largest = float(np.nanmax(np.abs(steps), initial=0.0))
        if largest > MOST_STORED:
            raise FloemapError(
                f"the band {self.name} has values from {np.nanmin(values):g} to {np.nanmax(values):g} {self.unit}, "
                f"which do not fit into int16 in steps of {self.step:g}.",
                hint=f"A step of {step_for(largest * self.step):g} would do.",
            )
        return np.where(np.isnan(steps), NODATA, steps).astype(np.int16)

    def decode(self, stored: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return the physical values of stored ones, float32; NaN where there is a gap."""
        values = stored.astype(np.float32) * np.float32(self.step) + np.float32(self.offset)
        return np.where(stored == NODATA, np.float32(np.nan), values)


def step_for(largest: float) -> float:
    """Return the smallest power of ten in whose steps int16 reaches values up to `largest`; 1 for 0."""
    return 10.0 ** np.ceil(np.log10(largest / MOST_STORED) - 1e-9) if largest > 0 else 1.0


def assumed_band(name: str) -> InputBand:
    """Return a band of which only the name is known: its unit and step stand for any."""
    return InputBand(name, "1", 0.01)


@dataclass(frozen=True)
class BandSet:
    """The bands that a model reads, in order.

    Raises
    ------
    ConfigError
        If there are none, or two have the same name.
    """

    bands: tuple[InputBand, ...]

    def __post_init__(self) -> None:
        names = [b.name for b in self.bands]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"the bands are {', '.join(names) or 'none'}.", hint="Name at least one, each only once.")

    def __iter__(self) -> Iterator[InputBand]:
        return iter(self.bands)

    def __len__(self) -> int:
        return len(self.bands)

    def __getitem__(self, name: str) -> InputBand:
        """Return the band of that name."""
        return self.bands[self.names.index(name)]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the bands."""
        return tuple(b.name for b in self.bands)

    @cached_property
    def flagged(self) -> tuple[int, ...]:
        """Indices of the bands whose gaps have a channel; these channels follow those of all bands."""
        return tuple(i for i, b in enumerate(self.bands) if b.missing == "flag")

    @cached_property
    def of_scene(self) -> tuple[int, ...]:
        """Indices of the bands that a pixel needs to count as one with data."""
        return tuple(i for i, b in enumerate(self.bands) if b.missing == "scene")

    @property
    def channels(self) -> int:
        """Number of channels that a network gets: one for each band and one for each flag."""
        return len(self.bands) + len(self.flagged)

    def differs(self, other: BandSet) -> str | None:
        """Say in which band another set differs in name, unit or meaning of a gap; None if it does not.

        Steps and offsets do not count, because they do not change the physical values.
        """
        if self.names != other.names:
            return f"{', '.join(self.names)}, not {', '.join(other.names)}"
        for mine, its in zip(self.bands, other.bands, strict=True):
            for what, a, b in (("unit", mine.unit, its.unit), ("gaps", mine.missing, its.missing)):
                if a != b:
                    return f"{mine.name} with the {what} {a!r}, not {b!r}"
        return None

    def record(self) -> list[dict[str, Any]]:
        """Return the description of the bands for records."""
        return [asdict(b) for b in self.bands]


def check_name(name: str, taken: Iterable[str]) -> None:
    """Refuse a name that a band from a file of the user may not have.

    Raises
    ------
    ConfigError
        If it is not made of small letters, digits and underscores, or is one of the `taken` ones.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"a layer cannot have the name {name[:80]!r}.",
            hint="Use small letters, digits and underscores, with a letter first, such as air_temperature_k.",
        )
    if name in taken:
        raise ConfigError(f"{name} is the name of a band of the product.", hint="Choose another name.")


def band_of(record: Any, name: str) -> InputBand:
    """Return the band that a record describes: unit, step, offset and missing.

    Raises
    ------
    ConfigError
        If the record lacks one of them, or a value is of another type or out of range.
    """
    kinds = {"unit": str, "step": (int, float), "offset": (int, float), "missing": str}
    if not isinstance(record, Mapping):
        raise ConfigError(f"the band {name} has no description.")
    for key, kind in kinds.items():
        if not isinstance(record.get(key), kind) or isinstance(record[key], bool):  # type: ignore[arg-type]
            raise ConfigError(f"the band {name} has a damaged description: {key} is {record.get(key)!r}.")
    return InputBand(name, record["unit"], record["step"], record["offset"], record["missing"])


def recoded(stored: NDArray[np.int16], have: InputBand, want: InputBand) -> NDArray[np.int16]:
    """Return stored values in the steps of another band. Equal steps leave them as they are.

    Raises
    ------
    FloemapError
        If a value does not fit into int16.
    """
    if (have.step, have.offset) == (want.step, want.offset):
        return stored
    values = stored.astype(np.float64) * have.step + have.offset
    values[stored == NODATA] = np.nan
    return want.encode(values)
