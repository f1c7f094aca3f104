"""The machines that do the work: processes on this machine, or any scheduler of dask.distributed."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floemap.errors import ConfigError, FloemapError, how_to_install
from floemap.threads import usable_cores

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

logger = logging.getLogger(__name__)

LOCAL = "local"
#: Address of the dashboard of a local cluster: loopback only, any free port.
LOOPBACK = "127.0.0.1:0"
#: The host may be left out; that of IPv6 is in brackets.
_DASHBOARD = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]*):[0-9]{1,5}")
#: Seconds to wait for the answer of a scheduler.
_ANSWER_S = 30
#: Seconds for the processes of a local cluster to start, and to end before they are killed.
_START_S, _END_S = 300.0, 15.0


class LocalProcesses:
    """The processes of a local cluster, each with its name.

    dask starts a process that has died again, but for these: one that has not appeared within its
    `lost-worker-timeout`, as on a busy machine, and one that could not be started. Of these it only remembers the name.
    """

    def __init__(self, cluster: LocalCluster, jobs: int) -> None:
        self.cluster, self._jobs = cluster, jobs

    def names(self) -> list[Any]:
        """Return the names of the processes that there should be."""
        return list(self.cluster.worker_spec)

    def replace(self, names: Collection[Any]) -> None:
        """Kill the processes of these names, if they are still there, and start others in their places."""
        self._kill(names)
        for name in names:
            self.cluster.workers.pop(name, None)  # as dask does after its `lost-worker-timeout`
        self.cluster.scale(self._jobs)  # it starts those that `workers` lacks

    def have_failed(self) -> bool:
        """Whether each process has ended while it started."""
        return bool(self.cluster.workers) and all(w.status in _ended() for w in self.cluster.workers.values())

    def close(self) -> None:
        """End all processes; those that do not end by themselves are killed."""
        try:
            self.cluster.close(timeout=_END_S)
        except Exception:  # TimeoutError, and what dask asserts of processes that were killed meanwhile
            logger.debug("the local cluster did not end by itself", exc_info=True)
            self._kill([w.name for w in self.cluster._created])

    def _kill(self, names: Collection[Any]) -> None:
        # `workers` lacks those that have not finished their start, which `_created` has.
        for nanny in [w for w in self.cluster._created if w.name in names and w.status not in _ended()]:
            nanny.close_gracefully()  # it does not start the process again
            with suppress(ProcessLookupError, TypeError):  # TypeError: there is no process
                os.kill(nanny.pid, signal.SIGKILL)


class _NoTraceback(logging.Filter):
    """Drops what the libraries below dask write of a process that cannot start, with a traceback, once each."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else ""
        return "Nanny failed to start" not in f"{record.getMessage()} {error}"


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    loggers, quiet = [logging.getLogger(name) for name in ("asyncio", "tornado.application")], _NoTraceback()
    for library in loggers:
        library.addFilter(quiet)
    try:
        yield
    finally:
        for library in loggers:
            library.removeFilter(quiet)


def _ended() -> Collection[Any]:
    from distributed.core import Status

    return (Status.closing, Status.closed, Status.failed)


@dataclass(frozen=True)
class Cluster:
    """A cluster to which the command is connected.

    Attributes
    ----------
    client
        The connection.
    dashboard
        Address of the dashboard; "" if the scheduler has none.
    workers
        Number of workers at the start.
    local
        The processes of a local cluster; None for any other.
    """

    client: Client
    dashboard: str
    workers: int
    local: LocalProcesses | None = None

    def present(self, answer_s: float) -> set[Any] | None:
        """Return the names of the workers that take work now; None if the scheduler does not answer in time."""
        try:
            told = self.client.sync(self.client.scheduler.identity, n_workers=-1, callback_timeout=answer_s)
        except (OSError, RuntimeError, ValueError):  # no connection, or a client that is closed
            return None
        return {worker["name"] for worker in told["workers"].values() if worker["status"] == "running"}


def check_cluster(cluster: str, jobs: int | None, dashboard: str = LOOPBACK) -> None:
    """Check the parameters of :func:`connected`, without connecting to anything.

    Raises
    ------
    FloemapError, ConfigError
        As :func:`connected` does.
    """
    if find_spec("distributed") is None:
        message = "an archive is charted with the package distributed, which is not installed."
        raise FloemapError(message, hint=how_to_install("archive"))
    if cluster != LOCAL:
        _refuse_jobs(cluster, jobs)
        _scheduler(cluster)
    elif not _DASHBOARD.fullmatch(dashboard):
        raise ConfigError(
            f"{dashboard!r} is not the address of a dashboard.", hint="Give HOST:PORT; 0 is any free port."
        )


