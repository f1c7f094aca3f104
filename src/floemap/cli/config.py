"""``floemap config``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from floemap.cli.app import command, stdout
from floemap.cli.out_option import out_option


@command("config")
def config(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Name of the configuration. (default: list all of them)")
    ] = None,
    out: Annotated[Path | None, out_option("Write the configuration to this new file.", metavar="FILE")] = None,
) -> None:
    """Print a configuration that comes with floemap, to change and to run.

    Without NAME, list the configurations and the purpose of each.

        floemap config paper > study.toml

        floemap compare study.toml --data extremeearth --out study
    """
    from floemap.config import config_names, config_text

    if name is None:
        width = max(map(len, config_names())) + 2
        for known in config_names():
            stdout.print(f"{known:<{width}}{_purpose(config_text(known))}", soft_wrap=False)
        return
    text = config_text(name)
    if out is None:
        sys.stdout.write(text)
        return
    _write_new(out, text)
    stdout.print(str(out))


def _purpose(text: str) -> str:
    """Return the first sentence of the comment at the top of a configuration."""
    comment = " ".join(line.lstrip("# ") for line in text.split("\n\n")[0].splitlines() if line.startswith("#"))
    return re.split(r"(?<![A-Z])\.( |$)", comment)[0] + "."  # not after an initial


def _write_new(path: Path, text: str) -> None:
    """Write a file that does not exist yet."""
    from floemap.errors import OutputError
    from floemap.files import writable_name
    from floemap.results.stage import refuse_within

    writable_name(path)
    refuse_within(path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise OutputError(
            "already exists and is not replaced.", path=path, hint="Give another name, or move the file away."
        ) from None
    except OSError as e:
        path.unlink(missing_ok=True)
        raise OutputError(f"cannot be written: {e.strerror}.", path=path) from e
