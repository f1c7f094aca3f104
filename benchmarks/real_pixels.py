"""What real pixels, charts and annotations say: every table of docs/real-data.md, from the data of others.

    python benchmarks/real_pixels.py [--only PART ...] [--model CHECKPOINT] [--work FOLDER] [--epochs 12] [--repeats 3]

Parts: quicklook, speckle, edge, twin, ai4arctic, glia, charts. The data are no part of the project; a part whose data
are absent says so. "edge" trains nine models, some five minutes on one core; "twin" simulates twelve months, two
minutes; the others take seconds. What the labels are, and so what a score is worth, stands above each table.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import real_files as real
from speckle import evenest

from floemap.legend import AI4ARCTIC, ICE_WATER, IGNORE

SHIPPED = Path(__file__).resolve().parents[1] / "src/floemap/models/floemap-simulated.safetensors"


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*PARTS], default=[*PARTS], metavar="PART")
    parser.add_argument("--model", type=Path, default=SHIPPED, help="checkpoint for the part glia")
    parser.add_argument("--work", type=Path, help="folder for what is made; default: a temporary one")
    parser.add_argument("--epochs", type=int, default=12, help="of each training of the part edge")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    logging.getLogger("floemap").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        given.work = given.work or Path(temporary)
        for part in given.only:
            needed, show = PARTS[part]
            print(f"\n## {part}\n")
            if needed.exists():
                show(given)
            else:
                print(f"Its data are not here: {needed.name}.")


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table in Markdown; numbers that are not whole with three digits after the point."""

    def cell(x: Any) -> str:
        return f"{x:.3f}" if isinstance(x, float | np.floating) else str(x)

    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(map(cell, row)) + " |")
    print()


def quicklook(given: argparse.Namespace) -> None:
    """Columns, seams and scalloping of a picture against the annotation of the same product."""
    from floemap.sentinel1.safe.reader import open_scene

    scene = open_scene(real.PRODUCT, pixels=False)
    picture = real.quick_look()
    seen = np.median(picture[real.ICE_ROWS], axis=0)
    rows = []
    for pol in ("HV", "HH"):
        noise = real.noise_amplitude(scene, len(seen), pol)
        r = np.corrcoef(seen[real.FILLED_COLS, 1], noise[real.FILLED_COLS])[0, 1]
        rows.append([f"column medians of HV, annotated noise of {pol}", float(r)])
    table(["", "r"], rows)
    found, annotated = real.sharpest_falls(seen[:, 2], 4), real.seam_columns(scene)
    names = [f"{a} and {b}" for a, b in zip(scene.swath_names, scene.swath_names[1:], strict=False)]
    pairs = zip(names, found, annotated, strict=True)
    table(
        ["seam of", "in the picture, column", "annotated", "off"],
        [[n, f, f"{a:.1f}", f"{f - a:+.1f}"] for n, f, a in pairs],
    )
    edges = [real.FILLED_COLS.start, *(round(a) for a in annotated), picture.shape[1]]
    rows = []
    for name, first, last in zip(scene.swath_names, edges, edges[1:], strict=False):
        hv, factor = real.scalloping(scene, picture, name, slice(first + 4, last - 4))
        inner = slice(12, -12)
        by_shift = {s: float(np.corrcoef(hv[inner], np.roll(factor, s)[inner])[0, 1]) for s in range(-10, 11)}
        rows.append([name, by_shift[0], max(by_shift, key=by_shift.__getitem__)])
    table(["scalloping of HV in", "r", "best shift, rows"], rows)


def speckle(given: argparse.Namespace) -> None:
    """Speckle of EW crops at 40 m, and the simulator's of as many looks."""
    from floemap.simulation.safe.speckle import Speckle

    rows = []
    for name, power in real.crops().items():
        found = evenest(power)
        simulated = evenest(Speckle(found.looks, (40.0, 40.0), power.shape[1], key=(1,)).rows(0, len(power)))
        for who, s in ((name, found), ("SIMULATED", simulated)):
            looks = [f"{s.looks:.1f}", f"{s.looks_2x2:.1f}", f"{s.looks_2x2 / s.looks:.2f}"]
            rows.append([who, *looks, *(f"{x:.2f}" for x in (s.range, s.azimuth, s.two_apart, s.skewness))])
    head = [
        "HV at 40 m",
        "looks",
        "of 2 x 2 means",
        "gain",
        "correlation in range",
        "in azimuth",
        "two apart",
        "skewness",
    ]
    table(head, rows)


