"""Validation: the loss of a model on the validation parts, and F1 scores from counts of pixels.

The loss of a part is that of all its pixels together, as if it were one crop. The validation loss is the unweighted
mean over parts. Counts are pooled over parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from floemap.learning.data.crops import Crop, physical, read_crop
from floemap.learning.data.parts import PartArrays, ScenePart, load_part
from floemap.learning.data.polygons import Polygons, read_shares, tables_of, tensor_of_ids
from floemap.learning.losses import Loss
from floemap.learning.models.base import SegmentationModel
from floemap.learning.training.device import exact_float32
from floemap.learning.training.distributed import global_sum
from floemap.learning.whole_scene.logits import array_reader, scene_logits
from floemap.legend import IGNORE

#: Logits (1, K, rows, cols), labels (1, rows, cols), polygons, and whether the crop or part ends with this piece.
Piece = tuple[Tensor, Tensor, Polygons | None, bool]

#: Rows of a scene for which logits at full resolution are in memory at a time.
_STRIP_ROWS = 256


@dataclass(frozen=True)
class Validation:
    """Result of a validation.

    Attributes
    ----------
    loss
        Mean loss over the parts.
    confusion
        (K, K) int64: pixels of all parts by class of the label (rows) and predicted class (columns).
    """

    loss: float
    confusion: NDArray[np.int64]

    @property
    def weighted_f1(self) -> float:
        """Mean F1 over the classes, weighted by the number of their labelled pixels."""
        f1, support = self._f1()
        return float(np.nansum(f1 * support) / support.sum())

    @property
    def macro_f1(self) -> float:
        """Unweighted mean F1 over the classes that occur in labels or prediction."""
        f1, _ = self._f1()
        return float(np.nanmean(f1))

    @property
    def f1_by_class(self) -> list[float | None]:
        """F1 of each class; None for classes that occur in neither labels nor prediction."""
        return [None if np.isnan(f1) else float(f1) for f1 in self._f1()[0]]

    def _f1(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        support, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        both = support + predicted
        f1 = np.full(len(both), np.nan)
        np.divide(2 * np.diagonal(self.confusion), both, out=f1, where=both > 0)
        return f1, support


def validate(
    model: SegmentationModel,
    loss: Loss,
    parts: Sequence[PartArrays | ScenePart],
    fabric: Fabric,
    *,
    crops: Sequence[Sequence[Crop]] | None = None,
) -> Validation:
    """Validate a model in float32, whatever the precision of the training; the processes share the parts.

    The schedule of the learning rate and the choice of the best weights depend on differences of the validation loss
    that may be tiny: in bfloat16 they would follow the rounding of weights.

    Parameters
    ----------
    model
        The model. It is in evaluation mode afterwards.
    loss
        The loss of the training.
    parts
        Validation parts, in memory or on disk; those on disk are read one at a time.
    fabric
        Device and processes.
    crops
        For each part the crops to validate on; None validates on whole parts.
    """
    model.eval()
    loss.epoch = None
    classes = loss.classes
    found = torch.zeros(1 + classes**2, dtype=torch.float64)  # exact for counts below 2^53
    for i in range(fabric.global_rank, len(parts), fabric.world_size):
        value, confusion = _validate_part(model, loss, parts[i], fabric, None if crops is None else crops[i])
        found[0] += value
        found[1:] += confusion.flatten()
    whole = global_sum(found.to(fabric.device)).cpu().numpy()
    return Validation(float(whole[0]) / len(parts), whole[1:].reshape(classes, classes).astype(np.int64))


@torch.inference_mode()
@exact_float32()
def _validate_part(
    model: SegmentationModel,
    loss: Loss,
    part: PartArrays | ScenePart,
    fabric: Fabric,
    crops: Sequence[Crop] | None,
) -> tuple[float, Tensor]:
    """Return the loss of a part and its confusion matrix, (K, K) float64 on the CPU."""
    sums, counts = torch.zeros(1, dtype=torch.float64), torch.zeros(loss.classes**2, dtype=torch.int64)
    tiles: Tensor | None = None  # sums of one crop, or of the whole part, so far
    pieces = _whole(model, part, fabric) if crops is None else _patches(model, part, fabric, crops)
    for logits, labels, polygons, last in pieces:
        found = loss.sums(logits, labels, polygons).double().cpu()
        tiles = found if tiles is None else tiles + found
        if last:
            sums = sums + loss.condensed(tiles, None if polygons is None else polygons.to(tiles.device))
            tiles = None
        valid = labels != IGNORE
        pairs = labels[valid].long() * loss.classes + logits.argmax(dim=1)[valid]
        counts += torch.bincount(pairs, minlength=loss.classes**2).cpu()
    return float(loss.value(sums)), counts.double().reshape(loss.classes, loss.classes)


def _whole(model: SegmentationModel, part: PartArrays | ScenePart, fabric: Fabric) -> Iterator[Piece]:
    """Yield a whole part in strips; the logits equal those of one pass of the model over it."""
    arrays = load_part(part)
    shape, device = arrays.labels.shape, fabric.device
    tables = tables_of([arrays.polygons], device)
    with scene_logits(model, array_reader(arrays.stored), shape, device=device, precision="fp32") as scene:
        for row in range(0, shape[0], _STRIP_ROWS):
            rows = slice(row, row + _STRIP_ROWS)
            labels = torch.from_numpy(arrays.labels[rows]).to(device)
            polygons = None
            if tables is not None and arrays.ids is not None:
                polygons = tables.of(tensor_of_ids(arrays.ids[rows]).to(device)[None], [0])
            last = row + len(labels) == shape[0]
            yield scene.rows(row, row + len(labels))[None], labels[None], polygons, last


def _patches(
    model: SegmentationModel, part: PartArrays | ScenePart, fabric: Fabric, crops: Sequence[Crop]
) -> Iterator[Piece]:
    """Yield crops of a part, one at a time."""
    if isinstance(part, PartArrays):
        of_part = part.polygons
    else:
        of_part = None if part.polygons is None else read_shares(part.polygons)
    tables = tables_of([of_part], fabric.device)
    for crop in crops:
        stored, labels, ids = (None if x is None else x.to(fabric.device)[None] for x in read_crop(part, crop))
        assert stored is not None and labels is not None
        polygons = None if tables is None or ids is None else tables.of(ids, [0])
        yield model(physical(stored)), labels, polygons, True
