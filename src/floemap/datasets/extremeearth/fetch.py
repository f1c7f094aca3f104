"""Downloading the ExtremeEarth dataset: charts from Zenodo, radar products from Copernicus Data Space.

Files that are in the folder already, at any depth, and are right are not downloaded again. Zips stay zipped: products
and charts are read in place, so the space announced before the first byte is all that is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from floemap.datasets.download.copernicus import Account, TokenSource, account_from_environment, find_product
from floemap.datasets.download.file import RemoteFile, md5_of
from floemap.datasets.download.http import SERVICES, Services, Web
from floemap.datasets.download.many import FetchRecord, Job, Plan, fetch_all, noted, plan_downloads, raise_failed
from floemap.datasets.download.zenodo import record_files
from floemap.datasets.extremeearth.find import SIMULATED_MARK
from floemap.datasets.extremeearth.inventory import Inventory, check_dataset, open_and_verify
from floemap.datasets.extremeearth.scenes import ALL_MONTHS, DOI, EVERYTHING, DatasetScene, What, check_months
from floemap.errors import FloemapError
from floemap.progress import Progress, silent
from floemap.results.stage import Stage, alone_in

#: The revision never changes: downloaded files hold no results of ours.
STAGE = Stage("floemap fetch extremeearth", "fetch.json", revision=0)

#: Copernicus Data Space allows four connections per user; two are left for the user's other work.
CONNECTIONS = 2

CREDITS = {
    "charts": f"N. Hughes, F. Amdal: ExtremeEarth Polar Use Case Training Data, 2021, https://doi.org/{DOI}",
    "products": "Contains modified Copernicus Sentinel data 2018",
}


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
        record = FetchRecord(folder, STAGE, DOI, CREDITS)
        there = check_dataset(folder, chosen, wanted)
        lacking = [m.scene for m in there.months if m.product.state != "right" and "products" in wanted]
        begun = any(
            (folder / "charts").glob("*.part")
        )  # a run was stopped after the charts, before the files beside them
        charts = "charts" in wanted and (begun or any(m.chart.state != "right" for m in there.months))
        bearer = None
        if lacking:  # before the first download, so that a missing account is reported early
            bearer = TokenSource(account or account_from_environment(services.identity), web, services, clock=clock)
        jobs: list[Job] = []
        refused: list[FloemapError] = []
        if charts:
            with noted(refused):
                listed = record_files(DOI, web, services.zenodo, refused=refused)
                jobs += [Job(f, folder / "charts") for f in listed if not _is_there(f, folder / "charts")]
        for scene in lacking:
            with noted(refused):
                file = find_product(scene.product, web, services)
                jobs.append(Job(file, folder / "products", bearer, _content_check(scene)))
        plan = plan_downloads(jobs, folder, "Free some space, choose another --out, or fetch fewer --months.")
        announce(plan)
        failed = fetch_all(plan, web, record, connections=CONNECTIONS, progress=progress) if jobs else []
        raise_failed([*refused, *failed], len(jobs) + len(refused))
        return check_dataset(folder, chosen, wanted)


def _is_there(file: RemoteFile, folder: Path) -> bool:
    path = folder / file.name
    return path.is_file() and path.stat().st_size == file.size and md5_of(path) == file.md5


def _content_check(scene: DatasetScene) -> Callable[[Path], None]:
    """Return the check of a scene's product, which the server may have packed anew."""

    def check(path: Path) -> None:
        open_and_verify(path, scene, checksums=True)

    return check
