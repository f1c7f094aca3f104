"""Show what floemap made on a map in the browser, from a server on this machine or as a folder for any web server."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floemap.errors import ConfigError
from floemap.progress import Progress, silent
from floemap.viewer.coast import COAST, given_coast, shipped_coast
from floemap.viewer.export import Exported, export
from floemap.viewer.found import search
from floemap.viewer.page_map import page_map
from floemap.viewer.scenes import scenes_of
from floemap.viewer.server import TYPES, Content, MapServer

logger = logging.getLogger(__name__)

#: Address on which only this machine reaches the server.
LOOPBACK = "127.0.0.1"
_SITE = Path(__file__).parent / "site"
_MAP = "map.json"


@dataclass(frozen=True)
class View:
    """A map, ready to be served or exported.

    Attributes
    ----------
    content
        Content of map.json.
    site, data
        Real paths by address: the files of the page, and those that map.json names.
    pages
        Contents that are not files, by address: map.json, and the coastline if one was given.
    """

    content: Mapping[str, Any]
    site: Mapping[str, Path]
    data: Mapping[str, Path]
    pages: Mapping[str, bytes]

    @property
    def scenes(self) -> int:
        """Number of scenes on the map."""
        return len(self.content["scenes"])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not shown, and why."""
        return tuple(self.content["warnings"])

    def export(self, folder: str | Path) -> Exported:
        """Write the map into a folder that any web server can serve; see :func:`floemap.viewer.export.export`.

        Raises
        ------
        OutputError
            If the folder cannot be written, or contains anything but an earlier export.
        """
        return export(Path(folder), self.site, self.pages, self.data)

    def server(self, host: str = LOOPBACK, port: int = 0) -> MapServer:
        """Return a server of the map, which listens already; ``serve_forever`` answers.

        Parameters
        ----------
        host
            Address to listen on. Any other than the loopback lets others on the network read the map.
        port
            Port, 0 for a free one.

        Raises
        ------
        ConfigError
            If the server cannot listen there.
        """
        table = {a: Content(path) for a, path in {**self.site, **self.data}.items()}
        table |= {a: Content(content) for a, content in self.pages.items()}
        try:
            return MapServer(table, host, port)
        except (OSError, OverflowError, UnicodeError) as e:
            reason = getattr(e, "strerror", None) or e
            hint = "Choose another --port, or leave it out for a free one."
            raise ConfigError(f"cannot listen on {host}, port {port}: {reason}.", hint=hint) from e


def make_view(
    folders: Sequence[str | Path] | str | Path, *, coast: str | Path | None = None, progress: Progress = silent
) -> View:
    """Find what floemap made in folders, and make a map of it.

    Only headers of rasters are read, and the smallest overview of radar bands.

    Parameters
    ----------
    folders
        Folders of draft charts, predictions, products, labels, comparisons, archives, or of several of these.
    coast
        File of land polygons or coastlines to draw in the place of the coarse one that comes with floemap: GeoJSON,
        GeoPackage or shapefile.
    progress
        Progress callback, called as progress(done, total, message).

    Raises
    ------
    FloemapError
        If a folder does not exist, or nothing to show is found.
    ChartError
        If the coastline cannot be read.
    """
    given = [folders] if isinstance(folders, str | Path) else list(folders)
    if not given:
        raise ConfigError("no folder is given.", hint="Give folders that floemap made.")
    found = search(given)
    scenes = scenes_of(found, progress)
    title = ", ".join(dict.fromkeys(root.name or "map" for root in found.roots))
    site = _site()
    pages: dict[str, bytes] = {}
    if coast is None:
        about = shipped_coast(site[COAST])
    else:
        pages[COAST], about = given_coast(Path(coast))
        del site[COAST]
    page = page_map(scenes, found, title, about)
    pages[_MAP] = json.dumps(page.content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        "utf-8", "replace"
    )
    return View(page.content, site, page.files, pages)


def view(
    folders: Sequence[str | Path] | str | Path,
    *,
    export: str | Path | None = None,
    coast: str | Path | None = None,
    host: str = LOOPBACK,
    port: int = 0,
    ready: Callable[[str], None] = lambda url: None,
    progress: Progress = silent,
) -> View:
    """Show folders on a map: serve it until the process is interrupted, or export it.

    Parameters
    ----------
    folders, coast, progress
        See :func:`make_view`.
    export
        Folder to write, for any web server. Nothing is served then.
    host, port
        See :meth:`View.server`.
    ready
        Function that is called with the address of the page as soon as the server answers.

    Raises
    ------
    FloemapError
        See :func:`make_view`, :meth:`View.export` and :meth:`View.server`.
    """
    made = make_view(folders, coast=coast, progress=progress)
    if export is not None:
        made.export(export)
        return made
    serve(made, host=host, port=port, ready=ready)
    return made


def serve(made: View, *, host: str = LOOPBACK, port: int = 0, ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve a map until the process is interrupted; parameters and errors are those of :func:`view`."""
    if host not in (LOOPBACK, "localhost", "::1"):
        logger.warning("everybody who reaches %s can read this map: there is no password and no encryption", host)
    with made.server(host, port) as server:
        ready(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            logger.info("stopped")


def _site() -> dict[str, Path]:
    """Return the files of the page by address."""
    paths = sorted(p for p in _SITE.rglob("*") if p.is_file() and p.suffix in TYPES)
    return {p.relative_to(_SITE).as_posix(): p.resolve() for p in paths}
