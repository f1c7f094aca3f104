"""The command line. Each command parses, calls one function of the public API, prints."""

try:
    from floemap.cli.main import main
except KeyboardInterrupt:  # ctrl-C while the libraries are loaded, before a command could say what stays
    raise SystemExit(130) from None

__all__ = ["main"]
