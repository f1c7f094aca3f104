"""Sentinel-1 products from the Copernicus Data Space Ecosystem (CDSE): account, access tokens, catalogue.

The account comes from the environment or from netrc. It is sent to the token endpoint only, and never written to a
file, log or message. Access tokens are valid for ten minutes, are renewed with a refresh token, and are sent to CDSE's
hosts only.
"""

from __future__ import annotations

import math
import netrc
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from floemap.datasets.download.file import RemoteFile, is_md5, is_size
from floemap.datasets.download.http import Services, Web, origin
from floemap.errors import DownloadError, FloemapError
from floemap.files import is_utf8

USER_VARIABLE, PASSWORD_VARIABLE = "FLOEMAP_CDSE_USER", "FLOEMAP_CDSE_PASSWORD"

#: Largest size to accept. An EW GRDM product in two polarisations has 449 MB of pixels, 12 MB of annotation and a
#: picture, zipped or not. The catalogue gives the size at ingestion, and 0 for many products.
EW_GRDM_AT_MOST_BYTES = 600_000_000

#: Entries of an answer, and answers of a search: more would be years of a small area.
_PAGE, _MOST_PAGES = 100, 100
#: Degrees of longitude between two corners of an area.
_CORNER_DEG = 5.0
#: Names of EW GRDM products in HH+HV in the catalogue; those of cloud-optimised copies end in _COG.
_PRODUCT = re.compile(r"(S1[A-D]_EW_GRDM_1SDH_\d{8}T\d{6}_\d{8}T\d{6}_\d{6}_[0-9A-F]{6}_[0-9A-F]{4})\.SAFE")

_CLIENT = "cdse-public"
_MARGIN_S = 30.0
#: Longest validity of a token to believe, seconds.
_MOST_S = 86_400.0


@dataclass(frozen=True)
class Account:
    """User name and password."""

    user: str = field(repr=False)
    password: str = field(repr=False)


def account_from_environment(identity_url: str, environ: Mapping[str, str] | None = None) -> Account:
    """Return the user's account from two environment variables, else from netrc's entry for the token endpoint's host.

    Raises
    ------
    FloemapError
        If there is no account, or only one of the variables is set; the hint explains how to provide it.
    """
    env = os.environ if environ is None else environ
    user, password = env.get(USER_VARIABLE), env.get(PASSWORD_VARIABLE)
    for name, value in ((USER_VARIABLE, user), (PASSWORD_VARIABLE, password)):
        if value and not is_utf8(value):
            raise FloemapError(f"{name} is not UTF-8.", hint="Set it again, in a terminal that writes UTF-8.")
    if user and password:
        return Account(user, password)
    if user or password:
        given, lacking = (USER_VARIABLE, PASSWORD_VARIABLE) if user else (PASSWORD_VARIABLE, USER_VARIABLE)
        raise FloemapError(f"{given} is set and {lacking} is not.", hint="Set both.")
    host = urlsplit(identity_url).hostname or ""
    path = Path(env.get("NETRC") or Path.home() / ".netrc")
    if path.is_file():
        found = _from_netrc(path, host)
        if found is not None:
            return found
    raise FloemapError(
        "the radar products need an account of the Copernicus Data Space Ecosystem.",
        hint=f"An account is free (dataspace.copernicus.eu). Set {USER_VARIABLE} and {PASSWORD_VARIABLE}, or add "
        f'"machine {host} login ... password ..." to {path}.',
    )


def _from_netrc(path: Path, host: str) -> Account | None:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise FloemapError("can be read by other users.", path=path, hint=f"Restrict it to you: chmod 600 {path}")
    try:
        hosts = netrc.netrc(str(path)).hosts
    except netrc.NetrcParseError as e:  # its message may quote a password
        raise FloemapError(f"is not valid netrc in line {e.lineno}.", path=path, hint="Correct that line.") from None
    except (OSError, UnicodeDecodeError):
        hint = f"Make it readable, or set {USER_VARIABLE} and {PASSWORD_VARIABLE}."
        raise FloemapError("cannot be read.", path=path, hint=hint) from None
    if host not in hosts:  # a "default" entry is not meant for CDSE
        return None
    user, _, password = hosts[host]
    return Account(user, password) if user and password else None


