"""Scenes from a table, and the parts of a split by queries and columns of it.

Queries are conditions of SQL, as after WHERE, which SQLite evaluates on a copy of the table in memory.
"""

from __future__ import annotations

import csv
import math
import sqlite3
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from floemap.errors import ConfigError, known_names
from floemap.files import decoded, regular_file
from floemap.study.settings import BUILT_IN_GROUPS, DataSettings, SceneSettings, SplitSettings, Study

#: Columns that a table must have, and those that it may have for the files of a scene.
_NEEDED, _OPTIONAL = ("name", "product", "chart"), ("layer", "truth")
#: What a query may do in SQLite: read columns and call functions.
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
#: Most steps of SQLite's machine for a query, in thousands: hundreds for each of a million scenes.
_MOST_STEPS = 1_000_000

Row = Mapping[str, str | int | float | None]


def resolved(study: Study) -> Study:
    """Return the study with the scenes of its table and the parts of its queries as lists; others as they are.

    Raises
    ------
    ConfigError
        If the table cannot be read, lacks a column, or a row does not describe a scene; if a query cannot be evaluated
        or chooses no scene; or if the split holds out groups by a column that the table lacks.
    """
    if study.data.table is None:
        of_table = {
            "where": bool(study.split.where),
            f"by = {study.split.by!r}": study.split.by not in BUILT_IN_GROUPS,
            "folds": study.split.folds is not None and study.split.by != "groups",
        }
        if what := next((what for what, given in of_table.items() if given), None):
            raise ConfigError(f"[split] {what} needs a table of scenes.", hint="Give [data] table.")
        return study
    rows = _chosen(read_table(study.data.table), study.data)
    split = _split(study.split, rows, study.data.table)
    return study.model_copy(update={"data": _listed(study.data, rows), "split": split})


def listed(settings: DataSettings) -> DataSettings:
    """Return the settings with the scenes of their table as a list; errors as of :func:`resolved`."""
    return settings if settings.table is None else _listed(settings, _chosen(read_table(settings.table), settings))


def read_table(path: Path) -> list[Row]:
    """Read a table of scenes: CSV with a line of column names, or Parquet. Empty cells are None.

    Raises
    ------
    ConfigError
        If the file is missing, or is not such a table.
    """
    path = regular_file(path, ConfigError)
    try:
        frame = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except ImportError as e:
        hint = "Install pyarrow, or save the table as CSV."
        raise ConfigError("is Parquet, which needs the package pyarrow.", path=path, hint=hint) from e
    except (OSError, ValueError, csv.Error) as e:  # pandas' errors are ValueErrors
        hint = "Give CSV in UTF-8 whose first line names the columns, or Parquet."
        raise ConfigError(f"cannot be read as a table: {e}", path=path, hint=hint) from e
    if missing := [c for c in _NEEDED if c not in frame.columns]:
        have = ", ".join(map(str, frame.columns[:20]))
        raise ConfigError(f"lacks the column {missing[0]}; it has {have}.", path=path, hint="Every scene needs one.")
    rows: list[Row] = [{str(k): _cell(v) for k, v in row.items()} for row in frame.to_dict("records")]
    if not rows:
        raise ConfigError("has no scene.", path=path, hint="Write a line for each scene.")
    return rows


def _read_csv(path: Path) -> pd.DataFrame:
    text = decoded(path.read_bytes())
    separator = max(",;\t", key=text.partition("\n")[0].count)  # spreadsheets write semicolons in many countries
    as_text = dict.fromkeys((*_NEEDED, *_OPTIONAL), str)
    return pd.read_csv(StringIO(text), sep=separator, dtype=as_text, keep_default_na=False, na_values=[""])


def _cell(value: Any) -> str | int | float | None:
    """Return a cell as a plain value."""
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float) and value.is_integer():  # a column of whole numbers with an empty cell
        return int(value)
    if isinstance(value, pd.Timestamp):
        return str(value.isoformat())
    return value if isinstance(value, int | float) else str(value)


def _chosen(rows: Sequence[Row], settings: DataSettings) -> list[Row]:
    """Return the rows that [data] where chooses."""
    assert settings.table is not None
    if settings.where is None:
        return list(rows)
    names = set(_matching(rows, settings.where, "[data] where", settings.table))
    return [row for row in rows if row["name"] in names]


def _matching(rows: Sequence[Row], query: str, where: str, path: Path) -> list[str]:
    """Return the names of the scenes for which a query is true, in the order of the table."""
    columns = list(rows[0])
    quoted = ", ".join('"' + c.replace('"', '""') + '"' for c in columns)
    database = sqlite3.connect(":memory:")
    try:
        database.execute(f"CREATE TABLE scenes ({quoted})")
        marks = ", ".join("?" * len(columns))
        database.executemany(f"INSERT INTO scenes VALUES ({marks})", [tuple(row.values()) for row in rows])
        steps = iter(range(_MOST_STEPS))
        database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY)
        database.set_progress_handler(lambda: int(next(steps, None) is None), 1000)
        found = database.execute(f"SELECT name FROM scenes WHERE ({query}\n) ORDER BY rowid").fetchall()
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as e:
        hint = f"Write a condition of SQL, such as region = 'north' AND month < 4. Columns: {', '.join(columns)}."
        raise ConfigError(f"{where} is {query!r}, which cannot be evaluated: {e}.", path=path, hint=hint) from e
    finally:
        database.close()
    if not found:
        raise ConfigError(f"{where} is {query!r}, which is true for no scene.", path=path, hint="Change it.")
    return [str(name) for (name,) in found]


def _listed(settings: DataSettings, rows: Sequence[Row]) -> DataSettings:
    """Return the settings with the rows as their list of scenes."""
    scenes = []
    for number, row in enumerate(rows, 1):
        given = {key: row[key] for key in (*_NEEDED, *_OPTIONAL) if row.get(key) is not None}
        try:
            scenes.append(SceneSettings.checked(**given))
        except ConfigError as e:
            message = f"row {number}, scene {row['name']!r}: {e.message}"
            raise ConfigError(message, path=settings.table, hint=e.hint) from e
    try:
        return DataSettings.checked(**settings.model_dump(exclude={"table", "where", "scenes"}), scenes=tuple(scenes))
    except ConfigError as e:
        raise ConfigError(e.message, path=settings.table, hint=e.hint) from e


def _split(split: SplitSettings, rows: Sequence[Row], path: Path) -> SplitSettings:
    """Return a split with the parts of its queries as lists, and with the groups of its column."""
    changes: dict[str, Any] = {}
    for role, query in split.where.items():
        changes[role] = (*getattr(split, role), *_matching(rows, query, f"[split.where] {role}", path))
    if split.by not in ("scene", "groups") and (split.by in rows[0] or split.by not in BUILT_IN_GROUPS):
        if split.by not in rows[0]:
            hint = known_names(split.by, rows[0])
            raise ConfigError(f"[split] by is {split.by!r}, which is not a column of the table.", path=path, hint=hint)
        groups: dict[str, list[str]] = {}
        for row in rows:
            if row[split.by] is None:
                raise ConfigError(f"scene {row['name']!r} has no {split.by}, by which [split] groups.", path=path)
            groups.setdefault(str(row[split.by]), []).append(str(row["name"]))
        ordered = sorted(groups, key=lambda g: (not g.isdecimal(), int(g) if g.isdecimal() else 0, g))
        changes |= {"by": "groups", "groups": {g: tuple(groups[g]) for g in ordered}}
    return SplitSettings.checked(**split.model_dump(exclude={"where", *changes}), **changes)
