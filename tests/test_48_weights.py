"""The encoder's weights arrive whole and right, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loopback import Loopback

from floemap.errors import DownloadError, OutputError
from floemap.learning.models.pretrained import ENCODER_FILE, check_weights, fetch_weights

BODY = bytes(range(256)) * 400
NAME = f"net-{hashlib.sha256(BODY).hexdigest()[:8]}.pth"


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as loopback:
        loopback.files |= {NAME: BODY, ENCODER_FILE: BODY}
        yield loopback


def test_the_file_arrives_and_is_kept(server: Loopback, tmp_path: Path) -> None:
    path = fetch_weights(tmp_path, url=f"{server.url}/files/{NAME}")
    assert path.read_bytes() == BODY
    assert check_weights(path) == hashlib.sha256(BODY).hexdigest()
    asked = len(server.seen)
    assert fetch_weights(tmp_path, url=f"{server.url}/files/{NAME}") == path
    assert len(server.seen) == asked


def test_of_several_at_once_one_fetches_and_the_others_wait(server: Loopback, tmp_path: Path) -> None:
    server.piece_s, server.piece_bytes = 0.02, 1 << 12
    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(fetch_weights, tmp_path, url=f"{server.url}/files/{NAME}") for _ in range(3)]
        assert {d.result() for d in done} == {tmp_path / NAME}
    assert (tmp_path / NAME).read_bytes() == BODY
    assert len(server.seen) == 1
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_other_bytes_are_not_kept(server: Loopback, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="f37072fd"):
        fetch_weights(tmp_path, url=f"{server.url}/files/{ENCODER_FILE}")
    assert not list(tmp_path.iterdir())


def test_another_file_of_that_name_is_not_touched(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"mine")
    with pytest.raises(OutputError, match="promises"):
        fetch_weights(tmp_path, url=f"{server.url}/files/{NAME}")
    assert (tmp_path / NAME).read_bytes() == b"mine"
