"""Validation: the losses of a model on the validation parts, and scores of each head from sums over pixels.

The loss of a part is that of all its pixels together, as if it were one crop. The validation loss is the unweighted
mean over parts; parts without a value of a head do not count for it. Counts and moments are pooled over parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from floemap.icechart.label.polygon_values import VALUES
from floemap.learning.data.crops import Crop, PartTensors, physical, read_crop
from floemap.learning.data.parts import PartArrays, ScenePart, load_part
from floemap.learning.data.polygons import Polygons, read_shares, tables_of
from floemap.learning.losses.tasks import TaskLosses, wanted_classes, wanted_values
from floemap.learning.models.base import SegmentationModel
from floemap.learning.targets import Head
from floemap.learning.training.device import exact_float32
from floemap.learning.training.distributed import global_sum
from floemap.learning.whole_scene.logits import array_reader, scene_logits
from floemap.legend import IGNORE
from floemap.moments import MOMENTS, moments, value_scores_by_name

#: Logits (1, channels, rows, cols), labels (1, rows, cols), polygons, and whether the crop or part ends with it.
Piece = tuple[Tensor, Tensor, Polygons | None, bool]

#: Rows of a scene for which logits at full resolution are in memory at a time. A GPU needs many to be busy.
_STRIP_ROWS = {"cpu": 256, "cuda": 1024}


@dataclass(frozen=True)
class Validation:
    """Result of a validation.

    Attributes
    ----------
    loss
        Weighted sum of the losses of all heads.
    confusion
        (K, K) int64: pixels of all parts by class of the label (rows) and predicted class (columns).
    losses
        Mean loss over the parts, by head.
    moments
        Moments of each head of values, (7,), by head; see :mod:`floemap.moments`.
    categories
        Confusion matrix of each head of a category, by head, as `confusion`.
    """

    loss: float
    confusion: NDArray[np.int64]
    losses: Mapping[str, float]
    moments: Mapping[str, NDArray[np.float64]]
    categories: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def by_head(self) -> dict[str, dict[str, Any]]:
        """Return the numbers of each head: its validation loss, and for values and categories their scores."""
        found: dict[str, dict[str, Any]] = {name: {"validation_loss": loss} for name, loss in self.losses.items()}
        for name, sums in self.moments.items():
            found[name] |= value_scores_by_name(sums)
        for name, confusion in self.categories.items():
            found[name]["weighted_f1"] = _weighted_f1(confusion) if confusion.any() else None
        return found

    @property
    def weighted_f1(self) -> float:
        """Mean F1 over the classes, weighted by the number of their labelled pixels."""
        return _weighted_f1(self.confusion)

    @property
    def macro_f1(self) -> float:
        """Unweighted mean F1 over the classes that occur in labels or prediction."""
        return float(np.nanmean(_f1(self.confusion)[0]))

    @property
    def f1_by_class(self) -> list[float | None]:
        """F1 of each class; None for classes that occur in neither labels nor prediction."""
        return [None if np.isnan(f1) else float(f1) for f1 in _f1(self.confusion)[0]]


def _weighted_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean F1 over the classes, weighted by the pixels of their labels."""
    f1, support = _f1(confusion)
    return float(np.nansum(f1 * support) / support.sum())


