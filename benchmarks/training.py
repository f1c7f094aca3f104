"""How long a training step takes, against the model's arithmetic at the machine's own measured rate; crops per second.

    python benchmarks/training.py [--device auto] [--batch N] [--size 1000] [--repeats 5] [--model resnet18_aspp]
                                  [--compile] [--epoch 1000] [--sources-only]

The limit: three times the floating-point operations of the forward pass, counted by torch, over the best rate that a
large matrix product or a 3 x 3 convolution reaches here in the same precision, in the same run. Times are medians.
Crops come from random numbers in the form of scenes; the streamed source reads COGs that are written first, and is left
out where no geospatial library is installed. With a GPU: also compiled, its peak memory, and a whole epoch.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from floemap.learning.data.crops import Crop, CropSource, ResidentCrops, StreamedCrops, deal, draw_epoch, physical
from floemap.learning.data.parts import PartArrays, ScenePart
from floemap.learning.data.survey import Survey, survey_part
from floemap.learning.losses import make_loss
from floemap.learning.losses.tasks import TaskLosses
from floemap.learning.models.atrous import ATROUS_MODELS, trainable_rates
from floemap.learning.models.registry import build_model
from floemap.learning.settings import CropSettings, LossSettings, ModelSettings
from floemap.learning.training.compiling import compiled as compiled_view
from floemap.learning.training.distributed import make_fabric, precision_of
from floemap.learning.training.step import BatchSums, train_step

CLASSES = 6


def simulated_part(number: int, side: int) -> PartArrays:
    """Noise around usual values; classes in blocks of 100 pixels, a tenth without label."""
    rng = np.random.default_rng(number)
    stored = rng.integers(-300, 300, (3, side, side), np.int16)
    stored += np.array([-1500, -2600, 3300], np.int16)[:, None, None]
    blocks = rng.choice([0, 1, 2, 3, 4, 5, 5, 5, 5, 255], (-(-side // 100),) * 2).astype(np.uint8)
    return PartArrays(f"part {number}", stored, np.kron(blocks, np.ones((100, 100), np.uint8))[:side, :side])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def matrix_rate(device: torch.device, dtype: torch.dtype, repeats: int) -> tuple[float, str]:
    """Floating-point operations per second of the faster of a matrix product and a convolution, and which it was."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    rates = {f"matrix product of {n}^2": 2 * n**3 / seconds(lambda: a @ b, device, repeats)}
    side = 512 if device.type == "cuda" else 128
    conv = nn.Conv2d(256, 256, 3, padding=1, bias=False).to(device, dtype).to(memory_format=torch.channels_last)
    x = torch.randn(1, 256, side, side, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        took = seconds(lambda: conv(x), device, repeats)
    rates[f"3 x 3 convolution of 256 channels, {side}^2"] = 2 * 9 * 256 * 256 * side**2 / took
    best = max(rates, key=lambda k: rates[k])
    return rates[best], best


def arithmetic(model: nn.Module, size: int) -> float:
    """Floating-point operations of one crop, forward."""
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(torch.zeros(1, 3, size, size, device=next(model.parameters()).device))
    return float(forward.get_total_flops())


def show(name: str, value: str, note: str = "") -> None:
    print(f"  {name:<44} {value:>14}   {note}")


def step_times(
    args: argparse.Namespace, fabric: Fabric, source: CropSource, crops: Sequence[Crop], compiled: bool
) -> tuple[float, nn.Module]:
    """Median time of a step of `args.batch` crops, the drawing of crops included, and the model."""
    torch.manual_seed(0)
    rates = trainable_rates(CropSettings(size_px=args.size)) if args.model in ATROUS_MODELS else None  # as in trainings
    model = build_model(ModelSettings(name=args.model, rates=rates), CLASSES).to(fabric.device)
    model.set_normalisation([-15, -26, 33], [2, 2, 2])
    model.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
    losses = TaskLosses.of(make_loss(LossSettings(), CLASSES))
    sums = BatchSums(model, losses)
    network, optimizer = fabric.setup(compiled_view(sums) if compiled else sums, adam)
    network.train()
    batches = deal(crops, args.batch)[: args.repeats + 3]
    times = []
    began = time.perf_counter()
    for batch in source.batches(batches):
        train_step(network, optimizer, losses, batch, fabric, None)
        wait(fabric.device)
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
    return statistics.median(times[2:]), model  # the first two are larger: they allocate


def crops_per_second(source: CropSource, batches: Sequence[Sequence[Crop]], device: torch.device) -> float:
    """Of a source that is warm, converted to the network's input on the device."""
    given: Iterator[Any] = source.batches([*batches[:1], *batches])
    physical(next(given)[0].to(device))
    wait(device)
    began = time.perf_counter()
    for stored, labels, _ in given:
        physical(stored.to(device))
        labels.to(device)
    wait(device)
    return sum(len(b) for b in batches) / (time.perf_counter() - began)


def report_steps(args: argparse.Namespace, parts: Sequence[PartArrays], surveys: Sequence[Survey]) -> float:
    """Print times of steps against the limit; return crops per second of the fastest."""
    settings = CropSettings(size_px=args.size, per_scene=-(-(args.repeats + 3) * args.batch // len(parts)))
    crops = draw_epoch(surveys, settings, 0, 0)
    fastest = 0.0
    for precision in ("fp32", "bf16"):
        fabric = make_fabric(args.device, precision)
        on_gpu = fabric.device.type == "cuda"
        dtype = torch.bfloat16 if precision_of(fabric) == "bf16" else torch.float32
        rate, what = matrix_rate(fabric.device, dtype, args.repeats)
        print(f"\n{precision} on {fabric.device}, limit {rate / 1e12:.3g} TFLOP/s ({what})")
        source = ResidentCrops(parts, fabric.device)
        for compiled in (False, True) if args.compile and on_gpu else (False,):
            if on_gpu:
                torch.backends.cudnn.benchmark = True
                torch.cuda.reset_peak_memory_stats(fabric.device)
            took, model = step_times(args, fabric, source, crops, compiled)
            forward = arithmetic(model, args.size)
            limit = args.batch * 3 * forward / rate  # backward: by inputs and by weights
            if not compiled:
                megapixels = args.size**2 / 1e6
                show(
                    "arithmetic, forward",
                    f"{forward / 1e9 / megapixels:.1f} GFLOP",
                    "a megapixel; a step has 3 times as much",
                )
            name = f"step of {args.batch} x {args.size}^2" + (", compiled" if compiled else "")
            show(name, f"{took:.3f} s", f"{took / limit:.2f} x the limit; {limit / took:.0%} of the rate")
            show("crops", f"{args.batch / took:.2f} /s", f"{1 / took:.2f} steps/s")
            if on_gpu:
                peak = torch.cuda.max_memory_allocated(fabric.device) / 2**30
                show("peak memory", f"{peak:.2f} GiB", "scenes on the GPU included")
                show(f"epoch of {args.epoch} crops", f"{args.epoch / args.batch * took:.1f} s", "without validation")
            fastest = max(fastest, args.batch / took)
    return fastest


def write_parts(parts: Sequence[PartArrays], folder: Path) -> list[ScenePart]:
    """Write parts as `floemap prepare` and `floemap label` do."""
    from odc.geo.geobox import GeoBox

    from floemap.cog import Band, write_cog
    from floemap.sentinel1.bands import BANDS
    from floemap.sentinel1.encoding import NODATA

    written = []
    for i, part in enumerate(parts):
        rows, cols = part.labels.shape
        geobox = GeoBox.from_bbox((0, 0, cols * 80, rows * 80), "EPSG:3413", shape=(rows, cols))
        product, labels = folder / f"{i}_product.tif", folder / f"{i}_labels.tif"
        bands = np.concatenate([part.stored, np.ones((1, rows, cols), np.int16)])
        write_cog(product, geobox, bands, BANDS, nodata=NODATA)
        write_cog(labels, geobox, part.labels, [Band("ice_type", overview="mode")], nodata=255)
        written.append(ScenePart(part.name, product, labels))
    return written


def report_sources(
    args: argparse.Namespace, parts: Sequence[PartArrays], surveys: Sequence[Survey], eaten: float
) -> None:
    """Print crops per second of each source, against those that the fastest step eats."""
    device = make_fabric(args.device, "fp32").device
    settings = CropSettings(size_px=args.size, per_scene=max(8, 64 // len(parts)))
    batches = deal(draw_epoch(surveys, settings, 0, 0), 4)
    print(f"\ncrops of {args.size}^2 as the network's input on {device}" + (", against the step" if eaten else ""))

    def line(name: str, rate: float) -> None:
        show(name, f"{rate:.1f} /s", f"{rate / eaten:.1f} x what the step eats" if eaten else "")

    line("resident, in memory", crops_per_second(ResidentCrops(parts), batches, device))
    if device.type == "cuda":
        line("resident, on the GPU", crops_per_second(ResidentCrops(parts, device), batches, device))
    if importlib.util.find_spec("rasterio") is None or importlib.util.find_spec("odc") is None:
        print("  streamed: no geospatial library here")
        return
    with tempfile.TemporaryDirectory() as folder:
        files = write_parts(parts, Path(folder))
        for workers in (0, *args.workers):
            streamed = StreamedCrops(files, workers, pin=device.type == "cuda")
            line(f"streamed, {workers} processes", crops_per_second(streamed, batches, device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, help="crops in a step; default 24 on a GPU, 1 on a CPU")
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", default="resnet18_aspp")
    parser.add_argument("--parts", type=int, default=4, help="simulated scenes")
    parser.add_argument("--side", type=int, default=3000, help="of a simulated scene, pixels")
    parser.add_argument("--compile", action="store_true", help="also compiled, on a GPU")
    parser.add_argument("--epoch", type=int, default=1000, help="crops of an epoch")
    parser.add_argument("--workers", type=int, nargs="*", default=[2], help="processes of the streamed source")
    parser.add_argument("--sources-only", action="store_true")
    args = parser.parse_args()
    on_gpu = args.device.startswith("cuda") or (args.device == "auto" and torch.cuda.is_available())
    args.batch = args.batch or (24 if on_gpu else 1)
    where = torch.cuda.get_device_name() if on_gpu else f"no GPU used: CPU, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {where}; {args.model}")

    parts = [simulated_part(i, args.side) for i in range(args.parts)]
    began = time.perf_counter()
    surveys = [survey_part(p, args.size, 0.5) for p in parts]
    megapixels = sum(p.labels.size for p in parts) / 1e6
    show("looking through parts before training", f"{(time.perf_counter() - began) / megapixels:.4f} s", "a megapixel")
    eaten = 0.0 if args.sources_only else report_steps(args, parts, surveys)
    report_sources(args, parts, surveys, eaten)


if __name__ == "__main__":
    main()