def edge(given: argparse.Namespace) -> None:
    """Ice or water: labels, three losses, prediction, scores; automatic labels."""
    from floemap import Study, compare

    upper, lower, ties = real.quarters()
    table(["grey levels of the lower quarter", "x", "+", "r"], [[b, t.slope, t.offset, t.r] for b, t in ties.items()])
    rows = []
    for quarter in (upper, lower):
        labels = quarter.labels()
        share = [f"{100 * np.mean(labels[quarter.valid] == k):.1f} %" for k in (0, 1, IGNORE)]
        rows.append([quarter.name, int(quarter.valid.sum()), *share, real.seam_column(quarter)])
    table(["quarter", "pixels", "water", "ice", "no label", "seam, column"], rows)
    print(f"By HV alone, at the threshold that suits the upper quarter best: {_by_threshold(upper, lower)}\n")

    folder = given.work / "edge"
    scenes = [real.write_quarter(folder, q) for q in (upper, lower)]
    study = Study.checked(
        name="edge",
        data={"scenes": scenes, "legend": ICE_WATER.name},
        split={"kind": "lists", "training": ["upper-SW"], "validation": ["upper-NE"], "test": ["lower"]},
        crops={"size_px": 256, "per_scene": 24, "flips": True},
        training={"batch": 4, "learning_rate": 3e-4, "max_epochs": given.epochs, "precision": "fp32"},
        compare={"losses": ["cross_entropy", "dice", "focal"], "repeats": given.repeats},
    )
    done = compare(study, folder / "run", report=False)
    rows = []
    for loss in study.compare.losses:
        scores = [_scores(folder / "run" / "cells" / f"{loss}_r{i}") for i in range(study.compare.repeats)]
        rows.append([loss, *(_spread([s[k] for s in scores]) for k in scores[0])])
    table(["loss", *scores[0]], rows)
    if done.failed:
        print(f"Failed: {done.failed}")


def _by_threshold(upper: real.Quarter, lower: real.Quarter) -> str:
    """Score of the threshold of HV (grey level) that is best above, where it was not chosen."""
    from sklearn.metrics import f1_score

    flat = {}
    for quarter in (upper, lower):
        labels = quarter.labels()
        flat[quarter.name] = quarter.hv[labels != IGNORE], labels[labels != IGNORE]
    hv, truth = flat["upper"]
    levels = np.arange(60, 240, 4)
    best = levels[np.argmax([np.mean((hv > level) == truth) for level in levels])]
    hv, truth = flat["lower"]
    score = f1_score(truth, hv > best, average="weighted")
    return f"level {best}, weighted F1 {score:.3f} in the lower quarter."


def _scores(cell: Path) -> dict[str, float]:
    """What docs/real-data.md says of one training."""
    evaluation = json.loads((cell / "evaluation/EBD1_lower/evaluation.json").read_text())
    checks = json.loads((cell / "checks/EBD1_lower/checks.json").read_text())["checks"]
    found = evaluation["scores"]["primary"]["scores"]
    area_km2 = evaluation["pixel_area_km2"]
    counts = np.array(evaluation["scores"]["primary"]["counts"])
    return {
        "weighted F1": found["weighted_f1"],
        "kappa": found["kappa"],
        "water called ice, km2": float(counts[0, 1] * area_km2),
        "ice called water, km2": float(counts[1, 0] * area_km2),
        "changes along the seam, km": checks["seams"]["values"]["prediction"]["changes_km"],
        "expected there, km": checks["seams"]["values"]["prediction"]["expected_km"],
    }


def _spread(values: Sequence[float]) -> str:
    digits = 3 if max(values) <= 1 else 0
    return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f}, {max(values):.{digits}f})"


