"""What a training step costs with each loss, against one with cross-entropy in the same run.

    python benchmarks/losses.py [--device auto] [--batch 1] [--size 1000] [--repeats 5] [--polygons 60]

A step is forward, backward and update of the default model on crops of random numbers, with labels in blocks and, for
losses that read polygons, a chart of polygons of several types. Each loss is measured alone, value and gradient of the
logits, and takes the place of cross-entropy in the step. On a CPU the time is that of the processor, summed over its
cores, so that other work on the machine hardly counts; on a GPU it is the clock's. Times are medians. The limit for
losses that read polygons is 1.15.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from floemap.learning.data.crops import Batch
from floemap.learning.data.polygons import Polygons
from floemap.learning.losses import LOSSES, make_loss
from floemap.learning.losses.tasks import TaskLosses
from floemap.learning.models.registry import build_model
from floemap.learning.settings import LossSettings, ModelSettings
from floemap.learning.training.distributed import make_fabric, precision_of
from floemap.learning.training.step import BatchSums, train_step

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
    losses = TaskLosses.of(make_loss(LossSettings(), CLASSES))
    adam = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
    network, optimizer = fabric.setup(BatchSums(model, losses), adam)
    network.train()
    batch = random_batch(args.batch, args.size, args.polygons)
    step = timed(
        lambda: train_step(network, optimizer, losses, batch, fabric, None).tolist(), fabric.device, args.repeats
    )
    what = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else "CPU, processor time"
    print(f"{args.batch} x {args.size}^2, {precision_of(fabric)}, {what}, {args.polygons} polygons a crop")
    print(f"  a step with cross-entropy: {step:.3f} s")
    alone = {name: alone_time(name, batch, fabric.device, args.repeats) for name in LOSSES if name != "dice"}
    for name, took in alone.items():
        ratio = (step - alone["cross_entropy"] + took) / step
        over = LOSSES[name].reads_polygons and ratio > LIMIT
        note = "   OVER THE LIMIT" if over else ""
        print(f"  {name:<20}{took:8.3f} s alone   step {ratio:5.3f} of cross-entropy's{note}")


def alone_time(name: str, batch: Batch, device: torch.device, repeats: int) -> float:
    """Return the median time of a loss and its gradient, for logits in float32."""
    loss = make_loss(LossSettings(name=name), CLASSES)
    labels = batch.labels.to(device)
    polygons = None if batch.polygons is None else batch.polygons.to(device)
    logits = torch.randn(len(labels), CLASSES, *labels.shape[1:], device=device, requires_grad=True)

    def work() -> None:
        logits.grad = None
        loss(logits, labels, polygons).backward()

    return timed(work, device, repeats)


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median time of some work, after once that does not count."""
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    times = []
    for _ in range(repeats + 1):
        began = clock()
        work()
        if on_gpu:
            torch.cuda.synchronize(device)
        times.append(clock() - began)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
