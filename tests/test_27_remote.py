"""Products on servers and in object stores: copied, worked on, removed; keys stay with their server."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import Fault, Loopback, body, drop, longer, no_range, other_range, raw, status
from object_store import BUCKET, KEY, KEY_ID, AzureContainer, Bucket, GoogleBucket, PublicGoogleBucket
from workshop import Inputs, run

from floemap.archive.scenes import find_scenes
from floemap.errors import ConfigError, DownloadError, FloemapError, ProductError
from floemap.outcomes import Outcome, each_product
from floemap.progress import Progress
from floemap.remote import copies
from floemap.remote.address import address_of, as_address, paths_and_addresses
from floemap.remote.copies import Copies
from floemap.results.stage import write_json
from floemap.sentinel1.prepare import PreparedProduct

SECRET = "X-Amz-Signature=5ecre7"


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as loopback:
        yield loopback


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    web = vars(copies)["Web"]
    monkeypatch.setattr(copies, "Web", lambda: web(sleep=lambda s: None))


@pytest.mark.parametrize(
    ("text", "name", "shown"),
    [
        (f"https://x.example/a/S1A.zip?{SECRET}", "S1A.zip", "https://x.example/a/S1A.zip"),
        ("HTTPS://x.example:8443/S1%20A.zip#part", "S1 A.zip", "https://x.example:8443/S1%20A.zip"),
        ("s3://bucket/2018/01/S1A.SAFE/", "S1A.SAFE", "s3://bucket/2018/01/S1A.SAFE"),
        ("gs://bucket/a_prep.nc", "a_prep.nc", "gs://bucket/a_prep.nc"),
        ("az://container/S1A.zip", "S1A.zip", "az://container/S1A.zip"),
    ],
)
def test_addresses_are_shown_without_their_keys(text: str, name: str, shown: str) -> None:
    address = address_of(text)
    assert (address.name, str(address), as_address(address.path)) == (name, shown, shown)
    assert SECRET not in f"{address} {address!r} {[address]}"
    assert address.url == (text if "http" in shown else shown)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file:///etc/passwd", "of a kind that floemap does not read"),
        ("ftp://x.example/S1A.zip", "of a kind that floemap does not read"),
        ("https://x.example/", "does not end in the name of a zip"),
        ("https://x.example/get?name=S1A.zip", "does not end in the name of a zip"),
        ("https://x.example/S1A.SAFE", "does not end in the name of a zip"),
        ("https://user:5ecre7@x.example/S1A.zip", "contains a user name or password"),
        ("s3://KEY:5ecre7@bucket/S1A.zip", "contains a user name or password"),
        ("https://user:5ecre7#2@x.example/S1A.zip", "contains a user name or password"),
        ("https://user:12#5ecre7?@x.example/S1A.zip", "contains a user name or password"),
        ("https://user:5ecre7@[x/S1A.zip", "contains a user name or password"),
        ("https:///S1A.zip", "is not the address"),
        ("https://x.example:port/S1A.zip", "is not a web address"),
        ("https://x.example/a\x1b[31m/S1A.zip", "is not the address"),
        ("https://x.example/%2e%2e%2fS1A.zip", "does not end in a name"),
        ("s3://bucket/../other/S1A.zip", "is not the address"),
        ("s3://bucket//S1A.zip", "is not the address"),
        ("s3:///S1A.zip", "is not the address"),
        ("s3://bucket/S1A.zip?versionId=5ecre7", "has a query"),
        (f"https://x.example/{'a' * 9000}.zip", "is not the address"),
    ],
)
def test_other_addresses_are_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as e:
        address_of(text)
    assert "5ecre7" not in str(e.value)
    assert e.value.hint


@pytest.mark.parametrize("text", ["S1A.zip", "./https://x", "http:/x/S1A.zip", "a b/c", ""])
def test_paths_are_no_addresses(text: str) -> None:
    assert address_of(text) is None


def test_a_product_of_a_server_is_prepared_as_one_of_the_disk(
    server: Loopback, small_zip: Path, workshop: Inputs, tmp_path: Path
) -> None:
    """All but the place is equal; the key stays with the server; what is finished is not copied again."""
    server.files[small_zip.name] = small_zip.read_bytes()
    url, out = f"{server.url}/files/{small_zip.name}?{SECRET}", tmp_path / "out"
    options = ["--resolution", "2000"]
    first = run("prepare", url, "--out", out, *options)
    assert first.exit_code == 0, first.stderr
    assert (out / workshop.name / "product.tif").read_bytes() == (workshop.prepared / "product.tif").read_bytes()
    left = [p for p in (out / ".copies").rglob("*") if p.is_file()]
    assert [p.suffix for p in left] == [".json"], "a note stays, and no pixel"
    kept = b"".join(p.read_bytes() for p in out.rglob("*") if p.is_file()).decode("latin-1")
    asked = [s.headers.get("Range") for s in server.of("/files/")]
    assert asked == ["bytes=0-0", None]
    second = run("prepare", url, "--out", out, *options)
    assert "(finished before)" in second.stdout
    assert [s.headers.get("Range") for s in server.of("/files/")] == [*asked, "bytes=0-0"]
    for words in (kept, first.stdout, first.stderr, second.stdout, second.stderr):
        assert "5ecre7" not in words


def made(results: Path, seen: list[bytes]) -> Any:
    """Work that notes what it gets and makes a result with a record, as those of floemap have one."""

    def work(product: Path, made: Collection[Path], progress: Progress) -> PreparedProduct:
        seen.append(product.read_bytes())
        if product.read_bytes() == b"poison":
            raise ProductError("is poison.", path=product, hint=f"Look at {product}.")
        folder = results / product.stem
        folder.mkdir()
        write_json(
            folder / "product.json", {"scene": {"start": "2018-01-16T00:00:00+00:00"}, "inputs": {"product": {}}}
        )
        return PreparedProduct(folder)

    return work


def done_with(server: Loopback, names: list[str], out: Path, seen: list[bytes]) -> list[Outcome[PreparedProduct]]:
    out.mkdir(exist_ok=True)
    paths, addresses = paths_and_addresses([f"{server.url}/files/{name}?{SECRET}" for name in names])
    return each_product(paths, Copies(out, addresses).around(made(out, seen), lambda known: None))


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ([status(302, Location="file:///etc/passwd")], "not a web address|not encrypted"),
        ([status(302, Location="http://192.0.2.1/b.zip")], "not encrypted"),
        ([status(302, Location="ftp://x.example/b.zip")], "not encrypted"),
        ([status(301)] * 9, "redirects more than"),
        ([status(403)], "answers 403"),
        ([status(404)], "answers 404"),
        ([longer], "does not say how large"),
        ([body(b"", 206, Content_Range="bytes 0-0/*")], "does not say how large"),
        ([body(b"x", 206, Content_Range="bytes 0-0/99999999999999")], "has 99999999999999 bytes"),
        ([body(b"", 206, Content_Range="bytes */0")], "is empty"),
        (
            [no_range, raw(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Encoding: gzip\r\n\r\n", b"x")],
            "compressed",
        ),
        ([drop(2), *[drop(0)] * 20], "times in a row|does not answer"),
        ([no_range, longer], "sends more than"),
    ],
)
def test_a_hostile_server_costs_its_own_product_only(
    faults: list[Fault], words: str, server: Loopback, tmp_path: Path
) -> None:
    server.files |= {"a.zip": b"the first", "b.zip": b"another"}
    # What fails twice for other bytes is asked for again.
    server.faults["/files/b.zip"].extend(faults if len(faults) != 2 else [*faults, longer])
    seen: list[bytes] = []
    bad, good = done_with(server, ["b.zip", "a.zip"], tmp_path / "out", seen)
    assert isinstance(bad.error, DownloadError)
    text = str(bad.error)
    assert any(w in text for w in words.split("|")), text
    assert "5ecre7" not in text
    assert good.error is None
    assert seen == [b"the first"]


def test_a_wrong_range_starts_the_copy_again(server: Loopback, tmp_path: Path) -> None:
    server.files["a.zip"] = bytes(range(256)) * 1000
    server.faults["/files/a.zip"].extend([no_range, drop(100_000), other_range])
    seen: list[bytes] = []
    (found,) = done_with(server, ["a.zip"], tmp_path / "out", seen)
    assert found.error is None
    assert seen == [server.files["a.zip"]]


def test_a_product_that_cannot_be_worked_on_leaves_no_copy_and_is_named_by_its_address(
    server: Loopback, tmp_path: Path
) -> None:
    server.files |= {"a.zip": b"poison", "b.zip": b"good"}
    bad, good = done_with(server, ["a.zip", "b.zip"], tmp_path / "out", [])
    assert str(bad.error) == f"a.zip: is poison. Look at {server.url}/files/a.zip."
    assert good.error is None
    assert not [p for p in (tmp_path / "out" / ".copies").iterdir() if p.is_dir()]


@pytest.mark.parametrize("changed", [False, True])
def test_a_stopped_copy_is_resumed_unless_the_product_has_changed(
    changed: bool, server: Loopback, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 4000
    server.files["a.zip"] = content
    out, seen = tmp_path / "out", []  # type: ignore[var-annotated]
    paths, addresses = paths_and_addresses([f"{server.url}/files/a.zip"])
    work = Copies(out, addresses).around(made(out, seen), lambda known: None)

    def stop(done: float, total: float, what: str) -> None:
        if what == "copying":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(paths[0], (), stop)
    if changed:
        server.files["a.zip"] = content[::-1]
    before = len(server.seen)
    work(paths[0], (), lambda *step: None)
    assert seen == [server.files["a.zip"]]
    look, rest = (s.headers.get("Range") for s in server.seen[before:])
    assert look == "bytes=0-0"
    assert (rest is None) == changed


def test_only_a_product_that_is_the_same_counts_as_finished(server: Loopback, tmp_path: Path) -> None:
    server.files["a.zip"] = b"one"
    out, seen = tmp_path / "out", []  # type: ignore[var-annotated]
    paths, addresses = paths_and_addresses([f"{server.url}/files/a.zip"])
    work = Copies(out, addresses).around(made(out, seen), lambda known: PreparedProduct(out / known.name, True))
    assert not work(paths[0], (), lambda *step: None).skipped
    assert work(paths[0], (), lambda *step: None).skipped
    server.files["a.zip"] = b"two"
    shutil.rmtree(out / "a")
    assert not work(paths[0], (), lambda *step: None).skipped
    assert seen == [b"one", b"two"]


@pytest.fixture
def bucket(small_product: Path, small_zip: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket with a product as a folder, with what floemap does not read, and as a zip."""
    with Bucket() as store:
        store.account(monkeypatch)
        name = f"2018/01 16/{small_product.name}"
        for path in small_product.rglob("*"):
            if path.is_file():
                store.files[f"{name}/{path.relative_to(small_product).as_posix()}"] = path.read_bytes()
        store.files |= {f"{name}/preview/quick-look.png": b"x" * 100, f"{name}/support/s1.xsd": b"<x/>"}
        store.files[f"2018/zips/{small_zip.name}"] = small_zip.read_bytes()
        store.files["2018/readme.txt"] = b"words"
        yield store


