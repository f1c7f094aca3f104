"""Products from servers and object stores, copied to the disk for as long as they are worked on.

A stopped call leaves what was copied, and the same call resumes there, unless the product has changed. When the work
has ended, the copy is removed and a note stays, by which a finished product is recognised without another copy.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from floemap.datasets.download.file import RemoteFile, download
from floemap.datasets.download.http import Web, refused, whole_number
from floemap.datasets.download.many import Job, plan_downloads
from floemap.errors import MISSHAPEN, DownloadError, FloemapError
from floemap.outcomes import HasFolder
from floemap.progress import Progress, between
from floemap.remote.address import Address
from floemap.remote.object_store import list_files, signed_url
from floemap.results.names import is_plain
from floemap.results.stage import LOCK, alone_in, read_json, write_json

#: Folder of the copies, within that of the results.
COPIES = ".copies"
#: Largest product to copy. Products that floemap reads have below 2 GB, unpacked ones below 4.
MAX_BYTES = 8 << 30
#: Folders of a product that are read; the first contains the manifest and the mark of simulated products.
_READ = {
    "": ("manifest.safe", "simulated.txt"),
    "annotation": (".xml",),
    "annotation/calibration": (".xml",),
    "measurement": (".tif", ".tiff"),
}
_MOST_FILES = 100
#: Share of copying in the time of a product.
_SHARE = 0.3

Result = TypeVar("Result", bound=HasFolder)
Work = Callable[[Path, Collection[Path], Progress], Result]


@dataclass(frozen=True)
class Known:
    """A product that an earlier call has finished, as its note describes it.

    Attributes
    ----------
    path
        A path with the name of the product's file or folder; it leads nowhere.
    name
        Name of the product, and of its result.
    start
        Start of the acquisition.
    inputs
        Identity of the product, as in the record of its result.
    """

    path: Path
    name: str
    start: datetime
    inputs: dict[str, Any]


@dataclass(frozen=True)
class _Remote:
    """A product as it is now: its files by their place in the copy, and a digest that changes when one of them does."""

    files: Mapping[str, RemoteFile]
    state: str


class Copies:
    """Copies of products in a folder of results.

    Parameters
    ----------
    results
        Folder of the results. The copies are in a hidden folder within it.
    addresses
        Addresses of products by the paths that stand for them.
    """

    def __init__(self, results: str | Path, addresses: Mapping[Path, Address]) -> None:
        self._folder, self._addresses = Path(results) / COPIES, addresses

    def around(self, work: Work[Result], finished: Callable[[Known], Result | None]) -> Work[Result]:
        """Return `work` for paths and addresses: those with an address are copied before and removed afterwards.

        Parameters
        ----------
        finished
            Returns the result of a product if it is finished; the product is then not copied.
        """

        def done(product: Path, made: Collection[Path], progress: Progress) -> Result:
            address = self._addresses.get(product)
            if address is None:
                return work(product, made, progress)
            try:
                return self._done(address, work, finished, made, progress)
            except FloemapError as e:
                _name_address(e, address, self._place(address))
                raise

        return done

    def _done(
        self,
        address: Address,
        work: Work[Result],
        finished: Callable[[Known], Result | None],
        made: Collection[Path],
        progress: Progress,
    ) -> Result:
        place = self._place(address)
        note = place.with_suffix(".json")
        progress(0, 1, "asking for it")
        with Web() as web:
            remote = _look(address, web)
            known = _known(note, address, remote.state)
            if known is not None and (result := finished(known)) is not None:
                return result
            with _copied(address, remote, place, web, between(progress, 0.0, _SHARE)) as path:
                result = work(path, made, between(progress, _SHARE, 1.0))
        _note(note, remote.state, result.folder)
        return result

    def _place(self, address: Address) -> Path:
        """Return the folder of a product's copy."""
        digest = hashlib.sha256(address.shown.encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / digest[:16]


@contextmanager
def _copied(address: Address, remote: _Remote, place: Path, web: Web, progress: Progress) -> Iterator[Path]:
    """Give the path of a product's copy in `place`; remove it unless the work or the copying is stopped."""
    with alone_in(place, "copies a product into"):
        _resume(place, remote.state)
        todo = {inside: file for inside, file in remote.files.items() if not _is_there(place / inside, file)}
        jobs = [Job(file, (place / inside).parent) for inside, file in todo.items()]
        plan_downloads(jobs, place, "Free some space, or choose another --out.")
        total = sum(job.file.at_most for job in jobs)
        before = 0
        for job in jobs:
            received = functools.partial(_tell, between(progress, before / total, (before + job.file.at_most) / total))
            download(job.file, job.folder, web, received=functools.partial(received, job.file.at_most))
            before += job.file.at_most
        try:
            yield place / address.name
        except Exception:
            _remove(place)
            raise
        _remove(place)


def _tell(progress: Progress, total: int, now: int) -> None:
    progress(now, total, "copying")


def _name_address(error: FloemapError, address: Address, place: Path) -> None:
    """Let an error name the address in place of the copy, which is gone when a person reads it."""
    if error.path is not None and error.path.absolute().is_relative_to(place.absolute()):
        error.path = Path(address.name)
    for copy in (place / address.name, place):
        error.message = error.message.replace(str(copy), str(address))
        error.hint = None if error.hint is None else error.hint.replace(str(copy), str(address))


def _look(address: Address, web: Web) -> _Remote:
    """Ask what a product is like now.

    Raises
    ------
    DownloadError
        If it cannot be read, is too large, or its server does not say how large it is.
    """
    if address.is_file:
        url = signed_url(address) if address.in_store else address.url
        file, state = _asked(address, url, web)
        files = {address.name: file}
    else:
        files, state = _listed(address)
    total = sum(file.at_most for file in files.values())
    if total > MAX_BYTES:
        hint = "Copy it yourself if it is a product, and give its path."
        raise DownloadError(f"{address} has {total} bytes; products of up to {MAX_BYTES} are copied.", hint=hint)
    return _Remote(files, hashlib.sha256(state.encode("utf-8", "backslashreplace")).hexdigest())


def _asked(address: Address, url: str, web: Web) -> tuple[RemoteFile, str]:
    """Ask a server for the size and version of a file, by its first byte: a signature may not hold for HEAD."""
    with web.open(url, headers={"Range": "bytes=0-0"}) as response:
        if response.status_code not in (200, 206):
            error = refused(response, url)
            error.hint = "Check the address, and that it may be read: a signed address expires."
            raise error
        whole = response.headers.get("Content-Range", "").rpartition("/")[2]
        size = whole_number(whole if response.status_code == 206 else response.headers.get("Content-Length"))
        version = [response.headers.get(name, "") for name in ("ETag", "Last-Modified")]
    if size is None:
        hint = "Copy the product yourself, and give its path."
        raise DownloadError(f"the server of {address} does not say how large the file is.", hint=hint)
    if not size:
        raise DownloadError(f"{address} is empty.")
    return RemoteFile(address.name, url, size, None, size), f"{size} {version}"


def _listed(address: Address) -> tuple[dict[str, RemoteFile], str]:
    """Return the files of a product's folder in an object store, as far as they are read."""
    there = [f for f in list_files(address) if _is_read(f.inside)]
    names = [f.inside.rpartition("/")[2] for f in there]
    if "manifest.safe" not in {f.inside.lower() for f in there}:
        raise DownloadError(f"{address} contains no manifest.safe.", hint="Give the folder of a product, or its zip.")
    if len(there) > _MOST_FILES or not all(map(is_plain, names)):
        raise DownloadError(f"{address} contains {len(there)} files or odd names, where a product has about ten files.")
    if empty := [f.inside for f in there if not f.size]:
        raise DownloadError(f"{address} contains an empty file, {empty[0]}.")
    files = {
        f"{address.name}/{f.inside}": RemoteFile(name, signed_url(address.within(f.inside)), f.size, None, f.size)
        for f, name in zip(there, names, strict=True)
    }
    return files, repr(there)


def _is_read(inside: str) -> bool:
    folder, _, name = inside.lower().rpartition("/")
    return not name.startswith(".") and name.endswith(_READ.get(folder, ()))


def _is_there(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size


def _resume(place: Path, state: str) -> None:
    """Empty the folder of a copy unless it is of a product of this state."""
    note = place / "copy.json"
    try:
        same = read_json(note).get("state") == state
    except FloemapError:
        same = False
    if not same:
        _remove(place)
        write_json(note, {"state": state})


def _remove(place: Path) -> None:
    """Remove what is in the folder of a copy, but for the lock, which its holder removes."""
    for path in place.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _note(note: Path, state: str, result: Path) -> None:
    """Note of which product a result was made, by the result's own record."""
    for name in ("chart.json", "product.json"):
        try:
            record = read_json(result / name)
            told = {"name": result.name, "start": record["scene"]["start"], "product": record["inputs"]["product"]}
        except (FloemapError, *MISSHAPEN):
            continue
        write_json(note, told | {"state": state})
        return


def _known(note: Path, address: Address, state: str) -> Known | None:
    try:
        told = read_json(note)
        if told["state"] != state or not is_plain(told["name"]):
            return None
        start = datetime.fromisoformat(told["start"])
        return Known(Path(address.name), told["name"], start, {"product": dict(told["product"])})
    except (FloemapError, *MISSHAPEN):
        return None
