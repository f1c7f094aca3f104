"""Files on a mirror: a web folder that has them under their names, and if it can a list of checksums."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from floemap.datasets.download.file import RemoteFile
from floemap.datasets.download.http import Web, linked, plain, refused, whole_number
from floemap.errors import ConfigError, DownloadError

#: List of checksums that a mirror may have, in the form that `md5sum *` writes.
SUMS = "MD5SUMS"


def base_of(address: str) -> str:
    """Return the address of a mirror, checked, without a slash at the end.

    Raises
    ------
    ConfigError
        If it is not an address on the web.
    """
    try:
        base = linked(address, address).rstrip("/")
    except DownloadError as e:
        hint = "Give the address of a web folder, such as https://mirror.example/ai4arctic."
        raise ConfigError(f"{address[:200]!r} is not the address of a mirror: {e.message}", hint=hint) from None
    if "?" in base or "#" in base:
        raise ConfigError(f"{base[:200]!r} is the address of a page, and not of a folder.")
    return base


def checksums(web: Web, base: str) -> dict[str, str]:
    """Return the MD5 of the files by name, as the mirror's list gives them; empty if it has no list.

    Raises
    ------
    DownloadError
        If the server does not answer, or the list is too long.
    """
    text = web.text(f"{base}/{SUMS}")
    lines = [re.fullmatch(r"([0-9a-fA-F]{32}) [ *](?:\./)?(\S+)", line.rstrip()) for line in (text or "").splitlines()]
    return {match[2].rsplit("/", 1)[-1]: match[1].lower() for match in lines if match is not None}


def mirrored_file(name: str, web: Web, base: str, sums: Mapping[str, str]) -> RemoteFile | None:
    """Ask a mirror for the size of a file; None if it does not have the file.

    Raises
    ------
    DownloadError
        If the server does not answer, refuses, or does not say how long the file is.
    """
    url = f"{base}/{quote(name)}"
    with web.open(url) as response:
        if response.status_code in (404, 410):
            return None
        if response.status_code != 200:
            raise refused(response, url)
        size = whole_number(response.headers.get("Content-Length"))
    if size is None:
        raise DownloadError(f"{plain(url)} does not say how long the file is.", hint="Use another mirror.")
    return RemoteFile(name, url, size, sums.get(name), size)
