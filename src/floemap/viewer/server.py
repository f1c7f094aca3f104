"""A small web server for one page: the files of a table, whole or in ranges, to browsers on this machine.

A browser reads a cloud-optimised GeoTIFF by asking for ranges of its bytes, which the servers of the standard library
do not give. Only addresses of the table are answered; a request's path is never joined to a folder, so no path leads
out of it. Headers keep the page from loading anything from elsewhere, and the check of the Host header keeps pages from
elsewhere, which may give a name of their own the address of this machine (DNS rebinding), from reading the answers.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from floemap.version import __version__

logger = logging.getLogger(__name__)

#: Where the page may load what from: nothing but this server. Also in the page itself, for exported folders.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "worker-src 'self' blob:; font-src 'self'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
#: Content types by the ending of an address. Others are not served.
TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".tif": "image/tiff",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
}
_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")
#: Seconds after which an idle connection is closed.
_IDLE_S = 60
_BLOCK = 1 << 18
#: Neither a link is followed nor a pipe waited for.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True)
class Content:
    """What an address gives: bytes, a function that makes them at each request, or the real path of a file."""

    source: bytes | Callable[[], bytes] | Path

    def bytes(self) -> bytes | None:
        """Return the bytes; None if the source is a file."""
        if isinstance(self.source, Path):
            return None
        return self.source() if callable(self.source) else self.source

    def open(self) -> BinaryIO | None:
        """Open the file; None if it is gone, or its path has become that of a link or of anything but a file."""
        if not isinstance(self.source, Path):
            return None
        try:
            if self.source.resolve(strict=True) != self.source:
                return None
            opened = os.fdopen(os.open(self.source, _READ), "rb")
        except (OSError, RuntimeError):  # RuntimeError: it has become a link to itself
            return None
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            opened.close()
            return None
        return opened


def wanted_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the end, exclusive, of what a Range header asks for of `size` bytes.

    None means the whole: there is no header, or it is not a single range of bytes, which RFC 9110 (14.2) allows to
    ignore. An empty range, first equal to end, cannot be satisfied.
    """
    found = _RANGE.fullmatch(header.strip()) if header is not None else None
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        return max(size - int(suffix), 0), size
    if last and int(last) < int(first):
        return None
    start = min(int(first), size)
    return start, min(int(last) + 1, size) if last and start < size else size


