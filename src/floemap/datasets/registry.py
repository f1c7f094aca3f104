"""The datasets by name, and the readers of scenes' files. A further dataset is a line in each table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from floemap.datasets.ai4arctic.dataset import Ai4Arctic, Ai4ArcticReader
from floemap.datasets.base import Dataset, Reader
from floemap.datasets.extremeearth.dataset import ExtremeEarth
from floemap.datasets.products import ProductReader

DATASETS: Mapping[str, Dataset] = MappingProxyType({d.name: d for d in (ExtremeEarth(), Ai4Arctic())})
#: In the order in which they are asked; the last one opens everything.
_READERS: tuple[Reader, ...] = (Ai4ArcticReader(), ProductReader())


def reader_of(path: Path) -> Reader:
    """Return the reader of a product or a chart, by its name."""
    return next(reader for reader in _READERS if reader.opens(path))