def test_a_folder_in_a_bucket_is_prepared_with_the_account_that_gdal_finds(
    bucket: Bucket, small_product: Path, workshop: Inputs, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    address = f"s3://{BUCKET}/2018/01 16/{small_product.name}/"
    found = run("prepare", address, "--out", out, "--resolution", "2000")
    assert found.exit_code == 0, found.stderr
    assert (out / workshop.name / "product.tif").read_bytes() == (workshop.prepared / "product.tif").read_bytes()
    assert not bucket.of("preview") and not bucket.of("support"), "what is not read is not copied"
    kept = b"".join(p.read_bytes() for p in out.rglob("*") if p.is_file()).decode("latin-1") + found.stderr
    assert KEY not in kept and KEY_ID not in kept
    assert "SIMULATED" in found.stderr
    before = len(bucket.seen)
    assert "(finished before)" in run("prepare", address, "--out", out, "--resolution", "2000").stdout
    assert all("prefix=" in s.path for s in bucket.seen[before:]), "it is listed, and not read"


@pytest.mark.parametrize(("scheme", "kind"), [("gs", GoogleBucket), ("gs", PublicGoogleBucket), ("az", AzureContainer)])
def test_other_stores_are_read_in_the_same_way(
    scheme: str,
    kind: type[Bucket],
    small_product: Path,
    small_zip: Path,
    workshop: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder is listed, its files are asked for by signed addresses; a zip, too; and nobody's key is written down."""
    with kind() as store:
        store.account(monkeypatch)
        name = f"2018/01 16/{small_product.name}"
        for path in small_product.rglob("*"):
            if path.is_file():
                store.files[f"{name}/{path.relative_to(small_product).as_posix()}"] = path.read_bytes()
        store.files[f"2018/zips/{small_zip.name}"] = small_zip.read_bytes()
        folder, archive = (str(p) for p in find_scenes([f"{scheme}://{BUCKET}/2018"]))
        assert (folder, archive) == (f"{scheme}://{BUCKET}/{name}", f"{scheme}://{BUCKET}/2018/zips/{small_zip.name}")
        out = tmp_path / "out"
        found = run("prepare", folder, "--out", out, "--resolution", "2000")
        assert found.exit_code == 0, found.stderr
        assert (out / workshop.name / "product.tif").read_bytes() == (workshop.prepared / "product.tif").read_bytes()
        copied: list[bytes] = []
        paths, addresses = paths_and_addresses([archive])

        def work(product: Path, *rest: Any) -> PreparedProduct:
            copied.append(product.read_bytes())
            return PreparedProduct(tmp_path, skipped=False)

        Copies(tmp_path / "more", addresses).around(work, lambda known: None)(paths[0], (), lambda *step: None)
        assert copied == [small_zip.read_bytes()]
        kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()).decode("latin-1") + found.stderr
        assert KEY not in kept and KEY_ID not in kept


def test_without_an_account_the_settings_of_the_store_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "not of this form")
    found = run("prepare", f"az://{BUCKET}/S1A.zip", "--out", tmp_path)
    assert found.exit_code == 1 and "AZURE_STORAGE_ACCOUNT" in found.stderr and "AWS" not in found.stderr
    assert "not of this form" not in found.stderr


