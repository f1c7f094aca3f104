"""What is wrong with a study is reported before any of its scenes is prepared, and by ``floemap info``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from workshop import Inputs, run, study_file

from floemap.errors import FloemapError
from floemap.study.cells import with_changes
from floemap.study.compare import compare, train_model
from floemap.study.settings import Study
from floemap.study.spread import plan_comparison

#: Changes of a study, and what is said of them. The model is that of the file my_models.py below.
OWN: dict[str, Any] = {"model.name": "my_models:Net"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "loss": ({"loss.name": "dicee", "compare.losses": ["dicee"]}, "no loss is called 'dicee'"),
    "option": ({"loss.options": {"gama": 1}}, "the key 'gama' is unknown"),
    "model": ({"model.name": "unett"}, "no model is called 'unett'"),
    "rates": ({"model.rates": [1, 2, 300]}, "model.rates has 300"),
    "logger": ({"training.loggers": ["paper"]}, "no logger is called 'paper'"),
    "monitor": ({"training.monitor": "ice"}, "training.monitor is 'ice'"),
    "missing weights": ({"model.encoder_weights": "no.pth"}, "no.pth: does not exist"),
    "weights of another kind": ({"model.encoder_weights": "my_models.py"}, "my_models.py: cannot be read as weights"),
    "weights without an encoder": (
        {"model.name": "unet", "model.encoder_weights": "my_models.py"},
        "has no ResNet18 encoder",
    ),
    "missing start": (
        {"model.start_from": "no.safetensors", "model.rates": [1, 1, 1]},
        "no.safetensors: does not exist",
    ),
    "start of another model": (
        {"model.name": "unet", "model.start_from": "{model}"},
        "the configuration asks for unet",
    ),
    "start of other classes": (
        {"model.start_from": "{model}", "data.legend": "ice_water", "crops.size_px": 640},
        "has the classes",
    ),
    "unknown option of an own model": (OWN | {"model.options": {"widht": 4}}, "Did you mean 'width'?"),
    "text for a number": (OWN | {"model.options": {"width": "4"}}, "width is '4': a whole number is needed"),
    "number for a truth value": (OWN | {"model.options": {"deep": 1}}, "deep is 1: true or false is needed"),
    "none of the choices": (OWN | {"model.options": {"norm": "group"}}, "norm is 'group': 'batch' or 'none' is needed"),
    "real number among whole choices": (OWN | {"model.options": {"heads": 4.0}}, "heads is 4.0: 2 or 4 is needed"),
    "model that cannot be made": (
        OWN | {"model.options": {"wrong": "made"}},
        "the model my_models:Net cannot be built: ValueError: no layers",
    ),
    "model that fails": (OWN | {"model.options": {"wrong": "run"}}, "fails"),
    "model of other channels": (OWN | {"model.options": {"wrong": "channels"}}, "gives 1 channels; the legend has 6"),
    "model of another shape": (OWN | {"model.options": {"wrong": "axes"}}, "logits (N, classes, rows, columns) are"),
    "setting of another model": (OWN | {"model.dropout": 0.5}, "model.dropout is a setting of floemap's models"),
    "part that is no scene": ({"split.training": ["a-SW", "c"]}, "names 'c', which is neither a scene nor half of one"),
    "use without a part": (
        {"split.kind": "published", "split.training": [], "split.validation": [], "split.test": []},
        "for train",
    ),
    "missing product": ({"data.scenes": ("product", "no.zip")}, "no.zip: scene b: does not exist"),
    "missing chart": ({"data.scenes": ("chart", "no.shp")}, "no.shp: scene b: does not exist"),
}
MODULE = """
from typing import Literal
from torch import nn
class Net(nn.Module):
    def __init__(
        self, bands: int, classes: int, width: int = 8, deep: bool = False,
        norm: Literal["batch", "none"] = "none", rate: float = 1, odd: int = 0.5, any=None,
        heads: Literal[2, 4] = 2, wrong: str = "",
    ):
        super().__init__()
        if wrong == "made":
            raise ValueError("no layers")
        self.only, self.wrong = nn.Conv2d(bands, 1 if wrong == "channels" else classes, 1), wrong
    def forward(self, x):
        return self.none if self.wrong == "run" else self.only(x)[0] if self.wrong == "axes" else self.only(x)
