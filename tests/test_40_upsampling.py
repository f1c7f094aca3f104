"""Upsampling as matrix products: torch's own, in values and gradients. Needs no geospatial library."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from floemap.learning.models.base import SegmentationModel
from floemap.learning.models.registry import build_model
from floemap.learning.models.upsampling import by_kernel, by_products, upsampled
from floemap.learning.settings import ModelSettings

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])


def test_values_by_hand() -> None:
    """Two cells, 0 and 8, at twice the size: the centres of pixels lie a quarter of a cell beside those of cells."""
    cells = torch.tensor([0.0, 8.0]).reshape(1, 1, 1, 2)
    assert by_products(cells, 2).tolist() == [[[[0, 2, 6, 8]] * 2]]


@DEVICES
@pytest.mark.parametrize(
    ("shape", "factor"), [((2, 6, 5, 7), 16), ((1, 3, 1, 4), 8), ((2, 2, 9, 1), 4), ((1, 1, 3, 3), 1)]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_products_equal_interpolation(
    device: str, shape: tuple[int, ...], factor: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    given = (torch.randn(shape) * 10).to(device).contiguous(memory_format=memory_format)
    slopes = torch.randn(*shape[:2], shape[2] * factor, shape[3] * factor, device=device)

    def of(way: Callable[[Tensor, int], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        with torch.autocast(device, torch.bfloat16):  # which does not round the products
            y = way(x, factor)
        y.backward(slopes.to(y.dtype))
        assert x.grad is not None
        return y.detach(), x.grad

    exact, exact_slopes = of(by_kernel, given.double())
    for kind, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        found, found_slopes = of(by_products, given.to(kind))
        assert found.dtype == kind and found.shape == exact.shape
        assert (found - exact).norm() <= tolerance * exact.norm()
        assert (found_slopes - exact_slopes).norm() <= tolerance * exact_slopes.norm()


@DEVICES
def test_each_device_has_its_way(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor torch's kernel to the last bit, as ever; on a GPU products in training, the kernel else."""
    cells = torch.randn(1, 6, 20, 20, device=device)
    assert torch.equal(upsampled(cells, 16), (by_kernel if device == "cpu" else by_products)(cells, 16))
    with torch.no_grad():
        assert torch.equal(upsampled(cells, 16), by_kernel(cells, 16))
    model: SegmentationModel = build_model(ModelSettings(), 6).eval()
    x = torch.randn(1, 3, 64, 48)
    if device == "cpu":
        assert torch.equal(model(x), by_kernel(model.decode(model.encode(x)), 16))
