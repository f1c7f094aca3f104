"""The entry point: all commands, registered by being imported, in the order in which ``--help`` shows them."""

from __future__ import annotations

from floemap.cli import info, prepare  # noqa: F401
from floemap.cli.app import app


def main() -> None:
    """Run the command line."""
    app()
