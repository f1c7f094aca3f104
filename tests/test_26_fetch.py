"""Fetching over real HTTP on loopback: what comes is whole and right, whatever the server does, or it is not there."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import logging
import random
import sys
import threading
import traceback
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from fetching import ACCOUNT, MONTHS, fetch, names
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import (
    PASSWORD,
    RECORD,
    USER,
    Fault,
    Loopback,
    drop,
    hold,
    longer,
    no_range,
    other_range,
    pieces,
    raw,
    status,
    wrong,
)
from small_dataset import write_product

from floemap.datasets.download import many
from floemap.datasets.download.copernicus import (
    PASSWORD_VARIABLE,
    USER_VARIABLE,
    Account,
    TokenSource,
    account_from_environment,
    find_product,
)
from floemap.datasets.download.file import RemoteFile, download, remaining_bytes
from floemap.datasets.download.http import CHUNK_BYTES, MAX_TRIES, SERVICES, Services, Stopped, Web, origin, plain
from floemap.datasets.download.many import Plan
from floemap.datasets.download.zenodo import record_files
from floemap.datasets.extremeearth.scenes import scene_of
from floemap.errors import ConfigError, DownloadError, FloemapError, OutputError

BODY = random.Random(0).randbytes(3_000_000)


def get(server: Loopback, web: Web, folder: Path, body: bytes = BODY, **changes: Any) -> Path:
    server.files["a.bin"] = body
    md5 = hashlib.md5(body).hexdigest()
    known: dict[str, Any] = {
        "name": "a.bin",
        "url": f"{server.url}/files/a.bin",
        "size": len(body),
        "md5": md5,
        "at_most": len(body),
    }
    return download(RemoteFile(**(known | changes)), folder, web)


# One file


def test_a_file_comes_whole_under_its_name_and_nothing_else(server: Loopback, web: Web, tmp_path: Path) -> None:
    assert get(server, web, tmp_path / "new").read_bytes() == BODY
    assert names(tmp_path) == {"a.bin"}
    assert "Range" not in server.seen[0].headers


def test_a_broken_transfer_goes_on_where_it_broke_off(server: Loopback, web: Web, tmp_path: Path) -> None:
    server.faults["/files/a.bin"].extend([drop(1_200_000), drop(700_000)])
    assert get(server, web, tmp_path).read_bytes() == BODY
    first, second, third = server.seen
    assert "Range" not in first.headers
    from_second, from_third = (int(s.headers["Range"][6:-1]) for s in (second, third))
    assert 1_200_000 - CHUNK_BYTES < from_second <= 1_200_000
    assert 700_000 - CHUNK_BYTES < from_third - from_second <= 700_000
    assert second.headers["If-Range"] == f'"{hashlib.md5(BODY).hexdigest()}"'
    assert names(tmp_path) == {"a.bin"}


def test_a_server_may_give_less_than_was_asked_for(server: Loopback, web: Web, tmp_path: Path) -> None:
    server.faults["/files/a.bin"].extend([drop(1_000_000), pieces(400_000), pieces(100_000)])
    assert get(server, web, tmp_path).read_bytes() == BODY
    assert len(server.seen) == 4


def test_a_part_that_was_not_asked_for_is_not_taken(server: Loopback, web: Web, tmp_path: Path) -> None:
    """No checksum could tell it."""
    server.faults["/files/a.bin"].extend([drop(1_000_000), other_range])
    assert get(server, web, tmp_path, size=None, md5=None).read_bytes() == BODY


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(
        st.one_of(
            st.integers(0, 5000).map(drop),
            st.just(no_range),
            st.just(other_range),
            st.integers(1, 5000).map(pieces),
            st.sampled_from([429, 500, 503]).map(status),
        ),
        max_size=4,
    ),
    etag=st.booleans(),
)
def test_whatever_happens_on_the_way_the_bytes_are_the_servers(
    server: Loopback, web: Web, tmp_path_factory: pytest.TempPathFactory, faults: list[Fault], etag: bool
) -> None:
    folder = tmp_path_factory.mktemp("any")
    server.send_etag = etag
    server.faults["/files/a.bin"].clear()
    server.faults["/files/a.bin"].extend(faults)
    try:
        path = get(server, web, folder, BODY[:10_000])
    except DownloadError:
        # Only two useless answers in a row may end in an error, and then nothing stands under the name.
        assert faults.count(other_range) >= 2
        assert names(folder) <= {"a.bin.part", "a.bin.part.json"}
    else:
        assert path.read_bytes() == BODY[:10_000]
        assert names(folder) == {"a.bin"}


def test_a_stopped_run_leaves_a_part_and_the_next_one_goes_on(server: Loopback, web: Web, tmp_path: Path) -> None:
    server.faults["/files/a.bin"].extend([drop(1_000_000), status(404)])
    with pytest.raises(DownloadError, match="404"):
        get(server, web, tmp_path)
    assert names(tmp_path) == {"a.bin.part", "a.bin.part.json"}
    left = RemoteFile("a.bin", "", len(BODY), hashlib.md5(BODY).hexdigest(), len(BODY))
    have = (tmp_path / "a.bin.part").stat().st_size
    assert 1_000_000 - CHUNK_BYTES < have <= 1_000_000
    assert remaining_bytes(left, tmp_path) == len(BODY) - have
    server.seen.clear()
    assert get(server, web, tmp_path).read_bytes() == BODY
    assert server.seen[0].headers["Range"] == f"bytes={have}-"


def test_a_part_of_another_version_is_not_built_on(server: Loopback, web: Web, tmp_path: Path) -> None:
    server.faults["/files/a.bin"].extend([drop(1_000_000), status(404)])
    with pytest.raises(DownloadError):
        get(server, web, tmp_path)
    other = BODY[::-1]
    server.seen.clear()
    assert get(server, web, tmp_path, other).read_bytes() == other
    assert "Range" not in server.seen[0].headers


def test_a_file_that_changed_on_the_server_comes_from_the_start(server: Loopback, web: Web, tmp_path: Path) -> None:
    """The catalogue knows no checksum, so only If-Range can tell."""
    server.faults["/files/a.bin"].extend([drop(1_000_000), status(404)])
    unknown = {"size": None, "md5": None}
    with pytest.raises(DownloadError):
        get(server, web, tmp_path, **unknown)
    other = BODY[::-1]
    assert get(server, web, tmp_path, other, **unknown).read_bytes() == other


def test_a_part_that_is_already_whole_is_verified_and_not_fetched_again(
    server: Loopback, web: Web, tmp_path: Path
) -> None:
    get(server, web, tmp_path)
    part = (tmp_path / "a.bin").rename(tmp_path / "a.bin.part")
    md5 = hashlib.md5(BODY).hexdigest()
    (tmp_path / "a.bin.part.json").write_text(f'{{"size": {len(BODY)}, "md5": "{md5}", "validator": null}}')
    server.seen.clear()
    assert get(server, web, tmp_path).read_bytes() == BODY
    assert not server.seen and not part.exists()
    # Where the size is not known, the server is asked, and has no more.
    (tmp_path / "a.bin").rename(part)
    (tmp_path / "a.bin.part.json").write_text(f'{{"size": null, "md5": "{md5}", "validator": null}}')
    assert get(server, web, tmp_path, size=None).read_bytes() == BODY
    assert [s.headers["Range"] for s in server.seen] == [f"bytes={len(BODY)}-"]


@pytest.mark.parametrize("fault", [wrong, longer, other_range], ids=["wrong", "longer", "other range"])
def test_wrong_bytes_are_deleted_and_fetched_once_more(
    server: Loopback, web: Web, tmp_path: Path, fault: Fault
) -> None:
    before = [drop(1000)] if fault is other_range else []
    server.faults["/files/a.bin"].extend([*before, fault])
    assert get(server, web, tmp_path).read_bytes() == BODY
    assert names(tmp_path) == {"a.bin"}
    (tmp_path / "a.bin").unlink()
    server.faults["/files/a.bin"].extend([*before, fault, *before, fault])
    with pytest.raises(DownloadError, match="twice in a row"):
        get(server, web, tmp_path)
    assert names(tmp_path) == set()


def test_more_than_announced_is_not_taken(server: Loopback, web: Web, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="at most 1000"):
        get(server, web, tmp_path, size=None, md5=None, at_most=1000)
    assert names(tmp_path) == set()
    server.faults["/files/a.bin"].extend([longer, longer])  # which do not announce it
    with pytest.raises(DownloadError, match=f"sends more than the {len(BODY)} bytes"):
        get(server, web, tmp_path)
    assert names(tmp_path) == set()


def test_busy_servers_are_waited_for_as_they_ask(
    server: Loopback, web: Web, sleeps: list[float], tmp_path: Path
) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    server.faults["/files/a.bin"].extend(
        [status(429, Retry_After="7"), status(503, Retry_After=soon), status(503), status(503, Retry_After="soon")]
    )
    assert get(server, web, tmp_path).read_bytes() == BODY
    assert sleeps[0] == 7
    assert 60 < sleeps[1] <= 90
    assert sleeps[2] < sleeps[3]


def test_patience_ends(server: Loopback, web: Web, sleeps: list[float], tmp_path: Path) -> None:
    server.faults["/files/a.bin"].append(status(429, Retry_After="86400"))
    with pytest.raises(DownloadError, match="1440 minutes"):
        get(server, web, tmp_path)
    assert not sleeps
    server.faults["/files/a.bin"].extend([status(503)] * 50)
    with pytest.raises(DownloadError, match=f"503, {MAX_TRIES} times"):
        get(server, web, tmp_path)
    assert sleeps == sorted(sleeps) and max(sleeps) <= 60


def test_a_server_that_is_not_there_is_an_error(web: Web, sleeps: list[float], tmp_path: Path) -> None:
    with Loopback() as gone:
        url = gone.url
    with pytest.raises(DownloadError, match="does not answer"):
        web.json(f"{url}/api")
    assert len(sleeps) == MAX_TRIES - 1


def test_what_cannot_be_written_is_an_error(server: Loopback, web: Web, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="in the way"):
        get(server, web, tmp_path / "file")


# Redirects and credentials


def tokens(server: Loopback, web: Web, **changes: Any) -> TokenSource:
    return TokenSource(ACCOUNT, web, Services.at(server.url), **changes)


def test_a_token_does_not_follow_a_redirect_to_another_host(server: Loopback, web: Web) -> None:
    with Loopback() as other:
        other.files["a.bin"] = BODY
        server.faults["/files/a.bin"].append(status(302, Location=f"{other.url}/files/a.bin?signature=1"))
        server.files["a.bin"] = b""
        with web.open(f"{server.url}/files/a.bin", bearer=tokens(server, web)) as response:
            assert response.content == BODY
        assert "Authorization" in server.of("/files/a.bin")[0].headers
        assert "Authorization" not in other.seen[0].headers


def test_a_token_follows_a_redirect_within_the_service(server: Loopback, web: Web) -> None:
    server.files |= {"a.bin": b"", "b.bin": BODY}
    server.faults["/files/a.bin"].append(status(307, Location="/files/b.bin"))
    with web.open(f"{server.url}/files/a.bin", bearer=tokens(server, web)) as response:
        assert response.content == BODY
    assert server.of("/files/b.bin")[0].headers["Authorization"].startswith("Bearer access-")


def test_redirects_without_end_or_encryption_are_refused(
    server: Loopback, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["a.bin"] = b""
    server.faults["/files/a.bin"].extend([status(302, Location="/files/a.bin")] * 20)
    with pytest.raises(DownloadError, match="redirects more than"):
        web.json(f"{server.url}/files/a.bin")
    server.faults["/files/a.bin"].clear()
    server.faults["/files/a.bin"].append(status(302, Location="ftp://elsewhere/a.bin"))
    with pytest.raises(DownloadError, match="not encrypted"):
        web.json(f"{server.url}/files/a.bin")
    # An encrypted address may not lead to a plain one. No certificate here: the first answer is made up.
    answer: Any = SimpleNamespace(status_code=302, headers={"Location": server.url}, close=lambda: None)
    monkeypatch.setattr(Web, "_request", lambda *a, **k: answer)
    with pytest.raises(DownloadError, match="not encrypted"):
        web.json("https://secure.example/a.bin")


def test_the_account_goes_to_the_token_endpoint_only_and_never_along_a_redirect(server: Loopback, web: Web) -> None:
    with Loopback() as other:
        server.faults["/token"].append(status(307, Location=f"{other.url}/token"))
        with pytest.raises(DownloadError, match="not sent elsewhere"):
            tokens(server, web).header(f"{server.url}/odata/v1/x")
        assert not other.seen


def test_signatures_of_addresses_are_in_no_log(server: Loopback, web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.files |= {"a.bin": b"", "b.bin": b"{}"}
    server.faults["/files/a.bin"].extend([status(302, Location="/files/b.bin?signature=s3cret")] * 2)
    server.faults["/files/b.bin"].extend([status(503), raw(b""), raw(b"hello\r\n\r\n"), status(429, Retry_After="1")])
    assert web.json(f"{server.url}/files/a.bin") == {}
    server.faults["/files/b.bin"].extend([status(503)] * MAX_TRIES)
    with pytest.raises(DownloadError) as caught:
        web.json(f"{server.url}/files/a.bin")
    assert len(server.of("/files/b.bin?signature=s3cret")) == 5 + MAX_TRIES
    assert "next try" in caplog.text
    assert "s3cret" not in caplog.text + "".join(traceback.format_exception(caught.value))


def test_tokens_are_renewed_in_time_with_the_refresh_token(server: Loopback, web: Web) -> None:
    now = [0.0]
    source = tokens(server, web, clock=lambda: now[0])
    url = f"{server.url}/odata/v1/x"
    first = source.header(url)
    now[0] = 500.0
    assert source.header(url) == first
    now[0] = 590.0  # valid for 600 s, but not for as long as a request takes
    second = source.header(url)
    assert second != first
    now[0] = 9000.0  # the refresh token has ended too
    source.header(url)
    grants = [s.body.split("grant_type=")[1].split("&")[0] for s in server.of("/token")]
    assert grants == ["password", "refresh_token", "password"]
    assert source.header("https://elsewhere.example/") == {}


def test_a_token_that_the_server_no_longer_takes_is_renewed_once(dataset: Loopback, web: Web, tmp_path: Path) -> None:
    file = find_product(scene_of(1).product, web, Services.at(dataset.url))
    source = tokens(dataset, web)
    source.header(file.url)
    dataset.tokens.clear()  # the server has forgotten it before its time
    path = download(file, tmp_path, web, bearer=source)
    assert path.read_bytes() == dataset.products[scene_of(1).product]
    dataset.tokens.clear()
    dataset.refresh_tokens.clear()
    path.unlink()
    assert download(file, tmp_path, web, bearer=source).exists()  # the refresh token is refused, the password is not


def test_two_threads_renew_a_token_once(server: Loopback, web: Web) -> None:
    source = tokens(server, web)
    refused = source.header(f"{server.url}/odata/v1/x")
    threads = [threading.Thread(target=source.renew, args=(refused,)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(server.of("/token")) == 2


def test_an_account_that_is_refused_is_an_error_without_secrets(server: Loopback, web: Web) -> None:
    source = TokenSource(Account("nobody", "not-this-word"), web, Services.at(server.url))
    with pytest.raises(DownloadError, match="refused") as caught:
        source.header(f"{server.url}/odata/v1/x")
    said = "".join(traceback.format_exception(caught.value))
    assert "Invalid user credentials" in said
    assert "nobody" not in said and "not-this-word" not in said


def test_the_account_comes_from_environment_or_netrc(tmp_path: Path) -> None:
    url = SERVICES.identity
    both = {USER_VARIABLE: "u", PASSWORD_VARIABLE: "p"}
    assert account_from_environment(url, both) == Account("u", "p")
    assert "u" not in repr(Account("u", "p")).removeprefix("Account")
    for half in both:
        with pytest.raises(FloemapError, match=f"{half} is set"):
            account_from_environment(url, {half: "x"})
    netrc = tmp_path / "netrc"
    env = {"NETRC": str(netrc)}
    with pytest.raises(FloemapError, match=r"need an account"):
        account_from_environment(url, env)
    netrc.write_text("machine identity.dataspace.copernicus.eu login u password p\n")
    netrc.chmod(0o644)
    with pytest.raises(FloemapError, match="chmod 600"):
        account_from_environment(url, env)
    netrc.chmod(0o600)
    assert account_from_environment(url, env) == Account("u", "p")
    assert account_from_environment(url, env | both | {USER_VARIABLE: "v"}) == Account("v", "p")
    netrc.write_text("machine other.example login u password p\ndefault login u password p\n")
    with pytest.raises(FloemapError, match=r"need an account"):
        account_from_environment(url, env)
    netrc.write_text("machine identity.dataspace.copernicus.eu login u passwort s3cret\n")
    with pytest.raises(FloemapError, match="line 1") as caught:
        account_from_environment(url, env)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_netrc_is_never_sent_by_itself(
    server: Loopback, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.files["a.bin"] = b"{}"
    web.json(f"{server.url}/files/a.bin")
    with web.open(f"{server.url}/files/a.bin", bearer=tokens(server, web)):
        pass
    assert "Authorization" not in server.seen[0].headers
    assert server.of("/files")[1].headers["Authorization"].startswith("Bearer ")


def test_origins_tell_servers_apart() -> None:
    assert origin("https://Host.example/a?b") == origin("https://host.example:443/c")
    assert len({origin(u) for u in ("https://a/", "http://a/", "https://a:8443/", "https://b/", "https://a.b/")}) == 5
    assert plain("https://me:word@host:1/a/b?signature=x") == "https://host:1/a/b"


# Catalogues


def test_zenodos_listing_is_read_in_both_its_forms(server: Loopback, web: Web) -> None:
    server.files = {"a.zip": b"abc"}
    (listed,) = record_files("10.5281/zenodo.4683174", web, server.url)
    assert (listed.name, listed.size, listed.url) == ("a.zip", 3, f"{server.url}/files/a.zip")
    server.record = {"files": [{"filename": "a b.zip", "filesize": 3, "checksum": listed.md5}]}
    (other,) = record_files("10.5281/zenodo.4683174", web, server.url)
    assert (other.size, other.md5) == (3, listed.md5)
    assert other.url == f"{server.url}/records/{RECORD}/files/a%20b.zip?download=1"


@pytest.mark.parametrize(
    "entry",
    [
        {"key": "../a.zip", "size": 3, "checksum": "md5:" + "0" * 32},
        {"key": ".bashrc", "size": 3, "checksum": "md5:" + "0" * 32},
        {"key": "a.zip", "size": 3, "checksum": ""},
        {"key": "a.zip", "size": "3", "checksum": "md5:" + "0" * 32},
        "a.zip",
    ],
)
def test_a_listing_that_cannot_be_trusted_is_refused(server: Loopback, web: Web, entry: Any) -> None:
    server.record = {"files": [entry]}
    with pytest.raises(DownloadError, match="without plain name"):
        record_files("10.5281/zenodo.4683174", web, server.url)


@pytest.mark.parametrize("record", [[], {}, {"files": []}, {"files": {"entries": {}}}])
def test_a_record_without_files_is_refused(server: Loopback, web: Web, record: Any) -> None:
    server.record = record
    with pytest.raises(DownloadError, match="lists no files"):
        record_files("10.5281/zenodo.4683174", web, server.url)
    with pytest.raises(ConfigError, match="DOI"):
        record_files("10.1234/other", web, server.url)


def test_products_are_looked_up_by_name(dataset: Loopback, web: Web) -> None:
    services = Services.at(dataset.url)
    name = scene_of(1).product
    file = find_product(name, web, services)
    assert file.name == f"{name}.zip" and file.size == len(dataset.products[name])
    assert "%24filter=Name+eq+%27" + name in dataset.seen[-1].path
    assert "Authorization" not in dataset.seen[-1].headers
    dataset.catalogue[name] = {"ContentLength": 0, "Checksum": []}
    file = find_product(name, web, services)
    assert (file.size, file.md5) == (None, None) and file.at_most > 449e6
    dataset.catalogue[name] = {"Online": False}
    with pytest.raises(DownloadError, match="archive"):
        find_product(name, web, services)
    dataset.catalogue[name] = {"Id": "../../elsewhere"}
    with pytest.raises(DownloadError, match="no product"):
        find_product(name, web, services)
    with pytest.raises(DownloadError, match="no product"):
        find_product(scene_of(9).product, web, services)
    dataset.faults["/odata/v1/Products"].append(status(200))
    with pytest.raises(DownloadError, match="JSON"):
        find_product(name, web, services)


# The whole


def test_all_is_fetched_and_right_and_fetched_once(dataset: Loopback, tmp_path: Path) -> None:
    told: list[Plan] = []
    bytes_told: list[tuple[float, float]] = []
    inventory = fetch(dataset, tmp_path, announce=told.append, progress=lambda d, t, w: bytes_told.append((d, t)))
    assert inventory.complete and inventory.count("right") == 4
    for name, body in dataset.products.items():
        assert (tmp_path / "products" / f"{name}.zip").read_bytes() == body
    assert (tmp_path / "charts" / "EE_v-2-0-0.zip").read_bytes() == dataset.files["EE_v-2-0-0.zip"]
    assert not [n for n in names(tmp_path) if ".part" in n]
    arrived = sum(p.stat().st_size for p in tmp_path.glob("*/*"))
    assert arrived <= told[0].bytes_at_most <= told[0].bytes_free
    assert bytes_told[-1][0] == bytes_told[-1][1] == arrived
    record = (tmp_path / "fetch.json").read_text()
    assert "Contains modified Copernicus Sentinel data 2018" in record and "zenodo.4683174" in record
    dataset.seen.clear()
    assert fetch(dataset, tmp_path, account=None).complete  # nothing lacks, so no account is needed
    assert not dataset.seen


def test_only_what_lacks_is_fetched(dataset: Loopback, tmp_path: Path) -> None:
    january = tmp_path / "somewhere" / "mine"
    write_product(january, scene_of(1))
    inventory = fetch(dataset, tmp_path, what=["products"])
    assert inventory.complete and inventory.count("right") == 2
    assert names(tmp_path / "products") == {f"{scene_of(2).product}.zip"}
    assert not dataset.of("/api") and not dataset.of("/files")
    inventory = fetch(dataset, tmp_path, what=["charts"], account=None)
    assert inventory.complete and len(dataset.of("/files")) == 2


def test_a_damaged_product_is_replaced(dataset: Loopback, tmp_path: Path) -> None:
    fetch(dataset, tmp_path)
    victim = tmp_path / "products" / f"{scene_of(2).product}.zip"
    victim.write_bytes(victim.read_bytes()[:1000])
    dataset.seen.clear()
    assert fetch(dataset, tmp_path).complete
    assert len(dataset.of("$value")) == 1
    assert victim.read_bytes() == dataset.products[scene_of(2).product]


def test_a_chart_archive_that_went_is_replaced_alone(dataset: Loopback, tmp_path: Path) -> None:
    fetch(dataset, tmp_path)
    (tmp_path / "charts" / "EE_v-2-0-0.zip").unlink()
    dataset.seen.clear()
    assert fetch(dataset, tmp_path).complete
    assert [s.path for s in dataset.of("/files")] == ["/files/EE_v-2-0-0.zip"]


def test_everything_at_once_goes_wrong_and_comes_right(dataset: Loopback, tmp_path: Path) -> None:
    size = len(dataset.products[scene_of(1).product])
    dataset.faults["/token"].append(status(503))
    dataset.faults["/odata/v1/Products"].append(status(429, Retry_After="1"))
    dataset.faults[f"/api/records/{RECORD}"].append(status(502))
    dataset.faults["/files/EE_v-2-0-0.zip"].extend([drop(100), wrong])
    dataset.faults["$value"].extend([drop(size // 3), status(503), wrong, no_range, drop(size // 2)])
    assert fetch(dataset, tmp_path).complete
    assert not [n for n in names(tmp_path) if ".part" in n]


def test_no_more_than_two_connections_at_a_time(dataset: Loopback, tmp_path: Path) -> None:
    dataset.delay_s = 0.03
    assert fetch(dataset, tmp_path).complete
    assert dataset.most_active == 2


def test_a_disk_too_small_is_told_before_anything_is_fetched(dataset: Loopback, tmp_path: Path) -> None:
    dataset.catalogue[scene_of(2).product] = {"ContentLength": 10**17}
    with pytest.raises(OutputError, match=r"100000000\.\d+ GB are needed"):
        fetch(dataset, tmp_path)
    assert not dataset.of("$value") and not dataset.of("/files") and not dataset.of("/token")
    assert names(tmp_path) == set()


def test_without_an_account_nothing_is_asked_of_anyone(
    dataset: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(USER_VARIABLE, raising=False)
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(FloemapError, match="account"):
        fetch(dataset, tmp_path / "out", account=None)
    assert not dataset.seen


def repacked(body: bytes, **changes: bytes) -> bytes:
    """Pack a zip anew, other bytes with the same content; `changes` replaces what members of that ending hold."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as a, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as b:
        for m in a.infolist():
            content = a.read(m)
            b.writestr(m, next((c for e, c in changes.items() if m.filename.endswith(e)), content), compresslevel=9)
    return target.getvalue()


