"""Models by import string: what is built, what is measured, and whole scenes in exact tiles or blended windows."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import own_models
import pytest
import torch
from numpy.typing import NDArray
from seasoned import seasoned
from torch import Tensor, nn

from floemap.errors import ConfigError, FloemapError, ModelError
from floemap.inference.predict.engines import make_network
from floemap.learning.data.crops import physical
from floemap.learning.models import unet
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.foreign import Foreign, logits_of, warn_of_reach
from floemap.learning.models.probe import Measured, find_sizes, measure
from floemap.learning.models.registry import build_model, check_model
from floemap.learning.models.resnet import ResNet18Encoder
from floemap.learning.models.resnet import reach_px as resnet_reach_px
from floemap.learning.settings import CropSettings, ModelSettings
from floemap.learning.targets import Head, heads_of
from floemap.learning.training import distributed
from floemap.learning.whole_scene.logits import SceneLogits, array_reader, scene_logits
from floemap.learning.whole_scene.windows import window_starts, window_weight
from floemap.sentinel1.encoding import NODATA

STATISTICS = ((-15.0, -26.0, 34.0), (4.0, 4.0, 7.0))


def own(name: str, classes: int = 5, crop_px: int = 64, **options: Any) -> SegmentationModel:
    torch.manual_seed(1)
    return build_model(ModelSettings(name=f"own_models:{name}", options=options), classes, crop_px=crop_px)


def measured(network: nn.Module, run: Callable[[Any, Tensor], Tensor] | None = None) -> Measured:
    run = run or partial(logits_of, heads=heads_of({}, 5))
    return measure(network, run, 3, *find_sizes(network, run, 3, 64))


# Reach


@pytest.mark.parametrize(
    ("kind", "stride", "reach"),
    [
        ("one pixel", 1, 0),
        ("one 3 x 3", 1, 1),
        ("dilated stack", 1, 1 + 2 + 4 + 3 * 2),
        # 3 on pixels, 1 on a grid of 2, 2 on a grid of 4: 13, which a tile of cells of 4 px needs 16 for.
        ("strides", 4, 16),
        ("pooled", 2, 1 + 1 + 2),
        # A pixel reads the row above, of the cell above its own, whose first row is two above and reads one more.
        ("nearest", 1, 3),
        ("far", 1, 200),
    ],
)
def test_the_measured_reach_is_that_by_hand(kind: str, stride: int, reach: int) -> None:
    found = measured(own_models.Layers(3, 5, kind))
    assert (found.stride, found.reach_px) == (stride, reach)


def test_the_reach_of_floemaps_own_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = measured(ResNet18Encoder(16))
    assert (encoder.stride, encoder.alignment_px) == (16, 16)
    assert encoder.reach_px == -(-resnet_reach_px() // 16) * 16
    monkeypatch.setattr(unet, "WIDTHS", (2, 2, 4, 4, 4))
    network = unet.UNet(ModelSettings(name="unet"), 5)
    network.normalise = lambda x: x  # type: ignore[method-assign]  # it would take NaN out
    found = measured(network, lambda net, x: net.decode(net.encode(x)))
    assert found == Measured(1, 16, unet.reach_px(4))


@pytest.mark.parametrize(
    "kind",
    [
        "too far",
        "group norm",
        "instance norm",
        "attention",
        "tiny mean",
        "mean without NaN",
        "switch",
        "sorted",
        "coordinates",
        "corner to corner",
    ],
)
def test_what_sees_the_whole_image_is_not_taken_for_limited(kind: str) -> None:
    assert measured(own_models.Layers(3, 5, kind)).reach_px is None


def test_measuring_leaves_weights_and_random_numbers_alone() -> None:
    network = own_models.Net(3, 5)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    torch.manual_seed(3)
    measured(network)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(3)))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


# Whole scenes


def scene(rows: int, cols: int) -> NDArray[np.int16]:
    rng = np.random.default_rng(0)
    mean, std = (np.reshape(v, (3, 1, 1)) for v in STATISTICS)
    stored = (100 * rng.normal(mean, std, (3, rows, cols))).astype(np.int16)
    stored[:, : rows // 3, : cols // 4] = NODATA
    return stored


def trained(model: SegmentationModel) -> SegmentationModel:
    seasoned(model)
    model.set_normalisation(*STATISTICS)
    return model.eval()


def in_pieces(model: SegmentationModel, stored: NDArray[np.int16], **options: Any) -> Tensor:
    rows = stored.shape[1]
    with scene_logits(model, array_reader(stored), stored.shape[1:], **options) as found:
        return torch.cat([found.rows(r, min(r + 48, rows)) for r in range(0, rows, 48)], dim=1)


@torch.no_grad()
def one_pass(model: SegmentationModel, stored: NDArray[np.int16]) -> Tensor:
    return model(physical(torch.from_numpy(stored))[None])[0]


@pytest.mark.parametrize(
    ("name", "options"), [("Net", {}), ("Coarse", {}), *(("Layers", {"kind": k}) for k in ("strides", "pooled", "far"))]
)
def test_tiles_of_a_limited_reach_give_what_one_pass_gives(name: str, options: dict[str, Any]) -> None:
    model, stored = trained(own(name, **options)), scene(203, 170)
    there = torch.from_numpy((stored != NODATA).any(axis=0))
    found, expected = in_pieces(model, stored, tile=8), one_pass(model, stored)
    torch.testing.assert_close(found[:, there], expected[:, there], atol=1e-4, rtol=1e-4)
    assert model.described["whole_scenes"] == "exact tiles"


def test_windows_are_blended_with_smooth_weights() -> None:
    model, stored = trained(own("Squeezed", crop_px=64)), scene(150, 100)
    assert isinstance(model, Foreign) and model.window_px == 64
    total, weights = torch.zeros(5, 150, 100), torch.zeros(150, 100)
    one = torch.sin(torch.pi * (torch.arange(64) + 0.5) / 64) ** 2
    for top in (0, 28, 57, 86):  # three steps of at most 32 from 0 to 150 - 64
        for left in (0, 18, 36):
            box = np.s_[:, top : top + 64, left : left + 64]
            total[box] += one[:, None] * one * one_pass(model, stored[box])
            weights[box[1:]] += one[:, None] * one
    there = torch.from_numpy((stored != NODATA).any(axis=0))
    expected = (total / weights)[:, there]
    torch.testing.assert_close(in_pieces(model, stored)[:, there], expected, atol=1e-4, rtol=1e-4)
    assert model.described["whole_scenes"] == "approximate, blended windows of 64 px"
    assert (expected - one_pass(model, stored)[:, there]).abs().max() > 1e-3  # it is an approximation


def test_windows_cover_a_scene_and_overlap_by_half() -> None:
    assert window_starts(10, 4) == [0, 2, 4, 6]
    assert window_starts(3, 4) == [0]
    for size in range(1, 60):
        starts = window_starts(size, 8)
        assert starts[-1] == max(0, size - 8)
        assert all(0 < b - a <= 4 for a, b in pairwise(starts))
    assert (window_weight(7) > 0).all()
    torch.testing.assert_close(window_weight(8)[:4] + window_weight(8)[4:], torch.ones(4))


def test_windows_give_any_rows_and_free_them() -> None:
    model, stored = trained(own("Squeezed", crop_px=32)), scene(200, 40)
    whole = in_pieces(model, stored)
    with scene_logits(model, array_reader(stored), (200, 40)) as found:
        rows = [found.rows(r, min(r + 7, 200)) for r in range(0, 200, 7)]
        final = found._pieces[-1]
        assert final.shape[0] - final.kept_from < 60 and not final._spare
    assert torch.equal(torch.cat(rows, dim=1), whole)


def test_autocast_serves_half_precision() -> None:
    model, stored = trained(own("Net")), scene(90, 80)
    there = torch.from_numpy((stored != NODATA).any(axis=0))
    half, full = (in_pieces(model, stored, precision=p)[:, there].softmax(0) for p in ("bf16", "fp32"))
    assert 0 < (half - full).abs().max() < 0.05


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
@pytest.mark.parametrize("name", ["Net", "Squeezed", "Coarse"])
def test_openvino_gives_the_same(name: str) -> None:
    model, stored = trained(own(name)), scene(150, 100)
    network, _ = make_network(model, "openvino", "fp32")
    with SceneLogits(network, array_reader(stored), (150, 100)) as found:
        rows = torch.cat([found.rows(r, min(r + 48, 150)) for r in range(0, 150, 48)], dim=1)
    there = torch.from_numpy((stored != NODATA).any(axis=0))
    torch.testing.assert_close(rows[:, there], in_pieces(model, stored)[:, there], atol=1e-4, rtol=1e-4)


# What is built


def test_options_bands_and_classes_are_given_by_name() -> None:
    model = own("Net", classes=4, width=6)
    assert isinstance(model, Foreign) and isinstance(model.network, own_models.Net) and model.training
    assert model.network.one.weight.shape == (6, 3, 3, 3) and model.network.two.weight.shape == (4, 6, 3, 3)
    assert model.described["options"] == {"width": 6} and len(model.described["source"]) == 64


def test_weights_follow_the_seed() -> None:
    assert all(torch.equal(a, b) for a, b in zip(own("Net").parameters(), own("Net").parameters(), strict=True))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("theirs", None)


#: Beginning of theirs.py: a network whose output is changed by what follows.
START = """
import torch
from torch import nn
from floemap.config import Settings
class Net(nn.Module):
    def __init__(self, bands, classes):
        super().__init__()
        self.conv = nn.Conv2d(bands, classes, 3, padding=1)
    def forward(self, x):
        y = self.conv(x)
