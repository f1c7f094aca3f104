"""Downloading AI4Arctic: files of chosen scenes, from DTU's figshare or a mirror.

Files that are in the folder already, at any depth, and are right are not downloaded again. A file is right if it has
the size and the MD5 of figshare's catalogue. On a mirror without a list of checksums, it is right if it has the
mirror's size and opens as the scene's file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

from floemap.datasets.ai4arctic.files import open_scene_file
from floemap.datasets.ai4arctic.find import Entry, find_ai4arctic
from floemap.datasets.ai4arctic.form import DOI, Kind
from floemap.datasets.ai4arctic.inventory import Inventory, check_ai4arctic
from floemap.datasets.ai4arctic.scenes import Ai4Scene, Use, by_name, charted_twice, official, parse_name
from floemap.datasets.download.figshare import item_files
from floemap.datasets.download.file import RemoteFile, md5_of
from floemap.datasets.download.http import SERVICES, Services, Web
from floemap.datasets.download.many import FetchRecord, Job, Plan, fetch_all, noted, plan_downloads, raise_failed
from floemap.datasets.download.mirror import base_of, checksums, mirrored_file
from floemap.errors import ConfigError, DownloadError, FloemapError, ProductError
from floemap.progress import Progress, silent
from floemap.results.stage import Stage, alone_in

#: The revision never changes: downloaded files hold no results of ours.
STAGE = Stage("floemap fetch ai4arctic", "fetch.json", revision=0)
#: Items of the collection at figshare, by form and official use.
ITEMS: Mapping[tuple[Kind, Use], int] = {
    ("ready", "train"): 21316608,
    ("ready", "test"): 21762830,
    ("raw", "train"): 21284967,
    ("raw", "test"): 21762848,
}
#: Files that are downloaded at a time: figshare limits the speed of each connection.
CONNECTIONS = 4
CREDITS = {
    "dataset": f"J. Buus-Hinkler et al.: AI4Arctic Sea Ice Challenge Dataset, 2022, https://doi.org/{DOI}, CC-BY 4.0",
    "products": "Contains modified Copernicus Sentinel data 2018-2021",
}


def scenes_of_text(text: str) -> tuple[Ai4Scene, ...]:
    """Return scenes from text: "all", "train", "test", "twice", names of scenes or of their files, joined by commas.

    "twice" are the scenes of the two products that both ice services have charted.

    Raises
    ------
    ConfigError
        If a part is none of these.
    """
    known, lists = by_name(), official()
    everything = (*lists["train"], *lists["test"])
    twice = tuple(scene for pair in charted_twice(everything) for scene in pair)
    groups = {"all": everything, "train": lists["train"], "test": lists["test"], "twice": twice}
    chosen: dict[str, Ai4Scene] = {}
    for word in (w.strip() for w in text.split(",")):
        named = parse_name(word)
        scene = known.get(named.name if named is not None else word)
        if scene is None and word not in groups:
            hint = f"Choose from {', '.join(groups)}, and names such as {everything[0].name}."
            raise ConfigError(f"{word[:100]!r} is not a scene of the lists of AI4Arctic.", hint=hint)
        chosen |= {s.name: s for s in (groups[word] if scene is None else (scene[0],))}
    return tuple(chosen.values())


def fetch_ai4arctic(
    out: str | Path,
    *,
    scenes: Iterable[Ai4Scene] | None = None,
    forms: Iterable[Kind] = ("ready",),
    mirror: str | None = None,
    services: Services | None = None,
    announce: Callable[[Plan], None] = lambda plan: None,
    progress: Progress = silent,
    sleep: Callable[[float], object] | None = None,
) -> Inventory:
    """Download what a folder lacks of scenes, and check the folder.

    Parameters
    ----------
    out
        Folder. Files are stored in ``ready/`` and ``raw/``; ``fetch.json`` records their sources.
    scenes
        Scenes of the official lists; all by default.
    forms
        "ready", "raw" or both.
    mirror
        Address of a web folder that has the files under their published names, instead of figshare. Where it has a file
        MD5SUMS, checksums are taken from that.
    services
        Addresses of the data services.
    announce
        Called with the plan before the first download.
    progress
        Progress callback, called as progress(done, total, message) with numbers of bytes.
    sleep
        Replaces waiting in tests.

    Returns
    -------
    Inventory
        Findings on the whole folder.

    Raises
    ------
    ConfigError
        If a form or the mirror's address is not one.
    DownloadError
        If some files could not be downloaded. The others are there, and the next run resumes.
    OutputError
        If there is not enough space, the folder cannot be written, or another run is fetching into it.
    FloemapError
        If the folder has simulated scenes, or two files are the same of one scene.
    """
    folder, services = Path(out), services or SERVICES
    everything = tuple(s for listed in official().values() for s in listed)
    needs = _needs(everything if scenes is None else scenes, forms)
    base = base_of(mirror) if mirror is not None else None
    with alone_in(folder, "fetches into"), Web(sleep=sleep) as web:
        record = FetchRecord(folder, STAGE, DOI, CREDITS)
        there = {e.name: e for e in find_ai4arctic(folder, may_be_empty=True)}
        if any(e.simulated for e in there.values()):
            raise FloemapError("has simulated scenes.", path=folder, hint="Fetch the real data into another folder.")
        refused: list[FloemapError] = []
        found = _on_figshare(needs, web, services, refused) if base is None else _on_mirror(needs, web, base, refused)
        jobs: list[Job] = []
        for need, file in found:
            path = there.get(need.scene.name, Entry("")).files.get(need.what)
            if path is not None and path.name != file.name:
                hint = f"Move it away, so that {file.name} can be fetched."
                refused.append(DownloadError(f"is another release of scene {need.scene.name}.", path=path, hint=hint))
            elif path is None or not _is_right(path, file, need, record):
                place = folder / need.form if path is None else path.parent
                jobs.append(Job(file, place, check=None if file.md5 else partial(_check, need, file.name)))
        plan = plan_downloads(jobs, folder, "Free some space, choose another --out, or fetch fewer --scenes.")
        announce(plan)
        failed = fetch_all(plan, web, record, connections=CONNECTIONS, progress=progress) if jobs else []
        raise_failed([*refused, *failed], len(needs))
        return check_ai4arctic(folder)


@dataclass(frozen=True)
class _Need:
    """A file that is asked for: the scene's "ready", "reference" or "raw" file."""

    scene: Ai4Scene
    what: str

    @property
    def form(self) -> Kind:
        return "raw" if self.what == "raw" else "ready"

    @property
    def item(self) -> int:
        return ITEMS[self.form, by_name()[self.scene.name][1]]


