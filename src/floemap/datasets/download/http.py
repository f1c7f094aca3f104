"""An HTTP client for the data services, with retries and with access tokens that stay with their servers.

Everything goes through :class:`Web`. Busy servers (429, 500, 502, 503, 504) and failed connections are tried again by
urllib3's Retry, which waits for as long as the server asks, up to a limit. Redirects are followed here and not by
requests, because an access token must not travel to a host that it was not meant for. Passwords of a netrc file are
never added to a request.

Answers are not trusted: bodies are read within bounds (:mod:`floemap.datasets.download.answers`) and addresses are
checked before they are followed (:mod:`floemap.datasets.download.addresses`).
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from floemap.datasets.download.addresses import linked, origin, plain
from floemap.errors import DownloadError, FloemapError, UnreachableError, how_to_install
from floemap.version import __version__

try:
    import requests
    from urllib3.exceptions import HTTPError, InvalidHeader
    from urllib3.util import Retry

    from floemap.datasets.download.answers import (
        CHUNK_BYTES,
        BrokenConnectionError,
        Session,
        check_encoding,
        chunks,
        json_of,
        text_of,
        whole_number,
    )
except ImportError as e:
    raise FloemapError(
        "fetching needs the package requests, which is not installed.", hint=how_to_install("fetch")
    ) from e

#: All that fetching needs, so that this module alone reports a missing package.
__all__ = [
    "CHUNK_BYTES", "MAX_TRIES", "SERVICES", "Bearer", "BrokenConnectionError", "Services", "Stopped",
    "UnreachableError", "Web", "check_encoding", "chunks", "linked", "origin", "plain", "refused", "whole_number",
]  # fmt: skip

logger = logging.getLogger(__name__)

#: Tries in a row that bring next to nothing, before giving up.
MAX_TRIES = 7
#: Longest wait, in seconds, that a server may ask for; the user resumes later instead.
MAX_WAIT_S = 600.0
_MAX_BACKOFF_S = 60.0
_BUSY = {429, 500, 502, 503, 504}
_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_CONNECT_S, _READ_S = 30.0, 60.0


@dataclass(frozen=True)
class Services:
    """Addresses of the data services; tests replace the whole table.

    Attributes
    ----------
    zenodo, figshare
        Zenodo, for ExtremeEarth's charts, and figshare's API, for AI4Arctic.
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
    figshare: str = "https://api.figshare.com/v2"

    @classmethod
    def at(cls, base_url: str) -> Services:
        """Return the table of services that all have one base address, such as a mirror's."""
        odata = f"{base_url}/odata/v1"
        return cls(base_url, odata, odata, f"{base_url}/token", (), f"{base_url}/v2")


SERVICES = Services()


class Bearer(Protocol):
    """A source of access tokens."""

    def header(self, url: str) -> dict[str, str]:
        """Return the authorization header for `url`; empty for a host that must not see the token."""

    def renew(self, refused: Mapping[str, str]) -> None:
        """Replace the token in the header that was refused."""


class Stopped(Exception):  # noqa: N818  (not an error: the caller stopped the work)
    """Raised where the work was stopped."""


class _TooLongError(Exception):
    """A server that asks for a longer wait than :data:`MAX_WAIT_S`."""


class _Retry(Retry):
    """urllib3's retries; the user can stop the waits, which have a limit, and unreadable headers are ignored."""

    def __init__(self, total: int, pause: Callable[[float], None], **options: Any) -> None:
        super().__init__(total, **options)
        self.pause = pause
        self.retry_after_max = sys.maxsize  # else urllib3 shortens what the server asks for

    def new(self, **changes: Any) -> _Retry:
        """Return a changed copy."""
        return super().new(pause=self.pause, **changes)

    def get_retry_after(self, response: Any) -> float | None:
        """Return the seconds in Retry-After; None where the header is absent or cannot be read."""
        try:
            return super().get_retry_after(response)
        except (InvalidHeader, ValueError, TypeError, OverflowError, IndexError):
            return None

    def sleep(self, response: Any = None) -> None:
        """Wait for as long as the server asks, or longer from try to try."""
        asked = self.get_retry_after(response) if response is not None else None
        if asked is not None and asked > MAX_WAIT_S:
            raise _TooLongError(f"answers {response.status} and asks to come back in {asked / 60:.0f} minutes")
        seconds = asked or self.get_backoff_time()
        logger.info("the server is busy or does not answer; next try in %g s", seconds)
        self.pause(seconds)


