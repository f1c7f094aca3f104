"""The entry point. Importing a command's module registers it; the order of imports is that of ``--help``."""

# ruff: noqa: F401
from __future__ import annotations

# isort: off
from floemap.cli import demo, config, simulate, fetch, info, prepare, layer, label, train, compare, spread
from floemap.cli import predict, chart, mosaic, archive, watch, publish, monitor, view, route, bundle, evaluate, report

# isort: on
from floemap.cli.app import app
from floemap.cli.streams import replace_closed


def main() -> None:
    """Run the command line."""
    replace_closed()
    app()