def twin(given: argparse.Namespace) -> None:
    """Twelve simulated months beside AI4Arctic's 513 scenes: shares of classes, levels of the bands."""
    from floemap import PrepareSettings, make_twin
    from floemap.datasets.extremeearth.scenes import CRS
    from floemap.study.data import make_data
    from floemap.study.settings import DataSettings

    make_twin(given.work / "twin", "small")
    settings = DataSettings(
        folder=given.work / "twin",
        legend=AI4ARCTIC.name,
        unmapped="ignore",
        prepare=PrepareSettings(resolution_m=800.0, crs=CRS),
    )
    counted, bands = np.zeros(256, np.int64), []
    for scene in make_data(settings, given.work / "twin-data"):
        with rasterio.open(scene.label_raster) as labels, rasterio.open(scene.raster) as product:
            counted += np.bincount(labels.read(1).ravel(), minlength=256)
            stored, mask = product.read([1, 2]), product.read(4)
            bands.append(stored[:, mask > 0] / 100)
    hh, hv = np.concatenate(bands, axis=1)
    totals = real.ai4arctic_counts()["total"]["SOD"]
    theirs = np.array([totals[str(c.id)] for c in AI4ARCTIC.classes], np.float64)
    ours = counted[: len(AI4ARCTIC)].astype(np.float64)
    rows = [["open water, of all with a class", *(f"{100 * n[0] / n.sum():.1f} %" for n in (theirs, ours))]]
    for c in AI4ARCTIC.classes[1:]:
        shares = (f"{100 * n[c.id] / n[1:].sum():.1f} %" for n in (theirs, ours))
        rows.append([f"{c.title.lower()}, of ice with a class", *shares])
    rows.append(["HH: mean, standard deviation, dB", "-14.5, 5.7", f"{hh.mean():.1f}, {hh.std():.1f}"])
    rows.append(["HV: mean, standard deviation, dB", "-24.7, 4.7", f"{hv.mean():.1f}, {hv.std():.1f}"])
    table(["", "AI4Arctic", "twin (SIMULATED)"], rows)


def ai4arctic(given: argparse.Namespace) -> None:
    """A scene read off a picture against the counts of its file, and six patches."""
    scene = real.ai4arctic_scene()
    counted = real.ai4arctic_counts()["scenes"]["20180607T184326_dmi_bins.npy"]
    rows = []
    for chart in ("SIC", "SOD", "FLOE"):
        total = sum(counted[chart].values())
        for code in sorted(counted[chart], key=int):
            shares = (np.mean(scene[chart] == int(code)), counted[chart][code] / total)
            rows.append([chart, code, *(f"{100 * s:.1f} %" for s in shares)])
    table(["chart", "code", "in the picture", "in the file"], rows)

    patches = real.ai4arctic_patches()
    rows = []
    for key, name in ((0, "water"), (1, "ice")):
        row: list[Any] = [name, int((patches["label"] == key).sum())]
        for band in ("HH_dB", "HV_dB"):
            values = patches[band]
            inside = (patches["label"] == key) & (values < values.max()) & (values > values.min())
            clipped = 1 - inside.sum() / max((patches["label"] == key).sum(), 1)
            row += [f"{values[inside].mean():.1f}, {values[inside].std():.1f}", f"{100 * clipped:.0f} %"]
        rows.append(row)
    head = ["six patches", "pixels", "HH: mean, standard deviation, dB", "cut off", "HV", "cut off"]
    table(head, rows)


