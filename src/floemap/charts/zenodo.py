"""Files of a Zenodo record, with sizes and checksums as Zenodo's API gives them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from floemap.charts.download import RemoteFile
from floemap.charts.web import Web
from floemap.errors import ConfigError, DownloadError


def record_files(doi: str, web: Web, base_url: str) -> tuple[RemoteFile, ...]:
    """List the files of a record.

    Parameters
    ----------
    doi
        Such as ``10.5281/zenodo.4683174``.
    base_url
        Of Zenodo.

    Raises
    ------
    DownloadError
        If the record cannot be had, lists no files, or lists one without size or checksum.
    """
    match = re.fullmatch(r"10\.5281/zenodo\.(\d+)", doi)
    if match is None:
        raise ConfigError(f"{doi!r} is no DOI of Zenodo's.", hint="They look like 10.5281/zenodo.4683174.")
    url = f"{base_url}/api/records/{match[1]}"
    record = web.json(url)
    entries = record.get("files") if isinstance(record, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DownloadError(
            f"the record {doi} lists no files.",
            hint=f"Download them from https://doi.org/{doi} and use --check on the folder.",
        )
    return tuple(_file(entry, f"{base_url}/records/{match[1]}", doi) for entry in entries)


def _file(entry: Any, record_url: str, doi: str) -> RemoteFile:
    """Read one entry; field names changed in October 2023 and partly back, so both forms are read."""
    entry = entry if isinstance(entry, dict) else {}
    name = entry.get("key") or entry.get("filename")
    size = entry.get("size", entry.get("filesize"))
    md5 = str(entry.get("checksum", "")).removeprefix("md5:").lower()
    whole = isinstance(name, str) and isinstance(size, int) and size >= 0 and re.fullmatch(r"[0-9a-f]{32}", md5)
    if not whole or name != PurePosixPath(name).name or name.startswith(".") or "\\" in name:
        raise DownloadError(f"the record {doi} lists a file without plain name, size and MD5: {str(entry)[:200]}.")
    links = entry.get("links")
    link = links.get("self") if isinstance(links, dict) else None
    url = link if isinstance(link, str) else f"{record_url}/files/{quote(name)}?download=1"
    return RemoteFile(name=name, url=url, size=size, md5=md5, at_most=size)
