"""Parts in memory: read once and when they are needed, shared by the processes of a host, or streamed if too large."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scene_files import on_disk
from test_43_crops import some_part

import floemap.learning.data.choose_source as choose_source_module
import floemap.learning.data.resident as resident_module
from floemap.errors import FloemapError
from floemap.learning.data.choose_source import BESIDE, choose_source
from floemap.learning.data.crops import ResidentCrops, _EndWith, deal, draw_epoch
from floemap.learning.data.host_memory import ALONE, HostMemory, Neighbours, shared_memory
from floemap.learning.data.parts import PartArrays, ScenePart, load_part
from floemap.learning.data.resident import ResidentParts, bytes_of
from floemap.learning.data.survey import survey_part
from floemap.learning.settings import CropSettings
from floemap.threads import free_memory

SHAPES = [(70, 64), (64, 90), (66, 66)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[ScenePart]:
    folder = tmp_path_factory.mktemp("parts")
    return [
        on_disk(some_part(name, shape, i), folder) for i, (name, shape) in enumerate(zip("abc", SHAPES, strict=True))
    ]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of parts, as they are read."""
    names: list[str] = []

    def watched(part: ScenePart) -> PartArrays:
        names.append(part.name)
        return load_part(part)

    monkeypatch.setattr(resident_module, "load_part", watched)
    return names


def alike(a: PartArrays, b: PartArrays) -> bool:
    return a.name == b.name and np.array_equal(a.stored, b.stored) and np.array_equal(a.labels, b.labels)


# Read when needed