@contextmanager
def connected(cluster: str, *, jobs: int | None, retries: int, dashboard: str = LOOPBACK) -> Iterator[Cluster]:
    """Connect to a cluster while the block runs; a local one begins and ends with it.

    Parameters
    ----------
    cluster
        "local", the address of a scheduler (``tcp://host:8786``, ``tls://...``), or a scheduler's file.
    jobs
        Number of processes of a local cluster, which share the cores. The default is one for two cores.
    retries
        How often a local cluster begins a task again whose worker died.
    dashboard
        Host and port of the dashboard of a local cluster.

    Raises
    ------
    FloemapError
        If dask.distributed is not installed, or no scheduler answers.
    ConfigError
        If the cluster is none of these, or `jobs` is given for one that is running.
    """
    check_cluster(cluster, jobs, dashboard)
    import distributed

    with ExitStack() as stack:
        if cluster == LOCAL:
            local = stack.enter_context(_local(jobs or default_jobs(), retries, dashboard))
            # By its address: with a cluster, a client waits for its processes without a limit.
            client = stack.enter_context(distributed.Client(local.cluster.scheduler_address, timeout=_ANSWER_S))
            there = Cluster(client, local.cluster.dashboard_link or "", 0, local)
            yield replace(there, workers=_started(there))
        else:
            where = _scheduler(cluster)
            try:
                client = stack.enter_context(distributed.Client(timeout=_ANSWER_S, **where))
            except (OSError, ValueError, TimeoutError) as e:
                hint = "Give the address that the scheduler prints when it starts, or its scheduler file."
                raise FloemapError(f"no scheduler answers at {cluster}: {e}.", hint=hint) from e
            there = Cluster(client, client.dashboard_link or "", 0)
            yield replace(there, workers=len(there.present(_ANSWER_S) or ()))


def _started(cluster: Cluster, start_s: float = _START_S) -> int:
    """Wait for the processes of a local cluster; return how many there are.

    Raises
    ------
    FloemapError
        If none could be started.
    """
    assert cluster.local is not None
    end = time.monotonic() + start_s
    while len(present := cluster.present(_ANSWER_S) or ()) < len(cluster.local.names()):
        if cluster.local.have_failed() or time.monotonic() > end:
            if present:
                break
            hint = 'There may be too little memory: try fewer --jobs. A script needs `if __name__ == "__main__":`.'
            raise FloemapError("the processes of the local cluster cannot be started.", hint=hint)
        time.sleep(0.05)
    return len(present)


def default_jobs() -> int:
    """Return the number of processes of a local cluster: one for two cores."""
    return max(1, usable_cores() // 2)


@contextmanager
def _local(jobs: int, retries: int, dashboard: str) -> Iterator[LocalProcesses]:
    """Start processes, reachable from this machine only, that share the cores unless OMP_NUM_THREADS says otherwise."""
    import dask
    from distributed import LocalCluster

    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, usable_cores() // jobs)))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    settings = {
        "distributed.scheduler.allowed-failures": retries,
        # A worker gets one task at a time, so that its death concerns one product.
        "distributed.scheduler.worker-saturation": 1.0,
        # dask ends a process that takes longer than this to start again, and starts no other.
        "distributed.deploy.lost-worker-timeout": "7 days",
    }
    with dask.config.set(settings), _without_tracebacks():
        cluster = LocalCluster(
            n_workers=0,  # its own start of processes has no time limit
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=dashboard,
            memory_limit=0,  # floemap bounds its memory; dask would kill a worker whose files are in memory
            env={name: os.environ.get(name, threads) for name in names},
            silence_logs=logging.CRITICAL,  # a worker that died is reported with its product
        )
        local = LocalProcesses(cluster, jobs)
        try:
            cluster.scale(jobs)
            yield local
        finally:
            local.close()


def _refuse_jobs(cluster: str, jobs: int | None) -> None:
    if jobs is not None:
        raise ConfigError(
            f"--jobs is given, but the scheduler at {cluster} has its workers already.",
            hint="Leave --jobs out; start as many workers as you want there.",
        )


def _scheduler(cluster: str) -> dict[str, str]:
    """Return the argument by which the client finds a scheduler."""
    if Path(cluster).is_file():
        return {"scheduler_file": cluster}
    host, _, port = cluster.rpartition(":")
    if host and port.isdigit():
        return {"address": cluster}
    raise ConfigError(
        f"{cluster!r} is not a cluster.",
        hint="Give local, the address of a scheduler such as tcp://host:8786, or the path of its scheduler file.",
    )
