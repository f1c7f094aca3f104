"""Fetching the ExtremeEarth dataset: charts from Zenodo, radar products from Copernicus Data Space.

What lies in the folder already and is right is not fetched again, wherever below it lies. Zips stay zipped: products
and charts are read in place, so no more space is needed than what is announced before the first byte.
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

#: What is fetched has no numbers of ours.
STAGE = Stage("floemap fetch extremeearth", "fetch.json", revision=0)

#: Copernicus Data Space allows four connections per user; two leave room for whatever else the user does.
CONNECTIONS = 2

CREDITS = {
    "charts": f"N. Hughes, F. Amdal: ExtremeEarth Polar Use Case Training Data, 2021, https://doi.org/{DOI}",
    "products": "Contains modified Copernicus Sentinel data 2018",
}


@dataclass(frozen=True)
class Plan:
    """What a fetch will do.

    Attributes
    ----------
    files
        To be fetched, with the folder of each.
    bytes_at_most
        That they will take on the disk, besides what lies there now.
    bytes_free
        On that disk.
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
    """Fetch what a folder lacks of the dataset, and check all of it.

    Parameters
    ----------
    out
        Folder: products come into ``products/``, charts into ``charts/``, and ``fetch.json`` says what came from where.
    months
        1 to 12. Charts come all twelve at once, as they are published.
    what
        Charts, products, or both.
    services
        Where the data services answer.
    account
        Of Copernicus Data Space; by default from the environment or netrc. Asked for only if a product is lacking.
    announce
        Called with the plan before anything is fetched.
    progress
        Told the bytes on the disk, of how many.

    Returns
    -------
    Inventory
        Inventory of those months; complete if everything asked for is there.

    Raises
    ------
    DownloadError
        If something could not be fetched; what could be is there, and the next run goes on.
    OutputError
        If there is not enough space, the folder cannot be written, or another run is fetching into it.
    FloemapError
        If there is no account, or the folder holds simulated data.
    """
    folder, chosen, wanted = Path(out), check_months(months), tuple(what)
    services = services or SERVICES
    if (folder / SIMULATED_MARK).exists():
        raise FloemapError("holds simulated data.", path=folder, hint="Fetch the real ones into another folder.")
    with alone_in(folder, "fetches into"), Web(sleep=sleep) as web:
        record = _Record(folder / STAGE.record)
        there = check_dataset(folder, chosen, wanted)
        lacking = [m.scene for m in there.months if m.product.state != "right" and "products" in wanted]
        begun = any((folder / "charts").glob("*.part"))  # by a run that was stopped when the charts were there already
        charts = "charts" in wanted and (begun or any(m.chart.state != "right" for m in there.months))
        bearer = None
        if lacking:  # an account that is lacking is told of before anything is fetched
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
    """Keep what a catalogue cannot tell of one thing for later: it does not cost the others. No answer at all does."""
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
    """Add up what is needed, and refuse what the disk cannot hold."""
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
    """Fetch a plan's files, a few at a time, and return what failed. That one fails does not stop the others."""
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
        except BaseException:  # Ctrl-C: what has arrived stays, and the next run goes on from there
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
        hint = "The others are there; run the same command again for these."
        raise DownloadError(f"{len(failed)} of {of} files could not be fetched. {listed}", hint=hint)


class _Record:
    """What came from where, this time and before; on the disk as soon as a file is. For several threads.

    Raises
    ------
    FloemapError
        If a file of that name says something else.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        files = read_json(path).get("inputs", {}) if path.exists() else {}
        if not isinstance(files, dict):
            raise FloemapError(
                "is not the record of a fetch: its inputs are not a table.", path=path, hint="Move it away."
            )
        self._files: dict[str, Any] = files

    def add(self, file: RemoteFile, path: Path) -> None:
        """Tell of a file that has come. Addresses are the services', without query: no secrets."""
        told = {"url": plain(file.url), "md5": md5_of(path), "md5_as_catalogued": file.md5}
        with self._lock:
            self._files[file.name] = told
            record = provenance(STAGE, inputs=self._files, configuration={"doi": DOI})
            write_json(self._path, record | {"credits": CREDITS})
