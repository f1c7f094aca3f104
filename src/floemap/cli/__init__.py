"""The command line. Each command parses, calls one function of the public API, prints."""

from floemap.cli.main import main

__all__ = ["main"]
