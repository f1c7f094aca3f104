"""Checkpoints: what comes back, what is refused, and that a failed write spoils nothing."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

import floemap.legend
from floemap.bands import BandSet
from floemap.errors import ConfigError, FloemapError, ModelError, OutputError
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.checkpoint import check_fits, load_checkpoint, save_checkpoint
from floemap.learning.models.checkpoint_header import read_about
from floemap.learning.models.registry import MODELS, build_model
from floemap.learning.settings import ModelSettings
from floemap.legend import ICE_WATER, SIX_CLASSES
from floemap.results.stage import write_whole
from floemap.sentinel1.encoding import BAND_NAMES, PRODUCT_BANDS

ABOUT = {"legend": "six_classes", "resolution_m": 80.0, "simulated": True}
LAYER = {"unit": "km", "step": 0.1, "offset": 0.0, "missing": "mean"}
MEAN, STD = [-13.418, -27.005, 34.1], [5.422, 5.099, 7.831]


def _model(name: str = "resnet18_aspp", **given: Any) -> Any:
    torch.manual_seed(0)
    model = build_model(ModelSettings(name=name, **given), 6)
    model.set_normalisation(MEAN, STD)
    with torch.no_grad():
        for buffer in (b for n, b in model.named_buffers() if "running" in n):
            buffer.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="module")
def trained() -> SegmentationModel:
    """Shared: don't change it."""
    return _model()


@pytest.fixture
def saved(tmp_path: Path, trained: SegmentationModel) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, trained, ABOUT)
    return path


def _rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> Path:
    """Write a checkpoint again with a changed header or changed tensors."""
    about, tensors = read_about(path), from_safetensors(path.read_bytes())
    change(about, tensors)
    path.write_bytes(to_safetensors(tensors, {"floemap": json.dumps(about)}))
    return path


# What comes back


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_round_trip_is_exact(tmp_path: Path, name: str, output_stride: int) -> None:
    model = _model(name, output_stride=output_stride, dropout=0.25).to(memory_format=torch.channels_last)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, ABOUT)
    state = torch.get_rng_state()
    loaded = load_checkpoint(path).model
    assert torch.equal(torch.get_rng_state(), state)  # a training that goes on draws what it would have drawn
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(before.values(), after.values(), strict=True))
    assert not loaded.training
    assert type(loaded) is type(model)
    assert (loaded.name, loaded.stride, loaded.classes) == (name, model.stride, 6)
    assert loaded.settings == model.settings


@torch.no_grad()
def test_what_is_loaded_predicts_the_same(saved: Path, trained: SegmentationModel) -> None:
    x = torch.randn(1, 3, 40, 50) * 5 - 20
    x[..., :9] = float("nan")
    loaded = load_checkpoint(saved).model
    logits = loaded(x)
    trained.eval()
    assert torch.equal(logits, trained(x))