@pytest.mark.parametrize("known", [{}, {"ContentLength": 0, "Checksum": []}], ids=["other checksum", "no checksum"])
def test_a_product_packed_anew_is_judged_by_what_is_in_it(
    dataset: Loopback, tmp_path: Path, known: dict[str, Any]
) -> None:
    name = scene_of(1).product
    dataset.catalogue[name] = {k: dataset.entry(name)[k] for k in ("ContentLength", "Checksum")} | known
    dataset.products[name] = repacked(dataset.products[name])
    assert fetch(dataset, tmp_path, months=[1], what=["products"]).complete
    assert len(dataset.of("$value")) == 1


@pytest.mark.parametrize("known", [{}, {"ContentLength": 0, "Checksum": []}], ids=["other checksum", "no checksum"])
def test_a_product_with_other_pixels_is_not_kept(dataset: Loopback, tmp_path: Path, known: dict[str, Any]) -> None:
    name = scene_of(1).product
    dataset.catalogue[name] = {k: dataset.entry(name)[k] for k in ("ContentLength", "Checksum")} | known
    with zipfile.ZipFile(io.BytesIO(dataset.products[name])) as z:
        pixels = next(n for n in z.namelist() if n.endswith("001.tiff"))
        changed = bytearray(z.read(pixels))
    changed[-5] ^= 1
    dataset.products[name] = repacked(dataset.products[name], **{"001.tiff": bytes(changed)})
    with pytest.raises(DownloadError, match="checksum"):
        fetch(dataset, tmp_path, months=[1], what=["products"])
    assert len(dataset.of("$value")) == 2
    assert names(tmp_path / "products") == set()


