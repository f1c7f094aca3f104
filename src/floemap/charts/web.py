"""HTTP as the data services need it: patient, and careful with what it tells to whom.

Everything goes through :class:`Web`: busy servers (429, 503) are waited for as long as they ask, up to a limit, broken
connections are tried again, and redirects are followed here and not by the library below, because an access token must
not travel to a host that it was not meant for. Passwords of a netrc file are never added to a request by themselves.

A server may say anything, on purpose or because it is broken. So no answer is waited for without end or read without
bound, and nothing that it says (lengths, waiting times, addresses) is used before it is looked at.
"""

from __future__ import annotations

import email.utils
import ipaddress
import json
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

from floemap.errors import DownloadError, FloemapError, how_to_install
from floemap.version import __version__

try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.exceptions import HTTPError
    from urllib3.util import parse_url
except ImportError as e:
    raise FloemapError(
        "fetching needs the package requests, which is not installed.", hint=how_to_install("fetch")
    ) from e

logger = logging.getLogger(__name__)
# Of odd headers it warns with the whole address, whose query may be a signature.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

#: Tries in a row that bring next to nothing, before giving up.
MAX_TRIES = 7
#: A server that asks to wait longer is left in peace; a later run goes on where this one stopped.
MAX_WAIT_S = 600.0
CHUNK_BYTES = 1 << 16
_BACKOFF_S = (1, 2, 4, 8, 16, 32, 60)
_BUSY = {429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_CONNECT_S, _READ_S = 30.0, 60.0
#: A status with its headers, and after it a JSON answer, must be there within so many seconds each, however they come.
ANSWER_S = 60.0
#: The catalogue's answer about a product has some kB, Zenodo's record of the dataset too.
MAX_JSON_BYTES = 4 << 20
#: A download that brings less than :data:`CHUNK_BYTES` in so many seconds is as good as broken off.
SLOW_S = 60.0
#: No longer token or address is real; what is longer than this no server takes.
_MAX_ADDRESS = 8192


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


class BrokenConnectionError(Exception):
    """A connection that could not be made or did not last; worth another try."""


class Stopped(Exception):  # noqa: N818  (it is no error: the work was stopped from outside)
    """Raised where the work was stopped."""


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


def whole_number(text: str | None) -> int | None:
    """Read a whole number that is not negative as headers have it; None of anything else, be it as long as it may."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


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
            session = self._threads.session = _Session()
            self._sessions.append(session)
            session.mount("https://", _Adapter())
            session.mount("http://", _Adapter())
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
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as e:
            # Its text may hold the query, so only its kind is told.
            raise BrokenConnectionError(f"does not answer ({type(e).__name__})") from None
        except (requests.RequestException, HTTPError, ValueError) as e:
            raise DownloadError(f"{plain(url)} is no address that can be asked ({type(e).__name__}).") from None


def _as_it_is(request: Any) -> Any:
    """Authenticate with nothing. Without this, requests would look into netrc and replace an access token."""
    return request


class _Session(requests.Session):
    """Requests' own, which else would look into redirects, and read their bodies to the end, even where told not to."""

    def get_redirect_target(self, resp: Any) -> str | None:
        return None


@contextmanager
def _in_time(seconds: float, line: socket.socket) -> Iterator[threading.Event]:
    """Cut a connection if the block takes longer; the event says that it was.

    Timeouts of sockets are from one piece to the next: a byte now and then keeps them waiting for ever.
    """
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):
            socket.socket.shutdown(line, socket.SHUT_RDWR)  # of an encrypted one, the line and not the encryption

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


class _InTime:
    """A connection whose status and headers must be there in time."""

    def getresponse(self) -> Any:
        line = self.sock  # type: ignore[attr-defined]
        with _in_time(ANSWER_S, line) as late:
            try:
                response = super().getresponse()  # type: ignore[misc]
            except Exception:
                with suppress(OSError):  # an answer that is not understood is not closed by who tried to read it
                    os.close(line.detach())
                if late.is_set():
                    raise TimeoutError from None
                raise
        if late.is_set():
            response.close()
            raise TimeoutError
        response.line = line  # the connection itself lets go of it where the server is to close it after the answer
        return response


class _HTTP(_InTime, HTTPConnection):
    """Plain."""


class _HTTPS(_InTime, HTTPSConnection):
    """Encrypted."""


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS


class _Adapter(HTTPAdapter):
    """Requests' door to urllib3, with these connections."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager


def chunks(response: Any) -> Iterator[bytes]:
    """Give the body in pieces of :data:`CHUNK_BYTES`; of a connection that breaks, what came before it is given, too.

    Raises
    ------
    BrokenConnectionError
        If the connection ends before the body does, or brings next to nothing.
    """
    why, ended = "", False
    while not ended:
        block = bytearray()
        with _in_time(SLOW_S, response.raw.line) as late:
            try:
                while len(block) < CHUNK_BYTES and not ended:
                    piece = response.raw.read1(CHUNK_BYTES - len(block), decode_content=False)
                    ended = not piece
                    block += piece or b""
            except (HTTPError, HTTPException, OSError) as e:
                why, ended = type(e).__name__, True
        if block:
            yield bytes(block)
        if late.is_set():
            why = f"{len(block)} bytes came in {SLOW_S:.0f} s"
        if why:
            raise BrokenConnectionError(f"broke off ({why})")


def check_encoding(response: Any, url: str) -> None:
    """Refuse a body that is packed: nobody asked for it, and a little may swell to any size.

    Raises
    ------
    DownloadError
        If it is.
    """
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
        raise DownloadError(f"{plain(url)} sends it compressed, though asked not to.")


def refused(response: Any, url: str) -> DownloadError:
    """Make the error for a status that no waiting will change."""
    hints = {
        401: "The account's token was not accepted.",
        403: "The account may not have accepted the service's terms, or may not fetch this.",
        404: "It is not there (any more).",
    }
    return DownloadError(f"{plain(url)} answers {response.status_code}.", hint=hints.get(response.status_code))


def json_of(response: Any, url: str) -> Any:
    """Read a body as JSON.

    Raises
    ------
    DownloadError
        If it is something else, larger than :data:`MAX_JSON_BYTES`, or takes longer than :data:`ANSWER_S`.
    """
    check_encoding(response, url)
    body = bytearray()
    with _in_time(ANSWER_S, response.raw.line) as late:
        try:
            for block in chunks(response):
                body += block
                if len(body) > MAX_JSON_BYTES:
                    most = f"{MAX_JSON_BYTES >> 20} MB"
                    raise DownloadError(f"{plain(url)} answers more than {most} where some kB were to come.")
            content = json.loads(body)
        except (BrokenConnectionError, ValueError, RecursionError):
            content = late
    if late.is_set():
        raise DownloadError(f"{plain(url)} has not ended its answer after {ANSWER_S:.0f} s.")
    if content is late:
        raise DownloadError(f"{plain(url)} answers something else than JSON.")
    return content


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
