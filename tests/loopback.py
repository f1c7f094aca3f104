"""A stand-in for Zenodo, figshare and Copernicus Data Space on loopback: real HTTP, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, urlsplit

from floemap.datasets.extremeearth.scenes import DOI

RECORD = DOI.rsplit(".", 1)[1]
USER, PASSWORD = "someone@example.org", "correct horse/battery+staple"

#: What a fault does: it gets the handler and the body that was to be sent, and returns whether it has answered.
Fault = Callable[["Handler", bytes], bool]


def drop(after: int) -> Fault:
    """Announce all, send `after` bytes, close the connection."""

    def fault(handler: Handler, body: bytes) -> bool:
        handler.send_body(body, cut=after)
        return True

    return fault


def status(code: int, **headers: str) -> Fault:
    """Answer a status without body."""

    def fault(handler: Handler, body: bytes) -> bool:
        handler.answer(code, b"", {k.replace("_", "-"): v for k, v in headers.items()})
        return True

    return fault


def wrong(handler: Handler, body: bytes) -> bool:
    """Send as many bytes, one of them another."""
    handler.send_body(body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :])
    return True


def longer(handler: Handler, body: bytes) -> bool:
    """Send more bytes than the file has, without announcing how many."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(body + b"more")
    handler.close_connection = True
    return True


def no_range(handler: Handler, body: bytes) -> bool:
    """Send all from the start, whatever part was asked for."""
    handler.answer(200, body, {})
    return True


def other_range(handler: Handler, body: bytes) -> bool:
    """Answer as many bytes as were asked for, of another place, and say so."""
    rest = len(body) - int(re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "bytes=1-"))[1])
    handler.answer(206, body[1 : 1 + rest], {"Content-Range": f"bytes 1-{rest}/{len(body)}"})
    return True


def pieces(size: int) -> Fault:
    """Answer no more than `size` bytes of the part that was asked for, and say so, as a server may."""

    def fault(handler: Handler, body: bytes) -> bool:
        start = int(re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "bytes=0-"))[1])
        part = body[start : start + size]
        extent = f"bytes {start}-{start + len(part) - 1}/{len(body)}"
        handler.answer(206, part, {"Content-Range": extent})
        return True

    return fault


def hold(after: int, entered: threading.Event, release: threading.Event) -> Fault:
    """Send `after` bytes, then nothing until released."""

    def fault(handler: Handler, body: bytes) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:after])
        handler.wfile.flush()
        entered.set()
        release.wait(60)
        handler.close_connection = True
        return True

    return fault


def body(content: bytes, code: int = 200, **headers: str) -> Fault:
    """Answer other content."""

    def fault(handler: Handler, _: bytes) -> bool:
        handler.answer(code, content, {k.replace("_", "-"): v for k, v in headers.items()})
        return True

    return fault


def raw(answer: bytes, then: bytes = b"", every_s: float = 0.0, most: int = 200_000_000) -> Fault:
    """Answer these very bytes, and after them `then` again and again, until the client goes or `most` are sent."""

    def fault(handler: Handler, _: bytes) -> bool:
        handler.close_connection = True
        handler.wfile.write(answer)
        with suppress(OSError):
            while then and handler.state.sent < most:
                handler.wfile.write(then)
                handler.state.sent += len(then)
                time.sleep(every_s)
        return True

    return fault


@dataclass
class Seen:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: str = ""


