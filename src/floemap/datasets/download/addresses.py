"""Web addresses that servers send: comparing servers, checking links before they are followed, printing addresses."""

from __future__ import annotations

import ipaddress
from urllib.parse import urljoin, urlsplit

from floemap.errors import DownloadError

#: Longest address, in characters, that servers usually accept.
_MAX_ADDRESS = 8192


def origin(url: str) -> str:
    """Return scheme, host and port of a URL, equal for addresses of one server; "" if it is not a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def plain(url: str) -> str:
    """Return a URL without query, for messages: queries of redirects carry signatures."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return f"{url[:100].partition('?')[0]!r}"
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"[:300]


def linked(here: str, target: str) -> str:
    """Return the address that a server at `here` points to, checked.

    It must be https. Plain http is accepted only if `here` is plain http, too, and the target is on the same server or
    on this machine.

    Raises
    ------
    DownloadError
        If it is not a web address, or not encrypted.
    """
    from urllib3.util import parse_url

    try:
        parts = parse_url(urljoin(here, target))
        url, host = parts.url, (parts.host or "").strip("[]")
        labels = [] if ":" in host else host.removesuffix(".").split(".")
        good = target.isprintable() and host.isascii() and 0 < len(host) <= 253 and len(url) <= _MAX_ADDRESS
        good = good and all(0 < len(label) <= 63 for label in labels)
    except ValueError:
        good = False
    if not good:
        raise DownloadError(f"{plain(here)} points to {target[:100].partition('?')[0]!r}, which is not a web address.")
    if parts.scheme == "https":
        return url
    if parts.scheme == "http" == urlsplit(here).scheme and (origin(url) == origin(here) or _is_this_machine(host)):
        return url
    raise DownloadError(f"{plain(here)} points to {plain(url)}, which is not encrypted.")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
