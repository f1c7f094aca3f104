"""Charting whatever arrives in a folder: each product once, whenever the process is stopped and started again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from floemap.archive.arrivals import Arrival, Arrivals
from floemap.archive.aside import Aside
from floemap.archive.journal import Entry, Journal
from floemap.archive.limit import checked_minutes
from floemap.archive.rows import row_of_chart
from floemap.archive.work import Order, may_pass
from floemap.errors import ConfigError, FloemapError
from floemap.files import existing_folder
from floemap.inference.draftchart.chart import ChartCall, DraftChart, check_call
from floemap.inference.draftchart.settings import ChartSettings
from floemap.inference.predict.model_files import LoadedModels, ModelFile, check_computation, find_models
from floemap.outcomes import Outcome, each_product
from floemap.progress import Progress
from floemap.results.stage import alone_in

if TYPE_CHECKING:
    from floemap.inference.predict.engines import Engine
    from floemap.learning.whole_scene.pieces import Precision

logger = logging.getLogger(__name__)

_Make = Callable[[Path, Collection[Path], Progress], DraftChart]
#: How often a product is begun before it counts as one that ends its process, or whose errors do not pass.
_MOST_TRIES = 3


@dataclass
class Watched:
    """What a call has done so far: outcomes in order, and how many products are still arriving."""

    outcomes: list[Outcome[DraftChart]]
    arriving: int = 0

    @property
    def failed(self) -> list[Path]:
        """Products that could not be charted."""
        return [o.product for o in self.outcomes if o.error is not None]


def watch_folder(
    folder: str | Path,
    models: Sequence[str | Path] | None,
    out: str | Path,
    settings: ChartSettings | None = None,
    *,
    once: bool = False,
    every_s: float = 60.0,
    settle_s: float = 10.0,
    patience_s: float = 3600.0,
    product_minutes: float | None = None,
    land_mask: str | Path | None = None,
    prepared: str | Path | None = None,
    engine: Engine = "torch",
    precision: Precision = "auto",
    device: str = "auto",
    before_look: Callable[[Collection[str]], None] | None = None,
    published: Callable[[str], str] = lambda product: "",
    progress_of: Callable[[Path], Progress] | None = None,
    finished: Callable[[Outcome[DraftChart]], None] = lambda outcome: None,
    sleep: Callable[[float], object] = time.sleep,
) -> Watched:
    """Chart each product that arrives in a folder, once.

    A product counts once it has not changed for a while and its zip can be opened. One that fails is not tried again
    until it is copied anew, except after errors of the system, which may pass. The call may be killed at any moment;
    the same call resumes.

    Parameters
    ----------
    folder
        Folder in which products arrive, also in folders below it; hidden ones do not count.
    models, settings, land_mask, prepared, engine, precision, device
        See :func:`floemap.make_chart`.
    out
        Folder that gets one folder for each chart, and ``watch.jsonl``, the record: a line for each event (see
        :class:`floemap.archive.journal.Entry`).
    once
        Chart what is there, and return; otherwise the call ends by an exception only, such as KeyboardInterrupt.
    every_s, settle_s
        Seconds between two looks, and seconds without a change after which a product counts.
    patience_s
        Seconds without a change after which a zip that cannot be opened counts as failed. With `once`, `settle_s` does.
    product_minutes
        Time limit of a product; by default there is none. With one, charts are made in another process, which is ended
        at the limit and started anew for the next product.
    before_look
        Called before each look with the names of the products in the record, for instance to fetch others into the
        folder, which it may make; see :class:`floemap.archive.catalogue.Catalogue`.
    published
        Returns when the catalogue published a product, by the name of its file; "" if that is not known.
    progress_of, finished
        See :func:`floemap.make_charts`.
    sleep
        Waits for a number of seconds.

    Raises
    ------
    FloemapError
        If the folder cannot be read at the first look.
    ModelError, ConfigError
        If the models cannot be used, or the prepared products would be kept in the watched folder.
    OutputError
        If the record cannot be written, or another call works in `out`.
    """
    if prepared is not None and Path(prepared).resolve().is_relative_to(Path(folder).resolve()):
        raise ConfigError(
            f"the prepared products would be kept in {prepared}, within the watched folder, and charted again.",
            hint="Choose another --prepared.",
        )
    files, minutes = find_models(models), checked_minutes(product_minutes)
    order = Order(
        models=None if models is None else tuple(Path(m) for m in models),
        digests=tuple(m.sha256 for m in files),
        out=Path(out),
        settings=settings or ChartSettings(),
        land_mask=None if land_mask is None else Path(land_mask),
        prepared=None if prepared is None else Path(prepared),
        engine=engine,
        precision=precision,
        device=device,
        overwrite=False,
    )
    if before_look is None:
        existing_folder(folder, "Give the folder in which products arrive.")
    check_call(files, order.settings, order.land_mask)
    check_computation(engine, precision, device)
    arrivals = Arrivals(Path(folder), settle_s=settle_s, patience_s=0.0 if once else patience_s)
    with (
        alone_in(Path(out), "watches for"),
        _charting(order, files, minutes) as (make, hopeless),
    ):
        journal = Journal(Path(out))
        work = _Work(make, hopeless, journal, published, progress_of, finished, once=once)
        looked = False
        while True:
            try:
                if before_look is not None:
                    before_look(journal.products)
                arrived, work.watched.arriving = arrivals.look()
            except FloemapError as e:
                if not looked:
                    raise
                logger.warning("%s The next look is in %g s.", e, every_s)
                arrived = []
            for arrival in arrived if looked or not once else ():  # once: after the second look, so that all count
                work.chart(arrival)
            if once and looked:
                return work.watched
            sleep(settle_s if once or (work.watched.arriving and settle_s < every_s) else every_s)
            looked = True


@contextmanager
def _charting(
    order: Order, files: tuple[ModelFile, ...], minutes: float | None
) -> Iterator[tuple[_Make, Callable[[], bool]]]:
    """Give what makes a chart, and whether its last error was of the models."""
    if minutes is not None:
        aside = Aside(order, minutes)
        try:
            yield aside.make, lambda: aside.hopeless
        finally:
            aside.close()
        return
    with LoadedModels(files, order.engine, order.precision, order.device) as ready:
        call = ChartCall(ready, order.out, order.settings, order.land_mask, order.prepared, order.overwrite)
        yield call.make, lambda: ready.failed


class _Work:
    """Charts arrivals and keeps the record."""

    def __init__(
        self,
        make: _Make,
        hopeless: Callable[[], bool],
        journal: Journal,
        published: Callable[[str], str],
        progress_of: Callable[[Path], Progress] | None,
        finished: Callable[[Outcome[DraftChart]], None],
        *,
        once: bool,
    ) -> None:
        self._once = once
        self._make, self._hopeless = make, hopeless
        self._journal, self._published = journal, published
        self._progress_of, self._finished = progress_of, finished
        self.watched = Watched([])

    def chart(self, arrival: Arrival) -> None:
        """Chart an arrival, unless that has ended before."""
        name = arrival.path.name
        if self._journal.is_ended(name, arrival.state):
            return
        told = Entry(
            "begun",
            name,
            arrival.state,
            _now(),
            published=self._published(name),
            seen=arrival.seen.isoformat(timespec="seconds"),
        )
        tries = self._journal.begun(name, arrival.state)
        if tries >= _MOST_TRIES:
            error = FloemapError(
                f"was begun {tries} times, and each time the process ended before the chart was finished.",
                path=arrival.path,
                hint="It may need more memory than there is: try `floemap chart`. Copy it anew to have it tried again.",
            )
            self._end(told, Outcome(arrival.path, None, error))
            return
        self._journal.add(told)
        try:
            outcome = each_product(
                [arrival.path],
                self._make,
                progress_of=self._progress_of,
                hopeless=self._hopeless,
            )[0]
        except BaseException:  # a signal, or models that cannot be loaded: not the product's fault
            self._journal.add(replace(told, event="stopped", at=_now()))
            raise
        if outcome.error is None or not may_pass(outcome.error):
            self._end(told, outcome)
        elif self._once:
            self._journal.add(replace(told, event="stopped", at=_now(), error=str(outcome.error)))
            self._tell(outcome)
        elif tries + 1 < _MOST_TRIES:
            logger.warning("%s It is tried again.", outcome.error)
        else:
            self._end(told, outcome)

    def _end(self, told: Entry, outcome: Outcome[DraftChart]) -> None:
        if outcome.result is None:
            assert outcome.error is not None
            entry = replace(told, event="failed", at=_now(), error=str(outcome.error))
        else:
            row = row_of_chart(outcome.product, outcome.result.folder)
            made, stop = datetime.fromisoformat(row.ended), datetime.fromisoformat(row.sensing_stop)
            entry = replace(
                told,
                event="charted",
                at=row.ended,
                scene=row.scene,
                sensing_start=row.sensing_start,
                sensing_stop=row.sensing_stop,
                seconds_from_sensing=round((made - stop).total_seconds(), 1),
                simulated=row.simulated == "yes",
            )
        self._journal.add(entry)
        self._tell(outcome)

    def _tell(self, outcome: Outcome[DraftChart]) -> None:
        self.watched.outcomes.append(outcome)
        self._finished(outcome)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
