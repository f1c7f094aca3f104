"""The option ``--out`` of all commands: its names and metavar, and its help where it means the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def out_option(help: str, metavar: str = "DIR", *, names: tuple[str, ...] = ()) -> Any:
    """Return the option; `help` says what the command writes there, `names` are names that it has before ``--out``."""
    return typer.Option(*names, "--out", "-o", metavar=metavar, help=help)


def folder_named(name: str) -> Any:
    """Return the option of a command that makes one folder, with a name that it chooses."""
    return out_option(f"Folder that gets a folder with the name {name}.")


#: Folder of a command that makes several things in it.
OutForAll = Annotated[Path, out_option("Folder for all results.")]
#: Folder of a command that works on many products.
OutForEach = Annotated[Path, out_option("Folder that gets one folder for each product.")]
