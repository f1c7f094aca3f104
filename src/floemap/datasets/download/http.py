"""HTTP as the data services need it: patient, and careful with what it tells to whom.

Everything goes through :class:`Web`: busy servers (429, 503) are waited for as long as they ask, up to a limit, broken
connections are tried again, and redirects are followed here and not by the library below, because an access token must
not travel to a host that it was not meant for. Passwords of a netrc file are never added to a request by themselves.

What servers say is not trusted either: answers are read within bounds (:mod:`floemap.datasets.download.answers`),
addresses are looked at before they are followed (:mod:`floemap.datasets.download.addresses`).
"""

from __future__ import annotations

import email.utils
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from floemap.datasets.download.addresses import linked, origin, plain
from floemap.errors import DownloadError, FloemapError, how_to_install
from floemap.version import __version__

try:
    import requests
    from urllib3.exceptions import HTTPError

    from floemap.datasets.download.answers import (
        CHUNK_BYTES,
        BrokenConnectionError,
        Session,
        check_encoding,
        chunks,
        json_of,
        whole_number,
    )
except ImportError as e:
    raise FloemapError(
        "fetching needs the package requests, which is not installed.", hint=how_to_install("fetch")
    ) from e

#: All that who fetches needs, so that a package that is missing is told of here and nowhere else.
__all__ = [
    "CHUNK_BYTES", "MAX_TRIES", "SERVICES", "Bearer", "BrokenConnectionError", "Services", "Stopped",
    "UnreachableError", "Web", "check_encoding", "chunks", "linked", "origin", "plain", "refused", "whole_number",
]  # fmt: skip

logger = logging.getLogger(__name__)

