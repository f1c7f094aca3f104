"""Show what floemap made on a map in the browser, from a server on this machine or as a folder for any web server."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from floemap.errors import ConfigError, FloemapError
from floemap.progress import Progress, silent
from floemap.results.folders import refuse_replacing
from floemap.viewer.coast import COAST, given_coast, shipped_coast
from floemap.viewer.export import STAGE as EXPORT
from floemap.viewer.export import Exported, export
from floemap.viewer.found import Search, search
from floemap.viewer.page_map import Projections, address_of, detailed, ids_of, listed, page_map, scene_of
from floemap.viewer.scenes import Drawn, read_scene, scenes_of
from floemap.viewer.server import TYPES, Content, MapServer

logger = logging.getLogger(__name__)

#: Address on which only this machine reaches the server.
LOOPBACK = "127.0.0.1"
_SITE = Path(__file__).parent / "site"
_MAP = "map.json"


class View:
    """A map, ready to be served or exported; :func:`make_view` makes it.

    What is drawn of a scene is read when somebody asks for it for the first time, so that a map of many scenes is ready
    as soon as a map of one.

    Attributes
    ----------
    content
        Content of map.json: each scene with its names, times and place.
    site, data
        Real paths by address: the files of the page, and those of the scenes that were read so far.
    """

    def __init__(
        self, found: Search, title: str, site: Mapping[str, Path], coast: Mapping[str, str], pages: Mapping[str, bytes]
    ) -> None:
        self.site: Mapping[str, Path] = site
        self.data: dict[str, Path] = {}
        self._found, self._lock = found, threading.RLock()
        self._scenes = ids_of(scenes_of(found))
        self._told: dict[str, dict[str, Any]] = {}
        self._contents = {a: Content(path) for a, path in site.items()} | {a: Content(c) for a, c in pages.items()}
        self._made = [_MAP, *pages, *map(address_of, self._scenes)]
        for address in self._made:
            self._contents.setdefault(address, Content(partial(self.page, address)))
        projections = Projections()
        self.content = page_map([], projections, found.warnings, title, coast)
        for name, scene in self._scenes.items():
            # The first one must have something to show, and without a grid in a record only rasters tell the place.
            drawn = None if scene.grids and self.content["scenes"] else self._read(name)
            if drawn is None or drawn.layers or drawn.shapes:
                self.content["scenes"].append(listed(name, scene, drawn, projections))
        if not self.content["scenes"]:
            raise FloemapError(
                "none of the results found can be shown: " + "; ".join(found.warnings[:5]) + ".",
                hint="Make them again with the command that made them.",
            )

    @property
    def scenes(self) -> int:
        """Number of scenes on the map."""
        return len(self.content["scenes"])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not shown, and why; all scenes are read for it."""
        self._read_all(silent)
        return tuple(self._found.warnings)

    def scene(self, name: str) -> Mapping[str, Any]:
        """Return all that the page shows of a scene, by its id in map.json.

        Files that cannot be shown are named in its ``warnings``, and left out. A scene of which nothing is left is no
        longer in map.json.
        """
        with self._lock:
            if name not in self._told:
                self._read(name)
            return self._told[name]

    def _read(self, name: str) -> Drawn:
        scene = self._scenes[name]
        drawn = read_scene(scene, self._found)
        self._told[name], files = detailed(name, scene, drawn)
        self.data |= files
        self._contents |= {address: Content(path) for address, path in files.items()}
        if not drawn.layers and not drawn.shapes:
            self.content["scenes"] = [s for s in self.content["scenes"] if s["id"] != name]
            self.content["warnings"] += drawn.warnings
        return drawn

    def _read_all(self, progress: Progress) -> None:
        for number, name in enumerate(self._scenes):
            progress(number, len(self._scenes), self._scenes[name].name)
            self.scene(name)

    def page(self, address: str) -> bytes:
        """Return a content that is not a file: map.json, a scene's own JSON, or the coastline if one was given."""
        source = self._contents[address].source
        if isinstance(source, bytes):
            return source
        with self._lock:
            told = self.content if address == _MAP else self.scene(Path(address).stem)
            text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")

    def export(self, folder: str | Path, *, progress: Progress = silent) -> Exported:
        """Write the map into a folder that any web server can serve; see :func:`floemap.viewer.export.export`.

        Parameters
        ----------
        progress
            Progress callback, called as progress(done, total, message).

        Raises
        ------
        OutputError
            If the folder cannot be written, contains anything but an earlier export, or lies within another result.
        """
        refuse_replacing(Path(folder), EXPORT)  # before the work
        self._read_all(progress)
        there = {_MAP, *(address_of(s["id"]) for s in self.content["scenes"])}
        pages = {a: self.page(a) for a in self._made if a in there or isinstance(self._contents[a].source, bytes)}
        return export(Path(folder), self.site, pages, self.data)

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
        try:
            return MapServer(_Served(self, self._contents), host, port)
        except (OSError, OverflowError, UnicodeError) as e:
            reason = getattr(e, "strerror", None) or e
            hint = "Choose another --port, or leave it out for a free one."
            raise ConfigError(f"cannot listen on {host}, port {port}: {reason}.", hint=hint) from e


class _Served(Mapping[str, Content]):
    """Contents of a map by address. The scene of a file is read where none has asked for it yet.

    A page that is still open from an earlier server of the same results asks for files of scenes at once.
    """

    def __init__(self, view: View, known: Mapping[str, Content]) -> None:
        self._view, self._known = view, known

    def __getitem__(self, address: str) -> Content:
        if address not in self._known and (name := scene_of(address)) is not None:
            self._view.scene(name)
        return self._known[address]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def make_view(folders: Sequence[str | Path] | str | Path, *, coast: str | Path | None = None) -> View:
    """Find what floemap made in folders, and make a map of it.

    Only records are read; what is drawn of a scene, when it is asked for.

    Parameters
    ----------
    folders
        Folders of draft charts, predictions, products, labels, comparisons, archives, or of several of these.
    coast
        File of land polygons or coastlines to draw in the place of the coarse one that comes with floemap: GeoJSON,
        GeoPackage or shapefile.

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
    title = ", ".join(dict.fromkeys(root.name or "map" for root in found.roots))
    site = _site()
    pages: dict[str, bytes] = {}
    if coast is None:
        about = shipped_coast(site[COAST])
    else:
        pages[COAST], about = given_coast(Path(coast))
        del site[COAST]
    return View(found, title, site, about, pages)


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
    folders, coast
        See :func:`make_view`.
    export, progress
        Folder to write, for any web server, and progress callback; nothing is served then. See :meth:`View.export`.
    host, port
        See :meth:`View.server`.
    ready
        Function that is called with the address of the page as soon as the server answers.

    Raises
    ------
    FloemapError
        See :func:`make_view`, :meth:`View.export` and :meth:`View.server`.
    """
    made = make_view(folders, coast=coast)
    if export is not None:
        made.export(export, progress=progress)
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
