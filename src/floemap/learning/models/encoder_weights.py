"""ImageNet weights for a ResNet18 encoder, from a file that the user names: torchvision's .pth or a .safetensors."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from floemap.errors import ModelError
from floemap.learning.models.resnet import ResNet18Encoder
from floemap.learning.models.state_dicts import what_differs
from floemap.results.stage import sha256

logger = logging.getLogger(__name__)

_HINT = "Give torchvision's resnet18-f37072fd.pth, or the same as .safetensors."


def load_encoder(model: nn.Module, path: str | Path) -> str:
    """Load ResNet18's weights into ``model.encoder`` and return the file's SHA-256, which also goes to the log.

    The names are torchvision's. ``layer4`` and ``fc``, which the encoder does not have, are left out; counters of
    batches (``num_batches_tracked``) may be absent. Nothing in the file is run: it is read with ``weights_only``.

    Raises
    ------
    ModelError
        If the model has no such encoder, or the file cannot be read, is of another kind, lacks a tensor, has one too
        many or of another shape, or holds values that are not finite.
    """
    path = Path(path)
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, ResNet18Encoder):
        raise ModelError(
            f"the model {getattr(model, 'name', type(model).__name__)!r} has no ResNet18 encoder to load weights into.",
            path=path,
            hint="Leave encoder_weights out, or choose a model whose name begins with resnet18.",
        )
    if not path.is_file():
        raise ModelError("does not exist or is no file.", path=path, hint=_HINT)
    digest = sha256(path)
    given = {k: v for k, v in _read(path).items() if not k.startswith(("layer4.", "fc."))}
    wanted = encoder.state_dict()
    different = what_differs(wanted, given, may_lack=lambda name: name.endswith("num_batches_tracked"))
    if different:
        raise ModelError(f"is no ResNet18: {different}.", path=path, hint=_HINT)
    encoder.load_state_dict(wanted | given)
    logger.info("encoder starts from %s, SHA-256 %s", path, digest)
    return digest


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict by name."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # the readers fail in many ways on files of another kind
        reason = str(e).strip().split("\n")[0][:200]
        raise ModelError(f"cannot be read as weights: {type(e).__name__}: {reason}.", path=path, hint=_HINT) from e
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelError("holds no table of tensors by name.", path=path, hint=_HINT)
    # Half precision is as good as float32 here; counters stay whole numbers.
    return {str(k): v.detach().float() if v.is_floating_point() else v for k, v in content.items()}