def test_another_scenes_product_is_not_kept(dataset: Loopback, tmp_path: Path) -> None:
    january, february = (scene_of(m).product for m in MONTHS)
    dataset.catalogue[january] = {"ContentLength": 0, "Checksum": []}
    dataset.products[january] = dataset.products[february]
    with pytest.raises(DownloadError, match="is needed"):
        fetch(dataset, tmp_path, months=[1], what=["products"])
    assert names(tmp_path / "products") == set()


def test_one_failure_does_not_cost_the_others(dataset: Loopback, tmp_path: Path) -> None:
    dataset.record = {
        "files": dataset.zenodo_entries()
        if hasattr(dataset, "zenodo_entries")
        else listing(dataset, missing="gone.pdf")
    }
    with pytest.raises(DownloadError, match="404"):
        fetch(dataset, tmp_path)
    assert {f"{scene_of(m).product}.zip" for m in MONTHS} <= names(tmp_path / "products")
    assert "EE_v-2-0-0.zip" in (tmp_path / "fetch.json").read_text()
    assert "gone.pdf" not in (tmp_path / "fetch.json").read_text()


def listing(server: Loopback, missing: str) -> list[dict[str, Any]]:
    files = server.files | {missing: b"x"}
    return [
        {
            "key": n,
            "size": len(b),
            "checksum": f"md5:{hashlib.md5(b).hexdigest()}",
            "links": {"self": f"{server.url}/files/{n}"},
        }
        for n, b in files.items()
    ]


