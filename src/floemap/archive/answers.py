"""The answers of a cluster to an order: tries again what may pass, and finds the product that kills its workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floemap.archive.attendance import Attendance, Patience, lost
from floemap.archive.cluster import Cluster
from floemap.archive.rows import failed_row
from floemap.archive.scenes import scene_name
from floemap.archive.work import Answer, Order, chart_products
from floemap.errors import FloemapError
from floemap.outcomes import Outcome
from floemap.remote.address import Address, path_of

if TYPE_CHECKING:
    from distributed import Future, as_completed

logger = logging.getLogger(__name__)

#: Seconds between two looks whether an answer has arrived.
_POLL_S = 0.1


def final_answers(
    cluster: Cluster,
    order: Order,
    products: Sequence[Path | Address],
    retries: int,
    patience: Patience = Patience(),  # noqa: B008  it is frozen
) -> Iterator[tuple[Answer, int]]:
    """Yield the final answer of each product with the number of its tries, as they arrive.

    Products of the same name share a task, because their charts would have the same folder. Tasks whose workers died
    too often are tried once more, one at a time: who shared a worker with a product that kills it then succeeds.

    Raises
    ------
    FloemapError
        If the scheduler is lost, or a local cluster gets no process; see
        :class:`floemap.archive.attendance.Attendance`.
    Exception
        What the first products raise if the models cannot be loaded.
    """
    from distributed import KilledWorker, as_completed

    client, attendance = cluster.client, Attendance(cluster, patience)
    if not cluster.workers:
        logger.warning("the scheduler has no worker yet; the work begins when one arrives")
    same: dict[str, list[Path | Address]] = {}
    for product in products:
        same.setdefault(scene_name(path_of(product)), []).append(product)

    def submit(group: Sequence[Path | Address]) -> Future:
        return client.submit(chart_products, order, tuple(group), pure=False)

    waiting: dict[Any, tuple[list[Path | Address], int]] = {}
    for group in same.values():
        waiting[submit(group)] = (group, 1)
    charted, suspects = 0, list[list[Path | Address]]()
    arriving = as_completed(list(waiting))
    for future in _as_they_arrive(arriving, attendance):
        found = _found(future, attendance, len(waiting) + len(suspects))
        group, tries = waiting.pop(future)
        if isinstance(found, KilledWorker):
            suspects.append(group)
            continue
        if isinstance(found, BaseException) and not charted and not isinstance(found, OSError | MemoryError):
            raise found  # the models cannot be loaded, and no product can be charted
        answers = _lost(group, found) if isinstance(found, BaseException) else found
        passing = {a.outcome.product for a in answers if a.passing and tries <= retries}
        again = [product for product in group if path_of(product) in passing]
        if again:
            logger.info("%s is tried again", scene_name(path_of(again[0])))
            new = submit(again)
            waiting[new] = (again, tries + 1)
            arriving.add(new)
        for answer in answers:
            charted += answer.outcome.result is not None
            if answer.outcome.product not in passing:
                yield answer, tries + answer.stopped
        future.release()
    for alone, group in enumerate(suspects):
        for future in _as_they_arrive(as_completed([submit(group)]), attendance):
            found = _found(future, attendance, len(suspects) - alone)
            for answer in _lost(group, found) if isinstance(found, BaseException) else found:
                yield answer, answer.stopped + 1 if answer.stopped else retries + 2
            future.release()


def _as_they_arrive(arriving: as_completed, attendance: Attendance) -> Iterator[Future]:
    """Yield tasks as they end; look after the workers meanwhile."""
    while not arriving.is_empty():
        if arriving.has_ready():
            yield next(arriving)
        else:
            attendance.look(arriving.count())
            time.sleep(_POLL_S)


def _found(future: Future, attendance: Attendance, waiting: int) -> list[Answer] | BaseException:
    """Return the answers of a task that has ended, or its error.

    The answers are in the memory of the worker. If that has died since, the task is done once more.

    Raises
    ------
    FloemapError
        If the scheduler has lost the task, or see :meth:`floemap.archive.attendance.Attendance.look`.
    """
    while True:
        if future.status == "cancelled":
            raise lost()
        try:
            error: BaseException | None = future.exception(timeout=attendance.patience.look_s)
            if error is None and future.status == "finished":
                answers: list[Answer] = future.result(timeout=attendance.patience.look_s)
                return answers
            if error is not None:
                return error
        except TimeoutError:
            attendance.look(waiting)
        except Exception:
            if future.status not in ("error", "cancelled"):
                raise


def _lost(group: Sequence[Path | Address], error: BaseException) -> list[Answer]:
    """Return the answers of products whose task failed as a whole."""
    from distributed import KilledWorker

    answers = []
    for product in map(path_of, group):
        if isinstance(error, KilledWorker):
            words = "ended each process that charted it."
            hint = "It may need more memory than there is: try fewer --jobs, or `floemap chart` with it alone."
        else:
            words, hint = f"could not be charted: {type(error).__name__}: {error}", None
        said = FloemapError(words, path=product, hint=hint)
        row = failed_row(product, said, datetime.now(UTC), 0.0)
        answers.append(Answer(Outcome(product, None, said), row, trace=f"{type(error).__name__}: {error}"))
    return answers
