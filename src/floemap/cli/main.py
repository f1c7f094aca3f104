"""The entry point: all commands, registered by being imported, in the order in which ``--help`` shows them."""

from __future__ import annotations

# isort: off
from floemap.cli import demo, simulate, fetch, info, prepare, label, train, compare, predict, chart, evaluate, report  # noqa: F401

# isort: on
from floemap.cli.app import app


def main() -> None:
    """Run the command line."""
    app()