def test_ctrl_c_keeps_what_arrived_and_the_next_run_goes_on(
    dataset: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()
    sent = len(dataset.products[scene_of(1).product]) - 10_000
    dataset.faults["$value"].append(hold(sent, entered, release))

    def interrupted(running: Any) -> NoReturn:
        assert entered.wait(60)
        raise KeyboardInterrupt

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *args: Any, **how: Any) -> None:
            release.set()  # the work has been stopped before
            super().shutdown(*args, **how)

    monkeypatch.setattr(many, "wait", interrupted)
    monkeypatch.setattr(many, "ThreadPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        fetch(dataset, tmp_path, months=[1], what=["products"])
    monkeypatch.undo()
    name = f"{scene_of(1).product}.zip"
    assert names(tmp_path / "products") == {f"{name}.part", f"{name}.part.json"}
    have = (tmp_path / "products" / f"{name}.part").stat().st_size
    assert sent - CHUNK_BYTES < have <= sent and have > 0
    assert fetch(dataset, tmp_path, months=[1], what=["products"]).complete
    assert dataset.of("$value")[-1].headers["Range"] == f"bytes={have}-"


def test_a_stopped_client_does_not_wait(server: Loopback, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    server.faults["/files/a.bin"].append(status(503, Retry_After="500"))
    with Web(stop=stop) as web, pytest.raises(Stopped):
        get(server, web, tmp_path)


def test_two_runs_do_not_fetch_into_one_folder(dataset: Loopback, tmp_path: Path) -> None:
    def second(plan: Plan) -> None:
        fetch(dataset, tmp_path)

    with pytest.raises(OutputError, match="another run fetches"):
        fetch(dataset, tmp_path, announce=second)
    assert fetch(dataset, tmp_path).complete


def test_real_data_do_not_come_among_simulated(dataset: Loopback, tmp_path: Path) -> None:
    (tmp_path / "SIMULATED.txt").write_text("")
    with pytest.raises(FloemapError, match="simulated"):
        fetch(dataset, tmp_path)
    assert not dataset.seen


def test_secrets_are_in_no_file_log_or_message(
    dataset: Loopback, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(USER_VARIABLE, USER)
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    dataset.faults["$value"].extend([drop(1000), status(503), status(401), wrong])
    assert fetch(dataset, tmp_path, account=None).complete
    dataset.faults["$value"].extend([status(403)] * 2)
    for zipped in (tmp_path / "products").iterdir():
        zipped.unlink()
    with pytest.raises(DownloadError, match="2 of 2 files") as caught:
        fetch(dataset, tmp_path, account=None, what=["products"])
    said = [caplog.text, "".join(traceback.format_exception(caught.value)), repr(caught.value)]
    said += [p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file()]
    assert len(dataset.tokens) >= 2  # there was something to tell
    for secret in (USER, PASSWORD, *dataset.tokens, *dataset.refresh_tokens):
        assert not any(secret in text for text in said), secret
    # The account went to the token endpoint and nowhere else, tokens to downloads and nowhere else.
    for request in dataset.seen:
        assert ("password" in request.body) <= (request.path == "/token")
        assert ("Authorization" in request.headers) == ("$value" in request.path)


def test_without_requests_the_way_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests", None)
    monkeypatch.delitem(sys.modules, "floemap.datasets.download.http")
    with pytest.raises(FloemapError, match=r"its extra 'fetch': .* pip install -e '\.\[fetch\]'"):
        importlib.import_module("floemap.datasets.download.http")


def test_a_run_that_is_stopped_has_told_of_what_came_and_the_next_one_fetches_the_rest(
    dataset: Loopback, tmp_path: Path
) -> None:
    """Also where the charts themselves are there, and what comes with them is not."""
    dataset.files["README.txt"] = b"words" * 1000
    dataset.faults["/files/README.txt"].extend([drop(100), status(404)])
    with pytest.raises(DownloadError, match="404"):
        fetch(dataset, tmp_path)
    came = {"EE_v-2-0-0.zip", *(f"{scene_of(m).product}.zip" for m in MONTHS)}
    assert {*json.loads((tmp_path / "fetch.json").read_text())["inputs"]} == came
    assert "README.txt.part" in names(tmp_path)
    assert fetch(dataset, tmp_path, account=None).complete
    assert {*json.loads((tmp_path / "fetch.json").read_text())["inputs"]} == came | {"README.txt"}
    assert (tmp_path / "charts" / "README.txt").read_bytes() == dataset.files["README.txt"]