def is_own_host(header: str | None, host: str) -> bool:
    """Return whether a Host header names this server: an address in digits, ``localhost``, or the name it was given."""
    try:
        named = urlsplit(f"//{header or ''}")
        name, _ = named.hostname or "", named.port
    except ValueError:
        return False
    if named.path or named.query or named.fragment or "@" in named.netloc:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in ("localhost", host.lower())
    return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = f"floemap/{__version__}", ""
    timeout = _IDLE_S
    server: MapServer

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # every other method
            return self._refuse_method
        raise AttributeError(name)

    def _refuse_method(self) -> None:
        self.close_connection = True  # its body is not read
        self._end(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"}, b"405\n")

    def _answer(self, *, body: bool) -> None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not is_own_host(hosts[0], self.server.host):
            self.close_connection = True
            self._end(
                HTTPStatus.MISDIRECTED_REQUEST, {}, b"421: open the address that floemap view has printed\n", body
            )
            return
        address = self._address()
        content = None if address is None else self.server.table.get(address)
        kind = TYPES.get(Path(address or "").suffix)
        if content is None or kind is None:
            self._end(HTTPStatus.NOT_FOUND, {}, b"404\n", body)
        elif (made := content.bytes()) is not None:
            self._give(made, len(made), f'"{hash(made):x}"', None, kind, body)
        elif (file := content.open()) is None:
            self._end(HTTPStatus.NOT_FOUND, {}, b"404\n", body)
        else:
            with file:
                status = os.fstat(file.fileno())
                tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
                self._give(file, status.st_size, tag, status.st_mtime, kind, body)

    def _address(self) -> str | None:
        """Return the address within the table that the request asks for; None if it has no such form."""
        path = self.path.partition("?")[0]
        if not path.startswith("/") or path.startswith("//"):
            return None
        return unquote(path[1:], errors="replace") or "index.html"

    def _give(
        self, source: BinaryIO | bytes, size: int, tag: str, changed: float | None, kind: str, body: bool
    ) -> None:
        headers = {"Content-Type": kind, "ETag": tag, "Accept-Ranges": "bytes"}
        if changed is not None:
            headers["Last-Modified"] = formatdate(changed, usegmt=True)
        if self._unchanged(tag, changed):
            self._end(HTTPStatus.NOT_MODIFIED, headers, None)
            return
        part = None
        if self.command == "GET" and self._still_same(tag, headers.get("Last-Modified")):
            part = wanted_range(self.headers.get("Range"), size)
        if part is not None and part[0] == part[1]:
            headers["Content-Range"] = f"bytes */{size}"
            self._end(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers, b"", body)
            return
        first, end = part or (0, size)
        if part is not None:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        headers["Content-Length"] = str(end - first)
        self._begin(HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT, headers)
        if body:
            self._send(source, first, end)

    def _send(self, source: BinaryIO | bytes, first: int, end: int) -> None:
        if isinstance(source, bytes):
            self.wfile.write(source[first:end])
            return
        source.seek(first)
        left = end - first
        while left and (block := source.read(min(left, _BLOCK))):
            self.wfile.write(block)
            left -= len(block)
        if left:  # the file has become shorter: only closing the connection says so
            self.close_connection = True

    def _unchanged(self, tag: str, changed: float | None) -> bool:
        """Return whether the browser has the content already, by RFC 9110, 13.2.2."""
        if (known := self.headers.get("If-None-Match")) is not None:
            tags = [t.strip().removeprefix("W/") for t in known.split(",")]
            return tag in tags or known.strip() == "*"
        since = self.headers.get("If-Modified-Since")
        if since is None or changed is None:
            return False
        try:
            return int(changed) <= parsedate_to_datetime(since).timestamp()
        except (TypeError, ValueError, OverflowError):
            return False

    def _still_same(self, tag: str, modified: str | None) -> bool:
        """Return whether a range fits what the browser has: If-Range, RFC 9110, 13.1.5."""
        condition = self.headers.get("If-Range")
        return condition is None or condition.strip() in (tag, modified)

    def _end(self, status: HTTPStatus, headers: Mapping[str, str], text: bytes | None, body: bool = True) -> None:
        """Answer with a short text, or with none at all."""
        more = {} if text is None else {"Content-Length": str(len(text))}
        if text and "Content-Type" not in headers:
            more["Content-Type"] = TYPES[".txt"]
        self._begin(status, dict(headers) | more)
        if text and body and self.command != "HEAD":
            self.wfile.write(text)

    def _begin(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer requests that are not HTTP without repeating what they contain."""
        self.close_connection = True
        self._end(HTTPStatus(code), {}, f"{code}\n".encode(), body=getattr(self, "command", None) != "HEAD")

    def log_message(self, format: str, *args: Any) -> None:
        """Log requests in detail only; what comes from the network is quoted."""
        logger.debug("%s asked %r: %s", self.client_address[0], getattr(self, "requestline", ""), args[-1:])


class MapServer(ThreadingHTTPServer):
    """The server of one page.

    Parameters
    ----------
    table
        Contents by address; the page is ``index.html``.
    host, port
        Address to listen on; port 0 takes a free one.

    Raises
    ------
    OSError
        If the port is taken or not allowed, or the host is not one of this machine.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name == "posix"

    def __init__(self, table: Mapping[str, Content], host: str = "127.0.0.1", port: int = 0) -> None:
        import socket

        self.table, self.host = table, host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Address of the page."""
        host, port = self.server_address[:2]
        name = "127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else str(host)
        return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"

    def server_bind(self) -> None:
        """Bind without looking up the machine's name, which may take seconds without a network."""
        import socketserver

        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Browsers close connections whenever they like; that is worth a line in the detailed log only."""
        logger.debug("the connection with %s ended early", client_address[0], exc_info=True)
