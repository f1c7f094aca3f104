"""Columns of SIGRID-3 codes in a file: by SIGRID-3's names, by those of the Canadian Ice Service, or in lists.

Version 3.0 of the standard allows columns of the Ice Objects Catalogue instead of the old ones (Table A-1): one column
then has the codes of all types of a polygon, two digits each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from floemap.errors import ChartError

#: Names of the columns of codes in floemap; a file may lack all but the first two.
CODE_COLUMNS = ("ct", "sa", "ca", "fa", "cb", "sb", "fb", "cc", "sc", "fc", "cn", "cd")
POLY_TYPE = "poly_type"
_NEEDED = ("ct", "sa", POLY_TYPE)
#: A file with the first column of a pair needs the second: each type has a stage, and a second type needs the
#: concentration of the first.
_TOGETHER = (("cb", "sb"), ("cc", "sc"), ("sb", "ca"), ("sc", "ca"))
#: Prefixes of the names: none, or SGD_ of the Canadian Ice Service. Names in shapefiles have at most ten letters.
_PREFIXES = ("", "sgd_")
_LONGEST_NAME = 10
#: Columns of lists, with the codes in each list in their order.
LISTS: Mapping[str, tuple[str, ...]] = {
    "iceact": ("ct",),
    "iceapc": ("ca", "cb", "cc"),
    "icesod": ("cn", "sa", "sb", "sc", "cd"),
    "iceflz": ("fa", "fb", "fc"),
}
#: Columns of other codes for ice, and what these are.
_OTHER_CODES = {
    "e_ct": "egg codes of paper charts",
    "egg_id": "egg codes of paper charts",
    "n_ct": "numbers of the Canadian Ice Service",
    "icecode": "codes of the U.S. National Ice Center",
    "ice_type": "classes of concentration in words",
    "sod": "stages of development alone",
    "sic": "concentrations alone",
}


@dataclass(frozen=True)
class Columns:
    """The columns of a file that hold codes.

    Attributes
    ----------
    plain
        The file's names of columns with one code, by the names of floemap.
    lists
        The file's names of columns with several codes, by the names in :data:`LISTS`.
    """

    plain: Mapping[str, str]
    lists: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """The file's names of all these columns."""
        return [*self.plain.values(), *self.lists.values()]

    def values(self, columns: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> dict[str, list[Any]]:
        """Return the values of each code in some rows, by the names of floemap, as the file has them."""
        found = {ours: [columns[own][i] for i in rows] for ours, own in self.plain.items()}
        for name, own in self.lists.items():
            texts = [_text(columns[own][i]) for i in rows]
            if name == "icesod":
                given = [[_given(v) for v in found[c]] for c in ("ca", "cb", "cc") if c in found]
                parts = np.sum(given, axis=0) if given else np.zeros(len(rows), int)
                split = [_stages(text, n) for text, n in zip(texts, parts.tolist(), strict=True)]
            else:
                split = [_pieces(text, len(LISTS[name])) for text in texts]
            found |= {ours: [codes[place] for codes in split] for place, ours in enumerate(LISTS[name])}
        return found


def find_columns(path: Path, fields: Sequence[str]) -> Columns:
    """Find the columns of codes among those of a file.

    Raises
    ------
    ChartError
        If the file lacks a necessary column, or has one twice.
    """
    by_name: dict[str, str] = {}
    for own in fields:
        name = own.strip().lower()
        if name in by_name and name in (*CODE_COLUMNS, POLY_TYPE, *LISTS):
            raise ChartError(f"has two columns {by_name[name]!r} and {own!r}.", path=path, hint="Keep the right one.")
        by_name.setdefault(name, own)
    found = [_with_prefix(by_name, prefix) for prefix in _PREFIXES]
    columns = min(found, key=lambda c: len(_missing(c)))  # the first of those that lack least
    missing = _missing(columns)
    if missing:
        others = [f"{by_name[name]!r} ({what})" for name, what in _OTHER_CODES.items() if name in by_name]
        hint = f"floemap does not read its {', '.join(others)}. " if others else ""
        message = f"lacks {', '.join(c.upper() for c in missing)}; it has {_listed(fields)}."
        raise ChartError(message, path=path, hint=f"{hint}Give a SIGRID-3 chart.")
    return columns


def polygon_type_column(fields: Sequence[str]) -> str | None:
    """Return the file's name of the column of polygon types, None if it has none; POLYTYPE is one, too."""
    names = [(prefix + POLY_TYPE)[:length] for prefix in _PREFIXES for length in (None, _LONGEST_NAME)]
    names += [name.replace("_", "") for name in names]
    by_name = {own.strip().lower(): own for own in reversed(fields)}
    return next((by_name[name] for name in names if name in by_name), None)


def _with_prefix(by_name: Mapping[str, str], prefix: str) -> Columns:
    plain = {ours: by_name[prefix + ours] for ours in CODE_COLUMNS if prefix + ours in by_name}
    kind = polygon_type_column(list(by_name))
    if kind is not None:
        plain[POLY_TYPE] = by_name[kind]
    # A list replaces columns that the file lacks; files may mix both.
    lists = {
        n: by_name[prefix + n]
        for n, codes in LISTS.items()
        if prefix + n in by_name and not any(c in plain for c in codes)
    }
    return Columns(plain, lists)


def _missing(columns: Columns) -> list[str]:
    there = {*columns.plain, *(code for name in columns.lists for code in LISTS[name])}
    missing = [c for c in _NEEDED if c not in there]
    return missing + [b for a, b in _TOGETHER if a in there and b not in there and b not in missing]


def _listed(fields: Sequence[str]) -> str:
    """Return the names of columns for a message, control characters escaped, at most 40."""
    shown = ", ".join(f if f.isprintable() else repr(f) for f in fields[:40])
    return (shown or "no columns") + (f" and {len(fields) - 40} more" if len(fields) > 40 else "")


def _text(value: Any) -> str:
    """Return the text of a list; files that store the digits as a number lose a leading zero."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).replace("\0", " ")
    return "0" + text if isinstance(value, int) and len(text) % 2 else text


def _given(code: Any) -> bool:
    return str(code).strip() not in ("", "-9", "None", "nan")


def _pieces(text: str, count: int) -> list[str]:
    """Cut a list into codes of two digits; a text that cannot be cut stays whole, and read_codes refuses it."""
    if count > 1 and len(text.strip()) % 2:
        return [f"{text} in a list", *[""] * (count - 1)]
    cut = [text[2 * i : 2 * i + 2].strip() for i in range(count - 1)]
    return [*cut, text[2 * count - 2 :].strip()]


def _stages(text: str, parts: int) -> list[str]:
    """Cut a list of stages: that of a trace of thicker ice, of up to three types, of the remainder.

    A list without a trace begins with two blanks, which many readers strip. The number of partial concentrations,
    `parts`, shows whether they were stripped.
    """
    whole = _pieces(text, 5)
    if text.startswith("  ") or len(text) > 8:
        return whole
    shifted = ["", *_pieces(text, 4)]
    if [sum(map(_given, stages[1:4])) == max(parts, 1) for stages in (whole, shifted)] == [True, False]:
        return whole
    return whole if _given(whole[3]) and parts == 3 else shifted
