"""What a training step costs with each loss, against one with cross-entropy in the same run.

    python benchmarks/losses.py [--device auto] [--batch 1] [--size 1000] [--repeats 5] [--polygons 60]

A step is forward, backward and update of the default model on crops of random numbers, with labels in blocks and, for
losses that read polygons, a chart of polygons of several types. Steps of all losses take turns. On a CPU the time is
that of the processor, summed over its cores, so that other work on the machine hardly counts; on a GPU it is the
clock's. The limit for losses that read polygons is 1.15.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from floemap.learning.data.crops import Batch
from floemap.learning.data.polygons import Polygons
from floemap.learning.losses import LOSSES, make_loss
from floemap.learning.models.registry import build_model
from floemap.learning.settings import LossSettings, ModelSettings
from floemap.learning.training.distributed import make_fabric, precision_of
from floemap.learning.training.loop import train_step

CLASSES = 6
LIMIT = 1.15


def random_batch(batch: int, size: int, polygons: int) -> Batch:
    """Noise in the bands; polygons are squares, of one type or of three, and labels their dominant type."""
    rng = np.random.default_rng(0)
    stored = torch.from_numpy(rng.integers(-3000, -1000, (batch, 3, size, size), np.int16))
    side = int(np.ceil(np.sqrt(polygons)))
    squares = 1 + np.arange(side**2).reshape(side, side) % polygons
    ids = np.kron(squares, np.ones((-(-size // side),) * 2, int))[:size, :size].astype(np.int16)
    shares = rng.dirichlet(np.full(CLASSES, 0.3), polygons + 1).astype(np.float32)
    shares[0] = 0
    dominant = np.concatenate([[255], shares[1:].argmax(axis=1)]).astype(np.uint8)
    pixels = np.bincount(ids.ravel(), minlength=polygons + 1).astype(np.float32)

    def each(array: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
        return torch.from_numpy(array)[None].repeat(batch, *(1 for _ in array.shape))

    tables = Polygons(each(ids), each(shares), each(shares > 0), each(pixels))
    return Batch(stored, each(dominant[ids]), tables)


def main() -> None:
    """Print a line for each loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--polygons", type=int, default=60)
    args = parser.parse_args()
    fabric = make_fabric(args.device, "auto")
    model = build_model(ModelSettings(), CLASSES)
    model.set_normalisation([-15, -26, 33], [2, 2, 2])
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=1e-5, fused=True))
    network.train()
    batch = random_batch(args.batch, args.size, args.polygons)
    clock = time.perf_counter if fabric.device.type == "cuda" else time.process_time
    losses = {name: make_loss(LossSettings(name=name), CLASSES) for name in LOSSES if name != "dice"}
    times: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(args.repeats + 1):
        for name, loss in losses.items():
            began = clock()
            train_step(network, optimizer, loss, batch, fabric, None).tolist()  # waits for it
            times[name].append(clock() - began)
    what = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else "CPU, processor time"
    print(f"a step of {args.batch} x {args.size}^2, {precision_of(fabric)}, {what}, {args.polygons} polygons a crop")
    base = statistics.median(times["cross_entropy"][1:])
    for name, loss in losses.items():
        took = statistics.median(times[name][1:])
        over = loss.reads_polygons and took > LIMIT * base
        print(f"  {name:<22}{took:8.3f} s   {took / base:5.2f} of cross-entropy{'   OVER THE LIMIT' if over else ''}")


if __name__ == "__main__":
    main()
