"""Fetching AI4Arctic over real HTTP on loopback, from figshare's form of listing and from a mirror."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from fetching import names
from loopback import Loopback, body, drop, no_range, status, wrong
from typer.testing import CliRunner

from floemap.datasets.ai4arctic import fetch as fetch_module
from floemap.datasets.ai4arctic.fetch import fetch_ai4arctic, scenes_of_text
from floemap.datasets.ai4arctic.inventory import Inventory
from floemap.datasets.ai4arctic.scenes import by_name
from floemap.datasets.download import many
from floemap.datasets.download.figshare import item_files
from floemap.datasets.download.http import Services, Web
from floemap.errors import ConfigError, DownloadError, FloemapError, OutputError
from floemap.simulation.ai4arctic_scene import SimulatedScene

Made = tuple[SimulatedScene, ...]
#: Items of DTU's collection by form and use, from its landing pages.
READY_TRAIN, READY_TEST, RAW_TRAIN, RAW_TEST = 21316608, 21762830, 21284967, 21762848


@pytest.fixture
def figshare(server: Loopback, ai4arctic_set: Made) -> Loopback:
    """The services with two training scenes and one test scene under their published names."""
    for one in ai4arctic_set:
        files = {one.scene.ready: one.ready, one.scene.raw: one.raw}
        if one.test:
            files[one.scene.reference] = one.reference
        server.files |= {name: path.read_bytes() for name, path in files.items()}
        for name in files:
            raw, test = "_icechart_" in name, one.test
            item = {(0, 0): READY_TRAIN, (0, 1): READY_TEST, (1, 0): RAW_TRAIN, (1, 1): RAW_TEST}[raw, test]
            server.items.setdefault(item, []).append(server.figshare_entry(name))
    server.files["manual.pdf"] = b"words"
    server.items[READY_TRAIN].insert(0, server.figshare_entry("manual.pdf") | {"computed_md5": "", "supplied_md5": ""})
    return server


@pytest.fixture
def scenes(ai4arctic_set: Made) -> list[Any]:
    return [one.scene for one in ai4arctic_set]


def fetch(server: Loopback, out: Path, **options: Any) -> Inventory:
    return fetch_ai4arctic(out, services=Services.at(server.url), sleep=lambda s: None, **options)


def test_chosen_scenes_are_fetched_once_and_right(figshare: Loopback, scenes: list[Any], tmp_path: Path) -> None:
    told: list[many.Plan] = []
    found = fetch(figshare, tmp_path, scenes=[scenes[0], scenes[-1]], announce=told.append)
    assert found.problems == ()
    wanted = {scenes[0].ready, scenes[-1].ready, scenes[-1].reference}
    assert names(tmp_path) == {*wanted, "fetch.json"}
    for name in wanted:
        assert (tmp_path / "ready" / name).read_bytes() == figshare.files[name]
    assert told[0].bytes_at_most == sum(len(figshare.files[n]) for n in wanted)
    record = json.loads((tmp_path / "fetch.json").read_text())
    assert set(record["inputs"]) == wanted and "CC-BY 4.0" in record["credits"]["dataset"]
    assert {s.path.partition("?")[0] for s in figshare.of("/v2")} == {
        f"/v2/articles/{READY_TRAIN}/files",
        f"/v2/articles/{READY_TEST}/files",
    }
    figshare.seen.clear()
    both = fetch(figshare, tmp_path, scenes=scenes, forms=("ready", "raw"))
    assert both.problems == ()
    assert {s.path.removeprefix("/files/") for s in figshare.of("/files/")} - {s.path for s in figshare.of("/v2")} == {
        scenes[1].ready,
        *(s.raw for s in scenes),
    }


def test_all_that_goes_wrong_on_the_way_comes_right(figshare: Loopback, scenes: list[Any], tmp_path: Path) -> None:
    """A break, a busy server, damaged bytes, a redirect to a storage host."""
    one, other, test = scenes
    figshare.faults[f"/v2/articles/{READY_TRAIN}/files"].append(status(503))
    figshare.faults[f"/files/{one.ready}"].extend([drop(70_000), status(503), no_range])
    figshare.faults[f"/files/{other.ready}"].extend([wrong])
    with Loopback() as storage:
        storage.files[test.ready] = figshare.files[test.ready]
        storage.faults[f"/files/{test.ready}"].append(drop(100_000))
        address = f"{storage.url}/files/{test.ready}?signature=s3cret"
        figshare.faults[f"/files/{test.ready}"].extend([status(302, Location=address)] * 2)
        assert fetch(figshare, tmp_path, scenes=scenes).problems == ()
        assert [s.headers.get("Range", "")[:6] for s in storage.of("/files/")] == ["", "bytes="]
    assert not [n for n in names(tmp_path) if ".part" in n]
    assert "s3cret" not in (tmp_path / "fetch.json").read_text()


def test_what_failed_is_named_the_rest_is_there_and_the_next_run_resumes(
    figshare: Loopback, scenes: list[Any], tmp_path: Path
) -> None:
    victim = scenes[0].ready
    figshare.faults[f"/files/{victim}"].extend([drop(200_000), status(404)])
    with pytest.raises(DownloadError, match="404"):
        fetch(figshare, tmp_path, scenes=scenes)
    assert victim not in names(tmp_path) and f"{victim}.part" in names(tmp_path)
    assert {scenes[1].ready, scenes[2].ready} <= names(tmp_path)
    figshare.seen.clear()
    assert fetch(figshare, tmp_path, scenes=scenes).problems == ()
    (again,) = figshare.of("/files/")[-1:]
    assert again.headers["Range"].startswith(("bytes=1", "bytes=200000"))


def test_a_truncated_file_is_fetched_again_where_it_lies(figshare: Loopback, scenes: list[Any], tmp_path: Path) -> None:
    own = tmp_path / "my" / scenes[0].ready
    own.parent.mkdir()
    own.write_bytes(figshare.files[own.name][:5000])
    assert fetch(figshare, tmp_path, scenes=scenes[:1]).problems == ()
    assert own.read_bytes() == figshare.files[own.name]
    assert own.with_name(f"{own.name}.before").stat().st_size == 5000  # nothing of the user's is lost
    changed = bytearray(figshare.files[own.name])
    changed[-1] ^= 1
    (tmp_path / "fetch.json").unlink()  # so that nobody has verified it
    own.write_bytes(changed)
    fetch(figshare, tmp_path, scenes=scenes[:1])
    assert own.read_bytes() == figshare.files[own.name]


HOSTILE: dict[str, dict[str, Any]] = {
    "a name with a path": {"name": "../20180607T184326_dmi_prep.nc"},
    "a path to the root": {"name": "/tmp/{name}"},
    "no size": {"size": None},
    "a size as text": {"size": "12"},
    "a negative size": {"size": -1},
    "only a link": {"is_link_only": True},
    "no address": {"download_url": None},
    "an address of a file": {"download_url": "file:///etc/passwd"},
    "an unencrypted address": {"download_url": "http://elsewhere.example/a"},
    "too small a size": {"size": 100},
    "too large a size": {"size": 10_000_000_000_000},
    "another checksum": {"computed_md5": "0" * 32},
    "a scene that is not listed": {"name": "20180101T000000_dmi_prep.nc"},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_listing_that_cannot_be_trusted_costs_its_file_only(
    figshare: Loopback, scenes: list[Any], tmp_path: Path, case: str
) -> None:
    name = scenes[0].ready
    changes = {k: v.replace("{name}", name) if isinstance(v, str) else v for k, v in HOSTILE[case].items()}
    entries = figshare.items[READY_TRAIN]
    figshare.items[READY_TRAIN] = [e | changes if e["name"] == name else e for e in entries]
    out = tmp_path / "out"
    with pytest.raises((DownloadError, OutputError)):
        fetch(figshare, out, scenes=scenes)
    assert name not in names(tmp_path)
    if case != "too large a size":  # for which the disk has no room
        assert {scenes[1].ready, scenes[2].ready} <= names(out)
    assert {p.name for p in tmp_path.iterdir()} == (set() if case == "too large a size" else {"out"})


@pytest.mark.parametrize("answer", [{}, {"message": "no"}, [], "text", None])
def test_a_listing_of_another_form_is_an_error(server: Loopback, web: Web, answer: Any) -> None:
    server.faults["/v2/articles/1/files"].append(body(json.dumps(answer).encode()))
    with pytest.raises(DownloadError, match="list"):
        item_files(1, web, f"{server.url}/v2")


def test_long_listings_come_in_pages(server: Loopback, web: Web) -> None:
    server.files = {"a.nc": b"abc"}
    server.items[1] = [server.figshare_entry("a.nc") | {"name": f"{k}.nc"} for k in range(1500)]
    assert len(item_files(1, web, f"{server.url}/v2")) == 1500
    assert len(item_files(1, web, f"{server.url}/v2", wanted=lambda name: name == "1400.nc")) == 1
    server.items[1] *= 2
    with pytest.raises(DownloadError, match="two files named"):
        item_files(1, web, f"{server.url}/v2")


def test_a_mirror_is_judged_by_its_checksums_or_by_what_its_files_are(
    figshare: Loopback, scenes: list[Any], tmp_path: Path
) -> None:
    mirror = f"{figshare.url}/files/"
    assert fetch(figshare, tmp_path / "a", scenes=scenes, mirror=mirror).problems == ()
    assert not figshare.of("/v2")
    # Another scene's bytes under this scene's name.
    figshare.files[scenes[0].ready] = figshare.files[scenes[1].ready]
    with pytest.raises(DownloadError, match=f"is of scene {scenes[1].name}"):
        fetch(figshare, tmp_path / "b", scenes=scenes[:1], mirror=mirror)
    assert scenes[0].ready not in names(tmp_path / "b")
    figshare.files[scenes[0].ready] = b"not a NetCDF file"
    with pytest.raises(DownloadError, match="cannot be read"):
        fetch(figshare, tmp_path / "b", scenes=scenes[:1], mirror=mirror)
    # A list of checksums, one of which is another.
    figshare.files["MD5SUMS"] = "".join(
        f"{hashlib.md5(figshare.files[s.ready] + b'x' * (s is scenes[2])).hexdigest()}  ./{s.ready}\n" for s in scenes
    ).encode()
    with pytest.raises(DownloadError, match="MD5"):
        fetch(figshare, tmp_path / "c", scenes=scenes[1:], mirror=mirror)
    assert scenes[1].ready in names(tmp_path / "c") and scenes[2].ready not in names(tmp_path / "c")
    del figshare.files[scenes[1].ready]
    with pytest.raises(DownloadError, match="the mirror has no file"):
        fetch(figshare, tmp_path / "d", scenes=[scenes[1]], mirror=mirror)
    for address in ("ftp://a.example/", "a.example", "https://a.example/?list=1", "http://"):
        with pytest.raises(ConfigError):
            fetch(figshare, tmp_path / "e", scenes=scenes, mirror=address)


def test_simulated_and_real_files_are_not_mixed(
    figshare: Loopback, scenes: list[Any], ai4arctic_set: Made, tmp_path: Path
) -> None:
    (tmp_path / ai4arctic_set[0].ready.name).touch()
    with pytest.raises(FloemapError, match="simulated"):
        fetch(figshare, tmp_path, scenes=scenes)
    assert not figshare.seen


def test_scenes_are_chosen_by_list_and_by_name() -> None:
    assert len(scenes_of_text("all")) == 532
    assert len(scenes_of_text("test, 20180607T184326_dmi")) == 21
    assert {s.product[17:32] for s in scenes_of_text("twice")} == {"20200728T120112", "20210921T120121"}
    one = by_name()["20180607T184326_dmi"][0]
    assert scenes_of_text(f"{one.raw},{one.ready},{one.name}") == (one,)
    for text in ("", "tests", "20180607T184326_xyz", "all,"):
        with pytest.raises(ConfigError, match="not a scene of the lists"):
            scenes_of_text(text)


def test_the_command_downloads_and_checks(
    figshare: Loopback, scenes: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from floemap.cli.app import app

    monkeypatch.setattr(fetch_module, "SERVICES", Services.at(figshare.url))
    words = ["fetch", "ai4arctic", "--out", str(tmp_path), "--scenes", ",".join(s.name for s in scenes)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "4 files to download" in done.stderr and "3 scenes, 0 problems" in done.stdout
    for odd in (["--check", str(tmp_path), "--mirror", "https://a.example"], []):
        refused = CliRunner().invoke(app, ["fetch", "ai4arctic", *odd])
        assert refused.exit_code != 0
