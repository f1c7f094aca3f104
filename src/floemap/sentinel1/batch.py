"""Many products in one call: finished ones are skipped, one that fails does not stop the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from floemap.config import PrepareSettings
from floemap.errors import FloemapError
from floemap.progress import Progress, silent
from floemap.sentinel1.product import PreparedProduct, prepare

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one product: either a result or an error."""

    product: Path
    result: PreparedProduct | None
    error: FloemapError | None


def prepare_all(
    products: Sequence[str | Path],
    out: str | Path,
    settings: PrepareSettings | None = None,
    *,
    like: str | Path | None = None,
    overwrite: bool = False,
    progress_of: Callable[[Path], Progress] | None = None,
    finished: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Prepare each product; see :func:`floemap.sentinel1.product.prepare`.

    Parameters
    ----------
    progress_of
        Gives the progress callback of each product.
    finished
        Is called with each outcome as it is known.

    Returns
    -------
    One outcome for each product, in order. Errors are in them, not raised.
    """
    outcomes = []
    for product in map(Path, products):
        progress = silent if progress_of is None else progress_of(product)
        try:
            made = prepare(product, out, settings, like=like, overwrite=overwrite, progress=progress)
            outcome = Outcome(product, made, None)
        except FloemapError as e:
            logger.debug("%s could not be prepared", product, exc_info=True)
            outcome = Outcome(product, None, e)
        outcomes.append(outcome)
        if finished is not None:
            finished(outcome)
    return outcomes