"""


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("        return y[:, :2]", r"gives 2 channels; the legend has 5 classes"),
        ("        return y.mean((2, 3))", r"gives a tensor of \(1, 5\) for an input of"),
        ("        return y.argmax(1, keepdim=True)", r"int64; logits must be floating-point"),
        ("        return [y, y]", r"gives a list; a tensor of logits"),
        (
            "        return {'masks': y}",
            r"gives a table with masks; its logits must be at out or logits, or .*ice_type",
        ),
        ("        return y[:1]", r"gives logits of \(1, 5, 64, 64\) for an input of \(2, 3, 64, 64\)"),
        ("        return None", r"gives a NoneType"),
        ("        return y[..., :-1]", r"gives 49 x 49 cells for an input of 49 x 50 pixels: .* same whole multiple"),
        ("        return nn.functional.interpolate(y, scale_factor=2)", r"same whole multiple"),
        ("        return nn.functional.interpolate(y, size=(20, 20))", r"same whole multiple"),
        ("        return y / 0", r"gives NaN or infinity for finite values"),
        ("        return y * torch.rand(())", r"gives different logits for the same values"),
        ("        return y - y.mean(0, keepdim=True)", r"other logits for an image alone than in a batch"),
        ("        return y.detach()", r"do not depend on its weights"),
        ("        return self.missing(y)", r"fails for 3 bands and an input of .*AttributeError: .*missing"),
        (
            "        assert x.shape[-1] % 256 == 0\n        return y",
            r"needs images whose sides are multiples of 256 px, but the crops have 64 px",
        ),
        ("        assert x.shape[-1] == 224\n        return y", r"fails for 3 bands and an input of 49 x 50"),
        ("        return y\nNet = 3", r"neither a class derived from torch\.nn\.Module nor a function"),
        ("        return y\nclass Net: pass", r"neither a class derived from torch\.nn\.Module nor a function"),
        ("        return y\ndef Net(bands, classes): return 3", r"neither a class derived"),
        ("        return y\ndef Net() -> nn.Module: return 3", r"is a int, not a torch\.nn\.Module"),
        (
            "        return y\nclass Net(nn.Identity):\n    def __init__(self): super().__init__()",
            "no weights to train",
        ),
        ("        return y\nclass Net(Net):\n    def __init__(self, depth): pass", r"parameter depth has neither"),
        ("        return y\nclass Net(Net):\n    def __init__(self): 1 / 0", r"cannot be built: ZeroDivisionError"),
        ("        return y\nNot = Net\ndel Net", r"Net in theirs does not exist.*Not"),
        ("        return y\n1 / 0", r"theirs cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_wrong_model_is_refused(here: Path, rest: str, words: str) -> None:
    (here / "theirs.py").write_text(START + rest)
    with pytest.raises(FloemapError) as e:
        build_model(ModelSettings(name="theirs:Net"), 5, crop_px=64)
    assert re.search(words, f"{e.value} {e.value.hint}", re.S)
    assert isinstance(e.value, ConfigError | ModelError)


HEADS = (Head("ice_type", "class", 5), Head("concentration", "concentration", 1), Head("shares", "fractions", 5))


def test_a_table_by_heads_gives_their_channels_in_the_order_of_the_heads() -> None:
    torch.manual_seed(1)
    model = trained(build_model(ModelSettings(name="own_models:Headed"), HEADS, crop_px=64))
    assert isinstance(model, Foreign) and model.by_head and (model.channels, model.classes) == (11, 5)
    x = torch.randn(2, 3, 30, 20)
    with torch.no_grad():
        apart, together = model.network(model.normalise(x)), model(x)
    assert list(apart) == ["shares", "concentration", "ice_type"]
    assert torch.equal(together, torch.cat([apart[h.name] for h in HEADS], dim=1))
    stored = scene(103, 90)
    there = torch.from_numpy((stored != NODATA).any(axis=0))
    found, expected = in_pieces(model, stored, tile=8), one_pass(model, stored)
    torch.testing.assert_close(found[:, there], expected[:, there], atol=1e-4, rtol=1e-4)
    alone = build_model(ModelSettings(name="own_models:Headed"), 5, crop_px=64)
    assert isinstance(alone, Foreign) and alone.by_head and alone.channels == 5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("'ice_type': y", r"lacks the head concentration, shares: its heads are ice_type, concentration, shares"),
        (
            "'ice_type': y, 'concentration': y[:, :1], 'share': y",
            r"lacks the head shares and gives the head share, which the configuration does not have: .*\[tasks\.NAME\]",
        ),
        ("'ice_type': y, 'concentration': y[:, :1], 'shares': y, 'depth': y", r"Net gives the head depth, which the"),
        (
            "'ice_type': y, 'concentration': y[:, :2], 'shares': y",
            r"gives 2 channels for its head concentration, which needs 1.*parameter tasks",
        ),
        ("'ice_type': y, 'concentration': 3, 'shares': y", r"gives a int; .* this is of its head concentration"),
        ("'ice_type': y, 'concentration': y.mean((1, 2)), 'shares': y", r"this is of its head concentration"),
        (
            "'ice_type': y, 'concentration': y[:, :1, ::2, ::2], 'shares': y",
            r"gives heads of different sizes: ice_type \(1, 5, ",
        ),
    ],
)
def test_a_wrong_table_by_heads_is_refused(here: Path, given: str, words: str) -> None:
    text = START.replace("classes)", "classes, tasks)", 1) + f"        return {{{given}}}"
    (here / "theirs.py").write_text(text)
    with pytest.raises(ModelError) as e:
        build_model(ModelSettings(name="theirs:Net"), HEADS, crop_px=64)
    assert re.search(words, f"{e.value} {e.value.hint}", re.S)


def test_one_tensor_of_too_few_channels_for_the_heads_is_refused(here: Path) -> None:
    (here / "theirs.py").write_text(START + "        return y[:, :5]")
    with pytest.raises(
        ModelError, match=r"gives 5 channels; its heads \(ice_type: 5, concentration: 1, shares: 5\) need"
    ):
        build_model(ModelSettings(name="theirs:Net"), HEADS, crop_px=64)


def test_an_option_called_tasks_stays_an_option(here: Path) -> None:
    (here / "theirs.py").write_text(START.replace("classes)", "classes, tasks)", 1) + "        return y")
    model = build_model(ModelSettings(name="theirs:Net", options={"tasks": 3}), HEADS, crop_px=64)
    assert model.channels == 11 and isinstance(model, Foreign) and not model.by_head


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"options": {"widht": 3}}, r"'widht' is unknown.*Did you mean 'width'"),
        ({"options": {"classes": 3}}, r"sets classes, which follows from the bands and the legend"),
        ({"output_stride": 8}, r"model\.output_stride is a setting of floemap's models.*width"),
        ({"dropout": 0.5}, r"model\.dropout is a setting of floemap's models"),
        ({"name": "own_models:Nett"}, r"Nett in own_models does not exist.*Did you mean 'Net'"),
        ({"name": "not_there:Net"}, r"there is no module not_there.*PYTHONPATH"),
        ({"name": "own_models:"}, r"not an import string"),
        ({"name": "subprocess:Popen", "options": {"args": "true"}}, r"neither a class derived from torch\.nn\.Module"),
        ({"name": "unet", "options": {"width": 3}}, r"model unet has no options.*output_stride, rates and dropout"),
        ({"name": "unett"}, r"no model is called 'unett'.*import string"),
    ],
)
def test_wrong_settings_are_refused_before_any_work(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as e:
        check_model(ModelSettings.checked(**({"name": "own_models:Net"} | settings)))
    assert re.search(words, f"{e.value} {e.value.hint}", re.S)


def test_a_class_checks_its_options(here: Path) -> None:
    (here / "theirs.py").write_text(
        START + "        return y\nclass Net(Net):\n    class Options(Settings):\n        depth: int = 2\n"
        "    def __init__(self, bands, classes, options):\n        super().__init__(bands, classes)\n"
        "        self.depth = options.depth\n"
    )
    model = build_model(ModelSettings(name="theirs:Net", options={"depth": 3}), 5)
    assert isinstance(model, Foreign) and model.network.depth == 3
    with pytest.raises(ConfigError, match=r"'dept' is unknown \(did you mean 'depth'\?\)"):
        check_model(ModelSettings(name="theirs:Net", options={"dept": 3}))
    with pytest.raises(ConfigError, match="depth"):
        check_model(ModelSettings(name="theirs:Net", options={"depth": "deep"}))


#: A class of floemap's kind: its convolution is read before and after BatchNorm.
DERIVED = """
import torch
from torch import nn
from floemap.config import Settings
from floemap.learning.models.base import SegmentationModel
class Net(SegmentationModel):
    class Options(Settings):
        reach: int = 2
    def __init__(self, settings, classes):
        super().__init__(settings, classes, stride=2, alignment_px=2, reach_px=self.Options(**settings.options).reach,
                         feature_channels=8)
        self.conv, self.norm = nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, classes, 1)
    def encode(self, x):
        y = self.conv(self.normalise(x).to(self.weight_dtype))
        return y + torch.relu(self.norm(y))
    def decode(self, features):
        return self.head(features.to(self.weight_dtype)).float()
