"""Preparing many products in one call: finished ones are skipped, and one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from floemap.outcomes import Outcome, each_product
from floemap.progress import Progress
from floemap.sentinel1.prepare import PreparedProduct, prepare
from floemap.sentinel1.settings import PrepareSettings


def prepare_all(
    products: Sequence[str | Path],
    out: str | Path,
    settings: PrepareSettings | None = None,
    *,
    like: str | Path | None = None,
    overwrite: bool = False,
    progress_of: Callable[[Path], Progress] | None = None,
    finished: Callable[[Outcome[PreparedProduct]], None] | None = None,
) -> list[Outcome[PreparedProduct]]:
    """Prepare each product; see :func:`floemap.sentinel1.prepare.prepare`.

    Parameters
    ----------
    progress_of
        Returns the progress callback of a product.
    finished
        Called with each outcome as soon as it is known.

    Returns
    -------
    One outcome for each product, in order. Outcomes hold the errors, which are not raised.
    """

    def work(product: Path, made: Collection[Path], progress: Progress) -> PreparedProduct:
        return prepare(product, out, settings, like=like, overwrite=overwrite, made=made, progress=progress)

    return each_product(products, work, progress_of=progress_of, finished=finished)
