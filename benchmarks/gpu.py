"""What a GPU does with training and validation: is it right, how fast is it, and where does the time go.

    python benchmarks/gpu.py [--out FOLDER] [--small] [--only SECTION ...] [--without SECTION ...]

For a machine with a GPU that is borrowed for minutes: everything in one call of some six minutes, half of which are for
compiling. What is measured is written after each section to `gpu.json` and `gpu.md` in FOLDER. It imports no geospatial
library. `--small` runs all of it at a tiny size, on a processor too, to try the script.

Data are random numbers in the form of scenes, so that nothing is learnt: only times, memory and gradients are measured.
Times of steps are medians from the device's own events, without waiting between steps. The share of the peak is the
arithmetic of a step, three times the operations of the forward pass as torch counts them, over the rate of a bfloat16
matrix product in the same run. The time of nine trainings is an estimate: measured parts times how often each occurs,
without files, preparing, labelling, prediction of test scenes and report.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from training import CLASSES, arithmetic, seconds, simulated_part, wait

from floemap.learning.data.crops import Batch, PartTensors, ResidentCrops, deal, draw_epoch
from floemap.learning.data.parts import PartArrays
from floemap.learning.data.survey import survey_part
from floemap.learning.losses import make_loss
from floemap.learning.losses.tasks import TaskLosses
from floemap.learning.models.aspp import LocalMean
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.registry import build_model
from floemap.learning.models.upsampling import by_kernel, by_products
from floemap.learning.settings import CropSettings, LearningSettings, LossSettings, ModelSettings, TrainingSettings
from floemap.learning.training.compiling import compiled
from floemap.learning.training.device import exact_float32, for_patches
from floemap.learning.training.distributed import make_fabric
from floemap.learning.training.loggers import MetricLogger
from floemap.learning.training.loop import train
from floemap.learning.training.saving import snapshot
from floemap.learning.training.state import State, save_state
from floemap.learning.training.step import BatchSums, inputs_of, train_step
from floemap.learning.training.validation import validate
from floemap.legend import SIX_CLASSES

ROOT = Path(__file__).parents[1]
ABOUT = {"resolution_m": 80.0, "simulated": True}
WAITS = "waits.jsonl"
#: Seconds after which the tests are given up.
_TESTS_S = 240
#: A row of the table: what, its value, a note.
Row = tuple[str, str, str]


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    batch: int = 24
    crop: int = 1000
    steps: int = 20
    parts: int = 4
    part: int = 3000
    scene: int = 5300
    per_part: int = 48
    epochs: int = 4
    gradient: int = 256
    matrix: int = 8192
    backend: str = "inductor"


SMALL = Size(2, 96, 3, 2, 200, 400, 4, 2, 96, 512, "aot_eager")


class Waits(MetricLogger):
    """Writes how long each step waited for its crops."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        with (self.folder.parent / WAITS).open("a") as f:
            f.write(json.dumps(metrics["waited_s"]) + "\n")

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Nothing: metrics.jsonl has it."""


@dataclass
class Bench:
    """A run of the script: its size and device, and what was found so far."""

    size: Size
    device: torch.device
    found: dict[str, Any]

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def model(self, name: str = "resnet18_aspp", **settings: Any) -> SegmentationModel:
        torch.manual_seed(0)
        model = build_model(ModelSettings(name=name, **settings), CLASSES)
        model.set_normalisation([-15, -26, 33], [2, 2, 2])
        return model.to(self.device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]

    def batches(self, count: int) -> Iterator[Batch]:
        """Batches on the device, as training draws them."""
        size = self.size
        parts = [simulated_part(i, size.part) for i in range(size.parts)]
        surveys = [survey_part(p, size.crop, 0.5) for p in parts]
        settings = CropSettings(size_px=size.crop, per_scene=-(-count * size.batch // size.parts))
        crops = draw_epoch(surveys, settings, 0, 0)
        return ResidentCrops(parts, self.device).batches(deal(crops, size.batch)[:count])

    @contextmanager
    def peak(self, into: dict[str, Any]) -> Iterator[None]:
        """Measures the most memory that tensors take while the block runs."""
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        yield
        into["peak_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30 if self.on_gpu else None


# Sections: each puts numbers into `bench.found[name]` and returns rows of the table.


def machine(bench: Bench) -> list[Row]:
    """The card, and two limits of it: a large matrix product and a large copy."""
    n, device = bench.size.matrix, bench.device
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if bench.on_gpu else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
    for kind in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
        name = str(kind).removeprefix("torch.")
        found[f"{name}_tflops"] = 2 * n**3 / seconds(lambda a=a, b=b: a @ b, device, 5) / 1e12  # type: ignore[misc]
    source = torch.randn(n * n * 4, device=device)
    target = torch.empty_like(source)
    found["copy_gb_per_s"] = 2 * source.nbytes / seconds(lambda: target.copy_(source), device, 5) / 1e9
    bench.found["machine"] = found
    return [
        ("device", found["device"], f"torch {found['torch']}, Python {found['python']}, {found['cpus']} CPUs"),
        (f"bf16 matrix product of {n}^2", f"{found['bfloat16_tflops']:.3g} TFLOP/s", "the peak of this run"),
        (f"fp32 matrix product of {n}^2", f"{found['float32_tflops']:.3g} TFLOP/s", ""),
        ("copy on the device", f"{found['copy_gb_per_s']:.0f} GB/s", "read and written"),
    ]


def gpu_tests(bench: Bench) -> list[Row]:
    """The tests that need a GPU; on a processor they would only be skipped."""
    if not bench.on_gpu or importlib.util.find_spec("pytest") is None:
        bench.found["gpu_tests"] = None
        return [("pytest -m gpu", "not run", "needs a GPU and pytest")]
    # Warnings stay warnings: other versions of libraries have others.
    files = sorted(str(p) for p in (ROOT / "tests").glob("test_40_*.py"))
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-W", "default", "-p", "no:cacheprovider", *files]
    command += ["--show-capture=no", "-n", "8"] if importlib.util.find_spec("xdist") else ["--show-capture=no"]
    began = time.perf_counter()
    # Each process compiles with few more: together they have no more than there are cores.
    threads = {"TORCHINDUCTOR_COMPILE_THREADS": "2"}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | threads, capture_output=True, text=True, timeout=_TESTS_S)
    words = (done.stdout.strip().splitlines() or ["nothing was printed"])[-1]
    bench.found["gpu_tests"] = {"exit_code": done.returncode, "seconds": time.perf_counter() - began, "said": words}
    if done.returncode:
        print(done.stdout[-6000:], done.stderr[-2000:])
    return [("pytest -m gpu", "passed" if done.returncode == 0 else "FAILED", words)]


def relative(found: Tensor, exact: Tensor) -> float:
    return float((found.detach().double() - exact).norm() / exact.norm())


def pooling(bench: Bench) -> list[Row]:
    """Gradients of the mean over 2 x 2 cells in channels-last against float64: torch's padding, and LocalMean."""
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "avg_pool2d with padding": lambda x: functional.avg_pool2d(x, 2, 1, padding=1, count_include_pad=False),
        "LocalMean": LocalMean(),
    }
    x = torch.randn(4, 64, 31, 33, device=bench.device, dtype=torch.float64)
    found = {}
    for name, way in ways.items():
        errors = {}
        for kind in (torch.float32, torch.bfloat16):
            weights = torch.randn_like(way(x))
            exact = x.clone().requires_grad_()
            (way(exact) * weights).sum().backward()
            given = x.to(kind).contiguous(memory_format=torch.channels_last).requires_grad_()
            (way(given) * weights.to(kind)).sum().backward()
            errors[str(kind).removeprefix("torch.")] = relative(given.grad, exact.grad)
        found[name] = errors
    bench.found["pooling"] = found
    return [(f"gradient of {k}", f"{v['float32']:.1e}", f"in bf16 {v['bfloat16']:.1e}") for k, v in found.items()]


