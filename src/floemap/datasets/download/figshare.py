"""List the files of a figshare item, with the sizes and checksums from figshare's API (version 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from floemap.datasets.download.file import RemoteFile, is_file_name, is_md5, is_size
from floemap.datasets.download.http import Web, linked, plain
from floemap.datasets.download.listing import listed_files
from floemap.errors import DownloadError, FloemapError

#: Entries of a page, the most that the API gives, and pages that are read at most.
_PAGE, _MOST_PAGES = 1000, 20


def item_files(
    item: int,
    web: Web,
    base_url: str,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    refused: list[FloemapError] | None = None,
) -> tuple[RemoteFile, ...]:
    """List files of an item.

    Parameters
    ----------
    item
        Number of the item, the last part of its DOI.
    base_url
        Address of the API.
    wanted
        Returns whether a file of a name is wanted. Entries of other names are left out unread.
    refused
        See :func:`floemap.datasets.download.listing.listed_files`.

    Raises
    ------
    DownloadError
        If the item cannot be read or lists no files, or a wanted file has no plain name or size, is only a link, has
        the name of another, or has an address that is invalid or not encrypted.
    """
    url = f"{base_url}/articles/{item}/files"
    entries: list[Any] = []
    for page in range(1, _MOST_PAGES + 1):
        found = web.json(url, params={"page": str(page), "page_size": str(_PAGE)})
        if not isinstance(found, list):
            raise DownloadError(f"the answer of {plain(url)} is not a list of files.", hint="Download them by hand.")
        entries += found
        if len(found) < _PAGE:
            break
    if not entries:
        raise DownloadError(f"{plain(url)} lists no files.", hint="Download them by hand.")
    chosen = [e for e in entries if not isinstance(e, dict) or wanted(str(e.get("name")))]
    return listed_files(chosen, lambda entry: _file(entry, url), plain(url), refused)


def _file(entry: Any, url: str) -> RemoteFile:
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    name, size, link = (fields.get(key) for key in ("name", "size", "download_url"))
    if not (is_file_name(name) and is_size(size) and isinstance(link, str)) or fields.get("is_link_only"):
        raise DownloadError(f"{plain(url)} lists a file without plain name, size and address: {str(entry)[:200]!r}.")
    given = [fields.get("computed_md5"), fields.get("supplied_md5")]
    md5 = next((m for m in given if is_md5(m)), None)
    return RemoteFile(name, linked(url, link), size, md5.lower() if md5 else None, size)
