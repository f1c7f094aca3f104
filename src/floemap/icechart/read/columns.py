"""Which columns of a file hold SIGRID-3's codes: under their own names, those of the Canadian Ice Service, or in lists.

Version 3.0 of the standard lets files take columns of the Ice Objects Catalogue instead of the old ones (Table A-1):
one column then holds the codes of all types of a polygon, two digits each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from floemap.errors import ChartError

#: Columns of codes as they are called here; a file may lack all but the first two.
CODE_COLUMNS = ("ct", "sa", "ca", "fa", "cb", "sb", "fb", "cc", "sc", "fc", "cn", "cd")
POLY_TYPE = "poly_type"
_NEEDED = ("ct", "sa", POLY_TYPE)
#: A second type needs its concentration beside the first's.
_TOGETHER = (("cb", "sb"), ("cc", "sc"), ("sb", "ca"), ("sc", "ca"))
#: What files put before the names: nothing, or, the Canadian Ice Service, SGD_. Names in shapefiles have ten letters.
_PREFIXES = ("", "sgd_")
_LONGEST_NAME = 10
#: Columns of lists: of which codes, in their order.
LISTS: Mapping[str, tuple[str, ...]] = {
    "iceact": ("ct",),
    "iceapc": ("ca", "cb", "cc"),
    "icesod": ("cn", "sa", "sb", "sc", "cd"),
    "iceflz": ("fa", "fb", "fc"),
}
#: Columns that say the like in codes of another kind, and which.
_OTHER_CODES = {
    "e_ct": "the codes of the egg on paper charts",
    "egg_id": "the codes of the egg on paper charts",
    "n_ct": "numbers of the Canadian Ice Service's own",
    "icecode": "a code of the U.S. National Ice Center's own",
    "ice_type": "classes of concentration in words",
    "sod": "stages of development without the rest",
    "sic": "concentrations without the rest",
}


@dataclass(frozen=True)
class Columns:
    """Where a file's codes are.

    Attributes
    ----------
    plain
        The file's names of columns that hold one code, by ours.
    lists
        The file's names of columns that hold several, by those of :data:`LISTS`.
    """

    plain: Mapping[str, str]
    lists: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """The file's names of all of them."""
        return [*self.plain.values(), *self.lists.values()]

    def values(self, columns: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> dict[str, list[Any]]:
        """Return each code's values in some rows of the file, by our names, as the file has them."""
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
        If a column that is needed is not there, or one is there twice.
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
        hint = f"It has {', '.join(others)}, which is not read. " if others else ""
        raise ChartError(
            f"lacks {', '.join(c.upper() for c in missing)}; it has {_listed(fields)}.",
            path=path,
            hint=f"{hint}A SIGRID-3 chart is needed.",
        )
    return columns


def polygon_type_column(fields: Sequence[str]) -> str | None:
    """Return the file's name of the column of polygon types, None where it has none."""
    names = [(prefix + POLY_TYPE)[:length] for prefix in _PREFIXES for length in (None, _LONGEST_NAME)]
    by_name = {own.strip().lower(): own for own in reversed(fields)}
    return next((by_name[name] for name in names if name in by_name), None)


def _with_prefix(by_name: Mapping[str, str], prefix: str) -> Columns:
    plain = {ours: by_name[prefix + ours] for ours in CODE_COLUMNS if prefix + ours in by_name}
    kind = polygon_type_column(list(by_name))
    if kind is not None:
        plain[POLY_TYPE] = by_name[kind]
    # A list stands for columns that are not there; files may mix both.
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
    """Name columns so that a terminal shows them as they are, the first of many."""
    shown = ", ".join(f if f.isprintable() else repr(f) for f in fields[:40])
    return (shown or "no columns") + (f" and {len(fields) - 40} more" if len(fields) > 40 else "")


def _text(value: Any) -> str:
    """Return the text of a list; numbers, as files hold it that take digits for them, lack a zero before them."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).replace("\0", " ")
    return "0" + text if isinstance(value, int) and len(text) % 2 else text


def _given(code: Any) -> bool:
    return str(code).strip() not in ("", "-9", "None", "nan")


def _pieces(text: str, count: int) -> list[str]:
    """Cut a list into codes of two digits; what cannot be cut stays whole, and is refused as no code."""
    if count > 1 and len(text.strip()) % 2:
        return [f"{text} in a list", *[""] * (count - 1)]
    cut = [text[2 * i : 2 * i + 2].strip() for i in range(count - 1)]
    return [*cut, text[2 * count - 2 :].strip()]


def _stages(text: str, parts: int) -> list[str]:
    """Cut a list of stages: of a trace of thicker ice, of up to three types, of the rest.

    Where there is no trace, the list begins with two blanks, which many readers take away. How many partial
    concentrations there are, `parts`, tells.
    """
    whole = _pieces(text, 5)
    if text.startswith("  ") or len(text) > 8:
        return whole
    shifted = ["", *_pieces(text, 4)]
    if [sum(map(_given, stages[1:4])) == max(parts, 1) for stages in (whole, shifted)] == [True, False]:
        return whole
    return whole if _given(whole[3]) and parts == 3 else shifted
