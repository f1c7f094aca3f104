"""Downloading the ExtremeEarth dataset: charts from Zenodo, radar products from Copernicus Data Space.

Files that are in the folder already, at any depth, and are right are not downloaded again. Zips stay zipped: products
and charts are read in place, so the space announced before the first byte is all that is needed.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floemap.datasets.download.copernicus import Account, TokenSource, account_from_environment, find_product
from floemap.datasets.download.file import RemoteFile, download, md5_of, remaining_bytes
from floemap.datasets.download.http import SERVICES, Services, UnreachableError, Web, plain
from floemap.datasets.download.zenodo import record_files
from floemap.datasets.extremeearth.find import SIMULATED_MARK
from floemap.datasets.extremeearth.inventory import Inventory, check_dataset, open_and_verify
from floemap.datasets.extremeearth.scenes import ALL_MONTHS, DOI, EVERYTHING, What, check_months, scene_of_product
from floemap.errors import DownloadError, FloemapError, OutputError
from floemap.progress import Progress, silent
from floemap.results.stage import Stage, alone_in, provenance, read_json, write_json

#: The revision never changes: downloaded files hold no results of ours.
STAGE = Stage("floemap fetch extremeearth", "fetch.json", revision=0)

#: Copernicus Data Space allows four connections per user; two are left for the user's other work.
CONNECTIONS = 2

CREDITS = {
    "charts": f"N. Hughes, F. Amdal: ExtremeEarth Polar Use Case Training Data, 2021, https://doi.org/{DOI}",
    "products": "Contains modified Copernicus Sentinel data 2018",
}


@dataclass(frozen=True)
class Plan:
    """The downloads that a fetch will make.

    Attributes
    ----------
    files
        Files to download, with the folder of each.
    bytes_at_most
        Largest number of bytes that they add to the disk.
    bytes_free
        Free bytes on that disk.
    """

    files: tuple[tuple[RemoteFile, Path], ...]
    bytes_at_most: int
    bytes_free: int


def fetch_extremeearth(
    out: str | Path,
    *,
    months: Iterable[int] = ALL_MONTHS,
    what: Iterable[What] = EVERYTHING,
    services: Services | None = None,
    account: Account | None = None,
    announce: Callable[[Plan], None] = lambda plan: None,
    progress: Progress = silent,
    sleep: Callable[[float], object] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Inventory:
    """Download what a folder lacks of the dataset, and check all of it.

    Parameters
    ----------
    out
        Folder. Products are stored in ``products/``, charts in ``charts/``; ``fetch.json`` records their sources.
    months
        Months, 1 to 12. All twelve charts are downloaded together, as they are published.
    what
        Charts, products, or both.
    services
        Addresses of the data services.
    account
        Account of Copernicus Data Space; by default from the environment or netrc. It is needed only if a product is
        missing.
    announce
        Called with the plan before the first download.
    progress
        Progress callback, called as progress(done, total, message) with numbers of bytes.
    sleep, clock
        Replace waiting and the monotonic clock in tests.

    Returns
    -------
    Inventory
        Inventory of those months; complete if everything asked for is there.

    Raises
    ------
    DownloadError
        If some files could not be downloaded. The others are there, and the next run resumes.
    OutputError
        If there is not enough space, the folder cannot be written, or another run is fetching into it.
    FloemapError
        If the account is missing, or the folder holds simulated data.
    """
    folder, chosen, wanted = Path(out), check_months(months), tuple(what)
    services = services or SERVICES
    if (folder / SIMULATED_MARK).exists():
        raise FloemapError("holds simulated data.", path=folder, hint="Fetch the real data into another folder.")
    with alone_in(folder, "fetches into"), Web(sleep=sleep) as web:
        record = _Record(folder / STAGE.record)
        there = check_dataset(folder, chosen, wanted)
        lacking = [m.scene for m in there.months if m.product.state != "right" and "products" in wanted]
        begun = any(
            (folder / "charts").glob("*.part")
        )  # a run was stopped after the charts, before the files beside them
        charts = "charts" in wanted and (begun or any(m.chart.state != "right" for m in there.months))
        bearer = None
        if lacking:  # before the first download, so that a missing account is reported early
            bearer = TokenSource(account or account_from_environment(services.identity), web, services, clock=clock)
        files: list[tuple[RemoteFile, Path]] = []
        refused: list[FloemapError] = []
        if charts:
            with _noted(refused):
                listed = record_files(DOI, web, services.zenodo, refused=refused)
                files += [(f, folder / "charts") for f in listed if not _is_there(f, folder / "charts")]
        for scene in lacking:
            with _noted(refused):
                files.append((find_product(scene.product, web, services), folder / "products"))
        plan = _plan(files, folder)
        announce(plan)
        if files:
            _raise([*refused, *_fetch_all(plan, web, bearer, record, progress)], len(files) + len(refused))
        _raise(refused, len(refused))
        return check_dataset(folder, chosen, wanted)


@contextmanager
def _noted(refused: list[FloemapError]) -> Iterator[None]:
    """Collect an error about one file, so that the others are downloaded; raise if the server does not answer."""
    try:
        yield
    except UnreachableError:
        raise
    except DownloadError as e:
        refused.append(e)


def _is_there(file: RemoteFile, folder: Path) -> bool:
    path = folder / file.name
    return path.is_file() and path.stat().st_size == file.size and md5_of(path) == file.md5


def _plan(files: list[tuple[RemoteFile, Path]], folder: Path) -> Plan:
    """Add up the sizes, and raise if the disk cannot hold the files."""
    need = sum(remaining_bytes(file, place) for file, place in files)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OutputError(
            f"has {free / 1e9:.2f} GB free, where up to {need / 1e9:.2f} GB are needed.",
            path=folder,
            hint="Free some space, choose another --out, or fetch fewer --months.",
        )
    return Plan(tuple(files), need, free)


def _fetch_all(
    plan: Plan, web: Web, bearer: TokenSource | None, record: _Record, progress: Progress
) -> list[BaseException]:
    """Download a plan's files, a few at a time, and return the errors. One that fails does not stop the others."""
    lock = threading.Lock()
    on_disk: dict[str, int] = {}
    total = sum(file.size or file.at_most for file, _ in plan.files)

    def fetch(file: RemoteFile, place: Path) -> None:
        scene = scene_of_product(file.name)

        def received(now: int) -> None:
            with lock:
                on_disk[file.name] = now
                progress(min(sum(on_disk.values()), total), total, file.name)

        def check(path: Path) -> None:
            if scene is not None:
                open_and_verify(path, scene, checksums=True)

        by, look = (bearer, check) if scene else (None, None)
        record.add(file, download(file, place, web, bearer=by, check=look, received=received))

    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="fetch") as pool:
        running = [pool.submit(fetch, file, place) for file, place in plan.files]
        try:
            wait(running)
        except BaseException:  # Ctrl-C: the partial files stay, and the next run resumes them
            web.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [e for future in running if (e := future.exception()) is not None]


