"""Parts that all commands share: the application, logging and error options, exit codes, consoles.

A command is a plain function, registered with :func:`command`, which adds ``--debug``, ``--verbose`` and ``--quiet``
and turns errors into one readable message and a non-zero exit code. Heavy libraries are imported inside the commands,
so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import functools
import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.logging import RichHandler

from floemap.cli.settings_options import settings_parameter
from floemap.cli.streams import nobody_reads
from floemap.cli.terminal import Command, Group, LineFormatter, SubGroup, Terminal
from floemap.errors import PACKAGES_OF_LEARNING, FloemapError, how_to_install, of_system
from floemap.progress import milestones
from floemap.results.stage import os_errors
from floemap.stopping import TRY_AGAIN, Stopped, stopped_by_signals

# Threads that wait for each other should sleep, not spin: beside another program on the same cores, torch's training
# steps took seven times longer otherwise. The library that reads this is loaded later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: Results go to stdout and everything else to stderr, so that ``--json`` can be piped.
stdout = Terminal()
stderr = Terminal(stderr=True)

app = typer.Typer(
    name="floemap",
    cls=Group,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Ice-type charts from Sentinel-1 scenes, and which training loss makes charts one can trust.",
    epilog="Charts and scores are drafts for experts: not for navigation.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from floemap.version import __version__

        stdout.print(f"floemap {__version__}")
        raise typer.Exit


def _help_alone(context: typer.Context) -> None:
    """Show the help if no command is given, which is not an error."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _application(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    _help_alone(context)


def group(name: str, help: str) -> typer.Typer:
    """Add a group of commands, as in ``floemap simulate twin``."""
    sub = typer.Typer(name=name, cls=SubGroup, help=help, rich_markup_mode="markdown")
    sub.callback(invoke_without_command=True, help=help)(_help_alone)
    app.add_typer(sub)
    return sub


#: Format of a line of a log file, and of its time, which sorts.
_LINE, _TIME = "%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"


def _shared(values: Any, default: Any, *names: str, help: str, metavar: str | None = None) -> tuple[Any, Any]:
    """Return the annotation and the default of an option of every command."""
    option = typer.Option(*names, help=help, metavar=metavar, rich_help_panel="Every command has")
    return Annotated[values, option], default


#: Options of every command, by name: annotation and default.
_SHARED: dict[str, tuple[Any, Any]] = {
    "debug": _shared(bool, False, "--debug", help="Show a traceback on errors."),
    "verbose": _shared(bool, False, "--verbose", "-v", help="Log in more detail."),
    "quiet": _shared(bool, False, "--quiet", "-q", help="Show warnings and errors only."),
    "log": _shared(Path | None, None, "--log", help="Also append the log to this file.", metavar="FILE"),
}


