"""Work on products that may be on a server or in an object store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from floemap.outcomes import HasFolder
from floemap.progress import Progress
from floemap.remote.address import Address

if TYPE_CHECKING:
    from floemap.remote.copies import Known

Result = TypeVar("Result", bound=HasFolder)
Work = Callable[[Path, Collection[Path], Progress], Result]


def with_copies(
    work: Work[Result],
    finished: Callable[[Known], Result | None],
    results: str | Path,
    addresses: Mapping[Path, Address],
) -> Work[Result]:
    """Return `work` for products that have an address, too; see :meth:`floemap.remote.copies.Copies.around`.

    Raises
    ------
    FloemapError
        If there are addresses, and the packages for fetching are not installed.
    """
    if not addresses:
        return work
    from floemap.remote.copies import Copies  # it needs packages of an extra

    return Copies(results, addresses).around(work, finished)
