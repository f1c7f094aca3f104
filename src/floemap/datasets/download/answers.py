"""Answers of servers, read within bounds: in time, in memory, and looked at before they are used.

A server may say anything, on purpose or because it is broken. Timeouts of sockets are from one piece to the next, so a
byte now and then keeps them waiting for ever; and a body without end fills the memory. So connections are cut here that
bring too little in too long a time, and JSON is read up to a size.
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

# Their messages contain whole addresses, whose queries may be signatures.
for _name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).setLevel(logging.ERROR)

CHUNK_BYTES = 1 << 16
#: A status with its headers, and after it a JSON answer, must be there within so many seconds each, however they come.
ANSWER_S = 60.0
#: The catalogue's answer about a product has some kB, Zenodo's record of the dataset too.
MAX_JSON_BYTES = 4 << 20
#: A download that brings less than :data:`CHUNK_BYTES` in so many seconds is as good as broken off.
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
        # Lengths and ranges are of the bytes as they lie on the server.
        self.headers["Accept-Encoding"] = "identity"

    def get_redirect_target(self, resp: Any) -> str | None:
        """Find none."""
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
        response.drain_conn = response.close  # before a retry, urllib3 would read the body of a busy answer to its end
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


def whole_number(text: str | None) -> int | None:
    """Read a whole number that is not negative as headers have it; None of anything else, be it as long as it may."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None
