"""The machines that do the work: processes on this machine, or any scheduler of dask.distributed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from floemap.errors import ConfigError, FloemapError, how_to_install
from floemap.threads import usable_cores

if TYPE_CHECKING:
    from distributed import Client

LOCAL = "local"
#: Address of the dashboard of a local cluster: loopback only, any free port.
LOOPBACK = "127.0.0.1:0"
#: Seconds to wait for the answer of a scheduler.
_ANSWER_S = 30


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
    """

    client: Client
    dashboard: str
    workers: int


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
    try:
        import distributed
    except ImportError as e:
        message = "an archive is charted with the package distributed, which is not installed."
        raise FloemapError(message, hint=how_to_install("archive")) from e

    with ExitStack() as stack:
        if cluster == LOCAL:
            scheduler = stack.enter_context(_local(jobs or default_jobs(), retries, dashboard))
            client = stack.enter_context(distributed.Client(scheduler))
        else:
            _refuse_jobs(cluster, jobs)
            where = _scheduler(cluster)
            try:
                client = stack.enter_context(distributed.Client(timeout=_ANSWER_S, **where))
            except (OSError, ValueError, TimeoutError) as e:
                hint = "Give the address that the scheduler prints when it starts, or its scheduler file."
                raise FloemapError(f"no scheduler answers at {cluster}: {e}.", hint=hint) from e
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        yield Cluster(client, client.dashboard_link or "", workers)


def default_jobs() -> int:
    """Return the number of processes of a local cluster: one for two cores."""
    return max(1, usable_cores() // 2)


@contextmanager
def _local(jobs: int, retries: int, dashboard: str) -> Iterator[object]:
    """Start processes, reachable from this machine only, that share the cores unless OMP_NUM_THREADS says otherwise."""
    import dask
    from distributed import LocalCluster

    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, usable_cores() // jobs)))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # A worker gets one task at a time, so that its death concerns one product.
    settings = {"distributed.scheduler.allowed-failures": retries, "distributed.scheduler.worker-saturation": 1.0}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=jobs,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=dashboard,
            memory_limit=0,  # floemap bounds its memory; dask would kill a worker whose files are in memory
            env={name: os.environ.get(name, threads) for name in names},
            silence_logs=logging.CRITICAL,  # a worker that died is reported with its product
        ) as cluster,
    ):
        yield cluster


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