def _needs(scenes: Iterable[Ai4Scene], forms: Iterable[Kind]) -> tuple[_Need, ...]:
    chosen = tuple(dict.fromkeys(forms))
    if other := [f for f in chosen if f not in get_args(Kind)] or not chosen:
        raise ConfigError(f"the form of files is {other!r}.", hint="Choose ready, raw or both.")
    needs = []
    for scene in scenes:
        if scene.name not in by_name():
            raise ConfigError(f"{scene.name} is not a scene of the lists of AI4Arctic.")
        for form in chosen:
            needs.append(_Need(scene, form))
            if form == "ready" and by_name()[scene.name][1] == "test":
                needs.append(_Need(scene, "reference"))
    return tuple(needs)


def _on_figshare(
    needs: Iterable[_Need], web: Web, services: Services, refused: list[FloemapError]
) -> Iterator[tuple[_Need, RemoteFile]]:
    """Give the files that figshare lists; add an error for each other."""
    of_item: dict[int, dict[tuple[str, str], _Need]] = {}
    for need in needs:
        of_item.setdefault(need.item, {})[need.scene.name, need.what] = need
    for item, asked in of_item.items():
        listed: dict[tuple[str, str], RemoteFile] = {}
        with noted(refused):
            wanted = partial(_is_of, asked)
            files = item_files(item, web, services.figshare, wanted=wanted, refused=refused)
            for file in sorted(
                files, key=lambda f: "_testdata" in f.name, reverse=True
            ):  # so that later ones replace it
                listed[_key(file.name)] = file
            for key, need in asked.items():
                if key not in listed:
                    message = f"figshare's item {item} lists no usable {need.what} file of scene {need.scene.name}."
                    refused.append(DownloadError(message))
        yield from ((need, listed[key]) for key, need in asked.items() if key in listed)


def _is_of(asked: Mapping[tuple[str, str], _Need], name: str) -> bool:
    return _key(name) in asked


def _key(name: str) -> tuple[str, str]:
    """Return the scene and what of it a published file is; empty texts for other names."""
    named = parse_name(name) if name.endswith(".nc") else None
    if named is None or named.simulated:
        return "", ""
    return named.name, "reference" if named.reference else named.kind


def _on_mirror(
    needs: Iterable[_Need], web: Web, base: str, refused: list[FloemapError]
) -> Iterator[tuple[_Need, RemoteFile]]:
    """Give the files that a mirror has; add an error for each other."""
    sums = checksums(web, base)
    for need in needs:
        scene = need.scene
        name = {"ready": scene.ready, "reference": scene.reference, "raw": scene.raw}[need.what]
        with noted(refused):
            file = mirrored_file(name, web, base, sums)
            if file is None:
                raise DownloadError(f"the mirror has no file {name}.", hint="Leave its scene out of --scenes.")
            yield need, file


def _is_right(path: Path, file: RemoteFile, need: _Need, record: FetchRecord) -> bool:
    """Return whether a file is as catalogued; one that a fetch has verified is not read again."""
    if path.stat().st_size != file.size:
        return False
    if file.md5 is not None:
        return file.md5 == record.md5(file.name) or file.md5 == md5_of(path)
    try:
        _check(need, file.name, path)
    except FloemapError:
        return False
    return True


def _check(need: _Need, name: str, path: Path) -> None:
    with open_scene_file(path, name) as opened:
        inside = opened.scene_by_attributes
        if inside is not None and inside.name != need.scene.name:
            raise ProductError(f"is of scene {inside.name}, where {need.scene.name} is needed.", path=path)
