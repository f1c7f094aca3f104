"""Lists of files that catalogues send: each entry is checked, and one that is invalid does not hide the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from floemap.datasets.download.file import RemoteFile
from floemap.errors import DownloadError, FloemapError


def listed_files(
    entries: Iterable[Any], read: Callable[[Any], RemoteFile], where: str, refused: list[FloemapError] | None = None
) -> tuple[RemoteFile, ...]:
    """Read a catalogue's entries.

    Parameters
    ----------
    read
        Reads one entry, and raises a DownloadError if it cannot be trusted.
    where
        What lists them, for messages.
    refused
        List that collects the errors about invalid entries, so that the other files can be downloaded. Without it, the
        first error is raised.

    Raises
    ------
    DownloadError
        If an entry is refused, or has the name of another.
    """
    files: dict[str, RemoteFile] = {}
    for entry in entries:
        try:
            file = read(entry)
            if file.name in files:
                raise DownloadError(f"{where} lists two files named {file.name!r}.")
            files[file.name] = file
        except DownloadError as e:
            if refused is None:
                raise
            refused.append(e)
    return tuple(files.values())