def gradients(bench: Bench) -> list[Row]:
    """Gradients of a step against float64, for three losses; of compiled code for one and in bf16, as it is used."""
    side = bench.size.gradient
    noise = simulated_part(0, 2 * side)
    whole = Batch(
        torch.from_numpy(noise.stored).reshape(3, 2, side, 2, side).permute(1, 3, 0, 2, 4).flatten(0, 1),
        torch.from_numpy(noise.labels).reshape(2, side, 2, side).permute(0, 2, 1, 3).flatten(0, 1),
    )
    given = inputs_of(whole, bench.device)
    rows: list[Row] = []
    found: dict[str, Any] = {}

    def of(network: nn.Module, losses: TaskLosses, kind: str) -> Tensor:
        network.zero_grad()
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=kind == "bf16"):
            sums = network(*given)
        losses.total(losses.values(sums)).backward()
        each = [x.grad for x in network.parameters()]
        zero[:] = [n for n, x in network.named_parameters() if x.grad is None or not x.grad.any()]
        return torch.cat([g.flatten().double() for g in each if g is not None])

    zero: list[str] = []
    for name in ("cross_entropy", "dice", "focal"):
        losses = TaskLosses.of(make_loss(LossSettings(name=name), CLASSES))
        model = bench.model(rates=(2, 4, 6), dropout=0.0)
        exact = of(BatchSums(copy.deepcopy(model).double(), losses), losses, "fp64")
        for way in ("eager", "compiled") if name == "dice" else ("eager",):  # the tests compile all losses
            network = BatchSums(model, losses)
            network = compiled(network, bench.size.backend) if way == "compiled" else network
            for kind in ("fp32", "bf16") if way == "eager" else ("bf16",):
                with exact_float32():
                    error = relative(of(network, losses, kind), exact)
                found[f"{name} {way} {kind}"] = {"relative_error": error, "zero": list(zero)}
                rows.append((f"gradients, {name}, {way}, {kind}", f"{error:.1e}", f"{len(zero)} weights with none"))
    bench.found["gradients"] = found
    return rows


