"""A golden run: the whole job at a small size, as digests, to show that a change of the code changes no result.

    python benchmarks/golden.py record GOLDEN.json      before the change
    python benchmarks/golden.py compare GOLDEN.json     after it; exit code 1 and the names of what differs

Runs the demo at its smallest (simulated scenes, preparation, labels, three trainings, predictions, scores, checks,
report), makes a draft chart, and trains and predicts with two heads, ice type and concentration. Digests are of pixels,
tensors, rows and JSON values. Times, versions and durations are left out, and so is what two runs of the same code give
differently. Digests hold on one machine only.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from disturbed import picture

#: What differs between two runs, or between two versions of the software.
VARIES = re.compile(
    r"seconds|created|processed|made_by|software|version|crops_from|\.bytes\.|\.(jsonl?|html|md|xml|png|svg|npz) bytes$"
)


def run(folder: Path) -> dict[str, str]:
    """Do the whole job in a folder; return digests by name."""
    from floemap import ChartSettings, make_chart, run_demo

    done = run_demo(folder / "demo", "smallest")
    model = next(done.folder.glob("cells/*/model/model.safetensors"))
    product = next((done.folder / "data" / "prepared").iterdir())
    make_chart(product, [model], folder / "charts", ChartSettings(min_area_km2=100.0))
    two_heads(done.folder, folder / "heads")
    return picture(folder)


def two_heads(compared: Path, out: Path) -> None:
    """Train a model with two heads for an epoch on half a scene of a comparison, and predict the scene."""
    from floemap import Study, predict, train_model

    labels = min((compared / "data" / "labels").glob("*/*"))
    product = min(p for p in (compared / "data" / "prepared").iterdir() if p.is_dir())
    study = Study.checked(
        data={"legend": read_legend(labels), "scenes": [{"name": "a", "product": product, "chart": labels}]},
        split={"kind": "lists", "training": ["a-SW"], "validation": ["a-NE"]},
        tasks={"concentration": {"target": "concentration", "weight": 5.0}},
        crops={"size_px": 64, "per_scene": 4},
        training={"batch": 2, "max_epochs": 1, "precision": "fp32", "learning_rate": 1e-3},
    )
    predict(product, train_model(study, out / "run"), out / "predictions", precision="fp32")


def read_legend(labels: Path) -> str:
    """Return the name of the legend of labels."""
    return str(json.loads((labels / "label.json").read_text())["legend"]["name"])


def main() -> None:
    """Record or compare."""
    todo, path = sys.argv[1], Path(sys.argv[2])
    warnings.simplefilter("ignore")
    runs = []
    for _ in range(2 if todo == "record" else 1):
        with tempfile.TemporaryDirectory(prefix="golden-") as folder:
            seen = run(Path(folder))
            runs.append({k: v.replace(folder, "") for k, v in seen.items()})
    if todo == "record":
        kept = {k: v for k, v in runs[0].items() if runs[1].get(k) == v and not VARIES.search(k)}
        path.write_text(json.dumps(kept, indent=0, sort_keys=True))
        print(f"{len(kept)} digests of {len(runs[0])} recorded")
        return
    golden = json.loads(path.read_text())
    differs = sorted(k for k, v in golden.items() if runs[0].get(k) != v)
    print("\n".join(differs[:50]))
    for file, number in Counter(k.partition(" ")[0] for k in differs).items():
        print(f"{number} in {file}")
    print(f"{len(differs)} of {len(golden)} differ")
    sys.exit(bool(differs))


if __name__ == "__main__":
    main()
