"""A model of a user's own, named by import string: the one of docs/tutorial-model.md, from the command line."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tiny_model import ABOUT, scene, tiny_settings
from typer.testing import CliRunner, Result
from workshop import Inputs, study_file

from floemap import plugins
from floemap.cli import main as cli_main  # noqa: F401  registers the commands
from floemap.cli.app import app
from floemap.errors import ConfigError, ModelError
from floemap.learning.models.checkpoint import load_checkpoint, save_checkpoint
from floemap.learning.models.checkpoint_header import METADATA_KEY, describe_checkpoint, read_about
from floemap.learning.models.registry import build_model
from floemap.learning.settings import ModelSettings
from floemap.learning.targets import Head
from floemap.learning.training.loop import Trained, train
from floemap.legend import SIX_CLASSES
from floemap.study.cells import plan
from floemap.study.settings import Study

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial-model.md"
OWN = {"name": "my_models:Net", "options": {"width": 4}}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.S | re.M)


def forget() -> None:
    for name in ("my_models", "segmentation_models_pytorch"):
        sys.modules.pop(name, None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with the page's my_models.py in it."""
    (tmp_path / "my_models.py").write_text("\n\n".join(blocks("python")))
    monkeypatch.chdir(tmp_path)
    forget()
    yield tmp_path
    forget()


def go(out: str, model: Any = None, **t: Any) -> Trained:
    settings = tiny_settings(OWN | (model or {}), **({"max_epochs": 2} | t))
    return train([scene("a", 1), scene("b", 2)], [scene("v", 3)], settings, SIX_CLASSES, out, about=ABOUT)


# Training


def test_the_pages_model_of_several_heads(here: Path) -> None:
    heads = (Head("ice_type", "class", 6), Head("concentration", "concentration", 1))
    model = build_model(ModelSettings(name="my_models:TwoHeads", options={"width": 4}), heads, crop_px=64)
    assert model(torch.zeros(1, 3, 40, 50)).shape == (1, 7, 40, 50)


def test_a_training_records_what_the_model_is(here: Path) -> None:
    made = go("run")
    header = read_about(made.checkpoint)["model"]
    assert (header["name"], header["options"], header["package"]) == ("my_models:Net", {"width": 4}, None)
    assert (header["reach_px"], header["whole_scenes"]) == (8, "exact tiles")  # 8 px, as the page says
    record = json.loads(made.record.read_text())
    assert record["inputs"]["model"] == header["source"] and record["whole_scenes"] == "exact tiles"
    assert record["configuration"]["model"]["options"] == {"width": 4}
    loaded = load_checkpoint(made.checkpoint)
    _, lines = describe_checkpoint(made.checkpoint)
    assert dict(lines)["options"] == "width = 4" and dict(lines)["whole scenes"] == "exact tiles"
    assert dict(lines)["receptive field"] == "8 px beyond a cell of 1 px"
    again = build_model(ModelSettings.checked(**OWN), 6)
    assert loaded.model.state_dict().keys() == again.state_dict().keys()


def test_a_resumed_training_comes_to_the_same_weights(here: Path) -> None:
    whole, part = go("whole", max_epochs=3), go("part", max_epochs=3)
    part.record.unlink()
    go("part", max_epochs=3)
    a, b = (load_file(t.checkpoint) for t in (whole, part))
    assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_fine_tuning_starts_from_all_that_the_model_was(here: Path) -> None:
    first = go("first").checkpoint
    on = go("on", {"start_from": first}, max_epochs=1, learning_rate=1e-30).checkpoint
    a, b = load_file(first), load_file(on)
    assert all(np.array_equal(a[k], b[k]) for k in a if "running" not in k and "tracked" not in k)
    with pytest.raises(ModelError, match=r"width': 4.*width': 3"):
        go("other", {"start_from": first, "options": {"width": 3}})


