"""Models with drawn weights that tell classes on a given scene: for tests of what is made of predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
import torch
from torch import nn

from floemap.learning.data.crops import physical
from floemap.learning.models.checkpoint import save_checkpoint
from floemap.learning.models.registry import build_model
from floemap.learning.settings import ModelSettings


def write_model(
    path: Path,
    product: Path,
    *,
    seed: int = 0,
    resolution_m: float = 2000.0,
    simulated: bool = False,
    legend: str = "six_classes",
    name: str = "resnet18_aspp",
    classes: int = 6,
) -> Path:
    """Write a checkpoint whose logits on `product` (a product.tif) have mean 0 and a spread of 3 for each class."""
    torch.manual_seed(seed)
    model = build_model(ModelSettings.checked(name=name), classes).eval()
    with rasterio.open(product) as d:
        stored = torch.from_numpy(d.read([1, 2, 3]))
    x = physical(stored)[None]
    seen = x[0, :, ~torch.isnan(x[0]).any(dim=0)]
    model.set_normalisation(seen.mean(dim=1).tolist(), seen.std(dim=1).tolist())
    last = [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
    assert last.bias is not None
    with torch.no_grad():
        logits = model(x)[0][:, ~torch.isnan(x[0]).any(dim=0)]
        scale = 3 / logits.std(dim=1)
        last.weight *= scale[:, None, None, None]
        last.bias.copy_((last.bias - logits.mean(dim=1)) * scale)
    save_checkpoint(path, model, {"legend": legend, "resolution_m": resolution_m, "simulated": simulated})
    return path


def probabilities_of(product: Path, model: Path) -> np.ndarray:
    """Return what one pass of a model gives on a product.tif, (K, rows, cols) float32, NaN where there are no data."""
    from floemap.learning.models.checkpoint import load_checkpoint

    with rasterio.open(product) as d:
        x = physical(torch.from_numpy(d.read([1, 2, 3])))
    with torch.no_grad():
        likely = load_checkpoint(model).model(x[None])[0].softmax(dim=0).numpy()
    likely[:, torch.isnan(x).any(dim=0).numpy()] = np.nan
    return likely
