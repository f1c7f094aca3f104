"""Folders for what is needed for a while: nothing of them stays, whatever ends the process, and nobody else's goes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from chart_maker import write_chart

from floemap import stopping
from floemap.errors import OutputError
from floemap.icechart.read.sigrid3 import read_chart
from floemap.results import folders, locks
from floemap.results.folders import stage_folder
from floemap.results.locks import file_beside, held, scratch
from floemap.results.stage import Stage, write_whole

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


#: Modules at whose lines an interrupt comes.
WHERE = [module.__file__ for module in (locks, folders, stopping)]


def interrupted_at_every_line(folder: Path, work: Callable[[Path], object]) -> Iterator[Path]:
    """Do the work once for each line of the modules that it passes, Ctrl-C at that line; give the folder after each."""
    at = 0
    while True:
        left, place = at, folder / str(at)
        place.mkdir()

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename not in WHERE:
                return None
            if event == "line":
                left -= 1
                if left == -1:
                    signal.raise_signal(signal.SIGINT)
            return trace

        before = sys.gettrace()
        try:
            sys.settrace(trace)
            work(place)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        if left >= 0:
            assert at > 30, "nothing was traced"
            return
        yield place
        at += 1


@pytest.fixture
def interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("kind", ["lock", "waiting lock", "folder", "file"])
def test_an_interrupt_at_any_line_leaves_nothing(kind: str, tmp_path: Path) -> None:
    def work(place: Path) -> None:
        if kind == "folder":
            with scratch("thing-", place) as made:
                (made / "a").write_text("x")
        elif kind == "file":
            with file_beside(place / "a.json") as made:
                made.write_text("x")
        else:
            with held(place / ".lock", wait=kind == "waiting lock") as taken:
                assert taken

    for place in interrupted_at_every_line(tmp_path, work):
        assert list(place.iterdir()) == [], place.name


STAGE = Stage("floemap thing", "thing.json", 1)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("before", ["nothing", "an earlier result", "what a kill left"])
def test_an_interrupt_at_any_line_leaves_a_result_whole_or_not_at_all(before: str, tmp_path: Path) -> None:
    def write(folder: Path, content: str) -> None:
        (folder / "a").write_text(content)
        record = {"made_by": STAGE.command, "bytes": {"a": len(content)}}
        (folder / STAGE.record).write_text(json.dumps(record))

    def work(place: Path) -> None:
        if before == "an earlier result":
            (place / "r").mkdir()
            write(place / "r", "old")
        elif before == "what a kill left":  # between its two renames
            for name in (".r.partial-0123abcd", ".r.partial-0123abcd.old"):
                (place / name).mkdir()
                write(place / name, "old")
            (place / ".r.partial-0123abcd.lock").touch()
        with stage_folder(place / "r", STAGE) as folder:
            write(folder, "new")

    seen = set()
    for place in interrupted_at_every_line(tmp_path, work):
        left = sorted(p.name for p in place.iterdir())
        if before == "what a kill left" and len(left) == 3:
            assert (place / ".r.partial-0123abcd.old" / "a").read_text() == "old"  # as it was, for the next run
            continue
        assert left in ([], ["r"]), place.name
        seen.add((place / "r" / "a").read_text() if left else "")
        assert not left or sorted(p.name for p in (place / "r").iterdir()) == ["a", STAGE.record]
    assert seen == ({"", "new"} if before == "nothing" else {"old", "new"})
