"""Output to a terminal as plain text, without control characters.

Names of folders, members of archives, attributes of charts and words of servers come from strangers, and a terminal
obeys control characters in them: escape sequences clear the screen, set titles or overwrite earlier output; a line
break starts what looks like a new message; direction marks reverse names. So all output passes :func:`printable`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.console import Console, ConsoleDimensions
from rich.text import Text
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from floemap.cli.streams import shown
from floemap.config import in_plain_words

#: Columns of an output that is not a terminal.
_UNBOUNDED = 10_000
#: Fewest columns that text is laid out for. In fewer, as where COLUMNS is 0, rich would leave out words without a sign.
_FEWEST = 40


def printable(text: object) -> str:
    r"""Return text with control and invisible characters written as Python escapes, such as ``\x1b``.

    Escaped are controls, line breaks, invisible and unassigned characters, and bytes of names that are not UTF-8. All
    others, of any script, stay, and so do spaces of any width, as between a number and its unit.
    """
    return "".join(c if _is_shown(c) else c.encode("unicode_escape").decode() for c in str(text))


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


class Terminal(Console):
    """A console that shows text literally, without interpreting markup, colour codes, emoji names or controls."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=True, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the printable form of a text, in one line."""
        return super().render_str(printable(text), **options)

    @property  # type: ignore[misc]  # rich's can also be set, which floemap does not do
    def size(self) -> ConsoleDimensions:
        """Columns and lines. Without a terminal, the number of columns has no bound."""
        found = super().size
        bounded = self.is_terminal or "COLUMNS" in os.environ
        return ConsoleDimensions(max(found.width, _FEWEST) if bounded else _UNBOUNDED, found.height)

    def print_facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Print facts, each as a name and words.

        On a terminal, long texts are wrapped between words and indented. Elsewhere each stays on one line, so that
        names and paths can be searched and copied.
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
        """Print lines, indented, so that none looks like another message."""
        for line in text.rstrip("\n").split("\n"):
            self.print(f"  {line}", **options)


def json_text(content: Any) -> str:
    """Return JSON for programs that read the output, in ASCII with other characters escaped."""
    return json.dumps(content, indent=2, allow_nan=False, default=str)


class LineFormatter(logging.Formatter):
    """Writes each log record in one line, and a traceback indented below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the library's name)
        """Return the line."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the lines of a traceback."""
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


#: Fewest columns of a terminal for help in panels. In narrower ones these would cut off names and words.
_PANELS_NEED = 100


@contextmanager
def _whole_in_any_width(command: Any, formatter: Any) -> Iterator[None]:
    """Let help be plain text while the block runs if the terminal is too narrow for panels."""
    columns, mode = shutil.get_terminal_size().columns, command.rich_markup_mode
    if columns < _PANELS_NEED:
        command.rich_markup_mode = None
        formatter.width = max(columns - 2, 20)
        formatter.write_dl = partial(formatter.write_dl, col_max=formatter.width // 3)
        write = formatter.write_text
        formatter.write_text = lambda text: write("\n\n".join(_paragraphs(text)))
    try:
        yield
    finally:
        command.rich_markup_mode = mode


def _paragraphs(text: str) -> Iterator[str]:
    """Give the paragraphs of a command's help, each for the formatter to wrap, but for examples, which are copied."""
    for paragraph in re.split(r"\n\s*\n", text):
        example = all(line.startswith("    ") for line in paragraph.split("\n"))
        yield f"\b\n{paragraph}" if example else " ".join(paragraph.split())


class _Whole:
    """Help that loses nothing in a narrow terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        with _whole_in_any_width(self, formatter):
            super().format_help(ctx, formatter)  # type: ignore[misc]

    def get_short_help_str(self, limit: int = 0) -> str:
        """Return the first sentence, whatever the limit."""
        return str(super().get_short_help_str(10_000))  # type: ignore[misc]


class Command(_Whole, TyperCommand):
    """A command."""


class SubGroup(_Whole, TyperGroup):
    """A group of commands."""


class Group(SubGroup):
    """The commands. Messages about wrong options and arguments become ours and, as they quote them, printable.

    What all of them print, help included, is shown whole or :func:`floemap.cli.streams.shown` ends the command.
    """

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parse the options before the command."""
        with shown(_report), _printable_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Parse the command's options, and run it."""
        with shown(_report), _printable_errors():
            return super().invoke(ctx)


def _report(message: str) -> None:
    Terminal(stderr=True).print(f"error: {message}", style="bold red")


@contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except TyperException as e:
        e.message = printable(in_plain_words(e.message))
        raise
