"""What a draft chart costs, from a full-size EW product as downloaded to all its files: seconds by step, peak memory.

    python benchmarks/product.py [--product FOLDER] [--model CHECKPOINT ...] [--land-mask FILE] [--runs 3]

Without --product, one is simulated (10708 x 10487, two polarisations). Without --model, the one that comes with floemap
is taken, or, if there is none, one with drawn weights that tells all classes on this scene: its polygons are as many as
ice has, and mean nothing. Every run is a fresh process, with the files in the page cache; times are the best of --runs,
for what disturbs them only adds; the load is printed, for on a busy machine they say little. Beside it stands a plain
read of the product's pixels in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import rasterio
import torch
from prepare import CLI, Run, fresh, simulate, timed

from floemap.errors import ModelError
from floemap.inference.predict.model_files import default_model
from floemap.learning.data.crops import physical
from floemap.learning.models.checkpoint import save_checkpoint
from floemap.learning.models.registry import build_model
from floemap.learning.settings import ModelSettings
from floemap.sentinel1.encoding import NODATA
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.safe.reader import open_scene

TARGET_S, TARGET_GIB = 25.0, 3.0
#: Side of the part of the scene on which drawn weights are set, pixels.
_SEEN_PX = 1600


def drawn_model(product: Path, work: Path) -> Path:
    """Write a model of drawn weights whose classes are balanced on the middle of a product."""
    raster = prepare(product, work / "drawn", quicklook=False).raster
    with rasterio.open(raster) as d:
        first = [(n - _SEEN_PX) // 2 for n in d.shape]
        window = tuple((a, a + _SEEN_PX) for a in first)
        stored = torch.from_numpy(d.read([1, 2, 3], window=window))
    valid = (stored != NODATA).all(dim=0)
    torch.manual_seed(0)
    model = build_model(ModelSettings(), 6).eval()
    x = physical(stored)[None]
    model.set_normalisation(x[0, :, valid].mean(dim=1).tolist(), x[0, :, valid].std(dim=1).tolist())
    last = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    assert last.bias is not None
    with torch.no_grad():
        logits = model(x)[0][:, valid]
        scale = 3 / logits.std(dim=1)
        last.weight *= scale[:, None, None, None]
        last.bias.copy_((last.bias - logits.mean(dim=1)) * scale)
    path = work / "drawn.safetensors"
    save_checkpoint(path, model, {"legend": "six_classes", "resolution_m": 80.0, "simulated": True})
    return path


def print_run(name: str, run: Run, out: Path) -> None:
    """Print what a run took and what it made."""
    (record,) = out.glob("*/chart.json")
    told = json.loads(record.read_text())
    size = sum(f["bytes"] for f in told["files"].values()) / 1e6
    pixels = sum(told["pixels"].values())
    data = pixels - told["pixels"]["no_data"]
    print(f"\n{name}: {run.wall_s:.2f} s, {run.cpu_s:.1f} s of processor time, {run.peak_gib:.2f} GiB")
    print(f"  {pixels / 1e6:.1f} Mpx, {data / 1e6:.1f} with data; {size:.0f} MB in {len(told['files'])} files", end="")
    if "polygons" in told:
        print(f"; {told['polygons']['count']} polygons of {told['polygons']['vertices']:,} vertices", end="")
    print("\n  seconds by step; rasters are written while polygons are drawn")
    for step, seconds in told["seconds"].items():
        print(f"    {step:28} {seconds:8.2f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--product", type=Path, help="folder or zip of a full-size product, instead of a simulated one")
    parser.add_argument("--model", type=Path, action="append", help="a checkpoint; several for an ensemble")
    parser.add_argument("--land-mask", type=Path, help="polygons of land")
    parser.add_argument("--work", type=Path, help="where to write; a temporary folder by default")
    parser.add_argument("--runs", type=int, default=3, help="times to measure each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        product = options.product or simulate(work)
        models = options.model
        if not models:
            try:
                models = [default_model()]
            except ModelError:
                models = [drawn_model(product, work)]
        scene = open_scene(product)
        print(f"{scene.name}, {scene.shape[0]} x {scene.shape[1]} x 2; {len(models)} models: {models[0].name}")
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        if not scene.container.is_zip:
            files = sorted((Path(product) / "measurement").iterdir())
            plain = timed(lambda: [f.read_bytes() for f in files], options.runs)
            print(f"plain read of the pixel files: {plain:.2f} s")
        call = ["chart", str(product), "--quiet", "--overwrite"]
        call += [word for m in models for word in ("--model", str(m))]
        call += [] if options.land_mask is None else ["--land-mask", str(options.land_mask)]
        best: dict[str, Run] = {}
        for name, more in (("all files", []), ("classes only", ["--only", "classes"])):
            out = work / name.replace(" ", "_")
            for _ in range(options.runs):
                run = fresh(CLI, *call, "--out", str(out), *more)
                if name not in best or run.wall_s < best[name].wall_s:
                    best[name] = run
            print_run(name, best[name], out)
        for what, found, target in (
            ("seconds", best["all files"].wall_s, TARGET_S),
            ("GiB", best["all files"].peak_gib, TARGET_GIB),
        ):
            print(f"target {target:g} {what}: {found:.2f}, {'met' if found <= target else 'MISSED'}")
        print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