def _raise(failed: Sequence[BaseException], of: int) -> None:
    for e in failed:
        if len(failed) == 1 or not isinstance(e, FloemapError):
            raise e
    if failed:
        listed = " ".join(f"({i}) {e}" for i, e in enumerate(failed, 1))
        hint = "The others are downloaded; run the same command again for these."
        raise DownloadError(f"{len(failed)} of {of} files could not be fetched. {listed}", hint=hint)


class _Record:
    """The record of all files downloaded into a folder, written after each file; safe for several threads.

    Raises
    ------
    FloemapError
        If the file at `path` is not such a record.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        files = read_json(path).get("inputs", {}) if path.exists() else {}
        if not isinstance(files, dict):
            raise FloemapError(
                "is not the record of a fetch: its inputs are not a table.", path=path, hint="Move the file away."
            )
        self._files: dict[str, Any] = files

    def add(self, file: RemoteFile, path: Path) -> None:
        """Record a downloaded file. Addresses are stored without their query, which may hold secrets."""
        source = {"url": plain(file.url), "md5": md5_of(path), "md5_as_catalogued": file.md5}
        with self._lock:
            self._files[file.name] = source
            record = provenance(STAGE, inputs=self._files, configuration={"doi": DOI})
            write_json(self._path, record | {"credits": CREDITS})