def test_the_products_of_a_bucket_are_found(
    bucket: Bucket, small_product: Path, small_zip: Path, tmp_path: Path
) -> None:
    found = [str(p) for p in find_scenes([f"s3://{BUCKET}/2018"])]
    folder, archive = f"s3://{BUCKET}/2018/01 16/{small_product.name}", f"s3://{BUCKET}/2018/zips/{small_zip.name}"
    assert found == [folder, archive]
    listed = tmp_path / "list.txt"
    listed.write_text(f"# of the bucket\n{archive}\nhttps://x.example/S1A.zip?{SECRET}\n{archive}\n")
    assert [str(p) for p in find_scenes([listed])] == [archive, "https://x.example/S1A.zip"]
    for name, words in (("2018/none", "contains no product|cannot be listed"), ("2018/S1*", "is a pattern")):
        with pytest.raises(FloemapError, match=words):
            find_scenes([f"s3://{BUCKET}/{name}"])


def test_a_name_that_an_address_cannot_have_costs_its_product_only(
    bucket: Bucket, small_zip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.files |= {"2018/zips/odd?.zip": b"x", "2018/zips/../up.zip": b"x", "2018/zips/bell\x07.zip": b"x"}
    found = [str(p) for p in find_scenes([f"s3://{BUCKET}/2018/zips"])]
    assert found == [f"s3://{BUCKET}/2018/zips/{small_zip.name}"]
    assert caplog.text.count("It is left out.") == len(caplog.records) > 0
    bucket.files = {"2018/odd?.zip": b"x"}
    with pytest.raises(ConfigError, match="no product whose name an address can have"):
        find_scenes([f"s3://{BUCKET}/2018"])


def test_a_store_without_a_right_account_is_a_clear_error(
    bucket: Bucket, small_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKWRONG")
    found = run("prepare", f"s3://{BUCKET}/2018/zips/{small_zip.name}", "--out", tmp_path)
    assert found.exit_code == 1
    assert "answers 403" in found.stderr and "Traceback" not in found.stderr
    with pytest.raises(DownloadError, match="cannot be listed"):
        find_scenes([f"s3://{BUCKET}/2018"])
    assert KEY_ID not in found.stderr and "AKWRONG" not in found.stderr


@pytest.mark.parametrize("command", ["label", "predict", "evaluate", "layer", "watch", "publish"])
def test_other_commands_take_no_address(command: str, server: Loopback, tmp_path: Path) -> None:
    url = f"{server.url}/files/a.zip"
    words = {
        "label": ["label", url, "--like", url],
        "predict": ["predict", url, "--model", url],
        "evaluate": ["evaluate", url, url],
        "layer": ["layer", "distance-to-land", url, "--land", url],
        "watch": ["watch", url, "--once", "--settle", "0"],
        "publish": ["publish", url, "--analyst", "x"],
    }[command]
    out = [] if command == "layer" else ["--out", str(tmp_path / "out")]
    assert run(*words, *out).exit_code != 0
    assert server.seen == []
