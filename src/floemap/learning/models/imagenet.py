"""ImageNet weights for the encoder: the official file, fetched once and checked.

Torchvision's ResNet18 weights, IMAGENET1K_V1, which the published study started from. The file's name ends in the first
eight digits of its SHA-256, by the convention of its publisher, and that is what is checked.
"""

from __future__ import annotations

from pathlib import Path

from floemap.errors import DownloadError, FloemapError, OutputError
from floemap.progress import Progress, silent
from floemap.results.locks import held
from floemap.results.stage import make_folder, os_errors, sha256

ENCODER_FILE = "resnet18-f37072fd.pth"
ENCODER_URL = f"https://download.pytorch.org/models/{ENCODER_FILE}"
#: The file has 47 MB.
_AT_MOST_BYTES = 60_000_000


def fetch_weights(out: str | Path, *, url: str = ENCODER_URL, progress: Progress = silent) -> Path:
    """Fetch the official ImageNet weights of ResNet18 into a folder; a right file that is there is kept.

    Parameters
    ----------
    out
        Folder.
    url
        Of the file, or of a mirror's copy under the same name.
    progress
        Is told of the bytes.

    Returns
    -------
    Path
        Of the file, for ``encoder_weights``.

    Raises
    ------
    DownloadError
        If the server refuses, is away for too long, or sends something else.
    OutputError
        If the folder cannot be written, or holds another file under that name.
    """
    from floemap.datasets.download.file import RemoteFile, download, is_file_name
    from floemap.datasets.download.http import Web, origin, plain

    folder, name = Path(out), plain(url).rpartition("/")[2]
    if not origin(url) or not is_file_name(name):
        raise DownloadError(f"{plain(url)} does not end in a file's name.")
    final = folder / name
    if _is_there(final):
        return final
    file = RemoteFile(name=name, url=url, size=None, md5=None, at_most=_AT_MOST_BYTES)
    with os_errors(final):
        make_folder(folder)

    def check(part: Path) -> None:
        check_weights(part, name)

    with os_errors(final), held(folder / f".{name}.lock", wait=True), Web() as web:
        if not _is_there(final):  # somebody who was faster may have fetched it
            download(
                file,
                folder,
                web,
                check=check,
                received=lambda n: progress(n, max(n, 46_830_000), "weights"),
            )
    return final


def _is_there(path: Path) -> bool:
    """Whether the file is there; refuse another one under its name."""
    if not path.exists():
        return False
    try:
        check_weights(path)
    except FloemapError as e:
        raise OutputError(e.message, path=path, hint="Move it away and fetch again.") from None
    return True


def check_weights(path: Path, name: str | None = None) -> str:
    """Return the SHA-256 of a weights file, whose first digits its name must hold.

    Raises
    ------
    FloemapError
        If they differ, with both.
    """
    name = name or path.name
    digits = name.rpartition(".")[0].rpartition("-")[2]
    found = sha256(path)
    if len(digits) < 8 or not found.startswith(digits):
        raise FloemapError(f"has the SHA-256 {found}, where its name promises {digits}...", path=path)
    return found
