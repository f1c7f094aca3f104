"""Estimate of what a comparison would do: its cells, disk space and time.

Settings are checked and products opened as in `compare`; nothing is written. The time of a training step is measured on
this machine, with the study's model, batch size and crops. As the number of epochs is not known in advance, the time
is given for one epoch and for the largest number of epochs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from floemap.bands import BandSet, assumed_band
from floemap.datasets.base import SceneFiles
from floemap.datasets.extremeearth.scenes import Role
from floemap.datasets.registry import reader_of
from floemap.errors import ConfigError
from floemap.results.stage import as_written, read_json
from floemap.sentinel1.encoding import PRODUCT_BANDS
from floemap.study.cells import HELD_OUT, Cell, check_cells
from floemap.study.data import check_files, check_layers, find_scenes
from floemap.study.settings import Study
from floemap.study.split import roles_of
from floemap.study.table import resolved

if TYPE_CHECKING:
    from floemap.learning.settings import LearningSettings

#: Bytes on disk for each pixel with data, measured with full scenes: bands; labels with shares and border distances;
#: one prediction with probabilities, scores and checks.
_PREPARED, _LABELS, _PREDICTION = 4.9, 0.2, 1.0
#: Bytes on disk of a training for each parameter: weights twice, best weights, two moments of Adam, in float32.
_TRAINING = 20
_STEPS = 2


@dataclass(frozen=True)
class DryRun:
    """Estimate of a comparison.

    Attributes
    ----------
    cells
        All trainings, in order.
    scenes
        Names of the scenes.
    roles
        Use of each part in the first cell.
    steps
        Number of steps in an epoch, by the name of the cell.
    step_s
        Seconds of a step on this machine, by the name of the cell. Cells with equal settings share a measurement.
    epochs
        Largest number of epochs, by the name of the cell.
    mpx
        Millions of pixels with data in all scenes.
    disk_gb
        Approximate disk space of the comparison, GB.
    device, precision
        Device and floating-point precision of the trainings.
    """

    cells: tuple[Cell, ...]
    scenes: tuple[str, ...]
    roles: dict[str, Role]
    steps: dict[str, int]
    step_s: dict[str, float]
    epochs: dict[str, int]
    mpx: float
    disk_gb: float
    device: str
    precision: str

    def epoch_s(self, cell: str) -> float:
        """Return the seconds of an epoch of a cell, without validation."""
        return self.steps[cell] * self.step_s[cell]

    @property
    def hours_at_most(self) -> float:
        """Hours of training, without validation, if all cells take all their epochs and run one after the other."""
        return sum(self.epoch_s(c.name) * self.epochs[c.name] for c in self.cells) / 3600


def dry_run(study: Study, device: str = "auto") -> DryRun:
    """Check a comparison and estimate its cost.

    Raises
    ------
    FloemapError
        As :func:`floemap.study.compare.compare` does before it starts: if a scene is missing or cannot be opened, a
        name or value is wrong, or the split leaves a use without a part.
    """
    study = resolved(study)
    found = find_scenes(study.data)
    check_files(found)
    check_layers(study.all_data(), study.data.cache)
    names = tuple(s.name for s in found)
    cells = check_cells(study, names)
    mpx = sum(_pixels(s, study.data.prepare.resolution_m) for s in found) / 1e6
    roles = {c.name: roles_of(_held_out(c), names) for c in cells}
    measured: dict[str, tuple[float, int]] = {}
    steps, step_s, epochs, parameters = {}, {}, {}, 0
    kind = precision = ""
    for cell in cells:
        learning = cell.study.learning()
        bands = cell.study.data.bands
        key = learning.model_dump_json(exclude={"training": {"seed"}}) + " ".join(bands)
        if key not in measured:
            seconds, count, kind, precision = _time_step(learning, _classes(study), bands, device)
            measured[key] = seconds, count
        trained = [part for part, role in roles[cell.name].items() if role == "train"]
        crops = learning.crops.per_scene * len(trained)
        if learning.training.batch > crops:
            raise ConfigError(f"training.batch is {learning.training.batch}, but an epoch has {crops} crops.")
        steps[cell.name], step_s[cell.name] = crops // learning.training.batch, measured[key][0]
        epochs[cell.name] = learning.training.max_epochs
        parameters += measured[key][1]
    tests = sum(role == "test" for own in roles.values() for role in own.values())
    per_scene = mpx / len(found)
    disk = 1e6 * (mpx * (_PREPARED + _LABELS) + tests * per_scene * _PREDICTION) + _TRAINING * parameters
    return DryRun(cells, names, roles[cells[0].name], steps, step_s, epochs, mpx, disk / 1e9, kind, precision)


def _held_out(cell: Cell) -> Any:
    """Return the split of a cell; for leave-one-out with the scene of the cell."""
    split = cell.study.split
    held = cell.axes.get(HELD_OUT)
    return split if held is None else split.model_copy(update={"held_out": str(held)})


def _classes(study: Study) -> int:
    from floemap.own_legends import chosen_legend

    return len(chosen_legend(study.data.legend))


def _pixels(scene: SceneFiles, resolution_m: float) -> float:
    """Return the number of pixels of a scene that will have data."""
    record = scene.product / "product.json"
    if record.is_file():
        with as_written(record, "floemap prepare"):
            resolution_m = float(read_json(record)["configuration"].get("resolution_m", resolution_m))
    if (scene.product / "product.tif").is_file():
        from floemap.cog import open_raster

        with open_raster(scene.product / "product.tif") as d:
            return float(d.width * d.height)
    return reader_of(scene.product).pixels(scene.product, resolution_m)


def _time_step(
    learning: LearningSettings, classes: int, names: Sequence[str], device: str
) -> tuple[float, int, str, str]:
    """Take a few steps on random crops; return the seconds of one, the number of parameters, device and precision."""
    import torch

    from floemap.learning.data.crops import Batch
    from floemap.learning.data.polygons import Polygons
    from floemap.learning.losses.tasks import reads_polygons, task_losses
    from floemap.learning.models.atrous import with_rates
    from floemap.learning.models.registry import build_model
    from floemap.learning.targets import heads_of
    from floemap.learning.training.distributed import make_fabric, precision_of
    from floemap.learning.training.step import BatchSums, train_step

    learning = with_rates(learning)
    fabric = make_fabric(device, learning.training.precision)
    side = learning.crops.side_px
    batch = learning.training.batch
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        torch.manual_seed(0)
        # Steps and units of layers do not change the time.
        own = PRODUCT_BANDS.names
        bands = BandSet(tuple(PRODUCT_BANDS[n] if n in own else assumed_band(n) for n in names))
        untrained = learning.model.model_copy(update={"encoder_weights": None, "start_from": None})
        model = build_model(untrained, heads_of(learning.tasks, classes), bands, crop_px=side)
        model.set_normalisation([-20.0] * len(bands), [5.0] * len(bands))
        stored = torch.randint(-3000, -1000, (batch, len(bands), side, side), dtype=torch.int16)
        labels = torch.randint(0, classes, (batch, side, side), dtype=torch.uint8)
        model.to(fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        losses = task_losses(learning, classes, [1] * classes)
        adam = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)
        network, optimizer = fabric.setup(BatchSums(model, losses), adam)
        network.train()
        given = Batch(stored, labels, Polygons.of_labels(labels, classes) if reads_polygons(learning) else None)
        times = []
        for _ in range(_STEPS):  # the first one also allocates memory and chooses algorithms
            began = time.perf_counter()
            t = learning.training
            train_step(network, optimizer, losses, given, fabric, t.clip_norm, t.accumulate).tolist()  # waits for it
            times.append(time.perf_counter() - began)
    return min(times), sum(p.numel() for p in model.parameters()), fabric.device.type, precision_of(fabric)
