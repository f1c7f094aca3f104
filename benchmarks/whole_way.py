"""From a product and a chart to a score, full size: seconds and peak memory of each step, beside each step's target.

    python benchmarks/whole_way.py --metadata PRODUCT --chart CHART

PRODUCT is a real product's folder, its pixels need not be there: they are simulated from the chart, so every score says
something about simulated ice only. Each step runs in a process of its own, imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: What each step should take on two cores, seconds, where docs/benchmarks.md has a target.
TARGETS = {"prepare": 8.0, "label": 3.0, "predict": 6.0}


def main() -> None:
    """Run all steps and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metadata", type=Path, required=True)
    parser.add_argument("--chart", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--crops", type=int, default=16, help="of 512 px, in each epoch")
    parser.add_argument("--keep", type=Path, help="folder for what is made; default: a temporary one")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(run(given.step, given)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        print("| step | s | processor s | GiB | target s |\n| --- | --- | --- | --- | --- |")
        score = None
        for step in ("simulate", "prepare", "label", "train", "predict", "evaluate"):
            call = [sys.executable, __file__, *sys.argv[1:], "--step", step, "--keep", str(folder)]
            done = subprocess.run(call, check=True, capture_output=True, text=True)
            made = json.loads(done.stdout.splitlines()[-1])
            score = made.get("score", score)
            target = f"{TARGETS[step]:g}" if step in TARGETS else ""
            print(f"| {step} | {made['s']:.1f} | {made['cpu_s']:.1f} | {made['gib']:.2f} | {target} |", flush=True)
        print(f"\nWeighted F1 {score:.3f}, on SIMULATED pixels, in the half that was validated on.")


def run(step: str, given: argparse.Namespace) -> dict[str, float]:
    """Do one step; return what it cost."""
    began = time.perf_counter()
    extra = STEPS[step](given, given.keep) or {}
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(u.ru_utime + u.ru_stime for u in used)
    return extra | {"s": time.perf_counter() - began, "cpu_s": cpu_s, "gib": used[0].ru_maxrss / 2**20}


def product_of(folder: Path) -> Path:
    """The prepared product."""
    return next((folder / "prepared").iterdir())


def labels_of(folder: Path) -> Path:
    """Its labels."""
    return next((folder / "labels").iterdir())


def simulate(given: argparse.Namespace, folder: Path) -> None:
    """Pixels for the metadata, and the chart where it was moved to."""
    from floemap import simulate_pixels

    made = simulate_pixels(given.metadata, folder / "scene", chart=given.chart)
    (folder / "scene.json").write_text(json.dumps({"product": str(made.path), "chart": str(made.chart)}))


def prepare(given: argparse.Namespace, folder: Path) -> None:
    """SAFE to bands."""
    from floemap import prepare

    prepare(json.loads((folder / "scene.json").read_text())["product"], folder / "prepared")


def label(given: argparse.Namespace, folder: Path) -> None:
    """Chart to labels."""
    from floemap import LabelSettings, label_chart

    chart = json.loads((folder / "scene.json").read_text())["chart"]
    label_chart(chart, product_of(folder), folder / "labels", LabelSettings(legend="six_classes"))


def train(given: argparse.Namespace, folder: Path) -> None:
    """A little training."""
    from floemap import Study, train_model

    scene = {"name": "real", "product": product_of(folder), "chart": labels_of(folder)}
    study = Study.checked(
        data={"scenes": [scene], "legend": "six_classes"},
        split={"kind": "lists", "training": ["real-SW"], "validation": ["real-NE"]},
        crops={"size_px": 512, "per_scene": given.crops, "min_valid": 0.3},
        training={"batch": 4, "learning_rate": 1e-3, "max_epochs": given.epochs},
    )
    train_model(study, folder / "run")


def predict(given: argparse.Namespace, folder: Path) -> None:
    """The whole scene."""
    from floemap import predict

    predict(product_of(folder), folder / "run" / "model" / "model.safetensors", folder / "predictions")


def evaluate(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Its score in one half."""
    from floemap import evaluate_scene

    mask = folder / "run" / "data" / "parts" / "real-NE" / "mask.tif"
    prediction = next((folder / "predictions").iterdir())
    done = evaluate_scene(prediction, labels_of(folder), folder / "evaluation", mask=mask).read()
    return {"score": done["scores"]["primary"]["scores"]["weighted_f1"]}


STEPS = {
    "simulate": simulate,
    "prepare": prepare,
    "label": label,
    "train": train,
    "predict": predict,
    "evaluate": evaluate,
}

if __name__ == "__main__":
    main()
