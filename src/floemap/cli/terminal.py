"""What a terminal gets to see: text, and never what is hidden in it.

Names of folders, members of archives, attributes of charts and words of servers come from strangers. A terminal obeys
what is in them: escape sequences clear the screen, set titles, overwrite what stood there; a line break begins what
looks like a message of its own; marks of direction turn names around. So all that is shown passes :func:`printable`.
"""

from __future__ import annotations

import json
import logging
import os
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleDimensions
from rich.text import Text
from typer.core import TyperGroup
from typer.exceptions import TyperException

#: Columns of what is no terminal.
_UNBOUNDED = 10_000


def printable(text: object) -> str:
    r"""Return text with characters that are not shown, or do something, written as Python has them, such as ``\x1b``.

    These are controls, line breaks, invisible and unassigned characters, and bytes of names that are no UTF-8. All
    others, of whatever script, stay, and so do spaces of whatever width, as between a number and its unit.
    """
    return "".join(c if _is_shown(c) else c.encode("unicode_escape").decode() for c in str(text))


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


class Terminal(Console):
    """A console that shows text as it is: nothing in it is markup, a colour code, an emoji's name or a control."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=True, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make what is shown of a text, in one line."""
        return super().render_str(printable(text), **options)

    @property  # type: ignore[misc]  # the library's can be set, too; nobody does
    def size(self) -> ConsoleDimensions:
        """Columns and lines; where no terminal is, lines are as long as what is in them."""
        found = super().size
        bounded = self.is_terminal or "COLUMNS" in os.environ
        return found if bounded else ConsoleDimensions(_UNBOUNDED, found.height)

    def print_facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Print what is known of something, as names and words.

        On a terminal long words go on below themselves, between words; elsewhere each stays in its line, so that names
        and paths can be searched and copied.
        """
        facts = [(printable(name), printable(words)) for name, words in facts]
        margin = max((len(name) for name, _ in facts), default=0) + 2
        width = self.width if self.is_terminal else None
        for name, words in facts:
            parts = [words]
            if width is not None:
                room = max(width - margin, 20)
                parts = textwrap.wrap(words, room, break_long_words=False, break_on_hyphens=False) or [""]
            for i, part in enumerate(parts):
                line = Text.assemble((("" if i else name).ljust(margin), "bold"), part)
                line.rstrip()
                self.print(line)

    def print_lines(self, text: str, **options: Any) -> None:
        """Print lines, indented, so that none looks like a message of its own."""
        for line in text.rstrip("\n").split("\n"):
            self.print(f"  {line}", **options)


def json_text(content: Any) -> str:
    """Return JSON for programs that read the output; it is ASCII, all else is escaped."""
    return json.dumps(content, indent=2, allow_nan=False, default=str)


class LineFormatter(logging.Formatter):
    """Writes each log record in a line; below it, indented, the traceback where there is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the library's name)
        """Make the line."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Make the lines of a traceback."""
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


class Group(TyperGroup):
    """The commands. What is said of wrong options and arguments repeats them, so it is looked at, too."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Read what stands before the command."""
        with _said_printably():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Read the command's own options, and run it."""
        with _said_printably():
            return super().invoke(ctx)


@contextmanager
def _said_printably() -> Iterator[None]:
    try:
        yield
    except TyperException as e:
        e.message = printable(e.message)
        raise
