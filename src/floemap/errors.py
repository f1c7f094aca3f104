"""The errors that floemap raises on purpose, with messages that a person can act on.

Every error that floemap raises on purpose derives from :class:`FloemapError`. A message names the file, the value that
was found, and what to do about it. The command line prints it as one readable paragraph and exits non-zero; a traceback
is shown with ``--debug`` only.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

#: Longest message that is kept whole, characters.
_MOST = 4000


#: Errors from using values of a file that have another type, or are larger, than the program that wrote it gives.
MISSHAPEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


class FloemapError(Exception):
    """Base of all errors that floemap raises on purpose.

    Parameters
    ----------
    message
        What is wrong, with the value that was found.
    path
        The file or folder that is wrong.
    hint
        What the user can do about it, as a sentence.
    """

    def __init__(self, message: str, *, path: str | Path | None = None, hint: str | None = None) -> None:
        if len(message) > _MOST:  # it quotes a file of arbitrary content
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
    """Return the operating system's error on a file, such as a name that is too long, as a FloemapError; else None.

    Paths come from options, settings and records. The first access to one may fail for reasons that no caller expects.
    Without a current folder, none that is relative leads anywhere.
    """
    if isinstance(error, FileNotFoundError) and error.filename is None:
        try:
            Path.cwd()
        except FileNotFoundError:
            return FloemapError("the current folder was deleted.", hint="Change to another one, with cd.")
    if not isinstance(error, OSError) or not isinstance(error.filename, str) or error.strerror is None:
        return None
    ours = FloemapError(f"cannot be used: {error.strerror}.", path=error.filename)
    ours.__cause__ = error
    return ours


class ProductError(FloemapError):
    """A radar product cannot be read or is of another kind than needed."""


class ChartError(FloemapError):
    """An ice chart cannot be read or understood."""


class RouteError(FloemapError):
    """A ship's route cannot be read or sailed: too few waypoints, positions that are not on the earth."""


class GridError(FloemapError):
    """Rasters that must share one grid do not, or a grid cannot be made."""


class ConfigError(FloemapError):
    """A configuration or option has an unknown key or a value out of range."""


class ModelError(FloemapError):
    """A checkpoint or model cannot be read, or does not fit the product or legend."""


class TrainingError(FloemapError):
    """A training cannot start or continue: there is nothing to learn from, or the loss is NaN."""


class OutputError(FloemapError):
    """A result cannot be written: no permission, no space, another file of its name."""


class DownloadError(FloemapError):
    """A file could not be fetched, or is not the published one."""


class UnreachableError(DownloadError):
    """A server that is busy or does not answer; further requests to it are not worthwhile now."""


#: Packages of the extra "learn", which training and prediction need.
PACKAGES_OF_LEARNING = frozenset({"torch", "lightning_fabric", "safetensors"})


def how_to_install(extra: str) -> str:
    """Return the hint for a missing package: which of floemap's extras contains it, and how to install that.

    floemap is not on a package index: a bare name would install somebody else's package.
    """
    return f"Install floemap with its extra {extra!r}: in the folder of its source, pip install -e '.[{extra}]'."


def known_names(name: object, known: Iterable[str]) -> str:
    """Return the hint for an unknown name: a known name that resembles it, if there is one, and all known names."""
    names = list(known)
    meant = did_you_mean(name, names)
    return f"{meant and f'D{meant[1:]} '}Known: {', '.join(names)}."


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return the question whether a similar name was meant; "" if no known name is similar."""
    by_small = {k.lower(): k for k in known}
    like = get_close_matches(str(name).lower(), by_small, n=1)
    return f"did you mean {by_small[like[0]]!r}?" if like else ""
