"""Folders for what is needed for a while: nothing of them stays, whatever ends the process, and nobody else's goes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chart_maker import write_chart

from floemap.errors import OutputError
from floemap.icechart.read.sigrid3 import read_chart
from floemap.results import locks
from floemap.results.locks import file_beside, held, scratch
from floemap.results.stage import write_whole

HELD = """
import os, signal, sys
from pathlib import Path
from floemap.results.locks import scratch
with scratch("thing-", Path(sys.argv[1])) as place:
    (place / "a").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_in(folder: Path) -> Path:
    """What a process leaves that is killed while it has a folder."""
    done = subprocess.run([sys.executable, "-c", HELD, str(folder)])
    assert done.returncode == -signal.SIGKILL
    (left,) = folder.glob("thing-*")
    return left


def test_nothing_stays(tmp_path: Path) -> None:
    with scratch("thing-", tmp_path) as place:
        assert place.parent == tmp_path and list(place.iterdir()) == []
        (place / "a").write_text("x")
    with pytest.raises(ZeroDivisionError), scratch("thing-", tmp_path) as place:
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = killed_in(tmp_path)
    with scratch("other-", tmp_path):
        assert left.exists(), "it is none of theirs"
    with scratch("thing-", tmp_path) as place:
        assert list(tmp_path.iterdir()) == [place]


def test_what_is_in_use_or_somebody_elses_stays(tmp_path: Path) -> None:
    (tmp_path / "thing-of-mine").write_text("x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").write_text("x")
    (tmp_path / "thing-link").symlink_to(tmp_path / "mine")
    with scratch("thing-", tmp_path) as one, scratch("thing-", tmp_path) as two:
        assert one != two and one.is_dir() and two.is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "thing-link", "thing-of-mine"]
    assert (tmp_path / "mine" / "a").exists()


def test_one_that_is_taken_for_left_over_before_it_is_held_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock: Any = locks._lock
    taken: list[Any] = []

    def late(folder: Path, *, wait: bool) -> int | None:
        held = lock(folder, wait=wait)
        if wait and not taken:
            taken.append(folder)
            shutil.rmtree(folder)
        return held

    monkeypatch.setattr(locks, "_lock", late)
    with scratch("thing-", tmp_path) as place:
        assert place.is_dir() and place not in taken
    assert list(tmp_path.iterdir()) == []


def test_reading_a_chart_removes_what_killed_reading_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chart, temporary = write_chart(tmp_path / "c.shp"), tmp_path / "tmp"
    temporary.mkdir()
    program = "import os, signal, sys\nfrom floemap.icechart.read import vector_files\n"
    program += "vector_files._open_by_gdal = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    program += "from floemap.icechart.read.sigrid3 import read_chart\nread_chart(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(chart)], env=os.environ | {"TMPDIR": str(temporary)})
    assert len(list(temporary.iterdir())) == 1
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    read_chart(chart)
    assert list(temporary.iterdir()) == []


KILLED_WRITING = """
import os, signal, sys
from pathlib import Path
from floemap.results.locks import file_beside
with file_beside(Path(sys.argv[1])) as path:
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_that_a_killed_process_left_is_removed_by_the_next_of_its_name(tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", KILLED_WRITING, str(tmp_path / "a.json")])
        assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()  # the second removed what the first left
    mine = [tmp_path / ".a.json.partial-of-mine", tmp_path / "a.json.partial-00000000"]
    for path in mine:
        path.write_text("x")
    with file_beside(tmp_path / "a.json") as used:
        assert not left.exists()
        write_whole(tmp_path / "a.json", b"whole")
        assert used.exists(), "it is in use"
        write_whole(tmp_path / "b.json", b"other")
    assert (tmp_path / "a.json").read_bytes() == b"whole"
    assert sorted(tmp_path.iterdir()) == sorted([*mine, tmp_path / "a.json", tmp_path / "b.json"])


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nothing can be made")
def test_a_lock_that_cannot_be_made_is_an_error_and_not_taken() -> None:
    """Who makes a result tries other names as long as the lock of one is taken: that would have no end."""
    with pytest.raises(OSError), held(Path("/proc/x.lock")):
        pass


def test_a_file_is_written_into_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        write_whole(tmp_path / "a" / "b" / "c.json", content)
        assert (tmp_path / "a" / "b" / "c.json").read_bytes() == content
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_whole(tmp_path / "file" / "c.json", b"x")