"""


def test_a_class_derived_from_floemaps_is_used_as_it_is(here: Path) -> None:
    (here / "theirs.py").write_text(DERIVED)
    model, stored = trained(build_model(ModelSettings(name="theirs:Net"), 5)), scene(150, 90)
    assert type(model).__name__ == "Net" and model.described["reach_px"] == 2
    there = torch.from_numpy((stored != NODATA).any(axis=0))
    found, expected = in_pieces(model, stored, tile=8), one_pass(model, stored)
    torch.testing.assert_close(found[:, there], expected[:, there], atol=1e-4, rtol=1e-4)
    with pytest.raises(ModelError, match="sees at most 0 px beyond a cell"):
        build_model(ModelSettings(name="theirs:Net", options={"reach": 0}), 5)
    with pytest.raises(ConfigError, match=r"'far' is unknown"):
        check_model(ModelSettings(name="theirs:Net", options={"far": 0}))


def test_a_network_of_one_size_is_run_on_windows_of_that_size(here: Path) -> None:
    (here / "theirs.py").write_text(START + "        assert x.shape[2:] == (64, 64), x.shape\n        return y")
    model, stored = trained(build_model(ModelSettings(name="theirs:Net"), 5, crop_px=64)), scene(150, 100)
    assert model.described["whole_scenes"] == "approximate, blended windows of 64 px"
    assert in_pieces(model, stored).isfinite().all()


def test_a_module_that_needs_the_usual_order_in_memory_gets_it(here: Path) -> None:
    (here / "theirs.py").write_text(START + "        return torch.relu(y.view(-1)).view(y.shape)")
    model, stored = trained(build_model(ModelSettings(name="theirs:Net"), 5)), scene(90, 70)
    assert isinstance(model, Foreign) and model.contiguous
    model.to(memory_format=torch.channels_last)  # as training does
    there = torch.from_numpy((stored != NODATA).any(axis=0))
    found, expected = in_pieces(model, stored), one_pass(model, stored)
    torch.testing.assert_close(found[:, there], expected[:, there], atol=1e-4, rtol=1e-4)


def test_a_receptive_field_beyond_the_crops_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    far = own("Layers", kind="far")
    warn_of_reach(far, CropSettings(size_px=100, context_px=60))
    assert not caplog.records
    warn_of_reach(far, CropSettings(size_px=100))
    assert "reaches 200 px beyond a cell, farther than crops of 100 px" in caplog.text


class _Activated(nn.BatchNorm2d):
    """Normalises and applies ReLU, as some packages' do."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.relu(super().forward(input))


def test_processes_refuse_a_normalisation_that_they_cannot_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "several", lambda: True)
    with pytest.raises(ConfigError, match="1 in the model is a _Activated"):
        distributed.share_batch_norm(nn.Sequential(nn.Identity(), _Activated(3)), torch.device("cpu"))
    usual = nn.Sequential(nn.BatchNorm2d(3))
    distributed.share_batch_norm(usual, torch.device("cpu"))
    assert isinstance(usual[0], distributed.SharedBatchNorm2d)
