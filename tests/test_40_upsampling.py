"""Upsampling as matrix products: torch's own, in values and gradients. Needs no geospatial library."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

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
def test_products_in_training_and_the_kernel_else(device: str) -> None:
    cells = torch.randn(1, 6, 20, 20, device=device)
    assert torch.equal(upsampled(cells, 16, (320, 320)), by_products(cells, 16))
    with torch.no_grad():
        assert torch.equal(upsampled(cells, 16, (311, 299)), by_kernel(cells, 16)[..., :311, :299])


def test_a_model_gives_the_first_pixels() -> None:
    """Of an image whose sides are not multiples of the stride."""
    model: SegmentationModel = build_model(ModelSettings(), 6).eval()
    x = torch.randn(1, 3, 59, 46)
    padded = functional.pad(x, (0, 2, 0, 5), value=torch.nan)
    whole = by_kernel(model.decode(model.encode(padded)), 16)
    torch.testing.assert_close(model(x), whole[..., :59, :46])
