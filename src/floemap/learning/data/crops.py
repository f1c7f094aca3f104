"""Patches that a model learns from: which ones an epoch has, and where they come from.

Which patches an epoch has depends on the seed and the epoch's number alone, not on source, processes or what ran
before, so that a run that goes on after a kill, or on more GPUs, learns from the same ones. Places are drawn uniformly
from all those in a part that have enough labels.

Two sources give them, bit for bit the same: :class:`ResidentCrops` holds all parts in memory, or on the GPU, and cuts
there; :class:`StreamedCrops` reads windows of the files in worker processes, for archives that do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from floemap.errors import ConfigError, FloemapError, TrainingError
from floemap.learning.data.parts import PartArrays, ScenePart, part_window, read_window
from floemap.learning.data.survey import Survey
from floemap.learning.settings import CropSettings
from floemap.legend import IGNORE
from floemap.sentinel1.encoding import BAND_NAMES, NODATA, SCALE

# What a random number is for: streams that never meet, whatever the seed.
_PLACES, _TURNS, _ORDER, _VALIDATION, _TORCH = range(5)

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Crop:
    """A square patch of a part.

    Attributes
    ----------
    part
        Position of the part in the list of parts.
    row, col
        Upper left corner, pixels of the part.
    size_px
        Side.
    turn
        0 to 7: quarter turns to the left, plus 4 if it is mirrored along its columns before; 0 leaves it as it is.
    context_px
        Pixels around it that are cut out with it: bands as far as the part goes, no data beyond; no labels.
    """

    part: int
    row: int
    col: int
    size_px: int
    turn: int = 0
    context_px: int = 0

    @property
    def side_px(self) -> int:
        """Side of what is cut out."""
        return self.size_px + 2 * self.context_px


def draw_epoch(surveys: Sequence[Survey], settings: CropSettings, seed: int, epoch: int) -> list[Crop]:
    """Draw the patches of an epoch, `settings.per_scene` from each part, in an order shuffled over all parts.

    Parameters
    ----------
    surveys
        Of the training parts, with places.
    settings
        With ``redraw`` False the places are those of epoch 0 in every epoch; order and turns change all the same.
    seed, epoch
        The same numbers give the same patches.
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
    """Draw the patches of one part for validation: the same in every epoch and for every training seed, never turned.

    So repeats of a training, which differ in their seeds, are validated on the same pixels.
    """
    places = [_draw_place(survey, _random(0, _VALIDATION, part, i)) for i in range(settings.validation_per_scene)]
    return [Crop(part, row, col, settings.size_px, context_px=settings.context_px) for row, col in places]


