"""What predicting a whole scene costs, against a plain eager float32 pass over it in one piece.

    python benchmarks/prediction.py [--rows 6600] [--cols 6500] [--model CHECKPOINT] [--runs 3] [--device auto]

The scene is synthesised: noise in a turned footprint that fills two thirds of the grid, as a product turned into polar
stereographic does. Without --model, the weights are random; the model's shape is the real one. Each line is a fresh
process, the best of --runs (what disturbs them only adds; the load is printed). Seconds are of the work, from opening
the product to the last file closed, without starting Python; peak memory is the largest resident set of the process.
The plain pass reads the product and keeps classes and probabilities in memory; it writes nothing.

The limit is the model's arithmetic over the pixels with data, counted by torch, at the best rate that a large
convolution reaches here in the same run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TARGET_RATIO, TARGET_GIB = 2.0, 2.0  # times the arithmetic, files included
PIXEL_M = 80.0


# What runs in processes of its own: only it imports torch


def synthesise(path: Path, rows: int, cols: int) -> None:
    """Write a prepared product of speckle on slow changes, with a footprint turned by 14 degrees."""
    import cv2
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from floemap.cog import STRIP_ROWS, CogWriter
    from floemap.sentinel1.bands import BANDS
    from floemap.sentinel1.encoding import NODATA

    rng = np.random.default_rng(0)
    slow = [
        cv2.resize(rng.normal(0, 300, (rows // 100 + 2, cols // 100 + 2)).astype(np.float32), (cols, rows))
        for _ in range(2)
    ]
    angle = np.deg2rad(14)
    x = np.arange(cols, dtype=np.float32)[None] - cols / 2
    box = GeoBox((rows, cols), Affine(PIXEL_M, 0, -300_000, 0, -PIXEL_M, -900_000), "EPSG:3413")
    path.parent.mkdir(parents=True)
    with CogWriter(path, box, BANDS, dtype="int16", nodata=NODATA, tags={"simulated": "yes"}) as cog:
        for row in range(0, rows, STRIP_ROWS):
            y = np.arange(row, min(row + STRIP_ROWS, rows), dtype=np.float32)[:, None] - rows / 2
            along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            strip = np.empty((4, len(y), cols), np.int16)
            for band, (mean, field) in enumerate(zip((-1500, -2600), slow, strict=True)):
                strip[band] = rng.normal(mean, 80, strip.shape[1:]) + field[row : row + len(y)]
            strip[2] = 3200 + 2500 * along / cols
            strip[3] = 1
            outside = (np.abs(along) > 0.404 * cols) | (np.abs(across) > 0.404 * rows)
            strip[:3, outside], strip[3, outside] = NODATA, 0
            cog.write(strip)


def make_model(path: Path) -> None:
    """Write a checkpoint of the default model with random weights, none of whose classes wins everywhere."""
    import torch

    from floemap.learning.models.checkpoint import save_checkpoint
    from floemap.learning.models.registry import build_model
    from floemap.learning.settings import ModelSettings

    torch.manual_seed(0)
    mean = torch.tensor([-15.0, -26.0, 32.0])
    model = build_model(ModelSettings(), 6).eval()
    model.set_normalisation(mean.tolist(), [4, 4, 7])
    with torch.no_grad():
        logits = model(mean.reshape(1, 3, 1, 1) + 4 * torch.randn(1, 3, 512, 512))
        last = model.decoder.classifier
        last.weight *= 3 / logits.std()
        last.bias -= 3 * logits.mean(dim=(0, 2, 3)) / logits.std()
    save_checkpoint(path, model, {"legend": "six_classes", "resolution_m": PIXEL_M, "simulated": True})


def plain(product: Path, checkpoint: Path, folder: Path, device: str) -> dict[str, Any]:
    """One pass of the model as it is over the whole scene."""
    import rasterio
    import torch

    from floemap.learning.data.crops import physical
    from floemap.learning.models.checkpoint import load_checkpoint

    model = load_checkpoint(checkpoint, device).model
    began = time.perf_counter()
    with rasterio.open(product) as d, torch.no_grad():
        x = physical(torch.from_numpy(d.read([1, 2, 3])).to(device))[None]
        probabilities = model(x)[0].softmax(dim=0)
        classes = probabilities.argmax(dim=0).to(torch.uint8).cpu().numpy()
    seconds = time.perf_counter() - began
    np.save(folder / "plain.npy", classes)
    return {"seconds": seconds} | gpu_memory(device)


def ours(product: Path, checkpoint: Path, folder: Path, device: str, options: dict[str, Any]) -> dict[str, Any]:
    """Predict into files; compare the classes with those of the plain pass."""
    import rasterio

    from floemap.inference.predict.predict import predict

    began = time.perf_counter()
    made = predict(product, checkpoint, folder / "out", device=device, overwrite=True, **options)
    seconds = time.perf_counter() - began
    with rasterio.open(made.classes) as d:
        classes = d.read(1)
    told: dict[str, Any] = {"seconds": seconds, "computed": json.loads(made.record.read_text())["computed"]}
    if (folder / "plain.npy").exists():
        valid = classes != 255
        told["same"] = float((np.load(folder / "plain.npy")[valid] == classes[valid]).mean())
    told["bytes"] = {f.name: f.stat().st_size for f in made.folder.iterdir()}
    return told | gpu_memory(device)


def parts(product: Path, checkpoint: Path, folder: Path, device: str) -> dict[str, Any]:
    """Take apart what :func:`ours` does: each part alone, in seconds."""
    import rasterio

    from floemap.cog import CogWriter, read_geobox
    from floemap.inference.predict.engines import make_network
    from floemap.inference.predict.scene_maps import class_band, probability_bands
    from floemap.inference.predict.strips import predicted_strips
    from floemap.learning.models.checkpoint import load_checkpoint
    from floemap.learning.whole_scene.logits import SceneLogits, array_reader

    loaded = load_checkpoint(checkpoint)
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - began
        return result

    box = read_geobox(product)
    with rasterio.open(product) as d:
        stored = timed(
            "reading the product, one thread",
            lambda: np.concatenate(
                [
                    d.read([1, 2, 3], window=((r, min(r + 512, d.height)), (0, d.width)))
                    for r in range(0, d.height, 512)
                ],
                axis=1,
            ),
        )
    network, _ = timed("making the network ready", lambda: make_network(loaded.model, device=device))
    with SceneLogits(network, array_reader(stored), stored.shape[1:]) as scene:
        timed("the network, from memory", scene.finish)
        strips = timed("interpolation, softmax, classes", lambda: list(predicted_strips([scene])))

    def write(name: str, bands: Any, arrays: Any) -> None:
        with CogWriter(folder / name, box, bands, dtype="uint8", nodata=255) as cog:
            for array in arrays:
                cog.write(array)

    legend = loaded.legend
    timed("writing classes.tif", lambda: write("c.tif", [class_band(legend)], (s.classes[None] for s in strips)))
    timed(
        "writing probabilities.tif",
        lambda: write("p.tif", probability_bands(legend), (s.probabilities for s in strips)),
    )
    return {"parts": seconds}


def limit(checkpoint: Path, device: str) -> dict[str, Any]:
    """Operations per pixel of the model, and operations per second of a convolution, in the precision of auto."""
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from floemap.inference.predict.engines import choose_device
    from floemap.learning.models.checkpoint import load_checkpoint
    from floemap.learning.whole_scene.pieces import choose_precision

    model = load_checkpoint(checkpoint).model
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 1024, 1024))
    where = choose_device(device)
    dtype = torch.bfloat16 if choose_precision("auto", where) == "bf16" else torch.float32
    side = 512 if where.type == "cuda" else 128
    conv = nn.Conv2d(256, 256, 3, padding=1, bias=False).to(where, dtype).to(memory_format=torch.channels_last)
    x = torch.randn(1, 256, side, side, device=where).to(dtype).contiguous(memory_format=torch.channels_last)
    best = np.inf
    with torch.no_grad():
        for _ in range(20):
            began = time.perf_counter()
            float(conv(x)[0, 0, 0, 0])  # waits for a GPU
            best = min(best, time.perf_counter() - began)
    return {
        "per_pixel": counter.get_total_flops() / 1024**2,
        "per_second": 2 * 9 * 256 * 256 * side**2 / best,
        "dtype": str(dtype).removeprefix("torch."),
    }


def gpu_memory(device: str) -> dict[str, float]:
    import torch

    on_gpu = device != "cpu" and torch.cuda.is_available()
    return {"gpu_gib": torch.cuda.max_memory_allocated() / 2**30} if on_gpu else {}


def work(task: dict[str, Any]) -> None:
    """Do one task in this process, and print what came of it."""
    files = Path(task["product"]), Path(task["checkpoint"])
    folder, device = Path(task["folder"]), task["device"]
    told: dict[str, Any]
    match task["what"]:
        case "synthesise":
            synthesise(files[0], *task["shape"])
            told = {}
        case "model":
            make_model(files[1])
            told = {}
        case "plain":
            told = plain(*files, folder, device)
        case "ours":
            told = ours(*files, folder, device, task["options"])
        case "parts":
            told = parts(*files, folder, device)
        case _:
            told = limit(files[1], device)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps(told | {"gib": int(peak.split()[1]) / 2**20}))


# What starts them


def fresh(task: dict[str, Any]) -> dict[str, Any]:
    """Do a task in a fresh process."""
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {task['what']} ended with {done.returncode}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6600)
    parser.add_argument("--cols", type=int, default=6500)
    parser.add_argument("--model", type=Path, help="a trained model instead of random weights")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-plain", action="store_true", help="leave the plain pass out, which takes some 12 GiB")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        work(json.loads(args.task))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task: dict[str, Any] = {
            "product": str(folder / "scene" / "product.tif"),
            "checkpoint": str(args.model or folder / "random.safetensors"),
            "folder": name,
            "shape": (args.rows, args.cols),
        }
        fresh(task | {"what": "synthesise", "device": "cpu"})
        if args.model is None:
            fresh(task | {"what": "model", "device": "cpu"})
        device = resolved(args.device)
        print(f"{args.rows} x {args.cols} px on {device}, load {os.getloadavg()[0]:.1f}")
        measure(task | {"device": device}, args.runs, not args.no_plain)


def resolved(device: str) -> str:
    from floemap.inference.predict.engines import choose_device

    return str(choose_device(device))


def measure(task: dict[str, Any], runs: int, with_plain: bool) -> None:
    def best(**more: Any) -> dict[str, Any]:
        found = [fresh(task | more) for _ in range(runs)]
        return min(found, key=lambda f: f["seconds"])

    cases: dict[str, dict[str, Any]] = {
        "floemap predict": {},
        "  without probabilities": {"probabilities": False},
        "  in fp32": {"precision": "fp32"},
    }
    if importlib.util.find_spec("openvino") is not None and task["device"] == "cpu":
        cases |= {"  by OpenVINO": {"engine": "openvino"}}
    base = best(what="plain") if with_plain else None
    print(f"\n{'':34}{'s':>8}{'GiB':>8}{'x time':>9}{'x memory':>10}{'classes as plain':>18}")

    def line(label: str, found: dict[str, Any]) -> None:
        ratios = "" if base is None else f"{found['seconds'] / base['seconds']:9.2f}{found['gib'] / base['gib']:10.2f}"
        same = f"{found['same']:18.4%}" if "same" in found else ""
        gpu = f"  GPU {found['gpu_gib']:.2f} GiB" if "gpu_gib" in found else ""
        print(f"{label:34}{found['seconds']:8.2f}{found['gib']:8.2f}{ratios}{same}{gpu}", flush=True)

    if base is not None:
        line("plain eager fp32 pass, no files", base)
    results = {}
    for label, options in cases.items():
        results[label] = best(what="ours", options=options)
        line(label, results[label])
    ours_ = results["floemap predict"]
    print(f"target {TARGET_GIB:g} GiB: {ours_['gib']:.2f}, {'met' if ours_['gib'] <= TARGET_GIB else 'MISSED'}")
    print(", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in sorted(ours_["bytes"].items()) if k.endswith(".tif")))

    told = fresh(task | {"what": "parts"})["parts"]
    print(f"\n{'Parts, each alone':40}{'s':>8}")
    for label, seconds in told.items():
        print(f"  {label:38}{seconds:8.2f}")
    bound = fresh(task | {"what": "limit"})
    pixels = json.loads((Path(task["folder"]) / "out" / "scene" / "prediction.json").read_text())["pixels"]
    data = sum(pixels.values()) - pixels["no_data"]
    least = bound["per_pixel"] * data / bound["per_second"]
    print(
        f"\n{data / 1e6:.1f} Mpx with data of {sum(pixels.values()) / 1e6:.1f}; {bound['per_pixel'] / 1e3:.0f} kFLOP "
        f"each; a convolution reaches {bound['per_second'] / 1e12:.2f} TFLOP/s in {bound['dtype']} here:"
        f"\n  no way below {least:.2f} s; the network takes {told['the network, from memory'] / least:.2f} x that, "
        f"floemap predict {ours_['seconds'] / least:.2f} x (target {TARGET_RATIO:g})"
        f"\nload at the end {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
