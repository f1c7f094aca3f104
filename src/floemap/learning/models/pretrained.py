"""ImageNet weights for a ResNet18 encoder: fetching the official file, and loading it.

The file is torchvision's IMAGENET1K_V1, which the published study started from. By its publisher's convention the file
name ends in the first eight digits of the file's SHA-256; :func:`check_weights` compares them. Fetching needs no torch.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floemap.errors import DownloadError, FloemapError, ModelError, OutputError
from floemap.progress import Progress, silent
from floemap.results.locks import held
from floemap.results.stage import make_folder, os_errors, refuse_within, sha256

if TYPE_CHECKING:
    from torch import Tensor

    from floemap.learning.models.base import SegmentationModel

logger = logging.getLogger(__name__)

ENCODER_FILE = "resnet18-f37072fd.pth"
ENCODER_URL = f"https://download.pytorch.org/models/{ENCODER_FILE}"
#: The file has 47 MB.
_AT_MOST_BYTES = 60_000_000
#: First convolution of the encoder, and the number of channels of the images that it was trained on.
_FIRST, _COLOURS = "conv1.weight", 3
_HINT = f"Give torchvision's {ENCODER_FILE}, or the same weights as .safetensors."


def fetch_weights(out: str | Path, *, url: str = ENCODER_URL, progress: Progress = silent) -> Path:
    """Fetch the official ImageNet weights of ResNet18 into a folder. A correct file that is already there is kept.

    Parameters
    ----------
    out
        Folder for the file.
    url
        Address of the file, or of a mirror's copy under the same name.
    progress
        Progress callback, called as progress(received, expected, message) with numbers of bytes.

    Returns
    -------
    Path
        The file, for ``encoder_weights``.

    Raises
    ------
    DownloadError
        If the server refuses, does not answer in time, or sends something else.
    OutputError
        If the folder cannot be written, or holds a different file under that name.
    """
    from floemap.datasets.download.file import RemoteFile, download, is_file_name
    from floemap.datasets.download.http import Web, origin, plain

    folder, name = Path(out), plain(url).rpartition("/")[2]
    if not origin(url) or not is_file_name(name):
        raise DownloadError(f"{plain(url)} does not end in a file's name.")
    final = folder / name
    if _is_there(final):
        return final
    refuse_within(folder, into=True)
    file = RemoteFile(name=name, url=url, size=None, md5=None, at_most=_AT_MOST_BYTES)
    with os_errors(final):
        make_folder(folder)

    def check(part: Path) -> None:
        check_weights(part, name)

    def received(n: int) -> None:
        progress(n, max(n, 46_830_000), "weights")

    with os_errors(final), held(folder / f".{name}.lock", wait=True), Web() as web:
        if not _is_there(final):  # another process may have fetched it meanwhile
            download(file, folder, web, check=check, received=received)
    return final


def _is_there(path: Path) -> bool:
    """Return whether the file is there; refuse another one of its name."""
    if not path.exists():
        return False
    try:
        check_weights(path)
    except FloemapError as e:
        raise OutputError(e.message, path=path, hint="Move it away and fetch again.") from None
    return True


def check_weights(path: Path, name: str | None = None) -> str:
    """Return the SHA-256 of a weights file, after comparing it with the digits in `name`, by default the file's name.

    Raises
    ------
    FloemapError
        If they differ; the message shows both.
    """
    digits = (name or path.name).rpartition(".")[0].rpartition("-")[2]
    found = sha256(path)
    if len(digits) < 8 or not found.startswith(digits):
        raise FloemapError(f"has the SHA-256 {found}, where its name promises {digits}...", path=path)
    return found


def load_encoder(model: SegmentationModel, path: str | Path) -> str:
    """Load ResNet18's weights into ``model.encoder``, and return and log the file's SHA-256.

    The parameter names are torchvision's. ``layer4`` and ``fc``, which the encoder does not have, are ignored; the
    counters ``num_batches_tracked`` may be missing. The first convolution is fitted to the model's channels by
    :func:`fitted`. Reading runs no code from the file (``weights_only``).

    Raises
    ------
    ModelError
        If the model has no ResNet18 encoder, the file cannot be read, or its tensors do not fit or are not finite.
    """
    from floemap.learning.models.base import load_tensors
    from floemap.learning.models.resnet import ResNet18Encoder

    path = Path(path)
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, ResNet18Encoder):
        raise ModelError(
            f"the model {getattr(model, 'name', type(model).__name__)!r} has no ResNet18 encoder to load weights into.",
            path=path,
            hint="Leave encoder_weights out, or choose a model whose name begins with resnet18.",
        )
    if not path.is_file():
        raise ModelError("does not exist or is not a file.", path=path, hint=_HINT)
    digest = sha256(path)
    bands = model.bands
    counters = {k: v for k, v in encoder.state_dict().items() if k.endswith("num_batches_tracked")}
    given = {k: v for k, v in _read(path).items() if not k.startswith(("layer4.", "fc."))}
    if (first := given.get(_FIRST)) is not None and first.ndim == 4 and first.shape[1] == _COLOURS:
        given[_FIRST] = fitted(first, len(bands), len(bands.flagged))
    try:
        load_tensors(encoder, counters | given)
    except ValueError as e:
        raise ModelError(f"is not a ResNet18: {e}.", path=path, hint=_HINT) from e
    logger.info("encoder starts from %s, SHA-256 %s", path, digest)
    return digest


def fitted(weight: Tensor, bands: int, flags: int = 0) -> Tensor:
    """Fit the weights of a first convolution for colour images, (K, 3, h, w), to other numbers of bands.

    The three channels are repeated in turn, as often as there are bands, and scaled by 3 / `bands`, so that the sum
    over inputs keeps its size; a single band gets the sum of the three. This is the rule of R. Wightman, "PyTorch Image
    Models" (timm, ``adapt_input_conv``), https://github.com/huggingface/pytorch-image-models; the scaling is that of
    J. Carreira, A. Zisserman, "Quo vadis, action recognition?", CVPR 2017. Weights of flags start at 0.

    Returns
    -------
    Tensor
        (K, bands + flags, h, w); three bands without flags get the weights unchanged.
    """
    import torch

    if bands == 1:
        own = weight.sum(dim=1, keepdim=True)
    else:
        own = weight[:, [i % _COLOURS for i in range(bands)]]
        own = own if bands == _COLOURS else own * (_COLOURS / bands)
    return torch.cat([own, own.new_zeros(len(own), flags, *own.shape[2:])], dim=1) if flags else own


def _read(path: Path) -> dict[str, Any]:
    """Return the tensors of a state dict by name, floating-point ones in float32."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # the readers fail in many ways on files of another kind
        reason = str(e).strip().split("\n")[0][:200]
        raise ModelError(f"cannot be read as weights: {type(e).__name__}: {reason}.", path=path, hint=_HINT) from e
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise ModelError("does not hold a state dict (tensors by name).", path=path, hint=_HINT)
    return {str(k): v.detach().float() if v.is_floating_point() else v for k, v in content.items()}