def deal(crops: Sequence[Crop], batch: int, rank: int = 0, ranks: int = 1) -> list[list[Crop]]:
    """Cut an epoch's patches into batches, and give those of one process: a contiguous share of every batch.

    What is left after the last whole batch is dropped: every step then weighs the same, no process is without patches,
    and since the order is shuffled each epoch no patch is left out for good.

    Raises
    ------
    ConfigError
        If a batch is larger than the patches of an epoch, or smaller than the number of processes.
    """
    if batch > len(crops):
        raise ConfigError(
            f"training.batch is {batch}, but an epoch has {len(crops)} patches.",
            hint="Lower training.batch, or raise crops.per_scene.",
        )
    if batch < ranks:
        raise ConfigError(
            f"training.batch is {batch}, but there are {ranks} processes.",
            hint="Raise training.batch, or start fewer.",
        )
    first, last = batch * rank // ranks, batch * (rank + 1) // ranks
    return [list(crops[b * batch + first : b * batch + last]) for b in range(len(crops) // batch)]


def torch_seed(seed: int, *key: int) -> int:
    """Return a seed for torch's own random numbers: of the weights, or of an epoch's dropout with its number as key."""
    return int(np.random.SeedSequence(seed, spawn_key=(_TORCH, *key)).generate_state(1, np.uint64)[0])


def physical(stored: Tensor) -> Tensor:
    """Turn stored int16 of any shape into float32 dB and degrees, NaN for no data, on the same device."""
    return torch.where(stored == NODATA, torch.nan, stored.to(torch.float32) * SCALE)


class CropSource(Protocol):
    """Gives patches in batches: stored bands, (n, 3, side, side) int16, and labels, (n, side, side) uint8."""

    def batches(self, wanted: Sequence[Sequence[Crop]]) -> Iterator[Batch]:
        """Give one batch after the other."""


class ResidentCrops:
    """Patches cut from parts in memory, or on a GPU.

    Parameters
    ----------
    parts
        All of them; on the CPU their arrays are used as they are, not copied.
    device
        Where the parts are kept and batches are made.
    """

    def __init__(self, parts: Sequence[PartArrays], device: torch.device | str = "cpu") -> None:
        self._stored = [torch.from_numpy(p.stored).to(device) for p in parts]
        self._labels = [torch.from_numpy(p.labels).to(device) for p in parts]

    def batches(self, wanted: Sequence[Sequence[Crop]]) -> Iterator[Batch]:
        """Give one batch after the other."""
        return (self._gather(crops) for crops in wanted)

    def _gather(self, crops: Sequence[Crop]) -> Batch:
        side = crops[0].side_px
        device = self._stored[0].device
        stored = torch.empty((len(crops), len(BAND_NAMES), side, side), dtype=torch.int16, device=device)
        labels = torch.empty((len(crops), side, side), dtype=torch.uint8, device=device)
        for i, c in enumerate(crops):
            bands, classes = _cut(self._stored[c.part], self._labels[c.part], c)
            stored[i], labels[i] = _turned(bands, c.turn), _turned(classes, c.turn)
        return stored, labels


class StreamedCrops:
    """Patches read from files by worker processes, ahead of the step that needs them.

    The processes are spawned, since those that are forked inherit the raster library's and torch's threads half dead:
    a script that trains must do so under ``if __name__ == "__main__"``. They start with the first batch and live as
    long as this object.

    Parameters
    ----------
    parts
        On disk.
    workers
        Processes; 0 reads in this one.
    pin
        Hand batches over in page-locked memory, from which a GPU copies faster.
    """

    def __init__(self, parts: Sequence[ScenePart], workers: int, *, pin: bool = False) -> None:
        self._wanted: list[list[Crop]] = []
        self._loader: DataLoader[Any] = DataLoader(
            _Windows(parts),
            batch_sampler=self._wanted,  # asked anew each epoch, by the workers that are already there
            num_workers=workers,
            collate_fn=_stack,
            pin_memory=pin,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
        )

    def batches(self, wanted: Sequence[Sequence[Crop]]) -> Iterator[Batch]:
        """Give one batch after the other.

        Raises
        ------
        FloemapError
            If a file can no longer be read.
        TrainingError
            If a worker process died.
        """
        self._wanted[:] = [list(crops) for crops in wanted]
        batches = iter(self._loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as e:  # what torch says of a worker that the system killed
                raise TrainingError(
                    f"a process that reads patches died: {e}.",
                    hint="Is memory (or /dev/shm) full? Lower crops.workers; 0 reads without processes.",
                ) from e
            if isinstance(batch, FloemapError):
                raise batch
            yield batch


def read_crop(part: PartArrays | ScenePart, crop: Crop) -> Batch:
    """Cut one patch from a part in memory or on disk: stored bands, (3, side, side), and labels, (side, side).

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
    stored, labels = _cut(torch.from_numpy(part.stored), torch.from_numpy(part.labels), crop)
    return _turned(stored, crop.turn), _turned(labels, crop.turn)


def _span(at: int, crop: Crop, size: int) -> tuple[int, int]:
    """Return first and last but one of the rows, or columns, of a part that a patch at `at` is cut from."""
    return max(at - crop.context_px, 0), min(at + crop.size_px + crop.context_px, size)


def _cut(stored: Tensor, labels: Tensor, crop: Crop) -> Batch:
    """Cut a patch with its context from (3, rows, cols) and (rows, cols): views where there is no context."""
    size, context = crop.size_px, crop.context_px
    inner = (slice(crop.row, crop.row + size), slice(crop.col, crop.col + size))
    if not context:
        return stored[:, *inner], labels[inner]
    rows, cols = labels.shape
    (top, bottom), (left, right) = _span(crop.row, crop, rows), _span(crop.col, crop, cols)
    to_row, to_col = top - (crop.row - context), left - (crop.col - context)
    bands = stored.new_full((len(stored), crop.side_px, crop.side_px), NODATA)
    bands[:, to_row : to_row + bottom - top, to_col : to_col + right - left] = stored[:, top:bottom, left:right]
    classes = labels.new_full((crop.side_px, crop.side_px), IGNORE)
    classes[context : context + size, context : context + size] = labels[inner]
    return bands, classes


class _Windows(Dataset[Any]):
    """Reads patches in a worker process."""

    def __init__(self, parts: Sequence[ScenePart]) -> None:
        self._parts = parts

    def __getitem__(self, crop: Crop) -> Batch | FloemapError:
        try:
            return read_crop(self._parts[crop.part], crop)
        except FloemapError as e:  # handed over as it is: raised here, torch would wrap it in a traceback's text
            return e


def _stack(crops: Sequence[Batch | FloemapError]) -> Batch | FloemapError:
    whole: list[Batch] = []
    for crop in crops:
        if isinstance(crop, FloemapError):
            return crop
        whole.append(crop)
    return torch.stack([stored for stored, _ in whole]), torch.stack([labels for _, labels in whole])


def _turned(raster: Tensor, turn: int) -> Tensor:
    """Mirror and turn the last two axes, as :class:`Crop` says."""
    if turn >= 4:
        raster = raster.flip(-1)
    return torch.rot90(raster, turn % 4, (-2, -1)) if turn % 4 else raster


def _draw_place(survey: Survey, random: np.random.Generator) -> tuple[int, int]:
    if survey.places is None:
        raise ValueError(f"part {survey.name} was surveyed without places")
    return survey.places[int(random.integers(len(survey.places)))]


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))
