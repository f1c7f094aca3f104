"""Servers that say what no server should: each answer ends in time, in bounded memory, and in an error that tells."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fetching import ACCOUNT, MONTHS, fetch, names
from loopback import PASSWORD, RECORD, USER, Fault, Loopback, body, drop, raw, status

from floemap.datasets.download import answers as answers_module
from floemap.datasets.download import http as web_module
from floemap.datasets.download.addresses import linked, plain
from floemap.datasets.download.answers import MAX_JSON_BYTES
from floemap.datasets.download.copernicus import (
    PASSWORD_VARIABLE,
    USER_VARIABLE,
    TokenSource,
    account_from_environment,
    find_product,
)
from floemap.datasets.download.figshare import item_files
from floemap.datasets.download.file import RemoteFile, download, is_file_name
from floemap.datasets.download.http import Services, Web
from floemap.datasets.download.zenodo import record_files
from floemap.datasets.extremeearth.scenes import DOI, scene_of
from floemap.errors import DownloadError, FloemapError
from floemap.learning.models.pretrained import fetch_weights

NAME = scene_of(1).product
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, server: Loopback) -> None:
    server.files["a.bin"] = b"abc"
    monkeypatch.setattr(answers_module, "ANSWER_S", 0.6)
    monkeypatch.setattr(answers_module, "SLOW_S", 0.6)
    monkeypatch.setattr(web_module, "MAX_TRIES", 2)


def tokens(server: Loopback, web: Web) -> TokenSource:
    return TokenSource(ACCOUNT, web, Services.at(server.url))


def get(server: Loopback, web: Web, folder: Path) -> Path:
    """A file of which nothing is known but what the server says."""
    return download(RemoteFile("a.bin", f"{server.url}/files/a.bin", None, None, 1000), folder, web)


#: Who reads JSON, and where the server is asked for it.
ASKERS: dict[str, tuple[str, Callable[[Loopback, Web], object]]] = {
    "catalogue": ("/odata/v1/Products", lambda s, w: find_product(NAME, w, Services.at(s.url))),
    "record": (f"/api/records/{RECORD}", lambda s, w: record_files(DOI, w, s.url)),
    "item": ("/v2/articles/1/files", lambda s, w: item_files(1, w, f"{s.url}/v2")),
    "token": ("/token", lambda s, w: tokens(s, w).header(f"{s.url}/odata/v1/x")),
}
#: Answers without end, without bound, or without sense.
ANSWERS: dict[str, Fault] = {
    "body without end": raw(OK + b"\r\n", b"[" * 65536),
    "body without end, of whitespace": raw(OK + b"\r\n", b" " * 65536),
    "chunks without end": raw(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b" " * 0x4000 + b"\r\n"),
    "body in drops": raw(OK + b"\r\n", b" ", 0.02),
    "body in drops, of known length": raw(OK + b"Content-Length: 100000\r\n\r\n", b" ", 0.02),
    "size of a chunk in drops": raw(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0", 0.02),
    "trailers without end": raw(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 1000),
    "status in drops": raw(b"HTTP/1.1 200 ", b"O", 0.02),
    "headers in drops": raw(OK, b"x", 0.02),
    "headers without end": raw(OK, b"x: y\r\n" * 1000),
    "to be continued without end": raw(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "nothing": raw(b""),
    "silence": raw(OK, b"", 0.0),
    "gzip bomb": body(gzip.compress(b" " * 100_000_000, 1), Content_Encoding="gzip"),
    "gzip bomb in deflate": body(b"x", Content_Encoding="deflate"),
    "gzip": body(gzip.compress(b"{}"), Content_Encoding="gzip"),
    "br": body(b"{}", Content_Encoding="br"),
    "deep": body(b"[" * 1_000_000),
    "deep in a table": body(b'{"a":' * 200_000),
    "a number of 5000 digits": body(b'{"value": ' + b"9" * 5000 + b"}"),
    "no UTF-8": body(b'{"value": "\xff"}'),
    "cut": raw(OK + b'Content-Length: 100\r\n\r\n{"value"'),
    "a list": body(b"[1]"),
    "null": body(b"null"),
    "a word": body(b'"value"'),
    "a redirect with a body without end": raw(
        b"HTTP/1.1 302 Found\r\nLocation: /odata/v1/none\r\nConnection: close\r\n\r\n", b" " * 65536
    ),
    "a busy answer with a body without end": raw(b"HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n", b" " * 65536),
    "no status": raw(b"hello\r\n\r\n"),
    "a status of letters": raw(b"HTTP/1.1 abc OK\r\n\r\n"),
    "a status of 9 digits": raw(b"HTTP/1.1 200000000 OK\r\n\r\n"),
    "lengths that differ": raw(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "a length of 5000 digits": raw(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{"),
    "a negative length": raw(OK + b"Content-Length: -5\r\n\r\n{"),
}


@pytest.mark.parametrize("asker", ASKERS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_no_answer_is_waited_for_without_end_or_read_without_bound(
    server: Loopback, web: Web, asker: Any, answer: Any
) -> None:
    place, ask = ASKERS[asker]
    server.faults[place].extend([ANSWERS[answer]] * 3)
    began = time.monotonic()
    with pytest.raises(DownloadError) as told:
        ask(server, web)
    assert time.monotonic() - began < 60
    assert server.sent < 12 * MAX_JSON_BYTES  # what lies between the two on the way, too
    assert server.url in str(told.value) or NAME in str(told.value) or DOI in str(told.value)
    assert USER not in str(told.value) and PASSWORD not in str(told.value)


@pytest.mark.parametrize(
    "fault", [raw(OK + b"Content-Length: 900\r\n\r\n", b"x", 0.05), raw(OK, b"x", 0.02)], ids=["body", "headers"]
)
def test_a_download_in_drops_ends(server: Loopback, web: Web, tmp_path: Path, fault: Fault) -> None:
    server.faults["/files/a.bin"].extend([fault] * 4)
    began = time.monotonic()
    with pytest.raises(DownloadError, match="2 times in a row"):
        get(server, web, tmp_path)
    assert time.monotonic() - began < 60
    server.faults["/files/a.bin"].clear()
    assert get(server, web, tmp_path).read_bytes()  # what the drops brought is not in the way


LOCATIONS = [
    *("http://127.0.0.1:99999999/", "http://127.0.0.1:-1/", "http://127.0.0.1:x/", "http://127.0.0.1:²/"),
    *("http://[::1/", "http://[zz]/", "http://[::1]x/", "https://", "https:///a", "http://:80/", "?" * 20_000),
    *("https://ä.example/", "https://\u2603/", "https://\udcff/", f"https://{'a' * 64}.example/"),
    *(
        f"https://{'a.' * 200}b/",
        "https://a..b/",
        "https://a b/",
        "https://a\tb/",
        "https://a\x7fb/",
        "https://a/\x1b[2J",
    ),
    *("ftp://a/", "file:///etc/passwd", "javascript:1", "data:,x", "gopher://a/", "C:/x", "http://elsewhere.example/a"),
    *("https://%00/", "https://%0a/", "https://a%/", "https://[fe80::1%25eth0/", "https://xn--\x80/", "https://*/"),
]


@pytest.mark.parametrize("location", LOCATIONS, ids=lambda text: ascii(text)[:40])
def test_an_address_that_is_none_is_an_error_wherever_it_comes_from(
    server: Loopback, web: Web, tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = Web._request

    def only_here(self: Web, method: str, url: str, **options: object) -> object:
        asked.append(url)
        if not url.startswith(server.url):  # a name that could be one is looked up nowhere in a test
            raise DownloadError(f"{plain(url)} is elsewhere.")
        return real(self, method, url, **options)

    monkeypatch.setattr(Web, "_request", only_here)
    header = location.encode("utf-8", "surrogateescape").replace(b"\n", b"")
    server.faults["/files/a.bin"].append(
        raw(b"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: " + header + b"\r\nContent-Length: 0\r\n\r\n")
    )
    with pytest.raises(DownloadError):
        get(server, web, tmp_path)
    server.record = {"files": [{"key": "a.zip", "size": 3, "checksum": "0" * 32, "links": {"self": location}}]}
    server.files.clear()
    try:
        (file,) = record_files(DOI, web, server.url)
        download(file, tmp_path, web)
    except DownloadError:
        pass
    else:
        pytest.fail("it was fetched")
    assert all(u.startswith(("https://", server.url)) for u in asked)
    assert not [n for n in names(tmp_path) if not n.endswith(".part.json")]


def test_links_are_followed_where_they_are_encrypted_or_stay(server: Loopback) -> None:
    assert linked("https://a.example/x", "/y") == "https://a.example/y"
    assert linked("https://a.example/x", "https://b.example/ü z") == "https://b.example/%C3%BC%20z"
    assert linked(server.url, f"{server.url}/a%20b") == f"{server.url}/a%20b"
    assert linked("http://mirror.example/x", "http://mirror.example/y") == "http://mirror.example/y"
    for here, there in (
        ("https://a.example/x", "http://a.example/y"),
        ("https://a.example/x", server.url),
        ("http://a.example/x", "http://b.example/y"),
    ):
        with pytest.raises(DownloadError, match="not encrypted"):
            linked(here, there)


def test_a_redirect_in_another_script_is_followed(server: Loopback, web: Web, tmp_path: Path) -> None:
    server.faults["/files/a.bin"].append(
        raw("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: /files/ü.bin\r\n\r\n".encode())
    )
    with pytest.raises(DownloadError, match="404"):
        get(server, web, tmp_path)
    assert server.seen[-1].path == "/files/%C3%BC.bin"


@pytest.mark.parametrize(
    "value",
    [
        *("²", "9" * 400, "-1", "1e9", "NaN", "\x80", "", "1 Jan", ",,,", "0x10", "1_0"),
        *("Fri, 99 Zzz 9999 99:99:99 GMT", "Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359"),
        "Mon, 01 Jan 2024 00:00:00 +99999999",
    ],
    ids=ascii,
)
def test_waiting_times_that_are_none_are_left_aside(
    server: Loopback, web: Web, sleeps: list[float], tmp_path: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_module, "MAX_TRIES", 3)
    header = b"HTTP/1.1 503 Busy\r\nConnection: close\r\nRetry-After: " + value.encode("latin-1")
    server.faults["/files/a.bin"].append(raw(header + b"\r\nContent-Length: 0\r\n\r\n"))
    try:
        assert get(server, web, tmp_path).read_bytes() == b"abc"
        assert sleeps and all(0 <= s <= 60 for s in sleeps)
    except DownloadError as e:
        assert "asks to come back" in str(e)


@pytest.mark.parametrize(
    "headers",
    [
        *(
            "Content-Length: ²",
            "Content-Length: 1_0",
            "Content-Length: -1",
            "Content-Length: x",
            "Content-Length: 3, 3",
        ),
        *("ETag: ", "ETag: \x80ä", "ETag: a\x0bb", f"ETag: {'a' * 5000}", "ETag: W/x", "Last-Modified: \x1b"),
        "ETag: a\r\n b",
    ],
    ids=ascii,
)
def test_odd_headers_do_not_keep_a_file_from_coming_nor_from_being_gone_on_with(
    server: Loopback, web: Web, tmp_path: Path, headers: str
) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + headers.encode("latin-1") + b"\r\n\r\n"
    server.faults["/files/a.bin"].append(raw(answer + b"ab"))  # of three bytes that were to come
    content = hashlib.md5(b"abc").hexdigest()
    file = RemoteFile("a.bin", f"{server.url}/files/a.bin", 3, content, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web_module, "MAX_TRIES", 7)
        assert download(file, tmp_path, web).read_bytes() == b"abc"


@pytest.mark.parametrize(
    "note", ['{"validator": [1]}', '{"validator": "a\\nb"}', "[" * 100_000, "[]", '{"size": 1e400}', "\0"]
)
def test_an_odd_note_beside_a_part_is_no_obstacle(server: Loopback, web: Web, tmp_path: Path, note: str) -> None:
    (tmp_path / "a.bin.part").write_bytes(b"ab")
    (tmp_path / "a.bin.part.json").write_text(note)
    assert get(server, web, tmp_path).read_bytes() == b"abc"


TOKENS = [
    {"access_token": "a", "expires_in": int("9" * 400)},
    {"access_token": "a", "expires_in": "x"},
    {"access_token": "a", "expires_in": None},
    {"access_token": "a", "expires_in": -1},
    {"access_token": "a", "expires_in": float("nan")},
    {"access_token": "a", "expires_in": [1]},
    {"access_token": "a€", "expires_in": 600},
    {"access_token": "a\r\nHost: b", "expires_in": 600},
    {"access_token": "\udcff", "expires_in": 600},
    {"access_token": "", "expires_in": 600},
    {"access_token": "a" * 1_000_000, "expires_in": 600},
    {"access_token": {"a": 1}, "expires_in": 600},
    {"expires_in": 600},
    {},
    [],
    "access_token",
    7,
]


@pytest.mark.parametrize("answer", TOKENS, ids=lambda a: ascii(a)[:60])
def test_a_token_that_is_none_is_an_error(server: Loopback, web: Web, answer: Any) -> None:
    server.faults["/token"].append(body(json.dumps(answer).encode()))
    with pytest.raises(DownloadError, match="no valid access token"):
        tokens(server, web).header(f"{server.url}/odata/v1/x")


@pytest.mark.parametrize("rest", [{"refresh_token": "€"}, {"refresh_token": 7}, {"refresh_expires_in": int("9" * 400)}])
def test_a_token_is_used_whatever_is_said_of_its_renewal(server: Loopback, web: Web, rest: dict[str, Any]) -> None:
    answer = {"access_token": "a", "expires_in": float("inf"), "refresh_token": "b"} | rest
    server.faults["/token"].append(body(json.dumps(answer).encode()))
    source = tokens(server, web)
    assert source.header(f"{server.url}/odata/v1/x") == {"Authorization": "Bearer a"}
    source.renew({"Authorization": "Bearer a"})
    assert source.header(f"{server.url}/odata/v1/x")["Authorization"].startswith("Bearer access-")


@pytest.mark.parametrize("code", [400, 401, 403, 500])
@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"{}", b'{"error_description": [1]}'])
def test_an_account_that_is_refused_is_told_with_the_status(
    server: Loopback, web: Web, code: int, content: bytes
) -> None:
    server.faults["/token"].extend([body(content, code)] * 3)
    with pytest.raises(DownloadError, match=str(code)):
        tokens(server, web).header(f"{server.url}/odata/v1/x")


def test_an_account_that_is_no_text_is_told_of_without_it() -> None:
    for which, other in ((USER_VARIABLE, PASSWORD_VARIABLE), (PASSWORD_VARIABLE, USER_VARIABLE)):
        with pytest.raises(FloemapError, match=f"{which} is not UTF-8") as told:
            account_from_environment("https://a", {which: "s3cret\udcff", other: "a"})
        assert "s3cret" not in str(told.value)


PRODUCTS = [
    {"ContentLength": int("9" * 400)},
    {"ContentLength": -1},
    {"ContentLength": True},
    {"ContentLength": "1"},
    {"ContentLength": 1e400},
    {"Checksum": 7},
    {"Checksum": [7, {"Algorithm": 1, "Value": 2}, {"Algorithm": "MD5", "Value": "\udcff"}]},
    {"PublicationDate": [1]},
    {"Online": "no"},
]


@pytest.mark.parametrize("entry", PRODUCTS, ids=lambda e: ascii(e)[:60])
def test_odd_facts_about_a_product_are_as_none(dataset: Loopback, web: Web, entry: dict[str, Any]) -> None:
    dataset.catalogue[NAME] = {"ContentLength": 0, "Checksum": []} | entry
    file = find_product(NAME, web, Services.at(dataset.url))
    assert (file.size, file.md5) == (None, None)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "a/b", "/a", "a\\b", ".hidden", "a\0b", "a\nb", "a\rb", "\x1b[2Ja", "a\x7f", "a\x9b2J"),
        *("\udcff", "a\u202eb", "a\u2028b", "a\u200bb", "a" * 250, "ü" * 120, "a.part", "a.part.json", 7, None, ["a"]),
    ],
    ids=ascii,
)
def test_names_that_are_none_are_refused(server: Loopback, web: Web, name: Any) -> None:
    assert not is_file_name(name)
    server.record = {"files": [{"key": name, "size": 3, "checksum": "0" * 32}]}
    with pytest.raises(DownloadError, match="without plain name") as told:
        record_files(DOI, web, server.url)
    assert str(told.value).isprintable()


def test_names_of_every_script_are_taken() -> None:
    assert all(map(is_file_name, ("a.zip", "Østgrønland (1).zip", "北極.gpkg", "a b;c!d#e?.zip", "part")))


BAD = [
    {"key": "bad\0name", "size": 3, "checksum": "0" * 32},
    {"key": "README.txt", "size": 3, "checksum": "0" * 32},  # as another is called
    {"key": "big", "size": int("9" * 400), "checksum": "0" * 32},
    {"key": "plain", "size": 3, "checksum": "0" * 32, "links": {"self": "http://elsewhere.example/plain"}},
    {"key": "port", "size": 3, "checksum": "0" * 32, "links": {"self": "https://elsewhere.example:99999/port"}},
    {"key": "gone", "size": 3, "checksum": "0" * 32},
    None,
]


@pytest.mark.parametrize("bad", BAD, ids=lambda e: ascii(e)[:30])
def test_one_bad_entry_does_not_cost_the_others_nor_their_record(dataset: Loopback, tmp_path: Path, bad: Any) -> None:
    good = [
        {
            "key": n,
            "size": len(b),
            "checksum": hashlib.md5(b).hexdigest(),
            "links": {"self": f"{dataset.url}/files/{n}"},
        }
        for n, b in dataset.files.items()
    ]
    dataset.record = {"files": [*good, bad]}
    with pytest.raises(DownloadError) as told:
        fetch(dataset, tmp_path)
    assert "\n" not in str(told.value)
    recorded = json.loads((tmp_path / "fetch.json").read_text())["inputs"]
    assert {*recorded} == {*dataset.files, *(f"{scene_of(m).product}.zip" for m in MONTHS)}
    assert {*recorded} <= names(tmp_path)


def test_a_product_that_the_catalogue_lacks_does_not_cost_the_others(dataset: Loopback, tmp_path: Path) -> None:
    dataset.catalogue[scene_of(1).product] = {"Id": "../../elsewhere"}
    dataset.faults[f"/api/records/{RECORD}"].append(body(b"[1"))
    with pytest.raises(DownloadError, match="2 of 3"):
        fetch(dataset, tmp_path)
    assert {*json.loads((tmp_path / "fetch.json").read_text())["inputs"]} == {f"{scene_of(2).product}.zip"}


def test_a_service_that_is_away_is_not_asked_for_each_file(dataset: Loopback, tmp_path: Path) -> None:
    dataset.faults["/odata/v1/Products"].extend([status(503)] * 20)
    with pytest.raises(DownloadError, match="503, 2 times"):
        fetch(dataset, tmp_path, what=["products"])
    assert len(dataset.of("Products?")) == 2


@pytest.mark.parametrize(
    "content", ['{"inputs": [1]}', '{"inputs": 7}', "[]", "{", "[" * 100_000, "\xff", '{"inputs": null}']
)
def test_a_record_that_is_none_is_told_of_before_anything_is_fetched(
    dataset: Loopback, tmp_path: Path, content: str
) -> None:
    (tmp_path / "fetch.json").write_text(content, encoding="latin-1")
    with pytest.raises(FloemapError) as told:
        fetch(dataset, tmp_path)
    assert told.value.path == tmp_path / "fetch.json"
    assert not dataset.seen
    assert (tmp_path / "fetch.json").read_text(encoding="latin-1") == content


@pytest.mark.parametrize("url", ["https://a/", "https://a/..", "https://a/x/.b", "https://[", "https://a/%00\0", ""])
def test_weights_need_a_name(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError):
        fetch_weights(tmp_path / "out", url=url)
    assert not (tmp_path / "out").exists()


def test_a_break_brings_what_came_before_it(server: Loopback, web: Web, tmp_path: Path) -> None:
    """Pieces are as the network gives them: none waits for another to fill a block."""
    server.files["a.bin"] = bytes(900)
    server.faults["/files/a.bin"].extend([drop(500), drop(300)])
    with pytest.raises(DownloadError):
        get(server, web, tmp_path)
    assert (tmp_path / "a.bin.part").stat().st_size == 800