def command(
    name: str, to: typer.Typer = app, *, resumes: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as the command `name`; its docstring is the help, its annotated parameters the options.

    `resumes` says that unfinished results of an interrupted command stay, and that the same command resumes them.
    """
    unfinished = "repeat the command to resume" if resumes else "unfinished ones are removed"

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(
            *args: Any,
            debug: bool = False,
            verbose: bool = False,
            quiet: bool = False,
            log: Path | None = None,
            **kwargs: Any,
        ) -> None:
            _options.set(options)
            try:
                set_up_logging(debug=debug, verbose=verbose, quiet=quiet, log=log)
                if settings is not None:
                    kwargs[settings[0]] = settings[2].take(settings[1], kwargs)
                with stopped_by_signals() if resumes else nullcontext():
                    function(*args, **kwargs)
            except FloemapError as e:
                fail(in_words(e), e if debug else None)
            except typer.Exit:
                raise
            except Stopped as e:
                stderr.print(f"stopped by {e}; repeat the command to resume", style="yellow")
                raise typer.Exit(TRY_AGAIN) from None
            except KeyboardInterrupt:
                stderr.print(f"stopped; finished results are kept, {unfinished}", style="yellow")
                raise typer.Exit(130) from None
            except Exception as e:  # the last resort: still one readable message
                if isinstance(e, BrokenPipeError) and nobody_reads():
                    raise  # to streams.shown
                if (known := of_system(e)) is not None:
                    words = str(known)
                elif isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EIO):
                    words = f"what was to be shown or written is not whole: {e.strerror}. Repeat the command."
                elif isinstance(e, ModuleNotFoundError) and e.name in PACKAGES_OF_LEARNING:
                    words = f"this command needs {e.name}, which is not installed. {how_to_install('learn')}"
                else:
                    words = f"unexpected {type(e).__name__}: {e}. --debug shows where it happened; please report it."
                fail(words, e if debug else None)

        signature = inspect.signature(function, eval_str=True)
        settings = settings_parameter(signature)
        own: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            marked = settings is not None and parameter.name == settings[0]
            own += settings[2].parameters(settings[1]) if settings is not None and marked else [parameter]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for key, (annotation, default) in _SHARED.items()
        ]
        declared = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *shared]]
        options = options_of(signature.replace(parameters=declared))
        run.__signature__ = signature.replace(parameters=declared)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in declared}
        to.command(name, cls=Command)(run)
        return function

    return register


#: An option in a hint. Options of other programs and commands are in backquotes, with the program's name.
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_QUOTED = re.compile(r"`[^`]*`")


#: Options of the running command.
_options: ContextVar[frozenset[str] | None] = ContextVar("options", default=None)


def options_of(signature: inspect.Signature) -> frozenset[str]:
    """Return the options that a command's annotated parameters declare."""
    infos = [i for p in signature.parameters.values() for i in getattr(p.annotation, "__metadata__", ())]
    # Within Annotated, typer stores the first declaration as the default.
    declared = [d for i in infos for d in (getattr(i, "default", None), *(getattr(i, "param_decls", None) or ()))]
    names = {name for d in declared if isinstance(d, str) and d.startswith("-") for name in d.split("/")}
    return frozenset({"--help", *names})


def in_words(error: FloemapError) -> str:
    """Return an error as text, without the sentences of its hint that name options the running command does not have.

    Errors come from functions that several commands call; a hint may name an option of another command.
    """
    known = _options.get()
    if error.hint is None or known is None:
        return str(error)
    sentences = re.split(r"(?<=[.!?]) +", error.hint)
    kept = [s for s in sentences if set(_OPTION.findall(_QUOTED.sub("", s))) <= known]
    return str(FloemapError(error.message, path=error.path, hint=" ".join(kept) or None))


def fail(message: str, error: BaseException | None = None) -> None:
    """Print one message on stderr, with the traceback of `error` before it if given, and exit with code 1."""
    if error is not None:
        import traceback

        stderr.print_lines("".join(traceback.format_exception(error)))
    stderr.print(f"error: {message}", style="bold red")
    raise typer.Exit(1)


def print_result(path: Path, *, skipped: bool) -> None:
    """Print the path of a result on stdout."""
    stdout.print(f"{path}{'  (finished before)' if skipped else ''}")


def set_up_logging(*, debug: bool = False, verbose: bool = False, quiet: bool = False, log: Path | None = None) -> None:
    """Send the library's log records to stderr, and to a file if one is given.

    On a terminal there are bars, and the log shows warnings and milestones that bars do not show. Elsewhere, as in a
    batch job, the log has all milestones, each a whole line with its time. Warnings are shown with ``--quiet`` as well.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    stderr.quiet = False
    watched = sys.stderr.isatty()
    shown: logging.Handler
    if watched:
        shown = RichHandler(console=stderr, show_path=debug, show_time=verbose or debug, markup=False)
        shown.setFormatter(LineFormatter())
    else:
        shown = logging.StreamHandler(sys.stderr)
        shown.setFormatter(LineFormatter(_LINE, _TIME))

    def is_shown(record: logging.LogRecord) -> bool:
        milestone = record.name == milestones.name and not quiet
        return record.levelno >= level or (milestone and (not watched or hasattr(record, "beside_bars")))

    shown.addFilter(is_shown)
    root = logging.getLogger("floemap")
    for handler in root.handlers:
        handler.close()
    root.handlers = [shown]
    if log is not None:
        with os_errors(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            written = logging.FileHandler(log, encoding="utf-8")
        written.setFormatter(LineFormatter(_LINE, _TIME))
        root.addHandler(written)
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    root.propagate = False
    # Otherwise other libraries' records and warnings would go to stderr unformatted.
    logging.lastResort = shown
    warnings.showwarning = _log_warning
    progress_wanted.quiet = quiet


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log a warning of another library, in one line.

    That of rasterio about rasters without a georeference is dropped: floemap's errors say what matters of it. Blocks
    that drop it do not always succeed, because libraries change the process's filters in other threads.
    """
    if category.__name__ == "NotGeoreferencedWarning":
        return
    logging.getLogger("floemap").warning("%s: %s", category.__name__, message)


class _Progress:
    """Whether progress bars are wanted: not with ``--quiet``, and only on a terminal."""

    quiet = False

    def __bool__(self) -> bool:
        return not self.quiet and sys.stderr.isatty()


progress_wanted = _Progress()
