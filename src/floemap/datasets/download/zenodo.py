"""Files of a Zenodo record, with sizes and checksums as Zenodo's API gives them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from floemap.datasets.download.file import RemoteFile, is_file_name, is_md5, is_size
from floemap.datasets.download.http import Web, linked
from floemap.errors import ConfigError, DownloadError, FloemapError


def record_files(
    doi: str, web: Web, base_url: str, *, refused: list[FloemapError] | None = None
) -> tuple[RemoteFile, ...]:
    """List the files of a record.

    Parameters
    ----------
    doi
        Such as ``10.5281/zenodo.4683174``.
    base_url
        Of Zenodo.
    refused
        Gets the errors about entries that cannot be fetched, so that they do not cost the others. Without it, the first
        is raised.

    Raises
    ------
    DownloadError
        If the record cannot be had, lists no files, or one without plain name, size and checksum, of the name of
        another, or at an address that is none or not encrypted.
    """
    match = re.fullmatch(r"10\.5281/zenodo\.([0-9]+)", doi)
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
    files: dict[str, RemoteFile] = {}
    for entry in entries:
        try:
            file = _file(entry, f"{base_url}/records/{match[1]}", doi)
            if file.name in files:
                raise DownloadError(f"the record {doi} lists two files named {file.name!r}.")
            files[file.name] = file
        except DownloadError as e:
            if refused is None:
                raise
            refused.append(e)
    return tuple(files.values())


def _file(entry: Any, record_url: str, doi: str) -> RemoteFile:
    """Read one entry; field names changed in October 2023 and partly back, so both forms are read."""
    told: dict[str, Any] = entry if isinstance(entry, dict) else {}
    name = told.get("key") or told.get("filename")
    size = told.get("size", told.get("filesize"))
    md5 = str(told.get("checksum", "")).removeprefix("md5:")
    if not (is_file_name(name) and is_size(size) and is_md5(md5)):
        raise DownloadError(f"the record {doi} lists a file without plain name, size and MD5: {str(entry)[:200]!r}.")
    links = told.get("links")
    link = links.get("self") if isinstance(links, dict) else None
    url = link if isinstance(link, str) else f"{record_url}/files/{quote(str(name))}?download=1"
    return RemoteFile(name=str(name), url=linked(record_url, url), size=size, md5=md5.lower(), at_most=int(size or 0))
