"""What a worker does: chart the products of one name, and describe the outcome for the table."""

from __future__ import annotations

import errno
import functools
import logging
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from floemap.archive.limit import Limit, TookTooLongError
from floemap.archive.rows import Row, failed_row, row_of_chart
from floemap.errors import FloemapError, ModelError, UnreachableError
from floemap.inference.draftchart.chart import ChartCall, DraftChart
from floemap.inference.draftchart.settings import ChartSettings
from floemap.inference.predict.model_files import LoadedModels, find_models
from floemap.outcomes import Outcome, each_product
from floemap.remote.address import Address, paths_and_addresses
from floemap.remote.work import with_copies

if TYPE_CHECKING:
    from floemap.inference.predict.engines import Engine
    from floemap.learning.whole_scene.pieces import Precision

#: Errors of the system that another try does not change.
_LASTING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
#: A worker charts one product at a time, however many threads it has: a chart uses all cores that it may use.
_alone = threading.Lock()


@dataclass(frozen=True)
class Order:
    """What all charts of a call have in common. It travels to the workers, so paths are absolute.

    Attributes
    ----------
    models
        Checkpoints; None for the model that comes with floemap.
    digests
        SHA-256 of each model, as the caller's machine has it.
    out, settings, land_mask, prepared, engine, precision, device, overwrite
        As :func:`floemap.inference.draftchart.chart.make_chart` takes them.
    minutes, most_tries
        See :class:`floemap.archive.limit.Limit`; no limit if `minutes` is None.
    """

    models: tuple[Path, ...] | None
    digests: tuple[str, ...]
    out: Path
    settings: ChartSettings
    land_mask: Path | None
    prepared: Path | None
    engine: Engine
    precision: Precision
    device: str
    overwrite: bool
    minutes: float | None = None
    most_tries: int = 1


@dataclass(frozen=True)
class Answer:
    """The outcome of one product.

    Attributes
    ----------
    outcome
        Chart or error.
    row
        Its row of the table.
    passing
        Whether the error may pass, so that another try is worthwhile.
    trace
        Traceback of the error; "" without one.
    stopped
        How many earlier tries were ended at the time limit.
    """

    outcome: Outcome[DraftChart]
    row: Row
    passing: bool = False
    trace: str = ""
    stopped: int = 0


def chart_products(order: Order, products: Sequence[Path | Address]) -> list[Answer]:
    """Chart products of the same name, one after the other; return one answer for each.

    Raises
    ------
    ModelError, ConfigError
        If the models cannot be loaded, so that this worker can chart nothing.
    """
    logger = logging.getLogger("floemap")
    if not logger.handlers:  # warnings are in the charts' records
        logger.addHandler(logging.NullHandler())
    with _alone:
        call = call_of(order)
        limit = None if order.minutes is None else Limit(order.out, order.minutes, order.most_tries)
        answers: list[Answer] = []
        begun = time.monotonic()

        def finished(outcome: Outcome[DraftChart]) -> None:
            nonlocal begun
            answer = answer_of(outcome, time.monotonic() - begun)
            if limit is not None and (traces := limit.stopped(outcome.product)):
                failed = isinstance(outcome.error, TookTooLongError)  # without another try
                passing = answer.passing and not failed and len(traces) < order.most_tries
                stopped = len(traces) - failed
                answer = replace(answer, stopped=stopped, trace=answer.trace + traces[-1], passing=passing)
            answers.append(answer)
            begun = time.monotonic()

        try:
            paths, addresses = paths_and_addresses(products)
            make = with_copies(call.make, call.finished_before, order.out, addresses)
            make = make if limit is None else limit.around(make)
            each_product(paths, make, finished=finished, hopeless=lambda: call.models.failed)
        except BaseException:
            _loaded.cache_clear()
            raise
        return answers


def call_of(order: Order) -> ChartCall:
    """Return the call of an order, with models that are loaded once in a process.

    Raises
    ------
    ModelError, ConfigError
        If the models cannot be used.
    """
    ready = _loaded(order.models, order.digests, order.engine, order.precision, order.device)
    return ChartCall(ready, order.out, order.settings, order.land_mask, order.prepared, order.overwrite)


@functools.lru_cache(maxsize=1)
def _loaded(
    models: tuple[Path, ...] | None, digests: tuple[str, ...], engine: Engine, precision: Precision, device: str
) -> LoadedModels:
    """Return the models, which a worker loads once."""
    files = find_models(models)
    for file, digest in zip(files, digests, strict=True):
        if file.sha256 != digest:
            raise ModelError(
                f"has the SHA-256 {file.sha256[:12]}… on a worker and {digest[:12]}… where the command runs.",
                path=file.path,
                hint="Workers need the same files, and the same version of floemap.",
            )
    return LoadedModels(files, engine, precision, device)


def answer_of(outcome: Outcome[DraftChart], seconds: float) -> Answer:
    """Return the answer for the outcome of a product; `seconds` is the time spent on it."""
    error = outcome.error
    if outcome.result is not None:
        try:
            return Answer(outcome, row_of_chart(outcome.product, outcome.result.folder))
        except FloemapError as e:  # a record that was damaged in this moment
            error = e
    assert error is not None
    row = failed_row(outcome.product, error, datetime.now(UTC), seconds)
    trace = "".join(traceback.format_exception(error))
    return Answer(Outcome(outcome.product, None, error), row, may_pass(error), trace)


def may_pass(error: BaseException) -> bool:
    """Whether an error comes from the system and not from the product: a busy disk or server, too little memory."""
    for cause in _causes(error):
        if isinstance(cause, MemoryError | UnreachableError | TookTooLongError):
            return True
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno not in _LASTING:
            return True
    return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
