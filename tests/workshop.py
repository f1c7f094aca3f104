"""Every command at its smallest, on inputs that were made once: for laws that hold for all of them.

The inputs lie in one folder, as they might on somebody's disk: a product, what was made of it, a chart.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chart_maker import ice, other, write_chart
from chart_models import write_model
from shapely import box
from typer.testing import CliRunner, Result

from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.cog import read_geobox
from floemap.icechart.label.label import label_chart
from floemap.icechart.label.settings import LabelSettings
from floemap.inference.predict.predict import predict
from floemap.results.stage import read_json, write_json
from floemap.sentinel1.prepare import prepare
from floemap.sentinel1.settings import PrepareSettings


@dataclass(frozen=True)
class Inputs:
    """Paths within one folder; `name` is the product's, and that of most results, `suffix` what its folder has too."""

    folder: Path
    name: str
    model: Path
    suffix: str = ".SAFE"

    @property
    def product(self) -> Path:
        return self.folder / "products" / f"{self.name}{self.suffix}"

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared" / self.name

    @property
    def chart(self) -> Path:
        return self.folder / "charts" / "ice.gpkg"

    @property
    def labels(self) -> Path:
        return self.folder / "labels" / "ice"

    @property
    def prediction(self) -> Path:
        return self.folder / "predictions" / self.name


def make_inputs(folder: Path, product: Path) -> Inputs:
    """Make all inputs from a small product."""
    inputs = Inputs(folder, product.stem, folder.parent / "model.safetensors")
    shutil.copytree(product, inputs.product)
    prepare(inputs.product, folder / "prepared", PrepareSettings(resolution_m=2000), quicklook=False)
    x0, y0, x1, y1 = read_geobox(inputs.prepared / "product.tif").extent.boundingbox
    middle = (x0 + x1) / 2
    halves = [box(x0, y0, middle, y1), box(middle, y0, x1, y1)]
    write_chart(inputs.chart, [ice(SA="95"), ice(SA="86"), other("L")], [*halves, box(x1, y0, x1 + 1000, y1)])
    label_chart(inputs.chart, inputs.prepared, folder / "labels", LabelSettings(fractions=True))
    write_model(inputs.model, inputs.prepared / "product.tif", simulated=True)
    predict(inputs.prepared, inputs.model, folder / "predictions", probabilities=False)
    return inputs


def a_month_later(prepared: Path, folder: Path) -> Path:
    """Copy a prepared product to `folder`, as that of a scene one month later."""
    shutil.copytree(prepared, folder)
    record = read_json(folder / "product.json")
    record["scene"]["start"] = record["scene"]["start"].replace("-01-", "-02-")
    write_json(folder / "product.json", record)
    return folder


def study_file(inputs: Inputs, folder: Path, more: str) -> Path:
    """Write a small study on two scenes, one of them a month later, to ``study.toml``; `more` is added to it."""
    scenes = "\n".join(
        f'[[data.scenes]]\nname = "{name}"\nproduct = "{product}"\nchart = "{inputs.labels}"'
        for name, product in (("a", inputs.prepared), ("b", a_month_later(inputs.prepared, folder / "later")))
    )
    path = folder / "study.toml"
    path.write_text(
        f'[data]\nlegend = "six_classes"\n{scenes}\n'
        '[split]\nkind = "lists"\ntraining = ["a-SW"]\nvalidation = ["a-NE"]\ntest = ["b"]\n'
        "[crops]\nsize_px = 64\nper_scene = 2\n"
        '[training]\nbatch = 2\nmax_epochs = 1\nprecision = "fp32"\n' + more
    )
    return path


def copied(inputs: Inputs, folder: Path) -> Inputs:
    """Copy all inputs but the model, which is large and in nobody's way."""
    shutil.copytree(inputs.folder, folder)
    return Inputs(folder, inputs.name, inputs.model)


@dataclass(frozen=True)
class Command:
    """A command that makes one folder in ``--out``.

    Attributes
    ----------
    words
        Its call without ``--out``, on given inputs.
    result
        Name of the folder, on given inputs.
    source
        What the folder is named after.
    stage
        Where its stage is declared and used, as ``module:NAME``.
    """

    words: Callable[[Inputs], list[str | Path]]
    result: Callable[[Inputs], str]
    source: Callable[[Inputs], Path]
    stage: tuple[str, ...]

    def run(self, inputs: Inputs, out: Path, *more: str) -> Result:
        return run(*self.words(inputs), "--out", out, *more)


def run(*words: str | Path) -> Result:
    """Run a call of the command line in this process."""
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


#: Commands that make a folder of a name that follows from their input, and skip it when it is finished.
COMMANDS: dict[str, Command] = {
    "prepare": Command(
        lambda i: ["prepare", i.product, "--resolution", "2000"],
        lambda i: i.name,
        lambda i: i.product,
        ("floemap.sentinel1.prepare:STAGE",),
    ),
    "label": Command(
        lambda i: ["label", i.chart, "--like", i.prepared],
        lambda i: i.chart.stem,
        lambda i: i.chart,
        ("floemap.icechart.label.label:STAGE",),
    ),
    "predict": Command(
        lambda i: ["predict", i.prepared, "--model", i.model, "--no-probabilities"],
        lambda i: i.name,
        lambda i: i.prepared,
        ("floemap.inference.predict.predict:PREDICT",),
    ),
    "chart": Command(
        lambda i: ["chart", i.prepared, "--model", i.model, "--only", "classes,chart", "--min-area", "100"],
        lambda i: i.name,
        lambda i: i.prepared,
        ("floemap.inference.draftchart.folder:STAGE", "floemap.inference.draftchart.chart:STAGE"),
    ),
    "chart of a product": Command(
        lambda i: ["chart", i.product, "--model", i.model, "--only", "classes"],
        lambda i: i.name,
        lambda i: i.product,
        ("floemap.inference.draftchart.folder:STAGE", "floemap.inference.draftchart.chart:STAGE"),
    ),
    "evaluate": Command(
        lambda i: ["evaluate", i.prediction, "--labels", i.labels],
        lambda i: i.name,
        lambda i: i.prediction,
        ("floemap.evaluation.scoring.evaluate:STAGE",),
    ),
}


def contents(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder by its path: files' bytes, links' targets, folders."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = path.read_bytes() if path.is_file() else "folder"
    return found
