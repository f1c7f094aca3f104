"""What is particular to training on a GPU: how cuDNN is set while patches are learnt from, and memory that runs out."""

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
    """Let cuDNN try its ways of convolving once, as all patches have one size; in fp32, without rounding to ten bits.

    Whole scenes come in tiles of many sizes, for which trying takes longer than it saves: so only while the block runs.
    """
    on_gpu = device.type == "cuda"
    with cudnn.flags(enabled=True, benchmark=True, allow_tf32=precision != "fp32") if on_gpu else nullcontext():
        yield


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 as float32: a GPU may otherwise round products to TF32's ten bits. Nothing changes elsewhere."""
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
def memory_said(settings: LearningSettings, out: Path) -> Iterator[None]:
    """Turn a GPU's memory that runs out into an error that says what to lower.

    Raises
    ------
    TrainingError
        In place of torch's own.
    """
    try:
        yield
    except torch.OutOfMemoryError as e:
        raise TrainingError(
            f"the GPU's memory is too small for batches of {settings.training.batch} patches of"
            f" {settings.crops.size_px} px with this model and loss: {str(e).splitlines()[0]}",
            path=out,
            hint="Lower training.batch or crops.size_px, into another folder.",
        ) from e
