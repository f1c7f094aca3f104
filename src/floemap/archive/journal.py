"""The record of watching: one line of JSON for each begin and end of a chart, on the disk before anything follows.

A process may be killed at any moment: a line that is cut off does not count, and what was begun and not ended is known.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from floemap.errors import MISSHAPEN, FloemapError, OutputError
from floemap.files import parsed, regular_file
from floemap.results.stage import os_errors, sync

JOURNAL = "watch.jsonl"

Event = Literal["begun", "stopped", "charted", "failed"]


@dataclass(frozen=True)
class Entry:
    """One line.

    Attributes
    ----------
    event
        `begun`; `stopped`, after which the product is begun again; `charted`; or `failed`.
    product, state
        Name of the product's file or folder, and what its files were like; see
        :class:`floemap.archive.arrivals.Arrival`.
    scene
        Name of the chart's folder; "" if not known.
    sensing_start, sensing_stop
        Times of the acquisition; "" if not known.
    published
        When the catalogue published the product; "" if it does not come from there.
    seen
        When it was seen in the folder first.
    at
        When this happened. All times are ISO 8601.
    seconds_from_sensing
        From the end of the acquisition to the end of the chart; None if not charted.
    simulated
        Whether the product or a model is simulated; None if not known.
    error
        Why it failed.
    """

    event: Event
    product: str
    state: str
    at: str
    scene: str = ""
    sensing_start: str = ""
    sensing_stop: str = ""
    published: str = ""
    seen: str = ""
    seconds_from_sensing: float | None = None
    simulated: bool | None = None
    error: str = ""


class Journal:
    """The lines of a folder's ``watch.jsonl``.

    Raises
    ------
    OutputError
        If the file is another program's, or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        self._begun: Counter[tuple[str, str]] = Counter()
        self._ended: set[tuple[str, str]] = set()
        self.products: set[str] = set()
        if not os.path.lexists(self._path):
            return
        try:
            lines = regular_file(self._path, OutputError).read_bytes().split(b"\n")
        except OSError as e:
            raise OutputError(f"cannot be read: {e.strerror or e}.", path=self._path) from e
        for number, line in enumerate(lines, 1):
            entry = _parsed(line)
            if entry is not None:
                self._note(entry)
            elif number == 1 and len(lines) > 1:
                hint = "Move it away, or choose another --out."
                raise OutputError("is not the record of `floemap watch`.", path=self._path, hint=hint)

    def is_ended(self, product: str, state: str) -> bool:
        """Whether a product of this state was charted, or failed for good."""
        return (product, state) in self._ended

    def begun(self, product: str, state: str) -> int:
        """Return how often a product of this state was begun and not ended: the process was killed meanwhile."""
        return self._begun[product, state]

    def add(self, entry: Entry) -> None:
        """Append a line, and sync it to the disk.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        line = json.dumps(asdict(entry), allow_nan=False).encode()
        with os_errors(self._path):
            new = not self._path.exists()
            with self._path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else b"\n" + line  # after a line that was cut off
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync(self._path.parent)
        self._note(entry)

    def _note(self, entry: Entry) -> None:
        key = (entry.product, entry.state)
        self.products.add(entry.product)
        if entry.event == "begun":
            self._begun[key] += 1
            return
        self._begun[key] = 0
        if entry.event != "stopped":
            self._ended.add(key)


def _parsed(line: bytes) -> Entry | None:
    try:
        found = parsed(json.loads, line)
        entry = Entry(**{f.name: found[f.name] for f in fields(Entry)})
        return entry if all(isinstance(t, str) for t in (entry.event, entry.product, entry.state)) else None
    except (ValueError, RecursionError, FloemapError, *MISSHAPEN):
        return None
