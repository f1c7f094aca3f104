"""Addresses that servers give: which are the same server, which may be followed, and how they are told of."""

from __future__ import annotations

import ipaddress
from urllib.parse import urljoin, urlsplit

from floemap.errors import DownloadError

#: What is longer no server takes.
_MAX_ADDRESS = 8192


def origin(url: str) -> str:
    """Scheme, host and port of a URL: what says whether two addresses are one server. "" of what is no address."""
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
    """Return the address that a server at `here` points to, where it may be followed.

    Only https is, besides plain http where `here` is so, too, and the target is the same server or on this machine.

    Raises
    ------
    DownloadError
        If it is no web address, or not encrypted.
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
        raise DownloadError(f"{plain(here)} points to {target[:100].partition('?')[0]!r}, which is no web address.")
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