"""


@pytest.fixture
def study(workshop: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study whose scenes must not be prepared."""

    def make(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("scenes are prepared")

    monkeypatch.setattr("floemap.study.compare.make_data", make)
    monkeypatch.setattr("floemap.study.spread.make_data", make)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_models", raising=False)  # that of another test's folder
    (tmp_path / "my_models.py").write_text(MODULE)
    return Study.from_toml(study_file(workshop, tmp_path, '[compare]\nlosses = ["cross_entropy"]\nrepeats = 2\n'))


def changed(study: Study, changes: dict[str, Any], workshop: Inputs) -> Study:
    filled = {k: v.format(model=workshop.model) if isinstance(v, str) else v for k, v in changes.items()}
    if "data.scenes" in filled:
        key, value = changes["data.scenes"]
        first, last = (scene.model_dump() for scene in study.data.scenes)
        filled["data.scenes"] = [first, last | {key: value}]
    return with_changes(study, filled)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("do", [train_model, compare, plan_comparison])
def test_what_is_wrong_is_said_before_any_scene_is_prepared(
    do: Callable[..., Any], wrong: str, study: Study, workshop: Inputs, tmp_path: Path
) -> None:
    changes, words = WRONG[wrong]
    with pytest.raises(FloemapError) as e:
        do(changed(study, changes, workshop), tmp_path / "out")
    assert words in str(e.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [{}, {"width": 4, "rate": 2}, {"rate": 0.5}, {"odd": 0.25}, {"any": "x"}, {"deep": True}]
)
def test_options_that_the_signature_takes_are_taken(options: dict[str, Any], study: Study, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="scenes are prepared"):
        train_model(with_changes(study, OWN | {"model.options": options}), tmp_path / "out")


#: Files of settings in which a comparison or a variant cannot be trained, and what is said of them.
IMPOSSIBLE = {
    '[compare.axes]\n"model.output_strid" = [8]': "there is no setting 'model.output_strid'",
    '[compare.axes]\n"model.output_stride" = [8, 5]': "model.output_stride is 5: 8 or 16 is needed",
    '[compare.axes]\n"model.output_stride" = [8.0]': "model.output_stride is 8.0: 8 or 16 is needed",
    '[compare.axes]\n"training.batch" = [4, "5"]': "training.batch is '5': a whole number is needed",
    '[compare.axes]\n"training.batch" = [4, 5]\n"training.accumulate" = [1, 2]': "does not divide the batch of 5",
    '[compare.axes]\n"split.cut" = ["corner"]': "did you mean 'corners'?",
    '[compare]\nlosses = ["dicee"]': "no loss is called 'dicee'",
    '[compare.variants.a]\n"loss.gamma" = 3': "there is no setting 'loss.gamma'",
    '[compare.variants.a]\n"loss.options.gamma" = 3': "the key 'gamma' is unknown",
    '[compare.variants.a]\n"model.rates" = [1, 2]': "model.rates is [1, 2]: more values are needed",
    '[loss]\nname = "dicee"': "no loss is called 'dicee'",
    '[model]\nname = "unet"\nrates = [1, 2, 3]': "has no atrous convolutions",
    '[data]\nlegend = "nobodys"': "no legend is called 'nobodys'",
    '[split]\nkind = "leave_one_out"\n[training]\nmonitor = "a"': "training.monitor is 'a'",
}


@pytest.mark.parametrize("text", IMPOSSIBLE)
def test_info_says_what_no_training_could_take(text: str, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    done = run("info", path)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"problem: {path}: ") and IMPOSSIBLE[text] in done.stderr


def test_info_runs_no_module_of_a_stranger_and_reads_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strange.py").write_text("raise SystemExit(3)")
    path = tmp_path / "study.toml"
    path.write_text(
        '[model]\nstart_from = "no.safetensors"\n[data]\nfolder = "no"\n'
        '[compare]\nlosses = ["dice", "strange:Loss", "own"]\nvariants = { own = { "model.name" = "strange:Net" } }\n'
    )
    done = run("info", path)
    assert done.exit_code == 0, done.output
    assert "Not checked" in done.stdout and "strange:Loss, strange:Net" in done.stdout
