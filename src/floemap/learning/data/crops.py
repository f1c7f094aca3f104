"""Training crops: how those of an epoch are drawn, and the sources that read them.

The crops of an epoch depend on the seed and the number of the epoch only, not on the source, the processes or what
ran before: a resumed run, or a run on more GPUs, is trained on the same crops. Places are drawn uniformly from all
places in a part that have enough labels.

Two sources give identical crops: :class:`ResidentCrops` keeps all parts in memory, or on the GPU;
:class:`StreamedCrops` reads windows of the files in worker processes, for archives that do not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from floemap.bands import BandSet
from floemap.errors import ConfigError, FloemapError, TrainingError
from floemap.learning.data.parts import PartArrays, ScenePart, part_window, read_window
from floemap.learning.data.polygons import Polygons, PolygonTables, tables_of, tensor_of_ids
from floemap.learning.data.survey import Survey
from floemap.learning.settings import CropSettings
from floemap.legend import IGNORE
from floemap.sentinel1.encoding import NODATA, PRODUCT_BANDS

# Purposes of random numbers. Each has its own stream, which is independent of the others for any seed.
_PLACES, _TURNS, _ORDER, _VALIDATION, _TORCH = range(5)

#: Stored bands, labels, and ids of polygons or None, of one crop or several.
Cut = tuple[Tensor, Tensor, Tensor | None]


class Batch(NamedTuple):
    """A batch of n crops.

    Attributes
    ----------
    stored
        Stored bands, (n, B, side, side) int16.
    labels
        (n, side, side) uint8.
    polygons
        The chart's polygons; None if the loss does not read them.
    """

    stored: Tensor
    labels: Tensor
    polygons: Polygons | None = None

    def parts(self, number: int) -> list[Batch]:
        """Divide the batch into parts of n / `number` crops each, in order."""
        size = len(self.labels) // number
        ends = [(i * size, (i + 1) * size) for i in range(number)]
        return [
            Batch(self.stored[a:b], self.labels[a:b], None if self.polygons is None else self.polygons.crops(a, b))
            for a, b in ends
        ]


@dataclass(frozen=True)
class Crop:
    """A square crop of a part.

    Attributes
    ----------
    part
        Index of the part in the list of parts.
    row, col
        Upper left corner in pixels of the part, without the context.
    size_px
        Side of the crop.
    turn
        0 to 7: number of quarter turns to the left, plus 4 if the crop is mirrored along its columns first.
    context_px
        Pixels of context on each side. They have bands, or no-data beyond the part, but no labels.
    """

    part: int
    row: int
    col: int
    size_px: int
    turn: int = 0
    context_px: int = 0

    @property
    def side_px(self) -> int:
        """Side of the crop with its context."""
        return self.size_px + 2 * self.context_px


def draw_epoch(surveys: Sequence[Survey], settings: CropSettings, seed: int, epoch: int) -> list[Crop]:
    """Draw the crops of an epoch, `settings.per_scene` from each part, shuffled over all parts.

    Parameters
    ----------
    surveys
        Surveys of the training parts, with places.
    settings
        With ``redraw`` False, all epochs have the places of epoch 0, but another order and other turns.
    seed, epoch
        Equal numbers give equal crops.
    """
    drawn_in = epoch if settings.redraw else 0
    crops = []
    for part, survey in enumerate(surveys):
        for index in range(settings.per_scene):
            row, col = _draw_place(survey, _random(seed, _PLACES, drawn_in, part, index))
            turn = int(_random(seed, _TURNS, epoch, part, index).integers(8)) if settings.flips else 0
            crops.append(Crop(part, row, col, settings.size_px, turn, settings.context_px))
    order = _random(seed, _ORDER, epoch).permutation(len(crops))
    return [crops[i] for i in order]


def draw_fixed(survey: Survey, part: int, settings: CropSettings) -> list[Crop]:
    """Draw the validation crops of one part; they do not depend on the epoch or the seed of the training.

    Repeats of a training, which differ in their seeds, are thus validated on the same pixels. The crops are not
    turned.
    """
    places = [_draw_place(survey, _random(0, _VALIDATION, part, i)) for i in range(settings.validation_per_scene)]
    return [Crop(part, row, col, settings.size_px, context_px=settings.context_px) for row, col in places]


def deal(crops: Sequence[Crop], batch: int, rank: int = 0, ranks: int = 1) -> list[list[Crop]]:
    """Divide the crops of an epoch into batches; return the share of one process, a contiguous part of each batch.

    Crops after the last whole batch are dropped: all steps then have equal weight and no process is without crops.
    As the order is shuffled in each epoch, no crop is always dropped.

    Raises
    ------
    ConfigError
        If the batch size exceeds the number of crops in an epoch, or is smaller than the number of processes.
    """
    if batch > len(crops):
        raise ConfigError(
            f"training.batch is {batch}, but an epoch has {len(crops)} crops.",
            hint="Lower training.batch, or raise crops.per_scene.",
        )
    if batch < ranks:
        raise ConfigError(
            f"training.batch is {batch}, but there are {ranks} processes.",
            hint="Raise training.batch, or start fewer processes.",
        )
    first, last = batch * rank // ranks, batch * (rank + 1) // ranks
    return [list(crops[b * batch + first : b * batch + last]) for b in range(len(crops) // batch)]


def torch_seed(seed: int, *key: int) -> int:
    """Return a seed for torch: without key for the initial weights, with epoch and rank as key for dropout."""
    return int(np.random.SeedSequence(seed, spawn_key=(_TORCH, *key)).generate_state(1, np.uint64)[0])


def physical(stored: Tensor, bands: BandSet = PRODUCT_BANDS) -> Tensor:
    """Convert stored int16 (..., B, rows, cols) to float32 in the bands' units, NaN for no-data, on the same device."""
    return in_units(stored, *units_of(bands, stored.device))