class TokenSource:
    """Access tokens for one account, renewed before they expire; safe for several threads.

    Parameters
    ----------
    clock
        Returns the time in seconds of a monotonic clock.
    """

    def __init__(
        self, account: Account, web: Web, services: Services, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._account = account
        self._web = web
        self._url = services.identity
        self._clock = clock
        self._trusted = {origin(u) for u in (services.catalogue, services.download, *services.token_hosts)}
        self._lock = threading.Lock()
        self._access = self._refresh = ""
        self._until = self._refresh_until = -1.0

    def header(self, url: str) -> dict[str, str]:
        """Return the authorization header for `url`; empty for any host but CDSE's.

        Raises
        ------
        DownloadError
            If the server refuses the account, or answers no usable token.
        """
        if origin(url) not in self._trusted:
            return {}
        with self._lock:
            if not self._access or self._clock() >= self._until:
                self._obtain()
            return {"Authorization": f"Bearer {self._access}"}

    def renew(self, refused: Mapping[str, str]) -> None:
        """Replace the token in the header that was refused, unless another thread has done so already."""
        with self._lock:
            if refused.get("Authorization") == f"Bearer {self._access}":
                self._obtain()

    def _obtain(self) -> None:
        now = self._clock()
        if self._refresh and now < self._refresh_until:
            status, answer = self._ask({"grant_type": "refresh_token", "refresh_token": self._refresh})
            if status == 200:
                self._take(answer, now)
                return
        status, answer = self._ask(
            {"grant_type": "password", "username": self._account.user, "password": self._account.password}
        )
        if status != 200:
            raise DownloadError(
                f"the server refused the account ({status}{self._reason(answer)}).",
                hint=f"Check {USER_VARIABLE} and {PASSWORD_VARIABLE}, or netrc. Accounts with a second factor cannot "
                "be used here.",
            )
        self._take(answer, now)

    def _ask(self, form: dict[str, str]) -> tuple[int, Any]:
        return self._web.post_form(self._url, {"client_id": _CLIENT, **form})

    def _take(self, answer: Any, now: float) -> None:
        fields = answer if isinstance(answer, dict) else {}
        access, lasts = _token(fields.get("access_token")), _seconds(fields.get("expires_in"))
        if access is None or lasts is None:
            self._access = self._refresh = ""
            raise DownloadError(f"{origin(self._url)} answers no valid access token.")
        self._access, self._until = access, now + lasts - _MARGIN_S
        self._refresh = _token(fields.get("refresh_token")) or ""
        self._refresh_until = now + (_seconds(fields.get("refresh_expires_in")) or 0.0) - _MARGIN_S

    def _reason(self, answer: Any) -> str:
        """Return the server's reason, unless it repeats a secret."""
        words = str(answer.get("error_description", ""))[:100] if isinstance(answer, dict) else ""
        secret = any(s in words for s in (self._account.user, self._account.password))
        return f": {words}" if words and not secret else ""


def _token(value: Any) -> str | None:
    """Return `value` if it is a token that a header can hold, else None."""
    return value if isinstance(value, str) and re.fullmatch(r"[!-~]{1,16384}", value) else None


def _seconds(value: Any) -> float | None:
    """Return a duration in seconds, at most a day; None where `value` is not a number from 0 on."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return min(seconds, _MOST_S) if seconds >= 0 else None


def find_product(name: str, web: Web, services: Services) -> RemoteFile:
    """Look up a product in the catalogue by its name, without an account.

    Raises
    ------
    DownloadError
        If the catalogue does not have the product, has it in the long-term archive only, or answers something else.
    """
    answer = web.json(f"{services.catalogue}/Products", {"$filter": f"Name eq '{name}.SAFE'"})
    entries = answer.get("value") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise DownloadError(f"the catalogue's answer about {name} is not a list of products.")
    entries = [e for e in entries if isinstance(e, dict) and e.get("Name") == f"{name}.SAFE" and _is_id(e.get("Id"))]
    if not entries:
        raise DownloadError(
            f"the catalogue has no product {name}.",
            hint="It may have been moved or reprocessed: look for its date at browser.dataspace.copernicus.eu, "
            "put the product into the folder, and use --check.",
        )
    online = [e for e in entries if e.get("Online") is not False]
    if not online:
        raise DownloadError(
            f"{name} is in the long-term archive.",
            hint="Order it at browser.dataspace.copernicus.eu, then run the same command again.",
        )
    # Of several entries, take one with a checksum.
    entry = max(online, key=lambda e: (bool(_md5(e)), str(e.get("PublicationDate", ""))))
    return _remote(name, entry, services)


def _remote(name: str, entry: Mapping[str, Any], services: Services) -> RemoteFile:
    """Return the file of a product's entry in the catalogue."""
    size = entry.get("ContentLength")
    size = size if is_size(size) and size > 0 else None
    return RemoteFile(
        name=f"{name}.zip",
        url=f"{services.download}/Products({entry['Id']})/$value",
        size=size,
        md5=_md5(entry),
        at_most=max(size or 0, EW_GRDM_AT_MOST_BYTES),
    )


@dataclass(frozen=True)
class Published:
    """A product in the catalogue.

    Attributes
    ----------
    name
        Name of the product, without a suffix.
    at
        When it was published.
    file
        Its file on the server.
    """

    name: str
    at: datetime
    file: RemoteFile


def find_published(
    box: tuple[float, float, float, float], since: datetime, web: Web, services: Services
) -> list[Published]:
    """Look up the EW GRDM products in HH+HV whose footprint meets a box, published since a time, the earliest first.

    Products in the long-term archive and cloud-optimised copies are left out. No account is needed.

    Parameters
    ----------
    box
        (west, south, east, north), degrees; west is larger than east across the date line.

    Raises
    ------
    DownloadError
        If the catalogue does not answer, or answers something else.
    """
    when = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    meets = " or ".join(f"OData.CSC.Intersects(area=geography'SRID=4326;{_outline(*part)}')" for part in _parts(*box))
    asked = f"Collection/Name eq 'SENTINEL-1' and contains(Name,'_EW_GRDM_1SDH_') and ({meets}) "
    asked += f"and PublicationDate ge {when}"
    found: dict[str, Published] = {}
    for page in range(_MOST_PAGES):
        query = {"$filter": asked, "$orderby": "PublicationDate asc", "$top": str(_PAGE), "$skip": str(page * _PAGE)}
        answer = web.json(f"{services.catalogue}/Products", query)
        entries = answer.get("value") if isinstance(answer, dict) else None
        if not isinstance(entries, list):
            raise DownloadError("the catalogue's answer about an area is not a list of products.")
        for entry in entries:
            if isinstance(entry, dict) and (one := _published(entry, services)) is not None:
                found[one.name] = one
        if len(entries) < _PAGE:
            break
    return sorted(found.values(), key=lambda one: (one.at, one.name))


def _published(entry: Mapping[str, Any], services: Services) -> Published | None:
    name, at = entry.get("Name"), entry.get("PublicationDate")
    match = _PRODUCT.fullmatch(name) if isinstance(name, str) else None
    if match is None or not _is_id(entry.get("Id")) or entry.get("Online") is False or not isinstance(at, str):
        return None
    try:
        when = datetime.fromisoformat(at)
    except ValueError:
        return None
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return Published(match[1], when, _remote(match[1], entry, services))


def _parts(west: float, south: float, east: float, north: float) -> list[tuple[float, float, float, float]]:
    """Return a box as boxes that do not cross the date line."""
    if west <= east:
        return [(west, south, east, north)]
    return [(west, south, 180.0, north), (-180.0, south, east, north)]


def _outline(west: float, south: float, east: float, north: float) -> str:
    """Return a box as WKT, with so many corners that lines between them follow the parallels."""
    number = max(1, math.ceil((east - west) / _CORNER_DEG))
    along = [west + (east - west) * i / number for i in range(number + 1)]
    ring = [(x, south) for x in along] + [(x, north) for x in reversed(along)] + [(west, south)]
    return f"POLYGON(({', '.join(f'{x:.10g} {y:.10g}' for x, y in ring)}))"


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9A-Za-z-]+", value) is not None


def _md5(entry: Mapping[str, Any]) -> str | None:
    checksums = entry.get("Checksum")
    for c in checksums if isinstance(checksums, list) else []:
        if isinstance(c, dict) and str(c.get("Algorithm", "")).upper() == "MD5" and is_md5(c.get("Value")):
            return str(c["Value"]).lower()
    return None