def _f1(confusion: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return F1 of each class, not-a-number for those that occur in neither labels nor prediction, and its pixels."""
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    both = support + predicted
    f1 = np.full(len(both), np.nan)
    np.divide(2 * np.diagonal(confusion), both, out=f1, where=both > 0)
    return f1, support


def validate(
    model: SegmentationModel,
    losses: TaskLosses,
    parts: Sequence[PartArrays | ScenePart],
    fabric: Fabric,
    *,
    crops: Sequence[Sequence[Crop]] | None = None,
    resident: Sequence[PartTensors] | None = None,
) -> Validation:
    """Validate a model in float32, whatever the precision of the training; the processes share the parts.

    The schedule of the learning rate and the choice of the best weights depend on differences of the validation loss
    that may be tiny: in bfloat16 they would follow the rounding of weights.

    Parameters
    ----------
    model
        The model. It is in evaluation mode afterwards.
    losses
        The losses of the training.
    parts
        Validation parts, in memory or on disk; those on disk are read one at a time.
    fabric
        Device and processes.
    crops
        For each part the crops to validate on; None validates on whole parts.
    resident
        The parts on the device, if they are kept there. Crops are read from `parts` nevertheless.
    """
    model.eval()
    losses.set_epoch(None)
    found = _PartSums(losses)
    for i in range(fabric.global_rank, len(parts), fabric.world_size):
        if crops is None:
            pieces = _whole(model, parts[i], fabric, None if resident is None else resident[i])
        else:
            pieces = _patches(model, parts[i], fabric, crops[i])
        found += _validate_part(losses, pieces, fabric.device)
    whole = _PartSums(losses)
    whole.numbers[:] = global_sum(found.numbers.to(fabric.device)).cpu()  # exact for counts below 2^53
    each = [float(total) / max(float(n), 1) for total, n in zip(whole.values, whole.parts, strict=True)]
    return Validation(
        float(losses.total(torch.tensor(each, dtype=torch.float64))),
        whole.confusion.numpy().astype(np.int64),
        dict(zip(losses.names, each, strict=True)),
        {
            task.head.name: sums.numpy()
            for task, sums in zip(losses.tasks, whole.moments, strict=True)
            if task.head.kind == "value"
        },
        {name: counts.numpy().astype(np.int64) for name, counts in whole.categories.items()},
    )


class _PartSums:
    """What is added over parts, in one tensor of float64 on the CPU, so that processes add it at once.

    Attributes
    ----------
    numbers
        All numbers.
    values, parts
        (heads,): sum of the losses over parts, and number of parts that count.
    confusion
        (K, K).
    moments
        (heads, 7); zeros for heads that do not learn values.
    categories
        Confusion matrices of the heads of categories, by head.
    """

    def __init__(self, losses: TaskLosses) -> None:
        heads, classes = len(losses.tasks), losses.classes
        further = [t.head for t in losses.tasks if t.head.kind == "category"]
        sizes = [heads, heads, classes**2, heads * len(MOMENTS), *(h.channels**2 for h in further)]
        self.numbers = torch.zeros(sum(sizes), dtype=torch.float64)
        self.values, self.parts, confusion, moments_, *counts = torch.split(self.numbers, sizes)
        self.confusion = confusion.view(classes, classes)
        self.moments = moments_.view(heads, len(MOMENTS))
        self.categories = {h.name: c.view(h.channels, h.channels) for h, c in zip(further, counts, strict=True)}

    def __iadd__(self, other: _PartSums) -> Self:
        self.numbers += other.numbers
        return self


@torch.inference_mode()
@exact_float32()
def _validate_part(losses: TaskLosses, pieces: Iterable[Piece], device: torch.device) -> _PartSums:
    """Return the losses of a part, its confusion matrix and its moments."""
    result = _PartSums(losses)
    sums = [torch.zeros(1, dtype=torch.float64, device=device) for _ in losses.tasks]
    tiles: list[Tensor] | None = None  # sums of one crop, or of the whole part, so far
    for logits, labels, polygons, last in pieces:
        found = [s.double() for s in losses.sums(logits, labels, polygons)]
        tiles = found if tiles is None else [t + f for t, f in zip(tiles, found, strict=True)]
        if last:
            condensed = losses.condensed(tiles, polygons)
            sums = [s + c for s, c in zip(sums, condensed, strict=True)]
            tiles = None
        outputs = losses.split(logits)
        result.confusion += _confusion(labels, outputs[0])
        for i, task in enumerate(losses.tasks):
            if task.head.kind == "value":
                result.moments[i] += _moments(task.head, outputs[i], polygons)
            elif task.head.kind == "category":
                result.categories[task.head.name] += _confusion(wanted_classes(task.head, polygons), outputs[i])
    result.values[:] = losses.values(sums)
    for i, head in enumerate(t.head for t in losses.tasks):
        counted = result.categories[head.name].any() if head.kind == "category" else sums[i][1] > 0
        result.parts[i] = 1 if head.kind in ("class", "fractions") or counted else 0
    return result


def _confusion(labels: Tensor, output: Tensor) -> Tensor:
    """Return the pixels by class of the label and predicted class, (K, K) float64, for logits (N, K, H, W)."""
    classes, valid = output.shape[1], labels != IGNORE
    pairs = labels[valid].long() * classes + output.argmax(dim=1)[valid]
    return torch.bincount(pairs, minlength=classes**2).cpu().double().view(classes, classes)


def _moments(head: Head, output: Tensor, polygons: Polygons | None) -> Tensor:
    """Return the moments of values, (7,), clipped to their range as a prediction is."""
    value, wanted = VALUES[head.target], wanted_values(head, polygons)
    known = wanted.isfinite()
    predicted = output[:, 0].clamp(value.low, value.high)[known]
    return torch.tensor(moments(wanted[known].double(), predicted.double()), dtype=torch.float64)


def _whole(
    model: SegmentationModel, part: PartArrays | ScenePart, fabric: Fabric, resident: PartTensors | None
) -> Iterator[Piece]:
    """Yield a whole part in strips; the logits equal those of one pass of the model over it."""
    arrays = load_part(part)
    shape, device = arrays.labels.shape, fabric.device
    tables = tables_of([arrays.polygons], device)
    source = array_reader(arrays.stored) if resident is None else resident.stored
    tensors = PartTensors.of(arrays) if resident is None else resident
    height = _STRIP_ROWS[device.type]
    with scene_logits(model, source, shape, device=device, precision="fp32") as scene:
        for row in range(0, shape[0], height):
            rows = slice(row, row + height)
            labels = tensors.labels[rows].to(device)
            polygons = None
            if tables is not None and tensors.ids is not None:
                polygons = tables.of(tensors.ids[rows].to(device)[None], [0])
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
        yield model(physical(stored, model.bands)), labels, polygons, True
