"""Gradients of every layer against float64, in both memory formats: on the processor, and on a GPU where there is one.

Needs torch and none of the geospatial libraries: on a borrowed machine, `pytest -m gpu tests/test_40_gradients.py`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from seasoned import seasoned
from torch import Tensor, nn

from floemap.learning.losses import make_loss
from floemap.learning.models.aspp import AtrousDepthwise
from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.registry import MODELS, build_model
from floemap.learning.settings import LossSettings, ModelSettings

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]),
]
FORMATS = [
    pytest.param(torch.contiguous_format, id="contiguous"),
    pytest.param(torch.channels_last, id="channels last"),
]


@pytest.fixture(autouse=True)
def exact_products() -> Any:
    """Without TF32, which rounds a GPU's float32 products to ten bits."""
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False)
    with flags:
        yield


def _model(name: str) -> SegmentationModel:
    torch.manual_seed(0)
    rates = (1, 2, 3) if name != "unet" else None
    model = seasoned(build_model(ModelSettings(name=name, rates=rates), 6)).train()
    model.set_normalisation([-13, -27, 34], [5, 5, 8])
    return model


def _scene() -> tuple[Tensor, Tensor]:
    """(2, 3, 96, 112) float64 in dB, dB and degrees; (2, 96, 112) classes, some without."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 96, 112, generator=g, dtype=torch.float64) * 5
    labels = torch.randint(0, 6, (2, 96, 112), generator=g, dtype=torch.uint8)
    labels[:, :5] = 255
    return x + torch.tensor([-13.0, -27.0, 34.0])[:, None, None], labels


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found.detach().cpu().double() - exact).norm() / exact.norm().clamp(min=1e-30))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.03)])
def test_gradients_of_each_layer(
    name: str, device: str, memory_format: torch.memory_format, precision: str, tolerance: float
) -> None:
    """Each layer by itself, on what it is given within the model: gradients of its input and of its weights.

    One by one, since rounding in bfloat16 adds up through a whole network to half of its gradients.
    """
    model = _model(name).double()
    given: dict[str, Tensor] = {}
    layers = {n: m for n, m in model.named_modules() if n and not list(m.children())}

    def remember(name: str, x: Tensor) -> None:
        given.setdefault(name, x.detach().clone())

    hooks = [m.register_forward_pre_hook(lambda _, x, n=n: remember(n, x[0])) for n, m in layers.items()]
    model(_scene()[0])
    for hook in hooks:
        hook.remove()
    assert len(given) > 20
    wrong: dict[Any, Any] = {}
    for layer, module in layers.items():
        if layer not in given:
            continue
        exact = _layer_gradients(module, given[layer])
        single = module.to(device, torch.float32, memory_format=memory_format)
        x = given[layer].to(device, torch.float32).contiguous(memory_format=memory_format)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            found = _layer_gradients(single, x)
        errors = {k: _relative(v, exact[k]) for k, v in found.items()}
        wrong |= {f"{layer} {k}": e for k, e in errors.items() if not e < tolerance}
    assert wrong == {}


def _layer_gradients(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Gradients of a weighted sum of the layer's output."""
    module.zero_grad()
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(x + 0)  # a layer that works in place must not change the leaf
    g = torch.Generator().manual_seed(2)
    weights = torch.randn(y.shape, generator=g, dtype=torch.float64).to(y.device, y.dtype)
    (y * weights).sum().backward()
    assert x.grad is not None
    return {"input": x.grad} | {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_gradients_of_the_whole(name: str, device: str, memory_format: torch.memory_format) -> None:
    x, labels = _scene()
    loss = make_loss(LossSettings(), 6)
    exact_model = _model(name).double()
    loss(exact_model(x), labels).backward()
    exact = {n: p.grad for n, p in exact_model.named_parameters()}
    model = _model(name).to(device, memory_format=memory_format)  # type: ignore[call-overload]
    logits = model(x.float().to(device).contiguous(memory_format=memory_format))
    loss(logits, labels.to(device)).backward()
    errors = {n: _relative(p.grad, exact[n]) for n, p in model.named_parameters() if p.grad is not None}
    assert errors.keys() == exact.keys()
    assert max(errors.values()) < 0.02, errors  # float32 moves some inputs of ReLU across 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_float32_under_autocast(name: str, device: str) -> None:
    """The classifier computes as in prediction: its logits have more digits than bfloat16 holds."""
    model = _model(name).to(device)
    x = _scene()[0].float().to(device)
    with torch.autocast(device, torch.bfloat16):
        logits = model.decode(model.encode(x))
    assert logits.dtype == torch.float32
    assert (logits != logits.bfloat16().float()).float().mean() > 0.9


def test_gradients_of_depthwise_convolutions_are_whole_in_bfloat16() -> None:
    """torch 2.13's own leave gaps at this size, which show where the memory held something before."""
    torch.manual_seed(0)
    for _ in range(6):
        layer = AtrousDepthwise(256, 12).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = torch.randn(4, 256, 32, 32).contiguous(memory_format=torch.channels_last)
        reference = torch.autograd.grad(layer(x).square().mean(), layer.weight)[0]
        litter = [torch.full((n,), float("nan")) for n in (2304, 1 << 12, 1 << 16, 1 << 18, 1 << 20, 1 << 22)]
        del litter
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = layer(x).float().square().mean()
        found = torch.autograd.grad(value, layer.weight)[0]
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found, reference, rtol=0.05, atol=1e-6)


@pytest.mark.parametrize(("rate", "shape"), [(1, (7, 5)), (2, (7, 5)), (3, (20, 16)), (3, (9, 7)), (4, (5, 30))])
def test_depthwise_convolutions_are_those_of_torch(rate: int, shape: tuple[int, int]) -> None:
    """In training on a processor, whether the sides are multiples of the rate or not, and where taps lie outside."""
    torch.manual_seed(0)
    layer = AtrousDepthwise(6, rate).double()
    x = torch.randn(2, 6, *shape, dtype=torch.float64, requires_grad=True)
    slopes = torch.randn(2, 6, *shape, dtype=torch.float64)
    plain = torch.nn.functional.conv2d(x, layer.weight, padding=rate, dilation=rate, groups=6)
    found = layer(x)
    pairs = zip(*(torch.autograd.grad(y, (x, layer.weight), slopes) for y in (found, plain)), strict=True)
    for a, b in ((found, plain), *pairs):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