def upsampling(bench: Bench) -> list[Row]:
    """Forward and backward of the upsampling of logits, in both ways."""
    cells = torch.randn(bench.size.batch, CLASSES, *[-(-bench.size.crop // 16)] * 2, device=bench.device)
    found = {}
    for name, way in (("torch's kernel", by_kernel), ("two products", by_products)):
        slopes = torch.randn_like(way(cells, 16))

        def both(way: Callable[[Tensor, int], Tensor] = way, slopes: Tensor = slopes) -> None:
            given = cells.detach().requires_grad_()
            way(given, 16).backward(slopes)

        found[name] = seconds(both, bench.device, 10)
    bench.found["upsampling"] = found
    shape = " x ".join(map(str, cells.shape))
    return [(f"upsampling {shape} by 16, {name}", f"{took * 1e3:.2f} ms", "") for name, took in found.items()]


def one_way(bench: Bench, compile_it: bool, steps: int) -> tuple[dict[str, Any], Callable[[Batch], Tensor]]:
    """Take steps in bf16; return their times and a function that takes one more."""
    size, fabric = bench.size, make_fabric(bench.device.type, "bf16")
    model = bench.model()
    losses = TaskLosses.of(make_loss(LossSettings(), CLASSES))
    adam = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
    sums = BatchSums(model, losses)
    network, optimizer = fabric.setup(compiled(sums, size.backend) if compile_it else sums, adam)

    def step(batch: Batch) -> Tensor:
        return train_step(network, optimizer, losses, batch, fabric, None)

    found: dict[str, Any] = {}
    with bench.peak(found), for_patches(bench.device, "bf16"):
        batches = list(bench.batches(steps + 3))
        began = time.perf_counter()
        step(batches[0]).tolist()
        found["first_step_s"] = time.perf_counter() - began
        for batch in batches[1:3]:
            step(batch)
        wait(bench.device)
        marks, host = [], []
        began = time.perf_counter()
        for batch in batches[3:]:
            marks.append(_mark(bench))
            asked = time.perf_counter()
            step(batch)
            host.append(time.perf_counter() - asked)
        marks.append(_mark(bench))
        wait(bench.device)
        found["mean_s"] = (time.perf_counter() - began) / steps
    found["step_s"] = statistics.median(_between(a, b) for a, b in pairwise(marks))
    found["host_s"] = host[0]  # nothing waits before the queue of kernels is full
    return found, step


def _mark(bench: Bench) -> Any:
    if not bench.on_gpu:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(first: Any, second: Any) -> float:
    return float(second - first if isinstance(first, float) else first.elapsed_time(second) / 1e3)


def step_times(bench: Bench) -> list[Row]:
    """Steps of a batch, eager and compiled, and the kernels of the compiled one."""
    size = bench.size
    flops = 3 * size.batch * arithmetic(bench.model(), size.crop)
    peak = bench.found["machine"]["bfloat16_tflops"] * 1e12
    rows: list[Row] = []
    found: dict[str, Any] = {"arithmetic_tflop": flops / 1e12}
    for way in ("eager", "compiled"):
        one, step = one_way(bench, way == "compiled", size.steps)
        one["share_of_peak"] = flops / one["step_s"] / peak
        one["crops_per_s"] = size.batch / one["step_s"]
        found[way] = one
        if bench.on_gpu:
            one["kernels"] = kernels(bench, step)
        name = f"step of {size.batch} x {size.crop}^2, bf16, {way}"
        memory = "" if one["peak_gib"] is None else f", {one['peak_gib']:.1f} GiB"
        note = f"{one['crops_per_s']:.0f} crops/s, {one['share_of_peak']:.1%} of the peak{memory}"
        note += f"; the first {one['first_step_s']:.1f} s; started in {one['host_s'] * 1e3:.1f} ms"
        rows.append((name, f"{one['step_s'] * 1e3:.1f} ms", note))
    bench.found["steps"] = found
    for way in ("eager", "compiled"):
        for kernel in found[way].get("kernels", [])[:15]:
            rows.append(
                (f"  {way}: {kernel['name'][:70]}", f"{kernel['ms']:.2f} ms", f"{kernel['calls']:.0f} calls a step")
            )
    return rows


def kernels(bench: Bench, step: Callable[[Batch], Tensor], steps: int = 3) -> list[dict[str, Any]]:
    """Time of each kernel in a step, the longest first."""
    batches = list(bench.batches(steps + 1))
    step(batches[0])
    wait(bench.device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for batch in batches[1:]:
            step(batch)
        wait(bench.device)
    found = [
        {"name": e.key, "ms": e.self_device_time_total / steps / 1e3, "calls": e.count / steps}
        for e in profile.key_averages()
        if e.self_device_time_total > 0
    ]
    return sorted(found, key=lambda k: -k["ms"])


def epochs(bench: Bench) -> list[Row]:
    """A training by floemap's own loop: epochs, waiting for crops, validation of one large scene, calibration."""
    size = bench.size
    parts = [simulated_part(i, size.part) for i in range(size.parts)]
    held = [simulated_part(99, size.scene)]
    rows: list[Row] = []
    found: dict[str, Any] = {}
    for way in ("eager", "compiled") if bench.on_gpu else ("eager",):
        settings = LearningSettings(
            crops=CropSettings(size_px=size.crop, per_scene=size.per_part),
            training=TrainingSettings(
                batch=size.batch,
                precision="bf16",
                max_epochs=size.epochs,
                compile=way == "compiled",
                loggers=("gpu:Waits",),
            ),
        )
        one: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder, bench.peak(one):
            began = time.perf_counter()
            out = Path(folder) / "run"
            done = train(parts, held, settings, SIX_CLASSES, out, about=ABOUT, device=bench.device.type)
            one["whole_s"] = time.perf_counter() - began
            waits = [json.loads(line) for line in (Path(folder) / WAITS).read_text().splitlines()]
        one["epochs"] = [dict(row) for row in done.history]
        one["steps"] = len(waits) // size.epochs
        one["waited_ms"] = statistics.median(waits) * 1e3
        found[way] = one
        took = [row["seconds"] for row in done.history]
        one["first_epoch_s"], one["later_epoch_s"] = took[0], statistics.median(took[1:])
        one["around_s"] = one["whole_s"] - sum(took)
        crops = size.parts * size.per_part
        name = f"epoch of {crops} crops and validation, {way}"
        memory = "" if one["peak_gib"] is None else f", {one['peak_gib']:.1f} GiB"
        note = f"the first {took[0]:.2f} s; a step waited {one['waited_ms']:.2f} ms for its crops{memory}"
        rows.append((name, f"{one['later_epoch_s']:.2f} s", note))
        rows.append(
            (f"  before and after the epochs, {way}", f"{one['around_s']:.2f} s", "survey, model, calibration, record")
        )
    bench.found["epochs"] = found
    return rows


def validation(bench: Bench) -> list[Row]:
    """Validation of one whole scene in fp32."""
    part: PartArrays = simulated_part(99, bench.size.scene)
    losses = TaskLosses.of(make_loss(LossSettings(), CLASSES))
    model, fabric = bench.model(), make_fabric(bench.device.type, "fp32")
    found: dict[str, Any] = {}
    with bench.peak(found):
        resident = [PartTensors.of(part, bench.device)]
        found["seconds"] = seconds(lambda: validate(model, losses, [part], fabric, resident=resident), bench.device, 5)
        found["from_main_memory_s"] = seconds(lambda: validate(model, losses, [part], fabric), bench.device, 3)
    megapixels = part.labels.size / 1e6
    found["megapixels"] = megapixels
    bench.found["validation"] = found
    memory = "" if found["peak_gib"] is None else f"{found['peak_gib']:.1f} GiB"
    note = f"{memory}; the scene on the device; {found['from_main_memory_s']:.3f} s from main memory"
    return [(f"validation of {megapixels:.1f} Mpx, fp32", f"{found['seconds']:.3f} s", note)]


def saving(bench: Bench) -> list[Row]:
    """Saving the state after an epoch: how long it takes."""
    model = bench.model()
    adam = torch.optim.Adam(model.parameters(), lr=1e-5, fused=True)
    sum(p.sum() for p in model.parameters()).backward()  # type: ignore[union-attr]
    adam.step()
    row = {
        "epoch": 1,
        "loss": 1.0,
        "learning_rate": 1e-5,
        "seconds": 1.0,
        "validation_loss": 1.0,
        "weighted_f1": 0.5,
        "macro_f1": 0.5,
    }

    with tempfile.TemporaryDirectory() as folder:

        def copied() -> State:
            weights = {name: x.detach().cpu().clone() for name, x in model.state_dict().items()}
            return snapshot(State({}, {}, [row], weights, weights, adam.state_dict()))

        stall = seconds(copied, bench.device, 5)
        took = seconds(lambda: save_state(Path(folder) / "state.pt", copied()), bench.device, 3)
        size = (Path(folder) / "state.pt").stat().st_size / 1e6
    bench.found["saving"] = {"seconds": took, "stall_s": stall if bench.on_gpu else took, "mb": size}
    note = f"{size:.0f} MB; a GPU waits for the copy only, {stall * 1e3:.0f} ms"
    return [("saving the state", f"{took * 1e3:.0f} ms", note)]


def estimate(bench: Bench) -> list[Row]:
    """Time of the nine trainings of twin.toml and paper.toml's size, from measured parts."""
    config = tomllib.loads((ROOT / "configs/twin.toml").read_text())
    t = config["training"]
    parts, halves = 10, 4  # published split: six whole scenes and four halves to train, four halves to validate
    steps = parts * config["crops"]["per_scene"] // t["batch"]
    runs = len(config["compare"]["losses"]) * config["compare"]["repeats"]
    of = bench.found
    way = "compiled" if "compiled" in of["epochs"] else "eager"
    step = of["steps"][way]["step_s"]
    megapixels = of["validation"]["megapixels"]
    epoch = steps * step + halves * 14 / megapixels * of["validation"]["seconds"] + of["saving"]["stall_s"]
    start = of["epochs"][way]["first_epoch_s"] - of["epochs"][way]["later_epoch_s"] + of["epochs"][way]["around_s"]
    least, most = (runs * (start + n * epoch) for n in (t["stop_after"] + 1, t["max_epochs"]))
    bench.found["estimate"] = {
        "steps": steps,
        "epoch_s": epoch,
        "start_s": start,
        "runs": runs,
        "least_s": least,
        "most_s": most,
    }
    note = f"{runs} x ({start:.0f} s + epochs x ({steps} steps x {step * 1e3:.0f} ms + validation + saving)); {way}"
    return [
        (f"ESTIMATE: {runs} trainings, {t['max_epochs']} epochs each", f"{most / 60:.1f} min", note),
        (
            f"ESTIMATE: the same, {t['stop_after'] + 1} epochs each",
            f"{least / 60:.1f} min",
            "the fewest: the first was the best",
        ),
    ]


SECTIONS: dict[str, Callable[[Bench], list[Row]]] = {
    "machine": machine,
    "pooling": pooling,
    "upsampling": upsampling,
    "steps": step_times,
    "validation": validation,
    "saving": saving,
    "epochs": epochs,
    "estimate": estimate,
    "gradients": gradients,
    "gpu_tests": gpu_tests,
}


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    lines = ["| what | value | note |", "| --- | --- | --- |"]
    return "\n".join(lines + ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for gpu.json and gpu.md")
    parser.add_argument("--small", action="store_true", help="a tiny size, to try the script, on a processor too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--without", nargs="*", choices=SECTIONS, default=[])
    args = parser.parse_args()
    if args.device == "cpu" and not args.small:
        parser.error("there is no GPU; --small tries the script on a processor")
    bench = Bench(SMALL if args.small else Size(), torch.device(args.device), {"seconds": {}, "failed": {}})
    rows: list[Row] = []
    began = time.perf_counter()
    for name in args.only:
        if name in args.without:
            continue
        at = time.perf_counter()
        try:
            new = SECTIONS[name](bench)
        except Exception as e:  # what else can be measured on a borrowed machine is
            new = [(name, "FAILED", f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:300])]
            bench.found["failed"][name] = repr(e)[:2000]
        bench.found["seconds"][name] = time.perf_counter() - at
        rows += new
        for row in new:
            print(f"{row[0]:<72} {row[1]:>14}  {row[2]}", flush=True)
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / "gpu.json").write_text(json.dumps(bench.found, indent=1))
            (args.out / "gpu.md").write_text(table(rows))
    print(
        f"{time.perf_counter() - began:.0f} s in all: "
        + ", ".join(f"{k} {v:.0f}" for k, v in bench.found["seconds"].items())
    )
    if bench.found["failed"]:
        sys.exit(f"failed: {', '.join(bench.found['failed'])}")


if __name__ == "__main__":
    main()
