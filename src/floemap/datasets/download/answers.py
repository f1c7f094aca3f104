"""Reading answers of servers within limits of time and memory.

A server may send anything, on purpose or because it is broken. Timeouts of sockets count from one piece to the next, so
that a byte now and then keeps a client waiting without end, and a body without end fills the memory. This module
therefore cuts connections that are too slow, and reads JSON up to a size.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from floemap.datasets.download.addresses import plain
from floemap.errors import DownloadError
from floemap.files import parsed

# Their messages contain whole addresses, whose queries may be signatures.
for _name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).setLevel(logging.ERROR)

CHUNK_BYTES = 1 << 16
#: Longest time in seconds for status and headers to arrive, and for a JSON body after them.
ANSWER_S = 60.0
#: The catalogue's answer about a product and Zenodo's record of the dataset have some kB.
MAX_JSON_BYTES = 4 << 20
#: A download that brings less than :data:`CHUNK_BYTES` in so many seconds counts as broken off.
SLOW_S = 60.0


class BrokenConnectionError(Exception):
    """A connection that broke off before the body ended; worth another try."""


class Session(requests.Session):
    """A session that reads no bodies of redirects and cuts slow answers.

    Parameters
    ----------
    retries
        When failed requests are repeated.
    """

    def __init__(self, retries: Retry) -> None:
        super().__init__()
        self.mount("https://", _Adapter(max_retries=retries))
        self.mount("http://", _Adapter(max_retries=retries))
        # Lengths and ranges count the bytes as the server stores them.
        self.headers["Accept-Encoding"] = "identity"

    def get_redirect_target(self, resp: Any) -> str | None:
        """Return None: requests would otherwise read the bodies of redirects to their end."""
        return None


@contextmanager
def _in_time(seconds: float, line: socket.socket) -> Iterator[threading.Event]:
    """Cut a connection if the block takes longer; the event is set if that happened."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):
            socket.socket.shutdown(
                line, socket.SHUT_RDWR
            )  # not the method of an SSL socket, which waits for the other side

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


class _InTime:
    """A connection that limits the time for status and headers."""

    def getresponse(self) -> Any:
        line = self.sock  # type: ignore[attr-defined]
        with _in_time(ANSWER_S, line) as late:
            try:
                response = super().getresponse()  # type: ignore[misc]
            except Exception:
                with suppress(OSError):  # http.client does not close an answer that it cannot parse
                    os.close(line.detach())
                if late.is_set():
                    raise TimeoutError from None
                raise
        if late.is_set():
            response.close()
            raise TimeoutError
        response.drain_conn = response.close  # before a retry, urllib3 would read the body of a busy answer to its end
        response.line = line  # kept here: the connection drops it if the server closes after the answer
        return response


class _HTTP(_InTime, HTTPConnection):
    """A connection over plain http."""


class _HTTPS(_InTime, HTTPSConnection):
    """A connection over https."""


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS


class _Adapter(HTTPAdapter):
    """An adapter from requests to urllib3 that uses these connections."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager


def chunks(response: Any) -> Iterator[bytes]:
    """Yield the body in pieces of :data:`CHUNK_BYTES`, and what arrived before a connection broke.

    Raises
    ------
    BrokenConnectionError
        If the connection ends before the body does, or is slower than :data:`SLOW_S`.
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
    """Refuse a compressed body: the request excluded it, and few bytes may expand to any size.

    Raises
    ------
    DownloadError
        If the body is compressed.
    """
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("identity", ""):
        raise DownloadError(f"{plain(url)} sends a compressed answer, which the request excluded.")


def json_of(response: Any, url: str) -> Any:
    """Read a body as JSON.

    Raises
    ------
    DownloadError
        If it is not JSON, is larger than :data:`MAX_JSON_BYTES`, or takes longer than :data:`ANSWER_S`.
    """
    try:
        return parsed(json.loads, _body_of(response, url))
    except (BrokenConnectionError, ValueError, RecursionError):
        raise DownloadError(f"{plain(url)} does not answer JSON.") from None


def text_of(response: Any, url: str) -> str:
    """Read a body as text in UTF-8; see :func:`json_of` for the limits and errors."""
    try:
        return _body_of(response, url).decode()
    except (BrokenConnectionError, ValueError):
        raise DownloadError(f"{plain(url)} does not answer text in UTF-8.") from None


def _body_of(response: Any, url: str) -> bytes:
    check_encoding(response, url)
    body = bytearray()
    with _in_time(ANSWER_S, response.raw.line) as late:
        try:
            for block in chunks(response):
                body += block
                if len(body) > MAX_JSON_BYTES:
                    most = f"{MAX_JSON_BYTES >> 20} MB"
                    raise DownloadError(f"{plain(url)} answers more than {most}, where some kB are usual.")
        except BrokenConnectionError:
            if not late.is_set():
                raise
    if late.is_set():
        raise DownloadError(f"{plain(url)} did not finish its answer within {ANSWER_S:.0f} s.")
    return bytes(body)


def whole_number(text: str | None) -> int | None:
    """Return the non-negative whole number in a header; None for anything else, also for over 18 digits."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None