@dataclass
class Loopback:
    """The server's state: what it has, what it will do wrong, what was asked of it."""

    handler: ClassVar[type[Handler] | None] = None
    files: dict[str, bytes] = field(default_factory=dict)
    products: dict[str, bytes] = field(default_factory=dict)
    catalogue: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    seen: list[Seen] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    refresh_tokens: set[str] = field(default_factory=set)
    expires_s: float = 600.0
    needs_token: bool = True
    send_etag: bool = True
    record: Any = None
    items: dict[int, list[Any]] = field(default_factory=dict)
    delay_s: float = 0.0
    piece_s: float = 0.0
    piece_bytes: int = 1 << 24
    active: int = 0
    sent: int = 0
    most_active: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        handler = type("Bound", (self.handler or Handler,), {"state": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def of(self, part: str) -> list[Seen]:
        """Requests whose path holds `part`."""
        return [s for s in self.seen if part in s.path]

    def figshare_entry(self, name: str) -> dict[str, Any]:
        """The entry of a file in the list of a figshare item, as figshare's API gives it."""
        md5 = hashlib.md5(self.files[name]).hexdigest()
        known = {"id": 1, "name": name, "size": len(self.files[name]), "is_link_only": False, "mimetype": "x/y"}
        return known | {"supplied_md5": md5, "computed_md5": md5, "download_url": f"{self.url}/files/{name}"}

    def entry(self, name: str) -> dict[str, Any]:
        """The catalogue's entry of a product, as CDSE gives it."""
        body = self.products[name]
        return {
            "Id": hashlib.sha1(name.encode()).hexdigest(),
            "Name": f"{name}.SAFE",
            "ContentLength": len(body),
            "Online": True,
            "PublicationDate": "2018-02-01T00:00:00.000000Z",
            "Checksum": [
                {"Value": hashlib.md5(body).hexdigest(), "Algorithm": "MD5"},
                {"Value": "0" * 64, "Algorithm": "BLAKE3"},
            ],
        } | self.catalogue.get(name, {})


class Handler(BaseHTTPRequestHandler):
    """Answers as the two services do."""

    protocol_version = "HTTP/1.1"
    state: Loopback

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.note(body)
        if self.fault(self.path, b""):
            return
        form = {k: v[0] for k, v in parse_qs(body).items()}
        s = self.state
        with s.lock:
            good = form.get("client_id") == "cdse-public" and (
                (form.get("grant_type") == "password" and (form["username"], form["password"]) == (USER, PASSWORD))
                or (form.get("grant_type") == "refresh_token" and form.get("refresh_token") in s.refresh_tokens)
            )
            if not good:
                self.answer_json(401, {"error": "invalid_grant", "error_description": "Invalid user credentials"})
                return
            n = len(self.state.of("/token"))
            token, refresh = f"access-{n}-secret", f"refresh-{n}-secret"
            s.tokens.add(token)
            s.refresh_tokens.add(refresh)
        answer = {"access_token": token, "expires_in": s.expires_s, "refresh_token": refresh}
        self.answer_json(200, answer | {"refresh_expires_in": 3600})

    def do_GET(self) -> None:
        self.note()
        s, path = self.state, urlsplit(self.path).path
        with s.lock:
            s.active += 1
            s.most_active = max(s.most_active, s.active)
        try:
            time.sleep(s.delay_s)
            self.respond(path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with s.lock:
                s.active -= 1

    def respond(self, path: str) -> None:
        s = self.state
        if path == f"/api/records/{RECORD}":
            if not self.fault(path, b""):
                self.answer_json(200, s.record if s.record is not None else self.zenodo_record())
        elif path.startswith("/v2/articles/"):
            if not self.fault(path, b""):
                self.answer_json(200, self.figshare_page(int(path.split("/")[3])))
        elif path.startswith("/files/"):
            name = path.removeprefix("/files/")
            if name not in s.files:
                self.answer(404, b"", {})
            elif not self.fault(path, s.files[name]):
                self.send_body(s.files[name])
        elif path == "/odata/v1/Products":
            if not self.fault(path, b""):
                self.answer_json(200, {"value": self.catalogued()})
        elif match := re.fullmatch(r"/odata/v1/Products\((\w+)\)/\$value", path):
            self.product(next(b for n, b in s.products.items() if s.entry(n)["Id"] == match[1]))
        else:
            self.answer(404, b"", {})

    def product(self, body: bytes) -> None:
        s = self.state
        if s.needs_token and self.headers.get("Authorization", "").removeprefix("Bearer ") not in s.tokens:
            self.answer(401, b"", {})
        elif not self.fault("$value", body):
            self.send_body(body)

    def catalogued(self) -> list[Any]:
        """The entry of a name; or those since a time, in order of publication, of one page; areas are not looked at."""
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        asked = re.fullmatch(r"Name eq '(.*)\.SAFE'", query["$filter"])
        if asked is not None:
            return [self.state.entry(asked[1])] if asked[1] in self.state.products else []
        since = re.search(r"PublicationDate ge (\S+)Z", query["$filter"])[1]
        entries = [e for e in map(self.state.entry, self.state.products) if e["PublicationDate"] >= since]
        skip, top = int(query["$skip"]), int(query["$top"])
        return sorted(entries, key=lambda e: e["PublicationDate"])[skip : skip + top]

    def figshare_page(self, item: int) -> list[Any]:
        asked = parse_qs(urlsplit(self.path).query)
        page, size = int(asked["page"][0]), int(asked["page_size"][0])
        return self.state.items.get(item, [])[(page - 1) * size : page * size]

    def zenodo_record(self) -> dict[str, Any]:
        s = self.state
        return {
            "files": [
                {
                    "key": name,
                    "size": len(body),
                    "checksum": f"md5:{hashlib.md5(body).hexdigest()}",
                    "links": {"self": f"{s.url}/files/{name}"},
                }
                for name, body in s.files.items()
            ]
        }

    def note(self, body: str = "") -> None:
        with self.state.lock:
            self.state.seen.append(Seen(self.command, self.path, dict(self.headers), body))

    def fault(self, key: str, body: bytes) -> bool:
        with self.state.lock:
            queue = self.state.faults[key]
            fault = queue.popleft() if queue else None
        return fault is not None and fault(self, body)

    def send_body(self, body: bytes, cut: int | None = None) -> None:
        """Send a file or the part of it that is asked for; `cut` closes the connection after so many bytes."""
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        headers = {"ETag": etag} if self.state.send_etag else {}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        code, part = 200, body
        if asked and self.headers.get("If-Range", etag) == etag:
            start = int(asked[1])
            if start >= len(body):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
                return
            code, part = 206, body[start : int(asked[2]) + 1 if asked[2] else None]
            headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(body)}"
        self.answer(code, part, headers, cut=cut)

    def answer_json(self, code: int, content: Any) -> None:
        self.answer(code, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def answer(self, code: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cut is None:
            for at in range(0, len(body), self.state.piece_bytes):
                self.wfile.write(body[at : at + self.state.piece_bytes])
                time.sleep(self.state.piece_s)
        else:
            self.wfile.write(body[:cut])
            self.wfile.flush()
            self.close_connection = True
