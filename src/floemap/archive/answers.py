"""The answers of a cluster to an order: tries again what may pass, and finds the product that kills its workers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floemap.archive.cluster import Cluster
from floemap.archive.rows import failed_row
from floemap.archive.scenes import scene_name
from floemap.archive.work import Answer, Order, chart_products
from floemap.errors import FloemapError
from floemap.outcomes import Outcome
from floemap.remote.address import Address, path_of

if TYPE_CHECKING:
    from distributed import Future

logger = logging.getLogger(__name__)


def final_answers(
    cluster: Cluster, order: Order, products: Sequence[Path | Address], retries: int
) -> Iterator[tuple[Answer, int]]:
    """Yield the final answer of each product with the number of its tries, as they arrive.

    Products of the same name share a task, because their charts would have the same folder. Tasks whose workers died
    too often are tried once more, one at a time: who shared a worker with a product that kills it then succeeds.
    """
    from distributed import KilledWorker, as_completed

    client = cluster.client
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
    charted, suspects = 0, []
    arriving = as_completed(list(waiting))
    for future in arriving:
        group, tries = waiting.pop(future)
        error = _error_of(future)
        if isinstance(error, KilledWorker):
            suspects.append(group)
            continue
        if error is not None and not charted and not isinstance(error, OSError | MemoryError):
            raise error  # the models cannot be loaded, and no product can be charted
        answers = future.result() if error is None else _lost(group, error)
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
    for group in suspects:
        future = submit(group)
        error = _error_of(future)
        for answer in future.result() if error is None else _lost(group, error):
            yield answer, answer.stopped + 1 if answer.stopped else retries + 2
        future.release()


def _error_of(future: Future) -> BaseException | None:
    """Wait for a task; return its error, None if it has a result.

    Raises
    ------
    FloemapError
        If the scheduler has lost it.
    """
    error: BaseException | None = future.exception()
    if future.status in ("cancelled", "lost"):
        hint = "Start a scheduler again and repeat the command: it resumes."
        raise FloemapError("the connection to the scheduler is lost.", hint=hint)
    return error


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
