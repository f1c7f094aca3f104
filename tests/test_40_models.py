"""Models: what they are made of, what they see, and that a place looks the same in a crop and in a scene."""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from seasoned import seasoned
from torch import Tensor, nn
from torch.nn import functional

from floemap.errors import ConfigError, ModelError
from floemap.learning.models.aspp import LocalMean
from floemap.learning.models.atrous import ATROUS_MODELS
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.pretrained import load_encoder
from floemap.learning.models.registry import MODELS, build_model
from floemap.learning.models.resnet import reach_px
from floemap.learning.settings import ModelSettings

NAN = float("nan")


def _model(name: str = "resnet18_aspp", classes: int = 6, seed: int = 0, **settings: Any) -> Any:
    torch.manual_seed(seed)
    return build_model(ModelSettings(name=name, **settings), classes).eval()


def _scene(rows: int, cols: int, seed: int = 1) -> Tensor:
    """(1, 3, rows, cols) in dB, dB and degrees."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, rows, cols, generator=g) * 5 + torch.tensor([-13.0, -27.0, 34.0])[:, None, None]


# What it is made of


def test_parameter_counts() -> None:
    count = {name: sum(p.numel() for p in _model(name).parameters()) for name in MODELS}
    encoder = sum(p.numel() for p in _model().encoder.parameters())
    # torchvision's resnet18 has 11 689 512; fc 513 000 and layer4 8 393 728 of them.
    assert encoder == 11_689_512 - 513_000 - 8_393_728
    assert count["resnet18_aspp"] == encoder + 1_257_222 == 4_040_006
    # three dense 3 x 3 convolutions in place of three depthwise and pointwise ones
    assert count["resnet18_aspp_dense"] - count["resnet18_aspp"] == 3 * (9 * 256 * 256 - (9 * 256 + 256 * 256))
    assert count["unet"] == 7_763_206


def test_output_stride_changes_no_parameter() -> None:
    shapes = [{k: v.shape for k, v in _model(output_stride=s).state_dict().items()} for s in (8, 16)]
    assert shapes[0] == shapes[1]


def _torchvision_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes in torchvision's resnet18, without layer4 and fc."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}

    def norm(name: str, channels: int) -> None:
        shapes.update({f"{name}.{k}": (channels,) for k in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.num_batches_tracked"] = ()

    norm("bn1", 64)
    for layer, (before, after) in enumerate(((64, 64), (64, 128), (128, 256)), 1):
        for block, channels in enumerate((before, after)):
            for conv, given in ((1, channels), (2, after)):
                shapes[f"layer{layer}.{block}.conv{conv}.weight"] = (after, given, 3, 3)
                norm(f"layer{layer}.{block}.bn{conv}", after)
        if before != after:
            shapes[f"layer{layer}.0.downsample.0.weight"] = (after, before, 1, 1)
            norm(f"layer{layer}.0.downsample.1", after)
    return shapes


def test_encoder_has_torchvisions_names_and_shapes() -> None:
    assert {k: tuple(v.shape) for k, v in _model().encoder.state_dict().items()} == _torchvision_shapes()


def _resnet18(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """ResNet18 to layer3, written once more with functions only, as the paper draws it."""

    def norm(name: str, y: Tensor) -> Tensor:
        mean, var, scale, shift = (
            w[f"{name}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (var + 1e-5).sqrt() * scale + shift

    x = norm("bn1", functional.conv2d(x, w["conv1.weight"], stride=2, padding=3)).relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    for layer in (1, 2, 3):
        for block in (0, 1):
            at, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = norm(f"{at}.bn1", functional.conv2d(x, w[f"{at}.conv1.weight"], stride=stride, padding=1)).relu()
            y = norm(f"{at}.bn2", functional.conv2d(y, w[f"{at}.conv2.weight"], padding=1))
            if stride == 2:
                x = norm(f"{at}.downsample.1", functional.conv2d(x, w[f"{at}.downsample.0.weight"], stride=2))
            x = (x + y).relu()
    return x


@torch.no_grad()
def test_encoder_is_resnet18() -> None:
    model = seasoned(_model()).double()
    x = _scene(64, 96).double() / 20
    torch.testing.assert_close(model.encoder(x), _resnet18(dict(model.encoder.state_dict()), x))


@torch.no_grad()
def test_stride_8_refines_stride_16() -> None:
    """With the same weights, each second row and column of the finer features is the coarser ones, borders included."""
    coarse, fine = seasoned(_model(output_stride=16)).double(), _model(output_stride=8).double()
    fine.load_state_dict(coarse.state_dict())
    x = _scene(96, 128).double()
    torch.testing.assert_close(fine.encode(x)[..., ::2, ::2], coarse.encode(x))
    assert (fine.stride, coarse.stride) == (8, 16)


@pytest.mark.parametrize("rates", [None, (3, 5, 9)])
def test_atrous_convolutions_reach_the_same_distance_at_both_strides(rates: tuple[int, int, int] | None) -> None:
    for stride in (8, 16):
        for name in ATROUS_MODELS:
            model = _model(name, output_stride=stride, rates=rates)
            found = [m.dilation[0] for m in model.decoder.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
            assert [rate * stride for rate in found] == [16 * rate for rate in rates or (12, 24, 36)]


@pytest.mark.parametrize("name", ATROUS_MODELS)
def test_outer_taps_start_at_zero(name: str) -> None:
    """So that what has not learnt adds nothing: a model is then what it is without far neighbours."""
    for branch in _model(name).decoder.branches[1:-1]:
        assert branch[0].weight[..., 1, 1].all()
        assert branch[0].weight.count_nonzero() == branch[0].weight[..., 1, 1].numel()


@pytest.mark.parametrize("name", MODELS)
def test_weights_follow_the_seed(name: str) -> None:
    a, b, c = (_model(name, seed=s).state_dict() for s in (3, 3, 4))
    assert all(torch.equal(a[k], b[k]) for k in a)
    drawn = [k for k, v in a.items() if v.ndim > 1]
    assert not any(torch.equal(a[k], c[k]) for k in drawn)


@pytest.mark.parametrize("name", MODELS)
def test_dropout_is_for_training_only(name: str) -> None:
    model, x = _model(name, dropout=0.5), _scene(48, 48)
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        dropped = [m for m in model.modules() if isinstance(m, nn.Dropout)]
        for m in dropped:
            m.train()
        assert not torch.equal(model(x), model(x))


# What it sees


def _seen_rows(model: SegmentationModel, rows: list[int], height: int) -> Tensor:
    """(len(rows), output rows): whether a row of the output depends on a row of the input.

    Not-a-number goes through convolutions, whatever their weights, maxima and sums, but not through what is not
    connected. So it shows the graph itself, where differences would show what random weights make of it.
    """
    model.normalise = lambda x: x  # type: ignore[method-assign]  # it would take them out
    x = torch.zeros(len(rows), 3, height, 16, dtype=torch.float64)
    for k, row in enumerate(rows):
        x[k, :, row] = NAN
    with torch.no_grad():
        return model.double().encode(x).isnan().any(dim=1).any(dim=-1)


@pytest.mark.parametrize("stride", [8, 16])
def test_encoder_sees_as_far_as_it_says(stride: int) -> None:
    model = _model(output_stride=stride)
    first = 160
    edges = [first - reach_px() - 1, first - reach_px(), first + reach_px(), first + reach_px() + 1]
    seen = _seen_rows(model, edges, 320)[:, first // stride]
    assert seen.tolist() == [False, True, True, False]
    assert model.margin_px == 112 and model.alignment_px == stride


def test_unet_sees_as_far_as_it_says() -> None:
    model = _model("unet")
    assert model.margin_px == 96 and model.alignment_px == 16 and model.stride == 1
    cell, reach = slice(160, 176), 94  # worked out by hand from the drawing of the network
    edges = [160 - reach - 1, 160 - reach, 175 + reach, 175 + reach + 1]
    seen = _seen_rows(model, edges, 336)[:, cell].any(dim=1)
    assert seen.tolist() == [False, True, True, False]


@pytest.mark.parametrize(("name", "stride"), [("resnet18_aspp", 16), ("resnet18_aspp", 8), ("unet", 16)])
@torch.no_grad()
def test_a_tile_with_its_margin_gives_the_scenes_features(name: str, stride: int) -> None:
    model = seasoned(_model(name, output_stride=stride))
    margin, s, a = model.margin_px, model.stride, model.alignment_px
    x = _scene(2 * margin + 5 * a, 2 * margin + 6 * a)
    whole = model.encode(x)
    for row, col, rows, cols in ((2 * a, 3 * a, a, 2 * a), (0, a, 2 * a, 3 * a), (2 * margin + 4 * a, 3 * a, a, a)):
        top, left = max(row - margin, 0), max(col - margin, 0)
        bottom, right = row + rows + margin, col + cols + margin
        tile = model.encode(x[..., top:bottom, left:right])
        inner = tile[..., (row - top) // s : (row - top + rows) // s, (col - left) // s : (col - left + cols) // s]
        expected = whole[..., row // s : (row + rows) // s, col // s : (col + cols) // s]
        torch.testing.assert_close(inner, expected, rtol=1e-4, atol=1e-4 * float(whole.std()))


@pytest.mark.parametrize("name", ["resnet18_aspp", "resnet18_aspp_dense"])
@torch.no_grad()
def test_decoding_does_not_depend_on_the_size(name: str) -> None:
    """Far from borders a crop's logits are the scene's: no branch looks at all of it."""
    model = seasoned(_model(name))
    reach = 36 + 1  # cells: the outermost atrous tap, and the 3 x 3 convolution
    features = torch.rand(1, 256, 2 * reach + 13, 2 * reach + 9, generator=torch.Generator().manual_seed(2))
    whole = model.decode(features)
    crop = model.decode(features[..., 5 : 2 * reach + 8, 3 : 2 * reach + 7])
    torch.testing.assert_close(
        crop[..., reach:-reach, reach:-reach],
        whole[..., reach + 5 : reach + 8, reach + 3 : reach + 7],
        rtol=1e-4,
        atol=1e-4,
    )


@torch.no_grad()
def test_local_mean() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    pooled = LocalMean()(x)
    assert pooled.tolist() == [[[[2, 3, 3.5], [3.5, 4.5, 5]]]]  # at the border, of the cells that there are


# From physical values to logits of pixels


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_any_size(name: str) -> None:
    """Rows and columns of no data below and to the right change nothing about what is returned."""
    model = _model(name, classes=3).double()
    model.set_normalisation([-13, -27, 34], [5, 5, 8])
    x = _scene(70, 90).double()
    logits = model(x)
    assert logits.shape == (1, 3, 70, 90)
    padded = functional.pad(x, (0, 6, 0, 10), value=NAN)
    torch.testing.assert_close(model(padded)[..., :70, :90], logits)


@torch.no_grad()
def test_upsampling_is_bilinear_between_the_cells_centres() -> None:
    model = _model()
    x = _scene(64, 64)
    cells, pixels = model.decode(model.encode(x)), model(x)
    # The pixels 7 and 8 of a cell lie half a pixel before and after its centre.
    between = pixels[..., 7:-8:16, 7:-8:16] + pixels[..., 8:-7:16, 8:-7:16] + pixels[..., 7:-8:16, 8:-7:16]
    between = (between + pixels[..., 8:-7:16, 7:-8:16]) / 4
    # Their mean is the cell's value, but for 1/32 of what its neighbours differ.
    torch.testing.assert_close(between, cells, rtol=0, atol=float((cells.max() - cells.min()) / 16))
    assert torch.equal(pixels[..., :8, :8], cells[..., :1, :1].expand(-1, -1, 8, 8))


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_normalisation_is_the_models_own(name: str) -> None:
    mean, std = [-13.4, -27.0, 34.1], [5.4, 5.1, 7.8]
    plain, own = _model(name), _model(name)
    own.set_normalisation(mean, std)
    x = _scene(32, 48)
    by_hand = (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(own(x), plain(by_hand))
    assert torch.equal(own.state_dict()["std"], torch.tensor(std))


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_no_data_is_the_mean(name: str) -> None:
    model = _model(name)
    model.set_normalisation([-13, -27, 34], [5, 5, 8])
    holes, filled = _scene(48, 48), _scene(48, 48)
    holes[..., 10:30, 5:20] = NAN
    filled[..., 10:30, 5:20] = model.mean[:, None, None]
    logits = model(holes)
    assert logits.isfinite().all()
    assert torch.equal(logits, model(filled))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_normalisation_stays_exact_in_other_types(dtype: torch.dtype) -> None:
    model = _model()
    model.set_normalisation([-13.418, -27.005, 34.1], [5.422, 5.099, 7.831])
    before = model.mean.clone()
    model.to(dtype)
    assert model.mean.dtype == torch.float32 and torch.equal(model.mean, before)
    assert torch.equal(model.float().mean, before)
    assert model.weight_dtype == torch.float32


@torch.no_grad()
def test_half_precision_agrees() -> None:
    model = seasoned(_model())
    model.set_normalisation([-13, -27, 34], [5, 5, 5])
    x = _scene(128, 128)
    exact = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        cast = model(x)
    half = model.bfloat16()(x)
    for logits in (cast, half):
        assert logits.dtype == torch.float32  # interpolated between cells that are no longer rounded
        assert (logits - exact).abs().mean() < 0.03 * exact.std()


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0, 0], [1, 1]), ([0, 0, 0], [1, 1]), ([0, 0, NAN], [1, 1, 1]), ([0, 0, 0], [1, 0, 1]), ([0] * 3, [1, -1, 1])],
)
def test_refuses_a_normalisation_that_is_none(mean: list[float], std: list[float]) -> None:
    with pytest.raises(ModelError, match="cannot normalise the bands hh_db, hv_db, incidence_deg"):
        _model().set_normalisation(mean, std)


class _Method(nn.Module):
    """One method of a model as a module: what an export takes."""

    def __init__(self, model: SegmentationModel, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.model, self.method)(x)


@pytest.mark.parametrize(
    ("name", "method"), [("resnet18_aspp", "encode"), ("resnet18_aspp", "decode"), ("unet", "encode")]
)
@torch.no_grad()
def test_encode_and_decode_can_be_exported(name: str, method: str) -> None:
    """As graphs for any size: nothing in them hangs on values or on one size."""
    model = _model(name)
    x = _scene(64, 96) if method == "encode" else torch.rand(1, 256, 4, 6)
    rows, cols = torch.export.Dim("rows", min=2, max=64), torch.export.Dim("cols", min=2, max=64)
    unit = model.alignment_px if method == "encode" else 1
    shapes = {"x": {2: unit * rows, 3: unit * cols}}
    program = torch.export.export(_Method(model, method), (x,), dynamic_shapes=shapes).module()
    other = _scene(96, 48) if method == "encode" else torch.rand(1, 256, 3, 7)
    torch.testing.assert_close(program(other), getattr(model, method)(other))


# The registry


def test_refuses_an_unknown_model() -> None:
    with pytest.raises(ConfigError, match=r"no model is called 'segformer'.*resnet18_aspp, resnet18_aspp_dense, unet"):
        build_model(ModelSettings(name="segformer"), 6)


@pytest.mark.parametrize("classes", [0, 1, 256])
def test_refuses_a_number_of_classes_that_labels_cannot_have(classes: int) -> None:
    with pytest.raises(ConfigError, match=f"{classes} classes"):
        build_model(ModelSettings(), classes)


# ImageNet weights


def _imagenet(seed: int = 9) -> dict[str, Tensor]:
    """A file's content as torchvision's, with layer4 and fc, of random numbers."""
    g = torch.Generator().manual_seed(seed)
    shapes = _torchvision_shapes() | {"layer4.0.conv1.weight": (8, 4, 3, 3), "fc.weight": (10, 8), "fc.bias": (10,)}
    return {
        k: torch.tensor(7) if k.endswith("tracked") else torch.rand(s, generator=g) + 0.1 for k, s in shapes.items()
    }


def _save_pth(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_loads_imagenet_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str) -> None:
    content, path = _imagenet(), tmp_path / f"resnet18{suffix}"
    if suffix == ".pth":
        _save_pth(path, content)
    else:
        save_file(content, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    model = _model()
    with caplog.at_level(logging.INFO):
        assert load_encoder(model, path) == digest
    assert digest in caplog.text
    loaded = model.encoder.state_dict()
    assert all(torch.equal(v, content[k]) for k, v in loaded.items())
    built = build_model(ModelSettings(encoder_weights=path), 6)
    assert torch.equal(built.encoder.conv1.weight, content["conv1.weight"])  # type: ignore[arg-type, union-attr]


def test_files_may_be_old(tmp_path: Path) -> None:
    """Of parameters instead of tensors, in an ordered dictionary, without counters of batches."""
    content = OrderedDict((k, nn.Parameter(v)) for k, v in _imagenet().items() if not k.endswith("tracked"))
    model = _model()
    load_encoder(model, _save_pth(tmp_path / "old.pth", content))
    assert torch.equal(model.encoder.bn1.weight, content["bn1.weight"])


def _without(key: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda content: {k: v for k, v in content.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("layer2.0.downsample.0.weight"), 'Missing key.*"layer2.0.downsample.0.weight"'),
        (lambda c: c | {"layer1.2.conv1.weight": torch.ones(1)}, 'Unexpected key.*"layer1.2.conv1.weight"'),
        (lambda c: {f"module.{k}": v for k, v in c.items()}, 'Missing key.*"conv1.weight", "bn1.weight", "bn1.bias"'),
        (
            lambda c: c | {"conv1.weight": torch.ones(64, 1, 7, 7)},
            r"size mismatch for conv1.weight: .*\[64, 1, 7, 7\].*\[64, 3, 7, 7\]",
        ),
        (lambda c: c | {"bn1.bias": torch.full((64,), NAN)}, "bn1.bias must be finite"),
        (lambda c: {"epoch": 3, "state_dict": c}, "does not hold a state dict"),
        (lambda c: [*c.values()], "does not hold a state dict"),
    ],
)
def test_refuses_other_weights(tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str) -> None:
    path = _save_pth(tmp_path / "other.pth", change(_imagenet()))
    model = _model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ModelError, match=message) as e:
        load_encoder(model, path)
    assert e.value.path == path and "resnet18-f37072fd.pth" in str(e.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class _Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["trap.pth", "trap.pkl", "trap.safetensors"])
def test_runs_nothing_from_a_file(tmp_path: Path, name: str) -> None:
    path, touched = tmp_path / name, tmp_path / "touched"
    if name == "trap.pth":
        _save_pth(path, {"conv1.weight": _Trap(touched)})
    else:
        path.write_bytes(pickle.dumps({"conv1.weight": _Trap(touched)}))
    with pytest.raises(ModelError, match="cannot be read as weights"):
        load_encoder(_model(), path)
    assert not touched.exists()


def test_refuses_files_of_other_kinds(tmp_path: Path) -> None:
    model = _model()
    whole = _save_pth(tmp_path / "whole.pth", _imagenet()).read_bytes()
    for name, content in {
        "noise.pth": b"\x93noise" * 99,
        "empty.pth": b"",
        "cut.pth": whole[: len(whole) // 2],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match="cannot be read as weights"):
            load_encoder(model, tmp_path / name)
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(ModelError, match="does not exist or is not a file"):
            load_encoder(model, path)


def test_refuses_to_load_an_encoder_into_a_unet(tmp_path: Path) -> None:
    path = _save_pth(tmp_path / "resnet18.pth", _imagenet())
    with pytest.raises(ModelError, match="'unet' has no ResNet18 encoder"):
        build_model(ModelSettings(name="unet", encoder_weights=path), 6)