#: Tries in a row that bring next to nothing, before giving up.
MAX_TRIES = 7
#: A server that asks to wait longer is left in peace; a later run goes on where this one stopped.
MAX_WAIT_S = 600.0
_BACKOFF_S = (1, 2, 4, 8, 16, 32, 60)
_BUSY = {429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_CONNECT_S, _READ_S = 30.0, 60.0


@dataclass(frozen=True)
class Services:
    """Where the two data services answer; one table, replaced as a whole in tests.

    Attributes
    ----------
    zenodo
        Zenodo, for the charts.
    catalogue, download
        Copernicus Data Space Ecosystem (CDSE): OData product catalogue and product download.
    identity
        CDSE's token endpoint.
    token_hosts
        Origins that may see an access token, besides those of `catalogue` and `download`.
    """

    zenodo: str = "https://zenodo.org"
    catalogue: str = "https://catalogue.dataspace.copernicus.eu/odata/v1"
    download: str = "https://download.dataspace.copernicus.eu/odata/v1"
    identity: str = "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
    token_hosts: tuple[str, ...] = ("https://zipper.dataspace.copernicus.eu",)

    @classmethod
    def at(cls, base_url: str) -> Services:
        """All of them under one address, as a mirror or a test has them."""
        return cls(base_url, f"{base_url}/odata/v1", f"{base_url}/odata/v1", f"{base_url}/token", ())


SERVICES = Services()


class Bearer(Protocol):
    """Gives access tokens."""

    def header(self, url: str) -> dict[str, str]:
        """Return the header that opens `url`; empty for a host that must not see it."""

    def renew(self, refused: Mapping[str, str]) -> None:
        """Get another token than the one in the header that was refused."""


class UnreachableError(DownloadError):
    """A server that is busy or away for too long: others of its files need not be asked for now."""


class Stopped(Exception):  # noqa: N818  (it is no error: the work was stopped from outside)
    """Raised where the work was stopped."""


class Web:
    """A client for many requests, from several threads.

    Parameters
    ----------
    sleep
        Called with seconds to wait.
    stop
        When set, whatever waits or is about to ends with :class:`Stopped`.
    """

    def __init__(self, *, sleep: Callable[[float], object] | None = None, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()
        self._sleep = sleep or self.stop.wait
        self._threads = threading.local()
        self._sessions: list[requests.Session] = []

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        for session in self._sessions:
            session.close()

    def json(self, url: str, params: Mapping[str, str] | None = None) -> Any:
        """Get JSON.

        Raises
        ------
        DownloadError
            If the server refuses, is not there after several tries, or answers something else.
        """
        with self.open(url, params=params) as response:
            if response.status_code != 200:
                raise refused(response, url)
            return json_of(response, url)

    def post_form(self, url: str, form: Mapping[str, str]) -> tuple[int, Any]:
        """Post a form and return status and JSON. Redirects are not followed.

        The JSON is None where the status is not 200 and the body is none.

        Raises
        ------
        DownloadError
            If the server is not there after several tries, or answers 200 and something else than JSON.
        """

        def send() -> Any:
            with self._request("POST", url, data=dict(form), stream=True) as response:
                if response.status_code in _BUSY:
                    return response
                if response.status_code in _REDIRECTS:
                    raise DownloadError(f"{plain(url)} redirects, and credentials are not sent elsewhere.")
                try:
                    return response.status_code, json_of(response, url)
                except DownloadError:
                    if response.status_code == 200:
                        raise
                    return response.status_code, None  # the status says what there is to say

        for tries in range(1, MAX_TRIES + 1):
            try:
                answer = send()
            except BrokenConnectionError as e:
                self.wait(tries, url, str(e))
                continue
            if isinstance(answer, tuple):
                return answer
            self.wait(tries, url, f"answers {answer.status_code}", answer)
        raise AssertionError("unreachable: the last wait raises")

    @contextmanager
    def open(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        bearer: Bearer | None = None,
    ) -> Iterator[Any]:
        """Give a streamed response to a GET, whatever its status, after redirects, waiting and renewing of tokens.

        Raises
        ------
        DownloadError
            If the server is busy or away for too long, or redirects without end or to an unencrypted address.
        """
        renewed = False
        tries = 1
        while True:
            try:
                response, sent = self._follow(url, params, headers or {}, bearer)
            except BrokenConnectionError as e:
                self.wait(tries, url, str(e))
                tries += 1
                continue
            with response:
                if response.status_code in _BUSY:
                    self.wait(tries, url, f"answers {response.status_code}", response)
                    tries += 1
                    continue
                if response.status_code == 401 and bearer is not None and sent and not renewed:
                    renewed = True
                    bearer.renew(sent)
                    continue
                yield response
                return

    def wait(self, tries: int, url: str, why: str, response: Any = None) -> None:
        """Sleep before the next try, as long as the server asks or longer from try to try.

        Raises
        ------
        UnreachableError
            If this was the last try, or the server asks for more patience than there is.
        """
        if tries >= MAX_TRIES:
            raise UnreachableError(
                f"{plain(url)} {why}, {tries} times in a row.", hint="Try again later: it goes on there."
            )
        seconds = float(_BACKOFF_S[min(tries, len(_BACKOFF_S)) - 1])
        asked = None if response is None else _retry_after_s(response.headers.get("Retry-After"))
        if asked is not None and asked > MAX_WAIT_S:
            raise UnreachableError(
                f"{plain(url)} {why} and asks to come back in {asked / 60:.0f} minutes.",
                hint="Run the same command then: it goes on where it stopped.",
            )
        seconds = seconds if asked is None else max(asked, 0.0)
        logger.info("%s %s; next try in %g s", plain(url), why, seconds)
        self._sleep(seconds)
        if self.stop.is_set():
            raise Stopped

    def _follow(
        self, url: str, params: Mapping[str, str] | None, headers: Mapping[str, str], bearer: Bearer | None
    ) -> tuple[Any, dict[str, str]]:
        """Send a GET and follow redirects; also return the token's header that the answering host saw."""
        here = url
        for _ in range(_MAX_REDIRECTS + 1):
            token = bearer.header(here) if bearer is not None else {}
            response = self._request("GET", here, params=params, headers={**headers, **token}, stream=True)
            if response.status_code not in _REDIRECTS:
                return response, token
            target = response.headers.get("Location", "")
            response.close()
            with suppress(UnicodeError):  # headers are read as Latin-1; what servers write into them is UTF-8
                target = target.encode("latin-1").decode()
            here, params = linked(here, target), None
        raise DownloadError(f"{plain(url)} redirects more than {_MAX_REDIRECTS} times.")

    def _request(self, method: str, url: str, **options: Any) -> Any:
        session = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = Session()
            self._sessions.append(session)
            session.headers["User-Agent"] = f"floemap/{__version__}"
        try:
            return session.request(
                method,
                url,
                timeout=(_CONNECT_S, _READ_S),
                allow_redirects=False,
                auth=_as_it_is,
                **options,
            )
        except requests.exceptions.SSLError:
            raise DownloadError(
                f"{plain(url)} cannot show who it is: its certificate is not trusted.",
                hint="Behind a proxy with its own certificate, set REQUESTS_CA_BUNDLE.",
            ) from None
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as e:
            # Its text may hold the query, so only its kind is told.
            raise BrokenConnectionError(f"does not answer ({type(e).__name__})") from None
        except (requests.RequestException, HTTPError, ValueError) as e:
            raise DownloadError(f"{plain(url)} is no address that can be asked ({type(e).__name__}).") from None


def _as_it_is(request: Any) -> Any:
    """Authenticate with nothing. Without this, requests would look into netrc and replace an access token."""
    return request


def refused(response: Any, url: str) -> DownloadError:
    """Make the error for a status that no waiting will change."""
    hints = {
        401: "The account's token was not accepted.",
        403: "The account may not have accepted the service's terms, or may not fetch this.",
        404: "It is not there (any more).",
    }
    return DownloadError(f"{plain(url)} answers {response.status_code}.", hint=hints.get(response.status_code))


def _retry_after_s(value: str | None) -> float | None:
    """Read a Retry-After header: seconds, or a date. None where it says nothing readable."""
    if value is None:
        return None
    seconds = whole_number(value)
    if seconds is not None:
        return float(seconds)
    try:
        when = email.utils.parsedate_to_datetime(value)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return (when - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
