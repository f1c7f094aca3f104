"""Settings of the GPU during training and validation, and errors when its memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch.backends import cudnn

from floemap.errors import TrainingError
from floemap.learning.settings import LearningSettings


@contextmanager
def for_patches(device: torch.device, precision: str) -> Iterator[None]:
    """Let cuDNN benchmark its convolution algorithms, as all crops have one size; use no TF32 if precision is fp32.

    The tiles of whole scenes have many sizes, for which benchmarking takes longer than it saves; so the setting is
    limited to the block.
    """
    on_gpu = device.type == "cuda"
    with cudnn.flags(enabled=True, benchmark=True, allow_tf32=precision != "fp32") if on_gpu else nullcontext():
        yield


@contextmanager
def exact_float32() -> Iterator[None]:
    """Switch TF32 off while the block runs: with it a GPU rounds the factors of float32 products to ten bits."""
    if not torch.cuda.is_available():
        yield
        return
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        with cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before


@contextmanager
def memory_errors(settings: LearningSettings, out: Path) -> Iterator[None]:
    """Turn torch's error of exhausted GPU memory into one that says which settings to lower.

    Raises
    ------
    TrainingError
        If the GPU's memory is exhausted.
    """
    try:
        yield
    except torch.OutOfMemoryError as e:
        raise TrainingError(
            f"the GPU's memory is too small for batches of {settings.training.batch} crops of"
            f" {settings.crops.size_px} px with this model and loss: {str(e).splitlines()[0]}",
            path=out,
            hint="Raise training.accumulate, or lower training.batch or crops.size_px, into another folder.",
        ) from e