def test_header_tells_all_that_predicting_needs(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    more = {"crs": "EPSG:3413", "data": {"01": "ab" * 32}, "training": {"epochs": 3, "folder": Path("run")}}
    save_checkpoint(path, _model(), ABOUT | more)
    about = read_about(path)
    assert about["model"] == {
        "name": "resnet18_aspp",
        "output_stride": 16,
        "rates": [12, 24, 36],
        "dropout": 0.0,
        "classes": 6,
        "parameters": 4_040_006,
    }
    assert about["bands"] == list(BAND_NAMES)
    assert about["normalisation"]["mean"] == pytest.approx(MEAN)
    assert about["normalisation"]["std"] == pytest.approx(STD)
    assert [c["key"] for c in about["legend"]["classes"]] == [c.key for c in SIX_CLASSES.classes]
    assert about["software"].startswith("floemap ")
    assert datetime.fromisoformat(about["created"]).tzinfo is not None
    assert about["data"] == more["data"] and about["training"] == {"epochs": 3, "folder": "run"}
    checkpoint = load_checkpoint(path)
    assert checkpoint.about == about and checkpoint.path == path
    assert (checkpoint.legend, checkpoint.bands) == (SIX_CLASSES, PRODUCT_BANDS)
    assert (checkpoint.resolution_m, checkpoint.simulated) == (80.0, True)


def test_a_loaded_checkpoint_can_be_saved_again(saved: Path, tmp_path: Path) -> None:
    first = load_checkpoint(saved)
    save_checkpoint(tmp_path / "again", first.model, first.about)
    second = load_checkpoint(tmp_path / "again")
    assert {k: v for k, v in second.about.items() if k != "created"} == {
        k: v for k, v in first.about.items() if k != "created"
    }
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_half_precision_halves_the_file(saved: Path, tmp_path: Path, trained: SegmentationModel) -> None:
    small = tmp_path / "small.safetensors"
    save_checkpoint(small, trained, ABOUT, dtype="float16")
    assert small.stat().st_size < 0.51 * saved.stat().st_size
    loaded, exact = load_checkpoint(small).model.state_dict(), trained.state_dict()
    for name, value in loaded.items():
        assert value.dtype == exact[name].dtype
        if value.ndim > 1:  # weights of convolutions
            assert torch.equal(value, exact[name].half().float())
        else:  # BatchNorm and normalisation
            assert torch.equal(value, exact[name])
    assert read_about(small)["dtype"] == "float16"


def test_models_of_other_types_are_float32_when_loaded(tmp_path: Path) -> None:
    model = _model().bfloat16()
    save_checkpoint(tmp_path / "model", model, ABOUT)
    loaded = load_checkpoint(tmp_path / "model").model
    assert loaded.weight_dtype == torch.float32
    assert torch.equal(loaded.mean, model.mean)
    assert torch.equal(loaded.encoder.conv1.weight, model.encoder.conv1.weight.float())  # type: ignore[arg-type, union-attr]


def test_header_is_read_without_torch(saved: Path) -> None:
    code = (
        "import sys; from floemap.learning.models.checkpoint_header import read_about; "
        "print(read_about(sys.argv[1])['model']['name'], 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code, saved], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["resnet18_aspp", "False"]


# Writing: whole or not at all


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["decoder.classifier.bias", "encoder.bn1.running_var"])
def test_refuses_to_write_weights_that_are_not_finite(tmp_path: Path, name: str, value: float) -> None:
    model = _model()
    model.state_dict()[name][0] = value
    with pytest.raises(ModelError, match=f"{name} holds values that are not finite"):
        save_checkpoint(tmp_path / "model", model, ABOUT)
    assert not list(tmp_path.iterdir())


def test_refuses_to_write_weights_that_half_precision_cannot_hold(tmp_path: Path) -> None:
    model = _model()
    model.state_dict()["decoder.classifier.weight"][0, 0] = 70_000
    with pytest.raises(ModelError, match=r"decoder.classifier.weight.*float16"):
        save_checkpoint(tmp_path / "model", model, ABOUT, dtype="float16")
    save_checkpoint(tmp_path / "model", model, ABOUT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"legend": "ice_water"}, "the model has 6 classes, the legend ice_water 2"),
        ({"resolution_m": 0}, "resolution_m is 0"),
        ({"resolution_m": float("nan")}, "resolution_m is nan"),
        ({"training": {"loss": float("inf")}}, "cannot be converted to JSON"),
    ],
)
def test_refuses_to_write_what_makes_no_sense(
    tmp_path: Path, trained: SegmentationModel, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        save_checkpoint(tmp_path / "model", trained, ABOUT | change)
    assert not list(tmp_path.iterdir())


def test_refuses_to_write_half_a_description(tmp_path: Path, trained: SegmentationModel) -> None:
    with pytest.raises(ModelError, match="cannot be written without resolution_m, simulated"):
        save_checkpoint(tmp_path / "model", trained, {"legend": "six_classes"})
    with pytest.raises(ConfigError, match="no legend is called 'ice_tipes'"):
        save_checkpoint(tmp_path / "model", trained, ABOUT | {"legend": "ice_tipes"})


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.fixture
def small_files() -> Iterator[None]:
    """The system itself stops a write in its middle: files may not grow beyond 1 MiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("trouble", ["full_disk", "small_files"])
def test_a_failed_write_keeps_the_old_file(
    saved: Path, trained: SegmentationModel, trouble: str, request: pytest.FixtureRequest
) -> None:
    before = saved.read_bytes()
    request.getfixturevalue(trouble)
    with pytest.raises(OutputError, match="cannot be written") as e:
        save_checkpoint(saved, trained, ABOUT | {"simulated": False})
    assert e.value.path == saved
    assert saved.read_bytes() == before
    new = saved.with_name("new.safetensors")
    with pytest.raises(OutputError):
        save_checkpoint(new, trained, ABOUT)
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_an_interrupted_write_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(saved, b"half")
    assert saved.read_bytes() == before and len(list(saved.parent.iterdir())) == 1


def test_refuses_a_folder_in_the_way(tmp_path: Path, trained: SegmentationModel) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        save_checkpoint(tmp_path / "model", trained, ABOUT)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written: (Not a directory|File exists)"):
        save_checkpoint(tmp_path / "file" / "model", trained, ABOUT)


# Reading: refusals


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        lambda c: c[:100],
        lambda c: b"",
        lambda c: os.urandom(4096),
        lambda c: c + b"more",
        lambda c: struct.pack("<Q", 2**60) + c[8:],
        lambda c: b"PK\x03\x04" + c,
    ],
    ids=["half", "start", "empty", "noise", "longer", "endless header", "zip"],
)
def test_refuses_what_is_no_whole_safetensors_file(saved: Path, damage: Callable[[bytes], bytes]) -> None:
    saved.write_bytes(damage(saved.read_bytes()))
    for read in (read_about, load_checkpoint):
        with pytest.raises(ModelError, match=r"is not a complete \.safetensors file") as e:
            read(saved)
        assert e.value.path == saved


class _Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_runs_nothing_from_a_pickle(tmp_path: Path) -> None:
    for name, write in (("a.pkl", pickle.dump), ("a.pt", torch.save)):
        with (tmp_path / name).open("wb") as f:
            write({"weights": _Trap(tmp_path / "touched")}, f)
        with pytest.raises(ModelError, match=r"is not a complete \.safetensors file"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "touched").exists()


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ModelError, match="does not exist or is not a file"):
            load_checkpoint(path)


def test_refuses_tensors_that_floemap_did_not_write(tmp_path: Path, trained: SegmentationModel) -> None:
    for metadata in (None, {"format": "pt"}):
        path = tmp_path / "other.safetensors"
        path.write_bytes(to_safetensors(dict(trained.state_dict()), metadata))
        with pytest.raises(ModelError, match=r"no description by floemap.*encoder_weights"):
            load_checkpoint(path)


@pytest.mark.parametrize("header", ["", "{", "[]", "3", "null", '{"schema_version": null}', '{"schema_version": "x"}'])
def test_refuses_a_damaged_description(tmp_path: Path, header: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(to_safetensors({"x": torch.zeros(1)}, {"floemap": header}))
    with pytest.raises(ModelError, match=r"damaged description|is not readable JSON"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a, t: a.update(schema_version=2, software="floemap 9.1"),
            r"version 2, by floemap 9\.1.*Update floemap",
        ),
        (lambda a, t: a.pop("bands"), "damaged description: bands is None"),
        (lambda a, t: a.update(simulated="no"), "damaged description: simulated is 'no'"),
        (lambda a, t: a["model"].pop("output_stride"), "damaged description: 'output_stride' of the model is missing"),
        (lambda a, t: a["model"].update(name="segformer"), "cannot build: no model is called 'segformer'"),
        (lambda a, t: a["model"].update(output_stride=4), "cannot build: output_stride is 4"),
        (lambda a, t: a["model"].update(classes=5), "gives 5 classes; its legend has 6"),
        (lambda a, t: a.update(bands=["hh_db", "vv_db"]), "reads the bands .*vv_db has no description"),
        (lambda a, t: a.update(bands=["hh_db", "hv_db"]), "not hold the model that its header describes"),
        (lambda a, t: a.update(bands=["hh_db", "hh_db", "hv_db"]), "each only once"),
        (lambda a, t: a.update(bands=[]), "reads the bands"),
        (lambda a, t: a.update(bands=[1, 2, 3]), "reads the bands"),
        (lambda a, t: a.update(bands=["hh_db", "x", "y"], layers=[1]), "reads the bands"),
        (lambda a, t: a.update(bands=["hh_db", "hv_db", "x"], layers={"x": LAYER | {"step": 0}}), "must be positive"),
        (lambda a, t: a.update(bands=["hh_db", "hv_db", "x"], layers={"x": LAYER | {"step": "1"}}), "step is '1'"),
        (lambda a, t: a.update(bands=["hh_db", "hv_db", "x"], layers={"x": LAYER | {"missing": "no"}}), "gaps 'no'"),
        (lambda a, t: a["legend"].update(name="egg_code"), "another legend: no legend is called 'egg_code'"),
        (lambda a, t: a["legend"].pop("classes"), "damaged description of its legend"),
        (lambda a, t: a["legend"]["classes"].reverse(), "other classes in the legend six_classes: 5 open_water"),
        (lambda a, t: t.pop("encoder.conv1.weight"), "Missing key.*encoder.conv1.weight"),
        (lambda a, t: t.update(extra=torch.zeros(2)), 'Unexpected key.*"extra"'),
        (lambda a, t: t.update(mean=torch.zeros(4)), r"size mismatch for mean: .*\[4\].*\[3\]"),
        (
            lambda a, t: t.update(std=torch.ones(3, dtype=torch.int32)),
            "std must be finite .*; it is torch.int32",
        ),
        (lambda a, t: t["std"].fill_(float("nan")), "std must be finite"),
        (
            lambda a, t: a["model"].update(name="resnet18_aspp_dense"),
            "not hold the model that its header describes",
        ),
        (lambda a, t: a["model"].update(name="unet"), "describes: Missing key.{250,320} [.]{3}"),
    ],
)
def test_refuses_what_does_not_fit_together(
    saved: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None], message: str
) -> None:
    _rewrite(saved, change)
    with pytest.raises(ModelError, match=message) as e:
        load_checkpoint(saved)
    assert e.value.path == saved


def _legends(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    """Let six_classes be another table today than when the checkpoint was written."""
    classes = list(SIX_CLASSES.classes)
    classes[1] = replace(classes[1], **changed)
    table = replace(SIX_CLASSES, classes=tuple(classes))
    monkeypatch.setattr(floemap.legend, "LEGENDS", MappingProxyType({"six_classes": table}))


def test_refuses_a_legend_that_has_changed(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _legends(monkeypatch, key="dark_nilas")
    with pytest.raises(ModelError, match=r"other classes in the legend six_classes.*1 nilas.*today.*1 dark_nilas"):
        load_checkpoint(saved)


def test_tells_of_changed_codes(saved: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    load_checkpoint(saved)
    assert caplog.text == ""
    _legends(monkeypatch, stages=frozenset({82, 87_000}))
    load_checkpoint(saved)
    assert "had other SIGRID-3 codes" in caplog.records[-1].message and caplog.records[-1].levelno == logging.WARNING


@given(st.integers(0, 3000), st.binary(min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_header_is_refused_or_harmless(saved: Path, at: int, noise: bytes) -> None:
    """Whatever bytes are changed in it, there is one of our errors or a model of the right kind."""
    content = bytearray(saved.read_bytes())
    content[at : at + len(noise)] = noise
    path = saved.with_name("damaged.safetensors")
    path.write_bytes(content)
    try:
        assert load_checkpoint(path).model.classes == 6
    except FloemapError as e:
        assert e.path == path


# Fitting


def test_fits_what_it_was_trained_for(saved: Path) -> None:
    checkpoint = load_checkpoint(saved)
    check_fits(checkpoint, bands=PRODUCT_BANDS, resolution_m=80.0)
    check_fits(checkpoint, bands=PRODUCT_BANDS, resolution_m=79.9999, legend="six_classes")
    # the same classes, made from a chart's codes in another way
    check_fits(checkpoint, bands=PRODUCT_BANDS, resolution_m=80.0, legend="extremeearth")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"bands": BandSet(PRODUCT_BANDS.bands[::-1])}, "not incidence_deg, hv_db, hh_db"),
        ({"bands": BandSet(PRODUCT_BANDS.bands[:2])}, "reads hh_db, hv_db, incidence_deg, not hh_db, hv_db."),
        ({"resolution_m": 40.0}, "was trained on pixels of 80 m; the product has 40 m.*--resolution 80"),
        ({"resolution_m": float("nan")}, "the product has nan m"),
        ({"legend": "ice_water"}, r"not open_water, ice \(legend ice_water\)"),
        ({"legend": ICE_WATER}, "has the classes new_ice"),
        ({"legend": "ai4arctic"}, r"legend ai4arctic.*Label the charts"),
    ],
)
def test_refuses_what_it_was_not_trained_for(saved: Path, other: dict[str, Any], message: str) -> None:
    checkpoint = load_checkpoint(saved)
    with pytest.raises(ModelError, match=message) as e:
        check_fits(checkpoint, **(dict[str, Any](bands=PRODUCT_BANDS, resolution_m=80.0) | other))
    assert e.value.path == saved