def test_a_part_is_read_once_when_it_is_asked_for(parts: list[ScenePart], read: list[str]) -> None:
    held = ResidentParts(parts)
    assert len(held) == 3 and read == []
    assert alike(held[1], load_part(parts[1])) and held[1] is held[-2] and read == ["b"]
    assert [p.name for p in held[1:]] == ["b", "c"] and read == ["b", "c"]
    threads = [threading.Thread(target=held.__getitem__, args=(0,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == ["b", "c", "a"]
    with pytest.raises(IndexError):
        held[3]


def test_the_first_batch_needs_its_own_parts_only(parts: list[ScenePart], read: list[str]) -> None:
    """And crops are those of parts that were all read before."""
    settings = CropSettings(size_px=32, per_scene=4)
    loaded = [load_part(p) for p in parts]
    wanted = deal(draw_epoch([survey_part(p, 32, 0.5) for p in loaded], settings, 0, 0), 4)
    first = {parts[c.part].name for c in wanted[0]}
    wanted[0] = [c for c in wanted[0] if c.part == wanted[0][0].part]
    batches = ResidentCrops(ResidentParts(parts)).batches([wanted[0]])
    next(batches)
    assert set(read) <= first and len(read) == 1
    pairs = zip(ResidentCrops(ResidentParts(parts)).batches(wanted), ResidentCrops(loaded).batches(wanted), strict=True)
    assert all(torch.equal(a.stored, b.stored) and torch.equal(a.labels, b.labels) for a, b in pairs)
    assert sorted(read[1:]) == ["a", "b", "c"]


def test_a_part_that_cannot_be_read_is_named_by_the_batch_that_needs_it(parts: list[ScenePart], tmp_path: Path) -> None:
    lost = on_disk(some_part("d", (64, 64), 9), tmp_path)
    settings = CropSettings(size_px=32, per_scene=1)
    wanted = draw_epoch([survey_part(load_part(p), 32, 0.5) for p in (parts[0], lost)], settings, 0, 0)
    lost.labels.unlink()
    batches = ResidentCrops(ResidentParts([parts[0], lost])).batches(
        [[c] for c in sorted(wanted, key=lambda c: c.part)]
    )
    next(batches)
    with pytest.raises(FloemapError, match="does not exist"):
        next(batches)


def test_a_process_that_reads_crops_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the parent was killed while the process started."""
    left: list[int] = []
    parents = iter([1234, 1234, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "_exit", left.append)
    _EndWith(1234).watch(every_s=0.001)
    assert left == [1] and next(parents, None) is None


# Chosen by memory


def test_parts_take_the_memory_that_is_said(parts: list[ScenePart]) -> None:
    for part, shape in zip(parts, SHAPES, strict=True):
        arrays = load_part(part)
        assert bytes_of(part) == bytes_of(arrays) == arrays.stored.nbytes + arrays.labels.nbytes == 7 * np.prod(shape)


@pytest.mark.parametrize(
    ("free", "beside", "others", "source"),
    [
        (1.0, 1, 9.0, "streamed"),
        (1.99, 1, 9.0, "streamed"),
        (2.0, 1, 9.0, "resident"),
        (9.0, 1, 1.9, "streamed"),  # another host of the training
        (9.0, 4, 9.0, "resident"),
        (9.0, 5, 9.0, "streamed"),  # shared with other trainings
        (None, 1, None, "resident"),
    ],
)
def test_auto_keeps_scenes_in_memory_if_they_take_half_of_it(
    parts: list[ScenePart],
    free: float | None,
    beside: int,
    others: float | None,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Free memory is given in sizes of the scenes."""
    needed = sum(7 * rows * cols for rows, cols in SHAPES)
    monkeypatch.setattr(choose_source_module, "free_memory", lambda: None if free is None else int(free * needed) + 1)
    monkeypatch.setenv(BESIDE, str(beside))
    other = None if others is None else int(others * needed) + 1
    neighbours = Neighbours(lambda mine: [mine, other], 0, 0, 1)
    with caplog.at_level(logging.INFO, "floemap"):
        chosen = choose_source(parts, CropSettings(), neighbours)
    assert chosen.source == source and chosen.record()["source"] == source and chosen.record()["asked"] == "auto"
    assert chosen.why in caplog.text and ("stay in memory" in caplog.text) == (source == "resident")
    for asked in ("resident", "streamed"):
        caplog.clear()
        assert choose_source(parts, CropSettings(source=asked), neighbours).source == asked
        assert ("would read crops from the files" in caplog.text) == (asked == "resident" and source == "streamed")
    held = [load_part(p) for p in parts]
    assert choose_source(held, CropSettings(), neighbours).source == "resident", "they are in memory already"


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit of 64 MiB by cgroups, of which 24 are used, 40 are free."""
    (tmp_path / "memory.max").write_text(f"{64 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{24 << 20}\n")
    real = Path

    class Moved(type(real())):  # type: ignore[misc]
        def __new__(cls, *parts: Any) -> Any:
            return real(tmp_path) if parts[0] == "/sys/fs/cgroup" else real(*parts)

    monkeypatch.setattr("floemap.threads.Path", Moved)
    assert free_memory() == 40 << 20


# Shared by the processes of a host

#: Another process of the host: it opens the memory of this one, and does what it is told.
OTHER = """
import os, signal, sys
import numpy as np
from floemap.learning.data.host_memory import Neighbours, shared_memory
sizes = [int(x) for x in sys.argv[2].split(",")]
address = None
def gathered(given):
    global address
    if address is None:
        address = eval(sys.argv[1])
        return [address, given]
    return [None, given]
memory = shared_memory(sizes, Neighbours(gathered, 1, 0, 2))
print("opened" if memory else "refused", flush=True)
for line in sys.stdin:
    number, value = map(int, line.split())
    def fill():
        memory.part(number)[:] = abs(value)
        if value < 0:
            print("filling", flush=True)
            signal.pause()
    memory.fill_once(number, fill)
    print(int(memory.part(number).min()), int(memory.part(number).max()), flush=True)
"""
SIZES = [3 << 20, 1001, 1 << 20]


class Pair:
    """Memory of this process, and another process that shares it."""

    def __init__(self, address: Any = None) -> None:
        self.addresses: list[Any] = []
        self.memory = shared_memory(SIZES, Neighbours(self._gathered, 0, 0, 2))
        told = [repr(address or self.addresses[0]), ",".join(map(str, SIZES))]
        call = [sys.executable, "-c", "from floemap.learning.data.host_memory import Address\n" + OTHER, *told]
        pipe = subprocess.PIPE
        self.other = subprocess.Popen(call, stdin=pipe, stdout=pipe, text=True)
        self.opened = self.line()

    def _gathered(self, given: Any) -> list[Any]:
        self.addresses.append(given)
        return [given, None]

    def line(self) -> str:
        assert self.other.stdout is not None
        return self.other.stdout.readline().strip()

    def tell(self, number: int, value: int) -> str:
        assert self.other.stdin is not None
        self.other.stdin.write(f"{number} {value}\n")
        self.other.stdin.flush()
        return self.line()

    def end(self) -> None:
        self.other.kill()
        self.other.communicate()


def mapped(pid: int) -> tuple[int, int]:
    """Resident and proportional bytes of a process's mapping of the memory."""
    found, inside = {"Rss": 0, "Pss": 0}, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and ":" not in words[0]:
            inside = "memfd:floemap-scenes" in line
        elif inside and words[0][:-1] in found:
            found[words[0][:-1]] += int(words[1]) * 1024
    return found["Rss"], found["Pss"]


needs_memfd = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux has such memory")


@needs_memfd
def test_two_processes_have_one_copy_that_ends_with_them() -> None:
    """Also if one is killed while it fills a part: then the other one fills it."""
    pair = Pair()
    try:
        memory = pair.memory
        assert memory is not None and pair.opened == "opened"
        assert pair.tell(0, 5) == "5 5"
        assert (memory.part(0) == 5).all() and not memory.part(1).any()
        memory.fill_once(0, lambda: pytest.fail("it is filled"))
        memory.fill_once(1, partial(memory.part(1).fill, 7))
        assert pair.tell(1, 9) == "7 7", "one process fills a part"
        for pid in (os.getpid(), pair.other.pid):
            resident, proportional = mapped(pid)
            assert resident >= SIZES[0] and proportional < 0.51 * resident, "each counts for half of it"
        assert pair.tell(2, -3) == "filling"
        filled: list[int] = []
        waiting = threading.Thread(target=memory.fill_once, args=(2, lambda: filled.append(4)))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and not filled
        os.kill(pair.other.pid, signal.SIGKILL)
        waiting.join(60)
        assert filled == [4]
        assert (memory.part(0) == 5).all()
    finally:
        pair.end()
    del memory
    pair.memory = None
    assert mapped(os.getpid()) == (0, 0), "nobody holds it any more"


#: Fills many small parts with threads, and prints which ones.
MANY = """
import os, sys, time
from concurrent.futures import ThreadPoolExecutor
from floemap.learning.data.host_memory import HostMemory
memory, own = HostMemory(os.open(sys.argv[1], os.O_RDWR), [8] * 400), []
def fill(number):
    memory.fill_once(number, lambda: (time.sleep(0.002), own.append(number)))
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(4) as pool:
    list(pool.map(fill, [number ^ int(sys.argv[2]) for number in range(400)]))
print(*own, flush=True)
"""


@needs_memfd
def test_threads_of_processes_fill_each_part_once() -> None:
    """They wait for parts of each other crosswise, which is no deadlock."""
    fd = os.memfd_create("floemap-test")
    os.ftruncate(fd, HostMemory.size([8] * 400))
    pipe, path = subprocess.PIPE, f"/proc/{os.getpid()}/fd/{fd}"
    calls = [[sys.executable, "-c", MANY, path, str(order)] for order in (0, 1, 3)]
    begun = [subprocess.Popen(call, stdin=pipe, stdout=pipe, text=True) for call in calls]
    for process in begun:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in begun:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    filled = [number for process in begun for number in process.communicate(timeout=60)[0].split()]
    os.close(fd)
    assert [process.returncode for process in begun] == [0, 0, 0]
    assert sorted(map(int, filled)) == list(range(400))


@needs_memfd
def test_memory_that_cannot_be_shared_is_each_process_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from floemap.learning.data.host_memory import Address

    one = Pair()
    pid, fd, (device, number) = one.addresses[0]
    one.end()
    for wrong in (Address(pid, fd, (device, number + 1)), Address(2**22 + 1, fd, (device, number))):
        other = Pair(wrong)
        other.end()
        assert other.opened == "refused"
    assert shared_memory(SIZES, ALONE) is None

    def none(*args: Any) -> int:
        raise OSError("no such memory")

    monkeypatch.setattr(os, "memfd_create", none)
    assert shared_memory(SIZES, Neighbours(lambda given: [given, given], 0, 0, 2)) is None


@needs_memfd
def test_parts_in_shared_memory_are_those_of_the_files(parts: list[ScenePart], read: list[str]) -> None:
    fds: list[int] = []

    def allocate(sizes: list[int]) -> HostMemory:
        fds.append(os.memfd_create("floemap-test"))
        os.ftruncate(fds[0], HostMemory.size(sizes))
        return HostMemory(os.dup(fds[0]), sizes)

    held = ResidentParts(parts, allocate)
    assert all(alike(held[i], load_part(p)) for i, p in enumerate(parts))
    sizes = [bytes_of(p) for p in parts]
    again = ResidentParts(parts, lambda _: HostMemory(fds[0], sizes))
    assert all(alike(again[i], load_part(p)) for i, p in enumerate(parts))
    assert read == ["a", "b", "c"], "the second finds them there"
