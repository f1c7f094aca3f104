"""List the files of a Zenodo record, with the sizes and checksums from Zenodo's API."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from floemap.datasets.download.file import RemoteFile, is_file_name, is_md5, is_size
from floemap.datasets.download.http import Web, linked
from floemap.datasets.download.listing import listed_files
from floemap.errors import ConfigError, DownloadError, FloemapError


def record_files(
    doi: str, web: Web, base_url: str, *, refused: list[FloemapError] | None = None
) -> tuple[RemoteFile, ...]:
    """List the files of a record.

    Parameters
    ----------
    doi
        DOI of the record, such as ``10.5281/zenodo.4683174``.
    base_url
        Address of Zenodo.
    refused
        List that collects the errors about invalid entries, so that the other files can be downloaded. Without it, the
        first error is raised.

    Raises
    ------
    DownloadError
        If the record cannot be read or lists no files, or a file has no plain name, size or checksum, has the name of
        another, or has an address that is invalid or not encrypted.
    ConfigError
        If `doi` is not a DOI of Zenodo.
    """
    match = re.fullmatch(r"10\.5281/zenodo\.([0-9]+)", doi)
    if match is None:
        raise ConfigError(f"{doi!r} is not a DOI of Zenodo.", hint="Give one such as 10.5281/zenodo.4683174.")
    url = f"{base_url}/api/records/{match[1]}"
    record = web.json(url)
    entries = record.get("files") if isinstance(record, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DownloadError(
            f"the record {doi} lists no files.",
            hint=f"Download them from https://doi.org/{doi} and use --check on the folder.",
        )
    record_url = f"{base_url}/records/{match[1]}"
    return listed_files(entries, lambda entry: _file(entry, record_url, doi), f"the record {doi}", refused)


def _file(entry: Any, record_url: str, doi: str) -> RemoteFile:
    """Read one entry in both of its forms: field names changed in October 2023, and some changed back."""
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    name = fields.get("key") or fields.get("filename")
    size = fields.get("size", fields.get("filesize"))
    md5 = str(fields.get("checksum", "")).removeprefix("md5:")
    if not (is_file_name(name) and is_size(size) and is_md5(md5)):
        raise DownloadError(f"the record {doi} lists a file without plain name, size and MD5: {str(entry)[:200]!r}.")
    links = fields.get("links")
    link = links.get("self") if isinstance(links, dict) else None
    url = link if isinstance(link, str) else f"{record_url}/files/{quote(str(name))}?download=1"
    return RemoteFile(name=str(name), url=linked(record_url, url), size=size, md5=md5.lower(), at_most=int(size or 0))
