"""The version, from the installed package's metadata so that it is written down once."""

from importlib.metadata import version

__version__ = version("floemap")