class Web:
    """A client for many requests, from several threads.

    Parameters
    ----------
    sleep
        Called with the number of seconds to wait.
    stop
        When set, waits and downloads end with :class:`Stopped`.
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
            If the server refuses, does not answer after several tries, or the answer is not JSON.
        """
        with self.open(url, params=params) as response:
            if response.status_code != 200:
                raise refused(response, url)
            return json_of(response, url)

    def text(self, url: str) -> str | None:
        """Get a short text in UTF-8; None if the server does not have it.

        Raises
        ------
        DownloadError
            If the server refuses, does not answer after several tries, or the answer is too long or not text.
        """
        with self.open(url) as response:
            if response.status_code in (404, 410):
                return None
            if response.status_code != 200:
                raise refused(response, url)
            return text_of(response, url)

    def post_form(self, url: str, form: Mapping[str, str]) -> tuple[int, Any]:
        """Post a form and return status and JSON. Redirects are not followed.

        The JSON is None where the status is not 200 and the body is not JSON.

        Raises
        ------
        DownloadError
            If the server does not answer after several tries, redirects, or answers 200 with a body that is not JSON.
        """
        with self._request("POST", url, data=dict(form)) as response:
            if response.status_code in _REDIRECTS:
                raise DownloadError(f"{plain(url)} redirects, and credentials are not sent elsewhere.")
            try:
                return response.status_code, json_of(response, url)
            except DownloadError:
                if response.status_code == 200:
                    raise
                return response.status_code, None

    @contextmanager
    def open(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        bearer: Bearer | None = None,
    ) -> Iterator[Any]:
        """Yield a streamed response to a GET of any status, after retries, redirects and renewal of the token.

        Raises
        ------
        DownloadError
            If the server stays busy, does not answer, redirects too often, or redirects to an unencrypted address.
        """
        response, sent = self._follow(url, params, headers or {}, bearer)
        if response.status_code == 401 and bearer is not None and sent:
            response.close()
            bearer.renew(sent)
            response, _ = self._follow(url, params, headers or {}, bearer)
        with response:
            yield response

    def pause(self, seconds: float) -> None:
        """Sleep, unless the work is stopped.

        Raises
        ------
        Stopped
            If it was stopped.
        """
        self._sleep(seconds)
        if self.stop.is_set():
            raise Stopped

    def wait(self, tries: int, url: str, why: str) -> None:
        """Sleep before the transfer of a file is resumed, longer from try to try.

        urllib3 retries a request until the headers of its answer are there; a body that breaks off is not its matter.

        Raises
        ------
        UnreachableError
            If this was the last try.
        """
        if tries >= MAX_TRIES:
            raise _unreachable(url, why)
        seconds = min(2.0 ** (tries - 1), _MAX_BACKOFF_S)
        logger.info("%s %s; next try in %g s", plain(url), why, seconds)
        self.pause(seconds)

    def _follow(
        self, url: str, params: Mapping[str, str] | None, headers: Mapping[str, str], bearer: Bearer | None
    ) -> tuple[Any, dict[str, str]]:
        """Send a GET and follow redirects; also return the token's header that the answering host saw."""
        here = url
        for _ in range(_MAX_REDIRECTS + 1):
            token = bearer.header(here) if bearer is not None else {}
            response = self._request("GET", here, params=params, headers={**headers, **token})
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
            # "Other" errors are untrusted certificates, which a retry does not change.
            retry = _Retry(
                MAX_TRIES - 1,
                self.pause,
                other=0,
                status_forcelist=_BUSY,
                allowed_methods=None,
                backoff_factor=1.0,
                backoff_max=_MAX_BACKOFF_S,
                raise_on_status=False,
            )
            session = self._threads.session = Session(retry)
            self._sessions.append(session)
            session.headers["User-Agent"] = f"floemap/{__version__}"
        try:
            response = session.request(
                method,
                url,
                timeout=(_CONNECT_S, _READ_S),
                allow_redirects=False,
                auth=_unchanged,
                stream=True,
                **options,
            )
        except requests.exceptions.SSLError:
            raise DownloadError(
                f"the certificate of {plain(url)} is not trusted.",
                hint="Behind a proxy with its own certificate, set REQUESTS_CA_BUNDLE.",
            ) from None
        except _TooLongError as e:
            raise UnreachableError(f"{plain(url)} {e}.", hint="Run the same command then to resume.") from None
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as e:
            # The error's text may contain the query, so only its type is reported.
            raise _unreachable(url, f"does not answer ({type(e).__name__})") from None
        except (requests.RequestException, HTTPError, ValueError) as e:
            raise DownloadError(f"{plain(url)} cannot be requested ({type(e).__name__}).") from None
        if response.status_code in _BUSY:
            response.close()
            raise _unreachable(url, f"answers {response.status_code}")
        return response


def _unreachable(url: str, why: str) -> UnreachableError:
    return UnreachableError(
        f"{plain(url)} {why}, {MAX_TRIES} times in a row.", hint="Run the same command later to resume."
    )


def _unchanged(request: Any) -> Any:
    """Authenticate with nothing. Without this, requests would read netrc and replace an access token."""
    return request


def refused(response: Any, url: str) -> DownloadError:
    """Return the error for a status that no retry changes."""
    hints = {
        401: "The server did not accept the account's token.",
        403: "Accept the service's terms with your account, or use an account that may download this file.",
        404: "The file does not exist, or was removed.",
    }
    return DownloadError(f"{plain(url)} answers {response.status_code}.", hint=hints.get(response.status_code))