def glia(given: argparse.Namespace) -> None:
    """A model that learnt from simulated scenes on every 14th pixel of a real one, against a classifier's labels."""
    from scipy.ndimage import uniform_filter

    from floemap.learning.models.checkpoint import load_checkpoint
    from floemap.simulation.world.backscatter import REFERENCE_DEG, sigma0_db
    from floemap.simulation.world.surface import Surface

    scene, rule = real.glia_scene(), real.glia_rule()
    labelled = scene.labels > 0
    same = np.mean(rule.classify(scene)[labelled] == scene.labels[labelled])
    print(f"Pixels with a label: {labelled.sum()}; {100 * same:.4f} % of them are the rule of HH, HV and angle.\n")

    surfaces = {
        "leads with open water or new ice": Surface.NEW,
        "leads with young ice": Surface.YOUNG,
        "level ice": Surface.FIRST_YEAR,
        "deformed ice": Surface.OLD,
    }
    rows = []
    for i, (name, surface) in enumerate(surfaces.items()):
        twins = [[float(sigma0_db(surface, d, 4, p)) for p in ("HH", "HV")] for d in (REFERENCE_DEG, REFERENCE_DEG + 1)]
        level, slope = np.array(twins[0]), np.subtract(twins[1], twins[0])
        row: list[Any] = [name]
        for band in (0, 1):
            row += [f"{rule.at(REFERENCE_DEG)[i, band]:.1f}, {level[band]:.1f}"]
            row += [f"{rule.slope[i, band]:.2f}, {slope[band]:.2f}"]
        rows.append(row)
    table(["at 35 degrees, the rule's and the twin's", "HH, dB", "slope, dB/degree", "HV, dB", "slope"], rows)

    checkpoint = load_checkpoint(given.model)
    keys = [c["key"] for c in checkpoint.about["legend"]["classes"]]
    for side in (1, 3):
        bands = []
        for band in (scene.hh_db, scene.hv_db):
            power = np.where(scene.valid, 10 ** (band / 10), 0)
            weight = uniform_filter(scene.valid.astype(np.float64), side)
            bands.append(10 * np.log10(np.maximum(uniform_filter(power, side) / np.maximum(weight, 1e-9), 1e-5)))
        classes = classify(checkpoint.model, real.stored([*bands, scene.incidence_deg], scene.valid))
        _show_glia(scene, classes, keys, f"means over {side} x {side} pixels" if side > 1 else "as it is")


def classify(model: Any, stored: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return the most probable class of each pixel; the pixel size that the model learnt with is not asked for."""
    from floemap.learning.whole_scene.logits import array_reader, scene_logits

    shape = stored.shape[1:]
    with scene_logits(model, array_reader(stored), shape) as logits:
        return np.asarray(logits.rows(0, shape[0]).argmax(dim=0), np.uint8)


def _show_glia(scene: real.GliaScene, classes: NDArray[np.uint8], keys: Sequence[str], how: str) -> None:
    rows, right = [], []
    for label, (name, may_be) in enumerate(zip(real.GLIA_CLASSES, real.GLIA_MAY_BE, strict=True), 1):
        found = classes[scene.labels == label]
        shares = np.bincount(found, minlength=len(keys)) / len(found)
        right.append(sum(shares[keys.index(k)] for k in may_be))
        rows.append([name, len(found), *(f"{100 * s:.1f}" for s in shares), f"{100 * right[-1]:.1f}"])
    table([f"{how}: called, %", "pixels", *(k.replace("_", " ") for k in keys), "what it may be"], rows)
    weights = np.array([r[1] for r in rows], np.float64)
    constant = [[k in may_be for may_be in real.GLIA_MAY_BE] for k in keys]
    print(
        f"What it may be: {100 * np.average(right, weights=weights):.1f} % of all pixels, "
        f"{100 * np.mean(right):.1f} % as the mean of the four; the best single class for all pixels, "
        f"{100 * max(np.average(c, weights=weights) for c in constant):.1f} % and "
        f"{100 * max(np.mean(c) for c in constant):.1f} %.\n"
    )


def charts(given: argparse.Namespace) -> None:
    """Six charts: polygons, repairs, and how many of several types say how much there is of each."""
    from floemap.icechart.dominant_type import Rule, ice_types
    from floemap.icechart.read.sigrid3 import read_chart

    rows = []
    for path in sorted(real.CHARTS.glob("*.shp")):
        chart = read_chart(path, crs="EPSG:4326")
        types = ice_types(chart)
        ice = types.rule != Rule.WATER
        several = ice & (types.stages[:, 1] >= 0)
        parts = several & np.any([chart.codes(c) >= 0 for c in ("ca", "cb", "cc")], axis=0)
        crs = "yes" if path.with_suffix(".prj").exists() else "no"
        rows.append([path.stem, crs, len(chart), chart.report.repaired, ice.sum(), several.sum(), parts.sum()])
    table(["chart", ".prj", "polygons", "repaired", "of ice", "of several types", "with their concentrations"], rows)


PARTS: dict[str, tuple[Path, Any]] = {
    "quicklook": (real.QUICKLOOK, quicklook),
    "speckle": (real.CROPS, speckle),
    "edge": (real.EDGE, edge),
    "twin": (real.COUNTS, twin),
    "ai4arctic": (real.AI4ARCTIC, ai4arctic),
    "glia": (real.GLIA, glia),
    "charts": (real.CHARTS, charts),
}

if __name__ == "__main__":
    main()
