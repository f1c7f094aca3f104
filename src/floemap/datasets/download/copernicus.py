"""Sentinel-1 products from the Copernicus Data Space Ecosystem (CDSE): account, access tokens, catalogue.

The account comes from the environment or from netrc. It is sent to the token endpoint only, and never written to a
file, log or message. Access tokens are valid for ten minutes, are renewed with a refresh token, and are sent to CDSE's
hosts only.
"""

from __future__ import annotations

import netrc
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    size = entry.get("ContentLength")
    size = size if is_size(size) and size > 0 else None
    return RemoteFile(
        name=f"{name}.zip",
        url=f"{services.download}/Products({entry['Id']})/$value",
        size=size,
        md5=_md5(entry),
        at_most=max(size or 0, EW_GRDM_AT_MOST_BYTES),
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9A-Za-z-]+", value) is not None


def _md5(entry: Mapping[str, Any]) -> str | None:
    checksums = entry.get("Checksum")
    for c in checksums if isinstance(checksums, list) else []:
        if isinstance(c, dict) and str(c.get("Algorithm", "")).upper() == "MD5" and is_md5(c.get("Value")):
            return str(c["Value"]).lower()
    return None
