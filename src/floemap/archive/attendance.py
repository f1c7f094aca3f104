"""Who is at work while answers are waited for: workers that are missing are replaced or waited for, never in silence.

dask.distributed itself waits for workers without a limit, and for a scheduler that has stopped as well.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from floemap.archive.cluster import Cluster
from floemap.counts import counted
from floemap.errors import FloemapError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds.

    Attributes
    ----------
    look_s
        Between two looks at the workers.
    answer_s
        For the scheduler's answer to one look.
    tell_s
        Between two messages that nothing is done.
    renew_s
        After which a process of a local cluster that is missing is replaced. A process takes seconds to start, and a
        minute on a very busy machine.
    end_s
        After which a local cluster without any process, and a scheduler that does not answer, end the call.
    """

    look_s: float = 5.0
    answer_s: float = 30.0
    tell_s: float = 60.0
    renew_s: float = 120.0
    end_s: float = 600.0


class Attendance:
    """Looks after the workers of a cluster.

    A process of a local cluster that is missing for a while is replaced; if none appears at all, the call ends. The
    workers of any other scheduler are waited for, because they may still arrive, and the log says so. A scheduler that
    does not answer ends the call.
    """

    def __init__(self, cluster: Cluster, patience: Patience, clock: Callable[[], float] = time.monotonic) -> None:
        self.patience = patience
        self._cluster, self._clock = cluster, clock
        now = clock()
        self._looked = self._told = self._answered = self._attended = now
        self._seen: dict[Any, float] = {}

    def look(self, waiting: int) -> None:
        """Look at the workers if the last look was a while ago; call this again and again.

        Parameters
        ----------
        waiting
            Number of products that are waited for, for messages.

        Raises
        ------
        FloemapError
            If the scheduler is lost, or a local cluster gets no process.
        """
        if self._clock() - self._looked < self.patience.look_s:
            return
        products = counted(waiting, "product waits|products wait")
        present = self._cluster.present(self.patience.answer_s)
        now = self._looked = self._clock()
        if present is None:
            self._tell(now, self._answered, f"The scheduler does not answer; {products}.")
            if now - self._answered >= self.patience.end_s:
                raise lost()
            return
        self._answered = now
        if self._cluster.local is not None:
            self._replace(now, present)
        if present:
            self._attended = self._told = now
        elif self._cluster.local is None:
            self._tell(now, self._attended, f"The scheduler has no worker at work; {products} for one.")
        else:
            self._tell(now, self._attended, f"No process of the cluster is there; {products} for one.")
            if now - self._attended >= self.patience.end_s:
                raise FloemapError(
                    f"no process of the local cluster was there for {_minutes(now - self._attended)}, although they"
                    f" were started again; {products}.",
                    hint="There may be too little memory: try fewer --jobs. Repeat the command: it resumes, and"
                    " finished charts are kept.",
                )

    def _replace(self, now: float, present: Collection[Any]) -> None:
        """Replace the processes of a local cluster that were not seen for too long."""
        assert self._cluster.local is not None
        wanted = self._cluster.local.names()
        self._seen = {name: now if name in present else self._seen.get(name, now) for name in wanted}
        missing = [name for name, seen in self._seen.items() if now - seen >= self.patience.renew_s]
        if missing:
            logger.warning("%d of %d processes of the cluster are gone; others are started", len(missing), len(wanted))
            self._cluster.local.replace(missing)
            self._seen |= dict.fromkeys(missing, now)

    def _tell(self, now: float, since: float, words: str) -> None:
        if now - self._told >= self.patience.tell_s:
            self._told = now
            logger.warning("%s Nothing was done for %s.", words, _minutes(now - since))


def lost() -> FloemapError:
    """Return the error of a scheduler that does not answer any more."""
    hint = "Start a scheduler again and repeat the command: it resumes, and finished charts are kept."
    return FloemapError("the connection to the scheduler is lost.", hint=hint)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.3g} min"
