"""What can go wrong, as a person can act on it.

Every error that floemap raises on purpose derives from :class:`FloemapError`. A message names the file, the value that
was found, and what to do about it. The command line prints it as one readable paragraph and exits non-zero; a traceback
is shown with ``--debug`` only.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

#: A longer message nobody reads.
_MOST = 4000


#: What using values of a file raises where they are of other kinds, or larger, than whoever wrote it would write.
MISSHAPEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


class FloemapError(Exception):
    """Base of all errors that floemap raises on purpose.

    Parameters
    ----------
    message
        What is wrong, with the value that was found.
    path
        The file or folder that it is about.
    hint
        What to do about it, as a sentence.
    """

    def __init__(self, message: str, *, path: str | Path | None = None, hint: str | None = None) -> None:
        if len(message) > _MOST:  # it quotes a file that holds anything
            message = f"{message[: _MOST // 2]} [...] {message[-_MOST // 4 :]}"
        super().__init__(message)
        self.message = message
        self.path = None if path is None else Path(path)
        self.hint = hint

    def __str__(self) -> str:
        where = "" if self.path is None else f"{self.path}: "
        hint = "" if self.hint is None else f" {self.hint}"
        return f"{where}{self.message}{hint}"


def of_system(error: BaseException) -> FloemapError | None:
    """Return what the system says of a file, such as that its name is too long, as one of ours; None if it is not that.

    Paths come from options, settings and records, and the first look at one may fail for reasons that have nothing to
    do with what is looked for.
    """
    if not isinstance(error, OSError) or not isinstance(error.filename, str) or error.strerror is None:
        return None
    told = FloemapError(f"cannot be used: {error.strerror}.", path=error.filename)
    told.__cause__ = error
    return told


class ProductError(FloemapError):
    """A radar product that cannot be read or is of another kind than needed."""


class ChartError(FloemapError):
    """An ice chart that cannot be read or understood."""


class GridError(FloemapError):
    """Rasters that should share one grid do not, or a grid that cannot be made."""


class ConfigError(FloemapError):
    """A configuration or option with an unknown key or a value out of range."""


class ModelError(FloemapError):
    """A checkpoint or model that cannot be read, or does not fit the product or legend that it is asked for."""


class TrainingError(FloemapError):
    """Training that cannot begin or go on: nothing to learn from, a loss that is no number."""


class OutputError(FloemapError):
    """A result that could not be written: no permission, no space, something in the way."""


class DownloadError(FloemapError):
    """A file that could not be fetched whole and right."""


def how_to_install(extra: str) -> str:
    """Return the hint for a missing package: which of floemap's extras brings it, and how to install that.

    floemap is on no package index: a name given to an installer without a place would install somebody else's package.
    """
    return f"Install floemap with its extra {extra!r}: in the folder of its source, pip install -e '.[{extra}]'."


def known_names(name: object, known: Iterable[str]) -> str:
    """Return the hint for a name that is unknown: the one that was meant, if one is like it, and all that are known."""
    names = list(known)
    meant = did_you_mean(name, names)
    return f"{meant and f'D{meant[1:]} '}Known: {', '.join(names)}."


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the question whether another name was meant; "" where none is like it."""
    by_small = {k.lower(): k for k in known}
    like = get_close_matches(str(name).lower(), by_small, n=1)
    return f"did you mean {by_small[like[0]]!r}?" if like else ""
