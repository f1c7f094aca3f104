"""Downloads of many files into one folder: a plan that fits the disk, a few files at a time, a record of all.

One file that fails does not stop the others.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floemap.datasets.download.file import RemoteFile, download, md5_of, remaining_bytes
from floemap.datasets.download.http import Bearer, UnreachableError, Web, plain
from floemap.errors import DownloadError, FloemapError, OutputError
from floemap.progress import Progress
from floemap.results.stage import Stage, provenance, read_json, write_json


@dataclass(frozen=True)
class Job:
    """A file to download.

    Attributes
    ----------
    file
        The file.
    folder
        Folder that gets it.
    bearer
        Source of access tokens, where the server needs one.
    check
        Reads the file and raises a FloemapError if it is wrong; see :func:`floemap.datasets.download.file.download`.
    """

    file: RemoteFile
    folder: Path
    bearer: Bearer | None = None
    check: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Plan:
    """The downloads that a fetch will make.

    Attributes
    ----------
    jobs
        Files to download.
    bytes_at_most
        Largest number of bytes that they add to the disk.
    bytes_free
        Free bytes on that disk.
    """

    jobs: tuple[Job, ...]
    bytes_at_most: int
    bytes_free: int


@contextmanager
def noted(refused: list[FloemapError]) -> Iterator[None]:
    """Collect an error about one file, so that the others are downloaded; raise if the server does not answer."""
    try:
        yield
    except UnreachableError:
        raise
    except DownloadError as e:
        refused.append(e)


def plan_downloads(jobs: Sequence[Job], folder: Path, hint: str) -> Plan:
    """Add up the sizes of files.

    Parameters
    ----------
    hint
        Way out where the disk is too small.

    Raises
    ------
    OutputError
        If the disk of `folder` cannot hold the files.
    """
    need = sum(remaining_bytes(job.file, job.folder) for job in jobs)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OutputError(
            f"has {free / 1e9:.2f} GB free, where up to {need / 1e9:.2f} GB are needed.", path=folder, hint=hint
        )
    return Plan(tuple(jobs), need, free)


def fetch_all(
    plan: Plan, web: Web, record: FetchRecord, *, connections: int, progress: Progress
) -> list[BaseException]:
    """Download a plan's files, `connections` at a time, and return the errors.

    On Ctrl-C the partial files stay, and the next run resumes them.
    """
    lock = threading.Lock()
    on_disk: dict[str, int] = {}
    total = sum(job.file.size or job.file.at_most for job in plan.jobs)

    def fetch(job: Job) -> None:
        def received(now: int) -> None:
            with lock:
                on_disk[job.file.name] = now
                progress(min(sum(on_disk.values()), total), total, job.file.name)

        path = download(job.file, job.folder, web, bearer=job.bearer, check=job.check, received=received)
        record.add(job.file, path)

    with ThreadPoolExecutor(connections, thread_name_prefix="fetch") as pool:
        running = [pool.submit(fetch, job) for job in plan.jobs]
        try:
            wait(running)
        except BaseException:
            web.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [e for future in running if (e := future.exception()) is not None]


def raise_failed(failed: Sequence[BaseException], of: int) -> None:
    """Raise the error of the one file that failed, or one error that lists those of all that failed of `of` files."""
    for e in failed:
        if len(failed) == 1 or not isinstance(e, FloemapError):
            raise e
    if failed:
        listed = " ".join(f"({i}) {e}" for i, e in enumerate(failed, 1))
        hint = "The others are downloaded; run the same command again for these."
        raise DownloadError(f"{len(failed)} of {of} files could not be fetched. {listed}", hint=hint)


class FetchRecord:
    """The record of all files downloaded into a folder, written after each file; safe for several threads.

    Parameters
    ----------
    folder, stage
        The folder and the stage, whose record it is.
    doi, credits
        What was downloaded, and whom to name for it.

    Raises
    ------
    FloemapError
        If the file of the record's name is not such a record.
    """

    def __init__(self, folder: Path, stage: Stage, doi: str, credits: Mapping[str, str]) -> None:
        self._path, self._stage, self._doi, self._credits = folder / stage.record, stage, doi, dict(credits)
        self._lock = threading.Lock()
        files = read_json(self._path).get("inputs", {}) if self._path.exists() else {}
        if not isinstance(files, dict):
            raise FloemapError(
                "is not the record of a fetch: its inputs are not a table.", path=self._path, hint="Move the file away."
            )
        self._files: dict[str, Any] = files

    def md5(self, name: str) -> str | None:
        """Return the MD5 that a file had when it was downloaded; None if it was not."""
        entry = self._files.get(name)
        found = entry.get("md5") if isinstance(entry, dict) else None
        return found if isinstance(found, str) else None

    def add(self, file: RemoteFile, path: Path) -> None:
        """Record a downloaded file. Addresses are stored without their query, which may hold secrets."""
        source = {"url": plain(file.url), "md5": md5_of(path), "md5_as_catalogued": file.md5}
        with self._lock:
            self._files[file.name] = source
            record = provenance(self._stage, inputs=self._files, configuration={"doi": self._doi})
            write_json(self._path, record | {"credits": self._credits})
