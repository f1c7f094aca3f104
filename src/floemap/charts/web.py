"""HTTP as the data services need it: patient, and careful with what it tells to whom.

Everything goes through :class:`Web`: busy servers (429, 503) are waited for as long as they ask, up to a limit, broken
connections are tried again, and redirects are followed here and not by the library below, because an access token must
not travel to a host that it was not meant for. Passwords of a netrc file are never added to a request by themselves.
"""

from __future__ import annotations

import email.utils
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from floemap.errors import DownloadError, FloemapError, how_to_install
from floemap.version import __version__

try:
    import requests
except ImportError as e:
    raise FloemapError(
        "fetching needs the package requests, which is not installed.", hint=how_to_install("fetch")
    ) from e

logger = logging.getLogger(__name__)

#: Tries in a row without a byte gained, before giving up.
MAX_TRIES = 7
#: A server that asks to wait longer is left in peace; a later run goes on where this one stopped.
MAX_WAIT_S = 600.0
CHUNK_BYTES = 1 << 16
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


class BrokenConnectionError(Exception):
    """A connection that could not be made or did not last; worth another try."""


class Stopped(Exception):  # noqa: N818  (it is no error: the work was stopped from outside)
    """Raised where the work was stopped."""


def origin(url: str) -> str:
    """Scheme, host and port of a URL: what says whether two addresses are one server."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def plain(url: str) -> str:
    """Return a URL without query, for messages: queries of redirects carry signatures."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


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
            return _json_of(response, url)

    def post_form(self, url: str, form: Mapping[str, str]) -> tuple[int, Any]:
        """Post a form and return status and JSON (None where the body is none). Redirects are not followed.

        Raises
        ------
        DownloadError
            If the server is not there after several tries.
        """

        def send() -> Any:
            with self._request("POST", url, data=dict(form)) as response:
                if response.status_code in _BUSY:
                    return response
                if response.status_code in _REDIRECTS:
                    raise DownloadError(f"{plain(url)} redirects, and credentials are not sent elsewhere.")
                try:
                    return response.status_code, response.json()
                except (ValueError, requests.RequestException):
                    return response.status_code, None

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
        DownloadError
            If this was the last try, or the server asks for more patience than there is.
        """
        if tries >= MAX_TRIES:
            raise DownloadError(
                f"{plain(url)} {why}, {tries} times in a row.", hint="Try again later: it goes on there."
            )
        seconds = float(_BACKOFF_S[min(tries, len(_BACKOFF_S)) - 1])
        asked = None if response is None else _retry_after_s(response.headers.get("Retry-After"))
        if asked is not None and asked > MAX_WAIT_S:
            raise DownloadError(
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
            target = urljoin(here, response.headers.get("Location", ""))
            response.close()
            if urlsplit(target).scheme not in ("https", "http") or (
                urlsplit(here).scheme == "https" and urlsplit(target).scheme != "https"
            ):
                raise DownloadError(f"{plain(url)} redirects to {plain(target)}, which is not encrypted.")
            here, params = target, None
        raise DownloadError(f"{plain(url)} redirects more than {_MAX_REDIRECTS} times.")

    def _request(self, method: str, url: str, **options: Any) -> Any:
        session = getattr(self._threads, "session", None)
        if session is None:
            session = self._threads.session = requests.Session()
            self._sessions.append(session)
            session.headers["User-Agent"] = f"floemap/{__version__}"
            # Lengths and ranges are of the bytes as they lie on the server.
            session.headers["Accept-Encoding"] = "identity"
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
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
            raise DownloadError(f"{plain(url)} is no web address.") from None
        except requests.RequestException as e:  # its text may hold the query, so only its kind is told
            raise BrokenConnectionError(f"does not answer ({type(e).__name__})") from None


def _as_it_is(request: Any) -> Any:
    """Authenticate with nothing. Without this, requests would look into netrc and replace an access token."""
    return request


def chunks(response: Any) -> Iterator[bytes]:
    """Give the body in pieces, small ones: of a connection that breaks, the piece that was on its way is lost.

    Raises
    ------
    BrokenConnectionError
        If the connection ends before the body does.
    """
    try:
        yield from response.iter_content(CHUNK_BYTES)
    except requests.RequestException as e:
        raise BrokenConnectionError(f"broke off ({type(e).__name__})") from None


def refused(response: Any, url: str) -> DownloadError:
    """Make the error for a status that no waiting will change."""
    hints = {
        401: "The account's token was not accepted.",
        403: "The account may not have accepted the service's terms, or may not fetch this.",
        404: "It is not there (any more).",
    }
    return DownloadError(f"{plain(url)} answers {response.status_code}.", hint=hints.get(response.status_code))


def _json_of(response: Any, url: str) -> Any:
    try:
        return response.json()
    except (ValueError, requests.RequestException):
        raise DownloadError(f"{plain(url)} answers something else than JSON.") from None


def _retry_after_s(value: str | None) -> float | None:
    """Read a Retry-After header: seconds, or a date. None where it says nothing readable."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return (when - datetime.now(UTC)).total_seconds()
