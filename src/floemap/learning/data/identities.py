"""Identity of the parts that a training learns from: hashes of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from floemap.learning.data.parts import PartArrays, ScenePart
from floemap.results.stage import sha256


def identities(parts: Sequence[ScenePart | PartArrays]) -> dict[str, Any]:
    """Return the identity of each part, by name, so that a training resumes with the same data only.

    Raises
    ------
    FloemapError
        If a file cannot be read.
    """
    return {p.name: identity(p) for p in parts}


def identity(part: ScenePart | PartArrays) -> dict[str, Any]:
    """Return the identity of a part; errors as of :func:`identities`."""
    return _of_arrays(part) if isinstance(part, PartArrays) else _of_files(part)


def _of_arrays(part: PartArrays) -> dict[str, Any]:
    arrays: dict[str, NDArray[Any]] = {"stored": part.stored, "labels": part.labels}
    if part.ids is not None and part.polygons is not None:
        arrays |= {"polygons": part.ids, "shares": part.polygons.shares, "candidates": part.polygons.candidates}
        if part.polygons.values is not None:
            arrays["values"] = part.polygons.values
    return {name: hashlib.sha256(np.ascontiguousarray(a).data).hexdigest() for name, a in arrays.items()}


def _of_files(part: ScenePart) -> dict[str, Any]:
    from floemap.icechart.label.polygon_table import TABLE
    from floemap.layers.stored import hashes_of

    files = {"product": part.product, "labels": part.labels, "mask": part.mask, "polygons": part.polygons}
    if part.polygons is not None:
        files["table"] = part.polygons.with_name(TABLE)
    about: dict[str, Any] = {name: sha256(path) for name, path in files.items() if path is not None}
    about["window"] = part.window
    if layers := hashes_of(part.product, part.bands):
        about["layers"] = layers
    return about | ({"border_px": part.border_px} if part.border_px else {})
