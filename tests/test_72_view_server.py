"""The server of maps: ranges by their definition, nothing but its table, no foreign host, safe headers."""

from __future__ import annotations

import http.client
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floemap.viewer.server import POLICY, TYPES, Content, MapServer, is_own_host, wanted_range

CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served").resolve()
    (folder / "a.tif").write_bytes(CONTENT)
    (folder / "secret.txt").write_text("secret")
    (folder / "empty.json").write_bytes(b"")
    (folder / "page").mkdir()
    (folder / "page" / "index.html").write_text("<!doctype html>")
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[MapServer]:
    files = {"data/s1/1-a.tif": "a.tif", "empty.json": "empty.json", "index.html": "page/index.html"}
    table = {address: Content(folder / name) for address, name in files.items()} | {"map.json": Content(b"{}")}
    with MapServer(table) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(server: MapServer) -> tuple[str, int]:
    host, port = server.server_address[:2]
    return str(host), int(port)


def ask(server: MapServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask for a path as it stands, without a client that tidies it; return status, headers and body."""
    with closing(http.client.HTTPConnection(*address(server), timeout=60)) as connection:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


def raw(server: MapServer, request: bytes) -> bytes:
    with socket.create_connection(address(server), timeout=60) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_a_file_is_given_whole(served: MapServer) -> None:
    status, headers, body = ask(served, "/data/s1/1-a.tif")
    assert (status, body) == (200, CONTENT)
    assert headers["content-type"] == "image/tiff" and headers["accept-ranges"] == "bytes"
    status, headers, body = ask(served, "/data/s1/1-a.tif", "HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", str(len(CONTENT)))
    assert ask(served, "/")[2] == ask(served, "/index.html?x=../y")[2] == b"<!doctype html>"
    assert ask(served, "/map.json")[1:] == ask(served, "/map.json")[1:] and ask(served, "/map.json")[2] == b"{}"


SPANS = st.integers(0, len(CONTENT) + 50)


@given(st.tuples(SPANS, SPANS))
def test_ranges_are_those_of_the_definition(pair: tuple[int, int]) -> None:
    """RFC 9110, 14.1.2: first and last position, both inclusive; the last is cut; a suffix is the last n bytes."""
    size, (first, last) = len(CONTENT), pair
    positions = range(size)

    def given_by(header: str) -> list[int]:
        start, end = wanted_range(header, size) or (0, size)
        return list(positions[start:end])

    wanted = [p for p in positions if first <= p <= last] if first <= last else list(positions)
    assert given_by(f"bytes={first}-{last}") == wanted
    assert given_by(f"bytes={first}-") == [p for p in positions if p >= first]
    assert given_by(f"bytes=-{first}") == [p for p in positions if p >= size - first]


@pytest.mark.parametrize(
    "header", ["bytes=5-2", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes=0-1 ", "bytes=+1-2"]
)
def test_what_is_not_one_range_of_bytes_is_ignored(header: str) -> None:
    assert wanted_range(header, 100) == ((0, 2) if header == "bytes=0-1 " else None)


def test_ranges_over_the_wire(served: MapServer) -> None:
    status, headers, body = ask(served, "/data/s1/1-a.tif", Range="bytes=100-299")
    assert (status, body, headers["content-range"]) == (206, CONTENT[100:300], f"bytes 100-299/{len(CONTENT)}")
    status, headers, body = ask(served, "/data/s1/1-a.tif", Range="bytes=-7")
    assert (status, body, headers["content-length"]) == (206, CONTENT[-7:], "7")
    for header in (f"bytes={len(CONTENT)}-", "bytes=-0"):
        status, headers, body = ask(served, "/data/s1/1-a.tif", Range=header)
        assert (status, body, headers["content-range"]) == (416, b"", f"bytes */{len(CONTENT)}")
    assert ask(served, "/empty.json", Range="bytes=0-0")[0] == 416
    assert ask(served, "/data/s1/1-a.tif", "HEAD", Range="bytes=0-1")[0] == 200  # RFC 9110: Range is for GET


def test_what_the_browser_has_is_not_sent_again(served: MapServer, folder: Path) -> None:
    tag, modified = (ask(served, "/data/s1/1-a.tif")[1][name] for name in ("etag", "last-modified"))
    assert ask(served, "/data/s1/1-a.tif", If_None_Match=f'"x", {tag}')[::2] == (304, b"")
    assert ask(served, "/data/s1/1-a.tif", If_Modified_Since=modified)[0] == 304
    assert ask(served, "/data/s1/1-a.tif", If_Modified_Since="yesterday")[0] == 200
    for condition, status in ((tag, 206), (modified, 206), ('"x"', 200)):
        assert ask(served, "/data/s1/1-a.tif", Range="bytes=0-1", If_Range=condition)[0] == status
    os.utime(folder / "a.tif", (1, 1))
    assert ask(served, "/data/s1/1-a.tif")[1]["etag"] != tag
    assert ask(served, "/data/s1/1-a.tif", If_None_Match=tag)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/secret.txt", "/../secret.txt", "/data/../secret.txt", "/data/s1/../../secret.txt", "/%2e%2e/secret.txt"),
        *("/..%2fsecret.txt", "/%252e%252e/secret.txt", "/..\\secret.txt", "//secret.txt", "/./map.json", "/map.json/"),
        *("/data", "/data/", "/data/s1/", "/data/s1/1-a.tif%00", "/%00", "/a.tif", "/DATA/s1/1-a.tif", "/%ff%fe"),
        *("/index.html/../map.json", "/map.json%2f", "/page/index.html"),
    ],
)
def test_nothing_but_the_table_is_served(served: MapServer, path: str) -> None:
    status, _, body = ask(served, path)
    assert status == 404 and b"secret" not in body


def test_absolute_paths_are_not_served(served: MapServer, folder: Path) -> None:
    for path in (f"{folder}/secret.txt", f"/{folder}/secret.txt", f"file://{folder}/secret.txt"):
        assert ask(served, path)[0] == 404


@pytest.mark.parametrize("kind", ["a link", "a link above", "a pipe", "gone"])
def test_a_file_that_became_something_else_is_not_served(kind: str, served: MapServer, tmp_path: Path) -> None:
    tmp_path = tmp_path.resolve()
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").mkdir()
    for name in ("inside", "secret"):
        (tmp_path / name / "b.tif").write_bytes(name.encode())
    path = tmp_path / "inside" / "b.tif"
    served.table = {**served.table, "b.tif": Content(path)}
    assert ask(served, "/b.tif")[2] == b"inside"
    path.unlink()
    if kind == "a link":
        path.symlink_to(tmp_path / "secret" / "b.tif")
    elif kind == "a link above":
        (tmp_path / "inside").rmdir()
        (tmp_path / "inside").symlink_to(tmp_path / "secret")
    elif kind == "a pipe":
        os.mkfifo(path)
    assert ask(served, "/b.tif")[0] == 404


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *(("127.0.0.1:8080", True), ("localhost", True), ("LOCALHOST:1", True), ("[::1]:80", True), ("10.0.0.7", True)),
        *(("evil.example", False), ("evil.example:8080", False), ("127.0.0.1.evil.example", False), ("", False)),
        *((None, False), ("localhost@evil.example", False), ("evil.example#127.0.0.1", False), ("[::1", False)),
        *(("localhost.", False), ("127.0.0.1:x", False), ("a/b", False), ("127.0.0.1/evil", False)),
    ],
)
def test_only_addresses_and_own_names_are_hosts(host: str | None, own: bool) -> None:
    assert is_own_host(host, "127.0.0.1") == own


def test_a_name_that_was_given_is_its_own() -> None:
    assert is_own_host("ice.example:80", "ice.example") and not is_own_host("other.example", "ice.example")


def test_foreign_hosts_get_nothing(served: MapServer) -> None:
    """DNS rebinding: a page of evil.example, whose name now means this machine, reads what the server answers it."""
    for method in ("GET", "HEAD"):
        status, headers, body = ask(served, "/map.json", method, Host="evil.example")
        assert status == 421 and b"{}" not in body
        assert "access-control-allow-origin" not in headers
    assert b" 421 " in raw(served, b"GET /map.json HTTP/1.1\r\n\r\n")
    assert b" 421 " in raw(served, b"GET /map.json HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
    assert b" 200 " in raw(served, b"GET /map.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "XYZ"])
def test_other_methods_are_refused(served: MapServer, method: str) -> None:
    status, headers, _ = ask(served, "/map.json", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_every_answer_has_the_safe_headers(served: MapServer) -> None:
    answers: list[dict[str, Any]] = [
        ask(served, path, method)[1]
        for path, method in (("/", "GET"), ("/map.json", "HEAD"), ("/x", "GET"), ("/map.json", "POST"))
    ]
    answers.append(ask(served, "/map.json", Host="evil.example")[1])
    for headers in answers:
        assert headers["content-security-policy"] == f"{POLICY}; frame-ancestors 'none'"
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert re.search(r"default-src 'none'", POLICY) and "unsafe" not in POLICY and "http" not in POLICY


def test_what_is_not_http_gets_an_answer_that_repeats_nothing(served: MapServer) -> None:
    for request in (b"<script>\r\n\r\n", b"GET /<script> HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200):
        answer = raw(served, request + b"\r\n")
        assert b"<script>" not in answer and b" 200 " not in answer.partition(b"\r\n")[0]


def test_one_connection_serves_many_requests(served: MapServer) -> None:
    with closing(http.client.HTTPConnection(*address(served), timeout=60)) as connection:
        for start in range(0, 1000, 100):
            connection.request("GET", "/data/s1/1-a.tif", headers={"Range": f"bytes={start}-{start + 9}"})
            answer = connection.getresponse()
            assert answer.read() == CONTENT[start : start + 10] and not answer.will_close


def test_only_this_machine_is_listened_to(served: MapServer) -> None:
    assert served.server_address[0] == "127.0.0.1" and re.fullmatch(r"http://127\.0\.0\.1:\d+/", served.url)


def test_every_served_ending_has_one_type() -> None:
    assert TYPES[".js"].startswith("text/javascript") and TYPES[".geojson"] == "application/geo+json"
    assert all(ending.startswith(".") and "/" in kind for ending, kind in TYPES.items())