def test_a_changed_file_is_another_model(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = go("run")
    assert go("run").skipped
    script = Path("my_models.py")
    script.write_text(script.read_text().replace("nn.ReLU()", "nn.LeakyReLU()"))
    forget()
    with pytest.raises(ConfigError, match="other model"):
        go("run")
    with caplog.at_level(logging.WARNING):
        load_checkpoint(made.checkpoint)
    assert "the source of its model my_models:Net has changed since the training" in caplog.text


def test_a_checkpoint_says_what_it_misses(here: Path) -> None:
    made = go("run").checkpoint
    Path("my_models.py").rename("elsewhere.py")
    forget()
    with pytest.raises(ModelError) as e:
        load_checkpoint(made)
    assert "there is no module my_models" in e.value.message
    assert e.value.hint is not None and "PYTHONPATH" in e.value.hint
    assert describe_checkpoint(made)[0]["model"]["name"] == "my_models:Net"  # without importing it


def _renamed(path: Path, **model: Any) -> Path:
    about = read_about(path)
    about["model"] |= model
    other = path.with_name("other.safetensors")
    save_file(load_file(path), other, {METADATA_KEY: json.dumps(about)})
    return other


@pytest.mark.parametrize("name", ["os", "os.path", "my_models.Net", "unet "])
def test_a_name_that_is_not_an_import_string_imports_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model = build_model(ModelSettings(name="unet"), 6)
    save_checkpoint("unet.safetensors", model, {**ABOUT, "legend": "six_classes"})

    def refuse(*_: Any) -> None:
        raise AssertionError("imported")

    monkeypatch.setattr(plugins, "_imported", refuse)
    load_checkpoint("unet.safetensors")
    with pytest.raises(ModelError, match="no model is called"):
        load_checkpoint(_renamed(Path("unet.safetensors"), name=name))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crop_px": "wide"}, "damaged description of its model"),
        ({"options": 3}, "options"),
        ({"options": {"width": -1}}, "cannot be built"),
        ({"stride": 3, "alignment_px": 3}, "cannot be used"),
    ],
)
def test_a_damaged_description_is_refused(here: Path, changes: dict[str, Any], words: str) -> None:
    made = go("run", max_epochs=1).checkpoint
    with pytest.raises(ModelError, match=words):
        load_checkpoint(_renamed(made, **changes))


@pytest.mark.parametrize("changes", [{"stride": 0}, {"alignment_px": 0}, {"reach_px": -3}, {"reach_px": "far"}])
def test_what_a_header_cannot_have_measured_is_measured_again(here: Path, changes: dict[str, Any]) -> None:
    made = go("run", max_epochs=1).checkpoint
    assert load_checkpoint(_renamed(made, **changes)).model.described == load_checkpoint(made).model.described


def test_a_checkpoint_calls_nothing_but_modules(here: Path) -> None:
    made = go("run").checkpoint
    evil = _renamed(made, name="subprocess:Popen", options={"args": "touch harm", "shell": True})
    with pytest.raises(ModelError, match=r"neither a class derived from torch\.nn\.Module"):
        load_checkpoint(evil)
    assert not Path("harm").exists()


# From the command line


@pytest.fixture
def study(here: Path, workshop: Inputs) -> Path:
    """The page's model, small, on two prepared scenes."""
    shutil.copy(Path(__file__).with_name("own_models.py"), here)
    compared = (
        '[compare]\nlosses = ["cross_entropy", "wide", "squeezed"]\nrepeats = 1\n[compare.variants]\n'
        'wide = { "model.options.width" = 12 }\nsqueezed = { "model.name" = "own_models:Squeezed" }\n'
    )
    return study_file(workshop, here, compared + blocks("toml")[0])


def floemap(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words])


def test_it_is_compared_in_worker_processes_predicts_and_draws_a_chart(
    study: Path, workshop: Inputs, sketched: None
) -> None:
    done = floemap("compare", study, "--out", "out", "--dry-run")
    assert done.exit_code == 0, done.output
    done = floemap("compare", study, "--out", "out", "--jobs", "2")
    assert done.exit_code == 0, done.output
    cells = sorted(p.name for p in Path("out/cells").iterdir() if p.is_dir())
    assert cells == ["cross_entropy_r0", "squeezed_r0", "wide_r0"]
    trained = [Path("out/cells") / c / "model/model.safetensors" for c in cells]
    assert [read_about(p)["model"]["options"] for p in trained] == [{"width": 8}, {}, {"width": 12}]
    blended = "approximate, blended windows of 64 px"
    assert json.loads(trained[1].with_name("training.json").read_text())["whole_scenes"] == blended
    (record,) = Path("out/cells/squeezed_r0").rglob("prediction.json")
    assert json.loads(record.read_text())["model"]["model"]["whole_scenes"] == blended
    done = floemap("predict", workshop.prepared, "--model", trained[0], "--out", "maps")
    assert done.exit_code == 0, done.output
    (record,) = Path("maps").glob("*/prediction.json")
    assert json.loads(record.read_text())["model"]["model"]["whole_scenes"] == "exact tiles"
    done = floemap("chart", workshop.prepared, "--model", trained[0], "--out", "charts")
    assert done.exit_code == 0, done.output
    done = floemap("info", trained[0])
    assert done.exit_code == 0 and "my_models:Net" in done.output and "exact tiles" in done.output


