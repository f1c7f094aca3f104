"""The same work on many products in one call: a product that fails does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from floemap.errors import FloemapError, of_system
from floemap.progress import Progress, silent

logger = logging.getLogger(__name__)


class HasFolder(Protocol):
    """A result that is a folder."""

    @property
    def folder(self) -> Path:
        """Path of the folder."""


Result = TypeVar("Result", bound=HasFolder)
Held = TypeVar("Held", covariant=True)


@dataclass(frozen=True)
class Outcome(Generic[Held]):
    """The outcome of one product: either a result or an error."""

    product: Path
    result: Held | None
    error: FloemapError | None


def each_product(
    products: Sequence[str | Path],
    work: Callable[[Path, Collection[Path], Progress], Result],
    *,
    progress_of: Callable[[Path], Progress] | None = None,
    finished: Callable[[Outcome[Result]], None] | None = None,
    hopeless: Callable[[], bool] = lambda: False,
) -> list[Outcome[Result]]:
    """Do `work` on each product.

    `work` gets the product's path, the folders of the results that this call has made so far, which no other product of
    the same name may replace, and the product's progress callback.

    Parameters
    ----------
    progress_of
        Returns the progress callback of a product.
    finished
        Called with each outcome as soon as it is known.
    hopeless
        Called after an error. If it returns True, the error does not come from the product, no other product can
        succeed, and the error is raised.

    Returns
    -------
    One outcome for each product, in order. Errors are in them and not raised, unexpected ones included, because they
    do not concern the other products.
    """
    outcomes = []
    made: set[Path] = set()
    for product in map(Path, products):
        outcome: Outcome[Result]
        try:
            result = work(product, made, silent if progress_of is None else progress_of(product))
            made.add(result.folder)
            outcome = Outcome(product, result, None)
        except Exception as e:
            if hopeless():
                raise
            logger.debug("%s failed", product, exc_info=True)
            outcome = Outcome(product, None, e if isinstance(e, FloemapError) else _unexpected(product, e))
        outcomes.append(outcome)
        if finished is not None:
            finished(outcome)
    return outcomes


def _unexpected(product: Path, error: Exception) -> FloemapError:
    """Return a FloemapError for an error of another class, which becomes its cause."""
    if (known := of_system(error)) is not None:
        return known
    unexpected = FloemapError(
        f"stopped at an unexpected {type(error).__name__}: {error}",
        path=product,
        hint="Please report this; --debug shows where it happened.",
    )
    unexpected.__cause__ = error
    return unexpected