def in_units(stored: Tensor, step: Tensor, offset: Tensor) -> Tensor:
    """As :func:`physical`, with step and offset of the bands, (B, 1, 1) each."""
    return torch.where(stored == NODATA, torch.nan, stored.to(torch.float32) * step + offset)


@cache
def units_of(bands: BandSet, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return step and offset of the bands, (B, 1, 1) float32 each."""
    table = torch.tensor([[b.step, b.offset] for b in bands], dtype=torch.float32, device=device)
    return table[:, 0, None, None], table[:, 1, None, None]


@dataclass(frozen=True)
class PartTensors:
    """The rasters of a part as tensors on one device; see :class:`floemap.learning.data.parts.PartArrays`.

    Attributes
    ----------
    stored, labels, ids
        (B, rows, cols) int16, (rows, cols) uint8, and (rows, cols) int16 of the same bits, or None.
    """

    stored: Tensor
    labels: Tensor
    ids: Tensor | None

    @staticmethod
    def of(part: PartArrays, device: torch.device | str = "cpu") -> PartTensors:
        """Return the tensors of a part. On the CPU arrays are not copied."""
        ids = None if part.ids is None else tensor_of_ids(part.ids).to(device)
        return PartTensors(torch.from_numpy(part.stored).to(device), torch.from_numpy(part.labels).to(device), ids)


class CropSource(Protocol):
    """A source of batches."""

    def batches(self, wanted: Sequence[Sequence[Crop]]) -> Iterator[Batch]:
        """Yield the wanted batches in order."""


class ResidentCrops:
    """Crops cut from parts in memory, or on a GPU.

    Parameters
    ----------
    parts
        All training parts. On the CPU their arrays are not copied.
    device
        Device on which the parts are kept and batches are assembled.
    """

    def __init__(self, parts: Sequence[PartArrays], device: torch.device | str = "cpu") -> None:
        self._parts = [PartTensors.of(p, device) for p in parts]
        self._tables = tables_of([p.polygons for p in parts], device)

    def batches(self, wanted: Sequence[Sequence[Crop]]) -> Iterator[Batch]:
        """Yield the wanted batches in order."""
        return (self._gather(crops) for crops in wanted)

    def _gather(self, crops: Sequence[Crop]) -> Batch:
        side = crops[0].side_px
        device = self._parts[0].stored.device
        stored = torch.empty((len(crops), len(self._parts[0].stored), side, side), dtype=torch.int16, device=device)
        labels = torch.empty((len(crops), side, side), dtype=torch.uint8, device=device)
        ids = None if self._tables is None else torch.empty(labels.shape, dtype=torch.int16, device=device)
        for i, c in enumerate(crops):
            bands, classes, numbers = _cut(self._parts[c.part], c)
            stored[i], labels[i] = _turned(bands, c.turn), _turned(classes, c.turn)
            if ids is not None and numbers is not None:
                ids[i] = _turned(numbers, c.turn)
        return _batch((stored, labels, ids), self._tables, crops)


def _batch(cut: Cut, tables: PolygonTables | None, crops: Sequence[Crop]) -> Batch:
    """Return a batch of crops, with their polygons if both ids and tables are there."""
    stored, labels, ids = cut
    polygons = None if ids is None or tables is None else tables.of(ids, [crop.part for crop in crops])
    return Batch(stored, labels, polygons)


class StreamedCrops:
    """Crops that worker processes read from files, ahead of the step that needs them.

    The processes are spawned, not forked, because the threads of torch and of the raster library do not survive a fork.
    A script that trains must therefore do so under ``if __name__ == "__main__"``. The processes start with the first
    batch and live as long as this object.

    Parameters
    ----------
    parts
        Training parts on disk.
    workers
        Number of worker processes; 0 reads in the calling process.
    pin
        Whether to return batches in page-locked memory, from which copies to a GPU are faster.
    tables
        Tables of the parts' polygons, for losses that read them.
    """

    def __init__(
        self, parts: Sequence[ScenePart], workers: int, *, pin: bool = False, tables: PolygonTables | None = None
    ) -> None:
        self._tables = tables
        self._wanted: list[list[Crop]] = []
        self._loader: DataLoader[Any] = DataLoader(
            _Windows(parts),
            batch_sampler=self._wanted,  # read again in each epoch, by the same workers
            num_workers=workers,
            collate_fn=_stack,
            pin_memory=pin,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
        )

    def batches(self, wanted: Sequence[Sequence[Crop]]) -> Iterator[Batch]:
        """Yield the wanted batches in order.

        Raises
        ------
        FloemapError
            If a file can no longer be read.
        TrainingError
            If a worker process died.
        """
        self._wanted[:] = [list(crops) for crops in wanted]
        batches = iter(self._loader)
        for crops in wanted:
            try:
                batch = next(batches)
            except RuntimeError as e:  # how torch reports a worker that the system killed
                raise TrainingError(
                    f"a process that reads crops died: {e}.",
                    hint="Is memory (or /dev/shm) full? Lower crops.workers; 0 reads without processes.",
                ) from e
            if isinstance(batch, FloemapError):
                raise batch
            yield _batch(batch, self._tables, crops)


def read_crop(part: PartArrays | ScenePart, crop: Crop) -> Cut:
    """Read one crop of a part.

    Returns
    -------
    tuple
        Stored bands, (B, side, side) int16; labels, (side, side) uint8; ids of polygons, (side, side) int16, or None.

    Raises
    ------
    FloemapError
        If the files cannot be read.
    """
    if isinstance(part, ScenePart):
        first_row, first_col, rows, cols = part_window(part)
        (top, bottom), (left, right) = _span(crop.row, crop, rows), _span(crop.col, crop, cols)
        part = read_window(part, (first_row + top, first_col + left, bottom - top, right - left))
        crop = replace(crop, row=crop.row - top, col=crop.col - left)
    stored, labels, ids = _cut(PartTensors.of(part), crop)
    return _turned(stored, crop.turn), _turned(labels, crop.turn), None if ids is None else _turned(ids, crop.turn)


def _span(at: int, crop: Crop, size: int) -> tuple[int, int]:
    """Return the range of rows, or columns, of a part that a crop at `at` and its context cover."""
    return max(at - crop.context_px, 0), min(at + crop.size_px + crop.context_px, size)


def _cut(part: PartTensors, crop: Crop) -> Cut:
    """Cut a crop with its context from a part. Without context, return views."""
    stored, labels, ids = part.stored, part.labels, part.ids
    size, context = crop.size_px, crop.context_px
    inner = (slice(crop.row, crop.row + size), slice(crop.col, crop.col + size))
    if not context:
        return stored[:, *inner], labels[inner], None if ids is None else ids[inner]
    rows, cols = labels.shape
    (top, bottom), (left, right) = _span(crop.row, crop, rows), _span(crop.col, crop, cols)
    to_row, to_col = top - (crop.row - context), left - (crop.col - context)
    bands = stored.new_full((len(stored), crop.side_px, crop.side_px), NODATA)
    bands[:, to_row : to_row + bottom - top, to_col : to_col + right - left] = stored[:, top:bottom, left:right]
    at = (slice(context, context + size),) * 2
    classes = labels.new_full((crop.side_px, crop.side_px), IGNORE)
    classes[at] = labels[inner]
    if ids is None:
        return bands, classes, None
    numbers = ids.new_zeros((crop.side_px, crop.side_px))
    numbers[at] = ids[inner]
    return bands, classes, numbers


class _Windows(Dataset[Any]):
    """Reads crops in a worker process."""

    def __init__(self, parts: Sequence[ScenePart]) -> None:
        self._parts = parts

    def __getitem__(self, crop: Crop) -> Cut | FloemapError:
        try:
            return read_crop(self._parts[crop.part], crop)
        except FloemapError as e:  # returned, because torch would turn a raised error into the text of a traceback
            return e


def _stack(crops: Sequence[Cut | FloemapError]) -> Cut | FloemapError:
    whole: list[Cut] = []
    for crop in crops:
        if isinstance(crop, FloemapError):
            return crop
        whole.append(crop)
    ids = [c[2] for c in whole if c[2] is not None]
    return torch.stack([c[0] for c in whole]), torch.stack([c[1] for c in whole]), torch.stack(ids) if ids else None


def _turned(raster: Tensor, turn: int) -> Tensor:
    """Mirror and turn the last two axes; see :class:`Crop`."""
    if turn >= 4:
        raster = raster.flip(-1)
    return torch.rot90(raster, turn % 4, (-2, -1)) if turn % 4 else raster


def _draw_place(survey: Survey, random: np.random.Generator) -> tuple[int, int]:
    if survey.places is None:
        raise ValueError(f"part {survey.name} was surveyed without places")
    return survey.places[int(random.integers(len(survey.places)))]


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))