def test_wrong_options_are_reported_before_any_work(study: Path) -> None:
    study.write_text(study.read_text().replace("options = { width", "options = { widht"))
    done = floemap("compare", study, "--out", "out")
    assert done.exit_code == 1 and "Did you mean 'width'" in " ".join(done.output.split())
    assert not Path("out/cells").exists()


def test_options_stay_with_their_model() -> None:
    study = Study.checked(
        model=OWN,
        compare={
            "losses": ["cross_entropy", "usual", "own"],
            "variants": {
                "usual": {"model.name": "unet"},
                "own": {"model.name": "my_models:Other", "model.options.depth": 2},
            },
            "repeats": 1,
        },
    )
    made = {c.loss: c.study.model for c in plan(study, [])}
    assert {k: (m.name, m.options) for k, m in made.items()} == {
        "cross_entropy": ("my_models:Net", {"width": 4}),
        "usual": ("unet", {}),
        "own": ("my_models:Other", {"depth": 2}),
    }


@pytest.mark.slow
def test_processes_of_torchrun_train_it_together(here: Path) -> None:
    script = here / "together.py"
    script.write_text(
        "from tiny_model import ABOUT, scene, tiny_settings\n"
        "from floemap.learning.training.loop import train\nfrom floemap.legend import SIX_CLASSES\n"
        "train([scene('a', 1), scene('b', 2)], [scene('v', 3)],\n"
        f"      tiny_settings({OWN!r}, max_epochs=1), SIX_CLASSES, 'two', about=ABOUT, device='cpu')\n"
    )
    tests = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("two/training.json").read_text())["trained_on"]["processes"] == 2
    # Not all weights: the gradient of a bias before BatchNorm is rounding, of which Adam makes full steps.
    go("one", max_epochs=1)
    one, two = (json.loads(Path(f"{name}/metrics.jsonl").read_text()) for name in ("one", "two"))
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
    assert two["validation_loss"] == pytest.approx(one["validation_loss"], rel=1e-2)


# Models of packages

#: A package with the signature of the Unet of segmentation_models_pytorch. Pretrained weights would be downloaded.
STAND_IN = """
import torch
from torch import nn
class Unet(nn.Module):
    def __init__(self, encoder_name="resnet34", encoder_depth=5, encoder_weights="imagenet",
                 decoder_channels=(16, 8), in_channels=3, classes=1, activation=None, aux_params=None, **kwargs):
        super().__init__()
        if encoder_weights is not None:
            raise RuntimeError("would download")
        if kwargs:
            raise TypeError(f"Unet has no {', '.join(kwargs)}")
        self.encoder_name = encoder_name
        self.down = nn.Conv2d(in_channels, decoder_channels[0], 3, stride=4, padding=1)
        self.head = nn.Conv2d(decoder_channels[0], classes, 3, padding=1)
        self.unused = nn.Conv2d(1, 1, 1)
    def forward(self, x):
        if x.shape[-1] % 32 or x.shape[-2] % 32:
            raise RuntimeError(f"Wrong input shape height={x.shape[-2]}, width={x.shape[-1]}.")
        return nn.functional.interpolate(self.head(torch.relu(self.down(x))), scale_factor=4.0)
"""


def test_a_package_of_the_known_signature(here: Path) -> None:
    Path("segmentation_models_pytorch.py").write_text(STAND_IN)
    settings = ModelSettings.checked(name="segmentation_models_pytorch:Unet", options={"encoder_name": "resnet18"})
    model = build_model(settings, 6)
    assert (model.stride, model.alignment_px) == (1, 32)
    assert model.network.encoder_name == "resnet18"  # type: ignore[union-attr]
    assert not any(p.requires_grad for n, p in model.named_parameters() if "unused" in n)
    with pytest.raises(ConfigError, match="cannot be built: RuntimeError: would download"):
        build_model(settings.model_copy(update={"options": {"encoder_weights": "imagenet"}}), 6)
    with pytest.raises(ConfigError, match="cannot be built: TypeError: Unet has no depth"):
        build_model(settings.model_copy(update={"options": {"depth": 3}}), 6)
    # A checkpoint has all weights: nothing is downloaded to load it.
    about = {**ABOUT, "legend": "six_classes"}
    model.settings = settings.model_copy(update={"options": {"encoder_weights": "imagenet"}})
    model.described["options"] = {"encoder_weights": "imagenet"}
    save_checkpoint("unet.safetensors", model, about)
    loaded = load_checkpoint("unet.safetensors").model
    x = torch.zeros(1, 3, 40, 50)
    with torch.no_grad():
        assert torch.equal(loaded(x), model.eval()(x))
