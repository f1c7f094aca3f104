"""Classes that a configuration names by import string, ``module:Class``: a user's own losses and models.

Whoever may write a configuration may thus run code: a configuration from others is to be read before it is used.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from floemap.errors import ConfigError, known_names

T = TypeVar("T")

_IMPORT_STRING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def imported_class(name: str, base: type[T], setting: str, usual: type[T] | None = None) -> type[T]:
    """Import a class.

    The module is looked for where Python looks, and then in the current folder.

    Parameters
    ----------
    name
        Import string, ``package.module:Class``.
    base
        Class that it must be derived from.
    setting
        The setting that names the class, for messages.
    usual
        Class that messages advise to derive from; by default `base`.

    Raises
    ------
    ConfigError
        If the name is not an import string, the module cannot be imported, or it does not have such a class.
    """
    module_name, _, class_name = name.partition(":")
    module, advised = _module_of(name, setting), usual or base
    usable = [
        key
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and not inspect.isabstract(value)
    ]
    if class_name not in usable:
        wrong = f"is not a {advised.__name__}" if hasattr(module, class_name) else "does not exist"
        if inspect.isabstract(getattr(module, class_name, None)):
            lacking = ", ".join(sorted(getattr(module, class_name).__abstractmethods__))
            wrong = f"does not define {lacking}"
        raise ConfigError(
            f"{setting} is {name!r}, but {class_name} in {module_name} {wrong}.",
            hint=known_names(class_name, usable)
            if usable
            else f"Derive a class from {advised.__module__}.{advised.__name__}.",
        )
    found: type[T] = getattr(module, class_name)
    return found


def imported(name: str, setting: str) -> Any:
    """Import a class or a function; parameters as of :func:`imported_class`.

    Raises
    ------
    ConfigError
        If the name is not an import string, the module cannot be imported, or it does not have this name.
    """
    module = _module_of(name, setting)
    module_name, _, wanted = name.partition(":")
    if not hasattr(module, wanted):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(
            f"{setting} is {name!r}, but {wanted} in {module_name} does not exist.", hint=known_names(wanted, public)
        )
    return getattr(module, wanted)


def package_of(name: str) -> str | None:
    """Return the installed package that an import string names, with its version; None for a file of the user's."""
    top = name.partition(":")[0].partition(".")[0]
    try:
        return f"{top} {metadata.version(top)}"
    except metadata.PackageNotFoundError:
        return None


def identity(cls: Any) -> str:
    """Return the SHA-256 of the source file of a class or function; in a notebook, of its own source.

    Raises
    ------
    ConfigError
        If the source is not known, as for a class typed into an interactive session.
    """
    try:
        file = inspect.getsourcefile(cls)
        known = file is not None and Path(file).is_file()
        source = Path(str(file)).read_bytes() if known else inspect.getsource(cls).encode()
    except (OSError, TypeError) as e:
        raise ConfigError(
            f"the source of {getattr(cls, '__qualname__', cls)} is not known, which identifies a training.",
            hint="Put the class into a file.",
        ) from e
    return hashlib.sha256(source).hexdigest()


def _module_of(name: str, setting: str) -> Any:
    """Import the module of an import string."""
    if not _IMPORT_STRING.fullmatch(name):
        raise ConfigError(
            f"{setting} is {name!r}, which is not an import string.",
            hint="Write module:Class, such as my_losses:Tversky for the class Tversky in my_losses.py.",
        )
    return _imported(name.partition(":")[0], setting)


def _imported(name: str, setting: str) -> Any:
    with _current_folder_last():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as e:
            if e.name is None or not f"{name}.".startswith(f"{e.name}."):  # a module that the user's module imports
                raise ConfigError(f"{setting}: the module {name} cannot be imported: {e}.") from e
            raise ConfigError(
                f"{setting}: there is no module {name}.",
                hint=f"Start floemap in the folder of {name.split('.')[0]}.py, or put that folder into PYTHONPATH.",
            ) from e
        except (Exception, SystemExit) as e:
            raise ConfigError(f"{setting}: the module {name} cannot be imported: {type(e).__name__}: {e}.") from e


@contextmanager
def _current_folder_last() -> Iterator[None]:
    """Put the current folder at the end of Python's path, where it hides no installed module."""
    here = str(Path.cwd())
    sys.path.append(here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if here in sys.path:
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(here)]
