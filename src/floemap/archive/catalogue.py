"""New products of an area, fetched into a folder from the Copernicus Data Space Ecosystem as they are published."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from floemap.errors import ConfigError, DownloadError, FloemapError
from floemap.results.stage import make_folder, os_errors

if TYPE_CHECKING:
    from floemap.datasets.download.copernicus import Account, Published, TokenSource
    from floemap.datasets.download.http import Services, Web

logger = logging.getLogger(__name__)

Box = tuple[float, float, float, float]
#: Products are published out of order: how far a search goes back behind the latest known one.
_OVERLAP = timedelta(days=1)
_MISSIONS = ("S1A", "S1B", "S1C", "S1D")


def box_from_text(text: str) -> Box:
    """Return (west, south, east, north), degrees, from numbers joined by commas.

    Raises
    ------
    ConfigError
        If the text is not four numbers in range.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
        good = -180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90 and west != east
    except ValueError:
        good = False
    if not good:
        hint = "Give WEST,SOUTH,EAST,NORTH in degrees, as in --area=-25,76,10,83; across the date line, west > east."
        raise ConfigError(f"{text!r} is not an area.", hint=hint)
    return west, south, east, north


def missions_from_text(text: str) -> tuple[str, ...]:
    """Return missions from names joined by commas.

    Raises
    ------
    ConfigError
        If one is unknown.
    """
    names = tuple(part.strip().upper() for part in text.split(",") if part.strip())
    for name in names:
        if name not in _MISSIONS:
            raise ConfigError(f"{name!r} is not a mission.", hint=f"Known: {', '.join(_MISSIONS)}.")
    return names or _MISSIONS


class Catalogue:
    """Fetches the EW GRDM products in HH+HV of an area into a folder, each once.

    Parameters
    ----------
    box
        (west, south, east, north), degrees; west is larger than east across the date line.
    missions
        Satellites, such as ``S1A``.
    since
        Time from which published products count.
    folder
        Folder that gets the products' zips.
    """

    def __init__(
        self,
        box: Box,
        missions: Collection[str],
        since: datetime,
        folder: Path,
        *,
        web: Web,
        bearer: TokenSource,
        services: Services,
    ) -> None:
        self._box, self._missions, self._since, self._folder = box, frozenset(missions), since, folder
        self._web, self._bearer, self._services = web, bearer, services
        self._published: dict[str, str] = {}

    def published(self, product: str) -> str:
        """Return when a product was published, by the name of its file; "" if this call has not seen it."""
        return self._published.get(product, "")

    def fetch(self, known: Collection[str]) -> None:
        """Fetch what was published since the last call and is not `known`, by the names of files.

        Products that cannot be fetched are tried again by the next call, and so is a catalogue that does not answer.

        Raises
        ------
        OutputError
            If the folder cannot be made.
        """
        from floemap.datasets.download.copernicus import find_published

        with os_errors(self._folder):
            make_folder(self._folder)
        try:
            found = find_published(self._box, self._since, self._web, self._services)
        except DownloadError as e:
            logger.warning("%s The next look tries again.", e)
            return
        for product in found:
            name = product.file.name
            self._published[name] = product.at.isoformat()
            if product.name[:3] in self._missions and name not in known and not (self._folder / name).exists():
                self._fetch(product)
        if found:
            self._since = max(self._since, min(found[-1].at, datetime.now(UTC)) - _OVERLAP)

    def _fetch(self, product: Published) -> None:
        from floemap.datasets.download.file import download

        try:
            path = download(
                product.file, self._folder, self._web, bearer=self._bearer, check=lambda p: _check(p, product.name)
            )
        except FloemapError as e:
            logger.warning("%s was not fetched: %s The next look tries again.", product.name, e)
        else:
            logger.info("fetched %s", path)


@contextmanager
def catalogue_of(
    box: Box,
    folder: str | Path,
    *,
    missions: Collection[str] = _MISSIONS,
    since: datetime | None = None,
    services: Services | None = None,
    account: Account | None = None,
    sleep: Callable[[float], object] | None = None,
) -> Iterator[Catalogue]:
    """Give the catalogue of an area while the block runs; see :class:`Catalogue`.

    Parameters
    ----------
    since
        By default a day ago.
    services, account, sleep
        As :func:`floemap.datasets.extremeearth.fetch.fetch_extremeearth` takes them.

    Raises
    ------
    FloemapError
        If there is no account, or a package for fetching is not installed.
    """
    from floemap.datasets.download.copernicus import TokenSource, account_from_environment
    from floemap.datasets.download.http import SERVICES, Web

    services = services or SERVICES
    account = account or account_from_environment(services.identity)
    begin = since or datetime.now(UTC) - timedelta(days=1)
    with Web(sleep=sleep) as web:
        bearer = TokenSource(account, web, services)
        yield Catalogue(box, missions, begin, Path(folder), web=web, bearer=bearer, services=services)


def _check(path: Path, name: str) -> None:
    """Check what arrived, which the server may have packed anew; pixels are verified when they are read."""
    from floemap.sentinel1.encoding import POLARISATIONS
    from floemap.sentinel1.safe.reader import open_scene

    found = open_scene(path, POLARISATIONS).container.root
    if found and re.sub(r"\.SAFE$", "", Path(found).name) != name:
        raise FloemapError(f"contains {found!r}, not {name}.", path=path)
