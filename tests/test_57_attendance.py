"""Workers that are gone, and schedulers: the command says that it waits, replaces them, or ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import dask
import pytest
from distributed import Client, LocalCluster
from processes import is_running

from floemap.archive.answers import _found, final_answers
from floemap.archive.attendance import Attendance, Patience
from floemap.archive.cluster import Cluster, connected
from floemap.archive.rows import Row
from floemap.archive.work import Answer
from floemap.errors import FloemapError
from floemap.inference.draftchart.chart import DraftChart
from floemap.outcomes import Outcome

PATIENCE = Patience(look_s=1, tell_s=60, renew_s=120, end_s=600)


class Processes:
    """Stands in for two processes of a local cluster, a and b; notes which are replaced."""

    def __init__(self) -> None:
        self.replaced: list[str] = []

    def names(self) -> list[str]:
        return ["a", "b"]

    def replace(self, names: Collection[str]) -> None:
        self.replaced += names


class Stand(Cluster):
    """A cluster whose scheduler answers what `there` says."""

    there: ClassVar[set[str] | None] = None
    now: ClassVar[float] = 0.0

    def present(self, answer_s: float) -> set[Any] | None:
        return self.there


def looked(local: Processes | None, there: set[str] | None, seconds: int, attendance: Any = None) -> Any:
    """Look each second for so long, by a clock of our own; return the attendance, with its time."""
    if attendance is None:
        attendance = Attendance(Stand(None, "", 0, local), PATIENCE, clock=lambda: Stand.now)  # type: ignore[arg-type]
    Stand.there = there
    for _ in range(seconds):
        Stand.now += 1
        attendance.look(17)
    return attendance


def test_a_missing_process_of_a_local_cluster_is_replaced_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    local = Processes()
    attendance = looked(local, {"a"}, 119)
    assert not local.replaced, "it may be starting"
    looked(local, {"a"}, 2, attendance)
    assert local.replaced == ["b"]
    looked(local, {"a"}, 100, attendance)
    assert local.replaced == ["b"], "its successor gets as much time"
    looked(local, {"a"}, 900, attendance)
    assert len(local.replaced) == 9, "and is replaced in its turn, as long as another one works"
    assert "1 of 2 processes of the cluster are gone; others are started" in caplog.text


def test_a_local_cluster_without_any_process_ends_the_call_and_says_that_it_resumes() -> None:
    local = Processes()
    attendance = looked(local, set(), 300)
    assert local.replaced == ["a", "b"] * 2
    looked(local, {"b"}, 1, attendance)
    looked(local, set(), 599, attendance)
    with pytest.raises(FloemapError, match=r"no process of the local cluster was there for 10 min.*17 products") as e:
        looked(local, set(), 2, attendance)
    assert "it resumes" in str(e.value.hint)


def test_other_clusters_are_waited_for_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Workers may come and go there: a queue of a batch system may be long."""
    attendance = looked(None, set(), 36_000)
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 600, "each minute"
    assert said[1] == "The scheduler has no worker at work; 17 products wait for one. Nothing was done for 2 min."
    caplog.clear()
    looked(None, {"x"}, 1000, attendance)
    assert not caplog.records


def test_a_scheduler_that_does_not_answer_ends_the_call(caplog: pytest.LogCaptureFixture) -> None:
    attendance = looked(None, {"x"}, 1000)
    looked(None, None, 500, attendance)
    assert "The scheduler does not answer; 17 products wait." in caplog.text
    looked(None, {"x"}, 1, attendance)
    looked(None, None, 599, attendance)
    with pytest.raises(FloemapError, match="the connection to the scheduler is lost") as e:
        looked(None, None, 2, attendance)
    assert "it resumes" in str(e.value.hint)


def test_a_process_that_stops_while_it_starts_again_is_replaced() -> None:
    """dask waits for it without a limit."""
    with connected("local", jobs=1, retries=1) as cluster:
        assert cluster.local is not None and cluster.workers == 1
        while not cluster.local.cluster.workers:  # dask notes them a little after they have reported for work
            time.sleep(0.01)
        (nanny,) = cluster.local.cluster.workers.values()
        first = nanny.pid
        os.kill(first, signal.SIGKILL)
        while (second := nanny.pid) in (first, None):
            time.sleep(0.002)
        os.kill(second, signal.SIGSTOP)
        while cluster.present(30):  # the scheduler has not noticed yet
            time.sleep(0.01)
        cluster.local.replace(cluster.local.names())
        while not cluster.present(30):
            time.sleep(0.05)
        while is_running(second):
            time.sleep(0.05)
        assert cluster.client.submit(os.getpid).result(timeout=60) not in (first, second)


def test_processes_that_cannot_start_end_the_call(caplog: pytest.LogCaptureFixture) -> None:
    with (
        dask.config.set({"distributed.worker.preload": ["no_such_module_of_floemap"]}),
        pytest.raises(FloemapError, match="the processes of the local cluster cannot be started"),
        connected("local", jobs=1, retries=0),
    ):
        pass
    assert not [r for r in caplog.records if r.name == "tornado.application"], "no traceback of a library"


def test_a_scheduler_that_ends_is_lost() -> None:
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster.scheduler_address, timeout=1) as client,
    ):
        threading.Timer(0.5, cluster.close).start()
        with pytest.raises(FloemapError, match="the connection to the scheduler is lost"):
            list(final_answers(Cluster(client, "", 0), None, [Path("a")], 0))


class Elsewhere:
    """A task whose answer was in the memory of a worker that has died, and which is done again, twice."""

    def __init__(self) -> None:
        self.states = ["finished", "lost", "pending", "finished", "lost", "finished"]

    @property
    def status(self) -> str:
        return self.states[0]

    def exception(self, timeout: float) -> None:
        if self.status != "finished":
            self.states.pop(0)
            raise TimeoutError

    def result(self, timeout: float) -> list[Answer]:
        if len(self.states) > 1:
            self.states.pop(0)
            raise TimeoutError
        product = Path("a")
        return [Answer(Outcome(product, DraftChart(product), None), Row("a", "a", "charted"))]


def test_an_answer_that_was_lost_with_its_worker_is_waited_for() -> None:
    attendance = Attendance(Stand(None, "", 0, None), PATIENCE)
    found = _found(Elsewhere(), attendance, 1)
    assert isinstance(found, list) and found[0].row.scene == "a"
